//! Registry logins from the host's own Docker config. They go to the daemon in a header, never into an
//! argument list or a log.

use bollard::auth::DockerCredentials;
use http::HeaderValue;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Docker Hub's images name no registry, and its logins stand under this address.
const HUB: &str = "docker.io";
const HUB_LOGIN: &str = "https://index.docker.io/v1/";

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    auth: Option<String>,
    identitytoken: Option<String>,
}

/// The login for an image's registry, if one of the files has it. A file that cannot be read is told in
/// the log without its content and passed over: the image may be public.
pub(super) fn find(files: &[PathBuf], reference: &str) -> Option<DockerCredentials> {
    let registry = registry(reference);
    files.iter().find_map(|file| {
        let text = match std::fs::read(file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(file = %file.display(), %error, "registry logins cannot be read");
                return None;
            }
        };
        match serde_json::from_slice::<Config>(&text) {
            Ok(config) => config.auths.iter().find_map(|(key, entry)| credentials(registry, key, entry)),
            Err(error) => {
                let (line, column) = (error.line(), error.column());
                tracing::warn!(file = %file.display(), line, column, "registry logins are not valid JSON");
                None
            }
        }
    })
}

/// The daemon reads this header as URL-safe base64 and quietly goes on without a login when it is not,
/// but the library writes the plain alphabet.
pub(super) fn make_header_url_safe(mut request: bollard::BollardRequest) -> bollard::BollardRequest {
    if let Some(value) = request.headers_mut().get_mut("x-registry-auth") {
        let safe: Vec<u8> = value
            .as_bytes()
            .iter()
            .map(|byte| match byte {
                b'+' => b'-',
                b'/' => b'_',
                other => *other,
            })
            .collect();
        if let Ok(mut safe) = HeaderValue::from_bytes(&safe) {
            safe.set_sensitive(true);
            *value = safe;
        }
    }
    request
}

/// The host part of a reference, as Docker tells it from a folder: it has a dot or a port, or is localhost.
fn registry(reference: &str) -> &str {
    match reference.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        Some(_) | None => HUB,
    }
}

fn credentials(registry: &str, key: &str, entry: &Entry) -> Option<DockerCredentials> {
    let host = key.split_once("://").map_or(key, |(_, rest)| rest);
    let host = host.split_once('/').map_or(host, |(host, _)| host);
    if host != registry && !(registry == HUB && key == HUB_LOGIN) {
        return None;
    }
    let decoded = entry.auth.as_deref().and_then(decode).and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = decoded.as_deref().and_then(|text| text.split_once(':'));
    let identitytoken = entry.identitytoken.clone().filter(|token| !token.is_empty());
    if pair.is_none() && identitytoken.is_none() {
        return None;
    }
    Some(DockerCredentials {
        username: pair.map(|(user, _)| user.to_owned()),
        password: pair.map(|(_, password)| password.to_owned()),
        identitytoken,
        serveraddress: Some(key.to_owned()),
        ..Default::default()
    })
}

/// Base64 with the plain alphabet, padded or not.
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held) = (0u32, 0);
    for digit in text.trim().trim_end_matches('=').bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xffff;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file(text: &str) -> (tempfile::NamedTempFile, Vec<PathBuf>) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let path = file.path().to_owned();
        (file, vec!["/nonexistent/config.json".into(), path])
    }

    #[test]
    fn finds_the_registry_of_the_image() {
        let (_file, files) = file(
            r#"{"auths": {
                "https://index.docker.io/v1/": {"auth": "aHVi
OmRvY2tlcg=="},
                "https://old.example/v1/": {"auth": "b2xkOnN0eWxl"},
                "r.example:5000": {"auth": "YW5uOnBhOnNz"},
                "t.example": {"auth": "", "identitytoken": "tok"},
                "helper.example": {}
            }, "credsStore": "desktop"}"#
                .replace('\n', "")
                .as_str(),
        );
        let user = |reference: &str| {
            let found = find(&files, reference)?;
            Some((found.username.unwrap_or_default(), found.password.or(found.identitytoken).unwrap_or_default()))
        };
        let pair = |user: &str, secret: &str| Some((user.to_owned(), secret.to_owned()));
        assert_eq!(user("web:v1"), pair("hub", "docker"));
        assert_eq!(user("team/web:v1"), pair("hub", "docker"));
        assert_eq!(user("old.example/web"), pair("old", "style"));
        assert_eq!(user("r.example:5000/web@sha256:00"), pair("ann", "pa:ss"));
        assert_eq!(user("t.example/web"), pair("", "tok"));
        assert_eq!(user("helper.example/web"), None);
        assert_eq!(user("r.example/web"), None);
    }

    #[test]
    fn a_broken_file_is_passed_over() {
        let (_file, files) = file("{");
        assert_eq!(find(&files, "web"), None);
    }

    #[test]
    fn decodes_every_length_and_refuses_other_digits() {
        for (text, plain) in [("", ""), ("YQ==", "a"), ("YWI=", "ab"), ("YWJj", "abc"), ("YWJjZA", "abcd")] {
            assert_eq!(decode(text).as_deref(), Some(plain.as_bytes()));
        }
        assert_eq!(decode("+/+/"), Some(vec![0xfb, 0xff, 0xbf]));
        assert_eq!(decode("a-b_"), None);
    }
}
