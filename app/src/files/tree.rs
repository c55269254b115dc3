//! The tree of a file's hashes, in nodes of at most 64 KiB that are verified one by one.
//!
//! ```text
//! level 0   pieces    64 KiB of the file each; the last one may be shorter
//!       1   pages     the chaining values of up to 2048 pieces, 32 bytes each
//!       2   summit    the chaining values of all pages; only where there is more than one page
//! ```
//! 64 KiB and 2048 pieces of that are powers of two, so these are whole subtrees of BLAKE3's own tree, and the root is
//! the file's ordinary BLAKE3 hash. A root says how long its file is too: a file of another size has another one.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, Read},
};

use blake3::{
    Hasher,
    hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root},
};

use super::MAX_SIZE;

/// Bytes of a piece.
pub const PIECE: usize = 64 * 1024;
/// Bytes of what one datagram carries of a node: one chunk of BLAKE3.
pub const FRAGMENT: usize = 1024;
/// Hashes in a page.
const FAN: u32 = 2048;
const HASH: usize = 32;

/// The BLAKE3 hash of a file: its name among devices.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Root(pub [u8; HASH]);

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Root({self})")
    }
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&z32::encode(&self.0))
    }
}

type Hash = [u8; HASH];

/// A place in the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node {
    /// 0 for pieces, 1 for pages, 2 for the summit.
    pub level: u8,
    /// Counted from the file's beginning.
    pub index: u32,
}

/// How the tree of a file of one size looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    size: u64,
    pieces: u32,
    pages: u32,
}

impl Shape {
    /// Of a file of `size` bytes; none above [`MAX_SIZE`].
    #[must_use]
    pub fn new(size: u64) -> Option<Self> {
        if size > MAX_SIZE {
            return None;
        }
        let pieces = u32::try_from(size.div_ceil(PIECE as u64)).ok()?.max(1);
        Some(Self {
            size,
            pieces,
            pages: pieces.div_ceil(FAN),
        })
    }

    /// Bytes of the file.
    #[must_use]
    pub fn size(self) -> u64 {
        self.size
    }

    /// Pieces of the file; at least one, which is empty where the file is.
    #[must_use]
    pub fn pieces(self) -> u32 {
        self.pieces
    }

    /// Pages of hashes.
    #[must_use]
    pub fn pages(self) -> u32 {
        self.pages
    }

    /// The node that the root alone verifies.
    #[must_use]
    pub fn top(self) -> Node {
        let level = match (self.pieces, self.pages) {
            (1, _) => 0,
            (_, 1) => 1,
            (_, _) => 2,
        };
        Node { level, index: 0 }
    }

    /// The page that holds the hash of a piece.
    #[must_use]
    pub fn page_of(self, piece: u32) -> Node {
        Node {
            level: 1,
            index: piece / FAN,
        }
    }

    /// Where a piece begins in the file.
    #[must_use]
    pub fn offset(self, piece: u32) -> u64 {
        u64::from(piece) * PIECE as u64
    }

    /// Bytes of a node; `None`: there is no such node.
    #[must_use]
    pub fn len(self, node: Node) -> Option<usize> {
        let top = self.top();
        if node.level > top.level {
            return None;
        }
        match node.level {
            0 if node.index < self.pieces => {
                let rest = self.size - self.offset(node.index);
                Some(usize::try_from(rest).unwrap_or(PIECE).min(PIECE))
            }
            1 if node.index < self.pages => {
                let rest = self.pieces - node.index * FAN;
                Some(rest.min(FAN) as usize * HASH)
            }
            2 if node.index == 0 => Some(self.pages as usize * HASH),
            _ => None,
        }
    }

    /// The fragments of a node, as bits; `None`: there is no such node.
    #[must_use]
    pub fn fragments(self, node: Node) -> Option<u64> {
        let count = self.len(node)?.div_ceil(FRAGMENT);
        Some(match count {
            0 => 0,
            64.. => u64::MAX,
            count => (1 << count) - 1,
        })
    }

    /// Bytes of one fragment of a node; `None`: there is none.
    #[must_use]
    pub fn fragment_len(self, node: Node, fragment: u8) -> Option<usize> {
        let rest = self
            .len(node)?
            .checked_sub(usize::from(fragment) * FRAGMENT)?;
        (rest > 0).then(|| rest.min(FRAGMENT))
    }
}

/// What a node has to hash to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Root(Hash),
    Inner(Hash),
}

/// Hashes of a node's children into its own. Left subtrees are as large as a power of two can be.
fn merge(hashes: &[Hash]) -> Option<Hash> {
    match hashes {
        [] => None,
        [one] => Some(*one),
        more => {
            let (left, right) = halves(more)?;
            Some(merge_subtrees_non_root(
                &merge(left)?,
                &merge(right)?,
                Mode::Hash,
            ))
        }
    }
}

fn merge_root(hashes: &[Hash]) -> Option<Hash> {
    let (left, right) = halves(hashes)?;
    Some(merge_subtrees_root(&merge(left)?, &merge(right)?, Mode::Hash).into())
}

fn halves(hashes: &[Hash]) -> Option<(&[Hash], &[Hash])> {
    if hashes.len() < 2 {
        return None;
    }
    hashes.split_at_checked(hashes.len().next_power_of_two() / 2)
}

fn piece_hash(shape: Shape, index: u32, bytes: &[u8]) -> Hash {
    Hasher::new()
        .set_input_offset(shape.offset(index))
        .update(bytes)
        .finalize_non_root()
}

fn hashes_of(bytes: &[u8]) -> Vec<Hash> {
    bytes.as_chunks::<HASH>().0.to_vec()
}

/// What is known of a file's tree so far: nothing but its root and size, or all of it.
#[derive(Debug, Clone)]
pub struct Tree {
    root: Root,
    shape: Shape,
    /// Hashes of the pages, from the summit.
    summit: Option<Vec<Hash>>,
    /// Hashes of pieces, by page.
    pages: BTreeMap<u32, Vec<Hash>>,
}

impl Tree {
    /// Of a file that we know by name and size alone.
    #[must_use]
    pub fn unknown(root: Root, shape: Shape) -> Self {
        Self {
            root,
            shape,
            summit: None,
            pages: BTreeMap::new(),
        }
    }

    /// Of a file that we have.
    ///
    /// # Errors
    /// When it cannot be read, is larger than [`MAX_SIZE`], or does not stay as long as it was.
    pub fn of(mut file: impl Read, size: u64) -> io::Result<Self> {
        let shape = Shape::new(size).ok_or(io::ErrorKind::FileTooLarge)?;
        let mut pieces: Vec<Hash> = Vec::new();
        let mut buffer = vec![0; PIECE];
        for index in 0..shape.pieces {
            let len = shape.len(Node { level: 0, index }).unwrap_or(0);
            let piece = buffer.get_mut(..len).unwrap_or_default();
            file.read_exact(piece)?;
            if shape.pieces == 1 {
                let root = Root(blake3::hash(piece).into());
                return Ok(Self::unknown(root, shape));
            }
            pieces.push(piece_hash(shape, index, piece));
        }
        let changed = || io::Error::from(io::ErrorKind::InvalidData);
        let pages: Vec<Vec<Hash>> = pieces.chunks(FAN as usize).map(<[Hash]>::to_vec).collect();
        let summit: Option<Vec<Hash>> = pages.iter().map(|page| merge(page)).collect();
        let root = merge_root(&pieces).ok_or_else(changed)?;
        Ok(Self {
            root: Root(root),
            shape,
            summit: summit.filter(|_| shape.pages > 1),
            pages: (0..).zip(pages).collect(),
        })
    }

    /// The file.
    #[must_use]
    pub fn root(&self) -> Root {
        self.root
    }

    /// How it looks.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.shape
    }

    fn expected(&self, node: Node) -> Option<Expected> {
        self.shape.len(node)?;
        if node == self.shape.top() {
            return Some(Expected::Root(self.root.0));
        }
        let hash = match node.level {
            0 => {
                let page = self.pages.get(&(node.index / FAN))?;
                page.get((node.index % FAN) as usize)?
            }
            _ => self.summit.as_ref()?.get(node.index as usize)?,
        };
        Some(Expected::Inner(*hash))
    }

    /// Whether a node can be verified now.
    #[must_use]
    pub fn is_ready(&self, node: Node) -> bool {
        self.expected(node).is_some()
    }

    /// Whether a page or the summit is known. Pieces are not kept here.
    #[must_use]
    pub fn knows(&self, node: Node) -> bool {
        match node.level {
            1 => self.pages.contains_key(&node.index),
            2 => self.summit.is_some(),
            _ => false,
        }
    }

    /// Whether these are the bytes of that node. Says no where it cannot be known yet.
    #[must_use]
    pub fn verifies(&self, node: Node, bytes: &[u8]) -> bool {
        if self.shape.len(node) != Some(bytes.len()) {
            return false;
        }
        let Some(expected) = self.expected(node) else {
            return false;
        };
        let (is_root, expected) = match expected {
            Expected::Root(hash) => (true, hash),
            Expected::Inner(hash) => (false, hash),
        };
        let found = match (node.level, is_root) {
            (0, true) => Some(blake3::hash(bytes).into()),
            (0, false) => Some(piece_hash(self.shape, node.index, bytes)),
            (_, true) => merge_root(&hashes_of(bytes)),
            (_, false) => merge(&hashes_of(bytes)),
        };
        found == Some(expected)
    }

    /// Takes in a page or the summit; `false`: these are not its bytes. Pieces are only verified.
    pub fn learn(&mut self, node: Node, bytes: &[u8]) -> bool {
        let holds = self.verifies(node, bytes);
        if holds {
            self.believe(node, bytes);
        }
        holds
    }

    /// Takes in what was not verified. Only where a test shows what comes of that.
    pub(super) fn believe(&mut self, node: Node, bytes: &[u8]) {
        match node.level {
            1 => {
                self.pages.insert(node.index, hashes_of(bytes));
            }
            2 => self.summit = Some(hashes_of(bytes)),
            _ => {}
        }
    }

    /// The bytes of a page or the summit, if known.
    #[must_use]
    pub fn bytes(&self, node: Node) -> Option<Vec<u8>> {
        self.shape.len(node)?;
        let hashes = match node.level {
            1 => self.pages.get(&node.index)?,
            2 => self.summit.as_ref()?,
            _ => return None,
        };
        Some(hashes.concat())
    }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test may panic")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bytes that do not repeat.
    fn bytes(len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        Hasher::new()
            .update(&len.to_be_bytes())
            .finalize_xof()
            .fill(&mut out);
        out
    }

    fn node(level: u8, index: u32) -> Node {
        Node { level, index }
    }

    /// Verifies a whole file as a downloader does, from the root down.
    fn walk(file: &[u8]) {
        let tree = Tree::of(file, file.len() as u64).unwrap();
        assert_eq!(tree.root().0, *blake3::hash(file).as_bytes());
        let shape = tree.shape();
        let mut seen = Tree::unknown(tree.root(), shape);
        for level in (1..=shape.top().level).rev() {
            let mut index = 0;
            while shape.len(node(level, index)).is_some() {
                let bytes = tree.bytes(node(level, index)).unwrap();
                let mut false_one = bytes.clone();
                *false_one.last_mut().unwrap() ^= 1;
                assert!(!seen.learn(node(level, index), &false_one));
                assert!(seen.learn(node(level, index), &bytes));
                index += 1;
            }
        }
        for (index, piece) in (0..).zip(file.chunks(PIECE)) {
            assert!(seen.verifies(node(0, index), piece));
            assert!(!seen.verifies(node(0, index), &piece[1..]));
            assert!(!seen.verifies(node(0, index + 1), piece) || file.len() <= PIECE);
        }
    }

    #[test]
    fn the_root_is_the_files_own_hash_whatever_its_size() {
        for len in [
            0,
            1,
            1023,
            PIECE,
            PIECE + 1,
            3 * PIECE,
            5 * PIECE + 17,
            64 * PIECE,
        ] {
            walk(&bytes(len));
        }
    }

    #[test]
    fn more_than_one_page_has_a_summit() {
        // Of 128 MiB and a bit, only the last page is shorter.
        let file = bytes(FAN as usize * PIECE + 3 * PIECE + 5);
        walk(&file);
        assert_eq!(Shape::new(file.len() as u64).unwrap().top(), node(2, 0));
    }

    #[test]
    fn another_size_has_no_such_bytes() {
        let file = bytes(3 * PIECE);
        let tree = Tree::of(&file[..], file.len() as u64).unwrap();
        let page = tree.bytes(node(1, 0)).unwrap();
        for size in [2 * PIECE as u64 + 1, 4 * PIECE as u64, 3 * PIECE as u64 - 1] {
            let mut lied = Tree::unknown(tree.root(), Shape::new(size).unwrap());
            let page = &page[..page.len().min(lied.shape().len(node(1, 0)).unwrap())];
            let learned = lied.learn(node(1, 0), page);
            let last = lied.shape().pieces() - 1;
            let from = last as usize * PIECE;
            let len = lied.shape().len(node(0, last)).unwrap();
            let piece = file.get(from..from + len).unwrap_or_default();
            assert!(!learned || !lied.verifies(node(0, last), piece), "{size}");
        }
    }

    proptest! {
        #[test]
        fn nothing_else_verifies(len in 1usize..300_000, at: usize, bit in 0u8..8) {
            let mut file = bytes(len);
            let tree = Tree::of(&file[..], len as u64).unwrap();
            let at = at % len;
            file[at] ^= 1 << bit;
            let index = u32::try_from(at / PIECE).unwrap();
            let end = len.min((at / PIECE + 1) * PIECE);
            prop_assert!(!tree.verifies(node(0, index), &file[at / PIECE * PIECE..end]));
        }

        #[test]
        fn no_node_makes_it_panic(size: u64, level: u8, index: u32, fragment: u8, bytes: Vec<u8>) {
            if let Some(shape) = Shape::new(size % (2 * MAX_SIZE)) {
                let node = Node { level, index };
                let bits = shape.fragments(node);
                prop_assert!(bits.is_some() || shape.fragment_len(node, fragment).is_none());
                let mut tree = Tree::unknown(Root([1; 32]), shape);
                prop_assert!(!tree.learn(node, &bytes));
            }
        }
    }
}
