//! The corpora: for each target a text file with one input a line, escaped as in a byte string of Rust, and
//! what is made of code. Lines that start with '#' are comments.

use crate::Target;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::{fs, io};

/// Everything the corpus of a target holds, each input once: those made of code, those of its file.
///
/// # Errors
/// The file cannot be read; a line that is not escaped as expected is `InvalidData` with its number.
pub fn inputs(target: &Target) -> io::Result<Vec<Vec<u8>>> {
    let mut all: BTreeSet<_> = (target.seeds)().into_iter().collect();
    all.extend(lines(target.name)?);
    Ok(all.into_iter().collect())
}

/// The hand-made texts that would change an nginx config, a URI, a header or a terminal into which they are
/// pasted.
///
/// # Errors
/// As for [`inputs`].
pub fn payloads() -> io::Result<Vec<Vec<u8>>> {
    lines("payloads")
}

/// Where the corpus of this name is kept.
pub fn file(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/corpus")).join(format!("{name}.txt"))
}

fn lines(name: &str) -> io::Result<Vec<Vec<u8>>> {
    let path = file(name);
    let fault = |what: String| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {what}", path.display()));
    let text = fs::read_to_string(&path).map_err(|error| io::Error::new(error.kind(), fault(error.to_string())))?;
    let inputs = text.lines().enumerate().filter(|(_, line)| !line.starts_with('#') && !line.is_empty());
    inputs.map(|(at, line)| unescape(line).ok_or_else(|| fault(format!("line {}: a bad escape", at + 1)))).collect()
}

/// One input as a line.
pub fn escape(input: &[u8]) -> String {
    let text = input.escape_ascii().to_string();
    match text.strip_prefix('#') {
        Some(rest) => format!("\\x23{rest}"),
        None => text,
    }
}

/// A line as the input it stands for.
pub fn unescape(line: &str) -> Option<Vec<u8>> {
    let mut bytes = line.bytes();
    let mut input = Vec::with_capacity(line.len());
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            input.push(byte);
            continue;
        }
        input.push(match bytes.next()? {
            b't' => b'\t',
            b'r' => b'\r',
            b'n' => b'\n',
            b'x' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            other @ (b'\\' | b'\'' | b'"') => other,
            _ => return None,
        });
    }
    Some(input)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_survives_the_way_into_a_line_and_back() {
        let all: Vec<u8> = (0..=255).collect();
        let line = escape(&all);
        assert_eq!(line.lines().count(), 1);
        assert_eq!(unescape(&line), Some(all));
        assert_eq!(unescape(&escape(b"#a")).as_deref(), Some(&b"#a"[..]));
        assert!(!escape(b"#a").starts_with('#'), "it would be a comment");
        assert_eq!(unescape("\\q"), None);
        assert_eq!(unescape("\\x1"), None);
    }
}
