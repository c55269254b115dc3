//! `ahoy sim`: one call over a simulated network.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

mod profile;
mod script;

use clap::{Args, ValueEnum};

use super::{Assertion, CliError, media::writable, values};
use crate::{settings::PathPolicy, sim::NatKind};

pub use profile::LinkProfile;
pub use script::{Action, Party, Statement, Step, Way};
use script::{GRAMMAR, LinkChange, MAX_TRACE_BYTES};

/// The longest call: to measure it, all that was said and heard is laid side by side in memory, 1.3 GB for this.
const MAX_TALK: Duration = Duration::from_secs(600);

/// Examples shown by `-h` and `--help`.
const EXAMPLES: &str = "\
Alice calls Bob through a supernode, both speak, Alice hangs up. The conditions
act on Alice's link, each way; Bob and the supernode have ideal ones. The call
is the real one: only clock and network are simulated.

Examples:
  ahoy sim
      Ten seconds over a good line: what it looked like to Alice, in ten lines
  ahoy sim --profile lte --seed 7 --for 60 --json
      A minute in a moving train; the same seed gives the same JSON
  ahoy sim --loss 10 --burst 3 --assert 'participants.0.audio.score.value > 3'
      A condition that must hold; exit code 1 when it does not
  ahoy sim --nat port,cgnat --fault '3 reboot alice-router' --fault '6 cut direct for 2s'
      Two homes with routers, one behind a carrier's; what is done to them at 3 s and 6 s
  ahoy sim --trace train.trace --for 300 --junit result.xml --assert 'network.loss_fraction < 5%'
      A recorded link, and the result for a build server
  ahoy sim --profile capacity-drop --for 30 --ndjson | jq -c 'select(.event == \"second\")'
      One line for every second
  ahoy sim --profile international --for 600 --codec none --json
      Ten minutes in a few seconds, where the sound itself does not matter
";

/// What only `--help` shows.
const REFERENCE: &str = "\
Assertions: PATH OP VALUE. PATH leads into the JSON report, with numbers, first or last for
places in lists: outcome, network.loss_fraction, participants.0.audio.mouth_to_ear_ms.p95,
paths.last.kind, network.switches.len; OP is one of < <= > >= == !=, and ~ for `contains`; VALUE is
a number, a percentage, a word, true, false, or absent for what was not measured.

Exit codes: 0 done, 1 an assertion or the call failed, 2 usage, 3 no route,
6 time limit before media.";

/// All that `--help` shows after the flags.
fn long_help() -> String {
    format!("{EXAMPLES}\n{GRAMMAR}\n\n{REFERENCE}")
}

/// Call over a simulated network, in virtual time. The same seed gives the same call.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES, after_long_help = long_help())]
pub struct SimArgs {
    /// Start from a network as it is found; the flags below change it.
    #[arg(long, value_enum, default_value_t, help_heading = "Alice's link")]
    pub profile: LinkProfile,
    /// Packets lost each way, in percent, 0 to 100.
    #[arg(long, value_name = "PERCENT", value_parser = values::percent, help_heading = "Alice's link")]
    pub loss: Option<f64>,
    /// Lose packets in bursts of so many on average, 1 or more.
    #[arg(long, value_name = "PACKETS", requires = "loss", value_parser = values::burst, help_heading = "Alice's link")]
    pub burst: Option<f64>,
    /// Delay each way, in milliseconds, 0 to 60000.
    #[arg(long, value_name = "MS", value_parser = values::millis, help_heading = "Alice's link")]
    pub delay: Option<Duration>,
    /// Up to so much more delay, evenly distributed, in milliseconds, 0 to 60000.
    #[arg(long, value_name = "MS", value_parser = values::millis, help_heading = "Alice's link")]
    pub jitter: Option<Duration>,
    /// Bits per second that pass each way, UDP and IP headers included, such as 400k.
    #[arg(long, value_name = "BPS", value_parser = values::rate, help_heading = "Alice's link")]
    pub rate: Option<u64>,
    /// How long the full queue before the bottleneck takes to drain, in milliseconds, 0 to 60000 [default: 100]
    #[arg(long, value_name = "MS", value_parser = values::millis, help_heading = "Alice's link")]
    pub queue: Option<Duration>,
    /// Packets held back by 15 ms, and overtaken by later ones, in percent, 0 to 100.
    #[arg(long, value_name = "PERCENT", value_parser = values::percent, help_heading = "Alice's link")]
    pub reorder: Option<f64>,
    /// Packets that come twice, in percent, 0 to 100.
    #[arg(long, value_name = "PERCENT", value_parser = values::percent, help_heading = "Alice's link")]
    pub dup: Option<f64>,
    /// How Alice and Bob are connected, or both alike: none, full, addr, port, symmetric, cgnat, cgnat-sym, udpblocked [default: none]
    #[arg(long, value_name = "KIND,KIND", value_parser = nats, help_heading = "What happens")]
    pub nat: Option<[NatKind; 2]>,
    /// What happens to the network at a time, such as '5 cut direct for 3s'; may be repeated; --help tells all.
    #[arg(long = "fault", value_name = "TIME WHAT", value_parser = script::statement, help_heading = "What happens")]
    pub faults: Vec<Statement>,
    /// A file of such lines: a recorded link, or a whole scenario.
    #[arg(long, value_name = "FILE", help_heading = "What happens")]
    pub trace: Option<PathBuf>,
    /// Alice changes to another network so many seconds after the first sound: like --fault 'S move alice'.
    #[arg(long, value_name = "SECONDS", value_parser = values::seconds, help_heading = "What happens")]
    pub switch_at: Option<Duration>,
    /// The supernode dies so many seconds after the first sound: like --fault 'S kill relay'.
    #[arg(long, value_name = "SECONDS", value_parser = values::seconds, help_heading = "What happens")]
    pub kill_relay_at: Option<Duration>,
    /// The seed of everything random: 0 to 18446744073709551615.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub seed: u64,
    /// How many seconds they talk, in virtual time, up to 600.
    #[arg(long = "for", value_name = "SECONDS", default_value = "10", value_parser = values::seconds)]
    pub talk: Duration,
    /// What must hold in the report, such as 'setup.accept_to_first_audio_ms < 100'; may be repeated.
    #[arg(long = "assert", value_name = "EXPR", help_heading = "Results")]
    pub assertions: Vec<Assertion>,
    /// Print the report as readable JSON.
    #[arg(long, conflicts_with = "ndjson", help_heading = "Results")]
    pub json: bool,
    /// Print a line of JSON for everything that happens, for each second, and for the report.
    #[arg(long, help_heading = "Results")]
    pub ndjson: bool,
    /// Write the assertions' results to this file, as JUnit writes them.
    #[arg(
        long,
        value_name = "FILE",
        requires = "assertions",
        help_heading = "Results"
    )]
    pub junit: Option<PathBuf>,
    /// What both say, instead of a clip that is repeated: speech, or nothing can be measured.
    #[arg(long, value_name = "FILE.wav", help_heading = "Media")]
    pub audio_in: Option<PathBuf>,
    /// Where to write what Alice heard.
    #[arg(long, value_name = "FILE.wav", help_heading = "Media")]
    pub audio_out: Option<PathBuf>,
    /// Which ways media may take.
    #[arg(long, value_enum, default_value_t, help_heading = "Media")]
    pub path: PathPolicy,
    /// Bits per second of sound to send, 6k to 510k, such as 32k.
    #[arg(long, value_name = "BPS", value_parser = values::audio_bitrate, help_heading = "Media")]
    pub bitrate: Option<u32>,
    /// Milliseconds of sound in a packet: 10, 20, 40 or 60.
    #[arg(long, value_name = "MS", value_parser = values::ptime, help_heading = "Media")]
    pub ptime: Option<u16>,
    /// What makes packets of sound.
    #[arg(long, value_enum, default_value_t, help_heading = "Media")]
    pub codec: SimCodec,
    /// Alice's sound has a clock that is faster by so many millionths, and Bob's one that is slower: -1000 to 1000.
    #[arg(long, value_name = "PPM", default_value_t = 0, allow_hyphen_values = true, value_parser = clap::value_parser!(i32).range(-1000..=1000), help_heading = "Media")]
    pub drift: i32,
    /// How long encoding a picture takes, in milliseconds, 0 to 60000: on average, from half to one and a half of it.
    #[arg(long, value_name = "MS", default_value = "0", value_parser = values::millis, help_heading = "Media")]
    pub encode_ms: Duration,
    /// The same for decoding one.
    #[arg(long, value_name = "MS", default_value = "0", value_parser = values::millis, help_heading = "Media")]
    pub decode_ms: Duration,
    /// Leave parts out that make pictures better, to see what they are good for: retransmission, parity, queue,
    /// lip-sync, sound-wait, alert, spread, near.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        value_name = "PART",
        hide_possible_values = true,
        help_heading = "Media"
    )]
    pub without: Vec<VideoPart>,
    /// Pictures that both send, and where those that Alice saw go.
    #[command(flatten, next_help_heading = "Media")]
    pub video: super::VideoFlags,
}

/// Two kinds of NAT, or one for both.
fn nats(text: &str) -> Result<[NatKind; 2], String> {
    match text.split_once(',') {
        Some((alice, bob)) => Ok([alice.trim().parse()?, bob.trim().parse()?]),
        None => text.parse().map(|kind| [kind; 2]),
    }
}

/// A simulated call.
#[derive(Debug, Clone, PartialEq)]
pub struct SimPlan {
    /// The name of the profile.
    pub profile: LinkProfile,
    /// What is done to the network, in the order of time; what is at zero, before anything begins.
    pub steps: Vec<Step>,
    /// How the caller and the callee are connected.
    pub nats: [NatKind; 2],
    /// The seed of everything random.
    pub seed: u64,
    /// How long they talk, in virtual time.
    pub talk: Duration,
    /// What must hold in the report.
    pub assertions: Vec<Assertion>,
    /// How the report is printed.
    pub print: Print,
    /// Where the assertions' results go.
    pub junit: Option<PathBuf>,
    /// What is said; absent: a clip of speech.
    pub audio_in: Option<PathBuf>,
    /// Where what the caller heard goes; absent: nowhere.
    pub audio_out: Option<PathBuf>,
    /// Which ways media may take.
    pub path: PathPolicy,
    /// Bits per second to send; absent: the app's choice.
    pub bitrate_bps: Option<u32>,
    /// Milliseconds of sound in a packet; absent: the app's choice.
    pub ptime_millis: Option<u16>,
    /// What makes packets of sound.
    pub codec: SimCodec,
    /// By how many millionths Alice's sound has a faster clock, and Bob's a slower one.
    pub drift_ppm: i32,
    /// How long encoding a picture takes on average.
    pub encode_takes: Duration,
    /// How long decoding a picture takes on average.
    pub decode_takes: Duration,
    /// What is left out.
    pub without: Vec<VideoPart>,
    /// What both send of pictures, and where what the caller saw goes.
    pub video: super::VideoPlan,
}

/// A part of what makes pictures good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum VideoPart {
    /// Lost packets are asked for, and sent again.
    Retransmission,
    /// Parity where the way is long.
    Parity,
    /// The sender goes by what really waits to be sent.
    Queue,
    /// Pictures are shown when their sound is heard.
    LipSync,
    /// Sound waits for pictures that are regularly late.
    SoundWait,
    /// Parity also where the way is short.
    Near,
    /// Parity leaves later than its frame where losses come in bursts.
    Spread,
    /// Pictures have one layer in time while next to nothing is lost.
    SingleLayer,
    /// Pictures wait while the other side's reports are late, which come more often where pictures do.
    Alert,
    /// A connection that takes another's place begins with what that one carried, and what comes by that one counts.
    Handover,
}

/// What makes packets of sound, and sound of packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum SimCodec {
    /// The real one.
    #[default]
    Opus,
    /// Packets of the same sizes with nothing in them: ten times as fast, and no score.
    None,
}

/// How a report is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Print {
    /// Ten lines for people.
    Summary,
    /// Readable JSON.
    Json,
    /// A line of JSON for everything that happens.
    Ndjson,
}

/// In a simulation nobody sits before a camera or a screen.
fn simulated(video: super::VideoPlan) -> Result<super::VideoPlan, CliError> {
    match video.input {
        super::VideoIn::Screen(_) | super::VideoIn::Camera(_) => Err(CliError::usage(
            "a simulation has no screen and no camera: --video-in takes pattern, none or a FILE.y4m here",
        )),
        super::VideoIn::Nothing | super::VideoIn::Pattern | super::VideoIn::File(_) => Ok(video),
    }
}

impl SimArgs {
    /// Checks them, and lays what was said about the link over the profile.
    ///
    /// # Errors
    /// Whatever cannot be done as asked.
    pub fn plan(self) -> Result<SimPlan, CliError> {
        if let Some(junit) = &self.junit {
            writable(junit, "--junit")?;
        }
        if self.talk > MAX_TALK {
            return Err(CliError::usage(format_args!(
                "--for is {} seconds at most",
                MAX_TALK.as_secs()
            )));
        }
        let steps = self.steps()?;
        // Virtual time has no microphone and no loudspeaker, but files.
        if let Some(path) = self.audio_in.as_ref().filter(|path| !path.is_file()) {
            let path = path.display();
            return Err(CliError::usage(format_args!(
                "there is no sound file {path}: --audio-in takes a FILE.wav here"
            )));
        }
        if let Some(path) = &self.audio_out {
            writable(path, "--audio-out")?;
        }
        Ok(SimPlan {
            profile: self.profile,
            steps,
            nats: self.nat.unwrap_or([NatKind::None; 2]),
            seed: self.seed,
            talk: self.talk,
            assertions: self.assertions,
            print: match (self.json, self.ndjson) {
                (true, _) => Print::Json,
                (false, true) => Print::Ndjson,
                (false, false) => Print::Summary,
            },
            junit: self.junit,
            audio_in: self.audio_in,
            audio_out: self.audio_out,
            path: self.path,
            bitrate_bps: self.bitrate,
            ptime_millis: self.ptime,
            codec: self.codec,
            drift_ppm: self.drift,
            encode_takes: self.encode_ms,
            decode_takes: self.decode_ms,
            without: self.without,
            video: simulated(self.video.plan()?)?,
        })
    }

    /// What the flags say about Alice's link.
    fn link(&self) -> LinkChange {
        LinkChange {
            loss: self.loss,
            burst: self.burst,
            delay: self.delay,
            jitter: self.jitter,
            rate: self.rate.map(Some),
            queue: self.queue,
            reorder: self.reorder,
            dup: self.dup,
        }
    }

    /// Profile, trace and faults in one order of time.
    fn steps(&self) -> Result<Vec<Step>, CliError> {
        let mut profile = self.profile.statements();
        for statement in &mut profile {
            statement.overlay(self.link());
        }
        let trace = match &self.trace {
            Some(path) => read_trace(path)?,
            None => Vec::new(),
        };
        let killed = |at| Statement::of(at, Action::KillRelay, "kill relay");
        let moved = |at| Statement::of(at, Action::Move(Party::Alice, None), "move alice");
        let mut faults = self.faults.clone();
        for (flag, at, statement) in [
            (
                "--kill-relay-at",
                self.kill_relay_at,
                killed as fn(Duration) -> Statement,
            ),
            ("--switch-at", self.switch_at, moved),
        ] {
            if at.is_some_and(|at| at >= self.talk) {
                return Err(CliError::usage(format_args!(
                    "{flag} is after the end of the call: make --for longer"
                )));
            }
            faults.extend(at.map(statement));
        }
        if let Some(late) = self.faults.iter().find(|fault| fault.at() >= self.talk) {
            return Err(CliError::usage(format_args!(
                "--fault {:?} is after the end of the call: make --for longer",
                late.text()
            )));
        }
        let steps = script::steps(&[profile, trace, faults], self.talk).map_err(CliError::usage)?;
        let nats = self.nat.unwrap_or([NatKind::None; 2]);
        script::check_routers(&steps, nats).map_err(CliError::usage)?;
        Ok(steps)
    }
}

fn read_trace(path: &Path) -> Result<Vec<Statement>, CliError> {
    let shown = path.display();
    let fail =
        |why: &dyn std::fmt::Display| CliError::usage(format_args!("--trace {shown}: {why}"));
    let bytes = std::fs::metadata(path).map_err(|error| fail(&error))?.len();
    if bytes > MAX_TRACE_BYTES {
        return Err(fail(&format_args!(
            "it has more than {MAX_TRACE_BYTES} bytes"
        )));
    }
    let text = std::fs::read_to_string(path).map_err(|error| fail(&error))?;
    script::trace(&text).map_err(|why| fail(&why))
}
