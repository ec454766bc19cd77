//! A host's disk: what was not synced is lost when the power goes, or is there in part.

use crate::clock::SimAmbient;
use async_trait::async_trait;
use bgctl_agent::journal::{Disk, DiskError, Reserved};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a sync takes on a disk that is well, in microseconds.
const SYNC_MICROS: std::ops::Range<u64> = 200..6_000;

/// Told of what is on the disk for good, while it comes to be there.
pub type OnSynced = Arc<dyn Fn(&[u8]) + Send + Sync>;

/// What can be wrong with a disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Trouble {
    /// New files find no room.
    pub is_full: bool,
    /// Writes fail.
    pub is_broken: bool,
    /// Each sync takes that much longer.
    pub slower_by: Duration,
    /// Sabotage: a sync is said to be done before it is.
    pub lies: bool,
    /// Sabotage: what a file held of promises is gone when it is opened again.
    pub forgets_promises: bool,
}

/// One host's disk. Clones are the same one.
#[derive(Clone)]
pub struct SimDisk {
    ambient: SimAmbient,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    files: BTreeMap<PathBuf, Content>,
    trouble: Trouble,
    on_synced: OnSynced,
}

#[derive(Default)]
struct Content {
    bytes: Vec<u8>,
    /// Written and not synced, in order.
    pending: Vec<(usize, Vec<u8>)>,
}

impl Content {
    fn settle(&mut self) -> Vec<Vec<u8>> {
        let mut settled = Vec::new();
        for (offset, bytes) in std::mem::take(&mut self.pending) {
            self.put(offset, &bytes);
            settled.push(bytes);
        }
        settled
    }

    fn put(&mut self, offset: usize, bytes: &[u8]) {
        let end = (offset + bytes.len()).min(self.bytes.len());
        self.bytes[offset..end].copy_from_slice(&bytes[..end - offset]);
    }
}

impl SimDisk {
    /// An empty one.
    pub fn new(ambient: SimAmbient, on_synced: OnSynced) -> Self {
        let shared = Shared { files: BTreeMap::new(), trouble: Trouble::default(), on_synced };
        Self { ambient, shared: Arc::new(Mutex::new(shared)) }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is wrong with it.
    pub fn trouble(&self, change: impl FnOnce(&mut Trouble)) {
        change(&mut self.lock().trouble);
    }

    /// The process that wrote died: what it had handed over comes to the disk.
    pub fn process_died(&self) {
        let (settled, on_synced) = {
            let mut shared = self.lock();
            let settled: Vec<_> = shared.files.values_mut().flat_map(Content::settle).collect();
            (settled, Arc::clone(&shared.on_synced))
        };
        settled.iter().for_each(|bytes| on_synced(bytes));
    }

    /// The power went: of what was not synced there is nothing, all, or the beginning. Answers whether anything was lost.
    pub fn power_lost(&self) -> bool {
        let mut lost = false;
        let mut whole = Vec::new();
        let on_synced = {
            let mut shared = self.lock();
            for content in shared.files.values_mut() {
                for (offset, bytes) in std::mem::take(&mut content.pending) {
                    match self.ambient.below(3) {
                        0 => lost = true,
                        1 => {
                            let torn = usize::try_from(self.ambient.below(bytes.len() as u64)).unwrap_or(0);
                            content.put(offset, &bytes[..torn]);
                            lost = true;
                        }
                        _ => {
                            content.put(offset, &bytes);
                            whole.push(bytes);
                        }
                    }
                }
            }
            Arc::clone(&shared.on_synced)
        };
        whole.iter().for_each(|bytes| on_synced(bytes));
        lost
    }

    /// It was replaced by an empty one.
    pub fn replaced(&self) {
        self.lock().files.clear();
    }

    fn settle(&self, path: &Path) {
        let (settled, on_synced) = {
            let mut shared = self.lock();
            let settled = shared.files.get_mut(path).map(Content::settle).unwrap_or_default();
            (settled, Arc::clone(&shared.on_synced))
        };
        settled.iter().for_each(|bytes| on_synced(bytes));
    }
}

struct SimFile {
    disk: SimDisk,
    path: PathBuf,
}

#[async_trait]
impl Disk for SimDisk {
    async fn open(&self, path: &Path, bytes: u64) -> Result<Box<dyn Reserved>, DiskError> {
        let mut shared = self.lock();
        let trouble = shared.trouble;
        if !shared.files.contains_key(path) {
            if trouble.is_full {
                let source = io::Error::from(io::ErrorKind::StorageFull);
                return Err(DiskError { operation: "reserve 512 KiB for", source });
            }
            let room = usize::try_from(bytes).unwrap_or_default();
            shared.files.insert(path.to_owned(), Content { bytes: vec![0; room], pending: Vec::new() });
        }
        drop(shared);
        Ok(Box::new(SimFile { disk: self.clone(), path: path.to_owned() }))
    }
}

#[async_trait]
impl Reserved for SimFile {
    async fn read(&mut self) -> io::Result<Vec<u8>> {
        let shared = self.disk.lock();
        let bytes = shared.files.get(&self.path).map(|content| content.bytes.clone()).unwrap_or_default();
        Ok(if shared.trouble.forgets_promises { crate::sabotage::without_promises(bytes) } else { bytes })
    }

    async fn write(&mut self, offset: u64, bytes: Vec<u8>) -> io::Result<()> {
        let micros = SYNC_MICROS.start + self.disk.ambient.below(SYNC_MICROS.end - SYNC_MICROS.start);
        let trouble = {
            let mut shared = self.disk.lock();
            let trouble = shared.trouble;
            if trouble.is_broken {
                return Err(io::Error::other("input/output error"));
            }
            let offset = usize::try_from(offset).map_err(io::Error::other)?;
            if let Some(content) = shared.files.get_mut(&self.path) {
                content.pending.push((offset, bytes));
            }
            trouble
        };
        let (disk, path) = (self.disk.clone(), self.path.clone());
        let synced = async move {
            tokio::time::sleep(Duration::from_micros(micros) + trouble.slower_by).await;
            disk.settle(&path);
        };
        if trouble.lies {
            drop(tokio::spawn(async move {
                tokio::time::sleep(crate::sabotage::LIE).await;
                synced.await;
            }));
            return Ok(());
        }
        synced.await;
        Ok(())
    }
}
