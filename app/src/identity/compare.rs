//! Commit and reveal: how two sides come to a value that neither of them, nor anybody between them, could choose.
//!
//! What people compare by voice is short. Whoever sits between two people shares another secret with each of them, and
//! could try keys of its own until both happen to give the same words. So both sides add a random number: the one that
//! *commits* first sends only a hash of its own, learns the other's, and then shows what it had. At no moment can somebody
//! in between see what a number of its own would lead to and still take another: it has one guess.
//!
//! ```text
//! committer                                    answerer
//!     SHA-256(label | context | number) -->
//!                                       <--    number
//!                                number -->    does it fit the hash?
//! mixed = SHA-256(label | context | committer's number | answerer's number)
//! ```
//! The context names what is compared, so that numbers of one exchange mean nothing in another.

use rand_core::CryptoRngCore;
use sha2::{Digest, Sha256};

const COMMIT_LABEL: &[u8] = b"ahoy/1 compare commit\0";
const MIXED_LABEL: &[u8] = b"ahoy/1 compare mixed\0";

/// What one side says to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompareStep {
    /// The committer's hash.
    Commitment([u8; 32]),
    /// A number: the answerer's, or the one that was committed to.
    Number([u8; 32]),
}

/// The other side did not keep to the exchange: what would come of it proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the other side broke the exchange behind the safety words")]
pub struct BrokenExchange;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Committer: the hash is out.
    Committed,
    /// Answerer: nothing came yet.
    Waiting,
    /// Answerer: our number is out.
    Answered([u8; 32]),
    Mixed([u8; 32]),
    Broken,
}

/// One side of the exchange.
#[derive(Debug, Clone)]
pub struct Comparison {
    context: Vec<u8>,
    number: [u8; 32],
    state: State,
}

impl Comparison {
    /// The side that commits, and what it says first.
    #[must_use]
    pub fn commit(context: &[u8], rng: &mut dyn CryptoRngCore) -> (Self, CompareStep) {
        let this = Self::new(context, State::Committed, rng);
        let step = CompareStep::Commitment(hash(COMMIT_LABEL, &this.context, &[&this.number]));
        (this, step)
    }

    /// The side that answers.
    #[must_use]
    pub fn answer(context: &[u8], rng: &mut dyn CryptoRngCore) -> Self {
        Self::new(context, State::Waiting, rng)
    }

    fn new(context: &[u8], state: State, rng: &mut dyn CryptoRngCore) -> Self {
        let mut number = [0; 32];
        rng.fill_bytes(&mut number);
        Self {
            context: context.to_vec(),
            number,
            state,
        }
    }

    /// Takes what the other side said; comes with what to say next.
    ///
    /// # Errors
    /// [`BrokenExchange`], now and for ever: there is no second try.
    pub fn handle(&mut self, step: CompareStep) -> Result<Option<CompareStep>, BrokenExchange> {
        let ours = CompareStep::Number(self.number);
        let (state, next) = match (self.state, step) {
            (State::Committed, CompareStep::Number(theirs)) => {
                (State::Mixed(self.mix(&self.number, &theirs)), Some(ours))
            }
            (State::Waiting, CompareStep::Commitment(commitment)) => {
                (State::Answered(commitment), Some(ours))
            }
            (State::Answered(commitment), CompareStep::Number(theirs))
                if hash(COMMIT_LABEL, &self.context, &[&theirs]) == commitment =>
            {
                (State::Mixed(self.mix(&theirs, &self.number)), None)
            }
            (State::Committed | State::Answered(_) | State::Waiting, _)
            | (State::Mixed(_) | State::Broken, _) => {
                self.state = State::Broken;
                return Err(BrokenExchange);
            }
        };
        self.state = state;
        Ok(next)
    }

    fn mix(&self, committed: &[u8; 32], answered: &[u8; 32]) -> [u8; 32] {
        hash(MIXED_LABEL, &self.context, &[committed, answered])
    }

    /// What both sides have now, once each has the other's number.
    #[must_use]
    pub fn mixed(&self) -> Option<[u8; 32]> {
        match self.state {
            State::Mixed(mixed) => Some(mixed),
            State::Committed | State::Waiting | State::Answered(_) | State::Broken => None,
        }
    }

    /// Whether the other side broke it.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.state == State::Broken
    }
}

fn hash(label: &[u8], context: &[u8], numbers: &[&[u8; 32]]) -> [u8; 32] {
    let mut hash = Sha256::new().chain_update(label);
    hash.update((context.len() as u64).to_be_bytes());
    hash.update(context);
    for number in numbers {
        hash.update(number);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};

    use super::*;

    fn rng(seed: u64) -> ChaCha20Rng {
        ChaCha20Rng::seed_from_u64(seed)
    }

    /// Carries steps between two honest sides.
    fn play(committer: &mut Comparison, answerer: &mut Comparison, first: CompareStep) {
        let answer = answerer.handle(first).unwrap().unwrap();
        let reveal = committer.handle(answer).unwrap().unwrap();
        assert_eq!(answerer.handle(reveal), Ok(None));
    }

    #[test]
    fn both_sides_come_to_the_same_and_another_exchange_to_another() {
        let (mut one, first) = Comparison::commit(b"call", &mut rng(1));
        let mut other = Comparison::answer(b"call", &mut rng(2));
        assert_eq!((one.mixed(), other.mixed()), (None, None));
        play(&mut one, &mut other, first);
        assert!(one.mixed().is_some());
        assert_eq!(one.mixed(), other.mixed());
        let (mut again, first) = Comparison::commit(b"call", &mut rng(3));
        let mut answering = Comparison::answer(b"call", &mut rng(2));
        play(&mut again, &mut answering, first);
        assert_ne!(one.mixed(), again.mixed());
    }

    #[test]
    fn a_number_other_than_the_committed_one_breaks_it_for_ever() {
        let (mut one, first) = Comparison::commit(b"call", &mut rng(1));
        let mut other = Comparison::answer(b"call", &mut rng(2));
        let answer = other.handle(first).unwrap().unwrap();
        let reveal = one.handle(answer).unwrap().unwrap();
        assert_eq!(
            other.handle(CompareStep::Number([9; 32])),
            Err(BrokenExchange)
        );
        assert!(other.is_broken());
        assert_eq!(
            other.handle(reveal),
            Err(BrokenExchange),
            "no second try with the true one"
        );
        assert_eq!(other.mixed(), None);
    }

    #[test]
    fn steps_out_of_turn_and_of_another_call_break_it() {
        let (mut one, first) = Comparison::commit(b"call", &mut rng(1));
        assert_eq!(one.handle(first), Err(BrokenExchange), "its own, reflected");
        let mut other = Comparison::answer(b"call", &mut rng(2));
        assert_eq!(
            other.handle(CompareStep::Number([0; 32])),
            Err(BrokenExchange)
        );
        let (mut elsewhere, first) = Comparison::commit(b"another call", &mut rng(1));
        let mut other = Comparison::answer(b"call", &mut rng(2));
        let answer = other.handle(first).unwrap().unwrap();
        let reveal = elsewhere.handle(answer).unwrap().unwrap();
        assert_eq!(other.handle(reveal), Err(BrokenExchange));
        // What was mixed is not mixed again.
        let (mut one, first) = Comparison::commit(b"call", &mut rng(1));
        let mut other = Comparison::answer(b"call", &mut rng(2));
        play(&mut one, &mut other, first);
        assert_eq!(
            one.handle(CompareStep::Number([1; 32])),
            Err(BrokenExchange)
        );
    }

    /// Bits of the words that somebody in between makes equal here: two words would take minutes.
    const BITS: u32 = 11;
    /// Keys that it may try: far more than it needs for so few bits.
    const TRIES: u64 = 1 << 15;
    const CALLS: u64 = 50;

    fn shown(value: &[u8; 32]) -> u32 {
        u32::from_be_bytes([value[0], value[1], value[2], value[3]]) >> (32 - BITS)
    }

    /// What a session with somebody in between exports: it follows from an honest key and one of the attacker's choice.
    fn exported(honest: u64, attacker: u64) -> [u8; 32] {
        let (one, other) = ([0; 24], [1; 24]);
        let number = |end: &[u8; 24], key: u64| -> [u8; 32] {
            let mut bytes = [0; 32];
            bytes[..24].copy_from_slice(end);
            bytes[24..].copy_from_slice(&key.to_be_bytes());
            bytes
        };
        let (honest, attacker) = (number(&one, honest), number(&other, attacker));
        hash(b"session\0", b"", &[&honest, &attacker])
    }

    /// Without commit and reveal: it knows Alice's words already, and tries keys towards Bob until his are the same.
    fn grind_keys(call: u64) -> bool {
        let alices = shown(&exported(2 * call, 0));
        (0..TRIES).any(|key| shown(&exported(2 * call + 1, key)) == alices)
    }

    /// With it: towards Alice it answers, towards Bob it commits, as late and as cleverly as it can. It has both
    /// sessions' keys and Alice's mixed value before it commits to Bob; all that it may try then is its own number.
    fn grind_numbers(call: u64) -> bool {
        let mut random = rng(call);
        let (mut alice, alices_commitment) = Comparison::commit(b"call", &mut random);
        let mut bob = Comparison::answer(b"call", &mut random);
        let CompareStep::Commitment(_) = alices_commitment else {
            panic!("Alice commits first");
        };
        // Towards Alice any number is as good as another: what she mixes is fixed by it, but not known yet.
        alice.handle(CompareStep::Number([7; 32])).unwrap();
        let alices = shown(&alice.mixed().unwrap());
        // Towards Bob: whichever of its numbers it commits to, Bob's own is not known.
        let guess = |bobs: &[u8; 32], own: &[u8; 32]| {
            shown(&hash(MIXED_LABEL, b"call", &[own, bobs])) == alices
        };
        let own = (0..TRIES).find_map(|n| {
            let mut own = [0; 32];
            own[..8].copy_from_slice(&n.to_be_bytes());
            // The best it can do: assume something of Bob's number.
            guess(&[0; 32], &own).then_some(own)
        });
        let own = own.unwrap_or_default();
        let commitment = CompareStep::Commitment(hash(COMMIT_LABEL, b"call", &[&own]));
        let Ok(Some(CompareStep::Number(bobs))) = bob.handle(commitment) else {
            panic!("Bob answers");
        };
        // Now it could find a number that fits, and Bob does not take it.
        let fitting = (0..TRIES).find_map(|n| {
            let mut other = [1; 32];
            other[..8].copy_from_slice(&n.to_be_bytes());
            guess(&bobs, &other).then_some(other)
        });
        let mut fooled = bob.clone();
        if let Some(other) = fitting {
            assert_eq!(
                fooled.handle(CompareStep::Number(other)),
                Err(BrokenExchange)
            );
            assert_eq!(fooled.mixed(), None, "and no words are shown");
        }
        bob.handle(CompareStep::Number(own)).unwrap();
        shown(&bob.mixed().unwrap()) == alices
    }

    #[test]
    fn somebody_in_between_has_one_guess() {
        let fooled = (0..CALLS).filter(|call| grind_numbers(*call)).count();
        // One in 2048 each: two of fifty would be a chance of one in four thousand.
        assert!(fooled <= 1, "{fooled} of {CALLS}");
        eprintln!(
            "threat 3: somebody in between who tries 2^15 keys gets one word equal in {fooled} of {CALLS} calls, without \
             commit and reveal in {}",
            (0..CALLS).filter(|call| grind_keys(*call)).count()
        );
    }

    #[test]
    fn without_it_somebody_in_between_finds_keys_that_fit() {
        let fooled = (0..CALLS).filter(|call| grind_keys(*call)).count();
        assert_eq!(fooled as u64, CALLS);
    }
}
