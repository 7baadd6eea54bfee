//! A lab from inside: its nodes are started, changed, stopped, cut off and asked.
//! Everything here runs in the lab's namespaces, as root there.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;

use super::enter::{is_alive, node_command};
use super::plan::{LabPlan, NodePlan, SECRETS, changed_files, needs_reboot};
use super::{Place, net, versions};
use crate::config::place::{self, Restarts};
use crate::config::{APP_PROGRAM, Action, NodeFacts, PROGRAM, actions};
use crate::exec;
use crate::secrets::{AppSecrets, Secrets};
use crate::topology::Tier;
use crate::wait;

/// Something that happened to a node, for whoever watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It was started.
    Started(String),
    /// It was stopped or removed.
    Stopped(String),
    /// It runs, and these of its files were changed.
    Changed(String, Vec<String>),
    /// It answers as a node of its tier should.
    Ready(String),
}

/// A running lab, from inside.
#[derive(Debug)]
pub struct Lab {
    pub(super) place: Place,
    pub(super) plan: LabPlan,
    pub(super) ip: PathBuf,
}

/// What `supervisorctl reread` says of a program that is no longer in the file.
const GONE: &str = "disappeared";
/// What it says of programs that are to be updated.
const WORDS: [&str; 3] = ["available", "changed", GONE];

/// How long an app may take to be loaded.
const LOADED: Duration = Duration::from_secs(10);
/// App nodes that are booted at the same time.
const WAVE: usize = 6;

impl Lab {
    /// The lab at `place` as it was last brought up.
    ///
    /// # Errors
    /// If it never was.
    pub fn open(place: &Place) -> anyhow::Result<Self> {
        let text = fs::read_to_string(place.directory.join("plan.json")).with_context(|| {
            format!(
                "the lab {} was not brought up completely; run `gen-topology lab up`",
                place.name
            )
        })?;
        Self::with(
            place,
            serde_json::from_str(&text).context("reading the lab's plan")?,
        )
    }

    /// The lab at `place` as it should become.
    ///
    /// # Errors
    /// If `ip` is missing.
    pub fn with(place: &Place, plan: LabPlan) -> anyhow::Result<Self> {
        let ip = exec::find("ip").context("ip is missing")?;
        Ok(Self {
            place: place.clone(),
            plan,
            ip,
        })
    }

    /// What the lab consists of.
    pub fn plan(&self) -> &LabPlan {
        &self.plan
    }

    /// Brings the lab to its plan: removes nodes that are not in it, changes the
    /// files of nodes that run, starts what is missing. What is right is left alone.
    ///
    /// # Errors
    /// If a node can't be started. What was started before stays, and the next
    /// `up` goes on from there.
    pub fn reconcile(
        &self,
        interrupted: &dyn Fn() -> bool,
        report: &mut dyn FnMut(Event),
    ) -> anyhow::Result<()> {
        self.keeps_its_data()?;
        self.make_switch()?;
        self.keep_certificates()?;
        let mut missing = Vec::new();
        for node in &self.plan.nodes {
            match self.old_plan(&node.name) {
                Some(old) if self.pid(&node.name).is_some() && !needs_reboot(&old, node) => {
                    let changed = changed_files(&old, node);
                    if !changed.is_empty() {
                        self.write_node(node)?;
                        self.reload(&old, node, &changed)?;
                        report(Event::Changed(node.name.clone(), changed));
                    }
                    continue;
                }
                Some(_) if self.pid(&node.name).is_some() => self.stop(&node.name)?,
                _ => {}
            }
            self.write_node(node)?;
            missing.push(node);
        }
        // Written before the nodes start: an `up` that ends half-way leaves a lab that can be asked.
        let text = serde_json::to_string(&self.plan)?;
        write(&self.place.directory.join("plan.json"), &text)?;
        if interrupted() {
            bail!("interrupted");
        }
        self.boot_in_waves(&missing, interrupted, report)?;
        // Last, when no load balancer sends them anything any more.
        for name in self.known_nodes() {
            if self.plan.node(&name).is_none() {
                self.wait_for_leave(&name)?;
                self.remove(&name)?;
                report(Event::Stopped(name));
            }
        }
        self.forget_versions();
        Ok(())
    }

    /// Refuses a plan in which no database is left of those that there are.
    fn keeps_its_data(&self) -> anyhow::Result<()> {
        let has_data = |name: &String| {
            let old = self.old_plan(name);
            old.is_some_and(|node| node.tier == Tier::Database)
        };
        if self.plan.database_port.is_none()
            && let Some(name) = self.known_nodes().iter().find(|name| has_data(name))
        {
            bail!(
                "the topology has no database any more, and {name} has the data of this lab: `gen-topology lab backup` \
                 copies them, and after `gen-topology lab down` this lab begins anew without"
            );
        }
        Ok(())
    }

    /// Waits until a database that is to be removed is no member any more, without whose vote
    /// the others could lose their majority, and until a shard has no data any more.
    fn wait_for_leave(&self, name: &str) -> anyhow::Result<()> {
        let Some(old) = self.old_plan(name) else {
            return Ok(());
        };
        if old.tier != Tier::Database || self.pid(name).is_none() {
            return Ok(());
        }
        // A whole set leaves by a command of its own: there is nothing to wait for.
        if let Some(set) = self.leaves_whole(&old).filter(|_| self.is_needed(&old)) {
            bail!(
                "{name} was not removed: {set} still is a part of the cluster, and would be lost with its data; \
                 see \"Taking a shard away\" in docs/database.md"
            );
        }
        if wait::until(Duration::from_secs(60), || !self.is_needed(&old)) {
            return Ok(());
        }
        bail!(
            "{name} is still a member of the replica set, so it was not removed; \
             `gen-topology lab logs` of the other databases tells why"
        )
    }

    /// Starts nodes that are not running.
    ///
    /// # Errors
    /// If one is unknown or can't be started.
    pub fn start(&self, names: &[String]) -> anyhow::Result<()> {
        let nodes: Vec<&NodePlan> = names
            .iter()
            .map(|name| self.planned(name))
            .collect::<anyhow::Result<_>>()?;
        let stopped: Vec<&NodePlan> = nodes
            .into_iter()
            .filter(|node| self.pid(&node.name).is_none())
            .collect();
        self.boot(&stopped)
    }

    /// Shuts a node down: its supervisord stops the daemons in order. A node that
    /// does not end in time is powered off.
    ///
    /// # Errors
    /// If it is unknown or can't be stopped.
    pub fn stop(&self, name: &str) -> anyhow::Result<()> {
        let Some(pid) = self.pid(name) else {
            return Ok(());
        };
        signal(pid, Signal::TERM)?;
        let ended = wait::until(Duration::from_secs(60), || {
            wake_supervisor(pid);
            !is_alive(pid)
        });
        if !ended {
            return self.power_off(name);
        }
        self.unplug(pid);
        Ok(())
    }

    /// Pulls a node's plug: first the cable, because a process that is killed still
    /// says goodbye to its peers, then everything that runs.
    ///
    /// # Errors
    /// If it can't be stopped.
    pub fn power_off(&self, name: &str) -> anyhow::Result<()> {
        let Some(pid) = self.pid(name) else {
            return Ok(());
        };
        self.connect(name, false)?;
        signal(pid, Signal::KILL)?;
        if !wait::until(Duration::from_secs(10), || !is_alive(pid)) {
            bail!("{name} does not end");
        }
        self.unplug(pid);
        Ok(())
    }

    /// Cuts a node off the network, or connects it again.
    ///
    /// # Errors
    /// If it is unknown or not running.
    pub fn connect(&self, name: &str, connected: bool) -> anyhow::Result<()> {
        self.planned(name)?;
        let pid = self
            .pid(name)
            .with_context(|| format!("{name} is not running"))?;
        self.batch(&net::cable(pid, connected))
    }

    /// Process id of the node's first process, as seen in the lab, if it runs.
    pub fn pid(&self, name: &str) -> Option<i32> {
        let text = fs::read_to_string(self.place.node(name).join("pid")).ok()?;
        let (pid, born) = text.trim().split_once(' ')?;
        let pid = pid.parse().ok()?;
        (is_alive(pid) && started_at(pid)? == born).then_some(pid)
    }

    /// The node called `name`, or an error that names those there are.
    ///
    /// # Errors
    /// If there is none.
    pub fn planned(&self, name: &str) -> anyhow::Result<&NodePlan> {
        self.plan.node(name).ok_or_else(|| {
            let names: Vec<&str> = self
                .plan
                .nodes
                .iter()
                .map(|node| node.name.as_str())
                .collect();
            let meant = crate::topology::did_you_mean(name, names.iter().copied());
            match meant {
                Some(meant) => anyhow!("there is no node `{name}`; did you mean `{meant}`?"),
                None => anyhow!("there is no node `{name}`; there are {}", names.join(", ")),
            }
        })
    }

    /// A command to run in a node.
    ///
    /// # Errors
    /// If the node is unknown or not running.
    pub fn command(&self, name: &str, argv: &[String]) -> anyhow::Result<Command> {
        self.planned(name)?;
        let pid = self.pid(name).with_context(|| {
            format!("{name} is not running; `gen-topology lab start {name}` starts it")
        })?;
        Ok(node_command(pid, argv))
    }

    /// Runs a command in a node to its end and returns what it wrote to standard output.
    ///
    /// # Errors
    /// If the node is not running, or the command fails, with what it said.
    pub fn run_in(&self, name: &str, argv: &[&str]) -> anyhow::Result<String> {
        let argv: Vec<String> = argv.iter().map(|word| (*word).to_owned()).collect();
        exec::run(&mut self.command(name, &argv)?, None)
    }

    /// A command that tells a node's supervisord something.
    ///
    /// # Errors
    /// If the node is not running, or `supervisorctl` is missing.
    pub fn supervisor(&self, name: &str, words: &[&str]) -> anyhow::Result<Command> {
        let control = exec::find("supervisorctl")
            .context("supervisorctl is missing")?
            .display()
            .to_string();
        let fixed = [control.as_str(), "-c", "/etc/supervisor/supervisord.conf"];
        let argv: Vec<String> = fixed
            .into_iter()
            .chain(words.iter().copied())
            .map(str::to_owned)
            .collect();
        self.command(name, &argv)
    }

    /// Tells a node's supervisord something, as `supervisorctl` does.
    ///
    /// # Errors
    /// If the node is not running, or supervisord refuses.
    pub fn supervise(&self, name: &str, words: &[&str]) -> anyhow::Result<String> {
        exec::run(&mut self.supervisor(name, words)?, None)
    }

    /// Lets a traffic scheduler of the kernel decide what of a node's packets passes
    /// its cable and when, in both directions: `tc qdisc add … root` with these words.
    ///
    /// # Errors
    /// If the node is not running, or the kernel does not have the scheduler.
    pub fn shape_cable(&self, name: &str, scheduler: &[&str]) -> anyhow::Result<()> {
        let node = self.planned(name)?;
        let port = net::port(
            self.pid(name)
                .with_context(|| format!("{name} is not running"))?,
        );
        let add = |device: &str| {
            let mut argv = vec![
                "tc".to_owned(),
                "qdisc".into(),
                "replace".into(),
                "dev".into(),
            ];
            argv.extend([device.to_owned(), "root".into()]);
            argv.extend(scheduler.iter().map(|word| (*word).to_owned()));
            argv
        };
        let tc = exec::find("tc").context("tc is missing")?;
        exec::run(Command::new(tc).args(&add(&port)[1..]), None)?;
        exec::run(&mut self.command(name, &add(&node.interface))?, None).map(drop)
    }

    /// Whether the kernel has a traffic scheduler; tried on the lab's own loopback, which nobody uses.
    pub fn has_scheduler(&self, scheduler: &[&str]) -> bool {
        let Some(tc) = exec::find("tc") else {
            return false;
        };
        let root = |verb: &str| {
            let mut command = Command::new(&tc);
            command.args(["qdisc", verb, "dev", "lo", "root"]);
            command
        };
        let has = exec::run(root("add").args(scheduler), None).is_ok();
        // There is nothing to take away if it was not added.
        let _ = exec::output(&mut root("del"), None);
        has
    }

    /// Takes away what [`Self::shape_cable`] has added, if anything.
    ///
    /// # Errors
    /// If the node is not running.
    pub fn unshape_cable(&self, name: &str) -> anyhow::Result<()> {
        let node = self.planned(name)?;
        let port = net::port(
            self.pid(name)
                .with_context(|| format!("{name} is not running"))?,
        );
        let tc = exec::find("tc").context("tc is missing")?;
        // The kernel refuses to take away what is not there.
        let _ = exec::output(
            Command::new(tc).args(["qdisc", "del", "dev", &port, "root"]),
            None,
        )?;
        let words = ["tc", "qdisc", "del", "dev", &node.interface, "root"].map(str::to_owned);
        let _ = exec::output(&mut self.command(name, &words)?, None)?;
        Ok(())
    }

    /// Puts another text into a node's file below `/etc` and tells its daemon; [`Self::repair`]
    /// puts the right one back.
    ///
    /// # Errors
    /// If the file can't be written or a daemon can't be told.
    pub fn overwrite(&self, name: &str, path: &str, text: &str) -> anyhow::Result<()> {
        let node = self.planned(name)?;
        write(&self.place.node(name).join("etc").join(path), text)?;
        self.reload(node, node, &[path.to_owned()])
    }

    /// Puts back every file of a node that is not as planned, and tells its daemons.
    ///
    /// # Errors
    /// If a file can't be written or a daemon can't be told.
    pub fn repair(&self, name: &str) -> anyhow::Result<()> {
        let node = self.planned(name)?;
        let etc = self.place.node(name).join("etc");
        let is_as_planned = |path: &str, text: &str| {
            fs::read_to_string(etc.join(path)).is_ok_and(|now| now == text)
        };
        let mut changed = Vec::new();
        for (path, text) in &node.etc {
            if !is_as_planned(path, text) {
                write(&etc.join(path), text)?;
                changed.push(path.clone());
            }
        }
        self.reload(node, node, &changed)
    }

    /// A path of a running node, as it is reached from inside the lab.
    ///
    /// # Errors
    /// If the node is not running.
    pub fn path_in(&self, name: &str, path: &str) -> anyhow::Result<PathBuf> {
        let pid = self
            .pid(name)
            .with_context(|| format!("{name} is not running"))?;
        Ok(PathBuf::from(format!("/proc/{pid}/root{path}")))
    }

    /// Starts nodes at the same time, one after another where apps are many.
    ///
    /// # Errors
    /// If one can't be started.
    pub fn start_all(&self, interrupted: &dyn Fn() -> bool) -> anyhow::Result<()> {
        let stopped: Vec<&NodePlan> = self
            .plan
            .nodes
            .iter()
            .filter(|node| self.pid(&node.name).is_none())
            .collect();
        self.boot_in_waves(&stopped, interrupted, &mut |_| {})
    }

    /// Sends a signal to every process in a node whose program has this name, and says how many there were.
    ///
    /// # Errors
    /// If the node is not running.
    pub fn kill(&self, name: &str, program: &str, with: Signal) -> anyhow::Result<usize> {
        let processes = self.processes(name)?;
        let hit: Vec<_> = processes
            .into_iter()
            .filter(|process| process.name == program)
            .collect();
        hit.iter()
            .try_for_each(|process| self.signal(process, with))?;
        Ok(hit.len())
    }

    /// Sends a signal to a process that [`Self::processes`] has found.
    ///
    /// # Errors
    /// If the kernel refuses it. A process that has ended is none.
    pub fn signal(&self, process: &Process, with: Signal) -> anyhow::Result<()> {
        signal(process.pid, with)
    }

    /// The processes of a node: those in the PID namespace of its first.
    ///
    /// # Errors
    /// If the node is not running.
    pub fn processes(&self, name: &str) -> anyhow::Result<Vec<Process>> {
        let first = self
            .pid(name)
            .with_context(|| format!("{name} is not running"))?;
        let namespace = fs::read_link(format!("/proc/{first}/ns/pid"))
            .context("reading the node's namespace")?;
        let mut found: Vec<Process> = fs::read_dir("/proc")?
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
            .filter(|pid| {
                fs::read_link(format!("/proc/{pid}/ns/pid")).is_ok_and(|of| of == namespace)
            })
            .filter_map(Process::read)
            .collect();
        found.sort_by_key(|process| process.pid);
        Ok(found)
    }

    fn make_switch(&self) -> anyhow::Result<()> {
        if has_interface(net::SWITCH) {
            let now = exec::run(
                Command::new(&self.ip).args(["-4", "-o", "addr", "show", net::SWITCH]),
                None,
            )?;
            if now.contains(&format!(" {}/{} ", self.plan.client, self.plan.prefix)) {
                return Ok(());
            }
            let address = format!("{}/{}", self.plan.client, self.plan.prefix);
            self.batch(&format!(
                "addr flush dev {0}\naddr add {address} dev {0}\n",
                net::SWITCH
            ))?;
            return Ok(());
        }
        self.batch(&net::switch(self.plan.client, self.plan.prefix))
    }

    fn batch(&self, batch: &str) -> anyhow::Result<()> {
        exec::run(Command::new(&self.ip).args(["-batch", "-"]), Some(batch)).map(drop)
    }

    /// Takes a dead node's cable away. The kernel may have been faster.
    fn unplug(&self, pid: i32) {
        let _ = self.batch(&net::unplug(pid));
    }

    pub(super) fn known_nodes(&self) -> Vec<String> {
        let entries = fs::read_dir(self.place.directory.join("nodes"));
        let mut names: Vec<String> = entries
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }

    pub(super) fn old_plan(&self, name: &str) -> Option<NodePlan> {
        serde_json::from_str(&fs::read_to_string(self.place.node(name).join("plan.json")).ok()?)
            .ok()
    }

    pub(super) fn remove(&self, name: &str) -> anyhow::Result<()> {
        self.stop(name)?;
        let directory = self.place.node(name);
        fs::remove_dir_all(&directory).with_context(|| format!("removing {}", directory.display()))
    }

    /// Writes a node's files; a running node sees them at once, because its /etc is this directory.
    pub(super) fn write_node(&self, node: &NodePlan) -> anyhow::Result<()> {
        self.give_secrets(node)?;
        let old = self.old_plan(&node.name);
        write_files(&self.place.node(&node.name), old.as_ref(), node)
    }

    /// The lab's secrets: of its own, as its data is, and gone with it.
    pub fn secrets(&self) -> Secrets {
        Secrets::at(self.place.directory.join(SECRETS))
    }

    /// Gives a node its part of the secrets; a running node sees it at once.
    pub(super) fn give_secrets(&self, node: &NodePlan) -> anyhow::Result<()> {
        self.give_secrets_at(node, &self.place.node(&node.name).join(SECRETS))
    }

    /// Puts a node's part of the secrets into a directory.
    pub(super) fn give_secrets_at(&self, node: &NodePlan, directory: &Path) -> anyhow::Result<()> {
        let kinds = node.secrets();
        if !kinds.is_empty() {
            // The first database of a stack that had none.
            self.secrets().init()?;
        }
        let own = Secrets::at(directory);
        self.secrets().give(kinds, &own)?;
        AppSecrets::of(&self.secrets()).give(&node.app_secrets, &AppSecrets::of(&own))?;
        self.give_certificates(node, directory)
    }

    /// Tells daemons of a running node that their files changed.
    fn reload(&self, old: &NodePlan, node: &NodePlan, changed: &[String]) -> anyhow::Result<()> {
        let has = |start: &str| changed.iter().any(|path| path.starts_with(start));
        let mut actions = actions(&facts(old)?, &facts(node)?, changed);
        // Who is a member is the set's own matter: each database looks what there is to do.
        if node.tier == Tier::Database && has("gen-topology/node.json") {
            actions.push(Action::ConfigureSet);
        }
        actions.dedup();
        self.act_all(&node.name, &actions, &Restarts::of(changed))
    }

    /// Does what a running node needs, in this order. No instance of an app is started twice, and
    /// none but those that the change is about.
    pub(super) fn act_all(
        &self,
        name: &str,
        actions: &[Action],
        restarts: &Restarts,
    ) -> anyhow::Result<()> {
        let mut updated = Vec::new();
        actions.iter().try_for_each(|action| match action {
            Action::UpdateSupervisor => {
                updated = self.update_supervisor(name)?;
                Ok(())
            }
            Action::RestartApp => self.restart_others(name, restarts, &updated),
            _ => self.act(name, *action),
        })
    }

    /// Makes a daemon of a running node use its changed files.
    ///
    /// # Errors
    /// If supervisord refuses.
    pub fn act(&self, name: &str, action: Action) -> anyhow::Result<()> {
        let commands: &[&[&str]] = match action {
            Action::LoadFirewall => {
                return self
                    .run_in(name, &[PROGRAM, "node", "load-firewall"])
                    .map(drop);
            }
            Action::ReloadHaproxy => &[&["signal", "USR2", "haproxy"]],
            Action::ReloadKeepalived => &[&["signal", "HUP", "keepalived"]],
            Action::RestartKeepalived => &[&["restart", "keepalived"]],
            // Keepalived drains and hands the virtual IP over before it ends.
            Action::RestartLoadBalancer => &[
                &["stop", "keepalived"],
                &["stop", "haproxy"],
                &["update"],
                &["start", "haproxy"],
                &["start", "keepalived"],
            ],
            Action::ReloadNginx => &[&["signal", "HUP", "nginx"]],
            Action::UpdateSupervisor => return self.update_supervisor(name).map(drop),
            Action::RestartApp => return self.restart_app(name),
            Action::RestartMongos => &[&["restart", "mongos"]],
            Action::RestartMongod => &[&["restart", "mongod"]],
            // One that still runs knows the old facts.
            Action::ConfigureSet => &[&["restart", "reconcile-database"]],
            Action::Boot => {
                self.stop(name)?;
                return self.boot(&[self.planned(name)?]);
            }
        };
        commands
            .iter()
            .try_for_each(|words| self.supervise(name, words).map(drop))
    }

    /// One instance after the other, so that nginx always has one to ask.
    pub(super) fn restart_app(&self, name: &str) -> anyhow::Result<()> {
        self.restart_others(name, &Restarts::default(), &[])
    }

    /// The same for those that are meant, without those that were just started.
    fn restart_others(
        &self,
        name: &str,
        restarts: &Restarts,
        started: &[String],
    ) -> anyhow::Result<()> {
        for instance in self.instances(name)? {
            if restarts.has(&instance) && !started.contains(&instance) {
                self.restart_instance(name, &instance)?;
            }
        }
        Ok(())
    }

    /// Takes changed programs over; of the app's instances one after the other, so that nginx always
    /// has one to ask. Returns those that were started.
    fn update_supervisor(&self, name: &str) -> anyhow::Result<Vec<String>> {
        let said = self.supervise(name, &["reread"])?;
        let programs = || {
            let told = said.lines().filter_map(|line| line.split_once(": "));
            told.filter(|(_, what)| WORDS.contains(what))
        };
        // A new router runs before the app asks it.
        for (program, _) in programs().filter(|(program, _)| !program.starts_with(APP_PROGRAM)) {
            self.supervise(name, &["update", program])?;
        }
        let mut started = Vec::new();
        for (instance, what) in programs().filter(|(program, _)| program.starts_with(APP_PROGRAM)) {
            self.supervise(name, &["update", instance])?;
            if what != GONE {
                self.wait_for_instance(name, instance);
                started.push(instance.to_owned());
            }
        }
        Ok(started)
    }

    /// The programs of supervisord that are an app server's instances of gunicorn.
    fn instances(&self, name: &str) -> anyhow::Result<Vec<String>> {
        let list = self.supervise(name, &["avail"])?;
        let programs = list
            .lines()
            .filter_map(|line| line.split_whitespace().next());
        Ok(programs
            .filter(|program| program.starts_with(APP_PROGRAM))
            .map(str::to_owned)
            .collect())
    }

    /// Waits until it listens, which it does once it has loaded the app; supervisord only knows that it runs.
    pub(super) fn wait_for_instance(&self, name: &str, instance: &str) {
        let Some(pid) = self.pid(name) else {
            return;
        };
        let socket = format!("/proc/{pid}/root{}", place::socket(instance));
        wait::until(LOADED, || UnixStream::connect(&socket).is_ok());
    }

    /// Removes the app's versions that no node runs.
    pub fn forget_versions(&self) {
        let present = self.present();
        let links = present.iter().flat_map(|node| node.links.values());
        let used = links
            .filter_map(|target| target.rsplit('/').next())
            .collect();
        versions::forget(&self.place.app_versions(), &used);
    }

    /// Boots nodes: all at once when they are few, else first what apps need, and
    /// then apps a wave at a time. Dozens of apps that start together would keep a
    /// small machine from electing a primary, and each other from becoming ready.
    fn boot_in_waves(
        &self,
        nodes: &[&NodePlan],
        interrupted: &dyn Fn() -> bool,
        report: &mut dyn FnMut(Event),
    ) -> anyhow::Result<()> {
        let mut boot = |wave: &[&NodePlan]| {
            self.boot(wave)?;
            wave.iter()
                .for_each(|node| report(Event::Started(node.name.clone())));
            anyhow::Ok(())
        };
        let (apps, others): (Vec<&NodePlan>, Vec<&NodePlan>) =
            nodes.iter().partition(|node| node.tier == Tier::App);
        if apps.len() <= WAVE {
            return boot(nodes);
        }
        boot(&others)?;
        wait::until(Duration::from_secs(30), || {
            interrupted() || self.has_primary()
        });
        for wave in apps.chunks(WAVE) {
            if interrupted() {
                bail!("interrupted");
            }
            boot(wave)?;
            // A wave that is not ready in time does not hold up the next one.
            wait::until(Duration::from_secs(10), || {
                interrupted() || wave.iter().all(|node| self.is_ready(node))
            });
        }
        Ok(())
    }

    /// Boots nodes, all at the same time.
    pub(super) fn boot(&self, nodes: &[&NodePlan]) -> anyhow::Result<()> {
        if nodes.is_empty() {
            return Ok(());
        }
        let mut booting = Vec::with_capacity(nodes.len());
        for node in nodes {
            let child = self.spawn(node)?;
            booting.push((*node, child));
        }
        let mut batch = String::new();
        let mut ready = Vec::with_capacity(nodes.len());
        for (node, child) in booting {
            let pid = first_child(&child).with_context(|| self.why_not(node))?;
            batch.push_str(&net::plug(pid, &node.interface, node.address));
            ready.push((node, child, pid));
        }
        self.batch(&batch)?;
        let mut asleep: Vec<i32> = ready.iter().map(|(_, _, pid)| *pid).collect();
        for (node, mut child, pid) in ready {
            let born = started_at(pid).with_context(|| self.why_not(node))?;
            write(
                &self.place.node(&node.name).join("pid"),
                &format!("{pid} {born}\n"),
            )?;
            if let Some(mut word) = child.stdin.take() {
                word.write_all(b"plugged\n")
                    .with_context(|| self.why_not(node))?;
            }
        }
        wait::until(Duration::from_secs(10), || {
            asleep.retain(|pid| is_alive(*pid) && !wake_supervisor(*pid));
            asleep.is_empty()
        });
        Ok(())
    }

    fn spawn(&self, node: &NodePlan) -> anyhow::Result<Child> {
        let directory = self.place.node(&node.name);
        let console = File::create(directory.join("console.log"))
            .with_context(|| format!("creating {}", directory.join("console.log").display()))?;
        let mut command = Command::new(exec::find("setsid").context("setsid is missing")?);
        command
            .args([
                "unshare",
                "--mount",
                "--net",
                "--pid",
                "--uts",
                "--fork",
                "--propagation=private",
                "--",
            ])
            .arg(self.place.program())
            .args(["lab", "boot"])
            .arg(&directory)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(console.try_clone()?)
            .stderr(console);
        command
            .spawn()
            .with_context(|| format!("starting `{}`", exec::argv(&command)))
    }

    /// What a node that does not boot has said.
    fn why_not(&self, node: &NodePlan) -> String {
        let said =
            fs::read_to_string(self.place.node(&node.name).join("console.log")).unwrap_or_default();
        format!("{} does not boot: {}", node.name, said.trim())
    }
}

/// A process of a node.
#[derive(Clone, Debug, Serialize)]
pub struct Process {
    /// Its id in the lab.
    pub pid: i32,
    /// Id of the process that started it, in the lab.
    pub parent: i32,
    /// The program's name, at most 15 characters of it.
    pub name: String,
    /// Its command line.
    pub command: String,
    /// Memory of its own and shared, in KiB.
    pub resident_kib: u64,
}

impl Process {
    /// Whether it stands still after SIGSTOP.
    pub fn is_stopped(&self) -> bool {
        fs::read_to_string(format!("/proc/{}/stat", self.pid)).is_ok_and(|stat| {
            stat.rsplit(')')
                .next()
                .is_some_and(|rest| rest.starts_with(" T"))
        })
    }

    fn read(pid: i32) -> Option<Self> {
        let name = fs::read_to_string(format!("/proc/{pid}/comm"))
            .ok()?
            .trim()
            .to_owned();
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let command = String::from_utf8_lossy(&command)
            .replace('\0', " ")
            .trim()
            .to_owned();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let number = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        Some(Self {
            pid,
            parent: i32::try_from(number("PPid:")?).ok()?,
            name,
            command,
            resident_kib: number("VmRSS:").unwrap_or(0),
        })
    }
}

/// Writes a node's files below `directory`, takes away those that only `old` had, and
/// then writes down the plan.
pub(super) fn write_files(
    directory: &Path,
    old: Option<&NodePlan>,
    node: &NodePlan,
) -> anyhow::Result<()> {
    let etc = directory.join("etc");
    for (path, text) in &node.etc {
        write(&etc.join(path), text)?;
    }
    for (path, target) in &node.links {
        link(&etc.join(path), target)?;
    }
    let before = old
        .iter()
        .flat_map(|old| old.etc.keys().chain(old.links.keys()));
    for gone in
        before.filter(|path| !node.etc.contains_key(*path) && !node.links.contains_key(*path))
    {
        let _ = fs::remove_file(etc.join(gone));
    }
    write(&directory.join("plan.json"), &serde_json::to_string(node)?)
}

pub(super) fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent)
        .map_err(anyhow::Error::from)
        .and_then(|()| Ok(crate::files::replace(path, text.as_bytes())?))
        .with_context(|| format!("writing {}", path.display()))
}

/// Makes `path` a link to `target`, in one step.
fn link(path: &Path, target: &str) -> anyhow::Result<()> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    // In the place of a link, an older lab had a directory to show the app in.
    let _ = fs::remove_dir(path);
    fs::create_dir_all(parent)
        .and_then(|()| crate::files::link(path, Path::new(target)))
        .with_context(|| format!("linking {} to {target}", path.display()))
}

/// What a node knows about itself, as its plan says.
fn facts(node: &NodePlan) -> anyhow::Result<NodeFacts> {
    let text = node.etc.get("gen-topology/node.json");
    let text = text.with_context(|| format!("{} has no facts", node.name))?;
    serde_json::from_str(text).with_context(|| format!("reading the facts of {}", node.name))
}

fn signal(pid: i32, with: Signal) -> anyhow::Result<()> {
    let id = Pid::from_raw(pid).context("no process id")?;
    match kill_process(id, with) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("signalling process {pid}")),
    }
}

/// When a process was started, in clock ticks since boot: tells it from a later one with the same id.
fn started_at(pid: i32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')')
        .next()?
        .split_whitespace()
        .nth(19)
        .map(str::to_owned)
}

/// Whether this network namespace has an interface. Not by /sys, which shows the
/// namespace that it was mounted in.
fn has_interface(name: &str) -> bool {
    let list = fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
    list.lines().any(|line| {
        line.trim_start()
            .strip_prefix(name)
            .is_some_and(|rest| rest.starts_with(':'))
    })
}

/// supervisord looks at its programs once a second, or when somebody connects to
/// it: so somebody does. Whether there was one to connect to.
fn wake_supervisor(pid: i32) -> bool {
    UnixStream::connect(format!("/proc/{pid}/root/run/supervisor/supervisor.sock")).is_ok()
}

/// The process that `unshare --fork` has started, once it is there.
fn first_child(unshare: &Child) -> Option<i32> {
    let path = format!("/proc/{0}/task/{0}/children", unshare.id());
    let mut found = None;
    wait::until(Duration::from_secs(5), || {
        let children = fs::read_to_string(&path);
        found = children
            .as_ref()
            .ok()
            .and_then(|list| list.split_whitespace().next()?.parse().ok());
        found.is_some() || children.is_err() || !is_alive(i32::try_from(unshare.id()).unwrap_or(0))
    });
    found
}
