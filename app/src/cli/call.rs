//! `ahoy call` and `ahoy answer`.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::{
    CliError, MediaFlags, MediaPlan,
    media::{unused, writable},
    values,
};
use crate::link::PersonLink;

/// Call somebody, without a window.
///
/// Who is in the same network is found without a supernode and without internet, unless --no-lan says otherwise.
#[derive(Debug, Clone, Args)]
pub struct CallArgs {
    /// Whom: the name of a contact, or an ahoy: link.
    #[arg(value_name = "NAME|LINK", value_parser = values::target)]
    pub to: Target,
    /// Hang up so many seconds after the first sound.
    #[arg(long = "for", value_name = "SECONDS", value_parser = values::seconds)]
    pub talk: Option<Duration>,
    /// Give up when no sound has come after so many seconds.
    #[arg(long, value_name = "SECONDS", value_parser = values::seconds)]
    pub timeout: Option<Duration>,
    /// Write the report to this file.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Record the call to this file, such as call.mkv, which every player opens: both voices, and the pictures of both
    /// sides. The other side is told. A file that is there already is not written over.
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
    /// Media options.
    #[command(flatten)]
    pub media: MediaFlags,
}

/// Call the echo test: it says a sentence, then plays back what you say, three seconds later. It needs no internet.
#[derive(Debug, Clone, Args)]
pub struct EchoArgs {
    /// Hang up so many seconds after the first sound.
    #[arg(long = "for", value_name = "SECONDS", value_parser = values::seconds)]
    pub talk: Option<Duration>,
    /// Write the report to this file.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
    /// Media options.
    #[command(flatten)]
    pub media: MediaFlags,
}

impl EchoArgs {
    /// Checks them.
    ///
    /// # Errors
    /// As [`CallArgs::plan`].
    pub fn plan(self) -> Result<CallPlan, CliError> {
        let call = CallArgs {
            to: Target::Name("echo".into()),
            talk: self.talk,
            timeout: None,
            report: self.report,
            record: None,
            json: self.json,
            media: self.media,
        };
        Ok(CallPlan {
            echo: true,
            ..call.plan()?
        })
    }
}

/// Whom to call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// By link: nothing else has to be known.
    Link(PersonLink),
    /// By the name of a contact. Where nobody is called that, `echo` is the echo test.
    Name(String),
}

/// A call to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallPlan {
    /// Whom.
    pub to: Target,
    /// The echo test, whoever else is called that.
    pub echo: bool,
    /// Hang up so long after the first sound.
    pub talk_limit: Option<Duration>,
    /// Give up when no sound has come by then.
    pub setup_limit: Option<Duration>,
    /// Where the report goes.
    pub report: Option<PathBuf>,
    /// Where the call is recorded.
    pub record: Option<PathBuf>,
    /// Print the report.
    pub json: bool,
    /// Media options.
    pub media: MediaPlan,
}

/// Wait for calls, without a window. Prints this device's link once it can be called.
///
/// Others reach it through the supernodes of the profile or of --via, and those in the same network without any,
/// unless --no-lan says otherwise.
#[derive(Debug, Clone, Args)]
pub struct AnswerArgs {
    /// Answer every call by itself, those of strangers too.
    #[arg(long)]
    pub auto: bool,
    /// With --auto: answer contacts only.
    #[arg(long, requires = "auto")]
    pub contacts_only: bool,
    /// Send back what is heard instead of --audio-in.
    #[arg(long, conflicts_with = "audio_in")]
    pub echo: bool,
    /// End after the first call.
    #[arg(long)]
    pub once: bool,
    /// Write the report of each call to this file; the last one stays.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Record the call to this file, such as call.mkv, which every player opens: both voices, and the pictures of both
    /// sides. The other side is told. A file that is there already is not written over, and later calls get a number.
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Media options.
    #[command(flatten)]
    pub media: MediaFlags,
}

/// Which calls are answered without a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AutoAnswer {
    /// None: `ahoy ctl accept` answers.
    Nobody,
    /// Those of contacts.
    Contacts,
    /// All.
    Everybody,
}

/// How to wait for calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerPlan {
    /// Which calls are answered without a person.
    pub auto: AutoAnswer,
    /// Send back what is heard.
    pub echo: bool,
    /// End after the first call.
    pub once: bool,
    /// Where the reports go.
    pub report: Option<PathBuf>,
    /// Where the calls are recorded.
    pub record: Option<PathBuf>,
    /// Media options.
    pub media: MediaPlan,
}

impl CallArgs {
    /// Checks them.
    ///
    /// # Errors
    /// Whatever cannot be done as asked, before anybody's phone rings.
    pub fn plan(self) -> Result<CallPlan, CliError> {
        if let Some(report) = &self.report {
            writable(report, "--report")?;
        }
        if let Some(record) = &self.record {
            unused(record, "--record")?;
        }
        Ok(CallPlan {
            to: self.to,
            echo: false,
            talk_limit: self.talk,
            setup_limit: self.timeout,
            report: self.report,
            record: self.record,
            json: self.json,
            media: self.media.plan()?,
        })
    }
}

impl AnswerArgs {
    /// Checks them.
    ///
    /// # Errors
    /// Whatever cannot be done as asked.
    pub fn plan(self) -> Result<AnswerPlan, CliError> {
        if let Some(report) = &self.report {
            writable(report, "--report")?;
        }
        if let Some(record) = &self.record {
            unused(record, "--record")?;
        }
        Ok(AnswerPlan {
            auto: match (self.auto, self.contacts_only) {
                (false, _) => AutoAnswer::Nobody,
                (true, true) => AutoAnswer::Contacts,
                (true, false) => AutoAnswer::Everybody,
            },
            echo: self.echo,
            once: self.once,
            report: self.report,
            record: self.record,
            media: self.media.plan()?,
        })
    }
}
