//! A node's membership of a private network, and what that has it show to whom.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use x25519_dalek::{PublicKey, StaticSecret};

use super::NodeAuth;
use crate::identity::{NetworkId, NodeId, network::NetworkMember};

/// Supernodes of one network that are known at once. More than a company has, and a bound on what one of them can tell.
pub const MAX_KNOWN_NODES: usize = 4096;

/// Shows the pass of one member to the supernodes of its network, and nobody else.
///
/// Those are the ones that came with the invite, and those that they tell of: a network is as good as its supernodes.
pub struct NetworkAccess {
    member: NetworkMember,
    /// A supernode shows its own key, so that others know who says where it is; anybody else a new one each time.
    key: Option<StaticSecret>,
    may_leave: bool,
    known: Mutex<BTreeSet<NodeId>>,
}

impl NetworkAccess {
    /// A device's, which knows the supernodes of its invite. `may_leave`: other supernodes are dialled too, without the pass.
    #[must_use]
    pub fn device(
        member: NetworkMember,
        known: impl IntoIterator<Item = NodeId>,
        may_leave: bool,
    ) -> Self {
        Self {
            member,
            key: None,
            may_leave,
            known: Mutex::new(known.into_iter().take(MAX_KNOWN_NODES).collect()),
        }
    }

    /// A supernode's, under its own key.
    #[must_use]
    pub fn supernode(
        member: NetworkMember,
        key: StaticSecret,
        known: impl IntoIterator<Item = NodeId>,
    ) -> Self {
        Self {
            key: Some(key),
            ..Self::device(member, known, false)
        }
    }

    fn known(&self) -> MutexGuard<'_, BTreeSet<NodeId>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The network.
    #[must_use]
    pub fn network(&self) -> NetworkId {
        self.member.certificate().network
    }

    /// Until when the pass counts, Unix milliseconds.
    #[must_use]
    pub fn not_after_millis(&self) -> u64 {
        self.member.certificate().not_after_millis
    }

    /// A supernode of the network told of this one.
    pub fn learn(&self, node: NodeId) {
        let mut known = self.known();
        if known.len() < MAX_KNOWN_NODES {
            known.insert(node);
        }
    }

    /// Whether it is one of the network's.
    #[must_use]
    pub fn knows(&self, node: NodeId) -> bool {
        self.known().contains(&node)
    }

    /// Whether others may be dialled.
    #[must_use]
    pub fn may_leave(&self) -> bool {
        self.may_leave
    }

    /// Key and credential of a handshake.
    pub(super) fn present(
        &self,
        auth: NodeAuth,
        random: impl FnOnce() -> [u8; 32],
    ) -> (StaticSecret, Vec<u8>) {
        let (key, device) = match auth {
            NodeAuth::Device { keys, certificate } => {
                (keys.noise_static().clone(), certificate.as_bytes().to_vec())
            }
            NodeAuth::Anonymous => {
                let key = self.key.clone();
                (key.unwrap_or_else(|| random().into()), Vec::new())
            }
        };
        let public = PublicKey::from(&key).to_bytes();
        let credential = self.member.credential(&public, &device);
        (key, credential)
    }
}

impl fmt::Debug for NetworkAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetworkAccess")
            .field("network", &self.network())
            .field("may_leave", &self.may_leave)
            .finish_non_exhaustive()
    }
}
