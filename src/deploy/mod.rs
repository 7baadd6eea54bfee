//! Bringing running nodes to an edited topology without visitors noticing: what
//! has to be done in which order ([`plan()`]), and doing it behind gates ([`Engine`]).
//!
//! The engine knows no lab and no SSH. It works on a [`Host`](crate::site::Host), which whoever calls it
//! passes in; `cli` joins the two.

mod ask;
mod impact;
pub mod journal;
mod obstacle;
mod plan;
mod run;
mod step;
mod terms;

pub use impact::Impact;
pub use plan::{Plan, plan};
pub use run::{Engine, Event, Failure, Options, Spent};
pub use terms::{Choice, Now, Step, What};
