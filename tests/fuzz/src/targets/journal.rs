//! The journal after everything a disk can do to it.

use crate::Verdict;
use crate::bytes::Bytes;
use crate::fixture;
use bgctl_agent::journal::{Journal, JournalError, RealDisk};
use std::fs;
use std::path::{Path, PathBuf};

/// One half of the file, as the journal lays it out.
const HALF_BYTES: usize = 256 * 1024;

/// Memory where there is some: a case is some writes that wait for the disk.
const MEMORY: &str = "/dev/shm";

/// Damages in a row.
const DAMAGES_MAX: usize = 8;

/// States are written, then the file is damaged. What is read is one of the last two states or nothing at
/// all, loudly; never another, never "this host is new". Damage to one half leaves the other, and what is
/// written next is what is read next.
pub fn journal(data: &[u8]) -> Verdict {
    fixture::run(damaged(data))
}

async fn damaged(data: &[u8]) -> Verdict {
    let mut bytes = Bytes::new(data);
    let directory = if Path::new(MEMORY).is_dir() { PathBuf::from(MEMORY) } else { std::env::temp_dir() };
    let directory = tempfile::Builder::new().prefix("bgctl-fuzz-").tempdir_in(directory).expect("a directory");
    let path = directory.path().join("journal");

    let states: Vec<String> = (0..bytes.below(4)).map(|number| state(number, &mut bytes)).collect();
    let (mut journal, nothing) = open(&path).await.expect("a new file");
    assert_eq!(nothing, None);
    for state in &states {
        journal.write(state).await.expect("there is room");
    }
    drop(journal);

    let whole = fs::read(&path).expect("it was written");
    let mut damaged = whole.clone();
    for _ in 0..bytes.below(DAMAGES_MAX) {
        damage(&mut damaged, &mut bytes);
    }
    fs::write(&path, &damaged).expect("it can be written");
    let touched = |half: usize| {
        let range = half * HALF_BYTES..(half + 1) * HALF_BYTES;
        damaged.get(range.clone()) != whole.get(range)
    };
    match open(&path).await {
        Ok((journal, read)) => {
            match (&read, &states[..]) {
                (None, []) => {}
                // What a crash before the first write leaves: there is nothing to tell the two apart.
                (None, _) if damaged.len() >= 2 * HALF_BYTES && damaged[..2 * HALF_BYTES].iter().all(|b| *b == 0) => {}
                (None, _) => panic!("a state was written, and the host takes itself for a new one"),
                (Some(read), [.., before, last]) if touched(0) || touched(1) => {
                    assert!(read == before || read == last, "{read:?} was written by nobody");
                }
                (Some(read), states) => assert_eq!(Some(read), states.last(), "it is not the newest"),
            }
            goes_on(journal, &path).await;
            Verdict::Accepted
        }
        Err(JournalError::Damaged { .. } | JournalError::Newer { .. }) => {
            assert!(touched(0) || touched(1), "it refuses what it has written");
            Verdict::Refused
        }
        Err(error @ (JournalError::Io { .. } | JournalError::Full { .. })) => panic!("{error}"),
    }
}

async fn open(path: &Path) -> Result<(Journal, Option<String>), JournalError> {
    Journal::open(&RealDisk, path).await
}

async fn goes_on(mut journal: Journal, path: &Path) {
    for next in ["the next", "the one after it"] {
        journal.write(&next).await.expect("there is room");
        match open(path).await {
            Ok((_, read)) => assert_eq!(read.as_deref(), Some(next)),
            // The other half says that a newer agent wrote it: that is no less true now.
            Err(JournalError::Newer { .. }) => {}
            Err(error) => panic!("it does not read what it has just written: {error}"),
        }
    }
}

fn state(number: usize, bytes: &mut Bytes<'_>) -> String {
    let length = match bytes.below(4) {
        0 => 0,
        1 => usize::from(bytes.byte()),
        2 => usize::from(bytes.short()),
        _ => HALF_BYTES - 512,
    };
    format!("{number}:{}", char::from(b'a' + bytes.byte() % 26).to_string().repeat(length))
}

/// One thing that happens to files: bits flip, sectors are zeroed or torn, pieces end up elsewhere.
fn damage(file: &mut Vec<u8>, bytes: &mut Bytes<'_>) {
    let kind = bytes.below(8);
    let at = place(file.len(), bytes);
    let count = usize::from(bytes.short()).min(file.len() - at);
    match kind {
        0 => file.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << bytes.below(8)),
        1 => file[at..at + count].fill(0),
        2 => file.truncate(at),
        3 => {
            let text = bytes.chunk();
            let end = (at + text.len()).min(file.len());
            file[at..end].copy_from_slice(&text[..end - at]);
        }
        4 => {
            let from = place(file.len(), bytes);
            let count = count.min(file.len() - from);
            file.copy_within(from..from + count, at);
        }
        5 if file.len() == 2 * HALF_BYTES => file.rotate_left(HALF_BYTES),
        5 => {}
        6 => drop(file.splice(at..at, bytes.chunk().iter().copied())),
        _ => drop(file.drain(at..at + count)),
    }
}

/// Mostly near the start of a half, where the header is.
fn place(length: usize, bytes: &mut Bytes<'_>) -> usize {
    let half = bytes.below(2) * HALF_BYTES;
    let offset = match bytes.below(4) {
        0 => 0,
        1 | 2 => usize::from(bytes.byte()),
        _ => usize::from(bytes.short()) * 4,
    };
    (half + offset).min(length)
}

/// No damage, and each of them at each place that matters.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for states in 0..4_u8 {
        let mut written = vec![states];
        written.extend((0..states).flat_map(|n| [1, 10 + 10 * n, n]));
        seeds.push(written.clone());
        for kind in 0..8_u8 {
            for half in 0..2_u8 {
                for offset in [0, 13, 14, 16, 18, 21, 30, 84, 85, 86, 87, 90, 120] {
                    seeds.push([&written[..], &[1, kind, half, 1, offset, 200, 0, 3]].concat());
                }
                // From the start: all of it.
                seeds.push([&written[..], &[1, kind, half, 0, 255, 255]].concat());
            }
        }
        // Everything gone, in two ways: nothing left, and nothing but zeros.
        seeds.push([&written[..], &[1, 2, 0, 0, 0, 0]].concat());
        seeds.push([&written[..], &[2, 1, 0, 0, 255, 255, 1, 1, 0, 255, 255]].concat());
        // A header of another's hand in both halves.
        for header in
            ["bgctl-journal 1 9 3 00\n\"a\"\n", "bgctl-journal 2 1 0 \n", "bgctl-journal 0 1 0 \n", "\n", "bgctl"]
        {
            let mut input = [&written[..], &[1, 3, 0, 0, 0, 0]].concat();
            crate::bytes::put_chunk(&mut input, header.as_bytes());
            seeds.push(input);
        }
    }
    // As much as fits.
    seeds.push(vec![2, 3, 1, 3, 2, 1, 0, 0, 3, 255, 0, 4]);
    seeds
}
