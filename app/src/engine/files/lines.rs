//! Lines: sessions with devices of contacts, what is said there, and who is looked for.

use std::{
    collections::BTreeMap,
    sync::{PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use ahoy_transport::{
    datagram::Priority,
    identity::{DeviceId, UserId},
};
use bytes::Bytes;

use super::{FILE_FLOW, FilesNews, Hub, Line, LineId, LineState};
use crate::files::{
    Capability, Root, TransferId,
    beside::Beside,
    book::{Direction, State},
    fetch::SourceId,
    serve::Serve,
    wire::{FileDatagram, Tag},
};

/// An answer may wait so long for what is more urgent; whoever asked has asked again by then.
const ANSWER_EXPIRY: Duration = Duration::from_secs(4);
const QUESTION_EXPIRY: Duration = Duration::from_secs(1);
/// A line that was made for files goes when nothing passed for so long.
pub(super) const IDLE: Duration = Duration::from_secs(20);
/// Somebody who is not there is looked for again after so long, and twice that, and so on.
const FIRST_RETRY: Duration = Duration::from_secs(15);
const LAST_RETRY: Duration = Duration::from_secs(600);

impl Hub {
    pub(super) fn line_up(&mut self, line: Line) {
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

    pub(super) fn unreachable(&mut self, user: UserId) {
        let now = self.runtime.now();
        let retry = self.retries.entry(user).or_default();
        // It counted as a failure when it was begun.
        retry.due.get_or_insert(now + FIRST_RETRY);
        self.changed = true;
    }

    pub(super) fn datagram(&mut self, id: LineId, bytes: &Bytes) {
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

    pub(super) async fn drop_lines(&mut self, now: Instant) {
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

    /// Looks for those who have what we want and are not there.
    pub(super) async fn seek(&mut self, now: Instant) {
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
}

pub(super) fn tags_of(
    held: &[(Root, Capability)],
    asking: DeviceId,
    asked: DeviceId,
) -> BTreeMap<Tag, Root> {
    let tags = held
        .iter()
        .map(|(root, capability)| (Tag::new(capability, root, asking, asked), *root));
    tags.collect()
}

pub(super) fn send(line: &LineState, datagram: &FileDatagram, priority: Priority, now: Instant) {
    let expires = match datagram {
        FileDatagram::Data { .. } => ANSWER_EXPIRY,
        FileDatagram::Want { .. } | FileDatagram::Gone { .. } => QUESTION_EXPIRY,
    };
    let session = &line.line.session;
    if let Err(error) = session.send_media(FILE_FLOW, datagram.encode(), priority, now + expires) {
        tracing::trace!(%error, "a datagram about files was not sent");
    }
}
