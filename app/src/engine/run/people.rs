//! The address book as the window changes it, and conversations as the window shows them.

use std::{collections::BTreeMap, sync::Arc};

use ahoy_transport::identity::UserId;

use super::{Engine, People, mail::told};
use crate::{
    chat::{Line, Message},
    engine::people::{ChatView, ConversationView, MAX_SHOWN, PeopleChange},
    link::display_name,
};

/// What is shown of conversations, read when it changes since it may lie on a disk.
#[derive(Debug, Default)]
pub(super) struct Conversations {
    all: BTreeMap<UserId, ConversationView>,
    /// By when something was last said, the newest first.
    pub(super) listed: Arc<Vec<ConversationView>>,
    open: Option<UserId>,
    pub(super) shown: Option<Arc<ChatView>>,
}

impl Engine {
    /// Reads what was said before.
    pub(super) fn open_conversations(&mut self) {
        let messages = told(self.chat().messages(None, usize::MAX)).unwrap_or_default();
        let mut newest: BTreeMap<UserId, Message> = BTreeMap::new();
        for message in messages {
            newest.insert(message.user, message);
        }
        for (user, last) in newest {
            self.note_conversation(user, Some(last));
        }
        self.list_conversations();
    }

    /// Something was said, read or forgotten.
    pub(super) fn conversation_changed(&mut self, user: UserId) {
        let open = self.conversations.open == Some(user);
        let limit = if open { MAX_SHOWN } else { 1 };
        let messages = told(self.chat().messages(Some(user), limit)).unwrap_or_default();
        self.note_conversation(user, messages.last().cloned());
        if open {
            self.conversations.shown = Some(Arc::new(ChatView {
                user,
                name: self.name_of(user),
                messages,
            }));
        }
        self.list_conversations();
        self.show();
    }

    fn note_conversation(&mut self, user: UserId, last: Option<Message>) {
        // Somebody who asks is in the list of requests.
        let is_ours = self.book.is_contact(user)
            || last
                .as_ref()
                .is_some_and(|last| last.line != Line::Received)
            || self
                .people
                .requests
                .iter()
                .any(|request| request.user == user);
        match last.filter(|_| is_ours) {
            Some(last) => {
                let unread = told(self.chat().unread(user)).unwrap_or_default();
                let line = ConversationView { user, last, unread };
                self.conversations.all.insert(user, line);
            }
            None => {
                self.conversations.all.remove(&user);
            }
        }
    }

    fn list_conversations(&mut self) {
        let mut listed: Vec<_> = self.conversations.all.values().cloned().collect();
        listed.sort_by_key(|line| std::cmp::Reverse((line.last.at_millis, line.last.id)));
        self.conversations.listed = Arc::new(listed);
    }

    /// What somebody is called: as a contact, or as they call themselves where they asked.
    fn name_of(&self, user: UserId) -> String {
        let mut requests = self.people.requests.iter();
        let asked = requests.find(|request| request.user == user);
        let claimed = asked.map(|request| request.name.clone());
        self.book.display_name(user, &claimed.unwrap_or_default())
    }

    pub(super) fn open_chat(&mut self, user: Option<UserId>) {
        self.conversations.open = user;
        self.conversations.shown = None;
        match user {
            Some(user) => self.conversation_changed(user),
            None => self.show(),
        }
    }

    pub(super) fn note_read(&mut self, user: UserId) {
        told(self.chat().note_read(user)).unwrap_or_default();
        self.conversation_changed(user);
    }

    /// The person is called otherwise from now on. Homes and other devices need not know: a name travels in links and in
    /// offers.
    pub(super) fn rename(&mut self, name: &str) {
        let name = display_name(name);
        self.book
            .set_name(Some(name.as_str()).filter(|name| !name.is_empty()));
        self.renewer.rename(&name);
        self.config.me.name = name;
        if self.ready {
            let link = self.link();
            self.view.send_modify(|view| view.link = Some(link));
        }
    }

    pub(super) fn change_people(&mut self, change: &PeopleChange) {
        let now_millis = self.runtime.unix_millis();
        let user = match self.book.change(change, now_millis) {
            Ok(user) => user,
            Err(notice) => return self.fail(notice),
        };
        self.people_changed(user, matches!(change, PeopleChange::Block(_)));
        self.view.send_modify(|view| view.notice = None);
        self.show();
    }

    /// The address book says something else of somebody now, who is perhaps never to be heard of again.
    pub(super) fn people_changed(&mut self, user: UserId, blocked: bool) {
        if blocked {
            self.mail.forget(user);
        }
        self.people = People::read(&*self.book);
        if blocked && self.conversations.open == Some(user) {
            self.open_chat(None);
        }
        self.conversation_changed(user);
    }
}
