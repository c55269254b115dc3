//! What a call wants of the world around it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ahoy_transport::{identity::DeviceId, runtime::RuntimeExt as _};
use tokio::sync::mpsc;

use super::Engine;
use crate::{
    call::{Action, CallId, CallState, Event as CallEvent},
    engine::{
        config::Answering,
        cost::CostMeter,
        files::ToFiles,
        handle::Event,
        leg::Leg,
        video::{PICTURE_QUEUE, Video},
    },
    signal::{MediaChoice, SignalMessage},
};

impl Engine {
    pub(super) fn drain(&mut self) {
        while let Some(action) = self.calls.poll_action() {
            self.carry_out(action);
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::LookUp { call, user } => self.start_look_up(call, user),
            Action::SendOffer { call, to } => self.send_offer(call, to),
            Action::OpenSession { call, participant } => {
                if let Some(leg) = self.leg(call, participant) {
                    leg.open();
                }
            }
            Action::SendSignal { call, to, signal } => {
                let participant = self.config.me.keys.id();
                if let Some(leg) = self.leg(call, to) {
                    leg.send_signal(SignalMessage {
                        call,
                        participant,
                        signal,
                    });
                }
            }
            Action::StartRinging { call, from, alert } => {
                tracing::debug!(?call, from = ?from.user, ?alert, "ringing");
                let from = from.user;
                let waits = self.calls.aside().is_some_and(|info| info.call == call);
                self.publish(if waits {
                    Event::Waiting { call, from }
                } else {
                    Event::Incoming { call, from }
                });
                let answer = match self.config.answering {
                    Answering::Person => false,
                    Answering::Contacts | Answering::Everybody => true,
                };
                if answer {
                    let now = self.runtime.now();
                    if let Err(error) = self.calls.accept(now, call) {
                        tracing::debug!(%error, "nothing to accept");
                    }
                }
            }
            Action::StopRinging { call } => tracing::debug!(?call, "ringing ends"),
            Action::OpenMedia {
                call,
                participant,
                media,
                accepted,
            } => {
                let now = self.runtime.now();
                if let Some(slot) = self.slots.get_mut(&call) {
                    slot.report.accepted(now);
                }
                tracing::debug!(?media, "both sides agreed");
                self.open_media(call, participant, &media, &accepted);
            }
            Action::SetLocalMedia { call, muted, held } => {
                let now = self.runtime.now();
                let slot = self.slots.get(&call);
                if let Some((_device, media)) = slot.and_then(|slot| slot.media.as_ref()) {
                    media.set_silent(muted, held);
                }
                if let Some(video) = slot.and_then(|slot| slot.video.as_ref()) {
                    video.set_paused(now, held);
                }
            }
            Action::RemoteMedia {
                call,
                participant,
                muted,
                held,
                blank,
                recording,
            } => {
                tracing::debug!(muted, held, blank, recording, "what the other side does");
                if let Some(slot) = self.slots.get_mut(&call)
                    && let Some((device, _media)) = &slot.media
                    && *device == participant
                {
                    slot.held_there = held;
                    slot.pictures.set_blank(blank);
                    if let Some(video) = &slot.video {
                        video.set_blank(blank);
                    }
                    self.recorded_there(call, recording);
                }
            }
            Action::CloseSession { call, participant } => {
                self.stop_video(call, Some(participant));
                self.collect(call);
                self.stop_working(call, participant);
                if let Some(slot) = self.slots.get_mut(&call) {
                    if slot
                        .media
                        .as_ref()
                        .is_some_and(|(of, _media)| *of == participant)
                    {
                        slot.media = None;
                        slot.video = None;
                    }
                    if let Some(leg) = slot.legs.get_mut(&participant) {
                        leg.close();
                    }
                }
            }
            Action::Changed { call, state } => {
                if state == CallState::RingingThere {
                    self.publish(Event::Ringing { call });
                }
                if state == CallState::Talking {
                    self.record_by_itself(call);
                    self.tell_pass(call);
                    self.begin_comparison(call);
                }
                self.show();
            }
            Action::Ended(ended) => self.handle_ended(ended),
        }
    }

    fn open_media(
        &mut self,
        call: CallId,
        participant: DeviceId,
        agreed: &MediaChoice,
        accepted: &crate::call::Accepted,
    ) {
        let runtime = Arc::clone(&self.runtime);
        let settings = self.config.audio.clone();
        let probe = self.config.probe.clone();
        let (pictures, shown) = mpsc::channel(PICTURE_QUEUE);
        let measure = self.config.measure_cost;
        let Some(slot) = self.slots.get_mut(&call) else {
            return;
        };
        let Some(leg) = slot.legs.get_mut(&participant) else {
            return;
        };
        if measure && slot.cost.is_none() {
            slot.cost = CostMeter::start(&*runtime);
        }
        let opened = leg
            .open_media(accepted, agreed, &settings, pictures, probe.as_ref())
            .and_then(|media| {
                let Some(line) = leg.picture_line() else {
                    return Ok((media, None));
                };
                let video = Video::start(
                    &runtime,
                    &self.config.video,
                    agreed.video.as_ref(),
                    line,
                    media.clocks(),
                    shown,
                    self.config.video_probe.as_ref(),
                )?;
                Ok((media, video))
            });
        let now = runtime.now();
        match opened {
            Ok((media, video)) => {
                slot.video = video;
                media.set_volume(slot.volume_percent);
                // Whoever muted while it rang is not heard now, and who was put on hold sees nothing.
                if let Some(info) = self.calls.info(call) {
                    media.set_silent(info.muted, info.held);
                    if let Some(video) = &slot.video {
                        video.set_paused(now, info.held);
                    }
                }
                slot.media = Some((participant, media));
                slot.talking_since = Some(now);
                let line = slot.legs.get(&participant).and_then(|leg| leg.line(true));
                if let Some(line) = line.filter(|line| self.shares_files(line.user)) {
                    self.files.tell(ToFiles::Up(line));
                }
                self.tap_opened(call);
                self.publish(Event::Connected { call });
            }
            Err(error) => {
                self.fail(error);
                self.calls.handle(now, CallEvent::MediaFailed { call });
            }
        }
        self.show();
    }

    /// Nothing more is shown, so that what is reported is what was recorded.
    pub(super) fn stop_video(&mut self, call: CallId, of: Option<DeviceId>) {
        let Some(slot) = self.slots.get_mut(&call) else {
            return;
        };
        let is_it = |device: &DeviceId| of.is_none_or(|of| of == *device);
        if slot.media.as_ref().is_some_and(|(device, _)| is_it(device))
            && let Some(video) = &mut slot.video
        {
            video.stop();
        }
    }

    /// Lets what was said last reach the other side before the sessions go.
    pub(super) fn linger(&self, legs: BTreeMap<DeviceId, Leg>) {
        let runtime = Arc::clone(&self.runtime);
        self.runtime
            .spawn_task(async move {
                runtime.sleep(Duration::from_millis(500)).await;
                drop(legs);
            })
            .detach();
    }
}
