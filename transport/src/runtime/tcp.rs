//! TCP, as the tunnel needs it: bytes in order, and as few of them as possible that wait in the system.

use std::{
    fmt,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

/// A TCP connection. It closes when dropped. One task reads, one task writes.
pub trait TcpStream: Send + Sync + fmt::Debug {
    /// Takes what has arrived, at least one byte; 0 when the other side has ended.
    fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Hands `bytes` over, at least one of them. Pending while a few packets wait unsent: what waits here can still
    /// expire, what waits in the system cannot.
    fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;

    /// The other end.
    fn peer_addr(&self) -> SocketAddr;
}

/// A TCP port that is listened on.
pub trait TcpListener: Send + Sync + fmt::Debug {
    /// The next connection.
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Arc<dyn TcpStream>>>;

    /// Address and port.
    fn local_addr(&self) -> SocketAddr;
}

/// Future of [`Runtime::connect_tcp`](super::Runtime::connect_tcp).
pub type Connecting<'a> = Pin<Box<dyn Future<Output = io::Result<Arc<dyn TcpStream>>> + Send + 'a>>;

/// For a runtime without TCP.
pub(super) fn unsupported() -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        "there is no TCP in this network",
    )
}
