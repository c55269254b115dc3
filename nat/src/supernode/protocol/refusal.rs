//! Why a supernode says no.

use ahoy_transport::wire::WireError;

/// Why a supernode did not do what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The connection showed no certificate, or another device's.
    #[error("registration needs a connection that proved the device's key")]
    NotYours,
    /// No such device is registered here.
    #[error("no such device is registered here")]
    UnknownDevice,
    /// The device registered again since the look-up.
    #[error("the device has registered again: look it up once more")]
    WrongEpoch,
    /// The delivery has been forgotten, or was never this device's.
    #[error("no such delivery")]
    UnknownDelivery,
    /// A table is full.
    #[error("this supernode is full")]
    Full,
    /// Too many requests from this connection.
    #[error("too many requests: slow down")]
    TooFast,
    /// This supernode does not relay.
    #[error("this supernode does not relay")]
    NoRelay,
    /// No supernode proved that key at that address, or it is an address that nobody relays to.
    #[error("the other relay did not prove its key")]
    UnprovenRelay,
    /// The request cannot be read.
    #[error("the request cannot be read by this version")]
    Malformed,
    /// This supernode keeps no mail.
    #[error("this supernode keeps no mail")]
    NoMail,
    /// No room for another letter to this device, of this kind of sender.
    #[error("the device's mailbox is full")]
    BoxFull,
    /// This supernode serves a private network, and the connection showed no pass to one.
    #[error("it serves a private network only: ask for an invite, and `ahoy network join` it")]
    NoPass,
    /// The pass is to another network.
    #[error("it serves another private network than the one that you are in")]
    PassForeign,
    /// The pass is over.
    #[error("your invite to the private network has expired: ask for a new one")]
    PassExpired,
    /// The pass was taken back.
    #[error("your invite to the private network was taken back")]
    PassRevoked,
    /// The invite was used by somebody else before.
    #[error(
        "your invite to the private network was used by somebody else before: say so to whoever made it, and ask for a new one"
    )]
    PassTaken,
    /// The pass is not this connection's, or cannot be read.
    #[error("the pass to the private network is not this device's")]
    PassWrong,
}

impl Refusal {
    /// Every reason, in the order of declaration.
    pub const ALL: [Self; 17] = [
        Self::NotYours,
        Self::UnknownDevice,
        Self::WrongEpoch,
        Self::UnknownDelivery,
        Self::Full,
        Self::TooFast,
        Self::NoRelay,
        Self::UnprovenRelay,
        Self::Malformed,
        Self::NoMail,
        Self::BoxFull,
        Self::NoPass,
        Self::PassForeign,
        Self::PassExpired,
        Self::PassRevoked,
        Self::PassTaken,
        Self::PassWrong,
    ];

    /// Whether it is about a private network that somebody is not let into.
    #[must_use]
    pub fn is_about_a_pass(self) -> bool {
        match self {
            Self::NoPass
            | Self::PassForeign
            | Self::PassExpired
            | Self::PassRevoked
            | Self::PassTaken
            | Self::PassWrong => true,
            Self::NotYours
            | Self::UnknownDevice
            | Self::WrongEpoch
            | Self::UnknownDelivery
            | Self::Full
            | Self::TooFast
            | Self::NoRelay
            | Self::UnprovenRelay
            | Self::Malformed
            | Self::NoMail
            | Self::BoxFull => false,
        }
    }

    /// Its name where refusals are counted.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotYours => "not_yours",
            Self::UnknownDevice => "unknown_device",
            Self::WrongEpoch => "wrong_epoch",
            Self::UnknownDelivery => "unknown_delivery",
            Self::Full => "full",
            Self::TooFast => "too_fast",
            Self::NoRelay => "no_relay",
            Self::UnprovenRelay => "unproven_relay",
            Self::Malformed => "malformed",
            Self::NoMail => "no_mail",
            Self::BoxFull => "box_full",
            Self::NoPass => "no_pass",
            Self::PassForeign => "pass_foreign",
            Self::PassExpired => "pass_expired",
            Self::PassRevoked => "pass_revoked",
            Self::PassTaken => "pass_taken",
            Self::PassWrong => "pass_wrong",
        }
    }
}

impl Refusal {
    pub(super) fn code(self) -> u8 {
        match self {
            Self::NotYours => 1,
            Self::UnknownDevice => 2,
            Self::WrongEpoch => 3,
            Self::UnknownDelivery => 4,
            Self::Full => 5,
            Self::TooFast => 6,
            Self::NoRelay => 7,
            Self::Malformed => 8,
            Self::UnprovenRelay => 9,
            Self::NoMail => 10,
            Self::BoxFull => 11,
            Self::NoPass => 12,
            Self::PassForeign => 13,
            Self::PassExpired => 14,
            Self::PassRevoked => 15,
            Self::PassTaken => 16,
            Self::PassWrong => 17,
        }
    }

    pub(super) fn from_code(code: u8) -> Result<Self, WireError> {
        Self::ALL
            .into_iter()
            .find(|refusal| refusal.code() == code)
            .ok_or(WireError::Undefined)
    }
}
