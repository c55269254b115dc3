//! `ahoy sim`: the same call as the demonstration's, over a simulated network and in virtual time.
//!
//! Alice calls Bob. All conditions are those of Alice's link, each way; Bob and the supernode sit where the
//! network is ideal, so a condition acts once on the way to Bob, with or without the relay.

use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Mutex,
    time::{Duration, Instant},
};

use ahoy_transport::runtime::{Runtime, RuntimeExt, TokioRuntime};
use serde::Serialize;
use tokio::sync::{oneshot, watch};

use super::pair::{Pair, Place, Script, Stage, write_speech};
use crate::{
    call::Ending,
    cli::{
        Assertion, AssertionFailure, CliError, Exit, Print, SimPlan, junit, print_json, print_line,
    },
    engine::handle::{Event, View},
    report::{Report, summary, write_atomically},
    sim::{Conditions, Fault, LinkId, SimNode, World},
};

/// Setting up over the worst link that still carries a call, and giving one up. Virtual time costs little.
const PATIENCE: Duration = Duration::from_secs(180);
/// How often a line of `--ndjson` tells how things stand.
const SECOND: Duration = Duration::from_secs(1);

// Addresses for documentation (RFC 5737): public ones as far as anybody here can tell.
const SUPERNODE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const CALLER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const CALLEE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// Something that happened, with its time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// Virtual time since the world began, in milliseconds.
    pub at_ms: u64,
    /// What.
    #[serde(flatten)]
    pub what: Happening,
}

/// What the caller's engine told, what was done to the network, and how things stand once a second.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Happening {
    /// The world began.
    Started {
        /// The seed of everything random.
        seed: u64,
    },
    /// Both are registered at the supernode; the caller calls.
    Calling,
    /// The other side rings.
    Ringing,
    /// Both sides agreed.
    Connected,
    /// The first sound of the other side was played.
    FirstAudio,
    /// The caller lost the supernode.
    HomeLost,
    /// The caller is registered again.
    HomeBack,
    /// The caller's link has other conditions from now on.
    LinkChanged,
    /// The supernode died.
    RelayKilled,
    /// How things stand.
    Second {
        /// The path of media, once there is one.
        #[serde(skip_serializing_if = "Option::is_none")]
        path: Option<&'static str>,
        /// Level of the caller's sound, dBFS; absent: silence.
        #[serde(skip_serializing_if = "Option::is_none")]
        level_in_dbfs: Option<f64>,
        /// Level of the other side's sound, dBFS; absent: silence.
        #[serde(skip_serializing_if = "Option::is_none")]
        level_out_dbfs: Option<f64>,
        /// UDP datagrams of the caller so far.
        datagrams: Datagrams,
    },
    /// The call is over.
    Ended {
        /// The caller's report.
        report: Box<Report>,
    },
}

/// UDP datagrams of one node, since the world began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Datagrams {
    /// Sent.
    pub sent: u64,
    /// Received, second copies included.
    pub received: u64,
    /// Sent and dropped on the way, by reason.
    pub dropped: BTreeMap<&'static str, u64>,
}

/// A call that was simulated.
#[derive(Debug, Clone, PartialEq)]
pub struct Simulated {
    /// How it ended for the caller.
    pub ending: Ending,
    /// The caller's report; `cost` is absent.
    pub report: Report,
}

/// Runs the simulation, prints, and checks what was asserted.
///
/// # Errors
/// When an assertion does not hold; when the call did not complete and no assertion speaks of the outcome.
///
/// # Panics
/// Inside a tokio runtime.
pub fn sim(plan: &SimPlan) -> Result<(), CliError> {
    let lines = plan.print == Print::Ndjson;
    let mut printed = Ok(());
    let simulated = simulate(plan, |line| {
        if lines && printed.is_ok() {
            printed = print_ndjson(&line);
        }
    })?;
    printed?;
    let report = &simulated.report;
    match plan.print {
        Print::Summary => {
            let files: Vec<(&str, &Path)> = plan
                .audio_out
                .iter()
                .map(|path| ("heard by Alice", path.as_path()))
                .collect();
            for line in summary(report, &files).lines() {
                print_line(line)?;
            }
            print_line(&format!("seed      {}", plan.seed))?;
        }
        Print::Json => {
            print_json(report)?;
            tracing::info!("seed {}", plan.seed);
        }
        Print::Ndjson => {}
    }
    judge(plan, &simulated)
}

fn print_ndjson(line: &Line) -> Result<(), CliError> {
    let text = serde_json::to_string(line).map_err(CliError::failed)?;
    print_line(&text)
}

/// Checks the assertions, and writes their results where the plan says.
///
/// # Errors
/// As [`sim`].
pub fn judge(plan: &SimPlan, simulated: &Simulated) -> Result<(), CliError> {
    let report = serde_json::to_value(&simulated.report).map_err(CliError::failed)?;
    let results: Vec<(Assertion, Result<(), AssertionFailure>)> = plan
        .assertions
        .iter()
        .map(|assertion| (assertion.clone(), assertion.check(&report)))
        .collect();
    if let Some(path) = &plan.junit {
        let xml = junit(&format!("ahoy sim --seed {}", plan.seed), &results);
        write_atomically(path, xml.as_bytes()).map_err(|error| {
            let path = path.display();
            CliError::failed(format_args!("cannot write {path}: {error}"))
        })?;
    }
    let failures: Vec<String> = results
        .iter()
        .filter_map(|(_assertion, result)| result.as_ref().err().map(ToString::to_string))
        .collect();
    if !failures.is_empty() {
        return Err(CliError::failed(failures.join("\n")));
    }
    let outcome_is_asserted = plan.assertions.iter().any(|it| it.path() == "outcome");
    match Exit::from(simulated.ending) {
        Exit::Done => Ok(()),
        Exit::Failed
        | Exit::Usage
        | Exit::NoRoute
        | Exit::Authentication
        | Exit::Media
        | Exit::TimeLimit
            if outcome_is_asserted =>
        {
            Ok(())
        }
        exit @ (Exit::Failed
        | Exit::Usage
        | Exit::NoRoute
        | Exit::Authentication
        | Exit::Media
        | Exit::TimeLimit) => {
            let told = format!(
                "the call did not complete: {} (seed {})",
                simulated.report.reason, plan.seed
            );
            Err(CliError::new(exit, told))
        }
    }
}

/// Simulates the call; `observe` sees what happens, in order.
///
/// # Errors
/// When there was no call at all, or its end never came.
///
/// # Panics
/// Inside a tokio runtime.
pub fn simulate(plan: &SimPlan, observe: impl FnMut(Line)) -> Result<Simulated, CliError> {
    let scratch = Scratch::new()?;
    let script = script(plan, &scratch)?;
    let world = World::new(plan.seed);
    let node = |name: &str, ip: Ipv4Addr| world.add_node(name, &[IpAddr::from(ip)]);
    let nodes = Nodes {
        supernode: node("supernode", SUPERNODE),
        caller: node("Alice", CALLER),
        callee: node("Bob", CALLEE),
    };
    if let Some((_at_once, conditions)) = plan.conditions.first() {
        world.set_link(nodes.caller, conditions.clone());
    }
    let place = |node, ip: Ipv4Addr, port| Place {
        runtime: world.runtime(node),
        listen: SocketAddr::from((ip, port)),
    };
    let stage = Stage {
        supernode: place(nodes.supernode, SUPERNODE, crate::supernode::DEFAULT_PORT),
        caller: place(nodes.caller, CALLER, 0),
        callee: place(nodes.callee, CALLEE, 0),
        one_machine: false,
    };
    let log = Log {
        world: &world,
        observe: Mutex::new(observe),
    };
    log.write(Happening::Started { seed: plan.seed });
    let (ending, report) = world
        .block_on(nodes.caller, play(plan, &script, &stage, nodes, &log))
        .map_err(CliError::failed)??;
    log.write(Happening::Ended {
        report: Box::new(report.clone()),
    });
    Ok(Simulated { ending, report })
}

#[derive(Debug, Clone, Copy)]
struct Nodes {
    supernode: SimNode,
    caller: SimNode,
    callee: SimNode,
}

fn script(plan: &SimPlan, scratch: &Scratch) -> Result<Script, CliError> {
    let spoken = match &plan.audio_in {
        Some(path) => path.clone(),
        None => {
            let path = scratch.0.join("said.wav");
            write_speech(&path, plan.talk)?;
            path
        }
    };
    Ok(Script {
        spoken,
        heard_by_caller: match &plan.audio_out {
            Some(path) => path.clone(),
            None => scratch.0.join("heard-by-alice.wav"),
        },
        heard_by_callee: scratch.0.join("heard-by-bob.wav"),
        talk: plan.talk,
        patience: PATIENCE,
        path: plan.path,
        bitrate_bps: plan.bitrate_bps,
        ptime_millis: plan.ptime_millis,
        measure_cost: false,
    })
}

/// The call, and beside it whatever the plan does to the network.
async fn play<O: FnMut(Line)>(
    plan: &SimPlan,
    script: &Script,
    stage: &Stage,
    nodes: Nodes,
    log: &Log<'_, O>,
) -> Result<(Ending, Report), CliError> {
    let pair = Pair::start(stage, script).await?;
    log.write(Happening::Calling);
    let view = pair.caller().view();
    let (first_audio, heard) = oneshot::channel();
    let mut first_audio = Some(first_audio);
    let call = pair.call(stage, script, |event| {
        if let Event::FirstAudio { at, .. } = event
            && let Some(told) = first_audio.take()
        {
            // Nobody listens once the call is over.
            told.send(*at).unwrap_or_default();
        }
        if let Some(what) = happening(event) {
            log.write(what);
        }
    });
    let runtime = &*stage.caller.runtime;
    let direction = direct(runtime, nodes, cues(plan), heard, view, log);
    tokio::select! {
        biased;
        played = call => played,
        never = direction => match never {},
    }
}

fn happening(event: &Event) -> Option<Happening> {
    match event {
        Event::Ringing { .. } => Some(Happening::Ringing),
        Event::Connected { .. } => Some(Happening::Connected),
        Event::FirstAudio { .. } => Some(Happening::FirstAudio),
        Event::HomeLost { .. } => Some(Happening::HomeLost),
        Event::HomeBack { .. } => Some(Happening::HomeBack),
        // The end comes with its report, later. The rest does not happen to a caller.
        Event::Ready { .. }
        | Event::Incoming { .. }
        | Event::Request { .. }
        | Event::Ended { .. }
        | Event::Failed { .. } => None,
    }
}

/// What is done to the network at a time after the first sound.
enum Cue {
    Link(Conditions),
    KillRelay,
}

/// In the order of their times.
fn cues(plan: &SimPlan) -> VecDeque<(Duration, Cue)> {
    let links = plan.conditions.iter().skip(1);
    let mut cues: Vec<(Duration, Cue)> = links
        .map(|(at, conditions)| (*at, Cue::Link(conditions.clone())))
        .chain(plan.kill_relay_at.map(|at| (at, Cue::KillRelay)))
        .collect();
    cues.sort_by_key(|(at, _cue)| *at);
    cues.into()
}

/// Carries the cues out, and tells every second how things stand.
async fn direct<O: FnMut(Line)>(
    runtime: &dyn Runtime,
    nodes: Nodes,
    mut cues: VecDeque<(Duration, Cue)>,
    mut first_audio: oneshot::Receiver<Instant>,
    view: watch::Receiver<View>,
    log: &Log<'_, O>,
) -> Infallible {
    let mut second = runtime.now() + SECOND;
    let mut start = None;
    loop {
        let cue_at = start
            .zip(cues.front())
            .map(|(start, (after, _cue)): (Instant, _)| start + *after);
        let next = cue_at.map_or(second, |at| at.min(second));
        tokio::select! {
            biased;
            Ok(at) = &mut first_audio, if start.is_none() => {
                start = Some(at);
                continue;
            }
            () = runtime.sleep_until(next) => {}
        }
        if cue_at.is_some_and(|at| at <= next)
            && let Some((_after, cue)) = cues.pop_front()
        {
            carry_out(cue, nodes, log);
        }
        if second <= next {
            second += SECOND;
            log.write(standing(&view, log.world, nodes.caller));
        }
    }
}

fn carry_out<O: FnMut(Line)>(cue: Cue, nodes: Nodes, log: &Log<'_, O>) {
    let world = log.world;
    // As events of their own: a node must not die while one of its tasks runs.
    match cue {
        Cue::Link(conditions) => {
            for link in [LinkId::Uplink(nodes.caller), LinkId::Downlink(nodes.caller)] {
                let conditions = conditions.clone();
                world.at(world.elapsed(), Fault::Conditions { link, conditions });
            }
            log.write(Happening::LinkChanged);
        }
        Cue::KillRelay => {
            world.at(world.elapsed(), Fault::Kill(nodes.supernode));
            log.write(Happening::RelayKilled);
        }
    }
}

fn standing(view: &watch::Receiver<View>, world: &World, caller: SimNode) -> Happening {
    let view = view.borrow();
    let call = view.call.as_ref();
    let level = |dbfs: f32| {
        dbfs.is_finite()
            .then(|| (f64::from(dbfs) * 10.0).round() / 10.0)
    };
    let stats = world.node_stats(caller);
    Happening::Second {
        path: call.and_then(|call| call.path),
        level_in_dbfs: call.and_then(|call| level(call.level_in)),
        level_out_dbfs: call.and_then(|call| level(call.level_out)),
        datagrams: Datagrams {
            sent: stats.sent,
            received: stats.delivered,
            dropped: stats
                .dropped
                .iter()
                .map(|(reason, count)| (reason.as_str(), *count))
                .collect(),
        },
    }
}

/// Puts the time on what happens.
struct Log<'a, O> {
    world: &'a World,
    observe: Mutex<O>,
}

impl<O: FnMut(Line)> Log<'_, O> {
    fn write(&self, what: Happening) {
        let at_ms = u64::try_from(self.world.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut observe = self
            .observe
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        observe(Line { at_ms, what });
    }
}

/// A folder that goes when the simulation is over. Its name does not reach the simulated world.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, CliError> {
        let stamp = u64::from_be_bytes(TokioRuntime.random_array());
        let path = std::env::temp_dir().join(format!("ahoy-sim-{stamp:016x}"));
        let cannot = |error: io::Error| {
            let path = path.display();
            CliError::failed(format_args!("cannot make the folder {path}: {error}"))
        };
        fs::create_dir(&path).map_err(cannot)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, folder = %self.0.display(), "a temporary folder stays behind");
        }
    }
}
