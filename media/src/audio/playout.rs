//! From blocks on our clock to the speaker's ring.
//!
//! [`Playout`] is given a block every 10 ms, by a clock that is not the speaker's, and keeps the ring two to three
//! blocks ahead of it. [`PlayoutLoop`] also tells the echo canceller what was played. Neither has a thread or a clock
//! of its own; [`PlayoutWorker`] is the thread, and it pulls: the network never pushes sound.

use std::{sync::mpsc::Receiver, time::Duration};

use super::{
    BLOCK_DURATION, Block, SILENCE,
    drift::DriftController,
    pace::{self, Margin, RESYNC_MILLIS, Ticker, WorkerHandle},
    priority::ThreadPriority,
    reference::ReferenceWriter,
    resample::{FromBlocks, Quality, RateError},
    ring::SpeakerBuffer,
    wide::WideBlock,
};

/// How long more must wait than is needed before anything is left out: a second.
const SURPLUS_BLOCKS: u32 = 100;

/// This much more than is needed may stay, in milliseconds.
const SURPLUS_ALLOWED_MILLIS: f64 = 2.0;

/// At most this much is left out of a block, in milliseconds; over as much again the two sides are faded into each
/// other.
const CUT_MAX_MILLIS: f64 = 4.0;

/// A pause is this much quieter than what was loudest of late, or as good as silent; powers.
const PAUSE_SHARE: f32 = 0.01;
const PAUSE_POWER: f32 = 1e-6;

/// How much of the loudest is remembered from block to block: a tenth of it after five seconds.
const LOUDEST_KEPT: f32 = 0.9954;

/// What happened on the way from blocks to the ring.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PlayoutStats {
    /// Blocks taken.
    pub blocks: u64,
    /// Blocks thrown away because the device does not take them.
    pub discarded_blocks: u64,
    /// Times that the device wanted sound and found too little.
    pub underruns: u64,
    /// Times that the ring was brought back to its level by silence or by throwing sound away.
    pub resyncs: u64,
    /// Times that a pause was made shorter because too much had gathered.
    pub cuts: u64,
    /// How much faster than ours the device's clock runs, as far as that is known, in parts per million.
    pub drift_ppm: f64,
    /// Sound waiting in the ring before the last block was added, in milliseconds.
    pub waiting_millis: f64,
}

/// What waits in the ring although it is never needed. A device that stopped for a moment leaves it there, and the drift
/// correction would take a minute to be rid of ten milliseconds; a pause can be shorter without anybody hearing it.
#[derive(Clone, Copy, Debug)]
struct Surplus {
    enabled: bool,
    /// The least of the second under way.
    least_millis: f64,
    blocks: u32,
    /// To be left out.
    due_millis: f64,
    loudest: f32,
}

impl Surplus {
    fn new(enabled: bool) -> Self {
        Self {
            enabled,
            least_millis: f64::INFINITY,
            blocks: 0,
            due_millis: 0.0,
            loudest: 0.0,
        }
    }

    /// How much of `block` is to be left out, in milliseconds, where so much more than needed waits.
    fn cut_millis(&mut self, excess_millis: f64, mid: &Block, side: Option<&Block>) -> f64 {
        let power = |block: &Block| block.iter().map(|s| s * s).sum::<f32>() / block.len() as f32;
        let power = power(mid) + side.map_or(0.0, power);
        self.loudest = power.max(LOUDEST_KEPT * self.loudest);
        self.least_millis = self.least_millis.min(excess_millis);
        self.blocks += 1;
        if self.blocks >= SURPLUS_BLOCKS {
            self.due_millis = (self.least_millis - SURPLUS_ALLOWED_MILLIS).max(0.0);
            self.forget();
        }
        let pauses = power < PAUSE_POWER || power < PAUSE_SHARE * self.loudest;
        if !self.enabled || !pauses || self.due_millis <= 0.0 {
            return 0.0;
        }
        let cut = self.due_millis.min(CUT_MAX_MILLIS);
        self.due_millis -= cut;
        self.forget();
        cut
    }

    /// What was seen of the second under way counts no more.
    fn forget(&mut self) {
        self.least_millis = f64::INFINITY;
        self.blocks = 0;
    }
}

/// Puts blocks into a speaker's ring, one per tick of our clock.
#[derive(Debug)]
pub struct Playout {
    writer: Box<dyn SpeakerBuffer>,
    resampler: FromBlocks,
    drift: DriftController,
    samples_per_milli: f64,
    margin: Margin,
    primed: bool,
    /// What the device has moved at first is made up for.
    settled: bool,
    missing_before: u64,
    /// How much faster the ring was emptied at the last block, so that less waits in it.
    margin_ppm: f64,
    surplus: Surplus,
    stats: PlayoutStats,
}

impl Playout {
    /// Puts into `writer`, whose device runs at `rate_hz`.
    ///
    /// # Errors
    /// The rate is not one that is converted.
    pub fn new(
        writer: impl SpeakerBuffer + 'static,
        rate_hz: u32,
        drift: DriftController,
    ) -> Result<Self, RateError> {
        Ok(Self {
            writer: Box::new(writer),
            resampler: FromBlocks::new(rate_hz, Quality::Live)?,
            drift,
            samples_per_milli: f64::from(rate_hz) / 1000.0,
            margin: Margin::new(),
            primed: false,
            settled: false,
            missing_before: 0,
            margin_ppm: 0.0,
            surplus: Surplus::new(true),
            stats: PlayoutStats::default(),
        })
    }

    /// Keeps as much in reserve as at first, however punctual everybody is: what there would be without looking.
    #[must_use]
    pub fn with_fixed_margin(mut self) -> Self {
        self.margin = Margin::fixed();
        self
    }

    /// Leaves pauses as long as they are, however much has gathered: what there would be without looking.
    #[must_use]
    pub fn with_whole_pauses(mut self) -> Self {
        self.surplus = Surplus::new(false);
        self
    }

    /// By so many millionths the last block is shorter in the ring than it was.
    fn shortening_ppm(&self) -> f64 {
        self.margin_ppm - self.stats.drift_ppm
    }

    /// What should wait in the ring just before a block is added, in milliseconds, once what the device took at its
    /// last call is counted as played piece by piece: the margin for its calling early and our being late. Just before
    /// a call that much is there beyond what the call takes.
    #[must_use]
    pub fn target_millis(&self) -> f64 {
        self.margin.millis()
    }

    /// Takes the next 10 ms at time `now` of the clock that the device's callbacks were told, and tells whether they
    /// will be heard. To be called every 10 ms.
    pub fn play_block(&mut self, now: Duration, block: &Block) -> bool {
        self.play_both(now, block, None)
    }

    /// The same with both channels, where there are two.
    pub fn play_wide(&mut self, now: Duration, block: &WideBlock) -> bool {
        self.play_both(now, &block.mid, block.side())
    }

    fn play_both(&mut self, now: Duration, block: &Block, side: Option<&Block>) -> bool {
        self.stats.blocks += 1;
        self.writer.fetch(Duration::ZERO);
        if self.writer.watch().last_callback().is_none() {
            // Nobody listens yet. What was put in now would only be old when somebody does.
            return false;
        }
        let missing = self.writer.watch().stats().missing_samples;
        if missing > self.missing_before {
            let more = (missing - self.missing_before) as f64 / self.samples_per_milli;
            self.missing_before = missing;
            self.stats.underruns += 1;
            self.margin.grow(more);
        }
        let filled = self.writer.filled_samples() as f64 / self.samples_per_milli;
        // What the device took at its last call it has been playing since.
        let played = pace::since_callback_millis(self.writer.watch(), now, self.samples_per_milli);
        self.stats.waiting_millis = filled - played;
        self.margin_ppm = 0.0;
        let excess = filled - played - self.target_millis();
        let mut cut = 0;
        if !self.primed || excess < -RESYNC_MILLIS {
            // A gap is heard anyway. Silence here spares the jitter buffer from giving out its reserve at once.
            let silence = (-excess * self.samples_per_milli).round().max(0.0) as usize;
            self.writer.put(&mut std::iter::repeat_n([0.0; 2], silence));
            if self.primed {
                self.stats.resyncs += 1;
            }
            self.primed = true;
            self.drift.forget_level();
            self.surplus.forget();
        } else if excess > RESYNC_MILLIS {
            // The device has stalled, or is gone. The ring's reader alone could empty it.
            self.stats.discarded_blocks += 1;
            self.drift.forget_level();
            self.surplus.forget();
            return false;
        } else {
            self.stats.drift_ppm = -self.drift.update(excess, BLOCK_DURATION);
            self.margin_ppm = self.margin.pass(filled - played, BLOCK_DURATION);
            self.resampler.set_correction_ppm(-self.shortening_ppm());
            let millis = self.surplus.cut_millis(excess, block, side);
            if millis > 0.0 {
                cut = (millis * self.samples_per_milli).round() as usize;
                self.stats.cuts += 1;
                self.drift.forget_level();
            }
        }
        let [samples, side] = self.resampler.convert_both(block, side);
        // Devices fill their whole buffer before they play, and what waits beyond that is only late. It is left out
        // once, at the very beginning.
        let late = if self.settled || self.writer.watch().stats().largest_callback_samples == 0 {
            0
        } else {
            (excess * self.samples_per_milli).round().max(0.0) as usize
        };
        self.settled |=
            self.writer.watch().stats().largest_callback_samples > 0 && late <= samples.len();
        // From what would be heard to what comes later, and on from there.
        let fade = 1.0 / cut.max(1) as f32;
        let at = |samples: &[f32], n: usize| samples.get(n).copied().unwrap_or(0.0);
        let faded = |samples: &[f32], n: usize| {
            let (later, sooner) = (at(samples, n + cut), at(samples, n));
            sooner + (n as f32 * fade).min(1.0) * (later - sooner)
        };
        let both = |n: usize| [samples[n], at(side, n)];
        let faded = |n: usize| [faded(samples, n), faded(side, n)];
        let length = samples.len();
        if cut == 0 {
            self.writer.put(&mut (late.min(length)..length).map(both));
        } else {
            self.writer
                .put(&mut (0..length.saturating_sub(cut)).map(faded));
        }
        true
    }

    /// The counters now.
    #[must_use]
    pub fn stats(&self) -> PlayoutStats {
        self.stats
    }
}

/// Brings blocks to the speaker that is there, if any, and to the echo canceller.
#[derive(Debug, Default)]
pub struct PlayoutLoop {
    playout: Option<Playout>,
    reference: Option<ReferenceWriter>,
    jumps: u64,
}

impl PlayoutLoop {
    /// Without a speaker yet; what each that comes is given goes into `reference` too.
    #[must_use]
    pub fn new(reference: Option<ReferenceWriter>) -> Self {
        Self {
            playout: None,
            reference,
            jumps: 0,
        }
    }

    /// From here on sound goes to this speaker, or nowhere.
    pub fn set_device(&mut self, playout: Option<Playout>) {
        self.playout = playout;
        self.jumps = 0;
        if let Some(reference) = &mut self.reference {
            reference.note_jump();
        }
    }

    /// Takes the next 10 ms, which are those of `beat`, at `now`; both on the clock of the devices. To be called every
    /// 10 ms.
    pub fn play_block(&mut self, now: Duration, beat: Duration, block: &Block) {
        self.play_both(now, beat, block, None);
    }

    /// The same with both channels, where there are two. The echo canceller is told the mix.
    pub fn play_wide(&mut self, now: Duration, beat: Duration, block: &WideBlock) {
        self.play_both(now, beat, &block.mid, block.side());
    }

    fn play_both(&mut self, now: Duration, beat: Duration, block: &Block, side: Option<&Block>) {
        let Some(playout) = &mut self.playout else {
            return;
        };
        let played = playout.play_both(now, block, side);
        if let Some(reference) = &mut self.reference {
            let PlayoutStats {
                discarded_blocks,
                underruns,
                resyncs,
                cuts,
                ..
            } = playout.stats;
            let jumps = discarded_blocks + underruns + resyncs + cuts + u64::from(playout.settled);
            if jumps != self.jumps {
                self.jumps = jumps;
                reference.note_jump();
            }
            let block = if played { block } else { &SILENCE };
            reference.write(beat, block, playout.shortening_ppm());
        }
    }

    /// The counters of the device in use.
    #[must_use]
    pub fn stats(&self) -> Option<PlayoutStats> {
        self.playout.as_ref().map(Playout::stats)
    }
}

/// The thread that pulls a block every 10 ms and brings it to the speaker.
#[derive(Debug)]
pub struct PlayoutWorker {
    worker: WorkerHandle<PlayoutStats>,
}

impl PlayoutWorker {
    /// Starts the thread. Each `Playout` that arrives by `playouts` takes the place of the one before: a device that
    /// was lost comes back with a new ring. Blocks are pulled in any case, so that the jitter buffer keeps its pace
    /// while there is no device.
    ///
    /// The thread goes before others if `raise_priority` and the system lets it.
    ///
    /// `now` tells the time that the devices' callbacks are told. `pull` runs on the thread every 10 ms, overwrites
    /// the whole block, in one channel or two, and must not block.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(
        playouts: Receiver<Option<Playout>>,
        raise_priority: bool,
        reference: Option<ReferenceWriter>,
        now: impl Fn() -> Duration + Send + 'static,
        mut pull: impl FnMut(&mut WideBlock) + Send + 'static,
    ) -> std::io::Result<Self> {
        let mut playout = PlayoutLoop::new(reference);
        let mut block = Box::<WideBlock>::default();
        let worker = WorkerHandle::start(
            "ahoy-playout",
            raise_priority,
            now,
            move |ticker: &mut Ticker, now, stats| {
                while let Ok(next) = playouts.try_recv() {
                    playout.set_device(next);
                }
                let at = now();
                let due = ticker.due_blocks(at);
                for beat in ticker.beats(due) {
                    pull(&mut block);
                    playout.play_wide(at, beat, &block);
                }
                if let Some(playout) = &mut playout.playout
                    && playout.writer.is_unsure()
                {
                    playout.writer.fetch(ticker.wait(now()));
                }
                // Without a device the counters stay as the last one left them.
                if let Some(current) = playout.stats() {
                    *stats = current;
                }
                0
            },
        )?;
        Ok(Self { worker })
    }

    /// The counters of the device in use.
    #[must_use]
    pub fn stats(&self) -> PlayoutStats {
        self.worker.stats()
    }

    /// Whether the thread goes before others.
    #[must_use]
    pub fn priority(&self) -> ThreadPriority {
        self.worker.priority()
    }
}

#[cfg(test)]
mod tests;
