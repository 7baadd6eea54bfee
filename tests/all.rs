//! The project's tests, as one program: one module per command or concern.

mod apply;
mod check;
mod cli;
mod common;
mod compose;
mod daemons;
mod database;
mod edit;
mod engine;
mod export;
mod faults;
mod faults_report;
mod flows;
mod generate;
mod import;
mod lab;
mod layering;
mod lint;
mod machines;
mod native;
mod nix;
mod plan;
mod secrets;
mod set;
mod web_apps;
mod whatif;
