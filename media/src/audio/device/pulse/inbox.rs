//! What a sound server says on a connection, taken in when somebody looks.

use std::{ffi::CStr, os::unix::net::UnixStream, time::Duration};

use cpal::ErrorKind;
use pulseaudio::protocol::{Command, DESCRIPTOR_SIZE, read_descriptor};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{RecvFlags, recv},
};

use super::CONTROL;
use crate::audio::SAMPLE_RATE_HZ;

/// What is read at once: some pieces of sound.
const READ_BYTES: usize = 16 * 1024;

/// A message longer than this is not one of ours.
const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// After so many pieces that were there already one is waited for, to see when it comes: every third of a second.
const PIECES_UNSEEN: u32 = 64;

/// What the server says.
pub(super) enum Event<'a> {
    /// It was recorded.
    Sound(&'a [u8]),
    /// So many bytes more may come: as many were played.
    Wanted(usize),
    /// The stream is at the device of this name from now on.
    Moved(&'a CStr),
    /// Of no consequence.
    Trouble(ErrorKind),
    /// There may be other devices.
    Changed,
    /// Nothing comes any more.
    Ended(ErrorKind),
}

/// A connection that is only listened to.
#[derive(Debug)]
pub(super) struct Inbox {
    socket: UnixStream,
    version: u16,
    channel: u32,
    /// What was read and makes no whole message yet comes first.
    bytes: Vec<u8>,
    filled: usize,
    is_over: bool,
}

impl Inbox {
    /// What comes by `socket` for this channel, after what has `begun` to come.
    pub(super) fn new(socket: UnixStream, version: u16, channel: u32, begun: Vec<u8>) -> Self {
        let filled = begun.len();
        let mut bytes = begun;
        bytes.resize(filled.max(READ_BYTES), 0);
        Self {
            socket,
            version,
            channel,
            bytes,
            filled,
            is_over: false,
        }
    }

    /// Whether nothing comes any more.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Hands on what has come, and whether that came only while it was waited for: for `limit` at most, or for ever.
    pub(super) fn fetch(
        &mut self,
        limit: Option<Duration>,
        mut on_event: impl FnMut(Event<'_>, bool),
    ) {
        if self.is_over {
            // Whoever waits may be told otherwise, but not by this.
            std::thread::park_timeout(limit.unwrap_or_default());
            return;
        }
        let mut waited = false;
        // What had begun to come may be whole.
        let mut ended = self.hand_on(waited, &mut on_event).err();
        while ended.is_none() {
            match recv(
                &self.socket,
                &mut self.bytes[self.filled..],
                RecvFlags::DONTWAIT,
            ) {
                Ok((_, 0)) => ended = Some(ErrorKind::DeviceNotAvailable),
                Ok((_, count)) => {
                    self.filled += count;
                    let is_all = self.filled < self.bytes.len();
                    ended = self.hand_on(waited, &mut on_event).err();
                    if is_all {
                        break;
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if waited || limit == Some(Duration::ZERO) => break,
                Err(Errno::AGAIN) => {
                    waited = true;
                    self.wait(limit);
                }
                Err(_broken) => ended = Some(ErrorKind::DeviceNotAvailable),
            }
        }
        if let Some(kind) = ended {
            self.is_over = true;
            on_event(Event::Ended(kind), waited);
        }
    }

    /// Until something can be read. Whoever only reads is woken up too when the server has taken what was written to
    /// it: a hundred times a second.
    fn wait(&self, limit: Option<Duration>) {
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        let mut wanted = [PollFd::new(&self.socket, PollFlags::IN)];
        // What is wrong with the connection, reading tells.
        poll(&mut wanted, limit.as_ref()).unwrap_or(0);
    }

    /// The messages that are whole.
    fn hand_on(
        &mut self,
        waited: bool,
        on_event: &mut impl FnMut(Event<'_>, bool),
    ) -> Result<(), ErrorKind> {
        let mut at = 0;
        while let Some(mut header) = self.bytes[..self.filled].get(at..at + DESCRIPTOR_SIZE) {
            let descriptor =
                read_descriptor(&mut header).map_err(|_short| ErrorKind::StreamInvalidated)?;
            let length = descriptor.length as usize;
            if length > MAX_MESSAGE_BYTES {
                return Err(ErrorKind::StreamInvalidated);
            }
            let begin = at + DESCRIPTOR_SIZE;
            let Some(payload) = self.bytes[..self.filled].get(begin..begin + length) else {
                if self.bytes.len() < DESCRIPTOR_SIZE + length {
                    self.bytes.resize(DESCRIPTOR_SIZE + length, 0);
                }
                break;
            };
            if descriptor.channel == CONTROL {
                self.control(payload, &mut |event| on_event(event, waited))?;
            } else if descriptor.channel == self.channel {
                on_event(Event::Sound(payload), waited);
            }
            at = begin + length;
        }
        self.bytes.copy_within(at..self.filled, 0);
        self.filled -= at;
        Ok(())
    }

    fn control(
        &self,
        payload: &[u8],
        on_event: &mut impl FnMut(Event<'_>),
    ) -> Result<(), ErrorKind> {
        match Command::read_tag_prefixed(&mut &payload[..], self.version) {
            Ok((_sequence, Command::Request(request))) => {
                on_event(Event::Wanted(request.length as usize));
            }
            Ok((_sequence, Command::RecordStreamMoved(moved))) => {
                on_event(Event::Moved(&moved.device_name));
            }
            Ok((_sequence, Command::PlaybackStreamMoved(moved))) => {
                on_event(Event::Moved(&moved.device_name));
            }
            Ok((_sequence, Command::SubscribeEvent(_))) => on_event(Event::Changed),
            Ok((_sequence, Command::PlaybackStreamKilled(_) | Command::RecordStreamKilled(_))) => {
                return Err(ErrorKind::DeviceNotAvailable);
            }
            Ok((_sequence, Command::Overflow(_) | Command::Underflow(_))) => {
                on_event(Event::Trouble(ErrorKind::Xrun));
            }
            // Acknowledgements, and what servers tell that is of no consequence here.
            Ok(_) | Err(_) => {}
        }
        Ok(())
    }
}

/// When pieces came that were there already when somebody looked: as long after one that was seen to come as the sound
/// between them lasts.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    samples: u64,
    /// When a piece was seen to come, and how many samples there were with it.
    seen: Option<(Duration, u64)>,
    unseen: u32,
}

impl Arrivals {
    /// A piece is there at `now`, and came just then if it `was_expected`. Returns when it came.
    pub(super) fn note(&mut self, now: Duration, samples: usize, was_expected: bool) -> Duration {
        self.samples += samples as u64;
        if was_expected {
            self.seen = Some((now, self.samples));
            self.unseen = 0;
            return now;
        }
        self.unseen += 1;
        let Some((seen, count)) = self.seen else {
            return now;
        };
        let since = (self.samples - count) as f64 / f64::from(SAMPLE_RATE_HZ);
        now.min(seen + Duration::from_secs_f64(since))
    }

    /// Whether a piece should be seen to come again.
    pub(super) fn are_unsure(&self) -> bool {
        self.seen.is_none() || self.unseen >= PIECES_UNSEEN
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn pieces_that_nobody_saw_come_came_when_their_sound_was_due() {
        let mut arrivals = Arrivals::default();
        assert!(arrivals.are_unsure());
        assert_eq!(arrivals.note(7 * MS, 240, false), 7 * MS, "who knows");
        assert_eq!(arrivals.note(9 * MS, 240, true), 9 * MS);
        assert!(!arrivals.are_unsure());
        assert_eq!(arrivals.note(23 * MS, 240, false), 14 * MS);
        assert_eq!(arrivals.note(23 * MS, 240, false), 19 * MS);
        assert_eq!(
            arrivals.note(23 * MS, 240, false),
            23 * MS,
            "never in the future"
        );
        for _ in 0..PIECES_UNSEEN {
            arrivals.note(60 * MS, 0, false);
        }
        assert!(arrivals.are_unsure());
    }

    #[test]
    fn messages_come_whole_whatever_they_are_cut_into() {
        let (mut server, ours) = UnixStream::pair().unwrap();
        let piece = |channel: u32, payload: &[u8]| {
            let mut message = Vec::new();
            for word in [payload.len() as u32, channel, 0, 0, 0] {
                message.extend_from_slice(&word.to_be_bytes());
            }
            message.extend_from_slice(payload);
            message
        };
        let long = vec![7; 3 * READ_BYTES];
        let all = [piece(5, b"one"), piece(6, b"not ours"), piece(5, &long)].concat();
        let mut inbox = Inbox::new(ours, 35, 5, all[..11].to_vec());
        let mut got = Vec::new();
        for chunk in all[11..].chunks(997) {
            server.write_all(chunk).unwrap();
            inbox.fetch(Some(Duration::ZERO), |event, waited| {
                let Event::Sound(bytes) = event else {
                    panic!("only sound was sent");
                };
                assert!(!waited);
                got.push(bytes.to_vec());
            });
        }
        assert_eq!(got, [b"one".to_vec(), long]);
        drop(server);
        let mut ends = 0;
        for _ in 0..2 {
            inbox.fetch(Some(Duration::ZERO), |event, _| {
                ends += usize::from(matches!(event, Event::Ended(_)));
            });
        }
        assert_eq!(ends, 1, "told once");
        assert!(inbox.is_over());
    }

    #[test]
    fn a_message_of_any_length_is_refused_instead_of_waited_for() {
        let (mut server, ours) = UnixStream::pair().unwrap();
        let mut inbox = Inbox::new(ours, 35, 5, Vec::new());
        server.write_all(&[0xff; DESCRIPTOR_SIZE]).unwrap();
        let mut ended = false;
        inbox.fetch(Some(Duration::ZERO), |event, _| {
            ended |= matches!(event, Event::Ended(_));
        });
        assert!(ended);
    }
}
