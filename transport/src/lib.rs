//! Noise-encrypted QUIC between two identities, and sessions that live on several connections.
//!
//! This crate moves bytes between two people's devices, and between a device and its supernodes. It knows
//! priorities and deadlines, never a codec and never a candidate.
//!
//! Everything here takes its clock, its randomness and its sockets from a [`runtime::Runtime`], so that the
//! simulator can run the shipped code in virtual time.

pub mod bwe;
pub mod connection;
pub mod datagram;
pub mod demux;
pub mod endpoint;
pub mod feedback;
pub mod identity;
pub mod mux;
pub mod noise;
pub mod pacer;
pub mod runtime;
pub mod sealed;
pub mod session;
pub mod tunnel;
pub mod wire;
