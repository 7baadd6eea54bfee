//! What a node says about itself when it is asked by `gen-topology node report`: the
//! same words in the lab and on a real machine.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::mongo::Role;

/// A node by its own account.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// Its facts, of its `node.json`.
    pub facts: serde_json::Value,
    /// SHA-256 of the files that its facts name, as they are below `/etc`; none where a file is missing.
    pub files: BTreeMap<String, Option<String>>,
    /// Where the app's code is, links followed; app servers only.
    pub app: Option<String>,
    /// Where the code of each further application is that it runs, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub apps: BTreeMap<String, String>,
    /// Load balancers only.
    pub load_balancer: Option<Balancer>,
    /// Databases only; none while mongod does not answer.
    pub database: Option<Member>,
}

/// A load balancer by its own account.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Balancer {
    /// Whether it has the virtual IP.
    pub has_virtual_ip: bool,
    /// Whether it takes part in the choice of who has it.
    pub takes_part: bool,
    /// Days until the first of its certificates expires, where it serves HTTPS.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub certificate_days: Option<i64>,
    /// Why it has no new certificate, if it should have one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub certificate_problem: Option<String>,
}

/// A database by its own account.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Member {
    /// Its role.
    pub role: Role,
    /// The primary that it knows, `address:port`.
    pub primary: Option<String>,
    /// The members of its set, `address:port`.
    pub members: Vec<String>,
    /// When its last write was made, in milliseconds since 1970 by the clock of the primary then.
    pub last_write_ms: Option<i64>,
}
