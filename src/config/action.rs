//! What has to happen on a node whose files changed, so that its daemons use them:
//! the same knowledge for `lab up`, for a plan and for a roll-out.

use serde::{Deserialize, Serialize};

use super::{FIREWALL_FILE, LoadBalancerFacts, NodeFacts};
use crate::topology::Tier;

/// What makes a daemon use a changed file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// The node's firewall is loaded anew; connections that are open go on.
    LoadFirewall,
    /// haproxy reads its files in a new process, and the old one ends its requests.
    ReloadHaproxy,
    /// Keepalived reads its file; the virtual IP stays where it is.
    ReloadKeepalived,
    /// Keepalived ends and starts: the load balancer drains and hands the virtual IP over first.
    RestartKeepalived,
    /// haproxy and Keepalived end and start, Keepalived first and last.
    RestartLoadBalancer,
    /// nginx reads its files; the old workers end their requests.
    ReloadNginx,
    /// supervisord takes changed programs over and leaves the others alone.
    UpdateSupervisor,
    /// gunicorn's instances end and start, one after the other.
    RestartApp,
    /// mongos ends and starts.
    RestartMongos,
    /// mongod ends and starts.
    RestartMongod,
    /// The replica set gets changed settings or votes, by its primary.
    ConfigureSet,
    /// The whole node ends and starts.
    Boot,
}

impl Action {
    /// What it is, in the words of a plan.
    pub fn words(self) -> &'static str {
        match self {
            Action::LoadFirewall => "load the firewall",
            Action::ReloadHaproxy => "reload haproxy",
            Action::ReloadKeepalived => "reload Keepalived",
            Action::RestartKeepalived => "hand the virtual IP over, restart Keepalived",
            Action::RestartLoadBalancer => "restart haproxy and Keepalived",
            Action::ReloadNginx => "reload nginx",
            Action::UpdateSupervisor => "update supervisord",
            Action::RestartApp => "restart the app",
            Action::RestartMongos => "restart mongos",
            Action::RestartMongod => "restart mongod",
            Action::ConfigureSet => "configure the replica set",
            Action::Boot => "boot anew",
        }
    }
}

/// What a running node needs for `changed` files, given below `/etc`. Nothing where
/// the files are read whenever they are needed. Never [`Action::Boot`], which is not about files.
pub fn actions(old: &NodeFacts, new: &NodeFacts, changed: &[impl AsRef<str>]) -> Vec<Action> {
    let has = |start: &str| changed.iter().any(|path| path.as_ref().starts_with(start));
    let when = |is: bool, action: Action| is.then_some(action);
    let firewall = when(has(FIREWALL_FILE), Action::LoadFirewall);
    let all: Vec<Option<Action>> = match new.tier {
        Tier::LoadBalancer if has("supervisor/") || settings_differ(old, new) => {
            vec![Some(Action::RestartLoadBalancer)]
        }
        Tier::LoadBalancer => vec![
            when(has("haproxy/"), Action::ReloadHaproxy),
            when(has("keepalived/"), Action::ReloadKeepalived),
        ],
        Tier::App => vec![
            when(has("nginx/"), Action::ReloadNginx),
            when(has("supervisor/"), Action::UpdateSupervisor),
            // One that is new is started by the line before.
            when(
                has("mongos.conf") && old.is_router() && new.is_router(),
                Action::RestartMongos,
            ),
            when(
                has("gunicorn/") || has("gen-topology/app") || has("gen-topology/pythons/"),
                Action::RestartApp,
            ),
        ],
        Tier::Database => vec![
            when(has("supervisor/"), Action::UpdateSupervisor),
            when(has("mongod.conf"), Action::RestartMongod),
            when(set_differs(old, new), Action::ConfigureSet),
        ],
    };
    firewall
        .into_iter()
        .chain(all.into_iter().flatten())
        .collect()
}

/// Whether no daemon is touched by what is done.
pub fn is_quiet(how: &[Action]) -> bool {
    how.iter().all(|action| *action == Action::LoadFirewall)
}

/// Whether something changed that `node run haproxy` and `node run keepalived` have
/// read when they were started. They read the lists of other load balancers anew.
fn settings_differ(old: &NodeFacts, new: &NodeFacts) -> bool {
    let settings = |facts: &NodeFacts| {
        facts
            .load_balancer
            .as_ref()
            .map(|settings: &LoadBalancerFacts| {
                (
                    facts.virtual_ip,
                    settings.port,
                    settings.tls.as_ref().map(|tls| tls.port),
                    settings.internal_port,
                    settings.preempt,
                    settings.preempt_delay_ms,
                    settings.drain_time_ms,
                )
            })
    };
    settings(old) != settings(new)
}

/// Whether the replica set's settings changed, who votes in it, or what its config servers have
/// to make of the cluster. Members that come and go are a matter of their own.
fn set_differs(old: &NodeFacts, new: &NodeFacts) -> bool {
    let (Some(old), Some(new)) = (&old.database, &new.database) else {
        return false;
    };
    old.cluster != new.cluster
        || old.election_timeout_ms != new.election_timeout_ms
        || old.heartbeat_interval_ms != new.heartbeat_interval_ms
        || new.members.iter().any(|member| {
            let before = old.members.iter().find(|other| other.name == member.name);
            before.is_some_and(|before| before != member)
        })
}
