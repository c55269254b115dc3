//! What was shown beside what was sent, where both are at hand: pictures that carry a number tell which one they are.

use std::time::Duration;

use super::{
    frame::{Frame, Size},
    pattern::{TestPattern, read},
    quality::psnr_db,
    scale::Scaler,
    y4m::{AtEnd, Y4mError, Y4mSource},
};

/// What was sent.
#[derive(Debug)]
enum Original {
    Pattern(TestPattern),
    /// Its picture of number 0 is the first, and so on, over and over.
    File {
        source: Y4mSource,
        path: std::path::PathBuf,
        /// How many were read, of which the last is in hand.
        read: u64,
    },
}

/// How near what was shown came to what was sent.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Likeness {
    /// Pictures that were told apart.
    pub identified: u64,
    /// Pictures that were not: their number could not be read.
    pub unidentified: u64,
    /// Mean of the pictures' PSNR in decibels, each at the size of the original.
    pub psnr_db: Option<f64>,
    /// The worst.
    pub least_db: Option<f64>,
}

/// Holds pictures beside their originals.
#[derive(Debug)]
pub struct Reference {
    original: Original,
    current: Frame,
    scaler: Scaler,
    scaled: Frame,
    identified: u64,
    unidentified: u64,
    sum_db: f64,
    least_db: f64,
}

impl Reference {
    fn new(original: Original, size: Size) -> Self {
        Self {
            original,
            current: Frame::black(size, Duration::ZERO),
            scaler: Scaler::default(),
            scaled: Frame::black(size, Duration::ZERO),
            identified: 0,
            unidentified: 0,
            sum_db: 0.0,
            least_db: f64::INFINITY,
        }
    }

    /// The test pattern of this size.
    #[must_use]
    pub fn pattern(size: Size) -> Self {
        Self::new(Original::Pattern(TestPattern::new(size)), size)
    }

    /// A file whose pictures carry their place in it as their number.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn file(path: impl Into<std::path::PathBuf>) -> Result<Self, Y4mError> {
        let path = path.into();
        let source = Y4mSource::open(&path, AtEnd::Stop)?;
        let size = source.size();
        let original = Original::File {
            source,
            path,
            read: 0,
        };
        Ok(Self::new(original, size))
    }

    /// Makes `current` the picture of this number. `false` if there is none.
    fn seek(&mut self, number: u16) -> Result<bool, Y4mError> {
        match &mut self.original {
            Original::Pattern(pattern) => {
                pattern.set_number(number);
                self.current = pattern.next_frame(Duration::ZERO);
                Ok(true)
            }
            Original::File { source, path, read } => {
                let wanted = u64::from(number) + 1;
                if wanted < *read {
                    *source = Y4mSource::open(path.clone(), AtEnd::Stop)?;
                    *read = 0;
                }
                while *read < wanted {
                    if !source.read(&mut self.current)? {
                        return Ok(false);
                    }
                    *read += 1;
                }
                Ok(true)
            }
        }
    }

    /// Looks at a picture that is shown. Its PSNR, if its original was found.
    pub fn compare(&mut self, shown: &Frame) -> Option<f64> {
        let found = match read(shown) {
            Some(number) => self.seek(number).unwrap_or_else(|error| {
                tracing::warn!(%error, "there is nothing to compare pictures with");
                false
            }),
            None => false,
        };
        if !found {
            self.unidentified += 1;
            return None;
        }
        let psnr = if shown.size() == self.current.size() {
            psnr_db(shown, &self.current)
        } else {
            self.scaler.scale(shown, &mut self.scaled);
            psnr_db(&self.scaled, &self.current)
        }?;
        self.identified += 1;
        self.sum_db += psnr;
        self.least_db = self.least_db.min(psnr);
        Some(psnr)
    }

    /// What all comparisons came to.
    #[must_use]
    pub fn likeness(&self) -> Likeness {
        let any = self.identified > 0;
        Likeness {
            identified: self.identified,
            unidentified: self.unidentified,
            psnr_db: any.then(|| self.sum_db / self.identified as f64),
            least_db: any.then_some(self.least_db),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::video::{quality::MAX_PSNR_DB, y4m::Y4mSink};

    #[test]
    fn pictures_find_their_originals_by_number_in_any_order() {
        let size = Size::new(320, 180).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sent.y4m");
        let mut pattern = TestPattern::new(size);
        let mut sink = Y4mSink::create(&path, size, 30).unwrap();
        let frames: Vec<Frame> = (0..6).map(|_| pattern.next_frame(Duration::ZERO)).collect();
        for frame in &frames {
            sink.write(frame).unwrap();
        }
        drop(sink);
        for mut reference in [Reference::pattern(size), Reference::file(&path).unwrap()] {
            for number in [0, 1, 4, 2, 2, 5, 0] {
                assert_eq!(reference.compare(&frames[number]), Some(MAX_PSNR_DB));
            }
            assert_eq!(reference.compare(&Frame::black(size, Duration::ZERO)), None);
            let mut half = Frame::black(Size::new(160, 90).unwrap(), Duration::ZERO);
            Scaler::default().scale(&frames[3], &mut half);
            let psnr = reference.compare(&half).unwrap();
            assert!((24.0..45.0).contains(&psnr), "{psnr}");
            let likeness = reference.likeness();
            assert_eq!((likeness.identified, likeness.unidentified), (8, 1));
            assert_eq!(likeness.least_db, Some(psnr));
        }
        let mut short = Reference::file(&path).unwrap();
        let mut later = frames[0].clone();
        crate::video::pattern::stamp(&mut later, 6);
        assert_eq!(short.compare(&later), None, "the file has no such picture");
    }
}
