//! Private networks: supernodes that serve nobody else, and those who may come.
//!
//! A *network* is an Ed25519 key ([`NetworkKey`]) that one person keeps. It signs one [`NetworkCertificate`] for each *invite*,
//! over a key that is drawn for that invite and travels in it ([`NetworkInvite`]). Nobody needs to be asked when an invite is
//! redeemed, and the network's key need not be on any machine that serves: whoever holds the invite draws a *member key* and
//! has the invite's key sign it ([`NetworkInvite::redeem`]). That key is then forgotten, and the member key signs the Noise key
//! of each handshake ([`NetworkMember::pass`]).
//!
//! Invites travel by mail and chat, where others may read them later. So an invite is bound to the member key that it was
//! first used with: supernodes remember that, and tell each other. Whoever copies a link later is refused; whoever was quicker
//! than the one it was meant for is found out, since that one is refused then, and the invite can be revoked.
//!
//! ```text
//! certificate: | ver=1 | network 32 | invite key 32 | role u8 | not after u64 Unix ms | signature 64 |
//! pass:        | certificate | member key 32 | signature of the invite's key 64 | signature of the member key 64 |
//! credential:  | 0xfe | varint length, pass | device certificate, or nothing |
//! invite:      | seed of the invite key 32 | certificate |
//! member:      | seed of the member key 32 | certificate | signature of the invite's key 64 |
//! revoked:     | ver=1 | network 32 | seq u64 | u16 count | invite keys, ascending, 32 each | signature 64 |
//! ```
//! The network's key signs certificates (domain `ahoy/1 network certificate`) and the list of revoked invites (`ahoy/1 network
//! revoked`); the invite's key signs network and member key (`ahoy/1 network member`), the member key network, invite key and
//! Noise key (`ahoy/1 network pass`). So a pass says nothing without the Noise key that the handshake proves.

#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::cast_possible_truncation)
)]

use std::{collections::BTreeSet, fmt};

use ed25519_dalek::SigningKey;
use rand_core::CryptoRngCore;
use zeroize::Zeroizing;

use super::{
    ID_LEN, NetworkId,
    certificate::MAX_CERTIFICATE_LEN,
    signature::{self, Domain, SIGNATURE_LEN, verify_signature},
};
use crate::wire::{Reader, WireError, Writer};

/// Length of a certificate, in bytes.
pub const NETWORK_CERTIFICATE_LEN: usize = 1 + 2 * ID_LEN + 1 + 8 + SIGNATURE_LEN;
/// Length of a pass, in bytes.
pub const NETWORK_PASS_LEN: usize = NETWORK_CERTIFICATE_LEN + ID_LEN + 2 * SIGNATURE_LEN;
/// Length of an invite, in bytes.
pub const NETWORK_INVITE_LEN: usize = ID_LEN + NETWORK_CERTIFICATE_LEN;
/// Length of a member's secret, in bytes.
pub const NETWORK_MEMBER_LEN: usize = ID_LEN + NETWORK_CERTIFICATE_LEN + SIGNATURE_LEN;
/// Invites that can be revoked at once. Those that have expired need not be in the list.
pub const MAX_REVOKED: usize = 1024;
/// Length of the longest [`RevokedInvites`], in bytes.
pub const MAX_REVOKED_LEN: usize = 1 + ID_LEN + 8 + 2 + MAX_REVOKED * ID_LEN + SIGNATURE_LEN;
/// Longest life of an invite: two years. Nobody remembers what was given away before.
pub const MAX_INVITE_DAYS: u32 = 731;

const VERSION: u8 = 1;
/// No version of a device certificate, which stands alone where no network is.
const CREDENTIAL: u8 = 0xfe;
const CERTIFICATE_DOMAIN: Domain = Domain::new("ahoy/1 network certificate");
const MEMBER_DOMAIN: Domain = Domain::new("ahoy/1 network member");
const PASS_DOMAIN: Domain = Domain::new("ahoy/1 network pass");
const REVOKED_DOMAIN: Domain = Domain::new("ahoy/1 network revoked");

/// Names an invite, in public.
pub type NetworkInviteId = [u8; ID_LEN];

/// Why somebody does not belong to a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// Not in a form that this version defines.
    #[error("it cannot be read: {0}")]
    Malformed(WireError),
    /// Made by a newer program.
    #[error("it has version {0}, which this program does not know; update ahoy")]
    UnknownVersion(u8),
    /// The certificate is another network's.
    #[error("it is for another network")]
    OtherNetwork,
    /// The certificate's time is over.
    #[error("it expired")]
    Expired,
    /// The certificate was taken back.
    #[error("it was revoked")]
    Revoked,
    /// A signature is wrong, or the pass is for another key than the one that was proved.
    #[error("it is not this device's")]
    WrongSignature,
    /// Somebody else redeemed the invite first.
    #[error("somebody else used the invite before")]
    Taken,
}

impl From<WireError> for NetworkError {
    fn from(error: WireError) -> Self {
        error.by_version(Self::UnknownVersion, Self::Malformed)
    }
}

/// What a member may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NetworkRole {
    /// Be registered, look others up, use relays.
    Device,
    /// Serve the network's devices as well, and be told of to them.
    Supernode,
}

impl NetworkRole {
    fn to_wire(self) -> u8 {
        match self {
            Self::Device => 0,
            Self::Supernode => 1,
        }
    }

    fn from_wire(role: u8) -> Result<Self, WireError> {
        match role {
            0 => Ok(Self::Device),
            1 => Ok(Self::Supernode),
            _undefined => Err(WireError::Undefined),
        }
    }
}

/// The key that makes a network. Wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct NetworkKey(SigningKey);

impl NetworkKey {
    /// A new network.
    #[must_use]
    pub fn generate(rng: &mut dyn CryptoRngCore) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *seed);
        Self::from_seed(&seed)
    }

    /// The network of this seed.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// What it is made of, to be kept.
    #[must_use]
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The network's name.
    #[must_use]
    pub fn id(&self) -> NetworkId {
        NetworkId(self.0.verifying_key().to_bytes())
    }

    /// An invite for one member, which counts until `not_after_millis` (Unix).
    #[must_use]
    pub fn invite(
        &self,
        role: NetworkRole,
        not_after_millis: u64,
        rng: &mut dyn CryptoRngCore,
    ) -> NetworkInvite {
        let mut seed = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *seed);
        let key = SigningKey::from_bytes(&seed);
        let mut certificate = NetworkCertificate {
            network: self.id(),
            invite: key.verifying_key().to_bytes(),
            role,
            not_after_millis,
            signature: [0; SIGNATURE_LEN],
        };
        certificate.signature =
            signature::sign(&self.0, CERTIFICATE_DOMAIN, &certificate.signed_part());
        NetworkInvite { key, certificate }
    }

    /// Takes these invites back; what is in no later list counts again. At most [`MAX_REVOKED`] of them count, and each list
    /// needs a higher `seq`.
    #[must_use]
    pub fn revoke(&self, seq: u64, invites: &BTreeSet<NetworkInviteId>) -> RevokedInvites {
        let mut revoked = RevokedInvites {
            network: self.id(),
            seq,
            invites: invites.iter().take(MAX_REVOKED).copied().collect(),
            signature: [0; SIGNATURE_LEN],
        };
        revoked.signature = signature::sign(&self.0, REVOKED_DOMAIN, &revoked.signed_part());
        revoked
    }
}

impl fmt::Debug for NetworkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NetworkKey({:?})", self.id())
    }
}

/// What the network's key says of one invite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetworkCertificate {
    /// The network.
    pub network: NetworkId,
    /// The invite's key.
    pub invite: NetworkInviteId,
    /// What its holder may do.
    pub role: NetworkRole,
    /// Until when it counts, Unix milliseconds.
    pub not_after_millis: u64,
    signature: [u8; SIGNATURE_LEN],
}

impl NetworkCertificate {
    fn signed_part(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(NETWORK_CERTIFICATE_LEN);
        out.put_u8(VERSION);
        out.put_bytes(self.network.as_bytes());
        out.put_bytes(&self.invite);
        out.put_u8(self.role.to_wire());
        out.put_u64(self.not_after_millis);
        out
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.put_bytes(&self.signed_part());
        out.put_bytes(&self.signature);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        match reader.u8()? {
            VERSION => {}
            other => return Err(WireError::Version(other)),
        }
        Ok(Self {
            network: NetworkId(reader.array()?),
            invite: reader.array()?,
            role: NetworkRole::from_wire(reader.u8()?)?,
            not_after_millis: reader.u64()?,
            signature: reader.array()?,
        })
    }

    /// Whether it counts for `network` now.
    ///
    /// # Errors
    /// One variant per reason.
    pub fn verify(&self, network: NetworkId, now_millis: u64) -> Result<(), NetworkError> {
        if self.network != network {
            return Err(NetworkError::OtherNetwork);
        }
        let signed = self.signed_part();
        if !verify_signature(&network.0, CERTIFICATE_DOMAIN, &signed, &self.signature) {
            return Err(NetworkError::WrongSignature);
        }
        if self.not_after_millis <= now_millis {
            return Err(NetworkError::Expired);
        }
        Ok(())
    }
}

fn member_message(network: NetworkId, member: &[u8; ID_LEN]) -> Vec<u8> {
    [network.0, *member].concat()
}

fn pass_message(network: NetworkId, invite: &NetworkInviteId, noise_static: &[u8; 32]) -> Vec<u8> {
    [network.0, *invite, *noise_static].concat()
}

/// An invite, with the secret that makes it usable. Wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct NetworkInvite {
    key: SigningKey,
    certificate: NetworkCertificate,
}

impl NetworkInvite {
    /// What the network says of it.
    #[must_use]
    pub fn certificate(&self) -> &NetworkCertificate {
        &self.certificate
    }

    /// Becomes a member; the invite is worth nothing to others once a supernode has seen that.
    #[must_use]
    pub fn redeem(self, rng: &mut dyn CryptoRngCore) -> NetworkMember {
        let mut seed = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *seed);
        let key = SigningKey::from_bytes(&seed);
        let message = member_message(self.certificate.network, key.verifying_key().as_bytes());
        NetworkMember {
            key,
            certificate: self.certificate,
            redeemed: signature::sign(&self.key, MEMBER_DOMAIN, &message),
        }
    }

    /// The invite with its secret, as it stands in links.
    #[must_use]
    pub fn to_secret_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(NETWORK_INVITE_LEN));
        out.put_bytes(self.key.as_bytes());
        self.certificate.write(&mut out);
        out
    }

    /// Reads an invite, whose certificate must be its network's.
    ///
    /// # Errors
    /// When it cannot be read, or is nobody's.
    pub fn from_secret_bytes(bytes: &[u8]) -> Result<Self, NetworkError> {
        let mut reader = Reader::new(bytes);
        let seed: Zeroizing<[u8; 32]> = Zeroizing::new(reader.array()?);
        let certificate = NetworkCertificate::read(&mut reader)?;
        reader.finish()?;
        let key = SigningKey::from_bytes(&seed);
        // Whether it is over is judged when it is used.
        certificate.verify(certificate.network, 0)?;
        if key.verifying_key().to_bytes() != certificate.invite {
            return Err(NetworkError::WrongSignature);
        }
        Ok(Self { key, certificate })
    }
}

impl fmt::Debug for NetworkInvite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NetworkInvite(secret)")
    }
}

/// One member's right to come. Wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct NetworkMember {
    key: SigningKey,
    certificate: NetworkCertificate,
    redeemed: [u8; SIGNATURE_LEN],
}

impl NetworkMember {
    /// What the network says of it.
    #[must_use]
    pub fn certificate(&self) -> &NetworkCertificate {
        &self.certificate
    }

    /// The pass for a handshake under this Noise key.
    #[must_use]
    pub fn pass(&self, noise_static: &[u8; 32]) -> Vec<u8> {
        let NetworkCertificate {
            network, invite, ..
        } = &self.certificate;
        let message = pass_message(*network, invite, noise_static);
        let mut out = Vec::with_capacity(NETWORK_PASS_LEN);
        self.certificate.write(&mut out);
        out.put_bytes(self.key.verifying_key().as_bytes());
        out.put_bytes(&self.redeemed);
        out.put_bytes(&signature::sign(&self.key, PASS_DOMAIN, &message));
        out
    }

    /// What is shown in a handshake under this Noise key: the pass, and the device's certificate where one is shown.
    #[must_use]
    pub fn credential(&self, noise_static: &[u8; 32], device: &[u8]) -> Vec<u8> {
        let pass = self.pass(noise_static);
        let mut out = Vec::with_capacity(3 + pass.len() + device.len());
        out.put_u8(CREDENTIAL);
        out.put_var_bytes(&pass);
        out.put_bytes(device);
        out
    }

    /// The secret, to be kept.
    #[must_use]
    pub fn to_secret_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(NETWORK_MEMBER_LEN));
        out.put_bytes(self.key.as_bytes());
        self.certificate.write(&mut out);
        out.put_bytes(&self.redeemed);
        out
    }

    /// Reads what [`Self::to_secret_bytes`] wrote.
    ///
    /// # Errors
    /// When it cannot be read, or is nobody's.
    pub fn from_secret_bytes(bytes: &[u8]) -> Result<Self, NetworkError> {
        let mut reader = Reader::new(bytes);
        let seed: Zeroizing<[u8; 32]> = Zeroizing::new(reader.array()?);
        let certificate = NetworkCertificate::read(&mut reader)?;
        let redeemed = reader.array()?;
        reader.finish()?;
        let key = SigningKey::from_bytes(&seed);
        let message = member_message(certificate.network, key.verifying_key().as_bytes());
        if !verify_signature(&certificate.invite, MEMBER_DOMAIN, &message, &redeemed) {
            return Err(NetworkError::WrongSignature);
        }
        Ok(Self {
            key,
            certificate,
            redeemed,
        })
    }
}

impl fmt::Debug for NetworkMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NetworkMember({:?})", self.certificate.network)
    }
}

/// What a member shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetworkPass {
    /// What the network says of the invite.
    pub certificate: NetworkCertificate,
    /// Who redeemed it.
    pub member: [u8; ID_LEN],
    redeemed: [u8; SIGNATURE_LEN],
    shown: [u8; SIGNATURE_LEN],
}

impl NetworkPass {
    /// Reads a pass without judging it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NetworkError> {
        let mut reader = Reader::new(bytes);
        let pass = Self {
            certificate: NetworkCertificate::read(&mut reader)?,
            member: reader.array()?,
            redeemed: reader.array()?,
            shown: reader.array()?,
        };
        reader.finish()?;
        Ok(pass)
    }

    /// As it was read.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(NETWORK_PASS_LEN);
        self.certificate.write(&mut out);
        out.put_bytes(&self.member);
        out.put_bytes(&self.redeemed);
        out.put_bytes(&self.shown);
        out
    }

    /// Whether it counts for `network` now, and was made for the Noise key that a handshake proved. Whether the invite was
    /// revoked, or used by somebody else before, a supernode knows.
    ///
    /// # Errors
    /// One variant per reason.
    pub fn verify(
        &self,
        network: NetworkId,
        noise_static: &[u8; 32],
        now_millis: u64,
    ) -> Result<(), NetworkError> {
        let certificate = &self.certificate;
        certificate.verify(network, now_millis)?;
        let member = member_message(network, &self.member);
        let shown = pass_message(network, &certificate.invite, noise_static);
        let genuine = verify_signature(&certificate.invite, MEMBER_DOMAIN, &member, &self.redeemed)
            && verify_signature(&self.member, PASS_DOMAIN, &shown, &self.shown);
        genuine.then_some(()).ok_or(NetworkError::WrongSignature)
    }
}

/// The two parts of what a client shows: the pass as it was sent, if there is one, and the device's certificate, which may be
/// empty then.
///
/// # Errors
/// When it begins like one with a pass and does not go on like one.
pub fn split_credential(credential: &[u8]) -> Result<(Option<&[u8]>, &[u8]), WireError> {
    let mut reader = Reader::new(credential);
    if credential.first() != Some(&CREDENTIAL) {
        return Ok((None, credential));
    }
    reader.u8()?;
    let pass = reader.var_bytes(NETWORK_PASS_LEN)?;
    let device = reader.rest();
    if device.len() > MAX_CERTIFICATE_LEN {
        return Err(WireError::TooLong);
    }
    Ok((Some(pass), device))
}

/// Invites that the network's key took back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokedInvites {
    network: NetworkId,
    seq: u64,
    invites: BTreeSet<NetworkInviteId>,
    signature: [u8; SIGNATURE_LEN],
}

impl RevokedInvites {
    fn signed_part(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(MAX_REVOKED_LEN);
        out.put_u8(VERSION);
        out.put_bytes(self.network.as_bytes());
        out.put_u64(self.seq);
        out.put_u16(u16::try_from(self.invites.len()).unwrap_or(u16::MAX));
        for invite in &self.invites {
            out.put_bytes(invite);
        }
        out
    }

    /// As it is sent.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.signed_part();
        out.put_bytes(&self.signature);
        out
    }

    /// Reads a list of `network`, and checks that its key signed it.
    ///
    /// # Errors
    /// One variant per reason.
    pub fn from_bytes(network: NetworkId, bytes: &[u8]) -> Result<Self, NetworkError> {
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            VERSION => {}
            other => return Err(NetworkError::UnknownVersion(other)),
        }
        if reader.array()? != network.0 {
            return Err(NetworkError::OtherNetwork);
        }
        let seq = reader.u64()?;
        let count = usize::from(reader.u16()?);
        if count > MAX_REVOKED {
            return Err(WireError::TooLong.into());
        }
        let mut invites = BTreeSet::new();
        let mut last: Option<NetworkInviteId> = None;
        for _ in 0..count {
            let invite = reader.array()?;
            if last.is_some_and(|last| last >= invite) {
                return Err(WireError::Undefined.into());
            }
            last = Some(invite);
            invites.insert(invite);
        }
        let signature = reader.array()?;
        reader.finish()?;
        let list = Self {
            network,
            seq,
            invites,
            signature,
        };
        if verify_signature(&network.0, REVOKED_DOMAIN, &list.signed_part(), &signature) {
            Ok(list)
        } else {
            Err(NetworkError::WrongSignature)
        }
    }

    /// Which list it is; a later one has more.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Whether the invite was taken back.
    #[must_use]
    pub fn has(&self, invite: &NetworkInviteId) -> bool {
        self.invites.contains(invite)
    }

    /// All of them.
    #[must_use]
    pub fn invites(&self) -> &BTreeSet<NetworkInviteId> {
        &self.invites
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    use super::*;

    const NOW: u64 = 1_795_402_806_513;
    const DAY: u64 = 86_400_000;

    fn member(key: &NetworkKey, rng: &mut ChaCha20Rng) -> NetworkMember {
        key.invite(NetworkRole::Device, NOW + DAY, rng).redeem(rng)
    }

    #[test]
    fn a_pass_counts_for_its_network_its_time_and_its_key_alone() {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let (key, other) = (
            NetworkKey::generate(&mut rng),
            NetworkKey::generate(&mut rng),
        );
        let member = member(&key, &mut rng);
        let bytes = member.pass(&[7; 32]);
        assert_eq!(bytes.len(), NETWORK_PASS_LEN);
        let pass = NetworkPass::from_bytes(&bytes).unwrap();
        assert_eq!(pass.to_bytes(), bytes);
        assert_eq!(pass.verify(key.id(), &[7; 32], NOW), Ok(()));
        let verify = |network: &NetworkKey, noise: u8, now: u64| {
            pass.verify(network.id(), &[noise; 32], now).unwrap_err()
        };
        assert_eq!(verify(&other, 7, NOW), NetworkError::OtherNetwork);
        assert_eq!(verify(&key, 8, NOW), NetworkError::WrongSignature);
        assert_eq!(verify(&key, 7, NOW + DAY), NetworkError::Expired);
        // Every bit counts.
        for at in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[at] ^= 1;
            let judged = NetworkPass::from_bytes(&altered)
                .and_then(|pass| pass.verify(key.id(), &[7; 32], NOW));
            assert!(judged.is_err(), "byte {at}");
        }
    }

    #[test]
    fn whoever_has_the_pass_alone_cannot_make_another() {
        let mut rng = ChaCha20Rng::from_seed([2; 32]);
        let key = NetworkKey::generate(&mut rng);
        let (honest, thief) = (member(&key, &mut rng), member(&key, &mut rng));
        let pass = NetworkPass::from_bytes(&honest.pass(&[7; 32])).unwrap();
        let own = NetworkPass::from_bytes(&thief.pass(&[8; 32])).unwrap();
        let mixed = NetworkPass {
            certificate: pass.certificate,
            redeemed: pass.redeemed,
            ..own
        };
        let judged = mixed.verify(key.id(), &[8; 32], NOW);
        assert_eq!(judged, Err(NetworkError::WrongSignature));
    }

    #[test]
    fn secrets_come_back_as_they_were_kept() {
        let mut rng = ChaCha20Rng::from_seed([3; 32]);
        let key = NetworkKey::generate(&mut rng);
        assert_eq!(NetworkKey::from_seed(&key.seed()).id(), key.id());
        let invite = key.invite(NetworkRole::Supernode, NOW, &mut rng);
        let bytes = invite.to_secret_bytes();
        assert_eq!(bytes.len(), NETWORK_INVITE_LEN);
        assert_eq!(NetworkInvite::from_secret_bytes(&bytes).unwrap(), invite);
        for at in 0..bytes.len() {
            let mut altered = bytes.to_vec();
            altered[at] ^= 1;
            assert!(NetworkInvite::from_secret_bytes(&altered).is_err());
        }
        let member = invite.redeem(&mut rng);
        let bytes = member.to_secret_bytes();
        assert_eq!(bytes.len(), NETWORK_MEMBER_LEN);
        assert_eq!(NetworkMember::from_secret_bytes(&bytes).unwrap(), member);
        assert!(!format!("{member:?}{key:?}").contains("seed"));
    }

    #[test]
    fn credentials_fall_into_their_parts() {
        let mut rng = ChaCha20Rng::from_seed([4; 32]);
        let key = NetworkKey::generate(&mut rng);
        let member = member(&key, &mut rng);
        let both = member.credential(&[7; 32], b"\x01device");
        let (pass, device) = split_credential(&both).unwrap();
        assert_eq!(pass, Some(member.pass(&[7; 32]).as_slice()));
        assert_eq!(device, b"\x01device");
        assert_eq!(
            split_credential(b"\x01device"),
            Ok((None, &b"\x01device"[..]))
        );
        assert_eq!(split_credential(b""), Ok((None, &b""[..])));
        assert!(split_credential(&both[..40]).is_err());
    }

    #[test]
    fn the_list_of_revoked_invites_is_the_networks_and_in_order() {
        let mut rng = ChaCha20Rng::from_seed([5; 32]);
        let key = NetworkKey::generate(&mut rng);
        let invites: BTreeSet<NetworkInviteId> = (0..3).map(|n| [n; 32]).collect();
        let list = key.revoke(4, &invites);
        let bytes = list.to_bytes();
        let read = RevokedInvites::from_bytes(key.id(), &bytes).unwrap();
        assert_eq!(read, list);
        assert!(read.has(&[2; 32]) && !read.has(&[3; 32]));
        assert_eq!(read.seq(), 4);
        let other = NetworkKey::generate(&mut rng).id();
        let refused = RevokedInvites::from_bytes(other, &bytes);
        assert_eq!(refused, Err(NetworkError::OtherNetwork));
        for at in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[at] ^= 1;
            assert!(RevokedInvites::from_bytes(key.id(), &altered).is_err());
        }
        let many: BTreeSet<NetworkInviteId> = (0..2000_u16)
            .map(|n| {
                let mut id = [0; 32];
                id[..2].copy_from_slice(&n.to_be_bytes());
                id
            })
            .collect();
        let longest = key.revoke(5, &many).to_bytes();
        assert_eq!(longest.len(), MAX_REVOKED_LEN);
        assert!(RevokedInvites::from_bytes(key.id(), &longest).is_ok());
    }
}
