//! Bytes of events and snapshots: little numbers are short (LEB128, zigzag for signed ones), and reading never goes beyond
//! what is there, whatever the bytes say.

use crate::entry::Name;
use crate::names::{Interner, NAME_BYTES_MAX, NAMES_MAX};

/// Why bytes are no event, or no snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("the bytes end too early")]
    Truncated,
    #[error("bytes are left over at the end")]
    Trailing,
    #[error("written by another version of the format")]
    Version,
    #[error("broken: {0}")]
    Malformed(&'static str),
}

/// How a name stands in the bytes: empty, written out, written out and numbered from now on, or its number plus three.
const NAME_EMPTY: u64 = 0;
const NAME_PLAIN: u64 = 1;
const NAME_DEFINED: u64 = 2;
const NAME_NUMBERS: u64 = 3;

#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub fn with_capacity(bytes: usize) -> Writer {
        Writer {
            bytes: Vec::with_capacity(bytes),
        }
    }

    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Forgets so many of the first bytes.
    pub fn forget(&mut self, bytes: usize) {
        self.bytes.drain(..bytes.min(self.bytes.len()));
    }

    pub fn byte(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub fn unsigned(&mut self, mut value: u64) {
        loop {
            let low = (value & 0x7f) as u8;
            value >>= 7;
            if value == 0 {
                return self.bytes.push(low);
            }
            self.bytes.push(low | 0x80);
        }
    }

    pub fn signed(&mut self, value: i64) {
        self.unsigned(((value << 1) ^ (value >> 63)) as u64);
    }

    pub fn blob(&mut self, bytes: &[u8]) {
        self.unsigned(bytes.len() as u64);
        self.raw(bytes);
    }

    pub fn text(&mut self, text: &str) {
        self.blob(text.as_bytes());
    }

    pub fn name(&mut self, name: &Name, names: &mut impl Interner) {
        if name.is_empty() {
            return self.unsigned(NAME_EMPTY);
        }
        if let Some(number) = names.number_of(name) {
            return self.unsigned(NAME_NUMBERS + u64::from(number));
        }
        self.unsigned(if names.define(name) { NAME_DEFINED } else { NAME_PLAIN });
        self.text(name);
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes }
    }

    pub fn left(&self) -> usize {
        self.bytes.len()
    }

    pub fn end(&self) -> Result<(), DecodeError> {
        if self.bytes.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Trailing)
        }
    }

    pub fn byte(&mut self) -> Result<u8, DecodeError> {
        let (first, rest) = self.bytes.split_first().ok_or(DecodeError::Truncated)?;
        self.bytes = rest;
        Ok(*first)
    }

    pub fn raw(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.bytes.split_at_checked(len).ok_or(DecodeError::Truncated)?;
        self.bytes = rest;
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        self.raw(N)?.try_into().map_err(|_| DecodeError::Truncated)
    }

    pub fn unsigned(&mut self) -> Result<u64, DecodeError> {
        let mut value: u64 = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                return Err(DecodeError::Malformed("number above 64 bits"));
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                // One number has one form: otherwise equal events could have different hashes.
                return if byte == 0 && shift > 0 {
                    Err(DecodeError::Malformed("padded number"))
                } else {
                    Ok(value)
                };
            }
        }
        Err(DecodeError::Malformed("number above 64 bits"))
    }

    pub fn signed(&mut self) -> Result<i64, DecodeError> {
        let value = self.unsigned()?;
        Ok(((value >> 1) as i64) ^ -((value & 1) as i64))
    }

    /// A number that must not be negative and fits `i64`.
    pub fn natural(&mut self) -> Result<i64, DecodeError> {
        i64::try_from(self.unsigned()?).map_err(|_| DecodeError::Malformed("number above 63 bits"))
    }

    pub fn small<T: TryFrom<u64>>(&mut self) -> Result<T, DecodeError> {
        T::try_from(self.unsigned()?).map_err(|_| DecodeError::Malformed("number too large for its field"))
    }

    /// How many items follow. Each takes at least a byte, so a count above what is left is a lie.
    pub fn count(&mut self) -> Result<usize, DecodeError> {
        let count: usize = self.small()?;
        if count > self.left() {
            Err(DecodeError::Truncated)
        } else {
            Ok(count)
        }
    }

    pub fn blob(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.count()?;
        self.raw(len)
    }

    pub fn text(&mut self) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.blob()?).map_err(|_| DecodeError::Malformed("text is not UTF-8"))
    }

    pub fn name(&mut self, names: &mut impl Interner) -> Result<Name, DecodeError> {
        match self.unsigned()? {
            NAME_EMPTY => Ok(Name::from("")),
            NAME_PLAIN => {
                let name = Name::from(self.text()?);
                // One name has one form, as one number has: what the table takes is never written out alone.
                if name.len() <= NAME_BYTES_MAX && names.len() < NAMES_MAX {
                    return Err(DecodeError::Malformed("a name that has a shorter form"));
                }
                Ok(name)
            }
            NAME_DEFINED => {
                let name = Name::from(self.text()?);
                if !name.is_empty() && names.define(&name) {
                    Ok(name)
                } else {
                    Err(DecodeError::Malformed("a name defined twice"))
                }
            }
            number => u32::try_from(number - NAME_NUMBERS)
                .ok()
                .and_then(|number| names.name_of(number))
                .ok_or(DecodeError::Malformed("a name that was never defined")),
        }
    }
}
