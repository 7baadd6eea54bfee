//! What a member thinks of the others, and what follows from it. Pure: time comes in as an argument.
//!
//! A member is *suspect* when it missed [`MISSED`] adverts, or says itself that its mongod is in
//! trouble. It is *gone* only when whoever suspects it has tried to reach it, too: a watcher that
//! is killed must not cost an election. A primary that is gone is *missed* until there is
//! another, or it comes back as a secondary, as it does when it stepped down on purpose.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use super::advert::{Advert, State};

/// Adverts that a member may miss.
pub(super) const MISSED: u32 = 3;
/// How much longer each next one in line waits before it stands for election. An election takes some 10 ms.
const STAGGER: Duration = Duration::from_millis(200);
/// After the first election of its own that failed; twice as long after each other.
const BACK_OFF: Duration = Duration::from_millis(400);
/// It waits no longer than that.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(30);
/// Who is further behind the most recent copy is no candidate.
const FRESH: i64 = 2000;
/// How long a suspect that could be reached is left alone.
const TRUST: Duration = Duration::from_millis(500);

/// A member of the set, as it is configured.
#[derive(Clone, Debug)]
pub(super) struct Seat {
    pub(super) address: Ipv4Addr,
    pub(super) host: String,
    pub(super) voting: bool,
}

#[derive(Debug)]
struct Other {
    seat: Seat,
    advert: Option<Advert>,
    heard: Option<Instant>,
    /// Its last word before it was in trouble was that it is primary.
    was_primary: bool,
    gone: Option<Instant>,
    /// Not suspected before.
    trusted: Option<Instant>,
}

/// What this member thinks of all of them, itself included.
#[derive(Debug)]
pub(super) struct View {
    set: String,
    silence: Duration,
    me: usize,
    members: Vec<Other>,
    /// The primary that is gone, and since when.
    missed: Option<(usize, Instant)>,
    failures: u32,
    not_before: Option<Instant>,
}

impl View {
    /// Nothing is known of anybody yet. `me` is this member's place among `seats`.
    pub(super) fn new(set: &str, interval: Duration, me: usize, seats: Vec<Seat>) -> Self {
        let other = |seat| Other {
            seat,
            advert: None,
            heard: None,
            was_primary: false,
            gone: None,
            trusted: None,
        };
        Self {
            set: set.to_owned(),
            silence: interval * MISSED,
            me,
            members: seats.into_iter().map(other).collect(),
            missed: None,
            failures: 0,
            not_before: None,
        }
    }

    /// Takes an advert; whether it is from one of the set. This member's own comes this way, too.
    pub(super) fn hear(&mut self, from: Ipv4Addr, advert: Advert, now: Instant) -> bool {
        let ours = advert.set == self.set;
        let at = self.members.iter().position(|m| m.seat.address == from);
        let Some((at, member)) = at.and_then(|at| Some((at, self.members.get_mut(at)?))) else {
            return false;
        };
        if !ours {
            return false;
        }
        member.heard = Some(now);
        match advert.state {
            State::Primary => {
                member.was_primary = true;
                // It was taken for dead and is not, or it is the new one.
                member.gone = None;
                self.missed = None;
            }
            State::Secondary | State::Other => {
                member.was_primary = false;
                member.gone = None;
                if self.missed.is_some_and(|(missed, _)| missed == at) {
                    self.missed = None;
                }
            }
            State::Refusing | State::Hanging => {}
        }
        member.advert = Some(advert);
        true
    }

    /// Who has to be tried, as `address:port`.
    pub(super) fn suspects(&self, now: Instant) -> Vec<String> {
        let others = self.members.iter().enumerate();
        let suspects = others.filter(|(at, member)| {
            *at != self.me && member.gone.is_none() && self.is_suspect(member, now)
        });
        suspects
            .map(|(_, member)| member.seat.host.clone())
            .collect()
    }

    fn is_suspect(&self, member: &Other, now: Instant) -> bool {
        let since = |at: Instant| now.saturating_duration_since(at);
        if member.trusted.is_some_and(|at| since(at) < TRUST) {
            return false;
        }
        let troubled = member
            .advert
            .as_ref()
            .is_some_and(|advert| matches!(advert.state, State::Refusing | State::Hanging));
        troubled || member.heard.is_some_and(|at| since(at) > self.silence)
    }

    /// A suspect was tried, and answered or not.
    pub(super) fn tried(&mut self, host: &str, answers: bool, now: Instant) {
        let at = self.members.iter().position(|m| m.seat.host == host);
        let Some((at, member)) = at.and_then(|at| Some((at, self.members.get_mut(at)?))) else {
            return;
        };
        if answers {
            member.trusted = Some(now);
            return;
        }
        member.gone = Some(now);
        if member.was_primary {
            self.missed = Some((at, now));
        }
    }

    /// Members that were found gone within `lately`, as `address:port`.
    pub(super) fn gone(&self, lately: Duration, now: Instant) -> Vec<String> {
        let gone = self.members.iter().filter(|member| {
            let since = member.gone.map(|at| now.saturating_duration_since(at));
            since.is_some_and(|since| since < lately)
        });
        gone.map(|member| member.seat.host.clone()).collect()
    }

    /// Members that can be elected, in the order in which they stand: file order, without those that are behind.
    fn line(&self, now: Instant) -> Vec<usize> {
        let well = |member: &Other| {
            let advert = member.advert.as_ref()?;
            let is = member.seat.voting
                && member.gone.is_none()
                && advert.state == State::Secondary
                && !self.is_suspect(member, now);
            is.then_some(advert.last_write_ms)
        };
        let secondaries: Vec<(usize, i64)> = self
            .members
            .iter()
            .enumerate()
            .filter_map(|(at, member)| Some((at, well(member)?)))
            .collect();
        let newest = secondaries.iter().map(|(_, write)| *write).max();
        let fresh = |write: i64| newest.is_some_and(|newest| newest.saturating_sub(write) <= FRESH);
        let line = secondaries.into_iter().filter(|(_, write)| fresh(*write));
        line.map(|(at, _)| at).collect()
    }

    /// Whether this member should stand for election now. Counts as an attempt if so.
    pub(super) fn stands(&mut self, now: Instant) -> bool {
        let Some((_, since)) = self.missed else {
            return false;
        };
        let Some(place) = self.line(now).iter().position(|at| *at == self.me) else {
            return false;
        };
        let turn = since + STAGGER * u32::try_from(place).unwrap_or(u32::MAX);
        let patient = self.not_before.is_none_or(|at| now >= at);
        if now < turn || !patient || !self.is_majority(now) {
            return false;
        }
        let wait = BACK_OFF * 2_u32.saturating_pow(self.failures.min(5));
        self.not_before = Some(now + wait.min(LONGEST_BACK_OFF));
        true
    }

    /// How an election that this member stood for ended.
    pub(super) fn stood(&mut self, elected: bool) {
        if elected {
            self.missed = None;
            self.failures = 0;
        } else {
            self.failures = self.failures.saturating_add(1);
        }
    }

    fn is_majority(&self, now: Instant) -> bool {
        let voters = self.members.iter().filter(|member| member.seat.voting);
        let (mut all, mut well) = (0, 0);
        for member in voters {
            all += 1;
            let heard = member.heard.is_some() && member.gone.is_none();
            well += usize::from(heard && !self.is_suspect(member, now));
        }
        well * 2 > all
    }

    /// The member that this one should copy from, as `address:port`; none if that does not matter now. The
    /// next in line copies from the primary, the others from the next in line.
    pub(super) fn source(&self, now: Instant) -> Option<String> {
        let me = self.members.get(self.me)?;
        let primary = self.members.iter().find(|member| {
            let advert = member.advert.as_ref();
            member.gone.is_none() && advert.is_some_and(|a| a.state == State::Primary)
        })?;
        let line = self.line(now);
        let is_in_line = line.contains(&self.me);
        let next = self.members.get(*line.first()?)?;
        if !me.seat.voting || !is_in_line {
            return None;
        }
        if next.seat.host == me.seat.host {
            return Some(primary.seat.host.clone());
        }
        // Two that copy from each other would be refused by both.
        let follows = next.advert.as_ref()?.source.as_ref() == Some(&primary.seat.host);
        follows.then(|| next.seat.host.clone())
    }
}

#[cfg(test)]
mod tests;
