//! The real runtime: tokio's timers and sockets, the operating system's clock and generator.

use std::{
    future::Future,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4},
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use quinn::{AsyncTimer, AsyncUdpSocket, Runtime as QuinnRuntime};
use rand_core::{OsRng, RngCore};
use socket2::{Domain, Protocol, Socket, Type};

#[cfg(not(target_os = "linux"))]
use super::elsewhere as system;
#[cfg(target_os = "linux")]
use super::linux as system;
use super::{
    Connecting, Job, NetworkChanges, Networks, Resolving, Route, Runtime, TcpListener, Working,
    beat::{BeatTimer, last_beat},
    tokio_tcp,
};

/// Addresses that stand for the internet when the way there is asked for (RFC 5737, 3849). Nothing is sent there.
const INTERNET_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));
const INTERNET_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));

/// [`Runtime`] over tokio. All methods must be called inside a tokio runtime.
#[derive(Debug, Clone, Copy, Default)]
pub struct TokioRuntime;

impl QuinnRuntime for TokioRuntime {
    fn new_timer(&self, deadline: Instant) -> Pin<Box<dyn AsyncTimer>> {
        Box::pin(BeatTimer::new(QuinnRuntime::now(self), deadline))
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        quinn::TokioRuntime.spawn(future);
    }

    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        #[cfg(target_os = "linux")]
        return Ok(Arc::new(super::linux_udp::UdpSocket::new(socket)?));
        #[cfg(not(target_os = "linux"))]
        return quinn::TokioRuntime.wrap_udp_socket(socket);
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place where the real clock enters"
    )]
    fn now(&self) -> Instant {
        Instant::now()
    }
}

impl Runtime for TokioRuntime {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place where the real clock enters"
    )]
    fn unix_millis(&self) -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| {
                u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
            })
    }

    fn beat(&self) -> Instant {
        last_beat(self.now())
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        OsRng.fill_bytes(bytes);
    }

    fn bind_udp(&self, addr: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        self.wrap_udp_socket(std::net::UdpSocket::bind(addr)?)
    }

    fn bind_multicast(
        &self,
        addr: SocketAddrV4,
        group: Ipv4Addr,
        interfaces: &[Ipv4Addr],
    ) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_reuse_address(true)?;
        #[cfg(unix)]
        socket.set_reuse_port(true)?;
        socket.bind(&SocketAddr::V4(addr).into())?;
        if !addr.ip().is_unspecified() {
            socket.set_multicast_if_v4(addr.ip())?;
        }
        for interface in interfaces {
            // One interface that cannot must not keep the others out.
            if let Err(error) = socket.join_multicast_v4(&group, interface) {
                tracing::debug!(%interface, %error, "no multicast here");
            }
        }
        self.wrap_udp_socket(socket.into())
    }

    fn connect_tcp(&self, addr: SocketAddr) -> Connecting<'_> {
        Box::pin(tokio_tcp::connect(addr))
    }

    fn listen_tcp(&self, addr: SocketAddr) -> io::Result<Arc<dyn TcpListener>> {
        tokio_tcp::listen(addr)
    }

    fn interface_addrs(&self) -> Vec<IpAddr> {
        interfaces()
            .into_iter()
            .map(|interface| interface.ip())
            .collect()
    }

    fn is_neighbour(&self, ip: IpAddr) -> bool {
        let networks: Vec<Network> = interfaces().iter().map(Network::of).collect();
        is_neighbour(&networks, ip.to_canonical())
    }

    fn networks(&self) -> Networks {
        let interfaces = interfaces();
        let way = |to| way_out(&interfaces, to);
        Networks {
            route_v4: way(INTERNET_V4),
            route_v6: way(INTERNET_V6),
            ..Networks::of_addrs(interfaces.iter().map(if_addrs::Interface::ip))
        }
    }

    fn network_changes(&self) -> NetworkChanges {
        system::network_changes()
    }

    fn work(&self, job: Job) -> Working<'_> {
        let working = tokio::task::spawn_blocking(job);
        Box::pin(async move {
            if let Err(error) = working.await {
                // The runtime ends, and nobody waits any more.
                tracing::debug!(%error, "a job was not done");
            }
        })
    }

    fn suspended(&self) -> Duration {
        #[cfg(target_os = "linux")]
        return system::suspended();
        #[cfg(not(target_os = "linux"))]
        return system::suspended(self.now(), self.unix_millis());
    }

    fn resolve(&self, host: &str, port: u16) -> Resolving<'_> {
        let host = host.to_owned();
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), port))
                .await?
                .collect();
            if found.is_empty() {
                return Err(io::Error::new(
                    io::ErrorKind::NotFound,
                    format!("the name {host:?} has no address"),
                ));
            }
            Ok(found)
        })
    }
}

/// Interfaces that are up, an entry per address, without link-local ones.
fn interfaces() -> Vec<if_addrs::Interface> {
    match if_addrs::get_if_addrs() {
        Ok(interfaces) => interfaces
            .into_iter()
            // An interface that is down, or whose cable is out, may keep its addresses.
            .filter(|interface| interface.is_oper_up() && !is_link_local(interface.ip()))
            .collect(),
        Err(error) => {
            tracing::warn!(%error, "cannot list network interfaces");
            Vec::new()
        }
    }
}

/// An address of an interface, and how many of its leading bits all addresses of its network share.
#[derive(Debug, Clone, Copy)]
struct Network(IpAddr, u8);

impl Network {
    fn of(interface: &if_addrs::Interface) -> Self {
        match &interface.addr {
            if_addrs::IfAddr::V4(v4) => Self(v4.ip.into(), v4.prefixlen),
            if_addrs::IfAddr::V6(v6) => Self(v6.ip.into(), v6.prefixlen),
        }
    }

    fn has(&self, ip: IpAddr) -> bool {
        let Self(own, prefix) = *self;
        // As the leading bits of 128, whatever the family; no bits at all are no network.
        let (own, other, bits) = match (own, ip) {
            (IpAddr::V4(own), IpAddr::V4(ip)) => (
                u128::from(own.to_bits()) << 96,
                u128::from(ip.to_bits()) << 96,
                32,
            ),
            (IpAddr::V6(own), IpAddr::V6(ip)) => (own.to_bits(), ip.to_bits(), 128),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return false,
        };
        (1..=bits).contains(&prefix) && (own ^ other) >> (128 - u32::from(prefix)) == 0
    }
}

/// Our own addresses are nobody else's. IPv4 networks count if they are private: a provider may put all its customers
/// into one public network, and still lie between them.
fn is_neighbour(networks: &[Network], ip: IpAddr) -> bool {
    let is_possible = match ip {
        IpAddr::V4(v4) => v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => !v6.is_loopback(),
    };
    is_possible
        && networks.iter().all(|network| network.0 != ip)
        && networks.iter().any(|network| network.has(ip))
}

#[cfg(target_os = "linux")]
fn way_out(interfaces: &[if_addrs::Interface], to: IpAddr) -> Option<Route> {
    let (index, route) = system::route(to)?;
    let named = interfaces
        .iter()
        .find(|interface| interface.index == Some(index));
    Some(Route {
        interface: Some(named.map_or_else(|| format!("#{index}"), |found| found.name.clone())),
        ..route
    })
}

#[cfg(not(target_os = "linux"))]
fn way_out(interfaces: &[if_addrs::Interface], to: IpAddr) -> Option<Route> {
    let route = system::route(to)?;
    let named = interfaces
        .iter()
        .find(|interface| Some(interface.ip()) == route.source);
    Some(Route {
        interface: named.map(|found| found.name.clone()),
        ..route
    })
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_in_a_network_of_ours_and_are_not_ourselves() {
        let own = [
            ("127.0.0.1", 8),
            ("192.168.9.7", 24),
            ("10.3.0.1", 32),
            ("203.0.113.5", 24),
            ("172.16.5.5", 0),
            ("::1", 128),
            ("2001:db8:1:2::7", 64),
            ("fd00:5::1", 128),
        ]
        .map(|(ip, prefix)| Network(ip.parse().unwrap(), prefix));
        for (ip, expected) in [
            ("192.168.9.1", true),
            ("192.168.9.255", true),
            ("192.168.8.1", false),
            // Ourselves.
            ("192.168.9.7", false),
            ("2001:db8:1:2::7", false),
            ("127.0.0.2", false),
            ("::1", false),
            // A tunnel's end is alone.
            ("10.3.0.2", false),
            ("fd00:5::2", false),
            // A provider's network.
            ("203.0.113.6", false),
            // An address without a network.
            ("172.16.5.6", false),
            ("2001:db8:1:2::8", true),
            ("2001:db8:1:3::8", false),
            ("8.8.8.8", false),
        ] {
            assert_eq!(is_neighbour(&own, ip.parse().unwrap()), expected, "{ip}");
        }
        assert!(!is_neighbour(&[], "192.168.9.1".parse().unwrap()));
    }
}
