//! Witnesses of device lists: our homes sign the end of ours, and those of whom we call tell what they have seen of theirs.
//! What contradicts what we know is a proof. What they signed stands in people's records, too, where it is compared:
//! [`ahoy_nat::discovery::heads`]. [`ahoy_nat::supernode::witness`] is the other side.

use std::{collections::BTreeSet, sync::Arc};

use ahoy_nat::{
    client::NodeClient,
    discovery::{
        heads::{Doubt, doubt},
        record::Record,
        rendezvous::Network,
    },
    supernode::witness::{COSIGNED_LEN, Cosigned, Testimony, WITNESSES},
};
use ahoy_transport::{
    identity::{
        NodeId, UserId,
        log::{DeviceLog, HeadCheck, LogRelation},
    },
    runtime::RuntimeExt as _,
};

use super::{
    directory::Seen,
    handle::Anomaly,
    notice::Notice,
    run::{Engine, Internal},
};

/// Witnesses as they are kept.
#[must_use]
pub fn read_witnesses(bytes: &[u8]) -> Vec<Cosigned> {
    let parts = bytes.chunks(COSIGNED_LEN).take(WITNESSES);
    let read = parts.filter_map(|part| Cosigned::from_bytes(part).ok());
    read.filter(Cosigned::is_authentic).collect()
}

/// Who has signed the end of our list, each in a network of its own.
#[derive(Debug, Default)]
pub(super) struct Witnesses {
    held: Vec<(Network, Cosigned)>,
    /// Another list of ours was told.
    told: bool,
    /// Whose records are doubtful, and that was said.
    doubted: BTreeSet<UserId>,
}

/// People whose doubtful records are remembered as told; more are told again.
const MAX_DOUBTED: usize = 256;

impl Engine {
    /// Asks a home to sign the end of our list.
    pub(super) fn ask_for_witness(&self, node: NodeId) {
        let Some(up) = self.home(node) else { return };
        let (client, user) = (up.client.clone(), self.config.me.user);
        let inbox = self.inbox.clone();
        let asking = async move {
            match client.witness().await {
                Ok(said) => {
                    let testimony = Internal::Testimony { node, user, said };
                    // The engine is gone: so is the question.
                    inbox.send(testimony).await.unwrap_or_default();
                }
                Err(error) => tracing::debug!(?node, %error, "no witness"),
            }
        };
        self.runtime.spawn_task(asking).detach();
    }

    /// Asks a home of somebody what it has seen of their list.
    pub(super) fn ask_witness_about(&self, user: UserId, node: NodeId, client: NodeClient) {
        let inbox = self.inbox.clone();
        let asking = async move {
            match client.witnessed(user).await {
                Ok(said) => {
                    let testimony = Internal::Testimony { node, user, said };
                    // As above.
                    inbox.send(testimony).await.unwrap_or_default();
                }
                Err(error) => tracing::debug!(?node, %error, "no witness"),
            }
        };
        self.runtime.spawn_task(asking).detach();
    }

    /// What a supernode says of somebody's list, perhaps ours.
    pub(super) fn handle_testimony(&mut self, node: NodeId, user: UserId, said: &Testimony) {
        let signed = said.signed.as_deref().map(Cosigned::from_bytes);
        let signed = match signed {
            None => None,
            Some(Ok(signed)) if signed.witness() == node && signed.user() == user => {
                if !signed.is_authentic() {
                    return self.note_lies(vec![(node, signed.as_bytes().to_vec())]);
                }
                Some(signed)
            }
            Some(Ok(_) | Err(_)) => return tracing::info!(?node, "a witness makes no sense"),
        };
        let Some(known) = self.known_log(user) else {
            return;
        };
        for shown in [&said.log, &said.other].into_iter().flatten() {
            let Ok(shown) = DeviceLog::from_bytes(user, shown) else {
                tracing::info!(?node, "a witness shows no device list");
                continue;
            };
            self.compare_lists(user, &known, &shown);
        }
        let Some(signed) = signed.filter(|_| user == self.config.me.user) else {
            return;
        };
        let counts = matches!(
            known.check_head(signed.head()),
            HeadCheck::Same | HeadCheck::Older
        );
        let mut homes = self.config.homes.iter().map(|(address, _addr)| address);
        let network = homes.find(|home| home.node == node).map(Network::of);
        if let Some(network) = network.filter(|_| counts) {
            let held = &mut self.witnesses.held;
            held.retain(|(other, _signed)| *other != network);
            held.insert(0, (network, signed));
            held.truncate(WITNESSES);
            let bytes = held.iter().flat_map(|(_, signed)| signed.as_bytes());
            let bytes: Vec<u8> = bytes.copied().collect();
            self.book.keep_witnesses(&bytes);
        }
    }

    /// Compares the records of somebody with each other, once all that come have come. No call waits for it.
    pub(super) fn gather_records(&self, user: UserId, seen: Seen) {
        if seen.is_empty() || !self.config.finding.witnesses {
            return;
        }
        let (runtime, inbox) = (Arc::clone(&self.runtime), self.inbox.clone());
        let gathering = async move {
            let records = seen.all(&*runtime).await;
            // As above.
            inbox
                .send(Internal::Records { user, records })
                .await
                .unwrap_or_default();
        };
        self.runtime.spawn_task(gathering).detach();
    }

    /// Says what does not go together. The call goes on: only the person can find out which is right.
    pub(super) fn weigh_records(&mut self, user: UserId, records: &[Record]) {
        let newest = records.iter().max_by_key(|record| record.fields().seq);
        let Some((newest, rendezvous)) = newest.zip(self.rendezvous.as_ref()) else {
            return;
        };
        let networks = rendezvous.networks();
        let network_of = |node| networks.get(&node).cloned();
        let log = self.known_log(user);
        let now_millis = self.runtime.unix_millis();
        let Some(found) = doubt(newest, records, log.as_ref(), network_of, now_millis) else {
            return;
        };
        let doubted = &mut self.witnesses.doubted;
        if doubted.len() >= MAX_DOUBTED {
            doubted.clear();
        }
        if !doubted.insert(user) {
            return;
        }
        let name = self.book.display_name(user, "");
        let notice = match found {
            Doubt::Contradicted(networks) => Notice::Contradicted { name, networks },
            Doubt::Behind(networks) => Notice::Behind { name, networks },
            Doubt::Unwitnessed => Notice::Unwitnessed { name },
        };
        self.tell_anomaly(Anomaly::DoubtfulList, notice);
    }

    fn compare_lists(&mut self, user: UserId, known: &DeviceLog, shown: &DeviceLog) {
        let is_own = user == self.config.me.user;
        match known.compare(shown) {
            LogRelation::Fork(proof)
                if !is_own || !std::mem::replace(&mut self.witnesses.told, true) =>
            {
                self.tell_fork(&proof);
            }
            // This device was away, or comes from an old backup: what our other devices signed meanwhile holds here, too.
            LogRelation::Extends if is_own => self.take_own_log(&shown.to_bytes()),
            LogRelation::Extends => self.book.keep_log(shown),
            LogRelation::Fork(_)
            | LogRelation::Same
            | LogRelation::Rollback
            | LogRelation::OtherUser => {}
        }
    }
}
