//! `control.tokens`: who may use the control plane. A token stands in the file, in a file of its own (`token_file`) or in an
//! environment variable of any name (`token_env`).

use std::path::Path;

use super::cursor::{Cursor, Problems};
use super::env::Env;
use super::error::Place;
use super::node::{Node, Value};
use super::{ControlRole, ControlToken};
use crate::files;
use crate::secret::Secret;

/// Longest file that a token is read from.
const TOKEN_FILE_BYTES_MAX: u64 = 64 << 10;
/// Authors of changes that no token is: the control socket's owner, and the gateway itself.
const RESERVED_NAMES: [&str; 2] = ["owner", "agentledger"];

/// Puts the variable that `token_env` names, and the content of the file that `token_file` names, in place of `token`: what
/// comes after sees one way of giving a token.
pub fn overlay(root: &mut Node, env: &Env, problems: &Problems) {
    let Some(Value::List(rows)) = root
        .get_mut("control")
        .and_then(|control| control.get_mut("tokens"))
        .map(|tokens| &mut tokens.value)
    else {
        return;
    };
    for (index, row) in rows.iter_mut().enumerate() {
        let path = format!("control.tokens[{index}]");
        let given = ["token", "token_env", "token_file"].map(|name| named(row, name));
        if given.iter().flatten().count() > 1 {
            problems.refuse(&row.place, &path, "takes one of token, token_env and token_file");
            continue;
        }
        let [_, variable, file] = given;
        let found = match (variable, file) {
            (Some((variable, _)), _) => {
                let value = env.get(&variable).map(str::to_owned);
                let fault = "names an environment variable that is not set";
                value
                    .map(|value| (value, Place::Env(variable)))
                    .ok_or(("token_env", fault.to_owned()))
            }
            (None, Some((file, place))) => files::read_text(Path::new(&file), TOKEN_FILE_BYTES_MAX)
                .map(|value| (value, place))
                .map_err(|error| ("token_file", format!("cannot be read: {error}"))),
            (None, None) => continue,
        };
        match found {
            Ok((value, place)) => {
                if let Some(node) = row.child_mut("token", &place) {
                    *node = Node::text(value.trim(), place);
                }
            }
            Err((name, fault)) => problems.refuse(&row.place, &format!("{path}.{name}"), fault),
        }
    }
}

fn named(row: &Node, name: &str) -> Option<(String, Place)> {
    let node = row.get(name)?;
    match &node.value {
        Value::Scalar { text, .. } if !text.trim().is_empty() => Some((text.trim().to_owned(), node.place.clone())),
        _ => None,
    }
}

/// The tokens. Two of one name would make the audit's authors ambiguous.
pub fn resolve(at: &Cursor<'_>) -> Vec<ControlToken> {
    let items = at.items();
    let mut tokens: Vec<ControlToken> = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let Some(token) = token(index, item) else { continue };
        if tokens.iter().any(|known| known.name == token.name) {
            item.at("name")
                .refuse("is another token's name too: changes are recorded by it");
        }
        tokens.push(token);
    }
    tokens
}

/// A row, or the token alone, which may do all.
fn token(index: usize, at: &Cursor<'_>) -> Option<ControlToken> {
    let default_name = format!("token{}", index + 1);
    if let Some(token) = at.secret() {
        return Some(ControlToken {
            name: default_name,
            token,
            role: ControlRole::Admin,
            tenant: None,
            expires_ms: None,
        });
    }
    let role = at.at("role").word(
        ControlRole::Read,
        &[
            ("read", ControlRole::Read),
            ("operate", ControlRole::Operate),
            ("admin", ControlRole::Admin),
        ],
    );
    let name = at.at("name").filled().map_or(default_name, str::to_owned);
    if RESERVED_NAMES.contains(&name.as_str()) {
        at.at("name")
            .refuse("is a name that changes made without this token bear");
    }
    let tenant = at.at("tenant").filled().map(str::to_owned);
    let expires_ms = expires(&at.at("expires"));
    let Some(token) = at.at("token").secret() else {
        // Said already where a variable or a file should have had it.
        if at.at("token_env").filled().is_none() && at.at("token_file").filled().is_none() {
            at.refuse("needs a token: token, token_env or token_file");
        }
        return None;
    };
    Some(ControlToken {
        name,
        token: Secret::new(token.expose().trim().to_owned()),
        role,
        tenant,
        expires_ms,
    })
}

/// A moment, or the day from whose beginning, UTC, the token opens nothing.
fn expires(at: &Cursor<'_>) -> Option<i64> {
    let text = at.filled()?;
    let moment = text.parse::<jiff::Timestamp>().ok().or_else(|| {
        let day = text.parse::<jiff::civil::Date>().ok()?;
        Some(day.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
    });
    if moment.is_none() {
        at.refuse("must be a day or an RFC 3339 time, such as 2027-01-31 or 2027-01-31T12:00:00Z");
    }
    moment.map(jiff::Timestamp::as_millisecond)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::super::{Config, ConfigErrors, Known, load_text};
    use super::*;

    fn load(tokens: &str) -> Result<Config, ConfigErrors> {
        let env = Env::of([("OURS", " from-env-0123456789\n")]);
        load_text(
            None,
            &format!("control: {{tokens: [{tokens}]}}"),
            &env,
            &Known::built_in(),
        )
    }

    #[test]
    fn a_token_stands_in_the_file_in_a_variable_or_in_a_file_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "from-file-0123456789\n").unwrap();
        let config = load(&format!(
            "alone-0123456789, {{name: a, token_env: OURS, role: operate, tenant: acme, expires: 2027-01-31}}, \
             {{name: b, token_file: \"{}\", expires: '2027-01-31T12:00:00Z'}}",
            file.display()
        ))
        .unwrap_or_else(|errors| panic!("{errors}"));
        let [alone, of_env, of_file] = &config.control.tokens[..] else {
            panic!()
        };
        assert_eq!(
            (alone.token.expose().as_str(), alone.role),
            ("alone-0123456789", ControlRole::Admin)
        );
        assert_eq!(
            (of_env.token.expose().as_str(), of_env.role),
            ("from-env-0123456789", ControlRole::Operate)
        );
        assert_eq!(
            (of_env.tenant.as_deref(), of_env.expires_ms),
            (Some("acme"), Some(1_801_353_600_000))
        );
        assert_eq!(
            (of_file.token.expose().as_str(), of_file.role),
            ("from-file-0123456789", ControlRole::Read)
        );
        assert_eq!(of_file.expires_ms, Some(1_801_396_800_000));
    }

    #[test]
    fn what_is_wrong_with_a_token_is_said_by_its_place_and_never_shows_it() {
        for (tokens, expected) in [
            (
                "{name: a, token_env: MISSING}",
                "control.tokens[0].token_env: names an environment variable",
            ),
            (
                "{name: a, token_file: /nowhere/at/all}",
                "control.tokens[0].token_file: cannot be read",
            ),
            (
                "{name: a, token: canary, token_env: OURS}",
                "control.tokens[0]: takes one of",
            ),
            (
                "{name: a, token: canary, expires: soon}",
                "control.tokens[0].expires: must be a day",
            ),
            ("{name: owner, token: canary}", "control.tokens[0].name: is a name that"),
            (
                "{name: a, token: canary}, {name: a, token: canary2}",
                "control.tokens[1].name: is another",
            ),
        ] {
            let Err(errors) = load(tokens) else { panic!("{tokens}") };
            let said = errors.to_string();
            assert!(said.contains(expected) && !said.contains("canary"), "{tokens}: {said}");
        }
    }
}
