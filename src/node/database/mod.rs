//! Bringing the replica set to what the topology says, from whatever it is now.
//! Every database node runs this; it can be run again and again, and at the same
//! time on all of them.
//!
//! - Nobody has a replica set, and every member says so: the member with the lowest
//!   address initiates, with all members and settings, and then asks to be elected, which
//!   saves waiting for the first election time-out ([`join`]).
//! - There is a primary but nobody who may administer: the primary's own node makes that
//!   user, which mongod allows a local connection as long as there is no user ([`users`]).
//! - Then whoever runs this changes users and members through the primary, one step at a
//!   time, and waits for each to be committed ([`members`]).
//! - In a sharded stack each set is brought to what it should be like any other, and then the
//!   config servers bring the cluster to it, through a router ([`cluster`]).
//!
//! A set is never initiated while any member is silent: the silent one may be in
//! a set already. Reconfiguration is never forced, unless somebody says so ([`force`]).

mod cluster;
mod force;
mod join;
mod members;
mod users;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use mongodb::bson::{Document, doc};

use crate::config::{Member, NodeFacts, ReplicaSet, SetRole};
use crate::health::mongo::{self, Role};
use crate::secrets::{Kind, Secrets};
use users::{Task, Wanted};

/// How long one connection may take to be accepted.
const CONNECT: Duration = Duration::from_millis(300);
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(25);

/// For how long it is no news that mongod does not answer: it starts together with this.
const STARTING: Duration = Duration::from_secs(10);

const NO_ANSWER: &str = "this node's mongod does not answer";

/// How to reconcile.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long to wait for members and majorities.
    pub patience: Duration,
    /// The node's secrets.
    pub secrets: Secrets,
    /// Go on with the members that answer, although they are no majority. Writes that only
    /// the others have are lost.
    pub force: bool,
    /// Where the set does not know the administration user of the secrets, make it so with
    /// the members' key.
    pub reset_administration: bool,
    /// End with an error after so many changes, as if killed. For tests.
    pub stop_after: Option<u32>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The set is as the topology says.
    Done(String),
    /// It is not, and time or another node will help; run it again.
    NotYet(String),
    /// It is not, and nothing will change before a person has decided something.
    NeedsPerson(String),
}

impl Verdict {
    /// The sentence.
    pub fn words(&self) -> &str {
        match self {
            Verdict::Done(why) | Verdict::NotYet(why) | Verdict::NeedsPerson(why) => why,
        }
    }
}

/// Works until the set is as it should be. What can't be done yet is looked at again
/// until `patience` is over, also when a person is needed: that person may be at it.
///
/// # Errors
/// If the facts are not those of a database, or `stop_after` is reached.
pub fn reconcile(
    facts: &NodeFacts,
    options: &Options,
    say: &dyn Fn(&str),
) -> anyhow::Result<Verdict> {
    let run = Run::of(facts, options, say)?;
    if options.force {
        force::reconfigure(&run)?;
    }
    let begun = Instant::now();
    let mut last = String::new();
    loop {
        let verdict = match run.step() {
            Ok(Step::Again) => continue,
            Ok(Step::Wait(verdict @ Verdict::Done(_))) => return Ok(verdict),
            Ok(Step::Wait(verdict)) => verdict,
            Err(error) if error.is::<Stopped>() => return Err(error),
            // Elections and other changes come in between; the next look tells more.
            Err(error) => {
                run.admin.take();
                Verdict::NotYet(format!("not yet: {}", words(&error)))
            }
        };
        if begun.elapsed() >= options.patience {
            return Ok(verdict);
        }
        let starts = verdict.words() == NO_ANSWER && begun.elapsed() < STARTING;
        if verdict.words() != last && !starts {
            verdict.words().clone_into(&mut last);
            say(&last);
        }
        std::thread::sleep(PAUSE);
    }
}

/// Fails unless this node's mongod is a member that serves: primary or secondary.
///
/// # Errors
/// If it is not, with the reason.
pub fn check(facts: &NodeFacts) -> anyhow::Result<()> {
    let (_, me) = facts.membership()?;
    let (_, port) = me.host.rsplit_once(':').unwrap_or_default();
    let hello = mongo::Member::connect(&format!("127.0.0.1:{port}"), CONNECT)?.hello()?;
    let serves = matches!(hello.role, Role::Primary | Role::Secondary);
    anyhow::ensure!(serves, "mongod is {:?}", hello.role);
    Ok(())
}

/// Moves the data of a shard that the topology does not know any more to the others, and takes
/// it out of the cluster. Can be run again; until `patience` is over it waits.
///
/// # Errors
/// If the facts are not those of a config server, the topology still has the shard, or no
/// router answers.
pub fn remove_shard(
    facts: &NodeFacts,
    options: &Options,
    name: &str,
    databases_to: Option<&str>,
    say: &dyn Fn(&str),
) -> anyhow::Result<Verdict> {
    cluster::remove_shard(&Run::of(facts, options, say)?, name, databases_to)
}

enum Step {
    /// Something was done; look again.
    Again,
    /// Nothing can be done now, and why.
    Wait(Verdict),
}

fn done(why: impl Into<String>) -> Step {
    Step::Wait(Verdict::Done(why.into()))
}

fn not_yet(why: impl Into<String>) -> Step {
    Step::Wait(Verdict::NotYet(why.into()))
}

fn needs_person(why: impl Into<String>) -> Step {
    Step::Wait(Verdict::NeedsPerson(why.into()))
}

/// The end that [`Options::stop_after`] asks for.
#[derive(Debug, thiserror::Error)]
#[error("stopped after {0} changes")]
struct Stopped(u32);

fn words(error: &anyhow::Error) -> String {
    match error.downcast_ref::<mongodb::error::Error>() {
        Some(error) => mongo::words(error),
        None => format!("{error:#}"),
    }
}

/// One run of [`reconcile`].
struct Run<'r> {
    wanted: &'r ReplicaSet,
    me: &'r Member,
    /// This node's mongod by the loopback interface.
    local: String,
    options: &'r Options,
    say: &'r dyn Fn(&str),
    /// Connections as nobody, by address.
    known: RefCell<BTreeMap<String, Rc<mongo::Member>>>,
    /// The connection as administrator, and to whom: proving a password takes a moment.
    admin: RefCell<Option<(String, Rc<mongo::Member>)>>,
    changes: Cell<u32>,
    passwords_tried: Cell<bool>,
}

/// Why there is no connection as administrator.
enum NoAdmin {
    /// Nobody is there, or the secrets can't be read.
    Unreachable(anyhow::Error),
    /// Somebody is there and does not know the user.
    Refused,
}

impl<'r> Run<'r> {
    fn of(
        facts: &'r NodeFacts,
        options: &'r Options,
        say: &'r dyn Fn(&str),
    ) -> anyhow::Result<Self> {
        let (wanted, me) = facts.membership()?;
        let (_, port) = me
            .host
            .rsplit_once(':')
            .with_context(|| format!("`{}` is no address:port", me.host))?;
        Ok(Self {
            wanted,
            me,
            local: format!("127.0.0.1:{port}"),
            options,
            say,
            known: RefCell::default(),
            admin: RefCell::default(),
            changes: Cell::new(0),
            passwords_tried: Cell::new(false),
        })
    }
}

impl Run<'_> {
    fn step(&self) -> anyhow::Result<Step> {
        let Ok(hello) = self.hello(&self.local) else {
            return Ok(not_yet(NO_ANSWER));
        };
        if let Some(set) = hello.set.as_ref().filter(|set| **set != self.wanted.name) {
            return Ok(needs_person(format!(
                "this node's data belongs to the replica set {set}, not to {}; {}",
                self.wanted.name,
                join::FOREIGN
            )));
        }
        if hello.role == Role::Uninitialized {
            return self.outside();
        }
        match hello.primary {
            Some(primary) => self.converge(&primary, hello.role),
            None => Ok(self.no_primary(&hello)),
        }
    }

    /// This node is in no set: the others have one, or it is to be made.
    fn outside(&self) -> anyhow::Result<Step> {
        let mut silent = None;
        let mut set = None;
        for other in self.others() {
            match self.hello(&other.host) {
                Ok(hello) if hello.role == Role::Uninitialized => {}
                Ok(_) => set = Some(other),
                Err(_) => silent = Some(other),
            }
        }
        match (set, silent) {
            (Some(other), _) => Ok(join::wait_to_be_added(self, other)),
            (None, Some(other)) => Ok(not_yet(format!(
                "waiting for {}, before a set is made",
                other.name
            ))),
            (None, None) => join::initiate(self),
        }
    }

    /// A connection to `host` as nobody: the one there is, or a new one.
    fn to(&self, host: &str) -> anyhow::Result<Rc<mongo::Member>> {
        if let Some(member) = self.known.borrow().get(host) {
            return Ok(Rc::clone(member));
        }
        let member = Rc::new(mongo::Member::connect(host, CONNECT)?);
        self.known
            .borrow_mut()
            .insert(host.to_owned(), Rc::clone(&member));
        Ok(member)
    }

    /// What the mongod at `host` says about itself.
    fn hello(&self, host: &str) -> anyhow::Result<mongo::Hello> {
        let answer = self.to(host)?.hello();
        if answer.is_err() {
            // Connected anew next time: the driver would wait for the old one to return.
            self.known.borrow_mut().remove(host);
        }
        Ok(answer?)
    }

    fn others(&self) -> impl Iterator<Item = &Member> {
        self.wanted
            .members
            .iter()
            .filter(|member| *member != self.me)
    }

    /// A set without a primary: will there be one?
    fn no_primary(&self, hello: &mongo::Hello) -> Step {
        let votes = |host: &&String| {
            let known = self
                .wanted
                .members
                .iter()
                .find(|member| member.host == **host);
            known.is_none_or(|member| member.voting)
        };
        let voters: Vec<&String> = hello.members.iter().filter(votes).collect();
        let answers = |host: &&String| self.hello(host).is_ok();
        let (_, silent): (Vec<&String>, Vec<&String>) =
            voters.iter().copied().partition(|host| answers(host));
        let needed = voters.len() / 2 + 1;
        if voters.len() - silent.len() >= needed {
            return not_yet("there is no primary yet");
        }
        let names: Vec<&str> = silent.iter().map(|host| self.name_of(host)).collect();
        needs_person(format!(
            "no primary can be elected: {} of {} voting members are needed, and {} {}; bring them back, \
             or see \"The majority is gone\" in docs/database.md",
            needed,
            voters.len(),
            names.join(", "),
            if names.len() == 1 {
                "does not answer"
            } else {
                "do not answer"
            },
        ))
    }

    fn name_of<'n>(&'n self, host: &'n str) -> &'n str {
        let known = self
            .wanted
            .members
            .iter()
            .find(|member| member.host == host);
        known.map_or(host, |member| &member.name)
    }

    /// One step towards the wanted set, through its primary.
    fn converge(&self, primary: &str, role: Role) -> anyhow::Result<Step> {
        let is_me = primary == self.me.host;
        let host = if is_me { &self.local } else { primary };
        let admin = match self.admin(host) {
            Ok(admin) => admin,
            Err(NoAdmin::Refused) if self.options.reset_administration => {
                return force::reset_administration(self, host);
            }
            Err(NoAdmin::Refused) if is_me => return self.first_user(),
            Err(NoAdmin::Refused) => {
                return Ok(not_yet(format!(
                    "{} does not know this stack's administration user yet",
                    self.name_of(primary)
                )));
            }
            Err(NoAdmin::Unreachable(error)) => return Ok(not_yet(format!("{error:#}"))),
        };
        match self.change_users(&admin, host)? {
            Some(step) => Ok(step),
            None => self.change_members(&admin, primary, role),
        }
    }

    /// A new connection to `host` as a user of the stack; none if it takes none of its passwords.
    fn log_in(&self, kind: Kind, host: &str) -> anyhow::Result<Option<mongo::Member>> {
        self.options.secrets.log_in(kind, host, CONNECT)
    }

    /// A connection to `host` as administrator: the one there is, or a new one.
    fn admin(&self, host: &str) -> Result<Rc<mongo::Member>, NoAdmin> {
        if let Some((of, member)) = &*self.admin.borrow()
            && of == host
        {
            return Ok(Rc::clone(member));
        }
        let member = self.log_in(Kind::Administration, host);
        let member = member.map_err(NoAdmin::Unreachable)?;
        let member = Rc::new(member.ok_or(NoAdmin::Refused)?);
        self.admin
            .replace(Some((host.to_owned(), Rc::clone(&member))));
        Ok(member)
    }

    /// The users that the secrets speak of. The application comes to a shard through a router
    /// only, which knows it from the config servers.
    fn wanted_users(&self) -> anyhow::Result<Vec<Wanted>> {
        let mut users = Vec::new();
        let is_shard = self.wanted.role == Some(SetRole::Shard);
        for kind in Kind::USERS {
            if is_shard && kind == Kind::Application {
                continue;
            }
            let logins = self.options.secrets.logins(kind)?;
            users.extend(logins.into_iter().map(|login| Wanted { kind, login }));
        }
        Ok(users)
    }

    /// Makes the user who makes the others, as mongod allows while there is none.
    fn first_user(&self) -> anyhow::Result<Step> {
        const UNAUTHORIZED: i32 = 13;
        let wanted = self.wanted_users();
        let Some(first) = wanted.as_ref().ok().and_then(|users| users.first()) else {
            return Ok(not_yet(format!(
                "the secrets can't be read: {}",
                wanted
                    .err()
                    .map_or_else(String::new, |error| format!("{error:#}"))
            )));
        };
        let mut create = users::create(first, &self.wanted.application_database);
        // Only for this one: the others, which follow at once, wait for a majority.
        create.insert("writeConcern", doc! { "w": 1 });
        match self.to(&self.local)?.command(create) {
            Ok(_) => {
                (self.say)(&Task::Create(first.clone()).words());
                self.acted()?;
                Ok(Step::Again)
            }
            Err(error) if mongo::code(&error) == Some(UNAUTHORIZED) => Ok(needs_person(format!(
                "this set has users, but {} is not among them or has another password; put the secrets back \
                 that belong to this data, or see \"The secrets are lost\" in docs/database.md",
                first.login.user
            ))),
            Err(error) => Ok(not_yet(format!(
                "the first user can't be made yet: {}",
                mongo::words(&error)
            ))),
        }
    }

    /// Brings users to what the secrets say; none when there is nothing to do.
    fn change_users(&self, admin: &mongo::Member, host: &str) -> anyhow::Result<Option<Step>> {
        let database = &self.wanted.application_database;
        let wanted = self.wanted_users()?;
        let present = admin.command(doc! { "usersInfo": 1 })?;
        let tasks = users::tasks(&wanted, &present, database);
        let last = tasks.len().saturating_sub(1);
        for (index, task) in tasks.iter().enumerate() {
            let mut command = task.command(database);
            // The last one waits for a majority, and with it all before it.
            if index < last {
                command.insert("writeConcern", doc! { "w": 1 });
            }
            admin.command(command)?;
            (self.say)(&task.words());
            self.acted()?;
        }
        if !tasks.is_empty() {
            return Ok(Some(Step::Again));
        }
        if self.passwords_tried.replace(true) {
            return Ok(None);
        }
        self.try_passwords(admin, host, &wanted)
    }

    /// Gives users the passwords of their files where they have others.
    fn try_passwords(
        &self,
        admin: &mongo::Member,
        host: &str,
        wanted: &[Wanted],
    ) -> anyhow::Result<Option<Step>> {
        for user in wanted {
            let login = [user.login.as_user()];
            if mongo::Member::login_as_any(host, CONNECT, login)?.is_some() {
                continue;
            }
            admin.command(users::set_password(user))?;
            (self.say)(&format!(
                "gave the user {} the password of its file",
                user.login.user
            ));
            self.acted()?;
        }
        Ok(None)
    }

    /// Brings members and settings to what the topology says.
    fn change_members(
        &self,
        admin: &mongo::Member,
        primary: &str,
        role: Role,
    ) -> anyhow::Result<Step> {
        let answer = admin.command(doc! { "replSetGetConfig": 1 })?;
        let current = answer
            .get_document("config")
            .context("the answer holds no configuration")?;
        let Some(change) = members::next(current, self.wanted) else {
            return match self.retire_application(admin)? {
                Some(step) => Ok(step),
                None => self.own_state(admin, role),
            };
        };
        let what = change.words();
        let status = admin.command(doc! { "replSetGetStatus": 1 })?;
        if let Some(why) = members::hindrance(&change, self.wanted, &members::seen(&status)) {
            return Ok(not_yet(format!("{what}: not yet, {why}")));
        }
        if let members::Change::Join(member) = &change
            && let Some(verdict) = join::refusal(self, member, &join::id_of(current))
        {
            return Ok(Step::Wait(verdict));
        }
        if change.retires() == Some(primary) {
            admin.step_down(30)?;
            (self.say)(&format!(
                "{}: asked it to hand over first",
                self.name_of(primary)
            ));
            self.acted()?;
            return Ok(Step::Again);
        }
        let next = members::apply(current, &change, self.wanted)?;
        admin.command(doc! { "replSetReconfig": next, "maxTimeMS": 5000 })?;
        (self.say)(&what);
        self.acted()?;
        Ok(Step::Again)
    }

    /// A replica set that became a shard has a user of the application from before, whose writes
    /// would go past the routers. It goes when the set is in the cluster and nobody uses it.
    fn retire_application(&self, admin: &mongo::Member) -> anyhow::Result<Option<Step>> {
        if self.wanted.role != Some(SetRole::Shard) {
            return Ok(None);
        }
        let users = users::of_kind(Kind::Application, &admin.command(doc! { "usersInfo": 1 })?);
        if users.is_empty() {
            return Ok(None);
        }
        let state = admin.command(doc! { "shardingState": 1 })?;
        if !state.get_bool("enabled").unwrap_or(false) {
            return Ok(None);
        }
        if mongo::uses(
            &admin.command(doc! { "currentOp": 1, "$all": true })?,
            &users,
        ) {
            return Ok(Some(not_yet(format!(
                "the application still comes to this shard directly, as {}: app servers have to get their new \
                 files, which lead it to mongos",
                users.join(", ")
            ))));
        }
        for user in &users {
            let task = Task::Drop(user.clone());
            admin.command(task.command(&self.wanted.application_database))?;
            (self.say)(&task.words());
            self.acted()?;
        }
        Ok(Some(Step::Again))
    }

    /// The set is as it should be; is this member of it well?
    fn own_state(&self, admin: &mongo::Member, role: Role) -> anyhow::Result<Step> {
        if matches!(role, Role::Primary | Role::Secondary) {
            if let Some(wanted) = &self.wanted.cluster {
                return cluster::converge(self, wanted);
            }
            return Ok(done(format!(
                "{} is as it should be: {} members",
                self.wanted.name,
                self.wanted.members.len()
            )));
        }
        let log = admin.command(doc! { "serverStatus": 1, "oplog": 1 })?;
        let oldest = log
            .get_document("oplog")
            .and_then(|oplog| oplog.get_timestamp("earliestOptime"));
        let last = self.last_change();
        if let (Ok(oldest), Some(last)) = (oldest, last)
            && last < oldest
        {
            return Ok(needs_person(format!(
                "{} was away for longer than the others remember changes: it has to copy all data anew; \
                 see \"A member was away too long\" in docs/database.md",
                self.me.name
            )));
        }
        Ok(not_yet(format!("{} copies data or recovers", self.me.name)))
    }

    /// The last change that this member has, as it says itself; none while it has no data.
    fn last_change(&self) -> Option<mongodb::bson::Timestamp> {
        let own = self.log_in(Kind::Administration, &self.local).ok()??;
        let status: Document = own.command(doc! { "replSetGetStatus": 1 }).ok()?;
        let times = status.get_document("optimes").ok()?;
        let applied = times.get_document("appliedOpTime").ok()?;
        let last = applied.get_timestamp("ts").ok()?;
        (last.time > 0).then_some(last)
    }

    /// Counts a change; ends the run if it was told to.
    fn acted(&self) -> anyhow::Result<()> {
        self.changes.set(self.changes.get() + 1);
        if self.options.stop_after == Some(self.changes.get()) {
            return Err(Stopped(self.changes.get()).into());
        }
        Ok(())
    }
}
