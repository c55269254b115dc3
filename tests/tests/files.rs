//! Files between contacts: offered in letters, fetched over sessions of their own or beside a call, from whoever has
//! them. Virtual time, shipped engine and supernode.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::{fs, path::PathBuf, time::Duration};

use ahoy::{
    engine::{
        config::EngineConfig,
        files::{FileChange, TransferView},
        handle::{Command, Event},
    },
    files::{
        TransferId,
        book::{Direction, State},
    },
    sim::{Conditions, Rate},
};
use ahoy_tests::{
    pair::{ALICE, BOB, CAROL, HOME, Pair, audio, ms, never_rang, plan, secs},
    people::{ACCESS, Phone, Stage},
    threat,
};

const SEED: u64 = 0x6669_6c65;
const DAVE: [u8; 4] = [198, 51, 100, 4];
const EVE: [u8; 4] = [198, 51, 100, 5];
const MB: usize = 1_000_000;

fn play(seed: u64, play: impl AsyncFnOnce(&Stage)) {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::new(SEED + seed, folder.path());
    let director = stage.director;
    stage.world.block_on(director, play(&stage)).unwrap();
}

/// Bytes that do not repeat.
fn bytes(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_be_bytes());
    }
    out.truncate(len);
    out
}

fn id(n: u8) -> TransferId {
    TransferId([n; 16])
}

/// A file of somebody's.
fn file_of(phone: &Phone, name: &str, bytes: &[u8]) -> PathBuf {
    let folder = phone
        .recording
        .with_file_name(format!("own-{}", phone.name));
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join(name);
    fs::write(&path, bytes).unwrap();
    path
}

fn send(from: &Phone, to: &Phone, n: u8, path: PathBuf) {
    let to = to.link();
    from.tell(Command::SendFile {
        id: id(n),
        to,
        path,
    });
}

/// Waits until a file is in this state.
async fn becomes(phone: &Phone, n: u8, state: State, limit: Duration) -> TransferView {
    let is_it = |event: &Event| {
        if let Event::File(file) = event {
            (file.id == id(n) && file.state == state).then(|| (**file).clone())
        } else {
            None
        }
    };
    phone.wait(state.word(), limit, is_it).await.1
}

fn shown(phone: &Phone, n: u8) -> TransferView {
    let view = phone.engine.view();
    let view = view.borrow();
    view.files
        .iter()
        .find(|file| file.id == id(n))
        .unwrap()
        .clone()
}

fn accept(phone: &Phone, n: u8) {
    phone.tell(Command::File(id(n), FileChange::Accept));
}

fn takes_all(config: &mut EngineConfig) {
    config.files.accept = true;
}

fn read(file: &TransferView) -> Vec<u8> {
    fs::read(file.path.as_ref().unwrap()).unwrap()
}

#[test]
fn a_file_goes_to_a_contact_who_accepts_it_and_nothing_rings() {
    plan(SEED + 1).run(async |pair| {
        let content = bytes(2 * MB);
        let path = file_of(&pair.alice, "holiday.jpg", &content);
        send(&pair.alice, &pair.bob, 1, path);
        let offered = becomes(&pair.bob, 1, State::Offered, secs(10)).await;
        assert_eq!(offered.direction, Direction::Incoming);
        assert_eq!(
            (offered.name.as_str(), offered.size),
            ("holiday.jpg", 2 * MB as u64)
        );
        pair.pass(secs(30)).await;
        assert_eq!(shown(&pair.bob, 1).done, 0, "nothing is fetched unasked");
        accept(&pair.bob, 1);
        let done = becomes(&pair.bob, 1, State::Done, secs(30)).await;
        assert!(read(&done) == content);
        becomes(&pair.alice, 1, State::Done, secs(10)).await;
        assert!(never_rang(&pair.alice) && never_rang(&pair.bob));
        let took = done.stats;
        assert!(took.wasted * 10 < took.received, "{took:?}");
        // The session goes when nobody needs it.
        pair.pass(secs(60)).await;
        let after = pair.stage.world.stats().sent;
        pair.pass(secs(10)).await;
        let idle = pair.stage.world.stats().sent - after;
        assert!(
            idle < 60,
            "{idle} packets in ten seconds without anything to do"
        );
    });
}

#[test]
fn on_a_fast_line_a_file_comes_as_fast_as_a_session_sends() {
    plan(SEED + 10).run(async |pair| {
        let content = bytes(20 * MB);
        let path = file_of(&pair.alice, "a.bin", &content);
        send(&pair.alice, &pair.bob, 1, path);
        becomes(&pair.bob, 1, State::Offered, secs(10)).await;
        let began = pair.stage.now();
        accept(&pair.bob, 1);
        let done = becomes(&pair.bob, 1, State::Done, secs(60)).await;
        assert!(read(&done) == content);
        let took = (pair.stage.now() - began).as_secs_f64();
        println!(
            "20 MB in {took:.1} s, the session with it; {:?}",
            done.stats
        );
        // A session sends 45 Mbit/s at most, of which a tenth is heads; it begins at 0.3.
        assert!(took < 10.0, "{took}");
    });
}

#[test]
fn the_offer_waits_for_who_is_off_and_the_file_moves_when_both_are_there() {
    play(2, async |stage| {
        let home = stage.home("home", HOME).await;
        let (a, b) = (stage.identity(), stage.identity());
        let alice = stage.phone("Alice", ALICE, &a, &[&home], |_| {});
        let bob = stage.phone("Bob", BOB, &b, &[&home], |_| {});
        alice.befriend(&bob);
        alice.ready().await;
        bob.ready().await;
        // A word each, so that boxes are known.
        stage.switch_off(&bob);
        let content = bytes(MB);
        send(&alice, &bob, 1, file_of(&alice, "a.bin", &content));
        stage.pass(secs(5)).await;
        stage.switch_off(&alice);
        let bob = stage.switch_on(&bob, &b, &[&home]);
        becomes(&bob, 1, State::Offered, secs(10)).await;
        accept(&bob, 1);
        stage.pass(secs(60)).await;
        assert_eq!(shown(&bob, 1).done, 0);
        let _alice = stage.switch_on(&alice, &a, &[&home]);
        let done = becomes(&bob, 1, State::Done, secs(200)).await;
        assert!(read(&done) == content);
    });
}

#[test]
fn whoever_is_killed_in_between_goes_on_where_it_was() {
    play(3, async |stage| {
        let home = stage.home("home", HOME).await;
        let (a, b) = (stage.identity(), stage.identity());
        let alice = stage.phone("Alice", ALICE, &a, &[&home], |_| {});
        let bob = stage.phone("Bob", BOB, &b, &[&home], takes_all);
        alice.befriend(&bob);
        alice.ready().await;
        bob.ready().await;
        let slow = Conditions {
            rate: Some(Rate {
                bits_per_second: 4_000_000,
                queue_bytes: 60_000,
            }),
            ..Conditions::with_delay(ACCESS)
        };
        stage.between(&alice, &bob, &slow);
        stage.world.set_link(alice.node, slow);
        let content = bytes(5 * MB);
        send(&alice, &bob, 1, file_of(&alice, "a.bin", &content));
        becomes(&bob, 1, State::Active, secs(10)).await;
        while shown(&bob, 1).done < 2 * MB as u64 {
            stage.pass(ms(500)).await;
        }
        stage.switch_off(&bob);
        stage.pass(secs(5)).await;
        let bob = stage.switch_on(&bob, &b, &[&home]);
        stage.pass(secs(1)).await;
        let there = shown(&bob, 1).done;
        assert!(there >= 2 * MB as u64, "{there}");
        while shown(&bob, 1).done < 3 * MB as u64 {
            stage.pass(ms(500)).await;
        }
        stage.switch_off(&alice);
        stage.pass(secs(15)).await;
        let _alice = stage.switch_on(&alice, &a, &[&home]);
        let done = becomes(&bob, 1, State::Done, secs(600)).await;
        assert!(read(&done) == content);
        // What was there was not sent again.
        assert!(done.stats.received < 3_500_000, "{:?}", done.stats);
    });
}

#[test]
fn a_file_comes_from_everybody_who_has_it() {
    play(4, async |stage| {
        let home = stage.home("home", HOME).await;
        let mut first = stage.identity();
        let second = stage.second_device(&mut first);
        let (a, c) = (stage.identity(), stage.identity());
        // Whoever sends has a slow line.
        let uphill = Conditions {
            rate: Some(Rate {
                bits_per_second: 3_000_000,
                queue_bytes: 45_000,
            }),
            ..Conditions::with_delay(ACCESS)
        };
        let alice = stage.phone("Alice", ALICE, &a, &[&home], |_| {});
        let carol = stage.phone("Carol", CAROL, &c, &[&home], |_| {});
        let desk = stage.phone("Desk", BOB, &first, &[&home], takes_all);
        let pocket = stage.phone("Pocket", DAVE, &second, &[&home], |_| {});
        for sender in [&alice, &carol] {
            sender.befriend(&desk);
            sender.befriend(&pocket);
        }
        for phone in [&alice, &carol, &desk, &pocket] {
            phone.ready().await;
        }
        let content = bytes(6 * MB);
        send(&alice, &desk, 1, file_of(&alice, "same.bin", &content));
        becomes(&desk, 1, State::Done, secs(60)).await;
        // Bob's other device was offered it too; Carol offers the same file.
        becomes(&pocket, 1, State::Offered, secs(10)).await;
        send(
            &carol,
            &pocket,
            2,
            file_of(&carol, "other name.bin", &content),
        );
        becomes(&pocket, 2, State::Offered, secs(10)).await;
        for phone in [&alice, &carol, &desk] {
            stage.world.set_link(phone.node, uphill.clone());
        }
        let began = stage.now();
        accept(&pocket, 1);
        let mut most = 0;
        while shown(&pocket, 1).state != State::Done {
            stage.pass(ms(250)).await;
            most = most.max(shown(&pocket, 1).sources);
            assert!(stage.now() - began < secs(60), "{:?}", shown(&pocket, 1));
        }
        let took = (stage.now() - began).as_secs_f64();
        let done = shown(&pocket, 1);
        assert!(read(&done) == content);
        assert_eq!(most, 3, "Alice, Carol and the other device");
        // One line of 3 Mbit/s alone takes more than 16 s.
        println!(
            "three lines of 3 Mbit/s: 6 MB in {took:.1} s; {:?}",
            done.stats
        );
        assert!(took < 12.0, "{took}");
    });
}

#[test]
fn what_is_offered_by_a_stranger_or_too_large_or_refused_does_not_come() {
    play(5, async |stage| {
        let home = stage.home("home", HOME).await;
        let phone = |name: &str, ip| {
            let identity = stage.identity();
            stage.phone(name, ip, &identity, &[&home], |config| {
                config.files.accept = true;
                config.files.max_bytes = 500_000;
            })
        };
        let (alice, bob, eve) = (phone("Alice", ALICE), phone("Bob", BOB), phone("Eve", EVE));
        alice.befriend(&bob);
        // Eve knows Bob, and he does not know her.
        eve.book.add_contact(bob.user, "Bob");
        for phone in [&alice, &bob, &eve] {
            phone.ready().await;
        }
        send(&eve, &bob, 1, file_of(&eve, "virus.exe", &bytes(1000)));
        send(&alice, &bob, 2, file_of(&alice, "large.bin", &bytes(MB)));
        let refused = becomes(&bob, 2, State::Refused, secs(20)).await;
        assert!(
            refused.sentence.contains("larger than the 500.0 kB"),
            "{}",
            refused.sentence
        );
        stage.pass(secs(60)).await;
        let view = bob.engine.view();
        assert_eq!(view.borrow().files.len(), 1, "nothing of Eve's");
        assert!(fs::read_dir(bob.recording.with_file_name("files-of-Bob")).is_err());
        // To somebody who is no contact nothing is sent.
        alice.tell(Command::SendFile {
            id: id(3),
            to: eve.link(),
            path: file_of(&alice, "x", b"x"),
        });
        let said = |event: &Event| {
            if let Event::Failed { sentence } = event {
                Some(sentence.clone())
            } else {
                None
            }
        };
        let (_, sentence) = alice.wait("a sentence", secs(5), said).await;
        assert!(sentence.contains("contacts alone"), "{sentence}");
    });
}

#[test]
fn whoever_offered_a_file_hears_that_it_is_not_wanted_and_sees_how_fast_another_leaves() {
    plan(SEED + 8).run(async |pair| {
        let slow = file_of(&pair.alice, "film.mkv", &bytes(4 * MB));
        send(
            &pair.alice,
            &pair.bob,
            1,
            file_of(&pair.alice, "a", &bytes(1000)),
        );
        send(&pair.alice, &pair.bob, 2, slow);
        becomes(&pair.bob, 1, State::Offered, secs(10)).await;
        becomes(&pair.bob, 2, State::Offered, secs(10)).await;
        pair.bob.tell(Command::File(id(1), FileChange::Refuse));
        let refused = becomes(&pair.alice, 1, State::Refused, secs(30)).await;
        assert!(
            refused.sentence.contains("does not want it"),
            "{}",
            refused.sentence
        );
        // What was said cannot be unsaid.
        accept(&pair.bob, 1);
        let said = |event: &Event| {
            if let Event::Failed { sentence } = event {
                Some(sentence.clone())
            } else {
                None
            }
        };
        let (_, sentence) = pair.bob.wait("a sentence", secs(5), said).await;
        assert!(sentence.contains("knows"), "{sentence}");

        accept(&pair.bob, 2);
        let (mut fastest, mut last) = (0, 0);
        for _ in 0..240 {
            pair.pass(ms(250)).await;
            let leaves = shown(&pair.alice, 2);
            assert!(leaves.done >= last, "{} after {last}", leaves.done);
            (fastest, last) = (fastest.max(leaves.rate), leaves.done);
            if leaves.state == State::Done {
                break;
            }
        }
        assert_eq!(shown(&pair.alice, 2).state, State::Done);
        println!("the sender saw up to {fastest} bytes per second");
        assert!(fastest > 50_000, "{fastest}");
    });
}

#[test]
fn a_file_that_is_changed_is_not_sent_and_nobody_is_banned_for_it() {
    plan(SEED + 6).run(async |pair| {
        let content = bytes(MB);
        let path = file_of(&pair.alice, "a.bin", &content);
        send(&pair.alice, &pair.bob, 1, path.clone());
        becomes(&pair.bob, 1, State::Offered, secs(10)).await;
        let mut other = content.clone();
        other[MB / 2] ^= 1;
        fs::write(&path, &other).unwrap();
        accept(&pair.bob, 1);
        let failed = becomes(&pair.alice, 1, State::Failed, secs(30)).await;
        assert!(failed.sentence.contains("changed"), "{}", failed.sentence);
        pair.pass(secs(20)).await;
        let there = shown(&pair.bob, 1);
        assert_eq!((there.state, there.stats.banned), (State::Active, 0));
        assert!(there.done < MB as u64);
        // Refused, nothing of it stays.
        pair.bob.tell(Command::File(id(1), FileChange::Refuse));
        becomes(&pair.bob, 1, State::Refused, secs(5)).await;
        let folder = pair.bob.recording.with_file_name("files-of-Bob");
        assert_eq!(fs::read_dir(folder).unwrap().count(), 0);
    });
}

/// One honest device and four that send something else than they offered, over sessions; what Bob has in the end.
fn five_sources(seed: u64, verifies: bool) -> (Vec<u8>, TransferView, Vec<u8>) {
    let mut got = None;
    play(seed, async |stage| {
        let home = stage.home("home", HOME).await;
        let b = stage.identity();
        let bob = stage.phone("Bob", BOB, &b, &[&home], |config| {
            config.files.verifies = verifies;
        });
        bob.ready().await;
        let content = bytes(3 * MB);
        let mut senders = Vec::new();
        for n in 1..=5_u8 {
            let identity = stage.identity();
            let ip = [198, 51, 100, 10 + n];
            let hostile = n > 1;
            let phone = stage.phone(&format!("Sender {n}"), ip, &identity, &[&home], |config| {
                // Who looks at what is sent sends nothing that is false.
                config.files.verifies = !hostile;
            });
            phone.befriend(&bob);
            phone.ready().await;
            // The honest line is the slowest.
            if !hostile {
                let slow = Conditions {
                    rate: Some(Rate::with_queue_time(4_000_000, ms(200))),
                    ..Conditions::with_delay(ACCESS)
                };
                stage.world.set_link(phone.node, slow);
            }
            let path = file_of(&phone, "film.mkv", &content);
            send(&phone, &bob, n, path.clone());
            becomes(&bob, n, State::Offered, secs(10)).await;
            if hostile {
                let mut other = content.clone();
                match n {
                    // Each byte, the last one, one in each piece; and another order.
                    2 => other.iter_mut().for_each(|byte| *byte ^= 0x55),
                    3 => *other.last_mut().unwrap() ^= 1,
                    4 => other.iter_mut().step_by(60_000).for_each(|byte| *byte ^= 1),
                    _ => other.rotate_left(65_536),
                }
                fs::write(&path, other).unwrap();
            }
            senders.push(phone);
        }
        accept(&bob, 1);
        let done = becomes(&bob, 1, State::Done, secs(120)).await;
        got = Some((read(&done), done, content));
    });
    got.unwrap()
}

#[test]
fn four_hostile_devices_of_five_are_banned_and_the_file_is_right() {
    let (got, done, content) = five_sources(8, true);
    assert!(got == content);
    let stats = done.stats;
    assert!((3..=4).contains(&stats.banned), "{stats:?}");
    threat(
        19,
        format_args!(
            "over sessions, 4 of 5 devices hostile: bytes equal; {} banned, {} kB of 3000 fetched again",
            stats.banned,
            (stats.received.saturating_sub(3_000_000)) / 1000
        ),
    );
}

#[test]
fn without_verification_hostile_devices_poison_the_file() {
    let (got, done, content) = five_sources(9, false);
    assert!(got != content && done.stats.banned == 0, "{:?}", done.stats);
}

#[test]
fn it_pauses_and_goes_on() {
    plan(SEED + 7).run(async |pair| {
        narrow(pair, 3_000_000);
        let content = bytes(3 * MB);
        send(
            &pair.alice,
            &pair.bob,
            1,
            file_of(&pair.alice, "a.bin", &content),
        );
        becomes(&pair.bob, 1, State::Offered, secs(10)).await;
        accept(&pair.bob, 1);
        while shown(&pair.bob, 1).done < MB as u64 {
            pair.pass(ms(250)).await;
        }
        pair.bob.tell(Command::File(id(1), FileChange::Pause));
        becomes(&pair.bob, 1, State::Paused, secs(5)).await;
        pair.pass(secs(2)).await;
        let before = shown(&pair.bob, 1).done;
        pair.pass(secs(30)).await;
        assert_eq!(shown(&pair.bob, 1).done, before);
        accept(&pair.bob, 1);
        let done = becomes(&pair.bob, 1, State::Done, secs(120)).await;
        assert!(read(&done) == content);
    });
}

/// A line of that rate between the two, as at home: with a queue of a fifth of a second.
fn narrow(pair: &Pair, bits_per_second: u64) {
    let conditions = Conditions {
        rate: Some(Rate {
            bits_per_second,
            queue_bytes: usize::try_from(bits_per_second / 8 / 5).unwrap(),
        }),
        ..Conditions::with_delay(ms(20))
    };
    pair.stage.between(&pair.alice, &pair.bob, &conditions);
    for phone in [&pair.alice, &pair.bob] {
        pair.stage.world.set_link(phone.node, conditions.clone());
    }
}

/// A call of 40 s over a line of 1.5 Mbit/s; with a file beside it or without. What was concealed at Bob's, the p95 of
/// his jitter buffer in milliseconds, and bytes that came of the file.
fn call_beside(seed: u64, file: bool, yields: bool) -> (u64, f64, u64) {
    plan(seed)
        .configure(move |_name, config| {
            config.files.accept = true;
            config.files.yields = yields;
        })
        .run(async |pair| {
            narrow(pair, 1_500_000);
            pair.talk().await;
            pair.pass(secs(5)).await;
            if file {
                let content = bytes(20 * MB);
                send(
                    &pair.alice,
                    &pair.bob,
                    1,
                    file_of(&pair.alice, "a.bin", &content),
                );
            }
            pair.pass(secs(35)).await;
            let came = if file { shown(&pair.bob, 1).done } else { 0 };
            let [_alice, bob] = pair.hang_up().await;
            let audio = audio(&bob.report);
            let buffer = audio.jitter_buffer_ms.as_ref().unwrap().p95;
            (audio.concealed_ms.unwrap(), buffer, came)
        })
}

#[test]
fn a_file_beside_a_call_costs_the_sound_next_to_nothing() {
    let (mut without, mut with, mut bytes) = (0, 0, 0);
    for seed in 0..3 {
        let quiet = call_beside(SEED + 20 + seed, false, true);
        let beside = call_beside(SEED + 20 + seed, true, true);
        println!("without {quiet:?}, with a file {beside:?}");
        without += quiet.0;
        with += beside.0;
        bytes += beside.2;
    }
    // In 3 times 35 s; the line carries 1.5 Mbit/s. What it costs is the file's first moment, until it knows the line: 50 to
    // 90 ms.
    assert!(bytes > 3 * 3 * MB as u64, "{bytes}");
    assert!(
        with <= without + 3 * 80,
        "{with} ms concealed, {without} without a file"
    );
}

#[test]
fn without_yielding_a_file_takes_the_words_away() {
    let quiet = call_beside(SEED + 20, false, true);
    let beside = call_beside(SEED + 20, true, false);
    println!("without {quiet:?}, with a file that does not yield {beside:?}");
    assert!(beside.0 > quiet.0 + 1000, "{beside:?} {quiet:?}");
}

#[test]
fn a_file_goes_on_when_the_call_beside_it_ends() {
    plan(SEED + 30)
        .configure(|_name, config| takes_all(config))
        .run(async |pair| {
            narrow(pair, 3_000_000);
            pair.talk().await;
            let content = bytes(4 * MB);
            send(
                &pair.alice,
                &pair.bob,
                1,
                file_of(&pair.alice, "a.bin", &content),
            );
            while !pair
                .bob
                .engine
                .view()
                .borrow()
                .files
                .iter()
                .any(|file| file.done > MB as u64)
            {
                pair.pass(ms(250)).await;
            }
            pair.hang_up().await;
            let done = becomes(&pair.bob, 1, State::Done, secs(120)).await;
            assert!(read(&done) == content);
            threat(
                19,
                "a file whose call ended in between is complete, each byte verified",
            );
        });
}
