//! What networks do in the middle of a call, done to real ones: the longest silence that either side hears.
//!
//! Silence is measured by what both reports say, so whatever the machine itself is late with counts as well: a call
//! that nothing happens to is the control.

#![expect(clippy::print_stdout, reason = "a test tells what it saw")]

#[cfg(target_os = "linux")]
mod faults {
    use std::{cell::RefCell, thread, time::Duration};

    use ahoy_tests::lab::{
        Lab, Nat, Site,
        runner::now,
        talk::{Supernode, Talk, Talked, Talking},
    };

    /// From the first sound until it happens: all paths that can come are up by then.
    const BEFORE: Duration = Duration::from_secs(4);
    /// How long a call lasts.
    const SECONDS: u32 = 12;

    /// The direct way ends; the relayed one is warm.
    const CUT_LIMIT: Duration = Duration::from_millis(300);
    /// A router starts anew, or the machine is somewhere else, or a home is gone.
    const CHANGE_LIMIT: Duration = Duration::from_secs(1);
    /// Both sides are somewhere else at the same moment, and nobody can tell the other but through the homes.
    const BOTH_LIMIT: Duration = Duration::from_secs(3);
    /// No network at all.
    const OUTAGE: Duration = Duration::from_secs(20);
    /// From its end to the first sound.
    const RESUME_LIMIT: Duration = Duration::from_secs(5);

    struct Scene {
        lab: Lab,
        folder: tempfile::TempDir,
        supernode: RefCell<Option<Supernode>>,
        link: String,
        alice: Site,
        bob: Site,
    }

    impl Scene {
        fn new(alice: Nat, bob: Nat) -> Self {
            let lab = Lab::new();
            let folder = tempfile::tempdir().expect("a temporary folder can be made");
            let supernode = Supernode::start(&lab, folder.path());
            Self {
                alice: lab.site("alice", alice),
                bob: lab.site("bob", bob),
                lab,
                folder,
                link: supernode.link.clone(),
                supernode: RefCell::new(Some(supernode)),
            }
        }

        /// A call to which `fault` happens, after [`BEFORE`] of talk.
        fn call(&self, seconds: u32, options: &[&str], fault: impl FnOnce(&Talking)) -> Talked {
            let callee: Vec<&str> = ["--auto"].iter().chain(options).copied().collect();
            let talk = Talk {
                seconds,
                caller: options,
                callee: &callee,
                ..Talk::new(
                    self.folder.path(),
                    "call",
                    &self.alice.host,
                    &self.bob.host,
                    &self.link,
                )
            };
            let talking = talk.begin();
            talking.alice.wait_stderr("sound from the other side");
            thread::sleep(BEFORE);
            fault(&talking);
            let talked = talking.end();
            println!("    {talked}");
            for (side, report) in [("alice", &talked.caller), ("bob", &talked.callee)] {
                println!("    {side} switched: {}", report["network"]["switches"]);
            }
            assert!(talked.completed(), "{talked}\n{}", talked.said);
            talked
        }
    }

    #[track_caller]
    fn within(talked: &Talked, limit: Duration) {
        for (side, gap) in ["caller", "callee"].into_iter().zip(talked.gaps()) {
            assert!(
                gap < limit,
                "the {side} heard nothing for {gap:?}; {limit:?} are allowed\n{}",
                talked.said
            );
        }
    }

    /// The control: what this machine does to a call by itself.
    pub(crate) fn nothing_happens() {
        let scene = Scene::new(Nat::Port, Nat::Port);
        let talked = scene.call(SECONDS, &[], |_| {});
        assert_eq!(talked.paths(), ["direct", "direct"], "{talked}");
        within(&talked, CUT_LIMIT);
    }

    pub(crate) fn the_direct_path_is_cut() {
        let scene = Scene::new(Nat::Port, Nat::Port);
        let talked = scene.call(SECONDS, &[], |_| {
            scene.alice.gateways[0].cut(scene.bob.gateways[0].ip());
        });
        let switched = talked.caller["network"]["switches"].to_string();
        assert!(
            switched.contains("direct"),
            "it was never direct: {switched}"
        );
        assert_eq!(talked.paths(), ["relay", "relay"], "{talked}");
        within(&talked, CUT_LIMIT);
    }

    fn router_starts_anew(nat: Nat) {
        let scene = Scene::new(nat, Nat::Full);
        let talked = scene.call(SECONDS, &[], |_| scene.alice.gateways[0].forget());
        within(&talked, CHANGE_LIMIT);
    }

    pub(crate) fn a_router_that_keeps_ports_starts_anew() {
        router_starts_anew(Nat::Port);
    }

    pub(crate) fn a_router_that_draws_ports_starts_anew() {
        router_starts_anew(Nat::Symmetric);
    }

    pub(crate) fn a_machine_moves_to_another_network() {
        let scene = Scene::new(Nat::Port, Nat::Port);
        let elsewhere = scene.lab.site("elsewhere", Nat::Port);
        let talked = scene.call(SECONDS, &[], |_| {
            scene.lab.replug(&scene.alice.host, &elsewhere)
        });
        within(&talked, CHANGE_LIMIT);
    }

    pub(crate) fn both_machines_move_at_once() {
        let scene = Scene::new(Nat::Port, Nat::Port);
        let places = ["here", "there"].map(|name| scene.lab.site(name, Nat::Port));
        let talked = scene.call(SECONDS, &[], |_| {
            scene.lab.replug(&scene.alice.host, &places[0]);
            scene.lab.replug(&scene.bob.host, &places[1]);
        });
        within(&talked, BOTH_LIMIT);
    }

    pub(crate) fn the_home_that_relays_is_killed() {
        let scene = Scene::new(Nat::Port, Nat::Port);
        let other = scene.lab.other.clone();
        let second = Supernode::start_at(&other, &other.ip().to_string(), scene.folder.path());
        let options = ["--path", "relay", "--via", &second.link];
        let talked = scene.call(SECONDS, &options, |_| {
            let first = scene.supernode.take().expect("it runs until now");
            first.running.kill();
        });
        within(&talked, CHANGE_LIMIT);
    }

    pub(crate) fn twenty_seconds_without_any_network() {
        let scene = Scene::new(Nat::Port, Nat::Port);
        let seconds = SECONDS + 40;
        let mut out = Duration::ZERO;
        let talked = scene.call(seconds, &[], |_| {
            let begun = now();
            scene.lab.plug(&scene.alice.host, false);
            thread::sleep(OUTAGE);
            scene.lab.plug(&scene.alice.host, true);
            out = begun.elapsed();
        });
        within(&talked, out + RESUME_LIMIT);
    }
}

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    use ahoy_tests::lab::runner::{Test, main};
    use faults as f;
    main(&[
        Test::slow("nothing_happens", f::nothing_happens),
        Test::slow("the_direct_path_is_cut", f::the_direct_path_is_cut),
        Test::slow(
            "a_router_that_keeps_ports_starts_anew",
            f::a_router_that_keeps_ports_starts_anew,
        ),
        Test::slow(
            "a_router_that_draws_ports_starts_anew",
            f::a_router_that_draws_ports_starts_anew,
        ),
        Test::slow(
            "a_machine_moves_to_another_network",
            f::a_machine_moves_to_another_network,
        ),
        Test::slow("both_machines_move_at_once", f::both_machines_move_at_once),
        Test::slow(
            "the_home_that_relays_is_killed",
            f::the_home_that_relays_is_killed,
        ),
        Test::slow(
            "twenty_seconds_without_any_network",
            f::twenty_seconds_without_any_network,
        ),
    ])
}

#[cfg(not(target_os = "linux"))]
fn main() {}
