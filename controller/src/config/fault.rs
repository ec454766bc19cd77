//! What is wrong with a file a person wrote: where, what was found, what was expected.

use std::fmt;

/// Faults told at once: more would scroll the first, which often causes the others, off the screen.
const FAULTS_MAX: usize = 20;

/// Widest piece of a line that is shown, in characters: a terminal's width less the frame.
const SNIPPET_CHARS_MAX: usize = 100;

/// Longest piece of somebody's text repeated in a message, in characters.
const QUOTE_CHARS_MAX: usize = 60;

/// Everything wrong with one file, in the order of its lines. Its text may show lines of the file: it is for
/// the person who sent the file, not for a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    file: String,
    faults: Vec<Fault>,
    untold: usize,
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// The field, such as `containers.app.port`; empty for the file itself.
    pub path: String,
    /// What was found and what was expected.
    pub message: String,
    snippet: Option<Snippet>,
}

/// A line of the file with the place marked.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Snippet {
    line: String,
    before: usize,
    width: usize,
}

/// Where something stands in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// In characters; 0 where it is not known.
    pub width: usize,
}

impl Place {
    /// Where a text begins.
    pub(crate) const START: Self = Self { line: 1, column: 1, width: 0 };
}

impl Faults {
    /// At least one fault, in any order. The file's name is what the person calls it.
    pub(crate) fn new(file: &str, mut faults: Vec<Fault>) -> Self {
        faults.sort_by_key(|fault| (fault.line, fault.column));
        let untold = faults.len().saturating_sub(FAULTS_MAX);
        faults.truncate(FAULTS_MAX);
        Self { file: printable(file), faults, untold }
    }

    /// In the order of the file's lines.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.faults.iter()
    }
}

impl Fault {
    /// A fault shown with its line.
    pub(crate) fn shown(text: &str, place: Place, path: &str, message: impl Into<String>) -> Self {
        let snippet = Snippet::cut(text, place);
        Self { snippet, ..Self::hidden(place, path, message) }
    }

    /// A fault whose line is not repeated, because it may hold a secret.
    pub(crate) fn hidden(place: Place, path: &str, message: impl Into<String>) -> Self {
        let (path, message) = (printable(path), printable(&message.into()));
        Self { line: place.line, column: place.column, path, message, snippet: None }
    }
}

impl Snippet {
    fn cut(text: &str, place: Place) -> Option<Self> {
        let line = lines(text).nth(place.line.checked_sub(1)?).filter(|line| !line.trim().is_empty())?;
        let column = place.column.checked_sub(1)?;
        let skipped = column.saturating_sub(SNIPPET_CHARS_MAX / 2);
        let shown: String = line.chars().skip(skipped).take(SNIPPET_CHARS_MAX).collect();
        let before = column - skipped;
        let room = shown.chars().count().saturating_sub(before);
        Some(Self { line: printable(&shown), before, width: place.width.min(room).max(1) })
    }
}

/// The lines of a text as YAML counts them: a carriage return alone ends one too, and a byte order mark has
/// no column.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = &str> {
    let text = text.trim_start_matches('\u{feff}');
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let here = rest?;
        let Some(end) = here.find(['\r', '\n']) else {
            rest = None;
            return Some(here);
        };
        let length = if here[end..].starts_with("\r\n") { 2 } else { 1 };
        rest = Some(&here[end + length..]);
        Some(&here[..end])
    })
}

/// Somebody's text as it may stand in a message: quoted, without control characters, not too long.
pub(crate) fn quote(text: &str) -> String {
    format!("{:?}", crop(text))
}

/// The beginning of somebody's text.
pub(crate) fn crop(text: &str) -> String {
    let mut cropped: String = text.chars().take(QUOTE_CHARS_MAX).collect();
    if cropped.len() < text.len() {
        cropped.push('…');
    }
    cropped
}

/// The same number of characters, none of which a terminal obeys.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c == '\t' { ' ' } else { c }).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

impl std::error::Error for Faults {}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{}:{fault}", self.file)?;
        }
        match self.untold {
            0 => Ok(()),
            untold => write!(f, "\nand {untold} more"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.line, self.column)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        write!(f, "{}", self.message)?;
        let Some(Snippet { line, before, width }) = &self.snippet else { return Ok(()) };
        write!(f, "\n{:>5} | {line}\n      | {}{}", self.line, " ".repeat(*before), "^".repeat(*width))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_shown_is_the_line_meant() {
        for (text, expected) in [
            ("a: 1\nb: [", "b: [\n      |   ^^"),
            ("a: 1\r\nb: [", "b: [\n      |   ^^"),
            ("a: 1\rb: [", "b: [\n      |   ^^"),
            ("\u{feff}a: 1\n\tb\u{1b}[", " b\u{fffd}[\n      |   ^^"),
        ] {
            let place = Place { line: 2, column: 3, width: 2 };
            let shown = Fault::shown(text, place, "", "wrong").to_string();
            assert_eq!(shown, format!("2:3: wrong\n    2 | {expected}"), "{text:?}");
        }
        assert_eq!(lines("").count(), 1);
        assert_eq!(lines("a\n\nb\r\n").collect::<Vec<_>>(), ["a", "", "b", ""]);
    }

    #[test]
    fn a_long_file_of_faults_is_told_in_part() {
        let fault = |line| Fault::hidden(Place { line, column: 1, width: 1 }, "x", "wrong");
        let told = Faults::new("a.yaml", (1..=30).rev().map(fault).collect()).to_string();
        assert!(told.starts_with("a.yaml:1:1: x: wrong\na.yaml:2:1: x: wrong\n"), "{told}");
        assert!(told.ends_with("a.yaml:20:1: x: wrong\nand 10 more"), "{told}");
    }
}
