//! The lab: the stack of one topology on this machine, with the real daemons and
//! the rendered bytes, each node in network, mount, PID and UTS namespaces of its own.
//!
//! ```text
//! this machine
//! └─ the lab: user (rootless), mount, network and PID namespaces, held by one process, the anchor
//!    │  bridge `switch` with the client's address
//!    ├─ node-1: own mount, network, PID and UTS namespaces; first process is supervisord
//!    └─ node-2: …
//! ```
//!
//! The anchor is the first process of a PID namespace, so when it ends the kernel
//! ends everything in the lab, and with the last process go interfaces and
//! mounts. Nothing has to be remembered to clean up: the running anchors *are* the
//! list of labs.
//!
//! [`plan`] says what a lab consists of and touches nothing. [`state`] finds labs.
//! [`supplies`] gets what a lab needs from outside. [`enter`] leads from this machine into
//! the lab, where [`run`] works with [`net`], [`ask`] looks, [`site`] is the lab as a place where nodes run, [`rotate`] exchanges secrets, and [`certificates`] makes and renews those of HTTPS. [`boot`] turns a fresh set of
//! namespaces into a node.

pub mod anchor;
pub mod apply;
pub mod ask;
pub mod backup;
pub mod boot;
pub mod certificates;
pub mod enter;
pub mod net;
pub mod plan;
pub mod rotate;
pub mod run;
pub mod site;
pub mod state;
mod supervisor;
pub mod supplies;
pub mod versions;

pub use plan::{AppVersion, LabPlan, NodePlan};
pub use run::{Event, Lab, Process};
pub use state::{Place, RunningLab};
