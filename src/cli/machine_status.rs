//! `status`: each machine's state, by its own account and by that of the load balancers.

use std::path::Path;

use super::args::LookArgs;
use super::machines::{chosen, tell_of_lab, way};
use super::source;
use super::status::{self, Stack};
use super::ui::Ui;
use crate::failure::Outcome;
use crate::machines::MachineSite;
use crate::machines::closures::Closures;
use crate::site::{self, NodeId};

/// `status`.
pub(super) fn run(file: Option<&Path>, args: &LookArgs, ui: &mut Ui) -> Outcome {
    let (_, topology) = source::load(file, ui)?;
    tell_of_lab(file, "status", ui);
    let nodes = chosen(&topology, args.on.as_ref())?;
    let ssh = way(&topology, &args.way)?;
    let nodes: Vec<NodeId> = nodes.into_iter().map(NodeId::from).collect();
    let running = Closures::new();
    let site = MachineSite::new(&ssh, &running, nodes.clone());
    let found = site::status(&site, &nodes);
    let name = topology.name().to_string();
    let stack = Stack {
        stack: &name,
        virtual_ip: topology.network().virtual_ip,
    };
    status::show(&stack, &found, args.on.is_none(), args.format, ui)
}
