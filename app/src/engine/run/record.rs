//! Recordings: begun when the other side can be told, kept up while the person talks with them, ended aloud.

use std::time::Duration;

use ahoy_media::record::{FileShelf, RecordConfig, RecordStatus, RecordTap, Recorder, Side};
use ahoy_transport::runtime::RuntimeExt as _;

use super::Engine;
use crate::{
    call::CallId,
    engine::{
        handle::Event,
        notice::{Notice, RecordTrouble},
        recording::{RecordTo, RecordingNews, RecordingNewsKind, RecordingView, report},
        sentence,
    },
};

/// What is reported of a call waits so long for the end of its file. It takes a write or two.
const REPORT_PATIENCE: Duration = Duration::from_millis(250);

/// A program that ends waits so long for a slow disk.
const END_PATIENCE: Duration = Duration::from_secs(2);
const END_LOOK: Duration = Duration::from_millis(20);

/// The recording of a call.
pub(super) struct Recording {
    call: CallId,
    recorder: Recorder,
    view: RecordingView,
}

/// One that is being ended.
pub(super) struct EndingRecording {
    call: CallId,
    recorder: Recorder,
}

impl Engine {
    /// Records this call from now on, or no more.
    pub(super) fn record(&mut self, call: CallId, wanted: Option<RecordTo>) {
        let Some(to) = wanted else {
            self.end_recording(call);
            return;
        };
        if let Err(notice) = self.begin_recording(call, to) {
            self.fail(notice);
        }
    }

    fn begin_recording(&mut self, call: CallId, to: RecordTo) -> Result<(), Notice> {
        if let Some(recording) = &self.recording {
            return Err(Notice::Recording(if recording.call == call {
                RecordTrouble::Already
            } else {
                RecordTrouble::OtherCall
            }));
        }
        self.calls.may_record(call)?;
        let slot = self.slots.get_mut(&call);
        let Some(slot) = slot.filter(|slot| slot.media.is_some()) else {
            return Err(crate::call::CommandError::NotTalking.into());
        };
        let config = RecordConfig {
            name: slot.name.clone(),
            unix_millis: self.runtime.unix_millis(),
            follow_clocks: true,
        };
        let shelf = if to.any_number {
            FileShelf::beside(to.path)
        } else {
            FileShelf::exactly(to.path)
        };
        let now = self.runtime.now();
        let threads = self.config.recording.threads;
        let recorder = Recorder::start(config, Box::new(shelf), now, threads);
        let recorder = recorder.map_err(|error| RecordTrouble::from(&error))?;
        let path = recorder.status().path;
        // Nothing is recorded before the other side is told.
        self.calls.set_recording(call, true)?;
        let tap = recorder.tap();
        self.recording = Some(Recording {
            call,
            recorder,
            view: RecordingView {
                path: path.clone(),
                since: now,
            },
        });
        self.tap(call, Some(tap));
        self.look_at_recording(call);
        let sentence = sentence::recording(&path);
        self.tell_recording(call, RecordingNewsKind::Started, sentence);
        Ok(())
    }

    /// The person wants no more of it, or the call is over.
    fn end_recording(&mut self, call: CallId) {
        let Some(recording) = self.recording.take_if(|recording| recording.call == call) else {
            return;
        };
        self.tap(call, None);
        let recorder = recording.recorder;
        recorder.close();
        if let Err(error) = self.calls.set_recording(call, false) {
            tracing::trace!(%error, "nobody is left to be told");
        }
        self.ending_recordings
            .push(EndingRecording { call, recorder });
        self.look_at_ending_recordings();
    }

    /// Hands over sound and pictures of this call to a recording, or to none.
    fn tap(&self, call: CallId, tap: Option<RecordTap>) {
        let Some(slot) = self.slots.get(&call) else {
            return;
        };
        if let Some((_device, media)) = &slot.media {
            media.set_tap(tap.clone());
        }
        if let Some(video) = &slot.video {
            video.set_tap(tap);
        }
    }

    /// What this call sounds and looks like is to be had from now on.
    pub(super) fn tap_opened(&self, call: CallId) {
        if let Some(recording) = self.recording.as_ref().filter(|it| it.call == call) {
            self.tap(call, Some(recording.recorder.tap()));
        }
    }

    /// Somebody talks in this call from now on.
    pub(super) fn record_by_itself(&mut self, call: CallId) {
        let Some(path) = self.config.recording.file.clone() else {
            return;
        };
        let Some(slot) = self.slots.get_mut(&call) else {
            return;
        };
        if std::mem::replace(&mut slot.recorded_by_itself, true) || self.recording.is_some() {
            return;
        }
        let to = RecordTo {
            path,
            any_number: true,
        };
        self.record(call, Some(to));
    }

    /// Looks whether recordings go on, and gives them what they need.
    pub(super) fn look_at_recording(&mut self, call: CallId) {
        let Some(recording) = self.recording.as_ref().filter(|it| it.call == call) else {
            return;
        };
        if recording.recorder.status().is_over {
            // The disk is full, or gone.
            self.end_recording(call);
            return;
        }
        let video = self.slots.get(&call).and_then(|slot| slot.video.as_ref());
        for side in Side::BOTH {
            if let Some(video) = video.filter(|_| recording.recorder.wants_key(side)) {
                video.want_key(side);
            }
        }
    }

    /// What is recorded of this call.
    pub(super) fn recording_view(&self, call: CallId) -> Option<RecordingView> {
        let recording = self.recording.as_ref().filter(|it| it.call == call)?;
        Some(recording.view.clone())
    }

    /// Tells of files that have become complete.
    pub(super) fn look_at_ending_recordings(&mut self) {
        let (over, ending) = std::mem::take(&mut self.ending_recordings)
            .into_iter()
            .partition(|it| it.recorder.status().is_over);
        self.ending_recordings = ending;
        for EndingRecording { call, recorder } in over {
            self.recorded(call, &recorder.status());
        }
    }

    fn recorded(&mut self, call: CallId, status: &RecordStatus) {
        if let Some(slot) = self.slots.get_mut(&call) {
            slot.report.recorded(report(&status.stats));
            slot.recorded = Some(status.path.clone());
        }
        let (kind, sentence) = match &status.error {
            None => (
                RecordingNewsKind::Finished,
                sentence::recorded(&status.path, &status.stats),
            ),
            Some(error) => (RecordingNewsKind::Failed, sentence::of(&error.to_string())),
        };
        if let Some(error) = &status.error {
            self.fail(RecordTrouble::from(&**error));
        }
        self.tell_recording(call, kind, sentence);
        self.show();
    }

    fn tell_recording(&self, call: CallId, kind: RecordingNewsKind, sentence: String) {
        // What has failed was told as such.
        if kind != RecordingNewsKind::Failed {
            tracing::info!("{sentence}");
        }
        let news = RecordingNews { kind, sentence };
        self.publish(Event::Recording { call, news });
    }

    /// The other side says whether it records.
    pub(super) fn recorded_there(&mut self, call: CallId, is_recorded: bool) {
        let Some(slot) = self.slots.get_mut(&call) else {
            return;
        };
        if std::mem::replace(&mut slot.recorded_there, is_recorded) == is_recorded {
            return;
        }
        let name = &slot.name;
        let (kind, sentence) = if is_recorded {
            slot.report.recorded_there();
            (
                RecordingNewsKind::StartedThere,
                format!("{name} records this call."),
            )
        } else {
            (
                RecordingNewsKind::StoppedThere,
                format!("{name} does not record this call any more."),
            )
        };
        self.tell_recording(call, kind, sentence);
        self.show();
    }

    /// A call is over. If it goes on as another one, so does its recording; else the file is ended, and waited for a
    /// little: what is reported is what is in it.
    pub(super) fn end_recording_of(&mut self, call: CallId) {
        let next = self.calls.current().filter(|info| info.recording);
        if let (Some(recording), Some(next)) = (&mut self.recording, next)
            && recording.call == call
            && next.call != call
        {
            recording.call = next.call;
            return;
        }
        self.end_recording(call);
        let ending = self.ending_recordings.iter();
        for it in ending.filter(|it| it.call == call) {
            let status = it.recorder.wait(REPORT_PATIENCE);
            tracing::trace!(?status, "a recording ends");
        }
        self.look_at_ending_recordings();
    }

    /// Waits until all files are complete, or the disk is too slow.
    pub(super) async fn finish_recordings(&mut self) {
        let until = self.runtime.now() + END_PATIENCE;
        self.look_at_ending_recordings();
        while !self.ending_recordings.is_empty() && self.runtime.now() < until {
            self.runtime.sleep(END_LOOK).await;
            self.look_at_ending_recordings();
        }
    }
}
