//! Room for what is read: little where little comes, so that a stream that waits costs little, and more for who sends much.

use bytes::BytesMut;
use pingora::protocols::Stream;
use tokio::io::AsyncReadExt;

use crate::body::BodyDecoder;

const ROOM_MIN: usize = 4 << 10;
const ROOM_MAX: usize = 64 << 10;

/// Reads from one connection.
#[derive(Debug)]
pub struct Reader {
    room: usize,
}

impl Default for Reader {
    fn default() -> Reader {
        Reader { room: ROOM_MIN }
    }
}

impl Reader {
    /// Adds what has come to the buffer. 0: the other side has closed.
    ///
    /// # Errors
    /// The connection is broken.
    pub async fn read(&mut self, stream: &mut Stream, buffer: &mut BytesMut) -> std::io::Result<usize> {
        let room = self.room;
        self.read_at_most(stream, buffer, room).await
    }

    /// The same for a body: no more room than the rest of it takes.
    ///
    /// # Errors
    /// The connection is broken.
    pub async fn read_body(
        &mut self,
        stream: &mut Stream,
        buffer: &mut BytesMut,
        body: &BodyDecoder,
    ) -> std::io::Result<usize> {
        let left = body.expected().and_then(|left| usize::try_from(left).ok());
        let room = left.map_or(self.room, |left| left.clamp(1, self.room));
        self.read_at_most(stream, buffer, room).await
    }

    async fn read_at_most(
        &mut self,
        stream: &mut Stream,
        buffer: &mut BytesMut,
        room: usize,
    ) -> std::io::Result<usize> {
        buffer.reserve(room);
        let read = stream.read_buf(buffer).await?;
        if read >= self.room {
            self.room = (self.room * 2).min(ROOM_MAX);
        }
        Ok(read)
    }
}
