//! Handshakes between quinn-proto endpoints in virtual time, and between sessions without any QUIC.

mod established;
mod harness;
mod refused;
