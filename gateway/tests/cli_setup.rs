//! `agentledger setup`, with a home folder of its own: what clients need is printed, or put into their own files.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cli::{failed, json_of, printed};
use crate::harness::Installation;
use crate::harness::process::{Process, binary};

struct Home {
    installation: Installation,
    gateway: Process,
}

impl Home {
    fn new() -> Home {
        let installation = Installation::new("");
        let gateway = installation.serve();
        Home { installation, gateway }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.installation.path("home").join(name)
    }

    fn setup(&self, args: &[&str]) -> Command {
        let mut command = binary();
        command
            .arg("setup")
            .args(args)
            .env("HOME", self.path(""))
            .env("AGENTLEDGER_RUNTIME_DIR", self.installation.path(""))
            .current_dir(self.installation.path(""));
        command
    }

    fn url(&self) -> String {
        format!("http://{}", self.gateway.client.address())
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

#[test]
fn claude_code_is_set_up_once_and_keeps_its_settings() {
    let home = Home::new();
    let file = home.path(".claude/settings.json");
    let shown = printed(&mut home.setup(&["claude"]));
    assert!(shown.contains(file.to_str().unwrap()), "{shown}");
    assert!(
        shown.contains(&format!("ANTHROPIC_BASE_URL={} claude", home.url())),
        "{shown}"
    );
    assert!(!file.exists(), "nothing is written unless --write says so");
    let before = "{\n  \"model\": \"opus\",\n  \"env\": {\"ANTHROPIC_API_KEY\": \"sk-ant-secret\"}\n}\n";
    write(&file, before);
    let done = printed(&mut home.setup(&["claude", "--write"]));
    assert!(!done.contains("sk-ant-secret"), "{done}");
    let settings = json_of(&read(&file));
    assert_eq!(settings["model"], "opus");
    assert_eq!(settings["env"]["ANTHROPIC_API_KEY"], "sk-ant-secret");
    assert_eq!(settings["env"]["ANTHROPIC_BASE_URL"], home.url());
    assert_eq!(read(&home.path(".claude/settings.json.before-agentledger")), before);
    let again = printed(&mut home.setup(&["claude", "--write"]));
    assert!(again.contains("is so already"), "{again}");
    let mut elsewhere = home.setup(&["claude", "--write"]);
    elsewhere.env("CLAUDE_CONFIG_DIR", home.path("own"));
    printed(&mut elsewhere);
    assert!(home.path("own/settings.json").is_file());
}

#[test]
fn codex_and_opencode_are_set_up_in_their_own_files() {
    let home = Home::new();
    let file = home.path(".codex/config.toml");
    write(&file, "model = \"gpt-5.1\"\n\n[tui]\nnotifications = true\n");
    printed(&mut home.setup(&["codex", "--write"]));
    let expected = format!(
        "model = \"gpt-5.1\"\nopenai_base_url = \"{}/v1\"\n\n[tui]\nnotifications = true\n",
        home.url()
    );
    assert_eq!(read(&file), expected);
    printed(&mut home.setup(&["codex", "--write"]));
    assert_eq!(read(&file), expected);

    printed(&mut home.setup(&["opencode", "--write"]));
    let config = json_of(&read(&home.path(".config/opencode/opencode.json")));
    for provider in ["anthropic", "openai"] {
        assert_eq!(
            config["provider"][provider]["options"]["baseURL"],
            format!("{}/v1", home.url())
        );
    }
    // Comments cannot be kept: the lines are shown, and the file is left alone.
    let commented = home.path(".config/opencode/opencode.jsonc");
    write(&commented, "{ // mine\n}\n");
    let (code, said) = failed(&mut home.setup(&["opencode", "--write"]));
    assert!(
        code == 1 && said.contains("Nothing was changed") && said.contains("baseURL"),
        "{said}"
    );
    assert_eq!(read(&commented), "{ // mine\n}\n");
}

#[test]
fn gemini_needs_its_provider_and_cursor_a_hand() {
    let home = Home::new();
    write(&home.path(".gemini/.env"), "GEMINI_API_KEY=secret\n");
    let said = printed(&mut home.setup(&["gemini", "--write"]));
    assert!(
        said.contains("does not serve gemini") && said.contains("{extra: {gemini: {enabled: true}}}"),
        "{said}"
    );
    assert!(!said.contains("secret"), "{said}");
    let expected = format!("GEMINI_API_KEY=secret\nGOOGLE_GEMINI_BASE_URL={}/gemini\n", home.url());
    assert_eq!(read(&home.path(".gemini/.env")), expected);
    let shown = printed(&mut home.setup(&["cursor"]));
    assert!(
        shown.contains(&format!("Override OpenAI Base URL  {}/v1", home.url())),
        "{shown}"
    );
    let (code, said) = failed(&mut home.setup(&["cursor", "--write"]));
    assert!(code == 1 && said.contains("enter it in its settings"), "{said}");
    // One elsewhere has its own address.
    let far = printed(&mut home.setup(&["claude", "--url", "https://gateway.example/llm"]));
    assert!(
        far.contains("\"ANTHROPIC_BASE_URL\": \"https://gateway.example/llm\""),
        "{far}"
    );
}
