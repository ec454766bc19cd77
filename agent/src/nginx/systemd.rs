//! The distribution's nginx, started and stopped by systemd. It is the operator's: one file in it is ours.

use super::lint::lint;
use super::probe::Probe;
use super::reload::{ErrorLog, Instance};
use super::render::Rendered;
use super::{NginxConfig, ProxyError, files, program};
use async_trait::async_trait;
use std::path::{Path, PathBuf};
use std::process::Output;

/// The unit, and our file in its include directory.
const UNIT: &str = "nginx";
const FILE: &str = "bgctl.conf";

/// The nginx of this host.
pub(super) struct Systemd {
    binary: PathBuf,
    systemctl: PathBuf,
    installed: PathBuf,
    /// Holds what was installed while a candidate stands in its place for `nginx -t`; empty if nothing was.
    set_aside: PathBuf,
    error_log: ErrorLog,
    probe: Probe,
}

impl Systemd {
    pub(super) fn new(config: &NginxConfig, state_dir: &Path) -> Self {
        Self {
            binary: config.binary.clone(),
            systemctl: config.systemctl.clone(),
            installed: config.include_dir.join(FILE),
            set_aside: state_dir.join("nginx-set-aside.conf"),
            error_log: ErrorLog::new(config.error_log.clone()),
            probe: Probe::new(config.control_socket.clone()),
        }
    }

    async fn nginx(&self, flag: &str) -> Result<Output, ProxyError> {
        let output = program::run(&self.binary, &[flag], Path::new("/")).await?;
        if output.status.success() { Ok(output) } else { Err(ProxyError::Invalid { detail: explained(&output) }) }
    }

    async fn systemctl(&self, args: &[&str]) -> Result<Output, ProxyError> {
        program::run(&self.systemctl, args, Path::new("/")).await
    }

    /// `nginx -T`: tests, and prints every file that is part of the config.
    async fn dump(&self) -> Result<String, ProxyError> {
        let output = self.nginx("-T").await?;
        let dump = String::from_utf8_lossy(&output.stdout).into_owned();
        let ours = format!("/{FILE}:");
        if dump.lines().any(|line| line.starts_with("# configuration file ") && line.ends_with(&ours)) {
            return Ok(dump);
        }
        let dir = self.installed.parent().unwrap_or(Path::new("/")).display();
        Err(ProxyError::Invalid {
            detail: format!("it does not read {dir}: write `include {dir}/*.conf;` into http {{}} of its nginx.conf"),
        })
    }

    async fn is_active(&self) -> Result<(bool, String), ProxyError> {
        let output = self.systemctl(&["is-active", UNIT]).await?;
        Ok((output.status.success(), program::said(&output)))
    }

    /// A candidate that a crash left in place: the next start of nginx must not meet it.
    fn take_candidate_out(&self) -> Result<(), ProxyError> {
        match files::read(&self.set_aside)? {
            Some(before) => self.put_back(&before),
            None => Ok(()),
        }
    }

    fn put_back(&self, before: &str) -> Result<(), ProxyError> {
        if before.is_empty() {
            files::remove(&self.installed)?;
        } else {
            files::replace(&self.installed, before.as_bytes())?;
        }
        files::remove(&self.set_aside)
    }
}

#[async_trait]
impl Instance for Systemd {
    fn installed(&self) -> &Path {
        &self.installed
    }

    fn error_log(&self) -> &ErrorLog {
        &self.error_log
    }

    fn binary(&self) -> &Path {
        &self.binary
    }

    fn wrap(&self, body: String) -> Result<String, ProxyError> {
        Ok(body)
    }

    fn mend(&self) -> Result<(), ProxyError> {
        self.take_candidate_out()?;
        self.probe.clear_stale()
    }

    async fn ensure_running(&self, _first: &Rendered) -> Result<(), ProxyError> {
        self.take_candidate_out()?;
        if self.probe.shape().await.is_ok() {
            return Ok(());
        }
        let (active, state) = self.is_active().await?;
        if active {
            return Ok(());
        }
        self.probe.clear_stale()?;
        let advice = format!("try `systemctl start {UNIT}` and `journalctl -u {UNIT}`");
        let log = self.error_log.newest();
        Err(self.probe.not_answering(format!("{UNIT}.service is {state}; {advice}; {log}")))
    }

    async fn validate(&self) -> Result<(), ProxyError> {
        self.nginx("-t").await.map(|_| ())
    }

    async fn test(&self, candidate: &str) -> Result<Vec<String>, ProxyError> {
        let before = files::read(&self.installed)?.unwrap_or_default();
        files::ensure_state_dir(self.set_aside.parent().unwrap_or(Path::new("/")))?;
        files::replace(&self.set_aside, before.as_bytes())?;
        let dump = match files::replace(&self.installed, candidate.as_bytes()) {
            Ok(()) => self.dump().await,
            Err(error) => Err(error),
        };
        self.put_back(&before)?;
        dump.map(|dump| lint(&dump))
    }

    async fn reload(&self) -> Result<(), ProxyError> {
        // nginx is ordered after the agent: while the agent itself is being started, a reload that heeded the
        // order would wait for the agent, and the agent for the reload.
        let output = self.systemctl(&["reload", "--job-mode=ignore-dependencies", UNIT]).await?;
        if output.status.success() {
            return Ok(());
        }
        let program = format!("{} reload {UNIT}", self.systemctl.display());
        Err(ProxyError::Program { program, detail: program::said(&output) })
    }

    async fn stop(&self) -> Result<(), ProxyError> {
        self.take_candidate_out()?;
        if files::read(&self.installed)?.is_none() {
            return Ok(());
        }
        files::remove(&self.installed)?;
        let (active, _) = self.is_active().await?;
        if active { self.reload().await } else { Ok(()) }
    }
}

/// What a newcomer meets first, with what to do.
fn explained(output: &Output) -> String {
    let said = program::said(output);
    if said.contains("duplicate default server") {
        format!(
            "{said}; another site answers for every name there: give the service a server_name, or remove that site"
        )
    } else if said.contains("hash_bucket_size") {
        format!("{said}; set it in http {{}} of nginx.conf")
    } else {
        said
    }
}

#[cfg(test)]
mod tests;
