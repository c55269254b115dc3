//! Requests and responses: Binding (RFC 8489), authenticated like ICE checks.
//!
//! ```text
//! transaction id = 8 bytes that only the two know | u16 which socket or port | u16 counter
//! ```
//! So a response says by itself what it answers, and nothing has to be remembered of a thousand probes.

use std::net::SocketAddr;

use rtc_stun::{
    attributes::{ATTR_USERNAME, ATTR_XORMAPPED_ADDRESS},
    message::{CLASS_REQUEST, CLASS_SUCCESS_RESPONSE, METHOD_BINDING, TransactionId},
};

use super::{SprayKeys, SpraySide};
use crate::stun::{Builder, Stun};

/// What transaction ids of one side begin with.
pub(super) type Tag = [u8; 8];

/// An authenticated packet of the other side.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// It asks; this is the response.
    Request { response: Vec<u8> },
    /// It answers our request about this socket or port.
    Response { which: u16 },
}

/// One side's words.
#[derive(Debug)]
pub(super) struct Voice {
    keys: SprayKeys,
    side: SpraySide,
    counter: u16,
}

impl SpraySide {
    fn other(self) -> Self {
        match self {
            Self::Hard => Self::Easy,
            Self::Easy => Self::Hard,
        }
    }
}

impl Voice {
    pub(super) fn new(keys: SprayKeys, side: SpraySide) -> Self {
        Self {
            keys,
            side,
            counter: 0,
        }
    }

    fn tag(&self) -> Tag {
        let [hard, easy] = self.keys.tags;
        match self.side {
            SpraySide::Hard => hard,
            SpraySide::Easy => easy,
        }
    }

    fn id(&mut self, which: u16) -> TransactionId {
        self.counter = self.counter.wrapping_add(1);
        let mut id = [0; 12];
        let (tag, rest) = id.split_at_mut(8);
        tag.copy_from_slice(&self.tag());
        let (place, counter) = rest.split_at_mut(2);
        place.copy_from_slice(&which.to_be_bytes());
        counter.copy_from_slice(&self.counter.to_be_bytes());
        TransactionId(id)
    }

    /// A request about one of our sockets, or one of the other side's ports.
    pub(super) fn request(&mut self, which: u16) -> Vec<u8> {
        let id = self.id(which);
        let them = self.keys.of(self.side.other());
        let username = format!("{}:{}", them.ufrag, self.keys.ufrag(self.side));
        Builder::new(METHOD_BINDING, CLASS_REQUEST, id)
            .attribute(ATTR_USERNAME, username.as_bytes())
            .finish(Some(&them.key), true)
    }

    /// What `packet` from `from` is, if it is the other side's.
    pub(super) fn hear(&self, from: SocketAddr, packet: &[u8]) -> Option<Heard> {
        let mut stun = Stun::parse(packet).ok()?;
        if stun.method() != METHOD_BINDING {
            return None;
        }
        let (us, them) = (self.keys.of(self.side), self.keys.of(self.side.other()));
        match stun.class() {
            CLASS_REQUEST => {
                let expected = format!("{}:{}", us.ufrag, them.ufrag);
                if stun.text(ATTR_USERNAME) != Some(&expected) || !stun.verify(&us.key[..]) {
                    return None;
                }
                let response =
                    Builder::new(METHOD_BINDING, CLASS_SUCCESS_RESPONSE, stun.transaction())
                        .xor_address(ATTR_XORMAPPED_ADDRESS, from)
                        .finish(Some(&us.key), true);
                Some(Heard::Request { response })
            }
            CLASS_SUCCESS_RESPONSE => {
                let TransactionId(id) = stun.transaction();
                let (tag, rest) = id.split_first_chunk::<8>()?;
                let (which, _counter) = rest.split_first_chunk::<2>()?;
                if *tag != self.tag() || !stun.verify(&them.key[..]) {
                    return None;
                }
                Some(Heard::Response {
                    which: u16::from_be_bytes(*which),
                })
            }
            _ => None,
        }
    }
}

/// A plain question to a STUN server: where does it see us?
pub(super) fn question(id: [u8; 12]) -> Vec<u8> {
    Builder::new(METHOD_BINDING, CLASS_REQUEST, TransactionId(id)).finish(None, false)
}

/// The answer to `id`: the outside address.
pub(super) fn observed(id: [u8; 12], packet: &[u8]) -> Option<SocketAddr> {
    let stun = Stun::parse(packet).ok()?;
    let ours = stun.method() == METHOD_BINDING
        && stun.class() == CLASS_SUCCESS_RESPONSE
        && stun.transaction().0 == id;
    stun.mapped_address().filter(|_| ours)
}
