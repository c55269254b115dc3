//! Finding a person's devices: asking supernodes, and believing nothing they say.
//!
//! A supernode answers with signed bytes. A device counts only when its certificate leads back to the
//! person's own key, stands in the person's device log, and that log is no older than, and no contradiction
//! to, the one seen before.

use std::{sync::Arc, time::Duration};

use ahoy_nat::{client::NodeClient, supernode::protocol::Registration};
use ahoy_transport::{
    endpoint::{Endpoint, NodeAuth},
    identity::{
        CertificateError, DeviceCertificate, NodeAddress, NodeId, SealKeyError, SealKeyRecord,
        UserId, VerifiedDevice, VerifiedSealKey,
        log::{DeviceLog, ForkProof, LogError, LogRelation},
    },
    runtime::{Runtime, resolve_node, timeout},
    wire::WireError,
};
use futures_util::future::join_all;

use crate::call::Unreachable;

/// Asking one supernode: connect, and one round trip.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// A device that can be called through a supernode.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) device: VerifiedDevice,
    pub(super) seal_key: VerifiedSealKey,
    pub(super) epoch: u64,
    /// The supernode where it is registered.
    pub(super) node: NodeAddress,
    pub(super) client: NodeClient,
    /// The person's log as this supernode gave it.
    pub(super) log: DeviceLog,
}

/// Why a registration is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    /// The certificate.
    #[error("certificate: {0}")]
    Certificate(#[from] CertificateError),
    /// The device log.
    #[error("device log: {0}")]
    Log(#[from] LogError),
    /// The key to seal to.
    #[error("seal key: {0}")]
    SealKey(#[from] SealKeyError),
    /// The bytes of the seal key.
    #[error("seal key: {0}")]
    Malformed(#[from] WireError),
    /// The log ends before one we have seen.
    #[error("an old device log, from before one that was seen already")]
    Rollback,
    /// The log contradicts one we have seen.
    #[error("a device log that contradicts one that was seen already")]
    Fork(Box<ForkProof>),
}

/// Where to ask.
#[derive(Debug, Clone)]
pub(super) enum Directory {
    /// A supernode we are registered at.
    Home(NodeAddress, NodeClient),
    /// Another one, which learns nothing about us.
    Guest(NodeAddress),
}

/// What a look-up brought.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) targets: Vec<Target>,
    /// Connections opened for this call. They stay open for replies.
    pub(super) guests: Vec<(NodeId, NodeClient)>,
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
        match self.answered {
            0 => Unreachable::NoRoute,
            _ => Unreachable::Offline,
        }
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
    let asking = directories
        .into_iter()
        .map(|directory| ask(&runtime, &endpoint, directory, user));
    let mut findings = Findings::default();
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

struct AnswerOf {
    node: NodeAddress,
    client: NodeClient,
    is_guest: bool,
    registrations: Vec<Registration>,
}

async fn ask(
    runtime: &Arc<dyn Runtime>,
    endpoint: &Endpoint,
    directory: Directory,
    user: UserId,
) -> Option<AnswerOf> {
    let asking = async {
        let (node, client, is_guest) = match directory {
            Directory::Home(node, client) => (node, client, false),
            Directory::Guest(address) => {
                let addr = resolve_node(&**runtime, &address)
                    .await
                    .inspect_err(|error| tracing::info!(%address, %error, "no such supernode"))
                    .ok()?
                    .into_iter()
                    .next()?;
                let connection = endpoint
                    .connect_node(addr, address.node, NodeAuth::Anonymous)
                    .await
                    .inspect_err(|error| tracing::info!(%address, %error, "supernode not reached"))
                    .ok()?;
                let client = NodeClient::new(Arc::clone(runtime), connection);
                (address, client, true)
            }
        };
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

/// Judges a registration of `user` that a supernode handed out.
///
/// # Errors
/// One variant per reason not to believe it.
pub fn verify(
    registration: &Registration,
    user: UserId,
    known: Option<&DeviceLog>,
    now_millis: u64,
) -> Result<(VerifiedDevice, VerifiedSealKey, DeviceLog), Distrust> {
    let log = DeviceLog::from_bytes(user, &registration.log)?;
    check_history(known, &log)?;
    let certificate = DeviceCertificate::from_bytes(&registration.certificate)?;
    let device = certificate.verify_in_log(now_millis, user, &log)?;
    let seal_key =
        SealKeyRecord::from_bytes(&registration.seal_key)?.verify(now_millis, device.device())?;
    Ok((device, seal_key, log))
}

/// Judges a log against the one seen before.
///
/// # Errors
/// [`Distrust::Rollback`] and [`Distrust::Fork`].
pub fn check_history(known: Option<&DeviceLog>, log: &DeviceLog) -> Result<(), Distrust> {
    match known.map(|known| known.compare(log)) {
        None | Some(LogRelation::Same | LogRelation::Extends) => Ok(()),
        Some(LogRelation::Rollback) => Err(Distrust::Rollback),
        Some(LogRelation::Fork(proof)) => Err(Distrust::Fork(Box::new(proof))),
        Some(LogRelation::OtherUser) => Err(Distrust::Log(LogError::WrongUser)),
    }
}
