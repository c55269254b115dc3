//! One fuzz body per format that a stranger's bytes reach. They stand here so that they always compile; the
//! corpus is replayed by `tests/fuzz_corpus.rs`, and `make fuzz` grows it with libFuzzer.
//!
//! A body must not panic for any input, and checks that what was read is written back as itself.

use ahoy::signal::{FollowUp, Offer, Signal, SignalMessage};
use ahoy_nat::supernode::protocol::{Push, Request, Response};

/// A fuzz body.
pub type Body = fn(&[u8]);

/// All bodies by name; the names are those of the libFuzzer targets and of the corpus folders.
pub const TARGETS: &[(&str, Body)] = &[
    ("call_signal", call_signal),
    ("supernode_protocol", supernode_protocol),
];

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

/// Requests, responses and pushes between a node and a supernode.
pub fn supernode_protocol(bytes: &[u8]) {
    if let Ok(request) = Request::decode(bytes) {
        assert_eq!(Request::decode(&request.encode()), Ok(request));
    }
    if let Ok(response) = Response::decode(bytes) {
        assert_eq!(Response::decode(&response.encode()), Ok(response));
    }
    if let Ok(push) = Push::decode(bytes) {
        assert_eq!(Push::decode(&push.encode()), Ok(push));
    }
}
