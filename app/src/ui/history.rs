//! What was measured of the call in the last minutes, for plots and for the sentence about its quality.
//!
//! A task of the runtime takes a sample of the view each second, also while nobody draws.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{runtime::Handle, sync::watch};

use super::words;
use crate::{
    call::CallId,
    engine::handle::{CallView, Phase, StatsView, View},
};

/// Samples are so far from each other.
const STEP: Duration = Duration::from_secs(1);
/// Samples that are kept: five minutes.
pub(super) const MAX_SAMPLES: usize = 300;
/// What is said of now looks back so many samples: long enough that one burst is seen, short enough to be now.
const WINDOW: usize = 6;

/// One second of a call.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Sample {
    /// Round trip of the path in use, milliseconds.
    pub(super) rtt_ms: Option<f32>,
    /// Part of their packets that did not come, percent.
    pub(super) loss_here: f32,
    /// Part of our packets that do not arrive, percent.
    pub(super) loss_there: Option<f32>,
    /// Part of the sound that was invented, percent.
    pub(super) invented: f32,
    /// Part of the frames that was lost and restored, percent.
    pub(super) restored: f32,
    /// What sound waits for in the jitter buffer, milliseconds.
    pub(super) buffer_ms: f32,
    /// Voice that we send, kbit/s.
    pub(super) sent_kbps: f32,
    /// What the path carries, kbit/s.
    pub(super) capacity_kbps: Option<f32>,
    /// Pictures that we send, per second.
    pub(super) pictures: Option<f32>,
    /// Nothing could be measured: no path worked.
    pub(super) gap: bool,
}

/// The last minutes of a call. Copies are cheap.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct History {
    /// Which call.
    pub(super) call: Option<CallId>,
    /// The oldest first.
    pub(super) samples: Arc<VecDeque<Sample>>,
    /// What was counted when the last sample was taken.
    last: Option<(Instant, StatsView)>,
}

impl History {
    /// Takes a sample if it is time for one. Returns whether it did.
    pub(super) fn look(&mut self, call: &CallView, now: Instant) -> bool {
        if self.call != Some(call.id) {
            *self = Self {
                call: Some(call.id),
                ..Self::default()
            };
        }
        let is_gone = match call.phase {
            Phase::Talking { .. } => false,
            Phase::Reconnecting => true,
            Phase::Calling
            | Phase::Ringing
            | Phase::Incoming
            | Phase::Connecting
            | Phase::Ended { .. } => return false,
        };
        let Some(stats) = call.stats else {
            return false;
        };
        let Some((at, before)) = self.last else {
            self.last = Some((now, stats));
            return false;
        };
        let passed = now.saturating_duration_since(at);
        if passed < STEP {
            return false;
        }
        self.last = Some((now, stats));
        let samples = Arc::make_mut(&mut self.samples);
        if samples.len() >= MAX_SAMPLES {
            samples.pop_front();
        }
        let mut sample = sample(&before, &stats, passed);
        sample.rtt_ms = call.rtt.map(|rtt| rtt.as_secs_f32() * 1e3);
        sample.gap = is_gone;
        samples.push_back(sample);
        true
    }

    /// The mean of the last seconds; none before there are some.
    pub(super) fn now(&self) -> Option<Sample> {
        let recent: Vec<&Sample> = self.samples.iter().rev().take(WINDOW).collect();
        let last = **recent.first()?;
        let mean = |of: fn(&Sample) -> f32| {
            let sum: f32 = recent.iter().map(|sample| of(sample)).sum();
            sum / recent.len() as f32
        };
        Some(Sample {
            loss_here: mean(|sample| sample.loss_here),
            invented: mean(|sample| sample.invented),
            restored: mean(|sample| sample.restored),
            sent_kbps: mean(|sample| sample.sent_kbps),
            ..last
        })
    }
}

fn sample(before: &StatsView, after: &StatsView, passed: Duration) -> Sample {
    let grown = |of: fn(&StatsView) -> u64| of(after).saturating_sub(of(before)) as f32;
    let percent = |part: f32, whole: f32| {
        if whole > 0.0 {
            (100.0 * part / whole).clamp(0.0, 100.0)
        } else {
            0.0
        }
    };
    let received = grown(|stats| stats.packets_received);
    // A packet that was under way when it was counted as lost has come since: then there are fewer.
    let lost = grown(|stats| stats.packets_lost);
    let seconds = passed.as_secs_f32();
    Sample {
        rtt_ms: None,
        loss_here: percent(lost, received + lost),
        loss_there: after.loss_there.map(|loss| 100.0 * loss),
        invented: percent(
            grown(|stats| stats.samples_concealed),
            grown(|stats| stats.samples_played),
        ),
        restored: percent(grown(|stats| stats.frames_recovered), received + lost),
        buffer_ms: after.buffer.as_secs_f32() * 1e3,
        sent_kbps: grown(|stats| stats.bytes_sent) * 8.0 / 1e3 / seconds,
        capacity_kbps: after.capacity_bps.map(|bps| bps as f32 / 1e3),
        pictures: match (before.pictures_sent, after.pictures_sent) {
            (Some(before), Some(after)) => Some(after.saturating_sub(before) as f32 / seconds),
            (None | Some(_), None) | (None, Some(_)) => None,
        },
        gap: false,
    }
}

/// Keeps the history of whatever call `view` shows. Ends with the engine, or when nobody looks any more.
pub(super) fn start(runtime: &Handle, mut view: watch::Receiver<View>) -> watch::Receiver<History> {
    let (kept, shown) = watch::channel(History::default());
    runtime.spawn(async move {
        while view.changed().await.is_ok() && !kept.is_closed() {
            let now = now();
            let view = view.borrow_and_update();
            if let Some(call) = &view.call {
                kept.send_if_modified(|history| history.look(call, now));
            }
        }
    });
    shown
}

#[expect(
    clippy::disallowed_methods,
    reason = "the window is outside the simulated world: its plots have the person's clock"
)]
fn now() -> Instant {
    Instant::now()
}

/// How good the call is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lamp {
    /// Nothing to complain of.
    Good,
    /// One hears that it is a call.
    Fair,
    /// Words are lost.
    Poor,
}

/// Loss that repair hides, percent.
const SOME_LOSS: f32 = 3.0;
/// Loss that is heard in spite of it, percent.
const BAD_LOSS: f32 = 12.0;
/// Invented sound that is heard, percent.
const SOME_INVENTED: f32 = 3.0;
/// Invented sound that takes words away, percent.
const BAD_INVENTED: f32 = 12.0;
/// A round trip from which people talk into each other, milliseconds: ITU-T G.114 wants 150 one way, and there is the
/// buffer too.
const LONG_RTT_MS: f32 = 350.0;
/// A buffer that waits so long does it for jitter, milliseconds.
const LONG_BUFFER_MS: f32 = 150.0;
/// A path that carries less than this has voice in few bits, kbit/s.
const THIN_KBPS: f32 = 60.0;

/// What limits the call with `name` now, and on whose side: the worst thing first.
pub(super) fn quality(name: &str, now: &Sample) -> (Lamp, String) {
    let there = now.loss_there.unwrap_or(0.0);
    let worse = |value: f32, bad: f32| if value >= bad { Lamp::Poor } else { Lamp::Fair };
    if now.gap {
        return (Lamp::Poor, words::quality_gap().into());
    }
    if now.invented >= SOME_INVENTED {
        let lamp = worse(now.invented, BAD_INVENTED);
        let why = if now.loss_here >= SOME_LOSS {
            words::quality_lost_here(words::decimal(now.loss_here, 0), name)
        } else {
            words::quality_uneven(name)
        };
        return (lamp, why);
    }
    if there >= SOME_LOSS && there >= now.loss_here {
        let why = words::quality_lost_there(words::decimal(there, 0), name);
        return (worse(there, BAD_LOSS), why);
    }
    if now.loss_here >= SOME_LOSS {
        let why = words::quality_restored(words::decimal(now.loss_here, 0), name);
        return (Lamp::Fair, why);
    }
    if let Some(thin) = now.capacity_kbps.filter(|kbps| *kbps < THIN_KBPS) {
        let why = words::quality_thin(name, words::decimal(thin, 0));
        return (Lamp::Fair, why);
    }
    if let Some(rtt) = now.rtt_ms.filter(|rtt| *rtt >= LONG_RTT_MS) {
        let why = words::quality_long(words::decimal(rtt, 0));
        return (Lamp::Fair, why);
    }
    if now.buffer_ms >= LONG_BUFFER_MS {
        let why = words::quality_buffer(name, words::decimal(now.buffer_ms, 0));
        return (Lamp::Fair, why);
    }
    (Lamp::Good, words::quality_good().into())
}

/// The last minutes as text: what stood in the plots, for a bug report.
pub(super) fn as_text(call: &CallView, history: &History) -> String {
    use std::fmt::Write as _;
    let mut text = String::from(
        "second\trtt_ms\tloss_here_%\tloss_there_%\tinvented_%\trestored_%\tbuffer_ms\tsent_kbps\tcapacity_kbps\n",
    );
    let told =
        |value: Option<f32>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"));
    for (second, sample) in history.samples.iter().enumerate() {
        // A string takes everything.
        writeln!(
            text,
            "{second}\t{}\t{:.1}\t{}\t{:.1}\t{:.1}\t{:.1}\t{:.1}\t{}",
            told(sample.rtt_ms),
            sample.loss_here,
            told(sample.loss_there),
            sample.invented,
            sample.restored,
            sample.buffer_ms,
            sample.sent_kbps,
            told(sample.capacity_kbps),
        )
        .unwrap_or_default();
    }
    if let Some(now) = history.now() {
        // Whoever mends it reads English.
        let told = || quality("the other side", &now);
        let (_lamp, sentence) = words::with(words::Language::English, told);
        text.push_str(&sentence);
        text.push('\n');
    }
    if let Some(path) = call.path {
        text.push_str("path: ");
        text.push_str(path);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests;
