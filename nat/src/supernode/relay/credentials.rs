//! Short-lived long-term credentials (RFC 8489 section 9.2), random per registration.

use std::{
    collections::HashMap,
    fmt,
    time::{Duration, Instant},
};

use rand_core::RngCore;
use zeroize::Zeroizing;

use crate::stun::{IntegrityKey, long_term_key};

/// Credentials alive at once: four for each of 32 768 registered devices on average one; the table is the
/// first thing a flood of registrations would fill.
pub const MAX_CREDENTIALS: usize = 65_536;

/// Part of the table that anonymous connections may fill, so that they cannot keep registered devices out.
pub const MAX_ANONYMOUS_CREDENTIALS: usize = MAX_CREDENTIALS / 4;

/// Credentials alive per owner. A fifth replaces the oldest that has no allocation: a client fetches new ones
/// when it registers again, long before the old ones expire.
pub const MAX_CREDENTIALS_PER_OWNER: usize = 4;

/// How long a credential can start allocations. One that still has an allocation lives on with it.
pub const CREDENTIAL_LIFETIME: Duration = Duration::from_secs(2 * 3600);

/// What a client needs to allocate in one round trip.
#[derive(Clone, PartialEq, Eq)]
pub struct TurnCredentials {
    /// USERNAME: random, tells nothing about the owner. ASCII, at most 64 bytes.
    pub username: String,
    /// The password. ASCII, at most 64 bytes.
    pub password: String,
    /// REALM of the relay; empty if not known in advance. At most 128 bytes.
    pub realm: String,
    /// A NONCE that is already good for the address the client was seen from; empty if not known in
    /// advance, then the first Allocate learns realm and nonce from a 401. At most 128 bytes.
    pub nonce: String,
    /// How long the credential can start allocations, from now.
    pub lifetime: Duration,
}

impl fmt::Debug for TurnCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TurnCredentials")
            .field("username", &self.username)
            .field("realm", &self.realm)
            .field("lifetime", &self.lifetime)
            .finish_non_exhaustive()
    }
}

/// Whom a credential was issued to; quotas count per owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CredentialOwner {
    /// A device registered here, by its id.
    Device([u8; 32]),
    /// An anonymous connection, by the address it came from (IPv6: by its /64, the rest zeroed).
    Anonymous(std::net::IpAddr),
}

/// Why no credential was issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// The owner's credentials all have allocations.
    #[error("this owner has as many credentials in use as it may have")]
    OwnerQuota,
    /// The relay has no room for another credential.
    #[error("the credential table is full")]
    Full,
}

struct Credential {
    owner: Option<CredentialOwner>,
    key: Zeroizing<IntegrityKey>,
    /// None never expires.
    until: Option<Instant>,
    issued: u64,
    allocations: u32,
}

impl Credential {
    fn is_live(&self, now: Instant) -> bool {
        self.allocations > 0 || self.until.is_none_or(|until| until > now)
    }
}

/// The credentials this relay has handed out: bounded, expiring, counted per owner.
pub struct CredentialTable {
    realm: String,
    by_username: HashMap<String, Credential>,
    by_owner: HashMap<CredentialOwner, Vec<String>>,
    anonymous: usize,
    issued: u64,
    max: usize,
    max_anonymous: usize,
}

impl fmt::Debug for CredentialTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialTable")
            .field("len", &self.by_username.len())
            .finish_non_exhaustive()
    }
}

impl CredentialTable {
    pub(super) fn new(realm: String) -> Self {
        Self::with_capacity(realm, MAX_CREDENTIALS, MAX_ANONYMOUS_CREDENTIALS)
    }

    fn with_capacity(realm: String, max: usize, max_anonymous: usize) -> Self {
        Self {
            realm,
            by_username: HashMap::new(),
            by_owner: HashMap::new(),
            anonymous: 0,
            issued: 0,
            max,
            max_anonymous,
        }
    }

    /// Credentials in the table, expired ones that were not swept yet included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_username.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_username.is_empty()
    }

    /// Adds a fixed credential without owner or expiry: for a relay that is run as a plain TURN server.
    pub(super) fn insert_fixed(&mut self, username: &str, password: &str) {
        let key = long_term_key(username, &self.realm, password);
        self.issued += 1;
        self.by_username.insert(
            username.to_owned(),
            Credential {
                owner: None,
                key: key.into(),
                until: None,
                issued: self.issued,
                allocations: 0,
            },
        );
    }

    /// Draws a credential for `owner`. `nonce` is passed through.
    pub(super) fn issue(
        &mut self,
        now: Instant,
        owner: CredentialOwner,
        nonce: String,
        rng: &mut impl RngCore,
    ) -> Result<TurnCredentials, CredentialError> {
        self.make_room(now, owner)?;
        let (username, password) = (random_hex::<12>(rng), random_hex::<16>(rng));
        let key = long_term_key(&username, &self.realm, &password);
        self.issued += 1;
        self.by_username.insert(
            username.clone(),
            Credential {
                owner: Some(owner),
                key: key.into(),
                until: Some(now + CREDENTIAL_LIFETIME),
                issued: self.issued,
                allocations: 0,
            },
        );
        self.by_owner
            .entry(owner)
            .or_default()
            .push(username.clone());
        if matches!(owner, CredentialOwner::Anonymous(_)) {
            self.anonymous += 1;
        }
        Ok(TurnCredentials {
            username,
            password,
            realm: self.realm.clone(),
            nonce,
            lifetime: CREDENTIAL_LIFETIME,
        })
    }

    fn make_room(&mut self, now: Instant, owner: CredentialOwner) -> Result<(), CredentialError> {
        let owned = self.by_owner.get(&owner).map_or(&[][..], Vec::as_slice);
        if owned.len() >= MAX_CREDENTIALS_PER_OWNER {
            let oldest = owned
                .iter()
                .filter_map(|name| Some((name, self.by_username.get(name)?)))
                .filter(|(_, credential)| credential.allocations == 0)
                .min_by_key(|(_, credential)| credential.issued)
                .map(|(name, _)| name.clone())
                .ok_or(CredentialError::OwnerQuota)?;
            self.remove(&oldest);
        }
        let full = |table: &Self| {
            table.by_username.len() >= table.max
                || (matches!(owner, CredentialOwner::Anonymous(_))
                    && table.anonymous >= table.max_anonymous)
        };
        if full(self) {
            let mut expired: Vec<String> = self
                .by_username
                .iter()
                .filter(|(_, credential)| !credential.is_live(now))
                .map(|(name, _)| name.clone())
                .collect();
            expired.sort_unstable();
            for name in &expired {
                self.remove(name);
            }
        }
        if full(self) {
            Err(CredentialError::Full)
        } else {
            Ok(())
        }
    }

    fn remove(&mut self, username: &str) {
        let Some(credential) = self.by_username.remove(username) else {
            return;
        };
        let Some(owner) = credential.owner else {
            return;
        };
        if let Some(owned) = self.by_owner.get_mut(&owner) {
            owned.retain(|name| name != username);
            if owned.is_empty() {
                self.by_owner.remove(&owner);
            }
        }
        if matches!(owner, CredentialOwner::Anonymous(_)) {
            self.anonymous -= 1;
        }
    }

    /// The integrity key of a live credential.
    pub(super) fn key(&self, now: Instant, username: &str) -> Option<IntegrityKey> {
        self.by_username
            .get(username)
            .filter(|credential| credential.is_live(now))
            .map(|credential| *credential.key)
    }

    /// Allocations that now hang on `username`.
    pub(super) fn allocations(&self, username: &str) -> u32 {
        self.by_username
            .get(username)
            .map_or(0, |credential| credential.allocations)
    }

    pub(super) fn allocation_opened(&mut self, username: &str) {
        if let Some(credential) = self.by_username.get_mut(username) {
            credential.allocations += 1;
        }
    }

    pub(super) fn allocation_closed(&mut self, username: &str) {
        if let Some(credential) = self.by_username.get_mut(username) {
            credential.allocations = credential.allocations.saturating_sub(1);
        }
    }
}

fn random_hex<const N: usize>(rng: &mut impl RngCore) -> String {
    let mut bytes = Zeroizing::new([0; N]);
    rng.fill_bytes(bytes.as_mut());
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    use super::*;

    fn origin() -> Instant {
        #[expect(
            clippy::disallowed_methods,
            reason = "any instant serves as the origin of virtual time"
        )]
        Instant::now()
    }

    fn owner(n: u8) -> CredentialOwner {
        CredentialOwner::Device([n; 32])
    }

    #[test]
    fn credentials_differ_and_expire_unless_an_allocation_hangs_on_them() {
        let now = origin();
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let mut table = CredentialTable::new("r".into());
        let a = table.issue(now, owner(1), String::new(), &mut rng).unwrap();
        let b = table.issue(now, owner(1), String::new(), &mut rng).unwrap();
        assert_ne!((&a.username, &a.password), (&b.username, &b.password));
        table.allocation_opened(&a.username);
        let later = now + CREDENTIAL_LIFETIME;
        assert!(table.key(later, &a.username).is_some());
        assert!(table.key(later, &b.username).is_none());
        table.allocation_closed(&a.username);
        assert!(table.key(later, &a.username).is_none());
        assert!(!format!("{a:?}").contains(&a.password));
    }

    #[test]
    fn one_owner_holds_four_and_the_oldest_idle_one_gives_way() {
        let now = origin();
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let mut table = CredentialTable::new("r".into());
        let names: Vec<String> = (0..MAX_CREDENTIALS_PER_OWNER)
            .map(|_| {
                table
                    .issue(now, owner(1), String::new(), &mut rng)
                    .unwrap()
                    .username
            })
            .collect();
        let [first, second, ..] = names.as_slice() else {
            panic!("four names")
        };
        table.allocation_opened(first);
        table.issue(now, owner(1), String::new(), &mut rng).unwrap();
        assert_eq!(table.len(), MAX_CREDENTIALS_PER_OWNER);
        assert!(table.key(now, first).is_some());
        assert!(table.key(now, second).is_none());
    }

    #[test]
    fn a_full_table_drops_expired_credentials_only_and_strangers_get_their_share_only() {
        let now = origin();
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let mut table = CredentialTable::with_capacity("r".into(), 8, 2);
        let stranger = |n: u8| CredentialOwner::Anonymous([192, 0, 2, n].into());
        assert!(
            table
                .issue(now, stranger(1), String::new(), &mut rng)
                .is_ok()
        );
        assert!(
            table
                .issue(now, stranger(2), String::new(), &mut rng)
                .is_ok()
        );
        assert_eq!(
            table.issue(now, stranger(3), String::new(), &mut rng),
            Err(CredentialError::Full)
        );
        for n in 0..6 {
            assert!(table.issue(now, owner(n), String::new(), &mut rng).is_ok());
        }
        assert_eq!(
            table.issue(now, owner(9), String::new(), &mut rng),
            Err(CredentialError::Full)
        );
        let later = now + CREDENTIAL_LIFETIME;
        assert!(
            table
                .issue(later, owner(9), String::new(), &mut rng)
                .is_ok()
        );
        assert_eq!(table.len(), 1);
        assert_eq!(table.by_owner.len(), 1);
        assert_eq!(table.anonymous, 0);
    }
}
