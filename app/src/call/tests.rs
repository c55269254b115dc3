//! One machine, step by step.

use super::*;
use crate::signal::{
    AudioCapabilities, CancelReason, DeclineReason, FrameDurations, HangUpReason,
    MediaCapabilities, Signal,
};
use ahoy_transport::identity::{DeviceId, UserId};
use std::time::{Duration, Instant};

mod waiting;

const PERSON: UserId = UserId([9; 32]);
const PHONE: DeviceId = DeviceId([1; 32]);
const LAPTOP: DeviceId = DeviceId([2; 32]);
const CALL: CallId = CallId([5; 16]);
const LOWER: CallId = CallId([4; 16]);
const HIGHER: CallId = CallId([6; 16]);

struct Bench {
    calls: Calls,
    now: Instant,
}

impl Bench {
    #[expect(
        clippy::disallowed_methods,
        reason = "any origin of time will do; it does not move"
    )]
    fn new() -> Self {
        Self {
            calls: Calls::new(CallConfig::default()),
            now: Instant::now(),
        }
    }

    fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.calls.poll_action()).collect()
    }

    fn handle(&mut self, event: Event) -> Vec<Action> {
        self.calls.handle(self.now, event);
        self.actions()
    }

    fn wait(&mut self, seconds: u64) -> Vec<Action> {
        self.now += Duration::from_secs(seconds);
        self.calls.handle_timeout(self.now);
        self.actions()
    }

    fn incoming(&mut self, call: CallId, device: DeviceId, user: UserId) -> Vec<Action> {
        self.handle(Event::Incoming {
            call,
            from: Peer { device, user },
            media: MediaCapabilities::default(),
            alert: Alert::Audible,
        })
    }

    fn signal(&mut self, call: CallId, from: DeviceId, signal: Signal) -> Vec<Action> {
        self.handle(Event::Signal { call, from, signal })
    }

    fn session(&mut self, from: DeviceId, event: SessionEvent) -> Vec<Action> {
        self.handle(Event::Session {
            call: CALL,
            participant: from,
            event,
        })
    }

    fn calling(devices: &[DeviceId]) -> Self {
        let mut bench = Self::new();
        bench.calls.place(bench.now, CALL, PERSON).unwrap();
        bench.handle(Event::Found {
            call: CALL,
            devices: devices.to_vec(),
        });
        for device in devices {
            bench.handle(Event::Delivered {
                call: CALL,
                participant: *device,
            });
        }
        bench
    }

    fn talking() -> Self {
        let mut bench = Self::calling(&[PHONE]);
        bench.signal(CALL, PHONE, Signal::Ringing);
        bench.session(PHONE, SessionEvent::Connected);
        bench.signal(CALL, PHONE, accept());
        bench.handle(Event::FirstAudio {
            call: CALL,
            participant: PHONE,
        });
        bench
    }
}

fn accept() -> Signal {
    Signal::Accept(MediaCapabilities::default())
}

fn ending(actions: &[Action]) -> Option<Ending> {
    actions.iter().find_map(|action| {
        if let Action::Ended(ended) = action {
            Some(ended.ending)
        } else {
            None
        }
    })
}

fn sent(actions: &[Action]) -> Vec<(DeviceId, Signal)> {
    let sent = actions.iter().filter_map(|action| {
        if let Action::SendSignal { to, signal, .. } = action {
            Some((*to, signal.clone()))
        } else {
            None
        }
    });
    sent.collect()
}

fn opens_media(actions: &[Action]) -> bool {
    actions
        .iter()
        .any(|action| matches!(action, Action::OpenMedia { .. }))
}

fn rings(actions: &[Action]) -> bool {
    actions
        .iter()
        .any(|action| matches!(action, Action::StartRinging { .. }))
}

#[test]
fn a_call_that_is_answered_opens_media_once_and_completes() {
    let mut bench = Bench::calling(&[PHONE]);
    let actions = bench.signal(CALL, PHONE, Signal::Ringing);
    assert!(actions.contains(&Action::Changed {
        call: CALL,
        state: CallState::RingingThere
    }));
    assert!(!opens_media(&bench.session(PHONE, SessionEvent::Connected)));
    bench.now += Duration::from_secs(3);
    assert!(opens_media(&bench.signal(CALL, PHONE, accept())));
    assert!(!opens_media(&bench.signal(CALL, PHONE, accept())));
    bench.now += Duration::from_millis(40);
    bench.handle(Event::FirstAudio {
        call: CALL,
        participant: PHONE,
    });
    assert_eq!(bench.calls.current().unwrap().state, CallState::Talking);
    assert_eq!(bench.calls.poll_timeout(), None);
    bench.now += Duration::from_secs(60);
    let actions = bench.signal(CALL, PHONE, Signal::HangUp(HangUpReason::Person));
    let Some(Action::Ended(ended)) = actions.last() else {
        panic!("{actions:?}")
    };
    assert_eq!(ended.ending, Ending::Completed { by: Side::Remote });
    let record = ended.record(1_800_000_000_000);
    assert_eq!(record.duration_millis, 60_040);
    assert_eq!(record.outcome.as_str(), ended.ending.outcome().as_str());
}

#[test]
fn a_blocked_caller_sees_what_an_unanswered_one_sees() {
    // Delivered, and never a word: a device that blocks says nothing at all.
    let mut silent = Bench::calling(&[PHONE]);
    let mut rung = Bench::calling(&[PHONE]);
    rung.signal(CALL, PHONE, Signal::Ringing);
    assert_eq!(ending(&silent.wait(60)), Some(Ending::NoAnswer));
    assert_eq!(ending(&rung.wait(60)), Some(Ending::NoAnswer));
}

#[test]
fn the_most_telling_of_several_devices_answers_names_the_ending() {
    let mut bench = Bench::calling(&[PHONE, LAPTOP]);
    let refused = Event::Refused {
        call: CALL,
        participant: LAPTOP,
        why: Unreachable::Offline,
    };
    assert_eq!(ending(&bench.handle(refused)), None);
    assert_eq!(
        ending(&bench.signal(CALL, PHONE, Signal::Busy)),
        Some(Ending::Busy)
    );
}

#[test]
fn one_device_declines_for_the_person() {
    let mut bench = Bench::calling(&[PHONE, LAPTOP]);
    let actions = bench.signal(CALL, PHONE, Signal::Decline(DeclineReason::Person));
    assert_eq!(
        ending(&actions),
        Some(Ending::Declined { by: Side::Remote })
    );
    let told = (LAPTOP, Signal::Cancel(CancelReason::DeclinedElsewhere));
    assert_eq!(sent(&actions), [told]);
}

#[test]
fn a_person_without_devices_is_offline() {
    let mut bench = Bench::new();
    bench.calls.place(bench.now, CALL, PERSON).unwrap();
    let actions = bench.handle(Event::Found {
        call: CALL,
        devices: Vec::new(),
    });
    assert_eq!(
        ending(&actions),
        Some(Ending::Unreachable(Unreachable::Offline))
    );
}

#[test]
fn an_unanswered_look_up_ends_the_call_and_names_its_timer() {
    let mut bench = Bench::new();
    bench.calls.place(bench.now, CALL, PERSON).unwrap();
    assert_eq!(
        bench.calls.poll_timeout(),
        Some((bench.now + Duration::from_secs(10), TimeoutReason::Lookup))
    );
    assert_eq!(
        ending(&bench.wait(10)),
        Some(Ending::Unreachable(Unreachable::NoRoute))
    );
}

#[test]
fn a_second_caller_hears_busy_and_is_remembered() {
    let mut bench = Bench::talking();
    let stranger = DeviceId([7; 32]);
    let actions = bench.incoming(HIGHER, stranger, UserId([8; 32]));
    assert_eq!(sent(&actions), [(stranger, Signal::Busy)]);
    assert_eq!(ending(&actions), Some(Ending::Busy));
    assert!(!rings(&actions));
    assert_eq!(bench.calls.current().unwrap().call, CALL);
}

#[test]
fn a_cancel_that_overtakes_its_offer_keeps_it_from_ringing() {
    let mut bench = Bench::new();
    bench.signal(CALL, PHONE, Signal::Cancel(CancelReason::Person));
    let actions = bench.incoming(CALL, PHONE, PERSON);
    assert!(!rings(&actions));
    assert_eq!(
        ending(&actions),
        Some(Ending::Cancelled { by: Side::Remote })
    );
}

#[test]
fn somebody_elses_cancel_does_not_keep_an_offer_from_ringing() {
    let mut bench = Bench::new();
    bench.signal(CALL, LAPTOP, Signal::Cancel(CancelReason::Person));
    assert!(rings(&bench.incoming(CALL, PHONE, PERSON)));
    bench.signal(CALL, LAPTOP, Signal::Cancel(CancelReason::Person));
    assert_eq!(bench.calls.current().unwrap().state, CallState::RingingHere);
}

#[test]
fn an_offer_that_comes_by_two_homes_rings_once() {
    let mut bench = Bench::new();
    assert!(rings(&bench.incoming(CALL, PHONE, PERSON)));
    assert!(!rings(&bench.incoming(CALL, PHONE, PERSON)));
    bench.calls.decline(bench.now, CALL).unwrap();
    bench.actions();
    assert_eq!(bench.incoming(CALL, PHONE, PERSON), []);
}

#[test]
fn whoever_calls_again_after_a_call_that_was_taken_too_late_is_not_told_busy() {
    // The first call is given up just before it is accepted, and its cancel is late.
    for accepted in [false, true] {
        let mut bench = Bench::new();
        bench.incoming(CALL, PHONE, PERSON);
        if accepted {
            bench.calls.accept(bench.now, CALL).unwrap();
            bench.actions();
        }
        let actions = bench.incoming(HIGHER, PHONE, PERSON);
        assert!(rings(&actions), "{accepted}");
        let gone = Ending::Cancelled { by: Side::Remote };
        assert_eq!(ending(&actions), Some(gone), "{accepted}");
        assert!(!sent(&actions).contains(&(PHONE, Signal::Busy)));
    }
    // Whoever is heard already has this call, and no other.
    let mut bench = Bench::new();
    bench.incoming(CALL, PHONE, PERSON);
    bench.calls.accept(bench.now, CALL).unwrap();
    bench.handle(Event::FirstAudio {
        call: CALL,
        participant: PHONE,
    });
    bench.actions();
    let actions = bench.incoming(HIGHER, PHONE, PERSON);
    assert_eq!(sent(&actions), [(PHONE, Signal::Busy)]);
}

#[test]
fn of_crossing_calls_the_lower_survives_on_both_sides() {
    // Theirs is lower: it is taken, ours ends.
    let mut bench = Bench::calling(&[PHONE]);
    let actions = bench.incoming(LOWER, PHONE, PERSON);
    assert!(!rings(&actions) && opens_media(&actions));
    assert_eq!(ending(&actions), Some(Ending::Merged { into: LOWER }));
    assert_eq!(
        sent(&actions),
        [
            (PHONE, Signal::Cancel(CancelReason::Merged)),
            (PHONE, accept())
        ]
    );
    // Ours is lower: theirs is left alone, their acceptance connects.
    let mut bench = Bench::calling(&[PHONE]);
    assert_eq!(bench.incoming(HIGHER, PHONE, PERSON), []);
    assert!(opens_media(&bench.signal(CALL, PHONE, accept())));
}

#[test]
fn a_crossing_call_is_taken_when_ours_cannot_be_delivered() {
    let mut bench = Bench::calling(&[PHONE]);
    bench.incoming(HIGHER, PHONE, PERSON);
    let actions = bench.handle(Event::Refused {
        call: CALL,
        participant: PHONE,
        why: Unreachable::Offline,
    });
    assert_eq!(ending(&actions), Some(Ending::Merged { into: HIGHER }));
    assert!(opens_media(&actions));
}

#[test]
fn calling_somebody_who_rings_here_accepts() {
    let mut bench = Bench::new();
    bench.incoming(CALL, PHONE, PERSON);
    assert_eq!(bench.calls.place(bench.now, HIGHER, PERSON), Ok(CALL));
    assert!(opens_media(&bench.actions()));
}

#[test]
fn a_call_without_a_path_reconnects_or_is_lost() {
    let mut bench = Bench::talking();
    bench.session(PHONE, SessionEvent::Reconnecting);
    let until = bench.now + Duration::from_secs(30);
    assert_eq!(
        bench.calls.current().unwrap().state,
        CallState::Reconnecting { until }
    );
    bench.wait(29);
    bench.session(PHONE, SessionEvent::Restored);
    assert_eq!(bench.calls.current().unwrap().state, CallState::Talking);
    bench.session(PHONE, SessionEvent::Reconnecting);
    assert_eq!(
        bench.calls.poll_timeout().unwrap().1,
        TimeoutReason::Reconnect
    );
    assert_eq!(
        ending(&bench.wait(30)),
        Some(Ending::Lost(LostReason::Path))
    );
}

#[test]
fn a_device_that_lost_the_call_gets_back_into_it_without_ringing() {
    let mut bench = Bench::talking();
    bench.session(PHONE, SessionEvent::Reconnecting);
    let actions = bench.incoming(HIGHER, PHONE, PERSON);
    assert!(!rings(&actions) && opens_media(&actions));
    assert_eq!(
        ending(&actions),
        Some(Ending::Lost(LostReason::PeerRestarted))
    );
    assert_eq!(bench.calls.current().unwrap().call, HIGHER);
}

#[test]
fn acceptance_without_media_fails_and_says_what_was_missing() {
    let mut no_path = Bench::calling(&[PHONE]);
    no_path.signal(CALL, PHONE, accept());
    assert_eq!(
        ending(&no_path.wait(20)),
        Some(Ending::Unreachable(Unreachable::NoRoute))
    );
    let mut no_media = Bench::calling(&[PHONE]);
    no_media.session(PHONE, SessionEvent::Connected);
    no_media.signal(CALL, PHONE, accept());
    assert_eq!(
        ending(&no_media.wait(20)),
        Some(Ending::Failed(Failure::TimeLimit))
    );
}

#[test]
fn devices_without_a_common_codec_do_not_ring() {
    let mut bench = Bench::new();
    let media = MediaCapabilities {
        audio: Some(AudioCapabilities {
            frame_durations: FrameDurations::of(&[]),
            ..AudioCapabilities::default()
        }),
        video: None,
        compares: false,
    };
    let actions = bench.handle(Event::Incoming {
        call: CALL,
        from: Peer {
            device: PHONE,
            user: PERSON,
        },
        media,
        alert: Alert::Audible,
    });
    assert!(!rings(&actions));
    assert_eq!(ending(&actions), Some(Ending::Failed(Failure::Media)));
    let told = (PHONE, Signal::Decline(DeclineReason::Incompatible));
    assert_eq!(sent(&actions), [told]);
}

#[test]
fn an_impostor_is_told_apart_from_a_bad_network() {
    let mut bench = Bench::calling(&[PHONE]);
    let actions = bench.session(PHONE, SessionEvent::Ended(SessionEnd::Authentication));
    assert_eq!(
        ending(&actions),
        Some(Ending::Failed(Failure::Authentication))
    );
}

#[test]
fn mute_set_while_it_rings_holds_from_the_first_moment() {
    let mut bench = Bench::calling(&[PHONE]);
    bench.calls.set_muted(CALL, true).unwrap();
    bench.actions();
    let actions = bench.signal(CALL, PHONE, accept());
    let muted = actions
        .iter()
        .position(|action| matches!(action, Action::SetLocalMedia { muted: true, .. }));
    let open = actions
        .iter()
        .position(|action| matches!(action, Action::OpenMedia { .. }));
    assert!(muted.unwrap() < open.unwrap());
}

#[test]
fn what_is_set_while_it_connects_is_said_again_once_the_way_is_there() {
    let held = |actions: &[Action]| -> Vec<(u32, bool)> {
        let said = sent(actions).into_iter();
        let held = said.filter_map(|(_to, signal)| {
            if let Signal::MediaState { revision, held, .. } = signal {
                Some((revision, held))
            } else {
                None
            }
        });
        held.collect()
    };
    let mut bench = Bench::new();
    bench.incoming(CALL, PHONE, PERSON);
    bench.calls.accept(bench.now, CALL).unwrap();
    bench.actions();
    bench.calls.set_held(CALL, true).unwrap();
    // It goes by an envelope as yet, which may be lost.
    assert_eq!(held(&bench.actions()), [(1, true)]);
    let connected = bench.session(PHONE, SessionEvent::Connected);
    assert_eq!(held(&connected), [(1, true)]);
    bench.calls.set_held(CALL, false).unwrap();
    assert_eq!(held(&bench.actions()), [(2, false)]);

    // Who has set nothing has nothing to say.
    let mut bench = Bench::new();
    bench.incoming(CALL, PHONE, PERSON);
    bench.calls.accept(bench.now, CALL).unwrap();
    bench.actions();
    let connected = bench.session(PHONE, SessionEvent::Connected);
    assert_eq!(held(&connected), []);
}

#[test]
fn with_push_to_talk_a_call_begins_muted_at_either_side() {
    let mute = |actions: &[Action]| {
        let set = |action: &Action, wanted| matches!(action, Action::SetLocalMedia { muted, .. } if *muted == wanted);
        [true, false]
            .into_iter()
            .find(|&wanted| actions.iter().any(|action| set(action, wanted)))
    };
    for begins_muted in [false, true] {
        let config = CallConfig {
            begins_muted,
            ..CallConfig::default()
        };
        let mut bench = Bench::new();
        bench.calls = Calls::new(config);
        bench.incoming(CALL, PHONE, PERSON);
        assert_eq!(bench.calls.current().unwrap().muted, begins_muted);
        bench.calls.accept(bench.now, CALL).unwrap();
        let actions = bench.actions();
        assert_eq!(mute(&actions), begins_muted.then_some(true));
        bench.calls.set_muted(CALL, false).unwrap();
        assert_eq!(mute(&bench.actions()), begins_muted.then_some(false));

        let mut bench = Bench::new();
        bench.calls.config_mut().begins_muted = begins_muted;
        bench.calls.place(bench.now, CALL, PERSON).unwrap();
        assert_eq!(bench.calls.current().unwrap().muted, begins_muted);
    }
}

#[test]
fn an_older_mute_state_does_not_undo_a_newer_one() {
    let mut bench = Bench::talking();
    let state = |revision, muted| Signal::MediaState {
        revision,
        muted,
        held: false,
        blank: false,
        recording: false,
    };
    assert_eq!(bench.signal(CALL, PHONE, state(2, true)).len(), 1);
    assert_eq!(bench.signal(CALL, PHONE, state(1, false)), []);
    assert_eq!(bench.signal(CALL, PHONE, state(2, true)), []);
}

#[test]
fn what_overtakes_the_answer_counts_from_the_answer_on() {
    let mut bench = Bench::calling(&[PHONE]);
    bench.signal(CALL, PHONE, Signal::Ringing);
    let state = |revision, muted| Signal::MediaState {
        revision,
        muted,
        held: false,
        blank: false,
        recording: false,
    };
    for (revision, muted) in [(1, false), (3, true), (2, false)] {
        assert_eq!(bench.signal(CALL, PHONE, state(revision, muted)), []);
    }
    let heard = bench.signal(CALL, PHONE, accept());
    let muted = heard.iter().filter_map(|action| {
        let Action::RemoteMedia { muted, .. } = action else {
            return None;
        };
        Some(*muted)
    });
    assert_eq!(muted.collect::<Vec<_>>(), [true]);
    assert_eq!(bench.signal(CALL, PHONE, state(3, false)), [], "no news");
}

#[test]
fn that_a_picture_is_taken_away_is_told_once_and_heard() {
    let mut bench = Bench::talking();
    let told = |actions: &[Action]| -> Vec<(u32, bool)> {
        let told = actions.iter().filter_map(|action| {
            let Action::SendSignal { signal, .. } = action else {
                return None;
            };
            let Signal::MediaState {
                revision, blank, ..
            } = signal
            else {
                return None;
            };
            Some((*revision, *blank))
        });
        told.collect()
    };
    bench.calls.set_blank(CALL, false).unwrap();
    assert_eq!(told(&bench.actions()), []);
    bench.calls.set_blank(CALL, true).unwrap();
    bench.calls.set_blank(CALL, true).unwrap();
    assert_eq!(told(&bench.actions()), [(1, true)]);
    bench.calls.set_blank(CALL, false).unwrap();
    assert_eq!(told(&bench.actions()), [(2, false)]);
    let theirs = Signal::MediaState {
        revision: 1,
        muted: false,
        held: false,
        blank: true,
        recording: false,
    };
    let heard = bench.signal(CALL, PHONE, theirs);
    assert!(matches!(
        heard[..],
        [Action::RemoteMedia { blank: true, .. }]
    ));
}

fn tells_of_recording(actions: &[Action]) -> Vec<bool> {
    let told = sent(actions).into_iter().filter_map(|(_to, signal)| {
        if let Signal::MediaState { recording, .. } = signal {
            Some(recording)
        } else {
            None
        }
    });
    told.collect()
}

#[test]
fn a_call_is_recorded_only_while_the_other_side_can_be_told() {
    let mut bench = Bench::calling(&[PHONE]);
    let refused = Err(CommandError::NotTalking);
    assert_eq!(bench.calls.set_recording(CALL, true), refused);
    bench.session(PHONE, SessionEvent::Connected);
    bench.signal(CALL, PHONE, accept());
    assert_eq!(bench.calls.set_recording(CALL, true), refused);
    bench.handle(Event::FirstAudio {
        call: CALL,
        participant: PHONE,
    });
    bench.session(PHONE, SessionEvent::Reconnecting);
    assert_eq!(bench.calls.set_recording(CALL, true), refused);
    bench.session(PHONE, SessionEvent::Restored);
    assert_eq!(
        bench.calls.set_recording(LOWER, true),
        Err(CommandError::NoCall)
    );
    assert!(tells_of_recording(&bench.actions()).is_empty());
    bench.calls.set_recording(CALL, true).unwrap();
    bench.calls.set_recording(CALL, true).unwrap();
    assert_eq!(tells_of_recording(&bench.actions()), [true]);
    assert!(bench.calls.current().unwrap().recording);
    // It can be ended whenever there is a call.
    bench.session(PHONE, SessionEvent::Reconnecting);
    bench.calls.set_recording(CALL, false).unwrap();
    assert_eq!(tells_of_recording(&bench.actions()), [false]);
    let theirs = Signal::MediaState {
        revision: 1,
        muted: false,
        held: false,
        blank: false,
        recording: true,
    };
    let heard = bench.signal(CALL, PHONE, theirs);
    assert!(matches!(
        heard[..],
        [Action::RemoteMedia {
            recording: true,
            ..
        }]
    ));
}

#[test]
fn whoever_calls_again_into_a_recorded_call_is_told_again() {
    let mut bench = Bench::talking();
    bench.calls.set_recording(CALL, true).unwrap();
    bench.session(PHONE, SessionEvent::Reconnecting);
    let actions = bench.incoming(HIGHER, PHONE, PERSON);
    assert!(opens_media(&actions));
    assert_eq!(tells_of_recording(&actions), [true]);
    assert!(bench.calls.current().unwrap().recording);
}

#[test]
fn a_time_limit_counts_from_the_first_sound() {
    let mut bench = Bench::calling(&[PHONE]);
    bench.calls.config_mut().talk_limit = Some(Duration::from_secs(5));
    bench.signal(CALL, PHONE, accept());
    bench.wait(10);
    bench.handle(Event::FirstAudio {
        call: CALL,
        participant: PHONE,
    });
    assert_eq!(
        bench.calls.poll_timeout(),
        Some((bench.now + Duration::from_secs(5), TimeoutReason::TalkLimit))
    );
    assert_eq!(
        ending(&bench.wait(5)),
        Some(Ending::Completed { by: Side::Local })
    );
}

#[test]
fn a_setup_limit_ends_a_call_that_nobody_takes() {
    let mut bench = Bench::new();
    bench.calls.config_mut().setup_limit = Some(Duration::from_secs(4));
    bench.calls.place(bench.now, CALL, PERSON).unwrap();
    bench.handle(Event::Found {
        call: CALL,
        devices: vec![PHONE],
    });
    bench.signal(CALL, PHONE, Signal::Ringing);
    assert_eq!(ending(&bench.wait(4)), Some(Ending::NoAnswer));
}

#[test]
fn a_flood_of_calls_and_cancels_stays_bounded() {
    let mut bench = Bench::talking();
    for number in 0..2000u32 {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&number.to_be_bytes());
        bench.signal(CallId(id), PHONE, Signal::Cancel(CancelReason::Person));
        bench.incoming(CallId(id), LAPTOP, UserId([3; 32]));
    }
    assert!(bench.calls.remembered() <= 256 + 64);
}
