//! Files that survive a power cut, readable for nginx's workers whatever the umask.

use super::ProxyError;
use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// nginx's workers often run as another user: they read.
const FILE_MODE: u32 = 0o644;
/// And list.
const DIR_MODE: u32 = 0o755;

/// Turns an operating system's error into ours.
pub(super) fn fail(operation: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> ProxyError {
    move |error| {
        let hint = if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
            "; nothing was changed: free some space or inodes on this disk, then try again"
        } else if error.kind() == ErrorKind::PermissionDenied {
            "; does the agent run as the user who owns it?"
        } else {
            ""
        };
        ProxyError::File { operation, path: path.display().to_string(), detail: format!("{error}{hint}") }
    }
}

/// A new file, on disk when this returns; its entry in the directory is not yet.
pub(super) fn create(path: &Path, content: &[u8]) -> Result<(), ProxyError> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(path)?;
        file.set_permissions(Permissions::from_mode(FILE_MODE))?;
        file.write_all(content)?;
        file.sync_all()
    };
    write().map_err(fail("write", path))
}

/// Puts a text in the place of what is there: after a crash one of the two is there, whole.
pub(super) fn replace(path: &Path, content: &[u8]) -> Result<(), ProxyError> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // The dot keeps it out of an operator's `include conf.d/*`.
    let new = dir.join(format!(".{name}.new"));
    let done = create(&new, content).and_then(|()| fs::rename(&new, path).map_err(fail("replace", path)));
    if done.is_err() {
        let _ = fs::remove_file(&new);
    }
    done.and_then(|()| sync_dir(dir))
}

/// Removes a file for good. Removing what is gone is fine.
pub(super) fn remove(path: &Path) -> Result<(), ProxyError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(fail("remove", path)(error)),
        Ok(()) | Err(_) => sync_dir(path.parent().unwrap_or(Path::new("/"))),
    }
}

/// The text of a file. None: there is no such file.
pub(super) fn read(path: &Path) -> Result<Option<String>, ProxyError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(fail("read", path)(error)),
    }
}

/// The names in a directory; none if there is no such directory.
pub(super) fn names(path: &Path) -> Result<BTreeSet<String>, ProxyError> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(error) => return Err(fail("read", path)(error)),
    };
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    names.collect::<Result<_, _>>().map_err(fail("read", path))
}

/// A directory that everybody may enter. An existing one is left as it is.
pub(super) fn ensure_dir(path: &Path) -> Result<(), ProxyError> {
    match DirBuilder::new().mode(DIR_MODE).create(path) {
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(DIR_MODE)).map_err(fail("create", path)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(fail("create", path)(error)),
    }
}

/// Gives a directory and the files in it back to everybody who reads, if somebody took them away: the agent may read
/// them all the same.
pub(super) fn reopen_dir(path: &Path) -> Result<(), ProxyError> {
    reopen(path, DIR_MODE)?;
    for entry in fs::read_dir(path).map_err(fail("read", path))? {
        let entry = entry.map_err(fail("read", path))?;
        if entry.file_type().map_err(fail("read", path))?.is_file() {
            reopen(&entry.path(), FILE_MODE)?;
        }
    }
    Ok(())
}

fn reopen(path: &Path, least: u32) -> Result<(), ProxyError> {
    let mode = fs::metadata(path).map_err(fail("read", path))?.permissions().mode();
    if mode & least == least {
        return Ok(());
    }
    fs::set_permissions(path, Permissions::from_mode(least)).map_err(fail("change the mode of", path))
}

/// The agent's state directory: others may pass through it to what is theirs to read, and see no names.
pub(super) fn ensure_state_dir(path: &Path) -> Result<(), ProxyError> {
    const PASSABLE: u32 = 0o711;
    fs::create_dir_all(path).map_err(fail("create", path))?;
    let mode = fs::metadata(path).map_err(fail("read", path))?.permissions().mode();
    if mode & 0o001 == 0 {
        fs::set_permissions(path, Permissions::from_mode(PASSABLE)).map_err(fail("change the mode of", path))?;
    }
    Ok(())
}

/// Makes the entries of a directory durable.
pub(super) fn sync_dir(path: &Path) -> Result<(), ProxyError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(fail("fsync", path))
}
