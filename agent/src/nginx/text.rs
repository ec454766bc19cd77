//! nginx's config as text, for tests that read it with eyes of their own.

use super::render::{self, Settings};
use super::{ProxyError, Shape, private};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

/// What a host is, as far as its config shows it.
#[derive(Debug, Clone, Default)]
pub struct Host {
    /// A port of a spec, and the address that it becomes.
    pub listen: BTreeMap<u16, SocketAddr>,
    /// `[::]` can be listened on.
    pub ipv6: bool,
    /// nginx has `keepalive_min_timeout`.
    pub keepalive_min_timeout: bool,
}

/// The whole config of a private nginx with everything below `state_dir`, as it would be installed.
///
/// # Errors
/// [`ProxyError::Refused`]: the shape contradicts itself, or holds what cannot stand in a config.
pub fn config(shape: &Shape, host: &Host, state_dir: &Path) -> Result<String, ProxyError> {
    let settings = Settings {
        ready: None,
        switch_dir: state_dir.join("switch"),
        socket: private::socket(state_dir),
        listen: host.listen.clone(),
        ipv6: host.ipv6,
        keepalive_min_timeout: host.keepalive_min_timeout,
    };
    let prefix = state_dir.join("nginx");
    let main = private::main_config(render::quotable(&prefix)?, "1", false);
    Ok(render::seal(&(main + &render::body(shape, &settings)? + "}\n")).text)
}
