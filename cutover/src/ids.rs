//! The nouns of the protocol, each its own type. Text is checked once, where it enters.

use std::fmt;
use std::str::FromStr;

/// Longest service, host and deployment name, in bytes: a DNS label, so that a name can stand in a
/// container name, a host name and an nginx upstream name without being shortened.
pub const NAME_BYTES_MAX: usize = 63;

/// A text that is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what} {text:?} is not a name: expected 1 to {NAME_BYTES_MAX} of a-z, 0-9 and '-', \
     starting and ending with a letter or digit"
)]
pub struct NameError {
    what: &'static str,
    text: String,
}

fn checked(what: &'static str, text: &str) -> Result<String, NameError> {
    let bytes = text.as_bytes();
    let plain = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let inside = bytes.iter().all(|b| plain(b) || *b == b'-');
    let ends = bytes.first().is_some_and(plain) && bytes.last().is_some_and(plain);
    if inside && ends && bytes.len() <= NAME_BYTES_MAX {
        Ok(text.to_owned())
    } else {
        Err(NameError { what, text: text.chars().take(2 * NAME_BYTES_MAX).collect() })
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(String);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                checked($what, text).map(Self)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name!(
    /// What switches as one: one or more containers and the routes to them.
    ServiceName, "service"
);
name!(
    /// A machine, and the agent on it. Always read from its certificate.
    HostId, "host"
);
name!(
    /// One attempt to bring services to a release on their hosts.
    DeploymentId, "deployment"
);

macro_rules! number {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $type(pub u64);

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// The store revision at which a deployment opened. Never reused, never falls on a host.
    Generation
);
number!(
    /// The store revision at which the present leader was elected.
    Epoch
);
number!(
    /// A store revision: every write to the store has a higher one than all before it.
    Revision
);

/// One life of a host's state: drawn at random when the state is first made, kept across restarts and
/// reboots, lost with the disk. A vote counts only for the incarnation that gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u128);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for Incarnation {
    type Err = std::num::ParseIntError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u128::from_str_radix(text, 16).map(Self)
    }
}

/// Names the content of a release: the SHA-256 of the spec revision's text for one service with every
/// image pinned. Two releases with one digest run the same thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReleaseDigest(pub [u8; 32]);

impl ReleaseDigest {
    /// The first twelve hexadecimal digits, enough to tell releases apart by eye.
    pub fn short(&self) -> String {
        self.to_string()[..12].to_owned()
    }
}

impl fmt::Display for ReleaseDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A text that is not a release digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("release digest {0:?} is not 64 hexadecimal digits")]
pub struct DigestError(String);

impl FromStr for ReleaseDigest {
    type Err = DigestError;
    fn from_str(text: &str) -> Result<Self, DigestError> {
        let error = || DigestError(text.chars().take(80).collect());
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(error());
        }
        let mut digest = [0; 32];
        for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| error())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| error())?;
        }
        Ok(Self(digest))
    }
}

/// One of the two places a service has on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Colour {
    /// The place the first release takes.
    Blue,
    /// The other one.
    Green,
}

impl Colour {
    /// Both, in the order they are listed everywhere.
    pub const BOTH: [Self; 2] = [Self::Blue, Self::Green];

    /// The other place.
    pub fn other(self) -> Self {
        match self {
            Self::Blue => Self::Green,
            Self::Green => Self::Blue,
        }
    }

    /// `blue` or `green`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Blue => "blue",
            Self::Green => "green",
        }
    }
}

impl fmt::Display for Colour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text that is neither `blue` nor `green`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("colour {0:?} is neither \"blue\" nor \"green\"")]
pub struct ColourError(String);

impl FromStr for Colour {
    type Err = ColourError;
    fn from_str(text: &str) -> Result<Self, ColourError> {
        match text {
            "blue" => Ok(Self::Blue),
            "green" => Ok(Self::Green),
            _ => Err(ColourError(text.chars().take(80).collect())),
        }
    }
}
