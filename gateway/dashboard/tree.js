// A session as a tree of steps, as rows for drawing. `session.tree` answers it with its sums; where the gateway has no such method
// it is made of entries, unfolded and without sums of groups. Pure.

/** A gateway's tree as rows: `{step, depth, last, rails, open}`; `closed` has the keys of groups that are shut. */
export function rowsOf(tree, closed = new Set()) {
  const rows = [];
  walk({ ...tree, kind: 'session', label: tree.session.id, key: keyOf(tree) }, 0, [], true, rows, closed);
  return rows;
}

const keyOf = (tree) => `${tree.session.tenant}/${tree.session.id}`;

function walk(step, depth, rails, last, rows, closed) {
  const open = step.steps && !closed.has(step.key);
  rows.push({
    step,
    key: step.key || (step.ids && step.ids[0]) || `${depth}-${rows.length}`,
    depth,
    rails,
    last,
    open,
    group: Boolean(step.steps),
  });
  if (!open) return;
  step.steps.forEach((one, i) => {
    const isLast = i === step.steps.length - 1;
    const next = one.kind === 'session' ? { ...one, key: keyOf(one), label: one.session.id } : one;
    walk(next, depth + 1, depth ? [...rails, !last] : [], isLast, rows, closed);
  });
}

export const readOf = (usage) =>
  usage ? Object.entries(usage).reduce((all, [kind, n]) => (/^(input|cache)/.test(kind) ? all + n : all), 0) : undefined;
export const writtenOf = (usage) => (usage ? usage.output || 0 : undefined);
export const cachedOf = (usage) => (readOf(usage) > 0 ? (usage.cache_read || 0) / readOf(usage) : NaN);

/** From when to when a tree's steps go. */
export function extent(tree, now) {
  const begin = Date.parse(tree.session.started);
  const end = tree.session.running > 0 ? now : Math.max(begin + 1000, Date.parse(tree.session.last_seen), ...lasts(tree));
  return [begin, Math.max(begin + 1000, end)];
}

function lasts(tree) {
  return (tree.steps || [])
    .flatMap((step) => (step.steps ? lasts(step) : [Date.parse(step.last)]))
    .filter((at) => !Number.isNaN(at));
}

/** Steps one after the other that are the same call: `[first row, last row, times]`, for the bracket. */
export function loops(rows) {
  const found = [];
  let from = -1;
  rows.forEach((row, i) => {
    const same = row.step.same > 1;
    if (same && from < 0) from = i;
    if ((!same || i === rows.length - 1) && from >= 0) {
      const to = same ? i : i - 1;
      found.push([from, to, rows[from].step.same]);
      from = -1;
    }
  });
  return found;
}
