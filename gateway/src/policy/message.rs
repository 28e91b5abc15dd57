//! What an error of Lua says to people.

use mlua::Error as LuaError;

use super::sandbox::Stopwatch;

/// Longest error text that leaves the engine, in characters.
const ERROR_CHARS_MAX: usize = 500;

fn root(error: &LuaError) -> &LuaError {
    match error {
        LuaError::CallbackError { cause, .. }
        | LuaError::WithContext { cause, .. }
        | LuaError::BadArgument { cause, .. } => root(cause),
        other => other,
    }
}

pub(super) fn is_memory(error: &LuaError) -> bool {
    match root(error) {
        LuaError::MemoryError(_) => true,
        LuaError::RuntimeError(message) => message.contains("not enough memory"),
        _ => false,
    }
}

/// One line of text for people: file, line and what went wrong, without the traceback.
pub(super) fn message_of(error: &LuaError, watch: &Stopwatch) -> String {
    let found = match root(error) {
        LuaError::RuntimeError(message) | LuaError::MemoryError(message) | LuaError::SyntaxError { message, .. } => {
            message.clone()
        }
        other => other.to_string(),
    };
    let first = found.split("\nstack traceback:").next().unwrap_or_default().trim();
    let place = match error {
        LuaError::CallbackError { traceback, .. } => place_in(traceback),
        _ => None,
    };
    let late = if watch.is_late() && !first.contains("deadline") {
        " (stopped at its deadline)"
    } else {
        ""
    };
    let line = match place {
        Some(place) => format!("{place}: {first}{late}"),
        None => format!("{first}{late}"),
    };
    line.replace('\n', " ").chars().take(ERROR_CHARS_MAX).collect()
}

/// The innermost `file:line` of a traceback that lies in a policy.
fn place_in(traceback: &str) -> Option<&str> {
    traceback.lines().map(str::trim).find_map(|line| {
        let (file, rest) = line.split_once(".lua:")?;
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        (digits > 0 && !file.contains(' '))
            .then(|| line.get(..file.len() + 5 + digits))
            .flatten()
    })
}
