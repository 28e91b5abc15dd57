// The other half of draft.js: what a call and a session are made of, and sums with filters.

import { dollars, nano } from './draft.js';

const sum = (values) => dollars(values.reduce((all, value) => all + nano(value), 0n));
const LISTED = ['tenant', 'agent', 'session', 'user', 'model', 'provider', 'key'];
const KINDS = { input: 'read', cache_read: 'from cache', output: 'written', request: 'calls' };

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

const stepOf = (some, kind, label) => ({
  kind,
  label,
  model: some[0].model,
  calls: some.length,
  ids: some.slice(0, 100).map((entry) => entry.id),
  first: some[0].at,
  last: new Date(Math.max(...some.map((entry) => Date.parse(entry.at) + entry.duration_ms))).toISOString(),
  usage: usageOf(some),
  cost_usd: sum(some.map((entry) => entry.cost_usd)),
});
const labelOf = (entry) => entry.tags.tool || entry.task || entry.operation;

/** Equal neighbours past three are one step. The same call again and again is a loop: three are shown, then `n more`. */
function fold(entries) {
  const steps = [];
  const alike = (a, b) => a.model === b.model && labelOf(a) === labelOf(b);
  const same = (a, b) => alike(a, b) && JSON.stringify(a.usage) === JSON.stringify(b.usage);
  for (let i = 0; i < entries.length;) {
    let looped = i + 1;
    while (looped < entries.length && same(entries[i], entries[looped])) looped += 1;
    let run = i + 1;
    while (
      run < entries.length &&
      alike(entries[i], entries[run]) &&
      !(run + 2 < entries.length && same(entries[run], entries[run + 1]) && same(entries[run], entries[run + 2]))
    )
      run += 1;
    const kind = entries[i].operation === 'tool' ? 'tool' : 'call';
    if (looped - i > 3) {
      const times = looped - i;
      for (const entry of entries.slice(i, i + 3)) steps.push({ ...stepOf([entry], kind, labelOf(entry)), same: times });
      steps.push({ ...stepOf(entries.slice(i + 3, looped), kind, `${times - 3} more, the same`), same: times });
      i = looped;
    } else if (run - i > 3) {
      steps.push(stepOf(entries.slice(i, run), kind, labelOf(entries[i])));
      i = run;
    } else {
      steps.push(stepOf([entries[i]], kind, labelOf(entries[i])));
      i += 1;
    }
  }
  return steps;
}

async function tree(session, all, one) {
  const own = await entriesOf(one, { session: session.id, tenant: session.tenant, last: '7d' }, 2000);
  const children = await Promise.all(
    all
      .filter((other) => other.parent === session.id && other.tenant === session.tenant && other.id !== session.id)
      .map((other) => tree(other, all, one)),
  );
  const steps = [...fold(own), ...children.map((child) => ({ ...child, kind: 'session', first: child.session.started }))].sort(
    (a, b) => (a.first < b.first ? -1 : 1),
  );
  const every = [...own, ...children.flatMap((child) => child.every)];
  return {
    session,
    steps,
    every,
    sums: { calls: every.length, cost_usd: sum(every.map((entry) => entry.cost_usd)), usage: usageOf(every) },
  };
}

const strip = ({ every, steps, ...rest }) => ({
  ...rest,
  ...(steps ? { steps: steps.map((step) => (step.steps ? strip(step) : step)) } : {}),
});

export const MORE = {
  /**
   * A session with the sessions that it started, step by step: `{session, sums: {calls, cost_usd, usage, refused, saved_usd}, subagents,
   * steps}`. A step is `{kind: call | tool | refused | session, label, model, calls, ids, first, last, usage, cost_usd, same, code}`; one of
   * kind `session` has `session`, `sums` and `steps` of its own. Params: id, tenant.
   */
  async 'session.tree'({ id, tenant = '' }, one) {
    const { sessions } = await one('session.list', { limit: 10_000 });
    const session = sessions.find((each) => each.id === id && each.tenant === tenant);
    if (!session) return { error: { code: -32002, message: 'there is no such session', data: { code: 'not_found' } } };
    const whole = await tree(session, sessions, one);
    const { alerts } = await one('alert.list', { last: '24h', limit: 1000 });
    const refused = alerts.filter(
      (alert) => alert.type === 'loop_detected' && (alert.about === id || alert.details.session === id),
    );
    for (const alert of refused)
      whole.steps.push({
        kind: 'refused',
        label: whole.steps.filter((step) => step.same).map((step) => step.label)[0] || 'call',
        code: 'loop_detected',
        calls: 1,
        first: alert.at,
        last: alert.at,
      });
    whole.steps.sort((a, b) => (a.first < b.first ? -1 : 1));
    whole.sums.refused = refused.length;
    whole.sums.saved_usd = dollars((nano(whole.sums.cost_usd) * 12n) / 10n);
    return { ...strip(whole), subagents: whole.steps.filter((step) => step.kind === 'session').length };
  },

  /** What a call is made of: `{entry, lines: [{kind, count, price, usd}]}`; `price` as text with its unit. Params: id. */
  async 'ledger.explain'({ id }, one) {
    const entries = await entriesOf(one, { last: '31d' }, 20_000);
    const entry = entries.find((each) => each.id === id);
    if (!entry) return { error: { code: -32002, message: 'there is no such call', data: { code: 'not_found' } } };
    const found = await one('price.show', { model: entry.model });
    const row = found && found.rows && found.rows[0];
    const prices = row && row.prices.standard;
    const lines = Object.entries(entry.usage).map(([kind, count]) => {
      const price = prices && prices[kind];
      return {
        kind: KINDS[kind] || kind,
        count,
        price: price ? `$${price}/M` : '–',
        usd: price ? dollars((nano(price) * BigInt(count)) / 1_000_000n) : entry.cost_usd,
      };
    });
    return { entry, lines };
  },
};
