//! Messages of AWS's binary event stream, as stream endings need them
//! (<https://docs.aws.amazon.com/transcribe/latest/dg/event-stream.html>).

/// A header's value is text.
const TEXT: u8 = 7;

/// The exception that ends a stream. AWS's SDKs raise it under this name, with this message.
pub fn exception(name: &str, message: &str) -> Vec<u8> {
    let headers = [
        (":exception-type", name),
        (":content-type", "application/json"),
        (":message-type", "exception"),
    ];
    self::message(
        &headers,
        serde_json::json!({ "message": message }).to_string().as_bytes(),
    )
}

/// One message. Names and values longer than a header can hold are cut.
pub fn message(headers: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
    let mut head = Vec::new();
    for (name, value) in headers {
        let name = name.as_bytes().get(..255).unwrap_or(name.as_bytes());
        let value = value.as_bytes().get(..32_767).unwrap_or(value.as_bytes());
        head.push(name.len() as u8);
        head.extend_from_slice(name);
        head.push(TEXT);
        head.extend_from_slice(&(value.len() as u16).to_be_bytes());
        head.extend_from_slice(value);
    }
    let mut out = Vec::with_capacity(16 + head.len() + payload.len());
    out.extend_from_slice(&((16 + head.len() + payload.len()) as u32).to_be_bytes());
    out.extend_from_slice(&(head.len() as u32).to_be_bytes());
    out.extend_from_slice(&crc32(&out).to_be_bytes());
    out.extend_from_slice(&head);
    out.extend_from_slice(payload);
    out.extend_from_slice(&crc32(&out).to_be_bytes());
    out
}

/// CRC-32 as zlib has it, bit by bit: an ending is short, and there is one a stream.
fn crc32(bytes: &[u8]) -> u32 {
    let rest = bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    });
    !rest
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_check_value() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b""), 0);
    }

    #[test]
    fn lengths_headers_and_payload_stand_in_their_places() {
        let bytes = message(&[(":a", "bc")], b"{}");
        assert_eq!(bytes.len(), 16 + 8 + 2);
        assert_eq!(bytes[..8], [0, 0, 0, 26, 0, 0, 0, 8]);
        assert_eq!(&bytes[12..22], b"\x02:a\x07\x00\x02bc{}");
        assert_eq!(bytes[8..12], crc32(&bytes[..8]).to_be_bytes());
        assert_eq!(bytes[22..], crc32(&bytes[..22]).to_be_bytes());
    }

    #[test]
    fn an_exception_tells_its_name_and_message() {
        let bytes = exception("validationException", "over \"it\"");
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.contains(":exception-type") && text.contains("validationException"));
        assert!(text.contains(r#"{"message":"over \"it\""}"#));
    }
}
