//! What to do when a device fails: the decisions, without the doing.
//!
//! Drain [`Supervision::poll_action`] and [`Supervision::poll_event`] after every `handle_…`; call
//! [`Supervision::handle_timeout`] several times a second. Time is a [`Duration`] since any fixed moment.
//!
//! | what happens | what is done |
//! |---|---|
//! | opening fails, the stream reports its end | closed, opened again after 0.1, 0.25, then every 0.5 s; every 2 s if a person must do something about it |
//! | no callback for a second | the same: some systems stop without a word |
//! | the device, or the whole sound server, is listed again | opened at once, whatever the wait |
//! | the chosen device leaves the list | closed at once and *not* replaced: a sound server would quietly go on with another microphone |
//! | the chosen device was the default and is no more | opened again: a sound server moves what is open there to the new default |
//! | the sound server says that it has moved the chosen device's stream | the same, without waiting for a list |
//! | the default changes while it is followed | opened again with the new one |
//! | another device is chosen | opened at once in place of the one before |
//!
//! An error that repeats is told once.

use std::{collections::VecDeque, time::Duration};

use super::{DeviceChoice, DeviceError, DeviceEvent, DeviceInfo, Direction};

/// Waits between attempts. Sound is to be back within a second of the device, also where no list tells of it.
const BACK_OFF: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
];

/// The same where waiting does not help: somebody must close a program or change a setting.
const PATIENT_BACK_OFF: Duration = Duration::from_secs(2);

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
        /// The stream was moved elsewhere a moment ago.
        fetches: bool,
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
    /// What the last attempts failed with, once that was told.
    told: Option<DeviceError>,
    /// The last list did not hold what is to be opened, or there was none.
    absent: bool,
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
            told: None,
            absent: false,
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
        if let State::Opening { fetches, .. } = self.state {
            if let (true, DeviceChoice::Id(id)) = (fetches, &self.choice) {
                let id = id.clone();
                self.events.push_back(DeviceEvent::Displaced { id });
            }
            self.events.push_back(DeviceEvent::Opened(info.clone()));
            self.told = None;
            self.state = State::Open { since: now, info };
        }
    }

    /// The attempt failed, or the open stream reported its end.
    pub(super) fn handle_failed(&mut self, now: Duration, error: DeviceError) {
        match &self.state {
            State::Open { since, .. } if now.saturating_sub(*since) >= STABLE_AFTER => {
                self.failures = 0;
            }
            State::Opening { fetches: true, .. }
                if matches!(error, DeviceError::NotFound { .. }) =>
            {
                // It was moved because it is gone.
                self.absent = true;
                self.leave();
                return;
            }
            State::Open { .. } | State::Opening { .. } => {}
            State::Waiting { .. } | State::Gone => return,
        }
        let retry_in = match &error {
            DeviceError::Busy | DeviceError::Denied | DeviceError::Unsupported(_) => {
                PATIENT_BACK_OFF
            }
            DeviceError::None(_)
            | DeviceError::NotFound { .. }
            | DeviceError::Lost
            | DeviceError::Stalled
            | DeviceError::Hung
            | DeviceError::System(_) => BACK_OFF[self.failures.min(BACK_OFF.len() - 1)],
        };
        self.failures += 1;
        self.actions.push_back(Action::Close);
        if self.told.as_ref() != Some(&error) {
            self.told = Some(error.clone());
            self.events.push_back(DeviceEvent::Lost { error, retry_in });
        }
        self.state = State::Waiting {
            until: now + retry_in,
        };
    }

    /// Time passes. `last_callback` is when the open device last called.
    pub(super) fn handle_timeout(&mut self, now: Duration, last_callback: Option<Duration>) {
        match &self.state {
            State::Waiting { until } if now >= *until => self.open(now),
            State::Opening { since, .. } if now.saturating_sub(*since) >= OPEN_LIMIT => {
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

    /// The sound system has moved the open stream to the device of this name, and said so.
    pub(super) fn handle_moved(&mut self, now: Duration, name: &str) {
        let (State::Open { info, .. }, DeviceChoice::Id(_)) = (&self.state, &self.choice) else {
            // Who follows the default learns of it by the list.
            return;
        };
        if info.id.split_once(':').is_none_or(|(_, own)| own != name) {
            self.reopen(now);
            // It is told when it is there again, or that it is gone.
            if let State::Opening { fetches, .. } = &mut self.state {
                *fetches = true;
            }
        }
    }

    /// There is no list: the sound server does not answer.
    pub(super) fn handle_no_list(&mut self) {
        self.absent = true;
    }

    /// Another device is chosen.
    pub(super) fn handle_choice(&mut self, now: Duration, choice: DeviceChoice) {
        if choice == self.choice {
            return;
        }
        self.choice = choice;
        self.absent = false;
        self.told = None;
        match self.state {
            State::Open { .. } | State::Opening { .. } => self.reopen(now),
            State::Waiting { .. } | State::Gone => {
                self.failures = 0;
                self.open(now);
            }
        }
    }

    /// These are the devices there are, constructs included.
    pub(super) fn handle_list(&mut self, now: Duration, devices: &[DeviceInfo]) {
        let mut devices = devices.iter().filter(|d| d.direction == self.direction);
        let wanted = match &self.choice {
            DeviceChoice::Id(id) => devices.find(|device| device.id == *id),
            DeviceChoice::Default => devices.find(|device| device.is_default),
        };
        let was_absent = std::mem::replace(&mut self.absent, wanted.is_none());
        match (&mut self.state, wanted) {
            // What was missing is there: no use in waiting any longer.
            (State::Waiting { .. } | State::Gone, Some(_)) if was_absent => {
                self.failures = 0;
                self.open(now);
            }
            (State::Open { .. } | State::Waiting { .. }, None) => {
                self.leave();
                // Without a default there may still be sound. If there is none, the stream tells.
            }
            (State::Open { info, .. }, Some(to)) if to.id != info.id => {
                self.events
                    .push_back(DeviceEvent::DefaultChanged { to: to.clone() });
                self.reopen(now);
            }
            (State::Open { info, .. }, Some(wanted)) => {
                let was_default = std::mem::replace(&mut info.is_default, wanted.is_default);
                if was_default && !wanted.is_default {
                    let id = wanted.id.clone();
                    self.events.push_back(DeviceEvent::Displaced { id });
                    self.reopen(now);
                }
            }
            // An attempt under way will find out by itself.
            (State::Opening { .. }, _) | (State::Waiting { .. } | State::Gone, _) => {}
        }
    }

    /// The chosen device is gone, and nothing takes its place.
    fn leave(&mut self) {
        if let DeviceChoice::Id(id) = &self.choice {
            let id = id.clone();
            if matches!(self.state, State::Open { .. } | State::Opening { .. }) {
                self.actions.push_back(Action::Close);
            }
            self.events.push_back(DeviceEvent::Gone { id });
            self.told = None;
            self.state = State::Gone;
        }
    }

    fn reopen(&mut self, now: Duration) {
        self.actions.push_back(Action::Close);
        self.failures = 0;
        self.open(now);
    }

    fn open(&mut self, now: Duration) {
        self.actions.push_back(Action::Open);
        self.state = State::Opening {
            since: now,
            fetches: false,
        };
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
    fn attempts_back_off_to_every_half_second_and_start_over_after_a_stable_stream() {
        let mut supervision = opened(DeviceChoice::Default);
        let mut now = ms(100);
        for (wait, told) in [(100, true), (250, false), (500, false), (500, false)] {
            supervision.handle_failed(now, DeviceError::Lost);
            let (actions, events) = drain(&mut supervision);
            assert_eq!(actions, [Action::Close]);
            let lost = DeviceEvent::Lost {
                error: DeviceError::Lost,
                retry_in: ms(wait),
            };
            assert_eq!(events, if told { vec![lost] } else { vec![] });
            supervision.handle_timeout(now + ms(wait) - ms(1), None);
            assert_eq!(supervision.poll_action(), None);
            now += ms(wait);
            supervision.handle_timeout(now, None);
            assert_eq!(supervision.poll_action(), Some(Action::Open));
        }
        supervision.handle_failed(now, DeviceError::Busy);
        let (_, events) = drain(&mut supervision);
        assert!(
            matches!(events[..], [DeviceEvent::Lost { retry_in, .. }] if retry_in == PATIENT_BACK_OFF),
            "another error is told: {events:?}"
        );
        now += PATIENT_BACK_OFF;
        supervision.handle_timeout(now, None);
        supervision.handle_opened(now, device("a", true));
        now += STABLE_AFTER;
        supervision.handle_failed(now, DeviceError::Busy);
        supervision.handle_timeout(now + PATIENT_BACK_OFF, None);
        supervision.handle_failed(now + PATIENT_BACK_OFF, DeviceError::Lost);
        let (_, events) = drain(&mut supervision);
        assert!(matches!(events[0], DeviceEvent::Opened(_)));
        assert!(
            matches!(events[2], DeviceEvent::Lost { retry_in, .. } if retry_in == ms(250)),
            "{events:?}"
        );
    }

    #[test]
    fn a_chosen_device_is_fetched_back_as_soon_as_its_stream_was_moved() {
        let chosen = DeviceChoice::Id("pulseaudio:a".into());
        let mut supervision = Supervision::new(chosen, Direction::Input, ms(0));
        supervision.handle_opened(ms(50), device("pulseaudio:a", false));
        drain(&mut supervision);
        supervision.handle_moved(ms(60), "a");
        assert_eq!(drain(&mut supervision), (vec![], vec![]), "it was put back");
        supervision.handle_moved(ms(60), "b");
        let again = vec![Action::Close, Action::Open];
        assert_eq!(drain(&mut supervision), (again.clone(), vec![]));
        let back = device("pulseaudio:a", false);
        supervision.handle_opened(ms(70), back.clone());
        let id = String::from("pulseaudio:a");
        let events = [
            DeviceEvent::Displaced { id: id.clone() },
            DeviceEvent::Opened(back.clone()),
        ];
        assert_eq!(drain(&mut supervision).1, events);
        // It was moved because it was unplugged.
        supervision.handle_moved(ms(80), "b");
        assert_eq!(drain(&mut supervision).0, again);
        supervision.handle_failed(ms(90), DeviceError::NotFound { id: id.clone() });
        assert_eq!(
            drain(&mut supervision),
            (vec![Action::Close], vec![DeviceEvent::Gone { id }])
        );
        supervision.handle_list(ms(100), &[back]);
        assert_eq!(drain(&mut supervision).0, [Action::Open]);
        let mut follows = opened(DeviceChoice::Default);
        follows.handle_moved(ms(60), "b");
        assert_eq!(drain(&mut follows), (vec![], vec![]), "the list will tell");
    }

    #[test]
    fn a_server_that_answers_again_ends_every_wait() {
        let mut supervision = opened(DeviceChoice::Default);
        supervision.handle_failed(ms(100), DeviceError::Busy);
        drain(&mut supervision);
        supervision.handle_list(ms(200), &[device("a", true)]);
        assert_eq!(
            drain(&mut supervision).0,
            [],
            "it was there all the time: that is no news"
        );
        supervision.handle_no_list();
        supervision.handle_list(ms(300), &[]);
        assert_eq!(drain(&mut supervision).0, [], "the server comes back first");
        supervision.handle_list(ms(400), &[device("a", true)]);
        assert_eq!(drain(&mut supervision).0, [Action::Open]);
    }

    #[test]
    fn a_chosen_device_is_fetched_back_when_it_was_the_default_and_is_no_more() {
        let mut supervision = opened(DeviceChoice::Id("a".into()));
        supervision.handle_list(ms(100), &[device("a", true), device("b", false)]);
        assert_eq!(drain(&mut supervision), (vec![], vec![]));
        supervision.handle_list(ms(200), &[device("a", false), device("b", true)]);
        assert_eq!(
            drain(&mut supervision),
            (
                vec![Action::Close, Action::Open],
                vec![DeviceEvent::Displaced { id: "a".into() }]
            )
        );
        supervision.handle_opened(ms(250), device("a", false));
        drain(&mut supervision);
        supervision.handle_list(ms(300), &[device("a", false), device("c", true)]);
        assert_eq!(drain(&mut supervision), (vec![], vec![]));
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
        supervision.handle_list(ms(100), &[device("a", true), device("b", false)]);
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
    fn another_choice_is_opened_at_once_whatever_became_of_the_last() {
        let other = DeviceChoice::Id("b".into());
        let mut supervision = opened(DeviceChoice::Id("a".into()));
        supervision.handle_choice(ms(100), DeviceChoice::Id("a".into()));
        assert_eq!(drain(&mut supervision).0, [], "the same is no change");
        supervision.handle_choice(ms(100), other.clone());
        assert_eq!(drain(&mut supervision).0, [Action::Close, Action::Open]);
        supervision.handle_choice(ms(110), DeviceChoice::Default);
        assert_eq!(
            drain(&mut supervision).0,
            [Action::Close, Action::Open],
            "an attempt under way is given up"
        );
        supervision.handle_failed(ms(120), DeviceError::Busy);
        drain(&mut supervision);
        supervision.handle_choice(ms(130), other);
        assert_eq!(drain(&mut supervision).0, [Action::Open]);
        supervision.handle_opened(ms(140), device("b", false));
        supervision.handle_list(ms(150), &[device("a", true)]);
        assert_eq!(
            drain(&mut supervision).1[1],
            DeviceEvent::Gone { id: "b".into() }
        );
        supervision.handle_choice(ms(160), DeviceChoice::Id("a".into()));
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
