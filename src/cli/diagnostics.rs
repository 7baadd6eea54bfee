//! Problems drawn for people, in the manner of rustc, or as JSON for scripts.

use std::borrow::Cow;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};
use serde_json::json;

use crate::topology::{Diagnostic, Place, Severity, Source};

/// Problems that are drawn; the rest is counted.
const DRAWN: usize = 40;
/// Longest line that is shown as it is.
const LONG_LINE: usize = 240;

/// All `problems` as text with colours.
pub(super) fn draw(source: &Source, problems: &[Diagnostic]) -> String {
    let text = readable(&source.bytes);
    let path = source.path.display().to_string();
    let mut drawn: String = problems
        .iter()
        .take(DRAWN)
        .map(|problem| one(&text, &path, problem) + "\n\n")
        .collect();
    if problems.len() > DRAWN {
        let more = problems.len() - DRAWN;
        drawn.push_str(&format!(
            "… and {more} more; `gen-topology check --format json` lists all\n"
        ));
    }
    drawn
}

/// The text with something harmless for the control characters that the renderer
/// lets through (U+0080 to U+009F; terminals obey them), and every place where it was.
fn readable(bytes: &[u8]) -> Cow<'_, str> {
    let disturbs = |c: char| ('\u{80}'..='\u{9f}').contains(&c);
    let text = String::from_utf8_lossy(bytes);
    // Two bytes for two bytes.
    if text.contains(disturbs) {
        Cow::Owned(text.replace(disturbs, "·"))
    } else {
        text
    }
}

fn one(text: &str, path: &str, problem: &Diagnostic) -> String {
    let level = match problem.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group = level
        .primary_title(problem.message.as_str())
        .id(problem.code.name())
        .elements(Vec::<Origin<'_>>::new());
    let main = Excerpt::around(text, &problem.at);
    let mut snippet = Snippet::source(main.text.clone())
        .path(path)
        .line_start(main.line)
        .annotation(AnnotationKind::Primary.span(main.span.clone()));
    let mut apart = Vec::new();
    for (place, label) in &problem.related {
        let other = Excerpt::around(text, place);
        // Neighbours share a frame; what is far away, or cut out of a long line, has its own.
        if let Some(span) = main.translate(place) {
            snippet = snippet.annotation(AnnotationKind::Context.span(span).label(label.as_str()));
        } else {
            let annotation = AnnotationKind::Context
                .span(other.span.clone())
                .label(label.as_str());
            apart.push(
                Snippet::source(other.text)
                    .path(path)
                    .line_start(other.line)
                    .annotation(annotation),
            );
        }
    }
    group = group.element(snippet).elements(apart);
    if let Some(hint) = &problem.hint {
        group = group.element(Level::HELP.message(hint.as_str()));
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
    fn around(text: &'t str, place: &Place) -> Self {
        let span = place.span.clone().unwrap_or(0..0);
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

    fn translate(&self, place: &Place) -> Option<Range<usize>> {
        let (start, span) = (self.start?, place.span.as_ref()?);
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
        let span = place.span.clone().unwrap_or(0..0);
        let ((line, column), (end_line, end_column)) = (
            lines.locate(&text, span.start),
            lines.locate(&text, span.end),
        );
        json!({ "pointer": place.pointer, "line": line, "column": column, "end_line": end_line, "end_column": end_column })
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
struct Lines {
    starts: Vec<usize>,
    marks: Vec<usize>,
}

impl Lines {
    fn of(text: &str) -> Self {
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
