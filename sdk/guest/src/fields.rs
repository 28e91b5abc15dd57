//! Strict readers for the fields of a request. Each takes a field as raw JSON, absent or `null` counting as not there,
//! and says what is wrong with it in words a client can use. A value is never quoted back.

use crate::{Problem, Request, problem};
use serde_json::value::RawValue;

/// Largest whole number that every JSON reader agrees on.
pub const COUNT_MAX: u64 = 1 << 53;

/// Longest outline that is taken for the whole of what was wanted. The host stops to show values some way beyond: what is
/// missing in a longer one may be a model that was named.
const OUTLINE_BYTES_MAX: usize = 768 << 10;

/// A field as it stands in the document.
pub type Field<'a> = Option<&'a RawValue>;

/// Present, and not `null`.
pub fn present<'a>(field: Field<'a>) -> Field<'a> {
    field.filter(|raw| raw.get() != "null")
}

/// A string.
pub fn text(field: Field<'_>, param: &str) -> Result<Option<String>, Problem> {
    let Some(raw) = present(field) else { return Ok(None) };
    serde_json::from_str(raw.get())
        .map(Some)
        .map_err(|_| problem("invalid_type", format!("'{param}' must be a string"), param))
}

/// `true` or `false`.
pub fn flag(field: Field<'_>, param: &str) -> Result<Option<bool>, Problem> {
    match present(field).map(RawValue::get) {
        None => Ok(None),
        Some("true") => Ok(Some(true)),
        Some("false") => Ok(Some(false)),
        Some(_) => Err(problem(
            "invalid_type",
            format!("'{param}' must be true or false"),
            param,
        )),
    }
}

/// A whole number from `min` to `max`. `1.0` and `1e3` are refused: providers do, and a reader that rounds would hold
/// another amount than the provider bills.
pub fn count(field: Field<'_>, param: &str, min: u64, max: u64) -> Result<Option<u64>, Problem> {
    let Some(raw) = present(field).map(RawValue::get) else {
        return Ok(None);
    };
    let number = raw.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    if !number || raw.contains(['.', 'e', 'E']) {
        return Err(problem(
            "invalid_type",
            format!("'{param}' must be a whole number"),
            param,
        ));
    }
    match raw.parse::<u64>() {
        Ok(value) if (min..=max).contains(&value) => Ok(Some(value)),
        _ => Err(problem(
            "invalid_value",
            format!("'{param}' must be from {min} to {max}"),
            param,
        )),
    }
}

/// A limit of the output. One of 0 is as good as none: some hosts read it as none, and a hold must cover what they may make.
pub fn limit(field: Field<'_>, param: &str) -> Result<Option<u64>, Problem> {
    Ok(count(field, param, 0, COUNT_MAX)?.filter(|limit| *limit > 0))
}

/// The model: there, a string, not empty, without control characters.
pub fn model(field: Field<'_>) -> Result<String, Problem> {
    match text(field, "model")? {
        None => Err(problem(
            "missing_required_parameter",
            "you must provide a 'model' parameter",
            "model",
        )),
        Some(name) if name.trim().is_empty() || name.chars().any(char::is_control) => {
            Err(problem("invalid_value", "'model' must name a model", "model"))
        }
        Some(name) => Ok(name),
    }
}

/// Names of further models: a list of at most `most`, each a string or an object with a `model`. What is no list is not
/// one. The list is wanted with `most + 1` items, so that one too many is seen.
pub fn models(field: Field<'_>, param: &str, most: usize) -> Result<Vec<String>, Problem> {
    let wrong = |what: String| problem("invalid_value", format!("'{param}' {what}"), param);
    let Some(raw) = present(field) else { return Ok(vec![]) };
    let items: Vec<Option<&RawValue>> =
        serde_json::from_str(raw.get()).map_err(|_| wrong("must be a list of models".to_owned()))?;
    if items.len() > most {
        return Err(wrong(format!("may name at most {most} models")));
    }
    let named = items.into_iter().map(|item| {
        let item = present(item)?;
        let own = serde_json::from_str::<Named<'_>>(item.get())
            .ok()
            .filter(|_| item.get().starts_with('{'));
        model(own.map_or(Some(item), |own| own.model)).ok()
    });
    let named: Option<Vec<String>> = named.collect();
    named.ok_or_else(|| wrong("must name a model in each place".to_owned()))
}

/// An object that names a model.
#[derive(serde::Deserialize)]
struct Named<'a> {
    #[serde(borrow, default)]
    model: Field<'a>,
}

/// Whether one of `info`'s request markers stands in the body.
pub fn bears(request: &Request, marker: &str) -> bool {
    request.markers.iter().any(|there| there == marker)
}

/// Parses the outline of a request into a struct of fields.
pub fn parse<'a, T: serde::Deserialize<'a>>(outline: &'a str) -> Result<T, Problem> {
    let broken = || Problem {
        code: "invalid_request_body".to_owned(),
        message: "the request body must be a JSON object".to_owned(),
        param: None,
    };
    if outline.len() > OUTLINE_BYTES_MAX {
        return Err(Problem {
            code: "invalid_request_body".to_owned(),
            message: "the request names more models, tools and settings than are looked at".to_owned(),
            param: None,
        });
    }
    // Serde would read an array as a struct's fields in their order.
    if !outline.starts_with('{') {
        return Err(broken());
    }
    serde_json::from_str(outline).map_err(|_| broken())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    #[test]
    fn counts_are_whole_and_in_range() {
        let read = |json: &str| count(Some(&raw(json)), "n", 1, COUNT_MAX);
        assert_eq!(read("1"), Ok(Some(1)));
        assert_eq!(read("9007199254740992"), Ok(Some(COUNT_MAX)));
        assert_eq!(read("null"), Ok(None));
        for (json, code) in [
            ("0", "invalid_value"),
            ("-1", "invalid_value"),
            ("9007199254740993", "invalid_value"),
            ("99999999999999999999999999", "invalid_value"),
            ("1.5", "invalid_type"),
            ("1e3", "invalid_type"),
            ("\"1\"", "invalid_type"),
            ("true", "invalid_type"),
            ("[1]", "invalid_type"),
        ] {
            let problem = read(json).unwrap_err();
            assert_eq!(
                (problem.code.as_str(), problem.param.as_deref()),
                (code, Some("n")),
                "{json}"
            );
        }
    }

    #[test]
    fn a_model_is_a_name() {
        assert_eq!(model(Some(&raw("\"m\""))).unwrap(), "m");
        assert_eq!(model(None).unwrap_err().code, "missing_required_parameter");
        assert_eq!(
            model(Some(&raw("null"))).unwrap_err().code,
            "missing_required_parameter"
        );
        assert_eq!(model(Some(&raw("7"))).unwrap_err().code, "invalid_type");
        for empty in ["\"\"", "\"  \"", "\"a\\u0000\""] {
            assert_eq!(model(Some(&raw(empty))).unwrap_err().code, "invalid_value");
        }
    }

    #[test]
    fn a_limit_of_nothing_is_none() {
        let read = |json: &str| limit(Some(&raw(json)), "max_tokens");
        assert_eq!((read("7"), read("0"), read("null")), (Ok(Some(7)), Ok(None), Ok(None)));
        assert_eq!(read("-0").unwrap_err().code, "invalid_value");
        assert_eq!(read("0.0").unwrap_err().code, "invalid_type");
    }

    #[test]
    fn lists_of_models_are_names_and_bounded() {
        let read = |json: &str| models(Some(&raw(json)), "fallbacks", 2);
        let all = |names: &[&str]| Ok(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(models(None, "fallbacks", 2), all(&[]));
        assert_eq!(read("null"), all(&[]));
        assert_eq!(read("[]"), all(&[]));
        assert_eq!(read(r#"["a", {"model": "b", "effort": "low"}]"#), all(&["a", "b"]));
        for wrong in [
            r#"["a", "b", "c"]"#,
            r#"[null]"#,
            r#"[""]"#,
            r#"[7]"#,
            r#"[{}]"#,
            r#"[{"model": null}]"#,
            r#"[["a"]]"#,
            r#""a""#,
            r#"{"model": "a"}"#,
        ] {
            assert_eq!(read(wrong).unwrap_err().param.as_deref(), Some("fallbacks"), "{wrong}");
        }
    }

    #[test]
    fn an_outline_that_may_lack_something_is_refused() {
        let long = format!("{{\"tools\":[{}]}}", vec!["{}"; OUTLINE_BYTES_MAX / 3].join(","));
        assert_eq!(
            parse::<serde_json::Value>(&long).unwrap_err().code,
            "invalid_request_body"
        );
        assert!(parse::<serde_json::Value>("{\"tools\":[]}").is_ok());
    }

    #[test]
    fn flags_and_texts_have_their_type() {
        assert_eq!(flag(Some(&raw("true")), "stream"), Ok(Some(true)));
        assert_eq!(
            flag(Some(&raw("\"true\"")), "stream").unwrap_err().param.as_deref(),
            Some("stream")
        );
        assert_eq!(text(Some(&raw("\"a\\n\"")), "t").unwrap().as_deref(), Some("a\n"));
        assert_eq!(text(Some(&raw("{}")), "t").unwrap_err().code, "invalid_type");
    }
}
