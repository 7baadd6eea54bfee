//! Credentials in a configuration file are covered before any line of it is shown.

use std::borrow::Cow;
use std::ops::Range;

/// What the name of a setting contains when its value is a credential.
const CONTAINED: [&str; 7] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "credential",
];
/// What such a name ends with.
const ENDINGS: [&str; 5] = ["pass", "pwd", "accesskey", "privatekey", "authkey"];

/// The text with an asterisk for each byte of a credential, so that every place in it
/// stays where it is.
pub fn masked(text: &str) -> Cow<'_, str> {
    let mut covered: Vec<Range<usize>> = Vec::new();
    let mut start = 0;
    let mut in_key = false;
    for line in text.split_inclusive('\n') {
        let content = line.trim_end_matches(['\n', '\r']);
        if content.contains("-----END") {
            in_key = false;
        }
        if in_key {
            covered.push(start..start + content.len());
        } else {
            let found = in_line(content).into_iter();
            covered.extend(found.map(|span| start + span.start..start + span.end));
        }
        if content.contains("-----BEGIN") && content.contains("PRIVATE KEY") {
            in_key = true;
        }
        start += line.len();
    }
    if covered.is_empty() {
        return Cow::Borrowed(text);
    }
    Cow::Owned(cover(text, covered))
}

fn cover(text: &str, mut covered: Vec<Range<usize>>) -> String {
    covered.sort_by_key(|span| span.start);
    let mut shown = String::with_capacity(text.len());
    let mut at = 0;
    for span in covered {
        let from = span.start.max(at);
        if span.end <= from {
            continue;
        }
        shown.push_str(text.get(at..from).unwrap_or_default());
        shown.extend(std::iter::repeat_n('*', span.end - from));
        at = span.end;
    }
    shown.push_str(text.get(at..).unwrap_or_default());
    shown
}

/// The credentials of one line.
fn in_line(line: &str) -> Vec<Range<usize>> {
    let mut found = in_addresses(line);
    found.extend(in_settings(line));
    for (marker, whole) in [("Basic ", false), ("Bearer ", false), ("AUTH\\ ", true)] {
        for (at, _) in line.match_indices(marker) {
            let from = at + marker.len();
            let end = if whole {
                line.len()
            } else {
                word_end(line, from)
            };
            found.push(from..end);
        }
    }
    found
}

/// The passwords of addresses such as `mongodb://user:password@host`.
fn in_addresses(line: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for (at, scheme) in line.match_indices("://") {
        let from = at + scheme.len();
        let ends = |c: char| c.is_whitespace() || "\"'`<>".contains(c);
        let user = line[from..].split(ends).next().unwrap_or_default();
        // A password that should have been escaped may hold `/` or `@`.
        if let Some(end) = user.rfind('@')
            && let Some(colon) = user[..end].find(':')
        {
            found.push(from + colon + 1..from + end);
        }
    }
    found
}

/// The values of settings whose names say that they are credentials, and of `auth USER:PASSWORD`.
fn in_settings(line: &str) -> Vec<Range<usize>> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(offset) = line[at..].find(is_name) {
        let from = at + offset;
        let length = line[from..].find(|c| !is_name(c));
        let end = length.map_or(line.len(), |length| from + length);
        let name = &line[from..end];
        at = end;
        if is_credential(name) {
            let first = line[..from]
                .trim_start()
                .trim_start_matches("export ")
                .trim()
                .is_empty();
            let value = value(line, end, first);
            at = value.end.max(end);
            found.push(value);
        } else if name == "auth" {
            let value = value(line, end, false);
            if let Some(colon) = line[value.clone()].find(':') {
                found.push(value.start + colon + 1..value.end);
            }
        }
    }
    found
}

fn is_credential(name: &str) -> bool {
    let plain: String = name
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect();
    CONTAINED.iter().any(|part| plain.contains(part))
        || ENDINGS.iter().any(|part| plain.ends_with(part))
}

/// The value behind the name that ends at `from`. Where the setting has the line for
/// itself (`first`), or is YAML, the value goes on to the end of the line.
fn value(line: &str, from: usize, first: bool) -> Range<usize> {
    let skip = |at: usize, set: &[char]| line.len() - line[at..].trim_start_matches(set).len();
    let named = skip(from, &['"', '\'', ' ', '\t']);
    let at = skip(named, &[':', '=', '>', ' ', '\t']);
    let separator = line[named..at].trim();
    let rest = &line[at..];
    let quoted = ['"', '\'']
        .into_iter()
        .find(|quote| rest.starts_with(*quote));
    if let Some(quote) = quoted {
        let inner = at + 1;
        let mut ends = line[inner..].match_indices(quote);
        let end = ends.find(|(end, _)| !line[..inner + end].ends_with('\\'));
        return inner..end.map_or(line.len(), |(end, _)| inner + end);
    }
    let whole = separator == ":" || (first && separator == "=");
    at..if whole {
        line.trim_end().len().max(at)
    } else {
        word_end(line, at)
    }
}

/// Where the word that begins at `from` ends.
fn word_end(line: &str, from: usize) -> usize {
    let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '<' | '>' | '&' | ',');
    line[from..].find(ends).map_or(line.len(), |end| from + end)
}

#[cfg(test)]
mod tests {
    use super::masked;

    #[test]
    fn credentials_are_covered_in_place() {
        for (text, shown) in [
            (
                "URI=mongodb://u:se:cr/et@db/x?w=1",
                "URI=mongodb://u:********@db/x?w=1",
            ),
            ("  auth_pass geheim # x", "  auth_pass ****** # x"),
            (
                "user a insecure-password pa55",
                "user a insecure-password ****",
            ),
            ("stats auth admin:pw1", "stats auth admin:***"),
            ("DB_PASSWORD=a b c", "DB_PASSWORD=*****"),
            ("password: é x", "password: ****"),
            (
                "\"password\": \"x y\", \"a\": 1",
                "\"password\": \"***\", \"a\": 1",
            ),
            ("h1 ansible_ssh_pass=abc x=1", "h1 ansible_ssh_pass=*** x=1"),
            ("?tlsKeyPassword=abc&w=1", "?tlsKeyPassword=***&w=1"),
            (
                "hdr Authorization \"Basic YTpi\"",
                "hdr Authorization \"Basic ****\"",
            ),
            (
                "tcp-check send AUTH\\ abc\\r\\n",
                "tcp-check send AUTH\\ *******",
            ),
            (
                "-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----\n",
                "-----BEGIN PRIVATE KEY-----\n***\n-----END PRIVATE KEY-----\n",
            ),
        ] {
            assert_eq!(masked(text), shown);
            assert_eq!(masked(text).len(), text.len());
        }
    }

    #[test]
    fn what_is_no_credential_stays() {
        for text in [
            "mongodb://a:27017,b:27017/x?replicaSet=rs0",
            "server a 10.0.0.1:80 check",
            "auth_type PASS\n",
            "keyFile: /etc/key",
            "stats auth",
            "",
        ] {
            assert_eq!(masked(text), text);
        }
    }
}
