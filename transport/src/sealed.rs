//! What is left at a home for somebody who is not connected to us: sealed, padded, signed inside.

pub mod xwing;
