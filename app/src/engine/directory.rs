//! Finding a person's devices: asking supernodes, and believing nothing they say.
//!
//! A supernode answers with signed bytes. A device counts only when its certificate leads back to the
//! person's own key, stands in the person's device log, and that log is no contradiction to the one seen
//! before: see [`judge`].

use std::{pin::pin, sync::Arc, time::Duration};

use ahoy_nat::{
    client::NodeClient,
    dial::{Ways, dial},
    discovery::lan,
    supernode::protocol::Registration,
};
use ahoy_transport::{
    endpoint::{Endpoint, NodeAuth},
    identity::{
        CertificateError, DeviceCertificate, NodeAddress, NodeId, SealKeyError, SealKeyRecord,
        UserId, VerifiedDevice, VerifiedSealKey, log::DeviceLog,
    },
    runtime::{Runtime, timeout},
    wire::WireError,
};
use futures_util::future::join_all;

use super::config::Reaching;
use crate::{
    call::Unreachable,
    identity::{Claim, ClaimError, judge},
};

/// Asking one supernode: connect, and one round trip.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// How long supernodes have before this network is searched too: longer than a good one takes.
const LAN_AFTER: Duration = Duration::from_millis(300);
/// How long somebody in this network may take to answer.
const LAN_TIMEOUT: Duration = Duration::from_secs(1);

/// A device that can be called through a supernode.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) device: VerifiedDevice,
    pub(super) seal_key: VerifiedSealKey,
    pub(super) epoch: u64,
    /// The supernode where it is registered.
    pub(super) node: NodeAddress,
    pub(super) client: NodeClient,
    /// The longest log of the person that we know of now.
    pub(super) log: Option<DeviceLog>,
    /// Found in this network, behind its own door.
    pub(super) nearby: bool,
}

/// Why a registration is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    /// Certificate and device log.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// The bytes of the certificate.
    #[error("certificate: {0}")]
    Certificate(#[from] CertificateError),
    /// The key to seal to.
    #[error("seal key: {0}")]
    SealKey(#[from] SealKeyError),
    /// The bytes of the seal key.
    #[error("seal key: {0}")]
    Malformed(#[from] WireError),
}

/// Where to ask.
#[derive(Debug, Clone)]
pub(super) enum Directory {
    /// A supernode we are registered at.
    Home(NodeAddress, NodeClient),
    /// Another one, which learns nothing about us.
    Guest(NodeAddress, Reaching),
}

/// What a look-up brought.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) targets: Vec<Target>,
    /// Connections opened for this call. They stay open for replies.
    pub(super) guests: Vec<(NodeId, NodeClient)>,
    asked: usize,
    answered: usize,
    distrusted: Option<Distrust>,
}

impl Findings {
    /// Why there is nobody to call.
    pub(super) fn why_nobody(&self) -> Unreachable {
        if let Some(distrust) = &self.distrusted {
            tracing::warn!(%distrust, "a supernode's answer is not genuine");
            return Unreachable::Untrusted;
        }
        match (self.asked, self.answered) {
            (0, _) => Unreachable::Unknown,
            (_, 0) => Unreachable::NoRoute,
            (_, _) => Unreachable::Offline,
        }
    }

    fn is_somebody(&self) -> bool {
        !self.targets.is_empty()
    }

    /// These, or `others` if these are of nobody.
    fn or(self, others: Self) -> Self {
        if self.is_somebody() { self } else { others }
    }
}

/// Asks all directories at once.
pub(super) async fn look_up(
    runtime: Arc<dyn Runtime>,
    endpoint: Endpoint,
    directories: Vec<Directory>,
    user: UserId,
    known: Option<DeviceLog>,
) -> Findings {
    let mut findings = Findings {
        asked: directories.len(),
        ..Findings::default()
    };
    let asking = directories
        .into_iter()
        .map(|directory| ask(&runtime, &endpoint, directory, user));
    let now_millis = runtime.unix_millis();
    for answer in join_all(asking).await.into_iter().flatten() {
        findings.answered += 1;
        for registration in &answer.registrations {
            match verify(registration, user, known.as_ref(), now_millis) {
                Ok((device, seal_key, log)) => {
                    let seen = findings
                        .targets
                        .iter()
                        .any(|target| target.device.device() == device.device());
                    if !seen {
                        findings.targets.push(Target {
                            device,
                            seal_key,
                            epoch: registration.epoch,
                            node: answer.node.clone(),
                            client: answer.client.clone(),
                            log,
                            nearby: false,
                        });
                    }
                }
                Err(distrust) => {
                    tracing::warn!(node = %answer.node, %distrust, "registration refused");
                    findings.distrusted = Some(distrust);
                }
            }
        }
        if answer.is_guest {
            findings.guests.push((answer.node.node, answer.client));
        }
    }
    findings
}

/// As [`look_up`], and in this network when supernodes find nobody or take their time. Whoever finds somebody first
/// counts.
pub(super) async fn look_around(
    runtime: Arc<dyn Runtime>,
    endpoint: Endpoint,
    directories: Vec<Directory>,
    user: UserId,
    known: Option<DeviceLog>,
) -> Findings {
    let far = look_up(
        Arc::clone(&runtime),
        endpoint.clone(),
        directories,
        user,
        known.clone(),
    );
    let mut far = pin!(far);
    let early = timeout(&*runtime, LAN_AFTER, &mut far).await;
    let mut near = pin!(look_near(runtime, endpoint, user, known));
    match early {
        Some(found) if found.is_somebody() => found,
        Some(nobody) => near.await.or(nobody),
        None => tokio::select! {
            biased;
            found = &mut far => if found.is_somebody() { found } else { near.await.or(found) },
            found = &mut near => if found.is_somebody() { found } else { far.await },
        },
    }
}

/// Looks for `user` in this network: by multicast, then at the door of each device that answered.
async fn look_near(
    runtime: Arc<dyn Runtime>,
    endpoint: Endpoint,
    user: UserId,
    known: Option<DeviceLog>,
) -> Findings {
    let reaching = Reaching {
        ways: Ways::Udp,
        proxy: None,
    };
    let doors = lan::find(&runtime, user, LAN_TIMEOUT)
        .await
        .into_iter()
        .map(|door| Directory::Guest(NodeAddress::new(door.node, door.addr), reaching.clone()))
        .collect();
    let mut found = look_up(runtime, endpoint, doors, user, known).await;
    for target in &mut found.targets {
        target.nearby = true;
    }
    found
}

struct AnswerOf {
    node: NodeAddress,
    client: NodeClient,
    is_guest: bool,
    registrations: Vec<Registration>,
}

/// A way to ask a directory, and whether it was opened for that.
pub(super) async fn reach(
    runtime: &Arc<dyn Runtime>,
    endpoint: &Endpoint,
    directory: Directory,
) -> Option<(NodeAddress, NodeClient, bool)> {
    match directory {
        Directory::Home(node, client) => Some((node, client, false)),
        Directory::Guest(address, reaching) => {
            let place = reaching
                .locate(&**runtime, &address)
                .await
                .inspect_err(|error| tracing::info!(%address, %error, "no such supernode"))
                .ok()?;
            let auth = NodeAuth::Anonymous;
            let dialled = dial(endpoint, address.node, &place, auth, reaching.ways)
                .await
                .inspect_err(|error| tracing::info!(%address, %error, "supernode not reached"))
                .ok()?;
            let client = NodeClient::dialled(Arc::clone(runtime), dialled);
            Some((address, client, true))
        }
    }
}

async fn ask(
    runtime: &Arc<dyn Runtime>,
    endpoint: &Endpoint,
    directory: Directory,
    user: UserId,
) -> Option<AnswerOf> {
    let asking = async {
        let (node, client, is_guest) = reach(runtime, endpoint, directory).await?;
        let registrations = client
            .lookup(user)
            .await
            .inspect_err(|error| tracing::info!(%node, %error, "look-up failed"))
            .ok()?;
        Some(AnswerOf {
            node,
            client,
            is_guest,
            registrations,
        })
    };
    timeout(&**runtime, LOOKUP_TIMEOUT, asking).await.flatten()
}

/// Judges a registration of `user` that a supernode handed out, against the longest log `known` of that person.
/// The log that comes with the device is the longest one now.
///
/// # Errors
/// One variant per reason not to believe it.
pub fn verify(
    registration: &Registration,
    user: UserId,
    known: Option<&DeviceLog>,
    now_millis: u64,
) -> Result<(VerifiedDevice, VerifiedSealKey, Option<DeviceLog>), Distrust> {
    let certificate = DeviceCertificate::from_bytes(&registration.certificate)?;
    let claim = Claim {
        expected: Some(user),
        certificate: &certificate,
        log: &registration.log,
        head: None,
    };
    let judged = judge(claim, known, now_millis)?;
    let seal_key = SealKeyRecord::from_bytes(&registration.seal_key)?
        .verify(now_millis, judged.device.device())?;
    Ok((judged.device, seal_key, judged.log))
}
