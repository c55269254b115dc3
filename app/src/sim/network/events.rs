//! What happens to a network, and what is told of it.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use bytes::Bytes;
use quinn::udp::EcnCodepoint;

use super::SimNode;
use crate::sim::{
    link::{Conditions, Rate},
    nat::{NatConfig, Refused, SimNat},
};

/// One direction of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkId {
    /// From a node to the core.
    Uplink(SimNode),
    /// From the core to a node.
    Downlink(SimNode),
    /// From one node to another in the same network, in place of the uplink of the one and the downlink of the
    /// other. Not for what passes a translator.
    Pair {
        /// The sender.
        from: SimNode,
        /// The receiver.
        to: SimNode,
    },
}

/// Something that happens to the network at a given time.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// The node's link loses its carrier: nothing in, nothing out, and its addresses are gone.
    LinkDown(SimNode),
    /// The carrier is back.
    LinkUp(SimNode),
    /// The node dies: its tasks and sockets are gone at once, without a farewell.
    Kill(SimNode),
    /// The node starts again, with nothing running but its boot program.
    Restart(SimNode),
    /// Packets in this direction vanish.
    BlackHole {
        /// The sender.
        from: SimNode,
        /// The receiver.
        to: SimNode,
    },
    /// Packets in this direction pass again.
    EndBlackHole {
        /// The sender.
        from: SimNode,
        /// The receiver.
        to: SimNode,
    },
    /// No packet passes between these two groups, in either direction.
    Partition {
        /// The nodes on one side.
        left: Vec<SimNode>,
        /// The nodes on the other side.
        right: Vec<SimNode>,
    },
    /// Packets pass between these two groups again, in both directions.
    Mend {
        /// The nodes on one side.
        left: Vec<SimNode>,
        /// The nodes on the other side.
        right: Vec<SimNode>,
    },
    /// Ends all black holes and partitions.
    Heal,
    /// Nothing passes the node's link, though its carrier stays and nobody tells: the line behind the modem is
    /// dead. Neighbours behind the same translator are still there.
    UpstreamDown(SimNode),
    /// The line is back.
    UpstreamUp(SimNode),
    /// New conditions for one direction of a link.
    Conditions {
        /// The direction.
        link: LinkId,
        /// What holds from now on.
        conditions: Conditions,
    },
    /// A new rate for one direction of a link; the rest of its conditions stays.
    Rate {
        /// The direction.
        link: LinkId,
        /// What holds from now on.
        rate: Option<Rate>,
    },
    /// The node falls asleep, like a laptop whose lid is shut: none of its tasks runs, and what is sent to it is
    /// lost. Its clock goes on.
    Suspend(SimNode),
    /// The node wakes up: all that was due meanwhile happens now.
    Resume(SimNode),
    /// The node moves to other addresses, as when it changes networks.
    Addresses {
        /// The node.
        node: SimNode,
        /// All its addresses from now on, without loopback.
        addresses: Vec<IpAddr>,
    },
    /// The node moves into another network: from Wi-Fi to the telephone network, say. Sockets bound to
    /// unspecified addresses live on.
    Attach {
        /// The node.
        node: SimNode,
        /// The translator behind which it is from now on; none: the internet.
        behind: Option<SimNat>,
        /// All its addresses from now on, without loopback.
        addresses: Vec<IpAddr>,
    },
    /// The router loses its bindings, as by a short cut of power.
    NatReboot(SimNat),
    /// The router is off: nothing passes, and its bindings are gone.
    NatDown(SimNat),
    /// The router is on again.
    NatUp(SimNat),
    /// The router behaves otherwise from now on. Its bindings stay.
    NatConfig {
        /// The router.
        nat: SimNat,
        /// What holds from now on.
        config: NatConfig,
    },
    /// The router has other outside addresses from now on; all bindings are gone.
    NatAddresses {
        /// The router.
        nat: SimNat,
        /// All its outside addresses from now on.
        addresses: Vec<IpAddr>,
    },
}

/// Why a packet did not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropReason {
    /// The source has no address that fits, or nobody has the destination address.
    NoRoute,
    /// The link of the sender or the receiver is down.
    LinkDown,
    /// A black hole or partition lies between the two.
    Blocked,
    /// Larger than the MTU.
    TooBig,
    /// The queue of a rate-limited link was full.
    QueueFull,
    /// Lost by the link.
    Lost,
    /// The receiving node is dead.
    NodeDown,
    /// No socket is bound to the destination.
    NoSocket,
    /// The socket's receive queue was full.
    ReceiveQueueFull,
    /// The line behind the sender's or the receiver's modem is dead.
    UpstreamDown,
    /// A router that lets no UDP pass.
    UdpBlocked,
    /// It came to a router's outside address where nothing is mapped.
    NoMapping,
    /// A router or firewall that lets in only answers.
    Filtered,
    /// From inside a router to its outside address, and the router does not hairpin.
    HairpinRefused,
    /// A router whose table is full.
    NatFull,
    /// A router that is off.
    NatDown,
    /// The receiving node is asleep.
    Asleep,
}

impl DropReason {
    /// The reason in one word, as it stands in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoRoute => "no_route",
            Self::LinkDown => "link_down",
            Self::Blocked => "blocked",
            Self::TooBig => "too_big",
            Self::QueueFull => "queue_full",
            Self::Lost => "lost",
            Self::NodeDown => "node_down",
            Self::NoSocket => "no_socket",
            Self::ReceiveQueueFull => "receive_queue_full",
            Self::UpstreamDown => "upstream_down",
            Self::UdpBlocked => "udp_blocked",
            Self::NoMapping => "no_mapping",
            Self::Filtered => "filtered",
            Self::HairpinRefused => "hairpin_refused",
            Self::NatFull => "nat_full",
            Self::NatDown => "nat_down",
            Self::Asleep => "asleep",
        }
    }

    /// Stands for the reason in the trace hash.
    pub(super) fn code(self) -> u8 {
        match self {
            Self::NoRoute => 1,
            Self::LinkDown => 2,
            Self::Blocked => 3,
            Self::TooBig => 4,
            Self::QueueFull => 5,
            Self::Lost => 6,
            Self::NodeDown => 7,
            Self::NoSocket => 8,
            Self::ReceiveQueueFull => 9,
            Self::UpstreamDown => 10,
            Self::UdpBlocked => 11,
            Self::NoMapping => 12,
            Self::Filtered => 13,
            Self::HairpinRefused => 14,
            Self::NatFull => 15,
            Self::NatDown => 16,
            Self::Asleep => 17,
        }
    }
}

impl From<Refused> for DropReason {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::UdpBlocked => Self::UdpBlocked,
            Refused::NoMapping => Self::NoMapping,
            Refused::Filtered => Self::Filtered,
            Refused::Hairpin => Self::HairpinRefused,
            Refused::Full => Self::NatFull,
            Refused::Down => Self::NatDown,
        }
    }
}

/// A packet that has come to its end: in a socket's queue, or nowhere.
#[derive(Debug, Clone)]
pub struct PacketEvent {
    /// Time since the world began at which it arrived or was dropped.
    pub at: Duration,
    /// Time since the world began at which it was sent.
    pub sent_at: Duration,
    /// The sending node.
    pub from: SimNode,
    /// The node that has the destination address, if any has been found.
    pub to: Option<SimNode>,
    /// Source address, as the receiver sees it or where the packet was dropped.
    pub src: SocketAddr,
    /// Destination address, as the receiver sees it or where the packet was dropped.
    pub dst: SocketAddr,
    /// Source address as the sender wrote it, before any translator.
    pub sent_src: SocketAddr,
    /// Destination address as the sender wrote it, before any translator.
    pub sent_dst: SocketAddr,
    /// ECN mark (RFC 3168), passed on unchanged.
    pub ecn: Option<EcnCodepoint>,
    /// UDP payload.
    pub contents: Bytes,
    /// Whether this is the second copy of a duplicated packet.
    pub duplicate: bool,
    /// Why it was dropped; absent when it arrived.
    pub dropped: Option<DropReason>,
}

/// Counters of the whole network, or of one node: what it sent, what became of that, what it received.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkStats {
    /// Datagrams that were sent; second copies do not count.
    pub sent: u64,
    /// UDP payload bytes that were sent.
    pub sent_bytes: u64,
    /// Datagrams that reached a socket's queue, second copies included.
    pub delivered: u64,
    /// UDP payload bytes that reached a socket's queue.
    pub delivered_bytes: u64,
    /// Second copies that a link made.
    pub duplicated: u64,
    /// Datagrams that did not arrive, by reason; counted at the node that sent them.
    pub dropped: BTreeMap<DropReason, u64>,
}

impl NetworkStats {
    /// Datagrams dropped for this reason.
    pub fn dropped_by(&self, reason: DropReason) -> u64 {
        self.dropped.get(&reason).copied().unwrap_or(0)
    }
}

/// Digests of all that has happened on the network: equal for two runs exactly if they went alike.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TraceHash {
    /// SHA-256 over the time, addresses, size, ECN mark and fate of every packet.
    pub shape: [u8; 32],
    /// The same, and the bytes of every packet.
    pub bytes: [u8; 32],
}

impl fmt::Debug for TraceHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = |digest: &[u8; 32]| -> String {
            digest[..8]
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect()
        };
        f.debug_struct("TraceHash")
            .field("shape", &hex(&self.shape))
            .field("bytes", &hex(&self.bytes))
            .finish()
    }
}
