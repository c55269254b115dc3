//! Where recordings are put.

use std::{
    fs::OpenOptions,
    io,
    path::{Path, PathBuf},
};

use super::{RecordError, Store};

/// Names that are tried before it is given up.
const MAX_NUMBER: u32 = 1000;

/// Gives out files, one after the other. None is written over.
pub trait Shelf: Send {
    /// The next file, empty.
    ///
    /// # Errors
    /// It cannot be created, or there is something of its name.
    fn next(&mut self) -> Result<(PathBuf, Box<dyn Store>), RecordError>;
}

/// Files of a name, and those behind the first with a number: `name.mkv`, `name-2.mkv`, …
#[derive(Debug, Clone)]
pub struct FileShelf {
    path: PathBuf,
    number: u32,
    /// The first need not have exactly this name.
    any_number: bool,
}

impl FileShelf {
    /// The first file has exactly this name.
    #[must_use]
    pub const fn exactly(path: PathBuf) -> Self {
        Self {
            path,
            number: 1,
            any_number: false,
        }
    }

    /// The first file has a number too where its name is taken, and its folder is made.
    #[must_use]
    pub const fn beside(path: PathBuf) -> Self {
        Self {
            path,
            number: 1,
            any_number: true,
        }
    }
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    if number == 1 {
        return path.to_owned();
    }
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push(format!("-{number}"));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

impl Shelf for FileShelf {
    fn next(&mut self) -> Result<(PathBuf, Box<dyn Store>), RecordError> {
        if let Some(folder) = self.path.parent().filter(|_| self.any_number)
            && !folder.as_os_str().is_empty()
            && let Err(source) = std::fs::create_dir_all(folder)
        {
            let path = self.path.clone();
            return Err(RecordError::Create { path, source });
        }
        loop {
            let path = numbered(&self.path, self.number);
            let created = OpenOptions::new().write(true).create_new(true).open(&path);
            match created {
                Ok(file) => {
                    self.number += 1;
                    return Ok((path, Box::new(file)));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    let is_exact = self.number == 1 && !self.any_number;
                    if is_exact || self.number >= MAX_NUMBER {
                        return Err(RecordError::Exists { path });
                    }
                    self.number += 1;
                }
                Err(source) => return Err(RecordError::Create { path, source }),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_file_is_written_over_and_later_ones_have_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("call.of.today.mkv");
        let mut shelf = FileShelf::exactly(path.clone());
        let name = |shelf: &mut FileShelf| {
            let (path, _store) = shelf.next().unwrap();
            path.file_name().unwrap().to_str().unwrap().to_owned()
        };
        assert_eq!(name(&mut shelf), "call.of.today.mkv");
        assert_eq!(name(&mut shelf), "call.of.today-2.mkv");
        let again = FileShelf::exactly(path.clone()).next();
        assert!(matches!(again, Err(RecordError::Exists { path: it }) if it == path));
        assert_eq!(name(&mut FileShelf::beside(path)), "call.of.today-3.mkv");
        let deep = folder.path().join("a").join("b").join("call.mkv");
        assert_eq!(name(&mut FileShelf::beside(deep)), "call.mkv");
        let nowhere = folder.path().join("no").join("call.mkv");
        let refused = FileShelf::exactly(nowhere).next();
        assert!(matches!(refused, Err(RecordError::Create { .. })));
    }
}
