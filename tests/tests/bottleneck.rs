//! A call with a picture through narrow, bloated, lossy, policed and crowded lines: the shipped session over the
//! simulated network, a synthetic picture that follows the estimate beside a voice of 32 kbit/s.
//!
//! Every cell runs with the ordinary congestion window and with one of 10 MB: it is the estimate that keeps queues
//! short, not QUIC.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and so may its helpers"
)]

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use ahoy::sim::{Conditions, LinkId, Loss, Policer, Rate, SimNode, World};
use ahoy_tests::{pair::plan, person::Person, udp::Udp};
use ahoy_transport::{
    bwe::Estimate,
    datagram::Priority,
    endpoint::{CongestionWindow, Endpoint, EndpointConfig},
    runtime::{Runtime, RuntimeExt},
    sealed::SessionSecret,
    session::{
        LocalDevice, MediaPermit, PathKind, RemoteDevice, SendMediaError, Session, SessionConfig,
        SessionParams, SessionStats,
    },
};
use bytes::Bytes;

const TEN_MEGABYTES: CongestionWindow = CongestionWindow::Fixed(10_000_000);
const WINDOWS: [CongestionWindow; 2] = [CongestionWindow::Follows, TEN_MEGABYTES];
/// Every cell is run with these.
const RUNS: [(u64, CongestionWindow); 4] = [
    (1, CongestionWindow::Follows),
    (2, CongestionWindow::Follows),
    (3, TEN_MEGABYTES),
    (4, TEN_MEGABYTES),
];

/// One way, without any queue.
const DELAY: Duration = Duration::from_millis(30);
/// 32 kbit/s in frames of 20 ms, with an RTP header; 63 kbit/s on the wire.
const VOICE_BYTES: usize = 92;
const VOICE_EVERY: Duration = Duration::from_millis(20);
/// What the voice and the reports take of an estimate, in bits per second.
const BESIDE_VIDEO: u64 = 80_000;
/// The most that the picture's encoder makes.
const VIDEO_BPS: u64 = 2_000_000;
const VIDEO_EVERY: Duration = Duration::from_micros(33_333);
const VIDEO_BYTES: usize = 1150;
const VOICE: u64 = 1;
const VIDEO: u64 = 2;
/// What comes later is of no use.
const EXPIRY: Duration = Duration::from_millis(400);
/// IPv4 and UDP.
const HEADERS: usize = 28;

fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// A packet of Alice's that arrived at Bob's.
#[derive(Debug, Clone, Copy)]
struct Wire {
    at: f64,
    /// Seconds that it stood in the queue, its own turn not included.
    queued: f64,
    bits: f64,
    /// Port that it was sent from.
    port: u16,
}

/// A media packet that was heard or seen.
#[derive(Debug, Clone, Copy)]
struct Heard {
    at: f64,
    /// Seconds since it was handed to the session.
    took: f64,
    flow: u64,
}

type Log<T> = Arc<Mutex<Vec<T>>>;

/// One call from Alice to Bob.
struct Call {
    port: u16,
    sessions: [Session; 2],
    _endpoints: [Endpoint; 2],
    heard: Log<Heard>,
    estimates: Log<(f64, Option<Estimate>)>,
}

struct Scene {
    world: World,
    nodes: [SimNode; 2],
    config: SessionConfig,
    window: CongestionWindow,
    rare_acks: bool,
    /// Whether Alice sends a picture too, and whether Bob does.
    picture: bool,
    his_picture: bool,
    /// The most that the picture's encoder makes, in bits per second.
    video_bps: u64,
    wire: Log<Wire>,
    calls: Vec<Call>,
}

fn line(bits_per_second: u64, queue_bytes: usize) -> Conditions {
    Conditions {
        delay: DELAY / 2,
        rate: Some(Rate {
            bits_per_second,
            queue_bytes,
        }),
        ..Conditions::default()
    }
}

impl Scene {
    fn new(seed: u64, window: CongestionWindow, config: SessionConfig) -> Self {
        eprintln!("seed {seed}, {window:?}");
        let world = World::new(seed);
        let node = |name: &str, last: u8| {
            let node = world.add_node(name, &[[10, 0, 0, last].into()]);
            world.set_link(node, Conditions::with_delay(DELAY / 2));
            node
        };
        let nodes = [node("alice", 1), node("bob", 2)];
        let wire = Arc::new(Mutex::new(Vec::new()));
        Self {
            world,
            nodes,
            config,
            window,
            rare_acks: true,
            picture: true,
            his_picture: false,
            video_bps: VIDEO_BPS,
            wire,
            calls: Vec::new(),
        }
    }

    /// Both of Alice's ways from now on.
    fn both_ways(&self, conditions: &Conditions) {
        self.uplink(conditions.clone());
        let link = LinkId::Downlink(self.nodes[0]);
        self.world.set_conditions(link, conditions.clone());
    }

    /// Alice's way to the network from now on.
    fn uplink(&self, conditions: Conditions) {
        let link = LinkId::Uplink(self.nodes[0]);
        self.world.set_conditions(link, conditions);
    }

    /// What arrives is noted, as of a line of this rate.
    fn watch(&self) {
        let wire = Arc::clone(&self.wire);
        let [alice, bob] = self.nodes;
        self.world.observe(move |packet| {
            if packet.from != alice || packet.to != Some(bob) || packet.dropped.is_some() {
                return;
            }
            let took = packet.at.saturating_sub(packet.sent_at);
            wire.lock().unwrap().push(Wire {
                at: packet.at.as_secs_f64(),
                queued: took.saturating_sub(DELAY).as_secs_f64(),
                bits: ((packet.contents.len() + HEADERS) * 8) as f64,
                port: packet.src.port(),
            });
        });
    }

    fn call(&mut self, port: u16) {
        let address = |side: usize| -> SocketAddr {
            let host = [[10, 0, 0, 1], [10, 0, 0, 2]][side];
            SocketAddr::new(host.into(), port)
        };
        let runtime = |side: usize| -> Arc<dyn Runtime> { self.world.runtime(self.nodes[side]) };
        let people = [0, 1].map(|side| Person::generate(&runtime(side)));
        let endpoints = [0, 1].map(|side| {
            let config = EndpointConfig {
                window: self.window,
                rare_acks: self.rare_acks,
                ..EndpointConfig::peer(SocketAddr::new([0, 0, 0, 0].into(), port))
            };
            Endpoint::bind(runtime(side), config).unwrap()
        });
        let params = |this: usize| SessionParams {
            endpoint: endpoints[this].clone(),
            secret: SessionSecret::from_bytes([9; 32]),
            call_id: [7; 16],
            local: LocalDevice {
                keys: Arc::clone(&people[this].keys),
                certificate: people[this].certificate.clone(),
            },
            remote: RemoteDevice {
                user: people[1 - this].user,
                device: people[1 - this].keys.id(),
                noise_static: people[1 - this].keys.noise_public(),
            },
            config: self.config,
        };
        let sessions = [Session::caller(params(0)), Session::callee(params(1))];
        for (side, session) in sessions.iter().enumerate() {
            session
                .add_path(PathKind::Direct, address(1 - side))
                .unwrap();
            session.open_media(MediaPermit::on_accept([7; 16])).unwrap();
        }
        let call = Call {
            port,
            sessions,
            _endpoints: endpoints,
            heard: Arc::default(),
            estimates: Arc::default(),
        };
        let clock = self.world.runtime(self.nodes[1]);
        let (session, heard) = (call.sessions[1].clone(), Arc::clone(&call.heard));
        drop(self.world.spawn(self.nodes[1], async move {
            while let Some(packet) = session.recv_media().await {
                let at = clock.elapsed();
                let stamp: [u8; 8] = packet.payload[..8].try_into().unwrap();
                let sent = Duration::from_nanos(u64::from_be_bytes(stamp));
                heard.lock().unwrap().push(Heard {
                    at: at.as_secs_f64(),
                    took: at.saturating_sub(sent).as_secs_f64(),
                    flow: packet.flow,
                });
            }
        }));
        for side in 0..2 {
            self.send(side, &call.sessions[side], VOICE);
        }
        if self.picture {
            self.send(0, &call.sessions[0], VIDEO);
        }
        if self.his_picture {
            self.send(1, &call.sessions[1], VIDEO);
        }
        let clock = self.world.runtime(self.nodes[0]);
        let (session, log) = (call.sessions[0].clone(), Arc::clone(&call.estimates));
        drop(self.world.spawn(self.nodes[0], async move {
            let mut watch = session.watch_estimate();
            while watch.changed().await.is_ok() {
                let estimate = *watch.borrow_and_update();
                let at = clock.elapsed().as_secs_f64();
                log.lock().unwrap().push((at, estimate));
            }
        }));
        self.calls.push(call);
    }

    /// `side` sends a flow from now on.
    fn send(&self, side: usize, session: &Session, flow: u64) {
        let world = self.world.runtime(self.nodes[side]);
        let clock: Arc<dyn Runtime> = world.clone();
        let session = session.clone();
        let video_bps = self.video_bps;
        drop(self.world.spawn(self.nodes[side], async move {
            let estimate = session.watch_estimate();
            let mut at = clock.now();
            while session.end().is_none() {
                let stamp = u64::try_from(world.elapsed().as_nanos()).unwrap();
                let send = |bytes: usize, priority| {
                    let mut payload = vec![0; bytes.max(8)];
                    payload[..8].copy_from_slice(&stamp.to_be_bytes());
                    let payload = Bytes::from(payload);
                    // Refused until the path is up; the counters tell.
                    let sent = session.send_media(flow, payload, priority, clock.now() + EXPIRY);
                    assert!(matches!(sent, Ok(()) | Err(SendMediaError::NoPath)));
                };
                if flow == VOICE {
                    send(VOICE_BYTES, Priority::Audio);
                    at += VOICE_EVERY;
                } else {
                    let follows = estimate.borrow().map_or(video_bps, |estimate| {
                        estimate.target_bps.saturating_sub(BESIDE_VIDEO)
                    });
                    let frame = follows.min(video_bps) as f64 * VIDEO_EVERY.as_secs_f64() / 8.0;
                    // Headers are part of what the estimate allows.
                    let mut left = (frame * 0.95) as usize;
                    while left > 0 {
                        send(left.min(VIDEO_BYTES), Priority::Video);
                        left -= left.min(VIDEO_BYTES);
                    }
                    at += VIDEO_EVERY;
                }
                clock.sleep_until(at).await;
            }
        }));
    }

    /// Alice's household sends so much beside the call, for `time`.
    fn others(&self, bits_per_second: u64, time: Duration) {
        let clock: Arc<dyn Runtime> = self.world.runtime(self.nodes[0]);
        drop(self.world.spawn(self.nodes[0], async move {
            let udp = Udp::bind(&*clock, "0.0.0.0:7000".parse().unwrap()).unwrap();
            let end = clock.now() + time;
            let mut at = clock.now();
            let gap = secs(1200.0 * 8.0 / bits_per_second as f64);
            while at < end {
                udp.send("10.0.0.2:7000".parse().unwrap(), &[0; 1172])
                    .unwrap();
                at += gap;
                clock.sleep_until(at).await;
            }
        }));
    }

    fn run(&self, seconds: f64) {
        self.world.run_for(secs(seconds)).unwrap();
    }

    fn stats(&self) -> SessionStats {
        self.calls[0].sessions[0].stats()
    }

    /// Bits per second of a call that arrived between the two.
    fn carried(&self, call: usize, from: f64, to: f64) -> f64 {
        let port = self.calls[call].port;
        let wire = self.wire.lock().unwrap();
        let ours = wire
            .iter()
            .filter(|one| one.port == port && one.at >= from && one.at < to);
        ours.map(|one| one.bits).sum::<f64>() / (to - from)
    }

    /// Seconds in the queue: of 100 packets of the call, the fifth worst.
    fn queue_p95(&self, from: f64, to: f64) -> f64 {
        let port = self.calls[0].port;
        let wire = self.wire.lock().unwrap();
        let mut queued: Vec<f64> = wire
            .iter()
            .filter(|one| one.port == port && one.at >= from && one.at < to)
            .map(|one| one.queued)
            .collect();
        queued.sort_by(f64::total_cmp);
        queued[queued.len() * 95 / 100]
    }

    /// The longest that a voice packet took, of those that came between the two, in seconds.
    fn voice_took(&self, from: f64, to: f64) -> f64 {
        let heard = self.calls[0].heard.lock().unwrap();
        let voice = heard
            .iter()
            .filter(|one| one.flow == VOICE && one.at >= from && one.at < to);
        voice.map(|one| one.took).fold(0.0, f64::max)
    }

    /// Voice packets that came between the two, of those that should have.
    fn voice_share(&self, from: f64, to: f64) -> f64 {
        let heard = self.calls[0].heard.lock().unwrap();
        let voice = heard
            .iter()
            .filter(|one| one.flow == VOICE && one.at >= from && one.at < to);
        voice.count() as f64 * VOICE_EVERY.as_secs_f64() / (to - from)
    }

    fn trace(&self) {
        let mut last = -1.0;
        for (at, estimate) in self.calls[0].estimates.lock().unwrap().iter() {
            if at - last >= 0.2
                && let Some(estimate) = estimate
            {
                last = *at;
                eprintln!(
                    "{at:6.2} capacity {:8} target {:8} queue {:4} ms lost {} permille",
                    estimate.capacity_bps,
                    estimate.target_bps,
                    estimate.queue_delay.as_millis(),
                    estimate.lost_permille,
                );
            }
        }
    }

    fn check(&self, bar: &str, holds: bool) {
        if !holds {
            self.trace();
        }
        assert!(
            holds,
            "{bar}; seed {}, {:?}",
            self.world.seed(),
            self.window
        );
    }
}

fn each(play: impl Fn(u64, CongestionWindow)) {
    for (seed, window) in RUNS {
        play(seed, window);
    }
}

fn off() -> SessionConfig {
    SessionConfig {
        estimation: false,
        ..SessionConfig::default()
    }
}

/// Share of a line that is used from the tenth second on, and the queue there.
fn steady(
    seed: u64,
    window: CongestionWindow,
    config: SessionConfig,
    conditions: &Conditions,
) -> (Scene, f64, f64) {
    let mut scene = Scene::new(seed, window, config);
    scene.uplink(conditions.clone());
    scene.watch();
    scene.call(5000);
    scene.run(30.0);
    let rate = conditions.rate.unwrap().bits_per_second as f64;
    let used = scene.carried(0, 10.0, 30.0) / rate;
    let queue = scene.queue_p95(10.0, 30.0);
    eprintln!(
        "{used:.3} of {rate} used, queue p95 {:.0} ms",
        queue * 1000.0
    );
    (scene, used, queue)
}

#[test]
fn a_bloated_line_of_500_kbit_is_used_with_a_short_queue() {
    each(|seed, window| {
        // Two seconds of queue.
        let (scene, used, queue) = steady(
            seed,
            window,
            SessionConfig::default(),
            &line(500_000, 125_000),
        );
        scene.check("85 % of the line are used", used >= 0.85);
        scene.check("the queue is under 80 ms", queue < 0.080);
        scene.check("the voice is whole", scene.voice_share(10.0, 30.0) > 0.99);
    });
}

#[test]
fn without_the_estimate_a_bloated_line_is_full() {
    for window in WINDOWS {
        let (_scene, _used, queue) = steady(1, window, off(), &line(500_000, 125_000));
        assert!(queue > 0.5, "{queue}");
    }
}

#[test]
fn lines_of_other_widths_are_used_too() {
    // Nothing is drawn by chance here but the keys.
    for window in WINDOWS {
        for rate in [300_000, 1_000_000, 1_800_000] {
            let (scene, used, queue) =
                steady(1, window, SessionConfig::default(), &line(rate, 125_000));
            scene.check("85 % of the line are used", used >= 0.85);
            scene.check("the queue is under 100 ms", queue < 0.100);
        }
    }
}

/// 2 Mbit/s, 400 kbit/s after 10 s, 2 Mbit/s after 20 s.
fn drop_of_capacity(seed: u64, window: CongestionWindow, config: SessionConfig) -> Scene {
    let mut scene = Scene::new(seed, window, config);
    scene.uplink(line(2_000_000, 75_000));
    scene.watch();
    scene.call(5000);
    scene.run(10.0);
    scene.uplink(line(400_000, 75_000));
    scene.run(10.0);
    scene.uplink(line(2_000_000, 75_000));
    scene.run(15.0);
    let (drained, late) = (scene.queue_p95(11.5, 20.0), scene.voice_took(13.0, 20.0));
    eprintln!(
        "queue p95 {:.0} ms from 1.5 s on; voice {:.0} ms at worst, {:.0} ms after 1.5 s, {:.0} ms after 3 s; {:.2}, \
         {:.2}, {:.2} used",
        drained * 1000.0,
        scene.voice_took(10.0, 11.5) * 1000.0,
        scene.voice_took(11.5, 20.0) * 1000.0,
        late * 1000.0,
        scene.carried(0, 5.0, 10.0) / 2e6,
        scene.carried(0, 13.0, 20.0) / 400e3,
        scene.carried(0, 26.0, 35.0) / 2e6,
    );
    scene
}

#[test]
fn a_drop_of_capacity_under_full_load_is_over_in_a_second_and_a_half() {
    each(|seed, window| {
        let scene = drop_of_capacity(seed, window, SessionConfig::default());
        scene.check("the queue is drained", scene.queue_p95(11.5, 12.0) < 0.080);
        scene.check("and stays so", scene.queue_p95(11.5, 20.0) < 0.080);
        scene.check("the voice is back", scene.voice_took(13.0, 20.0) < 0.300);
        scene.check("it was never cut", scene.voice_share(9.0, 35.0) > 0.995);
        let stats = scene.calls[0].sessions[1].stats();
        scene.check("nothing of it was lost", stats.flows[&VOICE].lost == 0);
        let used = scene.carried(0, 13.0, 20.0) / 400e3;
        scene.check("what is left is used", used >= 0.85);
        let after = scene.carried(0, 26.0, 35.0) / 2e6;
        scene.check("and what comes back", after >= 0.85);
    });
}

#[test]
fn without_the_estimate_a_drop_of_capacity_buries_the_voice() {
    for window in WINDOWS {
        let scene = drop_of_capacity(1, window, off());
        assert!(scene.queue_p95(11.5, 20.0) > 0.5);
        assert!(scene.voice_took(13.0, 20.0) > 0.3);
    }
}

/// Half a line is used both ways, which then becomes a fifth of what it was both ways: how late the voice is at worst, in
/// seconds, and whether all of it came.
fn drop_both_ways(seed: u64, window: CongestionWindow, alert: bool) -> (Scene, f64, f64) {
    let config = SessionConfig {
        alert,
        ..SessionConfig::default()
    };
    let mut scene = Scene::new(seed, window, config);
    scene.his_picture = true;
    scene.video_bps = 1_000_000;
    // A queue of a second and a half, later.
    scene.both_ways(&line(2_000_000, 75_000));
    scene.watch();
    scene.call(5000);
    scene.run(10.0);
    scene.both_ways(&line(400_000, 75_000));
    scene.run(6.0);
    let (worst, late) = (scene.voice_took(10.0, 16.0), scene.voice_took(11.0, 16.0));
    let used = scene.carried(0, 12.0, 16.0) / 400e3;
    eprintln!(
        "alert {alert}: voice {:.0} ms at worst, {:.0} ms after a second, {used:.2} used",
        worst * 1000.0,
        late * 1000.0
    );
    (scene, worst, used)
}

/// Reports and what they are about stand in queues then: who waits for them to say so has filled them.
#[test]
fn a_drop_both_ways_is_noticed_by_reports_that_do_not_come() {
    each(|seed, window| {
        let (scene, worst, used) = drop_both_ways(seed, window, true);
        scene.check("the voice is under 270 ms late", worst < 0.270);
        scene.check("what is left is used", used >= 0.75);
        let voice = scene.voice_share(9.0, 16.0);
        scene.check("nothing of it was lost", voice > 0.98);
    });
    let (_scene, worst, _used) = drop_both_ways(1, CongestionWindow::Follows, false);
    assert!(worst > 0.33, "{worst}");
}

#[test]
fn random_loss_without_a_queue_costs_no_rate() {
    each(|seed, window| {
        for loss in [0.1, 0.2] {
            let mut scene = Scene::new(seed, window, SessionConfig::default());
            scene.uplink(Conditions {
                delay: DELAY / 2,
                loss: Loss::Random(loss),
                ..Conditions::default()
            });
            scene.watch();
            scene.call(5000);
            scene.run(25.0);
            let arrives = scene.carried(0, 10.0, 25.0);
            let sent = arrives / (1.0 - loss);
            eprintln!(
                "{loss}: {:.0} kbit/s sent, {:.0} arrive",
                sent / 1e3,
                arrives / 1e3
            );
            // The picture's 2 Mbit/s and the voice's, with some headers.
            scene.check("all of it is sent", sent >= 2.0e6);
        }
    });
}

#[test]
fn others_on_the_line_take_their_share_and_leave_it_again() {
    each(|seed, window| {
        let mut scene = Scene::new(seed, window, SessionConfig::default());
        scene.uplink(line(2_000_000, 125_000));
        scene.watch();
        scene.call(5000);
        scene.run(10.0);
        scene.others(1_000_000, secs(15.0));
        scene.run(30.0);
        let beside = scene.carried(0, 14.0, 25.0) / 1e6;
        let alone = scene.carried(0, 32.0, 40.0) / 2e6;
        let queue = scene.queue_p95(12.0, 25.0);
        eprintln!(
            "{beside:.2} of what is left used, queue p95 {:.0} ms, {alone:.2} once alone",
            queue * 1000.0
        );
        scene.check("what is left is used", beside >= 0.80);
        scene.check("the queue is under 150 ms", queue < 0.150);
        scene.check("and all of it once it is free", alone >= 0.85);
        scene.check("the voice is whole", scene.voice_share(10.0, 40.0) > 0.99);
    });
}

#[test]
fn two_calls_share_a_line() {
    for (seed, window) in [(1, CongestionWindow::Follows), (2, TEN_MEGABYTES)] {
        let mut scene = Scene::new(seed, window, SessionConfig::default());
        scene.uplink(line(2_000_000, 125_000));
        scene.watch();
        scene.call(5000);
        scene.run(10.0);
        scene.call(5001);
        scene.run(40.0);
        let share = [0, 1].map(|call| scene.carried(call, 30.0, 50.0) / 2e6);
        let queue = scene.queue_p95(30.0, 50.0);
        eprintln!("{share:.2?} used, queue p95 {:.0} ms", queue * 1000.0);
        scene.check("the line is used", share[0] + share[1] >= 0.85);
        scene.check("neither starves", share[0].min(share[1]) >= 0.2);
        scene.check("the queue is under 150 ms", queue < 0.150);
    }
}

#[test]
fn a_policer_is_obeyed_without_a_queue_to_see() {
    each(|seed, window| {
        let mut scene = Scene::new(seed, window, SessionConfig::default());
        let bits_per_second = 800_000;
        scene.uplink(Conditions {
            delay: DELAY / 2,
            policer: Some(Policer {
                bits_per_second,
                burst_bytes: 8000,
            }),
            ..Conditions::default()
        });
        scene.watch();
        scene.call(5000);
        scene.run(40.0);
        let used = scene.carried(0, 10.0, 40.0) / bits_per_second as f64;
        let voice = scene.voice_share(10.0, 40.0);
        eprintln!("{used:.3} of it used, {voice:.3} of the voice came");
        scene.check("what passes is used", used >= 0.85);
        scene.check("little of the voice is lost", voice >= 0.96);
    });
}

#[test]
fn lost_reports_cost_neither_rate_nor_delay() {
    each(|seed, window| {
        let mut scene = Scene::new(seed, window, SessionConfig::default());
        scene.uplink(line(1_000_000, 125_000));
        let downlink = LinkId::Downlink(scene.nodes[0]);
        let lossy = Conditions {
            delay: DELAY / 2,
            loss: Loss::Random(0.3),
            ..Conditions::default()
        };
        scene.world.set_conditions(downlink, lossy);
        scene.watch();
        scene.call(5000);
        scene.run(40.0);
        let used = scene.carried(0, 10.0, 40.0) / 1e6;
        let queue = scene.queue_p95(10.0, 40.0);
        eprintln!("{used:.3} of it used, queue p95 {:.0} ms", queue * 1000.0);
        scene.check("85 % of the line are used", used >= 0.85);
        scene.check("the queue is under 100 ms", queue < 0.100);
    });
}

#[test]
fn what_is_told_is_what_was_estimated() {
    let mut scene = Scene::new(1, CongestionWindow::Follows, SessionConfig::default());
    scene.uplink(line(500_000, 125_000));
    scene.call(5000);
    scene.run(20.0);
    let stats = scene.stats();
    let told = stats.estimate.unwrap();
    assert!(told.proven);
    assert!((400_000..600_000).contains(&told.capacity_bps), "{told:?}");
    assert_eq!(stats.paths[&stats.active.unwrap()].estimate, Some(told));
    assert_eq!(
        *scene.calls[0].sessions[0].watch_estimate().borrow(),
        Some(told)
    );
    // Bob sends nothing but his voice: nothing is proven there.
    let other = scene.calls[0].sessions[1].stats().estimate.unwrap();
    assert!(!other.proven, "{other:?}");
    let mut without = Scene::new(1, CongestionWindow::Follows, off());
    without.call(5000);
    without.run(2.0);
    assert_eq!(without.stats().estimate, None);
}

/// Packets per second that carry a voice of fifty, and what they take of the line in bits per second.
fn voice_alone(rare_acks: bool, joined_reports: bool) -> (f64, f64) {
    let config = SessionConfig {
        joined_reports,
        ..SessionConfig::default()
    };
    let mut scene = Scene::new(1, CongestionWindow::Follows, config);
    scene.rare_acks = rare_acks;
    scene.picture = false;
    scene.watch();
    scene.call(5000);
    scene.run(12.0);
    let packets = {
        let wire = scene.wire.lock().unwrap();
        let ours = wire.iter().filter(|one| one.at >= 2.0 && one.at < 12.0);
        ours.count() as f64 / 10.0
    };
    (packets, scene.carried(0, 2.0, 12.0))
}

#[test]
fn a_voice_takes_hardly_more_packets_than_it_has() {
    let kinds = [(true, true), (false, true), (true, false), (false, false)];
    // Here both speak at the same moments, so that joined reports leave little to acknowledge apart.
    let [lean, usual_acks, lone_reports, neither] = kinds.map(|(acks, joined)| {
        let (packets, bits) = voice_alone(acks, joined);
        eprintln!(
            "rare acks {acks}, joined reports {joined}: {packets} packets, {bits} bits per second"
        );
        packets
    });
    assert!(lean < 55.0, "{lean}");
    assert!(usual_acks > lean && lone_reports > 65.0 && neither > lone_reports + 15.0);
}

/// A call of the whole engine whose caller's line becomes narrower than voice, reports and acknowledgements together:
/// seconds of queue in the median of the last ten seconds, and the lowest estimate.
fn narrow_voice(seed: u64, estimation: bool) -> (f64, Option<u64>) {
    eprintln!("seed {seed}, estimation {estimation}");
    let bits_per_second = 80_000;
    let plan = plan(seed).configure(move |_name, config| {
        config.upkeep.session.estimation = estimation;
    });
    plan.run(async |pair| {
        pair.talk().await;
        pair.pass(secs(3.0)).await;
        let queue = secs(1.0);
        let conditions = Conditions {
            delay: DELAY / 2,
            rate: Some(Rate::with_queue_time(bits_per_second, queue)),
            ..Conditions::default()
        };
        let link = LinkId::Uplink(pair.alice.node);
        // Packets between the two take a shortcut of their own.
        let short = LinkId::Pair {
            from: pair.alice.node,
            to: pair.bob.node,
        };
        for link in [link, short] {
            pair.stage.world.set_conditions(link, conditions.clone());
        }
        pair.pass(secs(20.0)).await;
        let mut queues = Vec::new();
        for _ in 0..100 {
            pair.pass(secs(0.1)).await;
            let queued = [link, short].map(|link| pair.stage.world.queued_bytes(link));
            queues.push(queued.iter().sum::<usize>() as f64 * 8.0 / bits_per_second as f64);
        }
        queues.sort_by(f64::total_cmp);
        let [alice, _bob] = pair.hang_up().await;
        let network = alice.report.network.unwrap();
        (
            queues[50],
            network.estimate_bps.map(|estimate| estimate.min),
        )
    })
}

#[test]
fn a_voice_that_does_not_fit_gets_smaller_instead_of_late() {
    for seed in [1, 2] {
        let (queue, estimate) = narrow_voice(seed, true);
        eprintln!("queue {:.0} ms, {estimate:?}", queue * 1000.0);
        assert!(queue < 0.15, "{queue}");
        assert!(
            estimate.is_some_and(|estimate| estimate < 80_000),
            "{estimate:?}"
        );
    }
    let (queue, estimate) = narrow_voice(1, false);
    eprintln!("queue {:.0} ms without", queue * 1000.0);
    assert!(queue > 0.5, "{queue}");
    assert_eq!(estimate, None);
}
