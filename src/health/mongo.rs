//! What a member of a replica set says about itself, and about the others.

use std::net::ToSocketAddrs as _;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use mongodb::bson::{Bson, Document, doc};
use mongodb::error::{Error, ErrorKind};
use mongodb::options::{AuthMechanism, ClientOptions, Credential, ServerAddress};
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
    /// It belongs to no replica set yet, or to none any more.
    Uninitialized,
}

impl Role {
    /// What people call it.
    pub fn words(self) -> &'static str {
        match self {
            Role::Primary => "primary",
            Role::Secondary => "secondary",
            Role::Uninitialized => "in no replica set yet",
            Role::Other => "starting or syncing",
        }
    }
}

/// What a member answers to `hello`. It tells that to everybody, without a password.
#[derive(Clone, Debug)]
pub struct Hello {
    /// Its role.
    pub role: Role,
    /// The replica set that it belongs to.
    pub set: Option<String>,
    /// The primary that it knows, `address:port`.
    pub primary: Option<String>,
    /// The members that can become primary, and those that can't, `address:port`.
    pub members: Vec<String>,
    /// When its last write was made, in milliseconds since 1970.
    pub last_write_ms: Option<i64>,
}

/// Who asks. The password is not part of any message.
#[derive(Clone, Copy)]
pub struct User<'u> {
    /// Name.
    pub name: &'u str,
    /// Password.
    pub password: &'u str,
    /// Database that knows the user.
    pub database: &'u str,
}

impl<'u> User<'u> {
    /// A user of the stack; all of them are kept in `admin`.
    pub fn of_stack(name: &'u str, password: &'u str) -> Self {
        Self {
            name,
            password,
            database: "admin",
        }
    }

    /// The members themselves, who know each other by their common key.
    pub fn member(key: &'u str) -> Self {
        Self {
            name: "__system",
            password: key,
            database: "local",
        }
    }
}

/// A connection to exactly one member, whatever its role.
#[derive(Debug)]
pub struct Member {
    client: Client,
    host: String,
}

impl Member {
    /// Connects to `host`, written as `address:port`. Fails at once when nobody
    /// listens there: the driver itself would try again only after half a second.
    ///
    /// # Errors
    /// If nobody accepts connections within `patience`.
    pub fn connect(host: &str, patience: Duration) -> anyhow::Result<Self> {
        Self::open(host, patience, None)
    }

    /// Connects as a user. The password is proved by the first command.
    ///
    /// # Errors
    /// If nobody accepts connections within `patience`.
    pub fn login(host: &str, patience: Duration, user: User<'_>) -> anyhow::Result<Self> {
        Self::open(host, patience, Some(user))
    }

    /// Connects as the first of `users` that the member knows; none if it knows none of
    /// them. While a password is exchanged there are two.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn login_as_any<'u>(
        host: &str,
        patience: Duration,
        users: impl IntoIterator<Item = User<'u>>,
    ) -> anyhow::Result<Option<Self>> {
        for user in users {
            let member = Self::login(host, patience, user)?;
            match member.command(doc! { "ping": 1 }) {
                Ok(_) => return Ok(Some(member)),
                Err(error) if is_unknown_user(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    fn open(host: &str, patience: Duration, user: Option<User<'_>>) -> anyhow::Result<Self> {
        let address = parse(host)?;
        if !http::accepts(*address.ip(), address.port(), patience) {
            return Err(anyhow!("nobody accepts connections at {host}"));
        }
        let client = Client::with_options(options(host, patience, user)?)
            .with_context(|| format!("connecting to {host}"))?;
        let host = host.to_owned();
        Ok(Self { client, host })
    }

    /// Connects to a mongod by its socket, as nobody.
    ///
    /// # Errors
    /// If the driver can't be made ready; whether somebody listens shows with the first command.
    pub fn at_socket(socket: &std::path::Path) -> anyhow::Result<Self> {
        let options = ClientOptions::builder()
            .hosts(vec![ServerAddress::Unix {
                path: socket.to_path_buf(),
            }])
            .direct_connection(true)
            .server_selection_timeout(Duration::from_secs(2))
            .build();
        let client = Client::with_options(options)
            .with_context(|| format!("connecting to {}", socket.display()))?;
        let host = socket.display().to_string();
        Ok(Self { client, host })
    }

    /// Asks a primary to hand its part over, once a secondary has caught up, and not to stand for
    /// election again for `away` seconds.
    ///
    /// # Errors
    /// If no secondary has caught up within 10 s, or it refuses.
    pub fn step_down(&self, away: u32) -> mongodb::error::Result<()> {
        self.command(doc! { "replSetStepDown": away, "secondaryCatchUpPeriodSecs": 10 })
            .map(drop)
    }

    /// Asks a secondary to stand for election now.
    ///
    /// # Errors
    /// If it is not elected.
    pub fn step_up(&self) -> mongodb::error::Result<()> {
        self.command(doc! { "replSetStepUp": 1 }).map(drop)
    }

    /// The member that it copies from, `address:port`.
    ///
    /// # Errors
    /// If it does not answer, or not to this user.
    pub fn sync_source(&self) -> mongodb::error::Result<Option<String>> {
        let status = self.command(doc! { "replSetGetStatus": 1 })?;
        let source = status.get_str("syncSourceHost").unwrap_or_default();
        Ok((!source.is_empty()).then(|| source.to_owned()))
    }

    /// Asks it to copy from another member, for as long as that one is there.
    ///
    /// # Errors
    /// If it refuses.
    pub fn sync_from(&self, host: &str) -> mongodb::error::Result<()> {
        self.command(doc! { "replSetSyncFrom": host }).map(drop)
    }

    /// Where it is: `address:port`, or the path of its socket.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The driver's own, for what is more than a command.
    pub fn client(&self) -> &Client {
        &self.client
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
        let lists = ["hosts", "passives"].into_iter();
        let members = lists.filter_map(|key| answer.get_array(key).ok()).flatten();
        Ok(Hello {
            role: role(&answer),
            set: answer.get_str("setName").ok().map(str::to_owned),
            primary: answer.get_str("primary").ok().map(str::to_owned),
            members: members
                .filter_map(|host| host.as_str().map(str::to_owned))
                .collect(),
            last_write_ms: answer
                .get_document("lastWrite")
                .and_then(|write| write.get_datetime("lastWriteDate"))
                .map(|moment| moment.timestamp_millis())
                .ok(),
        })
    }
}

/// The address behind `host`, which may have a name: containers get their addresses late.
fn parse(host: &str) -> anyhow::Result<std::net::SocketAddrV4> {
    if let Ok(address) = host.parse() {
        return Ok(address);
    }
    let found = host.to_socket_addrs();
    let mut found =
        found.with_context(|| format!("`{host}` is no address:port and no name:port"))?;
    found
        .find_map(|address| match address {
            std::net::SocketAddr::V4(address) => Some(address),
            std::net::SocketAddr::V6(_) => None,
        })
        .with_context(|| format!("`{host}` has no IPv4 address"))
}

/// How to talk to exactly one member.
fn options(
    host: &str,
    patience: Duration,
    user: Option<User<'_>>,
) -> anyhow::Result<ClientOptions> {
    let address = parse(host)?;
    let credential = user.map(|user| {
        Credential::builder()
            .username(user.name.to_owned())
            .password(user.password.to_owned())
            .source(user.database.to_owned())
            .mechanism(AuthMechanism::ScramSha256)
            .build()
    });
    let options = ClientOptions::builder()
        .hosts(vec![ServerAddress::Tcp {
            host: address.ip().to_string(),
            port: Some(address.port()),
        }])
        .direct_connection(true)
        .app_name(Some("gen-topology".to_owned()))
        .credential(credential)
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
    let options = options(host, patience, None)?;
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

/// Whether the member at `host` accepts a connection within `patience`, and then answers within twice that.
pub fn answers(host: &str, patience: Duration) -> bool {
    let accepts = parse(host).is_ok_and(|place| http::accepts(*place.ip(), place.port(), patience));
    let (asked, mut heard) = (std::cell::Cell::new(false), false);
    let over = || asked.get();
    let asking = accepts
        && observe(host, patience * 2, Duration::ZERO, &over, &mut |role| {
            asked.set(true);
            heard = role.is_some();
        })
        .is_ok();
    asking && heard
}

/// How a member does in its set, as it sees it itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Vitals {
    /// `PRIMARY`, `SECONDARY`, `STARTUP2`, `RECOVERING` …
    pub state: String,
    /// How many elections there have been.
    pub term: i64,
    /// Whether it votes.
    pub votes: bool,
    /// How far it is behind the primary, in seconds; none while it knows no primary.
    pub lag_seconds: Option<f64>,
    /// How far back it remembers changes, in seconds: a member that was away for longer has
    /// to copy all data anew.
    pub oplog_seconds: i64,
}

impl Vitals {
    /// What a person wants to know of a member besides its role.
    pub fn words(&self) -> Vec<String> {
        let mut words = vec![format!("term {}", self.term)];
        if !self.votes {
            words.push("no vote".to_owned());
        }
        if let Some(lag) = self.lag_seconds.filter(|_| self.state != "PRIMARY") {
            words.push(format!("{lag:.1} s behind"));
        }
        words.push(match self.oplog_seconds {
            seconds @ 0..=120 => format!("oplog of {seconds} s"),
            seconds @ 121..=7200 => format!("oplog of {} min", seconds / 60),
            seconds => format!("oplog of {} h", seconds / 3600),
        });
        words
    }
}

impl Member {
    /// How it does; only the monitoring user may ask.
    ///
    /// # Errors
    /// If it does not answer, or not to us.
    pub fn vitals(&self) -> anyhow::Result<Vitals> {
        let status = self.command(doc! { "replSetGetStatus": 1 })?;
        let config = self.command(doc! { "replSetGetConfig": 1 })?;
        let server = self.command(doc! { "serverStatus": 1, "oplog": 1 })?;
        vitals(&status, &config, &server).context("the member tells too little about itself")
    }
}

fn vitals(status: &Document, config: &Document, server: &Document) -> Option<Vitals> {
    let members = |of: &Document| -> Vec<Document> {
        let members = of.get_array("members").ok().into_iter().flatten();
        members.filter_map(Bson::as_document).cloned().collect()
    };
    let all = members(status);
    let own = all
        .iter()
        .find(|member| member.get_bool("self").unwrap_or(false))?;
    let primary = all.iter().find(|member| number(member, "state") == Some(1));
    let behind = primary.and_then(|primary| {
        let last = |member: &Document| member.get_datetime("optimeDate").ok().copied();
        let millis = last(primary)?.timestamp_millis() - last(own)?.timestamp_millis();
        u32::try_from(millis.max(0)).ok()
    });
    let seats = members(config.get_document("config").ok()?);
    let seat = seats
        .iter()
        .find(|seat| number(seat, "_id") == number(own, "_id"))?;
    let oplog = server.get_document("oplog").ok()?;
    let end = |key| oplog.get_timestamp(key).ok().map(|at| i64::from(at.time));
    Some(Vitals {
        state: own.get_str("stateStr").ok()?.to_owned(),
        term: number(status, "term")?,
        votes: number(seat, "votes")? == 1,
        lag_seconds: behind.map(|millis| f64::from(millis) / 1000.0),
        oplog_seconds: end("latestOptime")? - end("earliestOptime")?,
    })
}

/// Whether a connection is that of one of these users; `operations` is an answer to `currentOp`
/// with `$all`.
pub fn uses(operations: &Document, users: &[String]) -> bool {
    let operations = operations.get_array("inprog").ok().into_iter().flatten();
    let effective = operations
        .filter_map(|operation| operation.as_document()?.get_array("effectiveUsers").ok());
    effective
        .flatten()
        .filter_map(|user| user.as_document()?.get_str("user").ok())
        .any(|name| users.iter().any(|user| user == name))
}

/// Whether the member does not believe that we are who we say.
pub fn is_unknown_user(error: &Error) -> bool {
    const AUTHENTICATION_FAILED: i32 = 18;
    match error.kind.as_ref() {
        ErrorKind::Authentication { .. } => true,
        _ => code(error) == Some(AUTHENTICATION_FAILED),
    }
}

/// The server's number for why it refused a command.
pub fn code(error: &Error) -> Option<i32> {
    match error.kind.as_ref() {
        ErrorKind::Command(refused) => Some(refused.code),
        _ => None,
    }
}

/// Why a command failed, in the server's own words where it has spoken.
pub fn words(error: &Error) -> String {
    match error.kind.as_ref() {
        ErrorKind::Command(refused) => refused.message.clone(),
        _ if is_unknown_user(error) => "the password is refused".to_owned(),
        _ => error.to_string(),
    }
}

/// A whole number of whatever type the server chose.
pub fn number(document: &Document, key: &str) -> Option<i64> {
    match document.get(key)? {
        Bson::Int32(n) => Some(i64::from(*n)),
        Bson::Int64(n) => Some(*n),
        #[expect(
            clippy::cast_possible_truncation,
            reason = "numbers that are asked for here are small and whole"
        )]
        Bson::Double(n) => Some(*n as i64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mongodb::bson::{DateTime, Timestamp};

    #[test]
    fn a_members_vitals_are_read() {
        let member = |id: i32, state: i32, name: &str, millis: i64, own: bool| {
            let mut member = doc! { "_id": id, "state": state, "stateStr": name, "optimeDate": DateTime::from_millis(millis) };
            if own {
                member.insert("self", true);
            }
            Bson::Document(member)
        };
        let status = doc! { "term": 7_i64, "members": [
            member(0, 1, "PRIMARY", 10_000, false),
            member(3, 2, "SECONDARY", 8_500, true),
        ] };
        let config =
            doc! { "config": { "members": [{ "_id": 0, "votes": 1 }, { "_id": 3, "votes": 0 }] } };
        let time = |time| Timestamp { time, increment: 1 };
        let server = doc! { "oplog": { "earliestOptime": time(100), "latestOptime": time(3700) } };
        let read = vitals(&status, &config, &server).unwrap();
        let expected = Vitals {
            state: "SECONDARY".into(),
            term: 7,
            votes: false,
            lag_seconds: Some(1.5),
            oplog_seconds: 3600,
        };
        assert_eq!(read, expected);
        assert_eq!(vitals(&doc! {}, &config, &server), None);
    }
}
