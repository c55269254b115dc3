//! The `ahoy` binary.
fn main() {}
