//! Certificates of a lab: of its own authority, made once and renewed when somebody asks, or
//! those that the stack's secrets have. All are judged before a load balancer gets one.

use std::path::Path;

use anyhow::Context as _;

use super::plan::{LabTls, NodePlan};
use super::run::Lab;
use crate::certificate::authority::Wish;
use crate::certificate::store::{Store, now};
use crate::config::PROGRAM;
use crate::secrets::Secrets;
use crate::topology::Tier;

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
        let about = self
            .place
            .about()
            .context("the lab does not say what it is of")?;
        let stack = Store::of(Secrets::of_stack(&about.topology).directory());
        let files = tls.certificates.iter();
        let files: anyhow::Result<Vec<_>> = files
            .map(|file| Ok((file, stack.fit(file, now)?)))
            .collect();
        let store = self.certificates();
        files?
            .into_iter()
            .try_for_each(|(file, pem)| store.put(file, &pem))
    }

    /// Gives a load balancer its certificates, into a directory of secrets.
    pub(super) fn give_certificates(&self, node: &NodePlan, secrets: &Path) -> anyhow::Result<()> {
        match &self.plan.tls {
            Some(tls) if node.tier == Tier::LoadBalancer => {
                self.certificates()
                    .give(&tls.certificates, &Store::of(secrets), now()?)
            }
            _ => Ok(()),
        }
    }

    /// The days until the first certificate of a load balancer expires.
    pub(super) fn certificate_days(&self, node: &str) -> Option<i64> {
        let store = Store::of(&self.place.node(node).join(super::plan::SECRETS));
        store.days_left(&self.plan.tls.as_ref()?.certificates, now().ok()?)
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
        if tls.makes {
            self.make(tls, now)?;
        } else {
            self.fetch(tls, now)?;
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
            let said = self.run_in(&node.name, &[PROGRAM, "node", "load-certificates"]);
            let said = said.with_context(|| format!("loading certificates on {}", node.name))?;
            said.lines()
                .for_each(|line| say(&format!("{}: {line}", node.name)));
        }
        Ok(())
    }
}
