//! Work that strangers do before a flooded supernode hands their envelopes on. Sans-IO.
//!
//! Contacts mark what they leave ([`MailKey::mark`](super::mailbox::MailKey::mark)) and have rooms of their own. All others
//! share a small one, and a flood from many networks keeps it full, whoever is metered: an honest first caller finds no place
//! any more. So while less than half of that room is free, a stranger's envelope is answered with a [`Puzzle`] instead, and is
//! handed on when it comes again with the [`Proof`]. The emptier the room, the more work; each bit doubles it, so a flood soon
//! costs more than it has and settles where it leaves room. While there is room enough nobody is asked, and no round trip is
//! spent.
//!
//! ```text
//! puzzle: | bits | u32 expires, in seconds of the supernode's own clock | cookie (32) |
//! proof:  | puzzle | u64 nonce |
//! ```
//! The cookie is BLAKE3, keyed with a secret that the supernode draws when it starts, over label, the asker, the device that is
//! written to, bits and expires. So nothing is remembered of a puzzle that was given out, and it is worth nothing at another
//! supernode, by another connection, for another device or later. The asker is the connection and, where it showed one, its key:
//! who shows none has keys for this connection alone. A proof is a nonce with which
//! BLAKE3(BLAKE3(label, cookie, hash of the envelope), nonce) begins with `bits` zero bits. Checking one takes four hashes,
//! however hard it was to find. A cookie counts once; used ones are remembered until they expire.
//!
//! Nobody works for nothing: whatever would refuse the envelope however much was done for it is looked at before work is asked
//! for, and what only time mends leaves a proof as good as it was. The bytes of an envelope are paid for with the question, so
//! the answer costs nothing of the sender's share.
//!
//! Invites do not spare the work. What tells that somebody holds one lies in the envelope, and it names the person who calls;
//! shown to the supernode it would tell there who calls whom, or at least which of a person's callers were invited, and it would
//! bind those together who hold the same one. Now a supernode learns of a caller only whether it is a contact.

#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::cast_possible_truncation)
)]

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use ahoy_transport::{
    identity::{DeviceId, UserId},
    wire::{Reader, WireError, Writer},
};
use zeroize::Zeroizing;

/// How long a puzzle may be answered. Longer than [`MOST_WORK`] takes, with room for the ways.
pub const LIFETIME: Duration = Duration::from_secs(60);
/// How long a caller works for one envelope before it gives up: a call that has no path after twenty seconds ends anyway.
pub const MOST_WORK: Duration = Duration::from_secs(15);
/// A puzzle with more bits is not begun: a minute or more of a core.
pub const MOST_BITS: u8 = 30;
/// Cookies remembered as used at once, at 36 bytes: 3 MB. When that many came in a lifetime, nothing more is taken from
/// strangers.
pub const MAX_USED: usize = 65_536;
/// A proof may have so many bits less than is asked for by now: the room may have got smaller while somebody worked.
const SLACK_BITS: u8 = 2;
/// Envelopes of this size cost what the curve says; each doubling, a bit more, so that big ones are no cheaper way to fill the
/// room.
const USUAL_BYTES: usize = 4 << 10;
/// The share of the strangers' room in use from which on work is asked for, and all of it; in thousandths.
const FROM_LOAD: u32 = 500;
const FULL_LOAD: u32 = 1000;

const COOKIE_LABEL: &[u8] = b"ahoy/1 puzzle cookie";
const WORK_LABEL: &[u8] = b"ahoy/1 puzzle work";

/// How much work is asked for.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PuzzleLimits {
    /// Ask at all. Off only to show what it is good for.
    pub enabled: bool,
    /// Zero bits when half of the strangers' room is in use: 2^bits hashes.
    pub least_bits: u8,
    /// The same when all of it is.
    pub most_bits: u8,
}

impl Default for PuzzleLimits {
    fn default() -> Self {
        Self {
            enabled: true,
            // A millisecond of a core.
            least_bits: 12,
            // Ten seconds; a flood that is to win anyway takes some hundred cores for each device.
            most_bits: 26,
        }
    }
}

impl PuzzleLimits {
    /// Zero bits asked for when this much of the strangers' room is in use, in thousandths, for an envelope of `size` bytes;
    /// 0: none.
    #[must_use]
    pub fn bits(&self, load: u32, size: usize) -> u8 {
        if !self.enabled || load < FROM_LOAD {
            return 0;
        }
        let span = u32::from(self.most_bits.saturating_sub(self.least_bits));
        let over = load.min(FULL_LOAD) - FROM_LOAD;
        let climbed = u8::try_from(span * over / (FULL_LOAD - FROM_LOAD)).unwrap_or(u8::MAX);
        let doublings = size
            .div_ceil(USUAL_BYTES)
            .max(1)
            .next_power_of_two()
            .ilog2();
        let for_size = u8::try_from(doublings).unwrap_or(u8::MAX);
        let bits = self.least_bits.saturating_add(climbed);
        bits.saturating_add(for_size).clamp(1, MOST_BITS)
    }
}

/// Work that a supernode asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Puzzle {
    /// Zero bits to find.
    pub bits: u8,
    /// In seconds since the supernode started.
    expires: u32,
    cookie: [u8; 32],
}

impl Puzzle {
    /// The puzzle's bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.put_u8(self.bits);
        out.put_u32(self.expires);
        out.put_bytes(&self.cookie);
    }

    /// Reads one.
    ///
    /// # Errors
    /// When the bytes end before it.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self {
            bits: reader.u8()?,
            expires: reader.u32()?,
            cookie: reader.array()?,
        })
    }
}

/// That the work was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proof {
    /// As it was asked for.
    pub puzzle: Puzzle,
    /// What was found.
    pub nonce: u64,
}

impl Proof {
    /// The proof's bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        self.puzzle.write(out);
        out.put_u64(self.nonce);
    }

    /// Reads one without judging it.
    ///
    /// # Errors
    /// When the bytes end before it.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self {
            puzzle: Puzzle::read(reader)?,
            nonce: reader.u64()?,
        })
    }

    /// Whether the nonce fits the puzzle and this envelope.
    fn holds(&self, envelope: &[u8]) -> bool {
        zero_bits(&task(&self.puzzle, envelope), self.nonce) >= u32::from(self.puzzle.bits)
    }
}

/// What all tries for an envelope have in common.
fn task(puzzle: &Puzzle, envelope: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(WORK_LABEL);
    hasher.update(&puzzle.cookie);
    hasher.update(blake3::hash(envelope).as_bytes());
    *hasher.finalize().as_bytes()
}

fn zero_bits(task: &[u8; 32], nonce: u64) -> u32 {
    let mut tried = [0; 40];
    for (to, from) in tried
        .iter_mut()
        .zip(task.iter().copied().chain(nonce.to_be_bytes()))
    {
        *to = from;
    }
    let hash = blake3::hash(&tried);
    let first = hash.as_bytes().first_chunk().copied().unwrap_or([0xff; 8]);
    u64::from_be_bytes(first).leading_zeros()
}

/// The search for a proof, as far as it has come.
#[derive(Debug, Clone)]
pub struct Search {
    puzzle: Puzzle,
    task: [u8; 32],
    next: u64,
}

impl Search {
    /// For this envelope.
    #[must_use]
    pub fn new(puzzle: Puzzle, envelope: &[u8]) -> Self {
        Self {
            puzzle,
            task: task(&puzzle, envelope),
            next: 0,
        }
    }

    /// Makes up to `most` tries. Says how many it made, and what it found.
    pub fn run(&mut self, most: u64) -> (u64, Option<Proof>) {
        for tries in 1..=most {
            let nonce = self.next;
            self.next = self.next.wrapping_add(1);
            if zero_bits(&self.task, nonce) >= u32::from(self.puzzle.bits) {
                let puzzle = self.puzzle;
                return (tries, Some(Proof { puzzle, nonce }));
            }
        }
        (most, None)
    }
}

/// Who asks for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    /// The connection's number.
    pub connection: u64,
    /// The device that its handshake showed, if it did.
    pub asker: Option<DeviceId>,
    /// The device that is written to.
    pub to: (UserId, DeviceId),
}

/// What has been counted since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PuzzleCounters {
    /// Puzzles given out.
    pub asked: u64,
    /// Proofs that counted.
    pub proved: u64,
    /// Proofs that did not: wrong, late, used before, or too easy by now.
    pub refused: u64,
}

/// What becomes of a stranger's envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may go on.
    Pass {
        /// The work was done, for a question that was paid for.
        paid: bool,
    },
    /// This is to be done first.
    Work(Puzzle),
    /// More proofs came than can be remembered.
    Full,
}

/// The puzzles of a supernode.
#[derive(Debug)]
pub struct Puzzles {
    limits: PuzzleLimits,
    /// Nobody is asked without it.
    secret: Option<(Zeroizing<[u8; 32]>, Instant)>,
    /// By when they expire.
    used: BTreeSet<(u32, [u8; 32])>,
    counters: PuzzleCounters,
}

impl Puzzles {
    /// None are given out before [`Self::start`].
    #[must_use]
    pub fn new(limits: PuzzleLimits) -> Self {
        Self {
            limits,
            secret: None,
            used: BTreeSet::new(),
            counters: PuzzleCounters::default(),
        }
    }

    /// From now on, with a secret that nobody else knows.
    pub fn start(&mut self, now: Instant, secret: [u8; 32]) {
        self.secret = Some((Zeroizing::new(secret), now));
    }

    /// Counted since the start.
    #[must_use]
    pub fn counters(&self) -> PuzzleCounters {
        self.counters
    }

    /// A puzzle was given out.
    pub fn note_asked(&mut self) {
        self.counters.asked += 1;
    }

    /// Judges an envelope of a stranger while `load` of the strangers' room is in use, in thousandths.
    pub fn judge(
        &mut self,
        now: Instant,
        question: Question,
        load: u32,
        envelope: &[u8],
        proof: Option<&Proof>,
    ) -> Verdict {
        let Some((secret, began)) = &self.secret else {
            return Verdict::Pass { paid: false };
        };
        let seconds = |at: Duration| u32::try_from(at.as_secs()).unwrap_or(u32::MAX);
        let passed = seconds(now.saturating_duration_since(*began));
        let bits = self.limits.bits(load, envelope.len());
        while self
            .used
            .first()
            .is_some_and(|(expires, _)| *expires <= passed)
        {
            self.used.pop_first();
        }
        let full = self.used.len() >= MAX_USED;
        // Looked at before anybody works.
        if full && bits > 0 {
            return Verdict::Full;
        }
        if let Some(proof) = proof {
            let Puzzle {
                bits: done,
                expires,
                cookie,
            } = proof.puzzle;
            // Ours are the ones that say so; nothing else is looked at before.
            let ours = cookie_of(secret, question, done, expires, envelope) == cookie;
            let timely = expires > passed;
            let enough = done.saturating_add(SLACK_BITS) >= bits;
            let good = ours && timely && enough && proof.holds(envelope);
            if good && !full && self.used.insert((expires, cookie)) {
                self.counters.proved += 1;
                return Verdict::Pass { paid: true };
            }
            // With room enough, it goes on like any other.
            self.counters.refused += u64::from(bits > 0);
        }
        if bits == 0 {
            return Verdict::Pass { paid: false };
        }
        let expires = passed.saturating_add(seconds(LIFETIME));
        let cookie = cookie_of(secret, question, bits, expires, envelope);
        Verdict::Work(Puzzle {
            bits,
            expires,
            cookie: *cookie.as_bytes(),
        })
    }
}

/// Compared in constant time.
fn cookie_of(
    secret: &[u8; 32],
    question: Question,
    bits: u8,
    expires: u32,
    envelope: &[u8],
) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_keyed(secret);
    hasher.update(COOKIE_LABEL);
    hasher.update(&question.connection.to_be_bytes());
    let asker = question.asker.map_or([0; 32], |asker| asker.0);
    hasher.update(&[u8::from(question.asker.is_some())]);
    hasher.update(&asker);
    hasher.update(question.to.0.as_bytes());
    hasher.update(question.to.1.as_bytes());
    hasher.update(&[bits]);
    hasher.update(&expires.to_be_bytes());
    // Two of one moment are two questions.
    hasher.update(blake3::hash(envelope).as_bytes());
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    const ENVELOPE: &[u8] = &[7; 3000];
    const LOAD: u32 = 600;

    fn now() -> Instant {
        #[expect(
            clippy::disallowed_methods,
            reason = "a test needs one instant to start from"
        )]
        Instant::now()
    }

    fn question() -> Question {
        Question {
            connection: 5,
            asker: None,
            to: (UserId([3; 32]), DeviceId([4; 32])),
        }
    }

    fn puzzles(now: Instant) -> Puzzles {
        let mut puzzles = Puzzles::new(PuzzleLimits {
            least_bits: 6,
            most_bits: 16,
            ..PuzzleLimits::default()
        });
        puzzles.start(now, [9; 32]);
        puzzles
    }

    fn asked(verdict: Verdict) -> Puzzle {
        match verdict {
            Verdict::Work(puzzle) => puzzle,
            Verdict::Pass { .. } | Verdict::Full => panic!("{verdict:?}"),
        }
    }

    fn solve(puzzle: Puzzle, envelope: &[u8]) -> Proof {
        Search::new(puzzle, envelope).run(u64::MAX).1.unwrap()
    }

    #[test]
    fn whoever_has_room_is_asked_for_nothing_and_the_rest_for_more_and_more() {
        let limits = PuzzleLimits::default();
        assert_eq!((limits.bits(0, 1), limits.bits(499, 20 << 10)), (0, 0));
        assert_eq!((limits.bits(500, 2048), limits.bits(1000, 2048)), (12, 26));
        assert_eq!(limits.bits(500, 20 << 10), 12 + 3, "big ones cost more");
        for load in 500..1000 {
            assert!(limits.bits(load, 1) <= limits.bits(load + 1, 1));
        }
        let off = PuzzleLimits {
            enabled: false,
            ..limits
        };
        assert_eq!(off.bits(1000, 20 << 10), 0);
        let mut idle = puzzles(now());
        let calm = idle.judge(now(), question(), 400, ENVELOPE, None);
        assert_eq!(
            (calm, idle.counters()),
            (Verdict::Pass { paid: false }, PuzzleCounters::default())
        );
    }

    #[test]
    fn a_proof_passes_once_and_for_what_it_was_made_for_alone() {
        let start = now();
        let mut puzzles = puzzles(start);
        let puzzle = asked(puzzles.judge(start, question(), LOAD, ENVELOPE, None));
        assert_eq!(puzzle.bits, 8);
        let proof = solve(puzzle, ENVELOPE);
        let mut judge = |at, question, load, envelope: &[u8], proof: &Proof| {
            puzzles.judge(at, question, load, envelope, Some(proof)) == Verdict::Pass { paid: true }
        };
        let later = start + LIFETIME;
        let by_another = Question {
            connection: 6,
            ..question()
        };
        let by_a_key = Question {
            asker: Some(DeviceId([1; 32])),
            ..question()
        };
        let to_another = Question {
            to: (UserId([3; 32]), DeviceId([5; 32])),
            ..question()
        };
        for other in [by_another, by_a_key, to_another] {
            assert!(!judge(start, other, LOAD, ENVELOPE, &proof));
        }
        assert!(
            !judge(start, question(), LOAD, &[8; 3000], &proof),
            "envelope"
        );
        assert!(!judge(later, question(), LOAD, ENVELOPE, &proof), "time");
        assert!(!judge(start, question(), 900, ENVELOPE, &proof), "too easy");
        let easier = Proof {
            puzzle: Puzzle { bits: 1, ..puzzle },
            ..proof
        };
        assert!(!judge(start, question(), LOAD, ENVELOPE, &easier));
        let longer = Proof {
            puzzle: Puzzle {
                expires: puzzle.expires + 1,
                ..puzzle
            },
            ..proof
        };
        assert!(!judge(start, question(), LOAD, ENVELOPE, &longer));
        // A little more is asked for by now.
        assert!(judge(start, question(), 700, ENVELOPE, &proof));
        assert!(!judge(start, question(), LOAD, ENVELOPE, &proof), "again");
        // With room, it goes on, and is paid for like any other.
        let calm = puzzles.judge(start, question(), 0, ENVELOPE, Some(&proof));
        assert_eq!(calm, Verdict::Pass { paid: false });
        let counters = puzzles.counters();
        assert_eq!((counters.proved, counters.refused), (1, 9));
        // Another supernode's secret is another one.
        let mut other = Puzzles::new(PuzzleLimits::default());
        other.start(start, [8; 32]);
        let verdict = other.judge(start, question(), LOAD, ENVELOPE, Some(&proof));
        assert!(matches!(verdict, Verdict::Work(_)));
    }

    #[test]
    fn used_cookies_are_forgotten_when_they_expire_and_never_too_many_are_kept() {
        let start = now();
        let mut puzzles = puzzles(start);
        for n in 0..10 {
            let question = Question {
                connection: n,
                ..question()
            };
            let puzzle = asked(puzzles.judge(start, question, LOAD, ENVELOPE, None));
            let proof = solve(puzzle, ENVELOPE);
            let passed = puzzles.judge(start, question, LOAD, ENVELOPE, Some(&proof));
            assert_eq!(passed, Verdict::Pass { paid: true });
        }
        assert_eq!(puzzles.used.len(), 10);
        let last = Question {
            connection: 10,
            ..question()
        };
        let puzzle = asked(puzzles.judge(start, last, LOAD, ENVELOPE, None));
        let proof = solve(puzzle, ENVELOPE);
        let fill = (0..MAX_USED as u64 - 10).map(|n| {
            let mut cookie = [0; 32];
            cookie[..8].copy_from_slice(&n.to_be_bytes());
            (60, cookie)
        });
        puzzles.used.extend(fill);
        let mut judge = |at, proof: Option<&Proof>| puzzles.judge(at, last, LOAD, ENVELOPE, proof);
        assert_eq!(judge(start, Some(&proof)), Verdict::Full);
        assert_eq!(judge(start, None), Verdict::Full, "nobody works for that");
        let later = start + LIFETIME;
        assert!(
            matches!(judge(later, Some(&proof)), Verdict::Work(_)),
            "too late"
        );
        assert!(puzzles.used.is_empty());
    }

    proptest! {
        #[test]
        fn puzzles_and_proofs_round_trip_and_garbage_does_not_panic(bytes in vec(any::<u8>(), 0..60)) {
            let mut reader = Reader::new(&bytes);
            if let Ok(proof) = Proof::read(&mut reader) {
                let mut out = Vec::new();
                proof.write(&mut out);
                prop_assert_eq!(&out[..], &bytes[..out.len()]);
                let _judged = proof.holds(&bytes);
                let mut puzzles = puzzles(now());
                let verdict = puzzles.judge(now(), question(), LOAD, &bytes, Some(&proof));
                prop_assert!(matches!(verdict, Verdict::Work(_)));
            }
        }
    }
}
