//! Anybody's machine serves others while it runs: a telephone becomes a supernode, two people call through it, and when its
//! owner stops it in the middle of their call they move and talk on. Virtual time, shipped engine and supernode.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic and tell its figures, and so may its helpers"
)]

use std::{net::SocketAddr, time::Duration};

use ahoy::{
    engine::{
        config::{Finding, PathPolicy},
        handle::{Command, Event},
        lending::{LendSettings, LendingState, LendingView},
    },
    link::NodeLink,
    report::{Outcome, PathKind},
    sim::{Fault, NatKind},
};
use ahoy_nat::supernode::promotion::PromotionPolicy;
use ahoy_tests::{
    pair::{audio, kinds, secs},
    people::{Home, Phone, Stage},
};
use ahoy_transport::identity::NodeKeys;

const SEED: u64 = 0x0008_3001;
const HOMES: [[u8; 4]; 4] = [
    [203, 0, 113, 1],
    [192, 0, 2, 2],
    [11, 22, 0, 3],
    [45, 33, 0, 4],
];
const EVA: [u8; 4] = [5, 9, 100, 5];
const ALICE: [u8; 4] = [198, 51, 100, 1];
const BOB: [u8; 4] = [198, 51, 100, 2];
const LENT_PORT: u16 = 4433;

fn lend(on: bool) -> LendSettings {
    LendSettings {
        on,
        ..LendSettings::new(
            NodeKeys::from_seed(&[0x1e; 32]),
            SocketAddr::from(([0, 0, 0, 0], LENT_PORT)),
        )
    }
}

fn finding() -> Finding {
    Finding {
        supernodes: true,
        gossip: true,
        ..Finding::default()
    }
}

/// Eva with two homes in different networks, who may lend her machine.
async fn eva(stage: &Stage, homes: &[&Home], adjust: impl FnOnce(&mut LendSettings)) -> Phone {
    let identity = stage.identity();
    let eva = stage.phone("Eva", EVA, &identity, homes, |config| {
        config.finding = finding();
        let mut settings = lend(false);
        adjust(&mut settings);
        config.lend = Some(settings);
    });
    eva.ready().await;
    eva
}

fn lending(phone: &Phone) -> LendingView {
    phone.engine.view().borrow().lending.clone()
}

/// Waits until lending stands like this.
async fn stands(phone: &Phone, state: LendingState, limit: Duration) -> Duration {
    let is_so =
        |event: &Event| matches!(event, Event::Lending(view) if view.state == state).then_some(());
    let what = format!("lending as {state:?}");
    phone.wait(&what, limit, is_so).await.0
}

fn play<T>(seed: u64, play: impl AsyncFnOnce(&Stage) -> T) -> T {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::new(seed, folder.path());
    let director = stage.director;
    stage.world.block_on(director, play(&stage)).unwrap()
}

/// A machine that is lent is a home of two others like any other, and a link leads to it.
fn lent_home(stage: &Stage, eva: &Phone) -> Home {
    let link: NodeLink = lending(eva).link.unwrap().parse().unwrap();
    stage.known_home(eva.node, link.0)
}

#[test]
fn any_machine_becomes_a_supernode_and_whoever_uses_it_moves_when_it_stops() {
    play(SEED, async |stage| {
        let first = stage.home("first", HOMES[0]).await;
        let second = stage.home("second", HOMES[1]).await;
        let third = stage.home("third", HOMES[2]).await;
        let eva = eva(stage, &[&first, &second, &third], |_settings| {}).await;
        assert_eq!(lending(&eva).state, LendingState::Off);
        assert_eq!(first.status().rendezvous.supernodes, 0);
        eva.tell(Command::Lend(true));
        let began = stage.now();
        let lends = stands(&eva, LendingState::Lending, secs(60)).await;
        println!("lends after {:?}", lends - began);
        let proofs = lending(&eva).proofs;
        assert_eq!(proofs.0, 3, "as many networks have reached it: {proofs:?}");
        // Others hear of it from those that met it.
        stage.pass(secs(30)).await;
        for home in [&first, &second, &third] {
            let known = home.status().rendezvous.supernodes;
            assert!(known >= 1, "before, nobody knew of anybody");
        }
        let lent = lent_home(stage, &eva);
        let phone = |name, ip, homes: &[&Home]| {
            let identity = stage.identity();
            stage.phone(name, ip, &identity, homes, |config| {
                config.path = PathPolicy::Relay;
            })
        };
        let alice = phone("Alice", ALICE, &[&lent, &first]);
        let bob = phone("Bob", BOB, &[&lent, &second]);
        alice.befriend(&bob);
        alice.ready().await;
        bob.ready().await;
        stage.pass(secs(3)).await;
        alice.call(&bob);
        bob.rings().await;
        bob.tell(Command::Accept);
        alice.hears().await;
        bob.hears().await;
        stage.pass(secs(10)).await;
        let while_lent = lending(&eva);
        println!("{while_lent:?}");
        assert_eq!((while_lent.people, while_lent.helped), (2, 2));
        assert!(while_lent.calls >= 2 && while_lent.relayed_bytes > 50_000);
        assert!(while_lent.since_millis.is_some());
        // She stops in the middle of their call.
        eva.tell(Command::Lend(false));
        let told = stage.now();
        let off = stands(&eva, LendingState::Off, secs(61)).await;
        println!("off after {:?}", off - told);
        assert!(
            off - told < secs(10),
            "they moved, so nobody waits for them"
        );
        stage.pass(secs(15)).await;
        alice.tell(Command::HangUp);
        for ended in [alice.ends(secs(5)).await, bob.ends(secs(5)).await] {
            assert_eq!(ended.report.outcome, Outcome::Completed);
            let audio = audio(&ended.report);
            println!(
                "paths {:?}, lost {:?} of {:?}, longest gap {:?} ms",
                kinds(&ended.report),
                audio.packets.lost,
                audio.packets.received,
                audio.longest_gap_ms
            );
            assert!(ended.report.duration_ms >= 25_000);
            assert!(audio.longest_gap_ms.unwrap() < 300, "nobody heard it");
            assert!(
                kinds(&ended.report)
                    .iter()
                    .all(|kind| *kind == PathKind::Relay)
            );
        }
        let after = lending(&eva);
        assert_eq!((after.helped, after.people, after.link), (2, 0, None));
        assert!(
            after.relayed_bytes > while_lent.relayed_bytes,
            "what it did is not forgotten"
        );
    });
}

/// What a machine that nobody reaches says of itself to others, with and without asking them first.
fn told_of_an_unreachable_machine(seed: u64, dial_back: bool) -> (LendingState, u64) {
    play(seed, async |stage| {
        let mut homes = Vec::new();
        for (n, ip) in HOMES.into_iter().enumerate() {
            homes.push(stage.home(&format!("home {n}"), ip).await);
        }
        let homes: Vec<&Home> = homes.iter().collect();
        // Its filter lets in only what comes from where it has sent to, and port for port.
        let site = stage.world.add_site("eva", NatKind::Port, 7);
        let identity = stage.identity();
        let eva = stage.phone_on(
            "Eva",
            site.node,
            site.address,
            &identity,
            &homes,
            |config| {
                config.finding = finding();
                config.lend = Some(LendSettings {
                    promotion: PromotionPolicy { dial_back },
                    ..lend(false)
                });
            },
        );
        eva.ready().await;
        stage.pass(secs(5)).await;
        eva.tell(Command::Lend(true));
        stage.pass(secs(120)).await;
        let state = lending(&eva).state;
        println!("dial-back {dial_back}: {:?}", lending(&eva));
        let heard = homes
            .iter()
            .map(|home| home.status().rendezvous.gossip.heard);
        (state, heard.sum())
    })
}

#[test]
fn a_machine_that_nobody_reaches_tells_nobody_of_itself() {
    assert_eq!(
        told_of_an_unreachable_machine(SEED + 1, true),
        (LendingState::Unreachable, 0)
    );
}

#[test]
fn without_dialling_back_it_believes_in_itself_and_tells_others() {
    let (state, heard) = told_of_an_unreachable_machine(SEED + 1, false);
    assert_eq!(state, LendingState::Lending);
    assert!(
        heard >= 1,
        "somebody was told of a machine that nobody reaches"
    );
}

#[test]
fn what_is_lent_is_bounded() {
    play(SEED + 3, async |stage| {
        let first = stage.home("first", HOMES[0]).await;
        let eva = eva(stage, &[&first], |settings| {
            settings.people = 1;
            settings.on = true;
        })
        .await;
        stands(&eva, LendingState::Lending, secs(60)).await;
        let lent = lent_home(stage, &eva);
        let phone = |name, ip| {
            let identity = stage.identity();
            stage.phone(name, ip, &identity, &[&lent], |_config| {})
        };
        let alice = phone("Alice", ALICE);
        alice.ready().await;
        let bob = phone("Bob", BOB);
        stage.pass(secs(20)).await;
        assert!(
            bob.engine.view().borrow().link.is_none(),
            "one person, no more"
        );
        assert_eq!(lending(&eva).people, 1);
        // The way out of her machine is cut: it is noticed, and nobody else is sent there.
        stage.world.apply(Fault::Partition {
            left: vec![first.node],
            right: vec![eva.node],
        });
        stage.pass(secs(5)).await;
        assert_eq!(
            lending(&eva).state,
            LendingState::Lending,
            "it may only blink"
        );
    });
}
