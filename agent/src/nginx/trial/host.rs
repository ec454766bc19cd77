//! A host of each kind, and the ways it can be hurt. What a host started ends with it.

use super::super::Proxy;
use super::super::config::{NginxConfig, NginxKind, open};
use super::super::fake::FakeProxy;
use super::super::process::{Family, Identity, Role};
use super::Network;
use rustix::process::Signal;
use std::fs::{self, Permissions};
use std::num::NonZeroU16;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use tempfile::TempDir;

const NGINX: &str = "/usr/sbin/nginx";

/// What the contract needs of a host.
pub(crate) trait Host {
    /// The agent's handle; each call is an agent that was started anew.
    fn proxy(&self) -> Arc<dyn Proxy>;
    fn network(&self) -> Network;
    /// kill -9 of everything that is nginx.
    fn kill_nginx(&self);
    /// As an operator would, where it is not the agent's to start.
    fn start_nginx(&self);
    /// Somebody deletes the switch directory.
    fn lose_switch(&self);
}

pub(crate) struct Fake {
    proxy: FakeProxy,
    network: Network,
}

impl Fake {
    pub(crate) fn new() -> Self {
        Self { proxy: FakeProxy::default(), network: Network::new() }
    }
}

impl Host for Fake {
    fn proxy(&self) -> Arc<dyn Proxy> {
        Arc::new(self.proxy.clone())
    }

    fn network(&self) -> Network {
        self.network
    }

    fn kill_nginx(&self) {
        self.proxy.die();
    }

    fn start_nginx(&self) {}

    fn lose_switch(&self) {
        self.proxy.lose_switch();
    }
}

/// A host with a real nginx.
pub(crate) struct Real {
    dir: TempDir,
    pub(crate) config: NginxConfig,
    /// Whether load balancers may ask.
    pub(crate) has_ready: bool,
    network: Network,
}

impl Real {
    pub(crate) fn private() -> Self {
        let config = NginxConfig {
            kind: NginxKind::Private,
            binary: nginx(),
            workers: NonZeroU16::new(1),
            ..NginxConfig::default()
        };
        Self { dir: tempfile::tempdir().unwrap(), config, has_ready: false, network: Network::new() }
    }

    pub(crate) fn systemd() -> Self {
        Self::systemd_with("", "include conf.d/*.conf;")
    }

    /// nginx laid out like the distribution's, with two workers, and a systemctl that signals it. `http`:
    /// what the operator has in `http {}` before the include line.
    pub(crate) fn systemd_with(http: &str, include: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_str().unwrap();
        fs::set_permissions(root, Permissions::from_mode(0o755)).unwrap();
        fs::create_dir_all(dir.path().join("conf.d")).unwrap();
        let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|kind| format!("{kind}_temp_path {root}/{kind};\n"))
            .collect();
        let nginx_conf = format!(
            "worker_processes 2;\nworker_shutdown_timeout 60s;\npid {root}/nginx.pid;\nerror_log {root}/error.log notice;\n\
             events {{ worker_connections 768; }}\nhttp {{\n{temp}access_log off;\n{http}\n{include}\n}}\n"
        );
        fs::write(dir.path().join("nginx.conf"), nginx_conf).unwrap();
        let binary = script(
            &dir.path().join("nginx"),
            &format!("exec {} -p {root} -c {root}/nginx.conf \"$@\"", nginx().display()),
        );
        let systemctl = script(
            &dir.path().join("systemctl"),
            &format!(
                "case $1 in\nis-active) if readlink \"/proc/$(cat {root}/nginx.pid)/exe\" >/dev/null; then echo active; \
                 else echo inactive; exit 3; fi;;\nreload) exec {root}/nginx -s reload;;\n*) exit 64;;\nesac"
            ),
        );
        let config = NginxConfig {
            kind: NginxKind::Systemd,
            binary,
            systemctl,
            include_dir: dir.path().join("conf.d"),
            error_log: dir.path().join("error.log"),
            control_socket: dir.path().join("control.sock"),
            ..NginxConfig::default()
        };
        let host = Self { dir, config, has_ready: false, network: Network::new() };
        host.start_nginx();
        host
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The file that holds the shape.
    pub(crate) fn installed(&self) -> PathBuf {
        match self.config.kind {
            NginxKind::Private => self.state_dir().join("nginx/nginx.conf"),
            NginxKind::Systemd => self.config.include_dir.join("bgctl.conf"),
        }
    }

    pub(crate) fn identity(&self) -> Identity {
        let prefix = match self.config.kind {
            NginxKind::Private => self.state_dir().join("nginx"),
            NginxKind::Systemd => self.dir.path().to_owned(),
        };
        Identity { binary: nginx(), pid_file: prefix.join("nginx.pid"), prefix }
    }

    pub(crate) fn signal(&self, role: Role, signal: Signal) {
        for process in self.identity().all(role) {
            let _ = process.signal(signal);
        }
    }
}

impl Host for Real {
    fn proxy(&self) -> Arc<dyn Proxy> {
        let ready = self.has_ready.then(|| self.network.ready().into());
        open(&self.config, ready, &self.state_dir()).unwrap()
    }

    fn network(&self) -> Network {
        self.network
    }

    fn kill_nginx(&self) {
        let identity = self.identity();
        let mut family = Family::of(&identity);
        // Again and again: a master that is about to die may have made one more worker.
        while family.alive().inspect(|process| drop(process.signal(Signal::KILL))).count() > 0 {}
    }

    fn start_nginx(&self) {
        match self.config.kind {
            NginxKind::Private => {}
            NginxKind::Systemd => {
                let started = Command::new(&self.config.binary).current_dir(self.dir.path()).status().unwrap();
                assert!(started.success(), "{}", fs::read_to_string(self.path("error.log")).unwrap_or_default());
            }
        }
    }

    fn lose_switch(&self) {
        fs::remove_dir_all(self.state_dir().join("switch")).unwrap();
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        self.kill_nginx();
    }
}

fn nginx() -> PathBuf {
    assert!(Path::new(NGINX).exists(), "{NGINX} is missing: install the package `nginx`");
    NGINX.into()
}

fn script(path: &Path, text: &str) -> PathBuf {
    fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    path.to_owned()
}
