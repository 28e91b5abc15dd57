//! Texts at their places: the colours of states, a text cut to its room, a table fitted into a width.

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use ratatui_core::style::{Color, Modifier, Style};

use super::rows::{Column, Tone};
use super::text::{cut, width};

/// Between two columns.
pub const GAP: usize = 2;
/// Texts are cut no shorter than so, while a column can be left out instead.
const NAME_LEAST: usize = 10;
/// No text takes more of a table at first.
const NAME_MOST: usize = 40;

/// A buffer, and whether colours are wanted on it.
pub struct Paint<'b> {
    pub buffer: &'b mut Buffer,
    pub is_coloured: bool,
}

impl Paint<'_> {
    /// The dashboard's colours in the sixteen of a terminal: colour is state alone, and each has a shape or a word beside it.
    pub fn style(&self, tone: Tone) -> Style {
        let plain = Style::new();
        let (colour, modifier) = match tone {
            Tone::Ink => return plain,
            Tone::Soft => return plain.add_modifier(Modifier::DIM),
            Tone::Strong => return plain.add_modifier(Modifier::BOLD),
            Tone::Spent => (Color::Blue, Modifier::empty()),
            Tone::Held => (Color::Cyan, Modifier::empty()),
            Tone::Over => (Color::Red, Modifier::BOLD),
            Tone::Refused => (Color::Magenta, Modifier::BOLD),
            Tone::Warn => (Color::Yellow, Modifier::BOLD),
        };
        let plain = plain.add_modifier(modifier);
        if self.is_coloured { plain.fg(colour) } else { plain }
    }

    /// A text, cut to so many columns and to what there is of the buffer; where it ends.
    pub fn put(&mut self, x: u16, y: u16, text: &str, columns: usize, style: Style) -> u16 {
        let area = self.buffer.area;
        if y < area.top() || y >= area.bottom() || x < area.left() || x >= area.right() {
            return x;
        }
        let columns = columns.min(usize::from(area.right() - x));
        self.buffer.set_stringn(x, y, cut(text, columns), columns, style).0
    }

    /// Several texts one behind the other; those that have no room whole are left out.
    pub fn put_all(&mut self, area: Rect, texts: &[(String, Tone)], gap: u16) -> u16 {
        let mut x = area.left();
        for (at, (text, tone)) in texts.iter().enumerate() {
            let begin = if at == 0 { x } else { x.saturating_add(gap) };
            let room = usize::from(area.right().saturating_sub(begin));
            // The first says the most: it is cut before it is left out.
            if at > 0 && width(text) > room {
                break;
            }
            x = self.put(begin, area.top(), text, room, self.style(*tone));
        }
        x
    }

    pub fn put_right(&mut self, area: Rect, text: &str, tone: Tone) {
        let columns = width(text).min(usize::from(area.width));
        let begin = area.right().saturating_sub(u16::try_from(columns).unwrap_or(u16::MAX));
        self.put(begin, area.top(), text, columns, self.style(tone));
    }

    pub fn blank(&mut self, area: Rect) {
        let area = area.intersection(self.buffer.area);
        let line = " ".repeat(usize::from(area.width));
        for y in area.top()..area.bottom() {
            self.buffer
                .set_style(Rect::new(area.left(), y, area.width, 1), Style::reset());
            self.put(area.left(), y, &line, line.len(), Style::new());
        }
    }
}

/// The line of an area.
pub fn line(area: Rect, at: u16) -> Rect {
    let height = u16::from(at < area.height);
    Rect::new(area.left(), area.top().saturating_add(at), area.width, height)
}

/// The columns that there is room for, each with its width: first texts are cut, then what can be spared is left out, and figures
/// are never cut. `wanted`: the widest cell of each.
pub fn fit(columns: &[Column], wanted: &[usize], room: usize) -> Vec<(usize, usize)> {
    let mut shown: Vec<(usize, usize)> = columns
        .iter()
        .zip(wanted)
        .map(|(column, wanted)| {
            if column.is_figure {
                *wanted
            } else {
                (*wanted).min(NAME_MOST)
            }
        })
        .enumerate()
        .collect();
    let spare = |at: usize| columns.get(at).map_or(0, |column| column.spare);
    let is_figure = |at: usize| columns.get(at).is_some_and(|column| column.is_figure);
    let taken = |shown: &[(usize, usize)]| {
        let gaps = shown.len().saturating_sub(1) * GAP;
        shown.iter().map(|(_, width)| width).sum::<usize>() + gaps
    };
    loop {
        let over = taken(&shown).saturating_sub(room);
        if over == 0 {
            break;
        }
        let can_shrink = shown
            .iter_mut()
            .filter(|(at, width)| !is_figure(*at) && *width > NAME_LEAST);
        if let Some((_, width)) = can_shrink.max_by_key(|(_, width)| *width) {
            *width -= 1;
            continue;
        }
        let most = shown.iter().map(|(at, _)| spare(*at)).max().unwrap_or_default();
        if most > 0 {
            shown.retain(|(at, _)| spare(*at) < most);
            continue;
        }
        // Only what is never left out is left, and it is too wide: its text gives way.
        if let Some((_, width)) = shown.iter_mut().find(|(at, _)| !is_figure(*at)) {
            *width = width.saturating_sub(over);
        }
        break;
    }
    // What texts were cut by and there is room for again, since a column was left out.
    let mut rest = room.saturating_sub(taken(&shown));
    for (at, width) in shown.iter_mut().filter(|(at, _)| !is_figure(*at)) {
        let more = wanted
            .get(*at)
            .copied()
            .unwrap_or_default()
            .saturating_sub(*width)
            .min(rest);
        *width += more;
        rest -= more;
    }
    shown
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::super::rows::Pane;
    use super::*;

    #[test]
    fn texts_give_way_first_then_columns_and_figures_are_never_cut() {
        let columns = Pane::Agents.columns();
        let wanted = [30, 12, 5, 6, 11, 11];
        let widths = |room| fit(columns, &wanted, room);
        assert_eq!(widths(200).len(), 6);
        assert_eq!(widths(85)[0], (0, 30));
        assert_eq!(widths(70)[0], (0, 15));
        // Read and written go together, and the agent's name has their room.
        assert_eq!(widths(60), [(0, 30), (1, 12), (2, 5), (3, 6)]);
        assert_eq!(widths(24), [(0, 10), (1, 12)]);
        assert_eq!(widths(18), [(0, 4), (1, 12)]);
        for room in 0..120 {
            let shown = widths(room);
            assert!(
                shown.iter().all(|(at, width)| *at == 0 || *width == wanted[*at]),
                "{room}: {shown:?}"
            );
        }
    }
}
