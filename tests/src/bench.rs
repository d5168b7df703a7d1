//! What a call costs, in real processes, beside two hops of nginx and of HAProxy that do far less: they neither sign nor
//! record anything. ARCHITECTURE.md, *What a call costs*, says how to run it and how to read it.
//!
//! Stacks take turns within each round, so that a busy machine is busy for all of them; what compares is the ratio within
//! a round, and its median over the rounds.

pub mod catalogue;
pub mod connect;
pub mod cores;
pub mod figures;
pub mod idle;
pub mod load;
pub mod national;
pub mod overload;
pub mod recording;
pub mod relay;
pub mod service;
pub mod stacks;
pub mod stream;
