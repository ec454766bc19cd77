//! Columns that line up.

use super::line::{Line, Tone};

/// Between two columns.
const GAP: usize = 2;

/// Where a column's text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A table with a heading. A column without any text is left out.
#[derive(Debug)]
pub struct Table {
    columns: Vec<(&'static str, Side)>,
    rows: Vec<Vec<Line>>,
}

impl Table {
    /// No rows yet.
    pub fn new(columns: &[(&'static str, Side)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row, a cell a column; missing cells are empty.
    pub fn row(&mut self, cells: Vec<Line>) {
        self.rows.push(cells);
    }

    /// The heading, then a line a row, each behind `indent` spaces.
    pub fn lines(&self, indent: usize) -> Vec<Line> {
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|column| self.rows.iter().filter_map(|row| row.get(column)).map(Line::columns).max().unwrap_or(0))
            .collect();
        let heading = self.columns.iter().map(|(name, _)| Line::new().with(Tone::Faint, name)).collect();
        std::iter::once(&heading).chain(&self.rows).map(|row| self.line(row, &widths, indent)).collect()
    }

    fn line(&self, row: &[Line], widths: &[usize], indent: usize) -> Line {
        let mut line = Line::of(&" ".repeat(indent));
        let mut gap = 0;
        for (column, (name, side)) in self.columns.iter().enumerate().filter(|(column, _)| widths[*column] > 0) {
            let width = widths[column].max(name.len());
            let cell = row.get(column).cloned().unwrap_or_default();
            line = line.with(Tone::Plain, &" ".repeat(gap));
            line = match side {
                Side::Left => line.followed_by(cell.padded_to(width)),
                Side::Right => {
                    line.with(Tone::Plain, &" ".repeat(width.saturating_sub(cell.columns()))).followed_by(cell)
                }
            };
            gap = GAP;
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_empty_ones_are_gone() {
        let mut table =
            Table::new(&[("HOST", Side::Left), ("TOOK", Side::Right), ("EMPTY", Side::Left), ("WHY", Side::Left)]);
        table.row(vec![Line::of("web-1"), Line::of("1.2 s"), Line::new(), Line::of("because")]);
        table.row(vec![Line::of("web-1000"), Line::of("12.2 s")]);
        let text: Vec<_> = table.lines(1).iter().map(|line| line.painted(false)).collect();
        assert_eq!(text, [" HOST        TOOK  WHY", " web-1      1.2 s  because", " web-1000  12.2 s"]);
    }
}
