//! Measured times beside their limits, and numbers as people write them.

use serde::Serialize;

use crate::faults::bound::Limit;
use crate::faults::report::{Row, Spread, Verdict};

/// Measured beside what was predicted.
#[derive(Serialize)]
pub(super) struct Cell {
    /// Median and worst in one.
    pub both: String,
    pub median: String,
    pub worst: String,
    pub limit: Option<String>,
    /// How much of the limit was used, in percent; no more than 100.
    pub used: Option<u32>,
    pub is_over: bool,
}

/// A limit with its formula.
#[derive(Serialize)]
pub(super) struct Cost {
    pub what: &'static str,
    pub formula: String,
    pub values: String,
    pub cell: Cell,
}

/// Every time of a fault, with its limit.
pub(super) fn costs_of(row: &Row) -> Vec<Cost> {
    let bound = row.bound;
    let all = [
        ("longest gap", Some(row.gap), &bound.gap),
        (
            "longest gap between writes",
            row.write_gap,
            &bound.write_gap,
        ),
        ("slowest answer", Some(row.slowest), &bound.slowest),
        ("until it was noticed", row.detect, &bound.detect),
        (
            "until the last request that failed or was slow",
            Some(row.recover),
            &None,
        ),
        (
            "undone, until all was answered well again",
            Some(row.restored),
            &bound.restored,
        ),
        (
            "undone, until all was as before",
            Some(row.redundant),
            &None,
        ),
    ];
    all.into_iter()
        .filter(|(_, seen, limit)| seen.is_some() || limit.is_some())
        .map(|(what, seen, limit)| Cost {
            what,
            formula: limit
                .as_ref()
                .map_or("–".into(), |limit| limit.formula.clone()),
            values: limit
                .as_ref()
                .map_or("–".into(), |limit| limit.values.clone()),
            cell: Cell::of(row, seen, limit.as_ref()),
        })
        .collect()
}

/// Median and worst as one text; only the worst if there is one trial.
pub(super) fn both(row: &Row, seen: Spread, write: fn(f64) -> String) -> String {
    let (median, worst) = (write(seen.median), write(seen.worst));
    if row.repeats - row.void <= 1 {
        return worst;
    }
    // The unit once, if it is the same.
    let unit = worst.split(' ').next_back().unwrap_or_default();
    let short = median
        .strip_suffix(unit)
        .map_or(median.as_str(), str::trim_end);
    format!("{short} / {worst}")
}

impl Cell {
    pub(super) fn of(row: &Row, seen: Option<Spread>, limit: Option<&Limit>) -> Self {
        let counts = row.verdict() != Verdict::Void;
        let is_over = |seen: Spread| counts && limit.is_some_and(|limit| seen.worst > limit.ms);
        // A value that is over its limit must not look like it.
        let is_close = |(seen, limit): (Spread, &Limit)| {
            seen.worst > limit.ms && time(seen.worst) == time(limit.ms)
        };
        let text = if seen.zip(limit).is_some_and(is_close) {
            tenths
        } else {
            time
        };
        Self {
            both: seen.map_or("–".into(), |seen| both(row, seen, text)),
            median: seen
                .filter(|_| row.repeats - row.void > 1)
                .map_or(String::new(), |seen| time(seen.median)),
            worst: seen.map_or("–".into(), |seen| text(seen.worst)),
            limit: limit.map(|limit| text(limit.ms)),
            used: seen
                .zip(limit)
                .map(|(seen, limit)| percent(seen.worst / limit.ms)),
            is_over: seen.is_some_and(is_over),
        }
    }
}

/// A part of one in whole percent; no more than 100.
fn percent(part: f64) -> u32 {
    let percent = (part * 100.0).clamp(0.0, 100.0).round();
    (0..=100)
        .find(|whole| f64::from(*whole) >= percent)
        .unwrap_or(100)
}

/// A time in milliseconds as people write it.
pub(super) fn time(ms: f64) -> String {
    if ms < 9999.5 {
        format!("{ms:.0} ms")
    } else {
        format!("{:.1} s", ms / 1000.0)
    }
}

/// A time in milliseconds with tenths.
fn tenths(ms: f64) -> String {
    format!("{ms:.1} ms")
}

/// A time in milliseconds that nobody waits for, in seconds.
pub(super) fn seconds(ms: f64) -> String {
    format!("{:.1} s", ms / 1000.0)
}

/// A number in groups of three digits.
pub(super) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

pub(super) fn counted(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {what}{plural}", grouped(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_475_000), "1,475,000");
        assert_eq!(time(299.4), "299 ms");
        assert_eq!(time(66_120.0), "66.1 s");
        assert_eq!(percent(0.876), 88);
        assert_eq!(percent(3.0), 100);
        assert_eq!(percent(f64::NAN), 100);
    }
}
