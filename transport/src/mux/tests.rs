use std::task::Waker;

use proptest::prelude::*;

use super::*;
use crate::runtime::TokioRuntime;

const VERSION: u32 = 0xa401_0001;

type Packet = (SocketAddr, Option<usize>, Vec<u8>);

/// An inner socket: what it received waits in `incoming`, what was sent lies in `sent`.
#[derive(Debug, Default)]
struct FakeSocket {
    incoming: Mutex<VecDeque<(SocketAddr, usize, Vec<u8>)>>,
    sent: Mutex<Vec<Packet>>,
    refuse: Mutex<Option<io::ErrorKind>>,
    v6: bool,
}

#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncUdpSocket for FakeSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if let Some(kind) = *self.refuse.lock().unwrap() {
            return Err(kind.into());
        }
        self.sent.lock().unwrap().push((
            transmit.destination,
            transmit.segment_size,
            transmit.contents.to_vec(),
        ));
        Ok(())
    }

    fn poll_recv(
        &self,
        _cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let Some((addr, stride, bytes)) = self.incoming.lock().unwrap().pop_front() else {
            return Poll::Pending;
        };
        bufs[0][..bytes.len()].copy_from_slice(&bytes);
        metas[0] = RecvMeta {
            addr,
            len: bytes.len(),
            stride,
            ecn: None,
            dst_ip: None,
        };
        Poll::Ready(Ok(1))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(if self.v6 {
            "[::]:5000".parse().unwrap()
        } else {
            "0.0.0.0:5000".parse().unwrap()
        })
    }
}

fn mux(config: MuxConfig) -> (Arc<FakeSocket>, Arc<MuxSocket>) {
    let socket = Arc::new(FakeSocket::default());
    let mux = MuxSocket::new(Arc::new(TokioRuntime), socket.clone(), config).unwrap();
    (socket, mux)
}

fn open() -> MuxConfig {
    MuxConfig {
        admission: false,
        ..MuxConfig::peer(VERSION)
    }
}

/// Everything quinn gets when `train` arrives: source and datagram, in order.
fn receive(
    socket: &FakeSocket,
    mux: &MuxSocket,
    from: SocketAddr,
    stride: usize,
    train: &[u8],
) -> Vec<(SocketAddr, Vec<u8>)> {
    socket
        .incoming
        .lock()
        .unwrap()
        .push_back((from, stride, train.to_vec()));
    let mut storage = vec![vec![0; 65_536]; 2];
    let mut got = Vec::new();
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        let mut bufs: Vec<_> = storage.iter_mut().map(|buf| IoSliceMut::new(buf)).collect();
        let mut metas = [RecvMeta::default(); 2];
        let Poll::Ready(count) = mux.poll_recv(&mut cx, &mut bufs, &mut metas) else {
            return got;
        };
        for (meta, buf) in metas.iter().zip(&bufs).take(count.unwrap()) {
            let mut rest = &buf[..meta.len];
            while !rest.is_empty() {
                let (datagram, behind) = rest.split_at(meta.stride.min(rest.len()));
                got.push((canonical(meta.addr), datagram.to_vec()));
                rest = behind;
            }
        }
    }
}

fn other(mux: &MuxSocket) -> Option<OtherDatagram> {
    mux.lock()
        .other
        .pop_front()
        .map(|(datagram, _tunnel)| datagram)
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn short_header(fill: u8) -> Vec<u8> {
    let mut packet = vec![0x45, 0x80 | fill];
    packet.resize(40, fill);
    packet
}

fn initial(version: u32, cid_len: u8, token: &[u8]) -> Vec<u8> {
    let mut packet = vec![0xc0];
    packet.extend_from_slice(&version.to_be_bytes());
    packet.push(cid_len);
    packet.extend(std::iter::repeat_n(0x99, usize::from(cid_len)));
    packet.push(0);
    packet.push(u8::try_from(token.len()).unwrap());
    packet.extend_from_slice(token);
    packet.resize(1200, 0);
    packet
}

fn channel_data(channel: u16, data: &[u8]) -> Vec<u8> {
    let mut packet = channel_header(channel, u16::try_from(data.len()).unwrap()).to_vec();
    packet.extend_from_slice(data);
    packet
}

#[test]
fn a_train_of_stun_quic_and_channel_data_is_sorted_datagram_by_datagram() {
    let (socket, mux) = mux(open());
    let server = address("192.0.2.1:3478");
    let route = RelayRoute {
        server,
        channel: 0x4001,
        peer: address("198.51.100.1:9"),
    };
    let relayed = mux.add_relay_route(route).unwrap();
    let mut stun = vec![0, 1];
    stun.resize(40, 7);
    let inside = &short_header(9)[..36];
    let train = [
        stun.clone(),
        short_header(1),
        channel_data(0x4001, inside),
        short_header(2),
    ]
    .concat();
    let got = receive(&socket, &mux, server, 40, &train);
    assert_eq!(
        got,
        vec![
            (server, short_header(1)),
            (server, short_header(2)),
            (relayed, inside.to_vec()),
        ]
    );
    assert_eq!(other(&mux).unwrap().bytes, stun);
    let stats = mux.stats();
    assert_eq!(
        (stats.received, stats.received_quic, stats.received_relayed),
        (4, 3, 1)
    );
    assert_eq!(stats.received_other, 1);
    assert_eq!(stats.dropped, MuxDrops::default());
}

#[test]
fn a_train_through_the_relay_keeps_its_shape() {
    let (socket, mux) = mux(open());
    let server = address("192.0.2.1:3478");
    let route = RelayRoute {
        server,
        channel: 0x4001,
        peer: address("198.51.100.1:9"),
    };
    let relayed = mux.add_relay_route(route).unwrap();
    let packets: Vec<Vec<u8>> = (0..5).map(short_header).collect();
    let last = vec![0x41, 0x90, 1];
    let mut train: Vec<u8> = packets
        .iter()
        .flat_map(|data| channel_data(0x4001, data))
        .collect();
    train.extend(channel_data(0x4001, &last));
    let got = receive(&socket, &mux, server, 44, &train);
    let expected: Vec<_> = packets
        .iter()
        .chain([&last])
        .map(|packet| (relayed, packet.clone()))
        .collect();
    assert_eq!(got, expected);
}

#[test]
fn what_quic_sends_to_a_relayed_peer_leaves_as_channel_data() {
    let (socket, mux) = mux(open());
    let server = address("192.0.2.1:3478");
    let route = RelayRoute {
        server,
        channel: 0x4102,
        peer: address("198.51.100.1:9"),
    };
    let relayed = mux.add_relay_route(route).unwrap();
    let transmit = Transmit {
        destination: relayed,
        ecn: None,
        contents: &[1, 2, 3, 4, 5],
        segment_size: Some(2),
        src_ip: None,
    };
    mux.try_send(&transmit).unwrap();
    let sent = socket.sent.lock().unwrap().pop().unwrap();
    let bytes = [
        channel_data(0x4102, &[1, 2]),
        channel_data(0x4102, &[3, 4]),
        channel_data(0x4102, &[5]),
    ]
    .concat();
    assert_eq!(sent, (server, Some(6), bytes));
    assert_eq!(mux.stats().sent_relayed, 3);
    // A route that is gone is loss, not an error.
    mux.remove_relay_route(relayed);
    mux.try_send(&transmit).unwrap();
    assert!(socket.sent.lock().unwrap().is_empty());
    assert_eq!(mux.stats().dropped.no_route, 1);
}

#[test]
fn unreachable_addresses_look_like_loss_and_only_a_full_socket_is_an_error() {
    let (socket, mux) = mux(open());
    let transmit = |destination| Transmit {
        destination,
        ecn: None,
        contents: &[1],
        segment_size: None,
        src_ip: None,
    };
    mux.try_send(&transmit(address("[2001:db8::1]:9"))).unwrap();
    assert_eq!(mux.stats().dropped.no_route, 1);
    *socket.refuse.lock().unwrap() = Some(io::ErrorKind::NetworkUnreachable);
    mux.try_send(&transmit(address("192.0.2.7:9"))).unwrap();
    assert_eq!(mux.stats().dropped.send_failed, 1);
    *socket.refuse.lock().unwrap() = Some(io::ErrorKind::WouldBlock);
    let error = mux.try_send(&transmit(address("192.0.2.7:9"))).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    assert_eq!(mux.stats().sent, 0);
}

#[tokio::test]
async fn what_a_full_socket_did_not_take_is_sent_when_it_does_and_little_of_it_waits() {
    let (socket, mux) = mux(open());
    let to = address("192.0.2.7:9");
    *socket.refuse.lock().unwrap() = Some(io::ErrorKind::WouldBlock);
    for n in 0..MAX_WAITING_OTHER + 3 {
        mux.send_other(to, &[0, u8::try_from(n).unwrap()]);
    }
    assert_eq!(mux.stats().dropped.send_blocked, 3);
    assert_eq!(mux.stats().sent, 0);
    *socket.refuse.lock().unwrap() = None;
    while mux.stats().sent_other < MAX_WAITING_OTHER as u64 {
        tokio::task::yield_now().await;
    }
    let sent = std::mem::take(&mut *socket.sent.lock().unwrap());
    assert_eq!(sent.len(), MAX_WAITING_OTHER);
    for (n, (destination, _segments, bytes)) in sent.into_iter().enumerate() {
        assert_eq!(
            (destination, bytes),
            (to, vec![0, u8::try_from(n).unwrap()])
        );
    }
    // The next one needs nobody's help, and neither does the one after another pause.
    mux.send_other(to, &[1]);
    *socket.refuse.lock().unwrap() = Some(io::ErrorKind::WouldBlock);
    mux.send_other(to, &[2]);
    *socket.refuse.lock().unwrap() = None;
    while mux.stats().sent_other < MAX_WAITING_OTHER as u64 + 2 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_first_datagram_of_a_fresh_port_arrives() {
    let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime);
    let port = || {
        let socket = runtime.bind_udp(address("127.0.0.1:0")).unwrap();
        MuxSocket::new(Arc::clone(&runtime), socket, open()).unwrap()
    };
    let receiver = port();
    for n in 0..10 {
        let sender = port();
        sender.send_other(receiver.local_addr(), &[0, n]);
        while sender.stats().sent_other == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(sender.stats().dropped, MuxDrops::default());
    }
}

#[test]
fn a_side_port_stands_for_the_port_towards_one_address_alone() {
    let (socket, mux) = mux(open());
    let [peer, other] = ["192.0.2.1:9", "192.0.2.1:10"].map(address);
    let side = Arc::new(FakeSocket::default());
    let lease = mux.add_side_port(peer, side.clone()).unwrap();
    assert_eq!(lease.remote(), peer);

    for to in [peer, other] {
        mux.send_other(to, b"check");
    }
    let sent_to = |socket: &FakeSocket| -> Vec<SocketAddr> {
        let mut sent = socket.sent.lock().unwrap();
        sent.drain(..).map(|(to, ..)| to).collect()
    };
    assert_eq!(
        (sent_to(&side), sent_to(&socket)),
        (vec![peer], vec![other])
    );
    // A full one loses the packet: nobody waits for it.
    *side.refuse.lock().unwrap() = Some(io::ErrorKind::WouldBlock);
    mux.send_other(peer, b"check");
    assert_eq!(mux.stats().dropped.send_failed, 1);
    *side.refuse.lock().unwrap() = None;

    // What comes in by either is sorted alike, and strangers are not heard by the side port.
    let packet = short_header(1);
    let arrives = |from| {
        let mut incoming = side.incoming.lock().unwrap();
        incoming.push_back((from, packet.len(), packet.clone()));
    };
    arrives(other);
    arrives(peer);
    let got = receive(&socket, &mux, other, packet.len(), &packet);
    assert_eq!(got.len(), 2);
    assert!(got.contains(&(peer, packet.clone())) && got.contains(&(other, packet.clone())));
    assert_eq!(mux.stats().dropped.not_admitted, 1);

    // A newer one takes its place, which the older one's end does not undo.
    let newer = Arc::new(FakeSocket::default());
    let newer_lease = mux.add_side_port(peer, newer.clone()).unwrap();
    drop(lease);
    mux.send_other(peer, b"check");
    assert_eq!(sent_to(&newer), [peer]);
    drop(newer_lease);
    mux.send_other(peer, b"check");
    assert_eq!(sent_to(&socket), [peer]);

    let leases: Vec<_> = (1..)
        .map_while(|port| {
            let remote = SocketAddr::from(([192, 0, 2, 3], port));
            mux.add_side_port(remote, Arc::new(FakeSocket::default()))
                .ok()
        })
        .collect();
    assert_eq!(leases.len(), MAX_SIDE_PORTS);
}

#[test]
fn quic_comes_in_only_from_admitted_addresses_and_relay_routes() {
    let (socket, mux) = mux(MuxConfig::peer(VERSION));
    let friend = address("192.0.2.7:9");
    assert!(receive(&socket, &mux, friend, 40, &short_header(1)).is_empty());
    assert_eq!(mux.stats().dropped.not_admitted, 1);
    mux.admit(friend).unwrap();
    // As a dual-stack socket reports it.
    let spelled = address("[::ffff:192.0.2.7]:9");
    mux.admit(spelled).unwrap();
    mux.revoke(friend);
    assert_eq!(
        receive(&socket, &mux, spelled, 40, &short_header(1)).len(),
        1
    );
    mux.revoke(spelled);
    assert!(receive(&socket, &mux, friend, 40, &short_header(1)).is_empty());
    // A host on a local network that takes a synthetic address gets nowhere.
    let route = RelayRoute {
        server: friend,
        channel: 0x4000,
        peer: friend,
    };
    let relayed = mux.add_relay_route(route).unwrap();
    assert!(receive(&socket, &mux, relayed, 40, &short_header(1)).is_empty());
    let through = channel_data(0x4000, &short_header(1));
    assert_eq!(receive(&socket, &mux, friend, 44, &through).len(), 1);
    assert!(receive(&socket, &mux, friend, 44, &channel_data(0x4001, &[1; 40])).is_empty());
    assert_eq!(mux.stats().dropped.unknown_channel, 1);
}

#[test]
fn what_quinn_would_answer_unasked_is_dropped_first() {
    let (socket, mux) = mux(open());
    let from = address("192.0.2.7:9");
    let receive = |packet: &[u8]| receive(&socket, &mux, from, packet.len(), packet).len();
    assert_eq!(receive(&initial(VERSION, 20, &[])), 1);
    assert_eq!(receive(&initial(1, 20, &[])), 0);
    assert_eq!(receive(&initial(0, 8, &[])), 0);
    assert_eq!(mux.stats().dropped.foreign_version, 2);
    assert_eq!(receive(&initial(VERSION, 4, &[])), 0);
    assert_eq!(mux.stats().dropped.short_connection_id, 1);
    assert_eq!(receive(&initial(VERSION, 8, &[5; 30])), 0);
    assert_eq!(mux.stats().dropped.token_without_retry, 1);
    assert_eq!(receive(&[0xc0, 1]), 0);
    assert_eq!(mux.stats().dropped.malformed, 1);
    // Our own Retry makes the token welcome, from that source.
    let mut retry = initial(VERSION, 8, &[]);
    retry[0] = 0xf0;
    let transmit = Transmit {
        destination: from,
        ecn: None,
        contents: &retry,
        segment_size: None,
        src_ip: None,
    };
    mux.try_send(&transmit).unwrap();
    assert_eq!(receive(&initial(VERSION, 8, &[5; 30])), 1);
}

#[test]
fn the_other_queue_is_bounded_and_counts_what_it_loses() {
    let (socket, mux) = mux(MuxConfig {
        other_queue: 2,
        ..open()
    });
    for _ in 0..3 {
        receive(&socket, &mux, address("192.0.2.7:9"), 20, &[0; 20]);
    }
    assert_eq!(mux.stats().received_other, 2);
    assert_eq!(mux.stats().dropped.other_queue_full, 1);
}

#[test]
fn channel_data_of_our_own_relays_clients_goes_to_the_relay() {
    let (socket, mux) = mux(MuxConfig::supernode(VERSION));
    let client = address("192.0.2.7:9");
    mux.add_channel_source(client).unwrap();
    let packet = channel_data(0x4000, &[1; 8]);
    assert!(receive(&socket, &mux, client, 12, &packet).is_empty());
    assert_eq!(other(&mux).unwrap().bytes, packet);
    mux.remove_channel_source(client);
    assert_eq!(receive(&socket, &mux, client, 12, &packet).len(), 1);
}

proptest! {
    /// Whatever arrives, each datagram goes to exactly one place.
    #[test]
    fn every_datagram_is_accounted_for(
        trains in prop::collection::vec((0u8..3, 1usize..60, prop::collection::vec(any::<u8>(), 1..400)), 1..40),
    ) {
        let (socket, mux) = mux(MuxConfig { other_queue: 8, ..open() });
        let server = address("192.0.2.1:3478");
        for channel in 0x4000..0x4004 {
            mux.add_relay_route(RelayRoute { server, channel, peer: server }).unwrap();
        }
        mux.add_channel_source(address("192.0.2.2:3478")).unwrap();
        let mut quic = 0;
        let mut count = 0;
        for (source, stride, bytes) in trains {
            let from = SocketAddr::from(([192, 0, 2, source], 3478));
            count += bytes.len().div_ceil(stride) as u64;
            quic += receive(&socket, &mux, from, stride, &bytes).len() as u64;
        }
        let stats = mux.stats();
        let dropped = stats.dropped.foreign_version
            + stats.dropped.short_connection_id
            + stats.dropped.token_without_retry
            + stats.dropped.malformed
            + stats.dropped.unknown_channel
            + stats.dropped.other_queue_full;
        prop_assert_eq!(stats.received, count);
        prop_assert_eq!(stats.received_quic + stats.received_other + dropped, count);
        // An empty ChannelData message is handed over as nothing.
        prop_assert!(quic <= stats.received_quic);
    }
}
