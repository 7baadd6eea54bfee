//! Where a piece of work tells what it is at. The command line shows it; tests collect it.

/// Takes what is told while work goes on. Data, which scripts read, doesn't go here.
pub trait Sink {
    /// A line about what is going on.
    fn say(&mut self, line: &str);

    /// A line that is shown even where the user asked for silence.
    fn warn(&mut self, line: &str);

    /// A line that the next one replaces, where the place can do that.
    fn transient(&mut self, line: &str);
}
