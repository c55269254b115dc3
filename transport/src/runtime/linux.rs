//! Linux: rtnetlink says what changed and how packets leave; the clocks say how long the machine slept.

use std::{
    io,
    mem::MaybeUninit,
    net::IpAddr,
    os::fd::{AsRawFd, OwnedFd},
    time::Duration,
};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, netlink, recv,
        socket_with,
    },
    time::{
        ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec,
        clock_gettime, timerfd_create, timerfd_settime,
    },
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::watch,
};

use super::networks::{NetworkChanges, Route};

/// RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_IFADDR, RTMGRP_IPV6_ROUTE.
const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;
/// Messages taken in one go: a flood of them must not hold the thread.
const READS_PER_WAKE: usize = 64;
/// Longer than any answer to one question; of notices only the arrival counts.
const BUFFER_BYTES: usize = 8192;

const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const NLM_F_REQUEST: u16 = 1;
const NETLINK_HEADER_BYTES: usize = 16;
const ROUTE_HEADER_BYTES: usize = 12;
const RTN_UNICAST: u8 = 1;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PREFSRC: u16 = 7;
const RTA_VIA: u16 = 18;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// How long this machine has slept since it was started, give or take what passes between two clock readings.
pub(super) fn suspended() -> Duration {
    let (awake, all) = (
        duration(clock_gettime(ClockId::Monotonic)),
        duration(clock_gettime(ClockId::Boottime)),
    );
    all.saturating_sub(awake)
}

fn duration(time: Timespec) -> Duration {
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), nanos)
}

/// Rings at every notice of the kernel, and when the wall clock jumps, as it does when the machine wakes up.
pub(super) fn network_changes() -> NetworkChanges {
    match open() {
        Ok((notices, clock)) => {
            let (bell, changes) = watch::channel(0);
            tokio::spawn(ring(bell, notices, clock));
            NetworkChanges::new(changes)
        }
        Err(error) => {
            tracing::debug!(%error, "the system tells nothing about its networks");
            NetworkChanges::never()
        }
    }
}

fn open() -> io::Result<(AsyncFd<OwnedFd>, Option<AsyncFd<OwnedFd>>)> {
    let socket = netlink_socket()?;
    bind(&socket, &netlink::SocketAddrNetlink::new(0, GROUPS))?;
    let notices = watched(socket, Interest::READABLE)?;
    let clock = clock_jumps()
        .inspect_err(|error| tracing::debug!(%error, "the clock does not tell when it jumps"))
        .ok();
    Ok((notices, clock))
}

#[expect(
    deprecated,
    reason = "an OwnedFd and what is made of one keep their descriptor open, which is all that the unsafe successor \
              asks for"
)]
pub(super) fn watched<T: Into<OwnedFd> + AsRawFd>(
    descriptor: T,
    interest: Interest,
) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(descriptor, interest)
}

fn netlink_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    // No protocol is NETLINK_ROUTE.
    Ok(socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        flags,
        None,
    )?)
}

/// A timer that never expires, and is cancelled whenever the wall clock is set; resuming sets it.
fn clock_jumps() -> io::Result<AsyncFd<OwnedFd>> {
    let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
    let timer = timerfd_create(TimerfdClockId::Realtime, flags)?;
    arm(&timer)?;
    watched(timer, Interest::READABLE)
}

fn arm(timer: &OwnedFd) -> io::Result<()> {
    let never = Itimerspec {
        it_interval: Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        },
        it_value: Timespec {
            tv_sec: i64::MAX / 2_000_000_000,
            tv_nsec: 0,
        },
    };
    let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
    timerfd_settime(timer, flags, &never)?;
    Ok(())
}

async fn ring(
    bell: watch::Sender<u64>,
    notices: AsyncFd<OwnedFd>,
    mut clock: Option<AsyncFd<OwnedFd>>,
) {
    loop {
        let rung = tokio::select! {
            biased;
            () = bell.closed() => return,
            read = take_notices(&notices) => read,
            read = take_jump(clock.as_ref()) => {
                if read.is_err() {
                    clock = None;
                }
                Ok(())
            }
        };
        if let Err(error) = rung {
            tracing::warn!(%error, "the system tells nothing more about its networks");
            return;
        }
        bell.send_modify(|count| *count += 1);
    }
}

async fn take_notices(notices: &AsyncFd<OwnedFd>) -> io::Result<()> {
    let mut ready = notices.readable().await?;
    let mut buffer = [MaybeUninit::<u8>::uninit(); BUFFER_BYTES];
    for _ in 0..READS_PER_WAKE {
        match recv(notices.get_ref(), &mut buffer, RecvFlags::empty()) {
            // Notices that were lost because nobody read them are notices all the same.
            Ok(_) | Err(Errno::NOBUFS | Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                ready.clear_ready();
                break;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

async fn take_jump(clock: Option<&AsyncFd<OwnedFd>>) -> io::Result<()> {
    let Some(clock) = clock else {
        return std::future::pending().await;
    };
    let mut ready = clock.readable().await?;
    let mut expirations = [0; 8];
    match rustix::io::read(clock.get_ref(), &mut expirations) {
        Ok(_) | Err(Errno::CANCELED | Errno::AGAIN | Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    ready.clear_ready();
    arm(clock.get_ref())
}

/// How packets to `to` leave, and the index of the interface; policy routing included. Nothing is sent there.
pub(super) fn route(to: IpAddr) -> Option<(u32, Route)> {
    match ask_route(to) {
        Ok(answer) => parse_route(&answer),
        Err(error) => {
            tracing::debug!(%error, "the system does not say how packets leave");
            None
        }
    }
}

fn ask_route(to: IpAddr) -> io::Result<Vec<u8>> {
    let socket = netlink_socket()?;
    bind(&socket, &netlink::SocketAddrNetlink::new(0, 0))?;
    rustix::net::send(&socket, &route_question(to), SendFlags::empty())?;
    // The kernel has answered before `send` returns.
    let mut buffer = [MaybeUninit::<u8>::uninit(); BUFFER_BYTES];
    let ((answer, _rest), _bytes) = recv(&socket, &mut buffer, RecvFlags::empty())?;
    Ok(answer.to_vec())
}

/// RTM_GETROUTE for one destination.
fn route_question(to: IpAddr) -> Vec<u8> {
    let (family, octets) = match to {
        IpAddr::V4(v4) => (AF_INET, v4.octets().to_vec()),
        IpAddr::V6(v6) => (AF_INET6, v6.octets().to_vec()),
    };
    let attribute_bytes = 4 + octets.len();
    let total = NETLINK_HEADER_BYTES + ROUTE_HEADER_BYTES + attribute_bytes;
    let mut question = Vec::with_capacity(total);
    question.extend(u32::try_from(total).unwrap_or(u32::MAX).to_ne_bytes());
    question.extend(RTM_GETROUTE.to_ne_bytes());
    question.extend(NLM_F_REQUEST.to_ne_bytes());
    // Sequence number and port: one question per socket needs neither.
    question.extend([0; 8]);
    let prefix_bits = u8::try_from(octets.len() * 8).unwrap_or(u8::MAX);
    question.extend([family, prefix_bits, 0, 0, 0, 0, 0, 0]);
    question.extend(0u32.to_ne_bytes());
    question.extend(
        u16::try_from(attribute_bytes)
            .unwrap_or(u16::MAX)
            .to_ne_bytes(),
    );
    question.extend(RTA_DST.to_ne_bytes());
    question.extend(octets);
    question
}

fn parse_route(answer: &[u8]) -> Option<(u32, Route)> {
    let (header, rest) = answer.split_first_chunk::<NETLINK_HEADER_BYTES>()?;
    let kind = u16::from_ne_bytes([header[4], header[5]]);
    let (route, attributes) = rest.split_first_chunk::<ROUTE_HEADER_BYTES>()?;
    if kind != RTM_NEWROUTE || route[7] != RTN_UNICAST {
        return None;
    }
    let (mut index, mut found) = (None, Route::default());
    for (kind, value) in Attributes(attributes) {
        match kind {
            RTA_OIF => index = value.try_into().ok().map(u32::from_ne_bytes),
            RTA_GATEWAY => found.gateway = address(value),
            // A next hop of the other family: two bytes of family, then the address.
            RTA_VIA => found.gateway = value.get(2..).and_then(address),
            RTA_PREFSRC => found.source = address(value),
            _others => {}
        }
    }
    Some((index?, found))
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(octets) {
        return Some(v4.into());
    }
    <[u8; 16]>::try_from(octets).ok().map(IpAddr::from)
}

/// Attributes of a netlink message: length with header, type, value, padding to four bytes.
struct Attributes<'a>(&'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (header, _) = self.0.split_first_chunk::<4>()?;
        let [l0, l1, t0, t1] = *header;
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([t0, t1]), value))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = u16::try_from(4 + value.len())
            .unwrap()
            .to_ne_bytes()
            .to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn answer(kind: u16, route_kind: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend([AF_INET, 32, 0, 0, 254, 0, 0, route_kind, 0, 0, 0, 0]);
        bytes.extend(attributes.concat());
        bytes
    }

    #[test]
    fn a_route_has_an_interface_and_what_else_the_kernel_says() {
        let parts = [
            attribute(RTA_DST, &[198, 51, 100, 1]),
            // An odd length is padded.
            attribute(99, &[7]),
            attribute(RTA_OIF, &3u32.to_ne_bytes()),
            attribute(RTA_GATEWAY, &[192, 168, 0, 1]),
            attribute(RTA_PREFSRC, &[192, 168, 0, 7]),
        ];
        let route = Route {
            interface: None,
            gateway: Some([192, 168, 0, 1].into()),
            source: Some([192, 168, 0, 7].into()),
        };
        let found = parse_route(&answer(RTM_NEWROUTE, RTN_UNICAST, &parts));
        assert_eq!(found, Some((3, route)));
        // An unreachable route, and an error instead of a route.
        assert_eq!(parse_route(&answer(RTM_NEWROUTE, 7, &parts)), None);
        assert_eq!(parse_route(&answer(2, RTN_UNICAST, &parts)), None);
    }

    #[test]
    fn the_kernel_understands_the_question() {
        // Loopback is a local route, not a way out; that there is an answer at all is what counts.
        let answer = ask_route([127, 0, 0, 1].into()).unwrap();
        assert_eq!(u16::from_ne_bytes([answer[4], answer[5]]), RTM_NEWROUTE);
        assert_eq!(parse_route(&answer), None);
    }

    #[test]
    fn a_machine_that_does_not_sleep_adds_nothing() {
        let before = suspended();
        assert!(suspended().abs_diff(before) < Duration::from_millis(100));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _route = parse_route(&bytes);
            let mut framed = answer(RTM_NEWROUTE, RTN_UNICAST, &[]);
            framed.extend(bytes);
            let _route = parse_route(&framed);
        }
    }
}
