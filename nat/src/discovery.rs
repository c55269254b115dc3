//! Finding people without a supernode that knows them, and finding supernodes.

pub mod announcement;
pub mod dht;
pub mod door;
pub mod gossip;
pub mod heads;
pub mod homes;
pub mod lan;
pub mod quality;
pub mod record;
pub mod rendezvous;
pub mod reputation;
pub mod table;
