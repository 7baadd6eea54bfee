//! How many stacks of real daemons run side by side. Most of a lab test is waiting, so there is one
//! for each processor, and at least two; what measures times has the machine for itself.

use std::sync::{Condvar, Mutex, PoisonError};

static TAKEN: Mutex<usize> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

/// A turn, or all of them; given back when it is dropped.
pub(crate) struct Turn {
    places: usize,
}

fn all() -> usize {
    std::thread::available_parallelism().map_or(2, |count| count.get().max(2))
}

impl Turn {
    /// Waits for a place beside others.
    pub(crate) fn beside_others() -> Self {
        Self::take(1)
    }

    /// Waits until nothing else runs.
    pub(crate) fn alone() -> Self {
        Self::take(all())
    }

    fn take(places: usize) -> Self {
        let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        while *taken + places > all() {
            taken = FREED.wait(taken).unwrap_or_else(PoisonError::into_inner);
        }
        *taken += places;
        Self { places }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        *taken -= self.places;
        FREED.notify_all();
    }
}
