//! Strangers, spoofers and a home that lies, against the shipped engine and supernode in virtual time. The numbers are
//! the rows of the threat model, see `threats.txt`.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ahoy::{
    engine::handle::{Command, Event},
    identity::Identity,
    signal::FollowUp,
    sim::{Conditions, Fault, PacketEvent},
    supernode::SupernodeConfig,
};
use ahoy_nat::{
    client::{NodeClient, RequestError},
    supernode::protocol::{Push, Refusal},
};
use ahoy_tests::{
    by_hand::{self, Callee, HandMade},
    device::Device,
    pair::{ALICE, BOB, CAROL, HOME, Pair, SOON, ms, never_rang, plan, secs},
    people::{Home, Stage},
    secrets::{contains, forms},
    threat,
    udp::Udp,
};
use ahoy_transport::{
    endpoint::NodeAuth,
    runtime::{Runtime, RuntimeExt, timeout},
    sealed::{CallEnvelopes, Role},
};

const SEED: u64 = 0x7472_6561;

/// A machine at `ip` with a connection to the home that shows no name.
async fn stranger(stage: &Stage, home: &Home, ip: [u8; 4]) -> (Arc<Device>, NodeClient) {
    let node = stage.world.add_node("stranger", &[ip.into()]);
    stage.world.set_link(node, Conditions::with_delay(ms(20)));
    let device = Device::new(stage.world.runtime(node));
    let dialled = device.dial(home.address.node, home.addr, NodeAuth::Anonymous);
    let client = dialled.await.unwrap();
    (device, client)
}

/// What somebody gets who calls Bob by hand and hears for a minute what comes, before anybody accepts.
struct Learned {
    rang: bool,
    /// Messages that were for the caller, opened.
    messages: usize,
    bytes: usize,
    /// Of them, those with an address of Bob's in them.
    telling: usize,
    /// Packets between the two machines.
    direct: usize,
}

fn call_and_listen(seed: u64, contact: bool) -> Learned {
    plan(seed).run(async |pair| {
        let tap = pair.stage.wiretap();
        let (mallory, client) = stranger(&pair.stage, &pair.home, CAROL).await;
        if contact {
            pair.bob
                .book
                .add_contact(mallory.identity.user(), "Mallory");
        }
        let found = client.lookup(pair.bob.user).await.unwrap();
        let mut plain: Vec<Vec<u8>> = vec![format!("{found:?}").into_bytes()];
        plain.extend(
            found.iter().flat_map(|found| {
                [&found.certificate, &found.log, &found.seal_key].map(Clone::clone)
            }),
        );
        let runtime = &mallory.runtime;
        let bob = Callee::of(&found[0], pair.bob.user, runtime.unix_millis());
        let HandMade {
            call,
            secret,
            envelope,
        } = by_hand::offer(runtime, &mallory.identity, "Mallory", &bob, Vec::new());
        let delivered = client.deliver(bob.device.device(), bob.epoch, envelope);
        delivered.await.unwrap();
        let mut envelopes = CallEnvelopes::new(&secret, &call, Role::Caller);
        let mut messages = 0;
        let listening = async {
            while let Ok(push) = client.next_push().await {
                if let Push::ReplyTo { payload, .. } = push {
                    let opened = envelopes.open(&payload).unwrap();
                    let told = FollowUp::decode(&opened).unwrap();
                    plain.push(told.candidates);
                    plain.push(opened);
                    messages += 1;
                }
            }
        };
        // Nobody accepts; whoever listens hears all there is.
        timeout(&**runtime, secs(60), listening).await;
        let telling = |bytes: &&Vec<u8>| forms(BOB).iter().any(|form| contains(bytes, form));
        let packets = tap.packets();
        let theirs = |packet: &&PacketEvent| {
            (packet.src.ip(), packet.dst.ip()) == (BOB.into(), CAROL.into())
                || (packet.src.ip(), packet.dst.ip()) == (CAROL.into(), BOB.into())
        };
        // On the wire to her, in the clear, it stands nowhere either.
        let to_her = packets
            .iter()
            .filter(|packet| packet.dst.ip() == IpAddr::from(CAROL));
        let wire: Vec<Vec<u8>> = to_her.map(|packet| packet.contents.to_vec()).collect();
        let text = &forms(BOB)[2];
        assert!(!wire.iter().any(|bytes| contains(bytes, text)));
        Learned {
            rang: !never_rang(&pair.bob),
            messages,
            bytes: plain.iter().chain(&wire).map(Vec::len).sum(),
            telling: plain.iter().filter(telling).count(),
            direct: packets.iter().filter(theirs).count(),
        }
    })
}

#[test]
fn a_stranger_learns_no_address_before_somebody_accepts() {
    let learned = call_and_listen(SEED, false);
    assert!(!learned.rang);
    assert_eq!((learned.telling, learned.direct), (0, 0));
    threat(
        14,
        format_args!(
            "0 of the callee's addresses in {} bytes and {} replies that a stranger got",
            learned.bytes, learned.messages
        ),
    );
}

#[test]
fn a_contact_is_shown_addresses_while_it_rings() {
    let learned = call_and_listen(SEED, true);
    assert!(learned.rang);
    assert!(learned.messages > 0 && learned.telling > 0);
}

const SPAMMERS: u8 = 20;
const KEYS: u64 = 1_000;
const REQUESTS: u64 = 10_000;

/// What became of many calls by strangers, and of a contact's calls meanwhile.
struct Spam {
    delivered: u64,
    rang: usize,
    inbox: usize,
    /// Until a contact's call rang, the slowest.
    contact: Duration,
}

/// [`REQUESTS`] calls by [`KEYS`] people at Bob, from [`SPAMMERS`] machines, together as fast as the home hands them on
/// to one device. `known`: Bob has made them all contacts.
fn spam(seed: u64, known: bool) -> Spam {
    plan(seed).run(async |pair: &Pair| {
        let delivered = Arc::new(AtomicU64::new(0));
        let mut done = Vec::new();
        for n in 0..SPAMMERS {
            let (device, client) = stranger(&pair.stage, &pair.home, [192, 0, 2, 100 + n]).await;
            let found = client.lookup(pair.bob.user).await.unwrap();
            let runtime = Arc::clone(&device.runtime);
            let bob = Callee::of(&found[0], pair.bob.user, runtime.unix_millis());
            let people: Vec<Identity> = (0..KEYS / u64::from(SPAMMERS))
                .map(|_| pair.stage.identity())
                .collect();
            if known {
                for identity in &people {
                    pair.bob.book.add_contact(identity.user(), "known");
                }
            }
            let delivered = Arc::clone(&delivered);
            let (finished, until) = tokio::sync::oneshot::channel();
            done.push(until);
            let each = REQUESTS / u64::from(SPAMMERS);
            let calling = async move {
                let _device = device;
                for identity in people.iter().cycle().take(usize::try_from(each).unwrap()) {
                    let made = by_hand::offer(&runtime, identity, "Bargain", &bob, Vec::new());
                    let device = bob.device.device();
                    client.deliver(device, bob.epoch, made.envelope).await.unwrap();
                    delivered.fetch_add(1, Ordering::Relaxed);
                    // A home hands so much to one device and not more, whoever it is from.
                    runtime.sleep(ms(500)).await;
                }
                finished.send(()).unwrap_or_default();
            };
            pair.stage.world.runtime(pair.stage.director).spawn_task(calling).detach();
        }
        // Meanwhile a contact calls now and then.
        let mut contact = Duration::ZERO;
        if !known {
            for _ in 0..5 {
                pair.pass(secs(1)).await;
                let began = pair.stage.now();
                pair.alice.call(&pair.bob);
                contact = contact.max(pair.bob.rings().await - began);
                pair.pass(secs(1)).await;
                pair.alice.tell(Command::HangUp);
                pair.alice.ends(SOON).await;
            }
        }
        for until in done {
            until.await.unwrap();
        }
        pair.pass(secs(5)).await;
        let alice = pair.alice.user;
        let theirs = |event: &&(Duration, Event)| {
            matches!(event.1, Event::Incoming { from, .. } if from != alice)
        };
        Spam {
            delivered: delivered.load(Ordering::Relaxed),
            rang: pair.bob.events().iter().filter(theirs).count(),
            inbox: pair.bob.book_requests().len(),
            contact,
        }
    })
}

#[test]
fn ten_thousand_calls_by_strangers_do_not_ring_and_a_contacts_call_does() {
    let spam = spam(SEED + 1, false);
    assert_eq!(spam.delivered, REQUESTS);
    assert_eq!(spam.rang, 0);
    assert!(spam.inbox <= 20, "{}", spam.inbox);
    assert!(spam.contact < secs(1), "{:?}", spam.contact);
    threat(
        15,
        format_args!(
            "{} of {REQUESTS} rang, {} inbox entries, a contact's call rang within {:?}",
            spam.rang, spam.inbox, spam.contact
        ),
    );
}

#[test]
fn whoever_counts_as_a_contact_rings() {
    assert!(spam(SEED + 1, true).rang > 0);
}

const OTHER_HOME: [u8; 4] = [192, 0, 2, 2];

/// What is wrong with one of two homes.
#[derive(Clone, Copy, PartialEq)]
enum Bad {
    /// It says that it delivered what it threw away.
    Lies,
    /// Nothing answers there since everybody was ready.
    Died,
}

/// How long a call took to ring at Bob, who is registered at a bad home and, if `honest`, at another one. Nothing: it did not
/// ring. Alice calls by `every` home that has him, or by the first.
fn call_past(bad: Bad, seed: u64, honest: bool, every: bool) -> Option<Duration> {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::new(seed, folder.path());
    let director = stage.director;
    let play = async {
        let other = match bad {
            Bad::Lies => stage.dropping_home("liar", OTHER_HOME),
            Bad::Died => stage.home("dying", OTHER_HOME).await,
        };
        let home = stage.home("home", HOME).await;
        let homes = if honest {
            vec![&other, &home]
        } else {
            vec![&other]
        };
        let (alice, bob) = (stage.identity(), stage.identity());
        let alice = stage.phone("Alice", ALICE, &alice, &homes, |config| {
            config.upkeep.every_home = every;
        });
        let bob = stage.phone("Bob", BOB, &bob, &homes, |_| {});
        alice.befriend(&bob);
        stage.shortcut(&alice, &bob);
        alice.ready().await;
        bob.ready().await;
        stage.pass(secs(2)).await;
        if bad == Bad::Died {
            stage.kill(&other);
        }
        let began = stage.now();
        alice.call(&bob);
        let rings = stage.within(secs(9), bob.rings()).await;
        rings.map(|at| at - began)
    };
    stage.world.block_on(director, play).unwrap()
}

#[test]
fn a_home_that_throws_calls_away_does_not_keep_them_from_ringing() {
    let mut slowest = Duration::ZERO;
    for n in 0..10 {
        let took = call_past(Bad::Lies, SEED + 20 + n, true, true).expect("it rings");
        assert!(took < secs(2), "{took:?}");
        slowest = slowest.max(took);
    }
    threat(
        16,
        format_args!(
            "10 of 10 calls ring past a home that drops them, the slowest after {slowest:?}"
        ),
    );
}

#[test]
fn with_that_home_alone_no_call_rings() {
    assert_eq!(call_past(Bad::Lies, SEED + 20, false, true), None);
}

#[test]
fn by_the_first_home_that_answers_some_calls_do_not_ring() {
    let rang = (0..10).filter(|n| call_past(Bad::Lies, SEED + 20 + n, true, false).is_some());
    let rang = rang.count();
    assert!(rang < 10, "{rang}");
}

#[test]
fn a_home_that_died_holds_no_call_up() {
    for n in 0..10 {
        let took = call_past(Bad::Died, SEED + 30 + n, true, true).expect("it rings");
        assert!(took < Duration::from_millis(300), "{took:?}");
    }
}

const FLOODERS: u8 = 20;
const FLOODED_CALLS: u32 = 5;

/// How many of a contact's [`FLOODED_CALLS`] ring while [`FLOODERS`] strangers hand as much to Bob as his home takes from
/// them, with or without lanes.
fn flood(seed: u64, lanes: bool) -> (u32, Duration) {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::new(seed, folder.path());
    let director = stage.director;
    let play = async {
        let settings = |config: &mut SupernodeConfig| {
            config.limits.mail.lanes = lanes;
            // Which would keep the flood small.
            config.limits.puzzles.enabled = false;
        };
        let home = stage.home_with("home", HOME, settings).await;
        let (alice, bob) = (stage.identity(), stage.identity());
        let alice = stage.phone("Alice", ALICE, &alice, &[&home], |_| {});
        let bob = stage.phone("Bob", BOB, &bob, &[&home], |_| {});
        alice.befriend(&bob);
        stage.shortcut(&alice, &bob);
        alice.ready().await;
        bob.ready().await;
        // In a call contacts tell each other what their envelopes are known by.
        alice.talk_to(&bob).await;
        stage.pass(secs(2)).await;
        alice.tell(Command::HangUp);
        alice.ends(SOON).await;
        bob.ends(SOON).await;
        let full = Arc::new(AtomicU64::new(0));
        let mut floods = Vec::new();
        for n in 0..FLOODERS {
            let (device, client) = stranger(&stage, &home, [192, 0, 2, 100 + n]).await;
            let found = client.lookup(bob.user).await.unwrap();
            let bob = Callee::of(&found[0], bob.user, device.runtime.unix_millis());
            let (runtime, full) = (Arc::clone(&device.runtime), Arc::clone(&full));
            let flooding = async move {
                let _device = device;
                loop {
                    let refused = client
                        .deliver(bob.device.device(), bob.epoch, vec![n; 2 << 10])
                        .await;
                    if refused == Err(RequestError::Refused(Refusal::Full)) {
                        full.fetch_add(1, Ordering::Relaxed);
                    }
                    // Small ones leave no room behind.
                    runtime.sleep(ms(60)).await;
                }
            };
            floods.push(stage.world.runtime(director).spawn_task(flooding));
        }
        stage.pass(secs(30)).await;
        assert!(full.load(Ordering::Relaxed) > 100, "no flood");
        let (mut rang, mut slowest) = (0, Duration::ZERO);
        for _ in 0..FLOODED_CALLS {
            let began = stage.now();
            alice.call(&bob);
            if let Some(at) = stage.within(secs(9), bob.rings()).await {
                rang += 1;
                slowest = slowest.max(at - began);
            }
            alice.tell(Command::HangUp);
            alice.ends(SOON).await;
            stage.pass(secs(5)).await;
        }
        drop(floods);
        (rang, slowest)
    };
    stage.world.block_on(director, play).unwrap()
}

#[test]
fn a_flood_by_strangers_does_not_keep_a_contacts_call_from_ringing() {
    let (rang, slowest) = flood(SEED + 50, true);
    assert_eq!(rang, FLOODED_CALLS);
    assert!(slowest < secs(1), "{slowest:?}");
    threat(
        15,
        format_args!(
            "{rang} of {FLOODED_CALLS} calls of a contact ring within {slowest:?} while {FLOODERS} strangers fill the device's share of its home"
        ),
    );
}

#[test]
fn without_lanes_such_a_flood_keeps_calls_out() {
    let (rang, _slowest) = flood(SEED + 50, false);
    assert!(rang < FLOODED_CALLS, "{rang}");
}

/// Sends `datagrams` to the home within a second as if `victim` had, and says how many bytes that were and how many came
/// to the victim.
async fn reflect(stage: &Stage, home: &Home, victim: [u8; 4], datagrams: &[Vec<u8>]) -> [usize; 2] {
    let ip = IpAddr::from(victim);
    let node = stage.world.add_node("victim", &[ip]);
    let tap = stage.wiretap();
    // Its socket takes what comes and never answers.
    let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 4000);
    let udp = Udp::bind(&*stage.world.runtime(node), any).unwrap();
    let pause = secs(1) / u32::try_from(datagrams.len()).unwrap();
    for datagram in datagrams {
        udp.send(home.addr, datagram).unwrap();
        stage.pass(pause).await;
    }
    stage.pass(secs(30)).await;
    let packets = tap.packets();
    let bytes = |of: &dyn Fn(&PacketEvent) -> bool| {
        let packets = packets.iter().filter(|packet| of(packet));
        packets.map(|packet| packet.contents.len()).sum()
    };
    [
        bytes(&|packet| packet.src.ip() == ip),
        bytes(&|packet| packet.dst.ip() == ip),
    ]
}

/// A STUN request without attributes that were signed (RFC 8489 section 5).
fn stun(method: u16, attributes: &[u8], n: u32) -> Vec<u8> {
    let mut request = method.to_be_bytes().to_vec();
    request.extend(u16::try_from(attributes.len()).unwrap().to_be_bytes());
    request.extend(0x2112_a442_u32.to_be_bytes());
    request.extend([7; 8]);
    request.extend(n.to_be_bytes());
    request.extend(attributes);
    request
}

/// First flights of callers that are honest but for the address they will be sent from.
async fn first_flights(stage: &Stage, home: &Home, count: u32) -> Vec<Vec<u8>> {
    let node = stage.world.add_node("spoofer", &[CAROL.into()]);
    stage.world.apply(Fault::Partition {
        left: vec![node],
        right: vec![home.node],
    });
    let device = Device::new(stage.world.runtime(node));
    let tap = stage.wiretap();
    for _ in 0..count {
        let dialled = device.dial(home.address.node, home.addr, NodeAuth::Anonymous);
        assert!(stage.within(ms(10), dialled).await.is_none());
    }
    let packets = tap.packets();
    let flights = packets.iter().filter(|packet| packet.from == node);
    flights.map(|packet| packet.contents.to_vec()).collect()
}

/// What came of one kind of datagram.
#[derive(Debug, Clone, Copy)]
struct Reflected {
    what: &'static str,
    sent: usize,
    back: usize,
}

impl Reflected {
    /// Bytes that came back per byte sent.
    fn ratio(&self) -> f64 {
        self.back as f64 / self.sent as f64
    }
}

/// Floods of each kind of datagram that a supernode may answer without knowing who asks, each as from a victim of its
/// own; and what of them is worst when it comes alone.
fn reflections(seed: u64, replies_per_second: Option<u64>) -> [Vec<Reflected>; 2] {
    const EACH: u32 = 2_000;
    const FLIGHTS: u32 = 100;
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::new(seed, folder.path());
    let director = stage.director;
    let play = async {
        let home = stage
            .home_with("home", HOME, |config| {
                if let Some(rate) = replies_per_second {
                    config.relay.limits.unauthenticated_replies_per_second = rate;
                }
            })
            .await;
        let flights = first_flights(&stage, &home, FLIGHTS).await;
        assert!(flights.len() >= FLIGHTS as usize);
        let one = flights[..2].to_vec();
        let runtime = stage.world.runtime(director);
        let random = |head: &[u8], length: usize| {
            let fill = |_n: u32| {
                let mut bytes = vec![0; length];
                runtime.fill_random(&mut bytes);
                bytes[..head.len()].copy_from_slice(head);
                bytes
            };
            (0..EACH).map(fill).collect::<Vec<_>>()
        };
        let requests = |method: u16, attributes: &[u8]| -> Vec<Vec<u8>> {
            (0..EACH).map(|n| stun(method, attributes, n)).collect()
        };
        // REQUESTED-TRANSPORT: UDP (RFC 8656 section 18.7).
        let allocate = [0, 0x19, 0, 4, 17, 0, 0, 0];
        let again = |flight: &[Vec<u8>]| flight.iter().cycle().take(1_000).cloned().collect();
        let baits: Vec<(&'static str, Vec<Vec<u8>>)> = vec![
            ("one first flight again and again", again(&one)),
            ("100 first flights", flights),
            (
                "our version with nonsense",
                random(&[0xc3, 0x61, 0x68, 0, 1, 20], 1200),
            ),
            (
                "unknown versions",
                random(&[0xc3, 0x0a, 0x1a, 0x2a, 0x3a, 20], 1200),
            ),
            (
                "unknown versions, short",
                random(&[0xc3, 0x0a, 0x1a, 0x2a, 0x3a, 8], 40),
            ),
            ("packets of no connection", random(&[0x43], 60)),
            ("nonsense", random(&[], 300)),
            ("binding requests", requests(0x0001, &[])),
            ("allocations", requests(0x0003, &allocate)),
            ("channel data", random(&[0x40, 0, 0, 96], 100)),
        ];
        let mut found = Vec::new();
        for (n, (what, datagrams)) in (100..).zip(baits) {
            let [sent, back] = reflect(&stage, &home, [198, 51, 100, n], &datagrams).await;
            eprintln!("{what}: {sent} bytes sent, {back} came back");
            found.push(Reflected { what, sent, back });
        }
        let mut alone = Vec::new();
        let baits = [
            ("one first flight", one),
            ("one allocation", vec![stun(0x0003, &allocate, 0)]),
        ];
        for (n, (what, datagrams)) in (80..).zip(baits) {
            let [sent, back] = reflect(&stage, &home, [198, 51, 100, n], &datagrams).await;
            alone.push(Reflected { what, sent, back });
        }
        [found, alone]
    };
    stage.world.block_on(director, play).unwrap()
}

fn worst(found: &[Reflected]) -> Reflected {
    let worst = found.iter().max_by(|a, b| a.ratio().total_cmp(&b.ratio()));
    *worst.unwrap()
}

#[test]
fn nobody_is_flooded_by_way_of_a_supernode() {
    let [found, alone] = reflections(SEED + 40, None);
    let worst = worst(&found);
    assert!(worst.ratio() <= 1.0, "{worst:?}");
    for one in &alone {
        eprintln!("{one:?}");
        // Three times as much (RFC 9000 section 8.1), and the datagram during which quinn notices.
        assert!(one.back <= 3 * one.sent + 1200, "{one:?}");
    }
    let alone = self::worst(&alone);
    threat(
        12,
        format_args!(
            "floods of {} kinds give back at most {:.2} of their bytes ({}), a single request {:.2} ({})",
            found.len(),
            worst.ratio(),
            worst.what,
            alone.ratio(),
            alone.what
        ),
    );
}

#[test]
fn without_a_limit_on_answers_more_comes_back_than_was_sent() {
    let [found, _alone] = reflections(SEED + 40, Some(1_000_000));
    assert!(worst(&found).ratio() > 2.0, "{found:?}");
}
