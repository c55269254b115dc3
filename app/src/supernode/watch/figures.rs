//! What a supernode tells about itself, as a list of figures: for Prometheus, for programs, for a person.
//!
//! Each figure is a counter or a size that something else keeps; nothing is estimated here. Nothing in it names a
//! person, a device or an address of theirs.

use std::fmt::Write as _;

use ahoy_nat::supernode::{protocol::Refusal, relay::counters::Drop};
use ahoy_transport::{endpoint::EndpointStats, mux::MuxStats, tunnel::server::TcpCounters};
use serde::Serialize;

use super::anomalies::Anomaly;
use crate::supernode::Status;

/// Whether a figure only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It counts since the start.
    Counter,
    /// What is there now.
    Gauge,
}

/// One value of a figure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sample {
    /// Which one of several: name and value of a label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<(&'static str, &'static str)>,
    /// How much.
    pub value: u64,
}

/// One figure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Figure {
    /// As Prometheus knows it: unit last, counters end in `_total`.
    pub name: &'static str,
    /// What it says, for a person.
    pub help: &'static str,
    /// Whether it only grows.
    pub kind: Kind,
    /// Its values.
    pub samples: Vec<Sample>,
}

impl Figure {
    /// The sum of all samples.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.samples.iter().map(|sample| sample.value).sum()
    }
}

/// What is known besides the supernode's own status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Around {
    /// Seconds since the start.
    pub uptime_secs: u64,
    /// Memory of the process in use, in bytes; absent where the system does not tell.
    pub memory_bytes: Option<u64>,
    /// It ends soon and takes no more calls.
    pub draining: bool,
    /// Records that came too fast to the node of the DHT; absent without one.
    pub dht_refused: Option<u64>,
    /// Visitors of the page that were sent away.
    pub visitors_refused: u64,
}

struct List(Vec<Figure>);

impl List {
    fn put(&mut self, kind: Kind, name: &'static str, help: &'static str, samples: Vec<Sample>) {
        self.0.push(Figure {
            name,
            help,
            kind,
            samples,
        });
    }

    fn gauge(&mut self, name: &'static str, help: &'static str, value: u64) {
        self.put(Kind::Gauge, name, help, vec![Sample { label: None, value }]);
    }

    fn counter(&mut self, name: &'static str, help: &'static str, value: u64) {
        let samples = vec![Sample { label: None, value }];
        self.put(Kind::Counter, name, help, samples);
    }

    fn counters(
        &mut self,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        values: impl IntoIterator<Item = (&'static str, u64)>,
    ) {
        let samples = values.into_iter().map(|(of, value)| Sample {
            label: Some((label, of)),
            value,
        });
        self.put(Kind::Counter, name, help, samples.collect());
    }
}

/// All figures, in the order in which a person reads them.
#[must_use]
pub fn figures(status: &Status, around: &Around) -> Vec<Figure> {
    let mut list = List(Vec::new());
    list.gauge(
        "ahoy_uptime_seconds",
        "Time since the start",
        around.uptime_secs,
    );
    if let Some(bytes) = around.memory_bytes {
        list.gauge("ahoy_memory_bytes", "Memory in use", bytes);
    }
    list.gauge(
        "ahoy_draining",
        "Whether it ends soon and takes no more calls",
        around.draining.into(),
    );
    rendezvous(&mut list, status);
    mail(&mut list, status);
    relay(&mut list, status);
    ports(&mut list, status);
    tcp(&mut list, status);
    if let Some(refused) = around.dht_refused {
        list.counter(
            "ahoy_dht_refused_total",
            "Records that came too fast to the node of the DHT",
            refused,
        );
    }
    list.counter(
        "ahoy_visitors_refused_total",
        "Visitors of this page that were sent away",
        around.visitors_refused,
    );
    list.0
}

fn rendezvous(list: &mut List, status: &Status) {
    let node = &status.rendezvous;
    list.gauge("ahoy_devices", "Devices registered", node.registered as u64);
    list.gauge(
        "ahoy_connections",
        "Connections open",
        node.connections as u64,
    );
    list.gauge(
        "ahoy_anonymous_connections",
        "Of those, without a name",
        node.anonymous as u64,
    );
    list.gauge(
        "ahoy_records",
        "Records of people held",
        node.records as u64,
    );
    let counted = &node.registry;
    list.counter(
        "ahoy_registrations_total",
        "Registrations taken, renewals included",
        counted.registered,
    );
    list.counter(
        "ahoy_people_total",
        "People whose devices were registered, each once",
        counted.people,
    );
    list.counter("ahoy_lookups_total", "Look-ups answered", counted.lookups);
    list.counter(
        "ahoy_deliveries_total",
        "Envelopes handed on: calls offered",
        counted.delivered,
    );
    list.counter("ahoy_replies_total", "Replies handed on", counted.replied);
    let puzzles = &node.puzzles;
    list.counters(
        "ahoy_puzzles_total",
        "Work that strangers did while there were too many of them: asked for, done, not done as it should be",
        "what",
        [
            ("asked", puzzles.asked),
            ("proved", puzzles.proved),
            ("refused", puzzles.refused),
        ],
    );
    list.counters(
        "ahoy_refused_total",
        "Requests refused",
        "reason",
        Refusal::ALL.map(|reason| (reason.as_str(), node.refusals.of(reason))),
    );
    list.counter(
        "ahoy_sent_away_total",
        "Connections sent away for want of room",
        counted.sent_away,
    );
    list.counter(
        "ahoy_pushes_dropped_total",
        "Messages that a slow connection did not take",
        node.pushes_dropped,
    );
    list.counter(
        "ahoy_stalled_total",
        "Connections closed because they did not read",
        node.stalled,
    );
    list.counter(
        "ahoy_proofs_asked_total",
        "Other supernodes asked to prove their keys",
        node.proofs_asked,
    );
    list.gauge(
        "ahoy_supernodes",
        "Other supernodes known",
        node.supernodes as u64,
    );
    let gossip = &node.gossip;
    list.counters(
        "ahoy_gossip_total",
        "What is told among supernodes",
        "what",
        [
            ("asked", gossip.asked),
            ("answered", gossip.answered),
            ("missed", gossip.missed),
            ("served", gossip.served),
            ("heard", gossip.heard),
            ("refused", gossip.refused),
        ],
    );
    let witness = &node.witness;
    list.counters(
        "ahoy_witness_total",
        "Device lists: ends signed, lists older than one seen before, lists that contradict one",
        "what",
        [
            ("signed", witness.signed),
            ("behind", witness.behind),
            ("forked", witness.forked),
        ],
    );
}

fn mail(list: &mut List, status: &Status) {
    let mail = &status.rendezvous.mail;
    list.gauge("ahoy_mailboxes", "Mailboxes", mail.boxes);
    list.gauge("ahoy_letters", "Letters that wait", mail.waiting);
    list.gauge("ahoy_letter_bytes", "Bytes of those", mail.waiting_bytes);
    list.counters(
        "ahoy_letters_left_total",
        "Letters left",
        "by",
        [
            ("contact", mail.left_by_contacts),
            ("stranger", mail.left_by_strangers),
        ],
    );
    list.counters(
        "ahoy_letters_done_total",
        "What became of letters",
        "end",
        [
            ("acknowledged", mail.acknowledged),
            ("expired", mail.expired),
            ("refused", mail.refused),
            ("duplicate", mail.duplicates),
        ],
    );
    list.counter(
        "ahoy_letters_fetched_total",
        "Letters handed out",
        mail.fetched,
    );
    list.counter(
        "ahoy_mailboxes_expired_total",
        "Mailboxes whose time was over",
        mail.boxes_expired,
    );
}

fn relay(list: &mut List, status: &Status) {
    let relays = &status.rendezvous.relays;
    let sum = |of: fn(&ahoy_nat::supernode::relay::counters::RelayCounters) -> u64| {
        relays.iter().map(of).sum::<u64>()
    };
    list.gauge(
        "ahoy_relay_allocations",
        "Ends of calls relayed now",
        sum(|relay| relay.allocations_live),
    );
    list.counters(
        "ahoy_relay_allocations_total",
        "Ends of calls relayed",
        "what",
        [
            ("opened", sum(|relay| relay.allocations_opened)),
            ("closed", sum(|relay| relay.allocations_closed)),
        ],
    );
    list.counters(
        "ahoy_relay_packets_total",
        "Packets relayed",
        "way",
        [
            (
                "from_client",
                sum(|relay| relay.traffic.packets_from_client),
            ),
            ("to_client", sum(|relay| relay.traffic.packets_to_client)),
        ],
    );
    list.counters(
        "ahoy_relay_bytes_total",
        "Bytes relayed",
        "way",
        [
            ("from_client", sum(|relay| relay.traffic.bytes_from_client)),
            ("to_client", sum(|relay| relay.traffic.bytes_to_client)),
        ],
    );
    list.counter(
        "ahoy_relay_packets_inside_total",
        "Packets whose both ends are on this relay",
        sum(|relay| relay.packets_in_process),
    );
    list.counter(
        "ahoy_relay_passed_on_bytes_total",
        "Bytes that the relay passed on, each packet once",
        sum(|relay| relay.bytes_passed_on),
    );
    list.counters(
        "ahoy_relay_dropped_total",
        "Packets that the relay dropped",
        "reason",
        Drop::ALL.map(|reason| {
            let dropped = relays.iter().map(|relay| relay.dropped(reason));
            (reason.as_str(), dropped.sum())
        }),
    );
    list.counter(
        "ahoy_stun_answers_total",
        "Questions for the own address answered",
        sum(|relay| relay.bindings),
    );
    list.counter(
        "ahoy_relay_errors_total",
        "Error responses of the relay, first rounds of proof included",
        sum(|relay| relay.errors),
    );
}

fn ports(list: &mut List, status: &Status) {
    let hands = |of: fn(&EndpointStats) -> u64| {
        let ports = status.ports.iter();
        ports.map(|port| of(&port.endpoint)).sum::<u64>()
    };
    list.counters(
        "ahoy_handshakes_total",
        "Handshakes by their end",
        "end",
        [
            ("done", hands(|stats| stats.accepted_nodes)),
            ("failed", hands(|stats| stats.handshake_failed)),
            ("asked_for_address", hands(|stats| stats.retries_sent)),
            ("overloaded", hands(|stats| stats.overloaded)),
            ("not_taken", hands(|stats| stats.not_taken)),
        ],
    );
    let mux = |of: fn(&MuxStats) -> u64| {
        let ports = status.ports.iter();
        ports.map(|port| of(&port.mux)).sum::<u64>()
    };
    list.counters(
        "ahoy_packets_total",
        "Packets of all kinds",
        "way",
        [
            ("received", mux(|stats| stats.received)),
            ("sent", mux(|stats| stats.sent)),
        ],
    );
    list.counters(
        "ahoy_bytes_total",
        "Bytes of those",
        "way",
        [
            ("received", mux(|stats| stats.received_bytes)),
            ("sent", mux(|stats| stats.sent_bytes)),
        ],
    );
    list.counters(
        "ahoy_packets_dropped_total",
        "Packets dropped before anybody looked at them",
        "reason",
        [
            ("not_admitted", mux(|stats| stats.dropped.not_admitted)),
            (
                "foreign_version",
                mux(|stats| stats.dropped.foreign_version),
            ),
            (
                "short_connection_id",
                mux(|stats| stats.dropped.short_connection_id),
            ),
            (
                "token_without_retry",
                mux(|stats| stats.dropped.token_without_retry),
            ),
            ("malformed", mux(|stats| stats.dropped.malformed)),
            (
                "unknown_channel",
                mux(|stats| stats.dropped.unknown_channel),
            ),
            ("queue_full", mux(|stats| stats.dropped.other_queue_full)),
            (
                "tunnel_queue_full",
                mux(|stats| stats.dropped.tunnel_queue_full),
            ),
            ("no_route", mux(|stats| stats.dropped.no_route)),
            ("send_failed", mux(|stats| stats.dropped.send_failed)),
            ("send_blocked", mux(|stats| stats.dropped.send_blocked)),
        ],
    );
}

fn tcp(list: &mut List, status: &Status) {
    let sum = |of: fn(&TcpCounters) -> u64| {
        let ports = status.tcp.iter();
        ports.map(|port| of(&port.counters)).sum::<u64>()
    };
    list.gauge(
        "ahoy_tcp_connections",
        "TCP connections open",
        sum(|counters| counters.live),
    );
    list.counters(
        "ahoy_tcp_connections_total",
        "TCP connections by kind",
        "kind",
        [
            ("tunnel", sum(|counters| counters.tunnels)),
            ("turn", sum(|counters| counters.turn_clients)),
            ("refused_full", sum(|counters| counters.refused_full)),
            ("refused_source", sum(|counters| counters.refused_source)),
            ("no_preface", sum(|counters| counters.no_preface)),
            ("malformed", sum(|counters| counters.malformed)),
            ("idle", sum(|counters| counters.idle)),
            ("slow", sum(|counters| counters.slow)),
            ("stalled", sum(|counters| counters.stalled)),
        ],
    );
}

/// In Prometheus' text format, version 0.0.4. Names and labels are constants of this program, so nothing needs
/// escaping.
#[must_use]
pub fn prometheus(figures: &[Figure]) -> String {
    let mut text = String::new();
    for figure in figures {
        let (name, help) = (figure.name, figure.help);
        let kind = match figure.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        let written = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n").and_then(|()| {
            figure.samples.iter().try_for_each(|sample| {
                let value = sample.value;
                match sample.label {
                    Some((label, of)) => writeln!(text, "{name}{{{label}=\"{of}\"}} {value}"),
                    None => writeln!(text, "{name} {value}"),
                }
            })
        });
        written.expect("a string takes everything");
    }
    text
}

/// Memory of this process in use, in bytes; `None` where the system does not tell.
#[must_use]
pub fn memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let mut lines = status.lines();
    let line = lines.find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// How often each anomaly began.
#[must_use]
pub fn anomalies(told: impl Iterator<Item = (Anomaly, u64)>) -> Figure {
    let samples = told.map(|(kind, value)| Sample {
        label: Some(("kind", kind.as_str())),
        value,
    });
    Figure {
        name: "ahoy_anomalies_total",
        help: "Times that something was out of the ordinary",
        kind: Kind::Counter,
        samples: samples.collect(),
    }
}
