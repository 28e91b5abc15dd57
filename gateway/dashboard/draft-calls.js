// The other half of draft.js: sums with filters.

import { dollars, nano } from './draft.js';

const sum = (values) => dollars(values.reduce((all, value) => all + nano(value), 0n));
const LISTED = ['tenant', 'agent', 'session', 'user', 'model', 'provider', 'key'];

async function entriesOf(one, query, most = 20_000) {
  const entries = [];
  let cursor = null;
  do {
    const page = await one('ledger.query', { ...query, limit: 1000, ...(cursor ? { cursor } : {}) });
    if (!page || !page.entries) break;
    entries.push(...page.entries);
    cursor = page.next;
  } while (cursor && entries.length < most);
  return entries;
}

function usageOf(entries) {
  const usage = {};
  for (const entry of entries) for (const [kind, n] of Object.entries(entry.usage)) usage[kind] = (usage[kind] || 0) + n;
  return usage;
}

function rowOf(entries, names = {}) {
  const usage = usageOf(entries);
  return {
    ...names,
    requests: entries.length,
    errors: entries.filter((one) => one.status >= 400 || one.status === 0).length,
    estimated: entries.filter((one) => one.estimated).length,
    input_tokens: (usage.input || 0) + (usage.cache_read || 0),
    output_tokens: usage.output || 0,
    usage,
    cost_usd: sum(entries.map((one) => one.cost_usd)),
    held_usd: sum(entries.map((one) => one.held_usd)),
    overage_usd: '0',
  };
}

const valueOf = (entry, by) =>
  (by.startsWith('tag:') ? entry.tags[by.slice(4)] : by === 'tool' ? entry.tags.tool : entry[by]) || '';
const nameOf = (by) => (LISTED.includes(by) || by === 'task' ? by : 'tag');

/** `ledger.summary` and `ledger.series` with the filters of `ledger.query`, `task`, `tool` and `tag:NAME`. */
export function isFiltered(call) {
  return (
    (call.method === 'ledger.summary' || call.method === 'ledger.series') &&
    Object.keys(call.params || {}).some(
      (name) => (LISTED.includes(name) && name !== 'tenant') || name.startsWith('tag:') || name === 'task' || name === 'tool',
    )
  );
}

export async function filtered(call, one) {
  const { by = '', step, limit, from, to, last, ...filter } = call.params;
  const query = Object.fromEntries(Object.entries(filter).filter(([name]) => LISTED.includes(name)));
  const rest = Object.entries(filter).filter(([name]) => !LISTED.includes(name));
  const entries = (
    await entriesOf(one, { ...query, ...(from ? { from, ...(to ? { to } : {}) } : { last: last || '24h' }) })
  ).filter((entry) => rest.every(([name, value]) => valueOf(entry, name) === value));
  const groups = new Map();
  const size = { minute: 60_000, hour: 3_600_000, day: 86_400_000 }[step] || 0;
  for (const entry of entries) {
    const key = `${size ? Math.floor(Date.parse(entry.at) / size) * size : 0} ${by ? valueOf(entry, by) : ''}`;
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(entry);
  }
  const rows = [...groups.values()].map((some) =>
    rowOf(some, {
      ...(by ? { [nameOf(by)]: valueOf(some[0], by) } : {}),
      ...(size ? { at: new Date(Math.floor(Date.parse(some[0].at) / size) * size).toISOString() } : {}),
    }),
  );
  if (size) return { by, step, points: rows.sort((a, b) => (a.at < b.at ? -1 : 1)), next: null };
  return { by, rows: rows.sort((a, b) => Number(b.cost_usd) - Number(a.cost_usd)), total: rowOf(entries) };
}
