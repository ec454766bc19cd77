//! Processes that cannot be mistaken for others: a process id is used again, its start time is not.

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often a waiting caller looks.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// One life of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// The process id.
    pub pid: i32,
    /// When it started, in clock ticks since boot.
    pub start_ticks: u64,
}

impl Process {
    /// The process that has this id now. None: none has.
    pub fn of(pid: i32) -> Option<Self> {
        let (_, start_ticks) = state_and_start(pid)?;
        Some(Self { pid, start_ticks })
    }

    /// This very process.
    pub fn own() -> Option<Self> {
        Self::of(std::process::id() as i32)
    }

    /// It has not ended. One that ended and that nobody has waited for yet counts as ended.
    pub fn is_alive(&self) -> bool {
        state_and_start(self.pid).is_some_and(|(state, start)| start == self.start_ticks && state != 'Z')
    }

    /// Sends a signal to this process and never to one that came after it. False: it had ended.
    pub fn signal(&self, signal: Signal) -> bool {
        let Some(pid) = Pid::from_raw(self.pid) else { return false };
        // The descriptor names one process; checked after it is open, it is the right one or none.
        let Ok(descriptor) = pidfd_open(pid, PidfdFlags::empty()) else { return false };
        self.is_alive() && pidfd_send_signal(descriptor, signal).is_ok()
    }

    /// Waits for its end. False: it goes on after `limit`.
    pub async fn wait_end(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while self.is_alive() {
            if Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        true
    }

    /// SIGTERM, and SIGKILL after `grace`. False: even that did not end it within another `grace`.
    pub async fn end(&self, grace: Duration) -> bool {
        // One that was stopped takes no notice of SIGTERM until it goes on.
        let asked = self.signal(Signal::TERM) && self.signal(Signal::CONT);
        if !asked || self.wait_end(grace).await {
            return true;
        }
        self.signal(Signal::KILL);
        self.wait_end(grace).await
    }

    /// Its name, at most 15 bytes, as in `ps -o comm`. Empty: it has ended.
    pub fn name(&self) -> String {
        let name = fs::read_to_string(format!("/proc/{}/comm", self.pid)).unwrap_or_default();
        name.trim_end().to_owned()
    }

    /// The process whose child it is. None: one of the two has ended.
    pub fn parent(&self) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
        let (_, fields) = text.rsplit_once(") ")?;
        Self::of(fields.split(' ').nth(1)?.parse().ok()?)
    }

    /// Its resident memory in bytes. None: it has ended.
    pub fn resident_bytes(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kibibytes * 1024)
    }
}

/// Processes called one of `names` that work in `dir`: named on their command line or open in them. Only
/// root sees those of other users.
pub fn working_in(dir: &Path, names: &[&str]) -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let all = pids.filter_map(Process::of);
    all.filter(|process| process.is_alive() && names.contains(&process.name().as_str()) && works_in(process.pid, dir))
        .collect()
}

fn works_in(pid: i32, dir: &Path) -> bool {
    let text = dir.as_os_str().as_encoded_bytes();
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    // The slash keeps a directory whose name begins alike out of it.
    let named = command.windows(text.len() + 1).any(|part| part.starts_with(text) && part.ends_with(b"/"));
    named || open_files(pid).iter().any(|path| path.starts_with(dir))
}

fn open_files(pid: i32) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    entries.flatten().filter_map(|entry| fs::read_link(entry.path()).ok()).collect()
}

fn state_and_start(pid: i32) -> Option<(char, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may hold anything, even those.
    let (_, fields) = text.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let state = fields.next()?.chars().next()?;
    // Field 22 of the line; the state is field 3.
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[tokio::test]
    async fn a_process_is_ended_and_then_is_not_alive() {
        let mut child = Command::new("sleep").arg("1000").spawn().expect("sleep");
        let process = Process::of(child.id() as i32).expect("it runs");
        assert!(process.is_alive());
        assert!(process.resident_bytes().is_some_and(|bytes| bytes > 0));
        assert_eq!(process.parent(), Process::own());
        assert!(process.end(Duration::from_secs(10)).await);
        // Nobody has waited for it yet, and still it counts as ended.
        assert!(!process.is_alive());
        child.wait().expect("its end");
        assert!(!process.signal(Signal::TERM));
    }

    #[test]
    fn another_life_under_the_same_id_is_not_touched() {
        let mut child = Command::new("sleep").arg("1000").spawn().expect("sleep");
        let process = Process::of(child.id() as i32).expect("it runs");
        let earlier = Process { start_ticks: process.start_ticks - 1, ..process };
        assert!(!earlier.is_alive());
        assert!(!earlier.signal(Signal::KILL));
        assert!(process.is_alive());
        child.kill().expect("it is ours");
        child.wait().expect("its end");
    }

    #[test]
    fn a_process_is_found_by_where_it_works_and_not_by_a_name_that_begins_alike() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("held");
        fs::write(&file, "").expect("a file");
        let input = fs::File::open(&file).expect("it is there");
        let mut child = Command::new("sleep").arg("1000").stdin(input).spawn().expect("sleep");
        let process = Process::of(child.id() as i32).expect("it runs");
        // Until it has become `sleep`, the child goes by the name of this test.
        let deadline = Instant::now() + Duration::from_secs(10);
        while process.name() != "sleep" && Instant::now() < deadline {
            std::thread::yield_now();
        }
        assert_eq!(working_in(dir.path(), &["sleep"]), [process]);
        assert_eq!(working_in(dir.path(), &["nginx"]), []);
        let shorter = dir.path().to_str().map(|path| PathBuf::from(&path[..path.len() - 1])).expect("a path");
        assert_eq!(working_in(&shorter, &["sleep"]), []);
        child.kill().expect("it is ours");
        child.wait().expect("its end");
    }
}
