//! `ahoy backup` and `ahoy restore`: the whole profile as one encrypted file.

use std::{
    fs,
    io::{IsTerminal as _, Read as _},
    path::{Path, PathBuf},
};

use clap::Args;
use zeroize::Zeroizing;

use super::{CliError, Exit, env::Env, unlock};
use crate::{
    backup::{BackupError, Content, Key, MAX_BACKUP, is_by_words, open, seal},
    identity::root_from_words,
    profile::write_private,
    settings::Settings,
    store::Store,
};

/// Write everything that you are and have here into one encrypted file.
///
/// Reads a passphrase from standard input. The file holds this device's keys: restore it when this device is gone, not
/// beside it. For a second device there is `ahoy device pair`.
#[derive(Debug, Clone, Args)]
pub struct BackupArgs {
    /// The file, which must not be there yet.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The 24 words open it, instead of a passphrase.
    #[arg(long)]
    pub words: bool,
}

/// Become who a backup file holds, in a profile that is nobody's yet.
///
/// Reads the passphrase, or the 24 words, from standard input.
#[derive(Debug, Clone, Args)]
pub struct RestoreArgs {
    /// The file.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

impl From<BackupError> for CliError {
    fn from(error: BackupError) -> Self {
        let exit = match error {
            BackupError::Closed(_) => Exit::Authentication,
            BackupError::NotOne | BackupError::Short | BackupError::TooCostly => Exit::Usage,
            BackupError::Newer(_) | BackupError::Damaged(_) | BackupError::Identity(_) => {
                Exit::Failed
            }
        };
        Self::new(exit, error)
    }
}

/// The 24 words as somebody types them, or as they stand in standard input.
fn typed_words(env: &mut Env<'_>) -> Result<Zeroizing<String>, CliError> {
    if std::io::stdin().is_terminal() {
        tracing::info!("type the 24 words, which are shown as you type, then Ctrl-D");
    }
    env.read_input()
}

/// Carries `backup` out; gives back what to print.
pub(super) fn backup(env: &mut Env<'_>, arguments: &BackupArgs) -> Result<String, CliError> {
    let file = &arguments.file;
    if file.exists() {
        return Err(CliError::usage(format_args!(
            "{} is there already: choose another name",
            file.display()
        )));
    }
    let Some(_somebody) = env.profile.load()? else {
        return Err(CliError::usage("there is nobody in this profile yet"));
    };
    let (store, _lock) = env.store()?;
    let identity = env.identity()?;
    let content = Content {
        settings: Settings::load(&env.profile)?.to_text()?,
        items: store.items()?,
        identity,
    };
    let sealed = if arguments.words {
        let root = content.identity.root().ok_or_else(|| {
            CliError::failed("this device does not hold the 24 words: use a passphrase")
        })?;
        seal(&content, &Key::Words(root), &mut *env.rng)?
    } else {
        let passphrase = if std::io::stdin().is_terminal() {
            unlock::typed_twice("Passphrase of the backup: ")?
        } else {
            env.read_input()?
        };
        seal(&content, &Key::Passphrase(&passphrase), &mut *env.rng)?
    };
    write_private(file, &sealed)?;
    Ok(format!("{} bytes in {}", sealed.len(), file.display()))
}

fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    let cannot = |error: std::io::Error| {
        CliError::usage(format_args!("{} cannot be read: {error}", path.display()))
    };
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(cannot)?;
    file.take(MAX_BACKUP)
        .read_to_end(&mut bytes)
        .map_err(cannot)?;
    Ok(bytes)
}

/// Carries `restore` out; gives back what to print.
pub(super) fn restore(env: &mut Env<'_>, arguments: &RestoreArgs) -> Result<String, CliError> {
    super::id::nobodys(env)?;
    let file = read(&arguments.file)?;
    let content = if is_by_words(&file)? {
        let words = typed_words(env)?;
        let root = root_from_words(&words).map_err(CliError::usage)?;
        open(&file, &Key::Words(&root))?
    } else {
        let passphrase = if std::io::stdin().is_terminal() {
            unlock::typed("Passphrase of the backup: ")?
        } else {
            env.read_input()?
        };
        open(&file, &Key::Passphrase(&passphrase))?
    };
    let settings = Settings::from_text(&content.settings, &arguments.file)?;
    let lock = env.profile.lock()?;
    // Somebody may have moved in while the passphrase was typed.
    super::id::nobodys(env)?;
    let store = Store::open(&lock)?;
    store.replace_items(&content.items)?;
    settings.save(&env.profile)?;
    // With the identity the profile is somebody's: it comes last.
    lock.save(&content.identity)?;
    tracing::info!(
        "use this device's keys in one place only: where both run, neither is reached reliably"
    );
    Ok(env.link(&content.identity)?.to_string())
}
