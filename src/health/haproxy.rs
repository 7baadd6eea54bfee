//! What haproxy says on its runtime socket.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

/// An app server as one haproxy sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerState {
    /// Its name.
    pub name: String,
    /// haproxy's word: `UP`, `DOWN`, `NOLB`, `DRAIN`, `MAINT`, `UP 1/2` …
    pub status: String,
}

/// Sends one command to the runtime socket and returns the answer.
///
/// # Errors
/// If haproxy is not there or does not answer within a second.
pub fn ask(socket: &Path, command: &str) -> anyhow::Result<String> {
    let mut stream = UnixStream::connect(socket)
        .with_context(|| format!("connecting to {}", socket.display()))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(format!("{command}\n").as_bytes())?;
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .with_context(|| format!("asking haproxy `{command}`"))?;
    Ok(answer)
}

/// The servers of a backend.
///
/// # Errors
/// If haproxy is not there or does not answer within a second.
pub fn servers(socket: &Path, backend: &str) -> anyhow::Result<Vec<ServerState>> {
    Ok(parse(&ask(socket, "show stat")?, backend))
}

/// Reads haproxy's statistics: CSV under a header line that begins with `# `.
fn parse(statistics: &str, backend: &str) -> Vec<ServerState> {
    let mut lines = statistics.lines();
    let header: Vec<&str> = lines
        .next()
        .unwrap_or_default()
        .trim_start_matches("# ")
        .split(',')
        .collect();
    let column = |name: &str| header.iter().position(|column| *column == name);
    let (Some(of), Some(name), Some(status)) =
        (column("pxname"), column("svname"), column("status"))
    else {
        return Vec::new();
    };
    lines
        .map(|line| line.split(',').collect::<Vec<_>>())
        .filter(|row| row.get(of) == Some(&backend))
        .filter(|row| !matches!(row.get(name), Some(&"BACKEND" | &"FRONTEND") | None))
        .map(|row| ServerState {
            name: row[name].to_owned(),
            status: row.get(status).copied().unwrap_or_default().to_owned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_statistics() {
        let csv = "# pxname,svname,qcur,status,\nwww,FRONTEND,,OPEN,\napp,app-1,0,UP,\napp,app-2,0,DOWN,\napp,BACKEND,0,UP,\n";
        let servers = parse(csv, "app");
        let state = |name: &str, status: &str| ServerState {
            name: name.into(),
            status: status.into(),
        };
        assert_eq!(servers, [state("app-1", "UP"), state("app-2", "DOWN")]);
        assert_eq!(parse("", "app"), []);
    }
}
