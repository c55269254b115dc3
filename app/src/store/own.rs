//! What goes from one device of the person to another: by letters, or whole, by a backup.

use ahoy_nat::supernode::mailbox::MailCapability;
use ahoy_transport::wire::Writer;
use redb::TableHandle as _;

use super::{BLOCKED, CHAT, CONTACTS, INBOX, Store, StoreError, TABLES, VERSION, change_chat};
use crate::{
    backup,
    chat::book::ChatBook,
    sync::{self, Entry, Standing, SyncBook, Synced},
};

impl Store {
    /// Everything, for a backup: table, key and value of each record.
    ///
    /// # Errors
    /// When the database fails.
    pub fn items(&self) -> Result<Vec<backup::Item>, StoreError> {
        let mut items = Vec::new();
        for table in TABLES {
            let name = table.name();
            items.extend(self.list(table, |key, value| {
                Ok((name.to_owned(), key.to_vec(), value.to_vec()))
            })?);
        }
        Ok(items)
    }

    /// Everything is as in a backup from now on. Tables that this version does not have are left out.
    ///
    /// # Errors
    /// When the database fails; then everything is as it was.
    pub fn replace_items(&self, items: &[backup::Item]) -> Result<(), StoreError> {
        let said = items.iter().filter(|(name, ..)| name == CHAT.name());
        let said = said.map(|(_name, key, value)| (key.as_slice(), value.as_slice()));
        self.sealer.draw_keys(said)?;
        self.write(|txn| {
            for table in TABLES {
                let mut opened = txn.table(table)?;
                opened.clear()?;
                let its = items.iter().filter(|(name, ..)| name == table.name());
                for (_table, key, value) in its {
                    opened.insert(key, value)?;
                }
            }
            Ok(())
        })
    }

    /// What own devices are to know and is not noted yet, from a profile of an older version.
    ///
    /// # Errors
    /// When the database fails.
    pub fn note_people(&self, now_millis: u64) -> Result<(), StoreError> {
        for contact in self.contacts()? {
            let noted = SyncBook(self).contact_noted(&contact, contact.added_at_millis)?;
            self.write(|txn| change_chat(txn, &noted))?;
        }
        for user in self.blocked()? {
            let noted = SyncBook(self).standing_noted(user, Standing::Blocked, now_millis)?;
            self.write(|txn| change_chat(txn, &noted))?;
        }
        Ok(())
    }

    /// Takes in what another device of ours knows. Returns whether there was news, and a new capability if there is one.
    ///
    /// # Errors
    /// When the database fails; then nothing was taken.
    pub fn take_synced(
        &self,
        entries: &[Entry],
        now_millis: u64,
    ) -> Result<(bool, Option<MailCapability>), StoreError> {
        let merged = SyncBook(self).merge(entries, now_millis)?;
        if merged.changes.is_empty() {
            return Ok((false, None));
        }
        let persons = sync::persons(self, &merged)?;
        let mut forgotten = Vec::new();
        for (user, person) in &persons {
            if matches!(person, Synced::Blocked) {
                forgotten.extend(ChatBook(self).forgotten(*user, now_millis)?);
            }
        }
        self.write(|txn| {
            change_chat(txn, &merged.changes)?;
            change_chat(txn, &forgotten)?;
            if let Some(capability) = &merged.capability {
                change_chat(txn, &[ChatBook::capability_set(capability)])?;
            }
            let mut contacts = txn.table(CONTACTS)?;
            let mut blocked = txn.table(BLOCKED)?;
            let mut inbox = txn.table(INBOX)?;
            for (user, person) in persons {
                let key = user.as_bytes().as_slice();
                match person {
                    Synced::Nobody => {
                        contacts.remove(key)?;
                        blocked.remove(key)?;
                    }
                    Synced::Contact(contact) => {
                        contacts.insert(key, &contact.to_bytes())?;
                        blocked.remove(key)?;
                        inbox.remove(key)?;
                    }
                    Synced::Blocked => {
                        let mut value = vec![VERSION];
                        value.put_u64(now_millis);
                        blocked.insert(key, &value)?;
                        contacts.remove(key)?;
                        inbox.remove(key)?;
                    }
                }
            }
            Ok(())
        })?;
        self.wipe_unused_keys()?;
        Ok((true, merged.capability))
    }
}
