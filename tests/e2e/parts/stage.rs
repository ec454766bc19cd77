//! A fleet of two hosts, its users, and a person with a shell on each host.

use bgctl_tests::fleet::Ran;
use bgctl_tests::load::{Load, LoadHandle, LoadOptions, LoadReport, Target};
use bgctl_tests::netfleet::{Machine, NetFleet, NetFleetOptions};
use serde_json::Value;
use std::time::{Duration, Instant};

/// For any state that must come: a Docker that starts while others do takes a minute at the most.
pub const LIMIT: Duration = Duration::from_secs(120);
/// Users of one host.
pub const CONNECTIONS: usize = 4;
const REQUESTS_PER_SECOND: u32 = 60;
/// So many answers in a row without a loss, and it is over for users.
const CALM: u64 = 60;
const LOOK_EVERY: Duration = Duration::from_millis(50);

pub const DONE: i32 = 0;
pub const ABORTED: i32 = 3;

/// The fleet. Faults strike one host of it.
pub struct Stage {
    pub fleet: NetFleet,
}

/// What users saw.
pub struct Seen {
    what: String,
    pub struck: LoadReport,
    other: LoadReport,
}

impl Seen {
    /// Not even on the struck host.
    pub fn lost_nothing(&self) -> &Self {
        assert_eq!(self.struck.total.failed, 0, "{}: {}", self.what, self.struck);
        self
    }

    /// In this order, on either host.
    pub fn versions(&self, expected: &[&str]) -> &Self {
        let seen = self.struck.targets[0].sequence();
        assert!(expected.contains(&seen.as_str()), "{}: users saw {seen}, not one of {expected:?}", self.what);
        assert!(expected.contains(&self.other.targets[0].sequence().as_str()), "{}: {}", self.what, self.other);
        self
    }
}

impl Stage {
    pub async fn up(options: NetFleetOptions) -> Self {
        // What dies right after a switch is taken back on every host: another scene's subject.
        let spec = format!("{}watch: 0s\n", options.spec);
        let options = NetFleetOptions { hosts: 2, spec, ..options };
        Self { fleet: NetFleet::up(options).await.unwrap_or_else(|error| panic!("{error}")) }
    }

    pub fn host(&self, index: usize) -> &Machine {
        &self.fleet.hosts()[index]
    }

    /// Does something to host `struck` while users are on both. Returns when the fleet is at rest on `version` again
    /// and users are served; those of the other host have lost nothing.
    pub async fn strike(&self, what: &str, struck: usize, version: &str, fault: impl Future<Output = ()>) -> Seen {
        let fault = async {
            fault.await;
            version
        };
        self.strike_to(what, struck, fault).await.0
    }

    /// The same where only the fault tells which version there is in the end. Answers that too.
    pub async fn strike_to<'v>(
        &self,
        what: &str,
        struck: usize,
        fault: impl Future<Output = &'v str>,
    ) -> (Seen, &'v str) {
        eprintln!("--- {what}");
        let mut targets = self.fleet.targets();
        let hit = targets.remove(struck);
        let (hit, others) = (self.users(hit).await, self.users(targets.remove(0)).await);
        let version = fault.await;
        let begun = Instant::now();
        self.at_rest(version).await;
        calm(what, &hit).await;
        let seen = Seen { what: what.to_owned(), struck: hit.stop().await, other: others.stop().await };
        let (total, versions) = (&seen.struck.total, seen.struck.targets[0].sequence());
        eprintln!(
            "    {} of {} lost on it, saw {versions}, at rest after {:?}",
            total.failed,
            total.sent,
            begun.elapsed()
        );
        assert_eq!(seen.other.total.failed, 0, "{what}: on the other host: {}", seen.other);
        (seen, version)
    }

    async fn users(&self, target: Target) -> LoadHandle {
        let options = LoadOptions {
            connections: CONNECTIONS,
            rate_per_second: Some(REQUESTS_PER_SECOND),
            ..LoadOptions::default()
        };
        let load = {
            let _inside = self.fleet.runtime().enter();
            Load::start(vec![target], options).expect("the options are in range")
        };
        load.warm(LIMIT).await.unwrap_or_else(|error| panic!("{error}"));
        load
    }

    /// Nothing open, every host linked, well, and on this version.
    pub async fn at_rest(&self, version: &str) {
        let is_well = |host: &Value| {
            host["connected"] == true
                && host["version"] == version
                && host["condition"] == "healthy"
                && host["current"] == true
                && host["trouble"].is_null()
        };
        let is_so = |answer: &Value| {
            let service = &answer["services"][0];
            let hosts = service["hosts"].as_array().cloned().unwrap_or_default();
            service["pending"].is_null() && hosts.len() == 2 && hosts.iter().all(is_well)
        };
        self.wait(&format!("{version} on every host, and all well"), &["status", "--json"], is_so).await;
    }

    pub async fn wait(&self, what: &str, typed: &[&str], is_so: impl Fn(&Value) -> bool) -> Value {
        let answer = self.fleet.wait_for(what, LIMIT, typed, is_so).await;
        answer.unwrap_or_else(|error| panic!("{error}\n{}", self.fleet.log_ends()))
    }

    /// Until `bgctl hosts` says this of a host, under `key`.
    pub async fn told(&self, host: usize, key: &str, is_so: impl Fn(&str) -> bool) {
        let what = format!("what is told as {key} of host {}", host + 1);
        let told = |answer: &Value| {
            let value = &answer["hosts"][host][key];
            let words = |all: &Vec<Value>| all.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("; ");
            value.as_array().map_or_else(|| value.to_string(), words)
        };
        self.wait(&what, &["hosts", "--json"], |answer| is_so(&told(answer))).await;
    }

    pub async fn bgctl(&self, typed: &[&str]) -> Ran {
        self.fleet.bgctl(typed).await.unwrap_or_else(|error| panic!("{error}"))
    }

    pub async fn deploy(&self, version: &str) {
        let ran = self.bgctl(&["deploy", "web", "--version", version]).await;
        assert_eq!(ran.code, Some(DONE), "{}\n{}", ran.short(), self.fleet.log_ends());
    }

    pub async fn roll_back(&self) {
        let ran = self.bgctl(&["rollback"]).await;
        assert_eq!(ran.code, Some(DONE), "{}\n{}", ran.short(), self.fleet.log_ends());
    }

    /// The agent ends and is not started before it is released.
    pub async fn stop_agent(&self, host: usize) {
        let host = self.host(host);
        host.hold("agent").expect("a file");
        let was = host.kill("agent", LIMIT).await.unwrap_or_else(|error| panic!("{error}"));
        until("the agent's end", || !was.is_alive()).await;
    }

    /// In the host's namespaces, as root.
    pub fn try_shell(&self, host: usize, words: &[&str]) -> Result<String, String> {
        let mut command = self.host(host).command(words[0]).unwrap_or_else(|error| panic!("{error}"));
        let output = command.args(&words[1..]).output().unwrap_or_else(|error| panic!("{words:?}: {error}"));
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(said(&output.stdout)) } else { Err(said(&output.stderr)) }
    }

    pub fn shell(&self, host: usize, words: &[&str]) -> String {
        self.try_shell(host, words).unwrap_or_else(|said| panic!("{words:?} on host {}: {said}", host + 1))
    }

    /// The containers of the sample service that are on a host, each with its version. None: Docker does not answer.
    pub fn containers(&self, host: usize, all: bool) -> Vec<(String, String)> {
        let label = format!("label=bgctl.host={}", self.host(host).name());
        let which = if all { "--all" } else { "--all=false" };
        let listed = self.try_shell(host, &["docker", "ps", which, "--no-trunc", "--quiet", "--filter", &label]);
        let listed = listed.unwrap_or_default();
        listed.lines().filter_map(|id| Some((self.version(host, id)?, id.to_owned()))).collect()
    }

    fn version(&self, host: usize, id: &str) -> Option<String> {
        let format = "{{json .Config.Env}}";
        let environment = self.try_shell(host, &["docker", "inspect", "--format", format, id]).ok()?;
        let environment: Vec<String> = serde_json::from_str(&environment).ok()?;
        environment.iter().find_map(|variable| variable.strip_prefix("APP_VERSION=")).map(str::to_owned)
    }

    /// The container of this version on a host, that runs.
    pub fn container(&self, host: usize, version: &str) -> String {
        let all = self.containers(host, false);
        let found = all.iter().find(|(of, _)| of == version);
        found.unwrap_or_else(|| panic!("no container of {version} runs on host {}: {all:?}", host + 1)).1.clone()
    }

    /// When it was started, in words that sort. None: it does not run.
    pub fn started(&self, host: usize, version: &str) -> Option<String> {
        let (_, id) = self.containers(host, false).into_iter().find(|(of, _)| of == version)?;
        self.try_shell(host, &["docker", "inspect", "--format", "{{.State.StartedAt}}", &id]).ok()
    }
}

/// Users are served, each and for a while.
async fn calm(what: &str, load: &LoadHandle) {
    let deadline = Instant::now() + LIMIT;
    let mut from = load.snapshot().total;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = load.snapshot().total;
        if now.failed > from.failed {
            from = now;
        } else if now.ok >= from.ok + CALM {
            return;
        }
        assert!(Instant::now() < deadline, "{what}: users are turned away still: {}", load.snapshot());
    }
}

/// Waits for what only a look can tell.
pub async fn until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what} does not come");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
