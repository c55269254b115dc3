//! Endings of calls and of recordings, as sentences for a person.

use std::{path::Path, time::Duration};

use ahoy_media::record::RecordStats;

use crate::call::{Direction, EndedCall, Ending, Failure, Side, Unreachable};

/// How the call with `name` ended, and what to do if that helps.
#[must_use]
pub fn ended(name: &str, ended: &EndedCall) -> String {
    let missed = ended.direction == Direction::Incoming;
    match ended.ending {
        Ending::Busy if missed => format!("{name} called while you were in another call."),
        Ending::NoAnswer if missed => format!("You missed a call from {name}."),
        Ending::DeclinedElsewhere if missed => "Declined on another of your devices.".into(),
        Ending::Completed { by: Side::Local } => "You hung up.".into(),
        Ending::Completed { by: Side::Remote } => format!("{name} hung up."),
        Ending::Declined { by: Side::Local } => format!("You declined the call from {name}."),
        Ending::Declined { by: Side::Remote } => format!("{name} declined."),
        Ending::DeclinedElsewhere => format!("{name} declined on another device."),
        Ending::Busy => format!("{name} is in another call. Try again in a while."),
        Ending::NoAnswer => format!("{name} did not answer."),
        Ending::Cancelled { by: Side::Local } => "You cancelled the call.".into(),
        Ending::Cancelled { by: Side::Remote } if missed => format!("{name} called and gave up."),
        Ending::Cancelled { by: Side::Remote } => {
            format!("{name} answered, and hung up before any sound came.")
        }
        Ending::AnsweredElsewhere => "Answered on another of your devices.".into(),
        Ending::Unreachable(Unreachable::Unknown) => format!(
            "The link of {name} names no supernode, and {name} was not found in this network. Where both are in one, ahoy has to run there and lan_discovery to be on at both (no --no-lan, no --path relay); from anywhere else, ask for a link that names a supernode."
        ),
        Ending::Unreachable(Unreachable::Offline) => format!(
            "{name} is not online at the supernodes in their link. Ask them whether ahoy runs, or for a new link."
        ),
        Ending::Unreachable(Unreachable::HomeBusy) => {
            format!("The supernode of {name} is overloaded. Try again in a minute.")
        }
        Ending::Unreachable(Unreachable::Flooded) => format!(
            "Strangers flood the supernode of {name}, and it asked this device for more work than a call is worth. Try again in a while; whom {name} has as a contact gets through."
        ),
        Ending::Unreachable(Unreachable::NoRoute) => format!(
            "No supernode of {name} answers. Check your own connection (ahoy doctor), then ask for a new link."
        ),
        Ending::Unreachable(Unreachable::Untrusted) => format!(
            "A supernode gave a false answer about {name}, so nothing was sent. Ask {name} for a new link in person."
        ),
        Ending::Unreachable(Unreachable::Private) => format!(
            "{name} is in a private network, and this device is not let in there, or no longer. Ask whoever runs that network for an invite (ahoy network join)."
        ),
        Ending::Lost(_) => format!("The connection to {name} was lost. Call again."),
        Ending::Failed(Failure::Authentication) => format!(
            "Whoever answered could not prove to be {name}, so nothing was said. Ask {name} for a new link in person."
        ),
        Ending::Failed(Failure::Media) => {
            "Your sound could not be set up: see the message above, then call again.".into()
        }
        Ending::Failed(Failure::Protocol) => {
            format!("The program of {name} said something that makes no sense. Update both sides.")
        }
        Ending::Failed(Failure::TimeLimit) => {
            format!("The call with {name} did not come about in the time you set.")
        }
        Ending::Merged { .. } => format!("You and {name} called each other at once."),
    }
}

/// That the call is recorded from now on.
#[must_use]
pub fn recording(path: &Path) -> String {
    format!(
        "This call is recorded to {}; the other side is told.",
        path.display()
    )
}

/// Where a recording is, and how long.
#[must_use]
pub fn recorded(path: &Path, stats: &RecordStats) -> String {
    let path = path.display();
    let clock = clock(stats.duration);
    let mut sentence = match stats.files {
        0 | 1 => format!("Recorded {clock} of the call to {path}."),
        files => format!(
            "Recorded {clock} of the call to {path} and {} more.",
            files - 1
        ),
    };
    if stats.pictures_dropped + stats.sound_dropped > 0 {
        sentence.push_str(" Some of it is missing: this machine was too busy at times.");
    }
    sentence
}

/// Minutes and seconds, and hours if there are any.
#[must_use]
pub fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match hours {
        0 => format!("{minutes}:{seconds:02}"),
        hours => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

/// What an error says, as it stands alone.
#[must_use]
pub fn of(error: &str) -> String {
    let mut letters = error.chars();
    let first = letters.next().into_iter().flat_map(char::to_uppercase);
    format!("{}{}.", first.collect::<String>(), letters.as_str())
}
