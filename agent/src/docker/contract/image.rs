//! Images for the contract suite, made here from nothing: one static program each.

use bollard::Docker;
use bollard::query_parameters::ImportImageOptions;
use futures_util::TryStreamExt;
use sha2::{Digest, Sha256};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What an image's containers do; the fake's images do the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Answers 200 at once, and ends when it is asked to.
    Serves,
    /// Answers 503 for ever.
    Sick,
    /// Ends with 3 after 100 ms, having printed [`LAST_WORDS`].
    Dies,
    /// Like `Serves`, but must be killed.
    Stubborn,
}

/// `ESC` stands for the control character.
pub(super) const LAST_WORDS: [&str; 3] = ["connecting", "ESC[31mrefused", "giving up"];

impl Kind {
    pub(super) fn command(self) -> Vec<&'static str> {
        match self {
            Self::Serves | Self::Stubborn => vec!["/program", "serve", "200"],
            Self::Sick => vec!["/program", "serve", "503"],
            Self::Dies => ["/program", "die", "100", "3"].into_iter().chain(LAST_WORDS).collect(),
        }
    }

    /// A first process without a handler ignores every signal but this one, so without it the program
    /// must be killed.
    pub(super) fn stop_signal(self) -> Option<&'static str> {
        match self {
            Self::Serves | Self::Sick | Self::Dies => Some("SIGKILL"),
            Self::Stubborn => None,
        }
    }
}

/// Puts an image on this host, and answers its id.
pub(super) async fn load(client: &Docker, repository: &str, kind: Kind) -> String {
    let layer = layer();
    let config = config(repository, kind, &layer);
    let id = digest(&config);
    let tag = format!("{kind:?}").to_lowercase();
    let manifest = serde_json::json!([{
        "Config": "config.json", "RepoTags": [format!("{repository}:{tag}")], "Layers": ["layer.tar"],
    }]);
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in
        [("layer.tar", &layer), ("config.json", &config), ("manifest.json", &manifest.to_string().into_bytes())]
    {
        append(&mut archive, name, content);
    }
    let body = bollard::body_full(archive.into_inner().unwrap().into());
    let answers = client.import_image(ImportImageOptions::default(), body, None);
    answers.try_collect::<Vec<_>>().await.unwrap();
    id
}

/// An image's config, whose digest is its id. `name` makes it unlike those of tests that run beside.
pub(super) fn config(name: &str, kind: Kind, layer: &[u8]) -> Vec<u8> {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let config = serde_json::json!({
        "architecture": architecture, "os": "linux",
        "config": {"Cmd": kind.command(), "StopSignal": kind.stop_signal(), "Labels": {"contract": name}},
        "rootfs": {"type": "layers", "diff_ids": [digest(layer)]},
    });
    config.to_string().into_bytes()
}

/// The program as the one layer of an image, a tar archive.
fn layer() -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_path_with_name(program(), "program").unwrap();
    archive.into_inner().unwrap()
}

pub(super) fn append(archive: &mut tar::Builder<Vec<u8>>, name: &str, content: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, name, content).unwrap();
}

pub(super) fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// Built once for each state of its source, whoever comes first.
pub(super) fn program() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let source = folder.join("src/docker/contract/program/main.rs");
    let mut hasher = DefaultHasher::new();
    std::fs::read(&source).unwrap().hash(&mut hasher);
    let built = folder.join(format!("../target/contract/program-{:016x}", hasher.finish()));
    if built.exists() {
        return built;
    }
    std::fs::create_dir_all(built.parent().unwrap()).unwrap();
    let mine = tempfile::Builder::new().tempfile_in(built.parent().unwrap()).unwrap().into_temp_path();
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args(["--edition", "2024", "-O", "-C", "target-feature=+crt-static", "-C", "strip=symbols"])
        .args(["--target", &target, "-o"])
        .arg(&*mine)
        .arg(&source)
        .output()
        .expect("rustc is needed for the contract suite's images");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "a static program needs the static C library (libc6-dev): {complaint}");
    mine.persist(&built).unwrap();
    built
}
