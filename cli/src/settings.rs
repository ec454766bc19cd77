//! What the typed line means: addresses checked, the identity found, colours decided.

use crate::args::{Color, Typed, Verb};
use bgctl_proto::link::{Identity, IdentityError};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// The link below gives up by itself after this long: more could be typed but not kept.
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(5);

/// The file names in an identity folder, as `bgctl-controller issue-operator` writes them.
const IDENTITY_FILES: [&str; 3] = ["ca.crt", "operator.crt", "operator.key"];

/// What every verb needs to know.
#[derive(Debug)]
pub struct Settings {
    /// In the order to try them; at least one.
    pub controllers: Vec<Address>,
    /// Who asks.
    pub identity: Identity,
    /// For one controller to answer; not zero.
    pub connect_timeout: Duration,
    /// JSON on stdout.
    pub json: bool,
}

impl Settings {
    /// Reads meaning into what was typed. Sets the process' choice of colours on the way.
    pub fn from_typed(typed: Typed) -> Result<(Self, Verb), SettingsError> {
        let Typed { globals, verb } = typed;
        anstream::ColorChoice::write_global(match globals.color {
            Color::Auto => anstream::ColorChoice::Auto,
            Color::Always => anstream::ColorChoice::Always,
            Color::Never => anstream::ColorChoice::Never,
        });
        let typed = globals.controller.iter().map(|text| text.trim()).filter(|text| !text.is_empty());
        let controllers = typed.map(str::parse).collect::<Result<Vec<Address>, _>>()?;
        if controllers.is_empty() {
            return Err(SettingsError::NoController);
        }
        let connect_timeout = globals.connect_timeout;
        if connect_timeout.is_zero() || connect_timeout > CONNECT_TIMEOUT_MAX {
            return Err(SettingsError::ConnectTimeout { typed: connect_timeout });
        }
        let identity = load_identity(globals.identity)?;
        Ok((Self { controllers, identity, connect_timeout, json: globals.json }, verb))
    }
}

/// Where a controller listens: `HOST:PORT`, an IPv6 host in brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address(String);

impl Address {
    /// As typed.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Address {
    type Err = SettingsError;
    fn from_str(text: &str) -> Result<Self, SettingsError> {
        let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
        let bracketed = host.starts_with('[') && host.ends_with(']') && host.len() > 2;
        let host_fits = bracketed || (!host.is_empty() && !host.contains([':', '/', '[', ']']));
        if host_fits && port.parse::<u16>().is_ok_and(|port| port > 0) {
            Ok(Self(text.to_owned()))
        } else {
            Err(SettingsError::Address { typed: text.to_owned() })
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Arguments that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// Nobody to ask.
    #[error("no controller given\nsay where one listens: --controller HOST:PORT, or BGCTL_CONTROLLERS=HOST:PORT,...")]
    NoController,
    /// Not an address.
    #[error("controller {typed:?} is no address: expected HOST:PORT, for example 10.0.0.5:7700 or [fd00::5]:7700")]
    Address {
        /// As typed.
        typed: String,
    },
    /// Not a useful time.
    #[error(
        "--connect-timeout {} cannot be kept: expected more than 0s and at most {}",
        humantime::format_duration(*typed),
        humantime::format_duration(CONNECT_TIMEOUT_MAX)
    )]
    ConnectTimeout {
        /// As typed.
        typed: Duration,
    },
    /// No folder to look in.
    #[error("HOME is not set, so there is no ~/.config/bgctl\nsay where the identity is: --identity DIR")]
    NoHome,
    /// Nothing in the folder.
    #[error(
        "no operator's identity in {}: {} missing\n\
         make one with `bgctl-controller issue-operator` on a controller's machine and put its {} there,\n\
         or say where they are: --identity DIR, or BGCTL_IDENTITY=DIR",
        folder.display(), missing.join(", "), IDENTITY_FILES.join(", ")
    )]
    IdentityMissing {
        /// Where they should be.
        folder: PathBuf,
        /// Which are not.
        missing: Vec<&'static str>,
    },
    /// There, but of no use.
    #[error("{cause}\nmake a new identity with `bgctl-controller issue-operator`")]
    Identity {
        /// Which file, and why.
        cause: IdentityError,
    },
}

fn load_identity(typed: Option<PathBuf>) -> Result<Identity, SettingsError> {
    let folder = match typed.filter(|path| !path.as_os_str().is_empty()) {
        Some(folder) => folder,
        None => default_folder()?,
    };
    let missing: Vec<_> = IDENTITY_FILES.into_iter().filter(|name| is_absent(&folder.join(name))).collect();
    if !missing.is_empty() {
        return Err(SettingsError::IdentityMissing { folder, missing });
    }
    let [ca, certificate, key] = IDENTITY_FILES.map(|name| folder.join(name));
    Identity::load(&ca, &certificate, &key).map_err(|cause| SettingsError::Identity { cause })
}

/// A file that is there but must not be read is not absent: reading it says why.
fn is_absent(path: &Path) -> bool {
    path.try_exists().is_ok_and(|exists| !exists)
}

fn default_folder() -> Result<PathBuf, SettingsError> {
    let home = std::env::home_dir().filter(|home| !home.as_os_str().is_empty()).ok_or(SettingsError::NoHome)?;
    Ok(home.join(".config").join("bgctl"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for good in ["10.0.0.5:7700", "ctl.example.net:1", "[fd00::5]:65535", "localhost:80"] {
            assert_eq!(good.parse::<Address>().unwrap().as_str(), good);
        }
        for bad in ["", "host", ":7700", "host:", "host:0", "host:65536", "fd00::5:7700", "http://host:80", "[]:1"] {
            assert!(bad.parse::<Address>().is_err(), "{bad:?} was taken for an address");
        }
    }
}
