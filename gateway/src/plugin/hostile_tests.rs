//! Plugins that misbehave, assembled here byte by byte: each fails one call, and nothing else.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use super::dialect::{AnswerFrame, Dialect, DialectError, Ending, Reading};
use super::engine::compile;
use super::host::{Caps, Host};
use super::registry::LoadError;

const CAPS: Caps = Caps {
    deadline: Duration::from_millis(50),
    memory_bytes_max: 16 << 20,
};
const I32: u8 = 0x7f;
const END: u8 = 0x0b;

fn leb(mut value: usize) -> Vec<u8> {
    let mut out = vec![];
    loop {
        let byte = (value & 0x7f) as u8;
        value >>= 7;
        out.push(if value == 0 { byte } else { byte | 0x80 });
        if value == 0 {
            return out;
        }
    }
}

fn list(items: &[Vec<u8>]) -> Vec<u8> {
    [leb(items.len()), items.concat()].concat()
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    [leb(bytes.len()), bytes.to_vec()].concat()
}

fn section(id: u8, bytes: &[u8]) -> Vec<u8> {
    [vec![id], sized(bytes)].concat()
}

/// The custom section in which a built-in plugin carries our world.
fn world() -> Vec<u8> {
    let wasm = super::registry::embedded("openai").expect("the built-in plugin");
    let mut at = 8;
    while at < wasm.len() {
        let start = at;
        let id = wasm[at];
        at += 1;
        let (mut len, mut shift) = (0_usize, 0);
        loop {
            let byte = wasm[at];
            at += 1;
            len |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        if id == 0
            && wasm[at..at + len]
                .windows(14)
                .take(4)
                .any(|name| name == b"component-type")
        {
            return wasm[start..at + len].to_vec();
        }
        at += len;
    }
    panic!("no world in the built-in plugin");
}

/// Where the guest keeps its answers.
const INFO: usize = 1_024;
const NAME: usize = 2_048;
const NONE: usize = 4_096;

/// What a guest does when it is asked to read. Every body returns one i32: the address of its answer.
struct Guest {
    read: Vec<u8>,
    terminal: Vec<u8>,
    import: Option<&'static str>,
}

impl Default for Guest {
    fn default() -> Guest {
        Guest {
            read: address(NONE),
            terminal: vec![0x00, END],
            import: None,
        }
    }
}

fn address(at: usize) -> Vec<u8> {
    // i32.const takes a signed number, whose sixth bit of the last byte must be clear.
    let mut bytes = vec![
        0x41,
        (at & 0x7f) as u8 | 0x80,
        (at >> 7 & 0x7f) as u8 | 0x80,
        (at >> 14 & 0x3f) as u8,
    ];
    bytes.push(END);
    bytes
}

impl Guest {
    fn wasm(&self) -> Vec<u8> {
        let function = |params: usize| [vec![0x60], sized(&vec![I32; params]), vec![1, I32]].concat();
        // cabi_realloc, info, inspect (whose arguments are too many for registers), read, terminal, error-body, meaning-of
        let types: Vec<Vec<u8>> = [4, 0, 1, 9, 8, 7, 5].into_iter().map(function).collect();
        let first = usize::from(self.import.is_some());
        let names = [
            "cabi_realloc",
            "info",
            "inspect",
            "read",
            "terminal",
            "error-body",
            "meaning-of",
        ];
        let mut exports: Vec<Vec<u8>> = names
            .iter()
            .enumerate()
            .map(|(i, name)| [sized(name.as_bytes()), vec![0], leb(first + i)].concat())
            .collect();
        exports.push([sized(b"memory"), vec![2, 0]].concat());
        let trap = vec![0x00, END];
        // The arguments go to one place, far from the answers.
        let bodies = [
            address(32_768),
            address(INFO),
            trap.clone(),
            self.read.clone(),
            self.terminal.clone(),
            trap,
            address(NONE),
        ];
        let code: Vec<Vec<u8>> = bodies
            .iter()
            .map(|body| sized(&[vec![0], body.clone()].concat()))
            .collect();
        let word = |value: usize| (value as u32).to_le_bytes().to_vec();
        let info = [word(NAME), word(7), word(NAME), word(7)].concat();
        let data = |at: usize, bytes: &[u8]| [vec![0], address(at), sized(bytes)].concat();
        let import = self.import.map_or(vec![], |name| {
            section(
                2,
                &list(&[[sized(b"env"), sized(name.as_bytes()), vec![0, 1]].concat()]),
            )
        });
        [
            b"\0asm\x01\0\0\0".to_vec(),
            section(1, &list(&types)),
            import,
            section(3, &list(&(0..7).map(|i| vec![i]).collect::<Vec<_>>())),
            section(5, &list(&[vec![0, 1]])),
            section(7, &list(&exports)),
            section(10, &list(&code)),
            section(11, &list(&[data(INFO, &info), data(NAME, b"hostile")])),
            world(),
        ]
        .concat()
    }

    fn host(&self) -> Host {
        Host::start("hostile", &compile("hostile", &self.wasm()).unwrap(), CAPS).unwrap()
    }
}

fn read(host: &Host) -> Result<Option<Reading>, DialectError> {
    host.read(&AnswerFrame {
        operation: "o",
        event: None,
        streamed: true,
        status: 200,
        outline: "{}",
    })
}

fn failure(host: &Host) -> String {
    let before = host.failures();
    let failed = match read(host) {
        Err(DialectError::Failed { plugin, reason }) => {
            assert_eq!(plugin, "hostile");
            reason
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(host.failures(), before + 1, "each failure is counted once");
    failed
}

#[test]
fn a_well_behaved_guest_of_this_assembler_works() {
    let host = Guest::default().host();
    assert_eq!(host.info().name, "hostile");
    for _ in 0..3 {
        assert_eq!(read(&host).unwrap(), None);
    }
    assert_eq!(host.failures(), 0);
}

#[test]
fn an_endless_loop_runs_out_of_time() {
    // loop br 0 end unreachable
    let host = Guest {
        read: vec![0x03, 0x40, 0x0c, 0, END, 0x00, END],
        ..Guest::default()
    }
    .host();
    assert_eq!(failure(&host), "ran out of time");
    assert_eq!(failure(&host), "ran out of time", "and again, in a fresh instance");
}

#[test]
fn growing_memory_without_end_fails() {
    // loop (memory.grow 1 page, drop, br 0)
    let host = Guest {
        read: vec![0x03, 0x40, 0x41, 1, 0x40, 0, 0x1a, 0x0c, 0, END, 0x00, END],
        ..Guest::default()
    }
    .host();
    let reason = failure(&host);
    assert!(reason.contains("memory") || reason.contains("grow"), "{reason}");
}

#[test]
fn a_panic_fails_the_call_and_not_the_host() {
    let host = Guest {
        read: vec![0x00, END],
        ..Guest::default()
    }
    .host();
    assert!(failure(&host).contains("unreachable"));
    // The other calls go on, in another instance.
    assert!(host.terminal("o", Ending::Denied, "m", None).is_err());
    assert_eq!(host.info().name, "hostile");
}

#[test]
fn endless_recursion_fails() {
    let args: Vec<u8> = (0..9).flat_map(|_| [0x41, 0]).collect();
    let host = Guest {
        read: [args, vec![0x10, 3, END]].concat(),
        ..Guest::default()
    }
    .host();
    assert!(failure(&host).contains("stack"), "{}", failure(&host));
}

#[test]
fn an_answer_outside_memory_or_without_sense_fails() {
    let outside = Guest {
        read: address(1 << 19),
        ..Guest::default()
    }
    .host();
    failure(&outside);
    // Bytes where a discriminant should be.
    let nonsense = Guest {
        read: address(NAME),
        ..Guest::default()
    }
    .host();
    failure(&nonsense);
}

#[test]
fn a_list_longer_than_memory_fails() {
    // The pair of address and length stands where `info` put the name's address: 2,048 and 7 bytes, which is fine; at the
    // name itself the length is what its letters say, which is not.
    let host = Guest {
        terminal: address(NAME),
        ..Guest::default()
    }
    .host();
    assert!(matches!(
        host.terminal("o", Ending::Denied, "m", None),
        Err(DialectError::Failed { .. })
    ));
    let host = Guest {
        terminal: address(INFO),
        ..Guest::default()
    }
    .host();
    assert_eq!(host.terminal("o", Ending::Denied, "m", None).unwrap(), b"hostile");
}

#[test]
fn a_foreign_import_is_refused_by_name() {
    let wasm = Guest {
        import: Some("open_socket"),
        ..Guest::default()
    }
    .wasm();
    let error = compile("hostile", &wasm).unwrap_err().to_string();
    assert!(error.contains("open_socket") || error.contains("env"), "{error}");
}

#[test]
fn what_is_no_plugin_is_refused() {
    for wasm in [&b""[..], b"MZ", b"\0asm\x01\0\0\0", b"\0asm\x0d\0\x01\0"] {
        match compile("hostile", wasm).map(|component| Host::start("hostile", &component, CAPS)) {
            Err(LoadError::Unfit { .. }) | Ok(Err(LoadError::Unfit { .. })) => {}
            Ok(Ok(_)) => panic!("{wasm:?} was taken"),
            Err(error) | Ok(Err(error)) => panic!("{error}"),
        }
    }
}
