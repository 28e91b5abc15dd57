// Text that others wrote: names of models, agents, sessions, tools. It is only ever a text node; here it is made so that it
// cannot lie either: what steers a terminal, a line or its direction is shown as a mark, and what is long is cut.

export const ROW = 64;
export const DETAIL = 512;
/** One grapheme may have marks without end: none takes more than so many units of a row. */
const UNITS_A_GRAPHEME = 16;

const DIRECTION = /[\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/;
const segmenter =
  typeof Intl !== 'undefined' && Intl.Segmenter ? new Intl.Segmenter(undefined, { granularity: 'grapheme' }) : null;

/** A mark for what has no shape of its own. */
function mark(character) {
  const code = character.codePointAt(0);
  if (code < 0x20) return String.fromCodePoint(0x2400 + code);
  if (code === 0x7f) return '␡';
  return '␦';
}

/** The same text with marks in place of control and direction characters, and of halves of a character. */
export function visible(text) {
  let shown = '';
  let before = '';
  for (const character of String(text)) {
    const code = character.codePointAt(0);
    // Between two pictures it joins them into one.
    const joins = code === 0x200d && /[\p{Extended_Pictographic}\p{Emoji_Modifier}\ufe0f]/u.test(before);
    before = character;
    if (joins) {
      shown += character;
      continue;
    }
    const isControl = code < 0x20 || (code >= 0x7f && code <= 0x9f) || DIRECTION.test(character);
    const isHalf = code >= 0xd800 && code <= 0xdfff;
    const isTag = code >= 0xe0000 && code <= 0xe0fff;
    shown += isControl || isHalf || isTag ? mark(character) : character;
  }
  return shown;
}

function graphemes(text, most) {
  if (!segmenter) return Array.from(text.slice(0, most * 2)).slice(0, most);
  const found = [];
  for (const { segment } of segmenter.segment(text)) {
    found.push(segment.length > UNITS_A_GRAPHEME ? segment.slice(0, UNITS_A_GRAPHEME) : segment);
    if (found.length >= most) break;
  }
  return found;
}

/** Cut at its end to so many graphemes. */
export function cut(text, most = ROW) {
  const given = String(text ?? '');
  const shown = visible(given.slice(0, (most + 1) * UNITS_A_GRAPHEME));
  const found = graphemes(shown, most + 1);
  if (found.length <= most && found.join('').length >= Math.min(shown.length, given.length)) return found.join('');
  return `${found.slice(0, most - 1).join('')}…`;
}

/** Cut in its middle: ids and keys are told apart by both ends. */
export function middle(text, most = 16) {
  const shown = visible(String(text ?? '').slice(0, 4096));
  const all = graphemes(shown, 4096);
  if (all.length <= most) return all.join('');
  const tail = Math.max(4, Math.floor((most - 1) / 3));
  return `${all.slice(0, most - 1 - tail).join('')}…${all.slice(-tail).join('')}`;
}

/** A cell of CSV: quoted where it must be, and never a formula. */
export function csvCell(value) {
  let text = String(value ?? '');
  if (/^[=+\-@\t\r]/.test(text) && !/^-?\d+(\.\d+)?$/.test(text)) text = `'${text}`;
  return /[",\n\r]/.test(text) || text.startsWith("'") ? `"${text.replaceAll('"', '""')}"` : text;
}

export function csv(heads, rows) {
  return [heads, ...rows].map((cells) => cells.map(csvCell).join(',')).join('\r\n') + '\r\n';
}
