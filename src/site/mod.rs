//! The place where nodes run, whichever it is: what can be asked of it ([`Site`]) and done
//! in it ([`Host`]), what its nodes run ([`Fleet`]), and how they are ([`status()`]).
//!
//! The lab and the machines implement it beside themselves; `deploy` works on it.

mod fleet;
mod host;
mod node;
mod status;

pub use fleet::{FACTS_FILE, Fleet, NodeState};
pub use host::{Host, Site};
pub use node::{NodeId, Part, Presence, State, is_member};
pub use status::{NodeStatus, Roles, Status, parts, roles, status};
