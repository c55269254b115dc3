use std::time::Duration;

use ahoy_transport::identity::NodeId;

use super::{
    super::{
        mailbox::{MailCapability, MailKey},
        puzzle::Search,
    },
    deliveries::DELIVERY_LIFETIME,
    *,
};

const ALICE: (UserId, DeviceId) = (UserId([1; 32]), DeviceId([2; 32]));
const BOB: (UserId, DeviceId) = (UserId([3; 32]), DeviceId([4; 32]));

fn now() -> Instant {
    #[expect(
        clippy::disallowed_methods,
        reason = "a test needs one instant to start from"
    )]
    Instant::now()
}

fn registration(epoch: u64) -> Registration {
    Registration {
        epoch,
        certificate: vec![1],
        log: vec![2],
        seal_key: vec![3],
    }
}

fn connect(registry: &mut Registry, now: Instant, key: u64, device: Option<(UserId, DeviceId)>) {
    let source = [192, 0, 2, 1].into();
    registry
        .handle_connected(now, ConnectionKey(key), Newcomer { device, source })
        .unwrap();
}

fn with_bob(now: Instant) -> Registry {
    let mut registry = Registry::new(Limits::default(), 6);
    connect(&mut registry, now, 1, None);
    connect(&mut registry, now, 2, Some(BOB));
    assert_eq!(
        registry.handle_request(now, ConnectionKey(2), Request::Register(registration(5))),
        Ok((Answer::Registered, None))
    );
    registry
}

#[test]
fn a_device_that_its_owner_took_out_goes_at_once_and_does_not_come_back() {
    let now = now();
    let mut registry = with_bob(now);
    let revoked = Revoked {
        user: BOB.0,
        devices: vec![BOB.1],
    };
    // Somebody else's log says nothing about it.
    let other = Revoked {
        user: ALICE.0,
        ..revoked.clone()
    };
    registry.note_revoked(&other);
    assert_eq!(registry.registered(), 1);
    registry.note_revoked(&revoked);
    assert_eq!(registry.registered(), 0);
    assert_eq!(
        registry.handle_request(now, ConnectionKey(1), deliver(5)),
        Err(Refusal::UnknownDevice)
    );
    let again = Request::Register(registration(6));
    assert_eq!(
        registry.handle_request(now, ConnectionKey(2), again),
        Err(Refusal::NotYours)
    );
}

#[test]
fn what_is_remembered_of_lost_devices_is_bounded() {
    let mut registry = Registry::new(Limits::default(), 7);
    for user in 0..5000_u32 {
        let mut id = [0; 32];
        id[..4].copy_from_slice(&user.to_be_bytes());
        let revoked = Revoked {
            user: UserId(id),
            devices: (0..40).map(|device| DeviceId([device; 32])).collect(),
        };
        registry.note_revoked(&revoked);
    }
    assert_eq!(registry.revoked.len(), MAX_REVOKED);
    assert_eq!(registry.is_revoked.len(), MAX_REVOKED);
}

fn deliver(epoch: u64) -> Request {
    Request::Consign(Consignment::Deliver {
        to: BOB.1,
        epoch,
        mark: None,
        envelope: vec![9],
    })
}

#[test]
fn an_envelope_reaches_the_device_and_its_reply_comes_back() {
    let now = now();
    let mut registry = with_bob(now);
    let (answer, routed) = registry
        .handle_request(now, ConnectionKey(1), deliver(5))
        .unwrap();
    assert_eq!(answer, Answer::Respond(Response::Delivered { delivery: 6 }));
    assert_eq!(routed.map(|routed| routed.to), Some(ConnectionKey(2)));
    let reply = Request::Reply {
        delivery: 6,
        payload: vec![8],
    };
    let (_, routed) = registry
        .handle_request(now, ConnectionKey(2), reply.clone())
        .unwrap();
    assert_eq!(
        routed,
        Some(Routed {
            to: ConnectionKey(1),
            push: Push::ReplyTo {
                delivery: 6,
                payload: vec![8]
            }
        })
    );
    // Only the device that got it may answer, and only for a while.
    assert_eq!(
        registry.handle_request(now, ConnectionKey(1), reply.clone()),
        Err(Refusal::UnknownDelivery)
    );
    assert_eq!(
        registry.handle_request(now + DELIVERY_LIFETIME, ConnectionKey(2), reply),
        Err(Refusal::UnknownDelivery)
    );
}

#[test]
fn registering_takes_a_proved_key() {
    let now = now();
    let mut registry = with_bob(now);
    assert_eq!(
        registry.handle_request(now, ConnectionKey(1), Request::Register(registration(1))),
        Err(Refusal::NotYours)
    );
    assert_eq!(registry.registered(), 1);
    assert_eq!(registry.counters().refused, 1);
}

#[test]
fn an_old_epoch_and_a_stranger_device_are_refused() {
    let now = now();
    let mut registry = with_bob(now);
    assert_eq!(
        registry.handle_request(now, ConnectionKey(1), deliver(4)),
        Err(Refusal::WrongEpoch)
    );
    registry.handle_closed(now, ConnectionKey(2));
    assert_eq!(
        registry.handle_request(now, ConnectionKey(1), deliver(5)),
        Err(Refusal::UnknownDevice)
    );
}

#[test]
fn a_device_that_comes_back_keeps_its_place_when_its_old_connection_ends() {
    let now = now();
    let mut registry = with_bob(now);
    connect(&mut registry, now, 3, Some(BOB));
    registry
        .handle_request(now, ConnectionKey(3), Request::Register(registration(6)))
        .unwrap();
    registry.handle_closed(now, ConnectionKey(2));
    let (_, routed) = registry
        .handle_request(now, ConnectionKey(1), deliver(6))
        .unwrap();
    assert_eq!(routed.map(|routed| routed.to), Some(ConnectionKey(3)));
}

#[test]
fn a_look_up_finds_the_devices_of_one_person_only() {
    let now = now();
    let mut registry = with_bob(now);
    connect(&mut registry, now, 3, Some(ALICE));
    registry
        .handle_request(now, ConnectionKey(3), Request::Register(registration(8)))
        .unwrap();
    let (answer, _) = registry
        .handle_request(now, ConnectionKey(1), Request::Lookup { user: BOB.0 })
        .unwrap();
    assert_eq!(
        answer,
        Answer::Respond(Response::Devices(vec![registration(5)]))
    );
}

#[test]
fn another_person_with_the_same_device_id_gets_none_of_its_envelopes() {
    let now = now();
    let mut registry = with_bob(now);
    let mallory = (UserId([9; 32]), BOB.1);
    connect(&mut registry, now, 3, Some(mallory));
    let mut register = |epoch| {
        let request = Request::Register(registration(epoch));
        registry
            .handle_request(now, ConnectionKey(3), request)
            .map(drop)
    };
    assert_eq!(register(6), Ok(()));
    assert_eq!(register(5), Err(Refusal::NotYours));
    let (_, routed) = registry
        .handle_request(now, ConnectionKey(1), deliver(5))
        .unwrap();
    assert_eq!(routed.map(|routed| routed.to), Some(ConnectionKey(2)));
    registry.handle_closed(now, ConnectionKey(3));
    assert!(
        registry
            .handle_request(now, ConnectionKey(1), deliver(5))
            .is_ok()
    );
}

#[test]
fn a_connection_that_asks_too_fast_waits_and_others_do_not() {
    let start = now();
    let mut registry = with_bob(start);
    let limits = Limits::default();
    let relay = Request::RelayGrant.encode();
    for _ in 0..limits.request_burst {
        registry.meter(start, ConnectionKey(1), &relay).unwrap();
    }
    let fast = registry.meter(start, ConnectionKey(1), &relay);
    assert_eq!(fast, Err(Refusal::TooFast));
    assert_eq!(registry.meter(start, ConnectionKey(2), &relay), Ok(()));
    let later = start + Duration::from_secs(1) / 10;
    assert_eq!(registry.meter(later, ConnectionKey(1), &relay), Ok(()));
    // A registration is the most expensive thing to ask for.
    let register = Request::Register(registration(1)).encode();
    let count = (0..100)
        .filter(|_| registry.meter(start, ConnectionKey(2), &register).is_ok())
        .count();
    assert_eq!(count as u64, (limits.request_burst - 1) / REGISTRATION_COST);
}

fn envelope_of(byte: u8) -> Vec<u8> {
    vec![byte; 16 << 10]
}

#[test]
fn bytes_towards_and_from_a_connection_are_metered() {
    let start = now();
    let mut registry = with_bob(start);
    let limits = Limits::default();
    let mut deliver = |from: u64, at| {
        let request = Request::Consign(Consignment::Deliver {
            to: BOB.1,
            epoch: 5,
            mark: None,
            envelope: vec![0; 16 << 10],
        });
        registry
            .handle_request(at, ConnectionKey(from), request)
            .map(drop)
    };
    // One sender gets as far as its own allowance.
    for _ in 0..limits.sent_bytes_per_second * BURST_SECONDS / (16 << 10) {
        assert_eq!(deliver(1, start), Ok(()));
    }
    assert_eq!(deliver(1, start), Err(Refusal::TooFast));
    assert_eq!(deliver(1, start + Duration::from_secs(1)), Ok(()));
    // Many together get as far as Bob's line goes.
    for from in 10..30 {
        let source = [192, 0, 2, 1].into();
        let newcomer = Newcomer {
            device: None,
            source,
        };
        registry
            .handle_connected(start, ConnectionKey(from), newcomer)
            .unwrap();
    }
    let mut delivered = 0;
    for from in 10..30 {
        for _ in 0..4 {
            let request = Request::Consign(Consignment::Deliver {
                to: BOB.1,
                epoch: 5,
                mark: None,
                envelope: vec![0; 16 << 10],
            });
            let answer = registry.handle_request(start, ConnectionKey(from), request);
            match answer {
                Ok(_) => delivered += 1,
                Err(refusal) => assert_eq!(refusal, Refusal::Full),
            }
        }
    }
    let allowance = limits.received_bytes_per_second * BURST_SECONDS / (16 << 10);
    assert!((50..=allowance).contains(&delivered), "{delivered}");
    // A contact gets through meanwhile, and nobody else by its mark.
    let key = MailCapability::from_bytes([1; 32]).at(NodeId([2; 32]));
    let keep = Request::KeepBox { key: key.clone() };
    registry
        .handle_request(start, ConnectionKey(2), keep)
        .unwrap();
    connect(&mut registry, start, 50, None);
    let envelope = envelope_of(7);
    let mut marked = |key: &MailKey, envelope: &[u8]| {
        let request = Request::Consign(Consignment::Deliver {
            to: BOB.1,
            epoch: 5,
            mark: Some(key.mark(BOB, &envelope_of(7))),
            envelope: envelope.to_vec(),
        });
        registry
            .handle_request(start, ConnectionKey(50), request)
            .map(drop)
    };
    assert_eq!(marked(&key, &envelope), Ok(()));
    assert_eq!(marked(&key, &envelope_of(8)), Err(Refusal::Full));
    let other = MailCapability::from_bytes([3; 32]).at(NodeId([2; 32]));
    assert_eq!(marked(&other, &envelope), Err(Refusal::Full));
}

fn leave(envelope: Vec<u8>) -> Consignment {
    Consignment::Leave {
        user: BOB.0,
        to: BOB.1,
        mark: None,
        envelope,
    }
}

fn consign(
    registry: &mut Registry,
    now: Instant,
    from: u64,
    consignment: Consignment,
) -> Result<Response, Refusal> {
    let request = Request::Consign(consignment);
    let answered = registry.handle_request(now, ConnectionKey(from), request);
    answered.map(|(answer, _routed)| {
        let Answer::Respond(response) = answer else {
            panic!("{answer:?}");
        };
        response
    })
}

/// Bob with a box, where work is asked for as soon as half of the strangers' room is in use, or never.
fn crowded(now: Instant, limits: &Limits, enabled: bool) -> Registry {
    let limits = Limits {
        puzzles: PuzzleLimits {
            enabled,
            least_bits: 4,
            most_bits: 8,
        },
        ..limits.clone()
    };
    let mut registry = Registry::new(limits, 6);
    registry.start_puzzles(now, [5; 32]);
    connect(&mut registry, now, 2, Some(BOB));
    let register = Request::Register(registration(5));
    registry
        .handle_request(now, ConnectionKey(2), register)
        .unwrap();
    let key = MailCapability::from_bytes([1; 32]).at(NodeId([2; 32]));
    registry
        .handle_request(now, ConnectionKey(2), Request::KeepBox { key })
        .unwrap();
    for (key, host) in [(1, 7), (3, 8)] {
        let newcomer = Newcomer {
            device: None,
            source: [192, 0, 2, host].into(),
        };
        registry
            .handle_connected(now, ConnectionKey(key), newcomer)
            .unwrap();
    }
    registry
}

fn asked(response: Result<Response, Refusal>) -> Puzzle {
    let Ok(Response::Puzzle(puzzle)) = response else {
        panic!("{response:?}");
    };
    puzzle
}

fn proven(puzzle: Puzzle, consignment: Consignment) -> Request {
    let (_tries, proof) = Search::new(puzzle, consignment.envelope()).run(u64::MAX);
    Request::Proven {
        proof: proof.unwrap(),
        consignment,
    }
}

#[test]
fn nobody_works_for_what_no_work_mends() {
    let now = now();
    let limits = Limits::default();
    let mail = |change: fn(&mut MailLimits)| {
        let mut limits = limits.clone();
        // One letter is as much as half of them.
        limits.mail.stranger_letters = 2;
        change(&mut limits.mail);
        limits
    };
    let hand = |bytes| Consignment::Deliver {
        to: BOB.1,
        epoch: 5,
        mark: None,
        envelope: vec![9; bytes],
    };
    let first = || leave(vec![7; 2000]);
    let second = || leave(vec![8; 2000]);
    let thin = Limits {
        received_bytes_per_second: 300,
        ..limits.clone()
    };
    let poor = Limits {
        sent_bytes_per_second: 400,
        received_bytes_per_second: 400,
        ..limits.clone()
    };
    let poor_in_letters = Limits {
        sent_bytes_per_second: 400,
        ..mail(|_usual| {})
    };
    // What one came with before, and then with what; what is said to that.
    let table = [
        (
            mail(|mail| mail.stranger_letters_per_source = 1),
            first(),
            second(),
            Refusal::BoxFull,
        ),
        (
            mail(|mail| mail.bytes = 3000),
            first(),
            second(),
            Refusal::BoxFull,
        ),
        (
            mail(|mail| mail.bytes_per_source = 3000),
            first(),
            second(),
            Refusal::BoxFull,
        ),
        (
            mail(|mail| mail.stranger_bytes = 3000),
            first(),
            second(),
            Refusal::BoxFull,
        ),
        (
            mail(|mail| mail.stranger_burst = 1),
            first(),
            second(),
            Refusal::TooFast,
        ),
        (poor_in_letters, first(), second(), Refusal::TooFast),
        (poor, hand(2000), hand(2000), Refusal::TooFast),
        (thin, hand(2000), hand(2500), Refusal::Full),
    ];
    for (limits, before, then, refusal) in table {
        for enabled in [false, true] {
            let mut registry = crowded(now, &limits, enabled);
            consign(&mut registry, now, 1, before.clone()).unwrap();
            let told = consign(&mut registry, now, 1, then.clone());
            assert_eq!(told, Err(refusal), "{limits:?} {enabled}");
            assert_eq!(registry.puzzles(), PuzzleCounters::default());
        }
    }
    // Where another one may, that one is asked for work.
    let limits = mail(|mail| mail.stranger_letters_per_source = 1);
    let mut registry = crowded(now, &limits, true);
    consign(&mut registry, now, 1, first()).unwrap();
    let puzzle = asked(consign(&mut registry, now, 3, second()));
    let proven = proven(puzzle, second());
    let (answer, _routed) = registry
        .handle_request(now, ConnectionKey(3), proven)
        .unwrap();
    let contact = false;
    assert_eq!(answer, Answer::Respond(Response::Left { contact }));
    assert_eq!(registry.puzzles().asked, 1);
}

#[test]
fn work_is_not_lost_where_only_time_helps_and_is_paid_for_once() {
    let start = now();
    let limits = Limits {
        // Room for eight thousand bytes.
        received_bytes_per_second: 1000,
        // As much as the first and one more.
        sent_bytes_per_second: 1000,
        ..Limits::default()
    };
    let mut registry = crowded(start, &limits, true);
    let hand = |byte| Consignment::Deliver {
        to: BOB.1,
        epoch: 5,
        mark: None,
        envelope: vec![byte; 4000],
    };
    consign(&mut registry, start, 1, hand(1)).unwrap();
    let puzzle = asked(consign(&mut registry, start, 1, hand(2)));
    let mine = proven(puzzle, hand(2));
    let others = asked(consign(&mut registry, start, 3, hand(3)));
    let others = proven(others, hand(3));
    let mut come = |at, key, request: &Request| {
        let answered = registry.handle_request(at, ConnectionKey(key), request.clone());
        answered.map(|(answer, _routed)| answer)
    };
    // Another one was faster.
    assert!(come(start, 3, &others).is_ok());
    assert_eq!(come(start, 1, &mine), Err(Refusal::Full));
    let later = start + Duration::from_secs(4);
    let delivered = come(later, 1, &mine);
    assert!(
        matches!(delivered, Ok(Answer::Respond(Response::Delivered { .. }))),
        "{delivered:?}"
    );
    let again = come(later + Duration::from_secs(4), 1, &mine);
    assert!(
        matches!(again, Ok(Answer::Respond(Response::Puzzle(_)))),
        "it counts once: {again:?}"
    );
    assert_eq!(registry.puzzles().proved, 2);
}

#[test]
fn strangers_and_crowded_sources_leave_room_for_others() {
    let now = now();
    let limits = Limits {
        connections: 5,
        anonymous_connections: 2,
        connections_per_source: 3,
        ..Limits::default()
    };
    let mut registry = Registry::new(limits, 0);
    let mut key = 0;
    let mut connect = |registry: &mut Registry, device, host| {
        key += 1;
        let source = [192, 0, 2, host].into();
        registry.handle_connected(now, ConnectionKey(key), Newcomer { device, source })
    };
    assert_eq!(connect(&mut registry, None, 1), Ok(()));
    assert_eq!(connect(&mut registry, None, 1), Ok(()));
    assert_eq!(connect(&mut registry, None, 2), Err(NoRoom::Anonymous));
    assert_eq!(connect(&mut registry, Some(BOB), 1), Ok(()));
    assert_eq!(connect(&mut registry, Some(BOB), 1), Err(NoRoom::Source));
    assert_eq!(connect(&mut registry, Some(BOB), 2), Ok(()));
    assert_eq!(connect(&mut registry, Some(BOB), 3), Ok(()));
    assert_eq!(
        connect(&mut registry, Some(BOB), 4),
        Err(NoRoom::Connections)
    );
    assert_eq!((registry.connections(), registry.anonymous()), (5, 2));
    assert_eq!(registry.counters().sent_away, 3);
    for key in 1..10 {
        registry.handle_closed(now, ConnectionKey(key));
    }
    assert_eq!((registry.connections(), registry.anonymous()), (0, 0));
    assert!(registry.sources.is_empty());
}

#[test]
fn tables_stay_within_their_bounds() {
    let now = now();
    let limits = Limits {
        registrations: 2,
        ..Limits::default()
    };
    let mut registry = Registry::new(limits, 0);
    for n in 0..4u8 {
        let device = (UserId([n; 32]), DeviceId([n; 32]));
        connect(&mut registry, now, n.into(), Some(device));
        let request = Request::Register(registration(1));
        let result = registry.handle_request(now, ConnectionKey(n.into()), request);
        assert_eq!(result.is_ok(), n < 2);
    }
    for n in 0..4 {
        registry.handle_closed(now, ConnectionKey(n));
    }
    assert!(registry.devices.is_empty() && registry.by_epoch.is_empty());
}
