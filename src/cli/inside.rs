//! `lab inside`: a [`Request`] carried out in the lab's namespaces.

use std::io::{IsTerminal as _, Read as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde::Serialize;

use super::args::Format;
use super::lab_way::unusable;
use super::node::copied;
use super::request::Request;
use super::status::{self, Stack};
use super::ui::{Tone, Ui, paint, table};
use super::{apply, demo, faults_run, interrupts, lab_watch, load};
use crate::failure::{Failure, Outcome};
use crate::lab::site::LabSite;
use crate::lab::{Event, Lab, LabPlan, Place};
use crate::node::app::loads;
use crate::sink::Sink as _;
use crate::site;
use crate::topology::{Selector, Tier};

/// How long the first answer may take.
const PATIENCE: Duration = Duration::from_secs(90);

/// How long the application may take before it is asked what is wrong with it.
const SUSPICION: Duration = Duration::from_secs(4);

/// `lab inside`.
pub(super) fn run(directory: &Path, request: &str, ui: &mut Ui) -> Outcome {
    let request: Request = serde_json::from_str(request).context("reading the request")?;
    let name = directory
        .file_name()
        .and_then(|name| name.to_str())
        .context("the lab has no name")?;
    let place = Place {
        name: name.to_owned(),
        directory: directory.to_path_buf(),
    };
    match request {
        Request::Up { wait, spent_ms } => up(&place, wait, Duration::from_millis(spent_ms), ui),
        Request::Status { json } => show_status(&Lab::open(&place)?, json, ui),
        Request::Ps { nodes, json } => ps(&Lab::open(&place)?, &nodes, json, ui),
        Request::Exec { node, argv } => {
            let mut command = Lab::open(&place)?.command(&node, &argv)?;
            Err(command.exec().into())
        }
        Request::Stop { nodes, power_off } => {
            let lab = Lab::open(&place)?;
            each(
                &lab,
                &nodes,
                ui,
                if power_off { "powered off" } else { "stopped" },
                |name| {
                    if power_off {
                        lab.power_off(name)
                    } else {
                        lab.stop(name)
                    }
                },
            )
        }
        Request::Start { nodes } => start(&Lab::open(&place)?, &nodes, ui),
        Request::Reboot { nodes } => {
            let lab = Lab::open(&place)?;
            for name in &chosen(&lab, &nodes)? {
                lab.stop(name)?;
                start(&lab, std::slice::from_ref(name), ui)?;
            }
            Ok(())
        }
        Request::Connect { nodes, connected } => {
            let lab = Lab::open(&place)?;
            each(
                &lab,
                &nodes,
                ui,
                if connected { "connected" } else { "cut off" },
                |name| lab.connect(name, connected),
            )
        }
        Request::Backup { directory } => {
            let (manifest, from) = Lab::open(&place)?.back_up(&directory)?;
            let what = copied(&manifest, &directory);
            ui.say(&format!(
                "{what}, from {from}; put back into a scratch mongod and counted"
            ));
            Ok(())
        }
        Request::Restore {
            directory,
            overwrite,
        } => {
            let manifest = Lab::open(&place)?.put_back(&directory, overwrite)?;
            ui.say(&format!("put back {} documents", manifest.documents()));
            Ok(())
        }
        Request::Rotate { what } => Ok(Lab::open(&place)?.rotate(what, &mut |line| ui.say(line))?),
        Request::Renew => Ok(Lab::open(&place)?.renew(&mut |line| ui.say(line))?),
        Request::Apply(order) => apply::inside(&place, &order, ui),
        Request::Reload(apps) => lab_watch::inside(&place, &apps, ui),
        Request::Load { rate, requests } => load::inside(&Lab::open(&place)?, rate, requests, ui),
        Request::Forward => forward(&Lab::open(&place)?),
        Request::Look => demo::look(&Lab::open(&place)?, ui),
        Request::Faults(order) => faults_run::inside(&place, &order, ui),
        Request::UndoFaults => faults_run::undo(&place, ui),
    }
}

fn up(place: &Place, wait: bool, spent: Duration, ui: &mut Ui) -> Outcome {
    let begun = Instant::now();
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .context("reading the plan")?;
    let plan: LabPlan = serde_json::from_str(&text).context("reading the plan")?;
    let lab = Lab::with(place, plan)?;
    let flag = interrupts::inside()?;
    let interrupted = || flag.load(Ordering::SeqCst);
    let mut progress = Progress::new(lab.plan().nodes.len());
    // The first answer may come before the last node is started.
    let (given_up, answered) = (&AtomicBool::new(false), &AtomicBool::new(false));
    let (started, waited, took, broken) = std::thread::scope(|scope| {
        let stop = || flag.load(Ordering::SeqCst) || given_up.load(Ordering::SeqCst);
        let lab = &lab;
        let waiting = scope.spawn(move || {
            let waited = match lab.plan().tier(Tier::LoadBalancer).next() {
                Some(_) => lab.wait_for_answer(PATIENCE, &stop),
                None => lab.wait_for_databases(PATIENCE, &stop),
            };
            answered.store(true, Ordering::SeqCst);
            (waited, spent + begun.elapsed())
        });
        let suspecting = scope.spawn(move || {
            let broken = what_is_broken(lab, &|| answered.load(Ordering::SeqCst) || stop());
            if broken.is_some() {
                given_up.store(true, Ordering::SeqCst);
            }
            broken
        });
        let started = lab.reconcile(&interrupted, &mut |event| progress.tell(&event, ui));
        given_up.store(started.is_err(), Ordering::SeqCst);
        let (waited, took) = waiting
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let broken = suspecting.join().unwrap_or(None);
        (started, waited, took, broken)
    });
    if let (Ok(()), Err(_), Some((node, said))) = (&started, &waited, broken) {
        progress.end(ui);
        ui.error(&anyhow::anyhow!(
            "{node} can't load the application:\n\n{said}\n\nThe lab goes on. Mend the application, then run `gen-topology lab apply`"
        ));
        return Err(unusable());
    }
    if let Err(error) = started {
        if !interrupted() {
            ui.error(&error);
        }
        return Err(unusable());
    }
    if wait && waited.is_ok() {
        lab.wait_for_all(PATIENCE, &interrupted, &mut |event| {
            progress.tell(&event, ui);
        })?;
    }
    progress.end(ui);
    let site = LabSite::new(&lab);
    let found = site::status(&site, &site.nodes());
    ui.say(status::states(&found.nodes).trim_end());
    waited?;
    let address = lab.plan().entrance().url("/");
    if let Some(tls) = lab.plan().tls.as_ref().filter(|tls| tls.makes) {
        let authority = lab.certificates().authority_path();
        let name = tls.names.first().map_or("localhost", String::as_str);
        ui.say(&format!(
            "its certificate is of the lab's own authority, which a browser or curl trusts when told to: \
             curl --cacert {} --resolve {name}:{}:{} https://{name}/",
            authority.display(),
            tls.port,
            lab.plan().virtual_ip,
        ));
    }
    let what = match lab.plan().tier(Tier::LoadBalancer).next() {
        Some(_) => format!("first answer through {address}"),
        None => "each replica set has a primary and its users".to_owned(),
    };
    ui.say(&format!(
        "{}: {what} in {}{}",
        paint(Tone::Strong, &lab.plan().name),
        paint(Tone::Good, &format!("{:.2} s", took.as_secs_f64())),
        if wait {
            format!(
                ", every node ready in {:.2} s",
                (spent + begun.elapsed()).as_secs_f64()
            )
        } else {
            String::new()
        },
    ));
    Ok(())
}

/// Loads the application once more where it runs, when it does not answer for long, and returns the
/// node and what is wrong with it. Nothing when it answers in time, or can be loaded.
fn what_is_broken(lab: &Lab, over: &dyn Fn() -> bool) -> Option<(String, String)> {
    if crate::wait::until(SUSPICION, over) {
        return None;
    }
    let node = lab.plan().tier(Tier::App).next()?;
    let running = || over() || lab.run_in(&node.name, &["true"]).is_ok();
    if !crate::wait::until(PATIENCE, running) || over() {
        return None;
    }
    node.apps().iter().find_map(|app| {
        let argv = loads(app.as_deref());
        let output = crate::exec::output(&mut lab.command(&node.name, &argv).ok()?, None).ok()?;
        let said = [output.stdout, output.stderr].concat();
        (!output.status.success()).then(|| {
            let said = String::from_utf8_lossy(&said).trim().to_owned();
            (node.name.clone(), said)
        })
    })
}

/// One line that is written over on a terminal, a line for each event elsewhere.
struct Progress {
    terminal: bool,
    begun: Instant,
    total: usize,
    started: usize,
    ready: usize,
}

impl Progress {
    fn new(total: usize) -> Self {
        Self {
            terminal: std::io::stderr().is_terminal(),
            begun: Instant::now(),
            total,
            started: 0,
            ready: 0,
        }
    }

    fn tell(&mut self, event: &Event, ui: &mut Ui) {
        let line = match event {
            Event::Started(name) => {
                self.started += 1;
                format!("{name}: started")
            }
            Event::Stopped(name) => format!("{name}: removed"),
            Event::Changed(name, files) => format!("{name}: changed {}", files.join(", ")),
            Event::Ready(name) => {
                self.ready += 1;
                format!("{name}: ready")
            }
        };
        if self.terminal {
            let counts = format!(
                "{}/{} started, {} ready",
                self.started, self.total, self.ready
            );
            ui.transient(&format!(
                "{:5.1} s  {counts}  {line}",
                self.begun.elapsed().as_secs_f64()
            ));
        } else {
            ui.say(&line);
        }
    }

    fn end(&self, ui: &mut Ui) {
        if self.terminal {
            ui.transient("");
        }
    }
}

/// Does the same to several nodes; unknown names are told before any is touched.
fn each(
    lab: &Lab,
    nodes: &[String],
    ui: &mut Ui,
    done: &str,
    act: impl Fn(&str) -> anyhow::Result<()>,
) -> Outcome {
    for name in &chosen(lab, nodes)? {
        act(name)?;
        ui.say(&format!("{name}: {done}"));
    }
    Ok(())
}

/// The nodes of a lab that are meant by names, patterns and tiers, each once; none is touched if one
/// means nothing.
fn chosen(lab: &Lab, meant: &[String]) -> anyhow::Result<Vec<String>> {
    let nodes = &lab.plan().nodes;
    let all: Vec<(&str, Tier)> = nodes
        .iter()
        .map(|node| (node.name.as_str(), node.tier))
        .collect();
    let mut names: Vec<String> = Vec::new();
    for selector in meant {
        let selector: Selector = selector.parse().map_err(anyhow::Error::msg)?;
        let new = selector.names(&all)?.into_iter().map(str::to_owned);
        names.extend(new.filter(|name| !names.contains(name)).collect::<Vec<_>>());
    }
    Ok(names)
}

fn start(lab: &Lab, nodes: &[String], ui: &mut Ui) -> Outcome {
    let begun = Instant::now();
    let nodes = &chosen(lab, nodes)?;
    lab.start(nodes)?;
    for name in nodes {
        let node = lab.planned(name)?;
        if !crate::wait::until(PATIENCE, || lab.is_ready(node)) {
            return Err(Failure::Failed(anyhow::anyhow!(
                "{name} was started and does not become ready; see `gen-topology lab logs {name}`"
            )));
        }
        ui.say(&format!(
            "{name}: ready in {:.2} s",
            begun.elapsed().as_secs_f64()
        ));
    }
    Ok(())
}

fn show_status(lab: &Lab, json: bool, ui: &mut Ui) -> Outcome {
    let site = LabSite::new(lab);
    let found = site::status(&site, &site.nodes());
    let stack = Stack {
        stack: &lab.plan().name,
        virtual_ip: lab.plan().virtual_ip,
    };
    let format = if json { Format::Json } else { Format::Table };
    status::show(&stack, &found, true, format, ui)
}

/// A process of a node.
#[derive(Serialize)]
struct Listed {
    node: String,
    /// None where the node is stopped.
    pid: Option<i32>,
    memory_kib: Option<u64>,
    command: Option<String>,
}

fn ps(lab: &Lab, nodes: &[String], json: bool, ui: &mut Ui) -> Outcome {
    let all = || lab.plan().nodes.iter().map(|node| node.name.clone());
    let names = if nodes.is_empty() {
        all().collect()
    } else {
        chosen(lab, nodes)?
    };
    let mut listed = Vec::new();
    for node in names {
        if lab.pid(&node).is_none() {
            listed.push(Listed {
                node,
                pid: None,
                memory_kib: None,
                command: None,
            });
            continue;
        }
        let processes = lab.processes(&node)?.into_iter();
        listed.extend(processes.map(|process| Listed {
            node: node.clone(),
            pid: Some(process.pid),
            memory_kib: Some(process.resident_kib),
            command: Some(process.command),
        }));
    }
    if json {
        return ui.json(&listed);
    }
    let row = |it: Listed| {
        let memory = it.memory_kib.map(|kib| format!("{} MiB", kib / 1024));
        vec![
            it.node,
            it.pid.map(|pid| pid.to_string()).unwrap_or_default(),
            memory.unwrap_or_default(),
            it.command.unwrap_or_else(|| paint(Tone::Bad, "stopped")),
        ]
    };
    let rows: Vec<Vec<String>> = listed.into_iter().map(row).collect();
    ui.data(&table(&["NODE", "PID", "MEMORY", "COMMAND"], &rows))
}

/// Passes connections of the listener that is standard input on to the virtual IP.
fn forward(lab: &Lab) -> Outcome {
    let listener = TcpListener::from(
        std::io::stdin()
            .as_fd()
            .try_clone_to_owned()
            .context("taking the listener over")?,
    );
    let target = SocketAddr::from((lab.plan().virtual_ip, lab.plan().entrance().port));
    for visitor in listener.incoming() {
        let visitor = visitor.context("accepting a connection")?;
        std::thread::spawn(move || relay(visitor, target));
    }
    Ok(())
}

/// Copies both ways until both sides have ended.
fn relay(visitor: TcpStream, target: SocketAddr) -> anyhow::Result<()> {
    let server = TcpStream::connect_timeout(&target, Duration::from_secs(5))?;
    let (mut from, mut to) = (visitor.try_clone()?, server.try_clone()?);
    let asking = std::thread::spawn(move || {
        let copied = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Write);
        copied
    });
    let (mut from, mut to) = (server, visitor);
    std::io::copy(&mut from, &mut to)?;
    let _ = to.shutdown(std::net::Shutdown::Both);
    if asking.join().is_err() {
        bail!("the visitor's side failed");
    }
    Ok(())
}
