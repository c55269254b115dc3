//! What two devices say to each other about a call, and how it is written.
//!
//! A [`SignalMessage`] travels inside the session, or sealed through the homes while there is no session
//! yet ([`FollowUp`]). An [`Offer`] is the application's part of the sealed first message of a call.
//! Nothing here is encrypted: the carrier is.
//!
//! ```text
//! signal message
//! +---------+------+-------------+-----------------+----------------------+
//! | version | type | call id     | participant     | fields of the type   |
//! | u8 = 1  | u8   | 16 bytes    | 32 bytes        |                      |
//! +---------+------+-------------+-----------------+----------------------+
//! type 1 ringing      -
//!      2 accept       capabilities
//!      3 decline      u8 reason
//!      4 busy         -
//!      5 cancel       u8 reason
//!      6 hang up      u8 reason
//!      7 media state  u32 revision, u8 flags (1 muted, 2 held, 4 blank, 8 recording)
//!      8 candidates   varint length, bytes
//!      9 report       varint length, JSON
//!     10 mail pass    capability 32, u8 count, homes (varint length, text)
//!     11 commitment   hash 32
//!     12 number       32 bytes; 11 and 12 only to whom says that it compares (kind 3)
//!     20 file taken   tag 16: the sender has all of the file that it asked for by that tag
//!     30 handed       u8 count, supernodes 32 each
//!
//! capabilities: u8 count, then per kind: u8 kind, varint length, fields
//! kind 1 Opus         u32 bits per second, u8 frame durations, u16 features, u8 channels
//!      2 pictures     u8 codecs (1 AV1, 2 H.264), u16 width, u16 height, u8 per second, u16 features: what is shown
//!      3 compares          no fields: makes safety words by commit and reveal
//!
//! offer        u8 version = 1, capabilities, var name (UTF-8), var invite
//! files offer  u8 version = 2, u8 count, tags of 16: instead of an offer, for a session that carries files alone
//! follow-up    u8 version = 1, var candidates, var signal message (empty: none)
//! ```
//!
//! Room to grow without a new version: messages of a type that is not known are passed over, kinds of media that are
//! not known are skipped, so are bytes at the end of a kind; a reason that is not known counts as the plain one, 0.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use ahoy_nat::supernode::mailbox::MailCapability;
use ahoy_transport::{
    identity::{DeviceId, NodeAddress, NodeId, log::MAX_HOMES},
    wire::{Reader, WireError, Writer},
};

use crate::{
    call::CallId,
    chat::{put_homes, read_homes},
    files::wire::Tag,
    identity::compare::CompareStep,
    report::RemoteReport,
};

mod media;

pub use media::{
    AudioCapabilities, AudioChoice, AudioFeatures, FrameDurations, MediaCapabilities, MediaChoice,
    VideoCapabilities, VideoCodecs, VideoFeatures,
};

/// The version of all formats here.
pub const VERSION: u8 = 1;
/// What stands where other offers have their version.
const FILES_VERSION: u8 = 2;
const PRESENCE_VERSION: u8 = 3;
/// Files that are asked for at once.
pub const MAX_TAGS: usize = 16;
/// Longest name a caller may show, in bytes of UTF-8. A full name in any script fits.
pub const MAX_NAME_BYTES: usize = 256;
/// Longest invite token, in bytes: a signature, a key, an expiry and room.
pub const MAX_INVITE_BYTES: usize = 512;
/// Longest list of candidates, in bytes: some thirty candidates. Opaque here.
pub const MAX_CANDIDATES_BYTES: usize = 4096;
/// Longest report of the other side, in bytes of JSON.
pub const MAX_REPORT_BYTES: usize = 8192;

/// Most supernodes in [`Signal::Handed`]: those by which one device is called.
pub const MAX_HANDED: usize = 4;

/// A call-control message, with what it is about and who says it.
#[derive(Debug, Clone, PartialEq)]
pub struct SignalMessage {
    /// Which call.
    pub call: CallId,
    /// The device that says it. Must be the one the carrier authenticated.
    pub participant: DeviceId,
    /// What it says.
    pub signal: Signal,
}

/// A call-control message.
#[derive(Debug, Clone, PartialEq)]
pub enum Signal {
    /// Callee: this device rings, or seems to.
    Ringing,
    /// Callee: the person accepted; this is what the device can send and play.
    Accept(MediaCapabilities),
    /// Callee: no.
    Decline(DeclineReason),
    /// Callee: in another call.
    Busy,
    /// Caller: forget the call.
    Cancel(CancelReason),
    /// Either: the accepted call is over.
    HangUp(HangUpReason),
    /// Either: what the sender does with its media now.
    MediaState {
        /// Grows with every change; older ones are ignored.
        revision: u32,
        /// The sender's microphone is muted.
        muted: bool,
        /// The sender put the receiver on hold.
        held: bool,
        /// The sender shows nothing more: its last picture is to be taken away. Whoever never showed anything need not
        /// say so.
        blank: bool,
        /// The sender records the call. Whoever does not know this flag does not tell its person.
        recording: bool,
    },
    /// Either: more ways to reach the sender. At most [`MAX_CANDIDATES_BYTES`], opaque here.
    Candidates(Vec<u8>),
    /// Either, at the end: what the sender measured.
    Report(Box<RemoteReport>),
    /// Either, to a contact: how to reach the sender's boxes. See [`crate::chat`].
    MailPass {
        /// Marks letters to the sender's device as a contact's.
        capability: MailCapability,
        /// Where it has boxes; at most [`MAX_HOMES`].
        homes: Vec<NodeAddress>,
    },
    /// Either: a step of the exchange behind the safety words.
    Compare(CompareStep),
    /// Either: the sender has all of a file of the receiver's.
    FileTaken(Tag),
    /// Caller: these supernodes said that they handed the offer on, at most [`MAX_HANDED`].
    Handed(Vec<NodeId>),
}

/// Why a call is declined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeclineReason {
    /// The person said no.
    Person,
    /// The two devices have no codec in common, or this one has no working audio.
    Incompatible,
}

/// Why a call that was not accepted is taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelReason {
    /// The person gave up.
    Person,
    /// It rang long enough.
    NoAnswer,
    /// Another device of the person called took it.
    AnsweredElsewhere,
    /// Another device of the person called declined it.
    DeclinedElsewhere,
    /// A crossing call goes on instead.
    Merged,
    /// The call is over; the receiver seems not to know.
    Over,
}

/// Why an accepted call ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HangUpReason {
    /// The person hung up, or the time asked for is over.
    Person,
    /// The sender has no path left.
    NoPath,
    /// The sender's audio or video failed.
    Media,
    /// The sender saw a violation of the protocol.
    Protocol,
    /// No media came in time.
    TimeLimit,
}

/// The application's part of the sealed first message of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// What the caller's device can send and play.
    pub media: MediaCapabilities,
    /// What the caller is called by themselves; at most [`MAX_NAME_BYTES`]. Not to be shown unsanitised.
    pub display_name: String,
    /// Proof of an invitation, for those who are no contact; at most [`MAX_INVITE_BYTES`].
    pub invite: Vec<u8>,
}

/// Asks for a session that carries files alone: nothing rings. An ahoy that does not know it drops it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesOffer {
    /// What the caller wants; whoever knows none of it does not answer. At most [`MAX_TAGS`].
    pub tags: Vec<Tag>,
}

/// Asks a contact's device whether it is there, and says so: nothing rings. An ahoy that does not know it drops it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PresenceOffer;

/// What follows an offer by the homes, in both directions, until the session is up.
#[derive(Debug, Clone, PartialEq)]
pub struct FollowUp {
    /// More ways to reach the sender; opaque here.
    pub candidates: Vec<u8>,
    /// A call-control message.
    pub message: Option<SignalMessage>,
}

impl SignalMessage {
    /// Longest message, in bytes.
    pub const MAX_BYTES: usize = MAX_REPORT_BYTES + 64;

    /// Writes it.
    ///
    /// # Panics
    /// When candidates are longer than [`MAX_CANDIDATES_BYTES`]: our own bug.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        out.put_u8(VERSION);
        out.put_u8(self.signal.wire_type());
        out.put_bytes(&self.call.0);
        out.put_bytes(self.participant.as_bytes());
        match &self.signal {
            Signal::Ringing | Signal::Busy => {}
            Signal::Accept(media) => media.encode(&mut out),
            Signal::Decline(reason) => out.put_u8(match reason {
                DeclineReason::Person => 0,
                DeclineReason::Incompatible => 1,
            }),
            Signal::Cancel(reason) => out.put_u8(match reason {
                CancelReason::Person => 0,
                CancelReason::NoAnswer => 1,
                CancelReason::AnsweredElsewhere => 2,
                CancelReason::DeclinedElsewhere => 3,
                CancelReason::Merged => 4,
                CancelReason::Over => 5,
            }),
            Signal::HangUp(reason) => out.put_u8(match reason {
                HangUpReason::Person => 0,
                HangUpReason::NoPath => 1,
                HangUpReason::Media => 2,
                HangUpReason::Protocol => 3,
                HangUpReason::TimeLimit => 4,
            }),
            Signal::MediaState {
                revision,
                muted,
                held,
                blank,
                recording,
            } => {
                out.put_u32(*revision);
                let flags = [*muted, *held, *blank, *recording];
                let flags = flags.iter().zip(0u8..);
                out.put_u8(flags.fold(0, |all, (flag, bit)| all | u8::from(*flag) << bit));
            }
            Signal::Candidates(bytes) => {
                assert!(bytes.len() <= MAX_CANDIDATES_BYTES, "too many candidates");
                out.put_var_bytes(bytes);
            }
            Signal::Report(report) => out.put_var_bytes(&report.encode(MAX_REPORT_BYTES)),
            Signal::MailPass { capability, homes } => {
                out.put_bytes(capability.as_bytes());
                put_homes(&mut out, homes, MAX_HOMES);
            }
            Signal::Compare(CompareStep::Commitment(bytes) | CompareStep::Number(bytes)) => {
                out.put_bytes(bytes);
            }
            Signal::FileTaken(tag) => out.put_bytes(&tag.0),
            Signal::Handed(nodes) => {
                let nodes = nodes.get(..MAX_HANDED).unwrap_or(nodes);
                out.put_u8(u8::try_from(nodes.len()).unwrap_or(0));
                nodes.iter().for_each(|node| out.put_bytes(node.as_bytes()));
            }
        }
        out
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// [`WireError`] for anything else; [`WireError::Undefined`] for a type this version does not know.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        Self::read(bytes)?.ok_or(WireError::Undefined)
    }

    /// Reads what [`Self::encode`] wrote, here or in a later version: nothing for a type that this one does not know.
    ///
    /// # Errors
    /// [`WireError`] for anything else.
    pub fn read(bytes: &[u8]) -> Result<Option<Self>, WireError> {
        if bytes.len() > Self::MAX_BYTES {
            return Err(WireError::TooLong);
        }
        let mut reader = Reader::new(bytes);
        read_version(&mut reader)?;
        let wire_type = reader.u8()?;
        let call = CallId(reader.array()?);
        let participant = DeviceId(reader.array()?);
        let signal = match wire_type {
            1 => Signal::Ringing,
            2 => Signal::Accept(MediaCapabilities::decode(&mut reader)?),
            3 => Signal::Decline(match reader.u8()? {
                1 => DeclineReason::Incompatible,
                _ => DeclineReason::Person,
            }),
            4 => Signal::Busy,
            5 => Signal::Cancel(match reader.u8()? {
                1 => CancelReason::NoAnswer,
                2 => CancelReason::AnsweredElsewhere,
                3 => CancelReason::DeclinedElsewhere,
                4 => CancelReason::Merged,
                5 => CancelReason::Over,
                _ => CancelReason::Person,
            }),
            6 => Signal::HangUp(match reader.u8()? {
                1 => HangUpReason::NoPath,
                2 => HangUpReason::Media,
                3 => HangUpReason::Protocol,
                4 => HangUpReason::TimeLimit,
                _ => HangUpReason::Person,
            }),
            7 => {
                let revision = reader.u32()?;
                let flags = reader.u8()?;
                Signal::MediaState {
                    revision,
                    muted: flags & 1 != 0,
                    held: flags & 2 != 0,
                    blank: flags & 4 != 0,
                    recording: flags & 8 != 0,
                }
            }
            8 => Signal::Candidates(reader.var_bytes(MAX_CANDIDATES_BYTES)?.to_vec()),
            9 => {
                let json = reader.var_bytes(MAX_REPORT_BYTES)?;
                Signal::Report(Box::new(
                    RemoteReport::decode(json).ok_or(WireError::Undefined)?,
                ))
            }
            10 => Signal::MailPass {
                capability: MailCapability::from_bytes(reader.array()?),
                homes: read_homes(&mut reader, MAX_HOMES)?,
            },
            11 => Signal::Compare(CompareStep::Commitment(reader.array()?)),
            12 => Signal::Compare(CompareStep::Number(reader.array()?)),
            20 => Signal::FileTaken(Tag(reader.array()?)),
            30 => {
                let count = usize::from(reader.u8()?);
                if count > MAX_HANDED {
                    return Err(WireError::TooLong);
                }
                let nodes = (0..count).map(|_| Ok(NodeId(reader.array()?)));
                Signal::Handed(nodes.collect::<Result<_, WireError>>()?)
            }
            _ => return Ok(None),
        };
        reader.finish()?;
        Ok(Some(Self {
            call,
            participant,
            signal,
        }))
    }
}

impl Signal {
    fn wire_type(&self) -> u8 {
        match self {
            Self::Ringing => 1,
            Self::Accept(_) => 2,
            Self::Decline(_) => 3,
            Self::Busy => 4,
            Self::Cancel(_) => 5,
            Self::HangUp(_) => 6,
            Self::MediaState { .. } => 7,
            Self::Candidates(_) => 8,
            Self::Report(_) => 9,
            Self::MailPass { .. } => 10,
            Self::Compare(CompareStep::Commitment(_)) => 11,
            Self::Compare(CompareStep::Number(_)) => 12,
            Self::FileTaken(_) => 20,
            Self::Handed(_) => 30,
        }
    }
}

impl Offer {
    /// Writes it. A name past [`MAX_NAME_BYTES`] is cut at a character.
    ///
    /// # Panics
    /// When the invite is longer than its bound: our own bug.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        assert!(self.invite.len() <= MAX_INVITE_BYTES, "invite too long");
        let mut out = Vec::with_capacity(64 + self.invite.len());
        out.put_u8(VERSION);
        self.media.encode(&mut out);
        let cut = self.display_name.floor_char_boundary(MAX_NAME_BYTES);
        out.put_var_bytes(self.display_name.get(..cut).unwrap_or_default().as_bytes());
        out.put_var_bytes(&self.invite);
        out
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// [`WireError`] for anything else, a name that is not UTF-8 included.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        read_version(&mut reader)?;
        let media = MediaCapabilities::decode(&mut reader)?;
        let name = reader.var_bytes(MAX_NAME_BYTES)?;
        let display_name = str::from_utf8(name)
            .map_err(|_not_utf8| WireError::Undefined)?
            .to_owned();
        let invite = reader.var_bytes(MAX_INVITE_BYTES)?.to_vec();
        reader.finish()?;
        Ok(Self {
            media,
            display_name,
            invite,
        })
    }
}

impl FilesOffer {
    /// Whether an offer is one of these.
    #[must_use]
    pub fn is_it(bytes: &[u8]) -> bool {
        bytes.first() == Some(&FILES_VERSION)
    }

    /// Writes it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![FILES_VERSION];
        let tags = self.tags.get(..MAX_TAGS).unwrap_or(&self.tags);
        out.put_u8(u8::try_from(tags.len()).unwrap_or(0));
        tags.iter().for_each(|tag| out.put_bytes(&tag.0));
        out
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// [`WireError`] for anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            FILES_VERSION => {}
            other => return Err(WireError::Version(other)),
        }
        let count = usize::from(reader.u8()?);
        if count > MAX_TAGS {
            return Err(WireError::TooLong);
        }
        let tags = (0..count).map(|_nth| reader.array().map(Tag));
        let tags = tags.collect::<Result<Vec<_>, _>>()?;
        reader.finish()?;
        Ok(Self { tags })
    }
}

impl PresenceOffer {
    /// Whether an offer is one of these.
    #[must_use]
    pub fn is_it(bytes: &[u8]) -> bool {
        bytes.first() == Some(&PRESENCE_VERSION)
    }

    /// Writes it.
    #[must_use]
    pub fn encode(self) -> Vec<u8> {
        vec![PRESENCE_VERSION]
    }
}

impl FollowUp {
    /// Writes it.
    ///
    /// # Panics
    /// When candidates are longer than their bound: our own bug.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        assert!(
            self.candidates.len() <= MAX_CANDIDATES_BYTES,
            "too many candidates"
        );
        let mut out = Vec::new();
        out.put_u8(VERSION);
        out.put_var_bytes(&self.candidates);
        let message = self.message.as_ref().map(SignalMessage::encode);
        out.put_var_bytes(message.as_deref().unwrap_or_default());
        out
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// [`WireError`] for anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        read_version(&mut reader)?;
        let candidates = reader.var_bytes(MAX_CANDIDATES_BYTES)?.to_vec();
        let message = match reader.var_bytes(SignalMessage::MAX_BYTES)? {
            [] => None,
            message => SignalMessage::read(message)?,
        };
        reader.finish()?;
        Ok(Self {
            candidates,
            message,
        })
    }
}

fn read_version(reader: &mut Reader<'_>) -> Result<(), WireError> {
    match reader.u8()? {
        VERSION => Ok(()),
        other => Err(WireError::Version(other)),
    }
}

#[cfg(test)]
mod tests;
