//! Homes beside those of the settings: taken from the supernodes that are known while some are missing, and left when they are
//! dead or needed no more. [`ahoy_nat::discovery::homes`] decides.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use ahoy_nat::{
    discovery::homes::{HomeChange, Homes},
    home::{Home, HomeEvent, HomePolicy, Registrant},
};
use ahoy_transport::{
    identity::{NodeAddress, NodeId},
    runtime::{Runtime, RuntimeExt as _},
};
use tokio::sync::mpsc;

use super::{config::Reaching, run::Engine};

/// Between two changes of one device, drawn between nothing and this: those who lost the same home do not come to the same
/// other one in one moment.
const SPREAD: Duration = Duration::from_secs(2);

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
        if now >= chooser.not_before && self.calls.current().is_none() {
            let rendezvous = self.rendezvous.as_ref();
            let change = chooser.choice.poll(now, |homes| {
                rendezvous?.draw(|known| homes.may_take(known, now))
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
