//! What the daemons themselves say of the fixtures.

use std::fs;
use std::path::Path;

use gen_topology::certificate::authority::Authority;
use gen_topology::lint::Code;

use super::fixtures;

/// What `keepalived -t` says of the fixture of each of these rules: it is no invention of ours.
const SAID_BY_KEEPALIVED: [(Code, &str); 7] = [
    (Code::NopreemptIgnored, "nopreempt will not work"),
    (Code::AdvertsRounded, "must be an integer"),
    (Code::TrackUndefined, "not found, ignoring"),
    (Code::ScriptIntervalFraction, "- ignoring"),
    (Code::ScriptMayBeIgnored, "Unable to set default user"),
    (
        Code::AuthenticationIgnored,
        "does not support authentication",
    ),
    (Code::Unreadable, "missing '}'"),
];

/// Everything that a daemon's own check of a file says; nothing where there is no such daemon.
fn said(program: &str, arguments: &[&str], file: &Path) -> Option<(bool, String)> {
    let Ok(output) = std::process::Command::new(program)
        .args(arguments)
        .arg(file)
        .output()
    else {
        crate::common::not_run(&format!("{program} is missing"));
        return None;
    };
    let text = [output.stdout, output.stderr].concat();
    Some((
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    ))
}

#[test]
fn keepalived_says_the_same() {
    let rules = fixtures().join("rules");
    for (code, words) in SAID_BY_KEEPALIVED {
        for (directory, says) in [
            (code.name().to_owned(), true),
            (format!("{code}--near-miss"), false),
        ] {
            let file = rules.join(&directory).join("keepalived.conf");
            let Some((_, text)) = said("keepalived", &["-t", "-f"], &file) else {
                return;
            };
            // `-t` writes to the log where it has no terminal to write to.
            if text.is_empty() && says {
                crate::common::not_run("keepalived -t says nothing here");
                return;
            }
            // An include that is not there is the near miss of what is not declared.
            let included = code == Code::TrackUndefined && !says;
            assert!(
                included || text.contains(words) == says,
                "{directory}: {text}"
            );
        }
    }
}

/// A directory with the file and a certificate, which stands in the place of the one that the file names.
fn with_certificate(file: &Path) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("site.pem");
    let authority = Authority::make("test", 1_700_000_000).unwrap();
    fs::write(&place, authority.certificate + &authority.key).unwrap();
    let text = fs::read_to_string(file).unwrap();
    let text = text.replace("/etc/haproxy/site.pem", place.to_str().unwrap());
    fs::write(directory.path().join("haproxy.cfg"), text).unwrap();
    directory
}

#[test]
fn haproxy_accepts_what_has_traps() {
    let mut checked = 0;
    for directory in fs::read_dir(fixtures().join("rules")).unwrap() {
        let file = directory.unwrap().path().join("haproxy.cfg");
        if !file.exists() {
            continue;
        }
        let seen = with_certificate(&file);
        let Some((accepted, text)) =
            said("haproxy", &["-c", "-f"], &seen.path().join("haproxy.cfg"))
        else {
            return;
        };
        // What a newer haproxy refuses is refused by the one that is here.
        let refused = file.parent().unwrap().ends_with("removed-word");
        assert_eq!(accepted, !refused, "{}: {text}", file.display());
        checked += 1;
    }
    assert!(checked > 30, "{checked}");
}
