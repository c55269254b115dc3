//! What a person's devices say to each other: by a pairing link, and in letters.

use ahoy::{
    pairing::{Grant, PairLink, PairMessage},
    sync::Entry,
};
use ahoy_transport::sealed::{open_pairing, seal_pairing};

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
