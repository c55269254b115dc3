//! What is looked at: a source, and what of its pictures is worth encoding.

use std::time::Duration;

use ahoy_media::video::{
    codec::Content,
    content::ContentJudge,
    frame::{Frame, Size},
    source::{SourceKind, SourceNews, SourceNewsKind, Taken, VideoSource},
};

use super::{Shot, within};
use crate::signal::{VideoCapabilities, VideoFeatures};

/// A picture that stands still is encoded on for so long: with each it becomes sharper.
const REFINED_AFTER: Duration = Duration::from_secs(1);

/// From then on so often: whoever missed the end of one learns of it by the next, and nothing counts as frozen there.
const STILL_EVERY: Duration = Duration::from_millis(150);

/// To those who are told that it stands still, from so many of these on half as often with each, and so often at least: one
/// more may be lost before the other side is told that nothing comes.
const STILL_SURE: u32 = 3;
const STILL_LEAST: Duration = Duration::from_millis(750);

/// What is there to encode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// No picture.
    Nothing,
    /// The one before, which was sent as well as it can be.
    Same,
    /// One of this size at most, that shows this; the next may be long in coming, since it stands still.
    Picture {
        size: Size,
        content: Content,
        is_still: bool,
    },
}

/// Looks at a source.
#[derive(Debug)]
pub(super) struct Eye {
    source: Box<dyn VideoSource>,
    theirs: VideoCapabilities,
    frame: Frame,
    next: u64,
    failed: bool,
    content: Content,
    judge: Option<ContentJudge>,
    /// A picture came that nobody sent.
    missed: bool,
    changed_at: Duration,
    sent_at: Duration,
    /// The other side knows that what stands still comes seldom.
    tells_still: bool,
    /// How often it was sent again since it does.
    again: u32,
    news: Vec<SourceNews>,
}

impl Eye {
    /// What is sent keeps to what the other side shows; what it shows is `content`, or decided here.
    pub(super) fn new(
        source: Box<dyn VideoSource>,
        theirs: VideoCapabilities,
        content: Option<Content>,
    ) -> Self {
        let decides = content.is_none() && source.kind() == SourceKind::Screen;
        let judge = decides.then(ContentJudge::default);
        let content = match (content, &judge) {
            (Some(content), _) => content,
            (None, Some(judge)) => judge.content(),
            (None, None) => Content::Motion,
        };
        Self {
            frame: Frame::black(source.size(), Duration::ZERO),
            source,
            theirs,
            next: 0,
            failed: false,
            content,
            judge,
            missed: false,
            changed_at: Duration::ZERO,
            sent_at: Duration::ZERO,
            tells_still: theirs.features.contains(VideoFeatures::STILL),
            again: 0,
            news: Vec::new(),
        }
    }

    pub(super) fn interval(&self) -> Duration {
        self.source.interval()
    }

    /// What it shows, as far as that is known.
    pub(super) fn content(&self) -> Content {
        self.content
    }

    /// The picture of the last look.
    pub(super) fn frame(&self) -> &Frame {
        &self.frame
    }

    pub(super) fn take_news(&mut self) -> Vec<SourceNews> {
        let mut news = self.source.take_news();
        news.append(&mut self.news);
        news
    }

    pub(super) fn look(&mut self, shot: &Shot) -> Look {
        let changed = match self.read(shot.index, shot.taken) {
            Taken::Nothing | Taken::End => return Look::Nothing,
            Taken::Picture => true,
            Taken::Unchanged => std::mem::take(&mut self.missed),
        };
        let Some(size) = within(self.frame.size(), &self.theirs) else {
            return Look::Nothing;
        };
        let turned = self.judge(changed);
        if changed {
            self.changed_at = shot.taken;
            self.again = 0;
        }
        let is_sharp = shot.taken.saturating_sub(self.changed_at) >= REFINED_AFTER;
        let is_known = shot.taken.saturating_sub(self.sent_at) < self.still_every();
        if is_sharp && is_known && !shot.key && !turned {
            return Look::Same;
        }
        self.sent_at = shot.taken;
        self.again += u32::from(is_sharp);
        Look::Picture {
            size,
            content: self.content,
            is_still: is_sharp && self.tells_still,
        }
    }

    /// How often what stands still is sent again.
    fn still_every(&self) -> Duration {
        let doubled = self.again.saturating_sub(STILL_SURE).min(8);
        if self.tells_still {
            (STILL_EVERY * (1 << doubled)).min(STILL_LEAST)
        } else {
            STILL_EVERY
        }
    }

    /// Looks, and sends nothing.
    pub(super) fn glance(&mut self, index: u64, at: Duration) -> Look {
        match self.read(index, at) {
            Taken::Picture => {
                self.missed = true;
                Look::Picture {
                    size: self.frame.size(),
                    content: self.content,
                    is_still: false,
                }
            }
            Taken::Unchanged => Look::Same,
            Taken::Nothing | Taken::End => Look::Nothing,
        }
    }

    /// Films go on while nobody looks; what is live is looked at once.
    fn read(&mut self, index: u64, at: Duration) -> Taken {
        let mut taken = Taken::End;
        let is_live = self.source.kind().is_live();
        while self.next <= index && !self.failed {
            self.frame.taken = at;
            match self.source.read(&mut self.frame) {
                Ok(got) => taken = got,
                Err(error) => {
                    self.failed = true;
                    self.news.push(SourceNews::of((&error).into()));
                    return Taken::End;
                }
            }
            self.next = if is_live { index + 1 } else { self.next + 1 };
        }
        taken
    }

    /// Whether it shows something else from now on.
    fn judge(&mut self, changed: bool) -> bool {
        let Some(judge) = &mut self.judge else {
            return false;
        };
        let content = judge.look(&self.frame, changed);
        if content == self.content {
            return false;
        }
        self.content = content;
        let sentence = match content {
            Content::Motion => {
                "What you show moves: from now on it is sent smoothly rather than sharp. --video-content text keeps it \
                 sharp."
            }
            Content::Text => {
                "What you show is text, or stands still: from now on it is sent sharp rather than smoothly."
            }
        };
        self.news.push(SourceNews {
            kind: SourceNewsKind::Content(content),
            sentence: sentence.into(),
            trouble: None,
        });
        true
    }
}
