//! The environment over the file, key by key.

use super::*;

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
    assert!(config.tenants_enabled && config.tls.is_some() && config.alerts.plan.receivers == ["slack"]);
    assert_eq!(config.policies.conf["tenant"]["key_mappings"][0]["tenant_id"], "acme");
    assert_eq!(config.policies.conf["rate_limit"]["default"]["requests_per_minute"], 60);
    assert_eq!(config.control.admin_token.unwrap().expose(), "from-env");
    assert_eq!(config.cors_allow_origins, ["https://a.example", "https://b.example"]);
    assert_eq!(config.mcp.pricing.rules[0].rates.per_call, Usd::from_nanos(500_000_000));
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
                Shape::LeafOrSection(keys) => {
                    out.push(path.clone());
                    leaves(keys, &path, out);
                }
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
        "_SERVICE_NAME",
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
