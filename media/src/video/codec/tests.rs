#![expect(clippy::unwrap_used, reason = "a test may panic")]

use proptest::prelude::*;

use super::*;
use crate::video::{
    av1::{Av1Decoder, Av1Encoder},
    h264::{H264Decoder, H264Encoder},
    pattern::{self, TestPattern},
    quality::psnr_db,
};

const CODECS: [VideoCodec; 2] = [VideoCodec::Av1, VideoCodec::H264];

fn config() -> VideoConfig {
    VideoConfig {
        size: Size::new(320, 180).unwrap(),
        fps: 30,
        bitrate: Bitrate::kbps(400),
        content: Content::Motion,
        temporal_layers: 1,
        threads: 1,
        effort: 1,
    }
}

fn encoder(codec: VideoCodec, config: VideoConfig) -> Box<dyn VideoEncoder> {
    match codec {
        VideoCodec::Av1 => Box::new(Av1Encoder::new(config).unwrap()),
        VideoCodec::H264 => Box::new(H264Encoder::new(config).unwrap()),
    }
}

fn decoder(codec: VideoCodec) -> Box<dyn VideoDecoder> {
    match codec {
        VideoCodec::Av1 => Box::new(Av1Decoder::new(1).unwrap()),
        VideoCodec::H264 => Box::new(H264Decoder::new().unwrap()),
    }
}

/// Pictures of the test pattern at the rate of `fps`, from the first one on.
fn pictures(size: Size, fps: u32) -> impl Iterator<Item = Frame> {
    let mut pattern = TestPattern::new(size);
    (0..).map(move |n: u32| pattern.next_frame(Duration::from_secs(n.into()) / fps))
}

/// What was encoded, with the picture that it was made of.
fn encode(
    encoder: &mut dyn VideoEncoder,
    pictures: impl IntoIterator<Item = Frame>,
) -> Vec<(Frame, EncodedFrame)> {
    let encode = |picture: Frame| {
        let encoded = encoder.encode(&picture, false).unwrap()?;
        assert_eq!(encoded.taken, picture.taken);
        Some((picture, encoded))
    };
    pictures.into_iter().filter_map(encode).collect()
}

fn kbps(encoded: &[(Frame, EncodedFrame)], seconds: f64) -> f64 {
    let bytes: usize = encoded.iter().map(|(_, frame)| frame.bytes.len()).sum();
    bytes as f64 * 8.0 / 1000.0 / seconds
}

#[test]
fn pictures_come_out_as_they_went_in_at_the_bitrate() {
    for codec in CODECS {
        let config = config();
        let mut encoder = encoder(codec, config);
        let encoded = encode(&mut *encoder, pictures(config.size, 30).take(120));
        assert!(encoded.len() > 110, "{codec:?}: {} of 120", encoded.len());
        assert!(encoded[0].1.is_key);
        assert!(!encoded[1..].iter().any(|(_, frame)| frame.is_key));
        let kbps = kbps(&encoded, 4.0);
        assert!(
            (200.0..520.0).contains(&kbps),
            "{codec:?}: {kbps:.0} kbit/s"
        );
        let mut decoder = decoder(codec);
        let mut shown = Frame::black(config.size, Duration::ZERO);
        for (number, (picture, frame)) in encoded.iter().enumerate() {
            assert!(
                decoder.decode(&frame.bytes, &mut shown).unwrap(),
                "{codec:?}"
            );
            assert_eq!(
                pattern::read(&shown),
                pattern::read(picture),
                "{codec:?} {number}"
            );
            let psnr = psnr_db(picture, &shown).unwrap();
            assert!(psnr > 27.0, "{codec:?} {number}: {psnr:.1} dB");
        }
    }
}

#[test]
fn another_bitrate_is_kept_within_half_a_second() {
    for codec in CODECS {
        let mut config = config();
        let mut pictures = pictures(config.size, 30);
        let mut encoder = encoder(codec, config);
        let before = kbps(&encode(&mut *encoder, pictures.by_ref().take(60)), 2.0);
        config.bitrate = Bitrate::kbps(100);
        encoder.configure(config).unwrap();
        encode(&mut *encoder, pictures.by_ref().take(15));
        let after = encode(&mut *encoder, pictures.by_ref().take(60));
        assert!(!after.iter().any(|(_, frame)| frame.is_key), "{codec:?}");
        let after = kbps(&after, 2.0);
        assert!(
            after < 140.0 && before > 180.0,
            "{codec:?}: {before:.0} -> {after:.0}"
        );
    }
}

/// A drop makes a rung begin with little, and what comes back is many times that.
#[test]
fn an_encoder_that_began_with_little_gets_much_and_little_again_without_a_key_frame() {
    for codec in CODECS {
        let mut config = VideoConfig {
            bitrate: Bitrate::kbps(30),
            ..config()
        };
        let mut pictures = pictures(config.size, 30);
        let mut encoder = encoder(codec, config);
        let first = encode(&mut *encoder, pictures.by_ref().take(30));
        assert!(first[0].1.is_key, "{codec:?}");
        for rate in [31, 60, 61, 300, 2000, 900, 30, 5000, 400, 30] {
            config.bitrate = Bitrate::kbps(rate);
            encoder.configure(config).unwrap();
            let some = encode(&mut *encoder, pictures.by_ref().take(4));
            assert!(!some.iter().any(|(_, frame)| frame.is_key), "{codec:?}");
        }
        let little = kbps(&encode(&mut *encoder, pictures.by_ref().take(60)), 2.0);
        config.bitrate = Bitrate::kbps(400);
        encoder.configure(config).unwrap();
        encode(&mut *encoder, pictures.by_ref().take(15));
        let much = kbps(&encode(&mut *encoder, pictures.by_ref().take(60)), 2.0);
        assert!(
            much > 150.0 && little < 60.0,
            "{codec:?}: {little:.0} -> {much:.0}"
        );
    }
}

#[test]
fn a_key_frame_that_was_asked_for_starts_a_decoder_in_the_middle() {
    for codec in CODECS {
        let config = config();
        let mut pictures = pictures(config.size, 30);
        let mut encoder = encoder(codec, config);
        encode(&mut *encoder, pictures.by_ref().take(10));
        let picture = pictures.next().unwrap();
        let key = encoder.encode(&picture, true).unwrap().unwrap();
        assert!(key.is_key, "{codec:?}");
        let mut decoder = decoder(codec);
        let mut shown = Frame::black(config.size, Duration::ZERO);
        assert!(decoder.decode(&key.bytes, &mut shown).unwrap());
        assert_eq!(pattern::read(&shown), Some(10), "{codec:?}");
        for (picture, frame) in encode(&mut *encoder, pictures.take(5)) {
            assert!(decoder.decode(&frame.bytes, &mut shown).unwrap());
            assert_eq!(pattern::read(&shown), pattern::read(&picture), "{codec:?}");
        }
    }
}

#[test]
fn another_size_begins_with_a_key_frame_that_every_decoder_follows() {
    for codec in CODECS {
        let mut config = config();
        let mut encoder = encoder(codec, config);
        let mut decoder = decoder(codec);
        let mut shown = Frame::black(config.size, Duration::ZERO);
        for (width, height) in [(320, 180), (640, 360), (160, 90)] {
            config.size = Size::new(width, height).unwrap();
            encoder.configure(config).unwrap();
            let encoded = encode(&mut *encoder, pictures(config.size, 30).take(5));
            assert!(encoded[0].1.is_key, "{codec:?}");
            for (picture, frame) in encoded {
                assert!(decoder.decode(&frame.bytes, &mut shown).unwrap());
                assert_eq!(shown.size(), config.size);
                assert_eq!(pattern::read(&shown), pattern::read(&picture), "{codec:?}");
            }
        }
        let other = Frame::black(Size::new(64, 64).unwrap(), Duration::ZERO);
        assert!(encoder.encode(&other, false).is_err(), "{codec:?}");
    }
}

/// What a decoder that is given these pictures shows after each of them; `None` where it refuses.
fn shown<'a>(
    encoded: impl IntoIterator<Item = &'a EncodedFrame>,
) -> Vec<(Duration, Option<Frame>)> {
    let mut decoder = decoder(VideoCodec::Av1);
    let mut shown = Frame::black(config().size, Duration::ZERO);
    encoded
        .into_iter()
        .map(|encoded| {
            let decoded = decoder.decode(&encoded.bytes, &mut shown);
            (encoded.taken, (decoded == Ok(true)).then(|| shown.clone()))
        })
        .collect()
}

#[test]
fn more_or_less_trouble_takes_no_key_frame() {
    let mut encoder = encoder(VideoCodec::Av1, config());
    let mut decoder = decoder(VideoCodec::Av1);
    let mut shown = Frame::black(config().size, Duration::ZERO);
    for (n, picture) in pictures(config().size, 30).take(40).enumerate() {
        let effort = u8::try_from(n / 10).unwrap() % 3;
        let with = VideoConfig { effort, ..config() };
        encoder.configure(with).unwrap();
        let encoded = encoder.encode(&picture, false).unwrap().unwrap();
        assert_eq!(encoded.is_key, n == 0, "picture {n}");
        assert_eq!(decoder.decode(&encoded.bytes, &mut shown), Ok(true));
        let psnr = psnr_db(&picture, &shown).unwrap();
        assert!(psnr > 33.0, "picture {n}: {psnr:.1} dB");
    }
    assert_eq!(encoder.config().effort, 0);
}

/// With the most effort: at less, libaom now and then takes a square of 8 pixels of the number from somewhere else in a
/// picture of the base, four pictures after the one that it refers to, whichever layers are decoded.
fn layered(layers: u8) -> Vec<(Frame, EncodedFrame)> {
    let config = VideoConfig {
        temporal_layers: layers,
        effort: 3,
        ..config()
    };
    let mut encoder = encoder(VideoCodec::Av1, config);
    encode(&mut *encoder, pictures(config.size, 30).take(60))
}

#[test]
fn layers_above_the_base_can_be_left_out() {
    for layers in [2, 3] {
        let encoded = layered(layers);
        let whole = shown(encoded.iter().map(|(_, frame)| frame));
        for highest in 0..layers {
            let kept: Vec<_> = encoded
                .iter()
                .filter(|(_, frame)| frame.temporal_layer <= highest)
                .collect();
            let part = shown(kept.iter().map(|(_, frame)| frame));
            for ((picture, _), (taken, shown)) in kept.iter().zip(&part) {
                let same = whole.iter().find(|(when, _)| when == taken).unwrap();
                assert_eq!(
                    &same.1, shown,
                    "{taken:?} up to layer {highest} of {layers}"
                );
                let shown = shown.as_ref().unwrap();
                assert_eq!(pattern::read(shown), pattern::read(picture));
                let psnr = psnr_db(picture, shown).unwrap();
                assert!(
                    psnr > 35.0,
                    "{psnr:.1} dB up to layer {highest} of {layers}"
                );
            }
            let expected = encoded.len() >> (layers - 1 - highest);
            assert!(
                kept.len().abs_diff(expected) <= 2,
                "{} of {} kept",
                kept.len(),
                encoded.len()
            );
        }
    }
}

#[test]
fn each_picture_tells_what_it_needs() {
    let needs: Vec<_> = layered(3).iter().map(|(_, frame)| frame.needs).collect();
    assert_eq!(
        needs[..9],
        [
            [0, 0],
            [1, 0],
            [2, 0],
            [1, 3],
            [4, 0],
            [1, 0],
            [2, 0],
            [1, 3],
            [4, 0]
        ]
    );
    for codec in CODECS {
        let mut encoder = encoder(codec, config());
        let encoded = encode(&mut *encoder, pictures(config().size, 30).take(5));
        let needs: Vec<_> = encoded.iter().map(|(_, frame)| frame.needs).collect();
        assert_eq!(needs, [[0, 0], [1, 0], [1, 0], [1, 0], [1, 0]], "{codec:?}");
    }
}

/// The middle layer of three is kept by the encoder and used, or it would be of no help to the layer above it.
#[test]
fn the_third_layer_misses_the_second() {
    let encoded = layered(3);
    let whole = shown(encoded.iter().map(|(_, frame)| frame));
    let part = shown(
        encoded
            .iter()
            .map(|(_, frame)| frame)
            .filter(|frame| frame.temporal_layer != 1),
    );
    let differ = part
        .iter()
        .filter(|(taken, shown)| {
            whole
                .iter()
                .any(|(when, whole)| when == taken && whole != shown)
        })
        .count();
    assert!(differ >= 10, "{differ} pictures");
}

/// The canary of the test above: without layers, a picture that is left out is missed.
#[test]
fn without_layers_a_picture_that_was_left_out_is_missed() {
    let config = config();
    let mut encoder = encoder(VideoCodec::Av1, config);
    let encoded = encode(&mut *encoder, pictures(config.size, 30).take(30));
    let mut decoder = decoder(VideoCodec::Av1);
    let mut shown = Frame::black(config.size, Duration::ZERO);
    let worst = encoded
        .iter()
        .enumerate()
        .filter(|(n, _)| *n == 0 || n % 2 == 1)
        .map(
            |(_, (picture, frame))| match decoder.decode(&frame.bytes, &mut shown) {
                Ok(true) => psnr_db(picture, &shown).unwrap(),
                Ok(false) | Err(_) => 0.0,
            },
        )
        .fold(f64::INFINITY, f64::min);
    assert!(worst < 27.0, "{worst:.1} dB");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn garbage_and_damage_are_refused_or_shown_and_never_panic(
        garbage in prop::collection::vec(any::<u8>(), 0..400),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        for codec in CODECS {
            let config = VideoConfig { size: Size::new(64, 48).unwrap(), ..config() };
            let mut encoder = encoder(codec, config);
            let mut decoder = decoder(codec);
            let mut shown = Frame::black(config.size, Duration::ZERO);
            let _outcome = decoder.decode(&garbage, &mut shown);
            for (_, frame) in encode(&mut *encoder, pictures(config.size, 30).take(3)) {
                let mut bytes = frame.bytes;
                for (place, value) in &damage {
                    *place.get_mut(&mut bytes) = *value;
                }
                let _outcome = decoder.decode(&bytes, &mut shown);
            }
        }
    }
}
