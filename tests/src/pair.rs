//! Two people who know each other: what most tests of calls begin with.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::{fmt, time::Duration};

use ahoy::{
    call::CallConfig,
    engine::{
        config::{EngineConfig, PathPolicy},
        handle::{Command, Event},
    },
    report::{AudioReport, PathKind, Report},
    sim::{Fault, PacketEvent},
};
use ahoy_media::audio::wav::read_all;

use crate::people::{Ended, Home, Phone, Stage};

/// Addresses of the supernode and of the people.
pub const HOME: [u8; 4] = [203, 0, 113, 1];
/// See [`HOME`].
pub const ALICE: [u8; 4] = [198, 51, 100, 1];
/// See [`HOME`].
pub const BOB: [u8; 4] = [198, 51, 100, 2];
/// See [`HOME`].
pub const CAROL: [u8; 4] = [198, 51, 100, 3];

/// Longest time in which a step that needs a few round trips may be done.
pub const SOON: Duration = Duration::from_secs(5);

/// Milliseconds.
#[must_use]
pub fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Seconds.
#[must_use]
pub fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Alice and Bob, who know each other, at one home, with a shortcut between them.
#[derive(Debug)]
pub struct Pair {
    /// The world around them.
    pub stage: Stage,
    /// Where both are registered.
    pub home: Home,
    /// Who calls.
    pub alice: Phone,
    /// Who is called.
    pub bob: Phone,
    _folder: tempfile::TempDir,
}

/// Adjusts the engine of the person of that name.
type Configure = Box<dyn Fn(&str, &mut EngineConfig)>;

/// What is special about a pair.
pub struct Plan {
    seed: u64,
    path: PathPolicy,
    limits: CallConfig,
    configure: Configure,
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan")
            .field("seed", &self.seed)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// An ordinary pair in the world of `seed`.
#[must_use]
pub fn plan(seed: u64) -> Plan {
    Plan {
        seed,
        path: PathPolicy::Auto,
        limits: CallConfig::default(),
        configure: Box::new(|_name, _config| {}),
    }
}

impl Plan {
    /// Neither shows the other where it is.
    #[must_use]
    pub fn relayed(mut self) -> Self {
        self.path = PathPolicy::Relay;
        self
    }

    /// Other limits of their calls.
    #[must_use]
    pub fn limits(mut self, adjust: impl FnOnce(&mut CallConfig)) -> Self {
        adjust(&mut self.limits);
        self
    }

    /// Whatever else is special, by name.
    #[must_use]
    pub fn configure(mut self, configure: impl Fn(&str, &mut EngineConfig) + 'static) -> Self {
        self.configure = Box::new(configure);
        self
    }

    /// Both registered and quiet, then `play`, in a world of its own.
    ///
    /// # Panics
    /// When the world gets stuck.
    pub fn run<T>(self, play: impl AsyncFnOnce(&Pair) -> T) -> T {
        let folder = tempfile::tempdir().unwrap();
        let stage = Stage::new(self.seed, folder.path());
        let director = stage.director;
        let made = stage.world.block_on(director, async {
            let home = stage.home("home", HOME).await;
            let phone = |name, ip| {
                let identity = stage.identity();
                stage.phone(name, ip, &identity, &[&home], |config| {
                    config.path = self.path;
                    config.limits = self.limits.clone();
                    (self.configure)(name, config);
                })
            };
            let (alice, bob) = (phone("Alice", ALICE), phone("Bob", BOB));
            alice.befriend(&bob);
            stage.shortcut(&alice, &bob);
            alice.ready().await;
            bob.ready().await;
            (home, alice, bob)
        });
        let (home, alice, bob) = made.unwrap();
        let pair = Pair {
            stage,
            home,
            alice,
            bob,
            _folder: folder,
        };
        pair.stage.world.block_on(director, play(&pair)).unwrap()
    }
}

impl Pair {
    /// Lets the world run on.
    pub async fn pass(&self, duration: Duration) {
        self.stage.pass(duration).await;
    }

    /// Alice calls, Bob lets it ring for a second and accepts, both hear each other.
    pub async fn talk(&self) {
        self.alice.call(&self.bob);
        self.bob.rings().await;
        self.pass(secs(1)).await;
        self.bob.tell(Command::Accept);
        self.alice.hears().await;
        self.bob.hears().await;
    }

    /// No packet passes between the two; the way by the relay stays.
    pub fn part(&self) {
        self.stage.world.apply(Fault::Partition {
            left: vec![self.alice.node],
            right: vec![self.bob.node],
        });
    }

    /// Alice hangs up; both reports.
    pub async fn hang_up(&self) -> [Ended; 2] {
        self.alice.tell(Command::HangUp);
        self.endings(SOON).await
    }

    /// How the call ended at Alice's and at Bob's.
    pub async fn endings(&self, limit: Duration) -> [Ended; 2] {
        let alice = self.alice.ends(limit).await;
        [alice, self.bob.ends(limit).await]
    }
}

/// What the report says about the other side's voice.
///
/// # Panics
/// When it says nothing.
#[must_use]
pub fn audio(report: &Report) -> &AudioReport {
    report.participants[0].audio.as_ref().unwrap()
}

/// The kinds of path that media took, in order.
#[must_use]
pub fn kinds(report: &Report) -> Vec<PathKind> {
    report.paths.iter().map(|path| path.kind).collect()
}

/// Whether a packet went from one to the other without a relay.
#[must_use]
pub fn is_between(packet: &PacketEvent, a: &Phone, b: &Phone) -> bool {
    let ends = (packet.from, packet.to);
    ends == (a.node, Some(b.node)) || ends == (b.node, Some(a.node))
}

/// Blocks louder than silence in what was heard so far.
///
/// # Panics
/// When there is no recording.
#[must_use]
pub fn loud_blocks(phone: &Phone) -> usize {
    let heard = read_all(&phone.recording).unwrap();
    let loud = |block: &&[f32]| block.iter().any(|sample| sample.abs() > 0.01);
    heard.chunks(480).filter(loud).count()
}

/// Whether it never rang.
#[must_use]
pub fn never_rang(phone: &Phone) -> bool {
    let events = phone.events();
    let rang = |(_at, event): &(Duration, Event)| matches!(event, Event::Incoming { .. });
    !events.iter().any(rang)
}
