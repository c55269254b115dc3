//! From the microphone's ring to blocks on our clock.
//!
//! [`Capture`] is asked for a block every 10 ms, by a clock that is not the microphone's. It keeps just enough
//! sound in the ring to survive the usual lateness of a callback, and lets a [`DriftController`] follow the difference
//! of the clocks. What is later than usual is waited for: the listener's jitter buffer knows how to bridge a packet that
//! comes late, and nobody can mend a hole in what was said. [`CaptureLoop`] makes a voice of it that is fit to be sent.
//! Neither has a thread or a clock of its own; [`CaptureWorker`] is the thread.

use std::{
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    time::Duration,
};

use super::{
    BLOCK_DURATION, Block, SILENCE,
    drift::DriftController,
    pace::{self, Margin, RESYNC_MILLIS, Ticker, WorkerHandle},
    priority::ThreadPriority,
    reference::{ReferenceReader, ReferenceStats},
    resample::{Quality, RateError, ToBlocks},
    ring::{Inlet, RingReader},
    voice::{VoiceConfig, VoiceProcessor, VoiceStats},
    wide::WideBlock,
};

/// What happened on the way from the ring to blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CaptureStats {
    /// Blocks given, silence included.
    pub blocks: u64,
    /// Blocks of silence because the device had nothing.
    pub silent_blocks: u64,
    /// Times that the ring ran empty while sound was flowing.
    pub underruns: u64,
    /// Blocks that were waited for: each time that it was looked and they were not whole.
    pub waits: u64,
    /// Times that sound was skipped because too much of it had gathered.
    pub resyncs: u64,
    /// How much faster than ours the device's clock runs, as far as that is known, in parts per million.
    pub drift_ppm: f64,
    /// Sound waiting in the ring before the last block was taken, in milliseconds.
    pub waiting_millis: f64,
}

/// Makes blocks out of a microphone's ring, one per tick of our clock.
#[derive(Debug)]
pub struct Capture {
    reader: RingReader,
    /// What fills the ring when it is asked, where nobody calls back.
    inlet: Option<Box<dyn Inlet>>,
    resampler: ToBlocks,
    drift: DriftController,
    samples_per_milli: f64,
    input: Vec<f32>,
    side: Vec<f32>,
    margin: Margin,
    flowing: bool,
    /// Blocks that are due after the next one and were waited for with it.
    owed_after: u32,
    /// How much faster the ring was emptied at the last block, so that less waits in it.
    margin_ppm: f64,
    stats: CaptureStats,
}

impl Capture {
    /// Takes from `reader`, whose device runs at `rate_hz`.
    ///
    /// # Errors
    /// The rate is not one that is converted.
    pub fn new(
        reader: RingReader,
        rate_hz: u32,
        drift: DriftController,
    ) -> Result<Self, RateError> {
        let resampler = ToBlocks::new(rate_hz, Quality::Live)?;
        Ok(Self {
            reader,
            inlet: None,
            input: vec![0.0; resampler.max_input_samples()],
            side: vec![0.0; resampler.max_input_samples()],
            resampler,
            drift,
            samples_per_milli: f64::from(rate_hz) / 1000.0,
            margin: Margin::usual(),
            flowing: false,
            owed_after: 0,
            margin_ppm: 0.0,
            stats: CaptureStats::default(),
        })
    }

    /// The ring is filled by `inlet`, which is asked before blocks are taken.
    #[must_use]
    pub fn fetched_by(mut self, inlet: impl Inlet + 'static) -> Self {
        self.inlet = Some(Box::new(inlet));
        self
    }

    /// Keeps as much in reserve as at first, however punctual the device is: what there would be without looking.
    #[must_use]
    pub fn with_fixed_margin(mut self) -> Self {
        self.margin = Margin::fixed();
        self
    }

    /// What should wait in the ring just before a block is taken, in milliseconds: that block, what the device
    /// brings at once, and the margin for its being late.
    #[must_use]
    pub fn target_millis(&self) -> f64 {
        let watch = self.reader.watch();
        let callback = match watch.stats().largest_callback_samples {
            // A microphone has nothing to fill: its first calls are as good a guess.
            0 => watch.first_callbacks_samples() as f64,
            largest => largest as f64,
        };
        BLOCK_DURATION.as_secs_f64() * 1e3
            + pace::expected_callback_millis(callback / self.samples_per_milli)
            + self.margin.millis()
    }

    /// Takes in what the device has to give, where it is asked for that; where there is nothing, waits until there is or
    /// for `limit`. Returns whether it is asked at all.
    pub(super) fn fetch(&mut self, limit: Duration) -> bool {
        let inlet = self.inlet.as_mut();
        inlet.map(|inlet| inlet.fetch(limit)).is_some()
    }

    /// Whether sound flows and the next block is not whole yet. Counts as a wait.
    fn must_wait(&mut self) -> bool {
        let missing = self.resampler.input_samples() > self.reader.filled_samples();
        let waits = self.flowing && missing;
        if waits {
            self.stats.waits += 1;
            let filled = self.reader.filled_samples() as f64 / self.samples_per_milli;
            self.margin
                .note(filled - BLOCK_DURATION.as_secs_f64() * 1e3);
        }
        waits
    }

    /// By so many millionths the last block is shorter than what it was made from.
    fn shortening_ppm(&self) -> f64 {
        self.stats.drift_ppm + self.margin_ppm
    }

    /// The next 10 ms at time `now` of the clock that the device's callbacks were told; silence when there is
    /// nothing. To be called every 10 ms.
    pub fn next_block(&mut self, now: Duration, block: &mut Block) {
        self.next_both(now, block, None);
    }

    /// The same with both channels of the device, where it has two.
    pub fn next_wide(&mut self, now: Duration, block: &mut WideBlock) {
        let (mid, side) = block.set_stereo();
        self.next_both(now, mid, Some(side));
    }

    fn next_both(&mut self, now: Duration, block: &mut Block, side: Option<&mut Block>) {
        self.stats.blocks += 1;
        let block_millis = BLOCK_DURATION.as_secs_f64() * 1e3;
        let target = self.target_millis() + f64::from(self.owed_after) * block_millis;
        let filled = self.reader.filled_samples() as f64 / self.samples_per_milli;
        // What the device has recorded and not delivered yet is on its way all the same. Without this the level
        // would saw between callbacks, slower and slower the closer the clocks are.
        let under_way =
            pace::since_callback_millis(self.reader.watch(), now, self.samples_per_milli);
        self.stats.waiting_millis = filled + under_way;
        self.margin_ppm = 0.0;
        if !self.flowing && filled + under_way < target {
            self.give_silence(block, side);
            return;
        }
        let excess = filled + under_way - target;
        // What is there beyond the block, before the callback that is due brings more.
        let spare = filled - block_millis;
        if !self.flowing || excess > RESYNC_MILLIS {
            self.reader
                .skip((excess * self.samples_per_milli).round() as usize);
            self.stats.resyncs += u64::from(self.flowing);
            self.flowing = true;
            self.drift.forget_level();
        } else {
            self.drift.update(excess, BLOCK_DURATION);
            self.margin_ppm = self.margin.pass(spare, BLOCK_DURATION);
        }
        self.stats.drift_ppm = self.drift.correction_ppm();
        self.resampler.set_correction_ppm(self.shortening_ppm());

        let wanted = self.resampler.input_samples();
        let got = if side.is_some() {
            self.reader
                .read_both(&mut self.input[..wanted], &mut self.side[..wanted])
        } else {
            self.reader.read(&mut self.input[..wanted])
        };
        let input = [&self.input[..got], &self.side[..got]];
        self.resampler.fill_both(input, block, side);
        if got < wanted {
            self.stats.underruns += 1;
            self.flowing = false;
            self.drift.forget_level();
        }
    }

    fn give_silence(&mut self, block: &mut Block, side: Option<&mut Block>) {
        self.stats.silent_blocks += 1;
        // What the filter still holds comes out first, so that sound ends softly.
        self.resampler.fill_both([&[], &[]], block, side);
    }

    /// The counters now.
    #[must_use]
    pub fn stats(&self) -> CaptureStats {
        self.stats
    }
}

/// What is done to the microphone's sound before it is handed on.
#[derive(Debug)]
pub struct Voice {
    /// What processes it.
    pub processor: Box<dyn VoiceProcessor>,
    /// What is handed to the speaker meanwhile; none where there is no speaker.
    pub reference: Option<ReferenceReader>,
}

/// All counters of the microphone's side.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CaptureLoopStats {
    /// From the device in use to blocks.
    pub capture: CaptureStats,
    /// What was done to the voice.
    pub voice: VoiceStats,
    /// What came from the speaker's side.
    pub reference: ReferenceStats,
}

/// Takes a block from the microphone that is there, if any, and processes it.
#[derive(Debug, Default)]
pub struct CaptureLoop {
    capture: Option<Capture>,
    voice: Option<Voice>,
    jumps: u64,
    /// Blocks that are due, the next one among them.
    due: u32,
    impatient: bool,
}

/// So many blocks that are due are waited for at most, before the first of them is silence.
const PATIENCE_BLOCKS: u32 = 6;

impl CaptureLoop {
    /// Without a microphone yet; `voice` is done to the sound of each that comes.
    #[must_use]
    pub fn new(voice: Option<Voice>) -> Self {
        Self {
            capture: None,
            voice,
            ..Self::default()
        }
    }

    /// Waits for nothing: what is late by more than the margin is silence, as there would be without patience.
    #[must_use]
    pub fn impatient(mut self) -> Self {
        self.impatient = true;
        self
    }

    /// As [`Capture::fetch`] of the microphone that is there.
    fn fetch(&mut self, limit: Duration) -> bool {
        self.capture.as_mut().is_some_and(|c| c.fetch(limit))
    }

    /// Whether there is a microphone that is asked, and it has become uncertain when it brings something.
    fn is_unsure(&self) -> bool {
        let inlet = self.capture.as_ref().and_then(|c| c.inlet.as_ref());
        inlet.is_some_and(|inlet| inlet.is_unsure())
    }

    /// Hands on the blocks that are due at `now`, both channels of a microphone that has two where nothing is done to the
    /// voice. What is late is handed on when it has come, or silence in its place if that takes too long. Returns whether
    /// something is waited for.
    fn run(
        &mut self,
        ticker: &mut Ticker,
        now: Duration,
        block: &mut WideBlock,
        mut on_block: impl FnMut(&WideBlock, Duration),
    ) -> bool {
        self.due += ticker.due_blocks(now);
        for beat in ticker.beats(self.due) {
            let patient = !self.impatient && self.due <= PATIENCE_BLOCKS;
            if patient && self.capture.as_mut().is_some_and(Capture::must_wait) {
                return true;
            }
            self.next_wide(now, beat, block);
            self.due -= 1;
            on_block(block, BLOCK_DURATION * self.due);
        }
        false
    }

    /// From here on sound comes from this microphone, or there is silence.
    pub fn set_device(&mut self, capture: Option<Capture>) {
        self.capture = capture;
        self.jumps = 0;
        if let Some(voice) = &mut self.voice {
            voice.processor.note_jump();
        }
    }

    /// From here on these are the stages of the voice's processing; nothing where there is none.
    pub fn configure_voice(&mut self, config: VoiceConfig) {
        if let Some(voice) = &mut self.voice {
            voice.processor.configure(config);
        }
    }

    /// The next 10 ms, which are those of `beat`, taken at `now`; both on the clock of the devices. To be called every
    /// 10 ms.
    pub fn next_block(&mut self, now: Duration, beat: Duration, block: &mut Block) {
        self.next_both(now, beat, block, None);
    }

    /// The same with both channels of the microphone, where it has two and nothing is done to the voice.
    pub fn next_wide(&mut self, now: Duration, beat: Duration, block: &mut WideBlock) {
        let is_untouched = |voice: &Voice| voice.processor.is_off();
        if self.capture.is_some() && self.voice.as_ref().is_some_and(is_untouched) {
            let (mid, side) = block.set_stereo();
            self.next_both(now, beat, mid, Some(side));
        } else {
            block.set_mono();
            self.next_both(now, beat, &mut block.mid, None);
        }
    }

    fn next_both(
        &mut self,
        now: Duration,
        beat: Duration,
        block: &mut Block,
        mut side: Option<&mut Block>,
    ) {
        let mut jumped = false;
        let mut shortening_ppm = 0.0;
        match &mut self.capture {
            Some(capture) => {
                capture.owed_after = self.due.saturating_sub(1);
                capture.next_both(now, block, side.as_deref_mut());
                let jumps = capture.stats.underruns + capture.stats.resyncs;
                jumped = jumps != self.jumps;
                self.jumps = jumps;
                shortening_ppm = capture.shortening_ppm();
            }
            None => *block = SILENCE,
        }
        if let Some(voice) = &mut self.voice {
            if let Some(reference) = &mut voice.reference {
                let mut rendered = SILENCE;
                let told = reference.read(beat, &mut rendered);
                jumped |= told.jumped;
                shortening_ppm += told.shortening_ppm;
                voice.processor.render(&rendered, shortening_ppm);
            }
            if jumped {
                voice.processor.note_jump();
            }
            voice.processor.capture(block);
        }
        for sample in side.into_iter().flatten() {
            // As the voice's processing does.
            if !sample.is_finite() {
                *sample = 0.0;
            }
        }
    }

    /// The counters now.
    #[must_use]
    pub fn stats(&self) -> CaptureLoopStats {
        let voice = self.voice.as_ref();
        let reference = voice.and_then(|voice| voice.reference.as_ref());
        CaptureLoopStats {
            capture: self
                .capture
                .as_ref()
                .map_or_else(CaptureStats::default, Capture::stats),
            voice: voice.map_or_else(VoiceStats::default, |voice| voice.processor.stats()),
            reference: reference.map_or_else(ReferenceStats::default, ReferenceReader::stats),
        }
    }
}

/// The thread that takes a block from the microphone every 10 ms and hands it on.
#[derive(Debug)]
pub struct CaptureWorker {
    worker: WorkerHandle<CaptureLoopStats>,
    configs: SyncSender<VoiceConfig>,
}

/// Changes of the voice's processing that wait for the worker. It looks every 10 ms.
const CONFIG_QUEUE: usize = 16;

impl CaptureWorker {
    /// Starts the thread. Each `Capture` that arrives by `captures` takes the place of the one before: a device that
    /// was lost comes back with a new ring. Until the first comes, and while there is none, blocks are silent.
    ///
    /// The thread goes before others if `raise_priority` and the system lets it.
    ///
    /// `now` tells the time that the devices' callbacks are told. `on_block` runs on the thread and must not block for
    /// longer than a few times 10 ms. It is told how long ago its block was due, and tells how many more have to come
    /// until something is made of them: if that is more than one, the thread sleeps until there are two.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(
        captures: Receiver<Option<Capture>>,
        raise_priority: bool,
        voice: Option<Voice>,
        now: impl Fn() -> Duration + Send + 'static,
        mut on_block: impl FnMut(&WideBlock, Duration) -> usize + Send + 'static,
    ) -> std::io::Result<Self> {
        let mut capture = CaptureLoop::new(voice);
        let mut block = Box::<WideBlock>::default();
        let (configs, wanted) = sync_channel(CONFIG_QUEUE);
        let worker = WorkerHandle::start(
            "ahoy-capture",
            raise_priority,
            now,
            move |ticker: &mut Ticker, now, stats: &mut CaptureLoopStats| {
                while let Ok(next) = captures.try_recv() {
                    capture.set_device(next);
                }
                while let Ok(config) = wanted.try_recv() {
                    capture.configure_voice(config);
                }
                capture.fetch(Duration::ZERO);
                let mut missing = 0;
                let mut on_block = |block: &WideBlock, ago| missing = on_block(block, ago);
                // What is late is taken when it comes, if that can be waited for, or at the next beat.
                while capture.run(ticker, now(), &mut block, &mut on_block)
                    && capture.fetch(ticker.wait(now()))
                    && !ticker.wait(now()).is_zero()
                {}
                if capture.is_unsure() {
                    capture.fetch(ticker.wait(now()));
                }
                let current = capture.stats();
                // Without a device the counters stay as the last one left them.
                if current.capture.blocks > 0 {
                    stats.capture = current.capture;
                }
                (stats.voice, stats.reference) = (current.voice, current.reference);
                u32::from(missing > 1)
            },
        )?;
        Ok(Self { worker, configs })
    }

    /// From the next block on these are the stages of the voice's processing. Never waits.
    pub fn configure_voice(&self, config: VoiceConfig) {
        if self.configs.try_send(config).is_err() {
            tracing::warn!("the audio worker does not answer");
        }
    }

    /// The counters of the device in use, and of what is done to its sound.
    #[must_use]
    pub fn stats(&self) -> CaptureLoopStats {
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
