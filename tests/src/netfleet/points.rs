//! A machine's crash points, as `bgctl_proto::crashpoint` describes them.

use super::NetFleetError;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What the process that reaches a point does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// It stops, all of it, until it gets SIGCONT.
    Stop,
    /// It dies as by kill -9.
    Abort,
}

/// The folder of one machine's points.
#[derive(Debug, Clone)]
pub struct Points {
    dir: PathBuf,
}

impl Points {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The next process that comes to the point does this, once.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn arm(&self, name: &str, order: Order) -> Result<(), NetFleetError> {
        let text = match order {
            Order::Stop => "stop",
            Order::Abort => "abort",
        };
        // Given its name at the end, so that nobody finds it empty.
        let (new, path) = (self.file(name, "new"), self.file(name, "armed"));
        drop(fs::remove_file(self.file(name, "reached")));
        fs::write(&new, text).and_then(|()| fs::rename(&new, &path)).map_err(NetFleetError::file("write", &path))
    }

    /// Somebody came to the point since it was armed.
    pub fn is_reached(&self, name: &str) -> bool {
        self.file(name, "reached").exists()
    }

    /// Waits until somebody comes to the point. False: nobody did within `limit`.
    pub async fn wait_reached(&self, name: &str, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while !self.is_reached(name) {
            if Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(super::LOOK_EVERY).await;
        }
        true
    }

    /// No point is armed any more, and none was reached.
    pub fn disarm(&self) {
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            drop(fs::remove_file(entry.path()));
        }
    }

    fn file(&self, name: &str, state: &str) -> PathBuf {
        self.dir.join(format!("{name}.{state}"))
    }
}
