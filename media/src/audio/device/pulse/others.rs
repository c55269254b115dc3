//! What other programs play, by the monitor of each of their streams.
//!
//! The monitor of a whole speaker would bring the other side's own voice back to it. A stream's monitor brings that stream
//! alone, so whatever this program plays is left out.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    time::Duration,
};

use pulseaudio::protocol::{Command, Prop, SinkInputInfo, SinkInputInfoList, SubscriptionMask};

use super::{Connection, Failure, Stream, follow, from_io, record_from};
use crate::audio::{
    capture::Capture,
    device::{DeviceClock, DeviceError, stream::microphone},
    wide::WideBlock,
};

/// Streams that are listened to at most; a desktop has a handful.
const MAX_STREAMS: usize = 16;

/// Changes on their way to whoever mixes, who looks every 10 ms.
const CHANGES: usize = 2 * MAX_STREAMS;

enum Change {
    Came(Playing),
    Went(u32),
}

/// A stream that is listened to.
#[derive(Debug)]
struct Playing {
    index: u32,
    capture: Capture,
    _stream: Stream,
}

/// Mixes what other programs play.
#[derive(Debug)]
pub(in super::super) struct OthersMix {
    changes: Receiver<Change>,
    playing: Vec<Playing>,
    clock: DeviceClock,
    block: Box<WideBlock>,
}

/// Listens to all other programs from now on, whenever they play, until the stream of news is dropped.
pub(in super::super) fn others(clock: DeviceClock) -> Result<(Stream, OthersMix), DeviceError> {
    let (news, heard) = sync_channel(1);
    let watch = follow(SubscriptionMask::SINK_INPUT, move |goes_on| {
        // One that waits tells as much as two. That there will be none any more is told by our going.
        if goes_on {
            news.try_send(()).unwrap_or(());
        }
    })?;
    let asking = Connection::open()?;
    let (sender, changes) = sync_channel(CHANGES);
    std::thread::Builder::new()
        .name("ahoy-others".into())
        .spawn(move || keep(asking, &heard, &sender, clock))
        .map_err(|error| from_io(&error))?;
    let mix = OthersMix {
        changes,
        playing: Vec::with_capacity(MAX_STREAMS),
        clock,
        block: Box::default(),
    };
    Ok((watch, mix))
}

/// Follows the streams that come and go, until there is no news any more or nobody who mixes.
fn keep(
    mut asking: Connection,
    heard: &Receiver<()>,
    sender: &SyncSender<Change>,
    clock: DeviceClock,
) {
    let mut known = BTreeSet::new();
    loop {
        let list = match asking.ask::<SinkInputInfoList>(&Command::GetSinkInputInfoList) {
            Ok(list) => list,
            Err(error) => {
                tracing::warn!(%error, "what other programs play is not known any more");
                return;
            }
        };
        let there: BTreeSet<u32> = list
            .iter()
            .filter(|stream| is_anothers(stream))
            .map(|stream| stream.index)
            .take(MAX_STREAMS)
            .collect();
        for index in known.difference(&there) {
            if sender.send(Change::Went(*index)).is_err() {
                return;
            }
        }
        known.retain(|index| there.contains(index));
        for index in there {
            if known.contains(&index) {
                continue;
            }
            match listen(index, clock) {
                Ok(playing) => match sender.try_send(Change::Came(playing)) {
                    Ok(()) => {
                        known.insert(index);
                    }
                    // It is seen again with the next change.
                    Err(TrySendError::Full(_)) => {}
                    Err(TrySendError::Disconnected(_)) => return,
                },
                // It has ended meanwhile, or cannot be listened to.
                Err(error) => tracing::debug!(index, %error, "a program is not heard"),
            }
        }
        if heard.recv().is_err() {
            return;
        }
    }
}

/// Whether another program plays it.
fn is_anothers(stream: &SinkInputInfo) -> bool {
    let own = std::process::id().to_string();
    let theirs = stream.props.get(Prop::ApplicationProcessId);
    // Streams of nobody connect devices with each other, and are heard where they come from.
    stream.client_index.is_some()
        && theirs.is_none_or(|id| id.strip_suffix(b"\0").unwrap_or(id) != own.as_bytes())
}

fn listen(index: u32, clock: DeviceClock) -> Result<Playing, DeviceError> {
    // Nobody has to be told when it ends: the list does.
    let failure = Arc::new(Failure::new(std::thread::current()));
    let (stream, capture, _watch) =
        microphone(|writer| record_from(None, Some(index), 2, writer, clock, failure))?;
    Ok(Playing {
        index,
        capture,
        _stream: stream,
    })
}

impl OthersMix {
    /// Adds what they played in the 10 ms that ended `ago`. To be called every 10 ms.
    pub(in super::super) fn mix_into(&mut self, block: &mut WideBlock, ago: Duration) {
        while let Ok(change) = self.changes.try_recv() {
            match change {
                Change::Came(playing) if self.playing.len() < MAX_STREAMS => {
                    self.playing.push(playing);
                }
                Change::Came(_) => {}
                Change::Went(index) => self.playing.retain(|playing| playing.index != index),
            }
        }
        let now = self.clock.now().saturating_sub(ago);
        for playing in &mut self.playing {
            playing.capture.fetch(Duration::ZERO);
            playing.capture.next_wide(now, &mut self.block);
            block.add(&self.block);
        }
    }
}
