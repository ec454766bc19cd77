//! Image references, and images made exact.

use crate::Verdict;
use bgctl_controller::spec::{Image, ImagePin, Version};

/// Shortest, longest, and with each character that may stand in one.
const VERSIONS: [&str; 4] = ["0", "_", "v1.2-3_x.", LONGEST];
const LONGEST: &str = match std::str::from_utf8(&[b'v'; 96]) {
    Ok(text) => text,
    Err(_) => "",
};

/// What is accepted is a reference of Docker's with every version there can be, and differs with each; what
/// is an exact image is one to the letter.
pub fn image(data: &[u8]) -> Verdict {
    let text = String::from_utf8_lossy(data);
    if let Ok(pin) = text.parse::<ImagePin>() {
        let (ImagePin::RepoDigest(kept) | ImagePin::ImageId(kept)) = &pin;
        assert_eq!(*kept, text);
        let digest = text.rsplit('@').next().unwrap_or_default();
        assert!(is_digest(digest), "{text:?}");
        assert_eq!(matches!(pin, ImagePin::RepoDigest(_)), text.contains('@'), "{text:?}");
        if let Some((repository, _)) = text.split_once('@') {
            assert!(is_repository(repository), "{text:?}");
        }
        return Verdict::Accepted;
    }
    let image = match Image::parse(&text) {
        Ok(image) => image,
        Err(message) => {
            assert!(message.contains("expected"), "it does not say what was expected: {message}");
            return Verdict::Refused;
        }
    };
    let references: Vec<_> = VERSIONS
        .iter()
        .map(|name| (*name, image.reference(&name.parse::<Version>().unwrap_or_else(|error| panic!("{error}")))))
        .collect();
    for (name, reference) in &references {
        match reference.split_once('@') {
            Some((rest, digest)) => assert!(is_digest(digest) && is_tagged(rest, true), "{reference:?}"),
            None => assert!(is_tagged(reference, false) && reference.contains(name), "{reference:?}"),
        }
    }
    let [(_, first), (_, second), ..] = &references[..] else { unreachable!("there are four") };
    assert_eq!(first == second, first.contains('@'), "{text:?} is the same image for two versions");
    Verdict::Accepted
}

fn is_digest(text: &str) -> bool {
    let Some(digits) = text.strip_prefix("sha256:") else { return false };
    digits.len() == 64 && digits.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'))
}

fn is_tagged(text: &str, may_lack_tag: bool) -> bool {
    let name = text.rfind('/').map_or(text, |slash| &text[slash..]);
    match name.rfind(':') {
        None => may_lack_tag && is_repository(text),
        Some(colon) => {
            let colon = text.len() - name.len() + colon;
            let (repository, tag) = (&text[..colon], &text[colon + 1..]);
            let first = tag.chars().next().is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
            let inside = tag.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
            first && inside && tag.len() <= 128 && is_repository(repository)
        }
    }
}

/// Docker's grammar, as a walk over the characters of each component.
fn is_repository(text: &str) -> bool {
    let parts: Vec<_> = text.split('/').collect();
    let has_registry = parts.len() > 1 && (parts[0].contains(['.', ':']) || parts[0] == "localhost");
    let is_registry = |part: &str| {
        let (host, port) = part.split_once(':').unwrap_or((part, "1"));
        let is_label = |label: &str| {
            !label.is_empty()
                && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        host.split('.').all(is_label) && !port.is_empty() && port.chars().all(|c| c.is_ascii_digit())
    };
    let is_name = |part: &&str| {
        let mut run = String::new();
        let mut inside = true;
        for c in part.chars() {
            match c {
                'a'..='z' | '0'..='9' => {
                    inside &= matches!(run.as_str(), "" | "." | "_" | "__") || run.trim_matches('-').is_empty();
                    run.clear();
                }
                '.' | '_' | '-' => run.push(c),
                _ => return false,
            }
        }
        inside && run.is_empty() && part.starts_with(|c: char| c.is_ascii_alphanumeric())
    };
    let names = if has_registry { &parts[1..] } else { &parts[..] };
    (!has_registry || is_registry(parts[0])) && names.iter().all(is_name)
}

/// References, exact images, and what looks like them.
pub fn seeds() -> Vec<Vec<u8>> {
    const DIGEST: &str = crate::fixture::IMAGE_ID;
    let mut seeds: Vec<String> = [
        "web:${VERSION}",
        "web:v${VERSION}-alpine",
        "demo/web:${VERSION}",
        "registry.example.com:5000/a/b/c:${VERSION}",
        "localhost/web:${VERSION}",
        "localhost:5000/web:${VERSION}",
        "a__b/c-d.e:${VERSION}",
        "10.0.0.1:5000/web:${VERSION}",
        "Registry.Example.com/web:${VERSION}",
        "a---b:${VERSION}",
        "",
        "web",
        "web:",
        "web:latest",
        ":${VERSION}",
        "Web:${VERSION}",
        "web:-${VERSION}",
        "web:.${VERSION}",
        "web:_${VERSION}",
        "web:${VERSION}${VERSION}",
        "web${VERSION}:x",
        "web${VERSION}",
        "${VERSION}",
        "${VERSION}/web:${VERSION}",
        "0${VERSION}:${VERSION}",
        "a//b:${VERSION}",
        "/web:${VERSION}",
        "web/:${VERSION}",
        "a..b:${VERSION}",
        "a___b:${VERSION}",
        "a.-b:${VERSION}",
        "registry.example.com:99999/web:${VERSION}",
        "registry.example.com:/web:${VERSION}",
        "registry.example.com:0/web:${VERSION}",
        "reg_istry.example.com/web:${VERSION}",
        "*.example.com/web:${VERSION}",
        "http://example.com/web:${VERSION}",
        "web:${VERSION} ",
        "web:$VERSION",
        "web:${VERSION:-1}",
        "web:$$${VERSION}",
        "web@sha256:${VERSION}",
        "web@${VERSION}",
        "a:b:${VERSION}",
        "a@b@c:${VERSION}",
        "sha256:${VERSION}",
        "[::1]:5000/web:${VERSION}",
        "web:${VERSION}\0",
        "web:${VERSION}\n",
        "w\u{435}b:${VERSION}",
        "web:${VERSION}/x",
        "a.b:5:${VERSION}",
    ]
    .map(str::to_owned)
    .into();
    seeds.extend([
        DIGEST.to_owned(),
        DIGEST.to_uppercase(),
        DIGEST[..70].to_owned(),
        format!("{DIGEST}0"),
        format!("web@{DIGEST}"),
        format!("web:1@{DIGEST}"),
        format!("web:${{VERSION}}@{DIGEST}"),
        format!("localhost:5000/team/web@{DIGEST}"),
        format!("we b@{DIGEST}"),
        format!("web@{DIGEST}@{DIGEST}"),
        format!("@{DIGEST}"),
        format!("web:{}${{VERSION}}", "x".repeat(32)),
        format!("web:{}${{VERSION}}", "x".repeat(33)),
        format!("{}:${{VERSION}}", "x".repeat(255)),
        format!("{}:${{VERSION}}", "x".repeat(256)),
    ]);
    seeds.into_iter().map(String::into_bytes).collect()
}
