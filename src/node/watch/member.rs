//! The watcher on a database node.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::advert::{Datagram, State};
use super::metrics::Metrics;
use super::own::Own;
use super::view::{Seat, View};
use super::{interval, place, receive, send, sockets};
use crate::config::{NodeFacts, ReplicaSet, Watch};
use crate::health::mongo;
use crate::secrets::Secrets;

/// Adverts that may be sent while mongod owes an answer. With two, and half as long a look, a machine with seven threads
/// for each processor took a primary that was only late for one that hangs.
pub(super) const HANGS: u32 = 3;
/// Time between two looks at what the own mongod copies from: after a member has come back, the others follow the next
/// in line within a few of them.
const FOLLOW: Duration = Duration::from_millis(250);
/// For how long those who listen are told of a member that is gone: a datagram may be lost, and a
/// connection made meanwhile.
const TELL: Duration = Duration::from_secs(3);
/// An app node that was not heard for so long is not told any more.
const LISTENS: Duration = Duration::from_secs(5);
/// Listeners that are remembered.
const MOST_LISTENERS: usize = 10_000;

/// Everything that the threads of one watcher share.
struct Watcher<'w> {
    watch: &'w Watch,
    set: &'w ReplicaSet,
    address: Ipv4Addr,
    socket: UdpSocket,
    own: Own<'w>,
    view: Mutex<View>,
    standing: AtomicBool,
    over: AtomicBool,
    say: &'w (dyn Fn(&str) + Sync),
}

/// What only the thread that receives knows.
#[derive(Default)]
struct Desk {
    metrics: Metrics,
    listeners: BTreeMap<Ipv4Addr, Instant>,
    last_state: Option<State>,
    sent: Option<Instant>,
}

/// Watches until `changed` says that the facts are others.
pub(super) fn watch(
    facts: &NodeFacts,
    secrets: Secrets,
    say: &(dyn Fn(&str) + Sync),
    changed: &mut dyn FnMut() -> bool,
) -> anyhow::Result<()> {
    let (set, me) = facts.membership()?;
    let watch = set.watch.as_ref().context("the set is not watched")?;
    let watcher = Watcher {
        watch,
        set,
        address: facts.address,
        socket: super::socket(facts, watch)?,
        own: Own::new(&set.name, &me.host, secrets),
        view: Mutex::new(view(set, watch, &me.host)?),
        standing: AtomicBool::new(false),
        over: AtomicBool::new(false),
        say,
    };
    say(&format!(
        "watching {} with adverts every {} ms",
        set.name, watch.interval_ms
    ));
    std::thread::scope(|scope| {
        scope.spawn(|| watcher.own.ask(interval(watch) / 2, &watcher.over));
        scope.spawn(|| watcher.follow());
        let mut desk = Desk::default();
        while !changed() {
            watcher.turn(&mut desk, scope);
        }
        watcher.over.store(true, Ordering::SeqCst);
    });
    Ok(())
}

fn view(set: &ReplicaSet, watch: &Watch, me: &str) -> anyhow::Result<View> {
    let seat = |member: &crate::config::Member| {
        Ok(Seat {
            address: *place(&member.host)?.ip(),
            host: member.host.clone(),
            voting: member.voting,
        })
    };
    let seats = set
        .members
        .iter()
        .map(seat)
        .collect::<anyhow::Result<Vec<_>>>()?;
    let at = seats.iter().position(|seat| seat.host == me);
    let at = at.context("this node is not among the members")?;
    Ok(View::new(&set.name, interval(watch), at, seats))
}

impl Watcher<'_> {
    /// Receives, tells the others, looks for who is missing, and acts.
    fn turn<'s>(&'s self, desk: &mut Desk, scope: &'s std::thread::Scope<'s, '_>) {
        self.hear(desk);
        self.tell(desk);
        let suspects = self.view().suspects(Instant::now());
        for host in suspects {
            self.try_out(&host, desk);
        }
        let stands = !self.standing.load(Ordering::SeqCst) && self.view().stands(Instant::now());
        if stands {
            desk.metrics.elections_asked += 1;
            self.standing.store(true, Ordering::SeqCst);
            scope.spawn(|| self.stand());
        }
        desk.metrics.write();
    }

    fn view(&self) -> std::sync::MutexGuard<'_, View> {
        self.view
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Takes what has come; waits for a quarter of the interval at most.
    fn hear(&self, desk: &mut Desk) {
        while let Some((from, datagram)) = receive(&self.socket) {
            desk.metrics.received += 1;
            match datagram {
                Datagram::Advert(advert) => {
                    self.view().hear(from, advert, Instant::now());
                }
                Datagram::Listen if desk.listeners.len() < MOST_LISTENERS => {
                    desk.listeners.insert(from, Instant::now());
                }
                Datagram::Listen | Datagram::Gone(_) => {}
            }
            let due = desk
                .sent
                .is_none_or(|at| at.elapsed() >= interval(self.watch));
            if due {
                break;
            }
        }
    }

    /// Sends an advert when it is time, or when there is news.
    fn tell(&self, desk: &mut Desk) {
        let due = desk
            .sent
            .is_none_or(|at| at.elapsed() >= interval(self.watch));
        let advert = self.own.advert(due, HANGS);
        let news = desk.last_state != Some(advert.state);
        if !due && !news {
            return;
        }
        if news && matches!(advert.state, State::Refusing | State::Hanging) {
            (self.say)("mongod does not answer; the others are told");
        }
        desk.sent = Some(Instant::now());
        desk.last_state = Some(advert.state);
        self.view()
            .hear(self.address, advert.clone(), Instant::now());
        let advert = Datagram::Advert(advert);
        for host in self
            .set
            .members
            .iter()
            .filter_map(|member| place(&member.host).ok())
        {
            if *host.ip() != self.address {
                desk.metrics.sent += u64::from(send(&self.socket, *host.ip(), self.watch, &advert));
            }
        }
        desk.listeners.retain(|_, heard| heard.elapsed() < LISTENS);
        for host in self.view().gone(TELL, Instant::now()) {
            self.spread(&host, desk);
        }
    }

    /// Tells those who listen that a member is gone, or seems to be: they look themselves.
    fn spread(&self, host: &str, desk: &mut Desk) {
        let gone = Datagram::Gone(host.to_owned());
        for listener in desk.listeners.keys() {
            desk.metrics.sent += u64::from(send(&self.socket, *listener, self.watch, &gone));
        }
    }

    /// Looks whether a suspect can be reached. If not, its connections end here and elsewhere.
    fn try_out(&self, host: &str, desk: &mut Desk) {
        // Those who listen look at the same time, and not only after this member has.
        self.spread(host, desk);
        let answers = mongo::answers(host, interval(self.watch));
        self.view().tried(host, answers, Instant::now());
        if answers {
            desk.metrics.false_alarms += 1;
            (self.say)(&format!("{host} was missed, but answers"));
            return;
        }
        desk.metrics.gone += 1;
        (self.say)(&format!("{host} is gone"));
        match place(host).and_then(sockets::end) {
            Ok(ended) => desk.metrics.sockets_ended += u64::try_from(ended).unwrap_or_default(),
            Err(error) => (self.say)(&format!("{error:#}")),
        }
    }

    fn stand(&self) {
        let begun = Instant::now();
        let result = self.own.stand();
        self.view().stood(result.is_ok());
        match result {
            Ok(()) => (self.say)(&format!(
                "the primary is gone; this member was elected within {} ms",
                begun.elapsed().as_millis()
            )),
            Err(error) => (self.say)(&format!("this member was not elected: {error:#}")),
        }
        self.standing.store(false, Ordering::SeqCst);
    }

    /// Keeps the own mongod copying from where it should.
    fn follow(&self) {
        let mut last = String::new();
        while !self.over.load(Ordering::SeqCst) {
            std::thread::sleep(FOLLOW);
            let wanted = self.view().source(Instant::now());
            let followed = self.own.follow(wanted.as_deref());
            let words = match self.own.be_ready().and(followed) {
                Ok(true) => format!("copying from {}", wanted.unwrap_or_default()),
                Ok(false) => continue,
                // It starts, or has no users yet; the next look tells more.
                Err(error) => format!("not yet: {error:#}"),
            };
            if words != last {
                (self.say)(&words);
                last = words;
            }
        }
    }
}
