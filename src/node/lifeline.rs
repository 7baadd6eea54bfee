//! Noticing that haproxy's supervisor is gone, for whatever reason.
//!
//! While it lives it writes the state file itself. Killed together with haproxy (the kernel's
//! out-of-memory killer, `systemctl kill`), it can't, and neither can what its own service would run
//! afterwards. So it holds a lock as long as it lives, which the kernel takes away with the process, and
//! keepalived's supervisor, another service, waits for that lock.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

use crate::config::HAPROXY_STATE;

/// Locked by haproxy's supervisor.
const LIFELINE: &str = "/run/gen-topology/haproxy.alive";

/// Time between two looks for a supervisor that is not there.
const PAUSE: Duration = Duration::from_millis(20);

/// Holds the lifeline for as long as the file stays open. haproxy does not inherit it.
///
/// # Errors
/// If the file can't be made or locked.
pub(super) fn hold() -> anyhow::Result<File> {
    let path = Path::new(LIFELINE);
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)
            .with_context(|| format!("creating {}", directory.display()))?;
    }
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .with_context(|| format!("opening {LIFELINE}"))?;
    file.lock().with_context(|| format!("locking {LIFELINE}"))?;
    Ok(file)
}

/// Whether this process may do what it has to once haproxy's supervisor is gone.
///
/// # Errors
/// If there are files and it may not read the lifeline or write the state.
pub(super) fn may_watch() -> anyhow::Result<()> {
    let lifeline = File::open(LIFELINE).map(drop);
    let state = OpenOptions::new()
        .append(true)
        .open(HAPROXY_STATE)
        .map(drop);
    for (result, doing) in [(lifeline, LIFELINE), (state, HAPROXY_STATE)] {
        match result {
            // haproxy's supervisor makes them when it comes.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            result => result.with_context(|| format!("opening {doing}"))?,
        }
    }
    Ok(())
}

/// Calls `gone` each time the lifeline's holder is found to have ended, until this process ends.
/// Nobody can take the lifeline while `gone` runs.
pub(super) fn watch(mut gone: impl FnMut() + Send + 'static) {
    std::thread::spawn(move || {
        loop {
            if held() && wait_for_the_end(&mut gone).is_some() {
                continue;
            }
            std::thread::sleep(PAUSE);
        }
    });
}

/// Whether some process holds the lifeline now.
fn held() -> bool {
    let Ok(file) = File::open(LIFELINE) else {
        return false;
    };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// Returns once nobody holds the lifeline.
fn wait_for_the_end(gone: &mut impl FnMut()) -> Option<()> {
    let file = File::open(LIFELINE).ok()?;
    file.lock_shared().ok()?;
    gone();
    Some(())
}
