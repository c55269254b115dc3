//! BitTorrent's Mainline DHT, by the library `mainline`. IPv4 alone, as that is.
//!
//! [`Mainline`] looks and puts: each node lives for one purpose, on a port of its own, and answers nobody (read-only,
//! BEP 43). [`MainlineServer`] is a node that serves others, on supernodes that want to.
//!
//! In a network of these servers alone, newcomers stay unknown to those who were there before: a table takes in only who
//! answered it, and nobody asks a newcomer. The founder, who has nobody to start from, is the exception. The public
//! network has other programs, which ask.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use ahoy_transport::{
    identity::{Host, HostError},
    runtime::Runtime,
};
use futures_util::{
    StreamExt as _,
    future::{BoxFuture, join_all},
    stream::BoxStream,
};
use mainline::{
    Config, Dht as Library, MutableItem, RequestFilter, RequestSpecific, ServerSettings,
    async_dht::AsyncDht, errors::PutMutableError,
};
use serde::{Deserialize, Serialize};

use super::{Dht, DhtError, DhtItem, DhtNode, may_be_public};

/// A node that does not answer for this long is left out: a round trip round the world, and a slow machine.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);
/// Where the public network is entered.
const PUBLIC: [&str; 4] = [
    "router.bittorrent.com:6881",
    "dht.transmissionbt.com:6881",
    "dht.libtorrent.org:25401",
    "relay.pkarr.org:6881",
];
/// Items that a server of ours keeps: with the usual thousand, anybody's five megabytes drive everybody else's out.
const MAX_VALUES: usize = 65_536;
/// Stored by a server for one /24 of addresses, in a minute; as many at once.
const PUTS_PER_MINUTE: f64 = 30.0;
/// Networks whose puts are counted. Those of which nothing came for a minute make room.
const COUNTED_NETWORKS: usize = 4096;

/// Where a DHT is entered: `host:port`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DhtEntry {
    /// A DNS name or an IPv4 address.
    pub host: Host,
    /// UDP.
    pub port: u16,
}

/// A text is no [`DhtEntry`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DhtEntryError {
    /// No `:` and port.
    #[error("{0:?} has no port: write host:port")]
    NoPort(String),
    /// The port is none.
    #[error("{0:?} is not a port: write a number from 1 to 65535")]
    Port(String),
    /// The host is none.
    #[error(transparent)]
    Host(#[from] HostError),
    /// An IPv6 address.
    #[error("the DHT is entered by IPv4")]
    Ipv6,
}

impl FromStr for DhtEntry {
    type Err = DhtEntryError;

    fn from_str(text: &str) -> Result<Self, DhtEntryError> {
        let (host, port) = text
            .rsplit_once(':')
            .ok_or_else(|| DhtEntryError::NoPort(text.chars().take(64).collect()))?;
        let number = port.parse().ok().filter(|number| *number > 0);
        let host = match host.parse()? {
            Host::Ip(IpAddr::V6(_)) => return Err(DhtEntryError::Ipv6),
            host @ (Host::Ip(IpAddr::V4(_)) | Host::Name(_)) => host,
        };
        Ok(Self {
            host,
            port: number.ok_or_else(|| DhtEntryError::Port(port.chars().take(16).collect()))?,
        })
    }
}

impl fmt::Display for DhtEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl TryFrom<String> for DhtEntry {
    type Error = DhtEntryError;

    fn try_from(text: String) -> Result<Self, DhtEntryError> {
        text.parse()
    }
}

impl From<DhtEntry> for String {
    fn from(entry: DhtEntry) -> Self {
        entry.to_string()
    }
}

impl DhtEntry {
    /// Where the public network is entered.
    #[must_use]
    pub fn public() -> Vec<Self> {
        let entries = PUBLIC.iter().map(|entry| entry.parse());
        entries.filter_map(Result::ok).collect()
    }

    fn is_public(&self) -> bool {
        match self.host {
            Host::Name(_) | Host::Ip(IpAddr::V6(_)) => true,
            Host::Ip(IpAddr::V4(v4)) => may_be_public(v4),
        }
    }
}

async fn resolve(runtime: &dyn Runtime, entries: &[DhtEntry]) -> Vec<SocketAddrV4> {
    let resolving = entries.iter().map(|entry| async move {
        let host = entry.host.to_string();
        runtime
            .resolve(&host, entry.port)
            .await
            .inspect_err(|error| tracing::info!(%entry, %error, "no way into the DHT by this name"))
            .unwrap_or_default()
    });
    let found = join_all(resolving).await;
    let v4 = found.into_iter().flatten().filter_map(|addr| match addr {
        SocketAddr::V4(v4) => Some(v4),
        SocketAddr::V6(_) => None,
    });
    v4.collect()
}

/// The DHT behind some entries, as a client.
#[derive(Debug)]
pub struct Mainline {
    runtime: Arc<dyn Runtime>,
    entries: Vec<DhtEntry>,
}

impl Mainline {
    /// The network that `entries` lead into. Nothing is sent before [`Dht::open`]. Only where the runtime's network is this
    /// machine's.
    #[must_use]
    pub fn new(runtime: Arc<dyn Runtime>, entries: Vec<DhtEntry>) -> Self {
        Self { runtime, entries }
    }
}

impl Dht for Mainline {
    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn DhtNode>, DhtError>> {
        Box::pin(async move {
            let bootstrap = resolve(&*self.runtime, &self.entries).await;
            if bootstrap.is_empty() {
                return Err(DhtError::NoNodes);
            }
            let config = Config {
                bootstrap: Some(bootstrap),
                port: Some(0),
                request_timeout: REQUEST_TIMEOUT,
                ..Config::default()
            };
            let node = Library::new(config).map_err(|error| DhtError::Io(error.to_string()))?;
            Ok(Arc::new(Client(node.as_async())) as Arc<dyn DhtNode>)
        })
    }

    fn is_public(&self) -> bool {
        self.entries.iter().any(DhtEntry::is_public)
    }
}

#[derive(Debug)]
struct Client(AsyncDht);

impl DhtNode for Client {
    fn put(&self, item: DhtItem) -> BoxFuture<'_, Result<usize, DhtError>> {
        Box::pin(async move {
            let item = MutableItem::new_signed_unchecked(
                item.key,
                item.signature,
                &item.value,
                item.seq,
                item.salt.as_deref(),
            );
            match self.0.put_mutable(item, None).await {
                Ok(outcome) => Ok(outcome.stored_at.try_into().unwrap_or(usize::MAX)),
                Err(PutMutableError::Query(error)) => Err(match error {
                    mainline::errors::PutQueryError::NoClosestNodes => DhtError::NoNodes,
                    mainline::errors::PutQueryError::Timeout => DhtError::TimedOut,
                    other @ mainline::errors::PutQueryError::ErrorResponse(_) => {
                        DhtError::Refused(other.to_string())
                    }
                }),
                Err(PutMutableError::Concurrency(error)) => {
                    Err(DhtError::Refused(error.to_string()))
                }
            }
        })
    }

    fn get(&self, key: [u8; 32], salt: Option<Vec<u8>>) -> BoxStream<'static, DhtItem> {
        let items = self.0.get_mutable(&key, salt.as_deref(), None);
        let found = items.map(|item| DhtItem {
            key: *item.key(),
            salt: item.salt().map(<[u8]>::to_vec),
            seq: item.seq(),
            value: item.value().to_vec(),
            signature: *item.signature(),
        });
        found.boxed()
    }

    fn is_connected(&self) -> BoxFuture<'_, bool> {
        Box::pin(self.0.bootstrapped())
    }
}

/// How a node serves others.
#[derive(Debug, Clone)]
pub struct MainlineServerConfig {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddrV4,
    /// Who is there already; nobody for the first one of a network.
    pub entries: Vec<DhtEntry>,
    /// The address that others see, if that is known: its id follows from it (BEP 42).
    pub public_ip: Option<Ipv4Addr>,
    /// Take only so much from each network. The switch is there to show what it is good for.
    pub limit_puts: bool,
    /// Items kept, at least one.
    pub max_values: usize,
}

impl MainlineServerConfig {
    /// A server at `listen` that joins by `entries`, within the usual limits.
    #[must_use]
    pub fn new(listen: SocketAddrV4, entries: Vec<DhtEntry>) -> Self {
        Self {
            listen,
            entries,
            public_ip: None,
            limit_puts: true,
            max_values: MAX_VALUES,
        }
    }
}

/// A node that serves others, until it is dropped.
#[derive(Debug)]
pub struct MainlineServer {
    node: AsyncDht,
    addr: SocketAddrV4,
    refused: Arc<Mutex<Buckets>>,
}

impl MainlineServer {
    /// Starts it.
    ///
    /// # Errors
    /// When the port cannot be had, or no entry has an address.
    pub async fn start(
        runtime: &Arc<dyn Runtime>,
        config: &MainlineServerConfig,
    ) -> Result<Self, DhtError> {
        let buckets = Arc::new(Mutex::new(Buckets::default()));
        let mut settings = ServerSettings {
            max_mutable_values: config.max_values.max(1),
            ..ServerSettings::default()
        };
        if config.limit_puts {
            settings.filter = Box::new(PutFilter {
                runtime: Arc::clone(runtime),
                buckets: Arc::clone(&buckets),
            });
        }
        let bootstrap = resolve(&**runtime, &config.entries).await;
        // With nobody to start from it would be a founder, which believes whoever comes.
        if bootstrap.is_empty() && !config.entries.is_empty() {
            return Err(DhtError::NoNodes);
        }
        let node = Library::new(Config {
            bootstrap: Some(bootstrap),
            port: Some(config.listen.port()),
            bind_address: Some(*config.listen.ip()),
            request_timeout: REQUEST_TIMEOUT,
            server_settings: settings,
            server_mode: true,
            public_ip: config.public_ip,
        })
        .map_err(|error| DhtError::Io(error.to_string()))?
        .as_async();
        let addr = node.info().await.local_addr();
        Ok(Self {
            node,
            addr,
            refused: buckets,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddrV4 {
        self.addr
    }

    /// As others enter the network by it, where it listens at one address alone.
    #[must_use]
    pub fn entry(&self) -> DhtEntry {
        DhtEntry {
            host: Host::Ip(IpAddr::V4(*self.addr.ip())),
            port: self.addr.port(),
        }
    }

    /// Waits until it knows others; says whether there are any.
    pub async fn joined(&self) -> bool {
        self.node.bootstrapped().await
    }

    /// Puts that it refused because too many came from their network.
    #[must_use]
    pub fn refused_puts(&self) -> u64 {
        let buckets = self.refused.lock();
        buckets.unwrap_or_else(PoisonError::into_inner).refused
    }
}

/// What each /24 may still put.
#[derive(Debug, Default)]
struct Buckets {
    networks: BTreeMap<[u8; 3], (f64, Instant)>,
    refused: u64,
}

impl Buckets {
    fn admit(&mut self, from: Ipv4Addr, now: Instant) -> bool {
        let [a, b, c, _] = from.octets();
        let key = [a, b, c];
        if !self.networks.contains_key(&key) && self.networks.len() >= COUNTED_NETWORKS {
            // After a minute every bucket is full again, and says nothing.
            let minute = Duration::from_secs(60);
            self.networks
                .retain(|_network, (_left, at)| now.saturating_duration_since(*at) < minute);
            if self.networks.len() >= COUNTED_NETWORKS {
                self.refused += 1;
                return false;
            }
        }
        let (left, at) = self.networks.entry(key).or_insert((PUTS_PER_MINUTE, now));
        let gained = now.saturating_duration_since(*at).as_secs_f64() * PUTS_PER_MINUTE / 60.0;
        *left = (*left + gained).min(PUTS_PER_MINUTE);
        *at = now;
        if *left < 1.0 {
            self.refused += 1;
            return false;
        }
        *left -= 1.0;
        true
    }
}

#[derive(Clone)]
struct PutFilter {
    runtime: Arc<dyn Runtime>,
    buckets: Arc<Mutex<Buckets>>,
}

impl fmt::Debug for PutFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PutFilter").finish_non_exhaustive()
    }
}

impl RequestFilter for PutFilter {
    fn allow_request(&self, request: &RequestSpecific, from: SocketAddrV4) -> bool {
        if !is_put(request) {
            return true;
        }
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.admit(*from.ip(), self.runtime.now())
    }
}

/// Whether a request stores something. The library does not show the type that tells, other than in its debug output; of
/// that the beginning is enough.
fn is_put(request: &RequestSpecific) -> bool {
    struct Beginning(String);
    impl fmt::Write for Beginning {
        fn write_str(&mut self, part: &str) -> fmt::Result {
            if self.0.len() > 256 {
                return Err(fmt::Error);
            }
            self.0.push_str(part);
            Ok(())
        }
    }
    let mut beginning = Beginning(String::new());
    // It stops where enough was seen.
    write!(beginning, "{request:?}").unwrap_or_default();
    beginning.0.contains("request_type: Put(")
}

#[cfg(test)]
mod tests {
    use ahoy_transport::runtime::TokioRuntime;

    use super::*;

    #[test]
    fn entries_read_as_they_are_written() {
        for text in ["127.0.0.1:6881", "dht.example:1"] {
            assert_eq!(text.parse::<DhtEntry>().unwrap().to_string(), text);
        }
        for wrong in ["", "dht.example", "dht.example:0", ":1", "[::1]:5", "a b:1"] {
            assert!(wrong.parse::<DhtEntry>().is_err(), "{wrong}");
        }
        assert_eq!(DhtEntry::public().len(), PUBLIC.len());
        assert!(DhtEntry::public().iter().all(DhtEntry::is_public));
        assert!(!"127.0.0.1:6881".parse::<DhtEntry>().unwrap().is_public());
    }

    #[test]
    fn a_network_puts_thirty_a_minute_and_takes_nothing_from_others() {
        let start = quinn::Runtime::now(&TokioRuntime);
        let mut buckets = Buckets::default();
        let flood = |buckets: &mut Buckets, at| {
            (0..=255)
                .filter(|last| buckets.admit(Ipv4Addr::new(198, 51, 100, *last), at))
                .count()
        };
        assert_eq!(flood(&mut buckets, start), 30);
        assert_eq!(flood(&mut buckets, start + Duration::from_secs(10)), 5);
        assert!(buckets.admit(Ipv4Addr::new(203, 0, 113, 1), start));
        assert_eq!(buckets.refused, 226 + 251);
    }

    #[test]
    fn the_table_of_networks_is_bounded() {
        let start = quinn::Runtime::now(&TokioRuntime);
        let mut buckets = Buckets::default();
        let from = |n: u32| Ipv4Addr::from(n << 8);
        let admitted = (0..10_000)
            .filter(|n| buckets.admit(from(*n), start))
            .count();
        assert_eq!(admitted, COUNTED_NETWORKS);
        assert_eq!(buckets.networks.len(), COUNTED_NETWORKS);
        let later = start + Duration::from_secs(60);
        assert!(buckets.admit(from(20_000), later), "the old ones make room");
        assert_eq!(buckets.networks.len(), 1);
    }
}
