//! Handshakes between quinn-proto endpoints in virtual time, and between sessions without any QUIC.

mod altered;
mod established;
mod harness;
mod kem;
mod oracle;
mod refused;
mod stranger;
mod theft;
mod vectors;
mod wire;
