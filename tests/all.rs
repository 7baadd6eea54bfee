//! The project's tests, as one program: one module per command or concern.

mod apply;
mod check;
mod cli;
mod common;
mod daemons;
mod edit;
mod generate;
mod import;
mod lab;
mod layering;
mod nix;
mod plan;
mod set;
