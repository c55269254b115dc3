//! Cross-crate tests, and what they share: raw UDP and a QUIC without cryptography for tests of the network.

pub mod by_hand;
#[cfg(target_os = "linux")]
pub mod crowd;
#[cfg(all(feature = "video", target_os = "linux"))]
pub mod desktop;
pub mod device;
#[cfg(all(feature = "video", target_os = "linux"))]
pub mod display;
pub mod fuzz;
pub mod household;
pub mod keyspace;
#[cfg(all(feature = "lab", target_os = "linux"))]
pub mod lab;
pub mod nosy;
pub mod overlay;
pub mod pair;
pub mod people;
pub mod person;
pub mod plain_quic;
pub mod process;
pub mod proxies;
pub mod recorded;
pub mod secrets;
#[cfg(target_os = "linux")]
pub mod sound_server;
pub mod table;
pub mod udp;
pub mod written;

/// Tells what a test of the threat model found about its row: `make test-threats` puts it into the table.
pub fn threat(row: u8, figure: impl std::fmt::Display) {
    eprintln!("threat {row}: {figure}");
}
