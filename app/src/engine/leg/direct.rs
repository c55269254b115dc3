//! The direct ways of a leg: candidates, ICE agents generation by generation, and the session's paths that come of
//! them.
//!
//! A *generation* is one try to find a pair of addresses. Both sides count; who has something new begins the next
//! one and says so with its candidates, and the other side joins. Two who begin at once begin the same one; the
//! higher number wins in any case. The pair in use stays in use meanwhile, and its agent answers the other side's
//! checks, until the connection on a pair of the new generation is up.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use ahoy_nat::{
    candidate::{Candidate, CandidateKind, MAX_CANDIDATES},
    ice::{
        IceCredentials, IceEvent, IceRole,
        restart::{Reason, Restarts},
        rtc::RtcIceAgent,
        runner::{IceCost, IceRunner},
    },
};
use ahoy_transport::{
    connection::{CloseCode, ConnectionLost},
    runtime::{RuntimeExt, Task},
    sealed::Role,
    session::{PathId, PathKind as LinkKind},
};

use super::{Leg, OwnEvent};
use crate::{engine::reach::Reach, report::Search};

/// Candidates of the other side that are kept over generations: what it named last, and what it named before.
const MAX_THEIRS: usize = 2 * MAX_CANDIDATES;

/// The ICE agent of one generation.
struct Agent {
    generation: u32,
    runner: Arc<IceRunner>,
    _watch: Task,
}

/// A path of the session on a pair of addresses that ICE found.
struct DirectPath {
    remote: SocketAddr,
    path: PathId,
    /// The generation that found it last.
    generation: u32,
    /// The generation of the living connection.
    up: Option<u32>,
}

/// Where the direct ways stand.
#[derive(Default)]
pub(super) struct Direct {
    generation: u32,
    agent: Option<Agent>,
    /// The one whose pair was in use when the newest began.
    old: Option<Agent>,
    /// What we told the other side; empty until our addresses are its business.
    told: Vec<Candidate>,
    /// What the other side told, the newest first, and in which generation.
    theirs: Vec<Candidate>,
    theirs_in: u32,
    paths: Vec<DirectPath>,
    /// The pair that the newest agent selected.
    chosen: Option<SocketAddr>,
    restarts: Restarts,
    /// The other side's next generation waits for its turn.
    join: Option<(u32, Instant)>,
    timer: Option<Task>,
    /// Restarts so far, begun here or there.
    restarted: u64,
    /// What agents that are gone have cost.
    spent: IceCost,
}

impl Direct {
    pub(super) fn generation(&self) -> u32 {
        self.generation
    }

    /// What the other side was told of our addresses.
    pub(super) fn told(&self) -> Vec<Candidate> {
        self.told.clone()
    }

    /// Ends an agent, but not what it cost.
    fn retire(&mut self, agent: Option<Agent>) {
        if let Some(agent) = agent {
            let cost = agent.runner.cost();
            self.spent.packets += cost.packets;
            self.spent.flows += cost.flows;
        }
    }

    /// What the direct ways have cost so far.
    pub(super) fn search(&self) -> Search {
        let mut search = Search {
            restarts: self.restarted,
            guesses: 0,
            packets: self.spent.packets,
            flows: self.spent.flows,
        };
        for agent in [&self.agent, &self.old].into_iter().flatten() {
            let cost = agent.runner.cost();
            search.packets += cost.packets;
            search.flows += cost.flows;
        }
        search
    }

    pub(super) fn is_up(&self) -> bool {
        self.paths.iter().any(|path| path.up.is_some())
    }

    /// Whether the other side knows addresses of ours.
    pub(super) fn is_told(&self) -> bool {
        !self.told.is_empty()
    }

    /// Whether ICE has begun.
    pub(super) fn is_searching(&self) -> bool {
        self.agent.is_some()
    }

    /// What the other side told, the newest first.
    pub(super) fn theirs(&self) -> &[Candidate] {
        &self.theirs
    }
}

impl Leg {
    fn local_candidates(&self) -> Vec<Candidate> {
        if !self.may_show_addresses() {
            return Vec::new();
        }
        self.context.gatherer.now().candidates()
    }

    /// Our candidates, which the other side is about to be told.
    pub(super) fn show(&mut self) -> Vec<Candidate> {
        let candidates = self.local_candidates();
        self.direct.told.clone_from(&candidates);
        candidates
    }

    /// Tells the other side our addresses if they are its business.
    pub(super) fn show_addresses(&mut self) {
        if self.direct.told.is_empty() {
            // Whoever came first is joined.
            self.direct.generation = self.direct.generation.max(self.direct.theirs_in);
            let ice = self.show();
            if ice.is_empty() {
                return;
            }
            self.tell(ice);
        }
        self.try_ice();
    }

    fn tell(&mut self, ice: Vec<Candidate>) {
        let mapping = self.show_mapping();
        self.send_reach(&Reach {
            generation: self.direct.generation,
            ice,
            mapping,
            ..Reach::default()
        });
    }

    /// Hears of changes of our addresses from now on.
    pub(super) fn watch_addresses(&mut self) {
        if !self.context.path.allows_direct() {
            return;
        }
        let gatherer = &self.context.gatherer;
        let mut changes = gatherer.watch();
        changes.mark_unchanged();
        self.lease = Some(gatherer.lease());
        let report = self.reporter();
        self.tasks.push(self.context.runtime.spawn_task(async move {
            while changes.changed().await.is_ok() {
                changes.mark_unchanged();
                report(OwnEvent::Gathered).await;
            }
        }));
    }

    /// Our addresses changed, or we know one more.
    pub(super) fn handle_gathered(&mut self) {
        if self.direct.told.is_empty() {
            return;
        }
        let before = self.direct.told.clone();
        let candidates = self.show();
        if candidates == before {
            return;
        }
        let hosts = |list: &[Candidate]| -> Vec<SocketAddr> {
            let hosts = list
                .iter()
                .filter(|candidate| candidate.kind == CandidateKind::Host);
            hosts.map(|candidate| candidate.addr).collect()
        };
        let moved = hosts(&candidates) != hosts(&before);
        let is_news = candidates
            .iter()
            .any(|candidate| !before.contains(candidate));
        if moved && !candidates.is_empty() {
            tracing::debug!("our interfaces changed");
            self.start_over();
        } else if is_news {
            // A mapping that moved without a direct path: the old one leads nowhere.
            if self.direct.is_up() || self.direct.agent.is_none() || before.len() < candidates.len()
            {
                self.tell(candidates);
            } else {
                self.restart_changed();
            }
        }
    }

    /// The other side named addresses of its own.
    pub(super) fn handle_remote(&mut self, generation: u32, candidates: Vec<Candidate>) {
        let direct = &mut self.direct;
        if generation < direct.theirs_in {
            return;
        }
        direct.theirs_in = generation;
        let mut theirs = candidates;
        let before = std::mem::take(&mut direct.theirs);
        for old in before {
            if !theirs.iter().any(|new| new.addr == old.addr) {
                theirs.push(old);
            }
        }
        theirs.truncate(MAX_THEIRS);
        direct.theirs = theirs;
        if direct.told.is_empty() {
            return;
        }
        if generation < direct.generation {
            // It has not heard of our restart.
            let ice = self.show();
            self.tell(ice);
        } else if generation > direct.generation {
            let at = direct.restarts.joins_at(self.context.runtime.now());
            direct.join = Some((generation, at));
            self.pump_restart();
        } else {
            self.try_ice();
        }
    }

    /// An address of the other side that it cannot know itself, for this generation and those to come.
    pub(super) fn learn(&mut self, candidate: Candidate) {
        let theirs = &mut self.direct.theirs;
        theirs.retain(|known| known.addr != candidate.addr);
        theirs.insert(0, candidate);
        theirs.truncate(MAX_THEIRS);
        self.try_ice();
    }

    /// The direct way is silent or gone.
    pub(super) fn restart_lost(&mut self) {
        self.want_restart(Reason::Lost);
    }

    /// The network is another one: a restart does not wait for its turn.
    pub(super) fn restart_changed(&mut self) {
        self.want_restart(Reason::Changed);
    }

    fn want_restart(&mut self, reason: Reason) {
        // What never began is not begun again.
        if self.direct.agent.is_some() && self.context.upkeep.restart_ice {
            let now = self.context.runtime.now();
            self.direct.restarts.want(now, reason);
            self.pump_restart();
        }
    }

    /// Begins the next generation if one is due, else sees to it that this is asked in time.
    pub(super) fn pump_restart(&mut self) {
        let now = self.context.runtime.now();
        let direct = &mut self.direct;
        direct.timer = None;
        if let Some((generation, at)) = direct.join
            && at <= now
        {
            direct.join = None;
            if generation > direct.generation {
                direct.restarts.began(now);
                return self.begin(generation);
            }
        }
        if direct.restarts.take(now) {
            let next = direct.generation.saturating_add(1);
            return self.begin(next);
        }
        let join = direct.join.map(|(_, at)| at);
        let Some(at) = [join, direct.restarts.deadline()]
            .into_iter()
            .flatten()
            .min()
        else {
            return;
        };
        let (report, runtime) = (self.reporter(), Arc::clone(&self.context.runtime));
        self.direct.timer = Some(self.context.runtime.spawn_task(async move {
            runtime.sleep_until(at).await;
            report(OwnEvent::RestartDue).await;
        }));
    }

    /// A new generation.
    fn begin(&mut self, generation: u32) {
        tracing::debug!(generation, "ICE restarts");
        let direct = &mut self.direct;
        direct.restarted += 1;
        direct.generation = generation;
        // The agent of the pair in use goes on answering.
        let chosen = direct.chosen.take().is_some();
        let agent = direct.agent.take();
        let gone = if chosen {
            std::mem::replace(&mut direct.old, agent)
        } else {
            agent
        };
        direct.retire(gone);
        let ice = self.show();
        self.tell(ice);
        self.try_ice();
    }

    /// ICE starts when both sides have shown their addresses.
    fn try_ice(&mut self) {
        let direct = &self.direct;
        if direct.theirs.is_empty() || direct.told.is_empty() || self.session.is_none() {
            return;
        }
        if let Some(agent) = &direct.agent {
            for candidate in self.hosts() {
                agent.runner.add_local(candidate);
            }
            for candidate in &direct.theirs {
                agent.runner.add_remote(*candidate);
            }
            return;
        }
        let generation = direct.generation;
        let Some(runner) = self.start_agent(generation) else {
            return;
        };
        for candidate in self.hosts() {
            runner.add_local(candidate);
        }
        for candidate in &self.direct.theirs {
            runner.add_remote(*candidate);
        }
        let (watched, report) = (Arc::clone(&runner), self.reporter());
        let watch = self.context.runtime.spawn_task(async move {
            loop {
                let event = watched.event().await;
                report(OwnEvent::Ice(generation, event)).await;
            }
        });
        if generation == 0 {
            let now = self.context.runtime.now();
            self.direct.restarts.began(now);
        }
        self.direct.agent = Some(Agent {
            generation,
            runner,
            _watch: watch,
        });
        self.pump_spray();
    }

    /// Packets leave from interfaces; other addresses of ours are only for the other side.
    fn hosts(&self) -> impl Iterator<Item = Candidate> {
        let told = self.direct.told.iter().copied();
        told.filter(|candidate| candidate.kind == CandidateKind::Host)
    }

    fn start_agent(&self, generation: u32) -> Option<Arc<IceRunner>> {
        let context = &self.context;
        let (role, other) = match self.role {
            Role::Caller => (IceRole::Controlling, IceRole::Controlled),
            Role::Callee => (IceRole::Controlled, IceRole::Controlling),
        };
        let secret = self.secret.as_bytes();
        let ours = IceCredentials::derive(secret, role, generation);
        let theirs = IceCredentials::derive(secret, other, generation);
        let runtime = &context.runtime;
        let port = context.endpoint.local_addr().port();
        let seed = runtime.random_array();
        let agent = match RtcIceAgent::new(runtime.now(), role, port, &ours, &theirs, seed) {
            Ok(agent) => Box::new(agent.paced(context.upkeep.pace_checks)),
            Err(error) => {
                tracing::error!(%error, "no ICE agent");
                return None;
            }
        };
        IceRunner::start(Arc::clone(runtime), &context.hub, &ours.ufrag, agent)
            .inspect_err(|error| tracing::warn!(%error, "ICE does not start"))
            .ok()
            .map(Arc::new)
    }

    pub(super) fn handle_ice(&mut self, generation: u32, event: IceEvent) {
        tracing::debug!(generation, ?event, "ICE");
        if let IceEvent::ConsentExpired { remote } = event {
            self.drop_direct(|path| path.remote == remote && path.up.is_none());
        }
        if self.direct.agent.as_ref().map(|agent| agent.generation) != Some(generation) {
            return;
        }
        match event {
            IceEvent::Valid { remote, .. } => self.use_pair(remote),
            IceEvent::Selected { remote, .. } => {
                self.direct.chosen = Some(remote);
                self.use_pair(remote);
                self.tidy();
            }
            IceEvent::Disconnected | IceEvent::ConsentExpired { .. } => self.restart_lost(),
            IceEvent::Failed if !self.direct.is_up() => self.restart_lost(),
            IceEvent::Failed | IceEvent::Recovered => {}
        }
        self.pump_spray();
    }

    /// A connection is made on a pair that works.
    fn use_pair(&mut self, remote: SocketAddr) {
        let generation = self.direct.generation;
        let known = self
            .direct
            .paths
            .iter_mut()
            .find(|path| path.remote == remote);
        if let (Some(known), Some(session)) = (known, &self.session) {
            if known.generation != generation {
                known.generation = generation;
                // The other end of it may be the same; ours need not be.
                session.renew_path(known.path);
            }
            return;
        }
        let kind = if self.context.runtime.is_neighbour(remote.ip()) {
            LinkKind::Lan
        } else {
            LinkKind::Direct
        };
        if let Some(path) = self.add_path(kind, remote) {
            self.direct.paths.push(DirectPath {
                remote,
                path,
                generation,
                up: None,
            });
        }
    }

    /// A connection is up.
    pub(super) fn direct_up(&mut self, up: PathId) {
        let now = self.context.runtime.now();
        let Some(path) = self.direct.paths.iter_mut().find(|path| path.path == up) else {
            return;
        };
        path.up = Some(path.generation);
        self.direct.restarts.succeeded(now);
        self.tidy();
        self.pump_spray();
    }

    /// A connection is gone.
    pub(super) fn direct_down(&mut self, down: PathId, reason: ConnectionLost) {
        let Some(path) = self.direct.paths.iter_mut().find(|path| path.path == down) else {
            return;
        };
        match reason {
            // Another one took its place, or the call ends.
            ConnectionLost::ClosedHere | ConnectionLost::ClosedByPeer(CloseCode::Replaced) => {}
            ConnectionLost::ClosedByPeer(_)
            | ConnectionLost::TimedOut
            | ConnectionLost::Reset
            | ConnectionLost::Transport(_) => {
                path.up = None;
                if !self.direct.is_up() {
                    self.restart_lost();
                }
            }
        }
    }

    /// Once the connection on the pair of the newest generation is up, the others are not needed.
    fn tidy(&mut self) {
        let direct = &self.direct;
        let Some(chosen) = direct.chosen else { return };
        let generation = Some(direct.generation);
        let is_up = |path: &DirectPath| path.remote == chosen && path.up == generation;
        if direct.paths.iter().any(is_up) {
            let old = self.direct.old.take();
            self.direct.retire(old);
            self.drop_direct(|path| path.remote != chosen);
        }
    }

    fn drop_direct(&mut self, which: impl Fn(&DirectPath) -> bool) {
        for dropped in self.direct.paths.extract_if(.., |path| which(path)) {
            if let Some(session) = &self.session {
                session.remove_path(dropped.path);
            }
        }
    }
}
