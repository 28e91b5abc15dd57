//! Answers as the contract writes them: JSON with a line's end, `null` for a list without rows, and money as numbers that were
//! never floats.

use agentledger_ledger::Usd;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::ser::Error as _;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::control::error::RpcError;

const JSON: &str = "application/json";

/// An answer whose whole text is known.
pub(super) struct Answer {
    status: StatusCode,
    content_type: &'static str,
    /// The name of the file that a browser saves.
    file: Option<&'static str>,
    text: String,
}

impl Answer {
    pub fn json(value: &impl Serialize) -> Result<Answer, RpcError> {
        let text = serde_json::to_string(value).map_err(RpcError::ledger)?;
        Ok(Answer::text(JSON, format!("{text}\n")))
    }

    /// `null` where there are no rows, as Go writes a list that was never made.
    pub fn list(rows: &[impl Serialize]) -> Result<Answer, RpcError> {
        Answer::json(&(!rows.is_empty()).then_some(rows))
    }

    pub fn text(content_type: &'static str, text: String) -> Answer {
        Answer {
            status: StatusCode::OK,
            content_type,
            file: None,
            text,
        }
    }

    /// JSON that is written already.
    pub fn written(text: String) -> Answer {
        Answer::text(JSON, text)
    }

    pub fn nothing() -> Answer {
        Answer {
            status: StatusCode::NO_CONTENT,
            ..Answer::text(JSON, String::new())
        }
    }

    pub fn created(self) -> Answer {
        Answer {
            status: StatusCode::CREATED,
            ..self
        }
    }

    pub fn file(self, name: &'static str) -> Answer {
        Answer {
            file: Some(name),
            ..self
        }
    }

    pub fn into_response(self) -> Response {
        if self.status == StatusCode::NO_CONTENT {
            return self.status.into_response();
        }
        let content_type = HeaderValue::from_static(self.content_type);
        let mut response = (self.status, [(header::CONTENT_TYPE, content_type)], self.text).into_response();
        if let Some(file) = self.file {
            let value = HeaderValue::try_from(format!("attachment; filename={file}"));
            value
                .into_iter()
                .for_each(|value| drop(response.headers_mut().insert(header::CONTENT_DISPOSITION, value)));
        }
        response
    }
}

/// Money as a JSON number, exact to the nano-dollar.
pub(super) fn number<S: Serializer>(usd: &Usd, serializer: S) -> Result<S::Ok, S::Error> {
    let number = RawValue::from_string(usd.to_string()).map_err(S::Error::custom)?;
    number.serialize(serializer)
}
