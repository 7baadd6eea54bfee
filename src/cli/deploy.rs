//! `deploy` and `rollback`: the stack's machines brought to other systems, node by node behind
//! gates, and `plan --against machines`, which only tells.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use clap::Args as ClapArgs;

use super::args::{ChoiceArgs, FileArg, Format, PlanArgs, WayArgs};
use super::machines::{paths, way};
use super::rollout::{self, Words};
use super::ui::{Tone, Ui, paint};
use super::{generate, interrupts, plan_text, source};
use crate::deploy::journal::{self, Unfinished};
use crate::deploy::{self, Choice, Engine, Now, Options, Plan};
use crate::exec::{all_of, in_parallel};
use crate::failure::{Failure, Outcome};
use crate::machines::closures::{self, Closures};
use crate::machines::{
    self, AT_ONCE, MachineHost, MachineSite, Ssh, Survey, on_paper, state, survey,
};
use crate::render::Rendered;
use crate::sink::Sink as _;
use crate::site::{self, Fleet, NodeId, NodeState};
use crate::topology::{Millis, Selector, Source, Tier, Topology};
use crate::{exec, hosts};

/// How machines are changed.
#[derive(Debug, ClapArgs)]
pub(super) struct ChangeArgs {
    #[command(flatten)]
    pub choice: ChoiceArgs,
    /// How long the app servers of `--canary` are watched
    #[arg(long, value_name = "TIME", default_value = "10s")]
    pub bake: Millis,
    /// How long a changed machine waits for a new connection before it rolls itself back
    #[arg(long, value_name = "TIME", default_value = "60s")]
    pub confirm_within: Millis,
    /// Go on after one that was interrupted or killed
    #[arg(long, conflicts_with = "on")]
    pub resume: bool,
    /// Print what would be done and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    #[command(flatten)]
    pub way: WayArgs,
    /// How to print
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: Format,
}

#[derive(Debug, ClapArgs)]
pub(super) struct DeployArgs {
    #[command(flatten)]
    pub file: FileArg,
    /// Systems that were built elsewhere: a JSON file `{ "node-1": "/nix/store/…" }`, or a directory of links [default: Nix builds them]
    #[arg(long, value_name = "PLACE")]
    pub closures: Option<PathBuf>,
    /// Flake to build from [default: the topology file's directory]
    #[arg(long, value_name = "DIR", conflicts_with = "closures")]
    pub flake: Option<PathBuf>,
    #[command(flatten)]
    pub change: ChangeArgs,
}

#[derive(Debug, ClapArgs)]
pub(super) struct RollbackArgs {
    #[command(flatten)]
    pub file: FileArg,
    #[command(flatten)]
    pub change: ChangeArgs,
}

/// Room that is left on a machine's disk behind the copy, in bytes.
const MARGIN: u64 = 64 << 20;

/// How a roll-out on machines is spoken of.
const DEPLOY: Words = Words {
    command: "deploy",
    logs: "logs",
    waiting: "`gen-topology status` tells how every node is",
};
const ROLLBACK: Words = Words {
    command: "rollback",
    logs: "logs",
    waiting: "`gen-topology status` tells how every node is",
};

/// Where the systems come from.
enum Origin {
    /// Nix builds them from this flake.
    Flake(PathBuf),
    /// They were built elsewhere.
    Given(PathBuf),
    /// The machines had them before.
    Before,
}

/// Everything that is known before anything is done.
struct Stack {
    source: Source,
    topology: Topology,
    rendered: Vec<Rendered>,
    ssh: Ssh,
    survey: Survey,
}

/// `plan --against machines`.
pub(super) fn plan(file: Option<&Path>, args: &PlanArgs, ui: &mut Ui) -> Outcome {
    let stack = Stack::of(file, &args.way, ui)?;
    let plan = stack.on_paper(&args.choice)?;
    plan_text::show(&plan, args.format, ui)?;
    plan_text::verdict(&plan, args.exit_code)
}

/// `deploy`.
pub(super) fn run(file: Option<&Path>, args: &DeployArgs, ui: &mut Ui) -> Outcome {
    let from = match (&args.closures, &args.flake) {
        (Some(place), _) => Origin::Given(place.clone()),
        (None, Some(flake)) => Origin::Flake(flake.clone()),
        (None, None) => Origin::Flake(
            source::find(file)?
                .parent()
                .map_or_else(PathBuf::new, Path::to_path_buf),
        ),
    };
    roll_out(file, &args.change, &from, &DEPLOY, ui)
}

/// `rollback`.
pub(super) fn rollback(file: Option<&Path>, args: &RollbackArgs, ui: &mut Ui) -> Outcome {
    roll_out(file, &args.change, &Origin::Before, &ROLLBACK, ui)
}

fn roll_out(
    file: Option<&Path>,
    args: &ChangeArgs,
    from: &Origin,
    words: &Words,
    ui: &mut Ui,
) -> Outcome {
    let interrupted = interrupts::listen_for_interrupts()?;
    let stack = Stack::of(file, &args.way, ui)?;
    if args.dry_run && !matches!(from, Origin::Before) {
        return plan_text::show(&stack.on_paper(&args.choice)?, args.format, ui);
    }
    let outcome = stack.roll_out(args, from, words, &interrupted, ui);
    match outcome {
        // A program that was ended by the same Ctrl-C is no failure.
        Err(Failure::Failed(_))
            if interrupted.load(Ordering::SeqCst) && !stack.journal().exists() =>
        {
            Err(Failure::Interrupted("nothing was touched".into()))
        }
        other => other,
    }
}

impl Stack {
    /// Reads the topology, and looks at all machines at once.
    fn of(file: Option<&Path>, args: &WayArgs, ui: &mut Ui) -> Result<Self, Failure> {
        let (source, topology) = source::load(file, ui)?;
        let rendered = generate::rendered(&topology)?;
        let mut ssh = way(&topology, args)?;
        let survey = survey(&mut ssh, &topology, &paths(&rendered))
            .map_err(|problems| untouched(&problems))?;
        Ok(Self {
            source,
            topology,
            rendered,
            ssh,
            survey,
        })
    }

    fn journal(&self) -> PathBuf {
        self.source.base.join(".gen-topology/deploy.journal")
    }

    /// The plan before any system is built.
    fn on_paper(&self, choice: &ChoiceArgs) -> Result<Plan, Failure> {
        let old = &self.survey.old;
        let planned = self.rendered.iter().map(|rendered| {
            let planned = NodeState::of(rendered)?;
            let now = old.node(planned.name());
            Ok(on_paper(planned, now))
        });
        let new = Fleet::of(planned.collect::<anyhow::Result<_>>()?);
        let now = self.roles(&Closures::new(), &Unfinished::default());
        Ok(deploy::plan(old, &new, &now, &chosen(choice, old, &new)?))
    }

    fn roll_out(
        &self,
        args: &ChangeArgs,
        from: &Origin,
        words: &Words,
        interrupted: &AtomicBool,
        ui: &mut Ui,
    ) -> Outcome {
        let _locks = self.lock()?;
        let journal_path = self.journal();
        let unfinished = journal::unfinished(&journal_path)?.unwrap_or_default();
        rollout::resumable(&unfinished, args.resume, words, ui)?;
        let wanted = self.closures(args.choice.on.as_ref(), from, ui)?;
        let old = unfinished.settled(&self.survey.old);
        let new = self.planned(&wanted, &old, matches!(from, Origin::Before))?;
        let now = self.roles(&wanted, &unfinished);
        let plan = deploy::plan(&old, &new, &now, &chosen(&args.choice, &old, &new)?);
        if args.dry_run {
            return plan_text::show(&plan, args.format, ui);
        }
        if plan.is_empty() && plan.obstacles.is_empty() {
            journal::forget(&journal_path)?;
            ui.say("nothing to do: everything is as the topology says");
            return Ok(());
        }
        ui.say(plan_text::text(&plan).trim_end());
        if plan.obstacles.is_empty() && !args.yes {
            ask(interrupted, ui)?;
        }
        let room = journal_path.parent().unwrap_or(&journal_path);
        fs::create_dir_all(room).with_context(|| format!("creating {}", room.display()))?;
        let host = MachineHost {
            site: MachineSite::new(&self.ssh, &wanted, ids(new.nodes())),
            old: &old,
            new: &new,
            gone: &self.survey.gone,
            unfinished: &now.unfinished,
            confirm_within: Duration::from_millis(args.confirm_within.get()),
            added: Mutex::default(),
        };
        let engine = Engine {
            host: &host,
            old: &old,
            new: &new,
            plan: &plan,
            options: Options {
                canary: args.choice.canary,
                bake: Duration::from_millis(args.bake.get()),
            },
            interrupted: &|| interrupted.load(Ordering::SeqCst),
        };
        let json = args.format == Format::Json;
        rollout::carry_out(&engine, &journal_path, &unfinished, json, words, ui)
    }

    /// One roll-out at a time, on every machine that can be reached.
    fn lock(&self) -> Result<machines::Lock, Failure> {
        let who = exec::me();
        machines::lock(&self.ssh, &self.survey.reached, &who)
            .map_err(|problems| untouched(&texts(&problems)))
    }

    /// The systems, in the machines' stores.
    fn closures(
        &self,
        on: Option<&Selector>,
        from: &Origin,
        ui: &mut Ui,
    ) -> Result<Closures, Failure> {
        let nodes = super::machines::chosen(&self.topology, on)?;
        let nodes: Vec<String> = nodes.iter().map(|node| node.name.to_string()).collect();
        let mut closures = match from {
            Origin::Before => return Ok(self.survey.before(&nodes)?),
            Origin::Given(place) => closures::given(place)?,
            Origin::Flake(flake) => {
                self.is_fresh()?;
                ui.say(&format!("building {} systems", nodes.len()));
                closures::build(flake, &nodes)?
            }
        };
        closures.retain(|node, _| nodes.contains(node));
        if let Some(missing) = nodes.iter().find(|node| !closures.contains_key(*node)) {
            return Err(anyhow!("there is no system for {missing}").into());
        }
        self.fits(&closures)?;
        ui.say(&format!("copying {} systems", closures.len()));
        closures::copy(&self.ssh, &closures).map_err(|problems| untouched(&texts(&problems)))?;
        Ok(closures)
    }

    /// The flake builds from what is committed in hosts/.
    fn is_fresh(&self) -> anyhow::Result<()> {
        let directory = generate::beside(&self.source);
        let changes = hosts::diff(&directory, &self.rendered)?;
        ensure!(
            changes.is_empty(),
            "{} is not what the topology says, and systems are built from it: run `gen-topology generate` and `git add` it",
            directory.display()
        );
        Ok(())
    }

    /// Whether every machine's disk has room for its system.
    fn fits(&self, closures: &Closures) -> Result<(), Failure> {
        let all: Vec<(&String, &String)> = closures.iter().collect();
        let fits = in_parallel(&all, AT_ONCE, |(node, system)| {
            let missing = closures::missing_bytes(&self.ssh, node, system)?;
            let free = self.survey.free.get(*node).copied().unwrap_or_default();
            ensure!(
                missing == 0 || missing + MARGIN <= free,
                "{node} has {} MiB free for /nix, and its system needs {} MiB and {} MiB to spare: \
                 `gen-topology ssh {node} -- nix-collect-garbage --delete-older-than 30d` makes room",
                free >> 20,
                missing.div_ceil(1 << 20),
                MARGIN >> 20
            );
            Ok(())
        });
        all_of(fits).map_err(|problems| untouched(&texts(&problems)))?;
        Ok(())
    }

    /// What the machines will run, by the systems themselves; they have to be made from this topology.
    fn planned(&self, wanted: &Closures, old: &Fleet, before: bool) -> Result<Fleet, Failure> {
        let files = paths(&self.rendered);
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        let look = |rendered: &Rendered| -> anyhow::Result<NodeState> {
            let planned = NodeState::of(rendered)?;
            let node = planned.name().to_owned();
            let Some(path) = wanted.get(&node) else {
                // `--on` leaves it as it is.
                return Ok(old.node(&node).cloned().unwrap_or(planned));
            };
            let system = machines::system(&self.ssh, &node, path, &files)?;
            let state = state(&system)?
                .with_context(|| format!("{path} is no system of a node of ours"))?;
            ensure!(
                state.name() == node,
                "{path} is a system of {}, not of {node}",
                state.name()
            );
            ensure!(
                before || state.facts == planned.facts,
                "the system of {node} was not built from what the topology says now: run `gen-topology generate`, and build it again"
            );
            Ok(state)
        };
        let states = in_parallel(&self.rendered, AT_ONCE, look);
        let states = all_of(states).map_err(|problems| untouched(&texts(&problems)))?;
        Ok(Fleet::of(states))
    }

    /// Who has which part at the moment; none where none says so.
    fn roles(&self, wanted: &Closures, unfinished: &Unfinished) -> Now {
        let nodes = self.survey.old.nodes().iter();
        let asked: Vec<NodeState> = nodes
            .filter(|node| node.tier() != Tier::App)
            .cloned()
            .collect();
        let asked = ids(&asked);
        let site = MachineSite::new(&self.ssh, wanted, asked.clone());
        let roles = site::roles(&site, &asked);
        Now {
            owner: roles.owners.into_iter().next(),
            primaries: roles.primaries,
            unfinished: unfinished.nodes.keys().cloned().collect(),
            down: BTreeSet::new(),
        }
    }
}

fn ids(nodes: &[NodeState]) -> Vec<NodeId> {
    nodes.iter().map(NodeState::id).collect()
}

fn chosen(choice: &ChoiceArgs, old: &Fleet, new: &Fleet) -> Result<Choice, Failure> {
    Ok(Choice {
        max_unavailable: choice.max_unavailable,
        canary: choice.canary,
        on: choice
            .on
            .as_ref()
            .map(|on| rollout::chosen(on, old, new))
            .transpose()?,
    })
}

fn texts(problems: &[anyhow::Error]) -> Vec<String> {
    problems.iter().map(|error| format!("{error:#}")).collect()
}

fn untouched(problems: &[String]) -> Failure {
    anyhow!("nothing was touched:\n  {}", problems.join("\n  ")).into()
}

/// Asks whether to go on; whoever can't be asked has to have said so before.
fn ask(interrupted: &AtomicBool, ui: &mut Ui) -> Outcome {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::Usage(
            "can't ask for confirmation: stdin is not a terminal; pass --yes".into(),
        ));
    }
    ui.say(&format!("{} [y/N]", paint(Tone::Strong, "do it?")));
    let mut answer = String::new();
    stdin
        .lock()
        .read_line(&mut answer)
        .context("reading the answer")?;
    let agreed = matches!(answer.trim(), "y" | "Y" | "yes");
    if agreed && !interrupted.load(Ordering::SeqCst) {
        return Ok(());
    }
    Err(Failure::Interrupted("nothing was touched".into()))
}
