//! One container: what runs, and when it is well.

use super::{NOT_YET, PORT, all, duration, seconds};
use crate::config::{Field, quote};
use crate::spec::image::Image;
use crate::spec::names::{is_path, is_variable};
use crate::spec::template::Template;
use crate::spec::{Container, Environment, Healthcheck, Probe, PullPolicy};
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

/// An hour, for workers that finish what they do.
const STOP_GRACE_PERIOD: RangeInclusive<Duration> = seconds(0, 3600);
/// Faster than 10 ms the probing itself is load; slower than 5 minutes a death goes unseen too long.
const INTERVAL: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(300);
/// Under 10 ms a busy host fails; over a minute nobody waits for an answer.
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(60);
/// An hour, for services that warm large caches.
const START_PERIOD: RangeInclusive<Duration> = seconds(0, 3600);
const SETTLE: RangeInclusive<Duration> = seconds(0, 3600);
/// With more than a hundred, the interval is what should be longer.
const COUNT: RangeInclusive<u32> = 1..=100;

const VARIABLES_MAX: usize = 512;
const ARGUMENTS_MAX: usize = 128;
/// Environment and command of a container together, in bytes: a process is given as much in one page or two.
const PROCESS_BYTES_MAX: usize = 64 * 1024;

/// The value of one key of `containers`. Without a name there is no container, but there may be more faults.
pub(super) fn read(name: Option<String>, field: &Field<'_>) -> Option<Container> {
    let mut keys = field.keys("a map with `image`, `port` and `healthcheck`")?;
    let image = keys.required("image", "an image such as registry.example.com/web:${VERSION}").and_then(|field| {
        Image::parse(field.text("an image such as registry.example.com/web:${VERSION}")?)
            .map_or_else(|message| field.fault(message), Some)
    });
    let pull_policy = keys.or("pull_policy", PullPolicy::Missing, |field| {
        field.parse("missing, always or never", |text| match text {
            "missing" => Some(PullPolicy::Missing),
            "always" => Some(PullPolicy::Always),
            "never" => Some(PullPolicy::Never),
            _ => None,
        })
    });
    let environment = keys.or("environment", Environment::default(), |field| environment(&field.clone().secret()));
    let command = keys.or("command", Vec::new(), command);
    let port = keys.required("port", "the port the container listens on").and_then(|field| field.number(PORT));
    let healthcheck = keys
        .required("healthcheck", "`http: /path` or `tcp: true` in it: nothing goes live that is not proven healthy")
        .and_then(|field| healthcheck(&field));
    let stop_grace_period = duration(&mut keys, "stop_grace_period", 10, STOP_GRACE_PERIOD);
    keys.close(foreign_to_container);
    let (environment, command) = (environment?, command?);
    let process_bytes = environment.0.iter().map(|(name, value)| name.len() + value.source_bytes()).sum::<usize>()
        + command.iter().map(Template::source_bytes).sum::<usize>();
    if process_bytes > PROCESS_BYTES_MAX {
        return field.fault(format!(
            "environment and command have {process_bytes} bytes, expected at most {PROCESS_BYTES_MAX}"
        ));
    }
    Some(Container {
        name: name?,
        image: image?,
        pull_policy: pull_policy?,
        environment,
        command,
        port: port?,
        healthcheck: healthcheck?,
        stop_grace_period: stop_grace_period?,
    })
}

fn environment(field: &Field<'_>) -> Option<Environment> {
    let expected = "a map such as `LOG_LEVEL: info`, or a list such as `- LOG_LEVEL=info`";
    let name_expected =
        "a variable's name: up to 256 of A-Z, a-z, 0-9, '_', '.' and '-', starting with a letter or '_'";
    let variable = |name: &str, at: &Field<'_>, value: Option<Template>| match is_variable(name) {
        true => Some((name.to_owned(), value?)),
        false => at.fault(format!("expected {name_expected}; found {}", quote(name))),
    };
    if !field.is_list() {
        let entries = field.entries(expected, VARIABLES_MAX)?;
        let read = |(name, key, value): (String, Field<'_>, Field<'_>)| {
            variable(&name, &key, template(&value, value.text("a value; an empty one is written \"\"")))
        };
        return all(entries.into_iter().map(read)).map(Environment);
    }
    let mut seen = BTreeSet::new();
    let items = field.list(expected, VARIABLES_MAX)?;
    let read = |item: Field<'_>| {
        let text = item.text("NAME=value")?;
        let Some((name, value)) = text.split_once('=') else {
            return item.fault("expected NAME=value: a host has no environment of its own to take a value from");
        };
        if !seen.insert(name.to_owned()) {
            return item.fault(format!("the variable {} is here twice", quote(name)));
        }
        variable(name, &item, template(&item, Some(value)))
    };
    all(items.into_iter().map(read)).map(Environment)
}

fn command(field: &Field<'_>) -> Option<Vec<Template>> {
    let items =
        field.list("a list such as [\"serve\", \"--fast\"]: one entry for each argument, no shell", ARGUMENTS_MAX)?;
    if items.is_empty() {
        return field.fault("expected at least one argument; without the key, the image's own command runs");
    }
    all(items.into_iter().map(|item| template(&item, item.text("an argument; an empty one is written \"\""))))
}

fn template(field: &Field<'_>, text: Option<&str>) -> Option<Template> {
    let text = text?;
    if text.contains('\0') {
        return field.fault("expected text without NUL characters: no process can be given one");
    }
    Template::parse(text).map_or_else(|message| field.fault(message), Some)
}

fn healthcheck(field: &Field<'_>) -> Option<Healthcheck> {
    let mut keys = field.keys("a map with `http: /path` or `tcp: true`")?;
    let path = keys.optional("http").map(|field| {
        let expected = "a path: '/' and up to 1023 of A-Z, a-z, 0-9, '/', '_', '.', '~' and '-'";
        field.parse(expected, |text| is_path(text).then(|| Probe::Http(text.to_owned())))
    });
    let tcp = keys.optional("tcp").map(|field| field.parse("true", |text| (text == "true").then_some(Probe::Tcp)));
    let probe = match (path, tcp) {
        (Some(probe), None) | (None, Some(probe)) => probe,
        (Some(_), Some(_)) => field.fault("expected `http` or `tcp`, found both"),
        (None, None) => field.fault("expected `http: /path` or `tcp: true`, found neither"),
    };
    let port = keys.or("port", None, |field| field.number(PORT).map(Some));
    let interval = duration(&mut keys, "interval", 1, INTERVAL);
    let timeout = duration(&mut keys, "timeout", 1, TIMEOUT);
    let retries = keys.or("retries", 3, |field| field.number(COUNT));
    let start_period = duration(&mut keys, "start_period", 60, START_PERIOD);
    let successes = keys.or("successes", 2, |field| field.number(COUNT));
    let settle = duration(&mut keys, "settle", 0, SETTLE);
    keys.close(foreign_to_healthcheck);
    Some(Healthcheck {
        probe: probe?,
        port: port?,
        interval: interval?,
        timeout: timeout?,
        retries: retries?,
        start_period: start_period?,
        successes: successes?,
        settle: settle?,
    })
}

fn foreign_to_container(key: &str) -> Option<&'static str> {
    match key {
        "ports" | "expose" => Some("expected `port` (where the container listens) and `routes` (where nginx does)"),
        "build" => Some("bgctl deploys images that are built; expected `image`"),
        "restart" => Some("the agent restarts what dies; there is nothing to set"),
        "replicas" | "scale" => Some("a service has one container on each host that its `hosts` labels select"),
        "volumes" | "env_file" | "networks" | "deploy" | "secrets" | "configs" | "entrypoint" | "depends_on"
        | "user" | "logging" => Some(NOT_YET),
        _ => None,
    }
}

fn foreign_to_healthcheck(key: &str) -> Option<&'static str> {
    matches!(key, "test" | "path").then_some("expected `http: /path` or `tcp: true`")
}
