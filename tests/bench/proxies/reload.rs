//! nginx as every guide has it: the upstream in a file of its own, and `nginx -s reload` after a change. Its config
//! is ours without the switch, taken from ours, so that nothing else differs.

use super::{Ours, Pair, START_LIMIT, door};
use crate::backends;
use crate::place::Place;
use anyhow::{Context, ensure};
use bgctl_tests::workspace::system_program;
use cutover::ids::Colour;
use std::fs;
use std::net::{SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::process::Stdio;
use tokio::process::Command;

/// What the rendered config calls its variable and, with a colour, its upstreams.
const VARIABLE: &str = "bgctl_web";
/// What it says before the server that only the agent asks.
const CONTROL_MARK: &str = "\n# What the agent asks";

/// An nginx with a static upstream.
pub struct Static {
    pair: Pair,
    address: SocketAddr,
    binary: PathBuf,
    prefix: PathBuf,
    upstream: String,
}

impl Static {
    /// On blue.
    pub async fn start(place: &Place, pair: &Pair, ours: &Ours) -> anyhow::Result<Self> {
        let (prefix, address) = (place.folder("static")?, door(place)?);
        fs::create_dir_all(prefix.join("temp")).context("cannot make a folder")?;
        let rendered = ours.state_dir().join("nginx/nginx.conf");
        let rendered = fs::read_to_string(&rendered).with_context(|| format!("cannot read {}", rendered.display()))?;
        let parts = without_switch(&rendered, pair.address(Colour::Blue))?;
        let own = |text: &str| {
            let moved =
                text.replace(&ours.state_dir().join("nginx").display().to_string(), &prefix.display().to_string());
            moved.replace(&format!("listen {}", ours.address()), &format!("listen {address}"))
        };
        fs::write(prefix.join("nginx.conf"), own(&parts.config)).context("cannot write nginx.conf")?;
        let binary = system_program("nginx", "nginx")?;
        let started = Self { pair: pair.clone(), address, binary, upstream: parts.upstream, prefix };
        started.write_upstream(Colour::Blue)?;
        started.nginx(&[]).await?;
        backends::served(address, super::version(Colour::Blue), START_LIMIT).await?;
        Ok(started)
    }

    /// Where users come in.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// As a deploy script does it.
    pub async fn switch(&self, to: Colour) -> anyhow::Result<()> {
        self.write_upstream(to)?;
        self.nginx(&["-s", "reload"]).await
    }

    fn write_upstream(&self, colour: Colour) -> anyhow::Result<()> {
        let (new, path) = (self.prefix.join("upstream.new"), self.prefix.join("upstream.conf"));
        let blue = self.pair.address(Colour::Blue).to_string();
        let text = self.upstream.replace(&blue, &self.pair.address(colour).to_string());
        fs::write(&new, text).and_then(|()| fs::rename(&new, &path)).context("cannot write the upstream file")
    }

    async fn nginx(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let mut command = Command::new(&self.binary);
        command.args(arguments).arg("-p").arg(&self.prefix).arg("-c").arg(self.prefix.join("nginx.conf"));
        command.current_dir(&self.prefix).stdin(Stdio::null()).kill_on_drop(true);
        let output = command.output().await.context("cannot run nginx")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "nginx {arguments:?}: {}: {}", output.status, said.trim());
        Ok(())
    }
}

struct Parts {
    config: String,
    upstream: String,
}

/// Takes the switch out of our config: what is left is what somebody would write who wants one upstream.
fn without_switch(rendered: &str, blue: SocketAddrV4) -> anyhow::Result<Parts> {
    let (served, _control) = rendered.split_once(CONTROL_MARK).context("our config has no control server any more")?;
    let marks = [format!("server {blue}; keepalive"), format!("proxy_pass http://${VARIABLE};"), "if (-f".to_owned()];
    for mark in &marks {
        ensure!(served.contains(mark), "our config has no {mark:?} any more: bring the bench up to date");
    }
    let (mut config, mut upstream, mut is_lost) = (String::new(), String::new(), false);
    for line in served.lines() {
        if line.starts_with("upstream ") && line.contains(&marks[0]) {
            let (_, servers) = line.split_once(" {").unwrap_or_default();
            upstream = format!("upstream {VARIABLE} {{{servers}\n");
            config.push_str("include upstream.conf;\n");
        }
        is_lost |= line.starts_with(&format!("upstream {VARIABLE}_lost "));
        let words = line.trim_start();
        let is_switch = words.starts_with("if (-f") || words.starts_with(&format!("set ${VARIABLE} "));
        if !line.starts_with("upstream ") && !is_lost && !is_switch {
            config.push_str(&line.replace(&format!("http://${VARIABLE};"), &format!("http://{VARIABLE};")));
            config.push('\n');
        }
        is_lost &= line != "}";
    }
    ensure!(
        !config.contains(&format!("${VARIABLE}")),
        "the switch is not out of our config: bring the bench up to date"
    );
    config.push_str("}\n");
    Ok(Parts { config, upstream })
}
