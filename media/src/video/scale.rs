//! Pictures of another size: by a triangle as wide as the step from one picture's samples to the other's, so that
//! nothing is stepped over on the way down, and nothing has edges on the way up.

use super::frame::{Frame, Plane, Size};

/// Weights are in parts of this.
const ONE: i32 = 1 << 14;

/// Which samples make one, and how much of each; the weights' sum is [`ONE`].
#[derive(Debug, Clone)]
struct Mix {
    first: usize,
    weights: Vec<i32>,
}

fn mixes(from: usize, to: usize) -> Vec<Mix> {
    let step = from as f64 / to as f64;
    let reach = step.max(1.0);
    (0..to)
        .map(|at| {
            let centre = (at as f64 + 0.5) * step - 0.5;
            let first = (centre - reach).ceil().max(0.0) as usize;
            let last = ((centre + reach).floor() as usize).min(from - 1);
            let parts: Vec<f64> = (first..=last)
                .map(|sample| (1.0 - (sample as f64 - centre).abs() / reach).max(0.0))
                .collect();
            let sum: f64 = parts.iter().sum();
            let mut weights: Vec<i32> = parts
                .iter()
                .map(|part| (part / sum * f64::from(ONE)).round() as i32)
                .collect();
            let off = ONE - weights.iter().sum::<i32>();
            if let Some(largest) = weights.iter_mut().max() {
                *largest += off;
            }
            Mix { first, weights }
        })
        .collect()
}

/// How the rows and columns of one plane become those of another.
#[derive(Debug, Clone)]
struct PlaneScaler {
    columns: Vec<Mix>,
    rows: Vec<Mix>,
    width: usize,
}

impl PlaneScaler {
    fn new(from: (usize, usize), to: (usize, usize)) -> Self {
        Self {
            columns: mixes(from.0, to.0),
            rows: mixes(from.1, to.1),
            width: from.0,
        }
    }

    fn scale(&self, from: &[u8], to: &mut [u8]) {
        let mut row = vec![0i32; self.width];
        for (mix, out) in self
            .rows
            .iter()
            .zip(to.chunks_exact_mut(self.columns.len()))
        {
            row.fill(ONE / 2);
            let rows = from.chunks_exact(self.width).skip(mix.first);
            for (weight, samples) in mix.weights.iter().zip(rows) {
                for (sum, sample) in row.iter_mut().zip(samples) {
                    *sum += weight * i32::from(*sample);
                }
            }
            for sum in &mut row {
                *sum >>= 14;
            }
            for (mix, out) in self.columns.iter().zip(out) {
                let samples = row.iter().skip(mix.first);
                let sum: i32 = mix
                    .weights
                    .iter()
                    .zip(samples)
                    .map(|(weight, sample)| weight * sample)
                    .sum();
                *out = ((sum + ONE / 2) >> 14).clamp(0, 255) as u8;
            }
        }
    }
}

/// Makes pictures of one size into those of another, and remembers how.
#[derive(Debug, Default)]
pub struct Scaler {
    plans: Option<(Size, Size, [PlaneScaler; 2])>,
}

impl Scaler {
    /// Writes `from` into `to`, whose size stays.
    pub fn scale(&mut self, from: &Frame, to: &mut Frame) {
        let sizes = (from.size(), to.size());
        to.taken = from.taken;
        let (_, _, [brightness, colour]) = match &mut self.plans {
            Some(plans) if (plans.0, plans.1) == sizes => plans,
            plans => plans.insert((
                sizes.0,
                sizes.1,
                [Plane::Y, Plane::U]
                    .map(|plane| PlaneScaler::new(sizes.0.of(plane), sizes.1.of(plane))),
            )),
        };
        let [y, u, v] = to.planes_mut();
        brightness.scale(from.plane(Plane::Y), y);
        colour.scale(from.plane(Plane::U), u);
        colour.scale(from.plane(Plane::V), v);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::video::{
        pattern::{TestPattern, read},
        quality::psnr_db,
    };

    fn scaled(from: &Frame, size: Size) -> Frame {
        let mut to = Frame::black(size, Duration::ZERO);
        Scaler::default().scale(from, &mut to);
        to
    }

    #[test]
    fn a_picture_scaled_down_and_up_again_is_nearly_the_same() {
        let size = Size::new(640, 360).unwrap();
        let frame = TestPattern::new(size).next_frame(Duration::from_millis(7));
        assert_eq!(
            scaled(&frame, size),
            frame,
            "the same size is the same picture"
        );
        for (width, height, least) in [(320, 180, 28.0), (480, 270, 29.0), (1280, 720, 36.0)] {
            let other = scaled(&frame, Size::new(width, height).unwrap());
            assert_eq!(other.taken, frame.taken);
            assert_eq!(read(&other), Some(0), "{width}x{height}");
            let psnr = psnr_db(&frame, &scaled(&other, size)).unwrap();
            println!("{width}x{height}: {psnr:.1} dB");
            assert!(psnr > least, "{width}x{height}: {psnr}");
        }
    }

    #[test]
    fn what_is_of_one_colour_stays_so() {
        let mut frame = Frame::black(Size::new(64, 48).unwrap(), Duration::ZERO);
        for (plane, value) in frame.planes_mut().into_iter().zip([235, 17, 240]) {
            plane.fill(value);
        }
        for (width, height) in [(16, 16), (30, 90), (640, 360)] {
            let other = scaled(&frame, Size::new(width, height).unwrap());
            for (plane, value) in Plane::ALL.into_iter().zip([235, 17, 240]) {
                assert!(other.plane(plane).iter().all(|sample| *sample == value));
            }
        }
    }
}
