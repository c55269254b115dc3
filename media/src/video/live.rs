//! What comes and goes while a call goes on: cameras, screens, windows.
//!
//! Such a source never fails. While there is nothing to see it says why, once, and tries again where that can help; the
//! call goes on without pictures. Time is that of the pictures, so all of this runs in virtual time too.

use std::time::Duration;

use super::{
    frame::{Frame, Size},
    source::{SourceKind, SourceNews, SourceNewsKind, Taken, VideoSource},
    trouble::SourceTrouble,
    y4m::Y4mError,
};

/// From one attempt to the next, and from then on as the last.
const RETRIES: [Duration; 3] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
];

/// News that nobody took yet.
const MAX_NEWS: usize = 32;

/// Whether something can be done about a trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// It is opened anew after a while.
    Reopen,
    /// It stays open, and may go on by itself.
    Wait,
    /// It will not come back.
    Never,
}

/// Why there is no picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What it is, and what to do.
    pub why: SourceTrouble,
    /// What is done about it.
    pub retry: Retry,
}

impl Trouble {
    /// One after which it is opened anew.
    #[must_use]
    pub const fn new(why: SourceTrouble) -> Self {
        Self {
            why,
            retry: Retry::Reopen,
        }
    }

    /// The same, with something else done about it.
    #[must_use]
    pub fn and(self, retry: Retry) -> Self {
        Self { retry, ..self }
    }
}

/// What came of looking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grabbed {
    /// A picture, in its size.
    Picture,
    /// The one before is right still.
    Unchanged,
    /// None yet.
    NotYet,
}

/// Something that is open.
pub trait LiveDevice: Send + std::fmt::Debug {
    /// Writes what is to be seen now into `frame`, which gets its size.
    ///
    /// # Errors
    /// Why nothing is to be seen.
    fn grab(&mut self, frame: &mut Frame) -> Result<Grabbed, Trouble>;

    /// What is to be said of the pictures themselves, if anything new is.
    fn remark(&mut self) -> Option<SourceNews> {
        None
    }
}

/// Opens something, any number of times.
pub trait LiveOpener: Send + std::fmt::Debug {
    /// What it opens, as the beginning of a sentence: `The camera Cam 3000`.
    fn name(&self) -> String;

    /// Opens it.
    ///
    /// # Errors
    /// Why it cannot be had.
    fn open(&mut self) -> Result<Box<dyn LiveDevice>, Trouble>;
}

/// A source that comes and goes.
#[derive(Debug)]
pub struct LiveSource {
    kind: SourceKind,
    opener: Box<dyn LiveOpener>,
    interval: Duration,
    device: Option<Box<dyn LiveDevice>>,
    size: Size,
    trouble: Option<Trouble>,
    was_seen: bool,
    attempts: usize,
    retry_at: Duration,
    news: Vec<SourceNews>,
}

impl LiveSource {
    /// Opens it with the first picture that is asked for; until then its pictures are expected to be of `size`.
    #[must_use]
    pub fn new(
        kind: SourceKind,
        opener: Box<dyn LiveOpener>,
        interval: Duration,
        size: Size,
    ) -> Self {
        Self {
            kind,
            opener,
            interval,
            device: None,
            size,
            trouble: None,
            was_seen: false,
            attempts: 0,
            retry_at: Duration::ZERO,
            news: Vec::new(),
        }
    }

    fn tell(&mut self, news: SourceNews) {
        if self.news.len() < MAX_NEWS {
            self.news.push(news);
        }
    }

    fn tell_seen(&mut self, kind: SourceNewsKind, sentence: String) {
        self.tell(SourceNews {
            kind,
            sentence,
            trouble: None,
        });
    }

    fn note(&mut self, now: Duration, trouble: Trouble) {
        match trouble.retry {
            Retry::Wait => {}
            Retry::Reopen => {
                self.device = None;
                let last = RETRIES.len() - 1;
                self.retry_at = now + RETRIES[self.attempts.min(last)];
                self.attempts += 1;
            }
            Retry::Never => self.device = None,
        }
        if self.trouble.as_ref() != Some(&trouble) {
            self.tell(SourceNews::of(trouble.why.clone()));
            self.trouble = Some(trouble);
        }
    }

    fn is_waiting(&self, now: Duration) -> bool {
        match self.trouble.as_ref().map(|trouble| trouble.retry) {
            None | Some(Retry::Wait) => false,
            Some(Retry::Reopen) => now < self.retry_at,
            Some(Retry::Never) => true,
        }
    }

    fn grab(&mut self, frame: &mut Frame) -> Result<Grabbed, Trouble> {
        let device = match &mut self.device {
            Some(device) => device,
            none => none.insert(self.opener.open()?),
        };
        device.grab(frame)
    }
}

impl VideoSource for LiveSource {
    fn size(&self) -> Size {
        self.size
    }

    fn interval(&self) -> Duration {
        self.interval
    }

    fn kind(&self) -> SourceKind {
        self.kind
    }

    fn read(&mut self, frame: &mut Frame) -> Result<Taken, Y4mError> {
        let now = frame.taken;
        if self.is_waiting(now) {
            return Ok(Taken::Nothing);
        }
        let grabbed = self.grab(frame);
        if let Some(news) = self.device.as_mut().and_then(|device| device.remark()) {
            self.tell(news);
        }
        Ok(match grabbed {
            Ok(Grabbed::NotYet) => Taken::Nothing,
            Ok(Grabbed::Unchanged) if self.trouble.is_none() && self.was_seen => Taken::Unchanged,
            Ok(Grabbed::Picture | Grabbed::Unchanged) => {
                self.size = frame.size();
                self.attempts = 0;
                let name = self.opener.name();
                if !self.was_seen {
                    self.was_seen = true;
                    self.trouble = None;
                    let size = self.size;
                    self.tell_seen(
                        SourceNewsKind::Opened,
                        format!("{name} can be seen by the other side now ({size})."),
                    );
                } else if self.trouble.take().is_some() {
                    self.tell_seen(
                        SourceNewsKind::Back,
                        format!("{name} can be seen by the other side again."),
                    );
                }
                Taken::Picture
            }
            Err(trouble) => {
                self.note(now, trouble);
                Taken::Nothing
            }
        })
    }

    fn take_news(&mut self) -> Vec<SourceNews> {
        std::mem::take(&mut self.news)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        sync::{Arc, Mutex},
    };

    use super::*;
    use crate::video::source::TroubleKind;

    /// What opening and grabbing answer, one after the other.
    #[derive(Debug, Default)]
    struct Script {
        opens: VecDeque<Result<(), Trouble>>,
        grabs: VecDeque<Result<Grabbed, Trouble>>,
        opened: usize,
    }

    #[derive(Debug, Clone, Default)]
    struct Fake(Arc<Mutex<Script>>);

    impl LiveOpener for Fake {
        fn name(&self) -> String {
            "The camera Fake".into()
        }

        fn open(&mut self) -> Result<Box<dyn LiveDevice>, Trouble> {
            let mut script = self.0.lock().unwrap();
            script.opened += 1;
            script.opens.pop_front().unwrap_or(Ok(()))?;
            Ok(Box::new(self.clone()))
        }
    }

    impl LiveDevice for Fake {
        fn grab(&mut self, frame: &mut Frame) -> Result<Grabbed, Trouble> {
            frame.resize(Size::new(64, 48).unwrap());
            let next = self.0.lock().unwrap().grabs.pop_front();
            next.unwrap_or(Ok(Grabbed::Picture))
        }
    }

    fn source(fake: &Fake) -> (LiveSource, Frame) {
        let size = Size::new(640, 480).unwrap();
        let interval = Duration::from_millis(100);
        let source = LiveSource::new(SourceKind::Camera, Box::new(fake.clone()), interval, size);
        (source, Frame::black(size, Duration::ZERO))
    }

    /// Reads once every 100 ms; what came, and what was said at which millisecond.
    fn run(
        source: &mut LiveSource,
        frame: &mut Frame,
        count: u32,
    ) -> (Vec<Taken>, Vec<(u128, SourceNewsKind)>) {
        let (mut taken, mut told) = (Vec::new(), Vec::new());
        for _ in 0..count {
            taken.push(source.read(frame).unwrap());
            let news = source.take_news();
            told.extend(news.iter().map(|news| (frame.taken.as_millis(), news.kind)));
            frame.taken += source.interval();
        }
        (taken, told)
    }

    fn busy() -> Trouble {
        Trouble::new(SourceTrouble::CameraBusy {
            camera: "Cam".into(),
        })
    }

    #[test]
    fn what_cannot_be_had_is_said_once_and_tried_less_and_less_often_until_it_can() {
        let fake = Fake::default();
        let opens = [busy(), busy(), busy(), busy()].map(Err);
        fake.0.lock().unwrap().opens.extend(opens);
        let (mut source, mut frame) = source(&fake);
        let (taken, told) = run(&mut source, &mut frame, 60);
        assert_eq!(
            told,
            [
                (0, SourceNewsKind::Trouble(TroubleKind::Busy)),
                // After 500 ms, 1 s, 2 s and 2 s.
                (5500, SourceNewsKind::Opened),
            ]
        );
        assert_eq!(fake.0.lock().unwrap().opened, 5);
        assert_eq!(
            taken.iter().filter(|it| **it == Taken::Picture).count(),
            60 - 55
        );
        assert_eq!(source.size().to_string(), "64x48");
    }

    #[test]
    fn what_is_pulled_comes_back_and_the_first_picture_then_is_one() {
        let fake = Fake::default();
        {
            let mut script = fake.0.lock().unwrap();
            let gone = Trouble::new(SourceTrouble::Ended);
            script.grabs.extend([
                Ok(Grabbed::Picture),
                Ok(Grabbed::Unchanged),
                Err(gone),
                Ok(Grabbed::Unchanged),
                Ok(Grabbed::NotYet),
            ]);
        }
        let (mut source, mut frame) = source(&fake);
        let (taken, told) = run(&mut source, &mut frame, 9);
        assert_eq!(
            taken[..3],
            [Taken::Picture, Taken::Unchanged, Taken::Nothing]
        );
        assert_eq!(taken[3..7], [Taken::Nothing; 4]);
        assert_eq!(taken[7..], [Taken::Picture, Taken::Nothing]);
        assert_eq!(
            told,
            [
                (0, SourceNewsKind::Opened),
                (200, SourceNewsKind::Trouble(TroubleKind::Gone)),
                (700, SourceNewsKind::Back),
            ]
        );
    }

    #[test]
    fn what_only_waits_stays_open_and_what_is_gone_for_good_is_not_tried_again() {
        let fake = Fake::default();
        {
            let mut script = fake.0.lock().unwrap();
            let hidden = Trouble::new(SourceTrouble::WindowHidden {
                window: "Film".into(),
            })
            .and(Retry::Wait);
            let closed = Trouble::new(SourceTrouble::Ended).and(Retry::Never);
            script.grabs.extend([
                Ok(Grabbed::Picture),
                Err(hidden.clone()),
                Err(hidden),
                Ok(Grabbed::Unchanged),
                Err(closed),
            ]);
        }
        let (mut source, mut frame) = source(&fake);
        let (taken, told) = run(&mut source, &mut frame, 100);
        assert_eq!(
            told,
            [
                (0, SourceNewsKind::Opened),
                (100, SourceNewsKind::Trouble(TroubleKind::Hidden)),
                (300, SourceNewsKind::Back),
                (400, SourceNewsKind::Trouble(TroubleKind::Gone)),
            ]
        );
        assert_eq!(taken[3], Taken::Picture);
        assert!(taken[4..].iter().all(|taken| *taken == Taken::Nothing));
        assert_eq!(fake.0.lock().unwrap().opened, 1);
    }
}
