//! What the echo test says: a sentence, and then whatever it hears, a few seconds later.

use std::{collections::VecDeque, time::Duration};

use ahoy_media::audio::{BLOCK_DURATION, BLOCK_SAMPLES, wide::WideBlock};

/// A clip of speech: 48 kHz mono of 16 bits, 15 s.
pub(crate) static SPEECH: &[u8] = include_bytes!("../../../assets/ahoy.wav");

/// Its first sentence ends here.
const GREETING: Duration = Duration::from_millis(4700);
/// Whoever speaks has ended a few words before they hear them.
const DELAY: Duration = Duration::from_secs(3);

fn blocks(time: Duration) -> usize {
    usize::try_from(time.as_nanos() / BLOCK_DURATION.as_nanos()).unwrap_or(usize::MAX)
}

/// The sentence, 48 kHz mono.
pub(super) fn greeting() -> Vec<f32> {
    // What comes before the samples is the header of a file that is checked by tests.
    let data = SPEECH.windows(4).position(|four| four == b"data");
    let samples = data.map_or(SPEECH, |at| SPEECH.get(at + 8..).unwrap_or_default());
    let samples = samples.chunks_exact(2).map(|two| match two {
        [low, high] => f32::from(i16::from_le_bytes([*low, *high])) / 32_768.0,
        _none => 0.0,
    });
    samples.take(blocks(GREETING) * BLOCK_SAMPLES).collect()
}

/// Sound on its way back.
#[derive(Debug, Default)]
pub(super) struct EchoLine(VecDeque<WideBlock>);

impl EchoLine {
    /// Takes in 10 ms, and gives those of three seconds ago, or silence.
    pub(super) fn pass(&mut self, heard: &WideBlock, said: &mut WideBlock) {
        self.0.push_back(heard.clone());
        if self.0.len() > blocks(DELAY) {
            if let Some(earlier) = self.0.pop_front() {
                *said = earlier;
            }
        } else {
            said.silence();
        }
    }
}

#[cfg(test)]
mod tests {
    use ahoy_media::audio::level::Level;

    use super::*;

    #[test]
    fn the_sentence_is_loud_and_ends_in_a_pause() {
        let samples = greeting();
        assert_eq!(samples.len(), 470 * BLOCK_SAMPLES);
        assert!(Level::of(&samples).rms_dbfs > -30.0);
        assert!(Level::of(&samples[samples.len() - 480..]).peak_dbfs < -40.0);
    }

    #[test]
    fn what_is_heard_comes_back_three_seconds_later_once() {
        let mut line = EchoLine::default();
        let mut loud_at = Vec::new();
        for at in 0..700 {
            let mut heard = WideBlock::default();
            if at == 5 {
                heard = WideBlock::mono(&[0.5; BLOCK_SAMPLES]);
            }
            let mut said = WideBlock::mono(&[0.1; BLOCK_SAMPLES]);
            line.pass(&heard, &mut said);
            if said.mid.iter().any(|sample| *sample != 0.0) {
                loud_at.push(at);
            }
        }
        assert_eq!(loud_at, [305]);
        assert_eq!(line.0.len(), 300, "it holds no more than that");
    }
}
