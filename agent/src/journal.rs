//! What the host must not forget, in one file, written before the message that depends on it.
//!
//! The file has two halves that are written in turn, each with a checksum and a counter, at a size
//! reserved beforehand: a write that is torn leaves the half before it, and a disk that has filled up
//! since does not stop an outcome from being recorded. Each half is a line of JSON a person can read.

mod disk;

pub use disk::{Disk, DiskError, RealDisk, Reserved};

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use std::io;
use std::path::{Path, PathBuf};

/// Room for one state, in bytes. A service takes 1-2 KiB in each of its two slots.
const HALF_BYTES: u64 = 256 * 1024;

/// The header: magic, format, counter, length, checksum, newline. Fixed, so that a torn one is seen.
const MAGIC: &str = "bgctl-journal";
const FORMAT: u32 = 1;

/// What can go wrong with the journal.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// It could not be read or written.
    #[error("cannot {operation} the journal {path}: {source}")]
    Io {
        /// Open, reserve, read, write.
        operation: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Neither half can be trusted. Guessing could serve what was never committed, so a person decides.
    #[error(
        "the journal {path} is damaged ({detail}). The host goes on serving what nginx serves now. To start \
         over as a new host, move the file and the directory `switch` beside it away and restart the agent; it will fetch the committed releases"
    )]
    Damaged {
        /// Where.
        path: PathBuf,
        /// What is wrong with each half.
        detail: String,
    },
    /// It was written by a newer agent.
    #[error("the journal {path} has format {found}, this agent reads up to {FORMAT}: install the newer agent again")]
    Newer {
        /// Where.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// It has outgrown its room.
    #[error(
        "the host's state takes {bytes} bytes, the journal has room for {HALF_BYTES}: too many services on one host"
    )]
    Full {
        /// Its size.
        bytes: usize,
    },
}

/// The open file.
pub struct Journal {
    file: Box<dyn Reserved>,
    path: PathBuf,
    counter: u64,
}

impl Journal {
    /// Opens or makes the file, and reads the newest state in it; none if it is new.
    pub async fn open<T: DeserializeOwned>(disk: &dyn Disk, path: &Path) -> Result<(Self, Option<T>), JournalError> {
        let fault = |operation, source| JournalError::Io { operation, path: path.to_owned(), source };
        let opened = disk.open(path, 2 * HALF_BYTES).await;
        let mut file = opened.map_err(|DiskError { operation, source }| fault(operation, source))?;
        let bytes = file.read().await.map_err(|source| fault("read", source))?;
        let mut journal = Self { file, path: path.to_owned(), counter: 0 };
        let state = journal.newest(&bytes)?;
        Ok((journal, state))
    }

    fn newest<T: DeserializeOwned>(&mut self, bytes: &[u8]) -> Result<Option<T>, JournalError> {
        let mut newest: Option<(u64, T)> = None;
        let mut faults = Vec::new();
        let mut blank = 0;
        if (bytes.len() as u64) < 2 * HALF_BYTES {
            // What is gone may have been the newest state, or all there was: neither may be taken for nothing.
            let detail = format!("it was cut to {} bytes of {}", bytes.len(), 2 * HALF_BYTES);
            return Err(JournalError::Damaged { path: self.path.clone(), detail });
        }
        for (half, bytes) in bytes.chunks(HALF_BYTES as usize).enumerate() {
            match parse_half(bytes) {
                Half::Blank => blank += 1,
                Half::Newer(found) => return Err(JournalError::Newer { path: self.path.clone(), found }),
                Half::Bad(detail) => faults.push(format!("half {half}: {detail}")),
                Half::Good(counter, state) => {
                    if newest.as_ref().is_none_or(|(known, _)| *known < counter) {
                        newest = Some((counter, state));
                    }
                }
            }
        }
        match newest {
            // The half that was being written when the machine died is bad; the one before it counts.
            Some((counter, state)) => {
                self.counter = counter;
                Ok(Some(state))
            }
            None if blank == 2 => Ok(None),
            None => Err(JournalError::Damaged { path: self.path.clone(), detail: faults.join("; ") }),
        }
    }

    /// Writes the state over the older half and waits for the disk.
    pub async fn write<T: Serialize>(&mut self, state: &T) -> Result<(), JournalError> {
        let path = self.path.clone();
        let fault = |source| JournalError::Io { operation: "write", path, source };
        let body = match serde_json::to_string(state) {
            Ok(body) => body,
            Err(error) => return Err(fault(io::Error::other(error))),
        };
        let counter = self.counter + 1;
        let checksum = checksum(counter, body.as_bytes());
        let text = format!("{MAGIC} {FORMAT} {counter} {} {checksum}\n{body}\n", body.len());
        if text.len() as u64 > HALF_BYTES {
            return Err(JournalError::Full { bytes: text.len() });
        }
        self.file.write((counter % 2) * HALF_BYTES, text.into_bytes()).await.map_err(fault)?;
        self.counter = counter;
        Ok(())
    }
}

enum Half<T> {
    Blank,
    Newer(u32),
    Bad(String),
    Good(u64, T),
}

fn parse_half<T: DeserializeOwned>(bytes: &[u8]) -> Half<T> {
    if bytes.iter().all(|byte| *byte == 0) {
        return Half::Blank;
    }
    let bad = |detail: &str| Half::Bad(detail.to_owned());
    let Some(line_end) = bytes.iter().take(256).position(|byte| *byte == b'\n') else { return bad("no header") };
    let Ok(header) = std::str::from_utf8(&bytes[..line_end]) else { return bad("the header is not text") };
    let fields: Vec<_> = header.split(' ').collect();
    let [MAGIC, format, counter, length, expected] = fields[..] else { return bad("the header is not one") };
    let (Ok(format), Ok(counter), Ok(length)) =
        (format.parse::<u32>(), counter.parse::<u64>(), length.parse::<usize>())
    else {
        return bad("the header has no numbers");
    };
    if format > FORMAT {
        return Half::Newer(format);
    }
    if format < FORMAT {
        return bad("there never was such a format");
    }
    let Some(body) = bytes[line_end + 1..].get(..length) else { return bad("it is cut short") };
    if checksum(counter, body) != expected {
        return bad("the checksum does not fit");
    }
    match serde_json::from_slice(body) {
        Ok(state) => Half::Good(counter, state),
        Err(error) => Half::Bad(error.to_string()),
    }
}

/// Of counter and body: a body under another's counter would look newer than it is.
fn checksum(counter: u64, body: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(counter.to_be_bytes());
    hash.update(body);
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(directory: &tempfile::TempDir) -> PathBuf {
        directory.path().join("journal")
    }

    async fn reopened(path: &Path) -> Result<Option<String>, JournalError> {
        Journal::open(&RealDisk, path).await.map(|(_, state)| state)
    }

    #[tokio::test]
    async fn the_newest_state_is_read_back() {
        let directory = tempfile::tempdir().expect("a directory");
        let (mut journal, state) = Journal::open::<String>(&RealDisk, &at(&directory)).await.expect("opens");
        assert_eq!(state, None);
        for text in ["one", "two", "three"] {
            journal.write(&text).await.expect("writes");
            assert_eq!(reopened(&at(&directory)).await.expect("opens").as_deref(), Some(text));
        }
    }

    #[tokio::test]
    async fn what_would_be_written_into_a_removed_file_is_an_error() {
        let directory = tempfile::tempdir().expect("a directory");
        let (mut journal, _) = Journal::open::<String>(&RealDisk, &at(&directory)).await.expect("opens");
        journal.write(&"one").await.expect("writes");
        std::fs::remove_file(at(&directory)).expect("it is there");
        let error = journal.write(&"two").await.expect_err("nobody would read it").to_string();
        assert!(error.contains("cannot write the journal") && error.contains("removed the file"), "{error}");
    }

    #[tokio::test]
    async fn every_torn_write_leaves_the_state_before_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = at(&directory);
        let (mut journal, _) = Journal::open::<String>(&RealDisk, &path).await.expect("opens");
        journal.write(&"before").await.expect("writes");
        journal.write(&"the one that is torn").await.expect("writes");
        let whole = std::fs::read(&path).expect("reads");
        let written = whole.iter().take(HALF_BYTES as usize).rposition(|byte| *byte != 0).expect("something") + 1;
        // The newline after the body is no part of it.
        for cut in 0..written - 1 {
            let mut torn = whole.clone();
            torn[cut..written].fill(0);
            std::fs::write(&path, &torn).expect("writes");
            assert_eq!(reopened(&path).await.expect("opens").as_deref(), Some("before"), "cut at {cut}");
        }
    }

    #[tokio::test]
    async fn a_flipped_bit_is_never_believed() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = at(&directory);
        let (mut journal, _) = Journal::open::<String>(&RealDisk, &path).await.expect("opens");
        journal.write(&"only one").await.expect("writes");
        let whole = std::fs::read(&path).expect("reads");
        let start = HALF_BYTES as usize;
        let length = whole[start..].iter().rposition(|byte| *byte != 0).expect("something");
        for offset in start..start + length {
            for bit in 0..8 {
                let mut flipped = whole.clone();
                flipped[offset] ^= 1 << bit;
                std::fs::write(&path, &flipped).expect("writes");
                match reopened(&path).await {
                    Err(JournalError::Damaged { .. } | JournalError::Newer { .. }) => {}
                    other => panic!("bit {bit} of byte {offset} flipped, and it was read as {other:?}"),
                }
            }
        }
    }

    #[tokio::test]
    async fn what_does_not_fit_is_refused_and_the_state_before_stays() {
        let directory = tempfile::tempdir().expect("a directory");
        let (mut journal, _) = Journal::open::<String>(&RealDisk, &at(&directory)).await.expect("opens");
        journal.write(&"small").await.expect("writes");
        let large = "x".repeat(HALF_BYTES as usize);
        assert!(matches!(journal.write(&large).await, Err(JournalError::Full { .. })));
        assert_eq!(reopened(&at(&directory)).await.expect("opens").as_deref(), Some("small"));
    }
}
