//! Our address as a supernode sees it: a Binding request on the one port (RFC 8489 sections 3 and 6.2.1).

use std::{net::SocketAddr, sync::Arc, time::Duration};

use ahoy_transport::{
    mux::canonical,
    runtime::{Runtime, RuntimeExt, timeout},
};
use rtc_stun::message::{CLASS_REQUEST, CLASS_SUCCESS_RESPONSE, METHOD_BINDING, TransactionId};

use crate::{
    port::{PortHub, SubscribeError, Subscription},
    stun::{Builder, Stun},
};

/// First wait until the request is repeated, doubling. RFC 8489 proposes 500 ms; a call waits here, and a
/// repetition costs 28 bytes.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// Times that a request is sent: over 100, 300, 700 and 1500 ms.
const REQUESTS: u32 = 5;

/// Why an address is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BindingError {
    /// Nothing came back.
    #[error("the STUN server does not answer")]
    TimedOut,
    /// The server said no, or something else.
    #[error("the STUN server's answer makes no sense")]
    Protocol,
    /// The port serves too many already.
    #[error("the port cannot ask: {0}")]
    Port(#[from] SubscribeError),
}

/// Asks `server` where packets of the port behind `hub` come from.
///
/// # Errors
/// See [`BindingError`].
pub async fn observed_address(
    runtime: &Arc<dyn Runtime>,
    hub: &Arc<PortHub>,
    server: SocketAddr,
) -> Result<SocketAddr, BindingError> {
    let id: [u8; 12] = runtime.random_array();
    // The lease holds until the answer is here.
    let Subscription {
        lease: _lease,
        mut packets,
    } = hub.subscribe_transaction(id)?;
    hub.port().ready().await;
    let request =
        Builder::new(METHOD_BINDING, CLASS_REQUEST, TransactionId(id)).finish(None, false);
    let mut wait = FIRST_WAIT;
    for _ in 0..REQUESTS {
        hub.port().send(server, None, &request);
        let answered = async {
            while let Some(packet) = packets.recv().await {
                if canonical(packet.from) == canonical(server) {
                    return Some(packet);
                }
            }
            None
        };
        match timeout(&**runtime, wait, answered).await {
            Some(Some(packet)) => {
                let stun =
                    Stun::parse(&packet.bytes).map_err(|_malformed| BindingError::Protocol)?;
                let ours =
                    stun.method() == METHOD_BINDING && stun.class() == CLASS_SUCCESS_RESPONSE;
                let observed = stun.mapped_address().filter(|_| ours);
                return observed.map(canonical).ok_or(BindingError::Protocol);
            }
            Some(None) => return Err(BindingError::TimedOut),
            None => wait *= 2,
        }
    }
    Err(BindingError::TimedOut)
}
