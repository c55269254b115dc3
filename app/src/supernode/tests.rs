use std::{net::SocketAddr, time::Duration};

use ahoy_transport::{
    endpoint::NodeAuth,
    runtime::{Runtime, TokioRuntime},
};

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn local(listen: &[&str]) -> SupernodeConfig {
    SupernodeConfig {
        listen: listen.iter().map(|text| addr(text)).collect(),
        ..SupernodeConfig::default()
    }
}

#[test]
fn an_empty_file_is_the_default_and_the_default_round_trips() {
    let default = SupernodeConfig::default();
    assert_eq!("".parse::<SupernodeConfig>().unwrap(), default);
    let text = toml::to_string(&default).unwrap();
    assert_eq!(text.parse::<SupernodeConfig>().unwrap(), default, "{text}");
    assert!(!default.relay.open_peers && !default.relay.allow_private);
}

#[test]
fn a_file_sets_what_it_names_and_no_more() {
    let config: SupernodeConfig = r#"
        listen = ["0.0.0.0:443", "[::1]:0"]
        public_addr = "node.example:443"
        [relay]
        ports = "50000-50099"
        [relay.limits]
        allocations = 7
        [limits]
        registrations = 10
    "#
    .parse()
    .unwrap();
    assert_eq!(config.listen, [addr("0.0.0.0:443"), addr("[::1]:0")]);
    let public = config.public_addr.unwrap();
    assert_eq!(public.host, Host::Name("node.example".into()));
    assert_eq!(public.port, Some(443));
    assert_eq!(config.relay.ports.range(), 50_000..=50_099);
    assert_eq!(config.relay.limits.allocations, 7);
    assert_eq!(config.limits.registrations, 10);
    let default = SupernodeConfig::default();
    assert_eq!(config.relay.realm, default.relay.realm);
    assert_eq!(config.limits.connections, default.limits.connections);
}

#[test]
fn a_mistake_in_the_file_is_named() {
    for (text, needle) in [
        ("lissten = []", "lissten"),
        ("[relay]\nopen = true", "open"),
        ("[relay.limits]\nallocation = 1", "allocation"),
        ("[limits]\nregistration = 1", "registration"),
        ("[relay]\nports = \"9-3\"", "9-3"),
        ("public_addr = \"Node.Example\"", "a-z"),
        ("public_addr = \"node.example:0\"", "port"),
        ("listen = [\"nowhere\"]", "listen"),
    ] {
        let error = text.parse::<SupernodeConfig>().unwrap_err().to_string();
        assert!(error.contains(needle), "{text}: {error}");
    }
}

#[test]
fn public_addresses_are_read_in_the_forms_people_have_them_in() {
    for (text, host, port) in [
        ("203.0.113.7", Host::Ip(ip("203.0.113.7")), None),
        ("203.0.113.7:1", Host::Ip(ip("203.0.113.7")), Some(1)),
        ("2001:db8::1", Host::Ip(ip("2001:db8::1")), None),
        ("[2001:db8::1]", Host::Ip(ip("2001:db8::1")), None),
        ("[2001:db8::1]:9", Host::Ip(ip("2001:db8::1")), Some(9)),
        ("a.example", Host::Name("a.example".into()), None),
    ] {
        let parsed: PublicAddr = text.parse().unwrap();
        assert_eq!(parsed, PublicAddr { host, port });
        assert_eq!(parsed.to_string().parse(), Ok(parsed));
    }
}

#[test]
fn the_relay_announces_the_public_address_then_the_best_interface() {
    let interfaces = [
        "127.0.0.1",
        "::1",
        "192.168.1.5",
        "fd00::5",
        "198.51.100.5",
        "2001:db8::5",
    ]
    .map(ip);
    let any = ip("::");
    let best = |public: &[&str], local, interfaces: &[IpAddr]| {
        let public: Vec<IpAddr> = public.iter().map(|text| ip(text)).collect();
        let relay = RelayConfig::new("r", &relayed_ips(&public, local, interfaces));
        (relay.relayed_v4, relay.relayed_v6)
    };
    let v4 = |text: &str| Some(text.parse::<Ipv4Addr>().unwrap());
    let v6 = |text: &str| Some(text.parse::<Ipv6Addr>().unwrap());
    assert_eq!(
        best(&[], any, &interfaces),
        (v4("198.51.100.5"), v6("2001:db8::5"))
    );
    assert_eq!(
        best(&["203.0.113.7"], any, &interfaces),
        (v4("203.0.113.7"), v6("2001:db8::5"))
    );
    assert_eq!(
        best(&[], ip("0.0.0.0"), &interfaces),
        (v4("198.51.100.5"), None)
    );
    assert_eq!(
        best(&[], ip("192.168.1.5"), &interfaces),
        (v4("192.168.1.5"), None)
    );
    assert_eq!(
        best(&[], any, &interfaces[..2]),
        (v4("127.0.0.1"), v6("::1"))
    );
    assert_eq!(best(&[], any, &[]), (v4("127.0.0.1"), None));
}

#[test]
fn one_relay_serves_the_ports_of_one_address() {
    for (relay, other, expected) in [
        ("0.0.0.0:1", "0.0.0.0:2", true),
        ("0.0.0.0:1", "10.0.0.1:2", true),
        ("10.0.0.1:1", "10.0.0.1:2", true),
        ("10.0.0.1:1", "10.0.0.2:2", false),
        ("10.0.0.1:1", "0.0.0.0:2", false),
        ("[::]:1", "[2001:db8::1]:2", true),
        ("[::1]:1", "0.0.0.0:2", false),
    ] {
        assert_eq!(
            covers(addr(relay), addr(other)),
            expected,
            "{relay} {other}"
        );
    }
}

#[test]
fn a_key_file_is_made_once_and_private() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("new");
    let first = load_or_create_keys(&TokioRuntime, &home).unwrap();
    let again = load_or_create_keys(&TokioRuntime, &home).unwrap();
    assert_eq!(first.id(), again.id());
    assert_eq!(key_file::reset_key(&first), key_file::reset_key(&again));
    let names: Vec<_> = std::fs::read_dir(&home)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, [KEY_FILE]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(home.join(KEY_FILE))
            .unwrap()
            .permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
    }
    std::fs::write(home.join(KEY_FILE), b"not a key").unwrap();
    let error = load_or_create_keys(&TokioRuntime, &home).unwrap_err();
    assert!(matches!(error, KeyFileError::Unreadable { .. }), "{error}");
    // A damaged key is not written over.
    assert_eq!(std::fs::read(home.join(KEY_FILE)).unwrap(), b"not a key");
}

#[tokio::test]
async fn its_links_lead_to_it_by_every_port() {
    let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime);
    let keys = NodeKeys::from_seed(&[7; 32]);
    let config = local(&["127.0.0.1:0", "127.0.0.1:0"]);
    let handle = SupernodeHandle::start(Arc::clone(&runtime), config, &keys)
        .await
        .unwrap();
    let links = handle.links();
    assert_eq!(links.len(), 2);
    let config = EndpointConfig::peer(addr("127.0.0.1:0"));
    let endpoint = Endpoint::bind(Arc::clone(&runtime), config).unwrap();
    for link in &links {
        let again: NodeLink = link.to_string().parse().unwrap();
        let address = again.0.socket_addr().unwrap();
        let connection = endpoint
            .connect_node(address, again.0.node, NodeAuth::Anonymous)
            .await
            .unwrap();
        assert_eq!(connection.peer().node, Some(keys.id()));
        let client = ahoy_nat::client::NodeClient::new(Arc::clone(&runtime), connection);
        // One relay for both ports of this address.
        let grant = client.relay_grant().await.unwrap();
        assert_eq!(grant.server, handle.local_addrs()[0]);
    }
    let status = handle.status();
    assert_eq!(status.rendezvous.relays.len(), 1);
    let accepted: u64 = status
        .ports
        .iter()
        .map(|port| port.endpoint.accepted_nodes)
        .sum();
    assert_eq!(accepted, 2);
    assert_eq!(handle.drain(Duration::from_secs(5)).await, 0);
}

#[tokio::test]
async fn a_public_address_makes_the_link() {
    let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime);
    let keys = NodeKeys::from_seed(&[7; 32]);
    for (public, expected) in [
        ("203.0.113.7:443", "@203.0.113.7:443"),
        ("localhost:443", "@localhost:443"),
    ] {
        let config = SupernodeConfig {
            public_addr: Some(public.parse().unwrap()),
            ..local(&["127.0.0.1:0"])
        };
        let handle = SupernodeHandle::start(Arc::clone(&runtime), config, &keys)
            .await
            .unwrap();
        let links = handle.links();
        assert_eq!(links.len(), 1);
        assert!(links[0].to_string().ends_with(expected), "{}", links[0]);
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let runtime: Arc<dyn Runtime> = Arc::new(TokioRuntime);
    let keys = NodeKeys::from_seed(&[7; 32]);
    let first = SupernodeHandle::start(Arc::clone(&runtime), local(&["127.0.0.1:0"]), &keys)
        .await
        .unwrap();
    let taken = first.local_addrs()[0];
    let config = SupernodeConfig {
        listen: vec![taken],
        ..SupernodeConfig::default()
    };
    let error = SupernodeHandle::start(Arc::clone(&runtime), config, &keys)
        .await
        .unwrap_err();
    assert!(error.to_string().contains(&taken.to_string()), "{error}");
    let error = SupernodeHandle::start(runtime, local(&[]), &keys)
        .await
        .unwrap_err();
    assert!(matches!(error, StartError::NoListener));
}
