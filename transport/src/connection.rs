//! One Noise-QUIC connection on one path.
//!
//! A [`Connection`] has a verified other side, streams of *messages* (a QUIC varint length, then the bytes; the
//! reader states the longest it takes) and unreliable datagrams.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use quinn_proto::VarInt;

use crate::{
    endpoint::window::MediaRate,
    mux::{MuxSocket, TableFull, canonical},
    noise::{PeerIdentity, VerifiedPeer},
    wire::{Reader, Writer},
};

/// Longest message that a stream carries, whatever its reader allows, in bytes.
pub const MAX_STREAM_MESSAGE: usize = 1 << 20;

/// Longest prefix of a message: a QUIC varint.
const MAX_PREFIX: usize = 8;

/// Why a connection was closed, as its closer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseCode {
    /// Nothing more to say.
    Done,
    /// The session goes on over other connections.
    Replaced,
    /// The session is over: hung up.
    SessionOver,
    /// The other side broke the protocol.
    ProtocolViolation,
    /// Not allowed here.
    NotAllowed,
    /// Too many connections or requests.
    Overloaded,
    /// The supernode goes away; go to another one.
    Draining,
    /// A defect on the closing side.
    Internal,
    /// A code that this version does not know.
    Unknown(u64),
}

impl CloseCode {
    /// The code on the wire.
    #[must_use]
    pub fn to_wire(self) -> u64 {
        match self {
            Self::Done => 0,
            Self::Replaced => 1,
            Self::SessionOver => 2,
            Self::ProtocolViolation => 3,
            Self::NotAllowed => 4,
            Self::Overloaded => 5,
            Self::Draining => 6,
            Self::Internal => 7,
            Self::Unknown(code) => code,
        }
    }

    /// The meaning of a code on the wire.
    #[must_use]
    pub fn from_wire(code: u64) -> Self {
        match code {
            0 => Self::Done,
            1 => Self::Replaced,
            2 => Self::SessionOver,
            3 => Self::ProtocolViolation,
            4 => Self::NotAllowed,
            5 => Self::Overloaded,
            6 => Self::Draining,
            7 => Self::Internal,
            8.. => Self::Unknown(code),
        }
    }

    fn varint(self) -> VarInt {
        VarInt::from_u64(self.to_wire()).unwrap_or(VarInt::MAX)
    }
}

/// Why a connection is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ConnectionLost {
    /// The other side closed it.
    #[error("the other side closed the connection ({0:?})")]
    ClosedByPeer(CloseCode),
    /// This side closed it.
    #[error("the connection was closed here")]
    ClosedHere,
    /// Nothing came for too long.
    #[error("the connection went silent")]
    TimedOut,
    /// The other side restarted and forgot the connection (RFC 9000 section 10.3).
    #[error("the other side forgot the connection")]
    Reset,
    /// QUIC failed, or the other side refused; the error code of RFC 9000 section 20.1.
    #[error("QUIC error {0:#x}")]
    Transport(u64),
}

impl From<quinn::ConnectionError> for ConnectionLost {
    fn from(error: quinn::ConnectionError) -> Self {
        use quinn::ConnectionError as Error;
        match error {
            Error::ApplicationClosed(close) => {
                Self::ClosedByPeer(CloseCode::from_wire(close.error_code.into_inner()))
            }
            Error::LocallyClosed => Self::ClosedHere,
            Error::TimedOut => Self::TimedOut,
            Error::Reset => Self::Reset,
            Error::TransportError(error) => Self::Transport(error.code.into()),
            Error::ConnectionClosed(close) => Self::Transport(close.error_code.into()),
            // RFC 9000 section 20.1: INTERNAL_ERROR, which both of these are from here.
            Error::VersionMismatch | Error::CidsExhausted => Self::Transport(1),
        }
    }
}

/// Why a message could not be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The connection is gone.
    #[error(transparent)]
    Lost(#[from] ConnectionLost),
    /// The reader closed the stream.
    #[error("the other side stopped reading")]
    Stopped,
    /// The message exceeds [`MAX_STREAM_MESSAGE`], or the datagram [`MAX_DATAGRAM`](crate::endpoint::MAX_DATAGRAM).
    #[error("the message is too long")]
    TooLong,
    /// The stream was finished here.
    #[error("the stream is finished")]
    Finished,
    /// Datagrams are not spoken by the other side.
    #[error("the other side takes no datagrams")]
    Unsupported,
}

impl From<quinn::WriteError> for SendError {
    fn from(error: quinn::WriteError) -> Self {
        use quinn::WriteError as Error;
        match error {
            Error::Stopped(_) => Self::Stopped,
            Error::ConnectionLost(error) => Self::Lost(error.into()),
            Error::ClosedStream | Error::ZeroRttRejected => Self::Finished,
        }
    }
}

impl From<quinn::SendDatagramError> for SendError {
    fn from(error: quinn::SendDatagramError) -> Self {
        use quinn::SendDatagramError as Error;
        match error {
            Error::UnsupportedByPeer | Error::Disabled => Self::Unsupported,
            Error::TooLarge => Self::TooLong,
            Error::ConnectionLost(error) => Self::Lost(error.into()),
        }
    }
}

/// Why a message could not be received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecvError {
    /// The connection is gone.
    #[error(transparent)]
    Lost(#[from] ConnectionLost),
    /// The writer abandoned the stream, or it ended inside a message.
    #[error("the stream ended inside a message")]
    Cut,
    /// The message is longer than the reader takes: the other side broke the protocol.
    #[error("the message is longer than allowed")]
    TooLong,
}

impl From<quinn::ReadError> for RecvError {
    fn from(error: quinn::ReadError) -> Self {
        use quinn::ReadError as Error;
        match error {
            Error::ConnectionLost(error) => Self::Lost(error.into()),
            Error::Reset(_)
            | Error::ClosedStream
            | Error::IllegalOrderedRead
            | Error::ZeroRttRejected => Self::Cut,
        }
    }
}

impl From<quinn::ReadExactError> for RecvError {
    fn from(error: quinn::ReadExactError) -> Self {
        match error {
            quinn::ReadExactError::FinishedEarly(_) => Self::Cut,
            quinn::ReadExactError::ReadError(error) => error.into(),
        }
    }
}

/// Counters of one connection. They count UDP payloads, QUIC's own packets included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConnectionStats {
    /// Smoothed round trip (RFC 9002 section 5.3).
    pub rtt: Duration,
    /// Smallest round trip seen.
    pub min_rtt: Duration,
    /// Datagrams sent.
    pub sent_packets: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Datagrams received.
    pub received_packets: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// QUIC packets that QUIC declared lost.
    pub lost_packets: u64,
    /// Congestion events that QUIC saw.
    pub congestion_events: u64,
    /// Congestion window, in bytes.
    pub congestion_window: u64,
}

/// Keeps an address admitted while it lives.
#[derive(Debug)]
pub(crate) struct Admission {
    mux: Arc<MuxSocket>,
    address: SocketAddr,
}

impl Admission {
    pub(crate) fn new(mux: &Arc<MuxSocket>, address: SocketAddr) -> Result<Self, TableFull> {
        mux.admit(address)?;
        Ok(Self {
            mux: Arc::clone(mux),
            address,
        })
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.mux.revoke(self.address);
    }
}

/// One connection; a handle, cheap to clone. The connection is closed when the last handle goes.
#[derive(Clone)]
pub struct Connection {
    inner: Arc<Inner>,
}

/// Does not keep a connection open.
#[derive(Clone)]
pub(crate) struct WeakConnection(Weak<Inner>);

impl WeakConnection {
    /// Smoothed round trip, while the connection lives.
    pub(crate) fn rtt(&self) -> Option<Duration> {
        let inner = self.0.upgrade()?;
        inner
            .quinn
            .close_reason()
            .is_none()
            .then(|| inner.quinn.rtt())
    }
}

struct Inner {
    quinn: quinn::Connection,
    identity: Arc<PeerIdentity>,
    rate: Arc<MediaRate>,
    _admission: Option<Admission>,
}

impl Connection {
    /// Wraps a connection whose handshake is complete.
    pub(crate) fn new(
        quinn: quinn::Connection,
        rate: Arc<MediaRate>,
        admission: Option<Admission>,
    ) -> Self {
        let identity = quinn
            .peer_identity()
            .and_then(|identity| identity.downcast::<Arc<PeerIdentity>>().ok())
            .expect("our crypto session knows its peer once the handshake is complete");
        Self {
            inner: Arc::new(Inner {
                quinn,
                identity: *identity,
                rate,
                _admission: admission,
            }),
        }
    }

    pub(crate) fn downgrade(&self) -> WeakConnection {
        WeakConnection(Arc::downgrade(&self.inner))
    }

    /// Who the other side is, as the verifier found.
    #[must_use]
    pub fn peer(&self) -> VerifiedPeer {
        self.inner.identity.peer
    }

    /// The handshake that was run, the other side's key and the credential as it was sent.
    #[must_use]
    pub fn identity(&self) -> &PeerIdentity {
        &self.inner.identity
    }

    /// The other side's address; a synthetic one behind a relay route.
    #[must_use]
    pub fn remote_address(&self) -> SocketAddr {
        canonical(self.inner.quinn.remote_address())
    }

    /// Smoothed round trip.
    #[must_use]
    pub fn rtt(&self) -> Duration {
        self.inner.quinn.rtt()
    }

    /// Counters so far.
    #[must_use]
    pub fn stats(&self) -> ConnectionStats {
        let stats = self.inner.quinn.stats();
        ConnectionStats {
            rtt: stats.path.rtt,
            min_rtt: self.inner.quinn.min_rtt(),
            sent_packets: stats.udp_tx.datagrams,
            sent_bytes: stats.udp_tx.bytes,
            received_packets: stats.udp_rx.datagrams,
            received_bytes: stats.udp_rx.bytes,
            lost_packets: stats.path.lost_packets,
            congestion_events: stats.path.congestion_events,
            congestion_window: stats.path.cwnd,
        }
    }

    /// Opens a stream for messages both ways. The other side notices with the first message.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn open_bi(&self) -> Result<(MessageSender, MessageReceiver), ConnectionLost> {
        let (send, recv) = self.inner.quinn.open_bi().await?;
        Ok((MessageSender(send), MessageReceiver(recv)))
    }

    /// The next stream for messages both ways that the other side opened.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn accept_bi(&self) -> Result<(MessageSender, MessageReceiver), ConnectionLost> {
        let (send, recv) = self.inner.quinn.accept_bi().await?;
        Ok((MessageSender(send), MessageReceiver(recv)))
    }

    /// Opens a stream for messages to the other side.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn open_uni(&self) -> Result<MessageSender, ConnectionLost> {
        Ok(MessageSender(self.inner.quinn.open_uni().await?))
    }

    /// The next stream for messages to us that the other side opened.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn accept_uni(&self) -> Result<MessageReceiver, ConnectionLost> {
        Ok(MessageReceiver(self.inner.quinn.accept_uni().await?))
    }

    /// Sends a datagram. One that still waits in quinn gives way.
    ///
    /// # Errors
    /// When it is too long or the connection is gone.
    pub fn send_datagram(&self, datagram: Bytes) -> Result<(), SendError> {
        Ok(self.inner.quinn.send_datagram(datagram)?)
    }

    /// Sends a datagram once quinn has room for it. Dropping the future withdraws the datagram.
    ///
    /// # Errors
    /// When it is too long or the connection is gone.
    pub async fn send_datagram_wait(&self, datagram: Bytes) -> Result<(), SendError> {
        Ok(self.inner.quinn.send_datagram_wait(datagram).await?)
    }

    /// Bytes of datagrams that quinn takes now without dropping any.
    #[must_use]
    pub fn datagram_room(&self) -> usize {
        self.inner.quinn.datagram_send_buffer_space()
    }

    /// The next datagram.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn recv_datagram(&self) -> Result<Bytes, ConnectionLost> {
        Ok(self.inner.quinn.read_datagram().await?)
    }

    /// Waits until the connection is gone.
    pub async fn closed(&self) -> ConnectionLost {
        self.inner.quinn.closed().await.into()
    }

    /// Why the connection is gone, if it is.
    #[must_use]
    pub fn close_reason(&self) -> Option<ConnectionLost> {
        self.inner.quinn.close_reason().map(Into::into)
    }

    /// Closes the connection at once; what waits to be sent is lost. `reason` is for the other side's logs.
    pub fn close(&self, code: CloseCode, reason: &str) {
        self.inner.quinn.close(code.varint(), reason.as_bytes());
    }

    /// 32 bytes that only both ends of this connection know (as RFC 5705).
    #[must_use]
    pub fn exporter(&self, label: &[u8], context: &[u8]) -> [u8; 32] {
        let mut output = [0; 32];
        self.inner
            .quinn
            .export_keying_material(&mut output, label, context)
            .expect("HKDF gives up to 8160 bytes");
        output
    }

    /// Tells the congestion window of a peer connection which media rate to carry, in bits per second. Without
    /// effect on connections to supernodes.
    pub fn set_media_rate(&self, bits_per_second: u64) {
        self.inner.rate.set(bits_per_second);
    }

    /// A number that tells this connection from others of its endpoint.
    #[must_use]
    pub fn stable_id(&self) -> usize {
        self.inner.quinn.stable_id()
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("id", &self.stable_id())
            .field("peer", &self.inner.identity.peer)
            .finish_non_exhaustive()
    }
}

/// Writing end of a stream of messages. Dropping it finishes the stream.
#[derive(Debug)]
pub struct MessageSender(quinn::SendStream);

impl MessageSender {
    /// Sends one message; returns when QUIC has taken it. A dropped future may leave half a message: then the
    /// stream is of no more use.
    ///
    /// # Errors
    /// When it is too long, or nobody will read it.
    pub async fn send(&mut self, message: &[u8]) -> Result<(), SendError> {
        if message.len() > MAX_STREAM_MESSAGE {
            return Err(SendError::TooLong);
        }
        let mut framed = Vec::with_capacity(MAX_PREFIX + message.len());
        framed.put_var_bytes(message);
        Ok(self.0.write_all(&framed).await?)
    }

    /// Ends the stream after what was sent. Doing it twice is no error.
    pub fn finish(&mut self) {
        match self.0.finish() {
            Ok(()) | Err(quinn::ClosedStream { .. }) => {}
        }
    }

    /// Waits until the other side has all of a finished stream, or wants no more of it.
    ///
    /// # Errors
    /// When the connection is gone, or the other side stopped reading.
    pub async fn stopped(&self) -> Result<(), SendError> {
        match self.0.stopped().await {
            Ok(None) => Ok(()),
            Ok(Some(_code)) => Err(SendError::Stopped),
            Err(quinn::StoppedError::ConnectionLost(error)) => Err(SendError::Lost(error.into())),
            Err(quinn::StoppedError::ZeroRttRejected) => Err(SendError::Stopped),
        }
    }
}

/// Reading end of a stream of messages. Dropping it tells the writer to stop.
#[derive(Debug)]
pub struct MessageReceiver(quinn::RecvStream);

impl MessageReceiver {
    /// The next message, at most `max` bytes; `None` at the end of the stream. Not to be dropped half-way.
    ///
    /// # Errors
    /// When the message is too long or cut short, or the connection is gone.
    pub async fn recv(&mut self, max: usize) -> Result<Option<Bytes>, RecvError> {
        let mut prefix = [0; MAX_PREFIX];
        let (first, rest) = prefix.split_at_mut(1);
        if self.0.read(first).await?.is_none() {
            return Ok(None);
        }
        // RFC 9000 section 16: the two highest bits are the length's length.
        let more = (1_usize << (first.first().copied().unwrap_or(0) >> 6)) - 1;
        self.0
            .read_exact(rest.get_mut(..more).unwrap_or_default())
            .await?;
        let len = Reader::new(&prefix)
            .varint()
            .ok()
            .and_then(|len| usize::try_from(len).ok())
            .filter(|len| *len <= max.min(MAX_STREAM_MESSAGE))
            .ok_or(RecvError::TooLong)?;
        let mut message = vec![0; len];
        self.0.read_exact(&mut message).await?;
        Ok(Some(message.into()))
    }
}
