//! An Ansible inventory in YAML (or JSON, which is YAML).

use serde_yaml_ng::{Mapping, Value};

use super::{Inventory, Vars, pattern};

/// Reads the text.
///
/// # Errors
/// If it is no YAML, or no mapping of groups.
pub(super) fn parse(text: &str) -> Result<Inventory, String> {
    let value: Value = serde_yaml_ng::from_str(text).map_err(|error| error.to_string())?;
    let Value::Mapping(groups) = value else {
        return Err("an inventory in YAML is a mapping of groups".into());
    };
    let mut read = Inventory::default();
    for (name, value) in &groups {
        group(&mut read, &plain(name), value);
    }
    Ok(read)
}

fn group(read: &mut Inventory, name: &str, value: &Value) {
    read.groups.entry(name.to_owned()).or_default();
    let parts = match value {
        Value::Mapping(parts) => parts,
        Value::Null => return,
        _ => {
            read.unread.push(format!("group `{name}` is no mapping"));
            return;
        }
    };
    for (part, value) in parts {
        match (plain(part).as_str(), value) {
            (_, Value::Null) => {}
            ("hosts", Value::Mapping(hosts)) => {
                for (host, vars) in hosts {
                    match pattern::hosts(&plain(host)) {
                        Ok(hosts) => hosts
                            .into_iter()
                            .for_each(|host| read.host(Some(name), host, variables(vars))),
                        Err(why) => read.unread.push(format!("group `{name}`: {why}")),
                    }
                }
            }
            ("children", Value::Mapping(children)) => {
                for (child, value) in children {
                    let child = plain(child);
                    if let Some(group) = read.groups.get_mut(name) {
                        group.children.push(child.clone());
                    }
                    group(read, &child, value);
                }
            }
            ("vars", vars @ Value::Mapping(_)) => {
                if let Some(group) = read.groups.get_mut(name) {
                    group.vars.extend(variables(vars));
                }
            }
            (part, _) => read.unread.push(format!("group `{name}`: `{part}`")),
        }
    }
}

fn variables(value: &Value) -> Vars {
    let empty = Mapping::new();
    let mapping = value.as_mapping().unwrap_or(&empty);
    mapping
        .iter()
        .map(|(key, value)| (plain(key), plain(value)))
        .collect()
}

/// A scalar as it would be written; anything else as YAML on one line.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => {
            let text = serde_yaml_ng::to_string(other).unwrap_or_default();
            text.trim_end().replace('\n', " ")
        }
    }
}
