//! What the relay did and what it refused to do.

/// Traffic of one allocation, or of all of them, as payload: no UDP, STUN or ChannelData headers. It counts what
/// the relay decided to pass on; what the socket then refused is also in [`Drop::SendFailed`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Datagrams from the client towards peers that were passed on.
    pub packets_from_client: u64,
    /// Their payload bytes.
    pub bytes_from_client: u64,
    /// Datagrams from peers that were passed on to the client.
    pub packets_to_client: u64,
    /// Their payload bytes.
    pub bytes_to_client: u64,
}

impl Traffic {
    pub(super) fn count_from_client(&mut self, bytes: usize) {
        self.packets_from_client += 1;
        self.bytes_from_client += bytes as u64;
    }

    pub(super) fn count_to_client(&mut self, bytes: usize) {
        self.packets_to_client += 1;
        self.bytes_to_client += bytes as u64;
    }
}

/// Why a packet was dropped without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Drop {
    /// Neither STUN nor ChannelData, or malformed.
    Malformed,
    /// A STUN method, class or attribute that asks for silence.
    Unsupported,
    /// From a client without an allocation.
    NoAllocation,
    /// On a channel that is not bound, or no longer.
    NoChannel,
    /// To or from a peer without a permission.
    NoPermission,
    /// Towards this relay's own address, at a port where no allocation is.
    NoSuchRelayedAddress,
    /// Above the bytes per second of its allocation, or of the relay.
    OverRate,
    /// Longer than the relay carries.
    TooLong,
    /// A reply to an unauthenticated request that its source had too many of.
    ReplyLimit,
    /// The socket would not take it.
    SendFailed,
}

impl Drop {
    /// Every reason, in the order of declaration.
    pub const ALL: [Self; 10] = [
        Self::Malformed,
        Self::Unsupported,
        Self::NoAllocation,
        Self::NoChannel,
        Self::NoPermission,
        Self::NoSuchRelayedAddress,
        Self::OverRate,
        Self::TooLong,
        Self::ReplyLimit,
        Self::SendFailed,
    ];

    /// Its name where drops are counted.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Unsupported => "unsupported",
            Self::NoAllocation => "no_allocation",
            Self::NoChannel => "no_channel",
            Self::NoPermission => "no_permission",
            Self::NoSuchRelayedAddress => "no_such_relayed_address",
            Self::OverRate => "over_rate",
            Self::TooLong => "too_long",
            Self::ReplyLimit => "reply_limit",
            Self::SendFailed => "send_failed",
        }
    }
}

/// Counters of the whole relay since it started. They never go back, not even when allocations end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RelayCounters {
    /// Traffic of all allocations, ended ones included.
    pub traffic: Traffic,
    /// Of `traffic`, datagrams from a client whose peer is an allocation on this relay. They count once in
    /// `packets_from_client` and once in `packets_to_client`, like the others.
    pub packets_in_process: u64,
    /// Payload bytes that were passed on, each packet once: what the relay's owner gives of the line.
    pub bytes_passed_on: u64,
    /// Binding requests answered.
    pub bindings: u64,
    /// Allocations made.
    pub allocations_opened: u64,
    /// Allocations ended, by expiry, deletion or a dead socket.
    pub allocations_closed: u64,
    /// Allocations live at this moment.
    pub allocations_live: u64,
    /// Error responses sent, 401 and 438 included.
    pub errors: u64,
    drops: [u64; Drop::ALL.len()],
}

impl RelayCounters {
    /// Packets dropped for `reason`.
    #[must_use]
    pub fn dropped(&self, reason: Drop) -> u64 {
        self.drops.get(reason as usize).copied().unwrap_or(0)
    }

    /// Packets dropped for any reason.
    #[must_use]
    pub fn dropped_total(&self) -> u64 {
        self.drops.iter().sum()
    }

    pub(super) fn drop(&mut self, reason: Drop) {
        if let Some(counter) = self.drops.get_mut(reason as usize) {
            *counter += 1;
        }
        tracing::trace!(?reason, "relay dropped a packet");
    }
}
