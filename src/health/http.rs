//! Questions over HTTP: one connection each, no redirects, no retries.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use ureq::Agent;

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
        .build()
        .into()
}

/// `GET`s a path.
///
/// # Errors
/// If there is no complete answer in time.
pub fn get(client: &Agent, address: Ipv4Addr, port: u16, path: &str) -> anyhow::Result<Answer> {
    let url = format!("http://{address}:{port}{path}");
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
    let url = format!("http://{address}:{port}{path}");
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
