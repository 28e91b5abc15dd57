//! Where a configuration comes from: files, the environment, and what ships.

use super::*;

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

/// The original took no variable for keys without a default of its own: budgets, breaker, tenants, alerts, rate limits,
/// admin, CORS, TLS, MCP prices.
#[test]
fn bug_only_keys_with_a_default_took_their_environment_variable() {
    let env = Env::of([
        ("AGENTLEDGER_BUDGETS_DEFAULT_DAILY_LIMIT_USD", "12.5"),
        ("AGENTLEDGER_BUDGETS_DEFAULT_ACTION", "block"),
        (
            "AGENTLEDGER_BUDGETS_RULES",
            r#"[{"api_key_pattern": "sk-a*", "monthly_limit_usd": 7}]"#,
        ),
        ("AGENTLEDGER_CIRCUIT_BREAKER_MAX_FAILURES", "3"),
        ("AGENTLEDGER_TENANTS_ENABLED", "true"),
        (
            "AGENTLEDGER_TENANTS_KEY_MAPPINGS",
            "[{api_key_pattern: 'sk-a*', tenant_id: acme}]",
        ),
        ("AGENTLEDGER_ALERTS_SLACK_WEBHOOK_URL", "https://hooks.example/x"),
        ("AGENTLEDGER_RATE_LIMITS_DEFAULT_REQUESTS_PER_MINUTE", "60"),
        ("AGENTLEDGER_ADMIN_ENABLED", "true"),
        ("AGENTLEDGER_ADMIN_TOKEN", "from-env"),
        ("AGENTLEDGER_CORS_ALLOW_ORIGINS", "https://a.example, https://b.example"),
        ("AGENTLEDGER_TLS_CERT_FILE", "c.pem"),
        ("AGENTLEDGER_TLS_KEY_FILE", "k.pem"),
        ("AGENTLEDGER_MCP_PRICING", "[{server: s, cost_per_call: 0.5}]"),
        ("AGENTLEDGER_STORAGE_MAX_OPEN_CONNS", "25"),
    ]);
    let config = read_with("", &env).unwrap();
    assert_eq!(
        config.budgets.default.as_ref().unwrap().daily_limit,
        Some(Usd::from_nanos(12_500_000_000))
    );
    assert_eq!(config.budgets.default.as_ref().unwrap().action, "block");
    assert_eq!(
        config.budgets.rules[0].monthly_limit,
        Some(Usd::from_nanos(7_000_000_000))
    );
    assert_eq!(config.breaker.max_failures, 3);
    assert!(config.tenants_enabled && config.tls.is_some() && config.alerts.slack_webhook_url.is_some());
    assert_eq!(config.policies.conf["tenant"]["key_mappings"][0]["tenant_id"], "acme");
    assert_eq!(config.policies.conf["rate_limit"]["default"]["requests_per_minute"], 60);
    assert_eq!(config.control.admin_token.unwrap().expose(), "from-env");
    assert_eq!(config.cors_allow_origins, ["https://a.example", "https://b.example"]);
    assert_eq!(config.mcp.pricing[0].cost, Usd::from_nanos(500_000_000));
}

#[test]
fn the_environment_beats_the_file_and_the_file_the_default() {
    let file = "listen: ':1'\nproviders: {extra: {my-host: {upstream: 'http://file:1', enabled: true, free: true}}}\n";
    let env = Env::of([
        ("AGENTLEDGER_LISTEN", ":2"),
        ("AGENTLEDGER_PROVIDERS_EXTRA_MY_HOST_UPSTREAM", "http://env:2"),
        ("AGENTLEDGER_PROVIDERS_EXTRA_GROQ_ENABLED", "true"),
        ("AGENTLEDGER_PROVIDERS_EXTRA_GROQ_DEFAULT_PRICE_INPUT", "0.5"),
        ("AGENTLEDGER_PROVIDERS_EXTRA_GROQ_DEFAULT_PRICE_OUTPUT", "1"),
        ("AGENTLEDGER_PROVIDERS_EXTRA_NEW_ONE_UPSTREAM", "http://new:3"),
        ("AGENTLEDGER_PROVIDERS_EXTRA_NEW_ONE_ENABLED", "1"),
        ("AGENTLEDGER_PROVIDERS_EXTRA_NEW_ONE_FREE", "yes"),
        ("AGENTLEDGER_PROVIDERS_EXTRA_NEW_ONE_TIMEOUTS_CONNECT_MS", "77"),
        ("AGENTLEDGER_PROVIDERS_XAI_FREE", "true"),
        ("AGENTLEDGER_HOLD_ALLOWANCES_IMAGE", "5"),
        ("AGENTLEDGER_POLICIES_CONF_BUDGET_STEP", "3"),
        ("AGENTLEDGER_POLICIES_CONF_MINE", "{a: [1]}"),
        ("AGENTLEDGER_LOG_LEVEL", ""),
        ("AGENTLEDGER_AGENT_ID", "for mcp-wrap"),
        ("AGENTLEDGER_NO_SUCH_KEY", "UNSEEN"),
        ("UNRELATED", "x"),
    ]);
    let config = read_with(file, &env).unwrap();
    assert_eq!(config.listen, ":2");
    assert_eq!(provider(&config, "my-host").upstream.host, "env");
    assert!(matches!(provider(&config, "groq").unpriced, Unpriced::Price { .. }));
    assert_eq!(provider(&config, "new_one").timeouts.connect, Duration::from_millis(77));
    assert_eq!(config.hold.allowances["image"], 5);
    assert_eq!(config.log.level, "info", "an empty variable is none");
    assert_eq!(config.policies.conf["budget"]["step"], 3);
    assert_eq!(config.policies.conf["mine"]["a"][0], 1);
    assert_eq!(
        config.warnings,
        ["AGENTLEDGER_NO_SUCH_KEY: names no key of the configuration, ignored"]
    );
    let errors = read_with("", &Env::of([("AGENTLEDGER_LOG_LEVEL", "loud")]))
        .err()
        .unwrap();
    assert!(
        errors
            .to_string()
            .starts_with("AGENTLEDGER_LOG_LEVEL: log.level: \"loud\""),
        "{errors}"
    );
}

/// Walks the schema: no key may be there for show. What no reader reads is named here.
#[test]
fn every_key_of_the_schema_takes_its_variable_and_is_read() {
    use super::schema::{Key, Shape};
    fn leaves(keys: &'static [Key], path: &str, out: &mut Vec<String>) {
        for key in keys {
            let path = format!("{path}_{}", key.name.to_ascii_uppercase());
            match key.shape {
                Shape::Leaf | Shape::Leaves => out.push(path),
                Shape::Section(keys) => leaves(keys, &path, out),
                Shape::NamedSections(keys) => leaves(keys, &format!("{path}_SOME"), out),
                Shape::NamedLeaves => out.push(format!("{path}_IMAGE")),
                Shape::Rows(_) | Shape::LeavesOrRows(_) => out.push(path),
                Shape::NamedAny => {}
            }
        }
    }
    // Free text: anything is right.
    let free = [
        "_DSN",
        "_TENANT_ID",
        "_DIR",
        "_CERT_FILE",
        "_CA_FILE",
        "_KEY_FILE",
        "_FILES",
        "_TYPE",
        "_ACTION",
        "_SOCKET",
        "_API_KEY_PATTERN",
    ];
    let free = |name: &str| {
        (free.iter().any(|end| name.ends_with(end)) && name != "AGENTLEDGER_AGENT_LOOP_ACTION")
            || name == "AGENTLEDGER_ADMIN_TOKEN"
            || name.ends_with("CONTROL_TOKENS")
    };
    let mut names = Vec::new();
    leaves(super::schema::ROOT, "AGENTLEDGER", &mut names);
    assert!(names.len() > 100, "{}", names.len());
    for name in names {
        // No number, no word, no address, no list: wrong for every key that is not free text.
        let outcome = read_with("", &Env::of([(name.clone(), "\u{1} neither { [ nor")]));
        match outcome {
            Ok(config) => {
                let told = config.warnings.iter().any(|warning| warning.starts_with(&name));
                assert!(free(&name) || told, "{name} is not read");
                let ignored = config.warnings.iter().any(|warning| warning.contains("names no key"));
                assert!(!ignored, "{name}: {:?}", config.warnings);
            }
            Err(errors) => assert!(errors.to_string().contains(&name), "{name}: {errors}"),
        }
    }
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

/// The files that people copy: each loads, and the example names every key.
#[test]
fn every_shipped_configuration_loads() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files: Vec<PathBuf> = Vec::new();
    for dir in ["configs", "configs/deploy"] {
        files.extend(yaml_files(&root.join(dir)));
    }
    if let Ok(examples) = std::fs::read_dir(root.join("examples")) {
        files.extend(examples.flat_map(|example| yaml_files(&example.unwrap().path())));
    }
    assert!(files.len() >= 2, "{files:?}");
    for file in files {
        let (config, _) = load(Some(&file), &none(), &Known::built_in()).unwrap_or_else(|errors| panic!("{errors}"));
        let odd: Vec<&String> = config
            .warnings
            .iter()
            .filter(|warning| warning.contains("unknown"))
            .collect();
        assert!(odd.is_empty(), "{odd:?}");
    }
}

/// Only files named after the program: a folder of an example may hold other YAML.
fn yaml_files(dir: &Path) -> Vec<PathBuf> {
    let Ok(files) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    let paths = files.map(|file| file.unwrap().path());
    paths
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("agentledger"))
        })
        .filter(|path| path.extension().is_some_and(|end| end == "yaml"))
        .collect()
}

#[test]
fn the_example_names_every_key() {
    use super::schema::{Key, Shape};
    fn missing(keys: &'static [Key], node: Option<&super::node::Node>, path: &str, out: &mut Vec<String>) {
        for key in keys {
            let path = format!("{path}.{}", key.name);
            let Some(child) = node.and_then(|node| node.get(key.name)) else {
                out.push(path);
                continue;
            };
            match key.shape {
                Shape::Section(keys) => missing(keys, Some(child), &path, out),
                Shape::Rows(keys) | Shape::LeavesOrRows(keys) => {
                    let super::node::Value::List(rows) = &child.value else {
                        panic!("{path} is no list")
                    };
                    missing(keys, rows.first(), &path, out);
                }
                // Every key is shown at one of the names.
                Shape::NamedSections(keys) => missing(keys, child.get("my-host"), &path, out),
                _ => {}
            }
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/agentledger.example.yaml");
    let document = super::node::parse(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut out = Vec::new();
    missing(super::schema::ROOT, Some(&document.root), "", &mut out);
    // The two at the root have the keys of any provider, shown once; their type and prefix are fixed.
    out.retain(|path| !path.starts_with(".providers.openai.") && !path.starts_with(".providers.anthropic."));
    // A rule's own keys are meaningless in the default and the global limit, and a provider takes one price.
    let meaningless = [
        "default.api_key_pattern",
        "default.tenant_id",
        "global.api_key_pattern",
        "global.tenant_id",
    ];
    out.retain(|path| !meaningless.iter().any(|key| path.ends_with(key)));
    out.retain(|path| {
        !path.ends_with("my-host.free") && !path.ends_with("extra.free") && !path.ends_with("extra.unpriced")
    });
    assert!(out.is_empty(), "{out:#?}");
}
