//! The whole way of a sound: blocks to packets, packets to blocks.

pub mod recv;
pub mod send;
