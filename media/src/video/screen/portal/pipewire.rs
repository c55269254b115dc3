//! A stream of pictures from PipeWire, through the library that each desktop with Wayland has.
//!
//! It is opened while the program runs: so the program starts where there is none, and no header of it is needed to
//! build. What it calls back on a thread of its own copies one picture and leaves. All unsafe code of screens is here.

#![expect(unsafe_code, reason = "a C library is opened and called")]

use std::{
    ffi::{CStr, c_char, c_int, c_void},
    os::fd::{IntoRawFd as _, OwnedFd},
    ptr::{self, NonNull},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use libloading::Library;

use super::pod::{self, Format};

/// Its interface has been the same since 0.3.26 of 2021.
const LIBRARY: &str = "libpipewire-0.3.so.0";

const DIRECTION_INPUT: c_int = 0;
/// Connect by yourself, let memory be read, and do not go elsewhere when what is shown goes away.
const FLAGS: c_int = 1 | 1 << 2 | 1 << 7;

const STATE_ERROR: c_int = -1;
const STATE_UNCONNECTED: c_int = 0;
const STATE_STREAMING: c_int = 3;

const EVENTS_VERSION: u32 = 2;

/// Of a parameter, in bytes: formats take some two hundred.
const MAX_POD: usize = 64 * 1024;

/// The largest memory of a picture, in bytes: 8192 by 8192 pixels.
const MAX_PICTURE: usize = 8192 * 8192 * PIXEL_BYTES;

const PIXEL_BYTES: usize = 4;

const CHUNK_CORRUPTED: i32 = 1;

/// `struct spa_chunk`.
#[repr(C)]
struct Chunk {
    offset: u32,
    size: u32,
    stride: i32,
    flags: i32,
}

/// `struct spa_data`.
#[repr(C)]
struct Data {
    kind: u32,
    flags: u32,
    fd: i64,
    map_offset: u32,
    max_size: u32,
    data: *const u8,
    chunk: *const Chunk,
}

/// `struct spa_meta`.
#[repr(C)]
struct Meta {
    kind: u32,
    size: u32,
    data: *const u8,
}

/// `struct spa_meta_region`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Region {
    x: i32,
    y: i32,
    width: u32,
    height: u32,
}

/// `struct spa_buffer`.
#[repr(C)]
struct Buffer {
    meta_count: u32,
    data_count: u32,
    metas: *const Meta,
    datas: *const Data,
}

/// As much of `struct pw_buffer` as is looked at.
#[repr(C)]
struct StreamBuffer {
    buffer: *const Buffer,
}

/// `struct pw_stream_events`.
#[repr(C)]
struct Events {
    version: u32,
    destroy: Option<unsafe extern "C" fn(*mut c_void)>,
    state_changed: Option<unsafe extern "C" fn(*mut c_void, c_int, c_int, *const c_char)>,
    control_info: *const c_void,
    io_changed: *const c_void,
    param_changed: Option<unsafe extern "C" fn(*mut c_void, u32, *const u8)>,
    add_buffer: *const c_void,
    remove_buffer: *const c_void,
    process: Option<unsafe extern "C" fn(*mut c_void)>,
    drained: *const c_void,
    command: *const c_void,
    trigger_done: *const c_void,
}

// SAFETY: it holds addresses of functions, and nulls, which are the same on each thread.
unsafe impl Sync for Events {}

static EVENTS: Events = Events {
    version: EVENTS_VERSION,
    destroy: None,
    state_changed: Some(on_state),
    control_info: ptr::null(),
    io_changed: ptr::null(),
    param_changed: Some(on_param),
    add_buffer: ptr::null(),
    remove_buffer: ptr::null(),
    process: Some(on_process),
    drained: ptr::null(),
    command: ptr::null(),
    trigger_done: ptr::null(),
};

type Opaque = NonNull<c_void>;

macro_rules! functions {
    ($($name:ident: $kind:ty = $symbol:literal;)*) => {
        /// What is called of it.
        struct Api {
            $($name: $kind,)*
        }

        impl Api {
            fn load(library: &Library) -> Result<Self, libloading::Error> {
                // SAFETY: the types are those of its headers, which do not change within 0.3 and 1.
                unsafe {
                    Ok(Self { $($name: *library.get::<$kind>($symbol)?,)* })
                }
            }
        }
    };
}

functions! {
    init: unsafe extern "C" fn(*mut c_int, *mut c_void) = b"pw_init\0";
    loop_new: unsafe extern "C" fn(*const c_char, *const c_void) -> Option<Opaque> = b"pw_thread_loop_new\0";
    loop_inner: unsafe extern "C" fn(Opaque) -> Option<Opaque> = b"pw_thread_loop_get_loop\0";
    loop_start: unsafe extern "C" fn(Opaque) -> c_int = b"pw_thread_loop_start\0";
    loop_stop: unsafe extern "C" fn(Opaque) = b"pw_thread_loop_stop\0";
    loop_destroy: unsafe extern "C" fn(Opaque) = b"pw_thread_loop_destroy\0";
    context_new: unsafe extern "C" fn(Opaque, *mut c_void, usize) -> Option<Opaque> = b"pw_context_new\0";
    context_destroy: unsafe extern "C" fn(Opaque) = b"pw_context_destroy\0";
    connect_fd: unsafe extern "C" fn(Opaque, c_int, *mut c_void, usize) -> Option<Opaque> = b"pw_context_connect_fd\0";
    disconnect: unsafe extern "C" fn(Opaque) -> c_int = b"pw_core_disconnect\0";
    properties: unsafe extern "C" fn(*const c_char) -> *mut c_void = b"pw_properties_new_string\0";
    stream_new: unsafe extern "C" fn(Opaque, *const c_char, *mut c_void) -> Option<Opaque> = b"pw_stream_new\0";
    stream_destroy: unsafe extern "C" fn(Opaque) = b"pw_stream_destroy\0";
    add_listener: unsafe extern "C" fn(Opaque, *mut c_void, *const Events, *mut c_void) = b"pw_stream_add_listener\0";
    connect: unsafe extern "C" fn(Opaque, c_int, u32, c_int, *const *const u8, u32) -> c_int = b"pw_stream_connect\0";
    update_params: unsafe extern "C" fn(Opaque, *const *const u8, u32) -> c_int = b"pw_stream_update_params\0";
    dequeue: unsafe extern "C" fn(Opaque) -> Option<NonNull<StreamBuffer>> = b"pw_stream_dequeue_buffer\0";
    queue: unsafe extern "C" fn(Opaque, NonNull<StreamBuffer>) -> c_int = b"pw_stream_queue_buffer\0";
}

/// The library, once for the whole program, which never closes it.
fn api() -> Option<&'static Api> {
    static API: OnceLock<Option<Api>> = OnceLock::new();
    let api = API.get_or_init(|| {
        // SAFETY: what it does when it is opened it does in each program of the desktop.
        let library = unsafe { Library::new(LIBRARY) };
        let loaded = library.and_then(|library| {
            let api = Api::load(&library)?;
            std::mem::forget(library);
            Ok(api)
        });
        match loaded {
            Ok(api) => {
                // SAFETY: nulls are allowed, and it is called once.
                unsafe { (api.init)(ptr::null_mut(), ptr::null_mut()) };
                Some(api)
            }
            Err(error) => {
                tracing::debug!(%error, "no PipeWire");
                None
            }
        }
    });
    api.as_ref()
}

/// Whether there is a PipeWire to ask.
pub(super) fn is_there() -> bool {
    api().is_some()
}

/// What became of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    /// Nothing came yet.
    Starting,
    /// Pictures come when something changes.
    Streaming,
    /// It was ended on the other side, or failed.
    Over,
}

/// The newest picture.
#[derive(Debug)]
pub(super) struct Latest {
    pub(super) flow: Flow,
    pub(super) format: Option<Format>,
    /// The sides of what lies in `pixels`, row behind row of four bytes a pixel: what matters of the picture.
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) pixels: Vec<u8>,
    /// It was not looked at yet.
    pub(super) is_new: bool,
}

struct Shared {
    api: &'static Api,
    /// Where the library keeps the stream; set before anything is called back.
    stream: OnceLock<StreamHandle>,
    latest: Mutex<Latest>,
}

#[derive(Clone, Copy)]
struct StreamHandle(Opaque);

// SAFETY: the library's functions for it are called on its own thread alone while that runs, and on ours before and after.
unsafe impl Send for StreamHandle {}
// SAFETY: as above.
unsafe impl Sync for StreamHandle {}

impl Shared {
    fn latest(&self) -> MutexGuard<'_, Latest> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The room of a `struct spa_hook`, which nobody but the library looks into: six addresses.
type Hook = [usize; 6];

/// A stream that runs.
pub(super) struct Stream {
    shared: Arc<Shared>,
    the_loop: Opaque,
    context: Opaque,
    core: Option<Opaque>,
    /// Stays where it is, since the library links to it.
    hook: Box<Hook>,
}

// SAFETY: what it holds is touched by the library's thread until that is stopped, and by its owner only before and after.
unsafe impl Send for Stream {}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").finish_non_exhaustive()
    }
}

impl Stream {
    /// Shows what the node gives of that number, by a connection that may see it; at most `fps` pictures a second.
    /// Nothing where the library is missing or refuses.
    pub(super) fn open(remote: OwnedFd, node: u32, fps: u32) -> Option<Self> {
        let api = api()?;
        // SAFETY: a name that ends in a null, and no properties.
        let the_loop = unsafe { (api.loop_new)(c"ahoy-screen".as_ptr(), ptr::null()) }?;
        // SAFETY: the loop was just made.
        let context = unsafe { (api.loop_inner)(the_loop) }
            // SAFETY: so was this, and there are no properties.
            .and_then(|inner| unsafe { (api.context_new)(inner, ptr::null_mut(), 0) });
        let Some(context) = context else {
            // SAFETY: it never ran, and nothing else knows of it.
            unsafe { (api.loop_destroy)(the_loop) };
            return None;
        };
        let shared = Arc::new(Shared {
            api,
            stream: OnceLock::new(),
            latest: Mutex::new(Latest {
                flow: Flow::Starting,
                format: None,
                width: 0,
                height: 0,
                pixels: Vec::new(),
                is_new: false,
            }),
        });
        // From here on, dropping it takes down what there is.
        let mut this = Self {
            shared,
            the_loop,
            context,
            core: None,
            hook: Box::default(),
        };
        // SAFETY: the descriptor is the library's from here on, also when it fails.
        let core = unsafe { (api.connect_fd)(context, remote.into_raw_fd(), ptr::null_mut(), 0) }?;
        this.core = Some(core);
        let wanted = c"media.type=Video media.category=Capture media.role=Screen";
        // SAFETY: the text ends in a null; what comes of it, null or not, is the stream's.
        let stream = unsafe {
            let wanted = (api.properties)(wanted.as_ptr());
            (api.stream_new)(core, c"ahoy".as_ptr(), wanted)
        }?;
        this.shared.stream.set(StreamHandle(stream)).ok()?;
        let data = Arc::as_ptr(&this.shared).cast_mut().cast::<c_void>();
        let formats = pod::formats(fps);
        let wanted = [formats.as_ptr()];
        // SAFETY: the hook and what the callbacks are given live until the stream is destroyed, in `drop`; the
        // parameters are read before these calls return; no thread runs yet.
        let started = unsafe {
            (api.add_listener)(
                stream,
                (&raw mut *this.hook).cast(),
                &raw const EVENTS,
                data,
            );
            let connected = (api.connect)(stream, DIRECTION_INPUT, node, FLAGS, wanted.as_ptr(), 1);
            connected >= 0 && (api.loop_start)(the_loop) >= 0
        };
        started.then_some(this)
    }

    /// Lets somebody look at the newest picture.
    pub(super) fn look<T>(&self, look: impl FnOnce(&mut Latest) -> T) -> T {
        look(&mut self.shared.latest())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let api = self.shared.api;
        // SAFETY: the library's thread ends first and calls nothing back from then on; then all that was made goes, in the
        // reverse order. A loop that never ran may be stopped.
        unsafe {
            (api.loop_stop)(self.the_loop);
            if let Some(StreamHandle(stream)) = self.shared.stream.get() {
                (api.stream_destroy)(*stream);
            }
            if let Some(core) = self.core {
                (api.disconnect)(core);
            }
            (api.context_destroy)(self.context);
            (api.loop_destroy)(self.the_loop);
        }
    }
}

/// # Safety
/// `data` is what [`Stream::open`] gave with the callbacks, and the stream still there.
unsafe fn shared<'a>(data: *mut c_void) -> &'a Shared {
    // SAFETY: the stream holds an `Arc` of it until it has gone.
    unsafe { &*data.cast::<Shared>() }
}

unsafe extern "C" fn on_state(data: *mut c_void, _old: c_int, new: c_int, error: *const c_char) {
    // SAFETY: the library gives back what it was given.
    let shared = unsafe { shared(data) };
    if !error.is_null() {
        // SAFETY: a text that ends in a null, for the time of this call.
        let error = unsafe { CStr::from_ptr(error) };
        tracing::debug!(?error, "the stream of the screen");
    }
    let mut latest = shared.latest();
    match new {
        STATE_STREAMING => latest.flow = Flow::Streaming,
        STATE_ERROR | STATE_UNCONNECTED => latest.flow = Flow::Over,
        _ => {}
    }
}

unsafe extern "C" fn on_param(data: *mut c_void, id: u32, param: *const u8) {
    if id != pod::PARAM_FORMAT || param.is_null() {
        return;
    }
    // SAFETY: the library gives back what it was given.
    let shared = unsafe { shared(data) };
    // SAFETY: a parameter begins with its size, and is that long beyond eight bytes.
    let bytes = unsafe {
        let size = param.cast::<u32>().read() as usize;
        std::slice::from_raw_parts(param, 8 + size.min(MAX_POD))
    };
    let format = pod::read_format(bytes);
    tracing::debug!(?format, "the screen's pictures");
    {
        let mut latest = shared.latest();
        latest.format = format;
        if format.is_none() {
            latest.flow = Flow::Over;
            return;
        }
    }
    let wanted = [pod::buffers(), pod::metas()];
    let wanted: Vec<*const u8> = wanted.iter().map(|pod| pod.as_ptr()).collect();
    if let Some(StreamHandle(stream)) = shared.stream.get() {
        // SAFETY: we are on the library's thread, and it reads the parameters before it returns: `wanted` still has them.
        unsafe { (shared.api.update_params)(*stream, wanted.as_ptr(), wanted.len() as u32) };
    }
}

unsafe extern "C" fn on_process(data: *mut c_void) {
    // SAFETY: the library gives back what it was given.
    let shared = unsafe { shared(data) };
    let Some(StreamHandle(stream)) = shared.stream.get() else {
        return;
    };
    let mut newest = None;
    // SAFETY: we are on the library's thread; each buffer that was taken is given back once.
    unsafe {
        while let Some(buffer) = (shared.api.dequeue)(*stream) {
            if let Some(older) = newest.replace(buffer) {
                (shared.api.queue)(*stream, older);
            }
        }
    }
    let Some(buffer) = newest else {
        return;
    };
    // SAFETY: it is ours until it is given back.
    unsafe {
        take(&mut shared.latest(), buffer.as_ref());
        (shared.api.queue)(*stream, buffer);
    }
}

/// Copies what matters of a picture.
///
/// # Safety
/// The buffer is one that the library gave us, and that was not given back.
unsafe fn take(latest: &mut Latest, buffer: &StreamBuffer) {
    let Some(format) = latest.format else {
        return;
    };
    // SAFETY: the library's buffers have as many metas and datas as they say, and memory as far as it is mapped.
    let (bytes, chunk, crop) = unsafe {
        let Some(buffer) = buffer.buffer.as_ref() else {
            return;
        };
        if buffer.data_count == 0 || buffer.datas.is_null() {
            return;
        }
        let data = &*buffer.datas;
        let Some(chunk) = data.chunk.as_ref() else {
            return;
        };
        // Memory of a graphics card is not mapped, and was not asked for.
        if data.data.is_null() || data.max_size as usize > MAX_PICTURE {
            return;
        }
        let mut crop = None;
        for n in 0..(buffer.meta_count as usize).min(64) {
            let meta = &*buffer.metas.add(n);
            if meta.kind == pod::META_CROP
                && meta.size as usize >= size_of::<Region>()
                && !meta.data.is_null()
            {
                crop = Some(meta.data.cast::<Region>().read_unaligned());
            }
        }
        let bytes = std::slice::from_raw_parts(data.data, data.max_size as usize);
        (bytes, chunk, crop)
    };
    // A chunk of nothing tells that only the pointer moved.
    if chunk.size == 0 || chunk.flags & CHUNK_CORRUPTED != 0 {
        return;
    }
    let (whole_width, whole_height) = (format.width as usize, format.height as usize);
    let stride = match usize::try_from(chunk.stride) {
        Ok(stride) if stride >= whole_width * format.bytes => stride,
        _ => whole_width * format.bytes,
    };
    let (left, top, width, height) = cropped(crop, whole_width, whole_height);
    let from = chunk.offset as usize % bytes.len().max(1) + top * stride + left * format.bytes;
    latest.pixels.clear();
    for row in 0..height {
        let at = from + row * stride;
        let Some(row) = bytes.get(at..at + width * format.bytes) else {
            // Less memory than was promised.
            latest.pixels.clear();
            return;
        };
        if format.bytes == PIXEL_BYTES {
            latest.pixels.extend_from_slice(row);
        } else {
            for pixel in row.chunks_exact(format.bytes) {
                latest.pixels.extend_from_slice(pixel);
                latest.pixels.push(0);
            }
        }
    }
    (latest.width, latest.height) = (width, height);
    latest.is_new = true;
    latest.flow = Flow::Streaming;
}

/// What matters of a picture: left, top, width, height. All of it where the region makes no sense.
fn cropped(crop: Option<Region>, width: usize, height: usize) -> (usize, usize, usize, usize) {
    let whole = (0, 0, width, height);
    let Some(region) = crop else {
        return whole;
    };
    let (Ok(left), Ok(top)) = (usize::try_from(region.x), usize::try_from(region.y)) else {
        return whole;
    };
    let (wide, high) = (region.width as usize, region.height as usize);
    let fits = wide > 0 && high > 0 && left + wide <= width && top + high <= height;
    if fits { (left, top, wide, high) } else { whole }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn latest() -> Latest {
        Latest {
            flow: Flow::Starting,
            format: Some(Format {
                order: pod::Order::Bgr,
                bytes: PIXEL_BYTES,
                width: 4,
                height: 3,
            }),
            width: 0,
            height: 0,
            pixels: Vec::new(),
            is_new: false,
        }
    }

    /// Gives a picture of 4x3 whose bytes count upwards, in rows of 20 bytes.
    fn give(latest: &mut Latest, chunk: &Chunk, bytes: &[u8], region: Option<Region>) {
        let data = Data {
            kind: 2,
            flags: 1,
            fd: -1,
            map_offset: 0,
            max_size: bytes.len() as u32,
            data: bytes.as_ptr(),
            chunk,
        };
        let meta = region.as_ref().map(|region| Meta {
            kind: pod::META_CROP,
            size: 16,
            data: (&raw const *region).cast(),
        });
        let buffer = Buffer {
            meta_count: u32::from(meta.is_some()),
            data_count: 1,
            metas: meta.as_ref().map_or(ptr::null(), |meta| meta),
            datas: &raw const data,
        };
        let given = StreamBuffer {
            buffer: &raw const buffer,
        };
        // SAFETY: all of it lives until the call returns, and is as long as it says.
        unsafe { take(latest, &given) };
    }

    #[test]
    fn rows_with_gaps_and_parts_of_pictures_are_taken() {
        let bytes: Vec<u8> = (0..60).collect();
        let chunk = Chunk {
            offset: 0,
            size: 60,
            stride: 20,
            flags: 0,
        };
        let mut whole = latest();
        give(&mut whole, &chunk, &bytes, None);
        assert_eq!((whole.width, whole.height, whole.is_new), (4, 3, true));
        assert_eq!(whole.pixels[14..18], [14, 15, 20, 21]);

        let mut part = latest();
        let region = Region {
            x: 1,
            y: 1,
            width: 2,
            height: 2,
        };
        give(&mut part, &chunk, &bytes, Some(region));
        assert_eq!((part.width, part.height), (2, 2));
        assert_eq!(part.pixels[..8], [24, 25, 26, 27, 28, 29, 30, 31]);
        assert_eq!(part.pixels[8..], [44, 45, 46, 47, 48, 49, 50, 51]);

        let mut nonsense = latest();
        let region = Region { x: 3, ..region };
        give(&mut nonsense, &chunk, &bytes, Some(region));
        assert_eq!((nonsense.width, nonsense.height), (4, 3));
    }

    #[test]
    fn pixels_of_three_bytes_become_four() {
        let mut narrow = latest();
        if let Some(format) = &mut narrow.format {
            format.bytes = 3;
        }
        let bytes: Vec<u8> = (0..36).collect();
        let chunk = Chunk {
            offset: 0,
            size: 36,
            stride: 0,
            flags: 0,
        };
        give(&mut narrow, &chunk, &bytes, None);
        assert_eq!(narrow.pixels.len(), 48);
        assert_eq!(narrow.pixels[..9], [0, 1, 2, 0, 3, 4, 5, 0, 6]);
        assert_eq!(narrow.pixels[16..20], [12, 13, 14, 0]);
    }

    #[test]
    fn what_is_too_short_empty_or_broken_is_no_picture() {
        let bytes: Vec<u8> = (0..60).collect();
        let chunk = |size, flags, offset| Chunk {
            offset,
            size,
            stride: 20,
            flags,
        };
        let mut none = latest();
        give(&mut none, &chunk(60, 0, 0), &bytes[..50], None);
        give(&mut none, &chunk(0, 0, 0), &bytes, None);
        give(&mut none, &chunk(60, CHUNK_CORRUPTED, 0), &bytes, None);
        give(&mut none, &chunk(60, 0, 40), &bytes, None);
        assert!(!none.is_new && none.pixels.is_empty());
    }
}
