//! Who takes part in a deployment, and who is left out.

use crate::spec::MissingHosts;
use cutover::ids::HostId;
use std::collections::{BTreeMap, BTreeSet};

/// Why a host is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absence {
    /// It is not linked.
    Away,
    /// An operator said so.
    Excluded,
}

impl std::fmt::Display for Absence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Away => "away",
            Self::Excluded => "excluded",
        })
    }
}

/// The hosts of a service when a deployment opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roll {
    /// They must all promise.
    pub participants: Vec<HostId>,
    /// They follow when they can.
    pub left_out: BTreeMap<HostId, Absence>,
    /// How many more may be left out while the release is made ready.
    pub may_be_missing: usize,
}

/// Why there is no roll.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RollError {
    /// Only a host of the service can be excluded.
    NotAHost(String),
    /// Somebody must take part.
    AllExcluded,
    /// More are away than may be.
    TooManyAway(Vec<HostId>),
}

/// The hosts that are not excluded, of which all would better be linked.
pub fn wanted(selected: &[HostId], excluded: &BTreeSet<String>) -> Result<Vec<HostId>, RollError> {
    if let Some(stranger) = excluded.iter().find(|name| !selected.iter().any(|host| host.as_str() == name.as_str())) {
        return Err(RollError::NotAHost(stranger.clone()));
    }
    let wanted: Vec<_> = selected.iter().filter(|host| !excluded.contains(host.as_str())).cloned().collect();
    if wanted.is_empty() { Err(RollError::AllExcluded) } else { Ok(wanted) }
}

/// Leaves out who is excluded and, as far as the policy goes, who is away. Who is excluded is missing as well: the
/// policy's number is spent on them first.
pub fn call(
    selected: &[HostId],
    excluded: &BTreeSet<String>,
    away: &[HostId],
    policy: MissingHosts,
) -> Result<Roll, RollError> {
    let wanted = wanted(selected, excluded)?;
    let allowed = policy.of(selected.len()).saturating_sub(excluded.len()).min(wanted.len() - 1);
    let (gone, participants): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|host| away.contains(host));
    let Some(may_be_missing) = allowed.checked_sub(gone.len()) else { return Err(RollError::TooManyAway(gone)) };
    let excluded = selected.iter().filter(|host| excluded.contains(host.as_str()));
    let left_out = gone.into_iter().map(|host| (host, Absence::Away));
    let left_out = left_out.chain(excluded.map(|host| (host.clone(), Absence::Excluded))).collect();
    Ok(Roll { participants, left_out, may_be_missing })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(names: &[&str]) -> Vec<HostId> {
        names.iter().map(|name| name.parse().expect("a name")).collect()
    }

    fn called(excluded: &[&str], away: &[&str], policy: &str) -> String {
        let excluded = excluded.iter().map(ToString::to_string).collect();
        let policy = policy.parse().expect("a policy");
        match call(&hosts(&["h1", "h2", "h3", "h4"]), &excluded, &hosts(away), policy) {
            Ok(Roll { participants, left_out, may_be_missing }) => {
                let names: Vec<_> = participants.iter().map(HostId::as_str).collect();
                let without: Vec<_> = left_out.iter().map(|(host, why)| format!(" -{host} {why:?}")).collect();
                format!("{}{} missing {may_be_missing}", names.join(" "), without.concat())
            }
            Err(RollError::NotAHost(name)) => format!("no host: {name}"),
            Err(RollError::AllExcluded) => "nobody".to_owned(),
            Err(RollError::TooManyAway(away)) => format!("away: {away:?}"),
        }
    }

    #[test]
    fn hosts_are_left_out_as_far_as_the_policy_goes() {
        for (excluded, away, policy, expected) in [
            (&[][..], &[][..], "none", "h1 h2 h3 h4 missing 0"),
            (&[], &["h3"], "none", "away: [HostId(\"h3\")]"),
            (&[], &[], "2", "h1 h2 h3 h4 missing 2"),
            (&[], &["h3"], "2", "h1 h2 h4 -h3 Away missing 1"),
            (&[], &["h3", "h1"], "50%", "h2 h4 -h1 Away -h3 Away missing 0"),
            (&[], &["h3", "h1"], "49%", "away: [HostId(\"h1\"), HostId(\"h3\")]"),
            (
                &[],
                &["h1", "h2", "h3", "h4"],
                "4",
                "away: [HostId(\"h1\"), HostId(\"h2\"), HostId(\"h3\"), HostId(\"h4\")]",
            ),
        ] {
            assert_eq!(called(excluded, away, policy), expected);
        }
    }

    #[test]
    fn an_operator_may_leave_out_whom_the_policy_does_not() {
        for (excluded, away, policy, expected) in [
            (&["h3"][..], &["h3"][..], "none", "h1 h2 h4 -h3 Excluded missing 0"),
            (&["h3"], &[], "none", "h1 h2 h4 -h3 Excluded missing 0"),
            (&["h3"], &["h3", "h1"], "none", "away: [HostId(\"h1\")]"),
            (&["h3"], &["h3", "h1"], "1", "away: [HostId(\"h1\")]"),
            (&["h3"], &["h3", "h1"], "2", "h2 h4 -h1 Away -h3 Excluded missing 0"),
            (&["h9"], &[], "none", "no host: h9"),
            (&["h1", "h2", "h3", "h4"], &[], "none", "nobody"),
            (&["h1", "h2", "h3"], &["h4"], "3", "away: [HostId(\"h4\")]"),
        ] {
            assert_eq!(called(excluded, away, policy), expected);
        }
    }
}
