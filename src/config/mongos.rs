//! mongos on an app node of a sharded stack: the router that knows which shard has what. The
//! structure is that of its YAML file.

use serde::Serialize;

use super::mongod::{Net, SystemLog};
use super::{ReplicaSet, secret};
use crate::secrets::Kind;
use crate::topology::Database;

/// mongos's configuration file.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Mongos {
    system_log: SystemLog,
    net: Net,
    security: Security,
    sharding: Sharding,
    set_parameter: SetParameter,
}

/// mongos has no `authorization`: it asks whom it sends to.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Security {
    key_file: String,
}

#[derive(Clone, Debug, Serialize)]
struct Sharding {
    #[serde(rename = "configDB")]
    config_db: String,
}

/// How long a mongos that was told to end goes on with what it has begun, as with mongod.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SetParameter {
    mongos_shutdown_timeout_millis_for_signaled_shutdown: u16,
}

impl Mongos {
    /// The router to the cluster of these config servers.
    pub(super) fn of(database: &Database, config_servers: &ReplicaSet) -> Self {
        Self {
            system_log: SystemLog::at("/var/log/mongodb/mongos.log"),
            net: Net::on(database.port),
            security: Security {
                key_file: secret(Kind::DatabaseKey),
            },
            sharding: Sharding {
                config_db: config_servers.address(),
            },
            set_parameter: SetParameter {
                mongos_shutdown_timeout_millis_for_signaled_shutdown: 5000,
            },
        }
    }
}
