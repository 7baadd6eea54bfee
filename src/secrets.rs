//! A stack's secrets. The application's own are [`app`]'s, the database's are here: the key that members know each other by, and the users'
//! passwords. They are made once, from the system's random numbers, into a directory
//! that git and Nix never see. Nothing else of this program ever holds one: rendered
//! files name paths below [`DIRECTORY`], and each node gets only what its tier needs.
//!
//! While a secret is exchanged its file holds two, the new one first. Users have a
//! number in their name, so both work, and whoever reads the file late loses nothing.

mod app;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow};

use crate::files;
use crate::health::mongo::{Member, User};
use crate::topology::Tier;

pub use app::{APP, AppSecrets};

/// Where a node finds its secrets.
pub const DIRECTORY: &str = "/run/gen-topology/secrets";

/// Directory of certificates with their keys, below the directory of secrets.
pub const CERTIFICATES: &str = "certificates";
/// The keys that TLS sessions are resumed by, beside the certificates.
pub const TICKET_KEYS: &str = "ticket-keys";

/// Random bytes of the members' key; written in hexadecimal, which is half of the
/// 1024 characters that mongod takes at most.
const KEY_BYTES: usize = 256;
/// Random bytes of a password.
const PASSWORD_BYTES: usize = 32;

/// What is kept secret, each in a file of this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The key that members of the replica set know each other by.
    DatabaseKey,
    /// User of the application: reads and writes its own database.
    Application,
    /// User that sees the state of the replica set.
    Monitoring,
    /// User that changes members and users, but reads no data.
    Administration,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 4] = [
        Kind::DatabaseKey,
        Kind::Application,
        Kind::Monitoring,
        Kind::Administration,
    ];
    /// Those that are users with passwords, in the order in which they are made: the
    /// first one ends mongod's exception for local connections, and makes the others.
    pub const USERS: [Kind; 3] = [Kind::Administration, Kind::Application, Kind::Monitoring];

    /// The file's name.
    pub fn file(self) -> &'static str {
        match self {
            Kind::DatabaseKey => "database-key",
            Kind::Application => "application",
            Kind::Monitoring => "monitoring",
            Kind::Administration => "administration",
        }
    }

    /// What it is for, for people.
    pub fn purpose(self) -> &'static str {
        match self {
            Kind::DatabaseKey => "members of the replica set know each other by it",
            Kind::Application => "the application reads and writes its database",
            Kind::Monitoring => "`status` and `lab status` see the replica set's state",
            Kind::Administration => "`node reconcile-database` changes members and users",
        }
    }

    /// What nodes of a tier have to know. A node that runs mongos, the router of a sharded
    /// stack, is known to the databases by their key.
    pub fn of(tier: Tier, access: Access) -> &'static [Kind] {
        match (tier, access) {
            (Tier::LoadBalancer, _) | (Tier::App, Access::None) => &[],
            (Tier::App, Access::Router) => &[Kind::DatabaseKey, Kind::Application],
            (Tier::App, Access::Direct) => &[Kind::Application],
            (Tier::Database, _) => &Self::ALL,
        }
    }
}

/// How an app server reaches the databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Not at all: the stack has none.
    None,
    /// The application asks them itself.
    Direct,
    /// Through a mongos of its own.
    Router,
}

/// What can be exchanged for new ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Rotation {
    /// The key between members.
    Key,
    /// The users' passwords.
    Passwords,
}

impl Rotation {
    /// The secrets that it exchanges.
    pub fn kinds(self) -> &'static [Kind] {
        match self {
            Rotation::Key => &[Kind::DatabaseKey],
            Rotation::Passwords => &Kind::USERS,
        }
    }
}

/// A text that never shows itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text, for whoever has to send it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A user and its password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// Name of the user.
    pub user: String,
    /// Its password.
    pub password: Secret,
}

impl Login {
    /// The same, as the database knows it.
    pub fn as_user(&self) -> User<'_> {
        User::of_stack(&self.user, self.password.reveal())
    }

    /// The number behind the name; 0 for a name of one's own.
    pub fn number(&self) -> u32 {
        number_of(&self.user).unwrap_or(0)
    }
}

/// A directory of secrets: that of a stack, of a lab, or of a node.
#[derive(Clone, Debug)]
pub struct Secrets {
    directory: PathBuf,
}

impl Secrets {
    /// The secrets in `directory`, whether it exists or not.
    pub fn at(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
        }
    }

    /// The secrets of a stack's machines: beside its topology file, where git does not look.
    pub fn of_stack(topology: &Path) -> Self {
        Self::at(topology.with_file_name(".gen-topology").join("secrets"))
    }

    /// Where they are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Makes what is missing and leaves what is there; says what was made.
    ///
    /// # Errors
    /// If the directory can't be written.
    pub fn init(&self) -> anyhow::Result<Vec<Kind>> {
        self.make_ignored_directory()?;
        let missing: Vec<Kind> = Kind::ALL
            .into_iter()
            .filter(|kind| !self.path(*kind).exists())
            .collect();
        for kind in &missing {
            let text = text_of(*kind, &[random(*kind, 1)?]);
            // Whoever was faster has made it.
            if let Err(error) = files::create_private(&self.path(*kind), text.as_bytes())
                && error.kind() != io::ErrorKind::AlreadyExists
            {
                return Err(error)
                    .with_context(|| format!("writing {}", self.path(*kind).display()));
            }
        }
        Ok(missing)
    }

    /// How many secrets a file holds: none when it is missing, two while they are exchanged.
    ///
    /// # Errors
    /// If the file can't be read or holds something else.
    pub fn count(&self, kind: Kind) -> anyhow::Result<usize> {
        if self.path(kind).exists() {
            Ok(self.entries(kind)?.len())
        } else {
            Ok(0)
        }
    }

    /// Whether new secrets are there and old ones still valid.
    ///
    /// # Errors
    /// If a file is missing or holds something else.
    pub fn is_rotating(&self, rotation: Rotation) -> anyhow::Result<bool> {
        let mut kinds = rotation.kinds().iter();
        kinds.try_fold(true, |all, kind| Ok(all && self.entries(*kind)?.len() > 1))
    }

    /// Puts a new secret before each old one. What was begun already is left as it is, so
    /// that it can be run again after it was interrupted.
    ///
    /// # Errors
    /// If a file is missing or can't be written.
    pub fn begin(&self, rotation: Rotation) -> anyhow::Result<()> {
        for kind in rotation.kinds() {
            let entries = self.entries(*kind)?;
            let [old] = entries.as_slice() else { continue };
            let number = old.user.as_deref().and_then(number_of).unwrap_or(1) + 1;
            self.replace(*kind, &[random(*kind, number)?, old.clone()])?;
        }
        Ok(())
    }

    /// Removes the old secrets.
    ///
    /// # Errors
    /// If a file is missing or can't be written.
    pub fn finish(&self, rotation: Rotation) -> anyhow::Result<()> {
        for kind in rotation.kinds() {
            let mut entries = self.entries(*kind)?;
            entries.truncate(1);
            self.replace(*kind, &entries)?;
        }
        Ok(())
    }

    /// The users of a file, the newest first.
    ///
    /// # Errors
    /// If the file can't be read or a line is not `user:password`.
    pub fn logins(&self, kind: Kind) -> anyhow::Result<Vec<Login>> {
        let entries = self.entries(kind)?;
        let login = |entry: Entry| {
            Some(Login {
                user: entry.user?,
                password: entry.secret,
            })
        };
        Ok(entries.into_iter().filter_map(login).collect())
    }

    /// A connection to the mongod or mongos at `host` as the user of a kind, with the newest
    /// password that it takes; none if it takes none.
    ///
    /// # Errors
    /// If the file can't be read, or nobody answers; connections are accepted within `patience`.
    pub fn log_in(
        &self,
        kind: Kind,
        host: &str,
        patience: Duration,
    ) -> anyhow::Result<Option<Member>> {
        let logins = self.logins(kind)?;
        Member::login_as_any(host, patience, logins.iter().map(Login::as_user))
    }

    /// A connection to the mongod at `host` as another member of its set, which may do
    /// everything; none if it takes none of the keys.
    ///
    /// # Errors
    /// If the file can't be read, or nothing answers; connections are accepted within `patience`.
    pub fn log_in_as_member(
        &self,
        host: &str,
        patience: Duration,
    ) -> anyhow::Result<Option<Member>> {
        let keys = self.keys()?;
        let users = keys.iter().map(|key| User::member(key.reveal()));
        Member::login_as_any(host, patience, users)
    }

    /// The keys that members know each other by, the newest first.
    ///
    /// # Errors
    /// If the file can't be read or is empty.
    pub fn keys(&self) -> anyhow::Result<Vec<Secret>> {
        let entries = self.entries(Kind::DatabaseKey)?;
        Ok(entries.into_iter().map(|entry| entry.secret).collect())
    }

    /// Gives a node its part: the files of these kinds, and no others.
    ///
    /// # Errors
    /// If one is missing, or can't be written.
    pub fn give(&self, kinds: &[Kind], node: &Self) -> anyhow::Result<()> {
        node.make_directory()?;
        for kind in Kind::ALL {
            let target = node.path(kind);
            if !kinds.contains(&kind) {
                if target.exists() {
                    fs::remove_file(&target)
                        .with_context(|| format!("removing {}", target.display()))?;
                }
                continue;
            }
            let text = self.read(kind)?;
            if node.read(kind).is_ok_and(|old| old == text) {
                continue;
            }
            files::replace_private(&target, text.as_bytes())
                .with_context(|| format!("writing {}", target.display()))?;
        }
        Ok(())
    }

    fn path(&self, kind: Kind) -> PathBuf {
        self.directory.join(kind.file())
    }

    /// With a file that keeps git from looking.
    fn make_ignored_directory(&self) -> anyhow::Result<()> {
        self.make_directory()?;
        let ignore = self.directory.join(".gitignore");
        fs::write(&ignore, "*\n").with_context(|| format!("writing {}", ignore.display()))
    }

    fn make_directory(&self) -> anyhow::Result<()> {
        let directory = &self.directory;
        files::create_private_directory(directory)
            .and_then(|()| fs::set_permissions(directory, fs::Permissions::from_mode(0o700)))
            .with_context(|| format!("creating {}", directory.display()))
    }

    fn read(&self, kind: Kind) -> anyhow::Result<String> {
        let path = self.path(kind);
        fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    }

    fn entries(&self, kind: Kind) -> anyhow::Result<Vec<Entry>> {
        let entries = parse(kind, &self.read(kind)?);
        // The text itself must not become part of a message.
        entries.map_err(|why| anyhow!("{}: {why}", self.path(kind).display()))
    }

    fn replace(&self, kind: Kind, entries: &[Entry]) -> anyhow::Result<()> {
        let path = self.path(kind);
        files::replace_private(&path, text_of(kind, entries).as_bytes())
            .with_context(|| format!("writing {}", path.display()))
    }
}

/// One secret of a file; keys have no user.
#[derive(Clone)]
struct Entry {
    user: Option<String>,
    secret: Secret,
}

fn random(kind: Kind, number: u32) -> anyhow::Result<Entry> {
    let (user, bytes) = match kind {
        Kind::DatabaseKey => (None, KEY_BYTES),
        _ => (Some(format!("{}-{number}", kind.file())), PASSWORD_BYTES),
    };
    let mut random = vec![0; bytes];
    getrandom::fill(&mut random).map_err(|error| anyhow!("asking for random numbers: {error}"))?;
    Ok(Entry {
        user,
        secret: Secret(hex::encode(random)),
    })
}

/// The number behind a user's name, as in `application-2`; names of one's own have none.
pub fn number_of(user: &str) -> Option<u32> {
    user.rsplit_once('-')?.1.parse().ok()
}

/// A key file is a YAML list, as mongod wants it when there is more than one key; the
/// others have a line for each user.
fn text_of(kind: Kind, entries: &[Entry]) -> String {
    let line = |entry: &Entry| match (&entry.user, kind) {
        (Some(user), _) => format!("{user}:{}\n", entry.secret.reveal()),
        (None, _) => format!("- {}\n", entry.secret.reveal()),
    };
    entries.iter().map(line).collect()
}

fn parse(kind: Kind, text: &str) -> Result<Vec<Entry>, String> {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    if lines.is_empty() {
        return Err("it is empty".into());
    }
    if kind != Kind::DatabaseKey {
        return lines
            .iter()
            .enumerate()
            .map(|(index, line)| match line.split_once(':') {
                Some((user, password)) if !user.is_empty() && !password.is_empty() => Ok(Entry {
                    user: Some(user.to_owned()),
                    secret: Secret(password.to_owned()),
                }),
                _ => Err(format!("line {} is not `user:password`", index + 1)),
            })
            .collect();
    }
    let key = |text: String| Entry {
        user: None,
        secret: Secret(text),
    };
    if lines.iter().all(|line| line.starts_with("- ")) {
        return Ok(lines
            .iter()
            .map(|line| key(line[2..].trim().to_owned()))
            .collect());
    }
    // One key as `openssl rand -base64 756` writes it, on several lines.
    Ok(vec![key(lines.concat())])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets() -> (tempfile::TempDir, Secrets) {
        let directory = tempfile::tempdir().unwrap();
        let secrets = Secrets::at(directory.path().join("secrets"));
        (directory, secrets)
    }

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn are_made_once_and_only_the_owner_reads_them() {
        let (_guard, secrets) = secrets();
        assert_eq!(secrets.init().unwrap(), Kind::ALL);
        let before = secrets.read(Kind::Application).unwrap();
        assert_eq!(secrets.init().unwrap(), []);
        assert_eq!(secrets.read(Kind::Application).unwrap(), before);
        assert_eq!(mode(secrets.directory()), 0o700);
        let ignored = fs::read_to_string(secrets.directory().join(".gitignore")).unwrap();
        assert_eq!(ignored, "*\n");
        for kind in Kind::ALL {
            assert_eq!(mode(&secrets.path(kind)), 0o600, "{kind:?}");
        }
        let login = &secrets.logins(Kind::Application).unwrap()[0];
        assert_eq!(login.user, "application-1");
        assert_eq!(login.password.reveal().len(), 2 * PASSWORD_BYTES);
        let keys = secrets.keys().unwrap();
        assert_eq!(keys.len(), 1);
        assert_eq!(keys[0].reveal().len(), 2 * KEY_BYTES);
    }

    #[test]
    fn what_is_missing_alone_is_made() {
        let (_guard, secrets) = secrets();
        secrets.init().unwrap();
        let key = secrets.read(Kind::DatabaseKey).unwrap();
        fs::remove_file(secrets.path(Kind::Monitoring)).unwrap();
        assert_eq!(secrets.init().unwrap(), [Kind::Monitoring]);
        assert_eq!(secrets.read(Kind::DatabaseKey).unwrap(), key);
    }

    #[test]
    fn rotation_keeps_the_old_one_until_it_is_finished() {
        let (_guard, secrets) = secrets();
        secrets.init().unwrap();
        for rotation in [Rotation::Key, Rotation::Passwords] {
            for kind in rotation.kinds() {
                let old = secrets.entries(*kind).unwrap();
                secrets.begin(rotation).unwrap();
                assert!(secrets.is_rotating(rotation).unwrap());
                let both = secrets.entries(*kind).unwrap();
                secrets.begin(rotation).unwrap();
                assert!(
                    secrets.entries(*kind).unwrap()[0].secret == both[0].secret,
                    "begun once"
                );
                assert_eq!(both.len(), 2, "{kind:?}");
                assert!(both[1].secret == old[0].secret && both[0].secret != old[0].secret);
                secrets.finish(rotation).unwrap();
                let new = secrets.entries(*kind).unwrap();
                assert!(new.len() == 1 && new[0].secret == both[0].secret);
                assert!(!secrets.is_rotating(rotation).unwrap());
            }
        }
        let monitoring = secrets.logins(Kind::Monitoring).unwrap();
        assert_eq!(monitoring[0].user, "monitoring-4");
    }

    #[test]
    fn a_node_gets_what_its_tier_needs() {
        let (guard, secrets) = secrets();
        secrets.init().unwrap();
        let node = Secrets::at(guard.path().join("node"));
        secrets
            .give(Kind::of(Tier::Database, Access::Direct), &node)
            .unwrap();
        assert_eq!(fs::read_dir(node.directory()).unwrap().count(), 4);
        secrets
            .give(Kind::of(Tier::App, Access::Direct), &node)
            .unwrap();
        let left: Vec<_> = fs::read_dir(node.directory()).unwrap().flatten().collect();
        assert!(left.len() == 1 && left[0].file_name() == "application");
        secrets
            .give(Kind::of(Tier::LoadBalancer, Access::Direct), &node)
            .unwrap();
        assert_eq!(fs::read_dir(node.directory()).unwrap().count(), 0);
    }

    #[test]
    fn neither_messages_nor_debug_output_show_a_secret() {
        let (_guard, secrets) = secrets();
        secrets.init().unwrap();
        let login = &secrets.logins(Kind::Application).unwrap()[0];
        assert!(!format!("{login:?}").contains(login.password.reveal()));
        fs::write(secrets.path(Kind::Application), "only-a-password\n").unwrap();
        let error = secrets.logins(Kind::Application).unwrap_err();
        let said = format!("{error:#}");
        assert!(said.contains("line 1 is not `user:password`"), "{said}");
        assert!(!said.contains("only-a-password"), "{said}");
    }

    #[test]
    fn a_key_of_ones_own_may_have_several_lines() {
        let (_guard, secrets) = secrets();
        secrets.init().unwrap();
        fs::write(secrets.path(Kind::DatabaseKey), "abcd\nefgh==\n").unwrap();
        assert_eq!(secrets.keys().unwrap()[0].reveal(), "abcdefgh==");
    }
}
