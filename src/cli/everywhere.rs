//! One command on many nodes at the same time, whichever way leads to them.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Sender, channel};

use anyhow::Context as _;

use super::interrupts::listen_for_interrupts;
use super::ui::{Tone, Ui, paint};
use crate::failure::{Failure, Outcome};
use crate::sink::Sink as _;

/// What a way to a node says of itself when it ended like this: no word of the command.
pub(super) type Refusal<'r> = dyn Fn(&str, &Output) -> Option<anyhow::Error> + 'r;

/// A line of a command's output on one node.
struct Line {
    node: usize,
    is_error: bool,
    text: String,
}

/// Runs a command on each node at the same time, prints what they say as they say it, and
/// ends with the worst exit code.
pub(super) fn everywhere(
    commands: Vec<(String, Command)>,
    refusal: &Refusal<'_>,
    ui: &mut Ui,
) -> Outcome {
    let interrupted = listen_for_interrupts()?;
    let width = commands
        .iter()
        .map(|(node, _)| node.len())
        .max()
        .unwrap_or(0);
    let names: Vec<String> = commands.iter().map(|(node, _)| node.clone()).collect();
    let prefix = |node: usize| match names.as_slice() {
        [_] => String::new(),
        many => paint(Tone::Quiet, &format!("{:width$} | ", many[node])),
    };
    let mut children: Vec<(usize, Child)> = Vec::new();
    let (sender, lines) = channel::<Line>();
    for (index, (node, mut command)) in commands.into_iter().enumerate() {
        let command = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = command.spawn();
        let mut child = child.with_context(|| format!("starting a command on {node}"))?;
        forward(index, false, child.stdout.take(), &sender);
        forward(index, true, child.stderr.take(), &sender);
        children.push((index, child));
    }
    drop(sender);
    // What the way there says is told as a sentence, behind what the commands say.
    let mut errors: BTreeMap<usize, String> = BTreeMap::new();
    for line in lines {
        if line.is_error {
            errors
                .entry(line.node)
                .or_default()
                .push_str(&format!("{}\n", line.text));
            ui.warn(&format!("{}{}", prefix(line.node), line.text));
        } else {
            ui.data(&format!("{}{}", prefix(line.node), line.text))?;
        }
    }
    if interrupted.load(Ordering::SeqCst) {
        for (_, mut child) in children {
            // Gone already, unless only this process was told.
            let _ = child.kill().and_then(|()| child.wait());
        }
        return Err(Failure::Interrupted("the commands were ended".into()));
    }
    let mut worst = 0;
    for (index, mut child) in children {
        let status = child.wait().context("waiting for a command")?;
        let code = status
            .code()
            .or_else(|| status.signal().map(|signal| 128 + signal))
            .unwrap_or(1);
        worst = worst.max(code);
        let output = Output {
            status,
            stdout: Vec::new(),
            stderr: errors.remove(&index).unwrap_or_default().into_bytes(),
        };
        if let Some(error) = refusal(&names[index], &output) {
            ui.error(&error);
        }
    }
    match worst {
        0 => Ok(()),
        code => Err(Failure::Status(u8::try_from(code).unwrap_or(1))),
    }
}

fn forward(
    node: usize,
    is_error: bool,
    from: Option<impl Read + Send + 'static>,
    to: &Sender<Line>,
) {
    let to = to.clone();
    std::thread::spawn(move || {
        let mut from = BufReader::new(from?);
        let mut bytes = Vec::new();
        while from
            .read_until(b'\n', &mut bytes)
            .is_ok_and(|read| read > 0)
        {
            let text = String::from_utf8_lossy(&bytes)
                .trim_end_matches(['\n', '\r'])
                .to_owned();
            to.send(Line {
                node,
                is_error,
                text,
            })
            .ok()?;
            bytes.clear();
        }
        Some(())
    });
}
