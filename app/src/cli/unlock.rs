//! Where the passphrase of a profile comes from: a file, or somebody who types.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use zeroize::Zeroizing;

use super::{CliError, Common};
use crate::{
    passphrase,
    profile::{HOME_VARIABLE, Profile, ProfileError, VAULT_VARIABLE},
};

/// Names a file with the passphrase, for scripts and services.
pub const PASSPHRASE_FILE_VARIABLE: &str = "AHOY_PASSPHRASE_FILE";
/// Longest passphrase, in bytes.
const MAX_PASSPHRASE: u64 = 4096;

/// The file that options and environment name.
pub(super) fn passphrase_file(common: &Common) -> Option<PathBuf> {
    let variable = std::env::var_os(PASSPHRASE_FILE_VARIABLE).filter(|value| !value.is_empty());
    common
        .passphrase_file
        .clone()
        .or(variable.map(PathBuf::from))
}

/// The profile that options and environment name. Its passphrase, if it has one, is asked for when it is needed.
pub(super) fn profile(common: &Common) -> Result<Profile, ProfileError> {
    let variable = std::env::var_os(HOME_VARIABLE);
    let profile = Profile::locate(common.home.clone(), variable)?;
    let profile = if std::env::var_os(VAULT_VARIABLE).is_some_and(|value| value == "off") {
        profile.unsealed()
    } else {
        profile
    };
    let file = passphrase_file(common);
    Ok(profile.asking(Arc::new(move || match &file {
        Some(file) => read_file(file),
        None if io::stdin().is_terminal() => typed("Passphrase: "),
        None => Err(ProfileError::Locked),
    })))
}

/// The passphrase in a file.
pub(super) fn read_file(path: &Path) -> Result<Zeroizing<String>, ProfileError> {
    let cannot =
        |error: io::Error| ProfileError::NoPassphrase(format!("{}: {error}", path.display()));
    // Large enough from the start: growing would leave copies of secrets behind.
    let mut text = Zeroizing::new(String::with_capacity(4096));
    let file = File::open(path).map_err(cannot)?;
    file.take(MAX_PASSPHRASE)
        .read_to_string(&mut text)
        .map_err(cannot)?;
    Ok(text)
}

/// What somebody types, which is not shown.
pub(super) fn typed(prompt: &str) -> Result<Zeroizing<String>, ProfileError> {
    rpassword::prompt_password(prompt)
        .map(Zeroizing::new)
        .map_err(|error| ProfileError::NoPassphrase(error.to_string()))
}

/// A new one, which nobody can look at: so it is typed twice.
pub(super) fn typed_twice(prompt: &str) -> Result<Zeroizing<String>, CliError> {
    let first = typed(prompt)?;
    passphrase::check(&first).map_err(CliError::usage)?;
    if typed("Once more: ")? != first {
        return Err(CliError::usage(
            "these are not the same; nothing was changed",
        ));
    }
    Ok(first)
}
