//! What a screen shows: text, or what moves.
//!
//! Decided by the pictures alone. A picture is divided into tiles. Of those that changed, some consist of few colours, as
//! text, lines and plain areas do however fast they scroll, and some of many, as films and photographs do. What counts is
//! how much of the picture is of many colours *and* keeps changing: its mean over the last second. A film in a corner
//! leaves the rest to be read, so that is text; a photograph moves once, so that is text too. To change costs a key frame,
//! so it is done late, and with a gap between the two ways.

use std::time::Duration;

use super::{
    codec::Content,
    frame::{Frame, Plane},
};

/// Sides of a tile in pixels, and every which one is looked at each way.
const TILE: usize = 16;
const STEP: usize = 2;

/// Two samples that are farther apart are different ones.
const LEAST_STEP: u8 = 6;

/// Of the samples of a tile, so many have one of its most usual brightnesses where it has few colours, in percent.
const FEW_COLOURS_PERCENT: u32 = 65;
/// So many of the brightnesses count, of [`SHADES`].
const USUAL: usize = 2;
/// Brightnesses are told apart in so many.
const SHADES: usize = 64;

/// The mean is over so long.
const MEMORY: Duration = Duration::from_secs(1);

/// It moves if this share of the picture does, and is text again below that.
const MOTION_FROM: f64 = 0.22;
const TEXT_BELOW: f64 = 0.07;

/// For so long, each.
const TO_MOTION: Duration = Duration::from_millis(700);
const TO_TEXT: Duration = Duration::from_secs(3);

/// Decides.
#[derive(Debug)]
pub struct ContentJudge {
    content: Content,
    last: Option<(Frame, Duration)>,
    /// Share of the picture that is of many colours and changes, as a mean.
    moving: f64,
    /// The other kind, and since when it seems to be that.
    turning: Option<Duration>,
}

impl Default for ContentJudge {
    /// Says text until it knows better: what is sharp and late is of more use than the other way round.
    fn default() -> Self {
        Self {
            content: Content::Text,
            last: None,
            moving: 0.0,
            turning: None,
        }
    }
}

/// A tile of one plane: its rows, as far as they are looked at.
fn tile(frame: &Frame, left: usize, top: usize) -> impl Iterator<Item = &[u8]> {
    let width = frame.size().width() as usize;
    frame
        .plane(Plane::Y)
        .chunks_exact(width)
        .skip(top)
        .take(TILE)
        .step_by(STEP)
        .map(move |row| row.get(left..left + TILE).unwrap_or_default())
}

fn samples<'a>(rows: impl Iterator<Item = &'a [u8]>) -> impl Iterator<Item = u8> {
    rows.flat_map(|row| row.iter().step_by(STEP).copied())
}

/// Whether two brightnesses make up most of it.
fn has_few_colours(values: impl Iterator<Item = u8>) -> bool {
    let mut counts = [0u32; SHADES];
    let mut all = 0;
    for value in values {
        if let Some(count) = counts.get_mut(usize::from(value) * SHADES / 256) {
            *count += 1;
        }
        all += 1;
    }
    counts.sort_unstable_by(|one, other| other.cmp(one));
    let usual: u32 = counts.iter().take(USUAL).sum();
    usual * 100 >= all * FEW_COLOURS_PERCENT
}

/// The share of the picture that is of many colours and not as it was.
fn moving(before: &Frame, after: &Frame) -> f64 {
    let (width, height) = after.size().of(Plane::Y);
    let (mut all, mut moving) = (0u32, 0u32);
    for top in (0..(height + 1).saturating_sub(TILE)).step_by(TILE) {
        for left in (0..(width + 1).saturating_sub(TILE)).step_by(TILE) {
            all += 1;
            let now = samples(tile(after, left, top));
            let then = samples(tile(before, left, top));
            let changed = now
                .zip(then)
                .any(|(now, then)| now.abs_diff(then) >= LEAST_STEP);
            if changed && !has_few_colours(samples(tile(after, left, top))) {
                moving += 1;
            }
        }
    }
    f64::from(moving) / f64::from(all.max(1))
}

impl ContentJudge {
    /// What it is, as far as it is known.
    #[must_use]
    pub fn content(&self) -> Content {
        self.content
    }

    /// Looks at the next picture, of which `changed` says whether it is another one than that before. Its time is the clock.
    pub fn look(&mut self, frame: &Frame, changed: bool) -> Content {
        let now = frame.taken;
        let share = match &self.last {
            Some((last, _)) if changed && last.size() == frame.size() => moving(last, frame),
            _ => 0.0,
        };
        let since = match &self.last {
            Some((_, at)) => now.saturating_sub(*at),
            None => Duration::ZERO,
        };
        match &mut self.last {
            Some((last, at)) => {
                *at = now;
                if changed {
                    last.clone_from(frame);
                }
            }
            none => *none = Some((frame.clone(), now)),
        }
        let kept = (-since.as_secs_f64() / MEMORY.as_secs_f64()).exp();
        self.moving = self.moving * kept + share * (1.0 - kept);
        self.turn(now);
        self.content
    }

    fn turn(&mut self, now: Duration) {
        let (seems, after, other) = match self.content {
            Content::Text => (self.moving >= MOTION_FROM, TO_MOTION, Content::Motion),
            Content::Motion => (self.moving < TEXT_BELOW, TO_TEXT, Content::Text),
        };
        if !seems {
            self.turning = None;
            return;
        }
        let since = *self.turning.get_or_insert(now);
        if now.saturating_sub(since) >= after {
            self.content = other;
            self.turning = None;
        }
    }
}
