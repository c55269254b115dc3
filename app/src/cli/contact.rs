//! `ahoy contact`: the people one knows.

use ahoy_transport::identity::UserId;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::{CliError, Target, env::Env, output::to_json, values};
use crate::{
    contacts::{Contact, find_by_name},
    link::PersonLink,
    store::Store,
};

/// People you know.
#[derive(Debug, Clone, Args)]
pub struct ContactArgs {
    /// What to do (default: list).
    #[command(subcommand)]
    pub command: Option<ContactCommand>,
}

/// What to do with contacts.
#[derive(Debug, Clone, Subcommand)]
pub enum ContactCommand {
    /// Add somebody, or learn more about a contact.
    Add {
        /// The person's link.
        link: PersonLink,
        /// What to call the person.
        #[arg(long)]
        name: Option<String>,
    },
    /// List them.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Forget somebody.
    Remove {
        /// Name or link.
        #[arg(value_name = "NAME|LINK", value_parser = values::target)]
        who: Target,
    },
    /// You have compared the safety words with this person, by voice.
    Verify {
        /// Name or link.
        #[arg(value_name = "NAME|LINK", value_parser = values::target)]
        who: Target,
        /// Take it back.
        #[arg(long)]
        undo: bool,
    },
    /// Never hear from this person, who will not know.
    Block {
        /// Name or link.
        #[arg(value_name = "NAME|LINK", value_parser = values::target)]
        who: Target,
        /// Take it back; needs the link.
        #[arg(long)]
        undo: bool,
    },
}

#[derive(Serialize)]
struct Listed {
    name: String,
    link: String,
    verified: bool,
    added_at_millis: u64,
    relay_only: bool,
}

#[derive(Serialize)]
struct List {
    contacts: Vec<Listed>,
    blocked: Vec<String>,
}

/// Carries it out; gives back what to print.
pub(super) fn contact(env: &mut Env<'_>, arguments: ContactArgs) -> Result<String, CliError> {
    let identity = env.identity()?;
    let (store, _lock) = env.store()?;
    let now = env.now_millis;
    match arguments
        .command
        .unwrap_or(ContactCommand::List { json: false })
    {
        ContactCommand::Add { link, name } => {
            if link.user == identity.user() {
                return Err(CliError::usage("that is your own link: give it to others"));
            }
            let contact = store.add_by_link(&link, name.as_deref(), now)?;
            Ok(contact.name)
        }
        ContactCommand::List { json } => list(&store, json),
        ContactCommand::Remove { who } => {
            let contact = known(&store, &who)?;
            store.remove_contact(contact.user, now)?;
            Ok(format!("{} is forgotten", contact.name))
        }
        ContactCommand::Verify { who, undo } => {
            let mut contact = known(&store, &who)?;
            contact.verified_at_millis = (!undo).then_some(now);
            store.put_contact(&contact, now)?;
            let state = if undo {
                "no longer verified"
            } else {
                "verified"
            };
            Ok(format!("{} is {state}", contact.name))
        }
        ContactCommand::Block { who, undo: false } => {
            let (user, name) = match &who {
                // Blocking needs no acquaintance.
                Target::Link(link) => (link.user, link.user.to_string()),
                Target::Name(_) => {
                    let contact = known(&store, &who)?;
                    (contact.user, contact.name)
                }
            };
            if user == identity.user() {
                return Err(CliError::usage("that is yourself"));
            }
            store.block(user, now)?;
            Ok(format!(
                "{name} is blocked: `ahoy contact block --undo ahoy:{user}` takes it back"
            ))
        }
        ContactCommand::Block { who, undo: true } => {
            let user = match who {
                Target::Link(link) => link.user,
                Target::Name(name) => name.parse::<UserId>().map_err(|_no_key| {
                    CliError::usage(
                        "a block is taken back by link: `ahoy contact list --json` shows who is blocked",
                    )
                })?,
            };
            if !store.unblock(user, now)? {
                return Err(CliError::failed(format_args!("ahoy:{user} is not blocked")));
            }
            Ok(format!("ahoy:{user} is no longer blocked"))
        }
    }
}

fn list(store: &Store, json: bool) -> Result<String, CliError> {
    let contacts: Vec<Listed> = store
        .contacts()?
        .into_iter()
        .map(|contact| Listed {
            link: PersonLink::new(contact.user).to_string(),
            verified: contact.verified_at_millis.is_some(),
            added_at_millis: contact.added_at_millis,
            relay_only: contact.relay_only,
            name: contact.name,
        })
        .collect();
    if json {
        let blocked = store.blocked()?;
        let blocked = blocked
            .into_iter()
            .map(|user| PersonLink::new(user).to_string());
        return to_json(&List {
            contacts,
            blocked: blocked.collect(),
        });
    }
    let lines = contacts.iter().map(|contact| {
        let verified = if contact.verified {
            "verified"
        } else {
            "not verified"
        };
        format!("{}\t{verified}\t{}", contact.name, contact.link)
    });
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

fn known(store: &Store, who: &Target) -> Result<Contact, CliError> {
    match who {
        Target::Link(link) => store.contact(link.user)?.ok_or_else(|| {
            CliError::usage(format_args!("ahoy:{} is no contact of yours", link.user))
        }),
        Target::Name(name) => {
            let contacts = store.contacts()?;
            Ok(find_by_name(&contacts, name)
                .map_err(CliError::usage)?
                .clone())
        }
    }
}
