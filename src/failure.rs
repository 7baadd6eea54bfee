//! Why a piece of work did not do what it was asked to, and the exit code that says so.

/// What a piece of work ends with.
pub type Outcome<T = ()> = Result<T, Failure>;

/// Why a command did not do what it was asked to.
#[derive(Debug)]
pub enum Failure {
    /// It was tried and did not work.
    Failed(anyhow::Error),
    /// Nothing is wrong, and something would change.
    Differs,
    /// The topology has problems, which were printed.
    Invalid,
    /// A gate stayed closed, and what was begun was undone.
    RolledBack(anyhow::Error),
    /// An outage lasted longer than promised; the report was printed.
    Budget,
    /// The command line makes no sense.
    Usage(String),
    /// Ended by Ctrl-C with everything in order.
    Interrupted(String),
    /// Another program has to be imitated: its exit code, whatever it was.
    Status(u8),
}

impl Failure {
    /// The exit code: part of the program's interface, so each is documented in `--help`.
    pub fn code(&self) -> u8 {
        match self {
            Failure::Failed(error) if error.chain().any(is_broken_pipe) => 0,
            Failure::Failed(_) => 1,
            Failure::Differs => 2,
            Failure::Invalid => 3,
            Failure::RolledBack(_) => 5,
            Failure::Budget => 6,
            // As in sysexits.h.
            Failure::Usage(_) => 64,
            Failure::Interrupted(_) => 130,
            Failure::Status(code) => *code,
        }
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure::Failed(error.into())
    }
}

/// A reader that went away (`| head`) is no failure of ours.
fn is_broken_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        let of = |kind| Failure::from(std::io::Error::from(kind)).code();
        assert_eq!(of(std::io::ErrorKind::BrokenPipe), 0);
        assert_eq!(of(std::io::ErrorKind::NotFound), 1);
    }
}
