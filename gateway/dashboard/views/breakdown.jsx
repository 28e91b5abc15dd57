// A sum taken apart by one dimension: the table of Spend and of Who.

import { change, compact, count, NONE, percent, pixels } from '../format.js';
import { filters, to } from '../route.js';
import { dimensionName, dimensionValue } from '../parts/controls.jsx';
import { Id, Name, None, Usd } from '../parts/text.jsx';
import { Table } from '../parts/table.jsx';

export const SERIES = ['s1', 's2', 's3', 's4', 's5'];
const KEYS_OF = { key: true, session: true };

export const tokensOf = (row) => row.input_tokens + row.output_tokens;
export const cached = (row) => (row.input_tokens > 0 ? ((row.usage && row.usage.cache_read) || 0) / row.input_tokens : NaN);
const perMillion = (row) => (tokensOf(row) > 0 ? (pixels(row.cost_usd) / tokensOf(row)) * 1e6 : NaN);

/** The filter that a row is. */
export const rowFilter = (by, row) => ({ [by]: dimensionValue(row, by) });

function breakdownColumns({ by, most, swatch, ranked, deeper, calls, total, before, period }) {
  return [
    {
      key: 'name',
      head: dimensionName(by)[0].toUpperCase() + dimensionName(by).slice(1),
      sort: 'text',
      phone: 1,
      value: (row) => dimensionValue(row, by),
      cell: (row) => (
        <>
          {swatch && <span class={`sq ${swatch(ranked.get(row))}`} />}
          <a href={deeper(row)}>
            {KEYS_OF[by] ? (
              <Id of={dimensionValue(row, by)} most={28} />
            ) : (
              <Name of={dimensionValue(row, by)} most={48} none="none named" />
            )}
          </a>
        </>
      ),
    },
    {
      key: 'bar',
      head: '',
      spoken: 'Share as a bar',
      csv: false,
      class: 'barred',
      phone: 5,
      cell: (row) => (
        <i class="cell-bar" style={{ width: `${most ? Math.max(0.5, (pixels(row.cost_usd) / most) * 100) : 0}%` }} />
      ),
    },
    {
      key: 'cost_usd',
      head: 'Spent',
      num: true,
      sort: 'money',
      phone: 2,
      cell: (row) => (
        <a href={calls(row)} data-entries>
          <Usd of={row.cost_usd} cents />
        </a>
      ),
    },
    {
      key: 'share',
      far: true,
      head: 'Share',
      num: true,
      class: 'soft',
      csv: false,
      cell: (row) => (total ? percent(pixels(row.cost_usd) / pixels(total.cost_usd)) : <None />),
    },
    {
      key: 'change',
      head: 'Change',
      num: true,
      class: 'soft',
      phone: 4,
      csv: false,
      cell: (row) => (before ? change(row.cost_usd, before.get(dimensionValue(row, by)) || '0') : <None />),
    },
    {
      key: 'tokens',
      head: 'Tokens',
      num: true,
      sort: 'number',
      value: tokensOf,
      cell: (row) => (tokensOf(row) ? compact(tokensOf(row)) : <None />),
    },
    {
      key: 'per',
      far: true,
      head: '$ per MTok',
      num: true,
      csv: false,
      cell: (row) => (Number.isFinite(perMillion(row)) ? `$${perMillion(row).toFixed(2)}` : <None />),
    },
    {
      key: 'requests',
      head: 'Calls',
      num: true,
      sort: 'number',
      phone: 3,
      cell: (row) => (
        <>
          {count(row.requests)}
          <span class="phone-only"> calls</span>
        </>
      ),
    },
    {
      key: 'cached',
      far: true,
      head: 'From cache',
      num: true,
      sort: 'number',
      value: cached,
      csv: false,
      cell: (row) => (Number.isFinite(cached(row)) ? percent(cached(row), 0) : <None />),
    },
    {
      key: 'estimated',
      far: true,
      head: 'Estimated',
      num: true,
      sort: 'number',
      cell: (row) =>
        row.estimated ? (
          <a href={to('calls', { ...filters.value, ...rowFilter(by, row), ...period, is: 'estimated' })}>
            ≈ {count(row.estimated)}
          </a>
        ) : (
          <None />
        ),
    },
  ];
}

/** `before`: rows of the period before by their name. `swatch(i)`: the series' colour. */
export function Breakdown({ by, rows, total, before, span, swatch, only, file, deeper, footer }) {
  const most = rows[0] ? pixels(rows[0].cost_usd) : 0;
  const period = span.fixed
    ? { from: new Date(span.from).toISOString(), to: new Date(span.to).toISOString() }
    : { last: span.last };
  const ranked = new Map(rows.map((row, i) => [row, i]));
  const calls = (row) => to('calls', { ...filters.value, ...rowFilter(by, row), ...period });
  const columns = breakdownColumns({ by, most, swatch, ranked, deeper, calls, total, before, period });
  const sum = {
    name: 'All',
    cost_usd: total ? <Usd of={total.cost_usd} cents /> : <None />,
    share: '100.0 %',
    change: before && total && before.total ? change(total.cost_usd, before.total) : NONE,
    tokens: total ? compact(tokensOf(total)) : NONE,
    per: total && Number.isFinite(perMillion(total)) ? `$${perMillion(total).toFixed(2)}` : NONE,
    requests: total ? count(total.requests) : NONE,
    cached: total && Number.isFinite(cached(total)) ? percent(cached(total), 0) : NONE,
    estimated: total && total.estimated ? `≈ ${count(total.estimated)}` : NONE,
  };
  return (
    <Table
      label={`By ${dimensionName(by)}`}
      columns={columns}
      rows={rows}
      id={(row) => dimensionValue(row, by) || '(none)'}
      open={deeper}
      sum={rows.length ? sum : null}
      sort="-cost_usd"
      file={file}
      footer={footer}
      rowClass={(row) => (only !== undefined && dimensionValue(row, by) !== only ? 'dim' : undefined)}
    />
  );
}

/** What was spent before, by name, with the sum of all. */
export function beforeMap(summary, by) {
  if (!summary) return null;
  const map = new Map(summary.rows.map((row) => [dimensionValue(row, by), row.cost_usd]));
  map.total = summary.total && summary.total.cost_usd;
  return map;
}
