//! Side ports: further sockets, each for one remote address alone.
//!
//! Behind a NAT whose mapping depends on the remote endpoint, each socket has an outside port of its own towards a
//! peer, and it may be that only one of many is the one that the peer's NAT lets in. From then on that socket stands
//! for the one port towards that peer, and nobody above notices.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, Weak},
};

use quinn::AsyncUdpSocket;

use super::{MuxSocket, TableFull};

/// Most side ports at once: one for each person in a few calls.
pub const MAX_SIDE_PORTS: usize = 16;

/// One further socket.
pub(super) struct Side {
    id: u64,
    pub(super) remote: SocketAddr,
    pub(super) socket: Arc<dyn AsyncUdpSocket>,
    /// Whether it speaks IPv4 alone, and wants addresses to be such.
    pub(super) is_v4: bool,
}

/// All of them.
#[derive(Default)]
pub(super) struct Sides {
    all: Vec<Arc<Side>>,
    next_id: u64,
    first: bool,
}

impl Sides {
    /// A second one towards a remote address takes the first one's place.
    pub(super) fn add(
        &mut self,
        remote: SocketAddr,
        socket: Arc<dyn AsyncUdpSocket>,
        is_v4: bool,
    ) -> Result<u64, TableFull> {
        self.all.retain(|side| side.remote != remote);
        if self.all.len() >= MAX_SIDE_PORTS {
            return Err(TableFull);
        }
        let id = self.next_id;
        self.next_id += 1;
        self.all.push(Arc::new(Side {
            id,
            remote,
            socket,
            is_v4,
        }));
        Ok(id)
    }

    fn remove(&mut self, id: u64) {
        self.all.retain(|side| side.id != id);
    }

    pub(super) fn get(&self, remote: SocketAddr) -> Option<&Arc<Side>> {
        self.all.iter().find(|side| side.remote == remote)
    }

    /// All, and whether it is their turn before the port itself; each is the first now and then, so that none starves.
    pub(super) fn take_turn(&mut self) -> (Vec<Arc<Side>>, bool) {
        if self.all.is_empty() {
            return (Vec::new(), false);
        }
        self.all.rotate_left(1);
        self.first = !self.first;
        (self.all.clone(), self.first)
    }

    pub(super) fn all(&self) -> Vec<Arc<Side>> {
        self.all.clone()
    }
}

/// A socket that stands for the port towards one remote address, for as long as this lives.
pub struct SidePort {
    pub(super) mux: Weak<MuxSocket>,
    pub(super) id: u64,
    pub(super) remote: SocketAddr,
}

impl SidePort {
    /// The remote address.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        self.remote
    }
}

impl Drop for SidePort {
    fn drop(&mut self) {
        if let Some(mux) = self.mux.upgrade() {
            mux.lock().sides.remove(self.id);
        }
    }
}

impl fmt::Debug for SidePort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SidePort")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
