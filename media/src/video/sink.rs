//! Where pictures go.

use std::path::PathBuf;

use super::{
    frame::Frame,
    scale::Scaler,
    y4m::{Y4mError, Y4mSink},
};

/// Takes the pictures to be shown, one after the other.
pub trait VideoSink: Send + std::fmt::Debug {
    /// Shows a picture.
    ///
    /// # Errors
    /// What is in the way, for a person.
    fn show(&mut self, frame: &Frame) -> Result<(), Y4mError>;
}

/// Shows nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NullSink;

impl VideoSink for NullSink {
    fn show(&mut self, _frame: &Frame) -> Result<(), Y4mError> {
        Ok(())
    }
}

/// Records to a Y4M file every picture that is shown, once. The first decides about the size; others are scaled to it.
#[derive(Debug)]
pub struct RecordingSink {
    path: PathBuf,
    fps: u32,
    file: Option<Y4mSink>,
    scaler: Scaler,
    scaled: Option<Frame>,
}

impl RecordingSink {
    /// Will write to `path`, which claims `fps` pictures per second: such files have no times.
    #[must_use]
    pub fn new(path: PathBuf, fps: u32) -> Self {
        Self {
            path,
            fps,
            file: None,
            scaler: Scaler::default(),
            scaled: None,
        }
    }
}

impl VideoSink for RecordingSink {
    fn show(&mut self, frame: &Frame) -> Result<(), Y4mError> {
        let file = match &mut self.file {
            Some(file) => file,
            file => file.insert(Y4mSink::create(&self.path, frame.size(), self.fps)?),
        };
        if frame.size() == file.size() {
            return file.write(frame);
        }
        let scaled = self
            .scaled
            .get_or_insert_with(|| Frame::black(file.size(), frame.taken));
        self.scaler.scale(frame, scaled);
        file.write(scaled)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::video::{
        frame::Size,
        pattern::{TestPattern, read},
        y4m::{AtEnd, Y4mSource},
    };

    #[test]
    fn pictures_of_all_sizes_are_recorded_in_that_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("got.y4m");
        let mut sink = RecordingSink::new(path.clone(), 30);
        for (number, (width, height)) in [(320, 180), (160, 90), (640, 360)].into_iter().enumerate()
        {
            let mut frame =
                TestPattern::new(Size::new(width, height).unwrap()).next_frame(Duration::ZERO);
            crate::video::pattern::stamp(&mut frame, number as u16);
            sink.show(&frame).unwrap();
        }
        drop(sink);
        let mut source = Y4mSource::open(&path, AtEnd::Stop).unwrap();
        assert_eq!(source.size(), Size::new(320, 180).unwrap());
        let mut frame = Frame::black(source.size(), Duration::ZERO);
        for number in 0..3 {
            assert!(source.read(&mut frame).unwrap());
            assert_eq!(read(&frame), Some(number));
        }
        assert!(!source.read(&mut frame).unwrap());
    }
}
