//! Holds the tree of a file against the JSON schema, and tells every difference
//! at once with its place. serde would stop at the first.
//!
//! Only the schema keywords that [`super::raw`] produces are known here; a test
//! fails when it produces another.

use jsonc_parser::ast::Value;
use jsonc_parser::common::Ranged;
use serde_json::Value as Schema;

use super::diagnostic::{Diagnostic, Place, did_you_mean, step};
use super::document::{quoted, range};
use super::{Code, values};

/// Every way in which `value` differs from `schema`.
pub(super) fn differences(value: &Value<'_>, schema: &Schema) -> Vec<Diagnostic> {
    let mut walk = Walk { found: Vec::new() };
    walk.value(value, schema, "");
    walk.found
}

struct Walk {
    found: Vec<Diagnostic>,
}

impl Walk {
    fn value(&mut self, value: &Value<'_>, schema: &Schema, pointer: &str) {
        let place = || Place::value(pointer).at(range(value.range()));
        let kinds = kinds(schema);
        let kind = kind_of(value);
        if !kinds.is_empty() && !kinds.contains(&kind) {
            let wanted: Vec<&str> = kinds
                .iter()
                .filter(|k| **k != "null")
                .map(|k| noun(k))
                .collect();
            let problem = Diagnostic::new(
                Code::WrongType,
                place(),
                format!(
                    "{} needs {}, this is {}",
                    name_of(pointer),
                    wanted.join(" or "),
                    noun(kind)
                ),
            );
            self.found
                .push(match schema.get("description").and_then(Schema::as_str) {
                    Some(meaning) => problem.hint(meaning.trim_end_matches('.')),
                    None => problem,
                });
            return;
        }
        match value {
            Value::Object(object) => self.object(object, schema, pointer),
            Value::Array(array) => {
                let items = schema.get("items").unwrap_or(&Schema::Bool(true));
                for (index, element) in array.elements.iter().enumerate() {
                    self.value(element, items, &format!("{pointer}/{index}"));
                }
            }
            Value::StringLit(text) => {
                let problem = refuse_text(&text.value, schema).map(|(message, hint)| {
                    let problem = Diagnostic::new(Code::BadValue, place(), message);
                    match hint {
                        Some(hint) => problem.hint(hint),
                        None => problem,
                    }
                });
                self.found.extend(problem);
            }
            Value::NumberLit(number) => {
                let problem = refuse_number(number.value, schema);
                self.found.extend(problem.map(|(code, message)| {
                    Diagnostic::new(code, place(), format!("{} {message}", name_of(pointer)))
                }));
            }
            _ => {}
        }
    }

    fn object(&mut self, object: &jsonc_parser::ast::Object<'_>, schema: &Schema, pointer: &str) {
        let properties = schema.get("properties").and_then(Schema::as_object);
        let other = schema.get("additionalProperties");
        for property in &object.properties {
            let name = property.name.as_str();
            let below = format!("{pointer}/{}", step(name));
            let key = || Place::key(below.clone()).at(range(property.name.range()));
            if let Some(known) = properties.and_then(|known| known.get(name)) {
                self.value(&property.value, known, &below);
            } else if let Some(Schema::Object(_)) = other {
                let format = schema
                    .pointer("/propertyNames/format")
                    .and_then(Schema::as_str);
                if let Some(message) = format.and_then(|format| values::refuse(format, name)) {
                    self.found.push(
                        Diagnostic::new(
                            Code::BadName,
                            key(),
                            format!(
                                "{} can't be {} name",
                                quoted(name),
                                if pointer == "/apps" {
                                    "an application's"
                                } else {
                                    "a node's"
                                }
                            ),
                        )
                        .hint(message),
                    );
                }
                self.value(&property.value, &schema["additionalProperties"], &below);
            } else if !name.starts_with("x-") && other == Some(&Schema::Bool(false)) {
                self.found
                    .push(unknown_key(name, properties, pointer, key()));
            }
        }
        let required = schema.get("required").and_then(Schema::as_array);
        for key in required.into_iter().flatten().filter_map(Schema::as_str) {
            if object
                .properties
                .iter()
                .all(|property| property.name.as_str() != key)
            {
                let whole = match pointer {
                    "" => "the topology".to_owned(),
                    _ => name_of(pointer),
                };
                let meaning = properties
                    .and_then(|p| p.get(key))
                    .and_then(|s| s.get("description"));
                let problem = Diagnostic::new(
                    Code::MissingKey,
                    Place::value(format!("{pointer}/{key}")).at(opening(object)),
                    format!("{whole} has no {}", quoted(key)),
                );
                self.found.push(match meaning.and_then(Schema::as_str) {
                    Some(meaning) => problem.hint(format!("add it: {}", lower_first(meaning))),
                    None => problem,
                });
            }
        }
    }
}

/// The opening brace: short enough to point at.
fn opening(object: &jsonc_parser::ast::Object<'_>) -> std::ops::Range<usize> {
    object.range.start..object.range.start + 1
}

fn unknown_key(
    name: &str,
    known: Option<&serde_json::Map<String, Schema>>,
    pointer: &str,
    at: Place,
) -> Diagnostic {
    let known: Vec<&str> = known
        .into_iter()
        .flat_map(|map| map.keys().map(String::as_str))
        .collect();
    let whole = match pointer {
        "" => "a topology".to_owned(),
        _ => name_of(pointer),
    };
    let problem = Diagnostic::new(
        Code::UnknownKey,
        at,
        format!("{whole} has no key {}", quoted(name)),
    );
    match did_you_mean(name, known.iter().copied()) {
        Some(meant) => problem.hint(format!("did you mean `{meant}`?")),
        None => problem.hint(format!("known here: {}", known.join(", "))),
    }
}

fn refuse_text(text: &str, schema: &Schema) -> Option<(String, Option<String>)> {
    let words: Vec<&str> = schema
        .get("enum")
        .and_then(Schema::as_array)
        .into_iter()
        .flatten()
        .chain(
            schema
                .get("oneOf")
                .and_then(Schema::as_array)
                .into_iter()
                .flatten()
                .filter_map(|one| one.get("const")),
        )
        .filter_map(Schema::as_str)
        .collect();
    if !words.is_empty() && !words.contains(&text) {
        let hint = did_you_mean(text, words.iter().copied())
            .map(|meant| format!("did you mean `{meant}`?"));
        return Some((
            format!("{} is none of: {}", quoted(text), words.join(", ")),
            hint,
        ));
    }
    let format = schema.get("format").and_then(Schema::as_str)?;
    values::refuse(format, text)
        .map(|why| (format!("{} can't be used here", quoted(text)), Some(why)))
}

fn refuse_number(number: &str, schema: &Schema) -> Option<(Code, String)> {
    let minimum = schema
        .get("minimum")
        .and_then(Schema::as_i64)
        .unwrap_or(i64::MIN);
    let maximum = schema
        .get("maximum")
        .and_then(Schema::as_i64)
        .unwrap_or(i64::MAX);
    match number.parse::<i64>() {
        _ if number.contains(['.', 'e', 'E']) => {
            Some((Code::WrongType, "needs a whole number".into()))
        }
        Ok(n) if (minimum..=maximum).contains(&n) => None,
        _ if minimum == maximum => Some((
            Code::UnsupportedVersion,
            format!("is {}; this program knows {maximum}", quoted(number)),
        )),
        _ => Some((
            Code::OutOfRange,
            format!(
                "goes from {minimum} to {maximum}, this is {}",
                quoted(number)
            ),
        )),
    }
}

fn kinds(schema: &Schema) -> Vec<&str> {
    match schema.get("type") {
        Some(Schema::String(kind)) => vec![kind.as_str()],
        Some(Schema::Array(kinds)) => kinds.iter().filter_map(Schema::as_str).collect(),
        _ if schema.get("oneOf").is_some() => vec!["string"],
        _ => Vec::new(),
    }
}

fn kind_of(value: &Value<'_>) -> &'static str {
    match value {
        Value::StringLit(_) => "string",
        Value::NumberLit(_) => "integer",
        Value::BooleanLit(_) => "boolean",
        Value::Object(_) => "object",
        Value::Array(_) => "array",
        Value::NullKeyword(_) => "null",
    }
}

fn noun(kind: &str) -> &'static str {
    match kind {
        "string" => "text",
        "integer" => "a whole number",
        "boolean" => "true or false",
        "object" => "an object",
        "array" => "an array",
        _ => "null",
    }
}

/// The last step of a pointer as the user wrote it, for messages.
fn name_of(pointer: &str) -> String {
    let last = pointer.rsplit('/').next().unwrap_or_default();
    match last {
        "" => "the file".into(),
        _ => quoted(&last.replace("~1", "/").replace("~0", "~")),
    }
}

fn lower_first(text: &str) -> String {
    let text = text.trim_end_matches('.');
    // `IPv4` stays as it is.
    if text.chars().nth(1).is_some_and(char::is_uppercase) {
        return text.to_owned();
    }
    let mut chars = text.chars();
    let first = chars.next().map(char::to_lowercase);
    first.into_iter().flatten().chain(chars).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keywords of the schema that this walker, or the reader of the schema, gives a meaning.
    const KNOWN: &[&str] = &[
        "$schema",
        "title",
        "description",
        "type",
        "format",
        "properties",
        "items",
        "required",
        "additionalProperties",
        "patternProperties",
        "propertyNames",
        "minProperties",
        "minimum",
        "maximum",
        "default",
        "enum",
        "oneOf",
        "const",
    ];

    #[test]
    fn the_schema_uses_only_what_the_walker_knows() {
        fn walk(schema: &Schema, is_map: bool) {
            let Schema::Object(map) = schema else { return };
            for (key, below) in map {
                if !is_map {
                    assert!(
                        KNOWN.contains(&key.as_str()),
                        "schema keyword {key} is not checked by anyone"
                    );
                    if key == "format"
                        && !matches!(below.as_str(), Some("uint8" | "uint16" | "uint32"))
                    {
                        assert!(
                            values::FORMATS.contains(&below.as_str().unwrap()),
                            "format {below} is unknown"
                        );
                    }
                }
                match key.as_str() {
                    "properties" | "patternProperties" if !is_map => walk(below, true),
                    "default" | "enum" | "required" if !is_map => {}
                    "oneOf" => below
                        .as_array()
                        .unwrap()
                        .iter()
                        .for_each(|one| walk(one, false)),
                    _ => walk(below, false),
                }
            }
        }
        walk(&super::super::raw::schema(), false);
    }
}
