//! `ahoy send` and `ahoy files`.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::{CliError, Target, message::named, values};
use crate::{control::FileLine, files::readable, link::NodeLink};

/// Offer files to a contact, who fetches them when both of you are online; each byte is verified there.
///
/// Where ahoy runs on the profile it does that, and this command ends at once. Otherwise it stays until the files have
/// arrived (exit code 0), or until it is interrupted or --for is over (exit code 1): the offer then waits at the contact's
/// supernodes, and the files go when ahoy runs again.
#[derive(Debug, Clone, Args)]
pub struct SendArgs {
    /// To whom: the name of a contact, or their ahoy: link.
    #[arg(value_name = "NAME|LINK", value_parser = values::target)]
    pub to: Target,
    /// What.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Stay so long at most.
    #[arg(long = "for", value_name = "SECONDS")]
    pub limit: Option<u64>,
    /// Supernode of yours, by its ahoy-node: link; may be repeated (default: those of the profile).
    #[arg(long, value_name = "NODE_LINK")]
    pub via: Vec<NodeLink>,
}

/// Files to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendPlan {
    /// A contact's name, or a link.
    pub to: String,
    /// Which, by their whole paths.
    pub files: Vec<PathBuf>,
    /// How long to stay at most.
    pub limit: Option<Duration>,
    /// Supernodes to use; empty: those of the profile.
    pub via: Vec<NodeLink>,
}

impl SendArgs {
    /// Checks them.
    ///
    /// # Errors
    /// A file that is not there.
    pub fn plan(self) -> Result<SendPlan, CliError> {
        let whole = |path: PathBuf| {
            if !path.is_file() {
                let path = path.display();
                return Err(CliError::usage(format_args!("there is no file {path}")));
            }
            // The app may run in another folder.
            Ok(std::path::absolute(&path).unwrap_or(path))
        };
        Ok(SendPlan {
            to: named(self.to),
            files: self
                .files
                .into_iter()
                .map(whole)
                .collect::<Result<_, _>>()?,
            limit: self.limit.map(Duration::from_secs),
            via: self.via,
        })
    }
}

/// Show files that were offered, are on their way, came or went.
#[derive(Debug, Clone, Copy, Args)]
pub struct FilesArgs {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// A line each for people.
#[must_use]
pub fn listed(files: &[FileLine]) -> String {
    let lines = files.iter().map(|file| {
        let way = if file.direction == "incoming" {
            "from"
        } else {
            "to"
        };
        let short: String = file.id.chars().take(8).collect();
        let (name, person) = (&file.name, &file.person);
        let size = readable(file.size);
        let place = file.path.as_ref().filter(|_| file.direction == "incoming");
        let place = place.map_or_else(String::new, |path| format!(": {}", path.display()));
        let state = &file.state;
        let sentence = &file.sentence;
        format!("{short}  {name} ({size}) {way} {person}  [{state}] {sentence}{place}")
    });
    lines.collect::<Vec<_>>().join("\n")
}
