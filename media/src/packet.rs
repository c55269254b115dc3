//! Packets: what we number. One Opus frame each, in RTP (RFC 3550, RFC 7587).

pub mod rtp;
pub mod unwrap;
