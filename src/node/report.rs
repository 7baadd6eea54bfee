//! What a node tells about itself to whoever rolls a change out.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

use crate::config::{APP_SOURCE, HAPROXY_STATE, NodeFacts, place};
use crate::health::report::{Balancer, Member, Report};
use crate::health::{mongo, vrrp};
use crate::secrets::{Kind, Secrets};
use crate::topology::Tier;

/// How long mongod may take to accept a connection.
const QUESTION: Duration = Duration::from_millis(500);

/// What this node runs, by its files and its daemons.
///
/// # Errors
/// If `facts_file` can't be read.
pub fn report(facts_file: &Path) -> anyhow::Result<Report> {
    let text = fs::read_to_string(facts_file)
        .with_context(|| format!("reading {}", facts_file.display()))?;
    let facts: NodeFacts = serde_json::from_str(&text).context("reading the node's facts")?;
    let of_tier = |tier: Tier| facts.tier == tier;
    Ok(Report {
        files: sums(&facts),
        app: of_tier(Tier::App)
            .then(|| fs::canonicalize(APP_SOURCE).ok())
            .flatten()
            .map(|target| target.display().to_string()),
        apps: apps(&facts),
        load_balancer: of_tier(Tier::LoadBalancer).then(|| Balancer {
            has_virtual_ip: vrrp::is_local(facts.virtual_ip),
            takes_part: fs::read_to_string(HAPROXY_STATE).is_ok_and(|state| state.trim() == "0"),
            certificate_days: super::certificates::days_left(&facts),
            certificate_problem: super::certificates::problem(&facts),
        }),
        database: member(&facts),
        // Not the text: NixOS writes what is not there as null.
        facts: serde_json::to_value(&facts)?,
    })
}

/// Where the code of each further application is.
fn apps(facts: &NodeFacts) -> BTreeMap<String, String> {
    let further = facts.app.iter().flat_map(|app| &app.further);
    let found = further.filter_map(|app| {
        let target = fs::canonicalize(place::source(Some(&app.name))).ok()?;
        Some((app.name.clone(), target.display().to_string()))
    });
    found.collect()
}

fn sums(facts: &NodeFacts) -> BTreeMap<String, Option<String>> {
    let sum = |path: &String| {
        let bytes = fs::read(Path::new("/").join(path)).ok()?;
        Some(hex::encode(Sha256::digest(bytes)))
    };
    facts
        .files
        .keys()
        .filter(|path| path.starts_with("etc/"))
        .map(|path| (path.clone(), sum(path)))
        .collect()
}

/// How this database does in its replica set, as it tells the monitoring user.
///
/// # Errors
/// If this is no database, or mongod does not answer.
pub fn vitals(facts: &NodeFacts, secrets: &Secrets) -> anyhow::Result<mongo::Vitals> {
    let (_, me) = facts.membership()?;
    let member = secrets.log_in(Kind::Monitoring, &me.host, QUESTION)?;
    let member = member.context("mongod does not know the monitoring user")?;
    member.vitals()
}

fn member(facts: &NodeFacts) -> Option<Member> {
    let (_, me) = facts.membership().ok()?;
    let hello = mongo::Member::connect(&me.host, QUESTION)
        .ok()?
        .hello()
        .ok()?;
    Some(Member {
        role: hello.role,
        primary: hello.primary,
        members: hello.members,
        last_write_ms: hello.last_write_ms,
    })
}
