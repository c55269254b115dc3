//! The schema as scripts see it, the builder's counters, the sentence, the ten lines, the file.

use std::time::{Duration, Instant};

use ahoy_transport::identity::{DeviceId, UserId};

use super::*;
use crate::call::{CallId, Direction, EndedCall, Ending, Failure, LostReason, Side, Timeline};

const PEER: DeviceId = DeviceId([3; 32]);

#[expect(
    clippy::disallowed_methods,
    reason = "any origin of time will do; it does not move"
)]
fn origin() -> Instant {
    Instant::now()
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn ended(start: Instant, ending: Ending) -> EndedCall {
    EndedCall {
        call: CallId([1; 16]),
        direction: Direction::Outgoing,
        user: UserId([2; 32]),
        participant: Some(PEER),
        ending,
        timeline: Timeline {
            started: start,
            found: Some(start + ms(20)),
            ringing: Some(start + ms(70)),
            connected: Some(start + ms(110)),
            accepted: Some(start + ms(1000)),
            first_audio: Some(start + ms(1045)),
        },
        ended: start + ms(11_000),
    }
}

/// A call in which everything was measured and nothing was bad.
fn good_builder(start: Instant) -> ReportBuilder {
    let mut builder = ReportBuilder::default();
    builder.accepted(start + ms(1000));
    builder.first_video(start + ms(1200));
    builder.set_security(Security {
        handshake: String::from("Noise_IKhfs+psk0_25519+MLKEM768_ChaChaPoly_SHA256"),
        post_quantum: true,
        peer: String::from("ahoy:peer"),
        verified: false,
        safety_words: Some(vec![String::from("harbour")]),
        words_committed: Some(true),
    });
    let (here, relay, there) = ("192.0.2.1:1", "192.0.2.2:2", "192.0.2.3:3");
    builder.path(start + ms(1000), PathKind::Relay, here.into(), relay.into());
    builder.observe_rtt(ms(40));
    builder.path(
        start + ms(1500),
        PathKind::Direct,
        here.into(),
        there.into(),
    );
    builder.switched(start + ms(1500), PathKind::Relay, PathKind::Direct, ms(15));
    builder.observe_rtt(ms(20));
    builder.observe_estimate(300_000);
    builder.observe_estimate(100_000);
    builder.observe_estimate(200_000);
    builder.set_loss(1000, 5);
    builder.set_search(Search {
        restarts: 1,
        guesses: 2,
        packets: 57,
        flows: 3,
    });
    builder.set_cost(Cost {
        cpu_ms_per_call_second: Some(21.5),
        peak_rss_bytes: Some(50 << 20),
    });
    builder.set_audio(
        PEER,
        AudioReport {
            codec: Some(String::from("opus")),
            bitrate_bps: Some(32_000),
            packets: AudioPackets {
                sent: Some(500),
                received: Some(498),
                lost: Some(2),
                late: Some(1),
                duplicate: Some(3),
            },
            recovered: Recovered {
                fec: Some(1),
                red: None,
                dred: None,
            },
            concealed_ms: Some(20),
            longest_gap_ms: Some(40),
            ..AudioReport::default()
        },
    );
    builder.observe_jitter_buffer(PEER, ms(30));
    builder.observe_mouth_to_ear(PEER, ms(62));
    builder
}

fn good() -> (Report, Instant) {
    let start = origin();
    let report = good_builder(start).finish(&ended(start, Ending::Completed { by: Side::Local }));
    (report, start)
}

#[test]
fn the_schema_is_what_scripts_rely_on() {
    let (report, _) = good();
    let mut value: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
    let verdict = value["verdict"].take();
    let id = PEER.to_string();
    assert_eq!(
        value,
        serde_json::json!({
            "schema": 1, "outcome": "completed", "reason": "hung up here", "duration_ms": 10_000,
            "setup": {"lookup_ms": 20.0, "connect_ms": 90.0, "ring_ms": 930.0,
                "accept_to_first_audio_ms": 45.0, "accept_to_first_video_ms": 200.0},
            "security": {"handshake": "Noise_IKhfs+psk0_25519+MLKEM768_ChaChaPoly_SHA256",
                "post_quantum": true, "peer": "ahoy:peer", "verified": false, "safety_words": ["harbour"], "words_committed": true},
            "paths": [
                {"at_ms": 0, "kind": "relay", "local": "192.0.2.1:1", "remote": "192.0.2.2:2", "rtt_ms": 40.0},
                {"at_ms": 500, "kind": "direct", "local": "192.0.2.1:1", "remote": "192.0.2.3:3", "rtt_ms": 20.0},
            ],
            "participants": [{"id": id, "audio": {"codec": "opus", "bitrate_bps": 32_000,
                "packets": {"sent": 500, "received": 498, "lost": 2, "late": 1, "duplicate": 3},
                "recovered": {"fec": 1}, "concealed_ms": 20,
                "jitter_buffer_ms": {"p50": 30.0, "p95": 30.0},
                "mouth_to_ear_ms": {"p50": 62.0, "p95": 62.0}, "longest_gap_ms": 40}}],
            "network": {"rtt_ms": {"p50": 20.1, "p95": 40.0}, "loss_fraction": 0.005,
                "estimate_bps": {"min": 100_000, "max": 300_000, "last": 200_000},
                "search": {"restarts": 1, "guesses": 2, "packets": 57, "flows": 3},
                "switches": [{"at_ms": 500, "from": "relay", "to": "direct", "gap_ms": 15}]},
            "cost": {"cpu_ms_per_call_second": 21.5, "peak_rss_bytes": 52_428_800},
            "verdict": null,
        })
    );
    assert_eq!(
        verdict,
        "Nothing limited this call on a direct path; there is nothing to do."
    );
    let read: Report = serde_json::from_str(&report.to_json()).unwrap();
    assert_eq!(read, report);
}

#[test]
fn what_was_not_measured_is_absent_and_never_zero() {
    let start = origin();
    let mut call = ended(
        start,
        Ending::Unreachable(crate::call::Unreachable::Offline),
    );
    call.timeline = Timeline {
        started: start,
        found: None,
        ringing: None,
        connected: None,
        accepted: None,
        first_audio: None,
    };
    let report = ReportBuilder::default().finish(&call);
    let value: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
    let keys: Vec<&String> = value.as_object().unwrap().keys().collect();
    let expected = [
        "duration_ms",
        "outcome",
        "participants",
        "paths",
        "reason",
        "schema",
        "setup",
        "verdict",
    ];
    assert_eq!(keys, expected);
    assert_eq!(value["setup"], serde_json::json!({}));
    assert!(report.verdict.contains("not online"), "{}", report.verdict);
}

#[test]
fn the_verdict_names_the_worst_and_what_to_do() {
    type Change = fn(&mut Report);
    let (good, _) = good();
    let completed = Ending::Completed { by: Side::Local };
    let told = |change: Change| {
        let mut report = good.clone();
        change(&mut report);
        verdict(completed, &report)
    };
    fn audio(report: &mut Report) -> &mut AudioReport {
        report.participants[0].audio.as_mut().unwrap()
    }
    let cases: [(Change, &str); 10] = [
        (|it| it.participants.clear(), "Nothing was received"),
        (
            |it| audio(it).packets.received = Some(0),
            "No sound arrived",
        ),
        (
            |it| audio(it).longest_gap_ms = Some(2500),
            "stopped for 2.5 s around a change of path",
        ),
        (
            |it| {
                let rtt_ms = Some(Percentiles {
                    p50: 30.0,
                    p95: 900.0,
                });
                it.network.as_mut().unwrap().rtt_ms = rtt_ms;
            },
            "queue filled up",
        ),
        (
            |it| {
                audio(it).packets.lost = Some(55);
                audio(it).recovered.red = Some(10);
            },
            "lost 9.9 % of the sound on its way here, of which 20 % was repaired",
        ),
        (
            |it| {
                audio(it).jitter_buffer_ms = Some(Percentiles {
                    p50: 90.0,
                    p95: 240.0,
                })
            },
            "wait up to 240 ms",
        ),
        (
            |it| {
                audio(it).mouth_to_ear_ms = Some(Percentiles {
                    p50: 450.0,
                    p95: 500.0,
                })
            },
            "450 ms from mouth to ear",
        ),
        (
            |it| audio(it).concealed_ms = Some(1000),
            "10 % of the sound had to be guessed",
        ),
        (
            |it| it.cost.as_mut().unwrap().cpu_ms_per_call_second = Some(700.0),
            "70 % of one processor",
        ),
        (
            |it| {
                it.remote = Some(RemoteReport {
                    network: Some(Network {
                        loss_fraction: Some(0.2),
                        ..Network::default()
                    }),
                    ..RemoteReport::default()
                });
            },
            "the other side lost 20.0 %",
        ),
    ];
    for (change, expected) in cases {
        let sentence = told(change);
        assert!(sentence.contains(expected), "{sentence}");
        assert!(
            sentence.ends_with('.') && !sentence.contains('\n'),
            "{sentence}"
        );
    }
}

#[test]
fn every_ending_has_a_sentence_of_its_own() {
    let (report, start) = good();
    for ending in [
        Ending::Declined { by: Side::Remote },
        Ending::Busy,
        Ending::NoAnswer,
        Ending::Cancelled { by: Side::Remote },
        Ending::Lost(LostReason::Path),
        Ending::Failed(Failure::Authentication),
        Ending::Failed(Failure::Media),
        Ending::Failed(Failure::Protocol),
        Ending::Failed(Failure::TimeLimit),
    ] {
        let told = good_builder(start).finish(&ended(start, ending)).verdict;
        assert_ne!(told, report.verdict);
        assert!(told.ends_with('.'), "{told}");
    }
}

#[test]
fn what_the_other_side_claims_cannot_break_the_verdict() {
    let (mut report, _) = good();
    let json =
        br#"{"participants":[{"id":"x","audio":{"packets":{"lost":18446744073709551615,"received":
        18446744073709551615},"recovered":{}}}],"network":{"loss_fraction":1e300,"switches":[]}}"#;
    report.remote = RemoteReport::decode(json);
    assert!(report.remote.is_some());
    let told = verdict(Ending::Completed { by: Side::Local }, &report);
    assert!(told.starts_with("Nothing limited"), "{told}");
    assert_eq!(RemoteReport::decode(b"[1,2]"), None);
    let many = format!(r#"{{"participants":[{}]}}"#, [r#"{"id":""}"#; 99].join(","));
    let read = RemoteReport::decode(many.as_bytes()).unwrap();
    assert_eq!(read.participants.len(), MAX_REMOTE_PARTICIPANTS);
}

#[test]
fn the_summary_has_ten_lines_and_says_what_is_missing() {
    let (report, _) = good();
    let wav = Path::new("/tmp/out/callee.wav");
    let text = summary(&report, &[("heard by the callee", wav)]);
    assert_eq!(text.lines().count(), 10);
    for part in [
        "completed (hung up here), 10.0 s",
        "first sound after 45 ms",
        "relay at 0.0 s, 40.0 ms -> direct at 0.5 s, 20.0 ms",
        "500 packets sent, 498 received, 2 lost, 1 repaired",
        "mouth to ear 62.0 ms",
        "heard by the callee /tmp/out/callee.wav",
        "Nothing limited this call",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    let empty = Report {
        participants: Vec::new(),
        network: None,
        cost: None,
        security: None,
        paths: Vec::new(),
        ..report
    };
    let text = summary(&empty, &[]);
    assert_eq!(text.lines().count(), 10);
    assert_eq!(text.matches("not measured").count(), 5);
}

#[test]
fn a_report_replaces_the_old_file_whole_and_leaves_nothing_beside_it() {
    let (report, _) = good();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.json");
    fs::write(&path, "old").unwrap();
    report.write(&path).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    // A folder cannot be replaced by a file; nothing stays behind.
    let taken = folder.path().join("folder");
    fs::create_dir(&taken).unwrap();
    assert!(report.write(&taken).is_err());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    assert!(report.write(Path::new("/")).is_err());
}

#[test]
fn a_builder_stays_bounded_whatever_happens() {
    let start = origin();
    let mut builder = ReportBuilder::default();
    for number in 0..1000u64 {
        let at = start + ms(number);
        builder.path(at, PathKind::Lan, String::new(), String::new());
        builder.switched(at, PathKind::Lan, PathKind::Tcp, ms(number));
        let mut id = [0; 32];
        id[..8].copy_from_slice(&number.to_be_bytes());
        builder.set_audio(DeviceId(id), AudioReport::default());
    }
    let report = builder.finish(&ended(start, Ending::Busy));
    assert_eq!(report.paths.len(), 256);
    assert_eq!(report.network.unwrap().switches.len(), 256);
    assert_eq!(report.participants.len(), 64);
}

#[test]
fn what_is_taken_along_names_nobody_and_no_place() {
    let (report, _) = good();
    let text = report.redacted().to_json();
    let security = report.security.as_ref().unwrap();
    let words = security.safety_words.iter().flatten();
    let paths = report.paths.iter();
    let secrets = paths
        .flat_map(|path| [&path.local, &path.remote])
        .chain(
            report
                .participants
                .iter()
                .map(|participant| &participant.id),
        )
        .chain([&security.peer])
        .chain(words);
    let secrets: Vec<&String> = secrets.filter(|secret| !secret.is_empty()).collect();
    assert!(secrets.len() > 3, "{secrets:?}");
    for secret in secrets {
        assert!(!text.contains(secret.as_str()), "{secret} in {text}");
        assert!(report.to_json().contains(secret.as_str()));
    }
    // And what was measured is all there.
    let kept = |report: &Report| {
        (
            report.network.clone(),
            report.setup.clone(),
            report.duration_ms,
        )
    };
    assert_eq!(kept(&report), kept(&report.redacted()));
}
