//! Notices when this machine's networks change: addresses, interfaces, the way out, and that it woke up.
//!
//! [`Watcher`] is the part without clock or system: it is told that something may have happened, says when to
//! look, and finds out whether what it is shown differs. [`NetMonitor`] drives it over a [`Runtime`], whose bell
//! ([`Runtime::network_changes`]) is netlink on Linux; without a bell it looks every few seconds.
//!
//! A change is told only after a short silence, since systems make many small changes for one: a link, an
//! address, a route.

use std::{
    fmt,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use ahoy_transport::runtime::{Networks, Runtime, RuntimeExt, Task};
use tokio::sync::watch;

/// How a [`Watcher`] takes its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchPolicy {
    /// A look is taken after this much silence. An address and its route come within a few milliseconds of each
    /// other when a program sets them.
    pub quiet: Duration,
    /// A look is taken after this long whatever still happens.
    pub longest: Duration,
    /// A look is taken this often without any notice.
    pub every: Duration,
}

impl WatchPolicy {
    /// For systems that tell. They may forget to; looking costs a tenth of a millisecond.
    pub const TOLD: Self = Self {
        quiet: Duration::from_millis(30),
        longest: Duration::from_millis(120),
        every: Duration::from_secs(30),
    };

    /// For systems that do not tell.
    pub const POLLED: Self = Self {
        every: Duration::from_secs(3),
        ..Self::TOLD
    };
}

/// Sleep shorter than this is the granularity of clocks, or a machine that is busy.
const SLEEP: Duration = Duration::from_secs(1);
/// A look that is late by this much was slept through, on systems whose clock runs on meanwhile, or the program was
/// stopped. Connections may have died either way.
const LATE: Duration = Duration::from_secs(5);

/// How things stand after a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkState {
    /// Counts changes, from 0 for how things were at the start.
    pub generation: u64,
    /// The networks now.
    pub networks: Networks,
    /// What is different from the state that was told last.
    pub reason: Reason,
}

/// What changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reason {
    /// Addresses that are new.
    pub gained: Vec<IpAddr>,
    /// Addresses that are gone.
    pub lost: Vec<IpAddr>,
    /// Packets to the internet leave otherwise: by another interface, router or address, or not at all.
    pub route: bool,
    /// The machine slept, or this program was stopped, for about this long.
    pub resumed: Option<Duration>,
}

impl Reason {
    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn between(old: &Seen, new: &Seen) -> Self {
        let (before, after) = (&old.networks, &new.networks);
        let slept = new.slept.saturating_sub(old.slept);
        Self {
            gained: after.addrs.difference(&before.addrs).copied().collect(),
            lost: before.addrs.difference(&after.addrs).copied().collect(),
            route: before.route_v4 != after.route_v4 || before.route_v6 != after.route_v6,
            resumed: (slept > Duration::ZERO).then_some(slept),
        }
    }
}

impl fmt::Display for Reason {
    /// For logs: kinds and counts, no addresses.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        let count = |addrs: &[IpAddr], what| match addrs {
            [] => None,
            [_] => Some(format!("an address {what}")),
            many => Some(format!("{} addresses {what}", many.len())),
        };
        parts.extend(count(&self.lost, "lost"));
        parts.extend(count(&self.gained, "gained"));
        parts.extend(self.route.then(|| "another way out".to_owned()));
        parts.extend(
            self.resumed
                .map(|slept| format!("awake after {} s", slept.as_secs())),
        );
        f.write_str(&match parts.is_empty() {
            true => "nothing changed".to_owned(),
            false => parts.join(", "),
        })
    }
}

/// What was found when somebody looked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Seen {
    generation: u64,
    networks: Networks,
    /// All sleep since the start.
    slept: Duration,
}

/// Decides when to look and whether something changed.
///
/// After [`handle_notice`](Self::handle_notice) or [`handle_look`](Self::handle_look), wait for a notice or for
/// [`poll_timeout`](Self::poll_timeout); then look, and hand in what was seen.
#[derive(Debug)]
pub struct Watcher {
    policy: WatchPolicy,
    seen: Seen,
    /// What the system's count of sleep was.
    suspended: Duration,
    /// First and last notice since the last look.
    noticed: Option<(Instant, Instant)>,
    /// The look that needs no notice.
    regular: Instant,
}

impl Watcher {
    /// How things stand at `now`, and how long the system says it has slept so far.
    #[must_use]
    pub fn new(policy: WatchPolicy, now: Instant, networks: Networks, suspended: Duration) -> Self {
        Self {
            policy,
            seen: Seen {
                networks,
                ..Seen::default()
            },
            suspended,
            noticed: None,
            regular: now + policy.every,
        }
    }

    /// Something may have happened.
    pub fn handle_notice(&mut self, now: Instant) {
        let (_first, last) = self.noticed.get_or_insert((now, now));
        *last = now;
    }

    /// When to look.
    #[must_use]
    pub fn poll_timeout(&self) -> Instant {
        match self.noticed {
            Some((first, last)) => (last + self.policy.quiet)
                .min(first + self.policy.longest)
                .min(self.regular),
            None => self.regular,
        }
    }

    /// What a look at `now` has shown. Says whether that is a change.
    pub fn handle_look(&mut self, now: Instant, networks: Networks, suspended: Duration) -> bool {
        let late = now.saturating_duration_since(self.poll_timeout());
        self.noticed = None;
        self.regular = now + self.policy.every;
        // A clock that runs on makes looks late, one that stands still makes the system count.
        let asleep = suspended.saturating_sub(self.suspended);
        self.suspended = suspended;
        let slept = match (asleep >= SLEEP, late >= LATE) {
            (true, _) => asleep,
            (false, true) => late,
            (false, false) => Duration::ZERO,
        };
        if self.seen.networks == networks && slept == Duration::ZERO {
            return false;
        }
        self.seen.generation += 1;
        self.seen.networks = networks;
        self.seen.slept += slept;
        true
    }
}

/// Watches the networks for as long as it lives.
#[derive(Debug)]
pub struct NetMonitor {
    seen: watch::Receiver<Seen>,
    /// What [`Self::changed`] told last.
    told: Seen,
    _task: Task,
}

impl NetMonitor {
    /// Looks now, and from now on.
    #[must_use]
    pub fn start(runtime: &Arc<dyn Runtime>) -> Self {
        // First the bell, then the look: between them nothing is missed.
        let mut changes = runtime.network_changes();
        let policy = if changes.is_live() {
            WatchPolicy::TOLD
        } else {
            WatchPolicy::POLLED
        };
        let (now, suspended) = (runtime.now(), runtime.suspended());
        let mut watcher = Watcher::new(policy, now, runtime.networks(), suspended);
        let told = watcher.seen.clone();
        let (publish, seen) = watch::channel(told.clone());
        let watching = Arc::clone(runtime);
        let task = runtime.spawn_task(async move {
            let runtime = watching;
            loop {
                let look = runtime.sleep_until(watcher.poll_timeout());
                tokio::select! {
                    biased;
                    () = publish.closed() => return,
                    () = changes.changed() => watcher.handle_notice(runtime.now()),
                    () = look => {
                        let (networks, suspended) = (runtime.networks(), runtime.suspended());
                        if watcher.handle_look(runtime.now(), networks, suspended) {
                            publish.send_replace(watcher.seen.clone());
                        }
                    }
                }
            }
        });
        Self {
            seen,
            told,
            _task: task,
        }
    }

    /// How things stood when somebody looked last.
    #[must_use]
    pub fn networks(&self) -> Networks {
        self.seen.borrow().networks.clone()
    }

    /// Waits for a change. Several that nobody waited for are told as one; those that undo each other, not at all.
    pub async fn changed(&mut self) -> NetworkState {
        loop {
            if self.seen.changed().await.is_err() {
                // The runtime ends.
                std::future::pending().await
            }
            let seen = self.seen.borrow_and_update().clone();
            let reason = Reason::between(&self.told, &seen);
            self.told = seen;
            if reason.is_empty() {
                continue;
            }
            tracing::info!(generation = self.told.generation, %reason, "the networks changed");
            return NetworkState {
                generation: self.told.generation,
                networks: self.told.networks.clone(),
                reason,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use ahoy_transport::runtime::Route;

    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    fn networks(addrs: &[&str]) -> Networks {
        Networks::of_addrs(addrs.iter().map(|ip| ip.parse().unwrap()))
    }

    /// A watcher, its system, and what it found, in virtual time.
    struct Scene {
        now: Instant,
        watcher: Watcher,
        networks: Networks,
        suspended: Duration,
        told: Seen,
        looks: u32,
    }

    impl Scene {
        #[expect(clippy::disallowed_methods, reason = "virtual time starts anywhere")]
        fn new(policy: WatchPolicy) -> Self {
            let now = Instant::now();
            let networks = networks(&["192.168.0.7"]);
            Self {
                now,
                watcher: Watcher::new(policy, now, networks.clone(), Duration::ZERO),
                told: Seen {
                    networks: networks.clone(),
                    ..Seen::default()
                },
                networks,
                suspended: Duration::ZERO,
                looks: 0,
            }
        }

        /// Lets time pass; returns changes with how long each took from the start of this.
        fn run(&mut self, span: Duration) -> Vec<(Duration, Reason)> {
            let (start, end) = (self.now, self.now + span);
            let mut changes = Vec::new();
            while self.watcher.poll_timeout() <= end {
                self.now = self.now.max(self.watcher.poll_timeout());
                self.looks += 1;
                if self
                    .watcher
                    .handle_look(self.now, self.networks.clone(), self.suspended)
                {
                    let reason = Reason::between(&self.told, &self.watcher.seen);
                    self.told = self.watcher.seen.clone();
                    changes.push((self.now - start, reason));
                }
            }
            self.now = end;
            changes
        }

        fn notice(&mut self, networks: Networks) {
            self.networks = networks;
            self.watcher.handle_notice(self.now);
        }
    }

    #[test]
    fn a_notice_is_told_within_a_few_hundredths_of_a_second() {
        let mut scene = Scene::new(WatchPolicy::TOLD);
        assert_eq!(scene.run(100 * MILLI), []);
        scene.notice(networks(&["192.168.0.7", "10.0.0.2"]));
        let changes = scene.run(1000 * MILLI);
        let [(after, reason)] = &changes[..] else {
            panic!("one change, not {changes:?}");
        };
        assert_eq!(*after, 30 * MILLI);
        assert_eq!(reason.to_string(), "an address gained");
        assert_eq!(reason.gained, ["10.0.0.2".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn many_small_steps_are_one_change_and_a_flood_does_not_put_it_off() {
        let mut scene = Scene::new(WatchPolicy::TOLD);
        let mut changes = Vec::new();
        let mut waited = Duration::ZERO;
        for step in 0..100 {
            scene.notice(networks(&[&format!("10.0.0.{step}")]));
            for (after, _reason) in scene.run(10 * MILLI) {
                changes.push(waited + after);
            }
            waited += 10 * MILLI;
        }
        // 100 steps in a second: a look every 120 ms, not every 10.
        assert!((6..=9).contains(&scene.looks), "{} looks", scene.looks);
        assert_eq!(changes.first(), Some(&(120 * MILLI)));
        // Without the debounce each step is a change of its own.
        let mut hasty = Scene::new(WatchPolicy {
            quiet: Duration::ZERO,
            longest: Duration::ZERO,
            ..WatchPolicy::TOLD
        });
        for step in 0..100 {
            hasty.notice(networks(&[&format!("10.0.0.{step}")]));
            hasty.run(10 * MILLI);
        }
        assert_eq!(hasty.looks, 100);
    }

    #[test]
    fn a_bell_that_rings_for_nothing_is_no_change() {
        let mut scene = Scene::new(WatchPolicy::TOLD);
        for _ in 0..50 {
            scene.notice(networks(&["192.168.0.7"]));
            assert_eq!(scene.run(200 * MILLI), []);
        }
        assert_eq!(scene.watcher.seen.generation, 0);
    }

    #[test]
    fn without_notices_a_change_is_found_by_looking() {
        let mut scene = Scene::new(WatchPolicy::POLLED);
        scene.run(1000 * MILLI);
        scene.networks = networks(&[]);
        let changes = scene.run(10_000 * MILLI);
        assert_eq!(changes.len(), 1);
        assert_eq!(changes[0].0, 2000 * MILLI);
        assert_eq!(changes[0].1.to_string(), "an address lost");
        assert!(scene.networks.is_offline());
        assert_eq!(scene.looks, 3);
    }

    #[test]
    fn the_way_out_counts_although_no_address_changed() {
        let mut scene = Scene::new(WatchPolicy::TOLD);
        let mut through = networks(&["192.168.0.7"]);
        through.route_v4 = Some(Route {
            gateway: Some([192, 168, 0, 1].into()),
            ..Route::default()
        });
        scene.notice(through);
        let changes = scene.run(100 * MILLI);
        assert_eq!(changes.len(), 1);
        assert!(changes[0].1.route);
        assert_eq!(changes[0].1.to_string(), "another way out");
    }

    #[test]
    fn waking_up_is_a_change_even_in_the_same_network() {
        let mut scene = Scene::new(WatchPolicy::TOLD);
        scene.run(500 * MILLI);
        // This clock stood still; the system counted, and its clock jumped.
        scene.suspended = Duration::from_secs(3600);
        scene.notice(networks(&["192.168.0.7"]));
        let changes = scene.run(200 * MILLI);
        assert_eq!(changes.len(), 1);
        assert_eq!(changes[0].1.resumed, Some(Duration::from_secs(3600)));
        // Told once.
        assert_eq!(scene.run(100_000 * MILLI), []);

        // Here the clock ran on, and the look came late.
        let mut late = Scene::new(WatchPolicy::POLLED);
        late.now += Duration::from_secs(600);
        let changes = late.run(100 * MILLI);
        assert_eq!(changes.len(), 1);
        assert_eq!(changes[0].1.resumed, Some(Duration::from_secs(597)));
        assert_eq!(changes[0].1.to_string(), "awake after 597 s");
    }

    #[test]
    fn clock_granularity_is_no_sleep() {
        let mut scene = Scene::new(WatchPolicy::TOLD);
        scene.suspended = 900 * MILLI;
        assert_eq!(scene.run(31_000 * MILLI), []);
    }
}
