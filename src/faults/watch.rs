//! What happens in the lab while something is broken: who has the virtual IP, what
//! each haproxy thinks of each app server, who is primary. Seen from outside the
//! nodes, every few milliseconds, and remembered as changes only.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::load::milliseconds;
use crate::health::mongo::{self, Role};
use crate::lab::Lab;
use crate::topology::Tier;

/// Time between two looks at the addresses.
const ADDRESSES: Duration = Duration::from_millis(5);
/// Time between two questions to a daemon.
const DAEMONS: Duration = Duration::from_millis(50);
/// How long a database may take to say who it is.
const PATIENCE: Duration = Duration::from_millis(300);

/// A thing that is watched.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Subject {
    /// The load balancers that have the virtual IP.
    VirtualIp,
    /// An app server as one load balancer's haproxy sees it.
    Server {
        /// The app server.
        app: String,
        /// The load balancer.
        by: String,
    },
    /// The databases that say that they are primary.
    Primary,
}

/// From a moment on, something was so.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The moment, in milliseconds since the load began.
    pub at_ms: f64,
    /// What changed.
    pub subject: Subject,
    /// How it was from then on: names, or haproxy's word.
    pub is: String,
}

/// What is known so far: the last state of each subject, and every change.
#[derive(Debug, Default)]
struct Known {
    now: BTreeMap<Subject, String>,
    changes: Vec<Change>,
}

impl Known {
    fn tell(&mut self, at: Duration, subject: Subject, is: String) {
        if self.now.get(&subject) != Some(&is) {
            self.now.insert(subject.clone(), is.clone());
            self.changes.push(Change {
                at_ms: milliseconds(at),
                subject,
                is,
            });
        }
    }
}

/// Watches the lab while `meanwhile` runs, and returns what changed, in order.
/// Moments count from `begun`.
///
/// # Errors
/// Those of `meanwhile`.
pub fn during<T>(
    lab: &Lab,
    begun: Instant,
    meanwhile: impl FnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<(T, Vec<Change>)> {
    let known = Mutex::new(Known::default());
    let over = AtomicBool::new(false);
    let tell = |subject: Subject, is: String| {
        if let Ok(mut known) = known.lock() {
            known.tell(begun.elapsed(), subject, is);
        }
    };
    let primaries = Mutex::new(BTreeSet::new());
    let is_over = || over.load(Ordering::SeqCst);
    let outcome = thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over() {
                tell(Subject::VirtualIp, lab.owners().join(", "));
                thread::sleep(ADDRESSES);
            }
        });
        for balancer in lab.plan().tier(Tier::LoadBalancer) {
            scope.spawn(|| {
                while !is_over() {
                    for server in lab.servers(&balancer.name).unwrap_or_default() {
                        let by = balancer.name.clone();
                        let app = server.name;
                        tell(Subject::Server { app, by }, server.status);
                    }
                    thread::sleep(DAEMONS);
                }
            });
        }
        for database in lab.plan().tier(Tier::Database) {
            let port = lab.plan().database_port.unwrap_or_default();
            let host = format!("{}:{port}", database.address);
            let (primaries, tell, is_over) = (&primaries, &tell, &is_over);
            scope.spawn(move || {
                let seen = &mut |role| {
                    if let Ok(mut all) = primaries.lock() {
                        let changed = if role == Some(Role::Primary) {
                            all.insert(database.name.clone())
                        } else {
                            all.remove(&database.name)
                        };
                        if changed {
                            let names: Vec<&str> = all.iter().map(String::as_str).collect();
                            tell(Subject::Primary, names.join(", "));
                        }
                    }
                };
                // Without a runtime nothing is seen of the databases, and the report shows that.
                let _ = mongo::observe(&host, PATIENCE, DAEMONS, is_over, seen);
            });
        }
        let outcome = meanwhile();
        over.store(true, Ordering::SeqCst);
        outcome
    })?;
    let changes = known
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .changes;
    Ok((outcome, changes))
}

/// How often what `subject` is was replaced by something else that is not nothing, from `from` on.
pub fn moves(changes: &[Change], subject: &Subject, from: Duration) -> usize {
    let from = milliseconds(from);
    let mut last: Option<&str> = None;
    let mut moves = 0;
    for change in changes
        .iter()
        .filter(|change| change.subject == *subject && !change.is.is_empty())
    {
        if last.is_some_and(|last| last != change.is) && change.at_ms >= from {
            moves += 1;
        }
        last = Some(&change.is);
    }
    moves
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moves_are_changes_of_owner() {
        let mut known = Known::default();
        for (at, is) in [
            (0, "a"),
            (5, "a"),
            (10, ""),
            (15, "b"),
            (20, "a, b"),
            (30, "b"),
        ] {
            known.tell(Duration::from_millis(at), Subject::VirtualIp, is.to_owned());
        }
        assert_eq!(known.changes.len(), 5, "only changes are remembered");
        assert_eq!(
            moves(&known.changes, &Subject::VirtualIp, Duration::ZERO),
            3
        );
        let late = Duration::from_millis(25);
        assert_eq!(moves(&known.changes, &Subject::VirtualIp, late), 1);
        assert_eq!(moves(&known.changes, &Subject::Primary, Duration::ZERO), 0);
    }
}
