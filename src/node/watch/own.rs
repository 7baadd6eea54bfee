//! This node's own mongod: asked twice per advert how it does, kept copying from where it should, and
//! asked to stand for election.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};

use super::advert::{Advert, State};
use crate::health::mongo::{self, Role};
use crate::secrets::{Kind, Secrets};

/// How long a connection to the own mongod may take.
const CONNECT: Duration = Duration::from_millis(300);
/// Refused connections after which nobody listens, and the time between them.
const REFUSALS: u32 = 3;
const AGAIN: Duration = Duration::from_millis(10);
/// How long an elected member may take to be primary.
const ELECTED: Duration = Duration::from_secs(5);

/// What is known of the own mongod.
pub(super) struct Own<'o> {
    host: &'o str,
    secrets: Secrets,
    known: Mutex<Known>,
    /// To see and say what it copies from.
    follower: Session,
    /// To have it stand for election; ready before it is needed, and not in use for anything else.
    candidate: Session,
}

/// A connection of the administration's that is kept: to prove a password takes longer than an election.
type Session = Mutex<Option<mongo::Member>>;

struct Known {
    advert: Advert,
    /// Adverts that were sent while a question was under way.
    unanswered: u32,
    asking: bool,
    /// When it was elected. It says that it is primary only once it takes writes.
    elected: Option<Instant>,
}

impl<'o> Own<'o> {
    /// Nothing is known yet.
    pub(super) fn new(set: &str, host: &'o str, secrets: Secrets) -> Self {
        Self {
            host,
            secrets,
            known: Mutex::new(Known {
                advert: Advert {
                    set: set.to_owned(),
                    state: State::Other,
                    source: None,
                    last_write_ms: 0,
                },
                unanswered: 0,
                asking: false,
                elected: None,
            }),
            follower: Mutex::new(None),
            candidate: Mutex::new(None),
        }
    }

    /// What to tell the others now. `counts`: it is one of the regular adverts. A question that is not answered
    /// while `patience` of those are sent says that mongod hangs; adverts are counted and not
    /// time, because a machine that stood still has sent none.
    pub(super) fn advert(&self, counts: bool, patience: u32) -> Advert {
        let mut known = lock(&self.known);
        if counts && known.asking {
            known.unanswered = known.unanswered.saturating_add(1);
        }
        let mut advert = known.advert.clone();
        if known.elected.is_some_and(|at| at.elapsed() < ELECTED)
            && advert.state == State::Secondary
        {
            advert.state = State::Primary;
        }
        if known.unanswered > patience {
            advert.state = State::Hanging;
        }
        advert
    }

    /// Asks mongod how it does until `over`.
    pub(super) fn ask(&self, pause: Duration, over: &AtomicBool) {
        let mut member: Option<mongo::Member> = None;
        while !over.load(Ordering::SeqCst) {
            lock(&self.known).asking = true;
            let connected = match member.take() {
                Some(member) => Some(member),
                None => mongo::Member::connect(self.host, CONNECT).ok(),
            };
            let hello = connected.as_ref().and_then(|member| member.hello().ok());
            let refuses = hello.is_none() && self.refuses();
            let mut known = lock(&self.known);
            known.asking = false;
            if hello.is_some() || refuses {
                known.unanswered = 0;
            }
            if let Some(hello) = &hello {
                known.advert.state = match hello.role {
                    Role::Primary => State::Primary,
                    Role::Secondary => State::Secondary,
                    Role::Other | Role::Uninitialized => State::Other,
                };
                known.advert.last_write_ms = hello.last_write_ms.unwrap_or_default();
            } else if refuses {
                known.advert.state = State::Refusing;
            }
            drop(known);
            member = connected.filter(|_| hello.is_some());
            std::thread::sleep(pause);
        }
    }

    /// Whether nobody listens at the port, tried more than once.
    fn refuses(&self) -> bool {
        let Ok(place) = super::place(self.host) else {
            return false;
        };
        (0..REFUSALS).all(|_| {
            std::thread::sleep(AGAIN);
            !crate::health::http::accepts(*place.ip(), place.port(), CONNECT)
        })
    }

    /// Sees to it that mongod copies from `wanted`; whether it had to be told.
    ///
    /// # Errors
    /// If it can't be asked, or refuses.
    pub(super) fn follow(&self, wanted: Option<&str>) -> anyhow::Result<bool> {
        self.as_admin(&self.follower, |admin| {
            let source = admin.sync_source()?;
            lock(&self.known).advert.source.clone_from(&source);
            match wanted {
                Some(wanted) if source.as_deref() != Some(wanted) => {
                    admin.sync_from(wanted)?;
                    Ok(true)
                }
                _ => Ok(false),
            }
        })
    }

    /// Asks mongod to stand for election.
    ///
    /// # Errors
    /// If it is not elected.
    pub(super) fn stand(&self) -> anyhow::Result<()> {
        self.as_admin(&self.candidate, mongo::Member::step_up)?;
        lock(&self.known).elected = Some(Instant::now());
        Ok(())
    }

    /// Has the connection ready over which mongod would be asked to stand for election.
    ///
    /// # Errors
    /// If there is none, for example because mongod starts.
    pub(super) fn be_ready(&self) -> anyhow::Result<()> {
        self.as_admin(&self.candidate, mongo::Member::hello)
            .map(drop)
    }

    /// Does something over a connection that is kept, unless it fails.
    fn as_admin<T>(
        &self,
        session: &Session,
        act: impl FnOnce(&mongo::Member) -> mongodb::error::Result<T>,
    ) -> anyhow::Result<T> {
        let kept = lock(session).take();
        let admin = match kept {
            Some(admin) => admin,
            None => self
                .secrets
                .log_in(Kind::Administration, self.host, CONNECT)?
                .context("mongod does not know the administration user yet")?,
        };
        let done = act(&admin).map_err(|error| anyhow!(mongo::words(&error)))?;
        *lock(session) = Some(admin);
        Ok(done)
    }
}

/// What is behind the lock is whole after every step, also of one that panicked.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
