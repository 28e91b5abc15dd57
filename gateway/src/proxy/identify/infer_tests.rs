#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue};

use super::*;
use crate::plugin::SENDER_MEMBERS;
use crate::proxy::identify::clients::known_client;
use crate::secret::Secret;

const CLAUDE: (&str, &str) = ("user-agent", "claude-cli/2.1.197 (external, cli)");
const CODEX: (&str, &str) = ("user-agent", "codex_exec/0.171.0 (Debian 12.0.0; x86_64)");

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

fn nobody() -> Identity {
    Identity {
        client: None,
        key: Secret::new(String::new()),
        fingerprint: Name::from(""),
        agent: Name::from(""),
        session: Name::from(""),
        run: Name::from(""),
        user: Name::from(""),
        task: Name::from(""),
        tags: BTreeMap::new(),
        inferred: Inferred::NONE,
        tenant_claim: None,
        session_end: false,
        trace: None,
        is_retry: false,
    }
}

fn inferred_by(identity: Identity, pairs: &[(&str, &str)]) -> Identity {
    let headers = headers(pairs);
    let mut identity = Identity {
        client: known_client(&headers),
        ..identity
    };
    from_head(&mut identity, &headers, &Limits::default());
    identity
}

/// Agent, session, user and parent.
fn names(identity: &Identity) -> [&str; 4] {
    let parent = identity.tags.get(PARENT_TAG).map_or("", |parent| parent);
    [&identity.agent, &identity.session, &identity.user, parent]
}

/// What a client sends, and the agent, session, user and parent that it tells.
type Case<'c> = (&'c [(&'c str, &'c str)], [&'c str; 4]);

#[test]
fn each_client_says_who_it_is_in_its_own_way() {
    let gemini = "GeminiCLI-tui/0.61.0/gemini-3.1-pro-preview (linux; x64; terminal)";
    let opencode = "opencode/1.18.33 ai-sdk/provider-utils/4.0.46 runtime/bun/1.3.14";
    let claude = ("x-claude-code-session-id", "s1");
    let agent = ("x-claude-code-agent-id", "a1");
    let thread = [CODEX, ("originator", "codex_exec"), ("session-id", "s1")];
    let cases: [Case<'_>; 9] = [
        (&[CLAUDE, claude], ["claude-code", "s1", "", ""]),
        (&[CLAUDE, claude, agent], ["claude-code", "s1/a1", "", "s1"]),
        (
            &[CLAUDE, claude, agent, ("x-claude-code-parent-agent-id", "a0")],
            ["claude-code", "s1/a1", "", "s1/a0"],
        ),
        (&[&thread[..], &[("thread-id", "s1")]].concat(), ["codex", "s1", "", ""]),
        (
            &[&thread[..], &[("thread-id", "t2")]].concat(),
            ["codex", "t2", "", "s1"],
        ),
        (
            &[&thread[..], &[("thread-id", "t3"), ("x-codex-parent-thread-id", "t2")]].concat(),
            ["codex", "t3", "", "t2"],
        ),
        (
            &[
                ("user-agent", opencode),
                ("x-session-id", "ses_2"),
                ("x-parent-session-id", "ses_1"),
            ],
            ["opencode", "ses_2", "", "ses_1"],
        ),
        (
            &[("user-agent", gemini), ("x-gemini-api-privileged-user-id", "u1")],
            ["gemini-cli", "", "u1", ""],
        ),
        (
            &[
                ("user-agent", "OpenAI/Python 2.20.0"),
                ("http-referer", "https://a.example"),
            ],
            ["https://a.example", "", "", ""],
        ),
    ];
    for (said, expected) in cases {
        assert_eq!(names(&inferred_by(nobody(), said)), expected, "{said:?}");
    }
}

#[test]
fn the_product_is_the_agent_where_nothing_better_is_said() {
    for (value, agent) in [
        ("curl/8.7.1", "curl"),
        ("python-requests", "python-requests"),
        ("my bot (x)", "my"),
        ("/1", ""),
        (" ", ""),
    ] {
        let identity = inferred_by(nobody(), &[("user-agent", value)]);
        assert_eq!(&*identity.agent, agent, "{value}");
        assert_eq!(identity.inferred.is_empty(), agent.is_empty());
    }
    let titled = inferred_by(nobody(), &[("user-agent", "curl/8"), ("x-title", "My App")]);
    assert_eq!(&*titled.agent, "My App");
}

#[test]
fn what_is_said_outright_wins_and_is_not_marked() {
    let mine = Identity {
        agent: Name::from("coder"),
        ..nobody()
    };
    let identity = inferred_by(mine, &[CLAUDE, ("x-claude-code-session-id", "s1")]);
    assert_eq!(names(&identity), ["coder", "s1", "", ""]);
    assert_eq!(identity.inferred, Inferred::SESSION);

    // The parent of a session that somebody named is theirs to name.
    let mine = Identity {
        session: Name::from("run-1"),
        ..nobody()
    };
    let of_subagent = [
        CLAUDE,
        ("x-claude-code-session-id", "s1"),
        ("x-claude-code-agent-id", "a1"),
    ];
    let identity = inferred_by(mine, &of_subagent);
    assert_eq!(names(&identity), ["claude-code", "run-1", "", ""]);
    assert_eq!(identity.inferred, Inferred::AGENT);

    let mine = Identity {
        tags: BTreeMap::from([(Name::from(PARENT_TAG), Name::from("run-0"))]),
        ..nobody()
    };
    let identity = inferred_by(mine, &of_subagent);
    assert_eq!(names(&identity), ["claude-code", "s1/a1", "", "run-0"]);
    assert!(!identity.inferred.contains(Inferred::PARENT));
}

#[test]
fn what_cannot_be_a_name_is_passed_over() {
    let long = "x".repeat(257);
    for bad in ["", "   ", &long, "a\tb", "\u{85}x"] {
        let said = [
            CLAUDE,
            ("x-claude-code-session-id", bad),
            ("x-claude-code-session-id", "s1"),
        ];
        assert_eq!(
            names(&inferred_by(nobody(), &said))[1],
            "s1",
            "{bad:?}: the next of its kind"
        );
        let said = [CLAUDE, ("x-claude-code-session-id", bad), ("session-id", "s2")];
        assert_eq!(names(&inferred_by(nobody(), &said))[1], "s2", "{bad:?}: the next row");
        let said = [CLAUDE, ("x-claude-code-session-id", bad)];
        assert_eq!(names(&inferred_by(nobody(), &said))[1], "", "{bad:?}");
    }
    let mut not_text = headers(&[]);
    not_text.append("session-id", HeaderValue::from_bytes(b"\xff\xfe").unwrap());
    let mut identity = nobody();
    from_head(&mut identity, &not_text, &Limits::default());
    assert!(identity.session.is_empty());

    // Both fit, together they do not: then it is the run's session.
    let half = "y".repeat(200);
    let said = [
        CLAUDE,
        ("x-claude-code-session-id", &half),
        ("x-claude-code-agent-id", &half),
    ];
    assert_eq!(names(&inferred_by(nobody(), &said))[1], half);
}

#[test]
fn a_parent_finds_no_place_where_all_tags_are_taken() {
    let limits = Limits {
        tags_max: 1,
        ..Limits::default()
    };
    let mut identity = Identity {
        tags: BTreeMap::from([(Name::from("team"), Name::from("ml"))]),
        ..nobody()
    };
    let said = headers(&[("x-session-id", "ses_2"), ("x-parent-session-id", "ses_1")]);
    from_head(&mut identity, &said, &limits);
    assert_eq!(names(&identity), ["", "ses_2", "", ""]);
    assert_eq!(identity.inferred, Inferred::SESSION);
}

#[test]
fn a_user_id_is_read_in_all_its_forms() {
    let id = |user: &str, session: &str| UserId {
        user: Some(user.to_owned()).filter(|user| !user.is_empty()),
        session: Some(session.to_owned()).filter(|session| !session.is_empty()),
    };
    for (text, expected) in [
        ("user_6e4f_account_11-22_session_4c96-67", id("6e4f", "4c96-67")),
        ("user_6e4f_account__session_4c96", id("6e4f", "4c96")),
        (
            r#"{"device_id":"6e4f","account_uuid":"","session_id":"4c96"}"#,
            id("6e4f", "4c96"),
        ),
        (r#"{"device_id":"6e4f"}"#, id("6e4f", "")),
        (r#"{"device_id":7}"#, UserId::default()),
        ("{oops", UserId::default()),
        ("user_1", id("user_1", "")),
        ("customer 7", id("customer 7", "")),
    ] {
        assert_eq!(UserId::parse(text.to_owned()), expected, "{text}");
    }
    for (metadata, user) in [
        (r#"{"user_id": "a\u0062c", "more": [1]}"#, Some("abc")),
        (r#"{"user_id": 7}"#, None),
        (r#"{"user_id": "a", "user_id": "b"}"#, None),
        ("[]", None),
        ("null", None),
    ] {
        let read = UserId::of(metadata.as_bytes()).and_then(|id| id.user);
        assert_eq!(read.as_deref(), user, "{metadata}");
    }
    let long = format!(r#"{{"pad": "{}", "user_id": "a"}}"#, "p".repeat(METADATA_BYTES_MAX));
    assert_eq!(UserId::of(long.as_bytes()), None);
}

#[test]
fn the_table_reads_what_is_kept_of_bodies_and_the_guide_lists_it() {
    let guide = include_str!("../../../assets/guide/identity.md");
    let rows: Vec<&str> = guide.lines().filter(|line| line.starts_with("| ")).collect();
    let listed = |what: Inferred, place: &str| {
        let what = what.names().next().unwrap();
        rows.iter()
            .any(|row| row.starts_with(&format!("| {what} |")) && row.contains(&format!("`{place}`")))
    };
    for row in &ROWS {
        let places: Vec<&str> = match &row.at {
            Place::Header(header) => vec![header],
            Place::Below(above, below) => vec![above, below],
            Place::KnownClient | Place::Product => vec!["User-Agent"],
            Place::Member(member) => {
                assert!(SENDER_MEMBERS.contains(member), "{member} is not kept");
                vec![member]
            }
            Place::UserId(_) => vec!["metadata.user_id"],
            Place::Trace => vec!["traceparent"],
        };
        for place in places {
            assert!(
                listed(row.what, place),
                "{:?} from {place} is not in the guide",
                row.what
            );
        }
    }
}
