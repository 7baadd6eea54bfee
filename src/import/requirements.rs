//! Lists of packages as pip reads them: which lines of one are no lock. The stack installs packages with
//! `--require-hashes`, so that every app server has the same ones; pip then refuses all that has no hash.

use std::fmt;

/// A line that pip refuses when hashes are required.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unlocked {
    /// Number of the line, from 1.
    pub line: usize,
    /// What stands there, without comment and options.
    pub what: String,
    /// Why.
    pub why: Why,
}

/// Why a line is no lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// A directory, or what a version control system has: no file that a hash could be of.
    NoFile,
    /// No version, or a range of them.
    NoVersion,
    /// A version, but no hash.
    NoHash,
}

impl fmt::Display for Unlocked {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.why {
            Why::NoFile => "is no package of one file, which a hash could be of",
            Why::NoVersion => "has no version (`==`) and no hash",
            Why::NoHash => "has no hash",
        };
        write!(out, "line {}: `{}` {why}", self.line, self.what)
    }
}

/// The lines of a requirements file that are no lock, in their order.
pub fn unlocked(text: &str) -> Vec<Unlocked> {
    let mut found = Vec::new();
    let (mut begun, mut joined) = (0, String::new());
    let lines = text.lines().chain(std::iter::once(""));
    for (index, line) in lines.enumerate() {
        if joined.is_empty() {
            begun = index + 1;
        }
        let line = line.trim_end();
        // A comment ends a line that goes on, as it does for pip.
        let goes_on = line.strip_suffix('\\');
        if let Some(part) = goes_on.filter(|_| !line.trim_start().starts_with('#')) {
            joined.push_str(part);
            joined.push(' ');
        } else {
            joined.push_str(line);
            found.extend(judge(begun, without_comment(&joined)));
            joined.clear();
        }
    }
    found
}

/// `#` begins a comment where a word could begin.
fn without_comment(line: &str) -> &str {
    let begins = |(at, _): &(usize, &str)| {
        line[..*at]
            .chars()
            .next_back()
            .is_none_or(char::is_whitespace)
    };
    let at = line.match_indices('#').find(begins);
    at.map_or(line, |(at, _)| &line[..at]).trim()
}

fn judge(line: usize, text: &str) -> Option<Unlocked> {
    let editable = ["-e", "--editable"].iter().any(|option| {
        let rest = text.strip_prefix(option);
        rest.is_some_and(|rest| rest.starts_with([' ', '=', '\t']))
    });
    // Other options are about where packages come from, or name further files.
    if text.is_empty() || (text.starts_with('-') && !editable) {
        return None;
    }
    let what = text.split(" --").next().unwrap_or(text).trim();
    let file = what.split('#').next().unwrap_or(what);
    let is_archive = [".whl", ".tar.gz", ".zip"]
        .iter()
        .any(|ending| file.ends_with(ending));
    let is_address = what.contains("://") || what.starts_with(['.', '/']);
    let has_hash = text.contains("--hash=") || text.contains("--hash ");
    let why = if editable || what.contains("git+") || (is_address && !is_archive) {
        Why::NoFile
    } else if has_hash || (is_address && what.contains("#sha256=")) {
        return None;
    } else if is_address || what.contains("==") {
        Why::NoHash
    } else {
        Why::NoVersion
    };
    Some(Unlocked {
        line,
        what: what.to_owned(),
        why,
    })
}

#[cfg(test)]
mod tests {
    use super::{Why, unlocked};

    #[track_caller]
    fn holds(text: &str, expected: &[(usize, &str, Why)]) {
        let found = unlocked(text);
        let found: Vec<_> = found
            .iter()
            .map(|it| (it.line, it.what.as_str(), it.why))
            .collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn locks_are_taken() {
        holds("", &[]);
        holds(
            "# only a comment\n\n--index-url https://pypi.example/simple\n-r more.txt\n",
            &[],
        );
        holds(
            "flask==3.1.0 \\\n    --hash=sha256:00 \\\n    --hash=sha256:11\n    # via -r requirements.in\n\
             gunicorn==23.0.0 --hash=sha256:22  # a server\n",
            &[],
        );
        holds("shop @ https://shop.example/shop-1.0.whl#sha256=00\n", &[]);
        holds("flask==3.1.0 \\\r\n    --hash=sha256:00\r\n", &[]);
    }

    #[test]
    fn what_pip_refuses_is_found_with_its_line() {
        holds(
            "# mine\nflask\ngunicorn==23.0.0\nuvicorn>=0.30 ; python_version > '3'\n\n-e .\n--editable=./lib\n\
             shop @ git+https://code.example/shop#egg=shop\n./lib\nlast==1 \\\n",
            &[
                (2, "flask", Why::NoVersion),
                (3, "gunicorn==23.0.0", Why::NoHash),
                (4, "uvicorn>=0.30 ; python_version > '3'", Why::NoVersion),
                (6, "-e .", Why::NoFile),
                (7, "--editable=./lib", Why::NoFile),
                (
                    8,
                    "shop @ git+https://code.example/shop#egg=shop",
                    Why::NoFile,
                ),
                (9, "./lib", Why::NoFile),
                (10, "last==1", Why::NoHash),
            ],
        );
        holds(
            "flask==3.1.0 \\\n    # --hash=sha256:00\nshop @ https://shop.example/shop-1.0.whl\n",
            &[
                (1, "flask==3.1.0", Why::NoHash),
                (3, "shop @ https://shop.example/shop-1.0.whl", Why::NoHash),
            ],
        );
    }
}
