//! What redb says when something goes wrong, in words that name the file and what to do.

use super::super::StoreError;
use std::io;
use std::path::Path;

/// Anything redb can answer. Boxed, because it is large and rare.
#[derive(Debug)]
pub(super) struct Fault(Box<redb::Error>);

impl<E: Into<redb::Error>> From<E> for Fault {
    fn from(error: E) -> Self {
        Self(Box::new(error.into()))
    }
}

impl Fault {
    /// Another process, or another handle of this one, holds the file.
    pub(super) fn is_held(&self) -> bool {
        matches!(*self.0, redb::Error::DatabaseAlreadyOpen)
    }

    /// The table is not there.
    pub(super) fn is_missing_table(&self) -> bool {
        matches!(*self.0, redb::Error::TableDoesNotExist(_))
    }

    /// The file could not be opened.
    pub(super) fn opening(&self, path: &Path) -> StoreError {
        let detail = if self.is_held() {
            let file = path.display();
            format!("`{file}` is held by another controller; stop that one first, or give this one a file of its own")
        } else if let Some(error) = self.io().filter(|error| !is_content(error)) {
            unreachable_file(path, error)
        } else {
            damaged(path, &self.0)
        };
        StoreError::Unusable { detail }
    }

    /// The file could not be read.
    pub(super) fn reading(&self, path: &Path) -> StoreError {
        if self.is_damage() {
            return StoreError::Unusable { detail: damaged(path, &self.0) };
        }
        StoreError::Unknown { detail: format!("`{}` could not be read: {}", path.display(), self.0) }
    }

    /// Nothing was written, as the file itself shows.
    pub(super) fn not_written(&self, path: &Path) -> StoreError {
        if self.is_damage() {
            return StoreError::Unusable { detail: damaged(path, &self.0) };
        }
        let is_full = self.io().is_some_and(|error| error.kind() == io::ErrorKind::StorageFull);
        let detail = if is_full {
            full(path)
        } else {
            format!("`{}` could not be written: {}; check the disk", path.display(), self.0)
        };
        StoreError::Refused { detail }
    }

    /// Whether it was written cannot be told.
    pub(super) fn perhaps_written(&self, path: &Path) -> StoreError {
        StoreError::Unknown { detail: format!("`{}`: {}", path.display(), self.0) }
    }

    fn is_damage(&self) -> bool {
        matches!(*self.0, redb::Error::Corrupted(_))
    }

    fn io(&self) -> Option<&io::Error> {
        if let redb::Error::Io(error) = &*self.0 { Some(error) } else { None }
    }
}

/// The words for a disk without space.
pub(super) fn full(path: &Path) -> String {
    format!("no space left on the disk of `{}`; make room, then try again", path.display())
}

/// The words for a file that cannot be opened for a reason outside it.
pub(super) fn unreachable_file(path: &Path, error: &io::Error) -> String {
    let helps = [
        (io::ErrorKind::NotFound, "make its directory first"),
        (io::ErrorKind::PermissionDenied, "run as its owner, or change the owner"),
        (io::ErrorKind::StorageFull, "make room on its disk"),
    ];
    let help =
        helps.iter().find(|(kind, _)| *kind == error.kind()).map_or("check the path and the disk", |(_, help)| help);
    format!("`{}`: {error}; {help}", path.display())
}

/// The words for a file with the wrong content.
pub(super) fn damaged(path: &Path, what: &dyn std::fmt::Display) -> String {
    format!(
        "`{}` is damaged, or is not a file of bgctl ({what}); put back a copy, or move it away to start with an empty store",
        path.display()
    )
}

fn is_content(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput)
}
