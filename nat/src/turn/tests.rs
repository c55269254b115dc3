#![expect(clippy::indexing_slicing, reason = "a test may panic")]

use proptest::prelude::*;

use super::*;
use crate::supernode::relay::{
    Relay, RelayConfig, RelayEvent, Transmit, credentials::CredentialOwner, policy::PolicySwitches,
};

const CLIENT: &str = "198.51.100.1:1000";
const SERVER: &str = "203.0.113.1:3478";

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A client and our own relay, with a network that loses what `lossy` says.
struct Pair {
    now: Instant,
    client: TurnClient,
    relay: Relay,
    /// Requests that reached the relay.
    requests: u32,
    lossy: bool,
    events: Vec<TurnEvent>,
}

impl Pair {
    fn new(change: impl FnOnce(&mut TurnConfig, &mut Relay, Instant)) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "any instant serves as the origin of virtual time"
        )]
        let now = Instant::now();
        let mut config = RelayConfig::new("ahoy", &[addr(SERVER).ip()]);
        config.switches = PolicySwitches {
            open_peers: true,
            allow_private: false,
        };
        let mut relay = Relay::new(now, config, [1; 32]);
        let owner = CredentialOwner::Device([1; 32]);
        let credentials = relay
            .issue_credentials(now, owner, addr(CLIENT).ip())
            .unwrap();
        let mut config = TurnConfig::new(addr(SERVER), credentials);
        change(&mut config, &mut relay, now);
        let client = TurnClient::new(now, config, [2; 32]);
        Self {
            now,
            client,
            relay,
            requests: 0,
            lossy: false,
            events: Vec::new(),
        }
    }

    /// Passes packets until neither side has any.
    fn settle(&mut self) {
        loop {
            let mut idle = true;
            while let Some(packet) = self.client.poll_transmit() {
                idle = false;
                if !self.lossy {
                    self.requests += 1;
                    self.relay
                        .handle_input(self.now, addr(CLIENT), None, &packet);
                }
            }
            while let Some(event) = self.relay.poll_event() {
                if let RelayEvent::OpenRelay { allocation, .. } = event {
                    self.relay
                        .handle_relay_opened(self.now, allocation, Some(50_000));
                }
            }
            while let Some(Transmit { contents, to, .. }) = self.relay.poll_transmit() {
                if to != addr(CLIENT) {
                    continue;
                }
                idle = false;
                assert!(self.client.handle_input(self.now, addr(SERVER), &contents));
            }
            self.events
                .extend(std::iter::from_fn(|| self.client.poll_event()));
            if idle {
                return;
            }
        }
    }

    /// Runs the client's timers for `seconds`.
    fn run(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        self.settle();
        while let Some(at) = self.client.poll_timeout().filter(|at| *at <= end) {
            self.now = at.max(self.now);
            self.relay.handle_timeout(self.now);
            self.client.handle_timeout(self.now);
            self.settle();
        }
        self.now = end;
        self.relay.handle_timeout(end);
        self.settle();
    }

    fn allocated() -> TurnEvent {
        TurnEvent::Allocated {
            relayed: addr("203.0.113.1:50000"),
            mapped: addr(CLIENT),
        }
    }
}

#[test]
fn with_realm_and_nonce_known_allocate_takes_one_request() {
    let mut pair = Pair::new(|_, _, _| {});
    pair.settle();
    assert_eq!((pair.requests, pair.events), (1, vec![Pair::allocated()]));
}

#[test]
fn without_them_it_takes_two() {
    let mut pair = Pair::new(|config, _, _| {
        config.credentials.realm.clear();
        config.credentials.nonce.clear();
    });
    pair.settle();
    assert_eq!((pair.requests, pair.events), (2, vec![Pair::allocated()]));
}

#[test]
fn a_wrong_password_is_named_after_one_answer() {
    let mut pair = Pair::new(|config, _, _| config.credentials.password.push('x'));
    pair.settle();
    assert_eq!(
        (pair.requests, pair.events),
        (1, vec![TurnEvent::Ended(TurnError::Unauthorized)])
    );
}

#[test]
fn a_silent_server_is_asked_seven_times_in_39_and_a_half_seconds() {
    let mut pair = Pair::new(|_, _, _| {});
    pair.lossy = true;
    let start = pair.now;
    let mut sent = Vec::new();
    loop {
        while pair.client.poll_transmit().is_some() {
            sent.push((pair.now - start).as_millis());
        }
        let Some(at) = pair.client.poll_timeout() else {
            break;
        };
        pair.now = at;
        pair.client.handle_timeout(at);
    }
    assert_eq!(sent, [0, 500, 1500, 3500, 7500, 15_500, 31_500]);
    assert_eq!((pair.now - start).as_millis(), 39_500);
    assert_eq!(
        pair.client.poll_event(),
        Some(TurnEvent::Ended(TurnError::Timeout))
    );
}

#[test]
fn allocation_and_channel_outlive_an_hour_and_a_stale_nonce() {
    let mut pair = Pair::new(|_, _, _| {});
    let peer = addr("8.8.8.8:5000");
    pair.client.bind_peer(pair.now, peer).unwrap();
    pair.run(2 * 3600);
    let bound = TurnEvent::Bound {
        peer,
        channel: 0x4000,
    };
    assert_eq!(pair.events, [Pair::allocated(), bound]);
    assert_eq!(pair.relay.counters().allocations_live, 1);
    // Allocate and bind, 24 refreshes, 30 rebinds, and at least one 438 on the way.
    assert!((56..=62).contains(&pair.requests), "{}", pair.requests);
    let relayed = addr("203.0.113.1:50000");
    pair.relay
        .handle_input(pair.now, addr(CLIENT), None, &[0x40, 0, 0, 1, 7]);
    assert_eq!(pair.relay.traffic(relayed).unwrap().packets_from_client, 1);
    pair.client.close(pair.now);
    pair.settle();
    assert_eq!(
        pair.events.last(),
        Some(&TurnEvent::Ended(TurnError::Closed))
    );
    assert_eq!(pair.relay.counters().allocations_live, 0);
}

#[test]
fn a_refused_peer_is_reported_and_the_allocation_stays() {
    let mut pair = Pair::new(|_, _, _| {});
    let peer = addr("224.0.0.1:5000");
    pair.client.bind_peer(pair.now, peer).unwrap();
    pair.settle();
    assert_eq!(
        pair.events,
        [
            Pair::allocated(),
            TurnEvent::PeerFailed {
                peer,
                error: TurnError::Refused(403)
            }
        ]
    );
    pair.client.bind_peer(pair.now, addr("8.8.8.8:1")).unwrap();
    pair.settle();
    assert_eq!(
        pair.events.last(),
        Some(&TurnEvent::Bound {
            peer: addr("8.8.8.8:1"),
            channel: 0x4001
        })
    );
}

#[test]
fn an_allocation_left_by_an_earlier_run_is_replaced() {
    let mut pair = Pair::new(|_, _, _| {});
    pair.settle();
    pair.client = TurnClient::new(pair.now, pair.client.config.clone(), [9; 32]);
    pair.settle();
    assert_eq!(pair.events, [Pair::allocated(), Pair::allocated()]);
    assert_eq!(pair.relay.counters().allocations_live, 1);
}

#[test]
fn a_relay_that_forgot_the_allocation_ends_it() {
    let mut pair = Pair::new(|_, _, _| {});
    pair.settle();
    let config = RelayConfig::new("ahoy", &[addr(SERVER).ip()]);
    pair.relay = Relay::new(pair.now, config, [7; 32]);
    pair.run(600);
    assert_eq!(
        pair.events.last(),
        Some(&TurnEvent::Ended(TurnError::Unauthorized))
    );
}

#[test]
fn a_probe_notices_a_restarted_relay_in_one_round_trip_and_changes_nothing_else() {
    let mut pair = Pair::new(|_, _, _| {});
    pair.settle();
    pair.client.probe(pair.now);
    pair.settle();
    assert_eq!((pair.requests, pair.events.len()), (2, 1));
    let config = RelayConfig::new("ahoy", &[addr(SERVER).ip()]);
    pair.relay = Relay::new(pair.now, config, [7; 32]);
    pair.client.probe(pair.now);
    pair.settle();
    // The nonce is stale first, then the user unknown.
    let ended = TurnEvent::Ended(TurnError::Unauthorized);
    assert_eq!((pair.requests, pair.events.last()), (4, Some(&ended)));
}

#[test]
fn answers_that_are_forged_or_from_elsewhere_are_ignored() {
    let mut pair = Pair::new(|_, _, _| {});
    let request = Stun::parse(&pair.client.poll_transmit().unwrap()).unwrap();
    let answer = |key: Option<&IntegrityKey>| {
        Builder::new(
            METHOD_ALLOCATE,
            CLASS_SUCCESS_RESPONSE,
            request.transaction(),
        )
        .xor_address(ATTR_XOR_RELAYED_ADDRESS, addr("6.6.6.6:6"))
        .attribute(ATTR_LIFETIME, &[0, 0, 1, 0])
        .finish(key, true)
    };
    let good = pair.client.key.unwrap();
    assert!(
        !pair
            .client
            .handle_input(pair.now, addr(SERVER), &answer(None))
    );
    assert!(
        !pair
            .client
            .handle_input(pair.now, addr(SERVER), &answer(Some(&[0; 16])))
    );
    assert!(
        !pair
            .client
            .handle_input(pair.now, addr("6.6.6.6:3478"), &answer(Some(&good)))
    );
    assert_eq!(pair.client.poll_event(), None);
    // Authenticated, but without the mapped address.
    assert!(
        pair.client
            .handle_input(pair.now, addr(SERVER), &answer(Some(&good)))
    );
    assert_eq!(
        pair.client.poll_event(),
        Some(TurnEvent::Ended(TurnError::Protocol))
    );
}

#[test]
fn a_server_that_only_ever_says_stale_nonce_is_given_up() {
    let mut pair = Pair::new(|_, _, _| {});
    for _ in 0..=MAX_CHALLENGES {
        let request = Stun::parse(&pair.client.poll_transmit().unwrap()).unwrap();
        let answer = Builder::new(METHOD_ALLOCATE, CLASS_ERROR_RESPONSE, request.transaction())
            .error(rtc_stun::error_code::CODE_STALE_NONCE)
            .attribute(ATTR_NONCE, b"new")
            .finish(None, false);
        assert!(pair.client.handle_input(pair.now, addr(SERVER), &answer));
    }
    assert_eq!(
        pair.client.poll_event(),
        Some(TurnEvent::Ended(TurnError::Unauthorized))
    );
}

#[test]
fn channel_numbers_never_look_like_quic_and_peers_are_bounded() {
    let mut seen: Vec<u16> = (0..CHANNELS).map(channel_number).collect();
    assert!(
        seen.iter()
            .all(|n| (0x4000..=0x4fff).contains(n) && n & 0xff < 0x80)
    );
    seen.dedup();
    assert_eq!(seen.len(), usize::from(CHANNELS));
    let mut pair = Pair::new(|_, _, _| {});
    for port in 1..=MAX_PEERS {
        let peer = SocketAddr::new([8, 8, 8, 8].into(), u16::try_from(port).unwrap());
        pair.client.bind_peer(pair.now, peer).unwrap();
    }
    assert_eq!(
        pair.client.bind_peer(pair.now, addr("9.9.9.9:1")),
        Err(TurnError::TooManyPeers)
    );
}

proptest! {
    #[test]
    fn garbage_from_the_server_never_panics(packets: Vec<Vec<u8>>, flips in proptest::collection::vec(any::<(u16, u8)>(), 0..40)) {
        let mut pair = Pair::new(|_, _, _| {});
        for packet in &packets {
            pair.client.handle_input(pair.now, addr(SERVER), packet);
        }
        // Real answers with a bit flipped.
        for (at, bits) in flips {
            let Some(packet) = pair.client.poll_transmit() else { break };
            pair.relay.handle_input(pair.now, addr(CLIENT), None, &packet);
            while let Some(event) = pair.relay.poll_event() {
                if let RelayEvent::OpenRelay { allocation, .. } = event {
                    pair.relay.handle_relay_opened(pair.now, allocation, Some(50_000));
                }
            }
            while let Some(Transmit { mut contents, .. }) = pair.relay.poll_transmit() {
                let at = usize::from(at) % contents.len();
                contents[at] ^= bits;
                pair.client.handle_input(pair.now, addr(SERVER), &contents);
            }
            pair.now += Duration::from_secs(1);
            pair.client.handle_timeout(pair.now);
            prop_assert!(pair.client.transactions.len() <= MAX_PEERS + 2);
        }
    }
}
