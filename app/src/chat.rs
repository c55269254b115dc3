//! Messages and missed calls: written here, sealed for each device of the other person, left at its homes.
//!
//! Three parts know nothing of network or clock: [`note`] is what is inside a letter, [`outbox`] decides when what is
//! sent again, [`book`] keeps conversations, capabilities and what is still to be sent on a [`shelf`], which is the
//! profile's database or, in simulations, memory. The engine carries them.
//!
//! The states a sender sees say what is known and no more: *queued* (nowhere but here), *waiting* (so many homes said
//! that they have it), *delivered* (a device of the person said, sealed and signed, that it has it), *failed*. The
//! first device that says so settles the message; the copies for the person's other devices wait at their homes.
//! Strangers are not told that something arrived: that would tell when we are online.

use std::{fmt, str::FromStr};

use ahoy_nat::supernode::protocol::{put_node_address, read_node_address};
use ahoy_transport::{
    identity::{NodeAddress, UserId},
    sealed::LetterId,
    wire::{Reader, WireError, Writer},
};
use serde::{Deserialize, Serialize};

use crate::link::is_deceptive;

pub mod book;
pub mod note;
pub mod outbox;
pub mod shelf;

/// Longest text of a message, in bytes of UTF-8.
pub const MAX_TEXT_BYTES: usize = 4096;

/// Names a message: random, drawn by whoever writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub LetterId);

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&z32::encode(&self.0))
    }
}

impl FromStr for MessageId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let bytes = z32::decode(text.as_bytes()).map_err(drop)?;
        bytes.try_into().map(Self).map_err(drop)
    }
}

/// Why a message is still here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Obstacle {
    /// Nobody knows where the person could be left anything.
    Unknown,
    /// No home of the person answers.
    NoRoute,
    /// The homes answer, and keep no box for the person.
    NoBox,
    /// The boxes are full, or we wrote too much at once.
    Full,
    /// What the homes said about the person was not genuine.
    Untrusted,
}

/// What became of a message that we wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageState {
    /// Only here so far.
    Queued(Option<Obstacle>),
    /// At so many homes.
    Waiting(u8),
    /// A device of the person has it.
    Delivered {
        /// When we heard of it, Unix milliseconds.
        at_millis: u64,
    },
    /// Nobody fetched it in time.
    Expired,
}

impl MessageState {
    /// One word for programs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Queued(_) => "queued",
            Self::Waiting(_) => "waiting",
            Self::Delivered { .. } => "delivered",
            Self::Expired => "expired",
        }
    }

    /// One sentence for people about the message to `name`.
    #[must_use]
    pub fn sentence(self, name: &str) -> String {
        let kept = "it is kept here, and sent when ahoy runs";
        match self {
            Self::Queued(None) => "on its way".into(),
            Self::Queued(Some(Obstacle::Unknown)) => {
                format!("not sent: nothing says where {name} can be found; {kept}")
            }
            Self::Queued(Some(Obstacle::NoRoute)) => {
                format!("not sent: no home of {name} answers; {kept}")
            }
            Self::Queued(Some(Obstacle::NoBox)) => {
                format!("not sent: no home keeps a mailbox for {name}; {kept}")
            }
            Self::Queued(Some(Obstacle::Full)) => {
                format!("not sent: the mailboxes of {name} take no more now; {kept}")
            }
            Self::Queued(Some(Obstacle::Untrusted)) => {
                format!("not sent: what the homes say about {name} is not genuine; {kept}")
            }
            Self::Waiting(1) => format!("waits at 1 home until {name} comes online"),
            Self::Waiting(homes) => format!("waits at {homes} homes until {name} comes online"),
            Self::Delivered { .. } => "delivered".into(),
            Self::Expired => format!("not delivered: {name} did not come online in 14 days"),
        }
    }
}

/// What a line of a conversation is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A text, cleaned by [`clean_text`].
    Text(String),
    /// A call that nobody answered.
    MissedCall,
}

/// Whose line it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// Theirs.
    Received,
    /// Ours.
    Sent(MessageState),
}

/// A line of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Names it.
    pub id: MessageId,
    /// With whom.
    pub user: UserId,
    /// When it was written, or the call begun, Unix milliseconds by the writer's clock, but not after it came.
    pub at_millis: u64,
    /// What it is.
    pub content: Content,
    /// Whose it is.
    pub line: Line,
}

/// Writes homes, at most `max`: `| u8 count | each: varint length, text |`.
pub(crate) fn put_homes(out: &mut Vec<u8>, homes: &[NodeAddress], max: usize) {
    let homes = homes.get(..max).unwrap_or(homes);
    out.put_u8(u8::try_from(homes.len()).unwrap_or(0));
    homes.iter().for_each(|home| put_node_address(out, home));
}

/// Reads what [`put_homes`] wrote.
///
/// # Errors
/// When they are more, or no homes.
pub(crate) fn read_homes(
    reader: &mut Reader<'_>,
    max: usize,
) -> Result<Vec<NodeAddress>, WireError> {
    let count = usize::from(reader.u8()?);
    if count > max {
        return Err(WireError::TooLong);
    }
    (0..count).map(|_nth| read_node_address(reader)).collect()
}

/// A text that somebody else wrote, made fit to be shown: line feeds and tabs stay, other control characters and what
/// changes the direction of the text around it or hides go. At most [`MAX_TEXT_BYTES`]; may come out empty.
#[must_use]
pub fn clean_text(text: &str) -> String {
    let mut out = String::new();
    for c in text.trim().chars() {
        let keeps = c == '\n' || c == '\t' || !(c.is_control() || is_deceptive(c));
        if keeps {
            if out.len() + c.len_utf8() > MAX_TEXT_BYTES {
                break;
            }
            out.push(c);
        }
    }
    // What is cut or gone may have left blanks at the end.
    out.truncate(out.trim_end().len());
    let leading = out.len() - out.trim_start().len();
    out.split_off(leading)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_keep_their_lines_and_lose_what_deceives() {
        assert_eq!(clean_text(" a\u{202e}b\r\n\tc\u{7} \u{200b}"), "ab\n\tc");
        assert_eq!(clean_text("\u{feff} \u{1}"), "");
        let long = clean_text(&"ü".repeat(MAX_TEXT_BYTES));
        assert_eq!(long.len(), MAX_TEXT_BYTES);
        assert_eq!(clean_text(&format!("a{}", "ü".repeat(4096))).len(), 4095);
    }

    #[test]
    fn states_say_what_is_known() {
        let said = |state: MessageState| state.sentence("Bo");
        assert_eq!(
            said(MessageState::Waiting(2)),
            "waits at 2 homes until Bo comes online"
        );
        assert_eq!(
            said(MessageState::Queued(Some(Obstacle::NoRoute))),
            "not sent: no home of Bo answers; it is kept here, and sent when ahoy runs"
        );
    }

    proptest! {
        #[test]
        fn cleaning_settles(text: String) {
            let clean = clean_text(&text);
            prop_assert!(clean.len() <= MAX_TEXT_BYTES);
            prop_assert_eq!(clean_text(&clean), clean);
        }

        #[test]
        fn ids_are_written_and_read(id: [u8; 16]) {
            prop_assert_eq!(MessageId(id).to_string().parse(), Ok(MessageId(id)));
        }
    }
}
