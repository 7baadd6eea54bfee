//! The words of a topology file: names, durations, sizes. Each can only be made
//! valid, and each says in one sentence why a text is not one.

/// A text that is a valid value of its kind; the kind is the `format` of its schema.
macro_rules! text_value {
    ($type:ident, $format:literal, $description:literal) => {
        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "format": $format, "description": $description })
            }
        }
        impl TryFrom<String> for $type {
            type Error = String;
            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }
        impl From<$type> for String {
            fn from(value: $type) -> String {
                value.to_string()
            }
        }
    };
}

mod web;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use ipnet::Ipv4Net;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

pub use web::{CertificateFile, DirectoryUrl, Entry, HostHeader, ServedName, UrlPath, covers};

/// Name of a node or of a whole stack: a host name label (RFC 1123, lower case).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

text_value!(
    Name,
    "host-name",
    "1 to 63 lower-case letters, digits and hyphens"
);

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if text.is_empty() {
            return Err("a name must not be empty".into());
        }
        if text.len() > 63 {
            return Err(format!(
                "a name has at most 63 characters, this has {}",
                text.len()
            ));
        }
        if let Some(c) = text.chars().find(|c| !allowed(*c)) {
            return Err(format!(
                "a name is made of lower-case letters, digits and hyphens, not of {c:?}"
            ));
        }
        if text.starts_with('-') || text.ends_with('-') {
            return Err("a name neither begins nor ends with a hyphen".into());
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// A network interface's name as the Linux kernel accepts it: up to 15 bytes, no `/`, no blank.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Interface(String);

text_value!(
    Interface,
    "interface-name",
    "name of a network interface, such as \"eth0\""
);

impl FromStr for Interface {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
        if (1..=15).contains(&text.len())
            && text.chars().all(allowed)
            && !matches!(text, "." | "..")
        {
            Ok(Self(text.to_owned()))
        } else {
            Err("an interface name has 1 to 15 letters, digits, `-`, `_` and `.`".into())
        }
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// A word that names something inside `MongoDB`: a replica set or a database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DatabaseName(String);

text_value!(
    DatabaseName,
    "database-name",
    "1 to 38 letters, digits, `-` and `_`"
);

impl FromStr for DatabaseName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if (1..=38).contains(&text.len()) && text.chars().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err("use 1 to 38 letters, digits, `-` and `_`".into())
        }
    }
}

impl fmt::Display for DatabaseName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl DatabaseName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Hours of each day, as `MongoDB`'s balancer takes them: "02:00-06:00", by the clock of the
/// config servers. It may pass midnight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DailyWindow {
    start: String,
    stop: String,
}

text_value!(
    DailyWindow,
    "daily-window",
    "hours of each day, such as \"02:00-06:00\""
);

impl DailyWindow {
    /// When it begins, as `HH:MM`.
    pub fn start(&self) -> &str {
        &self.start
    }

    /// When it ends, as `HH:MM`.
    pub fn stop(&self) -> &str {
        &self.stop
    }
}

impl FromStr for DailyWindow {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_number = |digits: &str, below: u8| {
            digits.len() == 2
                && digits.bytes().all(|c| c.is_ascii_digit())
                && digits.parse::<u8>().is_ok_and(|number| number < below)
        };
        let is_time = |text: &str| {
            text.split_once(':')
                .is_some_and(|(hours, minutes)| is_number(hours, 24) && is_number(minutes, 60))
        };
        match text.split_once('-') {
            Some((start, stop)) if is_time(start) && is_time(stop) && start != stop => Ok(Self {
                start: start.to_owned(),
                stop: stop.to_owned(),
            }),
            _ => Err("write two times of day, such as \"02:00-06:00\"".into()),
        }
    }
}

impl fmt::Display for DailyWindow {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}-{}", self.start, self.stop)
    }
}

/// A length of time in whole milliseconds, written with a unit: "100ms", "2s", "5m", "1h".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Millis(u64);

text_value!(
    Millis,
    "duration",
    "duration with a unit: \"100ms\", \"2s\", \"5m\", \"1h\""
);

impl Millis {
    /// That many milliseconds.
    pub const fn new(milliseconds: u64) -> Self {
        Self(milliseconds)
    }

    /// Number of milliseconds.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The same length as a [`Duration`].
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }

    /// The same length in seconds.
    pub fn seconds(self) -> f64 {
        self.duration().as_secs_f64()
    }
}

impl FromStr for Millis {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let units = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];
        with_unit(text, &units).map(Self).ok_or_else(|| {
            "write a whole number and a unit: \"100ms\", \"2s\", \"5m\" or \"1h\"".into()
        })
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => out.write_str("0s"),
            n if n % 3_600_000 == 0 => write!(out, "{}h", n / 3_600_000),
            n if n % 60_000 == 0 => write!(out, "{}m", n / 60_000),
            n if n % 1000 == 0 => write!(out, "{}s", n / 1000),
            n => write!(out, "{n}ms"),
        }
    }
}

/// Where packets come from: an IPv4 subnet, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sources(Ipv4Net);

text_value!(
    Sources,
    "ipv4-sources",
    "IPv4 subnet or address: \"192.0.2.0/24\", \"192.0.2.7\""
);

impl Sources {
    /// The subnet; of 32 bits, where it is one address.
    pub const fn subnet(self) -> Ipv4Net {
        self.0
    }
}

impl FromStr for Sources {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address = text.parse::<std::net::Ipv4Addr>().map(Ipv4Net::from);
        let subnet = address.or_else(|_| text.parse::<Ipv4Net>());
        let subnet = subnet.map_err(
            |_| "write an IPv4 subnet or address, such as \"192.0.2.0/24\" or \"192.0.2.7\"",
        )?;
        if subnet.trunc() != subnet {
            return Err(format!("it has host bits; write \"{}\"", subnet.trunc()));
        }
        Ok(Self(subnet))
    }
}

impl fmt::Display for Sources {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.prefix_len() {
            32 => self.0.addr().fmt(out),
            _ => self.0.fmt(out),
        }
    }
}

/// An amount of memory in bytes, written with a unit: "256MiB", "2GiB".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Bytes(u64);

text_value!(
    Bytes,
    "size",
    "size with a unit: \"64KiB\", \"256MiB\", \"2GiB\""
);

impl Bytes {
    /// That many mebibytes.
    pub const fn mebibytes(count: u64) -> Self {
        Self(count << 20)
    }

    /// Number of bytes.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let units = [
            ("KiB", 1 << 10),
            ("MiB", 1 << 20),
            ("GiB", 1 << 30),
            ("TiB", 1 << 40),
        ];
        with_unit(text, &units).map(Self).ok_or_else(|| {
            "write a whole number and a unit: \"64KiB\", \"256MiB\" or \"2GiB\"".into()
        })
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            n if n > 0 && n % (1 << 30) == 0 => write!(out, "{}GiB", n >> 30),
            n if n > 0 && n % (1 << 20) == 0 => write!(out, "{}MiB", n >> 20),
            n => write!(out, "{}KiB", n >> 10),
        }
    }
}

/// `text` as a whole number followed by one of `units`, multiplied out.
fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = units.iter().find(|(name, _)| *name == unit)?.1;
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// Why `text` is not a value of the schema format `format`, if it is not.
///
/// # Panics
/// Never: a format that no value type announces is treated as free text, and a
/// test holds that the schema uses no other.
pub(super) fn refuse(format: &str, text: &str) -> Option<String> {
    match format {
        "host-name" => text.parse::<Name>().err(),
        "interface-name" => text.parse::<Interface>().err(),
        "database-name" => text.parse::<DatabaseName>().err(),
        "wsgi-entry" => text.parse::<Entry>().err(),
        "url-path" => text.parse::<UrlPath>().err(),
        "host-header" => text.parse::<HostHeader>().err(),
        "daily-window" => text.parse::<DailyWindow>().err(),
        "duration" => text.parse::<Millis>().err(),
        "size" => text.parse::<Bytes>().err(),
        "served-name" => text.parse::<ServedName>().err(),
        "https-url" => text.parse::<DirectoryUrl>().err(),
        "certificate-file" => text.parse::<CertificateFile>().err(),
        "ipv4-sources" => text.parse::<Sources>().err(),
        "ipv4" => {
            let parsed = text.parse::<std::net::Ipv4Addr>();
            parsed
                .err()
                .map(|_| "write an IPv4 address, such as \"10.20.0.10\"".into())
        }
        "ipv4-subnet" => {
            let parsed = text.parse::<Ipv4Net>();
            parsed
                .err()
                .map(|_| "write an IPv4 subnet, such as \"10.20.0.0/24\"".into())
        }
        _ => None,
    }
}

/// Formats that [`refuse`] knows.
#[cfg(test)]
pub(super) const FORMATS: &[&str] = &[
    "host-name",
    "interface-name",
    "database-name",
    "wsgi-entry",
    "url-path",
    "host-header",
    "daily-window",
    "duration",
    "size",
    "ipv4-sources",
    "ipv4",
    "ipv4-subnet",
    "served-name",
    "certificate-file",
    "https-url",
];
