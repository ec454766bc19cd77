//! What would break out of another language's text is refused in every field that can reach one, and kept
//! letter by letter in those that only ever become arguments of a process.

use super::{BASE, parse, pins, version};
use crate::spec::Spec;

/// Each would change a config, a shell line, a URI, a header or a terminal into which it is pasted.
const PAYLOADS: [&str; 32] = [
    "; } location / {",
    "example.com; } location /x { return 200",
    "example.com;",
    "$request_body",
    "${VERSION}",
    "$$",
    "\"$request_body\"",
    "example.com\nlisten 81",
    "example.com\r\nX-Injected: 1",
    "\t",
    " ",
    "example.com other.com",
    "\"",
    "'",
    "`id`",
    "$(id)",
    "\\",
    "{",
    "}",
    "#",
    "~^(.*)$",
    "%0a",
    "../../etc/passwd",
    "/etc/passwd",
    "a=b",
    "a&b",
    "a|b",
    "a<b>",
    "a\u{0}b",
    "\u{1b}[31m",
    "еxample.com",
    "exam\u{200b}ple.com",
];

/// Each has one place, `PAYLOAD`.
const CHECKED_FIELDS: [(&str, &str); 16] = [
    ("service: web", "service: PAYLOAD"),
    ("role: web", "PAYLOAD: web"),
    ("role: web", "role: PAYLOAD"),
    ("app:", "PAYLOAD:"),
    ("image: registry.example.com/web:${VERSION}", "image: PAYLOAD"),
    ("LOG_LEVEL: info", "PAYLOAD: info"),
    ("port: 8080\n", "port: PAYLOAD\n"),
    ("http: /health", "http: PAYLOAD"),
    ("http: /health", "tcp: PAYLOAD"),
    ("http: /health", "http: /health\n      interval: PAYLOAD"),
    ("http: /health", "http: /health\n      retries: PAYLOAD"),
    ("listen: 80", "listen: PAYLOAD"),
    ("server_name: example.com", "server_name: PAYLOAD"),
    ("server_name: example.com", "server_name: [PAYLOAD]"),
    ("routes:", "drain: PAYLOAD\nroutes:"),
    ("routes:", "PAYLOAD: 1\nroutes:"),
];

const FREE_FIELDS: [(&str, &str); 3] = [
    ("LOG_LEVEL: info", "LOG_LEVEL: PAYLOAD"),
    ("port: 8080\n", "command: [PAYLOAD]\n    port: 8080\n"),
    ("port: 8080\n", "command: [serve, PAYLOAD]\n    port: 8080\n"),
];

/// Harmless there: a path is made of these characters, and the health check's path goes to the container only.
fn is_path(payload: &str) -> bool {
    payload == "/etc/passwd"
}

#[test]
fn payloads_are_refused_in_every_field_that_is_not_free_text() {
    for payload in PAYLOADS {
        for (place, field) in CHECKED_FIELDS {
            if is_path(payload) && field.starts_with("http:") {
                continue;
            }
            let text = put(place, field, payload);
            let error = Spec::parse(&text, "web.yaml").expect_err(&text).to_string();
            let controls = error.chars().filter(|c| c.is_control() && *c != '\n');
            assert_eq!(controls.count(), 0, "a control character reaches the terminal: {error:?}");
        }
    }
}

#[test]
fn payloads_in_a_health_path_stay_what_they_are() {
    for payload in PAYLOADS {
        let text = put("http: /health", "http: PAYLOAD", &format!("/{payload}"));
        match Spec::parse(&text, "web.yaml") {
            Ok(_) => assert!(["../../etc/passwd", "/etc/passwd"].contains(&payload), "{payload:?}"),
            Err(error) => assert!(error.to_string().contains("containers.app.healthcheck.http"), "{error}"),
        }
    }
}

#[test]
fn payloads_in_values_and_arguments_arrive_unchanged() {
    for payload in PAYLOADS.into_iter().filter(|payload| !payload.contains('\0')) {
        let written = payload.replace('$', "$$");
        for (place, field) in FREE_FIELDS {
            let (spec, version) = (parse(&put(place, field, &written)), version("1"));
            let mut release = spec.release(&version, &pins(&spec, &version)).expect("pinned");
            let container = release.containers.remove(0);
            let values = container.environment.into_iter().map(|entry| entry.value).chain(container.command);
            assert!(values.into_iter().any(|value| value == payload), "{field}: {payload:?}");
        }
    }
}

fn put(place: &str, field: &str, payload: &str) -> String {
    // A JSON text is a YAML text too.
    let quoted = serde_json::to_string(payload).expect("text");
    let text = BASE.replace(place, &field.replace("PAYLOAD", &quoted));
    assert_ne!(text, BASE, "{place} is not in the base spec");
    text
}
