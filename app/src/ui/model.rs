//! What the window says and offers for a [`View`], decided without a window.

use std::time::Instant;

use crate::engine::handle::{CallView, Command, HomeView, Phase, View};

/// A button of the call card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    /// What stands on it; also its accessible name.
    pub label: &'static str,
    /// What it does.
    pub command: Command,
    /// How it looks.
    pub kind: ActionKind,
}

/// How a button looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActionKind {
    /// The thing most people want now.
    Primary,
    /// It ends something.
    Danger,
    /// Neither.
    Plain,
}

/// Whether we can be called, in one line.
#[must_use]
pub fn reachability(homes: &[HomeView]) -> String {
    let up = homes.iter().filter(|home| home.registered).count();
    match (homes.len(), up) {
        (0, _) => "No supernode yet: paste a friend's link to call, or start with --via".into(),
        (_, 0) => "Looking for your supernodes…".into(),
        (1, 1) => "Reachable through 1 supernode".into(),
        (all, up) => format!("Reachable through {up} of {all} supernodes"),
    }
}

/// The call in one line under the name.
#[must_use]
pub fn call_line(call: &CallView, now: Instant) -> String {
    match &call.phase {
        Phase::Calling => "Calling…".into(),
        Phase::Ringing => "Ringing…".into(),
        Phase::Incoming => "calls you".into(),
        Phase::Connecting => "Connecting…".into(),
        Phase::Talking { since } => {
            let seconds = now.saturating_duration_since(*since).as_secs();
            let clock = format!("{}:{:02}", seconds / 60, seconds % 60);
            match call.path {
                Some(path) => format!("{clock} · {path} · end-to-end encrypted"),
                None => format!("{clock} · end-to-end encrypted"),
            }
        }
        Phase::Reconnecting => "The connection is gone. Reconnecting…".into(),
        Phase::Ended { sentence } => sentence.clone(),
    }
}

/// What can be done about the call now, most wanted first.
#[must_use]
pub fn call_actions(call: &CallView) -> Vec<Action> {
    let action = |label, command, kind| Action {
        label,
        command,
        kind,
    };
    let mute = if call.muted {
        action("Unmute", Command::Mute(false), ActionKind::Primary)
    } else {
        action("Mute", Command::Mute(true), ActionKind::Plain)
    };
    match call.phase {
        Phase::Incoming => vec![
            action("Answer", Command::Accept, ActionKind::Primary),
            action("Decline", Command::Decline, ActionKind::Danger),
        ],
        Phase::Calling | Phase::Ringing => {
            vec![action("Cancel", Command::HangUp, ActionKind::Danger)]
        }
        Phase::Connecting | Phase::Talking { .. } | Phase::Reconnecting => {
            vec![mute, action("Hang up", Command::HangUp, ActionKind::Danger)]
        }
        Phase::Ended { .. } => Vec::new(),
    }
}

/// Whether a new call can be placed.
#[must_use]
pub fn can_call(view: &View, target: &str) -> bool {
    let busy = view
        .call
        .as_ref()
        .is_some_and(|call| !matches!(call.phase, Phase::Ended { .. }));
    !busy && !target.trim().is_empty()
}

/// Level of a meter, 0 to 1, from dBFS: -60 is empty, 0 is full.
#[must_use]
pub fn meter(dbfs: f32) -> f32 {
    ((dbfs + 60.0) / 60.0).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ahoy_transport::identity::{NodeId, UserId};

    use super::*;
    use crate::call::CallId;

    #[expect(
        clippy::disallowed_methods,
        reason = "a test needs one instant to start from"
    )]
    fn now() -> Instant {
        Instant::now()
    }

    fn call(phase: Phase) -> CallView {
        CallView {
            id: CallId([1; 16]),
            name: "Grace".into(),
            user: UserId([2; 32]),
            outgoing: true,
            started: now(),
            phase,
            muted: false,
            held: false,
            path: Some("direct"),
            safety_words: Vec::new(),
            level_in: -20.0,
            level_out: -20.0,
        }
    }

    fn labels(call: &CallView) -> Vec<&'static str> {
        call_actions(call)
            .into_iter()
            .map(|action| action.label)
            .collect()
    }

    #[test]
    fn every_phase_offers_a_way_out_until_it_is_over() {
        #[expect(
            clippy::disallowed_methods,
            reason = "a test needs one instant to start from"
        )]
        let now = Instant::now();
        let phases = [
            (Phase::Calling, vec!["Cancel"]),
            (Phase::Ringing, vec!["Cancel"]),
            (Phase::Incoming, vec!["Answer", "Decline"]),
            (Phase::Connecting, vec!["Mute", "Hang up"]),
            (Phase::Talking { since: now }, vec!["Mute", "Hang up"]),
            (Phase::Reconnecting, vec!["Mute", "Hang up"]),
            (
                Phase::Ended {
                    sentence: "Grace declined.".into(),
                },
                vec![],
            ),
        ];
        for (phase, expected) in phases {
            assert_eq!(labels(&call(phase)), expected);
        }
        let muted = CallView {
            muted: true,
            ..call(Phase::Connecting)
        };
        assert_eq!(labels(&muted), ["Unmute", "Hang up"]);
    }

    #[test]
    fn the_line_tells_time_and_path() {
        #[expect(
            clippy::disallowed_methods,
            reason = "a test needs one instant to start from"
        )]
        let since = Instant::now();
        let line = call_line(
            &call(Phase::Talking { since }),
            since + Duration::from_secs(75),
        );
        assert_eq!(line, "1:15 · direct · end-to-end encrypted");
    }

    #[test]
    fn a_second_call_waits_for_the_first_to_end() {
        let mut view = View::default();
        assert!(can_call(&view, "ahoy:x"));
        assert!(!can_call(&view, "  "));
        view.call = Some(call(Phase::Ringing));
        assert!(!can_call(&view, "ahoy:x"));
        view.call = Some(call(Phase::Ended {
            sentence: String::new(),
        }));
        assert!(can_call(&view, "ahoy:x"));
    }

    #[test]
    fn reachability_counts_homes_that_answered() {
        let home = |registered| HomeView {
            node: NodeId([3; 32]),
            registered,
        };
        assert!(reachability(&[]).contains("--via"));
        assert!(reachability(&[home(false)]).starts_with("Looking"));
        assert_eq!(reachability(&[home(true)]), "Reachable through 1 supernode");
        assert_eq!(
            reachability(&[home(true), home(false)]),
            "Reachable through 1 of 2 supernodes"
        );
    }
}
