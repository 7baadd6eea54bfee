//! What a fault may cost at most: sums of values that stand in the rendered files,
//! with the formula beside the result so that it can be checked by hand.

use serde::{Deserialize, Serialize};

use super::load::{self, Sample};

/// What the nodes' schedulers, a gratuitous ARP and the time between two requests
/// add to anything that takes milliseconds. Measured: a planned move of the virtual IP
/// takes 13 to 16 ms as a client sees it.
pub const MARGIN: (&str, f64) = ("margin", 45.0);

/// An upper limit of a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limit {
    /// The limit, in milliseconds.
    pub ms: f64,
    /// How it comes about, in words: `3 × advert + skew + margin`.
    pub formula: String,
    /// The same in values, in milliseconds: `300 + 4.7 + 45`.
    pub values: String,
}

impl Limit {
    /// The sum of named times in milliseconds.
    pub fn sum(parts: &[(&str, f64)]) -> Self {
        let names: Vec<&str> = parts.iter().map(|(name, _)| *name).collect();
        let values: Vec<String> = parts.iter().map(|(_, ms)| number(*ms)).collect();
        Self {
            ms: parts.iter().map(|(_, ms)| ms).sum(),
            formula: names.join(" + "),
            values: values.join(" + "),
        }
    }
}

/// A number as a person would write it: without a fraction unless it has one.
fn number(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

/// Which requests may be without a good answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Loss {
    /// None at all.
    None,
    /// What the dead app had in hand: writes, because nobody can know whether to repeat
    /// them, and answers that it had begun.
    InHand {
        /// Requests that one app server works on at a time.
        most: usize,
    },
    /// What was in flight on a load balancer that died.
    InFlight {
        /// Kept-alive connections, and what arrives until another one takes over.
        most: usize,
    },
    /// Writes, while there is no majority to acknowledge them. No read.
    Writes,
    /// The broken app server's own answers. Nobody but the app can know that they are wrong.
    Answers,
    /// Everything, while everything is off.
    Everything,
}

impl Loss {
    /// In a few words.
    pub fn words(self) -> String {
        match self {
            Loss::None => "0".into(),
            Loss::InHand { most } => format!("≤ {most} in hand"),
            Loss::InFlight { most } => format!("≤ {most} in flight"),
            Loss::Writes => "writes only".into(),
            Loss::Answers => "its answers".into(),
            Loss::Everything => "all".into(),
        }
    }

    /// What was lost and should not have been, as a sentence; none if all is as promised.
    pub fn broken_by(self, samples: &[&Sample]) -> Option<String> {
        let lost: Vec<&Sample> = samples
            .iter()
            .copied()
            .filter(|sample| sample.outcome.is_err())
            .collect();
        let cut_short = |sample: &Sample| {
            sample
                .outcome
                .as_ref()
                .err()
                .is_some_and(|why| why == load::CUT_SHORT)
        };
        let is_allowed = |sample: &Sample| match self {
            Loss::None => false,
            Loss::InHand { .. } => sample.entry.is_some() || cut_short(sample),
            Loss::Writes => sample.entry.is_some(),
            Loss::Answers => sample
                .outcome
                .as_ref()
                .err()
                .is_some_and(|why| why == "HTTP 500"),
            Loss::InFlight { .. } | Loss::Everything => true,
        };
        let unexpected: Vec<&Sample> = lost.iter().copied().filter(|s| !is_allowed(s)).collect();
        if let Some(first) = unexpected.first() {
            let why = first.outcome.as_ref().err().map_or("", String::as_str);
            let kind = if first.entry.is_some() {
                "write"
            } else {
                "read"
            };
            return Some(format!(
                "{} requests were lost that should not have been, the first a {kind}: {why}",
                unexpected.len()
            ));
        }
        match self {
            Loss::InHand { most } | Loss::InFlight { most } if lost.len() > most => Some(format!(
                "{} requests were lost, {most} could have been",
                lost.len()
            )),
            _ => None,
        }
    }
}

/// What a visitor may notice of a fault at most.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bound {
    /// Longest time without any good answer.
    pub gap: Option<Limit>,
    /// Longest time without an acknowledged write.
    pub write_gap: Option<Limit>,
    /// Slowest good answer.
    pub slowest: Option<Limit>,
    /// Time until whoever has to act knows.
    pub detect: Option<Limit>,
    /// Time from the end of the fault until everything is answered again.
    pub restored: Option<Limit>,
    /// Requests without a good answer.
    pub lost: Loss,
}

impl Bound {
    /// A bound that only says what may be lost.
    pub fn losing(lost: Loss) -> Self {
        Self {
            gap: None,
            write_gap: None,
            slowest: None,
            detect: None,
            restored: None,
            lost,
        }
    }

    /// With a limit of the time without any good answer.
    #[must_use]
    pub fn gap(mut self, parts: &[(&str, f64)]) -> Self {
        self.gap = Some(Limit::sum(parts));
        self
    }

    /// With a limit of the time without an acknowledged write.
    #[must_use]
    pub fn write_gap(mut self, parts: &[(&str, f64)]) -> Self {
        self.write_gap = Some(Limit::sum(parts));
        self
    }

    /// With a limit of the slowest answer.
    #[must_use]
    pub fn slowest(mut self, parts: &[(&str, f64)]) -> Self {
        self.slowest = Some(Limit::sum(parts));
        self
    }

    /// With a limit of the time until it is noticed.
    #[must_use]
    pub fn detect(mut self, parts: &[(&str, f64)]) -> Self {
        self.detect = Some(Limit::sum(parts));
        self
    }

    /// With a limit of the time from the end of the fault until all is answered again.
    #[must_use]
    pub fn restored(mut self, parts: &[(&str, f64)]) -> Self {
        self.restored = Some(Limit::sum(parts));
        self
    }

    /// For requests that are so far apart, in milliseconds, that a gap may begin as much earlier.
    /// Up to 5 ms, as at 200 requests a second, are in the margin.
    #[must_use]
    pub fn spaced(mut self, ms: f64) -> Self {
        if let Some(gap) = self.gap.as_mut().filter(|_| ms > 5.0) {
            gap.ms += ms;
            gap.formula.push_str(" + time between requests");
            gap.values.push_str(&format!(" + {}", number(ms)));
        }
        self
    }

    /// The limits there are, with what each is about.
    pub fn limits(&self) -> impl Iterator<Item = (&'static str, &Limit)> {
        [
            ("gap", &self.gap),
            ("write gap", &self.write_gap),
            ("slowest answer", &self.slowest),
            ("time to notice", &self.detect),
            ("time to restore", &self.restored),
        ]
        .into_iter()
        .filter_map(|(what, limit)| Some((what, limit.as_ref()?)))
    }
}
