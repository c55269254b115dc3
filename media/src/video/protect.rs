//! The sender's parity: how much, for which frames, and when it leaves.
//!
//! Where the way is long, what is asked for comes too late, and parity ([`parity`]) that leaves with its frame repairs what
//! chance takes. What a burst takes, it takes whole, the frame with its parity. There the parity of the base leaves some
//! pictures later, behind most bursts: still sooner than an answer. The other frames get none then: parity would die with
//! them, and nothing stops without them.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::collections::VecDeque;

use super::{
    packet::{OutgoingPacket, parity},
    send::Class,
};
use crate::loss::Loss;

/// Below this share of packets lost, no parity is sent: what is asked for is seldom, and late is better than always less.
const LEAST_LOSS: f32 = 0.003;

/// More loss than this is not made up for by parity.
const MOST_LOSS: f64 = 0.4;

/// So many frames of the base may still be missing packets with all their parity, and of the others.
const BASE_RESIDUAL: f64 = 0.002;
const REST_RESIDUAL: f64 = 0.06;

/// With more loss than this, the base has parity on short ways too, and so many frames of it may still miss packets: of the
/// answers some are lost as well, and the second one comes too late.
const NEAR_LOSS: f32 = 0.03;
const NEAR_RESIDUAL: f64 = 0.03;
/// In any case with more than this.
const MUCH_LOSS: f32 = 0.08;

/// From so many packets lost in a row on, on average and beside what chance makes, a burst takes a frame with its parity.
const LONG_BURSTS: f32 = 3.5;
/// From so much loss on: a burst a minute is no reason for anything.
const BURSTS_LEAST_LOSS: f32 = 0.01;

/// Parity leaves so many bursts behind its frame, by the packets of pictures that leave meanwhile: of four bursts as long
/// as chance makes them, three end before. At most so many pictures later, since an answer comes some day, too.
const BURSTS_BETWEEN: f32 = 1.5;
const MOST_LATER: u32 = 3;

/// The packets that a picture has are a mean over so many.
const MEAN_OF: f32 = 16.0;

/// What the line does.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    pub(super) loss: Loss,
    /// What is asked for comes too late, or there is so much room that nobody need wait for it.
    pub(super) is_far: bool,
    /// The base has parity on short ways where more than [`NEAR_LOSS`] is lost; else above [`MUCH_LOSS`].
    pub(super) near: bool,
}

impl Line {
    fn is_bursty(self) -> bool {
        let Loss {
            fraction,
            mean_burst,
        } = self.loss;
        fraction >= BURSTS_LEAST_LOSS && mean_burst * (1.0 - fraction) >= LONG_BURSTS
    }
}

/// Parity that leaves later.
#[derive(Debug)]
struct Held {
    /// With the picture of this number.
    at: u32,
    packets: Vec<OutgoingPacket>,
}

/// Makes parity.
#[derive(Debug)]
pub(super) struct Protector {
    sequence: u16,
    /// Of pictures so far.
    count: u32,
    per_picture: f32,
    /// At most one for each of the next [`MOST_LATER`] pictures.
    held: VecDeque<Held>,
}

impl Protector {
    /// The first packet of parity has `sequence`.
    pub(super) fn new(sequence: u16) -> Self {
        Self {
            sequence,
            count: 0,
            per_picture: 1.0,
            held: VecDeque::new(),
        }
    }

    /// What was before is of no use any more.
    pub(super) fn clear(&mut self) {
        self.held.clear();
    }

    /// The next picture leaves: parity of earlier ones that leaves with it, in front.
    pub(super) fn next_picture(&mut self) -> Vec<OutgoingPacket> {
        self.count = self.count.wrapping_add(1);
        let mut due = Vec::new();
        while let Some(held) = self.held.pop_front_if(|held| held.at <= self.count) {
            due.extend(held.packets);
        }
        due
    }

    /// Parity for the packets of a frame that leaves now. With `spread`, it may be kept for later.
    pub(super) fn protect(
        &mut self,
        packets: &[OutgoingPacket],
        class: Class,
        line: Line,
        spread: bool,
    ) -> Vec<OutgoingPacket> {
        let count = u16::try_from(packets.len()).unwrap_or(u16::MAX);
        self.per_picture += (f32::from(count) - self.per_picture) / MEAN_OF;
        if line.loss.fraction < LEAST_LOSS {
            return Vec::new();
        }
        let least = if line.near { NEAR_LOSS } else { MUCH_LOSS };
        let is_spread = spread && line.is_far && line.is_bursty();
        let residual = match class {
            Class::Repair | Class::Base if line.is_far => BASE_RESIDUAL,
            Class::Repair | Class::Base if line.loss.fraction > least => NEAR_RESIDUAL,
            Class::Rest if line.is_far && !is_spread => REST_RESIDUAL,
            Class::Repair | Class::Base | Class::Rest => return Vec::new(),
        };
        let parity = parity_packets(count, line.loss, residual);
        let made = parity::protect(packets, parity, self.sequence).unwrap_or_default();
        let sent = u16::try_from(made.len()).unwrap_or(u16::MAX);
        self.sequence = self.sequence.wrapping_add(sent);
        if !is_spread {
            return made;
        }
        self.held.push_back(Held {
            at: self.count.wrapping_add(self.later(line.loss.mean_burst)),
            packets: made,
        });
        Vec::new()
    }

    /// So many pictures later a burst that began with this one is over.
    fn later(&self, mean_burst: f32) -> u32 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "saturates, and is positive"
        )]
        let pictures = (mean_burst * BURSTS_BETWEEN / self.per_picture.max(1.0)).ceil() as u32;
        pictures.clamp(1, MOST_LATER)
    }
}

/// How many packets of parity a frame of `count` needs, so that no more than this share of frames has more losses than
/// parity; at most [`parity::most_parity`].
fn parity_packets(count: u16, loss: Loss, residual: f64) -> u16 {
    let lost = f64::from(loss.fraction).clamp(0.0, MOST_LOSS);
    // In bursts, packets are lost as if they were fewer and each stood for several; chance alone makes some, too.
    let burst = (f64::from(loss.mean_burst) * (1.0 - lost)).clamp(1.0, 8.0);
    let most = parity::most_parity(count);
    (0..most)
        .find(|parity| {
            let groups = (f64::from(count + parity) / burst).max(1.0).round();
            let spare = (f64::from(*parity) / burst).floor();
            more_lost_than(spare, groups, lost) <= residual
        })
        .unwrap_or(most)
}

/// The chance that of `count` packets more than `spare` are lost, each by itself with the chance `lost`.
fn more_lost_than(spare: f64, count: f64, lost: f64) -> f64 {
    let mut exactly = (1.0 - lost).powf(count);
    let mut at_most = exactly;
    let mut losses = 0.0;
    while losses < spare {
        exactly *= (count - losses) / (losses + 1.0) * lost / (1.0 - lost);
        at_most += exactly;
        losses += 1.0;
    }
    1.0 - at_most
}

#[cfg(test)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the numbers of a test wrap"
)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::video::{
        codec::{EncodedFrame, VideoCodec},
        packet::Packetizer,
    };

    const BURSTS: Loss = Loss {
        fraction: 0.1,
        mean_burst: 8.0,
    };
    const CHANCE: Loss = Loss {
        fraction: 0.1,
        mean_burst: 1.1,
    };

    /// Frames of four packets, in layers as they are used; after which picture the parity of each left.
    fn delays(loss: Loss, is_far: bool, spread: bool) -> Vec<(Class, u64)> {
        let mut packetizer = Packetizer::new(VideoCodec::H264, 1, 0);
        let mut protector = Protector::new(0);
        let line = Line {
            loss,
            is_far,
            near: true,
        };
        let mut delays = Vec::new();
        for n in 0..40_u64 {
            let class = if n % 4 == 0 { Class::Base } else { Class::Rest };
            let mut bytes = vec![0, 0, 0, 1, 0x41];
            bytes.extend((0..4000_u32).map(|n| (n as u8).max(1)));
            let frame = EncodedFrame {
                bytes,
                is_key: n == 0,
                temporal_layer: u8::from(n % 4 != 0),
                needs: if n == 0 { [0; 2] } else { [1, 0] },
                taken: Duration::from_secs(n),
            };
            let packets = packetizer.packetize(&frame).unwrap();
            let mut left = protector.next_picture();
            left.extend(protector.protect(&packets, class, line, spread));
            for packet in left {
                let packet = parity::ParityPacket::parse(&packet.bytes).unwrap();
                let of = u64::from(packet.descriptor.frame);
                let class = if of % 4 == 0 {
                    Class::Base
                } else {
                    Class::Rest
                };
                delays.push((class, n - of));
            }
            assert!(protector.held.len() <= MOST_LATER as usize);
        }
        delays
    }

    #[test]
    fn behind_bursts_the_parity_of_the_base_leaves_when_they_are_over() {
        let spread = delays(BURSTS, true, true);
        assert!(spread.len() >= 36, "{spread:?}");
        assert!(
            spread.iter().all(|sent| *sent == (Class::Base, 3)),
            "{spread:?}"
        );
        // Against chance it leaves at once, and on short ways and where it is switched off.
        for (loss, is_far, on) in [
            (CHANCE, true, true),
            (BURSTS, false, true),
            (BURSTS, true, false),
        ] {
            let sent = delays(loss, is_far, on);
            assert!(!sent.is_empty());
            assert!(sent.iter().all(|(_, later)| *later == 0), "{sent:?}");
            let rest = sent.iter().any(|(class, _)| *class == Class::Rest);
            assert_eq!(rest, is_far);
        }
    }

    #[test]
    fn parity_grows_with_loss_and_packets_and_the_base_has_more() {
        let loss = |fraction, mean_burst| Loss {
            fraction,
            mean_burst,
        };
        let base = |count, fraction| parity_packets(count, loss(fraction, 1.0), BASE_RESIDUAL);
        assert_eq!([1, 4, 10, 20].map(|count| base(count, 0.01)), [1, 1, 2, 2]);
        assert_eq!([1, 4, 10, 20].map(|count| base(count, 0.05)), [2, 3, 4, 5]);
        assert_eq!([1, 4, 10, 20].map(|count| base(count, 0.2)), [3, 6, 9, 14]);
        let rest = |count| parity_packets(count, loss(0.05, 1.0), REST_RESIDUAL);
        assert_eq!([1, 2, 4].map(rest), [0, 1, 1]);
        assert!(parity_packets(20, loss(0.05, 3.0), BASE_RESIDUAL) > base(20, 0.05));
    }

    #[test]
    fn the_larger_a_picture_the_sooner_its_parity_leaves() {
        let mut protector = Protector::new(0);
        protector.per_picture = 6.0;
        assert_eq!(protector.later(8.0), 2);
        protector.per_picture = 20.0;
        assert_eq!(protector.later(8.0), 1);
        assert_eq!(protector.later(1000.0), MOST_LATER);
    }
}
