//! The version, put into texts.

use crate::Verdict;
use crate::bytes::{Bytes, put_chunk};
use bgctl_controller::spec::{Template, Version};

/// Only `${VERSION}` and `$$` mean anything, and what comes out is what a reader with a pencil would write.
pub fn version(data: &[u8]) -> Verdict {
    let mut bytes = Bytes::new(data);
    let name = bytes.text("1");
    let text = String::from_utf8_lossy(bytes.rest()).into_owned();
    let Ok(version) = name.parse::<Version>() else {
        let is_tag = !name.is_empty()
            && name.len() <= 96
            && name.chars().all(|c| matches!(c, 'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '.' | '-'))
            && !matches!(name.as_bytes()[0], b'.' | b'-');
        assert!(!is_tag, "{name:?} is a version and was refused");
        return Verdict::Refused;
    };
    assert!(!name.contains(|c: char| !c.is_ascii() || c.is_ascii_control() || "$/:@;{}\"' ".contains(c)), "{name:?}");
    match (Template::parse(&text), filled(&text, &name)) {
        (Ok(template), Some(expected)) => {
            assert_eq!(template.fill(&version), expected, "{text:?}");
            assert_eq!(template.names_version(), filled(&text, "a") != filled(&text, "b"), "{text:?}");
            Verdict::Accepted
        }
        (Err(message), None) => {
            assert!(message.contains("expected"), "it does not say what was expected: {message}");
            Verdict::Refused
        }
        (Ok(_), None) => panic!("{text:?} has a dollar that means nothing, and was read"),
        (Err(message), Some(_)) => panic!("{text:?} was refused: {message}"),
    }
}

fn filled(text: &str, version: &str) -> Option<String> {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '$' {
            out.push(c);
            continue;
        }
        if let Some(rest) = chars.as_str().strip_prefix('$') {
            out.push('$');
            chars = rest.chars();
        } else {
            chars = chars.as_str().strip_prefix("{VERSION}")?.chars();
            out.push_str(version);
        }
    }
    Some(out)
}

/// Texts with dollars, each with two versions.
pub fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "",
        "plain",
        "${VERSION}",
        "a-${VERSION}-b-${VERSION}",
        "$$5",
        "$${VERSION}",
        "$$$${VERSION}",
        "$$$${VERSION",
        "$$${VERSION}",
        "\u{fc}$x",
        "$",
        "$$$",
        "${VERSION",
        "${version}",
        "${VERSION:-1}",
        "$VERSION",
        "${${VERSION}}",
        "$\0",
        "{VERSION}",
        "$$VERSION}",
        "\u{1f600}${VERSION}\u{1f600}$",
    ];
    let names = ["2.3.1", "v2", "_", "-1", ".1", "a b", "${VERSION}", "$$", "a;b", "\u{e4}", "1\n"];
    let input = |name: &str, text: &str| {
        let mut input = Vec::new();
        put_chunk(&mut input, name.as_bytes());
        input.extend(text.as_bytes());
        input
    };
    let mut seeds: Vec<_> = texts.iter().map(|text| input("7", text)).collect();
    seeds.extend(names.iter().map(|name| input(name, "a-${VERSION}")));
    seeds.extend([96, 97].map(|length| input(&"v".repeat(length), "${VERSION}")));
    seeds
}
