//! AWS as the gateway's other side: event streams made and taken apart by hand, and signatures checked as AWS checks them.

use ring::{digest, hmac};

use super::upstream::Seen;

pub const EVENT_STREAM: &str = "application/vnd.amazon.eventstream";

/// One message of an event stream.
pub fn message(headers: &[(&str, &str)], payload: &str) -> Vec<u8> {
    let mut head = Vec::new();
    for (name, value) in headers {
        head.push(u8::try_from(name.len()).unwrap());
        head.extend_from_slice(name.as_bytes());
        head.push(7);
        head.extend_from_slice(&u16::try_from(value.len()).unwrap().to_be_bytes());
        head.extend_from_slice(value.as_bytes());
    }
    let total = u32::try_from(16 + head.len() + payload.len()).unwrap();
    let mut out = [total.to_be_bytes(), u32::try_from(head.len()).unwrap().to_be_bytes()].concat();
    out.extend_from_slice(&crc32fast::hash(&out).to_be_bytes());
    out.extend_from_slice(&head);
    out.extend_from_slice(payload.as_bytes());
    out.extend_from_slice(&crc32fast::hash(&out).to_be_bytes());
    out
}

pub fn event(name: &str, payload: &str) -> Vec<u8> {
    let headers = [
        (":event-type", name),
        (":content-type", "application/json"),
        (":message-type", "event"),
    ];
    message(&headers, payload)
}

pub fn exception(name: &str, payload: &str) -> Vec<u8> {
    let headers = [(":exception-type", name), (":message-type", "exception")];
    message(&headers, payload)
}

/// An event of the model's own, wrapped as an invoked stream does.
pub fn chunk(payload: &str) -> Vec<u8> {
    event(
        "chunk",
        &format!("{{\"bytes\":\"{}\",\"p\":\"abcd\"}}", base64(payload.as_bytes())),
    )
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |three: &[u8]| {
        let bits = (0..3).fold(0_u32, |bits, at| {
            (bits << 8) | u32::from(three.get(at).copied().unwrap_or(0))
        });
        let letter = |at: usize| LETTERS[(bits >> (18 - 6 * at)) as usize & 63] as char;
        (0..4)
            .map(|at| if at > three.len() { '=' } else { letter(at) })
            .collect::<String>()
    };
    bytes.chunks(3).map(group).collect()
}

/// The messages of a whole stream, their checksums checked: headers of text, payload.
pub fn messages(mut bytes: &[u8]) -> Vec<(Vec<(String, String)>, String)> {
    let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        let (total, headers) = (number(&bytes[..4]) as usize, number(&bytes[4..8]) as usize);
        let (message, rest) = bytes.split_at(total);
        assert_eq!(
            crc32fast::hash(&message[..8]),
            number(&message[8..12]),
            "the prelude's checksum"
        );
        assert_eq!(
            crc32fast::hash(&message[..total - 4]),
            number(&message[total - 4..]),
            "the message's checksum"
        );
        let (mut head, mut named) = (&message[12..12 + headers], Vec::new());
        while !head.is_empty() {
            let name_end = 1 + usize::from(head[0]);
            assert_eq!(head[name_end], 7, "a header of text");
            let len = usize::from(u16::from_be_bytes([head[name_end + 1], head[name_end + 2]]));
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            named.push((text(&head[1..name_end]), text(&head[name_end + 3..name_end + 3 + len])));
            head = &head[name_end + 3 + len..];
        }
        messages.push((
            named,
            String::from_utf8(message[12 + headers..total - 4].to_vec()).unwrap(),
        ));
        bytes = rest;
    }
    messages
}

/// Checks a request's signature (Signature Version 4) as AWS does, from what came over the wire; the access key id.
pub fn verified(seen: &Seen, secret: &str, region: &str) -> Result<String, String> {
    let authorization = seen.header("authorization").ok_or("no signature")?;
    let field = |name: &str| {
        let rest = authorization
            .split(&format!("{name}="))
            .nth(1)
            .ok_or(format!("no {name}"))?;
        Ok::<_, String>(rest.split(',').next().unwrap_or_default().to_owned())
    };
    let (credential, signed, signature) = (field("Credential")?, field("SignedHeaders")?, field("Signature")?);
    let (key_id, scope) = credential.split_once('/').ok_or("no scope")?;
    let time = seen.header("x-amz-date").ok_or("no date")?;
    if scope != format!("{}/{region}/bedrock/aws4_request", &time[..8]) {
        return Err(format!("the scope is {scope}"));
    }
    for needed in ["host", "x-amz-date"] {
        if !signed.split(';').any(|name| name == needed) {
            return Err(format!("{needed} is not signed"));
        }
    }
    let (path, query) = seen.path.split_once('?').unwrap_or((&seen.path, ""));
    let path: String = path
        .bytes()
        .map(|byte| match byte {
            b'/' | b'-' | b'.' | b'_' | b'~' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect();
    let mut query: Vec<&str> = query.split('&').collect();
    query.sort_unstable();
    let mut canonical = format!("{}\n{path}\n{}\n", seen.method, query.join("&"));
    for name in signed.split(';') {
        canonical.push_str(&format!(
            "{name}:{}\n",
            seen.header(name).ok_or(format!("{name} is signed and not there"))?
        ));
    }
    canonical.push_str(&format!("\n{signed}\n{}", hash(&seen.body)));
    let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hash(canonical.as_bytes()));
    let mut key = format!("AWS4{secret}").into_bytes();
    for part in scope.split('/') {
        key = mac(&key, part);
    }
    match hex(&mac(&key, &to_sign)) {
        made if made == signature => Ok(key_id.to_owned()),
        _ => Err("the signature is another one".to_owned()),
    }
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
        .as_ref()
        .to_vec()
}

fn hash(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
