//! All that a supernode's process holds while it carries a call, searched for what was said, by whom, and under
//! which keys.
//!
//! The supernode is the program itself in a process of its own. The two who talk are engines in this process, so that
//! the keys can be known: their randomness is written down, and the session's secret is that part of it whose tag the
//! caller's first packet bore.

#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test may panic and speak, and so may its helpers"
)]

use std::{
    collections::{BTreeSet, HashSet},
    env,
    ffi::OsStr,
    fmt, fs,
    io::{self, IoSliceMut},
    net::{IpAddr, SocketAddr},
    os::unix::{ffi::OsStrExt, fs::FileExt},
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use ahoy::{
    call::CallConfig,
    engine::{
        self,
        config::{Answering, EngineConfig, Finding, Me, PathPolicy, Upkeep},
        handle::{Command, EngineHandle, Event},
        media::{AudioIn, AudioOut, AudioSettings},
        memory_book::MemoryBook,
    },
    identity::Identity,
    report::Outcome,
};
use ahoy_media::{audio::wav::read_all, packet::rtp::HEADER_BYTES};
use ahoy_tests::{
    process::{PATIENCE, Running, speech, start_in},
    secrets::{Secrets, WINDOW, loud_pieces, packets_of},
    threat,
};
use ahoy_transport::{
    identity::NodeAddress,
    noise::PeerSecrets,
    runtime::{Runtime, RuntimeExt, TokioRuntime, timeout},
};
use quinn::{AsyncTimer, AsyncUdpSocket, UdpPoller, udp};
use rand_chacha::{
    ChaCha20Rng,
    rand_core::{RngCore, SeedableRng},
};
use tokio::sync::broadcast;

const ALICE: &str = "Alexandra Quillfeather";
const BOB: &str = "Bartholomew Nightingale";

/// Of one search, the most that is read at once.
const PIECE_BYTES: usize = 1 << 20;

/// Bytes of a generator's output among which the session's secret is looked for. The engine draws it long before.
const STREAM_BYTES: usize = 4096;

/// The network as it is, with a record of what was drawn and sent.
#[derive(Debug, Default)]
struct Recorded(Arc<Record>);

#[derive(Default)]
struct Record {
    seeds: Mutex<Vec<[u8; 32]>>,
    /// Destination connection ids of long headers, relayed or not, where they are as long as a tag.
    tags: Mutex<HashSet<[u8; 20]>>,
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record").finish_non_exhaustive()
    }
}

impl Record {
    fn note(&self, packet: &[u8]) {
        // Before a relayed packet stands the header of its channel.
        for start in [0, 4] {
            if let Some(header) = packet.get(start..start + 26)
                && header[0] & 0xc0 == 0xc0
                && header[5] == 20
            {
                let tag = header[6..].try_into().unwrap();
                self.tags.lock().unwrap().insert(tag);
            }
        }
    }

    /// The secret of the session whose first packet was seen.
    fn session_secret(&self) -> Option<[u8; 32]> {
        let tags = self.tags.lock().unwrap();
        let seeds = self.seeds.lock().unwrap();
        seeds.iter().find_map(|seed| {
            let mut stream = [0; STREAM_BYTES];
            ChaCha20Rng::from_seed(*seed).fill_bytes(&mut stream);
            // The generator gives whole words.
            let candidates = stream.windows(32).step_by(4);
            candidates
                .map(|window| window.try_into().unwrap())
                .find(|secret| tags.contains(&PeerSecrets::derive(secret, 0, None).tag))
        })
    }
}

impl quinn::Runtime for Recorded {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        TokioRuntime.new_timer(at)
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        TokioRuntime.spawn(future);
    }

    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        TokioRuntime.wrap_udp_socket(socket)
    }

    fn now(&self) -> Instant {
        quinn::Runtime::now(&TokioRuntime)
    }
}

impl Runtime for Recorded {
    fn unix_millis(&self) -> u64 {
        TokioRuntime.unix_millis()
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        TokioRuntime.fill_random(bytes);
        if let Ok(seed) = <[u8; 32]>::try_from(&*bytes) {
            self.0.seeds.lock().unwrap().push(seed);
        }
    }

    fn bind_udp(&self, addr: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let socket = TokioRuntime.bind_udp(addr)?;
        let record = Arc::clone(&self.0);
        Ok(Arc::new(RecordedSocket { socket, record }))
    }

    fn interface_addrs(&self) -> Vec<IpAddr> {
        TokioRuntime.interface_addrs()
    }
}

#[derive(Debug)]
struct RecordedSocket {
    socket: Arc<dyn AsyncUdpSocket>,
    record: Arc<Record>,
}

impl AsyncUdpSocket for RecordedSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.socket).create_io_poller()
    }

    fn try_send(&self, transmit: &udp::Transmit<'_>) -> io::Result<()> {
        let segment = transmit.segment_size.unwrap_or(transmit.contents.len());
        for packet in transmit.contents.chunks(segment.max(1)) {
            self.record.note(packet);
        }
        self.socket.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [udp::RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.socket.poll_recv(cx, bufs, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.socket.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.socket.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.socket.may_fragment()
    }
}

/// Everything that process `id` holds: all that it can read but what stands in files as it does in memory.
fn memory_of(id: u32) -> io::Result<Vec<Vec<u8>>> {
    let maps = fs::read_to_string(format!("/proc/{id}/maps"))?;
    let memory = fs::File::open(format!("/proc/{id}/mem"))?;
    let mut pieces = Vec::new();
    for map in maps.lines() {
        let mut words = map.split_whitespace();
        let (Some(range), Some(rights)) = (words.next(), words.next()) else {
            continue;
        };
        // The kernel's own pages, the same in every process.
        let kernels = ["[vvar]", "[vvar_vclock]", "[vdso]", "[vsyscall]"];
        let of_kernel = kernels.iter().any(|name| map.ends_with(name));
        let of_file = map.contains('/') && !rights.contains('w');
        if !rights.starts_with('r') || of_kernel || of_file {
            continue;
        }
        let (from, to) = range.split_once('-').unwrap();
        let from = u64::from_str_radix(from, 16).unwrap();
        let to = u64::from_str_radix(to, 16).unwrap();
        let mut bytes = vec![0; usize::try_from(to - from).unwrap()];
        // What was unmapped meanwhile ends the range.
        let mut read = 0;
        while read < bytes.len() {
            let end = bytes.len().min(read + PIECE_BYTES);
            match memory.read_at(&mut bytes[read..end], from + read as u64) {
                Ok(0) => break,
                Ok(count) => read += count,
                Err(error) if read == 0 && error.kind() == io::ErrorKind::PermissionDenied => {
                    return Err(error);
                }
                Err(_gone) => break,
            }
        }
        bytes.truncate(read);
        pieces.push(bytes);
    }
    Ok(pieces)
}

fn found(secrets: &Secrets, memory: &[Vec<u8>]) -> BTreeSet<String> {
    memory
        .iter()
        .flat_map(|piece| secrets.found_windows(piece))
        .collect()
}

fn supernode(home: &Path, environment: &[(&str, &[u8])]) -> (Running, NodeAddress) {
    let environment = environment
        .iter()
        .map(|(name, value)| (OsStr::new(*name), OsStr::from_bytes(value)));
    let running = start_in(
        home,
        environment,
        ["supernode", "--listen", "127.0.0.1:0", "--print-link"],
    );
    let line = running.first_line();
    let address = line.strip_prefix("ahoy-node:").unwrap().parse().unwrap();
    (running, address)
}

/// Whether this process may read another's memory. Where it may not, nothing can be tested.
fn may_look(running: &Running) -> bool {
    let Err(error) = memory_of(running.id()) else {
        return true;
    };
    assert!(
        env::var("CI").as_deref() != Ok("true"),
        "the memory of a child cannot be read: {error}"
    );
    eprintln!(
        "SKIPPED: the memory of a child cannot be read ({error}), so nothing was tested; \
         kernel.yama.ptrace_scope above 1 forbids it"
    );
    false
}

async fn event(
    runtime: &dyn Runtime,
    events: &mut broadcast::Receiver<Event>,
    what: &str,
) -> Event {
    let wanted = async {
        loop {
            let event = events.recv().await.unwrap();
            let name = format!("{event:?}");
            if name.starts_with(what) {
                return event;
            }
        }
    };
    let came = timeout(runtime, PATIENCE, wanted).await;
    came.unwrap_or_else(|| panic!("{what} did not happen"))
}

/// A clip that the program does not carry within itself, as it does the one of the demonstration.
fn other_speech(path: &Path) -> Vec<f32> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 48_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    for sample in read_all(speech()).unwrap() {
        let quieter = (0.83 * sample * f32::from(i16::MAX)).round();
        writer.write_sample(quieter as i16).unwrap();
    }
    writer.finalize().unwrap();
    read_all(path).unwrap()
}

struct Person {
    identity: Identity,
    book: Arc<MemoryBook>,
    engine: EngineHandle,
    events: broadcast::Receiver<Event>,
}

fn person(
    runtime: &Arc<dyn Runtime>,
    name: &str,
    homes: Vec<(NodeAddress, SocketAddr)>,
    clip: &Path,
) -> Person {
    let mut rng = ChaCha20Rng::from_seed(runtime.random_array());
    let identity = Identity::create(&mut rng, runtime.unix_millis());
    let book = Arc::new(MemoryBook::new(identity.user(), name));
    let config = EngineConfig {
        me: Me::of(&identity, name),
        listen: "127.0.0.1:0".parse().unwrap(),
        homes,
        path: PathPolicy::Relay,
        audio: AudioSettings {
            input: AudioIn::File(clip.into()),
            output: AudioOut::File(clip.with_file_name(format!("heard by {name}.wav"))),
            ..AudioSettings::default()
        },
        video: engine::video::VideoSettings::default(),
        recording: engine::recording::RecordSettings::default(),
        files: engine::files::FilesSettings::default(),
        sound: ahoy::sound::SoundChoices::default(),
        answering: Answering::Contacts,
        limits: CallConfig::default(),
        allow_loopback: true,
        port_mapping: false,
        lan_discovery: false,
        mailbox: true,
        finding: Finding::default(),
        lend: None,
        guess_ports: true,
        proxy: None,
        upkeep: Upkeep::default(),
        probe: None,
        video_probe: None,
        measure_cost: false,
    };
    let (engine, _ending) = engine::start(runtime, config, Arc::clone(&book) as Arc<_>).unwrap();
    Person {
        events: engine.events(),
        identity,
        book,
        engine,
    }
}

/// The longest part of `bytes` that an environment variable can hold.
fn without_zeros(bytes: &[u8]) -> &[u8] {
    let runs = bytes.split(|byte| *byte == 0);
    runs.max_by_key(|run| run.len()).unwrap_or_default()
}

#[test]
fn a_supernode_that_carries_a_call_holds_none_of_its_keys_speech_and_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let canary = b"a canary, which sits in the supernode";
    let (carrier, address) = supernode(&path("carrier"), &[("AHOY_TEST_CANARY", canary)]);
    if !may_look(&carrier) {
        return;
    }
    let said = other_speech(&path("said.wav"));

    // A call of five seconds through the supernode. What it holds is read in the middle of it and after its end.
    let record = Arc::new(Record::default());
    let runtime: Arc<dyn Runtime> = Arc::new(Recorded(Arc::clone(&record)));
    let (alice, bob, during, after) = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(async {
            let addr = SocketAddr::new("127.0.0.1".parse().unwrap(), address.port);
            let home = vec![(address.clone(), addr)];
            let mut bob = person(&runtime, BOB, home, &path("said.wav"));
            let mut alice = person(&runtime, ALICE, Vec::new(), &path("said.wav"));
            bob.book.add_contact(alice.identity.user(), ALICE);
            alice.book.add_contact(bob.identity.user(), BOB);
            let Event::Ready { link } = event(&*runtime, &mut bob.events, "Ready").await else {
                unreachable!("that is its name")
            };
            assert!(alice.engine.send(Command::Call(link)));
            event(&*runtime, &mut bob.events, "FirstAudio").await;
            event(&*runtime, &mut alice.events, "FirstAudio").await;
            runtime.sleep(Duration::from_secs(4)).await;
            let during = memory_of(carrier.id()).unwrap();
            runtime.sleep(Duration::from_secs(1)).await;
            assert!(alice.engine.send(Command::HangUp));
            for person in [&mut alice, &mut bob] {
                let ended = event(&*runtime, &mut person.events, "Ended").await;
                let Event::Ended { report, .. } = ended else {
                    unreachable!("that is its name")
                };
                assert_eq!(report.outcome, Outcome::Completed);
                let kinds: Vec<String> = report
                    .paths
                    .iter()
                    .map(|path| format!("{:?}", path.kind))
                    .collect();
                assert_eq!(kinds, ["Relay"], "the supernode carried the call");
            }
            (alice, bob, during, memory_of(carrier.id()).unwrap())
        });

    let secret = record.session_secret();
    let secret =
        secret.expect("the caller's first packet bears the tag of a secret that was drawn");
    let first = PeerSecrets::derive(&secret, 0, None);
    let seeds = record.seeds.lock().unwrap().clone();
    let packets = packets_of(&said, runtime.now());
    let mut secrets = Secrets::default();
    secrets.add("the session's secret", &secret);
    secrets.add("the key of its first connection", &first.psk);
    secrets.add("the key of its first packet", &first.mac_key);
    for seed in &seeds {
        secrets.add("a seed of those who talk", seed);
    }
    secrets.add_person("Alice", ALICE, &alice.identity);
    secrets.add_speech(&said);
    secrets.add_packets(&packets);
    for (who, name, identity) in [
        ("Alice", ALICE, &alice.identity),
        ("Bob", BOB, &bob.identity),
    ] {
        secrets.add(&format!("{who}'s name"), name.as_bytes());
        let user = identity.user().to_string();
        if who == "Alice" {
            secrets.add("Alice's user key as text", user.as_bytes());
        }
        let seals = identity.device().seal_keys();
        let generation = identity.device().seal_key_record().generation();
        let seal = seals.secret(generation).unwrap();
        secrets.add(&format!("{who}'s secret seal key"), seal.seed());
    }
    // Made at the same time, they have dates in common.
    secrets.forget(bob.identity.certificate().as_bytes());
    secrets.forget(&bob.identity.log().to_bytes());
    secrets.forget(bob.identity.device().seal_key_record().as_bytes());

    // What it must hold: the search sees the living heap.
    let must = ["the canary", "Bob's certificate"].map(str::to_owned);
    let mut searched = secrets.clone();
    searched.add(&must[0], canary);
    searched.add(&must[1], bob.identity.certificate().as_bytes());
    for (when, memory) in [("during", &during), ("after", &after)] {
        let bytes: usize = memory.iter().map(Vec::len).sum();
        let held = found(&searched, memory);
        eprintln!("{when} the call: in {bytes} bytes there is {held:?}");
        assert_eq!(held, BTreeSet::from(must.clone()), "{when} the call");
    }

    // The same search finds every kind of it in a supernode that was told.
    let mut speech = loud_pieces(&said).map(|piece| {
        let short = piece.iter().flat_map(|sample| {
            let short = (sample * f32::from(i16::MAX)).round() as i16;
            short.to_le_bytes()
        });
        short.collect::<Vec<u8>>()
    });
    let speech = speech.find(|bytes| !bytes.contains(&0)).unwrap();
    let opus = packets
        .iter()
        .map(|packet| without_zeros(&packet[HEADER_BYTES..]));
    let opus = opus.filter(|run| run.len() >= WINDOW).nth(40).unwrap();
    let planted: [(&str, &[u8]); 8] = [
        ("AHOY_TEST_SECRET", without_zeros(&secret)),
        ("AHOY_TEST_PSK", without_zeros(&first.psk)),
        ("AHOY_TEST_MAC", without_zeros(&first.mac_key)),
        ("AHOY_TEST_SEED", without_zeros(&seeds[0])),
        ("AHOY_TEST_SPEECH", &speech),
        ("AHOY_TEST_OPUS", opus),
        ("AHOY_TEST_ALICE", ALICE.as_bytes()),
        ("AHOY_TEST_BOB", BOB.as_bytes()),
    ];
    let (told, _address) = supernode(&path("told"), &planted);
    let held = found(&secrets, &memory_of(told.id()).unwrap());
    eprintln!("found where it was planted: {held:?}");
    for what in ["speech, 16 bits", "Opus", "Alice's name", "Bob's name"] {
        assert!(held.contains(what), "the search does not find: {what}");
    }
    // Random bytes that hold two zeros may leave no window; not all of them at once.
    let keys = held
        .iter()
        .filter(|what| what.contains("key of") || what.contains("secret"));
    assert!(keys.count() >= 2, "the search does not find keys");
    threat(
        1,
        "0 secrets in a relaying supernode's memory, during and after",
    );
}
