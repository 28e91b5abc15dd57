//! The clients: which file of each says where its requests go, and what is to stand there.

use std::path::PathBuf;

use super::json;
use super::{Gateway, SetupError, folder};
use crate::config::Env;
use crate::files;

/// What becomes of a file's text; an error says why it cannot be changed.
pub type Change = Box<dyn Fn(&str) -> Result<String, String>>;

/// What a client needs.
pub struct Client {
    /// For people.
    pub lines: String,
    /// The file where they belong, and how they get there.
    pub file: Option<(PathBuf, Change)>,
    /// The same for one run.
    pub environment: Option<String>,
    pub warnings: Vec<String>,
}

fn unserved(gateway: &Gateway, providers: &[&str]) -> Vec<String> {
    let missing = providers.iter().filter(|provider| !gateway.serves(provider));
    missing
        .map(|provider| {
            let section = match *provider {
                "openai" | "anthropic" => format!("providers: {{{provider}: {{enabled: true}}}}"),
                other => format!("providers: {{extra: {{{other}: {{enabled: true}}}}}}"),
            };
            format!("the gateway does not serve {provider}; its configuration needs {section}")
        })
        .collect()
}

/// A change of a JSON file: these texts at these places.
fn json_change(values: Vec<(Vec<&'static str>, String)>) -> Change {
    Box::new(move |text| {
        values
            .iter()
            .try_fold(text.to_owned(), |text, (path, value)| json::set(&text, path, value))
    })
}

/// Its `settings.json` takes variables, which hold for every run of it.
pub fn claude(gateway: &Gateway, env: &Env) -> Result<Client, SetupError> {
    let file = folder(env, "CLAUDE_CONFIG_DIR", ".claude")?.join("settings.json");
    let path = vec!["env", "ANTHROPIC_BASE_URL"];
    let url = &gateway.url;
    Ok(Client {
        lines: json::set("", &path, url).unwrap_or_default(),
        file: Some((file, json_change(vec![(path, url.clone())]))),
        environment: Some(format!("ANTHROPIC_BASE_URL={url} claude")),
        warnings: unserved(gateway, &["anthropic"]),
    })
}

pub fn codex(gateway: &Gateway, env: &Env) -> Result<Client, SetupError> {
    const KEY: &str = "openai_base_url";
    let file = folder(env, "CODEX_HOME", ".codex")?.join("config.toml");
    let line = format!("{KEY} = \"{}/v1\"", gateway.url);
    let lines = format!("{line}\n");
    let once = format!("codex -c {KEY}='\"{}/v1\"'", gateway.url);
    let mut warnings = unserved(gateway, &["openai"]);
    // One that cannot be read is told by whoever changes it.
    warnings.extend(elsewhere(
        &files::read_text(&file, files::TEXT_BYTES_MAX).unwrap_or_default(),
    ));
    Ok(Client {
        lines,
        file: Some((file, Box::new(move |text| set_toml(text, KEY, &line)))),
        environment: Some(once),
        warnings,
    })
}

/// It reads `.env` files; the one in its own folder is for it alone.
pub fn gemini(gateway: &Gateway, env: &Env) -> Result<Client, SetupError> {
    const KEY: &str = "GOOGLE_GEMINI_BASE_URL";
    let file = match env.get("GEMINI_CLI_HOME").filter(|home| !home.is_empty()) {
        Some(home) => PathBuf::from(home).join(".gemini"),
        None => folder(env, "", ".gemini")?,
    };
    let line = format!("{KEY}={}/gemini", gateway.url);
    let environment = format!("{line} gemini");
    let mut warnings = unserved(gateway, &["gemini"]);
    warnings.push(
        "a .env in a project's folder, or above it, is read in place of this one: put the line there, too, where there is one"
            .to_owned(),
    );
    Ok(Client {
        lines: format!("{line}\n"),
        file: Some((file.join(".env"), Box::new(move |text| Ok(set_env(text, KEY, &line))))),
        environment: Some(environment),
        warnings,
    })
}

pub fn opencode(gateway: &Gateway, env: &Env) -> Result<Client, SetupError> {
    let dir = folder(env, "XDG_CONFIG_HOME", ".config")?.join("opencode");
    let commented = dir.join("opencode.jsonc");
    let file = if commented.is_file() {
        commented
    } else {
        dir.join("opencode.json")
    };
    let url = format!("{}/v1", gateway.url);
    let values: Vec<(Vec<&'static str>, String)> = ["anthropic", "openai"]
        .into_iter()
        .map(|provider| (vec!["provider", provider, "options", "baseURL"], url.clone()))
        .collect();
    let change = json_change(values);
    Ok(Client {
        lines: change("").unwrap_or_default(),
        file: Some((file, change)),
        environment: None,
        warnings: unserved(gateway, &["anthropic", "openai"]),
    })
}

/// Its requests come from its maker's servers: an address of this machine leads nowhere there.
pub fn cursor(gateway: &Gateway) -> Result<Client, SetupError> {
    let mut warnings = unserved(gateway, &["openai"]);
    warnings.push(format!(
        "Cursor sends requests from its own servers, which must be able to reach {}: give the gateway a public name \
         with TLS, and budgets",
        gateway.url
    ));
    Ok(Client {
        lines: format!(
            "Settings > Models > API Keys\n  OpenAI API Key            your own\n  Override OpenAI Base URL  {}/v1\n",
            gateway.url
        ),
        file: None,
        environment: None,
        warnings,
    })
}

/// Why Codex may not read `openai_base_url`: it is the built-in provider's alone.
fn elsewhere(config: &str) -> Vec<String> {
    let lines: Vec<&str> = config.lines().collect();
    let value = |line: &str, key: &str| {
        let (name, value) = line.split_once('=')?;
        let value = value
            .split('#')
            .next()
            .unwrap_or_default()
            .trim()
            .trim_matches(['"', '\'']);
        (bare(name) == key).then(|| value.to_owned())
    };
    let other = lines
        .iter()
        .filter_map(|line| value(line, "model_provider"))
        .find(|provider| provider != "openai");
    let profile = top_of(&lines).iter().find_map(|line| value(line, "profile"));
    let mut warnings = Vec::new();
    if let Some(provider) = other {
        warnings.push(format!(
            "the file names model_provider = \"{provider}\", for which openai_base_url is not read: set base_url in \
             [model_providers.{provider}] to the same address, or take model_provider out"
        ));
    }
    if let Some(profile) = profile {
        warnings.push(format!(
            "the profile \"{profile}\" is in force, which may name a model_provider of its own: openai_base_url is read for the \
             provider openai alone"
        ));
    }
    warnings
}

/// A key as it is named, without blanks and quotes.
fn bare(name: &str) -> &str {
    name.trim().trim_matches(['"', '\''])
}

/// The lines before the first table. A line that begins with a bracket is none within an array that is still open.
fn top_of<'l, 't>(lines: &'l [&'t str]) -> &'l [&'t str] {
    let mut depth = 0;
    let is_table = |line: &&str| {
        let begins = depth == 0 && line.trim_start().starts_with('[');
        depth += opened(line);
        begins
    };
    let end = lines.iter().position(is_table).unwrap_or(lines.len());
    lines.get(..end).unwrap_or(lines)
}

/// How many arrays a line opens more than it closes; brackets in texts and comments are none.
fn opened(line: &str) -> i32 {
    let (mut depth, mut quote, mut escaped) = (0, None, false);
    for sign in line.chars() {
        match (quote, sign) {
            (Some('"'), '\\') if !escaped => {
                escaped = true;
                continue;
            }
            (Some(open), sign) if sign == open && !escaped => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(sign),
            (None, '#') => break,
            (None, '[') => depth += 1,
            (None, ']') => depth -= 1,
            (None, _) => {}
        }
        escaped = false;
    }
    depth
}

/// Puts a line before the first table, in place of the key's own if there is one. Lines within texts of several lines are
/// no keys: a file that has such before its first table is left to its owner.
fn set_toml(text: &str, key: &str, line: &str) -> Result<String, String> {
    let lines: Vec<&str> = text.lines().collect();
    let top = top_of(&lines);
    let rest = lines.get(top.len()..).unwrap_or_default();
    if top.iter().any(|text| text.contains("\"\"\"") || text.contains("'''")) {
        return Err("has texts of several lines at its top, which are not read here".to_owned());
    }
    let mut depth = 0;
    let mut kept: Vec<&str> = Vec::with_capacity(lines.len() + 2);
    let mut own: Vec<&str> = Vec::new();
    for text in top {
        let is_own = depth == 0 && text.split_once('=').is_some_and(|(name, _)| bare(name) == key);
        depth += opened(text);
        if is_own { own.push(text) } else { kept.push(text) }
    }
    if own.iter().any(|text| text.trim() == line) {
        return Ok(text.to_owned());
    }
    // After the last line that says something: what leads to the first table stays with it.
    let at = kept
        .iter()
        .rposition(|text| !text.trim().is_empty() && !text.trim_start().starts_with('#'));
    kept.insert(at.map_or(0, |at| at + 1), line);
    if at.is_none() && (kept.len() > 1 || !rest.is_empty()) {
        kept.insert(1, "");
    }
    kept.extend(rest);
    Ok(kept.join("\n") + "\n")
}

/// Puts a line in place of the variable's own, or at the end.
fn set_env(text: &str, name: &str, line: &str) -> String {
    let is_own = |text: &&str| {
        let text = text.trim_start();
        let text = text.strip_prefix("export ").unwrap_or(text);
        text.split_once('=').is_some_and(|(known, _)| known.trim() == name)
    };
    if text.lines().filter(is_own).eq([line]) {
        return text.to_owned();
    }
    let mut out: Vec<&str> = text.lines().filter(|text| !is_own(text)).collect();
    out.push(line);
    out.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn a_toml_key_stands_before_the_first_table_once() {
        let line = "k = \"new\"";
        for (before, after) in [
            ("", "k = \"new\"\n"),
            ("model = \"m\"\n", "model = \"m\"\nk = \"new\"\n"),
            ("k = \"old\" # mine\nmodel = \"m\"\n", "model = \"m\"\nk = \"new\"\n"),
            ("[a]\nk = \"old\"\n", "k = \"new\"\n\n[a]\nk = \"old\"\n"),
            ("a = 1\n\n# of b\n[b]\n", "a = 1\nk = \"new\"\n\n# of b\n[b]\n"),
            ("a = [\n 1,\n]\nb = 2\n", "a = [\n 1,\n]\nb = 2\nk = \"new\"\n"),
            (
                "a = [\n[\"x]\"],\n['k = 1'], # ]\n]\nb = 2\n[t]\n",
                "a = [\n[\"x]\"],\n['k = 1'], # ]\n]\nb = 2\nk = \"new\"\n[t]\n",
            ),
            ("a = [\n\"k = 1\",\n]\n", "a = [\n\"k = 1\",\n]\nk = \"new\"\n"),
        ] {
            let once = set_toml(before, "k", line).unwrap();
            assert_eq!(once, after, "{before:?}");
            assert_eq!(set_toml(&once, "k", line).unwrap(), once, "again");
        }
        assert!(set_toml("a = \"\"\"\nk = 1\n\"\"\"\n", "k", line).is_err());
    }

    #[test]
    fn a_codex_that_goes_elsewhere_is_warned_of() {
        assert!(elsewhere("model = \"m\"\nmodel_provider = \"openai\"\n[a]\nprofile = \"x\"\n").is_empty());
        let provider = elsewhere("model_provider = 'azure' # ours\n");
        assert!(
            provider[0].contains("model_provider = \"azure\"") && provider.len() == 1,
            "{provider:?}"
        );
        let profile = elsewhere("profile = \"work\"\n[profiles.work]\nmodel_provider = \"azure\"\n");
        assert!(
            profile[0].contains("azure") && profile[1].contains("\"work\""),
            "{profile:?}"
        );
    }

    #[test]
    fn a_variable_stands_once() {
        for (before, after) in [
            ("", "A=new\n"),
            ("KEY=secret\nexport A=old\nB=1", "KEY=secret\nB=1\nA=new\n"),
            ("A=new\nB=1\n", "A=new\nB=1\n"),
            ("# A=old\nAA=2\n", "# A=old\nAA=2\nA=new\n"),
        ] {
            assert_eq!(set_env(before, "A", "A=new"), after);
        }
    }
}
