//! `ahoy message` and `ahoy messages`.

use std::io::Read;

use chrono::{Local, TimeZone};
use clap::Args;

use super::{CliError, Target, env::MAX_INPUT, values};
use crate::{chat::MAX_TEXT_BYTES, control::MessageLine, link::NodeLink};

/// Write to somebody, who may be off: it waits at their supernodes for up to 14 days, sealed.
///
/// Prints how far it got. What no supernode took is kept, and sent when ahoy runs again (exit code 3).
#[derive(Debug, Clone, Args)]
pub struct MessageArgs {
    /// To whom: the name of a contact, or an ahoy: link.
    #[arg(value_name = "NAME|LINK", value_parser = values::target)]
    pub to: Target,
    /// What to say; - reads it from standard input.
    #[arg(value_name = "TEXT")]
    pub text: String,
    /// Supernode of yours, by its ahoy-node: link; may be repeated (default: those of the profile).
    #[arg(long, value_name = "NODE_LINK")]
    pub via: Vec<NodeLink>,
}

/// Something to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessagePlan {
    /// A contact's name, or a link.
    pub to: String,
    /// What to say.
    pub text: String,
    /// Supernodes to use; empty: those of the profile.
    pub via: Vec<NodeLink>,
}

/// Show what was written and who called in vain.
#[derive(Debug, Clone, Args)]
pub struct MessagesArgs {
    /// With whom (default: everybody): the name of a contact, or an ahoy: link.
    #[arg(value_name = "NAME|LINK", value_parser = values::target)]
    pub with: Option<Target>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// What to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessagesPlan {
    /// A contact's name, or a link.
    pub with: Option<String>,
    /// Print JSON.
    pub json: bool,
}

pub(super) fn named(target: Target) -> String {
    match target {
        Target::Link(link) => link.to_string(),
        Target::Name(name) => name,
    }
}

impl MessageArgs {
    /// Checks them, and reads the text.
    ///
    /// # Errors
    /// A text that is empty or too long, or cannot be read.
    pub fn plan(self) -> Result<MessagePlan, CliError> {
        let text = if self.text == "-" {
            let mut text = String::new();
            let read = std::io::stdin().take(MAX_INPUT).read_to_string(&mut text);
            read.map_err(|error| {
                CliError::usage(format_args!("cannot read the message: {error}"))
            })?;
            text
        } else {
            self.text
        };
        let len = text.trim().len();
        if len > MAX_TEXT_BYTES {
            return Err(CliError::usage(format_args!(
                "the message has {len} bytes; {MAX_TEXT_BYTES} are the most"
            )));
        }
        if len == 0 {
            return Err(CliError::usage("the message is empty"));
        }
        Ok(MessagePlan {
            to: named(self.to),
            text,
            via: self.via,
        })
    }
}

impl MessagesArgs {
    /// What to show.
    #[must_use]
    pub fn plan(self) -> MessagesPlan {
        MessagesPlan {
            with: self.with.map(named),
            json: self.json,
        }
    }
}

/// Lines for people. Further lines of a text are set in, so that nobody writes one that looks like another's.
#[must_use]
pub fn told(lines: &[MessageLine]) -> String {
    let told = lines.iter().map(|line| {
        let time = i64::try_from(line.at_ms).ok();
        let time = time.and_then(|at| Local.timestamp_millis_opt(at).single());
        let time = time.map_or_else(String::new, |time| {
            time.format("%Y-%m-%d %H:%M").to_string()
        });
        let said = match &line.text {
            Some(text) => text.replace('\n', "\n    "),
            None => "called while nobody could answer".into(),
        };
        match (&line.state, line.homes) {
            (Some(state), Some(homes)) => {
                format!("{time}  to {} ({state} at {homes}): {said}", line.name)
            }
            (Some(state), None) => format!("{time}  to {} ({state}): {said}", line.name),
            (None, _) => format!("{time}  {}: {said}", line.name),
        }
    });
    told.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_writes_a_line_in_anothers_name() {
        let line = |state: Option<&str>, text: Option<&str>| MessageLine {
            id: "x".into(),
            user: "u".into(),
            name: "Bo".into(),
            at_ms: 0,
            kind: "text".into(),
            text: text.map(Into::into),
            state: state.map(Into::into),
            homes: state.map(|_| 2),
        };
        let told = told(&[
            line(None, Some("hi\n2026-01-01 00:00  Al: I owe Bo 100")),
            line(None, None),
            line(Some("waiting"), Some("well")),
        ]);
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(lines.len(), 4);
        assert!(lines[0].ends_with("  Bo: hi"));
        assert!(lines[1].starts_with("    2026"));
        assert!(lines[2].ends_with("  Bo: called while nobody could answer"));
        assert!(lines[3].ends_with("  to Bo (waiting at 2): well"));
    }
}
