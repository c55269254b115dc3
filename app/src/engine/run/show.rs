//! What is measured and shown: the view, the events, the report.

use std::sync::Arc;

use super::{Engine, People, TICKS_PER_REPORT};
use crate::{
    call::{CallId, CallState, Direction, EndedCall, Event as CallEvent},
    engine::{
        handle::{
            CallView, Event, HomeView, LastCall, OtherCall, OtherState, Phase, StatsView, View,
        },
        leg::Leg,
        media::{MediaStats, SoundNewsKind},
        notice::{Notice, SoundTold},
        sentence,
        video::{self, Video, view::Counted},
    },
    report::PathKind,
    signal::{Signal, SignalMessage},
};

impl Engine {
    pub(super) fn handle_tick(&mut self) {
        self.look_at_ending_recordings();
        let calls = [self.calls.current(), self.calls.aside()];
        let calls: Vec<CallId> = calls.into_iter().flatten().map(|info| info.call).collect();
        if calls.is_empty() {
            return;
        }
        self.ticks = self.ticks.wrapping_add(1);
        for call in calls {
            self.collect(call);
            self.adapt(call);
            self.look_at_recording(call);
            if self.ticks.is_multiple_of(TICKS_PER_REPORT) {
                self.measure_cost(call);
                self.tell_report(call);
            }
        }
        self.show();
    }

    /// Brings counters into the report, and the first sound into the call.
    pub(super) fn collect(&mut self, call: CallId) {
        let Some(slot) = self.slots.get_mut(&call) else {
            return;
        };
        let Some((device, media)) = &slot.media else {
            return;
        };
        let device = *device;
        let news = media.take_news();
        for news in &news {
            let is_same = |told: &SoundTold| told.microphone == news.microphone;
            match news.kind {
                SoundNewsKind::Lost | SoundNewsKind::Gone => {
                    slot.sound_trouble = Some(news.told.clone());
                }
                SoundNewsKind::Opened | SoundNewsKind::Followed => {
                    slot.sound_trouble.take_if(|trouble| is_same(trouble));
                }
                SoundNewsKind::Displaced => {}
            }
        }
        let pictures = match &slot.video {
            Some(video) => video.take_news(),
            None => Vec::new(),
        };
        let stats = media.stats();
        let is_held = slot.held_there || self.calls.info(call).is_some_and(|info| info.held);
        let mut blank = None;
        for news in &pictures {
            blank = slot.pictures.note(news).or(blank);
        }
        if let Some(leg) = slot.legs.get_mut(&device) {
            let now = self.runtime.now();
            if let Some(capacity_bps) = leg.capacity_bps() {
                media.follow(now, capacity_bps);
            }
            leg.report(&stats, &mut slot.report);
            if let Some(video) = &slot.video {
                video.follow_voice(now, media.on_wire());
                if let Some(rtt) = leg.rtt() {
                    video.set_round_trip(rtt);
                    media.set_way(leg.min_rtt().unwrap_or(rtt) / 2);
                }
                let stats = video.stats(now);
                let frames_sent = stats.sent.map(|sent| sent.frames);
                slot.pictures.look(
                    now,
                    Counted {
                        frames_sent: frames_sent.filter(|_| video.showing().is_some()),
                        last_shown: stats.received.and_then(|received| Some(received.shown?.1)),
                        is_held,
                    },
                );
                let since = slot.talking_since.unwrap_or(now);
                let sent_for = now.saturating_duration_since(since);
                let report = video::report(&stats, sent_for, leg.pictures_lost());
                if stats.sent.is_some() || stats.received.is_some() {
                    slot.report.set_video(device, report);
                }
                if let Some((first, _last)) = stats.received.and_then(|received| received.shown) {
                    slot.report.first_video(first);
                }
            }
        }
        if let Some(at) = stats.first_audio
            && !slot.first_audio_told
        {
            slot.first_audio_told = true;
            let told = CallEvent::FirstAudio {
                call,
                participant: device,
            };
            self.calls.handle(at, told);
            self.publish(Event::FirstAudio { call, at });
        }
        // Whoever sees the last picture of a camera that is gone takes it for what is.
        if let Some(blank) = blank {
            self.tell_blank(call, blank);
        }
        for news in news {
            match news.kind {
                SoundNewsKind::Opened => tracing::info!("{}", news.sentence),
                SoundNewsKind::Lost
                | SoundNewsKind::Gone
                | SoundNewsKind::Displaced
                | SoundNewsKind::Followed => {
                    tracing::warn!("{}", news.sentence);
                    let notice = Notice::Sound(news.told.clone());
                    self.view.send_modify(|view| view.notice = Some(notice));
                }
            }
            self.publish(Event::Sound { call, news });
        }
        for news in pictures {
            // The view tells it as long as it is so, and no longer.
            if news.kind.is_bad() {
                tracing::warn!("{}", news.sentence);
            } else {
                tracing::info!("{}", news.sentence);
            }
            self.publish(Event::Pictures { call, news });
        }
    }

    /// Asking the system costs as much as ten packets: only now and then, and at the end.
    fn measure_cost(&mut self, call: CallId) {
        if let Some(slot) = self.slots.get_mut(&call)
            && let Some(cost) = &slot.cost
        {
            slot.report.set_cost(cost.so_far(&*self.runtime));
        }
    }

    /// What we send follows what becomes of it.
    fn adapt(&self, call: CallId) {
        let Some(slot) = self.slots.get(&call) else {
            return;
        };
        let Some((device, media)) = &slot.media else {
            return;
        };
        if let Some(loss) = slot.legs.get(device).and_then(Leg::loss) {
            media.adapt(self.runtime.now(), loss);
            if let Some(video) = &slot.video {
                video.set_loss(loss);
            }
        }
    }

    /// Tells the other side what we measured of it.
    pub(super) fn tell_report(&mut self, call: CallId) {
        let now = self.runtime.now();
        let participant = self.config.me.keys.id();
        let Some(timeline) = self.calls.timeline(call) else {
            return;
        };
        let Some(slot) = self.slots.get_mut(&call) else {
            return;
        };
        let Some((device, _media)) = &slot.media else {
            return;
        };
        let report = slot.report.for_remote(now, &timeline);
        if let Some(leg) = slot.legs.get_mut(device) {
            leg.send_signal(SignalMessage {
                call,
                participant,
                signal: Signal::Report(Box::new(report)),
            });
        }
    }

    pub(super) fn show(&self) {
        let homes = self
            .homes
            .iter()
            .map(|home| HomeView {
                node: home.node(),
                registered: home.up().is_some(),
            })
            .collect();
        let call = self.calls.current().and_then(|info| {
            let slot = self.slots.get(&info.call)?;
            let stats = slot.media.as_ref().map(|(_device, media)| media.stats());
            let talking = slot.media.as_ref().map(|(device, _media)| device);
            let leg = talking.and_then(|device| slot.legs.get(device));
            Some(CallView {
                id: info.call,
                name: slot.name.clone(),
                user: info.user,
                phase: match info.state {
                    CallState::LookingUp | CallState::Calling => Phase::Calling,
                    CallState::RingingThere => Phase::Ringing,
                    CallState::RingingHere => Phase::Incoming,
                    CallState::Connecting => Phase::Connecting,
                    CallState::Talking => Phase::Talking {
                        since: slot.talking_since.unwrap_or(slot.started),
                    },
                    CallState::Reconnecting { .. } => Phase::Reconnecting,
                },
                muted: info.muted,
                held: info.held,
                held_there: slot.held_there,
                pictures: slot.pictures.view(
                    self.runtime.now(),
                    slot.video.as_ref().and_then(Video::showing),
                ),
                shares_sound: slot
                    .media
                    .as_ref()
                    .is_some_and(|(_device, media)| media.shares_sound()),
                recording: self.recording_view(info.call),
                recorded_there: slot.recorded_there,
                recorded: slot.recorded.clone(),
                outgoing: info.direction == Direction::Outgoing,
                started: info.started,
                path: slot.path.map(PathKind::as_str),
                rtt: leg.and_then(Leg::rtt),
                stats: stats.map(|stats| {
                    let pictures = slot
                        .video
                        .as_ref()
                        .map(|video| video.stats(self.runtime.now()));
                    StatsView {
                        loss_there: leg.and_then(Leg::loss).map(|loss| loss.fraction),
                        capacity_bps: leg.and_then(Leg::capacity_bps),
                        pictures_sent: pictures.and_then(|pictures| Some(pictures.sent?.frames)),
                        ..stats_view(&stats)
                    }
                }),
                sound_trouble: slot.sound_trouble.clone(),
                gives_up_at: match info.state {
                    CallState::Reconnecting { until } => Some(until),
                    CallState::LookingUp
                    | CallState::Calling
                    | CallState::RingingThere
                    | CallState::RingingHere
                    | CallState::Connecting
                    | CallState::Talking => None,
                },
                search: leg.and_then(Leg::search),
                safety_words: slot
                    .legs
                    .values()
                    .find_map(Leg::safety_words)
                    .unwrap_or_default(),
                words_committed: slot.legs.values().any(Leg::words_committed),
                volume_percent: slot.volume_percent,
                level_in: stats.map_or(f32::NEG_INFINITY, |stats| stats.level_in),
                level_out: stats.map_or(f32::NEG_INFINITY, |stats| stats.level_out),
            })
        });
        let other = self.other();
        let lending = self.lending();
        let standings = self.home_standings();
        self.view.send_if_modified(|view| {
            let shown = View {
                link: view.link.clone(),
                homes,
                standings: standings.clone(),
                contacts: self.people.contacts.clone(),
                presences: Arc::clone(&self.presences.shown),
                requests: self.people.requests.clone(),
                blocked: self.people.blocked.clone(),
                conversations: Arc::clone(&self.conversations.listed),
                recents: Arc::clone(&self.people.recents),
                chat: self.conversations.shown.clone(),
                files: Arc::clone(&view.files),
                do_not_disturb: view.do_not_disturb,
                sound: self.config.sound.clone(),
                lending: lending.clone(),
                call: call.or_else(|| view.call.take_if(is_over)),
                other: other.clone(),
                last: view.last.clone(),
                notice: view.notice.clone(),
            };
            let changed = *view != shown;
            *view = shown;
            changed
        });
    }

    /// The call beside the one in hand.
    fn other(&self) -> Option<OtherCall> {
        let info = self.calls.aside()?;
        let slot = self.slots.get(&info.call)?;
        Some(OtherCall {
            id: info.call,
            name: slot.name.clone(),
            user: info.user,
            state: match info.state {
                CallState::RingingHere if slot.ignored => OtherState::Ignored,
                CallState::RingingHere => OtherState::Waits,
                CallState::Reconnecting { .. } => OtherState::Reconnecting,
                CallState::LookingUp
                | CallState::Calling
                | CallState::RingingThere
                | CallState::Connecting
                | CallState::Talking => OtherState::OnHold,
            },
            started: info.started,
        })
    }

    pub(super) fn handle_ended(&mut self, ended: EndedCall) {
        let call = ended.call;
        self.stop_video(call, None);
        self.end_recording_of(call);
        self.collect(call);
        self.measure_cost(call);
        let Some(mut slot) = self.slots.remove(&call) else {
            return;
        };
        // Legs close their sessions in the background when they go.
        slot.media = None;
        slot.video = None;
        let outcome = ended.ending.outcome();
        let name = slot.name.clone();
        let (user, path) = (slot.user, slot.path);
        let report = Box::new(std::mem::take(&mut slot.report).finish(&ended));
        if ended.timeline.first_audio.is_some() {
            let last = Arc::new(LastCall {
                id: call,
                report: report.redacted(),
            });
            self.view.send_modify(|view| view.last = Some(last));
        }
        tracing::debug!(?call, ?outcome, reason = report.reason, "call ended");
        let legs = std::mem::take(&mut slot.legs);
        self.linger(legs);
        let person = slot.person.take();
        self.tags.retain(|_tag, (of, _device)| *of != call);
        // Nobody is there to be called back.
        if !slot.echo {
            self.leave_word(&ended, person.as_ref());
            self.book.record(&ended, self.runtime.unix_millis());
            self.people = People::read(&*self.book);
        }
        let told = sentence::ended(&name, &ended);
        self.show();
        let shown = CallView {
            id: call,
            name,
            user,
            phase: Phase::Ended {
                direction: ended.direction,
                ending: ended.ending,
            },
            muted: false,
            held: false,
            held_there: false,
            pictures: video::view::PicturesView::default(),
            shares_sound: false,
            recording: None,
            recorded_there: false,
            recorded: slot.recorded.take(),
            outgoing: ended.direction == Direction::Outgoing,
            started: ended.timeline.started,
            path: path.map(PathKind::as_str),
            rtt: None,
            stats: None,
            sound_trouble: None,
            gives_up_at: None,
            search: None,
            safety_words: Vec::new(),
            words_committed: false,
            volume_percent: slot.volume_percent,
            level_in: f32::NEG_INFINITY,
            level_out: f32::NEG_INFINITY,
        };
        // A call that was turned away does not cover the one that goes on.
        if self.calls.current().is_none() {
            self.view.send_modify(|view| view.call = Some(shown));
        }
        self.publish(Event::Ended {
            call,
            outcome,
            ending: ended.ending,
            sentence: told,
            report,
        });
    }
}

fn stats_view(stats: &MediaStats) -> StatsView {
    let (sent, received) = (&stats.sent, &stats.received);
    StatsView {
        packets_sent: sent.packets,
        bytes_sent: sent.bytes,
        packets_received: received.packets_received,
        packets_lost: received.packets_lost,
        packets_late: received.packets_late,
        frames_recovered: received.frames_recovered_fec
            + received.frames_recovered_red
            + received.frames_recovered_dred,
        samples_played: received.rendered_samples,
        samples_concealed: received.concealed_samples,
        buffer: received.buffer_delay_p50,
        ..StatsView::default()
    }
}

fn is_over(call: &mut CallView) -> bool {
    matches!(call.phase, Phase::Ended { .. })
}
