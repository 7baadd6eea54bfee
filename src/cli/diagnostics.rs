//! Problems drawn for people, in the manner of rustc, or as JSON for scripts.

use std::borrow::Cow;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};
use serde_json::{Value, json};

use crate::topology::{Diagnostic, Place, Severity, Source};

/// Problems that are drawn; the rest is counted.
const DRAWN: usize = 40;
/// Longest line that is shown as it is.
const LONG_LINE: usize = 240;

/// A place in a text, for drawing.
#[derive(Clone, Debug)]
pub(super) struct Spot<'t> {
    /// The whole text, made [`readable`].
    pub text: &'t str,
    /// Where it came from.
    pub path: &'t str,
    /// The bytes that are meant.
    pub span: Range<usize>,
}

/// A problem with everything that is drawn of it.
#[derive(Debug)]
pub(super) struct Picture<'t> {
    pub severity: Severity,
    pub code: &'t str,
    pub message: &'t str,
    pub at: Spot<'t>,
    /// Other places, each with a few words.
    pub related: Vec<(Spot<'t>, &'t str)>,
    /// What else there is to say, before the help.
    pub note: Option<String>,
    pub help: Option<&'t str>,
}

/// All `problems` as text with colours.
pub(super) fn draw(source: &Source, problems: &[Diagnostic]) -> String {
    let text = readable(&source.bytes);
    let path = source.path.display().to_string();
    let spot = |place: &Place| Spot {
        text: &text,
        path: &path,
        span: place.span.clone().unwrap_or(0..0),
    };
    let pictures = problems.iter().map(|problem| Picture {
        severity: problem.severity,
        code: problem.code.name(),
        message: &problem.message,
        at: spot(&problem.at),
        related: problem
            .related
            .iter()
            .map(|(place, label)| (spot(place), label.as_str()))
            .collect(),
        note: None,
        help: problem.hint.as_deref(),
    });
    draw_all(pictures, problems.len(), "gen-topology check --format json")
}

/// The first of `count` pictures, and how many more there are and what `lists` them.
pub(super) fn draw_all<'t>(
    pictures: impl Iterator<Item = Picture<'t>>,
    count: usize,
    lists: &str,
) -> String {
    let mut drawn: String = pictures
        .take(DRAWN)
        .map(|picture| one(&picture) + "\n\n")
        .collect();
    if count > DRAWN {
        let more = count - DRAWN;
        drawn.push_str(&format!("… and {more} more; `{lists}` lists all\n"));
    }
    drawn
}

/// The text with something harmless for the control characters that the renderer
/// lets through (U+0080 to U+009F; terminals obey them), and every place where it was.
pub(super) fn readable(bytes: &[u8]) -> Cow<'_, str> {
    let disturbs = |c: char| ('\u{80}'..='\u{9f}').contains(&c);
    let text = String::from_utf8_lossy(bytes);
    // Two bytes for two bytes.
    if text.contains(disturbs) {
        Cow::Owned(text.replace(disturbs, "·"))
    } else {
        text
    }
}

fn one(picture: &Picture<'_>) -> String {
    let level = match picture.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Note => Level::NOTE,
    };
    let mut group = level
        .primary_title(picture.message)
        .id(picture.code)
        .elements(Vec::<Origin<'_>>::new());
    let main = Excerpt::around(picture.at.text, &picture.at.span);
    let mut snippet = Snippet::source(main.text.clone())
        .path(picture.at.path)
        .line_start(main.line)
        .annotation(AnnotationKind::Primary.span(main.span.clone()));
    let mut apart = Vec::new();
    for (spot, label) in &picture.related {
        let near = main
            .translate(&spot.span)
            .filter(|_| spot.path == picture.at.path);
        // Neighbours share a frame; what is far away, or cut out of a long line, has its own.
        if let Some(span) = near {
            snippet = snippet.annotation(AnnotationKind::Context.span(span).label(*label));
        } else {
            let other = Excerpt::around(spot.text, &spot.span);
            let annotation = AnnotationKind::Context
                .span(other.span.clone())
                .label(*label);
            apart.push(
                Snippet::source(other.text)
                    .path(spot.path)
                    .line_start(other.line)
                    .annotation(annotation),
            );
        }
    }
    group = group.element(snippet).elements(apart);
    if let Some(note) = &picture.note {
        group = group.element(Level::NOTE.message(note.as_str()));
    }
    if let Some(help) = picture.help {
        group = group.element(Level::HELP.message(help));
    }
    Renderer::styled().render(&[group])
}

/// The part of a text that has to be seen to understand a place.
struct Excerpt<'t> {
    text: Cow<'t, str>,
    /// Number of its first line, from 1.
    line: usize,
    /// The place in it.
    span: Range<usize>,
    /// Where it begins in the whole text, unless it was shortened.
    start: Option<usize>,
}

impl<'t> Excerpt<'t> {
    fn around(text: &'t str, span: &Range<usize>) -> Self {
        let span = span.start.min(text.len())..span.end.min(text.len());
        let line_start = text[..span.start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[span.start..]
            .find('\n')
            .map_or(text.len(), |at| span.start + at);
        let line = 1 + text[..line_start]
            .bytes()
            .filter(|byte| *byte == b'\n')
            .count();
        // A value that goes over several lines is pointed at where it begins.
        let span = span.start..span.end.min(line_end).max(span.start);
        if line_end - line_start > LONG_LINE {
            return Self::window(text, line_start..line_end, span, line);
        }
        // Two lines before, for the eye, and up to eight in which related places may be.
        let (start, first) = lines_before(text, line_start, 8, line);
        Self {
            text: Cow::Borrowed(&text[start..line_end]),
            line: first,
            span: span.start - start..span.end - start,
            start: Some(start),
        }
    }

    fn window(text: &str, line: Range<usize>, span: Range<usize>, number: usize) -> Self {
        let boundary = |mut at: usize| {
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let from = boundary(span.start.saturating_sub(60).max(line.start));
        let to = boundary((span.start + 120).min(line.end));
        let before = if from > line.start { "…" } else { "" };
        let after = if to < line.end { "…" } else { "" };
        let start = before.len() + span.start - from;
        let end = before.len() + boundary(span.end.min(to)) - from;
        Self {
            text: Cow::Owned(format!("{before}{}{after}", &text[from..to])),
            line: number,
            span: start..end.max(start),
            start: None,
        }
    }

    fn translate(&self, span: &Range<usize>) -> Option<Range<usize>> {
        let start = self.start?;
        (span.start >= start && span.end <= start + self.text.len())
            .then(|| span.start - start..span.end - start)
    }
}

/// Start and number of the line that is up to `count` short lines before the one at `start`.
fn lines_before(text: &str, start: usize, count: usize, number: usize) -> (usize, usize) {
    let (mut start, mut number) = (start, number);
    for _ in 0..count {
        if start == 0 {
            break;
        }
        let previous = text[..start - 1].rfind('\n').map_or(0, |at| at + 1);
        if start - previous > LONG_LINE {
            break;
        }
        start = previous;
        number -= 1;
    }
    (start, number)
}

/// All `problems` as one JSON document.
pub(super) fn json(source: &Source, problems: &[Diagnostic]) -> serde_json::Value {
    let text = String::from_utf8_lossy(&source.bytes);
    let lines = Lines::of(&text);
    let place = |place: &Place| {
        let pointer = ("pointer", json!(place.pointer));
        lines.place(&text, &place.span.clone().unwrap_or(0..0), pointer)
    };
    let problems: Vec<_> = problems
        .iter()
        .map(|problem| {
            let related: Vec<_> = problem
                .related
                .iter()
                .map(|(at, label)| json!({ "at": place(at), "message": label }))
                .collect();
            json!({
                "code": problem.code, "severity": problem.severity, "message": problem.message,
                "at": place(&problem.at), "related": related, "hint": problem.hint,
            })
        })
        .collect();
    json!({ "file": source.path.display().to_string(), "problems": problems })
}

/// Bytes between two of the marks of [`Lines`].
const STRIDE: usize = 64;

/// Where each line begins, and how many characters are before every [`STRIDE`]th
/// byte, so that a column is found as fast in a line of megabytes.
pub(super) struct Lines {
    starts: Vec<usize>,
    marks: Vec<usize>,
}

impl Lines {
    pub(super) fn of(text: &str) -> Self {
        let breaks = text
            .bytes()
            .enumerate()
            .filter(|(_, byte)| *byte == b'\n')
            .map(|(at, _)| at + 1);
        let counts = text.as_bytes().chunks(STRIDE).scan(0, |sum, chunk| {
            *sum += characters(chunk);
            Some(*sum)
        });
        Self {
            starts: std::iter::once(0).chain(breaks).collect(),
            marks: std::iter::once(0).chain(counts).collect(),
        }
    }

    /// A stretch of the text for scripts: what it is `of`, then its lines and columns.
    pub(super) fn place(&self, text: &str, span: &Range<usize>, of: (&str, Value)) -> Value {
        let (line, column) = self.locate(text, span.start);
        let (end_line, end_column) = self.locate(text, span.end);
        let (key, value) = of;
        json!({ key: value, "line": line, "column": column, "end_line": end_line, "end_column": end_column })
    }

    /// Line and column of a byte, both from 1; columns count characters.
    fn locate(&self, text: &str, at: usize) -> (usize, usize) {
        let at = at.min(text.len());
        let line = self.starts.partition_point(|start| *start <= at);
        let before = |at: usize| {
            let chunk = at / STRIDE;
            self.marks.get(chunk).map_or(0, |mark| {
                mark + characters(&text.as_bytes()[chunk * STRIDE..at])
            })
        };
        let start = self.starts[line - 1];
        (line, 1 + before(at).saturating_sub(before(start)))
    }
}

/// Number of characters that begin in `bytes`.
fn characters(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte & 0xc0 != 0x80).count()
}
