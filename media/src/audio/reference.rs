//! What was handed to the speaker, on its way to the echo canceller.
//!
//! Two workers with the same beat on threads of their own: one puts the block in that it has just given to the
//! speaker's ring, the other takes one out per block of the microphone. Each block carries the beat it belongs to, so
//! that a worker that comes late for once does not shift the two against each other.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{BLOCK_DURATION, Block, SILENCE};

/// How far behind the speaker's beat the microphone's side looks. Sound needs longer than this, and the 10 ms that the
/// alignment holds, through both rings and the air; a worker is seldom later.
const HOLD: Duration = Duration::from_millis(15);

/// Blocks on their way at most. More have gathered only if nobody takes them out.
const CAPACITY: usize = 32;

#[derive(Clone, Copy, Debug)]
struct Entry {
    beat: Duration,
    /// Times that the speaker's side lost its place, so far.
    jumps: u64,
    /// How fast the way through the speaker's side gets shorter.
    shortening_ppm: f64,
    block: Block,
}

/// What the microphone's side is told beside the block.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rendered {
    /// The speaker's side has lost its place since the last time.
    pub jumped: bool,
    /// How fast the way through the speaker's side gets shorter, in parts per million of the time that passes.
    pub shortening_ppm: f64,
}

/// The speaker's end.
#[derive(Debug)]
pub struct ReferenceWriter {
    producer: rtrb::Producer<Entry>,
    jumps: u64,
    dropped: Arc<AtomicU64>,
}

/// The microphone's end.
#[derive(Debug)]
pub struct ReferenceReader {
    consumer: rtrb::Consumer<Entry>,
    jumps: u64,
    stats: ReferenceStats,
    dropped: Arc<AtomicU64>,
}

/// What happened on the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReferenceStats {
    /// Blocks that came in time.
    pub blocks: u64,
    /// Blocks that were wanted and not there: silence took their place. Does not count those before the first.
    pub missing: u64,
    /// Blocks that came too late to be of use.
    pub late: u64,
    /// Blocks that found no room.
    pub dropped: u64,
}

/// Both ends. Allocates now and never again.
#[must_use]
pub fn reference() -> (ReferenceWriter, ReferenceReader) {
    let (producer, consumer) = rtrb::RingBuffer::new(CAPACITY);
    let dropped = Arc::<AtomicU64>::default();
    (
        ReferenceWriter {
            producer,
            jumps: 0,
            dropped: Arc::clone(&dropped),
        },
        ReferenceReader {
            consumer,
            jumps: 0,
            stats: ReferenceStats::default(),
            dropped,
        },
    )
}

impl ReferenceWriter {
    /// Puts in what was handed to the speaker at `beat`, while the way to it gets shorter by `shortening_ppm`.
    /// Real-time safe.
    pub fn write(&mut self, beat: Duration, block: &Block, shortening_ppm: f64) {
        let entry = Entry {
            beat,
            jumps: self.jumps,
            shortening_ppm,
            block: *block,
        };
        if self.producer.push(entry).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The speaker's side lost its place: what is heard is later or earlier against what is written from here on.
    pub fn note_jump(&mut self) {
        self.jumps += 1;
    }
}

impl ReferenceReader {
    /// Takes out what belongs to the microphone's `beat`, silence if that is not there, and tells what became of the
    /// way to the speaker. Real-time safe.
    pub fn read(&mut self, beat: Duration, block: &mut Block) -> Rendered {
        *block = SILENCE;
        // One block of the speaker falls into each 10 ms of its clock, and the beats are the same.
        let Some(newest) = beat.checked_sub(HOLD) else {
            return Rendered::default();
        };
        while let Ok(entry) = self.consumer.peek() {
            if entry.beat > newest {
                break;
            }
            let late = entry.beat + BLOCK_DURATION <= newest;
            let (jumps, shortening_ppm) = (entry.jumps, entry.shortening_ppm);
            if !late {
                *block = entry.block;
            }
            if self.consumer.pop().is_err() {
                break;
            }
            if late {
                self.stats.late += 1;
            } else {
                self.stats.blocks += 1;
                let jumped = jumps != self.jumps;
                self.jumps = jumps;
                return Rendered {
                    jumped,
                    shortening_ppm,
                };
            }
        }
        self.stats.missing += u64::from(self.stats.blocks > 0);
        Rendered::default()
    }

    /// The counters now.
    #[must_use]
    pub fn stats(&self) -> ReferenceStats {
        ReferenceStats {
            dropped: self.dropped.load(Ordering::Relaxed),
            ..self.stats
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn beat(n: u32) -> Duration {
        BLOCK_DURATION * n
    }

    /// Which block comes out at each of the microphone's beats, when the speaker's side comes late by `late` beats at
    /// each of its own.
    fn run(late: impl Fn(u32) -> u32, beats: u32) -> Vec<f32> {
        let (mut writer, mut reader) = reference();
        let mut block = SILENCE;
        let mut written = 0;
        let mut out = Vec::new();
        for n in 0..beats {
            while written <= n && late(written) + written <= n {
                let value = 1.0 + written as f32;
                writer.write(beat(written), &[value; 480], 0.0);
                written += 1;
            }
            reader.read(beat(n) + 3 * MS, &mut block);
            out.push(block[0]);
        }
        out
    }

    #[test]
    fn each_beat_gets_the_block_of_fifteen_milliseconds_ago() {
        let out = run(|_| 0, 10);
        assert_eq!(out[..3], [0.0, 0.0, 1.0]);
        assert_eq!(out[9], 8.0);
    }

    #[test]
    fn a_worker_that_comes_late_for_once_shifts_nothing() {
        // Five beats pass before it comes, with all of them at once.
        let out = run(|n| if (20..25).contains(&n) { 25 - n } else { 0 }, 60);
        let smooth = run(|_| 0, 60);
        let gaps: Vec<usize> = (0..60).filter(|&n| out[n] != smooth[n]).collect();
        assert_eq!(gaps, [22, 23, 24], "silence while nothing was there");
        assert!(gaps.iter().all(|&n| out[n] == 0.0));
    }

    #[test]
    fn nobody_who_takes_means_no_more_than_the_ring_holds() {
        let (mut writer, mut reader) = reference();
        for n in 0..100 {
            writer.write(beat(n), &SILENCE, 0.0);
        }
        let mut block = SILENCE;
        reader.read(beat(100), &mut block);
        let stats = reader.stats();
        assert_eq!(stats.dropped, 68, "{stats:?}");
        assert_eq!(stats.late, 32, "{stats:?}");
    }

    #[test]
    fn a_jump_of_the_speaker_is_told_once() {
        let (mut writer, mut reader) = reference();
        let mut block = SILENCE;
        writer.write(beat(0), &block, 0.0);
        writer.note_jump();
        writer.write(beat(1), &block, 0.0);
        writer.write(beat(2), &block, 0.0);
        let told: Vec<bool> = (2..5)
            .map(|n| reader.read(beat(n), &mut block).jumped)
            .collect();
        assert_eq!(told, [false, true, false]);
    }
}
