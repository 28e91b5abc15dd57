// Just enough of WebSocket for the development server: whole text frames of a client, and small ones of a server.

export class Frames {
  rest = Buffer.alloc(0);

  take(piece) {
    this.rest = Buffer.concat([this.rest, piece]);
    const found = [];
    for (;;) {
      const { rest } = this;
      if (rest.length < 2) return found;
      let length = rest[1] & 127;
      let at = 2;
      if (length === 126) {
        if (rest.length < 4) return found;
        length = rest.readUInt16BE(2);
        at = 4;
      }
      if (rest.length < at + 4 + length) return found;
      const mask = rest.subarray(at, at + 4);
      const text = Buffer.from(rest.subarray(at + 4, at + 4 + length).map((byte, i) => byte ^ mask[i % 4]));
      this.rest = rest.subarray(at + 4 + length);
      if ((rest[0] & 15) === 1) found.push(text.toString());
    }
  }
}

export function frame(text) {
  const body = Buffer.from(text);
  const head =
    body.length < 126 ? Buffer.from([0x81, body.length]) : Buffer.from([0x81, 126, body.length >> 8, body.length & 255]);
  return Buffer.concat([head, body]);
}
