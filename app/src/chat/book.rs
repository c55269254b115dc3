//! Conversations, capabilities and what is still to be sent, on a [`Shelf`].
//!
//! ```text
//! k                     our own capability, 32
//! p  user, device       capability 32 | u8 count, homes                 of a contact's device
//! m  user, at u64, id   ver=1 | u8 line | u64 of the line | u8 kind | text
//! i  user, id           at u64                                          finds the message, and knows a copy
//! f  user               at u64                                          older messages went, and do not come again
//! s  user               empty                                           wrote as a stranger
//! o  id                 an Outgoing
//! u  user, id           empty                                           nobody has read it here
//! ```
//! Copies of a letter, and letters that somebody recorded and leaves again, are known by their id for as long as the
//! message is kept; later by their time, which is signed with them.

use ahoy_nat::supernode::mailbox::MailCapability;
use ahoy_transport::{
    identity::{DeviceId, NodeAddress, UserId, log::MAX_HOMES},
    wire::{Reader, WireError, Writer},
};
use rand_core::CryptoRngCore;

use super::{
    Content, Line, MAX_TEXT_BYTES, Message, MessageId, MessageState,
    outbox::Outgoing,
    put_homes, read_homes,
    shelf::{Change, Shelf, ShelfError},
};

/// Most messages kept with one contact; the oldest go first.
pub const MAX_MESSAGES: usize = 5_000;
/// Most messages kept of one stranger; no more are taken.
pub const MAX_STRANGER_MESSAGES: usize = 5;
/// Devices of one person whose capabilities are kept; as many as a device log holds.
const MAX_PEERS: usize = 16;
const VERSION: u8 = 1;

const OWN: &[u8] = b"k";
const PEER: &[u8] = b"p";
const MESSAGE: &[u8] = b"m";
const INDEX: &[u8] = b"i";
const FLOOR: &[u8] = b"f";
const STRANGER: &[u8] = b"s";
const OUTGOING: &[u8] = b"o";
const UNREAD: &[u8] = b"u";

/// What became of a message that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// It is new, and kept.
    New,
    /// It had come before.
    Known,
    /// A stranger has written enough.
    Full,
}

/// A device of a contact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Which.
    pub device: DeviceId,
    /// Marks letters to it.
    pub capability: MailCapability,
    /// Where it has boxes.
    pub homes: Vec<NodeAddress>,
}

/// Conversations on a shelf.
#[derive(Debug, Clone, Copy)]
pub struct ChatBook<'a>(pub &'a dyn Shelf);

fn damaged(what: &str) -> impl Fn(WireError) -> ShelfError {
    move |error| {
        ShelfError(format!(
            "a record of conversations ({what}) is damaged: {error}"
        ))
    }
}

fn key(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

fn message_key(user: UserId, at_millis: u64, id: MessageId) -> Vec<u8> {
    key(&[MESSAGE, &user.0, &at_millis.to_be_bytes(), &id.0])
}

fn index_key(user: UserId, id: MessageId) -> Vec<u8> {
    key(&[INDEX, &user.0, &id.0])
}

fn unread_key(user: UserId, id: MessageId) -> Vec<u8> {
    key(&[UNREAD, &user.0, &id.0])
}

fn outgoing_key(id: MessageId) -> Vec<u8> {
    key(&[OUTGOING, &id.0])
}

fn number(bytes: &[u8], what: &str) -> Result<u64, ShelfError> {
    let bytes: Result<[u8; 8], _> = bytes.try_into();
    bytes
        .map(u64::from_be_bytes)
        .map_err(|_length| damaged(what)(WireError::Truncated))
}

impl ChatBook<'_> {
    /// What our contacts mark letters to this device with, once it was drawn.
    ///
    /// # Errors
    /// When the shelf fails.
    pub fn drawn_capability(&self) -> Result<Option<MailCapability>, ShelfError> {
        let Some(known) = self.0.get(OWN)? else {
            return Ok(None);
        };
        let bytes: Result<[u8; 32], _> = known.try_into();
        bytes
            .map(|bytes| Some(MailCapability::from_bytes(bytes)))
            .map_err(|_length| damaged("capability")(WireError::Truncated))
    }

    /// The same; drawn at the first use.
    ///
    /// # Errors
    /// When the shelf fails.
    pub fn own_capability(
        &self,
        rng: &mut dyn CryptoRngCore,
    ) -> Result<MailCapability, ShelfError> {
        if let Some(known) = self.drawn_capability()? {
            return Ok(known);
        }
        let drawn = MailCapability::generate(rng);
        let change = (OWN.to_vec(), Some(drawn.as_bytes().to_vec()));
        self.0.change(vec![change])?;
        Ok(drawn)
    }

    /// What changes when this is our capability from now on.
    #[must_use]
    pub fn capability_set(capability: &MailCapability) -> Change {
        (OWN.to_vec(), Some(capability.as_bytes().to_vec()))
    }

    /// A contact's device told how to reach its boxes.
    ///
    /// # Errors
    /// When the shelf fails.
    pub fn keep_peer(&self, user: UserId, peer: &Peer) -> Result<(), ShelfError> {
        let mut bytes = peer.capability.as_bytes().to_vec();
        put_homes(&mut bytes, &peer.homes, MAX_HOMES);
        let at = key(&[PEER, &user.0, &peer.device.0]);
        let known = self.0.scan(&key(&[PEER, &user.0]))?;
        if known
            .iter()
            .any(|(key, value)| *key == at && *value == bytes)
        {
            return Ok(());
        }
        let mut changes: Vec<Change> = Vec::new();
        if known.len() >= MAX_PEERS && known.iter().all(|(key, _value)| *key != at) {
            changes.extend(known.into_iter().take(1).map(|(key, _value)| (key, None)));
        }
        changes.push((at, Some(bytes)));
        self.0.change(changes)
    }

    /// The devices of a contact that have told how to reach their boxes.
    ///
    /// # Errors
    /// When the shelf fails.
    pub fn peers(&self, user: UserId) -> Result<Vec<Peer>, ShelfError> {
        let prefix = key(&[PEER, &user.0]);
        let found = self.0.scan(&prefix)?;
        let read = |(key, value): &(Vec<u8>, Vec<u8>)| {
            let mut device = Reader::new(key.get(prefix.len()..).unwrap_or_default());
            let mut reader = Reader::new(value);
            let peer = Peer {
                device: DeviceId(device.array()?),
                capability: MailCapability::from_bytes(reader.array()?),
                homes: read_homes(&mut reader, MAX_HOMES)?,
            };
            reader.finish()?;
            Ok(peer)
        };
        found
            .iter()
            .map(|item| read(item).map_err(damaged("device")))
            .collect()
    }

    /// Keeps a message that we wrote, together with what is to be sent.
    ///
    /// # Errors
    /// When the shelf fails.
    pub fn write(&self, message: &Message, outgoing: &Outgoing) -> Result<(), ShelfError> {
        let mut changes = self.make_room(message.user)?;
        changes.extend(added(message));
        changes.push(put(outgoing));
        self.0.change(changes)
    }

    /// Keeps what is to be sent, or how far that is.
    ///
    /// # Errors
    /// When the shelf fails.
    pub fn put_outgoing(&self, outgoing: &Outgoing) -> Result<(), ShelfError> {
        self.0.change(vec![put(outgoing)])
    }

    /// All that is still to be sent.
    ///
    /// # Errors
    /// When the shelf fails.
    pub fn outgoing(&self) -> Result<Vec<Outgoing>, ShelfError> {
        let found = self.0.scan(OUTGOING)?;
        let read = |(key, value): &(Vec<u8>, Vec<u8>)| {
            let mut id = Reader::new(key.get(OUTGOING.len()..).unwrap_or_default());
            Outgoing::from_bytes(MessageId(id.array()?), value)
        };
        // One that is damaged, or of a later version, keeps no other from being sent.
        let read = found.iter().filter_map(|item| {
            read(item)
                .inspect_err(|error| tracing::error!(%error, "something to be sent cannot be read"))
                .ok()
        });
        Ok(read.collect())
    }

    /// Something that was to be sent has come to its end, or is at homes: `state` is what its message shows now, if it
    /// is one, and `outgoing` what is still to be done.
    ///
    /// # Errors
    /// When the shelf fails.
    pub fn settle(
        &self,
        user: UserId,
        id: MessageId,
        state: MessageState,
        outgoing: Option<&Outgoing>,
    ) -> Result<(), ShelfError> {
        let mut changes = vec![match outgoing {
            Some(outgoing) => put(outgoing),
            None => (outgoing_key(id), None),
        }];
        if let Some(at) = self.0.get(&index_key(user, id))? {
            let at_key = message_key(user, number(&at, "index")?, id);
            if let Some(known) = self.0.get(&at_key)? {
                let message = read_message(&at_key, &known).map_err(damaged("message"))?;
                let line = Line::Sent(state);
                changes.push((at_key, Some(message_bytes(&Message { line, ..message }))));
            }
        }
        self.0.change(changes)
    }

    /// Keeps a message that came, once. `stranger` limits how many.
    ///
    /// # Errors
    /// When the shelf fails; then it should come again.
    pub fn receive(&self, message: &Message, stranger: bool) -> Result<Received, ShelfError> {
        let user = message.user;
        if self.0.get(&index_key(user, message.id))?.is_some() {
            return Ok(Received::Known);
        }
        if let Some(floor) = self.0.get(&key(&[FLOOR, &user.0]))?
            && message.at_millis <= number(&floor, "floor")?
        {
            return Ok(Received::Known);
        }
        if stranger && self.0.count(MESSAGE, user)? >= MAX_STRANGER_MESSAGES {
            return Ok(Received::Full);
        }
        let mut changes = self.make_room(user)?;
        changes.extend(added(message));
        changes.push((unread_key(user, message.id), Some(Vec::new())));
        changes.extend(stranger.then(|| (key(&[STRANGER, &user.0]), Some(Vec::new()))));
        self.0.change(changes)?;
        Ok(Received::New)
    }

    /// What goes so that one more message has room.
    fn make_room(&self, user: UserId) -> Result<Vec<Change>, ShelfError> {
        // Counting opens nothing.
        if self.0.count(MESSAGE, user)? < MAX_MESSAGES {
            return Ok(Vec::new());
        }
        let known = self.0.scan(&key(&[MESSAGE, &user.0]))?;
        let mut changes = Vec::new();
        for (at_key, value) in known
            .iter()
            .take((known.len() + 1).saturating_sub(MAX_MESSAGES))
        {
            let message = read_message(at_key, value).map_err(damaged("message"))?;
            let floor = message.at_millis.to_be_bytes().to_vec();
            changes.push((at_key.clone(), None));
            changes.push((index_key(user, message.id), None));
            changes.push((unread_key(user, message.id), None));
            changes.push((key(&[FLOOR, &user.0]), Some(floor)));
        }
        Ok(changes)
    }

    /// The newest messages with `user`, or with everybody, at most `limit`, oldest first.
    ///
    /// # Errors
    /// When the shelf fails.
    pub fn messages(&self, user: Option<UserId>, limit: usize) -> Result<Vec<Message>, ShelfError> {
        let prefix = match user {
            Some(user) => key(&[MESSAGE, &user.0]),
            None => MESSAGE.to_vec(),
        };
        let found = self.0.scan(&prefix)?;
        let read = found
            .iter()
            .map(|(key, value)| read_message(key, value).map_err(damaged("message")));
        let mut messages = read.collect::<Result<Vec<_>, _>>()?;
        messages.sort_by_key(|message| (message.at_millis, message.id));
        messages.drain(..messages.len().saturating_sub(limit));
        Ok(messages)
    }

    /// How many messages of `user` nobody has read here.
    ///
    /// # Errors
    /// When the shelf fails.
    pub fn unread(&self, user: UserId) -> Result<usize, ShelfError> {
        self.0.count(UNREAD, user)
    }

    /// What `user` wrote has been read.
    ///
    /// # Errors
    /// When the shelf fails.
    pub fn note_read(&self, user: UserId) -> Result<(), ShelfError> {
        let unread = self.0.scan(&key(&[UNREAD, &user.0]))?;
        let changes: Vec<Change> = unread
            .into_iter()
            .map(|(key, _empty)| (key, None))
            .collect();
        if changes.is_empty() {
            return Ok(());
        }
        self.0.change(changes)
    }

    /// What changes when everything that was said with `user`, and is still to be sent there, is forgotten. Copies do
    /// not come again.
    ///
    /// # Errors
    /// When the shelf fails.
    pub fn forgotten(&self, user: UserId, now_millis: u64) -> Result<Vec<Change>, ShelfError> {
        let mut changes: Vec<Change> = Vec::new();
        for prefix in [MESSAGE, INDEX, UNREAD, PEER, STRANGER] {
            let found = self.0.scan(&key(&[prefix, &user.0]))?;
            changes.extend(found.into_iter().map(|(key, _value)| (key, None)));
        }
        let outgoing = self.outgoing()?.into_iter();
        let to_them = outgoing.filter(|outgoing| outgoing.user == user);
        changes.extend(to_them.map(|outgoing| (outgoing_key(outgoing.id), None)));
        let floor = now_millis.to_be_bytes().to_vec();
        changes.push((key(&[FLOOR, &user.0]), Some(floor)));
        Ok(changes)
    }

    /// Forgets what strangers wrote, but for those that `keep` wants, and those we wrote to: the requests of the others
    /// are gone.
    ///
    /// # Errors
    /// When the shelf fails.
    pub fn forget_strangers(&self, keep: impl Fn(UserId) -> bool) -> Result<(), ShelfError> {
        let mut changes: Vec<Change> = Vec::new();
        for (marked, _empty) in self.0.scan(STRANGER)? {
            let mut reader = Reader::new(marked.get(STRANGER.len()..).unwrap_or_default());
            let user = UserId(reader.array().map_err(damaged("stranger"))?);
            let messages = self.messages(Some(user), usize::MAX)?;
            if keep(user)
                || messages
                    .iter()
                    .any(|message| message.line != Line::Received)
            {
                continue;
            }
            for prefix in [MESSAGE, INDEX, UNREAD] {
                let found = self.0.scan(&key(&[prefix, &user.0]))?;
                changes.extend(found.into_iter().map(|(key, _value)| (key, None)));
            }
            changes.push((marked, None));
        }
        if changes.is_empty() {
            return Ok(());
        }
        self.0.change(changes)?;
        self.0.note_forgotten()
    }
}

fn put(outgoing: &Outgoing) -> Change {
    (outgoing_key(outgoing.id), Some(outgoing.to_bytes()))
}

fn added(message: &Message) -> [Change; 2] {
    let Message {
        user,
        at_millis,
        id,
        ..
    } = *message;
    [
        (
            message_key(user, at_millis, id),
            Some(message_bytes(message)),
        ),
        (index_key(user, id), Some(at_millis.to_be_bytes().to_vec())),
    ]
}

fn message_bytes(message: &Message) -> Vec<u8> {
    let (line, of_line) = match message.line {
        Line::Received => (0, 0),
        // Why it is still here is asked anew after a restart.
        Line::Sent(MessageState::Queued(_)) => (1, 0),
        Line::Sent(MessageState::Waiting(homes)) => (2, homes.into()),
        Line::Sent(MessageState::Delivered { at_millis }) => (3, at_millis),
        Line::Sent(MessageState::Expired) => (4, 0),
    };
    let mut bytes = vec![VERSION, line];
    bytes.put_u64(of_line);
    match &message.content {
        Content::Text(text) => {
            bytes.put_u8(0);
            bytes.put_bytes(text.as_bytes());
        }
        Content::MissedCall => bytes.put_u8(1),
    }
    bytes
}

fn read_message(key: &[u8], value: &[u8]) -> Result<Message, WireError> {
    let mut named = Reader::new(key.get(MESSAGE.len()..).unwrap_or_default());
    let user = UserId(named.array()?);
    let at_millis = named.u64()?;
    let id = MessageId(named.array()?);
    let mut reader = Reader::new(value);
    match reader.u8()? {
        VERSION => {}
        other => return Err(WireError::Version(other)),
    }
    let (line, of_line) = (reader.u8()?, reader.u64()?);
    let line = match line {
        0 => Line::Received,
        1 => Line::Sent(MessageState::Queued(None)),
        2 => Line::Sent(MessageState::Waiting(
            u8::try_from(of_line).map_err(|_many| WireError::Undefined)?,
        )),
        3 => Line::Sent(MessageState::Delivered { at_millis: of_line }),
        4 => Line::Sent(MessageState::Expired),
        _undefined => return Err(WireError::Undefined),
    };
    let content = match reader.u8()? {
        0 => {
            let text = reader.rest();
            if text.len() > MAX_TEXT_BYTES {
                return Err(WireError::TooLong);
            }
            let text = str::from_utf8(text).map_err(|_not_utf8| WireError::Undefined)?;
            Content::Text(text.to_owned())
        }
        1 => Content::MissedCall,
        _undefined => return Err(WireError::Undefined),
    };
    reader.finish()?;
    Ok(Message {
        id,
        user,
        at_millis,
        content,
        line,
    })
}

#[cfg(test)]
mod tests {
    use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};

    use super::{super::shelf::MemoryShelf, *};

    const BO: UserId = UserId([2; 32]);
    const CY: UserId = UserId([3; 32]);

    fn id(n: u64) -> MessageId {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&n.to_be_bytes());
        MessageId(id)
    }

    fn received(user: UserId, n: u64) -> Message {
        Message {
            id: id(n),
            user,
            at_millis: 1000 + n,
            content: Content::Text(format!("message {n}")),
            line: Line::Received,
        }
    }

    #[test]
    fn a_message_comes_once_and_in_its_place() {
        let shelf = MemoryShelf::default();
        let book = ChatBook(&shelf);
        for n in [2, 0, 1, 2, 0] {
            let first = book.messages(Some(BO), 9).unwrap();
            let known = first.iter().any(|message| message.id == id(n));
            let expected = if known {
                Received::Known
            } else {
                Received::New
            };
            assert_eq!(book.receive(&received(BO, n), false), Ok(expected));
        }
        let ids = |user, limit| -> Vec<MessageId> {
            let messages = book.messages(user, limit).unwrap();
            messages.iter().map(|message| message.id).collect()
        };
        assert_eq!(ids(Some(BO), 9), [id(0), id(1), id(2)]);
        assert_eq!(ids(Some(BO), 2), [id(1), id(2)], "the newest");
        // The same id by somebody else is another message.
        assert_eq!(book.receive(&received(CY, 1), false), Ok(Received::New));
        assert_eq!(ids(None, 9).len(), 4);
        assert_eq!(book.messages(Some(BO), 9).unwrap()[0], received(BO, 0));
    }

    #[test]
    fn old_messages_go_and_do_not_come_again() {
        let shelf = MemoryShelf::default();
        let book = ChatBook(&shelf);
        let changes = (0..MAX_MESSAGES as u64).flat_map(|n| added(&received(BO, n)));
        shelf.change(changes.collect()).unwrap();
        let next = MAX_MESSAGES as u64;
        assert_eq!(book.receive(&received(BO, next), false), Ok(Received::New));
        let kept = book.messages(Some(BO), usize::MAX).unwrap();
        assert_eq!(kept.len(), MAX_MESSAGES);
        assert_eq!(kept[0].id, id(1));
        assert_eq!(shelf.scan(INDEX).unwrap().len(), MAX_MESSAGES);
        assert_eq!(book.receive(&received(BO, 0), false), Ok(Received::Known));
    }

    #[test]
    fn a_stranger_says_little_and_is_forgotten_with_the_request() {
        let shelf = MemoryShelf::default();
        let book = ChatBook(&shelf);
        for n in 0..5 {
            assert_eq!(book.receive(&received(CY, n), true), Ok(Received::New));
        }
        assert_eq!(book.receive(&received(CY, 5), true), Ok(Received::Full));
        assert_eq!(book.receive(&received(CY, 4), true), Ok(Received::Known));
        assert_eq!(book.receive(&received(BO, 5), false), Ok(Received::New));
        book.forget_strangers(|user| user == CY).unwrap();
        assert_eq!(book.messages(None, 9).unwrap().len(), 6);
        // Whom we wrote to is no stranger.
        let mut sent = received(CY, 9);
        sent.line = Line::Sent(MessageState::Expired);
        shelf.change(added(&sent).to_vec()).unwrap();
        book.forget_strangers(|_nobody| false).unwrap();
        assert_eq!(book.messages(None, 9).unwrap().len(), 7);
        shelf
            .change(vec![(message_key(CY, 1009, id(9)), None)])
            .unwrap();
        book.forget_strangers(|_nobody| false).unwrap();
        assert_eq!(book.messages(None, 9).unwrap(), [received(BO, 5)]);
        shelf.change(book.forgotten(BO, 2000).unwrap()).unwrap();
        assert!(book.messages(None, 9).unwrap().is_empty());
        assert_eq!(book.receive(&received(BO, 5), false), Ok(Received::Known));
    }

    #[test]
    fn a_message_shows_what_became_of_it() {
        let shelf = MemoryShelf::default();
        let book = ChatBook(&shelf);
        let mut message = received(BO, 1);
        message.line = Line::Sent(MessageState::Queued(None));
        let mut outgoing = Outgoing::new(message.id, BO, None, 1001, vec![1], vec![]);
        book.write(&message, &outgoing).unwrap();
        assert_eq!(book.outgoing(), Ok(vec![outgoing.clone()]));
        let states = [
            MessageState::Waiting(2),
            MessageState::Expired,
            MessageState::Delivered { at_millis: 7 },
        ];
        for state in states {
            outgoing.sealed.insert(DeviceId([4; 32]), vec![9; 30]);
            book.settle(BO, message.id, state, Some(&outgoing)).unwrap();
            let kept = book.messages(Some(BO), 1).unwrap();
            assert_eq!(kept[0].line, Line::Sent(state));
            assert_eq!(book.outgoing(), Ok(vec![outgoing.clone()]));
        }
        book.settle(BO, message.id, states[0], None).unwrap();
        assert_eq!(book.outgoing(), Ok(vec![]));
        // Something that is no message, such as a receipt, shows nowhere.
        book.settle(BO, id(9), states[0], None).unwrap();
        assert_eq!(book.messages(None, 9).unwrap().len(), 1);
    }

    #[test]
    fn capabilities_are_kept() {
        let shelf = MemoryShelf::default();
        let book = ChatBook(&shelf);
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let own = book.own_capability(&mut rng).unwrap();
        assert_eq!(book.own_capability(&mut rng), Ok(own.clone()));
        let peer = |n| Peer {
            device: DeviceId([n; 32]),
            capability: own.clone(),
            homes: vec![],
        };
        for n in 0..40 {
            book.keep_peer(BO, &peer(n)).unwrap();
        }
        let peers = book.peers(BO).unwrap();
        assert_eq!(peers.len(), MAX_PEERS);
        assert!(peers.contains(&peer(39)));
        assert_eq!(book.peers(CY), Ok(vec![]));
    }
}
