//! Setting one value of a topology, and giving a node another name. Like every edit,
//! text in and text out, with the layout kept.

use std::iter::Peekable;

use jsonc_parser::cst::{
    CstInputValue, CstObject, CstObjectProp, CstRootNode, CstStringLit, ObjectPropName,
};
use serde_json::Value;

use super::edit::{Edit, EditError, read};
use super::raw::schema;
use super::values::Name;
use super::{Tier, did_you_mean, document};

/// What stays where nothing stands in it: nodes, and what every topology has.
const KEPT: [&str; 3] = ["nodes", "network", "app"];

/// Sets what stands at `path`, such as `load_balancer.drain_time` or
/// `nodes.node-2.address`, to `value`. Where the schema wants a text, `value` is the
/// text; elsewhere it is JSON. Without a value, the default counts again.
pub fn set(text: &str, path: &str, value: Option<&str>) -> Result<Edit, EditError> {
    let (_, root) = read(text)?;
    let mut object = root.object_value().ok_or(EditError::Unreadable)?;
    let schema = schema();
    let mut known = &schema;
    let mut steps = path.split('.').peekable();
    let mut walked = Vec::new();
    while let Some(key) = steps.next() {
        known = below(known, key, &walked)?;
        walked.push(key);
        let is_there = object.get(key);
        if steps.peek().is_some() {
            object = match (is_there, value) {
                (None, None) => return Ok(edited(text.to_owned())),
                // A node is more than one value: `add` makes one.
                (None, Some(_)) if walked == ["nodes", key] => return Err(no_node(text, key)?),
                (property, _) => inner(&object, property.is_some(), key, &walked, &mut steps)?,
            };
            continue;
        }
        match (is_there, value) {
            (None, None) => return Ok(edited(text.to_owned())),
            (Some(property), None) => {
                property.remove();
                remove_empty(&root, &walked);
            }
            (Some(property), Some(value)) => property.set_value(input(parsed(value, known, path)?)),
            (None, Some(value)) => {
                let value = parsed(value, known, path)?;
                if let Some(text) = in_line(text, &walked, &value) {
                    return Ok(edited(text));
                }
                object.append(key, input(value));
            }
        }
    }
    Ok(edited(root.to_string()))
}

/// Gives a node another name; it keeps its place and everything else, and applications that run on it follow.
pub fn rename(text: &str, old: &str, new: &str) -> Result<Edit, EditError> {
    let (raw, root) = read(text)?;
    let Some(node) = raw.nodes.get(old) else {
        return Err(no_node(text, old)?);
    };
    if raw.nodes.contains_key(new) {
        return Err(EditError::NameTaken(new.into()));
    }
    if let Err(why) = new.parse::<Name>() {
        return Err(EditError::BadName {
            name: new.into(),
            why,
        });
    }
    let nodes = root
        .object_value()
        .and_then(|root| root.object_value("nodes"));
    let property = nodes
        .and_then(|nodes| nodes.get(old))
        .ok_or(EditError::Unreadable)?;
    match property.name() {
        Some(ObjectPropName::String(name)) => name.set_raw_value(format!("\"{new}\"")),
        _ => return Err(EditError::Unreadable),
    }
    let quoted = format!("\"{new}\"");
    for place in places(&root, old) {
        place.set_raw_value(quoted.clone());
    }
    let renamed: Vec<(String, String, Tier)> = vec![(old.into(), new.into(), node.tier)];
    Ok(Edit {
        text: root.to_string(),
        renamed,
        ..Edit::default()
    })
}

/// Where the `nodes` of an application name a node.
fn places(root: &CstRootNode, node: &str) -> Vec<CstStringLit> {
    let apps = root
        .object_value()
        .and_then(|root| root.object_value("apps"));
    let apps = apps.map(|apps| apps.properties()).unwrap_or_default();
    let nodes = apps
        .iter()
        .filter_map(|app| app.object_value()?.array_value("nodes"));
    nodes
        .flat_map(|nodes| nodes.elements())
        .filter_map(|element| element.as_string_lit())
        .filter(|name| name.decoded_value().is_ok_and(|name| name == node))
        .collect()
}

/// Removes the objects that a value stood in, as far as nothing else stands in them.
fn remove_empty(root: &CstRootNode, walked: &[&str]) {
    if walked.first().is_none_or(|first| KEPT.contains(first)) {
        return;
    }
    let is_empty = |property: &CstObjectProp| {
        let object = property.object_value();
        object.is_some_and(|object| object.properties().is_empty())
    };
    for depth in (0..walked.len() - 1).rev() {
        let above = walked[..depth].iter();
        let around = root.object_value().and_then(|root| {
            let mut above = above;
            above.try_fold(root, |object, key| object.object_value(key))
        });
        let property = around.and_then(|around| around.get(walked[depth]));
        let Some(property) = property.filter(is_empty) else {
            return;
        };
        property.remove();
    }
}

fn edited(text: String) -> Edit {
    Edit {
        text,
        ..Edit::default()
    }
}

/// The text with another value at the end of an object that stands on one line; the
/// tree would spread it over several.
fn in_line(text: &str, walked: &[&str], value: &Value) -> Option<String> {
    let (key, path) = walked.split_last()?;
    let tree = document::parse(text).ok()?;
    let mut object = tree.as_object()?;
    for step in path {
        object = object.get_object(step)?;
    }
    let last = object.properties.last()?;
    if text[object.range.start..object.range.end].contains('\n') {
        return None;
    }
    let (before, after) = text.split_at(last.range.end);
    Some(format!("{before}, {}: {value}{after}", Value::from(*key)))
}

fn no_node(text: &str, name: &str) -> Result<EditError, EditError> {
    let (raw, _) = read(text)?;
    let meant = did_you_mean(name, raw.nodes.keys().map(String::as_str));
    Ok(EditError::NoSuchNode {
        name: name.into(),
        meant: meant.map(str::to_owned),
    })
}

/// What the schema says about `key` of what it says about the object around it.
fn below<'s>(known: &'s Value, key: &str, walked: &[&str]) -> Result<&'s Value, EditError> {
    let properties = known["properties"].as_object();
    if let Some(found) = properties.and_then(|properties| properties.get(key)) {
        return Ok(found);
    }
    if known["additionalProperties"].is_object() && !key.is_empty() {
        return Ok(&known["additionalProperties"]);
    }
    if key.starts_with("x-") {
        return Ok(&Value::Null);
    }
    let keys = properties
        .into_iter()
        .flat_map(|properties| properties.keys());
    let mut keys: Vec<&str> = keys.map(String::as_str).collect();
    keys.retain(|key| !key.starts_with('$'));
    Err(EditError::NoSuchKey {
        at: walked.join("."),
        key: key.into(),
        meant: did_you_mean(key, keys.iter().copied()).map(str::to_owned),
        keys: keys.iter().map(|key| (*key).to_owned()).collect(),
    })
}

/// The object at `key`, made if there is none.
fn inner<'p>(
    object: &CstObject,
    is_there: bool,
    key: &str,
    walked: &[&str],
    steps: &mut Peekable<impl Iterator<Item = &'p str>>,
) -> Result<CstObject, EditError> {
    if !is_there {
        object.append(key, CstInputValue::Object(Vec::new()));
    }
    object
        .object_value(key)
        .ok_or_else(|| EditError::NoSuchKey {
            at: walked.join("."),
            key: steps.peek().copied().unwrap_or_default().into(),
            meant: None,
            keys: Vec::new(),
        })
}

/// The value as JSON, by what the schema wants there.
fn parsed(value: &str, known: &Value, path: &str) -> Result<Value, EditError> {
    if wants_text(known) {
        return Ok(value.into());
    }
    let json: Result<Value, _> = serde_json::from_str(value);
    match json {
        Ok(json) => Ok(json),
        // Keys of the user's own may hold anything.
        Err(_) if known.is_null() => Ok(value.into()),
        Err(_) => Err(EditError::NoValue {
            path: path.into(),
            value: value.into(),
        }),
    }
}

/// Whether only a text can stand there: the tiers, which are choices, too.
fn wants_text(known: &Value) -> bool {
    known["type"] == "string"
        || known["type"] == serde_json::json!(["string", "null"])
        || known["oneOf"]
            .as_array()
            .is_some_and(|choices| choices.iter().all(|one| one["type"] == "string"))
}

fn input(json: Value) -> CstInputValue {
    match json {
        Value::Null => CstInputValue::Null,
        Value::Bool(value) => CstInputValue::Bool(value),
        Value::Number(value) => CstInputValue::Number(value.to_string()),
        Value::String(value) => CstInputValue::String(value),
        Value::Array(values) => CstInputValue::Array(values.into_iter().map(input).collect()),
        Value::Object(values) => {
            let values = values.into_iter().map(|(key, value)| (key, input(value)));
            CstInputValue::Object(values.collect())
        }
    }
}
