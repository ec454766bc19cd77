//! Reads a case, replays it, and compares what comes of it with what was recorded.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

/// What stands before an event, an event tried on a copy, and something recorded.
const HAPPENS: &str = "> ";
const TRIED: &str = "? ";
const RECORDED: &str = "    ";

/// Which event was tried in which situation.
pub type Seen = BTreeSet<(String, &'static str)>;

/// A state machine that a case can drive.
pub trait Machine: Clone {
    /// The first line of a case.
    fn start(line: &str) -> Result<(Self, Vec<String>), String>;
    /// One event: its kind, and what it asked for.
    fn take(&mut self, line: &str) -> Result<(&'static str, Vec<String>), String>;
    /// What is true now, a line each.
    fn standing(&self) -> Vec<String>;
    /// The situation an event meets, where the machine knows it better than the case's name does.
    fn situation(&self) -> Option<String>;
}

/// A case as it plays now.
#[derive(Debug, Default)]
pub struct Played {
    pub text: String,
    pub seen: Seen,
}

/// Replays every case of a folder. What differs from the record fails, or is recorded where that was asked for.
pub fn run<M: Machine>(folder: &str) -> Seen {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases").join(folder);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    paths.sort();
    let mut seen = Seen::new();
    let mut failures = String::new();
    for path in &paths {
        let name = path.file_stem().expect("a name").to_string_lossy().replace('_', " ");
        let text = std::fs::read_to_string(path).expect("the case is readable");
        let played = replay::<M>(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let situations = played.seen.into_iter().map(|(situation, event)| match situation.as_str() {
            "" => (name.clone(), event),
            _ => (situation, event),
        });
        seen.extend(situations);
        if let Some((line, recorded, now)) = first_difference(&text, &played.text) {
            if std::env::var_os("RECORD").is_some() {
                std::fs::write(path, &played.text).expect("the case is writable");
            } else {
                let place = format!("{}:{line}", path.display());
                writeln!(failures, "{place}\n  recorded: {recorded}\n  now:      {now}").expect("a string");
            }
        }
    }
    assert!(failures.is_empty(), "not as recorded; RECORD=1 records anew:\n{failures}");
    seen
}

/// Plays a case; an error names the line.
pub fn replay<M: Machine>(text: &str) -> Result<Played, String> {
    let mut played = Played::default();
    let mut machine: Option<M> = None;
    if !text.starts_with(|first: char| first.is_alphabetic()) {
        return Err("line 1: expected what the case shows, in words".to_owned());
    }
    let mut in_title = true;
    for (number, line) in text.lines().enumerate() {
        let told = |error: String| format!("line {}: {error}", number + 1);
        if line.starts_with(RECORDED) {
            continue;
        }
        writeln!(played.text, "{line}").expect("a string");
        if in_title || line.is_empty() || line.starts_with('#') {
            in_title &= !line.is_empty();
            continue;
        }
        let before = machine.as_ref().map(M::standing).unwrap_or_default();
        let (after, effects) = if let Some(events) = line.strip_prefix(HAPPENS) {
            let (after, effects) = act(machine.clone(), events, &mut Seen::new()).map_err(told)?;
            machine = Some(after.clone());
            (after, effects)
        } else if let Some(events) = line.strip_prefix(TRIED) {
            act(machine.clone(), events, &mut played.seen).map_err(told)?
        } else {
            return Err(told(format!("expected {HAPPENS:?}, {TRIED:?} or {RECORDED:?} at its start")));
        };
        record(&mut played.text, &before, &after.standing(), &effects);
    }
    if machine.is_none() {
        return Err("it has no event".to_owned());
    }
    Ok(played)
}

fn act<M: Machine>(machine: Option<M>, events: &str, seen: &mut Seen) -> Result<(M, Vec<String>), String> {
    let told = |error: String| format!("{events:?}: {error}");
    let Some(mut machine) = machine else { return M::start(events).map_err(told) };
    let mut effects = Vec::new();
    let situation = machine.situation().unwrap_or_default();
    for (number, event) in events.split("; ").enumerate() {
        let (kind, asked) = machine.take(event).map_err(told)?;
        if number == 0 {
            seen.insert((situation.clone(), kind));
        }
        effects.extend(asked);
    }
    Ok((machine, effects))
}

fn record(text: &mut String, before: &[String], after: &[String], effects: &[String]) {
    for effect in effects {
        writeln!(text, "{RECORDED}{effect}").expect("a string");
    }
    let news = after.iter().filter(|line| !before.contains(line)).count();
    for line in after.iter().filter(|line| !before.contains(line)) {
        writeln!(text, "{RECORDED}= {line}").expect("a string");
    }
    if effects.is_empty() && news == 0 {
        writeln!(text, "{RECORDED}-").expect("a string");
    }
}

/// The first line that differs: its number, as recorded, as it is now.
pub fn first_difference<'a>(recorded: &'a str, now: &'a str) -> Option<(usize, &'a str, &'a str)> {
    let (mut recorded, mut now) = (recorded.lines(), now.lines());
    for number in 1.. {
        match (recorded.next(), now.next()) {
            (None, None) => return None,
            (a, b) if a == b => {}
            (a, b) => return Some((number, a.unwrap_or("(ends)"), b.unwrap_or("(ends)"))),
        }
    }
    None
}
