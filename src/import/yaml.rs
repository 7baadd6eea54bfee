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
    if let Some(plugin) = groups.get("plugin") {
        return Err(format!(
            "it configures the plugin {}: give what `ansible-inventory --list` prints",
            plain(plugin)
        ));
    }
    let mut read = Inventory::default();
    if let Some(meta) = groups.get("_meta") {
        listed(&mut read, &groups, meta);
        return Ok(read);
    }
    for (name, value) in &groups {
        group(&mut read, &plain(name), value);
    }
    Ok(read)
}

/// What `ansible-inventory --list` prints: each group with lists of names, and the variables
/// of all hosts in `_meta`.
fn listed(read: &mut Inventory, groups: &Mapping, meta: &Value) {
    for (name, value) in groups {
        let name = plain(name);
        if name == "_meta" {
            continue;
        }
        read.groups.entry(name.clone()).or_default();
        let hosts = value.get("hosts").unwrap_or(value);
        for host in hosts.as_sequence().into_iter().flatten() {
            add(read, &name, &plain(host), &Value::Null);
        }
        let children = value.get("children").and_then(Value::as_sequence);
        let children = children.into_iter().flatten().map(plain);
        if let Some(group) = read.groups.get_mut(&name) {
            group.children.extend(children);
            group
                .vars
                .extend(value.get("vars").map(variables).unwrap_or_default());
        }
    }
    let hosts = meta.get("hostvars").and_then(Value::as_mapping);
    for (host, vars) in hosts.into_iter().flatten() {
        read.hosts
            .entry(plain(host))
            .or_default()
            .extend(variables(vars));
    }
}

/// The hosts that a pattern stands for, as members of a group.
fn add(read: &mut Inventory, group: &str, host: &str, vars: &Value) {
    match pattern::hosts(host) {
        Ok(hosts) => hosts
            .into_iter()
            .for_each(|host| read.host(Some(group), host, variables(vars))),
        Err(why) => read.unread.push(format!("group `{group}`: {why}")),
    }
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
                    add(read, name, &plain(host), vars);
                }
            }
            ("hosts", Value::String(host)) => add(read, name, host, &Value::Null),
            ("hosts", Value::Sequence(hosts)) => {
                for host in hosts {
                    add(read, name, &plain(host), &Value::Null);
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
