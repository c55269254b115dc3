//! The lock-free ring between a device's callback and a worker, and what is counted there.
//!
//! One end belongs to a real-time callback: it copies, adds to counters and notes the time, and does nothing else.
//! f32 at the device's rate: of each sample what is common to both channels, and how the left differs from it, which is
//! nothing in most sound.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::wide::{left_right, mid_side};

/// What a ring holds at most. Twice the longest wait that is worth bridging; a device in trouble gathers no more
/// old sound than this.
pub const RING_DURATION: Duration = Duration::from_millis(200);

/// Devices fill or empty their whole buffer at first. What they move at once shows after that.
const STARTUP_CALLBACKS: u64 = 4;

/// Counters of one ring. They only grow.
#[derive(Debug, Default)]
struct Shared {
    callbacks: AtomicU64,
    last_callback_nanos: AtomicU64,
    largest_callback_samples: AtomicU64,
    first_callbacks_samples: AtomicU64,
    dropped_samples: AtomicU64,
    missing_samples: AtomicU64,
}

/// What has happened at a ring since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingStats {
    /// Calls by the device.
    pub callbacks: u64,
    /// The most samples that the device moved in one call, its first few calls left out.
    pub largest_callback_samples: u64,
    /// Samples that found the ring full: the worker did not come in time.
    pub dropped_samples: u64,
    /// Samples that the device wanted and did not find: it played silence in their place. Does not count what it
    /// wanted before the first sample was written.
    pub missing_samples: u64,
}

/// Looks at a ring's counters from anywhere.
#[derive(Clone, Debug, Default)]
pub struct RingWatch {
    shared: Arc<Shared>,
}

impl RingWatch {
    /// The counters now.
    #[must_use]
    pub fn stats(&self) -> RingStats {
        RingStats {
            callbacks: self.shared.callbacks.load(Ordering::Relaxed),
            largest_callback_samples: self.shared.largest_callback_samples.load(Ordering::Relaxed),
            dropped_samples: self.shared.dropped_samples.load(Ordering::Relaxed),
            missing_samples: self.shared.missing_samples.load(Ordering::Relaxed),
        }
    }

    /// When the device last called, on the clock it was told the time by. `None` before the first call.
    #[must_use]
    pub fn last_callback(&self) -> Option<Duration> {
        (self.shared.callbacks.load(Ordering::Acquire) > 0)
            .then(|| Duration::from_nanos(self.shared.last_callback_nanos.load(Ordering::Relaxed)))
    }

    /// The most samples that the device moved in one of its first calls. More than later, if it has a buffer to fill.
    #[must_use]
    pub fn first_callbacks_samples(&self) -> u64 {
        self.shared.first_callbacks_samples.load(Ordering::Relaxed)
    }

    pub(super) fn note_callback(&self, now: Duration, samples: usize) {
        let nanos = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        self.shared
            .last_callback_nanos
            .store(nanos, Ordering::Relaxed);
        let before = self.shared.callbacks.fetch_add(1, Ordering::Release);
        let largest = if before >= STARTUP_CALLBACKS {
            &self.shared.largest_callback_samples
        } else {
            &self.shared.first_callbacks_samples
        };
        largest.fetch_max(samples as u64, Ordering::Relaxed);
    }

    pub(super) fn note_dropped(&self, samples: usize) {
        if samples > 0 {
            let dropped = &self.shared.dropped_samples;
            dropped.fetch_add(samples as u64, Ordering::Relaxed);
        }
    }

    pub(super) fn note_missing(&self, samples: usize) {
        if samples > 0 {
            let missing = &self.shared.missing_samples;
            missing.fetch_add(samples as u64, Ordering::Relaxed);
        }
    }
}

/// What a sound system has to say where it does not call back but is asked.
pub trait Inlet: std::fmt::Debug + Send {
    /// Takes in what has come. Where nothing has, waits for it, for `limit` at most.
    fn fetch(&mut self, limit: Duration) {
        let _nobody = limit;
    }

    /// Whether it should be waited for once, since it is not known well enough any more *when* something comes.
    fn is_unsure(&self) -> bool {
        false
    }
}

/// Where a playout puts its sound: a ring that a callback empties, or a buffer of the system's own.
pub trait SpeakerBuffer: Inlet {
    /// The counters of what empties it.
    fn watch(&self) -> &RingWatch;

    /// Samples that wait to be played.
    fn filled_samples(&self) -> usize;

    /// Puts in what fits of both parts of two channels, and returns how much that was.
    fn put(&mut self, samples: &mut dyn ExactSizeIterator<Item = [f32; 2]>) -> usize;
}

impl Inlet for RingWriter {}

impl SpeakerBuffer for RingWriter {
    fn watch(&self) -> &RingWatch {
        Self::watch(self)
    }

    fn filled_samples(&self) -> usize {
        Self::filled_samples(self)
    }

    fn put(&mut self, samples: &mut dyn ExactSizeIterator<Item = [f32; 2]>) -> usize {
        self.write_both(samples)
    }
}

/// The end that samples go into.
#[derive(Debug)]
pub struct RingWriter {
    producer: rtrb::Producer<[f32; 2]>,
    watch: RingWatch,
}

/// The end that samples come out of.
#[derive(Debug)]
pub struct RingReader {
    consumer: rtrb::Consumer<[f32; 2]>,
    watch: RingWatch,
    started: bool,
}

/// A ring for [`RING_DURATION`] of sound at `rate_hz`.
#[must_use]
pub fn ring(rate_hz: u32) -> (RingWriter, RingReader) {
    let capacity = rate_hz as usize * RING_DURATION.as_millis() as usize / 1000;
    let (producer, consumer) = rtrb::RingBuffer::new(capacity);
    let watch = RingWatch::default();
    (
        RingWriter {
            producer,
            watch: watch.clone(),
        },
        RingReader {
            consumer,
            watch,
            started: false,
        },
    )
}

impl RingWriter {
    /// Writes what fits of one channel and returns how much that was. Real-time safe.
    pub fn write(&mut self, samples: impl ExactSizeIterator<Item = f32>) -> usize {
        self.write_both(samples.map(|sample| [sample, 0.0]))
    }

    /// The same with both parts of two channels.
    pub fn write_both(&mut self, samples: impl ExactSizeIterator<Item = [f32; 2]>) -> usize {
        let wanted = samples.len();
        let room = self.producer.slots().min(wanted);
        let written = self
            .producer
            .write_chunk_uninit(room)
            .map_or(0, |chunk| chunk.fill_from_iter(samples));
        self.watch.note_dropped(wanted - written);
        written
    }

    /// As [`Self::write_both`], for a device's callback at time `now`: interleaved frames of `channels` samples. More than
    /// two are mixed to one. Real-time safe.
    pub fn write_from_device<T: Copy>(
        &mut self,
        interleaved: &[T],
        channels: usize,
        now: Duration,
        to_f32: impl Fn(T) -> f32,
    ) {
        let frames = interleaved.chunks_exact(channels.max(1));
        let count = frames.len();
        let scale = 1.0 / channels.max(1) as f32;
        self.write_both(frames.map(|frame| match *frame {
            [one] => [to_f32(one), 0.0],
            [left, right] => mid_side([to_f32(left), to_f32(right)]),
            ref many => [many.iter().map(|&s| to_f32(s)).sum::<f32>() * scale, 0.0],
        }));
        self.watch.note_callback(now, count);
    }

    /// Samples waiting in the ring.
    #[must_use]
    pub fn filled_samples(&self) -> usize {
        self.producer.buffer().capacity() - self.producer.slots()
    }

    /// The ring's counters.
    #[must_use]
    pub fn watch(&self) -> &RingWatch {
        &self.watch
    }

    /// Whether the other end is gone.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.producer.is_abandoned()
    }
}

impl RingReader {
    /// Reads what is there, mixed to one channel, up to the length of `samples`, and returns how much that was. Real-time
    /// safe.
    pub fn read(&mut self, samples: &mut [f32]) -> usize {
        let places = samples.iter_mut();
        self.read_each(places.map(|place| move |[mid, _side]: [f32; 2]| *place = mid))
    }

    /// The same with both parts of two channels, of which both have as many places.
    pub fn read_both(&mut self, mid: &mut [f32], side: &mut [f32]) -> usize {
        let places = mid.iter_mut().zip(side);
        self.read_each(places.map(|(mid, side)| move |both: [f32; 2]| [*mid, *side] = both))
    }

    /// Gives a sample to each that wants one, while there are some.
    fn read_each(&mut self, places: impl ExactSizeIterator<Item = impl FnOnce([f32; 2])>) -> usize {
        let count = places.len().min(self.consumer.slots());
        if let Ok(chunk) = self.consumer.read_chunk(count) {
            let (first, second) = chunk.as_slices();
            for (sample, place) in first.iter().chain(second).zip(places) {
                place(*sample);
            }
            chunk.commit_all();
        }
        count
    }

    /// Throws away up to `count` samples, the oldest.
    pub fn skip(&mut self, count: usize) {
        let count = count.min(self.consumer.slots());
        if let Ok(chunk) = self.consumer.read_chunk(count) {
            chunk.commit_all();
        }
    }

    /// Fills a device's interleaved buffer at time `now`: left and right where it has more than one channel, the mix on all
    /// others; silence for what is missing. Real-time safe.
    pub fn read_to_device<T: Copy>(
        &mut self,
        interleaved: &mut [T],
        channels: usize,
        now: Duration,
        from_f32: impl Fn(f32) -> T,
    ) {
        let mut frames = interleaved.chunks_exact_mut(channels.max(1));
        let wanted = frames.len();
        let available = self.consumer.slots().min(wanted);
        if let Ok(chunk) = self.consumer.read_chunk(available) {
            let (first, second) = chunk.as_slices();
            for (&sample, frame) in first.iter().chain(second).zip(frames.by_ref()) {
                frame.fill(from_f32(sample[0]));
                if let [left, right, ..] = frame {
                    [*left, *right] = left_right(sample).map(&from_f32);
                }
            }
            chunk.commit_all();
        }
        for frame in frames {
            frame.fill(from_f32(0.0));
        }
        self.started |= available > 0;
        if self.started {
            self.watch.note_missing(wanted - available);
        }
        self.watch.note_callback(now, wanted);
    }

    /// Samples waiting in the ring.
    #[must_use]
    pub fn filled_samples(&self) -> usize {
        self.consumer.slots()
    }

    /// The ring's counters.
    #[must_use]
    pub fn watch(&self) -> &RingWatch {
        &self.watch
    }

    /// Whether the other end is gone.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.consumer.is_abandoned()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    const NOW: Duration = Duration::from_secs(1);

    #[test]
    fn stereo_becomes_mono_and_mono_stereo() {
        let (mut writer, mut reader) = ring(48_000);
        writer.write_from_device(&[0.2f32, 0.4, -1.0, 1.0], 2, NOW, |s| s);
        let mut out = [9i16; 3];
        reader.read_to_device(&mut out, 1, NOW, |s| (s * 100.0).round() as i16);
        assert_eq!(out, [30, 0, 0]);
        let stats = reader.watch().stats();
        assert_eq!(
            stats,
            RingStats {
                callbacks: 2,
                largest_callback_samples: 0,
                dropped_samples: 0,
                missing_samples: 1
            }
        );
        for _ in 0..STARTUP_CALLBACKS {
            reader.read_to_device(&mut out, 1, NOW, |s| s as i16);
        }
        assert_eq!(reader.watch().stats().largest_callback_samples, 3);
        assert_eq!(reader.watch().last_callback(), Some(NOW));
        writer.write([0.3].into_iter());
        let mut out = [9i16; 2];
        reader.read_to_device(&mut out, 2, NOW, |s| (s * 100.0).round() as i16);
        assert_eq!(out, [30, 30]);
    }

    #[test]
    fn left_and_right_come_out_where_they_went_in() {
        let (mut writer, mut reader) = ring(48_000);
        for _ in 0..3 {
            writer.write_from_device(&[0.5f32, -0.25], 2, NOW, |s| s);
        }
        let mut out = [9.0f32; 6];
        reader.read_to_device(&mut out[..2], 2, NOW, |s| s);
        assert_eq!(out[..2], [0.5, -0.25]);
        reader.read_to_device(&mut out, 6, NOW, |s| s);
        assert_eq!(out, [0.5, -0.25, 0.125, 0.125, 0.125, 0.125]);
        let (mut mid, mut side) = ([9.0; 4], [9.0; 4]);
        assert_eq!(reader.read_both(&mut mid, &mut side), 1);
        assert_eq!((mid[0], side[0], mid[1]), (0.125, 0.375, 9.0));
    }

    #[test]
    fn a_full_ring_drops_the_newest_and_counts_it() {
        let (mut writer, mut reader) = ring(8_000);
        assert_eq!(writer.write((0..1700).map(|n| n as f32)), 1600);
        assert_eq!(writer.watch().stats().dropped_samples, 100);
        let mut out = [0.0; 2];
        reader.read(&mut out);
        assert_eq!(out, [0.0, 1.0]);
        assert_eq!(writer.filled_samples(), 1598);
    }

    #[test]
    fn silence_before_the_first_sample_is_not_an_underrun() {
        let (_writer, mut reader) = ring(48_000);
        reader.read_to_device(&mut [0.5f32; 480], 1, NOW, |s| s);
        assert_eq!(reader.watch().stats().missing_samples, 0);
        assert_eq!(reader.watch().stats().callbacks, 1);
    }

    proptest! {
        #[test]
        fn a_ring_is_a_bounded_queue(
            ops in proptest::collection::vec((0u8..3, 0usize..700), 1..100),
        ) {
            let (mut writer, mut reader) = ring(8_000);
            let mut model = VecDeque::new();
            let mut next = 0.0f32;
            for (op, count) in ops {
                match op {
                    0 => {
                        let written = writer.write((0..count).map(|n| next + n as f32));
                        prop_assert_eq!(written, count.min(1600 - model.len()));
                        model.extend((0..written).map(|n| next + n as f32));
                        next += count as f32;
                    }
                    1 => {
                        let mut out = vec![0.0; count];
                        let read = reader.read(&mut out);
                        prop_assert_eq!(read, count.min(model.len()));
                        prop_assert!(model.drain(..read).eq(out[..read].iter().copied()));
                    }
                    _ => {
                        reader.skip(count);
                        model.drain(..count.min(model.len()));
                    }
                }
                prop_assert_eq!(reader.filled_samples(), model.len());
                prop_assert_eq!(writer.filled_samples(), model.len());
            }
        }
    }
}
