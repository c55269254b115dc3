//! The supernode role: a rendezvous for devices, boxes for those that are off, and a relay for their calls.

pub mod admission;
pub mod closed;
pub mod mailbox;
pub mod promotion;
pub mod protocol;
pub mod puzzle;
pub mod records;
pub mod registry;
pub mod relay;
mod service;
pub mod vouch;
pub mod witness;

pub use service::{
    LocalClient, MailKeeper, ReachableRelay, RefusalCounters, Supernode, SupernodeStatus,
};
