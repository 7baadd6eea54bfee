//! What supervisord of a node is asked for by its own protocol, where `supervisorctl` would wait too long:
//! supervisord looks at its programs once a second, and each time somebody asks it something.

use anyhow::Context as _;

use super::NodePlan;
use super::run::Lab;
use crate::config::place;
use crate::exec;

/// Where every script begins: `daemon` is supervisord.
const ASK: &str = "import socket, sys, time, xmlrpc.client
from supervisor.xmlrpc import SupervisorTransport
transport = SupervisorTransport(None, None, 'unix:///run/supervisor/supervisor.sock')
daemon = xmlrpc.client.ServerProxy('http://localhost', transport=transport).supervisor
";

/// Stops programs, and does not wait for one before the next.
const STOP_TOGETHER: &str = "for program in sys.argv[1:]:
    daemon.stopProcess(program, False)
";

/// Stops a program and starts it again, until it listens at its socket. supervisord keeps to `stopwaitsecs`, and ends it
/// by force after that. Each question makes supervisord look whether it has ended.
const RESTART: &str = "program, path = sys.argv[1:]
def state():
    time.sleep(0.02)
    return daemon.getProcessInfo(program)['statename']
if state() in ('RUNNING', 'STARTING', 'BACKOFF'):
    daemon.stopProcess(program, False)
while state() == 'STOPPING':
    pass
daemon.startProcess(program, False)
end = time.monotonic() + 10
while time.monotonic() < end:
    try:
        socket.socket(socket.AF_UNIX).connect(path)
        break
    except OSError:
        now = state()
        if now not in ('STARTING', 'RUNNING'):
            sys.exit(f'{program} ended before it listened: {now}')
";

impl Lab {
    /// Stops programs of a node together.
    ///
    /// # Errors
    /// If the node is not running, or supervisord refuses.
    pub fn stop_together(&self, name: &str, programs: &[&str]) -> anyhow::Result<()> {
        if self.ask_supervisor(name, STOP_TOGETHER, programs)? {
            return Ok(());
        }
        let stop = |program: &&str| self.supervise(name, &["stop", program]).map(drop);
        exec::in_parallel(programs, programs.len(), stop)
            .into_iter()
            .collect()
    }

    /// Restarts one of an app server's instances, and returns when it listens or 10 s are over.
    ///
    /// # Errors
    /// If the node is not running, or the instance ends before it listens.
    pub(super) fn restart_instance(&self, name: &str, instance: &str) -> anyhow::Result<()> {
        if !self.ask_supervisor(name, RESTART, &[instance, &place::socket(instance)])? {
            self.supervise(name, &["restart", instance])?;
            self.wait_for_instance(name, instance);
        }
        Ok(())
    }

    /// Runs a script with supervisord's own Python; whether that is known.
    fn ask_supervisor(&self, name: &str, script: &str, words: &[&str]) -> anyhow::Result<bool> {
        let Some(python) = python_of(self.planned(name)?) else {
            return Ok(false);
        };
        let script = format!("{ASK}{script}");
        let mut argv = vec![python.as_str(), "-c", &script];
        argv.extend(words);
        self.run_in(name, &argv)
            .with_context(|| format!("asking supervisord of {name}"))?;
        Ok(true)
    }
}

/// The Python that supervisord's script names as its own; it has supervisord's modules.
fn python_of(node: &NodePlan) -> Option<String> {
    let text = std::fs::read_to_string(node.init.first()?).ok()?;
    let python = text.lines().next()?.strip_prefix("#!")?.trim();
    let is_python = python.contains("python") && !python.contains(' ');
    is_python.then(|| python.to_owned())
}
