//! `ahoy sim`: one call over a simulated network.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

use super::{Assertion, CliError, media::writable, values};
use crate::{
    settings::PathPolicy,
    sim::{Conditions, Loss, Rate},
};

/// A queue that holds this much is what a good router has.
const DEFAULT_QUEUE: Duration = Duration::from_millis(100);
/// The longest call: to measure it, all that was said and heard is laid side by side in memory, 1.3 GB for this.
const MAX_TALK: Duration = Duration::from_secs(600);
/// Distance by which a reordered packet is held back.
const REORDER_BY: Duration = Duration::from_millis(15);

/// Examples shown by `--help`.
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
  ahoy sim --kill-relay-at 3 --assert outcome==completed --junit result.xml
      The supernode dies while they talk directly
  ahoy sim --profile capacity-drop --for 30 --ndjson | jq -c 'select(.event == \"second\")'
      One line for every second

Paths for --assert are those of the JSON report: outcome, network.loss_fraction,
setup.accept_to_first_audio_ms, participants.0.audio.mouth_to_ear_ms.p95, ...
Exit codes: 0 done, 1 an assertion or the call failed, 2 usage, 3 no route,
6 time limit before media.";

/// Call over a simulated network, in virtual time. The same seed gives the same call.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
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
    /// The supernode dies so many seconds after the first sound.
    #[arg(long, value_name = "SECONDS", value_parser = values::seconds)]
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
}

/// Networks as they are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LinkProfile {
    /// A good line: 20 ms each way.
    #[default]
    Clean,
    /// A busy household's Wi-Fi.
    Wifi,
    /// A telephone in a moving train.
    Lte,
    /// From one continent to another.
    International,
    /// One packet in five lost, three in a row.
    Burst20,
    /// A thin uplink before a queue of a second.
    Bufferbloat,
    /// 2 Mbit/s, after 10 s 400 kbit/s, after 20 s 2 Mbit/s again.
    CapacityDrop,
    /// By a satellite that stands still.
    Satellite,
}

impl LinkProfile {
    /// Conditions each way from given times after the first sound on. The first time is zero.
    #[must_use]
    pub fn conditions(self) -> Vec<(Duration, Conditions)> {
        let ms = Duration::from_millis;
        let clean = Conditions::with_delay(ms(20));
        let constant = match self {
            Self::Clean => clean,
            Self::Wifi => Conditions {
                delay: ms(10),
                jitter: ms(30),
                loss: Loss::bursts(0.01, 2.0),
                duplicate: 0.001,
                ..clean
            },
            Self::Lte => Conditions {
                delay: ms(40),
                jitter: ms(40),
                loss: Loss::bursts(0.02, 4.0),
                rate: Some(Rate::with_queue_time(4_000_000, ms(300))),
                ..clean
            },
            Self::International => Conditions {
                delay: ms(125),
                jitter: ms(50),
                reorder: 0.01,
                reorder_by: REORDER_BY,
                duplicate: 0.001,
                loss: Loss::bursts(0.03, 3.0),
                ..clean
            },
            Self::Burst20 => Conditions {
                loss: Loss::bursts(0.2, 3.0),
                ..clean
            },
            Self::Bufferbloat => Conditions {
                rate: Some(Rate::with_queue_time(128_000, ms(1000))),
                ..clean
            },
            Self::Satellite => Conditions {
                delay: ms(300),
                jitter: ms(20),
                loss: Loss::Random(0.005),
                ..clean
            },
            Self::CapacityDrop => {
                let step = |at: u64, bps: u64| {
                    let rate = Some(Rate::with_queue_time(bps, ms(300)));
                    let step = Conditions {
                        rate,
                        ..clean.clone()
                    };
                    (Duration::from_secs(at), step)
                };
                return vec![step(0, 2_000_000), step(10, 400_000), step(20, 2_000_000)];
            }
        };
        vec![(Duration::ZERO, constant)]
    }
}

/// A simulated call.
#[derive(Debug, Clone, PartialEq)]
pub struct SimPlan {
    /// Conditions of the caller's link, each way, from given times after the first sound on. The first time is
    /// zero, and those hold from the beginning.
    pub conditions: Vec<(Duration, Conditions)>,
    /// When the relay dies, after the first sound.
    pub kill_relay_at: Option<Duration>,
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
        if self.kill_relay_at.is_some_and(|at| at >= self.talk) {
            return Err(CliError::usage(
                "--kill-relay-at is after the end of the call: make --for longer",
            ));
        }
        let mut conditions = self.profile.conditions();
        for (_, conditions) in &mut conditions {
            self.apply(conditions)?;
        }
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
            conditions,
            kill_relay_at: self.kill_relay_at,
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
        })
    }

    fn apply(&self, link: &mut Conditions) -> Result<(), CliError> {
        if let Some(delay) = self.delay {
            link.delay = delay;
        }
        if let Some(jitter) = self.jitter {
            link.jitter = jitter;
        }
        if let Some(fraction) = self.loss {
            link.loss = match self.burst {
                _ if fraction == 0.0 => Loss::None,
                Some(_) if fraction >= 1.0 => {
                    return Err(CliError::usage(
                        "bursts that lose everything never end: leave out --burst",
                    ));
                }
                Some(burst) => Loss::bursts(fraction, burst),
                None => Loss::Random(fraction),
            };
        }
        if let Some(fraction) = self.reorder {
            link.reorder = fraction;
            link.reorder_by = REORDER_BY;
        }
        if let Some(fraction) = self.dup {
            link.duplicate = fraction;
        }
        match (self.rate, self.queue, link.rate) {
            (Some(bps), queue, _) => {
                let queue = queue.unwrap_or(DEFAULT_QUEUE);
                link.rate = Some(Rate::with_queue_time(bps, queue));
            }
            (None, Some(queue), Some(rate)) => {
                link.rate = Some(Rate::with_queue_time(rate.bits_per_second, queue));
            }
            (None, Some(_), None) => {
                return Err(CliError::usage("--queue needs a bottleneck: add --rate"));
            }
            (None, None, _) => {}
        }
        Ok(())
    }
}
