//! What the name of a group tells of its hosts.

use crate::topology::Tier;

/// What a group's hosts are taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guess {
    Tier(Tier),
    /// Something that a topology has no node for.
    Other(&'static str),
}

impl Guess {
    pub(super) fn tier(self) -> Option<Tier> {
        match self {
            Self::Tier(tier) => Some(tier),
            Self::Other(_) => None,
        }
    }

    pub(super) fn other(self) -> Option<&'static str> {
        match self {
            Self::Tier(_) => None,
            Self::Other(what) => Some(what),
        }
    }
}

const LOAD_BALANCER: [&str; 11] = [
    "lb",
    "lbs",
    "lbservers",
    "haproxy",
    "keepalived",
    "loadbalancer",
    "loadbalancers",
    "balancer",
    "balancers",
    "proxy",
    "proxies",
];
const APP: [&str; 22] = [
    "app",
    "apps",
    "appserver",
    "appservers",
    "application",
    "applications",
    "backend",
    "backends",
    "web",
    "webs",
    "webapp",
    "webapps",
    "webserver",
    "webservers",
    "www",
    "nginx",
    "flask",
    "gunicorn",
    "django",
    "uwsgi",
    "wsgi",
    "python",
];
const DATABASE: [&str; 9] = [
    "db",
    "dbs",
    "dbserver",
    "dbservers",
    "database",
    "databases",
    "mongo",
    "mongod",
    "mongodb",
];
/// Programs that keep data and are not `MongoDB`.
const OTHER_DATABASE: [&str; 18] = [
    "cassandra",
    "couchdb",
    "elasticsearch",
    "etcd",
    "galera",
    "influxdb",
    "kafka",
    "mariadb",
    "memcached",
    "mssql",
    "mysql",
    "oracle",
    "percona",
    "pgsql",
    "postgres",
    "postgresql",
    "rabbitmq",
    "redis",
];
/// Parts of `MongoDB` that store no data of the app, by what a name contains.
const OTHER_PART: [(&str, &str); 8] = [
    (
        "mongos",
        "routers (mongos), which a sharded topology puts beside each app",
    ),
    ("arbiter", "arbiters, which a topology does not have"),
    (
        "configsvr",
        "config servers, which a sharded topology names by itself",
    ),
    (
        "configserver",
        "config servers, which a sharded topology names by itself",
    ),
    (
        "configdb",
        "config servers, which a sharded topology names by itself",
    ),
    (
        "cfgsvr",
        "config servers, which a sharded topology names by itself",
    ),
    (
        "mongocfg",
        "config servers, which a sharded topology names by itself",
    ),
    (
        "mongoconfig",
        "config servers, which a sharded topology names by itself",
    ),
];

/// What the hosts of the group called `group` are, if its name says it.
pub(super) fn guess(group: &str) -> Option<Guess> {
    let group = group.to_lowercase();
    let whole = group.replace(|c: char| !c.is_ascii_alphanumeric(), "");
    let part = OTHER_PART.iter().find(|(word, _)| is_part(&whole, word));
    if let Some((_, what)) = part {
        return Some(Guess::Other(what));
    }
    let words = || {
        let words = group.split(|c: char| !c.is_ascii_alphanumeric());
        words.map(|word| word.trim_end_matches(|c: char| c.is_ascii_digit()))
    };
    let mut others = words().chain([whole.as_str()]);
    if others.any(|word| OTHER_DATABASE.iter().any(|other| word.starts_with(other))) {
        return Some(Guess::Other("another program that keeps data"));
    }
    let plain = whole.trim_end_matches(|c: char| c.is_ascii_digit());
    let found = tier(plain).or_else(|| words().find_map(tier));
    found.map(Guess::Tier)
}

/// Whether a group's name has that part; `mongos` is none of `mongoset`, `mongoservers`.
fn is_part(whole: &str, word: &str) -> bool {
    if word == "mongos" {
        let rest = whole.strip_prefix("mongos");
        return rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphabetic()));
    }
    whole.contains(word)
}

fn tier(word: &str) -> Option<Tier> {
    let tiers = [
        (&LOAD_BALANCER[..], Tier::LoadBalancer),
        (&APP, Tier::App),
        (&DATABASE, Tier::Database),
    ];
    let known = tiers.into_iter().find(|(words, _)| words.contains(&word));
    let mongo = word.starts_with("mongo").then_some(Tier::Database);
    known.map(|(_, tier)| tier).or(mongo)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_groups_tell_tiers() {
        for (group, expected) in [
            ("lbservers", Some(Guess::Tier(Tier::LoadBalancer))),
            ("edge-proxy", Some(Guess::Tier(Tier::LoadBalancer))),
            ("www", Some(Guess::Tier(Tier::App))),
            ("webapp1", Some(Guess::Tier(Tier::App))),
            ("application", Some(Guess::Tier(Tier::App))),
            ("backend", Some(Guess::Tier(Tier::App))),
            ("prod_db", Some(Guess::Tier(Tier::Database))),
            ("mongoservers", Some(Guess::Tier(Tier::Database))),
            ("monitoring", None),
        ] {
            assert_eq!(guess(group), expected, "{group}");
        }
        for group in [
            "mysql_db",
            "mongos",
            "mongo_arbiters",
            "mongo-config-servers",
            "redis1",
        ] {
            assert!(guess(group).and_then(Guess::other).is_some(), "{group}");
        }
    }
}
