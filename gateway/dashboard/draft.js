// What the page wants of the gateway and the gateway does not answer yet, made up by the development server: each function is the
// shape, and how it follows from what there is. A field or method that the gateway has by itself is left alone; when all are there
// this file goes.

import { filtered, isFiltered } from './draft-calls.js';

const NANO = 1_000_000_000n;

export function nano(text) {
  const [, sign, whole, fraction = ''] = /^(-?)(\d+)(?:\.(\d+))?$/.exec(String(text));
  const value = BigInt(whole) * NANO + BigInt(fraction.padEnd(9, '0').slice(0, 9));
  return sign ? -value : value;
}

export function dollars(value) {
  const size = value < 0n ? -value : value;
  const fraction = (size % NANO).toString().padStart(9, '0').replace(/0+$/, '');
  return `${value < 0n ? '-' : ''}${size / NANO}${fraction ? `.${fraction}` : ''}`;
}

const sum = (values) => dollars(values.reduce((all, value) => all + nano(value), 0n));
const times = (text, factor) => dollars((nano(text) * BigInt(Math.round(factor * 1e6))) / 1_000_000n);
const iso = (at) => new Date(at).toISOString();

/** Passes a batch on with what is added. `ask(text)` is the gateway; `plain(text)` its answer as a value. */
export async function draft(body, ask, plain) {
  const batch = JSON.parse(body);
  const one = (method, params = {}) =>
    plain(JSON.stringify({ jsonrpc: '2.0', id: 1, method, params })).then((answer) => answer.result);
  const calls = Array.isArray(batch) ? batch : [batch];
  const own = calls.filter((call) => METHODS[call.method] || isFiltered(call));
  const others = calls.filter((call) => !own.includes(call));
  const answer = await ask(
    JSON.stringify(others.length ? others : [{ jsonrpc: '2.0', id: 0, method: 'system.status', params: {} }]),
  );
  if (answer.status !== 200) return answer;
  const replies = JSON.parse(answer.text).filter((reply) => others.length || reply.id !== 0);
  for (const reply of replies) {
    const call = calls.find((each) => each.id === reply.id);
    const add = call && FIELDS[call.method];
    if (reply.result && add) await add(reply.result, call.params, one);
  }
  for (const call of own) {
    const made = isFiltered(call) ? await filtered(call, one) : await METHODS[call.method](call.params || {}, one);
    replies.push(made.error ? { jsonrpc: '2.0', id: call.id, error: made.error } : { jsonrpc: '2.0', id: call.id, result: made });
  }
  return { ...answer, text: JSON.stringify(replies) };
}

/** Fields that answers are to get. */
const FIELDS = {
  /** Summary.total: a CostRow of all rows together. */
  async 'ledger.summary'(result) {
    result.total = total(result.rows);
  },
};

function total(rows) {
  const add = (name) => rows.reduce((all, row) => all + row[name], 0);
  const usage = {};
  for (const row of rows) for (const [kind, value] of Object.entries(row.usage || {})) usage[kind] = (usage[kind] || 0) + value;
  return {
    requests: add('requests'),
    errors: add('errors'),
    estimated: add('estimated'),
    input_tokens: add('input_tokens'),
    output_tokens: add('output_tokens'),
    usage,
    cost_usd: sum(rows.map((row) => row.cost_usd)),
    held_usd: sum(rows.map((row) => row.held_usd)),
    overage_usd: sum(rows.map((row) => row.overage_usd)),
  };
}

/** Methods that are to come. */
const METHODS = {
  /** `{usd_per_minute, window_s}`: what the last hour cost a minute. Params: tenant. */
  async 'ledger.pace'(params, one) {
    const rows = (await one('ledger.summary', { by: 'provider', last: '1h', ...params })).rows;
    return { usd_per_minute: times(sum(rows.map((row) => row.cost_usd)), 1 / 60), window_s: 3600 };
  },

  /**
   * Calls for a page: `{calls: [entry], next, total: CostRow}`. Params: from, to, last, filters (as ledger.query, and task, tool,
   * `tag:NAME`), is (`error`, `estimated`, `refused`, `overage`), sort (`at`, `cost`, `tokens`, `duration`), order (`desc`, `asc`),
   * limit, cursor. It reads from the newest back, with an index for cost.
   */
  async 'ledger.calls'(params, one) {
    const { sort = 'at', order = 'desc', is = '', limit = 100, from, to, last, cursor, id, ...filter } = params;
    const query = Object.fromEntries(
      Object.entries(filter).filter(([name]) =>
        ['tenant', 'agent', 'session', 'user', 'model', 'provider', 'key'].includes(name),
      ),
    );
    const span = from ? { from, ...(to ? { to } : {}) } : { last: last || '24h' };
    const entries = [];
    let at = null;
    do {
      const page = await one('ledger.query', { ...query, ...span, limit: 1000, ...(at ? { cursor: at } : {}) });
      if (!page) break;
      entries.push(...page.entries);
      at = page.next;
    } while (at && entries.length < 20_000);
    const tags = Object.entries(filter).filter(([name]) => name.startsWith('tag:') || name === 'tool' || name === 'task');
    const fits = (entry) =>
      (!id || entry.id === id) &&
      tags.every(([name, value]) => (name === 'task' ? entry.task : entry.tags[name.replace('tag:', '')]) === value) &&
      (is === '' ||
        (is === 'error' && (entry.status >= 400 || entry.status === 0)) ||
        (is === 'estimated' && entry.estimated) ||
        (is === 'overage' && nano(entry.overage_usd) > 0n && entry.overage_reason !== 'imported'));
    const value = {
      at: (entry) => Date.parse(entry.at),
      cost: (entry) => Number(entry.cost_usd),
      duration: (entry) => entry.duration_ms,
      tokens: (entry) => Object.values(entry.usage).reduce((a, b) => a + b, 0),
    }[sort];
    const found = entries.filter(fits).sort((a, b) => (order === 'asc' ? 1 : -1) * (value(a) - value(b)));
    const begin = Number(cursor || 0);
    const rows = found.map((entry) => ({
      requests: 1,
      errors: entry.status >= 400 ? 1 : 0,
      estimated: entry.estimated ? 1 : 0,
      input_tokens: (entry.usage.input || 0) + (entry.usage.cache_read || 0),
      output_tokens: entry.usage.output || 0,
      usage: entry.usage,
      cost_usd: entry.cost_usd,
      held_usd: entry.held_usd,
      overage_usd: '0',
    }));
    return {
      calls: found.slice(begin, begin + limit),
      next: begin + limit < found.length ? String(begin + limit) : null,
      total: total(rows),
    };
  },
};
