//! Recordings of calls, read by a reader that is not ours.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::{fs::File, path::Path};

use ahoy_media::{
    audio::opus::OpusDecoder,
    record::{FAR_GAIN, NEAR_GAIN, Side},
};
use matroska_demuxer::{Frame as Block, MatroskaFile, TrackType};

/// Samples of a frame of sound in a recording.
const FRAME_SAMPLES: usize = 960;

/// What is in a recording.
pub struct Recorded {
    file: MatroskaFile<File>,
    blocks: Vec<Block>,
}

impl std::fmt::Debug for Recorded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorded")
            .field("tracks", &self.file.tracks())
            .field("blocks", &self.blocks.len())
            .finish()
    }
}

impl Recorded {
    /// Reads a file, as far as it goes.
    ///
    /// # Panics
    /// When it is no Matroska file.
    #[must_use]
    pub fn read(path: &Path) -> Self {
        Self::try_read(path).expect("there is sound in it")
    }

    /// The same, where there may be nothing in it yet.
    ///
    /// # Panics
    /// When there is no file.
    #[must_use]
    pub fn try_read(path: &Path) -> Option<Self> {
        let mut file = MatroskaFile::open(File::open(path).unwrap()).ok()?;
        let mut blocks = Vec::new();
        let mut block = Block::default();
        while let Ok(true) = file.next_frame(&mut block) {
            blocks.push(block.clone());
        }
        Some(Self { file, blocks })
    }

    /// How long the file says it is, in seconds.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.file.info().duration().unwrap_or(0.0) / 1000.0
    }

    /// Names and codecs of the tracks of pictures.
    #[must_use]
    pub fn pictures_of(&self) -> Vec<(&str, &str)> {
        let tracks = self.file.tracks().iter();
        tracks
            .filter(|track| track.track_type() == TrackType::Video)
            .map(|track| (track.name().unwrap_or_default(), track.codec_id()))
            .collect()
    }

    /// What one side said, from the file's beginning on, 48 kHz; what the codec leaves of the difference of the channels.
    ///
    /// # Panics
    /// When the first track is no sound of ours.
    #[must_use]
    pub fn voice(&self, side: Side) -> Vec<f32> {
        let whole = NEAR_GAIN * NEAR_GAIN - FAR_GAIN * FAR_GAIN;
        let (near, far) = (NEAR_GAIN / whole, FAR_GAIN / whole);
        let apart = |[left, right]: [f32; 2]| match side {
            Side::Ours => near * left - far * right,
            Side::Theirs => near * right - far * left,
        };
        self.sound().into_iter().map(apart).collect()
    }

    /// Left and right.
    fn sound(&self) -> Vec<[f32; 2]> {
        let track = &self.file.tracks()[0];
        assert_eq!(track.codec_id(), "A_OPUS");
        let delay = track.codec_delay().unwrap() as f64 * 48_000.0 / 1e9;
        let mut decoder = OpusDecoder::new().unwrap();
        decoder.widen().unwrap();
        let mut out = Vec::new();
        for block in self.blocks.iter().filter(|block| block.track == 1) {
            let at = usize::try_from(block.timestamp).unwrap() * 48;
            assert!(out.len() <= at, "sound goes back to {at}");
            out.resize(at, [0.0; 2]);
            let mut frames = [0.0; 2 * FRAME_SAMPLES];
            assert_eq!(
                decoder.decode(&block.data, &mut frames),
                Ok(FRAME_SAMPLES),
                "at {} ms",
                block.timestamp
            );
            out.extend(frames.chunks_exact(2).map(|frame| [frame[0], frame[1]]));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "some hundred samples"
        )]
        out.split_off(delay.round() as usize)
    }

    /// The numbers in the pictures of the track of this name, and their times in seconds.
    ///
    /// # Panics
    /// When a picture cannot be decoded.
    #[cfg(feature = "video")]
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "nobody looks at when a picture came"
    )]
    pub fn numbers(&self, name: &str) -> Vec<(Option<u16>, f64)> {
        use std::time::{Duration, Instant};

        use ahoy_media::{
            time::RtpTimestamp,
            video::{
                codec::VideoCodec, frame_buffer::ReceivedFrame, pattern::read,
                recv::DecodableFrame, stage::DecodeStage,
            },
        };

        let mut tracks = self.file.tracks().iter();
        let Some(track) = tracks.find(|track| track.name() == Some(name)) else {
            return Vec::new();
        };
        let codec = match track.codec_id() {
            "V_AV1" => VideoCodec::Av1,
            "V_MPEG4/ISO/AVC" => VideoCodec::H264,
            other => panic!("{other}"),
        };
        let number = track.track_number().get();
        let mut stage = DecodeStage::new(1);
        let blocks = self.blocks.iter().filter(|block| block.track == number);
        blocks
            .map(|block| {
                let bytes = match codec {
                    VideoCodec::Av1 => block.data.clone(),
                    VideoCodec::H264 => annex_b(&block.data),
                };
                let frame = DecodableFrame {
                    codec,
                    frame: ReceivedFrame {
                        is_repaired: false,
                        is_still: false,
                        bytes,
                        is_key: block.is_keyframe.unwrap_or(false),
                        temporal_layer: 0,
                        timestamp: RtpTimestamp(0),
                        number: 0,
                        first_arrival: Instant::now(),
                    },
                };
                let picture = stage.decode(&frame, Duration::ZERO).unwrap().unwrap();
                (read(picture), block.timestamp as f64 / 1000.0)
            })
            .collect()
    }
}

/// NAL units with start codes, of such with lengths.
#[cfg(feature = "video")]
fn annex_b(mut block: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some((len, rest)) = block.split_first_chunk::<4>() {
        let (unit, rest) = rest.split_at(u32::from_be_bytes(*len) as usize);
        out.extend([0, 0, 0, 1]);
        out.extend(unit);
        block = rest;
    }
    out
}
