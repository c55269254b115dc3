//! Files on their way: carries bytes between [`crate::files`], the disk and the sessions.
//!
//! One task owns all transfers. It learns of lines (sessions with a device of a contact, in a call or made for files) from
//! the engine, asks it for lines where a file is wanted and none is there, and tells it what became of what.

use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc as threads,
    },
    time::{Duration, Instant},
};

use ahoy_transport::{
    bwe::{Estimate, wire_bytes},
    datagram::Priority,
    identity::{DeviceId, UserId},
    runtime::{Runtime, RuntimeExt, Task},
    session::Session,
};
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};

use super::{book::AddressBook, run::Internal};
use crate::{
    call::CallId,
    files::{
        Capability, FileOffer, MAX_SIZE, Root, TransferId,
        beside::Beside,
        book::{Direction, FileBook, MAX_PER_PERSON, MAX_TRANSFERS, State, Transfer},
        fetch::{Fetch, FetchEvent, FetchStats, Piece, SourceId},
        name::harmless,
        part::{Opened, Part, PartError, discard, read_piece},
        readable,
        serve::Serve,
        tree::{FRAGMENT, Node, Shape, Tree},
        wire::{FileDatagram, Tag},
    },
};

/// The flow that files travel in.
pub(super) const FILE_FLOW: u64 = 5;
/// What waits for the task: most of it datagrams, which are asked for again when they are lost.
const QUEUE: usize = 2048;
/// So much of a line's answers waits in the session: enough until we look again, at any rate that the session allows.
const AHEAD_BYTES: usize = 96 * 1024;
/// How soon that is.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// An answer may wait so long for what is more urgent; whoever asked has asked again by then.
const ANSWER_EXPIRY: Duration = Duration::from_secs(4);
const QUESTION_EXPIRY: Duration = Duration::from_secs(1);
/// How often what goes on is shown.
const SHOW_EVERY: Duration = Duration::from_millis(500);
/// A line that was made for files goes when nothing passed for so long.
const IDLE: Duration = Duration::from_secs(20);
/// Somebody who is not there is looked for again after so long, and twice that, and so on.
const FIRST_RETRY: Duration = Duration::from_secs(15);
const LAST_RETRY: Duration = Duration::from_secs(600);
/// Jobs that wait for the disk: one for each transfer that is opened or completed, and some.
const JOBS: usize = 2 * MAX_TRANSFERS;
/// Trees in memory.
const MAX_TREES: usize = 32;

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
    /// Bytes per second.
    pub rate: u64,
    /// Devices that send it.
    pub sources: usize,
    /// How far it is.
    pub state: State,
    /// Where it lies.
    pub path: Option<PathBuf>,
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
        tree: Result<Tree, String>,
    },
    /// The same of one that somebody asks for.
    Loaded(Root, PathBuf, Result<Tree, String>),
    Opened(TransferId, Result<Opened, PartError>),
    Finished(TransferId, Result<PathBuf, PartError>),
}

/// What the engine is told.
#[derive(Debug)]
pub(super) enum FilesNews {
    /// A file of ours is ready to be offered.
    Ready(Transfer),
    /// Something cannot be done.
    Failed(String),
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

/// Reads and writes, without keeping anybody waiting who has something urgent to do.
#[derive(Debug, Clone)]
enum Disk {
    Here,
    Thread(threads::SyncSender<Job>),
}

type Job = Box<dyn FnOnce() + Send>;

impl Disk {
    fn start(threads: bool) -> Self {
        if !threads {
            return Self::Here;
        }
        let (jobs, queue) = threads::sync_channel::<Job>(JOBS);
        let work = move || queue.iter().for_each(|job| job());
        match std::thread::Builder::new().name("files".into()).spawn(work) {
            Ok(_ends_with_the_queue) => Self::Thread(jobs),
            Err(error) => {
                tracing::warn!(%error, "files have no thread of their own");
                Self::Here
            }
        }
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        match self {
            Self::Here => Some(work()),
            Self::Thread(jobs) => {
                let (done, result) = oneshot::channel();
                let job: Job = Box::new(move || {
                    // Nobody waits any more: the engine has ended.
                    done.send(work()).unwrap_or_else(drop);
                });
                jobs.try_send(job).ok()?;
                result.await.ok()
            }
        }
    }
}

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
    shown: Vec<TransferView>,
    changed: bool,
    shown_at: Instant,
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

    // --- what there is -----------------------------------------------------------------------------

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
        FileBook(self.book.shelf())
            .forget(id)
            .unwrap_or_else(|error| tracing::error!(%error, "a transfer cannot be forgotten"));
        true
    }

    // --- ours --------------------------------------------------------------------------------------

    fn read_through(&self, id: TransferId, user: UserId, path: PathBuf) {
        let (disk, inbox) = (self.slow.clone(), self.inbox.clone());
        let task = async move {
            let place = path.clone();
            let tree = disk.run(move || hash(&place)).await;
            let tree = tree.unwrap_or_else(|| Err("the disk is busy: try again".into()));
            let hashed = ToFiles::Hashed {
                id,
                user,
                path,
                tree,
            };
            inbox.send(hashed).await.unwrap_or_default();
        };
        self.runtime.spawn_task(task).detach();
    }

    async fn offer(
        &mut self,
        id: TransferId,
        user: UserId,
        path: PathBuf,
        tree: Result<Tree, String>,
    ) {
        let tree = match tree {
            Ok(tree) => tree,
            Err(sentence) => return self.news(FilesNews::Failed(sentence)).await,
        };
        if !self.make_room(user) {
            let sentence = "too many files are on their way to this person: cancel some".into();
            return self.news(FilesNews::Failed(sentence)).await;
        }
        let root = tree.root();
        // Everybody who is sent the same file by us may send it to the others.
        let known = self
            .transfers
            .values()
            .find(|other| other.offer.root == root && other.direction == Direction::Outgoing);
        let capability = known.map_or_else(
            || Capability(self.runtime.random_array()),
            |known| known.offer.capability.clone(),
        );
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let transfer = Transfer {
            id,
            direction: Direction::Outgoing,
            user,
            at_millis: self.runtime.unix_millis(),
            offer: FileOffer {
                root,
                size: tree.shape().size(),
                kind: kind_of(&name).into(),
                name: name.into_owned(),
                capability,
            },
            state: State::Offered,
            path: Some(path.clone()),
            trouble: None,
        };
        self.serve_from(root, path, tree);
        self.keep(transfer.clone());
        self.news(FilesNews::Ready(transfer)).await;
    }

    fn serve_from(&mut self, root: Root, path: PathBuf, tree: Tree) {
        while self.served.len() >= MAX_TREES {
            self.served.pop_first();
        }
        self.served
            .insert(root, Served::Ready(path, Arc::new(tree)));
    }

    fn loaded(&mut self, root: Root, path: PathBuf, tree: Result<Tree, String>) {
        match tree {
            Ok(tree) if tree.root() == root => self.serve_from(root, path, tree),
            Ok(_other) => self.changed_on_disk(root, &path),
            Err(sentence) => {
                tracing::info!(sentence, "a file that was offered cannot be read");
                self.changed_on_disk(root, &path);
            }
        }
    }

    /// A file that was offered is no longer what it was.
    fn changed_on_disk(&mut self, root: Root, path: &Path) {
        self.served.insert(root, Served::Gone);
        let is_it = |transfer: &&Transfer| {
            transfer.offer.root == root && transfer.path.as_deref() == Some(path)
        };
        let gone: Vec<Transfer> = self.transfers.values().filter(is_it).cloned().collect();
        for transfer in gone {
            if transfer.direction == Direction::Outgoing && !transfer.state.is_over() {
                self.keep(Transfer {
                    state: State::Failed,
                    trouble: Some("the file was changed or taken away since it was offered".into()),
                    ..transfer
                });
            }
        }
    }

    fn taken(&mut self, line: LineId, tag: Tag) {
        let Some(state) = self.lines.get(&line) else {
            return;
        };
        let Some(root) = state.tags.get(&tag).copied() else {
            return;
        };
        let user = state.line.user;
        let is_it = |transfer: &&Transfer| {
            transfer.direction == Direction::Outgoing
                && transfer.user == user
                && transfer.offer.root == root
                && transfer.state != State::Done
        };
        let done: Vec<Transfer> = self.transfers.values().filter(is_it).cloned().collect();
        for transfer in done {
            self.keep(Transfer {
                state: State::Done,
                trouble: None,
                ..transfer
            });
        }
    }

    // --- theirs ------------------------------------------------------------------------------------

    fn came(&mut self, id: TransferId, user: UserId, at_millis: u64, offer: FileOffer) {
        if self.transfers.contains_key(&id) {
            return;
        }
        if !self.make_room(user) {
            tracing::warn!("somebody offers too many files: one is dropped");
            return;
        }
        let too_large = offer.size > self.settings.max_bytes;
        let accepts = self.settings.accept && !too_large && self.settings.folder.is_some();
        let trouble = too_large.then(|| {
            format!(
                "it is larger than the {} that you take",
                readable(self.settings.max_bytes)
            )
        });
        self.keep(Transfer {
            id,
            direction: Direction::Incoming,
            user,
            at_millis,
            offer,
            state: match (too_large, accepts) {
                (true, _) => State::Refused,
                (false, true) => State::Active,
                (false, false) => State::Offered,
            },
            path: None,
            trouble,
        });
        if accepts {
            self.open(id);
        }
    }

    async fn change(&mut self, id: TransferId, change: FileChange) {
        let Some(mut transfer) = self.transfers.get(&id).cloned() else {
            let sentence = format!("there is no file {id} on its way; see ahoy files");
            return self.news(FilesNews::Failed(sentence)).await;
        };
        if transfer.direction == Direction::Outgoing {
            if change == FileChange::Cancel && transfer.state != State::Done {
                transfer.state = State::Refused;
                transfer.trouble = Some("you took it back".into());
                self.keep(transfer);
            } else {
                let sentence =
                    "a file of yours can only be cancelled, and before it arrived".into();
                self.news(FilesNews::Failed(sentence)).await;
            }
            return;
        }
        let finishing = self.active.get(&id).is_some_and(|active| active.finishing);
        if transfer.state == State::Done || finishing {
            let sentence = "that file is all there".into();
            return self.news(FilesNews::Failed(sentence)).await;
        }
        match change {
            FileChange::Accept => {
                if self.settings.folder.is_none() {
                    let sentence = "there is no folder for files: set download_folder".into();
                    return self.news(FilesNews::Failed(sentence)).await;
                }
                transfer.state = State::Active;
                transfer.trouble = None;
                self.retries.clear();
                self.keep(transfer);
                let now = self.runtime.now();
                match self.active.get_mut(&id) {
                    Some(active) => {
                        if let Some(fetch) = &mut active.fetch {
                            fetch.set_paused(now, false);
                        }
                    }
                    None => self.open(id),
                }
            }
            FileChange::Pause => {
                if transfer.state != State::Active {
                    let sentence = "that file does not move".into();
                    return self.news(FilesNews::Failed(sentence)).await;
                }
                transfer.state = State::Paused;
                self.stop(id);
                self.keep(transfer);
            }
            FileChange::Refuse | FileChange::Cancel => {
                transfer.state = State::Refused;
                transfer.trouble = None;
                self.stop(id);
                match self.active.remove(&id).and_then(|active| active.part) {
                    Some(part) => part.discard(),
                    None => {
                        if let Some(folder) = &self.settings.folder {
                            discard(folder, &stem_of(id));
                        }
                    }
                }
                self.keep(transfer);
            }
        }
    }

    /// Whoever was asked is told that no more is wanted.
    fn stop(&mut self, id: TransferId) {
        let now = self.runtime.now();
        if let Some(fetch) = self
            .active
            .get_mut(&id)
            .and_then(|active| active.fetch.as_mut())
        {
            fetch.set_paused(now, true);
        }
        self.ask(now);
    }

    /// Opens the part file, and verifies what is in it.
    fn open(&mut self, id: TransferId) {
        let Some(transfer) = self.transfers.get(&id) else {
            return;
        };
        let (Some(folder), Some(shape)) = (
            self.settings.folder.clone(),
            Shape::new(transfer.offer.size),
        ) else {
            return;
        };
        let active = Active {
            fetch: None,
            part: None,
            finishing: false,
        };
        self.active.insert(id, active);
        let (root, name) = (transfer.offer.root, transfer.offer.name.clone());
        let (disk, inbox) = (self.slow.clone(), self.inbox.clone());
        let task = async move {
            let stem = stem_of(id);
            let work = move || Part::open(&folder, &stem, &name, root, shape);
            let Some(opened) = disk.run(work).await else {
                return;
            };
            inbox
                .send(ToFiles::Opened(id, opened))
                .await
                .unwrap_or_default();
        };
        self.runtime.spawn_task(task).detach();
    }

    fn opened(&mut self, id: TransferId, opened: Result<Opened, PartError>) {
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) => return self.halt(id, &error),
        };
        let Some(active) = self.active.get_mut(&id) else {
            // Refused meanwhile.
            return opened.part.discard();
        };
        let mut fetch = Fetch::new(opened.tree, opened.have);
        if !self.settings.verifies {
            fetch = fetch.without_verification();
        }
        let paused = self
            .transfers
            .get(&id)
            .is_some_and(|transfer| transfer.state == State::Paused);
        fetch.set_paused(self.runtime.now(), paused);
        active.fetch = Some(fetch);
        active.part = Some(opened.part);
        self.changed = true;
        self.add_sources(id);
    }

    /// It cannot be written: the person has to do something.
    fn halt(&mut self, id: TransferId, error: &PartError) {
        self.stop(id);
        self.active.remove(&id);
        if let Some(transfer) = self.transfers.get(&id).cloned() {
            self.keep(Transfer {
                state: State::Paused,
                trouble: Some(error.to_string()),
                ..transfer
            });
        }
    }

    /// What shows `user` that we were sent this file: what they sent us it with, or else whoever did.
    fn capability(&self, transfer: &Transfer, user: UserId) -> Capability {
        let same = self.transfers.values().find(|other| {
            other.direction == Direction::Incoming
                && other.user == user
                && other.offer.root == transfer.offer.root
        });
        same.unwrap_or(transfer).offer.capability.clone()
    }

    fn tag(&self, transfer: &Transfer, user: UserId, device: DeviceId) -> Tag {
        let capability = self.capability(transfer, user);
        Tag::new(&capability, &transfer.offer.root, self.me.1, device)
    }

    /// Every device that there is a line to is asked: who does not have it says so.
    fn add_sources(&mut self, id: TransferId) {
        let now = self.runtime.now();
        let sources: Vec<SourceId> = self.lines.values().map(|line| line.source).collect();
        if let Some(fetch) = self
            .active
            .get_mut(&id)
            .and_then(|active| active.fetch.as_mut())
        {
            for source in sources {
                fetch.add_source(now, source);
            }
        }
    }

    async fn finished(&mut self, id: TransferId, finished: Result<PathBuf, PartError>) {
        let path = match finished {
            Ok(path) => path,
            Err(error) => return self.halt(id, &error),
        };
        let Some(active) = self.active.remove(&id) else {
            return;
        };
        let Some(transfer) = self.transfers.get(&id).cloned() else {
            return;
        };
        if let Some(fetch) = &active.fetch {
            self.counted.insert(id, fetch.stats());
        }
        if let Some(fetch) = active.fetch
            && fetch.tree().shape().top().level > 0
        {
            self.serve_from(transfer.offer.root, path.clone(), fetch.tree().clone());
        }
        let (user, root) = (transfer.user, transfer.offer.root);
        let told: Vec<(LineId, Tag)> = self
            .lines
            .values()
            .filter(|line| line.line.user == user)
            .map(|line| {
                let device = line.line.id.device;
                (line.line.id, self.tag(&transfer, user, device))
            })
            .collect();
        self.keep(Transfer {
            state: State::Done,
            path: Some(path),
            trouble: None,
            ..transfer
        });
        for (line, tag) in told {
            self.news(FilesNews::Taken(line, tag)).await;
        }
        // Whoever else offered the same one has it come from here.
        tracing::info!(?root, "a file is complete");
    }

    // --- lines -------------------------------------------------------------------------------------

    fn line_up(&mut self, line: Line) {
        let now = self.runtime.now();
        let device = line.id.device;
        let next = SourceId(self.sources.len() as u64);
        let source = *self.sources.entry(device).or_insert(next);
        let held = self
            .held
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let state = LineState {
            estimate: line.session.watch_estimate(),
            beside: Beside::new(now),
            source,
            serve: Serve::default(),
            tags: tags_of(&held, device, self.me.1),
            node: None,
            asked: BTreeMap::new(),
            sent: BTreeMap::new(),
            last: now,
            line,
        };
        self.lines.insert(state.line.id, state);
        let all: Vec<TransferId> = self.active.keys().copied().collect();
        for id in all {
            self.add_sources(id);
        }
    }

    fn unreachable(&mut self, user: UserId) {
        let now = self.runtime.now();
        let retry = self.retries.entry(user).or_default();
        // It counted as a failure when it was begun.
        retry.due.get_or_insert(now + FIRST_RETRY);
        self.changed = true;
    }

    fn datagram(&mut self, id: LineId, bytes: &Bytes) {
        let now = self.runtime.now();
        let datagram = match FileDatagram::decode(bytes) {
            Ok(datagram) => datagram,
            Err(error) => {
                tracing::debug!(%error, "a datagram about files cannot be read");
                return;
            }
        };
        let Some(line) = self.lines.get_mut(&id) else {
            return;
        };
        match datagram {
            FileDatagram::Want {
                tag,
                node,
                fragments,
            } => {
                line.last = now;
                let root = line.tags.get(&tag).copied();
                let shape = root.and_then(|root| self.shape_of(root));
                let possible = shape.and_then(|shape| shape.fragments(node));
                let Some(line) = self.lines.get_mut(&id) else {
                    return;
                };
                match possible {
                    Some(possible) => line.serve.want(tag, node, fragments & possible),
                    // The same for what we do not have and what nobody has.
                    None if fragments != 0 => {
                        send(line, &FileDatagram::Gone { tag }, Priority::Request, now);
                    }
                    None => {}
                }
            }
            FileDatagram::Data {
                tag,
                node,
                fragment,
                bytes,
            } => {
                line.last = now;
                let (source, user) = (line.source, line.line.user);
                if let Some(fetching) = line.asked.get(&tag)
                    && let Some(active) = self.active.get_mut(fetching)
                    && let Some(fetch) = &mut active.fetch
                {
                    fetch.handle_data(now, source, node, fragment, &bytes);
                    self.retries.remove(&user);
                }
            }
            FileDatagram::Gone { tag } => {
                let source = line.source;
                if let Some(fetching) = line.asked.get(&tag)
                    && let Some(active) = self.active.get_mut(fetching)
                    && let Some(fetch) = &mut active.fetch
                {
                    fetch.remove_source(source);
                }
            }
        }
    }

    fn shape_of(&self, root: Root) -> Option<Shape> {
        if matches!(self.served.get(&root), Some(Served::Gone)) {
            return None;
        }
        let held = self
            .transfers
            .values()
            .find(|transfer| transfer.offer.root == root && is_held(transfer));
        Shape::new(held?.offer.size)
    }

    // --- what is due -------------------------------------------------------------------------------

    async fn pump(&mut self) {
        let now = self.runtime.now();
        self.drop_lines(now).await;
        self.write().await;
        self.ask(now);
        self.answer().await;
        self.seek(now).await;
        if self.changed || (!self.active.is_empty() && now >= self.shown_at + SHOW_EVERY) {
            self.show(now).await;
        }
    }

    async fn drop_lines(&mut self, now: Instant) {
        let closed = self.lines.values().filter(|line| {
            !line.line.open.load(Ordering::Relaxed) || line.line.session.end().is_some()
        });
        let closed: Vec<LineId> = closed.map(|line| line.line.id).collect();
        for id in closed {
            let Some(gone) = self.lines.remove(&id) else {
                continue;
            };
            let mut others = self.lines.values();
            // The call's line may have taken the place of the one that was made for files.
            if !others.any(|line| line.source == gone.source) {
                for active in self.active.values_mut() {
                    if let Some(fetch) = &mut active.fetch {
                        fetch.remove_source(gone.source);
                    }
                }
            }
        }
        let idle = self
            .lines
            .values_mut()
            .filter(|line| !line.line.in_call && now.saturating_duration_since(line.last) >= IDLE);
        let mut told = Vec::new();
        for line in idle {
            line.last = now;
            told.push(line.line.id);
        }
        for id in told {
            self.news(FilesNews::Idle(id)).await;
        }
    }

    /// Writes what was verified.
    async fn write(&mut self) {
        let ids: Vec<TransferId> = self.active.keys().copied().collect();
        for id in ids {
            let Some(active) = self.active.get_mut(&id) else {
                continue;
            };
            let Some(fetch) = &mut active.fetch else {
                continue;
            };
            let (mut pieces, mut nodes): (Vec<Piece>, Vec<(Node, Vec<u8>)>) = Default::default();
            while let Some(piece) = fetch.poll_piece() {
                pieces.push(piece);
            }
            while let Some(event) = fetch.poll_event() {
                match event {
                    FetchEvent::Learned(node) => {
                        nodes.extend(fetch.tree().bytes(node).map(|bytes| (node, bytes)));
                    }
                    FetchEvent::Banned(source, offence) => {
                        tracing::warn!(?source, ?offence, "a device sends a file that is false");
                        self.changed = true;
                    }
                }
            }
            let complete = fetch.is_complete() && !active.finishing;
            if pieces.is_empty() && nodes.is_empty() && !complete {
                continue;
            }
            let Some(mut part) = active.part.take() else {
                continue;
            };
            let work = move || {
                let nodes = nodes
                    .iter()
                    .map(|(node, bytes)| part.keep_node(*node, bytes));
                let mut kept: Result<(), PartError> = nodes.collect();
                for piece in &pieces {
                    kept = kept.and_then(|()| part.keep(piece));
                }
                (part, kept)
            };
            let Some((part, kept)) = self.disk.run(work).await else {
                continue;
            };
            if let Err(error) = kept {
                self.halt(id, &error);
                continue;
            }
            let Some(active) = self.active.get_mut(&id) else {
                continue;
            };
            if complete {
                active.finishing = true;
                let (disk, inbox) = (self.slow.clone(), self.inbox.clone());
                let task = async move {
                    if let Some(finished) = disk.run(move || part.finish()).await {
                        let told = ToFiles::Finished(id, finished);
                        inbox.send(told).await.unwrap_or_default();
                    }
                };
                self.runtime.spawn_task(task).detach();
            } else {
                active.part = Some(part);
            }
        }
    }

    /// Sends what is to be asked.
    fn ask(&mut self, now: Instant) {
        let ids: Vec<TransferId> = self.active.keys().copied().collect();
        for id in ids {
            let Some(transfer) = self.transfers.get(&id).cloned() else {
                continue;
            };
            while let Some(want) = self
                .active
                .get_mut(&id)
                .and_then(|active| active.fetch.as_mut()?.poll_want(now))
            {
                // Where there are two lines, the call's has the fresher path.
                let lines = self.lines.values();
                let line = lines
                    .filter(|line| line.source == want.source)
                    .max_by_key(|line| line.line.in_call);
                let Some((to, user)) = line.map(|line| (line.line.id, line.line.user)) else {
                    continue;
                };
                let tag = self.tag(&transfer, user, to.device);
                let datagram = FileDatagram::Want {
                    tag,
                    node: want.node,
                    fragments: want.fragments,
                };
                if let Some(line) = self.lines.get_mut(&to) {
                    line.asked.insert(tag, id);
                    send(line, &datagram, Priority::Request, now);
                }
            }
        }
    }

    /// Sends what others asked for, as far as the session takes it.
    async fn answer(&mut self) {
        let lines: Vec<LineId> = self
            .lines
            .iter()
            .filter(|(_, line)| !line.serve.is_empty())
            .map(|(id, _)| *id)
            .collect();
        for id in lines {
            if let Some(line) = self.lines.get_mut(&id) {
                let estimate = *line.estimate.borrow();
                line.beside.pass(self.runtime.now(), estimate);
            }
            loop {
                let now = self.runtime.now();
                let Some(line) = self.lines.get_mut(&id) else {
                    break;
                };
                let waiting = line.line.session.waiting(FILE_FLOW).wire_bytes;
                if self.settings.yields && waiting >= AHEAD_BYTES {
                    break;
                }
                let Some((tag, node)) = line.serve.next_node() else {
                    break;
                };
                let ready = line
                    .node
                    .as_ref()
                    .is_some_and(|(of, at, _)| (*of, *at) == (tag, node));
                if !ready && !self.load(id, tag, node).await {
                    break;
                }
                let Some(line) = self.lines.get_mut(&id) else {
                    break;
                };
                let slow = line.line.in_call && self.settings.yields;
                if slow && !line.beside.take(wire_bytes(FRAGMENT, false)) {
                    break;
                }
                let Some((tag, node, fragment)) = line.serve.poll() else {
                    break;
                };
                let from = usize::from(fragment) * FRAGMENT;
                let bytes = line.node.as_ref().and_then(|(_, _, bytes)| {
                    let to = bytes.len().min(from + FRAGMENT);
                    (from < to).then(|| bytes.slice(from..to))
                });
                let Some(bytes) = bytes else {
                    continue;
                };
                if node.level == 0
                    && let Some(root) = line.tags.get(&tag)
                {
                    *line.sent.entry(*root).or_default() += bytes.len() as u64;
                }
                line.last = now;
                let datagram = FileDatagram::Data {
                    tag,
                    node,
                    fragment,
                    bytes,
                };
                let priority = if self.settings.yields {
                    Priority::Bulk
                } else {
                    Priority::Audio
                };
                send(line, &datagram, priority, now);
            }
        }
    }

    /// Gets the bytes of a node that somebody asked for. `false`: not now.
    async fn load(&mut self, id: LineId, tag: Tag, node: Node) -> bool {
        let Some(root) = self
            .lines
            .get(&id)
            .and_then(|line| line.tags.get(&tag))
            .copied()
        else {
            self.forget(id, tag);
            return false;
        };
        let (path, tree) = match self.served.get(&root) {
            Some(Served::Ready(path, tree)) => (path.clone(), Arc::clone(tree)),
            Some(Served::Loading) => {
                // It is asked for again.
                self.forget(id, tag);
                return false;
            }
            Some(Served::Gone) => {
                self.gone(id, tag);
                return false;
            }
            None => {
                self.forget(id, tag);
                self.read_again(root);
                return false;
            }
        };
        if node.level > 0 {
            let bytes = tree.bytes(node);
            if let Some((line, bytes)) = self.lines.get_mut(&id).zip(bytes) {
                line.node = Some((tag, node, bytes.into()));
                return true;
            }
            self.gone(id, tag);
            return false;
        }
        let (place, looks) = (path.clone(), self.settings.verifies);
        let work = move || {
            let bytes = read_piece(&place, tree.shape(), node.index).ok()?;
            // Whoever sends what is false is banned: we had better look first.
            (!looks || tree.verifies(node, &bytes)).then_some(bytes)
        };
        match self.disk.run(work).await {
            Some(Some(bytes)) => {
                if let Some(line) = self.lines.get_mut(&id) {
                    line.node = Some((tag, node, bytes.into()));
                }
                true
            }
            Some(None) => {
                self.changed_on_disk(root, &path);
                self.gone(id, tag);
                false
            }
            None => false,
        }
    }

    fn forget(&mut self, id: LineId, tag: Tag) {
        if let Some(line) = self.lines.get_mut(&id) {
            line.serve.forget(tag);
        }
    }

    fn gone(&mut self, id: LineId, tag: Tag) {
        let now = self.runtime.now();
        if let Some(line) = self.lines.get_mut(&id) {
            line.serve.forget(tag);
            send(line, &FileDatagram::Gone { tag }, Priority::Request, now);
        }
    }

    /// A file that we have is asked for, and its tree is not in memory.
    fn read_again(&mut self, root: Root) {
        let held = self.transfers.values();
        let mut held = held.filter(|transfer| transfer.offer.root == root && is_held(transfer));
        let Some(path) = held.find_map(|transfer| transfer.path.clone()) else {
            return;
        };
        self.served.insert(root, Served::Loading);
        let (disk, inbox) = (self.slow.clone(), self.inbox.clone());
        let task = async move {
            let place = path.clone();
            let tree = disk.run(move || hash(&place)).await;
            let tree = tree.unwrap_or_else(|| Err("the disk is busy".into()));
            let loaded = ToFiles::Loaded(root, path, tree);
            inbox.send(loaded).await.unwrap_or_default();
        };
        self.runtime.spawn_task(task).detach();
    }

    /// Looks for those who have what we want and are not there.
    async fn seek(&mut self, now: Instant) {
        let mut wanted: Vec<UserId> = Vec::new();
        for id in self.active.keys() {
            let Some(transfer) = self.transfers.get(id) else {
                continue;
            };
            let moves = self.active.get(id).is_some_and(|active| {
                active
                    .fetch
                    .as_ref()
                    .is_some_and(|fetch| !fetch.is_complete())
            });
            if transfer.state != State::Active || !moves {
                continue;
            }
            let root = transfer.offer.root;
            let offerers = self
                .transfers
                .values()
                .filter(|other| other.offer.root == root && other.direction == Direction::Incoming);
            // Our own other devices were sent it too.
            wanted.extend(offerers.map(|other| other.user).chain([self.me.0]));
        }
        wanted.sort();
        wanted.dedup();
        for user in wanted {
            let has_line = self.lines.values().any(|line| line.line.user == user);
            let retry = self.retries.entry(user).or_default();
            if has_line || retry.due.is_some_and(|due| now < due) {
                continue;
            }
            let wait = (FIRST_RETRY * (1 << retry.failures.min(8))).min(LAST_RETRY);
            retry.failures += 1;
            retry.due = Some(now + wait);
            let moving = self.active.keys().filter_map(|id| self.transfers.get(id));
            let moving = moving.filter(|transfer| transfer.state == State::Active);
            let files = moving.map(|transfer| {
                let capability = self.capability(transfer, user);
                (transfer.offer.root, capability)
            });
            let files = files.collect();
            self.news(FilesNews::Need(user, files)).await;
        }
    }

    // --- what is shown -----------------------------------------------------------------------------

    async fn show(&mut self, now: Instant) {
        self.shown_at = now;
        self.changed = false;
        let ids: Vec<TransferId> = self.transfers.keys().copied().collect();
        let mut shown: Vec<TransferView> =
            ids.iter().filter_map(|id| self.view(now, *id)).collect();
        shown.sort_by_key(|view| (view.at_millis, view.id));
        let changed = shown.iter().filter(|view| {
            let before = self.shown.iter().find(|before| before.id == view.id);
            before.is_none_or(|before| {
                (&before.state, before.stats.banned) != (&view.state, view.stats.banned)
            })
        });
        let changed: Vec<TransferView> = changed.cloned().collect();
        if shown != self.shown {
            self.shown.clone_from(&shown);
            self.news(FilesNews::Shown(shown, changed)).await;
        }
    }

    fn view(&mut self, now: Instant, id: TransferId) -> Option<TransferView> {
        let transfer = self.transfers.get(&id)?;
        let size = transfer.offer.size;
        let (mut done, mut rate, mut sources, mut stats) = (0, 0, 0, FetchStats::default());
        if let Some(counted) = self.counted.get(&id) {
            stats = *counted;
        }
        if let Some(fetch) = self
            .active
            .get_mut(&id)
            .and_then(|active| active.fetch.as_mut())
        {
            done = fetch.done_bytes();
            rate = fetch.rate(now);
            sources = fetch.sources();
            stats = fetch.stats();
        }
        match (&transfer.state, transfer.direction) {
            (State::Done, _) => done = size,
            (_, Direction::Outgoing) => {
                let lines = self.lines.values();
                let lines = lines.filter(|line| line.line.user == transfer.user);
                let sent = lines.filter_map(|line| line.sent.get(&transfer.offer.root));
                done = sent.copied().max().unwrap_or(0).min(size);
            }
            (_, Direction::Incoming) => {}
        }
        let person = self.book.display_name(transfer.user, "");
        let sentence = sentence(transfer, &person, done, sources, &stats);
        Some(TransferView {
            id,
            direction: transfer.direction,
            user: transfer.user,
            name: harmless(&transfer.offer.name),
            person,
            at_millis: transfer.at_millis,
            size,
            done,
            rate,
            sources,
            state: transfer.state.clone(),
            path: transfer.path.clone(),
            sentence,
            stats,
        })
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

fn tags_of(held: &[(Root, Capability)], asking: DeviceId, asked: DeviceId) -> BTreeMap<Tag, Root> {
    let tags = held
        .iter()
        .map(|(root, capability)| (Tag::new(capability, root, asking, asked), *root));
    tags.collect()
}

fn send(line: &LineState, datagram: &FileDatagram, priority: Priority, now: Instant) {
    let expires = match datagram {
        FileDatagram::Data { .. } => ANSWER_EXPIRY,
        FileDatagram::Want { .. } | FileDatagram::Gone { .. } => QUESTION_EXPIRY,
    };
    let session = &line.line.session;
    if let Err(error) = session.send_media(FILE_FLOW, datagram.encode(), priority, now + expires) {
        tracing::trace!(%error, "a datagram about files was not sent");
    }
}

fn stem_of(id: TransferId) -> String {
    format!("ahoy-{id}")
}

fn hash(path: &Path) -> Result<Tree, String> {
    let wrong = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    let file = File::open(path).map_err(wrong)?;
    let meta = file.metadata().map_err(wrong)?;
    if !meta.is_file() {
        return Err(format!("{} is no file", path.display()));
    }
    if meta.len() > MAX_SIZE {
        let most = readable(MAX_SIZE);
        return Err(format!("{} is larger than {most}", path.display()));
    }
    Tree::of(file, meta.len()).map_err(wrong)
}

/// What kind of media a file is, by its ending: for icons alone.
fn kind_of(name: &str) -> &'static str {
    let ending = name.rsplit('.').next().unwrap_or_default().to_lowercase();
    match ending.as_str() {
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "pdf" => "application/pdf",
        "txt" | "md" => "text/plain",
        "mp4" => "video/mp4",
        "mkv" => "video/x-matroska",
        "mp3" => "audio/mpeg",
        "ogg" | "opus" => "audio/ogg",
        "wav" => "audio/wav",
        "zip" => "application/zip",
        _ => "",
    }
}

/// How a transfer stands, for a person.
fn sentence(
    transfer: &Transfer,
    person: &str,
    done: u64,
    sources: usize,
    stats: &FetchStats,
) -> String {
    let size = transfer.offer.size;
    let of = format!("{} of {}", readable(done), readable(size));
    let because = transfer.trouble.as_deref();
    match (&transfer.state, transfer.direction) {
        (State::Offered, Direction::Incoming) => {
            format!(
                "{person} offers {}; it is not fetched before you accept",
                readable(size)
            )
        }
        (State::Offered | State::Active | State::Paused, Direction::Outgoing) if done > 0 => {
            format!("{person} fetches it: {of}")
        }
        (State::Offered | State::Active | State::Paused, Direction::Outgoing) => {
            format!("offered; it moves when {person} accepts and both of you are online")
        }
        (State::Active, Direction::Incoming) if sources == 0 => match stats.banned {
            0 => format!("{of}; it goes on when {person} is online"),
            _ => format!("{of}; what {person} sends is not what was offered, and is not taken"),
        },
        (State::Active, Direction::Incoming) => {
            let from = if sources == 1 { "device" } else { "devices" };
            format!("{of}, from {sources} {from}")
        }
        (State::Paused, Direction::Incoming) => match because {
            Some(because) => format!("{of}; {because}"),
            None => format!("paused at {of}"),
        },
        (State::Done, Direction::Incoming) => "complete, each byte verified".into(),
        (State::Done, Direction::Outgoing) => format!("{person} has it"),
        (State::Refused, _) => because.unwrap_or("not wanted").into(),
        (State::Failed, _) => because.unwrap_or("it cannot be sent any more").into(),
    }
}
