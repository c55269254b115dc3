//! A second call during a call.

use super::*;

const CAROL: UserId = UserId([8; 32]);
const TABLET: DeviceId = DeviceId([7; 32]);

impl Bench {
    /// Talks with one person while another one calls.
    fn waited_for() -> (Self, Vec<Action>) {
        let mut bench = Self::talking();
        bench.calls.config_mut().call_waiting = true;
        let actions = bench.incoming(HIGHER, TABLET, CAROL);
        (bench, actions)
    }

    /// Talks with the second one, and the first is on hold.
    fn with_one_on_hold() -> Self {
        let (mut bench, _) = Self::waited_for();
        bench.calls.accept(bench.now, HIGHER).unwrap();
        bench.handle(Event::Session {
            call: HIGHER,
            participant: TABLET,
            event: SessionEvent::Connected,
        });
        bench.handle(Event::FirstAudio {
            call: HIGHER,
            participant: TABLET,
        });
        bench
    }

    /// The call in hand and the one aside, each with whether it is on hold.
    fn both(&self) -> [Option<(CallId, bool)>; 2] {
        [self.calls.current(), self.calls.aside()]
            .map(|info| info.map(|info| (info.call, info.held)))
    }
}

fn held(actions: &[Action], wanted: bool) -> Vec<DeviceId> {
    let said = sent(actions).into_iter();
    said.filter(|(_, signal)| matches!(signal, Signal::MediaState { held, .. } if *held == wanted))
        .map(|(device, _)| device)
        .collect()
}

#[test]
fn who_calls_during_a_call_waits_and_the_call_goes_on() {
    let (bench, actions) = Bench::waited_for();
    assert_eq!(sent(&actions), [(TABLET, Signal::Ringing)]);
    let alert = actions.iter().find_map(|action| {
        if let Action::StartRinging { alert, .. } = action {
            Some(*alert)
        } else {
            None
        }
    });
    assert_eq!(alert, Some(Alert::Waiting));
    assert!(!opens_media(&actions));
    assert_eq!(bench.both(), [Some((CALL, false)), Some((HIGHER, false))]);
    assert_eq!(bench.calls.aside().unwrap().state, CallState::RingingHere);
    assert_eq!(bench.calls.current().unwrap().state, CallState::Talking);
}

#[test]
fn a_third_call_hears_busy_and_so_does_a_second_where_nobody_may_wait() {
    let (mut bench, _) = Bench::waited_for();
    let third = DeviceId([3; 32]);
    let actions = bench.incoming(LOWER, third, UserId([3; 32]));
    assert_eq!(sent(&actions), [(third, Signal::Busy)]);
    let mut bench = Bench::talking();
    let actions = bench.incoming(HIGHER, TABLET, CAROL);
    assert_eq!(sent(&actions), [(TABLET, Signal::Busy)]);
}

#[test]
fn answering_puts_the_first_on_hold_and_switching_changes_that() {
    let (mut bench, _) = Bench::waited_for();
    bench.calls.accept(bench.now, HIGHER).unwrap();
    let actions = bench.actions();
    assert_eq!(held(&actions, true), [PHONE]);
    assert!(sent(&actions).contains(&(TABLET, accept())));
    assert!(opens_media(&actions));
    assert_eq!(bench.both(), [Some((HIGHER, false)), Some((CALL, true))]);

    let mut bench = Bench::with_one_on_hold();
    bench.calls.switch().unwrap();
    let actions = bench.actions();
    assert_eq!(held(&actions, true), [TABLET]);
    assert_eq!(held(&actions, false), [PHONE]);
    assert_eq!(bench.both(), [Some((CALL, false)), Some((HIGHER, true))]);
    bench.calls.switch().unwrap();
    assert_eq!(bench.both(), [Some((HIGHER, false)), Some((CALL, true))]);
}

#[test]
fn declining_who_waits_leaves_the_call_alone() {
    let (mut bench, _) = Bench::waited_for();
    bench.calls.decline(bench.now, HIGHER).unwrap();
    let actions = bench.actions();
    assert_eq!(
        sent(&actions),
        [(TABLET, Signal::Decline(DeclineReason::Person))]
    );
    assert_eq!(ending(&actions), Some(Ending::Declined { by: Side::Local }));
    assert_eq!(bench.both(), [Some((CALL, false)), None]);
    assert_eq!(bench.calls.switch(), Err(CommandError::NoCall));
}

#[test]
fn who_waits_in_vain_is_missed_and_who_gives_up_is_gone() {
    let (mut bench, _) = Bench::waited_for();
    assert_eq!(ending(&bench.wait(65)), Some(Ending::NoAnswer));
    assert_eq!(bench.both(), [Some((CALL, false)), None]);
    let (mut bench, _) = Bench::waited_for();
    let actions = bench.signal(HIGHER, TABLET, Signal::Cancel(CancelReason::Person));
    let gone = Ending::Cancelled { by: Side::Remote };
    assert_eq!(ending(&actions), Some(gone));
    assert_eq!(bench.both(), [Some((CALL, false)), None]);
}

#[test]
fn who_waits_rings_once_the_call_is_over() {
    let (mut bench, _) = Bench::waited_for();
    bench.calls.hang_up(bench.now, CALL).unwrap();
    bench.calls.handle_timeout(bench.now);
    let actions = bench.actions();
    assert!(actions.contains(&Action::Changed {
        call: HIGHER,
        state: CallState::RingingHere
    }));
    assert_eq!(bench.both(), [Some((HIGHER, false)), None]);
    bench.calls.accept(bench.now, HIGHER).unwrap();
    assert!(opens_media(&bench.actions()));
}

#[test]
fn a_call_on_hold_goes_on_when_the_other_is_over_and_its_end_is_its_own() {
    let mut bench = Bench::with_one_on_hold();
    let over = bench.signal(HIGHER, TABLET, Signal::HangUp(HangUpReason::Person));
    assert_eq!(ending(&over), Some(Ending::Completed { by: Side::Remote }));
    // Nobody is heard who did not ask for it.
    assert_eq!(bench.both(), [Some((CALL, true)), None]);

    let mut bench = Bench::with_one_on_hold();
    let over = bench.signal(CALL, PHONE, Signal::HangUp(HangUpReason::Person));
    assert_eq!(ending(&over), Some(Ending::Completed { by: Side::Remote }));
    assert_eq!(bench.both(), [Some((HIGHER, false)), None]);

    // The path of the call on hold goes, and comes not back.
    let mut bench = Bench::with_one_on_hold();
    bench.session(PHONE, SessionEvent::Reconnecting);
    let state = bench.calls.aside().unwrap().state;
    assert!(matches!(state, CallState::Reconnecting { .. }), "{state:?}");
    assert_eq!(
        ending(&bench.wait(30)),
        Some(Ending::Lost(LostReason::Path))
    );
    assert_eq!(bench.both(), [Some((HIGHER, false)), None]);
}

#[test]
fn calling_who_waits_answers_them() {
    let (mut bench, _) = Bench::waited_for();
    let placed = bench.calls.place(bench.now, LOWER, CAROL);
    assert_eq!(placed, Ok(HIGHER));
    assert_eq!(bench.both(), [Some((HIGHER, false)), Some((CALL, true))]);
    let elsewhere = bench.calls.place(bench.now, LOWER, UserId([3; 32]));
    assert_eq!(elsewhere, Err(CommandError::InCall));
}
