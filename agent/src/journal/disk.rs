//! A file with its room reserved, written in place. The one thing the journal asks of a disk.

use async_trait::async_trait;
use rustix::fs::FallocateFlags;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

/// Where files lie that outlive the agent.
#[async_trait]
pub trait Disk: Send + Sync + 'static {
    /// Opens a file, or makes it, with room for so many bytes on the disk: zeros where nothing was written yet. It
    /// has its name once it has its room: one that is shorter was cut since, and is opened as it is.
    async fn open(&self, path: &Path, bytes: u64) -> Result<Box<dyn Reserved>, DiskError>;
}

/// An open file with its room reserved.
#[async_trait]
pub trait Reserved: Send {
    /// All of it; less than was reserved if it was cut.
    async fn read(&mut self) -> io::Result<Vec<u8>>;
    /// Writes there, and returns when it is on the disk. A crash before that leaves all of it, some of it or nothing.
    async fn write(&mut self, offset: u64, bytes: Vec<u8>) -> io::Result<()>;
}

/// Why a file could not be opened.
#[derive(Debug)]
pub struct DiskError {
    /// Open, reserve.
    pub operation: &'static str,
    /// Why not.
    pub source: io::Error,
}

/// The machine's own.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

struct RealFile {
    file: Arc<File>,
    bytes: u64,
}

#[async_trait]
impl Disk for RealDisk {
    async fn open(&self, path: &Path, bytes: u64) -> Result<Box<dyn Reserved>, DiskError> {
        if !path.exists() {
            make(path, bytes).map_err(|source| DiskError { operation: "reserve 512 KiB for", source })?;
        }
        let file = OpenOptions::new().read(true).write(true).open(path);
        let file = file.map_err(|source| DiskError { operation: "open", source })?;
        Ok(Box::new(RealFile { file: Arc::new(file), bytes }))
    }
}

#[async_trait]
impl Reserved for RealFile {
    async fn read(&mut self) -> io::Result<Vec<u8>> {
        let there = self.file.metadata()?.len().min(self.bytes);
        let mut bytes = vec![0; usize::try_from(there).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    async fn write(&mut self, offset: u64, bytes: Vec<u8>) -> io::Result<()> {
        let file = Arc::clone(&self.file);
        let written = tokio::task::spawn_blocking(move || {
            // What is written into a file without a name is gone with the process.
            if file.metadata()?.nlink() == 0 {
                return Err(io::Error::new(io::ErrorKind::NotFound, "somebody removed the file while it was in use"));
            }
            file.write_all_at(&bytes, offset)?;
            file.sync_data()
        });
        written.await.map_err(io::Error::other)?
    }
}

/// Takes the room on the disk now, so that a full disk later does not matter. A crash, or a full disk, in the middle
/// of it leaves no file of that name.
fn make(path: &Path, bytes: u64) -> io::Result<()> {
    let unfinished = path.with_extension("new");
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    let reserved = rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes).map_err(io::Error::from);
    let made = reserved.and_then(|()| file.sync_all()).and_then(|()| std::fs::rename(&unfinished, path));
    if made.is_err() {
        drop(std::fs::remove_file(&unfinished));
    }
    made?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}
