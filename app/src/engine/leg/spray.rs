//! Guessing ports for a direct way where ICE finds none ([`ahoy_nat::ice::spray`]): when, by whom, and what follows.
//!
//! Each side tells how its NAT maps. Where one mapping depends on the remote endpoint and the other's does not, and
//! [`GRACE`] after the call was taken there is no direct path, the side with the harder NAT begins a run and says so; the
//! other joins. When a port is met, ICE does the rest: the easy side tries the new address, and the hard side reaches
//! the old one by another socket. The call stays on the relay until the connection there is up.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use ahoy_nat::{
    behaviour::{Dependence, Known},
    candidate::{Candidate, CandidateKind},
    gather::Mapping,
    ice::spray::{EasySpray, HardSpray, SprayCost, SprayEvent, SprayKeys},
};
use ahoy_transport::{
    mux::SidePort,
    runtime::{RuntimeExt, Task},
};
use tokio::sync::mpsc;

use super::{Leg, OwnEvent};
use crate::engine::reach::{NatMapping, Reach, SprayCall};

/// What ICE has for itself: where a pair works, it is found within two round trips.
const GRACE: Duration = Duration::from_secs(1);
/// From a port that was met to a connection there.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Between two runs in any case.
const GAP: Duration = Duration::from_secs(5);
/// From the end of a run that came to nothing to the next one in the same networks; doubling up to the second.
const RETRY_AFTER: Duration = Duration::from_secs(60);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(900);

/// Sees to it that the device has one run at a time, and that runs in vain become rare.
#[derive(Debug, Clone, Default)]
pub(in crate::engine) struct SprayGate(Arc<Mutex<GateState>>);

#[derive(Debug, Default)]
struct GateState {
    busy: bool,
    not_before: Option<Instant>,
    wait: Option<Duration>,
}

impl SprayGate {
    fn lock(&self) -> MutexGuard<'_, GateState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the next run may begin, as far as is known now.
    fn opens_at(&self, now: Instant) -> Instant {
        let state = self.lock();
        let opens = state.not_before.unwrap_or(now).max(now);
        if state.busy {
            opens.max(now + GAP)
        } else {
            opens
        }
    }

    fn enter(&self, now: Instant) -> Option<Turn> {
        let mut state = self.lock();
        if state.busy || state.not_before.is_some_and(|at| now < at) {
            return None;
        }
        state.busy = true;
        state.not_before = Some(now + GAP);
        drop(state);
        Some(Turn(self.clone()))
    }

    /// A run that ended then came to nothing.
    fn failed(&self, end: Instant) {
        let mut state = self.lock();
        let wait = state.wait.unwrap_or(RETRY_AFTER);
        state.not_before = Some(end + wait);
        state.wait = Some((wait * 2).min(RETRY_AFTER_MAX));
    }

    fn succeeded(&self) {
        self.lock().wait = None;
    }

    /// The networks are others.
    fn reset(&self) {
        let mut state = self.lock();
        state.wait = None;
        state.not_before = None;
    }
}

/// The right to a run.
struct Turn(SprayGate);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.lock().busy = false;
    }
}

/// What concerns guessing.
#[derive(Debug)]
pub(in crate::engine) enum SprayNews {
    /// Our NAT was measured, or it is time for something.
    Due,
    /// Of this run.
    Run(u32, SprayEvent),
}

enum Spray {
    Hard(HardSpray),
    Easy(EasySpray),
}

struct Run {
    number: u32,
    spray: Spray,
    /// When a port was met.
    met: Option<Instant>,
    _watch: Task,
    _turn: Turn,
}

impl Run {
    fn cost(&self) -> SprayCost {
        match &self.spray {
            Spray::Hard(hard) => hard.cost(),
            Spray::Easy(easy) => easy.cost(),
        }
    }
}

/// Where guessing stands.
#[derive(Default)]
pub(super) struct Spraying {
    /// What the other side said of its NAT, and what we said of ours.
    theirs: Option<NatMapping>,
    told: Option<NatMapping>,
    run: Option<Run>,
    /// The number of the newest run of either side.
    newest: u32,
    /// Runs of ours.
    begun: u64,
    /// Since when there should be a direct path.
    missing_since: Option<Instant>,
    timer: Option<Task>,
    hole: Option<SidePort>,
    spent: SprayCost,
}

impl Spraying {
    /// The socket that the direct path needs, for whoever outlives the leg.
    pub(super) fn take_hole(&mut self) -> Option<SidePort> {
        self.hole.take()
    }

    /// How many runs there were.
    pub(super) fn runs(&self) -> u64 {
        self.begun
    }

    /// What all runs cost so far.
    pub(super) fn cost(&self) -> SprayCost {
        let now = self.run.as_ref().map(Run::cost).unwrap_or_default();
        SprayCost {
            packets: self.spent.packets + now.packets,
            flows: self.spent.flows + now.flows,
        }
    }

    fn end_run(&mut self) {
        let Some(run) = self.run.take() else { return };
        let cost = run.cost();
        self.spent.packets += cost.packets;
        self.spent.flows += cost.flows;
        let number = run.number;
        drop(run);
        let all = self.cost();
        tracing::debug!(number, ?cost, ?all, "guessed ports");
    }
}

impl Leg {
    /// How our NAT maps, as far as that is known. One supernode alone cannot tell all (see [`ahoy_nat::behaviour`]): what
    /// does not depend on its ports is taken for independent, and what was measured in vain for dependent, since this is
    /// asked only where ICE found nothing.
    fn own_mapping(&self) -> Option<NatMapping> {
        if !self.context.guess_ports {
            return None;
        }
        let measured = self.context.nat.borrow().v4.as_ref().map(|v4| v4.mapping);
        let seen = match self.context.gatherer.now().mapping_of(true) {
            Mapping::Unknown => None,
            Mapping::Independent => Some(NatMapping::Independent),
            Mapping::Dependent => Some(NatMapping::Dependent),
        };
        match measured {
            None => seen,
            Some(Known::NOTHING) => seen.or(Some(NatMapping::Dependent)),
            Some(Known { least, .. }) => Some(match least {
                Dependence::EndpointIndependent => NatMapping::Independent,
                Dependence::AddressDependent | Dependence::AddressAndPortDependent => {
                    NatMapping::Dependent
                }
            }),
        }
    }

    /// The same, for the other side, which is about to be told.
    pub(super) fn show_mapping(&mut self) -> Option<NatMapping> {
        if !self.may_show_addresses() {
            return None;
        }
        self.spray.told = self.own_mapping();
        self.spray.told
    }

    /// Hears when our NAT was measured.
    pub(super) fn watch_nat(&mut self) {
        if !self.context.guess_ports || !self.context.path.allows_direct() {
            return;
        }
        let (mut reports, report) = (self.context.nat.clone(), self.reporter());
        self.tasks.push(self.context.runtime.spawn_task(async move {
            while reports.changed().await.is_ok() {
                report(OwnEvent::Spray(SprayNews::Due)).await;
            }
        }));
    }

    /// The other side said something of its NAT, or of a run.
    pub(super) fn handle_spray_reach(
        &mut self,
        mapping: Option<NatMapping>,
        call: Option<SprayCall>,
    ) {
        if mapping.is_some() {
            self.spray.theirs = mapping;
        }
        if let Some(call) = call {
            self.join(call);
        }
        self.pump_spray();
    }

    pub(super) fn handle_spray(&mut self, news: SprayNews) {
        match news {
            SprayNews::Due => {}
            SprayNews::Run(number, event) => {
                if self.spray.run.as_ref().map(|run| run.number) == Some(number) {
                    self.handle_run(event);
                }
            }
        }
        self.pump_spray();
    }

    fn handle_run(&mut self, event: SprayEvent) {
        let now = self.context.runtime.now();
        match event {
            SprayEvent::Guess(guess) => {
                let run = self.spray.newest;
                self.tell_spray(Some(SprayCall {
                    run,
                    guess: Some(guess),
                }));
            }
            SprayEvent::Open { remote, socket } => {
                tracing::info!("a port was met");
                if let Some(run) = &mut self.spray.run {
                    run.met = Some(now);
                }
                match socket {
                    Some(socket) => {
                        let mux = self.context.endpoint.mux();
                        self.spray.hole = mux
                            .add_side_port(remote, socket)
                            .inspect_err(|error| tracing::warn!(%error, "a hole is not used"))
                            .ok();
                    }
                    None => self.learn(Candidate::new(
                        CandidateKind::ServerReflexive,
                        remote,
                        u16::MAX,
                    )),
                }
            }
            SprayEvent::Spent => self.run_failed(),
        }
    }

    fn run_failed(&mut self) {
        let now = self.context.runtime.now();
        let end = match self.spray.run.as_ref().map(|run| &run.spray) {
            // Whoever joins must not be the later one.
            Some(Spray::Easy(_)) => now.checked_sub(GAP).unwrap_or(now),
            Some(Spray::Hard(_)) | None => now,
        };
        self.spray.end_run();
        self.context.gate.failed(end);
    }

    /// The networks are others, here: what was guessed leads nowhere, and may be guessed anew.
    pub(super) fn spray_anew(&mut self) {
        self.spray.end_run();
        self.spray.hole = None;
        self.spray.missing_since = None;
        self.context.gate.reset();
    }

    /// Whether a run may go on at all.
    fn may_spray(&self) -> bool {
        self.context.guess_ports
            && self.context.path.allows_direct()
            && self.accepted
            && self.session_up
            && self.direct.is_told()
    }

    /// Begins or ends what is due, else sees to it that this is asked in time.
    pub(super) fn pump_spray(&mut self) {
        self.spray.timer = None;
        if self.direct.is_told()
            && self
                .own_mapping()
                .is_some_and(|own| Some(own) != self.spray.told)
        {
            self.tell_spray(None);
        }
        let now = self.context.runtime.now();
        if self.direct.is_up() {
            if self.spray.run.is_some() {
                self.context.gate.succeeded();
            }
            self.spray.end_run();
            self.spray.missing_since = None;
            return;
        }
        if let Some(run) = &self.spray.run {
            match run.met.map(|met| met + CONNECT_WITHIN) {
                Some(until) if until <= now => {
                    tracing::debug!("a port was met, and no connection came of it");
                    self.run_failed();
                }
                Some(until) => return self.spray_at(until),
                None => return,
            }
        }
        if !self.may_spray() || !self.direct.is_searching() {
            return;
        }
        let since = *self.spray.missing_since.get_or_insert(now);
        // The hard side begins: what it opens first is what costs it.
        let begins = self.own_mapping() == Some(NatMapping::Dependent)
            && self.spray.theirs == Some(NatMapping::Independent);
        let Some(target) = self.outside_of_theirs().filter(|_| begins) else {
            return;
        };
        let at = (since + GRACE).max(self.context.gate.opens_at(now));
        if at > now {
            return self.spray_at(at);
        }
        let Some(turn) = self.context.gate.enter(now) else {
            return self.spray_at(now + GAP);
        };
        self.begin_run(target, turn);
    }

    fn spray_at(&mut self, at: Instant) {
        let (report, runtime) = (self.reporter(), Arc::clone(&self.context.runtime));
        self.spray.timer = Some(self.context.runtime.spawn_task(async move {
            runtime.sleep_until(at).await;
            report(OwnEvent::Spray(SprayNews::Due)).await;
        }));
    }

    /// Where the other side's supernodes see it, of IPv4: IPv6 has no NATs that map.
    fn outside_of_theirs(&self) -> Option<SocketAddr> {
        let usable = |candidate: &&Candidate| candidate.addr.is_ipv4() && candidate.is_usable();
        let of = |kind| {
            let mut theirs = self.direct.theirs().iter().filter(usable);
            theirs.find(|candidate| candidate.kind == kind)
        };
        let is_public = |candidate: &&Candidate| match candidate.addr.ip() {
            IpAddr::V4(v4) => !v4.is_private() && !v4.is_loopback(),
            IpAddr::V6(_) => false,
        };
        of(CandidateKind::ServerReflexive)
            // Without a NAT it is seen at its own address.
            .or_else(|| of(CandidateKind::Host).filter(is_public))
            .map(|candidate| candidate.addr)
    }

    fn begin_run(&mut self, target: SocketAddr, turn: Turn) {
        let number = self.spray.newest.saturating_add(1);
        let gathered = self.context.gatherer.now();
        let server = gathered.observed.keys().find(|server| server.is_ipv4());
        let local = match self.context.endpoint.local_addr().ip() {
            IpAddr::V4(v4) => v4,
            IpAddr::V6(_any) => Ipv4Addr::UNSPECIFIED,
        };
        tracing::info!(number, "opening holes");
        let (spray, happened) = HardSpray::start(
            &self.context.runtime,
            SprayKeys::derive(self.secret.as_bytes(), number),
            local.into(),
            target,
            server.copied(),
        );
        self.run_goes_on(number, Spray::Hard(spray), happened, turn);
        self.tell_spray(Some(SprayCall {
            run: number,
            guess: None,
        }));
    }

    /// The other side opens holes.
    fn join(&mut self, call: SprayCall) {
        if let (Some(run), Some(guess)) = (&self.spray.run, call.guess)
            && run.number == call.run
            && let Spray::Easy(easy) = &run.spray
        {
            return easy.guess(guess);
        }
        if call.run <= self.spray.newest {
            return;
        }
        self.spray.newest = call.run;
        let now = self.context.runtime.now();
        let fits = self.may_spray()
            && !self.direct.is_up()
            && self.spray.run.is_none()
            && self.own_mapping() == Some(NatMapping::Independent);
        let theirs = self.outside_of_theirs();
        let Some((ip, turn)) = theirs
            .filter(|_| fits)
            .and_then(|outside| Some((outside.ip(), self.context.gate.enter(now)?)))
        else {
            tracing::debug!("the other side opens holes in vain");
            return;
        };
        tracing::info!(number = call.run, "looking for holes");
        let keys = SprayKeys::derive(self.secret.as_bytes(), call.run);
        match EasySpray::start(&self.context.runtime, &self.context.hub, keys, ip) {
            Ok((spray, happened)) => {
                if let Some(guess) = call.guess {
                    spray.guess(guess);
                }
                self.run_goes_on(call.run, Spray::Easy(spray), happened, turn);
            }
            Err(error) => tracing::warn!(%error, "no ports are tried"),
        }
    }

    fn run_goes_on(
        &mut self,
        number: u32,
        spray: Spray,
        mut happened: mpsc::Receiver<SprayEvent>,
        turn: Turn,
    ) {
        let report = self.reporter();
        let watch = self.context.runtime.spawn_task(async move {
            while let Some(event) = happened.recv().await {
                report(OwnEvent::Spray(SprayNews::Run(number, event))).await;
            }
        });
        self.spray.newest = number;
        self.spray.begun += 1;
        self.spray.run = Some(Run {
            number,
            spray,
            met: None,
            _watch: watch,
            _turn: turn,
        });
    }

    fn tell_spray(&mut self, call: Option<SprayCall>) {
        let mapping = self.show_mapping();
        self.send_reach(&Reach {
            generation: self.direct.generation(),
            mapping,
            spray: call,
            ..Reach::default()
        });
    }
}
