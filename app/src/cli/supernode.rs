//! `ahoy supernode`.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;

use super::CliError;

/// Most addresses listened on: every interface of a big machine.
const MAX_LISTEN: usize = 16;
/// Where a supernode listens unless told otherwise: everywhere, on a port of our own.
const DEFAULT_PORT: u16 = 3478;

/// Help others to find each other and to get through.
#[derive(Debug, Clone, Args)]
pub struct SupernodeArgs {
    /// Read settings from this TOML file; options here win.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Listen here for UDP; port 0 takes a free one; may be repeated.
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Vec<SocketAddr>,
    /// What others reach this machine by, if that is not the address listened on.
    #[arg(long, value_name = "ADDR:PORT")]
    pub public_addr: Vec<SocketAddr>,
    /// Print the link to this supernode once it is ready.
    #[arg(long)]
    pub print_link: bool,
}

/// How to serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SupernodePlan {
    /// The text of the settings file, with its path for messages.
    pub config: Option<(PathBuf, String)>,
    /// Addresses to listen on; never empty unless the settings file may say so.
    pub listen: Vec<SocketAddr>,
    /// What others reach this machine by.
    pub public_addr: Vec<SocketAddr>,
    /// Print the link.
    pub print_link: bool,
}

impl SupernodeArgs {
    /// Checks them and reads the settings file.
    ///
    /// # Errors
    /// A settings file that cannot be read; addresses that nobody can reach.
    pub fn plan(self) -> Result<SupernodePlan, CliError> {
        if self.listen.len() > MAX_LISTEN || self.public_addr.len() > MAX_LISTEN {
            return Err(CliError::usage(format_args!(
                "{MAX_LISTEN} addresses are enough"
            )));
        }
        let nowhere = |addr: &&SocketAddr| addr.ip().is_unspecified() || addr.port() == 0;
        if let Some(addr) = self.public_addr.iter().find(nowhere) {
            return Err(CliError::usage(format_args!(
                "--public-addr {addr} cannot be reached by anybody: give the address and port that others see"
            )));
        }
        let config = match self.config {
            None => None,
            Some(path) => {
                let text = std::fs::read_to_string(&path).map_err(|error| {
                    let path = path.display();
                    CliError::usage(format_args!("--config {path} cannot be read: {error}"))
                })?;
                Some((path, text))
            }
        };
        let mut listen = self.listen;
        if listen.is_empty() && config.is_none() {
            listen.push(SocketAddr::from(([0; 16], DEFAULT_PORT)));
        }
        Ok(SupernodePlan {
            config,
            listen,
            public_addr: self.public_addr,
            print_link: self.print_link,
        })
    }
}
