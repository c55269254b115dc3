//! Where one piece of sound lies in another: normalised cross-correlation, by Fourier transforms.

use std::{cell::RefCell, sync::Arc};

use realfft::{ComplexToReal, RealFftPlanner, RealToComplex};

thread_local! {
    /// Keeps the tables of the sizes that were used: making them costs more than using them.
    static PLANNER: RefCell<RealFftPlanner<f32>> = RefCell::new(RealFftPlanner::new());
}

/// A transform of `size` real numbers, and the way back.
fn plan(size: usize) -> (Arc<dyn RealToComplex<f32>>, Arc<dyn ComplexToReal<f32>>) {
    PLANNER.with_borrow_mut(|planner| {
        (
            planner.plan_fft_forward(size),
            planner.plan_fft_inverse(size),
        )
    })
}

/// The place where two signals agree best.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Match {
    /// Index into the signal that was searched.
    pub(super) position: usize,
    /// Cosine of the angle between the two pieces: 1.0 for the same shape at any level, 0.0 for strangers.
    pub(super) correlation: f32,
}

/// For each position in `signal` where the whole of `pattern` fits, how well it agrees there, -1.0..=1.0. Where the
/// signal is silent, that is fainter than `floor_rms`, the answer is 0.
pub(super) fn normalised(signal: &[f32], pattern: &[f32], floor_rms: f32) -> Vec<f32> {
    if pattern.is_empty() || signal.len() < pattern.len() {
        return Vec::new();
    }
    let products = sliding_product(signal, pattern);
    let pattern_energy: f64 = pattern.iter().map(|&x| f64::from(x).powi(2)).sum();
    let floor = f64::from(floor_rms).powi(2) * pattern.len() as f64;
    let mut energy: f64 = signal[..pattern.len()]
        .iter()
        .map(|&x| f64::from(x).powi(2))
        .sum();
    let mut result = Vec::with_capacity(products.len());
    for (n, product) in products.into_iter().enumerate() {
        let enough = energy > floor.max(1e-12) && pattern_energy > floor.max(1e-12);
        result.push(if enough {
            (f64::from(product) / (energy * pattern_energy).sqrt()) as f32
        } else {
            0.0
        });
        if let Some(&next) = signal.get(n + pattern.len()) {
            energy += f64::from(next).powi(2) - f64::from(signal[n]).powi(2);
        }
    }
    result
}

/// The best place of `pattern` in `signal`.
pub(super) fn find(signal: &[f32], pattern: &[f32], floor_rms: f32) -> Option<Match> {
    normalised(signal, pattern, floor_rms)
        .into_iter()
        .enumerate()
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .map(|(position, correlation)| Match {
            position,
            correlation,
        })
}

/// `signal` at `rate_hz` without what lies outside of `low_hz..=high_hz`.
pub(super) fn band_pass(signal: &[f32], rate_hz: u32, low_hz: f64, high_hz: f64) -> Vec<f32> {
    // Twice the length: what rings past the end does not come back in at the beginning.
    let size = (2 * signal.len()).next_power_of_two();
    let (forward, inverse) = plan(size);
    let mut input = forward.make_input_vec();
    input[..signal.len()].copy_from_slice(signal);
    let mut spectrum = forward.make_output_vec();
    forward
        .process(&mut input, &mut spectrum)
        .expect("the plan made both buffers' sizes");
    for (n, bin) in spectrum.iter_mut().enumerate() {
        let hz = n as f64 * f64::from(rate_hz) / size as f64;
        // The ends of the spectrum must stay real, so they are never in the band.
        if hz < low_hz.max(1.0) || hz > high_hz.min(0.49 * f64::from(rate_hz)) {
            *bin *= 0.0;
        }
    }
    inverse
        .process(&mut spectrum, &mut input)
        .expect("the plan made both buffers' sizes");
    input.truncate(signal.len());
    for value in &mut input {
        *value /= size as f32;
    }
    input
}

/// The scalar product of `pattern` with each piece of `signal` of its length.
fn sliding_product(signal: &[f32], pattern: &[f32]) -> Vec<f32> {
    let positions = signal.len() - pattern.len() + 1;
    let size = signal.len().next_power_of_two();
    let (forward, inverse) = plan(size);
    let transform = |samples: &[f32]| {
        let mut input = vec![0.0; size];
        input[..samples.len()].copy_from_slice(samples);
        let mut spectrum = forward.make_output_vec();
        forward
            .process(&mut input, &mut spectrum)
            .expect("the plan made both buffers' sizes");
        spectrum
    };
    let mut spectrum = transform(signal);
    for (x, y) in spectrum.iter_mut().zip(transform(pattern)) {
        *x *= y.conj();
    }
    // The inverse wants what a real signal's transform has: no imaginary part at both ends.
    if let Some(first) = spectrum.first_mut() {
        first.im = 0.0;
    }
    if let Some(last) = spectrum.last_mut() {
        last.im = 0.0;
    }
    let mut product = inverse.make_output_vec();
    inverse
        .process(&mut spectrum, &mut product)
        .expect("the plan made both buffers' sizes");
    product.truncate(positions);
    for value in &mut product {
        *value /= size as f32;
    }
    product
}

#[cfg(test)]
mod tests {
    use super::{super::testing::Jitter, *};

    fn noise(seed: u64, len: usize) -> Vec<f32> {
        let mut jitter = Jitter::new(seed, 2.0);
        (0..len).map(|_| jitter.next() as f32 - 1.0).collect()
    }

    #[test]
    fn a_piece_is_found_where_it_was_cut_from_at_any_level() {
        let signal = noise(1, 5000);
        for position in [0, 1, 1234, 4000] {
            let pattern: Vec<f32> = signal[position..position + 1000]
                .iter()
                .map(|x| 0.01 * x)
                .collect();
            let found = find(&signal, &pattern, 0.0).unwrap();
            assert_eq!(found.position, position);
            assert!(found.correlation > 0.999, "{found:?}");
        }
    }

    #[test]
    fn strangers_and_silence_do_not_agree() {
        let found = find(&noise(1, 5000), &noise(2, 1000), 0.0).unwrap();
        assert!(found.correlation < 0.2, "{found:?}");
        assert_eq!(
            find(&[0.0; 5000], &noise(2, 1000), 1e-4)
                .unwrap()
                .correlation,
            0.0
        );
        assert_eq!(find(&[0.0; 10], &[1.0; 11], 0.0), None);
        assert_eq!(find(&[0.0; 10], &[], 0.0), None);
    }
}
