import assert from 'node:assert/strict';
import { test } from 'node:test';
import { filtersOf, read, viewOf, VIEWS, write } from '../url.js';

test('every place has one address, and the address leads back', () => {
  for (const view of VIEWS) {
    const query = { agent: '<b>&=?#/ü\u202e', last: '30d', 'tag:team': 'a b' };
    const address = new URL(write(view, query), 'http://x');
    assert.deepEqual(read(address.pathname, address.search), { view, rest: '', query });
  }
  assert.equal(write('spend', { b: 1, a: 2 }), write('spend', { a: 2, b: 1 }));
  assert.equal(write('now'), '/');
  assert.equal(write('spend', { by: null, last: '' }), '/spend');
});

test('a path that is no view is said to be none, and one of the guide keeps its page', () => {
  assert.equal(viewOf('/nowhere'), null);
  assert.equal(viewOf('/now'), null);
  assert.equal(read('/constructor', '').view, 'lost');
  assert.deepEqual(viewOf('/guide/policy-versions'), { view: 'guide', rest: 'policy-versions' });
  assert.deepEqual(viewOf('/guide/%E0%A4%A'), { view: 'guide', rest: '' });
});

test('filters are those that entries have, and nothing else of the query', () => {
  assert.deepEqual(filtersOf({ agent: 'a', 'tag:team': 'ml', sort: '-cost', token: 'x', page: '2' }), {
    agent: 'a',
    'tag:team': 'ml',
  });
});
