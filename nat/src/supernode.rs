//! The supernode role: a rendezvous for devices, and a relay for their calls.

pub mod protocol;
pub mod registry;
pub mod relay;
