//! Cameras.
//!
//! On Linux those of the kernel (Video4Linux 2). What is decided here, which camera, which of its modes, what its errors
//! mean and when it is given up, knows a camera only by what `node` has, so that tests can pull one out.

use std::{io, path::PathBuf, time::Duration};

use super::{
    frame::{Frame, Size},
    live::{Grabbed, LiveDevice, LiveOpener, LiveSource, Trouble},
    source::SourceKind,
    trouble::SourceTrouble,
};

mod node;
mod pixels;
mod v4l2;

use node::{Filled, Identity, Mode, Node, Nodes};
use pixels::{PixelFormat, Reader};

/// Pictures that the camera may fill before we come.
const BUFFERS: u32 = 4;

/// A camera that gives no picture for so long is opened anew: some take two seconds for the first.
const PATIENCE: Duration = Duration::from_secs(4);

/// A mode this much slower than what is wanted is as good, in percent: 29.97 and 30.
const RATE_SLACK_PERCENT: f64 = 10.0;

/// More is not asked of a mode: a larger picture at 24 is better than a smaller one at 30.
const ENOUGH_FPS: f64 = 24.0;

/// A camera that is plugged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CameraInfo {
    /// The same each time it is plugged in there: `usb-0000:00:14.0-5`.
    pub id: String,
    /// As it calls itself.
    pub name: String,
    /// Its node.
    pub path: PathBuf,
}

/// Cameras, and nodes that may be some and cannot be looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cameras {
    /// Those that can be used.
    pub there: Vec<CameraInfo>,
    /// What keeps us from others.
    pub troubles: Vec<SourceTrouble>,
}

/// What is wanted of a camera.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CameraWish {
    /// Its id, its node, its name or a part of it; the first one there is where nothing is said.
    pub camera: Option<String>,
    /// As near as it can.
    pub size: Size,
    /// As near as it can.
    pub fps: u32,
}

/// All cameras now.
#[must_use]
pub fn list() -> Cameras {
    look(&v4l2::V4l2)
}

/// A source that shows a camera whenever it is there.
#[must_use]
pub fn source(wish: CameraWish) -> LiveSource {
    from(Box::new(v4l2::V4l2), wish)
}

fn from(nodes: Box<dyn Nodes>, wish: CameraWish) -> LiveSource {
    let interval = Duration::from_secs(1) / wish.fps.clamp(1, 60);
    let size = wish.size;
    let opener = Opener {
        nodes,
        wish,
        chosen: None,
    };
    LiveSource::new(SourceKind::Camera, Box::new(opener), interval, size)
}

/// A name that a device gave itself, as it may be printed.
fn printable(name: &str) -> String {
    name.chars()
        .filter(|character| !character.is_control())
        .take(60)
        .collect()
}

fn look(nodes: &dyn Nodes) -> Cameras {
    let mut cameras = Cameras::default();
    let mut denied = Vec::new();
    for path in nodes.list() {
        let identity = nodes.open(&path).and_then(|mut node| node.identity());
        match identity {
            Ok(Identity {
                card,
                bus,
                is_camera: true,
            }) => {
                // Some have two: for light and for infrared.
                let same = |camera: &&CameraInfo| {
                    let (port, _number) = camera.id.split_once('#').unwrap_or((&camera.id, ""));
                    port == bus
                };
                let id = match cameras.there.iter().filter(same).count() {
                    0 => bus,
                    others => format!("{bus}#{}", others + 1),
                };
                cameras.there.push(CameraInfo {
                    id,
                    name: printable(&card),
                    path,
                });
            }
            // Most cameras have a second node that tells about the pictures of the first.
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                denied.push(path.display().to_string());
            }
            Err(error) => tracing::debug!(path = %path.display(), %error, "no camera"),
        }
    }
    if !denied.is_empty() {
        let trouble = SourceTrouble::NodesDenied { nodes: denied };
        cameras.troubles.push(trouble);
    }
    cameras
}

fn names(cameras: &[CameraInfo]) -> Vec<String> {
    let name = |camera: &CameraInfo| format!("{} (camera:{})", camera.name, camera.id);
    cameras.iter().map(name).collect()
}

/// The camera that is meant. Never another one: a camera sees what it stands before.
fn choose(cameras: &Cameras, wanted: Option<&str>) -> Result<CameraInfo, Trouble> {
    let Some(wanted) = wanted else {
        return match (cameras.there.first(), cameras.troubles.first()) {
            (Some(camera), _) => Ok(camera.clone()),
            (None, Some(trouble)) => Err(Trouble::new(trouble.clone())),
            (None, None) => Err(Trouble::new(SourceTrouble::NoCamera)),
        };
    };
    let lower = wanted.to_lowercase();
    let by = |matches: &dyn Fn(&CameraInfo) -> bool| -> Vec<CameraInfo> {
        let found = cameras.there.iter().filter(|camera| matches(camera));
        found.cloned().collect()
    };
    let found = [
        by(&|camera| camera.id == wanted || camera.path.as_os_str() == wanted),
        by(&|camera| camera.name.to_lowercase() == lower),
        by(&|camera| camera.name.to_lowercase().contains(&lower)),
    ]
    .into_iter()
    .find(|found| !found.is_empty())
    .unwrap_or_default();
    let camera = printable(wanted);
    let trouble = match (found.as_slice(), cameras.troubles.first()) {
        ([camera], _) => return Ok(camera.clone()),
        ([], Some(trouble)) if cameras.there.is_empty() => trouble.clone(),
        ([], _) if cameras.there.is_empty() => SourceTrouble::CameraAway { camera },
        ([], _) => SourceTrouble::CameraUnknown {
            camera,
            there: names(&cameras.there),
        },
        (several, _) => SourceTrouble::CameraAmbiguous {
            camera,
            several: names(several),
        },
    };
    Err(Trouble::new(trouble))
}

/// The mode that is nearest to what is wanted.
fn best(modes: &[Mode], size: Size, fps: u32) -> Option<Mode> {
    let wanted = f64::from(fps).min(ENOUGH_FPS) * (1.0 - RATE_SLACK_PERCENT / 100.0);
    let (width, height) = (size.width(), size.height());
    let rank = |mode: &Mode| {
        let format = PixelFormat::of(mode.fourcc)?;
        let work = PixelFormat::ALL.iter().position(|one| *one == format)?;
        Size::rounded_down(mode.width, mode.height).ok()?;
        let is_slow = mode.fps.is_some_and(|fps| fps < wanted);
        let is_small = mode.width < width || mode.height < height;
        let pixels = u64::from(mode.width) * u64::from(mode.height);
        let off = pixels.abs_diff(size.pixels() as u64);
        Some((is_slow, is_small, off, work))
    };
    let ranked = modes.iter().filter_map(|mode| Some((rank(mode)?, mode)));
    ranked.min_by_key(|(rank, _)| *rank).map(|(_, mode)| *mode)
}

/// What an error of the kernel means.
fn explain(error: &io::Error, name: &str, was_open: bool) -> Trouble {
    use rustix::io::Errno;

    tracing::debug!(%error, name, "a camera refuses");
    let is = |wanted: Errno| error.raw_os_error() == Some(wanted.raw_os_error());
    let pulled = is(Errno::NODEV) || is(Errno::NXIO) || is(Errno::NOENT);
    let camera = name.to_owned();
    Trouble::new(if pulled && was_open {
        SourceTrouble::CameraUnplugged { camera }
    } else if pulled {
        SourceTrouble::CameraAway { camera }
    } else if error.kind() == io::ErrorKind::PermissionDenied {
        SourceTrouble::CameraDenied { camera }
    } else if is(Errno::BUSY) {
        SourceTrouble::CameraBusy { camera }
    } else {
        SourceTrouble::CameraBroken {
            camera,
            error: error.to_string(),
        }
    })
}

#[derive(Debug)]
struct Opener {
    nodes: Box<dyn Nodes>,
    wish: CameraWish,
    /// Once one was seen, no other takes its place unasked.
    chosen: Option<CameraInfo>,
}

impl LiveOpener for Opener {
    fn name(&self) -> String {
        match &self.chosen {
            Some(camera) => format!("The camera {}", camera.name),
            None => "The camera".into(),
        }
    }

    fn open(&mut self) -> Result<Box<dyn LiveDevice>, Trouble> {
        let cameras = look(&*self.nodes);
        let camera = match &self.chosen {
            Some(chosen) => choose(&cameras, Some(&chosen.id))
                .map_err(|_other| explain(&rustix::io::Errno::NODEV.into(), &chosen.name, true))?,
            None => choose(&cameras, self.wish.camera.as_deref())?,
        };
        let name = camera.name.clone();
        let failed = |error: io::Error| explain(&error, &name, false);
        let mut node = self.nodes.open(&camera.path).map_err(failed)?;
        let CameraWish { size, fps, .. } = self.wish;
        let modes = node.modes((size.width(), size.height())).map_err(failed)?;
        let mode = best(&modes, size, fps).ok_or_else(|| {
            let given: std::collections::BTreeSet<String> = modes
                .iter()
                .map(|mode| printable(&String::from_utf8_lossy(&mode.fourcc)))
                .collect();
            let known = PixelFormat::ALL
                .map(|format| String::from_utf8_lossy(&format.fourcc()).into_owned());
            Trouble::new(SourceTrouble::CameraFormat {
                camera: name.clone(),
                given: given.into_iter().collect(),
                known: known.into(),
            })
        })?;
        let layout = node.set_mode(mode).map_err(failed)?;
        let reader = Reader::new(layout).ok_or_else(|| {
            failed(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("pictures of {}x{}", layout.width, layout.height),
            ))
        })?;
        node.set_rate(fps)
            .unwrap_or_else(|error| tracing::debug!(%error, "the camera keeps its rate"));
        node.start(BUFFERS).map_err(failed)?;
        tracing::debug!(?camera, ?layout, "a camera is open");
        self.chosen = Some(camera);
        Ok(Box::new(Camera {
            name,
            node,
            reader,
            bytes: Vec::new(),
            last: None,
        }))
    }
}

/// A camera that is open.
#[derive(Debug)]
struct Camera {
    name: String,
    node: Box<dyn Node>,
    reader: Reader,
    bytes: Vec<u8>,
    /// When a picture came last, or it was opened.
    last: Option<Duration>,
}

impl Camera {
    /// The newest picture that is ready; those before it are old.
    fn take_newest(&mut self) -> io::Result<bool> {
        let mut newest = Vec::new();
        let mut came = false;
        // No more can be ready than there are buffers; a camera that is faster than we are has to be left some time.
        for _ in 0..BUFFERS {
            match self.node.take(&mut newest)? {
                Filled::Whole => {
                    std::mem::swap(&mut self.bytes, &mut newest);
                    came = true;
                }
                Filled::Damaged => {}
                Filled::Nothing => break,
            }
        }
        Ok(came)
    }
}

impl LiveDevice for Camera {
    fn grab(&mut self, frame: &mut Frame) -> Result<Grabbed, Trouble> {
        let now = frame.taken;
        let came = self
            .take_newest()
            .map_err(|error| explain(&error, &self.name, true))?;
        if came && self.reader.read(&self.bytes, frame).is_ok() {
            debug_assert_eq!(frame.size(), self.reader.size());
            self.last = Some(now);
            return Ok(Grabbed::Picture);
        }
        let last = *self.last.get_or_insert(now);
        if now.saturating_sub(last) < PATIENCE {
            return Ok(Grabbed::NotYet);
        }
        Err(Trouble::new(SourceTrouble::CameraSilent {
            camera: self.name.clone(),
        }))
    }
}

#[cfg(test)]
mod tests;
