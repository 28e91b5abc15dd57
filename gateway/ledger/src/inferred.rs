//! Which names of an exchange its client did not say outright: they were read from what it sends anyway.

use std::ops::BitOr;

/// A set of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inferred(u8);

impl Inferred {
    pub const NONE: Inferred = Inferred(0);
    pub const AGENT: Inferred = Inferred(1);
    pub const SESSION: Inferred = Inferred(1 << 1);
    pub const USER: Inferred = Inferred(1 << 2);
    pub const PARENT: Inferred = Inferred(1 << 3);

    const NAMED: [(Inferred, &'static str); 4] = [
        (Inferred::AGENT, "agent"),
        (Inferred::SESSION, "session"),
        (Inferred::USER, "user"),
        (Inferred::PARENT, "parent"),
    ];

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub const fn contains(self, other: Inferred) -> bool {
        self.0 & other.0 == other.0
    }

    #[must_use]
    pub const fn without(self, other: Inferred) -> Inferred {
        Inferred(self.0 & !other.0)
    }

    pub const fn bits(self) -> u8 {
        self.0
    }

    /// `None`: bits that mean nothing.
    pub fn from_bits(bits: u8) -> Option<Inferred> {
        (bits < 1 << Inferred::NAMED.len()).then_some(Inferred(bits))
    }

    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let held = move |(one, _): &(Inferred, &str)| self.contains(*one);
        Inferred::NAMED.into_iter().filter(held).map(|(_, name)| name)
    }

    pub fn from_name(name: &str) -> Option<Inferred> {
        let named = |(_, known): &(Inferred, &str)| *known == name;
        Inferred::NAMED.into_iter().find(named).map(|(one, _)| one)
    }
}

impl BitOr for Inferred {
    type Output = Inferred;

    fn bitor(self, other: Inferred) -> Inferred {
        Inferred(self.0 | other.0)
    }
}
