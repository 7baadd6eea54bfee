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

/// A host name that visitors ask for, or all names one step below another: `*.example.org`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServedName(String);

text_value!(
    ServedName,
    "served-name",
    "host name in lower case, such as \"www.example.org\" or \"*.example.org\""
);

impl ServedName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether `name`, a host name or one of many (`*.example.org`), stands for `host`; a wildcard for one label.
pub fn covers(name: &str, host: &str) -> bool {
    let wild = name.strip_prefix("*.").zip(host.split_once('.'));
    name == host || wild.is_some_and(|(rest, (_, parent))| rest == parent)
}

impl FromStr for ServedName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.strip_prefix("*.").unwrap_or(text);
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.chars().all(allowed)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        // The last label of an address is a number, that of a name never is.
        let is_address = name
            .rsplit('.')
            .next()
            .is_some_and(|last| last.parse::<u32>().is_ok());
        if text.len() <= 253 && name.split('.').all(is_label) && !is_address {
            Ok(Self(text.to_owned()))
        } else {
            Err(
                "write a host name in lower case, such as \"www.example.org\" or \"*.example.org\""
                    .into(),
            )
        }
    }
}

impl fmt::Display for ServedName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// Name of a file with a certificate, its chain and its key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CertificateFile(String);

text_value!(
    CertificateFile,
    "certificate-file",
    "name of a PEM file, such as \"site.pem\""
);

impl CertificateFile {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CertificateFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if text.len() <= 100
            && text
                .strip_suffix(".pem")
                .is_some_and(|stem| !stem.is_empty())
            && text.chars().all(allowed)
            && !text.starts_with('.')
        {
            Ok(Self(text.to_owned()))
        } else {
            Err("write the file's name without its directory, such as \"site.pem\"; it is looked for in .gen-topology/secrets/certificates beside the topology file".into())
        }
    }
}

impl fmt::Display for CertificateFile {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// Address of an ACME directory: `https://`, a host, a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DirectoryUrl(String);

text_value!(
    DirectoryUrl,
    "https-url",
    "address of an ACME directory, such as \"https://acme-v02.api.letsencrypt.org/directory\""
);

impl DirectoryUrl {
    /// The address as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for DirectoryUrl {
    /// Let's Encrypt.
    fn default() -> Self {
        Self("https://acme-v02.api.letsencrypt.org/directory".into())
    }
}

impl FromStr for DirectoryUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-._~:/?=&%".contains(c);
        let rest = text.strip_prefix("https://").unwrap_or_default();
        let host = rest.split('/').next().unwrap_or_default();
        let (name, port) = host.split_once(':').unwrap_or((host, "443"));
        if text.len() <= 300
            && !name.is_empty()
            && port.parse::<u16>().is_ok_and(|port| port > 0)
            && rest.chars().all(allowed)
        {
            Ok(Self(text.to_owned()))
        } else {
            Err("write the address of an ACME directory, such as \"https://acme-v02.api.letsencrypt.org/directory\"; it has to begin with `https://`".into())
        }
    }
}

impl fmt::Display for DirectoryUrl {
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
