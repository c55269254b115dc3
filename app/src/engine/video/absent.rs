//! A build without codecs of pictures: there are none.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ahoy_media::{
    loss::Loss,
    rate::Bitrate,
    record::{RecordTap, Side},
};
use ahoy_transport::runtime::Runtime;
use tokio::sync::mpsc;

use super::{
    PictureArrival, PictureLine, PictureNews, Showing, VideoProbe, VideoSettings, VideoStats,
};
use crate::{
    engine::media::{MediaError, SoundClocks},
    signal::VideoCapabilities,
};

/// Never made.
#[derive(Debug)]
pub(in crate::engine) enum Video {}

impl Video {
    pub(in crate::engine) fn start(
        _runtime: &Arc<dyn Runtime>,
        settings: &VideoSettings,
        _theirs: Option<&VideoCapabilities>,
        _line: PictureLine,
        _clocks: SoundClocks,
        _arrivals: mpsc::Receiver<PictureArrival>,
        _probe: Option<&VideoProbe>,
    ) -> Result<Option<Self>, MediaError> {
        if settings.input.is_some() || settings.output.is_some() {
            return Err(MediaError::Pictures(
                "this ahoy was built without pictures: leave them out, or build it with the feature video".into(),
            ));
        }
        Ok(None)
    }

    pub(in crate::engine) fn follow_voice(&self, _now: Instant, _on_wire: Bitrate) {
        match *self {}
    }

    pub(in crate::engine) fn set_tap(&self, _tap: Option<RecordTap>) {
        match *self {}
    }

    pub(in crate::engine) fn want_key(&self, _side: Side) {
        match *self {}
    }

    pub(in crate::engine) fn set_round_trip(&self, _round_trip: Duration) {
        match *self {}
    }

    pub(in crate::engine) fn set_loss(&self, _loss: Loss) {
        match *self {}
    }

    pub(in crate::engine) fn set_paused(&self, _now: Instant, _is_paused: bool) {
        match *self {}
    }

    pub(in crate::engine) fn showing(&self) -> Option<&Showing> {
        match *self {}
    }

    #[expect(
        clippy::needless_pass_by_ref_mut,
        reason = "the one with codecs changes"
    )]
    pub(in crate::engine) fn show(&mut self, _wanted: Option<Showing>) -> Result<bool, MediaError> {
        match *self {}
    }

    pub(in crate::engine) fn set_blank(&self, _is_blank: bool) {
        match *self {}
    }

    pub(in crate::engine) fn take_news(&self) -> Vec<PictureNews> {
        match *self {}
    }

    pub(in crate::engine) fn stats(&self, _now: Instant) -> VideoStats {
        match *self {}
    }

    #[expect(
        clippy::needless_pass_by_ref_mut,
        reason = "the one with codecs changes"
    )]
    pub(in crate::engine) fn stop(&mut self) {
        match *self {}
    }
}
