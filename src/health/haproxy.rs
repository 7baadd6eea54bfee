//! What haproxy says on its runtime socket.

use std::collections::HashSet;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// An app server as one haproxy sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerState {
    /// The backend that it is in.
    pub backend: String,
    /// Its name.
    pub name: String,
    /// haproxy's word: `UP`, `DOWN`, `NOLB`, `DRAIN`, `MAINT`, `UP 1/2` …
    pub status: String,
    /// Whether its health was asked since haproxy was started or reloaded; until then it counts as up.
    pub checked: bool,
    /// Requests that it works on.
    pub sessions: u64,
    /// Answers that it gave.
    pub answers: u64,
    /// Those of them that say that it failed: 500 to 599.
    pub errors: u64,
}

impl ServerState {
    /// Whether it is used, and rightly so.
    pub fn is_up(&self) -> bool {
        self.checked && self.status == "UP"
    }
}

/// Sends one command to the runtime socket and returns the answer.
///
/// # Errors
/// If haproxy is not there or does not answer within three seconds.
pub fn ask(socket: &Path, command: &str) -> anyhow::Result<String> {
    let mut stream = UnixStream::connect(socket)
        .with_context(|| format!("connecting to {}", socket.display()))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("{command}\n").as_bytes())?;
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .with_context(|| format!("asking haproxy `{command}`"))?;
    Ok(answer)
}

/// Like [`ask`], for commands that hold a secret: no message repeats them.
///
/// # Errors
/// If haproxy is not there or does not answer within three seconds.
pub fn ask_in_confidence(socket: &Path, command: &str) -> anyhow::Result<String> {
    let mut words = command.split_whitespace().take(3);
    let what: Vec<&str> = words.by_ref().collect();
    ask(socket, command).map_err(|error| {
        let cause = error.root_cause().to_string();
        anyhow::anyhow!("asking haproxy `{} …`: {cause}", what.join(" "))
    })
}

/// The servers of each backend in which they are checked.
///
/// # Errors
/// If haproxy is not there or does not answer within three seconds.
pub fn servers(socket: &Path) -> anyhow::Result<Vec<ServerState>> {
    Ok(parse(&ask(socket, "show stat")?, is_checked))
}

/// Whether servers are checked in a backend: `app`, and `app.NAME` of a further application.
pub fn is_checked(backend: &str) -> bool {
    backend == "app" || backend.starts_with("app.")
}

/// Whether a backend gives requests to app servers: those of one application are `app`, `app_unsafe` and `app_any`,
/// with `.NAME` behind them for a further one.
pub fn is_of_app(backend: &str) -> bool {
    let kind = backend.split('.').next();
    matches!(kind, Some("app" | "app_unsafe" | "app_any"))
}

impl ServerState {
    /// The backend with the same server for what may not be repeated.
    pub fn twin(&self) -> String {
        self.backend.replacen("app", "app_unsafe", 1)
    }

    /// The further application that it is a server of; none: `app`.
    pub fn app(&self) -> Option<&str> {
        self.backend.split_once('.').map(|(_, app)| app)
    }

    /// What people call it: the node, and in a further application's backend that, too.
    pub fn label(&self) -> String {
        match self.app() {
            Some(app) => format!("{app} of {}", self.name),
            None => self.name.clone(),
        }
    }
}

/// Reads haproxy's statistics, the answer to `show stat`: CSV under a header line that begins with `# `. The
/// servers of each backend that is `wanted`.
pub fn parse(statistics: &str, wanted: impl Fn(&str) -> bool) -> Vec<ServerState> {
    let mut lines = statistics.lines();
    let header: Vec<&str> = lines
        .next()
        .unwrap_or_default()
        .trim_start_matches("# ")
        .split(',')
        .collect();
    let column = |name: &str| header.iter().position(|column| *column == name);
    let (Some(of), Some(name)) = (column("pxname"), column("svname")) else {
        return Vec::new();
    };
    let [status, check, sessions] = ["status", "check_status", "scur"].map(column);
    let answers = [
        "hrsp_1xx",
        "hrsp_2xx",
        "hrsp_3xx",
        "hrsp_4xx",
        "hrsp_5xx",
        "hrsp_other",
    ];
    let answers = answers.map(column);
    let text = |row: &[&str], at: Option<usize>| {
        at.and_then(|at| row.get(at))
            .copied()
            .unwrap_or_default()
            .to_owned()
    };
    let number = |row: &[&str], at| text(row, at).parse().unwrap_or(0_u64);
    lines
        .map(|line| line.split(',').collect::<Vec<_>>())
        .filter(|row| row.get(of).is_some_and(|backend| wanted(backend)))
        .filter(|row| !matches!(row.get(name), Some(&"BACKEND" | &"FRONTEND") | None))
        .map(|row| ServerState {
            backend: row[of].to_owned(),
            name: row[name].to_owned(),
            status: text(&row, status),
            // INI: not asked yet. Nothing: the server follows another one's health.
            checked: text(&row, check) != "INI",
            sessions: number(&row, sessions),
            answers: answers.iter().map(|at| number(&row, *at)).sum(),
            errors: number(&row, answers[4]),
        })
        .collect()
}

/// What haproxy reads of its servers when nothing is known: the first line of such a file, its version.
pub const NO_SERVERS: &str = "1\n";

/// Those of `all`, the answer to `show servers state`, that checks have found to be gone or draining, for
/// haproxy to read when it starts with `configuration`.
///
/// Left out is who was put aside by hand, which a reload has always ended, and who has another
/// address in `configuration`: nothing is known of that one.
pub fn gone(all: &str, configuration: &str) -> String {
    let mut lines = all.lines();
    let (Some(version), Some(header)) = (lines.next(), lines.next()) else {
        return NO_SERVERS.to_owned();
    };
    let columns: Vec<&str> = header.trim_start_matches("# ").split(' ').collect();
    let at = |name: &str| columns.iter().position(|column| *column == name);
    let names = [
        "be_name",
        "srv_name",
        "srv_addr",
        "srv_port",
        "srv_op_state",
        "srv_admin_state",
    ];
    let places = names.map(at);
    let configured: HashSet<(&str, &str)> = configuration.lines().filter_map(server).collect();
    let is_gone = |line: &&str| {
        let row: Vec<&str> = line.split(' ').collect();
        let values = places.map(|place| place.and_then(|place| row.get(place)).copied());
        let [
            Some(backend),
            Some(name),
            Some(address),
            Some(port),
            Some(state),
            Some(admin),
        ] = values
        else {
            return false;
        };
        let server = format!("{address}:{port}");
        let is_configured = configured.contains(&(name, server.as_str()));
        // 0: down, 3: draining. By hand it would say so in the other number.
        is_checked(backend) && matches!(state, "0" | "3") && admin == "0" && is_configured
    };
    let gone = lines.filter(is_gone);
    let all: Vec<&str> = [version, header].into_iter().chain(gone).collect();
    all.join("\n") + "\n"
}

/// Name and address of a configuration's line, if it is a server's.
fn server(line: &str) -> Option<(&str, &str)> {
    let mut words = line.split_whitespace();
    (words.next()? == "server").then_some((words.next()?, words.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_statistics() {
        let csv = "# pxname,svname,scur,status,hrsp_2xx,hrsp_5xx,check_status,\nwww,FRONTEND,9,OPEN,,,,\n\
                   app,app-1,2,UP,40,1,L7OK,\napp,app-2,0,UP,0,0,INI,\napp,app-3,0,DOWN,0,0,L4CON,\n\
                   app,BACKEND,0,UP,40,1,,\n";
        let servers = parse(csv, is_checked);
        let names: Vec<&str> = servers.iter().map(|server| server.name.as_str()).collect();
        assert_eq!(names, ["app-1", "app-2", "app-3"]);
        let [first, second, third] = servers.as_slice() else {
            unreachable!("three servers");
        };
        assert_eq!((first.sessions, first.answers, first.errors), (2, 41, 1));
        assert!(first.is_up());
        assert!(!second.is_up(), "nobody has asked it yet");
        assert!(!third.is_up() && third.checked);
        assert_eq!(parse("", is_checked), []);

        let csv = "# pxname,svname,status\napp.shop,app-1,UP\napp_unsafe.shop,app-1,UP\napp,app-1,UP\nwww,app-1,UP\n";
        let labels = |servers: Vec<ServerState>| -> Vec<String> {
            servers.iter().map(ServerState::label).collect()
        };
        assert_eq!(labels(parse(csv, is_checked)), ["shop of app-1", "app-1"]);
        assert_eq!(parse(csv, is_of_app).len(), 3);
        assert_eq!(parse(csv, is_checked)[0].twin(), "app_unsafe.shop");
    }

    #[test]
    fn keeps_what_checks_have_found_out_and_nothing_else() {
        let all = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_port\n\
                   3 app 1 up 10.0.0.1 2 0 80\n3 app 2 down 10.0.0.2 0 0 80\n3 app 3 moved 10.0.0.3 0 0 80\n\
                   3 app 4 port 10.0.0.4 0 0 80\n3 app 5 by-hand 10.0.0.5 0 1 80\n3 app 6 drains 10.0.0.6 3 0 80\n\
                   3 app 7 removed 10.0.0.7 0 0 80\n4 app_unsafe 2 down 10.0.0.2 0 0 80\n\
                   5 app.shop 2 down 10.0.0.2 0 0 80\n\n";
        let configuration = "backend app\n server up 10.0.0.1:80\n server down 10.0.0.2:80 check\n\
                             server moved 10.0.1.3:80\n server port 10.0.0.4:81\n server by-hand 10.0.0.5:80\n\
                             server drains 10.0.0.6:80\n";
        let kept = gone(all, configuration);
        let names: Vec<&str> = kept
            .lines()
            .skip(2)
            .map(|line| line.split(' ').nth(3).unwrap_or(""))
            .collect();
        assert_eq!(names, ["down", "drains", "down"]);
        assert!(
            kept.starts_with("1\n# be_id ") && kept.ends_with("80\n"),
            "{kept}"
        );
        assert_eq!(gone("", configuration), NO_SERVERS);
    }
}
