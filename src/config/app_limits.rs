//! How much and how long one application works: the numbers that haproxy, nginx, gunicorn and
//! supervisord have to agree on, derived in one place.

use serde::Serialize;

use crate::topology::{App, Millis, Worker};

/// Connections that one ASGI worker serves at the same time; gunicorn's `worker_connections`.
const ASGI_CONNECTIONS: u32 = 1000;
/// nginx's `limit_conn` counts no further (`ngx_http_limit_conn_module`: below 65536).
const MOST: u32 = 65_535;

/// Limits of an application. Each layer gives up after the one below it, and says so upwards.
#[derive(Clone, Debug, Serialize)]
pub struct AppLimits {
    /// nginx gives up on an answer after this silence: `app.longest_request`.
    pub nginx: Millis,
    /// haproxy does, 3 s later.
    pub haproxy: Millis,
    /// How long a websocket may be silent.
    pub idle: Millis,
    /// How long haproxy waits for a body before it decides where the request goes.
    pub body: Millis,
    /// How long gunicorn lets requests end when it stops, in seconds.
    pub graceful: u64,
    /// How long supervisord waits for that, in seconds.
    pub stop: u64,
    /// Visitors' requests that one app node works on at the same time; more wait in haproxy,
    /// from where they can still go elsewhere. Some threads are left for health checks.
    pub requests: u32,
}

impl AppLimits {
    pub(super) fn of(app: &App) -> Self {
        let longest = app.longest_request;
        let graceful = longest.get().div_ceil(1000) + 5;
        Self {
            nginx: longest,
            haproxy: Millis::new(longest.get() + 3000),
            idle: app.idle_timeout,
            body: longest.max(Millis::new(30_000)),
            graceful,
            stop: graceful + 5,
            requests: requests(app),
        }
    }
}

fn requests(app: &App) -> u32 {
    let workers = u32::from(app.instances) * u32::from(app.workers);
    match app.worker {
        Worker::Asgi => (workers * ASGI_CONNECTIONS).min(MOST),
        Worker::Threads => {
            let threads = workers * u32::from(app.threads);
            // One in sixteen, and at least one of each instance, so that a health check
            // finds a thread although every visitor's request is slow.
            let spare = (threads / 16).max(u32::from(app.instances));
            threads.saturating_sub(spare).clamp(1, MOST)
        }
    }
}
