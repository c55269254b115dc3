//! How much of a picture is left after the codec: PSNR, and SSIM (Wang et al., 2004) of the brightness.

use super::frame::{Frame, Plane};

/// What is reported for pictures that are the same, in decibels: more would be infinite.
pub const MAX_PSNR_DB: f64 = 100.0;

/// The peak signal-to-noise ratio in decibels, of brightness and colour weighed 6:1:1, up to [`MAX_PSNR_DB`]. `None`
/// for pictures of different sizes.
#[must_use]
pub fn psnr_db(one: &Frame, other: &Frame) -> Option<f64> {
    if one.size() != other.size() {
        return None;
    }
    let [y, u, v] = Plane::ALL.map(|plane| plane_psnr_db(one.plane(plane), other.plane(plane)));
    Some((6.0 * y + u + v) / 8.0)
}

fn plane_psnr_db(one: &[u8], other: &[u8]) -> f64 {
    let squares: u64 = one
        .iter()
        .zip(other)
        .map(|(a, b)| u64::from(a.abs_diff(*b)).pow(2))
        .sum();
    if squares == 0 {
        return MAX_PSNR_DB;
    }
    let mean = squares as f64 / one.len() as f64;
    (10.0 * (255.0 * 255.0 / mean).log10()).min(MAX_PSNR_DB)
}

/// Structural similarity of the brightness, 1 for the same, in windows of 8 by 8 pixels that lie 4 apart. `None` for
/// pictures of different sizes.
#[must_use]
pub fn ssim(one: &Frame, other: &Frame) -> Option<f64> {
    const WINDOW: usize = 8;
    const STEP: usize = 4;
    const C1: f64 = 0.01 * 255.0 * 0.01 * 255.0;
    const C2: f64 = 0.03 * 255.0 * 0.03 * 255.0;
    if one.size() != other.size() {
        return None;
    }
    let (width, height) = one.size().of(Plane::Y);
    let (one, other) = (one.plane(Plane::Y), other.plane(Plane::Y));
    let (mut total, mut windows) = (0.0, 0u32);
    for top in (0..=height - WINDOW).step_by(STEP) {
        for left in (0..=width - WINDOW).step_by(STEP) {
            let (mut a, mut b, mut aa, mut bb, mut ab) = (0u32, 0u32, 0u32, 0u32, 0u32);
            for row in top..top + WINDOW {
                let at = row * width + left;
                for (x, y) in one[at..at + WINDOW].iter().zip(&other[at..at + WINDOW]) {
                    let (x, y) = (u32::from(*x), u32::from(*y));
                    (a, b) = (a + x, b + y);
                    (aa, bb, ab) = (aa + x * x, bb + y * y, ab + x * y);
                }
            }
            let count = (WINDOW * WINDOW) as f64;
            let [a, b, aa, bb, ab] = [a, b, aa, bb, ab].map(|sum| f64::from(sum) / count);
            let covariance = ab - a * b;
            let variances = aa - a * a + bb - b * b;
            total += (2.0 * a * b + C1) * (2.0 * covariance + C2)
                / ((a * a + b * b + C1) * (variances + C2));
            windows += 1;
        }
    }
    Some(total / f64::from(windows))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::video::{frame::Size, pattern::TestPattern};

    #[test]
    fn noise_of_known_power_has_the_psnr_that_follows_from_it() {
        let size = Size::new(64, 64).unwrap();
        let one = TestPattern::new(size).next_frame(Duration::ZERO);
        let mut other = one.clone();
        assert_eq!(psnr_db(&one, &other), Some(MAX_PSNR_DB));
        assert!((ssim(&one, &other).unwrap() - 1.0).abs() < 1e-9);
        for plane in other.planes_mut() {
            for (n, sample) in plane.iter_mut().enumerate() {
                *sample = if n % 2 == 0 {
                    sample.saturating_add(5)
                } else {
                    sample.saturating_sub(5)
                };
            }
        }
        // 10 log10(255^2 / 5^2)
        assert!((psnr_db(&one, &other).unwrap() - 34.15).abs() < 0.05);
        assert!(ssim(&one, &other).unwrap() < 0.9);
        let larger = Frame::black(Size::new(64, 66).unwrap(), Duration::ZERO);
        assert_eq!((psnr_db(&one, &larger), ssim(&one, &larger)), (None, None));
    }
}
