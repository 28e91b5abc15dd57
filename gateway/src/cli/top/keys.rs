//! What keys do: each changes the model, and says what the loop is to do beside.

use ratatui_crossterm::crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::model::{Act, Mode, Model};
use super::rows::PANES;

/// Longest text of a field.
const FIELD_CHARS_MAX: usize = 200;
const PAGE: usize = 10;

/// What happens at the terminal. `None`: nothing that is seen.
pub fn event(model: &mut Model, event: &Event) -> Option<Vec<Act>> {
    match event {
        // Of terminals that say so: a key that is let go is no second press.
        Event::Key(key) if key.kind != KeyEventKind::Release => Some(pressed(model, key).into_iter().collect()),
        Event::Paste(text) => paste(model, text).then(|| trial(model).into_iter().collect()),
        // The next frame has the new size.
        Event::Resize(..) => Some(Vec::new()),
        _ => None,
    }
}

fn pressed(model: &mut Model, key: &KeyEvent) -> Option<Act> {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c') => Some(Act::Quit),
            KeyCode::Char('z') => Some(Act::Suspend),
            KeyCode::Char('l') => Some(Act::Repaint),
            _ => None,
        };
    }
    match &model.mode {
        Mode::Browse => browse(model, key.code),
        Mode::Filter => filter(model, key.code),
        Mode::Help => {
            model.mode = Mode::Browse;
            None
        }
        Mode::Details(from) => {
            let from = *from;
            details(model, key.code, from);
            None
        }
        Mode::Ask(_) => answer(model, key.code),
        Mode::TopUp(_) => form(model, key.code),
    }
}

fn browse(model: &mut Model, code: KeyCode) -> Option<Act> {
    model.notice = None;
    match code {
        KeyCode::Char('q') => return Some(Act::Quit),
        KeyCode::Char('r') => return Some(Act::Ask),
        KeyCode::Char('?') => model.mode = Mode::Help,
        KeyCode::Char(' ') => model.pause(),
        KeyCode::Tab | KeyCode::Right => turn(model, 1),
        KeyCode::BackTab | KeyCode::Left => turn(model, PANES.len() - 1),
        KeyCode::Char(digit @ '1'..='5') => {
            let place = digit.to_digit(10).and_then(|digit| usize::try_from(digit).ok());
            let pane = place.and_then(|place| PANES.get(place.saturating_sub(1)));
            model.pane = pane.copied().unwrap_or(model.pane);
        }
        KeyCode::Char('s') => sort(model),
        KeyCode::Char('S') => {
            let state = model.state_mut();
            state.is_reversed = !state.is_reversed;
            state.rearrange();
        }
        KeyCode::Char('/') => model.mode = Mode::Filter,
        KeyCode::Esc => {
            let state = model.state_mut();
            state.filter.clear();
            state.rearrange();
        }
        KeyCode::Char('k' | 'x') if may_change(model) => model.ask_kill(),
        KeyCode::Char('t') if may_change(model) => model.open_top_up(),
        KeyCode::Enter if model.state(model.pane).is_some_and(|state| state.selected().is_some()) => {
            model.mode = Mode::Details(0);
        }
        other => walk(model, other),
    }
    None
}

fn turn(model: &mut Model, by: usize) {
    let next = (model.pane.place() + by) % PANES.len();
    model.pane = PANES.get(next).copied().unwrap_or(model.pane);
}

/// The next column, and after the last one the gateway's own order.
fn sort(model: &mut Model) {
    let columns = model.pane.columns().len();
    let state = model.state_mut();
    state.sort = match state.sort {
        None => Some(0),
        Some(column) => Some(column + 1).filter(|next| *next < columns),
    };
    state.rearrange();
}

/// What cannot be sent is not asked for.
fn may_change(model: &mut Model) -> bool {
    if model.lost.is_none() {
        return true;
    }
    model.say("not while the gateway is gone".to_owned(), true);
    false
}

fn walk(model: &mut Model, code: KeyCode) {
    let state = model.state_mut();
    let last = state.order.len().saturating_sub(1);
    let to = match code {
        KeyCode::Up => state.selected.saturating_sub(1),
        KeyCode::Down | KeyCode::Char('j') => state.selected.saturating_add(1),
        KeyCode::PageUp => state.selected.saturating_sub(PAGE),
        KeyCode::PageDown => state.selected.saturating_add(PAGE),
        KeyCode::Home | KeyCode::Char('g') => 0,
        KeyCode::End | KeyCode::Char('G') => last,
        _ => return,
    };
    state.selected = to.min(last);
}

fn filter(model: &mut Model, code: KeyCode) -> Option<Act> {
    let state = model.state_mut();
    match code {
        KeyCode::Enter => model.mode = Mode::Browse,
        KeyCode::Esc => {
            state.filter.clear();
            state.rearrange();
            model.mode = Mode::Browse;
        }
        code => {
            if typed(&mut state.filter, code) {
                state.rearrange();
            }
        }
    }
    None
}

fn details(model: &mut Model, code: KeyCode, from: usize) {
    model.mode = match code {
        KeyCode::Up => Mode::Details(from.saturating_sub(1)),
        KeyCode::Down | KeyCode::Char('j') => Mode::Details(from.saturating_add(1)),
        KeyCode::PageUp => Mode::Details(from.saturating_sub(PAGE)),
        KeyCode::PageDown => Mode::Details(from.saturating_add(PAGE)),
        _ => Mode::Browse,
    };
}

/// Only `y` does it.
fn answer(model: &mut Model, code: KeyCode) -> Option<Act> {
    let Mode::Ask(question) = std::mem::take(&mut model.mode) else {
        return None;
    };
    if !matches!(code, KeyCode::Char('y' | 'Y')) {
        model.say("nothing is changed".to_owned(), false);
        return None;
    }
    may_change(model).then(|| model.send(question.change))
}

fn form(model: &mut Model, code: KeyCode) -> Option<Act> {
    let Mode::TopUp(form) = &mut model.mode else {
        return None;
    };
    match code {
        KeyCode::Esc => {
            model.mode = Mode::Browse;
            return None;
        }
        KeyCode::Tab | KeyCode::BackTab | KeyCode::Up | KeyCode::Down => {
            form.is_at_until = !form.is_at_until;
            return None;
        }
        KeyCode::Enter => {
            model.ask_top_up();
            return None;
        }
        _ => {}
    }
    let field = if form.is_at_until {
        &mut form.until
    } else {
        &mut form.amount
    };
    if typed(field, code) { trial(model) } else { None }
}

/// What the gateway says to the form as it is now.
fn trial(model: &mut Model) -> Option<Act> {
    model.top_up(true).map(Act::Change)
}

/// Whether a text field is another one now.
fn typed(field: &mut String, code: KeyCode) -> bool {
    match code {
        KeyCode::Char(c) if field.chars().count() < FIELD_CHARS_MAX && !c.is_control() => {
            field.push(c);
            true
        }
        KeyCode::Backspace => field.pop().is_some(),
        _ => false,
    }
}

/// Pasted text goes into a field and nowhere else: its letters are no keys.
fn paste(model: &mut Model, text: &str) -> bool {
    let clean: String = text.chars().filter(|c| !c.is_control()).take(FIELD_CHARS_MAX).collect();
    match &mut model.mode {
        Mode::Filter => {
            let state = model.state_mut();
            state.filter.push_str(&clean);
            state.rearrange();
            true
        }
        Mode::TopUp(form) => {
            let field = if form.is_at_until {
                &mut form.until
            } else {
                &mut form.amount
            };
            field.push_str(&clean);
            true
        }
        _ => false,
    }
}
