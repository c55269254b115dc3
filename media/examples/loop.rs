//! Plays a WAV file through sender, network and receiver in virtual time:
//! `loop IN.wav OUT.wav [key=value]…`, both 48 kHz mono.
//!
//! Keys: `bitrate` (kbit/s, for everything), `ptime` (10, 20, 40, 60), `loss` (percent), `burst` (mean packets per
//! loss), `jitter` (milliseconds, uniform), `late` (so many seconds apart one packet is 15 ms late), `mode` (`plain`,
//! `fec`, `red`, `parity`, `dred`, or `auto` for what the policy does about the loss of a report 100 ms old), `plp` (percent told
//! to the encoder), `copies` and `distance` (of `red`), `complexity`, `decoder` (complexity, 0 for no network),
//! `enhance` (only below so many kbit/s), `keep` (0, 1: whether a late frame leaves time alone), `vbr` (0, 1), `repeat`
//! (times the input is played), `seed`. Prints to stderr what happened, with mouth to ear over the network's delay in
//! milliseconds.

use std::{
    error::Error,
    time::{Duration, Instant},
};

use ahoy_media::{
    audio::{
        neteq::NetEqConfig,
        opus::{EncoderConfig, FrameDuration, RateControl},
    },
    loss::{Copies, Loss, LossPolicy, Mode, Modes, Protection},
    pipeline::{
        recv::{RecvConfig, RecvPipeline},
        send::{SendConfig, SendPipeline},
    },
    rate::Bitrate,
    time::{BLOCK_DURATION, BLOCK_SAMPLES, SILENT_BLOCK},
};

/// One way of the network, besides jitter.
const NETWORK: Duration = Duration::from_millis(40);

/// What Opus looks ahead, in samples.
const LOOKAHEAD: i64 = 312;

/// What the reports of the other side say about packets of longer ago than this: its way back and a little.
const REPORTED_AFTER_PACKETS: usize = 5;

#[derive(Debug, Clone, Copy)]
struct Options {
    encoder: EncoderConfig,
    neteq: NetEqConfig,
    /// None: as the policy says.
    protection: Option<Protection>,
    late_every: f64,
    loss: f64,
    burst: f64,
    jitter_millis: f64,
    repeat: usize,
    seed: u64,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self, Box<dyn Error>> {
        let mut options = Self {
            encoder: EncoderConfig::default(),
            neteq: NetEqConfig::default(),
            protection: Some(Protection::default()),
            late_every: f64::INFINITY,
            loss: 0.0,
            burst: 1.0,
            jitter_millis: 0.0,
            repeat: 1,
            seed: 1,
        };
        let mut percent = 0;
        let mut copies = Copies::default();
        for argument in arguments {
            let (key, value) = argument
                .split_once('=')
                .ok_or("options look like key=value")?;
            let encoder = &mut options.encoder;
            match key {
                "bitrate" => encoder.bitrate = Bitrate::kbps(value.parse()?),
                "ptime" => {
                    encoder.frame = match value {
                        "10" => FrameDuration::Ms10,
                        "20" => FrameDuration::Ms20,
                        "40" => FrameDuration::Ms40,
                        "60" => FrameDuration::Ms60,
                        other => return Err(format!("no frames of {other} ms").into()),
                    }
                }
                "mode" => {
                    let mode = match value {
                        "auto" => None,
                        "plain" => Some(Mode::Plain),
                        "fec" => Some(Mode::Fec),
                        "red" => Some(Mode::Red),
                        "parity" => Some(Mode::Parity),
                        "dred" => Some(Mode::Dred),
                        other => return Err(format!("no mode {other}").into()),
                    };
                    options.protection = mode.map(|mode| Protection {
                        mode,
                        ..Protection::default()
                    });
                }
                "copies" => copies.count = value.parse()?,
                "distance" => copies.distance = value.parse()?,
                "plp" => percent = value.parse()?,
                "decoder" => options.neteq.decoder_complexity = value.parse()?,
                "enhance" => options.neteq.enhance_below = Bitrate::kbps(value.parse()?),
                "keep" => options.neteq.keep_time = value == "1",
                "late" => options.late_every = value.parse()?,
                "complexity" => encoder.complexity = value.parse()?,
                "vbr" if value == "1" => encoder.rate_control = RateControl::Variable,
                "vbr" => encoder.rate_control = RateControl::Constant,
                "loss" => options.loss = value.parse::<f64>()? / 100.0,
                "burst" => options.burst = value.parse()?,
                "jitter" => options.jitter_millis = value.parse()?,
                "repeat" => options.repeat = value.parse()?,
                "seed" => options.seed = value.parse()?,
                other => return Err(format!("no option {other}").into()),
            }
        }
        if let Some(protection) = &mut options.protection {
            protection.loss_percent = percent;
            protection.copies = copies;
        }
        Ok(options)
    }
}

/// The loss that the other side reports, as the session measures it.
#[derive(Debug, Default)]
struct Meter {
    fates: Vec<bool>,
    sums: [f32; 4],
    run: f32,
}

impl Meter {
    fn sent(&mut self, lost: bool) {
        self.fates.push(lost);
        let Some(told) = self.fates.len().checked_sub(1 + REPORTED_AFTER_PACKETS) else {
            return;
        };
        let lost = self.fates[told];
        let [packets, losses, bursts, in_bursts] = &mut self.sums;
        *packets = *packets * 0.995 + 1.0;
        *losses = *losses * 0.995 + f32::from(u8::from(lost));
        if lost {
            self.run += 1.0;
        } else if self.run > 0.0 {
            *bursts = *bursts * 0.9 + 1.0;
            *in_bursts = *in_bursts * 0.9 + std::mem::take(&mut self.run);
        }
    }

    fn loss(&self) -> Loss {
        let [packets, losses, bursts, in_bursts] = self.sums;
        Loss {
            fraction: losses / packets.max(50.0),
            mean_burst: (in_bursts + 2.0) / (bursts + 2.0),
        }
    }
}

/// SplitMix64: 0.0..1.0.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [input, output, rest @ ..] = arguments.as_slice() else {
        return Err("usage: loop IN.wav OUT.wav [key=value]…".into());
    };
    let options = Options::parse(rest)?;
    let clean = read(input)?.repeat(options.repeat);
    let heard = play(&clean, options)?;
    write(output, &heard)
}

fn play(clean: &[f32], options: Options) -> Result<Vec<f32>, Box<dyn Error>> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the only way to make an Instant; only differences matter"
    )]
    let origin = Instant::now();
    let mut random = Random(options.seed);
    let mut sender = SendPipeline::new(SendConfig {
        encoder: options.encoder,
        ..SendConfig::new(1)
    })?;
    let mut receiver = RecvPipeline::new(RecvConfig {
        neteq: options.neteq,
        ..RecvConfig::default()
    })?;
    let mut policy = LossPolicy::new(Modes::ALL);
    policy.set_room(true);
    let mut meter = Meter::default();
    if let Some(protection) = options.protection {
        sender.protect(protection);
    }
    let (mut delays, mut next_late) = (Vec::new(), options.late_every);
    // Gilbert-Elliott: in the bad state everything is lost.
    let leave = 1.0 / options.burst.max(1.0);
    let enter = if options.loss < 1.0 {
        leave * options.loss / (1.0 - options.loss)
    } else {
        1.0
    };
    let mut bad = false;
    let mut under_way: Vec<(Instant, Vec<u8>)> = Vec::new();
    let mut heard = Vec::with_capacity(clean.len());
    let mut block = SILENT_BLOCK;
    let mut now = origin;
    for samples in clean.chunks_exact(BLOCK_SAMPLES) {
        now += BLOCK_DURATION;
        if let Some(packet) = sender.push_block(now, samples.try_into()?) {
            let turned = if options.burst <= 1.0 {
                random.next() < options.loss
            } else if bad {
                random.next() >= leave
            } else {
                random.next() < enter
            };
            bad = turned;
            let mut late = Duration::ZERO;
            let seconds = now.duration_since(origin).as_secs_f64();
            if seconds >= next_late {
                next_late += options.late_every;
                late = Duration::from_millis(15);
            }
            let jitter = Duration::from_secs_f64(options.jitter_millis * random.next() / 1000.0);
            if !bad {
                under_way.push((now + NETWORK + jitter + late, packet.to_vec()));
            }
            meter.sent(bad);
            if options.protection.is_none() {
                let base = sender.encoder_config();
                sender.protect(policy.update(now, meter.loss(), base));
            }
        }
        let pulled = now + Duration::from_millis(3);
        under_way.sort_by_key(|(arrival, _)| *arrival);
        let due = under_way.partition_point(|(arrival, _)| *arrival <= pulled);
        for (arrival, packet) in under_way.drain(..due) {
            receiver.insert_packet(arrival, &packet)?;
        }
        let info = receiver.get_audio(pulled, &mut block);
        heard.extend_from_slice(&block);
        if let Some(time) = info.time {
            let elapsed = pulled.duration_since(origin).saturating_sub(NETWORK);
            delays.push(elapsed.as_secs_f64() * 1000.0 - (time.0 - LOOKAHEAD) as f64 / 48.0);
        }
    }
    delays.sort_by(f64::total_cmp);
    let quantile = |part: f64| {
        let place = (delays.len() as f64 * part) as usize;
        delays.get(place).copied().unwrap_or(f64::NAN)
    };
    let stats = receiver.stats();
    eprintln!("{:?} {stats:?}", sender.stats());
    eprintln!(
        "delay {:.1} p95 {:.1} ms, concealed {:.2} %, recovered fec {} red {} dred {} of {} lost, last {:?}",
        quantile(0.5),
        quantile(0.95),
        stats.concealed_fraction() * 100.0,
        stats.frames_recovered_fec,
        stats.frames_recovered_red,
        stats.frames_recovered_dred,
        stats.packets_lost,
        sender.protection(),
    );
    Ok(heard)
}

fn read(path: &str) -> Result<Vec<f32>, Box<dyn Error>> {
    let mut reader = hound::WavReader::open(path)?;
    let spec = reader.spec();
    if spec.sample_rate != 48_000 || spec.channels != 1 || spec.bits_per_sample != 16 {
        return Err("the input must be 48 kHz, mono, 16 bit".into());
    }
    let samples: Result<Vec<_>, _> = reader.samples::<i16>().collect();
    Ok(samples?
        .into_iter()
        .map(|sample| f32::from(sample) / 32768.0)
        .collect())
}

fn write(path: &str, samples: &[f32]) -> Result<(), Box<dyn Error>> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 48_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path, spec)?;
    for sample in samples {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "clamped to the range of i16"
        )]
        writer.write_sample((sample * 32768.0).round().clamp(-32768.0, 32767.0) as i16)?;
    }
    writer.finalize()?;
    Ok(())
}
