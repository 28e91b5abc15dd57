//! Queries: read by decoded names, and passed on without what would change what is billed or seen of an answer.
//!
//! Google's hosts take system parameters beside an operation's own
//! (<https://docs.cloud.google.com/apis/docs/system-parameters>): some strip the usage from the answer (`fields`), some make
//! it unreadable (`alt=proto`, `callback`), some turn the request into another one (`$ct`, `$httpMethod`). What only leaves
//! the answer fuller than requested is taken off; a format that the client waits for and could not get is refused, for
//! it could not read what it pays for.

use crate::proxy::sanitize::headers::Passage;

/// Parameters that are another method to some servers.
const METHOD_OVERRIDES: [&str; 4] = [
    "_method",
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
];

/// System parameters of Google's that stand without a `$` too, and further ones of its older APIs.
const GOOGLES: [&str; 5] = ["fields", "fieldmask", "httpmethod", "httpheaders", "enum-encoding"];

/// How an upload goes on: of no use where an answer is metered.
const GOOGLES_UPLOADS: [&str; 4] = ["uploadtype", "upload_type", "upload_protocol", "upload_id"];

/// An answer in a format that cannot be metered was requested, by this parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnmeteredFormat(pub &'static str);

/// The value of a parameter, decoded. Its name counts however it is spelled.
pub fn value_of(query: &str, name: &str) -> Option<String> {
    values_of(query, name).next()
}

/// All values of a parameter, in order.
pub fn values_of<'q>(query: &'q str, name: &'q str) -> impl Iterator<Item = String> + 'q {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .filter(move |(known, _)| !name.is_empty() && decoded(known) == name)
        .map(|(_, value)| decoded(value))
}

/// Percent-encoding and plus signs taken off. What is broken stays as it is.
pub fn decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.as_bytes().iter();
    while let Some(&byte) = bytes.next() {
        let rest = bytes.as_slice();
        let escaped = (byte == b'%').then(|| rest.get(..2)).flatten().and_then(|two| {
            let two = std::str::from_utf8(two).ok()?;
            u8::from_str_radix(two, 16).ok()
        });
        match escaped {
            Some(value) => {
                out.push(value);
                bytes.nth(1);
            }
            None if byte == b'+' => out.push(b' '),
            None => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The query that goes upstream: as it came, without what was said to us, without the keys in `other_keys`, and without
/// what the passage does not bear.
///
/// # Errors
/// It requests an answer that cannot be metered.
pub fn passed_on(query: &str, passage: Passage, other_keys: &[&str]) -> Result<String, UnmeteredFormat> {
    let mut out = String::with_capacity(query.len());
    let mut alt_is_named = false;
    for (separator, pair) in pieces(query, passage.google) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decoded(name);
        let kept = match () {
            () if name.starts_with("_agent_") || other_keys.contains(&name.as_str()) => None,
            () if METHOD_OVERRIDES.contains(&name.trim().to_ascii_lowercase().as_str()) => None,
            () if passage.google => googles(&name, &decoded(value), passage, &mut alt_is_named)?.or_as_it_came(pair),
            () => Some(pair.to_owned()),
        };
        if let Some(kept) = kept {
            if !out.is_empty() {
                out.push(separator);
            }
            out.push_str(&kept);
        }
    }
    Ok(out)
}

/// The pairs of a query, each with what stands before it. Google's servers take a semicolon for an ampersand's equal.
fn pieces(query: &str, semicolons: bool) -> impl Iterator<Item = (char, &str)> {
    let ends = move |c: char| c == '&' || (semicolons && c == ';');
    let mut separator = '&';
    query
        .split_inclusive(ends)
        .map(move |piece| {
            let pair = piece.trim_end_matches(ends);
            let before = separator;
            separator = piece.chars().next_back().filter(|c| ends(*c)).unwrap_or('&');
            (before, pair)
        })
        .filter(|(_, pair)| !pair.is_empty())
}

/// What becomes of a parameter on its way to Google.
enum Fate {
    Passes,
    TakenOff,
    Becomes(String),
}

impl Fate {
    fn or_as_it_came(self, pair: &str) -> Option<String> {
        match self {
            Fate::Passes => Some(pair.to_owned()),
            Fate::TakenOff => None,
            Fate::Becomes(other) => Some(other),
        }
    }
}

fn googles(name: &str, value: &str, passage: Passage, alt_is_named: &mut bool) -> Result<Fate, UnmeteredFormat> {
    let lower = name.trim().to_ascii_lowercase();
    let bare = lower.trim_start_matches('$');
    if bare == "alt" {
        return alt(value, passage, alt_is_named);
    }
    if matches!(bare, "callback" | "jsonp") {
        return if passage.is_metered() {
            Err(UnmeteredFormat("callback"))
        } else {
            Ok(Fate::TakenOff)
        };
    }
    let taken_off =
        lower.starts_with('$') || GOOGLES.contains(&bare) || (passage.is_metered() && GOOGLES_UPLOADS.contains(&bare));
    Ok(if taken_off { Fate::TakenOff } else { Fate::Passes })
}

/// The form of the answer: JSON, whole or in a stream. Its first word counts; options behind it, such as numbers in place
/// of names, change what the meter would read.
fn alt(value: &str, passage: Passage, is_named: &mut bool) -> Result<Fate, UnmeteredFormat> {
    let word = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let passes = match word.as_str() {
        "sse" | "json" => true,
        "" => false,
        _ if passage.is_metered() => return Err(UnmeteredFormat("alt")),
        // A file itself, and not what is known of it.
        "media" => true,
        _ => false,
    };
    if !passes || *is_named {
        return Ok(Fate::TakenOff);
    }
    *is_named = true;
    Ok(Fate::Becomes(format!("alt={word}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::plugin::Billing;

    const METERED: Passage = Passage {
        google: true,
        billing: Billing::Metered,
    };

    #[test]
    fn google_fieldmask_in_every_spelling_is_taken_off() {
        for query in [
            "fields=candidates",
            "$fields=candidates",
            "%24fields=candidates",
            "%66ields=candidates",
            "FIELDS=candidates",
            "$Fields=x&fields=y",
            "fields=a;fields=b",
            ";fields=a",
            "$.xgafv=1",
            "$httpMethod=POST",
            "$ct=application/x-protobuf",
            "$httpHeaders=X-Goog-FieldMask%3Aa",
            "$outputDefaults=true",
            "_method=POST",
            "%5Fmethod=POST",
            "uploadType=multipart",
            "+fields=a",
        ] {
            assert_eq!(passed_on(query, METERED, &[]).unwrap(), "", "{query}");
            assert_eq!(
                passed_on(&format!("alt=sse&{query}&pageSize=2"), METERED, &[]).unwrap(),
                "alt=sse&pageSize=2",
                "{query}"
            );
        }
    }

    #[test]
    fn a_format_that_cannot_be_metered_is_refused_where_it_would_be_paid() {
        for query in [
            "alt=proto",
            "$alt=proto",
            "%24alt=PROTO",
            "alt=media",
            "callback=f",
            "$callback=f",
        ] {
            assert!(passed_on(query, METERED, &[]).is_err(), "{query}");
        }
        let free = Passage {
            billing: Billing::Free,
            ..METERED
        };
        assert_eq!(passed_on("alt=media&x=1", free, &[]).unwrap(), "alt=media&x=1");
        assert_eq!(passed_on("alt=proto&fields=a&callback=f", free, &[]).unwrap(), "");
        let elsewhere = Passage {
            google: false,
            ..METERED
        };
        let query = "fields=a;b&alt=proto&callback=f&api-version=2024";
        assert_eq!(passed_on(query, elsewhere, &[]).unwrap(), query, "another host's own");
    }

    #[test]
    fn googles_own_clients_pass() {
        for (query, passed) in [
            ("alt=sse", "alt=sse"),
            ("$alt=json;enum-encoding=int", "alt=json"),
            ("%24alt=json%3Benum-encoding%3Dint", "alt=json"),
            ("alt=sse&alt=json", "alt=sse"),
            ("key=AIza&prettyPrint=false", "key=AIza&prettyPrint=false"),
        ] {
            assert_eq!(passed_on(query, METERED, &[]).unwrap(), passed, "{query}");
        }
    }

    #[test]
    fn what_was_said_to_the_gateway_and_other_keys_are_taken_off() {
        let query = "a=1&_agent_id=my%20agent&b=2&_agent_task=x+y&%5fagent_user=u&key=k";
        assert_eq!(value_of(query, "_agent_id").unwrap(), "my agent");
        assert_eq!(value_of(query, "_agent_task").unwrap(), "x y");
        assert_eq!(value_of("mod%65l=m", "model").unwrap(), "m");
        let elsewhere = Passage {
            google: false,
            billing: Billing::Free,
        };
        assert_eq!(passed_on(query, elsewhere, &["key"]).unwrap(), "a=1&b=2");
        assert_eq!(decoded("%zz%4"), "%zz%4");
    }
}
