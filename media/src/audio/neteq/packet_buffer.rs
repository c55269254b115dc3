//! Packets that wait for their turn: few, sorted by media time, in memory that is allocated once.

use super::delay_manager::Reach;
use crate::{
    audio::opus::PacketInfo, packet::rtp::MAX_PAYLOAD_BYTES, rate::Bitrate, time::MediaTime,
};

/// Packets held at most: 2.5 s of 20 ms frames. Whoever needs more has stopped pulling.
const CAPACITY: usize = 128;

/// A packet that came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrived<'a> {
    pub(super) time: MediaTime,
    pub(super) arrival: i64,
    pub(super) info: PacketInfo,
    pub(super) is_copy: bool,
    pub(super) reach: Reach,
    pub(super) payload: &'a [u8],
}

/// A waiting packet.
#[derive(Debug)]
pub(super) struct Slot {
    /// Of its first sample.
    pub(super) time: MediaTime,
    /// Local arrival in samples of the sample clock.
    pub(super) arrival: i64,
    /// What it holds.
    pub(super) info: PacketInfo,
    /// Whether it is itself a copy, that came with a later packet.
    pub(super) is_copy: bool,
    /// What it is good for when packets before it are lost.
    pub(super) reach: Reach,
    payload: Vec<u8>,
}

impl Slot {
    fn fill(&mut self, packet: &Arrived<'_>) {
        self.time = packet.time;
        self.arrival = packet.arrival;
        self.info = packet.info;
        self.is_copy = packet.is_copy;
        self.reach = packet.reach;
        self.payload.clear();
        self.payload.extend_from_slice(packet.payload);
    }

    /// The Opus packet.
    pub(super) fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The media time after its last sample.
    pub(super) fn end(&self) -> MediaTime {
        self.time.plus(self.info.samples as i64)
    }
}

/// What became of an inserted packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Insert {
    /// It waits.
    Stored,
    /// It waits, and the oldest one had to go.
    Displaced,
    /// A packet of the same time waits already, or it is longer than any packet of ours.
    Refused,
}

/// The buffer. Indices into `slots` move, payload memory stays.
#[derive(Debug)]
pub(super) struct PacketBuffer {
    slots: Vec<Slot>,
    /// Waiting, the earliest last, so that taking it is cheap.
    order: Vec<usize>,
    free: Vec<usize>,
}

impl PacketBuffer {
    pub(super) fn new() -> Self {
        let info = PacketInfo {
            samples: 0,
            frame_samples: 0,
            has_fec: false,
            has_dred: false,
            is_stereo: false,
            speech_bitrate: Bitrate(0),
            is_dtx: false,
        };
        let slot = |_| Slot {
            time: MediaTime(0),
            arrival: 0,
            info,
            is_copy: false,
            reach: Reach::Nothing,
            payload: Vec::with_capacity(MAX_PAYLOAD_BYTES),
        };
        Self {
            slots: (0..CAPACITY).map(slot).collect(),
            order: Vec::with_capacity(CAPACITY),
            free: (0..CAPACITY).collect(),
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// Stores a packet in its place. A packet takes the place of its copy.
    pub(super) fn insert(&mut self, packet: &Arrived<'_>) -> Insert {
        let Arrived { time, payload, .. } = *packet;
        if payload.len() > MAX_PAYLOAD_BYTES {
            return Insert::Refused;
        }
        let at = self
            .order
            .partition_point(|index| self.slots[*index].time > time);
        if let Some(index) = self.order.get(at)
            && self.slots[*index].time == time
        {
            let slot = &mut self.slots[*index];
            if !slot.is_copy || packet.is_copy {
                return Insert::Refused;
            }
            slot.fill(packet);
            return Insert::Stored;
        }
        let mut outcome = Insert::Stored;
        if self.free.is_empty() {
            if at == self.order.len() {
                return Insert::Refused;
            }
            self.drop_first();
            outcome = Insert::Displaced;
        }
        let Some(index) = self.free.pop() else {
            return Insert::Refused;
        };
        self.slots[index].fill(packet);
        self.order.insert(at.min(self.order.len()), index);
        outcome
    }

    /// The earliest packet.
    pub(super) fn first(&self) -> Option<&Slot> {
        self.order.last().map(|index| &self.slots[*index])
    }

    /// The end of the latest packet.
    pub(super) fn end(&self) -> Option<MediaTime> {
        self.order.first().map(|index| self.slots[*index].end())
    }

    /// Forgets the earliest packet.
    pub(super) fn drop_first(&mut self) {
        if let Some(index) = self.order.pop() {
            self.free.push(index);
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        while !self.order.is_empty() {
            self.drop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn packet(time: i64, payload: &[u8]) -> Arrived<'_> {
        Arrived {
            time: MediaTime(time),
            arrival: time,
            info: PacketInfo {
                samples: 960,
                frame_samples: 960,
                has_fec: false,
                has_dred: false,
                is_stereo: false,
                speech_bitrate: Bitrate(0),
                is_dtx: false,
            },
            is_copy: false,
            reach: Reach::Nothing,
            payload,
        }
    }

    #[test]
    fn a_packet_takes_the_place_of_its_copy_and_never_the_other_way_round() {
        let mut buffer = PacketBuffer::new();
        let copy = Arrived {
            is_copy: true,
            ..packet(7, &[1])
        };
        assert_eq!(buffer.insert(&copy), Insert::Stored);
        assert_eq!(buffer.insert(&copy), Insert::Refused);
        assert_eq!(buffer.insert(&packet(7, &[2])), Insert::Stored);
        assert_eq!(buffer.insert(&copy), Insert::Refused);
        let first = buffer.first().unwrap();
        assert_eq!((first.payload(), first.is_copy), (&[2][..], false));
        assert_eq!(buffer.len(), 1);
    }

    #[test]
    fn a_full_buffer_keeps_the_newest() {
        let mut buffer = PacketBuffer::new();
        for n in 0..200 {
            let outcome = buffer.insert(&packet(n, &[1]));
            assert_eq!(
                outcome,
                if n < CAPACITY as i64 {
                    Insert::Stored
                } else {
                    Insert::Displaced
                }
            );
        }
        assert_eq!(
            buffer.first().unwrap().time,
            MediaTime(200 - CAPACITY as i64)
        );
        assert_eq!(buffer.insert(&packet(0, &[1])), Insert::Refused);
        assert_eq!(buffer.end().unwrap(), MediaTime(199 + 960));
        buffer.clear();
        assert!(buffer.first().is_none() && buffer.end().is_none());
    }

    #[test]
    fn an_oversized_payload_is_refused() {
        let mut buffer = PacketBuffer::new();
        assert_eq!(
            buffer.insert(&packet(0, &[0; MAX_PAYLOAD_BYTES + 1])),
            Insert::Refused
        );
        assert_eq!(buffer.len(), 0);
    }

    proptest! {
        #[test]
        fn the_buffer_agrees_with_a_sorted_map(ops in prop::collection::vec((any::<bool>(), 0i64..300, any::<u8>()), 1..600)) {
            let mut buffer = PacketBuffer::new();
            let mut model = BTreeMap::new();
            for (take, time, byte) in ops {
                if take {
                    let expected = model.pop_first();
                    prop_assert_eq!(buffer.first().map(|slot| (slot.time.0, slot.payload()[0])), expected);
                    buffer.drop_first();
                } else {
                    let full = model.len() == CAPACITY;
                    let oldest = model.first_key_value().is_none_or(|(first, _)| time < *first);
                    if !model.contains_key(&time) && (!full || !oldest) {
                        if full {
                            model.pop_first();
                        }
                        model.insert(time, byte);
                    }
                    buffer.insert(&packet(time, &[byte]));
                }
                prop_assert_eq!(buffer.len(), model.len());
            }
        }
    }
}
