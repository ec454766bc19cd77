//! The agent's `nginx:` section.
//!
//! ```yaml
//! nginx:
//!   kind: private
//!   workers: 1
//!   listen: {80: "127.0.0.1:8081"}
//! ```

use super::private::{self, Private};
use super::real::Nginx;
use super::reload::Instance;
use super::render::Settings;
use super::systemd::Systemd;
use super::{Proxy, ProxyError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Present where the kernel speaks IPv6.
const IPV6: &str = "/proc/net/if_inet6";

/// How nginx runs on this host. Everything has a default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NginxConfig {
    /// Whose nginx it is.
    pub kind: NginxKind,
    /// The program; `/usr/sbin/nginx`.
    pub binary: PathBuf,
    /// Worker processes of a private nginx; none for one per processor.
    pub workers: Option<NonZeroU16>,
    /// A port of a spec, and the address that it becomes on this host. Ports that are not here stay
    /// what they are.
    pub listen: BTreeMap<u16, SocketAddr>,
    /// systemd: the directory that nginx.conf includes in `http {}`; `/etc/nginx/conf.d`.
    pub include_dir: PathBuf,
    /// systemd: the program; `/usr/bin/systemctl`.
    pub systemctl: PathBuf,
    /// systemd: where nginx reports; `/var/log/nginx/error.log`.
    pub error_log: PathBuf,
    /// systemd: the control server's unix socket. On a file system that is empty after a reboot, because
    /// nginx does not start over a socket that a power cut left behind; `/run/bgctl-nginx.sock`.
    pub control_socket: PathBuf,
}

/// Whose nginx it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NginxKind {
    /// The agent starts its own, with everything below the state directory.
    Private,
    /// The distribution's, which systemd starts.
    Systemd,
}

impl Default for NginxConfig {
    fn default() -> Self {
        Self {
            kind: NginxKind::Systemd,
            binary: "/usr/sbin/nginx".into(),
            workers: None,
            listen: BTreeMap::new(),
            include_dir: "/etc/nginx/conf.d".into(),
            systemctl: "/usr/bin/systemctl".into(),
            error_log: "/var/log/nginx/error.log".into(),
            control_socket: "/run/bgctl-nginx.sock".into(),
        }
    }
}

/// nginx as this config has it, with the address where load balancers ask; the switch is kept in `state_dir/switch`. Touches nothing yet. An error:
/// a path that cannot stand in nginx's config, because it is relative, too long, or has odd characters.
pub fn open(config: &NginxConfig, ready: Option<SocketAddr>, state_dir: &Path) -> Result<Arc<dyn Proxy>, ProxyError> {
    let (socket, instance): (_, Box<dyn Instance>) = match config.kind {
        NginxKind::Private => (private::socket(state_dir), Box::new(Private::new(config, state_dir))),
        NginxKind::Systemd => (config.control_socket.clone(), Box::new(Systemd::new(config, state_dir))),
    };
    let settings = Settings {
        switch_dir: state_dir.join("switch"),
        socket,
        listen: config.listen.clone(),
        ready,
        ipv6: Path::new(IPV6).exists(),
        keepalive_min_timeout: false,
    };
    Ok(Arc::new(Nginx::new(settings, instance)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_local_fleets_section_is_read_as_it_is_written() {
        for listen in ["{80: '127.0.0.1:8081'}", "{\"80\": \"127.0.0.1:8081\"}"] {
            let text = format!("kind: private\nworkers: 1\nlisten: {listen}\n");
            let config: NginxConfig = serde_saphyr::from_str(&text).unwrap();
            assert_eq!(config.kind, NginxKind::Private);
            assert_eq!(config.workers, NonZeroU16::new(1));
            assert_eq!(config.listen[&80], "127.0.0.1:8081".parse().unwrap());
            assert_eq!(config.binary, Path::new("/usr/sbin/nginx"));
        }
    }

    #[test]
    fn a_state_directory_that_nginx_cannot_name_is_refused_at_once() {
        let config = NginxConfig { kind: NginxKind::Private, ..NginxConfig::default() };
        for bad in ["state", "/var/lib/\"bgctl\"", &format!("/{}", "long".repeat(30))] {
            assert!(matches!(open(&config, None, Path::new(bad)), Err(ProxyError::Refused { .. })), "{bad}");
        }
    }

    #[test]
    fn an_empty_section_is_the_distributions_nginx() {
        let config: NginxConfig = serde_saphyr::from_str("{}").unwrap();
        assert_eq!(config, NginxConfig::default());
        assert_eq!(config.kind, NginxKind::Systemd);
    }

    #[test]
    fn a_key_that_is_none_is_refused() {
        let error = serde_saphyr::from_str::<NginxConfig>("kind: private\nworker: 1\n").unwrap_err().to_string();
        assert!(error.contains("worker"), "{error}");
    }
}
