//! A list of tools as its caller may see it: without those that a policy denies, and those that are not what they were pinned to be.
//! Whatever is left stands byte for byte.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

/// Why a list cannot be shown.
#[derive(Debug, PartialEq, Eq)]
pub struct UnreadableList;

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Listed<'a> {
    #[serde(borrow, default)]
    tools: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
}

/// The message, or the batch of them, with the tools that `keep` keeps. `None`: all of them, or it is no list.
///
/// # Errors
/// It cannot be read, so that nobody knows what it lists.
pub fn filtered(
    message: &str,
    mut keep: impl FnMut(&str, &RawValue) -> bool,
) -> Result<Option<String>, UnreadableList> {
    each(message, &mut |one| filtered_one(one, &mut keep))
}

/// The message, or the batch of them, with `answer` in place of each list of tools; it is given the list's id.
///
/// # Errors
/// As of [`filtered`].
pub fn replaced(message: &str, answer: impl Fn(&RawValue) -> String) -> Result<Option<String>, UnreadableList> {
    each(message, &mut |one| {
        let is_list = tools_of(one)?.is_some();
        let Message { id, .. } = serde_json::from_str(one).map_err(|_| UnreadableList)?;
        Ok(id.filter(|_| is_list).map(&answer))
    })
}

/// The text with what `edit` makes of each of its messages.
fn each(
    message: &str,
    edit: &mut dyn FnMut(&str) -> Result<Option<String>, UnreadableList>,
) -> Result<Option<String>, UnreadableList> {
    if !message.trim_ascii_start().starts_with('[') {
        return edit(message);
    }
    let items: Vec<&RawValue> = serde_json::from_str(message).map_err(|_| UnreadableList)?;
    let (mut edited, mut from) = (String::new(), 0);
    for item in items {
        let Some(changed) = edit(item.get())? else { continue };
        let at = offset(message, item.get()).ok_or(UnreadableList)?;
        edited.push_str(message.get(from..at).ok_or(UnreadableList)?);
        edited.push_str(&changed);
        from = at + item.get().len();
    }
    if from == 0 {
        return Ok(None);
    }
    edited.push_str(message.get(from..).ok_or(UnreadableList)?);
    Ok(Some(edited))
}

/// The tools that a message lists; `None`: it is no list.
fn tools_of(message: &str) -> Result<Option<Vec<&RawValue>>, UnreadableList> {
    let unreadable = |_| UnreadableList;
    let Message { result, .. } = serde_json::from_str(message).map_err(unreadable)?;
    let Some(result) = result.filter(|result| result.get().starts_with('{')) else {
        return Ok(None);
    };
    let Listed { tools } = serde_json::from_str(result.get()).map_err(unreadable)?;
    Ok(tools)
}

fn filtered_one(
    message: &str,
    keep: &mut impl FnMut(&str, &RawValue) -> bool,
) -> Result<Option<String>, UnreadableList> {
    let Some(tools) = tools_of(message)? else {
        return Ok(None);
    };
    let mut kept = Vec::with_capacity(tools.len());
    for tool in &tools {
        // What has no name cannot be called.
        let Named { name } = serde_json::from_str(tool.get()).map_err(|_| UnreadableList)?;
        if keep(&name, tool) {
            kept.push(tool.get());
        }
    }
    let (Some(first), Some(last)) = (tools.first(), tools.last()) else {
        return Ok(None);
    };
    if kept.len() == tools.len() {
        return Ok(None);
    }
    let from = offset(message, first.get()).ok_or(UnreadableList)?;
    let to = offset(message, last.get()).ok_or(UnreadableList)? + last.get().len();
    let before = message.get(..from).ok_or(UnreadableList)?;
    let after = message.get(to..).ok_or(UnreadableList)?;
    Ok(Some([before, &kept.join(","), after].concat()))
}

/// Where a part of a text begins in it.
fn offset(text: &str, part: &str) -> Option<usize> {
    let at = (part.as_ptr() as usize).checked_sub(text.as_ptr() as usize)?;
    (at + part.len() <= text.len()).then_some(at)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    const LIST: &str = r#"{"jsonrpc":"2.0", "id":1,"result":{"ttlMs":5,"tools":[ {"name":"a"} , {"name":"b","x":[1, 2]}, {"name":"c"}],"nextCursor":"n"}}"#;

    fn without(hidden: &[&str]) -> Result<Option<String>, UnreadableList> {
        filtered(LIST, |name, _| !hidden.contains(&name))
    }

    #[test]
    fn what_is_left_stands_as_it_came() {
        assert_eq!(without(&[]), Ok(None));
        for (hidden, tools) in [
            (&["a"][..], r#"{"name":"b","x":[1, 2]},{"name":"c"}"#),
            (&["b"], r#"{"name":"a"},{"name":"c"}"#),
            (&["c", "a"], r#"{"name":"b","x":[1, 2]}"#),
            (&["a", "b", "c"], ""),
        ] {
            let expected =
                format!(r#"{{"jsonrpc":"2.0", "id":1,"result":{{"ttlMs":5,"tools":[ {tools}],"nextCursor":"n"}}}}"#);
            assert_eq!(without(hidden), Ok(Some(expected)), "{hidden:?}");
        }
    }

    #[test]
    fn of_a_batch_the_lists_alone_are_changed() {
        let batch = format!(r#" [ {{"id":7,"result":{{"content":[]}}}}, {LIST} , {{"method":"m"}}]"#);
        assert_eq!(filtered(&batch, |_, _| true), Ok(None));
        let changed = filtered(&batch, |name, _| name == "c").unwrap().unwrap();
        assert_eq!(
            changed,
            batch.replace(
                r#"{"name":"a"} , {"name":"b","x":[1, 2]}, {"name":"c"}"#,
                r#"{"name":"c"}"#
            )
        );
        let refused = replaced(&batch, |id| format!("<{}>", id.get())).unwrap().unwrap();
        assert_eq!(refused, r#" [ {"id":7,"result":{"content":[]}}, <1> , {"method":"m"}]"#);
        assert_eq!(replaced(r#"{"id":7,"result":{}}"#, |_| String::new()), Ok(None));
    }

    #[test]
    fn what_cannot_be_read_is_told_from_what_is_no_list() {
        for no_list in [
            r#"{"id":1,"error":{"code":1}}"#,
            r#"{"id":1,"result":{}}"#,
            r#"{"method":"x"}"#,
            r#"{"result":{"tools":[]}}"#,
        ] {
            assert_eq!(filtered(no_list, |_, _| false), Ok(None), "{no_list}");
        }
        for odd in [
            "",
            r#"{"result":{"tools":[{}]}}"#,
            r#"{"result":{"tools":[{"name":"a"}],"tools":[]}}"#,
            r#"{"result":{"tools":{"a":1}}}"#,
        ] {
            assert_eq!(filtered(odd, |_, _| true), Err(UnreadableList), "{odd}");
        }
    }
}
