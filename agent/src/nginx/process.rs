//! The processes of one private nginx. A pid file says nothing: after a crash its number may belong to
//! anybody. What counts is the executable and the directory it was started in, both read from /proc, and
//! signals go to nobody else.

use crate::process::{self, Process};
use rustix::process::Pid;
use std::fs;
use std::path::{Path, PathBuf};

/// nginx's own titles for its processes.
const MASTER: &str = "nginx: master process";
const WORKER: &str = "nginx: worker process";
const ENDING: &str = "nginx: worker process is shutting down";

/// Which instance is meant.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    /// Its executable.
    pub(super) binary: PathBuf,
    /// Its working directory: each private instance has its own.
    pub(super) prefix: PathBuf,
    /// Where it writes its pid.
    pub(super) pid_file: PathBuf,
}

/// What a process of the instance does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Has not given itself a title yet.
    Starting,
    /// Holds the listening sockets, takes signals.
    Master,
    /// Accepts connections. Goes on doing so when its master was killed.
    Worker,
    /// Finishes what it has.
    Ending,
}

impl Role {
    /// Every one.
    pub(super) const ALL: [Self; 4] = [Self::Starting, Self::Master, Self::Worker, Self::Ending];
}

/// The processes of one instance from its first one that was looked for to the end of the last.
pub(super) struct Family<'a> {
    identity: &'a Identity,
    seen: Vec<Process>,
}

impl<'a> Family<'a> {
    pub(super) fn of(identity: &'a Identity) -> Self {
        Self { identity, seen: Vec::new() }
    }

    /// Those that have not ended, with those that came since the last look.
    pub(super) fn alive(&mut self) -> impl Iterator<Item = &Process> {
        for process in Role::ALL.into_iter().flat_map(|role| self.identity.all(role)) {
            if self.seen.iter().all(|known| known.pid() != process.pid()) {
                self.seen.push(process);
            }
        }
        self.seen.retain(|process| !process.has_ended());
        self.seen.iter()
    }
}

impl Identity {
    /// The master. Looks at the pid file first, and through /proc where that leads nowhere.
    pub(super) fn master(&self) -> Option<Process> {
        let noted = fs::read_to_string(&self.pid_file).ok().and_then(|text| Pid::from_raw(text.trim().parse().ok()?));
        let noted = noted.and_then(|pid| self.open(pid, Role::Master));
        noted.or_else(|| self.all(Role::Master).into_iter().next())
    }

    /// Every process of the instance in this role.
    pub(super) fn all(&self, role: Role) -> Vec<Process> {
        process::all().filter_map(|pid| self.open(pid, role)).collect()
    }

    fn open(&self, pid: Pid, role: Role) -> Option<Process> {
        Process::open(pid, |pid| self.role(pid) == Some(role))
    }

    fn role(&self, pid: Pid) -> Option<Role> {
        let proc = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
        if !same(&fs::read_link(proc.join("exe")).ok()?, &self.binary)
            || !same(&fs::read_link(proc.join("cwd")).ok()?, &self.prefix)
        {
            return None;
        }
        let title = fs::read(proc.join("cmdline")).ok()?;
        let title = String::from_utf8_lossy(&title);
        Some(if title.starts_with(MASTER) {
            Role::Master
        } else if title.starts_with(ENDING) {
            Role::Ending
        } else if title.starts_with(WORKER) {
            Role::Worker
        } else {
            Role::Starting
        })
    }
}

/// An upgraded binary and a directory that was made anew keep the processes ours.
fn same(link: &Path, expected: &Path) -> bool {
    let link = link.to_string_lossy();
    let link = link.strip_suffix(" (deleted)").unwrap_or(&link);
    Path::new(link) == fs::canonicalize(expected).as_deref().unwrap_or(expected)
}
