//! Tables on a terminal: left-aligned columns, three spaces between them, a dashed line under the header and, where
//! there is one, over the footer.

use std::fmt::Write as _;

const GAP: usize = 3;

/// Rows of text. Every row has as many cells as the header.
pub struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
    footer: Option<Vec<String>>,
}

impl Table {
    pub fn new<S: Into<String>>(header: impl IntoIterator<Item = S>) -> Table {
        Table {
            header: header.into_iter().map(Into::into).collect(),
            rows: Vec::new(),
            footer: None,
        }
    }

    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    pub fn footer(&mut self, cells: Vec<String>) {
        self.footer = Some(cells);
    }

    pub fn render(&self) -> String {
        let widths: Vec<usize> = (0..self.header.len()).map(|column| self.width(column)).collect();
        let dashes: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
        let mut out = String::new();
        line(&mut out, &self.header, &widths);
        line(&mut out, &dashes, &widths);
        for row in &self.rows {
            line(&mut out, row, &widths);
        }
        if let Some(footer) = &self.footer {
            line(&mut out, &dashes, &widths);
            line(&mut out, footer, &widths);
        }
        out
    }

    fn width(&self, column: usize) -> usize {
        let rows = self.rows.iter().chain(&self.footer).chain([&self.header]);
        rows.filter_map(|row| row.get(column))
            .map(|cell| shown(cell).chars().count())
            .max()
            .unwrap_or(0)
    }
}

fn line(out: &mut String, cells: &[String], widths: &[usize]) {
    let start = out.len();
    for (cell, width) in cells.iter().zip(widths) {
        // Writing to a String cannot fail.
        let _ = write!(out, "{:<width$}{:GAP$}", shown(cell), "");
    }
    let end = out.trim_end().len().max(start);
    out.truncate(end);
    out.push('\n');
}

/// Clients name agents and models: what would move the cursor or break the line is shown as `?`.
fn shown(cell: &str) -> String {
    cell.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn cells(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn columns_are_left_aligned_with_three_spaces() {
        let mut table = Table::new(["A", "LONG HEADER", "C"]);
        table.row(cells(&["wide cell", "1", "x"]));
        table.footer(cells(&["TOTAL", "", "y"]));
        let expected = "\
A           LONG HEADER   C
---------   -----------   -
wide cell   1             x
---------   -----------   -
TOTAL                     y
";
        assert_eq!(table.render(), expected);
    }

    #[test]
    fn names_cannot_break_the_table() {
        let mut table = Table::new(["A"]);
        table.row(cells(&["a\u{1b}[2J\nb"]));
        assert_eq!(table.render().lines().last(), Some("a?[2J?b"));
        table.row(cells(&["日本語"]));
        assert_eq!(table.width(0), 7);
    }
}
