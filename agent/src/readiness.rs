//! Whether a load balancer should send traffic to this host: the rule, without any of its surroundings.
//!
//! A host that serves what is committed, from a healthy colour, is ready. What is not known changes nothing
//! in the boot it was known in, and counts for nothing after a reboot.

use crate::executor::keep::Health;
use cutover::ids::Generation;
use std::time::Duration;

/// How long a host that came back from a reboot waits for a controller's word before it trusts its own journal.
/// Longer than a controller's failover takes (two leases of 5 s and an election), so that a host that missed a
/// commit while it was off hears of it first.
pub const WORD_WITHIN: Duration = Duration::from_secs(30);

/// What is known of one service on this host.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// Whether the store places it here; none: not known.
    pub is_placed: Option<bool>,
    /// The newest generation that is known to be committed, heard now or before a restart.
    pub committed: Option<Generation>,
    /// What is applied.
    pub applied: Option<Generation>,
    /// How what takes traffic is.
    pub health: &'a Health,
    /// Traffic is being moved to what is committed at this moment.
    pub is_moving: bool,
    /// Why nginx does not serve what it should, if it does not.
    pub edge: Option<&'a str>,
    /// What is known of the controller.
    pub contact: Contact,
    /// Fail closed after this long without contact; none: keep serving.
    pub grace: Option<Duration>,
}

/// What is known of the controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contact {
    /// Since a leader's word came last, or since the agent started. Zero while it is linked.
    pub silence: Duration,
    /// A leader's word came since the agent started.
    pub was_heard: bool,
    /// The agent ran before in this boot of the host: what was told then still counts.
    pub is_same_boot: bool,
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Send traffic.
    Ready,
    /// Send none, for this reason.
    NotReady(String),
    /// Nothing is known that would change what was told before.
    AsBefore,
}

/// Judges one service.
pub fn judge(facts: &Facts<'_>) -> Verdict {
    let not = |why: String| Verdict::NotReady(why);
    if facts.is_placed == Some(false) {
        return not("the store does not place it on this host".to_owned());
    }
    let Some(applied) = facts.applied else {
        return not("it has never served here".to_owned());
    };
    if let Some(committed) = facts.committed
        && committed > applied
    {
        let behind = format!("it serves generation {applied}, and {committed} is committed");
        return if facts.is_moving { Verdict::AsBefore } else { not(behind) };
    }
    if let Some(trouble) = facts.edge {
        return not(format!("nginx does not serve what it should: {trouble}"));
    }
    match facts.health {
        Health::Healthy => by_contact(facts),
        Health::Starting => Verdict::AsBefore,
        Health::Unhealthy(why) => not(format!("it is not healthy: {why}")),
        Health::Dead(why) => not(format!("it does not run: {why}")),
    }
}

/// Everything here is well: what counts is who says that it is current.
fn by_contact(facts: &Facts<'_>) -> Verdict {
    let Contact { silence, was_heard, is_same_boot } = facts.contact;
    match facts.grace {
        Some(grace) if silence >= grace => {
            Verdict::NotReady(format!("no controller for {} s, and it fails closed", grace.as_secs()))
        }
        Some(_) | None if was_heard => Verdict::Ready,
        None if silence >= WORD_WITHIN => Verdict::Ready,
        Some(_) | None if is_same_boot => Verdict::AsBefore,
        Some(_) | None => Verdict::NotReady(format!(
            "the host was rebooted and has not heard a controller yet; waits {} s for one",
            facts.grace.unwrap_or(WORD_WITHIN).as_secs()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINKED: Contact = Contact { silence: Duration::ZERO, was_heard: true, is_same_boot: true };

    fn silent(seconds: u64, was_heard: bool, is_same_boot: bool) -> Contact {
        Contact { silence: Duration::from_secs(seconds), was_heard, is_same_boot }
    }

    fn well(contact: Contact) -> Facts<'static> {
        Facts {
            is_placed: Some(true),
            committed: Some(Generation(42)),
            applied: Some(Generation(42)),
            health: &Health::Healthy,
            is_moving: false,
            edge: None,
            contact,
            grace: None,
        }
    }

    fn word(facts: &Facts<'_>) -> String {
        match judge(facts) {
            Verdict::Ready => "ready".to_owned(),
            Verdict::AsBefore => "as before".to_owned(),
            Verdict::NotReady(why) => why,
        }
    }

    #[test]
    fn only_a_host_that_serves_what_is_committed_from_a_healthy_colour_is_ready() {
        let dead = Health::Dead("exited with code 1".to_owned());
        let sick = Health::Unhealthy("connection refused".to_owned());
        let g = |number| Some(Generation(number));
        let table = [
            ("current and healthy", well(LINKED), "ready"),
            ("ahead of what was heard last", Facts { committed: g(40), ..well(LINKED) }, "ready"),
            ("nothing is known to be newer", Facts { committed: None, ..well(LINKED) }, "ready"),
            ("missed a commit", Facts { applied: g(41), ..well(LINKED) }, "serves generation 41, and 42 is committed"),
            ("follows a commit", Facts { applied: g(41), is_moving: true, ..well(LINKED) }, "as before"),
            ("new host", Facts { applied: None, ..well(LINKED) }, "never served here"),
            ("dropped by the spec", Facts { is_placed: Some(false), ..well(LINKED) }, "does not place it"),
            ("its container died", Facts { health: &dead, ..well(LINKED) }, "does not run: exited with code 1"),
            ("its container is sick", Facts { health: &sick, ..well(LINKED) }, "not healthy: connection refused"),
            ("its health is not known yet", Facts { health: &Health::Starting, ..well(LINKED) }, "as before"),
            (
                "the switch cannot be read",
                Facts { edge: Some("403"), ..well(LINKED) },
                "does not serve what it should: 403",
            ),
            (
                "missed a commit and is cut off",
                Facts { applied: g(41), ..well(silent(900, false, true)) },
                "42 is committed",
            ),
        ];
        for (what, facts, expected) in table {
            assert!(word(&facts).contains(expected), "{what}: {} and not {expected}", word(&facts));
        }
    }

    #[test]
    fn without_a_controller_the_policy_and_the_boot_decide() {
        let closed = Some(Duration::from_secs(20));
        let table = [
            // Seconds of silence, heard since the start, same boot, grace: verdict.
            (900, true, true, None, "ready"),
            (900, true, false, None, "ready"),
            (29, false, true, None, "as before"),
            (30, false, true, None, "ready"),
            (29, false, false, None, "has not heard a controller yet; waits 30 s"),
            (30, false, false, None, "ready"),
            (19, true, true, closed, "ready"),
            (20, true, true, closed, "no controller for 20 s"),
            (19, false, true, closed, "as before"),
            (19, false, false, closed, "waits 20 s"),
            (20, false, true, closed, "no controller for 20 s"),
            (20, false, false, closed, "no controller for 20 s"),
            (0, true, false, closed, "ready"),
        ];
        for (seconds, was_heard, is_same_boot, grace, expected) in table {
            let facts = Facts { grace, ..well(silent(seconds, was_heard, is_same_boot)) };
            let row = format!("{seconds} s, heard {was_heard}, same boot {is_same_boot}, grace {grace:?}");
            assert!(word(&facts).contains(expected), "{row}: {} and not {expected}", word(&facts));
        }
    }
}
