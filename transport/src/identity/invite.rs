//! Invites: a link's right to ring.
//!
//! An [`Invite`] is a secret key that a person, or one of the person's devices, signed with an expiry. It
//! travels in a link. Whoever holds it calls with an [`InviteProof`], which is bound to the calling device:
//! the home through which the call goes can check it, and so can anybody who recorded it, but neither can
//! use it.
//!
//! ```text
//! invite: | ver=1 | token seed (32) | not after u64 Unix ms | issuer | signature (64) |
//! proof:  | ver=1 | token key (32)  | not after u64 Unix ms | issuer | signature (64) | use (64) |
//! issuer: | 0 |, the root at the log's head, or | 1 | device (32) |
//! ```
//! The signature (domain `ahoy/1 invite`) is the issuer's over host's user id, token key, not after, issuer.
//! The use (domain `ahoy/1 invite use`) is the token key's over host's user id and guest's device id. As
//! text an invite is z-base-32. Revoking is the host's own list of token keys.

#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::cast_possible_truncation)
)]

use std::{fmt, str::FromStr};

use ed25519_dalek::SigningKey;
use rand_core::CryptoRngCore;
use zeroize::Zeroizing;

use super::{
    DeviceId, ID_LEN, UserId,
    certificate::{DeviceSet, Issuer},
    log::{DeviceLog, LogSigner},
    signature::{self, Domain, SIGNATURE_LEN, verify_signature},
};
use crate::wire::{Reader, WireError, Writer};

/// Length of the longest invite as text, in characters.
pub const MAX_INVITE_TEXT: usize = (MAX_INVITE_LEN * 8).div_ceil(5);
/// Length of the longest [`InviteProof`], in bytes.
pub const MAX_INVITE_PROOF_LEN: usize = MAX_INVITE_LEN + SIGNATURE_LEN;

const MAX_INVITE_LEN: usize = 1 + 32 + 8 + 1 + ID_LEN + SIGNATURE_LEN;
const VERSION: u8 = 1;
const DOMAIN: Domain = Domain::new("ahoy/1 invite");
const USE_DOMAIN: Domain = Domain::new("ahoy/1 invite use");
const ISSUER_ROOT: u8 = 0;
const ISSUER_DEVICE: u8 = 1;

/// Names an invite, in public: its token key.
pub type InviteId = [u8; 32];

/// Why an invite does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InviteError {
    /// Not an invite in a form that this version defines.
    #[error("the invite cannot be read: {0}")]
    Malformed(WireError),
    /// Made by a newer program.
    #[error("the invite has version {0}, which this program does not know; update ahoy")]
    UnknownVersion(u8),
    /// Its time is over.
    #[error("the invite expired; ask for a new one")]
    Expired,
    /// The issuer does not, or no longer, speak for the person.
    #[error("the invite was not made by this person")]
    NotEntitled,
    /// The issuer did not sign it.
    #[error("the invite has a wrong signature")]
    WrongSignature,
    /// It was presented by a device that does not hold it.
    #[error("the invite was not given to this caller")]
    WrongGuest,
}

impl From<WireError> for InviteError {
    fn from(error: WireError) -> Self {
        error.by_version(Self::UnknownVersion, Self::Malformed)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Terms {
    not_after_millis: u64,
    device: Option<DeviceId>,
    signature: [u8; SIGNATURE_LEN],
}

impl Terms {
    fn write(&self, out: &mut Vec<u8>) {
        write_terms(self.not_after_millis, self.device, out);
        out.put_bytes(&self.signature);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, InviteError> {
        let not_after_millis = reader.u64()?;
        let device = match reader.u8()? {
            ISSUER_ROOT => None,
            ISSUER_DEVICE => Some(DeviceId(reader.array()?)),
            _undefined => return Err(WireError::Undefined.into()),
        };
        Ok(Self {
            not_after_millis,
            device,
            signature: reader.array()?,
        })
    }
}

fn write_terms(not_after_millis: u64, device: Option<DeviceId>, out: &mut Vec<u8>) {
    out.put_u64(not_after_millis);
    match device {
        None => out.put_u8(ISSUER_ROOT),
        Some(device) => {
            out.put_u8(ISSUER_DEVICE);
            out.put_bytes(device.as_bytes());
        }
    }
}

fn message(
    host: UserId,
    token: &InviteId,
    not_after_millis: u64,
    device: Option<DeviceId>,
) -> Vec<u8> {
    let mut message = Vec::new();
    message.put_bytes(host.as_bytes());
    message.put_bytes(token);
    write_terms(not_after_millis, device, &mut message);
    message
}

fn use_message(host: UserId, guest: DeviceId) -> Vec<u8> {
    [host.0, guest.0].concat()
}

/// An invite, with the secret that makes it usable. Wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Invite {
    key: SigningKey,
    terms: Terms,
}

impl Invite {
    /// Makes an invite to `host`, valid until `not_after_millis` (Unix). The signer must be the root, or a
    /// device, at the head of the host's log.
    #[must_use]
    pub fn issue(
        host: UserId,
        signer: LogSigner<'_>,
        not_after_millis: u64,
        rng: &mut dyn CryptoRngCore,
    ) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *seed);
        let key = SigningKey::from_bytes(&seed);
        let token = key.verifying_key().to_bytes();
        let device = match signer {
            LogSigner::Root(_) => None,
            LogSigner::Device(keys) => Some(keys.id()),
        };
        let message = message(host, &token, not_after_millis, device);
        let signature = match signer {
            LogSigner::Root(root) => root.sign(DOMAIN, &message),
            LogSigner::Device(keys) => keys.sign(DOMAIN, &message),
        };
        Self {
            key,
            terms: Terms {
                not_after_millis,
                device,
                signature,
            },
        }
    }

    /// The invite's public name, under which the host can revoke it.
    #[must_use]
    pub fn id(&self) -> InviteId {
        self.key.verifying_key().to_bytes()
    }

    /// Until when it counts, Unix milliseconds.
    #[must_use]
    pub fn not_after_millis(&self) -> u64 {
        self.terms.not_after_millis
    }

    /// Shows `host` that the device `guest` holds this invite.
    #[must_use]
    pub fn present(&self, host: UserId, guest: DeviceId) -> InviteProof {
        InviteProof {
            token: self.id(),
            terms: self.terms,
            used: signature::sign(&self.key, USE_DOMAIN, &use_message(host, guest)),
        }
    }

    /// The invite with its secret, as it is stored and, in z-base-32, written into links.
    #[must_use]
    pub fn to_secret_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_INVITE_LEN));
        bytes.put_u8(VERSION);
        bytes.put_bytes(self.key.as_bytes());
        self.terms.write(&mut bytes);
        bytes
    }

    /// Reads an invite without judging it.
    ///
    /// # Errors
    /// [`InviteError::Malformed`] or [`InviteError::UnknownVersion`].
    pub fn from_secret_bytes(bytes: &[u8]) -> Result<Self, InviteError> {
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            VERSION => {}
            other => return Err(InviteError::UnknownVersion(other)),
        }
        let seed: Zeroizing<[u8; 32]> = Zeroizing::new(reader.array()?);
        let terms = Terms::read(&mut reader)?;
        reader.finish()?;
        Ok(Self {
            key: SigningKey::from_bytes(&seed),
            terms,
        })
    }
}

impl fmt::Display for Invite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&z32::encode(&self.to_secret_bytes()))
    }
}

impl fmt::Debug for Invite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Invite(secret)")
    }
}

impl FromStr for Invite {
    type Err = InviteError;

    fn from_str(text: &str) -> Result<Self, InviteError> {
        if text.len() > MAX_INVITE_TEXT {
            return Err(WireError::TooLong.into());
        }
        let bytes = z32::decode(text.as_bytes()).map_err(|_not_z32| WireError::Undefined)?;
        let invite = Self::from_secret_bytes(&bytes)?;
        // One spelling: leftover bits are zero.
        if invite.to_string() == text {
            Ok(invite)
        } else {
            Err(WireError::Undefined.into())
        }
    }
}

/// What a caller shows to count as invited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InviteProof {
    token: InviteId,
    terms: Terms,
    used: [u8; SIGNATURE_LEN],
}

impl InviteProof {
    /// The proof as it is sent.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(MAX_INVITE_PROOF_LEN);
        bytes.put_u8(VERSION);
        bytes.put_bytes(&self.token);
        self.terms.write(&mut bytes);
        bytes.put_bytes(&self.used);
        bytes
    }

    /// Reads a proof without judging it.
    ///
    /// # Errors
    /// [`InviteError::Malformed`] or [`InviteError::UnknownVersion`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InviteError> {
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            VERSION => {}
            other => return Err(InviteError::UnknownVersion(other)),
        }
        let proof = Self {
            token: reader.array()?,
            terms: Terms::read(&mut reader)?,
            used: reader.array()?,
        };
        reader.finish()?;
        Ok(proof)
    }

    /// Checks the proof: somebody who speaks for the person of `log` invited whoever runs `guest`, and the
    /// invite has not expired. Whether it was revoked only the host knows: look the returned id up.
    ///
    /// # Errors
    /// One variant per reason.
    pub fn verify(
        &self,
        now_millis: u64,
        log: &DeviceLog,
        guest: DeviceId,
    ) -> Result<InviteId, InviteError> {
        let host = log.user();
        let key = match &self.terms.device {
            None => log.root(),
            Some(device) if log.may_issue(Issuer::Device(*device)) => device.as_bytes(),
            Some(_) => return Err(InviteError::NotEntitled),
        };
        let message = message(
            host,
            &self.token,
            self.terms.not_after_millis,
            self.terms.device,
        );
        if !verify_signature(key, DOMAIN, &message, &self.terms.signature) {
            return Err(InviteError::WrongSignature);
        }
        if !verify_signature(
            &self.token,
            USE_DOMAIN,
            &use_message(host, guest),
            &self.used,
        ) {
            return Err(InviteError::WrongGuest);
        }
        if self.terms.not_after_millis <= now_millis {
            return Err(InviteError::Expired);
        }
        Ok(self.token)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::identity::{DeviceKeys, RootKey, log::LogOp};

    const NOW: u64 = 1_800_000_000_000;
    const GUEST: DeviceId = DeviceId([7; 32]);

    fn rng(seed: u8) -> ChaCha20Rng {
        ChaCha20Rng::from_seed([seed; 32])
    }

    fn host() -> (RootKey, DeviceKeys, DeviceLog) {
        let root = RootKey::from_seed(&[1; 32]);
        let keys = DeviceKeys::generate(&mut rng(1), NOW);
        let log = DeviceLog::create(&root, &keys, NOW);
        (root, keys, log)
    }

    fn invite(end: u64) -> Invite {
        let (root, _keys, log) = host();
        Invite::issue(log.user(), LogSigner::Root(&root), end, &mut rng(5))
    }

    #[test]
    fn an_invite_counts_until_it_expires() {
        let (_root, keys, log) = host();
        let by_device = Invite::issue(log.user(), LogSigner::Device(&keys), NOW + 10, &mut rng(6));
        for invite in [invite(NOW + 10), by_device] {
            let proof = invite.present(log.user(), GUEST);
            let proof = InviteProof::from_bytes(&proof.to_bytes()).unwrap();
            assert_eq!(proof.verify(NOW, &log, GUEST), Ok(invite.id()));
            assert_eq!(
                proof.verify(NOW + 10, &log, GUEST),
                Err(InviteError::Expired)
            );
        }
    }

    #[test]
    fn a_home_that_saw_a_proof_cannot_use_it() {
        let (_root, _keys, log) = host();
        let proof = invite(NOW + 10).present(log.user(), GUEST);
        assert_eq!(
            proof.verify(NOW, &log, DeviceId([8; 32])),
            Err(InviteError::WrongGuest)
        );
        let bytes = proof.to_bytes();
        let seed = invite(NOW + 10).key.to_bytes();
        assert!(
            !bytes.windows(32).any(|window| window == seed),
            "the secret stays with the guest"
        );
    }

    #[test]
    fn an_invite_by_nobody_entitled_counts_for_nothing() {
        let (root, keys, mut log) = host();
        let stranger = DeviceKeys::generate(&mut rng(9), NOW);
        let forged = Invite::issue(
            log.user(),
            LogSigner::Device(&stranger),
            NOW + 10,
            &mut rng(6),
        );
        assert_eq!(
            forged.present(log.user(), GUEST).verify(NOW, &log, GUEST),
            Err(InviteError::NotEntitled)
        );
        let other = RootKey::from_seed(&[2; 32]);
        let forged = Invite::issue(log.user(), LogSigner::Root(&other), NOW + 10, &mut rng(6));
        assert_eq!(
            forged.present(log.user(), GUEST).verify(NOW, &log, GUEST),
            Err(InviteError::WrongSignature)
        );
        let by_device = Invite::issue(log.user(), LogSigner::Device(&keys), NOW + 10, &mut rng(6));
        log.append(LogOp::RevokeDevice(keys.id()), LogSigner::Root(&root), NOW)
            .unwrap();
        assert_eq!(
            by_device
                .present(log.user(), GUEST)
                .verify(NOW, &log, GUEST),
            Err(InviteError::NotEntitled),
            "a revoked device's invites go with it"
        );
    }

    #[test]
    fn the_bytes_stay_what_they_are() {
        let invite = invite(NOW);
        let bytes = invite.to_secret_bytes();
        assert_eq!(bytes.len(), 1 + 32 + 8 + 1 + 64);
        assert_eq!(bytes[33..41], NOW.to_be_bytes());
        assert_eq!(bytes[41], 0);
        assert_eq!(
            z32::encode(&Sha256::digest(&*bytes)),
            "7mbjzcz49qjfhnmmnairkk6c3iopnjw3srfsfrfosssf7fwoz56o"
        );
        let proof = invite.present(host().2.user(), GUEST).to_bytes();
        assert_eq!(
            z32::encode(&Sha256::digest(&proof)),
            "bog7ksb3ykc6783cgmuz7gyborthi66rqww5rkcdz6hanabh7r1y"
        );
        assert_eq!(invite.to_string().len(), 170);
        assert_eq!(format!("{invite:?}"), "Invite(secret)");
    }

    proptest! {
        #[test]
        fn invites_round_trip(end: u64, seed: u8, by_device: bool) {
            let (root, keys, log) = host();
            let signer = if by_device { LogSigner::Device(&keys) } else { LogSigner::Root(&root) };
            let invite = Invite::issue(log.user(), signer, end, &mut rng(seed));
            prop_assert_eq!(invite.to_string().parse(), Ok(invite.clone()));
            prop_assert!(invite.to_string().len() <= MAX_INVITE_TEXT);
            let proof = invite.present(log.user(), GUEST);
            prop_assert_eq!(InviteProof::from_bytes(&proof.to_bytes()), Ok(proof));
        }

        #[test]
        fn garbage_counts_for_nothing(mut bytes in prop::collection::vec(any::<u8>(), 0..250), text: String) {
            prop_assert!(text.parse::<Invite>().is_err());
            if let Ok(invite) = Invite::from_secret_bytes(&bytes) {
                prop_assert_eq!(&invite.to_secret_bytes()[..], &bytes[..]);
            }
            bytes.resize(1 + 32 + 8 + 1 + 64 + 64, 0);
            bytes[0] = 1;
            bytes[41] = 0;
            let proof = InviteProof::from_bytes(&bytes).unwrap();
            prop_assert!(proof.verify(0, &host().2, GUEST).is_err());
        }

        #[test]
        fn one_spelling_per_invite(at in 0usize..170, with in "[ybndrfg8ejkmcpqxot1uwisza345h769]") {
            let text = invite(NOW).to_string();
            let mut changed = text.clone();
            changed.replace_range(at..=at, &with);
            if let Ok(other) = changed.parse::<Invite>() {
                prop_assert_eq!(other.to_string(), changed);
            }
        }
    }
}
