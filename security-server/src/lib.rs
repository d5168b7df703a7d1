//! Placeholder.

pub mod clock;
pub mod global_configuration;
