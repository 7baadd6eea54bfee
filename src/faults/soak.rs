//! Random faults, one or two at a time, for a while: what nobody thought of, and whether
//! an acknowledged write is ever lost.

use serde::{Deserialize, Serialize};

use super::bound::{Bound, Loss};
use super::catalogue::CATALOGUE;
use super::fault::{Action, Fault};
use super::timing::Timing;

/// The second fault comes at most so much later than the first, in milliseconds.
const WITHIN: u64 = 2000;

/// How long it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Soak {
    /// At most so many trials.
    pub trials: u32,
    /// No trial begins later than this, in seconds.
    pub seconds: u64,
}

/// A fault that comes while another lasts.
#[derive(Clone, Copy, Debug)]
pub struct Second {
    /// Which.
    pub fault: &'static Fault,
    /// How much later, in milliseconds.
    pub after_ms: u64,
}

impl Second {
    /// What two faults may cost: anything but what was acknowledged. Nobody promises a time for two at once.
    pub fn bound() -> Bound {
        Bound::losing(Loss::Everything)
    }
}

/// The faults to choose from. Left out is what needs another load or another disk.
pub fn candidates(timing: &Timing, is_able: &dyn Fn(Action) -> bool) -> Vec<&'static Fault> {
    let is_fit = |fault: &&Fault| {
        fault.load_factor() == 1
            && fault.action != Action::FillDisk
            && fault.lacks(timing).is_none()
            && is_able(fault.action)
    };
    CATALOGUE.iter().filter(is_fit).collect()
}

/// What trial `number` tries: one fault, or in every other trial two. The same `seed` chooses the same.
pub fn choose(
    candidates: &[&'static Fault],
    seed: u64,
    number: u32,
) -> Option<(&'static Fault, Option<Second>)> {
    let mut state = scattered(seed.wrapping_add(scattered(u64::from(number))));
    let mut below = |limit: u64| {
        state = scattered(state);
        state % limit.max(1)
    };
    let count = u64::try_from(candidates.len()).ok()?;
    let mut one = || candidates.get(usize::try_from(below(count)).ok()?).copied();
    let (first, second) = (one()?, one()?);
    let after_ms = below(WITHIN);
    // There is no second fault where nothing is left to break.
    let is_double = number % 2 == 1 && first.name != second.name && first.name != "blackout";
    let second = Second {
        fault: second,
        after_ms,
    };
    Some((first, is_double.then_some(second)))
}

/// Spreads numbers that are close to each other (`SplitMix64`).
fn scattered(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn chooses_the_same_again_and_everything_in_the_end() {
        let all: Vec<&Fault> = CATALOGUE.iter().collect();
        let names = |seed| -> Vec<String> {
            (0..400)
                .filter_map(|number| choose(&all, seed, number))
                .map(|(first, second)| {
                    let second = second.map_or("", |second| second.fault.name);
                    format!("{} {second}", first.name)
                })
                .collect()
        };
        assert_eq!(names(1), names(1));
        assert_ne!(names(1), names(2));
        let chosen = names(1);
        assert_eq!(chosen.len(), 400);
        let firsts: BTreeSet<&str> = chosen
            .iter()
            .filter_map(|pair| pair.split(' ').next())
            .collect();
        assert_eq!(firsts.len(), CATALOGUE.len());
        let doubles = chosen.iter().filter(|pair| !pair.ends_with(' ')).count();
        assert!((150..=200).contains(&doubles), "{doubles}");
    }
}
