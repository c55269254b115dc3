//! Whether there is an echo at all.
//!
//! With a headset there is none, and then nothing is to be taken out: what a filter finds all the same is chance, and
//! it costs near speech. An echo shows itself within a tenth of a second: taking it out makes the microphone a lot
//! quieter. When the far side has talked for some seconds and that never happened, there is none.

use super::echo_filter::LowBlock;

/// How long one look is.
const LOOK_BLOCKS: u32 = 10;

/// An echo is there when what is left has less than this share of the power.
const SHARE_LEFT: f32 = 0.5;

/// So long must the far side have been heard without an echo, in looks: at first, when an echo would show as soon as
/// the near side pauses, and where there has been one.
const LOOKS_WITHOUT_AT_FIRST: u32 = 12;
const LOOKS_WITHOUT: u32 = 40;

/// Where there was none, an echo must show this often in a row, and more clearly: chance does not.
const LOOKS_TO_RETURN: u32 = 3;
const SHARE_LEFT_TO_RETURN: f32 = 0.3;

/// Looks in a row in which the estimate explains nothing, until the room counts as another one.
const LOOKS_WRONG: u32 = 4;

/// Power per sample of a voice that is heard: -55 dBFS.
const HEARD: f32 = 3e-6;

/// The least power in the microphone that is worth a look: -75 dBFS.
const AUDIBLE: f32 = 3e-8;

/// What is known about the echo.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EchoState {
    /// Nothing is looked for.
    #[default]
    Off,
    /// The far side has not been heard for long enough.
    Unknown,
    /// There is one, and it is taken out.
    Present,
    /// There is none: what the microphone hears is left alone.
    Absent,
}

/// What a look came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    Nothing,
    /// The estimate has nothing to do with what is heard any more.
    OtherRoom,
}

#[derive(Debug)]
pub(super) struct Presence {
    state: EchoState,
    blocks: u32,
    reference: f32,
    microphone: f32,
    left: f32,
    estimate: f32,
    product: f32,
    without: u32,
    wrong: u32,
    returning: u32,
}

impl Presence {
    pub(super) fn new() -> Self {
        Self {
            state: EchoState::Unknown,
            blocks: 0,
            reference: 0.0,
            microphone: 0.0,
            left: 0.0,
            estimate: 0.0,
            product: 0.0,
            without: 0,
            wrong: 0,
            returning: 0,
        }
    }

    pub(super) fn state(&self) -> EchoState {
        self.state
    }

    /// Looks at 10 ms.
    pub(super) fn look(
        &mut self,
        reference: &LowBlock,
        microphone: &LowBlock,
        estimate: &LowBlock,
        left: &LowBlock,
    ) -> Finding {
        let dot = |a: &LowBlock, b: &LowBlock| -> f32 {
            a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>() / a.len() as f32
        };
        self.reference += dot(reference, reference);
        self.microphone += dot(microphone, microphone);
        self.left += dot(left, left);
        self.estimate += dot(estimate, estimate);
        self.product += dot(microphone, estimate);
        self.blocks += 1;
        if self.blocks < LOOK_BLOCKS {
            return Finding::Nothing;
        }
        let finding = self.judge();
        self.blocks = 0;
        for sum in [
            &mut self.reference,
            &mut self.microphone,
            &mut self.left,
            &mut self.estimate,
            &mut self.product,
        ] {
            *sum = 0.0;
        }
        finding
    }

    fn judge(&mut self) -> Finding {
        let blocks = LOOK_BLOCKS as f32;
        let heard = self.reference > HEARD * blocks;
        if !heard {
            return Finding::Nothing;
        }
        let audible = self.microphone > AUDIBLE * blocks;
        let left = if audible {
            self.left / self.microphone
        } else {
            1.0
        };
        if self.state == EchoState::Absent {
            self.returning = if left < SHARE_LEFT_TO_RETURN {
                self.returning + 1
            } else {
                0
            };
            if self.returning >= LOOKS_TO_RETURN {
                self.state = EchoState::Present;
                self.without = 0;
            }
        } else if left < SHARE_LEFT {
            self.state = EchoState::Present;
            self.without = 0;
        } else {
            self.without += 1;
            let limit = if self.state == EchoState::Present {
                LOOKS_WITHOUT
            } else {
                LOOKS_WITHOUT_AT_FIRST
            };
            if self.without >= limit {
                self.state = EchoState::Absent;
                self.returning = 0;
            }
        }
        // An estimate that is right explains its own power in the microphone, whatever else is heard there.
        let matters = self.estimate > 0.02 * self.microphone && self.estimate > AUDIBLE * blocks;
        if self.state == EchoState::Present && matters && self.product < 0.3 * self.estimate {
            self.wrong += 1;
        } else if matters {
            self.wrong = 0;
        }
        if self.wrong >= LOOKS_WRONG {
            self.wrong = 0;
            return Finding::OtherRoom;
        }
        Finding::Nothing
    }
}
