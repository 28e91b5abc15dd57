//! AWS as a provider of the type `bedrock` needs it: the region, and credentials to sign with. Keys of the section come
//! first; the variables that AWS's own tools read fill in what it leaves out.

use super::AwsCredentials;
use super::cursor::Cursor;
use super::env::Env;
use super::error::Place;
use super::node::{Node, Value};
use crate::secret::Secret;

const CLIENT_KEY_BYTES_MIN: usize = 16;
const DEFAULT_REGION: &str = "us-east-1";
const ACCESS_KEY_ID: &str = "access_key_id";
const SECRET: &str = "secret_access_key";
const TOKEN: &str = "session_token";
const REGION: &str = "region";

/// Variables of AWS's tools, and the key that each fills in.
const VARIABLES: [(&str, &str); 5] = [
    ("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID),
    ("AWS_SECRET_ACCESS_KEY", SECRET),
    ("AWS_SESSION_TOKEN", TOKEN),
    ("AWS_REGION", REGION),
    ("AWS_DEFAULT_REGION", REGION),
];

/// Fills in the sections of the type `bedrock` that are there. Credentials are taken as a whole or not at all: a token of
/// one and a key of another would be of no use.
pub fn overlay(root: &mut Node, env: &Env) {
    let Some(Value::Map(sections)) = section(root, "providers")
        .and_then(|providers| section(providers, "extra"))
        .map(|extra| &mut extra.value)
    else {
        return;
    };
    for pair in sections {
        let text = |key: &str| match pair.node.get(key) {
            Some(Node {
                value: Value::Scalar { text, .. },
                ..
            }) => Some(text.trim()),
            _ => None,
        };
        let kind = text("type").filter(|kind| !kind.is_empty()).unwrap_or(&pair.name);
        if !kind.eq_ignore_ascii_case("bedrock") {
            continue;
        }
        let given = |key: &str| text(key).is_some_and(|text| !text.is_empty());
        let own_credentials = [ACCESS_KEY_ID, SECRET, TOKEN].into_iter().any(given);
        let mut own_region = given(REGION);
        for (variable, key) in VARIABLES {
            let value = env.get(variable).filter(|value| !value.is_empty());
            let taken = if key == REGION { own_region } else { own_credentials };
            if let Some(value) = value.filter(|_| !taken) {
                own_region |= key == REGION;
                let place = Place::Env(variable.to_owned());
                if let Some(node) = pair.node.child_mut(key, &place) {
                    *node = Node::text(value, place);
                }
            }
        }
    }
}

fn section<'n>(node: &'n mut Node, name: &str) -> Option<&'n mut Node> {
    match &mut node.value {
        Value::Map(pairs) => pairs
            .iter_mut()
            .find(|pair| pair.name.eq_ignore_ascii_case(name))
            .map(|pair| &mut pair.node),
        _ => None,
    }
}

/// The region: as given, else the one of an AWS host that is given as upstream, else the first one there was.
pub fn region(at: &Cursor<'_>) -> String {
    let region = at.at(REGION);
    if let Some(text) = region.filled() {
        if text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        {
            return text.to_owned();
        }
        region.refuse("must be a region's name, such as eu-central-1");
    }
    let upstream = at.at("upstream");
    let host = upstream.filled().filter(|url| url.contains(".amazonaws.com"));
    let after = host.and_then(|url| {
        url.split('.')
            .skip_while(|part| !part.contains("bedrock-runtime"))
            .nth(1)
    });
    after.unwrap_or(DEFAULT_REGION).to_owned()
}

/// Where Bedrock's runtime answers in a region
/// (<https://docs.aws.amazon.com/general/latest/gr/bedrock.html>).
pub fn endpoint(region: &str) -> String {
    let china = if region.starts_with("cn-") { ".cn" } else { "" };
    format!("https://bedrock-runtime.{region}.amazonaws.com{china}")
}

/// A provider of another type takes none of these keys.
pub fn warn_of_keys_elsewhere(at: &Cursor<'_>) -> Option<AwsCredentials> {
    for key in [REGION, ACCESS_KEY_ID, SECRET, TOKEN] {
        if at.at(key).filled().is_some() {
            at.at(key).warn("has no effect: it is for the type bedrock");
        }
    }
    None
}

/// What the gateway signs with; `None`: it does not sign.
pub fn credentials(at: &Cursor<'_>, region: String) -> Option<AwsCredentials> {
    let (id, secret) = (at.at(ACCESS_KEY_ID), at.at(SECRET));
    match (id.filled(), secret.secret()) {
        (Some(access_key_id), Some(secret_access_key)) => Some(AwsCredentials {
            region,
            access_key_id: access_key_id.to_owned(),
            secret_access_key,
            session_token: at.at(TOKEN).secret(),
        }),
        (None, None) => {
            if at.at(TOKEN).is_given() {
                at.at(TOKEN)
                    .refuse("is of no use without access_key_id and secret_access_key");
            }
            None
        }
        (Some(_), None) => {
            id.refuse("needs secret_access_key beside it");
            None
        }
        (None, Some(_)) => {
            secret.refuse("needs access_key_id beside it");
            None
        }
    }
}

/// Who may use the credentials. Short keys are guessed.
pub fn client_keys(at: &Cursor<'_>, signs: bool) -> Vec<Secret<String>> {
    if at.is_given() && !signs {
        at.warn("has no effect: there are no credentials of the gateway's own here");
    }
    let items = at.items();
    let key = |item: &Cursor<'_>| {
        let key = item.secret()?;
        if key.expose().len() < CLIENT_KEY_BYTES_MIN {
            item.refuse(format_args!("must have at least {CLIENT_KEY_BYTES_MIN} characters"));
        }
        Some(key)
    };
    items.iter().filter_map(key).collect()
}
