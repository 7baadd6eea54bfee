//! What a trial of a fault has shown, in a line, and many in a table: for `faults` and
//! `demo`.

use super::ui::{Tone, paint, table};
use crate::faults::bound::Limit;
use crate::faults::report::{Row, Run, Spread};
use crate::faults::trial::Trial;

/// A mark and a sentence or two.
pub(super) fn line(trial: &Trial) -> String {
    let measured = &trial.measured;
    let requests = &measured.requests;
    let mut said = vec![match requests.lost() {
        0 => format!("0 of {} requests lost", requests.sent),
        lost => {
            let why: Vec<String> = requests
                .failed
                .iter()
                .map(|(why, count)| format!("{count} {why}"))
                .collect();
            format!(
                "{lost} of {} requests lost ({})",
                requests.sent,
                why.join(", ")
            )
        }
    }];
    said.push(format!(
        "longest gap {}",
        against(requests.longest_gap_ms, trial.bound.gap.as_ref())
    ));
    if let Some(limit) = &trial.bound.write_gap {
        said.push(format!(
            "of writes {}",
            against(requests.longest_write_gap_ms, Some(limit))
        ));
    }
    if let Some(limit) = &trial.bound.slowest {
        said.push(format!(
            "slowest {}",
            against(requests.slowest_ms, Some(limit))
        ));
    }
    if let Some(noticed) = measured.detect_ms {
        said.push(format!(
            "noticed after {}",
            against(noticed, trial.bound.detect.as_ref())
        ));
    }
    said.push(format!(
        "whole {:.1} s later",
        measured.redundant_ms / 1000.0
    ));
    let (mark, tone) = match (&trial.void, trial.broken.is_empty()) {
        (Some(_), _) => ("-", Tone::Warning),
        (None, true) => ("✓", Tone::Good),
        (None, false) => ("✗", Tone::Bad),
    };
    let mut text = format!(
        "{} {} ({}): {}",
        paint(tone, mark),
        trial.fault,
        trial.nodes.join(", "),
        said.join(", ")
    );
    for sentence in trial.broken.iter().chain(&trial.void) {
        text.push_str(&format!("\n  {}", paint(tone, sentence)));
    }
    text
}

fn against(ms: f64, limit: Option<&Limit>) -> String {
    match limit {
        Some(limit) => format!("{ms:.0} ms (≤ {:.0})", limit.ms),
        None => format!("{ms:.0} ms"),
    }
}

/// Predicted and measured side by side, a row for each fault.
pub(super) fn report(run: &Run) -> String {
    let rows: Vec<Vec<String>> = run.rows().iter().map(row).collect();
    let mut text = table(
        &[
            "FAULT",
            "RUNS",
            "GAP",
            "OF WRITES",
            "SLOWEST",
            "NOTICED",
            "LOST",
            "MAY BE LOST",
            "WHOLE",
            "WRITES LOST",
        ],
        &rows,
    );
    for not_run in &run.not_run {
        let words = format!("not run: {}: {}", not_run.fault, not_run.why);
        text.push_str(&format!("{}\n", paint(Tone::Warning, &words)));
    }
    text
}

fn row(row: &Row) -> Vec<String> {
    let tone = if row.is_kept() { Tone::Good } else { Tone::Bad };
    let bound = row.bound;
    let cell = |seen: Option<Spread>, limit: Option<&Limit>| {
        let Some(seen) = seen else {
            return "-".to_owned();
        };
        let values = if row.repeats > 1 {
            format!("{:.0}, worst {:.0}", seen.median, seen.worst)
        } else {
            format!("{:.0}", seen.worst)
        };
        match limit {
            Some(limit) if seen.worst > limit.ms => {
                paint(Tone::Bad, &format!("{values} > {:.0} ms", limit.ms))
            }
            Some(limit) => format!("{values} ≤ {:.0} ms", limit.ms),
            None => format!("{values} ms"),
        }
    };
    vec![
        paint(tone, row.fault),
        row.repeats.to_string(),
        cell(Some(row.gap), bound.gap.as_ref()),
        cell(row.write_gap, bound.write_gap.as_ref()),
        cell(Some(row.slowest), bound.slowest.as_ref()),
        cell(row.detect, bound.detect.as_ref()),
        format!("{} of {}", row.lost, row.sent),
        bound.lost.words(),
        format!("{:.1} s", row.redundant.worst / 1000.0),
        format!("{} of {}", row.missing, row.acknowledged),
    ]
}
