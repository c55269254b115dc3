//! The calling app.

pub mod sim;
