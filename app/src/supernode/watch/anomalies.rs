//! What is out of the ordinary, found in counters, and a log of it that does not grow.
//!
//! [`Watcher::look`] compares counters with those of the look before. An anomaly is told once when it begins; while it
//! lasts, and for [`CALM`] after it, it is not told again, so that a flood of packets is no flood of lines.

use std::collections::VecDeque;

use ahoy_nat::supernode::protocol::Refusal;
use serde::Serialize;

use crate::supernode::Status;

/// Seconds between two looks.
pub const LOOK_SECS: u64 = 5;
/// Looks without it after which an anomaly is over.
pub const CALM: u32 = 12;
/// Anomalies that are kept; older ones go.
pub const MAX_KEPT: usize = 256;

/// Handshakes in one look that had to prove their address or found no place: a supernode that restarts has its clients
/// back faster than that, but does not ask them for so many.
const HANDSHAKE_FLOOD: u64 = 200;
/// Requests in one look that came too fast. A client that is only eager is told once or twice.
const REQUEST_FLOOD: u64 = 100;
/// Connections in one look for which there was no room.
const ROOM_FLOOD: u64 = 20;
/// Envelopes of strangers in one look for which work was asked first: none at a home that has room.
const STRANGER_FLOOD: u64 = 20;
/// Packets in one look that are nothing anybody asked for.
const PACKET_FLOOD: u64 = 5000;
/// Of the relayed packets of one look, the part that is lost here from which on calls suffer: a twentieth.
const RELAY_LOSS_PART: u64 = 20;
/// Fewer packets tell nothing: four calls for a second.
const RELAY_LOSS_LEAST: u64 = 200;

/// What can be out of the ordinary at a supernode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Anomaly {
    /// More handshakes than it takes without asking for proof.
    HandshakeFlood,
    /// Connections that ask faster than they may.
    RequestFlood,
    /// No room for those who come.
    NoRoom,
    /// Strangers who write and call so much that they have to work for it.
    StrangerFlood,
    /// Packets that nobody asked for.
    PacketFlood,
    /// The relay loses what it should carry.
    RelayLoss,
}

impl Anomaly {
    /// Every kind, in the order of declaration.
    pub const ALL: [Self; 6] = [
        Self::HandshakeFlood,
        Self::RequestFlood,
        Self::NoRoom,
        Self::StrangerFlood,
        Self::PacketFlood,
        Self::RelayLoss,
    ];

    /// Its name where anomalies are counted.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HandshakeFlood => "handshake_flood",
            Self::RequestFlood => "request_flood",
            Self::NoRoom => "no_room",
            Self::StrangerFlood => "stranger_flood",
            Self::PacketFlood => "packet_flood",
            Self::RelayLoss => "relay_loss",
        }
    }

    /// For a person; `much` is how often in one look.
    fn text(self, much: u64) -> String {
        match self {
            Self::HandshakeFlood => {
                format!("a rush of {much} handshakes had to prove their addresses or wait")
            }
            Self::RequestFlood => format!("{much} requests came faster than they may"),
            Self::NoRoom => format!("no room for {much} connections"),
            Self::StrangerFlood => {
                format!(
                    "{much} envelopes of strangers came while they take more than half of their room"
                )
            }
            Self::PacketFlood => format!("{much} packets came that nobody asked for"),
            Self::RelayLoss => format!("the relay lost {much} packets of calls"),
        }
    }
}

/// Something that was out of the ordinary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Happening {
    /// When it was noticed, milliseconds since 1970.
    pub at_millis: u64,
    /// What.
    pub kind: Anomaly,
    /// For a person.
    pub text: String,
}

/// The counters that are compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counted {
    handshakes: u64,
    too_fast: u64,
    sent_away: u64,
    strangers: u64,
    unwanted: u64,
    relayed: u64,
    relay_lost: u64,
}

impl Counted {
    fn of(status: &Status) -> Self {
        use ahoy_nat::supernode::relay::counters::Drop;
        let node = &status.rendezvous;
        let mut counted = Self {
            too_fast: node.refusals.of(Refusal::TooFast),
            sent_away: node.registry.sent_away,
            strangers: node.puzzles.asked,
            ..Self::default()
        };
        for port in &status.ports {
            counted.handshakes += port.endpoint.retries_sent + port.endpoint.overloaded;
            let dropped = &port.mux.dropped;
            counted.unwanted += dropped.not_admitted
                + dropped.foreign_version
                + dropped.short_connection_id
                + dropped.token_without_retry
                + dropped.malformed
                + dropped.other_queue_full;
        }
        for relay in &node.relays {
            let traffic = &relay.traffic;
            counted.relayed += traffic.packets_from_client + traffic.packets_to_client;
            counted.relay_lost += relay.dropped(Drop::OverRate) + relay.dropped(Drop::SendFailed);
            counted.unwanted += relay.dropped(Drop::Malformed)
                + relay.dropped(Drop::NoAllocation)
                + relay.dropped(Drop::ReplyLimit);
        }
        counted
    }

    /// How much of `anomaly` there was since `before`; `None` for no more than is usual.
    fn since(&self, before: &Self, anomaly: Anomaly) -> Option<u64> {
        let more = |of: fn(&Self) -> u64| of(self).saturating_sub(of(before));
        let above = |much: u64, usual: u64| (much >= usual).then_some(much);
        match anomaly {
            Anomaly::HandshakeFlood => above(more(|c| c.handshakes), HANDSHAKE_FLOOD),
            Anomaly::RequestFlood => above(more(|c| c.too_fast), REQUEST_FLOOD),
            Anomaly::NoRoom => above(more(|c| c.sent_away), ROOM_FLOOD),
            Anomaly::StrangerFlood => above(more(|c| c.strangers), STRANGER_FLOOD),
            Anomaly::PacketFlood => above(more(|c| c.unwanted), PACKET_FLOOD),
            Anomaly::RelayLoss => {
                let (lost, carried) = (more(|c| c.relay_lost), more(|c| c.relayed));
                let enough = lost + carried >= RELAY_LOSS_LEAST;
                (enough && lost * RELAY_LOSS_PART >= lost + carried).then_some(lost)
            }
        }
    }
}

/// Compares, and remembers what was found.
#[derive(Debug, Default)]
pub struct Watcher {
    before: Option<Counted>,
    /// By kind, looks until it would be told again.
    calm_in: [u32; Anomaly::ALL.len()],
    told: [u64; Anomaly::ALL.len()],
    kept: VecDeque<Happening>,
}

impl Watcher {
    /// Looks at the counters; to be called every [`LOOK_SECS`]. What begins is returned, too.
    pub fn look(&mut self, now_millis: u64, status: &Status) -> Vec<Happening> {
        let counted = Counted::of(status);
        let Some(before) = self.before.replace(counted) else {
            return Vec::new();
        };
        let mut begun = Vec::new();
        let memories = self.calm_in.iter_mut().zip(&mut self.told);
        for (kind, (calm_in, told)) in Anomaly::ALL.into_iter().zip(memories) {
            let Some(much) = counted.since(&before, kind) else {
                *calm_in = calm_in.saturating_sub(1);
                continue;
            };
            if *calm_in == 0 {
                *told += 1;
                begun.push(Happening {
                    at_millis: now_millis,
                    kind,
                    text: kind.text(much),
                });
            }
            *calm_in = CALM;
        }
        self.kept.extend(begun.iter().cloned());
        while self.kept.len() > MAX_KEPT {
            self.kept.pop_front();
        }
        begun
    }

    /// What was found, the newest first.
    pub fn happenings(&self) -> impl Iterator<Item = &Happening> {
        self.kept.iter().rev()
    }

    /// How often each began.
    pub fn told(&self) -> impl Iterator<Item = (Anomaly, u64)> {
        Anomaly::ALL.into_iter().zip(self.told)
    }
}
