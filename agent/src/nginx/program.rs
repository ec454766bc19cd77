//! Running nginx's and systemd's programs, and reading what they say.

use super::ProxyError;
use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::process::Command;
use tokio::time::timeout;

/// nginx tries a taken port for 2.5 s before it gives up.
const RUN_LIMIT: Duration = Duration::from_secs(15);
/// Enough for the lines that matter; they travel in a vote.
const SAID_BYTES_MAX: usize = 2000;

/// Runs it to its end; a bad exit code is no error here.
pub(super) async fn run<A: AsRef<OsStr>>(program: &Path, args: &[A], dir: &Path) -> Result<Output, ProxyError> {
    let fail = |detail: String| ProxyError::Program { program: program.display().to_string(), detail };
    let mut command = Command::new(program);
    command.args(args).current_dir(dir).stdin(Stdio::null()).kill_on_drop(true);
    match timeout(RUN_LIMIT, command.output()).await {
        Ok(Ok(output)) => Ok(output),
        Ok(Err(error)) => Err(fail(format!("{error}; is its package installed, and its path right in the config?"))),
        Err(_) => Err(fail(format!("it did not end within {RUN_LIMIT:?}"))),
    }
}

/// Its words, on one line. Of nginx's, the ones that name a fault, where there are any.
pub(super) fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(if output.stderr.is_empty() { &output.stdout } else { &output.stderr });
    let faults = faults(&text);
    let said = if faults.is_empty() { text.lines().collect::<Vec<_>>().join("; ") } else { faults.join("; ") };
    let said: String = said.chars().take(SAID_BYTES_MAX).collect();
    if said.is_empty() { output.status.to_string() } else { said }
}

/// What in nginx's words or in its error log says why something did not work; each fault once, without
/// time and process.
pub(super) fn faults(text: &str) -> Vec<&str> {
    let mut faults = Vec::new();
    for line in text.lines() {
        let said = ["[emerg] ", "[alert] ", "[crit] ", "[error] "].iter().find_map(|level| line.split_once(level));
        let Some((_, said)) = said else { continue };
        let fault = match said.split_once(": ") {
            Some((process, fault)) if process.bytes().all(|b| b.is_ascii_digit() || b == b'#') => fault,
            Some(_) | None => said,
        };
        if !faults.contains(&fault) {
            faults.push(fault);
        }
    }
    faults
}

/// `1.22.1` out of `nginx version: nginx/1.22.1 (Debian)`.
async fn nginx_version(binary: &Path) -> Result<String, ProxyError> {
    let output = run(binary, &["-v"], Path::new("/")).await?;
    let text = said(&output);
    let version = text.split_once('/').map(|(_, rest)| rest.split_whitespace().next().unwrap_or_default().to_owned());
    version.filter(|version| parse(version).is_some()).ok_or_else(|| ProxyError::Program {
        program: binary.display().to_string(),
        detail: format!("expected a version, it says {text:?}"),
    })
}

/// nginx's version, asked again when its file is another one: a start of a process at each deployment would be
/// felt.
#[derive(Debug, Default)]
pub(super) struct KnownVersion {
    known: Mutex<Option<(FileVersion, String)>>,
}

/// Device, inode, and time of the last change in seconds and nanoseconds.
type FileVersion = (u64, u64, i64, i64);

impl KnownVersion {
    /// As `nginx_version`.
    pub(super) async fn of(&self, binary: &Path) -> Result<String, ProxyError> {
        let file = std::fs::metadata(binary).map(|file| (file.dev(), file.ino(), file.mtime(), file.mtime_nsec())).ok();
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let (Some(file), Some((known_file, version))) = (file, known)
            && file == known_file
        {
            return Ok(version);
        }
        let version = nginx_version(binary).await?;
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = file.map(|file| (file, version.clone()));
        Ok(version)
    }
}

/// Since 1.27.4 an idle client may still send a request while its old worker ends.
pub(super) fn has_keepalive_min_timeout(version: &str) -> bool {
    parse(version).is_some_and(|version| version >= [1, 27, 4])
}

fn parse(version: &str) -> Option<[u32; 3]> {
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().ok());
    Some([numbers.next()??, numbers.next()??, numbers.next()??])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn versions_compare_as_numbers() {
        for (version, has) in [
            ("1.18.0", false),
            ("1.27.3", false),
            ("1.27.4", true),
            ("1.27.10", true),
            ("1.28.0", true),
            ("2.0.0", true),
        ] {
            assert_eq!(has_keepalive_min_timeout(version), has, "{version}");
        }
        assert!(!has_keepalive_min_timeout("1.27"));
    }

    #[test]
    fn a_fault_is_told_once_and_without_its_process() {
        let log = "2026/11/20 10:28:25 [notice] 7#7: signal process started\n\
                   2026/11/20 10:28:25 [emerg] 11416#11416: bind() to 127.0.0.1:80 failed (98: in use)\n\
                   2026/11/20 10:28:26 [emerg] 11416#11416: bind() to 127.0.0.1:80 failed (98: in use)\n\
                   nginx: [emerg] unknown directive: \"x\"\n";
        assert_eq!(faults(log), ["bind() to 127.0.0.1:80 failed (98: in use)", "unknown directive: \"x\""]);
    }

    #[tokio::test]
    async fn a_missing_program_is_named() {
        let error = nginx_version(Path::new("/nowhere/nginx")).await.unwrap_err().to_string();
        assert!(error.starts_with("cannot run /nowhere/nginx: No such file"), "{error}");
    }

    #[tokio::test]
    async fn a_version_is_asked_once_for_each_program_that_stands_there() {
        let dir = tempfile::tempdir().unwrap();
        let (binary, new, runs) = (dir.path().join("nginx"), dir.path().join("new"), dir.path().join("runs"));
        let write = |path: &Path, version: &str| {
            let text = format!("#!/bin/sh\necho run >> {}\necho nginx version: nginx/{version}\n", runs.display());
            std::fs::write(path, text).unwrap();
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        };
        let ran = || std::fs::read_to_string(&runs).unwrap().lines().count();
        let known = KnownVersion::default();
        write(&binary, "1.22.1");
        for _ in 0..3 {
            assert_eq!(known.of(&binary).await.as_deref(), Ok("1.22.1"));
        }
        assert_eq!(ran(), 1);
        // As a package manager does.
        write(&new, "1.28.0");
        std::fs::rename(&new, &binary).unwrap();
        for _ in 0..3 {
            assert_eq!(known.of(&binary).await.as_deref(), Ok("1.28.0"));
        }
        assert_eq!(ran(), 2);
        std::fs::remove_file(&binary).unwrap();
        assert!(known.of(&binary).await.is_err());
    }

    #[tokio::test]
    async fn what_is_no_nginx_is_said() {
        let error = nginx_version(Path::new("/bin/true")).await.unwrap_err().to_string();
        assert!(error.contains("expected a version"), "{error}");
    }
}
