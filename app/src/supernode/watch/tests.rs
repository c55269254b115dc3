use ahoy_nat::discovery::gossip::GossipCounters;
use ahoy_nat::supernode::{
    RefusalCounters, SupernodeStatus,
    mailbox::MailCounters,
    puzzle::PuzzleCounters,
    registry::RegistryCounters,
    relay::counters::{RelayCounters, Traffic},
    witness::WitnessCounters,
};
use ahoy_transport::{
    endpoint::EndpointStats,
    mux::{MuxDrops, MuxStats},
    tunnel::server::TcpCounters,
};

use super::{
    anomalies::{Anomaly, CALM, MAX_KEPT},
    figures::{Kind, figures, prometheus},
    *,
};
use crate::supernode::{PortStatus, Status, TcpStatus};

#[test]
fn a_port_alone_is_shown_to_this_machine_alone() {
    for (text, addr) in [
        ("9100", "127.0.0.1:9100"),
        ("0", "127.0.0.1:0"),
        ("0.0.0.0:9100", "0.0.0.0:9100"),
        ("[::1]:80", "[::1]:80"),
    ] {
        let parsed: WatchAddr = text.parse().unwrap();
        assert_eq!(parsed.0, addr.parse().unwrap());
        assert_eq!(parsed.to_string().parse(), Ok(parsed));
    }
    for text in ["", "70000", "localhost:80", "127.0.0.1"] {
        assert!(text.parse::<WatchAddr>().is_err(), "{text}");
    }
}

/// A status in which no two counters are alike, and how many there are.
fn all_different() -> (Status, u64) {
    let mut last = 1000;
    let mut next = || {
        last += 1;
        last
    };
    let mut relay = RelayCounters::default();
    relay.bindings = next();
    relay.allocations_opened = next();
    relay.allocations_closed = next();
    relay.allocations_live = next();
    relay.errors = next();
    relay.packets_in_process = next();
    relay.bytes_passed_on = next();
    relay.traffic = Traffic {
        packets_from_client: next(),
        bytes_from_client: next(),
        packets_to_client: next(),
        bytes_to_client: next(),
    };
    let rendezvous = SupernodeStatus {
        connections: next() as usize,
        anonymous: next() as usize,
        registered: next() as usize,
        records: next() as usize,
        registry: RegistryCounters {
            registered: next(),
            lookups: next(),
            delivered: next(),
            replied: next(),
            sent_away: next(),
            people: next(),
            ..RegistryCounters::default()
        },
        puzzles: PuzzleCounters {
            asked: next(),
            proved: next(),
            refused: next(),
        },
        mail: MailCounters {
            boxes: next(),
            waiting: next(),
            waiting_bytes: next(),
            left_by_contacts: next(),
            left_by_strangers: next(),
            duplicates: next(),
            refused: next(),
            fetched: next(),
            acknowledged: next(),
            expired: next(),
            boxes_expired: next(),
        },
        pushes_dropped: next(),
        stalled: next(),
        proofs_asked: next(),
        refusals: RefusalCounters::default(),
        supernodes: next() as usize,
        gossip: GossipCounters {
            asked: next(),
            answered: next(),
            missed: next(),
            served: next(),
            heard: next(),
            refused: next(),
        },
        witness: WitnessCounters {
            signed: next(),
            behind: next(),
            forked: next(),
        },
        relays: vec![relay],
    };
    let addr = SocketAddr::from(([127, 0, 0, 1], 1));
    let port = PortStatus {
        addr,
        endpoint: EndpointStats {
            accepted_nodes: next(),
            handshake_failed: next(),
            retries_sent: next(),
            overloaded: next(),
            not_taken: next(),
            ..EndpointStats::default()
        },
        mux: MuxStats {
            received: next(),
            received_bytes: next(),
            sent: next(),
            sent_bytes: next(),
            dropped: MuxDrops {
                not_admitted: next(),
                foreign_version: next(),
                short_connection_id: next(),
                token_without_retry: next(),
                malformed: next(),
                unknown_channel: next(),
                other_queue_full: next(),
                tunnel_queue_full: next(),
                no_route: next(),
                send_failed: next(),
                send_blocked: next(),
            },
            ..MuxStats::default()
        },
    };
    let tcp = TcpStatus {
        addr,
        counters: TcpCounters {
            live: next(),
            tunnels: next(),
            turn_clients: next(),
            refused_full: next(),
            refused_source: next(),
            no_preface: next(),
            malformed: next(),
            idle: next(),
            slow: next(),
            stalled: next(),
            ..TcpCounters::default()
        },
    };
    let status = Status {
        rendezvous,
        ports: vec![port],
        tcp: vec![tcp],
    };
    (status, last)
}

#[test]
fn each_figure_comes_from_a_counter_of_its_own() {
    let (status, last) = all_different();
    let around = Around {
        uptime_secs: 1,
        memory_bytes: Some(2),
        draining: true,
        dht_refused: Some(4),
        visitors_refused: 5,
    };
    let figures = figures(&status, &around);
    let text = prometheus(&figures);
    for number in 1001..=last {
        let ending = format!(" {number}\n");
        assert_eq!(text.matches(&ending).count(), 1, "{number} in\n{text}");
    }
    // Every line is as the format wants it, and no name comes twice.
    let mut names = std::collections::BTreeSet::new();
    for figure in &figures {
        assert!(names.insert(figure.name), "{} twice", figure.name);
        let counts = figure.name.ends_with("_total");
        assert_eq!(counts, figure.kind == Kind::Counter, "{}", figure.name);
    }
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(
            value.parse::<u64>().is_ok() && !name.contains(' '),
            "{line}"
        );
    }
}

#[test]
fn each_anomaly_is_told_when_it_begins_and_once() {
    let (mut status, _last) = all_different();
    let mut watcher = Watcher::default();
    assert_eq!(watcher.look(0, &status), []);
    assert_eq!(watcher.look(1, &status), [], "nothing changed");
    let rush = |status: &mut Status, by: u64| {
        status.ports[0].endpoint.retries_sent += by;
        status.ports[0].mux.dropped.foreign_version += 100 * by;
        status.rendezvous.registry.sent_away += by;
        status.rendezvous.puzzles.asked += by;
    };
    rush(&mut status, 10);
    assert_eq!(watcher.look(2, &status), [], "that is usual");
    for look in 0..100 {
        rush(&mut status, 300);
        let told: Vec<Anomaly> = watcher
            .look(3 + look, &status)
            .into_iter()
            .map(|happening| happening.kind)
            .collect();
        let expected: &[Anomaly] = if look == 0 {
            &[
                Anomaly::HandshakeFlood,
                Anomaly::NoRoom,
                Anomaly::StrangerFlood,
                Anomaly::PacketFlood,
            ]
        } else {
            &[]
        };
        assert_eq!(told, expected);
    }
    // Over, and after a while it is news again.
    for _ in 0..CALM {
        assert_eq!(watcher.look(200, &status), []);
    }
    rush(&mut status, 300);
    assert_eq!(watcher.look(300, &status).len(), 4);
    assert_eq!(watcher.told().map(|(_kind, told)| told).sum::<u64>(), 8);
    // What is kept is bounded, the newest first.
    for n in 0..1000 {
        for _ in 0..CALM {
            assert_eq!(watcher.look(400, &status), []);
        }
        rush(&mut status, 300);
        assert_eq!(watcher.look(1000 + n, &status).len(), 4);
    }
    assert_eq!(watcher.happenings().count(), MAX_KEPT);
    assert_eq!(watcher.happenings().next().unwrap().at_millis, 1999);
}
