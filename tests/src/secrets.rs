//! What nobody but the two who talk may hold, and a search for it.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    time::Instant,
};

use ahoy::identity::Identity;
use ahoy_media::{
    audio::{BLOCK_DURATION, BLOCK_SAMPLES},
    packet::rtp::HEADER_BYTES,
    pipeline::send::{SendConfig, SendPipeline},
};

/// Bytes that must agree before something counts as found: by chance that does not happen.
pub const WINDOW: usize = 16;

/// Different bytes of a window at least. Padding and zeros, as silence is encoded, stand everywhere.
const VARIETY: usize = 8;

/// Bits of [`Secrets::sieve`]: few windows of anything else pass it.
const SIEVE_BITS: u32 = 24;

/// What must not be seen, by what it is.
#[derive(Clone)]
pub struct Secrets {
    windows: HashMap<[u8; WINDOW], String>,
    texts: Vec<(String, Vec<u8>)>,
    /// One bit for each hash of the first bytes of a window: megabytes are searched, and hold next to nothing.
    sieve: Vec<u64>,
}

impl Default for Secrets {
    fn default() -> Self {
        Self {
            windows: HashMap::new(),
            texts: Vec::new(),
            sieve: vec![0; 1 << (SIEVE_BITS - 6)],
        }
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets")
            .field("windows", &self.windows.len())
            .finish_non_exhaustive()
    }
}

/// Where in the sieve a window stands: word and bit.
fn place(window: &[u8]) -> (usize, u64) {
    let head = u64::from_le_bytes([
        window[0], window[1], window[2], window[3], window[4], window[5], window[6], window[7],
    ]);
    let hash = head.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - SIEVE_BITS);
    ((hash >> 6) as usize, 1 << (hash & 63))
}

fn as_bytes(samples: &[f32]) -> Vec<u8> {
    let short = |sample: &f32| ((sample * f32::from(i16::MAX)).round() as i16).to_le_bytes();
    samples.iter().flat_map(short).collect()
}

/// Pieces of `samples`, each as long as a window in 16 bits, that are loud from end to end: no other sound, and no
/// table, has the same.
pub fn loud_pieces(samples: &[f32]) -> impl Iterator<Item = &[f32]> {
    let loud = |chunk: &&[f32]| chunk.iter().all(|sample| sample.abs() > 0.02);
    samples.chunks_exact(WINDOW / 2).filter(loud)
}

impl Secrets {
    /// Every window of a secret that is as long as one.
    pub fn add(&mut self, what: &str, bytes: &[u8]) {
        for window in bytes.windows(WINDOW) {
            if window.iter().collect::<BTreeSet<_>>().len() < VARIETY {
                continue;
            }
            let (word, bit) = place(window);
            self.sieve[word] |= bit;
            if let Ok(window) = window.try_into() {
                // A certificate holds keys: what was named first is more exact.
                self.windows
                    .entry(window)
                    .or_insert_with(|| what.to_owned());
            }
        }
    }

    /// What stands in `bytes` is no secret.
    pub fn forget(&mut self, bytes: &[u8]) {
        for window in bytes.windows(WINDOW) {
            if let Ok(window) = <[u8; WINDOW]>::try_from(window) {
                self.windows.remove(&window);
            }
        }
    }

    /// A shorter text, in any case.
    pub fn add_text(&mut self, what: &str, text: &str) {
        self.texts
            .push((what.to_owned(), text.to_lowercase().into_bytes()));
    }

    /// A person's keys and all that names the person.
    pub fn add_person(&mut self, who: &str, name: &str, identity: &Identity) {
        let keys = identity.device();
        self.add(&format!("{who}'s user key"), &identity.user().0);
        self.add(&format!("{who}'s device key"), &keys.id().0);
        self.add(&format!("{who}'s Noise key"), &keys.noise_public());
        self.add_text(
            &format!("{who}'s user key as text"),
            &identity.user().to_string(),
        );
        self.add_text(
            &format!("{who}'s device key as text"),
            &keys.id().to_string(),
        );
        self.add_text(&format!("{who}'s name"), name);
        let record = keys.seal_key_record();
        self.add(&format!("{who}'s public seal key"), record.as_bytes());
        if let Some(secret) = keys.seal_keys().secret(record.generation()) {
            self.add(&format!("{who}'s secret seal key"), secret.seed());
        }
        self.add(
            &format!("{who}'s certificate"),
            identity.certificate().as_bytes(),
        );
        self.add(&format!("{who}'s device log"), &identity.log().to_bytes());
    }

    /// Loud speech as samples of 16 and 32 bits.
    pub fn add_speech(&mut self, samples: &[f32]) {
        for piece in loud_pieces(samples) {
            let short = as_bytes(piece);
            self.add("speech, 16 bits", &short);
            let big: Vec<u8> = short
                .chunks(2)
                .flat_map(|pair| [pair[1], pair[0]])
                .collect();
            self.add("speech, 16 bits, big-endian", &big);
            let float: Vec<u8> = piece
                .iter()
                .flat_map(|sample| sample.to_le_bytes())
                .collect();
            self.add("speech, 32 bits", &float);
        }
    }

    /// What the codec made of speech: RTP packets.
    pub fn add_packets(&mut self, packets: &[Vec<u8>]) {
        for packet in packets {
            self.add("Opus", &packet[HEADER_BYTES..]);
        }
    }

    /// What of all that stands in `bytes`.
    #[must_use]
    pub fn found(&self, bytes: &[u8]) -> BTreeSet<String> {
        let mut found = self.found_windows(bytes);
        let lower = bytes.to_ascii_lowercase();
        for (what, text) in &self.texts {
            if lower.windows(text.len()).any(|window| window == text) {
                found.insert(what.clone());
            }
        }
        found
    }

    /// The same without the texts: for many megabytes.
    #[must_use]
    pub fn found_windows(&self, bytes: &[u8]) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for window in bytes.windows(WINDOW) {
            let (word, bit) = place(window);
            if self.sieve[word] & bit == 0 {
                continue;
            }
            if let Ok(window) = <[u8; WINDOW]>::try_from(window)
                && let Some(what) = self.windows.get(&window)
            {
                found.insert(what.clone());
            }
        }
        found
    }

    /// What of all that stands in any of `messages`.
    pub fn found_in<'a>(&self, messages: impl IntoIterator<Item = &'a [u8]>) -> BTreeSet<String> {
        messages
            .into_iter()
            .flat_map(|bytes| self.found(bytes))
            .collect()
    }
}

/// The packets that the shipped sender makes of `samples`, RTP header included.
///
/// # Panics
/// When there is no encoder.
#[must_use]
pub fn packets_of(samples: &[f32], began: Instant) -> Vec<Vec<u8>> {
    let pipeline = SendPipeline::new(SendConfig::new(1));
    #[expect(clippy::expect_used, reason = "without it there is no test")]
    let mut pipeline = pipeline.expect("the default encoder starts");
    let (mut packets, mut now) = (Vec::new(), began);
    let (blocks, _rest) = samples.as_chunks::<BLOCK_SAMPLES>();
    for block in blocks {
        now += BLOCK_DURATION;
        packets.extend(pipeline.push_block(now, block).map(<[u8]>::to_vec));
    }
    packets
}

/// The address as it stands in candidates, behind RFC 8489's mask as in STUN attributes, and as text.
#[must_use]
pub fn forms(ip: [u8; 4]) -> [Vec<u8>; 3] {
    let masked = [ip[0] ^ 0x21, ip[1] ^ 0x12, ip[2] ^ 0xa4, ip[3] ^ 0x42];
    let text = ip.map(|byte| byte.to_string()).join(".");
    [ip.to_vec(), masked.to_vec(), text.into_bytes()]
}

/// Whether `needle` stands anywhere in `haystack`.
#[must_use]
pub fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}
