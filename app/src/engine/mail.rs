//! What takes time about letters: leaving them at the other person's homes, and fetching our own.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use ahoy_nat::{
    client::{NodeClient, RequestError},
    supernode::{mailbox::WaitingLetter, protocol::Refusal},
    workbench::Desk,
};
use ahoy_transport::{
    endpoint::Endpoint,
    identity::{DeviceId, NodeAddress, NodeId, UserId, VerifiedSealKey, log::DeviceLog},
    runtime::{Runtime, RuntimeExt, timeout},
    sealed::{Letter, seal_letter},
};
use futures_util::future::join_all;
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
use tokio::sync::{mpsc, oneshot};

use super::{
    config::Me,
    directory::{Directory, reach, verify},
    run::Internal,
};
use crate::chat::{
    MessageId, Obstacle,
    book::Peer,
    outbox::{Attempt, Outgoing},
};

/// Reaching a home and asking it for boxes.
const ASKING: Duration = Duration::from_secs(8);
/// A home that lets us fetch no faster is asked again after this.
const FETCH_PAUSE: Duration = Duration::from_secs(2);

/// An attempt to send something.
#[derive(Debug)]
pub(super) struct Post {
    pub(super) entry: Outgoing,
    pub(super) directories: Vec<Directory>,
    /// The longest log of the person that we know.
    pub(super) known: Option<DeviceLog>,
    /// What the person's devices told us.
    pub(super) peers: Vec<Peer>,
    pub(super) me: Me,
    /// Where the work is done that flooded homes ask for.
    pub(super) desk: Desk,
}

/// How it went.
#[derive(Debug)]
pub(super) struct Posted {
    pub(super) id: MessageId,
    pub(super) attempt: Attempt,
    /// What was sealed for which device.
    pub(super) sealed: BTreeMap<DeviceId, Vec<u8>>,
    /// Logs that came with the person's devices.
    pub(super) logs: Vec<DeviceLog>,
}

/// A home that answered, and the person's boxes there.
struct Place {
    node: NodeAddress,
    client: NodeClient,
    is_guest: bool,
    devices: Vec<(DeviceId, VerifiedSealKey)>,
}

/// Leaves something in every box of a person at every home that answers.
pub(super) async fn post(runtime: Arc<dyn Runtime>, endpoint: Endpoint, post: Post) -> Posted {
    let Post {
        entry,
        directories,
        known,
        peers,
        me,
        desk,
    } = post;
    let mut obstacle = if directories.is_empty() {
        Obstacle::Unknown
    } else {
        Obstacle::NoRoute
    };
    let asking = directories.into_iter().map(|directory| {
        let asking = async {
            let (node, client, is_guest) = reach(&runtime, &endpoint, directory).await?;
            let found = client.boxes(entry.user).await;
            Some((node, client, is_guest, found))
        };
        timeout(&*runtime, ASKING, asking)
    });
    let now_millis = runtime.unix_millis();
    let (mut places, mut logs) = (Vec::new(), Vec::new());
    for answer in join_all(asking).await.into_iter().flatten().flatten() {
        let (node, client, is_guest, found) = answer;
        let mut devices = Vec::new();
        match found {
            Ok(found) => {
                obstacle = worse(obstacle, Obstacle::NoBox);
                for registration in &found {
                    match verify(registration, entry.user, known.as_ref(), now_millis) {
                        Ok((device, seal_key, log)) => {
                            let device = device.device();
                            logs.extend(log);
                            if entry.is_for(device) {
                                devices.push((device, seal_key));
                            }
                        }
                        Err(distrust) => {
                            tracing::warn!(%node, %distrust, "a box is not the person's");
                            obstacle = worse(obstacle, Obstacle::Untrusted);
                        }
                    }
                }
            }
            Err(error) => tracing::info!(%node, %error, "no boxes"),
        }
        places.push(Place {
            node,
            client: client.at(desk.clone()),
            is_guest,
            devices,
        });
    }
    let sealed = seal(&runtime, &entry, &me, &places);
    let mut left = BTreeSet::new();
    for (node, result) in join_all(
        places
            .iter()
            .map(|place| leave(place, entry.user, &sealed, &peers)),
    )
    .await
    .into_iter()
    .flatten()
    {
        match result {
            Ok(contact) => {
                tracing::debug!(?node, contact, "left");
                left.insert(node);
            }
            Err(error) => {
                tracing::info!(?node, %error, "not left");
                if let RequestError::Refused(Refusal::BoxFull | Refusal::TooFast)
                | RequestError::TooMuchWork = error
                {
                    obstacle = worse(obstacle, Obstacle::Full);
                }
            }
        }
    }
    for place in places.iter().filter(|place| place.is_guest) {
        place.client.close();
    }
    Posted {
        id: entry.id,
        attempt: if left.is_empty() {
            Attempt::Nowhere(obstacle)
        } else {
            Attempt::Left(u8::try_from(left.len()).unwrap_or(u8::MAX))
        },
        sealed,
        logs,
    }
}

/// The one of two obstacles that tells more.
fn worse(known: Obstacle, new: Obstacle) -> Obstacle {
    let rank = |obstacle| match obstacle {
        Obstacle::Unknown => 0,
        Obstacle::NoRoute => 1,
        Obstacle::NoBox => 2,
        Obstacle::Full => 3,
        Obstacle::Untrusted => 4,
    };
    if rank(new) > rank(known) { new } else { known }
}

/// One envelope for each device, made anew only for a device whose key is another one by now.
fn seal(
    runtime: &Arc<dyn Runtime>,
    entry: &Outgoing,
    me: &Me,
    places: &[Place],
) -> BTreeMap<DeviceId, Vec<u8>> {
    let mut rng = ChaCha20Rng::from_seed(runtime.random_array());
    let mut sealed = entry.sealed.clone();
    let mut current = BTreeSet::new();
    for (device, key) in places.iter().flat_map(|place| &place.devices) {
        if !current.insert(*device) {
            continue;
        }
        let generation = key.generation().to_be_bytes();
        let is_current = sealed
            .get(device)
            .is_some_and(|envelope| envelope.get(2..6) == Some(&generation[..]));
        if is_current {
            continue;
        }
        let letter = Letter {
            id: entry.id.0,
            recipient: *device,
            sealed_at_millis: runtime.unix_millis(),
            log_head: me.log.head(),
            certificate: me.certificate.clone(),
            log: me.log.to_bytes(),
            body: entry.note.clone(),
        };
        match seal_letter(&letter, &me.keys, key, &mut rng) {
            Ok(envelope) => {
                sealed.insert(*device, envelope);
            }
            Err(error) => tracing::error!(%error, "a letter cannot be sealed"),
        }
    }
    sealed
}

async fn leave(
    place: &Place,
    user: UserId,
    sealed: &BTreeMap<DeviceId, Vec<u8>>,
    peers: &[Peer],
) -> Vec<(NodeId, Result<bool, RequestError>)> {
    let node = place.node.node;
    let mut results = Vec::new();
    for (device, _key) in &place.devices {
        let Some(envelope) = sealed.get(device) else {
            continue;
        };
        let peer = peers.iter().find(|peer| peer.device == *device);
        let owner = (user, *device);
        let mark = peer.map(|peer| peer.capability.at(node).mark(owner, envelope));
        let left = place.client.leave(owner, mark, envelope.clone()).await;
        results.push((node, left));
    }
    results
}

/// Letters for the engine, which says which of them it has.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) letters: Vec<WaitingLetter>,
    pub(super) taken: oneshot::Sender<Vec<u64>>,
}

/// Fetches everything that waits at a home, a message at a time. What the engine does not take stays there.
pub(super) async fn fetch(
    runtime: Arc<dyn Runtime>,
    client: NodeClient,
    node: NodeId,
    inbox: mpsc::Sender<Internal>,
) {
    loop {
        let letters = match client.fetch().await {
            Ok(letters) if letters.is_empty() => break,
            Ok(letters) => letters,
            Err(RequestError::Refused(Refusal::TooFast)) => {
                runtime.sleep(FETCH_PAUSE).await;
                continue;
            }
            Err(error) => {
                tracing::info!(?node, %error, "letters are not fetched");
                break;
            }
        };
        let (taken, ids) = oneshot::channel();
        let delivery = Internal::Letters(Delivery { letters, taken });
        if inbox.send(delivery).await.is_err() {
            return;
        }
        match ids.await {
            Ok(ids) if !ids.is_empty() => {
                if let Err(error) = client.acknowledge(ids).await {
                    // They come again, and are known.
                    tracing::info!(?node, %error, "letters are not acknowledged");
                    break;
                }
            }
            Ok(_) | Err(_) => break,
        }
    }
    // The engine is gone: nobody fetches any more.
    inbox
        .send(Internal::Fetched(node))
        .await
        .unwrap_or_default();
}
