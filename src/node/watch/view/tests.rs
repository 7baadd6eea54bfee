use super::*;

const INTERVAL: Duration = Duration::from_millis(100);

fn address(at: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, u8::try_from(at + 1).unwrap_or(u8::MAX))
}

fn host(at: usize) -> String {
    format!("{}:27017", address(at))
}

fn view(me: usize, count: usize) -> View {
    let seat = |at| Seat {
        address: address(at),
        host: host(at),
        voting: true,
    };
    View::new("rs0", INTERVAL, me, (0..count).map(seat).collect())
}

fn advert(state: State) -> Advert {
    Advert {
        set: "rs0".into(),
        state,
        source: None,
        last_write_ms: 0,
    }
}

/// Everybody but `silent` is heard at `now`; `primary` is primary.
fn all_heard(view: &mut View, primary: usize, silent: &[usize], now: Instant) {
    for at in (0..view.members.len()).filter(|at| !silent.contains(at)) {
        let state = if at == primary {
            State::Primary
        } else {
            State::Secondary
        };
        assert!(view.hear(address(at), advert(state), now));
    }
}

/// The view of `me` when the primary 0 of `count` has gone silent and can't be reached.
fn bereaved(me: usize, count: usize) -> (View, Instant) {
    let mut view = view(me, count);
    let begin = Instant::now();
    all_heard(&mut view, 0, &[], begin);
    let now = begin + INTERVAL * 4;
    all_heard(&mut view, 0, &[0], now);
    assert_eq!(view.suspects(now), [host(0)]);
    view.tried(&host(0), false, now);
    (view, now)
}

#[test]
fn the_first_in_line_stands_when_the_primary_is_gone() {
    let (mut view, now) = bereaved(1, 3);
    assert!(view.stands(now));
    assert_eq!(view.gone(INTERVAL, now), [host(0)]);
}

#[test]
fn the_next_in_line_waits_its_turn() {
    let (mut view, now) = bereaved(2, 3);
    assert!(!view.stands(now));
    let later = now + STAGGER;
    all_heard(&mut view, 0, &[0], later);
    assert!(view.stands(later));
}

#[test]
fn a_killed_watcher_costs_no_election() {
    let mut view = view(1, 3);
    let begin = Instant::now();
    all_heard(&mut view, 0, &[], begin);
    let now = begin + INTERVAL * 4;
    all_heard(&mut view, 0, &[0], now);
    view.tried(&host(0), true, now);
    assert!(!view.stands(now));
    assert_eq!(view.suspects(now), [""; 0]);
    assert_eq!(view.suspects(now + TRUST), [host(0), host(2)]);
}

#[test]
fn three_adverts_may_be_missed() {
    let mut view = view(1, 3);
    let begin = Instant::now();
    all_heard(&mut view, 0, &[], begin);
    assert_eq!(view.suspects(begin + INTERVAL * 3), [""; 0]);
}

#[test]
fn a_primary_that_stepped_down_is_not_missed() {
    let mut view = view(1, 3);
    let begin = Instant::now();
    all_heard(&mut view, 0, &[], begin);
    view.hear(address(0), advert(State::Secondary), begin);
    view.hear(address(0), advert(State::Refusing), begin);
    assert_eq!(view.suspects(begin), [host(0)]);
    view.tried(&host(0), false, begin);
    assert!(!view.stands(begin));
}

#[test]
fn nobody_stands_without_a_majority() {
    let mut view = view(1, 3);
    let begin = Instant::now();
    all_heard(&mut view, 0, &[], begin);
    let now = begin + INTERVAL * 4;
    all_heard(&mut view, 0, &[0, 2], now);
    view.tried(&host(0), false, now);
    assert!(!view.stands(now));
}

#[test]
fn another_primary_ends_it() {
    let (mut view, now) = bereaved(1, 3);
    view.hear(address(2), advert(State::Primary), now);
    assert!(!view.stands(now));
}

#[test]
fn who_was_elected_does_not_stand_again() {
    let (mut view, now) = bereaved(1, 3);
    assert!(view.stands(now));
    view.stood(true);
    let later = now + LONGEST_BACK_OFF;
    all_heard(&mut view, 9, &[0], later);
    assert!(!view.stands(later));
}

#[test]
fn who_was_not_elected_waits_longer_each_time() {
    let (mut view, mut now) = bereaved(1, 3);
    let mut waits = Vec::new();
    for _ in 0..3 {
        let begin = now;
        while !view.stands(now) {
            now += INTERVAL;
            all_heard(&mut view, 0, &[0], now);
        }
        waits.push(now.duration_since(begin));
        view.stood(false);
    }
    assert_eq!(waits, [Duration::ZERO, BACK_OFF, BACK_OFF * 2]);
}

#[test]
fn who_is_behind_does_not_stand() {
    let (mut view, now) = bereaved(1, 3);
    let newer = Advert {
        last_write_ms: FRESH + 1,
        ..advert(State::Secondary)
    };
    view.hear(address(2), newer, now);
    assert!(!view.stands(now));
}

#[test]
fn strangers_are_not_heard() {
    let mut view = view(1, 3);
    let now = Instant::now();
    assert!(!view.hear(Ipv4Addr::new(10, 0, 1, 1), advert(State::Primary), now));
    let stranger = Advert {
        set: "rs1".into(),
        ..advert(State::Primary)
    };
    assert!(!view.hear(address(0), stranger, now));
}

#[test]
fn the_others_copy_from_the_next_in_line() {
    let now = Instant::now();
    let mut first = view(1, 4);
    all_heard(&mut first, 0, &[], now);
    assert_eq!(first.source(now), Some(host(0)));
    let mut other = view(3, 4);
    all_heard(&mut other, 0, &[], now);
    assert_eq!(other.source(now), None);
    let follows = Advert {
        source: Some(host(0)),
        ..advert(State::Secondary)
    };
    other.hear(address(1), follows, now);
    assert_eq!(other.source(now), Some(host(1)));
    let mut primary = view(0, 4);
    all_heard(&mut primary, 0, &[], now);
    assert_eq!(primary.source(now), None);
}
