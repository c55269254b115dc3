//! What the commands about one's own data work on.

use std::{io::Read, path::PathBuf};

use ahoy_transport::runtime::{Runtime as _, TokioRuntime};
use rand_core::{CryptoRngCore, OsRng};
use zeroize::Zeroizing;

use super::{CliError, Common, lock::cost_here, unlock};
use crate::{
    identity::Identity,
    link::PersonLink,
    passphrase::Cost,
    profile::{Profile, ProfileLock},
    settings::Settings,
    store::Store,
};

/// Longest text read from standard input, in bytes: the longest device log, written in z-base-32, and room.
pub(super) const MAX_INPUT: u64 = 512 * 1024;

/// A profile, a clock, randomness, and what is typed.
pub(super) struct Env<'a> {
    pub(super) profile: Profile,
    pub(super) now_millis: u64,
    pub(super) rng: Box<dyn CryptoRngCore + 'a>,
    pub(super) input: Box<dyn Read + 'a>,
    /// Where a new passphrase comes from, if not from there.
    pub(super) passphrase_file: Option<PathBuf>,
    /// What a guess at a new one has to cost.
    pub(super) cost: Box<dyn Fn() -> Cost>,
}

impl Env<'_> {
    /// The real ones.
    pub(super) fn real(common: &Common) -> Result<Self, CliError> {
        Ok(Self {
            profile: unlock::profile(common)?,
            now_millis: TokioRuntime.unix_millis(),
            rng: Box::new(OsRng),
            input: Box::new(std::io::stdin()),
            passphrase_file: unlock::passphrase_file(common),
            cost: Box::new(cost_here),
        })
    }

    /// Who we are; the first use makes somebody.
    pub(super) fn identity(&mut self) -> Result<Identity, CliError> {
        Ok(self
            .profile
            .open_or_create(&mut *self.rng, self.now_millis)?)
    }

    /// The database, for as long as the lock is held.
    pub(super) fn store(&self) -> Result<(Store, ProfileLock), CliError> {
        let lock = self.profile.lock()?;
        Ok((Store::open(&lock)?, lock))
    }

    /// The link to give to others.
    pub(super) fn link(&self, identity: &Identity) -> Result<PersonLink, CliError> {
        let mut link = PersonLink::new(identity.user());
        link.homes = identity.log().homes().to_vec();
        link.name = Settings::load(&self.profile)?.name;
        Ok(link)
    }

    /// All of standard input.
    pub(super) fn read_input(&mut self) -> Result<Zeroizing<String>, CliError> {
        // Large enough from the start: growing would leave copies of secrets behind.
        let mut text = Zeroizing::new(String::with_capacity(4096));
        let mut input = self.input.as_mut().take(MAX_INPUT);
        let read = input.read_to_string(&mut text);
        read.map_err(|error| CliError::failed(format_args!("cannot read the input: {error}")))?;
        Ok(text)
    }
}
