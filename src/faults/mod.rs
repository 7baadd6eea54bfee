//! Failures, made on purpose in the lab and measured from a client's place, beside what
//! they may cost by the configuration.
//!
//! ```text
//! rendered files ─▶ timing ─▶ predict ─▶ bound ──────────────┐
//!                                                            ├─▶ trial ─▶ report
//! catalogue ─▶ inject (the lab) ─▶ load, ledger, watch ──────┘
//! ```
//!
//! [`catalogue`] lists every [`fault`]; [`timing`] reads from the rendered files what decides how long
//! an outage lasts, and [`predict`] makes [`bound`]s of it: pure. [`inject`] breaks a lab and
//! makes it whole, with an [`impostor`] where the application itself has to misbehave.
//! [`trial`] does so under [`load`], with a [`ledger`] of what was acknowledged, while [`watch`]
//! looks at the nodes and [`noise`] at this machine. A [`timeline`] is what can be drawn of it, a [`report`] what can be told.
//! [`tour`] is the demonstration.

pub mod bound;
pub mod catalogue;
mod certificates;
pub mod fault;
pub mod impostor;
pub mod inject;
pub mod ledger;
pub mod load;
pub mod noise;
pub mod predict;
pub mod report;
mod rules;
pub mod soak;
pub mod timeline;
pub mod timing;
pub mod tour;
pub mod trial;
pub mod watch;
