//! `import ansible`: an inventory as a topology, with a remark on everything that was
//! guessed or left out.

use serde_json::Value;

use crate::common::TestEnvironment;

const INI: &str = "\
# production
[haproxy]
lb[1:2].example.com ansible_user=root

[webservers]
web_1 ansible_host=10.1.0.21 http_port=80
10.1.0.22

[mongodb]
db1 ansible_host=10.1.0.31
db2 ansible_host=10.1.0.32

[monitoring]
mon1 ansible_host=10.1.0.41

[prod:children]
haproxy
webservers

[all:vars]
keepalived_vip=10.1.0.100/24
what is this
";

#[test]
fn an_inventory_becomes_a_topology() {
    let work = TestEnvironment::new();
    work.write("inventory", INI);
    let arguments = ["import", "ansible", "inventory", "--name", "shop"];
    let output = work
        .run(&[&arguments[..], &["-o", "topology.json"]].concat())
        .exits(0);
    insta::assert_snapshot!(output.text());
    work.run(&["check"]).exits(0);
    let show = work.run(&["show", "--format", "json"]).exits(0);
    let show: Value = serde_json::from_str(&show.stdout).expect("JSON");
    assert_eq!(show["network"]["virtual_ip"], "10.1.0.100");
    assert_eq!(show["network"]["subnet"], "10.1.0.0/24");
    let nodes = show["nodes"].as_array().expect("nodes");
    let told: Vec<String> = nodes
        .iter()
        .map(|node| {
            format!("{} {} {}", node["name"], node["tier"], node["address"]).replace('"', "")
        })
        .collect();
    assert_eq!(
        told,
        [
            "lb1 load-balancer 10.1.0.16",
            "lb2 load-balancer 10.1.0.17",
            "web-1 app 10.1.0.21",
            "app-1 app 10.1.0.22",
            "db1 database 10.1.0.31",
            "db2 database 10.1.0.32",
        ]
    );
    // Never over a file that is there.
    let again = work
        .run(&[&arguments[..], &["-o", "topology.json"]].concat())
        .exits(1);
    assert!(
        again
            .stderr
            .contains("topology.json exists, and import replaces nothing"),
        "{}",
        again.text()
    );
    // Without a file it is data.
    let output = work.run(&arguments).exits(0);
    assert_eq!(output.stdout, work.read("topology.json"));
}

#[test]
fn groups_are_mapped_by_hand() {
    let work = TestEnvironment::new();
    let yaml = "all:\n  children:\n    edge: { hosts: { e1: { ansible_host: 10.9.1.1 } } }\n    \
                site: { hosts: { s1: { ansible_host: 10.9.2.1 }, s2: { ansible_host: 10.9.3.1 } } }\n    \
                data: { hosts: { d1: { ansible_host: 10.9.4.1 } } }\n";
    work.write("hosts.yml", yaml);
    let output = work.run(&["import", "ansible", "hosts.yml"]).exits(3);
    assert!(
        output.stderr.contains("host e1 was left out"),
        "{}",
        output.text()
    );
    let maps = [
        "--map",
        "edge=load-balancer",
        "--map",
        "site=app",
        "--map",
        "data=database",
    ];
    let arguments = [
        &["import", "ansible", "hosts.yml", "--virtual-ip", "10.9.0.1"][..],
        &maps,
    ]
    .concat();
    let output = work.run(&arguments).exits(0);
    let topology: Value = serde_json::from_str(&output.stdout).expect("JSON");
    assert_eq!(topology["network"]["subnet"], "10.9.0.0/21");
    assert_eq!(topology["nodes"]["s2"]["tier"], "app");
    let output = work
        .run(&[&arguments[..], &["--map", "sight=app"]].concat())
        .exits(64);
    assert!(
        output.stderr.contains("no group `sight`"),
        "{}",
        output.text()
    );
}

#[test]
fn what_is_no_inventory_is_refused() {
    let work = TestEnvironment::new();
    for (text, why) in [
        ("# nothing\n", "the inventory is empty"),
        ("all:\n  hosts: [a", "is no inventory"),
        ("- a\n- b\n", "there is no load balancer"),
    ] {
        work.write("inventory", text);
        let output = work.run(&["import", "ansible", "inventory"]);
        assert!(output.code == 1 || output.code == 3, "{}", output.text());
        assert!(output.stderr.contains(why), "{text}: {}", output.text());
    }
    work.run(&["import", "ansible", "nowhere"]).exits(1);
    work.run(&["import"]).exits(64);
    work.run(&["import", "ansible", "inventory", "--map", "a"])
        .exits(64);
}

#[test]
fn a_port_is_split_from_its_host_and_no_address_is_invented() {
    let work = TestEnvironment::new();
    let text = "[lb]\nlb1 ip=10.1.1.11\n[web]\n10.1.1.21:2222\nweb1:2222 ansible_host=10.1.1.22:22\n[db]\n10.1.1.31\n";
    work.write("inventory", text);
    let output = work.run(&["import", "ansible", "inventory"]).exits(0);
    let topology: Value = serde_json::from_str(&output.stdout).expect("JSON");
    let address = |node: &str| topology["nodes"][node]["address"].clone();
    assert_eq!(address("lb1"), "10.1.1.11");
    assert_eq!(address("app-1"), "10.1.1.21");
    assert_eq!(address("web1"), "10.1.1.22");
    assert!(!output.stderr.contains(" gets "), "{}", output.text());
}

#[test]
fn no_password_of_an_inventory_is_printed() {
    let work = TestEnvironment::new();
    let text = "[lb]\nlb1 ansible_host=10.1.1.11 ansible_ssh_pass=geheim ansible_password='geh eim\n\
                [web]\nw1 ansible_host=10.1.1.21\n[db]\nd1 ansible_host=10.1.1.31\n\
                [odd:thing]\nx ansible_become_pass=geheim\n[db:vars]\nmongo_password: geheim\n";
    work.write("inventory", text);
    let output = work.run(&["import", "ansible", "inventory"]);
    assert!(
        output.stderr.contains("ansible_become_pass=******"),
        "{}",
        output.text()
    );
    assert!(!output.text().contains("geh"), "{}", output.text());
}

/// The nodes that an inventory becomes, with their tiers, and what is said of it.
fn nodes(text: &str) -> (String, String) {
    let work = TestEnvironment::new();
    work.write("inventory", text);
    let output = work.run(&["import", "ansible", "inventory"]);
    let topology: Value = serde_json::from_str(&output.stdout).unwrap_or_default();
    let nodes = topology["nodes"].as_object().cloned().unwrap_or_default();
    let nodes = nodes.iter().map(|(name, node)| {
        let tier = node["tier"].as_str().unwrap_or_default();
        format!("{name}={tier}")
    });
    (nodes.collect::<Vec<_>>().join(" "), output.stderr)
}

const THREE: &str = "lb1=load-balancer w1=app d1=database";

#[test]
fn other_forms_of_an_inventory_say_the_same() {
    let listed = r#"{ "_meta": { "hostvars": { "lb1": { "ansible_host": "10.1.1.11" }, "w1": {}, "d1": {} } },
        "all": { "children": ["lbservers", "www", "mongodb"] }, "lbservers": { "hosts": ["lb1"] },
        "www": { "hosts": ["w1"] }, "mongodb": { "hosts": ["d1"] } }"#;
    let remark =
        "--- # production\nlb: { hosts: { lb1: } }\nweb:\n  hosts: w1\ndb:\n  hosts: [d1]\n";
    let plain = "[proxy]\nlb1\n[backend]\nw1\n[database]\nd1\n";
    for text in [listed, remark, plain] {
        let (nodes, said) = nodes(text);
        assert_eq!(nodes, THREE, "{text}: {said}");
    }
    let (nodes, said) = nodes("lb:\n  hosts: lb[1:2]\nweb:\n  hosts: w1\ndb:\n  hosts: d1\n");
    assert!(
        nodes.starts_with("lb1=load-balancer lb2="),
        "{nodes}: {said}"
    );
}

#[test]
fn what_is_not_our_database_is_left_out() {
    let text = "[lb]\nlb1\n[web]\nw1\n[mongodb]\nd1\narb1\n[mongodb_arbiters]\narb1\n[mongos]\nr1\n\
                [mysql_db]\nm1\n[config_servers]\nc1\n[mongo:children]\nmongodb\nmongos\nconfig_servers\n";
    let (found, said) = nodes(text);
    assert_eq!(found, THREE, "{said}");
    for (host, what) in [
        ("arb1", "arbiters"),
        ("r1", "routers"),
        ("m1", "another program"),
        ("c1", "config servers"),
    ] {
        let line = said
            .lines()
            .find(|line| line.contains(&format!("host {host} was left out")));
        assert!(
            line.is_some_and(|line| line.contains(what)),
            "{host}: {said}"
        );
    }
}

#[test]
fn a_stated_virtual_ip_counts_when_the_subnet_is_guessed() {
    let work = TestEnvironment::new();
    let text = |vip: &str| {
        format!(
            "[lb]\nlb1 ansible_host=10.1.1.11\n[web]\nw1 ansible_host=10.1.1.21\n[db]\nd1 ansible_host=10.1.1.31\n[all:vars]\nvip={vip}\n"
        )
    };
    work.write("inventory", text("10.1.2.100"));
    let output = work.run(&["import", "ansible", "inventory"]).exits(0);
    let topology: Value = serde_json::from_str(&output.stdout).expect("JSON");
    assert_eq!(topology["network"]["subnet"], "10.1.0.0/22");
    // One that no subnet of a usual size holds, too.
    work.write("inventory", text("203.0.113.5"));
    let output = work.run(&["import", "ansible", "inventory"]).exits(3);
    assert!(output.stderr.contains("`--subnet`"), "{}", output.text());
}

#[test]
fn what_is_no_inventory_is_named_as_such() {
    let work = TestEnvironment::new();
    work.write("vault", "$ANSIBLE_VAULT;1.1;AES256\n6162\n");
    work.write("aws.yml", "plugin: amazon.aws.aws_ec2\nregions: [a]\n");
    work.write("some/hosts", "[lb]\n");
    for (file, code, why) in [
        ("vault", 1, "ansible-vault view"),
        ("aws.yml", 1, "configures the plugin amazon.aws.aws_ec2"),
        ("some", 64, "is a directory"),
    ] {
        let output = work.run(&["import", "ansible", file]).exits(code);
        assert!(output.stderr.contains(why), "{file}: {}", output.text());
    }
}

const COMPOSE: &str = "\
services:
  proxy:
    image: registry.example.com/infra/haproxy:2.8@sha256:00
    networks: { front: { ipv4_address: 10.9.0.5 } }
    environment: [\"KEEPALIVED_VIP=10.9.0.4\", MODE=tcp]
  shop:
    build: .
    deploy: { replicas: 3 }
  store:
    image: mongo:6
    networks: { front: { ipv4_address: 10.9.0.30 } }
  cache:
    image: redis:7
  odd: text
";

#[test]
fn a_compose_file_becomes_a_topology() {
    let work = TestEnvironment::new();
    work.write("compose.yaml", COMPOSE);
    let arguments = ["import", "compose", "compose.yaml", "-o", "topology.json"];
    let output = work.run(&arguments).exits(0);
    insta::assert_snapshot!(format!("{}{}", output.text(), work.read("topology.json")));
    work.run(&["check"]).exits(0);
    for (text, why) in [
        ("version: '3'\n", "it has no `services`"),
        ("services: {}\n", "it has no services"),
        ("services: [a\n", "is no Compose file"),
    ] {
        work.write("bad.yaml", text);
        let refused = work.run(&["import", "compose", "bad.yaml"]).exits(1);
        assert!(refused.stderr.contains(why), "{}", refused.text());
    }
}

#[test]
fn what_was_exported_to_compose_comes_back() {
    let work = TestEnvironment::with(crate::common::TOPOLOGY);
    work.run(&["export", "compose"]).exits(0);
    let arguments = ["import", "compose", "export/compose/compose.yaml"];
    let back = work.run(&arguments).exits(0);
    let [back, first] = [back.stdout, work.read("topology.json")]
        .map(|text| serde_json::from_str::<Value>(&text).expect("JSON"));
    assert_eq!(back["nodes"], first["nodes"]);
    assert_eq!(back["network"], first["network"]);
}
