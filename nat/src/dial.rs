//! Reaching a supernode by UDP or, where that does not get through, by a tunnel over TCP: both are tried, and the
//! first that completes a handshake is used.
//!
//! TCP starts a little later, so that it is not used where UDP works; it costs that little where UDP does not, not a
//! time-out.

use std::{net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use ahoy_transport::{
    connection::Connection,
    endpoint::{ConnectError, Endpoint, NodeAuth},
    identity::NodeId,
    runtime::RuntimeExt,
    tunnel::{Tunnel, TunnelError, TunnelTarget},
};

/// UDP's lead. Longer than nearly every round trip to a supernode; a person who waits for a call hardly notices it.
pub const TCP_AFTER: Duration = Duration::from_millis(300);

/// Which ways to a supernode may be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ways {
    /// UDP, and TCP if that does not answer at once.
    #[default]
    Both,
    /// UDP alone.
    Udp,
    /// TCP alone.
    Tcp,
}

impl Ways {
    /// Whether UDP is one of them.
    #[must_use]
    pub fn udp(self) -> bool {
        match self {
            Self::Both | Self::Udp => true,
            Self::Tcp => false,
        }
    }

    /// Whether TCP is one of them.
    #[must_use]
    pub fn tcp(self) -> bool {
        match self {
            Self::Both | Self::Tcp => true,
            Self::Udp => false,
        }
    }
}

/// Where a supernode is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePlace {
    /// By UDP; unspecified where the name could not be looked up and only a proxy can.
    pub udp: SocketAddr,
    /// By a tunnel, if it has a TCP port.
    pub tcp: Option<TunnelTarget>,
}

impl NodePlace {
    /// A supernode that is reached by UDP alone.
    #[must_use]
    pub fn by_udp(udp: SocketAddr) -> Self {
        Self { udp, tcp: None }
    }
}

/// A connection to a supernode, and what it goes through.
#[derive(Debug, Clone)]
pub struct Dialled {
    /// The connection.
    pub connection: Connection,
    /// The tunnel; `None` over UDP. It is open as long as somebody holds it.
    pub tunnel: Option<Arc<Tunnel>>,
}

/// Why a supernode was not reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// By UDP, the only way tried.
    #[error("by UDP: {0}")]
    Udp(ConnectError),
    /// By TCP, the only way tried.
    #[error("by TCP: {0}")]
    Tcp(TcpError),
    /// By neither.
    #[error("by UDP: {udp}; by TCP: {tcp}")]
    Both {
        /// Why not by UDP.
        udp: ConnectError,
        /// Why not by TCP.
        tcp: TcpError,
    },
    /// TCP is asked for and the supernode names no TCP port.
    #[error("the supernode's link names no TCP port (it would end in ?tcp=443 or the like)")]
    NoTcpPort,
    /// Its name cannot be looked up, and only UDP is asked for.
    #[error("the supernode's name has no address here")]
    NoAddress,
}

/// Why a supernode was not reached through a tunnel.
#[derive(Debug, thiserror::Error)]
pub enum TcpError {
    /// No tunnel.
    #[error(transparent)]
    Tunnel(#[from] TunnelError),
    /// A tunnel, and no supernode at its end.
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

/// Reaches `node`, which must prove its key.
///
/// # Errors
/// When no way that may be tried leads there.
pub async fn dial(
    endpoint: &Endpoint,
    node: NodeId,
    place: &NodePlace,
    auth: NodeAuth,
    ways: Ways,
) -> Result<Dialled, DialError> {
    let runtime = endpoint.runtime();
    let target = place.tcp.as_ref().filter(|_target| ways.tcp());
    let use_udp = ways.udp() && !place.udp.ip().is_unspecified();
    let by_udp = async {
        let connection = endpoint.connect_node(place.udp, node, auth.clone()).await?;
        Ok::<_, ConnectError>(Dialled {
            connection,
            tunnel: None,
        })
    };
    let by_tcp = async |target: &TunnelTarget| {
        let tunnel = Tunnel::open(runtime, endpoint.mux(), target).await?;
        let connection = endpoint
            .connect_node(tunnel.addr(), node, auth.clone())
            .await?;
        Ok::<_, TcpError>(Dialled {
            connection,
            tunnel: Some(Arc::new(tunnel)),
        })
    };
    let target = match (use_udp, target) {
        (false, None) if ways == Ways::Tcp => return Err(DialError::NoTcpPort),
        (false, None) => return Err(DialError::NoAddress),
        (true, None) => return by_udp.await.map_err(DialError::Udp),
        (false, Some(target)) => return by_tcp(target).await.map_err(DialError::Tcp),
        (true, Some(target)) => target,
    };
    let mut by_udp = pin!(by_udp);
    let no_udp = tokio::select! {
        biased;
        dialled = &mut by_udp => match dialled {
            Ok(dialled) => return Ok(dialled),
            Err(error) => Some(error),
        },
        () = runtime.sleep(TCP_AFTER) => None,
    };
    let mut by_tcp = pin!(by_tcp(target));
    let udp = match no_udp {
        Some(error) => error,
        None => tokio::select! {
            biased;
            dialled = &mut by_udp => match dialled {
                Ok(dialled) => return Ok(dialled),
                Err(error) => error,
            },
            dialled = &mut by_tcp => match dialled {
                Ok(dialled) => return Ok(dialled),
                Err(tcp) => return by_udp.await.map_err(|udp| DialError::Both { udp, tcp }),
            },
        },
    };
    by_tcp.await.map_err(|tcp| DialError::Both { udp, tcp })
}
