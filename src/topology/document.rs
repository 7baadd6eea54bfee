//! The text of a topology file as a tree that remembers where everything stands,
//! and the problems that can be told without knowing what a topology is: not
//! UTF-8, not JSON, the same key twice.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use jsonc_parser::ast::{Object, Value};
use jsonc_parser::common::Ranged;
use jsonc_parser::errors::{ParseError, ParseErrorKind};
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};

use super::Code;
use super::diagnostic::{Diagnostic, Place, step};

/// Strict JSON: what Nix's `fromJSON` accepts too.
pub(super) fn strict() -> ParseOptions {
    ParseOptions {
        allow_comments: false,
        allow_loose_object_property_names: false,
        allow_trailing_commas: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    }
}

/// The text of `bytes`, or why it is not text.
pub(super) fn decode(bytes: &[u8]) -> Result<&str, Box<Diagnostic>> {
    let problem = |at: Range<usize>, message: &str, hint: &str| {
        Err(Box::new(
            Diagnostic::new(Code::Encoding, Place::text(at), message).hint(hint),
        ))
    };
    if bytes.starts_with(b"\xef\xbb\xbf") {
        return problem(
            0..0,
            "the file begins with a byte order mark",
            "save it as UTF-8 without one",
        );
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(error) => {
            let at = error.valid_up_to();
            let line = 1 + bytes[..at].iter().filter(|byte| **byte == b'\n').count();
            let message = format!("byte {at} (line {line}) is not UTF-8: 0x{:02x}", bytes[at]);
            problem(at..at, &message, "save the file as UTF-8")
        }
    }
}

/// Parses `text` as strict JSON.
pub(super) fn parse(text: &str) -> Result<Value<'_>, Box<Diagnostic>> {
    let options = CollectOptions::default();
    match parse_to_ast(text, &options, &strict()) {
        Ok(parsed) => {
            let tree = parsed.value.ok_or_else(|| {
                let empty =
                    Diagnostic::new(Code::EmptyFile, Place::text(0..0), "the file is empty");
                Box::new(empty.hint("`gen-topology init` writes a topology to start from"))
            })?;
            match control_character(text, &tree) {
                Some(at) => Err(Box::new(
                    Diagnostic::new(
                        Code::Syntax,
                        Place::text(at..at + 1),
                        "a control character can't stand in a string",
                    )
                    .hint("write a line break as `\\n`, a tab as `\\t` and others as `\\u001f`"),
                )),
                None => Ok(tree),
            }
        }
        Err(error) => Err(Box::new(syntax(text, &error))),
    }
}

/// Where a string holds a character that JSON wants escaped; the parser lets it through.
fn control_character(text: &str, value: &Value<'_>) -> Option<usize> {
    let within = |range: Range<usize>| {
        let at = text.as_bytes()[range.clone()]
            .iter()
            .position(|byte| *byte < b' ');
        at.map(|at| range.start + at)
    };
    match value {
        Value::StringLit(literal) => within(range(literal.range)),
        Value::Object(object) => object.properties.iter().find_map(|property| {
            within(range(property.name.range()))
                .or_else(|| control_character(text, &property.value))
        }),
        Value::Array(array) => array
            .elements
            .iter()
            .find_map(|element| control_character(text, element)),
        _ => None,
    }
}

/// What serde has to say against a text that is of the right shape: an escape
/// that stands for no character.
pub(super) fn unreadable(text: &str, error: &serde_json::Error) -> Diagnostic {
    let line = text
        .split_inclusive('\n')
        .take(error.line().saturating_sub(1))
        .map(str::len)
        .sum::<usize>();
    let at = floor(text, line + error.column().saturating_sub(1));
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or_default();
    Diagnostic::new(
        Code::Syntax,
        Place::text(at..at),
        format!("this can't be read: {message}"),
    )
}

fn syntax(text: &str, error: &ParseError) -> Diagnostic {
    let range = error.range();
    let start = floor(text, range.start);
    let span = start..floor(text, range.end.max(range.start + 1)).max(start);
    let (code, message, hint) = match error.kind() {
        ParseErrorKind::NestingDepthExceeded => (
            Code::NestedTooDeep,
            "nested deeper than 512 levels".to_owned(),
            None,
        ),
        ParseErrorKind::CommentsNotAllowed => (
            Code::Syntax,
            "comments are not JSON".to_owned(),
            Some("put remarks under a key that begins with `x-`"),
        ),
        ParseErrorKind::TrailingCommasNotAllowed => (
            Code::Syntax,
            "a comma before a closing bracket is not JSON".to_owned(),
            Some("remove the comma"),
        ),
        ParseErrorKind::SingleQuotedStringsNotAllowed => (
            Code::Syntax,
            "JSON strings stand in double quotes".to_owned(),
            None,
        ),
        kind => (Code::Syntax, sentence(&kind.to_string()), None),
    };
    let problem = Diagnostic::new(code, Place::text(span), message);
    match hint {
        Some(hint) => problem.hint(hint),
        None => problem,
    }
}

/// A library's message in the shape of ours: lower case first, no full stop.
fn sentence(message: &str) -> String {
    let message = message.trim_end_matches('.');
    let mut chars = message.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_lowercase().chain(chars).collect()
    })
}

/// The nearest character boundary at or before `index`.
fn floor(text: &str, index: usize) -> usize {
    let mut index = index.min(text.len());
    while !text.is_char_boundary(index) {
        index -= 1;
    }
    index
}

/// Every key that stands twice in one object.
pub(super) fn duplicate_keys(root: &Value<'_>) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    visit_objects(root, &mut String::new(), &mut |pointer, object| {
        let mut first: HashMap<&str, Range<usize>> =
            HashMap::with_capacity(object.properties.len());
        for property in &object.properties {
            let name = property.name.as_str();
            let span = range(property.name.range());
            if let Some(earlier) = first.get(name) {
                let pointer_of = format!("{pointer}/{}", step(name));
                let (code, what) = match pointer {
                    "/nodes" => (Code::DuplicateName, "node"),
                    "/apps" => (Code::DuplicateName, "application"),
                    _ => (Code::DuplicateKey, "key"),
                };
                found.push(
                    Diagnostic::new(
                        code,
                        Place::key(pointer_of.clone()).at(span),
                        format!("{what} {} is written twice", quoted(name)),
                    )
                    .related(
                        Place::key(pointer_of).at(earlier.clone()),
                        "first written here",
                    )
                    .hint("remove or rename one of them"),
                );
            } else {
                first.insert(name, span);
            }
        }
    });
    found
}

fn visit_objects(value: &Value<'_>, pointer: &mut String, see: &mut dyn FnMut(&str, &Object<'_>)) {
    let length = pointer.len();
    match value {
        Value::Object(object) => {
            see(pointer, object);
            for property in &object.properties {
                pointer.push('/');
                pointer.push_str(&step(property.name.as_str()));
                visit_objects(&property.value, pointer, see);
                pointer.truncate(length);
            }
        }
        Value::Array(array) => {
            for (index, element) in array.elements.iter().enumerate() {
                pointer.push('/');
                pointer.push_str(&index.to_string());
                visit_objects(element, pointer, see);
                pointer.truncate(length);
            }
        }
        _ => {}
    }
}

/// Gives each place its bytes. A pointer to something that is not there (a
/// missing key) falls back to the nearest object that should hold it.
pub(super) fn locate(root: &Value<'_>, problems: &mut [Diagnostic]) {
    let mut spans = HashMap::new();
    spans.insert(String::new(), (range(root.range()), range(root.range())));
    visit_objects(root, &mut String::new(), &mut |pointer, object| {
        for property in &object.properties {
            let pointer = format!("{pointer}/{}", step(property.name.as_str()));
            let spans_of = (range(property.name.range()), range(property.value.range()));
            spans.entry(pointer).or_insert(spans_of);
        }
    });
    let find = |place: &mut Place| {
        let mut pointer: Cow<'_, str> = Cow::Borrowed(&place.pointer);
        while place.span.is_none() {
            place.span = spans.get(pointer.as_ref()).map(|(key, value)| {
                let whole = if place.key || pointer.len() < place.pointer.len() {
                    key
                } else {
                    value
                };
                whole.clone()
            });
            let Some(slash) = pointer.rfind('/') else {
                break;
            };
            pointer = Cow::Owned(pointer[..slash].to_owned());
        }
    };
    for problem in problems {
        find(&mut problem.at);
        problem
            .related
            .iter_mut()
            .for_each(|(place, _)| find(place));
    }
}

/// `text` in back quotes, shortened, with nothing that could disturb a terminal.
pub(super) fn quoted(text: &str) -> String {
    let mut short: String = text.chars().take(60).flat_map(char::escape_debug).collect();
    if text.chars().nth(60).is_some() {
        short.push('…');
    }
    format!("`{short}`")
}

pub(super) fn range(range: jsonc_parser::common::Range) -> Range<usize> {
    range.start..range.end
}
