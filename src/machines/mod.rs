//! The stack's machines, reached by the user's own `ssh`: commands on them ([`Ssh`]),
//! what they run ([`look()`]), and systems for them ([`closures`]).
//!
//! They are a place where nodes run ([`MachineSite`], [`MachineHost`]); all of them are looked at
//! before anything is touched ([`survey()`]).

pub mod closures;
pub mod copy;
mod host;
mod lock;
mod look;
mod ssh;
mod survey;
mod units;

pub use host::{MachineHost, MachineSite, on_paper, state};
pub use lock::{Lock, lock};
pub use look::{Machine, System, look, system};
pub use ssh::{Settings, Ssh, Target, Unreachable};
pub use survey::{Survey, survey};
pub use units::{that_log, units};

/// Machines that are asked at the same time.
pub const AT_ONCE: usize = 16;
