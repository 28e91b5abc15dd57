//! Plugins that misbehave: each fails one call, and nothing else.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use super::assembler::{END, ENDLESS, GREEDY, I32, Module, TRAP, address, function, word};
use super::dialect::{AnswerFrame, Dialect, DialectError, Ending, Reading};
use super::engine::compile;
use super::host::Host;
use super::pool::Caps;
use super::registry::LoadError;

const CAPS: Caps = Caps {
    deadline: Duration::from_millis(50),
    memory_bytes_max: 16 << 20,
};

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
            terminal: TRAP.to_vec(),
            import: None,
        }
    }
}

impl Guest {
    fn wasm(&self) -> Vec<u8> {
        let words = |count: usize| vec![I32; count];
        Module {
            functions: vec![
                // The arguments go to one place, far from the answers.
                function("cabi_realloc", &words(4), &address(32_768)),
                function("info", &[], &address(INFO)),
                // Its arguments are too many for registers.
                function("inspect", &words(1), &TRAP),
                function("read", &words(9), &self.read),
                function("terminal", &words(8), &self.terminal),
                function("error-body", &words(7), &TRAP),
                function("meaning-of", &words(5), &address(NONE)),
            ],
            data: vec![
                (INFO, [word(NAME), word(7), word(NAME), word(7)].concat()),
                (NAME, b"hostile".to_vec()),
            ],
            import: self.import,
            world: ("openai", "provider"),
        }
        .wasm()
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
    let host = Guest {
        read: ENDLESS.to_vec(),
        ..Guest::default()
    }
    .host();
    assert_eq!(failure(&host), "ran out of time");
    assert_eq!(failure(&host), "ran out of time", "and again, in a fresh instance");
}

#[test]
fn growing_memory_without_end_fails() {
    let host = Guest {
        read: GREEDY.to_vec(),
        ..Guest::default()
    }
    .host();
    let reason = failure(&host);
    assert!(reason.contains("memory") || reason.contains("grow"), "{reason}");
}

#[test]
fn a_panic_fails_the_call_and_not_the_host() {
    let host = Guest {
        read: TRAP.to_vec(),
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
