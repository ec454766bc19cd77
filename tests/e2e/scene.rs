//! One scene: a fleet, its users, and what was typed. A scene that fails shows all three.

use bgctl_tests::fleet::{Fleet, FleetOptions, Ran, Store};
use bgctl_tests::load::{Load, LoadHandle, LoadOptions, LoadReport, Target};
use serde_json::Value;
use std::fs;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// For a state that comes within a second or two on a machine with nothing else to do.
pub const LIMIT: Duration = Duration::from_secs(60);
/// A hundred users a host, each with a request every half second: between two of them every connection is idle,
/// and its end would be seen. Debug builds and two processors can take so many.
const REQUESTS_PER_SECOND: u32 = 200;
/// Between two questions to the controller: each is a process.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// `bgctl` says so by its exit code; see `bgctl --help`.
pub const DONE: i32 = 0;
pub const REFUSED: i32 = 2;
pub const ABORTED: i32 = 3;
pub const ROLLED_BACK: i32 = 4;
pub const UNREACHABLE: i32 = 5;
pub const INCOMPLETE: i32 = 6;

/// A fleet, its users, and what was typed.
pub struct Scene {
    fleet: Option<Fleet>,
    load: Option<LoadHandle>,
    typed: Mutex<Vec<String>>,
}

impl Drop for Scene {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- typed\n{}", self.lock_typed().join("\n"));
            if let Some(load) = &self.load {
                eprintln!("--- users\n{}", load.snapshot());
            }
        }
    }
}

/// So many hosts that serve v1, with the embedded store.
pub fn hosts(hosts: usize) -> FleetOptions {
    FleetOptions { hosts, ..FleetOptions::default() }
}

/// The same on a real etcd.
pub fn on_etcd(hosts: usize) -> FleetOptions {
    FleetOptions { hosts, store: Store::Etcd, ..FleetOptions::default() }
}

/// So many hosts that serve nothing, and no spec.
pub fn bare(hosts: usize) -> FleetOptions {
    FleetOptions { hosts, version: None, ..FleetOptions::default() }
}

/// Users on these hosts.
pub async fn users(targets: Vec<Target>) -> LoadHandle {
    let options = LoadOptions { rate_per_second: Some(REQUESTS_PER_SECOND), ..LoadOptions::default() };
    let load = Load::start(targets, options).expect("good options");
    load.warm(LIMIT).await.expect("every connection answered");
    load
}

/// Nobody lost a request or a connection.
pub fn assert_nothing_lost(report: &LoadReport) {
    assert_eq!((report.total.failed, report.total.closed_idle), (0, 0), "users lost something: {report}");
}

impl Scene {
    /// A fleet without users.
    pub async fn quiet(options: FleetOptions) -> Self {
        let fleet = Fleet::up(options).await.unwrap_or_else(|error| panic!("no fleet: {error}: {error:?}"));
        Self { fleet: Some(fleet), load: None, typed: Mutex::default() }
    }

    /// A fleet with users on every host.
    pub async fn with_users(options: FleetOptions) -> Self {
        let mut scene = Self::quiet(options).await;
        scene.users_come().await;
        scene
    }

    /// From here on every host has users.
    pub async fn users_come(&mut self) {
        self.load = Some(users(self.fleet().targets()).await);
    }

    pub fn fleet(&self) -> &Fleet {
        self.fleet.as_ref().expect("the scene is not over")
    }

    /// The name of host `number`, from 1 on.
    pub fn host(&self, number: usize) -> &str {
        &self.fleet().hosts()[number - 1].name
    }

    /// The users go: what they saw.
    pub async fn users_leave(&mut self) -> LoadReport {
        self.load.take().expect("there are users").stop().await
    }

    /// Runs `bgctl` to its end.
    pub async fn bgctl(&self, arguments: &[&str]) -> Ran {
        let ran = self.fleet().bgctl(arguments).await.unwrap_or_else(|error| panic!("{error}"));
        self.note(format!("$ bgctl {}   ({:.3} s) {}", ran.arguments, ran.took.as_secs_f64(), told(&ran)));
        ran
    }

    /// Runs `bgctl` and expects this exit code and these words.
    pub async fn expect(&self, arguments: &[&str], code: i32, words: &[&str]) -> Ran {
        let ran = self.bgctl(arguments).await;
        assert_eq!(ran.code, Some(code), "`bgctl {}`: {}", ran.arguments, told(&ran));
        assert_says(&ran, words);
        ran
    }

    /// A deployment that succeeds, seen by the users of every host.
    pub async fn deploy(&self, version: &str) -> Ran {
        let ran = self.expect(&["deploy", "web", "--version", version, "--json"], DONE, &[]).await;
        self.served(version).await;
        ran
    }

    /// A rollback that leads to this version, seen by the users of every host.
    pub async fn roll_back(&self, arguments: &[&str], version: &str) -> Ran {
        let ran = self.expect(arguments, DONE, &[]).await;
        self.served(version).await;
        ran
    }

    /// Waits until the users of every host see this version.
    pub async fn served(&self, version: &str) {
        let Some(load) = &self.load else { return };
        let seen = |report: &LoadReport| report.targets.iter().all(|target| newest(target) == Some(version));
        let what = format!("{version} on every host");
        load.wait_until(&what, LIMIT, seen).await.unwrap_or_else(|error| panic!("{error}"));
    }

    /// How many versions the users of host 1 have seen so far, one after the other.
    pub fn versions_seen(&self) -> usize {
        self.load.as_ref().map_or(0, |load| load.snapshot().targets[0].versions.len())
    }

    /// What `bgctl status` says of the sample service now. None: it says nothing, with its words.
    pub async fn status(&self) -> Result<Value, String> {
        let ran = self.fleet().bgctl(&["status", "web", "--json"]).await.map_err(|error| error.to_string())?;
        let answer = ran.json().filter(|_| ran.code == Some(DONE)).ok_or_else(|| told(&ran))?;
        Ok(answer["services"][0].clone())
    }

    /// Waits until the fleet has come to rest on one version: nothing pending, every host there, current and
    /// healthy. That version, which is also what every user sees.
    pub async fn at_rest(&self) -> String {
        let deadline = Instant::now() + LIMIT;
        let version = loop {
            let status = self.status().await;
            match status.as_ref().map_err(Clone::clone).and_then(rest) {
                Ok(version) => break version,
                Err(why) if Instant::now() >= deadline => {
                    panic!("the fleet does not come to rest on one version: {why}; status: {status:?}");
                }
                Err(_) => tokio::time::sleep(ASK_EVERY).await,
            }
        };
        self.note(format!("at rest on {version}"));
        self.served(&version).await;
        version
    }

    /// The versions that were committed, oldest first, as history tells them. Neighbours differ.
    pub async fn committed(&self) -> Vec<String> {
        let ran = self.expect(&["history", "web", "--limit", "50", "--json"], DONE, &[]).await;
        let answer = ran.json().unwrap_or_else(|| panic!("no JSON: {}", told(&ran)));
        let all = answer["deployments"].as_array().unwrap_or_else(|| panic!("no list: {}", told(&ran)));
        let committed = all.iter().rev().filter(|deployment| deployment["phase"] != "aborted");
        let mut versions: Vec<_> = committed.map(|deployment| text(&deployment["version"])).collect();
        versions.dedup();
        versions
    }

    /// Writes a spec into the fleet's folder; its path.
    pub fn spec(&self, name: &str, text: &str) -> String {
        let path = self.fleet().plan().dir.join(name);
        fs::write(&path, text).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
        path.to_string_lossy().into_owned()
    }

    /// Gives the agents of all hosts another config, and has them start with it.
    pub async fn reconfigure(&self, change: impl Fn(usize, &str) -> String) {
        for (index, host) in self.fleet().hosts().iter().enumerate() {
            let path = self.fleet().plan().host_dir(host).join("agent.yaml");
            let before = fs::read_to_string(&path).expect("the agent's config");
            let after = change(index + 1, &before);
            assert_ne!(before, after, "the change of {} changes nothing", path.display());
            self.hold(&host.agent()).await;
            fs::write(&path, after).expect("the agent's config");
            self.release(&host.agent());
        }
        self.connected().await;
    }

    /// Kills a program and keeps it down.
    pub async fn hold(&self, program: &str) {
        self.note(format!("kill -9 {program}, and it stays down"));
        self.fleet().hold(program).await.unwrap_or_else(|error| panic!("{error}"));
    }

    /// Lets it start again.
    pub fn release(&self, program: &str) {
        self.note(format!("{program} may start again"));
        self.fleet().release(program).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Gives a host, from 1 on, another label, and has its agent start with it.
    pub async fn relabel(&self, number: usize, label: &str) {
        let agent = self.fleet().hosts()[number - 1].agent();
        self.hold(&agent).await;
        self.note(format!("{} gets {label}", self.host(number)));
        self.fleet().relabel(number, label).await.unwrap_or_else(|error| panic!("{error}"));
        self.release(&agent);
        self.connected().await;
    }

    /// Waits until a deployment is open.
    pub async fn until_pending(&self) {
        let deadline = Instant::now() + LIMIT;
        while !self.status().await.is_ok_and(|status| !status["pending"].is_null()) {
            assert!(Instant::now() < deadline, "no deployment is open: {:?}", self.status().await);
        }
    }

    /// Waits until all hosts are linked.
    pub async fn connected(&self) {
        self.fleet().wait_connected(LIMIT).await.unwrap_or_else(|error| panic!("{error}"));
    }

    /// For the reader of a failure.
    pub fn note(&self, text: String) {
        self.lock_typed().push(text);
    }

    /// The end: users lost nothing, and on each host the version changed when history says so and at no other time.
    pub async fn end(self) {
        self.end_as(|seen, committed| {
            // Users came after the first deployments of some scenes, and history keeps the newest fifty of others.
            let common = seen.len().min(committed.len());
            seen[seen.len() - common..] == committed[committed.len() - common..]
        })
        .await;
    }

    /// The same, where hosts were away: they came to some of what history says, in its order, and to the last.
    pub async fn end_with_gaps(self) {
        self.end_as(|seen, committed| {
            let mut left = committed.iter();
            seen.last().copied() == committed.last().map(String::as_str)
                && seen.iter().all(|version| left.any(|next| next == version))
        })
        .await;
    }

    async fn end_as(mut self, agrees: impl Fn(&[&str], &[String]) -> bool) {
        self.at_rest().await;
        let committed = self.committed().await;
        let report = self.users_leave().await;
        assert_nothing_lost(&report);
        for target in &report.targets {
            let seen: Vec<_> = target.versions.iter().map(|change| change.to.as_str()).collect();
            assert!(
                agrees(&seen, &committed),
                "users of {} saw {seen:?}, history says {committed:?}: {report}",
                target.target
            );
        }
        eprintln!("users: {report}");
        self.down().await;
    }

    /// The end of a scene whose users were asked already.
    pub async fn down(mut self) {
        let fleet = self.fleet.take().expect("the scene is not over");
        fleet.down().await.unwrap_or_else(|error| panic!("something is left: {error}"));
    }

    fn lock_typed(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.typed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All of these words, on stdout or stderr.
pub fn assert_says(ran: &Ran, words: &[&str]) {
    let said = format!("{}{}", ran.stdout, ran.stderr);
    for word in words {
        assert!(said.contains(word), "`bgctl {}` does not say {word:?}: {}", ran.arguments, told(ran));
    }
}

/// Exit code and words, for an assertion. Of a stream of JSON the last line, which holds everything.
pub fn told(ran: &Ran) -> String {
    let stdout = match ran.json_lines().is_empty() {
        true => &ran.stdout,
        false => ran.stdout.trim_end().lines().last().unwrap_or_default(),
    };
    Ran { stdout: stdout.to_owned(), ..ran.clone() }.short()
}

/// The result of a deployment's `--json`.
pub fn result(ran: &Ran) -> Value {
    ran.result().unwrap_or_else(|| panic!("`bgctl {}` printed no result: {}", ran.arguments, told(ran)))
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

fn newest(target: &bgctl_tests::load::TargetReport) -> Option<&str> {
    target.versions.last().map(|change| change.to.as_str())
}

/// The version a status is at rest on, or why it is not.
fn rest(status: &Value) -> Result<String, String> {
    let version = status["version"].as_str().ok_or("nothing is deployed")?;
    if !status["pending"].is_null() {
        return Err(format!("pending: {}", status["pending"]));
    }
    let hosts = status["hosts"].as_array().ok_or("no hosts")?;
    let is_well = |host: &&Value| {
        host["connected"] == true
            && host["current"] == true
            && host["condition"] == "healthy"
            && host["version"] == version
    };
    match hosts.iter().find(|host| !is_well(host)) {
        Some(host) => Err(format!("not well: {host}")),
        None => Ok(version.to_owned()),
    }
}
