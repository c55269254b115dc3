//! Files where permissions are inherited from the user's own folder.

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::Path,
};

/// Makes the directory, and those above it, if they are not there.
pub(super) fn create_dir(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

/// Opens a file to read and write, making it if it is not there.
pub(super) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
}

/// Makes a file that must not be there.
pub(super) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)
}

/// The folder's own access list applies.
pub(super) fn tighten(_path: &Path) -> io::Result<()> {
    Ok(())
}

/// A rename is flushed with the file.
pub(super) fn sync_dir(_path: &Path) -> io::Result<()> {
    Ok(())
}

/// Links are rare here.
pub(super) fn is_linked_once(_file: &File) -> io::Result<bool> {
    Ok(true)
}
