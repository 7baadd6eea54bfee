use super::authority::{Authority, Wish};
use super::store::Store;
use super::*;

const NOW: i64 = 1_800_000_000;

fn wish(names: &[&str], from: i64, days: i64) -> Wish {
    Wish {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        addresses: vec!["10.0.0.1".parse().unwrap()],
        from,
        days,
    }
}

fn certificate_and_key(pem: &str) -> (String, String) {
    let at = pem.find("-----BEGIN PRIVATE KEY").unwrap();
    (pem[..at].to_owned(), pem[at..].to_owned())
}

fn codes(flaws: &[Flaw]) -> Vec<Code> {
    flaws.iter().map(|flaw| flaw.code).collect()
}

#[test]
fn a_good_one_tells_names_and_days() {
    let authority = Authority::make("test", NOW).unwrap();
    let pem = authority
        .sign(&wish(&["www.example.org", "*.example.net"], NOW, 90))
        .unwrap();
    let bundle = Bundle::read(pem.as_bytes()).unwrap();
    assert_eq!(
        bundle.names(),
        ["www.example.org", "*.example.net", "10.0.0.1"]
    );
    assert_eq!(bundle.days_left(NOW), 90);
    assert!(bundle.is_for("www.example.org") && bundle.is_for("a.example.net"));
    assert!(!bundle.is_for("example.net") && !bundle.is_for("a.b.example.net"));
    // Its root is known to nobody; with the root in the file it is somebody's own.
    assert_eq!(codes(&bundle.flaws(NOW)), [Code::IncompleteChain]);
    let (certificate, key) = certificate_and_key(&pem);
    let whole = certificate + &authority.certificate + &key;
    assert_eq!(Bundle::read(whole.as_bytes()).unwrap().flaws(NOW), []);
}

#[test]
fn time_is_looked_at() {
    let authority = Authority::make("test", NOW - 100 * DAY).unwrap();
    let pem = authority.sign(&wish(&["a.example"], NOW, 90)).unwrap();
    let bundle = Bundle::read(pem.as_bytes()).unwrap();
    let at = |days: i64| codes(&bundle.flaws(NOW + days * DAY))[0];
    assert_eq!(at(-1), Code::CertificateExpired);
    assert_eq!(at(0), Code::IncompleteChain);
    assert_eq!(at(70), Code::CertificateExpires);
    assert_eq!(at(90), Code::CertificateExpired);
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let authority = Authority::make("test", NOW).unwrap();
    let other = Authority::make("test", NOW).unwrap();
    let [one, two] = [1, 2].map(|_| authority.sign(&wish(&["a.example"], NOW, 90)).unwrap());
    let (certificate, key) = certificate_and_key(&one);
    let (_, foreign) = certificate_and_key(&two);
    let refused = |text: String| codes(&Bundle::read(text.as_bytes()).unwrap_err());
    assert_eq!(
        refused(certificate.clone() + &foreign),
        [Code::CertificateKeyMismatch]
    );
    // The same name and another key: only the signature tells.
    assert_eq!(
        refused(certificate.clone() + &other.certificate + &key),
        [Code::BrokenChain]
    );
    assert_eq!(refused(certificate.clone()), [Code::UnreadableCertificate]);
    assert_eq!(refused(key.clone()), [Code::UnreadableCertificate]);
    let locked = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let flaws = Bundle::read((certificate.clone() + &locked).as_bytes()).unwrap_err();
    assert!(flaws[0].message.contains("password"), "{flaws:?}");
    assert_eq!(
        refused(certificate.replace('M', "-") + &key),
        [Code::UnreadableCertificate]
    );
    assert_eq!(
        refused("<!doctype html>".into()),
        [Code::UnreadableCertificate]
    );
}

#[test]
fn a_bad_one_leaves_the_others_untouched() {
    let directory = tempfile::tempdir().unwrap();
    let [own, node] = ["own", "node"].map(|name| Store::at(directory.path().join(name)));
    let authority = own.authority("test", NOW).unwrap();
    let pem = authority.sign(&wish(&["a.example"], NOW, 90)).unwrap();
    own.put("a.pem", pem.as_bytes()).unwrap();
    own.put("b.pem", certificate_and_key(&pem).0.as_bytes())
        .unwrap();
    assert!(own.init_ticket_keys().unwrap() && !own.init_ticket_keys().unwrap());
    let files = ["a.pem".to_owned(), "b.pem".to_owned()];
    let error = own.give(&files, &node, NOW).unwrap_err().to_string();
    assert!(
        error.contains("b.pem is not loaded") && error.contains("no private key"),
        "{error}"
    );
    assert!(!error.contains("BEGIN"), "{error}");
    assert!(node.read("a.pem").is_err());
    own.give(&files[..1], &node, NOW).unwrap();
    assert_eq!(node.read("a.pem").unwrap(), pem.as_bytes());
    let before = node.ticket_keys().unwrap();
    own.rotate_ticket_keys().unwrap();
    let after = own.ticket_keys().unwrap();
    assert_eq!(after[..2], before[1..]);
    assert_eq!(after.len(), 3);
}
