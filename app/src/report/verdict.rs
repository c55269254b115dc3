//! One sentence: what limited this call, and what to do about it.

use super::{AudioReport, Network, PathKind, Report};
use crate::call::{Ending, Failure, Unreachable};

/// Loss that can be heard in spite of repair, as a fraction.
const BAD_LOSS: f64 = 0.05;
/// Loss worth a word.
const SOME_LOSS: f64 = 0.01;
/// Invented sound that can be heard, as a fraction of the call.
const BAD_CONCEALMENT: f64 = 0.03;
/// A pause that everybody notices, in milliseconds.
const LONG_GAP_MS: u64 = 1000;
/// Mouth to ear from which people talk into each other, in milliseconds (ITU-T G.114).
const LONG_DELAY_MS: f64 = 400.0;
/// A round trip that makes [`LONG_DELAY_MS`] likely, in milliseconds.
const LONG_RTT_MS: f64 = 500.0;
/// A buffer that waits this long, in milliseconds, has jitter as its reason.
const LONG_BUFFER_MS: f64 = 150.0;
/// A queue at a bottleneck: the slow twentieth of round trips is this much over the median.
const BLOATED_RTT: f64 = 4.0;
/// Below this, in milliseconds, a bloated queue does not matter.
const BLOATED_RTT_MIN_MS: f64 = 150.0;
/// Processor time that makes old machines stutter, in milliseconds per second of call.
const HIGH_CPU_MS: f64 = 600.0;

/// What limited the call that `report` tells of and that ended as `ending`, and what to do. Looks at
/// everything in the report but the verdict.
#[must_use]
pub fn verdict(ending: Ending, report: &Report) -> String {
    match ending {
        Ending::Completed { .. } => completed(report),
        Ending::Declined { .. } | Ending::DeclinedElsewhere => {
            String::from("The call was declined.")
        }
        Ending::Busy => String::from("The other side is in another call; try again later."),
        Ending::NoAnswer => String::from(
            "Nobody answered; try again later, or ask whether the other side has this app open.",
        ),
        Ending::Cancelled { .. } | Ending::AnsweredElsewhere | Ending::Merged { .. } => {
            format!("There is nothing to judge: {}.", report.reason)
        }
        Ending::Unreachable(why) => format!(
            "The other side could not be reached: {}; {}.",
            report.reason,
            match why {
                Unreachable::Unknown =>
                    "be in one network with them, or ask for a link that names a supernode",
                Unreachable::Offline => "ask whether this app is open there, or call later",
                Unreachable::HomeBusy => "try again in a minute",
                Unreachable::Flooded =>
                    "try again in a while, or have the person make you a contact",
                Unreachable::NoRoute =>
                    "run `ahoy doctor`, or name a supernode that both sides can reach with --via",
                Unreachable::Private =>
                    "get an invite to that network, and join it by `ahoy network join`",
                Unreachable::Untrusted =>
                    "get a new link from the person in another way, and do not trust that supernode",
            }
        ),
        Ending::Lost(_) => format!(
            "The call was lost ({}) after {}{}; call again, and run `ahoy doctor` if it happens often.",
            report.reason,
            seconds(report.duration_ms),
            last_path(report)
        ),
        Ending::Failed(what) => format!(
            "The call failed: {}; {}.",
            report.reason,
            match what {
                Failure::Authentication =>
                    "somebody answered in its place: compare safety words by another way before you \
                     go on",
                Failure::Media =>
                    "check microphone and speaker with `ahoy doctor`, or choose others with \
                     --audio-in and --audio-out",
                Failure::Protocol => "see that both sides run the same version",
                Failure::TimeLimit =>
                    "a firewall may pass the handshake but not the media: run `ahoy doctor` on both \
                     sides",
            }
        ),
    }
}

fn completed(report: &Report) -> String {
    let Some(audio) = report.audio() else {
        return String::from(
            "Nothing was received from the other side; check its microphone and run `ahoy doctor` there.",
        );
    };
    if audio.packets.received == Some(0) {
        return String::from(
            "No sound arrived from the other side; check its microphone and run `ahoy doctor` there.",
        );
    }
    let network = report.network.as_ref();
    let here = limit(report, audio, network);
    here.or_else(|| remote_limit(report)).unwrap_or_else(|| {
        let path = report.paths.last().map(|path| match path.kind {
            PathKind::Relay => " on a relayed path",
            PathKind::Direct => " on a direct path",
            PathKind::Tcp => " through TCP",
            PathKind::Lan => " in the local network",
        });
        format!(
            "Nothing limited this call{}; there is nothing to do.",
            path.unwrap_or_default()
        )
    })
}

/// The worst thing seen here, if any, worst first.
fn limit(report: &Report, audio: &AudioReport, network: Option<&Network>) -> Option<String> {
    let gap = audio.longest_gap_ms.filter(|gap| *gap >= LONG_GAP_MS);
    if let Some(gap) = gap {
        let switched = network.is_some_and(|it| !it.switches.is_empty());
        return Some(if switched {
            format!(
                "The sound stopped for {} around a change of path; keep to one network while you call, or add \
                 a second supernode.",
                seconds(gap)
            )
        } else {
            format!(
                "The sound stopped for {} while no path worked; check the connection of both sides.",
                seconds(gap)
            )
        });
    }
    let loss = loss_here(audio).or(network.and_then(|it| it.loss_fraction));
    let rtt = network.and_then(|it| it.rtt_ms);
    let bloated = rtt.filter(|it| it.p95 >= BLOATED_RTT_MIN_MS && it.p95 >= it.p50 * BLOATED_RTT);
    if let Some(rtt) = bloated {
        return Some(format!(
            "A queue filled up on the way (round trip {:.0} ms, at times {:.0} ms); stop downloads and uploads \
             in this network, or set --bitrate lower.",
            rtt.p50, rtt.p95
        ));
    }
    if let Some(loss) = loss.filter(|loss| *loss >= BAD_LOSS) {
        return Some(format!(
            "The network lost {:.1} % of the sound on its way here{}; move closer to the access point or use \
             a cable.",
            loss * 100.0,
            repaired(audio)
        ));
    }
    if let Some(buffer) = audio.jitter_buffer_ms.filter(|it| it.p95 >= LONG_BUFFER_MS) {
        return Some(format!(
            "Packets came unevenly, so sound had to wait up to {:.0} ms; use a cable, or 5 GHz instead of \
             2.4 GHz.",
            buffer.p95
        ));
    }
    let delay = audio.mouth_to_ear_ms.map(|it| it.p50);
    let slow_delay = delay.filter(|it| *it >= LONG_DELAY_MS);
    let slow_rtt = rtt.map(|it| it.p50).filter(|it| *it >= LONG_RTT_MS);
    if slow_delay.is_some() || slow_rtt.is_some() {
        let what = match (slow_delay, slow_rtt) {
            (Some(delay), _) => format!("{delay:.0} ms from mouth to ear"),
            (None, rtt) => format!("a round trip of {:.0} ms", rtt.unwrap_or_default()),
        };
        return Some(if relayed(report) {
            format!(
                "The way was long ({what}) and relayed; a supernode closer to both sides helps."
            )
        } else {
            format!("The way was long ({what}); only a shorter route helps.")
        });
    }
    let concealed = audio
        .concealed_ms
        .map(|ms| ms as f64 / report.duration_ms.max(1) as f64);
    if let Some(share) = concealed.filter(|share| *share >= BAD_CONCEALMENT) {
        return Some(format!(
            "{:.0} % of the sound had to be guessed because it came late or never; check the connection of \
             both sides.",
            share * 100.0
        ));
    }
    let cpu = report.cost.and_then(|cost| cost.cpu_ms_per_call_second);
    if let Some(cpu) = cpu.filter(|cpu| *cpu >= HIGH_CPU_MS) {
        return Some(format!(
            "This machine was busy ({:.0} % of one processor for this call); close other programs.",
            cpu / 10.0
        ));
    }
    loss.filter(|loss| *loss >= SOME_LOSS).map(|loss| {
        format!(
            "The network lost {:.1} % of the sound on its way here{}; nothing needs to be done.",
            loss * 100.0,
            repaired(audio)
        )
    })
}

/// What the other side suffered from, when we did not.
fn remote_limit(report: &Report) -> Option<String> {
    let remote = report.remote.as_ref()?;
    let audio = remote.participants.first().and_then(|it| it.audio.as_ref());
    let network = remote.network.as_ref().and_then(|it| it.loss_fraction);
    let loss = audio.and_then(loss_here).or(network);
    loss.filter(|loss| *loss >= SOME_LOSS && *loss <= 1.0).map(|loss| {
        format!(
            "It was good here, but the other side lost {:.1} % of the sound on its way there; its network is \
             the place to look.",
            loss * 100.0
        )
    })
}

fn loss_here(audio: &AudioReport) -> Option<f64> {
    let (lost, received) = (audio.packets.lost?, audio.packets.received?);
    let expected = lost
        .checked_add(received)
        .filter(|expected| *expected > 0)?;
    Some(lost as f64 / expected as f64)
}

fn repaired(audio: &AudioReport) -> String {
    let recovered = [
        audio.recovered.fec,
        audio.recovered.red,
        audio.recovered.dred,
    ];
    let recovered: u64 = recovered.into_iter().flatten().fold(0, u64::saturating_add);
    match audio.packets.lost {
        Some(lost) if lost > 0 && recovered > 0 => {
            let share = recovered.min(lost) as f64 / lost as f64 * 100.0;
            format!(", of which {share:.0} % was repaired")
        }
        Some(_) | None => String::new(),
    }
}

fn relayed(report: &Report) -> bool {
    report
        .paths
        .last()
        .is_some_and(|path| matches!(path.kind, PathKind::Relay | PathKind::Tcp))
}

fn last_path(report: &Report) -> String {
    let path = report.paths.last();
    path.map(|path| format!(" on the {} path", path.kind.as_str()))
        .unwrap_or_default()
}

fn seconds(millis: u64) -> String {
    format!("{:.1} s", millis as f64 / 1000.0)
}
