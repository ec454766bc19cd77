//! Image references: `[REGISTRY[:PORT]/]REPOSITORY[:TAG][@sha256:DIGEST]`.

use super::names::{TAG_AROUND_BYTES_MAX, Version, is_tag};
use super::template::Template;
use std::str::FromStr;

/// Longest registry and repository together, in bytes: Docker's own limit.
const REPOSITORY_BYTES_MAX: usize = 255;

/// An image whose tag holds the version, or whose digest makes a version needless.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image(Template);

impl Image {
    /// Reads a reference in which `${VERSION}` may stand in the tag. The error says what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let template = Template::parse(text)?;
        // The shortest and the plainest version: what is well formed with it is so with all of them.
        let sample = template.fill(&Version::from_str("0").map_err(|error| error.to_string())?);
        let reference = Reference::parse(&sample)?;
        let repository_and_tag = text.split('@').next().unwrap_or_default();
        let tag = repository_and_tag.strip_prefix(reference.repository).and_then(|tag| tag.strip_prefix(':'));
        match (template.names_version(), reference.digest) {
            (false, None) => Err("the image does not depend on the version; expected ${VERSION} in its tag, such as \
                                  web:${VERSION}, or a digest, such as web@sha256:..."
                .to_owned()),
            (true, Some(_)) => {
                Err("the digest alone decides what runs; expected ${VERSION} or a digest, not both".to_owned())
            }
            (false, Some(_)) => Ok(Self(template)),
            (true, None) => match tag {
                Some(tag) if tag.matches("${VERSION}").count() == 1 => {
                    let around = tag.len() - "${VERSION}".len();
                    if around > TAG_AROUND_BYTES_MAX {
                        return Err(format!(
                            "the tag has {around} bytes around ${{VERSION}}, expected at most {TAG_AROUND_BYTES_MAX}"
                        ));
                    }
                    Ok(Self(template))
                }
                Some(_) | None => Err("expected ${VERSION} once, after the ':' of the tag".to_owned()),
            },
        }
    }

    /// The image of a version.
    pub fn reference(&self, version: &Version) -> String {
        self.0.fill(version)
    }
}

/// An image made exact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImagePin {
    /// `repository@sha256:...`: can be pulled.
    RepoDigest(String),
    /// `sha256:...`: the image's own id, of an image that never was in a registry.
    ImageId(String),
}

/// A text that does not say exactly which image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an exact image: expected repository@sha256:... or sha256:... with 64 hexadecimal digits")]
pub struct PinError(String);

impl FromStr for ImagePin {
    type Err = PinError;
    fn from_str(text: &str) -> Result<Self, PinError> {
        let repo_digest = || {
            let (repository, digest) = text.split_once('@')?;
            (is_repository(repository) && is_digest(digest)).then(|| Self::RepoDigest(text.to_owned()))
        };
        let image_id = || is_digest(text).then(|| Self::ImageId(text.to_owned()));
        repo_digest().or_else(image_id).ok_or_else(|| PinError(text.chars().take(REPOSITORY_BYTES_MAX).collect()))
    }
}

/// The parts of a reference.
struct Reference<'t> {
    repository: &'t str,
    digest: Option<&'t str>,
}

impl<'t> Reference<'t> {
    fn parse(text: &'t str) -> Result<Self, String> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        let name_start = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (repository, tag) = match rest[name_start..].split_once(':') {
            Some((name, tag)) => (&rest[..name_start + name.len()], Some(tag)),
            None => (rest, None),
        };
        if !is_repository(repository) {
            return Err("the repository is malformed; expected [REGISTRY[:PORT]/]NAME[/NAME...] with names of a-z, \
                        0-9 and single '.', '_' or '-' between them"
                .to_owned());
        }
        if !tag.is_none_or(is_tag) {
            return Err("the tag is malformed; expected 1 to 128 of A-Z, a-z, 0-9, '_', '.' and '-', starting with \
                        a letter, digit or '_'"
                .to_owned());
        }
        if !digest.is_none_or(is_digest) {
            return Err("the digest is malformed; expected sha256: and 64 hexadecimal digits".to_owned());
        }
        Ok(Self { repository, digest })
    }
}

fn is_digest(text: &str) -> bool {
    let hexadecimal = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    text.strip_prefix("sha256:").is_some_and(|digits| digits.len() == 64 && digits.bytes().all(hexadecimal))
}

fn is_repository(text: &str) -> bool {
    let names = match text.split_once('/') {
        // Docker takes the first part for a registry if it could not be a name on the Hub.
        Some((registry, names)) if registry.contains(['.', ':']) || registry == "localhost" => {
            if !is_registry(registry) {
                return false;
            }
            names
        }
        Some(_) | None => text,
    };
    text.len() <= REPOSITORY_BYTES_MAX && names.split('/').all(is_path_name)
}

fn is_registry(text: &str) -> bool {
    let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
    let is_port = |port: &str| port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|n| n > 0);
    super::names::server_name(host).is_some() && !host.starts_with('*') && port.is_none_or(is_port)
}

/// Letters and digits, with one '.', one or two '_', or any number of '-' between them.
fn is_path_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_separator = |run: &str| matches!(run, "" | "." | "_" | "__") || run.bytes().all(|b| b == b'-');
    text.starts_with(plain) && text.ends_with(plain) && text.split(plain).all(is_separator)
}
