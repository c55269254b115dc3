//! Why a camera, a screen or a window gives no pictures: by type, so that each program says it in its own language.

use std::fmt;

use super::{frame::SizeError, source::TroubleKind, y4m::Y4mError};

/// What keeps pictures from coming. Written out it is English, for a person: what it is, and what to do.
///
/// Names and titles in it are as they may be printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceTrouble {
    /// No camera is plugged in.
    NoCamera,
    /// The camera that is wanted is not plugged in.
    CameraAway {
        /// As it was asked for, or calls itself.
        camera: String,
    },
    /// It is not, and others are.
    CameraUnknown {
        /// As it was asked for.
        camera: String,
        /// Others, each with the id that names it.
        there: Vec<String>,
    },
    /// Several are called so.
    CameraAmbiguous {
        /// As it was asked for.
        camera: String,
        /// These, each with the id that names it.
        several: Vec<String>,
    },
    /// It was pulled out.
    CameraUnplugged {
        /// As it calls itself.
        camera: String,
    },
    /// The system forbids it.
    CameraDenied {
        /// As it calls itself.
        camera: String,
    },
    /// The system forbids what may be cameras.
    NodesDenied {
        /// Their nodes: `/dev/video0`.
        nodes: Vec<String>,
    },
    /// Another program uses it.
    CameraBusy {
        /// As it calls itself.
        camera: String,
    },
    /// It does not do what cameras do.
    CameraBroken {
        /// As it calls itself.
        camera: String,
        /// What the system says.
        error: String,
    },
    /// It has no pixels that we know.
    CameraFormat {
        /// As it calls itself.
        camera: String,
        /// What it has.
        given: Vec<String>,
        /// What we know.
        known: Vec<String>,
    },
    /// It is open, and nothing comes.
    CameraSilent {
        /// As it calls itself.
        camera: String,
    },
    /// This system's screens cannot be shown at all.
    NoScreens,
    /// There is no display.
    NoDisplay {
        /// The session is one of Wayland.
        wayland: bool,
    },
    /// There was one.
    DisplayLost,
    /// It does not let itself be read.
    DisplayRefuses,
    /// Its pixels are unknown to us.
    ScreenDepth {
        /// Their bits; none where there is no such screen.
        depth: Option<u8>,
    },
    /// It has a size that cannot be encoded.
    ScreenSize {
        /// It is all monitors together.
        all: bool,
        /// What is wrong with it.
        error: SizeError,
    },
    /// No screen is called so.
    ScreenUnknown {
        /// As it was asked for.
        screen: String,
        /// Those that there are.
        there: Vec<String>,
    },
    /// No window is called so.
    WindowUnknown {
        /// As it was asked for.
        window: String,
        /// Those that there are, with their numbers, and how many more.
        there: Named,
    },
    /// Several are called so.
    WindowAmbiguous {
        /// As it was asked for.
        window: String,
        /// The number of the first.
        first: u32,
        /// These, with their numbers, and how many more.
        several: Named,
    },
    /// It was closed.
    WindowClosed {
        /// Its title.
        window: String,
        /// One by that name is shown as soon as there is one.
        comes_back: bool,
    },
    /// It is minimised.
    WindowHidden {
        /// Its title.
        window: String,
    },
    /// The screen is locked or asleep.
    Locked,
    /// The desktop has no portal.
    NoPortal,
    /// Nothing was picked in its dialog.
    NotPicked,
    /// The desktop ended it.
    Ended,
    /// The desktop gives pictures that we do not know.
    PortalFormat,
    /// A film is damaged, or over.
    Film(String),
}

/// Some names of many.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Named {
    /// The first of them.
    pub names: Vec<String>,
    /// How many there are besides.
    pub more: usize,
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names.join(", "))?;
        match self.more {
            0 => Ok(()),
            more => write!(f, ", {more} more"),
        }
    }
}

impl From<&Y4mError> for SourceTrouble {
    fn from(error: &Y4mError) -> Self {
        Self::Film(error.to_string())
    }
}

impl SourceTrouble {
    /// What kind of reason it is.
    #[must_use]
    pub const fn kind(&self) -> TroubleKind {
        match self {
            Self::NoCamera
            | Self::CameraAway { .. }
            | Self::CameraUnknown { .. }
            | Self::CameraAmbiguous { .. }
            | Self::NoScreens
            | Self::NoDisplay { .. }
            | Self::ScreenUnknown { .. }
            | Self::WindowUnknown { .. }
            | Self::WindowAmbiguous { .. }
            | Self::NoPortal => TroubleKind::Missing,
            Self::CameraDenied { .. } | Self::NodesDenied { .. } | Self::NotPicked => {
                TroubleKind::Denied
            }
            Self::CameraBusy { .. } => TroubleKind::Busy,
            Self::CameraUnplugged { .. }
            | Self::DisplayLost
            | Self::WindowClosed { .. }
            | Self::Ended => TroubleKind::Gone,
            Self::WindowHidden { .. } => TroubleKind::Hidden,
            Self::Locked => TroubleKind::Locked,
            Self::CameraBroken { .. }
            | Self::CameraFormat { .. }
            | Self::CameraSilent { .. }
            | Self::DisplayRefuses
            | Self::ScreenDepth { .. }
            | Self::ScreenSize { .. }
            | Self::PortalFormat
            | Self::Film(_) => TroubleKind::Failed,
        }
    }
}

impl fmt::Display for SourceTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCamera => f.write_str(
                "No camera is plugged in, so the other side does not see you; it will as soon as there is one.",
            ),
            Self::CameraAway { camera } => write!(
                f,
                "The camera {camera} is not plugged in, so the other side does not see you; it will as soon as it is."
            ),
            Self::CameraUnknown { camera, there } => write!(
                f,
                "The camera {camera} is not plugged in, so the other side does not see you. There are: {}.",
                there.join(", ")
            ),
            Self::CameraAmbiguous { camera, several } => write!(
                f,
                "Several cameras are called {camera}, so none is used. Choose one: {}.",
                several.join(", ")
            ),
            Self::CameraUnplugged { camera } => write!(
                f,
                "The camera {camera} was unplugged, so the other side does not see you; plug it in again, and it will."
            ),
            Self::CameraDenied { camera } => write!(f, "The camera {camera} {DENIED}"),
            Self::NodesDenied { nodes } => write!(f, "{} {DENIED}", nodes.join(", ")),
            Self::CameraBusy { camera } => write!(
                f,
                "The camera {camera} is used by another program, so the other side does not see you: close that one, and \
                 it will."
            ),
            Self::CameraBroken { camera, error } => write!(
                f,
                "The camera {camera} does not work ({error}), so the other side does not see you. It is tried again; if \
                 that does not help, plug it out and in."
            ),
            Self::CameraFormat {
                camera,
                given,
                known,
            } => write!(
                f,
                "The camera {camera} gives pictures that are not understood ({}; understood are {}), so the other side \
                 does not see you. Choose another camera.",
                given.join(", "),
                known.join(", ")
            ),
            Self::CameraSilent { camera } => write!(
                f,
                "The camera {camera} gives no pictures, so the other side does not see you. It is tried again; is its \
                 cover closed, or its key for privacy pressed?"
            ),
            Self::NoScreens => f.write_str(
                "Screens can be shown on Linux with X11 only so far, so the other side sees nothing.",
            ),
            Self::NoDisplay { wayland: true } => f.write_str(
                "There is no display of X11 here, and the portal of Wayland is not built in yet, so the other side sees \
                 nothing. Log in to a session with X11 to show the screen.",
            ),
            Self::NoDisplay { wayland: false } => f.write_str(
                "There is no display to show (is DISPLAY set, and may you use it?), so the other side sees nothing; it \
                 is looked for again.",
            ),
            Self::DisplayLost => f.write_str(
                "The display is gone or does not answer, so the other side sees nothing of it; it is looked for again.",
            ),
            Self::DisplayRefuses => f.write_str(
                "The display refuses to be read, so the other side sees nothing of it; that is tried again.",
            ),
            Self::ScreenDepth { depth } => {
                f.write_str("This screen cannot be shown: ")?;
                match depth {
                    None => f.write_str("it has no such number")?,
                    Some(depth) => write!(f, "its pixels have a depth of {depth}")?,
                }
                f.write_str(
                    ". Pixels of 24 bits in 32 are understood; choose that depth in the settings of the display.",
                )
            }
            Self::ScreenSize { all, error } => {
                let advice = if *all {
                    "show one monitor of it with screen:NAME"
                } else {
                    "make it larger or smaller"
                };
                write!(f, "This cannot be shown as it is ({error}): {advice}.")
            }
            Self::ScreenUnknown { screen, there } => write!(
                f,
                "There is no screen {screen}, so the other side sees nothing until there is. There are: {}.",
                there.join(", ")
            ),
            Self::WindowUnknown { window, there } => {
                write!(
                    f,
                    "No window is called “{window}”, so the other side sees nothing until there is one. "
                )?;
                if there.names.is_empty() {
                    f.write_str("No window is open.")
                } else {
                    write!(f, "There are: {there}.")
                }
            }
            Self::WindowAmbiguous {
                window,
                first,
                several,
            } => write!(
                f,
                "Several windows are called “{window}”, so the other side sees none. Name one by its number, as in \
                 window:{first:#x}: {several}."
            ),
            Self::WindowClosed { window, comes_back } => {
                let then = if *comes_back {
                    "it is shown again as soon as there is one by that name."
                } else {
                    "call again to show another one."
                };
                write!(
                    f,
                    "The window “{window}” was closed, so the other side sees nothing new of it; {then}"
                )
            }
            Self::WindowHidden { window } => write!(
                f,
                "The window “{window}” is minimised, so the other side sees nothing new of it until you open it again."
            ),
            Self::Locked => f.write_str(
                "Your screen is locked or asleep, so the other side sees nothing new of it until you are back.",
            ),
            Self::NoPortal => f.write_str(
                "Your desktop has no way for programs to show its screens, so the other side sees nothing: install \
                 xdg-desktop-portal with the part for your desktop (such as xdg-desktop-portal-gnome, -kde or -wlr) and \
                 PipeWire, or log in to a session with X11.",
            ),
            Self::NotPicked => f.write_str(
                "Nothing was picked in your desktop's dialog, so the other side sees nothing; share again to be asked \
                 again.",
            ),
            Self::Ended => f.write_str(
                "Showing was ended by your desktop, so the other side sees nothing any more; share again to go on.",
            ),
            Self::PortalFormat => f.write_str(
                "Your desktop gives no pictures that ahoy understands, so the other side sees nothing; tell us which \
                 desktop it is.",
            ),
            Self::Film(error) => write!(f, "No more pictures are sent: {error}."),
        }
    }
}

/// What the system does not allow, and how to change that.
const DENIED: &str = "may not be used by you, so the other side does not see you: join the group that owns it (`sudo \
     usermod -aG video $USER`, then log in anew).";
