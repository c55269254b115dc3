//! What a camera's device node can be asked: the kernel stands behind it, or a test.

use std::{
    fmt::Debug,
    io,
    path::{Path, PathBuf},
};

use super::pixels::Layout;

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    /// For people.
    pub(super) card: String,
    /// Where it is plugged in.
    pub(super) bus: String,
    /// It gives pictures, by buffers that both can read.
    pub(super) is_camera: bool,
}

/// What a node offers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Mode {
    pub(super) fourcc: [u8; 4],
    pub(super) width: u32,
    pub(super) height: u32,
    /// Pictures per second at most; none where it does not say.
    pub(super) fps: Option<f64>,
}

/// What came of asking for a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filled {
    /// A picture.
    Whole,
    /// One that the camera itself says is damaged.
    Damaged,
    /// None is ready.
    Nothing,
}

/// An open node. Dropping it stops it.
pub(super) trait Node: Send + Debug {
    fn identity(&mut self) -> io::Result<Identity>;

    /// All that it offers, as far as it says so.
    fn modes(&mut self, wanted: (u32, u32)) -> io::Result<Vec<Mode>>;

    /// Asks for a mode; tells what it becomes.
    fn set_mode(&mut self, mode: Mode) -> io::Result<Layout>;

    /// Asks for so many pictures per second. What comes of it shows.
    fn set_rate(&mut self, fps: u32) -> io::Result<()>;

    /// Begins to fill so many buffers.
    fn start(&mut self, buffers: u32) -> io::Result<()>;

    /// Takes the oldest picture that is ready. Never waits.
    fn take(&mut self, into: &mut Vec<u8>) -> io::Result<Filled>;
}

/// All nodes of a machine.
pub(super) trait Nodes: Send + Debug {
    /// Those that are there now.
    fn list(&self) -> Vec<PathBuf>;

    fn open(&self, path: &Path) -> io::Result<Box<dyn Node>>;
}
