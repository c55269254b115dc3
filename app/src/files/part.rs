//! A file on the disk while it is not complete: its pieces, and beside them what is known of its tree.
//!
//! ```text
//! NAME.ahoy-part    the pieces, each in its place
//! NAME.ahoy-map     | "ahoymap1" | root 32 | u64 size | summit | pages | a bit for each piece |
//! ```
//! Only pieces that were verified are written, each before its bit. Whatever a crash leaves, nothing is believed when it
//! is taken up again: the summit is checked against the root, pages against the summit, pieces against their pages, and
//! what does not hold is fetched anew. The file gets its name only when it is complete, and never somebody else's.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use super::{
    fetch::Piece,
    name::{harmless, numbered},
    tree::{Node, Root, Shape, Tree},
};

const MAGIC: &[u8; 8] = b"ahoymap1";
const HEAD: u64 = 8 + 32 + 8;
const HASH: u64 = 32;
/// Names that are tried before it counts that something else is wrong.
const MAX_NUMBER: u32 = 1000;

/// Why a file cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum PartError {
    /// There is no room.
    #[error("the disk is full: make room and let it go on")]
    Full,
    /// The system says no.
    #[error("cannot write to {}: {source}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What came back.
        source: io::Error,
    },
    /// Too many files have that name.
    #[error("too many files in {} are called so", .0.display())]
    Names(PathBuf),
}

/// A file that is not complete.
#[derive(Debug)]
pub struct Part {
    folder: PathBuf,
    name: String,
    stem: String,
    shape: Shape,
    file: File,
    map: File,
}

/// A part file that was there, or a new one.
#[derive(Debug)]
pub struct Opened {
    /// The file.
    pub part: Part,
    /// What is known of its tree.
    pub tree: Tree,
    /// Pieces that are there, each verified.
    pub have: Vec<bool>,
}

fn failed(path: &Path) -> impl Fn(io::Error) -> PartError {
    let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
    move |source| {
        if full.contains(&source.kind()) {
            return PartError::Full;
        }
        PartError::Io {
            path: path.to_owned(),
            source,
        }
    }
}

impl Part {
    /// Takes up the part file of the transfer that is called `stem`, or makes one. `claimed` is what the sender calls the
    /// file.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub fn open(
        folder: &Path,
        stem: &str,
        claimed: &str,
        root: Root,
        shape: Shape,
    ) -> Result<Opened, PartError> {
        let wrong = failed(folder);
        fs::create_dir_all(folder).map_err(&wrong)?;
        let open = |ending: &str| {
            let path = folder.join(format!("{stem}{ending}"));
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true);
            // Nobody else's business before it is complete, and never to be run.
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            options.open(&path).map_err(failed(&path))
        };
        let mut part = Self {
            file: open(".ahoy-part")?,
            map: open(".ahoy-map")?,
            folder: folder.to_owned(),
            name: harmless(claimed),
            stem: stem.to_owned(),
            shape,
        };
        let (tree, have) = part.resume(root).map_err(&wrong)?;
        Ok(Opened { part, tree, have })
    }

    fn page_offset(&self, page: u32) -> u64 {
        let summit = u64::from(self.shape.pages()) * HASH;
        HEAD + summit + u64::from(page) * 2048 * HASH
    }

    fn bits_offset(&self) -> u64 {
        HEAD + (u64::from(self.shape.pages()) + u64::from(self.shape.pieces())) * HASH
    }

    fn head(&self, root: Root) -> Vec<u8> {
        let size = self.shape.size().to_be_bytes();
        [&MAGIC[..], &root.0, &size].concat()
    }

    /// Reads what is there, and believes what holds.
    fn resume(&mut self, root: Root) -> io::Result<(Tree, Vec<bool>)> {
        let mut tree = Tree::unknown(root, self.shape);
        let mut have = vec![false; self.shape.pieces() as usize];
        let head = self.head(root);
        let mut found = vec![0; head.len()];
        let is_ours = read_at(&mut self.map, 0, &mut found)? == head.len() && found == head;
        if !is_ours {
            self.file.set_len(0)?;
            self.map.set_len(0)?;
            write_at(&mut self.map, 0, &head)?;
            return Ok((tree, have));
        }
        if self.shape.top().level == 2 {
            self.relearn(&mut tree, Node { level: 2, index: 0 }, HEAD)?;
        }
        if self.shape.top().level >= 1 {
            for index in 0..self.shape.pages() {
                self.relearn(&mut tree, Node { level: 1, index }, self.page_offset(index))?;
            }
        }
        let mut bits = vec![0; have.len().div_ceil(8)];
        let offset = self.bits_offset();
        read_at(&mut self.map, offset, &mut bits)?;
        for (index, there) in (0..).zip(&mut have) {
            let claimed = bits
                .get(index as usize / 8)
                .is_some_and(|byte| byte & (1 << (index % 8)) != 0);
            if claimed {
                let node = Node { level: 0, index };
                let mut piece = vec![0; self.shape.len(node).unwrap_or(0)];
                let at = self.shape.offset(index);
                let read = read_at(&mut self.file, at, &mut piece)?;
                *there = read == piece.len() && tree.verifies(node, &piece);
            }
        }
        Ok((tree, have))
    }

    fn relearn(&mut self, tree: &mut Tree, node: Node, at: u64) -> io::Result<()> {
        let mut bytes = vec![0; self.shape.len(node).unwrap_or(0)];
        if read_at(&mut self.map, at, &mut bytes)? == bytes.len() {
            // What does not hold is fetched anew.
            let _holds: bool = tree.learn(node, &bytes);
        }
        Ok(())
    }

    /// Where a file of ours lies while it is not complete.
    fn path(&self, ending: &str) -> PathBuf {
        self.folder.join(format!("{}{ending}", self.stem))
    }

    /// Keeps a page or the summit.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep_node(&mut self, node: Node, bytes: &[u8]) -> Result<(), PartError> {
        let at = match node.level {
            1 => self.page_offset(node.index),
            _ => HEAD,
        };
        write_at(&mut self.map, at, bytes).map_err(failed(&self.path(".ahoy-map")))
    }

    /// Keeps a verified piece.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep(&mut self, piece: &Piece) -> Result<(), PartError> {
        let at = self.shape.offset(piece.index);
        write_at(&mut self.file, at, &piece.bytes).map_err(failed(&self.path(".ahoy-part")))?;
        let at = self.bits_offset() + u64::from(piece.index / 8);
        let mut byte = [0];
        let map = self.path(".ahoy-map");
        let wrong = failed(&map);
        read_at(&mut self.map, at, &mut byte).map_err(&wrong)?;
        byte[0] |= 1 << (piece.index % 8);
        write_at(&mut self.map, at, &byte).map_err(&wrong)
    }

    /// All is there: the file gets its name, or the next one that is free.
    ///
    /// # Errors
    /// When the file cannot be written or named.
    pub fn finish(self) -> Result<PathBuf, PartError> {
        let part = self.path(".ahoy-part");
        let wrong = failed(&part);
        self.file.set_len(self.shape.size()).map_err(&wrong)?;
        self.file.sync_all().map_err(&wrong)?;
        let place = name_it(&part, &self.folder, &self.name)?;
        mark(&place);
        let map = self.path(".ahoy-map");
        drop(self.map);
        remove(&map);
        Ok(place)
    }

    /// Away with it.
    pub fn discard(self) {
        let paths = [self.path(".ahoy-part"), self.path(".ahoy-map")];
        drop((self.file, self.map));
        paths.iter().for_each(|path| remove(path));
    }
}

/// Away with what a transfer left that is not open.
pub fn discard(folder: &Path, stem: &str) {
    for ending in [".ahoy-part", ".ahoy-map"] {
        remove(&folder.join(format!("{stem}{ending}")));
    }
}

fn remove(path: &Path) {
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(%error, "a part file stays behind"),
    }
}

/// Gives a file a name that nobody has, without a moment in which it could take another's place.
fn name_it(part: &Path, folder: &Path, name: &str) -> Result<PathBuf, PartError> {
    for number in 1..MAX_NUMBER {
        let place = if number == 1 {
            folder.join(name)
        } else {
            folder.join(numbered(name, number))
        };
        match fs::hard_link(part, &place) {
            Ok(()) => {
                remove(part);
                return Ok(place);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            // Not every file system has links: there the name is taken first.
            Err(_no_links) => match OpenOptions::new().write(true).create_new(true).open(&place) {
                Ok(_taken) => {
                    return fs::rename(part, &place)
                        .map(|()| place.clone())
                        .map_err(failed(&place));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(&place)(error)),
            },
        }
    }
    Err(PartError::Names(folder.to_owned()))
}

/// Windows asks before it opens what came from elsewhere.
#[cfg(windows)]
fn mark(place: &Path) {
    let mut stream = place.as_os_str().to_owned();
    stream.push(":Zone.Identifier");
    if let Err(error) = fs::write(stream, "[ZoneTransfer]\r\nZoneId=3\r\n") {
        tracing::warn!(%error, "a file is not marked as from elsewhere");
    }
}

/// Elsewhere a file that is not executable is not run by being opened.
#[cfg(not(windows))]
fn mark(_place: &Path) {}

/// Reads as much as there is.
fn read_at(file: &mut File, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
    file.seek(SeekFrom::Start(at))?;
    let mut read = 0;
    while let Some(rest) = buffer.get_mut(read..).filter(|rest| !rest.is_empty()) {
        match file.read(rest)? {
            0 => break,
            more => read += more,
        }
    }
    Ok(read)
}

fn write_at(file: &mut File, at: u64, bytes: &[u8]) -> io::Result<()> {
    file.seek(SeekFrom::Start(at))?;
    file.write_all(bytes)
}

/// Reads one piece of a file that we have.
///
/// # Errors
/// When it cannot be read, or is shorter than it was.
pub fn read_piece(path: &Path, shape: Shape, index: u32) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; shape.len(Node { level: 0, index }).unwrap_or(0)];
    let mut file = File::open(path)?;
    if read_at(&mut file, shape.offset(index), &mut bytes)? < bytes.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::tree::PIECE;

    fn file() -> (Vec<u8>, Tree) {
        let mut bytes = vec![0; 5 * PIECE + 100];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        let tree = Tree::of(&bytes[..], bytes.len() as u64).unwrap();
        (bytes, tree)
    }

    fn open(folder: &Path, tree: &Tree) -> Opened {
        Part::open(folder, "x", "../evil: name.txt", tree.root(), tree.shape()).unwrap()
    }

    fn keep(part: &mut Part, bytes: &[u8], index: u32) {
        let piece = bytes.chunks(PIECE).nth(index as usize).unwrap().to_vec();
        let piece = Piece {
            index,
            bytes: piece,
        };
        part.keep(&piece).unwrap();
    }

    const PAGE: Node = Node { level: 1, index: 0 };

    #[test]
    fn what_was_kept_is_there_again_and_what_was_damaged_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (bytes, tree) = file();
        let mut opened = open(folder.path(), &tree);
        assert!(opened.have.iter().all(|have| !have));
        opened
            .part
            .keep_node(PAGE, &tree.bytes(PAGE).unwrap())
            .unwrap();
        for index in [0, 2, 5] {
            keep(&mut opened.part, &bytes, index);
        }
        drop(opened);
        let again = open(folder.path(), &tree);
        assert_eq!(again.have, [true, false, true, false, false, true]);
        assert!(again.tree.knows(PAGE));
        drop(again);
        // A bit without its piece, as a crash of the machine may leave it.
        let path = folder.path().join("x.ahoy-part");
        let mut damaged = fs::read(&path).unwrap();
        damaged[2 * PIECE + 7] ^= 1;
        fs::write(&path, damaged).unwrap();
        let again = open(folder.path(), &tree);
        assert_eq!(again.have, [true, false, false, false, false, true]);
        drop(again);
        // Without the hashes nothing is believed.
        let path = folder.path().join("x.ahoy-map");
        let mut damaged = fs::read(&path).unwrap();
        damaged[100] ^= 1;
        fs::write(&path, damaged).unwrap();
        let again = open(folder.path(), &tree);
        assert!(!again.tree.knows(PAGE) && again.have.iter().all(|have| !have));
    }

    #[test]
    fn another_file_under_the_same_transfer_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let (bytes, tree) = file();
        let mut opened = open(folder.path(), &tree);
        keep(&mut opened.part, &bytes, 0);
        drop(opened);
        let other = Tree::of(&bytes[1..], bytes.len() as u64 - 1).unwrap();
        assert!(open(folder.path(), &other).have.iter().all(|have| !have));
    }

    #[test]
    fn a_complete_file_gets_a_harmless_name_that_is_free() {
        let folder = tempfile::tempdir().unwrap();
        let (bytes, tree) = file();
        fs::write(folder.path().join("evil_ name.txt"), "mine").unwrap();
        let mut opened = open(folder.path(), &tree);
        for index in 0..6 {
            keep(&mut opened.part, &bytes, index);
        }
        let place = opened.part.finish().unwrap();
        assert_eq!(place, folder.path().join("evil_ name (2).txt"));
        assert!(fs::read(&place).unwrap() == bytes);
        let mine = fs::read(folder.path().join("evil_ name.txt")).unwrap();
        assert_eq!(mine, b"mine");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = fs::metadata(&place).unwrap().permissions().mode();
            assert_eq!(mode & 0o111, 0, "nobody runs it");
        }
        eprintln!(
            "threat 19: ../evil: name.txt lies in its folder, beside what is called so, and nobody runs it"
        );
    }

    #[test]
    fn a_file_that_is_called_like_a_link_out_of_the_folder_stays_in_it() {
        #[cfg(unix)]
        {
            let folder = tempfile::tempdir().unwrap();
            let outside = tempfile::tempdir().unwrap();
            let target = outside.path().join("target");
            std::os::unix::fs::symlink(&target, folder.path().join("evil_ name.txt")).unwrap();
            let (bytes, tree) = file();
            let mut opened = open(folder.path(), &tree);
            (0..6).for_each(|index| keep(&mut opened.part, &bytes, index));
            let place = opened.part.finish().unwrap();
            assert_eq!(place, folder.path().join("evil_ name (2).txt"));
            assert!(!target.exists());
        }
    }

    #[test]
    fn a_discarded_one_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (_bytes, tree) = file();
        open(folder.path(), &tree).part.discard();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_full_disk_is_said() {
        let full = OpenOptions::new().write(true).read(true).open("/dev/full");
        let error = write_at(&mut full.unwrap(), 0, b"x").unwrap_err();
        assert!(matches!(
            failed(Path::new("/dev/full"))(error),
            PartError::Full
        ));
    }
}
