//! What the person at the window changes about people, and how conversations are shown to them.

use ahoy_transport::identity::UserId;

use crate::{
    call::Direction,
    chat::{Line, Message, MessageState},
    contacts::{CallRecord, Ring},
    report::Outcome,
};

/// Messages of a conversation that are shown: as far as anybody scrolls.
pub const MAX_SHOWN: usize = 300;

/// Calls that are shown: as far as anybody scrolls.
pub const MAX_RECENT: usize = 100;

/// A change of the address book.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeopleChange {
    /// Somebody becomes a contact, or a link tells more about one.
    Add {
        /// Their `ahoy:` link.
        link: String,
        /// What they shall be called here; empty: as the link says.
        name: String,
    },
    /// A contact is called otherwise from now on.
    Rename {
        /// Who.
        user: UserId,
        /// How.
        name: String,
    },
    /// The safety words were compared, or that is taken back.
    Verify {
        /// Who.
        user: UserId,
        /// They were the same.
        verified: bool,
    },
    /// Whether this person may ever learn our address.
    RelayOnly {
        /// Who.
        user: UserId,
        /// They may not.
        only: bool,
    },
    /// How this person's calls are told of.
    Ring {
        /// Who.
        user: UserId,
        /// How.
        ring: Ring,
    },
    /// Never hear from this person, who is not told.
    Block(UserId),
    /// Hear from this person again, as from anybody.
    Unblock(UserId),
    /// A contact is forgotten, and what was written stays.
    Remove(UserId),
    /// A stranger's request is put away; should they ask again, it comes back.
    Dismiss(UserId),
}

impl PeopleChange {
    /// Who is meant, where that is known without reading a link.
    #[must_use]
    pub fn user(&self) -> Option<UserId> {
        match self {
            Self::Add { .. } => None,
            Self::Rename { user, .. }
            | Self::Verify { user, .. }
            | Self::RelayOnly { user, .. }
            | Self::Ring { user, .. } => Some(*user),
            Self::Block(user) | Self::Unblock(user) | Self::Remove(user) | Self::Dismiss(user) => {
                Some(*user)
            }
        }
    }
}

/// A line of the list of conversations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConversationView {
    /// With whom.
    pub user: UserId,
    /// Its newest line.
    pub last: Message,
    /// Lines that nobody has read here.
    pub unread: usize,
}

/// A line of the list of calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecentView {
    /// With whom.
    pub user: UserId,
    /// What they are called here.
    pub name: String,
    /// We placed it.
    pub outgoing: bool,
    /// When it was placed or came in, Unix milliseconds.
    pub at_millis: u64,
    /// From accept to the end, milliseconds; 0 when it was never accepted.
    pub talked_millis: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// Another device of ours answered it, or turned it away.
    pub elsewhere: bool,
    /// How good the person found it: 1 to 5.
    pub rating: Option<u8>,
}

impl RecentView {
    /// The line of `call`, whose other side is called `name`.
    #[must_use]
    pub fn new(call: &CallRecord, name: String) -> Self {
        Self {
            user: call.peer,
            name,
            outgoing: call.direction == Direction::Outgoing,
            at_millis: call.started_at_millis,
            talked_millis: call.duration_millis,
            outcome: call.outcome,
            elsewhere: call.elsewhere,
            rating: call.rating,
        }
    }

    /// They called, and nobody here talked with them or turned them away.
    #[must_use]
    pub fn is_missed(&self) -> bool {
        !self.outgoing
            && self.talked_millis == 0
            && match self.outcome {
                Outcome::NoAnswer | Outcome::Cancelled | Outcome::Busy | Outcome::Lost => true,
                Outcome::Completed | Outcome::Declined | Outcome::Unreachable | Outcome::Failed => {
                    false
                }
            }
    }
}

/// The conversation that is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatView {
    /// With whom.
    pub user: UserId,
    /// What they are called here.
    pub name: String,
    /// The newest [`MAX_SHOWN`] lines, oldest first.
    pub messages: Vec<Message>,
}

impl ChatView {
    /// The first line of ours that has a state of its own to be told: all before it share the one of the line after
    /// them, or were delivered.
    #[must_use]
    pub fn tells_state(&self, index: usize) -> Option<MessageState> {
        let state = |message: &Message| match message.line {
            Line::Sent(state) => Some(state),
            Line::Received => None,
        };
        let own = state(self.messages.get(index)?)?;
        let word = |state: MessageState| match state {
            // Only when differs.
            MessageState::Delivered { .. } => MessageState::Delivered { at_millis: 0 },
            MessageState::Queued(_) | MessageState::Waiting(_) | MessageState::Expired => state,
        };
        let later = self.messages.iter().skip(index + 1).find_map(state);
        (later.map(word) != Some(word(own))).then_some(own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{Content, MessageId};

    fn line(n: u8, line: Line) -> Message {
        Message {
            id: MessageId([n; 16]),
            user: UserId([1; 32]),
            at_millis: n.into(),
            content: Content::Text(n.to_string()),
            line,
        }
    }

    #[test]
    fn the_last_of_equal_states_is_told() {
        let delivered = |at_millis| Line::Sent(MessageState::Delivered { at_millis });
        let waiting = Line::Sent(MessageState::Waiting(2));
        let lines = [
            delivered(1),
            Line::Received,
            delivered(2),
            waiting,
            waiting,
            Line::Received,
        ];
        let view = ChatView {
            user: UserId([1; 32]),
            name: "Bo".into(),
            messages: (0..).zip(lines).map(|(n, of)| line(n, of)).collect(),
        };
        let told: Vec<_> = (0..7).map(|n| view.tells_state(n)).collect();
        assert_eq!(told[0], None);
        assert_eq!(told[1], None);
        assert!(matches!(
            told[2],
            Some(MessageState::Delivered { at_millis: 2 })
        ));
        assert_eq!(told[3], None);
        assert_eq!(told[4], Some(MessageState::Waiting(2)));
        assert_eq!((told[5], told[6]), (None, None));
    }
}
