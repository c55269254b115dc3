//! What a NAT really does, probed from inside (the tests of RFC 5780 section 4, with sockets in place of STUN).

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::{Host, Lab, Nat};

/// An answer within this machine takes microseconds; this is for when it does something else as well.
const WAIT: Duration = Duration::from_millis(250);
/// Probes where silence is an answer, and where it is none.
const TRIES: u8 = 2;
const PATIENCE: u8 = 6;

/// On what a mapping or a filter depends (RFC 4787 sections 4.1 and 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depends {
    /// Endpoint-independent.
    No,
    /// Address-dependent.
    Address,
    /// Address-and-port-dependent.
    AddressAndPort,
}

/// What was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Behaviour {
    /// UDP comes back from outside.
    pub udp: bool,
    /// The address outside is another one than inside.
    pub translated: bool,
    /// Absent without UDP.
    pub mapping: Option<Depends>,
    /// Absent without UDP.
    pub filtering: Option<Depends>,
    /// A TCP connection to port 443, and one to port 80, comes about.
    pub tcp: [bool; 2],
}

impl fmt::Display for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "udp {} translated {} mapping {:?} filtering {:?} tcp443 {} tcp80 {}",
            self.udp, self.translated, self.mapping, self.filtering, self.tcp[0], self.tcp[1]
        )
    }
}

impl Nat {
    /// What each kind has to be seen doing.
    #[must_use]
    pub const fn behaviour(self) -> Behaviour {
        let (mapping, filtering) = match self {
            Self::None | Self::Full => (Depends::No, Depends::No),
            Self::Addr => (Depends::No, Depends::Address),
            Self::Port | Self::Cgnat | Self::V6Only => (Depends::No, Depends::AddressAndPort),
            Self::Symmetric | Self::CgnatSymmetric => {
                (Depends::AddressAndPort, Depends::AddressAndPort)
            }
            Self::UdpBlocked => {
                return Behaviour {
                    udp: false,
                    translated: false,
                    mapping: None,
                    filtering: None,
                    tcp: [true, false],
                };
            }
        };
        Behaviour {
            udp: true,
            translated: !matches!(self, Self::None | Self::V6Only),
            mapping: Some(mapping),
            filtering: Some(filtering),
            tcp: [true, true],
        }
    }
}

/// Two public machines that answer probes, one of them from two ports. Serves several threads at once.
#[derive(Debug)]
pub struct Judge<'a> {
    lab: &'a Lab,
    web: [TcpListener; 2],
}

/// Sockets for one question on the public machines.
struct Bench {
    first: UdpSocket,
    first_other_port: UdpSocket,
    second: UdpSocket,
}

impl<'a> Judge<'a> {
    /// Sits down on the public machine that is not the supernode's.
    ///
    /// # Panics
    /// When somebody serves the web there.
    #[must_use]
    pub fn new(lab: &'a Lab) -> Self {
        let web = [443, 80].map(|port| {
            let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
            let listener = lab.other.run(move || TcpListener::bind(any));
            listener.expect("nobody else has this port")
        });
        Self { lab, web }
    }

    fn bench(&self, v6: bool) -> Bench {
        let socket = |host: &Host| {
            let ip = if v6 {
                IpAddr::V6(host.ip6())
            } else {
                IpAddr::V4(host.ip())
            };
            udp(host, ip)
        };
        Bench {
            first: socket(&self.lab.node),
            first_other_port: socket(&self.lab.node),
            second: socket(&self.lab.other),
        }
    }

    /// Probes what stands between `host` and the internet: for IPv4, if it has that.
    ///
    /// # Panics
    /// When the machine has no address.
    #[must_use]
    pub fn judge(&self, host: &Host) -> Behaviour {
        let v6 = host.ips().iter().all(IpAddr::is_ipv6);
        let bench = self.bench(v6);
        let probe = udp(host, unspecified(v6));
        let Some(mapped) = ask(&probe, &bench.first) else {
            return Behaviour {
                udp: false,
                translated: false,
                mapping: None,
                filtering: None,
                tcp: self.web(host, v6),
            };
        };
        // Filtering before the probe has spoken to anybody else.
        let filtering = if told(&bench.second, &probe, mapped) {
            Depends::No
        } else if told(&bench.first_other_port, &probe, mapped) {
            Depends::Address
        } else {
            Depends::AddressAndPort
        };
        let mapping = if ask(&probe, &bench.first_other_port) != Some(mapped) {
            Depends::AddressAndPort
        } else if ask(&probe, &bench.second) != Some(mapped) {
            Depends::Address
        } else {
            Depends::No
        };
        Behaviour {
            udp: true,
            translated: !host.ips().contains(&mapped.ip()),
            mapping: Some(mapping),
            filtering: Some(filtering),
            // Last: a filter by address opens for whom was spoken to by TCP as well.
            tcp: self.web(host, v6),
        }
    }

    fn web(&self, host: &Host, v6: bool) -> [bool; 2] {
        let other = &self.lab.other;
        let ip = if v6 {
            IpAddr::V6(other.ip6())
        } else {
            IpAddr::V4(other.ip())
        };
        self.web.each_ref().map(|listener| {
            let port = listener.local_addr().expect("it is bound").port();
            let to = SocketAddr::new(ip, port);
            host.run(move || TcpStream::connect_timeout(&to, 2 * WAIT).is_ok())
        })
    }

    /// Whether two machines behind one NAT reach each other by their public addresses.
    ///
    /// # Panics
    /// When a socket cannot be had.
    #[must_use]
    pub fn hairpin(&self, one: &Host, two: &Host) -> bool {
        let bench = self.bench(false);
        let probes = [one, two].map(|host| udp(host, unspecified(false)));
        let mapped = [0, 1].map(|n: usize| ask(&probes[n], &bench.first));
        let [Some(to_one), Some(to_two)] = mapped else {
            return false;
        };
        // Both sides speak, since the homes' own filters open only for whom was spoken to.
        (0..PATIENCE).any(|_| {
            told(&probes[0], &probes[1], to_two);
            told(&probes[1], &probes[0], to_one)
        })
    }
}

const fn unspecified(v6: bool) -> IpAddr {
    if v6 {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    } else {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    }
}

fn udp(host: &Host, ip: IpAddr) -> UdpSocket {
    let socket = host.udp(SocketAddr::new(ip, 0));
    let socket = socket.expect("there are free ports");
    socket
        .set_read_timeout(Some(WAIT))
        .expect("it is a positive time");
    socket
}

/// Sends from `probe` to `judge`; where the judge saw it come from, if it came.
fn ask(probe: &UdpSocket, judge: &UdpSocket) -> Option<SocketAddr> {
    let to = judge.local_addr().ok()?;
    (0..PATIENCE).find_map(|_| pass(probe, to, judge))
}

/// Sends from `judge` to `mapped`; whether `probe` got it.
fn told(judge: &UdpSocket, probe: &UdpSocket, mapped: SocketAddr) -> bool {
    (0..TRIES).any(|_| pass(judge, mapped, probe).is_some())
}

/// Sends one datagram that is like no other, and waits for it; where it seems to come from.
fn pass(from: &UdpSocket, to: SocketAddr, at: &UdpSocket) -> Option<SocketAddr> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let token = NUMBER.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    // Refused by the own system where there is no route: as good as lost.
    from.send_to(&token, to).ok()?;
    let mut buffer = [0; 64];
    loop {
        // What came too late for an earlier question is no answer to this one.
        let (length, seen) = at.recv_from(&mut buffer).ok()?;
        if buffer[..length] == token {
            return Some(seen);
        }
    }
}
