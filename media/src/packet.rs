//! Packets: what we number. One Opus packet each, in RTP (RFC 3550, RFC 7587), alone or with a copy of an earlier one.
//!
//! Deliberate departures: no RTCP, since the connection's feedback says more and sooner; no contributing
//! sources, extensions or padding are sent, received ones are skipped; the marker also follows a hole in the
//! recording; a jump of the sequence number is believed at its second packet, and a new SSRC at its third.

pub mod apart;
pub mod parity;
pub mod red;
pub mod rtp;
pub mod unwrap;
