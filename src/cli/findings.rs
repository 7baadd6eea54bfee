//! What a trial of a fault has shown, in a line, and many in a table: for `faults` and
//! `demo`.

use super::ui::{Tone, paint, table};
use crate::faults::bound::Limit;
use crate::faults::report::difference::{Change, Compared, Difference, Pair};
use crate::faults::report::{Row, Run, Spread, Verdict};
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
    if let Some(first) = &trial.first_attempt {
        let words = format!("second attempt; the first: {first}");
        text.push_str(&format!("\n  {}", paint(Tone::Quiet, &words)));
    }
    for sentence in trial.broken.iter().chain(&trial.void) {
        text.push_str(&format!("\n  {}", paint(tone, sentence)));
    }
    text
}

fn against(ms: f64, limit: Option<&Limit>) -> String {
    match limit {
        Some(limit) => {
            // A value that is over its limit must not look like it.
            let is_close = ms > limit.ms && format!("{ms:.0}") == format!("{:.0}", limit.ms);
            let digits = usize::from(is_close);
            format!("{ms:.digits$} ms (≤ {:.digits$})", limit.ms)
        }
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
    let tone = match row.verdict() {
        Verdict::Kept => Tone::Good,
        Verdict::Broken => Tone::Bad,
        Verdict::Void => Tone::Warning,
    };
    let bound = row.bound;
    let cell = |seen: Option<Spread>, limit: Option<&Limit>| {
        let Some(seen) = seen else {
            return "-".to_owned();
        };
        let values = if row.repeats - row.void > 1 {
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

/// Two runs side by side, a row for each fault: the earlier one's values, then the later one's.
pub(super) fn difference(difference: &Difference) -> String {
    let rows: Vec<Vec<String>> = difference.faults.iter().map(compared).collect();
    let mut text = table(
        &[
            "FAULT",
            "GAP (MS)",
            "OF WRITES (MS)",
            "SLOWEST (MS)",
            "LOST IN A TRIAL",
            "WORSE",
        ],
        &rows,
    );
    text.push_str("median/worst then → now\n");
    for (which, faults) in [
        ("only now", &difference.only_now),
        ("only then", &difference.only_then),
    ] {
        if !faults.is_empty() {
            let words = format!("{which}: {}", faults.join(", "));
            text.push_str(&format!("{}\n", paint(Tone::Quiet, &words)));
        }
    }
    for remark in &difference.remarks {
        text.push_str(&format!("{}\n", paint(Tone::Warning, remark)));
    }
    text
}

fn compared(compared: &Compared) -> Vec<String> {
    let spread = |spread: Spread| format!("{:.0}/{:.0}", spread.median, spread.worst);
    let cell = |pair: Option<Pair>| {
        let Some(pair) = pair else {
            return "-".to_owned();
        };
        let text = format!("{} → {}", spread(pair.then), spread(pair.now));
        match pair.change {
            Change::Same => text,
            Change::Worse => paint(Tone::Bad, &format!("{text} ✗")),
            Change::Better => paint(Tone::Good, &format!("{text} better")),
        }
    };
    let worse = compared.worse();
    let tone = if worse.is_empty() {
        Tone::Good
    } else {
        Tone::Bad
    };
    vec![
        paint(tone, &compared.fault),
        cell(Some(compared.gap)),
        cell(compared.write_gap),
        cell(Some(compared.slowest)),
        cell(Some(compared.lost)),
        if worse.is_empty() {
            "-".into()
        } else {
            paint(Tone::Bad, &worse.join(", "))
        },
    ]
}
