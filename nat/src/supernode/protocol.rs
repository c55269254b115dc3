//! What a node and a supernode say to each other over their Noise-QUIC connection.
//!
//! One request is one bidirectional stream: the request and FIN, the response and FIN. What the supernode has
//! to say unasked ([`Push`]) comes on unidirectional streams, one message each. Message:
//!
//! ```text
//!  0        1        2
//! +--------+--------+----------------
//! | version|  type  |  fields …
//! +--------+--------+----------------
//! ```
//!
//! Fields are those of [`ahoy_transport::wire`]. A supernode is nobody's friend: certificates, logs and seal
//! keys pass through it as signed bytes, and whoever asked for them verifies them.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use ahoy_transport::{
    identity::{MAX_NODE_ADDRESS_LEN, NodeAddress, UserId, network::MAX_REVOKED_LEN},
    wire::{Reader, WireError, Writer},
};
use zeroize::Zeroizing;

use super::{
    closed::{ClosedNews, InviteUse, MAX_NEWS},
    mailbox::{MARK_LEN, MailKey, WaitingLetter},
    puzzle::{Proof, Puzzle},
    witness::{COSIGNED_LEN, Testimony},
};

mod consignment;
mod refusal;

pub use consignment::Consignment;
pub use refusal::Refusal;

use crate::discovery::{
    announcement::MAX_ANNOUNCEMENT_LEN, gossip::PAGE, record::MAX_RECORD_LEN, rendezvous::Network,
};

/// Version of every message here.
pub const VERSION: u8 = 1;

/// Largest message in bytes: an envelope and its header, or a full answer to a look-up.
pub const MAX_MESSAGE: usize = 64 * 1024;
/// Largest sealed envelope in bytes: the top size class of the sealed box.
pub const MAX_ENVELOPE: usize = 20 * 1024;
/// Largest certificate in bytes.
pub const MAX_CERTIFICATE: usize = 1024;
/// Largest device log in bytes. A person who adds and revokes a device a month fills it in about three years.
pub const MAX_LOG: usize = 12 * 1024;
/// Largest seal key record in bytes: an X-Wing public key (1216) with its signature.
pub const MAX_SEAL_KEY: usize = 2048;
/// Devices of one person that can be registered and that a look-up returns, as many as a device log holds.
pub const MAX_DEVICES: usize = 16;
/// Most letters in one answer, and most that are acknowledged at once.
pub const MAX_LETTERS: usize = 64;
/// Longest TURN username, password, realm or nonce in bytes.
const MAX_RELAY_TEXT: usize = 128;

/// What a node asks a supernode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Be reachable here. Only on a connection whose handshake showed the device's certificate.
    Register(Registration),
    /// Which devices of this person are registered here?
    Lookup {
        /// The person.
        user: UserId,
    },
    /// Take an envelope for somebody.
    Consign(Consignment),
    /// Answer an [`Push::Incoming`]; goes back over the connection that delivered it.
    Reply {
        /// The delivery that is answered.
        delivery: u64,
        /// Encrypted for the sender; opaque here.
        payload: Vec<u8>,
    },
    /// Credentials for the relay.
    RelayGrant,
    /// Relay towards another supernode's relayed addresses, too, once that supernode has proved its key.
    AllowRelay {
        /// Where it is to be asked for the proof; its IP address becomes the one that is allowed.
        relay: NodeAddress,
    },
    /// Keep a box for the device that is registered on this connection, also while it is off.
    KeepBox {
        /// Checks the marks of contacts.
        key: MailKey,
    },
    /// Which devices of this person have boxes here, on or off?
    Boxes {
        /// The person.
        user: UserId,
    },
    /// What waits for the device that is registered on this connection?
    Fetch,
    /// The device that is registered on this connection has these letters.
    Acknowledge {
        /// As they were numbered; at most [`MAX_LETTERS`].
        ids: Vec<u64>,
    },
    /// Keep a person's record for whoever looks for it. Anybody may ask: the record proves itself.
    Publish {
        /// As it was signed: [`crate::discovery::record`].
        record: Vec<u8>,
    },
    /// Is there a record of this person?
    Find {
        /// The person.
        user: UserId,
    },
    /// Which supernodes do you know? One of each network, in the order of networks.
    Supernodes {
        /// Of networks after this one; never a domain.
        after: Option<Network>,
        /// So many at most; with 0 the supernode tells of itself alone.
        most: u8,
        /// What the one who asks says of itself, as it was signed, if it is a supernode:
        /// [`crate::discovery::announcement`].
        own: Option<Vec<u8>>,
    },
    /// Sign the end of the device list that this device registered with: see [`super::witness`].
    Witness,
    /// Which end of this person's list have you signed, and has anybody shown you a list that contradicts it?
    Witnessed {
        /// The person.
        user: UserId,
    },
    /// Which invites of our private network are revoked, and who used which? See [`super::closed`].
    News {
        /// The list of revoked invites that is known already.
        seq: Option<u64>,
        /// Uses after this place; only supernodes are told of them.
        after: u64,
        /// A list of revoked invites for this supernode, as it was signed.
        revoked: Option<Vec<u8>>,
    },
    /// [`Self::Consign`] again, which was answered with a [`Response::Puzzle`], with the work done.
    Proven {
        /// The work.
        proof: Proof,
        /// As it was asked before.
        consignment: Consignment,
    },
}

/// How a device is to be found.
#[derive(Clone, PartialEq, Eq)]
pub struct Registration {
    /// Drawn at random for each registration.
    pub epoch: u64,
    /// The device's certificate.
    pub certificate: Vec<u8>,
    /// The person's device log, so that a caller can see that the certificate still counts.
    pub log: Vec<u8>,
    /// The signed key that envelopes for this device are sealed to.
    pub seal_key: Vec<u8>,
}

/// What a supernode answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response {
    /// The device is reachable here.
    Registered {
        /// Where the device's packets come from, as seen here.
        observed: SocketAddr,
        /// The supernode's clock, milliseconds since 1970.
        now_millis: u64,
        /// Credentials for the relay, if this supernode relays.
        relay: Option<RelayGrant>,
    },
    /// The registered devices of the person asked for; none is a valid answer.
    Devices(Vec<Registration>),
    /// The envelope is on its way.
    Delivered {
        /// Names the delivery in replies.
        delivery: u64,
    },
    /// The reply is on its way.
    Replied,
    /// Credentials for the relay.
    Relay(RelayGrant),
    /// The other supernode proved its key.
    RelayAllowed {
        /// Seconds for which this holds. Asking again before they are over prolongs it.
        lifetime_secs: u32,
    },
    /// The box is there.
    BoxKept {
        /// Letters that wait in it.
        waiting: u32,
    },
    /// The envelope waits, or has waited already.
    Left {
        /// It counts as a contact's.
        contact: bool,
    },
    /// What waits, or as much of it as one answer holds; none is a valid answer.
    Letters(Vec<WaitingLetter>),
    /// They are forgotten here.
    Acknowledged,
    /// The newest record that is held of the person asked for, or whose record came; perhaps none.
    Record(Option<Vec<u8>>),
    /// What this supernode says of itself, if it does, then those that it has met; as they were signed.
    Supernodes(Vec<Vec<u8>>),
    /// What this supernode has seen of a person's device list.
    Testimony(Testimony),
    /// What this supernode knows of the invites of its private network.
    News(ClosedNews),
    /// Strangers flood this supernode, or the device that is written to: the request is done when it comes again with this
    /// work ([`Request::Proven`]).
    Puzzle(Puzzle),
    /// The request is not done, and why.
    Refused(Refusal),
}

/// What a supernode says unasked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Push {
    /// Somebody delivered an envelope for this device.
    Incoming {
        /// Names the delivery in [`Request::Reply`].
        delivery: u64,
        /// As the sender sealed it.
        envelope: Vec<u8>,
    },
    /// The device answered a delivery of ours.
    ReplyTo {
        /// The delivery that was answered.
        delivery: u64,
        /// As the device encrypted it.
        payload: Vec<u8>,
    },
    /// This supernode stops soon: register elsewhere.
    Draining,
    /// Something new waits in the device's box.
    Mail,
}

/// Long-term credentials for the TURN relay (RFC 8489 section 9.2), with a nonce so that the first Allocate
/// takes one round trip.
#[derive(Clone, PartialEq, Eq)]
pub struct RelayGrant {
    /// Where the relay listens. An unspecified IP address means the one at which this supernode is reached,
    /// port 0 the port.
    pub server: SocketAddr,
    /// Random for each grant.
    pub username: String,
    /// Random for each grant.
    pub password: String,
    /// The relay's realm.
    pub realm: String,
    /// A nonce that the relay accepts for now.
    pub nonce: String,
    /// Seconds until new credentials are needed.
    pub lifetime_secs: u32,
}

impl fmt::Debug for RelayGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelayGrant")
            .field("server", &self.server)
            .field("lifetime_secs", &self.lifetime_secs)
            .finish_non_exhaustive()
    }
}

impl Registration {
    /// What a supernode showed, for whoever keeps it as evidence.
    #[must_use]
    pub fn evidence(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_to(&mut out);
        out
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration")
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

const REGISTER: u8 = 0x01;
const LOOKUP: u8 = 0x02;
const DELIVER: u8 = 0x03;
const REPLY: u8 = 0x04;
const RELAY_GRANT: u8 = 0x05;
const ALLOW_RELAY: u8 = 0x06;
const KEEP_BOX: u8 = 0x07;
const BOXES: u8 = 0x08;
const LEAVE: u8 = 0x09;
const FETCH: u8 = 0x0a;
const ACKNOWLEDGE: u8 = 0x0b;
const PROVEN: u8 = 0x0c;
const PUBLISH: u8 = 0x20;
const FIND: u8 = 0x21;
const SUPERNODES: u8 = 0x22;
const WITNESS: u8 = 0x23;
const WITNESSED: u8 = 0x24;
const NEWS: u8 = 0x25;

const REGISTERED: u8 = 0x41;
const DEVICES: u8 = 0x42;
const DELIVERED: u8 = 0x43;
const REPLIED: u8 = 0x44;
const RELAY: u8 = 0x45;
const RELAY_ALLOWED: u8 = 0x46;
const BOX_KEPT: u8 = 0x47;
const LEFT: u8 = 0x48;
const LETTERS: u8 = 0x49;
const ACKNOWLEDGED: u8 = 0x4a;
const PUZZLE: u8 = 0x4b;
const REFUSED: u8 = 0x4f;
const RECORD: u8 = 0x60;
const SUPERNODES_KNOWN: u8 = 0x61;
const TESTIMONY: u8 = 0x62;
const NEWS_TOLD: u8 = 0x63;

const INCOMING: u8 = 0x81;
const REPLY_TO: u8 = 0x82;
const DRAINING: u8 = 0x83;
const MAIL: u8 = 0x84;

/// Whether a request has signatures in it that are looked at, by its first bytes.
pub(super) fn is_signed(request: &[u8]) -> bool {
    matches!(
        request.get(1),
        Some(&REGISTER | &PUBLISH | &SUPERNODES | &WITNESS | &WITNESSED | &NEWS)
    )
}

/// Of `devices`, as many as [`MAX_MESSAGE`] has room for in one answer.
pub(super) fn devices_that_fit<'a>(
    devices: impl Iterator<Item = &'a Registration>,
) -> Vec<Registration> {
    /// Lengths, epoch and the like of a device, and of the message, with slack.
    const OVERHEAD: usize = 32;
    let mut room = MAX_MESSAGE - OVERHEAD;
    let mut fitting: Vec<Registration> = Vec::new();
    for device in devices.take(MAX_DEVICES) {
        let mut size = OVERHEAD + device.certificate.len() + device.seal_key.len();
        if fitting.iter().all(|earlier| earlier.log != device.log) {
            size += device.log.len();
        }
        match room.checked_sub(size) {
            Some(left) => room = left,
            None => break,
        }
        fitting.push(device.clone());
    }
    fitting
}

fn distinct_logs(devices: &[Registration]) -> Vec<&[u8]> {
    let mut logs: Vec<&[u8]> = Vec::new();
    for device in devices {
        if !logs.contains(&device.log.as_slice()) {
            logs.push(&device.log);
        }
    }
    logs
}

fn put_mark(out: &mut Vec<u8>, mark: Option<&[u8; MARK_LEN]>) {
    out.put_u8(u8::from(mark.is_some()));
    out.put_bytes(mark.map_or(&[], |mark| mark.as_slice()));
}

fn read_mark(reader: &mut Reader<'_>) -> Result<Option<[u8; MARK_LEN]>, WireError> {
    match reader.u8()? {
        0 => Ok(None),
        1 => Ok(Some(reader.array()?)),
        _undefined => Err(WireError::Undefined),
    }
}

fn read_count(reader: &mut Reader<'_>, max: usize) -> Result<usize, WireError> {
    let count = usize::try_from(reader.varint()?).unwrap_or(usize::MAX);
    if count > max {
        return Err(WireError::TooLong);
    }
    Ok(count)
}

fn put_optional(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    out.put_u8(u8::from(bytes.is_some()));
    if let Some(bytes) = bytes {
        out.put_var_bytes(bytes);
    }
}

fn read_optional(reader: &mut Reader<'_>, longest: usize) -> Result<Option<Vec<u8>>, WireError> {
    match reader.u8()? {
        0 => Ok(None),
        1 => Ok(Some(reader.var_bytes(longest)?.to_vec())),
        _undefined => Err(WireError::Undefined),
    }
}

fn start(kind: u8) -> Vec<u8> {
    vec![VERSION, kind]
}

fn open<'a>(bytes: &'a [u8]) -> Result<(u8, Reader<'a>), WireError> {
    let mut reader = Reader::new(bytes);
    Ok((read_start(&mut reader)?, reader))
}

/// The kind of a message of this version.
fn read_start(reader: &mut Reader<'_>) -> Result<u8, WireError> {
    match reader.u8()? {
        VERSION => reader.u8(),
        version => Err(WireError::Version(version)),
    }
}

impl Request {
    /// The message's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Register(registration) => {
                let mut out = start(REGISTER);
                registration.encode_to(&mut out);
                out
            }
            Self::Lookup { user } => {
                let mut out = start(LOOKUP);
                out.put_bytes(user.as_bytes());
                out
            }
            Self::Consign(consignment) => consignment.encode(),
            Self::Reply { delivery, payload } => {
                let mut out = start(REPLY);
                out.put_u64(*delivery);
                out.put_var_bytes(payload);
                out
            }
            Self::RelayGrant => start(RELAY_GRANT),
            Self::AllowRelay { relay } => {
                let mut out = start(ALLOW_RELAY);
                put_node_address(&mut out, relay);
                out
            }
            Self::KeepBox { key } => {
                let mut out = start(KEEP_BOX);
                out.put_bytes(&*key.0);
                out
            }
            Self::Boxes { user } => {
                let mut out = start(BOXES);
                out.put_bytes(user.as_bytes());
                out
            }
            Self::Fetch => start(FETCH),
            Self::Acknowledge { ids } => {
                let mut out = start(ACKNOWLEDGE);
                out.put_varint(ids.len() as u64);
                ids.iter().for_each(|id| out.put_u64(*id));
                out
            }
            Self::Publish { record } => {
                let mut out = start(PUBLISH);
                out.put_var_bytes(record);
                out
            }
            Self::Find { user } => {
                let mut out = start(FIND);
                out.put_bytes(user.as_bytes());
                out
            }
            Self::Witness => start(WITNESS),
            Self::Witnessed { user } => {
                let mut out = start(WITNESSED);
                out.put_bytes(user.as_bytes());
                out
            }
            Self::News {
                seq,
                after,
                revoked,
            } => {
                let mut out = start(NEWS);
                out.put_u8(u8::from(seq.is_some()));
                out.put_u64(seq.unwrap_or(0));
                out.put_u64(*after);
                put_optional(&mut out, revoked.as_deref());
                out
            }
            Self::Proven { proof, consignment } => {
                let mut out = start(PROVEN);
                proof.write(&mut out);
                out.put_bytes(&consignment.encode());
                out
            }
            Self::Supernodes { after, most, own } => {
                let mut out = start(SUPERNODES);
                put_network(&mut out, after.as_ref());
                out.put_u8(*most);
                out.put_u8(u8::from(own.is_some()));
                if let Some(own) = own {
                    out.put_var_bytes(own);
                }
                out
            }
        }
    }

    /// Reads a message.
    ///
    /// # Errors
    /// When it is not exactly one request of this version.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let (kind, mut reader) = open(bytes)?;
        let request = match kind {
            PROVEN => {
                let proof = Proof::read(&mut reader)?;
                let inner = read_start(&mut reader)?;
                Self::Proven {
                    proof,
                    consignment: Consignment::decode_from(inner, &mut reader)?,
                }
            }
            REGISTER => Self::Register(Registration::decode_from(&mut reader)?),
            LOOKUP => Self::Lookup {
                user: UserId(reader.array()?),
            },
            DELIVER | LEAVE => Self::Consign(Consignment::decode_from(kind, &mut reader)?),
            REPLY => Self::Reply {
                delivery: reader.u64()?,
                payload: reader.var_bytes(MAX_ENVELOPE)?.to_vec(),
            },
            RELAY_GRANT => Self::RelayGrant,
            ALLOW_RELAY => Self::AllowRelay {
                relay: read_node_address(&mut reader)?,
            },
            KEEP_BOX => Self::KeepBox {
                key: MailKey(Zeroizing::new(reader.array()?)),
            },
            BOXES => Self::Boxes {
                user: UserId(reader.array()?),
            },
            FETCH => Self::Fetch,
            ACKNOWLEDGE => {
                let count = read_count(&mut reader, MAX_LETTERS)?;
                let ids: Result<Vec<u64>, WireError> =
                    (0..count).map(|_nth| reader.u64()).collect();
                Self::Acknowledge { ids: ids? }
            }
            PUBLISH => Self::Publish {
                record: reader.var_bytes(MAX_RECORD_LEN)?.to_vec(),
            },
            FIND => Self::Find {
                user: UserId(reader.array()?),
            },
            WITNESS => Self::Witness,
            WITNESSED => Self::Witnessed {
                user: UserId(reader.array()?),
            },
            NEWS => Self::News {
                seq: match (reader.u8()?, reader.u64()?) {
                    (0, 0) => None,
                    (1, seq) => Some(seq),
                    _undefined => return Err(WireError::Undefined),
                },
                after: reader.u64()?,
                revoked: read_optional(&mut reader, MAX_REVOKED_LEN)?,
            },
            SUPERNODES => Self::Supernodes {
                after: read_network(&mut reader)?,
                most: reader.u8()?,
                own: match reader.u8()? {
                    0 => None,
                    1 => Some(reader.var_bytes(MAX_ANNOUNCEMENT_LEN)?.to_vec()),
                    _undefined => return Err(WireError::Undefined),
                },
            },
            _ => return Err(WireError::Undefined),
        };
        reader.finish()?;
        Ok(request)
    }
}

impl Registration {
    pub(super) fn encode_to(&self, out: &mut Vec<u8>) {
        out.put_u64(self.epoch);
        out.put_var_bytes(&self.certificate);
        out.put_var_bytes(&self.log);
        out.put_var_bytes(&self.seal_key);
    }

    pub(super) fn decode_from(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self {
            epoch: reader.u64()?,
            certificate: reader.var_bytes(MAX_CERTIFICATE)?.to_vec(),
            log: reader.var_bytes(MAX_LOG)?.to_vec(),
            seal_key: reader.var_bytes(MAX_SEAL_KEY)?.to_vec(),
        })
    }
}

impl Response {
    /// The message's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Registered {
                observed,
                now_millis,
                relay,
            } => {
                let mut out = start(REGISTERED);
                put_addr(&mut out, *observed);
                out.put_u64(*now_millis);
                out.put_u8(u8::from(relay.is_some()));
                if let Some(grant) = relay {
                    grant.encode_to(&mut out);
                }
                out
            }
            Self::Devices(devices) => {
                let mut out = start(DEVICES);
                // The log is the longest part, and as a rule the same for all devices.
                let logs = distinct_logs(devices);
                out.put_varint(logs.len() as u64);
                for log in &logs {
                    out.put_var_bytes(log);
                }
                out.put_varint(devices.len() as u64);
                for device in devices {
                    let log = logs.iter().position(|log| *log == device.log);
                    out.put_varint(log.unwrap_or(0) as u64);
                    out.put_u64(device.epoch);
                    out.put_var_bytes(&device.certificate);
                    out.put_var_bytes(&device.seal_key);
                }
                out
            }
            Self::Delivered { delivery } => {
                let mut out = start(DELIVERED);
                out.put_u64(*delivery);
                out
            }
            Self::Replied => start(REPLIED),
            Self::Relay(grant) => {
                let mut out = start(RELAY);
                grant.encode_to(&mut out);
                out
            }
            Self::RelayAllowed { lifetime_secs } => {
                let mut out = start(RELAY_ALLOWED);
                out.put_u32(*lifetime_secs);
                out
            }
            Self::BoxKept { waiting } => {
                let mut out = start(BOX_KEPT);
                out.put_u32(*waiting);
                out
            }
            Self::Left { contact } => {
                let mut out = start(LEFT);
                out.put_u8(u8::from(*contact));
                out
            }
            Self::Letters(letters) => {
                let mut out = start(LETTERS);
                out.put_varint(letters.len() as u64);
                for letter in letters {
                    out.put_u64(letter.id);
                    out.put_var_bytes(&letter.envelope);
                }
                out
            }
            Self::Acknowledged => start(ACKNOWLEDGED),
            Self::Record(record) => {
                let mut out = start(RECORD);
                out.put_u8(u8::from(record.is_some()));
                if let Some(record) = record {
                    out.put_var_bytes(record);
                }
                out
            }
            Self::Supernodes(known) => {
                let mut out = start(SUPERNODES_KNOWN);
                out.put_varint(known.len() as u64);
                known.iter().for_each(|one| out.put_var_bytes(one));
                out
            }
            Self::Testimony(said) => {
                let mut out = start(TESTIMONY);
                for part in [&said.signed, &said.log, &said.other] {
                    put_optional(&mut out, part.as_deref());
                }
                out
            }
            Self::News(news) => {
                let mut out = start(NEWS_TOLD);
                put_optional(&mut out, news.revoked.as_deref());
                out.put_varint(news.uses.len() as u64);
                news.uses.iter().for_each(|used| used.write(&mut out));
                out.put_u64(news.next);
                out
            }
            Self::Puzzle(puzzle) => {
                let mut out = start(PUZZLE);
                puzzle.write(&mut out);
                out
            }
            Self::Refused(refusal) => {
                let mut out = start(REFUSED);
                out.put_u8(refusal.code());
                out
            }
        }
    }

    /// Reads a message.
    ///
    /// # Errors
    /// When it is not exactly one response of this version.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let (kind, mut reader) = open(bytes)?;
        let response = match kind {
            REGISTERED => Self::Registered {
                observed: read_addr(&mut reader)?,
                now_millis: reader.u64()?,
                relay: match reader.u8()? {
                    0 => None,
                    1 => Some(RelayGrant::decode_from(&mut reader)?),
                    _ => return Err(WireError::Undefined),
                },
            },
            DEVICES => {
                let logs = (0..read_count(&mut reader, MAX_DEVICES)?)
                    .map(|_| reader.var_bytes(MAX_LOG))
                    .collect::<Result<Vec<_>, _>>()?;
                let devices = (0..read_count(&mut reader, MAX_DEVICES)?)
                    .map(|_| {
                        let log = usize::try_from(reader.varint()?).unwrap_or(usize::MAX);
                        Ok(Registration {
                            log: logs.get(log).ok_or(WireError::Undefined)?.to_vec(),
                            epoch: reader.u64()?,
                            certificate: reader.var_bytes(MAX_CERTIFICATE)?.to_vec(),
                            seal_key: reader.var_bytes(MAX_SEAL_KEY)?.to_vec(),
                        })
                    })
                    .collect::<Result<Vec<_>, WireError>>()?;
                // One spelling: each log once, in the order of the devices.
                if distinct_logs(&devices) != logs {
                    return Err(WireError::Undefined);
                }
                Self::Devices(devices)
            }
            DELIVERED => Self::Delivered {
                delivery: reader.u64()?,
            },
            REPLIED => Self::Replied,
            RELAY => Self::Relay(RelayGrant::decode_from(&mut reader)?),
            RELAY_ALLOWED => Self::RelayAllowed {
                lifetime_secs: reader.u32()?,
            },
            BOX_KEPT => Self::BoxKept {
                waiting: reader.u32()?,
            },
            LEFT => Self::Left {
                contact: match reader.u8()? {
                    0 => false,
                    1 => true,
                    _undefined => return Err(WireError::Undefined),
                },
            },
            LETTERS => {
                let letters = (0..read_count(&mut reader, MAX_LETTERS)?)
                    .map(|_| {
                        Ok(WaitingLetter {
                            id: reader.u64()?,
                            envelope: reader.var_bytes(MAX_ENVELOPE)?.to_vec(),
                        })
                    })
                    .collect::<Result<Vec<_>, WireError>>()?;
                Self::Letters(letters)
            }
            ACKNOWLEDGED => Self::Acknowledged,
            RECORD => Self::Record(match reader.u8()? {
                0 => None,
                1 => Some(reader.var_bytes(MAX_RECORD_LEN)?.to_vec()),
                _undefined => return Err(WireError::Undefined),
            }),
            SUPERNODES_KNOWN => {
                let known = (0..read_count(&mut reader, PAGE + 1)?)
                    .map(|_nth| Ok(reader.var_bytes(MAX_ANNOUNCEMENT_LEN)?.to_vec()))
                    .collect::<Result<Vec<_>, WireError>>()?;
                Self::Supernodes(known)
            }
            TESTIMONY => Self::Testimony(Testimony {
                signed: read_optional(&mut reader, COSIGNED_LEN)?,
                log: read_optional(&mut reader, MAX_LOG)?,
                other: read_optional(&mut reader, MAX_LOG)?,
            }),
            NEWS_TOLD => Self::News(ClosedNews {
                revoked: read_optional(&mut reader, MAX_REVOKED_LEN)?,
                uses: (0..read_count(&mut reader, MAX_NEWS)?)
                    .map(|_nth| InviteUse::read(&mut reader))
                    .collect::<Result<_, _>>()?,
                next: reader.u64()?,
            }),
            PUZZLE => Self::Puzzle(Puzzle::read(&mut reader)?),
            REFUSED => Self::Refused(Refusal::from_code(reader.u8()?)?),
            _ => return Err(WireError::Undefined),
        };
        reader.finish()?;
        Ok(response)
    }
}

impl Push {
    /// The message's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Incoming { delivery, envelope } => {
                let mut out = start(INCOMING);
                out.put_u64(*delivery);
                out.put_var_bytes(envelope);
                out
            }
            Self::ReplyTo { delivery, payload } => {
                let mut out = start(REPLY_TO);
                out.put_u64(*delivery);
                out.put_var_bytes(payload);
                out
            }
            Self::Draining => start(DRAINING),
            Self::Mail => start(MAIL),
        }
    }

    /// Reads a message.
    ///
    /// # Errors
    /// When it is not exactly one push of this version.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let (kind, mut reader) = open(bytes)?;
        let push = match kind {
            INCOMING => Self::Incoming {
                delivery: reader.u64()?,
                envelope: reader.var_bytes(MAX_ENVELOPE)?.to_vec(),
            },
            REPLY_TO => Self::ReplyTo {
                delivery: reader.u64()?,
                payload: reader.var_bytes(MAX_ENVELOPE)?.to_vec(),
            },
            DRAINING => Self::Draining,
            MAIL => Self::Mail,
            _ => return Err(WireError::Undefined),
        };
        reader.finish()?;
        Ok(push)
    }
}

impl RelayGrant {
    fn encode_to(&self, out: &mut Vec<u8>) {
        put_addr(out, self.server);
        for text in [&self.username, &self.password, &self.realm, &self.nonce] {
            out.put_var_bytes(text.as_bytes());
        }
        out.put_u32(self.lifetime_secs);
    }

    fn decode_from(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let server = read_addr(reader)?;
        let mut text = || {
            let bytes = reader.var_bytes(MAX_RELAY_TEXT)?;
            str::from_utf8(bytes)
                .map(str::to_owned)
                .map_err(|_not_utf8| WireError::Undefined)
        };
        Ok(Self {
            server,
            username: text()?,
            password: text()?,
            realm: text()?,
            nonce: text()?,
            lifetime_secs: reader.u32()?,
        })
    }
}

/// A node address as the messages write it: varint length, its text.
pub fn put_node_address(out: &mut Vec<u8>, address: &NodeAddress) {
    out.put_var_bytes(address.to_string().as_bytes());
}

/// Reads what [`put_node_address`] wrote.
///
/// # Errors
/// When it is too long or no node address.
pub fn read_node_address(reader: &mut Reader<'_>) -> Result<NodeAddress, WireError> {
    str::from_utf8(reader.var_bytes(MAX_NODE_ADDRESS_LEN)?)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(WireError::Undefined)
}

/// A network as the messages write it: `u8` 4 or 6, its 2 or 4 bytes; or `u8` 0 for none.
fn put_network(out: &mut Vec<u8>, network: Option<&Network>) {
    match network {
        None | Some(Network::Domain(_)) => out.put_u8(0),
        Some(Network::V4(bytes)) => {
            out.put_u8(4);
            out.put_bytes(bytes);
        }
        Some(Network::V6(bytes)) => {
            out.put_u8(6);
            out.put_bytes(bytes);
        }
    }
}

fn read_network(reader: &mut Reader<'_>) -> Result<Option<Network>, WireError> {
    match reader.u8()? {
        0 => Ok(None),
        4 => Ok(Some(Network::V4(reader.array()?))),
        6 => Ok(Some(Network::V6(reader.array()?))),
        _undefined => Err(WireError::Undefined),
    }
}

/// An address as the messages write it: `u8` 4 or 6, the IP address, `u16` port.
pub fn put_addr(out: &mut Vec<u8>, addr: SocketAddr) {
    match addr.ip() {
        IpAddr::V4(ip) => {
            out.put_u8(4);
            out.put_bytes(&ip.octets());
        }
        IpAddr::V6(ip) => {
            out.put_u8(6);
            out.put_bytes(&ip.octets());
        }
    }
    out.put_u16(addr.port());
}

/// Reads what [`put_addr`] wrote.
///
/// # Errors
/// When it is no address.
pub fn read_addr(reader: &mut Reader<'_>) -> Result<SocketAddr, WireError> {
    let ip = match reader.u8()? {
        4 => IpAddr::from(reader.array::<4>()?),
        6 => IpAddr::from(reader.array::<16>()?),
        _ => return Err(WireError::Undefined),
    };
    Ok(SocketAddr::new(ip, reader.u16()?))
}

#[cfg(test)]
mod tests;
