import assert from 'node:assert/strict';
import { test } from 'node:test';
import { csv, csvCell, cut, middle, visible } from '../text.js';

test('what steers a line or its direction is shown as a mark', () => {
  assert.equal(visible('a\u0000b\nc\u007f'), 'a␀b␊c␡');
  assert.equal(visible('\u202edrowssap\u202c'), '␦drowssap␦');
  assert.equal(visible('\u2066x\u2069\u200b\ufeff\u061c'), '␦x␦␦␦␦');
  assert.equal(visible('\u{e0041}'), '␦');
  assert.equal(visible('half \ud800 of one'), 'half ␦ of one');
});

test('markup stays what was written', () => {
  assert.equal(cut('<img src=x onerror=alert(1)>'), '<img src=x onerror=alert(1)>');
});

test('a long name is cut to graphemes, however long it is', () => {
  const shown = cut('x'.repeat(10_000));
  assert.equal(shown.length, 64);
  assert.ok(shown.endsWith('…'));
  assert.equal(cut('x'.repeat(64)), 'x'.repeat(64));
  const families = cut('👩‍👩‍👧‍👦'.repeat(100), 4);
  assert.equal(families, `${'👩‍👩‍👧‍👦'.repeat(3)}…`);
  // A letter with marks without end takes a bounded room.
  assert.ok(cut(`a${'\u0301'.repeat(10_000)}`).length < 64 * 17);
});

test('ids keep both ends', () => {
  assert.equal(middle('0123456789abcdef01234567', 16), '0123456789…34567');
  assert.equal(middle('short'), 'short');
});

test('a cell of CSV is never a formula and always one cell', () => {
  assert.equal(csvCell('=HYPERLINK("http://evil")'), '"\'=HYPERLINK(""http://evil"")"');
  for (const start of ['+1+1', '-2+3', '@SUM(A1)', '\tx', '\rx']) assert.ok(csvCell(start).startsWith('"\''), start);
  assert.equal(csvCell('-12.50'), '-12.50');
  assert.equal(csvCell('a,b'), '"a,b"');
  assert.equal(csv(['a'], [['1'], ['x\ny']]), 'a\r\n1\r\n"x\ny"\r\n');
});
