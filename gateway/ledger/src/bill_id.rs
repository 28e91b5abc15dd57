//! The name under which a result is billed once.

/// A result, by a hash of whose it is and its name there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BillId(pub [u8; 16]);

impl BillId {
    /// Of its names in order: ("openai", "resp_1") is another id than ("openaires", "p_1").
    pub fn of(names: &[&str]) -> BillId {
        let mut hasher = blake3::Hasher::new();
        for name in names {
            hasher.update(&(name.len() as u64).to_be_bytes());
            hasher.update(name.as_bytes());
        }
        let mut id = [0; 16];
        hasher.finalize_xof().fill(&mut id);
        BillId(id)
    }

    /// Known of a bill that was taken at what was held for it.
    pub(crate) fn guessed(self) -> BillId {
        self.also("agentledger: billed as held")
    }

    /// Known of such a bill once its entry is corrected.
    pub(crate) fn corrected(self) -> BillId {
        self.also("agentledger: corrected since")
    }

    /// Known of a bill that was entered when its result was fetched, beside any hold.
    pub(crate) fn entered(self) -> BillId {
        self.also("agentledger: entered when fetched")
    }

    fn also(self, what: &str) -> BillId {
        let mut hasher = blake3::Hasher::new_derive_key(what);
        hasher.update(&self.0);
        let mut id = [0; 16];
        hasher.finalize_xof().fill(&mut id);
        BillId(id)
    }

    /// For months that are over: far fewer are known than make two alike.
    pub(crate) fn prefix(self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart_by_where_they_end() {
        assert_eq!(BillId::of(&["a", "bc"]), BillId::of(&["a", "bc"]));
        assert_ne!(BillId::of(&["a", "bc"]), BillId::of(&["ab", "c"]));
        assert_ne!(BillId::of(&["abc"]), BillId::of(&["abc", ""]));
    }
}
