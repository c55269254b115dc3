//! The report for people: ten lines.

use std::path::Path;

use super::{AudioReport, Percentiles, Report, VideoReport};

/// Ten lines about the call, and one more if there were pictures; `files` are what was written, with what each is. What was not measured says so.
#[must_use]
pub fn summary(report: &Report, files: &[(&str, &Path)]) -> String {
    let audio = report.audio();
    let mut lines = vec![
        ("call", call(report)),
        ("setup", setup(report)),
        ("security", security(report)),
        ("paths", paths(report)),
        ("network", network(report)),
        ("sound", audio.map_or_else(unmeasured, sound)),
        ("delay", audio.map_or_else(unmeasured, delay)),
        ("cost", cost(report)),
        ("files", list(files)),
        ("verdict", report.verdict.clone()),
    ];
    if let Some(video) = report.video() {
        lines.insert(7, ("picture", picture(video)));
    }
    let lines: Vec<String> = lines
        .into_iter()
        .map(|(name, text)| format!("{name:<9} {text}\n"))
        .collect();
    lines.concat()
}

fn picture(video: &VideoReport) -> String {
    let size = video.width.zip(video.height);
    let steps = [
        video.frames.sent.map(|sent| format!("{sent} frames sent")),
        video
            .frames
            .rendered
            .map(|rendered| format!("{rendered} shown")),
        video.codec.clone(),
        size.map(|(width, height)| format!("{width}x{height}")),
        video.fps.map(|fps| format!("{fps:.1} per second")),
        video
            .freezes
            .zip(video.frozen_ms)
            .map(|(freezes, millis)| format!("{freezes} freezes of {millis} ms in all")),
        video
            .capture_to_render_ms
            .map(|delay| format!("{:.0} ms late", delay.p50)),
        video.psnr_db.map(|psnr| format!("PSNR {psnr:.1} dB")),
    ];
    joined(steps)
}

fn unmeasured() -> String {
    String::from("not measured")
}

fn call(report: &Report) -> String {
    format!(
        "{} ({}), {:.1} s",
        report.outcome.as_str(),
        report.reason,
        report.duration_ms as f64 / 1000.0
    )
}

fn setup(report: &Report) -> String {
    let setup = &report.setup;
    let steps = [
        ("looked up in", setup.lookup_ms),
        ("connected in", setup.connect_ms),
        ("rang for", setup.ring_ms),
        ("first sound after", setup.accept_to_first_audio_ms),
        ("first picture after", setup.accept_to_first_video_ms),
    ];
    joined(steps.map(|(step, ms)| ms.map(|ms| format!("{step} {ms:.0} ms"))))
}

fn security(report: &Report) -> String {
    report
        .security
        .as_ref()
        .map_or_else(unmeasured, |security| {
            format!(
                "{}, {}, person {}",
                security.handshake,
                if security.post_quantum {
                    "post-quantum"
                } else {
                    "not post-quantum"
                },
                if security.verified {
                    "verified"
                } else {
                    "not verified yet"
                },
            )
        })
}

fn paths(report: &Report) -> String {
    if report.paths.is_empty() {
        return String::from("none");
    }
    let paths = report.paths.iter().map(|path| {
        let rtt = path
            .rtt_ms
            .map(|rtt| format!(", {rtt:.1} ms"))
            .unwrap_or_default();
        format!(
            "{} at {:.1} s{rtt}",
            path.kind.as_str(),
            path.at_ms as f64 / 1000.0
        )
    });
    // Enough for one line; the report has them all.
    let mut shown: Vec<String> = paths.take(4).collect();
    if report.paths.len() > shown.len() {
        shown.push(format!("{} more", report.paths.len() - shown.len()));
    }
    shown.join(" -> ")
}

fn network(report: &Report) -> String {
    report.network.as_ref().map_or_else(unmeasured, |network| {
        let longest = network.switches.iter().map(|switch| switch.gap_ms).max();
        joined([
            network
                .rtt_ms
                .map(|rtt| format!("round trip {}", spread(rtt))),
            network
                .loss_fraction
                .map(|loss| format!("{:.2} % lost", loss * 100.0)),
            network
                .estimate_bps
                .map(|estimate| format!("{} kbit/s at the end", estimate.last / 1000)),
            longest.map(|gap| {
                format!(
                    "{} change(s) of path, longest pause {gap} ms",
                    network.switches.len()
                )
            }),
        ])
    })
}

fn sound(audio: &AudioReport) -> String {
    let packets = audio.packets;
    let recovered = [
        audio.recovered.fec,
        audio.recovered.red,
        audio.recovered.dred,
    ];
    let measured = recovered.iter().any(Option::is_some);
    let recovered = recovered.into_iter().flatten().fold(0, u64::saturating_add);
    joined([
        packets.sent.map(|sent| format!("{sent} packets sent")),
        packets
            .received
            .map(|received| format!("{received} received")),
        packets.lost.map(|lost| format!("{lost} lost")),
        measured.then(|| format!("{recovered} repaired")),
        audio.concealed_ms.map(|ms| format!("{ms} ms concealed")),
        audio
            .score
            .as_ref()
            .map(|score| format!("{} {:.2}", score.metric, score.value)),
    ])
}

fn delay(audio: &AudioReport) -> String {
    joined([
        audio
            .mouth_to_ear_ms
            .map(|it| format!("mouth to ear {}", spread(it))),
        audio
            .jitter_buffer_ms
            .map(|it| format!("jitter buffer {}", spread(it))),
        audio
            .longest_gap_ms
            .map(|ms| format!("longest pause {ms} ms")),
    ])
}

fn cost(report: &Report) -> String {
    report.cost.map_or_else(unmeasured, |cost| {
        joined([
            cost.cpu_ms_per_call_second
                .map(|ms| format!("{ms:.1} ms of processor per second")),
            cost.peak_rss_bytes
                .map(|bytes| format!("{} MiB of memory", bytes >> 20)),
        ])
    })
}

fn list(files: &[(&str, &Path)]) -> String {
    if files.is_empty() {
        return String::from("none written");
    }
    let files = files
        .iter()
        .map(|(what, path)| format!("{what} {}", path.display()));
    files.collect::<Vec<_>>().join(", ")
}

fn spread(it: Percentiles) -> String {
    format!("{:.1} ms (p95 {:.1})", it.p50, it.p95)
}

fn joined<const N: usize>(parts: [Option<String>; N]) -> String {
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() {
        unmeasured()
    } else {
        parts.join(", ")
    }
}
