//! Standard output is for data, standard error for talk. Readable without colour.

#![expect(clippy::print_stdout, reason = "this is the place for it")]

use std::io::Write as _;

use clap::ValueEnum;

use crate::failure::Outcome;

use crate::health::mongo;
use crate::sink::Sink;

const BOLD: &str = "\u{1b}[1m";
const RED: &str = "\u{1b}[1;31m";
const GREEN: &str = "\u{1b}[32m";
const YELLOW: &str = "\u{1b}[33m";
const DIM: &str = "\u{1b}[2m";
const RESET: &str = "\u{1b}[0m";

/// What a word is about, for those who see colours.
#[derive(Clone, Copy, Debug)]
pub(super) enum Tone {
    Good,
    Bad,
    Warning,
    Quiet,
    Strong,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum ColorChoice {
    Auto,
    Always,
    Never,
}

/// Where output goes.
#[derive(Debug)]
pub(super) struct Ui {
    color: ColorChoice,
    quiet: bool,
}

impl Ui {
    pub(super) fn new(color: ColorChoice, quiet: bool) -> Self {
        match color {
            ColorChoice::Auto => {}
            ColorChoice::Always => anstream::ColorChoice::Always.write_global(),
            ColorChoice::Never => anstream::ColorChoice::Never.write_global(),
        }
        Self { color, quiet }
    }

    /// Arguments that make another run of this program talk in the same way.
    pub(super) fn arguments(&self) -> Vec<&'static str> {
        let color = match self.color {
            ColorChoice::Auto => "--color=auto",
            ColorChoice::Always => "--color=always",
            ColorChoice::Never => "--color=never",
        };
        if self.quiet {
            vec![color, "--quiet"]
        } else {
            vec![color]
        }
    }

    /// Data: what a script would read. Ends with a line break, added if it is missing.
    #[expect(
        clippy::unused_self,
        reason = "output goes through a Ui that was passed in"
    )]
    pub(super) fn data(&mut self, text: &str) -> Outcome {
        let mut out = anstream::stdout().lock();
        out.write_all(text.as_bytes())?;
        if !text.ends_with('\n') {
            out.write_all(b"\n")?;
        }
        out.flush()?;
        Ok(())
    }

    /// Data as JSON, indented.
    pub(super) fn json(&mut self, value: &impl serde::Serialize) -> Outcome {
        let text = serde_json::to_string_pretty(value)?;
        self.data(&text)
    }

    /// A line for the process that started this one and waits for it.
    pub(super) fn announce(line: &str) {
        println!("{line}");
    }

    /// A line for the log of whoever supervises this process.
    pub(super) fn log(line: &str) {
        anstream::eprintln!("gen-topology: {line}");
    }

    /// What went wrong, and why.
    pub(super) fn error(&mut self, error: &anyhow::Error) {
        // What MongoDB's driver says of an error holds the bytes of the answer.
        let words = error.chain().map(|cause| match cause.downcast_ref() {
            Some(error) => mongo::words(error),
            None => cause.to_string(),
        });
        let words: Vec<String> = words.collect();
        self.warn(&format!(
            "{} {}",
            paint(Tone::Bad, "error:"),
            words.join(": ")
        ));
    }
}

impl Sink for Ui {
    fn say(&mut self, line: &str) {
        if !self.quiet {
            anstream::eprintln!("{line}");
        }
    }

    fn warn(&mut self, line: &str) {
        anstream::eprintln!("{line}");
    }

    fn transient(&mut self, line: &str) {
        if !self.quiet {
            anstream::eprint!("\r\u{1b}[2K{line}");
        }
    }
}

/// `text` with a colour that [`anstream`] takes away where there are none.
pub(super) fn paint(tone: Tone, text: &str) -> String {
    let code = match tone {
        Tone::Good => GREEN,
        Tone::Bad => RED,
        Tone::Warning => YELLOW,
        Tone::Quiet => DIM,
        Tone::Strong => BOLD,
    };
    format!("{code}{text}{RESET}")
}

/// Rows under a header, in columns as wide as needed; colours don't count.
pub(super) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let visible = |cell: &str| {
        anstream::adapter::strip_str(cell)
            .to_string()
            .chars()
            .count()
    };
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(visible(cell));
        }
    }
    let line = |cells: &mut dyn Iterator<Item = String>| {
        let padded: Vec<String> = cells
            .zip(&widths)
            .map(|(cell, width)| {
                let gap = width.saturating_sub(visible(&cell));
                cell + &" ".repeat(gap)
            })
            .collect();
        padded.join("  ").trim_end().to_owned() + "\n"
    };
    let mut text = line(&mut header.iter().map(|cell| paint(Tone::Quiet, cell)));
    for row in rows {
        text.push_str(&line(&mut row.iter().cloned()));
    }
    text
}
