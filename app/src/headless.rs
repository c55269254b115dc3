//! Calls without a window.

pub mod call;
pub(crate) mod control;
pub mod demo;
pub mod doctor;
pub(crate) mod echo;
pub mod files;
pub mod measure;
pub mod message;
mod pair;
pub mod pairing;
#[cfg(feature = "devices")]
pub(crate) mod ring;
pub mod sim;
pub(crate) mod start;
