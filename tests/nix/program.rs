//! What gen-topology is built from as a package of Nix. A machine restarts its daemons when the program is
//! another one, so nothing of the stack that it runs may be among it.

use std::fs;
use std::path::{Path, PathBuf};

use super::{read, read_json, repository};

/// What package.nix names, relative to the repository.
fn sources() -> Vec<PathBuf> {
    let package = read("package.nix");
    let (_, list) = package.split_once("fileset.unions [").expect("a list");
    let (list, _) = list.split_once("];").expect("its end");
    let names = list.split_whitespace().filter_map(|word| {
        let name = word.trim_end_matches(')').strip_prefix("./")?;
        Some(PathBuf::from(name))
    });
    names.collect()
}

#[test]
fn an_edit_of_the_stack_makes_no_other_program() {
    let sources = sources();
    assert!(sources.contains(&"src".into()), "{sources:?}");
    let app = read_json("topology.json")["app"]["source"]
        .as_str()
        .expect("a source")
        .to_owned();
    let app = app.trim_start_matches("./");
    for live in [app, "topology.json", "hosts", "examples", "modules"] {
        assert!(
            !sources.iter().any(|source| source.starts_with(live)),
            "an edit of {live} would restart haproxy and Keepalived"
        );
    }
}

/// A file that the program holds and the package does not would only be missed when Nix builds it.
#[test]
fn the_package_has_every_file_that_the_program_holds() {
    let sources: Vec<PathBuf> = sources()
        .iter()
        .map(|name| repository(name.to_str().expect("text")))
        .collect();
    let mut held = 0;
    let mut directories = vec![repository("src")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("a directory").flatten() {
            let path = entry.path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            for file in included(&fs::read_to_string(&path).unwrap_or_default()) {
                let file = fs::canonicalize(directory.join(file)).expect("a file that is held");
                assert!(
                    sources.iter().any(|source| file.starts_with(source)),
                    "{} holds {}, which package.nix leaves out",
                    path.display(),
                    file.display()
                );
                held += 1;
            }
        }
    }
    assert!(held > 10, "only {held} files");
}

fn included(text: &str) -> Vec<&str> {
    text.split("include_str!(")
        .skip(1)
        .filter_map(|rest| rest.split('"').nth(1))
        .collect()
}

/// What `init` writes is the demo application of this repository, until somebody decides otherwise.
#[test]
fn a_new_project_gets_the_shipped_application() {
    let mut directories = vec![repository("starter/app")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("a directory").flatten() {
            let path = entry.path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let name = path.strip_prefix(repository("starter")).expect("below it");
            assert_eq!(
                fs::read(&path).expect("a file"),
                fs::read(Path::new(&repository("")).join(name)).expect("the shipped file"),
                "{} differs: `cp` it to starter/, or decide that they differ and change this test",
                name.display()
            );
        }
    }
    // A new project promises what an outage may cost; the example leaves it to its reader.
    let mut starter = read_json("starter/topology.json");
    let slo = starter.as_object_mut().expect("an object").remove("slo");
    assert!(slo.is_some());
    assert_eq!(starter, read_json("examples/ha.json"));
}
