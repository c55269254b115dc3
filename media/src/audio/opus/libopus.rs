//! libopus itself, behind functions that cannot be called wrongly. All unsafe code of this crate is here.
//!
//! Own bindings of what is needed, since no safe crate has the decoder's complexity, which switches deep
//! concealment on, or deep redundancy (DRED). One libopus is linked, with both compiled in.

#![expect(unsafe_code, reason = "a C library is called")]
#![expect(
    clippy::needless_pass_by_ref_mut,
    reason = "what changes lies behind a pointer, and must not from two places at once"
)]

use std::{
    ffi::{CStr, c_int},
    ptr::{self, NonNull},
};

use opusic_sys as sys;

use crate::time::SAMPLE_RATE_HZ;

/// Samples per second, as libopus takes it.
const RATE: i32 = SAMPLE_RATE_HZ.cast_signed();

/// What libopus answered instead of doing as told: one of its error codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}", text(*.0))]
pub(super) struct Refused(c_int);

fn text(code: c_int) -> &'static str {
    // SAFETY: takes any number, and returns a string that is compiled in.
    let text = unsafe { CStr::from_ptr(sys::opus_strerror(code)) };
    text.to_str().unwrap_or("unknown error")
}

/// A count, or an error code.
fn checked(answer: c_int) -> Result<usize, Refused> {
    usize::try_from(answer).map_err(|_negative| Refused(answer))
}

/// libopus counts in `int`; nothing here is that long, and what is, it refuses.
fn len(slice_len: usize) -> c_int {
    c_int::try_from(slice_len).unwrap_or(0)
}

/// Frames in a packet at most: 120 ms of 2.5 ms (RFC 6716 section 3.2.5).
const MAX_FRAMES: usize = 48;

/// What a packet consists of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parts<'a> {
    /// How many frames.
    pub(super) frames: usize,
    /// The first of them.
    pub(super) first: &'a [u8],
    /// What lies behind the last.
    pub(super) padding: &'a [u8],
}

/// Takes a packet apart. As `opus::packet::parse` does, but without allocating.
pub(super) fn parts(packet: &[u8]) -> Result<Parts<'_>, Refused> {
    let (mut toc, mut sizes, mut start) = (0, [0; MAX_FRAMES], 0);
    // SAFETY: libopus reads as many bytes as it is told, writes at most 48 sizes, and no pointers to frames where
    // there is no place for them; `toc` and `start` outlive the call.
    let answer = unsafe {
        sys::opus_packet_parse(
            packet.as_ptr(),
            len(packet.len()),
            &raw mut toc,
            ptr::null_mut(),
            sizes.as_mut_ptr(),
            &raw mut start,
        )
    };
    let frames = checked(answer)?;
    let start = checked(start)?;
    let mut lens = sizes
        .iter()
        .take(frames)
        .map(|size| usize::try_from(*size).unwrap_or(0));
    let first = lens.next().unwrap_or(0);
    let sound = first + lens.sum::<usize>();
    let part = |from: usize, to: usize| packet.get(from..to);
    let invalid = Refused(sys::OPUS_INVALID_PACKET);
    Ok(Parts {
        frames,
        first: part(start, start + first).ok_or(invalid)?,
        padding: part(start + sound, packet.len()).ok_or(invalid)?,
    })
}

/// What [`Encoder::set`] changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Setting {
    /// Bits per second.
    Bitrate(i32),
    /// Whether packets differ in size.
    Variable(bool),
    /// 0..=10.
    Complexity(i32),
    /// Nothing above 8 kHz, or up to the end of hearing.
    Wideband(bool),
    /// In-band copies of the frame before.
    Fec(bool),
    /// Loss to be prepared for, 0..=100.
    LossPercent(i32),
    /// Send next to nothing in silence.
    Dtx(bool),
    /// Deep redundancy: how much of the past each packet carries at most, in units of 10 ms, 0..=104.
    Dred(i32),
    /// One channel although two go in, or as many as the bits are enough for.
    Mono(bool),
    /// What a frame holds depends on no frame before it.
    Alone(bool),
}

/// What goes into an encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// One channel of speech.
    Voice,
    /// Two channels of anything.
    Music,
}

/// An encoder of 48 kHz sound.
#[derive(Debug)]
pub(super) struct Encoder {
    state: NonNull<sys::OpusEncoder>,
    channels: usize,
}

// SAFETY: the state is plain memory that only this value points to; libopus keeps nothing per thread.
unsafe impl Send for Encoder {}

impl Drop for Encoder {
    fn drop(&mut self) {
        // SAFETY: made by `opus_encoder_create`, and not used after.
        unsafe { sys::opus_encoder_destroy(self.state.as_ptr()) };
    }
}

impl Encoder {
    pub(super) fn new(kind: Kind) -> Result<Self, Refused> {
        let (channels, application, signal) = match kind {
            Kind::Voice => (1, sys::OPUS_APPLICATION_VOIP, sys::OPUS_SIGNAL_VOICE),
            Kind::Music => (2, sys::OPUS_APPLICATION_AUDIO, sys::OPUS_SIGNAL_MUSIC),
        };
        let mut error = 0;
        // SAFETY: the arguments are constants that libopus allows; `error` outlives the call.
        let state =
            unsafe { sys::opus_encoder_create(RATE, len(channels), application, &raw mut error) };
        let state = NonNull::new(state).ok_or(Refused(error))?;
        let this = Self { state, channels };
        this.control(sys::OPUS_SET_SIGNAL_REQUEST, signal)?;
        Ok(this)
    }

    fn control(&self, request: c_int, value: c_int) -> Result<(), Refused> {
        // SAFETY: the state is alive, and each request passed here takes exactly one `int`.
        let answer = unsafe { sys::opus_encoder_ctl(self.state.as_ptr(), request, value) };
        checked(answer).map(drop)
    }

    pub(super) fn set(&mut self, setting: Setting) -> Result<(), Refused> {
        let (request, value) = match setting {
            Setting::Bitrate(bps) => (sys::OPUS_SET_BITRATE_REQUEST, bps),
            Setting::Variable(on) => (sys::OPUS_SET_VBR_REQUEST, c_int::from(on)),
            Setting::Complexity(value) => (sys::OPUS_SET_COMPLEXITY_REQUEST, value),
            Setting::Wideband(true) => (
                sys::OPUS_SET_MAX_BANDWIDTH_REQUEST,
                sys::OPUS_BANDWIDTH_WIDEBAND,
            ),
            Setting::Wideband(false) => (
                sys::OPUS_SET_MAX_BANDWIDTH_REQUEST,
                sys::OPUS_BANDWIDTH_FULLBAND,
            ),
            Setting::Fec(on) => (sys::OPUS_SET_INBAND_FEC_REQUEST, c_int::from(on)),
            Setting::LossPercent(percent) => (sys::OPUS_SET_PACKET_LOSS_PERC_REQUEST, percent),
            Setting::Dtx(on) => (sys::OPUS_SET_DTX_REQUEST, c_int::from(on)),
            Setting::Dred(tens) => (sys::OPUS_SET_DRED_DURATION_REQUEST, tens),
            Setting::Mono(true) => (sys::OPUS_SET_FORCE_CHANNELS_REQUEST, 1),
            Setting::Mono(false) => (sys::OPUS_SET_FORCE_CHANNELS_REQUEST, sys::OPUS_AUTO),
            Setting::Alone(on) => (sys::OPUS_SET_PREDICTION_DISABLED_REQUEST, c_int::from(on)),
        };
        self.control(request, value)
    }

    /// Forgets all sound.
    pub(super) fn reset(&mut self) -> Result<(), Refused> {
        // SAFETY: the state is alive; this request takes no argument.
        checked(unsafe { sys::opus_encoder_ctl(self.state.as_ptr(), sys::OPUS_RESET_STATE) })
            .map(drop)
    }

    /// What the encoder looks ahead, in samples.
    pub(super) fn lookahead(&mut self) -> Result<usize, Refused> {
        let mut samples: i32 = 0;
        // SAFETY: the state is alive; this request takes a pointer to an `opus_int32`, which outlives the call.
        let answer = unsafe {
            sys::opus_encoder_ctl(
                self.state.as_ptr(),
                sys::OPUS_GET_LOOKAHEAD_REQUEST,
                &raw mut samples,
            )
        };
        checked(answer)?;
        checked(samples)
    }

    /// Encodes one frame, whose channels are interleaved, to the front of `out`.
    pub(super) fn encode(&mut self, frame: &[f32], out: &mut [u8]) -> Result<usize, Refused> {
        // SAFETY: the state is alive; libopus reads as many samples of each of its channels and writes at most as many
        // bytes as the lengths say, and refuses lengths that are no frame.
        checked(unsafe {
            sys::opus_encode_float(
                self.state.as_ptr(),
                frame.as_ptr(),
                len(frame.len() / self.channels),
                out.as_mut_ptr(),
                len(out.len()),
            )
        })
    }
}

/// What a decoder is to make its sound from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source<'a> {
    /// A packet.
    Packet(&'a [u8]),
    /// The copy, in this packet, of the frame before it.
    CopyIn(&'a [u8]),
    /// Nothing: imagination.
    Nothing,
    /// Deep redundancy that came with a packet; the first sample to make lies so many before that packet's own.
    Past(&'a Dred, usize),
}

/// A decoder to 48 kHz, one channel or two.
#[derive(Debug)]
pub(super) struct Decoder {
    state: NonNull<sys::OpusDecoder>,
    channels: usize,
}

// SAFETY: as for the encoder.
unsafe impl Send for Decoder {}

impl Drop for Decoder {
    fn drop(&mut self) {
        // SAFETY: made by `opus_decoder_create`, and not used after.
        unsafe { sys::opus_decoder_destroy(self.state.as_ptr()) };
    }
}

impl Decoder {
    /// Of a complexity as for [`Self::set_complexity`].
    pub(super) fn new(is_stereo: bool, complexity: u8) -> Result<Self, Refused> {
        let channels = if is_stereo { 2 } else { 1 };
        let mut error = 0;
        // SAFETY: the arguments are numbers that libopus allows; `error` outlives the call.
        let state = unsafe { sys::opus_decoder_create(RATE, len(channels), &raw mut error) };
        let state = NonNull::new(state).ok_or(Refused(error))?;
        let mut this = Self { state, channels };
        this.set_complexity(complexity)?;
        Ok(this)
    }

    /// From a complexity of 5 on what is missing is invented by a neural network, from 6 (7) on a smaller
    /// (larger) one enhances speech at low bitrates. 0..=10.
    pub(super) fn set_complexity(&mut self, complexity: u8) -> Result<(), Refused> {
        // SAFETY: the state is alive, and this request takes one `int`.
        let answer = unsafe {
            sys::opus_decoder_ctl(
                self.state.as_ptr(),
                sys::OPUS_SET_COMPLEXITY_REQUEST,
                c_int::from(complexity.min(10)),
            )
        };
        checked(answer).map(drop)
    }

    /// How many samples of sound in `out` belong together.
    pub(super) fn channels(&self) -> usize {
        self.channels
    }

    /// Makes sound at the front of `out`, its channels interleaved, and returns how many samples of each; other than
    /// from a packet, all of `out`, which must then be a multiple of 2.5 ms.
    pub(super) fn decode(&mut self, from: Source<'_>, out: &mut [f32]) -> Result<usize, Refused> {
        let state = self.state.as_ptr();
        let (sound, samples) = (out.as_mut_ptr(), len(out.len() / self.channels));
        if let Source::Past(dred, before) = from {
            if !dred.is_ready {
                return Err(Refused(sys::OPUS_INVALID_STATE));
            }
            // SAFETY: both states are alive; libopus writes at most `samples` samples of each of its channels.
            return checked(unsafe {
                sys::opus_decoder_dred_decode_float(
                    state,
                    dred.state.as_ptr(),
                    len(before),
                    sound,
                    samples,
                )
            });
        }
        let (packet, copy) = match from {
            Source::Packet(bytes) => (bytes, 0),
            Source::CopyIn(bytes) => (bytes, 1),
            Source::Nothing | Source::Past(..) => (&[][..], 0),
        };
        let bytes = if packet.is_empty() {
            ptr::null()
        } else {
            packet.as_ptr()
        };
        // SAFETY: the state is alive; libopus reads `len` bytes, none from null, and writes at most `samples`
        // samples of each of its channels.
        checked(unsafe {
            sys::opus_decode_float(state, bytes, len(packet.len()), sound, samples, copy)
        })
    }

    /// Forgets all sound; the complexity stays.
    pub(super) fn reset(&mut self) -> Result<(), Refused> {
        // SAFETY: the state is alive; this request takes no argument.
        checked(unsafe { sys::opus_decoder_ctl(self.state.as_ptr(), sys::OPUS_RESET_STATE) })
            .map(drop)
    }
}

/// The deep redundancy of one packet.
#[derive(Debug)]
pub(super) struct Dred {
    parser: NonNull<sys::OpusDREDDecoder>,
    state: NonNull<sys::OpusDRED>,
    is_ready: bool,
}

// SAFETY: as for the encoder.
unsafe impl Send for Dred {}

impl Drop for Dred {
    fn drop(&mut self) {
        // SAFETY: made by the matching functions, and not used after.
        unsafe {
            sys::opus_dred_free(self.state.as_ptr());
            sys::opus_dred_decoder_destroy(self.parser.as_ptr());
        }
    }
}

impl Dred {
    pub(super) fn new() -> Result<Self, Refused> {
        let mut error = 0;
        // SAFETY: `error` outlives the call.
        let parser = unsafe { sys::opus_dred_decoder_create(&raw mut error) };
        let parser = NonNull::new(parser).ok_or(Refused(error))?;
        // SAFETY: `error` outlives the call.
        let state = unsafe { sys::opus_dred_alloc(&raw mut error) };
        let Some(state) = NonNull::new(state) else {
            // SAFETY: made above, and not used after.
            unsafe { sys::opus_dred_decoder_destroy(parser.as_ptr()) };
            return Err(Refused(error));
        };
        Ok(Self {
            parser,
            state,
            is_ready: false,
        })
    }

    /// Reads what `packet` carries of the `wanted` samples before its own, and returns how many samples back it
    /// reaches; 0 when it carries nothing.
    pub(super) fn parse(&mut self, packet: &[u8], wanted: usize) -> Result<usize, Refused> {
        self.is_ready = false;
        if packet.is_empty() {
            return Err(Refused(sys::OPUS_INVALID_PACKET));
        }
        let mut end = 0;
        // SAFETY: both states are alive, the packet is as long as told, `end` outlives the call.
        let reach = checked(unsafe {
            sys::opus_dred_parse(
                self.parser.as_ptr(),
                self.state.as_ptr(),
                packet.as_ptr(),
                len(packet.len()),
                len(wanted),
                RATE,
                &raw mut end,
                0,
            )
        })?;
        self.is_ready = reach > 0;
        Ok(reach)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libopus_has_the_networks_compiled_in() {
        // SAFETY: returns a string that is compiled in.
        let version = unsafe { CStr::from_ptr(sys::opus_get_version_string()) };
        assert_eq!(version.to_str(), Ok("libopus 1.6.1"));
        let mut encoder = Encoder::new(Kind::Voice).unwrap();
        assert!(encoder.set(Setting::Dred(100)).is_ok());
        assert!(Dred::new().is_ok());
        let refused = encoder.set(Setting::Dred(1000));
        assert_eq!(refused.unwrap_err().to_string(), "invalid argument");
    }

    #[test]
    fn a_packet_is_taken_apart() {
        // Two frames of three bytes, and two bytes of padding (RFC 6716 section 3.2.5).
        let packet = [0x4b, 0x42, 2, 1, 2, 3, 4, 5, 6, 0, 9];
        let parts = parts(&packet).unwrap();
        assert_eq!((parts.frames, parts.first), (2, &[1, 2, 3][..]));
        assert_eq!(parts.padding, [0, 9]);
        for broken in [&packet[..4], &[][..], &[0x4b, 0]] {
            assert!(super::parts(broken).is_err(), "{broken:?}");
        }
    }

    #[test]
    fn redundancy_that_was_never_read_makes_no_sound() {
        let dred = Dred::new().unwrap();
        let mut decoder = Decoder::new(false, 7).unwrap();
        let mut out = [0.0; 960];
        assert!(decoder.decode(Source::Past(&dred, 960), &mut out).is_err());
    }
}
