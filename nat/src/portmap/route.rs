//! Where the default route leads, as the system tells it.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};

use super::manager::Gateway;

/// Any port: nothing is sent.
const SOME_PORT: u16 = 5351;
/// An address outside (RFC 5737), for systems whose table we do not read.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// The router that packets to the world go through, and our address towards it. None without one, and none behind a
/// VPN that takes all traffic: a port mapped beside the tunnel would show the address that the tunnel hides.
pub(super) fn default_gateway() -> Option<Gateway> {
    let router = router()?;
    let local = local_towards(router.unwrap_or(OUTSIDE))?;
    Some(Gateway { router, local })
}

/// The address that the system would send from.
fn local_towards(ip: Ipv4Addr) -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(SocketAddrV4::new(ip, SOME_PORT)).ok()?;
    match socket.local_addr().ok()?.ip() {
        std::net::IpAddr::V4(local) if !local.is_unspecified() => Some(local),
        std::net::IpAddr::V4(_) | std::net::IpAddr::V6(_) => None,
    }
}

/// `None` when there is no router, `Some(None)` when the system does not say which.
#[cfg(target_os = "linux")]
fn router() -> Option<Option<Ipv4Addr>> {
    let table = std::fs::read_to_string("/proc/net/route").ok()?;
    parse_route_table(&table).map(Some)
}

#[cfg(not(target_os = "linux"))]
fn router() -> Option<Option<Ipv4Addr>> {
    Some(None)
}

/// The gateway of the route that most of the world is behind: the default route, or the two halves of it that VPNs
/// put over it. The longest prefix rules, then the lowest metric.
#[cfg(any(target_os = "linux", test))]
fn parse_route_table(table: &str) -> Option<Ipv4Addr> {
    /// Linux, `RTF_UP | RTF_GATEWAY`.
    const UP: u32 = 1;
    const GATEWAY: u32 = 2;
    let hex = |field: &str| u32::from_str_radix(field, 16).ok();
    let routes = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, _, gateway, flags, _, _, metric, mask, ..] = fields.as_slice() else {
            return None;
        };
        let (flags, prefix) = (hex(flags)?, hex(mask)?.count_ones());
        let metric = metric.parse::<u32>().ok()?;
        // The kernel prints an address in network order as if it were a number of the machine's.
        let gateway = Ipv4Addr::from(hex(gateway)?.to_ne_bytes());
        (flags & UP != 0 && prefix <= 1).then_some((prefix, metric, flags, gateway))
    });
    let (_, _, flags, gateway) =
        routes.min_by_key(|(prefix, metric, ..)| (std::cmp::Reverse(*prefix), *metric))?;
    (flags & GATEWAY != 0).then_some(gateway)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str =
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";

    fn line(
        interface: &str,
        ip: [u8; 4],
        gateway: [u8; 4],
        flags: u32,
        metric: u32,
        mask: [u8; 4],
    ) -> String {
        let number = |ip: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(ip));
        format!(
            "{interface}\t{}\t{}\t{flags:04X}\t0\t0\t{metric}\t{}\t0\t0\t0\n",
            number(ip),
            number(gateway),
            number(mask)
        )
    }

    #[test]
    fn the_default_route_with_the_lowest_metric_names_the_router() {
        let table = format!(
            "{HEAD}{}{}{}",
            line("wlan0", [0; 4], [192, 168, 1, 1], 3, 600, [0; 4]),
            line("eth0", [0; 4], [10, 0, 0, 138], 3, 100, [0; 4]),
            line("eth0", [10, 0, 0, 0], [0; 4], 1, 100, [255, 255, 255, 0]),
        );
        assert_eq!(parse_route_table(&table), Some([10, 0, 0, 138].into()));
        assert_eq!(parse_route_table(HEAD), None);
        assert_eq!(parse_route_table("nonsense\nmore of it\n\u{0}"), None);
    }

    #[test]
    fn a_tunnel_that_takes_everything_has_no_router() {
        let home = line("eth0", [0; 4], [192, 168, 1, 1], 3, 100, [0; 4]);
        let wireguard = line("wg0", [0; 4], [0; 4], 1, 50, [0; 4]);
        assert_eq!(parse_route_table(&format!("{HEAD}{home}{wireguard}")), None);
        let half = line("tun0", [128, 0, 0, 0], [0; 4], 1, 0, [128, 0, 0, 0]);
        assert_eq!(parse_route_table(&format!("{HEAD}{home}{half}")), None);
    }
}
