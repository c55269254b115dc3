//! quinn's transport parameters for the two kinds of connection.

use std::{sync::Arc, time::Duration};

use quinn_proto::{AckFrequencyConfig, IdleTimeout, TransportConfig, VarInt};

use super::window::{CongestionWindow, FixedWindowFactory, MediaRate, MediaWindowFactory};
use crate::noise::Pattern;

/// UDP payload of every QUIC packet: what RFC 9000 section 14 guarantees. With the 4 bytes of ChannelData and
/// IPv6's headers it is 1252 bytes, which every IPv6 link carries. No path is ever probed for more: a switch to
/// a narrower one would lose what was sized for the wider.
pub const MTU: u16 = 1200;

/// Largest application datagram at [`MTU`]: less 1 byte of header, 8 of connection id, 4 of packet number, 16
/// of tag, 9 of frame.
pub const MAX_DATAGRAM: usize = 1162;

/// quinn's bookkeeping for one queued datagram, in bytes; its size enters the send buffer's limit.
const QUEUED_OVERHEAD: usize = 32;

/// Round trip assumed before the first sample: the first flight is repeated after three of it. RFC 9002 proposes
/// 333 ms, a second until the repetition; a person waits here, and a spurious repetition costs two packets.
const INITIAL_RTT: Duration = Duration::from_millis(100);

/// The same between two devices. The caller's first flight may leave before the callee has let it in: the callee's
/// relay is asked for that channel, or its check of the caller's address answered, while the flight is on its way.
/// What is lost so is repeated after 100 ms, 300 ms, 700 ms; on a line with a longer round trip than that, the
/// repetitions cost four packets.
///
/// Where a supernode is farther than that, a peer is too: the way there may be long, or a queue before it full, which
/// repetitions would only feed.
const PEER_INITIAL_RTT: Duration = Duration::from_millis(33);
const PEER_INITIAL_RTT_MAX: Duration = Duration::from_millis(333);

/// A silent peer connection is given up. Media has left it long before; the session dials anew.
pub const PEER_IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// The session's feedback keeps a connection alive by itself; this covers the time before it starts.
const PEER_KEEP_ALIVE: Duration = Duration::from_secs(2);

/// A silent connection to a supernode is given up.
pub const NODE_IDLE_TIMEOUT: Duration = Duration::from_secs(45);
/// Keeps NAT bindings open: RFC 4787 asks for 2 minutes, many home routers keep UDP for 30 s. Sent by the client
/// alone; a supernode with 100 000 clients needs no timers for it.
const NODE_KEEP_ALIVE: Duration = Duration::from_secs(15);
/// The same towards a home. A home that restarted cannot say so before it is spoken to, and until then nobody
/// reaches this device there. 100 000 devices make 25 000 small packets per second of it.
const HOME_KEEP_ALIVE: Duration = Duration::from_secs(4);

/// Streams that a peer may have open at once, each way. A session needs one; files have a few of their own.
const PEER_STREAMS: u32 = 16;
/// Pushes that a supernode may have open at a client.
const NODE_STREAMS: u32 = 64;
/// Requests that a client may have open at a supernode, which answers one after the other. quinn keeps places for all of them,
/// in tables whose size is a power of two: with these and a push that is on its way, seven of eight are in use, with one more they
/// would be twice as large.
const NODE_REQUESTS: u32 = 6;

/// Packets that QUIC need not acknowledge at once, between devices: its own rule is every second one, which costs
/// as many packets as the sound itself has. The packets that go the other way every 20 ms take the acknowledgements
/// along; the session has its own reports to judge the line by.
const PEER_ACK_THRESHOLD: u32 = 10;

const KIB: u32 = 1024;

fn common() -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .initial_mtu(MTU)
        .min_mtu(MTU)
        .mtu_discovery_config(None)
        .initial_rtt(INITIAL_RTT)
        // The spin bit tells observers the round trip.
        .allow_spin(false)
        .datagram_receive_buffer_size(Some(256 * 1024))
        // One full datagram waits in quinn, and at most one more for its place: what waits longer waits in our
        // own queue, where it can expire and be overtaken.
        .datagram_send_buffer_size(MAX_DATAGRAM + QUEUED_OVERHEAD);
    config
}

fn idle(timeout: Duration) -> Option<IdleTimeout> {
    IdleTimeout::try_from(timeout).ok()
}

/// Between two devices. A supernode is `home_rtt` away.
pub(super) fn peer(
    rate: &Arc<MediaRate>,
    window: CongestionWindow,
    rare_acks: bool,
    home_rtt: Duration,
) -> Arc<TransportConfig> {
    let mut config = common();
    if rare_acks {
        let mut acks = AckFrequencyConfig::default();
        acks.ack_eliciting_threshold(VarInt::from_u32(PEER_ACK_THRESHOLD));
        config.ack_frequency_config(Some(acks));
    }
    config
        .initial_rtt(home_rtt.clamp(PEER_INITIAL_RTT, PEER_INITIAL_RTT_MAX))
        .max_idle_timeout(idle(PEER_IDLE_TIMEOUT))
        .keep_alive_interval(Some(PEER_KEEP_ALIVE))
        .max_concurrent_bidi_streams(VarInt::from_u32(PEER_STREAMS))
        .max_concurrent_uni_streams(VarInt::from_u32(PEER_STREAMS))
        .stream_receive_window(VarInt::from_u32(256 * KIB))
        .receive_window(VarInt::from_u32(1024 * KIB))
        .send_window(u64::from(1024 * KIB));
    match window {
        CongestionWindow::Follows => {
            let follows = Arc::new(MediaWindowFactory(Arc::clone(rate)));
            config.congestion_controller_factory(follows);
        }
        CongestionWindow::Fixed(bytes) => {
            config.congestion_controller_factory(Arc::new(FixedWindowFactory(bytes)));
        }
    }
    Arc::new(config)
}

fn node() -> TransportConfig {
    let mut config = common();
    config
        .max_idle_timeout(idle(NODE_IDLE_TIMEOUT))
        .max_concurrent_bidi_streams(VarInt::from_u32(NODE_STREAMS))
        .max_concurrent_uni_streams(VarInt::from_u32(NODE_STREAMS))
        .stream_receive_window(VarInt::from_u32(64 * KIB))
        .receive_window(VarInt::from_u32(256 * KIB))
        .send_window(u64::from(256 * KIB));
    config
}

/// From a device to a supernode; with a name it is its home.
pub(super) fn node_client(pattern: Pattern) -> Arc<TransportConfig> {
    let mut config = node();
    config.keep_alive_interval(Some(match pattern {
        Pattern::IkHfs => HOME_KEEP_ALIVE,
        Pattern::NkHfs | Pattern::IkHfsPsk0 => NODE_KEEP_ALIVE,
    }));
    Arc::new(config)
}

/// From a supernode to its clients.
///
/// What it holds counts a hundred thousand times. Packets for clients are few and small, so none are sent in trains,
/// for which quinn keeps ten packets' room with each connection; and clients push nothing.
pub(super) fn node_server() -> Arc<TransportConfig> {
    let mut config = node();
    config
        .enable_segmentation_offload(false)
        .max_concurrent_bidi_streams(VarInt::from_u32(NODE_REQUESTS))
        .max_concurrent_uni_streams(VarInt::from_u32(0));
    Arc::new(config)
}
