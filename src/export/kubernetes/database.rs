//! `MongoDB` as a StatefulSet: an ordinal for each database of the topology, in file order.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{budget, container_security, labels, metadata, pod_security, selector, spread, volume};
use crate::export::container;
use crate::topology::{Database, Tier, Topology};

/// User of the database's image.
const USER: u32 = 64011;
/// The topology does not say how large the databases' disks are.
const DISK: &str = "10Gi";

/// Until the replica set is as it should be; again in each new pod.
const RECONCILE: &str = "trap 'exit 0' TERM\n\
    until /etc/gen-topology/gen-topology node --facts \"/members/$POD_NAME.json\" reconcile-database; do sleep 5; done\n\
    sleep infinity & wait\n";

pub(super) fn manifests(
    topology: &Topology,
    database: &Database,
    keys: &BTreeMap<String, String>,
) -> Vec<Value> {
    vec![
        service(topology, database),
        stateful_set(topology, database, keys),
        budget(topology, "database"),
    ]
}

/// Gives each pod a name. Members find each other before they are ready: they become it together.
fn service(topology: &Topology, database: &Database) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(topology, "database", "database"),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": true,
            "selector": { "app.kubernetes.io/component": "database" },
            "ports": [{ "name": "mongodb", "port": database.port, "targetPort": "mongodb" }],
        },
    })
}

fn stateful_set(
    topology: &Topology,
    database: &Database,
    keys: &BTreeMap<String, String>,
) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": metadata(topology, "database", "database"),
        "spec": {
            "serviceName": "database",
            "replicas": topology.tier(Tier::Database).count(),
            "podManagementPolicy": "Parallel",
            "selector": selector("database"),
            "template": {
                "metadata": { "labels": labels(topology, "database") },
                "spec": pod(topology, database, keys),
            },
            "volumeClaimTemplates": [{
                "metadata": { "name": "data" },
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "resources": { "requests": { "storage": DISK } },
                },
            }],
        },
    })
}

fn pod(topology: &Topology, database: &Database, keys: &BTreeMap<String, String>) -> Value {
    json!({
        "automountServiceAccountToken": false,
        "securityContext": pod_security(USER),
        // mongod hands its part over and ends what it has begun.
        "terminationGracePeriodSeconds": 60,
        "topologySpreadConstraints": spread("database"),
        "containers": [mongod(topology, database), reconcile(topology)],
        "volumes": [
            volume("database", keys),
            { "name": "members", "configMap": { "name": "members" } },
            { "name": "secrets", "secret": { "secretName": "database", "defaultMode": 0o440 } },
            { "name": "run", "emptyDir": { "medium": "Memory", "sizeLimit": "16Mi" } },
            { "name": "run-of-reconcile", "emptyDir": { "medium": "Memory", "sizeLimit": "16Mi" } },
            { "name": "scratch", "emptyDir": {} },
        ],
    })
}

fn environment() -> Value {
    json!([{ "name": "POD_NAME", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } }])
}

fn mongod(topology: &Topology, database: &Database) -> Value {
    let cache = database.cache_size.get() >> 20;
    let check = "exec /etc/gen-topology/gen-topology node --facts \"/members/$POD_NAME.json\" check database";
    json!({
        "name": "mongod",
        "image": container::image(topology, Tier::Database),
        "args": ["mongod", "--config", "/etc/mongod.conf"],
        "env": environment(),
        "ports": [{ "name": "mongodb", "containerPort": database.port }],
        // Primary or secondary.
        "readinessProbe": {
            "exec": { "command": ["/bin/sh", "-c", check] },
            "periodSeconds": 5,
            "timeoutSeconds": 4,
        },
        "livenessProbe": { "tcpSocket": { "port": "mongodb" }, "periodSeconds": 10, "failureThreshold": 6 },
        "resources": {
            "requests": { "cpu": "200m", "memory": format!("{}Mi", 256 + cache) },
            "limits": { "memory": format!("{}Mi", 512 + 2 * cache) },
        },
        "securityContext": container_security(),
        "volumeMounts": [
            { "name": "data", "mountPath": "/var/lib/mongodb" },
            { "name": "node", "mountPath": "/node", "readOnly": true },
            { "name": "members", "mountPath": "/members", "readOnly": true },
            { "name": "run", "mountPath": "/run" },
            { "name": "secrets", "mountPath": "/run/secrets", "readOnly": true },
            { "name": "scratch", "mountPath": "/tmp", "subPath": "tmp" },
            { "name": "scratch", "mountPath": "/var/log/mongodb", "subPath": "mongodb" },
        ],
    })
}

fn reconcile(topology: &Topology) -> Value {
    json!({
        "name": "reconcile-database",
        "image": container::image(topology, Tier::Database),
        "args": ["/bin/sh", "-c", RECONCILE],
        "env": environment(),
        "resources": {
            "requests": { "cpu": "10m", "memory": "32Mi" },
            "limits": { "memory": "128Mi" },
        },
        "securityContext": container_security(),
        "volumeMounts": [
            { "name": "node", "mountPath": "/node", "readOnly": true },
            { "name": "members", "mountPath": "/members", "readOnly": true },
            { "name": "run-of-reconcile", "mountPath": "/run" },
            { "name": "secrets", "mountPath": "/run/secrets", "readOnly": true },
        ],
    })
}
