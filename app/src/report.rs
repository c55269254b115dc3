//! The report of one call: what happened, how well, on which paths, and what limited it.
//!
//! Schema 1. A field that was not measured is absent, never zero. The local receive direction stands on top;
//! `remote` holds what the other side reports about itself. [`ReportBuilder`] collects while the call runs,
//! in bounded memory; [`Report::write`] replaces the file in one step, so that a reader never sees half of
//! it.

use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

mod builder;
mod histogram;
mod summary;
mod verdict;

#[cfg(test)]
mod tests;

pub use builder::ReportBuilder;
pub use histogram::Histogram;
pub use summary::summary;
pub use verdict::verdict;

/// The schema that is written.
pub const SCHEMA: u32 = 1;
/// Participants read from the other side's report. Ours alone matters in a call of two.
const MAX_REMOTE_PARTICIPANTS: usize = 8;

/// The report of one call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it ended so, in a few words.
    pub reason: String,
    /// From acceptance to the end, in milliseconds; 0 when nobody accepted.
    pub duration_ms: u64,
    /// How long the steps of setting up took.
    pub setup: Setup,
    /// How it was protected; absent when no session came up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security: Option<Security>,
    /// Every path that media used, in order.
    pub paths: Vec<PathRecord>,
    /// Everybody who was heard or seen.
    pub participants: Vec<Participant>,
    /// The network between; absent when no session came up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// What was recorded of it here; absent where nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recording: Option<RecordingReport>,
    /// The other side said that it recorded.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub recorded_there: bool,
    /// What it cost this machine; absent in the simulator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
    /// What the other side measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote: Option<RemoteReport>,
    /// What limited this call, and what to do: one sentence.
    pub verdict: String,
    /// How good the person here found it, 1 to 5; only where they said so, and never sent to anybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rating: Option<u8>,
}

impl Report {
    /// The same without what names people, devices and places: to be shown to whoever is to help.
    #[must_use]
    pub fn redacted(&self) -> Self {
        let mut report = self.clone();
        if let Some(security) = &mut report.security {
            security.peer.clear();
            security.safety_words = None;
        }
        for path in &mut report.paths {
            path.local.clear();
            path.remote.clear();
        }
        for (number, participant) in report.participants.iter_mut().enumerate() {
            participant.id = format!("participant {}", number + 1);
        }
        report
    }
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Answered, heard, hung up.
    Completed,
    /// Somebody said no.
    Declined,
    /// In another call.
    Busy,
    /// It rang until the time limit.
    NoAnswer,
    /// Given up, or taken by another device.
    Cancelled,
    /// Nobody could be asked.
    Unreachable,
    /// It ran, and all paths died.
    Lost,
    /// Something broke.
    Failed,
}

impl Outcome {
    /// The word in the report.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Declined => "declined",
            Self::Busy => "busy",
            Self::NoAnswer => "no_answer",
            Self::Cancelled => "cancelled",
            Self::Unreachable => "unreachable",
            Self::Lost => "lost",
            Self::Failed => "failed",
        }
    }
}

/// By which route the other side was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FoundBy {
    /// A home in the link or the address book, or one of our own.
    Home,
    /// A home in the person's record, as it was kept here.
    Record,
    /// A home in the person's record, which the DHT had.
    Dht,
    /// A home in the person's record, which some supernode had.
    Directory,
    /// In this network.
    Lan,
}

/// How long the steps of setting up took, in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Setup {
    /// From placing the call to knowing the other side's devices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lookup_ms: Option<f64>,
    /// By which route they were found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found_by: Option<FoundBy>,
    /// From there (the callee: from the offer) to the first session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_ms: Option<f64>,
    /// From ringing to acceptance, or to the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ring_ms: Option<f64>,
    /// From acceptance, as this side knows it, to the first sound played here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accept_to_first_audio_ms: Option<f64>,
    /// From acceptance, as this side knows it, to the first picture shown here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accept_to_first_video_ms: Option<f64>,
}

/// How a call was protected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Security {
    /// The full name of the handshake.
    pub handshake: String,
    /// Whether the keys hold against a quantum computer.
    pub post_quantum: bool,
    /// The other person's link, without homes.
    pub peer: String,
    /// Whether the person was verified by voice.
    pub verified: bool,
    /// The words to compare.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub safety_words: Option<Vec<String>>,
    /// Whether they were made by commit and reveal. False where the other side does not know that yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub words_committed: Option<bool>,
}

/// What kind of path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathKind {
    /// Through a supernode, over UDP.
    Relay,
    /// Between the two devices, through the internet.
    Direct,
    /// Through a supernode, over TCP.
    Tcp,
    /// Inside one network.
    Lan,
}

impl PathKind {
    /// The word in the report.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::Direct => "direct",
            Self::Tcp => "tcp",
            Self::Lan => "lan",
        }
    }
}

/// A path that media used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PathRecord {
    /// When it came into use, in milliseconds after acceptance.
    pub at_ms: u64,
    /// What kind.
    pub kind: PathKind,
    /// Our address.
    pub local: String,
    /// The other end: the peer or the relay.
    pub remote: String,
    /// Its smoothed round trip when last seen, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<f64>,
}

/// What was recorded of a call, in all its files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct RecordingReport {
    /// Sound in them, in seconds.
    pub seconds: f64,
    /// Their size.
    pub bytes: u64,
    /// How many.
    pub files: u32,
    /// Our pictures in them.
    pub pictures_own: u64,
    /// The other side's.
    pub pictures_theirs: u64,
    /// Pictures that are not in them, of both sides, from the first that is on.
    pub pictures_dropped: u64,
    /// Sound that is not in them, of both sides, in milliseconds.
    pub sound_dropped_ms: u64,
}

/// Somebody in the call.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Participant {
    /// The device.
    pub id: String,
    /// Voice from there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audio: Option<AudioReport>,
    /// Picture from there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub video: Option<VideoReport>,
}

/// Voice as it was received; `packets.sent` and `bitrate_bps` are of our own.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AudioReport {
    /// For example `opus`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub codec: Option<String>,
    /// What we sent, in bits per second of codec payload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bitrate_bps: Option<u64>,
    /// Packets.
    pub packets: AudioPackets,
    /// Packets won back.
    pub recovered: Recovered,
    /// How much of what was played was invented, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concealed_ms: Option<u64>,
    /// How long sound waited before it was played, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter_buffer_ms: Option<Percentiles>,
    /// From sample in to sample out, devices excluded; only where both ends share a clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mouth_to_ear_ms: Option<Percentiles>,
    /// The longest stretch without anything from the other side, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub longest_gap_ms: Option<u64>,
    /// How it sounded, compared with what was said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<Score>,
    /// What was done to our own voice before it was sent; only where it came from a microphone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub voice: Option<VoiceReport>,
}

/// What was done to the microphone's sound.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct VoiceReport {
    /// `present`: the speaker was heard in the microphone, and taken out. `absent`: it was not, and nothing was done.
    /// `unknown`: nobody spoke for long enough to tell. `off`: not looked for.
    pub echo: String,
    /// By how much the echo canceller's filter made the microphone quieter, in decibels; only with an echo.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancelled_db: Option<f32>,
    /// How often the filter began anew because the echo came by another way.
    pub room_changes: u64,
    /// Level of the steady noise that was taken out, in dBFS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noise_dbfs: Option<f32>,
    /// By how much the voice was turned up at the end, in decibels.
    pub gain_db: f32,
    /// Keys that were heard and softened.
    pub clicks: u64,
    /// For how long nothing was sent because nobody spoke, in milliseconds.
    pub gated_ms: u64,
}

/// Audio packets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudioPackets {
    /// Sent by us.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent: Option<u64>,
    /// Received by us, each once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received: Option<u64>,
    /// Expected minus received at the end, before any repair.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<u64>,
    /// Received, but too late to be played.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late: Option<u64>,
    /// Received again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duplicate: Option<u64>,
}

/// Packets won back, by what won them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovered {
    /// In-band FEC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fec: Option<u64>,
    /// Redundant copies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub red: Option<u64>,
    /// Deep redundancy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dred: Option<u64>,
}

/// A picture's numbers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct VideoReport {
    /// For example `av1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub codec: Option<String>,
    /// Of the last frame rendered, in pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    /// Of the last frame rendered, in pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
    /// Rendered frames per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fps: Option<f64>,
    /// What we sent, in bits per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bitrate_bps: Option<u64>,
    /// Frames.
    pub frames: VideoFrames,
    /// Packets.
    #[serde(default)]
    pub packets: VideoPackets,
    /// How often the picture stood still for more than 200 ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub freezes: Option<u64>,
    /// How long in all, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frozen_ms: Option<u64>,
    /// The longest time for which it stood still, if for more than 200 ms; else 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub longest_freeze_ms: Option<u64>,
    /// How far pictures were from their sound when they were shown, in milliseconds either way, devices excluded; only
    /// where there was sound, and the sender told of its clocks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skew_ms: Option<Percentiles>,
    /// The same by the logs of both ends; only where these share a clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured_skew_ms: Option<Percentiles>,
    /// How much longer than by itself the other side's sound waited before it was heard, for its pictures, in
    /// milliseconds, each time that one was shown; only where there was sound, and the sender told of its clocks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sound_waits_ms: Option<Percentiles>,
    /// From camera to screen; only where both ends share a clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capture_to_render_ms: Option<Percentiles>,
    /// Against what was sent: the mean of the frames' own; only where both are at hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psnr_db: Option<f64>,
}

/// Packets of pictures, and what was done about those that were lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VideoPackets {
    /// Sent by us, each once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent: Option<u64>,
    /// Sent again by us because the other side asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resent: Option<u64>,
    /// Received by us, those sent again included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received: Option<u64>,
    /// Expected minus received at the end, before any repair.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<u64>,
    /// Came after we had asked for them again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovered: Option<u64>,
    /// Of parity, sent by us.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parity: Option<u64>,
    /// Made here from parity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restored: Option<u64>,
    /// Key frames that we asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_requests: Option<u64>,
}

/// Video frames.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VideoFrames {
    /// Sent by us.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent: Option<u64>,
    /// Decoded here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decoded: Option<u64>,
    /// Shown here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rendered: Option<u64>,
    /// Decoded, but not shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropped: Option<u64>,
    /// Shown here, and told apart from all others by the number in the picture; only where what was sent is at hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identified: Option<u64>,
}

/// A perceptual score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Which one, with its version.
    pub metric: String,
    /// Its value.
    pub value: f64,
}

/// The network between the two devices.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// Round trip on the path in use, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<Percentiles>,
    /// Lost by expected, of all media received here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss_fraction: Option<f64>,
    /// The estimated capacity towards the other side.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimate_bps: Option<Estimate>,
    /// What finding direct paths cost; absent when none was looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<Search>,
    /// Every change of path.
    pub switches: Vec<Switch>,
}

/// What finding direct paths has cost so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Search {
    /// New tries after the first, begun by either side.
    pub restarts: u64,
    /// Runs of guessing ports, begun by either side.
    #[serde(default)]
    pub guesses: u64,
    /// STUN packets sent for it.
    pub packets: u64,
    /// Addresses that they went to, counted anew by each try: mappings that a router may have made.
    pub flows: u64,
}

/// A capacity estimate over the call, in bits per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Estimate {
    /// The lowest.
    pub min: u64,
    /// The highest.
    pub max: u64,
    /// The last.
    pub last: u64,
}

/// A change of path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    /// When, in milliseconds after acceptance.
    pub at_ms: u64,
    /// From which kind.
    pub from: PathKind,
    /// To which kind.
    pub to: PathKind,
    /// Time without media around it, in milliseconds.
    pub gap_ms: u64,
}

/// What a call cost this machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Processor time of the whole process, in milliseconds per second of call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_ms_per_call_second: Option<f64>,
    /// The most memory the process held, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_rss_bytes: Option<u64>,
}

/// The median and the 95th percentile.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Half of the values are at most this.
    pub p50: f64,
    /// 19 of 20 values are at most this.
    pub p95: f64,
}

/// What the other side measured and told. Its words, not ours: untrusted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RemoteReport {
    /// From acceptance to the moment of telling, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// How long its steps took.
    #[serde(default)]
    pub setup: Setup,
    /// Whom it heard and saw.
    #[serde(default)]
    pub participants: Vec<Participant>,
    /// The network as it saw it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
}

impl RemoteReport {
    /// Writes it as JSON of at most `max` bytes. Details go, if they must: switches, then participants.
    #[must_use]
    pub fn encode(&self, max: usize) -> Vec<u8> {
        let mut shrunk = self.clone();
        loop {
            // A struct of numbers, strings and lists always is JSON; were it not, it would be left out.
            let json = serde_json::to_vec(&shrunk).unwrap_or_default();
            if !json.is_empty() && json.len() <= max {
                return json;
            }
            match &mut shrunk.network {
                Some(network) if !network.switches.is_empty() => network.switches.clear(),
                Some(_) | None => {
                    if shrunk.participants.pop().is_none() {
                        return b"{}".to_vec();
                    }
                }
            }
        }
    }

    /// Reads what a peer sent; its length is bounded by the caller. `None` when it is no such report.
    /// Fields of later versions are ignored.
    #[must_use]
    pub fn decode(json: &[u8]) -> Option<Self> {
        let mut report: Self = serde_json::from_slice(json).ok()?;
        report.participants.truncate(MAX_REMOTE_PARTICIPANTS);
        Some(report)
    }
}

impl Report {
    /// Voice of the first participant: all there is in a call of two.
    #[must_use]
    pub fn audio(&self) -> Option<&AudioReport> {
        self.participants.first()?.audio.as_ref()
    }

    /// Picture of the first participant, likewise.
    #[must_use]
    pub fn video(&self) -> Option<&VideoReport> {
        self.participants.first()?.video.as_ref()
    }

    /// The report as one line of JSON, without a line end.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|_not_json| String::from("{}"))
    }

    /// What the other side may know of it.
    #[must_use]
    pub fn for_remote(&self) -> RemoteReport {
        RemoteReport {
            duration_ms: Some(self.duration_ms),
            setup: self.setup.clone(),
            participants: self.participants.clone(),
            network: self.network.clone(),
        }
    }

    /// Writes it to `path` as readable JSON. Readers see the old file or the new one, never a part.
    ///
    /// # Errors
    /// Whatever the file system answers; the old file is untouched then.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let mut json = serde_json::to_vec_pretty(self)?;
        json.push(b'\n');
        write_atomically(path, &json)
    }
}

/// Replaces the file at `path` by `bytes` in one step: a temporary file beside it, then a rename.
///
/// # Errors
/// Whatever the file system answers; the temporary file is removed.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = temporary_beside(path)?;
    let written = fs::File::create(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written
        .and_then(|()| fs::rename(&temporary, path))
        .inspect_err(|_why| {
            if let Err(error) = fs::remove_file(&temporary) {
                tracing::debug!(%error, "a temporary file stays behind");
            }
        })
}

fn temporary_beside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, "the path does not name a file")
    })?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}.tmp", std::process::id()));
    Ok(path.with_file_name(hidden))
}
