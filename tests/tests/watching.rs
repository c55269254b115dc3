//! The figures of a supernode, read from outside as a browser and a collector read them. The supernode is the program
//! itself in a process of its own.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    sync::Arc,
    time::Duration,
};

use ahoy_nat::{client::RequestError, supernode::protocol::Refusal};
use ahoy_tests::{
    device::Device,
    process::{PATIENCE, Running, start},
};
use ahoy_transport::{
    endpoint::NodeAuth,
    identity::NodeAddress,
    runtime::{Runtime, RuntimeExt, TokioRuntime, timeout},
};
use serde_json::Value;

/// A supernode that shows its figures, where it is, and where they are.
fn supernode(home: &Path) -> (Running, NodeAddress, SocketAddr) {
    let running = start(
        home,
        [
            "supernode",
            "--listen",
            "127.0.0.1:0",
            "--print-link",
            "--metrics",
            "0",
        ],
    );
    let line = running.first_line();
    let address = line.strip_prefix("ahoy-node:").unwrap().parse().unwrap();
    let line = running.wait_stderr("figures at http://");
    let (_before, at) = line.split_once("http://").unwrap();
    let at = at.trim_end().trim_end_matches('/').parse().unwrap();
    (running, address, at)
}

/// What comes back for these bytes, to the end.
fn exchange(at: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request).unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response
}

/// Head and body of what is at `path`.
fn get(at: SocketAddr, path: &str) -> (String, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {at}\r\n\r\n");
    let response = exchange(at, request.as_bytes());
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// A value of Prometheus' format, by its name and label.
fn metric(at: SocketAddr, name: &str) -> u64 {
    let (head, body) = get(at, "/metrics");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    let mut lines = body.lines();
    let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in\n{body}"))
        .parse()
        .unwrap()
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

#[test]
fn what_clients_do_is_seen_in_the_figures_and_in_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let (running, node, at) = supernode(folder.path());
    assert_eq!(metric(at, "ahoy_devices"), 0);
    assert_eq!(metric(at, "ahoy_handshakes_total{end=\"done\"}"), 0);
    assert!(metric(at, "ahoy_memory_bytes") > 1 << 20);
    run(async {
        let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime);
        let (alice, bob) = (
            Device::new(Arc::clone(&runtime)),
            Device::new(Arc::clone(&runtime)),
        );
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, node.port));
        let home = bob.dial(node.node, addr, bob.auth()).await.unwrap();
        home.register(bob.registration(7)).await.unwrap();
        let stranger = alice
            .dial(node.node, addr, NodeAuth::Anonymous)
            .await
            .unwrap();
        let device = bob.identity.device().id();
        stranger.deliver(device, 7, vec![1; 100]).await.unwrap();
        let refused = stranger.deliver(device, 8, vec![1; 100]).await;
        assert_eq!(refused, Err(RequestError::Refused(Refusal::WrongEpoch)));
        for (name, value) in [
            ("ahoy_devices", 1),
            ("ahoy_connections", 2),
            ("ahoy_anonymous_connections", 1),
            ("ahoy_handshakes_total{end=\"done\"}", 2),
            ("ahoy_registrations_total", 1),
            ("ahoy_deliveries_total", 1),
            ("ahoy_refused_total{reason=\"wrong_epoch\"}", 1),
            ("ahoy_refused_total{reason=\"too_fast\"}", 0),
            ("ahoy_anomalies_total{kind=\"request_flood\"}", 0),
        ] {
            assert_eq!(metric(at, name), value, "{name}");
        }
        // A flood of requests. It is told once, however long it lasts.
        let flood = async {
            while metric(at, "ahoy_anomalies_total{kind=\"request_flood\"}") == 0 {
                for _ in 0..100 {
                    // Most are refused; which, the limits decide.
                    drop(stranger.lookup(bob.identity.user()).await);
                }
            }
        };
        timeout(&*runtime, PATIENCE, flood)
            .await
            .expect("it is noticed");
        assert!(metric(at, "ahoy_refused_total{reason=\"too_fast\"}") >= 100);
        home.close();
        let gone = async {
            while metric(at, "ahoy_devices") > 0 {
                runtime.sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(&*runtime, PATIENCE, gone)
            .await
            .expect("he is gone");
    });
    running.wait_stderr("requests came faster than they may");

    let (head, body) = get(at, "/status.json");
    assert!(head.contains("Content-Type: application/json"), "{head}");
    let status: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(status["schema"], 1);
    assert_eq!(status["node"], node.node.to_string());
    let events = status["events"].as_array().unwrap();
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0]["kind"], "request_flood");
    let figures = status["figures"].as_array().unwrap();
    assert!(figures.iter().any(|figure| {
        figure["name"] == "ahoy_deliveries_total" && figure["samples"][0]["value"] == 1
    }));

    let (head, body) = get(at, "/");
    assert!(head.contains("Content-Security-Policy: default-src 'none'"));
    for text in ["ahoy supernode", "requests came faster", "wrong epoch"] {
        assert!(body.contains(text), "{text} is not in\n{body}");
    }
}

#[test]
fn visitors_are_bounded_and_get_no_more_than_figures() {
    let folder = tempfile::tempdir().unwrap();
    let (_running, _node, at) = supernode(folder.path());
    let refused = |request: &str, status: &str| {
        let response = exchange(at, request.as_bytes());
        assert!(
            response.starts_with(&format!("HTTP/1.1 {status}")),
            "{response}"
        );
    };
    refused("POST / HTTP/1.1\r\nHost: localhost\r\n\r\n", "405");
    refused("GET /key HTTP/1.1\r\nHost: localhost\r\n\r\n", "404");
    refused("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", "403");
    refused("\r\n\r\nhello\r\n\r\n", "400");
    assert_eq!(metric(at, "ahoy_visitors_refused_total"), 4);

    // Those who say nothing hold all places; the next is sent away, until their patience ends.
    let silent: Vec<TcpStream> = (0..16).map(|_| TcpStream::connect(at).unwrap()).collect();
    let mut next = TcpStream::connect(at).unwrap();
    next.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut nothing = Vec::new();
    // A reset says the same as an end.
    let read = next.read_to_end(&mut nothing).unwrap_or(0);
    assert_eq!(read, 0);
    for mut stream in silent {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(stream.read(&mut [0; 16]).unwrap_or(0), 0);
    }
    // Sixteen lost patience with, and at least the one for whom there was no place.
    assert!(metric(at, "ahoy_visitors_refused_total") > 4 + 16);
}
