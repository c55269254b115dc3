//! What the devices of a call tell: signals, sessions, and steps towards safety words.

use ahoy_transport::{
    identity::DeviceId, runtime::RuntimeExt as _, session::SessionEvent as LinkEvent,
};
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng as _};

use super::Engine;
use crate::{
    call::{CallId, Event as CallEvent, SessionEnd, SessionEvent, Unreachable},
    engine::{
        files::{LineId, ToFiles},
        leg::LegEvent,
        notice::Notice,
    },
    identity::compare::CompareStep,
    signal::{Signal, SignalMessage},
};

impl Engine {
    pub(super) fn handle_signal(&mut self, call: CallId, device: DeviceId, message: SignalMessage) {
        if message.call != call || message.participant != device {
            tracing::debug!("a signal about somebody else is dropped");
            return;
        }
        match message.signal {
            Signal::Candidates(candidates) => self.handle_candidates(call, device, &candidates),
            Signal::Report(report) => {
                if let Some(slot) = self.slots.get_mut(&call) {
                    slot.report.set_remote(*report);
                }
            }
            Signal::MailPass { capability, homes } => {
                let peer = self.leg(call, device).map(|leg| leg.device());
                if let Some(peer) = peer {
                    self.keep_pass(&peer, capability, homes);
                }
            }
            Signal::Compare(step) => self.compare(call, device, step),
            Signal::FileTaken(tag) => {
                let line = LineId { call, device };
                self.files.tell(ToFiles::Taken(line, tag));
            }
            Signal::Handed(homes) => {
                let user = self.leg(call, device).map(|leg| leg.device().user());
                // Strangers could say anything of anybody.
                if user.is_some_and(|user| self.book.is_contact(user)) {
                    self.trust.note_sent(call, homes);
                }
            }
            // Nothing else is said where nobody talks.
            _ if self.file_links.contains_key(&call) => {}
            signal @ (Signal::Ringing
            | Signal::Accept(_)
            | Signal::Decline(_)
            | Signal::Busy
            | Signal::Cancel(_)
            | Signal::HangUp(_)
            | Signal::MediaState { .. }) => {
                if matches!(signal, Signal::HangUp(_)) {
                    self.collect(call);
                }
                if let Signal::Accept(media) = &signal {
                    let ours = self.config.limits.media.compares;
                    if let Some(leg) = self.leg(call, device) {
                        leg.set_compares(ours, media.compares);
                    }
                }
                let now = self.runtime.now();
                self.calls.handle(
                    now,
                    CallEvent::Signal {
                        call,
                        from: device,
                        signal,
                    },
                );
            }
        }
    }

    /// Both sides talk: safety words are made.
    pub(super) fn begin_comparison(&mut self, call: CallId) {
        let media = self.slots.get(&call).and_then(|slot| slot.media.as_ref());
        let Some(device) = media.map(|(device, _media)| *device) else {
            return;
        };
        let mut rng = ChaCha20Rng::from_seed(self.runtime.random_array());
        let step = self
            .leg(call, device)
            .and_then(|leg| leg.begin_comparison(&mut rng));
        if let Some(step) = step {
            self.send_step(call, device, step);
        }
    }

    fn compare(&mut self, call: CallId, device: DeviceId, step: CompareStep) {
        let mut rng = ChaCha20Rng::from_seed(self.runtime.random_array());
        let Some(leg) = self.leg(call, device) else {
            return;
        };
        match leg.handle_comparison(step, &mut rng) {
            Ok(Some(step)) => self.send_step(call, device, step),
            Ok(None) => {}
            Err(broken) => {
                tracing::warn!(%broken, "no safety words in this call");
                self.fail(Notice::NoSafetyWords);
            }
        }
    }

    fn send_step(&mut self, call: CallId, device: DeviceId, step: CompareStep) {
        let participant = self.config.me.keys.id();
        if let Some(leg) = self.leg(call, device) {
            leg.send_signal(SignalMessage {
                call,
                participant,
                signal: Signal::Compare(step),
            });
        }
    }

    pub(super) fn handle_leg(&mut self, call: CallId, device: DeviceId, event: LegEvent) {
        let now = self.runtime.now();
        match event {
            LegEvent::FoundAgain(findings) => {
                let again = findings
                    .targets
                    .into_iter()
                    .find(|target| target.device.device() == device);
                match (again, self.slots.get_mut(&call)) {
                    (Some(target), Some(slot)) => {
                        slot.targets.insert(device, target);
                        self.send_offer(call, device);
                    }
                    (None, Some(_slot)) => self.calls.handle(
                        now,
                        CallEvent::Refused {
                            call,
                            participant: device,
                            why: Unreachable::Offline,
                        },
                    ),
                    (_, None) => {}
                }
            }
            LegEvent::Own(event) => {
                if let Some(leg) = self.leg(call, device) {
                    leg.handle_own(event);
                }
            }
            LegEvent::Session(event) => self.handle_session(call, device, event),
            LegEvent::Control(bytes) => match SignalMessage::read(&bytes) {
                Ok(Some(message)) => self.handle_signal(call, device, message),
                Ok(None) => tracing::debug!("a signal of a later version is passed over"),
                Err(error) => {
                    tracing::info!(%error, "the other side sent a signal that cannot be read");
                    self.calls.handle(
                        now,
                        CallEvent::Session {
                            call,
                            participant: device,
                            event: SessionEvent::Ended(SessionEnd::Protocol),
                        },
                    );
                }
            },
        }
    }

    fn handle_session(&mut self, call: CallId, device: DeviceId, event: LinkEvent) {
        let now = self.runtime.now();
        let Some(slot) = self.slots.get_mut(&call) else {
            return;
        };
        let Some(leg) = slot.legs.get_mut(&device) else {
            return;
        };
        let told = leg.observe(now, &event, &mut slot.report, &mut slot.path);
        if self.file_links.contains_key(&call) {
            return self.link_session(call, device, told);
        }
        if told == Some(SessionEvent::Connected) {
            self.tell_handed(call, device);
            self.stop_working(call, device);
        }
        if let Some(event) = told {
            self.calls.handle(
                now,
                CallEvent::Session {
                    call,
                    participant: device,
                    event,
                },
            );
        }
        self.show();
    }
}
