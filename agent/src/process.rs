//! A process of this host that cannot be mistaken for another: signals go through a handle, so that no other process
//! can slip in under its number.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;

/// One process, for as long as it is looked at.
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    handle: OwnedFd,
}

impl Process {
    /// The process under this number, if it is the one that is meant. The handle is taken before the last look: it
    /// stands for the process that was looked at, or for one that is gone.
    pub(crate) fn open(pid: Pid, is_it: impl Fn(Pid) -> bool) -> Option<Self> {
        if !is_it(pid) {
            return None;
        }
        let handle = pidfd_open(pid, PidfdFlags::NONBLOCK).ok()?;
        is_it(pid).then_some(Self { pid, handle })
    }

    /// Its number, for messages.
    pub(crate) fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// It holds nothing any more. A process that dies leaves its name first, by which it is known, and what it holds
    /// later; until it is reaped it can be seen.
    pub(crate) fn has_ended(&self) -> bool {
        let mut ended = [PollFd::new(&self.handle, PollFlags::IN)];
        matches!(poll(&mut ended, Some(&Timespec::default())), Ok(1..))
    }

    /// Sends a signal. A process that is gone is an error (ESRCH).
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(pidfd_send_signal(&self.handle, signal)?)
    }
}

/// The numbers of all processes that can be seen.
pub(crate) fn all() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter_map(Pid::from_raw)
}
