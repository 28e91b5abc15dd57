//! Rows of the price book that operators put over those of all files.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::price::{PriceBook, PriceError};

/// Where such rows say that they come from, unless they name a source of their own.
pub const SOURCE: &str = "runtime";

/// A row as its document has it.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct PriceRow {
    pub provider: String,
    /// As an item of `models` in a price file.
    pub row: Value,
}

impl PriceRow {
    /// # Errors
    /// The document is none.
    pub fn read(text: &str) -> Result<PriceRow, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    /// A price file with this row alone. JSON is YAML.
    fn file(&self) -> String {
        let mut row = self.row.clone();
        if let Value::Object(row) = &mut row {
            row.entry("source").or_insert_with(|| SOURCE.into());
        }
        json!({ "provider": self.provider, "models": [row] }).to_string()
    }
}

/// A book with the rows over it.
///
/// # Errors
/// All that is wrong with the rows.
pub fn with_rows(book: &PriceBook, rows: &BTreeMap<String, PriceRow>) -> Result<PriceBook, Vec<PriceError>> {
    if rows.is_empty() {
        return Ok(book.clone());
    }
    let files: Vec<String> = rows.values().map(PriceRow::file).collect();
    let texts: Vec<(&str, &str)> = files.iter().map(|text| (SOURCE, text.as_str())).collect();
    book.with_texts(&texts)
}
