//! What becomes of a spec in nginx's config: its values in their places, and nothing else.

use super::yaml;
use crate::Verdict;
use crate::bytes::{Bytes, put_chunk};
use crate::corpus::payloads;
use crate::fixture::{IMAGE_ID, pins};
use crate::nginx_text::{Directive, parse};
use bgctl_agent::nginx::text::{Host, config as render};
use bgctl_agent::nginx::{NginxConfig, ServiceShape, Shape};
use bgctl_agent::release::Release;
use bgctl_controller::spec::{Spec, Version, digest};
use bgctl_proto::session as wire;
use cutover::ids::ServiceName;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::process::Command;

/// Set, and not empty: `nginx -t` reads each config that is rendered. Slow.
const ASK_NGINX: &str = "BGCTL_FUZZ_NGINX";

/// Where a host keeps its state, in the configs that nginx itself does not read.
const STATE_DIR: &str = "/var/lib/bgctl";

/// Services on the host at most.
const SERVICES_MAX: usize = 3;

/// What can be said of a service, with what stands there if nothing is said.
const FIELDS: [(&str, &str); 12] = [
    ("service", "web"),
    ("label key", "role"),
    ("label value", "web"),
    ("container", "app"),
    ("image", "web:${VERSION}"),
    ("variable", "LOG_LEVEL"),
    ("value", "info"),
    ("argument", "serve"),
    ("port", "8080"),
    ("path", "/health"),
    ("interval", "1s"),
    ("drain", "10s"),
];

/// How a case is read.
mod flag {
    /// Its services come from a controller that checks nothing, and not from a spec.
    pub const UNCHECKED: u8 = 1;
    pub const IPV6: u8 = 2;
    pub const KEEPALIVE_MIN_TIMEOUT: u8 = 4;
    pub const MOVED: u8 = 8;
}

/// What a case comes to.
struct Case {
    shape: Shape,
    host: Host,
    /// It is one spec that was accepted, on a host that changes nothing: there is no reason to refuse it.
    must_render: bool,
}

/// The config of an accepted spec has the words and blocks of the config of a harmless spec of the same shape,
/// with its own values in their places. What comes from a controller that checks nothing is refused, or the same.
pub fn nginx(data: &[u8]) -> Verdict {
    let Some(case) = case(data) else { return Verdict::Refused };
    match render(&case.shape, &case.host, Path::new(STATE_DIR)) {
        Err(error) => {
            assert!(!case.must_render, "the controller accepts what no host can serve: {error}");
            return Verdict::Refused;
        }
        Ok(text) => check(&case, &text),
    }
    if std::env::var_os(ASK_NGINX).is_some_and(|set| !set.is_empty()) {
        let directory = tempfile::tempdir().expect("a directory");
        nginx_accepts(data, directory.path()).unwrap_or_else(|said| panic!("{said}"));
    }
    Verdict::Accepted
}

/// The config that a case comes to, for a host whose state is kept there.
pub fn config(data: &[u8], state_dir: &Path) -> Option<String> {
    let case = case(data)?;
    render(&case.shape, &case.host, state_dir).ok()
}

/// Has nginx itself read the config of a case, if it comes to one. It listens on sockets in `state_dir` instead
/// of on the addresses of the case, which this machine may not have, or somebody else may want.
///
/// # Errors
/// nginx's own words.
pub fn nginx_accepts(data: &[u8], state_dir: &Path) -> Result<(), String> {
    let Some(text) = config(data, state_dir) else { return Ok(()) };
    let mut sockets = BTreeMap::new();
    let lines = text.lines().filter(|line| !line.contains("keepalive_min_timeout")).map(|line| {
        let Some(address) = line.trim_start().strip_prefix("listen ").filter(|rest| !rest.contains("unix:")) else {
            return line.to_owned();
        };
        let (address, rest) = address.split_at(address.find([' ', ';']).unwrap_or(address.len()));
        let count = sockets.len();
        let number = *sockets.entry(address.to_owned()).or_insert(count);
        format!("    listen unix:{}/{number}.sock{rest}", state_dir.display())
    });
    let text = lines.collect::<Vec<_>>().join("\n");
    let failed = |error: std::io::Error| error.to_string();
    std::fs::create_dir_all(state_dir.join("nginx/temp")).map_err(failed)?;
    let file = state_dir.join("nginx/nginx.conf");
    std::fs::write(&file, &text).map_err(failed)?;
    let mut command = Command::new(NginxConfig::default().binary);
    let output = command.arg("-t").arg("-p").arg(state_dir).arg("-c").arg(&file).output().map_err(failed)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(()) } else { Err(format!("nginx refuses what was rendered: {said}\n{text}")) }
}

fn case(data: &[u8]) -> Option<Case> {
    let mut bytes = Bytes::new(data);
    let flags = bytes.byte();
    let is_unchecked = flags & flag::UNCHECKED != 0;
    let count = 1 + bytes.below(SERVICES_MAX);
    let moved = [(80, "127.0.0.1:8081"), (81, "127.0.0.1:8081"), (443, "[::1]:8443")];
    let listen = moved.into_iter().filter(|_| flags & flag::MOVED != 0);
    let host = Host {
        listen: listen.map(|(port, here)| (port, here.parse().expect("an address"))).collect(),
        ipv6: flags & flag::IPV6 != 0,
        keepalive_min_timeout: flags & flag::KEEPALIVE_MIN_TIMEOUT != 0,
    };
    let version = bytes.text("1");
    let mut shape = Shape::default();
    for number in 0..count {
        let said = Said::read(number, &mut bytes);
        let release = if is_unchecked { said.unchecked(&version) } else { said.checked(&version) }?;
        let port = release.containers.first().map_or(0, |container| container.port);
        let net = u8::try_from(number).unwrap_or(u8::MAX);
        let berths = [2, 3, 4].map(|at| SocketAddrV4::new(Ipv4Addr::new(198, 18, net, at), port));
        shape.services.insert(release.service.clone(), ServiceShape { routes: release.routes.clone(), berths });
    }
    let must_render = !is_unchecked && count == 1 && host.listen.is_empty();
    Some(Case { shape, host, must_render })
}

/// One service, as said and not yet read.
struct Said {
    fields: Vec<String>,
    routes: Vec<(String, Vec<String>)>,
}

impl Said {
    fn read(number: usize, bytes: &mut Bytes<'_>) -> Self {
        let fields = FIELDS.map(|(name, absent)| match (name, number) {
            ("service", 1..) => bytes.text(&format!("{absent}-{number}")),
            _ => bytes.text(absent),
        });
        let route = |bytes: &mut Bytes<'_>| {
            let listen = bytes.text(&format!("{}", 80 + number));
            (listen, (0..bytes.below(4)).map(|n| bytes.text(&format!("n{n}.example.com"))).collect())
        };
        Self { fields: fields.into(), routes: (0..=bytes.below(4)).map(|_| route(bytes)).collect() }
    }

    fn field(&self, name: &str) -> &str {
        let at = FIELDS.iter().position(|(field, _)| *field == name).expect("it is in the table");
        &self.fields[at]
    }

    /// Through a spec, as an operator would write it who takes care with quotes.
    fn checked(&self, version: &str) -> Option<Release> {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let field = |name| quoted(self.field(name));
        let free = |name| quoted(&self.field(name).replace('$', "$$"));
        let port = self.field("port");
        let port = if port.bytes().all(|b| b.is_ascii_digit()) { port.to_owned() } else { quoted(port) };
        let routes: String = self
            .routes
            .iter()
            .map(|(listen, names)| {
                let names: Vec<_> = names.iter().map(|name| quoted(name)).collect();
                let names =
                    if names.is_empty() { String::new() } else { format!(", server_name: [{}]", names.join(", ")) };
                format!("  - {{listen: {}{names}}}\n", quoted(listen))
            })
            .collect();
        let text = format!(
            "service: {}\nhosts: {{{}: {}}}\ncontainers:\n  {}:\n    image: {}\n    environment: {{{}: {}}}\n    \
             command: [{}]\n    port: {port}\n    healthcheck: {{http: {}, interval: {}}}\nroutes:\n{routes}drain: {}\n",
            field("service"),
            field("label key"),
            field("label value"),
            field("container"),
            field("image"),
            field("variable"),
            free("value"),
            free("argument"),
            field("path"),
            field("interval"),
            field("drain"),
        );
        let version: Version = version.parse().ok()?;
        let spec = match Spec::parse(&text, "web.yaml") {
            Ok(spec) => spec,
            Err(error) => {
                yaml::check(&text, &error.0);
                return None;
            }
        };
        let release = spec.release(&version, &pins(&spec, &version)).expect("every image is exact");
        let read = Release::from_wire(&release, digest(&release));
        let read = read.unwrap_or_else(|error| panic!("the controller makes what no host can read: {error}"));
        let container = &read.containers[0];
        assert!(container.environment.values().any(|value| value == self.field("value")), "{text}");
        assert_eq!(container.command, [self.field("argument")]);
        Some(read)
    }

    /// Straight to the host, as a controller would send it that is not ours any more.
    fn unchecked(&self, version: &str) -> Option<Release> {
        let port = |text: &str| text.parse().unwrap_or(8080);
        let route = |(listen, names): &(String, Vec<String>)| {
            let (address, number) = listen.rsplit_once(':').unwrap_or(("", listen));
            wire::Route { address: address.to_owned(), port: port(number), server_names: names.clone() }
        };
        let release = wire::Release {
            service: self.field("service").to_owned(),
            version: version.to_owned(),
            containers: vec![wire::Container {
                name: self.field("container").to_owned(),
                image: self.field("image").to_owned(),
                pin: Some(wire::container::Pin::ImageId(IMAGE_ID.to_owned())),
                port: port(self.field("port")),
                healthcheck: Some(wire::Healthcheck {
                    kind: Some(wire::healthcheck::Kind::HttpPath(self.field("path").to_owned())),
                    ..wire::Healthcheck::default()
                }),
                ..wire::Container::default()
            }],
            routes: self.routes.iter().map(route).collect(),
            ..wire::Release::default()
        };
        Release::from_wire(&release, digest(&release)).ok()
    }
}

/// Harmless names that nothing else in a config holds, in their order.
const MARKS: [&str; SERVICES_MAX] = ["qqa", "qqb", "qqc"];

fn check(case: &Case, text: &str) {
    let mut names = Vec::new();
    let mut harmless = Shape::default();
    let services: Vec<&ServiceName> = case.shape.services.keys().collect();
    for ((service, shape), mark) in case.shape.services.iter().zip(MARKS) {
        only_letters(service.as_str(), "-");
        let mut shape = ServiceShape { routes: shape.routes.clone(), berths: shape.berths };
        for name in shape.routes.iter_mut().flat_map(|route| &mut route.server_names) {
            only_letters(name, "*.-");
            let mark = format!("n{}.qq", names.len());
            names.push((mark.clone(), std::mem::replace(name, mark)));
        }
        harmless.services.insert(mark.parse().expect("a service"), shape);
    }
    let skeleton = render(&harmless, &case.host, Path::new(STATE_DIR)).expect("nothing in it is refused");
    let mut expected = parse(&skeleton).expect("nginx reads what is harmless");
    put_values(&mut expected, &services, &names);
    let mut found = parse(text).unwrap_or_else(|error| panic!("nginx cannot read it: {error}\n{text}"));
    // Each holds the digest of its own text.
    forget_digest(&mut expected);
    forget_digest(&mut found);
    assert!(found == expected, "it says something else than a harmless spec of the same shape:\n{text}");
}

/// The characters that mean nothing to nginx.
fn only_letters(text: &str, allowed: &str) {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || allowed.contains(c);
    assert!(!text.is_empty() && text.chars().all(fits), "{text:?} reaches nginx's config");
}

fn put_values(directives: &mut [Directive], services: &[&ServiceName], names: &[(String, String)]) {
    for directive in directives {
        for word in &mut directive.words {
            if let Some((_, name)) = names.iter().find(|(mark, _)| mark == word) {
                word.clone_from(name);
                continue;
            }
            // By way of characters that no name holds: a service may be called as a mark is.
            for (mark, place) in MARKS.iter().zip('\u{e000}'..) {
                let variable = format!("{place}_");
                *word = word.replace(&format!("bgctl_{mark}"), &variable).replace(mark, &place.to_string());
            }
            for (service, place) in services.iter().zip('\u{e000}'..) {
                let variable = format!("bgctl_{}", service.as_str().replace('-', "_"));
                *word = word.replace(&format!("{place}_"), &variable).replace(place, service.as_str());
            }
        }
        if let Some(block) = &mut directive.block {
            put_values(block, services, names);
        }
    }
}

fn forget_digest(directives: &mut [Directive]) {
    for directive in directives {
        for word in &mut directive.words {
            if word.len() == 64 && word.bytes().all(|b| b.is_ascii_hexdigit()) {
                "digest".clone_into(word);
            }
        }
        if let Some(block) = &mut directive.block {
            forget_digest(block);
        }
    }
}

/// Where a payload of the seeds goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Version,
    Field(usize),
    Listen,
    Name,
}

fn input(flags: u8, services: usize, place: Option<Place>, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![flags, u8::try_from(services - 1).unwrap_or(0)];
    let chunk = |here: Place| if place == Some(here) { payload } else { &[] };
    put_chunk(&mut out, chunk(Place::Version));
    for service in 0..services {
        let chunk = |here: Place| if service == 0 { chunk(here) } else { &[] };
        (0..FIELDS.len()).for_each(|field| put_chunk(&mut out, chunk(Place::Field(field))));
        out.push(0);
        put_chunk(&mut out, chunk(Place::Listen));
        out.push(2);
        put_chunk(&mut out, chunk(Place::Name));
        out.push(0);
    }
    out
}

/// Harmless cases of each kind of host, and each payload in each place, with and without a spec's checks.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for flags in 0..16 {
        seeds.extend((1..=SERVICES_MAX).map(|services| input(flags, services, None, &[])));
    }
    let places = || {
        let fields = (0..FIELDS.len()).map(Place::Field);
        [Place::Version, Place::Listen, Place::Name].into_iter().chain(fields)
    };
    let payloads = payloads().expect("the payloads are there");
    for payload in &payloads {
        seeds.extend(places().map(|place| input(0, 1, Some(place), payload)));
        for place in [Place::Field(0), Place::Field(3), Place::Listen, Place::Name] {
            seeds.push(input(flag::UNCHECKED, 1, Some(place), payload));
        }
    }
    for good in ["a", "x-a", "shape", "none", "a--b", "0", "generation", "qqb", "lost"] {
        seeds.extend([0, flag::UNCHECKED].map(|flags| input(flags, 2, Some(Place::Field(0)), good.as_bytes())));
        seeds.push(input(0, 1, Some(Place::Name), format!("*.{good}.example").as_bytes()));
    }
    for listen in ["1", "65535", "127.0.0.1:80", "[::1]:8080", "0.0.0.0:80", "[::]:80", "[::ffff:10.0.0.1]:80", "080"] {
        for flags in [0, flag::IPV6, flag::UNCHECKED, flag::MOVED] {
            seeds.push(input(flags, 1, Some(Place::Listen), listen.as_bytes()));
        }
    }
    // Two routes of one service that meet: at one address, by two ways of writing it.
    for (first, second) in
        [("80", "0.0.0.0:80"), ("80", "[::]:80"), ("80", "80"), ("[::1]:80", "[0:0::1]:80"), ("80", "81")]
    {
        for flags in [0, flag::IPV6] {
            let mut out = vec![flags, 0, 0];
            (0..FIELDS.len()).for_each(|_| out.push(0));
            out.push(1);
            for listen in [first, second] {
                put_chunk(&mut out, listen.as_bytes());
                out.push(0);
            }
            seeds.push(out);
        }
    }
    for length in [63, 64, 253, 254, 300, 5000] {
        let long = "a".repeat(length);
        seeds.extend(places().map(|place| input(0, 1, Some(place), long.as_bytes())));
        let labels = "a.".repeat(length / 2) + "a";
        seeds.push(input(0, 1, Some(Place::Name), labels.as_bytes()));
    }
    seeds
}
