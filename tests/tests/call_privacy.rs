//! What others see of a call: the wires, the supernode, the muted microphone's listener.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ahoy::{
    call::CallId,
    engine::{
        handle::{Command, Event, Phase},
        reach::Reach,
    },
    report::Outcome,
    signal::{FollowUp, MediaCapabilities, Signal, SignalMessage},
    sim::{Conditions, PacketEvent},
};
use ahoy_media::{
    audio::{BLOCK_SAMPLES, wav::read_all},
    packet::rtp::HEADER_BYTES,
};
use ahoy_nat::{
    client::NodeClient,
    gather::host_candidates,
    ice::{IceCredentials, IceEvent, IceRole, rtc::RtcIceAgent, runner::IceRunner},
    port::{PortHub, SharedPort},
    supernode::protocol::{Consignment, Push, Request},
};
use ahoy_tests::{
    by_hand::{self, Callee},
    nosy::Told,
    pair::{ALICE, BOB, CAROL, HOME, SOON, is_between, ms, plan, secs},
    people::{Home, Phone, SPEECH, Stage},
    secrets::{Secrets, packets_of},
    threat,
    udp::Udp,
};
use ahoy_transport::{
    datagram::Priority,
    endpoint::{Endpoint, EndpointConfig, NodeAuth},
    identity::DeviceId,
    runtime::{Runtime, RuntimeExt},
    sealed::{self, CallEnvelopes, EnvelopeKind, Registration, Role, open_offer},
    session::{
        LocalDevice, MediaPermit, PathKind, RemoteDevice, Session, SessionConfig, SessionEvent,
        SessionParams,
    },
};

const SEED: u64 = 0x00ca_1300;

/// Alice without a home, who calls Bob at a supernode that keeps everything; then everything on the wires, what the
/// supernode wrote down, and what must not be in either.
struct Overheard {
    wires: Vec<PacketEvent>,
    told: Vec<Told>,
    secrets: Secrets,
    alice: Secrets,
    canary: BTreeSet<String>,
}

fn overhear(seed: u64) -> Overheard {
    let (alice_name, bob_name) = ("Alexandra Quillfeather", "Bartholomew Nightingale");
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::new(seed, folder.path());
    let director = stage.director;
    let play = async {
        let tap = stage.wiretap();
        let (home, record) = stage.nosy_home("home", HOME);
        let (alice_id, bob_id) = (stage.identity(), stage.identity());
        let alice = stage.phone(alice_name, ALICE, &alice_id, &[], |_| {});
        let bob = stage.phone(bob_name, BOB, &bob_id, &[&home], |_| {});
        alice.befriend(&bob);
        stage.shortcut(&alice, &bob);
        bob.ready().await;
        alice.call(&bob);
        bob.rings().await;
        stage.pass(secs(1)).await;
        bob.tell(Command::Accept);
        alice.hears().await;
        bob.hears().await;
        stage.pass(secs(8)).await;
        alice.tell(Command::HangUp);
        for phone in [&alice, &bob] {
            assert_eq!(phone.ends(SOON).await.report.outcome, Outcome::Completed);
        }
        stage.pass(secs(5)).await;

        let runtime = stage.world.runtime(director);
        let said = read_all(SPEECH).unwrap();
        let mut secrets = Secrets::default();
        secrets.add_person("Alice", alice_name, &alice_id);
        secrets.add_person("Bob", bob_name, &bob_id);
        secrets.add_speech(&said);
        let packets = packets_of(&said, quinn::Runtime::now(&*runtime));
        secrets.add_packets(&packets);
        let mut of_alice = Secrets::default();
        of_alice.add_person("Alice", alice_name, &alice_id);
        of_alice.add_speech(&said);
        of_alice.add_packets(&packets);
        of_alice.add_text("Bob's name", bob_name);
        // Two that were made at the same time have dates in common.
        of_alice.forget(bob_id.certificate().as_bytes());
        of_alice.forget(&bob_id.log().to_bytes());
        of_alice.forget(bob_id.device().seal_key_record().as_bytes());

        // Bob's own keys open what the supernode carried: the secret of the session was in it.
        let told = record.told();
        let requests = || told.iter().flat_map(|told| &told.requests);
        let epochs = requests().filter_map(|request| {
            let Request::Register(registration) = request else {
                return None;
            };
            Some(registration.epoch)
        });
        let epochs: Vec<u64> = epochs.collect();
        let offers = requests().filter_map(|request| {
            let Request::Consign(Consignment::Deliver { envelope, .. }) = request else {
                return None;
            };
            (EnvelopeKind::of(envelope) == Ok(EnvelopeKind::Offer)).then_some(envelope)
        });
        let now_millis = runtime.unix_millis();
        let opened: Vec<_> = offers
            .filter_map(|envelope| {
                epochs.iter().find_map(|epoch| {
                    let registration = Registration {
                        keys: bob_id.device(),
                        epoch: *epoch,
                    };
                    let any = |offer: &sealed::Offer| {
                        offer.certificate.verify(now_millis, alice_id.user())
                    };
                    open_offer(envelope, registration, now_millis, any).ok()
                })
            })
            .collect();
        assert_eq!(opened.len(), 1, "one offer was made");
        for secret in [&mut secrets, &mut of_alice] {
            secret.add("the session's secret", opened[0].offer.secret.as_bytes());
        }

        // The same search must find all of it in plain packets of the same world.
        let before = tap.packets().len();
        let leak = Udp::bind(
            &*stage.world.runtime(alice.node),
            "0.0.0.0:9".parse().unwrap(),
        );
        let leak = leak.unwrap();
        let speech: Vec<u8> = read_all(SPEECH).unwrap()[48_000..96_000]
            .iter()
            .flat_map(|sample| ((sample * f32::from(i16::MAX)).round() as i16).to_le_bytes())
            .collect();
        let mut leaks: Vec<Vec<u8>> = speech.chunks(1000).map(<[u8]>::to_vec).collect();
        leaks.push(packets[40].clone());
        leaks.push(format!("hello, {alice_name} speaking").into_bytes());
        leaks.push(alice_id.user().0.to_vec());
        leaks.push(alice_id.user().to_string().into_bytes());
        leaks.push(opened[0].offer.secret.as_bytes().to_vec());
        leaks.push(bob_id.device().seal_key_record().as_bytes()[..200].to_vec());
        for leak_bytes in leaks {
            leak.send(bob.addr, &leak_bytes).unwrap();
        }
        stage.pass(secs(1)).await;
        let packets = tap.packets();
        let (wires, planted) = packets.split_at(before);
        Overheard {
            wires: wires.to_vec(),
            told,
            canary: secrets.found_in(planted.iter().map(|packet| &packet.contents[..])),
            secrets,
            alice: of_alice,
        }
    };
    stage.world.block_on(director, play).unwrap()
}

#[test]
fn neither_wires_nor_supernode_learn_what_was_said_or_by_whom() {
    let heard = overhear(SEED);
    eprintln!("found where it was planted: {:?}", heard.canary);
    for planted in [
        "speech, 16 bits",
        "Opus",
        "Alice's name",
        "Alice's user key",
        "Alice's user key as text",
        "the session's secret",
        "Bob's public seal key",
    ] {
        assert!(
            heard.canary.contains(planted),
            "the search does not find: {planted}"
        );
    }

    let bytes: usize = heard.wires.iter().map(|packet| packet.contents.len()).sum();
    eprintln!("{} packets, {bytes} bytes on the wires", heard.wires.len());
    assert!(heard.wires.len() > 800);
    let found = heard
        .secrets
        .found_in(heard.wires.iter().map(|packet| &packet.contents[..]));
    assert_eq!(found, BTreeSet::new());

    // The supernode knows the device that registers there, and must.
    let all = || {
        let told = heard.told.iter().flat_map(|told| &told.bytes);
        told.map(|bytes| &bytes[..])
    };
    let known = heard.secrets.found_in(all());
    eprintln!("the supernode knows: {known:?}");
    assert!(known.contains("Bob's user key") && known.contains("Bob's certificate"));
    // But not who calls, nor what for, nor the secret, nor a name.
    assert_eq!(heard.alice.found_in(all()), BTreeSet::new());
    assert!(!known.contains("Bob's secret seal key"));
    let strangers: Vec<&Told> = heard.told.iter().filter(|told| !told.named).collect();
    assert_eq!(strangers.len(), 1);
    assert!(strangers[0].requests.len() >= 2, "a look-up and a delivery");
    eprintln!(
        "of the caller it saw {} requests and {} messages",
        strangers[0].requests.len(),
        strangers[0].bytes.len()
    );
    threat(
        1,
        format_args!(
            "0 secrets in {} packets, 7 of 7 kinds found where planted",
            heard.wires.len()
        ),
    );
}

/// -90 dBFS: one step of 16 bits may remain of a decoder's noise.
const SILENT: f32 = 3.162_277_7e-5;

fn peak(samples: &[f32]) -> f32 {
    samples.iter().fold(0.0, |peak, s| peak.max(s.abs()))
}

/// Sizes of what went from one to the other without a relay, from the size of a voice packet up, with how often.
fn sizes(packets: &[PacketEvent], pair: &ahoy_tests::pair::Pair) -> BTreeMap<usize, usize> {
    let mut sizes = BTreeMap::new();
    let from_alice = |packet: &&PacketEvent| {
        is_between(packet, &pair.alice, &pair.bob)
            && packet.from == pair.alice.node
            && packet.contents.len() >= 100
    };
    for packet in packets.iter().filter(from_alice) {
        *sizes.entry(packet.contents.len()).or_default() += 1;
    }
    sizes
}

#[test]
fn whoever_is_muted_sends_packets_of_the_same_size_with_nothing_in_them() {
    plan(SEED + 1).run(async |pair| {
        pair.talk().await;
        pair.pass(secs(2)).await;
        let tap = pair.stage.wiretap();
        pair.pass(secs(4)).await;
        let speaking = tap.packets();
        let heard_before = read_all(&pair.bob.recording).unwrap();
        pair.alice.tell(Command::Mute(true));
        pair.pass(secs(1)).await;
        let from = tap.packets().len();
        let (began, began_at) = (pair.bob.probe.heard.instants().len(), pair.stage.now());
        pair.pass(secs(4)).await;
        let muted = tap.packets()[from..].to_vec();
        let ended = pair.bob.probe.heard.instants().len();
        pair.alice.tell(Command::Mute(false));
        pair.pass(secs(2)).await;
        eprintln!("muted from {began_at:?}, blocks {began} to {ended}");
        for report in pair.hang_up().await {
            assert_eq!(report.report.outcome, Outcome::Completed);
        }
        let heard = read_all(&pair.bob.recording).unwrap();
        let quiet = peak(&heard[began * BLOCK_SAMPLES..ended * BLOCK_SAMPLES]);
        let zeros = heard[began * BLOCK_SAMPLES..ended * BLOCK_SAMPLES]
            .iter()
            .filter(|sample| **sample == 0.0)
            .count();
        eprintln!(
            "while muted: peak {quiet:e}, {zeros} of {} samples are zero",
            (ended - began) * BLOCK_SAMPLES
        );
        assert!(quiet < SILENT);
        // Before and after, there is speech.
        assert!(peak(&heard_before) > 0.05);
        assert!(peak(&heard[(ended + 50) * BLOCK_SAMPLES..]) > 0.05);

        let (speaking, muted) = (sizes(&speaking, pair), sizes(&muted, pair));
        eprintln!("sizes while speaking {speaking:?}, while muted {muted:?}");
        let usual = |sizes: &BTreeMap<usize, usize>| {
            let most = sizes.iter().max_by_key(|(_size, count)| **count);
            most.map(|(size, _count)| *size)
        };
        assert_eq!(usual(&speaking), usual(&muted));
        let all = |sizes: &BTreeMap<usize, usize>| sizes.keys().copied().collect::<BTreeSet<_>>();
        let only_muted: Vec<usize> = all(&muted).difference(&all(&speaking)).copied().collect();
        eprintln!("sizes seen only while muted: {only_muted:?}");
    });
}

#[test]
fn whoever_mutes_while_it_rings_is_not_heard_after_the_answer() {
    plan(SEED + 2).run(async |pair| {
        pair.alice.call(&pair.bob);
        pair.bob.rings().await;
        pair.pass(ms(500)).await;
        pair.alice.tell(Command::Mute(true));
        pair.pass(ms(500)).await;
        pair.bob.tell(Command::Accept);
        pair.alice.hears().await;
        pair.bob.hears().await;
        pair.pass(secs(4)).await;
        pair.hang_up().await;
        let heard = read_all(&pair.bob.recording).unwrap();
        assert!(heard.len() > 3 * 48_000);
        let peaks: Vec<f32> = heard.chunks(4800).map(peak).collect();
        eprintln!(
            "loudest at first {:e}, later {:e}",
            peaks[0],
            peak(&heard[4800..])
        );
        // A decoder that starts makes a little more noise than one that runs.
        assert!(peaks[0] < 4.0 * SILENT);
        assert!(peak(&heard[4800..]) < SILENT);
        let heard = read_all(&pair.alice.recording).unwrap();
        assert!(heard.iter().any(|sample| sample.abs() > 0.05));
    });
}

/// A caller made by hand, who may do what no shipped one does.
struct Caller {
    session: Session,
    call: [u8; 16],
    _endpoint: Endpoint,
    _hub: Arc<PortHub>,
    _client: NodeClient,
    _ice: IceRunner,
    device: DeviceId,
}

/// Calls `callee` from a machine of its own, up to the session: by that time it rings there.
async fn call_by_hand(stage: &Stage, home: &Home, callee: &Phone) -> Caller {
    let identity = stage.identity();
    callee.book.add_contact(identity.user(), "Mallory");
    let ip = CAROL.into();
    let node = stage.world.add_node("Mallory", &[ip]);
    stage.world.set_link(node, Conditions::with_delay(ms(20)));
    let runtime: Arc<dyn Runtime> = stage.world.runtime(node);
    let any = "0.0.0.0:7000".parse().unwrap();
    let endpoint = Endpoint::bind(Arc::clone(&runtime), EndpointConfig::peer(any)).unwrap();
    let port = SharedPort::new(Arc::clone(endpoint.mux()));
    let hub = PortHub::start(&*runtime, Arc::new(port));
    let connected = endpoint.connect_node(home.addr, home.address.node, NodeAuth::Anonymous);
    let client = NodeClient::new(Arc::clone(&runtime), connected.await.unwrap());
    let found = client.lookup(callee.user).await.unwrap();
    let bob = Callee::of(&found[0], callee.user, runtime.unix_millis());

    let local = host_candidates(&*runtime, endpoint.local_addr(), false);
    let candidates = Reach {
        generation: 0,
        ice: local.clone(),
        ..Reach::default()
    };
    let by_hand = by_hand::offer(&runtime, &identity, "Mallory", &bob, candidates.encode());
    let (call, secret, device) = (by_hand.call, by_hand.secret, &bob.device);
    let delivered = client.deliver(device.device(), bob.epoch, by_hand.envelope);
    delivered.await.unwrap();
    let session = Session::caller(SessionParams {
        endpoint: endpoint.clone(),
        secret: secret.clone(),
        call_id: call,
        local: LocalDevice {
            keys: Arc::new(identity.device().clone()),
            certificate: identity.certificate().clone(),
        },
        remote: RemoteDevice {
            user: callee.user,
            device: device.device(),
            noise_static: *device.noise_static(),
        },
        config: SessionConfig::default(),
    });

    // The other side's addresses come back by the home; ICE opens the way that it admits packets from.
    let mut envelopes = CallEnvelopes::new(&secret, &call, Role::Caller);
    let remote = loop {
        let Push::ReplyTo { payload, .. } = client.next_push().await.unwrap() else {
            continue;
        };
        let told = FollowUp::decode(&envelopes.open(&payload).unwrap()).unwrap();
        if told.candidates.is_empty() {
            continue;
        }
        let reach = Reach::decode(&told.candidates).unwrap();
        if !reach.ice.is_empty() {
            break reach.ice;
        }
    };
    let credentials = |role| IceCredentials::derive(secret.as_bytes(), role, 0);
    let (ours, theirs) = (
        credentials(IceRole::Controlling),
        credentials(IceRole::Controlled),
    );
    let agent = RtcIceAgent::new(
        runtime.now(),
        IceRole::Controlling,
        7000,
        &ours,
        &theirs,
        runtime.random_array(),
    );
    let agent = Box::new(agent.unwrap());
    let ice = IceRunner::start(Arc::clone(&runtime), &hub, &ours.ufrag, agent).unwrap();
    for candidate in local {
        ice.add_local(candidate);
    }
    for candidate in remote {
        ice.add_remote(candidate);
    }
    let selected = loop {
        if let IceEvent::Selected { remote, .. } = ice.event().await {
            break remote;
        }
    };
    session.add_path(PathKind::Direct, selected).unwrap();
    while !matches!(
        session.next_event().await,
        Some(SessionEvent::PathUp { .. })
    ) {}
    Caller {
        session,
        call,
        _endpoint: endpoint,
        _hub: hub,
        _client: client,
        _ice: ice,
        device: identity.device().id(),
    }
}

#[test]
fn who_speaks_before_the_answer_is_not_heard() {
    plan(SEED + 3).run(async |pair| {
        let mallory = call_by_hand(&pair.stage, &pair.home, &pair.bob).await;
        pair.bob.rings().await;
        let runtime: Arc<dyn Runtime> = pair.stage.world.runtime(pair.stage.director);
        let packets = packets_of(&read_all(SPEECH).unwrap(), runtime.now());
        let permit = MediaPermit::on_accept(mallory.call);
        mallory.session.open_media(permit).unwrap();
        for packet in packets.iter().take(150) {
            let expires = runtime.now() + secs(1);
            mallory
                .session
                .send_media(1, packet.clone().into(), Priority::Audio, expires)
                .unwrap();
            pair.pass(ms(20)).await;
        }
        let sent = mallory.session.stats();
        assert_eq!((sent.sent, sent.expired), (150, 0));
        // The last of it arrives.
        pair.pass(ms(200)).await;
        // It only rings: nothing was opened, nobody was told of a connection.
        let connected = |(_at, event): &(_, Event)| matches!(event, Event::Connected { .. });
        assert!(!pair.bob.events().iter().any(connected));
        assert!(!pair.bob.recording.exists());
        let call = pair.bob.engine.view().borrow().call.clone().unwrap();
        assert_eq!(call.phase, Phase::Incoming);

        // The person answers: from now on the caller is silent, and of what it said before nothing is left.
        pair.bob.tell(Command::Accept);
        let mut said = Vec::new();
        while said.len() < 100 {
            said.push(mallory.session.recv_media().await.unwrap().payload);
        }
        pair.bob.tell(Command::HangUp);
        pair.pass(secs(1)).await;
        let heard = read_all(&pair.bob.recording).unwrap();
        assert!(heard.len() > 48_000);
        assert!(peak(&heard) < SILENT, "{}", peak(&heard));

        // And what Bob said is what the shipped sender makes of the clip, byte for byte: that is what the search of
        // the wires looks for.
        let same = said
            .iter()
            .zip(&packets)
            .filter(|(said, made)| said[HEADER_BYTES..] == made[HEADER_BYTES..])
            .count();
        assert_eq!(same, said.len());
    });
}

#[test]
fn a_caller_that_answers_its_own_call_opens_nothing() {
    plan(SEED + 4).run(async |pair| {
        let mallory = call_by_hand(&pair.stage, &pair.home, &pair.bob).await;
        pair.bob.rings().await;
        let accept = SignalMessage {
            call: CallId(mallory.call),
            participant: mallory.device,
            signal: Signal::Accept(MediaCapabilities::default()),
        };
        let sent = mallory.session.send_control(accept.encode().into());
        sent.await.unwrap();
        pair.pass(secs(2)).await;
        let connected = |(_at, event): &(_, Event)| matches!(event, Event::Connected { .. });
        assert!(!pair.bob.events().iter().any(connected));
        assert!(!pair.bob.recording.exists());
        let call = pair.bob.engine.view().borrow().call.clone().unwrap();
        assert_eq!(call.phase, Phase::Incoming);
    });
}
