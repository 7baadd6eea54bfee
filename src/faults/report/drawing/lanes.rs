//! Lanes: what was so, from when to when, for everything that was watched.

use std::collections::{BTreeMap, BTreeSet};

use super::{Drawing, Rectangle, SPACE, Scale, Words, moment, tenth, width};
use crate::faults::fault::{Action, Fault};
use crate::faults::trial::Trial;
use crate::faults::watch::Subject;

/// Height of a lane.
const LANE: f64 = 16.0;
/// Room between two lanes.
const GAP: f64 = 4.0;
/// So many lanes are drawn in any case; beyond, only those in which something changed …
const FEW: usize = 14;
/// … and no more than this.
const MOST: usize = 28;
/// Colours for names.
const COLOURS: usize = 6;

/// A thing that was watched, and what became of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Lane {
    pub name: String,
    pub subject: Subject,
    pub states: Vec<State>,
}

/// What was so for a while. In milliseconds since the load began.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct State {
    pub from_ms: f64,
    pub to_ms: f64,
    /// Names, or haproxy's word; empty if nobody.
    pub is: String,
    /// Which look it has.
    pub class: String,
}

impl State {
    /// The state as a word.
    pub(super) fn says(&self) -> &str {
        if self.is.is_empty() {
            "nobody"
        } else {
            &self.is
        }
    }
}

impl Lane {
    /// Whether it tells who has something, of which there should be one.
    pub(super) fn is_owner(&self) -> bool {
        !matches!(self.subject, Subject::Server { .. })
    }
}

/// Everybody who ever had the virtual IP or was primary, for a colour of their own that is the
/// same in every drawing.
#[derive(Debug)]
pub(in super::super) struct Names<'t>(Vec<&'t str>);

impl<'t> Names<'t> {
    /// Of all trials that will be drawn.
    pub(in super::super) fn of(trials: &'t [Trial]) -> Self {
        let changes = || trials.iter().flat_map(|trial| &trial.timeline.changes);
        let who = |subject: &Subject| -> BTreeSet<&'t str> {
            let owners = changes().filter(|change| change.subject == *subject);
            owners
                .flat_map(|change| change.is.split(", "))
                .filter(|name| !name.is_empty())
                .collect()
        };
        let owners = who(&Subject::VirtualIp).into_iter();
        Self(owners.chain(who(&Subject::Primary)).collect())
    }

    fn class(&self, name: &str) -> Option<String> {
        let index = self.0.iter().position(|known| *known == name)?;
        Some(format!("owner-{}", index % COLOURS))
    }
}

/// Every lane of a trial: the virtual IP, each app server for each load balancer, the primary.
pub(super) fn of(trial: &Trial, names: &Names) -> Vec<Lane> {
    let timeline = &trial.timeline;
    let mut lanes: BTreeMap<&Subject, Vec<State>> = BTreeMap::new();
    for change in &timeline.changes {
        let states = lanes.entry(&change.subject).or_default();
        if let Some(last) = states.last_mut() {
            last.to_ms = change.at_ms;
        }
        states.push(State {
            from_ms: change.at_ms,
            to_ms: timeline.end_ms,
            is: change.is.clone(),
            class: String::new(),
        });
    }
    let off = off(trial);
    lanes
        .into_iter()
        .map(|(subject, mut states)| {
            if let Subject::Server { by, .. } = subject {
                states = states
                    .into_iter()
                    .flat_map(|state| off.hide(state, by))
                    .collect();
            }
            for state in &mut states {
                state.class = class(subject, &state.is, names);
            }
            Lane {
                name: name(subject),
                subject: subject.clone(),
                states,
            }
        })
        .collect()
}

fn name(subject: &Subject) -> String {
    match subject {
        Subject::VirtualIp => "virtual IP at".into(),
        Subject::Server { app, by } => format!("{app} for {by}"),
        Subject::Primary => "primary".into(),
    }
}

/// The look of a state.
fn class(subject: &Subject, is: &str, names: &Names) -> String {
    let Subject::Server { .. } = subject else {
        return match names.class(is) {
            Some(class) => class,
            None if is.is_empty() => "nobody".into(),
            None => "several".into(),
        };
    };
    // haproxy says `UP 1/3` of a server that has begun to fail, `DOWN 1/2` of one that recovers.
    if is == OFF {
        return "off".into();
    }
    let look = match is.split(' ').next().unwrap_or_default() {
        "UP" if is == "UP" => "up",
        "UP" => "failing",
        "DOWN" => "down",
        _ => "away",
    };
    look.into()
}

/// What a load balancer says that has no power, shuts down or starts.
const OFF: &str = "off or on its way";

/// Nodes that had no power for a while: what they said last was no longer so, and is not
/// known again until they say something else, or everything is whole.
struct Off<'t> {
    nodes: &'t [String],
    from_ms: f64,
    to_ms: f64,
}

fn off(trial: &Trial) -> Off<'_> {
    let has_no_power = Fault::named(&trial.fault)
        .is_some_and(|fault| matches!(fault.action, Action::PowerOff | Action::ShutDown));
    Off {
        nodes: if has_no_power { &trial.nodes } else { &[] },
        from_ms: trial.timeline.broken_ms,
        to_ms: trial.timeline.whole_ms,
    }
}

impl Off<'_> {
    /// A state as it was said by `by`, without the time in which that could say nothing.
    fn hide(&self, state: State, by: &str) -> Vec<State> {
        let is_over = state.from_ms >= self.from_ms || state.to_ms <= self.from_ms;
        if is_over || !self.nodes.iter().any(|node| node == by) {
            return vec![state];
        }
        let to = state.to_ms.min(self.to_ms);
        let between = |from_ms: f64, to_ms: f64, is: &str| State {
            from_ms,
            to_ms,
            is: is.to_owned(),
            class: String::new(),
        };
        [
            between(state.from_ms, self.from_ms, &state.is),
            between(self.from_ms, to, OFF),
            between(to, state.to_ms, &state.is),
        ]
        .into_iter()
        .filter(|state| state.from_ms < state.to_ms)
        .collect()
    }
}

/// Draws the lanes from `top` on; returns where they end.
pub(super) fn draw(sheet: &mut Drawing, lanes: &[Lane], scale: Scale, top: f64) -> f64 {
    let told = |lane: &&Lane| lane.is_owner() || lane.states.len() > 1 || lanes.len() <= FEW;
    let drawn: Vec<&Lane> = lanes.iter().filter(told).collect();
    let fits: Vec<&Lane> = drawn
        .iter()
        .copied()
        .filter(|lane| lane.is_owner())
        .chain(
            drawn
                .iter()
                .copied()
                .filter(|lane| !lane.is_owner())
                .take(MOST),
        )
        .collect();
    let mut y = top;
    for lane in drawn.iter().filter(|lane| fits.contains(lane)) {
        sheet.name(&lane.name, scale, y + LANE - 4.0);
        for state in &lane.states {
            draw_state(sheet, lane, state, scale, y);
        }
        y += LANE + GAP;
    }
    sheet.left_out = left_out(lanes.len() - drawn.len(), drawn.len() - fits.len());
    y - GAP + SPACE
}

fn draw_state(sheet: &mut Drawing, lane: &Lane, state: &State, scale: Scale, y: f64) {
    let (x, to) = (scale.x(state.from_ms), scale.x(state.to_ms));
    let since = |ms: f64| moment(ms - scale.broken_ms);
    // Whatever was so is seen, however short it was.
    let room = tenth((to - x).max(1.5).min(scale.right - x));
    sheet.boxes.push(Rectangle {
        class: state.class.clone(),
        x,
        y: tenth(y),
        width: room,
        height: LANE,
        title: format!(
            "{}: {}, {} to {}",
            lane.name,
            state.says(),
            since(state.from_ms),
            since(state.to_ms)
        ),
    });
    if width(state.says()) + 8.0 <= room {
        sheet.words.push(Words {
            class: "state",
            x: tenth(x + 4.0),
            y: tenth(y + LANE - 4.0),
            anchor: "start",
            text: state.says().to_owned(),
            title: String::new(),
        });
    }
    for key in ["nobody", "several", "up", "failing", "down", "away", "off"] {
        if state.class == key {
            sheet.key(key);
        }
    }
}

fn left_out(calm: usize, too_many: usize) -> Option<String> {
    let calm = (calm > 0).then(|| format!("{calm} lanes in which nothing changed"));
    let too_many = (too_many > 0).then(|| format!("{too_many} more"));
    let said: Vec<String> = calm.into_iter().chain(too_many).collect();
    (!said.is_empty()).then(|| format!("Not drawn: {}.", said.join(" and ")))
}
