//! What a disk may leave of the file: cut short, some pages of a write and not others, bits that turned. Each opens
//! as a state that was committed, or says that it is damaged; nothing in between.

use super::super::Embedded;
use super::super::history::Kept;
use super::super::opening::lay_out;
use super::super::pages::commit;
use super::*;
use std::collections::BTreeMap;

/// What a disk writes whole.
const SECTOR: usize = 512;

/// Power cuts at each act.
const CUTS: usize = 2;

/// Everything in a store at one revision.
type State = (u64, BTreeMap<String, Vec<u8>>);

/// The file after each of some writes, as it is while a controller has it open, and what was in it then.
struct Film {
    directory: TempDir,
    frames: Vec<(Vec<u8>, State)>,
    closed: Vec<u8>,
}

impl Film {
    async fn shoot(writes: u32) -> Self {
        let directory = directory();
        let path = directory.path().join("store.redb");
        let store =
            Embedded::open_keeping(&path, Kept { revisions: 20, bytes: 1024 * 1024 }).await.expect("a new file");
        let mut frames = Vec::new();
        for n in 0..writes {
            // Values of one page and of many, keys that are new and that are written again.
            let value = vec![n as u8 + 1; if n % 5 == 0 { 40_000 } else { 300 }];
            put(&store, &format!("k{}", n % 7), &value).await;
            frames.push((fs::read(&path).expect("read"), state(&store).await));
        }
        drop(store);
        Self { closed: fs::read(&path).expect("read"), directory, frames }
    }

    /// None: refused as damaged, with the file's name and what to do.
    async fn opened(&self, content: &[u8]) -> Option<State> {
        let path = self.directory.path().join("torn.redb");
        fs::write(&path, content).expect("written");
        match Embedded::open(&path).await {
            Ok(store) => Some(state(&store).await),
            Err(StoreError::Unusable { detail }) => {
                assert!(detail.contains("damaged") && detail.contains("put back a copy"), "{detail}");
                assert!(names(&detail, &path), "{detail}");
                None
            }
            Err(other) => panic!("neither a state nor damage: {other:?}"),
        }
    }

    fn last(&self) -> &State {
        &self.frames.last().expect("there were writes").1
    }
}

async fn state(store: &Embedded) -> State {
    let range = store.range("").await.expect("a range");
    (range.revision, range.entries.into_iter().map(|entry| (entry.key, entry.value)).collect())
}

/// Numbers that are the same each time.
fn draw(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}

#[tokio::test]
async fn a_file_that_was_cut_short_is_the_last_state_or_refused() {
    let film = Film::shoot(12).await;
    let open = &film.frames.last().expect("there were writes").0;
    for whole in [open, &film.closed] {
        let even = (0..=64).map(|part| whole.len() / 64 * part);
        let odd = [0, 1, 63, 64, 319, 320, 511, 4095, 4096, 4097, whole.len() - 1];
        for length in even.chain(odd).filter(|length| *length < whole.len()) {
            let opened = film.opened(&whole[..length]).await;
            assert!(opened.is_none_or(|state| state == *film.last()), "cut to {length} of {} bytes", whole.len());
        }
        assert_eq!(film.opened(whole).await.as_ref(), Some(film.last()));
    }
}

/// What was done to the disk, in order.
#[derive(Debug, Clone)]
enum Done {
    Write(u64, Vec<u8>),
    Length(u64),
    Sync,
}

/// A disk that remembers what was done to it.
#[derive(Debug, Default, Clone)]
struct Recorder {
    content: Arc<Mutex<Vec<u8>>>,
    log: Arc<Mutex<Vec<Done>>>,
}

impl Recorder {
    fn note(&self, done: Done) {
        carry_out(&mut self.content.lock().expect("not poisoned"), &done);
        self.log.lock().expect("not poisoned").push(done);
    }

    fn noted(&self) -> usize {
        self.log.lock().expect("not poisoned").len()
    }
}

fn carry_out(content: &mut Vec<u8>, done: &Done) {
    match done {
        Done::Write(at, bytes) => {
            let end = *at as usize + bytes.len();
            if content.len() < end {
                content.resize(end, 0);
            }
            content[*at as usize..end].copy_from_slice(bytes);
        }
        Done::Length(length) => content.resize(*length as usize, 0),
        Done::Sync => {}
    }
}

impl redb::StorageBackend for Recorder {
    fn len(&self) -> Result<u64, std::io::Error> {
        Ok(self.content.lock().expect("not poisoned").len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), std::io::Error> {
        let content = self.content.lock().expect("not poisoned");
        let start = offset as usize;
        let found = content.get(start..start + out.len()).ok_or(std::io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, length: u64) -> Result<(), std::io::Error> {
        self.note(Done::Length(length));
        Ok(())
    }

    fn sync_data(&self) -> Result<(), std::io::Error> {
        self.note(Done::Sync);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), std::io::Error> {
        self.note(Done::Write(offset, data.to_vec()));
        Ok(())
    }
}

/// What a power cut at this point may leave: everything up to the last sync, and of what came after it any part,
/// each write whole, cut at a sector, or not at all.
fn left(log: &[Done], seed: &mut u64) -> Vec<u8> {
    let synced = log.iter().rposition(|done| matches!(done, Done::Sync)).map_or(0, |last| last + 1);
    let mut content = Vec::new();
    for done in &log[..synced] {
        carry_out(&mut content, done);
    }
    for done in &log[synced..] {
        match (draw(seed) % 3, done) {
            (0, _) => {}
            (1, Done::Write(at, bytes)) => {
                let whole = bytes.len() / SECTOR;
                let kept = draw(seed) as usize % (whole + 1) * SECTOR;
                carry_out(&mut content, &Done::Write(*at, bytes[..kept].to_vec()));
            }
            _ => carry_out(&mut content, done),
        }
    }
    content
}

/// The disk keeps its word about syncs and nothing else.
#[tokio::test]
async fn a_power_cut_at_any_write_leaves_what_was_answered_or_that_and_the_write_under_way() {
    let disk = Recorder::default();
    let database = redb::Builder::new().create_with_backend(disk.clone()).expect("made");
    lay_out(&database, Path::new("recorded")).expect("an empty file");
    let kept = Kept { revisions: 20, bytes: 1024 * 1024 };
    let mut known: State = (1, BTreeMap::new());
    let mut answered = vec![(disk.noted(), known.clone())];
    for n in 0..7_u32 {
        let (key, value) = (format!("k{}", n % 7), vec![n as u8 + 1; if n % 5 == 0 { 40_000 } else { 300 }]);
        let write = [Operation::Put(key.clone(), value.clone())];
        let ((), revision) = commit(&database, |pages| pages.apply(&write, kept)).expect("written");
        known.1.insert(key, value);
        known.0 = revision;
        answered.push((disk.noted(), known.clone()));
    }
    let log = disk.log.lock().expect("not poisoned").clone();
    let film = Film { directory: directory(), frames: Vec::new(), closed: Vec::new() };
    let (mut seed, mut cuts, mut under_way) = (7, 0, 0);
    let first = answered[0].0;
    for point in first..=log.len() {
        let at = answered.iter().rposition(|(noted, _)| *noted <= point).expect("after the first");
        for _ in 0..CUTS {
            let opened = film.opened(&left(&log[..point], &mut seed)).await;
            cuts += 1;
            let Some(state) = opened else { panic!("after {point} of {} acts: refused", log.len()) };
            if state == answered[at].1 {
                continue;
            }
            let next = answered.get(at + 1).map(|(_, next)| next);
            assert!(
                next == Some(&state),
                "after {point} acts: revision {}, answered was {}",
                state.0,
                answered[at].1.0
            );
            under_way += 1;
        }
    }
    println!("{cuts} power cuts, {under_way} with the write under way");
    assert!(cuts > 100 && under_way > 0, "the cuts fall into no write");
}

#[tokio::test]
async fn a_bit_that_turned_is_harmless_or_refused_and_takes_no_answered_write_away() {
    let film = Film::shoot(12).await;
    let open = &film.frames.last().expect("there were writes").0;
    let (mut harmless, mut refused) = (0, 0);
    for whole in [open, &film.closed] {
        // The header closely; the rest in steps that are no page's divisor.
        for offset in (0..320).step_by(5).chain((320..whole.len()).step_by(79_979)) {
            let mut flipped = whole.clone();
            flipped[offset] ^= 1 << (offset % 8);
            match film.opened(&flipped).await {
                Some(state) if state == *film.last() => harmless += 1,
                Some(state) => {
                    panic!("bit {} of byte {offset}: revision {} instead of {}", offset % 8, state.0, film.last().0)
                }
                None => refused += 1,
            }
        }
    }
    println!("harmless: {harmless}, refused: {refused}");
    assert!(refused > 0 && harmless > 0);
}
