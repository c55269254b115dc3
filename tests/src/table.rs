//! A DHT for tests in virtual time: it keeps what is put, forgets it after two hours, and hides, or serves what is old,
//! when it is told to. That real nodes take what we put is tested with real nodes (`tests/dht.rs`).

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use ahoy_nat::discovery::{
    dht::{Dht, DhtError, DhtItem, DhtNode},
    record::Record,
};
use ahoy_transport::runtime::{Runtime, RuntimeExt};
use futures_util::{
    FutureExt as _, StreamExt as _,
    future::BoxFuture,
    stream::{self, BoxStream},
};

/// How long an answer takes: a few hops round the world.
pub const ANSWER: Duration = Duration::from_millis(400);
/// How long an item is kept (BEP 44).
const KEPT: Duration = Duration::from_secs(2 * 3600);
/// Items kept under one target, for [`Mood::Old`].
const HISTORY: usize = 64;

type Target = ([u8; 32], Option<Vec<u8>>);

/// What the table does with those who ask.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mood {
    /// It serves the newest items.
    #[default]
    Honest,
    /// It serves the oldest items it ever had, whatever their age.
    Old,
    /// It hides every record that it can read.
    HidesPublic,
    /// Nobody answers.
    Dead,
}

#[derive(Debug, Default)]
struct State {
    items: BTreeMap<Target, Vec<(Instant, DhtItem)>>,
    mood: Mood,
    puts: Vec<(Instant, DhtItem)>,
    gets: usize,
}

/// The table. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Table {
    runtime: Arc<dyn Runtime>,
    state: Arc<Mutex<State>>,
    public: bool,
}

impl Table {
    /// An empty table by this clock. A `public` one is everybody's.
    #[must_use]
    pub fn new(runtime: Arc<dyn Runtime>, public: bool) -> Self {
        Self {
            runtime,
            state: Arc::default(),
            public,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it does from now on.
    pub fn set_mood(&self, mood: Mood) {
        self.lock().mood = mood;
    }

    /// All that was ever put, and when.
    #[must_use]
    pub fn puts(&self) -> Vec<(Instant, DhtItem)> {
        self.lock().puts.clone()
    }

    /// How many targets were ever asked for.
    #[must_use]
    pub fn gets(&self) -> usize {
        self.lock().gets
    }

    /// What it answers now.
    fn answer(&self, target: &Target) -> Vec<DhtItem> {
        let state = self.lock();
        let now = self.runtime.now();
        let kept = state.items.get(target);
        let mut kept = kept.into_iter().flatten();
        // Anybody can read it.
        let is_open = kept
            .clone()
            .any(|(_at, item)| Record::from_bytes(&item.value).is_ok());
        match state.mood {
            Mood::Dead => Vec::new(),
            Mood::HidesPublic if is_open => Vec::new(),
            Mood::Old => kept
                .next()
                .map(|(_at, item)| item.clone())
                .into_iter()
                .collect(),
            Mood::Honest | Mood::HidesPublic => kept
                .rfind(|(at, _item)| now.saturating_duration_since(*at) < KEPT)
                .map(|(_at, item)| item.clone())
                .into_iter()
                .collect(),
        }
    }
}

impl Dht for Table {
    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn DhtNode>, DhtError>> {
        std::future::ready(Ok(Arc::new(self.clone()) as Arc<dyn DhtNode>)).boxed()
    }

    fn is_public(&self) -> bool {
        self.public
    }
}

impl DhtNode for Table {
    fn put(&self, item: DhtItem) -> BoxFuture<'_, Result<usize, DhtError>> {
        async move {
            self.runtime.sleep(ANSWER).await;
            let now = self.runtime.now();
            let mut state = self.lock();
            if state.mood == Mood::Dead {
                return Err(DhtError::NoNodes);
            }
            let target = (item.key, item.salt.clone());
            state.puts.push((now, item.clone()));
            let kept = state.items.entry(target).or_default();
            // As BEP 44 has it: a number never goes down.
            if kept.last().is_none_or(|(_at, last)| last.seq <= item.seq) && kept.len() < HISTORY {
                kept.push((now, item));
            }
            // Whoever hides it says so no less.
            Ok(20)
        }
        .boxed()
    }

    fn get(&self, key: [u8; 32], salt: Option<Vec<u8>>) -> BoxStream<'static, DhtItem> {
        let table = self.clone();
        self.lock().gets += 1;
        let answering = async move {
            table.runtime.sleep(ANSWER).await;
            stream::iter(table.answer(&(key, salt)))
        };
        answering.flatten_stream().boxed()
    }

    fn is_connected(&self) -> BoxFuture<'_, bool> {
        std::future::ready(self.lock().mood != Mood::Dead).boxed()
    }
}
