//! From a passphrase to a key, as slowly as guessing has to be: Argon2id (RFC 9106), one lane.

use std::time::Duration;

use argon2::{Algorithm, Argon2, Params, Version};
use zeroize::Zeroizing;

/// A shorter passphrase is found by trying.
pub const MIN_CHARS: usize = 8;
/// RFC 9106 section 4, the second choice, with one lane: 64 MiB, three passes. A tenth of a second or more.
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
/// A file that asks for more is somebody's joke: 1 GiB.
const MAX_MEMORY_KIB: u32 = 1024 * 1024;
const MAX_PASSES: u32 = 32;
/// How long one guess takes where the key is made: four a second and core, and a wait that a person does not mind.
const PATIENCE: Duration = Duration::from_millis(250);
/// Faster machines than this one are not made slower than that.
const MOST_PASSES: u32 = 16;

/// Why there is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PassphraseError {
    /// It asks for more memory or time than any passphrase is worth, or for what Argon2id does not do.
    #[error("it asks for more work than any passphrase is worth; it was not made by ahoy")]
    Cost,
    /// Nobody should rely on it.
    #[error(
        "the passphrase is too short: {MIN_CHARS} characters at least, better five words that nobody knows"
    )]
    Short,
}

/// What one guess takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Memory, in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
}

impl Cost {
    /// The least that is asked of anybody.
    pub const USUAL: Self = Self {
        memory_kib: MEMORY_KIB,
        passes: PASSES,
    };

    /// As much as a quarter of a second of this machine allows, and never less than [`Self::USUAL`]. `takes` tells how long
    /// the usual one takes here.
    #[must_use]
    pub fn tuned(takes: impl FnOnce(Self) -> Duration) -> Self {
        let usual = takes(Self::USUAL).max(Duration::from_millis(1));
        let passes = (PATIENCE.as_micros() * u128::from(PASSES)).div_ceil(usual.as_micros());
        let passes = u32::try_from(passes).unwrap_or(MOST_PASSES);
        Self {
            passes: passes.clamp(PASSES, MOST_PASSES),
            ..Self::USUAL
        }
    }

    /// Whether a file that was found somewhere may ask for this.
    ///
    /// # Errors
    /// [`PassphraseError::Cost`].
    pub fn check(self) -> Result<Self, PassphraseError> {
        if self.memory_kib > MAX_MEMORY_KIB || self.passes > MAX_PASSES {
            Err(PassphraseError::Cost)
        } else {
            Ok(self)
        }
    }
}

/// Whether somebody may rely on it.
///
/// # Errors
/// [`PassphraseError::Short`].
pub fn check(passphrase: &str) -> Result<(), PassphraseError> {
    if passphrase.trim().chars().count() < MIN_CHARS {
        Err(PassphraseError::Short)
    } else {
        Ok(())
    }
}

/// The key of a passphrase; spaces and line ends around it do not count. Takes its time, and [`Cost::memory_kib`] of memory.
///
/// # Errors
/// [`PassphraseError::Cost`].
pub fn key(
    passphrase: &str,
    salt: &[u8],
    cost: Cost,
) -> Result<Zeroizing<[u8; 32]>, PassphraseError> {
    let Cost { memory_kib, passes } = cost.check()?;
    let mut key = Zeroizing::new([0; 32]);
    let undefined = |_undefined| PassphraseError::Cost;
    let params = Params::new(memory_kib, passes, 1, Some(key.len())).map_err(undefined)?;
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.trim().as_bytes(), salt, &mut *key)
        .map_err(undefined)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guess_costs_a_quarter_of_a_second_and_never_less_than_usual() {
        let after = |millis| Cost::tuned(|_usual| Duration::from_millis(millis)).passes;
        assert_eq!(after(1000), PASSES, "a slow machine makes nothing weaker");
        assert_eq!(after(250), PASSES);
        assert_eq!(after(125), 2 * PASSES);
        assert_eq!(after(100), 8);
        assert_eq!(after(0), MOST_PASSES);
        assert!(Cost::tuned(|_usual| Duration::ZERO).check().is_ok());
    }

    #[test]
    fn the_key_is_that_of_salt_cost_and_passphrase() {
        let cheap = Cost {
            memory_kib: 64,
            passes: 1,
        };
        let one = |passphrase, salt, cost| key(passphrase, salt, cost).unwrap();
        let first = one("correct horse", &[1; 16], cheap);
        assert_eq!(first, one(" correct horse\n", &[1; 16], cheap));
        let more = Cost { passes: 2, ..cheap };
        for other in [
            one("correct house", &[1; 16], cheap),
            one("correct horse", &[2; 16], cheap),
            one("correct horse", &[1; 16], more),
        ] {
            assert_ne!(first, other);
        }
        for mad in [(u32::MAX, 1), (64, u32::MAX), (0, 0)] {
            let cost = Cost {
                memory_kib: mad.0,
                passes: mad.1,
            };
            assert_eq!(
                key("x", &[1; 16], cost).map(drop),
                Err(PassphraseError::Cost)
            );
        }
        assert_eq!(check(" short "), Err(PassphraseError::Short));
        assert_eq!(check("long enough"), Ok(()));
    }
}
