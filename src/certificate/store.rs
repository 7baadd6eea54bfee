//! Where certificates and the keys of session tickets are kept: among the secrets of a stack, of
//! a lab or of a node. Files are replaced as a whole, and only their owner reads them.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::KeyPair;

use super::authority::Authority;
use super::{Bundle, Flaw};
use crate::files;
use crate::secrets::{CERTIFICATES, TICKET_KEYS};
use crate::topology::{ACME_FILE, Acme, CertificateFile};

/// Random bytes of a ticket's key: AES-256 and its HMAC, as haproxy takes them.
const TICKET_BYTES: usize = 80;
/// Keys in a file: one that was, one in use, and one that will be. haproxy encrypts by the last but one.
const TICKET_KEYS_KEPT: usize = 3;
/// The key that an authority knows the stack by; the same on all load balancers.
const ACME_ACCOUNT: &str = "acme-account.key";
/// The key of the certificate that is asked for by ACME; the same on all load balancers.
const ACME_KEY: &str = "acme.key";
/// Why there is no new certificate.
const ACME_PROBLEM: &str = "acme.problem";
/// An authority of a lab's own.
const AUTHORITY: &str = "authority.pem";
/// Its key.
const AUTHORITY_KEY: &str = "authority.key";

/// A directory of secrets, as far as it is about HTTPS.
#[derive(Clone, Debug)]
pub struct Store {
    directory: PathBuf,
}

impl Store {
    /// The store in a directory of secrets.
    pub fn of(secrets: &Path) -> Self {
        Self::at(secrets.join(CERTIFICATES))
    }

    /// The store that a directory is itself.
    pub fn at(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
        }
    }

    /// Where a certificate is.
    pub fn path(&self, file: &str) -> PathBuf {
        self.directory.join(file)
    }

    /// The certificate that visitors of a lab have to trust.
    pub fn authority_path(&self) -> PathBuf {
        self.directory.join(AUTHORITY)
    }

    /// A certificate's file.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn read(&self, file: &str) -> anyhow::Result<Vec<u8>> {
        read(&self.path(file))
    }

    /// Puts a certificate in its place.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn put(&self, file: &str, pem: &[u8]) -> anyhow::Result<()> {
        put(&self.path(file), pem)
    }

    /// Makes the keys of session tickets, unless there are some; whether it had to.
    ///
    /// # Errors
    /// If they can't be written.
    pub fn init_ticket_keys(&self) -> anyhow::Result<bool> {
        let path = self.directory.join(TICKET_KEYS);
        if path.exists() {
            return Ok(false);
        }
        let keys: anyhow::Result<String> = (0..TICKET_KEYS_KEPT).map(|_| ticket_key()).collect();
        put(&path, keys?.as_bytes()).map(|()| true)
    }

    /// Adds a key that will be used next and drops the oldest.
    ///
    /// # Errors
    /// If there are none, or they can't be written.
    pub fn rotate_ticket_keys(&self) -> anyhow::Result<()> {
        let path = self.directory.join(TICKET_KEYS);
        let mut keys = self.ticket_keys()?;
        keys.push(ticket_key()?.trim().to_owned());
        let from = keys.len().saturating_sub(TICKET_KEYS_KEPT);
        put(&path, (keys[from..].join("\n") + "\n").as_bytes())
    }

    /// The keys of session tickets, the oldest first.
    ///
    /// # Errors
    /// If they can't be read.
    pub fn ticket_keys(&self) -> anyhow::Result<Vec<String>> {
        Ok(self
            .text(TICKET_KEYS)?
            .lines()
            .map(str::to_owned)
            .filter(|line| !line.is_empty())
            .collect())
    }

    /// Makes the two keys that ACME needs, unless they are there; whether it had to.
    ///
    /// # Errors
    /// If they can't be written.
    pub fn init_acme_keys(&self) -> anyhow::Result<bool> {
        let mut made = false;
        for path in [ACME_ACCOUNT, ACME_KEY].map(|file| self.directory.join(file)) {
            if !path.exists() {
                let key = KeyPair::generate().context("making a key")?;
                put(&path, key.serialize_pem().as_bytes())?;
                made = true;
            }
        }
        Ok(made)
    }

    /// The key of the ACME account, in PEM.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn acme_account(&self) -> anyhow::Result<String> {
        self.text(ACME_ACCOUNT)
    }

    /// The key that a certificate is asked for by ACME for, in PEM.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn acme_key(&self) -> anyhow::Result<String> {
        self.text(ACME_KEY)
    }

    /// Gives a load balancer what it needs to ask for a certificate: the keys, those of tickets, and the
    /// file with the directory's own authority.
    ///
    /// # Errors
    /// If one is missing, or can't be written.
    pub fn give_acme(&self, acme: &Acme, node: &Self) -> anyhow::Result<()> {
        let files = [ACME_ACCOUNT, ACME_KEY, TICKET_KEYS];
        let trust = acme.trust.as_ref().map(CertificateFile::as_str);
        let read: anyhow::Result<Vec<_>> = files
            .into_iter()
            .chain(trust)
            .map(|file| Ok((file, self.read(file)?)))
            .collect();
        read?
            .into_iter()
            .try_for_each(|(file, bytes)| node.put(file, &bytes))
    }

    /// Keeps why there is no new certificate, for whoever asks how this node does.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn note_problem(&self, problem: Option<&str>) -> anyhow::Result<()> {
        match problem {
            Some(problem) => put(&self.path(ACME_PROBLEM), problem.as_bytes()),
            None => Ok(files::remove(&self.path(ACME_PROBLEM))?),
        }
    }

    /// Why there is no new certificate, if there should be one.
    pub fn problem(&self) -> Option<String> {
        self.text(ACME_PROBLEM).ok()
    }

    fn text(&self, file: &str) -> anyhow::Result<String> {
        String::from_utf8(self.read(file)?).map_err(|_| anyhow!("{file} is not text"))
    }

    /// The authority in it, made if there is none.
    ///
    /// # Errors
    /// If it can't be read or written.
    pub fn authority(&self, name: &str, now: i64) -> anyhow::Result<Authority> {
        let (certificate, key) = (self.authority_path(), self.directory.join(AUTHORITY_KEY));
        if !key.exists() {
            let made = Authority::make(name, now)?;
            put(&certificate, made.certificate.as_bytes())?;
            put(&key, made.key.as_bytes())?;
        }
        Ok(Authority {
            certificate: self.text(AUTHORITY)?,
            key: self.text(AUTHORITY_KEY)?,
        })
    }

    /// Gives a load balancer its part: these certificates and the keys of tickets. All of them
    /// are judged before the first is written.
    ///
    /// # Errors
    /// If one is missing or not fit to be served, or can't be written.
    pub fn give(&self, certificates: &[String], node: &Self, now: i64) -> anyhow::Result<()> {
        let files: anyhow::Result<Vec<_>> = certificates
            .iter()
            .map(|file| Ok((file, self.fit(file, now)?)))
            .collect();
        for (file, pem) in files? {
            node.put(file, &pem)?;
        }
        put(
            &node.directory.join(TICKET_KEYS),
            &read(&self.directory.join(TICKET_KEYS))?,
        )
    }

    /// The days until the first of these certificates expires; none if none can be read.
    pub fn days_left(&self, certificates: &[String], now: i64) -> Option<i64> {
        let read = |file: &String| Bundle::read(&self.read(file).ok()?).ok();
        certificates
            .iter()
            .filter_map(read)
            // haproxy starts with one of its own while an authority is being asked.
            .filter(|bundle| !self.path(ACME_FILE).exists() || !bundle.is_self_signed())
            .map(|bundle| bundle.days_left(now))
            .min()
    }

    /// A certificate that is fit to be served now.
    ///
    /// # Errors
    /// With everything that speaks against it.
    pub fn fit(&self, file: &str, now: i64) -> anyhow::Result<Vec<u8>> {
        let pem = self.read(file)?;
        let flaws = match Bundle::read(&pem) {
            Err(flaws) => flaws,
            Ok(bundle) => bundle
                .flaws(now)
                .into_iter()
                .filter(Flaw::is_error)
                .collect(),
        };
        let Some(flaw) = flaws.first() else {
            return Ok(pem);
        };
        let said: Vec<&str> = flaws.iter().map(|flaw| flaw.message.as_str()).collect();
        Err(anyhow!(
            "{} is not loaded: {} ({}); `gen-topology explain {}` tells more",
            self.path(file).display(),
            said.join(", "),
            flaw.code,
            flaw.code
        ))
    }
}

/// Seconds since 1970, by which certificates are judged.
///
/// # Errors
/// If this machine's clock is before 1970, or far off.
pub fn now() -> anyhow::Result<i64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let since = since.context("the clock is before 1970")?;
    i64::try_from(since.as_secs()).context("the clock is far off")
}

fn ticket_key() -> anyhow::Result<String> {
    let mut random = [0; TICKET_BYTES];
    getrandom::fill(&mut random).map_err(|error| anyhow!("asking for random numbers: {error}"))?;
    Ok(STANDARD.encode(random) + "\n")
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("reading {}", path.display()))
}

fn put(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let directory = path.parent().context("no directory")?;
    files::create_private_directory(directory)
        .and_then(|()| files::replace_private(path, bytes))
        .and_then(|()| give_to_owner(directory, path))
        .with_context(|| format!("writing {}", path.display()))
}

/// A file that root writes belongs to whom its directory belongs to: on a machine that is haproxy, which
/// could not read its certificate at its next start otherwise.
fn give_to_owner(directory: &Path, path: &Path) -> io::Result<()> {
    let (owner, has) = (fs::metadata(directory)?, fs::metadata(path)?);
    let is_theirs = (owner.uid(), owner.gid()) == (has.uid(), has.gid());
    if is_theirs || !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    std::os::unix::fs::chown(path, Some(owner.uid()), Some(owner.gid()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_root_writes_belongs_to_the_owner_of_the_directory() {
        const HAPROXY: u32 = 4711;
        let directory = tempfile::tempdir().expect("a directory");
        let chowned = std::os::unix::fs::chown(directory.path(), Some(HAPROXY), Some(HAPROXY));
        let owner = match chowned {
            Ok(()) => HAPROXY,
            // Nobody but root can give files away, and then there is nothing to give.
            Err(_) => fs::metadata(directory.path()).expect("it").uid(),
        };
        let file = directory.path().join("one.pem");
        for content in ["old", "new"] {
            put(&file, content.as_bytes()).expect("written");
            assert_eq!(
                fs::metadata(&file).expect("a file").uid(),
                owner,
                "{content}"
            );
        }
    }
}
