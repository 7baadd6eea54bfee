//! Waiting: with a deadline and an interval, and in one place. A wait that is a question asked
//! again and again is a [`Poll`]; where the time itself is the purpose it is a [`pause`].

use std::thread;
use std::time::{Duration, Instant};

/// How often [`until`] asks.
const INTERVAL: Duration = Duration::from_millis(5);

/// A question that is asked again and again until a deadline.
///
/// ```
/// # use std::time::Duration;
/// # use gen_topology::wait::Poll;
/// let poll = Poll::every(Duration::from_millis(5)).within(Duration::from_secs(2));
/// let mut asked = 0;
/// loop {
///     asked += 1;
///     if asked == 3 || !poll.again() {
///         break;
///     }
/// }
/// assert_eq!(asked, 3);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Poll {
    begun: Instant,
    interval: Duration,
    deadline: Option<Instant>,
}

impl Poll {
    /// Asks every `interval`, without a deadline.
    pub fn every(interval: Duration) -> Self {
        Self {
            begun: Instant::now(),
            interval,
            deadline: None,
        }
    }

    /// Asks until `patience` is over, from now on.
    #[must_use]
    pub fn within(self, patience: Duration) -> Self {
        let deadline = Instant::now().checked_add(patience);
        Self { deadline, ..self }
    }

    /// Waits for one interval, or until the deadline if that comes first. False when the
    /// deadline is over: the answer of before was the last one.
    pub fn again(&self) -> bool {
        let left = self.left();
        if left.is_zero() {
            return false;
        }
        thread::sleep(self.interval.min(left));
        true
    }

    /// Whether the deadline is over.
    pub fn is_over(&self) -> bool {
        self.left().is_zero()
    }

    /// The time since the first question.
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    fn left(&self) -> Duration {
        self.deadline.map_or(Duration::MAX, |deadline| {
            deadline.saturating_duration_since(Instant::now())
        })
    }
}

/// Calls `look` every `interval` until it finds something or `patience` is over.
pub fn some<T>(
    patience: Duration,
    interval: Duration,
    mut look: impl FnMut() -> Option<T>,
) -> Option<T> {
    let poll = Poll::every(interval).within(patience);
    loop {
        let found = look();
        if found.is_some() || !poll.again() {
            return found;
        }
    }
}

/// Calls `ready` until it says yes or `patience` is over; whether it said yes.
pub fn until(patience: Duration, mut ready: impl FnMut() -> bool) -> bool {
    some(patience, INTERVAL, || ready().then_some(())).is_some()
}

/// Lets `time` pass, where the time itself is the purpose.
pub fn pause(time: Duration) {
    thread::sleep(time);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_question_comes_at_the_deadline() {
        let patience = Duration::from_millis(20);
        let begun = Instant::now();
        let mut asked = Vec::new();
        let found = some(patience, Duration::from_secs(5), || {
            asked.push(begun.elapsed());
            None::<()>
        });
        assert_eq!(found, None);
        assert_eq!(asked.len(), 2);
        assert!(asked[1] >= patience);
    }

    #[test]
    fn what_is_there_is_found_without_waiting() {
        assert_eq!(some(Duration::ZERO, INTERVAL, || Some(7)), Some(7));
        assert!(until(Duration::ZERO, || true));
        assert!(!until(Duration::ZERO, || false));
    }

    #[test]
    fn without_a_deadline_it_never_ends() {
        let poll = Poll::every(Duration::from_millis(1));
        assert!((0..5).all(|_| poll.again()));
        assert!(!poll.is_over());
    }
}
