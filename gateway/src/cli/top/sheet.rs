//! What lies over the panes: help, a row's details, a question before something is done, the form of a top-up.

use ratatui_core::layout::{Position, Rect};
use ratatui_core::style::{Modifier, Style};

use super::changes::{Form, Question};
use super::model::{Mode, Model};
use super::paint::{Paint, line};
use super::rows::{Tone, details};
use super::text::{cut, visible, width};

const HELP: [(&str, &str); 15] = [
    ("Tab, 1 to 5", "another pane: agents, sessions, holds, budgets, alerts"),
    ("Up, Down, j", "another row; Page Up, Page Down, g, G"),
    ("Enter", "all that is known of the row, with every digit"),
    ("s, S", "sort by the next column; the other way round"),
    ("/", "show what contains a text; Esc shows all"),
    ("k, x", "kill the session of the row: asks first, and says what it cuts"),
    (
        "t",
        "top up the budget of the row: says what is left after it, and asks",
    ),
    ("Space", "hold the figures still; again shows those of now"),
    ("r", "request the figures now"),
    ("q, Ctrl-C", "leave"),
    ("Ctrl-Z", "suspend; fg comes back"),
    ("Ctrl-L", "paint anew"),
    ("▲ ✕ ↻", "warns or is full; refuses, killed, used up; loops"),
    ("today", "UTC's day; held is never added to what is spent"),
    ("/min", "of the last five minutes; the bars are the last hour's minutes"),
];

/// Draws what lies over the panes, if anything; where the cursor stands.
pub fn draw(model: &mut Model, area: Rect, paint: &mut Paint<'_>) -> Option<Position> {
    if area.width == 0 || area.height == 0 {
        return None;
    }
    match &model.mode {
        Mode::Browse | Mode::Filter => {}
        Mode::Help => help(area, paint),
        Mode::Ask(question) => ask(question, area, paint),
        Mode::TopUp(form) => return top_up(form, area, paint),
        Mode::Details(from) => {
            let from = *from;
            let reached = whole(model, from, area, paint);
            model.mode = Mode::Details(reached);
        }
    }
    None
}

fn help(area: Rect, paint: &mut Paint<'_>) {
    paint.blank(area);
    paint.put(
        area.left(),
        area.top(),
        "Keys: any leads back",
        usize::from(area.width),
        paint.style(Tone::Strong),
    );
    for (at, (key, does)) in HELP.iter().enumerate() {
        let place = line(area, u16::try_from(at + 1).unwrap_or(u16::MAX));
        if place.height == 0 {
            break;
        }
        paint.put(
            place.left(),
            place.top(),
            &format!("{key:<12} {does}"),
            usize::from(place.width),
            Style::new(),
        );
    }
}

/// A row's fields, from a line on; that line, or the last from which they fill the room.
fn whole(model: &Model, from: usize, area: Rect, paint: &mut Paint<'_>) -> usize {
    paint.blank(area);
    let row = model.state(model.pane).and_then(|state| state.selected());
    let answers = model.answers.as_deref();
    let (Some(row), Some(answers)) = (row, answers) else {
        return 0;
    };
    let fields = details(model.pane, answers, row);
    let names = fields
        .iter()
        .map(|(name, _)| width(name))
        .max()
        .unwrap_or_default()
        .min(30);
    let room = usize::from(area.width);
    let mut lines = Vec::new();
    for (name, value) in &fields {
        let name = cut(name, names);
        let pad = names.saturating_sub(width(&name));
        for (at, part) in wrapped(value, room.saturating_sub(names + 2).max(8))
            .into_iter()
            .enumerate()
        {
            let (name, pad) = if at == 0 { (name.as_str(), pad) } else { ("", names) };
            lines.push(format!("{name}{}  {part}", " ".repeat(pad)));
        }
    }
    let height = usize::from(area.height).saturating_sub(1);
    let from = from.min(lines.len().saturating_sub(height));
    let head = format!("{}: Esc leads back", model.pane.title());
    paint.put(area.left(), area.top(), &head, room, paint.style(Tone::Strong));
    for (at, text) in lines.iter().skip(from).take(height).enumerate() {
        let y = area.top() + 1 + u16::try_from(at).unwrap_or_default();
        paint.put(area.left(), y, text, room, Style::new());
    }
    from
}

/// A text in lines of so many columns, at most a dozen of them; broken between words where it can be.
fn wrapped(text: &str, columns: usize) -> Vec<String> {
    const LINES_MAX: usize = 12;
    let mut lines = Vec::new();
    let mut current = String::new();
    for word in text.split_inclusive(' ') {
        let mut word = word;
        if width(&current) + width(word.trim_end()) > columns && !current.is_empty() {
            lines.push(std::mem::take(&mut current));
        }
        while width(word) > columns && lines.len() <= LINES_MAX {
            let end = word
                .char_indices()
                .map(|(at, _)| at)
                .find(|at| width(word.get(..*at).unwrap_or("")) >= columns);
            let Some((part, rest)) = end.and_then(|end| word.split_at_checked(end)) else {
                break;
            };
            lines.push(part.to_owned());
            word = rest;
        }
        current.push_str(word);
        if lines.len() > LINES_MAX {
            break;
        }
    }
    lines.push(current);
    if lines.len() > LINES_MAX {
        lines.truncate(LINES_MAX);
        lines.push("…".to_owned());
    }
    lines
}

/// The lower lines of the panes, blank below a rule.
fn sheet(area: Rect, lines: usize, paint: &mut Paint<'_>) -> Rect {
    let height = u16::try_from(lines + 1).unwrap_or(u16::MAX).min(area.height);
    let room = Rect::new(area.left(), area.bottom() - height, area.width, height);
    paint.blank(room);
    let rule = "─".repeat(usize::from(room.width));
    paint.put(
        room.left(),
        room.top(),
        &rule,
        usize::from(room.width),
        paint.style(Tone::Soft),
    );
    // On very few lines, what is said is worth more than the rule.
    let begin = u16::from(usize::from(height) > lines);
    Rect::new(room.left(), room.top() + begin, room.width, height - begin)
}

fn ask(question: &Question, area: Rect, paint: &mut Paint<'_>) {
    let columns = usize::from(area.width);
    let mut lines: Vec<String> = question.lines.iter().flat_map(|text| wrapped(text, columns)).collect();
    lines.push(format!("y: {}; any other key leaves it", question.verb));
    // What the key does is always seen.
    let most = usize::from(area.height);
    let last = lines.len() - 1;
    if lines.len() > most {
        lines.drain(most.saturating_sub(1)..last);
    }
    let room = sheet(area, lines.len(), paint);
    let last = lines.len() - 1;
    for (at, text) in lines.iter().enumerate() {
        let tone = match at {
            0 => Tone::Strong,
            at if at == last => Tone::Refused,
            _ => Tone::Ink,
        };
        let y = room.top() + u16::try_from(at).unwrap_or_default();
        paint.put(room.left(), y, text, columns, paint.style(tone));
    }
}

fn top_up(form: &Form, area: Rect, paint: &mut Paint<'_>) -> Option<Position> {
    let room = sheet(area, 5, paint);
    let columns = usize::from(room.width);
    let head = format!("Top up {} a {}: {}", form.shown, form.window, form.stands);
    paint.put(room.left(), room.top(), &head, columns, paint.style(Tone::Strong));
    let unit = if form.unit == "usd" { "$" } else { form.unit.as_str() };
    let fields = [
        (format!("Amount {unit} "), &form.amount, !form.is_at_until),
        ("Until ".to_owned(), &form.until, form.is_at_until),
    ];
    let mut cursor = None;
    for (at, (label, value, is_here)) in fields.iter().enumerate() {
        let y = room.top() + 1 + u16::try_from(at).unwrap_or_default();
        if y >= room.bottom() {
            break;
        }
        let x = paint.put(room.left(), y, &format!("{label:<14}"), columns, Style::new());
        let style = if *is_here {
            Style::new().add_modifier(Modifier::UNDERLINED)
        } else {
            Style::new()
        };
        let shown = visible(value);
        let end = paint.put(
            x,
            y,
            &format!("{shown} "),
            usize::from(room.right().saturating_sub(x)),
            style,
        );
        if *is_here {
            cursor = Some(Position::new(
                end.saturating_sub(1).max(x).min(room.right().saturating_sub(1)),
                y,
            ));
        }
    }
    let (text, tone) = match &form.after {
        None if form.amount.is_empty() => ("After it: –".to_owned(), Tone::Soft),
        None => ("Asking the gateway".to_owned(), Tone::Soft),
        Some(Ok(after)) => (after.clone(), Tone::Ink),
        Some(Err(why)) => (format!("✕ {why}"), Tone::Refused),
    };
    for (at, (text, tone)) in [
        (text, tone),
        (
            "Enter asks, Tab changes the field, Esc leaves it".to_owned(),
            Tone::Soft,
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let y = room.top() + 3 + u16::try_from(at).unwrap_or_default();
        if y < room.bottom() {
            paint.put(room.left(), y, &text, columns, paint.style(tone));
        }
    }
    cursor
}
