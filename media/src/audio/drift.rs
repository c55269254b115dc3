//! Two clocks that both call themselves 48 kHz: how much faster than ours the device's runs.
//!
//! All there is to see is how much sound waits in the ring between them. A proportional-integral controller turns
//! what is too much or too little there into a correction for the resampler: the integral becomes the clocks'
//! difference, the proportional part brings the ring back to its target. The correction moves slowly, so that
//! nobody hears it (100 ppm are a sixth of a cent), and it is small against what a scheduler's whim does to a
//! single look at the ring.

use std::time::Duration;

/// The loop's natural frequency in radians per second, critically damped: a new clock difference is found within
/// two minutes, and a callback that comes late for once moves the pitch by nothing that matters.
const NATURAL_FREQUENCY: f64 = 0.05;

/// One part per million too fast lets this many milliseconds of sound gather per second.
const MILLIS_PER_SECOND_PER_PPM: f64 = 1e-3;

/// ppm per millisecond of excess.
const PROPORTIONAL: f64 = 2.0 * NATURAL_FREQUENCY / MILLIS_PER_SECOND_PER_PPM;

/// ppm per second and millisecond of excess.
const INTEGRAL: f64 = NATURAL_FREQUENCY * NATURAL_FREQUENCY / MILLIS_PER_SECOND_PER_PPM;

/// How long one look at the ring is averaged with those before it.
const SMOOTHING: Duration = Duration::from_millis(1500);

/// Crystals stay within 100 ppm of their name, two of them within 200 of each other; the worst USB headsets need
/// more than twice that.
pub const MAX_DRIFT_PPM: f64 = 500.0;

/// The correction moves no faster than this.
const MAX_SLEW_PPM_PER_SECOND: f64 = 100.0;

/// Finds the correction in parts per million from the excess of sound in a ring.
#[derive(Clone, Debug)]
pub struct DriftController {
    enabled: bool,
    smoothed_millis: Option<f64>,
    integral_ppm: f64,
    correction_ppm: f64,
}

impl DriftController {
    /// A controller that knows nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            enabled: true,
            smoothed_millis: None,
            integral_ppm: 0.0,
            correction_ppm: 0.0,
        }
    }

    /// One that never corrects anything: what there would be without it.
    #[must_use]
    pub fn disabled() -> Self {
        Self {
            enabled: false,
            ..Self::new()
        }
    }

    /// Looks at the ring: it gathers `excess_millis` more sound than it should (fewer when negative), and the last look
    /// was `elapsed` ago. Returns the correction that empties it: positive when it should be emptied faster.
    pub fn update(&mut self, excess_millis: f64, elapsed: Duration) -> f64 {
        if !self.enabled {
            return 0.0;
        }
        let seconds = elapsed.as_secs_f64();
        let smoothed = match self.smoothed_millis {
            Some(before) => {
                let weight = seconds / (seconds + SMOOTHING.as_secs_f64());
                before + weight * (excess_millis - before)
            }
            None => excess_millis,
        };
        self.smoothed_millis = Some(smoothed);
        let wanted = self.integral_ppm + PROPORTIONAL * smoothed;
        // Far from its level the ring says nothing about the clocks: what is summed up on the way back would have to be
        // unlearned afterwards.
        if wanted.abs() <= MAX_DRIFT_PPM {
            self.integral_ppm += INTEGRAL * smoothed * seconds;
        }
        let wanted = wanted.clamp(-MAX_DRIFT_PPM, MAX_DRIFT_PPM);
        let step = MAX_SLEW_PPM_PER_SECOND * seconds;
        self.correction_ppm += (wanted - self.correction_ppm).clamp(-step, step);
        self.correction_ppm
    }

    /// The ring jumped for another reason than drift. What is known about the clocks stays.
    pub fn forget_level(&mut self) {
        self.smoothed_millis = None;
    }

    /// The correction in force, in parts per million.
    #[must_use]
    pub fn correction_ppm(&self) -> f64 {
        self.correction_ppm
    }
}

impl Default for DriftController {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(10);

    /// The ring as a number: how far it strays and where the correction ends, after `seconds`.
    fn run(controller: &mut DriftController, drift_ppm: f64, seconds: usize) -> (f64, f64) {
        let (mut excess, mut worst) = (0.0f64, 0.0f64);
        for _ in 0..seconds * 100 {
            let correction = controller.update(excess, TICK);
            excess += (drift_ppm - correction) * MILLIS_PER_SECOND_PER_PPM * 0.01;
            worst = worst.max(excess.abs());
        }
        (worst, controller.correction_ppm())
    }

    #[test]
    fn the_clocks_difference_is_found_and_the_ring_hardly_moves() {
        for drift in [-400.0, -200.0, -20.0, 50.0, 200.0, 400.0] {
            let (worst, correction) = run(&mut DriftController::new(), drift, 240);
            assert!((correction - drift).abs() < 2.0, "{drift}: {correction}");
            assert!(worst < 4.0, "{drift} ppm moved the ring by {worst} ms");
        }
    }

    #[test]
    fn switched_off_the_ring_runs_away() {
        let (worst, correction) = run(&mut DriftController::disabled(), 200.0, 600);
        assert_eq!(correction, 0.0);
        assert!(worst > 100.0, "{worst}");
    }

    #[test]
    fn the_correction_stays_in_its_range_and_comes_back_from_its_end() {
        let mut controller = DriftController::new();
        let (_, correction) = run(&mut controller, 5000.0, 60);
        assert_eq!(correction, MAX_DRIFT_PPM);
        // The excess is gone, by a jump: the controller does not stay wound up.
        controller.forget_level();
        let (worst, correction) = run(&mut controller, 0.0, 400);
        assert!(correction.abs() < 10.0, "{correction}");
        assert!(worst < 15.0, "{worst}");
    }

    #[test]
    fn a_ring_that_begins_at_a_wrong_level_comes_back_without_swinging_past() {
        let mut controller = DriftController::new();
        let mut excess = 15.0;
        let mut least = excess;
        for _ in 0..90 * 100 {
            let correction = controller.update(excess, TICK);
            excess -= correction * MILLIS_PER_SECOND_PER_PPM * 0.01;
            least = excess.min(least);
        }
        assert!(excess.abs() < 1.5, "{excess} ms after 90 s");
        assert!(least > -2.5, "it swung to {least} ms");
    }

    #[test]
    fn one_odd_look_moves_the_correction_by_next_to_nothing() {
        let mut controller = DriftController::new();
        run(&mut controller, 0.0, 10);
        let correction = controller.update(20.0, TICK);
        assert!(correction.abs() <= 1.0, "{correction}");
    }
}
