//! The terminal: taken, and given back whatever happens: at the end, on a panic, by a signal, while the command is suspended.

use std::io::{self, BufWriter, Stdout, stdout};
use std::panic;
use std::sync::Once;

use ratatui_core::terminal::Terminal;
use ratatui_crossterm::CrosstermBackend;
use ratatui_crossterm::crossterm::cursor::{Hide, Show};
use ratatui_crossterm::crossterm::event::{DisableBracketedPaste, EnableBracketedPaste};
use ratatui_crossterm::crossterm::execute;
use ratatui_crossterm::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use rustix::process::{Signal, kill_current_process_group};

use super::model::Model;
use super::view;

static HOOK: Once = Once::new();

pub struct Screen {
    terminal: Terminal<CrosstermBackend<BufWriter<Stdout>>>,
}

impl Screen {
    pub fn take() -> io::Result<Screen> {
        HOOK.call_once(|| {
            let before = panic::take_hook();
            panic::set_hook(Box::new(move |panic| {
                give_back();
                before(panic);
            }));
        });
        let made = enter().and_then(|()| Terminal::new(CrosstermBackend::new(BufWriter::new(stdout()))));
        match made {
            Ok(terminal) => Ok(Screen { terminal }),
            Err(error) => {
                give_back();
                Err(error)
            }
        }
    }

    pub fn draw(&mut self, model: &mut Model) -> io::Result<()> {
        let drawn = self.terminal.draw(|frame| {
            let area = frame.area();
            if let Some(place) = view::draw(model, area, frame.buffer_mut()) {
                frame.set_cursor_position(place);
            }
        });
        drawn.map(|_| ())
    }

    /// The next frame is painted whole, whatever stands there. By a resize to the same size: `clear` asks the terminal where its
    /// cursor is, and the thread that waits for keys would have the answer.
    pub fn forget(&mut self) -> io::Result<()> {
        let size = self.terminal.size()?;
        self.terminal.resize(size.into())
    }

    /// As any command on Ctrl-Z. A shell's job control stops the process here; where there is none, nothing happens.
    pub fn suspend(&mut self) -> io::Result<()> {
        give_back();
        kill_current_process_group(Signal::TSTP)?;
        enter()?;
        self.forget()
    }

    /// After it was stopped, by whomever: a shell may have set the terminal as it likes it meanwhile.
    pub fn resume(&mut self) -> io::Result<()> {
        disable_raw_mode()?;
        enable_raw_mode()?;
        self.forget()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

fn enter() -> io::Result<()> {
    enable_raw_mode()?;
    execute!(stdout(), EnterAlternateScreen, EnableBracketedPaste, Hide)
}

/// Nothing can be done where even this fails.
fn give_back() {
    let _ = execute!(stdout(), DisableBracketedPaste, LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
}
