//! `export`: what comes out for each example, that it is ours to replace, and that the
//! world it is for can read it.

#![expect(clippy::unwrap_used, reason = "a test may stop")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use gen_topology::certificate::authority::{Authority, Wish};
use gen_topology::certificate::store::now;

use crate::common::{REPOSITORY, TOPOLOGY, TestEnvironment, not_run, tool};

/// Every format.
const FORMATS: [&str; 6] = [
    "compose",
    "kubernetes",
    "ansible",
    "vagrant",
    "openstack",
    "opentofu",
];
/// Every example that every format can express.
const EXAMPLES: [&str; 4] = ["single", "ha", "large", "https"];

/// An authority's certificate, and one for www.example.org with its key that it has signed.
pub(crate) fn certificate() -> (String, String) {
    let now = now().unwrap() - 60;
    let authority = Authority::make("test", now).unwrap();
    let wish = Wish {
        names: ["www.example.org", "example.org"]
            .map(str::to_owned)
            .to_vec(),
        addresses: Vec::new(),
        from: now,
        days: 90,
    };
    let signed = authority.sign(&wish).unwrap();
    (authority.certificate, signed)
}

/// A copy of the examples and of the application.
pub(crate) fn examples() -> TestEnvironment {
    let environment = TestEnvironment::new();
    for name in ["single", "ha", "large", "sharded"] {
        let file = format!("examples/{name}.json");
        let text = fs::read(Path::new(REPOSITORY).join(&file)).unwrap();
        environment.write(&file, text);
    }
    let text = fs::read_to_string(environment.path("examples/single.json")).unwrap();
    let mut https: serde_json::Value = serde_json::from_str(&text).unwrap();
    https["name"] = "https".into();
    https["load_balancer"] = serde_json::json!({
        "tls": { "names": ["www.example.org", "example.org"], "files": ["site.pem"] },
    });
    environment.write("examples/https.json", https.to_string());
    // Nothing of it may get into an export.
    let place = environment.path("examples/.gen-topology/secrets/certificates/site.pem");
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    fs::write(place, certificate().1).unwrap();
    environment
}

pub(crate) fn export(environment: &TestEnvironment, format: &str, example: &str) -> PathBuf {
    let file = format!("examples/{example}.json");
    let directory = format!("out/{example}/{format}");
    let arguments = ["export", format, "-f", &file, "-o", &directory];
    environment.run(&arguments).exits(0);
    environment.path(directory)
}

/// Every file below a directory, by its path in it.
fn tree(directory: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut open = vec![directory.to_path_buf()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(directory).unwrap().display().to_string();
                found.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    found
}

/// A whole export as one text. Of files that stand elsewhere in this repository as well, rendered
/// ones and those that are the same in each export, only the names.
fn text(files: &BTreeMap<String, String>) -> String {
    let elsewhere = [
        "nodes/",
        "files/",
        "config/",
        "tasks/",
        "images/",
        "site.yaml",
    ];
    let mut text = String::new();
    for (path, content) in files {
        if elsewhere.iter().any(|start| path.starts_with(start)) {
            text.push_str(&format!("=== {path}\n"));
        } else {
            text.push_str(&format!("=== {path}\n{content}\n"));
        }
    }
    text
}

#[test]
fn each_example_in_each_format() {
    let environment = examples();
    for example in EXAMPLES {
        for format in FORMATS {
            let files = tree(&export(&environment, format, example));
            let tells = |text: &String| text.contains("BEGIN PRIVATE");
            assert!(!files.values().any(tells), "{format} has a secret");
            insta::assert_snapshot!(format!("{example}_{format}"), text(&files));
        }
    }
    for format in ["openstack", "opentofu"] {
        let files = tree(&export(&environment, format, "sharded"));
        insta::assert_snapshot!(format!("sharded_{format}"), text(&files));
    }
}

#[test]
fn the_rendered_files_are_the_same_bytes() {
    let environment = examples();
    let hosts = environment.path("hosts");
    let hosts_text = hosts.display().to_string();
    let arguments = ["generate", "-f", "examples/ha.json", "-o", &hosts_text];
    environment.run(&arguments).exits(0);
    let rendered = tree(&hosts);
    for (format, below) in [("compose", "nodes"), ("ansible", "files/nodes")] {
        let files = tree(&export(&environment, format, "ha"));
        for (path, text) in rendered
            .iter()
            .filter(|(path, _)| !path.ends_with("default.nix"))
        {
            assert_eq!(
                files.get(&format!("{below}/{path}")),
                Some(text),
                "{format}: {path}"
            );
        }
    }
}

#[test]
fn an_export_is_ours_to_replace_and_nothing_else_is() {
    let environment = TestEnvironment::with(TOPOLOGY);
    let run = |arguments: &[&str]| environment.run(arguments);
    for format in FORMATS {
        run(&["export", format]).exits(0);
        run(&["export", format, "--check"]).exits(0);
        let directory = environment.path(format!("export/{format}"));
        let before = tree(&directory);
        environment.write(format!("export/{format}/mine.txt"), "mine\n");
        run(&["scale", "app=3"]).exits(0);
        let check = run(&["export", format, "--check"]).exits(2);
        assert!(check.stdout.starts_with("--- a/"), "{}", check.text());
        run(&["export", format]).exits(0);
        assert_ne!(tree(&directory), before, "{format}");
        run(&["scale", "app=2"]).exits(0);
        run(&["export", format]).exits(0);
        let mut after = tree(&directory);
        assert_eq!(
            after.remove("mine.txt").as_deref(),
            Some("mine\n"),
            "{format}"
        );
        assert_eq!(
            after, before,
            "{format}: what a third node had is left over"
        );
        // A file of ours that a person has made theirs.
        let own = before.keys().find(|path| *path != "README.md").unwrap();
        environment.write(format!("export/{format}/{own}"), "mine\n");
        let refused = run(&["export", format]).exits(1);
        assert!(refused.stderr.contains(own.as_str()), "{}", refused.text());
        assert_eq!(tree(&directory)[own], "mine\n");
    }
}

#[test]
fn what_holds_other_files_is_no_place_for_an_export() {
    let environment = TestEnvironment::with(TOPOLOGY);
    environment.run(&["generate"]).exits(0);
    environment.run(&["export", "openstack"]).exits(0);
    let before = tree(&environment.path(""));
    // Its own application, files with our mark, the project itself, another format's export, a file.
    for place in ["app", "hosts", ".", "export/openstack", "topology.json"] {
        let refused = environment
            .run(&["export", "compose", "-o", place])
            .exits(1);
        assert!(refused.stderr.contains("error: "), "{}", refused.text());
    }
    assert_eq!(tree(&environment.path("")), before);
    insta::assert_snapshot!(environment.run(&["export", "compose", "-o", "app"]).text());
}

#[test]
fn what_a_format_can_not_express_is_said() {
    let environment = examples();
    environment.write(
        "odd.json",
        TOPOLOGY
            .replace(
                "\"./app\"",
                "\"./app\", \"requirements\": \"what we need.txt\"",
            )
            .replace(
                "10.20.0.0/24\",",
                "10.20.0.0/24\", \"interface\": \"ens3\",",
            ),
    );
    environment.write("app/what we need.txt", "gunicorn==1\n");
    let mut text = String::new();
    for (format, file) in [
        ("compose", "examples/sharded.json"),
        ("kubernetes", "examples/sharded.json"),
        ("ansible", "examples/sharded.json"),
        ("vagrant", "examples/sharded.json"),
        ("compose", "odd.json"),
        ("kubernetes", "odd.json"),
    ] {
        let output = environment
            .run(&["export", format, "-f", file, "-o", "out"])
            .exits(1);
        text.push_str(&format!("{format} {file}\n{}\n", output.stderr));
    }
    assert!(!environment.path("out").exists());
    insta::assert_snapshot!(text);
    let unknown = environment.run(&["export", "docker"]).exits(64);
    assert!(
        unknown.stderr.contains("there are compose, kubernetes"),
        "{}",
        unknown.text()
    );
    let near = environment.run(&["export", "ansibel"]).exits(64);
    assert!(
        near.stderr.contains("did you mean `ansible`?"),
        "{}",
        near.text()
    );
}

#[test]
fn the_formats_are_told() {
    insta::assert_snapshot!(
        TestEnvironment::new()
            .run(&["export", "--list"])
            .exits(0)
            .stdout
    );
}

fn run(command: &mut Command) -> (bool, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let said = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (status.success(), said.concat())
}

#[track_caller]
fn accepts(command: &mut Command) {
    let (good, said) = run(command);
    assert!(good, "{command:?}:\n{said}");
}

#[test]
fn compose_reads_it() {
    let Some(compose) = tool("docker-compose") else {
        return;
    };
    let environment = examples();
    for example in EXAMPLES {
        let directory = export(&environment, "compose", example);
        accepts(
            Command::new(&compose)
                .args(["config", "--quiet"])
                .current_dir(&directory),
        );
        let broken = fs::read_to_string(directory.join("compose.yaml")).unwrap();
        fs::write(
            directory.join("compose.yaml"),
            broken.replace("cap_add", "cap_ad"),
        )
        .unwrap();
        let (good, _) = run(Command::new(&compose)
            .args(["config", "--quiet"])
            .current_dir(&directory));
        assert!(!good, "docker-compose takes anything");
    }
}

#[test]
fn kubernetes_reads_it() {
    let Some(validate) = tool("kubernetes-validate") else {
        return;
    };
    let environment = examples();
    for example in EXAMPLES {
        let directory = export(&environment, "kubernetes", example);
        for version in ["1.25.0", "1.29.0", "1.32.0"] {
            let mut command = Command::new(&validate);
            command
                .args(["--strict", "--no-warn", "-k", version])
                .current_dir(&directory);
            command.args([
                "namespace.yaml",
                "app.yaml",
                "database.yaml",
                "network.yaml",
            ]);
            accepts(&mut command);
        }
        let app = fs::read_to_string(directory.join("app.yaml")).unwrap();
        fs::write(
            directory.join("app.yaml"),
            app.replace("replicas", "replica"),
        )
        .unwrap();
        let mut command = Command::new(&validate);
        let (good, _) = run(command
            .args(["--strict", "app.yaml"])
            .current_dir(&directory));
        assert!(!good, "kubernetes-validate takes anything");
    }
}

/// Who is not root can give a file to no other group than its own.
#[test]
fn pods_run_as_the_users_and_groups_of_their_images() {
    let environment = examples();
    let directory = export(&environment, "kubernetes", "single");
    let read = |path: &str| fs::read_to_string(directory.join(path)).unwrap();
    for tier in ["app", "database"] {
        let manifest = read(&format!("{tier}.yaml"));
        let number = |key: &str| {
            let line = manifest
                .lines()
                .find_map(|line| line.trim().strip_prefix(key));
            line.unwrap().trim().to_owned()
        };
        let image = read(&format!("images/{tier}/Dockerfile"));
        let [user, group] = [number("runAsUser:"), number("runAsGroup:")];
        assert!(
            image.contains(&format!("useradd --system --uid {user} ")),
            "{image}"
        );
        assert!(
            image.contains(&format!("groupadd --system --gid {group} ")),
            "{image}"
        );
    }
}

#[test]
fn kustomize_puts_it_together() {
    let Some(kubectl) = gen_topology::exec::find("kubectl") else {
        return not_run("kubectl, for `kubectl kustomize`, is not here");
    };
    let environment = examples();
    for example in EXAMPLES {
        let directory = export(&environment, "kubernetes", example);
        let mut command = Command::new(&kubectl);
        let (good, said) = run(command.arg("kustomize").arg(&directory));
        assert!(good, "{said}");
        // The names with a hash have found their way into the pods.
        assert!(
            said.contains("name: app-") && !said.contains("configMap:\n          name: members\n"),
            "{said}"
        );
    }
}

#[test]
fn ansible_reads_it() {
    let (Some(playbook), Some(lint)) = (
        gen_topology::exec::find("ansible-playbook"),
        gen_topology::exec::find("ansible-lint"),
    ) else {
        return not_run(
            "ansible-playbook and ansible-lint (Debian packages ansible-core, ansible-lint) are not here",
        );
    };
    let environment = examples();
    let home = environment.path("home");
    for example in EXAMPLES {
        let directory = export(&environment, "ansible", example);
        let mut command = Command::new(&playbook);
        command.args(["--syntax-check", "-i", "inventory.yaml", "site.yaml"]);
        accepts(command.current_dir(&directory).env("HOME", &home));
    }
    let directory = export(&environment, "ansible", "ha");
    let strict = |directory: &Path| {
        let mut command = Command::new(&lint);
        command.args([
            "--offline",
            "--nocolor",
            "--strict",
            "--profile",
            "safety",
            "site.yaml",
        ]);
        run(command.current_dir(directory).env("HOME", &home))
    };
    let (good, said) = strict(&directory);
    assert!(good, "{said}");
    let site = fs::read_to_string(directory.join("site.yaml")).unwrap();
    fs::write(
        directory.join("site.yaml"),
        site.replace("mode: \"0644\"", "mode: 644"),
    )
    .unwrap();
    assert!(!strict(&directory).0, "ansible-lint takes anything");
}

#[test]
fn vagrant_reads_it() {
    let Some(vagrant) = gen_topology::exec::find("vagrant") else {
        return not_run("vagrant (Debian package vagrant) is not here");
    };
    let environment = examples();
    let validate = |directory: &Path| {
        let mut command = Command::new(&vagrant);
        command
            .args(["validate", "--ignore-provider"])
            .current_dir(directory);
        run(command
            .env("HOME", environment.path("home"))
            .env("VAGRANT_HOME", environment.path("home/vagrant")))
    };
    let directory = export(&environment, "vagrant", "ha");
    let (good, said) = validate(&directory);
    assert!(good, "{said}");
    let file = fs::read_to_string(directory.join("Vagrantfile")).unwrap();
    let broken = file.replace("node.vm.hostname", "node.vm.hostnam");
    fs::write(directory.join("Vagrantfile"), broken).unwrap();
    assert!(!validate(&directory).0, "vagrant takes anything");
    let keepalived = tree(&directory)["files/nodes/lb-1/etc/keepalived/keepalived.conf"].clone();
    assert!(keepalived.contains("interface eth1"), "{keepalived}");
}

/// Gives a template to Heat's own parser, and properties to its own schemas.
const HEAT: &str = include_str!("heat/check.py");

#[test]
fn heat_reads_it() {
    // Debian's own Python: the package is for that one.
    let heat = |directory: &Path, script: &str| {
        let mut command = Command::new("/usr/bin/python3");
        run(command
            .args(["-c", script, "stack.yaml"])
            .current_dir(directory))
    };
    let environment = examples();
    if !Path::new("/usr/bin/python3").exists()
        || !heat(&environment.path(""), "import heat.engine.template").0
    {
        return not_run("Heat's parser (Debian package python3-heat) is not here");
    }
    for example in ["single", "ha", "large", "sharded"] {
        let directory = export(&environment, "openstack", example);
        let (good, said) = heat(&directory, HEAT);
        assert!(good, "{example}: {said}");
    }
    let directory = environment.path("out/ha/openstack");
    let stack = fs::read_to_string(directory.join("stack.yaml")).unwrap();
    let wrong = stack.replace("port_range_min", "port_range");
    fs::write(directory.join("stack.yaml"), wrong).unwrap();
    assert!(!heat(&directory, HEAT).0, "Heat takes `port_range`");
}

/// What the script of the export for Compose says with these programs on PATH.
fn checked(directory: &Path, programs: &[(&str, &str)]) -> (bool, String) {
    let bin = directory.join("bin");
    fs::create_dir_all(&bin).unwrap();
    for tool in ["sort", "head", "dirname"] {
        let real = gen_topology::exec::find(tool).unwrap();
        fs::copy(real, bin.join(tool)).unwrap();
    }
    for (name, text) in programs {
        use std::os::unix::fs::PermissionsExt as _;
        let file = bin.join(name);
        fs::write(&file, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut command = Command::new("/bin/sh");
    let said = run(command.arg(directory.join("check.sh")).env("PATH", &bin));
    fs::remove_dir_all(&bin).unwrap();
    said
}

#[test]
fn what_the_machine_lacks_for_compose_is_said() {
    let environment = TestEnvironment::with(TOPOLOGY);
    environment.run(&["export", "compose"]).exits(0);
    let directory = environment.path("export/compose");
    let docker = |engine: &str, compose: &str| {
        format!("case $1 in version) {engine};; compose) {compose};; esac")
    };
    let mut text = String::new();
    let mut note = |case: &str, (good, said): (bool, String)| {
        assert!(!good, "{case}");
        text.push_str(&format!("{case}\n{said}\n"));
    };
    note("no engine", checked(&directory, &[]));
    let silent = docker("echo no socket >&2; exit 1", "exit 1");
    note(
        "none that answers, no Compose",
        checked(&directory, &[("docker", &silent)]),
    );
    let old = docker("echo 19.03.8", "exit 1");
    let old = [
        ("docker", old.as_str()),
        (
            "docker-compose",
            "echo docker-compose 1.25.0 >&2; echo 1.25.0",
        ),
    ];
    note("too old", checked(&directory, &old));
    environment.run(&["secrets", "init"]).exits(0);
    let new = docker("echo 20.10.24+dfsg1", "echo v2.24.5");
    assert_eq!(
        checked(&directory, &[("docker", &new)]),
        (true, String::new())
    );
    insta::assert_snapshot!(text);
}
