//! Model ids as the lookup compares them.
//!
//! The rule, in full:
//! 1. An id is *folded*: ASCII letters to lower case, `.` to `-`. So `Claude-3.5-Haiku` and `claude-3-5-haiku` are one id.
//! 2. A qualifier that the price file declares (`openai/`, `anthropic/`) may stand before it.
//! 3. An id that is not in the book may be longer than one that is, but only by *neutral* suffixes: words that name a
//!    snapshot, never a model. They are `-YYYY-MM-DD`, `-YYYYMMDD`, `@YYYY-MM-DD`, `@YYYYMMDD`, `-latest`, `@latest`,
//!    `@default`, `-preview-DATE` (there also `MM-DD`), and those the price file declares (`names.rs`). They are taken off
//!    one by one from the end, so the longest known prefix wins. `gpt-5.4-mini` is therefore never `gpt-5.4`, `gpt-5.5`
//!    never `gpt-5`. A word that names another price (`:thinking`, `:extended`) is no neutral one: such a name needs a row.
//! 4. Of an ARN (`arn:aws:bedrock:…:inference-profile/us.anthropic.claude-…`) only what follows its last `/` counts.
//! 5. `ft:BASE:ORGANISATION:NAME:ID` is priced as `ft:BASE`, which must have its own row: a tuned model costs more.
//! 6. A name that finds no row so is priced at the dearest row of its family, and told (`family.rs`).

/// Longest id that is looked up; a longer one is unpriced.
pub const ID_BYTES_MAX: usize = 192;

/// A folded id on the stack, so that a lookup allocates nothing.
pub struct Folded {
    bytes: [u8; ID_BYTES_MAX],
    len: usize,
}

impl Folded {
    /// `None` for an empty id and one longer than [`ID_BYTES_MAX`].
    pub fn new(id: &str) -> Option<Folded> {
        let mut folded = Folded {
            bytes: [0; ID_BYTES_MAX],
            len: id.len(),
        };
        let target = folded.bytes.get_mut(..id.len())?;
        for (to, from) in target.iter_mut().zip(id.bytes()) {
            *to = fold(from);
        }
        (!id.is_empty()).then_some(folded)
    }

    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// The folded form of an id as a key of the book.
pub fn key(id: &str) -> Box<[u8]> {
    id.bytes().map(fold).collect()
}

/// The id that an ARN ends in; any other id as it is.
pub fn without_arn(id: &[u8]) -> &[u8] {
    match id.iter().rposition(|&byte| byte == b'/') {
        Some(slash) if id.starts_with(b"arn:") => id.get(slash + 1..).unwrap_or_default(),
        _ => id,
    }
}

const fn fold(byte: u8) -> u8 {
    match byte {
        b'.' => b'-',
        other => other.to_ascii_lowercase(),
    }
}

/// The id without a suffix that is neutral everywhere, and whether it named a snapshot.
pub fn without_suffix(id: &[u8], after_date: bool) -> Option<(&[u8], bool)> {
    let fixed: [&[u8]; 3] = [b"-latest", b"@latest", b"@default"];
    if let Some(rest) = fixed.iter().find_map(|suffix| id.strip_suffix(*suffix)) {
        return Some((rest, false));
    }
    if after_date && let Some(rest) = id.strip_suffix(b"-preview") {
        return Some((rest, false));
    }
    without_date(id).map(|rest| (rest, true))
}

/// Whether an id is a beginning of another one, up to a boundary: a word of it, not a part of one.
pub fn begins(id: &[u8], beginning: &[u8]) -> bool {
    id.strip_prefix(beginning)
        .is_some_and(|rest| rest.first().is_none_or(|byte| is_boundary(*byte)))
}

/// What stands between the words of a folded id.
pub const fn is_boundary(byte: u8) -> bool {
    matches!(byte, b'-' | b'/' | b':' | b'@' | b'_')
}

/// The id without a day at its end, `YYYYMMDD` or `YYYY-MM-DD`.
pub fn without_day(id: &[u8]) -> Option<&[u8]> {
    without_shape(id, b"yyyymmdd").or_else(|| without_shape(id, b"yyyy-mm-dd"))
}

/// The id without a date at its end.
fn without_date(id: &[u8]) -> Option<&[u8]> {
    for shape in [&b"-yyyy-mm-dd"[..], b"@yyyy-mm-dd", b"-yyyymmdd", b"@yyyymmdd"] {
        if let Some(rest) = without_shape(id, shape) {
            return Some(rest);
        }
    }
    // A day without a year is a date only where nothing else can be meant.
    without_shape(id, b"-mm-dd").filter(|rest| rest.ends_with(b"-preview"))
}

fn without_shape<'a>(id: &'a [u8], shape: &[u8]) -> Option<&'a [u8]> {
    let (rest, tail) = id.split_at_checked(id.len().checked_sub(shape.len())?)?;
    let (mut year, mut month, mut day) = (0u32, 0u32, 0u32);
    for (&want, &have) in shape.iter().zip(tail) {
        let part = match want {
            b'y' => &mut year,
            b'm' => &mut month,
            b'd' => &mut day,
            literal if literal == have => continue,
            _ => return None,
        };
        if !have.is_ascii_digit() {
            return None;
        }
        *part = *part * 10 + u32::from(have - b'0');
    }
    let plausible_year = !shape.contains(&b'y') || (2020..2100).contains(&year);
    (plausible_year && (1..=12).contains(&month) && (1..=31).contains(&day)).then_some(rest)
}

/// `ft:BASE` of a tuned model's id.
pub fn tuned_base(id: &[u8]) -> Option<&[u8]> {
    let name = id.strip_prefix(b"ft:")?;
    let end = name.iter().position(|&byte| byte == b':')?;
    id.get(..end + 3)
}
