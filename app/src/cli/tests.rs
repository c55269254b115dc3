//! What may be said and what it means. Commands whose engine is not there yet are parsed all the same.

use std::{path::PathBuf, time::Duration};

use ahoy_transport::identity::{NodeKeys, RootKey};
use clap::CommandFactory as _;

use super::*;
use crate::{
    call::{Ending, Failure, Side, Unreachable},
    control::Command as ControlCommand,
    link::{NodeLink, PersonLink},
    settings::PathPolicy,
    sim::{Conditions, Loss, NatKind, Rate},
};

/// One command alone.
#[derive(Debug, Parser)]
struct Alone<A: Args> {
    #[command(flatten)]
    arguments: A,
}

fn parse<A: Args + std::fmt::Debug>(line: &str) -> Result<A, String> {
    Alone::<A>::command().debug_assert();
    Alone::try_parse_from(std::iter::once("ahoy").chain(line.split_whitespace()))
        .map(|alone: Alone<A>| alone.arguments)
        .map_err(|error| error.to_string())
}

fn eva() -> PersonLink {
    PersonLink::new(RootKey::from_seed(&[7; 32]).user())
}

fn node(seed: u8) -> NodeLink {
    let id = NodeKeys::from_seed(&[seed; 32]).id();
    format!("ahoy-node:{id}@host.example:{}", u16::from(seed) + 1)
        .parse()
        .unwrap()
}

#[test]
fn the_whole_is_well_formed() {
    Cli::command().debug_assert();
}

#[test]
fn a_misspelt_command_is_told_the_nearest() {
    let told = |line: &str| {
        let words = std::iter::once("ahoy").chain(line.split(' '));
        super::parse(words.map(OsString::from).collect()).map_err(|error| error.to_string())
    };
    for line in ["cal somebody", "cal", "--quiet cal ahoy:x --for 3"] {
        let error = told(line).unwrap_err();
        assert!(error.contains("'call'"), "{error}");
    }
    // What is near nothing is told what may stand there.
    let error = told("zzzzzz").unwrap_err();
    assert!(error.contains("neither a command nor a link"), "{error}");
    // What a known command says of itself stays.
    let error = told("call --fro 3").unwrap_err();
    assert!(error.contains("Usage: ahoy call"), "{error}");
    assert!(told(&eva().to_string()).is_ok());
    assert!(told("sim --for 3").is_ok());
}

#[test]
fn a_link_may_stand_alone_and_other_words_may_not() {
    let text = eva().to_string();
    let cli = Cli::try_parse_from(["ahoy", &text, "--home", "/tmp/x"]).unwrap();
    assert_eq!(cli.link, Some(Link::Person(eva())));
    assert_eq!(cli.common.home, Some(PathBuf::from("/tmp/x")));
    for line in [
        "--home /tmp/x id show",
        "id --home /tmp/x",
        "id show --home /tmp/x -q",
    ] {
        let cli = Cli::try_parse_from(std::iter::once("ahoy").chain(line.split(' '))).unwrap();
        assert!(matches!(cli.command, Some(Command::Id(_))), "{line}");
        assert_eq!(cli.common.home, Some(PathBuf::from("/tmp/x")), "{line}");
    }
    let both = Cli::try_parse_from(["ahoy", &text, "id"]).unwrap();
    assert_eq!(run(both).unwrap_err().exit, Exit::Usage);
    for wrong in ["frobnicate", "ahoy:cut", ""] {
        let error = Cli::try_parse_from(["ahoy", wrong]).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{wrong}");
    }
}

#[test]
fn a_call_is_planned_from_its_options() {
    let folder = tempfile::tempdir().unwrap();
    let wav = folder.path().join("in.wav");
    std::fs::write(&wav, "").unwrap();
    let line = format!(
        "{} --for 8 --timeout 2.5 --report {}/r.json --json --audio-in {} --audio-out null \
         --via {} --via {} --path relay --bitrate 24k --ptime 40 --no-portmap --no-lan \
         --no-aec --music",
        eva(),
        folder.path().display(),
        wav.display(),
        node(1),
        node(2)
    );
    let plan = parse::<CallArgs>(&line).unwrap().plan().unwrap();
    let expected = CallPlan {
        to: Target::Link(eva()),
        echo: false,
        talk_limit: Some(Duration::from_secs(8)),
        setup_limit: Some(Duration::from_millis(2500)),
        report: Some(folder.path().join("r.json")),
        record: None,
        json: true,
        media: MediaPlan {
            audio_in: AudioIn::File(wav),
            audio_out: AudioOut::Null,
            video: VideoPlan::default(),
            via: vec![node(1), node(2)],
            path: PathPolicy::Relay,
            proxy: None,
            bitrate_bps: Some(24_000),
            ptime_millis: Some(40),
            share_sound: false,
            no_portmap: true,
            no_lan: true,
            dht_bootstrap: vec![],
            dht_publish: false,
            no_dht: false,
            no_directory: false,
            voice: VoiceFlags {
                no_aec: true,
                music: true,
                ..VoiceFlags::default()
            },
        },
    };
    assert_eq!(plan, expected);
}

#[test]
fn pictures_are_planned_from_their_options_where_there_are_any() {
    let folder = tempfile::tempdir().unwrap();
    let film = folder.path().join("in.y4m");
    std::fs::write(&film, "").unwrap();
    let got = folder.path().join("got.y4m");
    let line = format!(
        "{} --audio-in silence --audio-out null --video-in {} --video-out {} --video-size 640x360 --video-fps 15 \
         --video-bitrate 600k --video-codec h264 --video-reference pattern",
        eva(),
        film.display(),
        got.display(),
    );
    let plan = parse::<CallArgs>(&line).unwrap().plan();
    if !cfg!(feature = "video") {
        let error = plan.unwrap_err();
        assert_eq!(error.exit, Exit::Usage);
        assert!(error.message.contains("no pictures"), "{error}");
        return;
    }
    let expected = VideoPlan {
        input: VideoIn::File(film),
        output: VideoOut::File(got),
        size: (640, 360),
        fps: 15,
        max_bps: Some(600_000),
        content: VideoContentFlag::Auto,
        codec: Some(VideoCodecFlag::H264),
        reference: Some(VideoIn::Pattern),
    };
    assert_eq!(plan.unwrap().media.video, expected);
    let told = |options: &str| {
        let line = format!("{} --audio-in silence --audio-out null {options}", eva());
        match parse::<CallArgs>(&line) {
            Err(error) => error.to_string(),
            Ok(arguments) => arguments.plan().unwrap_err().message,
        }
    };
    for (options, says) in [
        ("--video-in nowhere.y4m", "there is no film nowhere.y4m"),
        ("--video-out /nowhere/got.y4m", "folder that exists"),
        ("--video-size 641x360", "even numbers"),
        ("--video-fps 0", "1..=60"),
        ("--video-reference pattern", "--video-out"),
        ("--video-out null --video-reference screen", "not at hand"),
        ("--video-in window:", "there is no film window:"),
        (
            "--video-content sharp",
            "[possible values: auto, text, motion]",
        ),
    ] {
        let error = told(options);
        assert!(error.contains(says), "{options}: {error}");
    }
}

#[test]
fn what_cannot_work_is_said_before_anybodys_phone_rings() {
    let told = |line: &str| {
        let error = parse::<CallArgs>(line).unwrap().plan().unwrap_err();
        assert_eq!(error.exit, Exit::Usage);
        error.message
    };
    assert!(told("Eva --audio-in /no/such.wav").contains("/no/such.wav"));
    let clip = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/ahoy.wav");
    let again = concat!(env!("CARGO_MANIFEST_DIR"), "/../app/../assets/ahoy.wav");
    let both = told(&format!("Eva --audio-in {clip} --audio-out {again}"));
    assert!(both.contains("written over"), "{both}");
    if cfg!(feature = "video") {
        for (read, written) in [
            ("--video-in", "--video-out"),
            ("--audio-in", "--video-out"),
            ("--video-in", "--audio-out"),
        ] {
            let both = told(&format!("Eva {read} {clip} {written} {again}"));
            assert!(
                both.contains("written over") && both.contains(written),
                "{both}"
            );
        }
        let reference = format!("Eva --video-reference {clip} --video-out {again}");
        assert!(told(&reference).contains("written over"));
        let twice = told("Eva --audio-in silence --audio-out a.wav --video-out a.wav");
        assert!(twice.contains("same file"), "{twice}");
    }
    assert!(told("Eva --report /no/such/folder/r.json").contains("--report"));
    if !cfg!(feature = "devices") {
        assert!(told("Eva --audio-in mic").contains("no microphone"));
    }
    for line in [
        "",
        "ahoy:abc",
        "AHOY:abc",
        "Eva --via ahoy:abc",
        "Eva --for 0",
        "Eva --ptime 30",
        "Eva --bitrate 1k",
        "Eva --path pigeon",
    ] {
        assert!(parse::<CallArgs>(line).is_err(), "{line}");
    }
}

#[test]
fn answering_by_itself_is_asked_for_and_can_be_limited() {
    let auto = |line: &str| {
        let line = format!("{line} --audio-out null");
        parse::<AnswerArgs>(&line).unwrap().plan().unwrap().auto
    };
    assert_eq!(auto(""), AutoAnswer::Nobody);
    assert_eq!(auto("--auto"), AutoAnswer::Everybody);
    assert_eq!(auto("--auto --contacts-only"), AutoAnswer::Contacts);
    assert!(parse::<AnswerArgs>("--contacts-only").is_err());
    assert!(parse::<AnswerArgs>("--echo --audio-in tone").is_err());
    assert!(
        parse::<AnswerArgs>("--echo --once")
            .unwrap()
            .plan()
            .unwrap()
            .echo
    );
}

#[test]
fn the_demonstration_is_self_contained() {
    let plan = |line: &str| parse::<DemoArgs>(line).unwrap().plan();
    let usual = plan("").unwrap();
    assert_eq!(
        (usual.talk, usual.path),
        (Duration::from_secs(8), PathPolicy::Auto)
    );
    assert_eq!(plan("--relay-only").unwrap().path, PathPolicy::Relay);
    assert_eq!(
        plan("--audio-in tone").unwrap().audio_in,
        Some(AudioIn::Tone)
    );
    assert!(plan(&format!("--via {}", node(1))).is_err());
    assert!(plan("--audio-out null").is_err());
    assert!(plan("--out /etc/passwd").is_err());
    assert!(parse::<DemoArgs>("--relay-only --path direct").is_err());
    assert!(parse::<DoctorArgs>("--json").unwrap().json);
    assert!(parse::<DoctorArgs>("--sound").unwrap().sound);
}

#[test]
fn what_is_said_about_a_simulated_link_lies_over_its_profile() {
    let plan = |line: &str| parse::<SimArgs>(line).unwrap().plan();
    // What holds of Alice's uplink at each change.
    let ups = |line: &str| -> Vec<(u64, Conditions)> {
        let link = |step: Step| {
            let Action::Link { up, .. } = step.action else {
                panic!("{:?}", step.action)
            };
            up.map(|up| (step.at.as_secs(), up))
        };
        let steps = plan(line).unwrap().steps.into_iter();
        steps.filter_map(link).collect()
    };
    let clean = plan("").unwrap();
    assert_eq!((clean.seed, clean.talk), (1, Duration::from_secs(10)));
    assert_eq!(clean.nats, [NatKind::None; 2]);
    assert_eq!(ups("")[0].1.loss, Loss::None);
    let burst = ups("--profile burst20 --delay 50")[0].1.clone();
    assert_eq!(burst.loss, Loss::bursts(0.2, 3.0));
    assert_eq!(burst.delay, Duration::from_millis(50));
    // Two of its three steps say nothing about losses.
    let drop = ups("--profile capacity-drop --for 30 --loss 5% --burst 8");
    let times: Vec<u64> = drop.iter().map(|(at, _)| *at).collect();
    assert_eq!(times, [0, 10, 20]);
    assert!(
        drop.iter()
            .all(|(_, it)| it.loss == Loss::bursts(0.05, 8.0))
    );
    let rates: Vec<u64> = drop
        .iter()
        .map(|(_, it)| it.rate.unwrap().bits_per_second)
        .collect();
    assert_eq!(rates, [2_000_000, 400_000, 2_000_000]);
    let thin = ups("--rate 400k --queue 300")[0].1.rate;
    let expected = Rate::with_queue_time(400_000, Duration::from_millis(300));
    assert_eq!(thin, Some(expected));
    let two = plan("--nat port,cgnat-sym").unwrap().nats;
    assert_eq!(two, [NatKind::Port, NatKind::CgnatSym]);
    assert_eq!(plan("--nat full").unwrap().nats, [NatKind::Full; 2]);
    assert!(parse::<SimArgs>("--nat cone").is_err());
    let killed = plan("--kill-relay-at 3 --switch-at 2").unwrap();
    let told: Vec<&str> = killed.steps.iter().map(|step| step.text.as_str()).collect();
    assert_eq!(told, ["delay=20", "move alice", "kill relay"]);
    assert!(plan("--for 5 --switch-at 6").is_err());
    assert!(plan("--queue 300").is_err());
    assert!(plan("--loss 100 --burst 3").is_err());
    assert!(plan("--for 5 --kill-relay-at 6").is_err());
    assert!(plan("--for 601").is_err());
    assert!(parse::<SimArgs>("--junit x.xml").is_err());
    assert!(plan("--audio-in mic").is_err());
    assert!(parse::<SimArgs>("--burst 3").is_err());
    assert!(parse::<SimArgs>("--json --ndjson").is_err());
    let asserted = plan("--assert outcome==completed --assert setup.ring_ms<5").unwrap();
    assert_eq!(asserted.assertions.len(), 2);
    assert!(parse::<SimArgs>("--assert nonsense").is_err());
}

#[test]
fn a_supernode_listens_where_it_is_told() {
    let plan = |line: &str| parse::<SupernodeArgs>(line).unwrap().plan();
    let usual = plan("").unwrap().config;
    assert_eq!(usual.listen, ["[::]:4433".parse().unwrap()]);
    assert!(!usual.relay.allow_private);
    let two = plan("--listen 127.0.0.1:0 --listen [::1]:5 --print-link").unwrap();
    assert_eq!((two.config.listen.len(), two.print_link), (2, true));
    // Who serves one machine or one private network relays there; who can be reached from outside does not.
    assert!(two.config.relay.allow_private);
    assert!(
        !plan("--listen 0.0.0.0:0")
            .unwrap()
            .config
            .relay
            .allow_private
    );
    let public = plan("--public-addr 192.0.2.1:7")
        .unwrap()
        .config
        .public_addr;
    assert_eq!(public.unwrap().port, Some(7));
    assert!(parse::<SupernodeArgs>("--public-addr 192.0.2.1:0").is_err());
    assert!(plan("--config /no/such.toml").is_err());
    assert!(parse::<SupernodeArgs>("--listen somewhere").is_err());
}

#[test]
fn the_running_app_is_told_by_name() {
    let told = |line: &str| parse::<CtlArgs>(line).map(|it| ControlCommand::from(it.command));
    assert_eq!(told("hangup"), Ok(ControlCommand::HangUp));
    assert_eq!(told("ptt-down"), Ok(ControlCommand::PttDown));
    assert_eq!(told("hold"), Ok(ControlCommand::Hold { on: true }));
    assert_eq!(told("dnd off"), Ok(ControlCommand::Dnd { on: false }));
    let to = String::from("Eva");
    assert_eq!(told("call Eva"), Ok(ControlCommand::Call { to }));
    assert!(told("dance").is_err());
}

#[test]
fn every_ending_has_its_exit_code() {
    let codes = [
        (Ending::Completed { by: Side::Local }, 0),
        (Ending::Declined { by: Side::Remote }, 1),
        (Ending::Busy, 1),
        (Ending::Unreachable(Unreachable::Offline), 3),
        (Ending::Failed(Failure::Authentication), 4),
        (Ending::Failed(Failure::Media), 5),
        (Ending::Failed(Failure::TimeLimit), 6),
        (Ending::NoAnswer, 6),
    ];
    for (ending, code) in codes {
        assert_eq!(Exit::from(ending) as u8, code, "{ending}");
    }
}
