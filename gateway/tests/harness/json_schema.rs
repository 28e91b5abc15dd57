//! As much of JSON Schema as the interface's document uses. A keyword that is not known here is a fault: nothing passes
//! because it was not looked at.

use serde_json::Value;

/// What is wrong with a value, by a schema of a document that has its parts in `components/schemas`.
pub fn check(document: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    look(document, schema, value, "", &mut faults);
    faults
}

fn look(document: &Value, schema: &Value, value: &Value, path: &str, faults: &mut Vec<String>) {
    let keywords = match schema {
        Value::Bool(true) => return,
        Value::Object(keywords) => keywords,
        other => return faults.push(format!("{path}: {other} is no schema")),
    };
    let fits = |schema: &Value| {
        let mut faults = Vec::new();
        look(document, schema, value, path, &mut faults);
        faults.is_empty()
    };
    for (keyword, wanted) in keywords {
        let fault = match keyword.as_str() {
            "description" | "title" | "default" | "format" | "examples" | "$schema" => false,
            "$ref" => {
                let place = wanted.as_str().unwrap().trim_start_matches('#');
                match document.pointer(place) {
                    Some(target) => look(document, target, value, path, faults),
                    None => faults.push(format!("{path}: {place} is nowhere")),
                }
                false
            }
            "type" => match wanted {
                Value::Array(kinds) => !kinds.iter().any(|kind| is(kind, value)),
                kind => !is(kind, value),
            },
            "enum" => !wanted.as_array().unwrap().contains(value),
            "const" => wanted != value,
            "anyOf" => !wanted.as_array().unwrap().iter().any(fits),
            "oneOf" => wanted.as_array().unwrap().iter().filter(|one| fits(one)).count() != 1,
            "allOf" => {
                for one in wanted.as_array().unwrap() {
                    look(document, one, value, path, faults);
                }
                false
            }
            "minimum" => value.as_f64().is_some_and(|number| number < wanted.as_f64().unwrap()),
            "maximum" => value.as_f64().is_some_and(|number| number > wanted.as_f64().unwrap()),
            "minLength" => value
                .as_str()
                .is_some_and(|text| (text.chars().count() as u64) < wanted.as_u64().unwrap()),
            "maxLength" => value
                .as_str()
                .is_some_and(|text| text.chars().count() as u64 > wanted.as_u64().unwrap()),
            "minItems" => value
                .as_array()
                .is_some_and(|items| (items.len() as u64) < wanted.as_u64().unwrap()),
            "maxItems" => value
                .as_array()
                .is_some_and(|items| items.len() as u64 > wanted.as_u64().unwrap()),
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    look(document, wanted, item, &format!("{path}[{index}]"), faults);
                }
                false
            }
            "required" => {
                let missing = |name: &&Value| {
                    value
                        .as_object()
                        .is_some_and(|value| !value.contains_key(name.as_str().unwrap()))
                };
                wanted.as_array().unwrap().iter().any(|name| missing(&name))
            }
            "properties" => {
                for (name, schema) in wanted.as_object().unwrap() {
                    if let Some(field) = value.get(name) {
                        look(document, schema, field, &format!("{path}.{name}"), faults);
                    }
                }
                false
            }
            "additionalProperties" => {
                let known = keywords.get("properties").and_then(Value::as_object);
                let others = value.as_object().into_iter().flatten();
                for (name, field) in others.filter(|(name, _)| known.is_none_or(|known| !known.contains_key(*name))) {
                    match wanted {
                        Value::Bool(false) => faults.push(format!("{path}.{name}: not one of its fields")),
                        schema => look(document, schema, field, &format!("{path}.{name}"), faults),
                    }
                }
                false
            }
            unknown => {
                faults.push(format!("{path}: {unknown} is a keyword that nobody checks"));
                false
            }
        };
        if fault {
            faults.push(format!("{path}: {value} against {keyword} {wanted}"));
        }
    }
}

fn is(kind: &Value, value: &Value) -> bool {
    match kind.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        other => panic!("no type {other}"),
    }
}

#[test]
fn what_does_not_fit_is_found() {
    use serde_json::json;
    let document = json!({"components": {"schemas": {"Row": {
        "type": "object", "required": ["id"], "additionalProperties": false,
        "properties": {"id": {"type": "integer", "minimum": 0}, "next": {"type": ["string", "null"]}},
    }}}});
    let schema = json!({"type": "array", "items": {"$ref": "#/components/schemas/Row"}});
    assert!(check(&document, &schema, &json!([{"id": 1}, {"id": 0, "next": null}])).is_empty());
    for wrong in [
        json!({}),
        json!([{}]),
        json!([{"id": "1"}]),
        json!([{"id": -1}]),
        json!([{"id": 1, "next": 2}]),
        json!([{"id": 1, "more": 2}]),
    ] {
        assert!(!check(&document, &schema, &wrong).is_empty(), "{wrong}");
    }
    assert!(!check(&document, &json!({"patternProperties": {}}), &json!({})).is_empty());
}
