//! What a fault is: what it breaks, what a visitor should see, what it may cost
//! and how it is undone. Data only; [`super::inject`] carries it out.

use super::bound::Bound;
use super::timing::{Origin, Timing};
use crate::topology::Tier;

/// Something that can be broken.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// What it is called on the command line.
    pub name: &'static str,
    /// Which tier it breaks; none if more than one.
    pub tier: Option<Tier>,
    /// What is done.
    pub breaks: &'static str,
    /// What a visitor should see of it.
    pub visitors: &'static str,
    /// How it is undone.
    pub undo: &'static str,
    /// Which nodes are hit.
    pub target: Target,
    /// What happens to them.
    pub action: Action,
    /// What it may cost.
    pub bound: fn(&Timing) -> Bound,
}

/// Which nodes a fault hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The load balancer that has the virtual IP.
    Owner,
    /// All load balancers but the last in order of preference; at least two.
    LoadBalancersButOne,
    /// Every load balancer.
    LoadBalancers,
    /// One app server.
    App,
    /// All app servers but one; at least two.
    AppsButOne,
    /// The database that takes writes.
    Primary,
    /// A database that does not.
    Secondary,
    /// As many databases as leave no majority, the primary among them.
    Majority,
    /// A load balancer, the owner, and an app server.
    OwnerAndApp,
    /// Every node.
    Everything,
}

/// A program, or a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// haproxy, master and worker.
    Haproxy,
    /// haproxy and the process that supervises it.
    HaproxyUnit,
    /// keepalived, parent and VRRP process.
    Keepalived,
    /// nginx, master and workers.
    Nginx,
    /// gunicorn, every process of every instance.
    Gunicorn,
    /// One gunicorn worker.
    Worker,
    /// mongod.
    Mongod,
}

/// What is wrong with a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadCertificate {
    /// Its key is another one's.
    WrongKey,
    /// It was valid until yesterday.
    Expired,
}

/// What happens to the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The plug is pulled: cable first, then every process at once.
    PowerOff,
    /// The node is shut down, and started when the fault is undone.
    ShutDown,
    /// The cable is pulled, everything runs on.
    CutLink,
    /// Processes end by SIGKILL; whoever supervises them starts them again.
    Kill(Program),
    /// haproxy is killed and finds its file damaged when it is started again.
    Ruin,
    /// Processes stand still by SIGSTOP.
    Pause(Program),
    /// A supervised program is stopped as on a shutdown, and started when the fault is undone.
    Stop(&'static str),
    /// Every instance of gunicorn is stopped as on a shutdown, and started when the fault is undone.
    StopApp,
    /// haproxy is told to read its files anew.
    Reload,
    /// The same on the first node, while a program of the second one has stood still for a while.
    ReloadBeside(Program),
    /// The nodes can't hear each other, only everybody else.
    Separate,
    /// Packets are lost, in percent, in both directions.
    Lose(u8),
    /// The node sends and is sent no more than so many kbit/s.
    Throttle(u32),
    /// Packets take longer. The kernel needs a scheduler for it that not every one has.
    Delay(u32),
    /// The application answers every request but health checks with 500.
    Fail,
    /// The application takes so many milliseconds longer to answer all but health checks.
    Dawdle(u32),
    /// The file system below the database is full.
    FillDisk,
    /// haproxy.cfg, keepalived.conf and nginx's part are replaced by rubbish and reloaded.
    Misconfigure,
    /// A load balancer finds a certificate of this kind in the place of its own, is told to load it, and
    /// then haproxy to read its files anew.
    Certificate(BadCertificate),
    /// The authority that certificates are asked of can't be reached, and the node asks for one.
    NoAuthority,
}

impl Fault {
    /// What it may cost, at the rate of `timing`.
    pub fn costs(&self, timing: &Timing) -> Bound {
        (self.bound)(timing).spaced(1000.0 / f64::from(timing.rate.max(1)))
    }

    /// How many times the usual rate the load has.
    pub fn load_factor(&self) -> u32 {
        if self.name == "overload" { 3 } else { 1 }
    }

    /// Why a stack of these sizes can't have this fault; none if it can.
    pub fn lacks(&self, timing: &Timing) -> Option<String> {
        if timing.sharded {
            let why =
                "the databases are sharded, and what a fault costs there is not predicted yet";
            return Some(why.to_owned());
        }
        match self.action {
            Action::Certificate(_) if timing.certificates.is_none() => {
                return Some("the stack has no HTTPS".into());
            }
            Action::Certificate(_) if timing.certificates == Some(Origin::Acme) => {
                return Some("certificates come by ACME, and nobody brings one".into());
            }
            Action::NoAuthority if timing.certificates != Some(Origin::Acme) => {
                return Some("no certificate is asked for by ACME".into());
            }
            _ => {}
        }
        let about_databases = matches!(
            self.target,
            Target::Primary | Target::Secondary | Target::Majority
        );
        if about_databases && !timing.has_database {
            return Some("the stack has no database".into());
        }
        let needs = |has: usize, least: usize, what: &str| {
            (has < least).then(|| format!("needs {least} {what}, the stack has {has}"))
        };
        match self.target {
            Target::LoadBalancersButOne => needs(
                timing.load_balancers,
                3,
                "load balancers; with two it is lb-power-off",
            ),
            Target::Owner | Target::LoadBalancers => {
                needs(timing.load_balancers, 2, "load balancers")
            }
            Target::AppsButOne => {
                needs(timing.apps, 3, "app servers; with two it is app-power-off")
            }
            Target::App | Target::OwnerAndApp => needs(timing.apps, 2, "app servers"),
            Target::Primary | Target::Secondary | Target::Majority => {
                needs(timing.voters, 3, "databases that vote")
            }
            Target::Everything => None,
        }
    }
}
