//! Somebody has nodes of their own at every copy of a person's record that everybody can compute, and hides it there, or serves the
//! one from before. Who is found all the same, and what finds them. Virtual time, shipped engine and supernodes, a table of many
//! nodes of our own making.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::{sync::Arc, time::Duration};

use ahoy::{
    engine::{
        book::AddressBook,
        config::EngineConfig,
        handle::{Command, Event},
    },
    identity::Identity,
    report::{FoundBy, Outcome, Report},
};
use ahoy_nat::discovery::dht::{Dht, places_to_get, publisher::PublishEvent};
use ahoy_tests::{
    keyspace::{Keyspace, Siege, Target},
    people::{Home, Phone, Stage},
    threat,
};
use ahoy_transport::{identity::NodeAddress, runtime::Runtime as _};

const SEED: u64 = 0x0057_b115;
const HOMES: [[u8; 4]; 3] = [[203, 0, 113, 1], [192, 0, 2, 2], [198, 18, 0, 3]];
const ALICE: [u8; 4] = [198, 51, 100, 1];
const BOB: [u8; 4] = [198, 51, 100, 2];
const NODES: usize = 300;
const CAPABILITY: [u8; 32] = [7; 32];

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What of the defences is there.
#[derive(Debug, Clone, Copy)]
struct Defences {
    /// Alice is a contact: she knows the salts of copies that nobody else can compute.
    contact: bool,
    /// Supernodes keep records, too.
    directory: bool,
}

struct Outcomes {
    report: Report,
    /// Copies that can be computed by everybody, and those of them where all nodes are the attacker's.
    open: (usize, usize),
    /// The same of those for contacts.
    hidden: (usize, usize),
    /// Where Alice believes that Bob is.
    believed: Vec<NodeAddress>,
    /// Where he was before.
    old: NodeAddress,
}

fn published(event: &Event) -> Option<PublishEvent> {
    if let Event::Record(event) = event {
        Some(event.clone())
    } else {
        None
    }
}

/// Bob is at the second home and tells so; with [`Siege::Freeze`] he was at the first one before. The attacker comes before
/// he tells it, and after he told the first. Then Alice, who knows nothing but his name, calls him.
fn attack(seed: u64, siege: Siege, defences: Defences) -> Outcomes {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::new(seed, folder.path());
    let clock = stage.world.runtime(stage.director);
    let table = Keyspace::new(clock.clone(), NODES, seed);
    let playing = async {
        let mut homes: Vec<Home> = Vec::new();
        for (n, ip) in HOMES.into_iter().enumerate() {
            homes.push(stage.home(&format!("home {n}"), ip).await);
        }
        let finding = |config: &mut EngineConfig| {
            config.finding.dht = Some(Arc::new(table.clone()) as Arc<dyn Dht>);
            config.finding.supernodes = defences.directory;
        };
        let know = |phone: &Phone| {
            let book: &dyn AddressBook = phone.book.as_ref();
            book.keep_nodes(&[homes[2].address.clone()], 0);
        };
        let (alices, bobs): (Identity, Identity) = (stage.identity(), stage.identity());
        let alice = stage.phone("Alice", ALICE, &alices, &[&homes[2]], finding);
        let first = usize::from(siege == Siege::Hide);
        let mut bob = stage.phone("Bob", BOB, &bobs, &[&homes[first]], finding);
        alice.befriend(&bob);
        bob.book.set_own_capability(CAPABILITY);
        if defences.contact {
            alice.book.set_capability_of(bob.user, CAPABILITY);
        }
        [&alice, &bob].into_iter().for_each(know);
        alice.ready().await;
        bob.ready().await;

        let targets = |capability: Option<&[u8; 32]>| -> Vec<Target> {
            let places = places_to_get(bob.user, capability, clock.unix_millis());
            places.iter().map(|place| place.target(bob.user)).collect()
        };
        let open = targets(None);
        let mut hidden = targets(Some(&CAPABILITY));
        hidden.retain(|target| !open.contains(target));
        if siege == Siege::Freeze {
            bob.wait("a record", secs(60), published).await;
            table.besiege(&open, siege);
            stage.switch_off(&bob);
            stage.kill(&homes[0]);
            stage.pass(secs(60)).await;
            bob = stage.switch_on_with(&bob, &bobs, &[&homes[1]], finding);
            bob.ready().await;
        } else {
            table.besiege(&open, siege);
        }
        bob.wait("a record", secs(60), published).await;
        alice.tell(Command::Call(format!("ahoy:{}", bob.user)));
        let (rings, ends) = (bob.rings(), alice.ends(secs(60)));
        let report = tokio::select! {
            _at = rings => {
                bob.tell(Command::Accept);
                alice.hears().await;
                alice.tell(Command::HangUp);
                alice.ends(secs(5)).await.report
            }
            ending = ends => ending.report,
        };
        let record = AddressBook::known_record(alice.book.as_ref(), bob.user);
        Outcomes {
            believed: record.map_or_else(Vec::new, |record| record.fields().homes.clone()),
            old: homes[0].address.clone(),
            report,
            open: (open.len(), table.besieged(&open)),
            hidden: (hidden.len(), table.besieged(&hidden)),
        }
    };
    stage.world.block_on(stage.director, playing).unwrap()
}

const SIEGES: [Siege; 2] = [Siege::Hide, Siege::Freeze];

#[test]
fn with_sybils_on_every_copy_a_contact_finds_by_a_secret_salt() {
    for siege in SIEGES {
        let defences = Defences {
            contact: true,
            directory: false,
        };
        let Outcomes {
            report,
            open,
            hidden,
            ..
        } = attack(SEED, siege, defences);
        eprintln!("{siege:?}: {open:?} {hidden:?} {:?}", report.setup);
        assert_eq!(open, (4, 4), "the siege is complete");
        assert_eq!(hidden.1, 0, "nobody can compute where these are");
        assert_eq!(report.outcome, Outcome::Completed, "{report:#?}");
        assert_eq!(report.setup.found_by, Some(FoundBy::Dht));
        assert!(report.setup.lookup_ms.unwrap() < 2000.0);
    }
    threat(
        9,
        "Sybils on 4 of 4 public copies, hiding or freezing: a contact finds by 2 secret ones",
    );
}

#[test]
fn with_sybils_on_every_copy_a_stranger_finds_by_supernodes() {
    for siege in SIEGES {
        let defences = Defences {
            contact: false,
            directory: true,
        };
        let Outcomes { report, open, .. } = attack(SEED + 1, siege, defences);
        eprintln!("{siege:?}: {open:?} {:?}", report.setup);
        assert_eq!(open, (4, 4), "the siege is complete");
        assert_eq!(report.outcome, Outcome::Completed, "{report:#?}");
        assert_eq!(report.setup.found_by, Some(FoundBy::Directory));
        assert!(report.setup.lookup_ms.unwrap() < 2000.0);
    }
    threat(
        9,
        "Sybils on 4 of 4 public copies, hiding or freezing: a stranger finds by supernodes",
    );
}

#[test]
fn without_secret_salts_and_supernodes_sybils_hide_whoever_they_like() {
    for siege in SIEGES {
        let defences = Defences {
            contact: false,
            directory: false,
        };
        let Outcomes {
            report,
            open,
            believed,
            old,
            ..
        } = attack(SEED + 2, siege, defences);
        assert_eq!(open, (4, 4), "the siege is complete");
        assert_eq!(report.outcome, Outcome::Unreachable, "{report:#?}");
        // Hidden, nobody tells; frozen, the record from before leads to where nobody is.
        match siege {
            Siege::Hide => assert!(believed.is_empty(), "{believed:?}"),
            Siege::Freeze => assert_eq!(believed, [old]),
        }
    }
}
