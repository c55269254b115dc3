//! What a person's devices say to each other: by a pairing link, and in letters.

use std::time::{Duration, Instant};

use ahoy::{
    files::{
        FileOffer, Root,
        fetch::{Fetch, SourceId},
        name::harmless,
        tree::{Shape, Tree},
        wire::FileDatagram,
    },
    pairing::{Grant, PairLink, PairMessage},
    signal::FilesOffer,
    sync::Entry,
};
use ahoy_transport::{
    runtime::TokioRuntime,
    sealed::{open_pairing, seal_pairing},
    wire::Reader,
};
use bytes::Bytes;
use quinn::Runtime as _;

use super::identity::{NOW_MILLIS, fixture};

const LINK: [u8; 32] = [6; 32];

/// Links, the first envelope, messages and grants, entries.
pub fn pairing(bytes: &[u8]) {
    if let Ok(link) = String::from_utf8_lossy(bytes).parse::<PairLink>() {
        assert_eq!(link.to_string().parse(), Ok(link));
    }
    if let Ok(message) = PairMessage::decode(bytes) {
        assert_eq!(PairMessage::decode(&message.encode()), Ok(message));
    }
    if let Ok(grant) = Grant::decode(bytes) {
        let again = Grant::decode(&grant.encode(usize::MAX)).expect("just written");
        assert!(again == grant);
    }
    if let Ok(entries) = Entry::read_all(bytes) {
        let mut written = Vec::new();
        entries.iter().for_each(|entry| entry.put(&mut written));
        assert_eq!(Entry::read_all(&written), Ok(entries));
    }
    if let Ok((_envelopes, payload)) = open_pairing(&LINK, &fixture().keys, bytes) {
        assert!(payload.len() <= bytes.len());
    }
}

/// Datagrams about files, one and as the answers of a source; offers, and names in them.
pub fn files(bytes: &[u8]) {
    let whole = Bytes::copy_from_slice(bytes);
    if let Ok(datagram) = FileDatagram::decode(&whole) {
        assert_eq!(datagram.encode(), whole);
    }
    if let Ok(offer) = FilesOffer::decode(bytes) {
        assert_eq!(FilesOffer::decode(&offer.encode()), Ok(offer));
    }
    let mut reader = Reader::new(bytes);
    if let Ok(offer) = FileOffer::read(&mut reader) {
        let mut written = Vec::new();
        offer.put(&mut written);
        assert_eq!(FileOffer::read(&mut Reader::new(&written)), Ok(offer));
    }
    let name = harmless(&String::from_utf8_lossy(bytes));
    assert!(!name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', ':']));
    assert_eq!(harmless(&name), name);
    answers(bytes);
}

/// Each part of `bytes` is what a source sends next.
fn answers(bytes: &[u8]) {
    let Some(shape) = Shape::new(200_000) else {
        return;
    };
    let mut now: Instant = TokioRuntime.now();
    let mut fetch = Fetch::new(Tree::unknown(Root([1; 32]), shape), Vec::new());
    fetch.add_source(now, SourceId(0));
    for part in bytes.chunks(40) {
        now += Duration::from_millis(10);
        while fetch.poll_want(now).is_some() {}
        if let Ok(FileDatagram::Data {
            node,
            fragment,
            bytes,
            ..
        }) = FileDatagram::decode(&Bytes::copy_from_slice(part))
        {
            fetch.handle_data(now, SourceId(0), node, fragment, &bytes);
        }
    }
    assert!(
        fetch.poll_piece().is_none(),
        "nobody can make up such a file"
    );
}

/// The envelope of a new device that says `payload`.
pub(super) fn knock(payload: &[u8]) -> Vec<u8> {
    let fixture = fixture();
    let key = fixture
        .keys
        .seal_key_record()
        .verify(NOW_MILLIS, fixture.keys.id())
        .expect("its own");
    let mut rng = super::identity::Fixture::rng();
    let (_envelopes, envelope) = seal_pairing(&LINK, &key, payload, &mut rng).expect("it is short");
    envelope
}
