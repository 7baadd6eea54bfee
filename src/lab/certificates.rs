//! Certificates of a lab: of its own authority, made once and renewed when somebody asks, or
//! those that the stack's secrets have. All are judged before a load balancer gets one.

use std::path::Path;

use anyhow::Context as _;

use super::plan::{LabTls, NodePlan};
use super::run::Lab;
use crate::certificate::authority::Wish;
use crate::certificate::store::{Store, now};
use crate::config::{ACME_STATE, PROGRAM};
use crate::secrets::Secrets;
use crate::topology::{Acme, Tier};

/// Days for which the lab's certificates are valid.
const DAYS: i64 = 90;
/// A certificate is valid from a little before it is made: clocks differ.
const MARGIN: i64 = 3600;

impl Lab {
    /// The lab's certificates and keys of tickets.
    pub fn certificates(&self) -> Store {
        Store::of(self.secrets().directory())
    }

    /// Has certificates: makes what is missing or not valid any more, and fetches those of the stack.
    pub(super) fn keep_certificates(&self) -> anyhow::Result<()> {
        let Some(tls) = &self.plan.tls else {
            return Ok(());
        };
        self.certificates().init_ticket_keys()?;
        if let Some(acme) = &tls.acme {
            self.certificates().init_acme_keys()?;
            return self.fetch_trust(acme);
        }
        let now = now()?;
        let is_fit = |file: &String| self.certificates().fit(file, now).is_ok();
        match tls.makes {
            true if tls.certificates.iter().all(is_fit) => Ok(()),
            true => self.make(tls, now),
            false => self.fetch(tls, now),
        }
    }

    fn make(&self, tls: &LabTls, now: i64) -> anyhow::Result<()> {
        let store = self.certificates();
        let authority = store.authority(&format!("lab {}", self.plan.name), now - MARGIN)?;
        let mut names = tls.names.clone();
        // For `lab forward`.
        names.push("localhost".into());
        let pem = authority.sign(&Wish {
            names,
            addresses: vec![self.plan.virtual_ip, std::net::Ipv4Addr::LOCALHOST],
            from: now - MARGIN,
            days: DAYS,
        })?;
        tls.certificates
            .iter()
            .try_for_each(|file| store.put(file, pem.as_bytes()))
    }

    fn fetch(&self, tls: &LabTls, now: i64) -> anyhow::Result<()> {
        let stack = self.of_stack()?;
        let files = tls.certificates.iter();
        let files: anyhow::Result<Vec<_>> = files
            .map(|file| Ok((file, stack.fit(file, now)?)))
            .collect();
        let store = self.certificates();
        files?
            .into_iter()
            .try_for_each(|(file, pem)| store.put(file, &pem))
    }

    /// Has the authority of the directory's own certificate, if the topology names it.
    fn fetch_trust(&self, acme: &Acme) -> anyhow::Result<()> {
        let Some(file) = &acme.trust else {
            return Ok(());
        };
        let pem = self.of_stack()?.read(file.as_str())?;
        self.certificates().put(file.as_str(), &pem)
    }

    /// The certificates beside the topology file.
    fn of_stack(&self) -> anyhow::Result<Store> {
        let about = self.place.about();
        let about = about.context("the lab does not say what it is of")?;
        Ok(Store::of(Secrets::of_stack(&about.topology).directory()))
    }

    /// Gives a load balancer its certificates, into a directory of secrets.
    pub(super) fn give_certificates(&self, node: &NodePlan, secrets: &Path) -> anyhow::Result<()> {
        let Some(tls) = &self.plan.tls else {
            return Ok(());
        };
        if node.tier != Tier::LoadBalancer {
            return Ok(());
        }
        let (own, store) = (self.certificates(), Store::of(secrets));
        match &tls.acme {
            Some(acme) => own.give_acme(acme, &store),
            None => own.give(&tls.certificates, &store, now()?),
        }
    }

    /// Why a load balancer has no new certificate, if it should have one.
    pub(super) fn certificate_problem(&self, node: &str) -> Option<String> {
        self.plan.tls.as_ref()?.acme.as_ref()?;
        self.served_certificates(node).problem()
    }

    /// Where a load balancer's haproxy reads its certificates.
    pub fn served_certificates(&self, node: &str) -> Store {
        let own = self.place.node(node);
        let tls = self.plan.tls.as_ref();
        match tls.and_then(|tls| tls.acme.as_ref()) {
            Some(_) => Store::at(own.join(ACME_STATE.replacen("/var/", "", 1))),
            None => Store::of(&own.join(super::plan::SECRETS)),
        }
    }

    /// The days until the first certificate of a load balancer expires.
    pub(super) fn certificate_days(&self, node: &str) -> Option<i64> {
        self.served_certificates(node)
            .days_left(&self.plan.tls.as_ref()?.certificates, now().ok()?)
    }

    /// Gives a load balancer its certificates again if it has others; whether it had. Those that come by ACME
    /// are its own business.
    ///
    /// # Errors
    /// If they can't be read or written.
    pub fn repair_certificates(&self, name: &str) -> anyhow::Result<bool> {
        let node = self.planned(name)?;
        let tls = self.plan.tls.as_ref().filter(|tls| tls.acme.is_none());
        let Some(tls) = tls.filter(|_| node.tier == Tier::LoadBalancer) else {
            return Ok(false);
        };
        let (own, served) = (self.certificates(), self.served_certificates(name));
        let is_own = |file: &String| own.read(file).ok() == served.read(file).ok();
        if tls.certificates.iter().all(is_own) {
            return Ok(false);
        }
        let place = self.place.node(name).join(super::plan::SECRETS);
        self.give_certificates(node, &place).map(|()| true)
    }

    /// Loads changed certificates, and new keys of tickets, on all load balancers; connections go on.
    ///
    /// # Errors
    /// If one is not fit to be served: then nothing was touched. If a load balancer refuses one.
    pub fn renew(&self, say: &mut dyn FnMut(&str)) -> anyhow::Result<()> {
        let tls = self.plan.tls.as_ref();
        let tls = tls
            .context("the topology has no `load_balancer.tls`: there is no certificate to renew")?;
        let now = now()?;
        match (tls.makes, &tls.acme) {
            (true, _) => self.make(tls, now)?,
            (false, Some(acme)) => self.fetch_trust(acme)?,
            (false, None) => self.fetch(tls, now)?,
        }
        self.certificates().rotate_ticket_keys()?;
        for node in self.plan.tier(Tier::LoadBalancer) {
            let own = self.place.node(&node.name).join(super::plan::SECRETS);
            self.give_certificates(node, &own)?;
            if self.pid(&node.name).is_none() {
                say(&format!(
                    "{} is stopped: it loads them when it starts",
                    node.name
                ));
                continue;
            }
            self.have(
                &node.name,
                "loading certificates",
                &["load-certificates"],
                say,
            )?;
        }
        if tls.acme.is_some() {
            self.ask_anyway(say)?;
        }
        Ok(())
    }

    /// Has the load balancer with the virtual IP ask for a certificate, and the others take it.
    fn ask_anyway(&self, say: &mut dyn FnMut(&str)) -> anyhow::Result<()> {
        let nodes = self.plan.tier(Tier::LoadBalancer);
        let mut nodes: Vec<&NodePlan> = nodes
            .filter(|node| self.pid(&node.name).is_some())
            .collect();
        let owners = self.owners();
        nodes.sort_by_key(|node| !owners.contains(&node.name.as_str()));
        for (index, node) in nodes.iter().enumerate() {
            let mut command = vec!["renew-certificates", "--once"];
            command.extend((index == 0).then_some("--anyway"));
            self.have(&node.name, "asking for a certificate", &command, say)?;
        }
        Ok(())
    }

    /// Has a node run one of its own commands, and tells what that says.
    fn have(
        &self,
        node: &str,
        doing: &str,
        command: &[&str],
        say: &mut dyn FnMut(&str),
    ) -> anyhow::Result<()> {
        let said = self.run_in(node, &[&[PROGRAM, "node"], command].concat());
        let said = said.with_context(|| format!("{doing} on {node}"))?;
        said.lines()
            .for_each(|line| say(&format!("{node}: {line}")));
        Ok(())
    }
}
