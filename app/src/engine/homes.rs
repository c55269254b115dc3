//! Homes beside those of the settings: taken from the supernodes that are known while some are missing, and left when they are
//! dead or needed no more. [`ahoy_nat::discovery::homes`] decides.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use ahoy_nat::{
    discovery::{
        homes::{HomeChange, Homes},
        table::Known,
    },
    home::{Home, HomeEvent, HomePolicy, Registrant},
};
use ahoy_transport::{
    identity::{NodeAddress, NodeId},
    runtime::{Runtime, RuntimeExt as _},
};
use tokio::sync::mpsc;

use super::{config::Reaching, leg::Leg, lending::Lender, relays::RelaySource, run::Engine};

/// Between two changes of one device, drawn between nothing and this: those who lost the same home do not come to the same
/// other one in one moment.
const SPREAD: Duration = Duration::from_secs(2);

/// A tenth of new homes are drawn from all there are, whatever is known of them.
const EXPLORED: u32 = u32::MAX / 10;

/// Registers this device at a supernode.
#[derive(Debug)]
pub(super) struct HomeOpener {
    pub(super) runtime: Arc<dyn Runtime>,
    pub(super) reaching: Reaching,
    pub(super) registrant: Arc<dyn Registrant>,
    pub(super) events: mpsc::Sender<(NodeId, HomeEvent)>,
}

impl HomeOpener {
    /// Begins. `addr` is what the supernode's name stands for.
    pub(super) fn open(&self, address: &NodeAddress, addr: SocketAddr) -> Home {
        Home::start_at(
            HomePolicy::default(),
            Arc::clone(&self.runtime),
            address.node,
            self.reaching.place(address, addr),
            self.reaching.ways,
            Arc::clone(&self.registrant),
            self.events.clone(),
        )
    }
}

/// The choice, and what carries it out.
#[derive(Debug)]
pub(super) struct HomeChooser {
    choice: Homes,
    opener: HomeOpener,
    not_before: Instant,
    /// Those from before are not registered at yet.
    resuming: bool,
}

impl HomeChooser {
    pub(super) fn new(choice: Homes, opener: HomeOpener) -> Self {
        Self {
            not_before: opener.runtime.now(),
            choice,
            opener,
            resuming: true,
        }
    }

    /// See [`Homes::handle_misdeed`].
    pub(super) fn handle_misdeed(&mut self, node: NodeId, now: Instant) {
        self.choice.handle_misdeed(node, now);
        self.not_before = now;
    }

    /// See [`Homes::handle_poor`].
    pub(super) fn handle_poor(&mut self, node: NodeId, poor: bool) {
        self.choice.handle_poor(node, poor);
    }
}

impl Engine {
    /// Takes homes in and lets them go, as far as that is due.
    pub(super) fn look_after_homes(&mut self) {
        let Some(mut chooser) = self.choice.take() else {
            return;
        };
        let now = self.runtime.now();
        if std::mem::take(&mut chooser.resuming) {
            let before: Vec<NodeAddress> = chooser.choice.homes().cloned().collect();
            before
                .iter()
                .for_each(|home| self.take_home(home, &chooser.opener));
        }
        for home in &self.homes {
            chooser.choice.handle(home.node(), home.up().is_some(), now);
        }
        let now_millis = self.runtime.unix_millis();
        for home in &self.homes {
            if !self.trust.score(home.node(), now_millis).is_bad() {
                chooser.choice.handle_mended(home.node());
            }
        }
        // In a call only what cannot wait.
        let may_change = self.calls.current().is_none() || chooser.choice.is_draining();
        if now >= chooser.not_before && may_change {
            let rendezvous = self.rendezvous.as_ref();
            // Whom we lend to ourselves is gone when we are.
            let own = self.lender.as_ref().map(Lender::node);
            let trust = &self.trust;
            let runtime = &self.runtime;
            let change = chooser.choice.poll(now, |homes| {
                let may_take = |known: &Known<'_>| {
                    let node = known.announcement.node();
                    let bad = || trust.score(node, now_millis).is_bad();
                    Some(node) != own && homes.may_take(known, now) && !bad()
                };
                let proven = |known: &Known<'_>| {
                    let score = trust.score(known.announcement.node(), now_millis);
                    score.is_proven() && may_take(known)
                };
                let rendezvous = rendezvous?;
                // Mostly somebody who has served well; now and then anybody, or nobody new would ever be met.
                let explores = u32::from_be_bytes(runtime.random_array()) < EXPLORED;
                let best = (!explores).then(|| rendezvous.draw(proven)).flatten();
                best.or_else(|| rendezvous.draw(may_take))
            });
            match &change {
                Some(HomeChange::Take(address)) => self.take_home(address, &chooser.opener),
                Some(HomeChange::Leave(node)) => self.leave_home(*node),
                None => {}
            }
            if change.is_some() {
                let random = u32::from_be_bytes(self.runtime.random_array());
                let wait = SPREAD.mul_f64(f64::from(random) / f64::from(u32::MAX));
                chooser.not_before = now + wait;
            }
        }
        self.choice = Some(chooser);
    }

    /// A home stops soon: another one is taken, and calls leave its relay while it still carries them.
    pub(super) fn handle_draining(&mut self, node: NodeId) {
        tracing::info!(?node, "a home is about to stop");
        let now = self.runtime.now();
        if let Some(chooser) = &mut self.choice {
            chooser.choice.handle_draining(node, now);
            chooser.not_before = now;
        }
        self.each_leg(|leg| leg.handle_home_draining(node));
        self.look_after_homes();
        self.leave_draining_relays();
    }

    /// Relays that we may use now.
    pub(super) fn relay_sources(&self) -> Vec<RelaySource> {
        let homes = self.homes.iter().zip(&self.config.homes);
        homes
            .map(|(home, (address, _addr))| RelaySource::home(address.clone(), home.state()))
            .collect()
    }

    /// Calls leave the relays of homes that stop soon, as far as there is another way.
    pub(super) fn leave_draining_relays(&mut self) {
        if !self.any_leg(Leg::is_draining) {
            return;
        }
        let sources = self.relay_sources();
        self.each_leg(|leg| leg.leave_draining(&sources));
    }

    fn take_home(&mut self, address: &NodeAddress, opener: &HomeOpener) {
        let known = self.homes.iter().any(|home| home.node() == address.node);
        let Some(addr) = address.socket_addr().filter(|_| !known) else {
            return;
        };
        tracing::info!(%address, "another home");
        self.homes.push(opener.open(address, addr));
        self.config.homes.push((address.clone(), addr));
    }

    fn leave_home(&mut self, node: NodeId) {
        tracing::info!(?node, "a home is left");
        self.homes.retain(|home| home.node() != node);
        self.config
            .homes
            .retain(|(address, _addr)| address.node != node);
        self.home_was_up.remove(&node);
        self.note_homes();
    }
}
