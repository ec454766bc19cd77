//! A shape as nginx reads it: text out of typed fields, and nothing else. Recorded in `snapshots/`.
//!
//! nginx's variables that are ours and no service's have two underscores (`$bgctl__host`): a service's
//! name cannot start with one, so none can take them.

use super::listen::{Door, ListenMap, doors};
use super::switch::berth_file;
use super::{ProxyError, ServiceShape, Shape, ready, spare};
use crate::berth::Berth;
use cutover::ids::ServiceName;
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Idle connections that each nginx worker keeps to a berth: as many as a busy client pool in front.
const UPSTREAM_IDLE_CONNECTIONS: u32 = 128;
/// nginx must be the first to close an idle connection to an app: a POST that meets the app's close is
/// lost, as nginx rightly never sends it twice. gunicorn closes after 2 s, Node and uvicorn after 5 s.
/// It also bounds how long a connection to a container that was replaced can linger.
const UPSTREAM_IDLE_SECONDS: u32 = 1;
/// A container is one bridge away: no answer means it is gone. Long enough for one lost SYN (1 s).
const CONNECT_SECONDS: u32 = 2;
/// What an idle client may still send to an old worker after a reload, where nginx knows how to wait.
const KEEPALIVE_MIN_SECONDS: u32 = 5;
/// sockaddr_un on Linux, without its closing zero.
const SOCKET_PATH_BYTES_MAX: usize = 107;
/// What `/route/NAME` answers for a service without a release.
pub(super) const NONE: &str = "none";
/// Stands where the digest goes, so that the digest covers everything else. No path may hold it.
const DIGEST_PLACE: &str = "<digest>";
/// Before the digest in the text.
const DIGEST_MARK: &str = "location = /shape { return 200 ";
/// Before a service's name, on a line of its own.
const SERVICE_MARK: &str = "# service ";

/// What rendering needs to know of this host.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    /// Holds `current`.
    pub(super) switch_dir: PathBuf,
    /// The control server's.
    pub(super) socket: PathBuf,
    pub(super) listen: ListenMap,
    /// Where load balancers ask whether the host is ready; none: nowhere.
    pub(super) ready: Option<SocketAddr>,
    /// `[::]` can be listened on.
    pub(super) ipv6: bool,
    /// nginx has `keepalive_min_timeout` (1.27.4 and later).
    pub(super) keepalive_min_timeout: bool,
}

/// A whole config text, and what nginx answers for `/shape` once it is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rendered {
    pub(super) text: String,
    pub(super) digest: String,
}

/// What stands inside `http {}`, not sealed yet.
pub(super) fn body(shape: &Shape, settings: &Settings) -> Result<String, ProxyError> {
    let current = settings.switch_dir.join("current");
    let current = quotable(&current)?;
    let spare = spare::dir(&settings.switch_dir);
    let spare = quotable(&spare)?;
    let mut text = String::new();
    preamble(&mut text, current);
    for (service, shape) in &shape.services {
        upstreams(&mut text, service, shape);
    }
    for door in doors(shape, &settings.listen, settings.ipv6)? {
        keep_apart(&door, settings.ready)?;
        server(&mut text, &door, &Dirs { current, spare }, settings.keepalive_min_timeout);
    }
    let socket = quotable(&settings.socket)?;
    if socket.len() > SOCKET_PATH_BYTES_MAX {
        let detail =
            format!("the socket path {socket} is longer than {SOCKET_PATH_BYTES_MAX} bytes; move the state directory");
        return Err(ProxyError::Refused { detail });
    }
    if let Some(address) = settings.ready {
        readiness(&mut text, shape, current, address);
    }
    control(&mut text, shape, current, socket);
    Ok(text)
}

/// Load balancers that ask for readiness must not be answered by a service.
fn keep_apart(door: &Door<'_>, ready: Option<SocketAddr>) -> Result<(), ProxyError> {
    let Some(ready) = ready else { return Ok(()) };
    let meets = |address: &SocketAddr| {
        let all = address.ip().is_unspecified() || ready.ip().is_unspecified();
        address.port() == ready.port() && (all || address.ip() == ready.ip())
    };
    if !door.addresses.iter().any(meets) {
        return Ok(());
    }
    let service = door.service;
    Err(ProxyError::Refused {
        detail: format!("service {service} listens on {ready}, which is `ready` in this host's agent.yaml; move one"),
    })
}

/// Puts the digest of everything into its place.
pub(super) fn seal(text: &str) -> Rendered {
    let digest = Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    Rendered { text: text.replacen(DIGEST_PLACE, &digest, 1), digest }
}

/// The digest in a sealed text. None: somebody changed the text by hand.
pub(super) fn digest(text: &str) -> Option<String> {
    let start = text.find(DIGEST_MARK)? + DIGEST_MARK.len();
    let digest = text.get(start..start + 64)?;
    let unsealed = text.replacen(digest, DIGEST_PLACE, 1);
    (seal(&unsealed).digest == digest).then(|| digest.to_owned())
}

/// The services that a rendered text serves.
pub(super) fn services(text: &str) -> impl Iterator<Item = ServiceName> {
    text.lines().filter_map(|line| line.trim_start().strip_prefix(SERVICE_MARK)?.parse().ok())
}

/// The upstream a service's variable names when this berth is active.
pub(super) fn upstream(service: &ServiceName, berth: Berth) -> String {
    format!("{}_{berth}", variable(service))
}

/// The upstream for when no flag can be read.
pub(super) fn lost(service: &ServiceName) -> String {
    format!("{}_lost", variable(service))
}

/// A path as it stands between double quotes in nginx's text.
pub(super) fn quotable(path: &Path) -> Result<&str, ProxyError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "/._-+@,=~ ".contains(c);
    path.to_str().filter(|text| text.starts_with('/') && text.chars().all(fits)).ok_or_else(|| ProxyError::Refused {
        detail: format!(
            "{path:?} cannot stand in nginx's config; use an absolute path of letters, digits, blanks and \"/._-+@,=~\""
        ),
    })
}

fn variable(service: &ServiceName) -> String {
    format!("bgctl_{}", service.as_str().replace('-', "_"))
}

// Writing to a String cannot fail.
macro_rules! line {
    ($text:expr, $($arg:tt)*) => {{ let _ = writeln!($text, $($arg)*); }};
}

fn preamble(text: &mut String, current: &str) {
    line!(text, "# Written by bgctl-agent. What is changed here by hand is lost at a service's next change.");
    line!(text, "# Which berth takes traffic is not in here: nginx looks it up on each request, in");
    line!(text, "# {current}");
    line!(text, "");
    line!(text, "# Only WebSockets may change the protocol: an h2c upgrade would open a way past this server.");
    line!(text, "map $http_upgrade $bgctl__upgrade {{ default \"\"; \"~*^websocket$\" websocket; }}");
    line!(text, "# Empty: no such header, and the connection to the container stays open for the next request.");
    line!(text, "map $bgctl__upgrade $bgctl__connection {{ default upgrade; \"\" \"\"; }}");
    line!(text, "# With the port, which apps need in redirects; HTTP/1.0 may come without.");
    line!(text, "map $http_host $bgctl__host {{ default $http_host; \"\" $host; }}");
    line!(text, "# TLS ends in front of this host, so what stands there knows the scheme.");
    line!(text, "map $http_x_forwarded_proto $bgctl__proto {{ default $scheme; http http; https https; }}");
}

fn upstreams(text: &mut String, service: &ServiceName, shape: &ServiceShape) {
    let keep = format!("keepalive {UPSTREAM_IDLE_CONNECTIONS}; keepalive_timeout {UPSTREAM_IDLE_SECONDS}s;");
    line!(text, "\n{SERVICE_MARK}{service}");
    for (berth, address) in Berth::ALL.into_iter().zip(shape.berths) {
        line!(text, "upstream {} {{ server {address}; {keep} }}", upstream(service, berth));
    }
    let [first, others @ ..] = shape.berths;
    line!(
        text,
        "# For when no flag can be read and there is no spare: whichever answers. They may not all be given up at once."
    );
    line!(text, "upstream {} {{", lost(service));
    line!(text, "    server {first} max_fails=1 fail_timeout=1s;");
    for other in others {
        line!(text, "    server {other} max_fails=0 backup;");
    }
    line!(text, "}}");
}

/// Where flags are looked up.
struct Dirs<'a> {
    current: &'a str,
    spare: &'a str,
}

fn server(text: &mut String, door: &Door<'_>, dirs: &Dirs<'_>, keepalive_min_timeout: bool) {
    let unnamed = door.server_names.is_empty();
    line!(text, "\nserver {{");
    for address in &door.addresses {
        line!(text, "    listen {address}{};", if unnamed { " default_server" } else { "" });
    }
    line!(text, "    server_name {};", if unnamed { "_".to_owned() } else { door.server_names.join(" ") });
    if keepalive_min_timeout {
        line!(text, "    keepalive_min_timeout {KEEPALIVE_MIN_SECONDS}s;");
    }
    see_flags(text);
    let variable = variable(door.service);
    line!(text, "    set ${variable} {};", lost(door.service));
    let found = |upstream: &str| format!("set ${variable} {upstream}; break;");
    look_up(text, "    ", door.service, dirs.current, "return 503;", found);
    line!(text, "    # Only where the switch cannot be read: what was active when it last could.");
    look_for_berths(text, "    ", door.service, dirs.spare, &found);
    line!(text, "    location / {{");
    line!(text, "        proxy_pass http://${variable};");
    line!(text, "        proxy_http_version 1.1;");
    line!(text, "        proxy_connect_timeout {CONNECT_SECONDS}s;");
    line!(text, "        proxy_set_header Host $bgctl__host;");
    line!(text, "        proxy_set_header Upgrade $bgctl__upgrade;");
    line!(text, "        proxy_set_header Connection $bgctl__connection;");
    line!(text, "        proxy_set_header X-Real-IP $remote_addr;");
    line!(text, "        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;");
    line!(text, "        proxy_set_header X-Forwarded-Proto $bgctl__proto;");
    line!(text, "        proxy_set_header X-Forwarded-Host $bgctl__host;");
    line!(text, "    }}");
    line!(text, "}}");
}

/// `_host` is no service's name, and `$bgctl__ten` no service's variable.
fn readiness(text: &mut String, shape: &Shape, current: &str, address: SocketAddr) {
    line!(text, "\n# What load balancers ask. The agent keeps the files; nginx answers while no agent runs.");
    line!(text, "map $msec $bgctl__ten {{ default never; \"~^(?<bgctl__tens>[0-9]+)[0-9][.]\" $bgctl__tens; }}");
    line!(text, "server {{");
    line!(text, "    listen {address};");
    line!(text, "    access_log off;");
    line!(text, "    allow all;");
    line!(text, "    auth_basic off;");
    see_flags(text);
    line!(text, "    types {{ }}");
    line!(text, "    default_type text/plain;");
    line!(text, "    etag off;");
    line!(text, "    if_modified_since off;");
    line!(text, "    add_header Cache-Control no-store always;");
    line!(text, "    # Through the switch: where it cannot be read, nobody is ready.");
    line!(text, "    root \"{current}/../{}\";", ready::DIR);
    let services = shape.services.keys().map(|service| (format!("/ready/{service}"), service.as_str()));
    for (path, name) in services.chain([("/ready".to_owned(), ready::HOST)]) {
        line!(text, "    location = {path} {{");
        line!(text, "        try_files /{name}.yes /{name}.yes.$bgctl__ten =503;");
        line!(text, "        error_page 503 @{name};");
        line!(text, "    }}");
        line!(text, "    location @{name} {{ try_files /{name}.no =503; }}");
    }
    line!(text, "    location / {{ return 404 \"no such service on this host\\n\"; }}");
    line!(text, "}}");
}

fn control(text: &mut String, shape: &Shape, current: &str, socket: &str) {
    line!(text, "\n# What the agent asks, to see what nginx really does.");
    line!(text, "server {{");
    line!(text, "    listen \"unix:{socket}\";");
    line!(text, "    access_log off;");
    line!(text, "    allow all;");
    line!(text, "    auth_basic off;");
    see_flags(text);
    line!(text, "    {DIGEST_MARK}{DIGEST_PLACE}; }}");
    line!(text, "    location = /generation {{ alias \"{current}/generation\"; }}");
    for service in shape.services.keys() {
        line!(text, "    location = /route/{service} {{");
        let none = format!("return 200 {NONE};");
        look_up(text, "        ", service, current, &none, |upstream| format!("return 200 {upstream};"));
        line!(text, "        return 200 {};", lost(service));
        line!(text, "    }}");
    }
    line!(text, "}}");
}

/// An operator's `http {}` may have either: the first would freeze the switch, the second hide it.
fn see_flags(text: &mut String) {
    line!(text, "    open_file_cache off;");
    line!(text, "    disable_symlinks off;");
}

/// The first flag that is found ends the lookup. A rename may fall between two of the tests, and if it leads
/// to a berth that was tested already, the old flag is gone and the new one is behind: hence the berths a
/// second time, which no other request comes to. `lost` is left for a switch that cannot be read.
fn look_up(
    text: &mut String,
    indent: &str,
    service: &ServiceName,
    current: &str,
    none: &str,
    found: impl Fn(&str) -> String,
) {
    look_for_berths(text, indent, service, current, &found);
    line!(text, "{indent}if (-f \"{current}/{service}.none\") {{ {none} }}");
    look_for_berths(text, indent, service, current, &found);
}

fn look_for_berths(text: &mut String, indent: &str, service: &ServiceName, dir: &str, found: &impl Fn(&str) -> String) {
    for berth in Berth::ALL {
        let (flag, found) = (berth_file(service, berth), found(&upstream(service, berth)));
        line!(text, "{indent}if (-f \"{dir}/{flag}\") {{ {found} }}");
    }
}

#[cfg(test)]
mod tests;
