//! One failover, timed: the leader dies as by kill -9 and stays away, and the clock runs until another one has taken
//! a write and every agent is linked to it.

use super::{Fleet, FleetError, LOOK_EVERY};
use std::fs;
use std::time::{Duration, Instant};

/// For all of it; far beyond the bar, so that a miss is measured and not cut off.
const LIMIT: Duration = Duration::from_secs(120);

/// The bar: twice a lease of 5 s, and 3 s to take over.
pub const FAILOVER_BAR: Duration = Duration::from_secs(13);

/// What came of one trial.
#[derive(Debug, Clone)]
pub struct Failover {
    /// Who died.
    pub leader: String,
    /// Who led then.
    pub successor: String,
    /// From the kill to the first write that was taken.
    pub written: Duration,
    /// From the kill to the last agent's link, and the write.
    pub whole: Duration,
}

impl Fleet {
    /// The name of the controller that leads, by its own word.
    ///
    /// # Errors
    /// [`FleetError::Deadline`]: none did.
    pub async fn leader(&self) -> Result<String, FleetError> {
        self.leader_other_than("").await
    }

    /// The same, once it is another one.
    ///
    /// # Errors
    /// [`FleetError::Deadline`]: none led.
    pub async fn leader_other_than(&self, before: &str) -> Result<String, FleetError> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let ran = self.bgctl(&["controllers", "--json", "--connect-timeout", "1s"]).await?;
            let answer = ran.json().unwrap_or_default();
            let mut all = answer["controllers"].as_array().into_iter().flatten();
            let leads = all.find(|one| one["role"] == "leader" && one["name"] != before);
            if let Some(name) = leads.and_then(|one| one["name"].as_str()) {
                return Ok(name.to_owned());
            }
            if Instant::now() >= deadline {
                return Err(FleetError::Deadline { what: format!("a leader ({})", ran.short()), limit: LIMIT });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Kills the leader after `moment`, and times what follows; then lets it come back. `number` makes the write of
    /// this trial unlike that of any other.
    ///
    /// # Errors
    /// When something did not come within two minutes.
    pub async fn failover(&self, number: usize, moment: Duration) -> Result<Failover, FleetError> {
        let leader = self.leader().await?;
        let path = self.plan().dir.join("trial.yaml");
        let text = fs::read_to_string(self.plan().spec());
        let text = text.map_err(|source| FleetError::File { action: "read", path: self.plan().spec(), source })?;
        fs::write(&path, format!("{text}\n# trial {number}\n")).map_err(|source| FleetError::File {
            action: "write",
            path: path.clone(),
            source,
        })?;
        tokio::time::sleep(moment).await;
        let killed = Instant::now();
        self.hold(&leader).await?;
        // It waits for the leader, and ends with its word.
        self.bgctl(&["apply", "-f", &path.to_string_lossy()]).await?.success()?;
        let written = killed.elapsed();
        self.wait_linked().await?;
        let whole = killed.elapsed();
        let successor = self.leader_other_than(&leader).await?;
        self.release(&leader)?;
        self.wait_all_controllers().await?;
        Ok(Failover { leader, successor, written, whole })
    }

    /// Waits until the leader, and nobody else, says that every host is linked.
    async fn wait_linked(&self) -> Result<(), FleetError> {
        let linked = |answer: &serde_json::Value| {
            let hosts = answer["hosts"].as_array().map(Vec::as_slice).unwrap_or_default();
            answer["follower"].is_null()
                && hosts.len() >= self.plan.hosts.len()
                && hosts.iter().all(|host| host["connected"] == true)
        };
        self.wait_told(&["hosts", "--json"], "every host linked to the leader", linked).await
    }

    /// Waits until every controller answers, and one of them leads.
    ///
    /// # Errors
    /// [`FleetError::Deadline`].
    pub async fn wait_all_controllers(&self) -> Result<(), FleetError> {
        let count = self.plan.controllers.len();
        let there = |answer: &serde_json::Value| {
            let all = answer["controllers"].as_array().map(Vec::as_slice).unwrap_or_default();
            let with = |key: &str, value: serde_json::Value| all.iter().filter(|one| one[key] == value).count();
            with("reachable", true.into()) == count && with("role", "leader".into()) == 1
        };
        self.wait_told(&["controllers", "--json", "--connect-timeout", "1s"], "all controllers", there).await
    }

    async fn wait_told(
        &self,
        arguments: &[&str],
        what: &str,
        is_so: impl Fn(&serde_json::Value) -> bool,
    ) -> Result<(), FleetError> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let ran = self.bgctl(arguments).await?;
            if ran.json().is_some_and(|answer| is_so(&answer)) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(FleetError::Deadline { what: format!("{what} ({})", ran.short()), limit: LIMIT });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
