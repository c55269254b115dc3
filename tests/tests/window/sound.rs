//! What is heard, and the page about sound: devices of a private sound server, by keyboard.

use ahoy_media::audio::level::Level;
use ahoy_tests::sound_server::{Process, Sound, SoundServer, recorded};

use super::*;

/// How much of `samples` is a tone of `hz`: 1 for nothing else.
fn share_of_tone(samples: &[f32], hz: f64) -> f64 {
    let (mut sine, mut cosine, mut energy) = (0.0, 0.0, 0.0);
    for (n, sample) in samples.iter().enumerate() {
        let phase = std::f64::consts::TAU * hz * n as f64 / 48_000.0;
        let sample = f64::from(*sample);
        sine += sample * phase.sin();
        cosine += sample * phase.cos();
        energy += sample * sample;
    }
    2.0 * (sine * sine + cosine * cosine) / (energy.max(1e-9) * samples.len() as f64)
}

/// A sound server with two microphones, each of which hears a tone of its own, and two speakers.
struct Desk {
    server: SoundServer,
    _tones: Vec<Process>,
}

impl Desk {
    fn new(dir: &TempDir) -> Self {
        const TONE_SECONDS: usize = 120;
        let folder = dir.path().join("run");
        fs::create_dir(&folder).unwrap();
        // Without `norewinds` an idle sink plays two seconds ahead.
        let server = SoundServer::start(
            &folder,
            &[
                "module-null-sink sink_name=ear rate=48000 channels=1 norewinds=1",
                "module-null-sink sink_name=bell rate=48000 channels=1 norewinds=1",
                "module-null-sink sink_name=low rate=48000 channels=1 norewinds=1",
                "module-null-sink sink_name=high rate=48000 channels=1 norewinds=1",
                "module-remap-source source_name=a_low master=low.monitor",
                "module-remap-source source_name=b_high master=high.monitor",
            ],
        );
        server.sound().pactl(&["set-default-sink", "ear"]);
        server.sound().pactl(&["set-default-source", "a_low"]);
        let tones = [("low", LOW_HZ), ("high", HIGH_HZ)].map(|(sink, hz)| {
            let file = dir.path().join(format!("{sink}.wav"));
            let step = std::f64::consts::TAU * hz / 48_000.0;
            let tone = (0..TONE_SECONDS * 48_000).map(|n| 0.3 * (step * n as f64).sin() as f32);
            write_wav(&file, &tone.collect::<Vec<_>>());
            let mut play = server.sound().tool("paplay");
            play.arg(format!("--device={sink}"))
                .arg("--latency-msec=100")
                .arg(&file);
            Process::start(&mut play)
        });
        Self {
            server,
            _tones: tones.into(),
        }
    }

    fn sound(&self) -> &Sound {
        self.server.sound()
    }

    /// Programs that have a microphone open.
    fn listeners(&self) -> String {
        // The remapped sources listen themselves.
        let outputs = self.sound().pactl(&["list", "short", "source-outputs"]);
        let of_programs = |line: &&str| !line.contains("module-remap-source");
        outputs.lines().filter(of_programs).collect()
    }
}

/// The program, with the sound of `desk`.
fn ahoy_with_sound(desk: &Desk) -> Command {
    let (mut command, tool) = (ahoy(), desk.sound().tool("true"));
    for (name, value) in tool.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

/// What the two microphones hear.
const LOW_HZ: f64 = 440.0;
const HIGH_HZ: f64 = 880.0;

const DESK_TOOLS: [&str; 6] = ["Xvfb", "xdotool", "pulseaudio", "pactl", "paplay", "parec"];

/// From the microphone's choice, by which the page about sound opens, to the switch against noise while a call goes on:
/// speaker, ring device, echo, noise.
const TABS_TO_NOISE_SUPPRESSION: usize = 4;

#[test]
fn settings_change_the_microphone_and_a_stage_in_a_call_that_goes_on() {
    let name = "settings_change_the_microphone_and_a_stage_in_a_call_that_goes_on";
    let Some((_held, dir, screen, node)) = scene(name, &DESK_TOOLS, WIDE) else {
        return;
    };
    let desk = Desk::new(&dir);
    let (ada, bob) = (Person::new(&dir, "ada"), Person::new(&dir, "bob"));
    // So that a tone is a tone until the switch says otherwise.
    let plain = "name = \"Ada\"\necho_cancellation = false\nnoise_suppression = false\n\
                 gain_control = false\nhigh_pass = false\n";
    let settings = ada.home.join("settings.toml");
    fs::write(&settings, plain).unwrap();
    let wait_saved = |line: &str| {
        wait_until(line, || {
            fs::read_to_string(&settings).unwrap().contains(line)
        });
    };

    let heard = dir.path().join("heard.wav");
    let mut answer = ahoy();
    answer.args(["answer", "--auto", "--once", "--via", &node, "--home"]);
    answer
        .arg(&bob.home)
        .args(["--audio-in", "silence", "--audio-out"]);
    let mut answering = Running::start(
        answer
            .arg(&heard)
            .stdout(Stdio::piped())
            .stderr(Stdio::null()),
    );
    let link = first_line(answering.lines());
    let mut command = ahoy_with_sound(&desk);
    command.args(["--via", &node]).env("AHOY_THEME", "dark");
    let mut window = Window::open(&screen, &ada, 0, &mut command);
    ada.wait_link();
    window.resize(900, 600);
    ada.run(&["ctl", "call", &link]);
    ada.wait_state("talking");
    ada.let_pass(Duration::from_secs(2));
    let shoot = |name: &str| {
        let pixels = screen.shoot(name);
        assert!(colors_in(&pixels, WIDE.0, 450, 900) > COLORS_OF_A_PAGE);
    };
    shoot("7-talking-900x600-dark");

    window.press("ctrl+comma");
    ada.let_pass(Duration::from_secs(1));
    shoot("8-sound-900x600-dark");
    // The default, the same by name, the other one.
    window.press("Down");
    wait_saved("microphone = \"pulseaudio:a_low\"");
    window.press("Down");
    wait_saved("microphone = \"pulseaudio:b_high\"");
    ada.let_pass(Duration::from_secs(3));
    for _ in 0..TABS_TO_NOISE_SUPPRESSION {
        window.press("Tab");
        // Two in one picture count once.
        ada.let_pass(DRAWN);
    }
    window.press("space");
    wait_saved("noise_suppression = true");
    ada.let_pass(Duration::from_secs(6));
    shoot("9-sound-switched-900x600-dark");
    window.resize(WIDE.0, WIDE.1);
    ada.let_pass(Duration::from_secs(1));
    shoot("9-sound-switched-1400x900-dark");
    let kept = fs::read_to_string(&settings).unwrap();
    assert!(
        !kept.contains("Ada") && kept.contains("high_pass = false"),
        "{kept}"
    );
    assert_eq!(ada.call_state(), "talking", "the same call goes on");

    // A microphone that is pulled out stays in the settings, and nothing takes its place.
    let modules = desk.sound().pactl(&["list", "short", "modules"]);
    let module = modules
        .lines()
        .find(|line| line.contains("source_name=b_high"))
        .unwrap();
    let module = module.split_whitespace().next().unwrap();
    desk.sound().pactl(&["unload-module", module]);
    ada.let_pass(Duration::from_secs(3));
    shoot("9-sound-missing-1400x900-dark");
    window.press("Escape");
    window.press("h");
    assert_eq!(answering.exit_code(), Some(0));
    window.press("ctrl+q");
    assert_eq!(window.process.exit_code(), Some(0));

    let heard = read_all(&heard).unwrap();
    let pieces: Vec<(f64, f64, f32)> = heard
        .chunks_exact(12_000)
        .map(|piece| {
            let tone = |hz| share_of_tone(piece, hz);
            (tone(LOW_HZ), tone(HIGH_HZ), Level::of(piece).rms_dbfs)
        })
        .collect();
    for (n, (low, high, dbfs)) in pieces.iter().enumerate() {
        eprintln!(
            "{:5.2} s: {low:.2} low, {high:.2} high, {dbfs:.1} dBFS",
            n as f64 / 4.0
        );
    }
    let loud = |dbfs: f32| dbfs > -30.0;
    let first_high = pieces
        .iter()
        .position(|(_, high, dbfs)| *high > 0.8 && loud(*dbfs));
    let first_high = first_high.expect("the other microphone was heard");
    let before = pieces[..first_high].iter();
    let low = before
        .filter(|(low, _, dbfs)| *low > 0.8 && loud(*dbfs))
        .count();
    assert!(
        low >= 6,
        "of the first microphone {low} quarters of a second"
    );
    let after = &pieces[first_high..];
    // The sound server itself puts the other one in the place of what is pulled out, until that is noticed.
    let given_up = after
        .iter()
        .filter(|(low, _, dbfs)| *low > 0.5 && *dbfs > -50.0);
    let given_up = given_up.count();
    assert!(
        given_up <= 2,
        "the first microphone is heard for {given_up} quarters of a second after it was given up"
    );
    let loudest = after.iter().map(|piece| piece.2).fold(f32::MIN, f32::max);
    let suppressed = after.windows(4).any(|pieces| {
        pieces
            .iter()
            .all(|(_, high, dbfs)| *high > 0.5 && (loudest - 25.0..loudest - 8.0).contains(dbfs))
    });
    assert!(suppressed, "the steady tone is as loud as before");
    let last = pieces[pieces.len() - 4..].iter();
    assert!(
        last.clone().all(|piece| piece.2 < -60.0),
        "something took the place of a microphone that was pulled out: {last:?}"
    );
}

/// The level of what a recording holds from `from` on, and how much of that there is.
fn level_since(file: &Path, from: usize) -> (f32, Duration) {
    let samples = recorded(file);
    let samples = &samples[from.min(samples.len())..];
    let length = Duration::from_secs_f64(samples.len() as f64 / 48_000.0);
    (Level::of(samples).rms_dbfs, length)
}

#[test]
fn a_window_rings_talks_while_the_space_bar_is_held_and_turns_the_other_side_down() {
    let name = "a_window_rings_talks_while_the_space_bar_is_held_and_turns_the_other_side_down";
    let Some((_held, dir, screen, node)) = scene(name, &DESK_TOOLS, WIDE) else {
        return;
    };
    let desk = Desk::new(&dir);
    let (ada, bob) = (Person::new(&dir, "ada"), Person::new(&dir, "bob"));
    let bob_link = bob.run(&["id", "show"]);
    ada.run(&["contact", "add", &bob_link, "--name", "Bob"]);
    let settings = "push_to_talk = true\nring_speaker = \"pulseaudio:bell\"\necho_cancellation = false\n\
                    noise_suppression = false\ngain_control = false\nhigh_pass = false\n";
    fs::write(ada.home.join("settings.toml"), settings).unwrap();
    let file = |name: &str| dir.path().join(name);
    let (bell, ear) = (file("bell.raw"), file("ear.raw"));
    let _bell = desk.sound().record("bell.monitor", 1, &bell);
    let _ear = desk.sound().record("ear.monitor", 1, &ear);

    let mut command = ahoy_with_sound(&desk);
    command.args(["--via", &node]).env("AHOY_THEME", "dark");
    let mut window = Window::open(&screen, &ada, 0, &mut command);
    let link = ada.wait_link();
    let quiet = recorded(&bell).len();
    let mut call = ahoy();
    call.args(["call", &link, "--via", &node, "--home"])
        .arg(&bob.home)
        .args(["--audio-in", "tone", "--audio-out"])
        .arg(file("heard.wav"))
        .stderr(Stdio::null());
    let mut calling = Running::start(&mut call);
    ada.wait_state("ringing_here");
    window.wait_title("Bob calls you");
    wait_until("the bell", || level_since(&bell, quiet).0 > -40.0);
    assert!(
        level_since(&ear, 0).0 < -60.0,
        "it rings by the speaker that was chosen, and no other"
    );
    window.press("a");
    ada.wait_state("talking");
    ada.let_pass(Duration::from_secs(2));
    let (rung, answered) = (recorded(&bell).len(), recorded(&ear).len());
    ada.let_pass(Duration::from_secs(1));
    assert!(level_since(&bell, rung).0 < -60.0, "the bell is silent");
    let (normal, length) = level_since(&ear, answered);
    assert!(normal > -40.0, "{normal} dBFS of Bob in {length:?}");

    window.hold("space", true);
    ada.wait_muted(false);
    ada.let_pass(Duration::from_secs(2));
    window.hold("space", false);
    ada.wait_muted(true);

    // The slider is somewhere behind Tab; what it does is heard.
    let mut softer = normal;
    for _tab in 0..8 {
        window.press("Tab");
        ada.let_pass(DRAWN);
        for _step in 0..5 {
            window.press("Left");
            ada.let_pass(DRAWN);
        }
        let from = recorded(&ear).len();
        ada.let_pass(Duration::from_secs(1));
        softer = level_since(&ear, from).0;
        if softer < normal - 3.0 {
            break;
        }
    }
    eprintln!("Bob at {normal:.1} dBFS, by five steps of the slider at {softer:.1}");
    let half = 20.0 * 0.5f32.log10();
    assert!(
        (softer - normal - half).abs() < 1.0,
        "100 to 50 per cent: {normal} and {softer} dBFS"
    );
    let pixels = screen.shoot("10-pushed-to-talk-dark");
    assert!(colors_in(&pixels, WIDE.0, 0, 500) > COLORS_OF_A_PAGE);
    window.press("h");
    assert_eq!(calling.exit_code(), Some(0));
    window.press("ctrl+q");
    assert_eq!(window.process.exit_code(), Some(0));

    let heard = read_all(file("heard.wav")).unwrap();
    let loud = heard
        .chunks_exact(4800)
        .filter(|piece| Level::of(piece).rms_dbfs > -30.0 && share_of_tone(piece, LOW_HZ) > 0.8);
    let millis = 100 * loud.count();
    let rest = heard.chunks_exact(4800).filter(|piece| peak(piece) < 1e-3);
    let silent = 100 * rest.count();
    eprintln!("the microphone was heard for {millis} ms, and not for {silent} ms");
    assert!((1700..4000).contains(&millis), "{millis} ms");
    assert!(silent > 2500, "{silent} ms");
}

#[test]
fn the_page_about_sound_without_a_call() {
    let name = "the_page_about_sound_without_a_call";
    let Some((_held, dir, screen, node)) = scene(name, &DESK_TOOLS, WIDE) else {
        return;
    };
    let desk = Desk::new(&dir);
    let ada = Person::new(&dir, "ada");
    let mut command = ahoy_with_sound(&desk);
    command.args(["--via", &node]).env("AHOY_THEME", "light");
    let mut window = Window::open(&screen, &ada, 0, &mut command);
    ada.wait_link();
    assert_eq!(
        desk.listeners(),
        "",
        "nobody looks, and a microphone is open"
    );
    window.resize(900, 600);
    window.press("ctrl+comma");
    wait_until("the meter's microphone", || !desk.listeners().is_empty());
    std::thread::sleep(Duration::from_secs(1));
    screen.shoot("10-sound-900x600-light");

    // Speaker, its button, ring device, its button, the recording.
    let played = dir.path().join("ear.raw");
    let recording = desk.sound().record("ear.monitor", 1, &played);
    for _ in 0..5 {
        window.press("Tab");
        std::thread::sleep(DRAWN);
    }
    window.press("space");
    // What was recorded is played: nobody else plays that tone there.
    wait_until("what was recorded", || {
        let heard = recorded(&played);
        let last = &heard[heard.len().saturating_sub(24_000)..];
        share_of_tone(last, LOW_HZ) > 0.8 && peak(last) > 0.02
    });
    drop(recording);
    wait_until("the meter's microphone after the test", || {
        !desk.listeners().is_empty()
    });
    window.resize(WIDE.0, WIDE.1);
    std::thread::sleep(Duration::from_secs(1));
    screen.shoot("11-sound-1400x900-light");
    window.resize(380, 640);
    std::thread::sleep(Duration::from_secs(1));
    screen.shoot("12-sound-380x640-light");
    window.press("Escape");
    wait_until("the meter's microphone to close", || {
        desk.listeners().is_empty()
    });
    window.press("ctrl+q");
    assert_eq!(window.process.exit_code(), Some(0));
}
