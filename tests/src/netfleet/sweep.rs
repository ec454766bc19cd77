//! What outlives the processes of a fleet: its folder and its control groups.

use super::NetFleetError;
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What every fleet's id begins with.
const PREFIX: &str = "bgctl-net-";
/// Says that a fleet is in use, for as long as it is locked.
const IN_USE: &str = "in-use";
/// Where control groups are.
pub(super) const CONTROL_GROUPS: &str = "/sys/fs/cgroup";
/// For the kernel to let go of what has just ended.
const REMOVE_LIMIT: Duration = Duration::from_secs(20);

/// A fleet's id, its folder, and the lock that keeps it from being swept.
pub(super) fn new_folder() -> Result<(String, PathBuf, File), NetFleetError> {
    let id = format!("{PREFIX}{:05x}", rand::random::<u32>() >> 12);
    // Short, because sockets in it have paths of at most 107 bytes.
    let dir = std::env::temp_dir().join(&id);
    fs::create_dir_all(&dir).map_err(NetFleetError::file("make", &dir))?;
    let path = dir.join(IN_USE);
    let file = File::create(&path).map_err(NetFleetError::file("write", &path))?;
    flock(&file, FlockOperation::LockExclusive).map_err(|errno| NetFleetError::file("lock", &path)(errno.into()))?;
    Ok((id, dir, file))
}

/// Fleets whose processes are gone without having removed them.
pub(super) fn sweep_abandoned() {
    for entry in fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with(PREFIX) {
            continue;
        }
        // One that has no lock yet is being made just now.
        let Ok(file) = File::open(entry.path().join(IN_USE)) else { continue };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            eprintln!("netfleet: sweeping what {name} left");
            remove(&name, &entry.path());
        }
    }
}

/// Removes folder and control groups of a fleet without processes. What cannot be removed is told.
pub(super) fn remove(id: &str, dir: &Path) {
    let deadline = Instant::now() + REMOVE_LIMIT;
    loop {
        let outcome =
            remove_control_groups(Path::new(CONTROL_GROUPS), id).and_then(|()| match fs::remove_dir_all(dir) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                Ok(()) | Err(_) => Ok(()),
            });
        match outcome {
            Ok(()) => return,
            // Its processes are ending.
            Err(_) if Instant::now() < deadline => std::thread::sleep(super::LOOK_EVERY),
            Err(error) => return eprintln!("netfleet: {id} is not removed whole: {error}"),
        }
    }
}

/// Version 1 has a tree for each controller, version 2 has one.
fn remove_control_groups(root: &Path, id: &str) -> std::io::Result<()> {
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if is_of(&entry.path(), id) {
            remove_group(&entry.path())?;
            continue;
        }
        for below in fs::read_dir(entry.path()).into_iter().flatten().flatten() {
            if is_of(&below.path(), id) {
                remove_group(&below.path())?;
            }
        }
    }
    Ok(())
}

fn is_of(path: &Path, id: &str) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(&format!("{id}-")))
}

/// A control group has files that cannot be removed and need not be.
fn remove_group(path: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_group(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}
