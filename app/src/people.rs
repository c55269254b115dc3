//! What `ahoy contact` does, wherever the profile's database is open: in this process, or in the app that runs.

use ahoy_transport::identity::UserId;
use serde::{Deserialize, Serialize};

use crate::{
    contacts::{Contact, Ring, find_by_name},
    link::{LinkError, PersonLink, display_name},
    store::{Store, StoreError},
};

/// Contacts in one answer of the app: they fit a line of the control socket.
pub const PAGE: usize = 100;

/// Whom a text means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whom {
    /// By link: nothing else has to be known.
    Link(PersonLink),
    /// By the name of a contact.
    Name(String),
}

impl Whom {
    /// A name, or a person's link.
    ///
    /// # Errors
    /// A sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let looks_like_link = text
            .split_once(':')
            .is_some_and(|(scheme, _)| scheme.to_ascii_lowercase().starts_with("ahoy"));
        if looks_like_link {
            let link = text.trim().parse::<PersonLink>();
            return link
                .map(Self::Link)
                .map_err(|error| LinkError::to_string(&error));
        }
        let name = text.trim();
        if name.is_empty() {
            return Err(String::from("give the name of a contact or an ahoy: link"));
        }
        Ok(Self::Name(String::from(name)))
    }
}

/// What is to be done. People are named as they are called here, or by link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum PeopleRequest {
    /// Add somebody, or learn more about a contact.
    Add {
        /// The person's link.
        link: String,
        /// What to call the person.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
    /// Tell who is known, [`PAGE`] at a time.
    List {
        /// After so many.
        #[serde(default)]
        from: usize,
    },
    /// Forget a contact; what was written stays.
    Remove {
        /// Whom.
        who: String,
    },
    /// Call a contact otherwise.
    Rename {
        /// Whom.
        who: String,
        /// How.
        name: String,
    },
    /// The safety words were compared, or that is taken back.
    Verify {
        /// With whom.
        who: String,
        /// They were the same.
        verified: bool,
    },
    /// How a contact's calls are told of.
    Ring {
        /// Whose.
        who: String,
        /// How.
        ring: Ring,
    },
    /// Never hear from somebody.
    Block {
        /// Whom.
        who: String,
    },
    /// Hear from somebody again.
    Unblock {
        /// Whom.
        who: String,
    },
}

/// A contact, as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// What the person is called here.
    pub name: String,
    /// The person's link, without homes.
    pub link: String,
    /// The safety words were compared.
    pub verified: bool,
    /// When the person became a contact, Unix milliseconds.
    pub added_at_millis: u64,
    /// The person never learns our address.
    pub relay_only: bool,
    /// How the person's calls are told of.
    #[serde(default)]
    pub ring: Ring,
}

/// Who is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    /// By name.
    pub contacts: Vec<Listed>,
    /// Links of people who are never heard of.
    pub blocked: Vec<String>,
}

impl List {
    /// The page from the `from`th on, first contacts, then who is blocked; and whether there is more.
    #[must_use]
    pub fn page(self, from: usize) -> (Self, bool) {
        let contacts = self.contacts.len();
        let all = contacts + self.blocked.len();
        let page = Self {
            contacts: self.contacts.into_iter().skip(from).take(PAGE).collect(),
            blocked: Vec::new(),
        };
        let room = PAGE - page.contacts.len();
        let blocked = self
            .blocked
            .into_iter()
            .skip(from.saturating_sub(contacts))
            .take(room);
        let page = Self {
            blocked: blocked.collect(),
            ..page
        };
        (page, from.saturating_add(PAGE) < all)
    }
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeopleAnswer {
    /// Something changed about this person.
    Done {
        /// Who it was.
        user: UserId,
        /// For a person.
        sentence: String,
    },
    /// Everybody.
    List(List),
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum PeopleError {
    /// It cannot be meant so.
    #[error("{0}")]
    Meant(String),
    /// It is so already, or cannot be.
    #[error("{0}")]
    Cannot(String),
    /// The database fails.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn meant(sentence: impl ToString) -> PeopleError {
    PeopleError::Meant(sentence.to_string())
}

fn known(store: &Store, who: &str) -> Result<Contact, PeopleError> {
    match Whom::parse(who).map_err(PeopleError::Meant)? {
        Whom::Link(link) => store
            .contact(link.user)?
            .ok_or_else(|| meant(format_args!("ahoy:{} is no contact of yours", link.user))),
        Whom::Name(name) => {
            let contacts = store.contacts()?;
            Ok(find_by_name(&contacts, &name).map_err(meant)?.clone())
        }
    }
}

/// Carries it out for `me`.
///
/// # Errors
/// Why it was not done; then nothing changed.
pub fn carry_out(
    store: &Store,
    me: UserId,
    request: &PeopleRequest,
    now_millis: u64,
) -> Result<PeopleAnswer, PeopleError> {
    let (user, sentence) = match request {
        PeopleRequest::Add { link, name } => {
            let link: PersonLink = link.trim().parse().map_err(|error| {
                let error: LinkError = error;
                meant(error)
            })?;
            if link.user == me {
                return Err(meant("that is your own link: give it to others"));
            }
            let contact = store.add_by_link(&link, name.as_deref(), now_millis)?;
            (contact.user, contact.name)
        }
        PeopleRequest::List { .. } => return Ok(PeopleAnswer::List(list(store)?)),
        PeopleRequest::Remove { who } => {
            let contact = known(store, who)?;
            store.remove_contact(contact.user, now_millis)?;
            (contact.user, format!("{} is forgotten", contact.name))
        }
        PeopleRequest::Rename { who, name } => {
            let mut contact = known(store, who)?;
            let name = display_name(name);
            if name.is_empty() {
                return Err(meant("a contact needs a name"));
            }
            let before = std::mem::replace(&mut contact.name, name);
            store.put_contact(&contact, now_millis)?;
            let sentence = format!("{before} is called {} from now on", contact.name);
            (contact.user, sentence)
        }
        PeopleRequest::Verify { who, verified } => {
            let mut contact = known(store, who)?;
            contact.verified_at_millis = verified.then_some(now_millis);
            store.put_contact(&contact, now_millis)?;
            let state = if *verified {
                "verified"
            } else {
                "no longer verified"
            };
            (contact.user, format!("{} is {state}", contact.name))
        }
        PeopleRequest::Ring { who, ring } => {
            let mut contact = known(store, who)?;
            contact.ring = *ring;
            store.put_contact(&contact, now_millis)?;
            let how = match ring {
                Ring::Usual => "ring, unless you set not to be disturbed",
                Ring::Always => "ring even while you set not to be disturbed",
                Ring::Never => "are shown without a sound",
            };
            (contact.user, format!("calls of {} {how}", contact.name))
        }
        PeopleRequest::Block { who } => {
            let (user, name) = match Whom::parse(who).map_err(PeopleError::Meant)? {
                // Blocking needs no acquaintance.
                Whom::Link(link) => (link.user, link.user.to_string()),
                Whom::Name(_) => {
                    let contact = known(store, who)?;
                    (contact.user, contact.name)
                }
            };
            if user == me {
                return Err(meant("that is yourself"));
            }
            store.block(user, now_millis)?;
            let sentence =
                format!("{name} is blocked: `ahoy contact unblock ahoy:{user}` takes it back");
            (user, sentence)
        }
        PeopleRequest::Unblock { who } => {
            let user = match Whom::parse(who).map_err(PeopleError::Meant)? {
                Whom::Link(link) => link.user,
                Whom::Name(name) => name.parse::<UserId>().map_err(|_no_key| {
                    meant(
                        "a block is taken back by link: `ahoy contact list --json` shows who is blocked",
                    )
                })?,
            };
            if !store.unblock(user, now_millis)? {
                let sentence = format!("ahoy:{user} is not blocked");
                return Err(PeopleError::Cannot(sentence));
            }
            (user, format!("ahoy:{user} is no longer blocked"))
        }
    };
    Ok(PeopleAnswer::Done { user, sentence })
}

fn list(store: &Store) -> Result<List, StoreError> {
    let contacts = store.contacts()?.into_iter().map(|contact| Listed {
        link: PersonLink::new(contact.user).to_string(),
        verified: contact.verified_at_millis.is_some(),
        added_at_millis: contact.added_at_millis,
        relay_only: contact.relay_only,
        ring: contact.ring,
        name: contact.name,
    });
    let blocked = store.blocked()?;
    let blocked = blocked
        .into_iter()
        .map(|user| PersonLink::new(user).to_string());
    Ok(List {
        contacts: contacts.collect(),
        blocked: blocked.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_a_list_are_all_of_it_once() {
        let contacts = (0..230).map(|n| Listed {
            name: n.to_string(),
            link: String::new(),
            verified: false,
            added_at_millis: 0,
            relay_only: false,
            ring: Ring::Usual,
        });
        let all = List {
            contacts: contacts.collect(),
            blocked: (0..90).map(|n| n.to_string()).collect(),
        };
        let (mut read, mut from) = (List::default(), 0);
        loop {
            let (page, more) = all.clone().page(from);
            assert!(page.contacts.len() + page.blocked.len() <= PAGE);
            read.contacts.extend(page.contacts);
            read.blocked.extend(page.blocked);
            from += PAGE;
            if !more {
                break;
            }
        }
        assert_eq!(read, all);
        assert_eq!(from, 400);
    }
}
