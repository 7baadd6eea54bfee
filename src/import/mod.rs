//! Inventories of other tools as topologies. Pure: text in, text out, and remarks on
//! everything that was guessed or left out.

mod compose;
mod groups;
mod ini;
mod pattern;
pub mod python;
pub mod requirements;
mod stack;
mod yaml;

use std::collections::BTreeMap;

use indexmap::IndexMap;

pub use stack::{Imported, Wishes, topology};

/// An Ansible inventory: groups of hosts, and variables.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Hosts in the order of the file, with their variables.
    pub hosts: IndexMap<String, Vars>,
    /// Groups in the order of the file.
    pub groups: IndexMap<String, Group>,
    /// What could not be read, with its line where there is one.
    pub unread: Vec<String>,
}

/// Variables and their values as text.
pub type Vars = BTreeMap<String, String>;

/// A group of an inventory.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Names of its hosts.
    pub hosts: Vec<String>,
    /// Names of the groups that are part of it.
    pub children: Vec<String>,
    /// Its variables.
    pub vars: Vars,
}

impl Inventory {
    /// Reads an inventory in YAML, if it looks like it, or else in INI.
    ///
    /// # Errors
    /// If it is neither.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.trim_start().starts_with("$ANSIBLE_VAULT") {
            return Err("it is encrypted: give what `ansible-vault view` prints".into());
        }
        let mut lines = text.lines().map(str::trim);
        let first = lines.find(|line| !line.is_empty() && !line.starts_with(['#', ';']));
        let first = first.map(|line| line.split(" #").next().unwrap_or_default().trim());
        match first {
            None => Err("the inventory is empty".into()),
            Some(line) if is_yaml(line) => yaml::parse(text),
            Some(_) => Ok(ini::parse(text)),
        }
    }

    /// Reads a Compose file: services are hosts, and their images' names tell their groups.
    ///
    /// # Errors
    /// If it is none.
    pub fn parse_compose(text: &str) -> Result<Self, String> {
        compose::parse(text)
    }

    /// Groups that a host is in, those around its own included, and in file order.
    fn groups_of(&self, host: &str) -> Vec<&str> {
        let mut found: Vec<&str> = Vec::new();
        let own = self
            .groups
            .iter()
            .filter(|(_, group)| group.hosts.iter().any(|name| name == host));
        let mut next: Vec<&str> = own.map(|(name, _)| name.as_str()).collect();
        while let Some(name) = next.pop() {
            if found.contains(&name) {
                continue;
            }
            found.push(name);
            let around = self
                .groups
                .iter()
                .filter(|(_, group)| group.children.iter().any(|child| child == name));
            next.extend(around.map(|(name, _)| name.as_str()));
        }
        let place = |name: &&str| self.groups.get_index_of(*name);
        found.sort_by_key(place);
        found
    }

    fn host(&mut self, group: Option<&str>, host: pattern::Host, vars: Vars) {
        let name = &host.name;
        let own = self.hosts.entry(name.clone()).or_default();
        if let Some(port) = host.port {
            own.insert("ansible_port".into(), port);
        }
        own.extend(vars);
        if let Some(group) = group {
            let hosts = &mut self.groups.entry(group.to_owned()).or_default().hosts;
            if !hosts.iter().any(|host| host == name) {
                hosts.push(name.clone());
            }
        }
    }
}

/// Whether the first line of an inventory is one of YAML, or of JSON.
fn is_yaml(line: &str) -> bool {
    let key = line.split_once(": ").map_or("", |(key, _)| key);
    let key = !key.is_empty() && !key.contains(['[', '=', ' ']);
    let begins = line.starts_with("---") || line.starts_with('{');
    begins || key || (line.ends_with(':') && !line.starts_with('['))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_syntaxes_say_the_same() {
        let ini = "[web]\nw1 ansible_host=10.0.0.1\nw2 ansible_host=10.0.0.2 # the second\n\n[site:children]\nweb\n\n[web:vars]\nport=80\n";
        let yaml = "all:\n  children:\n    site:\n      children:\n        web:\n          vars: { port: 80 }\n          hosts:\n            w1: { ansible_host: 10.0.0.1 }\n            w2: { ansible_host: 10.0.0.2 }\n";
        let [ini, yaml] = [ini, yaml].map(|text| Inventory::parse(text).unwrap());
        assert_eq!(ini.hosts, yaml.hosts);
        assert_eq!(ini.groups_of("w2"), ["web", "site"]);
        assert!(yaml.groups_of("w2").contains(&"site") && yaml.groups_of("w2").contains(&"web"));
        assert_eq!(ini.groups["web"].vars, yaml.groups["web"].vars);
        assert!(ini.unread.is_empty() && yaml.unread.is_empty());
    }

    #[test]
    fn what_is_not_understood_is_kept() {
        let read = Inventory::parse("[web]\nw[1: x=1\nw2 novalue\n[odd:thing]\nz\n").unwrap();
        assert_eq!(read.hosts.keys().collect::<Vec<_>>(), ["w2"]);
        assert_eq!(read.unread.len(), 4, "{:?}", read.unread);
        assert!(Inventory::parse("# nothing\n").is_err());
        assert!(Inventory::parse("all:\n  hosts: [a").is_err());
    }
}
