//! An Ansible inventory in INI.

use super::{Inventory, Vars, pattern};
use crate::native::masked;

/// What a section holds.
#[derive(Clone, Copy)]
enum Kind {
    Hosts,
    Children,
    Vars,
    Unknown,
}

/// Reads the text. What is not understood is kept as a remark, with its line.
pub(super) fn parse(text: &str) -> Inventory {
    let mut read = Inventory::default();
    let mut group = String::from("ungrouped");
    let mut kind = Kind::Hosts;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        let place = |what: &str| format!("line {}: {what}", number + 1);
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(header) = line
            .strip_prefix('[')
            .and_then(|rest| rest.split(']').next())
        {
            let (name, suffix) = header.split_once(':').unwrap_or((header, ""));
            name.trim().clone_into(&mut group);
            kind = match suffix {
                "" => Kind::Hosts,
                "children" => Kind::Children,
                "vars" => Kind::Vars,
                _ => {
                    read.unread
                        .push(place(&format!("`[{header}]` is no kind of section")));
                    Kind::Unknown
                }
            };
            if !matches!(kind, Kind::Unknown) {
                read.groups.entry(group.clone()).or_default();
            }
            continue;
        }
        match kind {
            Kind::Hosts => hosts(&mut read, &group, line, &place),
            Kind::Children => {
                let child = line.split_whitespace().next().unwrap_or(line).to_owned();
                let children = &mut read.groups.entry(group.clone()).or_default().children;
                children.push(child);
            }
            Kind::Vars => match line.split_once('=') {
                Some((key, value)) => {
                    let vars = &mut read.groups.entry(group.clone()).or_default().vars;
                    vars.insert(key.trim().into(), unquoted(value.trim()));
                }
                None => read
                    .unread
                    .push(place(&format!("`{}` is no NAME=VALUE", masked(line)))),
            },
            Kind::Unknown => read.unread.push(place(&format!("`{}`", masked(line)))),
        }
    }
    read
}

fn hosts(read: &mut Inventory, group: &str, line: &str, place: &dyn Fn(&str) -> String) {
    let Some(words) = shlex::split(line) else {
        read.unread.push(place(&format!(
            "`{}` has a quote without an end",
            masked(line)
        )));
        return;
    };
    let Some((first, rest)) = words.split_first() else {
        return;
    };
    let mut vars = Vars::new();
    for word in rest {
        match word.split_once('=') {
            Some((key, value)) => {
                vars.insert(key.into(), value.into());
            }
            None => read
                .unread
                .push(place(&format!("`{}` is no NAME=VALUE", masked(word)))),
        }
    }
    match pattern::hosts(first) {
        Ok(hosts) => hosts
            .into_iter()
            .for_each(|host| read.host(Some(group), host, vars.clone())),
        Err(why) => read.unread.push(place(&why)),
    }
}

fn unquoted(value: &str) -> String {
    let inner = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
    inner('"')
        .or_else(|| inner('\''))
        .unwrap_or(value)
        .to_owned()
}
