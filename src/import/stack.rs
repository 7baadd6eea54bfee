//! An inventory as a topology: which group is which tier, which address is whose.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use indexmap::IndexMap;
use ipnet::Ipv4Net;
use serde_json::{Value, json};

use super::groups::{Guess, guess};
use super::pattern::split_port;
use super::{Inventory, Vars};
use crate::topology::{Name, Tier, block};

/// What the user wants where the inventory leaves a choice.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// Name of the stack.
    pub name: String,
    /// Which group is which tier.
    pub tiers: BTreeMap<String, Tier>,
    /// The subnet.
    pub subnet: Option<Ipv4Net>,
    /// The virtual IP.
    pub virtual_ip: Option<Ipv4Addr>,
}

/// What became of an inventory.
#[derive(Debug)]
pub struct Imported {
    /// The topology's text.
    pub text: String,
    /// What was guessed, renamed, given an address or left out, in sentences.
    pub remarks: Vec<String>,
}

/// Variables that hold a host's address.
const ADDRESS: [&str; 9] = [
    "ansible_host",
    "ansible_ssh_host",
    "ip",
    "ip_address",
    "address",
    "host_ip",
    "private_ip",
    "internal_ip",
    "access_ip",
];
/// Variables that are about reaching a host, which is the user's `ssh` configuration's matter.
const REACHING: [&str; 4] = [
    "ansible_user",
    "ansible_port",
    "ansible_connection",
    "ansible_python_interpreter",
];

/// The topology that an inventory describes.
///
/// # Errors
/// If a group of `wishes` is not there.
pub fn topology(inventory: &Inventory, wishes: &Wishes) -> Result<Imported, String> {
    for group in wishes.tiers.keys() {
        if !inventory.groups.contains_key(group) {
            let names: Vec<&str> = inventory.groups.keys().map(String::as_str).collect();
            return Err(format!(
                "the inventory has no group `{group}`; it has {}",
                names.join(", ")
            ));
        }
    }
    let mut remarks: Vec<String> = inventory
        .unread
        .iter()
        .map(|what| format!("not understood: {what}"))
        .collect();
    let members = members(inventory, wishes, &mut remarks);
    let names = names(&members, &mut remarks);
    let known: Vec<Ipv4Addr> = members.iter().filter_map(|member| member.address).collect();
    let named = wishes.virtual_ip.or_else(|| stated(inventory));
    let subnet = wishes
        .subnet
        .unwrap_or_else(|| around(&known, named, &mut remarks));
    let virtual_ip = named.unwrap_or_else(|| {
        let free = free(subnet, 10..u32::MAX, &known.iter().copied().collect());
        remarks.push(format!("virtual IP {free}: the inventory names none"));
        free
    });
    let nodes = nodes(&members, &names, subnet, virtual_ip, &mut remarks);
    remarks.extend(left_out(inventory));
    let topology = json!({
        "version": 1,
        "name": wishes.name,
        "network": { "subnet": subnet, "virtual_ip": virtual_ip },
        "app": { "source": "./app" },
        "nodes": nodes,
    });
    let text = serde_json::to_string_pretty(&topology).map_err(|error| error.to_string())?;
    Ok(Imported {
        text: text + "\n",
        remarks,
    })
}

/// A host whose tier is known.
struct Member<'i> {
    host: &'i str,
    tier: Tier,
    address: Option<Ipv4Addr>,
}

/// Hosts by tier, in file order within one.
fn members<'i>(
    inventory: &'i Inventory,
    wishes: &Wishes,
    remarks: &mut Vec<String>,
) -> Vec<Member<'i>> {
    let tier_of = |group: &str| {
        let chosen = wishes.tiers.get(group).copied();
        chosen.or_else(|| guess(group).and_then(Guess::tier))
    };
    for (name, group) in &inventory.groups {
        let says = !group.hosts.is_empty() && !wishes.tiers.contains_key(name);
        if let Some(Guess::Tier(tier)) = guess(name).filter(|_| says) {
            remarks.push(format!("group {name} is taken for the tier {tier}"));
        }
    }
    let mut members = Vec::new();
    for (host, vars) in &inventory.hosts {
        let groups = inventory.groups_of(host);
        // A group of the user's choice counts more than a guess.
        let mut all = groups
            .iter()
            .filter_map(|group| Some((*group, guess(group)?)));
        let other = all.find_map(|(group, guess)| Some((group, guess.other()?)));
        let chosen: BTreeSet<Tier> = groups
            .iter()
            .filter_map(|group| wishes.tiers.get(*group))
            .copied()
            .collect();
        let guessed: BTreeSet<Tier> = groups.iter().filter_map(|group| tier_of(group)).collect();
        if let Some((group, what)) = other.filter(|_| chosen.is_empty()) {
            remarks.push(format!(
                "host {host} was left out: its group {group} is for {what}; say `--map GROUP=TIER` if not"
            ));
            continue;
        }
        let tiers: Vec<Tier> = if chosen.is_empty() { guessed } else { chosen }
            .into_iter()
            .collect();
        match tiers.as_slice() {
            [tier] => members.push(Member {
                host,
                tier: *tier,
                address: address(host, vars),
            }),
            [] => remarks.push(format!(
                "host {host} was left out: no group tells its tier ({}); say `--map GROUP=TIER`",
                groups.join(", ")
            )),
            many => {
                let many: Vec<&str> = many.iter().map(|tier| tier.name()).collect();
                remarks.push(format!(
                    "host {host} was left out: it would be {}, and a node has one tier",
                    many.join(" and ")
                ));
            }
        }
    }
    members.sort_by_key(|member| member.tier);
    members
}

fn address(host: &str, vars: &Vars) -> Option<Ipv4Addr> {
    let of = |text: &String| {
        let (host, _) = split_port(text.trim());
        host.split('/').next()?.parse().ok()
    };
    let stated = ADDRESS.iter().find_map(|key| of(vars.get(*key)?));
    stated.or_else(|| host.parse().ok())
}

/// Host names that a node may have: the first part of a full name, or one by tier and number.
fn names(members: &[Member<'_>], remarks: &mut Vec<String>) -> Vec<String> {
    let mut taken: BTreeSet<String> = BTreeSet::new();
    let mut names = Vec::new();
    for member in members {
        let is_address = member.host.parse::<IpAddr>().is_ok();
        let short = member.host.split('.').next().unwrap_or_default();
        let plain = |text: &str| {
            text.to_lowercase()
                .replace(|c: char| !c.is_ascii_alphanumeric(), "-")
        };
        let wanted = [plain(short), plain(member.host)];
        let fits = |name: &&String| name.parse::<Name>().is_ok() && !taken.contains(*name);
        let found = wanted.iter().find(fits).filter(|_| !is_address).cloned();
        let name = found.unwrap_or_else(|| {
            let numbered = (1..).map(|number| format!("{}-{number}", stem(member.tier)));
            let mut free = numbered.filter(|name| !taken.contains(name));
            free.next().unwrap_or_default()
        });
        if name != member.host {
            remarks.push(format!("host {} is the node {name}", member.host));
        }
        taken.insert(name.clone());
        names.push(name);
    }
    names
}

fn stem(tier: Tier) -> &'static str {
    match tier {
        Tier::LoadBalancer => "lb",
        Tier::App => "app",
        Tier::Database => "db",
    }
}

/// The smallest usual subnet that holds all addresses, and the virtual IP where there is such a one.
fn around(
    addresses: &[Ipv4Addr],
    virtual_ip: Option<Ipv4Addr>,
    remarks: &mut Vec<String>,
) -> Ipv4Net {
    let usual = Ipv4Net::new_assert(Ipv4Addr::new(10, 20, 0, 0), 24);
    let all: Vec<Ipv4Addr> = addresses.iter().copied().chain(virtual_ip).collect();
    if let Some(subnet) = smallest(&all) {
        remarks.push(format!("subnet {subnet}: what holds the hosts' addresses"));
        return subnet;
    }
    if let (Some(subnet), Some(address)) = (smallest(addresses), virtual_ip) {
        remarks.push(format!(
            "subnet {subnet}: what holds the hosts' addresses, but not the virtual IP {address}; say `--subnet` or `--virtual-ip`"
        ));
        return subnet;
    }
    let why = if addresses.is_empty() {
        "the inventory has no addresses"
    } else {
        "no subnet of a usual size holds the hosts' addresses; say `--subnet`"
    };
    remarks.push(format!("subnet {usual}: {why}"));
    usual
}

fn smallest(addresses: &[Ipv4Addr]) -> Option<Ipv4Net> {
    let first = addresses.first()?;
    let nets = (8..=24)
        .rev()
        .filter_map(|length| Ipv4Net::new(*first, length).ok());
    let mut nets = nets.map(|net| net.trunc());
    nets.find(|net| addresses.iter().all(|address| net.contains(address)))
}

/// The virtual IP, where a variable's name and value say so.
fn stated(inventory: &Inventory) -> Option<Ipv4Addr> {
    let of_groups = inventory.groups.values().map(|group| &group.vars);
    let all = of_groups.chain(inventory.hosts.values());
    let mut found = all
        .flat_map(|vars| vars.iter())
        .filter(|(key, _)| is_virtual_ip(key));
    found.find_map(|(_, value)| value.split('/').next()?.trim().parse().ok())
}

pub(super) fn is_virtual_ip(key: &str) -> bool {
    key.split('_').any(|word| word == "vip") || key.contains("virtual_ip")
}

fn free(subnet: Ipv4Net, offsets: std::ops::Range<u32>, used: &BTreeSet<Ipv4Addr>) -> Ipv4Addr {
    let (base, last) = (subnet.network().to_bits(), subnet.hostmask().to_bits());
    let candidates =
        |range: std::ops::Range<u32>| range.map(move |offset| Ipv4Addr::from_bits(base + offset));
    let mut all =
        candidates(offsets.start.min(last)..offsets.end.min(last)).chain(candidates(1..last));
    all.find(|address| !used.contains(address))
        .unwrap_or(subnet.addr())
}

fn nodes(
    members: &[Member<'_>],
    names: &[String],
    subnet: Ipv4Net,
    virtual_ip: Ipv4Addr,
    remarks: &mut Vec<String>,
) -> IndexMap<String, Value> {
    let mut used: BTreeSet<Ipv4Addr> = members.iter().filter_map(|member| member.address).collect();
    used.insert(virtual_ip);
    let databases = members
        .iter()
        .filter(|member| member.tier == Tier::Database)
        .count();
    let mut nodes = IndexMap::new();
    for (member, name) in members.iter().zip(names) {
        let address = member.address.unwrap_or_else(|| {
            let free = free(subnet, block(subnet, member.tier), &used);
            remarks.push(format!(
                "node {name} gets {free}: the inventory has no IPv4 address for it"
            ));
            free
        });
        used.insert(address);
        nodes.insert(
            name.clone(),
            json!({ "tier": member.tier, "address": address }),
        );
    }
    let last = members
        .iter()
        .zip(names)
        .rfind(|(member, _)| member.tier == Tier::Database);
    if let Some((_, name)) = last.filter(|_| databases % 2 == 0)
        && let Some(node) = nodes.get_mut(name)
    {
        node["voting"] = false.into();
        remarks.push(format!(
            "node {name} does not vote: {databases} voters survive no more failures than one fewer"
        ));
    }
    nodes
}

/// Variables that a topology has no place for.
fn left_out(inventory: &Inventory) -> Vec<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let of_groups = inventory.groups.values().map(|group| &group.vars);
    for key in of_groups
        .chain(inventory.hosts.values())
        .flat_map(|vars| vars.keys())
    {
        if !ADDRESS.contains(&key.as_str()) && !is_virtual_ip(key) {
            *counts.entry(key).or_default() += 1;
        }
    }
    let (reaching, others): (Vec<_>, Vec<_>) = counts
        .into_iter()
        .partition(|(key, _)| REACHING.contains(key));
    let list = |counts: Vec<(&str, usize)>| {
        let words = counts
            .into_iter()
            .map(|(key, count)| format!("{key} ({count}×)"));
        words.collect::<Vec<_>>().join(", ")
    };
    let mut remarks = Vec::new();
    if !reaching.is_empty() {
        remarks.push(format!(
            "left out, as ssh's own configuration says it: {}",
            list(reaching)
        ));
    }
    if !others.is_empty() {
        remarks.push(format!("variables left out: {}", list(others)));
    }
    remarks
}
