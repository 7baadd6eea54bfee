//! Exchanging the database's secrets while the lab serves. Each step leaves everything
//! working with what each node has at that moment, so an exchange that was interrupted
//! goes on from there when it is run again.

use std::time::Duration;

use anyhow::{Context as _, bail};
use mongodb::bson::doc;

use super::plan::NodePlan;
use super::run::Lab;
use crate::exec;
use crate::health::mongo::{self, Role};
use crate::secrets::{Kind, Login, Rotation};
use crate::topology::Tier;
use crate::wait;

/// How long a member may take until it is one again.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the application may take to change to a new password by itself.
const NOTICE: Duration = Duration::from_secs(30);

impl Lab {
    /// Exchanges secrets, and says what it does.
    ///
    /// # Errors
    /// If a node is not there or does not become well; the old secrets are valid then.
    pub fn rotate(&self, rotation: Rotation, say: &mut dyn FnMut(&str)) -> anyhow::Result<()> {
        if self.plan.database_port.is_none() {
            bail!("this stack has no database, so there is nothing to exchange");
        }
        for node in &self.plan.nodes {
            if !node.secrets().is_empty() && self.pid(&node.name).is_none() {
                bail!("{} is not running, and would miss it", node.name);
            }
        }
        self.secrets().begin(rotation)?;
        match rotation {
            Rotation::Key => self.rotate_key(say),
            Rotation::Passwords => self.rotate_passwords(say),
        }
    }

    /// First every member learns the new key beside the old one, then every member
    /// forgets the old one. mongod reads its key when it starts.
    fn rotate_key(&self, say: &mut dyn FnMut(&str)) -> anyhow::Result<()> {
        self.give_tier(Tier::Database)?;
        self.give_tier(Tier::App)?;
        say("every member learns the new key beside the old one");
        self.restart_members(say)?;
        self.restart_routers(say)?;
        self.secrets().finish(Rotation::Key)?;
        self.give_tier(Tier::Database)?;
        self.give_tier(Tier::App)?;
        say("every member forgets the old key");
        self.restart_members(say)?;
        self.restart_routers(say)
    }

    /// First the set gets users with the new passwords, then the application changes to
    /// them, then the old users go.
    fn rotate_passwords(&self, say: &mut dyn FnMut(&str)) -> anyhow::Result<()> {
        let old: Vec<Login> = self
            .secrets()
            .logins(Kind::Application)?
            .into_iter()
            .skip(1)
            .collect();
        self.give_tier(Tier::Database)?;
        self.reconcile_database()?;
        say("the set knows the new passwords beside the old ones");
        self.give_tier(Tier::App)?;
        let may_notice = !self.plan.password_in_environment;
        if !may_notice || !wait::until(NOTICE, || self.nobody_is(&old)) {
            say(if may_notice {
                "the application did not notice by itself: restarting it, one instance after the other"
            } else {
                "the application has its password in a variable: restarting it, one instance after the other"
            });
            self.restart_apps()?;
            if !wait::until(NOTICE, || self.nobody_is(&old)) {
                bail!("somebody still uses the application's old password; it stays valid");
            }
        }
        say("the application uses the new password");
        self.secrets().finish(Rotation::Passwords)?;
        self.give_tier(Tier::App)?;
        self.give_tier(Tier::Database)?;
        self.reconcile_database()?;
        say("the old passwords are worth nothing any more");
        Ok(())
    }

    fn give_tier(&self, tier: Tier) -> anyhow::Result<()> {
        self.plan
            .tier(tier)
            .try_for_each(|node| self.give_secrets(node))
    }

    /// Brings users and members of each set to what the files say; any member can do it.
    fn reconcile_database(&self) -> anyhow::Result<()> {
        let argv = [crate::config::PROGRAM, "node", "reconcile-database"];
        let argv: Vec<String> = argv.map(str::to_owned).to_vec();
        for members in self.plan.replica_sets().values() {
            let node = members.first().context("there is no database")?;
            exec::run(&mut self.command(&node.name, &argv)?, None)?;
        }
        Ok(())
    }

    /// Restarts each router, which reads its key when it starts; one app server after the other.
    fn restart_routers(&self, say: &mut dyn FnMut(&str)) -> anyhow::Result<()> {
        for node in self.plan.nodes.iter().filter(|node| node.is_router()) {
            self.supervise(&node.name, &["restart", "mongos"])?;
            if !wait::until(PATIENCE, || self.is_ready(node)) {
                bail!("{} did not become ready with the new key", node.name);
            }
            say(&format!("{}: restarted mongos", node.name));
        }
        Ok(())
    }

    /// Whether no connection of any member is that of one of these users.
    fn nobody_is(&self, users: &[Login]) -> bool {
        let names: Vec<String> = users.iter().map(|user| user.user.clone()).collect();
        self.plan.tier(Tier::Database).all(|node| {
            let answer = self
                .mongod_as(node, Kind::Monitoring)
                .and_then(|member| Ok(member.command(doc! { "currentOp": 1, "$all": true })?));
            answer.is_ok_and(|answer| !mongo::uses(&answer, &names))
        })
    }

    /// Restarts each member's mongod: the primary last, after it has handed over.
    fn restart_members(&self, say: &mut dyn FnMut(&str)) -> anyhow::Result<()> {
        let is_primary = |node: &&NodePlan| {
            self.hello(node)
                .is_ok_and(|hello| hello.role == Role::Primary)
        };
        let (primary, others): (Vec<&NodePlan>, Vec<&NodePlan>) =
            self.plan.tier(Tier::Database).partition(is_primary);
        let sets = self.plan.replica_sets();
        let alone = |node: &NodePlan| {
            let set = sets.get(node.replica_set.as_deref().unwrap_or_default());
            set.is_none_or(|members| members.len() == 1)
        };
        for node in others.into_iter().chain(primary.iter().copied()) {
            if !alone(node) && is_primary(&node) {
                let admin = self.mongod_as(node, Kind::Administration)?;
                admin.step_down(60)?;
            }
            self.supervise(&node.name, &["restart", "mongod"])?;
            if !wait::until(PATIENCE, || self.set_is_well()) {
                bail!("{} did not come back as a member", node.name);
            }
            say(&format!("{}: restarted", node.name));
        }
        Ok(())
    }

    /// Whether every member is one, and knows the primary.
    fn set_is_well(&self) -> bool {
        self.plan.tier(Tier::Database).all(|node| {
            self.hello(node).is_ok_and(|hello| {
                matches!(hello.role, Role::Primary | Role::Secondary) && hello.primary.is_some()
            })
        })
    }

    /// Restarts the application's instances, one after the other.
    fn restart_apps(&self) -> anyhow::Result<()> {
        for node in self.plan.tier(Tier::App) {
            self.restart_app(&node.name)?;
            if !wait::until(PATIENCE, || self.is_ready(node)) {
                bail!("{} did not become ready with the new password", node.name);
            }
        }
        Ok(())
    }
}
