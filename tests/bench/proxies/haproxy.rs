//! HAProxy with both colours as backends and a map that says which one is used: one `set map` on the stats socket
//! moves all traffic at once. Like `set server`, it is forgotten when HAProxy restarts.

use super::{Pair, START_LIMIT, door};
use crate::backends;
use crate::place::Place;
use anyhow::{Context, ensure};
use bgctl_tests::workspace::system_program;
use cutover::ids::Colour;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

/// HAProxy.
pub struct Haproxy {
    address: SocketAddr,
    socket: PathBuf,
    map: PathBuf,
    /// Ends with this value.
    _process: Child,
}

impl Haproxy {
    /// On blue.
    pub async fn start(place: &Place, pair: &Pair) -> anyhow::Result<Self> {
        let (dir, address) = (place.folder("haproxy")?, door(place)?);
        let (socket, map, config) = (dir.join("stats.sock"), dir.join("active.map"), dir.join("haproxy.cfg"));
        let (blue, green) = (pair.address(Colour::Blue), pair.address(Colour::Green));
        let (socket_text, map_text) = (socket.display(), map.display());
        // Timeouts and limits as in our nginx.
        let text = format!(
            "global
    nbthread 1
    maxconn 4096
    stats socket {socket_text} mode 600 level admin
defaults
    mode http
    option http-keep-alive
    http-reuse always
    timeout connect 2s
    timeout client 650s
    timeout http-keep-alive 650s
    timeout server 60s
frontend users
    bind {address}
    use_backend %[str(web),map({map_text})]
backend blue
    server app {blue} pool-purge-delay 1s
backend green
    server app {green} pool-purge-delay 1s
"
        );
        fs::write(&config, text).context("cannot write haproxy.cfg")?;
        fs::write(&map, "web blue\n").context("cannot write HAProxy's map")?;
        let log = dir.join("haproxy.log");
        let stderr = fs::File::create(&log).context("cannot write HAProxy's log")?;
        let mut command = Command::new(system_program("haproxy", "haproxy")?);
        command.arg("-db").arg("-f").arg(&config).current_dir(&dir).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        let process = command.spawn().context("cannot run haproxy")?;
        backends::served(address, super::version(Colour::Blue), START_LIMIT)
            .await
            .with_context(|| format!("HAProxy; it says: {}", fs::read_to_string(&log).unwrap_or_default().trim()))?;
        Ok(Self { address, socket, map, _process: process })
    }

    /// Where users come in.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// As `echo "set map …" | socat` does it.
    pub async fn switch(&self, to: Colour) -> anyhow::Result<()> {
        let mut stream = UnixStream::connect(&self.socket).await.context("cannot reach HAProxy's stats socket")?;
        let command = format!("set map {} web {to}\n", self.map.display());
        stream.write_all(command.as_bytes()).await.context("cannot talk to HAProxy")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.context("HAProxy does not answer")?;
        ensure!(answer.trim().is_empty(), "HAProxy refuses {command:?}: {}", answer.trim());
        Ok(())
    }
}
