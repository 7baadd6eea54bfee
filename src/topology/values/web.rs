//! Words of the web: where an application is, paths, host names.

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Where the application's callable is, as gunicorn takes it: `module:callable`, or
/// `module:factory()` for a function without arguments that makes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Entry(String);

text_value!(
    Entry,
    "wsgi-entry",
    "module and callable, such as \"app:app\" or \"app:create_app()\""
);

impl FromStr for Entry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let dotted = |path: &str| path.split('.').all(is_identifier);
        match text.split_once(':') {
            Some((module, callable))
                if dotted(module) && dotted(callable.strip_suffix("()").unwrap_or(callable)) =>
            {
                Ok(Self(text.to_owned()))
            }
            _ => {
                Err("write it as `module:callable`, such as \"app:app\" for `app` in app.py, or \"app:create_app()\"".into())
            }
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// What stands in a request's Host header: a host name or an IPv4 address, with a port or without.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostHeader(String);

text_value!(
    HostHeader,
    "host-header",
    "host name for the Host header, such as \"app.internal\""
);

impl FromStr for HostHeader {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, port) = text.split_once(':').unwrap_or((text, "80"));
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        if (1..=253).contains(&host.len())
            && host.chars().all(allowed)
            && port.parse::<u16>().is_ok_and(|port| port > 0)
        {
            Ok(Self(text.to_owned()))
        } else {
            Err("write a host name, such as \"app.internal\" or \"www.example.org:8080\"".into())
        }
    }
}

impl fmt::Display for HostHeader {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// An absolute URL path without query, as it may stand in a request line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UrlPath(String);

text_value!(UrlPath, "url-path", "path of a URL, such as \"/readyz\"");

impl FromStr for UrlPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "/-._~".contains(c);
        if text.starts_with('/') && text.len() <= 200 && text.chars().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err("a path begins with `/` and is made of letters, digits and `/-._~`".into())
        }
    }
}

impl fmt::Display for UrlPath {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

fn is_identifier(word: &str) -> bool {
    let mut chars = word.chars();
    chars
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}
