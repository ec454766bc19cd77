//! Putting several files into a folder so that either all are there or none, and never over another.

use super::IssueError;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Keys and folders with keys in them: for their owner only.
const SECRET_MODE: u32 = 0o600;
const PUBLIC_MODE: u32 = 0o644;
const FOLDER_MODE: u32 = 0o700;

/// A file to be.
pub(super) struct File {
    name: &'static str,
    content: String,
    mode: u32,
}

impl File {
    pub(super) fn secret(name: &'static str, content: String) -> Self {
        Self { name, content, mode: SECRET_MODE }
    }

    pub(super) fn public(name: &'static str, content: String) -> Self {
        Self { name, content, mode: PUBLIC_MODE }
    }
}

/// Fails if one of these exists.
pub(super) fn ensure_absent(paths: &[PathBuf]) -> Result<(), IssueError> {
    match paths.iter().find(|path| path.symlink_metadata().is_ok()) {
        Some(path) => Err(IssueError::Exists { path: path.clone() }),
        None => Ok(()),
    }
}

/// Writes all files under other names first, then gives them their names, in order. After an error, those
/// that were made are gone again. A crash leaves at most the first ones of the list.
pub(super) fn place(dir: &Path, files: &[File]) -> Result<(), IssueError> {
    let targets: Vec<PathBuf> = files.iter().map(|file| dir.join(file.name)).collect();
    ensure_absent(&targets)?;
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(dir).map_err(fault("create the folder", dir))?;
    let token = uuid::Uuid::new_v4();
    let drafts: Vec<PathBuf> = files.iter().map(|file| dir.join(format!(".{}.{token}", file.name))).collect();
    let mut placed = 0;
    let mut all = || -> Result<(), IssueError> {
        for (file, draft) in files.iter().zip(&drafts) {
            write(draft, file)?;
        }
        for (draft, target) in drafts.iter().zip(&targets) {
            give_name(draft, target)?;
            placed += 1;
        }
        std::fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(fault("flush the folder", dir))
    };
    let result = all();
    if result.is_err() {
        // What cannot be removed was not made, or is told of by the error at hand.
        for path in drafts.iter().chain(&targets[..placed]) {
            let _ = std::fs::remove_file(path);
        }
    }
    result
}

/// Takes files back that were placed a moment ago, and their folder if nothing else is in it.
pub(super) fn remove(dir: &Path, names: &[&str]) {
    for name in names {
        let _ = std::fs::remove_file(dir.join(name));
    }
    let _ = std::fs::remove_dir(dir);
}

fn write(path: &Path, file: &File) -> Result<(), IssueError> {
    let mut opened =
        OpenOptions::new().write(true).create_new(true).mode(file.mode).open(path).map_err(fault("create", path))?;
    opened.write_all(file.content.as_bytes()).and_then(|()| opened.sync_all()).map_err(fault("write", path))
}

/// Unlike a plain rename, this fails if somebody else was faster.
fn give_name(draft: &Path, target: &Path) -> Result<(), IssueError> {
    match renameat_with(CWD, draft, CWD, target, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::EXIST) => Err(IssueError::Exists { path: target.to_owned() }),
        Err(error) => Err(fault("rename to", target)(error.into())),
    }
}

fn fault(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> IssueError + use<> {
    let path = path.to_owned();
    move |source| IssueError::File { operation, path, source }
}
