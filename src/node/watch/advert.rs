//! What watchers tell each other, in datagrams of JSON. Nothing in them is secret, and none is
//! believed without a look of one's own: see [`super::view`].

use serde::{Deserialize, Serialize};

/// Room for the longest datagram.
pub(super) const LONGEST: usize = 1024;

/// One datagram.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Datagram {
    /// A member to the other members: I am here.
    Advert(Advert),
    /// An app node to the members: tell me who is gone.
    Listen,
    /// A member to those who listen: the member at this `address:port` is gone.
    Gone(String),
}

/// What a member tells of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Advert {
    /// Its replica set.
    pub(super) set: String,
    /// How its mongod does.
    pub(super) state: State,
    /// The member that it copies from, `address:port`.
    pub(super) source: Option<String>,
    /// When the last write that it has was made, in milliseconds since 1970.
    pub(super) last_write_ms: i64,
}

/// How a mongod does, as its own node sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum State {
    /// It takes writes.
    Primary,
    /// It has a copy that can be read.
    Secondary,
    /// It starts, or copies.
    Other,
    /// Nobody listens at its port.
    Refusing,
    /// It listens and does not answer.
    Hanging,
}

impl Datagram {
    /// As it is sent.
    pub(super) fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// What was received; none if it is not one of ours.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::{Advert, Datagram, LONGEST, State};

    #[test]
    fn what_is_sent_fits_and_is_understood() {
        let advert = Datagram::Advert(Advert {
            set: "r".repeat(128),
            state: State::Secondary,
            source: Some("255.255.255.255:65535".into()),
            last_write_ms: i64::MIN,
        });
        for datagram in [
            advert,
            Datagram::Listen,
            Datagram::Gone("10.0.0.1:27017".into()),
        ] {
            let bytes = datagram.bytes();
            assert!(bytes.len() <= LONGEST);
            assert_eq!(Datagram::parse(&bytes), Some(datagram));
        }
        assert_eq!(Datagram::parse(b"{\"advert\":7}"), None);
    }
}
