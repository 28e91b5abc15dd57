//! Silences: for a while, alerts that fit are noted and not delivered.

use crate::alert::Alert;
use crate::patterns::{PatternError, Patterns};

/// Patterns that all must fit, until a moment.
#[derive(Clone, Debug)]
pub struct Silence {
    pub id: String,
    pub until_ms: i64,
    kinds: Patterns,
    about: Patterns,
    tenants: Patterns,
}

impl Silence {
    /// Of a type, a thing and a tenant; an empty pattern fits everything.
    ///
    /// # Errors
    /// One of them is no pattern.
    pub fn new(id: &str, [kind, about, tenant]: [&str; 3], until_ms: i64) -> Result<Silence, PatternError> {
        let patterns = |pattern: &str| Patterns::new(Some(pattern).filter(|pattern| !pattern.is_empty()));
        Ok(Silence {
            id: id.to_owned(),
            until_ms,
            kinds: patterns(kind)?,
            about: patterns(about)?,
            tenants: patterns(tenant)?,
        })
    }

    pub fn covers(&self, alert: &Alert, now_ms: i64) -> bool {
        now_ms < self.until_ms
            && self.kinds.fit(&alert.kind)
            && self.about.fit(&alert.about)
            && self.tenants.fit(&alert.tenant)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::alert::tests::{NOON_MS, alert};

    #[test]
    fn a_silence_covers_what_fits_until_its_end() {
        let silence = Silence::new("s", ["budget_*", "key:*", ""], NOON_MS + 10).unwrap();
        assert!(silence.covers(&alert("budget_warning", "key:f1"), NOON_MS));
        assert!(!silence.covers(&alert("budget_warning", "key:f1"), NOON_MS + 10));
        assert!(!silence.covers(&alert("loop_detected", "key:f1"), NOON_MS));
        assert!(!silence.covers(&alert("budget_warning", "tenant:a"), NOON_MS));
        let of_tenant = Silence::new("s", ["", "", "acme"], i64::MAX).unwrap();
        assert!(!of_tenant.covers(&alert("x", "y"), NOON_MS));
        assert!(Silence::new("s", ["[", "", ""], 0).is_err());
    }
}
