//! Safety words: what two people read to each other to be sure that nobody sits between them.

use ahoy_transport::identity::{LogPosition, UserId};
use bip39::Language;
use sha2::{Digest, Sha256};

/// How many words there are: 66 bits.
pub const SAFETY_WORDS: usize = 6;

const LABEL: &[u8] = b"ahoy/1 safety words\0";
const COMPARED_LABEL: &[u8] = b"ahoy/1 compared session\0";

/// The words for two people, the heads of their device logs, and the session between them.
///
/// Both sides get the same words: the person with the lower id counts first. `session` must be a value that
/// neither side, nor anybody between them, could choose: [`compared_session`]. Without commit and reveal, somebody
/// between could search 2^66 keys beforehand, or 2^33 on either side; with it, they have one guess.
///
/// SHA-256 of `ahoy/1 safety words`, a zero byte, then user id (32), log n (u64), log hash (32) of the lower
/// and of the higher, then the session's 32 bytes; its first 66 bits are six words of the BIP 39 English
/// list, 11 bits each, most significant first.
#[must_use]
pub fn safety_words(
    one: (UserId, LogPosition),
    other: (UserId, LogPosition),
    session: &[u8; 32],
) -> [&'static str; SAFETY_WORDS] {
    let (first, second) = if one.0 <= other.0 {
        (one, other)
    } else {
        (other, one)
    };
    let mut hash = Sha256::new().chain_update(LABEL);
    for (user, head) in [first, second] {
        hash.update(user.as_bytes());
        hash.update(head.n.to_be_bytes());
        hash.update(head.hash);
    }
    let digest: [u8; 32] = hash.chain_update(session).finalize().into();
    let (start, _rest) = digest
        .split_first_chunk::<16>()
        .expect("a hash has 32 bytes");
    let bits = u128::from_be_bytes(*start);
    std::array::from_fn(|word| {
        let index = bits >> (128 - 11 * (word + 1)) & 0x7ff;
        let index = usize::try_from(index).expect("11 bits");
        Language::English.word_list()[index]
    })
}

/// What the words are made from where both sides know commit and reveal: the session's exporter, and what came of the
/// [exchange](super::compare).
#[must_use]
pub fn compared_session(exporter: &[u8; 32], mixed: &[u8; 32]) -> [u8; 32] {
    Sha256::new()
        .chain_update(COMPARED_LABEL)
        .chain_update(exporter)
        .chain_update(mixed)
        .finalize()
        .into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn side(seed: u8) -> (UserId, LogPosition) {
        (
            UserId([seed; 32]),
            LogPosition {
                n: u64::from(seed),
                hash: [seed; 32],
            },
        )
    }

    #[test]
    fn both_sides_read_the_same_words() {
        let words = safety_words(side(1), side(2), &[3; 32]);
        assert_eq!(words, safety_words(side(2), side(1), &[3; 32]));
        assert_eq!(words.join(" "), "critic wool blush habit cable stool");
    }

    proptest! {
        #[test]
        fn anything_else_gives_other_words(user: [u8; 32], n: u64, hash: [u8; 32], session: [u8; 32]) {
            let words = safety_words(side(1), side(2), &[3; 32]);
            let head = LogPosition { n, hash };
            for other in [
                safety_words(side(1), (UserId(user), side(2).1), &[3; 32]),
                safety_words((side(1).0, head), side(2), &[3; 32]),
                safety_words(side(1), (side(2).0, head), &[3; 32]),
                safety_words(side(1), side(2), &session),
            ] {
                prop_assert_ne!(words, other);
            }
        }
    }
}
