//! What a session is made of, what it tells and what it counts.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{FlowStats, LossStats, SessionConfig, SwitchReason};
use crate::{
    bwe::Estimate,
    connection::{CloseCode, ConnectionLost},
    endpoint::Endpoint,
    identity::{DeviceCertificate, DeviceId, DeviceKeys, UserId},
    sealed::SessionSecret,
};

/// What kind of way a path is; the better ones first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathKind {
    /// Direct, inside one local network.
    Lan,
    /// Direct.
    Direct,
    /// Through one or two relays.
    Relay,
    /// Through a TCP tunnel to a relay.
    Tcp,
}

/// A path of a session, by its place among all it ever had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathId(pub u32);

/// This device.
#[derive(Debug, Clone)]
pub struct LocalDevice {
    /// Its keys.
    pub keys: Arc<DeviceKeys>,
    /// What the person certified about them.
    pub certificate: DeviceCertificate,
}

/// The other device, as the caller of this module verified it (certificate and device log).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoteDevice {
    /// The person.
    pub user: UserId,
    /// The device.
    pub device: DeviceId,
    /// Its X25519 key, which it has to prove.
    pub noise_static: [u8; 32],
}

/// What a session is made of. Both sides have the same secret and call id.
#[derive(Debug, Clone)]
pub struct SessionParams {
    /// The port.
    pub endpoint: Endpoint,
    /// The session's secret.
    pub secret: SessionSecret,
    /// The call.
    pub call_id: [u8; 16],
    /// This device.
    pub local: LocalDevice,
    /// The other device.
    pub remote: RemoteDevice,
    /// Behaviour.
    pub config: SessionConfig,
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SessionEnd {
    /// Closed on this side.
    ClosedHere,
    /// Closed by the other side.
    ClosedByPeer(CloseCode),
    /// Nothing was heard on any connection for [`SessionConfig::lost_after`].
    Lost,
    /// No connection ever came up.
    Unreachable,
}

/// Media went another way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Switch {
    /// When.
    pub at: Instant,
    /// The path it went before.
    pub from: Option<PathId>,
    /// The path it goes now.
    pub to: PathId,
    /// Why.
    pub reason: SwitchReason,
    /// How long nothing had arrived by the old one, as far as this side knew. Zero for a free choice.
    pub gap: Duration,
}

/// Something happened to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEvent {
    /// A connection came up.
    PathUp {
        /// On this path.
        path: PathId,
        /// The path's kind.
        kind: PathKind,
        /// The connection's number.
        connection: u32,
    },
    /// A connection is gone.
    PathDown {
        /// On this path.
        path: PathId,
        /// The connection's number.
        connection: u32,
        /// Why.
        reason: ConnectionLost,
    },
    /// A connection has been silent for longer than its packets ever take, and may be gone. Told once until
    /// something passes there again.
    Silent {
        /// On this path.
        path: PathId,
        /// The path's kind.
        kind: PathKind,
        /// Whether media goes by it.
        active: bool,
    },
    /// Media goes another way.
    Switched(Switch),
    /// Nothing is heard on any connection; the session tries on.
    Reconnecting,
    /// Something is heard again.
    Reconnected {
        /// After so much silence.
        after: Duration,
    },
    /// It is over. The last event.
    Ended(SessionEnd),
}

/// Counters of one path, over all its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathStats {
    /// What kind of way it is.
    pub kind: PathKind,
    /// The other side's address there; a synthetic one behind a relay route.
    pub remote: Option<SocketAddr>,
    /// Whether a connection lives.
    pub up: bool,
    /// Connections that came up so far.
    pub connections: u64,
    /// Smoothed round trip of the living connection.
    pub rtt: Option<Duration>,
    /// The shortest that it had: that of the way itself, without what waits on it.
    pub min_rtt: Option<Duration>,
    /// Datagrams given to QUIC: media, copies and reports.
    pub sent_datagrams: u64,
    /// Their bytes, without QUIC's share.
    pub sent_bytes: u64,
    /// Datagrams received.
    pub received_datagrams: u64,
    /// Their bytes, without QUIC's share.
    pub received_bytes: u64,
    /// What the living connection carries, unless estimation is off.
    pub estimate: Option<Estimate>,
}

impl PathStats {
    pub(super) fn new(kind: PathKind) -> Self {
        Self {
            kind,
            remote: None,
            up: false,
            connections: 0,
            rtt: None,
            min_rtt: None,
            sent_datagrams: 0,
            sent_bytes: 0,
            received_datagrams: 0,
            received_bytes: 0,
            estimate: None,
        }
    }
}

/// Counters of a session since it was made.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SessionStats {
    /// Media packets sent, copies not counted.
    pub sent: u64,
    /// Copies sent by a second connection.
    pub sent_copies: u64,
    /// Media packets that expired before QUIC had room: not sent. The few that had their number already count as
    /// lost at the other side.
    pub expired: u64,
    /// Media packets that were taken back before they left.
    pub withdrawn: u64,
    /// Media packets dropped because their class of the queue was full.
    pub overflow: u64,
    /// Media packets dropped because no connection lived.
    pub no_path: u64,
    /// Media packets refused before the call was accepted.
    pub unopened: u64,
    /// Media packets received, copies not counted.
    pub received: u64,
    /// Media packets that should have come and did not, before any repair.
    pub lost: u64,
    /// Copies of packets that had come.
    pub duplicate: u64,
    /// Packets that came after one with a higher number.
    pub reordered: u64,
    /// Packets too far behind to be told from copies; dropped.
    pub late: u64,
    /// Media packets that came before the call was accepted here; dropped.
    pub early: u64,
    /// Media packets dropped because the application did not take them.
    pub overrun: u64,
    /// Media packets of more flows than allowed; dropped.
    pub excess_flow: u64,
    /// Datagrams that are none of ours; dropped.
    pub malformed: u64,
    /// Reports sent.
    pub reports_sent: u64,
    /// Reports received.
    pub reports_received: u64,
    /// Control messages taken from the application.
    pub control_sent: u64,
    /// Control messages sent again, on another connection.
    pub control_resent: u64,
    /// Control messages received, repeated ones not counted.
    pub control_received: u64,
    /// Control messages received again.
    pub control_duplicate: u64,
    /// Times that media went another way.
    pub switches: u64,
    /// The first 256 of those.
    pub switch_log: Vec<Switch>,
    /// The path that media goes by.
    pub active: Option<PathId>,
    /// What it carries.
    pub estimate: Option<Estimate>,
    /// How much of the sound we send arrives, as the other side tells: one flow of it.
    pub loss: LossStats,
    /// Every path it ever had a connection on.
    pub paths: BTreeMap<PathId, PathStats>,
    /// Every flow, both directions.
    pub flows: BTreeMap<u64, FlowStats>,
}
