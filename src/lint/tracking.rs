//! Whether anything watches the service that a virtual IP leads to.

use super::{Code, Cost, Findings, ipvs};
use crate::native::keepalived::{Block, Config, Instance, Track};

/// What the virtual IP leads to.
#[derive(Clone, Copy)]
pub(super) enum Service {
    Haproxy,
    /// The kernel, by what `virtual_server` says.
    Kernel,
    Unknown,
}

impl Service {
    pub(super) fn of(config: &Config, is_haproxy: bool) -> Self {
        if is_haproxy || config.blocks.iter().any(names_haproxy) {
            Self::Haproxy
        } else if ipvs::virtual_servers(config).next().is_some() {
            Self::Kernel
        } else {
            Self::Unknown
        }
    }
}

fn names_haproxy(block: &Block) -> bool {
    let mut words = block.head.words.iter();
    words.any(|word| word.to_lowercase().contains("haproxy"))
        || block.children.iter().any(names_haproxy)
}

/// What an instance tracks, or that it tracks nothing.
pub(super) fn tracking(
    config: &Config,
    instance: &Instance,
    service: Service,
    findings: &mut Findings<'_>,
) {
    let scripts = instance
        .track_scripts
        .iter()
        .map(|track| (track, config.script(&track.name).is_some()));
    let files = instance
        .track_files
        .iter()
        .map(|track| (track, config.track_file(&track.name).is_some()));
    let processes = instance.track_processes.iter();
    let processes = processes.map(|track| (track, config.track_process(&track.name).is_some()));
    let all: Vec<(&Track, bool)> = scripts.chain(files).chain(processes).collect();
    // What an include brings can't be seen.
    if !config.includes.is_empty() {
        return;
    }
    let undefined = all
        .iter()
        .filter(|(track, declared)| !declared && !track.name.contains('$'));
    for (track, _) in undefined {
        findings.costly(
            Code::TrackUndefined,
            track.directive.span(),
            format!(
                "nothing called `{}` is declared in this file, so it is not tracked",
                track.name
            ),
            "declare it, or correct the name",
            Cost::endless("nothing watches what it names"),
        );
    }
    let group = config.sync_group(instance);
    if all.is_empty() && group.is_none_or(|group| group.tracks.is_empty()) {
        untracked(config, instance, service, findings);
    }
}

/// An instance that neither tracks anything nor is in a sync group that does.
fn untracked(config: &Config, instance: &Instance, service: Service, findings: &mut Findings<'_>) {
    let group = config.sync_group(instance);
    let mut interfaces = instance.track_interfaces.iter();
    let interface = interfaces.next().is_some()
        || group.is_some_and(|group| !group.track_interfaces.is_empty());
    let (when, hint, cost) = match service {
        Service::Haproxy => (
            "haproxy ends",
            "track a file that haproxy's supervisor writes, and a script that asks haproxy",
            "haproxy is dead and the machine lives",
        ),
        // The kernel does not end; the machine may be cut off from the real servers.
        Service::Kernel if interface => return,
        Service::Kernel => (
            "this machine no longer reaches the real servers",
            "track the interface towards the real servers: `track_interface`",
            "the machine is cut off from the real servers and lives",
        ),
        Service::Unknown => (
            "the service that it leads to ends",
            "track a file that the service's supervisor writes, and a script that asks the service",
            "the service is dead and the machine lives",
        ),
    };
    findings.costly(
        Code::NoTracking,
        instance.directive.span(),
        format!(
            "`{}` tracks nothing: it keeps the virtual IP when {when}",
            instance.name
        ),
        hint,
        Cost::endless(cost),
    );
}
