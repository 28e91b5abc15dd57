import assert from 'node:assert/strict';
import { test } from 'node:test';
import { age, amount, axis, change, compact, compare, count, exact, limit, money, NONE, percent, round, usd } from '../format.js';

test('money is rounded half away from zero, digit by digit', () => {
  assert.equal(usd('1064.684'), '$1,064.68');
  assert.equal(usd('1064.685'), '$1,064.69');
  assert.equal(usd('-1064.685'), '−$1,064.69');
  assert.equal(usd('999.995'), '$1,000.00');
  assert.equal(usd('0.00005', 4), '$0.0001');
  assert.equal(usd('12345678.90'), '$12,345,678.90');
  // No float would have these digits.
  assert.equal(usd('90071992547409931234.565'), '$90,071,992,547,409,931,234.57');
  assert.equal(round('1.005', 2).fraction, '01');
});

test('what is smaller than the column can say is said to be smaller, and nothing is nothing', () => {
  assert.equal(usd('0.00004', 4), '<$0.0001');
  assert.equal(usd('0.004'), '<$0.01');
  assert.equal(usd('-0.001'), '>−$0.01');
  assert.equal(usd('0', 4), '$0.00');
  assert.equal(usd('-0.00'), '$0.00');
});

test('what is not known is a dash, never a zero and never NaN', () => {
  for (const unknown of [undefined, null, '', 'NaN', '1e5', 'abc', '1.2.3', '--1', ' ']) {
    assert.equal(usd(unknown), NONE, String(unknown));
    assert.equal(limit(unknown), NONE);
    assert.equal(exact(unknown), NONE);
    assert.equal(money(unknown), null);
  }
  assert.equal(count(undefined), NONE);
  assert.equal(compact(NaN), NONE);
  assert.equal(percent(NaN), NONE);
  assert.equal(age(undefined), NONE);
});

test('limits are whole where they are whole, and exact figures keep every digit', () => {
  assert.equal(limit('40000.00'), '$40,000');
  assert.equal(limit('2.5'), '$2.50');
  assert.equal(exact('9474.705889825'), '$9,474.705889825');
  assert.equal(exact('4'), '$4.00');
  assert.equal(amount('1200', 'tokens'), '1,200');
});

test('money is put in order by its digits', () => {
  assert.equal(compare('9.99', '10'), -1);
  assert.equal(compare('-2', '-10'), 1);
  assert.equal(compare('0.1', '0.10'), 0);
  assert.equal(compare('90071992547409931234.01', '90071992547409931234.02'), -1);
  assert.equal(compare(undefined, '0'), -1);
});

test('cents are apart only from a dollar on', () => {
  assert.deepEqual(money('1064.68'), { sign: '', whole: '$1,064', cents: '.68', large: true });
  assert.equal(money('0.36').large, false);
});

test('axes, tokens, changes and ages are short', () => {
  assert.deepEqual(
    [0, 500, 1000, 1500, 2e6].map((n) => axis(n)),
    ['$0', '$500', '$1k', '$1.5k', '$2M'],
  );
  assert.deepEqual([18204, 999999, 2.78e6, 206e6, 1.62e9].map(compact), ['18,204', '999,999', '2.78M', '206M', '1.62B']);
  assert.equal(change('110.7', '100'), '+10.7 %');
  assert.equal(change('95.8', '100'), '−4.2 %');
  assert.equal(change('1', '0'), 'new');
  assert.equal(change('0', '0'), NONE);
  assert.deepEqual([8000, 167_000, 13_200_000, 12 * 86_400_000].map(age), ['0:08', '2:47', '3 h 40', '12 days']);
});
