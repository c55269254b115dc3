//! Messages and missed calls for people who are off: left at homes that may die, read once, answered. Virtual time,
//! shipped engine and supernode.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use ahoy::{
    call::{Ending, Unreachable},
    chat::{
        Content, Line, Message, MessageId, MessageState, Obstacle,
        book::{ChatBook, MAX_STRANGER_MESSAGES},
        note::{Note, Says},
    },
    engine::{
        book::AddressBook,
        handle::{Command, Event},
    },
    identity::Identity,
    sim::{Conditions, Limits},
};
use ahoy_nat::{
    client::{NodeClient, RequestError},
    supernode::{
        MailKeeper,
        mailbox::{
            MailCapability, MailLimits, Mailbox,
            disk::{BoxChange, KeptBox},
        },
        protocol::{Push, Refusal, Response},
    },
};
use ahoy_tests::{
    device::Device,
    pair::{ALICE, BOB, CAROL, HOME, SOON, never_rang, secs},
    people::{ACCESS, Home, Phone, Stage},
};
use ahoy_transport::{
    endpoint::NodeAuth,
    identity::SealKeyRecord,
    runtime::Runtime,
    sealed::{Letter, MAX_LETTER_AGE_MILLIS, seal_letter},
};
use futures_util::{FutureExt as _, future::BoxFuture};
use quinn::Runtime as _;

const SEED: u64 = 0x6d61_696c;
const HOMES: [[u8; 4]; 3] = [HOME, [192, 0, 2, 2], [203, 0, 113, 3]];

/// Plays in a world with three homes.
fn play(seed: u64, play: impl AsyncFnOnce(&Stage, [&Home; 3])) {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::new(SEED + seed, folder.path());
    // Homes are asked again within hours.
    stage.world.set_limits(Limits {
        time: secs(6 * 3600),
        ..Limits::default()
    });
    let director = stage.director;
    let playing = async {
        let homes = [
            stage.home("one", HOMES[0]).await,
            stage.home("two", HOMES[1]).await,
            stage.home("three", HOMES[2]).await,
        ];
        play(&stage, homes.each_ref()).await;
    };
    stage.world.block_on(director, playing).unwrap();
}

fn id(n: u8) -> MessageId {
    MessageId([n; 16])
}

fn write(from: &Phone, to: &Phone, n: u8, text: &str) {
    from.tell(Command::Message {
        id: id(n),
        to: to.link(),
        text: text.into(),
    });
}

/// Waits for what was written, from a contact or a stranger.
async fn reads(phone: &Phone, limit: Duration) -> (Message, bool) {
    let reads = |event: &Event| {
        if let Event::Message {
            message, request, ..
        } = event
        {
            Some((message.clone(), *request))
        } else {
            None
        }
    };
    phone.wait("a message", limit, reads).await.1
}

/// Waits until a message of `phone`'s has come so far.
async fn hears(phone: &Phone, n: u8, limit: Duration, word: &str) -> MessageState {
    let hears = |event: &Event| {
        if let Event::MessageState { id: of, state, .. } = event {
            (*of == id(n) && state.word() == word).then_some(*state)
        } else {
            None
        }
    };
    phone.wait(word, limit, hears).await.1
}

/// All texts that came, in order.
fn read(phone: &Phone) -> Vec<String> {
    let texts = phone.events().into_iter().filter_map(|(_at, event)| {
        if let Event::Message { message, .. } = event {
            Some(match message.content {
                Content::Text(text) => text,
                Content::MissedCall => "a call".into(),
            })
        } else {
            None
        }
    });
    texts.collect()
}

/// What a telephone has written down.
fn kept(phone: &Phone) -> Vec<Message> {
    ChatBook(phone.book.shelf()).messages(None, 1000).unwrap()
}

struct Friends {
    alices: Identity,
    bobs: Identity,
    alice: Phone,
    bob: Phone,
}

/// Alice is at the last home, Bob at all that are named.
async fn friends(stage: &Stage, homes: [&Home; 3], bobs_homes: &[&Home]) -> Friends {
    let (alices, bobs) = (stage.identity(), stage.identity());
    let alice = stage.phone("Alice", ALICE, &alices, &homes[2..], |_| {});
    let bob = stage.phone("Bob", BOB, &bobs, bobs_homes, |_| {});
    alice.befriend(&bob);
    alice.ready().await;
    bob.ready().await;
    // All of them.
    stage.pass(secs(2)).await;
    Friends {
        alices,
        bobs,
        alice,
        bob,
    }
}

#[test]
fn a_message_to_somebody_who_is_there_arrives_and_is_answered() {
    play(1, async |stage, homes| {
        let friends = friends(stage, homes, &homes).await;
        let Friends { alice, bob, .. } = &friends;
        let began = stage.now();
        write(alice, bob, 1, "hello \u{202e}Bob");
        let (message, request) = reads(bob, SOON).await;
        assert!(!request);
        assert_eq!(message.content, Content::Text("hello Bob".into()));
        assert_eq!((message.user, message.id), (alice.user, id(1)));
        hears(alice, 1, SOON, "delivered").await;
        eprintln!("delivered after {:?}", stage.now() - began);
        stage.pass(secs(60)).await;
        assert_eq!(
            read(bob),
            ["hello Bob"],
            "once, though it came by three homes"
        );
        assert!(matches!(
            kept(alice)[0].line,
            Line::Sent(MessageState::Delivered { .. })
        ));
        assert!(ChatBook(alice.book.shelf()).outgoing().unwrap().is_empty());
        assert!(ChatBook(bob.book.shelf()).outgoing().unwrap().is_empty());
        // The receipt told Alice how to mark what comes next, so it counts as a contact's.
        write(alice, bob, 2, "again");
        hears(alice, 2, SOON, "delivered").await;
        let mail = homes[0].status().rendezvous.mail;
        assert_eq!((mail.left_by_strangers, mail.left_by_contacts), (1, 1));
        assert_eq!((mail.acknowledged, mail.waiting), (2, 0));
    });
}

#[test]
fn somebody_who_is_off_reads_it_once_though_it_waits_at_three_homes() {
    play(2, async |stage, homes| {
        let Friends {
            alice, bob, bobs, ..
        } = friends(stage, homes, &homes).await;
        stage.switch_off(&bob);
        stage.pass(secs(60)).await;
        write(&alice, &bob, 1, "come at eight");
        let state = hears(&alice, 1, secs(20), "waiting").await;
        assert_eq!(state, MessageState::Waiting(3));
        for home in homes {
            assert_eq!(home.status().rendezvous.mail.waiting, 1);
        }
        // One of them dies meanwhile.
        stage.kill(homes[0]);
        stage.pass(secs(3600)).await;
        let bob = stage.switch_on(&bob, &bobs, &homes);
        let (message, _) = reads(&bob, secs(20)).await;
        assert_eq!(message.content, Content::Text("come at eight".into()));
        hears(&alice, 1, secs(20), "delivered").await;
        stage.pass(secs(120)).await;
        assert_eq!(read(&bob), ["come at eight"]);
        assert_eq!(homes[1].status().rendezvous.mail.waiting, 0);
        assert_eq!(homes[2].status().rendezvous.mail.waiting, 0);
    });
}

#[test]
fn the_sender_may_be_off_when_it_is_read_and_learns_of_it_later() {
    play(3, async |stage, homes| {
        let Friends {
            alice,
            bob,
            bobs,
            alices,
        } = friends(stage, homes, &homes[..2]).await;
        stage.switch_off(&bob);
        write(&alice, &bob, 1, "good night");
        hears(&alice, 1, secs(20), "waiting").await;
        stage.switch_off(&alice);
        stage.pass(secs(600)).await;
        let bob = stage.switch_on(&bob, &bobs, &homes[..2]);
        reads(&bob, secs(20)).await;
        stage.pass(secs(60)).await;
        stage.switch_off(&bob);
        // Nobody else is there any more: what tells Alice waited at her home.
        assert_eq!(homes[2].status().rendezvous.mail.waiting, 1);
        let alice = stage.switch_on(&alice, &alices, &homes[2..]);
        hears(&alice, 1, secs(20), "delivered").await;
        assert_eq!(read(&bob), ["good night"]);
        assert!(ChatBook(alice.book.shelf()).outgoing().unwrap().is_empty());
    });
}

#[test]
fn what_all_homes_forgot_is_left_again() {
    play(4, async |stage, homes| {
        let Friends {
            alice, bob, bobs, ..
        } = friends(stage, homes, &homes[..2]).await;
        stage.switch_off(&bob);
        write(&alice, &bob, 1, "still there?");
        hears(&alice, 1, secs(20), "waiting").await;
        for home in &homes[..2] {
            stage.kill(home);
            stage.restart(home).await;
            assert_eq!(home.status().rendezvous.mail.waiting, 0);
        }
        let bob = stage.switch_on(&bob, &bobs, &homes[..2]);
        bob.ready().await;
        stage.pass(secs(600)).await;
        assert!(read(&bob).is_empty(), "nothing waits for him");
        reads(&bob, secs(3 * 3600)).await;
        hears(&alice, 1, secs(20), "delivered").await;
    });
}

/// Bob reads on one device while the other one is off, and its home forgets what waits for it. What that one has in the end.
fn read_by_the_second_device(every_device: bool) -> Vec<String> {
    let mut texts = Vec::new();
    play(13, async |stage, homes| {
        let alices = stage.identity();
        let mut bobs = stage.identity();
        let second = stage.second_device(&mut bobs);
        let alice = stage.phone("Alice", ALICE, &alices, &homes[2..], |config| {
            config.upkeep.every_device = every_device;
        });
        let desk = stage.phone("desk", BOB, &bobs, &homes[..1], |_| {});
        let pocket = stage.phone("pocket", CAROL, &second, &homes[..1], |_| {});
        alice.befriend(&desk);
        pocket.book.add_contact(alice.user, "Alice");
        for phone in [&alice, &desk, &pocket] {
            phone.ready().await;
        }
        stage.pass(secs(10)).await;
        stage.switch_off(&pocket);
        write(&alice, &desk, 1, "the key is under the mat");
        reads(&desk, secs(20)).await;
        hears(&alice, 1, secs(20), "delivered").await;
        stage.pass(secs(10)).await;
        stage.kill(homes[0]);
        stage.restart(homes[0]).await;
        assert_eq!(homes[0].status().rendezvous.mail.waiting, 0);
        let pocket = stage.switch_on(&pocket, &second, &homes[..1]);
        pocket.ready().await;
        stage.pass(secs(600)).await;
        assert!(read(&pocket).is_empty(), "nothing waits for it");
        stage.pass(secs(4 * 3600)).await;
        assert_eq!(kept(&alice).len(), 1);
        let said = alice.events().into_iter().filter(|(_at, event)| {
            matches!(event, Event::MessageState { state, .. } if state.word() == "delivered")
        });
        assert_eq!(said.count(), 1, "it is said once");
        texts = read(&pocket);
    });
    texts
}

#[test]
fn a_message_reaches_the_second_device_though_its_home_forgot_it() {
    assert_eq!(
        read_by_the_second_device(true),
        ["the key is under the mat"]
    );
    assert!(read_by_the_second_device(false).is_empty());
}

#[test]
fn what_no_home_takes_stays_here_and_goes_when_one_is_back() {
    play(5, async |stage, homes| {
        let Friends { alice, bob, .. } = friends(stage, homes, &homes[..1]).await;
        stage.kill(homes[0]);
        write(&alice, &bob, 1, "hello?");
        let queued = |event: &Event| {
            matches!(event, Event::MessageState { state, .. }
                if *state == MessageState::Queued(Some(Obstacle::NoRoute)))
            .then_some(())
        };
        alice.wait("queued", secs(30), queued).await;
        stage.pass(secs(600)).await;
        assert!(read(&bob).is_empty());
        stage.restart(homes[0]).await;
        hears(&alice, 1, secs(1900), "delivered").await;
        assert_eq!(read(&bob), ["hello?"]);
    });
}

#[test]
fn a_stranger_lands_in_the_inbox_and_learns_nothing() {
    play(6, async |stage, homes| {
        let Friends { alice, bob, .. } = friends(stage, homes, &homes).await;
        let identity = stage.identity();
        let carol = stage.phone("Carol", CAROL, &identity, &homes[..1], |_| {});
        carol.ready().await;
        for n in 0..8 {
            write(&carol, &bob, 10 + n, &format!("it is me, {n}"));
        }
        let (_, request) = reads(&bob, SOON).await;
        assert!(request);
        stage.pass(secs(4000)).await;
        assert_eq!(bob.book_requests(), [("Carol".to_owned(), carol.user)]);
        assert_eq!(read(&bob).len(), MAX_STRANGER_MESSAGES);
        assert!(never_rang(&bob));
        let told = carol.events().into_iter().any(|(_at, event)| {
            matches!(
                event,
                Event::MessageState {
                    state: MessageState::Delivered { .. },
                    ..
                }
            )
        });
        assert!(!told, "that would tell when Bob is there");
        assert!(
            ChatBook(carol.book.shelf())
                .peers(bob.user)
                .unwrap()
                .is_empty()
        );
        // Blocked, nobody is there.
        bob.book.block(carol.user);
        write(&carol, &bob, 30, "hello?");
        hears(&carol, 30, SOON, "waiting").await;
        stage.pass(secs(10)).await;
        assert_eq!(read(&bob).len(), MAX_STRANGER_MESSAGES);
        // Meanwhile a friend is heard.
        write(&alice, &bob, 1, "hello");
        hears(&alice, 1, SOON, "delivered").await;
    });
}

#[test]
fn a_call_that_nobody_could_answer_is_told_once() {
    play(7, async |stage, homes| {
        let Friends {
            alice, bob, bobs, ..
        } = friends(stage, homes, &homes).await;
        // It rings, and nobody comes: Bob's telephone knows that itself.
        alice.call(&bob);
        bob.rings().await;
        stage.pass(secs(2)).await;
        alice.tell(Command::HangUp);
        alice.ends(secs(20)).await;
        stage.pass(secs(60)).await;
        assert!(read(&bob).is_empty());
        // It is off.
        stage.switch_off(&bob);
        stage.pass(secs(60)).await;
        let called = stage.world.runtime(alice.node).unix_millis();
        alice.call(&bob);
        let ended = alice.ends(secs(60)).await;
        assert_eq!(ended.ending, Ending::Unreachable(Unreachable::Offline));
        stage.pass(secs(3600)).await;
        let bob = stage.switch_on(&bob, &bobs, &homes);
        let (message, request) = reads(&bob, secs(20)).await;
        assert!(!request);
        assert_eq!(message.content, Content::MissedCall);
        assert_eq!(message.user, alice.user);
        assert!(
            message.at_millis.abs_diff(called) < 1000,
            "when it was called"
        );
        stage.pass(secs(60)).await;
        assert_eq!(read(&bob), ["a call"]);
        assert!(never_rang(&bob));
        assert!(ChatBook(alice.book.shelf()).outgoing().unwrap().is_empty());
    });
}

#[test]
fn who_talked_with_a_contact_is_known_as_one_to_the_homes() {
    play(11, async |stage, homes| {
        let Friends { alice, bob, .. } = friends(stage, homes, &homes[..1]).await;
        alice.talk_to(&bob).await;
        stage.pass(secs(2)).await;
        alice.tell(Command::HangUp);
        alice.ends(SOON).await;
        stage.switch_off(&bob);
        write(&alice, &bob, 1, "as I said");
        hears(&alice, 1, secs(20), "waiting").await;
        let mail = homes[0].status().rendezvous.mail;
        assert_eq!((mail.left_by_strangers, mail.left_by_contacts), (0, 1));
        assert!(
            read(&alice).is_empty(),
            "a call that was answered leaves no word"
        );
    });
}

/// Somebody who knows the protocols and keeps to none: Carol's identity, and a connection without a name.
async fn crook(stage: &Stage, home: &Home, ip: [u8; 4]) -> (Arc<Device>, NodeClient) {
    let node = stage.world.add_node("crook", &[IpAddr::from(ip)]);
    stage.world.set_link(node, Conditions::with_delay(ACCESS));
    let device = Device::new(stage.world.runtime(node));
    let client = device
        .dial(home.address.node, home.addr, NodeAuth::Anonymous)
        .await
        .unwrap();
    (device, client)
}

fn letter(
    device: &Device,
    to: &SealKeyRecord,
    n: u8,
    text: &str,
    sealed_at_millis: u64,
) -> Vec<u8> {
    let identity = &device.identity;
    let note = Note {
        written_at_millis: sealed_at_millis,
        name: "Mallory".into(),
        invite: vec![],
        capability: None,
        homes: vec![],
        says: Says::Text(text.into()),
    };
    let letter = Letter {
        id: id(n).0,
        recipient: to.device(),
        sealed_at_millis,
        log_head: identity.log().head(),
        certificate: identity.certificate().clone(),
        log: identity.log().to_bytes(),
        body: note.encode(),
    };
    let now_millis = device.runtime.unix_millis();
    let key = to.verify(now_millis, to.device()).unwrap();
    let mut rng = ahoy_tests::device::rng(&device.runtime);
    seal_letter(&letter, identity.device(), &key, &mut rng).unwrap()
}

#[test]
fn a_letter_that_is_left_again_or_is_too_old_is_not_read() {
    play(8, async |stage, homes| {
        let Friends { bob, .. } = friends(stage, homes, &homes[..1]).await;
        let (device, client) = crook(stage, homes[0], CAROL).await;
        bob.book.add_contact(device.identity.user(), "Mallory");
        let found = client.boxes(bob.user).await.unwrap();
        let key = SealKeyRecord::from_bytes(&found[0].seal_key).unwrap();
        let owner = (bob.user, key.device());
        let now_millis = device.runtime.unix_millis();
        let recorded = letter(&device, &key, 1, "pay me", now_millis);
        for _ in 0..5 {
            client.leave(owner, None, recorded.clone()).await.unwrap();
            stage.pass(secs(60)).await;
        }
        let mail = homes[0].status().rendezvous.mail;
        assert_eq!(
            (mail.acknowledged, mail.waiting),
            (5, 0),
            "each was fetched"
        );
        assert_eq!(read(&bob), ["pay me"]);
        let old = now_millis - MAX_LETTER_AGE_MILLIS;
        let expired = letter(&device, &key, 2, "pay me then", old);
        client.leave(owner, None, expired).await.unwrap();
        // Neither is one that only looks like a letter.
        client.leave(owner, None, vec![1; 2048]).await.unwrap();
        stage.pass(secs(10)).await;
        assert_eq!(homes[0].status().rendezvous.mail.acknowledged, 7);
        assert_eq!(read(&bob), ["pay me"]);
    });
}

#[test]
fn a_box_is_opened_and_emptied_only_by_the_device_that_is_registered() {
    play(12, async |stage, homes| {
        let Friends { bob, .. } = friends(stage, homes, &homes[..1]).await;
        let (device, stranger) = crook(stage, homes[0], CAROL).await;
        let found = stranger.boxes(bob.user).await.unwrap();
        let key = SealKeyRecord::from_bytes(&found[0].seal_key).unwrap();
        let owner = (bob.user, key.device());
        let named = device.dial(homes[0].address.node, homes[0].addr, device.auth());
        let named = named.await.unwrap();
        let mail_key = MailCapability::from_bytes([1; 32]).at(homes[0].address.node);
        let refused = |refusal| Some(RequestError::Refused(refusal));
        // What a handshake shows is a claim until the registration is judged.
        for client in [&stranger, &named] {
            assert_eq!(client.fetch().await.err(), refused(Refusal::NotYours));
            let kept = client.keep_box(mail_key.clone()).await;
            assert_eq!(kept.err(), refused(Refusal::NotYours));
            let gone = client.acknowledge(vec![1]).await;
            assert_eq!(gone.err(), refused(Refusal::NotYours));
        }
        named.register(device.registration(9)).await.unwrap();
        assert_eq!(named.keep_box(mail_key.clone()).await, Ok(0));
        let own = (device.identity.user(), device.identity.device().id());
        let sealed = vec![7; 2048];
        let mark = mail_key.mark(own, &sealed);
        let left = stranger.leave(own, Some(mark), sealed.clone()).await;
        assert_eq!(left, Ok(true));
        assert_eq!(named.next_push().await.unwrap(), Push::Mail);
        let waiting = named.fetch().await.unwrap();
        assert_eq!(waiting[0].envelope, sealed);
        // Another connection of the same device has taken the registration over.
        let again = device.dial(homes[0].address.node, homes[0].addr, device.auth());
        let again = again.await.unwrap();
        again.register(device.registration(10)).await.unwrap();
        assert_eq!(named.fetch().await.err(), refused(Refusal::NotYours));
        assert_eq!(again.fetch().await.unwrap(), waiting);
        // Nobody marks letters to Bob without his key.
        let mark = mail_key.mark(owner, &sealed);
        let left = stranger.leave(owner, Some(mark), sealed).await;
        assert_eq!(left, Ok(false));
        // What this supernode does not know it refuses, and the connection goes on.
        let (mut sender, mut receiver) = again.connection().unwrap().open_bi().await.unwrap();
        sender.send(&[1, 0x3f]).await.unwrap();
        sender.finish();
        let answer = receiver.recv(100).await.unwrap().unwrap();
        let expected = Response::Refused(Refusal::Malformed);
        assert_eq!(Response::decode(&answer), Ok(expected));
        assert_eq!(again.fetch().await.unwrap(), waiting);
    });
}

#[test]
fn who_wants_no_mailbox_has_none() {
    play(13, async |stage, homes| {
        let (alices, bobs) = (stage.identity(), stage.identity());
        let alice = stage.phone("Alice", ALICE, &alices, &homes[2..], |_| {});
        let bob = stage.phone("Bob", BOB, &bobs, &homes[..1], |config| {
            config.mailbox = false;
        });
        alice.befriend(&bob);
        alice.ready().await;
        bob.ready().await;
        write(&alice, &bob, 1, "hello?");
        let queued = |event: &Event| {
            matches!(event, Event::MessageState { state, .. }
                if *state == MessageState::Queued(Some(Obstacle::NoBox)))
            .then_some(())
        };
        alice.wait("queued", secs(30), queued).await;
        assert_eq!(homes[0].status().rendezvous.mail.boxes, 0);
    });
}

/// Ten thousand letters of strangers, from two hundred and fifty addresses, to Bob, who is off; then one of Alice's.
fn flood(seed: u64, lanes: bool) -> (MessageState, u64) {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::new(SEED + seed, folder.path());
    let playing = async {
        let lanes = |config: &mut ahoy::supernode::SupernodeConfig| {
            config.limits.mail.lanes = lanes;
            // Which would keep the flood small.
            config.limits.puzzles.enabled = false;
        };
        let homes = [
            stage.home_with("one", HOMES[0], lanes).await,
            stage.home("two", HOMES[1]).await,
            stage.home("three", HOMES[2]).await,
        ];
        let homes = homes.each_ref();
        let Friends { alice, bob, .. } = friends(&stage, homes, &homes[..1]).await;
        write(&alice, &bob, 1, "hello");
        hears(&alice, 1, SOON, "delivered").await;
        stage.switch_off(&bob);
        let mut left = 0;
        for n in 0..250_u8 {
            let (_device, client) = crook(&stage, homes[0], [198, 18, 0, n]).await;
            let found = client.boxes(bob.user).await.unwrap();
            let key = SealKeyRecord::from_bytes(&found[0].seal_key).unwrap();
            for m in 0..39_u8 {
                let mut envelope = vec![0; 2048];
                envelope[..2].copy_from_slice(&[n, m]);
                let owner = (bob.user, key.device());
                left += u64::from(client.leave(owner, None, envelope).await.is_ok());
            }
            client.close();
        }
        write(&alice, &bob, 2, "are you there?");
        let said = |event: &Event| {
            if let Event::MessageState { id: of, state, .. } = event {
                let is_it = *of == id(2) && *state != MessageState::Queued(None);
                is_it.then_some(*state)
            } else {
                None
            }
        };
        (alice.wait("an attempt", secs(30), said).await.1, left)
    };
    stage.world.block_on(stage.director, playing).unwrap()
}

#[test]
fn a_flood_of_strangers_leaves_a_contact_room() {
    let (state, left) = flood(9, true);
    assert_eq!((state, left), (MessageState::Waiting(1), 20));
}

#[test]
fn without_lanes_a_flood_of_strangers_shuts_contacts_out() {
    let (state, left) = flood(10, false);
    assert_eq!(state, MessageState::Queued(Some(Obstacle::Full)));
    assert!(left > 200, "{left}");
}

/// A disk on which the first writes fail.
#[derive(Debug)]
struct Disk {
    fails: Mutex<usize>,
    boxes: Mutex<BTreeMap<Vec<u8>, Vec<u8>>>,
}

impl MailKeeper for Disk {
    fn boxes(&self) -> Vec<KeptBox> {
        self.boxes.lock().unwrap().clone().into_iter().collect()
    }

    fn keep(&self, changes: Vec<BoxChange>) -> bool {
        let mut fails = self.fails.lock().unwrap();
        if let Some(left) = fails.checked_sub(1) {
            *fails = left;
            return false;
        }
        let mut boxes = self.boxes.lock().unwrap();
        for (key, kept) in changes {
            match kept {
                Some(kept) => boxes.insert(key, kept),
                None => boxes.remove(&key),
            };
        }
        true
    }

    fn keep_soon(self: Arc<Self>, changes: Vec<BoxChange>) -> BoxFuture<'static, bool> {
        async move { self.keep(changes) }.boxed()
    }
}

#[test]
fn a_letter_whose_write_failed_is_written_again_though_nothing_changes() {
    for fails in [0, 1, 3] {
        let folder = tempfile::tempdir().unwrap();
        let stage = Stage::new(SEED + 11, folder.path());
        let playing = async {
            // Nobody is kept waiting, so nobody is told either.
            let rash = |config: &mut ahoy::supernode::SupernodeConfig| config.wait_for_disk = false;
            let homes = [
                stage.home_with("one", HOMES[0], rash).await,
                stage.home("two", HOMES[1]).await,
                stage.home("three", HOMES[2]).await,
            ];
            let homes = homes.each_ref();
            let Friends { alice, bob, .. } = friends(&stage, homes, &homes[..1]).await;
            stage.switch_off(&bob);
            stage.pass(secs(60)).await;
            let disk = Arc::new(Disk {
                fails: Mutex::new(fails),
                boxes: Mutex::default(),
            });
            homes[0].keep_mail(disk.clone());
            write(&alice, &bob, 1, "come at eight");
            hears(&alice, 1, secs(20), "waiting").await;
            // She cannot leave it again.
            stage.switch_off(&alice);
            stage.pass(secs(30)).await;
            let now = stage.world.runtime(stage.director).now();
            let now_millis = stage.now_millis();
            let mut read = Mailbox::new(MailLimits::default(), 1);
            for (key, kept) in disk.boxes() {
                read.restore(now, now_millis, &key, &kept).unwrap();
            }
            assert_eq!(*disk.fails.lock().unwrap(), 0);
            assert_eq!(read.counters().waiting, 1, "after {fails}");
        };
        stage.world.block_on(stage.director, playing).unwrap();
    }
}
