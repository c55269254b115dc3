//! Keeps a person's record in the table for as long as the person is reachable: signed anew every hour, and when the
//! homes change; then read back by a node that was never there, since what the storing nodes say proves nothing.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ahoy_transport::{
    identity::{NodeAddress, RootKey, UserId},
    runtime::{Runtime, RuntimeExt, Task},
};
use tokio::sync::{mpsc, watch};

use super::{
    Dht, DhtError, Place, PutOutcome, is_for_everybody, places_to_put, put_items, readable,
};
use crate::discovery::record::Record;

/// Nodes forget items after two hours.
const INTERVAL: Duration = Duration::from_secs(3600);
/// Further homes come up within this time of the first.
const SETTLE: Duration = Duration::from_secs(2);
/// A home that comes back within this time was not lost.
const CHANGE_SETTLE: Duration = Duration::from_secs(15);
/// What was stored is there for everybody after this time.
const READ_BACK_AFTER: Duration = Duration::from_secs(3);
/// First wait after a failure; doubled by each further one, up to [`INTERVAL`].
const RETRY: Duration = Duration::from_secs(60);

/// Who is published.
pub trait Publishable: Send + Sync + fmt::Debug + 'static {
    /// A record with these homes, in a number that was never used before, and the key that its items are signed with;
    /// `None` when this device cannot sign any.
    fn record(&self, homes: &[NodeAddress], now_millis: u64) -> Option<(Record, Arc<RootKey>)>;

    /// A record that holds now and that another device of the person signed, for one that cannot sign any.
    fn handed_on(&self, now_millis: u64) -> Option<Record> {
        let _nobody_did = now_millis;
        None
    }

    /// What contacts were given, if anything.
    fn capability(&self) -> Option<[u8; 32]>;
}

/// How to publish. The switches are there to show what they are good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishPolicy {
    /// Put copies for everybody, too, which show those who keep them which address this person has; else those for
    /// contacts alone, where the table has such.
    pub open: bool,
    /// Put the record again before it is forgotten.
    pub renew: bool,
    /// Draw waits at random, so that those who came online together do not publish together for ever.
    pub jitter: bool,
    /// Read the copies back; without it nobody notices that they are hidden.
    pub read_back: bool,
}

impl Default for PublishPolicy {
    fn default() -> Self {
        Self {
            open: true,
            renew: true,
            jitter: true,
            read_back: true,
        }
    }
}

/// What became of a publication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublishEvent {
    /// The record is there.
    Published {
        /// How many copies are claimed to be.
        put: PutOutcome,
        /// How many can be read; absent where nobody looked.
        readable: Option<usize>,
    },
    /// Fewer than half of the copies can be read by somebody else: somebody hides them, or the table is broken.
    Hidden {
        /// How many copies are claimed to be there.
        put: PutOutcome,
        /// How many can be read.
        readable: usize,
    },
    /// It could not be put. The next try follows.
    Failed(DhtError),
}

/// How often each happened.
#[derive(Debug, Default)]
pub struct PublishCounters {
    published: AtomicU64,
    hidden: AtomicU64,
    failed: AtomicU64,
}

impl PublishCounters {
    /// Publications that were put, hidden ones included.
    #[must_use]
    pub fn published(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }

    /// Publications of which fewer than half of the copies could be read.
    #[must_use]
    pub fn hidden(&self) -> u64 {
        self.hidden.load(Ordering::Relaxed)
    }

    /// Tries that put nothing.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}

/// Publishes until dropped.
#[derive(Debug)]
pub struct Publisher {
    counters: Arc<PublishCounters>,
    _task: Task,
}

impl Publisher {
    /// Starts to publish `who`, as soon as `homes` holds homes that answer, and whenever it changes. Waits where `events`
    /// is full, and goes on when nobody takes them.
    pub fn start(
        runtime: &Arc<dyn Runtime>,
        dht: Arc<dyn Dht>,
        who: Arc<dyn Publishable>,
        homes: watch::Receiver<Vec<NodeAddress>>,
        policy: PublishPolicy,
        events: mpsc::Sender<PublishEvent>,
    ) -> Self {
        let counters = Arc::new(PublishCounters::default());
        let keeper = Keeper {
            runtime: Arc::clone(runtime),
            dht,
            who,
            policy,
            counters: Arc::clone(&counters),
        };
        Self {
            counters,
            _task: runtime.spawn_task(keeper.run(homes, events)),
        }
    }

    /// How often what happened.
    #[must_use]
    pub fn counters(&self) -> &PublishCounters {
        &self.counters
    }
}

struct Keeper {
    runtime: Arc<dyn Runtime>,
    dht: Arc<dyn Dht>,
    who: Arc<dyn Publishable>,
    policy: PublishPolicy,
    counters: Arc<PublishCounters>,
}

impl Keeper {
    async fn run(
        self,
        mut homes: watch::Receiver<Vec<NodeAddress>>,
        events: mpsc::Sender<PublishEvent>,
    ) {
        let mut retry = RETRY;
        loop {
            if homes.wait_for(|homes| !homes.is_empty()).await.is_err() {
                return;
            }
            self.runtime.sleep(SETTLE).await;
            let all = homes.borrow_and_update().clone();
            let shown: Vec<NodeAddress> = all
                .iter()
                .filter(|home| !self.dht.is_public() || is_for_everybody(home))
                .cloned()
                .collect();
            let now_millis = self.runtime.unix_millis();
            let mut wait = self.drawn(INTERVAL);
            if shown.is_empty() {
                tracing::debug!("homes of a private network are not published");
            } else if let Some((record, root)) = self.signed(&shown, now_millis) {
                let event = self.publish(&record, root.as_deref(), now_millis).await;
                if let PublishEvent::Failed(_) = event {
                    wait = self.drawn(retry);
                    retry = (retry * 2).min(INTERVAL);
                } else {
                    retry = RETRY;
                }
                self.tell(&event);
                // Nobody listens: the counters tell.
                events.send(event).await.unwrap_or_default();
            } else if self.dht.has_salts() {
                tracing::info!("this device does not hold the key that publishes its owner");
                return;
            } else {
                tracing::debug!(
                    "no other device of ours has handed a record on, or none that holds"
                );
                wait = self.drawn(retry);
                retry = (retry * 2).min(INTERVAL);
            }
            if !self.policy.renew {
                return;
            }
            if self.wait_for_change(&mut homes, &all, wait).await.is_err() {
                return;
            }
        }
    }

    /// A new record and the key of its items; or, where this device cannot sign any, the one that another device handed on, for
    /// tables whose items need no key.
    fn signed(
        &self,
        homes: &[NodeAddress],
        now_millis: u64,
    ) -> Option<(Record, Option<Arc<RootKey>>)> {
        if let Some((record, root)) = self.who.record(homes, now_millis) {
            return Some((record, Some(root)));
        }
        let record = self.who.handed_on(now_millis);
        record
            .filter(|_| !self.dht.has_salts())
            .map(|record| (record, None))
    }

    /// Waits, or until the homes are others than those `published`, and stay so.
    async fn wait_for_change(
        &self,
        homes: &mut watch::Receiver<Vec<NodeAddress>>,
        published: &[NodeAddress],
        wait: Duration,
    ) -> Result<(), watch::error::RecvError> {
        let until = self.runtime.now() + wait;
        loop {
            tokio::select! {
                biased;
                changed = homes.changed() => changed?,
                () = self.runtime.sleep_until(until) => return Ok(()),
            }
            self.runtime.sleep(CHANGE_SETTLE).await;
            let now = homes.borrow_and_update();
            if !now.is_empty() && *now != published {
                return Ok(());
            }
        }
    }

    fn places(&self, user: UserId, now_millis: u64) -> Vec<Place> {
        if !self.dht.has_salts() {
            return vec![Place::OPEN];
        }
        let capability = self.who.capability();
        let mut places = places_to_put(user, capability.as_ref(), now_millis);
        places.retain(|place| self.policy.open || matches!(place, Place::Hidden(_)));
        places
    }

    async fn publish(
        &self,
        record: &Record,
        root: Option<&RootKey>,
        now_millis: u64,
    ) -> PublishEvent {
        let places = self.places(record.fields().user, now_millis);
        if places.is_empty() {
            return self.failed(DhtError::Refused("there is nobody to tell".into()));
        }
        let node = match self.dht.open().await {
            Ok(node) => node,
            Err(error) => return self.failed(error),
        };
        let put = match put_items(&*self.runtime, &*node, record, root, &places).await {
            Ok(put) => put,
            Err(error) => return self.failed(error),
        };
        drop(node);
        self.counters.published.fetch_add(1, Ordering::Relaxed);
        if !self.policy.read_back {
            let readable = None;
            return PublishEvent::Published { put, readable };
        }
        self.runtime.sleep(READ_BACK_AFTER).await;
        let fresh = match self.dht.open().await {
            Ok(fresh) => fresh,
            // It was there a moment ago.
            Err(error) => {
                tracing::debug!(%error, "nothing is read back");
                let readable = None;
                return PublishEvent::Published { put, readable };
            }
        };
        let readable = readable(&*self.runtime, &*fresh, record, &places).await;
        if readable * 2 < put.copies {
            self.counters.hidden.fetch_add(1, Ordering::Relaxed);
            PublishEvent::Hidden { put, readable }
        } else {
            let readable = Some(readable);
            PublishEvent::Published { put, readable }
        }
    }

    fn failed(&self, error: DhtError) -> PublishEvent {
        self.counters.failed.fetch_add(1, Ordering::Relaxed);
        PublishEvent::Failed(error)
    }

    fn tell(&self, event: &PublishEvent) {
        match event {
            PublishEvent::Published { put, readable } => {
                tracing::debug!(put.copies, put.stored, ?readable, "record published");
            }
            PublishEvent::Hidden { put, readable } => tracing::warn!(
                "only {readable} of {} copies of our record in the DHT can be read: somebody may be hiding them",
                put.copies
            ),
            PublishEvent::Failed(error) => tracing::info!(%error, "our record is not published"),
        }
    }

    /// Between nine and eleven tenths of `wait`.
    fn drawn(&self, wait: Duration) -> Duration {
        if !self.policy.jitter {
            return wait;
        }
        let random = u32::from_be_bytes(self.runtime.random_array());
        wait.mul_f64(0.9 + 0.2 * f64::from(random) / f64::from(u32::MAX))
    }
}
