//! Figures for a collector that reads files in the text format of Prometheus (`node_exporter`'s
//! `--collector.textfile.directory`).

use std::fs;
use std::path::Path;

use crate::files;

/// What stands before the values of a figure. `kind` is `counter` or `gauge`.
pub(super) fn heading(name: &str, kind: &str, help: &str) -> String {
    format!("# HELP {name} {help}\n# TYPE {name} {kind}\n")
}

/// Writes a file of figures. One that can't be written is no reason to stop what they are about.
pub(super) fn write(path: &str, text: &str) {
    let path = Path::new(path);
    if let Some(directory) = path.parent() {
        let _ = fs::create_dir_all(directory);
    }
    let _ = files::replace(path, text.as_bytes());
}
