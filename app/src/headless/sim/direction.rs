//! Carries out the steps of a plan at their times, and watches how the call stands.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use ahoy_transport::runtime::RuntimeExt;
use tokio::sync::{oneshot, watch};

use super::{
    cast::Cast,
    events::{Datagrams, Happening, Line, Log},
};
use crate::{
    cli::{Party, Step},
    engine::handle::{Phase, View},
    headless::pair::Server,
    sim::{SimRuntime, World},
};

/// How often a line tells how things stand.
const SECOND: Duration = Duration::from_secs(1);

/// Everything that is still to be done, and everybody to whom it is done.
pub(super) struct Direction<'a> {
    world: &'a World,
    runtime: Arc<SimRuntime>,
    cast: Cast,
    steps: VecDeque<Step>,
}

/// What was last told about the caller's media.
#[derive(Default)]
struct Told {
    path: Option<&'static str>,
    reconnecting: bool,
}

impl<'a> Direction<'a> {
    /// `steps` in the order of their times, which count from the first sound.
    pub(super) fn new(
        world: &'a World,
        runtime: Arc<SimRuntime>,
        cast: Cast,
        steps: Vec<Step>,
    ) -> Self {
        Self {
            world,
            runtime,
            cast,
            steps: steps.into(),
        }
    }

    /// Makes the supernode the one that it was, whenever it is restarted.
    pub(super) fn revive(&self, server: Server) {
        let boot = move |runtime: Arc<SimRuntime>| {
            let serve = server.clone().serve(runtime.clone());
            runtime.spawn_task(serve).detach();
        };
        self.world.set_boot(self.cast.node(Party::Relay), boot);
    }

    /// Does what is due when it is due, and tells every second how things stand.
    pub(super) async fn direct<O: FnMut(Line)>(
        mut self,
        mut first_audio: oneshot::Receiver<Instant>,
        mut view: watch::Receiver<View>,
        log: &Log<'_, O>,
    ) -> Infallible {
        use quinn::Runtime as _;
        let runtime = Arc::clone(&self.runtime);
        let mut second = runtime.now() + SECOND;
        let mut start = None;
        let mut told = Told::default();
        let mut watching = true;
        loop {
            let step_at = start
                .zip(self.steps.front())
                .map(|(start, step): (Instant, _)| start + step.at);
            let next = step_at.map_or(second, |at| at.min(second));
            tokio::select! {
                biased;
                Ok(at) = &mut first_audio, if start.is_none() => {
                    start = Some(at);
                    continue;
                }
                changed = view.changed(), if watching => {
                    // The engine is gone once the call is over.
                    watching = changed.is_ok();
                    told.look(&view, log);
                    continue;
                }
                () = runtime.sleep_until(next) => {}
            }
            if step_at.is_some_and(|at| at <= next)
                && let Some(step) = self.steps.pop_front()
            {
                self.cast.carry_out(self.world, &step.action);
                log.write(Happening::Network { what: step.text });
            }
            if second <= next {
                second += SECOND;
                log.write(self.standing(&view));
            }
        }
    }

    fn standing(&self, view: &watch::Receiver<View>) -> Happening {
        let view = view.borrow();
        let call = view.call.as_ref();
        let level = |dbfs: f32| {
            dbfs.is_finite()
                .then(|| (f64::from(dbfs) * 10.0).round() / 10.0)
        };
        Happening::Second {
            path: call.and_then(|call| call.path),
            rtt_ms: call
                .and_then(|call| call.rtt)
                .map(|rtt| (rtt.as_secs_f64() * 10_000.0).round() / 10.0),
            search: call.and_then(|call| call.search),
            level_in_dbfs: call.and_then(|call| level(call.level_in)),
            level_out_dbfs: call.and_then(|call| level(call.level_out)),
            datagrams: Datagrams::of(self.world, self.cast.node(Party::Alice)),
        }
    }
}

impl Told {
    /// Tells what is new.
    fn look<O: FnMut(Line)>(&mut self, view: &watch::Receiver<View>, log: &Log<'_, O>) {
        let view = view.borrow();
        let Some(call) = view.call.as_ref() else {
            return;
        };
        if let Some(to) = call.path.filter(|path| self.path != Some(*path)) {
            let from = self.path.replace(to);
            log.write(Happening::Path { from, to });
        }
        let reconnecting = call.phase == Phase::Reconnecting;
        if reconnecting != self.reconnecting {
            self.reconnecting = reconnecting;
            log.write(if reconnecting {
                Happening::Reconnecting
            } else {
                Happening::Reconnected
            });
        }
    }
}
