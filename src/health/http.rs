//! Questions over HTTP: one connection each, no redirects, no retries.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use ureq::Agent;
use ureq::tls::{TlsConfig, TlsProvider};

/// An answer, whatever its status.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Node that answered, by its own account (`X-App-Node`).
    pub node: Option<String>,
    /// The body, at most 1 MiB of it.
    pub body: String,
}

/// Where visitors come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entrance {
    /// Address.
    pub address: Ipv4Addr,
    /// Port.
    pub port: u16,
    /// Whether they speak TLS there.
    pub tls: bool,
}

impl Entrance {
    /// Of an address that serves plain HTTP at one port, and HTTPS at another, if at all.
    pub fn of(address: Ipv4Addr, port: u16, tls: Option<u16>) -> Self {
        Self {
            address,
            port: tls.unwrap_or(port),
            tls: tls.is_some(),
        }
    }

    /// Without TLS.
    pub fn plain(address: Ipv4Addr, port: u16) -> Self {
        Self::of(address, port, None)
    }

    /// The address of a page.
    pub fn url(&self, path: &str) -> String {
        let (scheme, usual) = if self.tls {
            ("https", 443)
        } else {
            ("http", 80)
        };
        let address = self.address;
        match self.port {
            port if port == usual => format!("{scheme}://{address}{path}"),
            port => format!("{scheme}://{address}:{port}{path}"),
        }
    }
}

/// A client that opens a connection for each request and waits no longer than `patience` for an answer.
pub fn client(patience: Duration) -> Agent {
    keeping(patience, 0)
}

/// A client like [`client`] that keeps its connection for the next request.
pub fn keeping_client(patience: Duration) -> Agent {
    keeping(patience, 1)
}

fn keeping(patience: Duration, connections: usize) -> Agent {
    Agent::config_builder()
        .timeout_global(Some(patience))
        .max_idle_connections(connections)
        .max_idle_connections_per_host(connections)
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .tls_config(tls())
        .build()
        .into()
}

/// Whoever asks here wants to know what is answered, by a name that no certificate may have: an
/// address. Whether certificates are right is looked at where they are read.
fn tls() -> TlsConfig {
    TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .disable_verification(true)
        .build()
}

/// `GET`s a path.
///
/// # Errors
/// If there is no complete answer in time.
pub fn get(client: &Agent, address: Ipv4Addr, port: u16, path: &str) -> anyhow::Result<Answer> {
    visit(client, Entrance::plain(address, port), path)
}

/// `GET`s a path as visitors do.
///
/// # Errors
/// If there is no complete answer in time.
pub fn visit(client: &Agent, entrance: Entrance, path: &str) -> anyhow::Result<Answer> {
    let url = entrance.url(path);
    let response = client.get(&url).call();
    answer(response).with_context(|| format!("asking {url}"))
}

/// `POST`s a text of a given type.
///
/// # Errors
/// If there is no complete answer in time.
pub fn post(
    client: &Agent,
    address: Ipv4Addr,
    port: u16,
    path: &str,
    kind: &str,
    body: &str,
) -> anyhow::Result<Answer> {
    hand_in(client, Entrance::plain(address, port), path, kind, body)
}

/// `POST`s a text of a given type as visitors do.
///
/// # Errors
/// If there is no complete answer in time.
pub fn hand_in(
    client: &Agent,
    entrance: Entrance,
    path: &str,
    kind: &str,
    body: &str,
) -> anyhow::Result<Answer> {
    let url = entrance.url(path);
    let response = client.post(&url).content_type(kind).send(body);
    answer(response).with_context(|| format!("asking {url}"))
}

fn answer(
    response: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
) -> anyhow::Result<Answer> {
    let mut response = response?;
    let node = response
        .headers()
        .get("x-app-node")
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let body = response
        .body_mut()
        .with_config()
        .limit(1 << 20)
        .read_to_string()?;
    Ok(Answer {
        status: response.status().as_u16(),
        node,
        body,
    })
}

/// Whether somebody accepts connections there.
pub fn accepts(address: Ipv4Addr, port: u16, patience: Duration) -> bool {
    TcpStream::connect_timeout(&SocketAddr::from((address, port)), patience).is_ok()
}
