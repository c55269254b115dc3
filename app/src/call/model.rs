//! Two and three call state machines against each other, over signalling that loses, repeats and reorders.
//! Whatever people do, all calls end, endings agree, nobody is heard unasked and nothing rings in vain.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use ahoy_transport::identity::{DeviceId, UserId};
use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};

use super::*;
use crate::signal::{MediaCapabilities, Signal};

/// Something a person or the network does. `who` is a device's index.
#[derive(Debug, Clone, Copy)]
enum TestOp {
    Place {
        who: usize,
    },
    Accept {
        who: usize,
    },
    Decline {
        who: usize,
    },
    HangUp {
        who: usize,
    },
    Mute {
        who: usize,
    },
    Hold {
        who: usize,
    },
    MediaFails {
        who: usize,
    },
    /// All paths of this device's call break for a while.
    Break {
        who: usize,
        millis: u16,
    },
}

#[derive(Debug, Clone, Copy)]
struct Weather {
    /// Of 256 signals so many are lost.
    loss: u8,
    /// Of 256 signals so many come twice.
    duplicate: u8,
    /// Longest way of a signal.
    max_delay_millis: u16,
    /// Of 256 sessions so many never come up.
    blocked: u8,
}

const FAIR: Weather = Weather {
    loss: 0,
    duplicate: 0,
    max_delay_millis: 200,
    blocked: 0,
};

enum Happening {
    Op(TestOp),
    Event(usize, Event),
    /// This end's media reaches the other end, if both are open by then.
    Media {
        call: CallId,
        from: usize,
        to: usize,
    },
}

/// One end of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    Closed,
}

struct Device {
    calls: Calls,
    id: DeviceId,
    user: UserId,
    ringing: Option<CallId>,
    /// Every call this device was told of, and how it ended.
    ended: BTreeMap<CallId, Ending>,
    seen: BTreeSet<CallId>,
    placed: BTreeMap<CallId, UserId>,
    accepted_here: BTreeSet<CallId>,
    accept_came: BTreeSet<(CallId, DeviceId)>,
    media: BTreeSet<(CallId, DeviceId)>,
    /// The call that this device's own one was just merged into.
    merged: Option<CallId>,
    /// The device that just came back to a call still held here.
    held_for: Option<DeviceId>,
    rang: u32,
}

struct World {
    origin: Instant,
    now_millis: u64,
    sequence: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    devices: Vec<Device>,
    /// Ends of sessions, by call, own index, other index.
    sessions: BTreeMap<(CallId, usize, usize), End>,
    weather: Weather,
    rng: ChaCha20Rng,
    next_call: Vec<u8>,
}

#[expect(
    clippy::disallowed_methods,
    reason = "any origin of time will do; it does not move"
)]
fn origin() -> Instant {
    Instant::now()
}

impl World {
    /// Device 0 belongs to one person, all others to another one.
    fn new(devices: usize, weather: Weather, seed: u64) -> Self {
        let devices = (0..devices).map(|index| {
            let tag = u8::try_from(index).unwrap();
            Device {
                calls: Calls::new(CallConfig::default()),
                id: DeviceId([tag + 1; 32]),
                user: UserId([tag.min(1) + 101; 32]),
                ringing: None,
                ended: BTreeMap::new(),
                seen: BTreeSet::new(),
                placed: BTreeMap::new(),
                accepted_here: BTreeSet::new(),
                accept_came: BTreeSet::new(),
                media: BTreeSet::new(),
                merged: None,
                held_for: None,
                rang: 0,
            }
        });
        Self {
            origin: origin(),
            now_millis: 0,
            sequence: 0,
            queue: BTreeMap::new(),
            devices: devices.collect(),
            sessions: BTreeMap::new(),
            weather,
            rng: ChaCha20Rng::seed_from_u64(seed),
            next_call: Vec::new(),
        }
    }

    fn now(&self) -> Instant {
        self.origin + Duration::from_millis(self.now_millis)
    }

    fn chance(&mut self, of_256: u8) -> bool {
        self.rng.next_u32() % 256 < u32::from(of_256)
    }

    fn delay(&mut self) -> u64 {
        1 + u64::from(self.rng.next_u32() % u32::from(self.weather.max_delay_millis.max(1)))
    }

    fn at(&mut self, millis: u64, happening: Happening) {
        self.sequence += 1;
        self.queue
            .insert((self.now_millis + millis, self.sequence), happening);
    }

    fn index(&self, id: DeviceId) -> usize {
        self.devices
            .iter()
            .position(|device| device.id == id)
            .unwrap()
    }

    /// Runs until nothing is left to happen.
    fn run(&mut self) {
        for _ in 0..100_000 {
            let timeout = self
                .devices
                .iter()
                .enumerate()
                .filter_map(|(index, device)| {
                    let (at, _) = device.calls.poll_timeout()?;
                    let millis = at.saturating_duration_since(self.origin).as_millis();
                    Some((u64::try_from(millis).unwrap(), index))
                })
                .min();
            let next = self.queue.first_key_value().map(|((at, _), _)| *at);
            match (timeout, next) {
                (Some((at, index)), next) if next.is_none_or(|next| at <= next) => {
                    self.now_millis = self.now_millis.max(at);
                    let now = self.now();
                    let device = &mut self.devices[index];
                    let before = device.calls.poll_timeout();
                    device.calls.handle_timeout(now);
                    assert_ne!(
                        before,
                        device.calls.poll_timeout(),
                        "a timer that does not go away"
                    );
                    self.drain(index);
                }
                (_, Some(_)) => {
                    let ((at, _), happening) = self.queue.pop_first().unwrap();
                    self.now_millis = self.now_millis.max(at);
                    self.happen(happening);
                }
                (_, None) => return,
            }
        }
        panic!("the world does not come to rest");
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Op(op) => self.operate(op),
            Happening::Event(to, event) => {
                if let Event::Signal {
                    call,
                    from,
                    signal: Signal::Accept(_),
                } = &event
                {
                    self.devices[to].accept_came.insert((*call, *from));
                }
                if let Event::Incoming { call, .. } = &event {
                    self.devices[to].seen.insert(*call);
                }
                let now = self.now();
                self.devices[to].calls.handle(now, event);
                self.drain(to);
            }
            Happening::Media { call, from, to } => {
                let (a, b) = (&self.devices[from], &self.devices[to]);
                let open = a.media.contains(&(call, b.id)) && b.media.contains(&(call, a.id));
                let up = self.sessions.get(&(call, from, to)) == Some(&End::Open)
                    && self.sessions.get(&(call, to, from)) == Some(&End::Open);
                if open && up {
                    let participant = a.id;
                    let now = self.now();
                    self.devices[to]
                        .calls
                        .handle(now, Event::FirstAudio { call, participant });
                    self.drain(to);
                }
            }
        }
    }

    fn operate(&mut self, op: TestOp) {
        let (TestOp::Place { who }
        | TestOp::Accept { who }
        | TestOp::Decline { who }
        | TestOp::HangUp { who }
        | TestOp::Mute { who }
        | TestOp::Hold { who }
        | TestOp::MediaFails { who }
        | TestOp::Break { who, .. }) = op;
        let who = who % self.devices.len();
        let now = self.now();
        let running = self.devices[who].calls.current();
        let calls = &mut self.devices[who].calls;
        match (op, running) {
            (TestOp::Place { .. }, running) => {
                let mut id = [0; CallId::LEN];
                self.rng.fill_bytes(&mut id);
                if let Some(first) = self.next_call.pop() {
                    id[0] = first;
                }
                let user = if who == 0 {
                    UserId([102; 32])
                } else {
                    UserId([101; 32])
                };
                match calls.place(now, CallId(id), user) {
                    Ok(call) if call == CallId(id) => {
                        self.devices[who].placed.insert(call, user);
                        self.devices[who].seen.insert(call);
                    }
                    Ok(ringing) => {
                        self.devices[who].accepted_here.insert(ringing);
                    }
                    Err(error) => {
                        assert_eq!(error, CommandError::InCall);
                        assert!(running.is_some());
                    }
                }
            }
            (TestOp::Accept { .. }, Some(info)) => {
                let accepted = calls.accept(now, info.call);
                assert_eq!(accepted.is_ok(), info.state == CallState::RingingHere);
                if accepted.is_ok() {
                    self.devices[who].accepted_here.insert(info.call);
                }
            }
            (TestOp::Decline { .. }, Some(info)) => {
                let declined = calls.decline(now, info.call);
                assert_eq!(declined.is_ok(), info.state == CallState::RingingHere);
            }
            (TestOp::HangUp { .. }, Some(info)) => calls.hang_up(now, info.call).unwrap(),
            (TestOp::Mute { .. }, Some(info)) => calls.set_muted(info.call, !info.muted).unwrap(),
            (TestOp::Hold { .. }, Some(info)) => calls.set_held(info.call, !info.held).unwrap(),
            (TestOp::MediaFails { .. }, Some(info)) => {
                calls.handle(now, Event::MediaFailed { call: info.call });
            }
            (TestOp::Break { millis, .. }, Some(info)) => {
                for peer in info.participants {
                    let other = self.index(peer);
                    for (a, b) in [(who, other), (other, who)] {
                        if self.sessions.get(&(info.call, a, b)) == Some(&End::Open) {
                            let id = self.devices[b].id;
                            self.session_event(1, info.call, a, id, SessionEvent::Reconnecting);
                            let back = u64::from(millis);
                            self.session_event(back, info.call, a, id, SessionEvent::Restored);
                        }
                    }
                }
            }
            (
                TestOp::Accept { .. }
                | TestOp::Decline { .. }
                | TestOp::HangUp { .. }
                | TestOp::Mute { .. }
                | TestOp::Hold { .. }
                | TestOp::MediaFails { .. }
                | TestOp::Break { .. },
                None,
            ) => {}
        }
        self.drain(who);
    }

    fn session_event(
        &mut self,
        millis: u64,
        call: CallId,
        at: usize,
        participant: DeviceId,
        event: SessionEvent,
    ) {
        self.at(
            millis,
            Happening::Event(
                at,
                Event::Session {
                    call,
                    participant,
                    event,
                },
            ),
        );
    }

    fn drain(&mut self, who: usize) {
        while let Some(action) = self.devices[who].calls.poll_action() {
            self.act(who, action);
        }
        let device = &self.devices[who];
        let ringing = device
            .calls
            .current()
            .filter(|info| info.state == CallState::RingingHere);
        assert_eq!(
            device.ringing,
            ringing.map(|info| info.call),
            "it rings exactly while it should"
        );
    }

    fn act(&mut self, who: usize, action: Action) {
        let me = self.devices[who].id;
        match action {
            Action::LookUp { call, user } => {
                self.alive(who, call);
                let devices = self.devices.iter().filter(|device| device.user == user);
                let devices = devices.map(|device| device.id).collect();
                let delay = self.delay();
                self.at(delay, Happening::Event(who, Event::Found { call, devices }));
            }
            Action::SendOffer { call, to } => {
                self.alive(who, call);
                let other = self.index(to);
                self.sessions.insert((call, who, other), End::Open);
                let from = Peer {
                    device: me,
                    user: self.devices[who].user,
                };
                let delay = self.delay();
                if self.chance(self.weather.blocked / 4) {
                    let why = Unreachable::Offline;
                    let refused = Event::Refused {
                        call,
                        participant: to,
                        why,
                    };
                    self.at(delay, Happening::Event(who, refused));
                    return;
                }
                let delivered = Event::Delivered {
                    call,
                    participant: to,
                };
                self.at(delay, Happening::Event(who, delivered));
                let offer = Event::Incoming {
                    call,
                    from,
                    media: MediaCapabilities::default(),
                    alert: Alert::Audible,
                };
                self.send(other, &offer);
            }
            Action::OpenSession { call, participant } => {
                self.alive(who, call);
                let other = self.index(participant);
                let previous = self.sessions.insert((call, who, other), End::Open);
                assert_eq!(previous, None, "one session per call and device");
                let theirs = self.sessions.get(&(call, other, who)).copied();
                let blocked = self.chance(self.weather.blocked);
                if theirs == Some(End::Open) && !blocked {
                    for (at, peer) in [(who, participant), (other, me)] {
                        let delay = self.delay();
                        self.session_event(delay, call, at, peer, SessionEvent::Connected);
                    }
                } else {
                    let end = SessionEvent::Ended(SessionEnd::NoPath);
                    self.session_event(15_000, call, who, participant, end);
                    self.session_event(15_100, call, other, me, end);
                }
            }
            Action::SendSignal { call, to, signal } => {
                let other = self.index(to);
                let event = Event::Signal {
                    call,
                    from: me,
                    signal,
                };
                self.send(other, &event);
            }
            Action::StartRinging { call, from, .. } => {
                self.alive(who, call);
                assert_ne!(from.user, self.devices[who].user);
                let device = &mut self.devices[who];
                assert_eq!(device.ringing.replace(call), None, "two calls ring");
                device.rang += 1;
            }
            Action::StopRinging { call } => {
                self.alive(who, call);
                assert_eq!(self.devices[who].ringing.take(), Some(call));
            }
            Action::OpenMedia {
                call,
                participant,
                accepted,
                ..
            } => {
                self.alive(who, call);
                assert_eq!(
                    (accepted.call(), accepted.participant()),
                    (call, participant)
                );
                let other = self.index(participant);
                let device = &mut self.devices[who];
                let asked = if device.placed.contains_key(&call) {
                    device.accept_came.contains(&(call, participant))
                } else {
                    // Accepted here, or the person's own call to the same person turned into this one, or
                    // the call that this one replaces was still held.
                    device.accepted_here.contains(&call)
                        || device.merged.take() == Some(call)
                        || device.held_for.take() == Some(participant)
                };
                assert!(asked, "media without an acceptance");
                assert!(
                    self.devices[who].media.insert((call, participant)),
                    "media opens once"
                );
                for (from, to) in [(who, other), (other, who)] {
                    for after in [30, 300, 1500] {
                        let delay = self.delay() + after;
                        self.at(delay, Happening::Media { call, from, to });
                    }
                }
            }
            Action::SetLocalMedia { call, .. }
            | Action::RemoteMedia { call, .. }
            | Action::Changed { call, .. } => self.alive(who, call),
            Action::CloseSession { call, participant } => {
                self.alive(who, call);
                let other = self.index(participant);
                self.sessions.insert((call, who, other), End::Closed);
                self.devices[who].media.remove(&(call, participant));
                if self.sessions.get(&(call, other, who)) == Some(&End::Open) {
                    let (delay, end) = if self.chance(self.weather.loss) {
                        (30_000, SessionEnd::NoPath)
                    } else {
                        // Signals sent before travel in the same session and come first.
                        let late = u64::from(self.weather.max_delay_millis);
                        (late + 1, SessionEnd::ClosedByPeer)
                    };
                    self.session_event(delay, call, other, me, SessionEvent::Ended(end));
                }
            }
            Action::Ended(ended) => {
                let device = &mut self.devices[who];
                assert_ne!(device.ringing, Some(ended.call), "ended while it rings");
                let before = device.ended.insert(ended.call, ended.ending);
                assert_eq!(before, None, "one ending per call");
                assert!(device.seen.contains(&ended.call));
                if let Ending::Merged { into } = ended.ending {
                    assert!(device.placed.contains_key(&ended.call));
                    device.merged = Some(into);
                }
                if ended.ending == Ending::Lost(LostReason::PeerRestarted) {
                    device.held_for = ended.participant;
                }
            }
        }
    }

    fn send(&mut self, to: usize, event: &Event) {
        let copies = if self.chance(self.weather.loss) {
            0
        } else {
            1 + usize::from(self.chance(self.weather.duplicate))
        };
        for _ in 0..copies {
            let delay = self.delay();
            self.at(delay, Happening::Event(to, event.clone()));
        }
    }

    fn alive(&self, who: usize, call: CallId) {
        assert!(
            !self.devices[who].ended.contains_key(&call),
            "something happens after the end"
        );
    }

    /// What must hold when all is over, on any network.
    fn check(&self) {
        for device in &self.devices {
            assert_eq!(device.calls.current(), None, "a call without an end");
            assert_eq!(device.ringing, None);
            for (call, user) in &device.placed {
                let mine = device.ended.get(call).copied();
                let mine = mine.expect("every call that was placed ends");
                let others: Vec<(DeviceId, Ending)> = self
                    .devices
                    .iter()
                    .filter(|other| other.user == *user)
                    .filter_map(|other| Some((other.id, *other.ended.get(call)?)))
                    .collect();
                self.check_call(device, *call, mine, &others);
            }
        }
    }

    fn check_call(
        &self,
        caller: &Device,
        call: CallId,
        mine: Ending,
        others: &[(DeviceId, Ending)],
    ) {
        let heard = others
            .iter()
            .filter(|(_, ending)| matches!(ending, Ending::Completed { .. }));
        assert!(
            heard.count() <= 1,
            "two devices talked in one call: {others:?}"
        );
        let talked = |ending: &Ending| {
            matches!(
                ending,
                Ending::Completed { .. }
                    | Ending::Cancelled { .. }
                    | Ending::Lost(_)
                    | Ending::Unreachable(Unreachable::NoRoute)
                    | Ending::Failed(_)
            )
        };
        match mine {
            Ending::Completed { .. } => {
                assert!(
                    others.iter().any(|(_, ending)| talked(ending)),
                    "{others:?}"
                );
            }
            Ending::Declined { by } => {
                assert_eq!(by, Side::Remote);
                assert!(
                    others.iter().any(|(_, ending)| *ending
                        == Ending::Declined { by: Side::Local }
                        || matches!(ending, Ending::Merged { .. }))
                        || self
                            .devices
                            .iter()
                            .any(|device| device.user != caller.user && !device.placed.is_empty()),
                    "{others:?}"
                );
            }
            Ending::AnsweredElsewhere | Ending::DeclinedElsewhere => {
                panic!("only who is called can be called elsewhere")
            }
            Ending::Merged { into } => {
                assert!(into < call || !caller.placed.contains_key(&into));
                assert!(caller.ended.contains_key(&into));
            }
            Ending::Busy
            | Ending::NoAnswer
            | Ending::Cancelled { .. }
            | Ending::Unreachable(_)
            | Ending::Lost(_)
            | Ending::Failed(_) => {}
        }
        for (id, theirs) in others {
            match theirs {
                Ending::AnsweredElsewhere => {
                    let elsewhere = caller.accept_came.iter();
                    let mut elsewhere = elsewhere.filter(|(of, by)| *of == call && by != id);
                    assert!(elsewhere.next().is_some(), "nobody else answered");
                }
                Ending::DeclinedElsewhere => {
                    assert_eq!(mine, Ending::Declined { by: Side::Remote });
                }
                Ending::Completed { .. } => {
                    assert!(talked(&mine), "{mine:?} against {theirs:?}");
                }
                Ending::Declined { .. }
                | Ending::Busy
                | Ending::NoAnswer
                | Ending::Cancelled { .. }
                | Ending::Unreachable(_)
                | Ending::Lost(_)
                | Ending::Failed(_)
                | Ending::Merged { .. } => {}
            }
        }
    }
}

fn op(devices: usize) -> impl Strategy<Value = TestOp> {
    let who = 0..devices;
    prop_oneof![
        4 => who.clone().prop_map(|who| TestOp::Place { who }),
        4 => who.clone().prop_map(|who| TestOp::Accept { who }),
        1 => who.clone().prop_map(|who| TestOp::Decline { who }),
        2 => who.clone().prop_map(|who| TestOp::HangUp { who }),
        1 => who.clone().prop_map(|who| TestOp::Mute { who }),
        1 => who.clone().prop_map(|who| TestOp::Hold { who }),
        1 => who.clone().prop_map(|who| TestOp::MediaFails { who }),
        1 => (who, any::<u16>()).prop_map(|(who, millis)| TestOp::Break { who, millis }),
    ]
}

fn weather() -> impl Strategy<Value = Weather> {
    (0..=160u8, 0..=128u8, 1..=3000u16, 0..=64u8).prop_map(
        |(loss, duplicate, max_delay_millis, blocked)| Weather {
            loss,
            duplicate,
            max_delay_millis,
            blocked,
        },
    )
}

fn play(devices: usize, weather: Weather, seed: u64, ops: &[(u16, TestOp)]) -> World {
    let mut world = World::new(devices, weather, seed);
    for (at, op) in ops {
        world.at(u64::from(*at), Happening::Op(*op));
    }
    world.run();
    // Nothing is left to happen: what still runs is talking, and would for ever.
    for who in 0..devices {
        if let Some(info) = world.devices[who].calls.current() {
            assert_eq!(info.state, CallState::Talking, "stuck");
            world.at(1, Happening::Op(TestOp::HangUp { who }));
            world.run();
        }
    }
    world.check();
    world
}

proptest! {
    #![proptest_config(ProptestConfig::default())]

    #[test]
    fn two_devices_always_come_to_endings_that_agree(
        weather in weather(),
        seed: u64,
        ops in prop::collection::vec((0..8000u16, op(2)), 1..24),
    ) {
        play(2, weather, seed, &ops);
    }

    #[test]
    fn two_devices_of_one_person_never_both_take_a_call(
        weather in weather(),
        seed: u64,
        ops in prop::collection::vec((0..8000u16, op(3)), 1..24),
    ) {
        play(3, weather, seed, &ops);
    }

    #[test]
    fn crossing_calls_connect_without_ringing(
        seed: u64,
        first in 0..100u16,
        second in 0..100u16,
        ids in any::<(u8, u8)>(),
    ) {
        // Whoever looks the other up takes longer than this apart, so the calls do cross.
        prop_assume!(ids.0 != ids.1);
        let mut world = World::new(2, Weather { max_delay_millis: 400, ..FAIR }, seed);
        world.next_call = vec![ids.0, ids.1];
        world.at(u64::from(first), Happening::Op(TestOp::Place { who: 0 }));
        world.at(u64::from(second), Happening::Op(TestOp::Place { who: 1 }));
        world.at(20_000, Happening::Op(TestOp::HangUp { who: 0 }));
        world.run();
        world.check();
        let crossed = world.devices.iter().all(|device| device.placed.len() == 1);
        if crossed {
            prop_assert_eq!(world.devices[0].rang + world.devices[1].rang, 0);
            let survivor = *world.devices.iter().flat_map(|it| it.placed.keys()).min().unwrap();
            let ended = |who: usize| world.devices[who].ended.get(&survivor).copied();
            prop_assert_eq!(ended(0), Some(Ending::Completed { by: Side::Local }));
            prop_assert_eq!(ended(1), Some(Ending::Completed { by: Side::Remote }));
        }
    }

    #[test]
    fn on_a_fair_network_both_sides_tell_the_same_story(
        seed: u64,
        ops in prop::collection::vec((0..20_000u16, op(2)), 0..10),
    ) {
        let mut script = vec![(0, TestOp::Place { who: 0 })];
        // One call at a time, and no second person at the telephone.
        script.extend(ops.into_iter().filter(|(_, op)| !matches!(
            op,
            TestOp::Place { .. } | TestOp::Break { .. } | TestOp::Hold { .. }
        )).map(|(at, op)| (at.max(1), op)));
        let world = play(2, FAIR, seed, &script);
        let call = *world.devices[0].placed.keys().next().unwrap();
        let caller = world.devices[0].ended[&call];
        let Some(callee) = world.devices[1].ended.get(&call).copied() else {
            let early = matches!(caller, Ending::Cancelled { .. } | Ending::Failed(Failure::Media));
            prop_assert!(early, "{caller:?}");
            return Ok(());
        };
        let agree = match (caller, callee) {
            (Ending::Completed { by: a } | Ending::Cancelled { by: a },
             Ending::Completed { by: b } | Ending::Cancelled { by: b }) => {
                // Both may hang up at once.
                a != b || a == Side::Local
            }
            (Ending::Declined { by: a }, Ending::Declined { by: b }) => {
                (a, b) == (Side::Remote, Side::Local)
            }
            (Ending::Cancelled { .. }, Ending::Declined { .. } | Ending::NoAnswer) => true,
            (Ending::NoAnswer, Ending::NoAnswer) => true,
            (Ending::Failed(Failure::Media), _) | (_, Ending::Failed(Failure::Media)) => true,
            _ => false,
        };
        prop_assert!(agree, "{caller:?} against {callee:?}");
    }
}

#[test]
fn when_two_devices_accept_at_once_one_of_them_is_told_so() {
    let script = [
        (0, TestOp::Place { who: 0 }),
        (2000, TestOp::Accept { who: 1 }),
        (2001, TestOp::Accept { who: 2 }),
        (9000, TestOp::HangUp { who: 1 }),
        (9000, TestOp::HangUp { who: 2 }),
    ];
    for seed in 0..32 {
        println!("seed {seed}");
        let world = play(3, FAIR, seed, &script);
        let endings: Vec<Ending> = world.devices[1..]
            .iter()
            .flat_map(|device| device.ended.values().copied())
            .collect();
        assert!(
            endings.contains(&Ending::Completed { by: Side::Local }),
            "{endings:?}"
        );
        assert!(endings.contains(&Ending::AnsweredElsewhere), "{endings:?}");
    }
}
