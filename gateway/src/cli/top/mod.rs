//! `agentledger top`: the running gateway, live in a terminal. Answers and keys come in over one channel and change the model; it is
//! drawn where something that is seen changed, figures at most four times a second.

mod changes;
mod keys;
mod model;
mod paint;
mod rows;
mod screen;
mod sheet;
mod source;
mod text;
mod view;

#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use agentledger_ledger::{Clock, SystemClock};
use clap::Args;
use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use ratatui_crossterm::crossterm::event::{Event, read};
use ratatui_crossterm::crossterm::terminal::size;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::CliError;
use super::aliases;
use super::ask::{ConfigArgs, Elsewhere};
use super::client::{ClientError, runtime};
use super::style::Style;
use crate::tasks::spawn_named_on;
use crate::timer::Timer;
use model::{Act, Model};
use rows::Pane;
use screen::Screen;
use source::{News, Order};

/// Between two frames that nobody asked for by a key.
const FRAME: Duration = Duration::from_millis(250);
/// How often it is looked whether a second has passed, where seconds are seen.
const TICK: Duration = Duration::from_millis(1_000);
/// Columns and lines where nobody says how many there are.
const SIZE: (u16, u16) = (120, 40);

#[derive(Debug, Args)]
pub struct TopArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The pane to begin with
    #[arg(long, value_name = "PANE", default_value = "agents")]
    pane: Pane,
    /// Print one frame as plain text, as wide and high as COLUMNS and LINES say, else as the terminal is
    #[arg(long)]
    once: bool,
}

/// What the loop waits for.
enum Happened {
    Terminal(Event),
    News(News),
    /// It is to end: by a signal, or since its terminal is gone.
    End,
    /// It was stopped, and goes on.
    Resumed,
}

pub fn run(args: &TopArgs, elsewhere: &Elsewhere) -> Result<(), CliError> {
    let style = Style::of_stdout();
    let has_terminal = io::stdout().is_terminal() && io::stdin().is_terminal();
    if !args.once && !has_terminal {
        let text = "top needs a terminal to draw on: --once prints one frame as text".to_owned();
        return Err(ClientError::Usage(text).into());
    }
    let target = elsewhere.target(&args.config)?;
    let address = target.address()?;
    let names = aliases::of(&target);
    let clock = SystemClock::default();
    let runtime = runtime()?;
    // Whoever is not let in is told so before the screen is taken.
    let first = runtime.block_on(source::ask(&address, clock.now_ms()))?;
    let mut model = Model::new(&address.to_string(), names, args.pane, style.colour && !args.once);
    model.tick(clock.now_ms());
    model.take(News::Answers(Box::new(first)));
    if args.once {
        return super::print(&once(&mut model, style.width));
    }
    let (happened, heard) = channel();
    let (orders, ordered) = unbounded_channel();
    let (news, told) = channel();
    spawn_named_on(
        &runtime,
        "top-source",
        source::run(address, model.offset_ms, news, ordered),
    );
    spawn_named_on(&runtime, "top-signals", signals(happened.clone()));
    listen("top-news", &happened, move |happened| {
        told.iter()
            .try_for_each(|news| happened.send(Happened::News(news)).ok())?;
        happened.send(Happened::End).ok()
    })?;
    listen("top-keys", &happened, |happened| {
        while let Ok(event) = read() {
            happened.send(Happened::Terminal(event)).ok()?;
        }
        happened.send(Happened::End).ok()
    })?;
    drop(happened);
    let done = Top {
        model,
        screen: Screen::take()?,
        heard,
        orders,
        clock,
    }
    .run();
    // Not waited for: a connection may hang, and the keys' thread waits for one.
    runtime.shutdown_background();
    Ok(done?)
}

/// A thread that waits for something and says so.
fn listen(
    name: &str,
    happened: &Sender<Happened>,
    wait: impl FnOnce(&Sender<Happened>) -> Option<()> + Send + 'static,
) -> io::Result<()> {
    let happened = happened.clone();
    let begun = thread::Builder::new().name(name.to_owned()).spawn(move || {
        wait(&happened);
    });
    begun.map(|_| ())
}

async fn signals(happened: Sender<Happened>) {
    let of = |kind: SignalKind| signal(kind).ok();
    let ends = (
        of(SignalKind::terminate()),
        of(SignalKind::interrupt()),
        of(SignalKind::hangup()),
        of(SignalKind::from_raw(libc::SIGCONT)),
    );
    let (Some(mut terminated), Some(mut interrupted), Some(mut hung_up), Some(mut resumed)) = ends else {
        return;
    };
    loop {
        let said = tokio::select! {
            _ = terminated.recv() => Happened::End,
            _ = interrupted.recv() => Happened::End,
            _ = hung_up.recv() => Happened::End,
            _ = resumed.recv() => Happened::Resumed,
        };
        if happened.send(said).is_err() {
            return;
        }
    }
}

/// One frame, as text.
fn once(model: &mut Model, columns: Option<usize>) -> String {
    let terminal = io::stdout().is_terminal().then(|| size().ok()).flatten();
    let lines = std::env::var("LINES").ok().and_then(|lines| lines.parse().ok());
    let columns = columns.and_then(|columns| u16::try_from(columns).ok());
    let width = columns.or(terminal.map(|size| size.0)).unwrap_or(SIZE.0);
    let height = lines.or(terminal.map(|size| size.1)).unwrap_or(SIZE.1);
    let area = Rect::new(0, 0, width, height);
    let mut buffer = Buffer::empty(area);
    view::draw(model, area, &mut buffer);
    view::text(&buffer)
}

struct Top {
    model: Model,
    screen: Screen,
    heard: Receiver<Happened>,
    orders: UnboundedSender<Order>,
    clock: SystemClock,
}

impl Top {
    fn run(mut self) -> io::Result<()> {
        let mut drawn = Timer::start();
        let mut is_stale = false;
        self.screen.draw(&mut self.model)?;
        loop {
            let wait = match (is_stale, self.model.ticks() || self.model.notice.is_some()) {
                (true, _) => FRAME.saturating_sub(drawn.elapsed()),
                (false, true) => TICK,
                (false, false) => Duration::MAX,
            };
            let mut is_asked_for = false;
            match self.wait(wait) {
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Err(RecvTimeoutError::Timeout) => is_stale |= self.model.tick(self.clock.now_ms()),
                Ok(first) => {
                    is_stale |= self.model.tick(self.clock.now_ms());
                    let more: Vec<Happened> = self.heard.try_iter().collect();
                    for happened in std::iter::once(first).chain(more) {
                        let (is_seen, is_key) = match self.take(happened)? {
                            Taken::End => return Ok(()),
                            Taken::Seen { by_key } => (true, by_key),
                            Taken::Nothing => (false, false),
                        };
                        is_stale |= is_seen;
                        is_asked_for |= is_key;
                    }
                }
            }
            // Whoever presses a key sees at once what it does; figures wait for their turn.
            if is_stale && (is_asked_for || drawn.elapsed() >= FRAME) {
                self.screen.draw(&mut self.model)?;
                (drawn, is_stale) = (Timer::start(), false);
            }
        }
    }

    fn wait(&self, most: Duration) -> Result<Happened, RecvTimeoutError> {
        if most == Duration::MAX {
            return self.heard.recv().map_err(|_| RecvTimeoutError::Disconnected);
        }
        self.heard.recv_timeout(most)
    }

    fn take(&mut self, happened: Happened) -> io::Result<Taken> {
        match happened {
            Happened::End => return Ok(Taken::End),
            Happened::News(news) => {
                self.model.take(news);
                return Ok(Taken::Seen { by_key: false });
            }
            Happened::Resumed => self.screen.resume()?,
            Happened::Terminal(event) => {
                let Some(acts) = keys::event(&mut self.model, &event) else {
                    return Ok(Taken::Nothing);
                };
                for act in acts {
                    if !self.carry_out(act)? {
                        return Ok(Taken::End);
                    }
                }
            }
        }
        Ok(Taken::Seen { by_key: true })
    }

    /// Whether it goes on.
    fn carry_out(&mut self, act: Act) -> io::Result<bool> {
        let order = match act {
            Act::Quit => return Ok(false),
            Act::Suspend => return self.screen.suspend().map(|()| true),
            Act::Repaint => return self.screen.forget().map(|()| true),
            Act::Ask => Order::Now,
            Act::Change(change) => Order::Change(change),
        };
        // Nobody is left to hear it only where the loop ends as well.
        Ok(self.orders.send(order).is_ok())
    }
}

/// What an event did.
enum Taken {
    End,
    Seen { by_key: bool },
    Nothing,
}
