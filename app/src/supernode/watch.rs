//! Watching a supernode: its figures by HTTP, for Prometheus (`/metrics`), for programs (`/status.json`) and for a
//! person's browser (`/`), and a log of what was out of the ordinary.
//!
//! Everything is decided in [`http`], [`figures`], [`anomalies`] and [`page`], which know no socket; this moves bytes.
//! Whoever can reach the port reads all of it: without a word to the contrary that is this machine alone.

use std::{
    fmt,
    future::poll_fn,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    str::FromStr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use ahoy_transport::runtime::{Runtime, RuntimeExt, Task, TcpStream, timeout};
use serde::{Deserialize, Serialize};

use super::SupernodeHandle;

pub mod anomalies;
pub mod figures;
pub mod http;
pub mod page;

use anomalies::{LOOK_SECS, Watcher};
use figures::Around;
use http::{Answer, Asked, MAX_REQUEST_BYTES};

/// Version of `/status.json`; another one when a program that reads this one would be misled.
const SCHEMA: u32 = 1;
/// Visitors at once; a browser and a collector take one each, for a moment.
const MAX_VISITORS: usize = 16;
/// How long a visitor may take to ask, and to take the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// What is read at once.
const PIECE_BYTES: usize = 2048;

/// Where figures are shown, as in `9100` (this machine alone) or `192.0.2.1:9100`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WatchAddr(pub SocketAddr);

/// What is written is no place to show figures at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no place to show figures at: write a port, or an address with one like 127.0.0.1:9100"
)]
pub struct ParseWatchAddrError(String);

impl FromStr for WatchAddr {
    type Err = ParseWatchAddrError;

    fn from_str(text: &str) -> Result<Self, ParseWatchAddrError> {
        let port = text.parse().map(|port: u16| (Ipv4Addr::LOCALHOST, port));
        let addr = port.map(SocketAddr::from).or_else(|_no_port| text.parse());
        addr.map(Self)
            .map_err(|_neither| ParseWatchAddrError(text.into()))
    }
}

impl fmt::Display for WatchAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<String> for WatchAddr {
    type Error = ParseWatchAddrError;

    fn try_from(text: String) -> Result<Self, ParseWatchAddrError> {
        text.parse()
    }
}

impl From<WatchAddr> for String {
    fn from(addr: WatchAddr) -> Self {
        addr.to_string()
    }
}

/// Tells how many records the node of the DHT has refused.
pub type DhtRefused = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Shows the figures of a supernode until it is dropped.
#[derive(Debug)]
pub struct Watch {
    addr: SocketAddr,
    shared: Arc<Shared>,
    _tasks: [Task; 2],
}

struct Shared {
    runtime: Arc<dyn Runtime>,
    supernode: Arc<SupernodeHandle>,
    dht_refused: Option<DhtRefused>,
    began: Instant,
    local_only: bool,
    draining: AtomicBool,
    visitors: AtomicUsize,
    visitors_refused: AtomicU64,
    watcher: Mutex<Watcher>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

impl Watch {
    /// Listens at `at` and looks for anomalies from now on.
    ///
    /// # Errors
    /// When the port cannot be had.
    pub fn start(
        runtime: &Arc<dyn Runtime>,
        at: WatchAddr,
        supernode: Arc<SupernodeHandle>,
        dht_refused: Option<DhtRefused>,
    ) -> io::Result<Self> {
        let listener = runtime.listen_tcp(at.0)?;
        let addr = listener.local_addr();
        let shared = Arc::new(Shared {
            runtime: Arc::clone(runtime),
            supernode,
            dht_refused,
            began: runtime.now(),
            local_only: is_local(addr.ip()),
            draining: AtomicBool::new(false),
            visitors: AtomicUsize::new(0),
            visitors_refused: AtomicU64::new(0),
            watcher: Mutex::default(),
        });
        let serving = Arc::clone(&shared);
        let accepting = runtime.spawn_task(async move {
            loop {
                match poll_fn(|cx| listener.poll_accept(cx)).await {
                    Ok(stream) => serving.welcome(stream),
                    Err(error) => {
                        // No descriptors left, perhaps: that passes, and trying at once would help nobody.
                        tracing::debug!(%error, "a visitor of the figures is lost");
                        serving.runtime.sleep(Duration::from_secs(1)).await;
                    }
                }
            }
        });
        let looking = runtime.spawn_task(Arc::clone(&shared).look());
        Ok(Self {
            addr,
            shared,
            _tasks: [accepting, looking],
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// From now on the supernode is shown as one that ends soon.
    pub fn set_draining(&self) {
        self.shared.draining.store(true, Ordering::Relaxed);
    }
}

fn is_local(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// Counts a visitor for as long as it exists.
struct Visitor(Arc<Shared>);

impl Drop for Visitor {
    fn drop(&mut self) {
        self.0.visitors.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shared {
    fn watcher(&self) -> MutexGuard<'_, Watcher> {
        self.watcher.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn look(self: Arc<Self>) {
        loop {
            let status = self.supernode.status();
            let begun = self.watcher().look(self.runtime.unix_millis(), &status);
            for happening in begun {
                tracing::warn!(kind = ?happening.kind, "{}", happening.text);
            }
            self.runtime.sleep(Duration::from_secs(LOOK_SECS)).await;
        }
    }

    fn welcome(self: &Arc<Self>, stream: Arc<dyn TcpStream>) {
        let visitor = Visitor(Arc::clone(self));
        if self.visitors.fetch_add(1, Ordering::Relaxed) >= MAX_VISITORS {
            self.visitors_refused.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let runtime = Arc::clone(&self.runtime);
        let serving = async move {
            let shared = Arc::clone(&visitor.0);
            let serving = async {
                let answer = shared.ask(&*stream).await?;
                let response = shared.response(answer);
                let mut left = &response[..];
                while !left.is_empty() {
                    let written = poll_fn(|cx| stream.poll_write(cx, left)).await?;
                    left = left.get(written..).unwrap_or_default();
                }
                Ok::<_, io::Error>(())
            };
            match timeout(&*shared.runtime, PATIENCE, serving).await {
                Some(Ok(())) => {}
                Some(Err(error)) => tracing::debug!(%error, "a visitor of the figures went"),
                None => {
                    shared.visitors_refused.fetch_add(1, Ordering::Relaxed);
                }
            }
        };
        runtime.spawn_task(serving).detach();
    }

    /// Reads one request. Nothing comes after it that anybody looks at.
    async fn ask(&self, stream: &dyn TcpStream) -> io::Result<Answer> {
        let mut request = Vec::new();
        loop {
            let mut piece = [0; PIECE_BYTES];
            let room = PIECE_BYTES.min(MAX_REQUEST_BYTES.saturating_sub(request.len()));
            let piece = &mut piece[..room];
            let read = poll_fn(|cx| stream.poll_read(cx, piece)).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            request.extend_from_slice(&piece[..read]);
            if let Some(answer) = http::read(&request, self.local_only) {
                return Ok(answer);
            }
        }
    }

    fn response(&self, answer: Answer) -> Vec<u8> {
        let (asked, head_only) = match answer {
            Answer::Show(asked, head_only) => (asked, head_only),
            Answer::Refuse(fault) => {
                self.visitors_refused.fetch_add(1, Ordering::Relaxed);
                return http::refusal(fault);
            }
        };
        let around = Around {
            uptime_secs: self.runtime.now().duration_since(self.began).as_secs(),
            memory_bytes: figures::memory_bytes(),
            draining: self.draining.load(Ordering::Relaxed),
            dht_refused: self.dht_refused.as_ref().map(|refused| refused()),
            visitors_refused: self.visitors_refused.load(Ordering::Relaxed),
        };
        let mut figures = figures::figures(&self.supernode.status(), &around);
        let watcher = self.watcher();
        figures.push(figures::anomalies(watcher.told()));
        let node = self.supernode.node().to_string();
        let (kind, body) = match asked {
            Asked::Metrics => (
                "text/plain; version=0.0.4; charset=utf-8",
                figures::prometheus(&figures),
            ),
            Asked::Json => {
                let document = serde_json::json!({
                    "schema": SCHEMA,
                    "node": node,
                    "now_millis": self.runtime.unix_millis(),
                    "figures": figures,
                    "events": watcher.happenings().collect::<Vec<_>>(),
                });
                ("application/json", format!("{document}\n"))
            }
            Asked::Page => (
                "text/html; charset=utf-8",
                page::page(
                    &node,
                    self.runtime.unix_millis(),
                    &figures,
                    watcher.happenings(),
                ),
            ),
        };
        http::response("200 OK", kind, &body, head_only)
    }
}

#[cfg(test)]
mod tests;
