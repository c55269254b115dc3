//! Sends pictures through sender, network and receiver in virtual time: `video_loop [key=value]…`.
//!
//! Keys: `in` (`pattern`, or a Y4M file whose pictures carry their numbers), `out` (a Y4M file), `size` (as 640x360) and
//! `fps` of the pattern, `codec` (`av1`, `h264`), `layers`, `effort`, `text` (0, 1), `seconds`; of the network `loss`
//! (percent), `burst` (mean packets per loss), `rtt` and `jitter` (milliseconds), `bitrate` (kbit/s that the sender is
//! told), `line` (kbit/s that pass, 0 for all), `queue` (milliseconds before it), `drop` (kbit/s that pass from a third
//! of the time to two thirds, of which the sender hears 300 ms later), `back` (percent lost on the way back); `nack`, `fec` and `ladder` (0, 1),
//! `seed`, `each` (1: a line for every picture).
//!
//! Prints what was seen: PSNR by the numbers in the pictures, freezes, bitrates, delays.

#![expect(clippy::print_stdout, reason = "what it prints is what it is for")]

use std::{
    collections::{BTreeMap, VecDeque},
    error::Error,
    time::{Duration, Instant},
};

use ahoy_media::{
    loss::Loss,
    rate::Bitrate,
    video::{
        codec::{Content, VideoCodec, VideoConfig},
        frame::{Frame, Size},
        frame_buffer::FrameBufferConfig,
        pattern::read,
        recv::{PictureClock, VideoRecv, VideoRecvConfig},
        reference::Reference,
        send::{Plan, VideoOut, VideoSend, VideoSendConfig},
        sink::{RecordingSink, VideoSink},
        source::{PatternSource, VideoSource},
        stage::{DecodeStage, EncodeStage},
        y4m::{AtEnd, Y4mSource},
    },
};

#[derive(Debug, Clone)]
struct Options {
    input: String,
    output: Option<String>,
    size: Size,
    fps: u32,
    codec: VideoCodec,
    layers: u8,
    effort: u8,
    content: Content,
    seconds: f64,
    loss: f64,
    back: f64,
    burst: f64,
    rtt: Duration,
    jitter: Duration,
    bitrate: u32,
    line: u32,
    drop: u32,
    queue: Duration,
    nack: bool,
    fec: bool,
    ladder: bool,
    seed: u64,
    each: bool,
}

impl Options {
    fn parse() -> Result<Self, Box<dyn Error>> {
        let mut options = Self {
            input: "pattern".into(),
            output: None,
            size: Size::new(640, 360)?,
            fps: 30,
            codec: VideoCodec::Av1,
            layers: 3,
            effort: 1,
            content: Content::Motion,
            seconds: 10.0,
            loss: 0.0,
            back: 0.0,
            burst: 1.0,
            rtt: Duration::from_millis(50),
            jitter: Duration::ZERO,
            bitrate: 600,
            line: 0,
            drop: 0,
            queue: Duration::from_millis(200),
            nack: true,
            fec: true,
            ladder: true,
            seed: 1,
            each: false,
        };
        let millis = |value: &str| -> Result<Duration, Box<dyn Error>> {
            Ok(Duration::from_secs_f64(value.parse::<f64>()? / 1000.0))
        };
        for argument in std::env::args().skip(1) {
            let (key, value) = argument
                .split_once('=')
                .ok_or("options look like key=value")?;
            match key {
                "in" => options.input = value.into(),
                "out" => options.output = Some(value.into()),
                "size" => {
                    let (width, height) = value.split_once('x').ok_or("a size is like 640x360")?;
                    options.size = Size::new(width.parse()?, height.parse()?)?;
                }
                "fps" => options.fps = value.parse()?,
                "codec" => {
                    options.codec = match value {
                        "av1" => VideoCodec::Av1,
                        "h264" => VideoCodec::H264,
                        other => return Err(format!("no codec {other}").into()),
                    }
                }
                "layers" => options.layers = value.parse()?,
                "effort" => options.effort = value.parse()?,
                "text" if value == "1" => options.content = Content::Text,
                "text" => options.content = Content::Motion,
                "seconds" => options.seconds = value.parse()?,
                "loss" => options.loss = value.parse::<f64>()? / 100.0,
                "back" => options.back = value.parse::<f64>()? / 100.0,
                "burst" => options.burst = value.parse()?,
                "rtt" => options.rtt = millis(value)?,
                "jitter" => options.jitter = millis(value)?,
                "bitrate" => options.bitrate = value.parse()?,
                "line" => options.line = value.parse()?,
                "drop" => options.drop = value.parse()?,
                "queue" => options.queue = millis(value)?,
                "nack" => options.nack = value == "1",
                "fec" => options.fec = value == "1",
                "ladder" => options.ladder = value == "1",
                "seed" => options.seed = value.parse()?,
                "each" => options.each = value == "1",
                other => return Err(format!("no option {other}").into()),
            }
        }
        Ok(options)
    }

    fn source(&self) -> Result<Box<dyn VideoSource>, Box<dyn Error>> {
        Ok(if self.input == "pattern" {
            Box::new(PatternSource::new(self.size, self.fps))
        } else {
            Box::new(Y4mSource::open(&self.input, AtEnd::Loop)?)
        })
    }

    fn reference(&self, size: Size) -> Result<Reference, Box<dyn Error>> {
        Ok(if self.input == "pattern" {
            Reference::pattern(size)
        } else {
            Reference::file(&self.input)?
        })
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

/// One way: pace, queue, loss, delay, jitter.
#[derive(Debug)]
struct Way {
    loss: f64,
    burst: f64,
    delay: Duration,
    jitter: Duration,
    is_bad: bool,
    /// What the sender paces by, and what passes; bits per second, 0 for all.
    pace: u32,
    line: u32,
    queue: Duration,
    paced: VecDeque<Vec<u8>>,
    free_at: Instant,
    line_free_at: Instant,
    dropped: u64,
}

/// What a datagram costs besides.
const OVERHEAD: usize = 64;

fn lasts(bytes: usize, bps: u32) -> Duration {
    match bps {
        0 => Duration::ZERO,
        bps => Duration::from_secs_f64(((bytes + OVERHEAD) * 8) as f64 / f64::from(bps)),
    }
}

impl Way {
    /// When what leaves now arrives; `None` if it is lost.
    fn pass(&mut self, now: Instant, bytes: usize, random: &mut Random) -> Option<Instant> {
        let leave = 1.0 / self.burst.max(1.0);
        let change = if self.is_bad {
            leave
        } else {
            leave * self.loss / (1.0 - self.loss).max(1e-9)
        };
        if self.burst <= 1.0 {
            self.is_bad = random.next() < self.loss;
        } else if random.next() < change {
            self.is_bad = !self.is_bad;
        }
        let waits = self.line_free_at.saturating_duration_since(now);
        if waits > self.queue {
            self.dropped += 1;
            return None;
        }
        self.line_free_at = now + waits + lasts(bytes, self.line);
        let jitter = self.jitter.mul_f64(random.next());
        (!self.is_bad).then_some(self.line_free_at + self.delay + jitter)
    }

    /// When the next that waits for its pace may leave.
    fn next(&self) -> Option<Instant> {
        (!self.paced.is_empty()).then_some(self.free_at)
    }
}

enum Event {
    Packet(Vec<u8>),
    Feedback(Vec<u8>),
    Rate(u32),
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse()?;
    let mut source = options.source()?;
    let size = source.size();
    let interval = source.interval();
    let rate = Bitrate::kbps(options.bitrate);
    let mut sender = VideoSend::new(
        VideoSendConfig {
            retransmission: options.nack,
            parity: options.fec,
            ladder: options.ladder,
            ..VideoSendConfig::new(options.codec, 1, 1)
        },
        VideoConfig {
            size,
            fps: (1.0 / interval.as_secs_f64()).round() as u32,
            bitrate: rate,
            content: options.content,
            temporal_layers: options.layers,
            threads: 1,
            effort: options.effort,
        },
    );
    let mut receiver = VideoRecv::new(VideoRecvConfig {
        buffer: FrameBufferConfig {
            retransmission: options.nack,
            ..FrameBufferConfig::default()
        },
    });
    sender.set_round_trip(options.rtt);
    sender.set_loss(Loss {
        fraction: options.loss as f32,
        mean_burst: options.burst as f32,
    });
    receiver.set_round_trip(options.rtt);
    let mut encoder = EncodeStage::new(options.codec);
    let mut decoder = DecodeStage::new(1);
    let mut reference = options.reference(size)?;
    let mut sink = options
        .output
        .as_ref()
        .map(|path| RecordingSink::new(path.into(), options.fps));
    let mut clock = PictureClock::default();

    #[expect(
        clippy::disallowed_methods,
        reason = "the only way to make an Instant; only differences matter"
    )]
    let start = Instant::now();
    let mut random = Random(options.seed);
    let way = |loss: f64, line: u32| Way {
        loss,
        burst: options.burst,
        delay: options.rtt / 2,
        jitter: options.jitter,
        is_bad: false,
        pace: 0,
        line,
        queue: options.queue,
        paced: VecDeque::new(),
        free_at: start,
        line_free_at: start,
        dropped: 0,
    };
    let mut there = way(options.loss, options.line * 1000);
    let mut back = way(options.back, 0);
    let mut events: BTreeMap<(Instant, u64), Event> = BTreeMap::new();
    let mut count = 0u64;
    let mut post = |events: &mut BTreeMap<(Instant, u64), Event>, at: Instant, event: Event| {
        events.insert((at, count), event);
        count += 1;
    };
    let set_rate = |sender: &mut VideoSend, there: &mut Way, now: Instant, kbps: u32| {
        sender.set_rate(now, Bitrate::kbps(kbps), Bitrate::kbps(kbps));
        there.pace = kbps * 1100;
    };
    set_rate(&mut sender, &mut there, start, options.bitrate);
    let total = Duration::from_secs_f64(options.seconds);
    let (drop_from, drop_to) = (start + total / 3, start + total * 2 / 3);
    if options.drop > 0 {
        let told = Duration::from_millis(300);
        post(&mut events, drop_from + told, Event::Rate(options.drop));
        post(&mut events, drop_to + told, Event::Rate(options.bitrate));
    }

    let mut frame = Frame::black(size, Duration::ZERO);
    let (mut taken, mut next_frame, mut now) = (0u32, start, start);
    let (mut delays, mut bytes, mut encode_time, mut decode_time) =
        (Vec::new(), 0usize, Duration::ZERO, Duration::ZERO);
    let mut worst_second = (f64::INFINITY, 0);
    let mut second = (0u64, 0u32, 0.0);
    while now < start + total {
        let mut out: Vec<VideoOut> = Vec::new();
        if next_frame <= now {
            source.read(&mut frame)?;
            frame.taken = interval * taken;
            taken += 1;
            next_frame = start + interval * taken;
            if let Plan::Encode { config, key } = sender.plan(now) {
                let began = cpu();
                let encoded = encoder.encode(config, key, &frame)?;
                encode_time += cpu() - began;
                out = sender.push(now, encoded.as_ref());
            }
        }
        if options.drop > 0 {
            let is_low = now >= drop_from && now < drop_to;
            there.line = 1000 * if is_low { options.drop } else { options.line };
        }
        while let Some(event) = events.first_entry().filter(|event| event.key().0 <= now) {
            match event.remove() {
                Event::Packet(bytes) => receiver.insert_packet(now, &bytes),
                Event::Feedback(bytes) => out.extend(sender.handle_feedback(now, &bytes)),
                Event::Rate(kbps) => set_rate(&mut sender, &mut there, now, kbps),
            }
        }
        there
            .paced
            .extend(out.into_iter().map(|packet| packet.bytes));
        while let Some(packet) = there.paced.pop_front_if(|_| there.free_at <= now) {
            bytes += packet.len() + OVERHEAD;
            there.free_at = now.max(there.free_at) + lasts(packet.len(), there.pace);
            if let Some(at) = there.pass(now, packet.len(), &mut random) {
                post(&mut events, at, Event::Packet(packet));
            }
        }
        while let Some(received) = receiver.poll_frame(now) {
            let when = clock.taken(received.frame.timestamp);
            let began = cpu();
            let decoded = decoder.decode(&received, when);
            decode_time += cpu() - began;
            let Ok(Some(picture)) = decoded else {
                receiver.decoded(decoded.is_ok());
                continue;
            };
            receiver.decoded(true);
            receiver.rendered(now, picture.size(), received.frame.is_still);
            let delay = now.saturating_duration_since(start + when);
            delays.push(delay);
            let psnr = reference.compare(picture);
            if let Some(sink) = &mut sink {
                sink.show(picture)?;
            }
            if options.each {
                println!(
                    "{:8.3} picture {:?} {} {psnr:.2?} dB, {delay:.1?} late, {} bytes{}",
                    now.duration_since(start).as_secs_f64(),
                    read(picture),
                    picture.size(),
                    received.frame.bytes.len(),
                    if received.frame.is_key { ", key" } else { "" },
                );
            }
            let this = now.duration_since(start).as_secs();
            if this != second.0 {
                let mean = second.2 / f64::from(second.1.max(1));
                if second.1 > 0 && mean < worst_second.0 {
                    worst_second = (mean, second.0);
                }
                second = (this, 0, 0.0);
            }
            if let Some(psnr) = psnr {
                second.1 += 1;
                second.2 += psnr;
            }
        }
        for message in receiver.poll_feedback(now) {
            if let Some(at) = back.pass(now, message.len(), &mut random) {
                post(&mut events, at, Event::Feedback(message));
            }
        }
        let event = events.first_key_value().map(|((at, _), _)| *at);
        now = [
            Some(next_frame),
            event,
            receiver.poll_timeout(now),
            there.next(),
        ]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(next_frame)
        .max(now);
    }

    delays.sort();
    let quantile = |part: f64| {
        let place = (delays.len() as f64 * part) as usize;
        delays.get(place).copied().unwrap_or_default()
    };
    let likeness = reference.likeness();
    let (sent, received) = (sender.stats(), receiver.stats(now));
    println!("{sent:?}\n{received:?}");
    println!(
        "psnr {:.2} dB (least {:.2}, worst second {:.2} at {} s), {} identified, {} not",
        likeness.psnr_db.unwrap_or(f64::NAN),
        likeness.least_db.unwrap_or(f64::NAN),
        worst_second.0,
        worst_second.1,
        likeness.identified,
        likeness.unidentified
    );
    println!(
        "rendered {} of {taken}, {} freezes of {:.0?} in all ({:.2} %), longest {:.0?}; {} key frames; delay p50 {:.1?} p95 {:.1?}",
        received.rendered,
        received.freezes,
        received.frozen,
        100.0 * received.frozen.as_secs_f64() / total.as_secs_f64(),
        received.longest_freeze,
        sent.key_frames,
        quantile(0.5),
        quantile(0.95)
    );
    println!(
        "{:.0} kbit/s on the wire, {:.0} of the codec; {} packets, {} of parity, {} again, {} queue drops; encode {:.1} ms, decode {:.1} ms of time per picture",
        bytes as f64 * 8.0 / total.as_secs_f64() / 1000.0,
        sent.codec_bytes as f64 * 8.0 / total.as_secs_f64() / 1000.0,
        sent.packets,
        sent.parity,
        sent.resent,
        there.dropped,
        encode_time.as_secs_f64() * 1000.0 / sent.frames.max(1) as f64,
        decode_time.as_secs_f64() * 1000.0 / received.decoded.max(1) as f64
    );
    Ok(())
}

/// How far this machine's clock is, for what things cost here.
fn cpu() -> Duration {
    #[expect(clippy::disallowed_methods, reason = "it measures the machine itself")]
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default()
}
