//! One line of text: clean, of known width, coloured last.

use anstyle::{AnsiColor, Style};

/// Stands for what must not reach a terminal.
const REPLACEMENT: char = '\u{fffd}';

/// What a piece of text means to the reader; the colour follows from it. No meaning is told by colour alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Nothing special.
    Plain,
    /// As it should be.
    Good,
    /// Under way, or to be looked at.
    Busy,
    /// Wrong.
    Bad,
    /// Headings and names.
    Strong,
    /// Of less interest.
    Faint,
}

impl Tone {
    fn style(self) -> Style {
        match self {
            Self::Plain => Style::new(),
            Self::Good => AnsiColor::Green.on_default(),
            Self::Busy => AnsiColor::Yellow.on_default(),
            Self::Bad => AnsiColor::Red.on_default().bold(),
            Self::Strong => Style::new().bold(),
            Self::Faint => Style::new().dimmed(),
        }
    }
}

/// One line. Text is cleaned as it enters: control characters, and those that reverse the reading direction,
/// are replaced; line ends and tabs become spaces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Line {
    spans: Vec<(Tone, String)>,
}

impl Line {
    /// Nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Text without a special meaning.
    pub fn of(text: &str) -> Self {
        Self::new().with(Tone::Plain, text)
    }

    /// Adds text.
    pub fn with(mut self, tone: Tone, text: &str) -> Self {
        if !text.is_empty() {
            self.spans.push((tone, text.chars().map(clean).collect()));
        }
        self
    }

    /// Adds a line to this one.
    pub fn followed_by(mut self, more: Line) -> Self {
        self.spans.extend(more.spans);
        self
    }

    /// Fills up with spaces to a width in columns.
    pub fn padded_to(self, columns: usize) -> Self {
        let missing = columns.saturating_sub(self.columns());
        self.with(Tone::Plain, &" ".repeat(missing))
    }

    /// Cuts to a width in columns; `…` stands where something is missing. Spaces at the end are not missed.
    pub fn cut_to(self, columns: usize) -> Self {
        let line = self.trimmed();
        if line.columns() <= columns {
            return line;
        }
        let mut cut = Self::new();
        let mut room = columns.saturating_sub(1);
        for (tone, text) in line.spans {
            let kept: String = text
                .chars()
                .take_while(|c| {
                    let fits = width(*c) <= room;
                    room = if fits { room - width(*c) } else { 0 };
                    fits
                })
                .collect();
            cut.spans.push((tone, kept));
        }
        if columns == 0 { cut } else { cut.with(Tone::Plain, "…") }
    }

    fn trimmed(mut self) -> Self {
        while let Some((_, text)) = self.spans.last_mut() {
            text.truncate(text.trim_end().len());
            if !text.is_empty() {
                break;
            }
            self.spans.pop();
        }
        self
    }

    /// Columns on a terminal.
    pub fn columns(&self) -> usize {
        self.spans.iter().flat_map(|(_, text)| text.chars()).map(width).sum()
    }

    /// As text, without spaces at the end.
    pub fn painted(&self, colour: bool) -> String {
        let mut text = String::new();
        for (tone, span) in &self.spans {
            let style = tone.style();
            if colour && style != Style::new() && !span.trim().is_empty() {
                text.push_str(&format!("{style}{span}{style:#}"));
            } else {
                text.push_str(span);
            }
        }
        text.truncate(text.trim_end().len());
        text
    }
}

fn clean(c: char) -> char {
    match c {
        '\n' | '\r' | '\t' => ' ',
        c if is_hostile(c) => REPLACEMENT,
        c => c,
    }
}

/// Control characters, the marks, overrides and isolates of reading direction, and the separators of
/// lines and paragraphs: a log that has them can change how the rest of the screen reads.
pub fn is_hostile(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// East Asian wide characters and emoji take two columns. A mistake here costs alignment, no more: the
/// live view tells the terminal not to wrap.
fn width(c: char) -> usize {
    match u32::from(c) {
        0x1100..=0x115f | 0x2e80..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff | 0xfe30..=0xfe6f | 0xff00..=0xff60 => 2,
        0xffe0..=0xffe6 | 0x1f300..=0x1faff | 0x2_0000..=0x3_fffd => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A container's log must not be able to clear the screen, set the title or hide what follows.
    #[test]
    fn control_characters_do_not_get_through() {
        let hostile = "a\u{1b}[2Jb\u{7}c\u{9b}31md\u{202e}e\u{0}f\r\ng\th\u{7f}";
        let shown = Line::of(hostile).painted(true);
        assert_eq!(shown, "a�[2Jb�c�31md�e�f  g h�");
        assert!(!shown.contains(char::is_control));
    }

    #[test]
    fn cut_lines_fit_and_say_so() {
        let line = Line::new().with(Tone::Bad, "failed").with(Tone::Plain, " because");
        assert_eq!(line.clone().cut_to(14).painted(false), "failed because");
        assert_eq!(line.clone().cut_to(10).painted(false), "failed be…");
        assert_eq!(line.clone().cut_to(4).painted(false), "fai…");
        assert_eq!(line.clone().cut_to(0).painted(false), "");
        assert_eq!(line.padded_to(90).cut_to(14).painted(false), "failed because");
        for columns in 0..12 {
            assert!(Line::of("日本語のログ").cut_to(columns).columns() <= columns);
        }
    }

    #[test]
    fn colours_are_put_on_and_left_off() {
        let line = Line::new().with(Tone::Good, "ready").padded_to(8);
        assert_eq!(line.painted(true), "\u{1b}[32mready\u{1b}[0m");
        assert_eq!(line.painted(false), "ready");
    }
}
