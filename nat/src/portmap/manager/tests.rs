use super::*;

const PORT: u16 = 50_000;
const EXTERNAL: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 7), 61_000);

fn home() -> Gateway {
    Gateway {
        router: Some([192, 168, 1, 1].into()),
        local: [192, 168, 1, 23].into(),
    }
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A manager, its clock, and what it asks.
struct Bench {
    manager: Manager,
    now: Instant,
}

impl Bench {
    fn new(policy: Policy) -> Self {
        Self {
            manager: Manager::new(PORT, policy, [7; 32]),
            now: Instant::now_for_tests(),
        }
    }

    fn at_home() -> Self {
        let mut bench = Self::new(Policy::default());
        bench.manager.handle_gateway(bench.now, Some(home()));
        bench
    }

    /// At home with a mapping by the first protocol.
    fn mapped() -> Self {
        let mut bench = Self::at_home();
        let (id, request) = bench.asked();
        bench.answer(id, Ok(lease(request, EXTERNAL, 100)));
        assert_eq!(bench.manager.status().mapped(), Some(EXTERNAL));
        bench
    }

    fn asked(&mut self) -> (u64, MapRequest) {
        match self.manager.poll_action() {
            Some(Action::Map(id, request)) => (id, request),
            other => panic!("no request but {other:?}"),
        }
    }

    fn answer(&mut self, id: u64, answer: Result<Lease, MapError>) {
        self.manager.handle_answer(self.now, id, answer);
    }

    fn quiet(&mut self) {
        assert_eq!(self.manager.poll_action(), None);
    }

    /// Lets time pass to the next deadline, and says how much.
    fn advance(&mut self) -> Duration {
        let next = self.manager.poll_timeout().expect("a deadline");
        let passed = next - self.now;
        self.now = next;
        self.manager.handle_timeout(next);
        passed
    }
}

trait NowForTests {
    fn now_for_tests() -> Instant;
}

impl NowForTests for Instant {
    #[expect(
        clippy::disallowed_methods,
        reason = "any instant does: the tests count from it"
    )]
    fn now_for_tests() -> Instant {
        Self::now()
    }
}

fn lease(request: MapRequest, external: SocketAddrV4, epoch: u32) -> Lease {
    Lease {
        request,
        external,
        lifetime: request.lifetime,
        epoch_secs: Some(epoch),
    }
}

#[test]
fn protocols_are_tried_in_turn_and_the_first_that_works_is_kept() {
    let mut bench = Bench::at_home();
    for expected in [Protocol::Pcp, Protocol::NatPmp] {
        let (id, request) = bench.asked();
        assert_eq!((request.protocol, request.port), (expected, PORT));
        assert_eq!(bench.manager.status(), Status::Asking);
        bench.quiet();
        bench.answer(id, Err(MapError::NoAnswer));
    }
    let (id, request) = bench.asked();
    assert_eq!(request.protocol, Protocol::Upnp);
    bench.answer(id, Ok(lease(request, EXTERNAL, 1)));
    let mapped = Status::Mapped {
        protocol: Protocol::Upnp,
        external: EXTERNAL,
    };
    assert_eq!(bench.manager.status(), mapped);
    let passed = bench.advance();
    assert!(passed > secs(270) && passed <= secs(300), "{passed:?}");
    let (_id, request) = bench.asked();
    assert_eq!(request.protocol, Protocol::Upnp);
    assert_eq!(request.suggested, Some(EXTERNAL));
}

#[test]
fn a_mapping_is_renewed_at_half_its_lifetime_or_each_minute_with_jitter() {
    let mut bench = Bench::mapped();
    let mut waits = Vec::new();
    for round in 0..20 {
        waits.push(bench.advance());
        let (id, request) = bench.asked();
        assert_eq!(request.suggested, Some(EXTERNAL));
        // The answer is in time: it stays mapped without a break.
        assert_eq!(bench.manager.status().mapped(), Some(EXTERNAL));
        bench.answer(id, Ok(lease(request, EXTERNAL, 160 + 60 * round)));
    }
    assert!(
        waits
            .iter()
            .all(|wait| *wait > secs(54) && *wait <= secs(60))
    );
    waits.dedup();
    assert!(waits.len() > 10, "no jitter: {waits:?}");
    // A router that grants little is asked at half of that.
    bench.advance();
    let (id, request) = bench.asked();
    let short = Lease {
        lifetime: secs(40),
        ..lease(request, EXTERNAL, 2000)
    };
    bench.answer(id, Ok(short));
    let wait = bench.advance();
    assert!(wait > secs(17) && wait <= secs(20), "{wait:?}");
}

#[test]
fn a_lifetime_of_nothing_does_not_make_it_spin() {
    let mut bench = Bench::at_home();
    let (id, request) = bench.asked();
    let nothing = Lease {
        lifetime: Duration::ZERO,
        ..lease(request, EXTERNAL, 1)
    };
    bench.answer(id, Ok(nothing));
    assert!(bench.advance() >= secs(4));
}

#[test]
fn a_router_that_restarted_is_noticed_by_its_epoch_and_has_mapped_again() {
    let mut bench = Bench::mapped();
    bench.advance();
    let (id, request) = bench.asked();
    let other = SocketAddrV4::new(*EXTERNAL.ip(), 4000);
    bench.answer(id, Ok(lease(request, other, 3)));
    assert_eq!(bench.manager.counters().restarts, 1);
    assert_eq!(bench.manager.status().mapped(), Some(other));
    // From then on the new epoch counts.
    let passed = bench.advance();
    let (id, request) = bench.asked();
    let epoch = 3 + u32::try_from(passed.as_secs()).unwrap();
    bench.answer(id, Ok(lease(request, other, epoch)));
    assert_eq!(bench.manager.counters().restarts, 1);
}

#[test]
fn an_epoch_may_drift_as_much_as_the_rfc_allows() {
    let minute = Some(secs(60));
    for (before, after, elapsed, expected) in [
        (100, 160, minute, false),
        (100, 165, minute, false),
        (100, 155, minute, false),
        (100, 99, Some(Duration::ZERO), false),
        (100, 90, minute, true),
        (100, 10, minute, true),
        (100, 130, minute, true),
        (100, 200, minute, true),
    ] {
        let elapsed = elapsed.unwrap();
        let found = restarted(Some(before), Some(after), elapsed);
        assert_eq!(found, expected, "{before} to {after}");
    }
    assert!(!restarted(None, Some(1), secs(60)) && !restarted(Some(1), None, secs(60)));
}

#[test]
fn renewals_that_fail_are_tried_again_and_then_everything_is() {
    let mut bench = Bench::mapped();
    bench.advance();
    let mut waits = Vec::new();
    for _ in 0..2 {
        let (id, request) = bench.asked();
        assert_eq!(request.protocol, Protocol::Pcp);
        bench.answer(id, Err(MapError::NoAnswer));
        // The port may be open still.
        assert_eq!(bench.manager.status().mapped(), Some(EXTERNAL));
        waits.push(bench.advance());
    }
    assert_eq!(waits, [secs(2), secs(4)]);
    let (id, _request) = bench.asked();
    bench.answer(id, Err(MapError::NoAnswer));
    assert_eq!(bench.manager.status(), Status::Asking);
    let (_id, request) = bench.asked();
    assert_eq!(request.protocol, Protocol::Pcp);
    assert_eq!(request.suggested, Some(EXTERNAL));
}

#[test]
fn an_unanswered_renewal_does_not_outlive_the_lease() {
    let mut bench = Bench::mapped();
    bench.advance();
    let (late, request) = bench.asked();
    let passed = bench.advance();
    assert!(passed > secs(18 * 60), "{passed:?}");
    assert_eq!(bench.manager.status(), Status::Asking);
    bench.asked();
    bench.answer(late, Ok(lease(request, EXTERNAL, 1)));
    assert_eq!(bench.manager.status(), Status::Asking);
    assert_eq!(bench.manager.counters().stale, 1);
}

#[test]
fn routers_that_map_nothing_are_asked_ever_more_rarely() {
    let mut bench = Bench::at_home();
    let mut waits = Vec::new();
    for _ in 0..8 {
        for error in [
            MapError::NoAnswer,
            MapError::Refused("policy".into()),
            MapError::NoAnswer,
        ] {
            let (id, _request) = bench.asked();
            bench.answer(id, Err(error));
        }
        let error = MapError::Refused("policy".into());
        assert_eq!(bench.manager.status(), Status::Unavailable { error });
        waits.push(bench.advance());
    }
    let expected = [30, 60, 120, 240, 480, 900, 900, 900];
    for (wait, expected) in waits.iter().zip(expected) {
        let expected = secs(expected);
        assert!(*wait <= expected && *wait > expected * 8 / 9, "{waits:?}");
    }
    // Twenty-four requests in close to one hour, and none in between.
    assert_eq!(bench.manager.counters().asked, 25);
}

#[test]
fn a_private_address_outside_is_given_back_and_never_shown() {
    for external in ["10.1.2.3:5", "100.100.0.1:5", "192.0.0.2:5", "0.0.0.0:5"] {
        let mut bench = Bench::at_home();
        let (id, request) = bench.asked();
        let granted = lease(request, external.parse().unwrap(), 1);
        bench.answer(id, Ok(granted));
        assert_eq!(bench.manager.poll_action(), Some(Action::Unmap(granted)));
        assert_eq!(bench.manager.status().mapped(), None, "{external}");
        assert!(matches!(bench.manager.status(), Status::DoubleNat { .. }));
        assert!(bench.advance() > secs(800));
        bench.asked();
    }
    assert!(is_public([203, 0, 113, 7].into()) && is_public([8, 8, 8, 8].into()));
}

#[test]
fn another_router_starts_anew_and_answers_of_the_old_one_are_ignored() {
    let mut bench = Bench::mapped();
    bench.advance();
    let (old, request) = bench.asked();
    let cafe = Gateway {
        router: Some([10, 0, 0, 1].into()),
        local: [10, 0, 0, 9].into(),
    };
    bench.manager.handle_gateway(bench.now, Some(cafe));
    assert_eq!(bench.manager.status(), Status::Asking);
    let (_id, fresh) = bench.asked();
    assert_eq!((fresh.gateway, fresh.suggested), (cafe, None));
    bench.answer(old, Ok(lease(request, EXTERNAL, 1)));
    assert_eq!(bench.manager.status(), Status::Asking);
    bench.manager.handle_gateway(bench.now, None);
    assert_eq!(bench.manager.status(), Status::Idle);
    assert_eq!(bench.manager.poll_timeout(), None);
    bench.manager.handle_gateway(bench.now, None);
    bench.quiet();
}

#[test]
fn where_the_router_is_not_known_only_upnp_is_asked() {
    let mut bench = Bench::new(Policy::default());
    let unknown = Gateway {
        router: None,
        ..home()
    };
    bench.manager.handle_gateway(bench.now, Some(unknown));
    let (id, request) = bench.asked();
    assert_eq!(request.protocol, Protocol::Upnp);
    bench.answer(id, Err(MapError::NoAnswer));
    bench.quiet();
}

#[test]
fn a_poke_asks_at_once_but_not_twice() {
    let mut bench = Bench::mapped();
    bench.manager.poke(bench.now);
    bench.quiet();
    bench.now += secs(5);
    bench.manager.poke(bench.now);
    let (id, request) = bench.asked();
    bench.manager.poke(bench.now);
    bench.now += secs(5);
    // One is out.
    bench.manager.poke(bench.now);
    bench.quiet();
    bench.answer(id, Ok(lease(request, EXTERNAL, 105)));
    assert_eq!(bench.manager.counters().asked, 2);
}

#[test]
fn at_the_end_the_mapping_is_given_back_and_nothing_else_happens() {
    let mut bench = Bench::mapped();
    bench.manager.close();
    assert!(matches!(
        bench.manager.poll_action(),
        Some(Action::Unmap(lease)) if lease.external == EXTERNAL
    ));
    assert_eq!(bench.manager.status(), Status::Idle);
    assert_eq!(bench.manager.poll_timeout(), None);
    bench.manager.handle_gateway(bench.now, Some(home()));
    bench.manager.poke(bench.now);
    bench.quiet();
}
