//! The export for `OpenTofu`: there is neither `OpenTofu` nor its provider for OpenStack in this repository's
//! tests, so its structure is held here: every argument is one that the provider's documentation (version 3)
//! has, the required ones are there, every reference leads somewhere, and the same ports are open as in the Heat template.

#![expect(clippy::unwrap_used, reason = "a test may stop")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::export::{examples, export};

/// Resource, arguments that it must have, and others that it may have.
const KNOWN: [(&str, &[&str], &[&str]); 12] = [
    ("blockstorage_volume_v3", &["size"], &["name"]),
    (
        "compute_instance_v2",
        &["name"],
        &[
            "flavor_name",
            "image_name",
            "key_pair",
            "network",
            "scheduler_hints",
        ],
    ),
    ("compute_servergroup_v2", &["name"], &["policies"]),
    (
        "compute_volume_attach_v2",
        &["instance_id", "volume_id"],
        &[],
    ),
    ("networking_floatingip_v2", &["pool"], &["port_id"]),
    ("networking_network_v2", &[], &["name"]),
    (
        "networking_port_v2",
        &["network_id"],
        &[
            "allowed_address_pairs",
            "fixed_ip",
            "name",
            "security_group_ids",
        ],
    ),
    (
        "networking_router_interface_v2",
        &["router_id"],
        &["subnet_id"],
    ),
    (
        "networking_router_v2",
        &[],
        &["external_network_id", "name"],
    ),
    (
        "networking_secgroup_rule_v2",
        &["direction", "ethertype", "security_group_id"],
        &[
            "description",
            "port_range_max",
            "port_range_min",
            "protocol",
            "remote_group_id",
            "remote_ip_prefix",
        ],
    ),
    ("networking_secgroup_v2", &["name"], &[]),
    (
        "networking_subnet_v2",
        &["network_id"],
        &["cidr", "gateway_ip", "ip_version", "name"],
    ),
];

/// Arguments of every resource.
const META: [&str; 2] = ["depends_on", "lifecycle"];

fn read(directory: &Path) -> Value {
    let text = fs::read_to_string(directory.join("main.tf.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Kind, name and arguments of each resource.
fn resources(configuration: &Value) -> Vec<(&str, &str, &Value)> {
    let kinds = configuration["resource"].as_object().unwrap();
    let named = kinds.iter().flat_map(|(kind, all)| {
        let all = all.as_object().unwrap().iter();
        all.map(move |(name, arguments)| (kind.as_str(), name.as_str(), arguments))
    });
    named.collect()
}

/// Every text of a value.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(all) => all.iter().flat_map(texts).collect(),
        Value::Object(all) => all.values().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

/// Everything that is wrong with a configuration.
fn problems(configuration: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    let mut there: BTreeSet<String> = BTreeSet::new();
    for (name, _) in configuration["variable"].as_object().unwrap() {
        there.insert(format!("var.{name}"));
    }
    there.insert("data.openstack_networking_network_v2.external.id".into());
    for (kind, name, arguments) in resources(configuration) {
        there.insert(format!("{kind}.{name}.id"));
        there.insert(format!("{kind}.{name}.address"));
        let known = KNOWN
            .iter()
            .find(|(known, _, _)| kind.strip_prefix("openstack_") == Some(known));
        let Some((_, must, may)) = known else {
            problems.push(format!("{kind} is unknown"));
            continue;
        };
        let given = arguments.as_object().unwrap();
        for argument in given.keys().map(String::as_str) {
            let is_known = [must, may, &META[..]]
                .iter()
                .any(|all| all.contains(&argument));
            if !is_known {
                problems.push(format!("{kind}.{name} has no argument {argument}"));
            }
        }
        let missing = must
            .iter()
            .filter(|argument| !given.contains_key(**argument));
        problems.extend(missing.map(|argument| format!("{kind}.{name} lacks {argument}")));
    }
    for text in texts(configuration) {
        for reference in text.split("${").skip(1) {
            let reference = reference.split('}').next().unwrap();
            if !there.contains(reference) {
                problems.push(format!("nothing is {reference}"));
            }
        }
    }
    problems
}

/// Which port of which tier is open at all, as `OpenTofu` and as Heat is told it.
fn doors(tofu: &Value, heat: &Value) -> [BTreeSet<String>; 2] {
    let line = |tier: &str, rule: &Value| {
        let port = &rule["port_range_min"];
        assert_eq!(port, &rule["port_range_max"]);
        format!("{tier} {} {port}", rule["protocol"])
    };
    let rules = resources(tofu).into_iter();
    let rules = rules.filter(|(kind, _, _)| *kind == "openstack_networking_secgroup_rule_v2");
    let tofu = rules.map(|(_, _, rule)| {
        let group = rule["security_group_id"].as_str().unwrap();
        line(group.split('.').nth(1).unwrap(), rule)
    });
    let groups = heat["resources"].as_object().unwrap().iter();
    let groups = groups.filter(|(_, group)| group["type"] == "OS::Neutron::SecurityGroup");
    let heat = groups.flat_map(|(name, group)| {
        let tier = name.strip_suffix("_security").unwrap();
        let rules = group["properties"]["rules"].as_array().unwrap().iter();
        rules.map(move |rule| line(tier, rule))
    });
    [tofu.collect(), heat.collect()]
}

#[test]
fn one_more_node_changes_no_rule() {
    let environment = examples();
    let rules = |environment: &crate::common::TestEnvironment| {
        let tofu = read(&export(environment, "opentofu", "ha"));
        tofu["resource"]["openstack_networking_secgroup_rule_v2"].clone()
    };
    let before = rules(&environment);
    let app = &before["database_27017_from_app"]["remote_group_id"];
    assert_eq!(app, "${openstack_networking_secgroup_v2.app.id}");
    let file = "examples/ha.json";
    environment.run(&["scale", "-f", file, "app=4"]).exits(0);
    assert_eq!(rules(&environment), before);
}

#[test]
fn the_configuration_holds_together_and_says_what_the_template_says() {
    let environment = examples();
    for example in ["single", "ha", "large", "https", "sharded"] {
        let tofu = read(&export(&environment, "opentofu", example));
        assert_eq!(problems(&tofu), Vec::<String>::new(), "{example}");
        let heat = export(&environment, "openstack", example).join("stack.yaml");
        let heat: Value = serde_yaml_ng::from_str(&fs::read_to_string(heat).unwrap()).unwrap();
        let [tofu, heat] = doors(&tofu, &heat);
        assert_eq!(tofu, heat, "{example}");
        assert!(!tofu.is_empty());
    }
}

#[test]
fn what_is_wrong_is_seen() {
    let environment = examples();
    let mut tofu = read(&export(&environment, "opentofu", "single"));
    let rule =
        &mut tofu["resource"]["openstack_networking_secgroup_rule_v2"]["app_80_from_load_balancer"];
    rule["port"] = 80.into();
    rule.as_object_mut().unwrap().remove("direction");
    tofu["output"]["page"]["value"] = "${openstack_networking_floatingip_v2.pag.address}".into();
    let kind = "openstack_networking_secgroup_rule_v2.app_80_from_load_balancer";
    let wanted = [
        format!("{kind} has no argument port"),
        format!("{kind} lacks direction"),
        "nothing is openstack_networking_floatingip_v2.pag.address".to_owned(),
    ];
    assert_eq!(problems(&tofu), wanted);
}
