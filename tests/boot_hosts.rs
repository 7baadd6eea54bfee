//! `scripts/boot-hosts`: what it refuses, before it makes anything. What it does is tested by running it.

#![expect(clippy::expect_used, reason = "a test may stop")]

use std::fs::{self, File};
use std::process::{Command, Output};

use gen_topology::exec;

use crate::common::{PROGRAM, REPOSITORY, TestEnvironment, not_run};

/// Where one that runs says so.
const LOCK: &str = "/run/gen-topology-boot.lock";

fn boot_hosts(arguments: &[&str]) -> Output {
    let mut command = Command::new(format!("{REPOSITORY}/scripts/boot-hosts"));
    command.args(arguments).output().expect("the script starts")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn what_keeps_it_from_beginning_is_said_all_at_once() {
    let work = TestEnvironment::new();
    let missing = work.path("program").display().to_string();
    let nowhere = work.path("nowhere").display().to_string();
    let output = boot_hosts(&[&nowhere, "--program", &missing]);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(77), "{text}");
    assert!(
        text.contains(&format!("{nowhere} is no whole checkout of nixpkgs")),
        "{text}"
    );
    assert!(
        text.contains(&format!("{missing} is missing; `cargo build`")),
        "{text}"
    );

    work.write("old/nixos/lib/testing/nodes.nix", "");
    let old = work.path("old").display().to_string();
    let output = boot_hosts(&[&old]);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(77), "{text}");
    assert!(text.contains(&format!("{old} is too old")), "{text}");
}

#[test]
fn two_at_once_would_harm_each_other() {
    for tool in ["mmdebstrap", "unshare", "setpriv", "chroot"] {
        if exec::find(tool).is_none() {
            return not_run(&format!("{tool} is missing, so boot-hosts would not begin"));
        }
    }
    let options = File::options()
        .create(true)
        .append(true)
        .read(true)
        .open(LOCK);
    let Ok(lock) = options else {
        return not_run("boot-hosts takes root");
    };
    // Held by this test, or by one that runs just now: both are refused.
    let ours = lock.try_lock().is_ok();
    let before = fs::read_to_string(LOCK).expect("readable");
    if ours {
        fs::write(LOCK, "process 1, with the cache /nowhere\n").expect("writable");
    }
    let work = TestEnvironment::new();
    work.write("nixpkgs/nixos/lib/testing/nodes.nix", "");
    work.write(
        "nixpkgs/nixos/modules/virtualisation/nspawn-container/x",
        "",
    );
    let nixpkgs = work.path("nixpkgs").display().to_string();
    let cache = work.path("cache");
    let output = boot_hosts(&[
        &nixpkgs,
        "--program",
        PROGRAM,
        "--cache",
        &cache.display().to_string(),
    ]);
    if ours {
        fs::write(LOCK, before).expect("writable");
    }
    let text = said(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(
        text.contains("another boot-hosts runs: process ") && text.contains(", with the cache /"),
        "{text}"
    );
    assert!(!cache.exists(), "it was made before anybody asked");
}
