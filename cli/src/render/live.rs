//! Draws frames over one another on a terminal. Each drawing is one write that leaves the terminal as it was:
//! there is nothing to put right if the program is killed.

use super::frame::Size;
use super::line::Line;
use std::io::Write;

/// Between these the terminal shows nothing half-drawn. Terminals that do not know them ignore them.
const SYNC_ON: &str = "\u{1b}[?2026h";
const SYNC_OFF: &str = "\u{1b}[?2026l";
/// A line that is wider than we think must not become two, or the next frame would start too low.
const WRAP_OFF: &str = "\u{1b}[?7l";
const WRAP_ON: &str = "\u{1b}[?7h";
const CLEAR_TO_LINE_END: &str = "\u{1b}[K";
const CLEAR_BELOW: &str = "\u{1b}[J";

/// A place on the terminal where frames are drawn.
#[derive(Debug)]
pub struct Canvas<W> {
    terminal: W,
    colour: bool,
    drawn: Vec<Line>,
}

impl<W: Write> Canvas<W> {
    /// Starts at the cursor, which stands at the beginning of a line.
    pub fn new(terminal: W, colour: bool) -> Self {
        Self { terminal, colour, drawn: Vec::new() }
    }

    /// Draws a frame over the last one. Writes nothing if it is the same.
    pub fn draw(&mut self, frame: Vec<Line>, size: Size) {
        if frame != self.drawn {
            self.replace(&[], frame, size);
        }
    }

    /// Puts lines that stay above the frame.
    pub fn note(&mut self, lines: &[Line], size: Size) {
        let frame = self.drawn.clone();
        self.replace(lines, frame, size);
    }

    /// Takes the frame away.
    pub fn clear(&mut self, size: Size) {
        if !self.drawn.is_empty() {
            self.replace(&[], Vec::new(), size);
        }
    }

    fn replace(&mut self, notes: &[Line], frame: Vec<Line>, size: Size) {
        let mut text = format!("{SYNC_ON}{WRAP_OFF}\r");
        let up = up(self.rows_drawn(size.columns));
        text.push_str(&up);
        if frame.is_empty() || !notes.is_empty() {
            // Line by line: what is cleared in one go from the top of the screen, some terminals keep as history.
            let wiped = format!("{CLEAR_TO_LINE_END}\n").repeat(self.rows_drawn(size.columns));
            text.push_str(&format!("{wiped}{up}"));
        }
        if !notes.is_empty() {
            text.push_str(WRAP_ON);
            for line in notes {
                text.push_str(&format!("{}\n", line.painted(self.colour)));
            }
            text.push_str(WRAP_OFF);
        }
        for line in &frame {
            text.push_str(&format!("{}{CLEAR_TO_LINE_END}\n", line.painted(self.colour)));
        }
        let below = if frame.is_empty() { "" } else { CLEAR_BELOW };
        text.push_str(&format!("{below}{WRAP_ON}{SYNC_OFF}"));
        // A terminal that is gone ends nothing: the deployment goes on, and so does the wait for its result.
        drop(self.terminal.write_all(text.as_bytes()).and_then(|()| self.terminal.flush()));
        self.drawn = frame;
    }

    /// A terminal made narrower since then has broken lines that were too wide for it.
    fn rows_drawn(&self, columns: usize) -> usize {
        self.drawn.iter().map(|line| line.columns().max(1).div_ceil(columns.max(1))).sum()
    }
}

/// Zero would be taken for one.
fn up(rows: usize) -> String {
    if rows == 0 { String::new() } else { format!("\u{1b}[{rows}A") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDE: Size = Size { columns: 80, rows: 24 };

    /// Counts writes, as a terminal would see them.
    #[derive(Debug, Default)]
    struct Terminal {
        writes: Vec<String>,
    }

    impl Write for Terminal {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.writes.push(String::from_utf8(bytes.to_vec()).unwrap());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn lines(texts: &[&str]) -> Vec<Line> {
        texts.iter().map(|text| Line::of(text)).collect()
    }

    #[test]
    fn one_write_a_change_and_none_without() {
        let mut canvas = Canvas::new(Terminal::default(), false);
        canvas.draw(lines(&["one", "two"]), WIDE);
        canvas.draw(lines(&["one", "two"]), WIDE);
        canvas.draw(lines(&["one"]), WIDE);
        canvas.note(&lines(&["a note"]), WIDE);
        canvas.clear(WIDE);
        canvas.clear(WIDE);
        let on = "\u{1b}[?2026h\u{1b}[?7l\r";
        let off = "\u{1b}[J\u{1b}[?7h\u{1b}[?2026l";
        let expected = [
            format!("{on}one\u{1b}[K\ntwo\u{1b}[K\n{off}"),
            format!("{on}\u{1b}[2Aone\u{1b}[K\n{off}"),
            format!("{on}\u{1b}[1A\u{1b}[K\n\u{1b}[1A\u{1b}[?7ha note\n\u{1b}[?7lone\u{1b}[K\n{off}"),
            format!("{on}\u{1b}[1A\u{1b}[K\n\u{1b}[1A\u{1b}[?7h\u{1b}[?2026l"),
        ];
        assert_eq!(canvas.terminal.writes, expected);
    }

    /// 30 characters drawn, then the terminal shrinks to 12: they take three rows.
    #[test]
    fn a_narrower_terminal_has_broken_our_lines() {
        let mut canvas = Canvas::new(Terminal::default(), false);
        canvas.draw(lines(&[&"x".repeat(30), "", "y"]), WIDE);
        canvas.draw(lines(&["z"]), Size { columns: 12, rows: 24 });
        assert!(canvas.terminal.writes[1].contains("\u{1b}[5A"), "{:?}", canvas.terminal.writes[1]);
    }
}
