//! A new device of a person joins by a link that an old one shows. Sans-IO; [`crate::headless`] carries it.
//!
//! The link holds a secret and where the old device waits. Under the secret stands a root key that is nobody's: the old
//! device registers at its home as that person for a few minutes, so the new one finds it by a look-up, and what it finds
//! is signed under the link. Everything then goes in envelopes that only the two can open ([`open_pairing`]); the home sees
//! that two strangers write to each other.
//!
//! ```text
//! link: ahoy-pair:secret?home=address[&home=address]      secret: 52 characters of z-base-32
//!
//! new                                            old
//! 1 hello    device 32, noise 32, commitment 32, name  ->
//!                                          <-    2 number 32
//! 2 number   32                             ->   both show six digits; the old one asks its person
//! 3 wait     (each half minute)             ->
//!                                          <-    4 refused u8, or 5 granted u32 bytes
//! 6 get      u32 from                       ->
//!                                          <-    7 part u32 from, bytes
//! 8 done                                    ->
//! message: | ver=1 | type | fields |
//!
//! grant: | ver=1 | user 32 | u8 root there | root seed 32 | name | u8 count, homes | log | entries (see crate::sync) |
//!                                                         each: varint length, bytes
//! ```
//! The six digits are made by [commit and reveal](crate::identity::compare) over both devices' keys: whoever saw the link
//! and stands in between has one guess in a million that both screens show the same.
//!
//! The old device signs the new one into the device log; the root key stays where it is unless that is asked for.

#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::cast_possible_truncation)
)]

use std::{fmt, str::FromStr};

use ahoy_transport::{
    identity::{DeviceId, DeviceKeys, NodeAddress, RootKey, UserId, log::MAX_LOG_LEN},
    sealed::{CallEnvelopes, open_pairing},
    wire::{Reader, WireError, Writer},
};
use rand_core::CryptoRngCore;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::{
    chat::{put_homes, read_homes},
    identity::compare::{CompareStep, Comparison},
    link::{MAX_NAME_CHARS, decode, display_name, encode},
    sync::{Entry, MAX_ENTRIES},
};

/// Homes that a link or a grant names.
pub const MAX_PAIR_HOMES: usize = 4;
/// Longest grant, in bytes.
pub const MAX_GRANT: usize = 8 << 20;
/// Of a grant, so much goes at once.
pub const PART: usize = 15 * 1024;
pub(crate) const SCHEME: &str = "ahoy-pair:";
const MAX_LINK: usize = 2048;
const MAX_NAME_BYTES: usize = 4 * MAX_NAME_CHARS;
const VERSION: u8 = 1;
const ROOT_LABEL: &[u8] = b"ahoy/1 pairing root\0";
const SECRET_LABEL: &[u8] = b"ahoy/1 pairing secret\0";
const CONTEXT_LABEL: &[u8] = b"ahoy/1 pairing devices\0";
const CODE_LABEL: &[u8] = b"ahoy/1 pairing code\0";

/// Why a text is no pairing link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "that is no pairing link: `ahoy device pair` on the other device prints one, which begins with {SCHEME}"
)]
pub struct NoPairLink;

/// What the old device shows and the new one is given.
#[derive(Clone, PartialEq, Eq)]
pub struct PairLink {
    secret: Zeroizing<[u8; 32]>,
    /// Where the old device waits; at most [`MAX_PAIR_HOMES`].
    pub homes: Vec<NodeAddress>,
}

impl PairLink {
    /// A new link.
    #[must_use]
    pub fn generate(rng: &mut dyn CryptoRngCore, mut homes: Vec<NodeAddress>) -> Self {
        let mut secret = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *secret);
        homes.truncate(MAX_PAIR_HOMES);
        Self { secret, homes }
    }

    fn derive(&self, label: &[u8]) -> Zeroizing<[u8; 32]> {
        let hash = Sha256::new().chain_update(label).chain_update(*self.secret);
        Zeroizing::new(hash.finalize().into())
    }

    /// Under which the old device waits.
    #[must_use]
    pub fn root(&self) -> RootKey {
        RootKey::from_seed(&self.derive(ROOT_LABEL))
    }

    /// What both sides prove to know.
    #[must_use]
    pub fn shared(&self) -> Zeroizing<[u8; 32]> {
        self.derive(SECRET_LABEL)
    }
}

impl fmt::Display for PairLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", z32::encode(&*self.secret))?;
        let mut separator = '?';
        for home in &self.homes {
            write!(f, "{separator}home={}", encode(&home.to_string()))?;
            separator = '&';
        }
        Ok(())
    }
}

impl fmt::Debug for PairLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PairLink")
            .field("homes", &self.homes)
            .finish_non_exhaustive()
    }
}

impl FromStr for PairLink {
    type Err = NoPairLink;

    fn from_str(text: &str) -> Result<Self, NoPairLink> {
        let rest = text.strip_prefix(SCHEME).filter(|_| text.len() <= MAX_LINK);
        let (secret, homes) = rest
            .and_then(|rest| rest.split_once('?'))
            .ok_or(NoPairLink)?;
        let secret = z32::decode(secret.as_bytes()).map_err(|_no_z32| NoPairLink)?;
        let secret: [u8; 32] = secret.try_into().map_err(|_length| NoPairLink)?;
        let homes: Vec<NodeAddress> = homes
            .split('&')
            .map(|home| {
                let value = home.strip_prefix("home=").ok_or(NoPairLink)?;
                let value = decode(value).map_err(|_encoding| NoPairLink)?;
                value.parse().map_err(|_no_address| NoPairLink)
            })
            .collect::<Result<_, _>>()?;
        if homes.is_empty() || homes.len() > MAX_PAIR_HOMES {
            return Err(NoPairLink);
        }
        Ok(Self {
            secret: Zeroizing::new(secret),
            homes,
        })
    }
}

/// Why a device is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The person said no.
    #[error("the other device did not let this one in")]
    Person,
    /// Somebody else came first.
    #[error("that link was used already: `ahoy device pair` makes another")]
    Used,
    /// The old device could not do it.
    #[error("the other device could not let this one in: its messages say why")]
    Failed,
}

/// The device that asks to be let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDevice {
    /// Its signing key.
    pub device: DeviceId,
    /// Its Noise static public key.
    pub noise_static: [u8; 32],
    /// What it calls itself, cleaned.
    pub name: String,
}

/// What one side says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PairMessage {
    /// New: lets itself be known.
    Hello {
        /// Who asks.
        new: NewDevice,
        /// See [`Comparison`].
        commitment: [u8; 32],
    },
    /// Either: see [`Comparison`].
    Number([u8; 32]),
    /// New: is still there.
    Wait,
    /// Old: no.
    Refused(Refused),
    /// Old: yes; a grant of so many bytes is to be fetched.
    Granted(u32),
    /// New: the grant from here on.
    Get(u32),
    /// Old: that.
    Part {
        /// From here on.
        from: u32,
        /// At most [`PART`].
        bytes: Vec<u8>,
    },
    /// New: has all, and has kept it.
    Done,
}

impl PairMessage {
    /// Writes it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        match self {
            Self::Hello { new, commitment } => {
                out.put_u8(1);
                out.put_bytes(&new.device.0);
                out.put_bytes(&new.noise_static);
                out.put_bytes(commitment);
                out.put_bytes(new.name.as_bytes());
            }
            Self::Number(number) => {
                out.put_u8(2);
                out.put_bytes(number);
            }
            Self::Wait => out.put_u8(3),
            Self::Refused(why) => {
                out.put_u8(4);
                out.put_u8(match why {
                    Refused::Person => 0,
                    Refused::Used => 1,
                    Refused::Failed => 2,
                });
            }
            Self::Granted(len) => {
                out.put_u8(5);
                out.put_u32(*len);
            }
            Self::Get(from) => {
                out.put_u8(6);
                out.put_u32(*from);
            }
            Self::Part { from, bytes } => {
                out.put_u8(7);
                out.put_u32(*from);
                out.put_bytes(bytes);
            }
            Self::Done => out.put_u8(8),
        }
        out
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// [`WireError`] for anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            VERSION => {}
            other => return Err(WireError::Version(other)),
        }
        let message = match reader.u8()? {
            1 => {
                let (device, noise_static) = (DeviceId(reader.array()?), reader.array()?);
                let commitment = reader.array()?;
                let name = reader.rest();
                if name.len() > MAX_NAME_BYTES {
                    return Err(WireError::TooLong);
                }
                let name = str::from_utf8(name).map_err(|_not_utf8| WireError::Undefined)?;
                let new = NewDevice {
                    device,
                    noise_static,
                    name: display_name(name),
                };
                Self::Hello { new, commitment }
            }
            2 => Self::Number(reader.array()?),
            3 => Self::Wait,
            4 => Self::Refused(match reader.u8()? {
                1 => Refused::Used,
                2 => Refused::Failed,
                _ => Refused::Person,
            }),
            5 => Self::Granted(reader.u32()?),
            6 => Self::Get(reader.u32()?),
            7 => Self::Part {
                from: reader.u32()?,
                bytes: reader.rest().to_vec(),
            },
            8 => Self::Done,
            _undefined => return Err(WireError::Undefined),
        };
        reader.finish()?;
        Ok(message)
    }
}

/// What both sides compare: the link's person, the old device's key for this link, and the new device.
#[must_use]
pub fn context(link: UserId, old: DeviceId, new: &NewDevice) -> [u8; 32] {
    let mut hash = Sha256::new().chain_update(CONTEXT_LABEL);
    hash.update(link.0);
    hash.update(old.0);
    hash.update(new.device.0);
    hash.update(new.noise_static);
    hash.update(new.name.as_bytes());
    hash.finalize().into()
}

/// Six digits for two screens.
#[must_use]
pub fn code(mixed: &[u8; 32]) -> String {
    let hash: [u8; 32] = Sha256::new()
        .chain_update(CODE_LABEL)
        .chain_update(mixed)
        .finalize()
        .into();
    let (start, _rest) = hash.split_first_chunk::<8>().expect("a hash has 32 bytes");
    let digits = u64::from_be_bytes(*start) % 1_000_000;
    format!("{:03} {:03}", digits / 1000, digits % 1000)
}

/// What a new device is given.
#[derive(Clone, PartialEq, Eq)]
pub struct Grant {
    /// The person.
    pub user: UserId,
    /// The root key's seed, where that was asked for.
    pub root: Option<Zeroizing<[u8; 32]>>,
    /// What the person is called.
    pub name: String,
    /// Where to register.
    pub homes: Vec<NodeAddress>,
    /// The device log, with the new device in it.
    pub log: Vec<u8>,
    /// Contacts, blocks and the like.
    pub entries: Vec<Entry>,
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant")
            .field("user", &self.user)
            .field("has_root", &self.root.is_some())
            .finish_non_exhaustive()
    }
}

impl Grant {
    /// Writes it, with as many entries as fit into `max` bytes: the others come by letters.
    #[must_use]
    pub fn encode(&self, max: usize) -> Zeroizing<Vec<u8>> {
        let sizes = self.entries.iter().map(Entry::max_len);
        let room = self.log.len() + MAX_LINK + 512 + sizes.sum::<usize>();
        // Large enough from the start: growing would leave copies behind.
        let mut out = Zeroizing::new(Vec::with_capacity(room));
        out.put_u8(VERSION);
        out.put_bytes(&self.user.0);
        out.put_u8(u8::from(self.root.is_some()));
        match &self.root {
            Some(seed) => out.put_bytes(&**seed),
            None => out.put_bytes(&[0; 32]),
        }
        out.put_var_bytes(self.name.as_bytes());
        put_homes(&mut out, &self.homes, MAX_PAIR_HOMES);
        out.put_var_bytes(&self.log);
        for entry in self.entries.iter().take(MAX_ENTRIES) {
            if out.len() + entry.max_len() <= max {
                entry.put(&mut out);
            }
        }
        out
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// [`WireError`] for anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            VERSION => {}
            other => return Err(WireError::Version(other)),
        }
        let user = UserId(reader.array()?);
        let has_root = reader.u8()? == 1;
        let seed: Zeroizing<[u8; 32]> = Zeroizing::new(reader.array()?);
        let name = str::from_utf8(reader.var_bytes(MAX_NAME_BYTES)?)
            .map_err(|_not_utf8| WireError::Undefined)?;
        let name = display_name(name);
        let homes = read_homes(&mut reader, MAX_PAIR_HOMES)?;
        let log = reader.var_bytes(MAX_LOG_LEN)?.to_vec();
        let entries = Entry::read_all(reader.rest())?;
        Ok(Self {
            user,
            root: has_root.then_some(seed),
            name,
            homes,
            log,
            entries,
        })
    }
}

/// What the old device's side wants done.
#[derive(Debug, PartialEq, Eq)]
pub enum OldAction {
    /// Answer this delivery with this.
    Reply(u64, Vec<u8>),
    /// Ask the person, who compares the code.
    Ask {
        /// Who wants in.
        new: NewDevice,
        /// Six digits.
        code: String,
    },
    /// The new device has everything.
    Finished,
    /// It broke the exchange: the link is spent.
    Broken,
}

enum OldState {
    Waiting,
    Comparing(NewDevice, Comparison),
    Asked,
    Granted(Zeroizing<Vec<u8>>),
    Over(Refused),
}

/// The old device's side of one link.
pub struct OldSide {
    user: UserId,
    shared: Zeroizing<[u8; 32]>,
    keys: DeviceKeys,
    state: OldState,
    /// With whoever came first, and the delivery that can be answered.
    partner: Option<(CallEnvelopes, u64)>,
}

impl OldSide {
    /// Waits behind `link` with `keys`, drawn for it alone.
    #[must_use]
    pub fn new(link: &PairLink, keys: DeviceKeys) -> Self {
        Self {
            user: link.root().user(),
            shared: link.shared(),
            keys,
            state: OldState::Waiting,
            partner: None,
        }
    }

    /// Something was delivered.
    pub fn handle(
        &mut self,
        delivery: u64,
        envelope: &[u8],
        rng: &mut dyn CryptoRngCore,
    ) -> Vec<OldAction> {
        if let Some((envelopes, newest)) = &mut self.partner
            && let Ok(payload) = envelopes.open(envelope)
        {
            *newest = delivery;
            return match PairMessage::decode(&payload) {
                Ok(message) => self.advance(message),
                Err(error) => {
                    tracing::debug!(%error, "a message cannot be read");
                    Vec::new()
                }
            };
        }
        let (mut envelopes, payload) = match open_pairing(&self.shared, &self.keys, envelope) {
            Ok(opened) => opened,
            Err(error) => {
                tracing::debug!(%error, "somebody without the link knocks");
                return Vec::new();
            }
        };
        let Ok(PairMessage::Hello { new, commitment }) = PairMessage::decode(&payload) else {
            return Vec::new();
        };
        if self.partner.is_some() {
            let sealed = envelopes.seal(&PairMessage::Refused(Refused::Used).encode());
            let reply = sealed.map(|sealed| OldAction::Reply(delivery, sealed));
            return reply.into_iter().collect();
        }
        self.partner = Some((envelopes, delivery));
        let context = context(self.user, self.keys.id(), &new);
        let mut comparison = Comparison::answer(&context, rng);
        let Ok(Some(CompareStep::Number(number))) =
            comparison.handle(CompareStep::Commitment(commitment))
        else {
            return self.spoil();
        };
        self.state = OldState::Comparing(new, comparison);
        self.reply(&PairMessage::Number(number))
    }

    fn advance(&mut self, message: PairMessage) -> Vec<OldAction> {
        match (&mut self.state, message) {
            (OldState::Comparing(new, comparison), PairMessage::Number(number)) => {
                let step = comparison.handle(CompareStep::Number(number));
                let Some(mixed) = step.ok().and(comparison.mixed()) else {
                    return self.spoil();
                };
                let ask = OldAction::Ask {
                    new: new.clone(),
                    code: code(&mixed),
                };
                self.state = OldState::Asked;
                vec![ask]
            }
            (OldState::Asked, PairMessage::Wait) => Vec::new(),
            // Asked again: the answer was lost.
            (OldState::Granted(grant), PairMessage::Wait) => {
                let len = u32::try_from(grant.len()).unwrap_or(u32::MAX);
                self.reply(&PairMessage::Granted(len))
            }
            (OldState::Granted(grant), PairMessage::Get(from)) => {
                let start = usize::try_from(from).unwrap_or(usize::MAX);
                let rest = grant.get(start..).unwrap_or_default();
                let bytes = rest.get(..PART).unwrap_or(rest).to_vec();
                self.reply(&PairMessage::Part { from, bytes })
            }
            (OldState::Granted(_), PairMessage::Done) => {
                self.state = OldState::Over(Refused::Used);
                vec![OldAction::Finished]
            }
            (OldState::Over(why), _) => {
                let why = *why;
                self.reply(&PairMessage::Refused(why))
            }
            (
                OldState::Waiting
                | OldState::Comparing(..)
                | OldState::Asked
                | OldState::Granted(_),
                _out_of_turn,
            ) => self.spoil(),
        }
    }

    fn spoil(&mut self) -> Vec<OldAction> {
        self.state = OldState::Over(Refused::Failed);
        let mut actions = self.reply(&PairMessage::Refused(Refused::Failed));
        actions.push(OldAction::Broken);
        actions
    }

    /// The person has decided, or nobody could: `grant` is for the device that was asked about.
    pub fn decide(&mut self, grant: Result<Zeroizing<Vec<u8>>, Refused>) -> Vec<OldAction> {
        if !matches!(self.state, OldState::Asked) {
            return Vec::new();
        }
        match grant {
            Ok(grant) => {
                let len = u32::try_from(grant.len()).unwrap_or(u32::MAX);
                self.state = OldState::Granted(grant);
                self.reply(&PairMessage::Granted(len))
            }
            Err(why) => {
                self.state = OldState::Over(why);
                self.reply(&PairMessage::Refused(why))
            }
        }
    }

    fn reply(&mut self, message: &PairMessage) -> Vec<OldAction> {
        let Some((envelopes, delivery)) = &mut self.partner else {
            return Vec::new();
        };
        let sealed = envelopes.seal(&message.encode());
        let sealed = sealed.inspect_err(|error| tracing::error!(%error, "nothing can be said"));
        let reply = sealed.map(|sealed| OldAction::Reply(*delivery, sealed));
        reply.into_iter().collect()
    }
}

impl fmt::Debug for OldSide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OldSide").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use ahoy_transport::{
        identity::{NodeKeys, VerifiedSealKey},
        sealed::seal_pairing,
    };
    use proptest::prelude::*;
    use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};

    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    fn rng(seed: u8) -> ChaCha20Rng {
        ChaCha20Rng::from_seed([seed; 32])
    }

    fn link() -> PairLink {
        let node = NodeKeys::from_seed(&[7; 32]).id();
        let home = NodeAddress::new(node, ([192, 0, 2, 1], 4433).into());
        PairLink::generate(&mut rng(1), vec![home])
    }

    fn new_device(seed: u8) -> NewDevice {
        let keys = DeviceKeys::generate(&mut rng(seed), NOW);
        NewDevice {
            device: keys.id(),
            noise_static: keys.noise_public(),
            name: "laptop".into(),
        }
    }

    struct New {
        envelopes: CallEnvelopes,
        comparison: Comparison,
    }

    impl New {
        /// Knocks; comes with what was delivered.
        fn knock(
            link: &PairLink,
            old: DeviceId,
            key: &VerifiedSealKey,
            seed: u8,
        ) -> (Self, Vec<u8>) {
            let new = new_device(seed);
            let context = context(link.root().user(), old, &new);
            let (comparison, step) = Comparison::commit(&context, &mut rng(seed));
            let CompareStep::Commitment(commitment) = step else {
                panic!("{step:?}")
            };
            let hello = PairMessage::Hello { new, commitment }.encode();
            let sealed = seal_pairing(&link.shared(), key, &hello, &mut rng(seed ^ 0x80));
            let (envelopes, envelope) = sealed.unwrap();
            let new = Self {
                envelopes,
                comparison,
            };
            (new, envelope)
        }

        fn say(&mut self, message: &PairMessage) -> Vec<u8> {
            self.envelopes.seal(&message.encode()).unwrap()
        }

        fn hear(&mut self, actions: &[OldAction]) -> PairMessage {
            let [OldAction::Reply(_delivery, bytes), ..] = actions else {
                panic!("{actions:?}")
            };
            PairMessage::decode(&self.envelopes.open(bytes).unwrap()).unwrap()
        }
    }

    fn old() -> (PairLink, OldSide, DeviceId, VerifiedSealKey) {
        let keys = DeviceKeys::generate(&mut rng(2), NOW);
        let key = keys.seal_key_record().verify(NOW, keys.id()).unwrap();
        let link = link();
        let id = keys.id();
        (link.clone(), OldSide::new(&link, keys), id, key)
    }

    /// Up to the question; comes with the new side and the two codes.
    fn compare(
        old_side: &mut OldSide,
        link: &PairLink,
        old: DeviceId,
        key: &VerifiedSealKey,
    ) -> (New, String, String) {
        let (mut new, hello) = New::knock(link, old, key, 3);
        let answer = old_side.handle(1, &hello, &mut rng(9));
        let PairMessage::Number(number) = new.hear(&answer) else {
            panic!("{answer:?}")
        };
        let step = new.comparison.handle(CompareStep::Number(number)).unwrap();
        let Some(CompareStep::Number(number)) = step else {
            panic!("{step:?}")
        };
        let number = new.say(&PairMessage::Number(number));
        let asked = old_side.handle(2, &number, &mut rng(9));
        let [
            OldAction::Ask {
                new: who,
                code: shown,
            },
        ] = asked.as_slice()
        else {
            panic!("{asked:?}")
        };
        assert_eq!(*who, new_device(3));
        let ours = code(&new.comparison.mixed().unwrap());
        (new, ours, shown.clone())
    }

    #[test]
    fn both_screens_show_the_same_and_the_grant_comes_whole() {
        let (link, mut old_side, old, key) = old();
        let (mut new, ours, shown) = compare(&mut old_side, &link, old, &key);
        assert_eq!(ours, shown);
        assert_eq!(ours.len(), 7);
        let grant: Vec<u8> = (0..40_000u32).map(|n| n as u8).collect();
        let granted = old_side.decide(Ok(Zeroizing::new(grant.clone())));
        assert_eq!(new.hear(&granted), PairMessage::Granted(40_000));
        let mut got = Vec::new();
        while got.len() < grant.len() {
            let get = new.say(&PairMessage::Get(got.len() as u32));
            let part = old_side.handle(3, &get, &mut rng(9));
            let PairMessage::Part { from, bytes } = new.hear(&part) else {
                panic!("{part:?}")
            };
            assert_eq!(from as usize, got.len());
            got.extend(bytes);
        }
        assert_eq!(got, grant);
        let done = new.say(&PairMessage::Done);
        assert_eq!(
            old_side.handle(4, &done, &mut rng(9)),
            [OldAction::Finished]
        );
    }

    #[test]
    fn a_link_serves_the_first_and_no_other() {
        let (link, mut old_side, old, key) = old();
        let (_first, hello) = New::knock(&link, old, &key, 3);
        assert_eq!(old_side.handle(1, &hello, &mut rng(9)).len(), 1);
        assert_eq!(
            old_side.handle(2, &hello, &mut rng(9)).len(),
            1,
            "the same again is a second one"
        );
        let (mut second, hello) = New::knock(&link, old, &key, 4);
        let answer = old_side.handle(3, &hello, &mut rng(9));
        assert_eq!(second.hear(&answer), PairMessage::Refused(Refused::Used));
    }

    #[test]
    fn nothing_is_given_before_the_person_said_yes_and_nothing_after_no() {
        let (link, mut old_side, old, key) = old();
        assert_eq!(old_side.decide(Ok(Zeroizing::new(vec![1]))), []);
        let (mut new, ..) = compare(&mut old_side, &link, old, &key);
        let refused = old_side.decide(Err(Refused::Person));
        assert_eq!(new.hear(&refused), PairMessage::Refused(Refused::Person));
        let get = new.say(&PairMessage::Get(0));
        let answer = old_side.handle(3, &get, &mut rng(9));
        assert_eq!(new.hear(&answer), PairMessage::Refused(Refused::Person));
        assert_eq!(old_side.decide(Ok(Zeroizing::new(vec![1]))), [], "too late");
    }

    #[test]
    fn out_of_turn_the_link_is_spent() {
        let (link, mut old_side, old, key) = old();
        let (mut new, hello) = New::knock(&link, old, &key, 3);
        old_side.handle(1, &hello, &mut rng(9));
        let get = new.say(&PairMessage::Get(0));
        let answer = old_side.handle(2, &get, &mut rng(9));
        assert_eq!(answer.last(), Some(&OldAction::Broken));
    }

    #[test]
    fn whoever_saw_the_link_and_stands_between_shows_two_codes() {
        // It is the old device towards the new one, with keys of its own, and the new one towards the old.
        let (link, mut old_side, old_id, key) = old();
        let evil = DeviceKeys::generate(&mut rng(5), NOW);
        let evil_key = evil.seal_key_record().verify(NOW, evil.id()).unwrap();
        let mut towards_new = OldSide::new(&link, evil.clone());
        let (_victim, victims_code, its_code) =
            compare(&mut towards_new, &link, evil.id(), &evil_key);
        assert_eq!(victims_code, its_code);
        let (_itself, _code, shown) = compare(&mut old_side, &link, old_id, &key);
        assert_ne!(victims_code, shown);
    }

    #[test]
    fn without_the_link_nobody_is_answered() {
        let (_link, mut old_side, old, key) = old();
        let home = link().homes;
        let other = PairLink::generate(&mut rng(8), home);
        let (_new, hello) = New::knock(&other, old, &key, 3);
        assert_eq!(old_side.handle(1, &hello, &mut rng(9)), []);
    }

    proptest! {
        #[test]
        fn links_round_trip_and_other_texts_are_refused(seed: u8, text in ".{0,80}") {
            let made = PairLink::generate(&mut rng(seed), link().homes);
            prop_assert_eq!(made.to_string().parse(), Ok(made));
            prop_assert_eq!(text.parse::<PairLink>(), Err(NoPairLink));
        }

        #[test]
        fn garbage_is_an_error_or_reads_back_as_itself(mut bytes: Vec<u8>, kind in 0..10u8) {
            if let [first, second, ..] = bytes.as_mut_slice() {
                (*first, *second) = (VERSION, kind);
            }
            if let Ok(message) = PairMessage::decode(&bytes) {
                prop_assert_eq!(PairMessage::decode(&message.encode()), Ok(message));
            }
            if let Ok(grant) = Grant::decode(&bytes) {
                prop_assert!(Grant::decode(&grant.encode(usize::MAX)).is_ok());
            }
        }
    }
}
