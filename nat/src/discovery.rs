//! Finding people without a supernode that knows them.

pub mod dht;
pub mod door;
pub mod lan;
pub mod record;
pub mod rendezvous;
