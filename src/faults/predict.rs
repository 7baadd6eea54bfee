//! The formulas behind the catalogue: what each fault costs at worst, from the times that
//! stand in the rendered files. `docs/faults.md` tells how each came to be what it is.

use super::bound::{Bound, Limit, Loss, MARGIN};
use super::load::LANES;
use super::timing::Timing;

/// How long everything is off, in milliseconds.
pub(super) const DARK: f64 = 2000.0;
/// Time from one checkpoint of mongod to the next, in milliseconds: a full disk is
/// noticed when the next one is written (`storage.syncPeriodSecs`).
const CHECKPOINT: f64 = 60_000.0;
/// How long a whole stack may take from power-on to the first answer, in milliseconds.
const BOOT: f64 = 15_000.0;
/// Requests that may be in flight on a load balancer that dies: one on each kept-alive
/// connection, and those that arrive in `gap` milliseconds.
fn in_flight(timing: &Timing, gap: f64) -> usize {
    let arriving = f64::from(timing.rate) * gap / 1000.0;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a small positive number"
    )]
    let arriving = arriving.ceil() as usize;
    LANES + arriving
}

/// The time between two writes of the load.
fn between_writes(timing: &Timing) -> (&'static str, f64) {
    let writes = f64::from(timing.rate) / f64::from(super::load::WRITES);
    ("time between writes", 1000.0 / writes)
}

/// RFC 9568: `Master_Down_Interval` = 3 × `Advertisement_Interval` + `Skew_Time`.
pub(super) fn take_over(timing: &Timing) -> Bound {
    let parts = [
        ("3 × advert", 3.0 * timing.advert),
        ("skew", timing.skew),
        MARGIN,
    ];
    let gap: f64 = parts.iter().map(|(_, ms)| ms).sum();
    Bound::losing(Loss::InFlight {
        most: in_flight(timing, gap),
    })
    .gap(&parts)
    .detect(&parts)
}

pub(super) fn last_take_over(timing: &Timing) -> Bound {
    let parts = [
        ("3 × advert", 3.0 * timing.advert),
        ("skew of the last", timing.last_skew),
        MARGIN,
    ];
    let gap: f64 = parts.iter().map(|(_, ms)| ms).sum();
    Bound::losing(Loss::InFlight {
        most: in_flight(timing, gap),
    })
    .gap(&parts)
    .detect(&parts)
}

/// An advert of priority 0 is answered after the skew alone (RFC 9568).
pub(super) fn hand_over(timing: &Timing) -> Bound {
    Bound::losing(Loss::None).gap(&[("skew", timing.skew), MARGIN])
}

/// Whoever is sent to the app server that hangs waits until the next checks have failed, longer than one
/// takes to begin.
pub(super) fn reload_beside(timing: &Timing) -> Bound {
    hand_over(timing).slowest(&[("inter", timing.inter), MARGIN])
}

pub(super) fn fall_over(timing: &Timing) -> Bound {
    let parts = [("skew", timing.skew), MARGIN];
    Bound::losing(Loss::InFlight {
        most: in_flight(timing, timing.skew + MARGIN.1),
    })
    .gap(&parts)
}

pub(super) fn split(timing: &Timing) -> Bound {
    // The address moves twice: when they lose each other, and when they meet again.
    let most = 2 * in_flight(timing, MARGIN.1);
    Bound::losing(Loss::InFlight { most }).gap(&[("skew", timing.skew), MARGIN])
}

pub(super) fn haproxy_hang(timing: &Timing) -> Bound {
    let parts = [
        ("guard's interval + patience", timing.guard),
        ("skew", timing.skew),
        MARGIN,
    ];
    let gap: f64 = parts.iter().map(|(_, ms)| ms).sum();
    Bound::losing(Loss::InFlight {
        most: in_flight(timing, gap),
    })
    .gap(&parts)
    .detect(&parts)
}

pub(super) fn in_hand(timing: &Timing) -> Bound {
    Bound::losing(Loss::InHand {
        most: timing.in_hand,
    })
}

/// Until haproxy knows, when the app server refuses at once.
fn refused(timing: &Timing) -> [(&'static str, f64); 3] {
    [
        ("inter", timing.inter),
        (
            "(fall − 1) × fastinter",
            (timing.fall - 1.0) * timing.fastinter,
        ),
        MARGIN,
    ]
}

pub(super) fn gunicorn_stop(timing: &Timing) -> Bound {
    Bound::losing(Loss::None).detect(&refused(timing))
}

/// Until haproxy knows, when the app server accepts and says nothing. After a check that timed
/// out haproxy 2.6 often waits for the whole interval and not for `fastinter`.
fn silent(timing: &Timing) -> [(&'static str, f64); 3] {
    [
        ("fall × inter", timing.fall * timing.inter),
        ("fall × timeout check", timing.fall * timing.check),
        MARGIN,
    ]
}

pub(super) fn app_hang(timing: &Timing) -> Bound {
    let [inter, checks, margin] = silent(timing);
    Bound::losing(Loss::InHand {
        most: timing
            .in_hand
            .max(usize::try_from(timing.rate).unwrap_or(usize::MAX)),
    })
    .detect(&silent(timing))
    .slowest(&[inter, checks, ("release", timing.release), margin])
}

pub(super) fn app_errors(_: &Timing) -> Bound {
    Bound::losing(Loss::Answers)
}

pub(super) fn app_slow(_: &Timing) -> Bound {
    Bound::losing(Loss::None)
}

/// Until haproxy knows, when nobody is there to refuse.
fn gone(timing: &Timing) -> [(&'static str, f64); 4] {
    let [inter, again, margin] = refused(timing);
    [
        inter,
        again,
        (
            "fall × min(timeout connect, inter)",
            timing.fall * timing.check_connect,
        ),
        margin,
    ]
}

pub(super) fn app_gone(timing: &Timing) -> Bound {
    let [inter, again, checks, margin] = gone(timing);
    Bound::losing(Loss::InHand {
        most: timing.in_hand,
    })
    .detect(&gone(timing))
    .slowest(&[inter, again, checks, ("release", timing.release), margin])
}

pub(super) fn apps_gone(timing: &Timing) -> Bound {
    Bound {
        lost: Loss::InHand {
            most: timing.in_hand * timing.apps.saturating_sub(1),
        },
        ..app_gone(timing)
    }
}

pub(super) fn app_drained(_: &Timing) -> Bound {
    Bound::losing(Loss::None)
}

/// `MongoDB` adds up to 15 % to the time-out, so that members do not stand for election at the
/// same time (`replElectionTimeoutOffsetLimitFraction`).
fn longest_election(timing: &Timing) -> [(&'static str, f64); 2] {
    [
        ("1.15 × election timeout", 1.15 * timing.election),
        ("vote", 50.0),
    ]
}

/// A secondary that has lost the member it copied from looks for another, and if there is
/// none yet, again a second later (a constant of `MongoDB`'s background sync). Until it has found
/// the new primary no write has a majority.
const SYNC_AGAIN: (&str, f64) = ("sync source's retry", 1000.0);

/// While connections to the new primary are made and proved, reads wait, too.
const RECONNECT: (&str, f64) = ("driver's reconnect", 250.0);

/// The election itself.
const VOTE: (&str, f64) = ("vote", 50.0);

pub(super) fn election(timing: &Timing) -> Bound {
    let pause = Bound::losing(Loss::None).gap(&[RECONNECT]);
    if let Some(watch) = timing.watch {
        return pause.write_gap(&[
            ("½ watch interval", watch / 2.0),
            ("3 refusals", 30.0),
            ("look", watch),
            VOTE,
            RECONNECT,
            between_writes(timing),
        ]);
    }
    let [timeout, vote] = longest_election(timing);
    pause.write_gap(&[timeout, vote, SYNC_AGAIN, between_writes(timing)])
}

pub(super) fn step_down(timing: &Timing) -> Bound {
    let pause = Bound::losing(Loss::None).gap(&[RECONNECT]);
    let hand_over = ("hand-over", 300.0);
    // With watchers the other secondary copies from the successor already.
    let then = timing.watch.map_or(SYNC_AGAIN, |_| RECONNECT);
    pause.write_gap(&[hand_over, then, between_writes(timing), MARGIN])
}

/// Nothing answers at the primary's address.
pub(super) fn silent_primary(timing: &Timing) -> Bound {
    let Some(watch) = timing.watch else {
        return unwatched_silence(timing);
    };
    let (silence, look) = missed_adverts(watch);
    watched_silence(timing, &[silence, look])
}

/// The primary's kernel answers for a mongod that does not. Its own watcher asks every half interval, and says so when
/// four adverts have left without an answer; whoever hears it asks, too: databases and app nodes, at the same time.
pub(super) fn hanging_primary(timing: &Timing) -> Bound {
    let Some(watch) = timing.watch else {
        return unwatched_silence(timing);
    };
    let adverts = ("4¾ × watch interval", 4.75 * watch);
    watched_silence(timing, &[adverts, ("look at who accepts", 2.0 * watch)])
}

/// Three missed adverts; then whether a connection is accepted.
fn missed_adverts(watch: f64) -> ((&'static str, f64), (&'static str, f64)) {
    let silence = ("3¼ × watch interval", 3.25 * watch);
    (silence, ("look", watch))
}

fn watched_silence(timing: &Timing, noticed: &[(&'static str, f64)]) -> Bound {
    let rest = [VOTE, ("catch-up", timing.catch_up), RECONNECT];
    let mut parts = [noticed, &rest].concat();
    let mut answer = parts.clone();
    answer.push(MARGIN);
    parts.push(between_writes(timing));
    Bound::losing(Loss::None).write_gap(&parts).slowest(&answer)
}

fn unwatched_silence(timing: &Timing) -> Bound {
    let [timeout, vote] = longest_election(timing);
    let heartbeat = ("driver's heartbeat", timing.driver_heartbeat);
    let connect = ("driver's connect", timing.driver_connect);
    Bound::losing(Loss::None)
        .write_gap(&[
            timeout,
            vote,
            SYNC_AGAIN,
            heartbeat,
            connect,
            between_writes(timing),
        ])
        .slowest(&[
            ("driver's socket time-out", timing.socket),
            heartbeat,
            connect,
            SYNC_AGAIN,
            MARGIN,
        ])
}

/// A member that copied from it has to find another; its connection ends with the watcher's look.
pub(super) fn secondary_gone(timing: &Timing) -> Bound {
    if let Some(watch) = timing.watch {
        let (silence, look) = missed_adverts(watch);
        return Bound::losing(Loss::None).write_gap(&[
            silence,
            look,
            ("another source", 200.0),
            between_writes(timing),
            MARGIN,
        ]);
    }
    Bound::losing(Loss::None).gap(&[MARGIN]).write_gap(&[
        ("½ election timeout", timing.election / 2.0),
        ("sync source's buffer", timing.sync_source),
        between_writes(timing),
        MARGIN,
    ])
}

pub(super) fn majority_gone(timing: &Timing) -> Bound {
    let [timeout, vote] = longest_election(timing);
    Bound::losing(Loss::Writes).restored(&[
        ("boot of the databases", 5000.0),
        timeout,
        vote,
        ("driver's heartbeat", timing.driver_heartbeat),
    ])
}

pub(super) fn disk_full(timing: &Timing) -> Bound {
    let [timeout, vote] = longest_election(timing);
    Bound {
        detect: Some(Limit::sum(&[("checkpoint", CHECKPOINT), timeout, vote])),
        ..election(timing)
    }
}

/// A lost packet is sent again after 200 ms at the earliest (RFC 6298 as Linux has it), then after
/// twice the time; haproxy gives a connection up after `timeout connect`.
pub(super) fn lossy(timing: &Timing) -> Bound {
    Bound::losing(Loss::None).slowest(&[
        ("timeout connect", timing.connect),
        ("4 repetitions of a packet", 200.0 + 400.0 + 800.0 + 1600.0),
        MARGIN,
    ])
}

pub(super) fn narrow(_: &Timing) -> Bound {
    Bound::losing(Loss::None)
}

pub(super) fn blackout(_: &Timing) -> Bound {
    Bound::losing(Loss::Everything)
        .gap(&[("off", DARK), ("boot of everything", BOOT)])
        .restored(&[("boot of everything", BOOT)])
}
