//! [`Hard`] and [`Easy`] on sockets.

use std::{
    collections::VecDeque,
    future::Future,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    task::Poll,
    time::{Duration, Instant},
};

use ahoy_transport::runtime::{Runtime, RuntimeExt, Task, timeout};
use quinn::AsyncUdpSocket;
use tokio::sync::{Notify, mpsc};

use super::{
    Easy, EasyEvent, Guess, HOLES, Hard, HardEvent, HardPlan, HardTransmit, SprayCost, SprayKeys,
    SpraySide,
};
use crate::port::{
    Inbound, PortHub, RawPort, SubscribeError, Subscription, TopicLease, lock, poll_train,
    send_datagram, writable,
};

/// Events that wait to be taken: a run has three at most.
const EVENTS: usize = 4;
/// Longest packet that is of interest.
const RECEIVE_BUFFER_BYTES: usize = 4096;
/// Inside ports of the holes begin somewhere in these, where systems give out ports themselves.
const FIRST_PORTS: std::ops::Range<u16> = 33_000..60_000;
/// A fresh socket takes packets as soon as the system has looked at it.
const WRITABLE_WITHIN: Duration = Duration::from_millis(50);

/// What a run came to.
#[derive(Debug)]
pub enum SprayEvent {
    /// For the other side: these ports first.
    Guess(Guess),
    /// The other side is reached there.
    Open {
        /// Its outside address.
        remote: SocketAddr,
        /// By this socket; by the one port where there is none.
        socket: Option<Arc<dyn AsyncUdpSocket>>,
    },
    /// It was all in vain.
    Spent,
}

/// The hard side's run. It ends when this is dropped, and all holes close but the one that was met.
#[derive(Debug)]
pub struct HardSpray {
    machine: Arc<Mutex<Hard>>,
    _driver: Task,
}

impl HardSpray {
    /// Opens holes towards `target` from sockets at `local`; also gives what comes of it. `server` is a STUN server of the
    /// same family.
    #[must_use]
    pub fn start(
        runtime: &Arc<dyn Runtime>,
        keys: SprayKeys,
        local: IpAddr,
        target: SocketAddr,
        server: Option<SocketAddr>,
    ) -> (Self, mpsc::Receiver<SprayEvent>) {
        let drawn = u16::from_be_bytes(runtime.random_array());
        let plan = HardPlan {
            target,
            server,
            first_port: FIRST_PORTS.start + drawn % (FIRST_PORTS.end - FIRST_PORTS.start),
        };
        let holes = Holes {
            runtime: Arc::clone(runtime),
            local,
            first_port: plan.first_port,
            sockets: Vec::new(),
            buffer: vec![0; RECEIVE_BUFFER_BYTES],
            received: VecDeque::new(),
        };
        let hard = Hard::new(runtime.now(), keys, plan, runtime.random_array());
        let machine = Arc::new(Mutex::new(hard));
        let (events, happened) = mpsc::channel(EVENTS);
        let driving = drive_hard(Arc::clone(&machine), holes, target, events);
        let spray = Self {
            machine,
            _driver: runtime.spawn_task(driving),
        };
        (spray, happened)
    }

    /// What was spent so far.
    #[must_use]
    pub fn cost(&self) -> SprayCost {
        lock(&self.machine).cost()
    }
}

/// The sockets, opened one by one as they are needed.
struct Holes {
    runtime: Arc<dyn Runtime>,
    local: IpAddr,
    first_port: u16,
    /// A place stays empty when the system gives no more sockets.
    sockets: Vec<Option<Arc<dyn AsyncUdpSocket>>>,
    buffer: Vec<u8>,
    received: VecDeque<(u16, Inbound)>,
}

impl Holes {
    async fn send(&mut self, machine: &Mutex<Hard>, transmit: &HardTransmit) {
        let at = usize::from(transmit.socket);
        while self.sockets.len() <= at && self.sockets.len() < usize::from(HOLES) {
            let socket = self.open().await;
            let port = socket.as_ref().and_then(|socket| socket.local_addr().ok());
            if let (Some(port), Ok(number)) = (port, u16::try_from(self.sockets.len())) {
                lock(machine).note_port(number, port.port());
            }
            self.sockets.push(socket);
        }
        if let Some(Some(socket)) = self.sockets.get(at) {
            send_datagram(&**socket, transmit.to, None, &transmit.contents);
        }
    }

    async fn open(&self) -> Option<Arc<dyn AsyncUdpSocket>> {
        let number = u16::try_from(self.sockets.len()).unwrap_or(0);
        let bind = |port| self.runtime.bind_udp(SocketAddr::new(self.local, port));
        let socket = bind(self.first_port.saturating_add(number))
            // Somebody has it; any other does as well.
            .or_else(|_taken| bind(0))
            .inspect_err(|error| tracing::debug!(%error, "no socket for a hole"))
            .ok()?;
        timeout(&*self.runtime, WRITABLE_WITHIN, writable(&socket)).await;
        Some(socket)
    }

    /// The next packet to any of them.
    fn recv(&mut self) -> impl Future<Output = (u16, Inbound)> + Send {
        let Self {
            sockets,
            buffer,
            received,
            ..
        } = self;
        std::future::poll_fn(move |cx| {
            if received.is_empty() {
                for (number, socket) in (0..).zip(sockets.iter()) {
                    let Some(socket) = socket else { continue };
                    let polled = poll_train(&**socket, cx, buffer, |from, local, bytes| {
                        let bytes = bytes.to_vec().into();
                        received.push_back((number, Inbound { from, local, bytes }));
                    });
                    if let Poll::Ready(Err(error)) = polled {
                        tracing::debug!(%error, "a hole does not receive");
                    }
                }
            }
            received.pop_front().map_or(Poll::Pending, Poll::Ready)
        })
    }

    fn keep(&mut self, number: u16) -> Option<Arc<dyn AsyncUdpSocket>> {
        let kept = self.sockets.get(usize::from(number)).cloned().flatten();
        for (at, socket) in self.sockets.iter_mut().enumerate() {
            if at != usize::from(number) {
                *socket = None;
            }
        }
        kept
    }
}

async fn wait_until(runtime: &dyn Runtime, deadline: Instant) {
    runtime.sleep_until(deadline).await;
}

async fn drive_hard(
    machine: Arc<Mutex<Hard>>,
    mut holes: Holes,
    target: SocketAddr,
    events: mpsc::Sender<SprayEvent>,
) {
    let runtime = Arc::clone(&holes.runtime);
    let mut met = false;
    loop {
        lock(&machine).handle_timeout(runtime.now());
        loop {
            let Some(transmit) = lock(&machine).poll_transmit() else {
                break;
            };
            holes.send(&machine, &transmit).await;
        }
        loop {
            let Some(event) = lock(&machine).poll_event() else {
                break;
            };
            let told = match event {
                HardEvent::Guess(guess) => SprayEvent::Guess(guess),
                HardEvent::Spent => SprayEvent::Spent,
                HardEvent::Hit { socket } => {
                    met = true;
                    SprayEvent::Open {
                        remote: target,
                        socket: holes.keep(socket),
                    }
                }
            };
            if events.send(told).await.is_err() {
                return;
            }
        }
        let Some(deadline) = lock(&machine).poll_timeout() else {
            return;
        };
        let timer = wait_until(&*runtime, deadline);
        if met {
            // Whoever took the socket over reads it.
            timer.await;
            continue;
        }
        tokio::select! {
            biased;
            (socket, inbound) = holes.recv() => {
                let now = runtime.now();
                lock(&machine).handle_input(now, socket, inbound.from, &inbound.bytes);
            }
            () = timer => {}
        }
    }
}

/// The easy side's run. It ends when this is dropped.
#[derive(Debug)]
pub struct EasySpray {
    machine: Arc<Mutex<Easy>>,
    /// A guess came in.
    guessed: Arc<Notify>,
    _driver: Task,
    _lease: TopicLease,
}

impl EasySpray {
    /// Tries ports of `ip` by the port behind `hub`; also gives what comes of it.
    ///
    /// # Errors
    /// When such a run goes on already, or the port has too many users.
    pub fn start(
        runtime: &Arc<dyn Runtime>,
        hub: &Arc<PortHub>,
        keys: SprayKeys,
        ip: IpAddr,
    ) -> Result<(Self, mpsc::Receiver<SprayEvent>), SubscribeError> {
        let Subscription { lease, packets } = hub.subscribe_agent(keys.ufrag(SpraySide::Easy))?;
        let easy = Easy::new(runtime.now(), keys, ip, runtime.random_array());
        let machine = Arc::new(Mutex::new(easy));
        let guessed = Arc::new(Notify::new());
        let (events, happened) = mpsc::channel(EVENTS);
        let driving = Driving {
            runtime: Arc::clone(runtime),
            port: Arc::clone(hub.port()),
            machine: Arc::clone(&machine),
            guessed: Arc::clone(&guessed),
            packets,
            events,
        };
        let spray = Self {
            machine,
            guessed,
            _driver: runtime.spawn_task(driving.run()),
            _lease: lease,
        };
        Ok((spray, happened))
    }

    /// The hard side's guess.
    pub fn guess(&self, guess: Guess) {
        lock(&self.machine).guess(guess);
        self.guessed.notify_one();
    }

    /// What was spent so far.
    #[must_use]
    pub fn cost(&self) -> SprayCost {
        lock(&self.machine).cost()
    }
}

struct Driving {
    runtime: Arc<dyn Runtime>,
    port: Arc<dyn RawPort>,
    machine: Arc<Mutex<Easy>>,
    guessed: Arc<Notify>,
    packets: mpsc::Receiver<Inbound>,
    events: mpsc::Sender<SprayEvent>,
}

impl Driving {
    async fn run(mut self) {
        loop {
            lock(&self.machine).handle_timeout(self.runtime.now());
            loop {
                let Some(transmit) = lock(&self.machine).poll_transmit() else {
                    break;
                };
                self.port.send(transmit.to, None, &transmit.contents);
            }
            loop {
                let Some(event) = lock(&self.machine).poll_event() else {
                    break;
                };
                let told = match event {
                    EasyEvent::Hit { remote } => SprayEvent::Open {
                        remote,
                        socket: None,
                    },
                    EasyEvent::Spent => SprayEvent::Spent,
                };
                if self.events.send(told).await.is_err() {
                    return;
                }
            }
            let Some(deadline) = lock(&self.machine).poll_timeout() else {
                return;
            };
            tokio::select! {
                biased;
                inbound = self.packets.recv() => {
                    let Some(inbound) = inbound else { return };
                    lock(&self.machine).handle_input(inbound.from, &inbound.bytes);
                }
                () = self.guessed.notified() => {}
                () = wait_until(&*self.runtime, deadline) => {}
            }
        }
    }
}
