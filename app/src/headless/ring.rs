//! What a call that waits to be answered sounds like.

use ahoy_media::audio::device::{AudioSystem, DeviceEvent, Ringer};
use tokio::sync::watch;

use crate::engine::{
    handle::{CallView, Phase, View},
    media::device_choice,
};

/// Rings by the speaker chosen for it while `view` shows a call that waits. Ends with the engine.
pub(crate) async fn ring(mut view: watch::Receiver<View>) {
    loop {
        let Ok(speaker) = view
            .wait_for(rings)
            .await
            .map(|view| view.sound.ring_speaker.clone())
        else {
            return;
        };
        // Dropped as soon as it is answered, or nobody waits any more.
        let _ringer = Ringer::start(AudioSystem::Best, device_choice(speaker.as_ref()), tell)
            .inspect_err(|error| tracing::warn!("a call comes in without a sound: {error}"));
        if view.wait_for(|view| !rings(view)).await.is_err() {
            return;
        }
    }
}

fn rings(view: &View) -> bool {
    let waits = |call: &CallView| call.phase == Phase::Incoming;
    view.call.as_ref().is_some_and(waits) && !view.do_not_disturb
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
