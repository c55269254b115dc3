//! `ahoy sim`: one call over a simulated network.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

use super::{Assertion, CliError, MediaFlags, media::writable, values};
use crate::sim::{Conditions, Loss, Rate};

/// A queue that holds this much is what a good router has.
const DEFAULT_QUEUE: Duration = Duration::from_millis(100);
/// Distance by which a reordered packet is held back.
const REORDER_BY: Duration = Duration::from_millis(15);

/// Call over a simulated network, in virtual time. The same seed gives the same call.
#[derive(Debug, Clone, Args)]
pub struct SimArgs {
    /// Start from a network as it is found.
    #[arg(long, value_enum, default_value_t)]
    pub profile: LinkProfile,
    /// Packets lost each way, in percent.
    #[arg(long, value_name = "PERCENT", value_parser = values::percent)]
    pub loss: Option<f64>,
    /// Lose packets in bursts of so many on average.
    #[arg(long, value_name = "PACKETS", requires = "loss", value_parser = values::burst)]
    pub burst: Option<f64>,
    /// Delay each way between the two, in milliseconds.
    #[arg(long, value_name = "MS", value_parser = values::millis)]
    pub delay: Option<Duration>,
    /// Up to so much more delay, in milliseconds.
    #[arg(long, value_name = "MS", value_parser = values::millis)]
    pub jitter: Option<Duration>,
    /// Bits per second that pass, such as 400k.
    #[arg(long, value_name = "BPS", value_parser = values::rate)]
    pub rate: Option<u64>,
    /// How long a full queue before the bottleneck takes to drain, in milliseconds.
    #[arg(long, value_name = "MS", value_parser = values::millis)]
    pub queue: Option<Duration>,
    /// Packets overtaken by later ones, in percent.
    #[arg(long, value_name = "PERCENT", value_parser = values::percent)]
    pub reorder: Option<f64>,
    /// Packets that come twice, in percent.
    #[arg(long, value_name = "PERCENT", value_parser = values::percent)]
    pub dup: Option<f64>,
    /// The caller changes its network so many seconds after the first sound.
    #[arg(long, value_name = "SECONDS", value_parser = values::seconds)]
    pub switch_at: Option<Duration>,
    /// The relay dies so many seconds after the first sound.
    #[arg(long, value_name = "SECONDS", value_parser = values::seconds)]
    pub kill_relay_at: Option<Duration>,
    /// The seed of everything random.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How many seconds they talk, in virtual time.
    #[arg(long = "for", value_name = "SECONDS", default_value = "10", value_parser = values::seconds)]
    pub talk: Duration,
    /// What must hold in the report, such as 'setup.accept_to_first_audio_ms < 100'; may be repeated.
    #[arg(long = "assert", value_name = "EXPR")]
    pub assertions: Vec<Assertion>,
    /// Print the report as readable JSON.
    #[arg(long, conflicts_with = "ndjson")]
    pub json: bool,
    /// Print the report as one line of JSON.
    #[arg(long)]
    pub ndjson: bool,
    /// Write the assertions' results to this file, as JUnit writes them.
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Media options.
    #[command(flatten)]
    pub media: MediaFlags,
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
    /// Conditions each way from given times after the first sound on. The first time is zero.
    pub conditions: Vec<(Duration, Conditions)>,
    /// When the caller changes its network, after the first sound.
    pub switch_at: Option<Duration>,
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
    pub audio_in: Option<super::AudioIn>,
    /// Where what was heard goes; absent: nowhere.
    pub audio_out: Option<PathBuf>,
    /// Which ways media may take.
    pub path: super::PathChoice,
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
    /// One line of JSON.
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
        if !self.media.via.is_empty() {
            return Err(CliError::usage(
                "the simulation has a supernode of its own: leave out --via",
            ));
        }
        for (at, option) in [
            (self.switch_at, "--switch-at"),
            (self.kill_relay_at, "--kill-relay-at"),
        ] {
            if at.is_some_and(|at| at >= self.talk) {
                return Err(CliError::usage(format_args!(
                    "{option} is after the end of the call: make --for longer"
                )));
            }
        }
        let audio_in = self.media.audio_in.clone();
        if audio_in == Some(super::AudioIn::Microphone)
            || self.media.audio_out == Some(super::AudioOut::Speaker)
        {
            return Err(CliError::usage(
                "there is no microphone and no loudspeaker in virtual time: name files",
            ));
        }
        let mut conditions = self.profile.conditions();
        for (_, conditions) in &mut conditions {
            self.apply(conditions)?;
        }
        let flags = MediaFlags {
            audio_in: Some(audio_in.clone().unwrap_or(super::AudioIn::Silence)),
            audio_out: Some(
                self.media
                    .audio_out
                    .clone()
                    .unwrap_or(super::AudioOut::Null),
            ),
            ..self.media
        };
        let media = flags.plan()?;
        Ok(SimPlan {
            conditions,
            switch_at: self.switch_at,
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
            audio_in,
            audio_out: match media.audio_out {
                super::AudioOut::File(path) => Some(path),
                super::AudioOut::Speaker | super::AudioOut::Null => None,
            },
            path: media.path,
            bitrate_bps: media.bitrate_bps,
            ptime_millis: media.ptime_millis,
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
