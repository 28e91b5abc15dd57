#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use agentledger_ledger::Usd;
use ratatui_core::backend::TestBackend;
use ratatui_core::style::Color;
use ratatui_core::terminal::Terminal;
use ratatui_crossterm::crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::changes::Change;
use super::model::{Act, Mode, Model};
use super::rows::{PANES, Pane};
use super::source::{Answers, News};
use super::text::at_ms;
use super::{keys, view};
use crate::config::KeyAliases;
use crate::control::wire::{AlertRow, AlertRows, BudgetRow, BudgetStatus, CostRow, Holds, SessionRow, Sessions};

const NOW: &str = "2026-12-01T14:05:30.000Z";

fn of<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn agent(name: &str, cost: &str, requests: u64) -> CostRow {
    CostRow {
        agent: name.into(),
        cost_usd: cost.parse().unwrap(),
        requests,
        ..CostRow::default()
    }
}

fn session(id: &str, tenant: &str, running: u32, cost: &str) -> SessionRow {
    SessionRow {
        id: id.into(),
        tenant: tenant.into(),
        status: "active".into(),
        running,
        last_seen: "2026-12-01T14:05:00.000Z".into(),
        cost_usd: cost.parse().unwrap(),
        ..SessionRow::default()
    }
}

fn budget(account: &str, spent: &str, held: &str, limit: &str, mode: &str) -> BudgetRow {
    let row: BudgetStatus = of(json!({"budgets": [{
        "account": account, "window": "day", "zone": "UTC", "from": "2026-12-01T00:00:00.000Z", "to": "2026-12-02T00:00:00.000Z",
        "spent_usd": spent, "held_usd": held, "overage_usd": "0", "spent_tokens": 0, "held_tokens": 0, "spent_requests": 0,
        "held_requests": 0, "limits": [{"unit": "usd", "limit": limit, "mode": mode}]}]}));
    row.budgets[0].clone()
}

fn hold(id: u64, session: &str, tenant: &str, usd: &str) -> Value {
    json!({"id": id, "exchange": "E", "since": NOW, "age_ms": 8_000, "provider": "openai", "model": "gpt-4o", "key": "k",
        "tenant": tenant, "agent": "crawler", "session": session, "held_usd": usd, "held_tokens": 50, "first_usd": usd, "basis": "b"})
}

fn answers() -> Box<Answers> {
    let holds: Holds = of(
        json!({"holds": [hold(1, "s1", "acme", "0.1"), hold(2, "s1", "acme", "0.04"), hold(3, "s1", "globex", "7")]}),
    );
    let mut minutes = vec![Usd::default(); 60];
    for (place, nanos) in [(10, 1_000_000), (58, 4_000_000_000), (59, 500_000_000)] {
        minutes[place] = Usd::from_nanos(nanos);
    }
    Box::new(Answers {
        now_ms: at_ms(NOW).unwrap(),
        today: Ok("24888.529999999".parse().unwrap()),
        minutes: Ok(minutes),
        agents: Ok(vec![
            agent("crawler", "0.0041", 12),
            agent("coder", "9007199.254740993", 3),
            agent("", "0", 0),
        ]),
        sessions: Ok(of::<Sessions>(
            json!({"sessions": [session("s1", "acme", 2, "1.5"), session("s2", "", 0, "0.00001")]}),
        )
        .sessions),
        holds: Ok(holds.holds),
        budgets: Ok(vec![
            budget("agent:crawler", "1.5", "0.25", "5", "hard"),
            budget("key:0123456789abcdef01234567", "9", "0", "8", "hard"),
        ]),
        alerts: Ok(of::<AlertRows>(json!({"alerts": [alert("loop_detected", "warning")], "silences": []})).alerts),
    })
}

fn alert(kind: &str, severity: &str) -> AlertRow {
    AlertRow {
        id: "A".into(),
        at: "2026-12-01T14:00:00.000Z".into(),
        r#type: kind.into(),
        severity: severity.into(),
        message: "same call 7 times".into(),
        ..AlertRow::default()
    }
}

fn model_of(answers: Box<Answers>) -> Model {
    let names = KeyAliases::from([("0123456789abcdef01234567".to_owned(), "ci".to_owned())]);
    let mut model = Model::new("control socket /x", names, Pane::Agents, true);
    model.tick(answers.now_ms);
    model.take(News::Answers(answers));
    model
}

fn model() -> Model {
    model_of(answers())
}

fn terminal(model: &mut Model, columns: u16, lines: u16) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(columns, lines)).unwrap();
    terminal
        .draw(|frame| {
            let area = frame.area();
            if let Some(cursor) = view::draw(model, area, frame.buffer_mut()) {
                assert!(cursor.x < area.width && cursor.y < area.height, "{cursor} in {area}");
            }
        })
        .unwrap();
    terminal
}

fn frame(model: &mut Model, columns: u16, lines: u16) -> String {
    view::text(terminal(model, columns, lines).backend().buffer())
}

fn press(model: &mut Model, code: KeyCode) -> Option<Act> {
    let acts = keys::event(model, &Event::Key(KeyEvent::new(code, KeyModifiers::NONE)));
    acts.unwrap_or_default().pop()
}

fn write(model: &mut Model, text: &str) -> Option<Act> {
    text.chars().map(|c| press(model, KeyCode::Char(c))).last().flatten()
}

fn change(act: Option<Act>) -> Box<Change> {
    match act {
        Some(Act::Change(change)) => change,
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_pane_has_the_gateways_sums_to_their_last_shown_digit() {
    let text = frame(&mut model(), 100, 24);
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].starts_with("agentledger top   control socket /x") && lines[0].ends_with("14:05:30 UTC"),
        "{text}"
    );
    assert!(
        lines[1].starts_with("$24,888.53 today   $1.0000/min   $7.1400 held in 3 calls"),
        "{text}"
    );
    assert!(lines[1].ends_with("█▁"), "{text}");
    assert!(
        lines[2].starts_with(" 1 Agents 3   2 Sessions 2   3 Holds 3   4 Budgets 2   5 Alerts 1"),
        "{text}"
    );
    assert_eq!(
        lines[3].split_whitespace().collect::<Vec<_>>(),
        ["AGENT", "TODAY", "CALLS", "ERRORS", "READ", "WRITTEN"]
    );
    assert!(
        text.contains("coder") && text.contains("$9,007,199.2547") && text.contains("(none)"),
        "{text}"
    );
    assert!(!text.contains("SESSION"), "{text}");
}

#[test]
fn wide_terminals_show_every_pane_and_keys_say_which_one_is_meant() {
    let mut model = model();
    let text = frame(&mut model, 160, 40);
    for shown in [
        "AGENT",
        "SESSION",
        "2 running",
        "gpt-4o",
        "ACCOUNT",
        "key:ci",
        "loop_detected",
        "↻",
    ] {
        assert!(text.contains(shown), "{shown}\n{text}");
    }
    assert!(text.contains("? help") && !text.contains("k kill"), "{text}");
    press(&mut model, KeyCode::Tab);
    assert!(frame(&mut model, 160, 40).contains("k kill"));
    press(&mut model, KeyCode::Char('4'));
    assert!(model.pane == Pane::Budgets && frame(&mut model, 60, 20).contains("t top up"));
}

#[test]
fn a_budget_says_what_is_left_and_bears_its_state_as_a_shape() {
    let mut model = model();
    model.pane = Pane::Budgets;
    let text = frame(&mut model, 110, 20);
    let line = |name: &str| text.lines().find(|line| line.contains(name)).unwrap().to_owned();
    let words: Vec<String> = line("crawler").split_whitespace().map(str::to_owned).collect();
    assert_eq!(
        words,
        [
            "agent:crawler",
            "day",
            "$1.50",
            "$0.25",
            "$0.00",
            "$5",
            "$3.25",
            "35",
            "%"
        ]
    );
    assert!(
        line("key:ci").starts_with("✕ ") && line("key:ci").contains("−$1.00"),
        "{text}"
    );
}

/// Names that would steer a terminal, turn a line around, or fill it.
fn hostile() -> Box<Answers> {
    let names = [
        "\u{1b}[2J\u{1b}]0;x\u{7}",
        "\u{202e}drowssap\u{202c}",
        "a\nb\rc\t\u{9b}31m",
        &"x".repeat(10_000),
        &format!("z{}", "\u{301}".repeat(5_000)),
        "日本語の名前👩‍👩‍👧",
    ];
    let mut answers = answers();
    answers.agents = Ok(names.iter().map(|name| agent(name, "12345678.9", 1)).collect());
    answers.sessions = Ok(names.iter().map(|name| session(name, name, 1, "1")).collect());
    answers.holds = Ok(of::<Holds>(json!({"holds": names.iter().enumerate().map(|(at, name)| hold(at as u64, name, name, "1")).collect::<Vec<_>>()})).holds);
    answers.budgets = Ok(names
        .iter()
        .map(|name| budget(name, "12345678.9", "0", "12345678.9", "hard"))
        .collect());
    let row = |name: &&str| AlertRow {
        message: (*name).to_owned(),
        ..alert(name, "critical")
    };
    answers.alerts = Ok(names.iter().map(row).collect());
    answers
}

#[test]
fn every_size_is_drawn_whatever_names_there_are_and_whatever_lies_over_them() {
    for pane in PANES {
        for keys in ["", "?", "\n", "k", "t", "t12", "t12\n", "/x"] {
            let mut model = model_of(hostile());
            model.pane = pane;
            for key in keys.chars() {
                press(
                    &mut model,
                    if key == '\n' {
                        KeyCode::Enter
                    } else {
                        KeyCode::Char(key)
                    },
                );
            }
            for (columns, lines) in [(0, 0), (1, 1), (3, 2), (20, 5), (40, 9), (80, 24), (131, 30), (250, 70)] {
                let text = frame(&mut model, columns, lines);
                let steers = |c: char| (c.is_control() && c != '\n') || ('\u{202a}'..='\u{202e}').contains(&c);
                assert!(!text.contains(steers), "{pane:?} {keys:?} {columns}x{lines}\n{text}");
                assert!(
                    text.lines().count() <= usize::from(lines).max(1),
                    "{pane:?} {keys:?} {columns}x{lines}"
                );
            }
        }
    }
}

#[test]
fn a_tiny_terminal_has_the_sum_and_the_rows() {
    let text = frame(&mut model(), 20, 5);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "$24,888.53 today");
    assert!(
        lines[1].contains("1 Agents 3") && lines[2].contains("$0.0041") && lines[4].contains("? help"),
        "{text}"
    );
}

#[test]
fn colours_are_there_where_they_are_wanted_and_shapes_always() {
    let painted = |is_coloured: bool| {
        let mut model = model();
        model.is_coloured = is_coloured;
        model.pane = Pane::Budgets;
        let terminal = terminal(&mut model, 110, 20);
        let buffer = terminal.backend().buffer().clone();
        let colours = buffer.content().iter().filter(|cell| cell.fg != Color::Reset).count();
        (colours, view::text(&buffer).contains('✕'))
    };
    let (coloured, plain) = (painted(true), painted(false));
    assert!(
        coloured.0 > 10 && plain.0 == 0 && coloured.1 && plain.1,
        "{coloured:?} {plain:?}"
    );
}

#[test]
fn rows_are_sorted_by_their_figures_and_the_selected_one_stays_selected() {
    let mut model = model();
    press(&mut model, KeyCode::Down);
    let selected = |model: &Model| model.state(model.pane).unwrap().selected().unwrap().id.clone();
    assert_eq!(selected(&model), "coder");
    press(&mut model, KeyCode::Char('s'));
    press(&mut model, KeyCode::Char('s'));
    let text = frame(&mut model, 100, 24);
    assert!(text.contains("TODAY ↓"), "{text}");
    assert!(text.find("coder").unwrap() < text.find("crawler").unwrap(), "{text}");
    assert_eq!((selected(&model), model.state_mut().selected), ("coder".into(), 0));
    press(&mut model, KeyCode::Char('S'));
    assert_eq!((selected(&model), model.state_mut().selected), ("coder".into(), 2));
    press(&mut model, KeyCode::Char('/'));
    write(&mut model, "CRAW");
    press(&mut model, KeyCode::Enter);
    let text = frame(&mut model, 100, 24);
    assert!(text.contains("1 of 3, /CRAW") && !text.contains("coder"), "{text}");
    press(&mut model, KeyCode::Esc);
    assert!(frame(&mut model, 100, 24).contains("coder"));
}

#[test]
fn a_session_is_killed_after_it_was_said_what_that_cuts() {
    let mut model = model();
    assert!(press(&mut model, KeyCode::Char('k')).is_none());
    assert!(frame(&mut model, 100, 24).contains("✕ select a session"));
    press(&mut model, KeyCode::Char('2'));
    press(&mut model, KeyCode::Char('k'));
    let text = frame(&mut model, 100, 24);
    // The other tenant's session of this name is another one.
    assert!(text.contains("Kill session s1 of acme?"), "{text}");
    assert!(
        text.contains("It cuts 2 running calls, for which $0.1400 is held."),
        "{text}"
    );
    assert!(press(&mut model, KeyCode::Enter).is_none() && matches!(model.mode, Mode::Browse));
    press(&mut model, KeyCode::Char('k'));
    let sent = change(press(&mut model, KeyCode::Char('y')));
    assert_eq!(
        (sent.method, &sent.params["id"], &sent.params["tenant"]),
        ("session.kill", &json!("s1"), &json!("acme"))
    );
    assert!(sent.params["request_id"].is_string() && !sent.is_trial());
    model.take(News::Changed(sent.number, Ok(json!({}))));
    assert!(frame(&mut model, 100, 24).contains("s1 is killed"));
    press(&mut model, KeyCode::Char('k'));
    let sent = change(press(&mut model, KeyCode::Char('y')));
    model.take(News::Changed(sent.number, Err("this token may only read".into())));
    assert!(frame(&mut model, 100, 24).contains("✕ this token may only read"));
}

#[test]
fn a_top_up_shows_what_will_be_and_is_done_after_a_yes() {
    let mut model = model();
    press(&mut model, KeyCode::Char('4'));
    press(&mut model, KeyCode::Char('t'));
    assert!(frame(&mut model, 100, 24).contains("Top up agent:crawler a day: $3.25 left of $5"));
    let early = change(write(&mut model, "1"));
    let trial = change(write(&mut model, "0"));
    assert!(
        trial.is_trial() && trial.method == "budget.top_up" && trial.params["amount"] == "10",
        "{trial:?}"
    );
    assert_eq!(trial.params["until"], "2026-12-02T00:00:00.000Z");
    let after = |left: &str| Ok(json!({"after": {"unit": "usd", "left": left, "limit": "15"}, "dry_run": true}));
    model.take(News::Changed(trial.number, after("13.25")));
    // An answer to what stood there before does not count.
    model.take(News::Changed(early.number, after("4.25")));
    assert!(frame(&mut model, 100, 24).contains("After it: $13.25 left of $15."));
    assert!(press(&mut model, KeyCode::Enter).is_none());
    let text = frame(&mut model, 100, 24);
    assert!(
        text.contains("Top up agent:crawler by $10 until 2026-12-02T00:00:00.000Z?"),
        "{text}"
    );
    assert!(
        text.contains("After it: $13.25 left of $15.") && text.contains("y: top up"),
        "{text}"
    );
    let sent = change(press(&mut model, KeyCode::Char('y')));
    assert!(
        !sent.is_trial() && sent.params["amount"] == "10" && sent.params["unit"] == "usd",
        "{sent:?}"
    );
}

#[test]
fn what_the_gateway_refuses_cannot_be_asked_for() {
    let mut model = model();
    press(&mut model, KeyCode::Char('4'));
    press(&mut model, KeyCode::Char('t'));
    let trial = change(write(&mut model, "x"));
    model.take(News::Changed(trial.number, Err("amount: no number".into())));
    press(&mut model, KeyCode::Enter);
    assert!(matches!(model.mode, Mode::TopUp(_)));
    assert!(frame(&mut model, 100, 24).contains("✕ amount: no number"));
}

#[test]
fn pasted_letters_are_no_keys() {
    let mut model = model();
    press(&mut model, KeyCode::Char('2'));
    let paste = |model: &mut Model, text: &str| keys::event(model, &Event::Paste(text.into()));
    assert!(paste(&mut model, "kyq").is_none() && matches!(model.mode, Mode::Browse));
    press(&mut model, KeyCode::Char('/'));
    paste(&mut model, "s\u{1b}2\n");
    assert_eq!(model.state_mut().filter, "s2");
}

#[test]
fn a_lost_gateway_is_said_and_nothing_is_sent_to_it() {
    let mut model = model();
    let now = model.now_ms;
    let lost = || News::Lost {
        why: "connection refused\nIs it running?".into(),
        again: Duration::from_secs(4),
    };
    model.take(lost());
    model.tick(now + 2_000);
    model.take(lost());
    let text = frame(&mut model, 100, 24);
    assert!(
        text.contains("▲ lost since 14:05:30, tried again in 0:04: connection refused\n"),
        "{text}"
    );
    assert!(text.contains("$24,888.53"), "what was known is still there\n{text}");
    press(&mut model, KeyCode::Char('2'));
    press(&mut model, KeyCode::Char('k'));
    assert!(matches!(model.mode, Mode::Browse) && frame(&mut model, 100, 24).contains("not while the gateway is gone"));
    let mut back = answers();
    back.today = Ok("24889".parse().unwrap());
    model.take(News::Answers(back));
    let text = frame(&mut model, 100, 24);
    assert!(
        text.contains("$24,889.00 today") && text.contains("the gateway is back") && !text.contains("lost since"),
        "{text}"
    );
}

#[test]
fn paused_figures_stand_still_until_they_are_wanted_again() {
    let mut model = model();
    press(&mut model, KeyCode::Char(' '));
    let mut later = answers();
    later.today = Ok("25000".parse().unwrap());
    model.take(News::Answers(later));
    let text = frame(&mut model, 100, 24);
    assert!(text.contains("paused") && text.contains("$24,888.53"), "{text}");
    press(&mut model, KeyCode::Char(' '));
    assert!(frame(&mut model, 100, 24).contains("$25,000.00"));
}

#[test]
fn only_what_is_seen_to_change_is_drawn() {
    let mut idle = answers();
    idle.holds = Ok(Vec::new());
    let mut model = model_of(idle);
    let now = model.now_ms;
    assert!(!model.ticks() && !model.tick(now + 5_000), "nothing runs");
    let mut model = self::model();
    assert!(
        !model.tick(now + 900) && model.tick(now + 1_100),
        "calls grow old by the second"
    );
    assert!(!model.tick(now + 1_300));
    model.pane = Pane::Holds;
    assert!(frame(&mut model, 100, 24).contains("0:09"));
}

#[test]
fn a_part_that_is_refused_says_so_in_its_pane_alone() {
    let mut part = answers();
    part.budgets = Err("not for this token".into());
    let mut model = model_of(part);
    model.pane = Pane::Budgets;
    let text = frame(&mut model, 100, 24);
    assert!(
        text.contains("✕ not for this token") && text.contains("4 Budgets –") && text.contains("$24,888.53"),
        "{text}"
    );
}

#[test]
fn details_have_every_digit() {
    let mut model = model();
    press(&mut model, KeyCode::Down);
    press(&mut model, KeyCode::Enter);
    let text = frame(&mut model, 100, 24);
    assert!(
        text.contains("9007199.254740993") && text.contains("cost_usd"),
        "{text}"
    );
    press(&mut model, KeyCode::Esc);
    assert!(matches!(model.mode, Mode::Browse));
}
