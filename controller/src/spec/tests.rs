//! Cases are text with recorded output, in `cases/`. After a change that is meant, record them anew with
//! `RECORD_CASES=1` and read the difference.

mod cases;
mod injection;
mod properties;

use super::{Image, ImagePin, PullPolicy, ReleaseError, Spec, Template, Version, digest};
use std::collections::BTreeMap;

/// A whole spec as people write it; cases are changes of it.
const BASE: &str = include_str!("cases/base.yaml");

const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn version(text: &str) -> Version {
    text.parse().expect("a version")
}

/// Every image pinned, the way an image that never was in a registry is.
fn pins(spec: &Spec, version: &Version) -> BTreeMap<String, ImagePin> {
    let pin = |image: super::ImageReference| (image.reference, ImagePin::ImageId(DIGEST.to_owned()));
    spec.image_references(version).into_iter().map(pin).collect()
}

fn parse(text: &str) -> Spec {
    Spec::parse(text, "web.yaml").unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn the_sample_in_deploy_is_a_spec() {
    let spec = parse(include_str!("../../../deploy/config/web.yaml"));
    assert_eq!(spec.service.as_str(), "web");
    assert_eq!(spec.image_references(&version("2.3.1"))[0].reference, "registry.example.com/web:2.3.1");
    assert!(spec.text().starts_with('#'), "the text is kept with its comments");
}

#[test]
fn a_host_must_carry_all_labels() {
    let spec = parse(&BASE.replace("role: web", "role: web\n  zone: a"));
    let labels = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    assert!(spec.selects(&labels(&[("role", "web"), ("zone", "a"), ("disk", "ssd")])));
    assert!(!spec.selects(&labels(&[("role", "web")])));
    assert!(!spec.selects(&labels(&[("role", "web"), ("zone", "b")])));
    assert!(!spec.selects(&labels(&[])));
}

#[test]
fn a_release_needs_every_image_pinned() {
    let spec = parse(BASE);
    let error = spec.release(&version("1"), &BTreeMap::new()).expect_err("nothing is pinned");
    let reference = "registry.example.com/web:1".to_owned();
    assert_eq!(error, ReleaseError::NotPinned { container: "app".to_owned(), reference });
}

/// Comments and the order of keys are no part of a release; the version, a pin and a value are.
#[test]
fn the_digest_names_the_content() {
    let digest_of = |text: &str, name: &str| {
        let (spec, version) = (parse(text), version(name));
        digest(&spec.release(&version, &pins(&spec, &version)).expect("pinned"))
    };
    let base = digest_of(BASE, "1");
    let reordered =
        BASE.replace("LOG_LEVEL: info\n", "\n").replace("PORT: 8080\n", "PORT: 8080\n      LOG_LEVEL: info\n");
    assert_ne!(reordered, BASE);
    assert_eq!(digest_of(&format!("# a comment\n{reordered}"), "1"), base);
    assert_ne!(digest_of(BASE, "2"), base);
    assert_ne!(digest_of(&BASE.replace("info", "debug"), "1"), base);
    let (spec, version) = (parse(BASE), version("1"));
    let other = ImagePin::RepoDigest(format!("registry.example.com/web@{DIGEST}"));
    let pins = BTreeMap::from([("registry.example.com/web:1".to_owned(), other)]);
    assert_ne!(digest(&spec.release(&version, &pins).expect("pinned")), base);
}

/// The largest release, in hexadecimal as it is kept, takes half of a value of the store.
#[test]
fn a_release_fits_into_the_store_twice() {
    let text = |filler: usize, routes: usize| {
        let name = |n: usize| format!("n{n:0>61}.{:x>63}.{:x>63}.{:x>61}", "", "", "");
        let names = (0..32).map(name).collect::<Vec<_>>().join(", ");
        let routes = (1..routes).map(|n| format!("  - listen: {n}\n    server_name: *names\n")).collect::<String>();
        BASE.replace("LOG_LEVEL: info", &format!("LOG_LEVEL: \"{}\"", "${VERSION}".repeat(filler)))
            .replace("server_name: example.com\n", &format!("server_name: &names [{names}]\n{routes}"))
    };
    let spec = parse(&text(1_000, 20));
    let version = version(&"v".repeat(super::names::VERSION_BYTES_MAX));
    let release = spec.release(&version, &pins(&spec, &version)).expect("pinned");
    let bytes = prost::Message::encoded_len(&release);
    assert!((250_000..crate::store::VALUE_BYTES_MAX / 4).contains(&bytes), "{bytes} bytes");
    for (filler, routes) in [(6_500, 1), (10, 32)] {
        let error = Spec::parse(&text(filler, routes), "web.yaml").expect_err("it is too large").to_string();
        assert!(error.contains("a release takes up to ") && error.contains("at most 262144"), "{error}");
    }
}

#[test]
fn printing_a_spec_shows_no_value_of_its_environment() {
    let spec = parse(&BASE.replace("LOG_LEVEL: info", "PASSWORD: hunter2"));
    let printed = format!("{spec:?}");
    assert!(printed.contains("PASSWORD") && !printed.contains("hunter2"), "{printed}");
}

#[test]
fn faults_in_the_environment_do_not_repeat_values() {
    for wrong in ["PASSWORD: hunter2$", "PASSWORD: [hunter2]", "PASS WORD: hunter2", "PASSWORD: \"hunter2\\0\""] {
        let error = Spec::parse(&BASE.replace("LOG_LEVEL: info", wrong), "web.yaml").expect_err(wrong);
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

#[test]
fn versions_are_tags() {
    for good in ["2.3.1", "v2", "_", "1", "2024-01-02.abc_DEF", &"x".repeat(96)] {
        assert_eq!(good.parse::<Version>().expect(good).as_str(), good);
    }
    for bad in ["", ".1", "-1", "1+2", "a b", "a/b", "a:b", "a@b", "${VERSION}", "ä", "1\n", "a;b", &"x".repeat(97)] {
        assert!(bad.parse::<Version>().is_err(), "{bad:?}");
    }
}

#[test]
fn pins_are_exact() {
    let repository = format!("registry.example.com:5000/team/web@{DIGEST}");
    assert_eq!(repository.parse(), Ok(ImagePin::RepoDigest(repository.clone())));
    assert_eq!(DIGEST.parse(), Ok(ImagePin::ImageId(DIGEST.to_owned())));
    for bad in [
        "",
        "web",
        "web:1",
        "web@sha256:12",
        "@sha256:",
        "web:1@",
        "sha256:",
        &DIGEST.to_uppercase(),
        &format!("we b@{DIGEST}"),
    ] {
        assert!(bad.parse::<ImagePin>().is_err(), "{bad:?}");
    }
}

#[test]
fn image_references_are_those_of_docker() {
    let with_digest = format!("localhost:5000/team/web@{DIGEST}");
    for good in [
        "web:${VERSION}",
        "web:v${VERSION}-alpine",
        "demo/web:${VERSION}",
        "registry.example.com:5000/a/b/c:${VERSION}",
        "localhost/web:${VERSION}",
        "a__b/c-d.e:${VERSION}",
        "10.0.0.1:5000/web:${VERSION}",
        &with_digest,
    ] {
        let image = Image::parse(good).unwrap_or_else(|error| panic!("{good}: {error}"));
        assert_eq!(image.reference(&version("9")), good.replace("${VERSION}", "9"));
    }
    let both = format!("web:${{VERSION}}@{DIGEST}");
    for bad in [
        "",
        "web",
        "web:",
        "web:latest",
        ":${VERSION}",
        "Web:${VERSION}",
        "web:-${VERSION}",
        "web:${VERSION}${VERSION}",
        "web${VERSION}:x",
        "web${VERSION}",
        "${VERSION}",
        "a//b:${VERSION}",
        "/web:${VERSION}",
        "web/:${VERSION}",
        "a..b:${VERSION}",
        "a___b:${VERSION}",
        "registry.example.com:99999/web:${VERSION}",
        "registry.example.com:/web:${VERSION}",
        "reg_istry.example.com/web:${VERSION}",
        "*.example.com/web:${VERSION}",
        "http://example.com/web:${VERSION}",
        "web:${VERSION} ",
        "web:$VERSION",
        "web:${VERSION:-1}",
        "web:$$${VERSION}",
        "web@sha256:${VERSION}",
        &both,
        &format!("web:{}${{VERSION}}", "x".repeat(33)),
        &format!("{}:${{VERSION}}", "x".repeat(256)),
    ] {
        assert!(Image::parse(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn a_dollar_is_the_version_or_doubled() {
    for (text, filled) in [
        ("", Ok("")),
        ("plain", Ok("plain")),
        ("${VERSION}", Ok("7")),
        ("a-${VERSION}-b-${VERSION}", Ok("a-7-b-7")),
        ("$$5", Ok("$5")),
        ("$${VERSION}", Ok("${VERSION}")),
        ("$$$${VERSION}", Ok("$${VERSION}")),
        ("$$${VERSION}", Ok("$7")),
        ("ü$x", Err("the '$' at character 2 ")),
        ("$", Err("the '$' at character 1 ")),
        ("$$$", Err("the '$' at character 3 ")),
        ("${VERSION", Err("the '$' at character 1 ")),
        ("${version}", Err("the '$' at character 1 ")),
    ] {
        match (Template::parse(text), filled) {
            (Ok(template), Ok(filled)) => assert_eq!(template.fill(&version("7")), filled, "{text}"),
            (Err(error), Err(start)) => assert!(error.starts_with(start), "{text}: {error}"),
            (result, _) => panic!("{text}: {:?}", result.map(|template| template.fill(&version("7")))),
        }
    }
}

#[test]
fn the_pull_policy_goes_with_the_reference() {
    for (text, expected) in
        [("missing", PullPolicy::Missing), ("always", PullPolicy::Always), ("never", PullPolicy::Never)]
    {
        let spec = parse(&BASE.replace("    port: 8080\n", &format!("    port: 8080\n    pull_policy: {text}\n")));
        assert_eq!(spec.image_references(&version("1"))[0].pull_policy, expected);
    }
    assert_eq!(parse(BASE).image_references(&version("1"))[0].pull_policy, PullPolicy::Missing);
}
