//! [`RawPort`] over the one port that QUIC uses too.

use std::{
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
};

use ahoy_transport::mux::MuxSocket;
use quinn::AsyncUdpSocket as _;

use super::{Inbound, RawPort};

/// The packets of the one port that are not QUIC.
#[derive(Debug)]
pub struct SharedPort(Arc<MuxSocket>);

impl SharedPort {
    /// Becomes the one reader of what the demultiplexer sets aside.
    #[must_use]
    pub fn new(mux: Arc<MuxSocket>) -> Self {
        Self(mux)
    }
}

impl RawPort for SharedPort {
    fn send(&self, to: SocketAddr, _local: Option<IpAddr>, bytes: &[u8]) {
        self.0.send_other(to, bytes);
    }

    fn ready(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        let mut poller = Arc::clone(&self.0).create_io_poller();
        Box::pin(async move {
            if let Err(error) = std::future::poll_fn(|cx| poller.as_mut().poll_writable(cx)).await {
                tracing::debug!(%error, "the port does not say when it takes packets");
            }
        })
    }

    fn recv(&self) -> Pin<Box<dyn Future<Output = Inbound> + Send + '_>> {
        Box::pin(async {
            let datagram = self.0.recv_other().await;
            Inbound {
                from: datagram.from,
                local: datagram.local,
                bytes: datagram.bytes,
            }
        })
    }

    fn add_channel_source(&self, client: SocketAddr) {
        if let Err(error) = self.0.add_channel_source(client) {
            tracing::warn!(%error, "ChannelData of a client will not be recognised");
        }
    }

    fn remove_channel_source(&self, client: SocketAddr) {
        self.0.remove_channel_source(client);
    }

    fn local_addr(&self) -> SocketAddr {
        self.0.local_addr()
    }
}
