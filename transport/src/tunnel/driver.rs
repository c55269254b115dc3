//! Between a TCP connection and the mux.

use std::{future::poll_fn, io, net::SocketAddr, pin::pin, sync::Arc, task::Poll, time::Duration};

use super::{
    TunnelError,
    frame::{Deframer, FrameError, Framing},
    proxy::{Proxy, Step},
};
use crate::{
    identity::Host,
    mux::{MuxSocket, TunnelPort},
    runtime::{Runtime, RuntimeExt, TcpStream},
};

/// Bytes of one read.
const READ_BYTES: usize = 8 * 1024;
/// Bytes of one read of a proxy's answer.
const PROXY_READ_BYTES: usize = 1024;
/// The other side takes something within this, or is gone.
const WRITE_DEADLINE: Duration = Duration::from_secs(20);
/// How often a connection is looked at, at least.
const LOOK: Duration = Duration::from_secs(2);

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    /// The other side ended it.
    #[error("closed by the other side")]
    Closed,
    /// The system says so.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The other side speaks something else.
    #[error("not our protocol: {0}")]
    Frame(#[from] FrameError),
    /// Nothing came for too long.
    #[error("idle")]
    Idle,
    /// A datagram was begun and not ended.
    #[error("half a packet, and no more")]
    SlowFrame,
    /// The other side does not take what is sent.
    #[error("the other side does not read")]
    Stalled,
}

/// How long a connection may be idle.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Without anything to show for itself.
    pub(super) idle: Duration,
    /// As long as an allocation of our relay belongs to it, which has a lifetime of its own.
    pub(super) idle_with_allocation: Duration,
    /// How long a datagram that has begun may take.
    pub(super) frame: Duration,
}

impl Limits {
    pub(super) fn client(idle: Duration) -> Self {
        Self {
            idle,
            idle_with_allocation: idle,
            frame: super::server::FRAME_DEADLINE,
        }
    }
}

/// One connection and its place in the mux.
#[derive(Debug)]
pub(super) struct Carrier {
    pub(super) runtime: Arc<dyn Runtime>,
    pub(super) mux: Arc<MuxSocket>,
    pub(super) stream: Arc<dyn TcpStream>,
    pub(super) framing: Framing,
    pub(super) addr: SocketAddr,
    pub(super) port: Arc<TunnelPort>,
    pub(super) limits: Limits,
}

impl Carrier {
    /// Carries both ways until something ends it. `hello` is written first, `early` has been read already.
    pub(super) async fn run(&self, hello: &[u8], early: &[u8]) -> End {
        let result = tokio::select! {
            biased;
            result = self.read(early) => result,
            result = self.write(hello) => result,
        };
        match result {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn read(&self, early: &[u8]) -> Result<std::convert::Infallible, End> {
        let mut deframer = Deframer::new(self.framing);
        let mut buffer = vec![0; READ_BYTES];
        deframer.input(early);
        self.hand_over(&mut deframer)?;
        let mut heard = self.runtime.now();
        let mut begun = deframer.is_inside().then_some(heard);
        let pause = LOOK.min(self.limits.idle).min(self.limits.frame);
        let mut look = pin!(self.runtime.sleep(pause));
        loop {
            let count = tokio::select! {
                biased;
                count = poll_fn(|cx| self.stream.poll_read(cx, &mut buffer)) => count?,
                () = &mut look => {
                    let now = self.runtime.now();
                    look.set(self.runtime.sleep(pause));
                    self.check(now - heard, begun.map(|begun| now - begun))?;
                    continue;
                }
            };
            if count == 0 {
                return Err(End::Closed);
            }
            heard = self.runtime.now();
            deframer.input(buffer.get(..count).unwrap_or_default());
            let whole = self.hand_over(&mut deframer)?;
            begun = match (deframer.is_inside(), whole, begun) {
                (false, _, _) => None,
                (true, 0, Some(begun)) => Some(begun),
                (true, _, _) => Some(heard),
            };
            // Whoever sends byte by byte is never silent.
            self.check(Duration::ZERO, begun.map(|begun| heard - begun))?;
        }
    }

    fn check(&self, silent: Duration, inside: Option<Duration>) -> Result<(), End> {
        if inside.is_some_and(|inside| inside > self.limits.frame) {
            return Err(End::SlowFrame);
        }
        let limits = self.limits;
        if silent > limits.idle
            && (silent > limits.idle_with_allocation || !self.mux.is_channel_source(self.addr))
        {
            return Err(End::Idle);
        }
        Ok(())
    }

    /// Returns how many datagrams were whole.
    fn hand_over(&self, deframer: &mut Deframer) -> Result<usize, FrameError> {
        let mut count = 0;
        while let Some(datagram) = deframer.next_datagram()? {
            self.mux.tunnel_input(self.addr, &self.port, datagram);
            count += 1;
        }
        Ok(count)
    }

    async fn write(&self, hello: &[u8]) -> Result<std::convert::Infallible, End> {
        self.write_all(hello).await?;
        let mut frame = Vec::new();
        loop {
            let Some(datagram) = self.port.pop(self.runtime.now()) else {
                self.port.filled.notified().await;
                continue;
            };
            frame.clear();
            if !self.framing.encode(&datagram, &mut frame) {
                tracing::debug!(bytes = datagram.len(), "a packet does not fit the tunnel");
                continue;
            }
            self.write_all(&frame).await?;
        }
    }

    async fn write_all(&self, mut bytes: &[u8]) -> Result<(), End> {
        while !bytes.is_empty() {
            // Most writes need no timer.
            let at_once = poll_fn(|cx| Poll::Ready(self.stream.poll_write(cx, bytes))).await;
            let written = match at_once {
                Poll::Ready(written) => written?,
                Poll::Pending => tokio::select! {
                    biased;
                    written = poll_fn(|cx| self.stream.poll_write(cx, bytes)) => written?,
                    () = self.runtime.sleep(WRITE_DEADLINE) => return Err(End::Stalled),
                },
            };
            if written == 0 {
                return Err(End::Closed);
            }
            bytes = bytes.get(written..).unwrap_or_default();
        }
        Ok(())
    }
}

/// Has a proxy connect; returns what it sent after its answer.
pub(super) async fn ask_proxy(
    stream: &Arc<dyn TcpStream>,
    proxy: &Proxy,
    host: &Host,
    port: u16,
) -> Result<Vec<u8>, TunnelError> {
    let failed = |error| TunnelError::Connect {
        place: format!("the proxy {}", proxy.place()),
        error,
    };
    let mut asking = proxy.ask(host, port);
    let mut buffer = vec![0; PROXY_READ_BYTES];
    let mut step = asking.begin();
    loop {
        let to_send = match step {
            Step::Done { early } => return Ok(early),
            Step::Wait => Vec::new(),
            Step::Send(bytes) => bytes,
        };
        let mut rest = to_send.as_slice();
        while !rest.is_empty() {
            let written = poll_fn(|cx| stream.poll_write(cx, rest))
                .await
                .map_err(failed)?;
            rest = rest.get(written..).unwrap_or_default();
        }
        let count = poll_fn(|cx| stream.poll_read(cx, &mut buffer))
            .await
            .map_err(failed)?;
        step = asking.input(buffer.get(..count).unwrap_or_default())?;
    }
}
