//! Which addresses of ours the other side may try (RFC 8445 section 5.1.1): those of our interfaces, those that
//! supernodes see us at, and those that a router promised us.
//!
//! A [`Gatherer`] belongs to the port, and serves all calls on it. Nothing waits for it: it says what it knows
//! now, and tells when it knows more. What a supernode sees comes for free with a registration
//! ([`Gatherer::note`]) and is asked again ([`observed_address`]) when something changed, and every
//! [`REFRESH_EVERY`] while a call holds a [`Lease`]: a router that forgot us gives us another port.
//!
//! Addresses from anywhere else, such as a port mapping protocol, come in by [`Gatherer::extra`].

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use ahoy_transport::{
    mux::canonical,
    runtime::{Runtime, RuntimeExt, Task},
};
use tokio::sync::{Notify, watch};

use crate::{
    binding::observed_address,
    candidate::{Candidate, CandidateKind, MAX_CANDIDATES},
    port::{PortHub, lock},
};

/// How often supernodes are asked where we are, while there is a call: below the 30 s that the hastiest common
/// routers keep a mapping.
pub const REFRESH_EVERY: Duration = Duration::from_secs(20);

/// Supernodes that are asked: two warm homes and a spare.
pub const MAX_SERVERS: usize = 4;

/// What the NATs before us do with our port, as far as two supernodes can tell (RFC 4787 section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mapping {
    /// Fewer than two supernodes of one address family have been asked.
    #[default]
    Unknown,
    /// All see us at the same place, so everybody will.
    Independent,
    /// Each sees us somewhere else.
    Dependent,
}

/// What is known of our addresses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Gathered {
    /// Of our interfaces.
    pub host: Vec<Candidate>,
    /// Where each supernode sees us, by its address.
    pub observed: BTreeMap<SocketAddr, SocketAddr>,
    /// From elsewhere, such as port mapping.
    pub extra: Vec<Candidate>,
}

impl Gathered {
    /// All candidates, best first, each address once, at most [`MAX_CANDIDATES`].
    #[must_use]
    pub fn candidates(&self) -> Vec<Candidate> {
        let mut all = self.host.clone();
        all.extend(&self.extra);
        for (preference, observed) in (0..=u16::MAX).rev().zip(self.observed.values()) {
            all.push(Candidate::new(
                CandidateKind::ServerReflexive,
                *observed,
                preference,
            ));
        }
        all.retain(Candidate::is_usable);
        all.sort_by_key(|candidate| Reverse(candidate.priority));
        let mut seen = Vec::new();
        all.retain(|candidate| {
            let is_new = !seen.contains(&candidate.addr);
            seen.push(candidate.addr);
            is_new
        });
        all.truncate(MAX_CANDIDATES);
        all
    }

    /// What the supernodes' views say about the NATs before us.
    #[must_use]
    pub fn mapping(&self) -> Mapping {
        match (self.mapping_of(true), self.mapping_of(false)) {
            (Mapping::Unknown, ipv6) => ipv6,
            (ipv4, _) => ipv4,
        }
    }

    /// The same of one address family.
    #[must_use]
    pub fn mapping_of(&self, ipv4: bool) -> Mapping {
        let mut views = self
            .observed
            .values()
            .filter(move |at| at.is_ipv4() == ipv4);
        let first = views.next();
        let rest: Vec<&SocketAddr> = views.collect();
        match first {
            Some(_alone) if rest.is_empty() => Mapping::Unknown,
            Some(first) if rest.iter().all(|other| *other == first) => Mapping::Independent,
            Some(_) => Mapping::Dependent,
            None => Mapping::Unknown,
        }
    }

    /// Whether these are other interfaces' addresses than those.
    #[must_use]
    pub fn has_other_hosts(&self, other: &Self) -> bool {
        let addrs = |gathered: &Self| -> Vec<SocketAddr> {
            gathered.host.iter().map(|host| host.addr).collect()
        };
        addrs(self) != addrs(other)
    }
}

/// Keeps what is known of the addresses of one port.
#[derive(Debug)]
pub struct Gatherer {
    shared: Arc<Shared>,
    _task: Task,
}

#[derive(Debug)]
struct Shared {
    runtime: Arc<dyn Runtime>,
    hub: Arc<PortHub>,
    local: SocketAddr,
    allow_loopback: bool,
    publish: watch::Sender<Gathered>,
    servers: Mutex<Vec<SocketAddr>>,
    leases: AtomicUsize,
    /// Look and ask again.
    again: Notify,
}

/// Keeps the [`Gatherer`] asking as long as it lives.
#[derive(Debug)]
pub struct Lease(Arc<Shared>);

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.leases.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Gatherer {
    /// Starts to watch the addresses of the port behind `hub`, bound at `local`. See [`host_candidates`] for
    /// `allow_loopback`.
    #[must_use]
    pub fn start(
        runtime: &Arc<dyn Runtime>,
        hub: &Arc<PortHub>,
        local: SocketAddr,
        allow_loopback: bool,
    ) -> Self {
        let host = host_candidates(&**runtime, local, allow_loopback);
        let (publish, _nobody_yet) = watch::channel(Gathered {
            host,
            ..Gathered::default()
        });
        let shared = Arc::new(Shared {
            runtime: Arc::clone(runtime),
            hub: Arc::clone(hub),
            local,
            allow_loopback,
            publish,
            servers: Mutex::default(),
            leases: AtomicUsize::new(0),
            again: Notify::new(),
        });
        let task = runtime.spawn_task(Arc::clone(&shared).run());
        Self {
            shared,
            _task: task,
        }
    }

    /// What is known now. The interfaces are looked at anew, nobody is asked.
    #[must_use]
    pub fn now(&self) -> Gathered {
        self.shared.look();
        self.shared.publish.borrow().clone()
    }

    /// What is known, now and from now on.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Gathered> {
        self.shared.publish.subscribe()
    }

    /// A supernode at `server` said that it sees us at `observed`. It will be asked again.
    pub fn note(&self, server: SocketAddr, observed: SocketAddr) {
        let server = canonical(server);
        {
            let mut servers = lock(&self.shared.servers);
            servers.retain(|known| *known != server);
            servers.push(server);
            if servers.len() > MAX_SERVERS {
                let oldest = servers.remove(0);
                self.shared.forget(oldest);
            }
        }
        self.shared.observe(server, canonical(observed));
    }

    /// Something changed, or may have: look at the interfaces and ask the supernodes.
    pub fn refresh(&self) {
        self.shared.look();
        self.shared.again.notify_one();
    }

    /// Candidates from elsewhere, in place of those given before. This is where a port mapping goes.
    pub fn extra(&self, candidates: Vec<Candidate>) {
        self.shared.publish.send_if_modified(|gathered| {
            let changed = gathered.extra != candidates;
            gathered.extra = candidates;
            changed
        });
    }

    /// A call wants to know when our addresses change.
    #[must_use]
    pub fn lease(&self) -> Lease {
        self.shared.leases.fetch_add(1, Ordering::Relaxed);
        self.shared.again.notify_one();
        Lease(Arc::clone(&self.shared))
    }
}

impl Shared {
    fn look(&self) {
        let host = host_candidates(&*self.runtime, self.local, self.allow_loopback);
        self.publish.send_if_modified(|gathered| {
            let changed = gathered.host != host;
            gathered.host = host;
            changed
        });
    }

    fn observe(&self, server: SocketAddr, observed: SocketAddr) {
        if observed.ip().is_loopback() && !self.allow_loopback {
            return;
        }
        self.publish.send_if_modified(|gathered| {
            gathered.observed.insert(server, observed) != Some(observed)
        });
    }

    fn forget(&self, server: SocketAddr) {
        self.publish
            .send_if_modified(|gathered| gathered.observed.remove(&server).is_some());
    }

    async fn run(self: Arc<Self>) {
        // Who asks now. Asking again ends the asking before.
        let mut _asking: Vec<Task> = Vec::new();
        loop {
            let timer = self.runtime.sleep(REFRESH_EVERY);
            tokio::select! {
                biased;
                () = self.again.notified() => {}
                () = timer => {
                    if self.leases.load(Ordering::Relaxed) == 0 {
                        continue;
                    }
                }
            }
            self.look();
            let servers = lock(&self.servers).clone();
            _asking = servers
                .into_iter()
                .map(|server| {
                    let shared = Arc::clone(&self);
                    self.runtime.spawn_task(async move {
                        match observed_address(&shared.runtime, &shared.hub, server).await {
                            Ok(observed) => shared.observe(server, observed),
                            // What it said before may hold: a supernode that is gone says nothing about us.
                            Err(error) => tracing::debug!(%error, "an address is not refreshed"),
                        }
                    })
                })
                .collect();
        }
    }
}

/// Candidates for the port bound at `local`: one per interface address that the socket covers, IPv6 before
/// IPv4 and public before private (RFC 8421), at most [`MAX_CANDIDATES`].
///
/// Loopback addresses are left out unless `allow_loopback` is set, for demos and tests on one machine, or
/// there is nothing else and so no other machine to talk to.
#[must_use]
pub fn host_candidates(
    runtime: &dyn Runtime,
    local: SocketAddr,
    allow_loopback: bool,
) -> Vec<Candidate> {
    let interfaces = if local.ip().is_unspecified() {
        runtime.interface_addrs()
    } else {
        vec![local.ip()]
    };
    let mut ips: Vec<IpAddr> = interfaces
        .into_iter()
        .map(|ip| ip.to_canonical())
        // A socket on `::` is dual-stack, one on 0.0.0.0 is not.
        .filter(|ip| local.is_ipv6() || ip.is_ipv4())
        .filter(|ip| {
            Candidate::new(CandidateKind::Host, SocketAddr::new(*ip, local.port()), 0).is_usable()
        })
        .collect();
    if !allow_loopback && ips.iter().any(|ip| !ip.is_loopback()) {
        ips.retain(|ip| !ip.is_loopback());
    }
    ips.sort_by_key(|ip| (Reverse(rank(*ip)), *ip));
    ips.dedup();
    ips.truncate(MAX_CANDIDATES);
    (0..=u16::MAX)
        .rev()
        .zip(ips)
        .map(|(preference, ip)| {
            Candidate::new(
                CandidateKind::Host,
                SocketAddr::new(ip, local.port()),
                preference,
            )
        })
        .collect()
}

fn rank(ip: IpAddr) -> u8 {
    match ip {
        _ if ip.is_loopback() => 0,
        IpAddr::V4(v4) if v4.is_private() => 1,
        IpAddr::V6(v6) if v6.is_unique_local() => 2,
        IpAddr::V4(_) => 3,
        IpAddr::V6(_) => 4,
    }
}

#[cfg(test)]
mod tests {
    use std::{future::Future, io, pin::Pin, sync::Arc, time::Instant};

    use ahoy_transport::runtime::TokioRuntime;
    use quinn::{AsyncTimer, AsyncUdpSocket};

    use super::*;

    /// The real runtime with other interfaces.
    #[derive(Debug)]
    struct Interfaces(Vec<IpAddr>);

    impl quinn::Runtime for Interfaces {
        fn new_timer(&self, deadline: Instant) -> Pin<Box<dyn AsyncTimer>> {
            TokioRuntime.new_timer(deadline)
        }

        fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
            TokioRuntime.spawn(future);
        }

        fn wrap_udp_socket(
            &self,
            socket: std::net::UdpSocket,
        ) -> io::Result<Arc<dyn AsyncUdpSocket>> {
            TokioRuntime.wrap_udp_socket(socket)
        }

        fn now(&self) -> Instant {
            TokioRuntime.now()
        }
    }

    impl Runtime for Interfaces {
        fn unix_millis(&self) -> u64 {
            TokioRuntime.unix_millis()
        }

        fn fill_random(&self, bytes: &mut [u8]) {
            TokioRuntime.fill_random(bytes);
        }

        fn bind_udp(&self, addr: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
            TokioRuntime.bind_udp(addr)
        }

        fn interface_addrs(&self) -> Vec<IpAddr> {
            self.0.clone()
        }
    }

    fn gather(interfaces: &[&str], local: &str, allow_loopback: bool) -> Vec<String> {
        let interfaces = Interfaces(interfaces.iter().map(|ip| ip.parse().unwrap()).collect());
        let candidates = host_candidates(&interfaces, local.parse().unwrap(), allow_loopback);
        assert!(candidates.is_sorted_by_key(|candidate| Reverse(candidate.priority)));
        candidates
            .iter()
            .map(|candidate| candidate.addr.to_string())
            .collect()
    }

    #[test]
    fn public_addresses_come_first_and_loopback_stays_away() {
        assert_eq!(
            gather(
                &[
                    "127.0.0.1",
                    "::1",
                    "192.168.0.2",
                    "fd00::2",
                    "203.0.113.2",
                    "2001:db8::2",
                    "fe80::1"
                ],
                "[::]:7",
                false
            ),
            [
                "[2001:db8::2]:7",
                "203.0.113.2:7",
                "[fd00::2]:7",
                "192.168.0.2:7"
            ]
        );
    }

    #[test]
    fn an_ipv4_socket_has_ipv4_candidates_and_a_bound_one_its_own() {
        assert_eq!(
            gather(&["192.168.0.2", "2001:db8::2"], "0.0.0.0:7", false),
            ["192.168.0.2:7"]
        );
        assert_eq!(
            gather(&["192.168.0.2", "10.0.0.1"], "10.0.0.1:7", false),
            ["10.0.0.1:7"]
        );
    }

    #[test]
    fn loopback_appears_when_asked_for_or_alone() {
        assert_eq!(
            gather(&["127.0.0.1", "10.0.0.1"], "0.0.0.0:7", true),
            ["10.0.0.1:7", "127.0.0.1:7"]
        );
        assert_eq!(gather(&["127.0.0.1"], "0.0.0.0:7", false), ["127.0.0.1:7"]);
        assert_eq!(gather(&[], "0.0.0.0:7", false), [""; 0]);
    }
}
