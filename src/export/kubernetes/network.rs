//! How visitors come in, and who may talk to whom.

use serde_json::{Value, json};

use super::{metadata, selector};
use crate::flows::{self, Flow, Party, Protocol};
use crate::topology::{Tier, Topology};

pub(super) fn manifests(topology: &Topology) -> Vec<Value> {
    let mut documents = vec![service(topology), ingress(topology), closed(topology)];
    documents.extend(super::pods(topology).map(|tier| policy(topology, tier)));
    documents
}

fn service(topology: &Topology) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(topology, "app", "app"),
        "spec": {
            "selector": { "app.kubernetes.io/component": "app" },
            "ports": [{ "name": "http", "port": topology.load_balancer().port, "targetPort": "http" }],
        },
    })
}

/// Name of the Secret that the certificate is in.
pub(super) const CERTIFICATE: &str = "certificate";

/// Of the cluster's default class. With HTTPS for the names that visitors ask for, as a certificate is.
fn ingress(topology: &Topology) -> Value {
    let backend = json!({ "service": { "name": "app", "port": { "name": "http" } } });
    let paths = json!([{ "path": "/", "pathType": "Prefix", "backend": backend }]);
    let spec = match &topology.load_balancer().tls {
        None => json!({ "rules": [{ "http": { "paths": paths } }] }),
        Some(tls) => {
            let names: Vec<String> = tls.names.iter().map(ToString::to_string).collect();
            let rules = names.iter();
            let rules = rules.map(|name| json!({ "host": name, "http": { "paths": paths } }));
            json!({
                "tls": [{ "hosts": names, "secretName": CERTIFICATE }],
                "rules": rules.collect::<Vec<_>>(),
            })
        }
    };
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": metadata(topology, "app", "app"),
        "spec": spec,
    })
}

/// Nobody may come in, unless another policy says so.
fn closed(topology: &Topology) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(topology, "closed", "network"),
        "spec": { "podSelector": {}, "policyTypes": ["Ingress"] },
    })
}

fn policy(topology: &Topology, tier: Tier) -> Value {
    let rules: Vec<Value> = flows::flows(topology)
        .iter()
        .filter(|flow| flow.to.tier() == tier)
        .filter_map(rule)
        .collect();
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(topology, tier.name(), tier.name()),
        "spec": {
            "podSelector": selector(tier.name()),
            "policyTypes": ["Ingress"],
            "ingress": rules,
        },
    })
}

/// What lets a flow in, as far as it exists here: pods have no sshd and no watcher of the databases.
fn rule(flow: &Flow) -> Option<Value> {
    let port = flow.port.filter(|_| flow.protocol == Protocol::Tcp)?;
    let ports = json!([{ "protocol": "TCP", "port": port }]);
    let tier = match flow.from {
        Party::Anywhere | Party::Administration => return None,
        // The Ingress controller stands in the load balancers' place; which namespace it is in
        // only the cluster knows.
        Party::LoadBalancers => return Some(json!({ "ports": ports })),
        Party::Apps => Tier::App,
        Party::Databases | Party::ConfigServers => Tier::Database,
    };
    let pods = selector(tier.name());
    Some(json!({ "from": [{ "podSelector": pods }], "ports": ports }))
}
