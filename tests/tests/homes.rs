//! Devices and their homes: registration, look-up, delivery, the relay, and supernodes that lie, die or are
//! flooded. Virtual time; what is counted are connections whose handshake is complete.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic and tell its seed, and so may its helpers"
)]

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use ahoy::{
    engine::directory::verify,
    identity::Identity,
    sim::{Conditions, SimNode, World},
    supernode::{Status, SupernodeConfig, SupernodeHandle},
};
use ahoy_nat::{
    client::{NodeClient, RequestError},
    home::{Home, HomeEvent, HomePolicy},
    port::{PortHub, SharedPort},
    supernode::{
        Supernode,
        admission::DeviceAdmission,
        protocol::{MAX_MESSAGE, Push, Refusal, Registration, RelayGrant, Request, Response},
        registry::Limits,
        relay::credentials::TurnCredentials,
    },
    turn::{TurnConfig, allocation::TurnAllocation},
};
use ahoy_tests::{
    device::{Device, rng},
    threat,
};
use ahoy_transport::{
    connection::{CloseCode, Connection, ConnectionLost},
    endpoint::{ConnectError, Endpoint, EndpointConfig, ExpectedPeer, NodeAuth, PeerHandshake},
    identity::{
        CertificateError, CertificateFields, DeviceCertificate, DeviceId, DeviceKeys, NodeId,
        NodeKeys, RootKey, SealKeyError, SealKeyRecord, UserId,
        log::{DeviceLog, LogError, LogOp, LogRelation, LogSigner},
    },
    mux::RelayRoute,
    noise::{self, Pattern, PeerSecrets, VerifiedPeer, VerifyPeer},
    runtime::Runtime,
    sealed::{CallEnvelopes, Offer, Role, SessionSecret, open_offer, seal_offer},
};
use bytes::Bytes;
use tokio::sync::mpsc;

const SEED: u64 = 0x0040_0001;
const PORT: u16 = 4433;
/// From a device to anything else: 40 ms of round trip.
const ONE_WAY: Duration = Duration::from_millis(20);
const ROUND_TRIP: Duration = Duration::from_millis(40);
/// How soon homes have to be registered again after a supernode came back from a short outage.
const RECOVERY: Duration = Duration::from_secs(5);

fn node_keys() -> NodeKeys {
    NodeKeys::from_seed(&[0x5e; 32])
}

fn config(limits: Limits) -> SupernodeConfig {
    SupernodeConfig {
        listen: vec![SocketAddr::from(([0, 0, 0, 0], PORT))],
        limits,
        ..SupernodeConfig::default()
    }
}

/// A supernode at 203.0.113.1 and devices far from it.
struct Net {
    world: World,
    home: SimNode,
    supernode: Option<SupernodeHandle>,
    devices: Vec<Arc<Device>>,
    nodes: Vec<SimNode>,
}

impl Net {
    fn new(devices: u8, limits: Limits) -> Self {
        println!("seed {SEED:#x}");
        let world = World::new(SEED);
        let home = world.add_node("home", &[[203, 0, 113, 1].into()]);
        let mut net = Self {
            world,
            home,
            supernode: None,
            devices: Vec::new(),
            nodes: Vec::new(),
        };
        net.start(limits);
        for n in 0..devices {
            let node = net.add_machine(n);
            let device = Device::new(net.runtime(node));
            net.devices.push(device);
        }
        net
    }

    fn add_machine(&mut self, n: u8) -> SimNode {
        let ip = IpAddr::from([198, 51, 100, n]);
        let node = self.world.add_node(&format!("device {n}"), &[ip]);
        self.world.set_link(node, Conditions::with_delay(ONE_WAY));
        self.nodes.push(node);
        node
    }

    fn runtime(&self, node: SimNode) -> Arc<dyn Runtime> {
        self.world.runtime(node)
    }

    fn start(&mut self, limits: Limits) {
        let runtime = self.runtime(self.home);
        let keys = node_keys();
        let starting = SupernodeHandle::start(runtime, config(limits), &keys);
        self.supernode = Some(self.world.block_on(self.home, starting).unwrap().unwrap());
    }

    fn status(&self) -> Status {
        self.supernode.as_ref().unwrap().status()
    }

    /// Handshakes that the supernode completed.
    fn handshakes(&self) -> u64 {
        let ports = self.status().ports;
        ports.iter().map(|port| port.endpoint.accepted_nodes).sum()
    }

    fn on<T>(&self, device: usize, future: impl Future<Output = T>) -> T {
        self.world.block_on(self.nodes[device], future).unwrap()
    }

    /// A connection of this device without a name.
    fn anonymous(&self, device: usize) -> NodeClient {
        self.on(device, async {
            let dialling =
                self.devices[device].dial(node_keys().id(), home_addr(), NodeAuth::Anonymous);
            dialling.await.unwrap()
        })
    }

    fn named(&self, device: usize) -> NodeClient {
        let device_ = &self.devices[device];
        self.on(device, async {
            let dialling = device_.dial(node_keys().id(), home_addr(), device_.auth());
            dialling.await.unwrap()
        })
    }

    /// This device, registered.
    fn registered(&self, device: usize, epoch: u64) -> NodeClient {
        let client = self.named(device);
        let registration = self.devices[device].registration(epoch);
        self.on(device, client.register(registration)).unwrap();
        client
    }

    fn now_millis(&self) -> u64 {
        self.world.runtime(self.home).unix_millis()
    }
}

fn home_addr() -> SocketAddr {
    SocketAddr::from(([203, 0, 113, 1], PORT))
}

/// What a caller must not believe.
#[derive(Debug, PartialEq)]
enum Caught {
    Log(LogError),
    Certificate(CertificateError),
    SealKey(SealKeyError),
    Rollback,
    Fork,
    Unreadable,
}

/// A caller's judgement of what a supernode said about `user`, by transport's verifying functions alone.
fn judge(
    user: UserId,
    known: &DeviceLog,
    now_millis: u64,
    said: &Registration,
) -> Result<DeviceId, Caught> {
    let log = DeviceLog::from_bytes(user, &said.log).map_err(Caught::Log)?;
    match known.compare(&log) {
        LogRelation::Same | LogRelation::Extends => {}
        LogRelation::Rollback => return Err(Caught::Rollback),
        LogRelation::Fork(_) => return Err(Caught::Fork),
        LogRelation::OtherUser => return Err(Caught::Log(LogError::WrongUser)),
    }
    let device = DeviceCertificate::from_bytes(&said.certificate)
        .and_then(|certificate| certificate.verify_in_log(now_millis, user, &log))
        .map_err(Caught::Certificate)?;
    SealKeyRecord::from_bytes(&said.seal_key)
        .map_err(|_unreadable| Caught::Unreadable)?
        .verify(now_millis, device.device())
        .map_err(Caught::SealKey)?;
    Ok(device.device())
}

/// A second device of `first`'s person, which does not hold the root; the first one learns of it.
fn add_device(net: &mut Net, first: usize, n: u8) -> usize {
    let node = net.add_machine(n);
    let runtime = net.runtime(node);
    let now_millis = runtime.unix_millis();
    let mut rng = rng(&runtime);
    let mut identity = net.devices[first].identity.clone();
    let keys = DeviceKeys::generate(&mut rng, now_millis);
    let op = LogOp::AddDevice {
        device: keys.id(),
        noise_static: keys.noise_public(),
        sealed_name: vec![],
    };
    identity.append(op, now_millis).unwrap();
    let second = linked(&identity, keys, &node_keys(), now_millis);
    assert!(second.root().is_none());
    net.devices[first] = Device::with_identity(net.runtime(net.nodes[first]), identity);
    net.devices.push(Device::with_identity(runtime, second));
    net.devices.len() - 1
}

/// The identity of a device that others added to the log: its certificate is issued by itself, which only the
/// log makes good. As it lies in the profile.
fn linked(first: &Identity, keys: DeviceKeys, node: &NodeKeys, now_millis: u64) -> Identity {
    let fields = CertificateFields::for_device(first.user(), &keys, first.log().head(), now_millis);
    let certificate = DeviceCertificate::issue_by_device(fields, &keys);
    let mut bytes = vec![1, 0];
    let log = first.log().to_bytes();
    for part in [
        &keys.to_secret_bytes()[..],
        &node.to_secret_bytes()[..],
        &log,
        certificate.as_bytes(),
    ] {
        bytes.extend(u32::try_from(part.len()).unwrap().to_be_bytes());
        bytes.extend(part);
    }
    Identity::from_secret_bytes(&bytes).unwrap()
}

#[test]
fn a_look_up_finds_exactly_the_persons_devices_and_everything_verifies() {
    let mut net = Net::new(3, Limits::default());
    let second = add_device(&mut net, 0, 9);
    let _homes = [
        net.registered(0, 10),
        net.registered(1, 11),
        net.registered(second, 12),
    ];
    let alice = net.devices[0].identity.user();
    let caller = net.anonymous(2);
    let found = net.on(2, caller.lookup(alice)).unwrap();
    let known = net.devices[0].identity.log();
    let mut devices: Vec<_> = found
        .iter()
        .map(|said| {
            let device = judge(alice, known, net.now_millis(), said).unwrap();
            (device, said.epoch)
        })
        .collect();
    devices.sort_unstable();
    let mut expected = [(0, 10), (second, 12)]
        .map(|(device, epoch)| (net.devices[device].identity.device().id(), epoch));
    expected.sort_unstable();
    assert_eq!(devices, expected);
    let stranger = net.devices[2].identity.user();
    assert_eq!(net.on(2, caller.lookup(stranger)), Ok(vec![]));
    let status = net.status().rendezvous;
    assert_eq!((net.handshakes(), status.connections), (4, 4));
    assert_eq!((status.registered, status.anonymous), (3, 1));
    assert_eq!(status.registry.lookups, 2);

    // Who goes is not found any more.
    drop(_homes);
    net.world.run_for(Duration::from_secs(1)).unwrap();
    assert_eq!(net.on(2, caller.lookup(alice)), Ok(vec![]));
    assert_eq!(net.status().rendezvous.connections, 1);
}

#[test]
fn a_sealed_offer_reaches_the_device_and_its_answer_comes_back() {
    let net = Net::new(2, Limits::default());
    let bobs_home = net.registered(1, 77);
    let (alice, bob) = (&net.devices[0].identity, &net.devices[1].identity);
    let caller = net.anonymous(0);
    let bobs_keys = bob.device().clone();
    let rings = net.world.spawn(net.nodes[1], async move {
        let Push::Incoming { delivery, envelope } = bobs_home.next_push().await.unwrap() else {
            panic!("an envelope comes first");
        };
        let registration = ahoy_transport::sealed::Registration {
            keys: &bobs_keys,
            epoch: 77,
        };
        let opened = open_offer(&envelope, registration, ahoy::sim::EPOCH_MILLIS, |offer| {
            let certificate = &offer.certificate;
            let user = certificate.fields().user;
            let log = DeviceLog::from_bytes(user, &offer.log)
                .map_err(|_invalid| CertificateError::NotInLog)?;
            certificate.verify_in_log(ahoy::sim::EPOCH_MILLIS, user, &log)
        })
        .unwrap();
        let mut envelopes =
            CallEnvelopes::new(&opened.offer.secret, &opened.offer.call_id, Role::Callee);
        let answer = envelopes.seal(b"ringing").unwrap();
        bobs_home.reply(delivery, answer).await.unwrap();
        opened.sender.device()
    });
    let secret = SessionSecret::from_bytes([9; 32]);
    let mut envelopes = CallEnvelopes::new(&secret, &[4; 16], Role::Caller);
    let began = net.world.elapsed();
    let answer = net.on(0, async {
        let found = caller.lookup(bob.user()).await.unwrap();
        let [said] = &found[..] else {
            panic!("one device")
        };
        let now_millis = net.devices[0].runtime.unix_millis();
        let device = judge(bob.user(), bob.log(), now_millis, said).unwrap();
        let seal_key = SealKeyRecord::from_bytes(&said.seal_key)
            .unwrap()
            .verify(now_millis, device)
            .unwrap();
        let offer = Offer {
            call_id: [4; 16],
            secret: secret.clone(),
            recipient: device,
            epoch: said.epoch,
            sequence: 1,
            sent_at_millis: now_millis,
            log_head: alice.log().head(),
            certificate: alice.certificate().clone(),
            log: alice.log().to_bytes(),
            offer: b"voice".to_vec(),
            candidates: vec![],
        };
        let mut rng = rng(&net.devices[0].runtime);
        let envelope = seal_offer(&offer, alice.device(), &seal_key, &mut rng).unwrap();
        let delivery = caller.deliver(device, said.epoch, envelope).await.unwrap();
        let Push::ReplyTo {
            delivery: of,
            payload,
        } = caller.next_push().await.unwrap()
        else {
            panic!("an answer comes");
        };
        assert_eq!(of, delivery);
        envelopes.open(&payload).unwrap()
    });
    let took = net.world.elapsed() - began;
    println!(
        "look-up, offer and answer: {took:?}, of it two round trips of the caller and two of the callee's legs"
    );
    assert_eq!(answer, b"ringing");
    assert_eq!(
        net.world.block_on(net.nodes[1], rings).unwrap().unwrap(),
        alice.device().id()
    );
    // Look-up: a round trip. Offer to the callee and the answer back: four legs.
    assert!(
        took < ROUND_TRIP * 3 + Duration::from_millis(10),
        "{took:?}"
    );
    let counters = net.status().rendezvous.registry;
    assert_eq!((counters.delivered, counters.replied), (1, 1));
}

#[test]
fn wrong_epochs_and_unregistered_devices_are_told_apart() {
    let net = Net::new(3, Limits::default());
    let bobs_home = net.registered(1, 77);
    let caller = net.anonymous(0);
    let deliver = |device: usize, epoch| {
        let to = net.devices[device].identity.device().id();
        net.on(0, caller.deliver(to, epoch, vec![1]))
    };
    assert_eq!(
        deliver(1, 76),
        Err(RequestError::Refused(Refusal::WrongEpoch))
    );
    assert_eq!(
        deliver(2, 77),
        Err(RequestError::Refused(Refusal::UnknownDevice))
    );
    assert!(deliver(1, 77).is_ok());
    // A fresh registration makes the old epoch worthless.
    net.on(1, bobs_home.register(net.devices[1].registration(78)))
        .unwrap();
    assert_eq!(
        deliver(1, 77),
        Err(RequestError::Refused(Refusal::WrongEpoch))
    );
    assert!(deliver(1, 78).is_ok());
    // Only who got a delivery may answer it.
    let stranger = net.anonymous(2);
    let delivery = deliver(1, 78).unwrap();
    assert_eq!(
        net.on(2, stranger.reply(delivery, vec![1])),
        Err(RequestError::Refused(Refusal::UnknownDelivery))
    );
    assert_eq!(net.status().rendezvous.registry.refused, 4);
}

#[test]
fn only_a_device_of_the_handshake_may_register_and_only_itself() {
    let net = Net::new(3, Limits::default());
    let refused = |client: &NodeClient, registration: Registration| match net
        .on(0, client.register(registration))
    {
        Err(RequestError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    };
    let own = || net.devices[0].registration(1);
    assert_eq!(refused(&net.anonymous(0), own()), Refusal::NotYours);
    let other = net.devices[1].registration(1);
    assert_eq!(refused(&net.named(0), other.clone()), Refusal::NotYours);
    let client = net.named(0);
    for (registration, expected) in [
        (
            Registration {
                certificate: other.certificate,
                ..own()
            },
            Refusal::NotYours,
        ),
        (
            Registration {
                log: other.log,
                ..own()
            },
            Refusal::Malformed,
        ),
        (
            Registration {
                seal_key: other.seal_key,
                ..own()
            },
            Refusal::NotYours,
        ),
        (
            Registration {
                log: vec![1],
                ..own()
            },
            Refusal::Malformed,
        ),
    ] {
        assert_eq!(refused(&client, registration), expected);
    }
    assert_eq!(net.status().rendezvous.registered, 0);
    assert_eq!(net.status().rendezvous.registry.refused, 6);
    assert_eq!(net.handshakes(), 3);
}

#[test]
fn a_device_that_was_revoked_in_the_log_it_shows_cannot_register() {
    let mut net = Net::new(1, Limits::default());
    let second = add_device(&mut net, 0, 9);
    let mut identity = net.devices[0].identity.clone();
    let device = net.devices[second].identity.device().id();
    identity
        .append(LogOp::RevokeDevice(device), net.now_millis())
        .unwrap();
    let client = net.named(second);
    let registration = Registration {
        log: identity.log().to_bytes(),
        ..net.devices[second].registration(1)
    };
    assert_eq!(
        net.on(second, client.register(registration)).unwrap_err(),
        RequestError::Refused(Refusal::NotYours)
    );
}

/// Writes down what the supernode's verifier says.
#[derive(Debug)]
struct Recording {
    inner: DeviceAdmission,
    verdicts: Arc<Mutex<Vec<Result<VerifiedPeer, noise::Refusal>>>>,
}

impl VerifyPeer for Recording {
    fn verify(
        &self,
        pattern: Pattern,
        noise_static: Option<&[u8; 32]>,
        credential: &[u8],
    ) -> Result<VerifiedPeer, noise::Refusal> {
        let verdict = self.inner.verify(pattern, noise_static, credential);
        self.verdicts.lock().unwrap().push(verdict);
        verdict
    }
}

#[test]
fn bad_certificates_are_refused_in_the_handshake_each_for_its_own_reason() {
    let mut net = Net::new(1, Limits::default());
    // Another supernode, whose verifier can be asked.
    let node = net
        .world
        .add_node("recording home", &[[203, 0, 113, 2].into()]);
    let addr = SocketAddr::from(([203, 0, 113, 2], PORT));
    let runtime = net.runtime(node);
    let verdicts = Arc::default();
    let endpoint = Endpoint::bind(
        Arc::clone(&runtime),
        EndpointConfig::supernode(SocketAddr::from(([0, 0, 0, 0], PORT))),
    )
    .unwrap();
    let verifier = Recording {
        inner: DeviceAdmission::new(Arc::clone(&runtime)),
        verdicts: Arc::clone(&verdicts),
    };
    let supernode = Supernode::new(Arc::clone(&runtime), Limits::default());
    supernode.serve(
        endpoint
            .serve_nodes(&node_keys(), Arc::new(verifier))
            .unwrap(),
        None,
    );

    let now_millis = net.now_millis();
    let mut rng = rng(&runtime);
    let root = RootKey::generate(&mut rng);
    let keys = DeviceKeys::generate(&mut rng, now_millis);
    let log = DeviceLog::create(&root, &keys, now_millis);
    let good = CertificateFields::for_device(root.user(), &keys, log.head(), now_millis);
    let issue = |fields| {
        DeviceCertificate::issue_by_root(fields, &root)
            .as_bytes()
            .to_vec()
    };
    let expired = CertificateFields {
        not_after_millis: now_millis,
        ..good
    };
    let early = CertificateFields {
        not_before_millis: now_millis + 60_000,
        ..good
    };
    let other_key = CertificateFields {
        noise_static: [9; 32],
        ..good
    };
    let forged = {
        let mut bytes = issue(good);
        *bytes.last_mut().unwrap() ^= 1;
        bytes
    };
    let newer = {
        let mut bytes = issue(good);
        bytes[0] = 2;
        bytes
    };
    let cases = [
        ("good", issue(good), None),
        ("expired", issue(expired), Some(noise::Refusal::Expired)),
        (
            "not yet valid",
            issue(early),
            Some(noise::Refusal::NotYetValid),
        ),
        (
            "for another key",
            issue(other_key),
            Some(noise::Refusal::WrongKey),
        ),
        ("forged", forged, Some(noise::Refusal::BadSignature)),
        (
            "of a newer version",
            newer,
            Some(noise::Refusal::UnsupportedVersion),
        ),
    ];
    let client = Endpoint::bind(
        net.runtime(net.nodes[0]),
        EndpointConfig::peer(SocketAddr::from(([0, 0, 0, 0], 0))),
    )
    .unwrap();
    let mut accepted = 0;
    for (what, certificate, refusal) in cases {
        // A version that cannot be read cannot be shown by our own client either.
        let Ok(certificate) = DeviceCertificate::from_bytes(&certificate) else {
            let verdict = DeviceAdmission::new(Arc::clone(&runtime)).verify(
                Pattern::IkHfs,
                Some(&keys.noise_public()),
                &certificate,
            );
            assert_eq!(verdict.err(), refusal, "{what}");
            continue;
        };
        let auth = NodeAuth::Device {
            keys: Arc::new(keys.clone()),
            certificate,
        };
        let dialled = net.on(0, client.connect_node(addr, node_keys().id(), auth));
        let verdict: Result<VerifiedPeer, noise::Refusal> = verdicts.lock().unwrap().pop().unwrap();
        assert_eq!(verdict.err(), refusal, "{what}");
        match refusal {
            None => {
                dialled.unwrap();
                accepted += 1;
            }
            // The client is told no more than that the handshake failed.
            Some(_) => assert_eq!(
                dialled.unwrap_err(),
                ConnectError::Lost(ConnectionLost::Transport(0x128)),
                "{what}"
            ),
        }
    }
    net.world.run_for(Duration::from_secs(1)).unwrap();
    assert_eq!(endpoint.stats().accepted_nodes, accepted);
    assert_eq!(endpoint.stats().handshake_failed, 4);
    net.supernode = None;
}

/// A supernode that answers look-ups with what it was told to.
fn lying_supernode(net: &Net, answers: Vec<Registration>) -> (SimNode, SocketAddr, Endpoint) {
    let node = net.world.add_node("liar", &[[203, 0, 113, 66].into()]);
    let runtime = net.runtime(node);
    let config = EndpointConfig::supernode(SocketAddr::from(([0, 0, 0, 0], PORT)));
    let endpoint = Endpoint::bind(Arc::clone(&runtime), config).unwrap();
    let admission = Arc::new(DeviceAdmission::new(runtime));
    let mut listener = endpoint.serve_nodes(&node_keys(), admission).unwrap();
    drop(net.world.spawn(node, async move {
        let mut answers = answers.into_iter();
        while let Some(connection) = listener.accept().await {
            lie(connection, &mut answers).await;
        }
    }));
    (node, SocketAddr::from(([203, 0, 113, 66], PORT)), endpoint)
}

async fn lie(connection: Connection, answers: &mut impl Iterator<Item = Registration>) {
    while let Ok((mut send, mut recv)) = connection.accept_bi().await {
        let Ok(Some(request)) = recv.recv(MAX_MESSAGE).await else {
            return;
        };
        assert!(matches!(
            Request::decode(&request),
            Ok(Request::Lookup { .. })
        ));
        let answer = Response::Devices(answers.next().into_iter().collect());
        send.send(&answer.encode()).await.unwrap();
        send.finish();
    }
}

#[test]
fn a_lying_supernode_is_caught_whatever_it_says() {
    let mut net = Net::new(2, Limits::default());
    let now_millis = net.now_millis();
    let old_log = net.devices[0].identity.log().to_bytes();
    let second = add_device(&mut net, 0, 9);
    let (alice, mallory) = (&net.devices[0].identity, &net.devices[1].identity);
    let mut rng = rng(&net.devices[0].runtime);
    let mallorys_keys = DeviceKeys::generate(&mut rng, now_millis);
    let true_ = net.devices[0].registration(1);
    let mallorys = net.devices[1].registration(1);

    // Under Mallory's root, in Alice's name.
    let fields =
        CertificateFields::for_device(alice.user(), &mallorys_keys, alice.log().head(), now_millis);
    let by_root = DeviceCertificate::issue_by_root(fields, mallory.root().unwrap());
    let by_device = DeviceCertificate::issue_by_device(fields, &mallorys_keys);
    // By Alice's own device, which is in the log; but the certified one is not.
    let not_added = DeviceCertificate::issue_by_root(fields, alice.root().unwrap());
    let mut flipped = true_.certificate.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let expired = DeviceCertificate::issue_by_root(
        CertificateFields {
            not_after_millis: now_millis - 1,
            ..*alice.certificate().fields()
        },
        alice.root().unwrap(),
    );
    // Alice was made to sign another second entry once: a fork.
    let mut fork = DeviceLog::from_bytes(alice.user(), &old_log).unwrap();
    let op = LogOp::AddDevice {
        device: mallorys_keys.id(),
        noise_static: mallorys_keys.noise_public(),
        sealed_name: vec![],
    };
    fork.append(op, LogSigner::Root(alice.root().unwrap()), now_millis)
        .unwrap();
    let forks_fields = CertificateFields {
        log: fork.head(),
        ..fields
    };
    let forks = DeviceCertificate::issue_by_device(forks_fields, &mallorys_keys);
    let mallorys_seal = SealKeyRecord::issue(&mallorys_keys).as_bytes().to_vec();
    let mut cut_log = true_.log.clone();
    cut_log.truncate(cut_log.len() - 1);
    let alices_second = net.devices[second].registration(1);

    let with = |certificate: &DeviceCertificate, log: Vec<u8>| Registration {
        epoch: 1,
        certificate: certificate.as_bytes().to_vec(),
        log,
        seal_key: mallorys_seal.clone(),
    };
    let lies = vec![
        ("nothing but the truth", true_.clone(), None),
        ("another person", mallorys.clone(), Some("Log")),
        (
            "another person's certificate in the right log",
            Registration {
                log: true_.log.clone(),
                ..mallorys
            },
            Some("Certificate(WrongUser)"),
        ),
        (
            "signed by a foreign root",
            with(&by_root, true_.log.clone()),
            Some("Certificate(NotInLog)"),
        ),
        (
            "signed by a foreign device",
            with(&by_device, true_.log.clone()),
            Some("Certificate(NotInLog)"),
        ),
        (
            "never added to the log",
            with(&not_added, true_.log.clone()),
            Some("Certificate(NotInLog)"),
        ),
        (
            "a forged signature",
            Registration {
                certificate: flipped,
                ..true_.clone()
            },
            Some("Certificate(WrongSignature)"),
        ),
        (
            "an expired certificate",
            Registration {
                certificate: expired.as_bytes().to_vec(),
                ..true_.clone()
            },
            Some("Certificate(Expired)"),
        ),
        (
            "an old log",
            Registration {
                log: old_log,
                ..true_.clone()
            },
            Some("Rollback"),
        ),
        ("a forked log", with(&forks, fork.to_bytes()), Some("Fork")),
        (
            "half a log",
            Registration {
                log: cut_log,
                ..true_.clone()
            },
            Some("Log"),
        ),
        (
            "a foreign seal key",
            Registration {
                seal_key: mallorys_seal.clone(),
                ..true_.clone()
            },
            Some("SealKey(WrongDevice)"),
        ),
        (
            "the seal key of the person's other device",
            Registration {
                seal_key: alices_second.seal_key,
                ..true_
            },
            Some("SealKey(WrongDevice)"),
        ),
    ];
    let answers = lies.iter().map(|(_, said, _)| said.clone()).collect();
    let (_node, addr, endpoint) = lying_supernode(&net, answers);
    let caller = net.on(1, async {
        let dialling = net.devices[1].dial(node_keys().id(), addr, NodeAuth::Anonymous);
        dialling.await.unwrap()
    });
    let mut refused = 0;
    for (what, _, expected) in lies {
        let found = net.on(1, caller.lookup(alice.user())).unwrap();
        let [said] = &found[..] else {
            panic!("{what}: one answer")
        };
        match (judge(alice.user(), alice.log(), now_millis, said), expected) {
            (Ok(device), None) => assert_eq!(device, alice.device().id()),
            (Err(caught), Some(expected)) => {
                let text = format!("{caught:?}");
                assert!(text.starts_with(expected), "{what}: {text}");
            }
            (judged, _) => panic!("{what}: {judged:?}"),
        }
        // The engine's own judgement. It may take a device's word beside an older log, but keeps to the newer one.
        match verify(said, alice.user(), Some(alice.log()), now_millis) {
            Ok((device, _seal_key, log)) => {
                assert!(
                    ["nothing but the truth", "an old log"].contains(&what),
                    "{what}"
                );
                assert_eq!(device.device(), alice.device().id());
                assert_eq!(log.as_ref(), Some(alice.log()), "{what}");
            }
            Err(_) => refused += 1,
        }
    }
    assert_eq!(endpoint.stats().accepted_nodes, 1);
    assert_eq!(refused, 11);
    threat(
        3,
        "12 of 12 lies caught, each for its own reason; the engine refuses 11 and takes nothing from the old log",
    );
}

/// Between the starts of two homes; it does not divide the interval of their keep-alives.
const STAGGER: Duration = Duration::from_millis(211);

/// Homes that note when they were registered.
struct Homes {
    homes: Vec<Home>,
    registered: Arc<Mutex<Vec<(Duration, usize)>>>,
}

impl Homes {
    /// Starts one after another, so that their keep-alives come at different moments.
    fn start(net: &Net, policy: HomePolicy) -> Self {
        let registered: Arc<Mutex<Vec<(Duration, usize)>>> = Arc::default();
        let homes = net.devices.iter().enumerate().map(|(n, device)| {
            net.world.run_for(STAGGER).unwrap();
            let (events, mut inbox) = mpsc::channel(16);
            let runtime = net.world.runtime(net.nodes[n]);
            let log = Arc::clone(&registered);
            drop(net.world.spawn(net.nodes[n], async move {
                while let Some((_node, event)) = inbox.recv().await {
                    if matches!(event, HomeEvent::Registered(_)) {
                        log.lock().unwrap().push((runtime.elapsed(), n));
                    }
                }
            }));
            let registrant: Arc<Device> = Arc::clone(device);
            let runtime = Arc::clone(&device.runtime);
            Home::start_with(
                policy,
                runtime,
                node_keys().id(),
                home_addr(),
                registrant,
                events,
            )
        });
        let homes: Vec<Home> = homes.collect();
        for (n, home) in homes.iter().enumerate() {
            net.on(n, home.wait_up());
        }
        Self { homes, registered }
    }

    /// When each home was registered first after `since`, counted from there.
    fn after(&self, since: Duration) -> BTreeMap<usize, Duration> {
        let mut first = BTreeMap::new();
        for (at, home) in self.registered.lock().unwrap().iter() {
            if *at > since {
                first.entry(*home).or_insert(*at - since);
            }
        }
        first
    }
}

#[test]
fn a_home_registers_again_at_once_when_the_networks_change() {
    let net = Net::new(3, Limits::default());
    let kept = Homes::start(&net, HomePolicy::default());
    net.world.run_for(Duration::from_secs(20)).unwrap();
    let changed = net.world.elapsed();
    kept.homes.iter().for_each(Home::kick);
    net.world.run_for(Duration::from_millis(200)).unwrap();
    let took = kept.after(changed);
    println!("registered again after {took:?}");
    assert_eq!(took.len(), 3);
    // Over the connections there were.
    assert_eq!(net.handshakes(), 3);
}

#[test]
fn a_home_that_waits_for_its_next_attempt_makes_it_when_the_networks_change() {
    let back_within = |kicked: bool| {
        let mut net = Net::new(3, Limits::default());
        let kept = Homes::start(&net, HomePolicy::default());
        net.world.kill(net.home);
        net.supernode = None;
        // By now they wait up to a minute between attempts.
        net.world.run_for(Duration::from_secs(400)).unwrap();
        net.world.restart(net.home);
        net.start(Limits::default());
        let changed = net.world.elapsed();
        if kicked {
            kept.homes.iter().for_each(Home::kick);
        }
        net.world.run_for(Duration::from_millis(500)).unwrap();
        kept.after(changed).len()
    };
    assert_eq!(back_within(true), 3);
    assert_eq!(back_within(false), 0);
}

/// Kills the supernode without a word, starts it again after `outage`, and says how long after that each of the
/// homes that came back within the bar took; and how many connections the supernode then has.
fn recover(
    homes: u8,
    policy: HomePolicy,
    settle: Duration,
    outage: Duration,
) -> (Vec<Duration>, u64) {
    let mut net = Net::new(homes, Limits::default());
    let kept = Homes::start(&net, policy);
    net.world.run_for(settle).unwrap();
    assert_eq!(net.status().rendezvous.registered, usize::from(homes));
    net.world.kill(net.home);
    net.supernode = None;
    net.world.run_for(outage).unwrap();
    net.world.restart(net.home);
    let restarted = net.world.elapsed();
    net.start(Limits::default());
    net.world.run_for(RECOVERY).unwrap();
    let took: Vec<Duration> = kept.after(restarted).into_values().collect();
    assert_eq!(net.status().rendezvous.registered, took.len());
    (took, net.handshakes())
}

#[test]
fn homes_of_a_killed_supernode_are_registered_again_within_five_seconds() {
    const HOMES: u8 = 20;
    let mut worst = Duration::ZERO;
    for (settle, outage) in [
        (11_300, 200),
        (13_000, 1000),
        (30_000, 2000),
        (30_000, 4000),
    ] {
        let (settle, outage) = (Duration::from_millis(settle), Duration::from_millis(outage));
        let (mut took, handshakes) = recover(HOMES, HomePolicy::default(), settle, outage);
        took.sort_unstable();
        println!(
            "{} of {HOMES} homes registered again; outage {outage:?}, then p50 {:?}, last {:?}",
            took.len(),
            took.get(took.len() / 2),
            took.last(),
        );
        assert_eq!(took.len(), usize::from(HOMES));
        assert_eq!(handshakes, u64::from(HOMES));
        worst = worst.max(took[took.len() - 1]);
    }
    threat(
        16,
        format_args!("{HOMES} of {HOMES} homes back within {worst:?} of the supernode, 4 outages"),
    );
}

#[test]
fn without_trying_again_a_home_is_lost_with_its_supernode() {
    let policy = HomePolicy {
        retry: false,
        ..HomePolicy::default()
    };
    let (took, handshakes) = recover(5, policy, Duration::from_secs(13), Duration::from_secs(1));
    assert_eq!((took.len(), handshakes), (0, 0));
}

/// The supernode goes politely and is back at once. When does each of 200 homes come back?
fn spread(policy: HomePolicy) -> (Vec<Duration>, usize) {
    const HOMES: u8 = 200;
    let mut net = Net::new(HOMES, Limits::default());
    let kept = Homes::start(&net, policy);
    net.world.run_for(Duration::from_secs(12)).unwrap();
    let left = net.world.elapsed();
    let old = net.supernode.take().unwrap();
    let cut_off = net
        .world
        .block_on(net.home, old.drain(Duration::from_secs(1)));
    assert_eq!(cut_off, Ok(0));
    net.world.run_for(Duration::from_millis(1)).unwrap();
    net.start(Limits::default());
    net.world.run_for(RECOVERY).unwrap();
    let mut back: Vec<Duration> = kept.after(left).into_values().collect();
    back.sort_unstable();
    assert_eq!(back.len(), usize::from(HOMES));
    assert_eq!(net.handshakes(), u64::from(HOMES));
    let crowd = back
        .iter()
        .map(|from| {
            let window = *from..*from + Duration::from_millis(100);
            back.iter().filter(|at| window.contains(at)).count()
        })
        .max();
    (back, crowd.unwrap())
}

#[test]
fn two_hundred_homes_do_not_come_back_in_one_moment() {
    let (back, crowd) = spread(HomePolicy::default());
    let (first, last) = (back[0], back[back.len() - 1]);
    println!("200 homes came back {first:?} to {last:?} after; at most {crowd} within 100 ms");
    assert!(last - first > Duration::from_secs(2));
    assert!(crowd <= 30, "{crowd}");
    let calm = crowd;
    let (back, crowd) = spread(HomePolicy {
        jitter: false,
        ..HomePolicy::default()
    });
    println!(
        "without jitter: {:?} to {:?}, {crowd} within 100 ms",
        back[0], back[199]
    );
    assert!(crowd > 150, "{crowd}");
    threat(
        25,
        format_args!("at most {calm} of 200 homes within 100 ms; without jitter {crowd}"),
    );
}

#[test]
fn a_flood_of_requests_is_refused_while_others_are_served() {
    let net = Net::new(3, Limits::default());
    let _bob = net.registered(1, 7);
    let (flooder, other) = (net.anonymous(0), net.anonymous(2));
    let bob = net.devices[1].identity.user();
    // Eight requests at any moment.
    let floods: Vec<_> = (0..8)
        .map(|_| {
            let flooder = flooder.clone();
            net.world.spawn(net.nodes[0], async move {
                let (mut served, mut refused) = (0, 0);
                for _ in 0..500 {
                    match flooder.lookup(bob).await {
                        Ok(_) => served += 1,
                        Err(RequestError::Refused(Refusal::TooFast)) => refused += 1,
                        Err(error) => panic!("{error}"),
                    }
                }
                (served, refused)
            })
        })
        .collect();
    let began = net.world.elapsed();
    for _ in 0..50 {
        let asked = net.world.elapsed();
        let found = net.on(2, other.lookup(bob)).unwrap();
        assert_eq!(found.len(), 1);
        let took = net.world.elapsed() - asked;
        assert!(took < ROUND_TRIP + Duration::from_millis(5), "{took:?}");
        net.world.run_for(Duration::from_millis(100)).unwrap();
    }
    let (mut served, mut refused) = (0u32, 0u32);
    for flood in floods {
        let (more, less) = net.world.block_on(net.nodes[0], flood).unwrap().unwrap();
        served += more;
        refused += less;
    }
    let seconds = (net.world.elapsed() - began).as_secs_f64();
    println!("of 4000 requests in {seconds:.1} s {served} were served and {refused} refused");
    let limits = Limits::default();
    let allowed = limits.request_burst as f64 + limits.requests_per_second as f64 * seconds;
    assert!(f64::from(served) <= allowed + 1.0);
    assert!(refused > 3000);
    assert_eq!(net.status().rendezvous.registry.refused, u64::from(refused));
}

#[test]
fn a_full_supernode_sends_newcomers_away_and_keeps_those_it_has() {
    let limits = Limits {
        connections: 6,
        anonymous_connections: 2,
        registrations: 3,
        ..Limits::default()
    };
    let net = Net::new(10, limits);
    let anonymous: Vec<NodeClient> = (0..4).map(|n| net.anonymous(n)).collect();
    let mut kept = Vec::new();
    let mut full = 0;
    for n in 4..10 {
        let client = net.named(n);
        match net.on(n, client.register(net.devices[n].registration(1))) {
            Ok(_) => kept.push(client),
            Err(RequestError::Refused(Refusal::Full)) => {
                full += 1;
                // It may still ask.
                let user = net.devices[4].identity.user();
                assert_eq!(net.on(n, client.lookup(user)).unwrap().len(), 1);
                kept.push(client);
            }
            Err(RequestError::Lost) => {
                let reason = client.connection().and_then(Connection::close_reason);
                let overloaded = ConnectionLost::ClosedByPeer(CloseCode::Overloaded);
                assert_eq!(reason, Some(overloaded));
            }
            Err(error) => panic!("{error}"),
        }
    }
    let status = net.status().rendezvous;
    assert_eq!((status.connections, status.anonymous), (6, 2));
    assert_eq!((status.registered, full), (3, 1));
    // Two strangers and two devices too many.
    assert_eq!(status.registry.sent_away, 4);
    assert_eq!(net.handshakes(), 10);
    assert_eq!(
        anonymous
            .iter()
            .filter(|client| client
                .connection()
                .is_some_and(|up| up.close_reason().is_some()))
            .count(),
        2
    );
}

fn credentials(grant: &RelayGrant) -> TurnCredentials {
    TurnCredentials {
        username: grant.username.clone(),
        password: grant.password.clone(),
        realm: grant.realm.clone(),
        nonce: grant.nonce.clone(),
        lifetime: Duration::from_secs(grant.lifetime_secs.into()),
    }
}

#[derive(Debug)]
struct Expect(DeviceId, [u8; 32]);

impl VerifyPeer for Expect {
    fn verify(
        &self,
        _pattern: Pattern,
        noise_static: Option<&[u8; 32]>,
        _credential: &[u8],
    ) -> Result<VerifiedPeer, noise::Refusal> {
        if noise_static != Some(&self.1) {
            return Err(noise::Refusal::UnexpectedPeer);
        }
        Ok(VerifiedPeer {
            device: Some(self.0),
            ..VerifiedPeer::default()
        })
    }
}

fn handshake(local: &Identity, remote: &Identity) -> PeerHandshake {
    let remote = remote.device();
    PeerHandshake {
        local_static: local.device().noise_static().clone(),
        credential: local.certificate().as_bytes().to_vec(),
        context: vec![0],
        verifier: Arc::new(Expect(remote.id(), remote.noise_public())),
        secrets: PeerSecrets::derive(&[3; 32], 0, None),
    }
}

#[test]
fn two_devices_meet_over_the_relay_of_their_home_on_the_one_port() {
    let net = Net::new(2, Limits::default());
    let clients = [net.named(0), net.named(1)];
    let mut allocations = Vec::new();
    for (n, client) in clients.iter().enumerate() {
        let device = &net.devices[n];
        let registered = net.on(n, client.register(device.registration(1))).unwrap();
        let grant = registered.relay.unwrap();
        assert_eq!(grant.server, home_addr());
        let port = SharedPort::new(Arc::clone(device.endpoint.mux()));
        let hub = PortHub::start(&*device.runtime, Arc::new(port));
        let config = TurnConfig::new(grant.server, credentials(&grant));
        let began = net.world.elapsed();
        let allocating = TurnAllocation::allocate(Arc::clone(&device.runtime), &hub, config);
        let allocation = net.on(n, allocating).unwrap();
        let took = net.world.elapsed() - began;
        println!("allocated {} in {took:?}", allocation.relayed_addr());
        assert_eq!(took, ROUND_TRIP);
        // The relay and QUIC see the same port of ours.
        assert_eq!(allocation.mapped_addr(), registered.observed);
        allocations.push(allocation);
    }
    let relayed = [allocations[0].relayed_addr(), allocations[1].relayed_addr()];
    let mut routes = Vec::new();
    for n in 0..2 {
        let binding = net.on(n, allocations[n].bind_peer(relayed[1 - n])).unwrap();
        let route = RelayRoute {
            server: binding.server,
            channel: binding.channel,
            peer: binding.peer,
        };
        routes.push(
            net.devices[n]
                .endpoint
                .mux()
                .add_relay_route(route)
                .unwrap(),
        );
    }
    let [alice, bob] = [&net.devices[0], &net.devices[1]];
    let (accepted, mut incoming) = mpsc::channel(1);
    let from_alice = routes[1];
    let _expectation = bob
        .endpoint
        .expect_peer(ExpectedPeer {
            number: 0,
            handshake: handshake(&bob.identity, &alice.identity),
            source: Arc::new(move |from| from == from_alice),
            accepted,
        })
        .unwrap();
    let began = net.world.elapsed();
    let key = bob.identity.device().noise_public();
    let dialling =
        alice
            .endpoint
            .connect_peer(routes[0], key, handshake(&alice.identity, &bob.identity));
    let to_bob = net.on(0, dialling).unwrap();
    println!(
        "connected over the relay in {:?}",
        net.world.elapsed() - began
    );
    assert_eq!(net.world.elapsed() - began, ROUND_TRIP * 2);
    let to_alice = net.on(1, incoming.recv()).unwrap().connection;
    assert_eq!(to_bob.peer().device, Some(bob.identity.device().id()));
    assert_eq!(to_alice.peer().device, Some(alice.identity.device().id()));

    // Data both ways, while QUIC to the home goes on over the same pair of ports.
    for n in 0..100u8 {
        to_bob.send_datagram(Bytes::from(vec![n; 1000])).unwrap();
        assert_eq!(net.on(1, to_alice.recv_datagram()).unwrap(), vec![n; 1000]);
        to_alice.send_datagram(Bytes::from(vec![n; 500])).unwrap();
        assert_eq!(net.on(0, to_bob.recv_datagram()).unwrap(), vec![n; 500]);
        if n % 10 == 0 {
            let found = net.on(0, clients[0].lookup(bob.identity.user())).unwrap();
            assert_eq!(found.len(), 1);
        }
    }
    let relay = &net.status().rendezvous.relays[0];
    assert_eq!(relay.allocations_live, 2);
    // Both ends are here: nothing crosses a relayed socket.
    assert_eq!(relay.packets_in_process, relay.traffic.packets_from_client);
    assert!(relay.traffic.bytes_from_client > 150_000, "{relay:?}");
    assert_eq!(relay.dropped_total(), 0);
    let mux = net.status().ports[0].mux;
    assert!(
        mux.received_other >= 200 && mux.received_quic > 20,
        "{mux:?}"
    );
    let mux = alice.endpoint.mux().stats();
    assert!(
        mux.received_relayed >= 100 && mux.received_quic > 10,
        "{mux:?}"
    );
    // Two connections to the home, and the peers' is none of its business.
    assert_eq!(
        (net.handshakes(), net.status().rendezvous.connections),
        (2, 2)
    );
}

#[test]
fn an_anonymous_caller_gets_a_grant_too_and_a_supernode_without_relay_says_so() {
    let net = Net::new(1, Limits::default());
    let client = net.anonymous(0);
    let grant = net.on(0, client.relay_grant()).unwrap();
    assert_eq!(grant.server, home_addr());
    let node = net.world.add_node("no relay", &[[203, 0, 113, 3].into()]);
    let mut without = config(Limits::default());
    without.relay.enabled = false;
    let keys = node_keys();
    let starting = SupernodeHandle::start(net.runtime(node), without, &keys);
    let _handle = net.world.block_on(node, starting).unwrap().unwrap();
    let addr = SocketAddr::from(([203, 0, 113, 3], PORT));
    let node: NodeId = node_keys().id();
    let client = net
        .on(0, net.devices[0].dial(node, addr, NodeAuth::Anonymous))
        .unwrap();
    assert_eq!(
        net.on(0, client.relay_grant()).unwrap_err(),
        RequestError::Refused(Refusal::NoRelay)
    );
}

#[test]
fn the_same_seed_gives_the_same_packets() {
    let run = || {
        let mut net = Net::new(3, Limits::default());
        let _kept = Homes::start(&net, HomePolicy::default());
        net.world.run_for(Duration::from_secs(6)).unwrap();
        net.world.kill(net.home);
        net.supernode = None;
        net.world.restart(net.home);
        net.start(Limits::default());
        net.world.run_for(Duration::from_secs(6)).unwrap();
        net.world.trace_hash()
    };
    assert_eq!(run(), run());
}
