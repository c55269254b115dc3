//! Calls that are recorded: what is in the file, and who is told. In virtual time, and between processes.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::{path::Path, process::Command as Program};

use ahoy::engine::{
    handle::{Command, Event},
    recording::{RecordTo, RecordingNewsKind},
};
use ahoy_media::{
    audio::{
        align::{align, score},
        sink::AudioSink as _,
        wav::{WavSink, read_all},
    },
    record::Side,
};
use ahoy_tests::{
    household::Household,
    pair::{Pair, SOON, ms, plan, secs},
    people::{Phone, SPEECH},
    process::{Running, speech, start_by},
    recorded::Recorded,
};
use serde_json::Value;

const SEED: u64 = 0x7265_636f_7264;

/// Samples in a second.
const RATE: usize = 48_000;

/// What a call's sound scores against what was said, at least, in virtual time: measured 3.8 and 4.9. Between processes, on
/// machines that do something else as well, 2.1 to 2.9: there it is only told from what was said at another time, which stays
/// below [`OTHER`].
const GOOD: f64 = 3.5;
const GOOD_WHEN_BUSY: f64 = OTHER;
const OTHER: f64 = 1.5;

fn to(path: &Path) -> Command {
    Command::Record(Some(RecordTo {
        path: path.to_owned(),
        any_number: false,
    }))
}

/// Waits for a piece of news; its sentence.
async fn news(phone: &Phone, wanted: RecordingNewsKind) -> String {
    let what = format!("{wanted:?}");
    let pick = |event: &Event| {
        if let Event::Recording { news, .. } = event {
            (news.kind == wanted).then(|| news.sentence.clone())
        } else {
            None
        }
    };
    phone.wait(&what, SOON, pick).await.1
}

async fn refusal(phone: &Phone) -> String {
    let pick = |event: &Event| {
        if let Event::Failed { sentence } = event {
            Some(sentence.clone())
        } else {
            None
        }
    };
    phone.wait("a refusal", SOON, pick).await.1
}

/// Whether the phone's person is told that the other side records.
fn is_recorded_there(phone: &Phone) -> bool {
    let view = phone.engine.view();
    let view = view.borrow();
    view.call.as_ref().is_some_and(|call| call.recorded_there)
}

fn is_recording(phone: &Phone) -> bool {
    let view = phone.engine.view();
    let view = view.borrow();
    let call = view.call.as_ref();
    call.is_some_and(|call| call.recording.is_some())
}

/// Where in the clip a piece of one voice begins, in samples: both sides say the clip.
fn place(voice: &[f32]) -> usize {
    let clip = read_all(SPEECH).unwrap();
    let found = align(voice, &clip, clip.len()).expect("it is of the clip");
    usize::try_from(found.delay_samples).unwrap()
}

/// These tenths of a second of what a side said while the other was silent are of the clip, and little is lost of them;
/// what the clip has elsewhere is something else.
#[track_caller]
fn check_sound(recorded: &Recorded, side: Side, tenths: std::ops::Range<usize>, least: f64) {
    let piece = tenths.start * RATE / 10..tenths.end * RATE / 10;
    let voice = |side| recorded.voice(side)[piece.clone()].to_vec();
    let other = match side {
        Side::Ours => Side::Theirs,
        Side::Theirs => Side::Ours,
    };
    let power = |voice: &[f32]| voice.iter().map(|it| it * it).sum::<f32>();
    let apart = power(&voice(other)) / power(&voice(side));
    let clip = read_all(SPEECH).unwrap();
    let voice = voice(side);
    let from = place(&voice);
    let scored = |from: usize| {
        let to = (from + voice.len()).min(clip.len());
        score(&clip[from..to], &voice, RATE / 10).unwrap()
    };
    let (good, elsewhere) = (scored(from), scored((from + 4 * RATE) % (8 * RATE)));
    eprintln!("{side:?} at {from}: {good} and {elsewhere}, the other side {apart}");
    assert!(good > least, "{good}");
    assert!(elsewhere < OTHER, "{elsewhere}");
    // Each has its place between left and right.
    assert!(apart < 0.1, "{apart}");
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn a_call_is_recorded_while_the_other_side_is_told_and_both_voices_are_in_the_file() {
    let folder = folder();
    let path = folder.path().join("call.mkv");
    let file = path.clone();
    let [alice, bob] = plan(SEED).run(async move |pair: &Pair| {
        pair.alice.call(&pair.bob);
        pair.bob.rings().await;
        // Nobody could be told.
        pair.alice.tell(to(&file));
        assert!(refusal(&pair.alice).await.contains("has to be told"));
        pair.bob.tell(Command::Accept);
        pair.alice.hears().await;
        pair.bob.hears().await;
        assert!(!file.exists());

        pair.alice.tell(to(&file));
        let told = news(&pair.alice, RecordingNewsKind::Started).await;
        assert!(told.contains(file.to_str().unwrap()), "{told}");
        let told = news(&pair.bob, RecordingNewsKind::StartedThere).await;
        assert_eq!(told, "Alice records this call.");
        assert!(is_recording(&pair.alice) && !is_recorded_there(&pair.alice));
        assert!(is_recorded_there(&pair.bob) && !is_recording(&pair.bob));
        // What is said while muted is not sent, and not recorded.
        pair.alice.tell(Command::Mute(true));
        pair.pass(secs(3)).await;
        pair.alice.tell(Command::Mute(false));
        pair.bob.tell(Command::Mute(true));
        pair.pass(secs(3)).await;

        // It is a state: a path that comes and goes changes nothing.
        pair.stage.kill(&pair.home);
        pair.part();
        pair.pass(secs(3)).await;
        assert!(is_recorded_there(&pair.bob));
        pair.stage.world.apply(ahoy::sim::Fault::Heal);
        pair.stage.restart(&pair.home).await;
        pair.pass(secs(6)).await;
        assert!(is_recording(&pair.alice) && is_recorded_there(&pair.bob));

        pair.alice.tell(Command::Record(None));
        let told = news(&pair.alice, RecordingNewsKind::Finished).await;
        assert!(told.contains("Recorded 0:1"), "{told}");
        news(&pair.bob, RecordingNewsKind::StoppedThere).await;
        assert!(!is_recorded_there(&pair.bob));

        // What is there is not written over, and the call goes on.
        let before = std::fs::read(&file).unwrap();
        pair.alice.tell(to(&file));
        assert!(refusal(&pair.alice).await.contains("there is a file"));
        assert_eq!(std::fs::read(&file).unwrap(), before);
        assert!(!is_recorded_there(&pair.bob));
        pair.hang_up().await
    });
    let counted = alice.report.recording.unwrap();
    assert_eq!(counted.bytes, path.metadata().unwrap().len());
    assert_eq!((counted.files, counted.pictures_theirs), (1, 0));
    assert!(counted.seconds > 11.0, "{counted:?}");
    assert_eq!(counted.sound_dropped_ms, 0);
    assert!(bob.report.recorded_there && !alice.report.recorded_there);
    let recorded = Recorded::read(&path);
    assert!((recorded.seconds() - counted.seconds).abs() < 0.05);
    assert!(recorded.pictures_of().is_empty());
    check_sound(&recorded, Side::Theirs, 5..28, GOOD);
    check_sound(&recorded, Side::Ours, 35..58, GOOD);
}

#[test]
fn whoever_comes_back_after_a_crash_is_told_again_and_one_file_has_all_of_it() {
    let folder = folder();
    let path = folder.path().join("call.mkv");
    let file = path.clone();
    let impatient = |name: &str, config: &mut ahoy::engine::config::EngineConfig| {
        config.limits.reconnect_timeout = if name == "Bob" { secs(4) } else { secs(60) };
    };
    plan(SEED + 1)
        .relayed()
        .configure(impatient)
        .run(async move |pair: &Pair| {
            pair.talk().await;
            pair.alice.tell(to(&file));
            news(&pair.bob, RecordingNewsKind::StartedThere).await;
            pair.pass(secs(2)).await;
            // Bob loses the call, and calls again while Alice still holds it.
            pair.stage.kill(&pair.home);
            pair.bob.ends(secs(30)).await;
            assert!(!is_recorded_there(&pair.bob));
            pair.stage.restart(&pair.home).await;
            while pair.home.status().rendezvous.registered < 2 {
                pair.pass(ms(50)).await;
            }
            pair.bob.call(&pair.alice);
            news(&pair.bob, RecordingNewsKind::StartedThere).await;
            pair.bob.hears().await;
            assert!(is_recorded_there(&pair.bob) && is_recording(&pair.alice));
            pair.pass(secs(2)).await;
            pair.bob.tell(Command::HangUp);
            news(&pair.alice, RecordingNewsKind::Finished).await;
        });
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let recorded = Recorded::read(&path);
    let theirs = recorded.voice(Side::Theirs);
    let loud = |voice: &[f32]| voice.iter().any(|sample| sample.abs() > 0.05);
    assert!(loud(&theirs[..2 * RATE]));
    assert!(loud(&theirs[theirs.len() - 2 * RATE..]));
}

#[cfg(feature = "video")]
mod pictures {
    use ahoy::engine::video::{VideoIn, VideoOut, VideoProbe, VideoSettings};
    use ahoy_media::video::{codec::VideoCodec, frame::Size};

    use super::*;

    const FPS: u32 = 15;

    /// Both show each other a pattern while they talk, Bob in `codec`. By how many milliseconds each side's pictures are
    /// before their sound in what Alice recorded: the median, and the furthest of nineteen in twenty.
    fn skew(codec: VideoCodec) -> [(f64, f64); 2] {
        let folder = folder();
        let path = folder.path().join("call.mkv");
        let file = path.clone();
        let probes = [VideoProbe::default(), VideoProbe::default()];
        let given = probes.clone();
        let configure = move |name: &str, config: &mut ahoy::engine::config::EngineConfig| {
            let size = Size::new(160, 90).unwrap();
            config.video = VideoSettings {
                input: Some(VideoIn::Pattern { size, fps: FPS }),
                output: Some(VideoOut::Null),
                codec: (name == "Bob").then_some(codec),
                threads: false,
                ..VideoSettings::default()
            };
            config.video_probe = Some(given[usize::from(name == "Bob")].clone());
        };
        let (spoken, ended) = plan(SEED + 2)
            .configure(configure)
            .run(async move |pair: &Pair| {
                pair.talk().await;
                // Not at the first picture: a key frame is asked for.
                pair.pass(ms(1300)).await;
                pair.alice.tell(to(&file));
                pair.pass(secs(8)).await;
                let ended = pair.hang_up().await;
                let spoken = [&pair.alice, &pair.bob].map(|phone| phone.probe.spoken.instants());
                (spoken, ended)
            });
        let counted = ended[0].report.recording.unwrap();
        eprintln!("{counted:?}");
        assert_eq!(counted.pictures_dropped, 0);
        let recorded = Recorded::read(&path);
        let tracks = recorded.pictures_of();
        let bobs = match codec {
            VideoCodec::Av1 => "V_AV1",
            VideoCodec::H264 => "V_MPEG4/ISO/AVC",
        };
        assert!(tracks.contains(&("Bob", bobs)), "{tracks:?}");
        assert!(tracks.contains(&("Own picture", "V_AV1")), "{tracks:?}");
        let sides = [
            (Side::Ours, "Own picture", counted.pictures_own),
            (Side::Theirs, "Bob", counted.pictures_theirs),
        ];
        let mut out = Vec::new();
        for ((side, name, count), (spoken, probe)) in
            sides.into_iter().zip(spoken.iter().zip(&probes))
        {
            let voice = recorded.voice(side);
            let place = place(&voice);
            let numbers = recorded.numbers(name);
            assert_eq!(numbers.len() as u64, count);
            // Eight seconds, less what came before the first key frame.
            assert!(count > 100, "{name}: {count}");
            let taken = probe.taken.pictures();
            let mut skews: Vec<f64> = numbers
                .iter()
                .map(|(number, at)| {
                    let number = usize::from(number.expect("a number in each picture"));
                    // The clip began with the first block.
                    let since = taken[number].1.saturating_duration_since(spoken[0]);
                    let sound = since.as_secs_f64() - place as f64 / RATE as f64;
                    (sound - at) * 1000.0
                })
                .collect();
            skews.sort_by(f64::total_cmp);
            let median = skews[skews.len() / 2];
            let mut far: Vec<f64> = skews.iter().map(|skew| (skew - median).abs()).collect();
            far.sort_by(f64::total_cmp);
            out.push((median, far[far.len() * 19 / 20]));
        }
        eprintln!("{codec:?}: {out:?}");
        [out[0], out[1]]
    }

    #[test]
    fn pictures_of_both_sides_are_recorded_with_the_sound_of_their_moment() {
        for codec in [VideoCodec::Av1, VideoCodec::H264] {
            for (median, far) in skew(codec) {
                assert!(median.abs() < 10.0, "{codec:?}: {median}");
                assert!(far < 5.0, "{codec:?}: {far}");
            }
        }
    }

    #[test]
    fn a_film_in_a_call_between_processes_is_recorded_by_both() {
        let world = Household::new();
        let (first, later) = turns(&world);
        let (alices, bobs) = (world.path("alice.mkv"), world.path("bob.mkv"));
        let pattern = ["--video-in", "pattern", "--video-size", "160x90"];
        let shown = ["--video-fps", "10", "--video-out", "null"];
        let (recorded, bobs_recorded, report) = (
            world.text("alice.mkv"),
            world.text("bob.mkv"),
            world.text("alice.json"),
        );
        let sound = ["--audio-in", &later, "--record", &bobs_recorded];
        let (bob, link) = answer(&world, "bob", &[&sound[..], &pattern, &shown].concat());
        let sound = ["--audio-in", &first, "--record", &recorded];
        let call = ["--for", "8", "--video-codec", "h264", "--report", &report];
        let call = [&sound[..], &pattern, &shown, &call].concat();
        world.call("alice", &link, &call).finish().expect_code(0);
        bob.finish().expect_code(0);
        for (path, own, theirs) in [
            (&alices, "V_MPEG4/ISO/AVC", "V_AV1"),
            (&bobs, "V_AV1", "V_MPEG4/ISO/AVC"),
        ] {
            let recorded = Recorded::read(path);
            let tracks = recorded.pictures_of();
            assert_eq!(tracks.len(), 2, "{tracks:?}");
            for (name, codec) in tracks {
                let wanted = if name == "Own picture" { own } else { theirs };
                assert_eq!(codec, wanted, "{name}");
                let numbers = recorded.numbers(name);
                assert!(numbers.len() > 20, "{name}: {}", numbers.len());
                let known = numbers.iter().filter_map(|(number, _at)| *number);
                let known: Vec<u16> = known.collect();
                assert!(known.len() * 10 > numbers.len() * 9, "{known:?}");
                assert!(known.is_sorted(), "{known:?}");
            }
            let (own, theirs) = if *path == alices {
                (4..28, 44..68)
            } else {
                (44..68, 4..28)
            };
            check_sound(&recorded, Side::Ours, own, GOOD_WHEN_BUSY);
            check_sound(&recorded, Side::Theirs, theirs, GOOD_WHEN_BUSY);
        }
        let report = world.report("alice.json");
        let told = &report["recording"];
        assert_eq!(
            told["bytes"].as_u64(),
            Some(alices.metadata().unwrap().len())
        );
        assert!(told["pictures_theirs"].as_u64() > Some(20), "{told:#}");
        assert_eq!(report["recorded_there"], true);
    }
}

/// Two files to say: the clip's beginning and silence; four seconds of silence, and the clip.
fn turns(house: &Household) -> (String, String) {
    let clip = read_all(SPEECH).unwrap();
    let silence = vec![0.0; 4 * RATE];
    let write = |name: &str, samples: Vec<f32>| {
        let mut sink = WavSink::create(house.path(name)).unwrap();
        for block in samples.chunks_exact(RATE / 100) {
            sink.write_block(block.try_into().unwrap()).unwrap();
        }
        house.text(name)
    };
    let said = clip[..7 * RATE / 2].iter().copied();
    (
        write("first.wav", said.chain(silence.clone()).collect()),
        write("later.wav", [&silence, &clip[..]].concat()),
    )
}

fn answer(house: &Household, name: &str, options: &[&str]) -> (Running, String) {
    house.answer(name, &[&["--auto", "--once"], options].concat())
}

fn status(house: &Household, name: &str) -> Value {
    house.ctl(name, &["status"]).expect_code(0).json()
}

#[test]
fn a_caller_that_is_killed_leaves_a_recording_that_plays() {
    let world = Household::new();
    let (said, later) = turns(&world);
    let (bob, link) = answer(&world, "bob", &["--audio-in", &later]);
    let path = world.path("call.mkv");
    let options = ["--audio-in", &said, "--record", path.to_str().unwrap()];
    let alice = world.call("alice", &link, &options);
    bob.wait_stderr("records this call");
    // Until there are seven seconds in it, by what it says of itself.
    let long = (0..3000).any(|_| {
        assert_eq!(status(&world, "alice")["call"]["state"], "talking");
        Recorded::try_read(&path).is_some_and(|so_far| so_far.seconds() > 7.0)
    });
    assert!(long, "the recording does not grow");
    alice.kill();
    let recorded = Recorded::read(&path);
    check_sound(&recorded, Side::Ours, 4..28, GOOD_WHEN_BUSY);
    check_sound(&recorded, Side::Theirs, 44..68, GOOD_WHEN_BUSY);
    // It is said that nothing is written over.
    let again = world.call("alice", &link, &options).finish().expect_code(2);
    again.expect_stderr("there is a file");
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_ends_the_recording_with_a_sentence_and_the_call_goes_on() {
    let world = Household::new();
    let said = speech().display().to_string();
    let (bob, link) = answer(&world, "bob", &["--audio-in", &said]);
    // A write that is too far into a file is refused, instead of ending the process.
    let arguments = [
        "call",
        &link,
        "--audio-in",
        &said,
        "--report",
        &world.text("alice.json"),
    ];
    let alice = start_by(&world.path("alice"), [], arguments, |command| {
        let mut shell = Program::new("sh");
        shell.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]);
        shell.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        shell.stdin(std::process::Stdio::null());
        shell.stdout(std::process::Stdio::piped());
        shell.stderr(std::process::Stdio::piped());
        shell.spawn()
    });
    alice.wait_stderr("sound from the other side");
    let path = world.path("call.mkv");
    world
        .ctl("alice", &["record", path.to_str().unwrap()])
        .expect_code(0);
    bob.wait_stderr("records this call");
    let told = status(&world, "alice");
    assert_eq!(told["call"]["recording"], path.to_str().unwrap());
    assert_eq!(status(&world, "bob")["call"]["recorded_there"], true);
    let limited = Program::new("prlimit")
        .args(["--pid", &alice.id().to_string(), "--fsize=40000:"])
        .status()
        .unwrap();
    assert!(limited.success());
    alice.wait_stderr("make room");
    bob.wait_stderr("does not record this call any more");
    let told = status(&world, "alice");
    assert_eq!(told["call"]["state"], "talking");
    assert_eq!(told["call"]["recording"], Value::Null);
    let freed = Program::new("prlimit")
        .args(["--pid", &alice.id().to_string(), "--fsize=unlimited:"])
        .status()
        .unwrap();
    assert!(freed.success());
    // Another one can be begun, and ended.
    let second = world.path("second.mkv");
    world
        .ctl("alice", &["record", second.to_str().unwrap()])
        .expect_code(0);
    let again = world.ctl("alice", &["record", path.to_str().unwrap()]);
    again.expect_code(1).expect_stderr("recorded already");
    world.ctl("alice", &["record", "off"]).expect_code(0);
    alice.wait_stderr("Recorded 0:0");
    world.ctl("alice", &["hangup"]).expect_code(0);
    alice.finish().expect_code(0);
    bob.finish().expect_code(0);
    // What there was room for is whole, and so is the report.
    let recorded = Recorded::read(&path);
    assert!(recorded.seconds() > 1.0, "{recorded:?}");
    let counted = &world.report("alice.json")["recording"];
    assert_eq!(counted["files"], 2);
    let sizes = [path, second].map(|path| path.metadata().unwrap().len());
    assert_eq!(counted["bytes"].as_u64(), Some(sizes.iter().sum()));
}
