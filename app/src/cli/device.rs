//! `ahoy device`: the devices that speak for one.
//!
//! A device joins without any network: `ahoy device log` on an old one, `ahoy id import --log` and the 24
//! words on the new one, whose `ahoy device log` then goes to `ahoy device add` on the old ones.

use std::path::PathBuf;
#[cfg(feature = "voice")]
use std::time::Duration;

use ahoy_nat::supernode::witness::{COSIGNED_LEN, Cosigned};
use ahoy_transport::identity::{
    DeviceId, DeviceSet as _,
    log::{DeviceLog, ForkProof, HeadCheck, LogOp, LogRelation, MAX_FORK_PROOF_LEN},
};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::{CliError, Exit, Target, env::Env, output::to_json, values};
#[cfg(feature = "voice")]
use crate::pairing::PairLink;
use crate::{contacts::find_by_name, link::NodeLink, sync::SyncBook};

const LOG_PREFIX: &str = "ahoy-log:";

/// Your devices.
#[derive(Debug, Clone, Args)]
pub struct DeviceArgs {
    /// What to do (default: list).
    #[command(subcommand)]
    pub command: Option<DeviceCommand>,
}

/// What to do with devices.
#[derive(Debug, Clone, Subcommand)]
pub enum DeviceCommand {
    /// List them.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print the device log, for `ahoy id import --log` and `ahoy device add` on another device.
    Log,
    /// Take in the device log of a device that has joined.
    Add {
        /// The file with it.
        #[arg(value_name = "FILE")]
        log: PathBuf,
    },
    /// Let a new device join: prints a link for `ahoy device join` there, which holds for some minutes and one device.
    #[cfg(feature = "voice")]
    Pair {
        /// Let the first device that comes in, without asking: for scripts.
        #[arg(long)]
        yes: bool,
        /// Give it the root key, too: it can then export the 24 words.
        #[arg(long)]
        with_root: bool,
        /// How long the link holds.
        #[arg(long = "for", value_name = "SECONDS", value_parser = values::seconds, default_value = "300")]
        lifetime: Duration,
        /// Meet in this network, without a supernode; so it is done, too, where the profile names none.
        #[arg(long, conflicts_with = "via")]
        lan: bool,
        /// Supernode to meet at, by its ahoy-node: link; may be repeated (default: those of the profile).
        #[arg(long, value_name = "NODE_LINK")]
        via: Vec<NodeLink>,
    },
    /// Become a device of the person whose other device shows this link, in a profile that is nobody's yet.
    #[cfg(feature = "voice")]
    Join {
        /// What `ahoy device pair` printed.
        link: PairLink,
        /// What this device is called (default: what the system calls it).
        #[arg(long)]
        name: Option<String>,
    },
    /// A device is lost: it no longer speaks for you.
    Revoke {
        /// Its name, its id, or the beginning of the id.
        #[arg(value_name = "DEVICE")]
        device: String,
        /// Supernode to tell at once, by its ahoy-node: link; may be repeated (default: those of the profile).
        #[arg(long, value_name = "NODE_LINK")]
        via: Vec<NodeLink>,
    },
    /// Take new keys for this device; the old ones no longer speak for you. Fetch your messages first.
    Rotate,
    /// Verify, offline, a proof that somebody's device list was forked; without a file, say whether there is one.
    Check {
        /// The file with the proof.
        #[arg(value_name = "FILE")]
        proof: Option<PathBuf>,
        /// Write the proof that is kept of this contact into FILE.
        #[arg(long, value_name = "NAME|LINK", value_parser = values::target, requires = "proof")]
        of: Option<Target>,
    },
}

#[derive(Serialize)]
struct Listed {
    id: String,
    /// What it is called, where that is known and no app runs on the profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    added_at_millis: u64,
    this: bool,
}

/// Carries it out; gives back what to print.
pub(super) fn device(env: &mut Env<'_>, arguments: DeviceArgs) -> Result<String, CliError> {
    let identity = env.identity()?;
    match arguments
        .command
        .unwrap_or(DeviceCommand::List { json: false })
    {
        DeviceCommand::List { json } => {
            let this = identity.device().id();
            // Not while the app runs, which has the database.
            let store = env.store().ok();
            let name_of = |device| {
                let (store, _lock) = store.as_ref()?;
                SyncBook(store).device_name(device).ok().flatten()
            };
            let devices: Vec<Listed> = identity
                .log()
                .devices()
                .iter()
                .map(|device| Listed {
                    id: device.device.to_string(),
                    name: name_of(device.device),
                    added_at_millis: device.added_at_millis,
                    this: device.device == this,
                })
                .collect();
            if json {
                return to_json(&devices);
            }
            let lines = devices.iter().map(|device| {
                let name = device.name.as_ref().map(|name| format!("\t{name}"));
                format!(
                    "{}{}{}",
                    device.id,
                    name.unwrap_or_default(),
                    if device.this { "\tthis device" } else { "" }
                )
            });
            Ok(lines.collect::<Vec<_>>().join("\n"))
        }
        DeviceCommand::Log => Ok(write_log(identity.log())),
        DeviceCommand::Add { log } => {
            let text = std::fs::read_to_string(&log).map_err(|error| {
                let log = log.display();
                CliError::usage(format_args!("{log} cannot be read: {error}"))
            })?;
            let log = read_log(&text)?;
            let lock = env.profile.lock()?;
            // Read again: now nobody else changes it.
            let mut identity = env.identity()?;
            match identity.log().compare(&log) {
                LogRelation::Same => return Ok(String::from("this device knew that already")),
                LogRelation::Extends => {}
                LogRelation::Rollback => {
                    return Err(CliError::failed(
                        "that log is older than this device's: let the other device take in this one's",
                    ));
                }
                LogRelation::Fork(_) => {
                    return Err(CliError::failed(
                        "that log and this device's contradict each other: somebody else has your words. \
                         Make a new identity with --home and `ahoy id new`, and tell your contacts",
                    ));
                }
                LogRelation::OtherUser => {
                    return Err(CliError::usage("that is the log of another person"));
                }
            }
            identity.adopt(log, env.now_millis)?;
            lock.save(&identity)?;
            let count = identity.log().devices().len();
            Ok(format!("{count} devices speak for you now"))
        }
        #[cfg(feature = "voice")]
        DeviceCommand::Pair { .. } | DeviceCommand::Join { .. } => {
            Err(CliError::failed("that needs the network"))
        }
        DeviceCommand::Check { proof, of } => check(env, proof, of),
        DeviceCommand::Rotate => {
            let (store, lock) = env.store()?;
            let mut identity = env.identity()?;
            let old = identity.rotate_device(&mut *env.rng, env.now_millis)?;
            let sync = SyncBook(&store);
            let name = sync.device_name(old).map_err(CliError::failed)?;
            lock.save(&identity)?;
            let new = identity.device().id();
            if let Some(name) = name {
                let noted = sync.note_device(new, &name, env.now_millis);
                noted.map_err(CliError::failed)?;
            }
            Ok(format!(
                "{new} speaks for you now, and {old} no longer does"
            ))
        }
        DeviceCommand::Revoke { device, .. } => {
            let lock = env.profile.lock()?;
            let mut identity = env.identity()?;
            let id = find(identity.log(), &device)?;
            if id == identity.device().id() {
                return Err(CliError::failed(
                    "that is this device: revoke it on another one of yours",
                ));
            }
            identity.append(LogOp::RevokeDevice(id), env.now_millis)?;
            lock.save(&identity)?;
            Ok(format!("{id} no longer speaks for you"))
        }
    }
}

fn find(log: &DeviceLog, wanted: &str) -> Result<DeviceId, CliError> {
    let devices = log.devices().iter().map(|device| device.device);
    let found: Vec<DeviceId> = devices
        .filter(|device| !wanted.is_empty() && device.to_string().starts_with(wanted))
        .collect();
    match found.as_slice() {
        [device] => Ok(*device),
        [] => Err(CliError::usage(format_args!(
            "no device of yours begins with {wanted:?}: `ahoy device list` shows them all"
        ))),
        [_, _, ..] => Err(CliError::usage(format_args!(
            "several devices begin with {wanted:?}: give more of it"
        ))),
    }
}

/// Whether a supernode has signed a place of this list.
fn is_witnessed(log: &DeviceLog, signed: &Cosigned) -> bool {
    let place = log.check_head(signed.head());
    signed.user() == log.user()
        && matches!(place, HeadCheck::Same | HeadCheck::Older)
        && signed.is_authentic()
}

/// A fork proof convinces anybody who reads it, without network and without knowing either side.
fn check(
    env: &mut Env<'_>,
    proof: Option<PathBuf>,
    of: Option<Target>,
) -> Result<String, CliError> {
    let Some(path) = proof else {
        let (store, _lock) = env.store()?;
        let mut lines = Vec::new();
        for contact in store.contacts()? {
            if store.fork(contact.user)?.is_some() {
                lines.push(format!("{}\tforked\tahoy:{}", contact.name, contact.user));
            }
        }
        if lines.is_empty() {
            lines.push(String::from("no contact's device list was seen forked"));
        }
        let own = env.identity()?;
        if store.fork(own.user())?.is_some() {
            lines.push(format!("you\tforked\tahoy:{}", own.user()));
        }
        let kept = store.witnesses()?.unwrap_or_default();
        for part in kept.chunks(COSIGNED_LEN) {
            // Nobody has to believe the profile: the list and the signature are looked at here.
            let signed = Cosigned::from_bytes(part).ok();
            if let Some(signed) = signed.filter(|signed| is_witnessed(own.log(), signed)) {
                let (witness, n) = (signed.witness(), signed.head().n);
                lines.push(format!("you\twitnessed up to entry {n}\t{witness}"));
            }
        }
        return Ok(lines.join("\n"));
    };
    if let Some(of) = of {
        let (store, _lock) = env.store()?;
        let user = match of {
            Target::Link(link) => link.user,
            Target::Name(name) => {
                find_by_name(&store.contacts()?, &name)
                    .map_err(CliError::usage)?
                    .user
            }
        };
        let kept = store
            .fork(user)?
            .ok_or_else(|| CliError::usage(format_args!("there is no proof about ahoy:{user}")))?;
        let written = std::fs::write(&path, kept.as_bytes());
        written.map_err(|error| {
            CliError::usage(format_args!(
                "{} cannot be written: {error}",
                path.display()
            ))
        })?;
    }
    let shown = path.display();
    let cannot =
        |error: std::io::Error| CliError::usage(format_args!("{shown} cannot be read: {error}"));
    let size = std::fs::metadata(&path).map_err(cannot)?.len();
    if size > MAX_FORK_PROOF_LEN as u64 {
        return Err(CliError::usage(format_args!(
            "{shown} is longer than any proof"
        )));
    }
    let bytes = std::fs::read(&path).map_err(cannot)?;
    match ForkProof::from_bytes(&bytes) {
        Ok(proof) => Ok(format!(
            "proved: whoever has the keys of ahoy:{} signed two different device lists; they differ from entry {} on",
            proof.user(),
            proof.n()
        )),
        Err(error) => Err(CliError::new(
            Exit::Authentication,
            format_args!("{shown} proves nothing: {error}"),
        )),
    }
}

fn write_log(log: &DeviceLog) -> String {
    format!(
        "{LOG_PREFIX}{}:{}",
        log.user(),
        z32::encode(&log.to_bytes())
    )
}

/// Reads what `ahoy device log` printed.
pub(super) fn read_log(text: &str) -> Result<DeviceLog, CliError> {
    let wrong = || CliError::usage("that is not a device log: `ahoy device log` prints one");
    let text = text.trim().strip_prefix(LOG_PREFIX).ok_or_else(wrong)?;
    let (user, bytes) = text.split_once(':').ok_or_else(wrong)?;
    let user = user.parse().map_err(|_no_key| wrong())?;
    let bytes = z32::decode(bytes.as_bytes()).map_err(|_no_z32| wrong())?;
    DeviceLog::from_bytes(user, &bytes)
        .map_err(|error| CliError::usage(format_args!("the device log is damaged: {error}")))
}
