//! Finds and keeps paths.
