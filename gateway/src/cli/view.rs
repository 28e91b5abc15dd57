//! How the results of methods are shown: lists as tables, single things a field a line. The results themselves are taken as
//! JSON, so that a gateway of another version is shown as far as it is understood.

use agentledger_ledger::Usd;
use serde_json::{Map, Value};

use super::CliError;
use super::client::Client;
use super::style::{Style, Tone, printable};
use super::table::{Cell, Table};

/// How one list is shown.
pub struct View {
    /// The field of the result that has the rows.
    pub rows: &'static str,
    pub columns: &'static [Column],
    /// Printed where there are none.
    pub nothing: &'static str,
    /// The parameter that takes `next` of the page before; empty where there are no pages.
    pub next: &'static str,
}

/// The `next` of pages that follow each other in time: it takes the place of `last`.
pub const FROM: &str = "from";

/// A column: its header, the field of a row, and what that is. One that no row has anything in is left out.
pub struct Column(pub &'static str, pub &'static str, pub Is);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Is {
    Text,
    /// A word that says how something stands.
    State,
    /// A number, or how many there are.
    Count,
    /// Decimal text in dollars.
    Usd,
    /// Whatever it is, in one line.
    Json,
}

impl View {
    /// A list within a larger text, which leaves it out where there is nothing.
    pub const fn within(rows: &'static str, columns: &'static [Column]) -> View {
        View {
            rows,
            columns,
            nothing: "",
            next: "",
        }
    }

    /// A list of nothing, as the method would give it.
    pub fn none(&self) -> Value {
        let rows = (self.rows.to_owned(), Value::Array(Vec::new()));
        let next = (!self.next.is_empty()).then(|| ("next".to_owned(), Value::Null));
        Value::Object([rows].into_iter().chain(next).collect())
    }

    /// The table, with its last line break.
    pub fn table(&self, result: &Value, style: Style) -> String {
        let rows = rows(result, self.rows);
        if rows.is_empty() {
            return format!("{}\n", self.nothing);
        }
        let is_there = |column: &&Column| rows.iter().any(|row| !is_empty(field(row, column.1)));
        let columns: Vec<&Column> = self.columns.iter().filter(is_there).collect();
        let mut table = Table::new(columns.iter().map(|column| column.0));
        for row in rows {
            let cells = columns.iter().map(|column| cell(field(row, column.1), column.2));
            table.row(cells.map(|cell| if style.terminal { with_short_time(cell) } else { cell }));
        }
        table.render(style)
    }
}

pub(super) fn rows<'v>(result: &'v Value, name: &str) -> &'v [Value] {
    result.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A field of a row, `a.b` within another.
pub(super) fn field<'v>(row: &'v Value, path: &str) -> &'v Value {
    let found = path.split('.').try_fold(row, |value, name| value.get(name));
    found.unwrap_or(&Value::Null)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

fn cell(value: &Value, is: Is) -> Cell {
    match (is, value) {
        (_, Value::Null) => Cell::Text(String::new()),
        (Is::Usd, Value::String(text)) => text.parse::<Usd>().map_or_else(|_| text.as_str().into(), Cell::from),
        (Is::Count, Value::Number(number)) => match number.as_i128() {
            Some(count) => Cell::Count(count),
            None => number.to_string().into(),
        },
        (Is::Count, Value::Array(items)) => Cell::Count(items.len().try_into().unwrap_or(i128::MAX)),
        (Is::State, value) => state(&line(value)),
        (_, value) => line(value).into(),
    }
}

/// A moment in UTC to the second, as people read it.
pub fn with_short_time(cell: Cell) -> Cell {
    match cell {
        Cell::Text(text) => Cell::Text(short_time(&text).unwrap_or(text)),
        other => other,
    }
}

/// `2026-11-29 10:00:00` of `2026-11-29T10:00:00.000Z`; `None`: it is none.
fn short_time(text: &str) -> Option<String> {
    let (seconds, rest) = text.split_at_checked(19)?;
    let (day, time) = seconds.split_once('T')?;
    let is_utc = rest.starts_with('.') && rest.ends_with('Z') && rest.len() == 5;
    let is_time = |text: &str, mark| text.chars().all(|one| one.is_ascii_digit() || one == mark);
    (is_utc && is_time(day, '-') && is_time(time, ':')).then(|| format!("{day} {time}"))
}

/// A word that says how something stands, coloured by what it means to whoever reads it.
pub fn state(word: &str) -> Cell {
    let tone = match word {
        "active" | "closed" | "enforce" | "sound" | "yes" | "ready" => Tone::Good,
        "shadow" | "half_open" | "behind" | "warning" | "watch" => Tone::Warning,
        "open" | "off" | "killed" | "blocked" | "critical" | "ahead" | "no" => Tone::Bad,
        _ => return word.into(),
    };
    Cell::State(word.to_owned(), tone)
}

/// A name that clients may leave out.
pub fn named(name: &str) -> String {
    if name.is_empty() {
        "(none)".to_owned()
    } else {
        name.to_owned()
    }
}

/// A value in one line: texts as they are, lists with commas, objects as JSON.
fn line(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Array(items) if items.iter().all(|item| !item.is_object() && !item.is_array()) => {
            items.iter().map(line).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

/// Each field on a line of its own, empty ones left out; texts of several lines come last, whole.
pub fn fields(value: &Value, style: Style) -> String {
    let Value::Object(fields) = value else {
        return format!("{}\n", line(value));
    };
    let shown = || fields.iter().filter(|(_, value)| !is_empty(value));
    let is_long = |value: &Value| value.as_str().is_some_and(|text| text.contains('\n'));
    let width = shown().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let mut out = String::new();
    for (name, value) in shown().filter(|(_, value)| !is_long(value)) {
        let name = style.paint(Tone::Strong, &format!("{name:<width$}"));
        out.push_str(&format!("{name}   {}\n", printable(&line(value))));
    }
    for (name, value) in shown().filter(|(_, value)| is_long(value)) {
        let text = value.as_str().unwrap_or_default();
        let lines: Vec<String> = text.lines().map(|line| format!("  {}", printable(line))).collect();
        out.push_str(&format!("{}\n{}\n", style.paint(Tone::Strong, name), lines.join("\n")));
    }
    out
}

/// All pages of a list as one result. The parameter `limit` bounds the rows of all of them together.
pub fn pages(client: &Client, method: &str, mut params: Map<String, Value>, view: &View) -> Result<Value, CliError> {
    let limit = params.get("limit").and_then(Value::as_u64);
    let mut all: Vec<Value> = Vec::new();
    loop {
        if let Some(limit) = limit {
            params.insert("limit".to_owned(), limit.saturating_sub(all.len() as u64).into());
        }
        let mut page: Value = client.call(method, &params)?;
        let next = page.get("next").cloned().unwrap_or_default();
        if let Some(Value::Array(rows)) = page.get_mut(view.rows) {
            all.append(rows);
        }
        let is_full = limit.is_some_and(|limit| all.len() as u64 >= limit);
        if next.is_null() || is_full {
            let mut whole = match page {
                Value::Object(fields) => fields,
                _ => Map::new(),
            };
            whole.insert(view.rows.to_owned(), Value::Array(all));
            return Ok(Value::Object(whole));
        }
        if view.next == FROM {
            params.remove("last");
        }
        params.insert(view.next.to_owned(), next);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use serde_json::json;

    use super::*;

    const VIEW: View = View {
        rows: "things",
        columns: &[
            Column("ID", "id", Is::Text),
            Column("STATE", "state", Is::State),
            Column("CALLS", "sums.calls", Is::Count),
            Column("COST (USD)", "cost_usd", Is::Usd),
            Column("NOTE", "note", Is::Text),
            Column("TAGS", "tags", Is::Json),
        ],
        nothing: "No thing.",
        next: "after",
    };

    #[test]
    fn a_list_is_a_table_of_the_columns_that_have_anything() {
        let result = json!({"things": [
            {"id": "a", "state": "open", "sums": {"calls": 12_345}, "cost_usd": "1234.5", "note": "", "tags": []},
            {"id": "b\n", "state": "odd", "sums": {"calls": 7}, "cost_usd": "0.00001", "note": null},
        ], "next": null});
        let expected = "\
ID   STATE    CALLS    COST (USD)
--   -----   ------   -----------
a    open    12,345   $1,234.5000
b?   odd          7       $0.0000
";
        assert_eq!(VIEW.table(&result, Style::PLAIN), expected);
        assert_eq!(VIEW.table(&VIEW.none(), Style::PLAIN), "No thing.\n");
        assert_eq!(VIEW.none(), json!({"things": [], "next": null}));
    }

    #[test]
    fn moments_are_short_on_terminals() {
        assert_eq!(
            short_time("2026-11-29T10:00:01.234Z").as_deref(),
            Some("2026-11-29 10:00:01")
        );
        for text in [
            "",
            "2026-11-29",
            "a-name-that-has-TwentyFour",
            "2026-11-29T10:00:01.2345Z",
        ] {
            assert_eq!(short_time(text), None, "{text}");
        }
    }

    #[test]
    fn a_single_thing_has_a_line_for_each_field_and_long_texts_at_its_end() {
        let value =
            json!({"source": "one\ntwo", "name": "budget", "phases": ["request", "answer"], "on": true, "none": ""});
        let shown = fields(&value, Style::PLAIN);
        for line in ["name     budget\n", "on       yes\n", "phases   request, answer\n"] {
            assert!(shown.contains(line), "{shown}");
        }
        assert!(
            shown.ends_with("source\n  one\n  two\n") && !shown.contains("none"),
            "{shown}"
        );
    }
}
