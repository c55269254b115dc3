//! One fuzz body per format that a stranger's bytes reach. They stand here so that they always compile; the
//! corpus is replayed by `tests/fuzz_corpus.rs`, and `make fuzz` grows it with libFuzzer.
//!
//! A body must not panic for any input, and checks that what was read is written back as itself.

use ahoy_nat::supernode::protocol::{Push, Request, Response};

/// A fuzz body.
pub type Body = fn(&[u8]);

/// All bodies by name; the names are those of the libFuzzer targets and of the corpus folders.
pub const TARGETS: &[(&str, Body)] = &[("supernode_protocol", supernode_protocol)];

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
