//! Names for keys: by them people know the fingerprints that the ledger has.

use std::collections::BTreeMap;

use super::cursor::Cursor;

/// Hexadecimal digits of a fingerprint.
const FINGERPRINT_DIGITS: usize = 24;
const NAME_CHARS_MAX: usize = 64;

/// Fingerprint → name. Two fingerprints may share a name, as a key and the one that took its place do.
pub type KeyAliases = BTreeMap<String, String>;

pub fn is_fingerprint(text: &str) -> bool {
    text.len() == FINGERPRINT_DIGITS && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Reads `keys.aliases`. What is no fingerprint may be a key that was put there by mistake: it is not repeated.
pub fn resolve(at: &Cursor<'_>) -> KeyAliases {
    let mut aliases = KeyAliases::new();
    for (fingerprint, given) in at.names() {
        let at_names = Cursor {
            path: at.path.clone(),
            ..given.clone()
        };
        if !is_fingerprint(fingerprint) {
            at_names.refuse(
                "names something that is no fingerprint: 24 hexadecimal digits, as `agentledger keys fingerprint` prints them",
            );
            continue;
        }
        let name = given.filled().unwrap_or_default();
        let is_name = !name.is_empty()
            && name.chars().count() <= NAME_CHARS_MAX
            && !name.chars().any(char::is_control)
            && !is_fingerprint(name);
        if is_name {
            aliases.insert(fingerprint.to_owned(), name.to_owned());
        } else {
            given.refuse(format_args!("must be a name of 1 to {NAME_CHARS_MAX} characters"));
        }
    }
    aliases
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::super::{Config, ConfigErrors, Env, Known, load_text};

    const KEY: &str = "0123456789abcdef01234567";

    fn read(yaml: &str) -> Result<Config, ConfigErrors> {
        load_text(None, yaml, &Env::default(), &Known::built_in())
    }

    #[test]
    fn a_fingerprint_has_the_name_that_the_file_gives_it() {
        let config = read(&format!(
            "keys: {{aliases: {{{KEY}: ci, '012345678901234567890123': ci}}}}"
        ))
        .unwrap();
        assert_eq!(config.alias_of(KEY), Some("ci"));
        assert_eq!(config.alias_of("012345678901234567890123"), Some("ci"));
        assert_eq!(config.alias_of("ffffffffffffffffffffffff"), None);
        assert!(read("keys: {alises: {}}").unwrap().warnings[0].contains("did you mean aliases?"));
    }

    #[test]
    fn a_key_in_place_of_its_fingerprint_is_refused_and_not_repeated() {
        let error = read("keys: {aliases: {sk-secret-0123: ci}}").err().unwrap().to_string();
        assert!(
            error.contains("keys.aliases: names something that is no fingerprint") && !error.contains("sk-secret"),
            "{error}"
        );
        let long = "x".repeat(65);
        for name in ["''", "\"a\\nb\"", long.as_str(), "ffffffffffffffffffffffff"] {
            let error = read(&format!("keys: {{aliases: {{{KEY}: {name}}}}}"))
                .err()
                .unwrap()
                .to_string();
            assert!(error.contains("must be a name"), "{error}");
        }
    }
}
