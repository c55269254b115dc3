//! TCP over tokio, with small buffers and without Nagle's algorithm.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll, ready},
};

use socket2::SockRef;
use tokio::{io::Interest, net};

use super::tcp::{TcpListener, TcpStream};

/// Bytes that may wait unsent in the system: 33 ms at 1 Mbit/s. The next packets wait in our queue, where they expire
/// and take turns.
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNSENT_BYTES: u32 = 4 * 1024;

/// Where a system cannot bound what is unsent, this bounds unsent and unacknowledged bytes together: 5 Mbit/s at
/// 100 ms of round trip.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// Each write ends a record, so that the kernel does not append to a segment that waits already: that would escape
/// [`UNSENT_BYTES`]. `MSG_EOR` of Linux.
#[cfg(any(target_os = "linux", target_os = "android"))]
const SEND_FLAGS: i32 = 0x80;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const SEND_FLAGS: i32 = 0;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

#[derive(Debug)]
struct Stream {
    stream: net::TcpStream,
    peer: SocketAddr,
}

impl Stream {
    fn tuned(stream: net::TcpStream, peer: SocketAddr) -> Arc<dyn TcpStream> {
        if let Err(error) = tune(&stream) {
            // It works all the same, only later.
            tracing::debug!(%error, "a TCP connection keeps the system's buffers");
        }
        Arc::new(Self { stream, peer })
    }
}

fn tune(stream: &net::TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_notsent_lowat(UNSENT_BYTES)?;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    Ok(())
}

impl TcpStream for Stream {
    fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            match self.stream.try_read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            let sent = self.stream.try_io(Interest::WRITABLE, || {
                SockRef::from(&self.stream).send_with_flags(bytes, SEND_FLAGS)
            });
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn peer_addr(&self) -> SocketAddr {
        self.peer
    }
}

#[derive(Debug)]
struct Listener {
    listener: net::TcpListener,
    local: SocketAddr,
}

impl TcpListener for Listener {
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Arc<dyn TcpStream>>> {
        let (stream, peer) = ready!(self.listener.poll_accept(cx))?;
        Poll::Ready(Ok(Stream::tuned(stream, peer)))
    }

    fn local_addr(&self) -> SocketAddr {
        self.local
    }
}

pub(super) async fn connect(addr: SocketAddr) -> io::Result<Arc<dyn TcpStream>> {
    Ok(Stream::tuned(net::TcpStream::connect(addr).await?, addr))
}

pub(super) fn listen(addr: SocketAddr) -> io::Result<Arc<dyn TcpListener>> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(addr),
        socket2::Type::STREAM,
        Some(socket2::Protocol::TCP),
    )?;
    if addr.ip() == std::net::Ipv6Addr::UNSPECIFIED {
        // As with UDP: `[::]` takes IPv4 too.
        socket.set_only_v6(false)?;
    }
    // A supernode that restarts does not wait for its old connections to be forgotten.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    let listener = net::TcpListener::from_std(socket.into())?;
    let local = listener.local_addr()?;
    Ok(Arc::new(Listener { listener, local }))
}
