//! The governing authority's record of who is who.

pub mod publish;
