//! How a controller that does not lead sends clients to the one that does: a status UNAVAILABLE that carries who
//! leads, and what a client says of where it was before.
//!
//! The address is a hint and no more: whoever is there must show a controller's certificate of our CA, as at any
//! other address.

use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Request, Status};

/// On the status: `EPOCH HOST:PORT`, or `none`.
const LEADER: &str = "bgctl-leader";
/// On a request: the epoch of a leader the client was sent to and could not reach.
const TRIED: &str = "bgctl-tried-epoch";
/// On a request that only reads: `leader`, whose word is preferred, or `follower`, whose word will do.
const READS: &str = "bgctl-reads";

/// Nobody leads, as far as is known.
const NONE: &str = "none";

/// Longest address: a DNS name has at most 253 bytes.
const ADDRESS_BYTES_MAX: usize = 253 + 6;

/// Times a client follows a redirect before it goes on with the addresses it was given: one is the rule, a second
/// is a change of leader meanwhile, and more would be controllers that send it round in circles.
pub const REDIRECTS_MAX: usize = 3;

/// Who leads, and where that one is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaderAt {
    /// Since which revision of the store.
    pub epoch: u64,
    /// `HOST:PORT`, as that controller advertises it.
    pub address: String,
}

/// What a controller that does not lead says about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Elsewhere {
    /// That one leads.
    At(LeaderAt),
    /// Nobody it knows of.
    Nobody,
}

/// Whose word a request that only reads wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// The leader's; soon, or nobody's.
    Leader,
    /// Anybody's.
    Follower,
}

impl Elsewhere {
    /// As a status.
    pub fn into_status(self) -> Status {
        let (text, value) = match &self {
            Self::At(leader) => (
                format!("this controller does not lead; the one at {} does", leader.address),
                format!("{} {}", leader.epoch, leader.address),
            ),
            Self::Nobody => ("no controller leads now; try again".to_owned(), NONE.to_owned()),
        };
        let mut status = Status::unavailable(text);
        // What cannot stand in a header is no address: the client is told nothing and tries the next one.
        if let Ok(value) = MetadataValue::try_from(value) {
            status.metadata_mut().insert(LEADER, value);
        }
        status
    }

    /// Reads a status. None: it says nothing of this kind.
    pub fn of(status: &Status) -> Option<Self> {
        let value = status.metadata().get(LEADER)?.to_str().ok()?;
        if value == NONE {
            return Some(Self::Nobody);
        }
        let (epoch, address) = value.split_once(' ')?;
        let leader = LeaderAt { epoch: epoch.parse().ok()?, address: address.to_owned() };
        is_address(address).then_some(Self::At(leader))
    }
}

/// Says which leader could not be reached.
pub fn set_tried<T>(request: &mut Request<T>, epoch: Option<u64>) {
    if let Some(epoch) = epoch {
        request.metadata_mut().insert(TRIED, MetadataValue::from(epoch));
    }
}

/// Which leader the client could not reach.
pub fn tried(metadata: &MetadataMap) -> Option<u64> {
    metadata.get(TRIED)?.to_str().ok()?.parse().ok()
}

/// Says that the request only reads, and whose word will do.
pub fn set_reads<T>(request: &mut Request<T>, reads: Reads) {
    let text = match reads {
        Reads::Leader => "leader",
        Reads::Follower => "follower",
    };
    request.metadata_mut().insert(READS, MetadataValue::from_static(text));
}

/// Whose word will do. None: nothing was said, and it must be the leader's.
pub fn reads(metadata: &MetadataMap) -> Option<Reads> {
    match metadata.get(READS)?.to_str().ok()? {
        "leader" => Some(Reads::Leader),
        "follower" => Some(Reads::Follower),
        _ => None,
    }
}

/// Whether a text is `HOST:PORT` that could be dialled.
pub fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let is_bracketed = host.starts_with('[') && host.ends_with(']') && host.len() > 2;
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    let is_host = is_bracketed || (!host.is_empty() && host.chars().all(plain));
    text.len() <= ADDRESS_BYTES_MAX && is_host && port.parse::<u16>().is_ok_and(|port| port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_leads_survives_the_wire() {
        let leader = Elsewhere::At(LeaderAt { epoch: 42, address: "10.0.0.5:7443".to_owned() });
        for said in [leader, Elsewhere::Nobody] {
            assert_eq!(Elsewhere::of(&said.clone().into_status()), Some(said));
        }
        assert_eq!(Elsewhere::of(&Status::unavailable("the store did not answer")), None);
    }

    #[test]
    fn what_is_no_address_is_followed_nowhere() {
        for bad in ["", "host", "host:0", "host:70000", ":7443", "a b:1", "http://host:1", "[]:1", "fd00::5:7443"] {
            let status = Elsewhere::At(LeaderAt { epoch: 1, address: bad.to_owned() }).into_status();
            assert_eq!(Elsewhere::of(&status), None, "{bad:?}");
        }
        for good in ["10.0.0.5:7443", "ctl_1.example.net:1", "[fd00::5]:65535"] {
            assert!(is_address(good), "{good:?}");
        }
    }
}
