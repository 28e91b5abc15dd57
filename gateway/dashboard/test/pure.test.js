import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { budgetRows, byUrgency, runsOut, stateOf } from '../budgets.js';
import { accountFilter, accountGroup, accountWords } from '../accounts.js';
import { around, diff } from '../diff.js';
import { blocks, spans } from '../markdown.js';
import { ordered } from '../order.js';
import { isOutlying, labelEvery, logTicks, scale, shares, stacked, ticks } from '../parts/geometry.js';
import { buckets, moment, span } from '../time.js';
import { TOPICS } from '../topics.js';
import { loops, rowsOf } from '../tree.js';

test('limits stand at one place, and what passes them is cut', () => {
  const quiet = shares({ limit: 100, spent: 50, held: 10, overage: 0 });
  assert.equal(quiet.spent, 43);
  assert.deepEqual(quiet.held, { at: 43, width: 51.6 - 43 });
  const over = shares({ limit: 100, spent: 1000, held: 0, overage: 900 });
  assert.equal(over.over.at + over.over.width, 100);
  assert.equal(shares({ limit: 0, spent: 1, held: 0, overage: 0 }).spent, 100);
  assert.equal(shares({ limit: 100, spent: 80, held: 0, overage: 0, forecast: 120 }).beyond, true);
});

test('axes have three to five lines and reach the largest', () => {
  for (const most of [0.0001, 1, 7, 99, 2020.13, 12_345_678.9]) {
    const marks = ticks(most);
    assert.ok(marks.length >= 3 && marks.length <= 6, String(most));
    assert.ok(marks[marks.length - 1] >= most * (1 - 1e-9), String(most));
  }
  assert.deepEqual(ticks(0), [0, 1]);
  assert.deepEqual(stacked([1, 2]), [
    [0, 1],
    [1, 3],
  ]);
  assert.ok(365 / labelEvery(365, 700) < 12);
});

const budget = (limit, more = {}) => ({
  account: 'agent:a',
  window: 'day',
  zone: 'UTC',
  from: null,
  to: null,
  spent_usd: '4',
  held_usd: '0',
  overage_usd: '0',
  limits: [{ unit: 'usd', limit, mode: 'hard', ...more }],
});

test('budgets are in the order in which somebody should look at them', () => {
  const rows = budgetRows([
    budget('100', { forecast: '5' }),
    budget('4'),
    budget('5', { runs_out_at: '2026-11-30T10:00:00Z', forecast: '9' }),
    budget('4.5', { runs_out_at: '2026-11-30T09:00:00Z', forecast: '9' }),
    budget('1', { mode: 'watch' }),
  ]);
  assert.deepEqual(rows.sort(byUrgency).map(stateOf), ['used', 'runs', 'runs', 'shadow', 'lasts']);
  assert.equal(rows[1].limit, '4.5');
});

test('a gateway that makes no forecast gets a dash, not a promise', () => {
  const [row] = budgetRows([budget('100')]);
  assert.equal(row.left, undefined);
  assert.equal(runsOut(row, Date.now()), '–');
});

test('accounts are read as people read them', () => {
  assert.deepEqual(accountWords('tag:team=ml'), ['team', 'ml']);
  assert.deepEqual(accountWords('session:acme/a:b'), ['session', 'acme/a:b']);
  assert.deepEqual(accountFilter('tag:team=a=b'), { 'tag:team': 'a=b' });
  assert.equal(accountGroup('global'), 'Whole gateway');
});

test('rows are sorted by the digits of their money', () => {
  const columns = [{ key: 'usd', sort: 'money' }];
  assert.deepEqual(
    ordered([{ usd: '9' }, { usd: '10' }, { usd: '9.5' }], columns, '-usd').map((row) => row.usd),
    ['10', '9.5', '9'],
  );
  assert.deepEqual(
    ordered([{ usd: '2' }, { usd: '1' }], columns, 'constructor').map((row) => row.usd),
    ['2', '1'],
  );
});

test('a span is of whole steps, and a day at the change of clocks is one bucket', () => {
  const now = Date.parse('2026-10-25T14:32:04Z');
  const range = span({ last: '30d' }, now);
  assert.equal(buckets(range).length, 30);
  assert.equal(span({ last: '24h' }, now).to, Date.parse('2026-10-25T15:00:00Z'));
  assert.equal(span({ from: '2026-10-01T00:00:00Z', to: '2026-10-02T00:00:00Z' }, now).step, 'hour');
  assert.equal(span({ from: 'nonsense', last: 'constructor' }, now).last, '30d');
  assert.equal(moment('2026-10-25T14:32:04Z', now), '14:32:04');
  assert.equal(moment('2025-10-24T14:32:04Z', now), 'Fri 24 Oct 2025 14:32');
  assert.equal(moment(null, now), '–');
});

test('a difference says what came in and what went', () => {
  const rows = diff('a\nb\nc', 'a\nB\nc\nd');
  assert.deepEqual(
    rows.map(([sign, line]) => sign + line),
    [' a', '-b', '+B', ' c', '+d'],
  );
  const far = diff(`${'x\n'.repeat(50)}a`, `${'x\n'.repeat(50)}b`);
  assert.equal(around(far, 3).filter((row) => row !== null).length, 5);
});

test('the guide is read without markup, and its links lead nowhere else', () => {
  assert.deepEqual(
    blocks('# A\n\ntext\nmore\n\n- x\n  y\n\n|a|b|\n|-|-|\n|1|2|\n\n```\ncode\n```').map((block) => block.kind),
    ['head', 'text', 'list', 'table', 'code'],
  );
  assert.deepEqual(
    spans('[x](javascript:alert(1))').map((span) => span.kind),
    ['text', 'text'],
  );
  assert.deepEqual(
    spans('a **b** *c* `*` 2 * 3').map((span) => span.kind),
    ['text', 'bold', 'text', 'italic', 'text', 'code', 'text'],
  );
  assert.deepEqual(spans('see [b](budgets.md#x)')[1], { kind: 'link', text: 'b', href: '/guide/budgets' });
});

test("the guide's list has each page that the gateway has, in its order", () => {
  const source = readFileSync(new URL('../../src/guide.rs', import.meta.url), 'utf8');
  const [, pages] = /= pages!\[([^\]]*)\]/.exec(source);
  assert.deepEqual(TOPICS, [...pages.matchAll(/"([\w-]+)"/g)].map((match) => match[1]));
});

test('a session is a tree, and a loop has its bracket', () => {
  const session = {
    id: 's',
    tenant: '',
    calls: 2,
    cost_usd: '1',
    started: '2026-11-30T00:00:00Z',
    last_seen: '2026-11-30T00:01:00Z',
  };
  const step = (id) => ({
    kind: 'call',
    label: 'chat',
    model: 'm',
    calls: 1,
    ids: [id],
    first: '2026-11-30T00:00:00.000Z',
    last: '2026-11-30T00:00:00.005Z',
    usage: { input: 1 },
    cost_usd: '1',
  });
  const tree = { session, sums: { calls: 2, cost_usd: '1', usage: undefined }, steps: [step('E'), step('E')] };
  const rows = rowsOf(tree);
  assert.deepEqual(
    rows.map((row) => [row.depth, row.last]),
    [
      [0, true],
      [1, false],
      [1, true],
    ],
  );
  assert.equal(rows[0].step.sums.usage, undefined);
  for (const step of tree.steps) step.same = 7;
  assert.deepEqual(loops(rowsOf(tree)), [[1, 2, 7]]);
});

test('one bucket far above the rest offers powers of ten, and none is drawn outside of them', () => {
  assert.equal(isOutlying([1, 1, 1, 30]), true);
  assert.equal(isOutlying([1, 2, 3, 0]), false);
  for (const most of [0.3, 1, 2020.13]) {
    const marks = logTicks(most);
    const share = scale(marks[marks.length - 1], true);
    assert.ok(marks[marks.length - 1] >= most && share(most) <= 1 && share(0) === 0 && share(most / 10) > 0.5, String(most));
  }
});
