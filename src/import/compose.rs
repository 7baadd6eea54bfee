//! A Compose file: services are hosts, and the images that they run are their groups.

use serde_yaml_ng::{Mapping, Value};

use super::groups::guess;
use super::pattern::Host;
use super::{Inventory, Vars};
use crate::topology::Tier;

/// More replicas than this are no stack, but a slip.
const MOST: u64 = 1000;

/// Reads the text.
///
/// # Errors
/// If it is no Compose file.
pub(super) fn parse(text: &str) -> Result<Inventory, String> {
    let value: Value = serde_yaml_ng::from_str(text).map_err(|error| error.to_string())?;
    let services = value.get("services").and_then(Value::as_mapping);
    let services = services.ok_or("it has no `services`")?;
    let mut read = Inventory::default();
    for (name, service) in services {
        let Some(name) = name.as_str() else {
            read.unread
                .push("a service whose name is no text".to_owned());
            continue;
        };
        match service.as_mapping() {
            Some(service) => add(&mut read, name, service),
            None => read.unread.push(format!("service `{name}` is no mapping")),
        }
    }
    if read.hosts.is_empty() {
        return Err("it has no services".into());
    }
    Ok(read)
}

fn add(read: &mut Inventory, name: &str, service: &Mapping) {
    if is_door(service) {
        read.unread.push(format!(
            "service `{name}` only publishes the virtual IP; it is no node"
        ));
        return;
    }
    let group = group(name, service);
    let replicas = replicas(service);
    if replicas > MOST {
        read.unread
            .push(format!("service `{name}` has {replicas} replicas"));
        return;
    }
    for number in 1..=replicas {
        let host = if replicas == 1 {
            name.to_owned()
        } else {
            format!("{name}-{number}")
        };
        // Replicas have no addresses of their own.
        let vars = if replicas == 1 {
            variables(service)
        } else {
            Vars::new()
        };
        let host = Host {
            name: host,
            port: None,
        };
        read.host(Some(&group), host, vars);
    }
}

/// What the image's name tells, or else the service's.
fn group(name: &str, service: &Mapping) -> String {
    let Some(image) = image(service) else {
        // What is built here and is called nothing else is the application.
        let is_built = service.contains_key("build") && guess(name).is_none();
        return if is_built { "app" } else { name }.to_owned();
    };
    let own = Tier::ALL.into_iter().find(|tier| {
        let rest = image.strip_suffix(tier.name());
        rest.is_some_and(|rest| rest.ends_with('-'))
    });
    if let Some(tier) = own {
        return tier.name().to_owned();
    }
    if guess(image).is_some() { image } else { name }.to_owned()
}

/// The last part of an image's name, without registry, tag and digest.
fn image(service: &Mapping) -> Option<&str> {
    let image = service.get("image")?.as_str()?;
    let image = image.split('@').next()?;
    let last = image.rsplit('/').next()?;
    last.split(':').next().filter(|name| !name.is_empty())
}

/// The service that `export compose` publishes the virtual IP with.
fn is_door(service: &Mapping) -> bool {
    let is_balancer = image(service).is_some_and(|image| image.ends_with("-load-balancer"));
    is_balancer && service.contains_key("ports") && !service.contains_key("cap_add")
}

fn replicas(service: &Mapping) -> u64 {
    let deploy = service
        .get("deploy")
        .and_then(|deploy| deploy.get("replicas"));
    let stated = deploy.or_else(|| service.get("scale"));
    stated.and_then(Value::as_u64).unwrap_or(1)
}

/// The fixed address, and what names a virtual IP. Nothing else of a service has a place in a topology.
fn variables(service: &Mapping) -> Vars {
    let mut vars = Vars::new();
    let networks = service.get("networks").and_then(Value::as_mapping);
    let mut addresses = networks
        .into_iter()
        .flatten()
        .filter_map(|(_, network)| network.get("ipv4_address")?.as_str());
    if let Some(address) = addresses.next() {
        vars.insert("address".into(), address.to_owned());
    }
    for (key, value) in environment(service) {
        let key = key.to_lowercase();
        if super::stack::is_virtual_ip(&key) {
            vars.insert(key, value);
        }
    }
    vars
}

/// Both ways to write it: a mapping, and a list of `KEY=VALUE`.
fn environment(service: &Mapping) -> Vec<(String, String)> {
    match service.get("environment") {
        Some(Value::Mapping(pairs)) => pairs
            .iter()
            .filter_map(|(key, value)| Some((key.as_str()?.into(), value.as_str()?.into())))
            .collect(),
        Some(Value::Sequence(lines)) => lines
            .iter()
            .filter_map(|line| line.as_str()?.split_once('='))
            .map(|(key, value)| (key.into(), value.into()))
            .collect(),
        _ => Vec::new(),
    }
}
