//! What the display can do beyond the core of X11.

use x11rb::{
    connection::RequestConnection as _,
    errors::ConnectionError,
    protocol::{
        composite::{self, ConnectionExt as _},
        damage::{self, ConnectionExt as _},
        randr::{self, ConnectionExt as _},
        screensaver::{self, ConnectionExt as _},
        shm::{self, ConnectionExt as _},
        xfixes::{self, ConnectionExt as _},
    },
};

use super::{Answer, patient::Connection};
use crate::video::{live::Trouble, screen::ScreenOptions, trouble::SourceTrouble};

/// Which extensions there are, and are wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extensions {
    pub(super) shm: bool,
    pub(super) xfixes: bool,
    pub(super) damage: bool,
    pub(super) composite: bool,
    pub(super) randr: bool,
    pub(super) saver: bool,
    /// The server is a window of a Wayland session.
    pub(super) wayland: bool,
}

impl Extensions {
    /// Asks for each; they want to be asked before they are used.
    pub(super) fn of(connection: &Connection, options: ScreenOptions) -> Answer<Self> {
        let has = |name: &'static str| -> Result<bool, ConnectionError> {
            Ok(connection.extension_information(name)?.is_some())
        };
        let xfixes = has(xfixes::X11_EXTENSION_NAME)?
            && connection
                .xfixes_query_version(5, 0)?
                .reply()?
                .major_version
                >= 2;
        let shm = options.shared_memory && has(shm::X11_EXTENSION_NAME)? && {
            let version = connection.shm_query_version()?.reply()?;
            (version.major_version, version.minor_version) >= (1, 2)
        };
        let randr = has(randr::X11_EXTENSION_NAME)? && {
            let version = connection.randr_query_version(1, 5)?.reply()?;
            (version.major_version, version.minor_version) >= (1, 5)
        };
        let damage = options.damage && xfixes && has(damage::X11_EXTENSION_NAME)?;
        if damage {
            connection.damage_query_version(1, 1)?.reply()?;
        }
        let composite = xfixes && has(composite::X11_EXTENSION_NAME)? && {
            let version = connection.composite_query_version(0, 4)?.reply()?;
            (version.major_version, version.minor_version) >= (0, 2)
        };
        let saver = has(screensaver::X11_EXTENSION_NAME)?;
        if saver {
            connection.screensaver_query_version(1, 1)?.reply()?;
        }
        Ok(Self {
            shm,
            xfixes,
            damage,
            composite,
            randr,
            saver,
            wayland: is_wayland() || has("XWAYLAND")?,
        })
    }
}

/// The session is one of Wayland, as it says itself.
fn is_wayland() -> bool {
    let is = |name: &str, wanted: Option<&str>| {
        std::env::var(name)
            .is_ok_and(|value| wanted.map_or(!value.is_empty(), |wanted| value == wanted))
    };
    is("WAYLAND_DISPLAY", None) || is("XDG_SESSION_TYPE", Some("wayland"))
}

pub(super) fn no_display() -> Trouble {
    Trouble::new(SourceTrouble::NoDisplay {
        wayland: is_wayland(),
    })
}
