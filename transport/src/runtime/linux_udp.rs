//! Linux: a UDP socket that wakes its thread when something came, and not when something has left.
//!
//! Tokio watches every socket for both, and the kernel tells that a packet has left each time one has: a wake-up per
//! packet sent that nobody waits for. This one asks about room only after the kernel had none. It also takes a read
//! that brought fewer packets than it had room for as the last there was, instead of asking once more.

use std::{
    fmt,
    io::{self, IoSliceMut},
    net::{SocketAddr, UdpSocket as StdUdpSocket},
    os::fd::OwnedFd,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit, UdpSocketState},
};
use tokio::io::{Interest, unix::AsyncFd};

use super::linux::watched;

/// A UDP socket in a tokio runtime.
#[derive(Debug)]
pub(super) struct UdpSocket {
    readable: AsyncFd<StdUdpSocket>,
    state: UdpSocketState,
    /// The kernel had no room for the last packet.
    full: AtomicBool,
}

impl UdpSocket {
    pub(super) fn new(socket: StdUdpSocket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self {
            state: UdpSocketState::new((&socket).into())?,
            readable: watched(socket, Interest::READABLE)?,
            full: AtomicBool::new(false),
        })
    }

    fn note(&self, sent: io::Result<()>) -> io::Result<()> {
        let is_full = matches!(&sent, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        // Seldom written: every sender reads it.
        if is_full != self.full.load(Ordering::Relaxed) {
            self.full.store(is_full, Ordering::Relaxed);
        }
        sent
    }
}

impl AsyncUdpSocket for UdpSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Room {
            socket: self,
            waiting: None,
        })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let socket = self.readable.get_ref();
        self.note(self.state.send(socket.into(), transmit))
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.readable.poll_read_ready(cx))?;
            let room = bufs.len().min(meta.len());
            match self.state.recv(ready.get_inner().into(), bufs, meta) {
                Ok(count) => {
                    // What comes from now on rings again: this forgets only what rang before the read.
                    if count < room {
                        ready.clear_ready();
                    }
                    return Poll::Ready(Ok(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.readable.get_ref().local_addr()
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }

    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.state.gro_segments()
    }
}

/// Waits for room, where there was none.
struct Room {
    socket: Arc<UdpSocket>,
    /// Another descriptor of the same socket, which is watched for room alone, and only while somebody waits.
    waiting: Option<AsyncFd<OwnedFd>>,
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room")
            .field("waits", &self.waiting.is_some())
            .finish_non_exhaustive()
    }
}

impl UdpPoller for Room {
    fn poll_writable(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.socket.full.load(Ordering::Relaxed) {
            this.waiting = None;
            return Poll::Ready(Ok(()));
        }
        let waiting = match &this.waiting {
            Some(waiting) => waiting,
            None => {
                let another = OwnedFd::from(this.socket.readable.get_ref().try_clone()?);
                this.waiting.insert(watched(another, Interest::WRITABLE)?)
            }
        };
        let _room = ready!(waiting.poll_write_ready(cx))?;
        this.socket.full.store(false, Ordering::Relaxed);
        this.waiting = None;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    fn pair() -> (Arc<UdpSocket>, Arc<UdpSocket>) {
        let bind = || {
            let socket = StdUdpSocket::bind("127.0.0.1:0").unwrap();
            Arc::new(UdpSocket::new(socket).unwrap())
        };
        (bind(), bind())
    }

    fn send(from: &UdpSocket, to: &UdpSocket, contents: &[u8]) {
        let transmit = Transmit {
            destination: to.local_addr().unwrap(),
            ecn: None,
            contents,
            segment_size: None,
            src_ip: None,
        };
        from.try_send(&transmit).unwrap();
    }

    /// Reads at most `room` packets; what is there is told packet by packet.
    async fn read(socket: &UdpSocket, room: usize) -> Vec<Vec<u8>> {
        let mut memory = vec![[0; 2048]; room];
        let mut meta = vec![RecvMeta::default(); room];
        let mut bufs: Vec<_> = memory.iter_mut().map(|buf| IoSliceMut::new(buf)).collect();
        let count = poll_fn(|cx| socket.poll_recv(cx, &mut bufs, &mut meta)).await;
        let mut packets = Vec::new();
        for (buf, meta) in bufs.iter().zip(&meta).take(count.unwrap()) {
            packets.extend(buf[..meta.len].chunks(meta.stride).map(<[u8]>::to_vec));
        }
        packets
    }

    #[tokio::test]
    async fn nothing_is_left_unread_however_it_came() {
        let (ours, theirs) = pair();
        let mut heard = Vec::new();
        let mut said = Vec::new();
        // Fewer packets than there is room for, as many, more; and one by one, each after the last was read.
        for burst in [3, 4, 11, 1, 1, 1] {
            for _ in 0..burst {
                let packet = vec![u8::try_from(said.len()).unwrap(); 100 + said.len()];
                send(&theirs, &ours, &packet);
                said.push(packet);
            }
            while heard.len() < said.len() {
                heard.extend(read(&ours, 4).await);
            }
        }
        assert_eq!(heard, said);
        // Nothing more, and what comes then is heard by who waits.
        let waiting = tokio::spawn({
            let ours = Arc::clone(&ours);
            async move { read(&ours, 4).await }
        });
        tokio::task::yield_now().await;
        send(&theirs, &ours, b"late");
        assert_eq!(waiting.await.unwrap(), [b"late".to_vec()]);
    }

    #[tokio::test]
    async fn room_is_waited_for_only_after_there_was_none() {
        let (ours, theirs) = pair();
        let mut poller = Arc::clone(&ours).create_io_poller();
        poll_fn(|cx| poller.as_mut().poll_writable(cx))
            .await
            .unwrap();
        assert!(format!("{poller:?}").contains("waits: false"));
        let refused = ours.note(Err(io::ErrorKind::WouldBlock.into()));
        assert!(refused.is_err() && ours.full.load(Ordering::Relaxed));
        // The kernel has room all the while, and says so to a new watcher.
        poll_fn(|cx| poller.as_mut().poll_writable(cx))
            .await
            .unwrap();
        assert!(!ours.full.load(Ordering::Relaxed));
        send(&ours, &theirs, b"now");
        assert_eq!(read(&theirs, 4).await, [b"now".to_vec()]);
    }
}
