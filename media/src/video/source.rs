//! Where pictures come from.

use std::time::Duration;

use super::{
    frame::{Frame, Size},
    pattern::TestPattern,
    y4m::{Y4mError, Y4mSource},
};

/// Gives one picture after the other, all of one size, at one rate.
pub trait VideoSource: Send + std::fmt::Debug {
    /// Of all its pictures.
    fn size(&self) -> Size;

    /// Between two of its pictures.
    fn interval(&self) -> Duration;

    /// Writes the next picture into `frame`, whose time stays. `false`: no more come.
    ///
    /// # Errors
    /// Why there is none, for a person.
    fn read(&mut self, frame: &mut Frame) -> Result<bool, Y4mError>;
}

impl VideoSource for Y4mSource {
    fn size(&self) -> Size {
        self.size()
    }

    fn interval(&self) -> Duration {
        self.interval()
    }

    fn read(&mut self, frame: &mut Frame) -> Result<bool, Y4mError> {
        self.read(frame)
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

    fn read(&mut self, frame: &mut Frame) -> Result<bool, Y4mError> {
        *frame = self.pattern.next_frame(frame.taken);
        Ok(true)
    }
}
