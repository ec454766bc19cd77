//! Who has an address of ours, whatever Docker says of it. A daemon that is killed in the middle of a start forgets
//! what it was starting (seen with 20.10): the process lives on behind its address, Docker says "created", and gives
//! the address, and with it the MAC, to the next. Only /proc still knows.
//!
//! A process counts if it is a container's by its control group and has the address in a network namespace of its own,
//! and if the shim above it is where our bridge is: the same address within another Docker is none of ours.

use super::EngineError;
use crate::docker::{Occupant, short};
use crate::process::{self, Process};
use rustix::io::Errno;
use rustix::process::{Pid, Signal};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// Length of a container's id, in hexadecimal digits.
const ID_DIGITS: usize = 64;

/// What the programs between containerd and a container are called, as far as the kernel keeps a name.
const SHIM: &str = "containerd-shim";

/// Docker's namespace in containerd: others, such as Kubernetes', have their own.
const NAMESPACE: [&[u8]; 2] = [b"-namespace", b"moby"];

/// For the kernel to end what was killed. It takes milliseconds, but waits for a disk that hangs.
const END_LIMIT: Duration = Duration::from_secs(10);

/// A shim whose container Docker does know goes by itself, in some 50 ms, and leaves less behind.
const SHIM_GRACE: Duration = Duration::from_millis(200);

/// How often that is looked at.
const SHIM_PAUSE: Duration = Duration::from_millis(10);

/// How often the end of what was killed is looked at.
const END_PAUSE: Duration = Duration::from_millis(2);

/// The containers with a process that has one of these addresses. One look at /proc: some 10 µs a process.
pub(super) fn at(addresses: &[Ipv4Addr]) -> Result<Vec<Occupant>, EngineError> {
    // The first process is everybody's to see, unless nobody's are.
    fs::read("/proc/1/cgroup").map_err(|error| EngineError::Blind { detail: error.to_string() })?;
    let mut processes_of: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for pid in process::all() {
        if let Some(id) = container_of(pid) {
            processes_of.entry(id).or_default().push(pid);
        }
    }
    let occupants = processes_of.into_iter().filter_map(|(id, pids)| {
        // One that has ended and was not reaped has no network any more.
        let theirs = pids.iter().find_map(|pid| fs::read_to_string(file(*pid, "net/fib_trie")).ok())?;
        let address = local_addresses(&theirs).into_iter().find(|address| addresses.contains(address))?;
        Some(Occupant { id, address })
    });
    Ok(occupants.collect())
}

/// Those whose shim is in the network namespace that this bridge is in, and they themselves are not.
pub(super) fn behind(bridge: &str, occupants: Vec<Occupant>) -> Vec<Occupant> {
    let mut behind = BTreeSet::new();
    for pid in process::all() {
        let (is_shim, id) = (is_named_shim(pid), container_of(pid));
        if is_shim && has_device(pid, bridge) {
            let words = fs::read(file(pid, "cmdline")).unwrap_or_default();
            let of = occupants.iter().filter(|occupant| is_shim_of(&words, &occupant.id));
            behind.extend(of.map(|occupant| (occupant.id.clone(), true)));
        } else if let Some(id) = id.filter(|id| occupants.iter().any(|occupant| occupant.id == *id))
            && has_device(pid, bridge)
        {
            behind.insert((id, false));
        }
    }
    let is_behind = |id: &String| behind.contains(&(id.clone(), true)) && !behind.contains(&(id.clone(), false));
    occupants.into_iter().filter(|occupant| is_behind(&occupant.id)).collect()
}

/// Kills the container's processes and, when they have ended, its shim, which would wait for ever for somebody who asks
/// how they did.
pub(super) fn evict(id: &str) -> Result<(), EngineError> {
    let is_shim =
        |pid: Pid| is_named_shim(pid) && fs::read(file(pid, "cmdline")).is_ok_and(|words| is_shim_of(&words, id));
    kill_all(id, &|pid| container_of(pid).is_some_and(|of| of == id))?;
    let until = Instant::now() + SHIM_GRACE;
    while process::all().any(is_shim) && Instant::now() < until {
        std::thread::sleep(SHIM_PAUSE);
    }
    kill_all(id, &is_shim)
}

fn kill_all(id: &str, is_it: &dyn Fn(Pid) -> bool) -> Result<(), EngineError> {
    let failed = |detail: String| EngineError::Refused {
        operation: format!("ending what is left of container {}", short(id)),
        detail,
    };
    let until = Instant::now() + END_LIMIT;
    loop {
        let found = process::all().filter_map(|pid| Process::open(pid, is_it));
        // One that has ended and was not reaped is still to be seen.
        let alive: Vec<_> = found.filter(|process| !process.has_ended()).collect();
        if alive.is_empty() {
            return Ok(());
        }
        for process in &alive {
            match process.signal(Signal::KILL) {
                Ok(()) => {}
                Err(error) if Errno::from_io_error(&error) == Some(Errno::SRCH) => {}
                Err(error) => {
                    let pid = process.pid();
                    return Err(failed(format!(
                        "cannot kill process {pid} ({error}): the agent needs CAP_KILL, see its unit"
                    )));
                }
            }
        }
        while !alive.iter().all(Process::has_ended) {
            if Instant::now() >= until {
                return Err(failed(format!("killed, and still there after {END_LIMIT:?}")));
            }
            std::thread::sleep(END_PAUSE);
        }
    }
}

fn container_of(pid: Pid) -> Option<String> {
    container_id(&fs::read_to_string(file(pid, "cgroup")).ok()?).map(str::to_owned)
}

/// Asked before its words are read: those of a process that hangs may never come.
fn is_named_shim(pid: Pid) -> bool {
    fs::read_to_string(file(pid, "comm")).is_ok_and(|name| name.trim_end() == SHIM)
}

fn has_device(pid: Pid, name: &str) -> bool {
    let name = format!("{name}:");
    let devices = fs::read_to_string(file(pid, "net/dev"));
    devices.is_ok_and(|devices| devices.lines().any(|line| line.trim_start().starts_with(&name)))
}

fn file(pid: Pid, name: &str) -> String {
    format!("/proc/{}/{name}", pid.as_raw_nonzero())
}

/// In `/proc/PID/cgroup`, of the innermost container: `0::/system.slice/docker-ID.scope`, or `4:memory:/docker/ID`.
fn container_id(groups: &str) -> Option<&str> {
    groups.lines().find_map(|line| line.rsplit('/').find_map(id_in))
}

fn id_in(folder: &str) -> Option<&str> {
    let name = folder.strip_suffix(".scope").unwrap_or(folder);
    let (prefix, id) = name.split_at_checked(name.len().checked_sub(ID_DIGITS)?)?;
    let is_hex = id.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    (is_hex && (prefix.is_empty() || prefix.ends_with('-'))).then_some(id)
}

/// In `/proc/PID/net/fib_trie`: each address stands above what it is.
fn local_addresses(trie: &str) -> Vec<Ipv4Addr> {
    let lines: Vec<_> = trie.lines().map(str::trim).collect();
    let of_pair = |pair: &[&str]| {
        let address = pair[0].strip_prefix("|-- ")?;
        pair[1].starts_with("/32 host LOCAL").then_some(address)?.parse().ok()
    };
    lines.windows(2).filter_map(of_pair).collect()
}

/// In `/proc/PID/cmdline`: `containerd-shim-runc-v2 -namespace moby -id ID …`, a zero byte behind each word.
fn is_shim_of(words: &[u8], id: &str) -> bool {
    let words: Vec<_> = words.split(|byte| *byte == 0).collect();
    let says = |expected: [&[u8]; 2]| words.windows(2).any(|pair| pair == expected);
    says(NAMESPACE) && says([b"-id", id.as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_known_by_its_control_group() {
        let id = "0123456789abcdef".repeat(4);
        for (groups, expected) in [
            (format!("0::/system.slice/docker-{id}.scope\n"), true),
            (format!("12:pids:/docker/{id}\n11:memory:/docker/{id}\n0::/system.slice/x.service\n"), true),
            (format!("0::/system.slice/docker-{id}.scope/init.scope\n"), true),
            (format!("0::/docker/{}/docker/{id}\n", "f".repeat(64)), true),
            ("0::/user.slice/user-0.slice/session-1.scope\n".to_owned(), false),
            (format!("0::/docker/{}\n", &id[1..]), false),
            (format!("0::/docker/{}\n", id.to_uppercase()), false),
            (format!("0::/build/x{id}\n"), false),
            (format!("0::/build/ä{}\n", &id[1..]), false),
            (String::new(), false),
        ] {
            assert_eq!(container_id(&groups), expected.then_some(id.as_str()), "{groups}");
        }
    }

    #[test]
    fn only_its_own_addresses_count() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     |-- 198.18.224.0\n        \
                    /24 link UNICAST\nLocal:\n  +-- 0.0.0.0/0 2 0 2\n     |-- 127.0.0.1\n           /32 host LOCAL\n        \
                    |-- 198.18.224.3\n           /32 host LOCAL\n        |-- 198.18.224.255\n           /32 link BROADCAST\n";
        assert_eq!(local_addresses(trie), [Ipv4Addr::LOCALHOST, Ipv4Addr::new(198, 18, 224, 3)]);
        assert!(local_addresses("     |-- 10.0.0.1").is_empty());
    }

    #[test]
    fn a_shim_is_known_by_its_words() {
        let words = |text: &str| text.replace(' ', "\0").into_bytes();
        assert!(is_shim_of(&words("/usr/bin/containerd-shim-runc-v2 -namespace moby -id ab -address /run/x"), "ab"));
        assert!(!is_shim_of(&words("/usr/bin/containerd-shim-runc-v2 -namespace moby -id abc -address /run/x"), "ab"));
        assert!(!is_shim_of(&words("/usr/bin/containerd-shim-runc-v2 -namespace k8s.io -id ab -address /run/x"), "ab"));
        assert!(!is_shim_of(b"", "ab"));
    }
}
