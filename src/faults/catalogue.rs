//! Every fault there is: what it breaks, what a visitor should see, what it may cost
//! and how it is undone. Data only; [`super::inject`] carries it out.

use super::bound::Bound;
use super::predict;
use super::timing::Timing;
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
}

/// How much longer a slow app takes, in milliseconds.
const DAWDLE: u32 = 2000;

/// The catalogue, tier by tier.
pub const CATALOGUE: &[Fault] = &[
    Fault {
        name: "lb-power-off",
        tier: Some(Tier::LoadBalancer),
        breaks: "pulls the plug of the load balancer that has the virtual IP",
        visitors: "a pause until the next one has missed three adverts; what was in flight on it is lost",
        undo: "powered on",
        target: Target::Owner,
        action: Action::PowerOff,
        bound: predict::take_over,
    },
    Fault {
        name: "lb-reboot",
        tier: Some(Tier::LoadBalancer),
        breaks: "shuts the load balancer that has the virtual IP down, and starts it again",
        visitors: "nothing: it drains and hands over, and later takes back what was handed over",
        undo: "started",
        target: Target::Owner,
        action: Action::ShutDown,
        bound: predict::hand_over,
    },
    Fault {
        name: "lb-link-cut",
        tier: Some(Tier::LoadBalancer),
        breaks: "pulls the cable of the load balancer that has the virtual IP",
        visitors: "as when its plug is pulled",
        undo: "plugged in again",
        target: Target::Owner,
        action: Action::CutLink,
        bound: predict::take_over,
    },
    Fault {
        name: "lbs-but-one-power-off",
        tier: Some(Tier::LoadBalancer),
        breaks: "pulls the plugs of all load balancers but the last",
        visitors: "a pause as when one is lost, and a little more skew",
        undo: "powered on",
        target: Target::LoadBalancersButOne,
        action: Action::PowerOff,
        bound: predict::last_take_over,
    },
    Fault {
        name: "lb-split",
        tier: Some(Tier::LoadBalancer),
        breaks: "keeps the load balancers from hearing each other; everybody else hears them",
        visitors: "nothing: each serves whoever comes to it, and the preferred one wins when they meet again",
        undo: "they hear each other again",
        target: Target::LoadBalancers,
        action: Action::Separate,
        bound: predict::split,
    },
    Fault {
        name: "haproxy-kill",
        tier: Some(Tier::LoadBalancer),
        breaks: "kills haproxy on the load balancer that has the virtual IP",
        visitors: "a blink; what was in flight on it is lost",
        undo: "its supervisor starts it again",
        target: Target::Owner,
        action: Action::Kill(Program::Haproxy),
        bound: predict::fall_over,
    },
    Fault {
        name: "haproxy-unit-kill",
        tier: Some(Tier::LoadBalancer),
        breaks: "kills haproxy where the virtual IP is, together with the process that supervises it",
        visitors: "a blink; what was in flight on it is lost",
        undo: "its service starts both again",
        target: Target::Owner,
        action: Action::Kill(Program::HaproxyUnit),
        bound: predict::fall_over,
    },
    Fault {
        name: "haproxy-dead",
        tier: Some(Tier::LoadBalancer),
        breaks: "kills haproxy where the virtual IP is, and it can't start again: its file is damaged",
        visitors: "a blink; what was in flight on it is lost",
        undo: "the right file, started",
        target: Target::Owner,
        action: Action::Ruin,
        bound: predict::fall_over,
    },
    Fault {
        name: "haproxy-hang",
        tier: Some(Tier::LoadBalancer),
        breaks: "stops haproxy with SIGSTOP on the load balancer that has the virtual IP",
        visitors: "a pause until keepalived has asked haproxy in vain, twice",
        undo: "continued",
        target: Target::Owner,
        action: Action::Pause(Program::Haproxy),
        bound: predict::haproxy_hang,
    },
    Fault {
        name: "haproxy-reload",
        tier: Some(Tier::LoadBalancer),
        breaks: "makes haproxy read its files anew on the load balancer that has the virtual IP",
        visitors: "nothing",
        undo: "nothing to undo",
        target: Target::Owner,
        action: Action::Reload,
        bound: predict::hand_over,
    },
    Fault {
        name: "haproxy-reload-hung",
        tier: None,
        breaks: "makes haproxy read its files anew where the virtual IP is, while an app server hangs and is known to",
        visitors: "nothing: what haproxy knows of its servers is kept, and none is sent to that one",
        undo: "continued",
        target: Target::OwnerAndApp,
        action: Action::ReloadBeside(Program::Gunicorn),
        bound: predict::reload_beside,
    },
    Fault {
        name: "keepalived-kill",
        tier: Some(Tier::LoadBalancer),
        breaks: "kills keepalived, every process, where the virtual IP is; the address stays behind",
        visitors: "at most a pause as when the plug is pulled",
        undo: "its supervisor starts it again",
        target: Target::Owner,
        action: Action::Kill(Program::Keepalived),
        bound: predict::take_over,
    },
    Fault {
        name: "keepalived-stop",
        tier: Some(Tier::LoadBalancer),
        breaks: "stops keepalived on purpose where the virtual IP is, as an update would",
        visitors: "nothing: it drains and hands over",
        undo: "started",
        target: Target::Owner,
        action: Action::Stop("keepalived"),
        bound: predict::hand_over,
    },
    Fault {
        name: "worker-kill",
        tier: Some(Tier::App),
        breaks: "kills one gunicorn worker",
        visitors: "at most the writes it had in hand",
        undo: "gunicorn forks another",
        target: Target::App,
        action: Action::Kill(Program::Worker),
        bound: predict::in_hand,
    },
    Fault {
        name: "gunicorn-kill",
        tier: Some(Tier::App),
        breaks: "kills every gunicorn process of an app server while nginx lives",
        visitors: "at most the writes it had in hand",
        undo: "supervisord starts it again",
        target: Target::App,
        action: Action::Kill(Program::Gunicorn),
        bound: predict::in_hand,
    },
    Fault {
        name: "gunicorn-stop",
        tier: Some(Tier::App),
        breaks: "stops gunicorn on an app server while nginx lives",
        visitors: "nothing: nginx did not reach it, and haproxy asks another app server",
        undo: "started",
        target: Target::App,
        action: Action::StopApp,
        bound: predict::gunicorn_stop,
    },
    Fault {
        name: "gunicorn-hang",
        tier: Some(Tier::App),
        breaks: "stops every gunicorn process of an app server with SIGSTOP",
        visitors: "reads that went there wait until the health check has failed; writes there are lost",
        undo: "continued",
        target: Target::App,
        action: Action::Pause(Program::Gunicorn),
        bound: predict::app_hang,
    },
    Fault {
        name: "app-errors",
        tier: Some(Tier::App),
        breaks: "makes the application of one app server answer 500 to all but health checks",
        visitors: "its errors: nobody but the application can know that they are wrong, and repeating them would multiply the load of every real error",
        undo: "it answers as before",
        target: Target::App,
        action: Action::Fail,
        bound: predict::app_errors,
    },
    Fault {
        name: "app-slow",
        tier: Some(Tier::App),
        breaks: "makes the application of one app server take two seconds longer",
        visitors: "its visitors wait; haproxy sends most to the others, which have fewer connections",
        undo: "it is as fast as before",
        target: Target::App,
        action: Action::Dawdle(DAWDLE),
        bound: predict::app_slow,
    },
    Fault {
        name: "nginx-kill",
        tier: Some(Tier::App),
        breaks: "kills nginx on an app server",
        visitors: "at most the writes it had in hand",
        undo: "its supervisor starts it again",
        target: Target::App,
        action: Action::Kill(Program::Nginx),
        bound: predict::in_hand,
    },
    Fault {
        name: "app-power-off",
        tier: Some(Tier::App),
        breaks: "pulls the plug of an app server",
        visitors: "reads that went there wait until it is noticed; writes it had in hand are lost",
        undo: "powered on",
        target: Target::App,
        action: Action::PowerOff,
        bound: predict::app_gone,
    },
    Fault {
        name: "app-reboot",
        tier: Some(Tier::App),
        breaks: "shuts an app server down, and starts it again",
        visitors: "nothing: it drains first",
        undo: "started",
        target: Target::App,
        action: Action::ShutDown,
        bound: predict::app_drained,
    },
    Fault {
        name: "app-link-cut",
        tier: Some(Tier::App),
        breaks: "pulls the cable of an app server",
        visitors: "as when its plug is pulled",
        undo: "plugged in again",
        target: Target::App,
        action: Action::CutLink,
        bound: predict::app_gone,
    },
    Fault {
        name: "apps-but-one-power-off",
        tier: Some(Tier::App),
        breaks: "pulls the plugs of all app servers but one",
        visitors: "as when one is lost; the last one has to carry the load",
        undo: "powered on",
        target: Target::AppsButOne,
        action: Action::PowerOff,
        bound: predict::apps_gone,
    },
    Fault {
        name: "db-primary-kill",
        tier: Some(Tier::Database),
        breaks: "kills mongod where the primary is",
        visitors: "writes wait for the election; reads go on",
        undo: "its supervisor starts it again",
        target: Target::Primary,
        action: Action::Kill(Program::Mongod),
        bound: predict::election,
    },
    Fault {
        name: "db-primary-reboot",
        tier: Some(Tier::Database),
        breaks: "shuts the primary's node down, and starts it again",
        visitors: "a short pause of writes: the primary steps down before it goes",
        undo: "started",
        target: Target::Primary,
        action: Action::ShutDown,
        bound: predict::step_down,
    },
    Fault {
        name: "db-primary-hang",
        tier: Some(Tier::Database),
        breaks: "stops mongod with SIGSTOP where the primary is",
        visitors: "writes wait until the databases' watchers are sure, and for the election",
        undo: "continued",
        target: Target::Primary,
        action: Action::Pause(Program::Mongod),
        bound: predict::hanging_primary,
    },
    Fault {
        name: "db-primary-power-off",
        tier: Some(Tier::Database),
        breaks: "pulls the plug of the primary's node",
        visitors: "as when it hangs",
        undo: "powered on",
        target: Target::Primary,
        action: Action::PowerOff,
        bound: predict::silent_primary,
    },
    Fault {
        name: "db-primary-link-cut",
        tier: Some(Tier::Database),
        breaks: "pulls the cable of the primary's node",
        visitors: "as when it hangs; the old primary steps down by itself",
        undo: "plugged in again",
        target: Target::Primary,
        action: Action::CutLink,
        bound: predict::silent_primary,
    },
    Fault {
        name: "db-secondary-power-off",
        tier: Some(Tier::Database),
        breaks: "pulls the plug of a secondary's node",
        visitors: "nothing; a write may wait for another member to follow the primary directly",
        undo: "powered on",
        target: Target::Secondary,
        action: Action::PowerOff,
        bound: predict::secondary_gone,
    },
    Fault {
        name: "db-majority-power-off",
        tier: Some(Tier::Database),
        breaks: "pulls the plugs of a majority of the databases",
        visitors: "reads go on, a little stale; writes are refused with 503 until there is a majority again",
        undo: "powered on",
        target: Target::Majority,
        action: Action::PowerOff,
        bound: predict::majority_gone,
    },
    Fault {
        name: "db-disk-full",
        tier: Some(Tier::Database),
        breaks: "fills the file system of the primary's node",
        visitors: "as when the primary is killed, once it notices",
        undo: "there is room again, and its supervisor starts mongod",
        target: Target::Primary,
        action: Action::FillDisk,
        bound: predict::disk_full,
    },
    Fault {
        name: "network-lossy",
        tier: Some(Tier::App),
        breaks: "loses one packet in ten to and from an app server",
        visitors: "some answers wait for a packet to be repeated",
        undo: "no packet is lost",
        target: Target::App,
        action: Action::Lose(10),
        bound: predict::lossy,
    },
    Fault {
        name: "network-narrow",
        tier: Some(Tier::App),
        breaks: "lets an app server send no more than 1 Mbit/s",
        visitors: "answers from there take longer",
        undo: "as wide as before",
        target: Target::App,
        action: Action::Throttle(1000),
        bound: predict::narrow,
    },
    Fault {
        name: "network-delay",
        tier: Some(Tier::App),
        breaks: "makes every packet to and from an app server take 100 ms longer",
        visitors: "answers from there take longer",
        undo: "no delay",
        target: Target::App,
        action: Action::Delay(100),
        bound: predict::narrow,
    },
    Fault {
        name: "bad-configuration",
        tier: None,
        breaks: "replaces the files of haproxy, keepalived and nginx by rubbish, and reloads them",
        visitors: "nothing: each daemon goes on with what it has",
        undo: "the right files, reloaded",
        target: Target::OwnerAndApp,
        action: Action::Misconfigure,
        bound: predict::hand_over,
    },
    Fault {
        name: "blackout",
        tier: None,
        breaks: "pulls every plug, and powers everything on again two seconds later",
        visitors: "nothing is there until everything has booted; what was acknowledged is there again",
        undo: "powered on",
        target: Target::Everything,
        action: Action::PowerOff,
        bound: predict::blackout,
    },
    Fault {
        name: "overload",
        tier: None,
        breaks: "pulls the plug of an app server at three times the rate",
        visitors: "as when it happens at the usual rate",
        undo: "powered on",
        target: Target::App,
        action: Action::PowerOff,
        bound: predict::app_gone,
    },
];

impl Fault {
    /// The fault called `name`.
    pub fn named(name: &str) -> Option<&'static Self> {
        CATALOGUE.iter().find(|fault| fault.name == name)
    }

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
