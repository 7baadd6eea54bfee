//! What stands across the whole drawing: the axis of time, and the moments at which something
//! was broken, undone and whole.

use super::{Drawing, LINE, Line, SPACE, Scale, Words, moment, tenth, width};
use crate::faults::timeline::Timeline;
use crate::faults::trial::Trial;

/// Least room between two words on the axis.
const APART: f64 = 56.0;
/// Steps of the axis, in milliseconds.
const STEPS: [f64; 10] = [
    100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0, 20_000.0, 60_000.0, 600_000.0,
];

/// A moment with its words, and on which line above the plot they are.
struct Flag {
    class: &'static str,
    x: f64,
    text: String,
    row: u8,
}

/// The moments of a trial. Words stand right of their moment. Where they would run into those of
/// a later one, they are a line higher, so that no moment's line crosses another's words.
fn flags(timeline: &Timeline, scale: Scale) -> Vec<Flag> {
    let since = |ms: f64| moment(ms - timeline.broken_ms);
    let moments = [
        ("broken", timeline.broken_ms, "broken".to_owned()),
        (
            "undone",
            timeline.undone_ms,
            format!("undone {}", since(timeline.undone_ms)),
        ),
        (
            "whole",
            timeline.whole_ms,
            format!("whole {}", since(timeline.whole_ms)),
        ),
    ];
    let mut flags: Vec<Flag> = Vec::new();
    for (class, ms, text) in moments.into_iter().rev() {
        let x = scale.x(ms);
        let end = x + width(&text) + SPACE;
        let later = flags.iter().filter(|later| later.x < end);
        let row = later.map(|later| later.row + 1).max().unwrap_or(0);
        flags.push(Flag {
            class,
            x,
            text,
            row,
        });
    }
    flags.reverse();
    flags
}

/// Height of the words above the plot.
pub(super) fn height(timeline: &Timeline, scale: Scale) -> f64 {
    let rows = flags(timeline, scale)
        .iter()
        .map(|flag| flag.row)
        .max()
        .unwrap_or(0)
        + 1;
    f64::from(rows) * LINE + 6.0
}

/// Draws the moments, from their words above down to `bottom`.
pub(super) fn moments(sheet: &mut Drawing, timeline: &Timeline, scale: Scale, bottom: f64) {
    let top = height(timeline, scale);
    for Flag {
        class,
        x,
        text,
        row,
    } in flags(timeline, scale)
    {
        let y = top - 6.0 - f64::from(row) * LINE;
        sheet.lines.push(Line {
            class,
            x1: x,
            y1: tenth(y - LINE + 4.0),
            x2: x,
            y2: tenth(bottom),
        });
        sheet.words.push(Words {
            class,
            x: tenth(x + 4.0),
            y: tenth(y),
            anchor: "start",
            text,
            title: String::new(),
        });
    }
}

/// Draws until when it should have been noticed, as predicted, over the lanes.
pub(super) fn noticed_by(sheet: &mut Drawing, trial: &Trial, scale: Scale, [y1, y2]: [f64; 2]) {
    let Some(limit) = &trial.bound.detect else {
        return;
    };
    let x = scale.x(scale.broken_ms + limit.ms);
    sheet.lines.push(Line {
        class: "notice",
        x1: x,
        y1: tenth(y1),
        x2: x,
        y2: tenth(y2),
    });
    sheet.key("notice");
}

/// Draws the axis below `bottom`, with fine lines up to `top`. Returns where it ends.
pub(super) fn axis(sheet: &mut Drawing, scale: Scale, [top, bottom]: [f64; 2]) -> f64 {
    let per_ms = (scale.right - scale.left) / scale.end_ms;
    let step = STEPS
        .into_iter()
        .find(|step| step * per_ms >= APART)
        .unwrap_or(scale.end_ms);
    sheet.across("axis", scale, bottom);
    let mut ms = scale.broken_ms - (scale.broken_ms / step).floor() * step;
    while ms <= scale.end_ms {
        let x = scale.x(ms);
        sheet.lines.insert(
            0,
            Line {
                class: "grid",
                x1: x,
                y1: tenth(top),
                x2: x,
                y2: tenth(bottom + 4.0),
            },
        );
        sheet.words.push(Words {
            class: "tick",
            x,
            y: tenth(bottom + 4.0 + LINE),
            anchor: "middle",
            text: tick((ms - scale.broken_ms) / 1000.0),
            title: String::new(),
        });
        ms += step;
    }
    sheet.name("seconds", scale, bottom + 4.0 + LINE);
    bottom + LINE + SPACE
}

/// A number of seconds on the axis.
fn tick(seconds: f64) -> String {
    let tenths = format!("{:.1}", seconds.abs());
    let text = tenths.strip_suffix(".0").unwrap_or(&tenths);
    if seconds <= -0.05 {
        format!("−{text}")
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scale(end_ms: f64) -> Scale {
        Scale {
            left: 150.0,
            right: 1076.0,
            end_ms,
            broken_ms: 1379.0,
        }
    }

    fn timeline(undone_ms: f64, whole_ms: f64) -> Timeline {
        Timeline {
            broken_ms: 1379.0,
            undone_ms,
            whole_ms,
            end_ms: whole_ms + 1500.0,
            ..Timeline::default()
        }
    }

    #[test]
    fn words_of_moments_that_are_close_stand_on_lines_of_their_own() {
        for (undone, whole) in [(4400.0, 6500.0), (66_000.0, 68_500.0), (1400.0, 1450.0)] {
            let timeline = timeline(undone, whole);
            let flags = flags(&timeline, scale(timeline.end_ms));
            for (index, flag) in flags.iter().enumerate() {
                for later in &flags[index + 1..] {
                    let ends = flag.x + width(&flag.text);
                    assert!(
                        ends < later.x || flag.row > later.row,
                        "{} runs into {}",
                        flag.text,
                        later.text
                    );
                }
            }
        }
    }

    #[test]
    fn the_axis_has_room_for_its_words() {
        for end_ms in [400.0, 8000.0, 70_000.0, 900_000.0] {
            let mut sheet = Drawing::default();
            axis(&mut sheet, scale(end_ms), [0.0, 100.0]);
            let ticks: Vec<&Words> = sheet
                .words
                .iter()
                .filter(|words| words.class == "tick")
                .collect();
            for pair in ticks.windows(2) {
                let room = pair[1].x - pair[0].x;
                let need = f64::midpoint(width(&pair[0].text), width(&pair[1].text));
                assert!(need < room, "{} and {}", pair[0].text, pair[1].text);
            }
        }
    }

    #[test]
    fn zero_is_where_it_was_broken() {
        let mut sheet = Drawing::default();
        axis(&mut sheet, scale(8000.0), [0.0, 100.0]);
        let texts: Vec<&str> = sheet
            .words
            .iter()
            .filter(|words| words.class == "tick")
            .map(|words| words.text.as_str())
            .collect();
        assert_eq!(texts[..4], ["−1", "−0.5", "0", "0.5"]);
    }
}
