//! A room in virtual time: files take the places of microphone and speaker, and what is played comes back.
//!
//! Between the two are the same loops, rings and stages as between real devices, so that a whole call can show what
//! becomes of an echo.

use std::{fmt, sync::Arc, time::Duration};

use realfft::{ComplexToReal, RealFftPlanner, RealToComplex, num_complex::Complex};

use super::{
    BLOCK_DURATION, BLOCK_SAMPLES, Block, SAMPLE_RATE_HZ, SILENCE,
    capture::{Capture, CaptureLoop, CaptureLoopStats, Voice},
    drift::DriftController,
    playout::{Playout, PlayoutLoop},
    reference::reference,
    resample::RateError,
    ring::{RingReader, RingWriter, ring},
    voice::{Chain, VoiceConfig},
};

const TWO_BLOCKS: usize = 2 * BLOCK_SAMPLES;

/// How long after the devices' calls the workers look.
const WORKERS_LATE: Duration = Duration::from_millis(2);

/// What a room makes of the sound in it, 10 ms at a time.
pub struct Room {
    forward: Arc<dyn RealToComplex<f32>>,
    inverse: Arc<dyn ComplexToReal<f32>>,
    response: Vec<Vec<Complex<f32>>>,
    inputs: Vec<Vec<Complex<f32>>>,
    before: Block,
    head: usize,
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room")
            .field("blocks", &self.response.len())
            .finish_non_exhaustive()
    }
}

impl Room {
    /// A room with this impulse response, 48 kHz. Without one nothing is heard in it.
    #[must_use]
    pub fn new(response: &[f32]) -> Self {
        let mut planner = RealFftPlanner::new();
        let forward = planner.plan_fft_forward(TWO_BLOCKS);
        let inverse = planner.plan_fft_inverse(TWO_BLOCKS);
        let nothing = [0.0];
        let response = if response.is_empty() {
            &nothing
        } else {
            response
        };
        let response: Vec<_> = response
            .chunks(BLOCK_SAMPLES)
            .map(|piece| {
                let mut time = forward.make_input_vec();
                time[..piece.len()].copy_from_slice(piece);
                transformed(&*forward, &mut time)
            })
            .collect();
        Self {
            inputs: vec![forward.make_output_vec(); response.len()],
            forward,
            inverse,
            response,
            before: SILENCE,
            head: 0,
        }
    }

    /// What is heard while `block` is played.
    #[must_use]
    pub fn pass(&mut self, block: &Block) -> Block {
        let count = self.response.len();
        self.head = (self.head + count - 1) % count;
        let mut time = self.forward.make_input_vec();
        time[..BLOCK_SAMPLES].copy_from_slice(&self.before);
        time[BLOCK_SAMPLES..].copy_from_slice(block);
        self.before = *block;
        self.inputs[self.head] = transformed(&*self.forward, &mut time);
        let mut sum = self.forward.make_output_vec();
        for (n, response) in self.response.iter().enumerate() {
            let input = &self.inputs[(self.head + n) % count];
            for ((sum, x), h) in sum.iter_mut().zip(input).zip(response) {
                *sum += x * h;
            }
        }
        // The inverse wants what a real signal's transform has: no imaginary part at both ends.
        sum[0].im = 0.0;
        sum[BLOCK_SAMPLES].im = 0.0;
        self.inverse
            .process(&mut sum, &mut time)
            .expect("the plan made all buffers' sizes");
        std::array::from_fn(|n| time[BLOCK_SAMPLES + n] / TWO_BLOCKS as f32)
    }
}

fn transformed(forward: &dyn RealToComplex<f32>, time: &mut [f32]) -> Vec<Complex<f32>> {
    let mut spectrum = forward.make_output_vec();
    forward
        .process(time, &mut spectrum)
        .expect("the plan made all buffers' sizes");
    spectrum
}

/// The impulse response from a speaker to a microphone 60 cm beside it on a desk, in a room of 5 m x 4 m x 2.7 m in which
/// sound needs so many seconds to fall by 60 dB; 48 kHz, by the image method (Allen, Berkley 1979). The same for the
/// same seed.
#[must_use]
pub fn impulse_response(reverberation_seconds: f64, seed: u64) -> Vec<f32> {
    let rate = f64::from(SAMPLE_RATE_HZ);
    let room = [5.0, 4.0, 2.7];
    let microphone = [2.0, 1.7, 0.9];
    let speaker = [2.5, 2.0, 1.0];
    let volume: f64 = room.iter().product();
    let surface = 2.0 * (room[0] * room[1] + room[1] * room[2] + room[2] * room[0]);
    // Eyring's formula for the reflection of walls that give this reverberation.
    let absorbed = 1.0 - (-0.161 * volume / (surface * reverberation_seconds)).exp();
    let reflection = (1.0 - absorbed).sqrt();
    let speed = 343.0;
    let length = (reverberation_seconds * rate) as usize;
    let reach = speed * reverberation_seconds;
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut jitter = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        0.05 * (2.0 * (random >> 11) as f64 / (1u64 << 53) as f64 - 1.0)
    };
    let mut response = vec![0.0f64; length + 8];
    let orders = room.map(|side| (reach / (2.0 * side)).ceil() as i32);
    for nx in -orders[0]..=orders[0] {
        for ny in -orders[1]..=orders[1] {
            for nz in -orders[2]..=orders[2] {
                for flips in 0..8 {
                    let (mut distance, mut bounces) = (0.0, 0);
                    for (axis, n) in [nx, ny, nz].into_iter().enumerate() {
                        let flip = flips >> axis & 1;
                        let sign = f64::from(1 - 2 * flip);
                        let image = sign * speaker[axis] + 2.0 * f64::from(n) * room[axis];
                        // Walls are not quite straight, which keeps the images from falling into step.
                        distance += (image - microphone[axis] + jitter()).powi(2);
                        bounces += (n - flip).abs() + n.abs();
                    }
                    let distance = distance.sqrt().max(0.1);
                    let at = distance / speed * rate;
                    let index = at as usize;
                    if index < length {
                        let gain = reflection.powi(bounces) / distance;
                        let rest = at - index as f64;
                        response[index] += gain * (1.0 - rest);
                        response[index + 1] += gain * rest;
                    }
                }
            }
        }
    }
    // A loudspeaker gives nothing below 100 Hz.
    let (mut before, mut out) = (0.0, 0.0);
    let keep = 1.0 - std::f64::consts::TAU * 100.0 / rate;
    response
        .iter()
        .map(|&x| {
            out = keep * (out + x - before);
            before = x;
            out as f32
        })
        .collect()
}

/// A speaker and a microphone in a [`Room`], and both workers' loops, without threads.
#[derive(Debug)]
pub struct RoomDevices {
    room: Room,
    speaker: RingReader,
    microphone: RingWriter,
    playout: PlayoutLoop,
    capture: CaptureLoop,
    ticks: u32,
}

impl RoomDevices {
    /// Devices in a room with this impulse response, 48 kHz; `config` is done to what the microphone hears.
    ///
    /// # Errors
    /// 48 kHz is not a rate that is converted: never.
    pub fn new(response: &[f32], config: VoiceConfig) -> Result<Self, RateError> {
        let (writer, reader) = reference();
        let voice = (!config.is_off()).then(|| Voice {
            processor: Box::new(Chain::new(config)),
            reference: Some(reader),
        });
        let (speaker_writer, speaker) = ring(SAMPLE_RATE_HZ);
        let (microphone, microphone_reader) = ring(SAMPLE_RATE_HZ);
        let mut playout = PlayoutLoop::new(voice.is_some().then_some(writer));
        playout.set_device(Some(Playout::new(
            speaker_writer,
            SAMPLE_RATE_HZ,
            DriftController::new(),
        )?));
        let mut capture = CaptureLoop::new(voice);
        capture.set_device(Some(Capture::new(
            microphone_reader,
            SAMPLE_RATE_HZ,
            DriftController::new(),
        )?));
        Ok(Self {
            room: Room::new(response),
            speaker,
            microphone,
            playout,
            capture,
            ticks: 0,
        })
    }

    /// The next 10 ms: plays `heard`, while somebody says `said`. Leaves there what goes to the codec.
    pub fn run(&mut self, heard: &Block, said: &mut Block) {
        let beat = BLOCK_DURATION * self.ticks;
        self.ticks = self.ticks.saturating_add(1);
        // The devices call just before the workers look.
        let mut played = SILENCE;
        self.speaker.read_to_device(&mut played, 1, beat, |s| s);
        for (sample, echo) in said.iter_mut().zip(self.room.pass(&played)) {
            *sample += echo;
        }
        self.microphone.write_from_device(&said[..], 1, beat, |s| s);
        let now = beat + WORKERS_LATE;
        self.playout.play_block(now, now, heard);
        self.capture.next_block(now, now, said);
    }

    /// The microphone's counters.
    #[must_use]
    pub fn stats(&self) -> CaptureLoopStats {
        self.capture.stats()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_answers_with_its_response_and_nothing_else() {
        let mut response = vec![0.0; 1000];
        response[0] = 0.5;
        response[700] = -0.25;
        let mut room = Room::new(&response);
        let mut click = SILENCE;
        click[7] = 1.0;
        let mut heard = Vec::new();
        for n in 0..4 {
            heard.extend_from_slice(&room.pass(if n == 0 { &click } else { &SILENCE }));
        }
        for (n, &sample) in heard.iter().enumerate() {
            let expected = match n {
                7 => 0.5,
                707 => -0.25,
                _quiet => 0.0,
            };
            assert!((sample - expected).abs() < 1e-5, "{n}: {sample}");
        }
        assert_eq!(Room::new(&[]).pass(&click), SILENCE);
    }

    #[test]
    fn what_is_said_arrives_unchanged_but_later_where_nothing_is_processed() {
        let mut devices = RoomDevices::new(&[], VoiceConfig::OFF).unwrap();
        let mut heard = 0;
        for n in 0..100u16 {
            let mut said = [f32::from(n + 1) / 128.0; BLOCK_SAMPLES];
            devices.run(&SILENCE, &mut said);
            heard += u32::from(said[240] > 0.0);
        }
        assert!(heard > 90, "{heard} blocks");
        assert_eq!(devices.stats().capture.underruns, 0);
    }
}
