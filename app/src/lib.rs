//! The calling app.

pub mod backup;
pub mod call;
pub mod chat;
pub mod cli;
pub mod contacts;
pub mod control;
pub mod dht;
#[cfg(feature = "voice")]
pub mod engine;
#[cfg(feature = "voice")]
pub mod headless;
pub mod identity;
pub mod link;
pub mod pairing;
pub mod profile;
pub mod proxy;
pub mod report;
pub mod settings;
pub mod signal;
pub mod sim;
pub mod sound;
pub mod store;
pub mod supernode;
pub mod sync;
#[cfg(feature = "window")]
pub mod ui;
