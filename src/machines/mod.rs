//! The stack's machines, reached by the user's own `ssh`: commands on them ([`Ssh`]),
//! what they run ([`look()`]), and systems for them ([`closures`]).
//!
//! It knows no plan and no engine. `cli/machine_host.rs` makes a `deploy::Host` of it.

pub mod closures;
pub mod copy;
mod lock;
mod look;
mod ssh;

pub use lock::{Lock, lock};
pub use look::{Machine, System, look, system};
pub use ssh::{Settings, Ssh, Target, Unreachable};
