//! Everybody calls everybody, on real kernels: each pair of NATs, by the program as separate processes.
//!
//! [`EXPECTED`] is what has to come of each pair.

#![expect(clippy::print_stdout, reason = "a test tells what it saw")]

#[cfg(target_os = "linux")]
mod matrix {
    use std::{
        collections::BTreeMap,
        fmt,
        panic::{AssertUnwindSafe, catch_unwind},
        path::Path,
        sync::{
            Mutex, PoisonError,
            atomic::{AtomicUsize, Ordering},
        },
        thread,
        time::Duration,
    };

    use ahoy_tests::lab::{
        Host, Lab, Nat, Site,
        behaviour::Judge,
        talk::{Supernode, Talk, Talked},
    };

    /// Calls at once: each is two processes that speak in real time, and two cores are common.
    const JOBS: usize = 3;
    /// How long they talk.
    const TALK_SECONDS: u32 = 5;
    /// How long they talk where ports have to be guessed first: that may take 15 s.
    const SPRAY_SECONDS: u32 = 18;
    const SPRAY_LIMIT: Duration = Duration::from_secs(15);
    /// Tries of guessing, and how many have to succeed.
    const SPRAY_TRIES: usize = 10;
    const SPRAY_WINS: usize = 9;
    /// Packets of sound in a second.
    const RATE: u64 = 50;
    /// Percent of what was spoken that has to arrive on each side. The rest is for machines that do something
    /// else as well, and for what is on its way at the good-bye.
    const ARRIVED_PERCENT: u64 = 85;

    /// Percent of the calls that may have to be made a second time.
    const MAX_AGAIN_PERCENT: usize = 10;

    /// What carries the sound in the end.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Way {
        /// Straight through both NATs.
        Direct,
        /// As [`Self::Direct`], after ports were guessed.
        Guessed,
        /// Through a supernode.
        Relay,
        /// Through a supernode, by TCP on the side that has nothing else.
        Tcp,
        /// Inside the local network.
        Lan,
    }
    use Way::{Direct as D, Guessed as G, Relay as R, Tcp as T};

    /// Rows and columns are in the order of [`Nat::ALL`].
    ///
    /// - Mapping that depends on address and port (`symmetric`, `cgnat-sym`) is met by the other side's filter: none or
    ///   by address let it in, by address and port has to be guessed, and two such mappings are hopeless.
    /// - `v6only` meets those that have IPv6, here `none`; the rest goes through a supernode that has both.
    #[rustfmt::skip]
    const EXPECTED: [[Way; 9]; 9] = [
        // none full addr port symm cgnat cg-s udpb v6
        [  D,   D,   D,   D,   D,   D,   D,   T,   D ], // none
        [  D,   D,   D,   D,   D,   D,   D,   T,   R ], // full
        [  D,   D,   D,   D,   D,   D,   D,   T,   R ], // addr
        [  D,   D,   D,   D,   G,   D,   G,   T,   R ], // port
        [  D,   D,   D,   G,   R,   G,   R,   T,   R ], // symmetric
        [  D,   D,   D,   D,   G,   D,   G,   T,   R ], // cgnat
        [  D,   D,   D,   G,   R,   G,   R,   T,   R ], // cgnat-sym
        [  T,   T,   T,   T,   T,   T,   T,   T,   T ], // udpblocked
        [  D,   R,   R,   R,   R,   R,   R,   T,   D ], // v6only
    ];

    /// What `make test` runs: each mechanism once.
    const CHOSEN: &[Pair] = &[
        Pair::Nats(Nat::None, Nat::None),
        Pair::Nats(Nat::Port, Nat::Port),
        Pair::Nats(Nat::Full, Nat::Symmetric),
        Pair::Nats(Nat::Symmetric, Nat::Port),
        Pair::Nats(Nat::Symmetric, Nat::CgnatSymmetric),
        Pair::Nats(Nat::Addr, Nat::Cgnat),
        Pair::Nats(Nat::UdpBlocked, Nat::Port),
        Pair::Nats(Nat::V6Only, Nat::V6Only),
        Pair::Nats(Nat::Port, Nat::V6Only),
        Pair::SameLan,
        Pair::SameNat { hairpin: true },
        Pair::SameNat { hairpin: false },
    ];

    /// Who calls whom.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Pair {
        /// From behind one to behind another.
        Nats(Nat, Nat),
        /// Two machines in one local network.
        SameLan,
        /// Two homes behind one provider's NAT.
        SameNat { hairpin: bool },
    }

    impl fmt::Display for Pair {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self {
                Self::Nats(from, to) => write!(f, "{from} calls {to}"),
                Self::SameLan => write!(f, "same LAN"),
                Self::SameNat { hairpin: true } => write!(f, "same NAT with hairpin"),
                Self::SameNat { hairpin: false } => write!(f, "same NAT without hairpin"),
            }
        }
    }

    impl Pair {
        fn expected(self) -> Way {
            match self {
                Self::Nats(from, to) => EXPECTED[index(from)][index(to)],
                Self::SameLan => Way::Lan,
                Self::SameNat { hairpin: true } => Way::Direct,
                Self::SameNat { hairpin: false } => Way::Relay,
            }
        }

        /// Whether a side that says `kind` says what is expected of it.
        fn is_true(self, kinds: [&str; 2]) -> bool {
            match (self.expected(), self) {
                (Way::Direct | Way::Guessed, _) => kinds == ["direct", "direct"],
                (Way::Relay, _) => kinds == ["relay", "relay"],
                (Way::Lan, _) => kinds == ["lan", "lan"],
                // Each side tells of its own way to the supernode.
                (Way::Tcp, Self::Nats(from, to)) => {
                    let of = |nat| {
                        if nat == Nat::UdpBlocked {
                            "tcp"
                        } else {
                            "relay"
                        }
                    };
                    kinds == [of(from), of(to)]
                }
                (Way::Tcp, Self::SameLan | Self::SameNat { .. }) => false,
            }
        }

        fn seconds(self) -> u32 {
            if self.expected() == Way::Guessed {
                SPRAY_SECONDS
            } else {
                TALK_SECONDS
            }
        }
    }

    fn index(nat: Nat) -> usize {
        let at = Nat::ALL.iter().position(|known| *known == nat);
        at.expect("all are in the list")
    }

    /// One internet for all calls, with two machines behind each kind.
    struct World {
        lab: Lab,
        callers: Vec<Site>,
        callees: Vec<Site>,
        lan: [Host; 2],
        neighbours: [[Site; 2]; 2],
    }

    impl World {
        /// Builds it, and proves that each NAT does what its name says.
        fn new() -> Self {
            let lab = Lab::new();
            let sites = |side: &str| {
                let site = |nat: Nat| lab.site(&format!("{side}-{nat}"), nat);
                Nat::ALL.map(site).to_vec()
            };
            let callers = sites("a");
            let callees = sites("b");
            let home = lab.site("lan", Nat::Port);
            let beside = lab.beside(&home, "lan-pc2");
            let neighbours = [
                lab.neighbours(["n1", "n2"], false),
                lab.neighbours(["h1", "h2"], true),
            ];
            let world = Self {
                lan: [home.host, beside],
                lab,
                callers,
                callees,
                neighbours,
            };
            world.prove();
            world
        }

        /// Every label is checked from inside before anything is called by it.
        fn prove(&self) {
            let judge = Judge::new(&self.lab);
            thread::scope(|scope| {
                let homes = self.neighbours.iter().flatten();
                for site in self.callers.iter().chain(&self.callees).chain(homes) {
                    let judge = &judge;
                    scope.spawn(move || {
                        let seen = judge.judge(&site.host);
                        assert_eq!(seen, site.nat.behaviour(), "{site:?} is no {}", site.nat);
                    });
                }
                for (n, hairpin) in [false, true].into_iter().enumerate() {
                    let judge = &judge;
                    let [one, two] = &self.neighbours[n];
                    scope.spawn(move || {
                        let turned = judge.hairpin(&one.host, &two.host);
                        assert_eq!(turned, hairpin, "hairpin at {one:?}");
                    });
                }
            });
        }

        fn hosts(&self, pair: Pair) -> [&Host; 2] {
            match pair {
                Pair::Nats(from, to) => [
                    &self.callers[index(from)].host,
                    &self.callees[index(to)].host,
                ],
                Pair::SameLan => self.lan.each_ref(),
                Pair::SameNat { hairpin } => {
                    let [one, two] = &self.neighbours[usize::from(hairpin)];
                    [&one.host, &two.host]
                }
            }
        }

        fn call(&self, folder: &Path, node: &str, pair: Pair, number: usize) -> Talked {
            let [from, to] = self.hosts(pair);
            Talk {
                seconds: pair.seconds(),
                ..Talk::new(folder, &format!("{number}"), from, to, node)
            }
            .run()
        }
    }

    /// What is wrong with a call; nothing if it was as it has to be.
    fn judge(pair: Pair, talked: &Talked) -> Option<String> {
        if !talked.completed() {
            return Some("not completed".to_owned());
        }
        let spoken = u64::from(pair.seconds()) * RATE;
        for (side, (received, _lost)) in ["caller", "callee"].into_iter().zip(talked.packets()) {
            if received * 100 < spoken * ARRIVED_PERCENT {
                return Some(format!("the {side} got {received} of {spoken} packets"));
            }
        }
        if !pair.is_true(talked.paths()) {
            return Some(format!("the way is {:?}", talked.paths()));
        }
        if pair.expected() == Way::Guessed && talked.direct_after() > Some(SPRAY_LIMIT) {
            return Some("guessed too slowly".to_owned());
        }
        None
    }

    /// A call; nothing when a process of it failed.
    type Called = Option<Talked>;

    /// A world with a supernode in it.
    struct Stage {
        world: World,
        folder: tempfile::TempDir,
        supernode: Supernode,
        calls: AtomicUsize,
    }

    impl Stage {
        fn new() -> Self {
            let world = World::new();
            let folder = tempfile::tempdir().expect("a temporary folder can be made");
            let supernode = Supernode::start(&world.lab, folder.path());
            Self {
                world,
                folder,
                supernode,
                calls: AtomicUsize::new(0),
            }
        }

        fn call(&self, pair: Pair) -> Called {
            let number = self.calls.fetch_add(1, Ordering::Relaxed);
            let (folder, node) = (self.folder.path(), &self.supernode.link);
            let call = || self.world.call(folder, node, pair, number);
            let called = catch_unwind(AssertUnwindSafe(call)).ok();
            match &called {
                Some(talked) => println!("{pair}: {talked}"),
                None => println!("{pair}: a process failed"),
            }
            called
        }
    }

    /// Calls all pairs, several at a time.
    fn call_all(stage: &Stage, pairs: &[Pair]) -> Vec<(Pair, Called)> {
        let waiting = Mutex::new(pairs.iter().copied().enumerate());
        let done = Mutex::new(BTreeMap::new());
        thread::scope(|scope| {
            for _ in 0..JOBS {
                scope.spawn(|| {
                    loop {
                        let next = waiting
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .next();
                        let Some((number, pair)) = next else { break };
                        let called = stage.call(pair);
                        let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                        done.insert(number, (pair, called));
                    }
                });
            }
        });
        let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        done.into_values().collect()
    }

    /// What is wrong with a call.
    fn fault(pair: Pair, called: &Called) -> Option<String> {
        match called {
            Some(talked) => judge(pair, talked),
            None => Some("a process failed".to_owned()),
        }
    }

    fn check(pairs: &[Pair]) {
        let stage = Stage::new();
        let mut wrong = Vec::new();
        let mut table = Vec::new();
        let mut again = 0;
        for (pair, mut called) in call_all(&stage, pairs) {
            let mut found = fault(pair, &called);
            // Once more, with the machine to itself: what else it does is not what NATs do.
            if found.is_some() {
                again += 1;
                called = stage.call(pair);
                found = fault(pair, &called);
            }
            let said = called.as_ref().map_or("", |talked| &talked.said);
            let paths = called.as_ref().map_or(["-"; 2], Talked::paths);
            let mark = if let Some(reason) = &found {
                wrong.push(format!("{pair}: {reason}\n{said}"));
                "WRONG"
            } else {
                "ok"
            };
            let expected = format!("{:?}", pair.expected());
            let found = found.unwrap_or_default();
            table.push(format!("{mark:6} {pair:30} {expected:8} {paths:?} {found}"));
        }
        println!("\n{}\n{again} called twice\n", table.join("\n"));
        // A machine so busy proves nothing; and what fails so often is no accident.
        assert!(
            again <= 1 + pairs.len() * MAX_AGAIN_PERCENT / 100,
            "{again} calls failed at first"
        );
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    /// One of each kind.
    pub(crate) fn chosen_pairs_of_nats_come_about() {
        check(CHOSEN);
    }

    /// Every pair, each in both orders.
    pub(crate) fn every_pair_of_nats_comes_about() {
        let mut pairs = Vec::new();
        for from in Nat::ALL {
            pairs.extend(Nat::ALL.map(|to| Pair::Nats(from, to)));
        }
        pairs.extend([true, false].map(|hairpin| Pair::SameNat { hairpin }));
        pairs.push(Pair::SameLan);
        check(&pairs);
    }

    /// Mapping by address and port against filtering by address and port: each pair of such NATs in both orders.
    pub(crate) fn guessing_ports_wins_nine_times_of_ten() {
        let of = |from: Nat| Nat::ALL.map(move |to| Pair::Nats(from, to));
        let all = Nat::ALL.into_iter().flat_map(of);
        let guessed: Vec<Pair> = all.filter(|pair| pair.expected() == Way::Guessed).collect();
        let pairs: Vec<Pair> = guessed.into_iter().cycle().take(SPRAY_TRIES).collect();
        let mut won = 0;
        for (pair, called) in call_all(&Stage::new(), &pairs) {
            match fault(pair, &called) {
                None => won += 1,
                Some(reason) => println!("{pair}: {reason}"),
            }
        }
        println!("guessed {won} times of {SPRAY_TRIES}");
        assert!(
            won >= SPRAY_WINS,
            "guessed only {won} times of {SPRAY_TRIES}"
        );
    }

    /// The labels alone.
    pub(crate) fn each_nat_does_what_its_name_says() {
        drop(World::new());
    }
}

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    use ahoy_tests::lab::runner::{Test, main};
    use matrix as m;
    main(&[
        Test::new(
            "each_nat_does_what_its_name_says",
            m::each_nat_does_what_its_name_says,
        ),
        Test::new(
            "chosen_pairs_of_nats_come_about",
            m::chosen_pairs_of_nats_come_about,
        ),
        Test::slow(
            "every_pair_of_nats_comes_about",
            m::every_pair_of_nats_comes_about,
        ),
        Test::slow(
            "guessing_ports_wins_nine_times_of_ten",
            m::guessing_ports_wins_nine_times_of_ten,
        ),
    ])
}

#[cfg(not(target_os = "linux"))]
fn main() {}
