//! Every packet on a machine's uplink: a packet socket in its namespace. `tcpdump` would do, but it insists on
//! becoming somebody else first, and in an unprivileged user namespace there is nobody else.

use std::{
    collections::BTreeSet,
    io::{ErrorKind, Read},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, Socket, Type};

use super::{Host, runner::now};

/// `ETH_P_ALL` as the kernel wants it: in network byte order.
const ALL_PROTOCOLS: i32 = 0x0003_u16.to_be() as i32;
/// Bytes of each packet that are looked at: all headers up to the ports.
const SNAP: usize = 96;
/// Room for packets that wait, while this machine does something else.
const BACKLOG_BYTES: usize = 8 << 20;
/// How soon a capture notices that it shall end.
const TICK: Duration = Duration::from_millis(20);
const ETHERNET: usize = 14;

/// TCP or UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
}

/// A packet with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// When it was seen.
    pub at: Instant,
    /// UDP or TCP.
    pub transport: Transport,
    /// Source.
    pub from: SocketAddr,
    /// Destination.
    pub to: SocketAddr,
}

/// A running capture. It ends when this is dropped.
#[derive(Debug)]
pub struct Capture {
    reader: Option<JoinHandle<Vec<Packet>>>,
    enough: Arc<AtomicBool>,
    own: Vec<IpAddr>,
}

/// What a machine sent and received.
#[derive(Debug, Clone, Default)]
pub struct Captured {
    /// In order.
    pub packets: Vec<Packet>,
    own: Vec<IpAddr>,
}

impl Capture {
    /// Begins. Nothing is missed from here on.
    ///
    /// # Panics
    /// When the system has no packet sockets for us.
    #[must_use]
    pub fn start(host: &Host) -> Self {
        let socket = host.run(|| {
            let socket = Socket::new(
                Domain::PACKET,
                Type::RAW,
                Some(Protocol::from(ALL_PROTOCOLS)),
            )?;
            socket.set_recv_buffer_size(BACKLOG_BYTES)?;
            socket.set_read_timeout(Some(TICK))?;
            Ok::<_, std::io::Error>(socket)
        });
        let socket = socket.unwrap_or_else(|error| panic!("no packet socket: {error}"));
        let enough = Arc::new(AtomicBool::new(false));
        let heard = Arc::clone(&enough);
        let reader = thread::Builder::new()
            .name("capture".to_owned())
            .spawn(move || read(socket, &heard))
            .expect("the system has a thread for each of a few captures");
        Self {
            reader: Some(reader),
            enough,
            own: host.ips(),
        }
    }

    /// Ends it.
    ///
    /// # Panics
    /// When its reader did.
    #[must_use]
    pub fn stop(mut self) -> Captured {
        self.enough.store(true, Ordering::Relaxed);
        let reader = self.reader.take().expect("it ends once");
        Captured {
            packets: reader.join().expect("a reader does not panic"),
            own: std::mem::take(&mut self.own),
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.enough.store(true, Ordering::Relaxed);
    }
}

/// Until there is enough, and then what waits.
fn read(mut socket: Socket, enough: &AtomicBool) -> Vec<Packet> {
    let mut packets = Vec::new();
    let mut frame = [0; SNAP];
    loop {
        let last = enough.load(Ordering::Relaxed);
        match socket.read(&mut frame) {
            Ok(length) => packets.extend(packet(now(), &frame[..length])),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if last {
                    return packets;
                }
            }
            // A link that goes down says so here; it may come up again.
            Err(_link) if last => return packets,
            Err(_link) => {}
        }
    }
}

impl Captured {
    /// The other end of a packet.
    fn remote(&self, packet: &Packet) -> SocketAddr {
        if self.own.contains(&packet.from.ip()) {
            packet.to
        } else {
            packet.from
        }
    }

    /// Everybody spoken to or heard from, except groups and broadcasts.
    #[must_use]
    pub fn remotes(&self) -> BTreeSet<IpAddr> {
        let remotes = self.packets.iter().map(|packet| self.remote(packet).ip());
        remotes.filter(|ip| !is_group(*ip)).collect()
    }

    /// Packets from or to one of these.
    #[must_use]
    pub fn with<'a>(&'a self, ips: &[IpAddr]) -> Vec<&'a Packet> {
        let packets = self.packets.iter();
        packets
            .filter(|packet| ips.contains(&packet.from.ip()) || ips.contains(&packet.to.ip()))
            .collect()
    }

    /// Flows: what takes an entry in a router's table.
    #[must_use]
    pub fn flows(&self) -> usize {
        let outside = self.packets.iter().filter(|packet| {
            let remote = self.remote(packet).ip();
            !is_group(remote)
        });
        let flows: BTreeSet<_> = outside
            .map(|packet| {
                let (one, two) = (packet.from, packet.to);
                (packet.transport, one.min(two), one.max(two))
            })
            .collect();
        flows.len()
    }

    /// The most packets in any second, one way and the other together.
    #[must_use]
    pub fn busiest_second(&self) -> usize {
        let times: Vec<Instant> = self.packets.iter().map(|packet| packet.at).collect();
        let second = Duration::from_secs(1);
        let within = |from: usize| {
            let rest = times[from..].iter();
            rest.take_while(|at| **at - times[from] < second).count()
        };
        (0..times.len()).map(within).max().unwrap_or(0)
    }

    /// What happened before `at`.
    #[must_use]
    pub fn before(&self, at: Instant) -> Self {
        let packets = self.packets.iter().filter(|packet| packet.at < at);
        Self {
            packets: packets.copied().collect(),
            own: self.own.clone(),
        }
    }
}

fn is_group(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_multicast() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_multicast(),
    }
}

fn packet(at: Instant, frame: &[u8]) -> Option<Packet> {
    let kind = u16::from_be_bytes(frame.get(12..ETHERNET)?.try_into().ok()?);
    let ip = frame.get(ETHERNET..)?;
    let (protocol, from, to, rest): (u8, IpAddr, IpAddr, &[u8]) = match kind {
        0x0800 => {
            let header = usize::from(ip.first()? & 0x0f) * 4;
            let v4 = |at: usize| {
                let four: [u8; 4] = ip.get(at..at + 4)?.try_into().ok()?;
                Some(IpAddr::V4(Ipv4Addr::from(four)))
            };
            (*ip.get(9)?, v4(12)?, v4(16)?, ip.get(header..)?)
        }
        0x86dd => {
            let v6 = |at: usize| {
                let sixteen: [u8; 16] = ip.get(at..at + 16)?.try_into().ok()?;
                Some(IpAddr::V6(Ipv6Addr::from(sixteen)))
            };
            (*ip.get(6)?, v6(8)?, v6(24)?, ip.get(40..)?)
        }
        _ => return None,
    };
    let transport = match protocol {
        17 => Transport::Udp,
        6 => Transport::Tcp,
        _ => return None,
    };
    if from.is_loopback() {
        return None;
    }
    let port = |at: usize| Some(u16::from_be_bytes(rest.get(at..at + 2)?.try_into().ok()?));
    Some(Packet {
        at,
        transport,
        from: SocketAddr::new(from, port(0)?),
        to: SocketAddr::new(to, port(2)?),
    })
}
