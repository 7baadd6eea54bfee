//! The application's Deployment.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{budget, container_security, labels, metadata, pod_security, selector, spread, volume};
use crate::export::container;
use crate::topology::{Tier, Topology};

/// User of the app's image.
const USER: u32 = 64010;

pub(super) fn manifests(topology: &Topology, keys: &BTreeMap<String, String>) -> Vec<Value> {
    vec![deployment(topology, keys), budget(topology, "app")]
}

fn deployment(topology: &Topology, keys: &BTreeMap<String, String>) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(topology, "app", "app"),
        "spec": {
            "replicas": topology.tier(Tier::App).count(),
            "selector": selector("app"),
            // A new pod is ready before an old one goes: capacity is never less than asked for.
            "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 0 } },
            "template": {
                "metadata": { "labels": labels(topology, "app") },
                "spec": pod(topology, keys),
            },
        },
    })
}

/// Whether the application has to know any secret.
pub(super) fn has_secrets(topology: &Topology) -> bool {
    topology.database().is_some() || !topology.app().secrets.is_empty()
}

fn pod(topology: &Topology, keys: &BTreeMap<String, String>) -> Value {
    let mut volumes = vec![volume("app", keys)];
    if has_secrets(topology) {
        let secret = json!({ "secretName": "application", "defaultMode": 0o440 });
        volumes.push(json!({ "name": "secrets", "secret": secret }));
    }
    volumes.extend([
        json!({ "name": "run", "emptyDir": { "medium": "Memory", "sizeLimit": "16Mi" } }),
        json!({ "name": "shared-memory", "emptyDir": { "medium": "Memory", "sizeLimit": "64Mi" } }),
        json!({ "name": "scratch", "emptyDir": {} }),
    ]);
    let mut security = pod_security(USER);
    // nginx is not root, and its port may be 80.
    security["sysctls"] = json!([{ "name": "net.ipv4.ip_unprivileged_port_start", "value": "0" }]);
    json!({
        "automountServiceAccountToken": false,
        "securityContext": security,
        "terminationGracePeriodSeconds": 60,
        "topologySpreadConstraints": spread("app"),
        "containers": [nginx(topology), gunicorn(topology)],
        "volumes": volumes,
    })
}

fn nginx(topology: &Topology) -> Value {
    let app = topology.app();
    // Endpoints forget the pod within some seconds; then nginx ends what it has begun.
    let leave = "sleep 8; nginx -c /etc/nginx/nginx.conf -s quit; while [ -e /run/nginx/nginx.pid ]; do sleep 0.2; done";
    json!({
        "name": "nginx",
        "image": container::image(topology, Tier::App),
        "args": ["nginx", "-c", "/etc/nginx/nginx.conf", "-g", "daemon off;"],
        "ports": [{ "name": "http", "containerPort": app.port }],
        // Asked as haproxy asks it, application and database view included.
        "readinessProbe": {
            "httpGet": { "path": app.health_path.to_string(), "port": "http" },
            "periodSeconds": 1,
            "timeoutSeconds": 2,
            "failureThreshold": 2,
        },
        "livenessProbe": { "tcpSocket": { "port": "http" }, "periodSeconds": 10 },
        "lifecycle": { "preStop": { "exec": { "command": ["/bin/sh", "-c", leave] } } },
        "resources": {
            "requests": { "cpu": "50m", "memory": "64Mi" },
            "limits": { "memory": "128Mi" },
        },
        "securityContext": container_security(),
        "volumeMounts": [
            { "name": "node", "mountPath": "/node", "readOnly": true },
            { "name": "run", "mountPath": "/run" },
            { "name": "scratch", "mountPath": "/var/lib/nginx", "subPath": "nginx" },
        ],
    })
}

fn gunicorn(topology: &Topology) -> Value {
    let app = topology.app();
    let memory = 128 + 160 * u64::from(app.instances) * (1 + u64::from(app.workers));
    let mut mounts = vec![
        json!({ "name": "node", "mountPath": "/node", "readOnly": true }),
        json!({ "name": "run", "mountPath": "/run" }),
    ];
    if has_secrets(topology) {
        mounts.push(json!({ "name": "secrets", "mountPath": "/run/secrets", "readOnly": true }));
    }
    mounts.extend([
        json!({ "name": "shared-memory", "mountPath": "/dev/shm" }),
        json!({ "name": "scratch", "mountPath": "/tmp", "subPath": "tmp" }),
        json!({ "name": "scratch", "mountPath": "/var/log/gunicorn", "subPath": "gunicorn" }),
        json!({ "name": "scratch", "mountPath": "/var/log/supervisor", "subPath": "supervisor" }),
    ]);
    // The health check says 404 from now on; requests that are on their way are served.
    let leave = "touch /run/gen-topology/drain; sleep 5";
    json!({
        "name": "gunicorn",
        "image": container::image(topology, Tier::App),
        "lifecycle": { "preStop": { "exec": { "command": ["/bin/sh", "-c", leave] } } },
        "resources": {
            "requests": { "cpu": "200m", "memory": format!("{}Mi", memory / 2) },
            "limits": { "memory": format!("{memory}Mi") },
        },
        "securityContext": container_security(),
        "volumeMounts": mounts,
    })
}
