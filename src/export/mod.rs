//! The stack in other worlds: for each of them what an expert of that world would have
//! written by hand, around the same rendered files. Pure: text out, nothing touched.
//!
//! A format is a [`Format`]; [`ALL`] is the list. [`container`] is what those share that
//! run containers; Vagrant's machines are provisioned by the playbook of [`ansible`].

mod ansible;
mod compose;
mod container;
mod kubernetes;
mod openstack;
mod text;
mod tls;
mod vagrant;

use std::collections::BTreeMap;

use crate::config::{self, NodeConfig};
use crate::render::{self, Rendered};
use crate::topology::{Code, Topology};

/// A world that a stack can be exported to.
pub trait Format: Sync {
    /// Its name on the command line.
    fn name(&self) -> &'static str;

    /// One line on what comes out.
    fn summary(&self) -> &'static str;

    /// Its files.
    ///
    /// # Errors
    /// If it can't express the stack, with every reason.
    fn files(&self, stack: &Stack<'_>) -> Result<Files, Refusal>;
}

/// Every format, in the order of the documentation.
pub const ALL: [&dyn Format; 6] = [
    &compose::Compose,
    &kubernetes::Kubernetes,
    &ansible::Ansible,
    &vagrant::Vagrant,
    &openstack::Openstack,
    &openstack::OpenTofu,
];

/// Path below the export's directory → text.
pub type Files = BTreeMap<String, String>;

/// What an export is made from.
#[derive(Debug)]
pub struct Stack<'s> {
    /// The stack.
    pub topology: &'s Topology,
    /// What its nodes run, in file order.
    pub nodes: Vec<NodeConfig>,
    /// Their files, in the same order.
    pub rendered: Vec<Rendered>,
    /// Where things are, seen from the export's directory.
    pub places: Places,
}

/// Paths as they are seen from the export's directory.
#[derive(Clone, Debug)]
pub struct Places {
    /// The application's source.
    pub app: String,
    /// The directory of secrets.
    pub secrets: String,
    /// The topology file.
    pub topology: String,
    /// The export's directory, seen from the application's source.
    pub from_app: String,
}

impl<'s> Stack<'s> {
    /// The export of `topology` from these places.
    ///
    /// # Errors
    /// Only when a template and its struct disagree, which is a bug of this program.
    pub fn of(topology: &'s Topology, places: Places) -> anyhow::Result<Self> {
        let nodes = config::resolve(topology);
        let rendered = render::render(&nodes)?;
        Ok(Self {
            topology,
            nodes,
            rendered,
            places,
        })
    }

    /// What each node runs, with its files.
    pub fn each(&self) -> impl Iterator<Item = (&NodeConfig, &Rendered)> {
        self.nodes.iter().zip(&self.rendered)
    }
}

/// The files of a stack in a format.
///
/// # Errors
/// If the format can't express the stack, with every reason.
pub fn files(format: &dyn Format, stack: &Stack<'_>) -> Result<Files, Refusal> {
    let mut parts = tls::obstacles(stack.topology);
    // Those of OpenStack boot NixOS, which runs several.
    if !matches!(format.name(), "openstack" | "opentofu") {
        parts.extend(several(stack.topology));
    }
    match format.files(stack) {
        Ok(files) => refuse(parts).map(|()| files),
        Err(Refusal::Parts(more)) => Err(Refusal::Parts([more, parts].concat())),
        bug => bug,
    }
}

/// A container or a playbook has one application.
fn several(topology: &Topology) -> Option<Part> {
    let names: Vec<&str> = topology
        .apps()
        .iter()
        .map(|app| app.name.as_str())
        .collect();
    (!names.is_empty()).then(|| {
        let names = names.join(", ");
        let why = format!(
            "exports have one application, `app`, and this stack has {names}, too; export a topology without `apps`, or use \
             the lab or NixOS machines, which run several"
        );
        Part::new("apps", why)
    })
}

/// Why a format can't express a stack: every reason at once.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Parts of the topology that the format has no words for.
    #[error("{}", reasons(.0))]
    Parts(Vec<Part>),
    /// A bug of this program.
    #[error(transparent)]
    Bug(#[from] anyhow::Error),
}

/// A part of a topology that a format can't express.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Where in the file, as a pointer with dots.
    pub at: &'static str,
    /// Why not, and what to do.
    pub why: String,
}

impl Part {
    fn new(at: &'static str, why: impl Into<String>) -> Self {
        Self {
            at,
            why: why.into(),
        }
    }
}

fn reasons(parts: &[Part]) -> String {
    let lines: Vec<String> = parts
        .iter()
        .map(|part| format!("\n  {}: {}", part.at, part.why))
        .collect();
    format!(
        "this topology can't be exported as it is, nothing was written ({}):{}",
        Code::NotExportable,
        lines.concat()
    )
}

/// Ends with every reason, or goes on if there is none.
fn refuse(parts: Vec<Part>) -> Result<(), Refusal> {
    if parts.is_empty() {
        return Ok(());
    }
    Err(Refusal::Parts(parts))
}

/// The file by which an export's directory is known, and what it begins with.
pub const README: &str = "README.md";

/// First line of the README of a format's export; what does not begin with it is no export.
pub fn readme_mark(format: &str) -> String {
    format!("<!-- Generated by gen-topology from the topology file: export {format} -->\n")
}
