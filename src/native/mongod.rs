//! mongod's configuration: YAML, with `a.b: c` as another spelling of nesting
//! (manual, "Configuration File Options").

use serde_yaml_ng::Value;

use super::Malformed;

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
        let value: Value = serde_yaml_ng::from_str(text).map_err(|error| {
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

    /// Line of the key that `path` ends with, and its bytes; found by its
    /// spelling, so the first of several that are spelt alike.
    pub fn place(&self, path: &str) -> Option<(usize, std::ops::Range<usize>)> {
        self.setting(path)?;
        let key = path.rsplit('.').next()?;
        let mut start = 0;
        for (index, line) in self.text.split('\n').enumerate() {
            let trimmed = line.trim_start();
            let name = trimmed.split(':').next().unwrap_or_default();
            let name = name.trim().trim_matches(['"', '\'']);
            if trimmed.contains(':') && (name == key || name == path) {
                let from = start + line.len() - trimmed.len();
                return Some((index + 1, from..start + line.trim_end().len()));
            }
            start += line.len() + 1;
        }
        None
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
fn line_span(text: &str, line: usize) -> std::ops::Range<usize> {
    let mut start = 0;
    for (index, content) in text.split('\n').enumerate() {
        if index + 1 == line {
            return start..start + content.trim_end().len();
        }
        start += content.len() + 1;
    }
    0..0
}
