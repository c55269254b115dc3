//! [`Gossip`] on the network: errands are dialled, and the table is kept.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ahoy_transport::{
    endpoint::{Endpoint, NodeAuth},
    identity::NodeId,
    runtime::{Runtime, RuntimeExt, Task, resolve_node, timeout},
};
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::sync::Notify;

use super::{Errand, Gossip};
use crate::{
    client::NodeClient,
    dial::{Dialled, NodePlace, Ways, dial},
    discovery::announcement::Announcement,
};

/// How long an errand may take: a connection, and one round trip.
const PATIENCE: Duration = Duration::from_secs(5);
/// The table is kept so long after the start, when the first walks are over, and then each time.
const FIRST_KEEPING: Duration = Duration::from_secs(60);
const KEEPING: Duration = Duration::from_secs(10 * 60);

/// What an errand brought: what the supernode told, itself first.
pub type Told = Option<Vec<Arc<Announcement>>>;

/// Carries errands out.
pub trait Courier: Send + Sync + fmt::Debug + 'static {
    /// Asks the supernode, which must prove its key.
    fn carry(&self, errand: Errand) -> BoxFuture<'static, Told>;
}

/// Keeps a table over restarts.
pub trait TableKeeper: Send + Sync + fmt::Debug + 'static {
    /// What was kept last.
    fn table(&self) -> Option<Vec<u8>>;
    /// Keeps it.
    fn keep(&self, table: &[u8]);
}

/// Asks over an endpoint, without a name and by UDP alone, since that is what is verified.
#[derive(Debug)]
pub struct UdpCourier(pub Endpoint);

impl Courier for UdpCourier {
    fn carry(&self, errand: Errand) -> BoxFuture<'static, Told> {
        let endpoint = self.0.clone();
        async move {
            let runtime = Arc::clone(endpoint.runtime());
            let addrs = resolve_node(&*runtime, &errand.to).await.ok()?;
            let place = NodePlace::by_udp(addrs.first().copied()?);
            let auth = NodeAuth::Anonymous;
            let dialled = dial(&endpoint, errand.to.node, &place, auth, Ways::Udp);
            let told = ask(&runtime, dialled.await.ok()?, &errand).await;
            learn(&endpoint, errand.to.node, &told);
            told
        }
        .boxed()
    }
}

/// What a supernode of this endpoint's private network tells of is the network's, too.
pub fn learn(endpoint: &Endpoint, from: NodeId, told: &Told) {
    if let (Some(access), Some(told)) = (endpoint.access(), told)
        && access.knows(from)
    {
        told.iter().for_each(|told| access.learn(told.node()));
    }
}

/// Asks the supernode at the other end, and says good-bye.
pub async fn ask(runtime: &Arc<dyn Runtime>, dialled: Dialled, errand: &Errand) -> Told {
    let client = NodeClient::dialled(Arc::clone(runtime), dialled);
    let told = client.supernodes(errand).await;
    client.close();
    told.inspect_err(|error| tracing::debug!(to = %errand.to, %error, "no word of supernodes"))
        .ok()
}

struct Shared {
    runtime: Arc<dyn Runtime>,
    gossip: Mutex<Gossip>,
    wake: Notify,
}

/// A node's gossip, for all who use it.
#[derive(Clone)]
pub struct Gossiper(Arc<Shared>);

impl fmt::Debug for Gossiper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gossiper").finish_non_exhaustive()
    }
}

impl Gossiper {
    /// Of this core.
    #[must_use]
    pub fn new(runtime: Arc<dyn Runtime>, gossip: Gossip) -> Self {
        Self(Arc::new(Shared {
            runtime,
            gossip: Mutex::new(gossip),
            wake: Notify::new(),
        }))
    }

    /// Looks into the core, or changes it; errands that come of it are carried out.
    pub fn with<T>(&self, look: impl FnOnce(&mut Gossip) -> T) -> T {
        let mut gossip = self.0.gossip.lock().unwrap_or_else(PoisonError::into_inner);
        let result = look(&mut gossip);
        drop(gossip);
        self.0.wake.notify_one();
        result
    }

    /// Works until the task is dropped.
    pub fn run(&self, courier: Arc<dyn Courier>, keeper: Option<Arc<dyn TableKeeper>>) -> Task {
        let gossiper = self.clone();
        let runtime = Arc::clone(&self.0.runtime);
        runtime.spawn_task(async move { gossiper.work(courier, keeper).await })
    }

    async fn work(self, courier: Arc<dyn Courier>, keeper: Option<Arc<dyn TableKeeper>>) {
        let runtime = &self.0.runtime;
        let mut under_way = FuturesUnordered::new();
        let mut keep_at = runtime.now() + FIRST_KEEPING;
        loop {
            let (now, now_millis) = (runtime.now(), runtime.unix_millis());
            let (errand, timeout_at) = {
                let mut gossip = self.0.gossip.lock().unwrap_or_else(PoisonError::into_inner);
                let errand = gossip.poll_errand(now, now_millis);
                (errand, gossip.poll_timeout())
            };
            if let Some(errand) = errand {
                let (courier, runtime) = (Arc::clone(&courier), Arc::clone(runtime));
                under_way.push(async move {
                    let to = errand.to.clone();
                    let told = timeout(&*runtime, PATIENCE, courier.carry(errand)).await;
                    (to, told.flatten())
                });
                continue;
            }
            if keep_at <= now {
                keep_at = now + KEEPING;
                if let Some(keeper) = &keeper {
                    let table = self.0.gossip.lock().unwrap_or_else(PoisonError::into_inner);
                    let table = table.table().to_bytes();
                    keeper.keep(&table);
                }
            }
            let deadline = timeout_at.map_or(keep_at, |(at, _why)| at.min(keep_at));
            tokio::select! {
                biased;
                Some((to, told)) = under_way.next(), if !under_way.is_empty() => {
                    let (now, now_millis) = (runtime.now(), runtime.unix_millis());
                    let mut gossip = self.0.gossip.lock().unwrap_or_else(PoisonError::into_inner);
                    gossip.handle_outcome(now, now_millis, &to, told.as_deref());
                }
                () = self.0.wake.notified() => {}
                () = runtime.sleep_until(deadline) => {}
            }
        }
    }
}
