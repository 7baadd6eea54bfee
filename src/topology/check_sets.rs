//! What a stack's replica sets need: a name each, members, a majority that can vote.

use std::collections::HashMap;

use super::checker::Check;
use super::diagnostic::{Place, step};
use super::raw::RawNode;
use super::replica_sets::{MAX_VOTERS, SetRole, names, set_of, votes};
use super::{Code, Tier};

/// Members that a replica set may have.
const MAX_MEMBERS: usize = 50;

/// Checks every replica set, and which nodes say that they are in one.
pub(super) fn check(check: &mut Check<'_>) {
    check.replica_sets();
}

fn key(name: &str) -> Place {
    Place::key(format!("/nodes/{}", step(name)))
}

impl Check<'_> {
    /// Every replica set, and who says to be in one.
    fn replica_sets(&mut self) {
        self.misplaced_keys();
        let raw = self.raw;
        if !raw.has_database() {
            return;
        }
        let sharding = raw.database.sharding.as_ref();
        let names = names(
            raw.database.replica_set.as_str(),
            sharding.map(|sharding| sharding.shards),
        );
        if !self.are_different(&names) {
            return;
        }
        self.unknown_sets(&names);
        let votes = votes(raw);
        for (name, role) in &names {
            let members: Vec<(&String, &RawNode)> = self
                .tier(Tier::Database)
                .filter(|(_, node)| set_of(raw, node) == name)
                .collect();
            self.size(name, *role, &members);
            self.voters(name, *role, &members, &votes);
        }
    }

    fn misplaced_keys(&mut self) {
        let raw = self.raw;
        for (name, node) in &raw.nodes {
            if node.tier == Tier::Database {
                continue;
            }
            let place = |key: &str| Place::key(format!("/nodes/{}/{key}", step(name)));
            if node.voting.is_some() {
                let message = format!("{name} is no database, so it can't vote");
                self.add(Code::MisplacedKey, place("voting"), message);
            }
            if node.replica_set.is_some() {
                let message = format!("{name} is no database, so it is in no replica set");
                self.add(Code::MisplacedKey, place("replica_set"), message);
            }
        }
    }

    /// Whether no two sets have the same name.
    fn are_different(&mut self, names: &[(String, Option<SetRole>)]) -> bool {
        let first = self.raw.database.replica_set.as_str();
        let same = names.iter().filter(|(name, _)| name == first).count();
        if same > 1 {
            let message = format!("two replica sets would have the name {first}");
            let place = Place::value("/database/replica_set");
            let problem = self.add(Code::SameReplicaSet, place, message);
            problem.related.push((
                Place::key("/database/sharding"),
                "names the others: config, shard-2, shard-3 …".into(),
            ));
        }
        same <= 1
    }

    fn unknown_sets(&mut self, names: &[(String, Option<SetRole>)]) {
        let raw = self.raw;
        let known: Vec<&str> = names.iter().map(|(name, _)| name.as_str()).collect();
        for (name, node) in &raw.nodes {
            let Some(set) = &node.replica_set else {
                continue;
            };
            if node.tier != Tier::Database || known.contains(&set.as_str()) {
                continue;
            }
            let message = format!("{name} is in the replica set {set}, which is not there");
            let place = Place::value(format!("/nodes/{}/replica_set", step(name)));
            let problem = self.add(Code::UnknownReplicaSet, place, message);
            problem.hint = Some(match (&raw.database.sharding, known.as_slice()) {
                (None, _) => format!(
                    "only a sharded stack has more sets than {}: see `database.sharding`",
                    known.join(", ")
                ),
                (Some(_), [.., last]) if known.len() > 8 => {
                    format!("there are {}, {}, … {last}", known[0], known[1])
                }
                _ => format!("there are {}", known.join(", ")),
            });
        }
    }

    /// Whether a set has as many members as `sharding` says.
    fn size(&mut self, name: &str, role: Option<SetRole>, members: &[(&String, &RawNode)]) {
        let count = members.len();
        if count > MAX_MEMBERS {
            let message =
                format!("{count} databases in the replica set {name}, {MAX_MEMBERS} are possible");
            self.add(Code::TooManyDatabases, Place::key("/nodes"), message);
        }
        let Some((sharding, role)) = self.raw.database.sharding.as_ref().zip(role) else {
            return;
        };
        let (wanted, setting) = match role {
            SetRole::Config => (sharding.config_servers, "config_servers"),
            SetRole::Shard => (sharding.members, "members"),
        };
        let by_default = Place::key("/database/sharding");
        let said = Place::value(format!("/database/sharding/{setting}"));
        if count == 0 {
            let message = format!("the replica set {name} has no database");
            self.add(Code::EmptyReplicaSet, by_default, message).hint = Some(format!(
                "give {wanted} databases `\"replica_set\": \"{name}\"`; \
                 `gen-topology add database --replica-set {name} --count {wanted}` does"
            ));
        } else if count != usize::from(wanted) {
            let message = format!(
                "the replica set {name} has {count} {}, `{setting}` says {wanted}",
                Tier::Database.noun(count)
            );
            let last = members.last().map(|(name, _)| key(name));
            let problem = self.add(Code::ReplicaSetSize, said, message);
            let related = last.map(|last| (last, format!("the last of {name}")));
            problem.related.extend(related);
            problem.hint = Some(format!(
                "`gen-topology scale {}={wanted}` adds or removes what is needed",
                setting.replace('_', "-")
            ));
        }
    }

    /// Whether a set can elect a primary, and whether it survives the loss of one member.
    fn voters(
        &mut self,
        set: &str,
        role: Option<SetRole>,
        members: &[(&String, &RawNode)],
        votes: &HashMap<String, bool>,
    ) {
        let Some((first, _)) = members.first() else {
            return;
        };
        let of_set = role.map(|_| format!(" of {set}")).unwrap_or_default();
        let asked = members
            .iter()
            .filter(|(_, node)| node.voting == Some(true))
            .count();
        let voters: Vec<&String> = members
            .iter()
            .map(|(name, _)| *name)
            .filter(|name| votes.get(*name) == Some(&true))
            .collect();
        let count = voters.len();
        let last = voters.last().copied();
        if asked > MAX_VOTERS {
            let message = format!("{asked} databases{of_set} ask to vote, {MAX_VOTERS} can");
            self.add(Code::TooManyVoters, key(first), message);
        } else if count == 0 {
            let message = format!("no database{of_set} votes, so there can be no primary");
            self.add(Code::EmptyTier, key(first), message);
        } else if count.is_multiple_of(2) {
            let place = key(last.unwrap_or(first));
            let message = format!(
                "{count} databases{of_set} vote: they survive the loss of {}, no more than {} would",
                count / 2 - 1,
                count - 1
            );
            self.add(Code::EvenVoters, place, message).hint = Some(
                "add a database, remove one, or give one `\"voting\": false` so that it only keeps a copy".into(),
            );
        } else if count == 1 {
            let name = last.unwrap_or(first);
            let lost = match role {
                None => "nothing can be stored",
                Some(SetRole::Shard) => "its part of the data is gone and can't be stored",
                Some(SetRole::Config) => "no router knows which shard has what",
            };
            let message =
                format!("{name} is the only database{of_set} that votes: without it {lost}");
            let scale = match role {
                None => "database=3",
                Some(SetRole::Shard) => "members=3",
                Some(SetRole::Config) => "config-servers=3",
            };
            self.add(Code::NoSpareDatabase, key(name), message).hint = Some(format!(
                "`gen-topology scale {scale}` survives the loss of any one"
            ));
        }
    }
}
