//! mongod's configuration: YAML, with `a.b: c` as another spelling of nesting
//! (manual, "Configuration File Options"), or the older form of `name = value`.

mod ini;

use std::ops::Range;

use serde_yaml_ng::Value;

use super::Malformed;

pub use ini::is_ini;

/// A whole file.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    value: Value,
    text: String,
}

impl Config {
    /// Reads a file's text. Unknown settings are kept.
    ///
    /// # Errors
    /// Text that is not YAML, or whose top is not a mapping.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let malformed = |line: usize, message: String| Malformed {
            line,
            message,
            span: line_span(text, line),
        };
        if is_ini(text) {
            return Ok(Self {
                value: ini::parse(text),
                text: text.to_owned(),
            });
        }
        // JSON is YAML, but for its tabs.
        let json = || serde_json::from_str::<Value>(text).ok();
        let value: Value = serde_yaml_ng::from_str(text)
            .or_else(|error| json().ok_or(error))
            .map_err(|error| {
                let line = error.location().map_or(1, |place| place.line());
                malformed(line, error.to_string())
            })?;
        if !matches!(value, Value::Mapping(_) | Value::Null) {
            return Err(malformed(1, "mongod's file is a YAML mapping".into()));
        }
        Ok(Self {
            value,
            text: text.to_owned(),
        })
    }

    /// Whether it has the form that it had before version 2.6.
    pub fn is_old(&self) -> bool {
        is_ini(&self.text)
    }

    /// The setting at `path`, such as `replication.replSetName`.
    pub fn setting(&self, path: &str) -> Option<&Value> {
        find(&self.value, path)
    }

    /// A setting as text.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.setting(path)?.as_str()
    }

    /// `replication.replSetName`.
    pub fn replica_set(&self) -> Option<&str> {
        self.text("replication.replSetName")
    }

    /// `sharding.clusterRole`: `configsvr` or `shardsvr`.
    pub fn cluster_role(&self) -> Option<&str> {
        self.text("sharding.clusterRole")
    }

    /// `storage.wiredTiger.engineConfig.cacheSizeGB`, in gibibytes.
    pub fn cache_size_gb(&self) -> Option<f64> {
        self.setting("storage.wiredTiger.engineConfig.cacheSizeGB")?
            .as_f64()
    }

    /// A server parameter: `setParameter.NAME`.
    pub fn parameter(&self, name: &str) -> Option<&Value> {
        match self.setting("setParameter")? {
            Value::Mapping(map) => map.get(name),
            _ => None,
        }
    }

    /// Whether a section of that name is at the top, such as `storage`.
    pub fn has(&self, section: &str) -> bool {
        self.setting(section).is_some()
    }

    /// Bytes of the first line that is no remark.
    pub fn start(&self) -> Range<usize> {
        let mut start = 0;
        for line in self.text.split_inclusive('\n') {
            let content = line.trim();
            if !content.is_empty() && !content.starts_with('#') && content != "---" {
                let from = start + line.len() - line.trim_start().len();
                return from..from + content.len();
            }
            start += line.len();
        }
        0..0
    }

    /// Line of the key that `path` ends with, and its bytes; found by its
    /// spelling, so the first of several that are spelt alike.
    pub fn place(&self, path: &str) -> Option<(usize, Range<usize>)> {
        self.setting(path)?;
        let key = path.rsplit('.').next()?;
        let mut start = 0;
        for (index, line) in self.text.split('\n').enumerate() {
            let trimmed = line.trim_start();
            let separator = [':', '='].into_iter().find(|sign| trimmed.contains(*sign));
            let name = trimmed.split([':', '=']).next().unwrap_or_default();
            let name = name.trim().trim_matches(['"', '\'']);
            let old = ini::names(path).any(|old| old == name);
            if separator.is_some() && (name == key || name == path || old) {
                let from = start + line.len() - trimmed.len();
                return Some((index + 1, from..start + line.trim_end().len()));
            }
            start += line.len() + 1;
        }
        self.inside(key)
    }

    /// A key that does not begin its line: `net: { bindIp: 127.0.0.1 }`.
    fn inside(&self, key: &str) -> Option<(usize, Range<usize>)> {
        let is_key = |at: &usize| {
            let before = self.text[..*at].chars().next_back();
            let behind = self.text[at + key.len()..].trim_start_matches(['"', '\'', ' ']);
            !before.is_some_and(char::is_alphanumeric) && behind.starts_with(':')
        };
        let mut places = self.text.match_indices(key).map(|(at, _)| at);
        let at = places.find(is_key)?;
        let line = 1 + self.text[..at].matches('\n').count();
        Some((line, at..at + key.len()))
    }
}

fn find<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    let Value::Mapping(map) = value else {
        return None;
    };
    if let Some(found) = map.get(path) {
        return Some(found);
    }
    path.match_indices('.').find_map(|(dot, _)| {
        let (first, rest) = (&path[..dot], &path[dot + 1..]);
        find(map.get(first)?, rest)
    })
}

/// Bytes of a line, from 1.
fn line_span(text: &str, line: usize) -> Range<usize> {
    let mut start = 0;
    for (index, content) in text.split('\n').enumerate() {
        if index + 1 == line {
            return start..start + content.trim_end().len();
        }
        start += content.len() + 1;
    }
    0..0
}
