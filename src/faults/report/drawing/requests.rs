//! What became of the requests, and how long the slowest waited, step by step.

use super::{Area, Drawing, Line, Rectangle, Scale, tenth};
use crate::faults::load::{SLOW, milliseconds};
use crate::faults::trial::Trial;

/// Height of a bar: all requests of its time.
const BARS: f64 = 64.0;
/// Height of the latencies.
const LATENCY: f64 = 92.0;
/// Least width of a bar: with more steps than that allows, several are drawn as one.
const THINNEST: f64 = 2.0;
/// Least height of what failed, so that one of many is seen.
const SMALLEST: f64 = 4.0;
/// Latencies with a line of their own, in milliseconds; the first and the last are the borders.
const GRID: [(f64, &str); 5] = [
    (1.0, "1 ms"),
    (10.0, "10 ms"),
    (100.0, "100 ms"),
    (1000.0, "1 s"),
    (10_000.0, "10 s"),
];

/// The requests of a few steps.
struct Bar {
    from_ms: f64,
    to_ms: f64,
    good: usize,
    bad: usize,
    slowest_ms: f64,
}

/// The steps of a trial, several in one where there are too many to be seen.
fn bars_of(trial: &Trial, scale: Scale) -> Vec<Bar> {
    let timeline = &trial.timeline;
    let step_ms = timeline.step_ms.max(1.0);
    let thinnest_ms = THINNEST * scale.end_ms / (scale.right - scale.left);
    let together = (1..=timeline.points.len())
        .find(|count| float(*count) * step_ms >= thinnest_ms)
        .unwrap_or(timeline.points.len().max(1));
    let bars = timeline.points.chunks(together).enumerate();
    bars.map(|(index, points)| {
        let from_ms = float(index * together) * step_ms;
        Bar {
            from_ms,
            to_ms: from_ms + float(points.len()) * step_ms,
            good: points.iter().map(|point| point.good).sum(),
            bad: points.iter().map(|point| point.bad).sum(),
            slowest_ms: points
                .iter()
                .map(|point| point.slowest_ms)
                .fold(0.0, f64::max),
        }
    })
    .collect()
}

/// A count as what one computes with.
fn float(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::from(u32::MAX), f64::from)
}

/// Whether two lengths are drawn as one: they are whole tenths.
fn is_level(one: f64, other: f64) -> bool {
    (one - other).abs() < 0.05
}

/// Steps with a bottom and a top, as one outline. Neighbours of the same height become one.
#[derive(Default)]
struct Outline {
    done: String,
    open: Option<[f64; 4]>,
}

impl Outline {
    fn add(&mut self, from: f64, to: f64, bottom: f64, top: f64) {
        match &mut self.open {
            Some(open)
                if is_level(open[1], from)
                    && is_level(open[2], bottom)
                    && is_level(open[3], top) =>
            {
                open[1] = to;
            }
            _ => {
                self.close();
                self.open = Some([from, to, bottom, top]);
            }
        }
    }

    fn close(&mut self) {
        if let Some([from, to, bottom, top]) = self.open.take() {
            self.done
                .push_str(&format!("M{from} {bottom}V{top}H{to}V{bottom}Z"));
        }
    }

    fn area(mut self, class: &'static str, sheet: &mut Drawing) {
        self.close();
        if !self.done.is_empty() {
            sheet.key(class);
            sheet.areas.push(Area {
                class,
                path: self.done,
            });
        }
    }
}

/// Draws the shares of good and failed requests from `top` on; returns where they end.
pub(super) fn bars(sheet: &mut Drawing, trial: &Trial, scale: Scale, top: f64) -> f64 {
    let bottom = top + BARS;
    band(sheet, trial, scale, [top, bottom + super::SPACE + LATENCY]);
    let bars = bars_of(trial, scale);
    let step_ms = bars.first().map_or(trial.timeline.step_ms, |bar| bar.to_ms);
    sheet.step = format!("{step_ms:.0} ms");
    let (mut good, mut slow, mut bad) =
        (Outline::default(), Outline::default(), Outline::default());
    for bar in &bars {
        let (from, to) = (scale.x(bar.from_ms), scale.x(bar.to_ms));
        let part = |count: usize| BARS * float(count) / float((bar.good + bar.bad).max(1));
        let failed = if bar.bad == 0 {
            0.0
        } else {
            part(bar.bad).max(SMALLEST)
        };
        let border = tenth(bottom - failed);
        if bar.bad > 0 {
            bad.add(from, to, bottom, border);
        }
        if bar.good > 0 {
            let kind = if bar.slowest_ms > milliseconds(SLOW) {
                &mut slow
            } else {
                &mut good
            };
            kind.add(from, to, border, tenth(top));
        }
    }
    good.area("good", sheet);
    slow.area("slow", sheet);
    bad.area("bad", sheet);
    sheet.across("axis", scale, bottom);
    sheet.name("requests", scale, top + BARS / 2.0 + 4.0);
    sheet.remark("tick", "100 %".into(), scale, top + 8.0);
    bottom
}

/// Draws how long a gap may be at most, from when it was broken.
fn band(sheet: &mut Drawing, trial: &Trial, scale: Scale, [top, bottom]: [f64; 2]) {
    let limits = [&trial.bound.gap, &trial.bound.write_gap];
    let longest = limits
        .into_iter()
        .flatten()
        .map(|limit| limit.ms)
        .fold(0.0, f64::max);
    if longest <= 0.0 {
        return;
    }
    let (x, to) = (scale.x(scale.broken_ms), scale.x(scale.broken_ms + longest));
    sheet.key("band");
    sheet.boxes.push(Rectangle {
        class: "band".into(),
        x,
        y: tenth(top),
        width: tenth((to - x).max(1.0)),
        height: tenth(bottom - top),
        title: format!(
            "predicted: no gap, of all answers or of writes, is longer than {longest:.0} ms"
        ),
    });
}

/// Draws the slowest answer of each step from `top` on, on a logarithmic scale; returns where it ends.
pub(super) fn latency(sheet: &mut Drawing, trial: &Trial, scale: Scale, top: f64) -> f64 {
    let bottom = top + LATENCY;
    let [first, .., last] = GRID;
    let y = |ms: f64| {
        let part = (ms.clamp(first.0, last.0) / first.0).log10() / (last.0 / first.0).log10();
        tenth(bottom - part * LATENCY)
    };
    for (ms, text) in GRID {
        sheet.across("grid", scale, y(ms));
        sheet.remark("tick", text.into(), scale, y(ms) + 4.0);
    }
    let mut outline = Outline::default();
    for bar in bars_of(trial, scale).iter().filter(|bar| bar.good > 0) {
        // The fastest answers are seen as a thin line.
        let height = y(bar.slowest_ms).min(tenth(bottom - 1.0));
        outline.add(scale.x(bar.from_ms), scale.x(bar.to_ms), bottom, height);
    }
    outline.area("latency", sheet);
    sheet.across("limit-slow", scale, y(milliseconds(SLOW)));
    sheet.key("limit-slow");
    if let Some(limit) = &trial.bound.slowest {
        let at = y(limit.ms);
        sheet.lines.push(Line {
            class: "limit",
            x1: scale.x(scale.broken_ms),
            y1: at,
            x2: tenth(scale.right),
            y2: at,
        });
        sheet.key("limit");
    }
    sheet.across("axis", scale, bottom);
    sheet.name("slowest answer", scale, top + LATENCY / 2.0 + 4.0);
    bottom
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_of_the_same_height_are_one() {
        let mut outline = Outline::default();
        outline.add(0.0, 1.0, 10.0, 2.0);
        outline.add(1.0, 2.0, 10.0, 2.0);
        outline.add(3.0, 4.0, 10.0, 2.0);
        outline.add(4.0, 5.0, 10.0, 1.0);
        outline.close();
        assert_eq!(outline.done, "M0 10V2H2V10ZM3 10V2H4V10ZM4 10V1H5V10Z");
    }
}
