//! People we know, people who want to be known, and who of them may ring.

use std::fmt;

use ahoy_transport::{
    identity::{
        Invite, NodeAddress, UserId,
        log::{MAX_HOMES, MAX_LOG_LEN},
    },
    sealed::{CallId, Standing},
    wire::{Reader, WireError, Writer},
};
use serde::{Deserialize, Serialize};

use crate::{
    call::Direction,
    link::{MAX_NAME_CHARS, PersonLink, display_name},
    report::Outcome,
};

const VERSION: u8 = 1;
/// Contacts' own, since they say how they ring.
const CONTACT_VERSION: u8 = 2;
const MAX_NAME_BYTES: usize = 4 * MAX_NAME_CHARS;
const MAX_HOME_BYTES: usize = ahoy_transport::identity::MAX_NODE_ADDRESS_LEN;
const MAX_TOKEN_BYTES: usize = 256;
/// Longest device log that is kept with a stranger's request, in bytes.
pub const MAX_REQUEST_LOG: usize = 4096;

/// What becomes of a call by somebody who is no contact and shows no invite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strangers {
    /// It rings like anybody's.
    Ring,
    /// It waits among the requests.
    #[default]
    Inbox,
    /// It is dropped.
    Drop,
}

/// What we know of a caller when the call arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallerFacts {
    /// We do not want to hear from this person.
    pub blocked: bool,
    /// A contact of ours.
    pub contact: bool,
    /// Showed an invite of ours that counts: signed by us, not expired, not revoked.
    pub invited: bool,
}

impl CallerFacts {
    /// Whose share of the bounded tables a call takes.
    #[must_use]
    pub fn standing(self) -> Standing {
        if (self.contact || self.invited) && !self.blocked {
            Standing::Known
        } else {
            Standing::Stranger
        }
    }
}

/// What to do with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RingPolicy {
    /// Ring.
    Ring,
    /// Keep it among the requests, silently.
    Inbox,
    /// As if it had never come. The caller is not told.
    Drop,
}

/// Who may ring: contacts, and people with a valid invite. Blocking wins over everything.
#[must_use]
pub fn ring_policy(caller: CallerFacts, strangers: Strangers) -> RingPolicy {
    if caller.blocked {
        RingPolicy::Drop
    } else if caller.contact || caller.invited {
        RingPolicy::Ring
    } else {
        match strangers {
            Strangers::Ring => RingPolicy::Ring,
            Strangers::Inbox => RingPolicy::Inbox,
            Strangers::Drop => RingPolicy::Drop,
        }
    }
}

/// How a person's calls are told of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ring {
    /// They ring, unless nothing may disturb.
    #[default]
    Usual,
    /// They ring even then.
    Always,
    /// They are shown, and no more.
    Never,
}

impl Ring {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Usual, Self::Always, Self::Never];

    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Usual => 0,
            Self::Always => 1,
            Self::Never => 2,
        }
    }

    pub(crate) fn of(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|ring| ring.code() == code)
    }

    /// Whether a call makes a sound.
    #[must_use]
    pub fn is_heard(self, do_not_disturb: bool) -> bool {
        match self {
            Self::Usual => !do_not_disturb,
            Self::Always => true,
            Self::Never => false,
        }
    }
}

/// Somebody we want to hear from.
#[derive(Clone, PartialEq, Eq)]
pub struct Contact {
    /// The person.
    pub user: UserId,
    /// What we call the person, cleaned by [`display_name`].
    pub name: String,
    /// Since when, Unix milliseconds.
    pub added_at_millis: u64,
    /// When safety words were compared, Unix milliseconds. Taken back when the person's device log forks.
    pub verified_at_millis: Option<u64>,
    /// Never show this person our address.
    pub relay_only: bool,
    /// How the person's calls are told of.
    pub ring: Ring,
    /// Where to look for the person first, from the link; at most [`MAX_HOMES`].
    pub homes: Vec<NodeAddress>,
    /// The invite the link held.
    pub invite: Option<Invite>,
}

impl Contact {
    /// The contact that a link makes. Without a name in the link or given, the key's first characters do.
    #[must_use]
    pub fn from_link(link: &PersonLink, name: Option<&str>, now_millis: u64) -> Self {
        let given = name.map(display_name).filter(|name| !name.is_empty());
        let name = given
            .or_else(|| link.name.clone())
            .unwrap_or_else(|| link.user.to_string().chars().take(8).collect());
        Self {
            user: link.user,
            name,
            added_at_millis: now_millis,
            verified_at_millis: None,
            relay_only: false,
            ring: Ring::Usual,
            homes: link.homes.clone(),
            invite: link.token.clone(),
        }
    }

    /// As it is stored, under the user id:
    ///
    /// ```text
    /// | ver=2 | added u64 | verified u64, 0 for not | u8 relay only | u8 ring | name | u8 count, homes as text | invite, may be empty |
    ///                                                                 each text: u16 length, bytes
    /// ```
    ///
    /// Version 1 says nothing of how they ring.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![CONTACT_VERSION];
        bytes.put_u64(self.added_at_millis);
        bytes.put_u64(self.verified_at_millis.unwrap_or(0));
        bytes.put_u8(u8::from(self.relay_only));
        bytes.put_u8(self.ring.code());
        put_text(&mut bytes, self.name.as_bytes());
        let homes = self.homes.get(..MAX_HOMES).unwrap_or(&self.homes);
        bytes.put_u8(u8::try_from(homes.len()).expect("at most MAX_HOMES"));
        for home in homes {
            put_text(&mut bytes, home.to_string().as_bytes());
        }
        let invite = self.invite.as_ref().map(Invite::to_secret_bytes);
        put_text(&mut bytes, invite.as_ref().map_or(&[], |invite| invite));
        bytes
    }

    pub(crate) fn from_bytes(user: UserId, bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let version = reader.u8()?;
        if !(VERSION..=CONTACT_VERSION).contains(&version) {
            return Err(WireError::Version(version));
        }
        let added_at_millis = reader.u64()?;
        let verified_at_millis = Some(reader.u64()?).filter(|at| *at != 0);
        let relay_only = flag(&mut reader)?;
        let ring = if version == VERSION {
            Ring::Usual
        } else {
            Ring::of(reader.u8()?).ok_or(WireError::Undefined)?
        };
        let name = text(&mut reader, MAX_NAME_BYTES)?.to_owned();
        let count = usize::from(reader.u8()?);
        if count > MAX_HOMES {
            return Err(WireError::TooLong);
        }
        let mut homes = Vec::with_capacity(count);
        for _ in 0..count {
            let home = text(&mut reader, MAX_HOME_BYTES)?;
            homes.push(
                home.parse()
                    .map_err(|_not_an_address| WireError::Undefined)?,
            );
        }
        let invite = match part(&mut reader, MAX_TOKEN_BYTES)? {
            [] => None,
            bytes => Some(
                Invite::from_secret_bytes(bytes).map_err(|_not_an_invite| WireError::Undefined)?,
            ),
        };
        reader.finish()?;
        Ok(Self {
            user,
            name,
            added_at_millis,
            verified_at_millis,
            relay_only,
            ring,
            homes,
            invite,
        })
    }
}

impl fmt::Debug for Contact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contact")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// Why a name does not tell whom is meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nobody has it.
    #[error("no contact is called {0:?}; `ahoy contact list` shows them all")]
    Unknown(String),
    /// Several have it.
    #[error("{1} contacts are called {0:?}; use the link, or give one of them another name")]
    Ambiguous(String, usize),
}

/// Finds the contact that somebody means by a name: exactly, or else without regard to case.
///
/// # Errors
/// When no contact or several match.
pub fn find_by_name<'a>(contacts: &'a [Contact], name: &str) -> Result<&'a Contact, NameError> {
    let exact: Vec<&Contact> = contacts
        .iter()
        .filter(|contact| contact.name == name)
        .collect();
    let lower = name.to_lowercase();
    let matching = if exact.is_empty() {
        contacts
            .iter()
            .filter(|contact| contact.name.to_lowercase() == lower)
            .collect()
    } else {
        exact
    };
    match matching.as_slice() {
        [] => Err(NameError::Unknown(name.to_owned())),
        [contact] => Ok(contact),
        several => Err(NameError::Ambiguous(name.to_owned(), several.len())),
    }
}

/// Somebody who tried to reach us and waits to be let in.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// The person.
    pub user: UserId,
    /// What the person calls itself, cleaned; may be empty.
    pub name: String,
    /// First attempt, Unix milliseconds.
    pub first_at_millis: u64,
    /// Last attempt, Unix milliseconds.
    pub last_at_millis: u64,
    /// Attempts so far.
    pub attempts: u32,
    /// The person's device log as it came, to be pinned when the person becomes a contact; empty when it was
    /// longer than [`MAX_REQUEST_LOG`].
    pub log: Vec<u8>,
}

impl Request {
    /// As it is stored, under the user id:
    /// `| ver=1 | first u64 | last u64 | attempts u32 | u16 length, name | u16 length, log |`
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        bytes.put_u64(self.first_at_millis);
        bytes.put_u64(self.last_at_millis);
        bytes.put_u32(self.attempts);
        put_text(&mut bytes, self.name.as_bytes());
        let log = if self.log.len() > MAX_REQUEST_LOG {
            &[][..]
        } else {
            &self.log
        };
        put_text(&mut bytes, log);
        bytes
    }

    pub(crate) fn from_bytes(user: UserId, bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = versioned(bytes)?;
        let request = Self {
            user,
            first_at_millis: reader.u64()?,
            last_at_millis: reader.u64()?,
            attempts: reader.u32()?,
            name: text(&mut reader, MAX_NAME_BYTES)?.to_owned(),
            log: part(&mut reader, MAX_REQUEST_LOG)?.to_vec(),
        };
        reader.finish()?;
        Ok(request)
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("user", &self.user)
            .field("attempts", &self.attempts)
            .finish_non_exhaustive()
    }
}

/// A code of its own for each outcome: the history outlives what the words in reports may become.
const OUTCOMES: [Outcome; 8] = [
    Outcome::Completed,
    Outcome::Declined,
    Outcome::Busy,
    Outcome::NoAnswer,
    Outcome::Cancelled,
    Outcome::Unreachable,
    Outcome::Lost,
    Outcome::Failed,
];

fn outcome_code(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Completed => 0,
        Outcome::Declined => 1,
        Outcome::Busy => 2,
        Outcome::NoAnswer => 3,
        Outcome::Cancelled => 4,
        Outcome::Unreachable => 5,
        Outcome::Lost => 6,
        Outcome::Failed => 7,
    }
}

/// The best that a person can say of a call.
pub const MAX_RATING: u8 = 5;

/// One call in the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallRecord {
    /// Names the call.
    pub call_id: CallId,
    /// The other side.
    pub peer: UserId,
    /// Who called.
    pub direction: Direction,
    /// When it was placed or arrived, Unix milliseconds.
    pub started_at_millis: u64,
    /// From accept to the end, milliseconds; 0 when it was never accepted.
    pub duration_millis: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// Another device of this person answered it, or turned it away.
    pub elsewhere: bool,
    /// How good the person found it: 1 to [`MAX_RATING`].
    pub rating: Option<u8>,
}

impl CallRecord {
    /// Sorts by time: `| started u64 | call id (16) |`
    pub(crate) fn key(&self) -> [u8; 24] {
        let mut key = [0; 24];
        let (time, id) = key.split_at_mut(8);
        time.copy_from_slice(&self.started_at_millis.to_be_bytes());
        id.copy_from_slice(&self.call_id);
        key
    }

    /// `| ver=1 | peer (32) | u8 0 outgoing, 1 incoming | duration u64 | u8 outcome | u8 1: on another device, 2 to 10: twice
    /// the rating |`, the last left out where neither is so.
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        bytes.put_bytes(self.peer.as_bytes());
        bytes.put_u8(u8::from(self.direction == Direction::Incoming));
        bytes.put_u64(self.duration_millis);
        bytes.put_u8(outcome_code(self.outcome));
        let more = u8::from(self.elsewhere) | self.rating.unwrap_or(0) << 1;
        if more != 0 {
            bytes.put_u8(more);
        }
        bytes
    }

    pub(crate) fn from_bytes(key: &[u8], bytes: &[u8]) -> Result<Self, WireError> {
        let mut key = Reader::new(key);
        let (started_at_millis, call_id) = (key.u64()?, key.array()?);
        key.finish()?;
        let mut reader = versioned(bytes)?;
        let peer = UserId(reader.array()?);
        let direction = if flag(&mut reader)? {
            Direction::Incoming
        } else {
            Direction::Outgoing
        };
        let duration_millis = reader.u64()?;
        let code = reader.u8()?;
        let outcome = OUTCOMES
            .into_iter()
            .find(|outcome| outcome_code(*outcome) == code)
            .ok_or(WireError::Undefined)?;
        let more = match reader.remaining() {
            0 => 0,
            _some => Some(reader.u8()?)
                .filter(|more| (1..=MAX_RATING << 1 | 1).contains(more))
                .ok_or(WireError::Undefined)?,
        };
        reader.finish()?;
        Ok(Self {
            call_id,
            peer,
            direction,
            started_at_millis,
            duration_millis,
            outcome,
            elsewhere: more & 1 != 0,
            rating: Some(more >> 1).filter(|rating| *rating > 0),
        })
    }
}

fn versioned(bytes: &[u8]) -> Result<Reader<'_>, WireError> {
    let mut reader = Reader::new(bytes);
    match reader.u8()? {
        VERSION => Ok(reader),
        other => Err(WireError::Version(other)),
    }
}

fn flag(reader: &mut Reader<'_>) -> Result<bool, WireError> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _undefined => Err(WireError::Undefined),
    }
}

fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    const { assert!(MAX_REQUEST_LOG <= u16::MAX as usize && MAX_REQUEST_LOG <= MAX_LOG_LEN) }
    out.put_u16(
        u16::try_from(text.len()).expect("names, homes, invites and request logs are short"),
    );
    out.put_bytes(text);
}

fn part<'a>(reader: &mut Reader<'a>, max: usize) -> Result<&'a [u8], WireError> {
    let len = usize::from(reader.u16()?);
    if len > max {
        Err(WireError::TooLong)
    } else {
        reader.bytes(len)
    }
}

fn text<'a>(reader: &mut Reader<'a>, max: usize) -> Result<&'a str, WireError> {
    std::str::from_utf8(part(reader, max)?).map_err(|_not_utf8| WireError::Undefined)
}

#[cfg(test)]
pub(crate) mod tests {
    use ahoy_transport::identity::{NodeKeys, RootKey, log::LogSigner};
    use proptest::prelude::*;
    use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};

    use super::*;

    pub(crate) fn contact(seed: u8, name: &str) -> Contact {
        let root = RootKey::from_seed(&[seed; 32]);
        let invite = Invite::issue(
            root.user(),
            LogSigner::Root(&root),
            9,
            &mut ChaCha20Rng::from_seed([seed; 32]),
        );
        let node = NodeKeys::from_seed(&[2; 32]).id();
        Contact {
            user: root.user(),
            name: name.into(),
            added_at_millis: 5,
            verified_at_millis: seed.is_multiple_of(2).then_some(6),
            relay_only: seed.is_multiple_of(3),
            ring: Ring::ALL[seed as usize % 3],
            homes: vec![NodeAddress::new(node, "192.0.2.1:443".parse().unwrap())],
            invite: (seed % 2 == 1).then_some(invite),
        }
    }

    #[test]
    fn who_may_ring() {
        let facts = |blocked, contact, invited| CallerFacts {
            blocked,
            contact,
            invited,
        };
        let policy = |caller| ring_policy(caller, Strangers::default());
        assert_eq!(policy(facts(false, true, false)), RingPolicy::Ring);
        assert_eq!(
            policy(facts(false, false, true)),
            RingPolicy::Ring,
            "an invite counts as a contact"
        );
        assert_eq!(policy(facts(false, false, false)), RingPolicy::Inbox);
        for (contact, invited) in [(false, false), (true, false), (false, true), (true, true)] {
            let caller = facts(true, contact, invited);
            assert_eq!(policy(caller), RingPolicy::Drop, "blocking wins");
            assert_eq!(caller.standing(), Standing::Stranger);
        }
        assert_eq!(
            ring_policy(facts(false, false, false), Strangers::Drop),
            RingPolicy::Drop
        );
        assert_eq!(
            ring_policy(facts(false, false, false), Strangers::Ring),
            RingPolicy::Ring
        );
        assert_eq!(facts(false, false, false).standing(), Standing::Stranger);
        assert_eq!(facts(false, false, true).standing(), Standing::Known);
    }

    #[test]
    fn a_name_finds_one_contact_or_says_why_not() {
        let contacts = [
            contact(1, "Bo"),
            contact(2, "bo"),
            contact(3, "Ann"),
            contact(4, "Al"),
            contact(5, "Al"),
        ];
        assert_eq!(
            find_by_name(&contacts, "bo").unwrap().user,
            contacts[1].user,
            "exact first"
        );
        assert_eq!(
            find_by_name(&contacts, "ANN").unwrap().user,
            contacts[2].user
        );
        assert_eq!(
            find_by_name(&contacts, "BO"),
            Err(NameError::Ambiguous("BO".into(), 2))
        );
        assert_eq!(
            find_by_name(&contacts, "Al"),
            Err(NameError::Ambiguous("Al".into(), 2))
        );
        assert_eq!(
            find_by_name(&contacts, "Zed"),
            Err(NameError::Unknown("Zed".into()))
        );
    }

    #[test]
    fn a_link_makes_a_contact() {
        let mut link = PersonLink::new(contact(1, "").user);
        let unnamed = Contact::from_link(&link, None, 7);
        assert_eq!(unnamed.name.len(), 8, "the key's beginning");
        link.name = Some("Bo".into());
        assert_eq!(Contact::from_link(&link, None, 7).name, "Bo");
        assert_eq!(
            Contact::from_link(&link, Some(" Bobby\u{202e} "), 7).name,
            "Bobby"
        );
        assert_eq!(Contact::from_link(&link, Some("\u{202e}"), 7).name, "Bo");
    }

    #[test]
    fn the_bytes_stay_what_they_are() {
        let bytes = contact(2, "Bo").to_bytes();
        let home = contact(2, "").homes[0].to_string();
        let mut expected = vec![2];
        expected.extend([
            0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 6, 0, 2, 0, 2, b'B', b'o', 1, 0,
        ]);
        expected.push(u8::try_from(home.len()).unwrap());
        expected.extend(home.as_bytes());
        expected.extend([0, 0]);
        assert_eq!(bytes, expected);
        let request = Request {
            user: UserId([1; 32]),
            name: "x".into(),
            first_at_millis: 1,
            last_at_millis: 2,
            attempts: 3,
            log: vec![9],
        };
        assert_eq!(
            request.to_bytes(),
            [
                1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 3, 0, 1, b'x', 0, 1, 9
            ]
        );
        let call = CallRecord {
            call_id: [4; 16],
            peer: UserId([1; 32]),
            direction: Direction::Incoming,
            started_at_millis: 1,
            duration_millis: 2,
            outcome: Outcome::NoAnswer,
            elsewhere: false,
            rating: None,
        };
        assert_eq!(
            call.to_bytes(),
            [&[1][..], &[1; 32], &[1, 0, 0, 0, 0, 0, 0, 0, 2, 3]].concat()
        );
    }

    #[test]
    fn contacts_from_before_they_said_how_they_ring_are_read() {
        let now = contact(5, "Ada").to_bytes();
        let mut before = now.clone();
        before[0] = 1;
        assert_eq!(before.remove(18), Ring::Never.code());
        let read = Contact::from_bytes(contact(5, "Ada").user, &before);
        let expected = Contact {
            ring: Ring::Usual,
            ..contact(5, "Ada")
        };
        assert_eq!(read, Ok(expected));
        assert_eq!(
            Contact::from_bytes(contact(5, "Ada").user, &[&[3][..], &now[1..]].concat()),
            Err(WireError::Version(3))
        );
    }

    proptest! {
        #[test]
        fn records_round_trip(seed: u8, name in "\\PC{1,64}", first: u64, attempts: u32, log: Vec<u8>, duration: u64, outcome in 0usize..8, call_id: [u8; 16]) {
            let contact = contact(seed, &name);
            prop_assert_eq!(Contact::from_bytes(contact.user, &contact.to_bytes()), Ok(contact.clone()));
            let request = Request { user: contact.user, name, first_at_millis: first, last_at_millis: first, attempts, log };
            prop_assert_eq!(Request::from_bytes(contact.user, &request.to_bytes()), Ok(request));
            let call = CallRecord {
                call_id,
                peer: contact.user,
                direction: if attempts % 2 == 0 { Direction::Outgoing } else { Direction::Incoming },
                started_at_millis: first,
                duration_millis: duration,
                outcome: OUTCOMES[outcome],
                elsewhere: attempts % 3 == 0,
                rating: Some(first as u8 % 6).filter(|rating| *rating > 0),
            };
            prop_assert_eq!(CallRecord::from_bytes(&call.key(), &call.to_bytes()), Ok(call));
        }

        #[test]
        fn garbage_is_an_error_or_the_same_again(mut bytes: Vec<u8>, key: Vec<u8>) {
            let user = UserId([1; 32]);
            bytes.insert(0, 2);
            if let Ok(contact) = Contact::from_bytes(user, &bytes) {
                prop_assert_eq!(contact.to_bytes(), bytes.clone());
            }
            bytes[0] = 1;
            if let Ok(contact) = Contact::from_bytes(user, &bytes) {
                prop_assert_eq!(contact.ring, Ring::Usual);
            }
            if let Ok(request) = Request::from_bytes(user, &bytes) {
                prop_assert_eq!(request.to_bytes(), bytes.clone());
            }
            if let Ok(call) = CallRecord::from_bytes(&key, &bytes) {
                prop_assert_eq!(call.to_bytes(), bytes);
            }
        }
    }
}
