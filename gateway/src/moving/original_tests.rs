#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
use super::*;

const NOW_MS: i64 = 1_795_305_600_000;

#[test]
fn times_are_read_as_go_and_databases_write_them() {
    // 2026-03-15T12:34:56.789Z.
    let expected = Some(1_773_578_096_789);
    for text in [
        "2026-03-15 12:34:56.789 +0000 UTC",
        "2026-03-15 12:34:56.789012345 +0000 UTC",
        "2026-03-15 13:34:56.789 +0100 CET m=+12.345678901",
        "2026-03-15 07:04:56.789 -0530 -0530 m=-0.001",
        "2026-03-15T12:34:56.789Z",
        "2026-03-15T14:34:56.789+02:00",
        "2026-03-15 12:34:56.789",
    ] {
        assert_eq!(moment_ms(text), expected, "{text}");
    }
    assert_eq!(moment_ms("1970-01-01 00:00:00 +0000 UTC"), Some(0));
    assert_eq!(moment_ms("2024-02-29 00:00:00.5 +0000 UTC"), Some(1_709_164_800_500));
    for text in [
        "",
        "yesterday",
        "2026-02-30 00:00:00 +0000 UTC",
        "2026-13-01 00:00:00 +0000 UTC",
        "2026-03-15",
        "2026-03-15 25:00:00 +0000 UTC",
        "2026-03-15 12:34:56. +0000 UTC",
        "2026-03-15 12:34:56 CET",
        "2026/03/15 12:34:56",
        "2026-03-15 12:34:5é",
        "２０２６-03-15 12:34:56",
    ] {
        assert_eq!(moment_ms(text), None, "{text:?}");
    }
}

fn row() -> [Cell<'static>; 16] {
    [
        Cell::Text(b"01J8Z0000000000000000000AB"),
        Cell::Text(b"2026-03-15 12:34:56.789 +0000 UTC"),
        Cell::Text(b"openai"),
        Cell::Text(b"gpt-4o"),
        Cell::Text(b"0123456789abcdef01234567"),
        Cell::Integer(120),
        Cell::Integer(45),
        Cell::Real(0.000_750_000_4),
        Cell::Integer(0),
        Cell::Integer(812),
        Cell::Integer(200),
        Cell::Text(b"/v1/chat/completions"),
        Cell::Text(b"coder"),
        Cell::Text(b"run-1"),
        Cell::Text(b""),
        Cell::Text(b"acme"),
    ]
}

#[test]
fn a_row_is_read_and_its_cost_is_rounded_once() {
    let cells = row();
    let read = usage_row(7, NOW_MS, |at| cells[at]).unwrap();
    assert_eq!(read.id, Ulid::from_string("01J8Z0000000000000000000AB").unwrap());
    assert_eq!((read.place, read.at_ms, read.status), (7, 1_773_578_096_789, 200));
    assert_eq!((read.usage.input_tokens(), read.usage.output_tokens()), (120, 45));
    assert_eq!(read.cost, Usd::from_nanos(750_000));
    assert_eq!(
        (&*read.session, &*read.user, &*read.tenant, read.estimated),
        ("run-1", "", "acme", false)
    );
    assert_eq!(operation_of(&read.path), "chat");
}

#[test]
fn nonsense_is_named() {
    for (at, cell, said) in [
        (0, Cell::Null, "id is NULL"),
        (0, Cell::Text(b"\xff\xfe"), "id is not UTF-8"),
        (1, Cell::Text(b"soon"), "timestamp is no time"),
        (1, Cell::Text(b"0001-01-01 00:00:00 +0000 UTC"), "timestamp is no time"),
        (
            1,
            Cell::Text(b"2099-01-01 00:00:00 +0000 UTC"),
            "timestamp is of the future",
        ),
        (1, Cell::Integer(5), "timestamp is no text"),
        (2, Cell::Text(b""), "provider is empty"),
        (3, Cell::Text(b"a\nb"), "model has control characters"),
        (5, Cell::Integer(-1), "input_tokens is negative"),
        (6, Cell::Integer(i64::MAX), "output_tokens is beyond all measure"),
        (6, Cell::Text(b"many"), "output_tokens is no number"),
        (7, Cell::Real(-0.5), "cost_usd is negative"),
        (7, Cell::Real(f64::NAN), "cost_usd is beyond all measure"),
        (7, Cell::Real(1e300), "cost_usd is beyond all measure"),
        (7, Cell::Null, "cost_usd is NULL"),
        (8, Cell::Integer(2), "estimated is neither true nor false"),
        (10, Cell::Integer(70_000), "status_code is beyond all measure"),
        (13, Cell::Bytes, "session_id is no text"),
    ] {
        let mut cells = row();
        cells[at] = cell;
        let misfit = usage_row(9, NOW_MS, |at| cells[at]).unwrap_err();
        assert_eq!((&*misfit.row, &*misfit.reason), ("usage_records 9", said));
    }
    let long = "x".repeat(600);
    let mut cells = row();
    cells[13] = Cell::Text(long.as_bytes());
    assert!(
        usage_row(9, NOW_MS, |at| cells[at])
            .unwrap_err()
            .reason
            .contains("longer than")
    );
}

#[test]
fn an_id_of_another_kind_is_always_the_same_one() {
    let id = id_of("7b1e2c34-aaaa-bbbb-cccc-1234567890ab", 1_000);
    assert_eq!(id, id_of("7b1e2c34-aaaa-bbbb-cccc-1234567890ab", 1_000));
    assert_ne!(id, id_of("7b1e2c34-aaaa-bbbb-cccc-1234567890ac", 1_000));
    assert_eq!(id.timestamp_ms(), 1_000);
}

#[test]
fn what_operators_changed_is_read_by_its_keys() {
    let mut rows = AdminRows::default();
    let mut put = |key: &'static str, value: &'static str| {
        admin_row(&mut rows, Cell::Text(key.as_bytes()), Cell::Text(value.as_bytes()))
    };
    put("budget_rules", r#"[{"api_key_pattern":"sk-*","daily_limit_usd":5}]"#).unwrap();
    put("blocked_keys", r#"["sk-bad*"]"#).unwrap();
    put("providers_enabled", r#"{"groq":false,"openai":true}"#).unwrap();
    assert!(put("colours", "{}").unwrap_err().reason.contains("colours"));
    assert!(put("blocked_keys", "{").unwrap_err().reason.contains("blocked_keys"));
    put("blocked_keys", "null").unwrap();
    assert_eq!((rows.budget_rules.len(), rows.blocked_keys.len()), (1, 0));
    assert_eq!(rows.disabled_providers, ["groq"]);
}
