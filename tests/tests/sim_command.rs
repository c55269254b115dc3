//! `ahoy sim` as a library call: each flag moves the number that it is about, and the same seed gives the same
//! report.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may its helpers"
)]

use ahoy::{
    cli::{Cli, Command, Exit, SimPlan},
    headless::sim::{Happening, Line, Simulated, judge, simulate},
    report::{AudioReport, Outcome, PathKind, Report},
};
use clap::Parser as _;

/// What `ahoy sim` makes of its flags.
fn plan(flags: &[&str]) -> SimPlan {
    let line = ["ahoy", "sim"].iter().chain(flags);
    let cli = Cli::try_parse_from(line).unwrap();
    let Some(Command::Sim(arguments)) = cli.command else {
        panic!("another command than sim: {cli:?}");
    };
    arguments.plan().unwrap()
}

fn run(flags: &[&str]) -> Simulated {
    run_with_lines(flags).0
}

fn run_with_lines(flags: &[&str]) -> (Simulated, Vec<Line>) {
    let mut lines = Vec::new();
    let simulated = simulate(&plan(flags), |line| lines.push(line)).unwrap();
    eprintln!("{flags:?}: {}", simulated.report.to_json());
    (simulated, lines)
}

fn audio(report: &Report) -> &AudioReport {
    report.participants[0].audio.as_ref().unwrap()
}

fn lost(report: &Report) -> u64 {
    audio(report).packets.lost.unwrap()
}

fn mouth_to_ear(report: &Report) -> f64 {
    audio(report).mouth_to_ear_ms.unwrap().p50
}

#[test]
fn a_clean_line_loses_nothing_and_what_is_asserted_of_it_holds() {
    let flags = [
        "--for",
        "8",
        "--assert",
        "outcome == completed",
        "--assert",
        "participants.0.audio.packets.lost == 0",
        "--assert",
        "participants.0.audio.concealed_ms < 50",
        "--assert",
        "participants.0.audio.mouth_to_ear_ms.p95 < 120",
        "--assert",
        "participants.0.audio.score.value > 4",
        "--assert",
        "security.post_quantum == true",
    ];
    let simulated = run(&flags);
    judge(&plan(&flags), &simulated).unwrap();
    let report = &simulated.report;
    // What the delay of the link makes: 20 ms each way.
    let rtt = report.network.as_ref().unwrap().rtt_ms.unwrap();
    assert!((39.9..42.0).contains(&rtt.p50), "{rtt:?}");
    assert!(mouth_to_ear(report) > 20.0);
    // A simulation costs what the machine it runs on likes.
    assert_eq!(report.cost, None);
}

#[test]
fn an_assertion_that_does_not_hold_fails_the_command_and_names_what_was_found() {
    let folder = tempfile::tempdir().unwrap();
    let junit = folder.path().join("result.xml");
    let flags = [
        "--for",
        "2",
        "--assert",
        "outcome == completed",
        "--assert",
        "network.loss_fraction > 0.5",
        "--junit",
        junit.to_str().unwrap(),
    ];
    let error = judge(&plan(&flags), &run(&flags)).unwrap_err();
    assert_eq!(error.exit, Exit::Failed);
    assert!(
        error.message.contains("network.loss_fraction > 0.5"),
        "{error}"
    );
    let xml = std::fs::read_to_string(junit).unwrap();
    assert!(xml.contains("tests=\"2\" failures=\"1\""), "{xml}");
}

#[test]
fn the_same_seed_gives_the_same_report_and_another_seed_another_one() {
    let of_seed = |seed: &str| {
        run_with_lines(&[
            "--profile",
            "lte",
            "--dup",
            "5",
            "--for",
            "5",
            "--seed",
            seed,
        ])
    };
    let (first, first_lines) = of_seed("7");
    let (second, second_lines) = of_seed("7");
    let json = |simulated: &Simulated| serde_json::to_string_pretty(&simulated.report).unwrap();
    assert_eq!(json(&first), json(&second));
    assert_eq!(first_lines, second_lines);
    assert_ne!(json(&first), json(&of_seed("8").0));
}

#[test]
fn ten_percent_of_loss_is_counted_and_heard() {
    let clean = run(&["--for", "8"]).report;
    let lossy = run(&["--for", "8", "--loss", "10"]).report;
    assert_eq!(lost(&clean), 0);
    let expected = audio(&lossy).packets.received.unwrap() + lost(&lossy);
    let share = lost(&lossy) as f64 / expected as f64;
    assert!((0.05..0.16).contains(&share), "{share}");
    let [few, many] = [&clean, &lossy].map(|report| audio(report).concealed_ms.unwrap());
    // Most of it is repaired.
    let lost_ms = lost(&lossy) * 20;
    assert!(
        many > few + 80 && many < lost_ms / 2,
        "{few} and {many} ms concealed of {lost_ms}"
    );
    let [good, bad] = [&clean, &lossy].map(|report| audio(report).score.as_ref().unwrap().value);
    assert!(bad < good - 0.5, "{good} and {bad}");
}

#[test]
fn bursts_leave_longer_gaps_than_single_losses() {
    let gap = |flags: &[&str]| {
        let report = run(flags).report;
        assert!(lost(&report) > 0);
        audio(&report).longest_gap_ms.unwrap()
    };
    let single = gap(&["--for", "8", "--loss", "10"]);
    let burst = gap(&["--for", "8", "--loss", "10", "--burst", "8"]);
    assert!(burst >= single + 60, "{single} and {burst} ms");
}

#[test]
fn a_thin_link_with_a_long_queue_makes_everything_late() {
    let wide = run(&["--for", "8"]).report;
    let thin = run(&["--for", "8", "--rate", "130k", "--queue", "1000"]).report;
    let rtt = |report: &Report| report.network.as_ref().unwrap().rtt_ms.unwrap().p95;
    assert!(
        rtt(&thin) > rtt(&wide) + 50.0,
        "{} and {} ms",
        rtt(&wide),
        rtt(&thin)
    );
    assert!(
        mouth_to_ear(&thin) > mouth_to_ear(&wide) + 10.0,
        "{} and {} ms",
        mouth_to_ear(&wide),
        mouth_to_ear(&thin)
    );
}

#[test]
fn delay_and_jitter_come_out_of_the_other_end() {
    let near = run(&["--for", "4", "--delay", "10"]).report;
    let far = run(&["--for", "4", "--delay", "110"]).report;
    let later = mouth_to_ear(&far) - mouth_to_ear(&near);
    assert!((95.0..125.0).contains(&later), "{later} ms");
    let shaky = run(&["--for", "4", "--delay", "10", "--jitter", "80"]).report;
    let buffered = |report: &Report| audio(report).jitter_buffer_ms.unwrap().p95;
    assert!(
        buffered(&shaky) > buffered(&near) + 20.0,
        "{} and {} ms",
        buffered(&near),
        buffered(&shaky)
    );
}

/// UDP datagrams that the caller received, as last told.
fn datagrams_received(lines: &[Line]) -> u64 {
    let seconds = lines.iter().rev().find_map(|line| match &line.what {
        Happening::Second { datagrams, .. } => Some(datagrams.received),
        Happening::Started { .. }
        | Happening::Calling
        | Happening::Ringing
        | Happening::Connected
        | Happening::FirstAudio
        | Happening::HomeLost
        | Happening::HomeBack
        | Happening::Network { .. }
        | Happening::Path { .. }
        | Happening::Reconnecting
        | Happening::Reconnected
        | Happening::Ended { .. } => None,
    });
    seconds.unwrap()
}

#[test]
fn packets_that_come_twice_or_out_of_order_are_not_lost() {
    let (once, once_lines) = run_with_lines(&["--for", "4"]);
    let (twice, twice_lines) = run_with_lines(&["--for", "4", "--dup", "50"]);
    let (plain, doubled) = (
        datagrams_received(&once_lines),
        datagrams_received(&twice_lines),
    );
    assert!(doubled * 10 > plain * 13, "{plain} and {doubled}");
    // QUIC takes no packet twice (RFC 9000 section 12.3), so the call does not notice.
    let received = |report: &Report| audio(report).packets.received.unwrap();
    assert!(received(&twice.report).abs_diff(received(&once.report)) < 10);
    let reordered = run(&["--for", "4", "--reorder", "20"]);
    for report in [&twice.report, &reordered.report] {
        assert_eq!((report.outcome, lost(report)), (Outcome::Completed, 0));
    }
}

#[test]
fn a_direct_call_survives_the_death_of_the_supernode() {
    let flags = ["--for", "8", "--kill-relay-at", "2"];
    let (simulated, lines) = run_with_lines(&flags);
    judge(&plan(&flags), &simulated).unwrap();
    let report = &simulated.report;
    assert_eq!(report.paths.last().unwrap().kind, PathKind::Direct);
    assert_eq!(lost(report), 0);
    assert!(audio(report).longest_gap_ms.unwrap() < 60);
    let at = |wanted: &Happening| {
        let found = lines.iter().find(|line| line.what == *wanted);
        found.unwrap().at_ms
    };
    // The first sound is told up to a fifth of a second late; the time counts from the sound.
    let killed = Happening::Network {
        what: String::from("kill relay"),
    };
    let after = at(&killed) - at(&Happening::FirstAudio);
    assert!((1750..=2000).contains(&after), "{after} ms");
}

#[test]
fn a_relayed_call_does_not_survive_it_and_an_assertion_may_want_that() {
    let flags = ["--for", "60", "--path", "relay", "--kill-relay-at", "2"];
    let simulated = run(&flags);
    assert_eq!(simulated.report.outcome, Outcome::Lost);
    let error = judge(&plan(&flags), &simulated).unwrap_err();
    assert!(error.message.contains("did not complete"), "{error}");
    let wanted = [&flags[..], &["--assert", "outcome == lost"]].concat();
    judge(&plan(&wanted), &simulated).unwrap();
}

#[test]
fn capacity_changes_and_seconds_are_told_as_they_come() {
    let (simulated, lines) = run_with_lines(&["--profile", "capacity-drop", "--for", "22"]);
    assert_eq!(simulated.report.outcome, Outcome::Completed);
    let times = |wanted: fn(&Happening) -> bool| -> Vec<u64> {
        let found = lines.iter().filter(|line| wanted(&line.what));
        found.map(|line| line.at_ms).collect()
    };
    let start = times(|what| *what == Happening::FirstAudio)[0];
    let changes = times(|what| matches!(what, Happening::Network { .. }));
    let after: Vec<u64> = changes
        .iter()
        .map(|at| (at - start).div_ceil(1000))
        .collect();
    assert_eq!(after, [10, 20]);
    let seconds = times(|what| matches!(what, Happening::Second { .. }));
    assert!(seconds.len() >= 22, "{seconds:?}");
    assert!(seconds.windows(2).all(|pair| pair[1] - pair[0] == 1000));
    let standing = |line: &Line| {
        if let Happening::Second { rtt_ms, search, .. } = &line.what {
            Some((rtt_ms.as_ref().copied()?, search.as_ref().copied()?))
        } else {
            None
        }
    };
    let (rtt_ms, search) = lines.iter().rev().find_map(standing).unwrap();
    assert!(rtt_ms > 0.0 && search.packets > 0 && search.flows > 0);
    let json = serde_json::to_value(lines.last().unwrap()).unwrap();
    assert_eq!(
        (&json["event"], &json["report"]["outcome"]),
        (&"ended".into(), &"completed".into())
    );
}

#[test]
fn nobody_can_call_over_a_dead_line() {
    let error = simulate(&plan(&["--loss", "100"]), |_line| {}).unwrap_err();
    assert_eq!(error.exit, Exit::NoRoute);
}

/// What the network did to the call, in the words of the plan, and where the media went.
fn story(lines: &[Line]) -> Vec<String> {
    let told = |line: &Line| match &line.what {
        Happening::Network { what } => Some(what.clone()),
        Happening::Path { to, .. } => Some(format!("-> {to}")),
        Happening::Reconnecting => Some(String::from("reconnecting")),
        Happening::Reconnected => Some(String::from("reconnected")),
        Happening::Started { .. }
        | Happening::Calling
        | Happening::Ringing
        | Happening::Connected
        | Happening::FirstAudio
        | Happening::HomeLost
        | Happening::HomeBack
        | Happening::Second { .. }
        | Happening::Ended { .. } => None,
    };
    lines.iter().filter_map(told).collect()
}

#[test]
fn a_cut_direct_path_sends_the_media_to_the_relay_without_a_long_gap() {
    let flags = ["--for", "8", "--fault", "3 cut direct for 3s"];
    let (simulated, lines) = run_with_lines(&flags);
    let story = story(&lines);
    let cut = story.iter().position(|told| told == "cut direct for 3s");
    let relay = story.iter().rposition(|told| told == "-> relay");
    assert!(cut.is_some() && relay > cut, "{story:?}");
    assert!(
        story.contains(&String::from("cut direct for 3s is over")),
        "{story:?}"
    );
    let gap = audio(&simulated.report).longest_gap_ms.unwrap();
    assert!(gap < 300, "{gap} ms (seed 1)");
}

#[test]
fn routers_of_every_kind_let_the_call_through_the_relay() {
    for nats in ["port,symmetric", "cgnat,cgnat-sym", "full,addr"] {
        let simulated = run(&["--for", "3", "--nat", nats]);
        assert_eq!(simulated.report.outcome, Outcome::Completed, "{nats}");
        assert_eq!(lost(&simulated.report), 0, "{nats}");
    }
}

#[test]
fn a_trace_from_a_file_and_faults_from_flags_come_in_one_order() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("link.trace");
    std::fs::write(
        &trace,
        "# narrow, then wide\n0 rate=1M queue=200\n2 rate=300k\n3 rate=none\n",
    )
    .unwrap();
    let path = trace.to_str().unwrap();
    let flags = [
        "--for",
        "5",
        "--trace",
        path,
        "--fault",
        "2.5 bob down delay=30",
    ];
    let (simulated, lines) = run_with_lines(&flags);
    assert_eq!(simulated.report.outcome, Outcome::Completed);
    let mut story = story(&lines);
    story.retain(|told| !told.starts_with("->"));
    assert_eq!(story, ["rate=300k", "bob down delay=30", "rate=none"]);
}

#[test]
fn packets_with_nothing_in_them_go_the_same_way_as_those_with_sound() {
    let with = run(&["--for", "5", "--loss", "5", "--seed", "3"]).report;
    let without = run(&[
        "--for", "5", "--loss", "5", "--seed", "3", "--codec", "none",
    ])
    .report;
    let packets = |report: &Report| audio(report).packets;
    assert_eq!(packets(&with).sent, packets(&without).sent);
    assert_eq!(with.setup, without.setup);
    assert_eq!(audio(&without).codec.as_deref(), Some("none"));
    assert_eq!(audio(&without).score, None);
    // The codec itself looks 6.5 ms ahead.
    let codec = mouth_to_ear(&with) - mouth_to_ear(&without);
    assert!((3.0..15.0).contains(&codec), "{codec} ms");
}

#[test]
fn a_supernode_that_comes_back_is_a_home_again() {
    let flags = [
        "--for",
        "40",
        "--codec",
        "none",
        "--fault",
        "2 kill relay for 5s",
    ];
    let (simulated, lines) = run_with_lines(&flags);
    assert_eq!(simulated.report.outcome, Outcome::Completed);
    let has = |wanted: &Happening| lines.iter().any(|line| line.what == *wanted);
    assert!(has(&Happening::HomeLost));
    assert!(has(&Happening::HomeBack));
}
