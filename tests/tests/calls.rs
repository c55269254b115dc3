//! Whole calls in virtual time: the shipped engine, session, relay and supernode, from placing a call to its
//! report.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::time::Duration;

use ahoy::{
    call::{CallConfig, Ending, LostReason, Side, Unreachable},
    chat::{Content, MessageId},
    cli::Exit,
    engine::{
        config::EngineConfig,
        handle::{Command, Event, OtherState, Phase},
        media::AudioIn,
        people::PeopleChange,
        video::{VideoIn, VideoOut},
    },
    headless::measure::measure,
    report::{Outcome, PathKind},
    sim::{Fault, PacketEvent},
};
use ahoy_media::{
    audio::{
        align::{align, score},
        wav::read_all,
    },
    video::frame::Size,
};
use ahoy_tests::{
    pair::{
        ALICE, BOB, CAROL, HOME, Plan, SOON, audio, is_between, kinds, loud_blocks, ms, never_rang,
        plan, secs,
    },
    people::{ACCESS, DIRECT, Ended, Home, Phone, SPEECH, Stage},
    secrets::{contains, forms},
};

const SEED: u64 = 0x00ca_1100;

/// How the call must have ended: exactly, in the report's word, and for a script.
fn assert_ended(ended: &Ended, ending: Ending, outcome: Outcome, exit: Exit, sentence: &str) {
    eprintln!("{:?}: {}", ended.ending, ended.sentence);
    assert_eq!(ended.ending, ending);
    assert_eq!(ended.report.outcome, outcome);
    assert_eq!(Exit::from(ended.ending), exit);
    assert_eq!(ended.sentence, sentence);
    assert_eq!(ended.report.reason, ending.to_string());
}

fn percentile(values: &mut [f64], percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    let index = (values.len() * percent).div_ceil(100).max(1) - 1;
    values[index]
}

// --- a spoken call -------------------------------------------------------------------------------

#[test]
fn a_call_starts_by_the_relay_goes_on_directly_and_loses_nothing() {
    plan(SEED).run(async |pair| {
        // The way between the two opens late, as through a NAT that takes a while.
        pair.part();
        pair.talk().await;
        pair.pass(secs(1)).await;
        pair.stage.world.apply(Fault::Heal);
        pair.pass(secs(5)).await;
        let [alice, bob] = pair.hang_up().await;
        assert_eq!(alice.ending, Ending::Completed { by: Side::Local });
        assert_eq!(bob.ending, Ending::Completed { by: Side::Remote });
        for (phone, ended) in [(&pair.alice, &alice), (&pair.bob, &bob)] {
            let report = &ended.report;
            eprintln!("{}: {}", phone.name, serde_json::to_string(report).unwrap());
            assert_eq!(report.outcome, Outcome::Completed);
            assert_eq!(kinds(report), [PathKind::Relay, PathKind::Direct]);
            let security = report.security.as_ref().unwrap();
            assert!(security.post_quantum);
            assert!(security.handshake.contains("MLKEM768"));
            let audio = audio(report);
            assert_eq!(audio.packets.lost, Some(0));
            // Five seconds of 20 ms, and what passed until both heard each other.
            assert!(audio.packets.received.unwrap() >= 250);
            assert_eq!(audio.packets.late, Some(0));
            assert!(audio.jitter_buffer_ms.unwrap().p50 < 60.0);
            assert!(report.network.as_ref().unwrap().rtt_ms.is_some());
        }
        let words = |ended: &Ended| {
            let security = ended.report.security.clone();
            security.unwrap().safety_words.unwrap()
        };
        assert_eq!(words(&alice), words(&bob));
        // What each received is what the other sent, but for the few on their way at the end.
        for (from, to) in [(&alice, &bob), (&bob, &alice)] {
            let sent = audio(&from.report).packets.sent.unwrap();
            let received = audio(&to.report).packets.received.unwrap();
            assert!((0..=8).contains(&(sent - received)), "{sent} {received}");
        }
        let stop = pair.alice.engine.view().borrow().call.clone().unwrap();
        assert!(matches!(stop.phase, Phase::Ended { .. }));
    });
}

#[test]
fn the_same_seed_gives_the_same_call() {
    let run = || {
        plan(SEED + 1).run(async |pair| {
            pair.talk().await;
            let ended = pair.hang_up().await;
            (
                pair.stage.world.trace_hash().shape,
                ended.map(|ended| (ended.at, ended.report.paths)),
            )
        })
    };
    assert_eq!(run(), run());
}

/// ChannelData (RFC 8656 section 12.4) between a telephone and its relay, as it arrived: payloads and their bytes.
fn channel_data(packets: &[PacketEvent], to_relay: bool, home: &Home) -> (u64, u64) {
    let payloads = packets.iter().filter(|packet| {
        let relay = if to_relay { packet.dst } else { packet.src };
        packet.dropped.is_none()
            && relay == home.addr
            && (0x40..0x50).contains(&packet.contents[0])
            && packet.contents[1] < 0x80
    });
    payloads.fold((0, 0), |(count, bytes), packet| {
        (count + 1, bytes + packet.contents.len() as u64 - 4)
    })
}

#[test]
fn with_relay_only_neither_side_learns_where_the_other_is() {
    plan(SEED + 2).relayed().run(async |pair| {
        let tap = pair.stage.wiretap();
        pair.talk().await;
        pair.pass(secs(5)).await;
        let ended = pair.hang_up().await;
        pair.pass(secs(5)).await;
        let packets = tap.packets();
        let direct = |packet: &&PacketEvent| is_between(packet, &pair.alice, &pair.bob);
        assert_eq!(packets.iter().filter(direct).count(), 0);
        for (phone, ended, other) in [(&pair.alice, &ended[0], BOB), (&pair.bob, &ended[1], ALICE)]
        {
            assert_eq!(ended.report.outcome, Outcome::Completed);
            assert_eq!(kinds(&ended.report), [PathKind::Relay]);
            let report = serde_json::to_vec(&ended.report).unwrap();
            let view = format!("{:?}", *phone.engine.view().borrow()).into_bytes();
            let traffic = packets
                .iter()
                .filter(|packet| packet.from == phone.node || packet.to == Some(phone.node));
            for form in forms(other) {
                assert!(!contains(&report, &form) && !contains(&view, &form));
                for packet in traffic.clone() {
                    assert!(!contains(&packet.contents, &form), "{packet:?}");
                }
            }
            // The same search finds its own address, where the relay tells it.
            let own = forms(if other == BOB { ALICE } else { BOB });
            let told = |packet: &PacketEvent| contains(&packet.contents, &own[1]);
            assert!(packets.iter().any(told), "the search is blind");
        }
        // What the relay says it carried is what was on its wires.
        let relay = pair.home.status().rendezvous.relays[0].clone();
        eprintln!("{relay:?}");
        let from_clients = channel_data(&packets, true, &pair.home);
        let to_clients = channel_data(&packets, false, &pair.home);
        let traffic = relay.traffic;
        assert_eq!(
            (traffic.packets_from_client, traffic.bytes_from_client),
            from_clients
        );
        assert_eq!(
            (traffic.packets_to_client, traffic.bytes_to_client),
            to_clients
        );
        assert_eq!(relay.dropped_total(), 0);
    });
}

// --- every ending --------------------------------------------------------------------------------

#[test]
fn whoever_declines_is_said_to_decline() {
    plan(SEED + 10).run(async |pair| {
        pair.alice.call(&pair.bob);
        pair.bob.rings().await;
        pair.alice.hears_ringing().await;
        pair.bob.tell(Command::Decline);
        let [alice, bob] = pair.endings(SOON).await;
        assert_ended(
            &alice,
            Ending::Declined { by: Side::Remote },
            Outcome::Declined,
            Exit::Failed,
            "Bob declined.",
        );
        assert_ended(
            &bob,
            Ending::Declined { by: Side::Local },
            Outcome::Declined,
            Exit::Failed,
            "You declined the call from Alice.",
        );
    });
}

#[test]
fn a_third_caller_hears_that_the_person_is_busy() {
    plan(SEED + 11).run(async |pair| {
        let identity = pair.stage.identity();
        let carol = pair
            .stage
            .phone("Carol", CAROL, &identity, &[&pair.home], |_| {});
        carol.befriend(&pair.bob);
        carol.ready().await;
        pair.talk().await;
        carol.call(&pair.bob);
        let ended = carol.ends(SOON).await;
        assert_ended(
            &ended,
            Ending::Busy,
            Outcome::Busy,
            Exit::Failed,
            "Bob is in another call. Try again in a while.",
        );
        let turned_away = pair.bob.ends(SOON).await;
        assert_ended(
            &turned_away,
            Ending::Busy,
            Outcome::Busy,
            Exit::Failed,
            "Carol called while you were in another call.",
        );
        // The first call did not notice, nor did Bob's window.
        let call = pair.bob.engine.view().borrow().call.clone().unwrap();
        assert!(matches!(call.phase, Phase::Talking { .. }), "{call:?}");
        let [alice, bob] = pair.hang_up().await;
        assert_eq!(alice.report.outcome, Outcome::Completed);
        assert_eq!(bob.report.outcome, Outcome::Completed);
    });
}

/// Speech has pauses.
fn hum(config: &mut EngineConfig) {
    config.audio.input = AudioIn::Tone;
}

/// What somebody sees of their call: whether the other side put them on hold, and whether they hear anything.
fn seen(phone: &Phone) -> (bool, bool) {
    let view = phone.engine.view().borrow().clone();
    let call = view.call.unwrap();
    (call.held_there, call.level_out > -60.0)
}

#[test]
fn a_second_call_waits_is_answered_and_both_are_switched_between() {
    let wait = |limits: &mut CallConfig| limits.call_waiting = true;
    let tone = |_name: &str, config: &mut EngineConfig| hum(config);
    plan(SEED + 13)
        .limits(wait)
        .configure(tone)
        .run(async |pair| {
            let (alice, bob) = (&pair.alice, &pair.bob);
            let identity = pair.stage.identity();
            let carol = pair
                .stage
                .phone("Carol", CAROL, &identity, &[&pair.home], hum);
            carol.befriend(bob);
            carol.ready().await;
            pair.talk().await;
            carol.call(bob);
            let waits = |event: &Event| {
                if let Event::Waiting { from, .. } = event {
                    Some(*from)
                } else {
                    None
                }
            };
            assert_eq!(bob.wait("waiting", SOON, waits).await.1, carol.user);
            carol.hears_ringing().await;
            let other = || bob.engine.view().borrow().other.clone().unwrap();
            assert_eq!(
                (other().state, &*other().name),
                (OtherState::Waits, "Carol")
            );
            bob.tell(Command::Ignore);
            pair.stage.pass(secs(1)).await;
            assert_eq!(other().state, OtherState::Ignored);
            assert_eq!(seen(alice), (false, true));

            bob.tell(Command::Accept);
            carol.hears().await;
            pair.stage.pass(secs(2)).await;
            assert_eq!(
                (other().state, &*other().name),
                (OtherState::OnHold, "Alice")
            );
            assert_eq!((seen(alice), seen(&carol)), ((true, false), (false, true)));

            bob.tell(Command::Switch);
            pair.stage.pass(secs(2)).await;
            assert_eq!(
                (other().state, &*other().name),
                (OtherState::OnHold, "Carol")
            );
            assert_eq!((seen(alice), seen(&carol)), ((false, true), (true, false)));

            // The one in hand is over: the other stays on hold until Bob takes it off.
            bob.tell(Command::HangUp);
            let [first, told] = pair.endings(SOON).await;
            assert_eq!(first.report.outcome, Outcome::Completed);
            assert_eq!(told.report.outcome, Outcome::Completed);
            pair.stage.pass(secs(1)).await;
            assert_eq!(bob.engine.view().borrow().other, None);
            assert_eq!(seen(&carol), (true, false));
            bob.tell(Command::Hold(false));
            pair.stage.pass(secs(2)).await;
            assert_eq!(seen(&carol), (false, true));
            carol.tell(Command::HangUp);
            for phone in [bob, &carol] {
                assert_eq!(phone.ends(SOON).await.report.outcome, Outcome::Completed);
            }
        });
}

/// Who puts whom on hold, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holding {
    /// The one who is called, before they answer.
    BeforeTheAnswer,
    /// The same, with the answer.
    WithTheAnswer,
    /// The one who calls, as soon as it is answered.
    TheCaller,
}

/// Pictures that cost next to nothing.
fn film(config: &mut EngineConfig) {
    config.video.threads = false;
    config.video.output = Some(VideoOut::Null);
    config.video.input = Some(VideoIn::Pattern {
        size: Size::new(160, 90).unwrap(),
        fps: 10,
    });
}

#[test]
fn hold_counts_also_where_it_is_pressed_while_it_connects() {
    let cases = [
        Holding::BeforeTheAnswer,
        Holding::WithTheAnswer,
        Holding::TheCaller,
    ];
    for (seed, when) in (SEED + 15..).zip(cases) {
        let shows = |_name: &str, config: &mut EngineConfig| {
            hum(config);
            film(config);
        };
        plan(seed).configure(shows).run(async |pair| {
            eprintln!("seed {seed}: {when:?}");
            let (alice, bob) = (&pair.alice, &pair.bob);
            alice.call(bob);
            bob.rings().await;
            pair.pass(secs(1)).await;
            let holds = match when {
                Holding::BeforeTheAnswer => {
                    bob.tell(Command::Hold(true));
                    bob.tell(Command::Accept);
                    bob
                }
                Holding::WithTheAnswer => {
                    bob.tell(Command::Accept);
                    bob.tell(Command::Hold(true));
                    bob
                }
                Holding::TheCaller => {
                    bob.tell(Command::Accept);
                    let answered =
                        |event: &Event| matches!(event, Event::Connected { .. }).then_some(());
                    alice.wait("the answer", SOON, answered).await;
                    alice.tell(Command::Hold(true));
                    alice
                }
            };
            let waits = if holds.name == alice.name { bob } else { alice };
            pair.pass(secs(5)).await;
            let call = |phone: &Phone| phone.engine.view().borrow().call.clone().unwrap();
            let pictures = |phone: &Phone| call(phone).stats.unwrap().pictures_sent.unwrap_or(0);
            for phone in [alice, bob] {
                assert!(
                    matches!(call(phone).phase, Phase::Talking { .. }),
                    "{when:?}"
                );
            }
            assert!(call(holds).held, "{when:?}");
            assert_eq!(seen(waits), (true, false), "{when:?}");
            // What was on its way when it was pressed came.
            let most = if when == Holding::TheCaller { 2 } else { 0 };
            assert!(pictures(holds) <= most, "{when:?}: {}", pictures(holds));
            holds.tell(Command::Hold(false));
            pair.pass(secs(3)).await;
            assert_eq!(seen(waits), (false, true), "{when:?}");
            assert!(pictures(holds) > 10, "{when:?}: {}", pictures(holds));
            let [first, second] = pair.hang_up().await;
            assert_eq!(first.report.outcome, Outcome::Completed);
            assert_eq!(second.report.outcome, Outcome::Completed);
        });
    }
}

#[test]
fn a_call_is_declined_with_a_message_to_contacts_alone() {
    for (seed, is_contact) in [(SEED + 18, true), (SEED + 19, false)] {
        plan(seed).run(async |pair| {
            let (alice, bob) = (&pair.alice, &pair.bob);
            alice.call(bob);
            bob.rings().await;
            if !is_contact {
                bob.tell(Command::People(PeopleChange::Remove(alice.user)));
            }
            let call = bob.engine.view().borrow().call.clone().unwrap().id;
            let say = |text: &str, n: u8| Command::DeclineSaying {
                call,
                to: alice.user,
                id: MessageId([n; 16]),
                text: text.into(),
            };
            bob.tell(say("I will call you back.", 1));
            let declined = alice.ends(SOON).await.ending;
            assert_eq!(declined, Ending::Declined { by: Side::Remote });
            // Whoever gave up meanwhile is told all the same.
            pair.pass(secs(1)).await;
            bob.tell(say("Too late.", 2));
            pair.pass(secs(10)).await;
            let texts = alice.events().into_iter().filter_map(|(_at, event)| {
                let Event::Message { message, .. } = event else {
                    return None;
                };
                let Content::Text(text) = message.content else {
                    return None;
                };
                Some(text)
            });
            let expected: &[&str] = if is_contact {
                &["I will call you back.", "Too late."]
            } else {
                &[]
            };
            assert_eq!(texts.collect::<Vec<_>>(), expected);
            let told = bob.engine.view().borrow().notice.clone();
            assert_eq!(told.is_some(), !is_contact, "{told:?}");
        });
    }
}

#[test]
fn who_waits_is_declined_and_a_third_is_busy() {
    let wait = |limits: &mut CallConfig| limits.call_waiting = true;
    let tone = |_name: &str, config: &mut EngineConfig| hum(config);
    plan(SEED + 14)
        .limits(wait)
        .configure(tone)
        .run(async |pair| {
            let identities = [pair.stage.identity(), pair.stage.identity()];
            let places = [("Carol", CAROL), ("Dan", [198, 51, 100, 4])];
            let [carol, dan] = [0, 1].map(|which| {
                let (name, place) = places[which];
                let home = [&pair.home];
                let phone = pair
                    .stage
                    .phone(name, place, &identities[which], &home, |_| {});
                phone.befriend(&pair.bob);
                phone
            });
            carol.ready().await;
            dan.ready().await;
            pair.talk().await;
            carol.call(&pair.bob);
            carol.hears_ringing().await;
            dan.call(&pair.bob);
            assert_eq!(dan.ends(SOON).await.ending, Ending::Busy);
            pair.bob.tell(Command::Decline);
            let declined = carol.ends(SOON).await.ending;
            assert_eq!(declined, Ending::Declined { by: Side::Remote });
            pair.stage.pass(secs(1)).await;
            assert_eq!(seen(&pair.alice), (false, true));
            let [alice, bob] = pair.hang_up().await;
            assert_eq!(alice.report.outcome, Outcome::Completed);
            assert_eq!(bob.report.outcome, Outcome::Busy, "of Dan, told first");
        });
}

#[test]
fn a_call_that_nobody_answers_ends_at_both_sides() {
    let limits = |limits: &mut CallConfig| limits.answer_timeout = secs(10);
    plan(SEED + 12).limits(limits).run(async |pair| {
        let placed = pair.stage.now();
        pair.alice.call(&pair.bob);
        let [alice, bob] = pair.endings(secs(20)).await;
        assert_ended(
            &alice,
            Ending::NoAnswer,
            Outcome::NoAnswer,
            Exit::TimeLimit,
            "Bob did not answer.",
        );
        let took = alice.at - placed;
        assert!((secs(10)..secs(11)).contains(&took), "{took:?}");
        assert_ended(
            &bob,
            Ending::NoAnswer,
            Outcome::NoAnswer,
            Exit::TimeLimit,
            "You missed a call from Alice.",
        );
        assert!(bob.at - alice.at < ms(500), "{:?}", bob.at - alice.at);
        // Both find it in their list, and only Bob has missed something.
        let recent = |phone: &Phone| {
            let recents = phone.engine.view().borrow().recents.clone();
            assert_eq!(recents.len(), 1);
            recents[0].clone()
        };
        let (placed, missed) = (recent(&pair.alice), recent(&pair.bob));
        assert_eq!((placed.name.as_str(), placed.outgoing), ("Bob", true));
        assert_eq!((missed.name.as_str(), missed.outgoing), ("Alice", false));
        assert!(missed.is_missed() && !placed.is_missed());
        assert_eq!(placed.talked_millis, 0);
    });
}

#[test]
fn another_name_is_in_the_link_at_once() {
    plan(SEED + 22).run(async |pair| {
        let link = || pair.alice.engine.view().borrow().link.clone().unwrap();
        assert!(link().contains("name=Alice"), "{}", link());
        pair.alice.tell(Command::Name("Zoe \u{202e}".into()));
        pair.pass(ms(500)).await;
        assert!(link().ends_with("name=Zoe"), "{}", link());
        // And in the next call, to whoever does not know better: Bob has a name of his own for her.
        pair.talk().await;
        let call = pair.bob.engine.view().borrow().call.clone().unwrap();
        assert_eq!(call.name, "Alice");
        let stats = call.stats.unwrap();
        assert!(
            stats.packets_sent > 0 && stats.samples_played > 0,
            "{stats:?}"
        );
        pair.hang_up().await;
    });
}

#[test]
fn a_caller_who_gives_up_stops_the_ringing() {
    plan(SEED + 13).run(async |pair| {
        pair.alice.call(&pair.bob);
        pair.bob.rings().await;
        pair.pass(secs(2)).await;
        let gave_up = pair.stage.now();
        pair.alice.tell(Command::HangUp);
        let [alice, bob] = pair.endings(SOON).await;
        assert_ended(
            &alice,
            Ending::Cancelled { by: Side::Local },
            Outcome::Cancelled,
            Exit::Failed,
            "You cancelled the call.",
        );
        assert_ended(
            &bob,
            Ending::Cancelled { by: Side::Remote },
            Outcome::Cancelled,
            Exit::Failed,
            "Alice called and gave up.",
        );
        // One way, by whichever path is up.
        assert!(bob.at - gave_up < ms(60), "{:?}", bob.at - gave_up);
    });
}

#[test]
fn a_cancel_before_it_rings_leaves_nothing_ringing() {
    plan(SEED + 14).run(async |pair| {
        pair.alice.call(&pair.bob);
        // The offer is on its way; the look-up took two ways.
        pair.pass(ms(50)).await;
        pair.alice.tell(Command::HangUp);
        let alice = pair.alice.ends(SOON).await;
        assert_eq!(alice.ending, Ending::Cancelled { by: Side::Local });
        pair.pass(secs(10)).await;
        let call = pair.bob.engine.view().borrow().call.clone();
        let quiet = call.is_none_or(|call| matches!(call.phase, Phase::Ended { .. }));
        assert!(quiet, "Bob's telephone rings for ever");
    });
}

#[test]
fn somebody_who_is_nowhere_or_away_is_not_online() {
    plan(SEED + 15).run(async |pair| {
        let sentence = |name: &str| {
            format!(
                "{name} is not online at the supernodes in their link. Ask them whether ahoy runs, or for a new link."
            )
        };
        // A key that was never registered anywhere.
        let nobody = pair.stage.identity();
        let mut link = ahoy::link::PersonLink::new(nobody.user());
        link.homes = vec![pair.home.address.clone()];
        link.name = Some("Nemo".into());
        pair.alice.tell(Command::Call(link.to_string()));
        let ended = pair.alice.ends(secs(15)).await;
        let offline = Ending::Unreachable(Unreachable::Offline);
        assert_ended(
            &ended,
            offline,
            Outcome::Unreachable,
            Exit::NoRoute,
            &sentence("Nemo"),
        );
        // Somebody who said good-bye.
        pair.bob.tell(Command::Quit);
        pair.pass(secs(5)).await;
        pair.alice.call(&pair.bob);
        let ended = pair.alice.ends(secs(15)).await;
        assert_ended(
            &ended,
            offline,
            Outcome::Unreachable,
            Exit::NoRoute,
            &sentence("Bob"),
        );
    });
}

#[test]
fn somebody_blocked_cannot_tell_it_from_not_being_answered() {
    let limits = |limits: &mut CallConfig| limits.answer_timeout = secs(10);
    plan(SEED + 16).limits(limits).run(async |pair| {
        pair.bob.book.block(pair.alice.user);
        let placed = pair.stage.now();
        pair.alice.call(&pair.bob);
        let ended = pair.alice.ends(secs(20)).await;
        assert_ended(
            &ended,
            Ending::NoAnswer,
            Outcome::NoAnswer,
            Exit::TimeLimit,
            "Bob did not answer.",
        );
        let took = ended.at - placed;
        assert!((secs(10)..secs(11)).contains(&took), "{took:?}");
        assert!(never_rang(&pair.bob));
        assert!(pair.bob.book_requests().is_empty());
    });
}

#[test]
fn a_stranger_waits_in_the_inbox_and_does_not_ring() {
    let limits = |limits: &mut CallConfig| limits.answer_timeout = secs(10);
    plan(SEED + 17).limits(limits).run(async |pair| {
        let tap = pair.stage.wiretap();
        let identity = pair.stage.identity();
        let carol = pair
            .stage
            .phone("Carol", CAROL, &identity, &[&pair.home], |config| {
                config.limits.answer_timeout = secs(10);
            });
        carol.ready().await;
        carol.call(&pair.bob);
        let request = |event: &Event| matches!(event, Event::Request { .. }).then_some(());
        pair.bob.wait("a request", SOON, request).await;
        let ended = carol.ends(secs(20)).await;
        assert_eq!(ended.ending, Ending::NoAnswer);
        assert!(never_rang(&pair.bob));
        let requests = pair.bob.book_requests();
        assert_eq!(requests, [("Carol".to_owned(), carol.user)]);
        // Nothing of Bob's went to Carol meanwhile.
        let direct = |packet: &&PacketEvent| is_between(packet, &carol, &pair.bob);
        assert_eq!(tap.packets().iter().filter(direct).count(), 0);
    });
}

#[test]
fn without_a_supernode_there_is_no_route() {
    plan(SEED + 18).run(async |pair| {
        pair.stage.kill(&pair.home);
        pair.pass(secs(1)).await;
        let placed = pair.stage.now();
        pair.alice.call(&pair.bob);
        let ended = pair.alice.ends(secs(30)).await;
        eprintln!("after {:?}", ended.at - placed);
        assert_ended(
            &ended,
            Ending::Unreachable(Unreachable::NoRoute),
            Outcome::Unreachable,
            Exit::NoRoute,
            "No supernode of Bob answers. Check your own connection (ahoy doctor), then ask for a new link.",
        );
        assert!(ended.at - placed <= secs(11));
        assert!(never_rang(&pair.bob));
    });
}

#[test]
fn a_call_whose_links_stay_cut_is_lost_at_both_sides() {
    let limits = |limits: &mut CallConfig| limits.reconnect_timeout = secs(10);
    plan(SEED + 19).limits(limits).run(async |pair| {
        pair.talk().await;
        pair.pass(secs(2)).await;
        let cut = pair.stage.now();
        for phone in [&pair.alice, &pair.bob] {
            pair.stage.world.apply(Fault::LinkDown(phone.node));
        }
        let ended = pair.endings(secs(60)).await;
        for (ended, name) in ended.iter().zip(["Bob", "Alice"]) {
            eprintln!("lost {:?} after the cut", ended.at - cut);
            assert_ended(
                ended,
                Ending::Lost(LostReason::Path),
                Outcome::Lost,
                Exit::Failed,
                &format!("The connection to {name} was lost. Call again."),
            );
            assert!(ended.at - cut < secs(25));
        }
    });
}

#[test]
fn a_short_cut_is_bridged_and_told() {
    plan(SEED + 20).run(async |pair| {
        pair.talk().await;
        pair.pass(secs(2)).await;
        pair.stage.world.apply(Fault::LinkDown(pair.alice.node));
        pair.pass(secs(8)).await;
        let phase = |phone: &Phone| phone.engine.view().borrow().call.clone().unwrap().phase;
        assert_eq!(phase(&pair.alice), Phase::Reconnecting);
        assert_eq!(phase(&pair.bob), Phase::Reconnecting);
        let call = pair.alice.engine.view().borrow().call.clone().unwrap();
        assert!(call.gives_up_at.is_some(), "the window counts down to it");
        pair.stage.world.apply(Fault::LinkUp(pair.alice.node));
        let up = pair.stage.now();
        while phase(&pair.alice) == Phase::Reconnecting || phase(&pair.bob) == Phase::Reconnecting {
            pair.pass(ms(10)).await;
            assert!(pair.stage.now() - up < secs(10), "not back in time");
        }
        eprintln!("back {:?} after the link", pair.stage.now() - up);
        pair.pass(secs(2)).await;
        let before = loud_blocks(&pair.alice);
        pair.pass(secs(1)).await;
        assert!(loud_blocks(&pair.alice) > before, "no sound after the cut");
        let [alice, bob] = pair.hang_up().await;
        assert_eq!(alice.report.outcome, Outcome::Completed);
        assert_eq!(bob.report.outcome, Outcome::Completed);
        assert!(audio(&alice.report).longest_gap_ms.unwrap() >= 7_900);
    });
}

#[test]
fn one_of_two_devices_answers_and_the_other_stops_ringing() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::new(SEED + 21, folder.path());
    let director = stage.director;
    let play = async {
        let home = stage.home("home", HOME).await;
        let mut first = stage.identity();
        let second = stage.second_device(&mut first);
        let alice = stage.phone("Alice", ALICE, &stage.identity(), &[&home], |_| {});
        let desk = stage.phone("Bob", BOB, &first, &[&home], |_| {});
        let pocket = stage.phone("Bob's other", CAROL, &second, &[&home], |_| {});
        for phone in [&desk, &pocket] {
            phone.book.add_contact(alice.user, "Alice");
        }
        alice.book.add_contact(desk.user, "Bob");
        for phone in [&alice, &desk, &pocket] {
            phone.ready().await;
        }
        alice.call(&desk);
        desk.rings().await;
        pocket.rings().await;
        stage.pass(secs(1)).await;
        pocket.tell(Command::Accept);
        alice.hears().await;
        pocket.hears().await;
        let ended = desk.ends(SOON).await;
        assert_ended(
            &ended,
            Ending::AnsweredElsewhere,
            Outcome::Cancelled,
            Exit::Failed,
            "Answered on another of your devices.",
        );
        let recents = desk.engine.view().borrow().recents.clone();
        assert!(!recents[0].is_missed(), "somebody answered");
        stage.pass(secs(2)).await;
        alice.tell(Command::HangUp);
        for phone in [&alice, &pocket] {
            assert_eq!(phone.ends(SOON).await.report.outcome, Outcome::Completed);
        }
    };
    stage.world.block_on(director, play).unwrap();
}

/// The words that both see in a call in which one side may be older.
fn words(seed: u64, alices: bool, bobs: bool) -> [(Option<Vec<String>>, Option<bool>); 2] {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::new(seed, folder.path());
    let director = stage.director;
    let play = async {
        let home = stage.home("home", HOME).await;
        let phone = |name, ip, compares| {
            stage.phone(name, ip, &stage.identity(), &[&home], |config| {
                config.limits.media.compares = compares;
            })
        };
        let (alice, bob) = (phone("Alice", ALICE, alices), phone("Bob", BOB, bobs));
        alice.befriend(&bob);
        alice.ready().await;
        bob.ready().await;
        alice.talk_to(&bob).await;
        stage.pass(secs(2)).await;
        for phone in [&alice, &bob] {
            let view = phone.engine.view();
            let call = view.borrow().call.clone().unwrap();
            assert_eq!(call.safety_words.len(), 6, "{}", phone.name);
            assert_eq!(call.words_committed, alices && bobs);
            assert_eq!(view.borrow().notice, None);
        }
        alice.tell(Command::HangUp);
        let mut told = Vec::new();
        for phone in [&alice, &bob] {
            let security = phone.ends(SOON).await.report.security.unwrap();
            told.push((security.safety_words, security.words_committed));
        }
        told
    };
    let told = stage.world.block_on(director, play).unwrap();
    told.try_into().unwrap()
}

#[test]
fn safety_words_are_made_by_commit_and_reveal_and_those_of_an_older_side_say_so() {
    let [alices, bobs] = words(SEED + 40, true, true);
    assert_eq!(alices, bobs);
    assert_eq!(alices.1, Some(true));
    for (alice, bob) in [(true, false), (false, true)] {
        let [alices, bobs] = words(SEED + 40, alice, bob);
        assert_eq!(alices, bobs);
        assert_eq!(alices.1, Some(false));
    }
}

#[test]
fn two_who_call_each_other_at_once_talk_without_ringing() {
    // Together, and one a little later: while it looks the other up, and after its offer left.
    for (n, later) in [(0, 0), (1, 15), (2, 30), (3, 50), (4, 70)] {
        plan(SEED + 22 + n).run(async |pair| {
            pair.alice.call(&pair.bob);
            pair.pass(ms(later)).await;
            pair.bob.call(&pair.alice);
            pair.alice.hears().await;
            pair.bob.hears().await;
            let call = |phone: &Phone| phone.engine.view().borrow().call.clone().unwrap();
            assert_eq!(call(&pair.alice).id, call(&pair.bob).id);
            let survivor = call(&pair.alice).id;
            eprintln!("{later} ms apart: goes on as {survivor:?}");
            assert!(never_rang(&pair.alice) && never_rang(&pair.bob));
            pair.pass(secs(1)).await;
            let [alice, bob] = pair.hang_up().await;
            assert_eq!(alice.report.outcome, Outcome::Completed);
            assert_eq!(bob.report.outcome, Outcome::Completed);
            // The call with the lower id went on; only whoever placed the other one is told of it.
            let merged = [&pair.alice, &pair.bob].map(|phone| {
                let events = phone.events().into_iter();
                let merged = events.filter_map(|(_at, event)| {
                    let Event::Ended { call, ending, .. } = event else {
                        return None;
                    };
                    let Ending::Merged { into } = ending else {
                        return None;
                    };
                    Some((call, into))
                });
                merged.collect::<Vec<_>>()
            });
            let [(gone, into)] = merged.concat()[..] else {
                panic!("{merged:?}")
            };
            assert_eq!(into, survivor);
            assert!(gone > into);
        });
    }
}

// --- how long it takes ---------------------------------------------------------------------------

/// Milliseconds of one call.
struct Timing {
    placed_to_ringing: f64,
    placed_to_ringing_heard: f64,
    /// At the caller and at the callee, from the callee's acceptance on.
    accept_to_first_audio: [f64; 2],
    /// Measured in some calls: it takes longer than the call itself.
    mouth_to_ear: Option<[f64; 2]>,
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn mouth_to_ear(speaker: &Phone, listener: &Phone) -> f64 {
    let measured = measure(
        &read_all(SPEECH).unwrap(),
        &speaker.probe.spoken.instants(),
        &read_all(&listener.recording).unwrap(),
        &listener.probe.heard.instants(),
    );
    measured.mouth_to_ear.unwrap().p50
}

fn timing(plan: Plan) -> Timing {
    plan.run(async |pair| {
        // Not always at the same place of everybody's 10 ms.
        pair.pass(Duration::from_micros(
            pair.stage.world.seed() * 7919 % 20_000,
        ))
        .await;
        let placed = pair.stage.now();
        pair.alice.call(&pair.bob);
        let ringing = pair.bob.rings().await;
        let heard = pair.alice.hears_ringing().await;
        pair.pass(secs(1)).await;
        let accepted = pair.stage.now();
        pair.bob.tell(Command::Accept);
        let first = [pair.alice.hears().await, pair.bob.hears().await];
        pair.pass(secs(4)).await;
        for ended in pair.hang_up().await {
            assert_eq!(ended.report.outcome, Outcome::Completed);
        }
        Timing {
            placed_to_ringing: millis(ringing - placed),
            placed_to_ringing_heard: millis(heard - placed),
            accept_to_first_audio: first.map(|at| millis(pair.stage.at(at) - accepted)),
            mouth_to_ear: pair.stage.world.seed().is_multiple_of(3).then(|| {
                [
                    mouth_to_ear(&pair.bob, &pair.alice),
                    mouth_to_ear(&pair.alice, &pair.bob),
                ]
            }),
        }
    })
}

/// Median and 95th percentile over all calls, printed.
fn spread(what: &str, timings: &[Timing], value: impl Fn(&Timing) -> Option<f64>) -> [f64; 2] {
    let mut values: Vec<f64> = timings.iter().filter_map(value).collect();
    let spread = [percentile(&mut values, 50), percentile(&mut values, 95)];
    eprintln!("{what}: p50 {:.1} ms, p95 {:.1} ms", spread[0], spread[1]);
    spread
}

#[test]
fn thirty_calls_ring_answer_and_sound_in_time() {
    let timings: Vec<Timing> = (0..30).map(|n| timing(plan(SEED + 100 + n))).collect();
    let [_, ringing] = spread("placed to ringing", &timings, |t| Some(t.placed_to_ringing));
    let [_, heard] = spread("placed to hearing it ring", &timings, |t| {
        Some(t.placed_to_ringing_heard)
    });
    let first = |side: usize| move |t: &Timing| Some(t.accept_to_first_audio[side]);
    let [_, caller] = spread("accepted to first sound at the caller", &timings, first(0));
    let [_, callee] = spread("accepted to first sound at the callee", &timings, first(1));
    let ear = |side: usize| move |t: &Timing| Some(t.mouth_to_ear?[side]);
    let [at_caller, _] = spread("mouth to ear at the caller", &timings, ear(0));
    let [at_callee, _] = spread("mouth to ear at the callee", &timings, ear(1));
    // A look-up and a delivery: four ways to the middle.
    assert!(ringing <= millis(4 * ACCESS) + 10.0);
    assert!(heard <= millis(6 * ACCESS) + 10.0);
    // The acceptance travels with the first sound; the callee waits for a way more.
    assert!(caller <= millis(DIRECT) + 60.0);
    assert!(callee <= millis(2 * DIRECT) + 60.0);
    assert!(at_caller < millis(DIRECT) + 50.0);
    assert!(at_callee < millis(DIRECT) + 50.0);
}

/// The clip's first eight seconds in what somebody heard: the score, and by how many samples the voice moved to and
/// fro, where it was found.
fn heard_of_the_clip(phone: &Phone) -> (f64, i64) {
    let clip = read_all(SPEECH).unwrap();
    let clip = &clip[..8 * 48_000];
    let heard = read_all(&phone.recording).unwrap();
    let alignment = align(clip, &heard, 48_000).unwrap();
    assert!(alignment.found_fraction() > 0.9);
    let delays = alignment.windows.iter();
    let delays: Vec<i64> = delays.filter_map(|window| window.delay_samples).collect();
    let moved = delays.iter().max().unwrap() - delays.iter().min().unwrap();
    (score(clip, &heard, 48_000).unwrap(), moved)
}

#[test]
fn on_a_clean_line_both_hear_the_voice_at_one_delay_as_the_codec_left_it() {
    for (n, plan) in [plan(SEED + 200), plan(SEED + 201).relayed()]
        .into_iter()
        .enumerate()
    {
        plan.run(async |pair| {
            pair.pass(ms(137 * n as u64)).await;
            pair.talk().await;
            pair.pass(secs(9)).await;
            pair.hang_up().await;
            for phone in [&pair.alice, &pair.bob] {
                let (score, moved) = heard_of_the_clip(phone);
                eprintln!("{}: score {score:.3}, moved by {moved}", phone.name);
                // Half a millisecond is what the search wavers by; the least stretch is five times that.
                assert!(moved < 24, "{} heard it stretched", phone.name);
                assert!(score > 4.15, "{score}");
            }
        });
    }
}
