//! Finding people without a supernode that knows them.

pub mod lan;
