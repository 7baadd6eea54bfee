//! Keeping a certificate by ACME, on every load balancer at once.
//!
//! All load balancers have the same two keys, the account's and the certificate's, so each can answer the
//! authority, and none has to be given anything secret later. The one that has the virtual IP asks for the certificate;
//! the others take what visitors of the virtual IP are shown. So a certificate needs no
//! way of its own between nodes, and one that dies in the middle is followed by whichever has the address then.

use std::fs::File;
use std::path::Path;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::fs::{FlockOperation, flock};

use crate::certificate::acme::{self, Refusal, Wanted};
use crate::certificate::store::{Store, now};
use crate::certificate::{Bundle, shown};
use crate::config::{ACME_STATE, NodeFacts, TlsFacts};
use crate::files;
use crate::health::{http, vrrp};
use crate::topology::{ACME_FILE, Acme};

/// Time between two looks.
const LOOK: Duration = Duration::from_secs(60);
/// The same while there is no certificate that visitors would take.
const EAGER: Duration = Duration::from_secs(5);
/// How long to wait after the authority refused, twice that after the next time, and so on. Let's Encrypt
/// takes five failures an hour for a name.
const AFTER_REFUSAL: Duration = Duration::from_secs(120);
/// The longest of these waits, and the shortest when it was asked too often.
const LONG: Duration = Duration::from_secs(3600);
/// The longest wait that is taken from an authority's answer.
const LONGEST: Duration = Duration::from_secs(86_400);
/// How long the virtual IP may take to show its certificate.
const SHOWS: Duration = Duration::from_secs(2);

/// Looks after the certificate until this process is told to end.
///
/// # Errors
/// If signals can't be listened to.
pub fn keep(facts_file: &Path, say: &(dyn Fn(&str) + Sync)) -> anyhow::Result<()> {
    let signals = super::listen()?;
    let mut patience = Patience::default();
    loop {
        // They are read again: a name may have been added.
        let pause = match super::facts(facts_file) {
            Ok(facts) => tend(&facts, &mut patience, say),
            Err(error) => {
                say(&format!("{error:#}"));
                LOOK
            }
        };
        match signals.recv_timeout(pause) {
            Err(RecvTimeoutError::Timeout) => {}
            _ => return Ok(()),
        }
    }
}

/// Looks once, and asks the authority if it is time, or whenever with `anyway`. Returns what was done.
///
/// # Errors
/// If the authority refuses, or another load balancer has the virtual IP.
pub fn once(facts: &NodeFacts, anyway: bool) -> anyhow::Result<String> {
    let keeper = Keeper::of(facts)?;
    if let Some(done) = keeper.follow()? {
        return Ok(done);
    }
    if !anyway && keeper.due_in()? > Duration::ZERO {
        return Ok("there is nothing to do".into());
    }
    ensure!(
        keeper.is_asked(),
        "another load balancer has the virtual IP, and asks for the certificate"
    );
    keeper.renew().map_err(|refusal| refusal.why)
}

/// When the authority may be asked again.
#[derive(Debug, Default)]
struct Patience {
    refusals: u32,
    not_before: Option<Instant>,
    /// Whether this load balancer had the virtual IP at the last look: who has just taken it lets
    /// the one that had it end what it began.
    had: bool,
}

impl Patience {
    fn is_over(&self) -> bool {
        self.not_before.is_none_or(|at| Instant::now() >= at)
    }

    fn after(&mut self, refusal: &Refusal) -> Duration {
        let doubled = AFTER_REFUSAL
            .saturating_mul(1 << self.refusals.min(10))
            .min(LONG);
        self.refusals += 1;
        let least = if refusal.too_often { LONG } else { doubled };
        let wait = refusal.wait.unwrap_or_default().min(LONGEST).max(least);
        self.not_before = Some(Instant::now() + wait);
        wait
    }
}

/// One look; how long to wait for the next.
fn tend(facts: &NodeFacts, patience: &mut Patience, say: &(dyn Fn(&str) + Sync)) -> Duration {
    let looked = Keeper::of(facts).and_then(|keeper| {
        if let Some(done) = keeper.follow()? {
            say(&done);
        }
        let (due_in, is_asked) = (keeper.due_in()?, keeper.is_asked());
        let may_ask = due_in.is_zero() && is_asked && patience.had && patience.is_over();
        patience.had = is_asked;
        if may_ask {
            match keeper.renew() {
                Ok(done) => {
                    *patience = Patience {
                        had: is_asked,
                        ..Patience::default()
                    };
                    say(&done);
                    return Ok(LOOK);
                }
                Err(refusal) => {
                    let wait = patience.after(&refusal);
                    say(&format!(
                        "no certificate: {:#}; asking again in {wait:?}",
                        refusal.why
                    ));
                }
            }
        }
        Ok(due_in.clamp(EAGER, LOOK))
    });
    looked.unwrap_or_else(|error| {
        say(&format!("{error:#}"));
        LOOK
    })
}

/// A load balancer that keeps a certificate.
struct Keeper<'k> {
    facts: &'k NodeFacts,
    port: u16,
    tls: &'k TlsFacts,
    acme: &'k Acme,
    place: Store,
    state: Store,
    now: i64,
    /// Only one of this node's processes at a time.
    _lock: File,
}

impl<'k> Keeper<'k> {
    fn of(facts: &'k NodeFacts) -> anyhow::Result<Self> {
        let settings = facts.load_balancer.as_ref();
        let tls = settings.and_then(|settings| settings.tls.as_ref());
        let acme = tls.and_then(|tls| tls.acme.as_ref());
        let (Some(settings), Some(tls), Some(acme)) = (settings, tls, acme) else {
            anyhow::bail!("{} asks for no certificates by ACME", facts.name);
        };
        files::create_private_directory(Path::new(ACME_STATE))
            .with_context(|| format!("creating {ACME_STATE}"))?;
        let lock = File::create(Path::new(ACME_STATE).join("lock"))?;
        flock(&lock, FlockOperation::LockExclusive).context("waiting for another renewal")?;
        Ok(Self {
            facts,
            port: settings.port,
            tls,
            acme,
            place: super::certificates::place(),
            state: Store::at(ACME_STATE),
            now: now()?,
            _lock: lock,
        })
    }

    fn own(&self) -> Option<Bundle> {
        Bundle::read(&self.state.read(ACME_FILE).ok()?).ok()
    }

    /// How long until it is time for another certificate; nothing if it is now.
    fn due_in(&self) -> anyhow::Result<Duration> {
        let key = self.place.acme_key()?;
        let pem = self.state.read(ACME_FILE).unwrap_or_default();
        // A key that was exchanged wants a certificate of its own.
        let is_of_key = String::from_utf8_lossy(&pem).ends_with(&key);
        let own = self.own().filter(|_| is_of_key);
        let seconds = own.map_or(0, |own| own.due_at(&self.tls.names) - self.now);
        Ok(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
    }

    /// Whether the authority's questions come to this node.
    fn is_asked(&self) -> bool {
        vrrp::is_local(self.facts.virtual_ip)
    }

    /// Takes the certificate that the virtual IP shows, if it is one for our key and newer than ours.
    fn follow(&self) -> anyhow::Result<Option<String>> {
        let name = self.tls.names.first().context("there is no name")?;
        if self.is_asked() {
            return Ok(None);
        }
        let Ok(chain) = shown::chain(self.facts.virtual_ip, self.tls.port, name, SHOWS) else {
            return Ok(None);
        };
        let pem = chain + &self.place.acme_key()?;
        let Ok(bundle) = Bundle::read(pem.as_bytes()) else {
            return Ok(None);
        };
        let is_better = self.own().is_none_or(|own| bundle.is_newer(&own));
        if !is_better || bundle.is_self_signed() || !bundle.is_valid(self.now) {
            return Ok(None);
        }
        self.adopt(&pem)?;
        let days = bundle.days_left(self.now);
        Ok(Some(format!(
            "took the certificate that the virtual IP shows, {days} days left"
        )))
    }

    /// Asks the authority for a certificate, and loads it.
    fn renew(&self) -> Result<String, Refusal> {
        let asked = self.ask();
        if let Err(refusal) = &asked {
            // It is told in the log, too.
            let _ = self.state.note_problem(Some(&format!("{:#}", refusal.why)));
        }
        asked
    }

    fn ask(&self) -> Result<String, Refusal> {
        let plain = |why: anyhow::Error| Refusal {
            why,
            wait: None,
            too_often: false,
        };
        let (account, key) = self.keys().map_err(plain)?;
        self.answers(&account).map_err(plain)?;
        let trust = self
            .acme
            .trust
            .as_ref()
            .map(|file| self.place.read(file.as_str()));
        let trust = trust.transpose().map_err(plain)?;
        let wanted = Wanted {
            directory: self.acme.directory.as_str(),
            trust: trust.as_deref(),
            names: &self.tls.names,
        };
        let chain = acme::order(wanted, &account, &key)?;
        let pem = chain.trim_end().to_owned() + "\n" + &key;
        let bundle = Bundle::read(pem.as_bytes()).map_err(|flaws| {
            let said: Vec<&str> = flaws.iter().map(|flaw| flaw.message.as_str()).collect();
            plain(anyhow::anyhow!(
                "what the authority gave is of no use: {}",
                said.join(", ")
            ))
        })?;
        self.adopt(&pem).map_err(plain)?;
        let days = bundle.days_left(self.now);
        Ok(format!(
            "{} gave a certificate, {days} days left",
            self.acme.directory
        ))
    }

    fn keys(&self) -> anyhow::Result<(String, String)> {
        Ok((self.place.acme_account()?, self.place.acme_key()?))
    }

    /// Whether haproxy would give the authority the right answer: a wrong one costs an hour.
    fn answers(&self, account: &str) -> anyhow::Result<()> {
        let expected = format!("probe.{}", acme::thumbprint(account)?);
        let path = "/.well-known/acme-challenge/probe";
        let said = http::get(&http::client(SHOWS), self.facts.virtual_ip, self.port, path)?;
        ensure!(
            said.body.trim() == expected,
            "haproxy does not give an authority the account's answer yet: it was started before the account's key was there; restart it"
        );
        Ok(())
    }

    fn adopt(&self, pem: &str) -> anyhow::Result<()> {
        self.state.put(ACME_FILE, pem.as_bytes())?;
        self.state.note_problem(None)?;
        super::certificates::load(self.facts, None, false).map(drop)
    }
}
