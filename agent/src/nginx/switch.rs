//! The switch on disk. `current` names the generation directory whose flag files nginx looks up on each
//! request; it is only ever changed by rename(2).
//!
//! ```text
//!   switch/current -> gen-7      switch/gen-7/web.b          exactly one flag for each service
//!   switch/next    -> gen-8      switch/gen-7/generation     "web green b 42\n", what a probe must answer
//! ```
//!
//! The flag is the berth's: `web.a`, `web.b`, `web.c`, or `web.none` before the first release. One rename turns
//! all services of the host. A request whose lookup it falls into finds the old flag or the new one, never
//! neither: nginx tests the berths twice for that (`render`).
//!
//! The number is the directory's own, one higher than the highest there; no protocol generation.

use super::files::{self, fail};
use super::{Flag, Flags, ProxyError};
use crate::berth::Berth;
use bgctl_proto::crashpoint;
use cutover::ids::{Generation, ServiceName};
use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const CURRENT: &str = "current";
const NEXT: &str = "next";
const TEXT: &str = "generation";
const PREFIX: &str = "gen-";

/// The directory `switch`. One writer at a time: `real` holds a lock around whatever changes it.
#[derive(Debug, Clone)]
pub(super) struct SwitchDir {
    dir: PathBuf,
}

/// A rename that was made.
#[derive(Debug)]
pub(super) struct Turned {
    /// When it returned.
    pub(super) at: Instant,
    /// How long it took.
    pub(super) took: Duration,
    /// Where `current` pointed before; kept until the next turn.
    before: Option<String>,
}

impl SwitchDir {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    pub(super) fn path(&self) -> &Path {
        &self.dir
    }

    /// What `current` says. None: there is no `current`. An error: it cannot be read, or contradicts itself.
    pub(super) fn read(&self) -> Result<Option<Flags>, ProxyError> {
        match self.target(CURRENT)? {
            None => Ok(None),
            Some(name) => self.read_generation(&name).map(Some),
        }
    }

    /// Writes a generation directory with these flags and points `next` at it, all of it on disk. Reuses
    /// what is there. An error leaves nothing half-made behind, and `current` alone.
    pub(super) fn stage(&self, flags: &Flags) -> Result<(), ProxyError> {
        if self.says(CURRENT, flags) || self.says(NEXT, flags) {
            return Ok(());
        }
        files::ensure_state_dir(self.dir.parent().unwrap_or(Path::new("/")))?;
        files::ensure_dir(&self.dir)?;
        files::sync_dir(self.dir.parent().unwrap_or(Path::new("/")))?;
        let abandoned = self.target(NEXT).ok().flatten();
        let name = format!("{PREFIX}{}", self.highest()? + 1);
        let staged = self.write_generation(&name, flags).and_then(|()| self.point_next(&name));
        if staged.is_err() {
            let _ = fs::remove_dir_all(self.dir.join(&name));
        }
        staged?;
        if let Some(abandoned) = abandoned
            && self.target(CURRENT)?.as_deref() != Some(&abandoned)
        {
            self.clear(&abandoned);
        }
        Ok(())
    }

    /// The one rename. Stages first if need be. None: `current` says these flags already.
    pub(super) fn turn(&self, flags: &Flags) -> Result<Option<Turned>, ProxyError> {
        if self.says(CURRENT, flags) {
            files::ensure_state_dir(self.dir.parent().unwrap_or(Path::new("/")))?;
            files::reopen_dir(&self.dir)?;
            files::reopen_dir(&self.dir.join(CURRENT))?;
            return Ok(None);
        }
        self.stage(flags)?;
        let before = self.target(CURRENT).ok().flatten();
        let (next, current) = (self.dir.join(NEXT), self.dir.join(CURRENT));
        crashpoint!("before_rename");
        let start = Instant::now();
        fs::rename(&next, &current).map_err(fail("switch", &current))?;
        let at = Instant::now();
        crashpoint!("after_rename");
        Ok(Some(Turned { at, took: at - start, before }))
    }

    /// Makes the rename durable.
    pub(super) fn sync(&self) -> Result<(), ProxyError> {
        files::sync_dir(&self.dir)
    }

    /// Forgets all generations but this one, the one before and `next`.
    pub(super) fn forget_old(&self, turned: &Turned) -> Result<(), ProxyError> {
        let kept = [self.target(CURRENT)?, self.target(NEXT)?, turned.before.clone()];
        for (name, _) in self.generations()? {
            if !kept.iter().flatten().any(|kept| *kept == name) {
                self.clear(&name);
            }
        }
        Ok(())
    }

    fn says(&self, link: &str, flags: &Flags) -> bool {
        let found = self.target(link).ok().flatten().and_then(|name| self.read_generation(&name).ok());
        found.as_ref() == Some(flags)
    }

    fn target(&self, link: &str) -> Result<Option<String>, ProxyError> {
        let path = self.dir.join(link);
        match fs::read_link(&path) {
            Ok(target) => Ok(Some(target.to_string_lossy().into_owned())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(fail("read", &path)(error)),
        }
    }

    fn read_generation(&self, name: &str) -> Result<Flags, ProxyError> {
        let dir = self.dir.join(name);
        let path = dir.join(TEXT);
        let text = fs::read_to_string(&path).map_err(fail("read", &path))?;
        let corrupt = |detail: String| ProxyError::File { operation: "read", path: path.display().to_string(), detail };
        let flags = from_text(&text).map_err(corrupt)?;
        let mut expected: BTreeSet<String> = flags.services.iter().map(|(name, flag)| flag_file(name, flag)).collect();
        expected.insert(TEXT.to_owned());
        let found = files::names(&dir)?;
        if found == expected {
            Ok(flags)
        } else {
            Err(corrupt(format!("it asks for the files {expected:?} beside it, and there are {found:?}")))
        }
    }

    fn write_generation(&self, name: &str, flags: &Flags) -> Result<(), ProxyError> {
        let dir = self.dir.join(name);
        files::ensure_dir(&dir)?;
        for (service, flag) in &flags.services {
            files::create(&dir.join(flag_file(service, flag)), b"")?;
        }
        files::create(&dir.join(TEXT), to_text(flags).as_bytes())?;
        files::sync_dir(&dir)
    }

    fn point_next(&self, name: &str) -> Result<(), ProxyError> {
        let next = self.dir.join(NEXT);
        let new = self.dir.join(".next.new");
        files::remove(&new)?;
        symlink(name, &new).map_err(fail("write", &new))?;
        fs::rename(&new, &next).map_err(fail("replace", &next))?;
        files::sync_dir(&self.dir)
    }

    fn generations(&self) -> Result<Vec<(String, u64)>, ProxyError> {
        let numbered = |name: String| {
            let number = name.strip_prefix(PREFIX)?.parse().ok()?;
            Some((name, number))
        };
        Ok(files::names(&self.dir)?.into_iter().filter_map(numbered).collect())
    }

    fn highest(&self) -> Result<u64, ProxyError> {
        Ok(self.generations()?.into_iter().map(|(_, number)| number).max().unwrap_or(0))
    }

    /// What cannot be removed now is met again at the next turn, and harms nobody until then.
    fn clear(&self, name: &str) {
        if let Err(error) = fs::remove_dir_all(self.dir.join(name)) {
            tracing::warn!(dir = %self.dir.display(), name, %error, "cannot remove an old switch generation");
        }
    }
}

/// `web green b 42\n` or `web none - 0\n`, a line for each service, by name.
pub(super) fn to_text(flags: &Flags) -> String {
    let line = |(service, flag): (&ServiceName, &Option<Flag>)| match flag {
        Some(Flag { colour, berth, generation }) => format!("{service} {colour} {berth} {generation}\n"),
        None => format!("{service} none - 0\n"),
    };
    flags.services.iter().map(line).collect()
}

/// The reverse; the error says which line is none of ours.
pub(super) fn from_text(text: &str) -> Result<Flags, String> {
    let mut flags = Flags::default();
    for line in text.lines() {
        let (name, flag) =
            flag_from_line(line).ok_or_else(|| format!("{line:?} is not `SERVICE COLOUR BERTH GENERATION`"))?;
        if flags.services.insert(name, flag).is_some() {
            return Err(format!("{line:?}: this service has a line already"));
        }
    }
    Ok(flags)
}

fn flag_from_line(line: &str) -> Option<(ServiceName, Option<Flag>)> {
    let words: Vec<&str> = line.split(' ').collect();
    let &[name, colour, berth, generation] = words.as_slice() else { return None };
    let flag = if (colour, berth, generation) == ("none", "-", "0") {
        None
    } else {
        let generation = Generation(generation.parse().ok()?);
        Some(Flag { colour: colour.parse().ok()?, berth: berth.parse().ok()?, generation })
    };
    Some((name.parse().ok()?, flag))
}

fn flag_file(service: &ServiceName, flag: &Option<Flag>) -> String {
    match flag {
        Some(flag) => berth_file(service, flag.berth),
        None => format!("{service}.none"),
    }
}

/// The flag that leads a service to this berth.
pub(super) fn berth_file(service: &ServiceName, berth: Berth) -> String {
    format!("{service}.{berth}")
}

#[cfg(test)]
mod tests;
