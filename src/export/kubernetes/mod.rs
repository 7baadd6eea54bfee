//! Kubernetes: plain manifests and a kustomization. A Service and an Ingress stand in the place of
//! the load balancers and the virtual IP; the rendered files of app servers and databases are
//! the content of ConfigMaps, in which databases are found by name.

mod app;
mod database;
mod network;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::text::{fill, marked, readme, remark, yaml};
use super::{Files, Format, Part, README, Refusal, Stack, container, refuse};
use crate::config::{NodeConfig, resolve_with};
use crate::render::{self, Rendered};
use crate::secrets::{APP, Access, CERTIFICATES, Kind};
use crate::topology::{Tier, Topology};

const PAGE: &str = include_str!("README.md");
const PAGE_WITHOUT_DATABASE: &str = include_str!("README-without-database.md");

/// Kubernetes.
#[derive(Debug)]
pub(super) struct Kubernetes;

impl Format for Kubernetes {
    fn name(&self) -> &'static str {
        "kubernetes"
    }

    fn summary(&self) -> &'static str {
        "Kubernetes manifests with a kustomization: Deployment, StatefulSet, Service, Ingress, policies"
    }

    fn files(&self, stack: &Stack<'_>) -> Result<Files, Refusal> {
        let topology = stack.topology;
        refuse(obstacles(topology))?;
        let nodes = resolve_with(topology, &|node| host(topology, node.name.as_str()));
        let rendered = render::render(&nodes)?;
        let each: Vec<(&NodeConfig, &Rendered)> = nodes.iter().zip(&rendered).collect();
        let mut files = Files::new();
        let app = configuration(
            "app",
            each.iter().find(|(node, _)| node.facts.tier == Tier::App),
            &mut files,
        );
        let mut database = configuration(
            "database",
            each.iter()
                .find(|(node, _)| node.facts.tier == Tier::Database),
            &mut files,
        );
        database.remove("node.json");
        files.remove("config/database/node.json");
        let members = each
            .iter()
            .filter(|(node, _)| node.facts.tier == Tier::Database);
        let mut facts = BTreeMap::new();
        for (ordinal, (_, rendered)) in members.enumerate() {
            let path = format!("config/members/database-{ordinal}.json");
            let text = rendered.files.get(render::FACTS).map(ToString::to_string);
            files.insert(path.clone(), text.unwrap_or_default());
            facts.insert(format!("database-{ordinal}.json"), path);
        }
        let mut maps = vec![("app", &app)];
        let mut manifests = vec![
            ("namespace.yaml", vec![namespace(topology)]),
            ("app.yaml", app::manifests(topology, &app)),
        ];
        if let Some(settings) = topology.database() {
            maps.extend([("database", &database), ("members", &facts)]);
            let documents = database::manifests(topology, settings, &database);
            manifests.push(("database.yaml", documents));
        }
        manifests.push(("network.yaml", network::manifests(topology)));
        let names: Vec<&str> = manifests.iter().map(|(name, _)| *name).collect();
        files.insert(
            "kustomization.yaml".into(),
            kustomization(topology, &names, &maps)?,
        );
        for (name, documents) in manifests {
            files.insert(name.into(), documents_text(name, &documents)?);
        }
        for tier in pods(topology) {
            let text = container::dockerfile(topology, tier);
            files.insert(format!("images/{}/Dockerfile", tier.name()), text);
        }
        files.insert(README.into(), page(stack));
        Ok(files)
    }
}

fn obstacles(topology: &Topology) -> Vec<Part> {
    let mut parts = container::obstacles(topology);
    let tls = topology.load_balancer().tls.as_ref();
    if tls.is_some_and(|tls| tls.certificates.files().len() > 1) {
        parts.push(Part::new(
            "load_balancer.tls.files",
            "an Ingress has to say which name each certificate is for, and the topology does not; \
             use one certificate with all names",
        ));
    }
    parts
}

/// The tiers that are pods here.
fn pods(topology: &Topology) -> impl Iterator<Item = Tier> {
    topology.tiers().filter(|tier| *tier != Tier::LoadBalancer)
}

/// The name by which the members of the replica set and the app find a database.
fn host(topology: &Topology, name: &str) -> String {
    let mut databases = topology.tier(Tier::Database);
    let ordinal = databases.position(|node| node.name.as_str() == name);
    format!(
        "database-{}.database.{}.svc",
        ordinal.unwrap_or_default(),
        topology.name()
    )
}

/// The files of a tier below `config/`; key in the ConfigMap → path. A key has no `/`.
fn configuration(
    tier: &str,
    first: Option<&(&NodeConfig, &Rendered)>,
    files: &mut Files,
) -> BTreeMap<String, String> {
    let Some((node, rendered)) = first else {
        return BTreeMap::new();
    };
    let mut keys = BTreeMap::new();
    for (path, text) in container::files(node, rendered) {
        // Their supervisor is the kubelet.
        let is_supervised = path.starts_with("etc/supervisor/conf.d")
            || (tier == "database" && path == render::SUPERVISOR);
        if is_supervised {
            continue;
        }
        let place = format!("config/{tier}/{path}");
        keys.insert(path.replace('/', "."), place.clone());
        files.insert(place, text);
    }
    keys
}

/// The volume in which a ConfigMap's keys are files at their paths.
fn volume(map: &str, keys: &BTreeMap<String, String>) -> Value {
    let below = format!("config/{map}/");
    let items: Vec<Value> = keys
        .iter()
        .map(|(key, place)| json!({ "key": key, "path": place.strip_prefix(&below).unwrap_or(place) }))
        .collect();
    json!({ "name": "node", "configMap": { "name": map, "items": items } })
}

fn namespace(topology: &Topology) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": topology.name().as_str(),
            "labels": {
                "pod-security.kubernetes.io/enforce": "restricted",
                "pod-security.kubernetes.io/enforce-version": "latest",
            },
        },
    })
}

/// What a pod of the standard "restricted" says of itself.
fn pod_security(user: u32) -> Value {
    json!({
        "runAsNonRoot": true,
        "runAsUser": user,
        "runAsGroup": user,
        "fsGroup": user,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": { "type": "RuntimeDefault" },
    })
}

fn container_security() -> Value {
    json!({
        "allowPrivilegeEscalation": false,
        "capabilities": { "drop": ["ALL"] },
        "readOnlyRootFilesystem": true,
    })
}

/// Spread over machines, as far as there are enough of them.
fn spread(part: &str) -> Value {
    json!([{
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": { "matchLabels": { "app.kubernetes.io/component": part } },
    }])
}

fn metadata(topology: &Topology, name: &str, part: &str) -> Value {
    json!({
        "name": name,
        "namespace": topology.name().as_str(),
        "labels": labels(topology, part),
    })
}

fn labels(topology: &Topology, part: &str) -> Value {
    json!({
        "app.kubernetes.io/component": part,
        "app.kubernetes.io/part-of": topology.name().as_str(),
    })
}

fn selector(part: &str) -> Value {
    json!({ "matchLabels": { "app.kubernetes.io/component": part } })
}

/// One pod at a time may leave for maintenance.
fn budget(topology: &Topology, part: &str) -> Value {
    json!({
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(topology, part, part),
        "spec": { "maxUnavailable": 1, "selector": selector(part) },
    })
}

fn kustomization(
    topology: &Topology,
    resources: &[&str],
    maps: &[(&str, &BTreeMap<String, String>)],
) -> anyhow::Result<String> {
    let generators: Vec<Value> = maps
        .iter()
        .map(|(name, keys)| {
            let files: Vec<String> = keys
                .iter()
                .map(|(key, path)| format!("{key}={path}"))
                .collect();
            json!({ "name": name, "files": files })
        })
        .collect();
    let images: Vec<Value> = pods(topology)
        .map(|tier| {
            let image = container::image(topology, tier);
            let (name, tag) = image
                .split_once(':')
                .unwrap_or((&image, container::VERSION));
            json!({ "name": name, "newName": name, "newTag": tag })
        })
        .collect();
    let data = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": topology.name().as_str(),
        "resources": resources,
        "configMapGenerator": generators,
        "images": images,
    });
    let why = "ConfigMaps have a hash in their names: a changed file is a rolling update.\n\
               Images: put your registry before newName.";
    Ok(marked(&format!("{}{}", remark(why), yaml(&data)?)))
}

fn documents_text(name: &str, documents: &[Value]) -> anyhow::Result<String> {
    let why = match name {
        "app.yaml" => "The application: nginx and gunicorn in one pod, as on an app server.",
        "database.yaml" => "MongoDB: a member is found by name, database-N.database.",
        "network.yaml" => {
            "In the place of the load balancers and the virtual IP; and who may talk to whom."
        }
        _ => {
            "Everything of the stack is in it, and its pods can be of the standard \"restricted\" only."
        }
    };
    let texts: Vec<String> = documents.iter().map(yaml).collect::<anyhow::Result<_>>()?;
    Ok(marked(&format!("{}{}", remark(why), texts.join("---\n"))))
}

/// The commands that bring the secrets, if there are any.
fn create_secrets(stack: &Stack<'_>) -> String {
    let topology = stack.topology;
    let (secrets, name) = (&stack.places.secrets, topology.name());
    let secrets_of = format!("gen-topology secrets -f {}", stack.places.topology);
    let create = |what: &str, files: &[String]| {
        format!(
            "kubectl --namespace {name} create secret generic {what}{}\n",
            files.concat()
        )
    };
    let mut commands = Vec::new();
    let mut of_app = Vec::new();
    if topology.database().is_some() {
        commands.push(format!("{secrets_of} init\n"));
        of_app.push(format!(" --from-file={secrets}/application"));
    }
    for own in topology.app().secrets.keys() {
        commands.push(format!("{secrets_of} set {own}\n"));
        let key = container::app_secret(own);
        of_app.push(format!(" \\\n    --from-file={key}={secrets}/{APP}/{own}"));
    }
    let certificate = https_secret(stack);
    if of_app.is_empty() && certificate.is_empty() {
        return String::new();
    }
    commands.push("kubectl apply --filename namespace.yaml\n".into());
    if !of_app.is_empty() {
        commands.push(create("application", &of_app));
    }
    if topology.database().is_some() {
        let kinds = Kind::of(Tier::Database, Access::Direct).iter();
        let files: Vec<String> = kinds
            .map(|kind| format!(" \\\n    --from-file={secrets}/{}", kind.file()))
            .collect();
        commands.push(create("database", &files));
    }
    commands.push(certificate);
    format!(
        "# Secrets: only their names are in the manifests.\n{}\n",
        commands.concat()
    )
}

fn page(stack: &Stack<'_>) -> String {
    let topology = stack.topology;
    let page = match topology.database() {
        Some(_) => PAGE,
        None => PAGE_WITHOUT_DATABASE,
    };
    let text = fill(
        page,
        &[
            ("HTTPS", https(topology)),
            ("NAME", topology.name().as_str()),
            ("PROGRAM", &container::program_image()),
            ("TOPOLOGY", &stack.places.topology),
            ("CREATE_SECRETS", &create_secrets(stack)),
            ("APP", &stack.places.app),
            ("PORT", &topology.app().port.to_string()),
            ("APP_IMAGE", &container::image(topology, Tier::App)),
            (
                "DATABASE_IMAGE",
                &container::image(topology, Tier::Database),
            ),
        ],
    );
    readme("kubernetes", &text)
}

/// How the certificate becomes a Secret, as lines of a shell.
fn https_secret(stack: &Stack<'_>) -> String {
    let Some(tls) = &stack.topology.load_balancer().tls else {
        return String::new();
    };
    let files = tls.certificates.files();
    let place = &stack.places.secrets;
    let file = files
        .first()
        .map(|file| format!("{place}/{CERTIFICATES}/{file}"));
    let file = file.unwrap_or_default();
    format!(
        "# The certificate with its chain, and its key; again after you have renewed it.\n\
         (umask 077; sed -n '/BEGIN CERT/,/END CERT/p' {file} >chain.pem; openssl pkey -in {file} -out key.pem)\n\
         kubectl --namespace {} create secret tls {} --cert=chain.pem --key=key.pem \\\n    \
         --dry-run=client --output yaml | kubectl apply --filename -\n\
         rm chain.pem key.pem\n",
        stack.topology.name(),
        network::CERTIFICATE
    )
}

fn https(topology: &Topology) -> &'static str {
    match topology.load_balancer().tls {
        Some(_) => HTTPS,
        None => "",
    }
}

const HTTPS: &str = "\
- **HTTPS**: the Ingress controller's, with the certificate of the Secret `certificate`, for the names of the topology only.
  Which versions and ciphers it takes, whether plain HTTP is sent on and what browsers remember (`redirect`, `hsts`)
  is its setting, not the topology's.
";
