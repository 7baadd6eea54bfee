//! What the watcher has seen and done.

use std::time::{Duration, Instant};

use crate::node::figures;

/// The file.
pub(super) const FILE: &str = "/run/gen-topology/watch-database.prom";
/// Time between two writings of it.
const PAUSE: Duration = Duration::from_secs(1);

/// The figures.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) gone: u64,
    pub(super) false_alarms: u64,
    pub(super) elections_asked: u64,
    pub(super) elections_refused: u64,
    pub(super) sockets_ended: u64,
    written: Option<Instant>,
}

impl Metrics {
    /// Writes the file if it is time to.
    pub(super) fn write(&mut self) {
        if self.written.is_some_and(|at| at.elapsed() < PAUSE) {
            return;
        }
        self.written = Some(Instant::now());
        figures::write(FILE, &self.text());
    }

    fn text(&self) -> String {
        let figures = [
            ("datagrams_sent", "Datagrams sent.", self.sent),
            ("datagrams_received", "Datagrams received.", self.received),
            ("members_gone", "Members found gone.", self.gone),
            (
                "false_alarms",
                "Members said to be gone that answered.",
                self.false_alarms,
            ),
            (
                "elections_asked",
                "Times the own mongod was asked to stand for election.",
                self.elections_asked,
            ),
            (
                "elections_refused",
                "Times it was not elected.",
                self.elections_refused,
            ),
            (
                "sockets_ended",
                "Connections to gone members that were ended.",
                self.sockets_ended,
            ),
        ];
        let mut text = String::new();
        for (name, help, value) in figures {
            let name = format!("gen_topology_watch_{name}_total");
            text += &figures::heading(&name, "counter", help);
            text += &format!("{name} {value}\n");
        }
        text
    }
}
