//! The least of something within the last seconds, without keeping all of it.

/// Looks back over `STRETCHES` stretches, and the one under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Least<const STRETCHES: usize> {
    stretches: [f32; STRETCHES],
    current: f32,
    /// Of the stretches that are over.
    before: f32,
}

impl<const STRETCHES: usize> Least<STRETCHES> {
    pub(super) fn new(value: f32) -> Self {
        Self {
            stretches: [value; STRETCHES],
            current: value,
            before: value,
        }
    }

    pub(super) fn note(&mut self, value: f32) {
        self.current = self.current.min(value);
    }

    /// Whether anything was noted in the stretch under way.
    pub(super) fn is_noted(&self) -> bool {
        self.current.is_finite()
    }

    /// Begins another stretch, the `stretch`-th.
    pub(super) fn turn(&mut self, stretch: usize) {
        self.stretches[stretch % STRETCHES] = self.current;
        self.current = f32::INFINITY;
        self.before = self.stretches.iter().fold(f32::INFINITY, |a, &b| a.min(b));
    }

    pub(super) fn value(&self) -> f32 {
        self.current.min(self.before)
    }
}
