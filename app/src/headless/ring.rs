//! What a person hears of a call beside what is said: that one comes in, that another one waits, that the connection is gone.

use ahoy_media::audio::{
    device::{AudioSystem, DeviceEvent, Ringer},
    ring_tone::RingTone,
};
use tokio::sync::watch;

use crate::engine::{
    handle::{OtherState, Phase, View},
    media::device_choice,
};

/// What is to be heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sound {
    /// A call comes in: by the speaker that is chosen for that.
    Ring,
    /// Another call waits: by the speaker of the call, as what follows.
    Waiting,
    /// The connection of the call is gone.
    Reconnecting,
}

/// Makes the sounds that `view` asks for. Ends with the engine.
pub(crate) async fn ring(mut view: watch::Receiver<View>) {
    loop {
        let Ok(Some((sound, speaker))) =
            view.wait_for(|view| sound_of(view).is_some())
                .await
                .map(|view| {
                    let sound = sound_of(&view)?;
                    let speaker = match sound {
                        Sound::Ring => &view.sound.ring_speaker,
                        Sound::Waiting | Sound::Reconnecting => &view.sound.speaker,
                    };
                    Some((sound, speaker.clone()))
                })
        else {
            return;
        };
        let (tone, tell): (_, fn(DeviceEvent)) = match sound {
            Sound::Ring => (RingTone::ring(), tell),
            Sound::Waiting => (RingTone::waiting(), tell_nothing),
            Sound::Reconnecting => (RingTone::reconnecting(), tell_nothing),
        };
        // Dropped as soon as there is nothing more to tell.
        let _ringer = Ringer::start(
            AudioSystem::Best,
            device_choice(speaker.as_ref()),
            tone,
            tell,
        )
        .inspect_err(|error| tracing::warn!("a call comes in without a sound: {error}"));
        let over = view.wait_for(|view| sound_of(view) != Some(sound)).await;
        if over.is_err() {
            return;
        }
    }
}

/// What is to be heard now.
fn sound_of(view: &View) -> Option<Sound> {
    let call = view.call.as_ref()?;
    if call.phase == Phase::Incoming {
        return view.is_heard(call.user).then_some(Sound::Ring);
    }
    if call.phase == Phase::Reconnecting && view.sound.reconnect_tone {
        return Some(Sound::Reconnecting);
    }
    let other = view.other.as_ref()?;
    let waits = other.state == OtherState::Waits && view.is_heard(other.user);
    waits.then_some(Sound::Waiting)
}

fn tell(event: DeviceEvent) {
    match event {
        DeviceEvent::Opened(device) => tracing::info!("rings by {}", device.name),
        DeviceEvent::Lost { error, .. } => {
            tracing::warn!("a call comes in without a sound: {error}");
        }
        DeviceEvent::Gone { .. } => tracing::warn!(
            "a call comes in without a sound: the speaker chosen for it is not there"
        ),
        DeviceEvent::Displaced { .. } | DeviceEvent::DefaultChanged { .. } => {}
    }
}

/// The call itself tells what is wrong with its speaker.
fn tell_nothing(event: DeviceEvent) {
    tracing::debug!(?event, "the speaker of a soft sound");
}
