//! STUN messages (RFC 8489), read strictly and written in one pass, on `rtc-stun`'s types.
//!
//! `rtc-stun` parses and authenticates; this module adds what a server on the open internet needs: a size
//! bound before anything is allocated, no trailing bytes, no attribute that follows MESSAGE-INTEGRITY
//! (RFC 8489 section 14.5), addresses of exactly the right length, and transaction ids that the caller
//! draws, so that the same seed gives the same bytes.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rtc_stun::{
    attributes::{
        ATTR_FINGERPRINT, ATTR_MESSAGE_INTEGRITY, ATTR_USERNAME, ATTR_XORMAPPED_ADDRESS, AttrType,
    },
    crypto::providers::RingCrypto,
    error_code::{ErrorCode, ErrorCodeAttribute},
    fingerprint::FINGERPRINT,
    integrity::MessageIntegrity,
    message::{
        Getter, MAGIC_COOKIE, MESSAGE_HEADER_SIZE, Message, MessageClass, MessageType, Method,
        Setter, TransactionId,
    },
    xoraddr::XorMappedAddress,
};

/// Longest STUN message that is parsed, in bytes. A Send indication carries one datagram of at most an
/// Ethernet frame; everything else is far shorter.
pub(crate) const MAX_STUN_BYTES: usize = 2048;

/// Where ChannelData begins: its first byte is 0x40 to 0x7f (RFC 8656 section 12).
const CHANNEL_FIRST_BYTES: std::ops::RangeInclusive<u8> = 0x40..=0x7f;

/// Bytes of a ChannelData header: channel number and length (RFC 8656 section 12.4).
pub(crate) const CHANNEL_HEADER_BYTES: usize = 4;

static CRYPTO: RingCrypto = RingCrypto;

/// Key of MESSAGE-INTEGRITY under long-term credentials: MD5 of `username:realm:password`
/// (RFC 8489 section 9.2.2).
pub(crate) type IntegrityKey = [u8; 16];

/// Derives the key that both sides of a long-term credential use.
pub(crate) fn long_term_key(username: &str, realm: &str, password: &str) -> IntegrityKey {
    let key = MessageIntegrity::long_term_integrity_key(
        username.to_owned(),
        realm.to_owned(),
        password.to_owned(),
        &CRYPTO,
    );
    key.ok()
        .and_then(|key| key.try_into().ok())
        .expect("the provider has MD5, whose digest is 16 bytes")
}

/// Whether `packet` can only be ChannelData or QUIC, never STUN.
pub(crate) fn is_channel_data(packet: &[u8]) -> bool {
    packet
        .first()
        .is_some_and(|byte| CHANNEL_FIRST_BYTES.contains(byte))
}

/// Splits ChannelData into channel number and payload; padding after the payload is dropped.
pub(crate) fn parse_channel_data(packet: &[u8]) -> Option<(u16, &[u8])> {
    let (header, rest) = packet.split_first_chunk::<CHANNEL_HEADER_BYTES>()?;
    let [a, b, c, d] = *header;
    let payload = rest.get(..usize::from(u16::from_be_bytes([c, d])))?;
    Some((u16::from_be_bytes([a, b]), payload))
}

/// What a packet on the raw port is, by its first bytes; nothing is checked yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind<'a> {
    /// A request; `ufrag` is there when its USERNAME is `local-ufrag:remote-ufrag`, as in ICE checks
    /// (RFC 8445 section 7.2.2).
    Request {
        ufrag: Option<&'a str>,
    },
    Indication,
    Response,
    ChannelData,
    /// Neither STUN nor ChannelData.
    Other,
}

/// Sorts a packet by its first bytes.
pub(crate) fn classify(packet: &[u8]) -> Kind<'_> {
    if is_channel_data(packet) {
        return Kind::ChannelData;
    }
    let Some((header, body)) = packet.split_first_chunk::<MESSAGE_HEADER_SIZE>() else {
        return Kind::Other;
    };
    let [high, low, _, _, c0, c1, c2, c3, ..] = *header;
    if high & 0xc0 != 0 || [c0, c1, c2, c3] != MAGIC_COOKIE.to_be_bytes() {
        return Kind::Other;
    }
    match (high & 1, low & 0x10) {
        (0, 0) => Kind::Request {
            ufrag: peek_ufrag(body),
        },
        (0, _) => Kind::Indication,
        _ => Kind::Response,
    }
}

fn peek_ufrag(mut attributes: &[u8]) -> Option<&str> {
    while let Some((header, rest)) = attributes.split_first_chunk::<4>() {
        let [t0, t1, l0, l1] = *header;
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        if AttrType(u16::from_be_bytes([t0, t1])) == ATTR_USERNAME {
            let username = std::str::from_utf8(rest.get(..length)?).ok()?;
            return username.split_once(':').map(|(ufrag, _)| ufrag);
        }
        attributes = rest.get(length.next_multiple_of(4)..)?;
    }
    None
}

/// What is wrong with bytes that should have been a STUN message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StunError {
    /// Not STUN at all: wrong first bits, cookie or length.
    #[error("not a STUN message")]
    NotStun,
    /// Longer than any message this program handles.
    #[error("the STUN message is too long")]
    TooLong,
    /// An attribute runs over the end.
    #[error("a STUN attribute is malformed")]
    Malformed,
    /// FINGERPRINT is there and does not match.
    #[error("the STUN fingerprint does not match")]
    Fingerprint,
}

/// A received message whose framing is sound; nothing in it is authenticated until [`Stun::verify`].
#[derive(Debug)]
pub(crate) struct Stun {
    message: Message,
    /// Attributes before and including MESSAGE-INTEGRITY; later ones must be ignored.
    visible: usize,
}

impl Stun {
    /// Reads one message that fills `packet` exactly.
    pub(crate) fn parse(packet: &[u8]) -> Result<Self, StunError> {
        let (header, body) = packet
            .split_first_chunk::<MESSAGE_HEADER_SIZE>()
            .ok_or(StunError::NotStun)?;
        let [first, _, length_high, length_low, c0, c1, c2, c3, ..] = *header;
        let length = usize::from(u16::from_be_bytes([length_high, length_low]));
        if first & 0xc0 != 0
            || [c0, c1, c2, c3] != MAGIC_COOKIE.to_be_bytes()
            || length != body.len()
            || !length.is_multiple_of(4)
        {
            return Err(StunError::NotStun);
        }
        if packet.len() > MAX_STUN_BYTES {
            return Err(StunError::TooLong);
        }
        let mut message = Message::new();
        message
            .unmarshal_binary(packet)
            .map_err(|_text| StunError::Malformed)?;
        let attributes = &message.attributes.0;
        let visible = attributes
            .iter()
            .position(|attribute| attribute.typ == ATTR_MESSAGE_INTEGRITY)
            .map_or(attributes.len(), |at| at + 1);
        if let Some(at) = attributes.iter().position(|a| a.typ == ATTR_FINGERPRINT) {
            // Section 14.7: it is the last attribute.
            if at + 1 != attributes.len() || FINGERPRINT.check(&message).is_err() {
                return Err(StunError::Fingerprint);
            }
        }
        Ok(Self { message, visible })
    }

    /// Bytes of the whole message.
    pub(crate) fn len(&self) -> usize {
        self.message.raw.len()
    }

    pub(crate) fn class(&self) -> MessageClass {
        self.message.typ.class
    }

    pub(crate) fn method(&self) -> Method {
        self.message.typ.method
    }

    pub(crate) fn transaction(&self) -> TransactionId {
        self.message.transaction_id
    }

    fn visible(&self) -> impl Iterator<Item = &rtc_stun::attributes::RawAttribute> {
        self.message.attributes.0.iter().take(self.visible)
    }

    /// The first value of an attribute.
    pub(crate) fn attribute(&self, typ: AttrType) -> Option<&[u8]> {
        self.visible()
            .find(|attribute| attribute.typ == typ)
            .map(|attribute| attribute.value.as_slice())
    }

    /// An attribute of exactly four bytes.
    pub(crate) fn word(&self, typ: AttrType) -> Option<[u8; 4]> {
        self.attribute(typ).and_then(|value| value.try_into().ok())
    }

    /// A text attribute, if it is UTF-8.
    pub(crate) fn text(&self, typ: AttrType) -> Option<&str> {
        self.attribute(typ)
            .and_then(|value| std::str::from_utf8(value).ok())
    }

    pub(crate) fn has_fingerprint(&self) -> bool {
        self.message
            .attributes
            .0
            .last()
            .is_some_and(|attribute| attribute.typ == ATTR_FINGERPRINT)
    }

    /// Every address attribute of one type, XOR-ed back (RFC 8489 section 14.2); a malformed one is an
    /// error, not skipped.
    pub(crate) fn xor_addresses(&self, typ: AttrType) -> Result<Vec<SocketAddr>, StunError> {
        self.visible()
            .filter(|attribute| attribute.typ == typ)
            .map(|attribute| {
                decode_xor_address(&attribute.value, self.transaction()).ok_or(StunError::Malformed)
            })
            .collect()
    }

    /// The first address attribute of one type.
    pub(crate) fn xor_address(&self, typ: AttrType) -> Option<SocketAddr> {
        decode_xor_address(self.attribute(typ)?, self.transaction())
    }

    /// An address attribute as it is, in the format of MAPPED-ADDRESS (RFC 8489 section 14.1).
    pub(crate) fn plain_address(&self, typ: AttrType) -> Option<SocketAddr> {
        let (header, octets) = self.attribute(typ)?.split_first_chunk::<4>()?;
        let [_, family, port_high, port_low] = *header;
        let ip: IpAddr = match family {
            1 => <[u8; 4]>::try_from(octets).ok()?.into(),
            2 => <[u8; 16]>::try_from(octets).ok()?.into(),
            _ => return None,
        };
        Some(SocketAddr::new(
            ip,
            u16::from_be_bytes([port_high, port_low]),
        ))
    }

    /// The observed address in a Binding or Allocate response.
    pub(crate) fn mapped_address(&self) -> Option<SocketAddr> {
        self.xor_address(ATTR_XORMAPPED_ADDRESS)
    }

    /// The error code of an error response, with `300..=699` as its range.
    pub(crate) fn error_code(&self) -> Option<u16> {
        let mut error = ErrorCodeAttribute::default();
        error.get_from(&self.message).ok()?;
        (300..=699).contains(&error.code.0).then_some(error.code.0)
    }

    /// Comprehension-required attributes that are not in `known` (RFC 8489 section 6.3.1).
    pub(crate) fn unknown_required(&self, known: &[AttrType]) -> Vec<AttrType> {
        self.visible()
            .map(|attribute| attribute.typ)
            .filter(|typ| typ.required() && !known.contains(typ))
            .collect()
    }

    /// Whether MESSAGE-INTEGRITY is there and matches `key`.
    pub(crate) fn verify(&mut self, key: &[u8]) -> bool {
        MessageIntegrity::check(&mut self.message, key, &CRYPTO).is_ok()
    }
}

fn decode_xor_address(value: &[u8], transaction: TransactionId) -> Option<SocketAddr> {
    let (header, address) = value.split_first_chunk::<4>()?;
    let [_, family, port_high, port_low] = *header;
    let cookie = MAGIC_COOKIE.to_be_bytes();
    let [cookie_high, cookie_low, ..] = cookie;
    let port = u16::from_be_bytes([port_high ^ cookie_high, port_low ^ cookie_low]);
    let mask: Vec<u8> = cookie.into_iter().chain(transaction.0).collect();
    let plain: Vec<u8> = address.iter().zip(mask).map(|(a, b)| a ^ b).collect();
    let ip = match (family, address.len()) {
        (1, 4) => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(plain).ok()?)),
        (2, 16) => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(plain).ok()?)),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// Writes one message, attribute by attribute.
#[derive(Debug)]
pub(crate) struct Builder {
    message: Message,
}

impl Builder {
    pub(crate) fn new(method: Method, class: MessageClass, transaction: TransactionId) -> Self {
        let mut message = Message::new();
        message.typ = MessageType::new(method, class);
        message.transaction_id = transaction;
        message.write_header();
        Self { message }
    }

    pub(crate) fn attribute(mut self, typ: AttrType, value: &[u8]) -> Self {
        self.message.add(typ, value);
        self
    }

    pub(crate) fn xor_address(mut self, typ: AttrType, addr: SocketAddr) -> Self {
        XorMappedAddress {
            ip: addr.ip(),
            port: addr.port(),
        }
        .add_to_as(&mut self.message, typ)
        .expect("an address attribute always fits");
        self
    }

    /// ERROR-CODE with the registered reason phrase.
    pub(crate) fn error(mut self, code: ErrorCode) -> Self {
        code.add_to(&mut self.message)
            .expect("every code used here has a registered reason phrase");
        self
    }

    /// Closes the message: MESSAGE-INTEGRITY if a key is given, then FINGERPRINT if asked for.
    pub(crate) fn finish(mut self, key: Option<&IntegrityKey>, fingerprint: bool) -> Vec<u8> {
        if let Some(key) = key {
            MessageIntegrity::new_raw_integrity_with_provider(key.to_vec(), &CRYPTO)
                .add_to(&mut self.message)
                .expect("HMAC-SHA1 takes any key, and FINGERPRINT comes after it");
        }
        if fingerprint {
            FINGERPRINT
                .add_to(&mut self.message)
                .expect("a checksum always fits");
        }
        self.message.raw
    }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test may panic")]
mod tests {
    use proptest::prelude::*;
    use rtc_stun::{
        attributes::{ATTR_DATA, ATTR_SOFTWARE, ATTR_XOR_PEER_ADDRESS},
        message::{CLASS_REQUEST, METHOD_BINDING},
    };

    use super::*;

    const ID: TransactionId = TransactionId(*b"abcdefghijkl");

    #[test]
    fn attributes_after_message_integrity_are_not_seen() {
        let key = long_term_key("u", "r", "p");
        let mut message = Message::new();
        message
            .unmarshal_binary(
                &Builder::new(METHOD_BINDING, CLASS_REQUEST, ID).finish(Some(&key), false),
            )
            .unwrap();
        message.add(ATTR_SOFTWARE, b"late");
        let mut stun = Stun::parse(&message.raw).unwrap();
        assert_eq!(stun.attribute(ATTR_SOFTWARE), None);
        assert!(stun.verify(&key));
        assert!(!stun.verify(&long_term_key("u", "r", "q")));
    }

    #[test]
    fn trailing_bytes_and_wrong_fingerprints_are_refused() {
        let mut packet = Builder::new(METHOD_BINDING, CLASS_REQUEST, ID).finish(None, true);
        assert!(Stun::parse(&packet).unwrap().has_fingerprint());
        packet.extend_from_slice(&[0; 4]);
        assert_eq!(Stun::parse(&packet).unwrap_err(), StunError::NotStun);
        packet.truncate(packet.len() - 4);
        *packet.last_mut().unwrap() ^= 1;
        assert_eq!(Stun::parse(&packet).unwrap_err(), StunError::Fingerprint);
    }

    #[test]
    fn integrity_matches_the_long_term_vector_of_rfc_5769() {
        // Section 2.4; the password is given after SASL preparation.
        let key = long_term_key(
            "\u{30DE}\u{30C8}\u{30EA}\u{30C3}\u{30AF}\u{30B9}",
            "example.org",
            "TheMatrIX",
        );
        let mut request = Builder::new(
            METHOD_BINDING,
            CLASS_REQUEST,
            TransactionId([
                0x78, 0xad, 0x34, 0x33, 0xc6, 0xad, 0x72, 0xc0, 0x29, 0xda, 0x41, 0x2e,
            ]),
        )
        .attribute(
            ATTR_USERNAME,
            "\u{30DE}\u{30C8}\u{30EA}\u{30C3}\u{30AF}\u{30B9}".as_bytes(),
        )
        .attribute(
            rtc_stun::attributes::ATTR_NONCE,
            b"f//499k954d6OL34oL9FSTvy64sA",
        )
        .attribute(rtc_stun::attributes::ATTR_REALM, b"example.org")
        .finish(Some(&key), false);
        let mac = request.split_off(request.len() - 20);
        assert_eq!(
            mac,
            [
                0xf6, 0x70, 0x24, 0x65, 0x6d, 0xd6, 0x4a, 0x3e, 0x02, 0xb8, 0xe0, 0x71, 0x2e, 0x85,
                0xc9, 0xa2, 0x8c, 0xa8, 0x96, 0x66,
            ]
        );
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), key: [u8; 16]) {
            let mut framed = bytes.clone();
            if framed.len() >= 20 {
                framed[0] &= 0x3f;
                framed[4..8].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
                let length = (framed.len() - 20) / 4 * 4;
                framed.truncate(20 + length);
                framed[2..4].copy_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
            }
            for bytes in [&bytes, &framed] {
                if let Ok(mut stun) = Stun::parse(bytes) {
                    stun.verify(&key);
                    let _addresses = stun.xor_addresses(ATTR_XOR_PEER_ADDRESS);
                    let _code = stun.error_code();
                    let _unknown = stun.unknown_required(&[ATTR_DATA]);
                }
                let _channel = parse_channel_data(bytes);
                let _kind = classify(bytes);
            }
        }

        #[test]
        fn addresses_round_trip(ip: IpAddr, port: u16, id: [u8; 12]) {
            let addr = SocketAddr::new(ip, port);
            let packet = Builder::new(METHOD_BINDING, CLASS_REQUEST, TransactionId(id))
                .xor_address(ATTR_XOR_PEER_ADDRESS, addr)
                .finish(None, true);
            prop_assert_eq!(Stun::parse(&packet).unwrap().xor_address(ATTR_XOR_PEER_ADDRESS), Some(addr));
        }
    }
}
