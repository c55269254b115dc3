//! Finds and keeps paths between two devices: the supernode (server and client), the relay, candidates, ICE.

mod stun;

pub mod client;
pub mod home;
pub mod port;
pub mod supernode;
pub mod turn;
