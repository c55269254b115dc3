//! One client's relayed transport address with its permissions and channels (RFC 8656 sections 3, 9, 12).

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use rtc_stun::message::TransactionId;

use super::{
    counters::Traffic,
    limits::{RelayLimits, TokenBucket},
    policy::Scope,
};

/// Life of a permission (RFC 8656 section 9).
pub(super) const PERMISSION_LIFETIME: Duration = Duration::from_secs(300);

/// Life of a channel binding (RFC 8656 section 12).
pub(super) const CHANNEL_LIFETIME: Duration = Duration::from_secs(600);

#[derive(Debug)]
struct Permission {
    ip: IpAddr,
    scope: Scope,
    until: Instant,
}

#[derive(Debug)]
struct Channel {
    number: u16,
    peer: SocketAddr,
    until: Instant,
}

/// Why a channel cannot be bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BindRefusal {
    /// The number belongs to another peer, or the peer to another number.
    Taken,
    /// The allocation has as many channels as it may have.
    Full,
}

#[derive(Debug)]
pub(super) struct Allocation {
    pub(super) client: SocketAddr,
    /// The address of ours that the client talks to.
    pub(super) local: Option<IpAddr>,
    /// What peers send to.
    pub(super) relayed: SocketAddr,
    pub(super) username: String,
    /// Of the Allocate request, to answer its retransmissions.
    pub(super) transaction: TransactionId,
    pub(super) until: Instant,
    pub(super) traffic: Traffic,
    budget: TokenBucket,
    // Both lists hold a few dozen entries at most, where a scan beats a hash.
    permissions: Vec<Permission>,
    channels: Vec<Channel>,
}

impl Allocation {
    pub(super) fn new(
        now: Instant,
        client: SocketAddr,
        local: Option<IpAddr>,
        relayed: SocketAddr,
        username: String,
        transaction: TransactionId,
        until: Instant,
        limits: &RelayLimits,
    ) -> Self {
        Self {
            client,
            local,
            relayed,
            username,
            transaction,
            until,
            traffic: Traffic::default(),
            budget: TokenBucket::full(now, limits.bytes_per_second),
            permissions: Vec::new(),
            channels: Vec::new(),
        }
    }

    /// Whether `bytes` more fit this second's budget; takes them if so.
    pub(super) fn charge(&mut self, now: Instant, bytes: usize, limits: &RelayLimits) -> bool {
        self.budget.take(
            now,
            bytes as u64,
            limits.bytes_per_second,
            limits.bytes_per_second,
        )
    }

    /// What a live permission for `ip` covers.
    pub(super) fn permission(&self, now: Instant, ip: IpAddr) -> Option<&Scope> {
        self.permissions
            .iter()
            .find(|permission| permission.ip == ip && permission.until > now)
            .map(|permission| &permission.scope)
    }

    /// Whether permissions for all of `ips` fit beside the live ones.
    pub(super) fn has_room(&mut self, now: Instant, ips: &[IpAddr], max: usize) -> bool {
        self.permissions.retain(|permission| permission.until > now);
        let mut new: Vec<&IpAddr> = ips
            .iter()
            .filter(|ip| !self.permissions.iter().any(|p| p.ip == **ip))
            .collect();
        new.sort_unstable();
        new.dedup();
        self.permissions.len() + new.len() <= max
    }

    /// Installs or refreshes one permission. The caller has asked [`Self::has_room`].
    pub(super) fn permit(&mut self, now: Instant, ip: IpAddr, scope: Scope) {
        let until = now + PERMISSION_LIFETIME;
        match self
            .permissions
            .iter_mut()
            .find(|permission| permission.ip == ip)
        {
            Some(permission) => (permission.scope, permission.until) = (scope, until),
            None => self.permissions.push(Permission { ip, scope, until }),
        }
    }

    /// Binds or refreshes a channel.
    pub(super) fn bind(
        &mut self,
        now: Instant,
        number: u16,
        peer: SocketAddr,
        max: usize,
    ) -> Result<(), BindRefusal> {
        self.channels.retain(|channel| channel.until > now);
        let until = now + CHANNEL_LIFETIME;
        if let Some(channel) = self
            .channels
            .iter_mut()
            .find(|c| c.number == number || c.peer == peer)
        {
            if channel.number != number || channel.peer != peer {
                return Err(BindRefusal::Taken);
            }
            channel.until = until;
            return Ok(());
        }
        if self.channels.len() >= max {
            return Err(BindRefusal::Full);
        }
        self.channels.push(Channel {
            number,
            peer,
            until,
        });
        Ok(())
    }

    /// The peer behind a live channel.
    pub(super) fn peer_of(&self, now: Instant, number: u16) -> Option<SocketAddr> {
        self.channels
            .iter()
            .find(|channel| channel.number == number && channel.until > now)
            .map(|channel| channel.peer)
    }

    /// The live channel of a peer.
    pub(super) fn channel_of(&self, now: Instant, peer: SocketAddr) -> Option<u16> {
        self.channels
            .iter()
            .find(|channel| channel.peer == peer && channel.until > now)
            .map(|channel| channel.number)
    }

    #[cfg(test)]
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.permissions.len(), self.channels.len())
    }
}
