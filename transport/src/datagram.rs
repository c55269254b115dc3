//! Datagrams of a session, and the queue that decides which goes next.
//!
//! Every QUIC DATAGRAM of a session's connection starts alike; the type says what follows. Integers are
//! big-endian, varints are RFC 9000 section 16's.
//!
//! ```text
//!   0               1               2               3
//!  +-------+-------+---------------+---------------+
//!  | ver=1 | type  | link sequence                 |
//!  +-------+-------+---------------+---------------+
//!  type 0, media:
//!  | flow (varint, 1..=2 bytes) | sequence (varint, 1..=4 bytes) | payload (0..=1150 bytes) ...
//!  type 1, feedback: see the feedback module
//! ```
//!
//! *Link sequence* counts all datagrams of one connection and wraps; feedback refers to it. *Sequence* counts
//! the packets of one flow over all connections, from 0; it makes a packet that comes twice one packet. It is
//! given when the packet leaves, so that what expired here is no loss there.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::{
    collections::VecDeque,
    sync::{Arc, OnceLock},
    time::Instant,
};

use bytes::Bytes;

use crate::{
    bwe::PACKET_OVERHEAD_BYTES,
    wire::{Reader, WireError, Writer},
};

/// Longest media payload, in bytes: fits every path with every header.
pub const MAX_MEDIA_PAYLOAD: usize = 1150;

/// Flows are numbered below this: two bytes on the wire.
pub const FLOW_END: u64 = 1 << 14;

/// Sequence numbers end here: four bytes on the wire, twelve days of a thousand packets a second.
pub const SEQUENCE_END: u64 = 1 << 30;

/// Datagrams that wait in one class of one connection. The encoder is throttled long before; this bounds memory.
pub const MAX_QUEUED: usize = 512;

/// So many classes do not wait for their pace.
const URGENT: usize = 2;

/// Version, type and link sequence.
const HEAD_LEN: usize = 3;

/// The same with a flow and a sequence number behind it, as most have.
const MEDIA_HEAD_LEN: usize = HEAD_LEN + 3;

const VERSION: u8 = 1;
const TYPE_MEDIA: u8 = 0;
const TYPE_FEEDBACK: u8 = 1;

/// What goes first when not everything can. Earlier ones overtake later ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Sound.
    Audio,
    /// What is asked of the other side about its pictures, and told of ours: little, and of use only soon.
    Request,
    /// What the other side asked for: all behind it waits there.
    Repair,
    /// Pictures that others are built on.
    VideoBase,
    /// Other pictures.
    Video,
    /// Everything else.
    Bulk,
}

impl Priority {
    /// All, first to last.
    pub const ALL: [Self; 6] = [
        Self::Audio,
        Self::Request,
        Self::Repair,
        Self::VideoBase,
        Self::Video,
        Self::Bulk,
    ];

    fn index(self) -> usize {
        match self {
            Self::Audio => 0,
            Self::Request => 1,
            Self::Repair => 2,
            Self::VideoBase => 3,
            Self::Video => 4,
            Self::Bulk => 5,
        }
    }
}

/// A datagram as received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// Low 16 bits of its place among the datagrams of its connection.
    pub link_sequence: u16,
    /// What it carries.
    pub content: Content,
}

/// What a datagram carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A media packet.
    Media {
        /// Which flow, below [`FLOW_END`].
        flow: u64,
        /// Its place in the flow, below [`SEQUENCE_END`].
        sequence: u64,
        /// At most [`MAX_MEDIA_PAYLOAD`] bytes.
        payload: Bytes,
    },
    /// A report, to be read by [`Feedback::decode`](crate::feedback::Feedback::decode).
    Feedback(Bytes),
}

impl Content {
    /// Length of the datagram that carries this, in bytes.
    #[must_use]
    pub fn datagram_len(&self) -> usize {
        let varint = |value: u64| match value {
            0..=0x3f => 1,
            0x40..=0x3fff => 2,
            0x4000.. => 4,
        };
        HEAD_LEN
            + match self {
                Self::Media {
                    flow,
                    sequence,
                    payload,
                } => varint(*flow) + varint(*sequence) + payload.len(),
                Self::Feedback(body) => body.len(),
            }
    }
}

impl Datagram {
    /// Reads a datagram.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(bytes: &Bytes) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let first = reader.u8()?;
        if first >> 4 != VERSION {
            return Err(WireError::Version(first >> 4));
        }
        let link_sequence = reader.u16()?;
        let rest = |reader: &Reader<'_>| bytes.slice(bytes.len() - reader.remaining()..);
        let content = match first & 0x0f {
            TYPE_MEDIA => {
                let flow = reader.varint()?;
                let sequence = reader.varint()?;
                if flow >= FLOW_END || sequence >= SEQUENCE_END {
                    return Err(WireError::Undefined);
                }
                if reader.remaining() > MAX_MEDIA_PAYLOAD {
                    return Err(WireError::TooLong);
                }
                Content::Media {
                    flow,
                    sequence,
                    payload: rest(&reader),
                }
            }
            TYPE_FEEDBACK => Content::Feedback(rest(&reader)),
            _undefined => return Err(WireError::Undefined),
        };
        Ok(Self {
            link_sequence,
            content,
        })
    }

    /// The datagram as it is sent.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(16 + MAX_MEDIA_PAYLOAD);
        match &self.content {
            Content::Media {
                flow,
                sequence,
                payload,
            } => {
                out.put_u8(VERSION << 4 | TYPE_MEDIA);
                out.put_u16(self.link_sequence);
                out.put_varint(*flow);
                out.put_varint(*sequence);
                out.put_bytes(payload);
            }
            Content::Feedback(body) => {
                out.put_u8(VERSION << 4 | TYPE_FEEDBACK);
                out.put_u16(self.link_sequence);
                out.put_bytes(body);
            }
        }
        out.into()
    }
}

/// A media packet that waits.
#[derive(Debug, Clone)]
pub struct Queued {
    /// Which flow.
    pub flow: u64,
    /// Its place in the flow, given when the first copy leaves.
    pub sequence: Arc<OnceLock<u64>>,
    /// At most [`MAX_MEDIA_PAYLOAD`] bytes.
    pub payload: Bytes,
    /// Its class.
    pub priority: Priority,
    /// After this it is worthless, and is not sent.
    pub expires: Instant,
    /// Since when it waits.
    pub since: Instant,
    /// Whether another connection's queue holds the original.
    pub copy: bool,
}

/// What waits for its turn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Bytes that it will take of the wire, whole packets.
    pub wire_bytes: usize,
    /// Since when the packet that has waited longest does.
    pub since: Option<Instant>,
    /// Whether nothing of it leaves for now, because the line may have become narrow.
    pub is_held: bool,
}

/// What a [`SendQueue`] dropped; copies are not counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueDrops {
    /// Expired before their turn.
    pub expired: u64,
    /// Oldest of a full class.
    pub overflow: u64,
}

/// The packets that wait for one connection.
#[derive(Debug, Default)]
pub struct SendQueue {
    classes: [VecDeque<Queued>; 6],
    drops: QueueDrops,
}

impl SendQueue {
    /// Adds a packet to the end of its class; the oldest of a full class gives way.
    pub fn push(&mut self, packet: Queued) {
        let Some(class) = self.classes.get_mut(packet.priority.index()) else {
            return;
        };
        if class.len() >= MAX_QUEUED
            && let Some(oldest) = class.pop_front()
        {
            self.drops.overflow += u64::from(!oldest.copy);
        }
        class.push_back(packet);
    }

    /// The next packet: of the first class that has one, the oldest that has not expired.
    pub fn pop(&mut self, now: Instant) -> Option<Queued> {
        self.pop_of(Priority::ALL.len(), now)
    }

    /// The same among what must not wait for its pace.
    pub fn pop_urgent(&mut self, now: Instant) -> Option<Queued> {
        self.pop_of(URGENT, now)
    }

    /// Of the first so many classes.
    fn pop_of(&mut self, classes: usize, now: Instant) -> Option<Queued> {
        for class in self.classes.iter_mut().take(classes) {
            while let Some(packet) = class.pop_front() {
                if packet.expires > now {
                    return Some(packet);
                }
                self.drops.expired += u64::from(!packet.copy);
            }
        }
        None
    }

    /// Whether something waits that must not wait for its pace.
    #[must_use]
    pub fn has_urgent(&self) -> bool {
        let mut urgent = self.classes.iter().take(URGENT);
        urgent.any(|class| !class.is_empty())
    }

    /// Whether nothing waits, expired packets included.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.classes.iter().all(VecDeque::is_empty)
    }

    /// Packets that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.classes.iter().map(VecDeque::len).sum()
    }

    /// What waits of a flow and has not expired. Whether it is held, others know.
    #[must_use]
    pub fn waiting(&self, now: Instant, flow: u64) -> Waiting {
        let mut waiting = Waiting::default();
        let packets = self.classes.iter().flatten();
        for packet in packets.filter(|packet| packet.flow == flow && packet.expires > now) {
            waiting.wire_bytes += MEDIA_HEAD_LEN + packet.payload.len() + PACKET_OVERHEAD_BYTES;
            waiting.since = Some(
                waiting
                    .since
                    .map_or(packet.since, |since| since.min(packet.since)),
            );
        }
        waiting
    }

    /// Takes back what waits of a flow and never left; how many packets that are.
    pub fn withdraw(&mut self, flow: u64) -> usize {
        let before = self.len();
        for class in &mut self.classes {
            class.retain(|packet| packet.flow != flow || packet.sequence.get().is_some());
        }
        before - self.len()
    }

    /// Packets that wait and of which no other connection has the original.
    #[must_use]
    pub fn originals(&self) -> u64 {
        let packets = self.classes.iter().flatten();
        packets.filter(|packet| !packet.copy).count() as u64
    }

    /// Takes over what waited in `other`, in front of what waits here. Copies of the same packet become one.
    pub fn take_over(&mut self, other: &mut Self) {
        self.drops.expired += std::mem::take(&mut other.drops.expired);
        self.drops.overflow += std::mem::take(&mut other.drops.overflow);
        for (class, from) in self.classes.iter_mut().zip(&mut other.classes) {
            while let Some(packet) = from.pop_back() {
                let same = class
                    .iter_mut()
                    .find(|here| Arc::ptr_eq(&here.sequence, &packet.sequence));
                if let Some(here) = same {
                    here.copy &= packet.copy;
                } else if class.len() < MAX_QUEUED {
                    class.push_front(packet);
                } else {
                    self.drops.overflow += u64::from(!packet.copy);
                }
            }
        }
    }

    /// What was dropped so far.
    #[must_use]
    pub fn drops(&self) -> QueueDrops {
        self.drops
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::runtime::TokioRuntime;

    fn now() -> Instant {
        quinn::Runtime::now(&TokioRuntime)
    }

    fn packet(priority: Priority, name: u8, expires: Instant) -> Queued {
        Queued {
            flow: 0,
            sequence: Arc::default(),
            payload: Bytes::copy_from_slice(&[name]),
            priority,
            expires,
            since: expires,
            copy: false,
        }
    }

    proptest! {
        #[test]
        fn datagrams_round_trip(
            link_sequence: u16,
            flow in 0..FLOW_END,
            sequence in 0..SEQUENCE_END,
            payload in prop::collection::vec(any::<u8>(), 0..=MAX_MEDIA_PAYLOAD),
            feedback: bool,
        ) {
            let payload = Bytes::from(payload);
            let content = if feedback {
                Content::Feedback(payload)
            } else {
                Content::Media { flow, sequence, payload }
            };
            let datagram = Datagram { link_sequence, content };
            let bytes = datagram.encode();
            prop_assert!(bytes.len() <= crate::endpoint::MAX_DATAGRAM);
            prop_assert_eq!(bytes.len(), datagram.content.datagram_len());
            prop_assert_eq!(Datagram::decode(&bytes), Ok(datagram));
        }

        #[test]
        fn garbage_never_panics(bytes: Vec<u8>) {
            let bytes = Bytes::from(bytes);
            if let Ok(datagram) = Datagram::decode(&bytes)
                && let Content::Media { payload, .. } = datagram.content
            {
                prop_assert!(payload.len() <= MAX_MEDIA_PAYLOAD);
            }
        }

        /// Against a list that is searched anew each time.
        #[test]
        fn the_queue_gives_the_best_class_then_the_oldest_and_nothing_expired(
            ops in prop::collection::vec(prop_oneof![
                (0usize..6, 1u64..60).prop_map(Some),
                Just(None),
            ], 0..200),
        ) {
            let mut at = now();
            let mut queue = SendQueue::default();
            let mut model: Vec<(Priority, usize, Instant)> = Vec::new();
            let mut expired = 0;
            for (id, op) in ops.into_iter().enumerate() {
                at += Duration::from_millis(10);
                if let Some((class, life)) = op {
                    let priority = Priority::ALL.get(class).copied().unwrap_or(Priority::Bulk);
                    let expires = at + Duration::from_millis(life);
                    let name = u8::try_from(id).unwrap_or(0);
                    queue.push(packet(priority, name, expires));
                    model.push((priority, id, expires));
                    continue;
                }
                let best = model.iter().filter(|entry| entry.2 > at).min().copied();
                // Whatever stood in front of the best one was thrown away.
                model.retain(|entry| {
                    let passed = entry.2 <= at && best.is_none_or(|best| (entry.0, entry.1) < (best.0, best.1));
                    expired += u64::from(passed);
                    !passed && Some(*entry) != best
                });
                let got = queue.pop(at).and_then(|packet| packet.payload.first().copied());
                prop_assert_eq!(got.map(usize::from), best.map(|entry| entry.1));
                prop_assert_eq!(queue.drops().expired, expired);
                prop_assert_eq!(queue.len(), model.len());
            }
        }
    }

    #[test]
    fn what_waits_is_told_and_taken_back_by_its_flow() {
        let begin = now();
        let at = |millis| begin + Duration::from_millis(millis);
        let mut queue = SendQueue::default();
        let of = |flow, priority, since, expires| Queued {
            flow,
            since,
            ..packet(priority, 0, expires)
        };
        queue.push(of(2, Priority::Video, at(10), at(200)));
        queue.push(of(2, Priority::VideoBase, at(0), at(500)));
        queue.push(of(3, Priority::Request, at(20), at(500)));
        let each = MEDIA_HEAD_LEN + 1 + PACKET_OVERHEAD_BYTES;
        let waiting = |packets, since| Waiting {
            wire_bytes: packets * each,
            since,
            is_held: false,
        };
        assert_eq!(queue.waiting(at(100), 2), waiting(2, Some(at(0))));
        assert_eq!(queue.waiting(at(300), 2), waiting(1, Some(at(0))));
        assert_eq!(queue.withdraw(2), 2);
        assert_eq!(queue.waiting(at(100), 2), Waiting::default());
        assert_eq!(queue.waiting(at(100), 3), waiting(1, Some(at(20))));
        assert_eq!(queue.withdraw(2), 0);
        assert_eq!(queue.len(), 1);
        assert_eq!(queue.drops(), QueueDrops::default());
    }

    #[test]
    fn what_waited_elsewhere_comes_first_and_copies_become_one() {
        let expires = now() + Duration::from_secs(1);
        let (mut here, mut there) = (SendQueue::default(), SendQueue::default());
        let both = packet(Priority::Audio, 2, expires);
        there.push(packet(Priority::Audio, 1, expires));
        there.push(both.clone());
        here.push(Queued { copy: true, ..both });
        here.push(packet(Priority::Audio, 3, expires));
        here.take_over(&mut there);
        assert!(there.is_empty());
        let mut names = Vec::new();
        while let Some(packet) = here.pop(now()) {
            assert!(!packet.copy);
            names.extend_from_slice(&packet.payload);
        }
        assert_eq!(names, [1, 2, 3]);
    }

    #[test]
    fn a_full_class_loses_its_oldest() {
        let mut queue = SendQueue::default();
        let expires = now() + Duration::from_secs(1);
        for name in 0..=MAX_QUEUED {
            queue.push(packet(
                Priority::Video,
                u8::try_from(name % 256).unwrap_or(0),
                expires,
            ));
        }
        queue.push(packet(Priority::Audio, 99, expires));
        assert_eq!(queue.drops().overflow, 1);
        assert_eq!(
            queue.pop(now()).map(|packet| packet.payload),
            Some(Bytes::from_static(&[99]))
        );
        assert_eq!(
            queue.pop(now()).map(|packet| packet.payload),
            Some(Bytes::from_static(&[1]))
        );
    }
}
