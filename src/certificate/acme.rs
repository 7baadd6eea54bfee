//! Asking an authority for a certificate by ACME (RFC 8555). That a name is the stack's own is shown over
//! HTTP (HTTP-01): the answer is the same for every order of an account, so each load balancer gives it
//! by itself, and whichever has the virtual IP is asked.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use instant_acme::{
    Account, AuthorizationStatus, BodyWrapper, BytesResponse, ChallengeType, Error, HttpClient,
    Identifier, Key, NewOrder, Order, OrderStatus, Problem, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PublicKeyData as _};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest as _, Sha256};
use ureq::Agent;
use ureq::http::{Request, Response, StatusCode};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider};

/// How long the authority may take to answer one request.
const ANSWER: Duration = Duration::from_secs(30);
/// How long it may take to look at all names, and to sign.
const PATIENCE: Duration = Duration::from_secs(90);
/// The largest answer that is read, in bytes.
const LARGEST: u64 = 1 << 20;

/// What is asked for, and of whom.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'r> {
    /// Address of the directory.
    pub directory: &'r str,
    /// PEM with the authority that the directory's own certificate is from; none: those that browsers know.
    pub trust: Option<&'r [u8]>,
    /// Host names.
    pub names: &'r [String],
}

/// Why there is no certificate.
#[derive(Debug)]
pub struct Refusal {
    /// The reason, in a sentence.
    pub why: anyhow::Error,
    /// How long the authority wants to be left alone, if it says so.
    pub wait: Option<Duration>,
    /// Whether it was asked too often.
    pub too_often: bool,
}

/// The thumbprint of an account's key (RFC 7638), which is given in PEM: what answers to challenges end with.
///
/// # Errors
/// If the key is not one for ECDSA with P-256.
pub fn thumbprint(account: &str) -> anyhow::Result<String> {
    let pair = KeyPair::from_pem(account).context("reading the ACME account's key")?;
    // 4, and the two coordinates (SEC 1, 2.3.3).
    let point = pair.der_bytes();
    let (Some(4), Some(x), Some(y)) = (point.first(), point.get(1..33), point.get(33..65)) else {
        return Err(anyhow!("the ACME account's key is not of the curve P-256"));
    };
    let [x, y] = [x, y].map(|part| URL_SAFE_NO_PAD.encode(part));
    // Members in this order and no space (RFC 7638, 3.2).
    let key = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
    Ok(URL_SAFE_NO_PAD.encode(Sha256::digest(key.as_bytes())))
}

/// Asks for a certificate; its chain in PEM, without the key. Both keys are in PEM.
///
/// # Errors
/// If the authority refuses, does not answer, or is none.
pub fn order(request: Wanted<'_>, account: &str, key: &str) -> Result<String, Refusal> {
    let wait = Arc::new(Mutex::new(None));
    let asked = runtime().and_then(|runtime| {
        let client = client(request.trust, Arc::clone(&wait))?;
        runtime.block_on(ask(request, client, account, key))
    });
    asked.map_err(|why| {
        let limited = why.downcast_ref::<Error>().is_some_and(is_limit);
        let said = *wait.lock().unwrap_or_else(PoisonError::into_inner);
        Refusal {
            why: sentence(&why, request.directory),
            wait: said,
            too_often: limited,
        }
    })
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .context("starting to wait for the authority")
}

async fn ask(
    request: Wanted<'_>,
    client: Client,
    account: &str,
    key: &str,
) -> anyhow::Result<String> {
    let der = PrivatePkcs8KeyDer::from_pem_slice(account.as_bytes())
        .map_err(|_| anyhow!("the ACME account's key is damaged"))?;
    let signer = Key::from_pkcs8_der(der.clone_key())?;
    let directory = request.directory.to_owned();
    let builder = Account::builder_with_http(Box::new(client));
    let pair = (signer, PrivateKeyDer::Pkcs8(der));
    let (account, _) = builder.create_from_key(pair, directory).await?;
    let names: Vec<Identifier> = request.names.iter().cloned().map(Identifier::Dns).collect();
    let mut order = account.new_order(&NewOrder::new(&names)).await?;
    prove(&mut order).await?;
    let policy = RetryPolicy::new().timeout(PATIENCE);
    if order.poll_ready(&policy).await? != OrderStatus::Ready {
        return Err(doubt(&mut order).await);
    }
    let pair = KeyPair::from_pem(key).context("reading the certificate's key")?;
    let mut params = CertificateParams::new(request.names.to_vec())?;
    params.distinguished_name = DistinguishedName::new();
    order
        .finalize_csr(params.serialize_request(&pair)?.der())
        .await?;
    Ok(order.poll_certificate(&policy).await?)
}

/// Says of each name that it may be looked at.
async fn prove(order: &mut Order) -> anyhow::Result<()> {
    let mut names = order.authorizations();
    while let Some(name) = names.next().await {
        let mut name = name?;
        if name.status == AuthorizationStatus::Valid {
            continue;
        }
        let challenge = name.challenge(ChallengeType::Http01);
        let mut challenge = challenge
            .context("the authority does not ask over HTTP (HTTP-01) for one of the names")?;
        challenge.set_ready().await?;
    }
    Ok(())
}

/// Why the authority does not believe that the names are ours.
async fn doubt(order: &mut Order) -> anyhow::Error {
    let mut said = Vec::new();
    let mut names = order.authorizations();
    while let Some(Ok(mut name)) = names.next().await {
        if name.refresh().await.is_err() {
            continue;
        }
        let identifier = name.identifier().to_string();
        let errors = name.challenges.iter().filter_map(|it| it.error.as_ref());
        said.extend(errors.map(|error| format!("{identifier}: {error}")));
    }
    if said.is_empty() {
        return anyhow!("the authority does not say why it refuses");
    }
    anyhow!("{}", said.join("; "))
}

fn is_limit(error: &Error) -> bool {
    let Error::Api(problem) = error else {
        return false;
    };
    let kind = problem.r#type.as_deref().unwrap_or_default();
    kind.ends_with(":rateLimited") || problem.status == Some(StatusCode::TOO_MANY_REQUESTS.as_u16())
}

fn sentence(why: &anyhow::Error, directory: &str) -> anyhow::Error {
    let message = match why.downcast_ref::<Error>() {
        Some(error @ Error::Api(problem)) => {
            let detail = problem.detail.as_deref().unwrap_or("it does not say why");
            let kind = problem.r#type.as_deref().unwrap_or("no type");
            let verb = if is_limit(error) {
                "was asked too often"
            } else {
                "refuses"
            };
            format!("{directory} {verb}: {detail} ({kind})")
        }
        Some(Error::Json(error)) => {
            format!("{directory} does not answer as an ACME directory does: {error}")
        }
        Some(Error::Timeout(_)) => format!("{directory} was not done within {PATIENCE:?}"),
        Some(error) => format!("{directory}: {error}"),
        None => format!("{directory}: {why:#}"),
    };
    anyhow!(message)
}

/// Our HTTP client, as the library wants one. It notes how long to wait.
struct Client {
    agent: Agent,
    wait: Arc<Mutex<Option<Duration>>>,
}

fn client(trust: Option<&[u8]>, wait: Arc<Mutex<Option<Duration>>>) -> anyhow::Result<Client> {
    let roots: Vec<Certificate<'static>> = match trust {
        None => return Ok(Client::of(RootCerts::WebPki, wait)),
        Some(pem) => ureq::tls::parse_pem(pem)
            .filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            })
            .collect(),
    };
    anyhow::ensure!(
        !roots.is_empty(),
        "`trust` names a file without a certificate"
    );
    Ok(Client::of(RootCerts::Specific(Arc::new(roots)), wait))
}

impl Client {
    fn of(roots: RootCerts, wait: Arc<Mutex<Option<Duration>>>) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(provider)
            .root_certs(roots)
            .build();
        let agent = Agent::config_builder()
            .timeout_global(Some(ANSWER))
            .http_status_as_error(false)
            .https_only(true)
            .user_agent(concat!("gen-topology/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls)
            .build();
        Self {
            agent: agent.into(),
            wait,
        }
    }
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let (agent, wait) = (self.agent.clone(), Arc::clone(&self.wait));
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let Ok(body) = body.collect().await;
            let body = body.to_bytes();
            let is_signed = !body.is_empty();
            // One request at a time, and nothing else to do meanwhile.
            let response = send(&agent, parts, &body)?;
            if let Some(time) = retry_after(&response) {
                *wait.lock().unwrap_or_else(PoisonError::into_inner) = Some(time);
            }
            if let Some(problem) = problem(&response).filter(|_| !is_signed) {
                return Err(problem);
            }
            let (parts, body) = response.into_parts();
            Ok(BytesResponse {
                parts,
                body: Box::new(body),
            })
        })
    }
}

fn send(
    agent: &Agent,
    parts: ureq::http::request::Parts,
    body: &Bytes,
) -> Result<Response<Bytes>, Error> {
    let other = |error: ureq::Error| match error {
        ureq::Error::Timeout(_) => Error::Other(format!("no answer within {ANSWER:?}").into()),
        error => Error::Other(error.into()),
    };
    let response = if body.is_empty() {
        agent.run(Request::from_parts(parts, ()))
    } else {
        agent.run(Request::from_parts(parts, body.to_vec()))
    };
    let (parts, mut read) = response.map_err(other)?.into_parts();
    let kind = parts.headers.get("content-type");
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.starts_with("text/html") {
        let why = format!(
            "it answers with a page ({}, text/html): is it an ACME directory?",
            parts.status
        );
        return Err(Error::Other(why.into()));
    }
    let bytes = read.with_config().limit(LARGEST).read_to_vec();
    Ok(Response::from_parts(parts, bytes.map_err(other)?.into()))
}

/// The problem in an answer that is no success, where the library does not look for one: it only does
/// in answers to what was signed.
fn problem(response: &Response<Bytes>) -> Option<Error> {
    if response.status().is_success() {
        return None;
    }
    let status = response.status();
    let mut problem: Problem = serde_json::from_slice(response.body()).unwrap_or(Problem {
        r#type: None,
        detail: Some(format!("it answers with {status}")),
        status: None,
        subproblems: Vec::new(),
    });
    problem.status = Some(status.as_u16());
    Some(Error::Api(problem))
}

/// How long a refused request asks us to wait; dates are not read.
fn retry_after(response: &Response<Bytes>) -> Option<Duration> {
    if response.status().is_success() {
        return None;
    }
    let seconds = response.headers().get("retry-after")?.to_str().ok()?;
    Some(Duration::from_secs(seconds.trim().parse().ok()?))
}
