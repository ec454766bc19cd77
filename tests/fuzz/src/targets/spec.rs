//! Specs: what an operator sends.

use super::yaml;
use crate::Verdict;
use crate::corpus::payloads;
use crate::fixture::{self, IMAGE_ID, SPEC};
use bgctl_agent::release::{Probe as AgentProbe, Release};
use bgctl_controller::records::{self, ReleaseRecord};
use bgctl_controller::spec::{Probe, Spec, Version, digest};
use bgctl_controller::store::VALUE_BYTES_MAX;
use prost::Message;

/// What is refused is refused with a place and a reason. What is accepted holds nothing that another
/// language gives a meaning to, makes a release for every version there can be, which a host reads as what
/// the spec says, and fits with all that is kept beside it into one value of the store.
pub fn spec(data: &[u8]) -> Verdict {
    let text = String::from_utf8_lossy(data);
    let spec = match Spec::parse(&text, "web.yaml") {
        Ok(spec) => spec,
        Err(error) => {
            yaml::check(&text, &error.0);
            return Verdict::Refused;
        }
    };
    assert_eq!(spec.text(), text);
    assert_eq!(Spec::parse(spec.text(), "web.yaml").as_ref(), Ok(&spec));
    is_harmless(&spec);
    for name in ["0", &"v".repeat(96)] {
        let version = name.parse().expect("a version");
        let release = spec.release(&version, &fixture::pins(&spec, &version)).expect("every image is exact");
        fits(&spec, &version, &release);
        let read = Release::from_wire(&release, digest(&release)).unwrap_or_else(|error| panic!("{error}"));
        is_the_same(&spec, &version, &read);
    }
    Verdict::Accepted
}

fn is_harmless(spec: &Spec) {
    let only = |text: &str, allowed: &str| {
        assert!(text.chars().all(|c| c.is_ascii_alphanumeric() || allowed.contains(c)), "{text:?}");
    };
    only(spec.service.as_str(), "-");
    spec.hosts.iter().for_each(|(key, value)| [key, value].iter().for_each(|text| only(text, "_.-")));
    for route in &spec.routes {
        assert_ne!(route.port, 0);
        for name in &route.server_names {
            only(name, "*.-");
            assert!(!name.is_empty() && name.len() <= 253 && *name == name.to_ascii_lowercase(), "{name:?}");
            assert!(!name.strip_prefix("*.").unwrap_or(name).contains('*'), "{name:?}");
        }
    }
    for container in &spec.containers {
        only(&container.name, "-");
        container.environment.0.keys().for_each(|name| only(name, "_.-"));
        if let Probe::Http(path) = &container.healthcheck.probe {
            assert!(path.starts_with('/'), "{path:?}");
            only(path, "/_.~-");
        }
    }
    let version = "1".parse().expect("a version");
    spec.image_references(&version).iter().for_each(|image| only(&image.reference, "/:._-@"));
}

fn fits(spec: &Spec, version: &Version, release: &bgctl_proto::session::Release) {
    let record = ReleaseRecord {
        version: version.to_string(),
        digest: digest(release).to_string(),
        encoded: bgctl_proto::convert::hex(&release.encode_to_vec()),
        spec_revision: u64::MAX,
        hosts: spec.hosts.clone(),
        watch_millis: u64::MAX,
        prepare_timeout_millis: u64::MAX,
    };
    // As much again for all else that a deployment's record holds: a host takes a hundred bytes.
    let bytes = records::write(&record).len();
    assert!(bytes < VALUE_BYTES_MAX * 3 / 4, "a release takes {bytes} bytes, and a value has {VALUE_BYTES_MAX}");
}

fn is_the_same(spec: &Spec, version: &Version, read: &Release) {
    assert_eq!((&read.service, read.version.as_str()), (&spec.service, version.as_str()));
    assert_eq!((read.drain, read.keep_standby), (spec.drain, spec.keep_standby));
    assert_eq!(read.routes.len(), spec.routes.len());
    for (read, route) in read.routes.iter().zip(&spec.routes) {
        assert_eq!((read.address, read.port, &read.server_names), (route.address, route.port, &route.server_names));
    }
    assert_eq!(read.containers.len(), spec.containers.len());
    for (read, container) in read.containers.iter().zip(&spec.containers) {
        assert_eq!((&read.name, read.port), (&container.name, container.port));
        assert_eq!(read.pin.reference(), IMAGE_ID);
        assert_eq!(read.stop_grace_period, container.stop_grace_period);
        let environment = container.environment.0.iter().map(|(name, value)| (name.clone(), value.fill(version)));
        assert!(read.environment.iter().map(|(name, value)| (name.clone(), value.clone())).eq(environment));
        assert!(read.command.iter().cloned().eq(container.command.iter().map(|argument| argument.fill(version))));
        let (read, check) = (&read.healthcheck, &container.healthcheck);
        assert_eq!(read.port, check.port.unwrap_or(container.port));
        assert_eq!((read.interval, read.timeout, read.settle), (check.interval, check.timeout, check.settle));
        assert_eq!((read.retries, read.successes), (check.retries, check.successes));
        assert_eq!(read.start_period, check.start_period);
        match (&read.probe, &check.probe) {
            (AgentProbe::Http(read), Probe::Http(path)) => assert_eq!(read, path),
            (AgentProbe::Tcp, Probe::Tcp) => {}
            (read, probe) => panic!("{probe:?} became {read:?}"),
        }
    }
}

/// Places of the fixture's spec, and what stands there with a payload in it.
const PLACES: [(&str, &str); 23] = [
    ("service: web", "service: PAYLOAD"),
    ("role: web", "PAYLOAD: web"),
    ("role: web", "role: PAYLOAD"),
    ("app:", "PAYLOAD:"),
    ("image: registry.example.com/web:${VERSION}", "image: PAYLOAD"),
    ("LOG_LEVEL: info", "PAYLOAD: info"),
    ("LOG_LEVEL: info", "LOG_LEVEL: PAYLOAD"),
    ("port: 8080\n", "port: PAYLOAD\n"),
    ("port: 8080\n", "command: [serve, PAYLOAD]\n    port: 8080\n"),
    ("port: 8080\n", "pull_policy: PAYLOAD\n    port: 8080\n"),
    ("port: 8080\n", "stop_grace_period: PAYLOAD\n    port: 8080\n"),
    ("http: /health", "http: PAYLOAD"),
    ("http: /health", "tcp: PAYLOAD"),
    ("http: /health", "http: /health\n      interval: PAYLOAD"),
    ("http: /health", "http: /health\n      retries: PAYLOAD"),
    ("http: /health", "http: /health\n      PAYLOAD: 1"),
    ("listen: 80", "listen: PAYLOAD"),
    ("server_name: example.com", "server_name: PAYLOAD"),
    ("server_name: example.com", "server_name: [example.com, PAYLOAD]"),
    ("routes:", "drain: PAYLOAD\nroutes:"),
    ("routes:", "missing_hosts: PAYLOAD\nroutes:"),
    ("routes:", "watch: PAYLOAD\nroutes:"),
    ("routes:", "PAYLOAD: 1\nroutes:"),
];

/// The samples; each payload in each place, in quotes and bare; specs that are as large as can be.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![SPEC.to_owned(), include_str!("../../../../deploy/config/web.yaml").to_owned()];
    let payloads = payloads().expect("the payloads are there");
    for payload in payloads.iter().map(|payload| String::from_utf8_lossy(payload)) {
        for (place, field) in PLACES {
            seeds.push(SPEC.replace(place, &field.replace("PAYLOAD", &serde_json::Value::from(&*payload).to_string())));
        }
        seeds.push(SPEC.replace("example.com\n", &format!("{payload}\n")));
        seeds.push(SPEC.replace("server_name: example.com", &payload));
    }
    let names = (0..32).map(|n| format!("n{n:0>61}.{0:x>63}.{0:x>63}.{0:x>61}", "")).collect::<Vec<_>>().join(", ");
    let routes = |count: u16| -> String {
        (1..count).map(|port| format!("  - listen: {port}\n    server_name: *names\n")).collect()
    };
    for (count, filler) in [(32, 10), (33, 10), (32, 7000), (2, 7000), (2, 7200), (20, 3000)] {
        let first = format!("server_name: &names [{names}]\n{}", routes(count));
        let filler = format!("LOG_LEVEL: \"{}\"", "${VERSION}".repeat(filler));
        seeds.push(SPEC.replace("LOG_LEVEL: info", &filler).replace("server_name: example.com\n", &first));
    }
    seeds.push(SPEC.replace("routes:", "# filler\n".repeat(40_000).as_str()));
    seeds.into_iter().map(String::into_bytes).collect()
}
