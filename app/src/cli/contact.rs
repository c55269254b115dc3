//! `ahoy contact`: the people one knows.

#[cfg(unix)]
use std::path::Path;

use clap::{Args, Subcommand, ValueEnum};

use super::{CliError, Target, env::Env, output::to_json, values};
use crate::{
    contacts::Ring,
    link::PersonLink,
    people::{List, PeopleAnswer, PeopleError, PeopleRequest, carry_out},
};
#[cfg(unix)]
use crate::{
    control::{Command, ControlClient, ControlSocketError, Told},
    people::PAGE,
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
    /// Hear from this person again.
    Unblock {
        /// Link, as the list with --json shows it.
        #[arg(value_name = "LINK", value_parser = values::target)]
        who: Target,
    },
    /// How calls of a contact are told of.
    Ring {
        /// Name or link.
        #[arg(value_name = "NAME|LINK", value_parser = values::target)]
        who: Target,
        /// How.
        how: RingChoice,
    },
    /// Call a contact otherwise.
    Rename {
        /// Name or link.
        #[arg(value_name = "NAME|LINK", value_parser = values::target)]
        who: Target,
        /// The new name.
        name: String,
    },
}

/// How calls of a contact are told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RingChoice {
    /// They ring, unless you set not to be disturbed.
    Usual,
    /// They ring even then.
    Always,
    /// They are shown without a sound.
    Never,
}

impl From<RingChoice> for Ring {
    fn from(choice: RingChoice) -> Self {
        match choice {
            RingChoice::Usual => Self::Usual,
            RingChoice::Always => Self::Always,
            RingChoice::Never => Self::Never,
        }
    }
}

/// Carries it out, by the app if one runs on this profile; gives back what to print.
pub(super) fn contact(env: &mut Env<'_>, arguments: ContactArgs) -> Result<String, CliError> {
    let command = arguments
        .command
        .unwrap_or(ContactCommand::List { json: false });
    let json = matches!(command, ContactCommand::List { json: true });
    let request = command.request();
    #[cfg(unix)]
    if let Some(answer) = super::wait_for(by_app(env.profile.dir(), &request))? {
        return told(answer, json);
    }
    let identity = env.identity()?;
    let (store, _lock) = env.store()?;
    match carry_out(&store, identity.user(), &request, env.now_millis)? {
        PeopleAnswer::Done { sentence, .. } => Ok(sentence),
        PeopleAnswer::List(list) => shown(list, json),
    }
}

impl ContactCommand {
    fn request(self) -> PeopleRequest {
        match self {
            Self::Add { link, name } => PeopleRequest::Add {
                link: link.to_string(),
                name,
            },
            Self::List { .. } => PeopleRequest::List { from: 0 },
            Self::Remove { who } => PeopleRequest::Remove { who: text(&who) },
            Self::Rename { who, name } => PeopleRequest::Rename {
                who: text(&who),
                name,
            },
            Self::Ring { who, how } => PeopleRequest::Ring {
                who: text(&who),
                ring: how.into(),
            },
            Self::Verify { who, undo } => PeopleRequest::Verify {
                who: text(&who),
                verified: !undo,
            },
            Self::Block { who, undo: false } => PeopleRequest::Block { who: text(&who) },
            Self::Block { who, undo: true } | Self::Unblock { who } => {
                PeopleRequest::Unblock { who: text(&who) }
            }
        }
    }
}

fn text(who: &Target) -> String {
    match who {
        Target::Link(link) => link.to_string(),
        Target::Name(name) => name.clone(),
    }
}

impl From<PeopleError> for CliError {
    fn from(error: PeopleError) -> Self {
        match error {
            PeopleError::Meant(sentence) => Self::usage(sentence),
            PeopleError::Cannot(sentence) => Self::failed(sentence),
            PeopleError::Store(error) => error.into(),
        }
    }
}

/// Asks the app that runs on the profile; `None` when none does. All pages of a list.
#[cfg(unix)]
async fn by_app(folder: &Path, request: &PeopleRequest) -> Result<Option<Told>, CliError> {
    let mut client = match ControlClient::connect(folder).await {
        Ok(client) => client,
        Err(ControlSocketError::NotRunning) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut request = request.clone();
    let mut all = List::default();
    loop {
        let ask = Command::Contact {
            request: request.clone(),
        };
        let answer = client.request(ask).await?;
        if let Some(error) = answer.error {
            return Err(super::ctl::refused(error));
        }
        match (answer.result, &mut request) {
            (Some(Told::People { people, more }), PeopleRequest::List { from }) => {
                all.contacts.extend(people.contacts);
                all.blocked.extend(people.blocked);
                if !more {
                    return Ok(Some(Told::People { people: all, more }));
                }
                *from += PAGE;
            }
            (told, _) => {
                let none = || CliError::failed("the running ahoy says nothing: is it older?");
                return told.map(Some).ok_or_else(none);
            }
        }
    }
}

#[cfg(unix)]
fn told(told: Told, json: bool) -> Result<String, CliError> {
    match told {
        Told::Said { sentence } => Ok(sentence),
        Told::People { people, .. } => shown(people, json),
        Told::Messages { .. }
        | Told::Message { .. }
        | Told::Files { .. }
        | Told::File { .. }
        | Told::LetIn { .. }
        | Told::Homes { .. }
        | Told::Lending { .. }
        | Told::Status(_) => Err(CliError::failed(
            "the running ahoy says something else: is it older?",
        )),
    }
}

fn shown(list: List, json: bool) -> Result<String, CliError> {
    if json {
        return to_json(&list);
    }
    let lines = list.contacts.iter().map(|contact| {
        let verified = if contact.verified {
            "verified"
        } else {
            "not verified"
        };
        format!("{}\t{verified}\t{}", contact.name, contact.link)
    });
    Ok(lines.collect::<Vec<_>>().join("\n"))
}
