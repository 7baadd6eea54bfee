//! `lab load`: requests at a fixed rate until somebody has seen enough. Hidden: tests
//! and scripts measure with it what visitors notice of a change.

use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use serde_json::json;

use super::request::Request;
use super::ui::Ui;
use super::{interrupts, lab_way};
use crate::failure::Outcome;
use crate::faults::ledger::{self, Witness};
use crate::faults::load::{Load, Shape, summary};
use crate::faults::trial::target;
use crate::lab::{Lab, Place};

/// `lab load`, outside.
pub(super) fn run(place: &Place, rate: u32, requests: u32, ui: &Ui) -> Outcome {
    let interrupted = interrupts::listen_for_interrupts()?;
    let request = Request::Load { rate, requests };
    let mut child = interrupts::apart(&mut lab_way::inner(
        &lab_way::running(place)?,
        &request,
        ui,
    )?)
    .spawn()
    .context("entering the lab")?;
    lab_way::imitate(interrupts::wait_for(&mut child, &interrupted)?)
}

/// `lab load`, inside: what was seen, as JSON.
pub(super) fn inside(lab: &Lab, rate: u32, requests: u32, ui: &mut Ui) -> Outcome {
    let ended = interrupts::inside()?;
    // Ids are for this run only.
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let name = format!("load-{}", since.as_millis());
    let shape = Shape { rate, writes: true };
    let load = Load::start(target(lab), shape, &name);
    let witness = Witness::start(&load, &name);
    Ui::announce("sending");
    let least = Duration::from_secs(1) * requests / rate;
    while !ended.load(Ordering::SeqCst) || load.now() < least {
        std::thread::sleep(Duration::from_millis(10));
    }
    let end = load.now();
    let samples = load.finish();
    let seen = summary(&samples, Duration::ZERO, end);
    let ledger = ledger::settle(target(lab), &name, &samples, witness)?;
    ui.json(&json!({ "lost": seen.lost(), "writes_lost": ledger.missing, "ledger": ledger, "seen": seen }))
}
