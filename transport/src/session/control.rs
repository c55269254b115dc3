//! Control messages: numbered by the session, delivered once and in order over whichever connections live.
//!
//! A message goes out on one connection. When that dies, or when no acknowledgement came for
//! [`RESEND_AFTER`] although another connection lives, it goes out on another. The receiver sorts by number and
//! drops what it has. It acknowledges what the application *took*, so the sender's bound bounds both sides.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use bytes::Bytes;

/// Messages that may be unacknowledged: call control needs a few, a burst of candidates a dozen.
pub const MAX_UNACKNOWLEDGED: usize = 256;

/// Bytes that may be unacknowledged.
pub(super) const MAX_UNACKNOWLEDGED_BYTES: usize = 1 << 20;

/// A message that is not acknowledged by then also goes by another connection: well above a round trip, well
/// below what a person who pressed a button waits for.
pub const RESEND_AFTER: Duration = Duration::from_millis(500);

/// Too much waits for acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

/// The other side did what no correct one does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Violation;

#[derive(Debug)]
struct Message {
    bytes: Bytes,
    /// When and where it went out last; not yet, or the connection died, otherwise.
    sent: Option<(u32, Instant)>,
    /// Living connections that carry or carried it.
    tried: BTreeSet<u32>,
}

/// The sending side.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    first: u64,
    messages: VecDeque<Message>,
    bytes: usize,
    pub(super) resent: u64,
}

impl Outbox {
    pub(super) fn push(&mut self, bytes: Bytes) -> Result<u64, Full> {
        let count = self.messages.len();
        if count >= MAX_UNACKNOWLEDGED || self.bytes + bytes.len() > MAX_UNACKNOWLEDGED_BYTES {
            return Err(Full);
        }
        self.bytes += bytes.len();
        self.messages.push_back(Message {
            bytes,
            sent: None,
            tried: BTreeSet::new(),
        });
        Ok(self.first + count as u64)
    }

    /// Everything before `next` has arrived.
    pub(super) fn acknowledged(&mut self, next: u64) -> Result<(), Violation> {
        if next > self.first + self.messages.len() as u64 {
            return Err(Violation);
        }
        while self.first < next
            && let Some(message) = self.messages.pop_front()
        {
            self.bytes -= message.bytes.len();
            self.first += 1;
        }
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub(super) fn connection_down(&mut self, connection: u32) {
        for message in &mut self.messages {
            message.tried.remove(&connection);
            if message.sent.is_some_and(|(on, _)| on == connection) {
                message.sent = None;
            }
        }
    }

    fn is_due(message: &Message, connection: u32, best: u32, now: Instant) -> bool {
        match message.sent {
            None => connection == best,
            Some((_, at)) => {
                !message.tried.contains(&connection)
                    && now.saturating_duration_since(at) >= RESEND_AFTER
            }
        }
    }

    /// Whether something should go out on `connection`; `best` is where new messages go.
    pub(super) fn has_due(&self, connection: u32, best: u32, now: Instant) -> bool {
        self.messages
            .iter()
            .any(|message| Self::is_due(message, connection, best, now))
    }

    /// The next message for `connection`.
    pub(super) fn poll(
        &mut self,
        connection: u32,
        best: u32,
        now: Instant,
    ) -> Option<(u64, Bytes)> {
        let (sequence, message) = (self.first..)
            .zip(&mut self.messages)
            .find(|(_, message)| Self::is_due(message, connection, best, now))?;
        if message.sent.is_some() || !message.tried.is_empty() {
            self.resent += 1;
        }
        message.sent = Some((connection, now));
        message.tried.insert(connection);
        Some((sequence, message.bytes.clone()))
    }

    /// When the next message goes another way, given the living connections. Messages that are due already wait
    /// for room on a connection, not for time.
    pub(super) fn deadline(&self, connections: &BTreeSet<u32>, now: Instant) -> Option<Instant> {
        self.messages
            .iter()
            .filter(|message| !connections.is_subset(&message.tried))
            .filter_map(|message| message.sent)
            .map(|(_, at)| at + RESEND_AFTER)
            .filter(|at| *at > now)
            .min()
    }
}

/// The receiving side.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    /// All before this were taken by the application.
    taken: u64,
    waiting: BTreeMap<u64, Bytes>,
    pub(super) duplicate: u64,
    pub(super) acknowledge: bool,
}

impl Inbox {
    pub(super) fn receive(&mut self, sequence: u64, bytes: Bytes) -> Result<(), Violation> {
        if sequence < self.taken || self.waiting.contains_key(&sequence) {
            self.duplicate += 1;
            // The other side may have lost the acknowledgement.
            self.acknowledge = true;
            return Ok(());
        }
        if sequence - self.taken >= MAX_UNACKNOWLEDGED as u64 {
            return Err(Violation);
        }
        self.waiting.insert(sequence, bytes);
        Ok(())
    }

    /// The next message in order.
    pub(super) fn take(&mut self) -> Option<Bytes> {
        let bytes = self.waiting.remove(&self.taken)?;
        self.taken += 1;
        self.acknowledge = true;
        Some(bytes)
    }

    pub(super) fn is_ready(&self) -> bool {
        self.waiting.contains_key(&self.taken)
    }

    /// What to acknowledge.
    pub(super) fn next(&self) -> u64 {
        self.taken
    }
}
