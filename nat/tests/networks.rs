//! The network monitor over a real kernel, in a network namespace of its own.
//!
//! A test runs itself again under `unshare`; where that is not permitted it says so and passes.
#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic, and says what it measured"
)]

mod namespace;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ahoy_nat::netmon::{NetMonitor, NetworkState};
use ahoy_transport::runtime::{Runtime, TokioRuntime, timeout};
use namespace::{inside, ip};

/// From the command that changes something to the notice of it.
const IN_TIME: Duration = Duration::from_millis(200);

/// Two pairs of interfaces; ours have the addresses 10.1.0.2 and 10.2.0.2, and the way out is by the first.
fn two_uplinks() {
    for (name, net) in [("one", 1), ("two", 2)] {
        ip(&format!("link add {name} type veth peer name {name}-far"));
        ip(&format!("link set {name}-far up"));
        ip(&format!("link set {name} up"));
        ip(&format!("addr add 10.{net}.0.2/24 dev {name}"));
    }
    ip("route add default via 10.1.0.1");
}

struct Watch {
    runtime: Arc<dyn Runtime>,
    monitor: NetMonitor,
    worst: Duration,
}

impl Watch {
    /// Waits until everything that happened so far has been told.
    async fn settled() -> Self {
        let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime);
        let mut monitor = NetMonitor::start(&runtime);
        while timeout(&*runtime, Duration::from_millis(600), monitor.changed())
            .await
            .is_some()
        {}
        Self {
            runtime,
            monitor,
            worst: Duration::ZERO,
        }
    }

    /// Runs `ip` and waits until the monitor has told everything that `done` wants.
    async fn tells(&mut self, arguments: &str, done: impl Fn(&NetworkState) -> bool) {
        ip(arguments);
        let since: Instant = self.runtime.now();
        loop {
            let told = timeout(
                &*self.runtime,
                Duration::from_secs(5),
                self.monitor.changed(),
            )
            .await
            .unwrap_or_else(|| panic!("nobody told of: ip {arguments}"));
            let took = self.runtime.now() - since;
            println!(
                "ip {arguments}: after {} ms: {}",
                took.as_millis(),
                told.reason
            );
            if done(&told) {
                self.worst = self.worst.max(took);
                assert!(took < IN_TIME, "ip {arguments} was told after {took:?}");
                return;
            }
        }
    }
}

fn watching(scene: impl AsyncFnOnce(Watch)) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(async { scene(Watch::settled().await).await });
}

#[test]
fn every_change_of_interfaces_addresses_and_routes_is_told_in_time() {
    if !inside("every_change_of_interfaces_addresses_and_routes_is_told_in_time") {
        return;
    }
    two_uplinks();
    watching(async |mut watch| {
        let interface = |state: &NetworkState| {
            let route = state.networks.route_v4.clone();
            route.and_then(|route| route.interface)
        };
        watch
            .tells("addr add 10.1.0.9/24 dev one", |state| {
                state.reason.gained == [std::net::IpAddr::from([10, 1, 0, 9])]
            })
            .await;
        watch
            .tells("addr del 10.1.0.9/24 dev one", |state| {
                state.reason.lost == [std::net::IpAddr::from([10, 1, 0, 9])]
            })
            .await;
        watch
            .tells("route replace default via 10.2.0.1", |state| {
                state.reason.route && interface(state).as_deref() == Some("two")
            })
            .await;
        // The cable of the uplink in use is pulled at the far end: address and route stay configured.
        watch
            .tells("link set two-far down", |state| {
                state.reason.lost == [std::net::IpAddr::from([10, 2, 0, 2])]
            })
            .await;
        watch
            .tells("link set two-far up", |state| {
                !state.reason.gained.is_empty()
            })
            .await;
        watch
            .tells("link set two down", |state| {
                state.networks.route_v4.is_none() && !state.reason.lost.is_empty()
            })
            .await;
        watch
            .tells("route add default via 10.1.0.1", |state| {
                interface(state).as_deref() == Some("one")
            })
            .await;
        watch
            .tells("link del one", |state| state.networks.is_offline())
            .await;
        println!("slowest: {} ms", watch.worst.as_millis());
    });
}

#[test]
fn interfaces_that_come_and_go_without_addresses_are_no_change() {
    if !inside("interfaces_that_come_and_go_without_addresses_are_no_change") {
        return;
    }
    two_uplinks();
    watching(async |mut watch| {
        for round in 0..20 {
            ip(&format!(
                "link add noise{round} type veth peer name far{round}"
            ));
            ip(&format!("link set noise{round} mtu 1400"));
            ip(&format!("link del noise{round}"));
        }
        let told = timeout(
            &*watch.runtime,
            Duration::from_secs(1),
            watch.monitor.changed(),
        );
        assert_eq!(told.await, None);
    });
}
