//! What calls show to the network, on real kernels: whom they speak to, and how much of a router they take.

#![expect(clippy::print_stdout, reason = "a test tells what it saw")]

#[cfg(target_os = "linux")]
mod calls {
    use std::{collections::BTreeSet, net::IpAddr, path::Path};

    use ahoy_tests::{
        lab::{
            Lab, Nat, Site,
            capture::{Capture, Captured},
            runner::now,
            talk::{Supernode, Talk, Talked},
        },
        process::run,
    };

    /// Entries that one side of a call may take in a router's table, all in all: the supernodes, the other side's
    /// few addresses, and their families. Home routers of the smallest kind keep some 1000 entries, for 30 s
    /// and more each, and the whole house shares them: one call shall not take a fiftieth.
    const MAX_FLOWS: usize = 20;
    /// Packets a second that pass one side's router in both directions, at the worst moment. Voice is 50 each
    /// way, twice that while two ways carry it; checks come on top, 20 a second by RFC 8445 section 14 (`Ta`
    /// of 50 ms), and each connection's handshake and feedback. Cheap routers forward 20 000 and more.
    const MAX_PACKETS_PER_SECOND: usize = 500;

    struct World {
        lab: Lab,
        folder: tempfile::TempDir,
        supernode: Supernode,
    }

    impl World {
        fn new() -> Self {
            let lab = Lab::new();
            let folder = tempfile::tempdir().expect("a temporary folder can be made");
            let supernode = Supernode::start(&lab, folder.path());
            Self {
                lab,
                folder,
                supernode,
            }
        }

        fn sites(&self, nat: Nat) -> [Site; 2] {
            ["alice", "bob"].map(|name| self.lab.site(&format!("{name}-{nat}"), nat))
        }

        fn folder(&self) -> &Path {
            self.folder.path()
        }

        /// A call, and what both machines sent and received for it.
        fn watched(
            &self,
            [alice, bob]: &[Site; 2],
            name: &str,
            options: [&[&str]; 2],
        ) -> (Talked, [Captured; 2]) {
            let [of_alice, of_bob] = options;
            let captures = [alice, bob].map(|site| Capture::start(&site.host));
            let callee: Vec<&str> = ["--auto"].iter().chain(of_bob).copied().collect();
            let talk = Talk {
                caller: of_alice,
                callee: &callee,
                ..Talk::new(
                    self.folder(),
                    name,
                    &alice.host,
                    &bob.host,
                    &self.supernode.link,
                )
            };
            let talked = talk.run();
            assert!(talked.completed(), "{talked}\n{}", talked.said);
            (talked, captures.map(Capture::stop))
        }
    }

    /// Every address by which this site could be reached.
    fn addresses(site: &Site) -> Vec<IpAddr> {
        let mut ips = site.host.ips();
        if site.nat != Nat::None {
            ips.extend(site.gateways.iter().map(|gateway| IpAddr::V4(gateway.ip())));
        }
        ips
    }

    /// Packets between the machine and any address of the other side.
    fn shown(captured: &Captured, other: &Site) -> usize {
        captured.with(&addresses(other)).len()
    }

    pub(crate) fn relay_only_never_meets_an_address_of_the_other_side() {
        let world = World::new();
        let relay: &[&str] = &["--path", "relay"];
        let supernode: BTreeSet<IpAddr> = world.lab.node.ips().into_iter().collect();
        for nat in [Nat::None, Nat::Port] {
            let sites = world.sites(nat);
            for (name, options) in [("caller", [relay, &[]]), ("callee", [&[], relay])] {
                let name = format!("{name}-{nat}");
                let (talked, captured) = world.watched(&sites, &name, options);
                assert_eq!(talked.paths(), ["relay", "relay"], "{name}: {talked}");
                for (side, captured) in captured.iter().enumerate() {
                    let packets = captured.packets.len();
                    println!(
                        "{name}: side {side}: {packets} packets with {:?}",
                        captured.remotes()
                    );
                    assert!(packets > 150, "{name}: a call was not captured");
                    assert_eq!(shown(captured, &sites[1 - side]), 0, "{name}, side {side}");
                    let mut strangers = captured.remotes();
                    // The own router may be asked to map a port, and whether it turns packets back.
                    let mut own = addresses(&sites[side]);
                    own.extend(sites[side].gateways[0].inner_ips());
                    strangers.retain(|ip| !supernode.contains(ip) && !own.contains(ip));
                    assert!(strangers.is_empty(), "{name}, side {side}: {strangers:?}");
                }
            }
            // The same machines without the wish: the capture does see what it looks for.
            let (talked, captured) = world.watched(&sites, &format!("open-{nat}"), [&[], &[]]);
            assert_eq!(talked.paths(), ["direct", "direct"], "{nat}: {talked}");
            for (side, captured) in captured.iter().enumerate() {
                let met = shown(captured, &sites[1 - side]);
                println!("without the wish, {nat}, side {side}: {met} packets between them");
                assert!(met > 100, "{nat}: {met}");
            }
        }
    }

    pub(crate) fn a_stranger_meets_no_address_before_accept() {
        let world = World::new();
        let sites = world.sites(Nat::None);
        let [alice, bob] = &sites;
        let home = world.folder().join("stranger").join("bob");
        std::fs::create_dir_all(&home).expect("a temporary folder takes folders");
        std::fs::write(
            home.join("settings.toml"),
            "version = 1\nstrangers = \"ring\"\n",
        )
        .expect("a temporary folder takes files");
        let captures = [alice, bob].map(|site| Capture::start(&site.host));
        let talk = Talk {
            callee: &[],
            ..Talk::new(
                world.folder(),
                "stranger",
                &alice.host,
                &bob.host,
                &world.supernode.link,
            )
        };
        let talking = talk.begin();
        talking.bob.wait_stderr("calls: ahoy ctl accept");
        talking.alice.wait_stderr("ringing");
        // The relayed connection and all that belongs to it comes about while it rings. Nothing tells when all
        // is done that will be: what would come at once on a machine as near as this has had its time.
        std::thread::sleep(std::time::Duration::from_secs(2));
        let accepted = now();
        run(&talking.bob_home, ["ctl", "accept"]).expect_code(0);
        let talked = talking.end();
        assert!(talked.completed(), "{talked}\n{}", talked.said);
        let captured = captures.map(Capture::stop);
        for (side, captured) in captured.iter().enumerate() {
            let other = &sites[1 - side];
            let rung = captured.before(accepted);
            let (before, after) = (shown(&rung, other), shown(captured, other));
            println!(
                "side {side}: {} packets while it rang, {before} with the other side, {after} in the end",
                rung.packets.len()
            );
            assert!(rung.packets.len() > 20, "the ringing was not captured");
            assert_eq!(before, 0, "side {side} met the stranger before accept");
            assert!(after > 100, "side {side}: the capture sees no direct call");
        }
    }

    pub(crate) fn a_call_is_kind_to_routers() {
        let world = World::new();
        for nat in [Nat::Port, Nat::Full, Nat::Cgnat, Nat::None] {
            let sites = world.sites(nat);
            for site in &sites {
                if nat != Nat::None {
                    site.gateways[0].forget();
                }
            }
            let (talked, captured) = world.watched(&sites, &format!("kind-{nat}"), [&[], &[]]);
            for (side, captured) in captured.iter().enumerate() {
                let flows = captured.flows();
                let busiest = captured.busiest_second();
                let table = if nat == Nat::None {
                    String::new()
                } else {
                    let flows = sites[side].gateways[0].flows();
                    format!(", {flows} in the router's table")
                };
                println!(
                    "{nat}, side {side}, {:?}: {flows} flows, at most {busiest} packets in a second{table}",
                    talked.paths()
                );
                assert!(flows >= 1 && busiest > 50, "a call was not captured");
                assert!(flows <= MAX_FLOWS, "{nat}: {flows} flows");
                assert!(
                    busiest <= MAX_PACKETS_PER_SECOND,
                    "{nat}: {busiest} packets in a second"
                );
            }
        }
    }
}

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    use ahoy_tests::lab::runner::{Test, main};
    use calls as c;
    main(&[
        Test::new(
            "relay_only_never_meets_an_address_of_the_other_side",
            c::relay_only_never_meets_an_address_of_the_other_side,
        ),
        Test::new(
            "a_stranger_meets_no_address_before_accept",
            c::a_stranger_meets_no_address_before_accept,
        ),
        Test::new("a_call_is_kind_to_routers", c::a_call_is_kind_to_routers),
    ])
}

#[cfg(not(target_os = "linux"))]
fn main() {}
