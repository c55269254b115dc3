//! The screen, a monitor of it, or a window.
//!
//! On Linux that is X11, by shared memory, or the portal of the desktop, where the person picks in a dialog: under
//! Wayland, X11 programs see each other and nothing else. A screen that is black for this reason is told from one that is
//! just black.

use std::{str::FromStr, time::Duration};

use super::{
    frame::Size,
    live::{LiveDevice, LiveOpener, LiveSource, Trouble},
    source::SourceKind,
};

#[cfg(target_os = "linux")]
mod convert;
#[cfg(target_os = "linux")]
mod find;
#[cfg(target_os = "linux")]
mod pointer;
#[cfg(target_os = "linux")]
mod portal;
#[cfg(target_os = "linux")]
mod x11;

/// The largest part of the sides that is shown: four monitors of 8K.
#[cfg(target_os = "linux")]
const MAX_PART: u32 = 8;

/// What to expect of a screen before its first picture.
const USUAL_SIZE: (u32, u32) = (1920, 1080);

/// What is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScreenTarget {
    /// A monitor, by its name in the system; the primary one where none is named, or under Wayland what is picked.
    Monitor(Option<String>),
    /// What the person picks in the dialog of their desktop.
    Picked,
    /// All monitors, side by side as they stand.
    All,
    /// A window, by its number (`0x1e00003`), its title or a part of it.
    Window(String),
}

/// Why a text names nothing that can be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected screen, screen:NAME, screen:all, screen:pick, window:TITLE or window:0xNUMBER")]
pub struct TargetError;

impl FromStr for ScreenTarget {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let (kind, name) = match text.split_once(':') {
            Some((kind, name)) => (kind, Some(name)),
            None => (text, None),
        };
        match (kind, name) {
            ("screen", None) => Ok(Self::Monitor(None)),
            ("screen", Some("all")) => Ok(Self::All),
            ("screen", Some("pick")) => Ok(Self::Picked),
            ("screen", Some(name)) if !name.is_empty() => Ok(Self::Monitor(Some(name.into()))),
            ("window", Some(name)) if !name.trim().is_empty() => Ok(Self::Window(name.into())),
            _ => Err(TargetError),
        }
    }
}

impl std::fmt::Display for ScreenTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Monitor(None) => f.write_str("screen"),
            Self::Monitor(Some(name)) => write!(f, "screen:{name}"),
            Self::All => f.write_str("screen:all"),
            Self::Picked => f.write_str("screen:pick"),
            Self::Window(name) => write!(f, "window:{name}"),
        }
    }
}

/// How to show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScreenOptions {
    /// Pictures per second at most, 1..=60.
    pub fps: u32,
    /// Draw the pointer.
    pub pointer: bool,
    /// Let X11 tell what changed, where it can; else all is compared each time.
    pub damage: bool,
    /// Take pixels by shared memory, where it can be had; else by the connection.
    pub shared_memory: bool,
}

impl Default for ScreenOptions {
    fn default() -> Self {
        Self {
            fps: 30,
            pointer: true,
            damage: true,
            shared_memory: true,
        }
    }
}

/// A screen or a window that can be shown now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Showable {
    /// Names it.
    pub target: ScreenTarget,
    /// For a person: the title of a window, the name and size of a monitor. Harmless characters only.
    pub name: String,
}

/// What can be shown on the display that `DISPLAY` names: all monitors together first, if there are several, then each,
/// then windows. Under Wayland, what the desktop lets one pick, and windows of X11 programs. Windows of the process
/// `except` are left out. Takes a while: never on a thread that draws.
///
/// # Errors
/// Why nothing can be, for a person.
#[cfg(target_os = "linux")]
pub fn list(except: u32) -> Result<Vec<Showable>, Trouble> {
    if !portal::is_needed() {
        return x11::list(None, except);
    }
    let windows = x11::list(None, except).unwrap_or_default();
    let is_window = |it: &Showable| matches!(it.target, ScreenTarget::Window(_));
    let picked = Showable {
        target: ScreenTarget::Picked,
        name: "A screen or a window; your desktop asks which".into(),
    };
    Ok([picked]
        .into_iter()
        .chain(windows.into_iter().filter(is_window))
        .collect())
}

/// By how much the sides of something are divided to be shown, and what they become: what is larger than pictures can be
/// is shown smaller.
#[cfg(target_os = "linux")]
fn best_size(width: u32, height: u32) -> Result<(usize, Size), super::frame::SizeError> {
    let (part, size) = (1..=MAX_PART)
        .map(|part| (part, Size::rounded_down(width / part, height / part)))
        .find(|(_, size)| size.is_ok())
        .unwrap_or((1, Size::rounded_down(width, height)));
    size.map(|size| (part as usize, size))
}

/// # Errors
/// Always: there is no way to do it yet.
#[cfg(not(target_os = "linux"))]
pub fn list(_except: u32) -> Result<Vec<Showable>, Trouble> {
    Err(unsupported())
}

#[cfg(not(target_os = "linux"))]
fn unsupported() -> Trouble {
    Trouble::new(super::trouble::SourceTrouble::NoScreens).and(super::live::Retry::Never)
}

#[derive(Debug)]
#[cfg_attr(
    not(target_os = "linux"),
    expect(dead_code, reason = "there is nothing yet that it could be said to")
)]
struct Opener {
    /// None: the one that `DISPLAY` names.
    display: Option<String>,
    target: ScreenTarget,
    options: ScreenOptions,
    /// It is to be picked, whatever was picked before.
    asks: bool,
    /// Of the window that was found: a part of it may have been named.
    title: Option<String>,
}

impl LiveOpener for Opener {
    fn name(&self) -> String {
        match &self.target {
            ScreenTarget::Monitor(None) => "Your screen".into(),
            ScreenTarget::Monitor(Some(name)) => format!("Your screen {name}"),
            ScreenTarget::All => "All of your screens".into(),
            ScreenTarget::Picked => "What you picked".into(),
            ScreenTarget::Window(name) => {
                format!("Your window “{}”", self.title.as_ref().unwrap_or(name))
            }
        }
    }

    #[cfg(target_os = "linux")]
    fn open(&mut self) -> Result<Box<dyn LiveDevice>, Trouble> {
        let is_picked = match self.target {
            ScreenTarget::Picked => true,
            ScreenTarget::Monitor(None) => self.display.is_none() && portal::is_needed(),
            ScreenTarget::Monitor(Some(_)) | ScreenTarget::All | ScreenTarget::Window(_) => false,
        };
        if is_picked {
            self.target = ScreenTarget::Picked;
            let anew = std::mem::take(&mut self.asks);
            return Ok(Box::new(portal::Portal::open(self.options, anew)?));
        }
        let opened = x11::X11::open(self.display.as_deref(), &self.target, self.options)?;
        self.title = opened.title().map(str::to_owned);
        Ok(Box::new(opened))
    }

    #[cfg(not(target_os = "linux"))]
    fn open(&mut self) -> Result<Box<dyn LiveDevice>, Trouble> {
        Err(unsupported())
    }
}

/// A source that shows `target` whenever it can be seen.
#[must_use]
pub fn source(target: ScreenTarget, options: ScreenOptions) -> LiveSource {
    source_on(None, target, options)
}

/// The same, on a display by its name, such as `:1`; else on the one that `DISPLAY` names.
///
/// # Panics
/// Never: the size that is expected is a possible one.
#[must_use]
pub fn source_on(
    display: Option<String>,
    target: ScreenTarget,
    options: ScreenOptions,
) -> LiveSource {
    let (width, height) = USUAL_SIZE;
    let size = Size::new(width, height).expect("1080p is a possible size");
    let interval = Duration::from_secs(1) / options.fps.clamp(1, 60);
    LiveSource::new(
        SourceKind::Screen,
        Box::new(Opener {
            display,
            asks: target == ScreenTarget::Picked,
            target,
            options,
            title: None,
        }),
        interval,
        size,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_as_they_are_written() {
        for text in [
            "screen",
            "screen:HDMI-1",
            "screen:all",
            "screen:pick",
            "window:0x1e00003",
            "window:a: b",
        ] {
            let target: ScreenTarget = text.parse().unwrap();
            assert_eq!(target.to_string(), text);
        }
        for text in ["", "window", "window:", "window: ", "screen:", "camera"] {
            assert_eq!(text.parse::<ScreenTarget>(), Err(TargetError), "{text}");
        }
    }
}
