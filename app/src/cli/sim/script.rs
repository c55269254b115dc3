//! What happens to the simulated network and when: one grammar for profiles, `--fault` and `--trace`.
//!
//! A statement is a line, `TIME WHAT [for DURATION]`. Times count from the first sound; what stands at 0 holds
//! from the very beginning. [`GRAMMAR`] is the whole of it, as `--help` shows it.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    cli::values,
    sim::{Conditions, Loss, NatKind, Rate},
};

/// The grammar, for people.
pub(super) const GRAMMAR: &str = "\
Faults and traces: one statement a line, TIME WHAT [for TIME]. TIME counts from the
first sound (5, 0.5s, 500ms, 2m); what stands at 0 holds from the beginning. # begins
a comment. Names: alice (calls), bob (answers), relay (the supernode of both).
  10 loss=5 burst=3 delay=80 jitter=20 rate=400k queue=300 reorder=1 dup=1
                           Alice's link, both ways, in the units of the flags; what is
                           not named stays as it is; rate=none ends the bottleneck
  10 bob up rate=1M        somebody else's link, one way only: up to or down from the
                           network
  5 cut direct             no packet between Alice and Bob (alice-bob); others: relay,
                           alice, bob, bob-relay, and one way alone: alice->bob
  9 mend direct            ends that; or say at once: 5 cut direct for 4s
  5 unplug alice           the carrier is lost, and the device knows; plug
  5 reboot alice-router    its bindings are gone; with `for 3s` it is off meanwhile
  5 renumber alice         another address, the old one is gone; or alice-router
  5 move alice cgnat       another network behind that kind of NAT; default: the same
  5 block-udp bob          Bob's router lets no UDP pass; allow-udp
  5 suspend alice for 20s  the lid is shut: nothing runs, nothing comes; resume
  5 kill relay             the supernode dies; restart relay
  20 repeat                last in a file: all of it again, every 20 s";

/// Default queue before a bottleneck: what a good router has.
const DEFAULT_QUEUE: Duration = Duration::from_millis(100);
/// Distance by which a reordered packet is held back.
const REORDER_BY: Duration = Duration::from_millis(15);
/// Steps of one call: ten minutes of a trace with an entry every 20 ms.
const MAX_STEPS: usize = 30_000;
/// The longest trace file.
pub(super) const MAX_TRACE_BYTES: u64 = 4 * 1024 * 1024;

/// Who something happens to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Party {
    /// The caller.
    Alice,
    /// The callee.
    Bob,
    /// Their supernode.
    Relay,
}

/// A way that packets take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The link of one party, whoever is at the other end.
    Line(Party),
    /// Between two parties, in both directions.
    Between(Party, Party),
    /// From one party to another.
    OneWay {
        /// The sender.
        from: Party,
        /// The receiver.
        to: Party,
    },
}

/// What is done to the network.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// New conditions for a link, in the directions given.
    Link {
        /// Whose.
        who: Party,
        /// Towards the network.
        up: Option<Conditions>,
        /// From the network.
        down: Option<Conditions>,
    },
    /// Nothing passes there.
    Cut(Way),
    /// Packets pass again.
    Mend(Way),
    /// The link loses its carrier.
    Unplug(Party),
    /// The carrier is back.
    Plug(Party),
    /// The party's router forgets all bindings.
    Reboot(Party),
    /// The party's router is switched off.
    RouterDown(Party),
    /// And on again.
    RouterUp(Party),
    /// The party's router lets no UDP pass.
    BlockUdp(Party),
    /// It does again.
    AllowUdp(Party),
    /// The party has another address in the same network.
    Renumber(Party),
    /// The party's router has another outside address.
    RenumberRouter(Party),
    /// The party is in another network, of this kind or of the kind that it was in.
    Move(Party, Option<NatKind>),
    /// The party's device falls asleep.
    Suspend(Party),
    /// And wakes up.
    Resume(Party),
    /// The supernode dies.
    KillRelay,
    /// The supernode starts again.
    RestartRelay,
}

/// Something that is done to the network at a time.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// After the first sound; zero: before anything begins.
    pub at: Duration,
    /// What.
    pub action: Action,
    /// The same as it was written.
    pub text: String,
}

/// What changes about a link; what is absent stays.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct LinkChange {
    pub(super) loss: Option<f64>,
    pub(super) burst: Option<f64>,
    pub(super) delay: Option<Duration>,
    pub(super) jitter: Option<Duration>,
    /// The inner one is absent where the bottleneck ends.
    pub(super) rate: Option<Option<u64>>,
    pub(super) queue: Option<Duration>,
    pub(super) reorder: Option<f64>,
    pub(super) dup: Option<f64>,
}

impl LinkChange {
    /// Takes one `KEY=VALUE`.
    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "loss" => self.loss = Some(values::percent(value)?),
            "burst" => self.burst = Some(values::burst(value)?),
            "delay" => self.delay = Some(values::millis(value)?),
            "jitter" => self.jitter = Some(values::millis(value)?),
            "rate" if value == "none" => self.rate = Some(None),
            "rate" => self.rate = Some(Some(values::rate(value)?)),
            "queue" => self.queue = Some(values::millis(value)?),
            "reorder" => self.reorder = Some(values::percent(value)?),
            "dup" => self.dup = Some(values::percent(value)?),
            other => {
                return Err(format!(
                    "{other:?} is nothing that a link has: expected loss, burst, delay, jitter, rate, \
                     queue, reorder or dup"
                ));
            }
        }
        Ok(())
    }

    /// This, and of `older` what this says nothing about.
    fn over(self, older: Self) -> Self {
        Self {
            // A loss alone means single packets, also over bursts.
            loss: self.loss.or(older.loss),
            burst: self.burst.or(older.burst.filter(|_| self.loss.is_none())),
            delay: self.delay.or(older.delay),
            jitter: self.jitter.or(older.jitter),
            rate: self.rate.or(older.rate),
            // Where the bottleneck ends its queue does.
            queue: self
                .queue
                .or(older.queue.filter(|_| self.rate != Some(None))),
            reorder: self.reorder.or(older.reorder),
            dup: self.dup.or(older.dup),
        }
    }

    /// What holds of a link about which just this was said.
    ///
    /// # Errors
    /// A sentence, where it makes no sense.
    pub(super) fn conditions(&self) -> Result<Conditions, String> {
        let loss = self.loss.unwrap_or(0.0);
        let bursts = self.burst.filter(|burst| *burst > 1.0);
        let rate = match (self.rate.flatten(), self.queue) {
            (Some(bps), queue) => Some(Rate::with_queue_time(bps, queue.unwrap_or(DEFAULT_QUEUE))),
            (None, Some(_)) => {
                let why = "a queue needs a bottleneck: add --rate, or rate= in a trace";
                return Err(String::from(why));
            }
            (None, None) => None,
        };
        Ok(Conditions {
            delay: self.delay.unwrap_or_default(),
            jitter: self.jitter.unwrap_or_default(),
            loss: match bursts {
                _ if loss == 0.0 => Loss::None,
                Some(_) if loss >= 1.0 => {
                    let why = "bursts that lose everything never end: leave out the burst";
                    return Err(String::from(why));
                }
                Some(burst) => Loss::bursts(loss, burst),
                None => Loss::Random(loss),
            },
            reorder: self.reorder.unwrap_or(0.0),
            reorder_by: REORDER_BY,
            duplicate: self.dup.unwrap_or(0.0),
            rate,
            ..Conditions::default()
        })
    }
}

/// What a line says, before it is known what held until then.
#[derive(Debug, Clone, PartialEq)]
enum What {
    Link {
        who: Party,
        up: bool,
        down: bool,
        change: LinkChange,
    },
    Act(Action),
    Repeat,
}

/// One line, read but not yet put in its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    at: Duration,
    what: What,
    /// How long it lasts, where that was said.
    lasting: Option<Duration>,
    text: String,
}

impl Statement {
    /// When it happens, after the first sound.
    pub(super) fn at(&self) -> Duration {
        self.at
    }

    /// As it was written.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Lays `over` over what the statement says about Alice's link.
    pub(super) fn overlay(&mut self, over: LinkChange) {
        if let What::Link {
            who: Party::Alice,
            change,
            ..
        } = &mut self.what
        {
            *change = over.over(*change);
        }
    }

    /// Something that a flag of its own says.
    pub(super) fn of(at: Duration, action: Action, text: &str) -> Self {
        Self {
            at,
            what: What::Act(action),
            lasting: None,
            text: format!("{} {text}", at.as_secs_f64()),
        }
    }
}

/// Reads one statement, as after `--fault`.
pub(super) fn statement(text: &str) -> Result<Statement, String> {
    let statement = parse(text)?;
    match statement.what {
        What::Repeat => Err(String::from("repeat is for the last line of a trace file")),
        What::Link { .. } | What::Act(_) => Ok(statement),
    }
}

/// Reads a file of statements.
///
/// # Errors
/// A sentence with the number of the line.
pub(super) fn trace(text: &str) -> Result<Vec<Statement>, String> {
    let mut statements: Vec<Statement> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let fail = |why: &str| format!("line {}: {why}", number + 1);
        let statement = parse(line).map_err(|why| fail(&why))?;
        if statements
            .last()
            .is_some_and(|last| last.what == What::Repeat)
        {
            return Err(fail("nothing can follow repeat"));
        }
        if statement.what == What::Repeat {
            let latest = statements.iter().map(|statement| statement.at).max();
            if latest.is_none_or(|latest| latest > statement.at) || statement.at.is_zero() {
                return Err(fail("repeat must come after all that is to be repeated"));
            }
        }
        statements.push(statement);
    }
    if statements.is_empty() {
        return Err(String::from("there is no statement in it"));
    }
    Ok(statements)
}

/// Lines that are known to be statements.
pub(super) fn known(text: &str) -> Vec<Statement> {
    trace(text).unwrap_or_default()
}

const VERBS: &str = "expected KEY=VALUE such as loss=5, or one of cut, mend, unplug, plug, reboot, renumber, \
                     move, block-udp, allow-udp, suspend, resume, kill, restart, repeat";

fn parse(text: &str) -> Result<Statement, String> {
    let mut words: Vec<&str> = text.split_whitespace().collect();
    let text = words.join(" ");
    let quoted = |why: String| format!("{text:?}: {why}");
    if words.is_empty() {
        return Err(quoted(String::from(
            "expected TIME WHAT, such as '5 cut direct'",
        )));
    }
    let at = time(words.remove(0)).map_err(quoted)?;
    let lasting = match words.iter().position(|word| *word == "for") {
        Some(place) => {
            let [duration] = words[place + 1..] else {
                return Err(quoted(String::from(
                    "after for stands a time, such as 3s, and no more",
                )));
            };
            let duration = time(duration).map_err(quoted)?;
            if duration.is_zero() {
                return Err(quoted(String::from("that lasts for no time at all")));
            }
            words.truncate(place);
            Some(duration)
        }
        None => None,
    };
    let what = what(&words).map_err(quoted)?;
    if lasting.is_some() && undone(&what).is_none() {
        let why = "only cut, unplug, reboot, block-udp, suspend and kill can be for a time";
        return Err(quoted(String::from(why)));
    }
    Ok(Statement {
        at,
        what,
        lasting,
        text,
    })
}

/// A time from zero on: 5, 0.5s, 500ms, 2m.
fn time(text: &str) -> Result<Duration, String> {
    let (number, factor) = [("ms", 0.001), ("s", 1.0), ("m", 60.0)]
        .into_iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)))
        .unwrap_or((text, 1.0));
    // A day is longer than any call here.
    match number.parse::<f64>() {
        Ok(value) if (0.0..=86_400.0).contains(&(value * factor)) => {
            Ok(Duration::from_secs_f64(value * factor))
        }
        Ok(_) | Err(_) => Err(format!(
            "{text:?} is no time: expected 5, 0.5s, 500ms or 2m"
        )),
    }
}

fn what(words: &[&str]) -> Result<What, String> {
    let Some((verb, rest)) = words.split_first() else {
        return Err(String::from(VERBS));
    };
    let act = |action| Ok(What::Act(action));
    match *verb {
        "cut" => act(Action::Cut(way(one(rest)?)?)),
        "mend" => act(Action::Mend(way(one(rest)?)?)),
        "unplug" => act(Action::Unplug(party(one(rest)?)?)),
        "plug" => act(Action::Plug(party(one(rest)?)?)),
        "reboot" => {
            let name = one(rest)?.strip_suffix("-router");
            let name = name.ok_or("only a router reboots: alice-router or bob-router")?;
            act(Action::Reboot(person(name)?))
        }
        "renumber" => match one(rest)?.strip_suffix("-router") {
            Some(name) => act(Action::RenumberRouter(person(name)?)),
            None => act(Action::Renumber(person(one(rest)?)?)),
        },
        "move" => match rest {
            [name] => act(Action::Move(person(name)?, None)),
            [name, kind] => act(Action::Move(person(name)?, Some(kind.parse()?))),
            [] | [_, _, _, ..] => Err(String::from("expected move WHO [KIND of NAT]")),
        },
        "block-udp" => act(Action::BlockUdp(person(one(rest)?)?)),
        "allow-udp" => act(Action::AllowUdp(person(one(rest)?)?)),
        "suspend" => act(Action::Suspend(person(one(rest)?)?)),
        "resume" => act(Action::Resume(person(one(rest)?)?)),
        "kill" => relay(rest).map(|()| What::Act(Action::KillRelay)),
        "restart" => relay(rest).map(|()| What::Act(Action::RestartRelay)),
        "repeat" if rest.is_empty() => Ok(What::Repeat),
        _ => link(words),
    }
}

fn link(words: &[&str]) -> Result<What, String> {
    let mut words = words;
    let mut who = Party::Alice;
    let (mut up, mut down) = (true, true);
    if let Some((first, rest)) = words.split_first()
        && let Ok(named) = party(first)
    {
        who = named;
        words = rest;
    }
    match words.split_first() {
        Some((&"up", rest)) => (down, words) = (false, rest),
        Some((&"down", rest)) => (up, words) = (false, rest),
        Some((&"both", rest)) => words = rest,
        Some(_) | None => {}
    }
    if words.is_empty() {
        return Err(String::from(VERBS));
    }
    let mut change = LinkChange::default();
    for word in words {
        let (key, value) = word
            .split_once('=')
            .ok_or_else(|| format!("{word:?} is not understood: {VERBS}"))?;
        change
            .set(key, value)
            .map_err(|why| format!("{word}: {why}"))?;
    }
    Ok(What::Link {
        who,
        up,
        down,
        change,
    })
}

fn one<'a>(rest: &[&'a str]) -> Result<&'a str, String> {
    match rest {
        [one] => Ok(one),
        [] | [_, _, ..] => Err(String::from("expected one name, such as alice")),
    }
}

fn relay(rest: &[&str]) -> Result<(), String> {
    match party(one(rest)?) {
        Ok(Party::Relay) => Ok(()),
        Ok(Party::Alice | Party::Bob) | Err(_) => Err(String::from("only the relay can die here")),
    }
}

fn party(name: &str) -> Result<Party, String> {
    match name {
        "alice" => Ok(Party::Alice),
        "bob" => Ok(Party::Bob),
        "relay" => Ok(Party::Relay),
        _ => Err(format!(
            "{name:?} is nobody here: expected alice, bob or relay"
        )),
    }
}

fn person(name: &str) -> Result<Party, String> {
    match party(name)? {
        Party::Relay => Err(String::from("that happens to alice or bob only")),
        who @ (Party::Alice | Party::Bob) => Ok(who),
    }
}

fn way(name: &str) -> Result<Way, String> {
    if name == "direct" {
        return Ok(Way::Between(Party::Alice, Party::Bob));
    }
    let different = |a: Party, b: Party| {
        let apart = a != b;
        apart
            .then_some(())
            .ok_or("nobody is cut off from themselves")
    };
    if let Some((from, to)) = name.split_once("->") {
        let (from, to) = (party(from)?, party(to)?);
        different(from, to)?;
        return Ok(Way::OneWay { from, to });
    }
    if let Some((a, b)) = name.split_once('-') {
        let (a, b) = (party(a)?, party(b)?);
        different(a, b)?;
        return Ok(Way::Between(a, b));
    }
    party(name).map(Way::Line)
}

/// What ends it, and what begins it where the two belong together.
fn undone(what: &What) -> Option<(Action, Action)> {
    let What::Act(action) = what else {
        return None;
    };
    let end = match action {
        Action::Cut(way) => Action::Mend(*way),
        Action::Unplug(who) => Action::Plug(*who),
        Action::Reboot(who) => return Some((Action::RouterDown(*who), Action::RouterUp(*who))),
        Action::BlockUdp(who) => Action::AllowUdp(*who),
        Action::Suspend(who) => Action::Resume(*who),
        Action::KillRelay => Action::RestartRelay,
        Action::Link { .. }
        | Action::Mend(_)
        | Action::Plug(_)
        | Action::RouterDown(_)
        | Action::RouterUp(_)
        | Action::AllowUdp(_)
        | Action::Renumber(_)
        | Action::RenumberRouter(_)
        | Action::Move(..)
        | Action::Resume(_)
        | Action::RestartRelay => return None,
    };
    Some((action.clone(), end))
}

/// Writes repetitions out, until `end`.
fn unrolled(statements: &[Statement], end: Duration) -> Result<Vec<Statement>, String> {
    let Some((last, body)) = statements.split_last() else {
        return Ok(Vec::new());
    };
    if last.what != What::Repeat {
        return Ok(statements.to_vec());
    }
    let mut all = body.to_vec();
    let mut start = last.at;
    while start < end {
        all.extend(body.iter().map(|statement| Statement {
            at: statement.at + start,
            ..statement.clone()
        }));
        if all.len() > MAX_STEPS {
            return Err(format!("that makes more than {MAX_STEPS} steps"));
        }
        start += last.at;
    }
    Ok(all)
}

/// Makes of all statements what is done to the network until `end`, in the order of time.
///
/// # Errors
/// A sentence about the first statement that makes no sense where it stands.
pub(super) fn steps(parts: &[Vec<Statement>], end: Duration) -> Result<Vec<Step>, String> {
    let mut statements = Vec::new();
    for part in parts {
        statements.extend(unrolled(part, end)?);
    }
    // Stable: what is said later for the same time comes later.
    statements.sort_by_key(|statement| statement.at);
    let mut links: BTreeMap<(Party, bool), LinkChange> = BTreeMap::new();
    let mut steps = Vec::new();
    for statement in statements.iter().filter(|statement| statement.at < end) {
        let step = |at: Duration, action: Action, text: String| Step { at, action, text };
        let at = statement.at;
        // The time stands beside it in every output.
        let text = statement
            .text
            .split_once(' ')
            .map_or_else(String::new, |(_, what)| String::from(what));
        match &statement.what {
            What::Repeat => {}
            What::Link {
                who,
                up,
                down,
                change,
            } => {
                let mut changed = |wanted: bool, upwards: bool| {
                    if !wanted {
                        return Ok(None);
                    }
                    let said = links.entry((*who, upwards)).or_default();
                    *said = change.over(*said);
                    let conditions = said.conditions().map(Some);
                    conditions.map_err(|why| format!("{:?}: {why}", statement.text))
                };
                let action = Action::Link {
                    who: *who,
                    up: changed(*up, true)?,
                    down: changed(*down, false)?,
                };
                steps.push(step(at, action, text));
            }
            What::Act(action) => match (statement.lasting, undone(&statement.what)) {
                (Some(lasting), Some((begin, undo))) => {
                    let over = format!("{text} is over");
                    steps.push(step(at, begin, text));
                    if at + lasting < end {
                        steps.push(step(at + lasting, undo, over));
                    }
                }
                (Some(_) | None, _) => steps.push(step(at, action.clone(), text)),
            },
        }
    }
    steps.sort_by_key(|step| step.at);
    if steps.len() > MAX_STEPS {
        return Err(format!("that makes more than {MAX_STEPS} steps"));
    }
    Ok(steps)
}

/// Refuses what happens to the router of somebody who has none by then.
pub(super) fn check_routers(
    steps: &[Step],
    [mut alice, mut bob]: [NatKind; 2],
) -> Result<(), String> {
    for step in steps {
        let who = match &step.action {
            Action::Reboot(who)
            | Action::RouterDown(who)
            | Action::RouterUp(who)
            | Action::BlockUdp(who)
            | Action::AllowUdp(who)
            | Action::RenumberRouter(who) => *who,
            Action::Move(who, Some(kind)) => {
                match who {
                    Party::Alice => alice = *kind,
                    Party::Bob => bob = *kind,
                    Party::Relay => {}
                }
                continue;
            }
            Action::Move(_, None)
            | Action::Link { .. }
            | Action::Cut(_)
            | Action::Mend(_)
            | Action::Unplug(_)
            | Action::Plug(_)
            | Action::Renumber(_)
            | Action::Suspend(_)
            | Action::Resume(_)
            | Action::KillRelay
            | Action::RestartRelay => continue,
        };
        let (name, kind) = match who {
            Party::Alice => ("Alice", alice),
            Party::Bob => ("Bob", bob),
            Party::Relay => continue,
        };
        if kind == NatKind::None {
            return Err(format!(
                "{:?} at {} s: {name} has no router; give her or him one with --nat, such as --nat port,port",
                step.text,
                step.at.as_secs_f64()
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const END: Duration = Duration::from_secs(60);

    fn run(text: &str) -> Vec<Step> {
        steps(&[trace(text).unwrap()], END).unwrap()
    }

    fn actions(text: &str) -> Vec<(u64, Action)> {
        let steps = run(text).into_iter();
        steps
            .map(|step| (step.at.as_millis() as u64, step.action))
            .collect()
    }

    fn links(text: &str) -> Vec<Conditions> {
        let up = |step: Step| {
            let Action::Link { up, .. } = step.action else {
                panic!("{:?}", step.action)
            };
            up
        };
        run(text).into_iter().filter_map(up).collect()
    }

    #[test]
    fn each_verb_does_what_the_help_says() {
        let direct = Way::Between(Party::Alice, Party::Bob);
        for (text, action) in [
            ("5 cut direct", Action::Cut(direct)),
            ("5s mend alice-bob", Action::Mend(direct)),
            ("5 cut relay", Action::Cut(Way::Line(Party::Relay))),
            (
                "5000ms cut bob->relay",
                Action::Cut(Way::OneWay {
                    from: Party::Bob,
                    to: Party::Relay,
                }),
            ),
            ("5 unplug bob", Action::Unplug(Party::Bob)),
            ("5 plug bob", Action::Plug(Party::Bob)),
            ("5 reboot alice-router", Action::Reboot(Party::Alice)),
            ("5 renumber alice", Action::Renumber(Party::Alice)),
            ("5 renumber bob-router", Action::RenumberRouter(Party::Bob)),
            ("5 move alice", Action::Move(Party::Alice, None)),
            (
                "5 move bob cgnat-sym",
                Action::Move(Party::Bob, Some(NatKind::CgnatSym)),
            ),
            ("5 block-udp bob", Action::BlockUdp(Party::Bob)),
            ("5 allow-udp bob", Action::AllowUdp(Party::Bob)),
            ("5 suspend bob", Action::Suspend(Party::Bob)),
            ("5 resume bob", Action::Resume(Party::Bob)),
            ("5 kill relay", Action::KillRelay),
            ("5 restart relay", Action::RestartRelay),
        ] {
            assert_eq!(actions(text), [(5000, action)], "{text}");
            let verb = text.split(' ').nth(1).unwrap();
            assert!(GRAMMAR.contains(verb), "{verb} is not explained");
        }
    }

    #[test]
    fn what_lasts_is_undone_in_time() {
        let way = Way::Line(Party::Alice);
        assert_eq!(
            actions("5 cut alice for 20s\n6 reboot bob-router for 500ms"),
            [
                (5000, Action::Cut(way)),
                (6000, Action::RouterDown(Party::Bob)),
                (6500, Action::RouterUp(Party::Bob)),
                (25_000, Action::Mend(way)),
            ]
        );
        // Not after the end.
        assert_eq!(actions("50 kill relay for 20s").len(), 1);
    }

    #[test]
    fn a_link_keeps_what_is_not_named() {
        let [first, second, third] = &links("0 delay=30 loss=10 burst=4\n1 loss=5\n2 burst=2")[..]
        else {
            panic!("three steps");
        };
        assert_eq!(first.loss, Loss::bursts(0.1, 4.0));
        assert_eq!(second.delay, Duration::from_millis(30));
        // A new loss without a burst means single packets.
        assert_eq!(second.loss, Loss::Random(0.05));
        assert_eq!(third.loss, Loss::bursts(0.05, 2.0));
        let rates: Vec<_> = links("0 rate=2M queue=300\n1 rate=400k\n2 rate=none\n3 rate=1M")
            .into_iter()
            .map(|link| link.rate)
            .collect();
        let queue = |bps, millis| Some(Rate::with_queue_time(bps, Duration::from_millis(millis)));
        assert_eq!(
            rates,
            [
                queue(2_000_000, 300),
                queue(400_000, 300),
                None,
                queue(1_000_000, 100)
            ]
        );
    }

    #[test]
    fn a_link_has_two_directions_and_an_owner() {
        let steps = run("1 bob up loss=5\n2 bob delay=10");
        let Action::Link { who, up, down } = &steps[0].action else {
            panic!("{steps:?}");
        };
        assert_eq!((*who, down), (Party::Bob, &None));
        assert_eq!(up.as_ref().unwrap().loss, Loss::Random(0.05));
        let Action::Link { up, down, .. } = &steps[1].action else {
            panic!("{steps:?}");
        };
        assert_eq!(up.as_ref().unwrap().loss, Loss::Random(0.05));
        assert_eq!(down.as_ref().unwrap().loss, Loss::None);
    }

    #[test]
    fn a_file_may_have_comments_and_begin_again() {
        let steps = run("# a trace\n0 rate=2M queue=75\n\n20 rate=400k # narrow\n  25 repeat");
        let times: Vec<u64> = steps.iter().map(|step| step.at.as_secs()).collect();
        assert_eq!(times, [0, 20, 25, 45, 50]);
        assert_eq!(steps[1].text, "rate=400k");
    }

    #[test]
    fn mistakes_are_told_with_their_line_and_a_way_out() {
        for (text, told) in [
            ("", "no statement"),
            ("5 cut", "expected one name"),
            ("\n5 cut everything", "line 2"),
            ("5 cut everything", "alice, bob or relay"),
            ("x loss=5", "is no time"),
            ("5 los=5", "loss, burst"),
            ("5 loss=500", "percentage"),
            ("5 loss", "KEY=VALUE"),
            ("5", "KEY=VALUE"),
            ("5 kill bob", "only the relay"),
            ("5 reboot alice", "alice-router"),
            ("5 move alice cone", "cgnat-sym"),
            ("5 move relay", "alice or bob"),
            ("5 loss=5 for 3s", "can be for a time"),
            ("5 cut direct for", "after for"),
            ("5 cut direct for 0", "no time at all"),
            ("5 cut alice-alice", "themselves"),
            ("5 repeat", "after all that"),
            ("5 loss=1\n4 repeat", "after all that"),
            ("5 loss=1\n6 repeat\n7 loss=2", "nothing can follow"),
        ] {
            let error = trace(text).unwrap_err();
            assert!(error.contains(told), "{text:?}: {error}");
        }
        assert!(statement("5 repeat").is_err());
        let queue = steps(&[trace("5 queue=30").unwrap()], END).unwrap_err();
        assert!(queue.contains("bottleneck"), "{queue}");
        let endless = steps(&[trace("5 loss=100 burst=3").unwrap()], END).unwrap_err();
        assert!(endless.contains("never end"), "{endless}");
        let many = steps(&[trace("0 loss=1\n1ms repeat").unwrap()], END).unwrap_err();
        assert!(many.contains("steps"), "{many}");
    }

    #[test]
    fn only_a_router_that_is_there_can_be_touched() {
        let check = |text: &str, alice: NatKind| check_routers(&run(text), [alice, NatKind::None]);
        assert_eq!(check("5 reboot alice-router", NatKind::Port), Ok(()));
        let told = check("5 reboot alice-router", NatKind::None).unwrap_err();
        assert!(told.contains("Alice has no router"), "{told}");
        assert!(check("5 block-udp bob for 2s", NatKind::Port).is_err());
        assert_eq!(
            check("4 move bob port\n5 block-udp bob", NatKind::None),
            Ok(())
        );
        assert!(check("4 move alice none\n5 reboot alice-router", NatKind::Port).is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[ -~\n]{0,80}") {
            if let Ok(statements) = trace(&text) {
                let _steps = steps(&[statements], END);
            }
        }
    }
}
