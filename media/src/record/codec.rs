//! How encoded pictures lie in a Matroska file, and what the file says of them beforehand.
//!
//! AV1 by AOM's "AV1 in Matroska": OBUs with sizes, no temporal delimiters. H.264 by ISO/IEC 14496-15: NAL units behind
//! their lengths. Parameter sets stay in the key frames too, since the size may change with each.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use crate::video::{
    codec::VideoCodec,
    packet::{av1, h264},
};

/// What a decoder is told before the first picture takes no more than this. Ours take less than 64 bytes.
const MAX_PRIVATE_BYTES: usize = 400;

const SEQUENCE_HEADER: u8 = 1;
const HAS_EXTENSION: u8 = 0x04;

const SEQUENCE_PARAMETERS: u8 = 7;
const PICTURE_PARAMETERS: u8 = 8;
const STANDS_ALONE: u8 = 5;

/// As Matroska calls it (draft-ietf-cellar-codec).
pub(super) const fn id(codec: VideoCodec) -> &'static str {
    match codec {
        VideoCodec::Av1 => "V_AV1",
        VideoCodec::H264 => "V_MPEG4/ISO/AVC",
    }
}

/// The bytes of a block. `None`: there is nothing in it, or it is malformed.
pub(super) fn block(codec: VideoCodec, bytes: &[u8]) -> Option<Vec<u8>> {
    let block = match codec {
        VideoCodec::Av1 => av1::stored(bytes)?,
        VideoCodec::H264 => {
            let mut out = Vec::with_capacity(bytes.len() + 8);
            for unit in h264::sent_units(bytes) {
                out.extend_from_slice(&u32::try_from(unit.len()).ok()?.to_be_bytes());
                out.extend_from_slice(unit);
            }
            out
        }
    };
    (!block.is_empty()).then_some(block)
}

/// What a decoder has to know before the first picture, by a key frame. `None`: with this one no track can begin.
pub(super) fn private(codec: VideoCodec, key_frame: &[u8]) -> Option<Vec<u8>> {
    let private = match codec {
        VideoCodec::Av1 => av1_private(key_frame)?,
        VideoCodec::H264 => h264_private(key_frame)?,
    };
    (private.len() <= MAX_PRIVATE_BYTES).then_some(private)
}

/// `AV1CodecConfigurationRecord`: profile, level and tier as in the sequence header; 8 bits and 4:2:0, as all that our
/// decoder takes.
fn av1_private(key_frame: &[u8]) -> Option<Vec<u8>> {
    let obus = av1::obus(key_frame)?;
    let header = obus.iter().find(|obu| {
        obu.first()
            .is_some_and(|it| it >> 3 & 0x0f == SEQUENCE_HEADER)
    })?;
    let (first, rest) = header.split_first()?;
    let payload = if first & HAS_EXTENSION == 0 {
        rest
    } else {
        rest.get(1..)?
    };
    let [profile, level, tier] = profile_level_tier(payload)?;
    // Version 1 behind a marker; tier, then chroma in half size both ways.
    let mut out = vec![0x81, profile << 5 | level, tier << 7 | 0b0000_1100, 0];
    av1::append(header, &mut out)?;
    Some(out)
}

/// The beginning of `sequence_header_obu` (AV1 section 5.5.1), up to the first operating point.
fn profile_level_tier(payload: &[u8]) -> Option<[u8; 3]> {
    let mut bits = Bits::new(payload);
    let profile = bits.take(3)?;
    let _still_picture = bits.take(1)?;
    if bits.take(1)? == 1 {
        // A reduced header has one operating point, of which it tells the level alone.
        return Some([narrow(profile), narrow(bits.take(5)?), 0]);
    }
    if bits.take(1)? == 1 {
        // Timing: ticks and time scale; with equal intervals the number of ticks of one, as Exp-Golomb.
        bits.take(32)?;
        bits.take(32)?;
        if bits.take(1)? == 1 {
            bits.skip_exp_golomb()?;
        }
        if bits.take(1)? == 1 {
            // How long things wait in the decoder's model.
            bits.take(5)?;
            bits.take(32)?;
            bits.take(10)?;
        }
    }
    let _initial_display_delay = bits.take(1)?;
    let _more_operating_points = bits.take(5)?;
    let _operating_point = bits.take(12)?;
    let level = bits.take(5)?;
    let tier = if level > 7 { bits.take(1)? } else { 0 };
    Some([narrow(profile), narrow(level), narrow(tier)])
}

fn narrow(value: u32) -> u8 {
    u8::try_from(value).unwrap_or(u8::MAX)
}

/// Reads bits, the highest first.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Bits<'a> {
    const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// At most 32.
    fn take(&mut self, count: u32) -> Option<u32> {
        (0..count).try_fold(0u32, |value, _| {
            let byte = self.bytes.get(self.at / 8)?;
            let bit = byte >> (7 - self.at % 8) & 1;
            self.at += 1;
            Some(value << 1 | u32::from(bit))
        })
    }

    fn skip_exp_golomb(&mut self) -> Option<()> {
        let mut zeros = 0;
        while self.take(1)? == 0 {
            zeros += 1;
            if zeros == 32 {
                return Some(());
            }
        }
        self.take(zeros).map(|_| ())
    }
}

/// `AVCDecoderConfigurationRecord` (ISO/IEC 14496-15 section 5.3.3.1), lengths of four bytes.
fn h264_private(key_frame: &[u8]) -> Option<Vec<u8>> {
    let of = |kind: u8| {
        h264::sent_units(key_frame)
            .filter(move |unit| unit.first().is_some_and(|it| it & 0x1f == kind))
    };
    of(STANDS_ALONE).next()?;
    let (sequence, picture): (Vec<_>, Vec<_>) = (
        of(SEQUENCE_PARAMETERS).take(31).collect(),
        of(PICTURE_PARAMETERS).take(255).collect(),
    );
    let &[_header, profile, compatible, level, ..] = *sequence.first()? else {
        return None;
    };
    picture.first()?;
    let mut out = vec![1, profile, compatible, level, 0xff];
    out.push(0xe0 | u8::try_from(sequence.len()).ok()?);
    put_units(&mut out, &sequence)?;
    out.push(u8::try_from(picture.len()).ok()?);
    put_units(&mut out, &picture)?;
    Some(out)
}

fn put_units(out: &mut Vec<u8>, units: &[&[u8]]) -> Option<()> {
    for unit in units {
        out.extend_from_slice(&u16::try_from(unit.len()).ok()?.to_be_bytes());
        out.extend_from_slice(unit);
    }
    Some(())
}

#[cfg(test)]
#[expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test may panic"
)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_of_a_peer_break_anything(bytes: Vec<u8>, is_av1: bool) {
            let codec = if is_av1 { VideoCodec::Av1 } else { VideoCodec::H264 };
            let private = private(codec, &bytes);
            prop_assert!(private.is_none_or(|private| private.len() <= MAX_PRIVATE_BYTES));
            let _block = block(codec, &bytes);
        }
    }

    #[test]
    fn units_of_h264_stand_behind_their_lengths_and_parameters_in_front() {
        let key = [
            &[0, 0, 0, 1, 9, 0xf0][..],
            &[0, 0, 0, 1, 0x67, 66, 0xc0, 31, 5],
            &[0, 0, 1, 0x68, 7],
            &[0, 0, 1, 0x65, 1, 2, 3],
        ]
        .concat();
        assert_eq!(
            private(VideoCodec::H264, &key).unwrap(),
            [
                1, 66, 0xc0, 31, 0xff, 0xe1, 0, 5, 0x67, 66, 0xc0, 31, 5, 1, 0, 2, 0x68, 7
            ]
        );
        let stored = block(VideoCodec::H264, &key).unwrap();
        assert_eq!(stored[..9], [0, 0, 0, 5, 0x67, 66, 0xc0, 31, 5]);
        assert_eq!(stored[15..], [0, 0, 0, 4, 0x65, 1, 2, 3]);
        // Without parameters nothing can begin.
        assert_eq!(private(VideoCodec::H264, &[0, 0, 1, 0x65, 1, 2]), None);
    }

    #[test]
    fn av1_loses_its_delimiters_and_the_sequence_header_tells_level_and_profile() {
        // Profile 0, not still, no timing, one operating point, level 8 (4.0) in the high tier.
        let bits = "000 0 0 0 0 00000 000000000000 01000 1 0000000";
        let digits: Vec<u8> = bits.bytes().filter(|byte| *byte != b' ').collect();
        let header: Vec<u8> = digits
            .chunks(8)
            .map(|byte| byte.iter().fold(0, |value, bit| value << 1 | (bit - b'0')))
            .collect();
        let mut unit = vec![0x12, 0, 0x0a, header.len() as u8];
        unit.extend(&header);
        unit.extend([0x32, 2, 7, 7]);
        let private = private(VideoCodec::Av1, &unit).unwrap();
        assert_eq!(private[..4], [0x81, 8, 0x8c, 0]);
        assert_eq!(private[4..6], [0x0a, header.len() as u8]);
        assert_eq!(block(VideoCodec::Av1, &unit).unwrap(), unit[2..]);
    }
}
