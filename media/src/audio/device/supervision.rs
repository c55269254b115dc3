//! What to do when a device fails: the decisions, without the doing.
//!
//! Drain [`Supervision::poll_action`] and [`Supervision::poll_event`] after every `handle_…`; call
//! [`Supervision::handle_timeout`] several times a second. Time is a [`Duration`] since any fixed moment.
//!
//! | what happens | what is done |
//! |---|---|
//! | opening fails, the stream reports its end | closed, opened again after 0.25, 0.5, 1, then every 2 s |
//! | no callback for a second | the same: some systems stop without a word |
//! | the chosen device leaves the list | closed at once and *not* replaced: a sound server would quietly go on with another microphone |
//! | it comes back | opened |
//! | the default changes while it is followed | opened again with the new one |

use std::{collections::VecDeque, time::Duration};

use super::{DeviceChoice, DeviceError, DeviceEvent, DeviceInfo, Direction};

/// Waits between attempts.
const BACK_OFF: [Duration; 4] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
];

/// A stream that lived this long makes the next failure a first one.
const STABLE_AFTER: Duration = Duration::from_secs(10);

/// An open device that has not called for so long has stalled.
const WATCHDOG: Duration = Duration::from_secs(1);

/// Opening that takes longer never ends.
const OPEN_LIMIT: Duration = Duration::from_secs(5);

/// What the shell has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Start to open the chosen device.
    Open,
    /// Let go of the stream that is open or being opened.
    Close,
}

#[derive(Debug)]
enum State {
    /// Waiting for the next attempt.
    Waiting {
        until: Duration,
    },
    Opening {
        since: Duration,
    },
    Open {
        since: Duration,
        info: DeviceInfo,
    },
    /// The chosen device is not in the list.
    Gone,
}

/// The state of one device.
#[derive(Debug)]
pub(super) struct Supervision {
    choice: DeviceChoice,
    direction: Direction,
    state: State,
    failures: usize,
    actions: VecDeque<Action>,
    events: VecDeque<DeviceEvent>,
}

impl Supervision {
    pub(super) fn new(choice: DeviceChoice, direction: Direction, now: Duration) -> Self {
        let mut this = Self {
            choice,
            direction,
            state: State::Gone,
            failures: 0,
            actions: VecDeque::new(),
            events: VecDeque::new(),
        };
        this.open(now);
        this
    }

    pub(super) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    pub(super) fn poll_event(&mut self) -> Option<DeviceEvent> {
        self.events.pop_front()
    }

    /// The attempt succeeded.
    pub(super) fn handle_opened(&mut self, now: Duration, info: DeviceInfo) {
        if matches!(self.state, State::Opening { .. }) {
            self.events.push_back(DeviceEvent::Opened(info.clone()));
            self.state = State::Open { since: now, info };
        }
    }

    /// The attempt failed, or the open stream reported its end.
    pub(super) fn handle_failed(&mut self, now: Duration, error: DeviceError) {
        match &self.state {
            State::Open { since, .. } if now.saturating_sub(*since) >= STABLE_AFTER => {
                self.failures = 0;
            }
            State::Open { .. } | State::Opening { .. } => {}
            State::Waiting { .. } | State::Gone => return,
        }
        let retry_in = BACK_OFF[self.failures.min(BACK_OFF.len() - 1)];
        self.failures += 1;
        self.actions.push_back(Action::Close);
        self.events.push_back(DeviceEvent::Lost { error, retry_in });
        self.state = State::Waiting {
            until: now + retry_in,
        };
    }

    /// Time passes. `last_callback` is when the open device last called.
    pub(super) fn handle_timeout(&mut self, now: Duration, last_callback: Option<Duration>) {
        match &self.state {
            State::Waiting { until } if now >= *until => self.open(now),
            State::Opening { since } if now.saturating_sub(*since) >= OPEN_LIMIT => {
                self.handle_failed(now, DeviceError::Hung);
            }
            State::Open { since, .. } => {
                let alive = last_callback.unwrap_or(*since).max(*since);
                if now.saturating_sub(alive) >= WATCHDOG {
                    self.handle_failed(now, DeviceError::Stalled);
                }
            }
            State::Waiting { .. } | State::Opening { .. } | State::Gone => {}
        }
    }

    /// These are the devices there are, constructs included.
    pub(super) fn handle_list(&mut self, now: Duration, devices: &[DeviceInfo]) {
        let mut devices = devices.iter().filter(|d| d.direction == self.direction);
        match &self.choice {
            DeviceChoice::Id(id) => {
                let there = devices.any(|device| device.id == *id);
                match &self.state {
                    State::Gone if there => {
                        self.failures = 0;
                        self.open(now);
                    }
                    State::Open { .. } | State::Waiting { .. } if !there => {
                        if matches!(self.state, State::Open { .. }) {
                            self.actions.push_back(Action::Close);
                        }
                        self.events.push_back(DeviceEvent::Gone { id: id.clone() });
                        self.state = State::Gone;
                    }
                    // An attempt under way will find out by itself.
                    State::Gone
                    | State::Open { .. }
                    | State::Waiting { .. }
                    | State::Opening { .. } => {}
                }
            }
            DeviceChoice::Default => {
                if let State::Open { info, .. } = &self.state
                    && let Some(to) = devices.find(|device| device.is_default)
                    && to.id != info.id
                {
                    self.events
                        .push_back(DeviceEvent::DefaultChanged { to: to.clone() });
                    self.actions.push_back(Action::Close);
                    self.failures = 0;
                    self.open(now);
                }
            }
        }
    }

    fn open(&mut self, now: Duration) {
        self.actions.push_back(Action::Open);
        self.state = State::Opening { since: now };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn device(id: &str, is_default: bool) -> DeviceInfo {
        DeviceInfo {
            id: id.into(),
            name: id.to_uppercase(),
            direction: Direction::Input,
            is_default,
            is_pseudo: false,
        }
    }

    fn drain(supervision: &mut Supervision) -> (Vec<Action>, Vec<DeviceEvent>) {
        let mut actions = Vec::new();
        while let Some(action) = supervision.poll_action() {
            actions.push(action);
        }
        let mut events = Vec::new();
        while let Some(event) = supervision.poll_event() {
            events.push(event);
        }
        (actions, events)
    }

    fn opened(choice: DeviceChoice) -> Supervision {
        let mut supervision = Supervision::new(choice, Direction::Input, ms(0));
        assert_eq!(supervision.poll_action(), Some(Action::Open));
        supervision.handle_opened(ms(50), device("a", true));
        let (_, events) = drain(&mut supervision);
        assert_eq!(events, [DeviceEvent::Opened(device("a", true))]);
        supervision
    }

    #[test]
    fn attempts_back_off_to_every_two_seconds_and_start_over_after_a_stable_stream() {
        let mut supervision = opened(DeviceChoice::Default);
        let mut now = ms(100);
        for wait in [250, 500, 1000, 2000, 2000] {
            supervision.handle_failed(now, DeviceError::Lost);
            let (actions, events) = drain(&mut supervision);
            assert_eq!(actions, [Action::Close]);
            assert_eq!(
                events,
                [DeviceEvent::Lost {
                    error: DeviceError::Lost,
                    retry_in: ms(wait)
                }]
            );
            supervision.handle_timeout(now + ms(wait) - ms(1), None);
            assert_eq!(supervision.poll_action(), None);
            now += ms(wait);
            supervision.handle_timeout(now, None);
            assert_eq!(supervision.poll_action(), Some(Action::Open));
        }
        supervision.handle_opened(now, device("a", true));
        now += STABLE_AFTER;
        supervision.handle_failed(now, DeviceError::Lost);
        let (_, events) = drain(&mut supervision);
        assert!(matches!(events[1], DeviceEvent::Lost { retry_in, .. } if retry_in == ms(250)));
    }

    #[test]
    fn a_device_that_stops_calling_is_opened_again() {
        let mut supervision = opened(DeviceChoice::Default);
        supervision.handle_timeout(ms(900), Some(ms(800)));
        supervision.handle_timeout(ms(1799), Some(ms(800)));
        assert_eq!(drain(&mut supervision), (vec![], vec![]));
        supervision.handle_timeout(ms(1800), Some(ms(800)));
        let (actions, events) = drain(&mut supervision);
        assert_eq!(actions, [Action::Close]);
        assert!(matches!(
            events[..],
            [DeviceEvent::Lost {
                error: DeviceError::Stalled,
                ..
            }]
        ));
    }

    #[test]
    fn an_attempt_that_hangs_is_given_up() {
        let mut supervision = Supervision::new(DeviceChoice::Default, Direction::Input, ms(0));
        supervision.handle_timeout(OPEN_LIMIT, None);
        let (actions, events) = drain(&mut supervision);
        assert_eq!(actions, [Action::Open, Action::Close]);
        assert!(matches!(
            events[..],
            [DeviceEvent::Lost {
                error: DeviceError::Hung,
                ..
            }]
        ));
        // What comes of it after all is too late.
        supervision.handle_opened(OPEN_LIMIT + ms(1), device("a", true));
        assert_eq!(supervision.poll_event(), None);
    }

    #[test]
    fn a_chosen_device_that_leaves_is_closed_not_replaced_and_opened_when_it_returns() {
        let mut supervision = opened(DeviceChoice::Id("a".into()));
        supervision.handle_list(ms(100), &[device("a", false), device("b", true)]);
        assert_eq!(drain(&mut supervision), (vec![], vec![]));
        supervision.handle_list(ms(2100), &[device("b", true)]);
        assert_eq!(
            drain(&mut supervision),
            (
                vec![Action::Close],
                vec![DeviceEvent::Gone { id: "a".into() }]
            )
        );
        supervision.handle_list(ms(4100), &[device("b", true)]);
        supervision.handle_timeout(ms(60_000), None);
        assert_eq!(drain(&mut supervision), (vec![], vec![]));
        supervision.handle_list(ms(60_100), &[device("a", false)]);
        assert_eq!(drain(&mut supervision).0, [Action::Open]);
    }

    #[test]
    fn the_default_is_followed() {
        let mut supervision = opened(DeviceChoice::Default);
        supervision.handle_list(ms(100), &[device("a", false), device("b", true)]);
        assert_eq!(
            drain(&mut supervision),
            (
                vec![Action::Close, Action::Open],
                vec![DeviceEvent::DefaultChanged {
                    to: device("b", true)
                }]
            )
        );
    }

    #[test]
    fn devices_of_the_other_direction_do_not_count() {
        let mut supervision = opened(DeviceChoice::Default);
        let speaker = DeviceInfo {
            direction: Direction::Output,
            ..device("speaker", true)
        };
        supervision.handle_list(ms(100), &[device("a", true), speaker]);
        assert_eq!(drain(&mut supervision), (vec![], vec![]));
    }
}
