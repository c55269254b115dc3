//! Samples of counters, and what is said of them.

use super::*;
use crate::ui::model::tests::call;

#[expect(
    clippy::disallowed_methods,
    reason = "a test needs one instant to start from"
)]
fn begin() -> Instant {
    Instant::now()
}

/// A call of which so many seconds went by; each brings 50 packets, so many of them lost.
fn talk(seconds: u64, lost: u64) -> (History, CallView) {
    let start = begin();
    let mut history = History::default();
    let mut call = call(Phase::Talking { since: start });
    call.rtt = Some(Duration::from_millis(40));
    for second in 0..=seconds {
        call.stats = Some(StatsView {
            packets_received: second * (50 - lost),
            packets_lost: second * lost,
            bytes_sent: second * 4000,
            packets_sent: second * 50,
            samples_played: second * 48_000,
            samples_concealed: second * lost * 480,
            frames_recovered: second * lost / 2,
            capacity_bps: Some(2_000_000),
            buffer: Duration::from_millis(60),
            ..StatsView::default()
        });
        // Five looks a second, as the engine shows five views.
        for part in 0..5 {
            let at = start + Duration::from_millis(1000 * second + 200 * part);
            history.look(&call, at);
        }
    }
    (history, call)
}

#[test]
fn a_sample_is_what_one_second_brought() {
    let (history, call) = talk(4, 5);
    assert_eq!(history.samples.len(), 4);
    let now = history.now().unwrap();
    assert_eq!(now.rtt_ms, Some(40.0));
    assert!((now.loss_here - 10.0).abs() < 0.01, "{now:?}");
    assert!((now.invented - 5.0).abs() < 0.01, "{now:?}");
    assert!((now.restored - 5.0).abs() < 0.1, "{now:?}");
    assert!((now.sent_kbps - 32.0).abs() < 0.01, "{now:?}");
    assert_eq!(now.capacity_kbps, Some(2000.0));
    assert_eq!(now.loss_there, None, "what was not measured is not shown");
    let text = as_text(&call, &history);
    assert_eq!(text.lines().count(), 1 + 4 + 2, "{text}");
    assert!(text.contains("\t10.0\t-\t5.0\t"), "{text}");
}

#[test]
fn the_history_is_bounded_and_of_one_call() {
    let (mut history, mut call) = talk(MAX_SAMPLES as u64 + 20, 0);
    assert_eq!(history.samples.len(), MAX_SAMPLES);
    call.id = CallId([9; 16]);
    history.look(&call, begin());
    assert!(history.samples.is_empty() && history.now().is_none());
}

#[test]
fn the_sentence_says_on_whose_side_it_is() {
    let good = Sample {
        rtt_ms: Some(40.0),
        capacity_kbps: Some(900.0),
        buffer_ms: 40.0,
        ..Sample::default()
    };
    let said = |sample: Sample| quality("Grace", &sample);
    assert_eq!(said(good).0, Lamp::Good);
    let (lamp, sentence) = said(Sample {
        loss_there: Some(20.0),
        ..good
    });
    assert_eq!(lamp, Lamp::Poor);
    assert_eq!(
        sentence,
        "20 % of your packets are lost on their way to Grace."
    );
    let (lamp, sentence) = said(Sample {
        loss_here: 8.0,
        invented: 5.0,
        loss_there: Some(1.0),
        ..good
    });
    assert_eq!(lamp, Lamp::Fair);
    assert_eq!(
        sentence,
        "8 % of the packets of Grace are lost on their way to you."
    );
    let restored = said(Sample {
        loss_here: 8.0,
        ..good
    });
    assert!(restored.1.contains("restored"));
    let thin = said(Sample {
        capacity_kbps: Some(30.0),
        ..good
    });
    assert!(thin.1.contains("30 kbit/s"));
    let long = said(Sample {
        rtt_ms: Some(600.0),
        ..good
    });
    assert!(long.1.contains("600 ms"));
    let uneven = said(Sample {
        buffer_ms: 220.0,
        ..good
    });
    assert!(uneven.1.contains("220 ms"));
    let gone = said(Sample { gap: true, ..good });
    assert_eq!(gone.0, Lamp::Poor);
}
