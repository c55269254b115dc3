//! Finds and keeps paths between two devices: the supernode (server and client), the relay, candidates, ICE.

pub mod supernode;
