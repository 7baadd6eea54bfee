//! Applications as people bring them, Flask, Django and `FastAPI`, in a lab, asked through
//! the virtual IP: slow pages, uploads, slow clients, long lines, streams, websockets.

#![expect(clippy::expect_used, reason = "a test may stop")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::REPOSITORY;
use crate::common::lab::Bench;
use crate::lab::wait;

/// A lab with another application, and a port of this machine that leads to it.
pub(crate) struct Site {
    pub(crate) bench: Bench,
    forward: Child,
    address: String,
}

impl Site {
    /// A lab that serves `tests/fixtures/web/NAME` with these keys of `app`.
    fn start(test: &str, name: &str, keys: &Value) -> Option<Self> {
        let bench = Bench::new(test, "topology.json")?;
        let text = fs::read_to_string(bench.topology()).expect("a topology");
        let topology = serde_json::from_str(&text).expect("JSON");
        Some(Self::of(bench, topology, name, keys))
    }

    /// The same with another topology.
    pub(crate) fn of(bench: Bench, mut topology: Value, name: &str, keys: &Value) -> Self {
        let source = Path::new(REPOSITORY).join("tests/fixtures/web").join(name);
        topology["app"] = json!({ "source": source });
        let settings = keys.as_object().expect("an object").clone();
        topology["app"]
            .as_object_mut()
            .expect("an object")
            .extend(settings);
        fs::write(bench.topology(), topology.to_string()).expect("a topology");
        Self::up(bench)
    }

    /// A lab of the topology that is there.
    pub(crate) fn up(bench: Bench) -> Self {
        bench.expect(&["lab", "up", "--wait"], 0);
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = free.local_addr().expect("an address").to_string();
        drop(free);
        let forward = bench
            .command(&["lab", "forward", "--listen", &address])
            .spawn()
            .expect("the program");
        let site = Self {
            bench,
            forward,
            address,
        };
        wait("the forwarded port", || {
            TcpStream::connect(&site.address).is_ok()
        });
        site
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).expect("the forwarded port");
        let limit = Some(Duration::from_secs(60));
        stream.set_read_timeout(limit).expect("a limit");
        stream
    }

    /// The whole answer to one request: first line, headers, body.
    fn ask(&self, line: &str, headers: &str, body: &[u8]) -> String {
        let mut stream = self.connect();
        let length = body.len();
        let head = format!(
            "{line} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n",
            self.address
        );
        stream.write_all(head.as_bytes()).expect("a request");
        // A body that is refused may not be taken.
        let _ = stream.write_all(body);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub(crate) fn get(&self, path: &str) -> String {
        self.ask(&format!("GET {path}"), "", b"")
    }

    /// How often a word stands in the applications' logs.
    fn logged(&self, word: &str) -> usize {
        let nodes = fs::read_dir(self.bench.labs().join("web-stack/nodes")).expect("nodes");
        let logs = nodes.flatten().flat_map(|node| logs(&node.path()));
        logs.map(|text| text.matches(word).count()).sum()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.forward.kill();
        let _ = self.forward.wait();
    }
}

/// The text of every log of gunicorn below a node's directory.
fn logs(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && !path.is_symlink() {
            found.extend(logs(&path));
        } else if path.to_string_lossy().contains("gunicorn-") {
            found.extend(fs::read_to_string(&path));
        }
    }
    found
}

#[track_caller]
pub(crate) fn status(answer: &str, wanted: u16) {
    assert!(
        answer.starts_with(&format!("HTTP/1.1 {wanted} ")),
        "{wanted} wanted: {answer:.600}"
    );
}

fn json_of(answer: &str) -> Value {
    let body = answer.split("\r\n\r\n").nth(1).expect("a body");
    serde_json::from_str(body).expect("JSON")
}

#[test]
fn flask_with_a_factory_uploads_slow_pages_and_slow_clients() {
    let keys = json!({
        "entry": "shop:create_app()", "longest_request": "3s", "threads": 4,
        "largest_body": "1MiB", "static_directory": "assets", "env": {},
    });
    let Some(site) = Site::start("flask", "flask", &keys) else {
        return;
    };
    status(&site.get("/"), 200);
    what_the_application_is_told(&site);
    bodies_and_heads(&site);
    nothing_is_multiplied(&site);
    slow_requests_take_nothing_down(&site);
    let page = site.get("/static/style.css");
    status(&page, 200);
    let page = page.to_lowercase();
    assert!(page.contains("cache-control: max-age=3600"), "{page}");
    assert!(!page.contains("server: nginx"), "{page}");
}

fn what_the_application_is_told(site: &Site) {
    let lies = "X-Forwarded-For: 192.0.2.1\r\nX-Real-IP: 192.0.2.1\r\nForwarded: for=192.0.2.1\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: 1\r\n";
    let told = json_of(&site.ask("GET /where", lies, b""));
    let visitor = told["X-Forwarded-For"].as_str().expect("an address");
    assert!(visitor.parse::<std::net::Ipv4Addr>().is_ok(), "{told}");
    assert_ne!(visitor, "192.0.2.1");
    assert_eq!(told["X-Real-Ip"], visitor);
    assert_eq!(told["Forwarded"], Value::Null);
    assert_eq!(told["Host"], site.address.as_str());
    assert_eq!(told["X-Forwarded-Host"], site.address.as_str());
    assert_eq!(told["X-Forwarded-Proto"], "http");
    assert_eq!(told["X-Forwarded-Port"], "80");
    let moved = site.get("/old");
    let to = format!("Location: http://{}/\r\n", site.address).to_lowercase();
    assert!(moved.to_lowercase().contains(&to), "{moved}");
}

fn bodies_and_heads(site: &Site) {
    let body = vec![b'x'; 1 << 20];
    let answer = site.ask("POST /upload", "", &body);
    status(&answer, 200);
    assert_eq!(json_of(&answer)["bytes"], 1 << 20);
    status(
        &site.ask("POST /upload", "", &vec![b'x'; (1 << 20) + 1]),
        413,
    );
    status(&site.get(&format!("/?{}", "q".repeat(7_000))), 200);
    let cookie = format!("Cookie: c={}\r\n", "c".repeat(9_000));
    status(&site.ask("GET /", &cookie, b""), 200);
    // A phone: the body comes six seconds after its head.
    let mut stream = site.connect();
    stream
        .write_all(
            b"POST /upload HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 4\r\n\r\n",
        )
        .expect("a head");
    std::thread::sleep(Duration::from_secs(6));
    stream.write_all(b"late").expect("a body");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    status(&answer, 200);
}

fn nothing_is_multiplied(site: &Site) {
    let begun = Instant::now();
    status(&site.get("/slow/5"), 504);
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "{:?}",
        begun.elapsed()
    );
    status(&site.ask("POST /fail/post/503", "", b"x"), 503);
    assert_eq!(
        site.logged("FAIL post"),
        1,
        "a POST that was answered is not repeated"
    );
    status(&site.get("/fail/get/503"), 503);
    assert_eq!(site.logged("FAIL get"), 2, "a GET goes to one other server");
}

/// Twice as many slow requests as there are threads, for some seconds.
fn slow_requests_take_nothing_down(site: &Site) {
    let threads = 2 * 2 * 4;
    std::thread::scope(|scope| {
        for _ in 0..2 * threads {
            scope.spawn(|| site.get("/slow/2"));
        }
        let end = Instant::now() + Duration::from_secs(5);
        while Instant::now() < end {
            let status = site.bench.status();
            let text = status.to_string();
            assert!(
                !text.contains("DOWN"),
                "a busy server was taken for a dead one: {text}"
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    });
    status(&site.get("/"), 200);
}

#[test]
fn fastapi_with_streams_and_websockets() {
    let keys = json!({ "entry": "main:app", "worker": "asgi", "longest_request": "10s", "sticky_sessions": true });
    let Some(site) = Site::start("fastapi", "fastapi", &keys) else {
        return;
    };
    let page = site.get("/");
    status(&page, 200);
    assert!(
        page.to_lowercase().contains("set-cookie: server=node-"),
        "{page}"
    );
    let stream = site.get("/stream");
    assert!(
        stream.contains("first") && stream.contains("second"),
        "{stream}"
    );
    let mut socket = site.connect();
    let hello = format!(
        "GET /ws HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        site.address
    );
    socket.write_all(hello.as_bytes()).expect("a request");
    // Silent for longer than a request may take, then a masked text frame "hi" (RFC 6455, 5.2).
    std::thread::sleep(Duration::from_secs(15));
    socket
        .write_all(&[0x81, 0x82, 0, 0, 0, 0, b'h', b'i'])
        .expect("a frame");
    let mut said = Vec::new();
    let mut buffer = [0; 4096];
    while !String::from_utf8_lossy(&said).contains("echo hi") {
        let read = socket.read(&mut buffer).expect("an answer");
        assert!(read > 0, "ended: {}", String::from_utf8_lossy(&said));
        said.extend_from_slice(&buffer[..read]);
    }
    status(&String::from_utf8_lossy(&said), 101);
}

#[test]
fn django_with_its_checks_of_host_and_origin() {
    let keys = json!({ "entry": "shop:application" });
    let Some(site) = Site::start("django", "django", &keys) else {
        return;
    };
    let page = site.get("/");
    status(&page, 200);
    let told = json_of(&page);
    assert_eq!(told["url"], format!("http://{}/", site.address));
    let token = told["token"].as_str().expect("a token");
    let cookie = page
        .lines()
        .find_map(|line| {
            line.to_lowercase()
                .starts_with("set-cookie: ")
                .then(|| &line[12..])
        })
        .and_then(|cookie| cookie.split(';').next())
        .expect("a cookie");
    let headers = format!(
        "Cookie: {cookie}\r\nX-CSRFToken: {token}\r\nOrigin: http://{}\r\n",
        site.address
    );
    status(&site.ask("POST /save", &headers, b""), 200);
}

/// What `init` writes for each framework answers as it is, with its page, its style and its health path.
#[test]
fn what_init_writes_runs() {
    for (app, framework) in [
        ("flask", "Flask"),
        ("django", "Django"),
        ("fastapi", "FastAPI"),
    ] {
        let Some(bench) = Bench::new(&format!("init {app}"), "topology.json") else {
            return;
        };
        fs::remove_file(bench.topology()).expect("a topology");
        bench.expect(&["init", ".", "--app", app, "--name", "web-stack"], 0);
        let site = Site::up(bench);
        let page = site.get("/");
        status(&page, 200);
        assert!(page.contains(framework) && page.contains("app-"), "{page}");
        assert!(!page.contains("{{"), "{page}");
        status(&site.get("/static/style.css"), 200);
        status(&site.get("/readyz"), 200);
        site.bench.expect(&["lab", "down"], 0);
    }
}

/// Saved code is on every app server within seconds while visitors are served; code that can't be
/// loaded stays outside, and says why behind the node's name.
#[test]
fn saved_code_is_reloaded_and_broken_code_is_told() {
    let Some(bench) = Bench::new("watch", "topology.json") else {
        return;
    };
    fs::remove_file(bench.topology()).expect("a topology");
    bench.expect(&["init", ".", "--app", "flask", "--name", "web-stack"], 0);
    let site = Site::up(bench);
    let said = site.bench.directory.path().join("said");
    let out = fs::File::create(&said).expect("a file");
    let mut watch = site.bench.command(&["lab", "watch"]);
    let watch = watch.stderr(out.try_clone().expect("a file")).stdout(out);
    let mut watch = watch.spawn().expect("the program");
    let told = |words: &str| fs::read_to_string(&said).is_ok_and(|text| text.contains(words));
    wait("the watch", || told("watching"));
    let app = site.bench.directory.path().join("app/app.py");
    let code = fs::read_to_string(&app).expect("the code");
    let save = |text: &str| fs::write(&app, text).expect("the code");

    let over = AtomicBool::new(false);
    let lost = std::thread::scope(|scope| {
        let visitor = scope.spawn(|| {
            let (mut lost, mut asked) = (Vec::new(), 0);
            while !over.load(Ordering::SeqCst) {
                let answer = site.get("/");
                asked += 1;
                if !answer.starts_with("HTTP/1.1 200 ") {
                    lost.push(answer);
                }
            }
            assert!(asked > 10, "{asked} requests are too few to tell");
            lost
        });
        save(&code.replace("\"Hello\"", "\"Saved\""));
        let saved = || (0..4).all(|_| site.get("/").contains("Saved"));
        wait("the saved code", || told("app-2: reloaded") && saved());
        over.store(true, Ordering::SeqCst);
        visitor.join().expect("a visitor")
    });
    assert!(lost.is_empty(), "{lost:?}");

    save("def broken(:\n");
    wait("the error", || told("SyntaxError"));
    let text = fs::read_to_string(&said).expect("what was said");
    let line = text.lines().find(|line| line.contains("SyntaxError"));
    assert!(
        line.is_some_and(|line| line.starts_with("app-1 ")),
        "{text}"
    );
    assert!(site.get("/").contains("Saved"));
    save(&code.replace("\"Hello\"", "\"Mended\""));
    wait("the mended code", || site.get("/").contains("Mended"));
    watch.kill().expect("an end");
    watch.wait().expect("an end");
}
