//! Which key does what in a call, as far as people choose that: letters and digits, each for one thing.
//!
//! Keys that work everywhere (Tab, Escape, those with Ctrl) are as everywhere else, and are not chosen.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a key does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallKey {
    /// Answers.
    Answer,
    /// The same, and shows the camera.
    AnswerSeen,
    /// Declines.
    Decline,
    /// The same, with a message.
    DeclineSaying,
    /// Hears no more of who waits.
    Ignore,
    /// Ends the call, or stops calling.
    HangUp,
    /// Mutes, or not any more.
    Mute,
    /// Shows the camera, or not any more.
    Camera,
    /// Shows something else, or not any more.
    Share,
    /// Records, or not any more.
    Record,
    /// Puts the other side on hold, or takes it off.
    Hold,
    /// Goes on with the call that is on hold.
    Switch,
}

impl CallKey {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Answer,
        Self::AnswerSeen,
        Self::Decline,
        Self::DeclineSaying,
        Self::Ignore,
        Self::HangUp,
        Self::Mute,
        Self::Camera,
        Self::Share,
        Self::Record,
        Self::Hold,
        Self::Switch,
    ];

    /// Its key where none was chosen.
    #[must_use]
    pub const fn usual(self) -> char {
        match self {
            Self::Answer => 'A',
            Self::AnswerSeen => 'V',
            Self::Decline => 'D',
            Self::DeclineSaying => 'T',
            Self::Ignore => 'I',
            Self::HangUp => 'H',
            Self::Mute => 'M',
            Self::Camera => 'C',
            Self::Share => 'S',
            Self::Record => 'R',
            Self::Hold => 'O',
            Self::Switch => 'W',
        }
    }
}

/// Why a key is not chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It is none of those that can be.
    #[error("only letters from A to Z and digits can be chosen as keys")]
    Unfit,
    /// A call may offer both at once, so all keys differ.
    #[error("the key {0} cannot do two things")]
    Taken(char, CallKey),
}

/// What was chosen; everything else has its usual key. No two things ever have the same one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    try_from = "BTreeMap<CallKey, String>",
    into = "BTreeMap<CallKey, String>"
)]
pub struct KeyChoices(BTreeMap<CallKey, char>);

impl KeyChoices {
    /// The key of this.
    #[must_use]
    pub fn key(&self, which: CallKey) -> char {
        self.0.get(&which).copied().unwrap_or(which.usual())
    }

    /// Everything has its usual key.
    #[must_use]
    pub fn are_usual(&self) -> bool {
        self.0.is_empty()
    }

    /// These, but with another key for that; a small letter is taken for the large one.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn with(&self, which: CallKey, key: char) -> Result<Self, KeyError> {
        let key = key.to_ascii_uppercase();
        if !key.is_ascii_uppercase() && !key.is_ascii_digit() {
            return Err(KeyError::Unfit);
        }
        let mut others = CallKey::ALL.into_iter().filter(|other| *other != which);
        if let Some(other) = others.find(|other| self.key(*other) == key) {
            return Err(KeyError::Taken(key, other));
        }
        let mut chosen = self.clone();
        if key == which.usual() {
            chosen.0.remove(&which);
        } else {
            chosen.0.insert(which, key);
        }
        Ok(chosen)
    }

    /// Whether all keys are fit, and differ.
    fn check(self) -> Result<Self, KeyError> {
        for which in CallKey::ALL {
            self.with(which, self.key(which))?;
        }
        Ok(self)
    }
}

impl TryFrom<BTreeMap<CallKey, String>> for KeyChoices {
    type Error = KeyError;

    fn try_from(written: BTreeMap<CallKey, String>) -> Result<Self, KeyError> {
        let mut chosen = BTreeMap::new();
        for (which, key) in written {
            let mut letters = key.chars();
            let (Some(letter), None) = (letters.next(), letters.next()) else {
                return Err(KeyError::Unfit);
            };
            let letter = letter.to_ascii_uppercase();
            if letter != which.usual() {
                chosen.insert(which, letter);
            }
        }
        Self(chosen).check()
    }
}

impl From<KeyChoices> for BTreeMap<CallKey, String> {
    fn from(choices: KeyChoices) -> Self {
        let chosen = choices.0.into_iter();
        chosen
            .map(|(which, key)| (which, key.to_string()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Serialize, Deserialize, PartialEq)]
    struct File {
        keys: KeyChoices,
    }

    #[test]
    fn usual_keys_differ_and_a_chosen_one_is_kept_as_it_is_written() {
        let usual = KeyChoices::default();
        assert_eq!(usual.clone().check(), Ok(usual.clone()));
        let chosen = usual.with(CallKey::Mute, 'k').unwrap();
        assert_eq!(chosen.key(CallKey::Mute), 'K');
        let file = File { keys: chosen };
        let text = toml::to_string(&file).unwrap();
        assert_eq!(text, "[keys]\nmute = \"K\"\n");
        assert_eq!(toml::from_str::<File>(&text).unwrap(), file);
        // Its usual key is no choice.
        let back = file.keys.with(CallKey::Mute, 'M').unwrap();
        assert!(back.are_usual());
    }

    #[test]
    fn what_cannot_be_is_refused_also_where_it_was_written_by_hand() {
        let usual = KeyChoices::default();
        let taken = usual.with(CallKey::Mute, 'C');
        assert_eq!(taken, Err(KeyError::Taken('C', CallKey::Camera)));
        for unfit in [' ', 'ß', 'é', ',', '\u{1b}'] {
            assert_eq!(usual.with(CallKey::Mute, unfit), Err(KeyError::Unfit));
        }
        for text in [
            "[keys]\nmute = \"C\"\n",
            "[keys]\nmute = \"\"\n",
            "[keys]\nmute = \"KK\"\n",
            "[keys]\nmute = \"?\"\n",
            "[keys]\nfly = \"F\"\n",
        ] {
            assert!(toml::from_str::<File>(text).is_err(), "{text}");
        }
        // Two may change places, which no single choice does.
        let text = "[keys]\nmute = \"C\"\ncamera = \"M\"\n";
        let file: File = toml::from_str(text).unwrap();
        assert_eq!(file.keys.key(CallKey::Camera), 'M');
    }

    proptest! {
        #[test]
        fn whatever_is_chosen_no_two_things_have_the_same_key(
            wishes in prop::collection::vec((0..CallKey::ALL.len(), any::<char>()), 0..40),
        ) {
            let mut choices = KeyChoices::default();
            for (which, key) in wishes {
                if let Ok(chosen) = choices.with(CallKey::ALL[which], key) {
                    choices = chosen;
                }
                let keys: std::collections::BTreeSet<char> =
                    CallKey::ALL.iter().map(|which| choices.key(*which)).collect();
                prop_assert_eq!(keys.len(), CallKey::ALL.len());
            }
        }
    }
}
