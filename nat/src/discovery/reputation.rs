//! What this device has seen of supernodes itself: how often each kept its word, how far it is, what it lied about. Sans-IO.
//!
//! Nothing here comes from hearsay, and nothing of it is told to anybody: scores that are passed on are scores that a farm of
//! nodes can vote for. What counts is what the device saw:
//!
//! - a supernode handed an envelope on, or said that it did and threw it away: a probe of our own ([`Probes`]), or the word of a
//!   contact in a call ([`Reputation::note_broken`]);
//! - it showed something with a signature that is not one ([`Reputation::note_lie`]): a ban, with the evidence kept.
//!
//! Kept and broken words are counted with a half-life, so that a supernode can mend its ways, and up to a weight, so that a
//! long good past does not cover a bad present. Both are parameters of a Beta distribution; [`Score::least`] is what a
//! supernode is worth at the least, [`Score::most`] at the most, at 95 %.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use ahoy_transport::{
    identity::NodeId,
    wire::{Reader, WireError, Writer},
};

/// What was seen counts half after this, in milliseconds.
pub const HALF_LIFE_MILLIS: u64 = 7 * 24 * 3_600_000;
/// Who lied is not used for this long, in milliseconds.
pub const BAN_MILLIS: u64 = 30 * 24 * 3_600_000;
/// Supernodes that are remembered. Those that tell least go first.
pub const MAX_NODES: usize = 512;
/// Longest piece of evidence that is kept, in bytes.
pub const MAX_EVIDENCE: usize = 16 * 1024;
/// Supernodes of which evidence is kept; the ban of others is remembered without.
const MAX_PROVEN: usize = 8;
/// Weight of all that was seen of one supernode: some dozen new experiences say more than a thousand old ones.
const MAX_WEIGHT: f64 = 60.0;
/// A ban tells as much as this many words, when there is no room for all.
const WEIGHT_OF_BAN: f64 = 10.0;
/// Broken words before a supernode may count as bad: one may be bad luck.
const FEWEST_BROKEN: f64 = 2.5;
/// A good supernode keeps this many of its words, at the least.
const GOOD: f64 = 0.9;
/// One-sided, at 95 %.
const Z: f64 = 1.645;
/// Weight of a new round trip in the mean, and of a relay's loss.
const SMOOTHING: f64 = 0.2;
const VERSION: u8 = 1;

#[derive(Debug, Clone, Default, PartialEq)]
struct Standing {
    kept: f64,
    broken: f64,
    /// Of the two above, Unix milliseconds.
    at_millis: u64,
    first_millis: u64,
    rtt_micros: Option<f64>,
    banned_until_millis: u64,
    evidence: Option<Vec<u8>>,
}

impl Standing {
    fn aged(&self, now_millis: u64) -> (f64, f64) {
        let passed = now_millis.saturating_sub(self.at_millis);
        #[expect(clippy::cast_precision_loss, reason = "a share of a week")]
        let factor = 0.5f64.powf(passed as f64 / HALF_LIFE_MILLIS as f64);
        (self.kept * factor, self.broken * factor)
    }

    fn age(&mut self, now_millis: u64) {
        (self.kept, self.broken) = self.aged(now_millis);
        self.at_millis = now_millis;
        if self.first_millis == 0 {
            self.first_millis = now_millis.max(1);
        }
    }

    fn add(&mut self, kept: f64, broken: f64, now_millis: u64) {
        self.age(now_millis);
        self.kept += kept;
        self.broken += broken;
        let weight = self.kept + self.broken;
        if weight > MAX_WEIGHT {
            self.kept *= MAX_WEIGHT / weight;
            self.broken *= MAX_WEIGHT / weight;
        }
    }
}

/// What a supernode is worth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// Words kept, as far as they still count.
    pub kept: f64,
    /// Words broken, likewise.
    pub broken: f64,
    /// Share of words that it keeps, at the least: 0 to 1.
    pub least: f64,
    /// The same, at the most.
    pub most: f64,
    /// Its round trip, smoothed.
    pub rtt: Option<Duration>,
    /// Not to be used until then, Unix milliseconds.
    pub banned_until_millis: Option<u64>,
}

impl Score {
    fn of(kept: f64, broken: f64, rtt_micros: Option<f64>, banned: Option<u64>) -> Self {
        let (a, b) = (kept + 1.0, broken + 1.0);
        let sum = a + b;
        let mean = a / sum;
        let deviation = (a * b / (sum * sum * (sum + 1.0))).sqrt();
        Self {
            kept,
            broken,
            least: (mean - Z * deviation).max(0.0),
            most: (mean + Z * deviation).min(1.0),
            rtt: rtt_micros.map(|micros| Duration::from_secs_f64(micros / 1e6)),
            banned_until_millis: banned,
        }
    }

    /// Whether it is not to be used: it lied, or even at its best it breaks more words than a good one.
    #[must_use]
    pub fn is_bad(&self) -> bool {
        self.banned_until_millis.is_some() || (self.broken >= FEWEST_BROKEN && self.most < GOOD)
    }

    /// Whether it has shown that it is good.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        !self.is_bad() && self.least > 0.7
    }

    /// Why it stands like that, for a person.
    #[must_use]
    pub fn why(&self) -> String {
        if self.banned_until_millis.is_some() {
            return "it showed something that nobody signed".into();
        }
        if self.kept + self.broken < 0.5 {
            return "nothing is known of it yet".into();
        }
        format!(
            "of about {:.0} words it kept {:.0}",
            self.kept + self.broken,
            self.kept
        )
    }
}

/// What is known of all. See the module.
#[derive(Debug, Clone, Default)]
pub struct Reputation {
    nodes: BTreeMap<NodeId, Standing>,
}

impl Reputation {
    /// Nothing is known.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn standing(&mut self, node: NodeId, now_millis: u64) -> &mut Standing {
        if self.nodes.len() >= MAX_NODES && !self.nodes.contains_key(&node) {
            let tells = |one: &Standing| {
                let (kept, broken) = one.aged(now_millis);
                let banned = one.banned_until_millis > now_millis;
                kept + broken + if banned { WEIGHT_OF_BAN } else { 0.0 }
            };
            let tells_least = self
                .nodes
                .iter()
                .min_by(|(_, a), (_, b)| tells(a).total_cmp(&tells(b)));
            if let Some(node) = tells_least.map(|(node, _standing)| *node) {
                self.nodes.remove(&node);
            }
        }
        self.nodes.entry(node).or_default()
    }

    /// It did what it said.
    pub fn note_kept(&mut self, node: NodeId, now_millis: u64) {
        self.standing(node, now_millis).add(1.0, 0.0, now_millis);
    }

    /// It said that it did what it did not, or that was reported with this weight: 1 for one probe of ours.
    pub fn note_broken(&mut self, node: NodeId, weight: f64, now_millis: u64) {
        let weight = weight.clamp(0.0, 4.0);
        self.standing(node, now_millis).add(0.0, weight, now_millis);
    }

    /// It is so far away.
    pub fn note_rtt(&mut self, node: NodeId, rtt: Duration, now_millis: u64) {
        let standing = self.standing(node, now_millis);
        let micros = rtt.as_secs_f64() * 1e6;
        let before = standing.rtt_micros.unwrap_or(micros);
        standing.rtt_micros = Some(before + SMOOTHING * (micros - before));
    }

    /// It showed something whose signature is none. `evidence`: what it showed, as it came.
    pub fn note_lie(&mut self, node: NodeId, evidence: &[u8], now_millis: u64) {
        let proven = self
            .nodes
            .values()
            .filter(|standing| standing.evidence.is_some())
            .count();
        let keep = proven < MAX_PROVEN && evidence.len() <= MAX_EVIDENCE;
        let standing = self.standing(node, now_millis);
        standing.age(now_millis);
        standing.banned_until_millis = now_millis.saturating_add(BAN_MILLIS);
        if keep && standing.evidence.is_none() {
            standing.evidence = Some(evidence.to_vec());
        }
    }

    /// What it showed when it lied, if that was kept.
    #[must_use]
    pub fn evidence(&self, node: NodeId) -> Option<&[u8]> {
        self.nodes.get(&node)?.evidence.as_deref()
    }

    /// What it is worth now.
    #[must_use]
    pub fn score(&self, node: NodeId, now_millis: u64) -> Score {
        let Some(standing) = self.nodes.get(&node) else {
            return Score::of(0.0, 0.0, None, None);
        };
        let (kept, broken) = standing.aged(now_millis);
        let banned = standing.banned_until_millis;
        let banned = (banned > now_millis).then_some(banned);
        Score::of(kept, broken, standing.rtt_micros, banned)
    }

    /// Supernodes that are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether nothing is known of anybody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// For the profile.
    ///
    /// ```text
    /// | ver=1 | varint nodes | nodes |
    /// node: | node (32) | f64 kept | f64 broken | u64 at | u64 first | f64 round trip, µs, or NaN | u64 banned until |
    ///       | varint length, evidence |
    /// ```
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.put_varint(self.nodes.len() as u64);
        for (node, standing) in &self.nodes {
            out.put_bytes(node.as_bytes());
            out.put_u64(standing.kept.to_bits());
            out.put_u64(standing.broken.to_bits());
            out.put_u64(standing.at_millis);
            out.put_u64(standing.first_millis);
            out.put_u64(standing.rtt_micros.unwrap_or(f64::NAN).to_bits());
            out.put_u64(standing.banned_until_millis);
            out.put_var_bytes(standing.evidence.as_deref().unwrap_or_default());
        }
        out
    }

    /// Reads what [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// When the bytes are none of this version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            VERSION => {}
            other => return Err(WireError::Version(other)),
        }
        let mut nodes = BTreeMap::new();
        for _node in 0..reader.varint()?.min(MAX_NODES as u64) {
            let node = NodeId(reader.array()?);
            let share = |bits| {
                let share = f64::from_bits(bits);
                // A damaged file makes nobody good for ever.
                (0.0..=MAX_WEIGHT).contains(&share).then_some(share)
            };
            let kept = share(reader.u64()?).ok_or(WireError::Undefined)?;
            let broken = share(reader.u64()?).ok_or(WireError::Undefined)?;
            let (at_millis, first_millis) = (reader.u64()?, reader.u64()?);
            let rtt = f64::from_bits(reader.u64()?);
            let banned_until_millis = reader.u64()?;
            let evidence = reader.var_bytes(MAX_EVIDENCE)?;
            let standing = Standing {
                kept,
                broken,
                at_millis,
                first_millis,
                rtt_micros: (0.0..1e9).contains(&rtt).then_some(rtt),
                banned_until_millis,
                evidence: (!evidence.is_empty()).then(|| evidence.to_vec()),
            };
            nodes.insert(node, standing);
        }
        reader.finish()?;
        Ok(Self { nodes })
    }
}

/// A first look at a new home comes after this.
const FIRST_PROBE: Duration = Duration::from_secs(20);
/// Then after twice as long each time that it kept its word, up to this.
const LAST_PROBE: Duration = Duration::from_secs(5 * 60);
/// Who broke its word is looked at again after this.
const DOUBTED_PROBE: Duration = Duration::from_secs(8);
/// What was handed on has arrived by then: a slow line, and a lost packet.
const ARRIVAL: Duration = Duration::from_secs(4);
/// Probes under way at once.
const MAX_PENDING: usize = 16;

#[derive(Debug)]
struct Probed {
    at: Instant,
    wait: Duration,
}

/// Looks after what homes do with what they are to hand on: an envelope to ourselves is left there as a stranger leaves one,
/// and has to come. A home sees who it is for and where it comes from, as with every caller's; it cannot open it.
///
/// The caller drains [`Self::poll`] and sends what it names; it tells [`Self::handle_taken`] when the home has said that it
/// handed it on, and [`Self::handle_arrived`] for each envelope that comes. [`Self::handle_timeout`] gives the verdicts.
#[derive(Debug, Default)]
pub struct Probes {
    homes: BTreeMap<NodeId, Probed>,
    /// By what they bear: to whom, and when it was taken.
    pending: BTreeMap<[u8; 16], (NodeId, Option<Instant>)>,
}

/// What a probe came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It came.
    Kept(NodeId),
    /// The home said that it handed it on, and it did not come.
    Broken(NodeId),
}

impl Probes {
    /// These are homes now, and no others.
    pub fn set_homes(&mut self, homes: &[NodeId], now: Instant) {
        let homes: BTreeSet<NodeId> = homes.iter().copied().collect();
        self.homes.retain(|home, _probed| homes.contains(home));
        self.pending
            .retain(|_mark, (home, _taken)| homes.contains(home));
        for home in homes {
            self.homes.entry(home).or_insert(Probed {
                at: now + FIRST_PROBE,
                wait: FIRST_PROBE,
            });
        }
    }

    /// Whether [`Self::poll`] has one now.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        self.pending.len() < MAX_PENDING && self.homes.values().any(|probed| probed.at <= now)
    }

    /// A home to be looked at now, with what the envelope shall bear: `mark`, drawn at random.
    pub fn poll(&mut self, now: Instant, mark: [u8; 16]) -> Option<NodeId> {
        if self.pending.len() >= MAX_PENDING {
            return None;
        }
        let mut homes = self.homes.iter_mut();
        let (home, probed) = homes.find(|(_home, probed)| probed.at <= now)?;
        // Answers set it anew.
        probed.at = now + probed.wait + ARRIVAL;
        self.pending.insert(mark, (*home, None));
        Some(*home)
    }

    /// The home says that it handed the envelope on; or it did not take it, which is no lie.
    pub fn handle_taken(&mut self, mark: [u8; 16], taken: bool, now: Instant) {
        if !taken {
            self.pending.remove(&mark);
        } else if let Some((_home, at)) = self.pending.get_mut(&mark) {
            *at = Some(now);
        }
    }

    /// An envelope came that bears this. Says whether it is ours, which nobody else need look at.
    pub fn handle_arrived(&mut self, mark: [u8; 16], now: Instant) -> Option<Verdict> {
        let (home, _taken) = self.pending.remove(&mark)?;
        if let Some(probed) = self.homes.get_mut(&home) {
            probed.wait = (probed.wait * 2).min(LAST_PROBE);
            probed.at = now + probed.wait;
        }
        Some(Verdict::Kept(home))
    }

    /// What did not come in time.
    pub fn handle_timeout(&mut self, now: Instant) -> Vec<Verdict> {
        let late = |taken: &Option<Instant>| taken.is_some_and(|taken| now >= taken + ARRIVAL);
        let lost: Vec<[u8; 16]> = self
            .pending
            .iter()
            .filter(|(_mark, (_home, taken))| late(taken))
            .map(|(mark, _home)| *mark)
            .collect();
        let mut verdicts = Vec::new();
        for mark in lost {
            let Some((home, _taken)) = self.pending.remove(&mark) else {
                continue;
            };
            if let Some(probed) = self.homes.get_mut(&home) {
                probed.wait = DOUBTED_PROBE;
                probed.at = now + DOUBTED_PROBE;
            }
            verdicts.push(Verdict::Broken(home));
        }
        verdicts
    }

    /// The home lost its connection, or registers anew: what is under way says nothing.
    pub fn forget(&mut self, home: NodeId) {
        self.pending.retain(|_mark, (of, _taken)| *of != home);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 3_600_000;
    const NOW: u64 = 1_800_000_000_000;

    fn start() -> Instant {
        #[expect(
            clippy::disallowed_methods,
            reason = "any instant serves as the origin of virtual time"
        )]
        Instant::now()
    }

    fn node(n: u16) -> NodeId {
        let mut id = [0; 32];
        id[..2].copy_from_slice(&n.to_be_bytes());
        NodeId(id)
    }

    /// How many words pass until a supernode that keeps `percent` of them counts as bad.
    fn until_bad(before: u32, percent: u32) -> Option<u32> {
        let mut reputation = Reputation::new();
        for _ in 0..before {
            reputation.note_kept(node(1), NOW);
        }
        (1..200).find(|n| {
            if n * percent / 100 > (n - 1) * percent / 100 {
                reputation.note_kept(node(1), NOW);
            } else {
                reputation.note_broken(node(1), 1.0, NOW);
            }
            reputation.score(node(1), NOW).is_bad()
        })
    }

    #[test]
    fn who_breaks_words_is_found_out_in_a_few_and_an_honest_one_never() {
        assert_eq!(until_bad(0, 100), None);
        assert_eq!(until_bad(1000, 96), None, "packets are lost");
        let (new, old) = (until_bad(0, 0).unwrap(), until_bad(10_000, 0).unwrap());
        let half = until_bad(1000, 50).unwrap();
        assert!(new <= 3 && old <= 15 && half <= 40, "{new} {old} {half}");
        let mut reputation = Reputation::new();
        reputation.note_broken(node(1), 1.0, NOW);
        assert!(
            !reputation.score(node(1), NOW).is_bad(),
            "one may be bad luck"
        );
    }

    #[test]
    fn it_is_forgiven_in_time_and_a_lie_after_a_month() {
        let mut reputation = Reputation::new();
        for _ in 0..4 {
            reputation.note_broken(node(1), 1.0, NOW);
        }
        reputation.note_lie(node(2), b"a list that nobody signed", NOW);
        assert!(reputation.score(node(1), NOW).is_bad());
        assert!(!reputation.score(node(1), NOW + 14 * DAY).is_bad());
        for days in [0, 29] {
            let score = reputation.score(node(2), NOW + days * DAY);
            assert!(score.is_bad() && score.why().contains("signed"));
        }
        assert!(!reputation.score(node(2), NOW + 31 * DAY).is_bad());
        let kept = Reputation::from_bytes(&reputation.to_bytes()).unwrap();
        assert_eq!(kept.nodes, reputation.nodes, "over restarts");
        assert_eq!(
            kept.evidence(node(2)),
            Some(&b"a list that nobody signed"[..])
        );
    }

    #[test]
    fn what_is_known_is_bounded_and_those_who_tell_least_go() {
        let mut reputation = Reputation::new();
        reputation.note_lie(node(9_999), &vec![7; MAX_EVIDENCE + 1], NOW);
        for _ in 0..20 {
            reputation.note_kept(node(9_998), NOW);
        }
        for n in 0..2_000 {
            reputation.note_lie(node(n), &[1; 100], NOW - BAN_MILLIS);
        }
        assert_eq!(reputation.len(), MAX_NODES);
        assert!(reputation.score(node(9_999), NOW).is_bad());
        assert_eq!(reputation.evidence(node(9_999)), None, "it was too long");
        assert!(reputation.score(node(9_998), NOW).is_proven());
        assert!(reputation.to_bytes().len() < MAX_NODES * 100 + MAX_PROVEN * MAX_EVIDENCE);
    }

    #[test]
    fn what_is_no_reputation_is_refused() {
        let mut reputation = Reputation::new();
        reputation.note_rtt(node(1), Duration::from_millis(80), NOW);
        reputation.note_rtt(node(1), Duration::from_millis(180), NOW);
        let rtt = reputation.score(node(1), NOW).rtt.unwrap();
        assert_eq!(rtt.as_millis(), 100, "a fifth of the way to the new one");
        let bytes = reputation.to_bytes();
        for length in 0..bytes.len() {
            Reputation::from_bytes(&bytes[..length]).unwrap_err();
        }
        let mut too_good = bytes.clone();
        too_good[34..42].copy_from_slice(&1e9f64.to_bits().to_be_bytes());
        Reputation::from_bytes(&too_good).unwrap_err();
    }

    #[test]
    fn a_home_that_drops_is_looked_at_more_and_more_closely() {
        let mut now = start();
        let mut probes = Probes::default();
        let (good, bad) = (node(1), node(2));
        probes.set_homes(&[good, bad], now);
        let (mut looked, mut n) = (BTreeMap::<NodeId, u32>::new(), 0u128);
        let mut broken = 0;
        for _second in 0..600 {
            now += Duration::from_secs(1);
            n += 1;
            let mark = n.to_be_bytes();
            if let Some(home) = probes.poll(now, mark) {
                *looked.entry(home).or_default() += 1;
                probes.handle_taken(mark, true, now);
                if home == good {
                    assert_eq!(probes.handle_arrived(mark, now), Some(Verdict::Kept(good)));
                }
            }
            for verdict in probes.handle_timeout(now) {
                assert_eq!(verdict, Verdict::Broken(bad));
                broken += 1;
            }
        }
        assert!((3..=6).contains(&looked[&good]), "{looked:?}");
        assert!(broken >= 40, "{looked:?}");
        assert_eq!(probes.handle_arrived([9; 16], now), None, "not ours");
    }
}
