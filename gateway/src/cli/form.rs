//! In which form results are printed: tables for people; JSON, JSON lines and CSV for programs.

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::view::{Column, field, rows};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// For people
    Table,
    /// The same columns under the names of their fields
    Csv,
    /// Each row as a JSON object on a line of its own
    Jsonl,
    /// The result as it came
    Json,
}

/// Of every command that has a result.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct FormArgs {
    /// Print the result as it is, JSON
    #[arg(long, global = true)]
    json: bool,
    /// table, csv, jsonl (each row on a line) or json
    #[arg(
        short,
        long,
        global = true,
        value_name = "FORM",
        value_enum,
        hide_possible_values = true
    )]
    format: Option<Form>,
}

impl FormArgs {
    #[cfg(test)]
    pub fn of(form: Form) -> FormArgs {
        FormArgs {
            json: false,
            format: Some(form),
        }
    }

    /// The form that was asked for, if any.
    pub fn form(self) -> Option<Form> {
        self.format.or(self.json.then_some(Form::Json))
    }

    /// A result that was found without a gateway, and is no list; `told` words it for people.
    pub fn one(self, result: &Value, told: impl FnOnce() -> String) -> String {
        match self.form() {
            None | Some(Form::Table) => told(),
            Some(Form::Json | Form::Jsonl) => format!("{result}\n"),
            Some(Form::Csv) => fields_csv(result),
        }
    }

    /// The same of one whose rows are a list of it.
    pub fn list(self, result: &Value, rows: &str, columns: &[Column], told: impl FnOnce() -> String) -> String {
        match self.form() {
            None | Some(Form::Table) => told(),
            Some(Form::Json) => format!("{result}\n"),
            Some(Form::Jsonl) => jsonl(result, rows),
            Some(Form::Csv) => csv(result, rows, columns),
        }
    }
}

/// The rows of a result as CSV; columns stand whether or not anything is in them.
pub fn csv(result: &Value, list: &str, columns: &[Column]) -> String {
    let rows = rows(result, list).iter().map(|row| csv_row(row, columns));
    csv_header(columns) + &rows.collect::<String>()
}

pub fn csv_header(columns: &[Column]) -> String {
    line(columns.iter().map(|column| column.1.to_owned()))
}

pub fn csv_row(row: &Value, columns: &[Column]) -> String {
    line(columns.iter().map(|column| plain(field(row, column.1))))
}

/// The rows of a result, one a line.
pub fn jsonl(result: &Value, list: &str) -> String {
    rows(result, list).iter().map(|row| format!("{row}\n")).collect()
}

/// A result that is no list: its fields, one a line.
pub fn fields_csv(result: &Value) -> String {
    let mut out = line(["field", "value"].map(str::to_owned));
    match result {
        Value::Object(fields) => {
            let lines = fields.iter().map(|(name, value)| line([name.clone(), plain(value)]));
            out.extend(lines);
        }
        other => out.push_str(&line(["".to_owned(), plain(other)])),
    }
    out
}

/// One line of CSV.
pub fn line(cells: impl IntoIterator<Item = String>) -> String {
    let cells: Vec<String> = cells.into_iter().map(|cell| quoted(&cell)).collect();
    cells.join(",") + "\n"
}

fn quoted(cell: &str) -> String {
    if cell.contains([',', '"', '\r', '\n']) || cell.starts_with([' ', '\t']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.to_owned()
    }
}

/// A value as programs read it: texts as they are, lists and objects as JSON.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use serde_json::json;

    use super::super::view::Is;
    use super::*;

    #[test]
    fn rows_are_lines_under_the_names_of_their_fields() {
        let columns = [
            Column("NAME", "name", Is::Text),
            Column("CALLS", "sums.calls", Is::Count),
            Column("NOTE", "note", Is::Text),
            Column("LIST", "list", Is::Json),
        ];
        let result = json!({"things": [
            {"name": "a, \"b\"", "sums": {"calls": 12_345}, "list": ["x", 1]},
            {"name": "c\nd", "sums": {"calls": 0}, "note": null, "list": []},
        ]});
        let expected = "name,sums.calls,note,list\n\"a, \"\"b\"\"\",12345,,\"[\"\"x\"\",1]\"\n\"c\nd\",0,,[]\n";
        assert_eq!(csv(&result, "things", &columns), expected);
        assert_eq!(csv(&json!({}), "things", &columns), "name,sums.calls,note,list\n");
        assert_eq!(jsonl(&result, "things").lines().count(), 2);
        assert_eq!(
            fields_csv(&json!({"a": 1, "b": "x,y"})),
            "field,value\na,1\nb,\"x,y\"\n"
        );
    }
}
