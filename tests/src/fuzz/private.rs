//! What a private network's members, owner and supernodes show each other.

use std::collections::BTreeSet;

use ahoy::network::{Membership, NetworkLink};
use ahoy_nat::supernode::{
    closed::{Closed, ClosedNews, InviteUse},
    protocol::{Request, Response},
};
use ahoy_transport::{
    identity::{
        NetworkId, NodeAddress, NodeKeys,
        network::{
            NetworkInvite, NetworkKey, NetworkMember, NetworkPass, NetworkRole, RevokedInvites,
            split_credential,
        },
    },
    noise::{Pattern, PeerIdentity, VerifiedPeer},
};
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};

use super::{identity::NOW_MILLIS, seeds::Sample};

const NOISE: [u8; 32] = [9; 32];

fn key() -> NetworkKey {
    NetworkKey::from_seed(&[1; 32])
}

fn network() -> NetworkId {
    key().id()
}

/// Passes, credentials, invites, links, lists of revoked invites, and what a supernode keeps.
pub fn private_network(bytes: &[u8]) {
    if let Ok(pass) = NetworkPass::from_bytes(bytes) {
        assert_eq!(pass.to_bytes(), bytes);
        let _judged = pass.verify(network(), &NOISE, NOW_MILLIS);
    }
    if let Ok((Some(pass), device)) = split_credential(bytes) {
        assert!(pass.len() + device.len() < bytes.len());
    }
    let shown = PeerIdentity {
        pattern: Pattern::IkHfs,
        noise_static: Some(NOISE),
        credential: bytes.to_vec(),
        peer: VerifiedPeer::default(),
    };
    let mut closed = Closed::new(network());
    if let Ok(Some(admitted)) = closed.admit(&shown, NOW_MILLIS) {
        assert_eq!(closed.still(&admitted, NOW_MILLIS), Ok(()));
    }
    if let Ok(invite) = NetworkInvite::from_secret_bytes(bytes) {
        assert_eq!(&invite.to_secret_bytes()[..], bytes);
    }
    if let Ok(member) = NetworkMember::from_secret_bytes(bytes) {
        assert_eq!(&member.to_secret_bytes()[..], bytes);
    }
    if let Ok(list) = RevokedInvites::from_bytes(network(), bytes) {
        assert_eq!(list.to_bytes(), bytes);
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(link) = text.parse::<NetworkLink>()
    {
        assert_eq!(link.to_string(), text);
    }
    if closed.resume(bytes).is_ok() {
        let news = closed.news(NetworkRole::Supernode, None, 0);
        Closed::new(network()).take_in(&news, NOW_MILLIS);
    }
}

pub(super) fn samples() -> Vec<Sample> {
    let mut rng = ChaCha20Rng::from_seed([7; 32]);
    let invite = key().invite(NetworkRole::Device, NOW_MILLIS + 1000, &mut rng);
    let member = invite.clone().redeem(&mut rng);
    let list = key().revoke(1, &BTreeSet::from([[3; 32], [4; 32]]));
    let mut closed = Closed::new(network());
    let news = ClosedNews {
        revoked: Some(list.to_bytes()),
        uses: vec![InviteUse {
            invite: [5; 32],
            member: [6; 32],
            at_millis: NOW_MILLIS,
            not_after_millis: NOW_MILLIS + 1,
        }],
        next: 1,
    };
    closed.take_in(&news, NOW_MILLIS);
    let mut owner = Membership::found("Us", NOW_MILLIS, &mut rng);
    let node = NodeKeys::from_seed(&[7; 32]).id();
    owner.add_nodes([NodeAddress::new(node, ([192, 0, 2, 1], 4433).into())]);
    let link = owner.invite(NetworkRole::Supernode, 1, "", NOW_MILLIS, &mut rng);
    let link = link.expect("the key is here").to_string();
    let request = Request::News {
        seq: Some(1),
        after: 2,
        revoked: Some(list.to_bytes()),
    };
    vec![
        ("private_network", "pass", member.pass(&NOISE)),
        (
            "private_network",
            "credential",
            member.credential(&NOISE, b""),
        ),
        (
            "private_network",
            "invite",
            invite.to_secret_bytes().to_vec(),
        ),
        (
            "private_network",
            "member",
            member.to_secret_bytes().to_vec(),
        ),
        ("private_network", "revoked", list.to_bytes()),
        (
            "private_network",
            "kept",
            closed.take_changes().expect("news"),
        ),
        ("private_network", "link", link.into_bytes()),
        ("supernode_protocol", "news", request.encode()),
        (
            "supernode_protocol",
            "news_told",
            Response::News(news).encode(),
        ),
    ]
}
