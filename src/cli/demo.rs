//! `demo`: the stack up, broken in seven ways, and what visitors noticed.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::args::{DemoArgs, Format, LabArgs, LabCommand};
use super::lab::{self, Request};
use super::ui::{Tone, Ui, paint, table};
use super::{Failure, Outcome, source};
use crate::faults::tour::{self, Finding, Lost, Pace};
use crate::lab::{Lab, Place};

/// Requests for each thing that is tried.
const REQUESTS: u32 = 1200;

/// `demo`, from outside: a lab of its own name, so that one that runs is left alone.
pub(super) fn run(file: Option<&Path>, args: &DemoArgs, ui: &mut Ui) -> Outcome {
    let (_, topology) = source::load(file, ui)?;
    let name = format!("{}-demo", topology.name());
    let up = LabArgs {
        file: None,
        lab: Some(name.clone()),
        command: LabCommand::Up {
            wait: true,
            dry_run: false,
        },
    };
    lab::run(file, up, ui)?;
    let place = Place::of(&name)?;
    let interrupted = lab::listen_for_interrupts()?;
    let outcome = tour_of(
        &place,
        topology.load_balancer().advert_interval.get(),
        args,
        &interrupted,
        ui,
    );
    if args.keep {
        ui.say(&format!(
            "the lab goes on; `gen-topology lab down --lab {name}` ends it"
        ));
    } else {
        let down = LabArgs {
            file: None,
            lab: Some(name),
            command: LabCommand::Down,
        };
        lab::run(file, down, ui)?;
    }
    if interrupted.load(Ordering::SeqCst) {
        return Err(Failure::Interrupted(
            "the demonstration was not finished".into(),
        ));
    }
    outcome
}

fn tour_of(
    place: &Place,
    advert_ms: u64,
    args: &DemoArgs,
    interrupted: &AtomicBool,
    ui: &Ui,
) -> Outcome {
    let running = place.running().context("the lab has ended")?;
    let request = Request::Demo {
        rate: args.rate,
        advert_ms,
        json: args.format == Format::Json,
    };
    let mut child = lab::apart(&mut lab::inner(&running, &request, ui)?)
        .spawn()
        .context("entering the lab")?;
    lab::imitate(lab::wait_for(&mut child, interrupted)?)
}

/// `demo`, inside the lab.
pub(super) fn inside(lab: &Lab, rate: u32, advert_ms: u64, json: bool, ui: &mut Ui) -> Outcome {
    let begun = Instant::now();
    for sentence in tour::look(lab)? {
        ui.say(&format!("{} {sentence}", paint(Tone::Good, "✓")));
    }
    let pace = Pace {
        rate,
        requests: REQUESTS,
        advert_ms,
    };
    let mut findings: Vec<Finding> = Vec::new();
    for (title, act) in tour::ACTS {
        ui.say(&format!(
            "{} {title}, under {rate} requests a second",
            paint(Tone::Quiet, "…")
        ));
        for finding in act(lab, pace)? {
            let mark = if finding.is_kept() {
                paint(Tone::Good, "✓")
            } else {
                paint(Tone::Bad, "✗")
            };
            ui.say(&format!("{mark} {}: {}", finding.what, sentence(&finding)));
            findings.push(finding);
        }
    }
    if json {
        ui.json(&findings)?;
    } else {
        ui.say("");
        ui.data(&report(&findings))?;
    }
    let sent: usize = findings.iter().map(|finding| finding.seen.sent).sum();
    let lost: usize = findings.iter().map(|finding| finding.seen.lost()).sum();
    ui.say(&format!(
        "{sent} requests in {:.0} s, {lost} without an answer",
        Duration::as_secs_f64(&begun.elapsed())
    ));
    if findings.iter().all(Finding::is_kept) {
        Ok(())
    } else {
        Err(Failure::Budget)
    }
}

fn sentence(finding: &Finding) -> String {
    let seen = &finding.seen;
    let lost = match seen.lost() {
        0 => format!("0 of {} requests lost", seen.sent),
        lost => {
            let why: Vec<String> = seen
                .failed
                .iter()
                .map(|(why, count)| format!("{count} {why}"))
                .collect();
            format!("{lost} of {} requests lost ({})", seen.sent, why.join(", "))
        }
    };
    let note = if finding.note.is_empty() {
        String::new()
    } else {
        format!("; {}", finding.note)
    };
    format!("{lost}, longest gap {:.0} ms{note}", seen.longest_gap_ms)
}

fn report(findings: &[Finding]) -> String {
    let rows: Vec<Vec<String>> = findings
        .iter()
        .map(|finding| {
            let seen = &finding.seen;
            let tone = if finding.is_kept() {
                Tone::Good
            } else {
                Tone::Bad
            };
            let promise = finding.promise;
            let gap = promise
                .gap_ms
                .map_or("-".into(), |most| format!("≤ {most:.0} ms"));
            let lost = match promise.lost {
                Lost::None => "0",
                Lost::InHand => "in hand",
                Lost::InFlight => "in flight",
            };
            vec![
                finding.what.clone(),
                format!("{gap}, lost {lost}"),
                paint(tone, &format!("{:.0} ms", seen.longest_gap_ms)),
                paint(tone, &format!("{} of {}", seen.lost(), seen.sent)),
                format!("{:.0} ms", seen.median_ms),
                format!("{:.0} ms", seen.slowest_ms),
                finding.writes_lost.to_string(),
            ]
        })
        .collect();
    table(
        &[
            "WHAT WAS DONE",
            "PROMISED: GAP, LOST",
            "GAP",
            "LOST",
            "MEDIAN",
            "SLOWEST",
            "WRITES LOST",
        ],
        &rows,
    )
}
