//! An app that stays open for weeks: its certificate and its seal key are renewed while it runs.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use ahoy::{
    call::{Ending, Unreachable},
    identity::Identity,
    sim::EPOCH_MILLIS,
};
use ahoy_tests::{
    pair::{ALICE, BOB, HOME},
    people::Stage,
};
use ahoy_transport::{
    identity::{SEAL_KEY_RECORD_LIFETIME_MILLIS, SEAL_KEY_ROTATION_MILLIS},
    runtime::{Runtime, RuntimeExt},
};
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};

const SEED: u64 = 0x0e4e_3a15;
const HALF_AN_HOUR: Duration = Duration::from_secs(1800);

/// Bob's app was started half an hour before his seal key reaches `age_millis`, and is called an hour after that.
/// How does the call end, and how often were his keys saved?
fn call_when_the_keys_are_older_than(age_millis: u64, renewed: bool) -> (Ending, u32) {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::new(SEED, folder.path());
    stage
        .world
        .block_on(stage.director, async {
            let home = stage.home("home", HOME).await;
            let born = EPOCH_MILLIS - age_millis + 1_800_000;
            let old = Identity::create(&mut ChaCha20Rng::from_seed([5; 32]), born);
            let alice = stage.phone("alice", ALICE, &stage.identity(), &[&home], |_config| {});
            let bob = stage.phone("bob", BOB, &old, &[&home], |_config| {});
            alice.befriend(&bob);
            bob.befriend(&alice);
            let saved = Arc::new(AtomicU32::new(0));
            let runtime: Arc<dyn Runtime> = stage.world.runtime(bob.node);
            let saves = Arc::clone(&saved);
            let renewal = renewed.then(|| {
                let keeping = bob.engine.renewer().keep_fresh(
                    Arc::clone(&runtime),
                    old.clone(),
                    bob.name.clone(),
                    move |_identity| {
                        saves.fetch_add(1, Ordering::Relaxed);
                        Ok::<_, Infallible>(())
                    },
                );
                runtime.spawn_task(keeping)
            });
            alice.ready().await;
            bob.ready().await;
            stage.pass(3 * HALF_AN_HOUR).await;
            alice.call(&bob);
            if renewed {
                bob.rings().await;
                bob.tell(ahoy::engine::handle::Command::Accept);
                alice.hears().await;
                alice.tell(ahoy::engine::handle::Command::HangUp);
            }
            let ended = alice.ends(Duration::from_secs(60)).await;
            drop(renewal);
            (ended.ending, saved.load(Ordering::Relaxed))
        })
        .unwrap()
}

#[test]
fn keys_that_are_due_while_the_app_runs_are_renewed_and_saved_once() {
    for age in [SEAL_KEY_ROTATION_MILLIS, SEAL_KEY_RECORD_LIFETIME_MILLIS] {
        let (ending, saved) = call_when_the_keys_are_older_than(age, true);
        assert!(matches!(ending, Ending::Completed { .. }), "{ending:?}");
        assert_eq!(saved, 1);
    }
}

#[test]
fn without_renewal_nobody_can_call_any_more() {
    let (ending, _saved) =
        call_when_the_keys_are_older_than(SEAL_KEY_RECORD_LIFETIME_MILLIS, false);
    assert_eq!(ending, Ending::Unreachable(Unreachable::Offline));
}
