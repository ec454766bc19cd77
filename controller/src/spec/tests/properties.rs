//! What holds for any text at all.

use super::{BASE, pins, version};
use crate::spec::{Probe, Spec};
use proptest::prelude::*;

/// Texts that look like specs more than chance would have it.
fn soup() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "service",
        "hosts",
        "containers",
        "app",
        "image",
        "environment",
        "healthcheck",
        "http",
        "routes",
        "listen",
        "server_name",
        ": ",
        ":",
        "- ",
        "\n",
        "\n  ",
        "\n    ",
        "{",
        "}",
        "[",
        "]",
        "\"",
        "'",
        "&a ",
        "*a",
        "<<: ",
        "!!int ",
        "!x ",
        "| ",
        "> ",
        "? ",
        "#",
        "---\n",
        "...",
        "%",
        "1",
        "-1",
        "1e999",
        "10s",
        "${VERSION}",
        "$",
        "~",
        "null",
        "é",
        "\u{feff}",
        "\0",
        "\t",
        "example.com",
        "/health",
        "80",
        ",",
    ]);
    prop::collection::vec(pieces, 0..60).prop_map(|pieces| pieces.concat())
}

/// The base spec with something put in, or cut out, somewhere.
fn damaged() -> impl Strategy<Value = String> {
    let at = || any::<prop::sample::Index>();
    (at(), at(), prop_oneof![".{0,4}", "[;{}$\"'\n #~*-]{1,3}", Just(String::new())]).prop_map(|(from, to, put)| {
        let places: Vec<usize> = BASE.char_indices().map(|(place, _)| place).collect();
        let (from, length) = (from.index(places.len()), to.index(6));
        let to = (from + length).min(places.len() - 1);
        format!("{}{put}{}", &BASE[..places[from]], &BASE[places[to]..])
    })
}

/// The base spec with any text at all for one value.
fn any_value() -> impl Strategy<Value = String> {
    let places = prop::sample::select(vec!["server_name: example.com", "http: /health", "service: web", "listen: 80"]);
    let values = prop_oneof![".{0,12}", "[a-z0-9.*/_~-]{0,12}", "[a-z.;{}$\"' \n-]{0,8}"];
    (places, values).prop_map(|(place, value)| {
        let key = place.split(':').next().unwrap_or_default();
        let value = serde_json::to_string(&value).expect("text");
        BASE.replace(place, &format!("{key}: {value}"))
    })
}

/// A spec that was accepted has nothing in it that nginx, a URI or a shell gives a meaning to.
fn assert_harmless(spec: &Spec) {
    let only = |text: &str, allowed: &str| {
        assert!(text.chars().all(|c| c.is_ascii_alphanumeric() || allowed.contains(c)), "{text:?}");
    };
    only(spec.service.as_str(), "-");
    for route in &spec.routes {
        assert_ne!(route.port, 0);
        for name in &route.server_names {
            assert!(!name.is_empty() && name.len() <= 253, "{name:?}");
            assert!(!name.contains('*') || name.starts_with("*.") && name.matches('*').count() == 1, "{name:?}");
            only(name, "*.-");
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
    spec.hosts.iter().for_each(|(key, value)| [key, value].iter().for_each(|text| only(text, "_.-")));
    let version = version("1");
    spec.image_references(&version).iter().for_each(|image| only(&image.reference, "/:._-@"));
    assert!(spec.release(&version, &pins(spec, &version)).is_ok());
}

fn check(text: &str) {
    match Spec::parse(text, "web.yaml") {
        Ok(spec) => assert_harmless(&spec),
        Err(error) => {
            let lines = crate::config::lines(text).count();
            assert!(error.0.iter().count() > 0, "refused without a reason");
            assert!(error.0.iter().all(|fault| (1..=lines).contains(&fault.line)), "of {lines} lines: {error}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_refused_or_harmless(text in any::<String>()) {
        check(&text);
    }

    #[test]
    fn text_that_looks_like_yaml_is_refused_or_harmless(text in soup()) {
        check(&text);
    }

    #[test]
    fn a_damaged_spec_is_refused_or_harmless(text in damaged()) {
        check(&text);
    }

    #[test]
    fn a_spec_with_any_value_is_refused_or_harmless(text in any_value()) {
        check(&text);
    }
}
