//! Streams and what stands in public places: TCP from a stranger or a proxy, visitors of a supernode's figures, packets
//! of the local network, items of the DHT.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::LazyLock,
    time::Instant,
};

use ahoy::supernode::watch::http::{self, MAX_REQUEST_BYTES};
use ahoy_nat::discovery::{
    dht::{self, DhtItem},
    lan::{Place, Responder, Search},
};
use ahoy_transport::{
    identity::{NodeId, UserId},
    runtime::TokioRuntime,
    tunnel::{
        frame::{Deframer, Framing, MAX_FRAME},
        proxy::{Proxy, Step},
    },
};

/// Whose search and whose answers are tried.
pub(super) const USER: UserId = UserId([7; 32]);
pub(super) const NONCE: [u8; 12] = [5; 12];
/// 2026.
pub(super) const NOW_MILLIS: u64 = 1_790_000_000_000;

pub(super) fn place() -> Place {
    Place {
        port: 4433,
        node: NodeId([9; 32]),
    }
}

/// Heads of requests to a supernode's page. What is whole is answered the same however much follows.
pub fn watch_request(bytes: &[u8]) {
    for local_only in [false, true] {
        let mut first = None;
        for end in 0..=bytes.len().min(MAX_REQUEST_BYTES) {
            // A request comes in pieces of any length.
            if end % 16 == 0 || end == bytes.len() {
                first = first.or_else(|| http::read(&bytes[..end], local_only));
            }
        }
        let whole = &bytes[..bytes.len().min(MAX_REQUEST_BYTES)];
        assert_eq!(first, http::read(whole, local_only));
        assert!(first.is_some() || whole.len() < MAX_REQUEST_BYTES);
    }
}

/// A stream of packets, by TCP: in pieces it says what it says at once.
pub fn tunnel_frames(bytes: &[u8]) {
    for framing in [Framing::Tunnel, Framing::Turn] {
        let read = |piece: usize| {
            let mut deframer = Deframer::new(framing);
            let mut datagrams: Vec<Vec<u8>> = Vec::new();
            for piece in bytes.chunks(piece) {
                deframer.input(piece);
                loop {
                    match deframer.next_datagram() {
                        Ok(Some(datagram)) => datagrams.push(datagram.to_vec()),
                        Ok(None) => break,
                        Err(error) => return (datagrams, Some(error)),
                    }
                }
            }
            (datagrams, None)
        };
        let whole = read(usize::MAX);
        assert_eq!(whole, read(7));
        for datagram in whole.0 {
            assert!(datagram.len() <= MAX_FRAME);
            let mut again = Vec::new();
            if framing.encode(&datagram, &mut again) {
                let mut deframer = Deframer::new(framing);
                deframer.input(&again);
                assert_eq!(deframer.next_datagram(), Ok(Some(&datagram[..])));
            }
        }
    }
}

/// What a proxy answers, in two pieces.
pub fn proxy_answer(bytes: &[u8]) {
    static PROXIES: LazyLock<Vec<Proxy>> = LazyLock::new(|| {
        ["http://192.0.2.1:8080", "socks5://me:secret@192.0.2.1:1080"]
            .map(|proxy| proxy.parse().expect("a proxy"))
            .into()
    });
    for proxy in PROXIES.iter() {
        let host = "node.example".parse().expect("a host");
        let mut asking = proxy.ask(&host, 443);
        asking.begin();
        for piece in bytes.chunks(1 + bytes.len() / 2) {
            match asking.input(piece) {
                Ok(Step::Done { early }) => {
                    assert!(early.len() <= bytes.len());
                    break;
                }
                Ok(Step::Send(_) | Step::Wait) => {}
                Err(_no_proxy) => break,
            }
        }
    }
}

/// Packets of multicast DNS: as an answer to a search, and as a question.
pub fn lan_packet(bytes: &[u8]) {
    static BEGAN: LazyLock<Instant> = LazyLock::new(|| quinn::Runtime::now(&TokioRuntime));
    let search = Search::new(USER, NOW_MILLIS, NONCE);
    if let Some(found) = search.read(bytes) {
        assert_eq!(found, place(), "nobody else can seal an answer");
    }
    let mut responder = Responder::new(USER, place());
    let from = IpAddr::V4(Ipv4Addr::new(192, 168, 1, 2));
    if let Some(answer) = responder.answer(*BEGAN, NOW_MILLIS, from, bytes, NONCE) {
        assert!(answer.len() <= 512, "more than was asked for");
    }
}

/// Items of the DHT: `key | signature | i64 seq | value`.
pub fn dht_item(bytes: &[u8]) {
    let Some((key, rest)) = bytes.split_first_chunk::<32>() else {
        return;
    };
    let Some((signature, rest)) = rest.split_first_chunk::<64>() else {
        return;
    };
    let Some((seq, value)) = rest.split_first_chunk::<8>() else {
        return;
    };
    let item = DhtItem {
        key: *key,
        salt: None,
        seq: i64::from_be_bytes(*seq),
        value: value.to_vec(),
        signature: *signature,
    };
    if let Some(record) = dht::record_in(&item, UserId(*key)) {
        assert_eq!(record.fields().user, UserId(*key));
    }
}
