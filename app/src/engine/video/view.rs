//! What a person is told of the pictures of a call, and what keeps them from coming.

use std::time::{Duration, Instant};

use ahoy_media::video::{codec::Content, source::SourceNewsKind};

use super::{PictureNews, PictureNewsKind, PictureTrouble, Showing};

/// A picture that has not changed for so long is told of. Even what stands still is sent again more often.
const STILL: Duration = Duration::from_secs(2);

/// The pictures of a call as a person sees them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PicturesView {
    /// What we show, if anything.
    pub sent: Option<Showing>,
    /// As what it is encoded, where that is decided by what is to be seen.
    pub judged: Option<Content>,
    /// Why the other side does not see it, or something else that went wrong with pictures.
    pub trouble: Option<PictureTrouble>,
    /// What we see of the other side.
    pub received: Received,
}

/// What is seen of the other side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Received {
    /// It shows nothing.
    #[default]
    Nothing,
    /// Its pictures come.
    Comes,
    /// One is there, and no others come.
    Still,
}

/// Keeps in mind what happened to the pictures of a call.
#[derive(Debug, Default)]
pub(crate) struct PictureWatch {
    /// With our source, or on the way out.
    own: Option<PictureTrouble>,
    /// With what the other side shows.
    theirs: Option<PictureTrouble>,
    judged: Option<Content>,
    /// The source gives nothing.
    is_dark: bool,
    /// Frames that were sent, since when no more are.
    sent: Option<(u64, Instant)>,
    /// The other side says that it shows nothing.
    is_blank: bool,
    /// When the last picture was shown that it took away.
    taken_away: Option<Instant>,
    received: Received,
}

/// What was counted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counted {
    /// Frames sent, while we send any.
    pub(crate) frames_sent: Option<u64>,
    /// When the last picture of the other side was shown.
    pub(crate) last_shown: Option<Instant>,
    /// Nothing is to be sent, or to come.
    pub(crate) is_held: bool,
}

impl PictureWatch {
    /// Another source is shown, or none: what was wrong with the one before is no matter.
    pub(crate) fn begin(&mut self) {
        self.own = None;
        self.judged = None;
        self.is_dark = false;
        self.sent = None;
    }

    /// Something could not be begun.
    pub(crate) fn complain(&mut self, trouble: PictureTrouble) {
        self.own = Some(trouble);
    }

    /// Something happened. Whether the other side should take our picture away from now on, or expect one, if that
    /// changed.
    pub(crate) fn note(&mut self, news: &PictureNews) -> Option<bool> {
        let trouble = || news.trouble.clone();
        let was_dark = self.is_dark;
        match news.kind {
            PictureNewsKind::Source(SourceNewsKind::Opened | SourceNewsKind::Back) => {
                self.own = None;
                self.is_dark = false;
            }
            PictureNewsKind::Source(SourceNewsKind::Trouble(_)) => {
                self.own = trouble();
                self.is_dark = true;
            }
            PictureNewsKind::Source(SourceNewsKind::Black)
            | PictureNewsKind::NotShown
            | PictureNewsKind::NotEncoded => self.own = trouble(),
            PictureNewsKind::Source(SourceNewsKind::Content(content)) => {
                self.judged = Some(content);
            }
            PictureNewsKind::Undecodable => self.theirs = trouble(),
            PictureNewsKind::Decodable => self.theirs = None,
        }
        (was_dark != self.is_dark).then_some(self.is_dark)
    }

    /// The other side says whether it shows something.
    pub(crate) fn set_blank(&mut self, is_blank: bool) {
        self.is_blank = is_blank;
        if is_blank {
            self.theirs = None;
        }
    }

    /// Looks at the counters.
    pub(crate) fn look(&mut self, now: Instant, counted: Counted) {
        self.sent = match (counted.frames_sent, self.sent) {
            (Some(frames), Some((before, since))) if frames == before && !counted.is_held => {
                Some((before, since))
            }
            (Some(frames), _) => Some((frames, now)),
            (None, _) => None,
        };
        let age = |at| now.saturating_duration_since(at);
        if self.is_blank {
            self.taken_away = counted.last_shown;
        }
        self.received = match counted.last_shown {
            None => Received::Nothing,
            // A camera takes its time to begin: until then there is nothing, and nothing wrong.
            Some(_) if counted.last_shown == self.taken_away => Received::Nothing,
            Some(at) if age(at) > STILL => Received::Still,
            Some(_) => Received::Comes,
        };
    }

    /// What there is to tell.
    pub(crate) fn view(&self, now: Instant, sent: Option<&Showing>) -> PicturesView {
        let is_stuck = self
            .sent
            .is_some_and(|(_, since)| now.saturating_duration_since(since) > STILL);
        let is_stuck = is_stuck && sent.is_some() && self.own.is_none();
        let stuck = is_stuck.then_some(PictureTrouble::Stuck);
        PicturesView {
            sent: sent.cloned(),
            judged: self.judged,
            trouble: self.own.clone().or(stuck).or_else(|| self.theirs.clone()),
            received: self.received,
        }
    }
}

#[cfg(test)]
mod tests {
    use ahoy_media::video::{source::TroubleKind, trouble::SourceTrouble};

    use super::*;
    use crate::engine::video::VideoIn;

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "a test's clock starts somewhere")]
        Instant::now()
    }

    fn news(kind: PictureNewsKind) -> PictureNews {
        PictureNews {
            kind,
            sentence: kind.name().into(),
            trouble: Some(PictureTrouble::Source(SourceTrouble::NoCamera)),
        }
    }

    fn camera() -> Showing {
        Showing {
            input: VideoIn::Camera {
                id: None,
                size: ahoy_media::video::frame::Size::new(640, 480).unwrap(),
                fps: 30,
            },
            content: None,
        }
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn a_camera_that_is_pulled_has_its_sentence_until_it_is_back_and_the_other_side_sees_nothing() {
        let (mut watch, now) = (PictureWatch::default(), start());
        let gone = PictureNewsKind::Source(SourceNewsKind::Trouble(TroubleKind::Gone));
        assert_eq!(watch.note(&news(gone)), Some(true));
        assert_eq!(watch.note(&news(gone)), None);
        let told = watch.view(now, Some(&camera())).trouble;
        let expected = PictureTrouble::Source(SourceTrouble::NoCamera);
        assert_eq!(told, Some(expected));
        let back = PictureNewsKind::Source(SourceNewsKind::Back);
        assert_eq!(watch.note(&news(back)), Some(false));
        assert_eq!(watch.view(now, Some(&camera())).trouble, None);
        watch.note(&news(gone));
        watch.begin();
        assert_eq!(watch.view(now, None).trouble, None);
    }

    #[test]
    fn pictures_that_do_not_leave_are_told_of_and_those_on_hold_are_not() {
        for (frames, is_held, is_told) in [
            ([5, 5], false, true),
            ([5, 6], false, false),
            ([5, 5], true, false),
        ] {
            let (mut watch, now) = (PictureWatch::default(), start());
            for (at, frames) in frames.into_iter().enumerate() {
                let counted = Counted {
                    frames_sent: Some(frames),
                    last_shown: None,
                    is_held,
                };
                watch.look(now + seconds(3) * at as u32, counted);
            }
            let told = watch.view(now + seconds(4), Some(&camera())).trouble;
            assert_eq!(told.is_some(), is_told, "{frames:?} {is_held}");
            assert!(told.is_none_or(|told| told == PictureTrouble::Stuck));
        }
    }

    #[test]
    fn what_is_seen_of_the_other_side_comes_stands_still_or_was_taken_away() {
        let (mut watch, now) = (PictureWatch::default(), start());
        let mut look = |at: u64, last_shown: Option<u64>, blank: bool| {
            watch.set_blank(blank);
            let counted = Counted {
                frames_sent: None,
                last_shown: last_shown.map(|at| now + seconds(at)),
                is_held: false,
            };
            watch.look(now + seconds(at), counted);
            watch.view(now + seconds(at), None).received
        };
        assert_eq!(look(0, None, false), Received::Nothing);
        assert_eq!(look(2, Some(1), false), Received::Comes);
        assert_eq!(look(5, Some(1), false), Received::Still);
        assert_eq!(look(6, Some(6), true), Received::Nothing);
        assert_eq!(look(9, Some(6), false), Received::Nothing);
        assert_eq!(look(10, Some(10), false), Received::Comes);
        assert_eq!(look(13, Some(10), false), Received::Still);
    }
}
