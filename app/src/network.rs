//! A private network, as this profile belongs to it: what is kept, and the links that let others in.
//!
//! ```text
//! link: ahoy-net:z-base-32 of | ver=1 | invite (see ahoy_transport::identity::network) | name | u8 count, supernodes |
//!                             each: varint length, text
//! kept: | ver=1 | name | u8 key there, its seed 32 | member | u8 may leave | u8 count, supernodes | seq u64
//!       | u16 count, invites: key 32, u8 role, not after u64, u8 revoked, label |
//! ```
//! What is kept holds secrets; it stands among the settings that are sealed.

#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::cast_possible_truncation)
)]

use std::{collections::BTreeSet, fmt, str::FromStr, sync::Arc};

use ahoy_transport::{
    endpoint::NetworkAccess,
    identity::{
        MAX_NODE_ADDRESS_LEN, NetworkId, NodeAddress, NodeKeys,
        network::{
            MAX_INVITE_DAYS, NETWORK_INVITE_LEN, NETWORK_MEMBER_LEN, NetworkError, NetworkInvite,
            NetworkInviteId, NetworkKey, NetworkMember, NetworkRole, RevokedInvites,
        },
    },
    wire::{Reader, WireError, Writer},
};
use rand_core::CryptoRngCore;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use zeroize::Zeroizing;

use crate::link::{MAX_NAME_CHARS, display_name};

/// Supernodes that a link names, and that are kept.
pub const MAX_NETWORK_NODES: usize = 8;
/// Invites that count at once. Expired ones are forgotten.
pub const MAX_ISSUED: usize = 1000;

/// A day, in milliseconds.
pub(crate) const DAY_MILLIS: u64 = 86_400_000;
/// A pass with fewer days left is said to end soon: time to ask for another one, also over a holiday.
pub(crate) const ENDING_DAYS: u64 = 14;
const SCHEME: &str = "ahoy-net:";
const VERSION: u8 = 1;
const MAX_NAME_BYTES: usize = 4 * MAX_NAME_CHARS;
const MAX_LINK: usize = SCHEME.len()
    + (3 + NETWORK_INVITE_LEN + MAX_NAME_BYTES + MAX_NETWORK_NODES * (MAX_NODE_ADDRESS_LEN + 2))
        * 8
        / 5
    + 1;

/// Why a text is no link to a private network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NetworkLinkError {
    /// Something else.
    #[error(
        "that is no invite to a private network: `ahoy network invite` prints one, which begins with {SCHEME}"
    )]
    NoLink,
    /// It was cut off or mistyped.
    #[error("the invite cannot be used: {0}")]
    Invite(#[from] NetworkError),
}

impl From<WireError> for NetworkLinkError {
    fn from(error: WireError) -> Self {
        Self::Invite(error.into())
    }
}

/// What lets one device or supernode in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkLink {
    /// The secret.
    pub invite: NetworkInvite,
    /// What the network is called.
    pub name: String,
    /// Its supernodes, as far as they were known; at most [`MAX_NETWORK_NODES`].
    pub nodes: Vec<NodeAddress>,
}

fn put_nodes(out: &mut Vec<u8>, nodes: &[NodeAddress]) {
    let nodes = nodes.iter().take(MAX_NETWORK_NODES);
    out.put_u8(u8::try_from(nodes.len()).unwrap_or(u8::MAX));
    nodes.for_each(|node| out.put_var_bytes(node.to_string().as_bytes()));
}

fn read_nodes(reader: &mut Reader<'_>) -> Result<Vec<NodeAddress>, WireError> {
    let count = usize::from(reader.u8()?);
    if count > MAX_NETWORK_NODES {
        return Err(WireError::TooLong);
    }
    (0..count)
        .map(|_| {
            let text = read_text(reader, MAX_NODE_ADDRESS_LEN)?;
            let node: NodeAddress = text.parse().map_err(|_none| WireError::Undefined)?;
            (node.to_string() == text)
                .then_some(node)
                .ok_or(WireError::Undefined)
        })
        .collect()
}

fn read_text<'a>(reader: &mut Reader<'a>, max: usize) -> Result<&'a str, WireError> {
    str::from_utf8(reader.var_bytes(max)?).map_err(|_not_utf8| WireError::Undefined)
}

/// A name that was cleaned when it was written, so that there is one spelling.
fn read_name(reader: &mut Reader<'_>) -> Result<String, WireError> {
    let name = read_text(reader, MAX_NAME_BYTES)?;
    (display_name(name) == name)
        .then(|| name.to_owned())
        .ok_or(WireError::Undefined)
}

fn read_version(reader: &mut Reader<'_>) -> Result<(), WireError> {
    match reader.u8()? {
        VERSION => Ok(()),
        other => Err(WireError::Version(other)),
    }
}

fn read_bool(reader: &mut Reader<'_>) -> Result<bool, WireError> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _undefined => Err(WireError::Undefined),
    }
}

fn read_role(reader: &mut Reader<'_>) -> Result<NetworkRole, WireError> {
    Ok(if read_bool(reader)? {
        NetworkRole::Supernode
    } else {
        NetworkRole::Device
    })
}

impl fmt::Display for NetworkLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = Zeroizing::new(vec![VERSION]);
        out.put_bytes(&self.invite.to_secret_bytes());
        out.put_var_bytes(self.name.as_bytes());
        put_nodes(&mut out, &self.nodes);
        write!(f, "{SCHEME}{}", z32::encode(&out))
    }
}

impl FromStr for NetworkLink {
    type Err = NetworkLinkError;

    fn from_str(text: &str) -> Result<Self, NetworkLinkError> {
        let rest = text.strip_prefix(SCHEME).filter(|_| text.len() <= MAX_LINK);
        let rest = rest.ok_or(NetworkLinkError::NoLink)?;
        let bytes = z32::decode(rest.as_bytes()).map_err(|_no_z32| NetworkLinkError::NoLink)?;
        let bytes = Zeroizing::new(bytes);
        let mut reader = Reader::new(&bytes);
        read_version(&mut reader)?;
        let invite = NetworkInvite::from_secret_bytes(reader.bytes(NETWORK_INVITE_LEN)?)?;
        let name = read_name(&mut reader)?;
        let nodes = read_nodes(&mut reader)?;
        reader.finish()?;
        let link = Self {
            invite,
            name,
            nodes,
        };
        // One spelling: leftover bits are zero.
        if link.to_string() == text {
            Ok(link)
        } else {
            Err(NetworkLinkError::NoLink)
        }
    }
}

/// So many days, in words.
pub(crate) fn days(days: u64) -> String {
    match days {
        1 => String::from("1 day"),
        days => format!("{days} days"),
    }
}

/// Whether a pass that counts until then ends soon, and has not ended.
pub(crate) fn ends_soon(not_after_millis: u64, now_millis: u64) -> bool {
    let left = not_after_millis.saturating_sub(now_millis);
    left > 0 && left <= ENDING_DAYS * DAY_MILLIS
}

/// An invite that was given away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// Names it.
    pub invite: NetworkInviteId,
    /// What it is good for.
    pub role: NetworkRole,
    /// Until when, Unix milliseconds.
    pub not_after_millis: u64,
    /// It was taken back.
    pub revoked: bool,
    /// Whom it was for, if that was said.
    pub label: String,
}

impl Issued {
    /// Its beginning, enough to tell two apart.
    #[must_use]
    pub fn short(&self) -> String {
        let text = z32::encode(&self.invite);
        text.get(..8).unwrap_or(&text).to_owned()
    }
}

/// Why an invite is not made or taken back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OwnerError {
    /// The key is elsewhere.
    #[error(
        "this profile does not hold the key of the network {0}: `ahoy network` where it was made"
    )]
    NoKey(String),
    /// As many as there may be.
    #[error(
        "{MAX_ISSUED} invites count already; they expire, or a new network has room for others"
    )]
    Full,
    /// No such invite.
    #[error("no invite is called {0:?} or begins with it: `ahoy network list` shows them all")]
    Unknown(String),
    /// Several such invites.
    #[error("several invites are called {0:?} or begin with it: give more of its number")]
    Ambiguous(String),
}

/// This profile's place in a private network.
#[derive(Clone, PartialEq, Eq)]
pub struct Membership {
    /// What it is called.
    pub name: String,
    /// The network's key, where it was made.
    key: Option<NetworkKey>,
    /// What lets this profile in.
    member: NetworkMember,
    /// Supernodes of others are used, too.
    pub may_leave: bool,
    /// The network's supernodes to begin with.
    pub nodes: Vec<NodeAddress>,
    /// Of the list of revoked invites.
    seq: u64,
    issued: Vec<Issued>,
}

impl Membership {
    /// Makes a network, whose first member this profile is, as device and as supernode.
    #[must_use]
    pub fn found(name: &str, now_millis: u64, rng: &mut dyn CryptoRngCore) -> Self {
        let key = NetworkKey::generate(rng);
        let until = now_millis + u64::from(MAX_INVITE_DAYS) * DAY_MILLIS;
        let member = key.invite(NetworkRole::Supernode, until, rng).redeem(rng);
        Self {
            name: display_name(name),
            key: Some(key),
            member,
            may_leave: false,
            nodes: Vec::new(),
            seq: 0,
            issued: Vec::new(),
        }
    }

    /// Redeems an invite.
    #[must_use]
    pub fn join(link: NetworkLink, may_leave: bool, rng: &mut dyn CryptoRngCore) -> Self {
        Self {
            name: link.name,
            key: None,
            member: link.invite.redeem(rng),
            may_leave,
            nodes: link.nodes,
            seq: 0,
            issued: Vec::new(),
        }
    }

    /// The network.
    #[must_use]
    pub fn network(&self) -> NetworkId {
        self.member.certificate().network
    }

    /// What lets this profile in.
    #[must_use]
    pub fn member(&self) -> &NetworkMember {
        &self.member
    }

    /// Whether the network was made here.
    #[must_use]
    pub fn is_owner(&self) -> bool {
        self.key.is_some()
    }

    /// What was given away.
    #[must_use]
    pub fn issued(&self) -> &[Issued] {
        &self.issued
    }

    /// These are supernodes of the network, too; those named last are told first.
    pub fn add_nodes(&mut self, nodes: impl IntoIterator<Item = NodeAddress>) {
        for node in nodes {
            self.nodes.retain(|known| known.node != node.node);
            self.nodes.insert(0, node);
        }
        self.nodes.truncate(MAX_NETWORK_NODES);
    }

    /// Makes an invite that counts for so many days, at most [`MAX_INVITE_DAYS`].
    ///
    /// # Errors
    /// When the network's key is not here, or too many count.
    pub fn invite(
        &mut self,
        role: NetworkRole,
        days: u32,
        label: &str,
        now_millis: u64,
        rng: &mut dyn CryptoRngCore,
    ) -> Result<NetworkLink, OwnerError> {
        let key = self.owner()?.clone();
        self.issued
            .retain(|issued| issued.not_after_millis > now_millis);
        if self.issued.len() >= MAX_ISSUED {
            return Err(OwnerError::Full);
        }
        let days = days.clamp(1, MAX_INVITE_DAYS);
        let not_after_millis = now_millis + u64::from(days) * DAY_MILLIS;
        let invite = key.invite(role, not_after_millis, rng);
        self.issued.push(Issued {
            invite: invite.certificate().invite,
            role,
            not_after_millis,
            revoked: false,
            label: display_name(label),
        });
        Ok(NetworkLink {
            invite,
            name: self.name.clone(),
            nodes: self.nodes.clone(),
        })
    }

    /// Takes an invite back, named by its label or the beginning of its number; comes with the list for the supernodes.
    ///
    /// # Errors
    /// When the network's key is not here, or it is not clear which invite is meant.
    pub fn revoke(&mut self, which: &str) -> Result<(Issued, RevokedInvites), OwnerError> {
        self.owner()?;
        let is_meant = |issued: &Issued| {
            !which.is_empty()
                && (issued.label == which || z32::encode(&issued.invite).starts_with(which))
        };
        let mut found = self.issued.iter_mut().filter(|issued| is_meant(issued));
        let meant = found
            .next()
            .ok_or_else(|| OwnerError::Unknown(which.to_owned()))?;
        if found.next().is_some() {
            return Err(OwnerError::Ambiguous(which.to_owned()));
        }
        meant.revoked = true;
        let meant = meant.clone();
        self.seq += 1;
        let list = self.revoked().ok_or_else(|| self.no_key())?;
        Ok((meant, list))
    }

    /// The list of revoked invites, where the network's key is here and any is revoked.
    #[must_use]
    pub fn revoked(&self) -> Option<RevokedInvites> {
        let revoked = self.issued.iter().filter(|issued| issued.revoked);
        let revoked: BTreeSet<_> = revoked.map(|issued| issued.invite).collect();
        let key = self.key.as_ref().filter(|_| self.seq > 0)?;
        Some(key.revoke(self.seq, &revoked))
    }

    fn owner(&self) -> Result<&NetworkKey, OwnerError> {
        self.key.as_ref().ok_or_else(|| self.no_key())
    }

    fn no_key(&self) -> OwnerError {
        OwnerError::NoKey(self.name.clone())
    }

    /// How this profile's devices show that they belong to it.
    #[must_use]
    pub fn access(&self) -> Arc<NetworkAccess> {
        let nodes = self.nodes.iter().map(|node| node.node);
        let access = NetworkAccess::device(self.member.clone(), nodes, self.may_leave);
        Arc::new(access)
    }

    /// The same of its supernode.
    #[must_use]
    pub fn supernode(&self, keys: &NodeKeys) -> PrivateNetwork {
        let nodes = self.nodes.iter().filter(|node| node.node != keys.id());
        PrivateNetwork {
            member: self.member.clone(),
            nodes: nodes.cloned().collect(),
            revoked: self.revoked().map(|list| list.to_bytes()),
            check: true,
        }
    }

    fn to_secret_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(vec![VERSION]);
        out.put_var_bytes(self.name.as_bytes());
        out.put_u8(u8::from(self.key.is_some()));
        if let Some(key) = &self.key {
            out.put_bytes(&*key.seed());
        }
        out.put_bytes(&self.member.to_secret_bytes());
        out.put_u8(u8::from(self.may_leave));
        put_nodes(&mut out, &self.nodes);
        out.put_u64(self.seq);
        out.put_u16(u16::try_from(self.issued.len()).unwrap_or(u16::MAX));
        for issued in &self.issued {
            out.put_bytes(&issued.invite);
            out.put_u8(u8::from(issued.role == NetworkRole::Supernode));
            out.put_u64(issued.not_after_millis);
            out.put_u8(u8::from(issued.revoked));
            out.put_var_bytes(issued.label.as_bytes());
        }
        out
    }

    fn from_secret_bytes(bytes: &[u8]) -> Result<Self, NetworkError> {
        let mut reader = Reader::new(bytes);
        read_version(&mut reader)?;
        let name = read_name(&mut reader)?;
        let key = if read_bool(&mut reader)? {
            let seed: Zeroizing<[u8; 32]> = Zeroizing::new(reader.array()?);
            Some(NetworkKey::from_seed(&seed))
        } else {
            None
        };
        let member = NetworkMember::from_secret_bytes(reader.bytes(NETWORK_MEMBER_LEN)?)?;
        let may_leave = read_bool(&mut reader)?;
        let nodes = read_nodes(&mut reader)?;
        let seq = reader.u64()?;
        let count = usize::from(reader.u16()?);
        if count > MAX_ISSUED {
            return Err(WireError::TooLong.into());
        }
        let issued: Result<Vec<Issued>, WireError> = (0..count)
            .map(|_| {
                Ok(Issued {
                    invite: reader.array()?,
                    role: read_role(&mut reader)?,
                    not_after_millis: reader.u64()?,
                    revoked: read_bool(&mut reader)?,
                    label: read_name(&mut reader)?,
                })
            })
            .collect();
        let issued = issued?;
        reader.finish()?;
        Ok(Self {
            name,
            key,
            member,
            may_leave,
            nodes,
            seq,
            issued,
        })
    }
}

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Membership")
            .field("network", &self.network())
            .field("may_leave", &self.may_leave)
            .finish_non_exhaustive()
    }
}

impl Serialize for Membership {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&z32::encode(&self.to_secret_bytes()))
    }
}

impl<'de> Deserialize<'de> for Membership {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        let bytes = z32::decode(text.as_bytes()).map_err(|_no_z32| {
            de::Error::custom("network is written by `ahoy network`, not by hand")
        })?;
        Self::from_secret_bytes(&Zeroizing::new(bytes)).map_err(de::Error::custom)
    }
}

/// What makes a supernode one of a private network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrivateNetwork {
    /// What lets it in at the others.
    pub member: NetworkMember,
    /// The others, to begin with.
    pub nodes: Vec<NodeAddress>,
    /// A list of revoked invites, as it was signed.
    pub revoked: Option<Vec<u8>>,
    /// Only members are served. Off only for tests.
    pub check: bool,
}

#[cfg(test)]
mod tests {
    use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};

    use super::*;

    const NOW: u64 = 1_795_402_806_513;

    fn node(n: u8) -> NodeAddress {
        let addr = std::net::SocketAddr::from(([10, 0, 0, n], 4433));
        NodeAddress::new(NodeKeys::from_seed(&[n; 32]).id(), addr)
    }

    #[test]
    fn links_come_back_and_nothing_else_is_one() {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let mut owner = Membership::found("The Smiths", NOW, &mut rng);
        owner.add_nodes((1..12).map(node));
        assert_eq!(owner.nodes.len(), MAX_NETWORK_NODES);
        let link = owner.invite(NetworkRole::Device, 30, "Ann", NOW, &mut rng);
        let link = link.unwrap();
        let text = link.to_string();
        assert_eq!(text.parse(), Ok(link.clone()));
        assert!(text.len() <= MAX_LINK);
        for cut in 0..text.len() {
            assert!(text[..cut].parse::<NetworkLink>().is_err(), "{cut}");
        }
        assert_eq!(
            "ahoy:x".parse::<NetworkLink>(),
            Err(NetworkLinkError::NoLink)
        );
        assert!(!format!("{link:?}{owner:?}").contains(&text[20..40]));
    }

    #[test]
    fn what_is_kept_comes_back() {
        let mut rng = ChaCha20Rng::from_seed([2; 32]);
        let mut owner = Membership::found("Us", NOW, &mut rng);
        owner.add_nodes([node(1)]);
        let link = owner
            .invite(NetworkRole::Device, 30, "Ann", NOW, &mut rng)
            .unwrap();
        owner.revoke("Ann").unwrap();
        for kept in [owner, Membership::join(link, true, &mut rng)] {
            let bytes = kept.to_secret_bytes();
            let read = Membership::from_secret_bytes(&bytes).unwrap();
            assert_eq!(read, kept);
            for cut in 0..bytes.len() {
                assert!(Membership::from_secret_bytes(&bytes[..cut]).is_err());
            }
        }
    }

    #[test]
    fn invites_are_taken_back_by_name_or_number_and_only_where_the_key_is() {
        let mut rng = ChaCha20Rng::from_seed([3; 32]);
        let mut owner = Membership::found("Us", NOW, &mut rng);
        assert_eq!(owner.revoked(), None);
        let mut invite = |owner: &mut Membership, label| {
            owner.invite(NetworkRole::Device, 1, label, NOW, &mut rng)
        };
        let ann = invite(&mut owner, "Ann").unwrap();
        invite(&mut owner, "Bo").unwrap();
        invite(&mut owner, "Bo").unwrap();
        let unknown = owner.revoke("Cid").unwrap_err();
        assert_eq!(unknown, OwnerError::Unknown("Cid".into()));
        let ambiguous = owner.revoke("Bo").unwrap_err();
        assert_eq!(ambiguous, OwnerError::Ambiguous("Bo".into()));
        let (issued, list) = owner.revoke("Ann").unwrap();
        assert!(list.has(&issued.invite) && list.seq() == 1);
        assert_eq!(issued.invite, ann.invite.certificate().invite);
        let number = owner.issued()[1].short();
        let (_, list) = owner.revoke(&number).unwrap();
        assert!(list.seq() == 2 && list.invites().len() == 2);
        let mut guest = Membership::join(ann, false, &mut ChaCha20Rng::from_seed([4; 32]));
        assert!(matches!(guest.revoke("Ann"), Err(OwnerError::NoKey(_))));
        // What is over is forgotten.
        let later = NOW + 2 * DAY_MILLIS;
        owner
            .invite(NetworkRole::Device, 1, "", later, &mut rng)
            .unwrap();
        assert_eq!(owner.issued().len(), 1);
    }
}
