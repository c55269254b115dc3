//! A supernode that keeps everything: it serves devices by the shipped protocol and registry, and writes down every
//! byte that it could decrypt. It does not relay.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use ahoy_nat::supernode::{
    admission::DeviceAdmission,
    protocol::{Refusal, Request, Response},
    puzzle::{PuzzleLimits, Puzzles, Question, Verdict},
    registry::{Answer, ConnectionKey, Limits, Newcomer, Registry},
    relay::source_key,
    witness::Testimony,
};
use ahoy_transport::{
    connection::Connection,
    endpoint::{Endpoint, EndpointConfig},
    identity::{DeviceId, NodeKeys, UserId},
    runtime::{Runtime, RuntimeExt},
};

/// Longest message that is read whole: the protocol's own limit is lower.
const MAX_MESSAGE: usize = 1 << 20;

/// Everything one connection told.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// Where its packets came from, as the supernode saw it.
    pub from: Option<SocketAddr>,
    /// The handshake showed a device.
    pub named: bool,
    /// What the handshake showed, and every message in both directions as it was decrypted or encrypted.
    pub bytes: Vec<Vec<u8>>,
    /// The requests among them.
    pub requests: Vec<Request>,
}

/// What the supernode wrote down, by connection.
#[derive(Debug, Clone, Default)]
pub struct Record(Arc<Mutex<BTreeMap<u64, Told>>>);

impl Record {
    /// What it knows so far.
    #[must_use]
    pub fn told(&self) -> Vec<Told> {
        lock(&self.0).values().cloned().collect()
    }

    fn note(&self, key: ConnectionKey, bytes: &[u8]) {
        let mut told = lock(&self.0);
        told.entry(key.0).or_default().bytes.push(bytes.to_vec());
    }

    fn request(&self, key: ConnectionKey, request: &Request) {
        let mut told = lock(&self.0);
        told.entry(key.0)
            .or_default()
            .requests
            .push(request.clone());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What it does with what is to be handed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handing {
    /// Hands it on.
    On,
    /// Throws it away, and says that it was handed on.
    Nowhere,
    /// The same with every other one.
    Half,
    /// The same with what comes from there.
    NotFrom(IpAddr),
    /// Hands it on once so many bits of work were done for it, though nobody floods it.
    ForWork(u8),
}

struct Nosy {
    runtime: Arc<dyn Runtime>,
    registry: Mutex<Registry>,
    clients: Mutex<BTreeMap<u64, Connection>>,
    record: Record,
    handing: Handing,
    handed: AtomicU64,
    puzzles: Mutex<Puzzles>,
}

/// Serves at `addr` for ever.
///
/// # Panics
/// When the port is taken.
#[must_use]
pub fn serve(
    runtime: Arc<dyn Runtime>,
    addr: SocketAddr,
    keys: &NodeKeys,
    handing: Handing,
) -> Record {
    let endpoint = Endpoint::bind(Arc::clone(&runtime), EndpointConfig::supernode(addr)).unwrap();
    let admission = Arc::new(DeviceAdmission::new(Arc::clone(&runtime)));
    let mut listener = endpoint.serve_nodes(keys, admission).unwrap();
    let record = Record::default();
    let bits = match handing {
        Handing::ForWork(bits) => bits,
        Handing::On | Handing::Nowhere | Handing::Half | Handing::NotFrom(_) => 0,
    };
    let mut puzzles = Puzzles::new(PuzzleLimits {
        enabled: bits > 0,
        least_bits: bits,
        most_bits: bits,
    });
    if bits > 0 {
        puzzles.start(runtime.now(), runtime.random_array());
    }
    let nosy = Arc::new(Nosy {
        registry: Mutex::new(Registry::new(Limits::default(), 1)),
        clients: Mutex::default(),
        record: record.clone(),
        handing,
        handed: AtomicU64::new(0),
        puzzles: Mutex::new(puzzles),
        runtime: Arc::clone(&runtime),
    });
    let accepting = async move {
        let mut next = 0;
        while let Some(connection) = listener.accept().await {
            let key = ConnectionKey(next);
            next += 1;
            let peer = connection.peer();
            let newcomer = Newcomer {
                device: peer.user.zip(peer.device),
                source: source_key(connection.remote_address().ip()),
            };
            let now = nosy.runtime.now();
            lock(&nosy.registry)
                .handle_connected(now, key, newcomer)
                .unwrap();
            lock(&nosy.clients).insert(key.0, connection.clone());
            let shown = format!("{:?}", connection.identity());
            nosy.record.note(key, shown.as_bytes());
            for id in [
                peer.user.map(|user| user.0),
                peer.device.map(|device| device.0),
            ] {
                nosy.record.note(key, &id.unwrap_or_default());
            }
            if let Some(told) = lock(&nosy.record.0).get_mut(&key.0) {
                told.named = newcomer.device.is_some();
                told.from = Some(connection.remote_address());
            }
            let serving = Arc::clone(&nosy).listen(key, connection);
            nosy.runtime.spawn_task(serving).detach();
        }
        drop(endpoint);
    };
    runtime.spawn_task(accepting).detach();
    record
}

impl Nosy {
    async fn listen(self: Arc<Self>, key: ConnectionKey, connection: Connection) {
        while let Ok((mut sender, mut receiver)) = connection.accept_bi().await {
            let Ok(Some(request)) = receiver.recv(MAX_MESSAGE).await else {
                continue;
            };
            self.record.note(key, &request);
            let response = self.answer(key, &connection, &request).await;
            self.record.note(key, &response);
            if sender.send(&response).await.is_ok() {
                sender.finish();
            }
        }
        let now = self.runtime.now();
        lock(&self.registry).handle_closed(now, key);
        lock(&self.clients).remove(&key.0);
    }

    fn hands_on(&self, from: &Connection) -> bool {
        match self.handing {
            Handing::On | Handing::ForWork(_) => true,
            Handing::Nowhere => false,
            Handing::Half => self
                .handed
                .fetch_add(1, Ordering::Relaxed)
                .is_multiple_of(2),
            Handing::NotFrom(ip) => from.remote_address().ip().to_canonical() != ip,
        }
    }

    /// What it says to this request, if it wants work first.
    fn asks(&self, key: ConnectionKey, request: &Request) -> Option<Response> {
        let proof = if let Request::Proven { proof, .. } = request {
            Some(proof)
        } else {
            None
        };
        let (Request::Consign(consignment) | Request::Proven { consignment, .. }) = request else {
            return None;
        };
        let question = Question {
            connection: key.0,
            asker: None,
            to: (UserId([0; 32]), DeviceId([0; 32])),
        };
        let now = self.runtime.now();
        let envelope = consignment.envelope();
        match lock(&self.puzzles).judge(now, question, 1000, envelope, proof) {
            Verdict::Pass { .. } => None,
            Verdict::Work(puzzle) => Some(Response::Puzzle(puzzle)),
            Verdict::Full => Some(Response::Refused(Refusal::Full)),
        }
    }

    async fn answer(&self, key: ConnectionKey, connection: &Connection, bytes: &[u8]) -> Vec<u8> {
        let request = Request::decode(bytes).unwrap();
        self.record.request(key, &request);
        if let Some(asked) = self.asks(key, &request) {
            return asked.encode();
        }
        let now = self.runtime.now();
        let answered = lock(&self.registry).handle_request(now, key, request);
        let (answer, routed) = match answered {
            Ok(answered) => answered,
            Err(refusal) => return Response::Refused(refusal).encode(),
        };
        if let Some(routed) = routed {
            let to = lock(&self.clients).get(&routed.to.0).cloned();
            let push = routed.push.encode();
            self.record.note(routed.to, &push);
            if self.hands_on(connection)
                && let Some(to) = to
                && let Ok(mut stream) = to.open_uni().await
                && stream.send(&push).await.is_ok()
            {
                stream.finish();
            }
        }
        let response = match answer {
            Answer::Respond(response) => response,
            Answer::Registered => Response::Registered {
                observed: connection.remote_address(),
                now_millis: self.runtime.unix_millis(),
                relay: None,
            },
            Answer::Publish(..) | Answer::Find(_) => Response::Record(None),
            Answer::Supernodes(_) => Response::Supernodes(Vec::new()),
            Answer::Witness(..) | Answer::Witnessed(_) => Response::Testimony(Testimony::default()),
            Answer::RelayGrant | Answer::AllowRelay(_) => Response::Refused(Refusal::NoRelay),
        };
        response.encode()
    }
}
