//! Words of older versions that a newer haproxy refuses to start with.

use super::{Code, Cost, Findings};
use crate::native::Directive;
use crate::native::haproxy::{Config, Section};

/// First words of a line, the version that refuses them, and what to write instead.
const WORDS: [(&str, &str, &str); 35] = [
    ("appsession", "1.6", "a `stick-table`"),
    ("bind-process", "2.7", "`thread` on the `bind` line"),
    ("block", "2.1", "`http-request deny`"),
    ("clitimeout", "2.1", "`timeout client`"),
    ("contimeout", "2.1", "`timeout connect`"),
    ("grace", "2.5", "nothing"),
    ("nbproc", "2.5", "`nbthread`"),
    ("option forceclose", "2.0", "`option httpclose`, or nothing"),
    ("option http-tunnel", "2.1", "nothing"),
    ("option http_proxy", "2.5", "`http-request set-dst`"),
    ("redisp", "2.1", "`option redispatch`"),
    ("redispatch", "2.1", "`option redispatch`"),
    ("reqadd", "2.1", "`http-request add-header`"),
    ("reqallow", "2.1", "`http-request allow`"),
    ("reqdel", "2.1", "`http-request del-header`"),
    ("reqdeny", "2.1", "`http-request deny`"),
    ("reqiallow", "2.1", "`http-request allow`"),
    ("reqidel", "2.1", "`http-request del-header`"),
    ("reqideny", "2.1", "`http-request deny`"),
    ("reqipass", "2.1", "`http-request allow`"),
    (
        "reqirep",
        "2.1",
        "`http-request replace-header`, or `replace-path`",
    ),
    ("reqisetbe", "2.1", "`use_backend`"),
    ("reqitarpit", "2.1", "`http-request tarpit`"),
    ("reqpass", "2.1", "`http-request allow`"),
    (
        "reqrep",
        "2.1",
        "`http-request replace-header`, or `replace-path`",
    ),
    ("reqsetbe", "2.1", "`use_backend`"),
    ("reqtarpit", "2.1", "`http-request tarpit`"),
    ("rspadd", "2.1", "`http-response add-header`"),
    ("rspdel", "2.1", "`http-response del-header`"),
    ("rspdeny", "2.1", "`http-response deny`"),
    ("rspidel", "2.1", "`http-response del-header`"),
    ("rspideny", "2.1", "`http-response deny`"),
    ("rspirep", "2.1", "`http-response replace-header`"),
    ("rsprep", "2.1", "`http-response replace-header`"),
    ("srvtimeout", "2.1", "`timeout server`"),
];

/// Each such word of a configuration.
pub(super) fn words(config: &Config, findings: &mut Findings<'_>) {
    for section in &config.sections {
        head(section, findings);
        if !matches!(
            section.kind.as_str(),
            "global" | "defaults" | "frontend" | "backend" | "listen"
        ) {
            continue;
        }
        for line in &section.directives {
            let known = WORDS.iter().find(|(words, _, _)| begins(line, words));
            if let Some((words, version, instead)) = known {
                refused(line, words, version, instead, findings);
            }
        }
    }
}

fn begins(line: &Directive, words: &str) -> bool {
    let mut own = line.words.iter();
    words
        .split(' ')
        .all(|word| own.next().is_some_and(|own| own == word))
}

/// `listen NAME ADDRESS:PORT`.
fn head(section: &Section, findings: &mut Findings<'_>) {
    let is_proxy = matches!(section.kind.as_str(), "frontend" | "listen");
    let address = section.head.word(2);
    if is_proxy && !address.is_empty() && address != "from" {
        let words = format!("{} {} {address}", section.kind, section.name);
        refused(
            &section.head,
            &words,
            "2.6",
            "`bind` on a line of its own",
            findings,
        );
    }
}

fn refused(
    line: &Directive,
    words: &str,
    version: &str,
    instead: &str,
    findings: &mut Findings<'_>,
) {
    findings.costly(
        Code::RemovedWord,
        line.span(),
        format!("haproxy {version} and later refuse to start with `{words}`"),
        format!("write {instead} instead"),
        Cost::endless("after an upgrade haproxy does not start"),
    );
}
