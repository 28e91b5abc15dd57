#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use agentledger_ledger::{UnitPrice, Usd};

use super::load::load_first;
use super::*;

mod alerting;
mod clouds;
mod environment;
mod shipped;

const FILE: &str = "agentledger.yaml";

fn none() -> Env {
    Env::default()
}

fn read(yaml: &str) -> Config {
    read_with(yaml, &none()).unwrap_or_else(|errors| panic!("{errors}"))
}

fn read_with(yaml: &str, env: &Env) -> Result<Config, ConfigErrors> {
    load_text(Some(Path::new(FILE)), yaml, env, &Known::built_in())
}

fn faults(yaml: &str) -> Vec<String> {
    let errors = read_with(yaml, &none())
        .err()
        .unwrap_or_else(|| panic!("accepted: {yaml}"));
    errors.to_string().lines().map(str::to_owned).collect()
}

fn provider<'a>(config: &'a Config, name: &str) -> &'a Provider {
    config
        .providers
        .iter()
        .find(|provider| provider.name == name)
        .unwrap_or_else(|| panic!("no provider {name}"))
}

#[test]
fn an_empty_file_is_the_defaults_of_the_contract() {
    let config = read("");
    assert_eq!(config.listen, ":8787");
    assert_eq!(config.storage.dir, PathBuf::from("data/agentledger"));
    assert_eq!(config.storage.durability, Durability::Strict);
    assert_eq!(config.control.socket, PathBuf::from("data/agentledger/control.sock"));
    assert_eq!(config.policies.dir, Some(PathBuf::from("policies")));
    assert_eq!((config.log.level.as_str(), config.log.json), ("info", false));
    assert_eq!(
        (config.breaker.max_failures, config.breaker.timeout),
        (0, Duration::from_secs(30))
    );
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.agent.session_timeout, Duration::from_secs(1800));
    assert!(config.dashboard_enabled && !config.tenants_enabled && config.tls.is_none());
    assert!(config.control.admin_token.is_none() && config.control.public_read);
    assert_eq!(config.budgets, Budgets::default());
    let names: Vec<&str> = config.providers.iter().map(|provider| provider.name.as_str()).collect();
    assert_eq!(names, ["openai", "anthropic"]);
    assert_eq!(config.absent.len(), 16);
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
}

#[test]
fn every_provider_of_the_contract_is_known_with_its_base_path() {
    let table = [
        ("groq", "api.groq.com", "/openai"),
        ("mistral", "api.mistral.ai", ""),
        ("deepseek", "api.deepseek.com", ""),
        ("together", "api.together.xyz", ""),
        ("fireworks", "api.fireworks.ai", "/inference"),
        ("perplexity", "api.perplexity.ai", ""),
        ("openrouter", "openrouter.ai", "/api"),
        ("xai", "api.x.ai", ""),
        ("cerebras", "api.cerebras.ai", ""),
        ("sambanova", "api.sambanova.ai", ""),
    ];
    for (name, host, base_path) in table {
        let config = read(&format!(
            "providers: {{extra: {{{name}: {{enabled: true, free: true}}}}}}"
        ));
        let provider = provider(&config, name);
        assert_eq!(
            (provider.dialect.as_str(), provider.prefix.clone()),
            ("openai", format!("/{name}"))
        );
        let upstream = &provider.upstream;
        assert_eq!((upstream.host.as_str(), upstream.base_path.as_str()), (host, base_path));
        assert_eq!((upstream.tls, upstream.port, upstream.h2), (true, 443, true));
        assert_eq!(provider.unpriced, Unpriced::Free);
    }
    assert_eq!(super::providers::names_known().len(), 18);
}

#[test]
fn a_dialect_without_a_plugin_warns_and_is_not_served() {
    let two = Known::new(["openai", "anthropic"], ["openai", "anthropic"]);
    for name in ["gemini", "cohere", "bedrock", "vertex"] {
        let yaml = format!("providers: {{extra: {{{name}: {{enabled: true, free: true}}}}}}");
        let config = load_text(None, &yaml, &none(), &two).unwrap();
        let absent = config.absent.iter().find(|absent| absent.name == name).unwrap();
        assert_eq!(
            (absent.why, absent.prefix.clone()),
            (Absence::NoDialect, format!("/{name}"))
        );
        assert!(
            config.warnings[0].contains("no plugin reads the dialect"),
            "{:?}",
            config.warnings
        );
    }
    let known = Known::new(["openai", "anthropic", "gemini"], ["gemini", "openai", "anthropic"]);
    let yaml = "providers: {extra: {gemini: {enabled: true}}}";
    let config = load_text(None, yaml, &none(), &known).unwrap();
    assert_eq!(provider(&config, "gemini").unpriced, Unpriced::Dearest);
}

#[test]
fn a_new_compatible_host_is_five_lines() {
    let config = read(
        "providers:\n  extra:\n    my-host:\n      enabled: true\n      upstream: http://[::1]:9000/base/\n      \
         default_price: {input: 0.15, output: 1.5}\n      timeouts: {connect_ms: 200, first_byte_ms: 15m, idle_ms: 90s}\n      \
         retries: {connect: 0, statuses: [503, 529]}\n      inject_usage: false\n      websocket: false\n      unknown_routes: pass\n      \
         path_prefix: /hosts/mine/\n",
    );
    let provider = provider(&config, "my-host");
    assert_eq!(provider.prefix, "/hosts/mine");
    assert_eq!(
        provider.upstream,
        Upstream {
            tls: false,
            host: "::1".into(),
            port: 9000,
            base_path: "/base".into(),
            ca_file: None,
            h2: false
        }
    );
    let (input, output) = (UnitPrice::from_picos(150_000), UnitPrice::from_picos(1_500_000));
    assert_eq!(provider.unpriced, Unpriced::Price { input, output });
    assert_eq!(provider.timeouts.connect, Duration::from_millis(200));
    assert_eq!(provider.timeouts.first_byte, Duration::from_secs(900));
    assert_eq!(provider.timeouts.idle, Duration::from_secs(90));
    assert_eq!(
        provider.retries,
        Retries {
            connect: 0,
            statuses: vec![503, 529]
        }
    );
    assert!(!provider.inject_usage && !provider.websocket);
    assert_eq!(provider.unknown_routes, UnknownRoutes::Pass);
    assert_eq!(config.providers[0].name, "my-host", "the longest prefix comes first");
}

#[test]
fn a_provider_may_stand_beside_extra_but_not_in_both() {
    let config = read("providers: {groq: {enabled: true, free: true}}");
    assert_eq!(provider(&config, "groq").prefix, "/groq");
    let lines = faults("providers:\n  groq: {enabled: true}\n  extra:\n    groq: {free: true}\n");
    assert!(
        lines[0].starts_with("agentledger.yaml:2:9: providers.extra.groq: is there twice"),
        "{lines:?}"
    );
}

#[test]
fn the_contracts_sections_are_read_whatever_their_case() {
    let config = read(
        "Listen: '127.0.0.1:9999'\nbudgets:\n  Default: {daily_limit_usd: 50, monthly_limit_usd: 500.25, soft_limit_pct: \
         0.8, action: block}\n  rules:\n    - {api_key_pattern: 'sk-dev-*', daily_limit_usd: 0.1, action: Warn}\n    - \
         {tenant_id: acme, monthly_limit_usd: '1000'}\n  global: {daily_limit_usd: 100}\nADMIN: {enabled: true, token: \
         demo-admin-token}\ncors: {allow_origins: [https://a.example]}\ntls: {cert_file: c.pem, key_file: k.pem}\n\
         circuit_breaker: {max_failures: 5, timeout_secs: 0}\nhold: {size: expected, unnamed_output: max, recovered: held, wait_ms: 250, \
         allowances: {image: 99}}\n",
    );
    assert_eq!(config.listen, "127.0.0.1:9999");
    let default = config.budgets.default.as_ref().unwrap();
    assert_eq!(default.daily_limit, Some(Usd::from_nanos(50_000_000_000)));
    assert_eq!(default.monthly_limit, Some(Usd::from_nanos(500_250_000_000)));
    assert_eq!((default.soft_limit_ppm, default.action.as_str()), (800_000, "block"));
    let rules = &config.budgets.rules;
    assert_eq!(rules[0].daily_limit, Some(Usd::from_nanos(100_000_000)), "0.1 is exact");
    assert_eq!((rules[0].action.as_str(), rules[0].monthly_limit), ("warn", None));
    assert_eq!((rules[1].tenant_id.as_str(), rules[1].action.as_str()), ("acme", ""));
    assert!(config.budgets.global.is_some());
    assert_eq!(
        config.control.admin_token.as_ref().unwrap().expose(),
        "demo-admin-token"
    );
    assert_eq!(config.cors_allow_origins, ["https://a.example"]);
    assert!(config.tls.is_some());
    assert_eq!(
        config.breaker,
        Breaker {
            max_failures: 5,
            timeout: Duration::from_secs(30)
        }
    );
    assert_eq!(
        (config.hold.size, config.hold.unnamed_output, config.hold.recovered),
        (HoldSize::Expected, UnnamedOutput::Max, RecoveredCost::Held)
    );
    let hold = read("").hold;
    assert_eq!(
        (hold.size, hold.unnamed_output, hold.recovered),
        (HoldSize::Auto, UnnamedOutput::Expected, RecoveredCost::Expected)
    );
    assert_eq!(
        (config.hold.wait, config.hold.allowances["image"]),
        (Duration::from_millis(250), 99)
    );
    let conf = &config.policies.conf["budget"];
    assert_eq!(conf["default"]["monthly_limit_usd"], "500.25");
    assert_eq!(conf["default"]["soft_limit_pct"], 0.8);
    assert_eq!(conf["rules"][0]["daily_limit_usd"], "0.1");
}

#[test]
fn sections_not_built_yet_are_checked_kept_and_told_of() {
    let yaml = "rate_limits: {default: {requests_per_minute: 60}, rules: [{api_key_pattern: 'sk-*', requests_per_hour: 5}]}\n\
                agent: {session_timeout_mins: 45, loop_threshold: 20, loop_action: block, ghost_max_age_mins: 60}\n\
                alerts: {slack: {webhook_url: 'https://hooks.example/T0/SECRETPATH'}, webhooks: [{url: 'http://w.example', headers: \
                {X-Auth: HEADERSECRET}}]}\nmcp: {enabled: true, upstream: 'http://127.0.0.1:3000', pricing: [{server: s, tool: t, \
                cost_per_call: 0.001}]}\ntenants: {enabled: true, key_mappings: [{api_key_pattern: 'sk-a*', tenant_id: a}]}\n\
                policies: {conf: {budget: {extra: 1.5}, mine: {words: [a, 2, true]}}}\nrecording: {buffer_size: 10000}\n";
    let config = read(yaml);
    for section in ["agent", "recording.buffer_size"] {
        assert!(
            config.warnings.iter().any(|warning| warning.contains(section)),
            "{section}: {:?}",
            config.warnings
        );
    }
    let conf = &config.policies.conf;
    assert_eq!(conf["rate_limit"]["default"]["requests_per_minute"], 60);
    assert_eq!(conf["rate_limit"]["rules"][0]["requests_per_hour"], 5);
    assert_eq!(
        (&conf["loop"]["threshold"], &conf["loop"]["action"]),
        (&20.into(), &"block".into())
    );
    assert_eq!(
        (&conf["ghost"]["min_calls"], &conf["ghost"]["min_cost_usd"]),
        (&50.into(), &"1".into())
    );
    assert_eq!(conf["tenant"]["key_mappings"][0]["tenant_id"], "a");
    assert_eq!(conf["budget"]["extra"], 1.5);
    assert_eq!(conf["mine"], serde_json::json!({"words": ["a", 2, true]}));
    assert_eq!(config.alerts.cooldown, Duration::from_secs(300));
    assert_eq!(config.mcp.pricing.rules[0].rates.per_call, Usd::from_nanos(1_000_000));
    assert_eq!(config.agent.session_timeout, Duration::from_secs(2700));
    let shown = format!("{:?} {:?} {conf:?}", config.warnings, config.policies);
    assert!(
        !shown.contains("SECRETPATH") && !shown.contains("HEADERSECRET"),
        "{shown}"
    );
}

#[test]
fn each_fault_has_its_place_and_key() {
    let table = [
        ("listen: nowhere", "agentledger.yaml:1:9: listen: must be host:port"),
        ("listen: 127.0.0.1:99999", "agentledger.yaml:1:9: listen: "),
        (
            "budgets:\n  default:\n    daily_limit_usd: .nan",
            ":3:22: budgets.default.daily_limit_usd: \".nan\" must be a finite",
        ),
        (
            "budgets: {default: {daily_limit_usd: -1}}",
            "budgets.default.daily_limit_usd: \"-1\" must not be negative",
        ),
        (
            "budgets: {default: {monthly_limit_usd: 1e30}}",
            "budgets.default.monthly_limit_usd: \"1e30\" is too large",
        ),
        (
            "budgets: {default: {monthly_limit_usd: 2000000000}}",
            "is more than 1000000000 USD",
        ),
        (
            "budgets: {default: {daily_limit_usd: 0.0000000001}}",
            "more than 9 decimal places",
        ),
        (
            "budgets: {default: {daily_limit_usd: lots}}",
            "\"lots\" is not a number",
        ),
        (
            "budgets: {default: {soft_limit_pct: 80}}",
            "soft_limit_pct: \"80\" must be a share from 0 to 1",
        ),
        (
            "budgets: {rules: [{api_key_pattern: '[a'}]}",
            "budgets.rules[0].api_key_pattern: is not a pattern",
        ),
        ("budgets: [1]", ":1:10: budgets: must be a section"),
        ("budgets: {rules: 5}", "budgets.rules: must be a list"),
        (
            "storage: {driver: postgres, dsn: 'postgres://u:PASSWORD@h/d'}",
            "storage.driver: postgres is not there yet",
        ),
        ("storage: {driver: oracle}", "storage.driver: must be sled"),
        (
            "storage: {driver: sqlite, dsn: ':memory:'}",
            "storage.dsn: a ledger in memory",
        ),
        (
            "storage: {durability: maybe}",
            "storage.durability: \"maybe\" is none of strict, relaxed",
        ),
        ("tls: {cert_file: c.pem}", "tls.cert_file: needs tls.key_file"),
        ("tls: {key_file: k.pem}", "tls.key_file: needs tls.cert_file"),
        ("log: {level: loud}", "log.level: \"loud\" is none of"),
        ("limits: {body_bytes_max: 12 parsec}", "limits.body_bytes_max: "),
        (
            "limits: {json_depth_max: 0}",
            "limits.json_depth_max: \"0\" must be from 8",
        ),
        ("limits: {drain_ms: soon}", "limits.drain_ms: "),
        (
            "circuit_breaker: {max_failures: -3}",
            "circuit_breaker.max_failures: \"-3\" must not be negative",
        ),
        (
            "dashboard: {enabled: maybe}",
            "dashboard.enabled: \"maybe\" is neither true nor false",
        ),
        (
            "providers: {openai: {upstream: 'ftp://x'}}",
            "providers.openai.upstream: must be a URL",
        ),
        (
            "providers: {openai: {upstream: 'https://u:PASSWORD@x'}}",
            "without a user or password",
        ),
        ("providers: {openai: {upstream: 'https://x:0'}}", "port from 1"),
        ("providers: {openai: {upstream: 'https://x/a/../b'}}", "must be a URL"),
        (
            "providers: {openai: {type: gemini}}",
            "providers.openai.type: is always openai",
        ),
        (
            "providers: {extra: {ollama: {enabled: true}}}",
            "providers.extra.ollama: has no price book: add default_price",
        ),
        (
            "providers: {extra: {mine: {enabled: true, upstream: 'https://x', free: true, book: nobody}}}",
            "providers.extra.mine.book: there is no price book of that name",
        ),
        (
            "providers: {extra: {azure: {enabled: true, free: true}}}",
            "set providers.extra.azure.upstream",
        ),
        (
            "providers: {extra: {groq: {default_price: {input: 1}}}}",
            "default_price.output: is missing",
        ),
        (
            "providers: {extra: {groq: {default_price: {input: -1, output: 1}}}}",
            "default_price.input: must not be negative",
        ),
        (
            "providers: {extra: {groq: {free: true, default_price: {input: 1, output: 1}}}}",
            "takes one of",
        ),
        (
            "providers: {extra: {groq: {path_prefix: /api/x}}}",
            "a path of the gateway itself",
        ),
        (
            "providers: {extra: {groq: {path_prefix: groq}}}",
            "must be a path such as",
        ),
        (
            "providers: {extra: {groq: {retries: {statuses: [200]}}}}",
            "retries.statuses[0]: ",
        ),
        (
            "providers: {extra: {'a b': {enabled: true}}}",
            "a provider's name takes",
        ),
        (
            "plugins: {pins: {openai: abc}}",
            "plugins.pins.openai: must be the file's blake3",
        ),
        ("control: {tokens: [{name: ci}]}", "control.tokens[0]: needs a token"),
        (
            "cors: {allow_origins: [a.example]}",
            "cors.allow_origins[0]: must be an origin",
        ),
        ("fingerprint: {secret: short}", "fingerprint.secret: must have at least"),
        (
            "alerts: {slack: {webhook_url: SECRETURL}}",
            "alerts.slack.webhook_url: must be an http",
        ),
        ("agent: {ghost_min_cost_usd: -1}", "agent.ghost_min_cost_usd: "),
        ("a: 1\nb: [", "agentledger.yaml:2:"),
        ("listen: ':1'\nlisten: ':2'", ":2:1: the key \"listen\" is there twice"),
        ("a: 1\n---\nb: 2", ":2:1: a second document"),
        ("- a list", "must be a section"),
    ];
    for (yaml, expected) in table {
        let lines = faults(yaml);
        assert!(lines.iter().any(|line| line.contains(expected)), "{yaml}\n{lines:#?}");
        let all = lines.join("\n");
        assert!(!all.contains("PASSWORD") && !all.contains("SECRET"), "{all}");
        assert!(lines.iter().all(|line| line.starts_with(FILE)), "{all}");
    }
}

#[test]
fn all_faults_are_told_at_once_in_the_files_order() {
    let lines =
        faults("listen: x\nlog:\n  level: y\nbudgets:\n  default:\n    daily_limit_usd: z\n  rules:\n  - action: {}\n");
    let places: Vec<&str> = lines.iter().map(|line| line.split(": ").next().unwrap()).collect();
    let expected = ["1:9", "3:10", "6:22", "8:13"].map(|place| format!("{FILE}:{place}"));
    assert_eq!(places, expected, "{lines:#?}");
}

#[test]
fn unknown_keys_are_told_and_ignored() {
    let config = read("lissen: 1\nstorage:\n  dns: x\nproviders:\n  openai: {upstraem: x, timeouts: {connect: 1}}\n");
    let warnings = config.warnings.join("\n");
    assert!(
        warnings.contains("agentledger.yaml:1:1: lissen: unknown key, ignored; did you mean listen?"),
        "{warnings}"
    );
    assert!(
        warnings.contains(":3:3: storage.dns: unknown key, ignored; did you mean dsn?"),
        "{warnings}"
    );
    assert!(
        warnings.contains("did you mean upstream?") && warnings.contains("did you mean connect_ms?"),
        "{warnings}"
    );
}

#[test]
fn sqlite_becomes_a_folder_beside_its_file() {
    let table = [
        ("{driver: sqlite}", "data/agentledger"),
        ("{driver: sqlite, dsn: /var/lib/al.db}", "/var/lib/al"),
        ("{driver: sqlite, dsn: 'file:x/y.sqlite?cache=shared'}", "x/y"),
        ("{driver: sqlite, dsn: x/plain}", "x/plain.ledger"),
        ("{dsn: data/old.db}", "data/old"),
    ];
    for (storage, expected) in table {
        let config = read(&format!("storage: {storage}"));
        assert_eq!(config.storage.dir, PathBuf::from(expected), "{storage}");
        assert!(
            config.warnings.iter().any(|warning| warning.contains(expected)),
            "{:?}",
            config.warnings
        );
    }
    let config = read("storage: {driver: sled, dsn: data/x.db, retention_months: 3, durability: relaxed}");
    assert_eq!(
        config.storage.dir,
        PathBuf::from("data/x.db"),
        "sled's dsn is taken as it is"
    );
    assert_eq!(
        (config.storage.retention_months, config.storage.durability),
        (Some(3), Durability::Relaxed)
    );
}

#[test]
fn bug_a_broken_file_found_by_search_was_ignored() {
    let dir = tempfile::tempdir().unwrap();
    let places = ["a.yaml", "b.yaml", "c.yaml"].map(|name| dir.path().join(name));
    let none_found = load_first(&places, &none(), &Known::built_in()).unwrap();
    assert_eq!((none_found.0.listen.as_str(), none_found.1), (":8787", None));
    std::fs::write(&places[1], "listen: ':1'").unwrap();
    std::fs::write(&places[2], "listen: ':2'").unwrap();
    let (config, found) = load_first(&places, &none(), &Known::built_in()).unwrap();
    assert_eq!(
        (config.listen.as_str(), found.as_deref()),
        (":1", Some(places[1].as_path()))
    );
    assert_eq!(
        config.policies.dir,
        Some(dir.path().join("policies")),
        "beside the file"
    );
    std::fs::write(&places[0], "listen: [").unwrap();
    let errors = load_first(&places, &none(), &Known::built_in())
        .err()
        .unwrap()
        .to_string();
    assert!(errors.starts_with(&format!("{}:1:", places[0].display())), "{errors}");
}

#[test]
fn a_file_given_by_name_must_be_there() {
    let path = Path::new("/nowhere/agentledger.yaml");
    let errors = load(Some(path), &none(), &Known::built_in()).err().unwrap().to_string();
    assert!(
        errors.starts_with("reading config /nowhere/agentledger.yaml: "),
        "{errors}"
    );
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("binary.yaml");
    std::fs::write(&file, [0xff, 0xfe, 0x00]).unwrap();
    let errors = load(Some(&file), &none(), &Known::built_in())
        .err()
        .unwrap()
        .to_string();
    assert!(errors.ends_with("not UTF-8 text"), "{errors}");
}

/// A canary in every secret's place, with a fault beside each: it must show nowhere.
#[test]
fn no_secret_shows_in_errors_warnings_or_debug() {
    const CANARY: &str = "sk-CANARY-0123456789";
    let good = format!(
        "admin: {{enabled: true, token: {CANARY}}}\ncontrol: {{tokens: [{CANARY}, {{name: ci, token: {CANARY}x}}]}}\n\
         fingerprint: {{secret: {CANARY}{CANARY}}}\nbudgets: {{rules: [{{api_key_pattern: {CANARY}, action: {CANARY}}}]}}\n\
         alerts: {{slack: {{webhook_url: 'https://h/{CANARY}'}}, webhooks: [{{url: 'https://h/{CANARY}', headers: {{A: {CANARY}}}}}]}}\n\
         unknown: {CANARY}\n"
    );
    let config = read(&good);
    assert_eq!(config.control.tokens.len(), 2);
    assert_eq!(
        (config.control.tokens[0].role, config.control.tokens[1].role),
        (ControlRole::Admin, ControlRole::Read)
    );
    let shown = format!("{:?} {:?} {:?}", config.warnings, config.budgets, config.policies);
    assert!(!shown.contains("CANARY"), "{shown}");
    let wrong = [
        format!("admin: {CANARY}"),
        format!("admin: {{enabled: {CANARY}}}"),
        format!("admin: {{token: [{CANARY}]}}"),
        format!("admin: {{token: {CANARY}"),
        format!("listen: {CANARY}"),
        format!("log: {{level: {CANARY}}}"),
        format!("budgets: {{default: {{daily_limit_usd: {CANARY}}}}}"),
        format!("budgets: {{rules: [{{api_key_pattern: '{CANARY}['}}]}}"),
        format!("alerts: {{webhooks: [{{url: {CANARY}}}]}}"),
        format!("fingerprint: {{secret: {CANARY}}}"),
        format!("providers: {{openai: {{upstream: 'https://{CANARY}@host'}}}}"),
        format!("storage: {{driver: postgres, dsn: 'postgres://u:{CANARY}@h/d'}}"),
    ];
    for yaml in wrong {
        let errors = faults(&yaml);
        assert!(!errors.join("\n").contains("CANARY"), "{yaml}: {errors:?}");
        let variables = [("AGENTLEDGER_ADMIN", CANARY), ("AGENTLEDGER_DASHBOARD_ENABLED", CANARY)];
        let errors = read_with("", &Env::of(variables)).err().unwrap();
        assert!(!errors.to_string().contains("CANARY"), "{errors}");
    }
}

#[test]
fn yaml_keeps_digits_and_knows_anchors_and_merges() {
    let config = read(
        "budgets:\n  default: &base {daily_limit_usd: 9007199.254740993, action: block}\n  rules:\n  - {<<: *base, \
         api_key_pattern: 'sk-*', action: warn}\n",
    );
    let rule = &config.budgets.rules[0];
    assert_eq!(
        rule.daily_limit,
        Some(Usd::from_nanos(9_007_199_254_740_993)),
        "a float would round this"
    );
    assert_eq!(rule.action, "warn", "its own key wins over the merged one");
    assert!(load_text(None, "# nothing but a comment\n", &none(), &Known::built_in()).is_ok());
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
                d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e,*e]\n";
    assert!(faults(bomb)[0].contains("too large"));
    assert!(faults(&format!("a: {}", "[".repeat(10_000)))[0].contains("not YAML"));
}
