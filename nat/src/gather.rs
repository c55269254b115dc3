//! Host candidates from the interfaces of this machine (RFC 8445 section 5.1.1.1).

use std::{
    cmp::Reverse,
    net::{IpAddr, SocketAddr},
};

use ahoy_transport::runtime::Runtime;

use crate::candidate::{Candidate, CandidateKind, MAX_CANDIDATES};

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
