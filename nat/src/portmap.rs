//! A port on the router, mapped to ours: PCP (RFC 6887), NAT-PMP (RFC 6886) and UPnP IGD.
//!
//! Where the router agrees, others reach us from anywhere without a hole being punched first. Mappings only ever
//! help: every call works without one, nothing waits for one, and a router that knows no protocol costs it two
//! dozen small packets an hour.
//!
//! [`manager`] decides (which protocol, when again, what an answer means) and knows neither clock nor socket.
//! [`library`] speaks to routers by the crates `crab_nat` and `igd-next`. [`PortMapper`] runs the two and tells
//! everybody what there is.
//!
//! One mapping serves the one UDP port. It is IPv4 alone: over IPv6 there is no address to translate, and the hole
//! that ICE opens is as good as a pinhole that a router would open.
//!
//! Deliberate departures: a request is repeated every minute rather than at half of its lifetime, where that is
//! later, since a router that has restarted is noticed only by asking (RFC 6887 section 8.5), and a call wants it
//! sooner; requests without an answer are given up after two seconds and not after minutes (RFC 6887 section 8.1.1).

use std::{fmt, future::Future, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use ahoy_transport::runtime::{Runtime, RuntimeExt, Task, timeout};
use tokio::sync::{mpsc, oneshot, watch};

use crate::candidate::{Candidate, CandidateKind};

pub mod library;
pub mod manager;
mod route;

use manager::{Action, Gateway, Lease, Manager, MapError, MapRequest, Policy, Status};

/// How often the default route is looked at where nobody says that it changed. It costs one read of a small file.
const LOOK_AT_ROUTE: Duration = Duration::from_secs(10);
/// How long good-bye to the router may take. A mapping that stays behind ends with its lifetime.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);
/// Commands that wait for the mapper: one of each kind is enough.
const COMMAND_QUEUE: usize = 4;
/// Local preference (RFC 8445 section 5.1.2.1): there is one mapped candidate.
const LOCAL_PREFERENCE: u16 = u16::MAX;

/// Future of a [`Router`].
pub type RouterFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What the mapper needs of the network.
pub trait Router: Send + Sync + fmt::Debug + 'static {
    /// The router that the default route leads to now.
    fn gateway(&self) -> Option<Gateway>;

    /// Asks for a mapping, or for it to last longer.
    fn map(&self, request: MapRequest) -> RouterFuture<Result<Lease, MapError>>;

    /// Gives a mapping back, as far as the router hears of it.
    fn unmap(&self, lease: Lease) -> RouterFuture<()>;
}

enum Command {
    Poke,
    Close(oneshot::Sender<()>),
}

/// Keeps one UDP port mapped for as long as it lives. Ask it to [`close`](Self::close) at the end: when it is just
/// dropped, the mapping ends with its lifetime.
#[derive(Debug)]
pub struct PortMapper {
    status: watch::Receiver<Status>,
    candidates: watch::Receiver<Vec<Candidate>>,
    commands: mpsc::Sender<Command>,
    _task: Task,
}

impl PortMapper {
    /// Starts to map UDP port `port` of this machine.
    #[must_use]
    pub fn start(
        runtime: Arc<dyn Runtime>,
        router: Arc<dyn Router>,
        port: u16,
        policy: Policy,
    ) -> Self {
        let (status, shown) = watch::channel(Status::default());
        let (candidates, found) = watch::channel(Vec::new());
        let (commands, queue) = mpsc::channel(COMMAND_QUEUE);
        let manager = Manager::new(port, policy, runtime.random_array());
        let worker = Worker {
            runtime: Arc::clone(&runtime),
            router,
            manager,
            status,
            candidates,
        };
        Self {
            status: shown,
            candidates: found,
            commands,
            _task: runtime.spawn_task(worker.run(queue)),
        }
    }

    /// How it stands, now and from now on.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// The mapped candidate, now and from now on: one, or none.
    #[must_use]
    pub fn candidates(&self) -> watch::Receiver<Vec<Candidate>> {
        self.candidates.clone()
    }

    /// Something about the network changed, or a path was lost: looks at the route and asks the router at once.
    /// Cheap, and bounded however often it is called.
    pub fn poke(&self) {
        // A full queue holds one already.
        self.commands.try_send(Command::Poke).unwrap_or_default();
    }

    /// Gives the mapping back. Takes a second at most.
    pub async fn close(self) {
        let (done, closed) = oneshot::channel();
        // The task ends only here.
        if self.commands.send(Command::Close(done)).await.is_ok() {
            closed.await.unwrap_or_default();
        }
    }
}

struct Worker {
    runtime: Arc<dyn Runtime>,
    router: Arc<dyn Router>,
    manager: Manager,
    status: watch::Sender<Status>,
    candidates: watch::Sender<Vec<Candidate>>,
}

/// A request and the router's answer to it, when it comes.
type Asking = (u64, RouterFuture<Result<Lease, MapError>>);

impl Worker {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut asking: Option<Asking> = None;
        let mut look = self.runtime.sleep(Duration::ZERO);
        loop {
            let deadline = self.manager.poll_timeout();
            let timer = async {
                match deadline {
                    Some(at) => self.runtime.sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    Some(Command::Poke) => {
                        self.look_at_route();
                        self.manager.poke(self.runtime.now());
                    }
                    Some(Command::Close(done)) => {
                        drop(asking);
                        self.close().await;
                        // Whoever asked may be gone.
                        done.send(()).unwrap_or_default();
                        return;
                    }
                    None => return,
                },
                (id, answer) = answered(&mut asking) => {
                    asking = None;
                    self.manager.handle_answer(self.runtime.now(), id, answer);
                }
                () = timer => self.manager.handle_timeout(self.runtime.now()),
                () = &mut look => {
                    look.reset(self.runtime.now() + LOOK_AT_ROUTE);
                    self.look_at_route();
                }
            }
            while let Some(action) = self.manager.poll_action() {
                match action {
                    // A newer request makes an older one's answer worthless.
                    Action::Map(id, request) => asking = Some((id, self.router.map(request))),
                    Action::Unmap(lease) => {
                        let unmapping = self.router.unmap(lease);
                        self.runtime.spawn_task(unmapping).detach();
                    }
                }
            }
            self.publish();
        }
    }

    fn look_at_route(&mut self) {
        let gateway = self.router.gateway();
        self.manager.handle_gateway(self.runtime.now(), gateway);
    }

    fn publish(&self) {
        let status = self.manager.status();
        let found: Vec<Candidate> = status
            .mapped()
            .map(|external| {
                let addr = SocketAddr::V4(external);
                Candidate::new(CandidateKind::Mapped, addr, LOCAL_PREFERENCE)
            })
            .into_iter()
            .collect();
        let changed = self.status.send_if_modified(|shown| {
            let changed = *shown != status;
            shown.clone_from(&status);
            changed
        });
        if changed {
            tracing::debug!(%status, "port mapping");
        }
        self.candidates.send_if_modified(|shown| {
            let changed = *shown != found;
            *shown = found;
            changed
        });
    }

    async fn close(mut self) {
        self.manager.close();
        self.publish();
        while let Some(action) = self.manager.poll_action() {
            match action {
                Action::Map(..) => {}
                Action::Unmap(lease) => {
                    let unmapping = self.router.unmap(lease);
                    if timeout(&*self.runtime, CLOSE_PATIENCE, unmapping)
                        .await
                        .is_none()
                    {
                        tracing::debug!("the router did not take the mapping back in time");
                    }
                }
            }
        }
    }
}

async fn answered(asking: &mut Option<Asking>) -> (u64, Result<Lease, MapError>) {
    match asking {
        Some((id, answer)) => (*id, answer.await),
        None => std::future::pending().await,
    }
}
