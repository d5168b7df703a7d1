//! The example agencies, told directly to each other over real sockets: what holds here must hold over any bus.

#![allow(clippy::unwrap_used, reason = "all of it is tests, and clippy knows only the functions marked so")]

mod as_programs;
mod birth_once;
mod call_types;
mod country;
mod refused;
