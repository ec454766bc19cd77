//! Where the programs under test are.

use std::path::{Path, PathBuf};

/// A program that is not where it should be.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    /// A program of ours was not built.
    #[error("{path} is not there: build it with `cargo build --workspace`{}", if *.release { " --release" } else { "" })]
    NotBuilt {
        /// Where it was looked for.
        path: PathBuf,
        /// It was looked for among the released ones.
        release: bool,
    },
    /// A program of the system is missing.
    #[error("{program} is not installed: run `make install-packages` (package {package})")]
    NotInstalled {
        /// What it is called.
        program: &'static str,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// This program does not know where it is itself.
    #[error("cannot find the folder this program runs from")]
    Nowhere(#[source] std::io::Error),
}

/// The checkout this was built from.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/"))
}

/// Where locks on what the whole machine shares are kept: Docker's networks and images, and free ports. One folder
/// a user, for all checkouts.
pub fn locks() -> PathBuf {
    let user = rustix::process::getuid().as_raw();
    std::env::temp_dir().join(format!("bgctl-fixtures-{user}"))
}

/// A program of this workspace, built in the same profile as the one that asks.
///
/// # Errors
/// When it was not built.
pub fn program(name: &str) -> Result<PathBuf, WorkspaceError> {
    let own = std::env::current_exe().map_err(WorkspaceError::Nowhere)?;
    let folder = own.parent().unwrap_or(Path::new("/"));
    // Tests run from a folder within it.
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    let path = folder.join(name);
    if path.is_file() { Ok(path) } else { Err(WorkspaceError::NotBuilt { path, release: folder.ends_with("release") }) }
}

/// A program of the system, found on the PATH or where daemons are kept.
///
/// # Errors
/// When it is not installed.
pub fn system_program(program: &'static str, package: &'static str) -> Result<PathBuf, WorkspaceError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // An ordinary user's PATH often lacks the folders of daemons.
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from));
    let mut found = folders.map(|folder| folder.join(program)).filter(|path| path.is_file());
    found.next().ok_or(WorkspaceError::NotInstalled { program, package })
}

/// A shared library of the system, by its path below the folder where libraries are kept.
///
/// # Errors
/// When it is not installed.
pub fn system_library(file: &'static str, package: &'static str) -> Result<PathBuf, WorkspaceError> {
    let architecture = std::env::consts::ARCH;
    let folders = [format!("/usr/lib/{architecture}-linux-gnu"), "/usr/lib64".to_owned(), "/usr/lib".to_owned()];
    let mut found = folders.iter().map(|folder| Path::new(folder).join(file)).filter(|path| path.is_file());
    found.next().ok_or(WorkspaceError::NotInstalled { program: file, package })
}
