//! The clients: which file of each says where its requests go, and what is to stand there.

use std::path::PathBuf;

use super::json;
use super::{Gateway, SetupError, folder};
use crate::config::Env;

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
    Ok(Client {
        lines,
        file: Some((file, Box::new(move |text| set_toml(text, KEY, &line)))),
        environment: Some(once),
        warnings: unserved(gateway, &["openai"]),
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

/// Puts a line before the first table, in place of the key's own if there is one. Lines within texts of several lines are
/// no keys: a file that has such before its first table is left to its owner.
fn set_toml(text: &str, key: &str, line: &str) -> Result<String, String> {
    let is_table = |text: &str| text.trim_start().starts_with('[');
    let lines: Vec<&str> = text.lines().collect();
    let end = lines.iter().position(|text| is_table(text)).unwrap_or(lines.len());
    let (top, rest) = lines.split_at(end);
    if top.iter().any(|text| text.contains("\"\"\"") || text.contains("'''")) {
        return Err("has texts of several lines at its top, which are not read here".to_owned());
    }
    let is_key = |text: &&&str| {
        let name = text
            .split('=')
            .next()
            .unwrap_or_default()
            .trim()
            .trim_matches(['"', '\'']);
        text.contains('=') && name == key
    };
    if top.iter().any(|text| is_key(&text) && text.trim() == line) {
        return Ok(text.to_owned());
    }
    let mut out: Vec<&str> = top.iter().filter(|text| !is_key(text)).copied().collect();
    // After the last line that says something: what leads to the first table stays with it.
    let at = out
        .iter()
        .rposition(|text| !text.trim().is_empty() && !text.trim_start().starts_with('#'));
    out.insert(at.map_or(0, |at| at + 1), line);
    if at.is_none() && (out.len() > 1 || !rest.is_empty()) {
        out.insert(1, "");
    }
    out.extend(rest);
    Ok(out.join("\n") + "\n")
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
        ] {
            let once = set_toml(before, "k", line).unwrap();
            assert_eq!(once, after, "{before:?}");
            assert_eq!(set_toml(&once, "k", line).unwrap(), once, "again");
        }
        assert!(set_toml("a = \"\"\"\nk = 1\n\"\"\"\n", "k", line).is_err());
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
