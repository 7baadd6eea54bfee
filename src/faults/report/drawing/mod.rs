//! The time line of a trial as shapes on a sheet: what became of the requests, how long the
//! slowest waited, and below, on the same axis, who had the virtual IP, what the load balancers
//! made of the app servers, and who was primary. Numbers and words only; the page's template
//! draws them.

mod lanes;
mod marks;
mod requests;

use serde::Serialize;

pub(super) use lanes::Names;

use crate::faults::trial::Trial;

/// Width of the sheet.
const WIDTH: f64 = 1180.0;
/// Room on the right, for words beside the plots.
const RIGHT: f64 = 104.0;
/// Width of a character of the words, on average; a little more than it is.
const CHARACTER: f64 = 6.4;
/// Height of a line of words.
const LINE: f64 = 14.0;
/// Room between the parts.
const SPACE: f64 = 10.0;
/// Most characters of a word in the left margin.
const LONGEST: usize = 34;

/// A sheet with everything on it. Lengths in units of the sheet.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Drawing {
    /// Width of the sheet.
    pub width: f64,
    /// Height of the sheet.
    pub height: f64,
    /// What it shows, in a sentence or two, for who can't see it.
    pub description: String,
    /// Rectangles, drawn first.
    pub boxes: Vec<Rectangle>,
    /// Outlines that are filled.
    pub areas: Vec<Area>,
    /// Straight lines.
    pub lines: Vec<Line>,
    /// Words, drawn last.
    pub words: Vec<Words>,
    /// What did not fit on the sheet, as a sentence.
    pub left_out: Option<String>,
    /// Time that one bar stands for, in words.
    pub step: String,
    /// What is drawn and needs a legend, by class.
    pub keys: Vec<&'static str>,
}

/// A rectangle with what it says when it is pointed at.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Rectangle {
    pub class: String,
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
    pub title: String,
}

/// A filled outline, as an SVG path.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Area {
    pub class: &'static str,
    pub path: String,
}

/// A straight line.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Line {
    pub class: &'static str,
    pub x1: f64,
    pub y1: f64,
    pub x2: f64,
    pub y2: f64,
}

/// Words at a place: their base line, and its `start`, `middle` or `end`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Words {
    pub class: &'static str,
    pub x: f64,
    pub y: f64,
    pub anchor: &'static str,
    pub text: String,
    /// The whole text, if it was cut short.
    pub title: String,
}

/// Where a moment is on the sheet.
#[derive(Clone, Copy, Debug)]
struct Scale {
    left: f64,
    right: f64,
    end_ms: f64,
    broken_ms: f64,
}

impl Scale {
    /// Of a moment in milliseconds since the load began; never outside of the plot.
    fn x(self, ms: f64) -> f64 {
        let part = (ms / self.end_ms).clamp(0.0, 1.0);
        tenth(self.left + part * (self.right - self.left))
    }
}

/// A length to a tenth, so that the page stays small.
fn tenth(length: f64) -> f64 {
    (length * 10.0).round() / 10.0
}

/// Width of a text on the sheet, at most.
fn width(text: &str) -> f64 {
    text.chars().map(|_| CHARACTER).sum()
}

/// A moment as people say it: seconds since the fault began.
fn moment(ms: f64) -> String {
    let seconds = ms / 1000.0;
    let text = if seconds.abs() < 9.95 {
        format!("{:.2}", seconds.abs())
    } else {
        format!("{:.1}", seconds.abs())
    };
    let is_zero = text.chars().all(|c| matches!(c, '0' | '.'));
    match (is_zero, seconds < 0.0) {
        (true, _) => "0 s".into(),
        (_, true) => format!("−{text} s"),
        (_, false) => format!("+{text} s"),
    }
}

/// Draws the time line of a trial.
pub(super) fn draw(trial: &Trial, names: &Names) -> Drawing {
    let timeline = &trial.timeline;
    let lanes = lanes::of(trial, names);
    let longest = lanes
        .iter()
        .map(|lane| width(&shortened(&lane.name)))
        .fold(0.0, f64::max);
    let scale = Scale {
        left: longest.max(width("slowest answer")) + SPACE,
        right: WIDTH - RIGHT,
        // A load of no time has nothing to draw, and must not be divided by.
        end_ms: timeline.end_ms.max(1.0),
        broken_ms: timeline.broken_ms,
    };
    let mut sheet = Drawing {
        width: WIDTH,
        ..Drawing::default()
    };
    let top = marks::height(timeline, scale);
    let mut y = requests::bars(&mut sheet, trial, scale, top) + SPACE;
    y = requests::latency(&mut sheet, trial, scale, y) + SPACE;
    let first_lane = y;
    y = lanes::draw(&mut sheet, &lanes, scale, y);
    marks::noticed_by(&mut sheet, trial, scale, [first_lane, y]);
    sheet.height = marks::axis(&mut sheet, scale, [top, y]);
    marks::moments(&mut sheet, timeline, scale, y);
    sheet.description = describe(trial, &lanes);
    sheet
}

/// A name in the left margin: its end counts least.
fn shortened(name: &str) -> String {
    if name.chars().count() <= LONGEST {
        return name.to_owned();
    }
    let start: String = name.chars().take(LONGEST - 1).collect();
    format!("{start}…")
}

impl Drawing {
    /// A name in the left margin, beside what is at `y`.
    fn name(&mut self, name: &str, scale: Scale, y: f64) {
        self.words.push(Words {
            class: "name",
            x: tenth(scale.left - SPACE),
            y: tenth(y),
            anchor: "end",
            text: shortened(name),
            title: name.to_owned(),
        });
    }

    /// A remark right of the plot.
    fn remark(&mut self, class: &'static str, text: String, scale: Scale, y: f64) {
        self.words.push(Words {
            class,
            x: tenth(scale.right + 6.0),
            y: tenth(y),
            anchor: "start",
            title: String::new(),
            text,
        });
    }

    /// A line over the whole width of the plot.
    fn across(&mut self, class: &'static str, scale: Scale, y: f64) {
        let (x1, x2, y) = (tenth(scale.left), tenth(scale.right), tenth(y));
        self.lines.push(Line {
            class,
            x1,
            y1: y,
            x2,
            y2: y,
        });
    }

    /// Makes sure that the legend explains a class.
    fn key(&mut self, class: &'static str) {
        if !self.keys.contains(&class) {
            self.keys.push(class);
        }
    }
}

/// The drawing in sentences.
fn describe(trial: &Trial, lanes: &[lanes::Lane]) -> String {
    let (timeline, requests) = (&trial.timeline, &trial.measured.requests);
    let since = |ms: f64| moment(ms - timeline.broken_ms);
    let mut said = vec![format!(
        "{} requests, {} of them without a good answer; the longest time without one was {:.0} ms. \
         Undone at {}, whole at {}.",
        requests.sent,
        requests.lost(),
        requests.longest_gap_ms,
        since(timeline.undone_ms),
        since(timeline.whole_ms),
    )];
    for lane in lanes.iter().filter(|lane| lane.is_owner()) {
        let states: Vec<String> = lane
            .states
            .iter()
            .take(12)
            .map(|state| format!("{} from {}", state.says(), since(state.from_ms)))
            .collect();
        said.push(format!("{}: {}.", lane.name, states.join(", ")));
    }
    said.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_read_well() {
        assert_eq!(moment(0.0), "0 s");
        assert_eq!(moment(-4.0), "0 s");
        assert_eq!(moment(-1379.0), "−1.38 s");
        assert_eq!(moment(9949.0), "+9.95 s");
        assert_eq!(moment(66_120.0), "+66.1 s");
    }

    #[test]
    fn a_long_name_is_cut() {
        assert_eq!(shortened("app-1 for lb-1"), "app-1 for lb-1");
        assert_eq!(shortened(&"x".repeat(63)).chars().count(), LONGEST);
    }
}
