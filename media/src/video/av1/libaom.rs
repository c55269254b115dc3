//! libaom itself, behind functions that cannot be called wrongly. All unsafe code for AV1 is here.

#![expect(unsafe_code, reason = "a C library is called")]

use std::{
    ffi::{CStr, c_int, c_uint, c_void},
    mem::MaybeUninit,
    ptr,
};

use libaom_sys as sys;

use crate::video::frame::{Frame, Plane, Size};

/// What libaom answered instead of doing as told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Refused(String);

/// A codec state, at an address that stays: libaom keeps pointers into it.
struct Context(Box<sys::aom_codec_ctx_t>);

// SAFETY: the state is plain memory and threads of libaom's own that only this value points to.
unsafe impl Send for Context {}

impl Context {
    /// All zeros, which is how libaom wants it before it is set up.
    fn empty() -> Self {
        // SAFETY: the structure consists of pointers and numbers, for which zeros are valid.
        Self(Box::new(unsafe { MaybeUninit::zeroed().assume_init() }))
    }

    fn checked(&mut self, code: sys::aom_codec_err_t) -> Result<(), Refused> {
        if code == sys::AOM_CODEC_OK {
            return Ok(());
        }
        // SAFETY: the context is alive; both return null or a string that lives at least as long as it.
        let texts = unsafe {
            [
                sys::aom_codec_err_to_string(code),
                sys::aom_codec_error_detail(&raw const *self.0),
            ]
        };
        let said = texts.map(|text| {
            if text.is_null() {
                return String::new();
            }
            // SAFETY: not null, and a C string as said above.
            unsafe { CStr::from_ptr(text) }
                .to_string_lossy()
                .into_owned()
        });
        Err(Refused(said.join(" ").trim().to_owned()))
    }

    fn control(&mut self, id: c_uint, value: c_int) -> Result<(), Refused> {
        // SAFETY: the context is alive; each control passed here takes exactly one `int`.
        let code = unsafe { sys::aom_codec_control(&raw mut *self.0, id.cast_signed(), value) };
        self.checked(code)
    }

    /// With a structure that libaom copies.
    fn control_with<T>(&mut self, id: c_uint, value: &mut T) -> Result<(), Refused> {
        // SAFETY: the context is alive; each control passed here takes a pointer to a `T`, which outlives the call.
        let code = unsafe {
            sys::aom_codec_control(&raw mut *self.0, id.cast_signed(), ptr::from_mut(value))
        };
        self.checked(code)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: the context was set up, or is all zeros, which libaom refuses without touching it.
        unsafe { sys::aom_codec_destroy(&raw mut *self.0) };
    }
}

/// Numbers of the encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) size: Size,
    pub(super) threads: u32,
    pub(super) kbps: u32,
    /// How many milliseconds at the bitrate a picture may come late.
    pub(super) buffer_millis: u32,
    pub(super) quantizers: (u32, u32),
    /// Below this fill of the buffer, in percent, pictures are left out; 0 leaves out none.
    pub(super) drop_below_percent: u32,
}

/// How a picture of a layer refers to others and is kept: the slot of each reference, and the slots that it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct References {
    pub(super) temporal_layer: u8,
    /// Slots that are referred to, 0..8; the first stands for all that are not named.
    pub(super) from: &'static [u8],
    /// Slots that are replaced by this picture.
    pub(super) into: &'static [u8],
}

/// Shares of the bitrate in percent that the layers up to each one take together, and how many pictures are left when
/// those above it are dropped: one of so many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layers {
    pub(super) count: u8,
    pub(super) percent: [u32; 3],
    pub(super) one_of: [i32; 3],
}

/// A picture that came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) bytes: Vec<u8>,
    pub(super) is_key: bool,
}

pub(super) struct Encoder {
    context: Context,
    config: sys::aom_codec_enc_cfg_t,
    is_set_up: bool,
}

// SAFETY: the configuration holds one pointer, to statistics of a first pass, which stays null.
unsafe impl Send for Encoder {}

impl Encoder {
    pub(super) fn new(settings: Settings) -> Result<Self, Refused> {
        let mut config = MaybeUninit::zeroed();
        // SAFETY: libaom's own interface; `config` is memory of the right size, which the call fills.
        let (code, interface) = unsafe {
            let interface = sys::aom_codec_av1_cx();
            let usage = sys::AOM_USAGE_REALTIME;
            (
                sys::aom_codec_enc_config_default(interface, config.as_mut_ptr(), usage),
                interface,
            )
        };
        let mut context = Context::empty();
        context.checked(code)?;
        // SAFETY: filled above; all of it are numbers, arrays of numbers, and a pointer that may be null.
        let config: sys::aom_codec_enc_cfg_t = unsafe { config.assume_init() };
        let mut this = Self {
            context,
            config,
            is_set_up: false,
        };
        this.apply(settings);
        // SAFETY: the context is empty and stays where it is, the configuration outlives the call, and the version is
        // that of the bindings.
        let code = unsafe {
            sys::aom_codec_enc_init_ver(
                &raw mut *this.context.0,
                interface,
                &raw const this.config,
                0,
                sys::AOM_ENCODER_ABI_VERSION.cast_signed(),
            )
        };
        this.context.checked(code)?;
        this.is_set_up = true;
        Ok(this)
    }

    fn apply(&mut self, settings: Settings) {
        let config = &mut self.config;
        config.g_usage = sys::AOM_USAGE_REALTIME;
        config.g_w = settings.size.width();
        config.g_h = settings.size.height();
        config.g_threads = settings.threads;
        config.g_timebase.num = 1;
        config.g_timebase.den = 90_000;
        config.g_pass = sys::AOM_RC_ONE_PASS;
        config.g_lag_in_frames = 0;
        config.g_error_resilient = 0;
        config.kf_mode = sys::AOM_KF_DISABLED;
        config.rc_end_usage = sys::AOM_CBR;
        config.rc_target_bitrate = settings.kbps;
        config.rc_dropframe_thresh = settings.drop_below_percent;
        (config.rc_min_quantizer, config.rc_max_quantizer) = settings.quantizers;
        config.rc_undershoot_pct = 50;
        config.rc_overshoot_pct = 50;
        config.rc_buf_sz = settings.buffer_millis;
        config.rc_buf_initial_sz = settings.buffer_millis * 6 / 10;
        config.rc_buf_optimal_sz = settings.buffer_millis * 6 / 10;
    }

    /// Changes bitrate, threads and the like; the size only downwards from that at the beginning.
    pub(super) fn change(&mut self, settings: Settings) -> Result<(), Refused> {
        self.apply(settings);
        // SAFETY: the context is set up, and the configuration outlives the call.
        let code = unsafe {
            sys::aom_codec_enc_config_set(&raw mut *self.context.0, &raw const self.config)
        };
        self.context.checked(code)
    }

    /// Sets one of libaom's controls that take a number.
    pub(super) fn set(&mut self, id: c_uint, value: c_int) -> Result<(), Refused> {
        self.context.control(id, value)
    }

    /// Divides the bitrate among layers in time.
    pub(super) fn set_layers(&mut self, layers: Layers) -> Result<(), Refused> {
        // SAFETY: the structure consists of numbers, for which zeros are valid.
        let mut params: sys::aom_svc_params_t = unsafe { MaybeUninit::zeroed().assume_init() };
        params.number_spatial_layers = 1;
        params.number_temporal_layers = c_int::from(layers.count);
        params.scaling_factor_num[0] = 1;
        params.scaling_factor_den[0] = 1;
        let kbps = self.config.rc_target_bitrate;
        let shares = layers.percent.iter().zip(layers.one_of);
        for (n, (percent, one_of)) in shares.enumerate().take(usize::from(layers.count)) {
            params.max_quantizers[n] = self.config.rc_max_quantizer.cast_signed();
            params.min_quantizers[n] = self.config.rc_min_quantizer.cast_signed();
            params.layer_target_bitrate[n] = (kbps * percent / 100).cast_signed();
            params.framerate_factor[n] = one_of;
        }
        self.context
            .control_with(sys::AV1E_SET_SVC_PARAMS, &mut params)
    }

    /// Says what the next picture refers to.
    pub(super) fn set_references(&mut self, references: References) -> Result<(), Refused> {
        let mut layer = sys::aom_svc_layer_id_t {
            spatial_layer_id: 0,
            temporal_layer_id: c_int::from(references.temporal_layer),
        };
        self.context
            .control_with(sys::AV1E_SET_SVC_LAYER_ID, &mut layer)?;
        let mut config = sys::aom_svc_ref_frame_config_t {
            reference: [0; 7],
            ref_idx: [0; 7],
            refresh: [0; 8],
        };
        let first = references.from.first().copied().unwrap_or(0);
        config.ref_idx = [c_int::from(first); 7];
        // LAST, then GOLDEN and ALTREF as they come: the order in which libaom counts its seven is 1, 2, 3, 4, 7.
        for (name, slot) in [0usize, 3, 6].into_iter().zip(references.from) {
            config.reference[name] = 1;
            config.ref_idx[name] = c_int::from(*slot);
        }
        // libaom replaces only slots that one of the seven stands for, also if that one is not referred to: LAST2, LAST3,
        // BWDREF and ALTREF2 are free.
        for (name, slot) in [1usize, 2, 4, 5].into_iter().zip(references.into) {
            config.ref_idx[name] = c_int::from(*slot);
        }
        for slot in references.into {
            if let Some(refresh) = config.refresh.get_mut(usize::from(*slot)) {
                *refresh = 1;
            }
        }
        self.context
            .control_with(sys::AV1E_SET_SVC_REF_FRAME_CONFIG, &mut config)
    }

    /// Encodes a picture of the size that was set, shown for `duration` units of 1/90000 s.
    pub(super) fn encode(
        &mut self,
        frame: &Frame,
        at: i64,
        duration: u32,
        key: bool,
    ) -> Result<Option<Packet>, Refused> {
        if (frame.size().width(), frame.size().height()) != (self.config.g_w, self.config.g_h) {
            return Err(Refused(String::from("the picture has another size")));
        }
        // SAFETY: an all-zero image is what libaom wraps; the pointers and strides set below are those of planes of
        // the size that is told, which outlive the call, and libaom only reads an image that it encodes.
        let code = unsafe {
            let mut image: sys::aom_image_t = MaybeUninit::zeroed().assume_init();
            let planes = Plane::ALL.map(|plane| frame.plane(plane).as_ptr().cast_mut());
            let (width, height) = (frame.size().width(), frame.size().height());
            let wrapped = sys::aom_img_wrap(
                &raw mut image,
                sys::AOM_IMG_FMT_I420,
                width,
                height,
                1,
                planes[0],
            );
            if wrapped.is_null() {
                return Err(Refused(String::from("the picture cannot be wrapped")));
            }
            image.planes = planes;
            let colour = (width / 2).cast_signed();
            image.stride = [width.cast_signed(), colour, colour];
            sys::aom_codec_encode(
                &raw mut *self.context.0,
                &raw const image,
                at,
                duration.into(),
                if key {
                    sys::AOM_EFLAG_FORCE_KF.into()
                } else {
                    0
                },
            )
        };
        self.context.checked(code)?;
        let mut packet = None;
        let mut position: sys::aom_codec_iter_t = ptr::null();
        loop {
            // SAFETY: the context is alive, `position` began as null; what comes back is null or valid until the next
            // call with this context. Of the union, the member that `kind` names is read.
            let (bytes, flags) = unsafe {
                let next = sys::aom_codec_get_cx_data(&raw mut *self.context.0, &raw mut position);
                let Some(next) = next.as_ref() else { break };
                if next.kind != sys::AOM_CODEC_CX_FRAME_PKT {
                    continue;
                }
                let frame = next.data.frame;
                if frame.buf.is_null() || frame.sz == 0 {
                    continue;
                }
                let bytes = std::slice::from_raw_parts(frame.buf.cast::<u8>(), frame.sz);
                (bytes, frame.flags)
            };
            let packet = packet.get_or_insert(Packet {
                bytes: Vec::new(),
                is_key: false,
            });
            packet.bytes.extend_from_slice(bytes);
            packet.is_key |= flags & sys::AOM_FRAME_IS_KEY != 0;
        }
        Ok(packet)
    }
}

pub(super) struct Decoder(Context);

impl Decoder {
    pub(super) fn new(threads: u32) -> Result<Self, Refused> {
        let config = sys::aom_codec_dec_cfg_t {
            threads,
            w: 0,
            h: 0,
            allow_lowbitdepth: 1,
        };
        let mut context = Context::empty();
        // SAFETY: the context is empty and stays where it is, the configuration outlives the call, and the version is
        // that of the bindings.
        let code = unsafe {
            sys::aom_codec_dec_init_ver(
                &raw mut *context.0,
                sys::aom_codec_av1_dx(),
                &raw const config,
                0,
                sys::AOM_DECODER_ABI_VERSION.cast_signed(),
            )
        };
        context.checked(code)?;
        Ok(Self(context))
    }

    /// Decodes one temporal unit, and copies the last picture in it to `frame`. `false` if there is none.
    pub(super) fn decode(&mut self, bytes: &[u8], frame: &mut Frame) -> Result<bool, Refused> {
        let context = &raw mut *self.0.0;
        // SAFETY: the context is alive; libaom reads as many bytes as the length says.
        let code = unsafe {
            sys::aom_codec_decode(
                context,
                bytes.as_ptr(),
                bytes.len(),
                ptr::null_mut::<c_void>(),
            )
        };
        let decoded = self.0.checked(code);
        let mut got = false;
        let mut position: sys::aom_codec_iter_t = ptr::null();
        loop {
            // SAFETY: the context is alive, `position` began as null; the image is null or valid until the next call
            // with this context.
            let image = unsafe { sys::aom_codec_get_frame(context, &raw mut position).as_ref() };
            let Some(image) = image else { break };
            if decoded.is_err() {
                continue;
            }
            got |= copy(image, frame)?;
        }
        decoded.map(|()| got)
    }
}

/// Only what is ours to show: 4:2:0 of 8 bits, of a size that is possible.
fn copy(image: &sys::aom_image_t, frame: &mut Frame) -> Result<bool, Refused> {
    if image.fmt != sys::AOM_IMG_FMT_I420 || image.bit_depth != 8 || image.monochrome != 0 {
        return Err(Refused(String::from("a kind of picture that is not shown")));
    }
    let size =
        Size::rounded_down(image.d_w, image.d_h).map_err(|error| Refused(error.to_string()))?;
    frame.resize(size);
    for ((plane, samples), stride) in Plane::ALL.into_iter().zip(image.planes).zip(image.stride) {
        let (width, height) = size.of(plane);
        let stride = usize::try_from(stride).unwrap_or(0);
        if samples.is_null() || stride < width || height == 0 {
            return Err(Refused(String::from("a plane is missing")));
        }
        // SAFETY: libaom's plane has at least `height` rows, `stride` samples apart, of which each has `width`.
        let rows = unsafe { std::slice::from_raw_parts(samples, stride * (height - 1) + width) };
        frame.copy_rows(plane, rows, stride);
    }
    Ok(true)
}
