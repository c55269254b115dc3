//! Everything over one TCP connection to a supernode, where UDP does not get through.
//!
//! A [`Tunnel`] is opened straight or through a [proxy](proxy::Proxy), begins with a [preface](frame::PREFACE), and then
//! carries datagrams ([`frame`]). The [mux](crate::mux) gives it a synthetic address: QUIC, STUN and TURN that are sent
//! there leave through the tunnel, and what comes out of it comes from there. So the supernode's connection, its relay
//! and every relayed peer work through a tunnel as they do over UDP.
//!
//! A supernode listens with a [`server::TunnelServer`]. There, too, each connection is a source with an address of its
//! own. A connection without the preface speaks TURN over TCP (RFC 8656), for standard clients.
//!
//! TCP repeats what is lost and delays what follows. Nothing can be done about a packet once it is written, so little
//! is: the system holds a few unsent kilobytes, the [queue] in front of it drops what waited too long.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::sync::watch;

use crate::{
    identity::Host,
    mux::{MuxSocket, TableFull, TunnelEnd, TunnelPort},
    runtime::{Runtime, RuntimeExt, TcpStream, timeout},
};

mod driver;
pub mod frame;
pub mod proxy;
pub mod queue;
pub mod server;

use driver::{Carrier, Limits};
use frame::{Framing, PREFACE};
use proxy::{Proxy, ProxyError};
use queue::{QueuePolicy, QueueStats};

/// Port that supernodes listen on for tunnels by convention: the one that is open almost everywhere.
pub const DEFAULT_TCP_PORT: u16 = 443;

/// Opening a TCP connection, through a proxy too, takes no longer: three lost SYN packets.
const OPEN_TIMEOUT: Duration = Duration::from_secs(8);
/// Between attempts at several addresses of one host (RFC 8305 section 5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// Addresses of one host that are tried.
const MAX_ATTEMPTS: usize = 4;
/// A client's tunnel over which nothing comes for so long is dead: QUIC's keep-alives are answered every few seconds.
const CLIENT_IDLE: Duration = Duration::from_secs(60);
/// What is said last, such as good-bye, has this long to leave.
const LINGER: Duration = Duration::from_millis(250);

/// Where a tunnel leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelTarget {
    /// The supernode's host. A proxy is given the name.
    pub host: Host,
    /// Its address, if it is known already; saves asking for the name.
    pub resolved: Option<std::net::IpAddr>,
    /// Its TCP port.
    pub port: u16,
    /// What is asked to connect.
    pub proxy: Option<Proxy>,
}

/// Why there is no tunnel.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// A name without an address.
    #[error("{host} cannot be looked up: {error}")]
    Resolve {
        /// The supernode or the proxy.
        host: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// No TCP connection.
    #[error("no TCP connection to {place}: {error}")]
    Connect {
        /// The supernode or the proxy, with the port.
        place: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// It takes too long.
    #[error("no TCP connection to {0}: no answer")]
    TimedOut(String),
    /// The proxy does not do it.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// Too many tunnels.
    #[error("too many tunnels at once")]
    Full,
}

impl From<TableFull> for TunnelError {
    fn from(_full: TableFull) -> Self {
        Self::Full
    }
}

/// A tunnel to a supernode. It closes shortly after this is dropped.
#[derive(Debug)]
pub struct Tunnel {
    addr: SocketAddr,
    port: Arc<TunnelPort>,
    /// Told to end when dropped.
    _open: watch::Sender<()>,
    ended: watch::Receiver<bool>,
}

impl Tunnel {
    /// Opens a tunnel on the port behind `mux`. Whether a supernode is at the other end shows when something is sent.
    ///
    /// # Errors
    /// One variant per reason.
    pub async fn open(
        runtime: &Arc<dyn Runtime>,
        mux: &Arc<MuxSocket>,
        target: &TunnelTarget,
    ) -> Result<Self, TunnelError> {
        Self::open_with(QueuePolicy::default(), runtime, mux, target).await
    }

    /// As [`Self::open`], with another queue.
    ///
    /// # Errors
    /// One variant per reason.
    pub async fn open_with(
        policy: QueuePolicy,
        runtime: &Arc<dyn Runtime>,
        mux: &Arc<MuxSocket>,
        target: &TunnelTarget,
    ) -> Result<Self, TunnelError> {
        let place = match &target.proxy {
            Some(proxy) => format!("the proxy {}", proxy.place()),
            None => format!("{}:{}", target.host, target.port),
        };
        let opening = async {
            match &target.proxy {
                None => {
                    let stream = connect(
                        &**runtime,
                        &target.host,
                        target.resolved,
                        target.port,
                        &place,
                    )
                    .await?;
                    Ok::<_, TunnelError>((stream, Vec::new()))
                }
                Some(proxy) => {
                    let (host, port) = (proxy.host(), proxy.port());
                    let stream = connect(&**runtime, host, None, port, &place).await?;
                    let early =
                        driver::ask_proxy(&stream, proxy, &target.host, target.port).await?;
                    Ok((stream, early))
                }
            }
        };
        let (stream, early) = match timeout(&**runtime, OPEN_TIMEOUT, opening).await {
            Some(opened) => opened?,
            None => return Err(TunnelError::TimedOut(place)),
        };
        let (addr, port) = mux.add_tunnel(TunnelEnd::Client, stream.peer_addr(), policy)?;
        let (open, closing) = watch::channel(());
        let (over, ended) = watch::channel(false);
        let carrier = Carrier {
            runtime: Arc::clone(runtime),
            mux: Arc::clone(mux),
            stream,
            framing: Framing::Tunnel,
            addr,
            port: Arc::clone(&port),
            limits: Limits::client(CLIENT_IDLE),
        };
        runtime
            .spawn_task(async move {
                let lingering = async {
                    let mut closing = closing;
                    // It never changes; it ends.
                    while closing.changed().await.is_ok() {}
                    carrier.runtime.sleep(LINGER).await;
                };
                tokio::select! {
                    biased;
                    end = carrier.run(&PREFACE, &early) => tracing::debug!(%end, "a tunnel ended"),
                    () = lingering => {}
                }
                carrier.mux.remove_tunnel(carrier.addr);
                over.send_replace(true);
            })
            .detach();
        Ok(Self {
            addr,
            port,
            _open: open,
            ended,
        })
    }

    /// What stands for the supernode, as far as it is reached through this tunnel.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The other end of the TCP connection: the supernode or the proxy.
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.port.peer()
    }

    /// Whether it has ended: the other side, or a proxy, closed it, or nothing came for a minute.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        *self.ended.borrow()
    }

    /// Waits until it has ended.
    pub async fn ended(&self) {
        let mut ended = self.ended.clone();
        // The sender goes with the task, which has ended then.
        ended
            .wait_for(|over| *over)
            .await
            .map(|_over| ())
            .unwrap_or(());
    }

    /// What its queue did.
    #[must_use]
    pub fn stats(&self) -> QueueStats {
        self.port.stats()
    }
}

/// A TCP connection to `host`, whichever of its addresses answers first.
async fn connect(
    runtime: &dyn Runtime,
    host: &Host,
    resolved: Option<std::net::IpAddr>,
    port: u16,
    place: &str,
) -> Result<Arc<dyn TcpStream>, TunnelError> {
    let addrs = match (resolved, host) {
        (Some(ip), _) => vec![SocketAddr::new(ip, port)],
        (None, Host::Ip(ip)) => vec![SocketAddr::new(*ip, port)],
        (None, Host::Name(name)) => {
            runtime
                .resolve(name, port)
                .await
                .map_err(|error| TunnelError::Resolve {
                    host: name.clone(),
                    error,
                })?
        }
    };
    let mut attempts: FuturesUnordered<_> = (0u32..)
        .zip(addrs.into_iter().take(MAX_ATTEMPTS))
        .map(|(n, addr)| async move {
            if n > 0 {
                runtime.sleep(ATTEMPT_DELAY * n).await;
            }
            runtime.connect_tcp(addr).await
        })
        .collect();
    let mut last = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
    while let Some(attempt) = attempts.next().await {
        match attempt {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(TunnelError::Connect {
        place: place.to_owned(),
        error: last,
    })
}
