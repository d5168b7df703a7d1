//! Placeholder.

pub mod clock;
pub mod global_configuration;
pub mod join;
pub mod keys;
