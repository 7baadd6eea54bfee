//! Traps that one Keepalived file shows by itself.

use std::net::IpAddr;
use std::ops::Range;

use super::cost::time;
use super::script::{self, patience, skew};
use super::tracking::{Service, tracking};
use super::{Code, Cost, Finding, Findings, Spot, ipvs};
use crate::native::Directive;
use crate::native::keepalived::{Block, Config, Instance, Peer, State, Track};

/// Longest patience with a silent owner that is not called slow, in seconds.
const PATIENCE: f64 = 1.0;
/// Longest wait of a successor after the owner resigned that is not called slow, in seconds.
const HAND_OVER: f64 = 0.1;

/// Everything about one configuration; `is_haproxy` says that a file of haproxy is beside it.
pub(super) fn file(config: &Config, is_haproxy: bool, findings: &mut Findings<'_>) {
    ipvs::unchecked(config, findings);
    if config.instances.is_empty() {
        return;
    }
    global(config, findings);
    for script in &config.scripts {
        if tracks(config).any(|track| track.name == script.name) {
            script::one(config, script, findings);
        }
    }
    for process in &config.track_processes {
        findings.note(
            Code::TrackProcessInNamespace,
            process.directive.span(),
            format!(
                "`track_process {}` works in the first network namespace only",
                process.name
            ),
            "in containers, track a file that the supervisor of the service writes",
        );
    }
    let service = Service::of(config, is_haproxy);
    for instance in &config.instances {
        values(instance, findings);
        timing(config, instance, findings);
        adverts(instance, findings);
        addresses(instance, findings);
        tracking(config, instance, service, findings);
        state(config, instance, findings);
    }
    clashes(config, findings);
}

/// Instances of one file with the same number on the same interface.
fn clashes(config: &Config, findings: &mut Findings<'_>) {
    let clash = |one: &Instance, other: &Instance| {
        one.virtual_router_id.is_some()
            && one.virtual_router_id == other.virtual_router_id
            && one.interface == other.interface
            && !one.interface.contains('$')
            && one.is_ipv6() == other.is_ipv6()
    };
    for (at, one) in config.instances.iter().enumerate() {
        for other in config.instances[at + 1..]
            .iter()
            .filter(|other| clash(one, other))
        {
            let finding =
                router_id_clash(findings.spot(place(other, "virtual_router_id")), one, other);
            let first = findings.spot(place(one, "virtual_router_id"));
            findings.add(finding.related(first, "also here"));
        }
    }
}

/// Two instances of different addresses with one number.
pub(super) fn router_id_clash(at: Spot, one: &Instance, other: &Instance) -> Finding {
    let id = one.virtual_router_id.unwrap_or_default();
    Finding::new(
        Code::RouterIdClash,
        at,
        format!(
            "`{}` and `{}` both have virtual_router_id {id} on {}",
            one.name, other.name, one.interface
        ),
        "give each group of nodes that share addresses a number of its own, 1 to 255",
    )
    .costs(Cost::endless(
        "the address of the lower priority is on no node",
    ))
}

/// The place of a statement of an instance, or its head.
pub(super) fn place(instance: &Instance, word: &str) -> Range<usize> {
    let block = instance.block.child(word);
    block.map_or(instance.directive.span(), |block| block.head.span())
}

/// Every script that an instance or a sync group tracks.
fn tracks(config: &Config) -> impl Iterator<Item = Track> + '_ {
    let instances = config
        .instances
        .iter()
        .flat_map(|instance| instance.track_scripts.iter().cloned());
    instances.chain(group_tracks(config))
}

/// What sync groups track: scripts, files and processes alike.
fn group_tracks(config: &Config) -> impl Iterator<Item = Track> + '_ {
    let groups = config.sync_groups.iter();
    groups.flat_map(|group| group.tracks.iter().cloned())
}

fn global(config: &Config, findings: &mut Findings<'_>) {
    let head = config
        .global
        .directive
        .as_ref()
        .or(config.instances.first().map(|first| &first.directive));
    let head = head.map_or(0..0, Directive::span);
    if !config.global.reload_check_config && config.includes.is_empty() {
        findings.costly(
            Code::NoReloadCheck,
            head.clone(),
            "a reload with a mistake ends Keepalived and leaves the virtual IP behind",
            "add `reload_check_config` to `global_defs`",
            Cost::endless("two nodes have the virtual IP"),
        );
    }
    let strict = config
        .instances
        .iter()
        .filter_map(|instance| instance.block.child("strict_mode").map(|block| &block.head))
        .find(|line| !matches!(line.word(1), "off" | "false" | "no"));
    if let Some(strict) = config.global.strict.as_ref().or(strict) {
        findings.costly(
            Code::StrictMode,
            strict.span(),
            "in strict mode the owner of the virtual IP does not answer on it, unless its priority is 255",
            "remove it",
            Cost::endless("every connection to the virtual IP"),
        );
    }
}

/// Statements whose numbers have a range, and what becomes of a number outside of it.
const RANGES: [(&str, f64, f64, &str); 3] = [
    ("priority", 1.0, 255.0, "and uses 100"),
    (
        "virtual_router_id",
        1.0,
        255.0,
        "and leaves the instance out",
    ),
    ("advert_int", 0.01, 255.0, "and uses 1"),
];

fn values(instance: &Instance, findings: &mut Findings<'_>) {
    for (word, least, most, then) in RANGES {
        let written = instance.block.value(word).unwrap_or_default();
        let number = written.parse::<f64>().ok();
        let Some(_) = number.filter(|number| *number < least || *number > most) else {
            continue;
        };
        findings.costly(
            Code::ValueIgnored,
            place(instance, word),
            format!("Keepalived does not take `{word} {written}` {then}"),
            format!("write a number from {least} to {most}"),
            Cost::endless("this node does not do what the file says"),
        );
    }
}

fn timing(config: &Config, instance: &Instance, findings: &mut Findings<'_>) {
    // The version may stand in a file that is not known.
    let version = config.includes.is_empty() || config.global.version.is_some();
    if !version || !instance.knows("advert_int") || !instance.knows("priority") {
        return;
    }
    let written = instance.advert_int;
    let rounded = instance.version != 3 && (written - instance.advert_interval()).abs() > 1e-6;
    let cost = Cost::of(instance.master_down(), patience(instance));
    if rounded {
        findings.costly(
            Code::AdvertsRounded,
            place(instance, "advert_int"),
            format!(
                "VRRP version 2 makes {} of `advert_int {written}`",
                time(instance.advert_interval())
            ),
            "set `vrrp_version 3` in `global_defs`",
            cost,
        );
    } else if instance.master_down() > PATIENCE {
        findings.costly(
            Code::SlowAdverts,
            place(instance, "advert_int"),
            format!(
                "this node waits {} for a dead owner of the virtual IP",
                time(instance.master_down())
            ),
            "`vrrp_version 3` and `advert_int 0.1`; 0.3 where virtual machines share a host",
            cost,
        );
    }
    if instance.skew() > HAND_OVER {
        findings.costly(
            Code::SlowHandOver,
            place(instance, "priority"),
            format!(
                "this node waits {} even when the owner resigns in order",
                time(instance.skew())
            ),
            "use high priorities: 254, 244, 234",
            Cost::of(instance.skew(), skew(instance)),
        );
    }
}

fn adverts(instance: &Instance, findings: &mut Findings<'_>) {
    if instance.unicast_peers.is_empty() && instance.block.child("unicast_peer").is_none() {
        findings.costly(
            Code::Multicast,
            instance.directive.span(),
            format!(
                "`{}` sends multicast, which many networks do not deliver",
                instance.name
            ),
            "name the other nodes in `unicast_peer`, and this one in `unicast_src_ip`",
            Cost::endless("where multicast is not delivered every node has the virtual IP"),
        );
    }
    let own = instance.unicast_src_ip.as_deref();
    let ipv6 = |peer: &&Peer| peer.address.contains(':');
    if let Some(peer) = instance
        .unicast_peers
        .iter()
        .find(ipv6)
        .filter(|_| own.is_none())
    {
        findings.costly(
            Code::UnicastSourceMissing,
            peer.directive.span(),
            format!(
                "`{}` has IPv6 peers and no `unicast_src_ip`: Keepalived can't bind the link-local address that it takes",
                instance.name
            ),
            "name this node's own address in `unicast_src_ip`",
            Cost::endless("the instance is in FAULT, and the virtual IP on no node"),
        );
    }
    if let Some(peer) = instance
        .unicast_peers
        .iter()
        .find(|peer| Some(&*peer.address) == own)
    {
        findings.note(
            Code::PeerIsSelf,
            peer.directive.span(),
            format!("{} is this node itself", peer.address),
            "list the other nodes",
        );
    }
    if let Some(auth) = instance
        .authentication
        .as_ref()
        .filter(|_| instance.version == 3)
    {
        findings.note(
            Code::AuthenticationIgnored,
            auth.directive.span(),
            "VRRP version 3 has no authentication; this block does nothing",
            "remove it; unicast, `vrrp_check_unicast_src` and the firewall say who may speak",
        );
    }
}

fn addresses(instance: &Instance, findings: &mut Findings<'_>) {
    for address in instance
        .moving()
        .filter(|address| address.prefix.is_none() && address.address.parse::<IpAddr>().is_ok())
    {
        let length = if address.address.contains(':') {
            128
        } else {
            32
        };
        findings.note(
            Code::AddressWithoutPrefix,
            address.directive.span(),
            format!("{} is added as {0}/{length}", address.address),
            "write the prefix length",
        );
    }
}

fn state(config: &Config, instance: &Instance, findings: &mut Findings<'_>) {
    if instance.nopreempt && instance.state == State::Master {
        findings.note(
            Code::NopreemptIgnored,
            place(instance, "nopreempt"),
            "Keepalived takes `nopreempt` back, because the initial state is MASTER",
            "`state BACKUP` on every node",
        );
    }
    if instance.priority == 255 {
        findings.note(
            Code::Priority255,
            place(instance, "priority"),
            "priority 255 can't be lowered by any check, and always takes the virtual IP back",
            "use 254 at most",
        );
    }
    if !instance.preempts() {
        weight_without_preemption(config, instance, findings);
    }
}

fn weight_without_preemption(config: &Config, instance: &Instance, findings: &mut Findings<'_>) {
    let weighted = weights(config, instance)
        .into_iter()
        .find(|(_, weight)| *weight != 0);
    if let Some((track, weight)) = weighted {
        let at = findings.spot(place(instance, "nopreempt"));
        let other = findings.spot(weight_place(config, track));
        findings.add(
            Finding::new(
                Code::NopreemptWithWeight,
                at,
                format!("with `nopreempt` a backup accepts the lower priority that a failed `{}` leads to", track.name),
                "leave the weight out, so that a failed check is FAULT",
            )
            .related(other, format!("weight {weight}"))
            .costs(Cost::endless("the virtual IP stays where the check fails")),
        );
    }
}

/// What an instance tracks, and what a failure adds to its priority or takes from it.
pub(super) fn weights<'i>(config: &Config, instance: &'i Instance) -> Vec<(&'i Track, i32)> {
    let scripts = instance.track_scripts.iter();
    let scripts = scripts.map(|track| (track, config.script_weight(track)));
    let processes = instance.track_processes.iter();
    let processes = processes.map(|track| (track, process_weight(config, track)));
    let files = instance.track_files.iter();
    let files = files.filter_map(|track| Some((track, file_weight(config, track)?)));
    scripts.chain(processes).chain(files).collect()
}

/// What the number 1 in a tracked file does to the priority. Without a weight that is
/// written down, and with one that makes it FAULT, the file's number decides.
fn file_weight(config: &Config, track: &Track) -> Option<i32> {
    let declared = config.track_file(&track.name).map(|file| file.weight);
    let weight = track.weight.or(declared)?;
    (1 < weight.abs() && weight.abs() < 254).then_some(weight)
}

/// Where the weight of what is tracked is written: where it is tracked, or where it is declared.
pub(super) fn weight_place(config: &Config, track: &Track) -> Range<usize> {
    let declared = |block: &Block| block.child("weight").map(|weight| weight.head.span());
    let script = config
        .script(&track.name)
        .filter(|_| track.weight.is_none());
    script
        .and_then(|script| declared(&script.block))
        .unwrap_or_else(|| track.directive.span())
}

fn process_weight(config: &Config, track: &Track) -> i32 {
    let declared = config
        .track_process(&track.name)
        .map(|process| process.weight);
    track.weight.or(declared).unwrap_or(0)
}
