//! The governing authority's record of who is who.

pub mod authority;
pub mod publish;
pub mod register;
