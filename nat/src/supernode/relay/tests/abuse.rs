//! The relay as somebody would have it who wants a proxy: ways to get a packet out that nobody on the other side
//! agreed to.

use std::collections::BTreeMap;

use super::*;

const VICTIM: &str = "8.8.8.8:5000";
const MALLORY: &str = "198.51.100.66:6666";
const STRANGER: &str = "198.51.100.67:6667";

/// What left towards anybody who did not ask, by the way that was tried.
fn ways_through(switches: PolicySwitches) -> Vec<(&'static str, usize)> {
    let mut config = config();
    config.switches = switches;
    let mut lab = Lab::with(config);
    let (bob, bob_relayed) = lab.client(2, BOB);
    let (mallory, mallory_relayed) = lab.client(1, MALLORY);
    let (victim, stranger) = (addr(VICTIM), addr(STRANGER));
    let data = channel(0x4000, b"x");
    // What goes back to who asked is an answer.
    let asked = [mallory.from, stranger];
    let forwarded =
        |sent: Vec<Transmit>| sent.iter().filter(|sent| !asked.contains(&sent.to)).count();
    let mut left = Vec::new();

    left.push((
        "channel data without an allocation",
        forwarded(lab.input(stranger, &data)),
    ));
    left.push((
        "channel data without a channel",
        forwarded(lab.input(mallory.from, &data)),
    ));
    let outsider = Login {
        from: stranger,
        ..mallory.clone()
    };
    left.push((
        "an indication without an allocation",
        forwarded(lab.send_indication(&outsider, victim, b"x")),
    ));
    let guessed = Login {
        password: "guessed".to_owned(),
        ..outsider.clone()
    };
    let request = lab.allocate_request();
    let mut sent = lab.input(stranger, &Lab::sign(&guessed, request));
    sent.extend(lab.send_indication(&guessed, victim, b"x"));
    left.push(("a guessed password", forwarded(sent)));
    lab.permit(&mallory, victim);
    left.push((
        "a peer that nobody vouched for",
        forwarded(lab.send_indication(&mallory, victim, b"x")),
    ));
    lab.bind(&mallory, 0x4000, victim);
    left.push(("a channel to it", forwarded(lab.input(mallory.from, &data))));
    let id = lab.sockets[1];
    lab.relay.handle_relayed_input(lab.now, id, victim, b"x");
    let inwards = lab.drain();
    // Whoever asked for an open relay gets packets from outside, which they asked for.
    left.push(("a packet from outside to a relayed address", inwards.len()));
    lab.permit(&mallory, bob_relayed);
    left.push((
        "a client that did not permit it",
        forwarded(lab.send_indication(&mallory, bob_relayed, b"x")),
    ));
    lab.bind(&mallory, 0x4001, bob_relayed);
    let towards_bob = channel(0x4001, b"x");
    left.push((
        "a channel to that client",
        forwarded(lab.input(mallory.from, &towards_bob)),
    ));
    left.push((
        "another client's channel",
        forwarded(lab.input(stranger, &towards_bob)),
    ));
    let mut scanned = 0;
    for port in 1..=1000 {
        let at = SocketAddr::new(victim.ip(), port);
        lab.permit(&mallory, at);
        scanned += forwarded(lab.send_indication(&mallory, at, b"x"));
    }
    left.push(("a scan of 1000 ports", scanned));

    // The same packet passes as soon as the other side agrees: the ways above were shut, not broken.
    assert_eq!(lab.permit(&bob, mallory_relayed), 0);
    assert_eq!(forwarded(lab.input(mallory.from, &towards_bob)), 1);
    left
}

#[test]
fn nothing_is_forwarded_to_who_did_not_agree_whatever_is_tried() {
    let left = ways_through(PolicySwitches::default());
    assert!(left.iter().all(|(_, packets)| *packets == 0), "{left:?}");
    eprintln!(
        "threat 13: 0 packets forwarded by {} ways, 1000 ports scanned",
        left.len()
    );
}

#[test]
fn an_open_relay_is_a_proxy_and_scans_ports() {
    let open = PolicySwitches {
        open_peers: true,
        ..PolicySwitches::default()
    };
    let left: BTreeMap<_, _> = ways_through(open).into_iter().collect();
    assert_eq!(left["a peer that nobody vouched for"], 1);
    assert_eq!(left["a channel to it"], 1);
    assert_eq!(left["a packet from outside to a relayed address"], 1);
    assert!(left["a scan of 1000 ports"] > 900);
    // Between clients of this relay both have to agree all the same.
    assert_eq!(left["a client that did not permit it"], 0);
}
