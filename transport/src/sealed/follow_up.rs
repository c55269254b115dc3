//! What both sides of a call send through the homes after the offer: answers, candidates, a cancel.
//!
//! ```text
//! 0       1        2              3          19            23
//! | ver=1 | kind=1 | direction u8 | tag (16) | counter u32 | ChaCha20-Poly1305(u16 length | payload | zeros), tag |
//! ```
//! The whole is padded to a size class. Direction: 0 from the caller, 1 from the callee. With
//! HKDF-SHA256(salt `ahoy/1 follow-up`, secret = session secret), info is the call id followed by `tag`
//! (16 bytes), `caller` or `callee` (the key of that sender, 32 bytes). Nonce = counter; additional data =
//! everything before the ciphertext. Only the two devices know the session secret, so whatever opens is
//! from the other one.

use std::fmt;

use zeroize::Zeroizing;

use super::{
    CallId, CallTag, KIND_FOLLOW_UP, SealError, SessionSecret, VERSION, aead, check_padding,
    put_part, read_envelope, read_part, size_class,
};
use crate::wire::{Reader, WireError, Writer};

const LABEL: &str = "ahoy/1 follow-up";
const HEADER_LEN: usize = 1 + 1 + 1 + 16 + 4;
const LARGEST: usize = 16384;
/// Longest payload, in bytes.
pub const MAX_FOLLOW_UP_PAYLOAD: usize = LARGEST - HEADER_LEN - 2 - aead::TAG_LEN;
/// How far a message may come late behind the newest and still count, in messages.
const REPLAY_WINDOW: u32 = 64;

/// Which side of the call this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Sent the offer.
    Caller,
    /// Got the offer.
    Callee,
}

impl Role {
    fn direction(self) -> u8 {
        match self {
            Self::Caller => 0,
            Self::Callee => 1,
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Caller => Self::Callee,
            Self::Callee => Self::Caller,
        }
    }

    fn label(self) -> &'static [u8] {
        match self {
            Self::Caller => b"caller",
            Self::Callee => b"callee",
        }
    }
}

/// Why a follow-up was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FollowUpError {
    /// Not a follow-up in a form that this version defines.
    #[error("the follow-up cannot be read: {0}")]
    Malformed(#[from] WireError),
    /// It belongs to another call.
    #[error("the follow-up belongs to another call")]
    OtherCall,
    /// Our own, sent back to us.
    #[error("the follow-up is one of ours")]
    WrongDirection,
    /// Changed on the way, or forged.
    #[error("the follow-up does not open")]
    Undecryptable,
    /// It came before, by this home or another.
    #[error("the follow-up arrived before")]
    Duplicate,
}

/// One side's end of a call's envelopes. Keys are wiped when dropped.
pub struct CallEnvelopes {
    role: Role,
    tag: CallTag,
    send_key: Zeroizing<[u8; 32]>,
    recv_key: Zeroizing<[u8; 32]>,
    next: Option<u32>,
    window: Window,
}

impl CallEnvelopes {
    /// Derives the keys of a call. A call has exactly one of these on each side: a second one would use
    /// counters twice.
    #[must_use]
    pub fn new(secret: &SessionSecret, call_id: &CallId, role: Role) -> Self {
        let key = |role: Role| aead::derive(secret.as_bytes(), LABEL, &[call_id, role.label()]);
        Self {
            role,
            tag: Self::tag_of(secret, call_id),
            send_key: key(role),
            recv_key: key(role.other()),
            next: Some(0),
            window: Window::default(),
        }
    }

    /// The tag of a call.
    #[must_use]
    pub fn tag_of(secret: &SessionSecret, call_id: &CallId) -> CallTag {
        *aead::derive(secret.as_bytes(), LABEL, &[call_id, b"tag"])
    }

    /// This call's tag, for those who sort envelopes by it.
    #[must_use]
    pub fn tag(&self) -> CallTag {
        self.tag
    }

    /// Seals a message. The same envelope may go by several homes: it opens once.
    ///
    /// # Errors
    /// [`SealError::TooLarge`] above [`MAX_FOLLOW_UP_PAYLOAD`], [`SealError::Exhausted`] after 2^32.
    pub fn seal(&mut self, payload: &[u8]) -> Result<Vec<u8>, SealError> {
        if payload.len() > MAX_FOLLOW_UP_PAYLOAD {
            return Err(SealError::TooLarge);
        }
        let counter = self.next.ok_or(SealError::Exhausted)?;
        let mut inner = Vec::with_capacity(LARGEST);
        put_part(&mut inner, payload);
        let len =
            size_class(HEADER_LEN + inner.len() + aead::TAG_LEN).ok_or(SealError::TooLarge)?;
        inner.resize(len - HEADER_LEN - aead::TAG_LEN, 0);

        let mut envelope = Vec::with_capacity(len);
        envelope.put_u8(VERSION);
        envelope.put_u8(KIND_FOLLOW_UP);
        envelope.put_u8(self.role.direction());
        envelope.put_bytes(&self.tag);
        envelope.put_u32(counter);
        aead::seal(&self.send_key, counter, &envelope, &mut inner);
        envelope.append(&mut inner);
        self.next = counter.checked_add(1);
        Ok(envelope)
    }

    /// Opens a message from the other side.
    ///
    /// # Errors
    /// One variant per reason to drop it; [`FollowUpError::Duplicate`] is the ordinary one where messages go
    /// by several homes.
    pub fn open(&mut self, envelope: &[u8]) -> Result<Vec<u8>, FollowUpError> {
        let mut reader = read_envelope(envelope)?;
        if reader.u8()? != KIND_FOLLOW_UP {
            return Err(WireError::Undefined.into());
        }
        let direction = reader.u8()?;
        let tag: CallTag = reader.array()?;
        let counter = reader.u32()?;
        let sealed = reader.rest();
        let header = envelope.get(..HEADER_LEN).ok_or(WireError::Truncated)?;
        if tag != self.tag {
            return Err(FollowUpError::OtherCall);
        }
        if direction == self.role.direction() {
            return Err(FollowUpError::WrongDirection);
        }
        if !self.window.is_new(counter) {
            return Err(FollowUpError::Duplicate);
        }
        let inner = aead::open(&self.recv_key, counter, header, sealed)
            .ok_or(FollowUpError::Undecryptable)?;
        let mut reader = Reader::new(&inner);
        let payload = read_part(&mut reader, MAX_FOLLOW_UP_PAYLOAD)?.to_vec();
        check_padding(reader)?;
        self.window.mark(counter);
        Ok(payload)
    }
}

impl fmt::Debug for CallEnvelopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallEnvelopes")
            .field("role", &self.role)
            .field("tag", &z32::encode(&self.tag))
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

/// Sliding window over counters (RFC 4303 section 3.4.3).
#[derive(Default)]
struct Window {
    /// Counters below this are either in `seen` or too old.
    end: u64,
    /// Bit `i`: counter `end - 1 - i` was seen.
    seen: u64,
}

impl Window {
    fn is_new(&self, counter: u32) -> bool {
        let Some(behind) = self.end.checked_sub(u64::from(counter) + 1) else {
            return true;
        };
        behind < u64::from(REPLAY_WINDOW) && self.seen >> behind & 1 == 0
    }

    fn mark(&mut self, counter: u32) {
        let end = u64::from(counter) + 1;
        if let Some(ahead) = end.checked_sub(self.end) {
            let shift = u32::try_from(ahead).unwrap_or(u32::MAX);
            self.seen = self.seen.checked_shl(shift).unwrap_or(0) | 1;
            self.end = end;
        } else {
            self.seen |= 1 << (self.end - end);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::sealed::SIZE_CLASSES;

    fn pair() -> (CallEnvelopes, CallEnvelopes) {
        let secret = SessionSecret::from_bytes([1; 32]);
        (
            CallEnvelopes::new(&secret, &[2; 16], Role::Caller),
            CallEnvelopes::new(&secret, &[2; 16], Role::Callee),
        )
    }

    #[test]
    fn messages_pass_both_ways_once() {
        let (mut caller, mut callee) = pair();
        assert_eq!(caller.tag(), callee.tag());
        let ringing = callee.seal(b"ringing").unwrap();
        assert_eq!(ringing.len(), 512);
        assert_eq!(caller.open(&ringing), Ok(b"ringing".to_vec()));
        assert_eq!(caller.open(&ringing), Err(FollowUpError::Duplicate));
        assert_eq!(callee.open(&ringing), Err(FollowUpError::WrongDirection));
        let cancel = caller.seal(b"cancel").unwrap();
        assert_eq!(callee.open(&cancel), Ok(b"cancel".to_vec()));
    }

    #[test]
    fn another_calls_messages_and_changed_ones_are_dropped() {
        let (mut caller, mut callee) = pair();
        let other = SessionSecret::from_bytes([9; 32]);
        let mut stranger = CallEnvelopes::new(&other, &[2; 16], Role::Caller);
        assert_eq!(
            callee.open(&stranger.seal(b"x").unwrap()),
            Err(FollowUpError::OtherCall)
        );
        stranger.tag = caller.tag();
        assert_eq!(
            callee.open(&stranger.seal(b"x").unwrap()),
            Err(FollowUpError::Undecryptable)
        );
        let good = caller.seal(b"x").unwrap();
        for at in 0..good.len() {
            let mut changed = good.clone();
            changed[at] ^= 1;
            assert!(callee.open(&changed).is_err(), "byte {at}");
        }
        assert!(
            callee.open(&good).is_ok(),
            "forgeries did not use the counter up"
        );
    }

    #[test]
    fn the_longest_payload_fills_the_largest_class() {
        let (mut caller, mut callee) = pair();
        let payload = vec![7; MAX_FOLLOW_UP_PAYLOAD];
        let envelope = caller.seal(&payload).unwrap();
        assert_eq!(envelope.len(), LARGEST);
        assert_eq!(callee.open(&envelope), Ok(payload));
        assert_eq!(
            caller.seal(&vec![7; MAX_FOLLOW_UP_PAYLOAD + 1]),
            Err(SealError::TooLarge)
        );
    }

    #[test]
    fn counters_are_never_used_twice() {
        let (mut caller, _callee) = pair();
        caller.next = Some(u32::MAX);
        assert!(caller.seal(b"last").is_ok());
        assert_eq!(caller.seal(b"one more"), Err(SealError::Exhausted));
    }

    #[test]
    fn the_bytes_stay_what_they_are() {
        let (mut caller, _callee) = pair();
        let envelope = caller.seal(b"payload").unwrap();
        assert_eq!(envelope[..3], [1, 1, 0]);
        assert_eq!(envelope[3..19], caller.tag());
        assert_eq!(envelope[19..23], [0; 4]);
        assert_eq!(
            z32::encode(&Sha256::digest(&envelope)),
            "ayjb8g7rqwfnajcz3znpnndj1yuxjztgsq3u8pw8cwnje3msdwfo"
        );
    }

    proptest! {
        #[test]
        fn payloads_round_trip(payload in prop::collection::vec(any::<u8>(), 0..5000)) {
            let (mut caller, mut callee) = pair();
            let envelope = caller.seal(&payload).unwrap();
            prop_assert!(SIZE_CLASSES.contains(&envelope.len()));
            prop_assert_eq!(callee.open(&envelope), Ok(payload));
        }

        #[test]
        fn garbage_is_dropped(mut bytes in prop::collection::vec(any::<u8>(), 0..600), fit: bool) {
            let (_caller, mut callee) = pair();
            if fit {
                bytes.resize(512, 0);
                bytes[..3].copy_from_slice(&[1, 1, 0]);
                bytes[3..19].copy_from_slice(&callee.tag());
            }
            prop_assert!(callee.open(&bytes).is_err());
        }

        #[test]
        fn the_window_matches_a_set(counters in prop::collection::vec(0u32..300, 0..200)) {
            let mut window = Window::default();
            let mut seen = HashSet::new();
            let mut newest = 0;
            for counter in counters {
                let too_old = newest > u64::from(counter) + u64::from(REPLAY_WINDOW);
                prop_assert_eq!(window.is_new(counter), !too_old && !seen.contains(&counter));
                if window.is_new(counter) {
                    window.mark(counter);
                    seen.insert(counter);
                    newest = newest.max(u64::from(counter) + 1);
                }
            }
        }
    }
}
