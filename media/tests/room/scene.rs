//! A room with a speaker, a microphone and somebody in it, in virtual time, between the two workers' loops.

#![expect(
    clippy::unwrap_used,
    reason = "a scene that cannot be played is a failed test"
)]

use std::time::Duration;

use ahoy_media::audio::{
    BLOCK_DURATION, BLOCK_SAMPLES, Block, SILENCE,
    capture::{Capture, CaptureLoop, CaptureLoopStats, Voice},
    drift::DriftController,
    playout::{Playout, PlayoutLoop},
    reference::reference,
    ring::ring,
    room::{Room, impulse_response},
    voice::VoiceProcessor,
};

const RATE_HZ: f64 = 48_000.0;

/// Numbers from -1 to 1, the same for the same seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        2.0 * (self.0 >> 11) as f64 / (1u64 << 53) as f64 - 1.0
    }
}

/// Who talks when, and what lies between.
#[derive(Clone)]
pub(crate) struct Scene {
    /// From the network to the speaker.
    pub(crate) far: Vec<f32>,
    /// Into the microphone.
    pub(crate) near: Vec<f32>,
    /// Power of the echo against that of `far`, where it comes in; none with a headset.
    pub(crate) echo_db: Option<f64>,
    pub(crate) reverberation_seconds: f64,
    /// How much faster than the speaker's the microphone's clock runs.
    pub(crate) drift_ppm: f64,
    /// Converters and drivers delay by this.
    pub(crate) bulk_delay: Duration,
    /// From here on the delay is another: seconds from the beginning, and how much longer.
    pub(crate) delay_step: Option<(f64, Duration)>,
    /// From here on there is an echo, in seconds.
    pub(crate) echo_from: f64,
    /// The speaker bends what is loud.
    pub(crate) bent: bool,
    /// Steady noise at the microphone.
    pub(crate) noise_dbfs: f64,
    pub(crate) seed: u64,
}

impl Scene {
    pub(crate) fn new(far: Vec<f32>, near: Vec<f32>) -> Self {
        Self {
            far,
            near,
            echo_db: Some(-6.0),
            reverberation_seconds: 0.3,
            drift_ppm: 0.0,
            bulk_delay: Duration::from_millis(60),
            delay_step: None,
            echo_from: 0.0,
            bent: false,
            noise_dbfs: -62.0,
            seed: 1,
        }
    }

    /// What goes to the codec, and what was counted.
    pub(crate) fn run(
        &self,
        processor: Option<Box<dyn VoiceProcessor>>,
    ) -> (Vec<f32>, CaptureLoopStats) {
        let mut room = Room::new(&self.response());
        let mut random = Random::new(self.seed);
        let noise = 10f64.powf(self.noise_dbfs / 20.0) * 3f64.sqrt();
        let (writer, reader) = reference();
        let voice = processor.map(|processor| Voice {
            processor,
            reference: Some(reader),
        });
        let (speaker_writer, mut speaker) = ring(48_000);
        let (mut microphone, microphone_reader) = ring(48_000);
        let mut playout = PlayoutLoop::new(Some(writer));
        playout.set_device(Some(
            Playout::new(speaker_writer, 48_000, DriftController::new()).unwrap(),
        ));
        let mut capture = CaptureLoop::new(voice);
        capture.set_device(Some(
            Capture::new(microphone_reader, 48_000, DriftController::new()).unwrap(),
        ));

        let rate = RATE_HZ * (1.0 + self.drift_ppm * 1e-6);
        let bulk = (self.bulk_delay.as_secs_f64() * RATE_HZ) as usize;
        let step = self.delay_step.map(|(at, by)| {
            (
                (at * RATE_HZ) as usize,
                (by.as_secs_f64() * RATE_HZ) as usize,
            )
        });
        let echo_from = (self.echo_from * RATE_HZ) as usize;
        let total = self.near.len().max(self.far.len()) / BLOCK_SAMPLES;
        let length = (total + 20) * BLOCK_SAMPLES;
        // What the speaker makes of the room, on its clock.
        let mut echo = vec![0.0f32; length];
        let mut recorded = 0u64;
        let mut output = Vec::with_capacity(total * BLOCK_SAMPLES);
        let mut out = SILENCE;
        for tick in 0..total {
            let beat = BLOCK_DURATION * tick as u32;
            // The speaker's device calls 2 ms before our beat, the microphone's 4 ms before.
            let mut buffer = [0.0f32; BLOCK_SAMPLES];
            speaker.read_to_device(&mut buffer, 1, beat, |s| s);
            if self.bent {
                for sample in &mut buffer {
                    *sample = (3.0 * *sample).tanh() / 3.0;
                }
            }
            let heard = room.pass(&buffer);
            echo[tick * BLOCK_SAMPLES..][..BLOCK_SAMPLES].copy_from_slice(&heard);

            let mut far = SILENCE;
            copy_block(&self.far, tick, &mut far);
            playout.play_block(beat + ms(2), beat + ms(2), &far);

            let now = (tick + 1) as f64 * 0.01;
            while (recorded + BLOCK_SAMPLES as u64) as f64 / rate <= now {
                let mut block = SILENCE;
                for (n, sample) in block.iter_mut().enumerate() {
                    let at = (recorded + n as u64) as f64 / rate * RATE_HZ;
                    let index = at as usize;
                    let delay = match step {
                        Some((from, by)) if index >= from => bulk + by,
                        Some(_) | None => bulk,
                    };
                    let mut value = interpolate(&self.near, at);
                    if index >= delay && index >= echo_from {
                        value += interpolate(&echo, at - delay as f64);
                    }
                    *sample = value + (noise * random.next()) as f32;
                }
                recorded += BLOCK_SAMPLES as u64;
                let time = Duration::from_secs_f64(recorded as f64 / rate);
                microphone.write_from_device(&block, 1, time, |s| s);
            }
            capture.next_block(beat + ms(14), beat + ms(4), &mut out);
            output.extend_from_slice(&out);
        }
        (output, capture.stats())
    }

    fn response(&self) -> Vec<f32> {
        let Some(echo_db) = self.echo_db else {
            return vec![0.0; BLOCK_SAMPLES];
        };
        let response = impulse_response(self.reverberation_seconds, self.seed);
        // Speech has most of its power below 1 kHz: measured with itself.
        let mut probe = Room::new(&response);
        let (mut input, mut heard) = (0.0f64, 0.0f64);
        for tick in 0..self.far.len() / BLOCK_SAMPLES {
            let mut block = SILENCE;
            copy_block(&self.far, tick, &mut block);
            input += energy(&block);
            heard += energy(&probe.pass(&block));
        }
        let scale = (input / heard.max(1e-12) * 10f64.powf(echo_db / 10.0)).sqrt() as f32;
        response.iter().map(|tap| scale * tap).collect()
    }
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn copy_block(samples: &[f32], tick: usize, block: &mut Block) {
    let rest = samples.get(tick * BLOCK_SAMPLES..).unwrap_or_default();
    let count = rest.len().min(BLOCK_SAMPLES);
    block[..count].copy_from_slice(&rest[..count]);
}

/// `samples` between its samples: a windowed sinc over 32 of them.
fn interpolate(samples: &[f32], at: f64) -> f32 {
    let index = at.floor();
    let rest = at - index;
    let index = index as i64;
    let sample = |n: i64| -> f64 {
        usize::try_from(n)
            .ok()
            .and_then(|n| samples.get(n))
            .map_or(0.0, |&s| f64::from(s))
    };
    if rest < 1e-9 {
        return sample(index) as f32;
    }
    let mut sum = 0.0;
    for k in -15..=16i64 {
        let t = k as f64 - rest;
        let x = std::f64::consts::PI * t;
        let window = (x / 33.0).cos().powi(2);
        sum += sample(index + k) * x.sin() / x * window;
    }
    sum as f32
}

pub(crate) fn energy(samples: &[f32]) -> f64 {
    samples.iter().map(|&s| f64::from(s).powi(2)).sum()
}

/// In the median, by how many decibels `after` is quieter than `before`, in pieces of 100 ms from one second to
/// another, where there is something to hear before.
pub(crate) fn enhancement_db(before: &[f32], after: &[f32], from: f64, to: f64) -> f64 {
    let piece = 4800;
    let range = (from * RATE_HZ) as usize..((to * RATE_HZ) as usize).min(before.len());
    let mut gains: Vec<f64> = before[range.clone()]
        .chunks_exact(piece)
        .zip(after[range].chunks_exact(piece))
        .filter(|(before, _)| energy(before) > 1e-5 * piece as f64)
        .map(|(before, after)| 10.0 * (energy(before) / energy(after).max(1e-12)).log10())
        .collect();
    gains.sort_by(f64::total_cmp);
    gains.get(gains.len() / 2).copied().unwrap_or(0.0)
}

/// How much of `heard` is `wanted`, in decibels: the part of it that is proportional to `wanted` against the rest, from
/// one second to another. `heard` is later by `delay_samples`.
pub(crate) fn similarity_db(
    wanted: &[f32],
    heard: &[f32],
    delay_samples: usize,
    from: f64,
    to: f64,
) -> f64 {
    let range = (from * RATE_HZ) as usize
        ..((to * RATE_HZ) as usize).min(wanted.len().min(heard.len()) - delay_samples);
    let (mut ww, mut wh, mut hh) = (0.0, 0.0, 0.0);
    for n in range {
        let (w, h) = (f64::from(wanted[n]), f64::from(heard[n + delay_samples]));
        ww += w * w;
        wh += w * h;
        hh += h * h;
    }
    let same = wh * wh / ww;
    10.0 * (same / (hh - same).max(1e-12)).log10()
}
