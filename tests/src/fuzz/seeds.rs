//! Samples for the corpus, made by the encoders themselves. `tests/fuzz_corpus.rs` writes them when asked to.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use ahoy::{
    call::CallId,
    chat::{
        MessageId,
        note::{Note, Says},
    },
    files::{
        Capability, FileOffer, Root,
        tree::Node,
        wire::{FileDatagram, Tag},
    },
    link::{NodeLink, PersonLink},
    pairing::{Grant, NewDevice, PairLink, PairMessage},
    signal::FilesOffer,
    sim::World,
    supernode::{SupernodeConfig, SupernodeHandle},
    sync::{Entry, Field},
};
use ahoy_media::{
    packet::{
        parity::ParityPacket,
        red::{RedCopy, RedPacket},
        rtp::{HEADER_BYTES, OPUS_PAYLOAD_TYPE, RED_PAYLOAD_TYPE, RtpHeader, RtpPacket},
    },
    sync::Moment,
    time::RtpTimestamp,
    video::{
        codec::{EncodedFrame, VideoCodec},
        feedback::Feedback as PictureFeedback,
        packet::{Packetizer, parity},
    },
};
use ahoy_nat::{
    candidate::{Candidate, CandidateKind, encode_candidates},
    client::NodeClient,
    discovery::{
        dht,
        lan::{Responder, Search},
        record::{self, Record, RecordFields},
    },
    supernode::{
        mailbox::{MailCapability, WaitingLetter},
        protocol::{Consignment, Registration, Request, Response},
        puzzle::Proof,
        witness::Cosigned,
    },
};
use ahoy_transport::{
    datagram::{Content, Datagram},
    endpoint::{ConnectError, Endpoint, EndpointConfig, NodeAuth},
    feedback::Feedback,
    identity::{
        CertificateFields, DeviceCertificate, Invite, NodeAddress, NodeKeys, SealKeyRecord,
        log::{LogRelation, LogSigner},
    },
    runtime::{Runtime, TokioRuntime},
    sealed::{CallEnvelopes, Role},
    tunnel::frame::Framing,
    wire::Reader,
};
use bytes::Bytes;

use super::{
    identity::{Fixture, NOW_MILLIS, fixture},
    port::{MAX_DATAGRAMS, SEED, node_keys, stranger, target},
    streams::{self, NONCE, USER, place},
};

/// A sample: the target that it is for, its name, its bytes.
pub type Sample = (&'static str, &'static str, Vec<u8>);

/// All samples.
///
/// # Panics
/// When an encoder refuses what it must take.
#[must_use]
pub fn samples() -> Vec<Sample> {
    let mut samples = Vec::new();
    samples.extend(identity());
    samples.extend(text());
    samples.extend(packets());
    samples.extend(scripts());
    samples.extend(ports());
    samples.extend(streams());
    samples.extend(super::private::samples());
    samples
}

fn identity() -> Vec<Sample> {
    let fixture = fixture();
    let second = CertificateFields::for_device(
        fixture.user(),
        &fixture.second,
        fixture.log.head(),
        NOW_MILLIS,
    );
    let by_device = DeviceCertificate::issue_by_device(second, &fixture.keys);
    let LogRelation::Fork(fork) = fixture.log.compare(&fixture.fork) else {
        panic!("the logs differ")
    };
    let offer = fixture
        .seal(&fixture.offer(b"offer", b"candidates"))
        .expect("it fits");
    let follow_up = CallEnvelopes::new(&Fixture::secret(), &[1; 16], Role::Caller)
        .seal(b"follow-up")
        .expect("it fits");
    let entry = Entry {
        field: Field::Name,
        user: fixture.user(),
        stamp: NOW_MILLIS,
        value: b"Ada".to_vec(),
    };
    let mut entries = Vec::new();
    entry.put(&mut entries);
    let hello = PairMessage::Hello {
        new: NewDevice {
            device: fixture.second.id(),
            noise_static: fixture.second.noise_public(),
            name: "laptop".into(),
        },
        commitment: [3; 32],
    };
    let part = PairMessage::Part {
        from: 7,
        bytes: vec![1, 2, 3],
    };
    let meeting = NodeAddress::new(
        NodeKeys::from_seed(&[7; 32]).id(),
        ([192, 0, 2, 1], 4433).into(),
    );
    let grant = Grant {
        user: fixture.user(),
        root: None,
        name: "Ada".into(),
        homes: vec![meeting.clone()],
        log: fixture.log.to_bytes(),
        entries: vec![entry],
    };
    let pair_link = PairLink::generate(&mut Fixture::rng(), vec![meeting]);
    let invite = Invite::issue(
        fixture.user(),
        LogSigner::Root(&fixture.root),
        NOW_MILLIS + 1,
        &mut Fixture::rng(),
    );
    let proof = invite.present(fixture.user(), fixture.keys.id());
    let seal_key = SealKeyRecord::issue(&fixture.keys).as_bytes().to_vec();
    let home = |last: u8| {
        let node = NodeKeys::from_seed(&[last; 32]).id();
        NodeAddress::new(node, ([192, 0, 2, last], 4433).into())
    };
    let record = Record::issue(
        RecordFields {
            user: fixture.user(),
            seq: 1,
            not_after_millis: NOW_MILLIS + 1000,
            log_head: fixture.log.head(),
            homes: vec![home(1), home(2)],
            sealed: record::seal(&[7; 32], fixture.user(), 1, b"for contacts"),
        },
        &fixture.root,
    );
    let fields = RecordFields {
        sealed: vec![],
        ..record.fields().clone()
    };
    let signed = [1, 2].map(|n| {
        let witness = NodeKeys::from_seed(&[n; 32]);
        Cosigned::issue(&witness, fixture.user(), fixture.log.head(), NOW_MILLIS)
    });
    let witnessed = Record::issue_witnessed(fields, &signed, &fixture.root);
    let registration = |epoch, certificate: &DeviceCertificate| Registration {
        epoch,
        certificate: certificate.as_bytes().to_vec(),
        log: fixture.log.to_bytes(),
        seal_key: seal_key.clone(),
    };
    let capability = MailCapability::from_bytes([3; 32]);
    let home = NodeAddress::new(
        NodeKeys::from_seed(&[7; 32]).id(),
        ([192, 0, 2, 1], 4433).into(),
    );
    let note = |says| Note {
        written_at_millis: NOW_MILLIS,
        name: "Alice".into(),
        invite: proof.to_bytes(),
        capability: Some(capability.clone()),
        homes: vec![home.clone()],
        says,
    };
    let text = note(Says::Text("come at eight".into())).encode();
    let letter = fixture.letter(&text);
    let owner = (fixture.user(), fixture.keys.id());
    let key = capability.at(home.node);
    let leave = Consignment::Leave {
        user: owner.0,
        to: owner.1,
        mark: Some(key.mark(owner, &letter)),
        envelope: letter.clone(),
    };
    let letters = Response::Letters(vec![
        WaitingLetter {
            id: 1,
            envelope: letter.clone(),
        };
        2
    ]);
    let devices = Response::Devices(vec![
        registration(1, &fixture.certificate),
        registration(2, &by_device),
    ]);
    vec![
        (
            "device_certificate",
            "by_root",
            fixture.certificate.as_bytes().to_vec(),
        ),
        (
            "device_certificate",
            "by_device",
            by_device.as_bytes().to_vec(),
        ),
        ("device_log", "two_devices", fixture.log.to_bytes()),
        ("device_log", "fork", fixture.fork.to_bytes()),
        ("fork_proof", "second_entry", fork.as_bytes().to_vec()),
        ("person_record", "two_homes", record.as_bytes().to_vec()),
        ("person_record", "witnessed", witnessed.as_bytes().to_vec()),
        ("seal_key_record", "first", seal_key.clone()),
        ("sealed_offer", "offer", offer),
        ("sealed_offer", "parts", b"what is offered".to_vec()),
        ("follow_up", "from_caller", follow_up),
        ("invite", "text", invite.to_string().into_bytes()),
        ("invite", "secret", invite.to_secret_bytes().to_vec()),
        ("invite", "proof", proof.to_bytes()),
        ("letter", "letter", letter),
        ("letter", "text", text),
        (
            "letter",
            "missed_call",
            note(Says::MissedCall(CallId([4; 16]))).encode(),
        ),
        (
            "letter",
            "receipt",
            note(Says::Receipt(vec![MessageId([5; 16]); 2])).encode(),
        ),
        (
            "letter",
            "shared",
            note(Says::Shared(entries.clone())).encode(),
        ),
        ("letter", "file", note(Says::File(file_offer())).encode()),
        ("files", "offer", file_offer_bytes()),
        (
            "files",
            "session",
            FilesOffer {
                tags: vec![Tag([6; 16]); 2],
            }
            .encode(),
        ),
        ("files", "want", want().encode().to_vec()),
        ("files", "data", data().encode().to_vec()),
        ("files", "name", b"../a\xe2\x80\xaeb:c.txt".to_vec()),
        ("pairing", "entries", entries),
        ("pairing", "hello", hello.encode()),
        ("pairing", "knock", super::own::knock(&hello.encode())),
        ("pairing", "part", part.encode()),
        ("pairing", "grant", grant.encode(usize::MAX).to_vec()),
        ("pairing", "link", pair_link.to_string().into_bytes()),
        ("supernode_protocol", "proven", proven(&leave).encode()),
        (
            "supernode_protocol",
            "leave",
            Request::Consign(leave).encode(),
        ),
        (
            "supernode_protocol",
            "puzzle",
            Response::Puzzle(work_done().puzzle).encode(),
        ),
        ("supernode_protocol", "letters", letters.encode()),
        (
            "supernode_protocol",
            "keep_box",
            Request::KeepBox { key }.encode(),
        ),
        (
            "supernode_protocol",
            "acknowledge",
            Request::Acknowledge { ids: vec![1, 2] }.encode(),
        ),
        (
            "supernode_protocol",
            "devices_sharing_a_log",
            devices.encode(),
        ),
    ]
}

/// As bytes say it; no supernode asked for it.
fn work_done() -> Proof {
    let mut bytes = vec![8; 37];
    bytes.extend(3_u64.to_be_bytes());
    Proof::read(&mut Reader::new(&bytes)).expect("it is long enough")
}

fn proven(consignment: &Consignment) -> Request {
    Request::Proven {
        proof: work_done(),
        consignment: consignment.clone(),
    }
}

fn streams() -> Vec<Sample> {
    let search = Search::new(USER, streams::NOW_MILLIS, NONCE);
    let question = search.query().expect("a question");
    let mut responder = Responder::new(USER, place());
    let now = quinn::Runtime::now(&TokioRuntime);
    let from = IpAddr::V4(Ipv4Addr::new(192, 168, 1, 2));
    let answer = responder
        .answer(now, streams::NOW_MILLIS, from, &question, NONCE)
        .expect("it is asked for");
    let mut tunnel = Vec::new();
    for datagram in [&b"\xc0one"[..], b"", b"two"] {
        assert!(Framing::Tunnel.encode(datagram, &mut tunnel));
    }
    let binding = b"\x00\x01\x00\x00\x21\x12\xa4\x42012345678901";
    let mut turn = Vec::new();
    for datagram in [&binding[..], b"\x40\x00\x00\x03abc"] {
        assert!(Framing::Turn.encode(datagram, &mut turn));
    }
    let fixture = fixture();
    let record = Record::issue(
        RecordFields {
            user: fixture.user(),
            seq: 1,
            not_after_millis: NOW_MILLIS + 1000,
            log_head: fixture.log.head(),
            homes: Vec::new(),
            sealed: record::seal(&[7; 32], fixture.user(), 1, b"for contacts"),
        },
        &fixture.root,
    );
    let spot = dht::places_to_put(fixture.user(), None, NOW_MILLIS);
    let items = spot
        .iter()
        .filter_map(|place| dht::item(&record, &fixture.root, place));
    let item = items.map(|item| {
        let seq = item.seq.to_be_bytes();
        [&item.key[..], &item.signature, &seq, &item.value].concat()
    });
    let item = item.into_iter().next().expect("a place of its own");
    let page = b"GET /status.json HTTP/1.1\r\nHost: 127.0.0.1:9100\r\nAccept: */*\r\n\r\n";
    vec![
        ("dht_item", "record", item),
        ("lan_packet", "question", question),
        ("lan_packet", "answer", answer),
        (
            "proxy_answer",
            "http",
            b"HTTP/1.1 200 Connection established\r\n\r\nearly".to_vec(),
        ),
        (
            "proxy_answer",
            "socks",
            b"\x05\x02\x01\x00\x05\x00\x00\x01\xc0\x00\x02\x01\x01\xbbearly".to_vec(),
        ),
        ("tunnel_frames", "tunnel", tunnel),
        ("tunnel_frames", "turn", turn),
        ("watch_request", "get", page.to_vec()),
    ]
}

fn text() -> Vec<Sample> {
    let fixture = fixture();
    let home = |host: &str| NodeAddress {
        node: node_keys().id(),
        host: host.parse().expect("a host"),
        port: 4433,
        tcp: None,
    };
    let person = PersonLink {
        homes: vec![
            home("node.example"),
            home("[2001:db8::1]"),
            home("203.0.113.1"),
        ],
        name: Some("Åsa & Bo".into()),
        ..PersonLink::new(fixture.user())
    };
    let report = r#"{"audio":{"codec":"opus"},"participants":[{"id":"a","audio":{"packets":{"sent":5,"received":4,"lost":1}}}],"network":{"rtt_ms":{"p50":12.5,"p95":20.0},"search":{"restarts":1,"guesses":2,"packets":57,"flows":3},"switches":[]}}"#;
    vec![
        ("link", "person", person.to_string().into_bytes()),
        (
            "link",
            "node",
            NodeLink(home("203.0.113.1")).to_string().into_bytes(),
        ),
        ("link", "name", "a\u{202e}b c\u{200d}".into()),
        (
            "control_lines",
            "two",
            b"{\"id\":1,\"command\":\"status\"}\n{\"command\":\"hangup\"}\r\n".to_vec(),
        ),
        ("remote_report", "small", report.into()),
    ]
}

fn packets() -> Vec<Sample> {
    let rtp_of = |payload_type: u8, payload: &[u8], sequence: u16| {
        let packet = RtpPacket {
            header: RtpHeader {
                marker: sequence == 0,
                payload_type,
                sequence,
                timestamp: RtpTimestamp(u32::from(sequence) * 960),
                ssrc: 1,
            },
            payload,
        };
        let mut out = vec![0; HEADER_BYTES + payload.len()];
        packet.write(&mut out).expect("it fits");
        out
    };
    let rtp = |payload: &[u8], sequence: u16| rtp_of(OPUS_PAYLOAD_TYPE, payload, sequence);
    let with_copy = |payload: &[u8], copy: &[u8]| {
        let copy = RedCopy {
            back_samples: 1920,
            payload: copy,
        };
        let mut out = vec![0; 4 + copy.payload.len() + payload.len()];
        let packet = RedPacket::new([copy], payload);
        packet.write(&mut out).expect("it fits");
        out
    };
    // What is missing between the first packet and these comes with them.
    let repaired: Vec<u8> = [
        rtp(&[0xf8, 0xff, 0xfe], 0),
        rtp_of(
            RED_PAYLOAD_TYPE,
            &with_copy(&[0xf8, 0xff, 0xfe], &[0xf8, 0xff, 0xfe]),
            3,
        ),
        rtp_of(
            RED_PAYLOAD_TYPE,
            &with_copy(&[0x48, 1, 2], &[0x48, 1, 2]),
            4,
        ),
        rtp_of(RED_PAYLOAD_TYPE, &[0x30, 4, 0xf8, 0xff, 0xfe], 2),
    ]
    .iter()
    .flat_map(|packet| {
        let len = u8::try_from(packet.len()).expect("short");
        [&[len, 0, 3][..], packet].concat()
    })
    .collect();
    // A CELT frame of silence (RFC 6716 section 3.1), a SILK one, and garbage.
    let stream: Vec<u8> = [
        [0xf8, 0xff, 0xfe],
        [0x48, 1, 2],
        [0x7b, 0x81, 9],
        [0xf8, 0xff, 0xfe],
    ]
    .iter()
    .zip([0, 1, 2, 5])
    .flat_map(|(payload, sequence)| {
        let packet = rtp(payload, sequence);
        let len = u8::try_from(packet.len()).expect("short");
        [&[len, 0, 2][..], &packet].concat()
    })
    .collect();
    let list = encode_candidates(&[
        Candidate::new(
            CandidateKind::Host,
            SocketAddr::from(([10, 0, 0, 1], 1)),
            65_535,
        ),
        Candidate::new(CandidateKind::ServerReflexive, stranger(), 1),
        Candidate::new(
            CandidateKind::Mapped,
            "[2001:db8::1]:9".parse().expect("an address"),
            2,
        ),
    ]);
    let media = Datagram {
        link_sequence: 0,
        content: Content::Media {
            flow: 1,
            sequence: 70,
            payload: Bytes::from_static(b"payload"),
        },
    }
    .encode();
    let feedback = Feedback {
        about: 0,
        age: Duration::from_millis(5),
        timestamp: 1000,
        begin: 0,
        arrivals: vec![Some(4), None, Some(1)],
    }
    .encode();
    let report = Datagram {
        link_sequence: 1,
        content: Content::Feedback(feedback.into()),
    }
    .encode();
    let fed: Vec<u8> = [&media, &report]
        .into_iter()
        .flat_map(|datagram| {
            // The script takes four bytes for each unit of its operation.
            let units = datagram.len().div_ceil(4);
            let mut bytes = vec![u8::try_from(units).expect("short"), 0, 0x50];
            bytes.extend_from_slice(datagram);
            bytes
        })
        .collect();
    let moment = Moment {
        sound: RtpTimestamp(960),
        picture: RtpTimestamp(3000),
        is_text: false,
    };
    let asked = PictureFeedback {
        missing: vec![65_534, 65_535, 0, 7],
        key_frame: false,
    };
    let asked = asked.encode().concat();
    vec![
        ("rtp", "opus", rtp(&[0xf8, 0xff, 0xfe], 7)),
        (
            "rtp",
            "extension_and_padding",
            vec![
                0xb1, 0x6f, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 9, 9, 9, 9, 0xbe, 0xde, 0, 1, 1, 2, 3, 4,
                5, 6, 0, 2,
            ],
        ),
        ("recv_pipeline", "stream", stream),
        ("recv_pipeline", "copies", repaired),
        ("red", "one_copy", with_copy(&[3, 4, 5], &[1, 2])),
        ("red", "no_copy", vec![0x10, 9]),
        ("red", "apart", vec![0x30, 4, 7, 8]),
        ("parity", "one_missing", with_parity()),
        ("moment", "one", moment.encode().to_vec()),
        ("video_feedback", "some_missing", asked),
        ("video_feedback", "key_frame", vec![1]),
        (
            "video_recv",
            "two_frames",
            pictures(VideoCodec::H264, false),
        ),
        ("video_recv", "restored", pictures(VideoCodec::Av1, true)),
        ("candidates", "three", list),
        ("session_datagram", "media", media.to_vec()),
        ("session_datagram", "feedback", report.to_vec()),
        ("session_datagram", "fed", fed),
    ]
}

/// A key frame and one behind it, as the target reads them; with parity, from which the first packet is to be restored.
fn pictures(codec: VideoCodec, restored: bool) -> Vec<u8> {
    let mut packetizer = Packetizer::new(codec, 3, 65_535);
    let mut all = Vec::new();
    for number in 0..2u8 {
        let mut bytes = match codec {
            VideoCodec::H264 => vec![0, 0, 0, 1, 0x41],
            // A frame OBU of 1500 bytes.
            VideoCodec::Av1 => vec![0x32, 0xdc, 0x0b],
        };
        bytes.extend([number + 1; 1500]);
        let frame = EncodedFrame {
            bytes,
            is_key: number == 0,
            temporal_layer: 0,
            needs: if number == 0 { [0; 2] } else { [1, 0] },
            taken: Duration::from_millis(33) * u32::from(number),
        };
        let packets = packetizer.packetize(&frame).expect("a frame");
        let parity = parity::protect(&packets, u16::from(restored), 9).unwrap_or_default();
        let sent = packets.iter().skip(usize::from(restored)).chain(&parity);
        for packet in sent {
            let len = u16::try_from(packet.bytes.len()).expect("it is short");
            all.push(5);
            all.extend(len.to_be_bytes());
            all.extend(&packet.bytes);
        }
    }
    all
}

/// Packets 0, 1 and 3 of a stream, as the target reads them.
fn with_parity() -> Vec<u8> {
    let payloads = [[1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11, 12]];
    let mut all = Vec::new();
    for n in [0u8, 1, 3] {
        let mut bytes = [0; 7];
        let own = usize::from(n);
        let earlier = |back: usize| {
            payloads
                .get(own.checked_sub(back)?)
                .map(<[u8; 3]>::as_slice)
        };
        let payload = payloads.get(own).expect("there are four");
        let len = ParityPacket::write(earlier, payload, &mut bytes).expect("it fits");
        all.extend([u8::try_from(len).expect("7"), n]);
        all.extend(bytes);
    }
    all
}

fn scripts() -> Vec<Sample> {
    let channel = |side: u8| [side | 8, 0x03, 0x00, b'a', b'h', b'o'];
    let both_bound = [
        &[0x03, 0, 0, 0x83, 0, 0][..],
        &channel(0),
        &channel(0x80),
        &[0x00, 0x40, 0x00, 0x09, 0, 0, 0x0a, 0, 0],
    ]
    .concat();
    let spoiled = [0x05, 0, 30, 0x03, 0, 0, 0x06, 0, 9, 0x83, 0, 0, 0, 0x10, 0];
    let binding = [
        &[0x01, 0, 20][..],
        &[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42],
        &[7; 12],
        &[0x02, 0, 4, 0x40, 0, 0, 0, 0x07, 0, 3, 1, 2, 3],
    ]
    .concat();
    // A handshake message of each pattern, and a Finished frame.
    let frames = [1u8, 2, 3, 0x20]
        .iter()
        .flat_map(|kind| [&[0, 4, *kind][..], &[9; 3]].concat())
        .collect();
    vec![
        ("turn", "both_bound", both_bound),
        ("turn", "spoiled", spoiled.to_vec()),
        ("turn", "garbage", binding),
        ("noise_frame", "kinds", frames),
    ]
}

/// What a client with and without a name sends first, and what else comes to a port.
fn ports() -> Vec<Sample> {
    let binding = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12]].concat();
    let allocate = [
        &[0, 3, 0, 8, 0x21, 0x12, 0xa4, 0x42][..],
        &[7; 12],
        &[0, 0x19, 0, 4, 17, 0, 0, 0],
    ]
    .concat();
    let short = [&[0x5a][..], &[0x91; 40]].concat();
    let channel = vec![0x40, 0x01, 0, 4, 1, 2, 3, 4];
    let framed = |datagrams: &[Vec<u8>]| {
        let mut bytes = Vec::new();
        for datagram in datagrams {
            bytes.extend(u16::try_from(datagram.len()).expect("short").to_be_bytes());
            bytes.extend(datagram);
        }
        bytes
    };
    let admitted = |datagrams: &[Vec<u8>]| [&[0][..], &framed(datagrams)].concat();
    let (anonymous, named) = (conversation(false), conversation(true));
    let others = [binding, allocate, short, channel];
    vec![
        ("supernode_port", "anonymous", framed(&anonymous)),
        ("supernode_port", "named", framed(&named)),
        ("supernode_port", "others", framed(&others)),
        ("peer_port", "anonymous", admitted(&anonymous)),
        ("peer_port", "others", admitted(&others)),
    ]
}

/// All that a client sends for a handshake and one request. The target's world draws the same random numbers, so
/// a replay gets as far.
fn conversation(named: bool) -> Vec<Vec<u8>> {
    let world = World::new(SEED);
    let home = world.add_node("home", &[target().ip()]);
    let from = world.add_node("stranger", &[stranger().ip()]);
    let config = SupernodeConfig {
        listen: vec![target()],
        ..SupernodeConfig::default()
    };
    let keys = node_keys();
    let starting = SupernodeHandle::start(world.runtime(home), config, &keys);
    let _supernode = world
        .block_on(home, starting)
        .expect("it starts")
        .expect("the port is free");
    let sent: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let log = Arc::clone(&sent);
    world.observe(move |packet| {
        if packet.from == from {
            log.lock().expect("no panic").push(packet.contents.to_vec());
        }
    });
    let runtime: Arc<dyn Runtime> = world.runtime(from);
    let endpoint =
        Endpoint::bind(Arc::clone(&runtime), EndpointConfig::peer(stranger())).expect("free");
    let fixture = fixture();
    let auth = if named {
        NodeAuth::Device {
            keys: Arc::new(fixture.keys.clone()),
            certificate: fixture.certificate.clone(),
        }
    } else {
        NodeAuth::Anonymous
    };
    let speaking = async {
        let connection = endpoint.connect_node(target(), keys.id(), auth).await?;
        let client = NodeClient::new(Arc::clone(&runtime), connection);
        if named {
            let registration = Registration {
                epoch: 1,
                certificate: fixture.certificate.as_bytes().to_vec(),
                log: fixture.log.to_bytes(),
                seal_key: SealKeyRecord::issue(&fixture.keys).as_bytes().to_vec(),
            };
            client.register(registration).await.expect("it may");
        } else {
            client.lookup(fixture.user()).await.expect("it may");
        }
        Ok::<(), ConnectError>(())
    };
    world
        .block_on(from, speaking)
        .expect("it goes on")
        .expect("it connects");
    let sent = std::mem::take(&mut *sent.lock().expect("no panic"));
    assert!(sent.len() <= MAX_DATAGRAMS, "{} datagrams", sent.len());
    sent
}

fn file_offer() -> FileOffer {
    FileOffer {
        root: Root([7; 32]),
        size: 100_000,
        name: "a.txt".into(),
        kind: "text/plain".into(),
        capability: Capability([8; 32]),
    }
}

fn file_offer_bytes() -> Vec<u8> {
    let mut bytes = Vec::new();
    file_offer().put(&mut bytes);
    bytes
}

fn want() -> FileDatagram {
    FileDatagram::Want {
        tag: Tag([6; 16]),
        node: Node { level: 0, index: 1 },
        fragments: 7,
    }
}

fn data() -> FileDatagram {
    FileDatagram::Data {
        tag: Tag([6; 16]),
        node: Node { level: 1, index: 0 },
        fragment: 0,
        bytes: Bytes::from_static(&[9; 128]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::{TARGETS, port::supernode_fed, turn::relayed_by};

    fn sample(target: &str, name: &str) -> Vec<u8> {
        let all = samples();
        let found = all
            .into_iter()
            .find(|(of, is, _)| *of == target && *is == name);
        found.unwrap().2
    }

    #[test]
    fn every_sample_is_for_a_body_and_every_body_takes_its_samples() {
        for (target, name, bytes) in samples() {
            let body = TARGETS.iter().find(|(known, _)| *known == target);
            assert!(!bytes.is_empty(), "{target} {name}");
            body.unwrap().1(&bytes);
        }
    }

    #[test]
    fn a_replayed_conversation_gets_through_the_handshake_to_a_registration() {
        let status = supernode_fed(&sample("supernode_port", "named"));
        assert_eq!(status.ports[0].endpoint.accepted_nodes, 1);
        assert_eq!(status.rendezvous.registered, 1);
        let status = supernode_fed(&sample("supernode_port", "anonymous"));
        assert_eq!(status.rendezvous.registry.lookups, 1);
        let status = supernode_fed(&sample("supernode_port", "others"));
        let relay = &status.rendezvous.relays[0];
        assert_eq!((relay.bindings, relay.errors), (1, 1));
    }

    #[test]
    fn the_relay_script_gets_behind_the_credentials() {
        assert_eq!(relayed_by(&sample("turn", "both_bound")), 2);
    }
}
