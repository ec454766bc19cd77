//! The last lines of an output, fit to be shown in a terminal.

use super::LOG_LINE_CHARS_MAX;
use std::collections::VecDeque;

/// Four bytes is the longest character, so a cut line is never short of characters.
const LINE_BYTES_MAX: usize = LOG_LINE_CHARS_MAX * 4;

/// Keeps the last lines of what is pushed, each cut to its limit as it comes, so that no output makes it
/// large.
pub(super) struct Tail {
    most: usize,
    lines: VecDeque<String>,
    open: Vec<u8>,
}

impl Tail {
    pub(super) fn new(most: usize) -> Self {
        Self { most, lines: VecDeque::new(), open: Vec::new() }
    }

    pub(super) fn push(&mut self, part: &[u8]) {
        let mut pieces = part.split(|byte| *byte == b'\n').peekable();
        while let Some(piece) = pieces.next() {
            let room = LINE_BYTES_MAX - self.open.len();
            self.open.extend_from_slice(&piece[..piece.len().min(room)]);
            if pieces.peek().is_some() {
                self.close();
            }
        }
    }

    pub(super) fn finish(mut self) -> Vec<String> {
        if !self.open.is_empty() {
            self.close();
        }
        self.lines.into()
    }

    fn close(&mut self) {
        let line = std::mem::take(&mut self.open);
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        let shown = |c: char| match c {
            '\t' => ' ',
            c if c.is_control() => char::REPLACEMENT_CHARACTER,
            c => c,
        };
        self.lines.push_back(String::from_utf8_lossy(line).chars().map(shown).take(LOG_LINE_CHARS_MAX).collect());
        if self.lines.len() > self.most {
            self.lines.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(most: usize, parts: &[&[u8]]) -> Vec<String> {
        let mut tail = Tail::new(most);
        parts.iter().for_each(|part| tail.push(part));
        tail.finish()
    }

    #[test]
    fn joins_parts_and_keeps_the_last() {
        assert_eq!(tail(2, &[b"one\ntw", b"o\r\nthr", b"ee"]), ["two", "three"]);
        assert_eq!(tail(2, &[]), Vec::<String>::new());
        assert_eq!(tail(2, &[b"\n\n"]), ["", ""]);
        assert_eq!(tail(0, &[b"one\n"]), Vec::<String>::new());
    }

    #[test]
    fn long_lines_are_cut_and_control_characters_replaced() {
        let long = "ä".repeat(LOG_LINE_CHARS_MAX + 100);
        let lines = tail(9, &[long.as_bytes(), long.as_bytes(), b"\n\x1b[31mred\ttext\xff\n"]);
        assert_eq!(lines[0], "ä".repeat(LOG_LINE_CHARS_MAX));
        assert_eq!(lines[1], "\u{fffd}[31mred text\u{fffd}");
    }
}
