//! WebAssembly assembled byte by byte, for tests with plugins that misbehave as no compiler lets one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub(super) const I32: u8 = 0x7f;
pub(super) const I64: u8 = 0x7e;
pub(super) const END: u8 = 0x0b;
/// A body that traps.
pub(super) const TRAP: [u8; 2] = [0x00, END];
/// `loop br 0 end unreachable`.
pub(super) const ENDLESS: [u8; 7] = [0x03, 0x40, 0x0c, 0, END, 0x00, END];
/// `loop (memory.grow 1 page, drop, br 0)`.
pub(super) const GREEDY: [u8; 12] = [0x03, 0x40, 0x41, 1, 0x40, 0, 0x1a, 0x0c, 0, END, 0x00, END];

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

/// The custom section in which a built-in plugin carries its world, exports and all.
fn world(plugin: &str, world: &str) -> Vec<u8> {
    let wasm = super::registry::embedded(plugin).unwrap_or_else(|| panic!("no built-in plugin {plugin}"));
    let name = format!(":{world}:imports and exports");
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
        let head = &wasm[at..at + len.min(200)];
        if id == 0 && head.windows(name.len()).any(|part| part == name.as_bytes()) {
            return wasm[start..at + len].to_vec();
        }
        at += len;
    }
    panic!("no world {world} in the built-in plugin {plugin}");
}

/// A body that returns an address.
pub(super) fn address(at: usize) -> Vec<u8> {
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

/// A function of a plugin; it returns one i32, the address of its answer.
pub(super) struct Function {
    pub name: &'static str,
    pub params: Vec<u8>,
    pub body: Vec<u8>,
}

pub(super) fn function(name: &'static str, params: &[u8], body: &[u8]) -> Function {
    Function {
        name,
        params: params.to_vec(),
        body: body.to_vec(),
    }
}

/// A plugin with one page of memory.
pub(super) struct Module {
    pub functions: Vec<Function>,
    /// What stands in its memory, and where.
    pub data: Vec<(usize, Vec<u8>)>,
    pub import: Option<&'static str>,
    /// A built-in plugin, and the world that it has.
    pub world: (&'static str, &'static str),
}

impl Module {
    pub fn wasm(&self) -> Vec<u8> {
        let types: Vec<Vec<u8>> = self
            .functions
            .iter()
            .map(|function| [vec![0x60], sized(&function.params), vec![1, I32]].concat())
            .collect();
        let first = usize::from(self.import.is_some());
        let mut exports: Vec<Vec<u8>> = self
            .functions
            .iter()
            .enumerate()
            .map(|(i, function)| [sized(function.name.as_bytes()), vec![0], leb(first + i)].concat())
            .collect();
        exports.push([sized(b"memory"), vec![2, 0]].concat());
        let code: Vec<Vec<u8>> = self
            .functions
            .iter()
            .map(|function| sized(&[vec![0], function.body.clone()].concat()))
            .collect();
        let data: Vec<Vec<u8>> = self
            .data
            .iter()
            .map(|(at, bytes)| [vec![0], address(*at), sized(bytes)].concat())
            .collect();
        // Of the type of the second function: it takes nothing, or what a plugin is not given.
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
            section(3, &list(&(0..types.len()).map(leb).collect::<Vec<_>>())),
            section(5, &list(&[vec![0, 1]])),
            section(7, &list(&exports)),
            section(10, &list(&code)),
            section(11, &list(&data)),
            world(self.world.0, self.world.1),
        ]
        .concat()
    }
}

/// A word of memory.
pub(super) fn word(value: usize) -> Vec<u8> {
    (value as u32).to_le_bytes().to_vec()
}
