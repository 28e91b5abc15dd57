//! `multipart/form-data` (RFC 7578) read natively: the fields that a plugin wants go into an outline, of files only counts.

use memchr::memmem;

use super::Outline;
use super::shape::medium_index;
use crate::plugin::dialect::{Info, Medium};

/// Fields and files of one form.
const PARTS_MAX: usize = 1_024;
/// RFC 2046 §5.1.1.
const BOUNDARY_BYTES_MAX: usize = 70;
/// Headers of one part.
const HEAD_BYTES_MAX: usize = 8 << 10;

/// Why a form was refused. Says nothing of its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    #[error("the content-type multipart/form-data names no boundary")]
    NoBoundary,
    #[error("the boundary of the content-type does not stand in the body")]
    NoPart,
    #[error("the form ends before its closing boundary")]
    Eof,
    #[error("a part of the form has broken headers, or no name")]
    Head,
    #[error("a field of the form is not valid UTF-8")]
    Utf8,
    #[error("the same field comes twice in the form")]
    Twice,
    #[error("the form has more than {PARTS_MAX} parts")]
    Parts,
}

/// A form as it was read.
#[derive(Clone, Debug, Default)]
pub struct Form {
    /// The wanted fields as a JSON object, and files as `[{"bytes": …, "type": …}]`. It has no spans: a form is not edited.
    pub outline: Outline,
    /// All fields that are text, one a line.
    pub text: String,
    /// Characters of the fields that are to be counted.
    pub characters: Vec<(String, u64)>,
}

/// The boundary of a form's content type. `None`: it is no form.
pub fn boundary(content_type: &str) -> Option<Result<String, FormError>> {
    let (essence, rest) = content_type.split_once(';').unwrap_or((content_type, ""));
    if !essence.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let named = parameter(rest, "boundary").filter(|name| {
        let plain = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
        !name.is_empty() && name.len() <= BOUNDARY_BYTES_MAX && name.bytes().all(plain) && !name.ends_with(' ')
    });
    Some(named.ok_or(FormError::NoBoundary))
}

/// Reads a whole form.
pub fn form(body: &[u8], boundary: &str, info: &Info) -> Result<Form, FormError> {
    let mut form = Form::default();
    form.outline.bytes = body.len() as u64;
    let mut members: Vec<Member> = Vec::new();
    let delimiter = format!("\r\n--{boundary}");
    let opening = delimiter.as_bytes().get(2..).unwrap_or_default();
    // The first one needs no line before it.
    let mut rest = match body.strip_prefix(opening) {
        Some(rest) => rest,
        None => after(body, delimiter.as_bytes()).ok_or(FormError::NoPart)?.1,
    };
    let mut parts = 0;
    loop {
        if rest.starts_with(b"--") {
            break;
        }
        parts += 1;
        if parts > PARTS_MAX {
            return Err(FormError::Parts);
        }
        rest = rest.strip_prefix(b"\r\n").ok_or(FormError::Head)?;
        let (head, content) = match rest.strip_prefix(b"\r\n") {
            Some(_) => return Err(FormError::Head),
            None => after(rest, b"\r\n\r\n").ok_or(FormError::Eof)?,
        };
        let head = PartHeader::read(head)?;
        let (content, next) = after(content, delimiter.as_bytes()).ok_or(FormError::Eof)?;
        rest = next;
        form.part(&head, content, info, &mut members)?;
    }
    form.outline.doc = document(&members);
    Ok(form)
}

/// What stands before `what`, and what after it.
fn after<'b>(bytes: &'b [u8], what: &[u8]) -> Option<(&'b [u8], &'b [u8])> {
    let at = memmem::find(bytes, what)?;
    Some((bytes.get(..at)?, bytes.get(at + what.len()..)?))
}

struct PartHeader {
    /// Without `[]` at its end.
    name: String,
    list: bool,
    file: bool,
    content_type: String,
}

impl PartHeader {
    fn read(bytes: &[u8]) -> Result<PartHeader, FormError> {
        if bytes.len() > HEAD_BYTES_MAX {
            return Err(FormError::Head);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| FormError::Head)?;
        let mut name = None;
        let mut head = PartHeader {
            name: String::new(),
            list: false,
            file: false,
            content_type: String::new(),
        };
        for line in text.split("\r\n") {
            let (header, value) = line.split_once(':').ok_or(FormError::Head)?;
            if header.eq_ignore_ascii_case("content-disposition") {
                let (kind, rest) = value.split_once(';').ok_or(FormError::Head)?;
                if name.is_some() || !kind.trim().eq_ignore_ascii_case("form-data") {
                    return Err(FormError::Head);
                }
                name = parameter(rest, "name");
                head.file = parameter(rest, "filename").is_some() || parameter(rest, "filename*").is_some();
            } else if header.eq_ignore_ascii_case("content-type") {
                head.content_type = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
            }
        }
        let name = name.filter(|name| !name.is_empty()).ok_or(FormError::Head)?;
        let plain = name.strip_suffix("[]");
        head.list = plain.is_some();
        head.name = plain.unwrap_or(&name).to_owned();
        Ok(head)
    }
}

/// A parameter's value, quoted or not.
fn parameter(text: &str, wanted: &str) -> Option<String> {
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([';', ' ', '\t']);
        let (name, value) = rest.split_once('=')?;
        let found = name.trim().eq_ignore_ascii_case(wanted);
        let (value, left) = match value.strip_prefix('"') {
            Some(quoted) => unquoted(quoted)?,
            None => {
                let end = value.find(';').unwrap_or(value.len());
                (value.get(..end)?.trim().to_owned(), value.get(end..)?)
            }
        };
        if found {
            return Some(value);
        }
        rest = left;
    }
}

/// The text up to the closing quote, and what follows it.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut out = String::new();
    let mut chars = text.char_indices();
    while let Some((at, one)) = chars.next() {
        match one {
            '"' => return Some((out, text.get(at + 1..)?)),
            '\\' => out.push(chars.next()?.1),
            one => out.push(one),
        }
    }
    None
}

/// A member of the outline.
struct Member {
    name: String,
    /// JSON text; of a file, one element.
    values: Vec<String>,
    file: bool,
}

impl Form {
    fn part(
        &mut self,
        head: &PartHeader,
        content: &[u8],
        info: &Info,
        members: &mut Vec<Member>,
    ) -> Result<(), FormError> {
        if head.file {
            self.count_file(head, content.len() as u64, info);
            let file = serde_json::json!({"bytes": content.len(), "type": head.content_type}).to_string();
            return add(members, head, file, true);
        }
        let text = std::str::from_utf8(content).map_err(|_| FormError::Utf8)?;
        self.outline.text_bytes += text.len() as u64;
        self.text.push_str(text);
        self.text.push('\n');
        if info.request_counts.contains(&head.name) {
            self.characters.push((head.name.clone(), text.chars().count() as u64));
        }
        let wanted = info.request_paths.iter().find(|want| want.path == head.name);
        match wanted.filter(|want| text.len() <= want.max_bytes as usize) {
            Some(_) => add(members, head, scalar(text), false),
            None => Ok(()),
        }
    }

    fn count_file(&mut self, head: &PartHeader, bytes: u64, info: &Info) {
        let declared = info.request_media.iter().find(|media| media.path == head.name);
        let medium = match declared {
            Some(media) => media.medium,
            None if head.content_type.starts_with("image/") => Medium::Image,
            None if head.content_type.starts_with("audio/") => Medium::Audio,
            None => Medium::File,
        };
        if let Some((items, all)) = self.outline.media.get_mut(medium_index(medium)) {
            *items = items.saturating_add(1);
            *all += bytes;
        }
    }
}

/// A field that comes twice is ambiguous, as a key twice in JSON is; files, and names that end in `[]`, are lists.
fn add(members: &mut Vec<Member>, head: &PartHeader, value: String, file: bool) -> Result<(), FormError> {
    match members.iter_mut().find(|member| member.name == head.name) {
        Some(member) if file == member.file && (file || head.list) => {
            member.values.push(value);
            Ok(())
        }
        Some(_) => Err(FormError::Twice),
        None => {
            members.push(Member {
                name: head.name.clone(),
                values: vec![value],
                file,
            });
            Ok(())
        }
    }
}

/// Forms know only text: what reads as a whole number or as a truth is handed over as one.
fn scalar(text: &str) -> String {
    let number = !text.is_empty()
        && text.len() <= 15
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && (text == "0" || !text.starts_with('0'));
    match text {
        "true" | "false" => text.to_owned(),
        _ if number => text.to_owned(),
        _ => serde_json::Value::from(text).to_string(),
    }
}

fn document(members: &[Member]) -> String {
    let members = members.iter().map(|member| {
        let name = serde_json::Value::from(member.name.as_str());
        let values = member.values.join(",");
        if member.file || member.values.len() > 1 {
            format!("{name}:[{values}]")
        } else {
            format!("{name}:{values}")
        }
    });
    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::plugin::dialect::{Media, Want};

    fn info() -> Info {
        let want = |path: &str| Want {
            path: path.to_owned(),
            max_bytes: 16,
            max_items: 0,
        };
        Info {
            request_paths: ["model", "n", "stream", "size"].into_iter().map(want).collect(),
            request_counts: vec!["input".to_owned()],
            request_media: vec![Media {
                path: "image".to_owned(),
                medium: Medium::Image,
            }],
            ..Info::default()
        }
    }

    fn field(name: &str, text: &str) -> String {
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n")
    }

    fn file(name: &str, kind: &str, bytes: usize) -> String {
        let data = "x".repeat(bytes);
        format!(
            "--b\r\ncontent-disposition: form-data; name=\"{name}\"; filename=\"a;b\\\".png\"\r\nContent-Type: {kind}\r\n\r\n{data}\r\n"
        )
    }

    fn read(parts: &[String]) -> Result<Form, FormError> {
        form(format!("{}--b--\r\n", parts.concat()).as_bytes(), "b", &info())
    }

    #[test]
    fn wanted_fields_are_shown_and_files_counted() {
        let form = read(&[
            field("model", "gpt-image-1"),
            field("n", "2"),
            field("stream", "true"),
            field("prompt", "an otter, \"canary\"\r\n--not-a-boundary"),
            field("input", "héllo"),
            field("size", "a size that is much too long"),
            file("image[]", "image/png", 10),
            file("image[]", "image/png", 20),
            file("extra", "audio/mpeg", 5),
            file("other", "application/pdf", 7),
        ])
        .unwrap();
        let doc: serde_json::Value = serde_json::from_str(&form.outline.doc).unwrap();
        assert_eq!(doc["model"], "gpt-image-1");
        assert_eq!((doc["n"].as_u64(), doc["stream"].as_bool()), (Some(2), Some(true)));
        assert_eq!(doc["image"][1]["bytes"], 20);
        assert!(doc.get("size").is_none() && !form.outline.doc.contains("canary"));
        assert!(form.text.contains("an otter"));
        assert_eq!(form.characters, [("input".to_owned(), 5)]);
        assert_eq!(form.outline.medium(Medium::Image), (2, 30));
        assert_eq!(form.outline.medium(Medium::Audio), (1, 5));
        assert_eq!(form.outline.medium(Medium::File), (1, 7));
    }

    #[test]
    fn broken_forms_are_named() {
        let whole = format!("{}--b--", field("model", "m"));
        assert!(form(whole.as_bytes(), "b", &info()).is_ok());
        assert!(form(format!("preamble\r\n{whole}").as_bytes(), "b", &info()).is_ok());
        for (body, error) in [(whole.clone(), FormError::NoPart), (String::new(), FormError::NoPart)] {
            assert_eq!(form(body.as_bytes(), "other", &info()).unwrap_err(), error);
        }
        assert_eq!(
            form(&whole.as_bytes()[..whole.len() - 6], "b", &info()).unwrap_err(),
            FormError::Eof
        );
        assert_eq!(
            form(b"--b\r\nnonsense\r\n\r\nx\r\n--b--", "b", &info()).unwrap_err(),
            FormError::Head
        );
        assert_eq!(
            form(b"--b\r\n\r\nx\r\n--b--", "b", &info()).unwrap_err(),
            FormError::Head
        );
        assert_eq!(
            form(b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--", "b", &info()).unwrap_err(),
            FormError::Head
        );
        assert_eq!(
            read(&[field("model", "m"), field("model", "n")]).unwrap_err(),
            FormError::Twice
        );
        assert_eq!(
            read(&[field("model", "m"), file("model", "a/b", 1)]).unwrap_err(),
            FormError::Twice
        );
        let many: Vec<String> = (0..1_025).map(|_| file("image", "image/png", 1)).collect();
        assert_eq!(read(&many).unwrap_err(), FormError::Parts);
        assert_eq!(
            form(
                b"--b\r\nContent-Disposition: form-data; name=x\r\n\r\n\xff\r\n--b--",
                "b",
                &info()
            )
            .unwrap_err(),
            FormError::Utf8
        );
    }

    #[test]
    fn a_boundary_is_named_by_the_content_type() {
        let named = |text: &str| boundary(text);
        assert_eq!(named("application/json"), None);
        assert_eq!(named("multipart/form-data; boundary=abc"), Some(Ok("abc".to_owned())));
        assert_eq!(
            named("Multipart/Form-Data; charset=utf-8; Boundary=\"a b;c\""),
            Some(Ok("a b;c".to_owned()))
        );
        for text in [
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary=\"\"",
            "multipart/form-data; boundary=\"open",
        ] {
            assert_eq!(named(text), Some(Err(FormError::NoBoundary)), "{text}");
        }
    }
}
