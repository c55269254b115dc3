//! A private X server, windows on it that show test pictures, and nobody's real screen.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        mpsc::{RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use ahoy_media::video::{
    frame::{Frame, Plane, Size},
    pattern::TestPattern,
};
use x11rb::{
    connection::Connection as _,
    protocol::{
        randr::{ConnectionExt as _, ModeInfo, Rotation, SetConfig},
        screensaver::ConnectionExt as _,
        xproto::{
            AtomEnum, ConfigureWindowAux, ConnectionExt as _, CreateGCAux, CreateWindowAux,
            Gcontext, ImageFormat, PropMode, ScreenSaver, Window as WindowId, WindowClass,
        },
    },
    rust_connection::RustConnection,
    wrapper::ConnectionExt as _,
};

use crate::process::has_tool;

/// Around windows that are not as large as the screen, in pixels.
const BORDER: u16 = 3;

/// Whether there is a server to start.
#[must_use]
pub fn is_installed() -> bool {
    has_tool("Xvfb")
}

/// An X server that ends with its handle.
#[derive(Debug)]
pub struct Display {
    server: Child,
    name: String,
    size: (u16, u16),
}

impl Display {
    /// Starts one with a screen of this size, and waits until it answers.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(width: u16, height: u16) -> Self {
        Self::start_as(None, width, height)
    }

    /// The same, by a name that was another's before.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start_as(name: Option<&str>, width: u16, height: u16) -> Self {
        let mut command = Command::new("Xvfb");
        command.args(name);
        let mut server = command
            .args(["-displayfd", "1", "-nolisten", "tcp", "-noreset"])
            .args(["-screen", "0", &format!("{width}x{height}x24")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("Xvfb is installed");
        let mut number = String::new();
        let out = server.stdout.take().expect("it is piped");
        BufReader::new(out)
            .read_line(&mut number)
            .expect("Xvfb tells its number");
        assert!(!number.is_empty(), "Xvfb ended at once");
        Self {
            server,
            name: format!(":{}", number.trim()),
            size: (width, height),
        }
    }

    /// What `DISPLAY` is to be.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A connection to it.
    ///
    /// # Panics
    /// When it is gone.
    #[must_use]
    pub fn connect(&self) -> RustConnection {
        let (connection, _screen) =
            RustConnection::connect(Some(&self.name)).expect("the display answers");
        connection
    }

    /// Puts the pointer there.
    ///
    /// # Panics
    /// When the display is gone.
    pub fn move_pointer(&self, x: i16, y: i16) {
        let connection = self.connect();
        let root = connection.setup().roots[0].root;
        connection
            .warp_pointer(x11rb::NONE, root, 0, 0, 0, 0, x, y)
            .expect("the display answers");
        connection.sync().expect("the display answers");
    }

    /// Gives its only monitor a mode of this size, and the screen that size.
    ///
    /// # Panics
    /// When it cannot be that large.
    pub fn set_mode(&self, width: u16, height: u16) {
        let connection = self.connect();
        let root = connection.setup().roots[0].root;
        let resources = connection
            .randr_get_screen_resources(root)
            .expect("the display answers")
            .reply()
            .expect("the display has monitors");
        let known = resources
            .modes
            .iter()
            .find(|mode| (mode.width, mode.height) == (width, height));
        let mode = match known {
            Some(mode) => mode.id,
            None => {
                let name = format!("{width}x{height}");
                let info = ModeInfo {
                    width,
                    height,
                    name_len: u16::try_from(name.len()).expect("a short name"),
                    ..resources.modes[0]
                };
                let created = connection
                    .randr_create_mode(root, info, name.as_bytes())
                    .expect("the display answers")
                    .reply()
                    .expect("the mode is possible");
                connection
                    .randr_add_output_mode(resources.outputs[0], created.mode)
                    .expect("the display answers")
                    .check()
                    .expect("the mode is possible");
                created.mode
            }
        };
        let resize = || {
            connection
                .randr_set_screen_size(root, width, height, 300, 200)
                .expect("the display answers")
                .check()
        };
        // First or last, as it becomes larger or smaller.
        let is_larger = resize().is_ok();
        let answer = connection
            .randr_set_crtc_config(
                resources.crtcs[0],
                x11rb::CURRENT_TIME,
                resources.config_timestamp,
                0,
                0,
                mode,
                Rotation::ROTATE0,
                &resources.outputs[..1],
            )
            .expect("the display answers")
            .reply()
            .expect("the mode is possible");
        assert_eq!(answer.status, SetConfig::SUCCESS);
        if !is_larger {
            resize().expect("the size is possible");
        }
    }

    /// Stops it as it is, or lets it go on.
    ///
    /// # Panics
    /// When the system cannot.
    pub fn stop(&self, stopped: bool) {
        let signal = if stopped { "-STOP" } else { "-CONT" };
        let sent = Command::new("kill")
            .args([signal, &self.server.id().to_string()])
            .status()
            .expect("every Unix has kill");
        assert!(sent.success());
    }

    /// Locks it, or wakes it up.
    ///
    /// # Panics
    /// When the display is gone.
    pub fn lock(&self, locked: bool) {
        let connection = self.connect();
        let mode = if locked {
            ScreenSaver::ACTIVE
        } else {
            ScreenSaver::RESET
        };
        connection
            .force_screen_saver(mode)
            .expect("the display answers");
        connection.sync().expect("the display answers");
        let root = connection.setup().roots[0].root;
        let info = connection
            .screensaver_query_info(root)
            .expect("the display answers")
            .reply()
            .expect("the display has a screen saver");
        assert_eq!(info.state == 1, locked);
    }

    /// Opens a window with a border that shows the first test picture.
    #[must_use]
    pub fn window(&self, title: &str, x: i16, y: i16, width: u16, height: u16) -> Painter {
        Painter::open(self, title, (x, y), (width, height), BORDER)
    }

    /// One that covers all of it.
    #[must_use]
    pub fn full_window(&self, title: &str) -> Painter {
        Painter::open(self, title, (0, 0), self.size, 0)
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        // It may have ended already.
        self.server.kill().unwrap_or(());
        self.server.wait().map(drop).unwrap_or(());
    }
}

/// Pixels as X11 has them: blue, green, red, nothing.
#[must_use]
pub fn to_pixels(frame: &Frame) -> Vec<u8> {
    let (width, _) = frame.size().of(Plane::Y);
    let [y, u, v] = Plane::ALL.map(|plane| frame.plane(plane));
    let mut pixels = Vec::with_capacity(y.len() * 4);
    for (index, luma) in y.iter().enumerate() {
        let (x, row) = (index % width, index / width);
        let at = row / 2 * (width / 2) + x / 2;
        let luma = (f64::from(*luma) - 16.0) * 255.0 / 219.0;
        let blue = (f64::from(u[at]) - 128.0) * 255.0 / 224.0;
        let red = (f64::from(v[at]) - 128.0) * 255.0 / 224.0;
        let b = luma + 1.8556 * blue;
        let r = luma + 1.5748 * red;
        let g = (luma - 0.2126 * r - 0.0722 * b) / 0.7152;
        for value in [b, g, r] {
            pixels.push(value.round().clamp(0.0, 255.0) as u8);
        }
        pixels.push(0);
    }
    pixels
}

#[derive(Debug)]
struct Canvas {
    connection: RustConnection,
    window: WindowId,
    gc: Gcontext,
}

impl Canvas {
    fn paint(&self, frame: &Frame) {
        let size = frame.size();
        let side = |side: u32| u16::try_from(side).expect("windows are small");
        self.connection
            .put_image(
                ImageFormat::Z_PIXMAP,
                self.window,
                self.gc,
                side(size.width()),
                side(size.height()),
                0,
                0,
                0,
                24,
                &to_pixels(frame),
            )
            .expect("the display answers");
        self.sync();
    }

    fn sync(&self) {
        self.connection.sync().expect("the display answers");
    }
}

/// A window. It closes with its handle.
#[derive(Debug)]
pub struct Painter {
    canvas: Arc<Canvas>,
    size: Size,
    stop: Option<(SyncSender<()>, JoinHandle<()>)>,
}

impl Painter {
    fn open(
        display: &Display,
        title: &str,
        (x, y): (i16, i16),
        (width, height): (u16, u16),
        border: u16,
    ) -> Self {
        let connection = display.connect();
        let screen = &connection.setup().roots[0];
        let (root, visual, depth) = (screen.root, screen.root_visual, screen.root_depth);
        assert_eq!(depth, 24);
        let window = connection.generate_id().expect("there are numbers left");
        let gc = connection.generate_id().expect("there are numbers left");
        let attributes = CreateWindowAux::new()
            .override_redirect(1)
            .background_pixel(screen.white_pixel)
            .border_pixel(screen.white_pixel);
        let create = || -> Result<(), x11rb::errors::ConnectionError> {
            connection.create_window(
                depth,
                window,
                root,
                x,
                y,
                width,
                height,
                border,
                WindowClass::INPUT_OUTPUT,
                visual,
                &attributes,
            )?;
            connection.change_property8(
                PropMode::REPLACE,
                window,
                AtomEnum::WM_NAME,
                AtomEnum::STRING,
                title.as_bytes(),
            )?;
            connection.create_gc(gc, window, &CreateGCAux::new())?;
            connection.map_window(window)?;
            Ok(())
        };
        create().expect("the display answers");
        let size = Size::new(width.into(), height.into()).expect("a size for pictures");
        let painter = Self {
            canvas: Arc::new(Canvas {
                connection,
                window,
                gc,
            }),
            size,
            stop: None,
        };
        painter.paint(0);
        painter
    }

    /// As X11's tools print it.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{:#x}", self.canvas.window)
    }

    /// Shows the test picture of this number.
    pub fn paint(&self, number: u16) {
        let mut pattern = TestPattern::new(self.size);
        pattern.set_number(number);
        self.canvas.paint(&pattern.next_frame(Duration::ZERO));
    }

    /// Shows one test picture after the other from `number` on, so many per second, until it is closed.
    ///
    /// # Panics
    /// When the system has no thread left.
    pub fn play(&mut self, number: u16, fps: u32) {
        let canvas = Arc::clone(&self.canvas);
        let mut pattern = TestPattern::new(self.size);
        pattern.set_number(number);
        let (stop, stopped) = sync_channel::<()>(1);
        let thread = std::thread::Builder::new()
            .name("painter".into())
            .spawn(move || {
                let interval = Duration::from_secs(1) / fps;
                while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                    canvas.paint(&pattern.next_frame(Duration::ZERO));
                }
            })
            .expect("the system has a thread left");
        self.stop = Some((stop, thread));
    }

    /// Gives it another size, and paints picture `number` in it.
    ///
    /// # Panics
    /// When the display is gone.
    pub fn resize(&mut self, width: u16, height: u16, number: u16) {
        let size = ConfigureWindowAux::new()
            .width(u32::from(width))
            .height(u32::from(height));
        self.canvas
            .connection
            .configure_window(self.canvas.window, &size)
            .expect("the display answers");
        self.size = Size::new(width.into(), height.into()).expect("a size for pictures");
        self.paint(number);
    }

    /// Minimises it, or opens it again.
    ///
    /// # Panics
    /// When the display is gone.
    pub fn show(&self, shown: bool) {
        let connection = &self.canvas.connection;
        if shown {
            connection.map_window(self.canvas.window)
        } else {
            connection.unmap_window(self.canvas.window)
        }
        .expect("the display answers");
        self.canvas.sync();
    }
}

impl Drop for Painter {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.stop.take() {
            drop(stop);
            thread.join().unwrap_or_default();
        }
        // The display may be gone before its windows.
        let connection = &self.canvas.connection;
        if connection.destroy_window(self.canvas.window).is_ok() {
            connection.sync().unwrap_or_default();
        }
    }
}
