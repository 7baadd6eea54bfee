//! Keepalived's configuration: statements, some of which hold others in braces
//! (`keepalived.conf(5)`). [`Config`] has the tree and what of VRRP can be asked of it.

mod reading;
mod tree;
mod vrrp;

pub use reading::{Part, Reading, ids};
pub use tree::Block;
pub use vrrp::{
    Address, Auth, Global, Instance, Peer, Script, State, SyncGroup, Track, TrackFile, TrackProcess,
};

use super::{Directive, Malformed};

/// A whole file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// Every statement, unknown ones included.
    pub blocks: Vec<Block>,
    /// `global_defs`.
    pub global: Global,
    /// Each `vrrp_instance`.
    pub instances: Vec<Instance>,
    /// Each `vrrp_script`.
    pub scripts: Vec<Script>,
    /// Each `track_file` (or `vrrp_track_file`) block.
    pub track_files: Vec<TrackFile>,
    /// Each `track_process` (or `vrrp_track_process`) block.
    pub track_processes: Vec<TrackProcess>,
    /// Each `vrrp_sync_group`.
    pub sync_groups: Vec<SyncGroup>,
    /// `include` lines of files that are not known.
    pub includes: Vec<Directive>,
}

impl Config {
    /// Reads a file's text. Unknown statements are kept.
    ///
    /// # Errors
    /// A brace too many or too few, blocks nested deeper than 32, or a quote that is not closed.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        Self::read(text, 0, &Reading::default())
    }

    /// Reads a file's text as Keepalived does with a configuration id and the files that are
    /// included; places count from `base`.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn read(text: &str, base: usize, with: &Reading<'_>) -> Result<Self, Malformed> {
        let blocks = reading::read(text, base, with)?;
        let heads = |words: &'static [&'static str]| {
            blocks
                .iter()
                .filter(move |block| block.braced && words.contains(&block.head.word(0)))
        };
        let global = Global::of(heads(&["global_defs"]));
        let version = global.version;
        let scripts = heads(&["vrrp_script"]).map(Script::of).collect();
        let instances = heads(&["vrrp_instance"])
            .map(|block| Instance::of(block, version))
            .collect();
        let track_files = heads(&["track_file", "vrrp_track_file"])
            .map(TrackFile::of)
            .collect();
        let track_processes = heads(&["track_process", "vrrp_track_process"])
            .map(TrackProcess::of)
            .collect();
        let sync_groups = heads(&["vrrp_sync_group"]).map(SyncGroup::of).collect();
        Ok(Self {
            sync_groups,
            includes: includes(&blocks),
            blocks,
            global,
            instances,
            scripts,
            track_files,
            track_processes,
        })
    }

    /// The script of that name.
    pub fn script(&self, name: &str) -> Option<&Script> {
        self.scripts.iter().find(|script| script.name == name)
    }

    /// The tracked file of that name.
    pub fn track_file(&self, name: &str) -> Option<&TrackFile> {
        self.track_files.iter().find(|file| file.name == name)
    }

    /// The tracked process of that name.
    pub fn track_process(&self, name: &str) -> Option<&TrackProcess> {
        self.track_processes
            .iter()
            .find(|process| process.name == name)
    }

    /// The group that moves the instance together with others.
    pub fn sync_group(&self, instance: &Instance) -> Option<&SyncGroup> {
        let of = |group: &&SyncGroup| group.members.contains(&instance.name);
        self.sync_groups.iter().find(of)
    }

    /// The weight with which `track` counts for an instance: its own, else the one
    /// that the script (or file, or process) was declared with, else 0, which is FAULT.
    pub fn script_weight(&self, track: &Track) -> i32 {
        let declared = self.script(&track.name).and_then(|script| script.weight);
        track.weight.or(declared).unwrap_or(0)
    }
}

/// `include` and its variants.
const INCLUDES: [&str; 6] = [
    "include", "includea", "includeb", "includem", "includer", "includew",
];

/// `include` and its variants, at any depth.
fn includes(blocks: &[Block]) -> Vec<Directive> {
    let mut found = Vec::new();
    for block in blocks {
        if INCLUDES.contains(&block.head.word(0)) {
            found.push(block.head.clone());
        }
        found.extend(includes(&block.children));
    }
    found
}
