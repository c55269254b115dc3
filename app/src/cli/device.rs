//! `ahoy device`: the devices that speak for one.
//!
//! A device joins without any network: `ahoy device log` on an old one, `ahoy id import --log` and the 24
//! words on the new one, whose `ahoy device log` then goes to `ahoy device add` on the old ones.

use std::path::PathBuf;

use ahoy_transport::identity::{
    DeviceId, DeviceSet as _,
    log::{DeviceLog, LogOp, LogRelation},
};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::{CliError, env::Env, output::to_json};

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
    /// A device is lost: it no longer speaks for you.
    Revoke {
        /// Its id, or the beginning of it.
        #[arg(value_name = "DEVICE")]
        device: String,
    },
}

#[derive(Serialize)]
struct Listed {
    id: String,
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
            let devices: Vec<Listed> = identity
                .log()
                .devices()
                .iter()
                .map(|device| Listed {
                    id: device.device.to_string(),
                    added_at_millis: device.added_at_millis,
                    this: device.device == this,
                })
                .collect();
            if json {
                return to_json(&devices);
            }
            let lines = devices.iter().map(|device| {
                format!(
                    "{}{}",
                    device.id,
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
        DeviceCommand::Revoke { device } => {
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
