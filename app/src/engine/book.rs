//! What the engine asks about people. The profile's store answers; a simulation brings its own.

use std::fmt;

use ahoy_nat::{discovery::record::Record, supernode::mailbox::MailKey};
use ahoy_transport::identity::{
    DeviceId, Invite, NodeAddress, NodeId, UserId, VerifiedDevice,
    log::{DeviceLog, ForkProof},
};
use futures_util::{FutureExt as _, future::BoxFuture};

use super::{
    handle::{BlockedView, ContactView, RequestView},
    notice::Notice,
    people::PeopleChange,
};
use crate::{
    backup,
    call::{CallId, EndedCall},
    chat::{book::ChatBook, shelf::Shelf},
    contacts::{CallRecord, Ring, Strangers},
    people::{PeopleAnswer, PeopleError, PeopleRequest},
    sync::Entry,
};

/// Somebody to call.
#[derive(Debug, Clone)]
pub struct Person {
    /// Their key.
    pub user: UserId,
    /// How they are called here.
    pub name: String,
    /// In the address book.
    pub contact: bool,
    /// Where they may be registered.
    pub homes: Vec<NodeAddress>,
    /// Their invitation, if we have one.
    pub invite: Option<Invite>,
}

/// What happens when somebody calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Welcome {
    /// It is shown, and rings as [`AddressBook::ring`] says.
    Ring,
    /// It waits in the request inbox.
    Inbox,
    /// As if nobody were there.
    Drop,
}

/// People, as far as the engine needs them. None of the calls waits for long: they come from the engine's
/// task.
pub trait AddressBook: Send + Sync + fmt::Debug + 'static {
    /// The person that a name or a link stands for.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    fn find(&self, target: &str) -> Result<Person, Notice>;

    /// Our own link, with these homes.
    fn my_link(&self, homes: Vec<NodeAddress>) -> String;

    /// What to do when this device calls or writes and shows this invite, perhaps an empty one.
    fn welcome(&self, caller: &VerifiedDevice, invite: &[u8], now_millis: u64) -> Welcome;

    /// A stranger goes to the inbox. `name` is what they call themselves, `log` the device log as it came, perhaps
    /// empty. Says whether there is room.
    fn request(&self, caller: &VerifiedDevice, name: &str, log: &[u8], now_millis: u64) -> bool;

    /// Everything that is kept, for a backup.
    ///
    /// # Errors
    /// A sentence, where it cannot be read, or nothing is kept.
    fn items(&self) -> Result<Vec<backup::Item>, String>;

    /// Where conversations lie.
    fn shelf(&self) -> &dyn Shelf;

    /// How to show somebody: the contact's name, or what they call themselves, made safe.
    fn display_name(&self, user: UserId, claimed: &str) -> String;

    /// Whether the person is in the address book.
    fn is_contact(&self, user: UserId) -> bool;

    /// Whether our addresses are never this person's business.
    fn relay_only(&self, user: UserId) -> bool;

    /// How this person's calls are told of.
    fn ring(&self, user: UserId) -> Ring;

    /// Whether the person was verified by safety words.
    fn is_verified(&self, user: UserId) -> bool;

    /// The newest device log seen of a person.
    fn known_log(&self, user: UserId) -> Option<DeviceLog>;

    /// Keeps a device log that was [judged](crate::identity::judge), if it goes on from the one seen before.
    fn keep_log(&self, log: &DeviceLog);

    /// The newest record seen of a person, expired or not; our own is the last that we signed.
    fn known_record(&self, user: UserId) -> Option<Record>;

    /// Keeps a record, if it may take the place of the one seen before: see
    /// [`RecordRules`](ahoy_nat::discovery::record::RecordRules).
    fn keep_record(&self, record: &Record, now_millis: u64);

    /// Supernodes that served us, or somebody we called, the last ones first; then those that we were only told of.
    fn known_nodes(&self) -> Vec<NodeAddress> {
        Vec::new()
    }

    /// Remembers supernodes that served just now.
    fn keep_nodes(&self, _nodes: &[NodeAddress], _now_millis: u64) {}

    /// Supernodes that we know of, as [`ahoy_nat::discovery::table::NodeTable::to_bytes`] wrote them.
    fn node_table(&self) -> Option<Vec<u8>> {
        None
    }

    /// Keeps what [`Self::node_table`] gives back.
    fn keep_node_table(&self, _table: &[u8]) {}

    /// What is known of supernodes, as [`ahoy_nat::discovery::reputation::Reputation::to_bytes`] wrote it.
    fn reputation(&self) -> Option<Vec<u8>> {
        None
    }

    /// Keeps what [`Self::reputation`] gives back.
    fn keep_reputation(&self, _reputation: &[u8]) {}

    /// What [`Self::keep_witnesses`] kept.
    fn witnesses(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Keeps what witnesses signed of our list, one after another.
    fn keep_witnesses(&self, _witnesses: &[u8]) {}

    /// Ends when all that was kept until now outlives a machine that stops: to be waited for before anybody is told that it is
    /// kept.
    fn settled(&self) -> BoxFuture<'static, ()> {
        std::future::ready(()).boxed()
    }

    /// What we give to contacts, so that they find us where strangers do not look.
    fn own_capability(&self) -> Option<[u8; 32]> {
        let own = ChatBook(self.shelf()).drawn_capability();
        own.inspect_err(|error| tracing::error!(%error, "nothing for contacts to find us by"))
            .ok()?
            .map(|own| own.finding_key())
    }

    /// What a contact gave to us for that.
    fn capability_of(&self, user: UserId) -> Option<[u8; 32]> {
        let peers = ChatBook(self.shelf()).peers(user);
        let peers = peers.inspect_err(|error| tracing::error!(%error, "nothing to find them by"));
        peers
            .ok()?
            .first()
            .map(|peer| peer.capability.finding_key())
    }

    /// What shows the supernode `home` that we are a contact of this device's.
    fn mail_key(&self, (user, device): (UserId, DeviceId), home: NodeId) -> Option<MailKey> {
        let peers = ChatBook(self.shelf()).peers(user);
        let peers = peers.inspect_err(|error| tracing::error!(%error, "nothing to be known by"));
        let peers = peers.ok()?;
        let peer = peers.iter().find(|peer| peer.device == device)?;
        Some(peer.capability.at(home))
    }

    /// Takes in what another device of ours knows. Returns whether there was news.
    fn take_synced(&self, _entries: &[Entry], _now_millis: u64) -> bool {
        false
    }

    /// Somebody is shown another device log than we are: keeps the proof. The person is no longer verified.
    fn keep_fork(&self, _proof: &ForkProof) {}

    /// Changes the address book as a person does. Says whose entry it was.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    fn change(&self, change: &PeopleChange, now_millis: u64) -> Result<UserId, Notice>;

    /// Does what `ahoy contact` asks for. A book that is no profile's does nothing.
    ///
    /// # Errors
    /// Why it was not done; then nothing changed.
    fn manage(
        &self,
        request: &PeopleRequest,
        now_millis: u64,
    ) -> Result<PeopleAnswer, PeopleError> {
        let _no_profile = (request, now_millis);
        let sentence = "these people are no profile's".into();
        Err(PeopleError::Cannot(sentence))
    }

    /// A number greater than any given before, also by an earlier run.
    fn next_sequence(&self) -> u64;

    /// A call is over.
    fn record(&self, ended: &EndedCall, now_millis: u64);

    /// How good the owner found a call, 1 to 5, or that they do not say.
    fn rate(&self, _call: CallId, _rating: Option<u8>) {}

    /// The newest calls, at most `limit`, newest first.
    fn calls(&self, _limit: usize) -> Vec<CallRecord> {
        Vec::new()
    }

    /// What the owner wants to be called from now on; put into links.
    fn set_name(&self, _name: Option<&str>) {}

    /// What becomes of strangers' calls from now on.
    fn set_strangers(&self, _strangers: Strangers) {}

    /// The address book, by name.
    fn contacts(&self) -> Vec<ContactView>;

    /// The request inbox, newest first.
    fn requests(&self) -> Vec<RequestView>;

    /// People whom nobody wants to hear from.
    fn blocked(&self) -> Vec<BlockedView> {
        Vec::new()
    }
}
