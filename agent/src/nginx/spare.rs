//! What is active, a second time: where nginx looks when the switch is deleted or cannot be entered, so that users
//! meet the version that is committed and not the one that stands warm beside it.
//!
//! ```text
//!   spare/web.b      one flag for each service that has a release
//! ```
//!
//! Written once a switch is proven, and not synced: after a loss of power the agent restores the switch before nginx
//! starts, and this with it. Between the rename and this it names the colour that drains, which runs.

use super::switch::berth_file;
use super::{Flags, ProxyError, files};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Beside the switch directory.
const DIR: &str = "spare";

/// The directory `spare`.
#[derive(Debug, Clone)]
pub(super) struct SpareDir {
    dir: PathBuf,
}

impl SpareDir {
    pub(super) fn new(switch_dir: &Path) -> Self {
        Self { dir: dir(switch_dir) }
    }

    /// A service's new flag is there before its old one goes. What cannot be written is said: users need the spare only
    /// if the switch is lost as well.
    pub(super) fn tell(&self, flags: &Flags) {
        if let Err(error) = self.write(flags) {
            tracing::warn!(%error, "the switch has no spare: should it be lost, whichever colour lives would answer");
        }
    }

    fn write(&self, flags: &Flags) -> Result<(), ProxyError> {
        let active =
            flags.services.iter().filter_map(|(service, flag)| Some(berth_file(service, flag.as_ref()?.berth)));
        let wanted: BTreeSet<String> = active.collect();
        files::ensure_dir(&self.dir)?;
        files::reopen_dir(&self.dir)?;
        let there = files::names(&self.dir)?;
        for name in wanted.difference(&there) {
            let path = self.dir.join(name);
            File::create(&path).map_err(files::fail("write", &path))?;
        }
        for name in there.difference(&wanted) {
            let path = self.dir.join(name);
            fs::remove_file(&path).map_err(files::fail("remove", &path))?;
        }
        Ok(())
    }
}

/// The spare of this switch.
pub(super) fn dir(switch_dir: &Path) -> PathBuf {
    switch_dir.with_file_name(DIR)
}

#[cfg(test)]
mod tests {
    use super::super::trial::flags;
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn names(dir: &Path) -> Vec<String> {
        files::names(dir).unwrap().into_iter().collect()
    }

    #[test]
    fn one_flag_for_each_service_that_has_a_release() {
        let state = tempfile::tempdir().unwrap();
        let spare = SpareDir::new(&state.path().join("switch"));
        let dir = state.path().join("spare");
        for (told, expected) in [
            ("api none - 0, web green b 42", &["web.b"][..]),
            ("api blue a 43, web blue c 44", &["api.a", "web.c"]),
            ("web blue c 44", &["web.c"]),
        ] {
            spare.tell(&flags(told));
            assert_eq!(names(&dir), expected);
        }
    }

    #[test]
    fn a_spare_that_was_closed_or_removed_by_hand_is_there_again() {
        let state = tempfile::tempdir().unwrap();
        let spare = SpareDir::new(&state.path().join("switch"));
        let dir = state.path().join("spare");
        spare.tell(&flags("web green b 42"));
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
        spare.tell(&flags("web green b 42"));
        assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o755);
        fs::remove_dir_all(&dir).unwrap();
        spare.tell(&flags("web green b 42"));
        assert_eq!(names(&dir), ["web.b"]);
    }
}
