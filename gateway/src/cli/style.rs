//! How results look: on a terminal, and where something else reads them.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::process::{Command, Stdio};

/// How results look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// A person reads it: the contract's tables, too, have their numbers aligned.
    pub terminal: bool,
    pub colour: bool,
    /// How many characters a line has, where that is known.
    pub width: Option<usize>,
}

/// What a text is, by which it is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    Strong,
    Faint,
    Good,
    Warning,
    Bad,
}

impl Style {
    #[cfg(test)]
    pub const PLAIN: Style = Style {
        terminal: false,
        colour: false,
        width: None,
    };

    pub fn of_stdout() -> Style {
        let is_terminal = io::stdout().is_terminal();
        let style = Style::decide(|name| std::env::var_os(name), is_terminal);
        Style {
            width: style.width.or_else(|| is_terminal.then(terminal_width).flatten()),
            ..style
        }
    }

    pub fn of_stderr() -> Style {
        Style::decide(|name| std::env::var_os(name), io::stderr().is_terminal())
    }

    /// `NO_COLOR` counts before `CLICOLOR_FORCE`, which makes a terminal of whatever reads (`less -R`), and both before what
    /// there is. An empty variable is none.
    fn decide(variable: impl Fn(&str) -> Option<OsString>, is_terminal: bool) -> Style {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let forced = variable("CLICOLOR_FORCE").is_some_and(|value| value != "0");
        let without = variable("CLICOLOR").is_some_and(|value| value == "0")
            || variable("TERM").is_some_and(|value| value == "dumb");
        Style {
            terminal: is_terminal || forced,
            colour: variable("NO_COLOR").is_none() && (forced || (is_terminal && !without)),
            width: variable("COLUMNS").and_then(|columns| columns.to_str()?.parse().ok()),
        }
    }

    /// The text, coloured where there are colours.
    pub fn paint(self, tone: Tone, text: &str) -> String {
        if !self.colour || text.is_empty() {
            return text.to_owned();
        }
        let code = match tone {
            Tone::Strong => "1",
            Tone::Faint => "2",
            Tone::Good => "32",
            Tone::Warning => "33",
            Tone::Bad => "31",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

/// How wide the terminal is, by `stty`: asking the system itself takes code that the compiler cannot check.
fn terminal_width() -> Option<usize> {
    let terminal = std::fs::File::open("/dev/tty").ok()?;
    let mut asked = Command::new("stty");
    asked.arg("size").stdin(terminal).stderr(Stdio::null());
    let answer = asked.output().ok()?;
    let (_, columns) = std::str::from_utf8(&answer.stdout).ok()?.trim().split_once(' ')?;
    // A terminal that does not know says 0.
    columns.parse().ok().filter(|columns| *columns > 0)
}

/// Clients name agents and models: what would move the cursor or break the line is shown as `?`.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn decided(variables: &[(&str, &str)], is_terminal: bool) -> (bool, bool) {
        let find = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        };
        let style = Style::decide(find, is_terminal);
        (style.terminal, style.colour)
    }

    #[test]
    fn colour_is_for_terminals_and_for_whoever_forces_it() {
        assert_eq!(decided(&[], false), (false, false));
        assert_eq!(decided(&[], true), (true, true));
        assert_eq!(decided(&[("NO_COLOR", "1")], true), (true, false));
        assert_eq!(decided(&[("NO_COLOR", "")], true), (true, true));
        assert_eq!(decided(&[("TERM", "dumb")], true), (true, false));
        assert_eq!(decided(&[("CLICOLOR", "0")], true), (true, false));
        assert_eq!(decided(&[("CLICOLOR_FORCE", "1")], false), (true, true));
        assert_eq!(decided(&[("CLICOLOR_FORCE", "0")], false), (false, false));
        assert_eq!(
            decided(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], false),
            (true, false)
        );
    }

    #[test]
    fn only_colour_adds_to_a_text() {
        assert_eq!(Style::PLAIN.paint(Tone::Bad, "x"), "x");
        let coloured = Style {
            terminal: true,
            colour: true,
            width: None,
        };
        assert_eq!(coloured.paint(Tone::Bad, "x"), "\u{1b}[31mx\u{1b}[0m");
        assert_eq!(printable("a\u{1b}[2J\nb"), "a?[2J?b");
    }
}
