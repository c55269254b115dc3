//! The DHT: whether it answers, and so whether people are found where no known home answers.

use std::{sync::Arc, time::Duration};

use ahoy_nat::discovery::dht::{
    Dht,
    mainline::{DhtEntry, Mainline},
};
use ahoy_transport::runtime::{Runtime, timeout};

use super::findings::{Finding, Group};
use crate::{dht, settings::Settings};

/// Longer than a table that works takes to let somebody in.
const PATIENCE: Duration = Duration::from_secs(6);
const WHAT: &str = "DHT";

/// Enters it and leaves again. Puts nothing there.
pub(super) async fn examine(runtime: &Arc<dyn Runtime>, settings: &Settings) -> Finding {
    let variable = std::env::var(dht::VARIABLE).ok();
    match dht::entries(&[], variable.as_deref(), settings, false) {
        Ok(entries) if entries.is_empty() => Finding::note(
            Group::Network,
            WHAT,
            "switched off",
            "People who moved to other supernodes are found by new links alone.",
        ),
        Ok(entries) => ask(runtime, entries).await,
        Err(error) => Finding::note(
            Group::Network,
            WHAT,
            error.to_string(),
            "It is not asked as long as that cannot be read.",
        ),
    }
}

async fn ask(runtime: &Arc<dyn Runtime>, entries: Vec<DhtEntry>) -> Finding {
    let began = runtime.now();
    let table = Mainline::new(Arc::clone(runtime), entries);
    let asking = async {
        match table.open().await {
            Ok(node) => node.is_connected().await,
            Err(error) => {
                tracing::debug!(%error, "the DHT");
                false
            }
        }
    };
    if timeout(&**runtime, PATIENCE, asking).await == Some(true) {
        let took = runtime.now().saturating_duration_since(began).as_millis();
        return Finding::ok(
            Group::Network,
            WHAT,
            format!("answers in {took} ms"),
            "People are found by their names alone, also after they moved to other supernodes.",
        );
    }
    Finding::note(
        Group::Network,
        WHAT,
        "does not answer",
        "People are found by the supernodes in their links alone.",
    )
    .advise("This network may block it; links with supernodes in them work all the same.")
}
