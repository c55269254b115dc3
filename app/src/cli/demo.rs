//! `ahoy demo` and `ahoy doctor`.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::{CliError, MediaFlags, values};
use crate::settings::PathPolicy;

/// Two people call each other on this machine, over real sockets and a supernode of their own.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// Print the report as JSON instead of ten lines.
    #[arg(long)]
    pub json: bool,
    /// Keep the call on the relay.
    #[arg(long, conflicts_with = "path")]
    pub relay_only: bool,
    /// How many seconds they talk.
    #[arg(long = "for", value_name = "SECONDS", default_value = "8", value_parser = values::seconds)]
    pub talk: Duration,
    /// Folder for the report and what was heard; made if it is not there.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Media options.
    #[command(flatten)]
    pub media: MediaFlags,
}

/// A demonstration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DemoPlan {
    /// Print JSON instead of ten lines.
    pub json: bool,
    /// How long they talk.
    pub talk: Duration,
    /// Where files go; absent: none are written.
    pub out: Option<PathBuf>,
    /// What is said; absent: a clip of speech.
    pub audio_in: Option<super::AudioIn>,
    /// Which ways media may take.
    pub path: PathPolicy,
    /// Bits per second to send; absent: the app's choice.
    pub bitrate_bps: Option<u32>,
    /// Milliseconds of sound in a packet; absent: the app's choice.
    pub ptime_millis: Option<u16>,
    /// What both send of pictures, and where what the caller saw goes.
    pub video: super::VideoPlan,
}

impl DemoArgs {
    /// Checks them.
    ///
    /// # Errors
    /// Whatever cannot be done as asked.
    pub fn plan(self) -> Result<DemoPlan, CliError> {
        if let Some(out) = self
            .out
            .as_ref()
            .filter(|out| out.exists() && !out.is_dir())
        {
            let out = out.display();
            return Err(CliError::usage(format_args!(
                "--out {out} is a file: name a folder"
            )));
        }
        if !self.media.via.is_empty() {
            return Err(CliError::usage(
                "the demonstration has a supernode of its own: leave out --via",
            ));
        }
        if self.media.audio_out.is_some() {
            return Err(CliError::usage(
                "the demonstration writes what was heard to --out DIR: leave out --audio-out",
            ));
        }
        let audio_in = self.media.audio_in.clone();
        let flags = MediaFlags {
            audio_in: Some(audio_in.clone().unwrap_or(super::AudioIn::Silence)),
            audio_out: Some(super::AudioOut::Null),
            ..self.media
        };
        let media = flags.plan()?;
        Ok(DemoPlan {
            json: self.json,
            talk: self.talk,
            out: self.out,
            audio_in,
            path: if self.relay_only {
                PathPolicy::Relay
            } else {
                media.path
            },
            bitrate_bps: media.bitrate_bps,
            ptime_millis: media.ptime_millis,
            video: media.video,
        })
    }
}

/// Find out what works here, and what to do about the rest.
#[derive(Debug, Clone, Args)]
pub struct DoctorArgs {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Only try microphone and speaker: listen for three seconds, tell how loud it was, play it back.
    #[arg(long)]
    pub sound: bool,
}
