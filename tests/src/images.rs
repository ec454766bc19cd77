//! The sample service's images, made FROM scratch on this machine: one static program, one file that
//! differs per version, and the variables that say how it behaves. Nothing is downloaded.

use crate::workspace;
use bollard::Docker;
use bollard::query_parameters::{CreateImageOptionsBuilder, RemoveImageOptionsBuilder};
use futures_util::TryStreamExt;
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use tokio::process::Command;

/// The repository of all of them.
pub const REPOSITORY: &str = "demo/web";
/// Every image: its tag, which is also its version, and its behaviour.
pub const IMAGES: [(&str, &str); 7] = [
    ("v1", "normal"),
    ("v2", "normal"),
    ("v3", "normal"),
    ("broken", "broken"),
    ("slow", "slow"),
    ("crash", "crash"),
    ("late", "late"),
];
/// Says which content an image was made from.
const CONTENT_LABEL: &str = "bgctl.fixture";

/// Why the images could not be made or removed.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The sample service could not be built.
    #[error("cannot build the sample service: {detail}")]
    Build {
        /// The compiler's words.
        detail: String,
    },
    /// A file of the build.
    #[error("cannot {action} {path}")]
    File {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// Docker refused.
    #[error("cannot {action} image {image}; does Docker run? try `make install-packages`")]
    Docker {
        /// What was tried.
        action: &'static str,
        /// On which image.
        image: String,
        /// Docker's words.
        source: bollard::errors::Error,
    },
}

/// While any of these is held, no fleet of this user removes the images.
#[derive(Debug)]
pub struct ImagesInUse(#[expect(dead_code, reason = "held for its lock")] File);

/// Builds the sample service if it changed, and makes those images that are missing or made from something else.
///
/// # Errors
/// The build's or Docker's words.
pub async fn ensure(docker: &Docker) -> Result<ImagesInUse, ImageError> {
    let in_use = hold()?;
    // Only one at a time builds; the others find it done.
    let waiting = tokio::task::spawn_blocking(|| lock("making", FlockOperation::LockExclusive));
    let making = waiting.await.map_err(|error| ImageError::Build { detail: error.to_string() })??;
    let binary = build().await?;
    let program = fs::read(&binary).map_err(|source| ImageError::File { action: "read", path: binary, source })?;
    for (version, behaviour) in IMAGES {
        let image = format!("{REPOSITORY}:{version}");
        let content = content_digest(&program, version, behaviour);
        if made_from(docker, &image).await?.as_ref() == Some(&content) {
            continue;
        }
        import(docker, &program, version, behaviour, &content).await.map_err(|source| ImageError::Docker {
            action: "make",
            image,
            source,
        })?;
    }
    drop(making);
    Ok(in_use)
}

/// Keeps the images from being removed.
///
/// # Errors
/// When the lock cannot be made.
pub fn hold() -> Result<ImagesInUse, ImageError> {
    lock("in-use", FlockOperation::LockShared).map(ImagesInUse)
}

/// Removes the images, unless a fleet uses them. False: one does.
///
/// # Errors
/// Docker's words.
pub async fn remove(docker: &Docker) -> Result<bool, ImageError> {
    let path = lock_path("in-use");
    let file = open_lock(&path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(false),
        Err(errno) => return Err(ImageError::File { action: "lock", path, source: errno.into() }),
    }
    for (version, _) in IMAGES {
        let image = format!("{REPOSITORY}:{version}");
        let options = RemoveImageOptionsBuilder::new().build();
        match docker.remove_image(&image, Some(options), None).await {
            Ok(_) => {}
            Err(error) if has_status(&error, 404) => {}
            // A container of somebody else's runs it.
            Err(error) if has_status(&error, 409) => return Ok(false),
            Err(source) => return Err(ImageError::Docker { action: "remove", image, source }),
        }
    }
    Ok(true)
}

/// True: Docker answered with this HTTP status.
pub(crate) fn has_status(error: &bollard::errors::Error, status: u16) -> bool {
    matches!(error, bollard::errors::Error::DockerResponseServerError { status_code, .. } if *status_code == status)
}

async fn build() -> Result<PathBuf, ImageError> {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let folder = workspace::root().join("target/fixtures");
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace::root());
    command.args(["build", "--quiet", "--release", "--package", "demo-app", "--target", &target, "--target-dir"]);
    command.arg(&folder);
    // FROM scratch there is no C library to load.
    command.env("RUSTFLAGS", "-C target-feature=+crt-static").env_remove("CARGO_ENCODED_RUSTFLAGS");
    let output = command.output().await.map_err(|error| ImageError::Build { detail: error.to_string() })?;
    if output.status.success() {
        Ok(folder.join(target).join("release/demo-app"))
    } else {
        Err(ImageError::Build { detail: String::from_utf8_lossy(&output.stderr).into_owned() })
    }
}

fn content_digest(program: &[u8], version: &str, behaviour: &str) -> String {
    let digest = Sha256::new().chain_update(program).chain_update(format!("\0{version}\0{behaviour}")).finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the image was made from. None: there is none of this name, or it is not ours.
async fn made_from(docker: &Docker, image: &str) -> Result<Option<String>, ImageError> {
    match docker.inspect_image(image).await {
        Ok(facts) => {
            Ok(facts.config.and_then(|config| config.labels).and_then(|mut labels| labels.remove(CONTENT_LABEL)))
        }
        Err(error) if has_status(&error, 404) => Ok(None),
        Err(source) => Err(ImageError::Docker { action: "inspect", image: image.to_owned(), source }),
    }
}

async fn import(
    docker: &Docker,
    program: &[u8],
    version: &str,
    behaviour: &str,
    content: &str,
) -> Result<(), bollard::errors::Error> {
    let archive = archive(program, version)?;
    let changes = vec![
        "ENTRYPOINT [\"/demo-app\"]".to_owned(),
        format!("ENV APP_VERSION={version}"),
        format!("ENV APP_BEHAVIOUR={behaviour}"),
        format!("LABEL {CONTENT_LABEL}={content}"),
    ];
    let options = CreateImageOptionsBuilder::new().from_src("-").repo(REPOSITORY).tag(version).changes(changes).build();
    let body = bollard::body_full(archive.into());
    docker.create_image(Some(options), Some(body), None).try_collect::<Vec<_>>().await?;
    Ok(())
}

fn archive(program: &[u8], version: &str) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |path: &str, mode: u32, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(mode);
        archive.append_data(&mut header, path, bytes)
    };
    add("demo-app", 0o755, program)?;
    // So that no two versions are the same content.
    add("version", 0o644, format!("{version}\n").as_bytes())?;
    archive.into_inner()
}

fn lock_path(name: &str) -> PathBuf {
    workspace::locks().join(format!("images-{name}.lock"))
}

fn open_lock(path: &Path) -> Result<File, ImageError> {
    let error = |source| ImageError::File { action: "make the lock", path: path.to_owned(), source };
    fs::create_dir_all(path.parent().unwrap_or(path)).map_err(error)?;
    File::options().create(true).truncate(false).write(true).open(path).map_err(error)
}

/// Waits for its turn.
fn lock(name: &str, operation: FlockOperation) -> Result<File, ImageError> {
    let path = lock_path(name);
    let file = open_lock(&path)?;
    flock(&file, operation).map_err(|errno| ImageError::File { action: "lock", path, source: errno.into() })?;
    Ok(file)
}
