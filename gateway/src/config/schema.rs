//! Every key that a configuration may have, as data: what is unknown is told by it, and the environment is read by it.

/// What stands under a key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// One value.
    Leaf,
    /// A list of values.
    Leaves,
    /// Keys of its own.
    Section(&'static [Key]),
    /// A list of sections.
    Rows(&'static [Key]),
    /// Free names, each over a section.
    NamedSections(&'static [Key]),
    /// Free names, each over one value.
    NamedLeaves,
    /// Free names, each over whatever its reader wants.
    NamedAny,
    /// A list whose items are a value or a section.
    LeavesOrRows(&'static [Key]),
    /// One value, or a section.
    LeafOrSection(&'static [Key]),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Key {
    pub name: &'static str,
    pub shape: Shape,
}

const fn leaf(name: &'static str) -> Key {
    Key {
        name,
        shape: Shape::Leaf,
    }
}

const fn leaves(name: &'static str) -> Key {
    Key {
        name,
        shape: Shape::Leaves,
    }
}

const fn section(name: &'static str, keys: &'static [Key]) -> Key {
    Key {
        name,
        shape: Shape::Section(keys),
    }
}

const fn rows(name: &'static str, keys: &'static [Key]) -> Key {
    Key {
        name,
        shape: Shape::Rows(keys),
    }
}

const fn named(name: &'static str, shape: Shape) -> Key {
    Key { name, shape }
}

/// The whole file.
pub const ROOT: &[Key] = &[
    leaf("listen"),
    leaves("hosts"),
    section("providers", PROVIDERS),
    section("storage", STORAGE),
    section("log", &[leaf("level"), leaf("format")]),
    section("recording", &[leaf("buffer_size"), leaf("workers")]),
    section("budgets", BUDGETS),
    section("circuit_breaker", &[leaf("max_failures"), leaf("timeout_secs")]),
    section("agent", AGENT),
    section("dashboard", &[leaf("enabled")]),
    section(
        "tenants",
        &[
            leaf("enabled"),
            rows("key_mappings", &[leaf("api_key_pattern"), leaf("tenant_id")]),
        ],
    ),
    section("alerts", ALERTS),
    section("rate_limits", RATE_LIMITS),
    section("admin", &[leaf("enabled"), leaf("token")]),
    section("mcp", MCP),
    section("cors", &[leaves("allow_origins")]),
    section("tls", &[leaf("cert_file"), leaf("key_file")]),
    section(
        "policies",
        &[
            leaf("dir"),
            leaf("deadline_ms"),
            Key {
                name: "rollback",
                shape: Shape::LeafOrSection(&[leaf("share"), leaf("calls"), leaf("within")]),
            },
            named("conf", Shape::NamedAny),
        ],
    ),
    section("plugins", &[leaf("dir"), named("pins", Shape::NamedLeaves)]),
    section(
        "prices",
        &[
            leaves("files"),
            section("update", &[leaves("from"), leaf("every"), leaf("apply"), leaf("dir")]),
        ],
    ),
    section("backup", &[leaf("every"), leaf("dir"), leaf("keep")]),
    section("identity", &[leaf("infer")]),
    section("hold", HOLD),
    section("refusals", REFUSALS),
    section("limits", LIMITS),
    section("control", CONTROL),
    section(
        "telemetry",
        &[Key {
            name: "otlp",
            shape: Shape::LeafOrSection(OTLP),
        }],
    ),
    section("fingerprint", &[leaf("secret")]),
    section("keys", &[named("aliases", Shape::NamedLeaves)]),
];

const OTLP: &[Key] = &[
    leaf("enabled"),
    leaf("endpoint"),
    leaf("traces"),
    leaf("metrics"),
    leaf("protocol"),
    named("headers", Shape::NamedLeaves),
    leaf("interval"),
    leaf("timeout"),
    leaf("sample"),
    leaf("follow_parent"),
    leaf("service_name"),
];

/// `openai` and `anthropic` stand by themselves, all others under `extra`; a name beside `extra` is read as one under it.
const PROVIDERS: &[Key] = &[
    section("openai", PROVIDER),
    section("anthropic", PROVIDER),
    named("extra", Shape::NamedSections(PROVIDER)),
];

pub const PROVIDER: &[Key] = &[
    leaf("enabled"),
    leaf("type"),
    leaf("upstream"),
    leaf("path_prefix"),
    leaf("free"),
    leaf("book"),
    leaf("unpriced"),
    section("default_price", &[leaf("input"), leaf("output")]),
    leaf("inject_usage"),
    leaf("output_limit"),
    leaf("websocket"),
    leaf("unknown_routes"),
    section(
        "timeouts",
        &[leaf("connect_ms"), leaf("first_byte_ms"), leaf("idle_ms")],
    ),
    section("retries", &[leaf("connect"), leaves("statuses")]),
    leaf("ca_file"),
    leaf("h2"),
    named("deployments", Shape::NamedLeaves),
    // AWS's, for the type bedrock.
    leaf("region"),
    leaf("access_key_id"),
    leaf("secret_access_key"),
    leaf("session_token"),
    leaves("client_keys"),
];

const STORAGE: &[Key] = &[
    leaf("driver"),
    leaf("dsn"),
    leaf("max_open_conns"),
    leaf("max_idle_conns"),
    leaf("durability"),
    leaf("retention_months"),
];

const BUDGETS: &[Key] = &[
    section("default", BUDGET_RULE),
    rows("rules", BUDGET_RULE),
    section("global", BUDGET_RULE),
];

pub const BUDGET_RULE: &[Key] = &[
    leaf("api_key_pattern"),
    leaf("tenant_id"),
    leaf("daily_limit_usd"),
    leaf("monthly_limit_usd"),
    leaf("soft_limit_pct"),
    leaf("action"),
];

const AGENT: &[Key] = &[
    leaf("session_timeout_mins"),
    leaf("loop_threshold"),
    leaf("loop_window_mins"),
    leaf("loop_action"),
    leaf("ghost_max_age_mins"),
    leaf("ghost_min_calls"),
    leaf("ghost_min_cost_usd"),
];

const ALERTS: &[Key] = &[
    section("slack", &[leaf("webhook_url"), leaf("allow_private")]),
    rows(
        "webhooks",
        &[
            leaf("url"),
            named("headers", Shape::NamedLeaves),
            leaf("secret"),
            leaf("allow_private"),
        ],
    ),
    leaf("cooldown_mins"),
    rows("receivers", ALERT_RECEIVER),
    rows(
        "routes",
        &[
            leaves("types"),
            leaf("severity"),
            leaves("tenants"),
            leaves("receivers"),
        ],
    ),
    section(
        "quiet_hours",
        &[leaf("zone"), leaf("from"), leaf("until"), leaf("passes")],
    ),
    section("digest", &[leaf("every_mins"), leaf("passes")]),
    section("retry", &[leaf("attempts"), leaf("hours")]),
    leaf("timeout"),
];

const ALERT_RECEIVER: &[Key] = &[
    leaf("name"),
    leaf("kind"),
    leaf("url"),
    leaf("url_env"),
    leaf("secret"),
    leaf("secret_env"),
    named("headers", Shape::NamedLeaves),
    leaf("allow_private"),
    leaf("template"),
    leaf("content_type"),
    leaf("addr"),
    leaf("tls"),
    leaf("username"),
    leaf("password"),
    leaf("password_env"),
    leaf("from"),
    leaves("to"),
];

const RATE_LIMITS: &[Key] = &[section("default", RATE_RULE), rows("rules", RATE_RULE)];

const RATE_RULE: &[Key] = &[
    leaf("api_key_pattern"),
    leaf("requests_per_second"),
    leaf("requests_per_minute"),
    leaf("requests_per_hour"),
    leaf("requests_per_day"),
    leaf("tokens_per_minute"),
    leaf("tokens_per_hour"),
    leaf("tokens_per_day"),
    leaf("parallel"),
];

const MCP: &[Key] = &[
    leaf("enabled"),
    leaf("upstream"),
    named("servers", Shape::NamedSections(MCP_SERVER)),
    leaf("refusals"),
    leaf("answer_wait"),
    section("stdio", MCP_STDIO),
    rows("pricing", TOOL_PRICE),
    leaf("hold"),
    named("pricers", Shape::NamedAny),
];

const MCP_STDIO: &[Key] = &[
    leaf("server"),
    leaf("offline"),
    leaf("spool"),
    leaf("answer_timeout"),
    leaf("long_lines"),
    leaf("pin"),
];

const TOOL_PRICE: &[Key] = &[
    leaf("server"),
    leaf("tool"),
    leaf("cost_per_call"),
    leaf("cost_per_kb_arguments"),
    leaf("cost_per_kb_result"),
    leaf("cost_per_second"),
    leaf("cost_per_item"),
    leaf("items"),
    leaf("max_cost"),
    leaf("hold"),
    leaf("errors"),
];

const MCP_SERVER: &[Key] = &[
    leaf("upstream"),
    named("headers", Shape::NamedLeaves),
    leaf("bearer"),
    leaf("bearer_env"),
    leaves("client_keys"),
    leaf("allow_private"),
    leaf("ca_file"),
    leaf("h2"),
    leaf("pin"),
    section(
        "timeouts",
        &[leaf("connect_ms"), leaf("first_byte_ms"), leaf("idle_ms")],
    ),
];

const HOLD: &[Key] = &[
    leaf("size"),
    leaf("unnamed_output"),
    leaf("recovered"),
    leaf("wait_ms"),
    named("allowances", Shape::NamedLeaves),
];

const REFUSALS: &[Key] = &[
    leaf("budget"),
    leaf("loop"),
    leaf("kill"),
    leaf("denial"),
    named("by_client", Shape::NamedSections(REFUSAL_STATUSES)),
    leaf("backing_off"),
    leaf("close_after"),
];

const REFUSAL_STATUSES: &[Key] = &[leaf("budget"), leaf("loop"), leaf("kill"), leaf("denial")];

const CONTROL: &[Key] = &[
    leaf("listen"),
    leaf("socket"),
    Key {
        name: "tokens",
        shape: Shape::LeavesOrRows(&[
            leaf("name"),
            leaf("token"),
            leaf("token_env"),
            leaf("token_file"),
            leaf("role"),
            leaf("tenant"),
            leaf("expires"),
        ]),
    },
    leaf("public_read"),
];

const LIMITS: &[Key] = &[
    leaf("body_bytes_max"),
    leaf("upload_bytes_max"),
    leaf("bodies_in_flight_bytes_max"),
    leaf("json_depth_max"),
    leaf("json_keys_max"),
    leaf("identity_bytes_max"),
    leaf("tags_bytes_max"),
    leaf("tags_max"),
    leaf("sessions_in_memory_max"),
    leaf("names_per_kind_max"),
    leaf("bound_accounts_max"),
    leaf("header_bytes_max"),
    leaf("frame_bytes_max"),
    leaf("answer_bytes_max"),
    leaf("header_read_timeout_ms"),
    leaf("body_read_timeout_ms"),
    leaf("read_on_ms"),
    leaf("drain_ms"),
    leaf("estimate_bytes_max"),
    leaf("plugin_deadline_ms"),
    leaf("plugin_memory_bytes_max"),
    leaf("metric_label_values_max"),
    leaf("journal_queue_events_max"),
    leaf("socket_idle_ms"),
    leaf("admission_wait_ms"),
    leaf("background_wait_ms"),
    leaf("background_holds_max"),
];

pub fn find(keys: &'static [Key], name: &str) -> Option<&'static Key> {
    keys.iter().find(|key| key.name.eq_ignore_ascii_case(name))
}
