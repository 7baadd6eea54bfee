//! What a member of a replica set says about itself.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use mongodb::bson::{Document, doc};
use mongodb::options::{ClientOptions, ServerAddress};
use mongodb::sync::Client;

use super::http;

/// A member's role, as it says itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
        let address = parse(host)?;
        if !http::accepts(*address.ip(), address.port(), patience) {
            return Err(anyhow!("nobody accepts connections at {host}"));
        }
        let client = Client::with_options(options(host, patience)?)
            .with_context(|| format!("connecting to {host}"))?;
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
        Ok(Hello {
            role: role(&answer),
            set: answer.get_str("setName").ok().map(str::to_owned),
            primary: answer.get_str("primary").ok().map(str::to_owned),
        })
    }
}

fn parse(host: &str) -> anyhow::Result<std::net::SocketAddrV4> {
    host.parse()
        .with_context(|| format!("`{host}` is no address:port"))
}

/// How to talk to exactly one member.
fn options(host: &str, patience: Duration) -> anyhow::Result<ClientOptions> {
    let address = parse(host)?;
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
    Ok(options)
}

/// The role in an answer to `hello`.
fn role(answer: &Document) -> Role {
    let says = |key: &str| answer.get_bool(key).unwrap_or(false);
    let is_member = answer.get_str("setName").is_ok();
    match () {
        () if says("isWritablePrimary") && is_member => Role::Primary,
        () if says("secondary") => Role::Secondary,
        () if !is_member && says("isreplicaset") => Role::Uninitialized,
        () => Role::Other,
    }
}

/// Asks one member for its role again and again, for as long as `over` says no, and
/// hands every answer to `seen`; none when it does not answer within `patience`.
/// Unlike [`Member`] it gives up on a member that accepts connections and then
/// says nothing.
///
/// # Errors
/// If `host` is no address or there is nothing to run the driver on.
pub fn observe(
    host: &str,
    patience: Duration,
    pause: Duration,
    over: &dyn Fn() -> bool,
    seen: &mut dyn FnMut(Option<Role>),
) -> anyhow::Result<()> {
    let options = options(host, patience)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting to observe the databases")?;
    runtime.block_on(async {
        let mut client: Option<mongodb::Client> = None;
        while !over() {
            let known = match client.take() {
                Some(known) => Ok(known),
                None => mongodb::Client::with_options(options.clone()),
            };
            let answer = match &known {
                Ok(known) => {
                    let database = known.database("admin");
                    let hello = database.run_command(doc! { "hello": 1 });
                    tokio::time::timeout(patience, hello).await.ok()
                }
                Err(_) => None,
            };
            let role = answer.and_then(Result::ok).map(|answer| role(&answer));
            seen(role);
            // After silence the next question goes over a new connection.
            client = known.ok().filter(|_| role.is_some());
            tokio::time::sleep(pause).await;
        }
    });
    Ok(())
}
