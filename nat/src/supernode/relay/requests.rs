//! What clients ask a relay for: allocations, permissions and channels.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::{
    cmp::Reverse,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use rtc_stun::{
    attributes::{
        ATTR_CHANNEL_NUMBER, ATTR_EVEN_PORT, ATTR_LIFETIME, ATTR_MESSAGE_INTEGRITY, ATTR_NONCE,
        ATTR_REALM, ATTR_REQUESTED_ADDRESS_FAMILY, ATTR_REQUESTED_TRANSPORT,
        ATTR_RESERVATION_TOKEN, ATTR_USERNAME, ATTR_XOR_PEER_ADDRESS, ATTR_XOR_RELAYED_ADDRESS,
        ATTR_XORMAPPED_ADDRESS,
    },
    error_code::{
        CODE_ADDR_FAMILY_NOT_SUPPORTED, CODE_ALLOC_MISMATCH, CODE_ALLOC_QUOTA_REACHED,
        CODE_BAD_REQUEST, CODE_FORBIDDEN, CODE_INSUFFICIENT_CAPACITY,
        CODE_PEER_ADDR_FAMILY_MISMATCH, CODE_STALE_NONCE, CODE_UNAUTHORIZED,
        CODE_UNSUPPORTED_TRANS_PROTO, CODE_WRONG_CREDENTIALS, ErrorCode,
    },
    message::{
        CLASS_ERROR_RESPONSE, CLASS_SUCCESS_RESPONSE, METHOD_ALLOCATE, METHOD_CREATE_PERMISSION,
        METHOD_REFRESH,
    },
};

use ahoy_transport::mux::{seen_address, speaks_only_turn};

use crate::stun::{Builder, IntegrityKey, Stun};

use super::{
    AllocationId, DEFAULT_LIFETIME, FAMILY_V4, FAMILY_V6, KNOWN, MAX_LIFETIME, OPENING_LIMIT,
    Opening, PROTOCOL_UDP, Relay, RelayEvent, Request, Slot, Transmit, Via,
    allocation::{Allocation, BindRefusal},
    canonical, source_key, success,
};

/// A request whose MESSAGE-INTEGRITY matched.
struct Authenticated {
    username: String,
    key: IntegrityKey,
}

impl Relay {
    pub(super) fn handle_request(&mut self, mut request: Request) {
        let Some(auth) = self.authenticate(&mut request) else {
            return;
        };
        let unknown = request.stun.unknown_required(&KNOWN);
        if !unknown.is_empty() {
            return self.refuse_unknown(&request, Some(&auth.key), &unknown);
        }
        let key = auth.key;
        let outcome = match request.stun.method() {
            METHOD_ALLOCATE => self.allocate(&request, auth),
            METHOD_REFRESH => self.refresh(&request, auth),
            METHOD_CREATE_PERMISSION => self.create_permission(&request, &auth),
            _ => self.channel_bind(&request, &auth),
        };
        if let Err(code) = outcome {
            self.refuse(&request, Some(&key), code);
        }
    }

    /// RFC 8489 section 9.2.4. Answers and returns nothing when the request does not pass.
    fn authenticate(&mut self, request: &mut Request) -> Option<Authenticated> {
        let Request {
            now, from, stun, ..
        } = request;
        if stun.attribute(ATTR_MESSAGE_INTEGRITY).is_none() {
            self.challenge(request, CODE_UNAUTHORIZED);
            return None;
        }
        let (Some(username), Some(realm), Some(nonce)) = (
            stun.text(ATTR_USERNAME),
            stun.text(ATTR_REALM),
            stun.text(ATTR_NONCE),
        ) else {
            if self.may_reply(*now, from.ip()) {
                self.refuse(request, None, CODE_BAD_REQUEST);
            }
            return None;
        };
        if !self.nonces.is_fresh(*now, from.ip(), nonce) {
            self.challenge(request, CODE_STALE_NONCE);
            return None;
        }
        let key = (realm == self.config.realm)
            .then(|| self.credentials.key(*now, username))
            .flatten();
        let username = username.to_owned();
        match key {
            Some(key) if stun.verify(&key) => Some(Authenticated { username, key }),
            Some(_) | None => {
                self.challenge(request, CODE_UNAUTHORIZED);
                None
            }
        }
    }

    fn allocate(&mut self, request: &Request, auth: Authenticated) -> Result<(), ErrorCode> {
        let Request {
            now,
            from,
            local,
            at: _,
            stun,
        } = request;
        if let Some(id) = self.by_client.get(from) {
            return match self.slots.get(id) {
                // A retransmission: the answer was lost, or is still being made.
                Some(Slot::Live(allocation))
                    if allocation.transaction == stun.transaction()
                        && allocation.username == auth.username =>
                {
                    let lifetime = allocation.until.saturating_duration_since(*now);
                    let reply = allocated(request, *from, allocation.relayed, lifetime);
                    self.reply(request, reply, Some(&auth.key));
                    Ok(())
                }
                Some(Slot::Opening(opening)) if opening.transaction == stun.transaction() => Ok(()),
                Some(Slot::Live(_) | Slot::Opening(_)) | None => Err(CODE_ALLOC_MISMATCH),
            };
        }
        match stun.word(ATTR_REQUESTED_TRANSPORT) {
            Some([PROTOCOL_UDP, ..]) => {}
            Some(_) => return Err(CODE_UNSUPPORTED_TRANS_PROTO),
            None => return Err(CODE_BAD_REQUEST),
        }
        let family = stun.attribute(ATTR_REQUESTED_ADDRESS_FAMILY);
        let (even, token) = (
            stun.attribute(ATTR_EVEN_PORT),
            stun.attribute(ATTR_RESERVATION_TOKEN),
        );
        if token.is_some() && (even.is_some() || family.is_some()) {
            return Err(CODE_BAD_REQUEST);
        }
        let even = match (even, token) {
            (None, None) => false,
            (Some([0x00..0x80]), None) => true,
            // A reserved pair: this relay makes none.
            (Some([_]), None) | (None, Some(_)) => return Err(CODE_INSUFFICIENT_CAPACITY),
            (Some(_), _) => return Err(CODE_BAD_REQUEST),
        };
        let ipv6 = match family {
            None | Some([FAMILY_V4, _, _, _]) => false,
            Some([FAMILY_V6, _, _, _]) => true,
            Some([_, _, _, _]) => return Err(CODE_ADDR_FAMILY_NOT_SUPPORTED),
            Some(_) => return Err(CODE_BAD_REQUEST),
        };
        let supported = if ipv6 {
            self.config.relayed_v6.is_some()
        } else {
            self.config.relayed_v4.is_some()
        };
        if !supported {
            return Err(CODE_ADDR_FAMILY_NOT_SUPPORTED);
        }
        let limits = &self.config.limits;
        let source = source_key(from.ip());
        if self.credentials.allocations(&auth.username) >= limits.allocations_per_credential
            || self
                .by_source
                .get(&source)
                .is_some_and(|count| *count >= limits.allocations_per_source)
        {
            return Err(CODE_ALLOC_QUOTA_REACHED);
        }
        if self.draining || self.slots.len() >= limits.allocations {
            return Err(CODE_INSUFFICIENT_CAPACITY);
        }

        let id = AllocationId(self.next_allocation);
        self.next_allocation += 1;
        let until = *now + OPENING_LIMIT;
        self.credentials.allocation_opened(&auth.username);
        *self.by_source.entry(source).or_default() += 1;
        self.by_client.insert(*from, id);
        self.deadlines.push(Reverse((until, id)));
        self.slots.insert(
            id,
            Slot::Opening(Opening {
                client: *from,
                local: *local,
                username: auth.username,
                transaction: stun.transaction(),
                lifetime: granted_lifetime(stun),
                fingerprint: stun.has_fingerprint(),
                key: auth.key,
                ipv6,
                until,
            }),
        );
        self.events.push_back(RelayEvent::OpenRelay {
            allocation: id,
            ipv6,
            even,
        });
        Ok(())
    }

    /// The shell's answer to [`RelayEvent::OpenRelay`]: the port of the new socket, or None if there is none.
    pub fn handle_relay_opened(
        &mut self,
        now: Instant,
        allocation: AllocationId,
        port: Option<u16>,
    ) {
        let id = allocation;
        let Some(Slot::Opening(opening)) = self.slots.get(&id) else {
            // Expired meanwhile.
            self.events.push_back(RelayEvent::CloseRelay { allocation });
            return;
        };
        let ip = if opening.ipv6 {
            self.config.relayed_v6.map(IpAddr::V6)
        } else {
            self.config.relayed_v4.map(IpAddr::V4)
        };
        let relayed = ip.zip(port).map(|(ip, port)| SocketAddr::new(ip, port));
        let Some(relayed) = relayed.filter(|relayed| !self.by_relayed.contains_key(relayed)) else {
            let contents = Builder::new(METHOD_ALLOCATE, CLASS_ERROR_RESPONSE, opening.transaction)
                .error(CODE_INSUFFICIENT_CAPACITY)
                .finish(Some(&opening.key), opening.fingerprint);
            let (via, to) = (Via::Port(opening.local), opening.client);
            self.transmits.push_back(Transmit { via, to, contents });
            self.counters.errors += 1;
            self.remove(id);
            return;
        };
        let Some(Slot::Opening(opening)) = self.slots.remove(&id) else {
            return;
        };
        let contents = Builder::new(METHOD_ALLOCATE, CLASS_SUCCESS_RESPONSE, opening.transaction)
            .xor_address(ATTR_XOR_RELAYED_ADDRESS, relayed)
            .xor_address(ATTR_XORMAPPED_ADDRESS, seen_address(opening.client))
            .attribute(ATTR_LIFETIME, &seconds(opening.lifetime))
            .finish(Some(&opening.key), opening.fingerprint);
        let (via, to) = (Via::Port(opening.local), opening.client);
        self.transmits.push_back(Transmit { via, to, contents });
        let live = Allocation::new(
            now,
            opening.client,
            opening.local,
            relayed,
            opening.username,
            opening.transaction,
            now + opening.lifetime,
            &self.config.limits,
        );
        self.events.push_back(RelayEvent::ClientAdded {
            client: live.client,
        });
        self.slots.insert(id, Slot::Live(live));
        self.by_relayed.insert(relayed, id);
        self.counters.allocations_opened += 1;
        self.counters.allocations_live += 1;
        tracing::debug!(allocation = id.0, "allocation opened");
    }

    /// The socket of an allocation broke: the allocation ends.
    pub fn handle_relay_failed(&mut self, allocation: AllocationId) {
        self.remove(allocation);
    }

    fn refresh(&mut self, request: &Request, auth: Authenticated) -> Result<(), ErrorCode> {
        let Request {
            now, from, stun, ..
        } = request;
        let (id, allocation) = self.owned(*from, &auth)?;
        match (
            stun.attribute(ATTR_REQUESTED_ADDRESS_FAMILY),
            allocation.relayed.ip(),
        ) {
            (None, _)
            | (Some([FAMILY_V4, _, _, _]), IpAddr::V4(_))
            | (Some([FAMILY_V6, _, _, _]), IpAddr::V6(_)) => {}
            (Some(_), _) => return Err(CODE_PEER_ADDR_FAMILY_MISMATCH),
        }
        let lifetime = if stun.word(ATTR_LIFETIME) == Some([0; 4]) {
            self.remove(id);
            Duration::ZERO
        } else {
            let lifetime = granted_lifetime(stun);
            // Its entry in the deadline heap is renewed when it comes up.
            allocation.until = *now + lifetime;
            lifetime
        };
        let reply = success(request).attribute(ATTR_LIFETIME, &seconds(lifetime));
        self.reply(request, reply, Some(&auth.key));
        Ok(())
    }

    fn create_permission(
        &mut self,
        request: &Request,
        auth: &Authenticated,
    ) -> Result<(), ErrorCode> {
        let Request {
            now, from, stun, ..
        } = request;
        let peers = stun
            .xor_addresses(ATTR_XOR_PEER_ADDRESS)
            .map_err(|_malformed| CODE_BAD_REQUEST)?;
        if peers.is_empty() {
            return Err(CODE_BAD_REQUEST);
        }
        let mut granted = Vec::with_capacity(peers.len());
        for peer in peers {
            let ip = peer.ip().to_canonical();
            self.check_family(*from, auth, ip)?;
            let scope = self
                .policy
                .judge(*now, ip, self.is_own(ip))
                .inspect_err(|refusal| tracing::debug!(%refusal, "permission refused"))
                .map_err(|_told_only_403| CODE_FORBIDDEN)?;
            granted.push((ip, scope));
        }
        let max = self.config.limits.permissions_per_allocation;
        let (_, allocation) = self.owned(*from, auth)?;
        let ips: Vec<IpAddr> = granted.iter().map(|(ip, _)| *ip).collect();
        if !allocation.has_room(*now, &ips, max) {
            return Err(CODE_INSUFFICIENT_CAPACITY);
        }
        for (ip, scope) in granted {
            allocation.permit(*now, ip, scope);
        }
        self.reply(request, success(request), Some(&auth.key));
        Ok(())
    }

    fn channel_bind(&mut self, request: &Request, auth: &Authenticated) -> Result<(), ErrorCode> {
        let Request {
            now, from, stun, ..
        } = request;
        let Some([high, low, _, _]) = stun.word(ATTR_CHANNEL_NUMBER) else {
            return Err(CODE_BAD_REQUEST);
        };
        let peer = canonical(
            stun.xor_address(ATTR_XOR_PEER_ADDRESS)
                .ok_or(CODE_BAD_REQUEST)?,
        );
        let number = u16::from_be_bytes([high, low]);
        // RFC 8656 ends at 0x4fff; clients of RFC 5766 go up to 0x7ffe.
        let usable = if self.config.shared_port && !speaks_only_turn(*from) {
            (0x40..=0x4f).contains(&high) && low < 0x80
        } else {
            (0x4000..=0x7ffe).contains(&number)
        };
        if !usable {
            return Err(CODE_BAD_REQUEST);
        }
        self.check_family(*from, auth, peer.ip())?;
        let own = self.is_own(peer.ip());
        let scope = self
            .policy
            .judge(*now, peer.ip(), own)
            .inspect_err(|refusal| tracing::debug!(%refusal, "channel refused"))
            .map_err(|_told_only_403| CODE_FORBIDDEN)?;
        if !scope.local && !scope.admits(peer.port()) {
            return Err(CODE_FORBIDDEN);
        }
        let (max_permissions, max_channels) = (
            self.config.limits.permissions_per_allocation,
            self.config.limits.channels_per_allocation,
        );
        let (_, allocation) = self.owned(*from, auth)?;
        if !allocation.has_room(*now, &[peer.ip()], max_permissions) {
            return Err(CODE_INSUFFICIENT_CAPACITY);
        }
        allocation
            .bind(*now, number, peer, max_channels)
            .map_err(|refusal| match refusal {
                BindRefusal::Taken => CODE_BAD_REQUEST,
                BindRefusal::Full => CODE_INSUFFICIENT_CAPACITY,
            })?;
        allocation.permit(*now, peer.ip(), scope);
        self.reply(request, success(request), Some(&auth.key));
        Ok(())
    }

    /// The client's allocation, if these credentials made it.
    fn owned(
        &mut self,
        from: SocketAddr,
        auth: &Authenticated,
    ) -> Result<(AllocationId, &mut Allocation), ErrorCode> {
        let id = *self.by_client.get(&from).ok_or(CODE_ALLOC_MISMATCH)?;
        match self.slots.get_mut(&id) {
            Some(Slot::Live(allocation)) if allocation.username == auth.username => {
                Ok((id, allocation))
            }
            Some(Slot::Live(_)) => Err(CODE_WRONG_CREDENTIALS),
            Some(Slot::Opening(_)) | None => Err(CODE_ALLOC_MISMATCH),
        }
    }

    fn check_family(
        &mut self,
        from: SocketAddr,
        auth: &Authenticated,
        peer: IpAddr,
    ) -> Result<(), ErrorCode> {
        let (_, allocation) = self.owned(from, auth)?;
        if allocation.relayed.is_ipv4() == peer.is_ipv4() {
            Ok(())
        } else {
            Err(CODE_PEER_ADDR_FAMILY_MISMATCH)
        }
    }
}

fn allocated(
    request: &Request,
    client: SocketAddr,
    relayed: SocketAddr,
    lifetime: Duration,
) -> Builder {
    success(request)
        .xor_address(ATTR_XOR_RELAYED_ADDRESS, relayed)
        .xor_address(ATTR_XORMAPPED_ADDRESS, seen_address(client))
        .attribute(ATTR_LIFETIME, &seconds(lifetime))
}

/// RFC 8656 section 7.2: what was asked for, within the default and the maximum.
fn granted_lifetime(stun: &Stun) -> Duration {
    stun.word(ATTR_LIFETIME)
        .map_or(DEFAULT_LIFETIME, |word| {
            Duration::from_secs(u32::from_be_bytes(word).into())
        })
        .clamp(DEFAULT_LIFETIME, MAX_LIFETIME)
}

fn seconds(lifetime: Duration) -> [u8; 4] {
    u32::try_from(lifetime.as_secs())
        .unwrap_or(u32::MAX)
        .to_be_bytes()
}
