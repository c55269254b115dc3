//! The calling app.

pub mod call;
pub mod report;
pub mod signal;
pub mod sim;
