//! Links that are cut: what comes from the other side is dropped without a word, as by a switch that died.

use super::hub::run;
use super::{Machine, NetFleetError};

/// Two groups of machines that do not hear each other, until it is healed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "it stays cut until `heal`"]
pub struct Cut {
    /// By name: who drops what comes from whom.
    pairs: Vec<(String, String)>,
}

impl super::NetFleet {
    /// Cuts each of `these` off from each of `those`, in both directions. A machine that is off is left out.
    ///
    /// # Errors
    /// iptables' words.
    pub fn cut(&self, these: &[&str], those: &[&str]) -> Result<Cut, NetFleetError> {
        let mut pairs = Vec::new();
        for this in these {
            for that in those.iter().filter(|that| *that != this) {
                for (at, from) in [(this, that), (that, this)] {
                    self.rule("-I", at, from)?;
                    pairs.push(((*at).to_owned(), (*from).to_owned()));
                }
            }
        }
        Ok(Cut { pairs })
    }

    /// The reverse. A machine that was rebooted meanwhile has no such rules any more.
    pub fn heal(&self, cut: Cut) {
        for (at, from) in cut.pairs {
            drop(self.rule("-D", &at, &from));
        }
    }

    fn rule(&self, action: &str, at: &str, from: &str) -> Result<(), NetFleetError> {
        let find = |name: &str| self.machines().find(|machine| machine.name() == name);
        let unknown = |name: &str| NetFleetError::Off { machine: name.to_owned() };
        let at: &Machine = find(at).ok_or_else(|| unknown(at))?;
        let source = find(from).ok_or_else(|| unknown(from))?.address().to_string();
        let mut command = at.command("iptables")?;
        command.args(["--wait", action, "INPUT", "--source", &source, "--jump", "DROP"]);
        run(command, &format!("iptables {action} INPUT --source {source} on {}", at.name()))
    }
}
