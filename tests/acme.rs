//! Certificates by ACME: in a lab, of Debian's pebble, with nodes that fail meanwhile; and what is said of
//! authorities that refuse, are none, or are not there.

#![expect(clippy::expect_used, reason = "a test may stop")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gen_topology::certificate::acme::{self, Refusal, Wanted};
use gen_topology::certificate::authority::{Authority, Wish};
use gen_topology::certificate::store::Store;
use gen_topology::exec;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use crate::common::lab::Bench;
use crate::common::not_run;
use crate::lab::wait;

/// The node that the authority runs on; it visits the virtual IP as anybody does.
const HOME: &str = "node-2";

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(since.expect("a clock").as_secs()).expect("a time")
}

/// A root, and a certificate of it with its key for an authority's own door.
fn door(address: Ipv4Addr) -> (String, String) {
    let root = Authority::make("test", now() - 100).expect("an authority");
    let wish = Wish {
        names: Vec::new(),
        addresses: vec![address],
        from: now() - 100,
        days: 9,
    };
    let door = root.sign(&wish).expect("a certificate");
    (root.certificate, door)
}

/// A lab that asks pebble, which is not started yet.
struct Site {
    bench: Bench,
    /// pebble's own certificate with its key.
    door: String,
}

impl Site {
    fn new() -> Option<Self> {
        let test = "acme";
        for program in ["pebble", "pebble-challtestsrv", "curl"] {
            if exec::find(program).is_none() {
                not_run(&format!("{test}: {program} is missing"));
                return None;
            }
        }
        let bench = Bench::new(test, "topology.json")?;
        let text = fs::read_to_string(bench.topology()).expect("a topology");
        let mut topology: Value = serde_json::from_str(&text).expect("JSON");
        let address = topology["nodes"][HOME]["address"].as_str();
        let address: Ipv4Addr = address.expect("text").parse().expect("an address");
        topology["load_balancer"]["tls"] = json!({
            "names": ["one.example", "two.example"],
            "acme": { "directory": format!("https://{address}:14000/dir"), "trust": "root.pem" },
        });
        fs::write(bench.topology(), topology.to_string()).expect("a topology");
        let (root, door) = door(address);
        let secrets = bench.directory.path().join(".gen-topology/secrets");
        let put = Store::of(&secrets).put("root.pem", root.as_bytes());
        put.expect("written");
        Some(Self { bench, door })
    }

    fn on(&self, node: &str, script: &str) -> String {
        self.bench
            .expect(&["lab", "exec", node, "--", "sh", "-c", script], 0)
    }

    /// Starts the authority, and opens its door to the load balancers.
    fn open(&self) {
        let at = self.door.find("-----BEGIN PRIVATE").expect("a key");
        let config = json!({ "pebble": {
            "listenAddress": "0.0.0.0:14000",
            "managementListenAddress": "127.0.0.1:15000",
            "certificate": "/tmp/pebble/door.pem",
            "privateKey": "/tmp/pebble/door.key",
            "httpPort": 80,
            "tlsPort": 443,
            // Half a day more: a whole number of days would be on the edge of another one.
            "certificateValidityPeriod": 7 * 86_400 + 43_200,
        }});
        let script = format!(
            "mkdir -p /tmp/pebble && cd /tmp/pebble && printf %s '{}' > door.pem && printf %s '{}' > door.key
             printf %s '{config}' > config.json
             pebble-challtestsrv -defaultIPv4 10.20.0.10 -defaultIPv6 '' -dns01 127.0.0.1:8053 -http01 '' \
               -https01 '' -tlsalpn01 '' -management 127.0.0.1:8055 > names.log 2>&1 &
             PEBBLE_VA_NOSLEEP=1 PEBBLE_AUTHZREUSE=0 pebble -config /tmp/pebble/config.json \
               -dnsserver 127.0.0.1:8053 > /tmp/pebble/log 2>&1 &
             nft insert rule inet gen_topology_firewall input tcp dport 14000 accept",
            &self.door[..at],
            &self.door[at..],
        );
        self.on(HOME, &script);
        wait("pebble", || {
            let said = self.on(HOME, "curl -sk https://127.0.0.1:15000/roots/0 || true");
            said.contains("BEGIN CERTIFICATE")
        });
    }

    /// Where the names lead to, by the authority's own DNS.
    fn lead_names_to(&self, address: &str) {
        self.on(
            HOME,
            &format!(
                "curl -sS -d '{{\"ip\":\"{address}\"}}' http://127.0.0.1:8055/set-default-ipv4"
            ),
        );
    }

    /// Whoever is not ready just now.
    fn status(&self) -> String {
        let output = self.bench.command(&["lab", "status"]).output();
        String::from_utf8_lossy(&output.expect("status").stdout).into_owned()
    }

    /// Waits until a load balancer has the virtual IP.
    fn is_at(&self, node: &str) {
        wait("the virtual IP", || {
            self.status()
                .lines()
                .any(|line| line.starts_with(node) && line.contains("has the virtual IP"))
        });
    }

    /// Waits until a load balancer has what visitors get.
    fn follows(&self, node: &str) {
        let shown = self.serial();
        wait("the certificate", || {
            let script = "openssl x509 -noout -serial -in /var/lib/gen-topology-acme/acme.pem";
            self.on(node, script) == shown
        });
    }

    /// Serial number of the certificate that visitors get.
    fn serial(&self) -> String {
        self.on(
            HOME,
            "openssl s_client -connect 10.20.0.10:443 -servername one.example </dev/null 2>/dev/null \
             | openssl x509 -noout -serial",
        )
    }
}

#[test]
fn a_certificate_is_got_renewed_and_followed() {
    let Some(site) = Site::new() else { return };
    let bench = &site.bench;
    // Nobody is there to be asked, and the stack works all the same.
    bench.expect(&["lab", "up", "--wait"], 0);
    site.is_at("node-1");
    let status = site.status();
    assert!(status.contains("no new certificate: "), "{status}");
    assert!(!status.contains("certificate valid for"), "{status}");
    site.open();
    let said = bench.expect(&["lab", "renew"], 0);
    assert!(
        said.contains("node-1: https://") && said.contains("gave a certificate, 7 days left"),
        "{said}"
    );
    site.follows("node-5");
    let status = site.status();
    assert!(
        status.contains("certificate valid for 7 days") && !status.contains("no new certificate"),
        "{status}"
    );
    // Who trusts the authority finds nothing wrong, and what is no challenge is sent on as ever.
    let script = "curl -sk https://127.0.0.1:15000/roots/0 > /tmp/root.pem
        for name in one.example two.example; do
          curl -sS --cacert /tmp/root.pem --resolve $name:443:10.20.0.10 -o /dev/null -w '%{http_code} ' https://$name/readyz
        done
        curl -s -o /dev/null -w %{http_code} http://10.20.0.10/.well-known/acme-challenge/";
    assert_eq!(site.on(HOME, script).trim(), "200 200 308");
    renewed_under_load(&site);
    refused(&site);
    out_of_reach(&site);
    owner_stops_meanwhile(&site);
}

/// The fault: the authority can't be reached from where it is asked.
fn out_of_reach(site: &Site) {
    let before = site.serial();
    let run = ["faults", "run", "renewal-fails", "--rate", "50", "--retry"];
    let said = site.bench.expect(&run, 0);
    assert!(said.contains("renewal-fails (node-1): 0 of "), "{said}");
    assert_eq!(site.serial(), before);
    let renewed = site.bench.expect(&["lab", "renew"], 0);
    assert!(renewed.contains("gave a certificate"), "{renewed}");
}

fn renewed_under_load(site: &Site) {
    let bench = &site.bench;
    let before = site.serial();
    let script = "exec curl -sS --http2 --cacert /tmp/root.pem --resolve one.example:443:10.20.0.10 \
        --rate 25/s -o /dev/null -w '%{http_code}\\n' 'https://one.example/readyz?[1-150]'";
    let load = bench
        .command(&["lab", "exec", HOME, "--", "sh", "-c", script])
        .stdout(Stdio::piped())
        .spawn()
        .expect("curl");
    for _ in 0..3 {
        bench.expect(&["lab", "renew"], 0);
    }
    let output = load.wait_with_output().expect("curl");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let good = said.lines().filter(|line| *line == "200").count();
    assert_eq!(good, 150, "{said}");
    assert_ne!(site.serial(), before);
}

fn refused(site: &Site) {
    let before = site.serial();
    site.lead_names_to("10.20.0.99");
    let said = site.bench.expect(&["lab", "renew"], 1);
    assert!(
        said.contains("refuses") && said.contains(".example:80"),
        "{said}"
    );
    assert_eq!(site.serial(), before, "the old one is still served");
    let status = site.status();
    assert!(
        status.contains("certificate valid for 7 days; no new certificate: https://"),
        "{status}"
    );
    site.lead_names_to("10.20.0.10");
}

/// The load balancer that asks is stopped in the middle: the other one gets the certificate, and the first
/// follows when it is back.
fn owner_stops_meanwhile(site: &Site) {
    let bench = &site.bench;
    let before = site.serial();
    let program = "/etc/gen-topology/gen-topology";
    let arguments = [
        "lab",
        "exec",
        "node-1",
        "--",
        program,
        "node",
        "renew-certificates",
        "--once",
        "--anyway",
    ];
    let asking = bench
        .command(&arguments)
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn();
    bench.expect(&["lab", "stop", "node-1", "--power-off"], 0);
    // Whether it was done or not: it has ended.
    let _ = asking.expect("a renewal").wait();
    site.is_at("node-5");
    let said = bench.expect(&["lab", "renew"], 0);
    assert!(
        said.contains("node-5: https://") && said.contains("gave a certificate"),
        "{said}"
    );
    let after = site.serial();
    assert_ne!(after, before);
    bench.expect(&["lab", "start", "node-1"], 0);
    site.follows("node-1");
}

/// An HTTPS server that gives one answer to every request: its address, and the root that it is trusted by.
fn server(answer: &'static str) -> (String, String) {
    let (root, own) = door(Ipv4Addr::LOCALHOST);
    let chain = vec![CertificateDer::from_pem_slice(own.as_bytes()).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_slice(own.as_bytes()).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a certificate");
    let config = Arc::new(config);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten().take(4) {
            let session = ServerConnection::new(Arc::clone(&config)).expect("a session");
            let mut stream = BufReader::new(StreamOwned::new(session, stream));
            let mut line = String::new();
            while stream.read_line(&mut line).is_ok_and(|read| read > 2) {
                line.clear();
            }
            let stream = stream.get_mut();
            let _ = stream.write_all(answer.as_bytes());
            stream.conn.send_close_notify();
            let _ = stream.flush();
            let _ = stream.sock.read(&mut [0; 64]);
        }
    });
    (format!("https://{address}/dir"), root)
}

fn order(directory: &str, root: Option<&str>) -> Refusal {
    let names = ["one.example".to_owned()];
    let wanted = Wanted {
        directory,
        trust: root.map(str::as_bytes),
        names: &names,
    };
    let key = || rcgen::KeyPair::generate().expect("a key").serialize_pem();
    acme::order(wanted, &key(), &key()).expect_err("a refusal")
}

fn said(refusal: &Refusal) -> String {
    format!("{:#}", refusal.why)
}

#[test]
fn what_is_no_authority_is_told() {
    let (page, root) =
        server("HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 6\r\n\r\n<html>");
    let why = said(&order(&page, Some(&root)));
    assert!(
        why.contains("text/html): is it an ACME directory?") && why.contains(&page),
        "{why}"
    );
    let why = said(&order(&page, None));
    assert!(why.contains("UnknownIssuer"), "it is not trusted: {why}");
    let (odd, root) =
        server("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}");
    let why = said(&order(&odd, Some(&root)));
    assert!(
        why.contains("does not answer as an ACME directory does"),
        "{why}"
    );
    let why = said(&order("https://127.0.0.1:1/dir", None));
    assert!(
        why.contains("https://127.0.0.1:1/dir") && why.contains("refused"),
        "{why}"
    );
}

#[test]
fn an_authority_that_was_asked_too_often_is_left_alone() {
    let (busy, root) = server(
        "HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/problem+json\r\n\
         retry-after: 7200\r\ncontent-length: 78\r\n\r\n\
         {\"type\":\"urn:ietf:params:acme:error:rateLimited\",\"detail\":\"too many requests\"}",
    );
    let refusal = order(&busy, Some(&root));
    assert_eq!(refusal.wait, Some(Duration::from_secs(7200)));
    let why = said(&refusal);
    assert!(
        refusal.too_often && why.contains("was asked too often: too many requests"),
        "{why}"
    );
}
