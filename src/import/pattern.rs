//! A host as an inventory names it: a pattern that stands for several, and a port.

use std::net::Ipv6Addr;

/// A host of an inventory, apart from its port.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Host {
    /// Its name or address.
    pub name: String,
    /// The port that stands behind it.
    pub port: Option<String>,
}

/// The hosts that `pattern` stands for: `web[1:3]`, `10.0.0.1:2222`, `[fd00::1]:22`.
///
/// # Errors
/// If its brackets are no range.
pub(super) fn hosts(pattern: &str) -> Result<Vec<Host>, String> {
    let address = |text: &str| text.parse::<Ipv6Addr>().is_ok();
    if address(pattern) {
        return Ok(vec![Host {
            name: pattern.to_owned(),
            port: None,
        }]);
    }
    if let Some((inside, after)) = pattern
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
        && address(inside)
    {
        let port = after.strip_prefix(':').map(str::to_owned);
        return Ok(vec![Host {
            name: inside.to_owned(),
            port,
        }]);
    }
    let (names, port) = split_port(pattern);
    let all = expand(names)?.into_iter();
    Ok(all
        .map(|name| Host {
            name,
            port: port.map(str::to_owned),
        })
        .collect())
}

/// A name or an IPv4 address, and the port behind its only colon outside of brackets.
pub(super) fn split_port(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((name, port))
            if !port.is_empty()
                && port.bytes().all(|byte| byte.is_ascii_digit())
                && name.matches('[').count() == name.matches(']').count()
                && text.parse::<Ipv6Addr>().is_err() =>
        {
            (name, Some(port))
        }
        _ => (text, None),
    }
}

/// The hosts that a pattern such as `web[01:10]` stands for; itself where there is none.
fn expand(pattern: &str) -> Result<Vec<String>, String> {
    let Some((before, rest)) = pattern.split_once('[') else {
        return Ok(vec![pattern.to_owned()]);
    };
    let wrong = || format!("`{pattern}` is no range of hosts, such as `web[01:10]`");
    let (range, after) = rest.split_once(']').ok_or_else(wrong)?;
    let parts: Vec<&str> = range.split(':').collect();
    let (from, to, step) = match parts.as_slice() {
        [from, to] => (*from, *to, 1),
        [from, to, step] => (*from, *to, step.parse().map_err(|_| wrong())?),
        _ => return Err(wrong()),
    };
    let middle: Vec<String> =
        if let (Ok(first), Ok(last)) = (from.parse::<u32>(), to.parse::<u32>()) {
            let width = if from.starts_with('0') { from.len() } else { 0 };
            let numbers = (first..=last).step_by(usize::max(step, 1));
            numbers
                .take(10_000)
                .map(|number| format!("{number:0width$}"))
                .collect()
        } else {
            let one = |text: &str| {
                let mut letters = text.chars();
                letters
                    .next()
                    .filter(|letter| letter.is_ascii_alphabetic() && letters.next().is_none())
            };
            let (first, last) = one(from).zip(one(to)).ok_or_else(wrong)?;
            (first..=last)
                .step_by(usize::max(step, 1))
                .map(String::from)
                .collect()
        };
    if middle.is_empty() {
        return Err(wrong());
    }
    let mut hosts = Vec::new();
    for tail in expand(after)? {
        hosts.extend(
            middle
                .iter()
                .map(|middle| format!("{before}{middle}{tail}")),
        );
    }
    Ok(hosts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_hosts() {
        assert_eq!(expand("web").unwrap(), ["web"]);
        assert_eq!(
            expand("web[08:10].x").unwrap(),
            ["web08.x", "web09.x", "web10.x"]
        );
        assert_eq!(expand("db-[a:c]").unwrap(), ["db-a", "db-b", "db-c"]);
        assert_eq!(expand("n[1:5:2]").unwrap(), ["n1", "n3", "n5"]);
        for wrong in ["n[1:", "n[]", "n[1]", "n[b:a]", "n[aa:b]", "n[5:1]"] {
            assert!(expand(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_port_is_no_part_of_the_host() {
        let one = |pattern: &str| {
            let mut all = hosts(pattern).unwrap();
            let Host { name, port } = all.remove(0);
            (name, port.unwrap_or_default(), all.len())
        };
        let is = |name: &str, port: &str, more| (name.to_owned(), port.to_owned(), more);
        assert_eq!(one("10.1.1.21:2222"), is("10.1.1.21", "2222", 0));
        assert_eq!(one("web1:2222"), is("web1", "2222", 0));
        assert_eq!(one("web[1:3]:22"), is("web1", "22", 2));
        assert_eq!(one("[fd00::1]:22"), is("fd00::1", "22", 0));
        // Nothing of these is a port.
        assert_eq!(one("web[1:3]"), is("web1", "", 2));
        assert_eq!(one("fd00::12"), is("fd00::12", "", 0));
        assert_eq!(one("web1"), is("web1", "", 0));
    }
}
