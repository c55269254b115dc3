//! What the tests over real sockets share.

use std::{
    future::Future,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use ahoy_nat::port::{Inbound, RawPort, UdpPort};
use ahoy_transport::runtime::{Runtime, TokioRuntime, timeout};
use tokio::sync::mpsc;

/// Loopback with a free port.
pub(crate) const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// How long anything on loopback may take before a test fails.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);

/// Takes ChannelData out of a port, as the multiplexer does for relay routes.
#[derive(Debug)]
pub(crate) struct TappedPort {
    inner: UdpPort,
    data: mpsc::Sender<Inbound>,
}

impl TappedPort {
    pub(crate) async fn bind(runtime: &dyn Runtime) -> (Arc<dyn RawPort>, Data) {
        let (sender, receiver) = mpsc::channel(4096);
        let inner = UdpPort::new(runtime.bind_udp(LOOPBACK).unwrap())
            .await
            .unwrap();
        (
            Arc::new(Self {
                inner,
                data: sender,
            }),
            Data(Mutex::new(receiver)),
        )
    }
}

/// ChannelData that reached a [`TappedPort`].
#[derive(Debug)]
pub(crate) struct Data(Mutex<mpsc::Receiver<Inbound>>);

impl Data {
    /// The next packet, header included.
    pub(crate) async fn next(&self) -> Vec<u8> {
        let next = std::future::poll_fn(|cx| self.0.lock().unwrap().poll_recv(cx));
        timeout(&TokioRuntime, LIMIT, next)
            .await
            .expect("data in time")
            .unwrap()
            .bytes
            .to_vec()
    }
}

impl RawPort for TappedPort {
    fn send(&self, to: SocketAddr, local: Option<IpAddr>, bytes: &[u8]) {
        self.inner.send(to, local, bytes);
    }

    fn ready(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        self.inner.ready()
    }

    fn recv(&self) -> Pin<Box<dyn Future<Output = Inbound> + Send + '_>> {
        Box::pin(async {
            loop {
                let inbound = self.inner.recv().await;
                if !(0x40..=0x4f).contains(inbound.bytes.first().unwrap_or(&0)) {
                    return inbound;
                }
                drop(self.data.try_send(inbound));
            }
        })
    }

    fn add_channel_source(&self, client: SocketAddr) {
        self.inner.add_channel_source(client);
    }

    fn remove_channel_source(&self, client: SocketAddr) {
        self.inner.remove_channel_source(client);
    }

    fn local_addr(&self) -> SocketAddr {
        self.inner.local_addr()
    }
}

/// ChannelData.
pub(crate) fn channel(number: u16, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).unwrap();
    [&number.to_be_bytes()[..], &length.to_be_bytes(), data].concat()
}
