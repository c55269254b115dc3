//! What we send, small, for ourselves.

use std::time::Duration;

use ahoy_media::video::{
    frame::{Frame, Size},
    latest::Latest,
    scale::Scaler,
};

use crate::engine::video::VideoIn;

/// At most so wide, in pixels: it is shown in a corner.
const WIDTH: u32 = 320;

/// A screen that shows the window that shows it would never come to rest.
const SCREEN_EVERY: Duration = Duration::from_secs(1);

/// Shows us what we send. Belongs to the thread that encodes; whether anything is to be seen at all is the engine's to say,
/// which does not wait for it.
#[derive(Debug)]
pub(super) struct Preview {
    latest: Latest,
    is_mirrored: bool,
    every: Duration,
    /// When the last one shown was taken.
    shown: Option<Duration>,
    scaler: Scaler,
    small: Option<Frame>,
}

impl Preview {
    pub(super) fn new(latest: Latest) -> Self {
        Self {
            latest,
            is_mirrored: false,
            every: Duration::ZERO,
            shown: None,
            scaler: Scaler::default(),
            small: None,
        }
    }

    /// Another source is looked at.
    pub(super) fn begin(&mut self, input: &VideoIn) {
        self.latest.clear();
        self.shown = None;
        self.is_mirrored = input.is_mirrored();
        self.every = match input {
            VideoIn::Screen { .. } => SCREEN_EVERY,
            VideoIn::File(_) | VideoIn::Pattern { .. } | VideoIn::Camera { .. } => Duration::ZERO,
        };
    }

    /// There is no picture now.
    pub(super) fn clear(&self) {
        self.latest.clear();
    }

    /// Shows a picture, if it is time for one.
    pub(super) fn show(&mut self, frame: &Frame) {
        if (self.shown).is_some_and(|shown| frame.taken < shown + self.every) {
            return;
        }
        self.shown = Some(frame.taken);
        let Some(size) = small_of(frame.size()) else {
            return self.latest.put(frame, self.is_mirrored);
        };
        let small = self
            .small
            .get_or_insert_with(|| Frame::black(size, frame.taken));
        small.resize(size);
        self.scaler.scale(frame, small);
        self.latest.put(small, self.is_mirrored);
    }
}

/// The size in which it is shown; `None` where it is small enough.
fn small_of(size: Size) -> Option<Size> {
    let height = size.height() * WIDTH / size.width();
    let small = Size::rounded_down(WIDTH, height).ok()?;
    (size.width() > WIDTH).then_some(small)
}

#[cfg(test)]
mod tests {
    use ahoy_media::video::pattern::{TestPattern, read};

    use super::*;

    fn number(latest: &Latest) -> Option<(u16, u32, bool)> {
        let mut seen = None;
        latest.look(&mut seen);
        let seen = seen?;
        let width = seen.frame.size().width();
        Some((read(&seen.frame)?, width, seen.is_mirrored))
    }

    #[test]
    fn cameras_are_mirrored_and_screens_are_not_and_rest() {
        let size = Size::new(1280, 720).unwrap();
        let camera = VideoIn::Camera {
            id: None,
            size,
            fps: 30,
        };
        let screen = VideoIn::Screen {
            target: "screen".into(),
            fps: 30,
        };
        for (input, is_mirrored, newest) in [(camera, true, 59), (screen, false, 30)] {
            let latest = Latest::default();
            let mut preview = Preview::new(latest.clone());
            preview.begin(&input);
            let mut pattern = TestPattern::new(size);
            for at in 0..60u32 {
                let taken = Duration::from_secs(1) * at / 30;
                preview.show(&pattern.next_frame(taken));
            }
            assert_eq!(number(&latest), Some((newest, WIDTH, is_mirrored)));
            preview.clear();
            assert_eq!(number(&latest), None);
        }
    }

    #[test]
    fn what_is_small_stays_as_it_is() {
        let small = |width, height| small_of(Size::new(width, height).unwrap());
        assert_eq!(small(320, 240), None);
        assert_eq!(small(1280, 720), Size::new(320, 180).ok());
        assert_eq!(small(1080, 1920), Size::new(320, 568).ok());
        assert_eq!(small(8192, 64), None, "nothing would be left of its height");
    }
}
