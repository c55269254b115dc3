//! What a person picks in the dialog of their own desktop: the way to show a screen or a window under Wayland.
//!
//! The portal (`org.freedesktop.portal.ScreenCast`) shows one dialog, and gives a stream of pictures of what was picked. It
//! also gives a token, by which the same is shown again without a dialog while the program runs: to whoever shares their
//! screen again, not to whoever wants to pick. It is not kept longer, so that the first call after a start shows nothing
//! that nobody picked.

mod pipewire;
mod pod;

use std::{
    env,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel},
    },
    task::{Context, Waker},
    thread,
    time::Duration,
};

use ashpd::desktop::{
    PersistMode, ResponseError, Session,
    screencast::{CursorMode, Screencast, SelectSourcesOptions, SourceType, StartCastOptions},
};

use futures_core::Stream as _;

use self::{
    pipewire::{Flow, Stream},
    pod::Order,
};
use super::{
    ScreenOptions, best_size,
    convert::{PIXEL_BYTES, Pixels, convert_rows},
};
use crate::video::{
    frame::Frame,
    live::{Grabbed, LiveDevice, Retry, Trouble},
    trouble::SourceTrouble,
};

/// A stream begins within this, once something was picked.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// How often is looked whether the desktop ended it.
const WATCH_INTERVAL: Duration = Duration::from_millis(250);

/// What was picked last, as the portal knows it again.
static TOKEN: Mutex<Option<String>> = Mutex::new(None);

/// Whether the desktop is one where a program cannot look at screens by itself.
pub(super) fn is_needed() -> bool {
    env::var_os("WAYLAND_DISPLAY").is_some_and(|name| !name.is_empty())
}

/// What the dialog led to.
struct Picked {
    stream: Stream,
    /// The desktop ended it.
    is_over: Arc<AtomicBool>,
    /// Ends what the desktop shows about it when it is dropped, and with it the thread that asked.
    _until: SyncSender<()>,
}

/// Something that is being picked, or was.
pub(super) struct Portal {
    answer: Option<Receiver<Result<Picked, Trouble>>>,
    picked: Option<Picked>,
    waited: u32,
    patience: u32,
    bytes: Vec<u8>,
    picture: Option<Frame>,
}

impl std::fmt::Debug for Portal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Portal")
            .field("picked", &self.picked.is_some())
            .finish_non_exhaustive()
    }
}

fn missing(error: &dyn std::fmt::Display) -> Trouble {
    tracing::debug!(%error, "no portal");
    Trouble::new(SourceTrouble::NoPortal).and(Retry::Never)
}

fn refused() -> Trouble {
    Trouble::new(SourceTrouble::NotPicked).and(Retry::Never)
}

fn ended() -> Trouble {
    Trouble::new(SourceTrouble::Ended).and(Retry::Never)
}

fn failed() -> Trouble {
    Trouble::new(SourceTrouble::PortalFormat).and(Retry::Never)
}

impl Portal {
    /// Has the desktop ask, on a thread of its own: a person takes their time. What was picked before is shown without
    /// asking, unless it is to be picked `anew`.
    pub(super) fn open(options: ScreenOptions, anew: bool) -> Result<Self, Trouble> {
        if !pipewire::is_there() {
            return Err(missing(&"no PipeWire"));
        }
        let (answers, answer) = sync_channel(1);
        let ask = move || {
            let (until, ends) = sync_channel(1);
            let is_over = Arc::new(AtomicBool::new(false));
            let told = Arc::clone(&is_over);
            match async_io::block_on(pick(options, anew)) {
                Ok((stream, session)) => {
                    let picked = Picked {
                        stream,
                        is_over,
                        _until: until,
                    };
                    // Nobody waits any more where the share was ended meanwhile.
                    if answers.send(Ok(picked)).is_ok() {
                        watch(&session, &ends, &told);
                    }
                    if let Err(error) = async_io::block_on(session.close()) {
                        tracing::debug!(%error, "the desktop had ended it before");
                    }
                }
                Err(trouble) => answers.send(Err(trouble)).unwrap_or(()),
            }
        };
        thread::Builder::new()
            .name("ahoy-portal".into())
            .spawn(ask)
            .map_err(|error| missing(&error))?;
        Ok(Self {
            answer: Some(answer),
            picked: None,
            waited: 0,
            patience: START_TIMEOUT.as_secs() as u32 * options.fps.clamp(1, 60),
            bytes: Vec::new(),
            picture: None,
        })
    }

    fn convert(&mut self, order: Order, width: usize, height: usize) -> Result<(), Trouble> {
        if order == Order::Rgb {
            for pixel in self.bytes.chunks_exact_mut(PIXEL_BYTES) {
                pixel.swap(0, 2);
            }
        }
        let side = |side: usize| u32::try_from(side).unwrap_or(u32::MAX);
        let (part, size) = best_size(side(width), side(height)).map_err(|_impossible| failed())?;
        let picture = self
            .picture
            .get_or_insert_with(|| Frame::black(size, Duration::ZERO));
        picture.resize(size);
        let pixels = Pixels {
            bytes: &self.bytes,
            stride: width * PIXEL_BYTES,
            part,
        };
        convert_rows(pixels, 0..height, picture, |_first, _rows| false);
        Ok(())
    }
}

impl LiveDevice for Portal {
    fn grab(&mut self, frame: &mut Frame) -> Result<Grabbed, Trouble> {
        if let Some(answer) = &self.answer {
            match answer.try_recv() {
                Ok(picked) => self.picked = Some(picked?),
                Err(TryRecvError::Empty) => return Ok(Grabbed::NotYet),
                Err(TryRecvError::Disconnected) => return Err(failed()),
            }
            self.answer = None;
        }
        let Some(picked) = &self.picked else {
            return Err(ended());
        };
        let bytes = &mut self.bytes;
        let (flow, order, sides) = picked.stream.look(|latest| {
            let sides = latest.is_new.then(|| {
                latest.is_new = false;
                // The library's thread writes over what we had before.
                std::mem::swap(&mut latest.pixels, bytes);
                (latest.width, latest.height)
            });
            (latest.flow, latest.format.map(|format| format.order), sides)
        });
        if flow == Flow::Over || picked.is_over.load(Ordering::Acquire) {
            self.picked = None;
            return Err(ended());
        }
        let Some(((width, height), order)) = sides.zip(order) else {
            if self.picture.is_some() {
                return Ok(Grabbed::Unchanged);
            }
            self.waited += 1;
            return if self.waited > self.patience {
                Err(failed())
            } else {
                Ok(Grabbed::NotYet)
            };
        };
        self.convert(order, width, height)?;
        if let Some(picture) = &self.picture {
            let taken = frame.taken;
            frame.assign(picture);
            frame.taken = taken;
        }
        Ok(Grabbed::Picture)
    }
}

/// Waits until nobody wants it any more, or the desktop ended it.
fn watch(session: &Session<Screencast>, ends: &Receiver<()>, is_over: &AtomicBool) {
    let closed = match async_io::block_on(session.receive_closed()) {
        Ok(closed) => closed,
        Err(error) => {
            tracing::debug!(%error, "an end by the desktop will not be heard of");
            // Nothing is ever sent: it ends with the other end.
            ends.recv().unwrap_or(());
            return;
        }
    };
    let mut closed = pin!(closed);
    let mut context = Context::from_waker(Waker::noop());
    while ends.recv_timeout(WATCH_INTERVAL) == Err(RecvTimeoutError::Timeout) {
        if closed.as_mut().poll_next(&mut context).is_ready() {
            is_over.store(true, Ordering::Release);
            return;
        }
    }
}

/// Shows the dialog, or what was picked before.
async fn pick(
    options: ScreenOptions,
    anew: bool,
) -> Result<(Stream, Session<Screencast>), Trouble> {
    let portal = Screencast::new().await.map_err(|error| missing(&error))?;
    let session = portal
        .create_session(Default::default())
        .await
        .map_err(|error| missing(&error))?;
    match ask(&portal, &session, options, anew).await {
        Ok(stream) => Ok((stream, session)),
        Err(trouble) => {
            if let Err(error) = session.close().await {
                tracing::debug!(%error, "the desktop had ended it before");
            }
            Err(trouble)
        }
    }
}

async fn ask(
    portal: &Screencast,
    session: &Session<Screencast>,
    options: ScreenOptions,
    anew: bool,
) -> Result<Stream, Trouble> {
    let failed_to = |error: ashpd::Error| {
        let is_no = matches!(
            error,
            ashpd::Error::Response(ResponseError::Cancelled | ResponseError::Other)
        );
        if is_no { refused() } else { missing(&error) }
    };
    let cursors = portal.available_cursor_modes().await.unwrap_or_default();
    let sources = portal
        .available_source_types()
        .await
        .unwrap_or(SourceType::Monitor.into());
    let before = TOKEN.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let before = before.filter(|_| !anew);
    let mut wanted = SelectSourcesOptions::default()
        .set_multiple(false)
        .set_sources(sources & (SourceType::Monitor | SourceType::Window))
        .set_restore_token(before.as_deref());
    // Version 4 knows it; older ones ask each time.
    if portal.version() >= 4 {
        wanted = wanted.set_persist_mode(PersistMode::Application);
    }
    if options.pointer && cursors.contains(CursorMode::Embedded) {
        wanted = wanted.set_cursor_mode(CursorMode::Embedded);
    }
    portal
        .select_sources(session, wanted)
        .await
        .and_then(|request| request.response())
        .map_err(failed_to)?;
    let streams = portal
        .start(session, None, StartCastOptions::default())
        .await
        .and_then(|request| request.response())
        .map_err(failed_to)?;
    *TOKEN.lock().unwrap_or_else(PoisonError::into_inner) =
        streams.restore_token().map(str::to_owned);
    let Some(stream) = streams.streams().first() else {
        return Err(refused());
    };
    let remote = portal
        .open_pipe_wire_remote(session, Default::default())
        .await
        .map_err(|error| missing(&error))?;
    Stream::open(remote, stream.pipe_wire_node_id(), options.fps).ok_or_else(failed)
}
