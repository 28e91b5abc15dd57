#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::*;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A frame as it stands on the wire, right or wrong.
fn frame(first: u8, mask: Option<[u8; 4]>, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    let masked = if mask.is_some() { 0x80 } else { 0 };
    match payload.len() {
        len @ 0..=125 => out.push(masked | len as u8),
        len @ 126..=0xffff => {
            out.push(masked | 126);
            out.extend((len as u16).to_be_bytes());
        }
        len => {
            out.push(masked | 127);
            out.extend((len as u64).to_be_bytes());
        }
    }
    out.extend(mask.unwrap_or_default().iter().take(if mask.is_some() { 4 } else { 0 }));
    out.extend(
        payload
            .iter()
            .zip((0..4).cycle())
            .map(|(byte, at)| byte ^ mask.unwrap_or_default()[at]),
    );
    out
}

fn text(payload: &[u8]) -> Message {
    Message::Text(Bytes::copy_from_slice(payload))
}

fn all(framer: &mut SocketFramer) -> Result<Vec<Message>, Violation> {
    let mut messages = vec![];
    while let Some(message) = framer.message()? {
        messages.push(message);
    }
    Ok(messages)
}

fn read(sender: Sender, max: usize, pieces: &[&[u8]]) -> Result<Vec<Message>, Violation> {
    let mut framer = SocketFramer::new(sender, max);
    let mut messages = vec![];
    for piece in pieces {
        framer.push(piece);
        messages.extend(all(&mut framer)?);
    }
    Ok(messages)
}

fn broken(sender: Sender, bytes: &[u8]) -> Violation {
    read(sender, 1 << 20, &[bytes]).unwrap_err()
}

#[test]
fn fragments_with_control_frames_between_them_are_one_message_at_every_byte_split() {
    let long = vec![b'x'; 300];
    for (sender, mask) in [(Sender::Client, Some(MASK)), (Sender::Server, None)] {
        let bytes = [
            frame(0x81, mask, "ganz: ä".as_bytes()),
            frame(0x01, mask, &"frag: ä".as_bytes()[..7]),
            frame(0x89, mask, b"ping"),
            frame(0x00, mask, b""),
            frame(0x8a, mask, b""),
            frame(0x80, mask, &"frag: ä".as_bytes()[7..]),
            frame(0x82, mask, &long),
            frame(0x88, mask, b"\x03\xe8bye"),
        ]
        .concat();
        let expected = vec![
            text("ganz: ä".as_bytes()),
            Message::Ping(Bytes::from_static(b"ping")),
            Message::Pong(Bytes::new()),
            text("frag: ä".as_bytes()),
            Message::Binary(Bytes::from(long.clone())),
            closing(1000, "bye"),
        ];
        for at in 0..=bytes.len() {
            let (head, tail) = bytes.split_at(at);
            assert_eq!(
                read(sender, 1 << 20, &[head, tail]).unwrap(),
                expected,
                "{sender:?} at {at}"
            );
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(
            read(sender, 1 << 20, &single).unwrap(),
            expected,
            "{sender:?} byte by byte"
        );
    }
}

#[test]
fn what_is_written_is_read_again() {
    for len in [0, 1, 125, 126, 127, 65_535, 65_536, 100_001] {
        let message = Message::Text(Bytes::from(vec![b'a'; len]));
        for (sender, mask) in [(Sender::Client, Some(MASK)), (Sender::Server, None)] {
            let bytes = encode(&message, mask);
            assert_eq!(bytes, frame(0x81, mask, &vec![b'a'; len]));
            assert_eq!(
                read(sender, 1 << 20, &[&bytes]).unwrap(),
                std::slice::from_ref(&message),
                "{len}"
            );
        }
    }
    // A reason that is too long is cut at a character.
    let bytes = encode(&closing(1002, &"ä".repeat(100)), None);
    let reason = "ä".repeat(61);
    assert_eq!(read(Sender::Server, 10, &[&bytes]).unwrap(), [closing(1002, &reason)]);
}

#[test]
fn frames_out_of_protocol_have_names_and_codes() {
    let client = |first: u8, payload: &[u8]| broken(Sender::Client, &frame(first, Some(MASK), payload));
    assert_eq!(client(0xc1, b"x"), Violation::ReservedBit);
    assert_eq!(client(0x91, b"x"), Violation::ReservedBit);
    assert_eq!(client(0x83, b"x"), Violation::Opcode);
    assert_eq!(client(0x8b, b"x"), Violation::Opcode);
    assert_eq!(client(0x80, b"x"), Violation::NothingToContinue);
    assert_eq!(client(0x09, b"x"), Violation::ControlFragmented);
    assert_eq!(client(0x89, &[0; 126]), Violation::ControlTooLong);
    assert_eq!(client(0x88, b"\x03"), Violation::HalfCloseCode);
    for code in [0_u16, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65_535] {
        assert_eq!(client(0x88, &code.to_be_bytes()), Violation::CloseCode, "{code}");
    }
    assert_eq!(client(0x88, b"\x03\xe8\xff"), Violation::NotUtf8);
    assert_eq!(client(0x81, b"\xc3\x28").code(), 1007);
    assert_eq!(broken(Sender::Client, &frame(0x81, None, b"x")), Violation::Unmasked);
    assert_eq!(
        broken(Sender::Server, &frame(0x81, Some(MASK), b"x")),
        Violation::Masked
    );
    let two = [frame(0x01, None, b"a"), frame(0x81, None, b"b")].concat();
    assert_eq!(broken(Sender::Server, &two), Violation::Interleaved);
    assert_eq!(Violation::Interleaved.code(), 1002);
    assert_eq!(
        broken(Sender::Server, &[0x81, 126, 0, 125]),
        Violation::LengthNotMinimal
    );
    assert_eq!(
        broken(Sender::Server, &[0x81, 127, 0, 0, 0, 0, 0, 0, 255, 255]),
        Violation::LengthNotMinimal
    );
    assert_eq!(
        broken(Sender::Server, &[0x81, 127, 128, 0, 0, 0, 0, 0, 0, 0]),
        Violation::LengthTooHigh
    );
}

#[test]
fn a_message_too_long_is_refused_by_its_head_and_in_its_fragments() {
    let head = [0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0];
    assert_eq!(read(Sender::Server, 65_535, &[&head]).unwrap_err(), Violation::TooBig);
    assert_eq!(Violation::TooBig.code(), 1009);
    let many = [frame(0x01, None, &[b'a'; 200]), frame(0x00, None, &[b'a'; 101])].concat();
    assert_eq!(read(Sender::Server, 300, &[&many]).unwrap_err(), Violation::TooBig);
    let mut framer = SocketFramer::new(Sender::Server, 300);
    // The first fragment, four bytes of head and 200 of payload, and one byte of the next head.
    framer.push(&many[..205]);
    assert_eq!(all(&mut framer).unwrap(), []);
    assert_eq!(framer.pending(), 201);
    framer.push(&many[205..206]);
    assert_eq!(
        all(&mut framer).unwrap_err(),
        Violation::TooBig,
        "refused before its payload is there"
    );
    // A ping is none of the message's bytes.
    let pinged = [
        frame(0x01, None, &[b'a'; 300]),
        frame(0x89, None, b"p"),
        frame(0x80, None, b""),
    ]
    .concat();
    assert_eq!(read(Sender::Server, 300, &[&pinged]).unwrap().len(), 2);
}

proptest! {
    #[test]
    fn hostile_bytes_end_in_messages_or_a_violation(bytes in proptest::collection::vec(any::<u8>(), 0..400), at in 0_usize..400) {
        for sender in [Sender::Client, Sender::Server] {
            let at = at.min(bytes.len());
            let whole = read(sender, 1_000, &[&bytes]);
            let split = read(sender, 1_000, &[&bytes[..at], &bytes[at..]]);
            prop_assert_eq!(whole, split);
        }
    }
}
