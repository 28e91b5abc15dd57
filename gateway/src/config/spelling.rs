//! Which of the known words was meant.

/// The nearest known word. A slip is one that starts alike and differs in two letters at most, or a part left out.
pub fn nearest<'k>(known: impl IntoIterator<Item = &'k str> + Clone, word: &str) -> Option<&'k str> {
    let word = word.to_ascii_lowercase();
    if word.is_empty() {
        return None;
    }
    let alike = known
        .clone()
        .into_iter()
        .find(|known| known.starts_with(&word) || word.starts_with(known));
    alike.or_else(|| {
        let near = known.into_iter().map(|known| (differing_letters(known, &word), known));
        near.filter(|(differing, _)| *differing <= 2)
            .min_by_key(|(differing, _)| *differing)
            .map(|(_, known)| known)
    })
}

/// Letters to add, drop or change to make one word the other.
fn differing_letters(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.chars().count()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut left = i + 1;
        let mut next = vec![left];
        for (b, above) in other.chars().zip(row.windows(2)) {
            let (diagonal, above) = match above {
                [diagonal, above] => (*diagonal, *above),
                _ => (left, left),
            };
            left = (left + 1).min(above + 1).min(diagonal + usize::from(a != b));
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn the_nearest_word_is_found_and_a_far_one_is_none() {
        let known = ["model", "provider", "agent", "day", "week"];
        for (word, meant) in [
            ("modle", Some("model")),
            ("Models", Some("model")),
            ("agnet", Some("agent")),
            ("prov", Some("provider")),
            ("dya", Some("day")),
            ("weeks", Some("week")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(known, word), meant, "{word}");
        }
    }
}
