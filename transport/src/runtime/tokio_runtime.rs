//! The real runtime: tokio's timers and sockets, the operating system's clock and generator.

use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use quinn::{AsyncTimer, AsyncUdpSocket, Runtime as QuinnRuntime};
use rand_core::{OsRng, RngCore};

use super::{Resolving, Runtime};

/// [`Runtime`] over tokio. All methods must be called inside a tokio runtime.
#[derive(Debug, Clone, Copy, Default)]
pub struct TokioRuntime;

impl QuinnRuntime for TokioRuntime {
    fn new_timer(&self, deadline: Instant) -> Pin<Box<dyn AsyncTimer>> {
        quinn::TokioRuntime.new_timer(deadline)
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        quinn::TokioRuntime.spawn(future);
    }

    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        quinn::TokioRuntime.wrap_udp_socket(socket)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place where the real clock enters"
    )]
    fn now(&self) -> Instant {
        Instant::now()
    }
}

impl Runtime for TokioRuntime {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place where the real clock enters"
    )]
    fn unix_millis(&self) -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| {
                u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
            })
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        OsRng.fill_bytes(bytes);
    }

    fn bind_udp(&self, addr: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        self.wrap_udp_socket(std::net::UdpSocket::bind(addr)?)
    }

    fn interface_addrs(&self) -> Vec<IpAddr> {
        match if_addrs::get_if_addrs() {
            Ok(interfaces) => interfaces
                .into_iter()
                .map(|interface| interface.ip())
                .filter(|ip| !is_link_local(*ip))
                .collect(),
            Err(error) => {
                tracing::warn!(%error, "cannot list network interfaces");
                Vec::new()
            }
        }
    }

    fn resolve(&self, host: &str, port: u16) -> Resolving<'_> {
        let host = host.to_owned();
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), port))
                .await?
                .collect();
            if found.is_empty() {
                return Err(io::Error::new(
                    io::ErrorKind::NotFound,
                    format!("the name {host:?} has no address"),
                ));
            }
            Ok(found)
        })
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}
