//! HTTPS in a lab, with the real daemons and curl as the visitor: names choose certificates, HTTP
//! is sent on, and neither a renewal nor a move of the virtual IP costs an answer over HTTP/2.

#![expect(clippy::expect_used, reason = "a test may stop")]

use std::fs;
use std::io::Write as _;
use std::process::{Child, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gen_topology::certificate::authority::{Authority, Wish};
use gen_topology::certificate::store::Store;
use gen_topology::exec;
use gen_topology::topology::Code;
use serde_json::{Value, json};

use crate::common::lab::Bench;
use crate::common::{TOPOLOGY, TestEnvironment, not_run};

/// The problems that certificates can have; `every_flaw_of_a_certificate_is_told` makes each.
pub(crate) const FLAWS: [Code; 8] = [
    Code::UnreadableCertificate,
    Code::CertificateKeyMismatch,
    Code::CertificateExpired,
    Code::CertificateExpires,
    Code::IncompleteChain,
    Code::BrokenChain,
    Code::NameNotCertified,
    Code::NameNotServed,
];

/// Visitors of the load, each with one connection.
const VISITORS: usize = 8;
/// Requests of each; ten a second.
const REQUESTS: usize = 220;

fn now() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a clock");
    i64::try_from(since.as_secs()).expect("a time")
}

fn wish(name: &str, from: i64, days: i64) -> Wish {
    Wish {
        names: vec![name.to_owned()],
        addresses: Vec::new(),
        from,
        days,
    }
}

/// A lab with two certificates of files, whose authority is known to node-2, the visitor.
struct Site {
    bench: Bench,
    authority: Authority,
    store: Store,
}

impl Site {
    fn new() -> Option<Self> {
        let test = "https";
        if exec::find("curl").is_none() {
            not_run(&format!("{test}: curl is missing"));
            return None;
        }
        let bench = Bench::new(test, "topology.json")?;
        let text = fs::read_to_string(bench.topology()).expect("a topology");
        let mut topology: Value = serde_json::from_str(&text).expect("JSON");
        topology["load_balancer"]["tls"] = json!({
            "names": ["one.example", "two.example"],
            "files": ["one.pem", "two.pem"],
        });
        fs::write(bench.topology(), topology.to_string()).expect("a topology");
        let secrets = bench.directory.path().join(".gen-topology/secrets");
        let site = Self {
            authority: Authority::make("test", now() - 100).expect("an authority"),
            store: Store::of(&secrets),
            bench,
        };
        site.certify("one");
        site.certify("two");
        Some(site)
    }

    /// Makes a new certificate; its serial number.
    fn certify(&self, name: &str) -> String {
        let host = format!("{name}.example");
        let pem = self
            .authority
            .sign(&wish(&host, now() - 100, 90))
            .expect("a certificate");
        self.put(name, &pem);
        let bundle = gen_topology::certificate::Bundle::read(pem.as_bytes());
        bundle.expect("a certificate").serial().to_owned()
    }

    fn put(&self, name: &str, pem: &str) {
        self.store
            .put(&format!("{name}.pem"), pem.as_bytes())
            .expect("written");
    }

    /// curl in node-2, with the authority's certificate on its standard input.
    fn visitor(&self, arguments: &str) -> Child {
        let names = ["one", "two"].map(|name| {
            format!(
                "--resolve {name}.example:443:10.20.0.10 --resolve {name}.example:80:10.20.0.10"
            )
        });
        let script = format!(
            "f=$(mktemp) && cat > $f && exec curl -sS --http2 --cacert $f {} {arguments}",
            names.join(" ")
        );
        let mut command = self
            .bench
            .command(&["lab", "exec", "node-2", "--", "sh", "-c", &script]);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("curl");
        let mut pipe = child.stdin.take().expect("a pipe");
        pipe.write_all(self.authority.certificate.as_bytes())
            .expect("written");
        drop(pipe);
        child
    }

    /// What curl printed, and what it complained of.
    fn visit(&self, arguments: &str) -> String {
        let output = self.visitor(arguments).wait_with_output().expect("curl");
        [output.stdout, output.stderr]
            .map(|text| String::from_utf8_lossy(&text).into_owned())
            .concat()
    }

    /// Serial number of the certificate that visitors get who ask for a name.
    fn serial(&self, name: &str) -> String {
        let host = format!("{name}.example");
        let script = format!(
            "openssl s_client -connect 10.20.0.10:443 -servername {host} </dev/null 2>/dev/null \
             | openssl x509 -noout -serial"
        );
        let said = self
            .bench
            .expect(&["lab", "exec", "node-2", "--", "sh", "-c", &script], 0);
        said.trim()
            .trim_start_matches("serial=")
            .trim_start_matches('0')
            .to_owned()
    }
}

impl Site {
    /// What openssl says of two sessions, one of TLS 1.2 and one of 1.3, that are kept or gone on with.
    fn sessions(&self, what: &str) -> Vec<String> {
        let visit = |version: &str| {
            let script = format!(
                "(echo; sleep 1) | openssl s_client -connect 10.20.0.10:443 -servername one.example \
                 -{version} -{what} /run/session-{version} 2>/dev/null | grep -E '^(New|Reused), '"
            );
            let command = ["lab", "exec", "node-2", "--", "sh", "-c", &script];
            self.bench.expect(&command, 0)
        };
        ["tls1_2", "tls1_3"].map(visit).to_vec()
    }
}

#[test]
fn https_is_served_renewed_and_moved_without_a_loss() {
    let Some(site) = Site::new() else { return };
    let bench = &site.bench;
    bench.expect(&["lab", "up", "--wait"], 0);
    serves(&site);
    refuses_what_does_not_fit(&site);
    let load: Vec<Child> = (0..VISITORS)
        .map(|_| {
            let url = format!("'https://one.example/readyz?[1-{REQUESTS}]'");
            site.visitor(&format!("--rate 10/s -o /dev/null -w '%{{http_code}} %{{http_version}} %{{num_connects}}\\n' {url}"))
        })
        .collect();
    std::thread::sleep(Duration::from_secs(2));
    let renewed = site.certify("one");
    let said = bench.expect(&["lab", "renew"], 0);
    assert!(
        said.contains("node-1: loaded one.pem, 89 days left"),
        "{said}"
    );
    assert!(!said.contains("two.pem"), "it has not changed: {said}");
    assert_eq!(site.serial("one"), renewed.trim_start_matches('0'));
    // The virtual IP leaves and comes back, both times on purpose.
    let begun = site.sessions("sess_out");
    assert!(begun.iter().all(|said| said.contains("New, ")), "{begun:?}");
    bench.expect(&["lab", "stop", "node-1"], 0);
    let went_on = site.sessions("sess_in");
    assert!(
        went_on.iter().all(|said| said.contains("Reused, ")),
        "node-5 does not go on with the sessions that node-1 began: {went_on:?}"
    );
    bench.expect(&["lab", "start", "node-1"], 0);
    let mut moved = 0;
    for visitor in load {
        let output = visitor.wait_with_output().expect("curl");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let good = said
            .lines()
            .filter(|line| line.starts_with("200 2 "))
            .count();
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(good, REQUESTS, "{why}{said}");
        moved += said.lines().filter(|line| line.ends_with(" 1")).count() - 1;
    }
    // All left node-1 when it stopped, and some node-5 before their last request.
    assert!(
        moved > VISITORS,
        "{moved} new connections: some have not left the old owner"
    );
    let log = bench.expect(&["lab", "logs", "node-5"], 0);
    assert!(
        log.contains("who is still connected is sent there"),
        "{log}"
    );
    assert_eq!(
        site.serial("one"),
        renewed.trim_start_matches('0'),
        "after the restart, too"
    );
    let status = bench.expect(&["lab", "status"], 0);
    assert!(status.contains("certificate valid for 89 days"), "{status}");
    tells_collectors(&site);
    bad_certificates_cost_nothing(&site);
}

/// When each certificate expires, as a collector of figures reads it.
fn tells_collectors(site: &Site) {
    let figures = "/run/gen-topology/certificates.prom";
    let said = site
        .bench
        .expect(&["lab", "exec", "node-1", "--", "cat", figures], 0);
    for file in ["one.pem", "two.pem"] {
        let name = format!("gen_topology_certificate_expiry_timestamp_seconds{{file=\"{file}\"}} ");
        let value = said.lines().find_map(|line| line.strip_prefix(&name));
        let at: i64 = value.and_then(|value| value.parse().ok()).expect("a time");
        let days = (at - now()) / 86_400;
        assert_eq!(days, 89, "{said}");
    }
    assert!(
        said.contains("\ngen_topology_certificate_renewal_failed 0\n"),
        "{said}"
    );
}

/// Faults with HTTPS: a bad certificate is refused, and the visitors' load, which is HTTPS, loses nothing.
fn bad_certificates_cost_nothing(site: &Site) {
    let before = ["one", "two"].map(|name| site.serial(name));
    let names = [
        "certificate-wrong-key",
        "certificate-expired",
        "renewal-fails",
    ];
    let run = [
        "faults", "run", "--rate", "50", "--retry", "--format", "json",
    ];
    let output = site.bench.command(&[&run[..], &names].concat()).output();
    let output = output.expect("a run");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let run: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let trials = run["trials"].as_array().expect("trials");
    assert!(trials.len() >= 2, "{said}");
    for trial in trials {
        let requests = &trial["measured"]["requests"];
        assert_eq!(requests["failed"], json!({}), "{trial}");
        assert!(requests["sent"].as_u64() > Some(100), "{trial}");
    }
    assert!(
        said.contains("no certificate is asked for by ACME"),
        "{said}"
    );
    assert_eq!(["one", "two"].map(|name| site.serial(name)), before);
}

fn serves(site: &Site) {
    for name in ["one", "two"] {
        let said = site.visit(&format!("-o /dev/null -D - https://{name}.example/readyz"));
        assert!(said.starts_with("HTTP/2 200"), "{said}");
        assert!(
            said.contains("strict-transport-security: max-age=31536000"),
            "{said}"
        );
    }
    let said = site.visit("-D - -d a=b 'http://two.example/x?y=z'");
    assert!(
        said.starts_with("HTTP/1.1 308") && said.contains("location: https://two.example/x?y=z"),
        "{said}"
    );
    assert!(!said.contains("strict-transport"), "not over HTTP: {said}");
    let said = site.visit("--tls-max 1.1 https://one.example/");
    assert!(said.contains("protocol version"), "{said}");
}

fn refuses_what_does_not_fit(site: &Site) {
    let before = site.serial("one");
    let good = String::from_utf8(site.store.read("one.pem").expect("a file")).expect("text");
    let other = site
        .authority
        .sign(&wish("one.example", now() - 100, 90))
        .expect("a certificate");
    let key = |pem: &str| pem.find("-----BEGIN PRIVATE").expect("a key");
    let mixed = good[..key(&good)].to_owned() + &other[key(&other)..];
    let old = site
        .authority
        .sign(&wish("one.example", now() - 10 * 86_400, 5))
        .expect("a certificate");
    for (pem, code) in [
        (&mixed, "certificate-key-mismatch"),
        (&old, "certificate-expired"),
    ] {
        site.put("one", pem);
        let said = site.bench.expect(&["lab", "renew"], 1);
        assert!(
            said.contains("one.pem is not loaded") && said.contains(code),
            "{said}"
        );
        assert_eq!(site.serial("one"), before);
        let said = site.bench.expect(&["check"], 3);
        assert!(
            said.contains(code) && said.contains("\"one.pem\""),
            "{said}"
        );
    }
    site.put("one", &good);
}

#[test]
fn every_flaw_of_a_certificate_is_told() {
    let authority = Authority::make("test", now() - 400 * 86_400).expect("an authority");
    let other = Authority::make("test", now() - 400 * 86_400).expect("an authority");
    let sign = |name: &str, from: i64, days: i64| {
        authority
            .sign(&wish(name, now() + from * 86_400 - 60, days))
            .expect("a certificate")
    };
    let parts = |pem: &str| {
        let at = pem.find("-----BEGIN PRIVATE").expect("a key");
        (pem[..at].to_owned(), pem[at..].to_owned())
    };
    let (certificate, key) = parts(&sign("a.example", 0, 90));
    let root = &authority.certificate;
    let whole = |name: &str, from: i64, days: i64| {
        let (certificate, key) = parts(&sign(name, from, days));
        certificate + root + &key
    };
    let locked = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let foreign = parts(&sign("a.example", 0, 90)).1;
    let cases = [
        (
            Some(Code::UnreadableCertificate),
            certificate.clone() + &locked,
        ),
        (Some(Code::UnreadableCertificate), "<!doctype html>".into()),
        (
            Some(Code::CertificateKeyMismatch),
            certificate.clone() + root + &foreign,
        ),
        (Some(Code::CertificateExpired), whole("a.example", -100, 90)),
        (Some(Code::CertificateExpired), whole("a.example", 5, 90)),
        (Some(Code::CertificateExpires), whole("a.example", -80, 90)),
        (Some(Code::IncompleteChain), certificate.clone() + &key),
        (
            Some(Code::BrokenChain),
            certificate.clone() + &other.certificate + &key,
        ),
        (Some(Code::NameNotCertified), whole("b.example", 0, 90)),
        (Some(Code::NameNotServed), whole("b.example", 0, 90)),
        (None, whole("a.example", 0, 90)),
    ];
    for (code, pem) in &cases {
        let found = check(pem);
        let expected: Vec<&str> = code.iter().map(|code| code.name()).collect();
        assert!(
            expected
                .iter()
                .all(|code| found.contains(&(*code).to_owned())),
            "{found:?} without {expected:?}"
        );
        assert!(code.is_some() || found.is_empty(), "{found:?}");
    }
    for flaw in FLAWS {
        assert!(
            cases.iter().any(|(code, _)| *code == Some(flaw)),
            "{flaw} is not tried"
        );
    }
}

/// The codes that `check` finds in a stack with this certificate; nothing of the file is printed.
fn check(pem: &str) -> Vec<String> {
    let environment = TestEnvironment::with(topology().to_string());
    let secrets = environment.path(".gen-topology/secrets");
    Store::of(&secrets)
        .put("site.pem", pem.as_bytes())
        .expect("written");
    let said = environment.run(&["check", "--format", "json"]);
    assert!(!said.text().contains("BEGIN"), "{}", said.text());
    let found: Value = serde_json::from_str(&said.stdout).expect("JSON");
    let problems = found["problems"].as_array().expect("problems");
    let is_ours = |problem: &&Value| {
        !problem["code"]
            .as_str()
            .expect("a code")
            .starts_with("no-spare")
    };
    let codes = problems
        .iter()
        .filter(is_ours)
        .map(|problem| problem["code"].as_str().expect("a code"));
    codes.map(str::to_owned).collect()
}

fn topology() -> Value {
    let mut topology: Value = serde_json::from_str(TOPOLOGY).expect("JSON");
    topology["load_balancer"] = json!({ "tls": { "names": ["a.example"], "files": ["site.pem"] } });
    topology
}

#[test]
fn certificates_that_an_export_can_not_bring_are_refused() {
    let lab = json!({ "names": ["a.example"], "authority": "lab" });
    let two = json!({ "names": ["a.example"], "files": ["a.pem", "b.pem"] });
    let refused = |tls: &Value, format: &str| {
        let mut topology = topology();
        topology["load_balancer"]["tls"] = tls.clone();
        let environment = TestEnvironment::with(topology.to_string());
        let said = environment.run(&["export", format, "--output", "out"]);
        let said = said.exits(1);
        assert!(!environment.path("out").exists());
        said.stderr.clone()
    };
    for format in [
        "compose",
        "kubernetes",
        "ansible",
        "vagrant",
        "openstack",
        "opentofu",
    ] {
        let said = refused(&lab, format);
        let part = "load_balancer.tls.authority: the lab's own authority";
        assert!(said.contains(part), "{format}: {said}");
        assert!(said.contains("(not-exportable)"), "{format}: {said}");
    }
    let acme = json!({ "names": ["a.example"], "acme": {} });
    for format in ["compose", "kubernetes", "ansible", "vagrant"] {
        let said = refused(&acme, format);
        assert!(
            said.contains("load_balancer.tls.acme: nothing"),
            "{format}: {said}"
        );
    }
    let said = refused(&two, "kubernetes");
    assert!(
        said.contains("load_balancer.tls.files: an Ingress"),
        "{said}"
    );
}
