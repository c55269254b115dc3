//! How the NATs in front of this device behave: measured when a home is there and whenever networks change.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use ahoy_nat::{
    behaviour::{NatBehaviour, ProbePlan, measure},
    home::{HomeState, HomeUp},
    port::PortHub,
};
use ahoy_transport::runtime::{Runtime, RuntimeExt, Task};
use tokio::sync::{Notify, watch};

/// Calls, registrations and relays go first; nobody waits for this.
const AFTER: Duration = Duration::from_secs(2);
/// How often an answer that never came is asked for again.
const AGAIN: Duration = Duration::from_secs(60);

/// The newest report for each family; absent until measured, and after a change of networks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NatReports {
    /// IPv4.
    pub v4: Option<NatBehaviour>,
    /// IPv6.
    pub v6: Option<NatBehaviour>,
}

impl NatReports {
    /// What is known where packets to `remote` go.
    #[must_use]
    pub fn towards(&self, remote: IpAddr) -> Option<&NatBehaviour> {
        match remote.to_canonical() {
            IpAddr::V4(_) => self.v4.as_ref(),
            IpAddr::V6(_) => self.v6.as_ref(),
        }
    }
}

/// Measures for as long as it lives.
#[derive(Debug)]
pub(super) struct NatScout {
    reports: Arc<watch::Sender<NatReports>>,
    wanted: Arc<Notify>,
    _task: Task,
}

impl NatScout {
    pub(super) fn start(
        runtime: &Arc<dyn Runtime>,
        hub: &Arc<PortHub>,
        homes: Vec<watch::Receiver<HomeState>>,
    ) -> Self {
        let reports = Arc::new(watch::Sender::new(NatReports::default()));
        let wanted = Arc::new(Notify::new());
        let scouting = Scouting {
            runtime: Arc::clone(runtime),
            hub: Arc::clone(hub),
            homes,
            reports: Arc::clone(&reports),
            wanted: Arc::clone(&wanted),
        };
        Self {
            reports,
            wanted,
            _task: runtime.spawn_task(scouting.run()),
        }
    }

    /// The newest reports, now and from now on.
    pub(super) fn reports(&self) -> watch::Receiver<NatReports> {
        self.reports.subscribe()
    }

    /// A home is there: measures soon. A measurement that runs is not disturbed.
    pub(super) fn measure(&self) {
        self.wanted.notify_one();
    }

    /// The networks changed: what was measured in the old ones is worth nothing.
    pub(super) fn measure_anew(&self) {
        self.reports.send_replace(NatReports::default());
        self.measure();
    }
}

struct Scouting {
    runtime: Arc<dyn Runtime>,
    hub: Arc<PortHub>,
    homes: Vec<watch::Receiver<HomeState>>,
    reports: Arc<watch::Sender<NatReports>>,
    wanted: Arc<Notify>,
}

impl Scouting {
    async fn run(self) {
        loop {
            self.wanted.notified().await;
            self.runtime.sleep(AFTER).await;
            loop {
                let (reports, complete) = self.measure_all().await;
                self.reports.send_replace(reports);
                if complete {
                    break;
                }
                tokio::select! {
                    biased;
                    () = self.wanted.notified() => {}
                    () = self.runtime.sleep(AGAIN) => {}
                }
            }
        }
    }

    /// Also whether every family that has a supernode has a report now.
    async fn measure_all(&self) -> (NatReports, bool) {
        let own: BTreeSet<IpAddr> = self.runtime.interface_addrs().into_iter().collect();
        let port = self.hub.port().local_addr().port();
        let servers: Vec<SocketAddr> = self.homes.iter().filter_map(binding_server).collect();
        let mut reports = NatReports::default();
        let mut complete = true;
        for (is_v4, report) in [(true, &mut reports.v4), (false, &mut reports.v6)] {
            let plan = ProbePlan {
                servers: of_family(&servers, is_v4),
                own_addrs: own.clone(),
                own_port: port,
            };
            if plan.servers.is_empty() {
                continue;
            }
            match measure(&*self.runtime, &self.hub, plan).await {
                Ok(found) => {
                    tracing::debug!(mapping = %found.mapping, filtering = %found.filtering, translated = found.translated, is_v4, "measured the NAT");
                    *report = Some(found);
                }
                Err(error) => {
                    tracing::debug!(%error, is_v4, "the NAT is not measured");
                    complete = false;
                }
            }
        }
        (reports, complete)
    }
}

/// Where the relay of a home answers Binding, if it is registered there and has one.
fn binding_server(home: &watch::Receiver<HomeState>) -> Option<SocketAddr> {
    let up: Arc<HomeUp> = match &*home.borrow() {
        HomeState::Up(up) => Arc::clone(up),
        HomeState::Down => return None,
    };
    let relay = up.registered.relay.as_ref()?;
    Some(SocketAddr::new(
        relay.server.ip().to_canonical(),
        relay.server.port(),
    ))
}

fn of_family(servers: &[SocketAddr], is_v4: bool) -> Vec<SocketAddr> {
    let fits = |server: &&SocketAddr| server.is_ipv4() == is_v4;
    servers.iter().filter(fits).copied().collect()
}
