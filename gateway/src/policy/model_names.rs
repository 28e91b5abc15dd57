//! The names under which one model is known to a list of models. A list mostly denies, and must not be got around by how a
//! host, a client or a fine-tune spells the name: case, `.` for `-`, what stands before it (`openai/`, `models/`,
//! `us.anthropic.`, `ft:`) and what stands behind it (`:nitro`, `@20260101`, `[1m]`, `-20260101`, `-latest`, `-v1:0`).

/// Longest name that is taken apart; a longer one is known by itself alone.
const NAME_BYTES_MAX: usize = 2_048;

/// Lower case, `.` as `-`: so `Claude-3.5` and `claude-3-5` are one.
pub fn folded(name: &str) -> String {
    name.chars().map(fold).collect()
}

pub fn fold(one: char) -> char {
    if one == '.' { '-' } else { one.to_ascii_lowercase() }
}

/// Every name of the model, folded, the whole one first.
pub fn names_of(model: &str) -> Vec<String> {
    let mut names = vec![folded(model)];
    if model.len() > NAME_BYTES_MAX {
        return names;
    }
    let mut add = |name: &str| {
        let name = folded(name);
        if !name.is_empty() && !names.contains(&name) {
            names.push(name);
        }
    };
    let mut rest = Some(model);
    while let Some(name) = rest {
        for shorter in shortened(name) {
            add(shorter);
        }
        rest = after_qualifier(name);
    }
    names
}

/// The name without the word before its first `/`, else without `ft:`, else without a vendor's or region's word and dot.
fn after_qualifier(name: &str) -> Option<&str> {
    if let Some((_, rest)) = name.split_once('/') {
        return Some(rest);
    }
    if let Some((word, rest)) = name.split_once(':')
        && word.eq_ignore_ascii_case("ft")
    {
        return Some(rest);
    }
    let (word, rest) = name.split_once('.')?;
    let is_word = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'-');
    is_word.then_some(rest)
}

/// The name as it is, and each shorter one without what stands behind it.
fn shortened(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(name), |name| shorter(name))
}

fn shorter(name: &str) -> Option<&str> {
    let cut = name.rfind(['[', '@', ':']).or_else(|| {
        let (_, last) = name.rsplit_once('-')?;
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let is_date = digits(last) && last.len() == 8;
        let is_version = last.strip_prefix(['v', 'V']).is_some_and(digits);
        let at = name.len() - last.len() - 1;
        (is_date || is_version || last.eq_ignore_ascii_case("latest"))
            .then_some(at)
            .or_else(|| day_at(name))
    })?;
    name.get(..cut).filter(|name| !name.is_empty())
}

/// Where `-YYYY-MM-DD` begins at the end of a name.
fn day_at(name: &str) -> Option<usize> {
    let at = name.len().checked_sub("-2026-01-01".len())?;
    let fits = |(place, byte): (usize, u8)| match place {
        0 | 5 | 8 => byte == b'-',
        _ => byte.is_ascii_digit(),
    };
    name.get(at..)?.bytes().enumerate().all(fits).then_some(at)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::super::glob::{GlobSet, Over};
    use super::*;

    #[test]
    fn a_model_is_known_under_each_of_its_names() {
        for (model, name) in [
            ("anthropic/Claude-Opus-4.1", "claude-opus-4-1"),
            ("us.anthropic.claude-opus-4-8-20260115-v1:0", "claude-opus-4-8"),
            ("publishers/google/models/gemini-3-pro@20260101", "gemini-3-pro"),
            ("ft:gpt-4o-mini:acme::abc", "gpt-4o-mini"),
            ("openai/gpt-4o-mini:nitro", "gpt-4o-mini"),
            ("claude-opus-4-8[1m]", "claude-opus-4-8"),
            ("gpt-5.4-2026-03-05", "gpt-5-4"),
            (
                "arn:aws:bedrock:us-east-1:123456789012:inference-profile/eu.anthropic.claude-opus-4-8-v1:0",
                "claude-opus-4-8",
            ),
        ] {
            assert!(
                names_of(model).iter().any(|known| known == name),
                "{model}: {:?}",
                names_of(model)
            );
        }
        assert!(
            !names_of("gpt-5.4-mini").iter().any(|known| known == "gpt-5-4"),
            "another model"
        );
    }

    #[test]
    fn block_pattern_stops_at_slash() {
        let denies =
            |pattern: &str, model: &str| GlobSet::new(&[pattern], Over::Models).unwrap().first(model).is_some();
        for model in [
            "claude-opus-4-8",
            "anthropic/claude-opus-4.1",
            "a/b/OPUS-x",
            "eu.anthropic.claude-opus-4-8-v1:0",
        ] {
            assert!(denies("*opus*", model), "{model}");
        }
        assert!(denies("claude-opus-*", "anthropic/Claude-Opus-4.1:exacto"));
        assert!(denies("openai/*", "openai/gpt-4o") && !denies("openai/*", "gpt-4o"));
        assert!(denies("gpt-4?", "openai/gpt-4o") && !denies("gpt-4?", "gpt-4o-mini"));
        assert!(denies("[GC]*", "gpt-4o"), "a class has no case either");
        assert!(denies("gpt-[0-9.]*", "GPT-5.4") && !denies("gpt-[^5]*", "gpt-5.4"));
        assert!(!denies("*opus*", "claude-sonnet-4-5"));
        assert!(
            GlobSet::new(&["*opus*"], Over::Keys).unwrap().first("a/opus").is_none(),
            "keys keep Go's rule"
        );
    }

    #[test]
    fn odd_names_end() {
        for odd in [
            "",
            "/",
            "////",
            "::",
            "[",
            "@",
            "-latest",
            "ft:",
            "....",
            "a.",
            &"/a".repeat(3_000),
        ] {
            assert!(!names_of(odd).is_empty());
        }
    }
}
