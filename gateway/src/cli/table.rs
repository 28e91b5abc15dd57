//! Tables: three spaces between columns, a dashed line under the header and, where there is one, over the footer. Numbers
//! stand at the right with their thousands separated; the contract's tables are left-aligned plain digits where no terminal
//! shows them.

use agentledger_ledger::Usd;

use super::style::{Style, Tone, printable};
use crate::control::contract_forms::fixed;
use crate::thousands::thousands;

const GAP: &str = "   ";
/// Narrower a column of texts is not made.
const TEXT_WIDTH_MIN: usize = 12;
/// Decimals of money where nothing else is said.
const USD_PLACES: u32 = 4;

/// What stands in one place of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    Text(String),
    /// A word that says how something stands.
    State(String, Tone),
    Count(i128),
    /// A number whose digits are all shown.
    Digits(String),
    /// Dollars, with so many decimals.
    Usd(Usd, u32),
}

impl Cell {
    fn is_number(&self) -> bool {
        matches!(self, Cell::Count(_) | Cell::Digits(_) | Cell::Usd(..))
    }

    fn tone(&self) -> Option<Tone> {
        match self {
            Cell::State(_, tone) => Some(*tone),
            _ => None,
        }
    }

    fn shown(&self, separated: bool) -> String {
        let digits = |number: String| if separated { thousands(number) } else { number };
        match self {
            Cell::Text(text) | Cell::State(text, _) => printable(text),
            Cell::Count(count) => digits(count.to_string()),
            Cell::Digits(number) => printable(&digits(number.clone())),
            Cell::Usd(usd, places) => {
                let number = digits(fixed(*usd, *places));
                number
                    .strip_prefix('-')
                    .map_or_else(|| format!("${number}"), |rest| format!("-${rest}"))
            }
        }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Cell {
        Cell::Text(text)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Cell {
        Cell::Text(text.to_owned())
    }
}

impl From<u64> for Cell {
    fn from(count: u64) -> Cell {
        Cell::Count(count.into())
    }
}

impl From<i64> for Cell {
    fn from(count: i64) -> Cell {
        Cell::Count(count.into())
    }
}

impl From<Usd> for Cell {
    fn from(usd: Usd) -> Cell {
        Cell::Usd(usd, USD_PLACES)
    }
}

/// Rows of cells. Every row has as many as the header.
pub struct Table {
    header: Vec<String>,
    rows: Vec<Vec<Cell>>,
    footer: Option<Vec<Cell>>,
}

impl Table {
    pub fn new<S: Into<String>>(header: impl IntoIterator<Item = S>) -> Table {
        Table {
            header: header.into_iter().map(Into::into).collect(),
            rows: Vec::new(),
            footer: None,
        }
    }

    pub fn row<C: Into<Cell>>(&mut self, cells: impl IntoIterator<Item = C>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    pub fn footer(&mut self, cells: Vec<Cell>) {
        self.footer = Some(cells);
    }

    /// As people read it.
    pub fn render(&self, style: Style) -> String {
        self.drawn(style, true)
    }

    /// As the contract has it, for programs that read it; on a terminal as the others.
    pub fn render_contract(&self, style: Style) -> String {
        self.drawn(style, style.terminal)
    }

    fn drawn(&self, style: Style, aligned: bool) -> String {
        let mut columns: Vec<Column> = (0..self.header.len()).map(|at| self.column(at, aligned)).collect();
        if let Some(width) = style.width.filter(|_| aligned && style.terminal) {
            fit(&mut columns, width);
        }
        let header: Vec<Cell> = self.header.iter().map(|name| Cell::Text(name.clone())).collect();
        let dashes: Vec<Cell> = columns.iter().map(|column| "-".repeat(column.width).into()).collect();
        let mut out = String::new();
        let mut line = |cells: &[Cell], tone: Option<Tone>| {
            out.push_str(&drawn_line(cells, &columns, tone, style, aligned));
        };
        line(&header, Some(Tone::Strong));
        line(&dashes, Some(Tone::Faint));
        for row in &self.rows {
            line(row, None);
        }
        if let Some(footer) = &self.footer {
            line(&dashes, Some(Tone::Faint));
            line(footer, Some(Tone::Strong));
        }
        out
    }

    fn column(&self, at: usize, aligned: bool) -> Column {
        let cells = || self.rows.iter().chain(&self.footer).filter_map(|row| row.get(at));
        let header = self.header.get(at).map_or(0, |name| name.chars().count());
        let widths = cells().map(|cell| cell.shown(aligned).chars().count());
        Column {
            width: widths.max().unwrap_or(0).max(header),
            right: aligned && cells().any(Cell::is_number),
        }
    }
}

struct Column {
    width: usize,
    right: bool,
}

/// Narrows the widest columns of texts until a line has `width` characters, as far as they stay readable. Numbers are whole or
/// they are wrong, and so is what names a row, the first column: people copy it into the next command.
fn fit(columns: &mut [Column], width: usize) {
    let gaps = GAP.len() * columns.len().saturating_sub(1);
    let mut over = (columns.iter().map(|column| column.width).sum::<usize>() + gaps).saturating_sub(width);
    while over > 0 {
        let texts = columns
            .iter_mut()
            .skip(1)
            .filter(|column| !column.right && column.width > TEXT_WIDTH_MIN);
        let Some(widest) = texts.max_by_key(|column| column.width) else {
            return;
        };
        widest.width -= 1;
        over -= 1;
    }
}

/// The text, or its beginning where the column is narrower.
fn within(text: String, width: usize) -> String {
    if text.chars().count() <= width {
        return text;
    }
    let beginning: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{}…", beginning.trim_end())
}

fn drawn_line(cells: &[Cell], columns: &[Column], tone: Option<Tone>, style: Style, aligned: bool) -> String {
    let mut out = String::new();
    // Blanks are held back until something follows them: no line ends in any.
    let mut blanks = 0;
    for (cell, column) in cells.iter().zip(columns) {
        let text = within(cell.shown(aligned), column.width);
        let pad = column.width.saturating_sub(text.chars().count());
        blanks += if column.right { pad } else { 0 };
        if !text.is_empty() {
            out.push_str(&" ".repeat(blanks));
            blanks = 0;
            match cell.tone().or(tone) {
                Some(tone) => out.push_str(&style.paint(tone, &text)),
                None => out.push_str(&text),
            }
        }
        blanks += if column.right { 0 } else { pad } + GAP.len();
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn sums() -> Table {
        let mut table = Table::new(["A", "LONG HEADER", "COST", "C"]);
        table.row::<Cell>(vec![
            "wide cell".into(),
            1_234_567u64.into(),
            Usd::from_nanos(1_234_500_000_000).into(),
            "x".into(),
        ]);
        table.row::<Cell>(vec![
            "".into(),
            7u64.into(),
            Usd::from_nanos(-20_000_000).into(),
            "".into(),
        ]);
        table.footer(vec!["TOTAL".into(), "".into(), "-".into(), "y".into()]);
        table
    }

    #[test]
    fn numbers_stand_at_the_right_with_their_thousands_separated() {
        let expected = "\
A           LONG HEADER          COST   C
---------   -----------   -----------   -
wide cell     1,234,567   $1,234.5000   x
                      7      -$0.0200
---------   -----------   -----------   -
TOTAL                               -   y
";
        assert_eq!(sums().render(Style::PLAIN), expected);
    }

    #[test]
    fn the_contracts_tables_are_left_aligned_for_programs_and_as_the_others_on_a_terminal() {
        let expected = "\
A           LONG HEADER   COST         C
---------   -----------   ----------   -
wide cell   1234567       $1234.5000   x
            7             -$0.0200
---------   -----------   ----------   -
TOTAL                     -            y
";
        assert_eq!(sums().render_contract(Style::PLAIN), expected);
        let terminal = Style {
            terminal: true,
            colour: false,
            width: None,
        };
        assert_eq!(sums().render_contract(terminal), sums().render(Style::PLAIN));
    }

    #[test]
    fn colour_adds_nothing_but_its_codes() {
        let coloured = Style {
            terminal: true,
            colour: true,
            width: None,
        };
        let mut table = sums();
        table.row::<Cell>(vec![
            Cell::State("open".into(), Tone::Bad),
            1u64.into(),
            "".into(),
            "".into(),
        ]);
        let text = table.render(coloured);
        assert!(text.contains("\u{1b}[31mopen\u{1b}[0m"), "{text}");
        let mut bare = text;
        for code in ["1", "2", "31", "0"] {
            bare = bare.replace(&format!("\u{1b}[{code}m"), "");
        }
        assert_eq!(bare, table.render(Style::PLAIN));
    }

    #[test]
    fn names_cannot_break_the_table() {
        let mut table = Table::new(["A"]);
        table.row(["a\u{1b}[2J\nb"]);
        assert_eq!(table.render(Style::PLAIN).lines().last(), Some("a?[2J?b"));
        table.row(["日本語"]);
        assert_eq!(table.column(0, true).width, 7);
    }

    #[test]
    fn a_table_fits_its_terminal_as_far_as_its_texts_can_be_shortened() {
        let mut table = Table::new(["NAME", "COUNT", "NOTE"]);
        table.row::<Cell>(vec![
            "a-name-of-twenty-two-c".into(),
            1_234_567u64.into(),
            "short".into(),
        ]);
        table.row::<Cell>(vec![
            "b".into(),
            7u64.into(),
            "a note that goes on and on and on".into(),
        ]);
        let at = |width| {
            table.render(Style {
                terminal: true,
                colour: false,
                width: Some(width),
            })
        };
        let widest = |text: &str| text.lines().map(|line| line.chars().count()).max();
        assert_eq!(at(200), table.render(Style::PLAIN));
        let narrow = at(50);
        assert_eq!(widest(&narrow), Some(50), "{narrow}");
        assert!(
            narrow.contains("1,234,567")
                && narrow.contains("a-name-of-twenty-two-c")
                && narrow.contains("a note that…"),
            "{narrow}"
        );
        assert_eq!(widest(&at(10)), Some(22 + 3 + 9 + 3 + 12));
        // In a pipe nothing is shortened.
        let piped = Style {
            width: Some(10),
            ..Style::PLAIN
        };
        assert_eq!(table.render(piped), table.render(Style::PLAIN));
    }

    #[test]
    fn money_is_rounded_half_up_and_never_minus_zero() {
        assert_eq!(fixed(Usd::from_nanos(50_000), 4), "0.0001");
        assert_eq!(fixed(Usd::from_nanos(49_999), 4), "0.0000");
        assert_eq!(fixed(Usd::from_nanos(-49_999), 4), "0.0000");
        assert_eq!(fixed(Usd::from_nanos(-1_500_000_000), 4), "-1.5000");
        assert_eq!(fixed(Usd::from_nanos(1_000_000_500), 6), "1.000001");
        assert_eq!(fixed(Usd::from_nanos(i64::MAX), 6), "9223372036.854776");
    }
}
