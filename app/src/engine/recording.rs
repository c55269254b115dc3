//! Recording a call to a file.

use std::{path::PathBuf, time::Instant};

use ahoy_media::record::RecordStats;

use crate::report::RecordingReport;

/// What a device records by itself, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordSettings {
    /// Every call is recorded there from its first sound on; where the name is taken, it gets a number.
    pub file: Option<PathBuf>,
    /// Write on a thread of its own. Not in the simulator, whose time stands still meanwhile.
    pub threads: bool,
}

impl Default for RecordSettings {
    fn default() -> Self {
        Self {
            file: None,
            threads: true,
        }
    }
}

/// Where to record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordTo {
    /// The file.
    pub path: PathBuf,
    /// Where its name is taken it gets a number; else nothing is recorded then.
    pub any_number: bool,
}

/// A recording that goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordingView {
    /// The file.
    pub path: PathBuf,
    /// Since when.
    pub since: Instant,
}

/// Something happened to the recordings of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordingNews {
    /// What.
    pub kind: RecordingNewsKind,
    /// What, for a person.
    pub sentence: String,
}

/// What happened to the recordings of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RecordingNewsKind {
    /// We record.
    Started,
    /// Our recording is complete.
    Finished,
    /// Our recording has stopped by itself.
    Failed,
    /// The other side records.
    StartedThere,
    /// The other side records no more.
    StoppedThere,
}

impl RecordingNewsKind {
    /// Its name for scripts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::StartedThere => "started_there",
            Self::StoppedThere => "stopped_there",
        }
    }
}

/// Counters as they are reported.
pub(super) fn report(stats: &RecordStats) -> RecordingReport {
    RecordingReport {
        seconds: (stats.duration.as_secs_f64() * 100.0).round() / 100.0,
        bytes: stats.bytes,
        files: stats.files,
        pictures_own: stats.pictures_ours,
        pictures_theirs: stats.pictures_theirs,
        pictures_dropped: stats.pictures_dropped,
        sound_dropped_ms: stats.sound_dropped * 10,
    }
}
