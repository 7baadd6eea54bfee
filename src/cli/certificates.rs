//! The certificates that a topology names, as far as they can be read here: what is wrong with
//! them is a problem of the topology.

use crate::certificate::store::{Store, now};
use crate::certificate::{Bundle, Flaw, names_missing};
use crate::secrets::Secrets;
use crate::topology::{Checked, Code, Diagnostic, Place, Source, Tls};

/// Adds what is wrong with the certificates to what is wrong with the topology.
pub(super) fn judge(source: &Source, checked: &mut Checked) {
    let tls = checked
        .topology
        .as_ref()
        .and_then(|topology| topology.load_balancer().tls.as_ref());
    let Some(problems) = tls.map(|tls| problems(source, tls)) else {
        return;
    };
    if !problems.is_empty() {
        checked.add(source, problems);
    }
}

fn problems(source: &Source, tls: &Tls) -> Vec<Diagnostic> {
    let store = Store::of(Secrets::of_stack(&source.base.join("topology.json")).directory());
    let now = now().unwrap_or_default();
    let files = tls.certificates.files();
    let mut problems = Vec::new();
    let mut bundles = Vec::new();
    for (index, file) in files.iter().enumerate() {
        // Whoever has no keys can still look at a topology.
        let Ok(pem) = store.read(file) else { continue };
        let bundle = Bundle::read(&pem);
        let flaws = match &bundle {
            Ok(bundle) => bundle.flaws(now),
            Err(flaws) => flaws.clone(),
        };
        let path = store.path(file).display().to_string();
        problems.extend(flaws.iter().map(|flaw| diagnostic(index, &path, flaw)));
        bundles.extend(bundle.ok());
    }
    // Only when all are there is it known what is missing.
    if bundles.len() == files.len() {
        problems.extend(names(tls, &bundles));
    }
    problems
}

fn diagnostic(index: usize, path: &str, flaw: &Flaw) -> Diagnostic {
    let place = Place::value(format!("/load_balancer/tls/files/{index}"));
    Diagnostic::new(flaw.code, place, format!("{path}: {}", flaw.message))
}

fn names(tls: &Tls, bundles: &[Bundle]) -> Vec<Diagnostic> {
    let missing = names_missing(bundles, &tls.names)
        .into_iter()
        .map(|(index, name)| {
            let place = Place::value(format!("/load_balancer/tls/names/{index}"));
            Diagnostic::new(
                Code::NameNotCertified,
                place,
                format!("no certificate has the name {name}"),
            )
        });
    let is_served = |name: &String| tls.names.iter().any(|served| served.as_str() == name);
    let strange = bundles.iter().enumerate().flat_map(|(index, bundle)| {
        let names = bundle.names().iter().filter(|name| !is_served(name));
        names.map(move |name| {
            let place = Place::value(format!("/load_balancer/tls/files/{index}"));
            Diagnostic::new(
                Code::NameNotServed,
                place,
                format!("its name {name} is not among `names`"),
            )
        })
    });
    missing.chain(strange).collect()
}
