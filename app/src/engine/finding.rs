//! Letting ourselves be found: our record, as the engine has it published.

use std::sync::Arc;

use ahoy_nat::discovery::{
    dht::publisher::Publishable,
    record::{RECORD_LIFETIME_MILLIS, Record, RecordFields},
};
use ahoy_transport::identity::{NodeAddress, RootKey};
use tokio::sync::watch;

use super::{book::AddressBook, config::Me, witness::read_witnesses};
use crate::sync::SyncBook;

/// Signs our records.
#[derive(Debug)]
pub(super) struct OwnRecord {
    /// Who we are, as of now.
    pub(super) me: watch::Receiver<Me>,
    pub(super) book: Arc<dyn AddressBook>,
    /// Our other devices get it, too, and keep it where it is looked for while this one is off.
    pub(super) hand_on: bool,
    /// What supernodes signed of our device list stands in them.
    pub(super) witnesses: bool,
}

impl Publishable for OwnRecord {
    fn record(&self, homes: &[NodeAddress], now_millis: u64) -> Option<(Record, Arc<RootKey>)> {
        let me = self.me.borrow();
        let root = Arc::clone(me.root.as_ref()?);
        // By the clock, so that a device that lost its memory goes on above what it published; and above all before, also
        // when the clock was put back.
        let last = self.book.known_record(me.user);
        let seq = last.map_or(now_millis, |last| {
            last.fields().seq.saturating_add(1).max(now_millis)
        });
        let fields = RecordFields {
            user: me.user,
            seq,
            not_after_millis: now_millis.saturating_add(RECORD_LIFETIME_MILLIS),
            log_head: me.log.head(),
            homes: homes.to_vec(),
            sealed: Vec::new(),
        };
        let witnesses = if self.witnesses {
            read_witnesses(&self.book.witnesses())
        } else {
            Vec::new()
        };
        let record = Record::issue_witnessed(fields, &witnesses, &root);
        self.book.keep_record(&record, now_millis);
        if self.hand_on && me.log.devices().len() > 1 {
            let noted = SyncBook(self.book.shelf()).note_record(&record, now_millis);
            noted.unwrap_or_else(|error| tracing::error!(%error, "own devices"));
        }
        Some((record, root))
    }

    fn handed_on(&self, now_millis: u64) -> Option<Record> {
        let user = self.me.borrow().user;
        let record = SyncBook(self.book.shelf()).record(user);
        let record = record.inspect_err(|error| tracing::error!(%error, "own devices"));
        let record = record.ok().flatten().filter(|_| self.hand_on)?;
        record.verify(user, now_millis).ok()?;
        Some(record)
    }

    fn capability(&self) -> Option<[u8; 32]> {
        self.book.own_capability()
    }
}
