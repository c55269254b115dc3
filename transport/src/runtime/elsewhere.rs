//! Systems without a notice of their own here: they are looked at now and then.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::OnceLock,
    time::{Duration, Instant},
};

use super::networks::{NetworkChanges, Route};

pub(super) fn network_changes() -> NetworkChanges {
    NetworkChanges::never()
}

/// By how much the wall clock ran ahead of the clock that stands still while the machine sleeps. A wall clock that
/// is set looks like sleep too; that costs a look at the networks.
pub(super) fn suspended(now: Instant, unix_millis: u64) -> Duration {
    static FIRST: OnceLock<(Instant, u64)> = OnceLock::new();
    let (first, first_millis) = *FIRST.get_or_init(|| (now, unix_millis));
    Duration::from_millis(unix_millis.saturating_sub(first_millis))
        .saturating_sub(now.saturating_duration_since(first))
}

/// How packets to `to` leave: an unsent datagram's own address tells. Nothing is sent there.
pub(super) fn route(to: IpAddr) -> Option<Route> {
    let any: SocketAddr = match to {
        IpAddr::V4(_) => ([0; 4], 0).into(),
        IpAddr::V6(_) => ([0u16; 8], 0).into(),
    };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect((to, 9)).ok()?;
    Some(Route {
        source: Some(socket.local_addr().ok()?.ip()),
        ..Route::default()
    })
}
