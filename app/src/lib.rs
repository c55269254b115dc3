//! The calling app.

pub mod call;
pub mod cli;
pub mod control;
pub mod identity;
pub mod link;
pub mod report;
pub mod signal;
pub mod sim;
