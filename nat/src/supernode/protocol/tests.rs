use ahoy_transport::identity::{DeviceId, NodeKeys};
use proptest::{collection::vec, prelude::*};

use super::{super::mailbox::MailCapability, *};

fn bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..max)
}

fn registration() -> impl Strategy<Value = Registration> {
    (any::<u64>(), bytes(200), bytes(200), bytes(200)).prop_map(
        |(epoch, certificate, log, seal_key)| Registration {
            epoch,
            certificate,
            log,
            seal_key,
        },
    )
}

fn grant() -> impl Strategy<Value = RelayGrant> {
    (
        any::<SocketAddr>(),
        "[a-z]{0,20}",
        "[a-z]{0,20}",
        any::<u32>(),
    )
        .prop_map(|(server, username, password, lifetime_secs)| RelayGrant {
            // A flow label or scope is local to a host and has no place on the wire.
            server: SocketAddr::new(server.ip(), server.port()),
            username,
            password,
            realm: "ahoy".into(),
            nonce: "n".into(),
            lifetime_secs,
        })
}

fn proof(nonce: u64) -> Proof {
    let mut bytes = vec![7; 37];
    bytes.put_u64(nonce);
    Proof::read(&mut Reader::new(&bytes)).unwrap()
}

fn relay(ip: IpAddr, port: u16) -> NodeAddress {
    let node = NodeKeys::from_seed(&[7; 32]).id();
    NodeAddress::new(node, SocketAddr::new(ip, port))
}

proptest! {
    #[test]
    fn requests_round_trip(
        registration in registration(),
        user: [u8; 32],
        epoch: u64,
        envelope in bytes(300),
        left in bytes(300),
        ids in 0..=MAX_LETTERS,
        addr: IpAddr,
        port in 1..=u16::MAX,
    ) {
        for request in [
            Request::Register(registration),
            Request::Lookup { user: UserId(user) },
            Consignment::Deliver { to: DeviceId(user), epoch, mark: None, envelope: envelope.clone() }.into(),
            Consignment::Deliver { to: DeviceId(user), epoch, mark: Some([9; MARK_LEN]), envelope: envelope.clone() }.into(),
            Request::Reply { delivery: epoch, payload: envelope },
            Request::RelayGrant,
            Request::AllowRelay { relay: relay(addr, port) },
            Request::KeepBox { key: MailCapability::from_bytes(user).at(relay(addr, port).node) },
            Request::Boxes { user: UserId(user) },
            Consignment::Leave { user: UserId(user), to: DeviceId(user), mark: None, envelope: left.clone() }.into(),
            Consignment::Leave { user: UserId(user), to: DeviceId(user), mark: Some([7; MARK_LEN]), envelope: left }.into(),
            Request::Fetch,
            Request::Acknowledge { ids: vec![epoch; ids] },
            Request::Publish { record: user.to_vec() },
            Request::Find { user: UserId(user) },
            Request::Witness,
            Request::Witnessed { user: UserId(user) },
            Request::News { seq: None, after: 0, revoked: None },
            Request::News { seq: Some(1), after: 2, revoked: Some(vec![3]) },
            Request::Proven {
                proof: proof(epoch),
                consignment: Consignment::Leave { user: UserId(user), to: DeviceId(user), mark: None, envelope: user.to_vec() },
            },
            Request::Supernodes { after: None, most: 0, own: None },
            Request::Supernodes { after: Some(Network::V4([1, 2])), most: 9, own: Some(user.to_vec()) },
            Request::Supernodes { after: Some(Network::of_ip(addr)), most: 255, own: None },
        ] {
            prop_assert_eq!(Request::decode(&request.encode()), Ok(request));
        }
    }

    #[test]
    fn responses_and_pushes_round_trip(
        devices in vec(registration(), 0..=MAX_DEVICES),
        grant in grant(),
        now_millis: u64,
        payload in bytes(300),
    ) {
        for response in [
            Response::Registered { observed: grant.server, now_millis, relay: Some(grant.clone()) },
            Response::Registered { observed: grant.server, now_millis, relay: None },
            Response::Devices(devices),
            Response::Delivered { delivery: now_millis },
            Response::Record(None),
            Response::Testimony(Testimony::default()),
            Response::News(ClosedNews::default()),
            Response::News(ClosedNews {
                revoked: Some(vec![1, 2]),
                uses: vec![InviteUse {
                    invite: [3; 32],
                    member: [4; 32],
                    at_millis: 5,
                    not_after_millis: 6,
                }],
                next: 7,
            }),
            Response::Testimony(Testimony {
                signed: Some(vec![7; COSIGNED_LEN]),
                log: None,
                other: Some(vec![9; MAX_LOG]),
            }),
            Response::Record(Some(grant.username.clone().into_bytes())),
            Response::Replied,
            Response::Puzzle(proof(now_millis).puzzle),
            Response::RelayAllowed { lifetime_secs: grant.lifetime_secs },
            Response::Relay(grant),
            Response::BoxKept { waiting: 9 },
            Response::Left { contact: now_millis % 2 == 0 },
            Response::Letters(vec![WaitingLetter { id: now_millis, envelope: payload.clone() }; 2]),
            Response::Acknowledged,
            Response::Supernodes(vec![vec![7; MAX_ANNOUNCEMENT_LEN]; PAGE + 1]),
        ]
        .into_iter()
        .chain(Refusal::ALL.map(Response::Refused))
        {
            prop_assert_eq!(Response::decode(&response.encode()), Ok(response));
        }
        for push in [
            Push::Incoming { delivery: now_millis, envelope: payload.clone() },
            Push::ReplyTo { delivery: now_millis, payload },
            Push::Draining,
            Push::Mail,
        ] {
            prop_assert_eq!(Push::decode(&push.encode()), Ok(push));
        }
    }

    #[test]
    fn garbage_is_an_error_or_reads_back_as_itself(mut bytes in bytes(400), versioned: bool) {
        if versioned && let Some(first) = bytes.first_mut() {
            *first = VERSION;
        }
        if let Ok(request) = Request::decode(&bytes) {
            prop_assert_eq!(Request::decode(&request.encode()), Ok(request));
        }
        if let Ok(response) = Response::decode(&bytes) {
            prop_assert_eq!(Response::decode(&response.encode()), Ok(response));
        }
        if let Ok(push) = Push::decode(&bytes) {
            prop_assert_eq!(Push::decode(&push.encode()), Ok(push));
        }
    }
}

#[test]
fn only_what_strangers_send_comes_with_a_proof_and_no_proof_lies_in_another() {
    let prove = |inner: &[u8]| {
        let mut out = start(PROVEN);
        proof(1).write(&mut out);
        out.put_bytes(inner);
        out
    };
    let leave = Consignment::Leave {
        user: UserId([1; 32]),
        to: DeviceId([2; 32]),
        mark: None,
        envelope: vec![3],
    };
    let proven = prove(&leave.encode());
    let read = Request::Proven {
        proof: proof(1),
        consignment: leave,
    };
    assert_eq!(Request::decode(&proven), Ok(read));
    for other in [prove(&proven), prove(&Request::Fetch.encode())] {
        assert_eq!(Request::decode(&other), Err(WireError::Undefined));
    }
}

#[test]
fn another_version_is_named() {
    assert_eq!(Request::decode(&[9, LOOKUP]), Err(WireError::Version(9)));
}

#[test]
fn asking_for_another_relay_has_these_bytes() {
    let request = Request::AllowRelay {
        relay: relay([192, 0, 2, 1].into(), 4433),
    };
    let mut golden = vec![1, 6, 64, 67];
    golden
        .extend_from_slice(b"7jfgaa9nutjyixzikb7tgmsf9gkwq7iqz498zr1nd5ig1fng4esy@192.0.2.1:4433");
    assert_eq!(request.encode(), golden);
    assert_eq!(Request::decode(&golden), Ok(request));
    assert_eq!(
        Response::RelayAllowed { lifetime_secs: 900 }.encode(),
        [1, 0x46, 0, 0, 3, 0x84]
    );
}

#[test]
fn a_relay_that_is_too_long_or_no_address_is_refused() {
    let mut bytes = start(ALLOW_RELAY);
    bytes.put_var_bytes(&[b'y'; MAX_NODE_ADDRESS_LEN + 1]);
    assert_eq!(Request::decode(&bytes), Err(WireError::TooLong));
    let mut bytes = start(ALLOW_RELAY);
    bytes.put_var_bytes(b"someone@192.0.2.1:4433");
    assert_eq!(Request::decode(&bytes), Err(WireError::Undefined));
}

#[test]
fn a_full_answer_has_room_for_all_devices_when_they_share_a_log() {
    let device = Registration {
        epoch: 1,
        certificate: vec![1; MAX_CERTIFICATE],
        log: vec![2; MAX_LOG],
        seal_key: vec![3; MAX_SEAL_KEY],
    };
    let devices = vec![device; MAX_DEVICES];
    let fitting = devices_that_fit(devices.iter());
    assert_eq!(fitting.len(), MAX_DEVICES);
    assert!(Response::Devices(fitting).encode().len() <= MAX_MESSAGE);
    // With a log each, what does not fit is left out.
    let mut devices = devices;
    for (n, device) in (0u8..).zip(&mut devices) {
        device.log = vec![n; MAX_LOG];
    }
    let fitting = devices_that_fit(devices.iter());
    assert!((3..MAX_DEVICES).contains(&fitting.len()));
    assert!(Response::Devices(fitting).encode().len() <= MAX_MESSAGE);
}

#[test]
fn a_look_up_answer_with_too_many_devices_is_refused() {
    let mut bytes = start(DEVICES);
    bytes.put_varint(MAX_DEVICES as u64 + 1);
    assert_eq!(Response::decode(&bytes), Err(WireError::TooLong));
}
