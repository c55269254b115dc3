//! Where pictures come from.

use std::time::Duration;

use super::{
    codec::Content,
    frame::{Frame, Size},
    pattern::TestPattern,
    trouble::SourceTrouble,
    y4m::{Y4mError, Y4mSource},
};

/// What came of asking for the next picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// A picture.
    Picture,
    /// The one before is right still, and was left where it is.
    Unchanged,
    /// There is none now; there may be one next time.
    Nothing,
    /// No more come.
    End,
}

/// What pictures come from, as far as it matters to those who encode them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceKind {
    /// A film or a test pattern: each of its pictures is shown or goes by.
    Film,
    /// A camera: what is not taken has never been.
    Camera,
    /// A screen or a window: so too, and it may show text.
    Screen,
}

impl SourceKind {
    /// Pictures that nobody takes are not made.
    #[must_use]
    pub const fn is_live(self) -> bool {
        match self {
            Self::Film => false,
            Self::Camera | Self::Screen => true,
        }
    }
}

/// What keeps a camera, a screen or a window from giving pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TroubleKind {
    /// It is not there, and was not.
    Missing,
    /// We may not use it.
    Denied,
    /// Somebody else uses it.
    Busy,
    /// It was there, and is not any more: pulled out, closed.
    Gone,
    /// It is there and cannot be seen: minimised.
    Hidden,
    /// The screen is locked or asleep.
    Locked,
    /// It answers with something that makes no sense, or with nothing.
    Failed,
}

impl TroubleKind {
    /// Its name for scripts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Denied => "denied",
            Self::Busy => "busy",
            Self::Gone => "gone",
            Self::Hidden => "hidden",
            Self::Locked => "locked",
            Self::Failed => "failed",
        }
    }
}

/// What happened to a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SourceNewsKind {
    /// Its first picture came.
    Opened,
    /// Pictures come again.
    Back,
    /// None come.
    Trouble(TroubleKind),
    /// They come, and are black, for a reason that is known.
    Black,
    /// What it shows is encoded in another way from now on.
    Content(Content),
}

impl SourceNewsKind {
    /// Its name for scripts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Back => "back",
            Self::Trouble(trouble) => trouble.name(),
            Self::Black => "black",
            Self::Content(Content::Text) => "text",
            Self::Content(Content::Motion) => "motion",
        }
    }
}

/// What [`SourceNewsKind::Black`] is, for a person.
pub const BLACK_SENTENCE: &str = "Your screen is black to the other side: under Wayland, a program sees only windows of X11 programs \
     by itself. Share screen:pick, and your desktop asks what to show.";

/// Something happened to a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceNews {
    /// What.
    pub kind: SourceNewsKind,
    /// What, for a person, and what to do, in English.
    pub sentence: String,
    /// The same by type, where it is trouble.
    pub trouble: Option<SourceTrouble>,
}

impl SourceNews {
    /// That none come, and why.
    #[must_use]
    pub fn of(trouble: SourceTrouble) -> Self {
        Self {
            kind: SourceNewsKind::Trouble(trouble.kind()),
            sentence: trouble.to_string(),
            trouble: Some(trouble),
        }
    }
}

/// Gives one picture after the other, at one rate.
pub trait VideoSource: Send + std::fmt::Debug {
    /// Of its last picture; before the first, what to expect. Those of films stay the same.
    fn size(&self) -> Size;

    /// Between two of its pictures.
    fn interval(&self) -> Duration;

    /// Writes the next picture into `frame`, whose time stays, and is the clock of whoever waits for something.
    ///
    /// # Errors
    /// Why no more come, for a person.
    fn read(&mut self, frame: &mut Frame) -> Result<Taken, Y4mError>;

    /// What it is.
    fn kind(&self) -> SourceKind {
        SourceKind::Film
    }

    /// What happened since it was asked last.
    fn take_news(&mut self) -> Vec<SourceNews> {
        Vec::new()
    }
}

impl VideoSource for Y4mSource {
    fn size(&self) -> Size {
        self.size()
    }

    fn interval(&self) -> Duration {
        self.interval()
    }

    fn read(&mut self, frame: &mut Frame) -> Result<Taken, Y4mError> {
        let more = self.read(frame)?;
        Ok(if more { Taken::Picture } else { Taken::End })
    }
}

/// The test pattern at a rate.
#[derive(Debug, Clone)]
pub struct PatternSource {
    pattern: TestPattern,
    size: Size,
    interval: Duration,
}

impl PatternSource {
    /// Pictures of this size, `fps` per second, at least one.
    #[must_use]
    pub fn new(size: Size, fps: u32) -> Self {
        Self {
            pattern: TestPattern::new(size),
            size,
            interval: Duration::from_secs(1) / fps.max(1),
        }
    }
}

impl VideoSource for PatternSource {
    fn size(&self) -> Size {
        self.size
    }

    fn interval(&self) -> Duration {
        self.interval
    }

    fn read(&mut self, frame: &mut Frame) -> Result<Taken, Y4mError> {
        *frame = self.pattern.next_frame(frame.taken);
        Ok(Taken::Picture)
    }
}
