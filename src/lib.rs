//! From one topology file to a highly available web stack.
//!
//! ```text
//! topology.json ─parse──▶ Topology ─resolve─▶ NodeConfig ─render─▶ Rendered files
//!    (text)      all        (valid by          (typed, per            │
//!                problems    construction)      daemon)               ├─▶ hosts/<node>/
//!                at once                                              └─▶ lab
//! ```
//!
//! Everything up to the rendered text is pure. `docs/architecture.md` tells the
//! rest, and `tests/layering.rs` holds who may use whom.

pub mod backup;
pub mod certificate;
pub mod cli;
pub mod config;
pub mod deploy;
pub mod exec;
pub mod export;
pub mod failure;
pub mod faults;
pub mod files;
pub mod flows;
pub mod health;
pub mod hosts;
pub mod import;
pub mod lab;
pub mod lint;
pub mod machines;
pub mod native;
pub mod node;
pub mod render;
pub mod secrets;
pub mod sink;
pub mod site;
pub mod topology;
pub mod wait;
pub mod whatif;
