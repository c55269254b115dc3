//! The calling app.
