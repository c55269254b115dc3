//! The end of our pass to a private network, said while something can be done about it.

use std::{sync::Arc, time::Duration};

use ahoy_transport::runtime::RuntimeExt as _;

use super::{
    handle::Anomaly,
    notice::Notice,
    run::{Engine, Internal},
};
use crate::network::{DAY_MILLIS, ENDING_DAYS};

/// How often is looked; said is it as often.
const LOOK: Duration = Duration::from_secs(24 * 3600);

impl Engine {
    /// Looks once a day how long our pass counts, as long as this runs.
    pub(super) fn watch_pass(&self) {
        let Some(access) = self.config.finding.access.clone() else {
            return;
        };
        let (runtime, inbox) = (Arc::clone(&self.runtime), self.inbox.clone());
        let watching = async move {
            loop {
                let left = access
                    .not_after_millis()
                    .saturating_sub(runtime.unix_millis());
                let early = left.saturating_sub(ENDING_DAYS * DAY_MILLIS);
                let wait = if early > 0 {
                    LOOK.min(Duration::from_millis(early))
                } else {
                    // The engine is gone: so is the pass.
                    if inbox.send(Internal::PassEnds(left)).await.is_err() {
                        return;
                    }
                    LOOK
                };
                tokio::select! {
                    biased;
                    () = inbox.closed() => return,
                    () = runtime.sleep(wait) => {}
                }
            }
        };
        self.runtime.spawn_task(watching).detach();
    }

    /// So many milliseconds are left.
    pub(super) fn tell_pass_ends(&self, left_millis: u64) {
        let notice = Notice::PassEnds(left_millis.div_ceil(DAY_MILLIS));
        self.tell_anomaly(Anomaly::PassEnds, notice);
    }
}
