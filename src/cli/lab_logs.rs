//! `lab logs`: what the daemons of a lab's nodes have written.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use glob::Pattern;

use super::ui::{Tone, Ui, paint};
use crate::failure::Outcome;
use crate::lab::Place;

/// Log files of a node: what its daemons wrote, and what it said while booting.
pub(super) fn log_files(place: &Place, node: &str) -> Vec<PathBuf> {
    fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => walk(&path, found),
                Ok(kind) if kind.is_file() => found.push(path),
                _ => {}
            }
        }
    }
    let directory = place.node(node);
    let mut found = vec![directory.join("console.log")];
    walk(&directory.join("log"), &mut found);
    found.sort();
    found
}

/// `lab logs`.
pub(super) fn logs(
    place: &Place,
    nodes: &[String],
    follow: bool,
    lines: usize,
    ui: &mut Ui,
) -> Outcome {
    let known: Vec<String> = {
        let entries = fs::read_dir(place.directory.join("nodes"))
            .with_context(|| format!("there is no lab {}", place.name))?;
        let mut names: Vec<String> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    };
    let chosen = chosen(&known, nodes)?;
    let mut offsets: BTreeMap<PathBuf, u64> = BTreeMap::new();
    for node in &chosen {
        for file in log_files(place, node) {
            let bytes = fs::read(&file).unwrap_or_default();
            offsets.insert(file.clone(), bytes.len() as u64);
            let text = String::from_utf8_lossy(&bytes);
            let all: Vec<&str> = text.lines().collect();
            print_log(
                ui,
                place,
                node,
                &file,
                &all[all.len().saturating_sub(lines)..],
            )?;
        }
    }
    while follow && place.anchor().is_some() {
        std::thread::sleep(Duration::from_millis(200));
        for node in &chosen {
            for file in log_files(place, node) {
                let offset = offsets.entry(file.clone()).or_default();
                let text = read_from(&file, offset);
                print_log(ui, place, node, &file, &text.lines().collect::<Vec<_>>())?;
            }
        }
    }
    Ok(())
}

/// The nodes that are meant by names and patterns; all, if none is.
fn chosen(known: &[String], meant: &[String]) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for pattern in meant {
        let fits = Pattern::new(pattern).with_context(|| format!("reading `{pattern}`"))?;
        let new: Vec<&String> = known.iter().filter(|name| fits.matches(name)).collect();
        if new.is_empty() {
            let known = known.join(", ");
            bail!("there is no node {pattern}; there are {known}");
        }
        names.extend(new.into_iter().cloned());
    }
    Ok(if meant.is_empty() {
        known.to_vec()
    } else {
        names
    })
}

/// Whole lines that were added since `offset`, which moves on. A file that became shorter was rotated.
pub(super) fn read_from(file: &Path, offset: &mut u64) -> String {
    let mut added = Vec::new();
    if let Ok(mut open) = fs::File::open(file) {
        let length = open.metadata().map_or(0, |data| data.len());
        if length < *offset {
            *offset = 0;
        }
        if length > *offset && open.seek(SeekFrom::Start(*offset)).is_ok() {
            let _ = open.read_to_end(&mut added);
        }
    }
    let whole = added
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    *offset += whole as u64;
    String::from_utf8_lossy(&added[..whole]).into_owned()
}

fn print_log(ui: &mut Ui, place: &Place, node: &str, file: &Path, lines: &[&str]) -> Outcome {
    if lines.is_empty() {
        return Ok(());
    }
    let short = file.strip_prefix(place.node(node)).unwrap_or(file);
    let short = short
        .strip_prefix("log")
        .unwrap_or(short)
        .display()
        .to_string();
    let text: Vec<String> = lines
        .iter()
        .map(|line| format!("{} {line}", paint(Tone::Quiet, &format!("{node} {short}"))))
        .collect();
    ui.data(&text.join("\n"))
}
