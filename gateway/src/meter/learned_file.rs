//! What was learned about models, kept in a file beside the ledger, so that a restart does not size holds by guesses
//! again. Only estimates rest on it: a file that cannot be read is told of and left out.

use std::io;
use std::path::Path;

use super::learn::ModelSnapshot;
use crate::files;

/// Name of the file in the ledger's folder.
pub const FILE: &str = "learned.json";
/// Far more than the models that are remembered take.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// What the file says; nothing where there is none.
pub fn load(dir: &Path) -> Vec<ModelSnapshot> {
    let path = dir.join(FILE);
    let read = files::read(&path, FILE_BYTES_MAX).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?));
    match read {
        Ok(models) => models,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "what was learned about models cannot be read: it is learned anew");
            Vec::new()
        }
    }
}

/// Replaces the file, whole or not at all.
pub fn save(dir: &Path, models: &[ModelSnapshot]) -> io::Result<()> {
    files::replace(&dir.join(FILE), &serde_json::to_vec(models)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::meter::{CallSeen, Estimator, LearnedOf};
    use agentledger_ledger::Usd;

    #[test]
    fn what_was_learned_survives() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load(dir.path()), []);
        let before = Estimator::new(1);
        for _ in 0..40 {
            before.learn("gpt-4o", Some((4_600, 1_000)), Some((900, 200)));
            let call = CallSeen {
                output_tokens: 700,
                cost_nanos: 9_000_000,
            };
            before.call_seen("gpt-4o", "coder", call);
        }
        save(dir.path(), &before.snapshot()).unwrap();
        let after = Estimator::new(1);
        after.restore(&load(dir.path()));
        assert_eq!(after.snapshot(), before.snapshot());
        assert_eq!(after.output_expected("gpt-4o"), before.output_expected("gpt-4o"));
        let learned = after.output_of_calls("gpt-4o", "coder");
        assert_eq!(learned, Some((767, LearnedOf::Agent)));
        assert_eq!(
            after.mean_cost_of_calls("gpt-4o", "coder"),
            Some(Usd::from_nanos(9_000_000))
        );
    }

    #[test]
    fn a_file_from_before_there_were_agents_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let text = r#"[{"model":"m","input_ratio":3500,"output_ratio":0,"outputs":[[20,40]]}]"#;
        std::fs::write(dir.path().join(FILE), text).unwrap();
        let estimator = Estimator::new(1);
        estimator.restore(&load(dir.path()));
        assert_eq!(estimator.output_of_calls("m", "coder"), Some((79, LearnedOf::Model)));
    }

    #[test]
    fn a_broken_file_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        for broken in ["", "{", "[{\"model\":1}]", "null"] {
            std::fs::write(dir.path().join(FILE), broken).unwrap();
            assert_eq!(load(dir.path()), [], "{broken}");
        }
    }
}
