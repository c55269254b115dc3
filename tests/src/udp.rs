//! Datagrams by hand, over the socket that a [`Runtime`] gives.

use std::{
    future::poll_fn,
    io::{self, IoSliceMut},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    task::ready,
};

use ahoy_transport::runtime::Runtime;
use quinn::{
    AsyncUdpSocket,
    udp::{EcnCodepoint, RecvMeta, Transmit},
};

/// Longest datagram that [`Udp::recv`] takes whole.
const BUFFER_BYTES: usize = 2048;

/// A UDP socket.
#[derive(Debug, Clone)]
pub struct Udp {
    socket: Arc<dyn AsyncUdpSocket>,
}

/// A datagram that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// Who sent it.
    pub from: SocketAddr,
    /// The address it was sent to.
    pub to: Option<IpAddr>,
    /// Its ECN mark.
    pub ecn: Option<EcnCodepoint>,
    /// Its payload.
    pub contents: Vec<u8>,
}

impl Udp {
    /// Binds a socket.
    ///
    /// # Errors
    /// Whatever the runtime answers.
    pub fn bind(runtime: &dyn Runtime, addr: SocketAddr) -> io::Result<Self> {
        Ok(Self {
            socket: runtime.bind_udp(addr)?,
        })
    }

    /// The address it is bound to.
    ///
    /// # Errors
    /// Whatever the socket answers.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Sends one datagram without an ECN mark.
    ///
    /// # Errors
    /// Whatever the socket answers.
    pub fn send(&self, to: SocketAddr, contents: &[u8]) -> io::Result<()> {
        self.send_as(to, contents, None, None)
    }

    /// Sends `contents`, cut into datagrams of `segment_size` if that is given.
    ///
    /// # Errors
    /// Whatever the socket answers.
    pub fn send_as(
        &self,
        to: SocketAddr,
        contents: &[u8],
        segment_size: Option<usize>,
        ecn: Option<EcnCodepoint>,
    ) -> io::Result<()> {
        self.socket.try_send(&Transmit {
            destination: to,
            ecn,
            contents,
            segment_size,
            src_ip: None,
        })
    }

    /// Waits for a datagram.
    ///
    /// # Errors
    /// Whatever the socket answers.
    pub async fn recv(&self) -> io::Result<Datagram> {
        let mut buffer = [0; BUFFER_BYTES];
        let mut meta = [RecvMeta::default()];
        poll_fn(|cx| {
            let mut bufs = [IoSliceMut::new(&mut buffer)];
            ready!(self.socket.poll_recv(cx, &mut bufs, &mut meta))?;
            std::task::Poll::Ready(Ok::<(), io::Error>(()))
        })
        .await?;
        let [meta] = meta;
        Ok(Datagram {
            from: meta.addr,
            to: meta.dst_ip,
            ecn: meta.ecn,
            contents: buffer[..meta.len].to_vec(),
        })
    }
}
