//! Records in real nodes of the Mainline DHT on loopback: our own servers, libtorrent, and calls between processes by
//! what stands there.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic and tell what it found, and so may its helpers"
)]

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, SocketAddrV4},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Arc,
};

use ahoy_nat::discovery::{
    dht::{
        Dht, DhtError, Place, item,
        mainline::{DhtEntry, Mainline, MainlineServer, MainlineServerConfig},
        places_to_get, places_to_put, put_record, readable, records,
    },
    record::{RECORD_LIFETIME_MILLIS, Record, RecordCache, RecordError, RecordFields},
};
use ahoy_tests::process::{Running, run, start, start_with};
use ahoy_transport::{
    identity::{LogPosition, NodeAddress, NodeKeys, RootKey},
    runtime::{Runtime, TokioRuntime},
};
use futures_util::{StreamExt as _, future::join_all};
use serde_json::Value;

/// Nodes of a small network.
const NODES: usize = 8;

fn runtime() -> Arc<dyn Runtime> {
    Arc::new(TokioRuntime)
}

fn root(seed: u8) -> RootKey {
    RootKey::from_seed(&[seed; 32])
}

fn record(root: &RootKey, seq: u64) -> Record {
    let home = |last: u8| {
        let node = NodeKeys::from_seed(&[last; 32]).id();
        NodeAddress::new(node, ([203, 0, 113, last], 4433).into())
    };
    let fields = RecordFields {
        user: root.user(),
        seq,
        not_after_millis: runtime().unix_millis() + RECORD_LIFETIME_MILLIS,
        log_head: LogPosition {
            n: 3,
            hash: [4; 32],
        },
        homes: vec![home(1), home(2), home(3)],
        sealed: vec![9; 100],
    };
    Record::issue(fields, root)
}

/// A founder, and others who came by it.
struct Network(Vec<MainlineServer>);

impl Network {
    async fn new(adjust: impl Fn(&mut MainlineServerConfig)) -> Self {
        let any = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
        let mut nodes: Vec<MainlineServer> = Vec::new();
        for _ in 0..NODES {
            let entries = nodes.first().map(MainlineServer::entry);
            let mut config = MainlineServerConfig::new(any, entries.into_iter().collect());
            adjust(&mut config);
            nodes.push(MainlineServer::start(&runtime(), &config).await.unwrap());
        }
        for node in &nodes[1..] {
            assert!(node.joined().await);
        }
        Self(nodes)
    }

    fn entries(&self) -> Vec<DhtEntry> {
        vec![self.0[0].entry()]
    }

    fn client(&self) -> Arc<dyn Dht> {
        Arc::new(Mainline::new(runtime(), self.entries()))
    }
}

async fn put(
    dht: &dyn Dht,
    record: &Record,
    root: &RootKey,
    capability: Option<&[u8; 32]>,
) -> usize {
    let places = places_to_put(root.user(), capability, runtime().unix_millis());
    let node = dht.open().await.unwrap();
    let put = put_record(&*runtime(), &*node, record, root, &places)
        .await
        .unwrap();
    assert_eq!(put.stored, put.copies);
    put.copies
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_is_put_read_back_and_found_in_a_network_of_our_own() {
    let network = Network::new(|_| {}).await;
    let (dht, root, capability) = (network.client(), root(1), [7; 32]);
    assert!(!dht.is_public());
    let (first, second) = (record(&root, 1), record(&root, 2));
    for record in [&first, &second] {
        let copies = put(&*dht, record, &root, Some(&capability)).await;
        assert!(copies >= 6, "{copies}");
        // By somebody who was never there.
        let fresh = dht.open().await.unwrap();
        assert!(fresh.is_connected().await);
        let places = places_to_put(root.user(), Some(&capability), runtime().unix_millis());
        assert_eq!(
            readable(&*runtime(), &*fresh, record, &places).await,
            copies
        );
    }
    // Found by name, and by nobody else's.
    let search = async |user, capability: Option<&[u8; 32]>| {
        let places = places_to_get(user, capability, runtime().unix_millis());
        records(Arc::clone(&dht), user, places)
            .collect::<Vec<_>>()
            .await
    };
    let found = search(root.user(), None).await;
    println!("{} answers", found.len());
    let mut cache = RecordCache::new(1);
    for record in &found {
        match cache.offer(record, root.user(), runtime().unix_millis()) {
            Ok(_) | Err(RecordError::Older) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(cache.last(root.user()), Some(&second));
    assert!(
        search(RootKey::from_seed(&[2; 32]).user(), None)
            .await
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_nobody_answers_for_says_so() {
    // A port that was free a moment ago.
    let port = std::net::UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let entry = format!("127.0.0.1:{port}").parse().unwrap();
    let dht = Mainline::new(runtime(), vec![entry]);
    let node = dht.open().await.unwrap();
    let places = places_to_put(root(1).user(), None, runtime().unix_millis());
    let outcome = put_record(&*runtime(), &*node, &record(&root(1), 1), &root(1), &places).await;
    assert_eq!(outcome, Err(DhtError::NoNodes));
    assert!(!node.is_connected().await);
    assert!(Mainline::new(runtime(), vec![]).open().await.is_err());
}

/// Somebody puts the records of sixty made-up people into a network whose nodes keep forty items; can the victim's still be
/// read? And how many puts were refused?
async fn flooded(limit_puts: bool) -> (usize, u64) {
    let network = Network::new(|config| {
        config.limit_puts = limit_puts;
        config.max_values = 40;
    })
    .await;
    let (dht, victim) = (network.client(), root(1));
    let record_of_victim = record(&victim, 1);
    put(&*dht, &record_of_victim, &victim, None).await;
    let attacker = dht.open().await.unwrap();
    let people: Vec<u8> = (2..62).collect();
    let mut stored = 0;
    // Quickly, since a minute later the limit lets others in; but not all at once, which the nodes cannot follow.
    for some in people.chunks(12) {
        let flood = some.iter().map(|seed| {
            let attacker = &attacker;
            async move {
                let (root, runtime) = (root(*seed), runtime());
                // Without a salt, as whoever fills tables would.
                let junk = record(&root, 1);
                put_record(&*runtime, &**attacker, &junk, &root, &[Place::OPEN]).await
            }
        });
        for outcome in join_all(flood).await {
            match outcome {
                Ok(_) => stored += 1,
                Err(DhtError::NoNodes | DhtError::TimedOut) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
    let fresh = dht.open().await.unwrap();
    let places = places_to_put(victim.user(), None, runtime().unix_millis());
    let there = readable(&*runtime(), &*fresh, &record_of_victim, &places).await;
    let refused = network.0.iter().map(MainlineServer::refused_puts).sum();
    println!("limit {limit_puts}: {there} copies left, {stored} of 60 stored, {refused} refused");
    (there, refused)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_puts_drives_nobodys_record_out() {
    let (there, refused) = flooded(true).await;
    assert_eq!(there, 4);
    assert!(refused > 0);
    let (there, refused) = flooded(false).await;
    assert!(there < 4, "without the limit the attack works");
    assert_eq!(refused, 0);
}

// --- libtorrent ------------------------------------------------------------------------------------

/// Two nodes of another program: `tests/libtorrent_node.py`.
struct Libtorrent {
    child: Child,
    port: u16,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// Debian's own Python has the module; another one in the path may not.
const PYTHON: [&str; 2] = ["/usr/bin/python3", "python3"];

impl Libtorrent {
    /// `None` where there is none; a machine that is prepared for tests has it.
    fn start() -> Option<Self> {
        let has_it = |python: &&&str| {
            let import = Command::new(python)
                .args(["-c", "import libtorrent"])
                .output();
            import.is_ok_and(|output| output.status.success())
        };
        let Some(python) = PYTHON.iter().find(has_it) else {
            assert!(
                std::env::var_os("CI").is_none(),
                "python3-libtorrent is not installed: see .ci/setup"
            );
            // Past the capture of test output, so that nobody takes a skipped test for a passed one.
            let text = b"SKIPPED: python3-libtorrent is not installed (.ci/setup test)\n";
            std::io::stderr().write_all(text).unwrap();
            return None;
        };
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("libtorrent_node.py");
        let mut child = Command::new(python)
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let ask = child.stdin.take().unwrap();
        let mut answers = BufReader::new(child.stdout.take().unwrap());
        let mut port = String::new();
        answers.read_line(&mut port).unwrap();
        Some(Self {
            child,
            port: port.trim().parse().unwrap(),
            ask,
            answers,
        })
    }

    /// What its second node finds through the first.
    fn look_up(&mut self, key: &[u8], salt: Option<&[u8]>) -> Option<(u64, Vec<u8>)> {
        let hex = |bytes: &[u8]| {
            bytes
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
        };
        let salt = salt.map_or_else(|| "-".to_owned(), hex);
        writeln!(self.ask, "{} {salt}", hex(key)).unwrap();
        let mut line = String::new();
        let read = self.answers.read_line(&mut line).unwrap();
        assert!(
            read > 0,
            "libtorrent's nodes ended: {:?}",
            self.child.wait()
        );
        let (seq, value) = line.trim().split_once(' ')?;
        let value = value
            .as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap());
        Some((seq.parse().unwrap(), value.collect()))
    }
}

impl Drop for Libtorrent {
    fn drop(&mut self) {
        self.child.kill().unwrap_or_default();
        self.child.wait().map(|_status| ()).unwrap_or_default();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn libtorrent_stores_our_records_and_returns_them() {
    let Some(mut libtorrent) = Libtorrent::start() else {
        return;
    };
    let entry = format!("127.0.0.1:{}", libtorrent.port).parse().unwrap();
    let dht: Arc<dyn Dht> = Arc::new(Mainline::new(runtime(), vec![entry]));
    let (root, capability) = (root(3), [8; 32]);
    let record = record(&root, 1_800_000_000_123);
    let copies = put(&*dht, &record, &root, Some(&capability)).await;
    let places = places_to_put(root.user(), Some(&capability), runtime().unix_millis());
    // To a client of ours that was never there.
    let fresh = dht.open().await.unwrap();
    assert_eq!(
        readable(&*runtime(), &*fresh, &record, &places).await,
        copies
    );
    // And to a node of its own kind, which checks signature and target by its own rules.
    for place in &places {
        let (key, salt) = place.target(root.user());
        let found = libtorrent.look_up(&key, salt.as_deref());
        let put = item(&record, &root, place).unwrap();
        assert_eq!(found, Some((record.fields().seq, put.value)), "{place:?}");
    }
    println!(
        "{copies} copies of {} bytes stored and returned",
        record.as_bytes().len()
    );
    assert_eq!(
        libtorrent.look_up(self::root(4).user().as_bytes(), None),
        None
    );
}

// --- processes -------------------------------------------------------------------------------------

/// A network of our own, and folders for everybody.
struct Scene {
    folder: tempfile::TempDir,
    entry: String,
    _network: Network,
}

impl Scene {
    async fn new() -> Self {
        let network = Network::new(|_| {}).await;
        Self {
            folder: tempfile::tempdir().unwrap(),
            entry: network.entries()[0].to_string(),
            _network: network,
        }
    }

    fn supernode(&self, name: &str) -> (Running, String) {
        let arguments = ["supernode", "--listen", "127.0.0.1:0", "--print-link"];
        let running = start(&self.folder.path().join(name), arguments);
        let link = running.first_line();
        (running, link)
    }

    /// Bob answers at a supernode, and his record is out.
    fn bob(&self, node: &str) -> (Running, String) {
        let arguments = [
            "answer",
            "--via",
            node,
            "--auto",
            "--no-lan",
            "--dht-bootstrap",
            &self.entry,
        ];
        let home = self.folder.path().join("bob");
        let bob = start_with(&home, "ahoy=info,ahoy_nat=debug", arguments);
        let link = bob.first_line();
        bob.wait_stderr("record published");
        (bob, link)
    }

    /// Alice, who has no supernode, calls by `link`.
    fn call(&self, link: &str, options: &[&str]) -> ahoy_tests::process::Finished {
        let arguments = ["call", link, "--for", "2", "--json", "--no-lan"].into_iter();
        let home = self.folder.path().join("alice");
        run(&home, arguments.chain(options.iter().copied()))
    }

    fn call_by_dht(&self, link: &str) -> Value {
        let report = self
            .call(link, &["--dht-bootstrap", &self.entry])
            .expect_code(0)
            .json();
        println!("{:#}", report["setup"]);
        assert_eq!(report["outcome"], "completed", "{report:#}");
        report
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_by_name_alone_and_by_a_link_of_old_homes() {
    let scene = Scene::new().await;
    let (old_node, node) = scene.supernode("node");
    let (bob, link) = scene.bob(&node);
    let name = link.split('?').next().unwrap();
    // No home, no --via, nothing known.
    let report = scene.call_by_dht(name);
    assert_eq!(report["setup"]["found_by"], "dht");
    assert!(report["setup"]["lookup_ms"].as_f64() < Some(5000.0));
    // Found again by what was kept, with no table.
    let report = scene.call(name, &[]).expect_code(0).json();
    assert_eq!(report["setup"]["found_by"], "record", "{report:#}");
    // Bob moves; the link that he gave away names his old home, and Alice has his old record.
    bob.interrupt();
    let _over = bob.finish();
    let (_second, second) = scene.supernode("second");
    let (_bob, new_link) = scene.bob(&second);
    assert_ne!(link, new_link);
    // The old supernode still runs: it has him too, once he has gone back to it for want of three homes, and tells before;
    // Alice knows nothing but the link.
    let forget = || std::fs::remove_dir_all(scene.folder.path().join("alice")).unwrap();
    forget();
    let report = scene.call(&link, &["--no-dht"]).expect_code(0).json();
    let found_by = report["setup"]["found_by"].as_str().unwrap();
    assert!(["home", "directory"].contains(&found_by), "{report:#}");
    // It is gone, so the table alone can tell.
    drop(old_node);
    forget();
    let report = scene.call_by_dht(&link);
    assert_eq!(report["setup"]["found_by"], "dht");
    forget();
    let failed = scene.call(&link, &["--no-dht"]);
    assert_ne!(failed.code, Some(0), "{}", failed.stdout);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn supernodes_are_a_network_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let node = |name: &str, more: &[&str]| {
        let arguments = [
            "supernode",
            "--listen",
            "127.0.0.1:0",
            "--dht",
            "127.0.0.1:0",
        ];
        let running = start(&folder.path().join(name), arguments.iter().chain(more));
        let line = running.wait_stderr("a node of the DHT at ");
        let entry = line.rsplit(' ').next().unwrap().to_owned();
        (running, entry)
    };
    let (first, entry) = node("first", &[]);
    let (_second, _) = node("second", &["--dht-bootstrap", &entry]);
    let dht = Mainline::new(runtime(), vec![entry.parse().unwrap()]);
    let (root, record) = (root(6), record(&root(6), 1));
    put(&dht, &record, &root, None).await;
    let fresh = dht.open().await.unwrap();
    let places = places_to_get(root.user(), None, runtime().unix_millis());
    assert_eq!(readable(&*runtime(), &*fresh, &record, &places).await, 4);
    first.interrupt();
    first
        .finish()
        .expect_code(0)
        .expect_stderr("refused 0 records");
    let lost = ["supernode", "--dht-bootstrap", "127.0.0.1:9"];
    run(&folder.path().join("third"), lost)
        .expect_code(2)
        .expect_stderr("--dht ADDR:PORT");
}
