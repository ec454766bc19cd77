//! A terminal, as far as `bgctl` uses one: it knows the sequences that may come, and none other.

/// What a person sees, and what has scrolled out of sight.
#[derive(Debug)]
pub struct Screen {
    columns: usize,
    rows: usize,
    /// From the first line ever written.
    lines: Vec<Vec<char>>,
    row: usize,
    column: usize,
    wraps: bool,
    /// Between the marks of a synchronised drawing nothing is shown.
    drawing: bool,
}

impl Screen {
    /// The cursor stands on the last row, under the lines of earlier commands.
    pub fn new(columns: usize, rows: usize) -> Self {
        let lines: Vec<Vec<char>> = (1..rows).map(|_| "$ earlier".chars().collect()).chain([vec![]]).collect();
        Self { columns, rows, row: rows - 1, lines, column: 0, wraps: true, drawing: false }
    }

    /// Shows a text. `seen` looks at the screen after each drawing.
    pub fn show(&mut self, text: &str, mut seen: impl FnMut(&Self)) {
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            match c {
                '\r' => self.column = 0,
                '\n' => self.line_feed(),
                '\u{1b}' => {
                    assert_eq!(rest.next(), Some('['), "only control sequences are known");
                    let mut parameters = String::new();
                    let last = loop {
                        match rest.next().expect("a whole sequence") {
                            c @ ('0'..='9' | ';' | '?') => parameters.push(c),
                            last => break last,
                        }
                    };
                    self.control(&parameters, last);
                    if (parameters.as_str(), last) == ("?2026", 'l') {
                        seen(self);
                    }
                }
                c => {
                    assert!(!c.is_control(), "{c:?} reached the terminal");
                    self.put(c);
                }
            }
        }
    }

    /// It was left as it was found.
    pub fn is_at_rest(&self) -> bool {
        self.wraps && !self.drawing && self.column == 0
    }

    /// What is below the lines of earlier commands.
    pub fn text(&self) -> String {
        let lines = self.lines.iter().map(|line| line.iter().collect::<String>());
        let own: Vec<_> = lines.filter(|line| line != "$ earlier").map(|line| line.trim_end().to_owned()).collect();
        own.join("\n").trim_end().to_owned()
    }

    /// Lines of earlier commands that are still there.
    pub fn earlier(&self) -> usize {
        self.lines.iter().filter(|line| line.iter().collect::<String>() == "$ earlier").count()
    }

    fn top(&self) -> usize {
        self.lines.len().saturating_sub(self.rows)
    }

    fn control(&mut self, parameters: &str, last: char) {
        match (parameters, last) {
            ("?2026", 'h' | 'l') => {
                assert_ne!(self.drawing, last == 'h', "drawings do not nest");
                self.drawing = last == 'h';
            }
            ("?7", 'h' | 'l') => self.wraps = last == 'h',
            ("", 'K') => self.lines[self.row].truncate(self.column),
            ("", 'J') => {
                let blank = self.lines[self.row..].iter().all(Vec::is_empty);
                assert!(self.row != self.top() || self.column != 0 || blank, "tmux would keep this as history");
                self.lines[self.row].truncate(self.column);
                // A terminal's lines below are emptied, and stay.
                for line in &mut self.lines[self.row + 1..] {
                    line.clear();
                }
            }
            (up, 'A') => {
                // Zero moves by one, as on any terminal.
                let rows: usize = up.parse().expect("a number");
                self.row = self.row.saturating_sub(rows.max(1)).max(self.top());
            }
            (_, 'm') => {}
            unknown => panic!("the terminal does not know {unknown:?}"),
        }
    }

    fn line_feed(&mut self) {
        self.row += 1;
        if self.row == self.lines.len() {
            self.lines.push(Vec::new());
        }
    }

    fn put(&mut self, c: char) {
        if self.column == self.columns && self.wraps {
            self.column = 0;
            self.line_feed();
        }
        let column = self.column.min(self.columns - 1);
        let line = &mut self.lines[self.row];
        if line.len() <= column {
            line.resize(column + 1, ' ');
        }
        line[column] = c;
        self.column = column + 1;
    }
}
