//! The root key on paper: 24 English words (BIP 39, 256 bits).

use ahoy_transport::identity::RootKey;
use bip39::{Language, Mnemonic};
use zeroize::Zeroizing;

/// How many words there are.
pub const WORDS: usize = 24;

/// What is wrong with a list of words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WordsError {
    /// Not 24.
    #[error("{0} words were given, but there are 24")]
    Count(usize),
    /// A word that is not in the list.
    #[error("word {position} is {word:?}, which is not one of the words{}", suggestion.map(|word| format!("; did you mean {word:?}?")).unwrap_or_default())]
    Unknown {
        /// Which one, counted from 1.
        position: usize,
        /// What was written.
        word: String,
        /// The word that was probably meant.
        suggestion: Option<&'static str>,
    },
    /// All are words, but together they are no key.
    #[error(
        "each word is right, but they do not belong together: compare them with the paper, and their order"
    )]
    Checksum,
}

/// The 24 words of a root key, separated by single spaces.
#[must_use]
pub fn words(root: &RootKey) -> Zeroizing<String> {
    let mnemonic = Mnemonic::from_entropy(&*root.seed()).expect("32 bytes make 24 words");
    let mut text = Zeroizing::new(String::with_capacity(WORDS * 9));
    for word in mnemonic.words() {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(word);
    }
    text
}

/// The root key of 24 words. Case and spacing do not matter.
///
/// # Errors
/// Says which word is wrong, and which was probably meant.
pub fn root_from_words(text: &str) -> Result<RootKey, WordsError> {
    let lower = Zeroizing::new(text.to_lowercase());
    let given: Vec<&str> = lower.split_whitespace().collect();
    if given.len() != WORDS {
        return Err(WordsError::Count(given.len()));
    }
    for (index, word) in given.iter().enumerate() {
        if Language::English.find_word(word).is_none() {
            return Err(WordsError::Unknown {
                position: index + 1,
                word: word.chars().take(16).collect(),
                suggestion: suggest(word),
            });
        }
    }
    let joined = Zeroizing::new(given.join(" "));
    let mnemonic = Mnemonic::parse_in_normalized(Language::English, &joined)
        .map_err(|_checked_above| WordsError::Checksum)?;
    let entropy = Zeroizing::new(mnemonic.to_entropy());
    let seed: &[u8; 32] = entropy.first_chunk().ok_or(WordsError::Checksum)?;
    Ok(RootKey::from_seed(seed))
}

/// The word that differs least: the list is made so that four letters tell a word.
fn suggest(wrong: &str) -> Option<&'static str> {
    let start: String = wrong.chars().take(4).collect();
    let list = Language::English.word_list();
    list.iter()
        .copied()
        .find(|word| start.chars().count() == 4 && word.starts_with(&start))
        .or_else(|| {
            list.iter()
                .copied()
                .map(|word| (distance(wrong, word), word))
                .filter(|(distance, _word)| *distance <= 2)
                .min_by_key(|(distance, _word)| *distance)
                .map(|(_distance, word)| word)
        })
}

/// How many letters must be added, removed, changed, or swapped with their neighbour.
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) =
        (one.chars().take(16).collect(), other.chars().collect());
    let mut rows = vec![(0..=other.len()).collect::<Vec<_>>()];
    for i in 1..=one.len() {
        let mut row = vec![i];
        for j in 1..=other.len() {
            let same = one[i - 1] == other[j - 1];
            let mut best = (rows[i - 1][j - 1] + usize::from(!same))
                .min(rows[i - 1][j] + 1)
                .min(row[j - 1] + 1);
            if i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[one.len()][other.len()]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// BIP 39's own vector for 32 bytes of 0x7f.
    const LEGAL: &str = "legal winner thank year wave sausage worth useful legal winner thank year wave sausage worth useful legal winner thank year wave sausage worth title";

    #[test]
    fn the_standards_vectors_hold() {
        assert_eq!(*words(&RootKey::from_seed(&[0x7f; 32])), LEGAL);
        let zeros = format!("{}art", "abandon ".repeat(23));
        assert_eq!(*words(&RootKey::from_seed(&[0; 32])), zeros);
        assert_eq!(*root_from_words(LEGAL).unwrap().seed(), [0x7f; 32]);
    }

    #[test]
    fn case_and_spacing_do_not_matter() {
        let text = format!("  {}\n", LEGAL.to_uppercase().replace(' ', " \n\t"));
        assert_eq!(*root_from_words(&text).unwrap().seed(), [0x7f; 32]);
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(root_from_words("").unwrap_err(), WordsError::Count(0));
        assert_eq!(
            root_from_words(&format!("{LEGAL} legal")).unwrap_err(),
            WordsError::Count(25)
        );
        let swapped = LEGAL.replacen("legal winner", "winner legal", 1);
        assert_eq!(root_from_words(&swapped).unwrap_err(), WordsError::Checksum);
        for (wrong, meant) in [
            ("winnr", "winner"),
            ("sausages", "sausage"),
            ("yaer", "year"),
            ("usefull", "useful"),
        ] {
            let text = LEGAL.replacen(meant, wrong, 1);
            let error = root_from_words(&text).unwrap_err();
            let WordsError::Unknown { suggestion, .. } = &error else {
                panic!("{error}")
            };
            assert_eq!(*suggestion, Some(meant));
            assert!(error.to_string().contains("did you mean"), "{error}");
        }
        let text = LEGAL.replacen("legal", "qqqqqqqq", 1);
        assert_eq!(
            root_from_words(&text).unwrap_err(),
            WordsError::Unknown {
                position: 1,
                word: "qqqqqqqq".into(),
                suggestion: None
            }
        );
    }

    proptest! {
        #[test]
        fn every_key_survives_paper(seed: [u8; 32]) {
            let text = words(&RootKey::from_seed(&seed));
            prop_assert_eq!(text.split(' ').count(), WORDS);
            prop_assert_eq!(*root_from_words(&text).unwrap().seed(), seed);
        }

        #[test]
        fn a_wrong_word_is_noticed_255_times_of_256(seed: [u8; 32], at in 0..WORDS, with in 0usize..2048) {
            let text = words(&RootKey::from_seed(&seed));
            let mut changed: Vec<&str> = text.split(' ').collect();
            changed[at] = Language::English.word_list()[with];
            if let Ok(root) = root_from_words(&changed.join(" ")) {
                // Never silently another spelling of the same key.
                prop_assert_eq!(*root.seed() == seed, changed.join(" ") == *text);
            }
        }

        #[test]
        fn garbage_is_an_error(text: String) {
            prop_assert!(root_from_words(&text).is_err());
        }
    }
}
