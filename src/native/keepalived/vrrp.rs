//! What a Keepalived file says about VRRP, with the daemon's defaults (2.2).

use super::{Block, Directive};

/// Adverts that have to be missing before a backup takes over (`down_timer_adverts`).
const DOWN_TIMER_ADVERTS: f64 = 3.0;

/// `global_defs`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Global {
    /// Its head, if the file has the block.
    pub directive: Option<Directive>,
    /// `vrrp_version`, if set; Keepalived's default is 2.
    pub version: Option<u8>,
    /// `script_user`, if set.
    pub script_user: Option<String>,
    /// Whether scripts that others than root can write are refused.
    pub enable_script_security: bool,
    /// Whether a reload with a mistake is refused (`reload_check_config`).
    pub reload_check_config: bool,
    /// Whether `vrrp_strict` is set.
    pub strict: Option<Directive>,
    /// Whether it names a `net_namespace`.
    pub net_namespace: Option<String>,
    /// Its statements, unknown ones included.
    pub statements: Vec<Directive>,
}

/// The state that an instance starts with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// `MASTER`.
    Master,
    /// `BACKUP`, the default.
    #[default]
    Backup,
}

/// A script, file, process or interface that an instance tracks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Track {
    /// Its name.
    pub name: String,
    /// The weight given at this place.
    pub weight: Option<i32>,
    /// The line.
    pub directive: Directive,
}

/// A unicast peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its address.
    pub address: String,
    /// The line.
    pub directive: Directive,
}

/// A virtual address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address without its prefix.
    pub address: String,
    /// Its prefix length; /32 is taken unless set.
    pub prefix: Option<u8>,
    /// Its interface, unless it is the instance's.
    pub device: Option<String>,
    /// The line.
    pub directive: Directive,
}

/// `authentication { … }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// The block's head.
    pub directive: Directive,
    /// `auth_pass`.
    pub pass: Option<String>,
}

/// A `vrrp_instance`.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    /// Its name.
    pub name: String,
    /// Its head.
    pub directive: Directive,
    /// The statements in it, for places and for what has no field here.
    pub block: Block,
    /// `state`.
    pub state: State,
    /// `interface`.
    pub interface: String,
    /// `virtual_router_id`.
    pub virtual_router_id: Option<u8>,
    /// `priority`, 100 unless set.
    pub priority: u8,
    /// `advert_int` as written, in seconds; 1 unless set.
    pub advert_int: f64,
    /// `down_timer_adverts`, 3 unless set.
    pub down_timer_adverts: f64,
    /// The version in use: its own, else the global one, else 2.
    pub version: u8,
    /// Whether a node of lower priority keeps the address (`nopreempt`).
    pub nopreempt: bool,
    /// `preempt_delay` in seconds.
    pub preempt_delay: Option<f64>,
    /// `unicast_src_ip`.
    pub unicast_src_ip: Option<String>,
    /// `unicast_peer`.
    pub unicast_peers: Vec<Peer>,
    /// `track_script`.
    pub track_scripts: Vec<Track>,
    /// `track_file`.
    pub track_files: Vec<Track>,
    /// `track_process`.
    pub track_processes: Vec<Track>,
    /// `track_interface`.
    pub track_interfaces: Vec<Track>,
    /// `virtual_ipaddress`.
    pub addresses: Vec<Address>,
    /// `virtual_ipaddress_excluded`: addresses that move along and are not in the adverts.
    pub excluded: Vec<Address>,
    /// `authentication`.
    pub authentication: Option<Auth>,
}

/// A `vrrp_sync_group`: instances that are master together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncGroup {
    /// Names of its instances.
    pub members: Vec<String>,
    /// What it tracks for all of them: scripts, files and processes.
    pub tracks: Vec<Track>,
    /// The interfaces that it tracks.
    pub track_interfaces: Vec<Track>,
    /// The statements in it.
    pub block: Block,
}

/// A `vrrp_script`.
#[derive(Clone, Debug, PartialEq)]
pub struct Script {
    /// Its name.
    pub name: String,
    /// Its head.
    pub directive: Directive,
    /// The statements in it.
    pub block: Block,
    /// The command line.
    pub script: String,
    /// Seconds between two runs in effect, 1 unless set. Keepalived 2.2 takes whole
    /// seconds only: what is written with a fraction is ignored.
    pub interval: u32,
    /// Seconds after which a run is ended and has failed; one interval unless set.
    pub timeout: u32,
    /// Failed runs in a row that count, 1 unless set.
    pub fall: u32,
    /// Passed runs in a row that count, 1 unless set.
    pub rise: u32,
    /// What a failed run adds to the priority; 0 (FAULT) unless set.
    pub weight: Option<i32>,
    /// `user`.
    pub user: Option<String>,
    /// Whether it counts as failed until it has passed.
    pub init_fail: bool,
}

/// A `track_file` block: a file whose number, times a weight, is added to the priority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackFile {
    /// Its name.
    pub name: String,
    /// Its head.
    pub directive: Directive,
    /// The file.
    pub file: String,
    /// Weight, 1 unless set; 0 makes any number but 0 a FAULT.
    pub weight: i32,
}

/// A `track_process` block.
#[derive(Clone, Debug, PartialEq)]
pub struct TrackProcess {
    /// Its name.
    pub name: String,
    /// Its head.
    pub directive: Directive,
    /// The process.
    pub process: String,
    /// Weight; 0 (FAULT) unless set.
    pub weight: i32,
    /// Seconds that a process may be gone before it counts (`delay`, `terminate_delay`).
    pub delay: f64,
}

impl Global {
    pub(super) fn of<'b>(blocks: impl Iterator<Item = &'b Block>) -> Self {
        let mut global = Self::default();
        for block in blocks {
            global.directive.get_or_insert_with(|| block.head.clone());
            for child in &block.children {
                let value = child.head.words.get(1);
                match child.head.word(0) {
                    "vrrp_version" => global.version = value.and_then(|text| text.parse().ok()),
                    "script_user" => global.script_user = value.cloned(),
                    "enable_script_security" => global.enable_script_security = true,
                    "reload_check_config" => global.reload_check_config = true,
                    "vrrp_strict" => global.strict = Some(child.head.clone()),
                    "net_namespace" => global.net_namespace = value.cloned(),
                    _ => {}
                }
                global.statements.push(child.head.clone());
            }
        }
        global
    }
}

impl Instance {
    pub(super) fn of(block: &Block, version: Option<u8>) -> Self {
        let track = |word| tracks(block, word);
        let addresses = |word| {
            let children = block.inside(word);
            children.map(|child| Address::of(&child.head)).collect()
        };
        let state = match block.value("state") {
            Some("MASTER") => State::Master,
            _ => State::Backup,
        };
        Self {
            name: block.head.word(1).to_owned(),
            directive: block.head.clone(),
            state,
            interface: block.value("interface").unwrap_or_default().to_owned(),
            virtual_router_id: number(block, "virtual_router_id"),
            priority: number(block, "priority").unwrap_or(100),
            advert_int: seconds(block, "advert_int").unwrap_or(1.0),
            down_timer_adverts: seconds(block, "down_timer_adverts").unwrap_or(DOWN_TIMER_ADVERTS),
            version: number(block, "version").or(version).unwrap_or(2),
            nopreempt: block.child("nopreempt").is_some(),
            preempt_delay: seconds(block, "preempt_delay"),
            unicast_src_ip: block.value("unicast_src_ip").map(str::to_owned),
            unicast_peers: block
                .inside("unicast_peer")
                .map(|child| Peer::of(&child.head))
                .collect(),
            track_scripts: track("track_script"),
            track_files: track("track_file"),
            track_processes: track("track_process"),
            track_interfaces: track("track_interface"),
            addresses: addresses("virtual_ipaddress"),
            excluded: addresses("virtual_ipaddress_excluded"),
            authentication: block.child("authentication").map(|child| Auth {
                directive: child.head.clone(),
                pass: child.value("auth_pass").map(str::to_owned),
            }),
            block: block.clone(),
        }
    }

    /// Every address that moves with it.
    pub fn moving(&self) -> impl Iterator<Item = &Address> {
        self.addresses.iter().chain(&self.excluded)
    }

    /// Whether its adverts go over IPv6, if the file says so.
    pub fn is_ipv6(&self) -> Option<bool> {
        if self.block.child("native_ipv6").is_some() {
            return Some(true);
        }
        let peers = self.unicast_peers.iter().map(|peer| &peer.address);
        let mut addresses = self.addresses.iter().map(|own| &own.address).chain(peers);
        let known = addresses.find(|address| !address.contains('$'))?;
        Some(known.contains(':'))
    }

    /// Whether the file tells the value of each of its statements that begin with `word`: no
    /// parameter in it is unknown.
    pub fn knows(&self, word: &str) -> bool {
        let mut lines = self.block.children.iter();
        !lines.any(|child| {
            child.head.word(0) == word && child.head.words.iter().any(|word| word.contains('$'))
        })
    }

    /// `advert_int` in effect, in seconds. Version 2 rounds to whole seconds, at least
    /// one; version 3 to hundredths, 0.01 to 40.95.
    pub fn advert_interval(&self) -> f64 {
        if self.version == 3 {
            ((self.advert_int * 100.0).round() / 100.0).clamp(0.01, 40.95)
        } else {
            self.advert_int.round().clamp(1.0, 255.0)
        }
    }

    /// Whether it takes the address from an owner of lower priority. `nopreempt` is
    /// taken back where the state is MASTER or the priority 255.
    pub fn preempts(&self) -> bool {
        !self.nopreempt || self.state == State::Master || self.priority == 255
    }

    /// What this node waits beyond missing adverts before it takes over, in seconds:
    /// (256 - priority) / 256, of an advert interval in version 3 (RFC 9568) and of
    /// a second in version 2 (RFC 3768). All it waits when the owner resigns.
    pub fn skew(&self) -> f64 {
        let share = f64::from(256 - u16::from(self.priority)) / 256.0;
        if self.version == 3 {
            share * self.advert_interval()
        } else {
            share
        }
    }

    /// The longest this node waits for a silent owner, in seconds: the missing
    /// adverts (three unless `down_timer_adverts` says otherwise) and the skew.
    pub fn master_down(&self) -> f64 {
        self.down_timer_adverts * self.advert_interval() + self.skew()
    }
}

impl SyncGroup {
    pub(super) fn of(block: &Block) -> Self {
        let members = block.inside("group").flat_map(|child| &child.head.words);
        let all = ["track_script", "track_file", "track_process"];
        Self {
            members: members.cloned().collect(),
            tracks: all.iter().flat_map(|word| tracks(block, word)).collect(),
            track_interfaces: tracks(block, "track_interface"),
            block: block.clone(),
        }
    }
}

/// What the blocks called `word` track.
fn tracks(block: &Block, word: &str) -> Vec<Track> {
    let children = block.inside(word);
    children.map(|child| Track::of(&child.head)).collect()
}

impl Track {
    /// `NAME`, `NAME weight W`, or `NAME weight W reverse`.
    fn of(directive: &Directive) -> Self {
        let weight = directive.words.iter().position(|word| word == "weight");
        Self {
            name: directive.word(0).to_owned(),
            weight: weight.and_then(|at| directive.word(at + 1).parse().ok()),
            directive: directive.clone(),
        }
    }
}

impl Peer {
    fn of(directive: &Directive) -> Self {
        Self {
            address: directive.word(0).to_owned(),
            directive: directive.clone(),
        }
    }
}

impl Address {
    /// `ADDRESS[/PREFIX] [dev INTERFACE] …`.
    fn of(directive: &Directive) -> Self {
        let written = directive.word(0);
        let (address, prefix) = written.split_once('/').unwrap_or((written, ""));
        let device = directive.words.iter().position(|word| word == "dev");
        Self {
            address: address.to_owned(),
            prefix: prefix.parse().ok(),
            device: device.and_then(|at| directive.words.get(at + 1).cloned()),
            directive: directive.clone(),
        }
    }
}

impl Script {
    pub(super) fn of(block: &Block) -> Self {
        let interval = number(block, "interval").unwrap_or(1).max(1);
        Self {
            name: block.head.word(1).to_owned(),
            directive: block.head.clone(),
            script: block
                .child("script")
                .map(|child| child.head.words[1..].join(" "))
                .unwrap_or_default(),
            interval,
            timeout: number(block, "timeout").unwrap_or(interval).max(1),
            fall: number(block, "fall").unwrap_or(1),
            rise: number(block, "rise").unwrap_or(1),
            weight: number(block, "weight"),
            user: block.value("user").map(str::to_owned),
            init_fail: block.child("init_fail").is_some(),
            block: block.clone(),
        }
    }

    /// The longest time from a fault until the script counts as failed, in seconds, when
    /// each run fails at once: `interval × fall`.
    pub fn longest_detection(&self) -> f64 {
        f64::from(self.interval) * f64::from(self.fall)
    }

    /// The same when what it asks hangs, and each run has to time out:
    /// `interval × fall + timeout`.
    pub fn longest_detection_of_hang(&self) -> f64 {
        self.longest_detection() + f64::from(self.timeout)
    }
}

impl TrackFile {
    pub(super) fn of(block: &Block) -> Self {
        Self {
            name: block.head.word(1).to_owned(),
            directive: block.head.clone(),
            file: block.value("file").unwrap_or_default().to_owned(),
            weight: number(block, "weight").unwrap_or(1),
        }
    }
}

impl TrackProcess {
    pub(super) fn of(block: &Block) -> Self {
        let delay = seconds(block, "terminate_delay").or_else(|| seconds(block, "delay"));
        Self {
            name: block.head.word(1).to_owned(),
            directive: block.head.clone(),
            process: block
                .child("process")
                .map(|child| child.head.words[1..].join(" "))
                .unwrap_or_default(),
            weight: number(block, "weight").unwrap_or(0),
            delay: delay.unwrap_or(0.0),
        }
    }
}

fn number<T: std::str::FromStr>(block: &Block, word: &str) -> Option<T> {
    block.value(word)?.parse().ok()
}

/// A number of seconds that is neither negative nor infinite.
fn seconds(block: &Block, word: &str) -> Option<f64> {
    let value: f64 = number(block, word)?;
    (value.is_finite() && value >= 0.0).then_some(value)
}
