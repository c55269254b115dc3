//! Files on their way: carries bytes between [`crate::files`], the disk and the sessions.
//!
//! One task owns all transfers. It learns of lines (sessions with a device of a contact, in a call or made for files) from
//! the engine, asks it for lines where a file is wanted and none is there, and tells it what became of what.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
    time::{Duration, Instant},
};

use ahoy_transport::{
    bwe::Estimate,
    identity::{DeviceId, UserId},
    runtime::{Runtime, RuntimeExt, Task},
    session::Session,
};
use bytes::Bytes;
use tokio::sync::{mpsc, watch};

mod disk;
mod lines;
mod ours;
mod shown;
mod theirs;

use disk::Disk;
use lines::{IDLE, tags_of};
use shown::Pace;

use super::{book::AddressBook, notice::FileRefused, run::Internal};
use crate::{
    call::CallId,
    files::{
        Capability, FileOffer, MAX_SIZE, Root, TransferId,
        beside::Beside,
        book::{Direction, FileBook, MAX_PER_PERSON, MAX_TRANSFERS, State, Transfer},
        fetch::{Fetch, FetchStats, SourceId},
        part::{Opened, Part, PartError},
        serve::Serve,
        tree::{Node, Tree},
        trouble::FileTrouble,
        wire::Tag,
    },
};

/// The flow that files travel in.
pub(super) const FILE_FLOW: u64 = 5;
/// What waits for the task: most of it datagrams, which are asked for again when they are lost.
const QUEUE: usize = 2048;
/// Places of that which datagrams leave to what a person wants.
const RESERVED: usize = 256;
/// Whoever has answers waiting for a session looks so soon whether it takes more.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// How often what goes on is shown.
const SHOW_EVERY: Duration = Duration::from_millis(500);

/// What the person set about files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesSettings {
    /// Where files of others go; none: there is no place for them.
    pub folder: Option<PathBuf>,
    /// Take what contacts offer without asking.
    pub accept: bool,
    /// Largest file that is taken, in bytes.
    pub max_bytes: u64,
    /// Use the disk on a thread of its own. Not in the simulator, whose time stands still meanwhile.
    pub threads: bool,
    /// Verify what comes, and what is sent. Off only in tests that show what it is for.
    pub verifies: bool,
    /// Let everything else go first. Off only in tests that show what it is for.
    pub yields: bool,
}

impl Default for FilesSettings {
    fn default() -> Self {
        Self {
            folder: None,
            accept: false,
            max_bytes: MAX_SIZE,
            threads: true,
            verifies: true,
            yields: true,
        }
    }
}

/// What the person wants of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileChange {
    /// Fetch it, or go on.
    Accept,
    /// Do not fetch it.
    Refuse,
    /// Fetch no more of it, and throw away what came; or, of ours, send it no more.
    Cancel,
    /// Fetch no more of it for now.
    Pause,
}

/// A transfer as it is shown.
#[derive(Debug, Clone, PartialEq)]
pub struct TransferView {
    /// Names it.
    pub id: TransferId,
    /// Whose file it is.
    pub direction: Direction,
    /// With whom.
    pub user: UserId,
    /// What that person is called here.
    pub person: String,
    /// What the file is called: harmless.
    pub name: String,
    /// When it was offered, Unix milliseconds.
    pub at_millis: u64,
    /// Its size in bytes.
    pub size: u64,
    /// Bytes that are there; of ours, bytes that were sent.
    pub done: u64,
    /// Bytes per second; of ours, as they leave.
    pub rate: u64,
    /// Devices that send it.
    pub sources: usize,
    /// How far it is.
    pub state: State,
    /// Where it lies.
    pub path: Option<PathBuf>,
    /// Why it failed, waits or was not taken, where that is no person's wish.
    pub trouble: Option<FileTrouble>,
    /// How it stands, for a person.
    pub sentence: String,
    /// Counters of what is fetched.
    pub stats: FetchStats,
}

/// One session, as files see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LineId {
    pub(super) call: CallId,
    pub(super) device: DeviceId,
}

/// A way to a device of somebody who may be asked.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) id: LineId,
    pub(super) user: UserId,
    /// It is there for a call, and goes with it.
    pub(super) in_call: bool,
    pub(super) session: Session,
    /// The leg still has it.
    pub(super) open: Arc<AtomicBool>,
}

/// What the engine and our own tasks tell.
#[derive(Debug)]
pub(super) enum ToFiles {
    /// The person sends a file.
    Send {
        id: TransferId,
        user: UserId,
        path: PathBuf,
    },
    /// Somebody offers one.
    Came {
        id: TransferId,
        user: UserId,
        at_millis: u64,
        offer: FileOffer,
    },
    Change(TransferId, FileChange),
    /// Somebody does not want a file of ours.
    Unwanted(TransferId, UserId),
    Up(Line),
    Datagram(LineId, Bytes),
    /// A device has all of it, and says so by the tag that it asked with.
    Taken(LineId, Tag),
    /// Nobody of this person was found.
    Unreachable(UserId),
    /// Something changed about the network: who was not there may be.
    Hurry,
    /// A file of ours was read through.
    Hashed {
        id: TransferId,
        user: UserId,
        path: PathBuf,
        tree: Result<Tree, FileRefused>,
    },
    /// The same of one that somebody asks for.
    Loaded(Root, PathBuf, Result<Tree, FileRefused>),
    Opened(TransferId, Result<Opened, PartError>),
    Finished(TransferId, Result<PathBuf, PartError>),
}

/// What the engine is told.
#[derive(Debug)]
pub(super) enum FilesNews {
    /// A file of ours is ready to be offered.
    Ready(Transfer),
    /// Something cannot be done.
    Failed(FileRefused),
    /// Whoever offered this is to know that it is not wanted.
    Unwanted(UserId, TransferId),
    /// A line to this person is wanted, for these files.
    Need(UserId, Vec<(Root, Capability)>),
    /// This line is not needed any more.
    Idle(LineId),
    /// Whoever sent us this is to know that we have it.
    Taken(LineId, Tag),
    /// What there is; and those of it whose state changed.
    Shown(Vec<TransferView>, Vec<TransferView>),
}

/// Files that we may be asked for, with what whoever asks has to know.
pub(super) type Held = Arc<Mutex<Vec<(Root, Capability)>>>;

/// A download that goes on.
struct Active {
    fetch: Option<Fetch>,
    part: Option<Part>,
    finishing: bool,
}

struct LineState {
    line: Line,
    /// What the path carries.
    estimate: watch::Receiver<Option<Estimate>>,
    beside: Beside,
    source: SourceId,
    serve: Serve,
    /// What this device may ask for.
    tags: BTreeMap<Tag, Root>,
    /// The node that is being sent.
    node: Option<(Tag, Node, Bytes)>,
    /// What this device was asked for, by what it was shown.
    asked: BTreeMap<Tag, TransferId>,
    /// Bytes sent, by file.
    sent: BTreeMap<Root, u64>,
    last: Instant,
}

enum Served {
    Loading,
    Ready(PathBuf, Arc<Tree>),
    /// It is no longer what was offered.
    Gone,
}

#[derive(Default)]
struct Retry {
    due: Option<Instant>,
    failures: u32,
}

struct Hub {
    runtime: Arc<dyn Runtime>,
    settings: FilesSettings,
    book: Arc<dyn AddressBook>,
    me: (UserId, DeviceId),
    inbox: mpsc::Sender<ToFiles>,
    out: mpsc::Sender<Internal>,
    held: Held,
    disk: Disk,
    /// For what takes long.
    slow: Disk,
    transfers: BTreeMap<TransferId, Transfer>,
    active: BTreeMap<TransferId, Active>,
    lines: BTreeMap<LineId, LineState>,
    sources: BTreeMap<DeviceId, SourceId>,
    served: BTreeMap<Root, Served>,
    /// Counters of what is complete, since the engine began.
    counted: BTreeMap<TransferId, FetchStats>,
    retries: BTreeMap<UserId, Retry>,
    /// How fast files of ours leave.
    paces: BTreeMap<TransferId, Pace>,
    shown: Vec<TransferView>,
    changed: bool,
    shown_at: Instant,
}

/// Hands over a datagram about files, if there is room.
pub(super) fn hand_over(files: &mpsc::Sender<ToFiles>, line: LineId, payload: Bytes) -> bool {
    files.capacity() > RESERVED && files.try_send(ToFiles::Datagram(line, payload)).is_ok()
}

/// The near end.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) tell: mpsc::Sender<ToFiles>,
    pub(super) held: Held,
    _task: Task,
}

impl Files {
    pub(super) fn start(
        runtime: &Arc<dyn Runtime>,
        settings: FilesSettings,
        book: Arc<dyn AddressBook>,
        me: (UserId, DeviceId),
        out: mpsc::Sender<Internal>,
    ) -> Self {
        let (tell, told) = mpsc::channel(QUEUE);
        let held = Held::default();
        let all = FileBook(book.shelf()).all();
        let all = all.inspect_err(|error| tracing::error!(%error, "files cannot be read"));
        let all = all.unwrap_or_default();
        let hub = Hub {
            disk: Disk::start(settings.threads),
            slow: Disk::start(settings.threads),
            runtime: Arc::clone(runtime),
            settings,
            book,
            me,
            inbox: tell.clone(),
            out,
            held: Arc::clone(&held),
            transfers: all
                .into_iter()
                .map(|transfer| (transfer.id, transfer))
                .collect(),
            active: BTreeMap::new(),
            lines: BTreeMap::new(),
            sources: BTreeMap::new(),
            served: BTreeMap::new(),
            counted: BTreeMap::new(),
            retries: BTreeMap::new(),
            paces: BTreeMap::new(),
            shown: Vec::new(),
            changed: true,
            shown_at: runtime.now(),
        };
        Self {
            tell,
            held,
            _task: runtime.spawn_task(hub.run(told)),
        }
    }

    /// Tells it something that is not a datagram.
    pub(super) fn tell(&self, what: ToFiles) {
        if self.tell.try_send(what).is_err() {
            tracing::warn!("files are hopelessly behind: something is lost");
        }
    }

    /// The tags that we would be shown by `asking`; what each stands for is nobody's business here.
    pub(super) fn is_known(&self, me: DeviceId, asking: DeviceId, tags: &[Tag]) -> bool {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.iter()
            .any(|(root, capability)| tags.contains(&Tag::new(capability, root, asking, me)))
    }
}

impl Hub {
    async fn run(mut self, mut told: mpsc::Receiver<ToFiles>) {
        self.note_held();
        let unfinished = self.transfers.values().filter(|transfer| {
            transfer.direction == Direction::Incoming && transfer.state == State::Active
        });
        let unfinished: Vec<TransferId> = unfinished.map(|transfer| transfer.id).collect();
        for id in unfinished {
            self.open(id);
        }
        loop {
            let now = self.runtime.now();
            let wakes = self.wakes(now);
            let timer = self.runtime.sleep_until(wakes);
            tokio::select! {
                biased;
                what = told.recv() => match what {
                    Some(what) => {
                        self.handle(what).await;
                        // What came meanwhile is one batch: answers are drained once.
                        for _nth in 0..QUEUE {
                            match told.try_recv() {
                                Ok(what) => self.handle(what).await,
                                Err(_none) => break,
                            }
                        }
                    }
                    None => return,
                },
                () = timer => {}
            }
            self.pump().await;
        }
    }

    fn wakes(&self, now: Instant) -> Instant {
        if self.lines.values().any(|line| !line.serve.is_empty()) {
            return now + LOOK_AGAIN;
        }
        let fetching = self.active.values();
        let due = fetching.filter_map(|active| active.fetch.as_ref()?.poll_timeout());
        let retries = self.retries.values().filter_map(|retry| retry.due);
        let showing = if self.active.is_empty() && !self.changed {
            now + IDLE / 4
        } else {
            self.shown_at + SHOW_EVERY
        };
        let next = due
            .chain(retries.filter(|_| !self.active.is_empty()))
            .chain([showing])
            .min();
        next.unwrap_or(showing).max(now + Duration::from_millis(1))
    }

    async fn handle(&mut self, what: ToFiles) {
        match what {
            ToFiles::Send { id, user, path } => self.read_through(id, user, path),
            ToFiles::Hashed {
                id,
                user,
                path,
                tree,
            } => self.offer(id, user, path, tree).await,
            ToFiles::Came {
                id,
                user,
                at_millis,
                offer,
            } => self.came(id, user, at_millis, offer),
            ToFiles::Change(id, change) => self.change(id, change).await,
            ToFiles::Unwanted(id, user) => self.unwanted(id, user),
            ToFiles::Up(line) => self.line_up(line),
            ToFiles::Datagram(line, bytes) => self.datagram(line, &bytes),
            ToFiles::Taken(line, tag) => self.taken(line, tag),
            ToFiles::Unreachable(user) => self.unreachable(user),
            ToFiles::Hurry => self.retries.clear(),
            ToFiles::Loaded(root, path, tree) => self.loaded(root, path, tree),
            ToFiles::Opened(id, opened) => self.opened(id, opened),
            ToFiles::Finished(id, finished) => self.finished(id, finished).await,
        }
    }

    async fn news(&self, news: FilesNews) {
        // The engine is gone, and so are we soon.
        self.out
            .send(Internal::Files(news))
            .await
            .unwrap_or_default();
    }

    /// Keeps a transfer as it is now.
    fn keep(&mut self, transfer: Transfer) {
        if let Err(error) = FileBook(self.book.shelf()).keep(&transfer) {
            tracing::error!(%error, "a transfer cannot be kept");
        }
        self.transfers.insert(transfer.id, transfer);
        self.changed = true;
        self.note_held();
    }

    /// What we may be asked for, for whoever lets others in.
    fn note_held(&mut self) {
        let all: Vec<(Root, Capability)> = self
            .transfers
            .values()
            .filter(|transfer| is_held(transfer))
            .map(|transfer| (transfer.offer.root, transfer.offer.capability.clone()))
            .collect();
        for line in self.lines.values_mut() {
            line.tags = tags_of(&all, line.line.id.device, self.me.1);
        }
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = all;
    }

    /// Makes room for one more with this person. `false`: there is none.
    fn make_room(&mut self, user: UserId) -> bool {
        let with_user = self.transfers.values().filter(|other| other.user == user);
        let count = with_user.clone().count();
        let oldest = if count >= MAX_PER_PERSON {
            let over = with_user.filter(|other| other.state.is_over());
            over.min_by_key(|other| (other.at_millis, other.id))
        } else if self.transfers.len() >= MAX_TRANSFERS {
            let over = self
                .transfers
                .values()
                .filter(|other| other.state.is_over());
            over.min_by_key(|other| (other.at_millis, other.id))
        } else {
            return true;
        };
        let Some(id) = oldest.map(|oldest| oldest.id) else {
            return false;
        };
        self.transfers.remove(&id);
        self.counted.remove(&id);
        self.paces.remove(&id);
        FileBook(self.book.shelf())
            .forget(id)
            .unwrap_or_else(|error| tracing::error!(%error, "a transfer cannot be forgotten"));
        true
    }

    async fn pump(&mut self) {
        let now = self.runtime.now();
        self.drop_lines(now).await;
        self.write().await;
        self.ask(now);
        self.answer().await;
        self.seek(now).await;
        let leaves = self.lines.values().any(|line| line.last > self.shown_at);
        let moves = leaves || !self.active.is_empty();
        if self.changed || (moves && now >= self.shown_at + SHOW_EVERY) {
            self.show(now).await;
        }
    }
}

/// Whether whoever was sent the same file may have it from us.
fn is_held(transfer: &Transfer) -> bool {
    let there = transfer.path.is_some();
    match transfer.direction {
        Direction::Outgoing => there && !matches!(transfer.state, State::Refused | State::Failed),
        Direction::Incoming => there && transfer.state == State::Done,
    }
}
