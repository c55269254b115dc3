//! Calls on bad networks: loss, a direct path that dies, a supernode that dies and comes back. What the report
//! says is held against what the simulated network did.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::time::Duration;

use ahoy::{
    call::{CallConfig, Ending, LostReason},
    engine::handle::Phase,
    report::{Outcome, PathKind},
    sim::{Conditions, Fault, Loss},
};
use ahoy_tests::{
    pair::{SOON, audio, kinds, loud_blocks, ms, plan, secs},
    people::{DIRECT, Phone},
};

const SEED: u64 = 0x00ca_1200;

/// What happened to a telephone since `since`, as words; registrations and endings of calls aside.
fn events_since(phone: &Phone, since: Duration) -> Vec<String> {
    let events = phone.events().into_iter();
    events
        .filter(|(at, _event)| *at >= since)
        .map(|(at, event)| format!("{at:?} {event:?}"))
        .collect()
}

fn phase(phone: &Phone) -> Phase {
    phone.engine.view().borrow().call.clone().unwrap().phase
}

// --- loss ----------------------------------------------------------------------------------------

/// Everything between the two bad, but for the way by the relay, which is cut: what the network drops is what the
/// call must count.
fn lossy(seed: u64, loss: f64) {
    plan(seed).run(async |pair| {
        let conditions = Conditions {
            delay: DIRECT,
            jitter: ms(30),
            loss: Loss::Random(loss),
            ..Conditions::default()
        };
        pair.talk().await;
        pair.pass(secs(1)).await;
        pair.stage.between(&pair.alice, &pair.bob, &conditions);
        let tap = pair.stage.wiretap();
        pair.pass(secs(30)).await;
        // What follows is heard by both, so that no loss at the end goes unnoticed.
        let clean = Conditions::with_delay(DIRECT);
        pair.stage.between(&pair.alice, &pair.bob, &clean);
        let packets = tap.packets();
        pair.pass(secs(1)).await;
        let ended = pair.hang_up().await;
        for (from, to, ended) in [
            (&pair.bob, &pair.alice, &ended[0]),
            (&pair.alice, &pair.bob, &ended[1]),
        ] {
            let report = &ended.report;
            assert_eq!(report.outcome, Outcome::Completed);
            let audio = audio(report);
            let direct = packets
                .iter()
                .filter(|packet| packet.from == from.node && packet.to == Some(to.node));
            let total = direct.clone().count() as f64;
            let dropped = direct.filter(|packet| packet.dropped.is_some()).count() as f64;
            let [sent, received, lost, late, duplicate] = [
                audio.packets.sent,
                audio.packets.received,
                audio.packets.lost,
                audio.packets.late,
                audio.packets.duplicate,
            ]
            .map(Option::unwrap);
            let network = report.network.as_ref().unwrap();
            let fraction = network.loss_fraction.unwrap();
            let recovered = &audio.recovered;
            let repaired = [recovered.fec, recovered.red, recovered.dred]
                .map(Option::unwrap)
                .iter()
                .sum::<u64>();
            let concealed = audio.concealed_ms.unwrap();
            eprintln!(
                "{} at {loss}: sent {sent} received {received} lost {lost} late {late} duplicate {duplicate} repaired {repaired} concealed {concealed} ms, longest gap {:?} ms, rtt {:?}, buffer {:?}, loss fraction {fraction}, switches {}; the network dropped {dropped} of {total}",
                to.name,
                audio.longest_gap_ms,
                network.rtt_ms,
                audio.jitter_buffer_ms,
                network.switches.len(),
            );
            eprintln!("{}", report.verdict);
            assert!(lost > 0 && fraction > 0.0 && concealed > 0);
            // 1500 packets: four standard deviations of what a fair network drops of them.
            let expected = 1500.0 * loss;
            let spread = 4.0 * (1500.0 * loss * (1.0 - loss)).sqrt();
            assert!((lost as f64 - expected).abs() < spread, "{lost} {expected}");
            // And the network's own ratio, which counts all packets, feedback too.
            assert!((dropped / total - loss).abs() < 0.02);
            // What was not repaired was concealed, and nothing else: a frame is 20 ms.
            assert!(concealed <= (lost + late) * 20 + 200);
            assert!(concealed + repaired * 20 >= lost * 20 / 2);
            assert!(report.verdict.len() > 10);
        }
    });
}

#[test]
fn five_percent_of_loss_with_jitter_is_counted_and_survived() {
    lossy(SEED, 0.05);
}

#[test]
fn ten_percent_of_loss_with_jitter_is_counted_and_survived() {
    lossy(SEED + 1, 0.10);
}

#[test]
fn what_comes_far_too_late_is_counted_as_late_and_not_as_lost() {
    plan(SEED + 6).run(async |pair| {
        pair.talk().await;
        pair.pass(secs(1)).await;
        let conditions = Conditions {
            delay: DIRECT,
            reorder: 0.02,
            reorder_by: ms(400),
            ..Conditions::default()
        };
        pair.stage.between(&pair.alice, &pair.bob, &conditions);
        pair.pass(secs(20)).await;
        let clean = Conditions::with_delay(DIRECT);
        pair.stage.between(&pair.alice, &pair.bob, &clean);
        pair.pass(secs(1)).await;
        for ended in pair.hang_up().await {
            let audio = audio(&ended.report);
            eprintln!("{:?}, concealed {:?} ms", audio.packets, audio.concealed_ms);
            assert!(audio.packets.late.unwrap() > 0);
            assert!(audio.packets.lost.unwrap() <= 2);
            assert!(audio.concealed_ms.unwrap() > 0);
        }
    });
}

// --- a path that dies ----------------------------------------------------------------------------

#[test]
fn when_the_direct_path_is_cut_the_relay_takes_over_at_once() {
    plan(SEED + 2).run(async |pair| {
        pair.talk().await;
        pair.pass(secs(3)).await;
        let cut = pair.stage.now();
        pair.part();
        pair.pass(secs(4)).await;
        pair.stage.world.apply(Fault::Heal);
        pair.pass(secs(6)).await;
        let ended = pair.hang_up().await;
        for (ended, phone) in ended.iter().zip([&pair.alice, &pair.bob]) {
            let report = &ended.report;
            assert_eq!(report.outcome, Outcome::Completed);
            let network = report.network.as_ref().unwrap();
            let audio = audio(report);
            eprintln!(
                "{}: paths {:?} switches {:?} duplicate {:?} lost {:?} concealed {:?} ms, longest gap {:?} ms",
                phone.name,
                kinds(report),
                network.switches,
                audio.packets.duplicate,
                audio.packets.lost,
                audio.concealed_ms,
                audio.longest_gap_ms,
            );
            let [first, second] = &network.switches[..] else {
                panic!("{:?}", network.switches)
            };
            assert_eq!(
                (first.from, first.to),
                (PathKind::Direct, PathKind::Relay)
            );
            assert_eq!(
                (second.from, second.to),
                (PathKind::Relay, PathKind::Direct)
            );
            assert!(first.gap_ms < 300);
            assert!(audio.longest_gap_ms.unwrap() < 300);
            assert!(audio.packets.lost.unwrap() < 20);
            assert!(events_since(phone, cut).len() <= 1, "only the ending");
        }
    });
}

// --- a supernode that dies -----------------------------------------------------------------------

#[test]
fn a_direct_call_does_not_notice_that_the_supernode_dies_and_comes_back() {
    plan(SEED + 3).run(async |pair| {
        pair.talk().await;
        pair.pass(secs(3)).await;
        let killed = pair.stage.now();
        pair.stage.kill(&pair.home);
        pair.pass(secs(10)).await;
        pair.stage.restart(&pair.home).await;
        let back = pair.stage.now();
        while pair.home.status().rendezvous.registered < 2 {
            pair.pass(ms(50)).await;
            assert!(pair.stage.now() - back < secs(30), "not registered again");
        }
        eprintln!(
            "both registered {:?} after the restart",
            pair.stage.now() - back
        );
        assert!(pair.stage.now() - back < secs(5));
        pair.pass(secs(2)).await;
        for phone in [&pair.alice, &pair.bob] {
            let events = events_since(phone, killed);
            let about_homes =
                |event: &&String| event.contains("HomeLost") || event.contains("HomeBack");
            assert_eq!(
                events.iter().filter(about_homes).count(),
                events.len(),
                "{events:?}"
            );
            assert!(matches!(phase(phone), Phase::Talking { .. }));
        }
        for ended in pair.hang_up().await {
            assert_eq!(ended.report.outcome, Outcome::Completed);
            let audio = audio(&ended.report);
            assert_eq!(audio.packets.lost, Some(0));
            assert_eq!(audio.concealed_ms, Some(0));
            assert_eq!(audio.longest_gap_ms, Some(0));
            assert_eq!(kinds(&ended.report).last(), Some(&PathKind::Direct));
        }
        // The next call finds everything in order again.
        pair.pass(secs(2)).await;
        pair.talk().await;
        pair.pass(secs(1)).await;
        for ended in pair.hang_up().await {
            assert_eq!(ended.report.outcome, Outcome::Completed);
        }
    });
}

#[test]
fn a_relayed_call_whose_only_relay_dies_for_good_ends_as_lost_in_time() {
    let limits = |limits: &mut CallConfig| limits.reconnect_timeout = secs(10);
    plan(SEED + 4).relayed().limits(limits).run(async |pair| {
        pair.talk().await;
        pair.pass(secs(2)).await;
        let killed = pair.stage.now();
        pair.stage.kill(&pair.home);
        for ended in pair.endings(secs(60)).await {
            eprintln!("{:?} after {:?}", ended.ending, ended.at - killed);
            assert_eq!(ended.ending, Ending::Lost(LostReason::Path));
            assert!(ended.at - killed < secs(20));
        }
    });
}

#[test]
fn a_relayed_call_whose_only_relay_comes_back_ends_with_a_name_or_goes_on() {
    plan(SEED + 5).relayed().run(async |pair| {
        pair.talk().await;
        pair.pass(secs(2)).await;
        let killed = pair.stage.now();
        pair.stage.kill(&pair.home);
        pair.pass(secs(3)).await;
        pair.stage.restart(&pair.home).await;
        let back = pair.stage.now();
        let over = |phone: &Phone| matches!(phase(phone), Phase::Ended { .. });
        let talking = |phone: &Phone| matches!(phase(phone), Phase::Talking { .. });
        let heard = loud_blocks(&pair.alice);
        pair.pass(secs(1)).await;
        while !(over(&pair.alice) || talking(&pair.alice) && talking(&pair.bob)) {
            pair.pass(ms(50)).await;
            assert!(pair.stage.now() - back < secs(60), "neither lost nor back");
        }
        eprintln!(
            "{:?} and {:?}, {:?} after the relay came back",
            phase(&pair.alice),
            phase(&pair.bob),
            pair.stage.now() - back
        );
        if talking(&pair.alice) {
            pair.pass(secs(3)).await;
            assert!(loud_blocks(&pair.alice) > heard);
            for ended in pair.hang_up().await {
                assert_eq!(ended.report.outcome, Outcome::Completed);
            }
        } else {
            for ended in pair.endings(SOON).await {
                eprintln!("{:?} after {:?}", ended.ending, ended.at - killed);
                assert_eq!(ended.ending, Ending::Lost(LostReason::Path));
            }
        }
    });
}
