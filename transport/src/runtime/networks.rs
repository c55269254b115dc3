//! Which networks a node is in, and a bell that rings when that may have changed.

use std::{collections::BTreeSet, net::IpAddr};

use tokio::sync::watch;

/// The networks a node is in at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks {
    /// Addresses of interfaces that are up, neither loopback nor link-local.
    pub addrs: BTreeSet<IpAddr>,
    /// How IPv4 packets to the internet leave, if they do.
    pub route_v4: Option<Route>,
    /// The same for IPv6.
    pub route_v6: Option<Route>,
}

/// How packets to the internet leave this machine. Where the system does not tell, a part is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Route {
    /// The interface's name.
    pub interface: Option<String>,
    /// The next router; absent on point-to-point links.
    pub gateway: Option<IpAddr>,
    /// The address that packets bear.
    pub source: Option<IpAddr>,
}

impl Networks {
    /// What addresses alone tell.
    #[must_use]
    pub fn of_addrs(addrs: impl IntoIterator<Item = IpAddr>) -> Self {
        Self {
            addrs: addrs.into_iter().filter(|ip| !ip.is_loopback()).collect(),
            route_v4: None,
            route_v6: None,
        }
    }

    /// Whether the way out is one that is usually paid by what goes through it: a modem for mobile networks, or a phone that
    /// lends its own by a cable. Known by the names that systems give to such interfaces, so no is no promise: a phone that
    /// lends its network by radio looks like any other router.
    #[must_use]
    pub fn is_metered(&self) -> bool {
        const METERED: [&str; 5] = ["wwan", "ppp", "rmnet", "usb", "wwp"];
        let routes = [&self.route_v4, &self.route_v6];
        let mut out = routes
            .into_iter()
            .flatten()
            .filter_map(|route| route.interface.as_deref());
        out.any(|name| METERED.iter().any(|kind| name.starts_with(kind)))
    }

    /// Whether this machine is alone.
    #[must_use]
    pub fn is_offline(&self) -> bool {
        self.addrs.is_empty()
    }
}

/// Rings when addresses, interfaces, routes or the clock may have changed. It may ring for nothing.
#[derive(Debug)]
pub struct NetworkChanges(Option<watch::Receiver<u64>>);

impl NetworkChanges {
    /// For systems that do not tell: whoever wants to know has to look now and then.
    #[must_use]
    pub fn never() -> Self {
        Self(None)
    }

    /// Rings whenever the number behind `changes` is set.
    #[must_use]
    pub fn new(changes: watch::Receiver<u64>) -> Self {
        Self(Some(changes))
    }

    /// Whether it can ring.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.0.is_some()
    }

    /// Waits until it rings; what rang before and was not waited for counts, once.
    pub async fn changed(&mut self) {
        if let Some(changes) = &mut self.0 {
            if changes.changed().await.is_ok() {
                return;
            }
            tracing::debug!("nobody watches the networks any more");
            self.0 = None;
        }
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn modems_are_metered_and_cables_are_not() {
        let by = |interface: Option<&str>| Networks {
            route_v4: Some(Route {
                interface: interface.map(str::to_owned),
                ..Route::default()
            }),
            ..Networks::default()
        };
        for name in ["wwan0", "ppp0", "rmnet_data1", "wwp0s20f0u6"] {
            assert!(by(Some(name)).is_metered(), "{name}");
        }
        for name in [Some("eth0"), Some("wlan0"), Some("enp3s0"), None] {
            assert!(!by(name).is_metered(), "{name:?}");
        }
        assert!(!Networks::default().is_metered());
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(future)
    }

    #[test]
    fn the_bell_rings_once_for_all_that_happened_and_is_silent_when_its_owner_goes() {
        block_on(async {
            let (owner, receiver) = watch::channel(0);
            let mut changes = NetworkChanges::new(receiver);
            assert!(changes.is_live());
            assert!(changes.changed().now_or_never().is_none());
            owner.send_modify(|count| *count += 1);
            owner.send_modify(|count| *count += 1);
            changes.changed().await;
            assert!(changes.changed().now_or_never().is_none());
            drop(owner);
            assert!(changes.changed().now_or_never().is_none());
            assert!(!changes.is_live());
        });
    }

    #[test]
    fn loopback_is_no_network() {
        let own = Networks::of_addrs(["127.0.0.1", "::1"].map(|ip| ip.parse().unwrap()));
        assert!(own.is_offline());
    }
}
