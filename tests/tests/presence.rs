//! Whether contacts can be reached: told to contacts alone, to nobody where it is switched off, and asked seldom. Virtual
//! time, shipped engine and supernode.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may its helpers"
)]

use ahoy::{
    engine::{
        book::AddressBook as _,
        config::EngineConfig,
        handle::Command,
        presence::{INTERVAL, LONGEST, Presence},
    },
    identity::Identity,
};
use ahoy_tests::{
    pair::{ALICE, BOB, HOME, SOON, never_rang, secs},
    people::{Home, Phone, Stage},
    threat,
};

const SEED: u64 = 0x7072_6573;

fn shows(config: &mut EngineConfig) {
    config.finding.presence = true;
}

fn play(seed: u64, play: impl AsyncFnOnce(&Stage, [&Home; 2])) {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::new(SEED + seed, folder.path());
    stage.world.set_limits(ahoy::sim::Limits {
        time: secs(4 * 3600),
        ..ahoy::sim::Limits::default()
    });
    let playing = async {
        let homes = [
            stage.home("hers", HOME).await,
            stage.home("his", [192, 0, 2, 2]).await,
        ];
        play(&stage, homes.each_ref()).await;
    };
    stage.world.block_on(stage.director, playing).unwrap();
}

struct Friends {
    alice: Phone,
    bob: Phone,
    bobs: Identity,
}

/// Alice and Bob, each at a home of their own, who have written to each other.
async fn friends(
    stage: &Stage,
    [hers, his]: [&Home; 2],
    alices: impl FnOnce(&mut EngineConfig),
    bobs: impl FnOnce(&mut EngineConfig),
) -> Friends {
    let (hers_is, his_is) = (stage.identity(), stage.identity());
    let alice = stage.phone("Alice", ALICE, &hers_is, &[hers], alices);
    let bob = stage.phone("Bob", BOB, &his_is, &[his], bobs);
    alice.befriend(&bob);
    for (phone, friend) in [(&alice, &bob), (&bob, &alice)] {
        let (user, blocked) = (friend.user, false);
        phone.tell(Command::PeopleChanged { user, blocked });
    }
    alice.ready().await;
    bob.ready().await;
    alice.write_to(&bob).await;
    bob.write_to(&alice).await;
    Friends {
        alice,
        bob,
        bobs: his_is,
    }
}

fn seen(phone: &Phone, other: &Phone) -> Presence {
    let view = phone.engine.view();
    let presences = view.borrow().presences.clone();
    presences.get(&other.user).copied().unwrap_or_default()
}

fn lookups(home: &Home) -> u64 {
    home.status().rendezvous.registry.lookups
}

#[test]
fn a_contact_is_seen_to_be_there_and_to_be_gone_while_the_window_is_looked_at() {
    play(1, async |stage, homes| {
        let Friends { alice, bob, bobs } = friends(stage, homes, shows, shows).await;
        let quiet = lookups(homes[1]);
        stage.pass(secs(1800)).await;
        assert_eq!(seen(&alice, &bob), Presence::Unknown, "nobody looks");
        assert_eq!(lookups(homes[1]), quiet, "and nobody is asked");

        alice.tell(Command::Look(true));
        stage.pass(SOON).await;
        assert_eq!(seen(&alice, &bob), Presence::Reachable);
        // She has shown that she is there, and was not asked.
        assert_eq!(seen(&bob, &alice), Presence::Reachable);
        assert!(never_rang(&bob));

        stage.switch_off(&bob);
        // His home has to notice that his connection is gone, too.
        stage.pass(2 * INTERVAL).await;
        assert_eq!(seen(&alice, &bob), Presence::Away);
        let bob = stage.switch_on_with(&bob, &bobs, &homes[1..], shows);
        bob.ready().await;
        stage.pass(INTERVAL).await;
        assert_eq!(seen(&alice, &bob), Presence::Reachable);

        // What it costs his home: a look-up every few minutes.
        let before = lookups(homes[1]);
        stage.pass(secs(3600)).await;
        let asked = lookups(homes[1]) - before;
        eprintln!("asked {asked} times in an hour");
        assert!((15..=20).contains(&asked), "{asked}");
        alice.tell(Command::Look(false));
        stage.pass(secs(3600)).await;
        assert_eq!(lookups(homes[1]), before + asked);
        assert_eq!(seen(&alice, &bob), Presence::Unknown, "that is long ago");
    });
}

#[test]
fn who_switches_it_off_neither_tells_nor_asks() {
    play(2, async |stage, homes| {
        let Friends { alice, bob, .. } = friends(stage, homes, shows, |_off| {}).await;
        alice.tell(Command::Look(true));
        bob.tell(Command::Look(true));
        let (hers, his) = (lookups(homes[0]), lookups(homes[1]));
        stage.pass(4 * LONGEST).await;
        assert_eq!(seen(&alice, &bob), Presence::Unknown, "he does not tell");
        assert_eq!(seen(&bob, &alice), Presence::Unknown, "nor see");
        assert_eq!(lookups(homes[0]), hers, "nor ask");
        let asked = lookups(homes[1]) - his;
        assert!((1..=8).contains(&asked), "less and less often: {asked}");
        // And his absence is not told either: it would tell his presence.
        stage.switch_off(&bob);
        stage.pass(2 * LONGEST).await;
        assert_eq!(seen(&alice, &bob), Presence::Unknown);
    });
}

#[test]
fn it_is_switched_off_and_on_while_it_runs() {
    play(3, async |stage, homes| {
        let Friends { alice, bob, .. } = friends(stage, homes, shows, shows).await;
        alice.tell(Command::Look(true));
        stage.pass(SOON).await;
        assert_eq!(seen(&alice, &bob), Presence::Reachable);
        bob.tell(Command::Presence(false));
        stage.pass(secs(1)).await;
        assert_eq!(seen(&bob, &alice), Presence::Unknown, "at once");
        stage.pass(2 * INTERVAL).await;
        assert_eq!(seen(&alice, &bob), Presence::Unknown);
        bob.tell(Command::Presence(true));
        stage.pass(2 * LONGEST).await;
        assert_eq!(seen(&alice, &bob), Presence::Reachable);
    });
}

#[test]
fn whoever_is_no_contact_hears_nothing() {
    play(4, async |stage, homes| {
        let Friends { alice, bob, .. } = friends(stage, homes, shows, shows).await;
        alice.tell(Command::Look(true));
        stage.pass(SOON).await;
        assert_eq!(seen(&alice, &bob), Presence::Reachable, "a contact does");
        // Bob forgets her; she still has his key and what he gave her.
        bob.tell(Command::People(ahoy::engine::people::PeopleChange::Remove(
            alice.user,
        )));
        stage.pass(secs(1)).await;
        assert!(!bob.book.is_contact(alice.user));
        let before = lookups(homes[1]);
        stage.pass(4 * LONGEST).await;
        assert_eq!(seen(&alice, &bob), Presence::Unknown);
        assert!(never_rang(&bob));
        let asked = lookups(homes[1]) - before;
        assert!(asked >= 4, "{asked}");
        threat(
            17,
            format_args!(
                "a contact's question is answered, {asked} of somebody who is none are not"
            ),
        );
    });
}

#[test]
fn whoever_shall_not_learn_our_address_is_not_asked() {
    play(5, async |stage, homes| {
        let Friends { alice, bob, .. } = friends(stage, homes, shows, shows).await;
        alice.tell(Command::People(
            ahoy::engine::people::PeopleChange::RelayOnly {
                user: bob.user,
                only: true,
            },
        ));
        let (wire, before) = (stage.wiretap(), lookups(homes[1]));
        alice.tell(Command::Look(true));
        stage.pass(LONGEST).await;
        assert_eq!(lookups(homes[1]), before);
        let home = std::net::IpAddr::from([192, 0, 2, 2]);
        let packets = wire.packets();
        let to_his = packets
            .iter()
            .filter(|packet| packet.from == alice.node && packet.dst.ip() == home);
        assert_eq!(to_his.count(), 0, "his home sees nothing of her");
    });
}
