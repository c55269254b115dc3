//! Collects a report while the call runs.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use ahoy_transport::identity::DeviceId;

use super::{
    AudioReport, Cost, Estimate, FoundBy, Histogram, Network, Participant, PathKind, PathRecord,
    RecordingReport, RemoteReport, Report, SCHEMA, Search, Security, Setup, Switch, VideoReport,
    histogram::round, verdict::verdict,
};
use crate::call::{EndedCall, Timeline};

/// Paths and switches kept. A call that changes path more often than this has told its story.
const MAX_PATHS: usize = 256;
/// Participants kept: more than a call can have.
const MAX_PARTICIPANTS: usize = 64;

/// Collects a report while the call runs, in bounded memory.
///
/// Counters are handed over as they stand (`set_…`, the last one counts), values that make a distribution
/// one by one (`observe_…`), happenings as they happen.
#[derive(Debug, Default)]
pub struct ReportBuilder {
    accepted: Option<Instant>,
    first_video: Option<Instant>,
    security: Option<Security>,
    paths: Vec<PathRecord>,
    switches: Vec<Switch>,
    rtt: Histogram,
    estimate: Option<Estimate>,
    search: Option<Search>,
    expected: u64,
    lost: Option<u64>,
    cost: Option<Cost>,
    remote: Option<RemoteReport>,
    recording: Option<RecordingReport>,
    recorded_there: bool,
    found_by: Option<FoundBy>,
    people: BTreeMap<DeviceId, Person>,
}

#[derive(Debug, Default)]
struct Person {
    audio: Option<AudioReport>,
    video: Option<VideoReport>,
    jitter_buffer: Histogram,
    mouth_to_ear: Histogram,
    capture_to_render: Histogram,
}

impl ReportBuilder {
    /// The call was accepted, here or there: times of paths count from now.
    pub fn accepted(&mut self, now: Instant) {
        self.accepted.get_or_insert(now);
    }

    /// The other side was found, for the first time.
    pub fn found_by(&mut self, route: FoundBy) {
        self.found_by.get_or_insert(route);
    }

    /// The first picture was shown.
    pub fn first_video(&mut self, now: Instant) {
        self.first_video.get_or_insert(now);
    }

    /// How the call is protected.
    pub fn set_security(&mut self, security: Security) {
        self.security = Some(security);
    }

    /// Media uses this path from now on.
    pub fn path(&mut self, now: Instant, kind: PathKind, local: String, remote: String) {
        if self.paths.len() < MAX_PATHS {
            let at_ms = self.since_accepted(now);
            self.paths.push(PathRecord {
                at_ms,
                kind,
                local,
                remote,
                rtt_ms: None,
            });
        }
    }

    /// The smoothed round trip of the path in use.
    pub fn observe_rtt(&mut self, rtt: Duration) {
        self.rtt.record(rtt);
        if let Some(path) = self.paths.last_mut() {
            path.rtt_ms = Some(millis(rtt));
        }
    }

    /// Media moved from one kind of path to another; `gap` is the time without media around it.
    pub fn switched(&mut self, now: Instant, from: PathKind, to: PathKind, gap: Duration) {
        if self.switches.len() < MAX_PATHS {
            let at_ms = self.since_accepted(now);
            let gap_ms = whole_millis(gap);
            self.switches.push(Switch {
                at_ms,
                from,
                to,
                gap_ms,
            });
        }
    }

    /// The estimated capacity towards the other side changed.
    pub fn observe_estimate(&mut self, bps: u64) {
        let estimate = self.estimate.get_or_insert(Estimate {
            min: bps,
            max: bps,
            last: bps,
        });
        estimate.min = estimate.min.min(bps);
        estimate.max = estimate.max.max(bps);
        estimate.last = bps;
    }

    /// Media datagrams expected and lost so far, of all kinds.
    pub fn set_loss(&mut self, expected: u64, lost: u64) {
        self.expected = expected;
        self.lost = Some(lost);
    }

    /// The counters of one participant's voice as they stand. Percentiles in it are replaced by what was
    /// observed.
    pub fn set_audio(&mut self, participant: DeviceId, audio: AudioReport) {
        if let Some(person) = self.person(participant) {
            person.audio = Some(audio);
        }
    }

    /// The counters of one participant's picture as they stand, likewise.
    pub fn set_video(&mut self, participant: DeviceId, video: VideoReport) {
        if let Some(person) = self.person(participant) {
            person.video = Some(video);
        }
    }

    /// How long sound waited before it was played.
    pub fn observe_jitter_buffer(&mut self, participant: DeviceId, wait: Duration) {
        if let Some(person) = self.person(participant) {
            person.jitter_buffer.record(wait);
        }
    }

    /// From sample in to sample out; only where both ends share a clock.
    pub fn observe_mouth_to_ear(&mut self, participant: DeviceId, delay: Duration) {
        if let Some(person) = self.person(participant) {
            person.mouth_to_ear.record(delay);
        }
    }

    /// From camera to screen; only where both ends share a clock.
    pub fn observe_capture_to_render(&mut self, participant: DeviceId, delay: Duration) {
        if let Some(person) = self.person(participant) {
            person.capture_to_render.record(delay);
        }
    }

    /// What finding direct paths has cost so far.
    pub fn set_search(&mut self, search: Search) {
        self.search = Some(search);
    }

    /// What the call cost this machine.
    pub fn set_cost(&mut self, cost: Cost) {
        self.cost = Some(cost);
    }

    /// A recording is complete.
    pub fn recorded(&mut self, one: RecordingReport) {
        let all = self.recording.get_or_insert_default();
        *all = RecordingReport {
            seconds: round(all.seconds + one.seconds),
            bytes: all.bytes + one.bytes,
            files: all.files + one.files,
            pictures_own: all.pictures_own + one.pictures_own,
            pictures_theirs: all.pictures_theirs + one.pictures_theirs,
            pictures_dropped: all.pictures_dropped + one.pictures_dropped,
            sound_dropped_ms: all.sound_dropped_ms + one.sound_dropped_ms,
        };
    }

    /// The other side says that it records.
    pub fn recorded_there(&mut self) {
        self.recorded_there = true;
    }

    /// What the other side measured; its last word counts.
    pub fn set_remote(&mut self, remote: RemoteReport) {
        self.remote = Some(remote);
    }

    /// What to tell the other side now.
    #[must_use]
    pub fn for_remote(&self, now: Instant, timeline: &Timeline) -> RemoteReport {
        RemoteReport {
            duration_ms: Some(whole_millis(timeline.talked(now))),
            setup: self.setup(timeline, now),
            participants: self.participants(),
            network: self.network(),
        }
    }

    /// The report of a call that has ended.
    #[must_use]
    pub fn finish(self, ended: &EndedCall) -> Report {
        let mut report = Report {
            schema: SCHEMA,
            outcome: ended.ending.outcome(),
            reason: ended.ending.to_string(),
            duration_ms: whole_millis(ended.timeline.talked(ended.ended)),
            setup: self.setup(&ended.timeline, ended.ended),
            participants: self.participants(),
            network: self.network(),
            security: self.security,
            paths: self.paths,
            recording: self.recording,
            recorded_there: self.recorded_there,
            cost: self.cost,
            remote: self.remote,
            verdict: String::new(),
            rating: None,
        };
        report.verdict = verdict(ended.ending, &report);
        report
    }

    fn setup(&self, timeline: &Timeline, end: Instant) -> Setup {
        let span = |from: Option<Instant>, to: Option<Instant>| {
            Some(millis(to?.saturating_duration_since(from?)))
        };
        let dialled = timeline.found.unwrap_or(timeline.started);
        Setup {
            lookup_ms: span(Some(timeline.started), timeline.found),
            found_by: self.found_by,
            connect_ms: span(Some(dialled), timeline.connected),
            ring_ms: span(timeline.ringing, timeline.accepted.or(Some(end))),
            accept_to_first_audio_ms: span(timeline.accepted, timeline.first_audio),
            accept_to_first_video_ms: span(timeline.accepted, self.first_video),
        }
    }

    fn participants(&self) -> Vec<Participant> {
        let people = self.people.iter();
        people
            .map(|(id, person)| {
                let mut audio = person.audio.clone();
                if let Some(audio) = &mut audio {
                    // What was observed value by value counts, else what came as percentiles.
                    let observed = person.jitter_buffer.percentiles();
                    audio.jitter_buffer_ms = observed.or(audio.jitter_buffer_ms);
                    let observed = person.mouth_to_ear.percentiles();
                    audio.mouth_to_ear_ms = observed.or(audio.mouth_to_ear_ms);
                }
                let mut video = person.video.clone();
                if let Some(video) = &mut video {
                    video.capture_to_render_ms = person.capture_to_render.percentiles();
                }
                Participant {
                    id: id.to_string(),
                    audio,
                    video,
                }
            })
            .collect()
    }

    fn network(&self) -> Option<Network> {
        let network = Network {
            rtt_ms: self.rtt.percentiles(),
            loss_fraction: self
                .lost
                .filter(|_| self.expected > 0)
                .map(|lost| (lost as f64 / self.expected as f64 * 1e6).round() / 1e6),
            estimate_bps: self.estimate,
            search: self.search,
            switches: self.switches.clone(),
        };
        (network != Network::default()).then_some(network)
    }

    fn person(&mut self, id: DeviceId) -> Option<&mut Person> {
        if self.people.len() >= MAX_PARTICIPANTS && !self.people.contains_key(&id) {
            return None;
        }
        Some(self.people.entry(id).or_default())
    }

    fn since_accepted(&self, now: Instant) -> u64 {
        let since = self.accepted.map(|at| now.saturating_duration_since(at));
        whole_millis(since.unwrap_or_default())
    }
}

fn millis(duration: Duration) -> f64 {
    round(duration.as_secs_f64() * 1000.0)
}

fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
