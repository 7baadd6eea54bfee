//! What a member of a replica set says about itself.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use mongodb::bson::{Document, doc};
use mongodb::options::{ClientOptions, ServerAddress};
use mongodb::sync::Client;
use serde::{Deserialize, Serialize};

use super::http;

/// A member's role, as it says itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// It takes writes.
    Primary,
    /// It has a copy that can be read.
    Secondary,
    /// It is starting, syncing or recovering.
    Other,
    /// It belongs to no replica set yet.
    Uninitialized,
}

/// What a member answers to `hello`.
#[derive(Clone, Debug)]
pub struct Hello {
    /// Its role.
    pub role: Role,
    /// The replica set that it belongs to.
    pub set: Option<String>,
    /// The primary that it knows, `address:port`.
    pub primary: Option<String>,
    /// When its last write was made, in milliseconds since 1970.
    pub last_write_ms: Option<i64>,
}

/// A connection to exactly one member, whatever its role.
#[derive(Debug)]
pub struct Member {
    client: Client,
}

impl Member {
    /// Connects to `host`, written as `address:port`. Fails at once when nobody
    /// listens there: the driver itself would try again only after half a second.
    ///
    /// # Errors
    /// If nobody accepts connections within `patience`.
    pub fn connect(host: &str, patience: Duration) -> anyhow::Result<Self> {
        let address: std::net::SocketAddrV4 = host
            .parse()
            .with_context(|| format!("`{host}` is no address:port"))?;
        if !http::accepts(*address.ip(), address.port(), patience) {
            return Err(anyhow!("nobody accepts connections at {host}"));
        }
        let options = ClientOptions::builder()
            .hosts(vec![ServerAddress::Tcp {
                host: address.ip().to_string(),
                port: Some(address.port()),
            }])
            .direct_connection(true)
            .app_name(Some("gen-topology".to_owned()))
            .server_selection_timeout(patience.max(Duration::from_secs(2)))
            .connect_timeout(patience)
            .build();
        let client =
            Client::with_options(options).with_context(|| format!("connecting to {host}"))?;
        Ok(Self { client })
    }

    /// Runs a command on the `admin` database.
    ///
    /// # Errors
    /// If the member refuses it; the driver's error is the source.
    pub fn command(&self, command: Document) -> mongodb::error::Result<Document> {
        self.client.database("admin").run_command(command).run()
    }

    /// Asks who it is.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn hello(&self) -> mongodb::error::Result<Hello> {
        let answer = self.command(doc! { "hello": 1 })?;
        let says = |key: &str| answer.get_bool(key).unwrap_or(false);
        let set = answer.get_str("setName").ok().map(str::to_owned);
        let role = match () {
            () if says("isWritablePrimary") && set.is_some() => Role::Primary,
            () if says("secondary") => Role::Secondary,
            () if set.is_none() && says("isreplicaset") => Role::Uninitialized,
            () => Role::Other,
        };
        Ok(Hello {
            role,
            set,
            primary: answer.get_str("primary").ok().map(str::to_owned),
            last_write_ms: answer
                .get_document("lastWrite")
                .and_then(|write| write.get_datetime("lastWriteDate"))
                .map(|moment| moment.timestamp_millis())
                .ok(),
        })
    }
}
