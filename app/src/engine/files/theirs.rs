//! Files of others: taken or not, asked for, written.

use std::{path::PathBuf, time::Instant};

use ahoy_transport::{
    datagram::Priority,
    identity::{DeviceId, UserId},
    runtime::RuntimeExt as _,
};

use super::{Active, FileChange, FilesNews, Hub, LineId, ToFiles, lines::send};
use crate::{
    engine::notice::FileRefused,
    files::{
        Capability, FileOffer, TransferId,
        book::{Direction, State, Transfer},
        fetch::{Fetch, FetchEvent, Piece, SourceId},
        part::{Opened, Part, PartError, discard},
        tree::{Node, Shape},
        trouble::FileTrouble,
        wire::{FileDatagram, Tag},
    },
};

impl Hub {
    pub(super) fn came(&mut self, id: TransferId, user: UserId, at_millis: u64, offer: FileOffer) {
        if self.transfers.contains_key(&id) {
            return;
        }
        if !self.make_room(user) {
            tracing::warn!("somebody offers too many files: one is dropped");
            return;
        }
        let too_large = offer.size > self.settings.max_bytes;
        let accepts = self.settings.accept && !too_large && self.settings.folder.is_some();
        let trouble = too_large.then_some(FileTrouble::TooLarge(self.settings.max_bytes));
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

    pub(super) async fn change(&mut self, id: TransferId, change: FileChange) {
        let Some(mut transfer) = self.transfers.get(&id).cloned() else {
            return self.news(FilesNews::Failed(FileRefused::Unknown(id))).await;
        };
        if transfer.direction == Direction::Outgoing {
            if change == FileChange::Cancel && transfer.state != State::Done {
                transfer.state = State::Refused;
                transfer.trouble = Some(FileTrouble::TakenBack);
                self.keep(transfer);
            } else {
                self.news(FilesNews::Failed(FileRefused::Ours)).await;
            }
            return;
        }
        let finishing = self.active.get(&id).is_some_and(|active| active.finishing);
        if transfer.state == State::Done || finishing {
            return self.news(FilesNews::Failed(FileRefused::Complete)).await;
        }
        match change {
            FileChange::Accept => {
                // What is too large was refused by nobody.
                if transfer.state == State::Refused && transfer.trouble.is_none() {
                    let person = self.book.display_name(transfer.user, "");
                    let refused = FileRefused::Refused { person };
                    return self.news(FilesNews::Failed(refused)).await;
                }
                if self.settings.folder.is_none() {
                    return self.news(FilesNews::Failed(FileRefused::NoFolder)).await;
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
                    return self.news(FilesNews::Failed(FileRefused::Still)).await;
                }
                transfer.state = State::Paused;
                self.stop(id);
                self.keep(transfer);
            }
            FileChange::Refuse | FileChange::Cancel => {
                if transfer.state == State::Refused && transfer.trouble.is_none() {
                    return;
                }
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
                let user = transfer.user;
                self.keep(transfer);
                self.news(FilesNews::Unwanted(user, id)).await;
            }
        }
    }

    /// Whoever was asked is told that no more is wanted.
    pub(super) fn stop(&mut self, id: TransferId) {
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
    pub(super) fn open(&mut self, id: TransferId) {
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

    pub(super) fn opened(&mut self, id: TransferId, opened: Result<Opened, PartError>) {
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
    pub(super) fn halt(&mut self, id: TransferId, error: &PartError) {
        self.stop(id);
        self.active.remove(&id);
        if let Some(transfer) = self.transfers.get(&id).cloned() {
            self.keep(Transfer {
                state: State::Paused,
                trouble: Some(error.into()),
                ..transfer
            });
        }
    }

    /// What shows `user` that we were sent this file: what they sent us it with, or else whoever did.
    pub(super) fn capability(&self, transfer: &Transfer, user: UserId) -> Capability {
        let same = self.transfers.values().find(|other| {
            other.direction == Direction::Incoming
                && other.user == user
                && other.offer.root == transfer.offer.root
        });
        same.unwrap_or(transfer).offer.capability.clone()
    }

    pub(super) fn tag(&self, transfer: &Transfer, user: UserId, device: DeviceId) -> Tag {
        let capability = self.capability(transfer, user);
        Tag::new(&capability, &transfer.offer.root, self.me.1, device)
    }

    /// Every device that there is a line to is asked: who does not have it says so.
    pub(super) fn add_sources(&mut self, id: TransferId) {
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

    pub(super) async fn finished(&mut self, id: TransferId, finished: Result<PathBuf, PartError>) {
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

    /// Writes what was verified.
    pub(super) async fn write(&mut self) {
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
    pub(super) fn ask(&mut self, now: Instant) {
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
}

fn stem_of(id: TransferId) -> String {
    format!("ahoy-{id}")
}
