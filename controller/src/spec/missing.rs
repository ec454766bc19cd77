//! How many hosts of a service a deployment may do without.

use std::fmt;
use std::str::FromStr;

/// The policy for hosts that are away, or do not answer while the release is made ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MissingHosts {
    /// All must be there.
    #[default]
    None,
    /// So many may be missing; from 1.
    Count(u16),
    /// So many of a hundred, rounded down; 1 to 99.
    Percent(u8),
}

impl MissingHosts {
    /// How many of so many hosts. One at least takes part, whatever the policy.
    pub fn of(self, hosts: usize) -> usize {
        let allowed = match self {
            Self::None => 0,
            Self::Count(count) => usize::from(count),
            Self::Percent(percent) => hosts * usize::from(percent) / 100,
        };
        allowed.min(hosts.saturating_sub(1))
    }
}

/// As it stands in a spec.
impl fmt::Display for MissingHosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// A text that is no policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected none, a number of hosts from 0 to 65535, or a percentage from 0% to 99%")]
pub struct MissingHostsError;

impl FromStr for MissingHosts {
    type Err = MissingHostsError;

    fn from_str(text: &str) -> Result<Self, MissingHostsError> {
        let number = |text: &str| {
            let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<u16>().ok().filter(|_| is_number).ok_or(MissingHostsError)
        };
        if text == "none" {
            return Ok(Self::None);
        }
        match text.strip_suffix('%').map(number).transpose()? {
            None => Ok(match number(text)? {
                0 => Self::None,
                count => Self::Count(count),
            }),
            Some(0) => Ok(Self::None),
            Some(percent @ 1..=99) => Ok(Self::Percent(percent as u8)),
            Some(100..) => Err(MissingHostsError),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_percentages_are_read_and_nothing_else() {
        for (text, shown) in
            [("none", "none"), ("0", "none"), ("0%", "none"), ("2", "2"), ("34%", "34%"), ("99%", "99%")]
        {
            assert_eq!(text.parse::<MissingHosts>().map(|policy| policy.to_string()), Ok(shown.to_owned()), "{text}");
        }
        for text in ["", "all", "-1", "+1", "1.5", "100%", "%", "1 %", "65536", "1 host", "None"] {
            assert_eq!(text.parse::<MissingHosts>(), Err(MissingHostsError), "{text:?}");
        }
    }

    #[test]
    fn percentages_are_rounded_down_and_somebody_always_takes_part() {
        for (policy, hosts, allowed) in [
            (MissingHosts::None, 3, 0),
            (MissingHosts::Count(1), 3, 1),
            (MissingHosts::Count(7), 3, 2),
            (MissingHosts::Count(1), 1, 0),
            (MissingHosts::Count(1), 0, 0),
            (MissingHosts::Percent(34), 3, 1),
            (MissingHosts::Percent(33), 3, 0),
            (MissingHosts::Percent(10), 25, 2),
            (MissingHosts::Percent(99), 2, 1),
        ] {
            assert_eq!(policy.of(hosts), allowed, "{policy} of {hosts}");
        }
    }
}
