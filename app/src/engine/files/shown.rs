//! Transfers as they are shown.

use std::time::{Duration, Instant};

use super::{FilesNews, Hub, TransferView};
use crate::files::{
    TransferId,
    book::{Direction, State, Transfer},
    fetch::FetchStats,
    name::harmless,
    readable,
};

/// A rate is measured over this time at least.
const PACE_OVER: Duration = Duration::from_secs(1);
/// Nothing has left for so long: it stands still.
const STANDS_STILL: Duration = Duration::from_secs(5);

/// How fast a file of ours leaves, by how much of it had left before.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    at: Instant,
    done: u64,
    rate: u64,
}

impl Pace {
    /// Bytes per second, when so many bytes have left by `now`.
    fn note(pace: &mut Option<Self>, now: Instant, done: u64) -> u64 {
        let from_here = |rate| Self {
            at: now,
            done,
            rate,
        };
        let before = pace.get_or_insert(from_here(0));
        let took = now.saturating_duration_since(before.at);
        // It is sent anew from the start.
        if done < before.done || took >= STANDS_STILL {
            *before = from_here(0);
        } else if took >= PACE_OVER {
            let bytes = (done - before.done) as f64;
            *before = from_here((bytes / took.as_secs_f64()) as u64);
        }
        before.rate
    }
}

impl Hub {
    pub(super) async fn show(&mut self, now: Instant) {
        self.shown_at = now;
        self.changed = false;
        let ids: Vec<TransferId> = self.transfers.keys().copied().collect();
        let mut shown: Vec<TransferView> =
            ids.iter().filter_map(|id| self.view(now, *id)).collect();
        shown.sort_by_key(|view| (view.at_millis, view.id));
        let changed = shown.iter().filter(|view| {
            let before = self.shown.iter().find(|before| before.id == view.id);
            before.is_none_or(|before| {
                (&before.state, before.stats.banned) != (&view.state, view.stats.banned)
            })
        });
        let changed: Vec<TransferView> = changed.cloned().collect();
        if shown != self.shown {
            self.shown.clone_from(&shown);
            self.news(FilesNews::Shown(shown, changed)).await;
        }
    }

    pub(super) fn view(&mut self, now: Instant, id: TransferId) -> Option<TransferView> {
        let transfer = self.transfers.get(&id)?;
        let size = transfer.offer.size;
        let (mut done, mut rate, mut sources, mut stats) = (0, 0, 0, FetchStats::default());
        if let Some(counted) = self.counted.get(&id) {
            stats = *counted;
        }
        if let Some(fetch) = self
            .active
            .get_mut(&id)
            .and_then(|active| active.fetch.as_mut())
        {
            done = fetch.done_bytes();
            rate = fetch.rate(now);
            sources = fetch.sources();
            stats = fetch.stats();
        }
        match (&transfer.state, transfer.direction) {
            (State::Done, _) => done = size,
            (_, Direction::Outgoing) => {
                let lines = self.lines.values();
                let lines = lines.filter(|line| line.line.user == transfer.user);
                let sent = lines.filter_map(|line| line.sent.get(&transfer.offer.root));
                done = sent.copied().max().unwrap_or(0).min(size);
                if transfer.state.is_over() {
                    self.paces.remove(&id);
                } else {
                    let mut pace = self.paces.get(&id).copied();
                    rate = Pace::note(&mut pace, now, done);
                    self.paces.extend(pace.map(|pace| (id, pace)));
                }
            }
            (_, Direction::Incoming) => {}
        }
        let person = self.book.display_name(transfer.user, "");
        let sentence = sentence(transfer, &person, done, sources, &stats);
        Some(TransferView {
            id,
            direction: transfer.direction,
            user: transfer.user,
            name: harmless(&transfer.offer.name),
            person,
            at_millis: transfer.at_millis,
            size,
            done,
            rate,
            sources,
            state: transfer.state.clone(),
            path: transfer.path.clone(),
            trouble: transfer.trouble.clone(),
            sentence,
            stats,
        })
    }
}

/// How a transfer stands, for a person.
fn sentence(
    transfer: &Transfer,
    person: &str,
    done: u64,
    sources: usize,
    stats: &FetchStats,
) -> String {
    let size = transfer.offer.size;
    let of = format!("{} of {}", readable(done), readable(size));
    let because = transfer.trouble.as_ref();
    match (&transfer.state, transfer.direction) {
        (State::Offered, Direction::Incoming) => {
            format!(
                "{person} offers {}; it is not fetched before you accept",
                readable(size)
            )
        }
        (State::Offered | State::Active | State::Paused, Direction::Outgoing) if done > 0 => {
            format!("{person} fetches it: {of}")
        }
        (State::Offered | State::Active | State::Paused, Direction::Outgoing) => {
            format!("offered; it moves when {person} accepts and both of you are online")
        }
        (State::Active, Direction::Incoming) if sources == 0 => match stats.banned {
            0 => format!("{of}; it goes on when {person} is online"),
            _ => format!("{of}; what {person} sends is not what was offered, and is not taken"),
        },
        (State::Active, Direction::Incoming) => {
            let from = if sources == 1 { "device" } else { "devices" };
            format!("{of}, from {sources} {from}")
        }
        (State::Paused, Direction::Incoming) => match because {
            Some(because) => format!("{of}; {because}"),
            None => format!("paused at {of}"),
        },
        (State::Done, Direction::Incoming) => "complete, each byte verified".into(),
        (State::Done, Direction::Outgoing) => format!("{person} has it"),
        (State::Refused, _) => because.map_or_else(|| "not wanted".into(), ToString::to_string),
        (State::Failed, _) => {
            because.map_or_else(|| "it cannot be sent any more".into(), ToString::to_string)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "a test needs one instant to start from"
    )]
    fn a_rate_is_of_the_last_second_and_nothing_where_nothing_leaves() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut pace = None;
        assert_eq!(Pace::note(&mut pace, at(0), 0), 0);
        assert_eq!(Pace::note(&mut pace, at(500), 400_000), 0, "too early");
        assert_eq!(Pace::note(&mut pace, at(1000), 1_000_000), 1_000_000);
        assert_eq!(Pace::note(&mut pace, at(3000), 2_000_000), 500_000);
        assert_eq!(Pace::note(&mut pace, at(8000), 2_000_000), 0);
        assert_eq!(Pace::note(&mut pace, at(9000), 1000), 0, "sent anew");
    }
}
