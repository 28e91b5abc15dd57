// Budgets as rows: what the gateway says of accounts, one row a limit, in the order in which somebody should look at them. Floats
// order and place; figures stay the gateway's strings.

import { pixels } from './format.js';
import { accountGroup, accountWords } from './accounts.js';
import { ahead, date, day } from './time.js';

const SPENT = {
  usd: ['spent_usd', 'held_usd', 'overage_usd'],
  tokens: ['spent_tokens', 'held_tokens'],
  requests: ['spent_requests', 'held_requests'],
};

/** One row for each limit of each account. What the gateway does not say is undefined, and shown as a dash. */
export function budgetRows(budgets) {
  const rows = [];
  for (const budget of budgets) {
    for (const limit of budget.limits) {
      const [spent, held, overage] = SPENT[limit.unit] || SPENT.usd;
      const [kind, name] = accountWords(budget.account);
      rows.push({
        id: `${budget.account} ${budget.window} ${limit.unit}`,
        account: budget.account,
        kind,
        name,
        window: budget.window,
        zone: budget.zone,
        from: budget.from,
        to: budget.to,
        unit: limit.unit,
        mode: limit.mode,
        limit: limit.limit,
        spent: String(budget[spent]),
        held: String(budget[held]),
        overage: overage ? budget[overage] : '0',
        left: limit.left,
        over: limit.over,
        soft: limit.soft,
        forecast: limit.forecast,
        forecast_low: limit.forecast_low,
        forecast_high: limit.forecast_high,
        runs_out: limit.runs_out_at,
        used_up: limit.used_up_since,
        topped_up: limit.topped_up,
        topped_until: limit.topped_up_until,
        group: accountGroup(budget.account),
        held_requests: budget.held_requests,
      });
    }
  }
  return rows;
}

/** How full it is, held money included. */
export const fullness = (row) => {
  const limit = pixels(row.limit);
  return limit > 0 ? (pixels(row.spent) + pixels(row.held)) / limit : pixels(row.spent) > 0 ? Infinity : 0;
};

/** `used` up, `runs` out before its window ends, `held` full by what is held, `lasts`, or `open` where the gateway makes no forecast. */
export function stateOf(row) {
  if (row.mode === 'watch') return 'shadow';
  if (pixels(row.spent) >= pixels(row.limit)) return 'used';
  if (fullness(row) >= 1) return 'full';
  if (row.runs_out) return 'runs';
  return row.forecast === undefined ? 'open' : 'lasts';
}

const RANK = { used: 0, full: 1, runs: 2, open: 3, lasts: 4, shadow: 5 };

/** Used up, then soonest to run out, then the fullest. */
export function byUrgency(a, b) {
  const [one, two] = [stateOf(a), stateOf(b)];
  const rank = (state) => (state === 'shadow' || state === 'lasts' ? 4 : RANK[state]);
  if (rank(one) !== rank(two)) return rank(one) - rank(two);
  if (one === 'runs' && two === 'runs' && a.runs_out !== b.runs_out) return a.runs_out < b.runs_out ? -1 : 1;
  const [full, other] = [fullness(a), fullness(b)];
  return other === full ? 0 : other - full;
}

/** When it runs out, in words. */
export function runsOut(row, now) {
  const state = stateOf(row);
  if (state === 'used') return row.used_up ? `since ${ahead(row.used_up, now).replace('today ', '')}` : 'used up';
  if (state === 'full') return 'all held';
  if (state === 'runs') return ahead(row.runs_out, now);
  if (state === 'shadow') return row.runs_out ? `${ahead(row.runs_out, now)}, shadow` : 'shadow';
  if (state === 'open') return '–';
  return row.window === 'total' ? 'lasts' : `lasts the ${row.window}`;
}

/** When its window ends. */
export function ends(row, now) {
  if (!row.to) return '';
  const at = Date.parse(row.to);
  return row.window === 'hour' || row.window === 'minute' ? ahead(row.to, now) : day(at);
}

export const until = (row) => (row.to ? date(row.to) : '');
