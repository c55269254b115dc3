//! What the clients of a relay send each other: ChannelData and Send indications, and what reaches relayed addresses.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::{net::SocketAddr, time::Instant};

use rand_chacha::ChaCha20Rng;
use rand_core::RngCore;
use rtc_stun::{
    attributes::{ATTR_DATA, ATTR_XOR_PEER_ADDRESS},
    message::{CLASS_INDICATION, METHOD_DATA, TransactionId},
};

use crate::stun::{Builder, CHANNEL_HEADER_BYTES, parse_channel_data};

use super::{
    AllocationId, Forward, KNOWN, MAX_PAYLOAD_BYTES, Relay, Request, Slot, Transmit, Via,
    counters::Drop,
    limits::{RelayLimits, TokenBucket},
};

/// Where a packet from a client goes.
enum Route {
    /// To another client of this relay.
    Local { target: AllocationId },
    /// Out of the allocation's socket.
    Outside,
}

/// Whether the relay as a whole may pass `bytes` more on this second; takes them if so.
fn pass_on(total: &mut TokenBucket, now: Instant, bytes: usize, limits: &RelayLimits) -> bool {
    limits
        .total_bytes_per_second
        .is_none_or(|rate| total.take(now, bytes as u64, rate, rate))
}

impl Relay {
    /// A ChannelData packet that reached the relay's own port. What comes back lies inside `packet`, so that
    /// the usual case costs neither a copy nor an allocation; send it, then drain the outputs.
    pub fn forward<'a>(
        &mut self,
        now: Instant,
        from: SocketAddr,
        packet: &'a mut [u8],
    ) -> Option<Forward<'a>> {
        match self.try_forward(now, from, packet) {
            Ok(forward) => forward,
            Err(reason) => {
                self.counters.drop(reason);
                None
            }
        }
    }

    fn try_forward<'a>(
        &mut self,
        now: Instant,
        from: SocketAddr,
        packet: &'a mut [u8],
    ) -> Result<Option<Forward<'a>>, Drop> {
        let (number, payload) = parse_channel_data(packet).ok_or(Drop::Malformed)?;
        let end = CHANNEL_HEADER_BYTES + payload.len();
        let id = *self.by_client.get(&from).ok_or(Drop::NoAllocation)?;
        let peer = self
            .live(id)
            .ok_or(Drop::NoAllocation)?
            .peer_of(now, number)
            .ok_or(Drop::NoChannel)?;
        match self.route(now, id, peer, payload.len())? {
            Route::Outside => Ok(packet
                .get(CHANNEL_HEADER_BYTES..end)
                .map(|contents| Forward {
                    via: Via::Relayed(id),
                    to: peer,
                    contents,
                })),
            Route::Local { target } => {
                let source = self.live(id).ok_or(Drop::NoAllocation)?.relayed;
                let target = self.live(target).ok_or(Drop::NoSuchRelayedAddress)?;
                let (via, to) = (Via::Port(target.local), target.client);
                let Some(number) = target.channel_of(now, source) else {
                    let contents = data_indication(&mut self.rng, source, payload);
                    self.transmits.push_back(Transmit { via, to, contents });
                    return Ok(None);
                };
                if let Some(header) = packet.first_chunk_mut::<2>() {
                    *header = number.to_be_bytes();
                }
                Ok(packet
                    .get(..end)
                    .map(|contents| Forward { via, to, contents }))
            }
        }
    }

    /// Decides on a packet from a client and counts it.
    fn route(
        &mut self,
        now: Instant,
        id: AllocationId,
        peer: SocketAddr,
        bytes: usize,
    ) -> Result<Route, Drop> {
        let own_address = self.is_own(peer.ip());
        let target = self.by_relayed.get(&peer).copied();
        let limits = &self.config.limits;
        let Some(Slot::Live(allocation)) = self.slots.get_mut(&id) else {
            return Err(Drop::NoAllocation);
        };
        if bytes > MAX_PAYLOAD_BYTES {
            return Err(Drop::TooLong);
        }
        let source = allocation.relayed;
        let scope = allocation
            .permission(now, peer.ip())
            .ok_or(Drop::NoPermission)?;
        let target = target.filter(|_| scope.local);
        if target.is_none() && !scope.admits(peer.port()) {
            return Err(if own_address {
                Drop::NoSuchRelayedAddress
            } else {
                Drop::NoPermission
            });
        }
        if !allocation.charge(now, bytes, limits) {
            return Err(Drop::OverRate);
        }
        let Some(target) = target else {
            if !pass_on(&mut self.total, now, bytes, limits) {
                return Err(Drop::OverRate);
            }
            allocation.traffic.count_from_client(bytes);
            self.counters.traffic.count_from_client(bytes);
            self.counters.bytes_passed_on += bytes as u64;
            return Ok(Route::Outside);
        };
        let Some(Slot::Live(other)) = self.slots.get_mut(&target) else {
            return Err(Drop::NoSuchRelayedAddress);
        };
        if !other
            .permission(now, source.ip())
            .is_some_and(|scope| scope.local)
        {
            return Err(Drop::NoPermission);
        }
        // An allocation that talks to itself pays once.
        if target != id && !other.charge(now, bytes, limits) {
            return Err(Drop::OverRate);
        }
        if !pass_on(&mut self.total, now, bytes, limits) {
            return Err(Drop::OverRate);
        }
        self.counters.bytes_passed_on += bytes as u64;
        other.traffic.count_to_client(bytes);
        if let Some(Slot::Live(allocation)) = self.slots.get_mut(&id) {
            allocation.traffic.count_from_client(bytes);
        }
        self.counters.traffic.count_from_client(bytes);
        self.counters.traffic.count_to_client(bytes);
        self.counters.packets_in_process += 1;
        Ok(Route::Local { target })
    }

    /// A packet from `from` that reached the socket of `allocation`.
    pub fn handle_relayed_input(
        &mut self,
        now: Instant,
        allocation: AllocationId,
        from: SocketAddr,
        payload: &[u8],
    ) {
        if let Err(reason) = self.try_relayed_input(now, allocation, from, payload) {
            self.counters.drop(reason);
        }
    }

    fn try_relayed_input(
        &mut self,
        now: Instant,
        id: AllocationId,
        from: SocketAddr,
        payload: &[u8],
    ) -> Result<(), Drop> {
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        let mut contents = self.spare.pop().unwrap_or_default();
        let Some(Slot::Live(allocation)) = self.slots.get_mut(&id) else {
            return Err(Drop::NoAllocation);
        };
        let length = u16::try_from(payload.len()).map_err(|_too_large| Drop::TooLong)?;
        if payload.len() > MAX_PAYLOAD_BYTES {
            return Err(Drop::TooLong);
        }
        if !allocation
            .permission(now, from.ip())
            .is_some_and(|scope| scope.admits(from.port()))
        {
            return Err(Drop::NoPermission);
        }
        let limits = &self.config.limits;
        if !allocation.charge(now, payload.len(), limits)
            || !pass_on(&mut self.total, now, payload.len(), limits)
        {
            return Err(Drop::OverRate);
        }
        self.counters.bytes_passed_on += payload.len() as u64;
        allocation.traffic.count_to_client(payload.len());
        self.counters.traffic.count_to_client(payload.len());
        let (via, to) = (Via::Port(allocation.local), allocation.client);
        match allocation.channel_of(now, from) {
            Some(number) => {
                contents.extend_from_slice(&number.to_be_bytes());
                contents.extend_from_slice(&length.to_be_bytes());
                contents.extend_from_slice(payload);
            }
            None => contents = data_indication(&mut self.rng, from, payload),
        }
        self.transmits.push_back(Transmit { via, to, contents });
        Ok(())
    }

    pub(super) fn handle_send(&mut self, request: &Request) {
        if let Err(reason) = self.try_send(request) {
            self.counters.drop(reason);
        }
    }

    fn try_send(&mut self, request: &Request) -> Result<(), Drop> {
        let Request {
            now, from, stun, ..
        } = request;
        let id = *self.by_client.get(from).ok_or(Drop::NoAllocation)?;
        // DONT-FRAGMENT is among the unknown ones: section 11.2 wants silence for it.
        if !stun.unknown_required(&KNOWN).is_empty() {
            return Err(Drop::Unsupported);
        }
        let peer = stun
            .xor_address(ATTR_XOR_PEER_ADDRESS)
            .ok_or(Drop::Malformed)?;
        let payload = stun.attribute(ATTR_DATA).ok_or(Drop::Malformed)?;
        match self.route(*now, id, peer, payload.len())? {
            Route::Outside => {
                let mut contents = self.buffer();
                contents.extend_from_slice(payload);
                self.transmits.push_back(Transmit {
                    via: Via::Relayed(id),
                    to: peer,
                    contents,
                });
            }
            Route::Local { target } => {
                let source = self.live(id).ok_or(Drop::NoAllocation)?.relayed;
                let target = self.live(target).ok_or(Drop::NoSuchRelayedAddress)?;
                let (via, to) = (Via::Port(target.local), target.client);
                let contents = match target.channel_of(*now, source) {
                    Some(number) => channel_data(number, payload).ok_or(Drop::TooLong)?,
                    None => data_indication(&mut self.rng, source, payload),
                };
                self.transmits.push_back(Transmit { via, to, contents });
            }
        }
        Ok(())
    }
}

fn data_indication(rng: &mut ChaCha20Rng, peer: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let mut id = [0; 12];
    rng.fill_bytes(&mut id);
    Builder::new(METHOD_DATA, CLASS_INDICATION, TransactionId(id))
        .xor_address(ATTR_XOR_PEER_ADDRESS, peer)
        .attribute(ATTR_DATA, payload)
        .finish(None, false)
}

pub(super) fn channel_data(number: u16, payload: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(payload.len()).ok()?;
    let mut packet = Vec::with_capacity(CHANNEL_HEADER_BYTES + payload.len());
    packet.extend_from_slice(&number.to_be_bytes());
    packet.extend_from_slice(&length.to_be_bytes());
    packet.extend_from_slice(payload);
    Some(packet)
}
