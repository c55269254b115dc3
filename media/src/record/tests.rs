//! What is recorded, read by a reader that is not ours.

use std::{
    io::{Cursor, Seek, SeekFrom, Write},
    sync::{Arc, Mutex},
};

use matroska_demuxer::{Frame as Block, MatroskaFile as Reader, TrackType};

use super::*;
use crate::{
    audio::{BLOCK_DURATION, opus::OpusDecoder, test_signal::Speech},
    time::BLOCK_SAMPLES,
};

fn start() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "a test's clock starts somewhere")]
    Instant::now()
}

/// A disk of so many bytes, which stays when the recording goes.
#[derive(Clone)]
struct Disk {
    bytes: Arc<Mutex<Cursor<Vec<u8>>>>,
    room: u64,
}

impl Disk {
    fn with_room(room: u64) -> Self {
        Self {
            bytes: Arc::default(),
            room,
        }
    }

    fn content(&self) -> Vec<u8> {
        self.bytes.lock().unwrap().get_ref().clone()
    }
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut disk = self.bytes.lock().unwrap();
        let room = self.room.saturating_sub(disk.position());
        let fits = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
        if fits == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        disk.write(&bytes[..fits])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Disk {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.bytes.lock().unwrap().seek(to)
    }
}

impl Store for Disk {
    fn cut(&mut self, len: u64) -> io::Result<()> {
        let mut disk = self.bytes.lock().unwrap();
        disk.get_mut().truncate(usize::try_from(len).unwrap());
        Ok(())
    }
}

/// Disks that are used one after the other.
struct Disks(Vec<Disk>);

impl Shelf for Disks {
    fn next(&mut self) -> Result<(PathBuf, Box<dyn Store>), RecordError> {
        let disk = self.0.remove(0);
        Ok((PathBuf::from("call.mkv"), Box::new(disk)))
    }
}

fn config() -> RecordConfig {
    RecordConfig {
        name: "Bo".into(),
        unix_millis: 1_700_000_000_000,
        follow_clocks: true,
    }
}

fn begin(disks: &[&Disk], now: Instant) -> Recording {
    let shelf = Disks(disks.iter().map(|disk| (*disk).clone()).collect());
    Recording::begin(config(), Box::new(shelf), now).unwrap()
}

struct Played {
    reader: Reader<Cursor<Vec<u8>>>,
    blocks: Vec<Block>,
}

fn read(bytes: Vec<u8>) -> Played {
    let mut reader = Reader::open(Cursor::new(bytes)).unwrap();
    let mut blocks = Vec::new();
    let mut block = Block::default();
    // What is cut off in the middle ends it.
    while let Ok(true) = reader.next_frame(&mut block) {
        blocks.push(block.clone());
    }
    Played { reader, blocks }
}

impl Played {
    fn of(&self, track: u64) -> impl Iterator<Item = &Block> {
        self.blocks.iter().filter(move |block| block.track == track)
    }

    /// Left and right, from the file's beginning on.
    fn sound(&self) -> Vec<[f32; 2]> {
        let track = &self.reader.tracks()[0];
        let head = track.codec_private().unwrap();
        assert_eq!(&head[..10], b"OpusHead\x01\x02");
        let pre_skip = usize::from(u16::from_le_bytes([head[10], head[11]]));
        let nanos = pre_skip as u64 * 1_000_000_000 / 48_000;
        assert_eq!(track.codec_delay(), Some(nanos));
        let mut decoder = OpusDecoder::new().unwrap();
        decoder.widen().unwrap();
        let mut out = Vec::new();
        for block in self.of(1) {
            let at = usize::try_from(block.timestamp).unwrap() * 48;
            assert!(out.len() <= at, "{} is after {at}", out.len());
            out.resize(at, [0.0; 2]);
            let mut frames = [0.0; 2 * 960];
            assert_eq!(decoder.decode(&block.data, &mut frames), Ok(960));
            out.extend(frames.chunks_exact(2).map(|frame| [frame[0], frame[1]]));
        }
        out.split_off(pre_skip)
    }
}

/// So many blocks of a voice to the left and one to the right.
fn talk(recording: &mut Recording, begin: Instant, blocks: u32) -> Result<(), RecordError> {
    let mut voices = [Speech::new(1), Speech::new(2)];
    for n in 1..=blocks {
        for (voice, side) in voices.iter_mut().zip(Side::BOTH) {
            let mut block = WideBlock::SILENCE;
            block.mid.copy_from_slice(&voice.samples(BLOCK_SAMPLES));
            recording.sound(side, begin + BLOCK_DURATION * n, &block)?;
        }
    }
    Ok(())
}

/// How alike two sounds are, 1 for the same.
fn likeness(one: impl Iterator<Item = f32>, other: &[f32]) -> f32 {
    let (mut both, mut a, mut b) = (0.0, 0.0, 0.0);
    for (one, other) in one.zip(other) {
        both += one * other;
        a += one * one;
        b += other * other;
    }
    both / (a * b).sqrt()
}

#[test]
fn both_voices_are_read_by_another_reader_where_they_were_said() {
    let begin_at = start();
    let disk = Disk::with_room(u64::MAX);
    let mut recording = begin(&[&disk], begin_at);
    talk(&mut recording, begin_at, 500).unwrap();
    recording.finish().unwrap();
    let stats = recording.stats();
    assert_eq!(stats.bytes, disk.content().len() as u64);
    assert!((stats.duration.as_secs_f64() - 5.0).abs() < 0.05);
    let read = read(disk.content());
    let duration = read.reader.info().duration().unwrap();
    assert!((duration - 5000.0).abs() < 50.0, "{duration}");
    let tracks = read.reader.tracks();
    assert_eq!(tracks.len(), 1);
    assert_eq!(tracks[0].track_type(), TrackType::Audio);
    assert_eq!(tracks[0].codec_id(), "A_OPUS");
    let sound = read.sound();
    for (voice, side) in [(1, 0), (2, 1)] {
        let said = Speech::new(voice).samples(240_000);
        let (near, far) = (NEAR_GAIN, FAR_GAIN);
        // Each voice alone, out of the two channels; the filter of the clocks delays by a half of its taps.
        let heard = |shift: usize| {
            let alone = sound[shift..].iter();
            likeness(
                alone.map(move |frame| near * frame[side] - far * frame[1 - side]),
                &said[..sound.len() - shift],
            )
        };
        let best = (0..100).max_by(|a, b| heard(*a).total_cmp(&heard(*b)));
        let best = best.unwrap();
        assert!(heard(best) > 0.95, "{side}: {}", heard(best));
        assert!(best < 48, "{side} is late by {best} samples");
    }
}

#[test]
fn whoever_is_killed_leaves_all_but_the_last_second() {
    let begin_at = start();
    let disk = Disk::with_room(u64::MAX);
    let mut recording = begin(&[&disk], begin_at);
    talk(&mut recording, begin_at, 1000).unwrap();
    // Nothing is ended, and half of what was written last is lost too.
    let mut content = disk.content();
    let whole = read(content.clone());
    let last = whole.of(1).last().unwrap().timestamp;
    assert!(last > 9_000, "{last}");
    let told = whole.reader.info().duration().unwrap();
    assert!(told > 9_000.0 && told <= 10_000.0, "{told}");
    content.truncate(content.len() - 2_000);
    let cut = read(content);
    let last = cut.of(1).last().unwrap().timestamp;
    assert!(last > 8_500, "{last}");
}

#[test]
fn a_full_disk_is_said_and_what_was_written_is_whole() {
    let begin_at = start();
    let disk = Disk::with_room(60_000);
    let mut recording = begin(&[&disk], begin_at);
    let error = talk(&mut recording, begin_at, 2000).unwrap_err();
    assert!(matches!(error, RecordError::Write { .. }), "{error:?}");
    assert!(error.to_string().contains("make room"), "{error}");
    let read = read(disk.content());
    let last = read.of(1).last().unwrap().timestamp as f64;
    let told = read.reader.info().duration().unwrap();
    assert!(
        last > 2_000.0 && (told - last).abs() <= 20.0,
        "{told} {last}"
    );
}

#[test]
fn a_thread_writes_the_same_and_says_when_it_is_over() {
    let begin_at = start();
    let disk = Disk::with_room(u64::MAX);
    let shelf = Box::new(Disks(vec![disk.clone()]));
    let recorder = Recorder::start(config(), shelf, begin_at, true).unwrap();
    let tap = recorder.tap();
    for n in 1..=100 {
        for side in Side::BOTH {
            tap.sound(side, begin_at + BLOCK_DURATION * n, &WideBlock::SILENCE);
        }
    }
    recorder.close();
    let status = recorder.wait(Duration::from_secs(30));
    assert!(status.is_over && status.error.is_none(), "{status:?}");
    assert_eq!(status.stats.bytes, disk.content().len() as u64);
    assert_eq!(status.stats.sound_dropped, 0);
    assert!(status.stats.duration >= Duration::from_secs(1));
    // Nobody listens any more.
    tap.sound(Side::Ours, begin_at, &WideBlock::SILENCE);
    assert_eq!(recorder.status().stats, status.stats);
}

#[test]
fn a_disk_that_is_too_slow_loses_sound_and_pictures_and_stops_nobody() {
    let begin_at = start();
    let disk = Disk::with_room(u64::MAX);
    let shelf = Box::new(Disks(vec![disk.clone()]));
    let recorder = Recorder::start(config(), shelf, begin_at, true).unwrap();
    let tap = recorder.tap();
    {
        let _stuck = disk.bytes.lock().unwrap();
        for n in 1..=2000 {
            for side in Side::BOTH {
                tap.sound(side, begin_at + BLOCK_DURATION * n, &WideBlock::SILENCE);
            }
        }
        assert!(recorder.status().stats.sound_dropped > 2000);
        let size = Size::new(64, 64).unwrap();
        // Nothing has begun before a key frame, so nothing is missing.
        let picture = |is_key| {
            tap.picture(Side::Ours, begin_at, VideoCodec::Av1, &[0; 9], is_key, size);
        };
        picture(false);
        assert_eq!(recorder.status().stats.pictures_dropped, 0);
        picture(true);
        assert!(recorder.wants_key(Side::Ours));
        assert_eq!(recorder.status().stats.pictures_dropped, 1);
    }
    recorder.close();
    let status = recorder.wait(Duration::from_secs(30));
    assert!(status.is_over && status.error.is_none(), "{status:?}");
}

#[test]
fn pictures_that_nothing_can_begin_with_are_counted_and_not_written() {
    let begin_at = start();
    let disk = Disk::with_room(u64::MAX);
    let mut recording = begin(&[&disk], begin_at);
    let picture = |bytes: &[u8], is_key| RecordedPicture {
        at: begin_at,
        codec: VideoCodec::H264,
        bytes: bytes.to_vec(),
        is_key,
        size: Size::new(64, 64).unwrap(),
    };
    for (bytes, is_key) in [(&[0, 0, 1, 0x65, 1][..], true), (&[1, 2, 3], false)] {
        let taken = recording.picture(Side::Theirs, picture(bytes, is_key));
        assert!(!taken.unwrap());
    }
    talk(&mut recording, begin_at, 10).unwrap();
    recording.finish().unwrap();
    assert_eq!(recording.stats().pictures_dropped, 2);
    assert_eq!(read(disk.content()).reader.tracks().len(), 1);
}

#[cfg(feature = "video")]
mod pictures {
    use super::*;
    use crate::time::RtpTimestamp;
    use crate::video::{
        codec::{Content as Shown, VideoConfig},
        frame::Frame,
        frame_buffer::ReceivedFrame,
        pattern::{TestPattern, read as number},
        recv::DecodableFrame,
        stage::{DecodeStage, EncodeStage},
    };

    const FPS: u32 = 10;

    fn size(width: u32, height: u32) -> Size {
        Size::new(width, height).unwrap()
    }

    /// Encodes numbered pictures, which become larger in the middle.
    fn film(codec: VideoCodec, begin: Instant, pictures: u32) -> Vec<RecordedPicture> {
        let mut stage = EncodeStage::new(codec);
        let mut pattern = TestPattern::new(size(320, 180));
        (0..pictures)
            .filter_map(|n| {
                let taken = Duration::from_secs(1) * n / FPS;
                let frame = pattern.next_frame(taken);
                let size = if n < pictures / 2 {
                    size(160, 90)
                } else {
                    size(320, 180)
                };
                let config = VideoConfig {
                    size,
                    fps: FPS,
                    bitrate: Bitrate(600_000),
                    content: Shown::Motion,
                    temporal_layers: 3,
                    threads: 1,
                    effort: 0,
                };
                let encoded = stage.encode(config, false, &frame).unwrap()?;
                Some(RecordedPicture {
                    at: begin + taken,
                    codec,
                    bytes: encoded.bytes,
                    is_key: encoded.is_key,
                    size,
                })
            })
            .collect()
    }

    /// The numbers in the pictures of a track, and their times.
    fn numbers(read: &Played, track: u64, codec: VideoCodec) -> Vec<(u16, u64)> {
        let mut stage = DecodeStage::new(1);
        let private = read.reader.tracks()[usize::try_from(track).unwrap() - 1]
            .codec_private()
            .unwrap()
            .to_vec();
        read.of(track)
            .map(|block| {
                // As our decoders take it: H.264 with start codes, and the parameters that the file told beforehand.
                let bytes = match codec {
                    VideoCodec::Av1 => block.data.clone(),
                    VideoCodec::H264 => annex_b(&block.data),
                };
                assert!(private.len() > 4);
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
                        first_arrival: start(),
                    },
                };
                let picture = stage.decode(&frame, Duration::ZERO).unwrap().unwrap();
                (enlarged(picture), block.timestamp)
            })
            .collect()
    }

    fn enlarged(picture: &Frame) -> u16 {
        number(picture).expect("a number in each picture")
    }

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

    #[test]
    fn pictures_of_both_sides_are_read_by_another_reader_each_at_its_time() {
        for (theirs, ours) in [
            (VideoCodec::Av1, VideoCodec::H264),
            (VideoCodec::H264, VideoCodec::Av1),
        ] {
            let begin_at = start();
            let disk = Disk::with_room(u64::MAX);
            let mut recording = begin(&[&disk], begin_at);
            let films = [(Side::Theirs, theirs), (Side::Ours, ours)]
                .map(|(side, codec)| (side, film(codec, begin_at, 40)));
            let mut voice = Speech::new(1);
            for n in 1..=400u32 {
                let at = begin_at + BLOCK_DURATION * n;
                let mut block = WideBlock::SILENCE;
                block.mid.copy_from_slice(&voice.samples(BLOCK_SAMPLES));
                for side in Side::BOTH {
                    recording.sound(side, at, &block).unwrap();
                }
                for (side, film) in &films {
                    let due = |it: &&RecordedPicture| it.at < at && it.at + BLOCK_DURATION >= at;
                    for picture in film.iter().filter(due) {
                        assert!(recording.picture(*side, picture.clone()).unwrap());
                    }
                }
            }
            recording.finish().unwrap();
            let read = read(disk.content());
            let tracks = read.reader.tracks();
            assert_eq!(tracks.len(), 3);
            // The largest picture decides about the window.
            for track in &tracks[1..] {
                let video = track.video().unwrap();
                let size = (video.pixel_width().get(), video.pixel_height().get());
                assert_eq!(size, (320, 180));
            }
            let of = |name: &str| {
                let track = tracks.iter().find(|track| track.name() == Some(name));
                track.unwrap().track_number().get()
            };
            let stats = recording.stats();
            assert_eq!(stats.pictures_dropped, 0);
            for (name, codec, count, film) in [
                ("Bo", theirs, stats.pictures_theirs, &films[0].1),
                ("Own picture", ours, stats.pictures_ours, &films[1].1),
            ] {
                let numbers = numbers(&read, of(name), codec);
                assert_eq!(numbers.len() as u64, count);
                assert_eq!(numbers.len(), film.len(), "{codec:?}");
                for (number, millis) in numbers {
                    assert_eq!(u64::from(number) * 1000 / u64::from(FPS), millis);
                }
            }
            // In order of time, and each to be jumped to.
            let times = read.blocks.iter().map(|block| block.timestamp);
            assert!(times.is_sorted());
        }
    }

    #[test]
    fn another_codec_goes_on_in_another_file() {
        let begin_at = start();
        let (first, second) = (Disk::with_room(u64::MAX), Disk::with_room(u64::MAX));
        let mut recording = begin(&[&first, &second], begin_at);
        talk(&mut recording, begin_at, 100).unwrap();
        for (codec, at) in [(VideoCodec::Av1, 0), (VideoCodec::H264, 1)] {
            let at = begin_at + Duration::from_secs(at);
            for picture in film(codec, at, 10) {
                assert!(recording.picture(Side::Theirs, picture).unwrap());
            }
        }
        talk(&mut recording, begin_at + Duration::from_secs(1), 100).unwrap();
        recording.finish().unwrap();
        let stats = recording.stats();
        assert_eq!(stats.files, 2);
        let sizes = [&first, &second].map(|disk| disk.content().len() as u64);
        assert_eq!(stats.bytes, sizes.iter().sum::<u64>());
        for (disk, codec) in [(first, VideoCodec::Av1), (second, VideoCodec::H264)] {
            let read = read(disk.content());
            assert_eq!(read.reader.tracks()[1].codec_id(), codec::id(codec));
            let numbers = numbers(&read, 2, codec);
            assert_eq!(numbers[0], (0, 0));
            assert!(numbers.len() >= 9, "{numbers:?}");
            assert!(read.of(1).count() >= 49);
        }
    }
}
