//! Finds and keeps paths between two devices: the supernode (server and client), the relay, candidates, ICE.

mod keyed;
mod stun;

pub mod behaviour;
pub mod binding;
pub mod candidate;
pub mod client;
pub mod dial;
pub mod discovery;
pub mod gather;
pub mod home;
pub mod ice;
pub mod netmon;
pub mod port;
pub mod portmap;
pub mod supernode;
pub mod turn;
pub mod workbench;
