//! Routers on the real network: PCP and NAT-PMP by `crab_nat`, UPnP by `igd-next`.
//!
//! UPnP's library blocks, so it has a thread of its own for each request; there is one at a time. Its answers come
//! from whoever is in the network: it is believed only by the address that the default route leads to, where the
//! system tells that.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    num::NonZeroU16,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ahoy_transport::runtime::{Runtime, RuntimeExt};
use crab_nat::{
    InternetProtocol, PortMapping, PortMappingOptions, PortMappingType, TimeoutConfig, natpmp, pcp,
};
use igd_next::{AddPortError, GatewayIpVersion, PortMappingProtocol, SearchOptions};
use tokio::sync::oneshot;

use super::{
    Router, RouterFuture,
    manager::{Gateway, Lease, MapError, MapRequest, Protocol},
    route,
};

/// First wait for an answer (RFC 6886 section 3.1), and how often it is doubled: 1.75 seconds in all. It is one hop.
const TIMING: TimeoutConfig = TimeoutConfig {
    initial_timeout: Duration::from_millis(250),
    max_retries: 2,
    max_retry_timeout: Some(Duration::from_secs(1)),
};
/// How long routers may take to answer a search for them, and to describe themselves.
const UPNP_SEARCH: Duration = Duration::from_secs(3);
/// What routers show beside the mapping.
const DESCRIPTION: &str = "ahoy";

/// The routers of this machine's network. Works on Tokio's runtime alone.
#[derive(Debug)]
pub struct LibraryRouter {
    /// Proves to PCP servers that a request is about a mapping of ours (RFC 6887 section 11.2).
    nonce: pcp::Nonce,
    /// The router as UPnP described it: looked for once, and again when it does not answer.
    upnp: Arc<Mutex<Option<igd_next::Gateway>>>,
}

impl LibraryRouter {
    /// Nothing is sent before it is asked.
    #[must_use]
    pub fn new(runtime: &dyn Runtime) -> Self {
        let word = || u32::from_be_bytes(runtime.random_array());
        Self {
            nonce: [word(), word(), word()],
            upnp: Arc::default(),
        }
    }
}

impl Router for LibraryRouter {
    fn gateway(&self) -> Option<Gateway> {
        route::default_gateway()
    }

    fn map(&self, request: MapRequest) -> RouterFuture<Result<Lease, MapError>> {
        match request.protocol {
            Protocol::Pcp => Box::pin(map_pcp(request, self.nonce)),
            Protocol::NatPmp => Box::pin(map_nat_pmp(request)),
            Protocol::Upnp => {
                let known = Arc::clone(&self.upnp);
                Box::pin(async move {
                    on_thread(move || map_upnp(request, &known))
                        .await
                        .unwrap_or_else(|| Err(MapError::Failed("no thread".into())))
                })
            }
        }
    }

    fn unmap(&self, lease: Lease) -> RouterFuture<()> {
        let request = lease.request;
        match request.protocol {
            Protocol::Pcp => {
                let nonce = self.nonce;
                Box::pin(async move {
                    let Ok((router, port)) = asked(&request) else {
                        return;
                    };
                    let range = pcp::DropMappingRange::Single {
                        protocol: InternetProtocol::Udp,
                        internal_port: port,
                    };
                    let local = request.gateway.local.into();
                    pcp::try_drop_mapping(router.into(), local, nonce, range, Some(TIMING))
                        .await
                        .unwrap_or_else(|error| not_unmapped(&error));
                })
            }
            Protocol::NatPmp => Box::pin(async move {
                let Ok((router, port)) = asked(&request) else {
                    return;
                };
                let udp = InternetProtocol::Udp;
                natpmp::try_drop_mapping(router.into(), udp, Some(port), Some(TIMING))
                    .await
                    .unwrap_or_else(|error| not_unmapped(&error));
            }),
            Protocol::Upnp => {
                let known = Arc::clone(&self.upnp);
                Box::pin(async move {
                    on_thread(move || {
                        if let Some(gateway) = lock(&known).clone() {
                            gateway
                                .remove_port(PortMappingProtocol::UDP, lease.external.port())
                                .unwrap_or_else(|error| not_unmapped(&error));
                        }
                    })
                    .await
                    .unwrap_or_default();
                })
            }
        }
    }
}

fn not_unmapped(error: &dyn std::fmt::Display) {
    tracing::debug!(%error, "the router did not take the mapping back");
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The router and the port of a request.
fn asked(request: &MapRequest) -> Result<(Ipv4Addr, NonZeroU16), MapError> {
    let port = NonZeroU16::new(request.port);
    match (request.gateway.router, port) {
        (Some(router), Some(port)) => Ok((router, port)),
        (None, _) | (_, None) => Err(MapError::Failed("no router, or no port".into())),
    }
}

fn options(request: &MapRequest) -> PortMappingOptions {
    let port = request.suggested.map_or(request.port, |addr| addr.port());
    PortMappingOptions {
        external_port: NonZeroU16::new(port),
        lifetime_seconds: Some(seconds(request.lifetime)),
        timeout_config: Some(TIMING),
    }
}

fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

fn lease(request: MapRequest, mapping: &PortMapping, ip: Ipv4Addr) -> Lease {
    Lease {
        request,
        external: SocketAddrV4::new(ip, mapping.external_port().get()),
        lifetime: Duration::from_secs(mapping.lifetime().into()),
        epoch_secs: Some(mapping.gateway_epoch()),
    }
}

async fn map_pcp(request: MapRequest, nonce: pcp::Nonce) -> Result<Lease, MapError> {
    let (router, port) = asked(&request)?;
    let local = request.gateway.local.into();
    let base = pcp::BaseMapRequest::new(router.into(), local, InternetProtocol::Udp, port);
    let suggested = request.suggested.map(|addr| IpAddr::V4(*addr.ip()));
    let mapping = pcp::port_mapping(base, Some(nonce), suggested, options(&request))
        .await
        .map_err(|error| match error {
            // A closed port answers that nobody is there.
            pcp::Failure::Timeout | pcp::Failure::Socket(_) => MapError::NoAnswer,
            // NAT-PMP's turn is next.
            pcp::Failure::UnsupportedVersion(_) | pcp::Failure::UnsupportedOpcode => {
                MapError::NoAnswer
            }
            refused @ (pcp::Failure::NotAuthorized(_)
            | pcp::Failure::NetworkFailure(_)
            | pcp::Failure::NoResources(_)
            | pcp::Failure::UnsupportedProtocol
            | pcp::Failure::UserExceededQuota(_)
            | pcp::Failure::CannotProvideExternal(_)
            | pcp::Failure::AddressMismatch
            | pcp::Failure::ExcessiveRemotePeers) => MapError::Refused(refused.to_string()),
            failed @ (pcp::Failure::Nonce
            | pcp::Failure::InvalidResponse(_)
            | pcp::Failure::MalformedRequest
            | pcp::Failure::UnsupportedOption
            | pcp::Failure::MalformedOption) => MapError::Failed(failed.to_string()),
        })?;
    let external = match mapping.mapping_type() {
        PortMappingType::Pcp { external_ip, .. } => external_ip.to_canonical(),
        PortMappingType::NatPmp => return Err(MapError::Failed("another protocol".into())),
    };
    match external {
        IpAddr::V4(ip) => Ok(lease(request, &mapping, ip)),
        IpAddr::V6(_) => Err(MapError::Failed("an IPv6 address for IPv4".into())),
    }
}

async fn map_nat_pmp(request: MapRequest) -> Result<Lease, MapError> {
    let (router, port) = asked(&request)?;
    let failed = |error: natpmp::Failure| match error {
        natpmp::Failure::Timeout | natpmp::Failure::Socket(_) => MapError::NoAnswer,
        natpmp::Failure::UnsupportedVersion(_) | natpmp::Failure::UnsupportedOpcode => {
            MapError::NoAnswer
        }
        refused @ (natpmp::Failure::NotAuthorized
        | natpmp::Failure::NetworkFailure
        | natpmp::Failure::OutOfResources) => MapError::Refused(refused.to_string()),
        failed @ natpmp::Failure::InvalidResponse(_) => MapError::Failed(failed.to_string()),
    };
    // The address first: where there is none yet, a mapping is none either.
    let ip = natpmp::external_address(router.into(), Some(TIMING))
        .await
        .map_err(failed)?;
    let udp = InternetProtocol::Udp;
    let mapping = natpmp::port_mapping(router.into(), udp, port, options(&request))
        .await
        .map_err(failed)?;
    Ok(lease(request, &mapping, ip))
}

/// Runs what blocks. The thread ends by the library's own time limits; nobody waits for it when the program ends.
async fn on_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (done, result) = oneshot::channel();
    std::thread::Builder::new()
        .name("ahoy-upnp".into())
        .spawn(move || {
            // Nobody may be interested any more.
            drop(done.send(work()));
        })
        .ok()?;
    result.await.ok()
}

fn map_upnp(
    request: MapRequest,
    known: &Mutex<Option<igd_next::Gateway>>,
) -> Result<Lease, MapError> {
    let cached = lock(known).take();
    let gateway = match cached {
        Some(gateway) if is_our_router(&request, &gateway) => gateway,
        Some(_) | None => find_upnp(&request)?,
    };
    // Kept only when it answers.
    let lease = map_at_upnp(request, &gateway)?;
    *lock(known) = Some(gateway);
    Ok(lease)
}

fn is_our_router(request: &MapRequest, gateway: &igd_next::Gateway) -> bool {
    let router = request.gateway.router.map(IpAddr::V4);
    router.is_none_or(|router| gateway.addr.ip() == router)
}

fn find_upnp(request: &MapRequest) -> Result<igd_next::Gateway, MapError> {
    let mut search = SearchOptions::default();
    search.bind_addr = SocketAddr::new(request.gateway.local.into(), 0);
    search.timeout = Some(UPNP_SEARCH);
    search.single_search_timeout = Some(UPNP_SEARCH);
    search.gateway_ip_version = GatewayIpVersion::V4;
    let found = igd_next::search_gateway(search).map_err(|error| {
        tracing::debug!(%error, "no UPnP router");
        MapError::NoAnswer
    })?;
    if is_our_router(request, &found) {
        Ok(found)
    } else {
        tracing::info!(found = %found.addr, "a UPnP router that is not ours is left alone");
        Err(MapError::NoAnswer)
    }
}

fn map_at_upnp(request: MapRequest, gateway: &igd_next::Gateway) -> Result<Lease, MapError> {
    let udp = PortMappingProtocol::UDP;
    let local = SocketAddr::new(request.gateway.local.into(), request.port);
    let wanted = request.suggested.map_or(request.port, |addr| addr.port());
    let lifetime = seconds(request.lifetime);
    let failed = |error: &dyn std::fmt::Display| MapError::Failed(error.to_string());
    let ip = match gateway.get_external_ip() {
        Ok(IpAddr::V4(ip)) => ip,
        Ok(IpAddr::V6(_)) => return Err(MapError::Failed("an IPv6 address for IPv4".into())),
        Err(error) => return Err(failed(&error)),
    };
    let port = match gateway.add_port(udp, wanted, local, lifetime, DESCRIPTION) {
        Ok(()) => wanted,
        Err(AddPortError::PortInUse) => gateway
            .add_any_port(udp, local, lifetime, DESCRIPTION)
            .map_err(|error| MapError::Refused(error.to_string()))?,
        // Old routers keep mappings until they are told otherwise, or restarted.
        Err(AddPortError::OnlyPermanentLeasesSupported) => gateway
            .add_port(udp, wanted, local, 0, DESCRIPTION)
            .map(|()| wanted)
            .map_err(|error| MapError::Refused(error.to_string()))?,
        Err(error @ (AddPortError::ActionNotAuthorized | AddPortError::SamePortValuesRequired)) => {
            return Err(MapError::Refused(error.to_string()));
        }
        Err(
            error @ (AddPortError::InternalPortZeroInvalid
            | AddPortError::ExternalPortZeroInvalid
            | AddPortError::DescriptionTooLong
            | AddPortError::RequestError(_)),
        ) => return Err(failed(&error)),
    };
    Ok(Lease {
        request,
        external: SocketAddrV4::new(ip, port),
        lifetime: request.lifetime,
        epoch_secs: None,
    })
}
