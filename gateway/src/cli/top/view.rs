//! The model, drawn: the sums, the panes, and below them what keys there are or what was done.

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::{Position, Rect};
use ratatui_core::style::{Modifier, Style};

use agentledger_ledger::Usd;

use super::model::{Mode, Model, PaneState};
use super::paint::{GAP, Paint, fit, line};
use super::rows::{PANES, Pane, Row, Tone};
use super::sheet;
use super::text::{NONE, age, clock, money, width};
use crate::thousands::thousands;

/// From so many columns and lines on, several panes stand beside each other.
const SEVERAL: (u16, u16) = (120, 24);
/// Below it, there is one line of sums and no other head.
const HEAD_LINES_MIN: u16 = 10;
/// Clocks that are no further apart are not spoken of.
const CLOCKS_APART_MS: i64 = 2_000;
const LEVELS: [&str; 8] = ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];
/// Of a row: its shape and a space.
const SHAPE: u16 = 2;

/// Draws the model; where the cursor stands, if it is seen.
pub fn draw(model: &mut Model, area: Rect, buffer: &mut Buffer) -> Option<Position> {
    let area = area.intersection(buffer.area);
    if area.width == 0 || area.height == 0 {
        return None;
    }
    let is_coloured = model.is_coloured;
    let mut paint = Paint { buffer, is_coloured };
    let has_head = area.height >= HEAD_LINES_MIN;
    let mut top = 0;
    if has_head {
        title(model, line(area, 0), &mut paint);
        top = 1;
    }
    sums(model, line(area, top), &mut paint);
    top += 1;
    if model.lost.is_some() && area.height > 2 {
        lost(model, line(area, top), &mut paint);
        top += 1;
    }
    let bottom = u16::from(area.height > top + 1);
    let height = area.height.saturating_sub(top + bottom);
    let body = Rect::new(area.left(), area.top() + top, area.width, height);
    panes(model, body, has_head, &mut paint);
    let cursor = sheet::draw(model, body, &mut paint);
    if bottom > 0 {
        let foot = line(area, area.height - 1);
        return footer(model, foot, &mut paint).or(cursor);
    }
    cursor
}

/// The frame as text, its lines without what is blank at their ends.
pub fn text(buffer: &Buffer) -> String {
    let area = buffer.area;
    let mut out = String::new();
    for y in area.top()..area.bottom() {
        let mut text = String::new();
        let mut x = area.left();
        while x < area.right() {
            let symbol = buffer.cell((x, y)).map_or(" ", |cell| cell.symbol());
            text.push_str(symbol);
            // A wide letter takes the cell behind it, too.
            x = x.saturating_add(u16::try_from(width(symbol)).unwrap_or(1).max(1));
        }
        out.push_str(text.trim_end());
        out.push('\n');
    }
    format!("{}\n", out.trim_end())
}

fn title(model: &Model, area: Rect, paint: &mut Paint<'_>) {
    let ahead = model.offset_ms.abs();
    let mut words = Vec::new();
    if ahead > CLOCKS_APART_MS {
        words.push(format!("▲ the gateway's clock is {} off", age(ahead)));
    }
    if model.is_paused {
        words.push("paused".to_owned());
    }
    let of = model.answers.as_ref().map_or(model.now_ms, |answers| answers.now_ms);
    words.push(format!("{} UTC", clock(of)));
    let right = words.join("   ");
    let tone = if words.len() > 1 { Tone::Warn } else { Tone::Soft };
    let room = usize::from(area.width).saturating_sub(width(&right) + GAP);
    let left = format!("agentledger top   {}", model.address);
    paint.put(area.left(), area.top(), &left, room, paint.style(Tone::Soft));
    paint.put_right(area, &right, tone);
}

/// The headline: what was spent today, how fast it goes, what is held; and the last hour.
fn sums(model: &Model, area: Rect, paint: &mut Paint<'_>) {
    let answers = model.answers.as_deref();
    let today = answers.and_then(|answers| answers.today.as_ref().ok());
    let known = |usd: Option<Usd>, places| usd.map_or_else(|| NONE.to_owned(), |usd| money(usd, places));
    let tone = if model.lost.is_some() { Tone::Soft } else { Tone::Strong };
    let held = match model.held() {
        None => format!("{NONE} held"),
        Some((_, 0)) => "nothing held".to_owned(),
        Some((usd, calls)) => {
            let calls = if calls == 1 {
                "1 call".to_owned()
            } else {
                format!("{} calls", thousands(calls))
            };
            format!("{} held in {calls}", money(usd, 4))
        }
    };
    let texts = [
        (format!("{} today", known(today.copied(), 2)), tone),
        (format!("{}/min", known(model.rate(), 4)), Tone::Ink),
        (held, if model.lost.is_some() { Tone::Soft } else { Tone::Held }),
    ];
    let end = paint.put_all(area, &texts, 3);
    let minutes = answers.and_then(|answers| answers.minutes.as_ref().ok());
    let room = area.right().saturating_sub(end.saturating_add(3));
    if let Some(minutes) = minutes.filter(|_| room >= 20) {
        let shown = spark(minutes, usize::from(room));
        paint.put_right(area, &shown, Tone::Spent);
    }
}

/// What each of the last minutes cost, by the dearest of them; a minute without a call is blank.
pub fn spark(minutes: &[Usd], room: usize) -> String {
    let shown = minutes.get(minutes.len().saturating_sub(room)..).unwrap_or_default();
    let most = shown.iter().map(|usd| usd.nanos()).max().unwrap_or_default().max(1);
    let level = |usd: &Usd| {
        let nanos = usd.nanos();
        if nanos <= 0 {
            return " ";
        }
        let place = (i128::from(nanos) * 8 - 1) / i128::from(most);
        LEVELS
            .get(usize::try_from(place).unwrap_or_default())
            .copied()
            .unwrap_or("█")
    };
    shown.iter().map(level).collect()
}

fn lost(model: &Model, area: Rect, paint: &mut Paint<'_>) {
    let Some(lost) = &model.lost else { return };
    let again = age(lost.again_ms - model.now_ms);
    let since = clock(lost.since_ms.saturating_add(model.offset_ms));
    let text = format!("▲ lost since {since}, tried again in {again}: {}", lost.why);
    paint.put(
        area.left(),
        area.top(),
        &text,
        usize::from(area.width),
        paint.style(Tone::Warn),
    );
}

fn panes(model: &mut Model, area: Rect, has_tabs: bool, paint: &mut Paint<'_>) {
    if area.width >= SEVERAL.0 && area.height >= SEVERAL.1 {
        // The left has what is looked at most; a column of air between.
        let left_width = area.width * 11 / 20;
        let left = Rect::new(area.left(), area.top(), left_width.saturating_sub(2), area.height);
        let right = Rect::new(
            area.left() + left_width,
            area.top(),
            area.width - left_width,
            area.height,
        );
        stack(model, left, &[Pane::Agents, Pane::Sessions], paint);
        stack(model, right, &[Pane::Holds, Pane::Budgets, Pane::Alerts], paint);
        return;
    }
    let mut area = area;
    if has_tabs {
        tabs(model, line(area, 0), paint);
        area = Rect::new(area.left(), area.top() + 1, area.width, area.height.saturating_sub(1));
    }
    pane(model, model.pane, area, !has_tabs, paint);
}

fn stack(model: &mut Model, area: Rect, of: &[Pane], paint: &mut Paint<'_>) {
    let count = u16::try_from(of.len()).unwrap_or(1).max(1);
    for (at, one) in of.iter().enumerate() {
        let at = u16::try_from(at).unwrap_or_default();
        let (from, to) = (area.height * at / count, area.height * (at + 1) / count);
        let room = Rect::new(area.left(), area.top() + from, area.width, to - from);
        pane(model, *one, room, true, paint);
    }
}

/// Each pane's number, name and rows.
fn tabs(model: &Model, area: Rect, paint: &mut Paint<'_>) {
    let mut x = area.left();
    for one in PANES {
        let text = heading(model, one);
        let style = heading_style(model, one, paint);
        let room = usize::from(area.right().saturating_sub(x));
        if width(&text) > room {
            break;
        }
        x = paint.put(x, area.top(), &text, room, style).saturating_add(1);
    }
}

fn heading(model: &Model, of: Pane) -> String {
    let Some(state) = model.state(of) else {
        return String::new();
    };
    let all = state.rows.as_ref().map_or(0, Vec::len);
    let count = match (&state.rows, state.filter.is_empty()) {
        (Err(_), _) => NONE.to_owned(),
        (Ok(_), true) => thousands(all),
        (Ok(_), false) => format!(
            "{} of {}, /{}",
            thousands(state.order.len()),
            thousands(all),
            state.filter
        ),
    };
    format!(" {} {} {count} ", of.place() + 1, of.title())
}

fn heading_style(model: &Model, of: Pane, paint: &Paint<'_>) -> Style {
    if of == model.pane {
        return Style::new().add_modifier(Modifier::REVERSED | Modifier::BOLD);
    }
    paint.style(Tone::Soft)
}

/// One pane: its heading where no tabs have it, the table, or why there is none.
fn pane(model: &mut Model, of: Pane, area: Rect, has_heading: bool, paint: &mut Paint<'_>) {
    let mut area = area;
    if has_heading && area.height > 1 {
        let style = heading_style(model, of, paint);
        let (text, room) = (heading(model, of), usize::from(area.width));
        paint.put(area.left(), area.top(), &text, room, style);
        area = Rect::new(area.left(), area.top() + 1, area.width, area.height - 1);
    }
    let is_here = of == model.pane;
    let is_lost = model.lost.is_some();
    let [agents, sessions, holds, budgets, alerts] = &mut model.panes;
    let state = match of {
        Pane::Agents => agents,
        Pane::Sessions => sessions,
        Pane::Holds => holds,
        Pane::Budgets => budgets,
        Pane::Alerts => alerts,
    };
    let said = match &state.rows {
        Err(why) => Some(format!("✕ {}", super::text::visible(why))),
        Ok(rows) if rows.is_empty() => Some(of.nothing().to_owned()),
        Ok(_) if state.order.is_empty() => Some(format!("None fits /{}: Esc shows all", state.filter)),
        Ok(_) => None,
    };
    if let Some(said) = said {
        paint.put(
            area.left(),
            area.top(),
            &said,
            usize::from(area.width),
            paint.style(Tone::Soft),
        );
        return;
    }
    table(state, of, area, is_here, is_lost, paint);
}

fn table(state: &mut PaneState, of: Pane, area: Rect, is_here: bool, is_lost: bool, paint: &mut Paint<'_>) {
    let columns = of.columns();
    let Ok(rows) = &state.rows else { return };
    let heads: Vec<String> = columns
        .iter()
        .enumerate()
        .map(|(at, column)| head(state, at, column.head))
        .collect();
    let mut wanted: Vec<usize> = heads.iter().map(|head| width(head)).collect();
    for row in state.order.iter().filter_map(|at| rows.get(*at)) {
        for (wanted, cell) in wanted.iter_mut().zip(&row.cells) {
            *wanted = cell.width.max(*wanted);
        }
    }
    let room = usize::from(area.width.saturating_sub(SHAPE));
    let shown = fit(columns, &wanted, room);
    let has_head = area.height > 3;
    if has_head {
        let mut x = area.left() + SHAPE;
        for (at, wide) in &shown {
            let text = heads.get(*at).map_or("", String::as_str);
            let is_figure = columns.get(*at).is_some_and(|column| column.is_figure);
            aligned(x, area.top(), text, *wide, is_figure, paint.style(Tone::Soft), paint);
            x = x.saturating_add(u16::try_from(wide + GAP).unwrap_or_default());
        }
    }
    let first = area.top() + u16::from(has_head);
    let lines = usize::from(area.bottom().saturating_sub(first));
    // The selected row is always seen.
    let last_top = state.order.len().saturating_sub(lines);
    state.top = state
        .top
        .min(state.selected)
        .max((state.selected + 1).saturating_sub(lines))
        .min(last_top);
    for (place, at) in state.order.iter().enumerate().skip(state.top).take(lines) {
        let Some(row) = rows.get(*at) else { continue };
        let y = first + u16::try_from(place - state.top).unwrap_or_default();
        let is_selected = is_here && place == state.selected;
        one(
            row,
            &shown,
            of,
            Rect::new(area.left(), y, area.width, 1),
            is_lost,
            paint,
        );
        if is_selected {
            let whole = Rect::new(area.left(), y, area.width, 1).intersection(paint.buffer.area);
            paint
                .buffer
                .set_style(whole, Style::new().add_modifier(Modifier::REVERSED));
        }
    }
}

fn head(state: &PaneState, at: usize, name: &str) -> String {
    match (state.sort == Some(at), state.is_reversed) {
        (false, _) => name.to_owned(),
        (true, false) => format!("{name} ↓"),
        (true, true) => format!("{name} ↑"),
    }
}

fn one(row: &Row, shown: &[(usize, usize)], of: Pane, area: Rect, is_lost: bool, paint: &mut Paint<'_>) {
    let (shape, tone) = row.shape;
    paint.put(area.left(), area.top(), shape, 1, paint.style(tone));
    let mut x = area.left() + SHAPE;
    for (at, wide) in shown {
        if let Some(cell) = row.cells.get(*at) {
            let is_figure = of.columns().get(*at).is_some_and(|column| column.is_figure);
            let tone = if is_lost { Tone::Soft } else { cell.tone };
            aligned(x, area.top(), &cell.text, *wide, is_figure, paint.style(tone), paint);
        }
        x = x.saturating_add(u16::try_from(wide + GAP).unwrap_or_default());
    }
}

fn aligned(x: u16, y: u16, text: &str, wide: usize, is_right: bool, style: Style, paint: &mut Paint<'_>) {
    let indent = if is_right { wide.saturating_sub(width(text)) } else { 0 };
    let x = x.saturating_add(u16::try_from(indent).unwrap_or_default());
    paint.put(x, y, text, wide, style);
}

/// What was done just now, else the keys.
fn footer(model: &Model, area: Rect, paint: &mut Paint<'_>) -> Option<Position> {
    let room = usize::from(area.width);
    if matches!(model.mode, Mode::Filter) {
        let filter = model.state(model.pane).map_or("", |state| state.filter.as_str());
        // Its end is what is typed at.
        let skipped = filter.chars().count().saturating_sub(room.saturating_sub(2));
        let shown: String = filter.chars().skip(skipped).collect();
        let x = paint.put(area.left(), area.top(), &format!("/{shown}"), room, Style::new());
        return Some(Position::new(x.min(area.right().saturating_sub(1)), area.top()));
    }
    if let Some(notice) = &model.notice {
        let (shape, tone) = if notice.is_refusal {
            ("✕ ", Tone::Refused)
        } else {
            ("", Tone::Strong)
        };
        paint.put(
            area.left(),
            area.top(),
            &format!("{shape}{}", notice.text),
            room,
            paint.style(tone),
        );
        return None;
    }
    let kill = matches!(model.pane, Pane::Sessions | Pane::Holds).then_some("k kill");
    let top_up = (model.pane == Pane::Budgets).then_some("t top up");
    let keys = ["? help", "q quit", "Tab pane"].into_iter().chain(kill).chain(top_up);
    let keys = keys.chain(["Enter details", "s sort", "/ filter", "Space pause"]);
    let texts: Vec<(String, Tone)> = keys.map(|key| (key.to_owned(), Tone::Soft)).collect();
    paint.put_all(area, &texts, 3);
    None
}
