//! `demo`.
use std::path::Path;
use super::args::DemoArgs;
use super::ui::Ui;
use super::Outcome;
use crate::lab::Lab;
pub(super) fn run(_file: Option<&Path>, _args: &DemoArgs, _ui: &mut Ui) -> Outcome { Ok(()) }
pub(super) fn inside(_lab: &Lab, _rate: u32, _json: bool, _ui: &mut Ui) -> Outcome { Ok(()) }
