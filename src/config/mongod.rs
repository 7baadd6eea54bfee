//! mongod on a database node. The structure is that of its YAML file.

use serde::Serialize;

use super::secret;
use crate::secrets::Kind;
use crate::topology::{Database, ReplicaSet, SetRole};

/// mongod's configuration file.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Mongod {
    storage: Storage,
    system_log: SystemLog,
    net: Net,
    security: Security,
    replication: Replication,
    #[serde(skip_serializing_if = "Option::is_none")]
    sharding: Option<Sharding>,
    set_parameter: SetParameter,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Storage {
    db_path: &'static str,
    wired_tiger: WiredTiger,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct WiredTiger {
    engine_config: EngineConfig,
}

#[derive(Clone, Debug, Serialize)]
struct EngineConfig {
    #[serde(rename = "cacheSizeGB")]
    cache_size_gb: f64,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SystemLog {
    destination: &'static str,
    path: &'static str,
    log_append: bool,
    log_rotate: &'static str,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Net {
    port: u16,
    bind_ip: &'static str,
    unix_domain_socket: Enabled,
}

#[derive(Clone, Debug, Serialize)]
struct Enabled {
    enabled: bool,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Security {
    authorization: &'static str,
    key_file: String,
}

/// A secondary that follows a frozen primary would go on waiting for it for six
/// seconds and more, and majority writes with it, although a new primary is there
/// after two. The first two let it change its source at once. The third is how long a
/// mongod that was told to end goes on with what it has begun: as long as the application
/// waits for an answer (`socketTimeoutMS`), instead of 15 s.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SetParameter {
    oplog_network_timeout_buffer_seconds: u8,
    oplog_fetcher_steady_state_max_fetcher_restarts: u8,
    shutdown_timeout_millis_for_signaled_shutdown: u16,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Replication {
    repl_set_name: String,
}

/// What the set is in a sharded cluster.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Sharding {
    cluster_role: &'static str,
}

impl SystemLog {
    /// A file that is opened anew when it was rotated.
    pub(super) fn at(path: &'static str) -> Self {
        Self {
            destination: "file",
            path,
            log_append: true,
            log_rotate: "reopen",
        }
    }
}

impl Net {
    pub(super) fn on(port: u16) -> Self {
        Self {
            port,
            // All addresses: one that is not up yet when mongod starts would end it.
            // Who may connect is the firewall's matter, and who may do what the users'.
            bind_ip: "0.0.0.0",
            unix_domain_socket: Enabled { enabled: false },
        }
    }
}

impl Mongod {
    pub(super) fn of(settings: &Database, set: &ReplicaSet<'_>) -> Self {
        let mebibytes = u32::try_from(settings.cache_size.get() >> 20).unwrap_or(u32::MAX);
        Self {
            storage: Storage {
                db_path: "/var/lib/mongodb",
                wired_tiger: WiredTiger {
                    engine_config: EngineConfig {
                        cache_size_gb: f64::from(mebibytes) / 1024.0,
                    },
                },
            },
            system_log: SystemLog::at("/var/log/mongodb/mongod.log"),
            net: Net::on(settings.port),
            security: Security {
                authorization: "enabled",
                key_file: secret(Kind::DatabaseKey),
            },
            replication: Replication {
                repl_set_name: set.name.clone(),
            },
            sharding: set.role.map(|role| Sharding {
                cluster_role: match role {
                    SetRole::Config => "configsvr",
                    SetRole::Shard => "shardsvr",
                },
            }),
            set_parameter: SetParameter {
                oplog_network_timeout_buffer_seconds: 1,
                oplog_fetcher_steady_state_max_fetcher_restarts: 0,
                shutdown_timeout_millis_for_signaled_shutdown: 5000,
            },
        }
    }
}
