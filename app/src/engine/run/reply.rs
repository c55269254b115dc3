//! A call that is declined with a word about it.

use ahoy_transport::identity::UserId;

use super::Engine;
use crate::{
    call::{CallId, CommandError},
    chat::MessageId,
    engine::notice::Notice,
    link::PersonLink,
};

impl Engine {
    /// Declines `call`, and writes to whoever placed it as messages are written. A stranger hears that the call was declined,
    /// and no word more: an answer would tell them that somebody is there who reads what they send.
    ///
    /// Whoever gave up while the sentence was chosen is told it all the same.
    pub(super) fn decline_saying(&mut self, call: CallId, to: UserId, id: MessageId, text: &str) {
        match self.calls.decline(self.runtime.now(), call) {
            Ok(()) | Err(CommandError::NoCall) => {}
            Err(error) => return self.fail(error),
        }
        // What is written below tells of what is so then.
        self.drain();
        if self.book.is_contact(to) {
            self.write_message(id, &PersonLink::new(to).to_string(), text);
        } else {
            self.fail(Notice::DeclinedSilently);
        }
    }
}
