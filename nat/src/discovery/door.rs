//! A device's own door in its network: a rendezvous for itself alone, so that a call there needs no supernode.
//!
//! It is a supernode in miniature, with the same protocol, limits and code, whose only registered device lives in
//! this process. It has a port and a key of its own, both new in each run: the port of calls stays silent to
//! strangers, and the key links nothing. Only addresses of private networks are let in, and anonymously: nobody else
//! can register, nothing is relayed, and whoever shows who they are is refused. Callers find it by
//! [`lan`](super::lan) and believe it as little as any other supernode: the device proves itself by certificate, log
//! and sealed offer.
//!
//! **What others in the network get.** Without the door's key no handshake, and the key is told only to those who
//! know the person ([`lan`](super::lan)). With it what a supernode gives to anonymous clients: the registration of a
//! person whose id they know, and envelopes and answers handed on, within tighter [`Limits`] than a supernode's.
//!
//! IPv4 alone, as the search.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use ahoy_transport::{
    endpoint::{Endpoint, EndpointConfig},
    identity::{DeviceId, NodeId, NodeKeys, UserId},
    noise::{Pattern, Refusal, VerifiedPeer, VerifyPeer},
    runtime::{Runtime, RuntimeExt, Task},
};
use tokio::sync::mpsc;

use super::lan::{LanResponder, Place, is_local};
use crate::{
    client::{NodeClient, Registered},
    home::{HomeEvent, HomeUp},
    supernode::{
        LocalClient, Supernode,
        mailbox::MailLimits,
        protocol::{Push, Registration, Request, Response},
        registry::Limits,
    },
};

/// Callers at once: a household, or an office of people who all call one of them.
const CALLERS: usize = 32;
/// Of those, from one address: each call holds one connection for as long as it goes on.
const CALLERS_PER_ADDRESS: usize = 4;

/// What a network may take from one device: a few callers, each with a call or two. Offers and what follows them
/// are a handful of requests and 10 KiB per call.
fn limits() -> Limits {
    Limits {
        mail: MailLimits {
            boxes: 0,
            ..MailLimits::default()
        },
        // And the device itself.
        connections: CALLERS + 1,
        anonymous_connections: CALLERS,
        connections_per_source: CALLERS_PER_ADDRESS,
        registrations: 1,
        // It is nobody's but this device's.
        records: 0,
        request_burst: 20,
        requests_per_second: 5,
        sent_bytes_per_second: 8 << 10,
        received_bytes_per_second: 64 << 10,
        ..Limits::default()
    }
}

/// Lets everybody in who shows nothing.
#[derive(Debug)]
struct Anonymous;

impl VerifyPeer for Anonymous {
    fn verify(
        &self,
        pattern: Pattern,
        _noise_static: Option<&[u8; 32]>,
        _credential: &[u8],
    ) -> Result<VerifiedPeer, Refusal> {
        match pattern {
            Pattern::NkHfs => Ok(VerifiedPeer::default()),
            Pattern::IkHfs | Pattern::IkHfsPsk0 => Err(Refusal::NotAllowed),
        }
    }
}

/// An open door. It closes when this is dropped.
#[derive(Debug)]
pub struct LanDoor {
    place: Place,
    runtime: Arc<dyn Runtime>,
    client: Arc<LocalClient>,
    up: Arc<HomeUp>,
    responder: LanResponder,
    supernode: Supernode,
    _endpoint: Endpoint,
    _pushes: Task,
}

impl LanDoor {
    /// Opens the door of `user`'s device, which `registration` describes, and answers whoever looks for it. What is
    /// delivered comes out of `events`, under the door's own key.
    ///
    /// # Errors
    /// When no port can be had, or the registration is none.
    pub fn open(
        runtime: &Arc<dyn Runtime>,
        user: UserId,
        device: DeviceId,
        registration: Registration,
        events: mpsc::Sender<(NodeId, HomeEvent)>,
    ) -> io::Result<Self> {
        let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
        let endpoint = Endpoint::bind(Arc::clone(runtime), EndpointConfig::supernode(any))?;
        let keys = NodeKeys::from_seed(&runtime.random_array());
        let listener = endpoint
            .serve_nodes_from(
                &keys,
                Arc::new(Anonymous),
                Arc::new(|from| is_local(from.ip(), &[])),
            )
            .map_err(io::Error::other)?;
        let supernode = Supernode::new(Arc::clone(runtime), limits());
        let client = Arc::new(supernode.attach(user, device).map_err(io::Error::other)?);
        let up = register(runtime, &client, registration)?;
        supernode.serve(listener, None);
        let place = Place {
            port: endpoint.local_addr().port(),
            node: keys.id(),
        };
        let pushes = hand_on(Arc::clone(&client), place.node, events);
        Ok(Self {
            place,
            runtime: Arc::clone(runtime),
            client,
            up,
            responder: LanResponder::start(runtime, user, place),
            supernode,
            _endpoint: endpoint,
            _pushes: runtime.spawn_task(pushes),
        })
    }

    /// Where it is, as those are told who look for its owner.
    #[must_use]
    pub fn place(&self) -> Place {
        self.place
    }

    /// The registration, like a home's.
    #[must_use]
    pub fn up(&self) -> Arc<HomeUp> {
        Arc::clone(&self.up)
    }

    /// The supernode in it, for its counters.
    #[must_use]
    pub fn supernode(&self) -> &Supernode {
        &self.supernode
    }

    /// From now on `registration` describes the device.
    ///
    /// # Errors
    /// When it is none; then the old one stands.
    pub fn renew(&mut self, registration: Registration) -> io::Result<()> {
        self.up = register(&self.runtime, &self.client, registration)?;
        Ok(())
    }

    /// Interfaces came or went.
    pub fn network_changed(&self) {
        self.responder.network_changed();
    }
}

fn register(
    runtime: &Arc<dyn Runtime>,
    client: &Arc<LocalClient>,
    registration: Registration,
) -> io::Result<Arc<HomeUp>> {
    let epoch = registration.epoch;
    match client.request(Request::Register(registration)) {
        Ok(Response::Registered {
            observed,
            now_millis,
            relay,
        }) => Ok(Arc::new(HomeUp {
            client: NodeClient::local(Arc::clone(runtime), Arc::clone(client)),
            epoch,
            registered: Registered {
                observed,
                now_millis,
                relay,
            },
        })),
        Ok(other) => Err(io::Error::other(format!("not registered: {other:?}"))),
        Err(refusal) => Err(io::Error::other(refusal)),
    }
}

async fn hand_on(
    client: Arc<LocalClient>,
    node: NodeId,
    events: mpsc::Sender<(NodeId, HomeEvent)>,
) {
    while let Some(push) = client.next_push().await {
        let event = match push {
            Push::Incoming { delivery, envelope } => HomeEvent::Incoming { delivery, envelope },
            Push::ReplyTo { delivery, payload } => HomeEvent::ReplyTo { delivery, payload },
            Push::Draining => HomeEvent::Draining,
            Push::Mail => HomeEvent::Mail,
        };
        if events.send((node, event)).await.is_err() {
            return;
        }
    }
}
