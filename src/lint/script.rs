//! Traps in the scripts by which Keepalived learns that haproxy is gone.

use std::ops::Range;

use super::cost::time;
use super::{Code, Cost, Findings};
use crate::native::keepalived::{Config, Instance, Script};

/// Longest detection by a script that is not called slow, in seconds.
const DETECTION: f64 = 3.0;

/// Everything about one script that is tracked.
pub(super) fn one(config: &Config, script: &Script, findings: &mut Findings<'_>) {
    times(script, findings);
    slow_script(config, script, findings);
    command(config, script, findings);
    security(config, script, findings);
}

/// Where a statement of the script is, or its head.
fn place(script: &Script, word: &str) -> Range<usize> {
    let block = script.block.child(word);
    block.map_or(script.directive.span(), |block| block.head.span())
}

fn times(script: &Script, findings: &mut Findings<'_>) {
    if let Some(written) = script
        .block
        .value("interval")
        .filter(|text| text.contains('.'))
    {
        findings.note(
            Code::ScriptIntervalFraction,
            place(script, "interval"),
            format!("Keepalived before 2.3.2 ignores `interval {written}` and takes 1 s"),
            "write whole seconds, and track a file for what has to be quick",
        );
    }
    let (interval, fall) = (f64::from(script.interval), script.fall);
    if script.timeout > script.interval {
        let timeout = f64::from(script.timeout);
        findings.costly(
            Code::ScriptTimeoutOverInterval,
            place(script, "timeout"),
            format!(
                "`{}` may run for {}, longer than its interval of {}",
                script.name,
                time(timeout),
                time(interval)
            ),
            "keep `timeout` at `interval` or below",
            Cost::of(
                timeout * f64::from(fall) + interval,
                format!(
                    "interval {} + fall {fall} × timeout {}, when haproxy hangs",
                    time(interval),
                    time(timeout)
                ),
            ),
        );
    }
}

fn command(config: &Config, script: &Script, findings: &mut Findings<'_>) {
    let command = &script.script;
    let words: Vec<&str> = command
        .split(|c: char| c.is_whitespace() || "\"';|&".contains(c))
        .collect();
    let names = |programs: &[&str]| {
        words.iter().any(|word| {
            programs
                .iter()
                .any(|name| word.rsplit('/').next() == Some(*name))
        })
    };
    let looks = names(&["pidof", "pgrep"])
        || (names(&["killall", "kill", "pkill"]) && words.contains(&"-0"))
        || (names(&["systemctl"]) && words.contains(&"is-active"));
    if looks {
        findings.costly(
            Code::CheckSeesProcessOnly,
            place(script, "script"),
            format!(
                "`{}` sees that a process exists, not that it answers",
                script.name
            ),
            "ask the service itself; haproxy answers a `monitor-uri` on 127.0.0.1",
            Cost::endless("a service that hangs keeps the virtual IP"),
        );
    }
    let virtual_ip = config
        .instances
        .iter()
        .flat_map(Instance::moving)
        .find(|address| mentions(command, &address.address));
    if let Some(address) = virtual_ip {
        findings.costly(
            Code::CheckAsksVirtualIp,
            place(script, "script"),
            format!(
                "`{}` asks {}, which is another node on every backup",
                script.name, address.address
            ),
            "ask 127.0.0.1 or the node's own address",
            Cost::endless("every node is in FAULT when the owner's service ends"),
        );
    }
}

/// Whether `text` names the address, and not a longer one that contains it.
fn mentions(text: &str, address: &str) -> bool {
    let part = |c: char| c.is_ascii_hexdigit() || c == '.';
    !address.is_empty()
        && text.match_indices(address).any(|(at, _)| {
            let before = text[..at].chars().next_back();
            let after = text[at + address.len()..].chars().next();
            !before.is_some_and(part) && !after.is_some_and(part)
        })
}

fn slow_script(config: &Config, script: &Script, findings: &mut Findings<'_>) {
    if script.longest_detection() <= DETECTION {
        return;
    }
    let Some((instance, track)) = config.instances.iter().find_map(|instance| {
        let track = instance
            .track_scripts
            .iter()
            .find(|track| track.name == script.name)?;
        Some((instance, track))
    }) else {
        return;
    };
    let runs = format!(
        "interval {} × fall {}",
        time(f64::from(script.interval)),
        script.fall
    );
    let (wait, formula) = if config.script_weight(track) == 0 {
        (instance.skew(), format!("{runs} + skew {}", skew(instance)))
    } else {
        (
            instance.master_down(),
            format!("{runs} + {}", patience(instance)),
        )
    };
    findings.costly(
        Code::SlowScript,
        place(script, "interval"),
        format!(
            "`{}` notices a dead service after up to {}",
            script.name,
            time(script.longest_detection())
        ),
        "`interval 1`, `fall 2`, no weight; and track a file that the service's supervisor writes",
        Cost::of(script.longest_detection() + wait, formula),
    );
}

/// `3 × 1 s + (256 - 100) / 256 × 1 s`.
pub(super) fn patience(instance: &Instance) -> String {
    let interval = time(instance.advert_interval());
    format!(
        "{} × {interval} + {}",
        instance.down_timer_adverts,
        skew(instance)
    )
}

/// `(256 - 100) / 256 × 1 s`.
pub(super) fn skew(instance: &Instance) -> String {
    let unit = if instance.version == 3 {
        instance.advert_interval()
    } else {
        1.0
    };
    format!("(256 - {}) / 256 × {}", instance.priority, time(unit))
}

fn security(config: &Config, script: &Script, findings: &mut Findings<'_>) {
    if !config.global.enable_script_security {
        return;
    }
    let path = script.script.split_whitespace().next().unwrap_or_default();
    let open = ["/tmp/", "/var/tmp/", "/dev/shm/", "/home/"];
    let nobody = script.user.is_none() && config.global.script_user.is_none();
    let why = if let Some(place) = open.iter().find(|place| path.starts_with(**place)) {
        format!(
            "others than root can write in {place}, so that Keepalived disables `{}`",
            script.name
        )
    } else if nobody {
        format!(
            "`{}` runs as `keepalived_script`, and is disabled where that user can't run it",
            script.name
        )
    } else {
        return;
    };
    findings.costly(
        Code::ScriptMayBeIgnored,
        place(script, "script"),
        why,
        "put the script where only root writes, and name a `script_user`",
        Cost::endless("nothing watches the service"),
    );
}
