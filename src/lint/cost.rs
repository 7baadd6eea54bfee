//! What a trap costs, as a number and the formula it comes from.

use serde::Serialize;

/// The outage that a trap costs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cost {
    /// Its longest duration in seconds, where it can be computed.
    pub seconds: Option<f64>,
    /// Whether it lasts until somebody acts.
    pub endless: bool,
    /// Where the number comes from, or what is lost, in the file's own values.
    pub formula: String,
}

impl Cost {
    /// At most `seconds`, which `formula` gives.
    pub(super) fn of(seconds: f64, formula: impl Into<String>) -> Self {
        Self {
            seconds: Some(seconds),
            endless: false,
            formula: formula.into(),
        }
    }

    /// No outage, but something that is lost.
    pub(super) fn loss(what: impl Into<String>) -> Self {
        Self {
            seconds: None,
            endless: false,
            formula: what.into(),
        }
    }

    /// It ends when somebody acts.
    pub(super) fn endless(formula: impl Into<String>) -> Self {
        Self {
            seconds: None,
            endless: true,
            formula: formula.into(),
        }
    }
}

impl std::fmt::Display for Cost {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.seconds {
            Some(seconds) => write!(out, "up to {}: {}", time(seconds), self.formula),
            None if !self.endless => out.write_str(&self.formula),
            None => write!(out, "until somebody acts: {}", self.formula),
        }
    }
}

/// Seconds for people: `30.61 s`, `4 s`, `5 ms`.
pub(super) fn time(seconds: f64) -> String {
    let round = |value: f64, digits: usize| {
        let text = format!("{value:.digits$}");
        if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text
        }
    };
    if seconds > 0.0 && seconds < 0.1 {
        format!("{} ms", round(seconds * 1000.0, 1))
    } else {
        format!("{} s", round(seconds, 2))
    }
}

#[cfg(test)]
mod tests {
    use super::time;

    #[test]
    fn times_read_well() {
        let times = [0.0, 0.0047, 0.3, 3.609_375, 4.0, 30.0, 100.0].map(time);
        assert_eq!(
            times,
            ["0 s", "4.7 ms", "0.3 s", "3.61 s", "4 s", "30 s", "100 s"]
        );
    }
}
