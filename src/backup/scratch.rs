//! A mongod of our own that a copy is tried in, and that no other program reaches.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use mongodb::bson::doc;

use crate::exec;
use crate::health::mongo::Member;
use crate::wait;

/// A mongod that listens on a socket in a directory that only we can enter.
pub(super) struct Scratch {
    process: Child,
    directory: tempfile::TempDir,
}

impl Scratch {
    /// Starts it, with an empty database.
    pub(super) fn start(mongod: &Path) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir().context("making room for a scratch mongod")?;
        let data = directory.path().join("data");
        fs::create_dir(&data).context("making room for a scratch mongod")?;
        let mut command = Command::new(mongod);
        command
            .arg("--dbpath")
            .arg(&data)
            .arg("--logpath")
            .arg(directory.path().join("log"))
            .arg("--bind_ip")
            .arg(Self::socket(&directory))
            .arg("--unixSocketPrefix")
            .arg(directory.path())
            .args(["--wiredTigerCacheSizeGB", "0.25"])
            // What has expired was copied, and is counted.
            .args(["--setParameter", "ttlMonitorEnabled=false"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = command
            .spawn()
            .with_context(|| format!("starting `{}`", exec::argv(&command)))?;
        Ok(Self { process, directory })
    }

    fn socket(directory: &tempfile::TempDir) -> PathBuf {
        directory.path().join("mongod.sock")
    }

    /// A connection to it, once it answers.
    pub(super) fn member(&self) -> anyhow::Result<Member> {
        let socket = Self::socket(&self.directory);
        let mut found = None;
        wait::until(Duration::from_secs(30), || {
            found = socket
                .exists()
                .then(|| Member::at_socket(&socket).ok())
                .flatten()
                .filter(|member| member.command(doc! { "ping": 1 }).is_ok());
            found.is_some()
        });
        found.context("the scratch mongod does not answer")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
