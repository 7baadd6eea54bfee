//! Files as the daemons put them together: several of haproxy as one configuration, those
//! that a Keepalived file includes in their places, and each reading of what is conditional.

use std::collections::{BTreeSet, HashSet};

use super::{Bases, Code, File, Finding, Findings, Kind, Spot, haproxy, keepalived};
use crate::native::haproxy::{Config as Haproxy, Reading};
use crate::native::keepalived::{Config as Keepalived, Part, Reading as With, ids};
use crate::native::{Directive, Malformed};

/// Looks at the files of haproxy.
pub(super) fn haproxy(
    files: &[File],
    bases: &Bases,
    virtual_ips: &HashSet<&str>,
    found: &mut Vec<Finding>,
) {
    for set in sets(files) {
        let mut findings = Findings::new(bases, 0);
        for index in &set {
            unfinished(&files[*index], bases.of_file(*index), &mut findings);
        }
        let parts = set
            .iter()
            .map(|index| (files[*index].text.as_str(), bases.of_file(*index)));
        let parts: Vec<(&str, usize)> = parts.collect();
        let Some(config) = read(&parts, Reading::All, &mut findings) else {
            found.append(&mut findings.found);
            continue;
        };
        let conditional = config.conditional().to_vec();
        found.append(&mut findings.found);
        let look = |reading| {
            let mut findings = Findings::new(bases, 0);
            if let Some(config) = read(&parts, reading, &mut findings) {
                haproxy::file(&config, virtual_ips, &mut findings);
            }
            findings.found
        };
        let holding = look(Reading::Holding);
        if conditional.is_empty() {
            found.extend(holding);
        } else {
            let failing = look(Reading::Failing);
            let places: Vec<Spot> = conditional
                .into_iter()
                .map(|span| bases.spot(span))
                .collect();
            found.extend(certain(holding, failing, &places));
        }
    }
}

/// The files as one configuration; nothing if one of them can't be read.
fn read(parts: &[(&str, usize)], reading: Reading, findings: &mut Findings<'_>) -> Option<Haproxy> {
    let mut read = Vec::new();
    for (text, base) in parts {
        match Haproxy::part(text, *base, reading) {
            Ok(part) => read.push(part),
            Err(error) => findings.unreadable(error, "haproxy -c -f FILE"),
        }
    }
    (read.len() == parts.len()).then(|| Haproxy::join(read))
}

/// What is found in both readings, and what stands in a conditional block itself.
fn certain(holding: Vec<Finding>, failing: Vec<Finding>, places: &[Spot]) -> Vec<Finding> {
    let inside = |finding: &Finding| {
        places.iter().any(|place| {
            let (own, span) = (&finding.at.span, &place.span);
            place.file == finding.at.file && span.start <= own.start && own.end <= span.end
        })
    };
    let key = |finding: &Finding| (finding.code, finding.at.file, finding.at.span.start);
    let both: BTreeSet<_> = failing.iter().map(key).collect();
    let mut kept: Vec<Finding> = holding
        .into_iter()
        .filter(|finding| both.contains(&key(finding)) || inside(finding))
        .collect();
    let known: BTreeSet<_> = kept.iter().map(key).collect();
    let others = failing.into_iter().filter(|finding| inside(finding));
    kept.extend(others.filter(|finding| !known.contains(&key(finding))));
    kept
}

/// The files of haproxy that are one configuration each: where one has `global`, it begins
/// another; where only one has, all belong to it.
fn sets(files: &[File]) -> Vec<Vec<usize>> {
    let own = files.iter().enumerate();
    let own: Vec<(usize, bool)> = own
        .filter(|(_, file)| file.kind == Kind::Haproxy)
        .map(|(index, file)| (index, has_global(&file.text)))
        .collect();
    let several = own.iter().filter(|(_, global)| *global).count() > 1;
    let mut sets: Vec<Vec<usize>> = Vec::new();
    for (index, global) in own {
        match sets.last_mut() {
            Some(set) if !(several && global) => set.push(index),
            _ => sets.push(vec![index]),
        }
    }
    sets
}

fn has_global(text: &str) -> bool {
    let mut lines = text.lines();
    lines.any(|line| line.split('#').next().unwrap_or_default().trim() == "global")
}

/// haproxy takes a last line without an end for one that was cut off.
fn unfinished(file: &File, base: usize, findings: &mut Findings<'_>) {
    if file.text.is_empty() || file.text.ends_with('\n') {
        return;
    }
    let start = file.text.rfind('\n').map_or(0, |at| at + 1);
    let error = Malformed {
        line: 0,
        message: "the last line has no end: haproxy since 2.3 refuses the file as cut off".into(),
        span: base + start..base + file.text.len(),
    };
    findings.unreadable(error, "haproxy -c -f FILE");
}

/// Looks at the files of Keepalived, each with those that it includes, and gives a
/// configuration for each node that reads one: for each configuration id in it.
pub(super) fn keepalived(
    files: &[File],
    bases: &Bases,
    is_haproxy: bool,
    found: &mut Vec<Finding>,
) -> Vec<Keepalived> {
    let mut nodes = Vec::new();
    for (index, file) in files.iter().enumerate() {
        if file.kind != Kind::Keepalived {
            continue;
        }
        let mut seen: BTreeSet<(Code, usize, usize)> = BTreeSet::new();
        for id in readings(files, index) {
            let included = |line: &Directive| included(files, bases, line);
            let with = With {
                id: id.as_deref(),
                included: Some(&included),
            };
            let mut findings = Findings::new(bases, 0);
            match Keepalived::read(&file.text, bases.of_file(index), &with) {
                Ok(config) => {
                    keepalived::file(&config, is_haproxy, &mut findings);
                    nodes.push(config);
                }
                Err(error) => findings.unreadable(error, "keepalived -t -f FILE"),
            }
            let new = findings.found.into_iter();
            found.extend(new.filter(|finding| {
                let at = &finding.at;
                seen.insert((finding.code, at.file, at.span.start))
            }));
        }
    }
    nodes
}

/// The configuration ids with which a file is to be read; none where it has no such lines.
fn readings(files: &[File], index: usize) -> Vec<Option<String>> {
    let mut named: BTreeSet<String> = BTreeSet::new();
    let mut next = vec![index];
    let mut seen = HashSet::new();
    while let Some(file) = next.pop().filter(|file| seen.insert(*file)) {
        if let Some(file) = files.get(file) {
            named.extend(ids(&file.text));
            next.extend(file.included.values().flatten());
        }
    }
    let mut all: Vec<Option<String>> = named.into_iter().map(Some).collect();
    // One id alone tells from all others.
    if all.len() < 2 {
        all.push(None);
    }
    all
}

/// The files that an `include` line names, if they are known.
fn included<'f>(files: &'f [File], bases: &Bases, line: &Directive) -> Option<Vec<Part<'f>>> {
    let at = bases.spot(line.span()).file;
    let named = files.get(at)?.included.get(line.word(1))?;
    let parts = named.iter().filter_map(|index| {
        let file = files.get(*index)?;
        Some(Part {
            text: &file.text,
            base: bases.of_file(*index),
        })
    });
    Some(parts.collect())
}
