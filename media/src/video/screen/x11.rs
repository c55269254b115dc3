//! X11, by MIT-SHM.
//!
//! The server writes pixels into memory that both have, and we read them from there as from a file, so that no code here
//! is unsafe: a copy of a 1080p picture takes less than a millisecond, and what did not change is not copied at all, since
//! DAMAGE tells what did. A window is shown by the picture that COMPOSITE keeps of it, whatever stands before it. Each of
//! these extensions can be missing; then it is done in a slower way.

mod extensions;
mod patient;

use std::{fs::File, ops::Range, os::fd::OwnedFd, os::unix::fs::FileExt as _};

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use x11rb::{
    connection::Connection as _,
    errors::{ConnectionError, ReplyError, ReplyOrIdError},
    protocol::{
        Event,
        composite::{self, ConnectionExt as _},
        damage::{self, ConnectionExt as _},
        randr::{self, ConnectionExt as _},
        screensaver::{self, ConnectionExt as _},
        shm::{self, ConnectionExt as _},
        xfixes::ConnectionExt as _,
        xproto::{self, AtomEnum, ConnectionExt as _, EventMask, ImageFormat, MapState, Window},
    },
};

use self::{
    extensions::{Extensions, no_display},
    patient::{Connection, connect},
};
use super::{
    ScreenOptions, ScreenTarget, Showable, best_size,
    convert::{PIXEL_BYTES, Pixels, convert_rows, is_black},
    find::{WindowInfo, choose, printable},
    pointer::Pointer,
};
use crate::video::{
    frame::{Frame, Plane, Size},
    live::{Grabbed, LiveDevice, Retry, Trouble},
    source::{BLACK_SENTENCE, SourceNews, SourceNewsKind},
    trouble::SourceTrouble,
};

/// Windows that are looked at, of a tree that strangers' programs make.
const MAX_WINDOWS: usize = 4096;
/// Levels of that tree: frames of window managers have one or two.
const MAX_DEPTH: usize = 4;
/// Of a title, in units of four bytes.
const MAX_TITLE_WORDS: u32 = 256;

/// Pixels that are refused more often than this are not to be had: a change of size explains one refusal, or two.
const MAX_REFUSED: u32 = 5;

/// All bits of a pixel.
const ALL_PLANES: u32 = !0;

/// What is looked at.
#[derive(Debug)]
enum What {
    Screen {
        /// None: all.
        monitor: Option<String>,
        all: bool,
    },
    Window {
        id: Window,
        title: String,
        /// Named by its number, it cannot come back.
        by_number: bool,
        /// What COMPOSITE keeps of it.
        pixmap: Option<xproto::Pixmap>,
        is_mapped: bool,
    },
}

/// Memory that the server writes pixels into.
#[derive(Debug)]
struct Shared {
    segment: shm::Seg,
    file: File,
    bytes: usize,
}

/// Where something is, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Area {
    x: i16,
    y: i16,
    width: u16,
    height: u16,
}

/// An open display.
pub(super) struct X11 {
    connection: Connection,
    root: Window,
    extensions: Extensions,
    options: ScreenOptions,
    what: What,
    area: Area,
    shared: Option<Shared>,
    damage: Option<damage::Damage>,
    /// As the server has it, without the pointer.
    pixels: Vec<u8>,
    /// Read for comparison, where nobody tells what changed.
    scratch: Vec<u8>,
    picture: Frame,
    /// The picture's sides are divided by this.
    part: usize,
    pointer: Option<Pointer>,
    /// Rows that may have changed since they were read.
    dirty: Range<usize>,
    /// The area may be another one now.
    moved: bool,
    is_gone: bool,
    is_locked: bool,
    is_black: bool,
    /// Times one after the other that pixels were refused.
    refused: u32,
    remark: Option<SourceNews>,
}

impl std::fmt::Debug for X11 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("X11")
            .field("what", &self.what)
            .field("area", &self.area)
            .finish_non_exhaustive()
    }
}

/// What a request came to, where anything may go wrong.
type Answer<T> = Result<T, ReplyOrIdError>;

fn display_lost(error: &dyn std::fmt::Display) -> Trouble {
    tracing::debug!(%error, "the display is lost");
    Trouble::new(SourceTrouble::DisplayLost)
}

fn not_understood(depth: Option<u8>) -> Trouble {
    Trouble::new(SourceTrouble::ScreenDepth { depth })
}

/// A request failed: the connection is over, or what it was about is no more.
fn failed(error: ReplyOrIdError) -> Trouble {
    match error {
        ReplyOrIdError::ConnectionError(error) => display_lost(&error),
        ReplyOrIdError::IdsExhausted => display_lost(&"no numbers are left"),
        ReplyOrIdError::X11Error(error) => {
            tracing::debug!(?error, "a request was refused");
            Trouble::new(SourceTrouble::DisplayRefuses)
        }
    }
}

/// Monitors and windows with a title, but for those of the process `except`.
pub(super) fn list(display: Option<&str>, except: u32) -> Result<Vec<Showable>, Trouble> {
    let x11 = X11::open(display, &ScreenTarget::All, ScreenOptions::default())?;
    let monitors = x11.monitors().map_err(failed)?;
    let mut found = Vec::new();
    if monitors.len() != 1 {
        found.push(Showable {
            target: ScreenTarget::All,
            name: "Whole screen".into(),
        });
    }
    found.extend(monitors.iter().map(|(name, _, area)| Showable {
        target: ScreenTarget::Monitor(Some(name.clone())),
        name: format!(
            "Screen {} ({}x{})",
            printable(name),
            area.width,
            area.height
        ),
    }));
    for window in x11.windows().map_err(failed)? {
        if x11.process_of(window.id).map_err(failed)? != Some(except) {
            found.push(Showable {
                target: ScreenTarget::Window(format!("{:#x}", window.id)),
                name: printable(&window.title),
            });
        }
    }
    Ok(found)
}

fn side(value: u16) -> u32 {
    u32::from(value)
}

impl X11 {
    /// Connects to a display, or the one that `DISPLAY` names, and looks for `target`.
    pub(super) fn open(
        display: Option<&str>,
        target: &ScreenTarget,
        options: ScreenOptions,
    ) -> Result<Self, Trouble> {
        let (connection, screen) = connect(display).map_err(|error| {
            tracing::debug!(%error, "no display");
            no_display()
        })?;
        let setup = connection.setup();
        let screen = setup
            .roots
            .get(screen)
            .ok_or_else(|| not_understood(None))?;
        let root = screen.root;
        let is_32 = setup
            .pixmap_formats
            .iter()
            .any(|format| format.depth == screen.root_depth && format.bits_per_pixel == 32);
        let masks = screen
            .allowed_depths
            .iter()
            .flat_map(|depth| &depth.visuals)
            .find(|visual| visual.visual_id == screen.root_visual)
            .map(|visual| (visual.red_mask, visual.green_mask, visual.blue_mask));
        if !is_32
            || masks != Some((0x00ff_0000, 0xff00, 0xff))
            || setup.image_byte_order != xproto::ImageOrder::LSB_FIRST
        {
            return Err(not_understood(Some(screen.root_depth)));
        }
        let extensions = Extensions::of(&connection, options).map_err(failed)?;
        let mut this = Self {
            root,
            extensions,
            options,
            what: What::Screen {
                monitor: None,
                all: true,
            },
            area: Area {
                x: 0,
                y: 0,
                width: screen.width_in_pixels,
                height: screen.height_in_pixels,
            },
            shared: None,
            damage: None,
            pixels: Vec::new(),
            scratch: Vec::new(),
            picture: Frame::black(
                Size::new(16, 16).map_err(|error| {
                    let all = false;
                    Trouble::new(SourceTrouble::ScreenSize { all, error })
                })?,
                std::time::Duration::ZERO,
            ),
            part: 1,
            pointer: None,
            dirty: 0..0,
            moved: true,
            is_gone: false,
            is_locked: false,
            is_black: false,
            refused: 0,
            remark: None,
            connection,
        };
        this.listen_to_root().map_err(failed)?;
        this.what = match target {
            // Nothing is picked here.
            ScreenTarget::All | ScreenTarget::Picked => What::Screen {
                monitor: None,
                all: true,
            },
            ScreenTarget::Monitor(name) => What::Screen {
                monitor: name.clone(),
                all: false,
            },
            ScreenTarget::Window(wanted) => this.find_window(wanted)?,
        };
        this.listen_to_target().map_err(failed)?;
        Ok(this)
    }

    /// Its size, and whether it is locked.
    fn listen_to_root(&mut self) -> Answer<()> {
        let attributes =
            xproto::ChangeWindowAttributesAux::new().event_mask(EventMask::STRUCTURE_NOTIFY);
        self.connection
            .change_window_attributes(self.root, &attributes)?
            .check()?;
        if self.extensions.randr {
            let wanted = randr::NotifyMask::SCREEN_CHANGE | randr::NotifyMask::CRTC_CHANGE;
            self.connection.randr_select_input(self.root, wanted)?;
        }
        if self.extensions.saver {
            self.connection
                .screensaver_select_input(self.root, screensaver::Event::NOTIFY_MASK)?;
            let info = self.connection.screensaver_query_info(self.root)?.reply()?;
            self.is_locked = info.state == u8::from(screensaver::State::ON);
        }
        Ok(())
    }

    fn listen_to_target(&mut self) -> Answer<()> {
        let drawable = self.window();
        if let What::Window { id, is_mapped, .. } = &mut self.what {
            let attributes =
                xproto::ChangeWindowAttributesAux::new().event_mask(EventMask::STRUCTURE_NOTIFY);
            self.connection
                .change_window_attributes(*id, &attributes)?
                .check()?;
            if self.extensions.composite {
                // So that it is kept whole whatever stands before it. Another program may have done so already.
                self.connection
                    .composite_redirect_window(*id, composite::Redirect::AUTOMATIC)?
                    .check()
                    .unwrap_or_else(|error| {
                        tracing::debug!(?error, "the window is not redirected")
                    });
            }
            let state = self.connection.get_window_attributes(*id)?.reply()?;
            *is_mapped = state.map_state == MapState::VIEWABLE;
        }
        if self.extensions.damage {
            let damage = self.connection.generate_id()?;
            let level = damage::ReportLevel::BOUNDING_BOX;
            self.connection
                .damage_create(damage, drawable, level)?
                .check()?;
            self.damage = Some(damage);
        }
        Ok(())
    }

    /// The window that is looked at, if only the root.
    fn window(&self) -> Window {
        match self.what {
            What::Screen { .. } => self.root,
            What::Window { id, .. } => id,
        }
    }

    /// Of the window, if it is one.
    pub(super) fn title(&self) -> Option<&str> {
        match &self.what {
            What::Screen { .. } => None,
            What::Window { title, .. } => Some(title),
        }
    }

    // --- which window --------------------------------------------------------------------------------

    fn find_window(&self, wanted: &str) -> Result<What, Trouble> {
        let windows = self.windows().map_err(failed)?;
        let window = choose(&windows, wanted)?;
        Ok(What::Window {
            id: window.id,
            by_number: wanted.starts_with("0x"),
            title: printable(&window.title),
            pixmap: None,
            is_mapped: false,
        })
    }

    /// Windows with a title: those that the window manager names, or those that can be seen where there is none.
    fn windows(&self) -> Answer<Vec<WindowInfo>> {
        let list = self.atom("_NET_CLIENT_LIST")?;
        let named = self
            .connection
            .get_property(
                false,
                self.root,
                list,
                AtomEnum::WINDOW,
                0,
                MAX_WINDOWS as u32,
            )?
            .reply()?;
        let managed: Vec<Window> = named.value32().map(Iterator::collect).unwrap_or_default();
        let candidates = if managed.is_empty() {
            self.visible_windows()?
        } else {
            managed
        };
        let utf8_title = self.atom("_NET_WM_NAME")?;
        let utf8 = self.atom("UTF8_STRING")?;
        let mut windows = Vec::new();
        for id in candidates {
            let titles = [
                (utf8_title, utf8),
                (AtomEnum::WM_NAME.into(), AtomEnum::ANY.into()),
            ];
            for (property, kind) in titles {
                let title = self
                    .connection
                    .get_property(false, id, property, kind, 0, MAX_TITLE_WORDS)?
                    .reply();
                // It may have been closed since.
                let title = title.map(|title| title.value).unwrap_or_default();
                if !title.is_empty() {
                    let title = String::from_utf8_lossy(&title).into_owned();
                    windows.push(WindowInfo { id, title });
                    break;
                }
            }
        }
        Ok(windows)
    }

    /// Whose window it is, as far as that is told.
    fn process_of(&self, window: Window) -> Answer<Option<u32>> {
        let property = self.atom("_NET_WM_PID")?;
        let told = self
            .connection
            .get_property(false, window, property, AtomEnum::CARDINAL, 0, 1)?
            .reply();
        // It may have been closed since.
        Ok(told.ok().and_then(|told| told.value32()?.next()))
    }

    fn visible_windows(&self) -> Answer<Vec<Window>> {
        let mut found = Vec::new();
        let mut open = vec![(self.root, 0)];
        while let Some((window, depth)) = open.pop() {
            let Ok(tree) = self.connection.query_tree(window)?.reply() else {
                continue;
            };
            for child in tree.children {
                if found.len() >= MAX_WINDOWS {
                    return Ok(found);
                }
                let attributes = self.connection.get_window_attributes(child)?.reply();
                let is_seen = attributes.is_ok_and(|attributes| {
                    attributes.map_state == MapState::VIEWABLE
                        && attributes.class == xproto::WindowClass::INPUT_OUTPUT
                });
                if is_seen {
                    found.push(child);
                    if depth + 1 < MAX_DEPTH {
                        open.push((child, depth + 1));
                    }
                }
            }
        }
        Ok(found)
    }

    fn atom(&self, name: &str) -> Answer<xproto::Atom> {
        let atom = self.connection.intern_atom(false, name.as_bytes())?;
        Ok(atom.reply()?.atom)
    }

    // --- what happened -------------------------------------------------------------------------------

    fn take_events(&mut self) -> Result<(), ConnectionError> {
        while let Some(event) = self.connection.poll_for_event()? {
            self.handle(&event);
        }
        Ok(())
    }

    fn handle(&mut self, event: &Event) {
        if let Event::DamageNotify(damage) = event {
            let top = i32::from(damage.area.y) - self.damage_offset();
            let bottom = top + i32::from(damage.area.height);
            let row = |row: i32| usize::try_from(row).unwrap_or(0);
            self.touch(row(top)..row(bottom));
        } else if let Event::ScreensaverNotify(saver) = event {
            self.is_locked = saver.state == screensaver::State::ON;
        } else if let Event::RandrScreenChangeNotify(_) | Event::RandrNotify(_) = event {
            self.moved = true;
        } else if let Event::ConfigureNotify(change) = event {
            self.moved |= change.window == self.window() || change.window == self.root;
        } else if let Event::DestroyNotify(gone) = event {
            self.is_gone |= gone.window == self.window();
        } else if let Event::UnmapNotify(unmapped) = event {
            self.set_mapped(unmapped.window, false);
        } else if let Event::MapNotify(mapped) = event {
            self.set_mapped(mapped.window, true);
        }
    }

    /// Damage of a screen is told in its pixels, of which a monitor's are some.
    fn damage_offset(&self) -> i32 {
        match self.what {
            What::Screen { .. } => self.area.y.into(),
            What::Window { .. } => 0,
        }
    }

    fn set_mapped(&mut self, window: Window, mapped: bool) {
        if let What::Window { id, is_mapped, .. } = &mut self.what
            && *id == window
        {
            *is_mapped = mapped;
            // What was kept of it is another picture's now.
            self.moved = true;
        }
    }

    fn touch(&mut self, rows: Range<usize>) {
        if self.dirty.is_empty() {
            self.dirty = rows;
        } else {
            self.dirty = self.dirty.start.min(rows.start)..self.dirty.end.max(rows.end);
        }
    }

    // --- where it is ---------------------------------------------------------------------------------

    /// Looks where it is and how large, and reads all of it next time.
    fn place(&mut self) -> Result<(), Trouble> {
        let area = match &self.what {
            What::Screen { all: true, .. } => self.whole().map_err(failed)?,
            What::Screen { monitor, .. } => self.monitor(monitor.as_deref())?,
            What::Window { .. } => self.place_window().map_err(failed)?,
        };
        let (width, height) = (side(area.width), side(area.height));
        let (part, size) = best_size(width, height).map_err(|error| {
            let all = matches!(self.what, What::Screen { all: true, .. });
            Trouble::new(SourceTrouble::ScreenSize { all, error })
        })?;
        let bytes = usize::from(area.width) * usize::from(area.height) * PIXEL_BYTES;
        if self.area != area || self.pixels.len() != bytes {
            tracing::debug!(?area, "what is shown has another place or size");
        }
        self.area = area;
        self.part = part;
        self.pixels.clear();
        self.pixels.resize(bytes, 0);
        self.picture.resize(size);
        self.dirty = 0..usize::from(area.height);
        self.moved = false;
        self.share(bytes).map_err(failed)
    }

    fn whole(&self) -> Answer<Area> {
        let all = self.connection.get_geometry(self.root)?.reply()?;
        Ok(Area {
            x: 0,
            y: 0,
            width: all.width,
            height: all.height,
        })
    }

    fn monitor(&self, wanted: Option<&str>) -> Result<Area, Trouble> {
        let monitors = self.monitors().map_err(failed)?;
        let found = match wanted {
            Some(name) => monitors.iter().find(|(of, ..)| of == name),
            None => monitors
                .iter()
                .find(|(_, primary, _)| *primary)
                .or(monitors.first()),
        };
        if let Some((.., area)) = found {
            return Ok(*area);
        }
        match wanted {
            None => self.whole().map_err(failed),
            Some(name) => {
                let names: Vec<String> =
                    monitors.iter().map(|(name, ..)| printable(name)).collect();
                Err(Trouble::new(SourceTrouble::ScreenUnknown {
                    screen: printable(name),
                    there: names,
                }))
            }
        }
    }

    /// Name, whether it is the primary one, and where.
    fn monitors(&self) -> Answer<Vec<(String, bool, Area)>> {
        if !self.extensions.randr {
            return Ok(Vec::new());
        }
        let all = self.whole()?;
        let reply = self
            .connection
            .randr_get_monitors(self.root, true)?
            .reply()?;
        let mut monitors = Vec::new();
        for monitor in reply.monitors {
            let name = self.connection.get_atom_name(monitor.name)?.reply()?.name;
            // Within what there is: the two are not told at once.
            let x = monitor
                .x
                .clamp(0, i16::try_from(all.width).unwrap_or(i16::MAX));
            let y = monitor
                .y
                .clamp(0, i16::try_from(all.height).unwrap_or(i16::MAX));
            let area = Area {
                x,
                y,
                width: monitor
                    .width
                    .min(all.width.saturating_sub(x.unsigned_abs())),
                height: monitor
                    .height
                    .min(all.height.saturating_sub(y.unsigned_abs())),
            };
            let name = String::from_utf8_lossy(&name).into_owned();
            monitors.push((name, monitor.primary, area));
        }
        Ok(monitors)
    }

    fn place_window(&mut self) -> Answer<Area> {
        let What::Window {
            id,
            pixmap,
            is_mapped,
            ..
        } = &mut self.what
        else {
            return self.whole();
        };
        if let Some(old) = pixmap.take() {
            self.connection.free_pixmap(old)?;
        }
        if self.extensions.composite && *is_mapped {
            let new = self.connection.generate_id()?;
            let named = self.connection.composite_name_window_pixmap(*id, new)?;
            match named.check() {
                Ok(()) => *pixmap = Some(new),
                Err(ReplyError::ConnectionError(error)) => return Err(error.into()),
                Err(ReplyError::X11Error(error)) => {
                    tracing::debug!(?error, "only what is not covered is seen of the window");
                }
            }
        }
        let geometry = self.connection.get_geometry(*id)?.reply()?;
        // The pixmap has its border, which nobody wants to see.
        let border = if pixmap.is_some() {
            i16::try_from(geometry.border_width).unwrap_or(0)
        } else {
            0
        };
        Ok(Area {
            x: border,
            y: border,
            width: geometry.width,
            height: geometry.height,
        })
    }

    /// Has at least so much memory in common with the server, if that can be.
    fn share(&mut self, bytes: usize) -> Answer<()> {
        if self
            .shared
            .as_ref()
            .is_some_and(|shared| shared.bytes >= bytes)
        {
            return Ok(());
        }
        if let Some(old) = self.shared.take() {
            self.connection.shm_detach(old.segment)?;
        }
        if !self.extensions.shm {
            return Ok(());
        }
        let made = memfd_create("ahoy-screen", MemfdFlags::CLOEXEC)
            .and_then(|fd| ftruncate(&fd, bytes as u64).map(|()| fd))
            .map(File::from)
            .map_err(std::io::Error::from)
            .and_then(|file| Ok((OwnedFd::from(file.try_clone()?), file)));
        let (theirs, file) = match made {
            Ok(made) => made,
            Err(error) => {
                tracing::debug!(%error, "no memory to share with the display");
                return Ok(());
            }
        };
        let segment = self.connection.generate_id()?;
        // A display that is not on this machine takes no descriptors.
        let attached = self
            .connection
            .shm_attach_fd(segment, theirs, false)
            .map_err(ReplyError::from)
            .and_then(|cookie| cookie.check());
        match attached {
            Ok(()) => {
                self.shared = Some(Shared {
                    segment,
                    file,
                    bytes,
                });
            }
            Err(error) => {
                tracing::debug!(%error, "the display shares no memory");
                self.extensions.shm = false;
            }
        }
        Ok(())
    }

    // --- pixels --------------------------------------------------------------------------------------

    /// Reads these rows.
    fn fetch(&mut self, rows: Range<usize>) -> Answer<()> {
        let drawable = match self.what {
            What::Screen { .. } => self.root,
            What::Window { id, pixmap, .. } => pixmap.unwrap_or(id),
        };
        let stride = self.stride();
        let first = i16::try_from(rows.start).unwrap_or(i16::MAX);
        let count = u16::try_from(rows.len()).unwrap_or(u16::MAX);
        let (x, y) = (self.area.x, self.area.y.saturating_add(first));
        let to = if self.damage.is_some() {
            &mut self.pixels
        } else {
            &mut self.scratch
        };
        let to = to
            .get_mut(rows.start * stride..rows.end * stride)
            .unwrap_or_default();
        match &self.shared {
            Some(shared) => {
                self.connection
                    .shm_get_image(
                        drawable,
                        x,
                        y,
                        self.area.width,
                        count,
                        ALL_PLANES,
                        ImageFormat::Z_PIXMAP.into(),
                        shared.segment,
                        0,
                    )?
                    .reply()?;
                shared
                    .file
                    .read_exact_at(to, 0)
                    .map_err(ConnectionError::IoError)?;
            }
            None => {
                let image = self
                    .connection
                    .get_image(
                        ImageFormat::Z_PIXMAP,
                        drawable,
                        x,
                        y,
                        self.area.width,
                        count,
                        ALL_PLANES,
                    )?
                    .reply()?;
                let got = image.data.len().min(to.len());
                if let (Some(to), Some(from)) = (to.get_mut(..got), image.data.get(..got)) {
                    to.copy_from_slice(from);
                }
            }
        }
        Ok(())
    }

    fn stride(&self) -> usize {
        usize::from(self.area.width) * PIXEL_BYTES
    }

    /// The rows of which something is new, once they are read.
    fn update(&mut self) -> Answer<Range<usize>> {
        let height = usize::from(self.area.height);
        if let Some(damage) = self.damage {
            let dirty = self.dirty.start.min(height)..self.dirty.end.min(height);
            self.dirty = 0..0;
            if dirty.is_empty() {
                return Ok(dirty);
            }
            // First: what changes from here on is told again.
            self.connection
                .damage_subtract(damage, x11rb::NONE, x11rb::NONE)?;
            self.fetch(dirty.clone())?;
            return Ok(dirty);
        }
        let is_new = !self.dirty.is_empty();
        self.dirty = 0..0;
        self.scratch.resize(self.pixels.len(), 0);
        self.fetch(0..height)?;
        let stride = self.stride();
        let rows = self
            .pixels
            .chunks_exact(stride)
            .zip(self.scratch.chunks_exact(stride));
        let mut changed = rows
            .enumerate()
            .filter(|(_, (old, new))| old != new)
            .map(|(row, _)| row);
        let dirty = match changed.next() {
            _any if is_new => 0..height,
            None => 0..0,
            Some(first) => first..changed.next_back().unwrap_or(first) + 1,
        };
        std::mem::swap(&mut self.pixels, &mut self.scratch);
        Ok(dirty)
    }

    /// The pointer as it is now, if it is to be seen.
    fn find_pointer(&self) -> Answer<Option<Pointer>> {
        if !self.options.pointer || !self.extensions.xfixes {
            return Ok(None);
        }
        let image = self.connection.xfixes_get_cursor_image()?;
        let place = self.connection.query_pointer(self.window())?;
        let (image, place) = (image.reply()?, place.reply()?);
        let (x, y) = match self.what {
            What::Screen { .. } => (place.root_x - self.area.x, place.root_y - self.area.y),
            What::Window { .. } => (place.win_x, place.win_y),
        };
        Ok(place.same_screen.then(|| Pointer {
            x: i32::from(x) - i32::from(image.xhot),
            y: i32::from(y) - i32::from(image.yhot),
            width: image.width.into(),
            height: image.height.into(),
            pixels: image.cursor_image,
        }))
    }

    /// What happened, now that pixels were refused.
    fn explain(&mut self, error: ReplyOrIdError) -> Result<Grabbed, Trouble> {
        self.refused += 1;
        if matches!(error, ReplyOrIdError::ConnectionError(_)) || self.refused >= MAX_REFUSED {
            return Err(failed(error));
        }
        // It may have become smaller since we were told its size.
        self.moved = true;
        let What::Window { id, .. } = self.what else {
            return Ok(Grabbed::NotYet);
        };
        let state = self.connection.get_window_attributes(id);
        match state.map(x11rb::cookie::Cookie::reply) {
            Err(error) | Ok(Err(ReplyError::ConnectionError(error))) => Err(display_lost(&error)),
            Ok(Err(ReplyError::X11Error(_))) => Err(self.closed()),
            Ok(Ok(state)) => {
                self.set_mapped(id, state.map_state == MapState::VIEWABLE);
                Ok(Grabbed::NotYet)
            }
        }
    }

    fn closed(&self) -> Trouble {
        let What::Window {
            title, by_number, ..
        } = &self.what
        else {
            return display_lost(&"its root window was destroyed");
        };
        let retry = if *by_number {
            Retry::Never
        } else {
            Retry::Reopen
        };
        Trouble::new(SourceTrouble::WindowClosed {
            window: title.clone(),
            comes_back: !by_number,
        })
        .and(retry)
    }

    fn hidden(&self) -> Trouble {
        let window = match &self.what {
            What::Window { title, .. } => title.clone(),
            What::Screen { .. } => String::new(),
        };
        Trouble::new(SourceTrouble::WindowHidden { window }).and(Retry::Wait)
    }

    fn look(&mut self) -> Result<Grabbed, Trouble> {
        self.take_events().map_err(|error| display_lost(&error))?;
        if self.is_gone {
            return Err(self.closed());
        }
        if self.is_locked {
            return Err(Trouble::new(SourceTrouble::Locked).and(Retry::Wait));
        }
        if let What::Window {
            is_mapped: false, ..
        } = self.what
        {
            return Err(self.hidden());
        }
        if self.moved {
            self.place()?;
        }
        let pointer = self.find_pointer().map_err(failed)?;
        let dirty = match self.update() {
            Ok(dirty) => dirty,
            Err(error) => return self.explain(error),
        };
        self.refused = 0;
        let height = usize::from(self.area.height);
        let mut rows = vec![dirty];
        if pointer != self.pointer {
            let both = [&self.pointer, &pointer].map(|pointer| {
                pointer
                    .as_ref()
                    .map_or(0..0, |pointer| pointer.rows(height))
            });
            rows.extend(both);
            self.pointer = pointer;
        }
        rows.retain(|rows| !rows.is_empty());
        if rows.is_empty() {
            return Ok(Grabbed::Unchanged);
        }
        let stride = self.stride();
        let pixels = Pixels {
            bytes: &self.pixels,
            stride,
            part: self.part,
        };
        for rows in rows {
            convert_rows(pixels, rows, &mut self.picture, |first, rows| {
                self.pointer
                    .as_ref()
                    .is_some_and(|pointer| pointer.draw(first, rows, stride))
            });
        }
        self.judge_black();
        Ok(Grabbed::Picture)
    }

    /// A screen that X11 does not know is black.
    fn judge_black(&mut self) {
        let is_screen = matches!(self.what, What::Screen { .. });
        let is_black = is_screen && self.extensions.wayland && is_black(&self.pixels);
        if is_black && !self.is_black {
            self.remark = Some(SourceNews {
                kind: SourceNewsKind::Black,
                sentence: BLACK_SENTENCE.into(),
                trouble: None,
            });
        }
        self.is_black = is_black;
    }
}

impl LiveDevice for X11 {
    fn grab(&mut self, frame: &mut Frame) -> Result<Grabbed, Trouble> {
        let grabbed = self.look()?;
        // Also where nothing changed: what is in `frame` is not ours to know.
        let is_new = frame.size() != self.picture.size();
        if grabbed == Grabbed::Picture || is_new {
            frame.resize(self.picture.size());
            for plane in Plane::ALL {
                let (width, _) = frame.size().of(plane);
                frame.copy_rows(plane, self.picture.plane(plane), width);
            }
        }
        Ok(grabbed)
    }

    fn remark(&mut self) -> Option<SourceNews> {
        self.remark.take()
    }
}
