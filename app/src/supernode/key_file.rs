//! A supernode's key in a file of its own, for machines where nobody has an identity.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use ahoy_transport::{
    identity::NodeKeys,
    runtime::{Runtime, RuntimeExt},
    wire::WireError,
};
use ring::hmac;
use zeroize::Zeroizing;

/// The file's name inside the profile folder.
pub const KEY_FILE: &str = "supernode.key";

/// Why a supernode has no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file or its folder cannot be read or written.
    #[error("the supernode's key file {}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The file holds something else.
    #[error(
        "{} is not a supernode's key ({error}); move it away to start under a new key, which makes old links useless",
        path.display()
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: WireError,
    },
}

/// Reads the key in `folder`, or draws one and keeps it there, readable by this user alone. The file appears
/// whole or not at all.
///
/// # Errors
/// When the file cannot be read, is damaged, or cannot be written.
pub fn load_or_create_keys(runtime: &dyn Runtime, folder: &Path) -> Result<NodeKeys, KeyFileError> {
    let path = folder.join(KEY_FILE);
    let io_error = |error| KeyFileError::Io {
        path: path.clone(),
        error,
    };
    match fs::read(&path) {
        Ok(bytes) => {
            let bytes = Zeroizing::new(bytes);
            NodeKeys::from_secret_bytes(&bytes).map_err(|error| KeyFileError::Unreadable {
                path: path.clone(),
                error,
            })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let keys = NodeKeys::from_seed(&Zeroizing::new(runtime.random_array()));
            fs::create_dir_all(folder).map_err(io_error)?;
            write_secret(&path, &keys.to_secret_bytes()).map_err(io_error)?;
            Ok(keys)
        }
        Err(error) => Err(io_error(error)),
    }
}

/// The key of stateless resets that belongs to a node's key: the same after a restart, so that clients of the
/// run before learn at once that they have to come again.
pub(super) fn reset_key(keys: &NodeKeys) -> [u8; 32] {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &keys.to_secret_bytes());
    let tag = hmac::sign(&key, b"ahoy/1 supernode reset key");
    let mut reset_key = [0; 32];
    reset_key.copy_from_slice(tag.as_ref());
    reset_key
}

fn write_secret(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension(format!("new-{}", std::process::id()));
    let written = create_private(&temporary)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // Best effort: the error that matters is the first one.
        drop(fs::remove_file(&temporary));
    }
    written
}

fn create_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}
