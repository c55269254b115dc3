//! The README's table of who sees what of a call, against what each of them really saw: the wires, and two supernodes
//! that keep everything.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
};

use ahoy::{
    engine::{
        config::EngineConfig,
        handle::Command,
        presence::{INTERVAL, Presence},
    },
    identity::Identity,
    report::Outcome,
    signal::{self, MediaCapabilities},
    sim::{Conditions, PacketEvent, World},
};
use ahoy_media::audio::wav::read_all;
use ahoy_nat::{
    client::NodeClient,
    supernode::{
        mailbox::{MailCapability, MailKey},
        protocol::{Consignment, Request},
    },
};
use ahoy_tests::{
    by_hand::{self, Callee},
    device::Device,
    nosy::Record,
    pair::{ALICE, BOB, CAROL, HOME, SOON, ms, secs},
    people::{Home, Phone, SPEECH, Stage, Wiretap},
    secrets::{Secrets, packets_of},
    threat,
    udp::Udp,
};
use ahoy_transport::{
    endpoint::{Endpoint, EndpointConfig, NodeAuth},
    runtime::{Runtime, RuntimeExt as _},
};

const SEED: u64 = 0x5ee0;
const OTHER_HOME: [u8; 4] = [203, 0, 113, 77];
const NAMES: [&str; 2] = ["Alexandra Quillfeather", "Bartholomew Nightingale"];

/// Rows of the table.
const FACTS: [&str; 7] = [
    "the caller's address",
    "the callee's address",
    "the caller's keys",
    "the callee's keys",
    "the caller's name",
    "the callee's name",
    "what is said",
];
/// Its columns.
const OBSERVERS: [&str; 3] = [
    "whoever is on the way",
    "the caller's home",
    "the callee's home",
];

/// What one of them saw.
#[derive(Default)]
struct Seen {
    messages: Vec<Vec<u8>>,
    addresses: BTreeSet<IpAddr>,
}

impl Seen {
    fn on_wires(packets: &[PacketEvent]) -> Self {
        let ends = packets.iter().flat_map(|packet| [packet.src, packet.dst]);
        Self {
            messages: packets
                .iter()
                .map(|packet| packet.contents.to_vec())
                .collect(),
            addresses: ends.map(|addr| addr.ip()).collect(),
        }
    }

    /// By a home, in messages after the first so many of each connection.
    fn at(record: &Record, before: &[usize]) -> Self {
        let mut seen = Self::default();
        let before = before.iter().copied().chain(std::iter::repeat(0));
        for (told, before) in record.told().into_iter().zip(before) {
            if told.bytes.len() > before {
                seen.messages.extend(told.bytes.into_iter().skip(before));
                seen.addresses.extend(told.from.map(|addr| addr.ip()));
            }
        }
        seen
    }
}

/// Searches for both people.
struct Search {
    people: [Secrets; 2],
    addresses: [IpAddr; 2],
}

impl Search {
    fn new(identities: [&Identity; 2], speech: &[f32], packets: &[Vec<u8>]) -> Self {
        let people = [0, 1].map(|who| {
            let mut secrets = Secrets::default();
            secrets.add_person("own", NAMES[who], identities[who]);
            // Two that were made at the same time have dates in common.
            let other = identities[1 - who];
            secrets.forget(other.certificate().as_bytes());
            secrets.forget(&other.log().to_bytes());
            secrets.forget(other.device().seal_key_record().as_bytes());
            secrets.add_speech(speech);
            secrets.add_packets(packets);
            secrets
        });
        Self {
            people,
            addresses: [ALICE.into(), BOB.into()],
        }
    }

    /// Those of [`FACTS`] that can be known by what was seen.
    fn known(&self, seen: &Seen) -> BTreeSet<&'static str> {
        let mut known = BTreeSet::new();
        for (who, secrets) in self.people.iter().enumerate() {
            let found = secrets.found_in(seen.messages.iter().map(Vec::as_slice));
            for what in &found {
                eprintln!("  {} {what}", ["caller:", "callee:"][who]);
                known.insert(match what.as_str() {
                    "own's name" => FACTS[4 + who],
                    own if own.starts_with("own's") => FACTS[2 + who],
                    _speech => FACTS[6],
                });
            }
            let IpAddr::V4(v4) = self.addresses[who] else {
                unreachable!("they are IPv4 ones")
            };
            let told = |bytes: &Vec<u8>| bytes.windows(4).any(|window| window == v4.octets());
            if seen.addresses.contains(&self.addresses[who]) || seen.messages.iter().any(told) {
                known.insert(FACTS[who]);
            }
        }
        known
    }
}

/// The README's table: what each observer sees.
fn promised() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = fs::read_to_string(readme).unwrap();
    let cells = |line: &str| -> Vec<String> {
        let cells = line.trim_matches('|').split('|');
        cells.map(|cell| cell.trim().to_owned()).collect()
    };
    let mut lines = readme.lines();
    let header = lines
        .find(|line| line.starts_with("| of a call |"))
        .unwrap();
    assert_eq!(cells(header)[1..], OBSERVERS);
    let mut promised = OBSERVERS.map(|observer| (observer, BTreeSet::new()));
    for fact in FACTS {
        let row = lines.find(|line| cells(line)[0] == fact);
        let row = cells(row.unwrap_or_else(|| panic!("no row about {fact}")));
        for ((_, sees), cell) in promised.iter_mut().zip(&row[1..]) {
            match cell.as_str() {
                "yes" => {
                    sees.insert(fact);
                }
                "no" => {}
                other => panic!("{fact}: {other} is neither yes nor no"),
            }
        }
    }
    promised.into()
}

/// Leaves `leak` with both homes, as nobody in particular.
async fn leave(stage: &Stage, homes: [&Home; 2], leak: &[u8]) {
    let node = stage.world.add_node("leaker", &[CAROL.into()]);
    stage.world.set_link(node, Conditions::with_delay(ms(20)));
    let runtime: Arc<dyn Runtime> = stage.world.runtime(node);
    let any = SocketAddr::from(([0, 0, 0, 0], 7000));
    let endpoint = Endpoint::bind(Arc::clone(&runtime), EndpointConfig::peer(any)).unwrap();
    for home in homes {
        let connecting = endpoint.connect_node(home.addr, home.address.node, NodeAuth::Anonymous);
        let client = NodeClient::new(Arc::clone(&runtime), connecting.await.unwrap());
        let nobody = ahoy_transport::identity::DeviceId([1; 32]);
        // Nobody is there to take it; it was told all the same.
        client.deliver(nobody, 1, leak.to_vec()).await.unwrap_err();
    }
}

/// Those who look on, and what they keep.
struct Observers {
    tap: Wiretap,
    homes: [Record; 2],
}

/// How much they had seen at a moment: packets, and messages of each connection to each home.
#[derive(Default)]
struct Moment {
    packets: usize,
    messages: [Vec<usize>; 2],
}

impl Observers {
    fn now(&self) -> Moment {
        let messages = self.homes.each_ref().map(|home| {
            let told = home.told();
            told.iter().map(|told| told.bytes.len()).collect()
        });
        let packets = self.tap.packets().len();
        Moment { packets, messages }
    }

    /// What each of [`OBSERVERS`] saw after `moment`.
    fn since(&self, moment: &Moment) -> [Seen; 3] {
        let [callers, callees] = &self.homes;
        [
            Seen::on_wires(&self.tap.packets()[moment.packets..]),
            Seen::at(callers, &moment.messages[0]),
            Seen::at(callees, &moment.messages[1]),
        ]
    }
}

/// What each of [`OBSERVERS`] knows by what they saw of `act` since the moment that it gives, after the same search found
/// every fact where it was told on purpose; and of how many packets.
fn observed(
    adjust: fn(&mut EngineConfig),
    act: impl AsyncFnOnce(&Stage, &Observers, [&Phone; 2]) -> Moment,
) -> (BTreeMap<&'static str, BTreeSet<&'static str>>, usize) {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::new(SEED, folder.path());
    let director = stage.director;
    let play = async {
        let tap = stage.wiretap();
        let (callers, at_callers) = stage.nosy_home("caller's home", OTHER_HOME);
        let (callees, at_callees) = stage.nosy_home("callee's home", HOME);
        let homes = [at_callers, at_callees];
        let observers = Observers { tap, homes };
        let (alice_id, bob_id) = (stage.identity(), stage.identity());
        let alice = stage.phone(NAMES[0], ALICE, &alice_id, &[&callers], adjust);
        let bob = stage.phone(NAMES[1], BOB, &bob_id, &[&callees], adjust);
        alice.befriend(&bob);
        stage.shortcut(&alice, &bob);
        alice.ready().await;
        bob.ready().await;
        let since = act(&stage, &observers, [&alice, &bob]).await;

        let runtime = stage.world.runtime(director);
        let said = read_all(SPEECH).unwrap();
        let packets = packets_of(&said, quinn::Runtime::now(&*runtime));
        let search = Search::new([&alice_id, &bob_id], &said, &packets);
        let seen = observers.since(&since);

        let before = observers.now();
        let mut leak = format!("{} and {}", NAMES[0], NAMES[1]).into_bytes();
        leak.extend(alice_id.user().0);
        leak.extend(bob_id.user().0);
        leak.extend(&packets[40]);
        leak.extend(ALICE);
        leak.extend(BOB);
        leave(&stage, [&callers, &callees], &leak).await;
        let wire = Udp::bind(
            &*stage.world.runtime(alice.node),
            "0.0.0.0:9".parse().unwrap(),
        );
        wire.unwrap().send(bob.addr, &leak).unwrap();
        stage.pass(secs(1)).await;
        (search, seen, observers.since(&before))
    };
    let (search, seen, planted) = stage.world.block_on(director, play).unwrap();
    for (observer, planted) in OBSERVERS.iter().zip(&planted) {
        eprintln!("planted, {observer}:");
        assert_eq!(search.known(planted), FACTS.into(), "{observer}");
    }
    let mut found = BTreeMap::new();
    for (observer, seen) in OBSERVERS.into_iter().zip(&seen) {
        eprintln!("{observer}:");
        found.insert(observer, search.known(seen));
    }
    (found, seen[0].messages.len())
}

#[test]
fn who_sees_what_is_as_the_readme_says() {
    let (found, packets) = observed(
        |_as_it_is| {},
        async |stage, _, [alice, bob]| {
            alice.talk_to(bob).await;
            bob.hears().await;
            stage.pass(secs(5)).await;
            alice.tell(Command::HangUp);
            for phone in [alice, bob] {
                assert_eq!(phone.ends(SOON).await.report.outcome, Outcome::Completed);
            }
            stage.pass(secs(2)).await;
            Moment::default()
        },
    );
    assert_eq!(found, promised());
    threat(
        17,
        format_args!(
            "{} of {} cells of the README's table as captured, {packets} packets",
            FACTS.len() * OBSERVERS.len(),
            FACTS.len() * OBSERVERS.len(),
        ),
    );
}

#[test]
fn a_look_whether_somebody_is_there_shows_no_more_than_a_call() {
    let (found, packets) = observed(
        |config| config.finding.presence = true,
        async |stage, observers, [alice, bob]| {
            for (phone, friend) in [(alice, bob), (bob, alice)] {
                let (user, blocked) = (friend.user, false);
                phone.tell(Command::PeopleChanged { user, blocked });
            }
            // Only those are asked who wrote, too; what that showed is not what this is about.
            alice.write_to(bob).await;
            bob.write_to(alice).await;
            stage.pass(secs(60)).await;
            let before = observers.now();
            alice.tell(Command::Look(true));
            stage.pass(2 * INTERVAL).await;
            let view = alice.engine.view();
            let there = view.borrow().presences.get(&bob.user).copied();
            assert_eq!(there, Some(Presence::Reachable), "he was asked");
            before
        },
    );
    for (observer, promised) in promised() {
        let more: Vec<_> = found[observer].difference(&promised).collect();
        assert_eq!(more, Vec::<&&str>::new(), "{observer}");
    }
    // That is where the question was left.
    assert!(found[OBSERVERS[2]].contains("the caller's address"));
    threat(
        17,
        format_args!(
            "a look whether somebody is there: no more than a call shows, {packets} packets"
        ),
    );
}

/// Calls that a home is told before who made which, and then not.
const LEARNED: usize = 2000;
const GUESSED: usize = 1000;
/// Who guesses so many of [`GUESSED`] right may have thrown a coin: three times as far off as one is.
const BY_CHANCE: usize = 550;

/// What a home sees of a call, and which of two people called.
type Sample = (Vec<u8>, bool);

/// The best that can be said of who calls from one place of what is seen: each value it had there, and how many calls of each
/// person had it. The place before the first is how long it is.
#[derive(Debug)]
struct Clue {
    place: usize,
    calls: Vec<[usize; 2]>,
}

impl Clue {
    fn value(place: usize, seen: &[u8]) -> usize {
        match place.checked_sub(1) {
            None => seen.len(),
            Some(at) => seen.get(at).copied().map_or(256, usize::from),
        }
    }

    fn learn(place: usize, samples: &[Sample]) -> Self {
        let mut calls = vec![[0; 2]; 257];
        for (seen, second) in samples {
            let value = Self::value(place, seen);
            if calls.len() <= value {
                calls.resize(value + 1, [0; 2]);
            }
            calls[value][usize::from(*second)] += 1;
        }
        Self { place, calls }
    }

    fn right(&self, samples: &[Sample]) -> usize {
        let guess = |seen: &[u8]| {
            let value = Self::value(self.place, seen);
            let calls = self.calls.get(value).copied().unwrap_or_default();
            calls[1] > calls[0]
        };
        let right = |sample: &&Sample| guess(&sample.0) == sample.1;
        samples.iter().filter(right).count()
    }
}

/// Learns from calls of which it knows who made them, and says of how many others it guesses right who did.
fn guess(samples: &[Sample]) -> usize {
    let (learned, guessed) = samples.split_at(LEARNED);
    let (first, second) = learned.split_at(LEARNED / 2);
    let longest = samples.iter().map(|(seen, _who)| seen.len()).max();
    let clues = (0..=longest.unwrap_or(0))
        .rev()
        .map(|place| Clue::learn(place, first));
    // What one half seems to tell is tried on the other.
    let best = clues.max_by_key(|clue| clue.right(second)).unwrap();
    let clue = Clue::learn(best.place, learned);
    let right = clue.right(guessed);
    eprintln!(
        "by place {} it guesses {right} of {}",
        best.place,
        guessed.len()
    );
    right
}

/// Two people call Bob in turns that nobody foresees: what his home sees of each call besides the address it comes from, what it
/// would see of it unsealed, and what padded to no size.
fn calls_by_two() -> [Vec<Sample>; 3] {
    let world = World::new(SEED + 1);
    eprintln!("seed {:#x}", world.seed());
    let node = world.add_node("Bob", &[BOB.into()]);
    let runtime: Arc<dyn Runtime> = world.runtime(node);
    let bob = Device::new(Arc::clone(&runtime));
    let user = bob.identity.user();
    let callee = Callee::of(&bob.registration(7), user, runtime.unix_millis());
    let owner = (user, callee.device.device());
    let key: MailKey =
        MailCapability::from_bytes([5; 32]).at(ahoy_transport::identity::NodeId([6; 32]));
    let callers = NAMES.map(|name| {
        let node = world.add_node(name, &[]);
        (name, Device::new(world.runtime(node)).identity.clone())
    });
    // One has more ways in than the other.
    let ways = [vec![1; 40], vec![2; 200]];
    let mut seen: [Vec<Sample>; 3] = Default::default();
    for _ in 0..LEARNED + GUESSED {
        let [coin] = runtime.random_array();
        let second = coin & 1 == 1;
        let who = usize::from(second);
        let (name, caller) = &callers[who];
        let made = by_hand::offer(&runtime, caller, name, &callee, ways[who].clone());
        let told = |envelope: Vec<u8>| {
            let consignment = Consignment::Deliver {
                to: owner.1,
                epoch: 7,
                // Both are contacts, and have the same key for that.
                mark: Some(key.mark(owner, &envelope)),
                envelope,
            };
            Request::Consign(consignment).encode()
        };
        let inner = signal::Offer {
            media: MediaCapabilities::default(),
            display_name: (*name).into(),
            invite: Vec::new(),
        };
        let inner = [inner.encode(), ways[who].clone()].concat();
        let class = made.envelope.len();
        let cut = class / 2 + inner.len();
        seen[0].push((told(made.envelope.clone()), second));
        seen[1].push((
            told([inner, made.envelope].concat()[..class].to_vec()),
            second,
        ));
        seen[2].push((told(vec![0; cut]), second));
    }
    seen
}

#[test]
fn a_home_cannot_tell_two_callers_apart_but_by_their_addresses() {
    let [sealed, unsealed, unpadded] = calls_by_two();
    let right = guess(&sealed);
    assert!(right <= BY_CHANCE, "{right}");
    // The same guesser, where they are not sealed, where they are not padded, and by the address.
    assert_eq!(guess(&unsealed), GUESSED);
    assert_eq!(guess(&unpadded), GUESSED);
    let addressed: Vec<Sample> = sealed
        .into_iter()
        .map(|(mut seen, second)| {
            let from = if second { CAROL } else { ALICE };
            seen.splice(0..0, from);
            (seen, second)
        })
        .collect();
    assert_eq!(guess(&addressed), GUESSED);
    threat(
        17,
        format_args!(
            "which of two people called is guessed right in {right} of {GUESSED} calls; unsealed, unpadded or by the address in all"
        ),
    );
}
