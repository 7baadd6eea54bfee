//! Failures, made on purpose in the lab and measured from a client's place.
//!
//! [`load`] sends requests at a fixed rate and remembers what became of each.
//! [`tour`] is the demonstration: the old stack's own promises, one after another.

pub mod load;
pub mod tour;
