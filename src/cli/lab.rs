//! `lab …`: the commands from outside. What has to happen in the lab's namespaces
//! is handed to [`super::inside`] as a [`Request`].

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::Ordering;

use anyhow::{Context as _, anyhow};
use clap::{Args as ClapArgs, Subcommand};
use serde_json::json;

use super::apply::ApplyArgs;
use super::args::{Format, FormatArgs, Rotated};
use super::interrupts::{listen_for_interrupts, wait_for};
use super::lab_graph::{GraphFormat, graph};
use super::lab_logs::logs;
use super::lab_watch;
use super::lab_way::{imitate, inner, pass, place, running};
use super::request::Request;
use super::ui::{Tone, Ui, paint, table};
use super::{apply, inside, lab_up, load, source};
use crate::failure::{Failure, Outcome};
use crate::lab::{Lab, Place, state};
use crate::node::app::in_app;
use crate::sink::Sink as _;

#[derive(Debug, ClapArgs)]
#[command(disable_help_subcommand = true)]
pub(super) struct LabArgs {
    /// Topology file [default: topology.json here or in a directory above]
    #[arg(long, global = true, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Name of the lab [default: the topology's name]
    #[arg(long, global = true, value_name = "NAME", env = "GEN_TOPOLOGY_LAB")]
    pub lab: Option<String>,
    #[command(subcommand)]
    pub command: LabCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum LabCommand {
    /// Start what is missing, change what changed, and wait for the first answer through the virtual IP
    Up {
        /// Wait until every node is well, not only for the first answer
        #[arg(long)]
        wait: bool,
        /// Only the databases, until each of their replica sets has a primary and its users
        #[arg(long)]
        databases: bool,
        /// Print what would be done and do nothing
        #[arg(long)]
        dry_run: bool,
        /// Go on as `lab watch`
        #[arg(long, conflicts_with_all = ["dry_run", "databases"])]
        watch: bool,
    },
    /// Reload the app servers one after the other whenever the application's code is saved
    ///
    /// What the application says is told with the node's name. Code that can't be loaded stays outside.
    Watch,
    /// Bring a running lab to the edited topology, node by node, with visitors served all the time
    Apply(ApplyArgs),
    /// Stop everything and remove the lab with its data
    Down,
    /// Show each node's state, the owner of the virtual IP and the primary
    Status(FormatArgs),
    /// List the labs of this user
    Ls(FormatArgs),
    /// List the processes of each node
    Ps {
        /// Nodes, such as `node-1`, `app-*` or `@database` [default: all]
        nodes: Vec<String>,
        #[command(flatten)]
        format: FormatArgs,
    },
    /// Run a command in a node
    Exec {
        /// The node
        node: String,
        /// The command and its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Run a command as the application: with its variables, directory and Python
    ///
    /// `gen-topology lab run app-1 -- manage.py migrate`
    Run {
        /// The app server
        node: String,
        /// Which of `apps` to run it as [default: `app`]
        #[arg(long, value_name = "NAME")]
        app: Option<String>,
        /// The command and its arguments; a name that ends in `.py` is run by Python
        #[arg(required = true, last = true)]
        command: Vec<String>,
    },
    /// Open a shell in a node
    Shell {
        /// The node
        node: String,
    },
    /// Print what a node's daemons have logged
    Logs {
        /// Nodes, such as `node-1` or `app-*` [default: all]
        nodes: Vec<String>,
        /// Go on printing what is added
        #[arg(short, long)]
        follow: bool,
        /// Print only the last lines of each file
        #[arg(short = 'n', long, default_value_t = 20)]
        lines: usize,
    },
    /// Shut nodes down in order
    Stop {
        /// Nodes, such as `node-1`, `app-*` or `@database`
        #[arg(required = true)]
        nodes: Vec<String>,
        /// Pull the plug instead: no process is asked, no packet is sent
        #[arg(long)]
        power_off: bool,
    },
    /// Start nodes that were stopped
    Start {
        /// Nodes, such as `node-1`, `app-*` or `@database`
        #[arg(required = true)]
        nodes: Vec<String>,
    },
    /// Shut nodes down in order and start them again
    Reboot {
        /// Nodes, such as `node-1`, `app-*` or `@database`
        #[arg(required = true)]
        nodes: Vec<String>,
    },
    /// Cut nodes off the network
    Cut {
        /// Nodes, such as `node-1`, `app-*` or `@database`
        #[arg(required = true)]
        nodes: Vec<String>,
    },
    /// Connect nodes to the network again
    Heal {
        /// Nodes, such as `node-1`, `app-*` or `@database`
        #[arg(required = true)]
        nodes: Vec<String>,
    },
    /// Copy the application's data into a new directory, and try the copy
    Backup {
        /// The directory
        directory: PathBuf,
    },
    /// Write a copy of the application's data back
    Restore {
        /// The directory that `lab backup` wrote
        directory: PathBuf,
        /// Replace what is there
        #[arg(long)]
        overwrite: bool,
    },
    /// Exchange the database's secrets while the lab serves
    Rotate {
        /// What to exchange
        what: Rotated,
    },
    /// Load changed certificates on all load balancers while connections go on; the lab's own are made anew
    Renew,
    /// Offer the virtual IP on a port of this machine, for a browser
    Forward {
        /// Address to listen on
        #[arg(long, default_value = "127.0.0.1:8080")]
        listen: SocketAddr,
    },
    /// Draw the topology
    Graph {
        /// How to draw
        #[arg(long, value_name = "FORMAT", default_value = "text")]
        format: GraphFormat,
    },
    /// Continue inside the lab's namespaces
    #[command(hide = true)]
    Inside {
        /// The lab's directory
        state: PathBuf,
        /// What to do, as JSON
        request: String,
    },
    /// First process of a lab
    #[command(hide = true)]
    Anchor {
        /// The lab's directory
        state: PathBuf,
    },
    /// Send requests at a fixed rate to the virtual IP, until Ctrl-C, and tell what became of them
    #[command(hide = true)]
    Load {
        /// Requests a second
        #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=2000))]
        rate: u32,
        /// Requests that are sent at least, even after Ctrl-C
        #[arg(long, default_value_t = 0)]
        requests: u32,
    },
    /// Give a node's files to the programs that will read them
    #[command(hide = true)]
    Rehearse {
        /// The node's directory
        node: PathBuf,
    },
    /// First process of a node
    #[command(hide = true)]
    Boot {
        /// The node's directory
        node: PathBuf,
    },
}

/// `lab …`.
pub(super) fn run(file: Option<&Path>, args: LabArgs, ui: &mut Ui) -> Outcome {
    let lab = args.lab.as_deref();
    match args.command {
        LabCommand::Up {
            wait,
            databases,
            dry_run,
            watch,
        } => lab_up::up(file, lab, [wait, databases, dry_run], ui).and_then(|()| {
            if watch {
                lab_watch::watch(file, lab, ui)
            } else {
                Ok(())
            }
        }),
        LabCommand::Watch => lab_watch::watch(file, lab, ui),
        LabCommand::Apply(args) => apply::run(file, lab, &args, ui),
        LabCommand::Load { rate, requests } => load::run(&place(file, lab)?, rate, requests, ui),
        LabCommand::Down => lab_up::down(file, lab, ui),
        LabCommand::Ls(args) => ls(args.format, ui),
        LabCommand::Logs {
            nodes,
            follow,
            lines,
        } => logs(&place(file, lab)?, &nodes, follow, lines, ui),
        LabCommand::Graph { format } => {
            let (_, topology) = source::load(file, ui)?;
            ui.data(&graph(&topology, format))
        }
        LabCommand::Forward { listen } => forward(&place(file, lab)?, listen, ui),
        LabCommand::Status(args) => pass(
            file,
            lab,
            &Request::Status {
                json: args.format == Format::Json,
            },
            false,
            ui,
        ),
        LabCommand::Ps { nodes, format } => {
            let json = format.format == Format::Json;
            pass(file, lab, &Request::Ps { nodes, json }, false, ui)
        }
        LabCommand::Exec { node, command } => pass(
            file,
            lab,
            &Request::Exec {
                node,
                argv: command,
            },
            false,
            ui,
        ),
        LabCommand::Run { node, app, command } => {
            if app.is_some() {
                runs(file, lab, &node, app.as_deref())?;
            }
            let argv = in_app(app.as_deref(), command.iter().map(String::as_str));
            pass(file, lab, &Request::Exec { node, argv }, false, ui)
        }
        LabCommand::Shell { node } => {
            let argv = vec!["/bin/bash".to_owned(), "--norc".to_owned(), "-i".to_owned()];
            pass(file, lab, &Request::Exec { node, argv }, false, ui)
        }
        LabCommand::Stop { nodes, power_off } => {
            pass(file, lab, &Request::Stop { nodes, power_off }, true, ui)
        }
        LabCommand::Start { nodes } => pass(file, lab, &Request::Start { nodes }, true, ui),
        LabCommand::Reboot { nodes } => pass(file, lab, &Request::Reboot { nodes }, true, ui),
        LabCommand::Cut { nodes } => connect(file, lab, nodes, false, ui),
        LabCommand::Heal { nodes } => connect(file, lab, nodes, true, ui),
        LabCommand::Backup { directory } => {
            let directory = std::path::absolute(directory).context("finding the directory")?;
            pass(file, lab, &Request::Backup { directory }, false, ui)
        }
        LabCommand::Restore {
            directory,
            overwrite,
        } => {
            let directory = std::path::absolute(directory).context("finding the directory")?;
            let request = Request::Restore {
                directory,
                overwrite,
            };
            pass(file, lab, &request, true, ui)
        }
        LabCommand::Renew => pass(file, lab, &Request::Renew, true, ui),
        LabCommand::Rotate { what } => {
            let what = what.into();
            pass(file, lab, &Request::Rotate { what }, true, ui)
        }
        LabCommand::Inside { state, request } => inside::run(&state, &request, ui),
        LabCommand::Anchor { state: _ } => Ok(crate::lab::anchor::run(|| Ui::announce("ready"))?),
        LabCommand::Boot { node } => match crate::lab::boot::run(&node)? {},
        LabCommand::Rehearse { node } => Ok(crate::lab::apply::rehearse(&node)?),
    }
}

fn connect(
    file: Option<&Path>,
    lab: Option<&str>,
    nodes: Vec<String>,
    connected: bool,
    ui: &Ui,
) -> Outcome {
    let request = Request::Connect { nodes, connected };
    pass(file, lab, &request, true, ui)
}

fn ls(format: Format, ui: &mut Ui) -> Outcome {
    let labs: Vec<(Place, Option<state::About>, bool)> = Place::all()?
        .into_iter()
        .map(|place| (place.clone(), place.about(), place.anchor().is_some()))
        .collect();
    if format == Format::Json {
        let list: Vec<_> = labs
            .iter()
            .map(|(place, about, running)| json!({ "name": place.name, "running": running, "directory": place.directory, "topology": about.as_ref().map(|a| &a.topology) }))
            .collect();
        return ui.json(&list);
    }
    if labs.is_empty() {
        ui.say("there is no lab; `gen-topology lab up` starts one");
        return Ok(());
    }
    let rows: Vec<Vec<String>> = labs
        .iter()
        .map(|(place, about, running)| {
            let state = if *running {
                paint(Tone::Good, "running")
            } else {
                paint(Tone::Warning, "ended without `down`")
            };
            vec![
                place.name.clone(),
                state,
                about
                    .as_ref()
                    .map(|a| a.topology.display().to_string())
                    .unwrap_or_default(),
            ]
        })
        .collect();
    ui.data(&table(&["LAB", "STATE", "TOPOLOGY"], &rows))
}

fn forward(place: &Place, listen: SocketAddr, ui: &mut Ui) -> Outcome {
    let lab = running(place)?;
    let listener = TcpListener::bind(listen).map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::AddrInUse => "; choose another with --listen",
            _ => "",
        };
        anyhow!("listening on {listen}: {error}{hint}")
    })?;
    let address = listener.local_addr().context("listening")?;
    ui.say(&format!(
        "open {} in a browser; Ctrl-C ends this",
        paint(Tone::Strong, &format!("http://{address}/"))
    ));
    // The socket stays in this machine's network; the process that serves it goes into the lab's.
    let interrupted = listen_for_interrupts()?;
    let mut child = inner(&lab, &Request::Forward, ui)?
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .spawn()
        .context("entering the lab")?;
    let status = wait_for(&mut child, &interrupted)?;
    if interrupted.load(Ordering::SeqCst) {
        return Err(Failure::Interrupted("the page is no longer offered".into()));
    }
    imitate(status)
}

/// Fails unless a node of the lab runs an application.
fn runs(file: Option<&Path>, lab: Option<&str>, node: &str, app: Option<&str>) -> Outcome {
    let lab = Lab::open(&place(file, lab)?)?;
    let apps = lab.planned(node)?.apps();
    if apps.iter().any(|known| known.as_deref() == app) {
        return Ok(());
    }
    let known: Vec<&str> = apps.iter().flatten().map(String::as_str).collect();
    let known = match known.as_slice() {
        [] => "it runs none of `apps`".to_owned(),
        names => format!("of `apps` it runs {}", names.join(", ")),
    };
    Err(anyhow::anyhow!("{node} does not run {}; {known}", app.unwrap_or("app")).into())
}
