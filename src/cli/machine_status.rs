//! `status`: each machine's state, by its own account and by that of the load balancers.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::args::{Format, LookArgs};
use super::machines::{AT_ONCE, chosen, report, way};
use super::source;
use super::ui::{Tone, Ui, paint, table};
use crate::config::PROGRAM;
use crate::exec::in_parallel;
use crate::failure::{Failure, Outcome};
use crate::health::haproxy;
use crate::health::mongo::{Role, Vitals};
use crate::health::report::Report;
use crate::machines::{self, Machine, Ssh};
use crate::sink::Sink as _;
use crate::topology::{Node, Tier};

/// What a machine is found to be.
#[derive(Debug, Serialize)]
struct NodeStatus {
    name: String,
    tier: Tier,
    address: std::net::Ipv4Addr,
    /// `ready`, `not ready`, `out of service`, `not ours` or `unreachable`.
    state: &'static str,
    generation: Option<u64>,
    system: Option<String>,
    notes: Vec<String>,
    report: Option<Report>,
    /// How a database does in its replica set.
    database: Option<Vitals>,
}

/// `status`.
pub(super) fn run(file: Option<&Path>, args: &LookArgs, ui: &mut Ui) -> Outcome {
    let (_, topology) = source::load(file, ui)?;
    let nodes = chosen(&topology, args.on.as_ref())?;
    let ssh = way(&topology, &args.way)?;
    let mut states = in_parallel(&nodes, AT_ONCE, |node| state(&ssh, node));
    used_by(&ssh, &mut states);
    let owners: Vec<&str> = states
        .iter()
        .filter(|state| has_virtual_ip(state))
        .map(|state| state.name.as_str())
        .collect();
    let all_well = states.iter().all(|state| state.state == "ready");
    if args.format == Format::Json {
        ui.json(&serde_json::json!({
            "stack": topology.name().to_string(),
            "virtual_ip": topology.network().virtual_ip,
            "owners": owners,
            "nodes": states,
        }))?;
    } else {
        ui.data(&states_table(&states))?;
        match owners.as_slice() {
            [_] => {}
            [] => ui.say(&paint(Tone::Bad, "nobody has the virtual IP")),
            many => ui.say(&paint(
                Tone::Bad,
                &format!("{} all have the virtual IP", many.join(", ")),
            )),
        }
    }
    if all_well {
        Ok(())
    } else {
        Err(Failure::Status(1))
    }
}

fn has_virtual_ip(state: &NodeStatus) -> bool {
    let report = state
        .report
        .as_ref()
        .and_then(|report| report.load_balancer.as_ref());
    report.is_some_and(|balancer| balancer.has_virtual_ip)
}

fn state(ssh: &Ssh, node: &Node) -> NodeStatus {
    let mut status = NodeStatus {
        name: node.name.to_string(),
        tier: node.tier,
        address: node.address,
        state: "unreachable",
        generation: None,
        system: None,
        notes: Vec::new(),
        report: None,
        database: None,
    };
    let name = node.name.as_str();
    let machine = match machines::look(ssh, name, &[]) {
        Ok(machine) => machine,
        Err(error) => {
            status.notes.push(format!("{error:#}"));
            return status;
        }
    };
    status.notes.extend(notes(&machine));
    status.generation = machine.generation;
    status.system.clone_from(&machine.system.path);
    match report(ssh, name, PROGRAM) {
        Ok(report) => {
            status.notes.extend(role(&report));
            status.state = if machine.is_away {
                "out of service"
            } else if is_well(&report, node.tier) {
                "ready"
            } else {
                "not ready"
            };
            status.database = vitals(ssh, name, &report);
            let words = status.database.iter().flat_map(Vitals::words);
            status.notes.extend(words);
            status.report = Some(report);
        }
        Err(_) if machine.system.facts.is_none() => status.state = "not ours",
        Err(error) => {
            status.state = "not ready";
            status.notes.push(format!("{error:#}"));
        }
    }
    status
}

/// How a database does in its replica set; none where it does not say.
fn vitals(ssh: &Ssh, name: &str, report: &Report) -> Option<Vitals> {
    report.database.as_ref()?;
    let text = ssh.run(name, &[PROGRAM, "node", "vitals"], None).ok()?;
    serde_json::from_str(&text).ok()
}

fn notes(machine: &Machine) -> Vec<String> {
    let mut notes = Vec::new();
    if machine.boots_other_kernel {
        notes.push(
            "its system has another kernel than the one that runs: reboot it when it suits".into(),
        );
    }
    notes
}

fn is_well(report: &Report, tier: Tier) -> bool {
    match tier {
        Tier::LoadBalancer => report
            .load_balancer
            .as_ref()
            .is_some_and(|balancer| balancer.takes_part),
        Tier::Database => {
            let role = report.database.as_ref().map(|member| member.role);
            matches!(role, Some(Role::Primary | Role::Secondary))
        }
        // What the load balancers say is looked at behind.
        Tier::App => true,
    }
}

fn role(report: &Report) -> Option<String> {
    if let Some(balancer) = &report.load_balancer {
        return balancer.has_virtual_ip.then(|| "has the virtual IP".into());
    }
    let member = report.database.as_ref()?;
    Some(member.role.words().into())
}

/// An app server is ready when every load balancer that answers sends it requests.
fn used_by(ssh: &Ssh, states: &mut [NodeStatus]) {
    let asked = states
        .iter()
        .filter(|state| state.tier == Tier::LoadBalancer && state.report.is_some());
    let seen: Vec<(String, Vec<haproxy::ServerState>)> = asked
        .filter_map(|state| {
            let argv = [PROGRAM, "node", "haproxy", "show stat"];
            let statistics = ssh.run(&state.name, &argv, None).ok()?;
            Some((state.name.clone(), haproxy::parse(&statistics, "app")))
        })
        .collect();
    for state in states
        .iter_mut()
        .filter(|state| state.tier == Tier::App && state.report.is_some())
    {
        let mut words: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for (balancer, servers) in &seen {
            let server = servers.iter().find(|server| server.name == state.name);
            let word = server.map_or_else(|| "unknown".to_owned(), |server| server.status.clone());
            words.entry(word).or_default().push(balancer);
            if state.state == "ready" && !server.is_some_and(haproxy::ServerState::is_up) {
                state.state = "not ready";
            }
        }
        for (word, balancers) in words {
            state
                .notes
                .push(format!("{word} for {}", balancers.join(", ")));
        }
    }
}

fn states_table(states: &[NodeStatus]) -> String {
    let row = |state: &NodeStatus| {
        let tone = match state.state {
            "ready" => Tone::Good,
            "not ready" => Tone::Warning,
            _ => Tone::Bad,
        };
        let generation = state
            .generation
            .map_or_else(String::new, |number| number.to_string());
        vec![
            state.name.clone(),
            state.tier.to_string(),
            state.address.to_string(),
            paint(tone, state.state),
            generation,
            state.notes.join("; "),
        ]
    };
    let mut states: Vec<&NodeStatus> = states.iter().collect();
    states.sort_by_key(|state| state.tier);
    let rows: Vec<Vec<String>> = states.into_iter().map(row).collect();
    table(
        &["NODE", "TIER", "ADDRESS", "STATE", "GENERATION", ""],
        &rows,
    )
}
