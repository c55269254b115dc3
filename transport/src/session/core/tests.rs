use proptest::prelude::*;
use quinn::Runtime as _;

use super::*;
use crate::{
    runtime::TokioRuntime,
    session::{PathKind, SwitchReason},
};

const MS: Duration = Duration::from_millis(1);

/// Two cores and the connections between them.
struct Pair {
    start: Instant,
    now: Instant,
    sides: [Side; 2],
    wires: BTreeMap<u32, Wire>,
    next_connection: u32,
}

struct Side {
    core: Core,
    sent: u64,
    taken: u64,
    media: BTreeSet<Bytes>,
    events: Vec<SessionEvent>,
}

/// One connection: streams are reliable and in order while it lives, datagrams are not.
#[derive(Default)]
struct Wire {
    frames: [VecDeque<Bytes>; 2],
    datagrams: [VecDeque<(Instant, Bytes)>; 2],
    stalled: [bool; 2],
}

#[derive(Debug, Clone, Copy)]
enum Op {
    Control(usize),
    Media(usize, bool),
    Take(usize),
    Up(PathKind),
    /// The connection dies; the second side notices `bool` ago.
    Kill(usize, bool),
    /// One direction carries nothing, or everything again.
    Stall(usize, usize, bool),
    /// Time passes; so many frames and datagrams move; how the network treats datagrams.
    Step(u64, usize, u8),
}

fn op() -> impl Strategy<Value = Op> {
    let kind = prop_oneof![
        Just(PathKind::Lan),
        Just(PathKind::Direct),
        Just(PathKind::Relay)
    ];
    prop_oneof![
        4 => (0usize..2).prop_map(Op::Control),
        3 => (0usize..2, any::<bool>()).prop_map(|(side, audio)| Op::Media(side, audio)),
        2 => (0usize..2).prop_map(Op::Take),
        1 => kind.prop_map(Op::Up),
        1 => (0usize..4, any::<bool>()).prop_map(|(which, late)| Op::Kill(which, late)),
        1 => (0usize..4, 0usize..2, any::<bool>()).prop_map(|(w, d, on)| Op::Stall(w, d, on)),
        8 => (0u64..300, 0usize..4, any::<u8>()).prop_map(|(ms, count, how)| Op::Step(ms, count, how)),
    ]
}

impl Pair {
    fn new(config: SessionConfig) -> Self {
        let now = TokioRuntime.now();
        let side = || Side {
            core: Core::new(config, now),
            sent: 0,
            taken: 0,
            media: BTreeSet::new(),
            events: Vec::new(),
        };
        let mut pair = Self {
            start: now,
            now,
            sides: [side(), side()],
            wires: BTreeMap::new(),
            next_connection: 0,
        };
        for side in &mut pair.sides {
            side.core.open_media();
        }
        pair
    }

    fn up(&mut self, kind: PathKind) -> u32 {
        let connection = self.next_connection;
        self.next_connection += 1;
        self.wires.insert(connection, Wire::default());
        for side in &mut self.sides {
            side.core.link_up(
                self.now,
                connection,
                PathId(connection % 3),
                kind,
                Duration::ZERO,
            );
        }
        connection
    }

    fn pick(&self, which: usize) -> Option<u32> {
        self.wires.keys().nth(which).copied()
    }

    fn kill(&mut self, connection: u32, only_first: bool) {
        self.wires.remove(&connection);
        let count = if only_first { 1 } else { 2 };
        for side in self.sides.iter_mut().take(count) {
            side.core
                .link_down(self.now, connection, ConnectionLost::TimedOut);
        }
    }

    fn control(&mut self, from: usize) {
        let side = &mut self.sides[from];
        let message = Bytes::copy_from_slice(&side.sent.to_be_bytes());
        match side.core.send_control(message) {
            Ok(()) => side.sent += 1,
            Err(ControlError::Full | ControlError::Ended) => {}
            Err(ControlError::TooLong) => unreachable!("eight bytes"),
        }
    }

    fn media(&mut self, from: usize, audio: bool, name: u64) -> Result<(), SendMediaError> {
        let priority = if audio {
            Priority::Audio
        } else {
            Priority::Video
        };
        let payload = Bytes::copy_from_slice(&name.to_be_bytes());
        let flow = u64::from(!audio);
        let expires = self.now + 200 * MS;
        self.sides[from]
            .core
            .send_media(self.now, flow, payload, priority, expires)
    }

    /// Control messages come in order, each once.
    fn take(&mut self, to: usize) {
        while let Some(message) = self.sides[to].core.recv_control() {
            let number = u64::from_be_bytes(message[..].try_into().unwrap());
            assert_eq!(number, self.sides[to].taken);
            assert!(number < self.sides[1 - to].sent);
            self.sides[to].taken += 1;
        }
    }

    /// Lets `count` things move on each connection each way. `how`: bits that lose, double and turn round datagrams.
    fn step(&mut self, time: Duration, count: usize, how: u8) {
        self.now += time;
        for side in &mut self.sides {
            side.core.handle_timeout(self.now);
        }
        let mut how = u64::from(how) | 0x5a00;
        for (connection, wire) in &mut self.wires {
            for from in 0..2 {
                for _ in 0..count {
                    let core = &mut self.sides[from].core;
                    // Asking must agree with getting.
                    let has = core.has_frame(self.now, *connection);
                    let frame = core.poll_frame(self.now, *connection);
                    assert_eq!(has, frame.is_some());
                    wire.frames[from].extend(frame);
                    if let Some(outgoing) = core.poll_datagram(self.now, *connection) {
                        assert!(outgoing.expires > self.now);
                        let datagram = outgoing.bytes;
                        how = how.rotate_left(3) ^ 0x1d;
                        if how & 7 != 0 {
                            wire.datagrams[from].push_back((self.now, datagram.clone()));
                        }
                        if how & 0x18 == 0 {
                            wire.datagrams[from].push_back((self.now, datagram));
                        }
                        if how & 0x60 == 0 && !wire.datagrams[from].is_empty() {
                            wire.datagrams[from].rotate_left(1);
                        }
                    }
                }
                if wire.stalled[from] {
                    continue;
                }
                let core = &mut self.sides[1 - from].core;
                for frame in wire.frames[from].drain(..) {
                    core.handle_frame(self.now, *connection, &frame).unwrap();
                }
                for (_, datagram) in wire.datagrams[from].drain(..) {
                    core.handle_datagram(self.now, *connection, &datagram);
                }
            }
        }
        for side in &mut self.sides {
            while let Some(packet) = side.core.recv_media() {
                assert!(side.media.insert(packet.payload), "a packet came twice");
            }
            while let Some(event) = side.core.poll_event() {
                side.events.push(event);
            }
            while side.core.poll_notice().is_some() {}
        }
    }

    /// As [`Self::step`], without harm to datagrams.
    fn calm(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += 5 * MS;
            for side in &mut self.sides {
                side.core.handle_timeout(self.now);
            }
            for (connection, wire) in &mut self.wires {
                for from in 0..2 {
                    while let Some(frame) = self.sides[from].core.poll_frame(self.now, *connection)
                    {
                        wire.frames[from].push_back(frame);
                    }
                    while let Some(outgoing) =
                        self.sides[from].core.poll_datagram(self.now, *connection)
                    {
                        wire.datagrams[from].push_back((self.now, outgoing.bytes));
                    }
                    if wire.stalled[from] {
                        wire.datagrams[from].clear();
                        continue;
                    }
                    let core = &mut self.sides[1 - from].core;
                    for frame in wire.frames[from].drain(..) {
                        core.handle_frame(self.now, *connection, &frame).unwrap();
                    }
                    for (_, datagram) in wire.datagrams[from].drain(..) {
                        core.handle_datagram(self.now, *connection, &datagram);
                    }
                }
            }
            self.step(Duration::ZERO, 0, 0);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whatever happens to the connections: every control message comes once and in order, every media packet at
    /// most once, and when the world is well again nothing is missing.
    #[test]
    fn control_is_exactly_once_in_order_and_media_at_most_once(ops in prop::collection::vec(op(), 1..150)) {
        let config = SessionConfig { lost_after: Duration::from_secs(3600), ..SessionConfig::default() };
        let mut pair = Pair::new(config);
        pair.up(PathKind::Relay);
        let mut name = 0;
        let mut unnoticed = Vec::new();
        for op in ops {
            match op {
                Op::Control(from) => pair.control(from),
                Op::Media(from, audio) => {
                    name += 1;
                    // Without a connection it is refused.
                    let taken = pair.media(from, audio, name).is_ok();
                    prop_assert!(taken || pair.sides[from].core.active().is_none());
                }
                Op::Take(to) => pair.take(to),
                Op::Up(kind) => {
                    if pair.wires.len() < 4 {
                        pair.up(kind);
                    }
                }
                Op::Kill(which, late) => {
                    if let Some(connection) = pair.pick(which) {
                        pair.kill(connection, late);
                        unnoticed.extend(late.then_some(connection));
                    }
                }
                Op::Stall(which, from, on) => {
                    if let Some(wire) = pair.pick(which).and_then(|n| pair.wires.get_mut(&n)) {
                        wire.stalled[from] = on;
                    }
                }
                Op::Step(ms, count, how) => pair.step(Duration::from_millis(ms), count, how),
            }
        }
        let stalled: Vec<u32> = pair.wires.keys().copied().collect();
        for connection in stalled {
            pair.kill(connection, false);
        }
        for connection in unnoticed {
            pair.sides[1].core.link_down(pair.now, connection, ConnectionLost::TimedOut);
        }
        pair.up(PathKind::Direct);
        for _ in 0..20 {
            pair.calm(50 * MS);
            pair.take(0);
            pair.take(1);
        }
        for side in 0..2 {
            prop_assert_eq!(pair.sides[side].taken, pair.sides[1 - side].sent);
            prop_assert!(pair.sides[side].core.control_is_delivered());
            let (here, there) = (pair.sides[side].core.stats(), pair.sides[1 - side].core.stats());
            prop_assert_eq!(here.received, pair.sides[side].media.len() as u64);
            prop_assert!(here.received <= there.sent);
            prop_assert_eq!(here.malformed, 0);
        }
    }

    #[test]
    fn garbage_never_panics(frames: Vec<Vec<u8>>, datagrams: Vec<Vec<u8>>) {
        let mut pair = Pair::new(SessionConfig::default());
        pair.up(PathKind::Relay);
        let core = &mut pair.sides[0].core;
        for datagram in datagrams {
            let mut bytes = vec![0x10];
            bytes.extend(datagram);
            core.handle_datagram(pair.now, 0, &bytes.into());
        }
        for frame in frames {
            let mut bytes = vec![1];
            bytes.extend(frame);
            if core.handle_frame(pair.now, 0, &bytes.into()).is_err() {
                break;
            }
        }
    }
}

fn switches(side: &Side) -> Vec<Switch> {
    side.core.stats().switch_log
}

/// A pair with relay 0 and direct 1, warmed up.
fn warm(config: SessionConfig) -> Pair {
    let mut pair = Pair::new(config);
    pair.up(PathKind::Relay);
    pair.calm(100 * MS);
    pair.up(PathKind::Direct);
    pair.calm(300 * MS);
    assert_eq!(pair.sides[0].core.active(), Some(1));
    pair
}

/// Sends sound every 20 ms from side 0 for `time`; returns the longest time without a new packet at side 1.
fn talk(pair: &mut Pair, time: Duration) -> Duration {
    let end = pair.now + time;
    let mut last = pair.now;
    let mut longest = Duration::ZERO;
    while pair.now < end {
        let name = u64::try_from((pair.now - pair.start).as_millis()).unwrap();
        let before = pair.sides[1].media.len();
        pair.media(0, true, name).unwrap();
        pair.calm(20 * MS);
        if pair.sides[1].media.len() > before {
            longest = longest.max(pair.now - last);
            last = pair.now;
        }
    }
    longest.max(pair.now - last)
}

#[test]
fn a_better_path_is_taken_and_sound_outlives_its_death() {
    let mut pair = warm(SessionConfig::default());
    assert!(talk(&mut pair, 1000 * MS) <= 25 * MS);
    assert_eq!(switches(&pair.sides[0]).len(), 1);
    pair.wires.get_mut(&1).unwrap().stalled = [true, true];
    let gap = talk(&mut pair, 2000 * MS);
    assert!(gap < 200 * MS, "{gap:?}");
    let switches = switches(&pair.sides[0]);
    assert_eq!(switches[1].reason, SwitchReason::Silence);
    assert!(switches[1].gap >= 250 * MS && switches[1].gap < 300 * MS);
    assert!(pair.sides[0].core.stats().sent_copies > 0);
    let stats = pair.sides[1].core.stats();
    assert_eq!(
        stats.lost,
        stats.flows[&0].expected - stats.flows[&0].received
    );
    assert!(stats.lost > 0 && stats.lost < 10);
}

#[test]
fn without_failover_the_gap_lasts_until_quic_gives_up() {
    let off = SessionConfig {
        duplication: false,
        failover: false,
        ..SessionConfig::default()
    };
    let mut pair = warm(SessionConfig::default());
    for side in &mut pair.sides {
        side.core.selection = {
            let mut selection = Selection::new(off.duplication, off.failover, off.adaptive);
            selection.up(1, PathKind::Direct, Duration::ZERO, pair.now);
            selection.up(0, PathKind::Relay, Duration::ZERO, pair.now);
            selection
        };
    }
    talk(&mut pair, 500 * MS);
    assert_eq!(pair.sides[0].core.active(), Some(1));
    pair.wires.get_mut(&1).unwrap().stalled = [true, true];
    assert!(talk(&mut pair, 2000 * MS) >= 1900 * MS);
}

#[test]
fn copies_are_counted_and_handed_over_once() {
    let mut pair = warm(SessionConfig::default());
    talk(&mut pair, 500 * MS);
    // Only the reports of what side 0 sends are lost: it doubts, although all arrives.
    pair.wires.get_mut(&1).unwrap().stalled = [false, true];
    pair.wires.get_mut(&0).unwrap().stalled = [false, true];
    talk(&mut pair, 200 * MS);
    let stats = pair.sides[1].core.stats();
    assert!(stats.duplicate > 0);
    assert_eq!(stats.lost, 0);
    assert_eq!(stats.received, pair.sides[0].core.stats().sent);
}

#[test]
fn media_passes_only_after_accept_on_both_sides() {
    let mut pair = Pair::new(SessionConfig::default());
    pair.up(PathKind::Relay);
    pair.sides[1].core.media_open = false;
    pair.media(0, true, 1).unwrap();
    assert_eq!(pair.media(1, true, 2), Err(SendMediaError::NotOpen));
    pair.calm(20 * MS);
    assert!(pair.sides[1].media.is_empty());
    let stats = pair.sides[1].core.stats();
    assert_eq!((stats.early, stats.unopened, stats.received), (1, 1, 0));
    pair.sides[1].core.open_media();
    pair.media(0, true, 3).unwrap();
    pair.calm(20 * MS);
    assert_eq!(pair.sides[1].media.len(), 1);
    // What came before accept is no loss.
    assert_eq!(pair.sides[1].core.stats().lost, 0);
}

#[test]
fn silence_on_all_paths_is_told_at_once_and_ends_the_session_in_the_end() {
    let mut pair = warm(SessionConfig::default());
    for wire in pair.wires.values_mut() {
        wire.stalled = [true, true];
    }
    let cut = pair.now;
    pair.calm(1100 * MS);
    assert_eq!(
        pair.sides[0].events.last(),
        Some(&SessionEvent::Reconnecting)
    );
    for wire in pair.wires.values_mut() {
        wire.stalled = [false, false];
    }
    pair.calm(300 * MS);
    let told = pair.sides[0]
        .events
        .iter()
        .any(|event| matches!(event, SessionEvent::Reconnected { .. }));
    assert!(told);
    for connection in [0, 1] {
        pair.kill(connection, false);
    }
    pair.calm(10 * MS);
    assert_eq!(
        pair.sides[0].events.last(),
        Some(&SessionEvent::Reconnecting)
    );
    pair.calm(Duration::from_secs(29));
    assert_eq!(pair.sides[0].core.end(), None);
    pair.calm(Duration::from_secs(2));
    assert_eq!(pair.sides[0].core.end(), Some(SessionEnd::Lost));
    assert_eq!(
        pair.sides[0].events.last(),
        Some(&SessionEvent::Ended(SessionEnd::Lost))
    );
    assert!(pair.now - cut > Duration::from_secs(31));
    assert_eq!(pair.sides[0].core.poll_timeout(pair.now), None);
}

#[test]
fn a_session_that_never_came_up_is_unreachable() {
    let mut pair = Pair::new(SessionConfig::default());
    pair.calm(Duration::from_secs(31));
    assert_eq!(
        pair.sides[0].events,
        [SessionEvent::Ended(SessionEnd::Unreachable)]
    );
}

#[test]
fn a_closed_connection_ends_the_session_unless_it_was_replaced_or_left() {
    for code in [CloseCode::Replaced, CloseCode::Done] {
        let mut pair = warm(SessionConfig::default());
        let core = &mut pair.sides[0].core;
        core.link_down(pair.now, 1, ConnectionLost::ClosedByPeer(code));
        assert_eq!(core.end(), None, "{code:?}");
    }
    let mut pair = warm(SessionConfig::default());
    let core = &mut pair.sides[0].core;
    core.link_down(
        pair.now,
        0,
        ConnectionLost::ClosedByPeer(CloseCode::SessionOver),
    );
    assert_eq!(
        core.end(),
        Some(SessionEnd::ClosedByPeer(CloseCode::SessionOver))
    );
    assert_eq!(core.send_control(Bytes::new()), Err(ControlError::Ended));
}

#[test]
fn peers_cannot_grow_tables() {
    let mut pair = warm(SessionConfig::default());
    let core = &mut pair.sides[0].core;
    for flow in 0..1000_u64 {
        let content = Content::Media {
            flow,
            sequence: 0,
            payload: Bytes::new(),
        };
        let datagram = Datagram {
            link_sequence: 0,
            content,
        };
        core.handle_datagram(pair.now, 0, &datagram.encode());
    }
    assert_eq!(core.stats().flows.len(), MAX_FLOWS);
    assert_eq!(core.stats().excess_flow, 1000 - MAX_FLOWS as u64);
    for sequence in 0..5000_u64 {
        let content = Content::Media {
            flow: 0,
            sequence,
            payload: Bytes::new(),
        };
        let datagram = Datagram {
            link_sequence: 0,
            content,
        };
        core.handle_datagram(pair.now, 0, &datagram.encode());
    }
    assert_eq!(core.received.len(), MAX_RECEIVED);
    assert!(core.stats().overrun > 0);
    // A control message beyond what may be unacknowledged is no honest peer's.
    let frame = Frame::Control {
        sequence: 256,
        bytes: Bytes::new(),
    };
    assert_eq!(
        core.handle_frame(pair.now, 0, &frame.encode()),
        Err(Violation)
    );
    let frame = Frame::Ack { next: 1 };
    assert_eq!(
        core.handle_frame(pair.now, 0, &frame.encode()),
        Err(Violation)
    );
    let frame = Frame::Hello {
        number: 0,
        next: 0,
        root: None,
    };
    assert_eq!(
        core.handle_frame(pair.now, 0, &frame.encode()),
        Err(Violation)
    );
}

#[test]
fn what_waits_moves_with_the_media_and_expired_packets_are_never_sent() {
    let mut pair = warm(SessionConfig::default());
    pair.media(0, false, 1).unwrap();
    pair.media(0, true, 2).unwrap();
    pair.kill(1, false);
    pair.calm(20 * MS);
    assert_eq!(pair.sides[1].media.len(), 2);
    pair.media(0, false, 3).unwrap();
    // Nobody waits any longer for reports of what left before.
    pair.now += 600 * MS;
    let core = &mut pair.sides[0].core;
    while let Some(outgoing) = core.poll_datagram(pair.now, 0) {
        let content = Datagram::decode(&outgoing.bytes).unwrap().content;
        assert!(matches!(content, Content::Feedback(_)));
    }
    let stats = core.stats();
    assert_eq!((stats.expired, stats.sent), (1, 2));
}

/// What may leave now besides reports.
fn leaving(pair: &mut Pair, connection: u32) -> Vec<Share> {
    let mut shares = all_leaving(pair, connection);
    shares.retain(|share| *share != Share::Report);
    shares
}

/// What may leave now.
fn all_leaving(pair: &mut Pair, connection: u32) -> Vec<Share> {
    let core = &mut pair.sides[0].core;
    let polled = std::iter::from_fn(|| core.poll_datagram(pair.now, connection));
    polled.map(|outgoing| outgoing.share).collect()
}

/// How many reports left alone and with sound in two seconds, in which sound leaves every so many milliseconds.
fn reports(joined_reports: bool, every_millis: Option<u64>) -> (usize, usize) {
    let mut pair = Pair::new(SessionConfig {
        joined_reports,
        ..SessionConfig::default()
    });
    let connection = pair.up(PathKind::Direct);
    pair.calm(100 * MS);
    let (mut alone, mut joined) = (0, 0);
    for milli in 0..2000 {
        pair.now += MS;
        pair.sides[0].core.handle_timeout(pair.now);
        if every_millis.is_some_and(|every| milli % every == 0) {
            pair.media(0, true, milli).unwrap();
        }
        match all_leaving(&mut pair, connection).as_slice() {
            [] | [Share::Media] => {}
            [Share::Report] => alone += 1,
            [Share::Report, Share::Media] => joined += 1,
            other => panic!("{other:?}"),
        }
    }
    (alone, joined)
}

#[test]
fn reports_go_with_sound_where_there_is_any() {
    // After half a second without an answer, reports become rare.
    for every in [10, 20, 40, 60] {
        let (alone, joined) = reports(true, Some(every));
        println!("sound every {every} ms: {alone} alone, {joined} joined");
        assert!(alone <= 2 && joined >= 10, "{every} ms: {alone}, {joined}");
    }
    let (alone, joined) = reports(true, None);
    assert!(alone >= 10 && joined == 0, "{alone}, {joined}");
    let (alone, _chance) = reports(false, Some(20));
    assert!(alone >= 10, "{alone}");
}

#[test]
fn reports_come_with_each_packet_of_sound_where_pictures_come() {
    let reports = |alert, bytes: usize| {
        let mut pair = Pair::new(SessionConfig {
            alert,
            ..SessionConfig::default()
        });
        let connection = pair.up(PathKind::Direct);
        pair.calm(100 * MS);
        let mut reports = 0;
        for milli in 0..1000_u64 {
            pair.now += MS;
            if milli % 10 == 0 {
                let datagram = Datagram {
                    link_sequence: u16::try_from(1000 + milli / 10).unwrap(),
                    content: Content::Media {
                        flow: 2,
                        sequence: milli / 10,
                        payload: Bytes::from(vec![0; bytes]),
                    },
                };
                let core = &mut pair.sides[0].core;
                core.handle_datagram(pair.now, connection, &datagram.encode());
            }
            if milli % 20 == 0 {
                pair.media(0, true, milli).unwrap();
            }
            let shares = all_leaving(&mut pair, connection);
            reports += shares
                .iter()
                .filter(|share| **share == Share::Report)
                .count();
        }
        reports
    };
    let (pictures, little, off) = (reports(true, 800), reports(true, 100), reports(false, 800));
    assert!(pictures > 40, "{pictures}");
    assert!(little < 28 && off < 28, "{little} {off}");
}

#[test]
fn what_can_wait_is_paced_and_sound_is_not() {
    for estimation in [true, false] {
        let mut pair = Pair::new(SessionConfig {
            estimation,
            ..SessionConfig::default()
        });
        let connection = pair.up(PathKind::Direct);
        pair.calm(100 * MS);
        for name in 0..40 {
            let payload = Bytes::from(vec![u8::try_from(name).unwrap(); 1100]);
            let expires = pair.now + 10_000 * MS;
            pair.sides[0]
                .core
                .send_media(pair.now, 1, payload, Priority::Video, expires)
                .unwrap();
        }
        let at_once = leaving(&mut pair, connection).len();
        if !estimation {
            assert_eq!(at_once, 40);
            assert_eq!(pair.sides[0].core.estimate(), None);
            continue;
        }
        assert_eq!(at_once, 1, "the rest waits for its pace");
        let due = pair.sides[0].core.datagram_due(pair.now, connection);
        assert!(due.is_some_and(|due| due > pair.now));
        assert!(!pair.sides[0].core.has_datagram(pair.now, connection));
        pair.media(0, true, 1000).unwrap();
        assert!(pair.sides[0].core.has_datagram(pair.now, connection));
        assert_eq!(
            leaving(&mut pair, connection).len(),
            1,
            "sound goes at once"
        );
        pair.now = due.unwrap();
        // The sound is paid for by what waits.
        assert_eq!(leaving(&mut pair, connection).len(), 0);
        let mut left = 0;
        for _ in 0..100 {
            pair.now += 10 * MS;
            left += leaving(&mut pair, connection).len();
        }
        // Nothing was reported meanwhile, so that what is under way has an end too.
        assert!((4..30).contains(&left), "{left}");
    }
}

#[test]
fn a_connection_is_left_for_its_heir_when_the_other_side_has_that_too() {
    let longest_gap = |handover| {
        let mut pair = Pair::new(SessionConfig {
            handover,
            ..SessionConfig::default()
        });
        let (old, path) = (pair.up(PathKind::Direct), PathId(0));
        pair.calm(300 * MS);
        // What completes the handshake is lost, and sent again later.
        let heir = old + 3;
        pair.wires.insert(heir, Wire::default());
        let mut gap = Duration::ZERO;
        for (side, time) in [(0, 400), (1, 100)] {
            let core = &mut pair.sides[side].core;
            core.link_up(pair.now, heir, path, PathKind::Direct, Duration::ZERO);
            if !core.link_replaced(pair.now, old, heir) {
                core.link_down(pair.now, old, ConnectionLost::ClosedHere);
            }
            pair.wires.get_mut(&heir).unwrap().stalled = [side == 0; 2];
            gap = gap.max(talk(&mut pair, time * MS));
        }
        for side in &pair.sides {
            assert_eq!(side.core.active(), Some(heir));
            assert!(!side.core.has_link(old) && side.core.has_link(heir));
        }
        gap
    };
    assert!(longest_gap(true) <= 25 * MS);
    assert!(longest_gap(false) >= 400 * MS);
}
