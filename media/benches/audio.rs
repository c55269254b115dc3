//! What a block costs: `cargo bench -p ahoy-media`. A block lasts 10 ms; 1 % of that is 100 µs.

use std::{hint::black_box, time::Instant};

use ahoy_media::{
    audio::{
        opus::{EncoderConfig, MAX_ENCODED_BYTES, MAX_PACKET_SAMPLES, OpusDecoder, OpusEncoder},
        voice::{Chain, VoiceConfig, VoiceProcessor},
    },
    pipeline::{
        recv::{RecvConfig, RecvPipeline},
        send::{SendConfig, SendPipeline},
    },
    time::{BLOCK_DURATION, BLOCK_SAMPLES, Block, SILENT_BLOCK},
};
use criterion::{Criterion, criterion_group, criterion_main};

#[path = "../tests/room/webrtc.rs"]
mod webrtc;

use webrtc::WebrtcChain;

/// Two seconds of something voiced, in blocks.
fn signal() -> Vec<Block> {
    let sample = |n: usize| {
        let t = n as f32 / 48_000.0;
        let pitch = (t * 120.0 * std::f32::consts::TAU).sin().powi(9);
        0.4 * pitch * (0.6 + 0.4 * (t * 5.0).sin())
    };
    let samples: Vec<f32> = (0..200 * BLOCK_SAMPLES).map(sample).collect();
    let block = |chunk: &[f32]| -> Block {
        let mut block = SILENT_BLOCK;
        block.copy_from_slice(chunk);
        block
    };
    samples.chunks_exact(BLOCK_SAMPLES).map(block).collect()
}

fn origin() -> Instant {
    #[expect(
        clippy::disallowed_methods,
        reason = "the only way to make an Instant; only differences matter"
    )]
    Instant::now()
}

/// Never fails with the default settings; a bench has nobody to tell.
fn must<T, E: std::fmt::Debug>(result: Result<T, E>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{error:?}"),
    }
}

fn codec(criterion: &mut Criterion) {
    let frames: Vec<f32> = signal().concat();
    let mut frames = frames.chunks_exact(960).cycle();
    let mut encoder = must(OpusEncoder::new(EncoderConfig::default()));
    let mut packet = [0; MAX_ENCODED_BYTES];
    criterion.bench_function("encode 20 ms", |bencher| {
        bencher.iter(|| {
            frames
                .next()
                .map(|frame| must(encoder.encode(frame, black_box(&mut packet))))
        });
    });
    let packets: Vec<Vec<u8>> = (0..100)
        .filter_map(|_| {
            frames
                .next()
                .map(|frame| must(encoder.encode(frame, &mut packet)))
                .map(|len| packet[..len].to_vec())
        })
        .collect();
    let mut packets = packets.iter().cycle();
    let mut decoder = must(OpusDecoder::new());
    let mut pcm = [0.0; MAX_PACKET_SAMPLES];
    criterion.bench_function("decode 20 ms", |bencher| {
        bencher.iter(|| {
            packets
                .next()
                .map(|packet| must(decoder.decode(packet, black_box(&mut pcm))))
        });
    });
}

/// Runs sender and receiver block by block; every `lose`-th packet is lost, each is up to `jitter` blocks late.
struct Call {
    sender: SendPipeline,
    receiver: RecvPipeline,
    blocks: std::iter::Cycle<std::vec::IntoIter<Block>>,
    under_way: Vec<(u64, Vec<u8>)>,
    now: Instant,
    tick: u64,
    lose: u64,
    jitter: u64,
}

impl Call {
    fn new(lose: u64, jitter: u64) -> Self {
        Self {
            sender: must(SendPipeline::new(SendConfig::new(1))),
            receiver: must(RecvPipeline::new(RecvConfig::default())),
            blocks: signal().into_iter().cycle(),
            under_way: Vec::new(),
            now: origin(),
            tick: 0,
            lose,
            jitter,
        }
    }

    fn block(&mut self, out: &mut Block) {
        let block = self.blocks.next().unwrap_or(SILENT_BLOCK);
        if let Some(packet) = self.sender.push_block(self.now, &block)
            && self.tick / 2 % self.lose != self.lose - 1
        {
            let late = self.tick.wrapping_mul(0x5851_f42d) / 7 % (self.jitter + 1);
            self.under_way.push((self.tick + late, packet.to_vec()));
        }
        let tick = self.tick;
        let (receiver, now) = (&mut self.receiver, self.now);
        self.under_way.retain(|(due, packet)| {
            if *due <= tick {
                let _late = receiver.insert_packet(now, packet);
            }
            *due > tick
        });
        self.receiver.get_audio(self.now, out);
        self.now += BLOCK_DURATION;
        self.tick += 1;
    }
}

fn neteq(criterion: &mut Criterion) {
    // Packets are made beforehand, so that only the receiver is measured.
    let mut sender = must(SendPipeline::new(SendConfig::new(1)));
    let mut now = origin();
    let mut packets = Vec::new();
    for block in signal().into_iter().cycle().take(60_000) {
        packets.push(sender.push_block(now, &block).map(<[u8]>::to_vec));
        now += BLOCK_DURATION;
    }
    criterion.bench_function("get_audio, clean", |bencher| {
        let mut receiver = must(RecvPipeline::new(RecvConfig::default()));
        let mut blocks = packets.iter();
        let mut now = origin();
        let mut out = SILENT_BLOCK;
        bencher.iter(|| {
            let next = blocks.next().or_else(|| {
                receiver = must(RecvPipeline::new(RecvConfig::default()));
                blocks = packets.iter();
                blocks.next()
            });
            if let Some(Some(packet)) = next {
                must(receiver.insert_packet(now, packet));
            }
            now += BLOCK_DURATION;
            receiver.get_audio(now, black_box(&mut out))
        });
    });
}

fn pipeline(criterion: &mut Criterion) {
    let mut out = SILENT_BLOCK;
    for (name, lose, jitter) in [
        ("block, clean", u64::MAX, 0),
        ("block, jitter", u64::MAX, 6),
        ("block, 10 % loss", 10, 0),
    ] {
        let mut call = Call::new(lose, jitter);
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| call.block(black_box(&mut out)))
        });
    }
}

/// A microphone that hears the speaker, in 10 ms.
fn voice(criterion: &mut Criterion) {
    let all = VoiceConfig::default();
    let only = |stage: fn(&mut VoiceConfig)| {
        let mut config = VoiceConfig::OFF;
        stage(&mut config);
        config
    };
    let ours = |config| -> Box<dyn VoiceProcessor> { Box::new(Chain::new(config)) };
    let chains = [
        ("voice, everything", ours(all)),
        ("voice, echo", ours(only(|c| c.echo_cancellation = true))),
        ("voice, noise", ours(only(|c| c.noise_suppression = true))),
        ("voice, gain", ours(only(|c| c.gain_control = true))),
        ("voice, by WebRTC", Box::new(WebrtcChain::new(all))),
    ];
    let blocks = signal();
    for (name, mut chain) in chains {
        let mut far = blocks.iter().cycle();
        let mut near = blocks.iter().cycle().skip(7);
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| {
                if let (Some(far), Some(near)) = (far.next(), near.next()) {
                    let mut block = *near;
                    chain.render(far, 0.0);
                    chain.capture(black_box(&mut block));
                }
            });
        });
    }
}

criterion_group!(benches, codec, neteq, pipeline, voice);
criterion_main!(benches);
