//! The form that mongod's file had before version 2.6, and which it still reads: lines of
//! `name = value`, by the names of the command line's options.

use serde_yaml_ng::{Mapping, Value};

/// Names that have another place in YAML.
const PLACES: [(&str, &str); 17] = [
    ("auth", "security.auth"),
    ("bind_ip", "net.bindIp"),
    ("bind_ip_all", "net.bindIpAll"),
    ("configdb", "sharding.configDB"),
    ("dbpath", "storage.dbPath"),
    ("directoryperdb", "storage.directoryPerDB"),
    ("fork", "processManagement.fork"),
    ("journal", "storage.journal.enabled"),
    ("keyFile", "security.keyFile"),
    ("logappend", "systemLog.logAppend"),
    ("logpath", "systemLog.path"),
    ("nojournal", "storage.journal.enabled"),
    ("oplogSize", "replication.oplogSizeMB"),
    ("pidfilepath", "processManagement.pidFilePath"),
    ("port", "net.port"),
    ("replSet", "replication.replSetName"),
    (
        "wiredTigerCacheSizeGB",
        "storage.wiredTiger.engineConfig.cacheSizeGB",
    ),
];
/// Names that no other program's file has.
const OWN: [&str; 8] = [
    "bind_ip",
    "configdb",
    "configsvr",
    "dbpath",
    "nojournal",
    "oplogSize",
    "replSet",
    "shardsvr",
];

/// Whether `text` has this form and is for mongod.
pub fn is_ini(text: &str) -> bool {
    let mut own = false;
    for line in lines(text) {
        let Some((name, _)) = line.split_once('=') else {
            return false;
        };
        let name = name.trim();
        if !name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_.".contains(c))
        {
            return false;
        }
        own |= OWN.contains(&name);
    }
    own
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// The settings by their places in YAML.
pub(super) fn parse(text: &str) -> Value {
    let mut settings = Mapping::new();
    for (name, value) in lines(text).filter_map(|line| line.split_once('=')) {
        let (name, value) = (name.trim(), value.trim());
        let flag = value == "true" || value == "1";
        let (place, value) = match name {
            "nojournal" => (name, Value::Bool(!flag)),
            "configsvr" | "shardsvr" if flag => {
                let role = Value::String(name.to_owned());
                settings.insert("sharding.clusterRole".into(), role);
                continue;
            }
            _ if value == "true" || value == "false" => (name, Value::Bool(flag)),
            "journal" => (name, Value::Bool(flag)),
            _ => (name, Value::String(value.to_owned())),
        };
        settings.insert(in_yaml(place).into(), value);
    }
    Value::Mapping(settings)
}

fn in_yaml(name: &str) -> &str {
    let place = PLACES.iter().find(|(own, _)| *own == name);
    place.map_or(name, |(_, place)| place)
}

/// The lines whose names have that place in YAML begin with one of these.
pub(super) fn names(path: &str) -> impl Iterator<Item = &'static str> {
    let path = path.to_owned();
    let all = PLACES.iter().filter(move |(_, place)| *place == path);
    all.map(|(name, _)| *name)
}
