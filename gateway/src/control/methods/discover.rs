//! `rpc.discover`: the OpenRPC document (<https://spec.open-rpc.org>, 1.3.2) of all methods, generated from the Rust types of
//! their parameters and results.
//!
//! What OpenRPC has no words for goes by names of its own: `x-role` and `x-scope` say who may call a method,
//! `x-idempotent` that it may bear a `request_id`, `x-subscription` what a subscription's notifications are called, what
//! they bear and which method ends it.

use std::sync::{Arc, OnceLock};

use jsonrpsee::server::RegisterMethodError;
use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::control::access::Denied;
use crate::control::error::{ProtocolError, RpcError};
use crate::control::rpc::call::{Call, Role};
use crate::control::rpc::params::Nothing;
use crate::control::rpc::table::{Method, REQUEST_ID, REQUEST_ID_BYTES_MAX, Scope, Table};
use crate::control::state::ControlState;
use crate::control::wire;

const OPENRPC: &str = "1.3.2";
/// Where the document keeps what its parts share.
const SCHEMAS: &str = "/components/schemas";
/// Version of the interface: fields are only added within it.
const INTERFACE: &str = "1.0.0";

/// Adds the method, and fills in its document of all methods of the table: to be called last.
pub(in crate::control) fn add(table: &mut Table) -> Result<(), RegisterMethodError> {
    let method = Method {
        name: "rpc.discover",
        needs: Role::Read,
        scope: Scope::Tenant,
        summary: "This document: all methods with their parameters, results and errors.",
        example: r#"{}"#,
    };
    let written: Arc<OnceLock<wire::OpenRpc>> = Arc::default();
    let read = Arc::clone(&written);
    table.add(method, move |_: &ControlState, _: &Call, _: Nothing| {
        let missing = || RpcError::LedgerFailed("the document is not there".to_owned());
        read.get().cloned().ok_or_else(missing)
    })?;
    // It names itself, too.
    let _ = written.set(document(table));
    Ok(())
}

/// The document of all methods of the table.
pub(in crate::control) fn document(table: &Table) -> wire::OpenRpc {
    let settings = SchemaSettings::draft07().with(|settings| settings.definitions_path = SCHEMAS.into());
    let mut generator = SchemaGenerator::new(settings);
    let mut methods = Vec::new();
    for described in table.described() {
        let params = (described.params)(&mut generator);
        let result = (described.result)(&mut generator);
        let mut row = method_row(&mut generator, described.method, &params);
        row.insert("result".to_owned(), json!({ "name": "result", "schema": result }));
        methods.push(row);
    }
    for feed in table.described_feeds() {
        let params = (feed.params)(&mut generator);
        let item = (feed.item)(&mut generator);
        let lagged = generator.subschema_for::<wire::Lagged>();
        let mut row = method_row(&mut generator, feed.method, &params);
        let id = json!({ "name": "subscription", "schema": { "type": "string" } });
        row.insert("result".to_owned(), id.clone());
        row.insert(
            "x-subscription".to_owned(),
            json!({
                "notification": feed.method.name,
                "end": feed.end,
                "item": { "anyOf": [item, lagged] },
            }),
        );
        methods.push(row);
        methods.push(end_row(feed.method, feed.end, id));
    }
    methods.sort_by(|a, b| name(a).cmp(name(b)));
    let schemas = generator.take_definitions(true);
    wire::OpenRpc {
        openrpc: OPENRPC.to_owned(),
        info: json!({
            "title": "AgentLedger",
            "version": INTERFACE,
            "description": "JSON-RPC 2.0 over POST and WebSocket at /rpc. Parameters go by name. Times are RFC 3339, money is \
                            decimal text in USD.",
        }),
        methods: methods.into_iter().map(Value::Object).collect(),
        components: json!({ "schemas": schemas, "errors": errors() }),
    }
}

fn name(row: &Map<String, Value>) -> &str {
    row.get("name").and_then(Value::as_str).unwrap_or_default()
}

fn method_row(generator: &mut SchemaGenerator, method: Method, params: &Schema) -> Map<String, Value> {
    let mut descriptors = descriptors(generator, params);
    let is_change = method.needs != Role::Read;
    if is_change {
        descriptors.push(json!({
            "name": REQUEST_ID,
            "description": "The caller's own id of this request: whoever sends the same request with it again gets the first \
                            answer, and nothing is done twice.",
            "required": false,
            "schema": { "type": "string", "minLength": 1, "maxLength": REQUEST_ID_BYTES_MAX },
        }));
    }
    let example: Map<String, Value> = serde_json::from_str(method.example).unwrap_or_default();
    let example: Vec<Value> = example
        .into_iter()
        .map(|(name, value)| json!({ "name": name, "value": value }))
        .collect();
    let role = match method.needs {
        Role::Read => "read",
        Role::Operate => "operate",
        Role::Admin => "admin",
    };
    let scope = match method.scope {
        Scope::Tenant => "tenant",
        Scope::Whole => "installation",
    };
    let references = RpcError::WORDS
        .iter()
        .map(|(_, word, _)| json!({ "$ref": format!("#/components/errors/{word}") }))
        .collect();
    let fields = [
        ("name", json!(method.name)),
        ("summary", json!(method.summary)),
        ("paramStructure", json!("by-name")),
        ("params", Value::Array(descriptors)),
        ("errors", Value::Array(references)),
        ("examples", json!([{ "name": method.name, "params": example }])),
        ("x-role", json!(role)),
        ("x-scope", json!(scope)),
        ("x-idempotent", json!(is_change)),
    ];
    fields
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// The method that ends a subscription.
fn end_row(method: Method, end: &str, id: Value) -> Map<String, Value> {
    let row = json!({
        "name": end,
        "summary": format!("Ends a subscription to {}.", method.name),
        "paramStructure": "by-position",
        "params": [{ "name": "subscription", "required": true, "schema": id.get("schema") }],
        "result": { "name": "ended", "description": "false: there was none", "schema": { "type": "boolean" } },
        "x-role": "read",
        "x-scope": "tenant",
    });
    match row {
        Value::Object(row) => row,
        _ => Map::new(),
    }
}

/// The fields of a parameter object, one by one.
fn descriptors(generator: &SchemaGenerator, params: &Schema) -> Vec<Value> {
    let params = params.as_value();
    let reference = params.get("$ref").and_then(Value::as_str);
    let object = reference
        .and_then(|reference| reference.rsplit('/').next())
        .and_then(|name| generator.definitions().get(name))
        .unwrap_or(params);
    let required: Vec<&str> = object
        .get("required")
        .and_then(Value::as_array)
        .map(|names| names.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let properties = object.get("properties").and_then(Value::as_object);
    let fields = properties.into_iter().flatten().map(|(name, schema)| {
        let mut row = json!({
            "name": name,
            "required": required.contains(&name.as_str()),
            "schema": schema,
        });
        if let (Some(text), Some(row)) = (schema.get("description"), row.as_object_mut()) {
            row.insert("description".to_owned(), text.clone());
        }
        row
    });
    fields.collect()
}

/// All errors, by their words.
pub(in crate::control) fn errors() -> Map<String, Value> {
    let of_access = Denied::ALL.map(|denied| (denied.code().to_owned(), Denied::NUMBER, denied.to_string()));
    let of_texts = ProtocolError::ALL.iter().map(|error| {
        let (code, word) = error.code();
        (word.to_owned(), code, error.to_string())
    });
    let of_methods = RpcError::WORDS.map(|(code, word, meaning)| (word.to_owned(), code, meaning.to_owned()));
    let mut errors = Map::new();
    for (word, code, message) in of_methods.into_iter().chain(of_texts).chain(of_access) {
        let row = json!({ "code": code, "message": message, "data": { "code": word } });
        errors.insert(word, row);
    }
    errors
}
