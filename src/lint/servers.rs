//! Traps in how haproxy learns that a server is gone.

use super::cost::time;
use super::site::shared;
use super::{Code, Cost, Findings};
use crate::native::haproxy::{Check, HttpCheck, Proxy, Server};
use crate::topology::Millis;

/// Longest detection of a dead server that is not called slow, in milliseconds.
const DETECTION: Millis = Millis::new(3000);

/// How the servers of a proxy are checked; `server` stands for all of them.
pub(super) fn check(
    proxy: &Proxy<'_>,
    server: &Server,
    servers: usize,
    findings: &mut Findings<'_>,
) {
    let line = server.directive.span();
    let blind = match proxy.check() {
        Check::Connect => true,
        Check::Other(option) => {
            option.word(1) == "tcp-check" && proxy.directives(&["tcp-check", "expect"]).is_empty()
        }
        Check::Http(check) => {
            http_check(&check, findings);
            false
        }
    };
    if blind && proxy.mode() == "http" {
        let share = match proxy
            .directive(&["balance"])
            .map_or("roundrobin", |line| line.word(1))
        {
            "leastconn" => format!(
                "up to 88 % of requests (measured, {servers} servers or so): a quick error looks like a free server"
            ),
            _ => format!("1 of {servers} requests"),
        };
        findings.costly(
            Code::CheckTcpOnly,
            line.clone(),
            format!("the check of `{}` only connects: it passes when the app behind the web server is dead", server.name),
            "`option httpchk` with a path that the app answers, and `http-check expect status 200`",
            Cost::endless(share),
        );
    }
    durations(proxy, server, findings);
}

fn http_check(check: &HttpCheck<'_>, findings: &mut Findings<'_>) {
    let at = check.directive.span();
    if check.expect.is_empty() {
        findings.note(
            Code::CheckAcceptsRedirects,
            at.clone(),
            "any answer of 2xx and 3xx passes this check",
            "`http-check expect status 200`",
        );
    }
    if check.uri == "/" {
        findings.note(
            Code::CheckAsksRoot,
            at.clone(),
            "this check asks `/`, which may be answered without the app",
            "ask a path that the app answers with 200 when it can serve",
        );
    }
    if !check.disable_on_404 {
        findings.note(
            Code::DrainBy404Missing,
            at,
            "the app can't ask to be drained: 404 takes it out like any error",
            "`http-check disable-on-404`",
        );
    }
}

fn durations(proxy: &Proxy<'_>, server: &Server, findings: &mut Findings<'_>) {
    let limit = proxy.timeout("check");
    // A value that comes from outside of the file.
    if server.is_indefinite() || (limit.is_none() && proxy.has_timeout("check")) {
        return;
    }
    let (inter, fastinter, fall) = (
        server.inter().seconds(),
        server.fastinter().seconds(),
        server.fall(),
    );
    let waits = format!(
        "inter {} + (fall {fall} - 1) × {}",
        time(inter),
        time(fastinter)
    );
    let hang = server
        .longest_detection(server.check_timeout(limit))
        .seconds();
    let limit_used = time(server.check_timeout(limit).seconds());
    let cost = Cost::of(
        hang,
        format!("{waits} + {fall} × {limit_used}, for a server that hangs"),
    );
    match limit {
        None => findings.costly(
            Code::CheckTimeoutMissing,
            shared(proxy),
            format!(
                "a check of `{}` may take a whole interval, because `timeout check` is not set",
                proxy.name()
            ),
            "`timeout check 500ms`",
            cost,
        ),
        // Where a server that hangs is out soon all the same, a busy one should have its time.
        Some(limit) if limit > server.inter() && hang > DETECTION.seconds() => {
            let at = proxy
                .directive(&["timeout", "check"])
                .map_or(0..0, crate::native::Directive::span);
            findings.costly(
                Code::CheckTimeoutOverInter,
                at,
                format!(
                    "a check may take {limit}, longer than the {} between two",
                    server.inter()
                ),
                "keep `timeout check` below `inter`",
                cost,
            );
        }
        Some(_) => {}
    }
    slow(proxy, server, waits, findings);
}

/// How long a dead server is kept.
fn slow(proxy: &Proxy<'_>, server: &Server, waits: String, findings: &mut Findings<'_>) {
    let inter = server
        .options
        .get("inter")
        .map_or(server.directive.span(), |setting| setting.span.clone());
    let quick = server.longest_detection(Millis::new(0));
    if quick > DETECTION {
        findings.costly(
            Code::SlowDetection,
            inter,
            format!(
                "a dead server of `{}` is taken out after up to {}",
                proxy.name(),
                time(quick.seconds())
            ),
            "`inter 1s fastinter 100ms fall 2`",
            Cost::of(quick.seconds(), waits),
        );
    }
}

/// What happens to servers that fail.
pub(super) fn marks(proxy: &Proxy<'_>, servers: &[Server], findings: &mut Findings<'_>) {
    let found = |option: &str, value: &str| {
        let mut settings = servers
            .iter()
            .filter(|server| server.value(option) == Some(value));
        settings
            .next()
            .and_then(|server| server.options.get(option))
    };
    // With long sessions, as to a database, it moves the clients, and rightly so.
    let sessions = found("on-marked-down", "shutdown-sessions");
    if let Some(setting) = sessions.filter(|_| proxy.mode() == "http") {
        findings.costly(
            Code::ShutdownSessions,
            setting.span.clone(),
            "requests that are still connecting to a server that goes down are ended and not repeated",
            "leave it out; `timeout server` ends what hangs",
            Cost::loss("the requests that are connecting at that moment"),
        );
    }
    if let Some(setting) = found("on-error", "mark-down") {
        findings.costly(
            Code::MarkDownOnErrors,
            setting.span.clone(),
            "one page that answers 500 takes out one healthy server after the other",
            "`on-error sudden-death`: the check has the last word",
            Cost::endless("every server, as long as somebody asks for that page"),
        );
    }
}
