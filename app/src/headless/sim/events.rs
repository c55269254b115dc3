//! What a simulation tells while it runs: the lines of `--ndjson`.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use serde::Serialize;

use crate::{
    engine::handle::Event,
    report::{Report, Search},
    sim::{SimNode, World},
};

/// Something that happened, with its time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// Virtual time since the world began, in milliseconds.
    pub at_ms: u64,
    /// What.
    #[serde(flatten)]
    pub what: Happening,
}

/// What the caller's engine told, what was done to the network, and how things stand once a second.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Happening {
    /// The world began.
    Started {
        /// The seed of everything random.
        seed: u64,
    },
    /// Both are registered at the supernode; the caller calls.
    Calling,
    /// The other side rings.
    Ringing,
    /// Both sides agreed.
    Connected,
    /// The first sound of the other side was played.
    FirstAudio,
    /// The caller lost the supernode.
    HomeLost,
    /// The caller is registered again.
    HomeBack,
    /// Something was done to the network.
    Network {
        /// What, in the words of the plan.
        what: String,
    },
    /// The caller's media takes another path.
    Path {
        /// The former, where there was one.
        #[serde(skip_serializing_if = "Option::is_none")]
        from: Option<&'static str>,
        /// The present.
        to: &'static str,
    },
    /// No path works for the moment.
    Reconnecting,
    /// One works again.
    Reconnected,
    /// How things stand.
    Second {
        /// The path of media, once there is one.
        #[serde(skip_serializing_if = "Option::is_none")]
        path: Option<&'static str>,
        /// The path's round trip, in milliseconds.
        #[serde(skip_serializing_if = "Option::is_none")]
        rtt_ms: Option<f64>,
        /// What finding direct paths has cost the caller so far.
        #[serde(skip_serializing_if = "Option::is_none")]
        search: Option<Search>,
        /// Level of the caller's sound, dBFS; absent: silence.
        #[serde(skip_serializing_if = "Option::is_none")]
        level_in_dbfs: Option<f64>,
        /// Level of the other side's sound, dBFS; absent: silence.
        #[serde(skip_serializing_if = "Option::is_none")]
        level_out_dbfs: Option<f64>,
        /// UDP datagrams of the caller so far.
        datagrams: Datagrams,
    },
    /// The call is over.
    Ended {
        /// The caller's report.
        report: Box<Report>,
    },
}

/// UDP datagrams of one node, since the world began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Datagrams {
    /// Sent.
    pub sent: u64,
    /// UDP payload bytes sent.
    pub sent_bytes: u64,
    /// Received, second copies included.
    pub received: u64,
    /// UDP payload bytes received.
    pub received_bytes: u64,
    /// Sent and dropped on the way, by reason.
    pub dropped: BTreeMap<&'static str, u64>,
}

impl Datagrams {
    /// Those of `node`.
    pub(super) fn of(world: &World, node: SimNode) -> Self {
        let stats = world.node_stats(node);
        Self {
            sent: stats.sent,
            sent_bytes: stats.sent_bytes,
            received: stats.delivered,
            received_bytes: stats.delivered_bytes,
            dropped: stats
                .dropped
                .iter()
                .map(|(reason, count)| (reason.as_str(), *count))
                .collect(),
        }
    }
}

impl Happening {
    /// What an event of the caller's engine comes to, if anything.
    pub(super) fn of(event: &Event) -> Option<Self> {
        match event {
            Event::Ringing { .. } => Some(Self::Ringing),
            Event::Connected { .. } => Some(Self::Connected),
            Event::FirstAudio { .. } => Some(Self::FirstAudio),
            Event::HomeLost { .. } => Some(Self::HomeLost),
            Event::HomeBack { .. } => Some(Self::HomeBack),
            // The end comes with its report, later. The rest does not happen to a caller.
            Event::Ready { .. }
            | Event::Incoming { .. }
            | Event::Waiting { .. }
            | Event::Request { .. }
            | Event::Sound { .. }
            | Event::Pictures { .. }
            | Event::Recording { .. }
            | Event::Record(_)
            | Event::Lending(_)
            | Event::Anomaly { .. }
            | Event::SoundChosen(_)
            | Event::Message { .. }
            | Event::MessageState { .. }
            | Event::File(_)
            | Event::Ended { .. }
            | Event::Failed { .. } => None,
        }
    }
}

/// Puts the time on what happens.
pub(super) struct Log<'a, O> {
    world: &'a World,
    observe: Mutex<O>,
}

impl<'a, O: FnMut(Line)> Log<'a, O> {
    pub(super) fn new(world: &'a World, observe: O) -> Self {
        Self {
            world,
            observe: Mutex::new(observe),
        }
    }

    pub(super) fn write(&self, what: Happening) {
        let at_ms = u64::try_from(self.world.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut observe = self.observe.lock().unwrap_or_else(PoisonError::into_inner);
        observe(Line { at_ms, what });
    }
}
