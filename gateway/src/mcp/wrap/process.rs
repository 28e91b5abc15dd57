//! The server's process: started with two pipes, told of signals, waited for; its end is ours.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, getpgrp, kill_process, waitid};
use rustix::termios::tcgetpgrp;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc, oneshot};

use super::books::{Books, Rpc};
use super::calls::Calls;
use super::client::{CHUNK_BYTES, ClientSide};
use super::gate::{Gate, Pipe, Settings, WAITING_MAX};
use super::server::ServerSide;
use crate::config::LongLines;

/// How long the rest of what a server said may take once it has ended: something that it started may hold its pipe.
const DRAIN: Duration = Duration::from_secs(2);
/// Added to a signal's number for the exit code of a process that it ended, as shells do.
const BY_SIGNAL: i32 = 128;

/// Signals that the server gets as we do.
const PASSED_ON: [(libc::c_int, Signal); 6] = [
    (libc::SIGHUP, Signal::HUP),
    (libc::SIGINT, Signal::INT),
    (libc::SIGQUIT, Signal::QUIT),
    (libc::SIGTERM, Signal::TERM),
    (libc::SIGUSR1, Signal::USR1),
    (libc::SIGUSR2, Signal::USR2),
];

/// The client's end of both pipes. Each is closed when the server closes the other end of it.
pub struct ClientEnds {
    pub reads: Box<dyn Read + Send>,
    pub writes: Box<dyn Write + Send>,
}

/// How lines are cut.
#[derive(Clone, Copy, Debug)]
pub struct LineLimits {
    pub bytes_max: usize,
    pub long: LongLines,
}

/// Runs a server between the ends of its client until it ends; its exit code. The server writes its log where we do: to standard
/// error.
///
/// # Errors
/// It cannot be started, or waited for.
pub fn run<R: Rpc>(
    mut command: Command,
    client: ClientEnds,
    books: Books<R>,
    settings: Settings,
    lines: LineLimits,
) -> io::Result<u8> {
    // Before there is a child that could miss one.
    let signals = Signals::listen()?;
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(io::Error::other("the server has no pipes"));
    };
    widen(&stdin);
    widen(&stdout);
    let running = Arc::new(Running::of(&child));
    signals.pass_on(Arc::clone(&running))?;
    let calls = Arc::new(Calls::default());
    let room = Arc::new(Notify::new());
    let to_server = Arc::new(Pipe::new(Box::new(stdin), Arc::clone(&room)));
    let to_client = Arc::new(Pipe::new(client.writes, Arc::clone(&room)));
    for (name, pipe) in [("mcp-to-server", &to_server), ("mcp-to-client", &to_client)] {
        let pipe = Arc::clone(pipe);
        thread(name, move || pipe.run())?;
    }
    let (asked, asks) = mpsc::channel(WAITING_MAX);
    let (tells, known) = mpsc::unbounded_channel();
    let (ends, gone) = oneshot::channel();
    let gate = Gate {
        books,
        settings,
        calls: Arc::clone(&calls),
        to_server: Arc::clone(&to_server),
        to_client: Arc::clone(&to_client),
        room,
        tells: tells.clone(),
    };
    let runtime = runtime()?;
    let gate = thread("mcp-gate", move || runtime.block_on(gate.run(asks, known, gone)))?;
    let client_side = ClientSide {
        calls: Arc::clone(&calls),
        to_server: Arc::clone(&to_server),
        to_client: Arc::clone(&to_client),
        gate: asked,
        known: tells.clone(),
        line_bytes_max: lines.bytes_max,
        long_lines: lines.long,
    };
    let reads = client.reads;
    thread("mcp-client", move || {
        // A server that takes nothing more is no fault: what the client reads from then on is up to it.
        let _ = client_side.run(reads);
    })?;
    let server_side = ServerSide {
        calls,
        to_client,
        known: tells.clone(),
        line_bytes_max: lines.bytes_max,
        long_lines: lines.long,
    };
    let (done, drained) = channel();
    thread("mcp-server", move || {
        server_side.run(stdout);
        let _ = done.send(());
    })?;
    let status = running.wait(&mut child)?;
    let _ = drained.recv_timeout(DRAIN);
    let _ = ends.send(());
    if gate.join().is_err() {
        tracing::error!("the thread that enters calls panicked");
    }
    Ok(code(status))
}

/// Gives a pipe room for all that is read at one time, so that less often one end waits for the other. What is no pipe, or gets no more,
/// stays as it is.
pub fn widen(pipe: &impl AsFd) {
    let bytes = i32::try_from(CHUNK_BYTES).unwrap_or(i32::MAX);
    let _ = fcntl(pipe, FcntlArg::F_SETPIPE_SZ(bytes));
}

fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn thread(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    Builder::new().name(name.to_owned()).spawn(run)
}

fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| Some(BY_SIGNAL + status.signal()?));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// The server's process, as long as its number is its own.
struct Running {
    pid: Mutex<Option<Pid>>,
}

impl Running {
    fn of(child: &Child) -> Running {
        Running {
            pid: Mutex::new(Some(Pid::from_child(child))),
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = *self.pid.lock() {
            // It may have ended, and not be waited for yet.
            let _ = kill_process(pid, signal);
        }
    }

    /// Waits for its end without taking it, so that no signal goes to a process that got its number after it.
    fn wait(&self, child: &mut Child) -> io::Result<ExitStatus> {
        let pid = *self.pid.lock();
        if let Some(pid) = pid {
            let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            while let Err(error) = waitid(WaitId::Pid(pid), ended) {
                if error != rustix::io::Errno::INTR {
                    return Err(error.into());
                }
            }
        }
        let mut pid = self.pid.lock();
        *pid = None;
        child.wait()
    }
}

/// From here on none of these signals ends this process.
struct Signals {
    runtime: Runtime,
    heard: Vec<(tokio::signal::unix::Signal, Signal)>,
}

impl Signals {
    fn listen() -> io::Result<Signals> {
        let runtime = runtime()?;
        let heard = {
            let _context = runtime.enter();
            let listened = PASSED_ON.map(|(number, passed)| Ok((signal(SignalKind::from_raw(number))?, passed)));
            listened.into_iter().collect::<io::Result<_>>()?
        };
        Ok(Signals { runtime, heard })
    }

    fn pass_on(self, to: Arc<Running>) -> io::Result<()> {
        let Signals { runtime, heard } = self;
        thread("mcp-signals", move || {
            let passing = heard.into_iter().map(|(mut signal, passed)| {
                let to = Arc::clone(&to);
                async move {
                    while signal.recv().await.is_some() {
                        if !is_of_terminal(passed) {
                            to.signal(passed);
                        }
                    }
                }
            });
            runtime.block_on(futures_util::future::join_all(passing));
        })?;
        Ok(())
    }
}

/// Whether a terminal has sent it to all of its processes, of which the server is one: a second one would cut a server off that goes
/// down with care.
fn is_of_terminal(signal: Signal) -> bool {
    let is_in_front = || {
        let terminal = File::open("/dev/tty").ok()?;
        Some(tcgetpgrp(terminal).ok()? == getpgrp())
    };
    matches!(signal, Signal::INT | Signal::QUIT) && is_in_front().unwrap_or(false)
}
