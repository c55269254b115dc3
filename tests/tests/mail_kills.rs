//! A supernode that is killed while it takes letters: whoever was told that a letter waits can rely on it. The program is a
//! process of its own, killed as by `kill -9`; who leaves and who fetches speak the protocol themselves, so that no copy of
//! theirs hides a loss.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
};

use ahoy::link::NodeLink;
use ahoy_nat::{client::NodeClient, supernode::mailbox::MailCapability};
use ahoy_tests::{
    device::Device,
    process::{Running, start},
};
use ahoy_transport::{
    endpoint::NodeAuth,
    identity::{DeviceId, NodeAddress, UserId},
    runtime::{Runtime, TokioRuntime},
};
use rand_chacha::{
    ChaCha20Rng,
    rand_core::{RngCore, SeedableRng},
};
use tokio::{sync::Notify, task::JoinSet};

const SEED: u64 = 0x006d_0003;
/// Who leave letters at once.
const WRITERS: u32 = 4;
/// Acknowledged letters after which the supernode is killed, at most.
const MOST: usize = 40;

struct World {
    folder: tempfile::TempDir,
    runtime: Arc<dyn Runtime>,
    reader: Arc<Device>,
    mail: MailCapability,
    node: NodeAddress,
    at: SocketAddr,
    /// Further settings.
    settings: &'static str,
}

impl World {
    fn new(settings: &'static str) -> (Self, Running) {
        let folder = tempfile::tempdir().unwrap();
        let first = serve(folder.path(), "127.0.0.1:0".parse().unwrap(), settings);
        let NodeLink(node) = first.first_line().parse().unwrap();
        let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime);
        let world = Self {
            folder,
            reader: Device::new(Arc::clone(&runtime)),
            mail: MailCapability::generate(&mut ChaCha20Rng::seed_from_u64(SEED)),
            at: node.socket_addr().unwrap(),
            node,
            settings,
            runtime,
        };
        (world, first)
    }

    fn serve(&self) -> Running {
        let running = serve(self.folder.path(), self.at, self.settings);
        let NodeLink(node) = running.first_line().parse().unwrap();
        assert_eq!(node, self.node);
        running
    }

    fn owner(&self) -> (UserId, DeviceId) {
        let identity = &self.reader.identity;
        (identity.user(), identity.device().id())
    }

    /// The reader comes, and has a box from then on.
    async fn reader(&self) -> NodeClient {
        let auth = self.reader.auth();
        let client = self.reader.dial(self.node.node, self.at, auth).await;
        let client = client.unwrap();
        client.register(self.reader.registration(1)).await.unwrap();
        let key = self.mail.at(self.node.node);
        client.keep_box(key).await.unwrap();
        client
    }

    /// All that waits, and how often; it is taken out.
    async fn fetched(&self) -> BTreeMap<Vec<u8>, u32> {
        let client = self.reader().await;
        let mut fetched: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
        loop {
            let letters = client.fetch().await.unwrap();
            if letters.is_empty() {
                break;
            }
            let ids = letters.iter().map(|letter| letter.id).collect();
            for letter in letters {
                *fetched.entry(letter.envelope).or_default() += 1;
            }
            client.acknowledge(ids).await.unwrap();
        }
        client.close();
        fetched
    }

    /// Letters are left until `kill` of them are acknowledged and the supernode is killed. Gives back the acknowledged ones.
    async fn leave_and_kill(&self, running: Running, kill: usize, round: u32) -> Vec<Vec<u8>> {
        let (told, enough) = (
            Arc::<Mutex<Vec<Vec<u8>>>>::default(),
            Arc::new(Notify::new()),
        );
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let device = Device::new(Arc::clone(&self.runtime));
            let (node, at, owner) = (self.node.node, self.at, self.owner());
            let key = self.mail.at(node);
            let (told, enough) = (Arc::clone(&told), Arc::clone(&enough));
            writers.spawn(async move {
                let mut rng = ChaCha20Rng::seed_from_u64(u64::from((round << 8) | writer));
                let client = device.dial(node, at, NodeAuth::Anonymous).await.unwrap();
                for n in 0..u32::MAX {
                    let mut envelope = vec![0; 200 + rng.next_u32() as usize % 2000];
                    rng.fill_bytes(&mut envelope);
                    envelope[..4].copy_from_slice(&n.to_be_bytes());
                    let mark = Some(key.mark(owner, &envelope));
                    if client.leave(owner, mark, envelope.clone()).await.is_err() {
                        return;
                    }
                    let mut told = told.lock().unwrap();
                    told.push(envelope);
                    if told.len() >= kill {
                        enough.notify_one();
                    }
                }
            });
        }
        enough.notified().await;
        running.kill();
        writers.shutdown().await;
        let told = told.lock().unwrap();
        told.clone()
    }
}

fn serve(home: &Path, at: SocketAddr, settings: &str) -> Running {
    let config = home.join("settings-of-the-node.toml");
    let rates = "[limits]\nrequests_per_second = 10000\nrequest_burst = 10000\n";
    std::fs::write(&config, format!("{settings}\n{rates}")).unwrap();
    let (config, at) = (config.to_string_lossy(), at.to_string());
    let arguments = [
        "supernode",
        "--listen",
        &at,
        "--print-link",
        "--config",
        &config,
    ];
    start(home, arguments)
}

/// Plays so many kills. How many letters were acknowledged and are lost, of how many.
fn kills(rounds: u32, settings: &'static str) -> (usize, usize) {
    eprintln!("seed {SEED:#x}");
    let playing = async {
        let (world, mut running) = World::new(settings);
        let mut rng = ChaCha20Rng::seed_from_u64(SEED);
        world.reader().await.close();
        let (mut lost, mut all) = (0, 0);
        for round in 0..rounds {
            let kill = 1 + rng.next_u32() as usize % MOST;
            let acknowledged = world.leave_and_kill(running, kill, round).await;
            running = world.serve();
            let fetched = world.fetched().await;
            let twice = fetched.values().filter(|times| **times > 1);
            assert_eq!(twice.count(), 0, "round {round}");
            let missing = acknowledged.iter();
            let missing = missing.filter(|letter| !fetched.contains_key(*letter));
            lost += missing.count();
            all += acknowledged.len();
        }
        // What was fetched is not there again, whatever happens then.
        running.kill();
        let _again = world.serve();
        assert_eq!(world.fetched().await.len(), 0);
        (lost, all)
    };
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build().unwrap().block_on(playing)
}

#[test]
fn a_letter_that_was_said_to_wait_outlives_a_kill() {
    let (lost, all) = kills(12, "");
    eprintln!("{lost} of {all} acknowledged letters lost in 12 kills");
    assert!(all > 100, "{all}");
    assert_eq!(lost, 0);
}

#[test]
fn without_waiting_for_the_disk_a_kill_costs_letters() {
    let (lost, all) = kills(3, "wait_for_disk = false");
    eprintln!("{lost} of {all} acknowledged letters lost in 3 kills");
    assert!(lost > 0);
}

#[test]
fn a_damaged_file_of_letters_is_set_aside_and_the_supernode_serves_on() {
    let playing = async {
        let (world, running) = World::new("");
        let first = world.reader().await;
        first.close();
        let left = world.leave_and_kill(running, 5, 0).await;
        assert!(left.len() >= 5);
        let home = world.folder.path();
        let path = home.join("mail.redb");
        let len = std::fs::metadata(&path).unwrap().len();
        std::fs::write(&path, vec![0x55; usize::try_from(len).unwrap()]).unwrap();
        let running = world.serve();
        running.wait_stderr("what waited here was damaged and is kept as");
        assert!(world.fetched().await.is_empty());
        let again = world.leave_and_kill(running, 5, 1).await;
        let _running = world.serve();
        let fetched = world.fetched().await;
        assert!(again.iter().all(|letter| fetched.contains_key(letter)));
        let names = std::fs::read_dir(home).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name());
        let aside = names.filter(|name| name.to_string_lossy().contains("mail.redb.damaged-"));
        assert_eq!(aside.count(), 1);
    };
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build().unwrap().block_on(playing);
}
