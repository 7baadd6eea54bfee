//! Several applications: who gets which request, and that none of them is touched for another's sake.

#![expect(clippy::expect_used, reason = "a test may stop")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::common::lab::Bench;
use crate::common::{REPOSITORY, TOPOLOGY, TestEnvironment};
use crate::lab::wait;
use crate::web_apps::{Site, status};

/// The usual topology with these further applications.
fn with(apps: &Value) -> TestEnvironment {
    let mut topology: Value = serde_json::from_str(TOPOLOGY).expect("JSON");
    topology["apps"] = apps.clone();
    TestEnvironment::with(topology.to_string())
}

fn rendered(environment: &TestEnvironment, file: &str) -> String {
    fs::read_to_string(environment.path(format!("hosts/{file}"))).expect("a rendered file")
}

/// The lines of `text` that hold `word`, without what stands before them.
fn lines<'t>(text: &'t str, word: &str) -> Vec<&'t str> {
    let lines = text.lines().map(str::trim);
    lines.filter(|line| line.contains(word)).collect()
}

#[test]
fn the_route_that_says_most_comes_first() {
    let environment = with(&json!({
        "short": { "source": "./app", "port": 8001, "paths": ["/api/"] },
        "long": { "source": "./app", "port": 8002, "paths": ["/api/v2/"] },
        "many": { "source": "./app", "port": 8003, "hosts": ["*.example.org"] },
        "one": { "source": "./app", "port": 8004, "hosts": ["api.example.org"], "paths": ["/api/"] },
    }));
    environment.run(&["generate"]).exits(0);
    let haproxy = rendered(&environment, "lb-1/etc/haproxy/haproxy.cfg");
    let routes = lines(&haproxy, "set-var(txn.app)");
    let apps: Vec<&str> = routes
        .iter()
        .filter_map(|line| line.split(['(', ')']).nth(3))
        .collect();
    assert_eq!(apps, ["one", "many", "long", "short"], "{haproxy}");
    assert!(
        routes[0].ends_with(
            "{ req.hdr(host),host_only,lower -m str api.example.org } { path,concat(/) -m beg /api/ }"
        ),
        "{}",
        routes[0]
    );
    assert!(
        routes[1].ends_with("{ req.hdr(host),host_only,lower -m end .example.org }"),
        "{}",
        routes[1]
    );
}

#[test]
fn each_node_has_what_it_runs() {
    let environment = with(&json!({
        "api": {
            "source": "./app", "port": 8001, "paths": ["/api/"], "nodes": ["app-2"], "instances": 3,
            "worker": "asgi", "health_path": "/api/ready", "longest_request": "60s"
        },
    }));
    environment.run(&["generate"]).exits(0);
    let haproxy = rendered(&environment, "lb-1/etc/haproxy/haproxy.cfg");
    assert_eq!(lines(&haproxy, ":8001").len(), 3, "{haproxy}");
    assert!(
        lines(&haproxy, ":8001")
            .iter()
            .all(|line| line.starts_with("server app-2 "))
    );
    assert_eq!(lines(&haproxy, "track app.api/app-2").len(), 1, "{haproxy}");
    assert!(haproxy.contains("uri /api/ready ver"), "{haproxy}");
    // The longest of all counts where all meet, and its own where only it is.
    assert!(haproxy.contains("timeout client 63s"), "{haproxy}");
    assert_eq!(lines(&haproxy, "timeout server 63s").len(), 3, "{haproxy}");
    let without = rendered(&environment, "app-1/etc/supervisor/supervisord.conf");
    assert!(!without.contains("api"), "{without}");
    assert!(!environment.path("hosts/app-1/etc/gunicorn/apps").exists());
    let supervisor = rendered(&environment, "app-2/etc/supervisor/supervisord.conf");
    assert_eq!(lines(&supervisor, "[program:gunicorn-api-").len(), 3);
    assert!(
        supervisor.contains(
            "command=/etc/gen-topology/pythons/api/bin/python -m gunicorn --config \
             /etc/gunicorn/apps/api.conf.py --bind unix:/run/gen-topology/gunicorn-api-0.sock"
        ),
        "{supervisor}"
    );
    let gunicorn = rendered(&environment, "app-2/etc/gunicorn/apps/api.conf.py");
    assert!(
        gunicorn.contains("chdir = \"/etc/gen-topology/apps/api\""),
        "{gunicorn}"
    );
    let nginx = rendered(&environment, "app-2/etc/nginx/app.conf");
    assert!(nginx.contains("listen 8001 default_server;"), "{nginx}");
    assert!(nginx.contains("proxy_pass http://app.api;"), "{nginx}");
    let firewall = rendered(&environment, "app-1/etc/gen-topology/firewall.nft");
    assert!(firewall.contains("8001"), "{firewall}");
}

/// What `app` has is called the same with others beside it, so that nothing of it restarts.
#[test]
fn a_second_application_changes_nothing_of_the_first() {
    let alone = TestEnvironment::with(TOPOLOGY);
    alone.run(&["generate"]).exits(0);
    let both = with(&json!({ "api": { "source": "./app", "port": 8001, "paths": ["/api/"] } }));
    both.run(&["generate"]).exits(0);
    let same = |file: &str| assert_eq!(rendered(&alone, file), rendered(&both, file), "{file}");
    same("app-1/etc/gunicorn/gunicorn.conf.py");
    let added = |file: &str| {
        let (before, after) = (rendered(&alone, file), rendered(&both, file));
        let after: BTreeSet<&str> = after.lines().collect();
        let gone: Vec<&str> = before
            .lines()
            .filter(|line| !after.contains(line))
            .collect();
        assert_eq!(gone, Vec::<&str>::new(), "{file}");
    };
    added("lb-1/etc/haproxy/haproxy.cfg");
    added("app-1/etc/nginx/app.conf");
    added("app-1/etc/supervisor/supervisord.conf");
}

#[test]
fn what_cannot_have_several_says_so() {
    let apps = json!({ "api": { "source": "./app", "port": 8001, "paths": ["/api/"] } });
    let environment = with(&apps);
    for format in ["compose", "kubernetes", "ansible", "vagrant"] {
        let said = environment.run(&["export", format]).exits(1);
        let text = said.text();
        assert!(
            text.contains("not-exportable") && text.contains("api"),
            "{format}: {text}"
        );
    }
}

#[test]
fn an_application_on_chosen_nodes_goes_with_them() {
    let apps = json!({ "api": { "source": "./app", "port": 8001, "paths": ["/api/"], "nodes": ["app-1"] } });
    let environment = with(&apps);
    let said = environment.run(&["whatif", "--fail", "app-1"]);
    assert!(said.text().contains("with api"), "{}", said.text());
    let said = environment.run(&["whatif", "--fail", "app-2"]);
    assert!(!said.text().contains("with api"), "{}", said.text());
}

const FLASK: &str = r#"
import os

from flask import Flask

app = Flask(__name__)


def process():
    """This instance, and no other one before or after it: its id and when it began."""
    began = open(f"/proc/{os.getppid()}/stat").read().rsplit(")")[-1].split()[19]
    return f"{os.uname().nodename}-{os.getppid()}-{began}"


@app.get("/")
def index():
    return f"flask {process()}\n"


@app.get("/readyz")
def readyz():
    return "", 404 if os.path.exists(os.environ["DRAIN_FILE"]) else 200
"#;

const FASTAPI: &str = r#"
import os

from fastapi import FastAPI, Response

app = FastAPI()
NAME = "fastapi"


def process():
    began = open(f"/proc/{os.getppid()}/stat").read().rsplit(")")[-1].split()[19]
    return f"{os.uname().nodename}-{os.getppid()}-{began}"


@app.get("/api/")
async def index():
    return Response(f"{NAME} {process()}\n")


@app.get("/api/variable/{name}")
async def variable(name: str):
    return os.environ.get(name, "")


@app.get("/readyz")
async def readyz():
    return Response(status_code=404 if os.path.exists(os.environ["DRAIN_FILE"]) else 200)
"#;

/// A lab with Flask at `/` and `FastAPI` at `/api/`.
fn two_frameworks(test: &str) -> Option<Site> {
    let bench = Bench::new(test, "topology.json")?;
    for (name, file, code) in [("flask", "app.py", FLASK), ("fastapi", "main.py", FASTAPI)] {
        let directory = bench.directory.path().join(name);
        fs::create_dir(&directory).expect("a directory");
        fs::write(directory.join(file), code).expect("code");
        let requirements = Path::new(REPOSITORY).join("tests/fixtures/web").join(name);
        fs::copy(
            requirements.join("requirements.txt"),
            directory.join("requirements.txt"),
        )
        .expect("requirements");
    }
    let text = fs::read_to_string(bench.topology()).expect("a topology");
    let mut topology: Value = serde_json::from_str(&text).expect("JSON");
    topology["app"] = json!({ "source": "flask" });
    topology["apps"] = json!({ "api": {
        "source": "fastapi", "entry": "main:app", "worker": "asgi", "port": 8001, "paths": ["/api/"],
        "env": { "COLOUR": "green" },
    } });
    let nodes = topology["nodes"].as_object_mut().expect("nodes");
    nodes.retain(|_, node| node["tier"] != "database");
    fs::write(bench.topology(), topology.to_string()).expect("a topology");
    Some(Site::up(bench))
}

/// The last word of an answer's body.
fn word(answer: &str) -> String {
    let word = answer.split_whitespace().last();
    word.unwrap_or_default().to_owned()
}

/// The instances that answer `path` of many requests.
fn processes(site: &Site, path: &str) -> BTreeSet<String> {
    (0..40).map(|_| word(&site.get(path))).collect()
}

/// Ends the visitors, also where a test ends early.
struct Ends<'o>(&'o AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A page of each application, for two visitors.
const BOTH: [&str; 4] = ["/", "/api/", "/", "/api/"];

/// Asks for these pages while `work` is done, and returns how often, and what was no good answer.
fn visited(site: &Site, paths: &[&str], work: impl FnOnce()) -> (usize, Vec<String>) {
    let over = AtomicBool::new(false);
    let seen = Mutex::new((0, Vec::new()));
    let visit = |path: &str| {
        while !over.load(Ordering::SeqCst) {
            let answer = site.get(path);
            let mut seen = seen.lock().expect("what was seen");
            seen.0 += 1;
            if !answer.starts_with("HTTP/1.1 200 ") {
                seen.1.push(format!("{path}: {answer:.200}"));
            }
        }
    };
    std::thread::scope(|scope| {
        for path in paths {
            scope.spawn(move || visit(path));
        }
        let _ends = Ends(&over);
        work();
    });
    seen.into_inner().expect("what was seen")
}

#[test]
fn two_frameworks_side_by_side() {
    let Some(site) = two_frameworks("two frameworks") else {
        return;
    };
    assert!(site.get("/").contains("flask "), "{}", site.get("/"));
    for path in ["/api/", "/api"] {
        let answer = site.get(path);
        let is_its_own =
            answer.contains("fastapi ") || answer.to_lowercase().contains("location: ");
        assert!(is_its_own, "{path}: {answer}");
    }
    status(&site.get("/apix"), 404);
    assert!(site.get("/api/variable/COLOUR").contains("green"));
    let ran = site.bench.expect(
        &[
            "lab",
            "run",
            "node-2",
            "--app",
            "api",
            "--",
            "python",
            "-c",
            "import os; print(os.environ['COLOUR'], os.getcwd())",
        ],
        0,
    );
    assert!(ran.contains("green /"), "{ran}");
    let said = site
        .bench
        .expect(&["lab", "run", "node-2", "--app", "shop", "--", "true"], 1);
    assert!(said.contains("of `apps` it runs api"), "{said}");
    let node = site.bench.node("node-2");
    assert!(node["notes"].to_string().contains("api UP for"), "{node}");

    // A reboot of an app server.
    let (asked, lost) = visited(&site, &BOTH, || {
        site.bench.expect(&["lab", "reboot", "node-2"], 0);
        wait("node-2", || site.bench.node("node-2")["ready"] == true);
    });
    assert!(asked > 100, "{asked} requests are too few to tell");
    assert!(lost.is_empty(), "{} of {asked}: {lost:#?}", lost.len());

    // Another code of one of them.
    let before = [processes(&site, "/"), processes(&site, "/api/")];
    let code = site.bench.directory.path().join("fastapi/main.py");
    fs::write(&code, FASTAPI.replace("\"fastapi\"", "\"changed\"")).expect("code");
    let (asked, lost) = visited(&site, &BOTH, || {
        let plan = site.bench.expect(&["lab", "apply"], 0);
        assert!(plan.contains("the code of api changed"), "{plan}");
    });
    assert!(lost.is_empty(), "{} of {asked}: {lost:#?}", lost.len());
    assert!(site.get("/api/").contains("changed "));
    let after = [processes(&site, "/"), processes(&site, "/api/")];
    assert_eq!(before[0], after[0], "the other application was restarted");
    assert!(before[1].is_disjoint(&after[1]), "{before:?} {after:?}");

    // Without it again.
    let text = fs::read_to_string(site.bench.topology()).expect("a topology");
    let mut topology: Value = serde_json::from_str(&text).expect("JSON");
    topology.as_object_mut().expect("an object").remove("apps");
    fs::write(site.bench.topology(), topology.to_string()).expect("a topology");
    let (_, lost) = visited(&site, &["/"], || {
        site.bench.expect(&["lab", "apply"], 0);
    });
    assert!(lost.is_empty(), "{lost:#?}");
    status(&site.get("/api/"), 404);
}

/// A secret that nobody has given is told before anything is started.
#[test]
fn a_secret_that_is_not_there() {
    let Some(bench) = Bench::new("apps: a secret", "topology.json") else {
        return;
    };
    let text = fs::read_to_string(bench.topology()).expect("a topology");
    let mut topology: Value = serde_json::from_str(&text).expect("JSON");
    let mut api = topology["app"].clone();
    for (key, value) in [
        ("port", json!(8001)),
        ("paths", json!(["/api/"])),
        ("secrets", json!({ "API_TOKEN": {} })),
    ] {
        api[key] = value;
    }
    topology["apps"] = json!({ "api": api });
    fs::write(bench.topology(), topology.to_string()).expect("a topology");
    let said = bench.expect(&["lab", "up"], 1);
    assert!(
        said.contains("`apps.api.secrets` names API_TOKEN")
            && said.contains("secrets set API_TOKEN"),
        "{said}"
    );
}
