//! Files of ours: read through, offered, and sent to who asks.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use ahoy_transport::{
    bwe::wire_bytes, datagram::Priority, identity::UserId, runtime::RuntimeExt as _,
};

use super::{FILE_FLOW, FilesNews, Hub, LineId, Served, ToFiles, disk::hash, is_held, lines::send};
use crate::{
    engine::notice::FileRefused,
    files::{
        Capability, FileOffer, Root, TransferId,
        book::{Direction, State, Transfer},
        part::read_piece,
        tree::{FRAGMENT, Node, Shape, Tree},
        trouble::FileTrouble,
        wire::{FileDatagram, Tag},
    },
};

/// So much of a line's answers waits in the session: enough until we look again, at any rate that the session allows.
const AHEAD_BYTES: usize = 96 * 1024;
/// Trees in memory.
const MAX_TREES: usize = 32;

impl Hub {
    pub(super) fn read_through(&self, id: TransferId, user: UserId, path: PathBuf) {
        let (disk, inbox) = (self.slow.clone(), self.inbox.clone());
        let task = async move {
            let place = path.clone();
            let tree = disk.run(move || hash(&place)).await;
            let tree = tree.unwrap_or(Err(FileRefused::Busy));
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

    pub(super) async fn offer(
        &mut self,
        id: TransferId,
        user: UserId,
        path: PathBuf,
        tree: Result<Tree, FileRefused>,
    ) {
        let tree = match tree {
            Ok(tree) => tree,
            Err(refused) => return self.news(FilesNews::Failed(refused)).await,
        };
        if !self.make_room(user) {
            return self.news(FilesNews::Failed(FileRefused::TooMany)).await;
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

    pub(super) fn serve_from(&mut self, root: Root, path: PathBuf, tree: Tree) {
        while self.served.len() >= MAX_TREES {
            self.served.pop_first();
        }
        self.served
            .insert(root, Served::Ready(path, Arc::new(tree)));
    }

    pub(super) fn loaded(&mut self, root: Root, path: PathBuf, tree: Result<Tree, FileRefused>) {
        match tree {
            Ok(tree) if tree.root() == root => self.serve_from(root, path, tree),
            Ok(_other) => self.changed_on_disk(root, &path),
            Err(refused) => {
                tracing::info!(%refused, "a file that was offered cannot be read");
                self.changed_on_disk(root, &path);
            }
        }
    }

    /// A file that was offered is no longer what it was.
    pub(super) fn changed_on_disk(&mut self, root: Root, path: &Path) {
        self.served.insert(root, Served::Gone);
        let is_it = |transfer: &&Transfer| {
            transfer.offer.root == root && transfer.path.as_deref() == Some(path)
        };
        let gone: Vec<Transfer> = self.transfers.values().filter(is_it).cloned().collect();
        for transfer in gone {
            if transfer.direction == Direction::Outgoing && !transfer.state.is_over() {
                self.keep(Transfer {
                    state: State::Failed,
                    trouble: Some(FileTrouble::Changed),
                    ..transfer
                });
            }
        }
    }

    pub(super) fn taken(&mut self, line: LineId, tag: Tag) {
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

    /// A person does not want what we offered, as one of their devices says.
    pub(super) fn unwanted(&mut self, id: TransferId, user: UserId) {
        let Some(transfer) = self.transfers.get(&id).cloned() else {
            return;
        };
        let is_theirs = transfer.direction == Direction::Outgoing && transfer.user == user;
        if !is_theirs || transfer.state.is_over() {
            return;
        }
        let person = self.book.display_name(user, "");
        self.keep(Transfer {
            state: State::Refused,
            trouble: Some(FileTrouble::NotWanted(person)),
            ..transfer
        });
    }

    pub(super) fn shape_of(&self, root: Root) -> Option<Shape> {
        if matches!(self.served.get(&root), Some(Served::Gone)) {
            return None;
        }
        let held = self
            .transfers
            .values()
            .find(|transfer| transfer.offer.root == root && is_held(transfer));
        Shape::new(held?.offer.size)
    }

    /// Sends what others asked for, as far as the session takes it.
    pub(super) async fn answer(&mut self) {
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
    pub(super) async fn load(&mut self, id: LineId, tag: Tag, node: Node) -> bool {
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

    pub(super) fn forget(&mut self, id: LineId, tag: Tag) {
        if let Some(line) = self.lines.get_mut(&id) {
            line.serve.forget(tag);
        }
    }

    pub(super) fn gone(&mut self, id: LineId, tag: Tag) {
        let now = self.runtime.now();
        if let Some(line) = self.lines.get_mut(&id) {
            line.serve.forget(tag);
            send(line, &FileDatagram::Gone { tag }, Priority::Request, now);
        }
    }

    /// A file that we have is asked for, and its tree is not in memory.
    pub(super) fn read_again(&mut self, root: Root) {
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
            let tree = tree.unwrap_or(Err(FileRefused::Busy));
            let loaded = ToFiles::Loaded(root, path, tree);
            inbox.send(loaded).await.unwrap_or_default();
        };
        self.runtime.spawn_task(task).detach();
    }
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
