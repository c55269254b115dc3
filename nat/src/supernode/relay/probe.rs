//! Binding, and what RFC 5780 adds to it: a second port, so that clients find out how their NAT behaves.
//!
//! A success response names the second port in OTHER-ADDRESS. A request at one port with the change-port flag of
//! CHANGE-REQUEST is answered from the other one: where that answer arrives, the client's NAT does not filter by
//! port. Change-IP gets 400, since this relay has one address; OTHER-ADDRESS differs from the server's address in its
//! port alone, where RFC 5780 section 7.4 has two addresses.
//!
//! Nobody can make the relay a reflector with it. An answer is never longer than its request (clients add PADDING to
//! have room for OTHER-ADDRESS), so nothing is gained over sending the packet oneself; and an answer from another
//! port, which firewalls of third parties may judge otherwise than one from where the request went, is given twice a
//! second to one source and [`CHANGES_PER_SECOND`] times to all.

use rtc_stun::{
    attributes::{ATTR_OTHER_ADDRESS, ATTR_XORMAPPED_ADDRESS},
    error_code::CODE_BAD_REQUEST,
};

use super::{
    ATTR_CHANGE_REQUEST, Arrival, Builder, CLASS_REQUEST, Drop, Instant, IpAddr, KNOWN,
    METHOD_BINDING, Relay, Request, SocketAddr, Stun, TokenBucket, Transmit, canonical, meter_slot,
    success,
};

/// Answers from the port that was not asked, per second: a NAT is looked at when networks change, with three
/// requests at most.
const CHANGES_PER_SECOND: u64 = 200;
/// The same for one source, with [`CHANGE_BURST`] saved up: a household behind one address.
const CHANGES_PER_SOURCE: u64 = 2;
const CHANGE_BURST: u64 = 12;
/// Sources share a slot by hash, so that a flood of invented ones takes no memory.
const CHANGE_SLOTS: usize = super::REPLY_METER_SLOTS;

/// CHANGE-REQUEST, RFC 5780 section 7.2.
const CHANGE_IP: u32 = 0x4;
const CHANGE_PORT: u32 = 0x2;

/// What a request wants changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Nothing,
    Port,
    /// We cannot.
    Impossible,
}

impl Change {
    fn wanted(stun: &Stun) -> Self {
        match stun.attribute(ATTR_CHANGE_REQUEST) {
            None => Self::Nothing,
            Some(_) => match stun.word(ATTR_CHANGE_REQUEST).map(u32::from_be_bytes) {
                Some(flags) if flags & CHANGE_IP != 0 => Self::Impossible,
                Some(flags) if flags & CHANGE_PORT != 0 => Self::Port,
                Some(_) => Self::Nothing,
                None => Self::Impossible,
            },
        }
    }
}

/// How many answers from the other port are left.
#[derive(Debug)]
pub(super) struct ChangeMeter {
    all: TokenBucket,
    sources: Vec<TokenBucket>,
}

impl ChangeMeter {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            all: TokenBucket::full(now, CHANGES_PER_SECOND),
            sources: vec![TokenBucket::full(now, CHANGE_BURST); CHANGE_SLOTS],
        }
    }

    fn take(&mut self, now: Instant, source: IpAddr) -> bool {
        let slot = meter_slot(source);
        // The source first: one that asks too often takes nothing from the others.
        self.sources
            .get_mut(slot)
            .is_some_and(|bucket| bucket.take(now, 1, CHANGES_PER_SOURCE, CHANGE_BURST))
            && self
                .all
                .take(now, 1, CHANGES_PER_SECOND, CHANGES_PER_SECOND)
    }
}

impl Relay {
    /// The second port is open under this number, or is not any more.
    pub fn set_second_port(&mut self, port: Option<u16>) {
        self.second_port = port;
    }

    /// A packet that reached the second port at address `local`. It serves Binding alone.
    pub fn handle_second_input(
        &mut self,
        now: Instant,
        from: SocketAddr,
        local: Option<IpAddr>,
        packet: &[u8],
    ) {
        let Ok(stun) = Stun::parse(packet) else {
            self.counters.drop(Drop::Malformed);
            return;
        };
        if (stun.class(), stun.method()) != (CLASS_REQUEST, METHOD_BINDING) {
            self.counters.drop(Drop::Unsupported);
            return;
        }
        self.handle_binding(&Request {
            now,
            from,
            local,
            at: Arrival::SecondPort,
            stun,
        });
    }

    pub(super) fn handle_binding(&mut self, request: &Request) {
        if !self.may_reply(request.now, request.from.ip()) {
            return;
        }
        let unknown = request.stun.unknown_required(&KNOWN);
        if !unknown.is_empty() {
            return self.refuse_unknown(request, None, &unknown);
        }
        let at = match Change::wanted(&request.stun) {
            Change::Nothing => request.at,
            Change::Port if self.second_port.is_some() => match request.at {
                Arrival::Port => Arrival::SecondPort,
                Arrival::SecondPort => Arrival::Port,
            },
            Change::Port | Change::Impossible => {
                return self.refuse(request, None, CODE_BAD_REQUEST);
            }
        };
        if at != request.at && !self.change_meter.take(request.now, request.from.ip()) {
            self.counters.drop(Drop::ReplyLimit);
            return;
        }
        self.counters.bindings += 1;
        let fingerprint = request.stun.has_fingerprint();
        let observed = ahoy_transport::mux::seen_address(request.from);
        let reply = || success(request).xor_address(ATTR_XORMAPPED_ADDRESS, observed);
        let mut contents = reply().finish(None, fingerprint);
        if let Some(other) = self.other_address(request) {
            let longer = add_address(reply(), other).finish(None, fingerprint);
            if longer.len() <= request.stun.len() {
                contents = longer;
            }
        }
        self.transmits.push_back(Transmit {
            via: at.via(request.local),
            to: request.from,
            contents,
        });
    }

    /// The second port at the address that this client reaches, as far as that is known here.
    fn other_address(&self, request: &Request) -> Option<SocketAddr> {
        let port = self.second_port?;
        let (v4, v6) = (self.config.relayed_v4, self.config.relayed_v6);
        let announced: Option<IpAddr> = match canonical(request.from).ip() {
            IpAddr::V4(_) => v4.map(IpAddr::from),
            IpAddr::V6(_) => v6.map(IpAddr::from),
        };
        let local = request.local.map(|local| local.to_canonical());
        Some(SocketAddr::new(announced.or(local)?, port))
    }
}

/// OTHER-ADDRESS, in the format of MAPPED-ADDRESS (RFC 8489 section 14.1).
fn add_address(reply: Builder, addr: SocketAddr) -> Builder {
    let mut value = vec![0];
    let octets = match addr.ip() {
        IpAddr::V4(v4) => {
            value.push(super::FAMILY_V4);
            v4.octets().to_vec()
        }
        IpAddr::V6(v6) => {
            value.push(super::FAMILY_V6);
            v6.octets().to_vec()
        }
    };
    value.extend(addr.port().to_be_bytes());
    value.extend(octets);
    reply.attribute(ATTR_OTHER_ADDRESS, &value)
}
