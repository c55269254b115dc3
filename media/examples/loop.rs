//! Plays a WAV file through sender, network and receiver in virtual time:
//! `loop IN.wav OUT.wav [key=value]…`, both 48 kHz mono.
//!
//! Keys: `bitrate` (kbit/s), `ptime` (10, 20, 40, 60), `loss` (percent), `burst` (mean packets per loss),
//! `jitter` (milliseconds, uniform), `fec` (0, 1), `plp` (percent told to the encoder), `complexity`, `vbr`
//! (0, 1), `repeat` (times the input is played), `seed`. Prints the statistics to stderr.

use std::{
    error::Error,
    time::{Duration, Instant},
};

use ahoy_media::{
    audio::opus::{EncoderConfig, FrameDuration, RateControl},
    pipeline::{
        recv::{RecvConfig, RecvPipeline},
        send::{SendConfig, SendPipeline},
    },
    rate::Bitrate,
    time::{BLOCK_DURATION, BLOCK_SAMPLES, SILENT_BLOCK},
};

/// One way of the network, besides jitter.
const NETWORK: Duration = Duration::from_millis(40);

#[derive(Debug, Clone, Copy)]
struct Options {
    encoder: EncoderConfig,
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
            loss: 0.0,
            burst: 1.0,
            jitter_millis: 0.0,
            repeat: 1,
            seed: 1,
        };
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
                "fec" => encoder.fec = value == "1",
                "plp" => encoder.expected_loss_percent = value.parse()?,
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
        Ok(options)
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
    let mut receiver = RecvPipeline::new(RecvConfig::default())?;
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
            let jitter = Duration::from_secs_f64(options.jitter_millis * random.next() / 1000.0);
            if !bad {
                under_way.push((now + NETWORK + jitter, packet.to_vec()));
            }
        }
        let pulled = now + Duration::from_millis(3);
        under_way.sort_by_key(|(arrival, _)| *arrival);
        let due = under_way.partition_point(|(arrival, _)| *arrival <= pulled);
        for (arrival, packet) in under_way.drain(..due) {
            receiver.insert_packet(arrival, &packet)?;
        }
        receiver.get_audio(pulled, &mut block);
        heard.extend_from_slice(&block);
    }
    eprintln!("{:?} {:?}", sender.stats(), receiver.stats());
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
