//! One fuzz body per format that a stranger's bytes reach. They stand here so that they always compile; the
//! corpus is replayed by `tests/fuzz_corpus.rs`, and `make fuzz` grows it with libFuzzer.
//!
//! A body must not panic for any input, and checks that what was read is written back as itself.

use ahoy::{
    control::codec::{Lines, read_request},
    link::{Link, PersonLink, display_name},
    report::RemoteReport,
    signal::{FollowUp, Offer, Signal, SignalMessage},
};
use ahoy_nat::{
    candidate::{decode_candidates, encode_candidates},
    discovery::announcement::Announcement,
    supernode::{
        protocol::{Consignment, Push, Request, Response},
        puzzle::{Proof, PuzzleLimits, Puzzles, Question, Verdict},
        witness::Cosigned,
    },
};
use ahoy_transport::{
    identity::{DeviceId, UserId},
    runtime::TokioRuntime,
};

mod identity;
mod media;
mod own;
mod port;
mod private;
pub mod seeds;
mod session;
mod streams;
mod turn;

pub use identity::{
    device_certificate, device_log, follow_up, fork_proof, invite, letter, person_record,
    seal_key_record, sealed_offer,
};
pub use media::{moment, parity, recv_pipeline, red, rtp, video_feedback, video_recv};
pub use own::{files, pairing};
pub use port::{peer_port, supernode_port};
pub use private::private_network;
pub use session::{noise_frame, session_datagram};
pub use streams::{dht_item, lan_packet, proxy_answer, tunnel_frames, watch_request};
pub use turn::turn;

/// A fuzz body.
pub type Body = fn(&[u8]);

/// All bodies by name; the names are those of the libFuzzer targets and of the corpus folders.
pub const TARGETS: &[(&str, Body)] = &[
    ("call_signal", call_signal),
    ("candidates", candidates),
    ("control_lines", control_lines),
    ("device_certificate", device_certificate),
    ("device_log", device_log),
    ("dht_item", dht_item),
    ("files", files),
    ("follow_up", follow_up),
    ("fork_proof", fork_proof),
    ("invite", invite),
    ("lan_packet", lan_packet),
    ("letter", letter),
    ("link", link),
    ("moment", moment),
    ("noise_frame", noise_frame),
    ("pairing", pairing),
    ("parity", parity),
    ("peer_port", peer_port),
    ("person_record", person_record),
    ("private_network", private_network),
    ("proxy_answer", proxy_answer),
    ("recv_pipeline", recv_pipeline),
    ("red", red),
    ("remote_report", remote_report),
    ("rtp", rtp),
    ("seal_key_record", seal_key_record),
    ("sealed_offer", sealed_offer),
    ("session_datagram", session_datagram),
    ("supernode_port", supernode_port),
    ("supernode_protocol", supernode_protocol),
    ("tunnel_frames", tunnel_frames),
    ("turn", turn),
    ("video_feedback", video_feedback),
    ("video_recv", video_recv),
    ("watch_request", watch_request),
];

/// Addresses that a peer says it may be reached at.
pub fn candidates(bytes: &[u8]) {
    if let Ok(candidates) = decode_candidates(bytes) {
        assert!(candidates.iter().all(|candidate| candidate.is_usable()));
        let mut again = decode_candidates(&encode_candidates(&candidates)).expect("just written");
        assert_eq!(again.len(), candidates.len());
        // They are written best first.
        for candidate in candidates {
            let at = again.iter().position(|known| *known == candidate);
            again.swap_remove(at.expect("each comes back"));
        }
    }
}

/// Lines on the local control socket, in pieces as a stream brings them.
pub fn control_lines(bytes: &[u8]) {
    let mut lines = Lines::default();
    for piece in bytes.chunks(7) {
        lines.push(piece);
        while let Ok(Some(line)) = lines.next_line() {
            assert!(!line.contains(&b'\n'));
            if let Ok(request) = read_request(&line) {
                let text = serde_json::to_vec(&request).expect("a request is JSON");
                assert_eq!(read_request(&text), Ok(request));
            }
        }
    }
}

/// Links of people and supernodes, and the names in them.
pub fn link(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(link) = text.parse::<Link>() {
        let written = link.to_string();
        assert_eq!(written.parse(), Ok(link.clone()));
        match &link {
            // A name is cleaned as it is read; everything else has one spelling.
            Link::Person(PersonLink { name: Some(_), .. }) => {}
            Link::Person(_) | Link::Node(_) => assert_eq!(written, text),
        }
    }
    let name = display_name(&text);
    assert_eq!(display_name(&name), name);
}

/// What a peer says about the call at its end.
pub fn remote_report(bytes: &[u8]) {
    if let Some(report) = RemoteReport::decode(bytes) {
        for max in [usize::MAX, 4096, 64] {
            let json = report.encode(max);
            assert!(json.len() <= max);
            assert!(RemoteReport::decode(&json).is_some());
        }
    }
}

/// Call control, offers and follow-ups between two devices.
pub fn call_signal(bytes: &[u8]) {
    if let Ok(message) = SignalMessage::decode(bytes) {
        let again = SignalMessage::decode(&message.encode());
        if let Signal::Report(_) = message.signal {
            // Its numbers go through text, which may change the last digit; the first reading decides.
            assert!(again.is_ok());
        } else {
            assert_eq!(again, Ok(message));
        }
    }
    if let Ok(offer) = Offer::decode(bytes) {
        assert_eq!(Offer::decode(&offer.encode()), Ok(offer));
    }
    if let Ok(follow_up) = FollowUp::decode(bytes) {
        assert!(FollowUp::decode(&follow_up.encode()).is_ok());
    }
}

/// Nothing that was not asked for counts.
fn judge_proof(user: UserId, to: DeviceId, proof: &Proof, envelope: &[u8]) {
    const CROWDED: u32 = 700;
    let now = quinn::Runtime::now(&TokioRuntime);
    let mut puzzles = Puzzles::new(PuzzleLimits::default());
    puzzles.start(now, [1; 32]);
    let question = Question {
        connection: 1,
        asker: None,
        to: (user, to),
    };
    let verdict = puzzles.judge(now, question, CROWDED, envelope, Some(proof));
    assert!(matches!(verdict, Verdict::Work(_)));
    assert_eq!(puzzles.counters().refused, 1);
}

/// Requests, responses and pushes between a node and a supernode.
pub fn supernode_protocol(bytes: &[u8]) {
    if let Ok(request) = Request::decode(bytes) {
        if let Request::Proven { proof, consignment } = &request
            && let Consignment::Leave {
                user, to, envelope, ..
            } = consignment
        {
            judge_proof(*user, *to, proof, envelope);
        }
        assert_eq!(Request::decode(&request.encode()), Ok(request));
    }
    if let Ok(response) = Response::decode(bytes) {
        if let Response::Supernodes(known) = &response {
            for known in known {
                if let Ok(announcement) = Announcement::from_bytes(known) {
                    assert_eq!(announcement.as_bytes(), known.as_slice());
                    assert!(!announcement.address().to_string().is_empty());
                }
            }
        }
        if let Response::Testimony(said) = &response
            && let Some(signed) = &said.signed
            && let Ok(read) = Cosigned::from_bytes(signed)
        {
            assert_eq!(read.as_bytes(), signed.as_slice());
            let _judged = read.is_authentic();
        }
        assert_eq!(Response::decode(&response.encode()), Ok(response));
    }
    if let Ok(push) = Push::decode(bytes) {
        assert_eq!(Push::decode(&push.encode()), Ok(push));
    }
}
