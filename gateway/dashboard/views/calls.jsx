// Which calls; the dearest; the failed; why this verdict.

import { useState } from 'preact/hooks';
import { count, latency, NONE, percent, plural } from '../format.js';
import { call, now } from '../rpc.js';
import { useCalls } from '../data.js';
import { paused } from '../live.js';
import { moment, period, span } from '../time.js';
import { filters, here, route, to } from '../route.js';
import { Page } from '../shell.jsx';
import { Id, Name, None, Usd, Warn } from '../parts/text.jsx';
import { Empty, Failure, Since, Skeleton } from '../parts/states.jsx';
import { Table } from '../parts/table.jsx';
import { Filters, Periods, Pick, Seg } from '../parts/controls.jsx';
import { CallDetail } from './call.jsx';
import { cached } from './breakdown.jsx';
import { Refused, Running } from './calls-other.jsx';
import { PAGE, useTail, WAITING_MAX } from './tail.js';

const SORTS = [
  ['', 'latest'],
  ['cost', 'dearest'],
  ['tokens', 'largest'],
  ['duration', 'slowest'],
];

const KINDS = [
  ['', 'All'],
  ['error', 'Failed'],
  ['refused', 'Refused'],
  ['running', 'Running'],
  ['estimated', 'Estimated'],
  ['overage', 'Overage'],
];

const TAILED = ['tenant', 'agent', 'session', 'user', 'model', 'provider', 'key'];

const FILE_ROWS_MAX = 100_000;

export function Calls() {
  const { query } = route.value;
  const tools = (
    <>
      <Seg name="is" label="Which" of={KINDS} />
      <Pick name="sort" label="Sort" of={SORTS} />
      <Periods fallback="24h" />
      <Filters />
    </>
  );
  const kind = KINDS.some(([name]) => name === query.is) ? query.is : '';
  return (
    <Page title="Calls" tools={tools}>
      <div class={`withside${query.id ? ' chosen' : ''}`}>
        <div class="listing first">
          {kind === 'running' ? (
            <Running />
          ) : kind === 'refused' ? (
            <Refused />
          ) : (
            <Entries key={`${kind} ${query.at || ''}`} kind={kind} />
          )}
        </div>
        {query.id && <CallDetail key={query.id} id={query.id} />}
      </div>
    </Page>
  );
}

function Entries({ kind }) {
  const { query } = route.value;
  const at = now();
  const [start] = useState(at);
  const sort = SORTS.some(([name]) => name === query.sort) ? query.sort : '';
  const within = { ...period(query, start), ...filters.value };
  const cursors = query.cursor ? { cursor: query.cursor } : {};
  const data = useCalls(
    [['ledger.calls', { ...within, ...(kind ? { is: kind } : {}), ...(sort ? { sort } : {}), limit: PAGE, ...cursors }]],
    { every: 60_000 },
  );
  const tailed = Object.fromEntries(Object.entries(filters.value).filter(([name]) => TAILED.includes(name)));
  const isTail = !sort && !kind && !query.cursor && !query.to && Object.keys(tailed).length === Object.keys(filters.value).length;
  if (!data.ready) return <Skeleton headline rows={16} />;
  const { value, error } = data.results[0];
  if (!value) return <Failure error={error} retry={data.reload} />;
  const params = { ...within, ...(kind ? { is: kind } : {}), ...(sort ? { sort } : {}) };
  return (
    <Listing
      calls={value.calls}
      total={value.total}
      next={value.next}
      since={value.since}
      tail={isTail ? tailed : null}
      at={at}
      sort={sort}
      whole={() => allOf(params)}
    />
  );
}

/** All calls of a filter, for a file; as many as a spreadsheet takes. */
async function allOf(params) {
  const all = [];
  let cursor = null;
  do {
    const page = await call('ledger.calls', { ...params, limit: 1000, ...(cursor ? { cursor } : {}) });
    all.push(...page.calls);
    cursor = page.next;
  } while (cursor && all.length < FILE_ROWS_MAX);
  return all;
}

const read = (entry) => Object.entries(entry.usage).reduce((all, [kind, n]) => (/^(input|cache)/.test(kind) ? all + n : all), 0);

const written = (entry) => entry.usage.output || 0;

function callColumns(at) {
  return [
    { key: 'at', head: 'Time, UTC', class: 'nowrap soft', phone: 4, cell: (one) => moment(one.at, at) },
    { key: 'agent', head: 'Agent', phone: 1, cell: (one) => <Name of={one.agent} most={28} none="no agent" /> },
    {
      key: 'session',
      far: true,
      head: 'Session',
      cell: (one) =>
        one.session ? (
          <a class="soft" href={to('sessions', { id: one.session, tenant: one.tenant })}>
            <Id of={one.session} />
          </a>
        ) : (
          <None />
        ),
    },
    {
      key: 'model',
      head: 'Model or tool',
      phone: 3,
      cell: (one) => (
        <>
          <Name of={one.model} most={32} />
          {one.operation === 'tool' && (
            <>
              {' '}
              <span class="tag">tool</span>
            </>
          )}
        </>
      ),
    },
    { key: 'status', head: 'Outcome', class: 'nowrap', cell: (one) => <Outcome one={one} /> },
    {
      key: 'cache',
      far: true,
      head: 'Cache',
      num: true,
      class: 'soft',
      value: (one) => cached({ input_tokens: read(one), usage: one.usage }),
      cell: (one) => (read(one) ? percent(cached({ input_tokens: read(one), usage: one.usage }), 0) : <None />),
    },
    { key: 'read', head: 'Read', num: true, value: read, cell: (one) => (read(one) ? count(read(one)) : <None />) },
    {
      key: 'written',
      far: true,
      head: 'Written',
      num: true,
      value: written,
      cell: (one) => (written(one) ? count(written(one)) : <None />),
    },
    { key: 'duration_ms', head: 'Took', num: true, class: 'soft', cell: (one) => latency(one.duration_ms) },
    {
      key: 'cost_usd',
      head: 'Cost',
      num: true,
      phone: 2,
      cell: (one) => <Usd of={one.cost_usd} places={4} estimated={one.estimated ? one.estimate_reason || 'estimated' : ''} />,
    },
  ];
}

function Listing({ calls, total, next, since, tail, at, sort, whole }) {
  const { query } = route.value;
  const [ref, fresh, waiting, take, gap] = useTail(tail, calls);
  const rows = [...fresh, ...calls];
  const columns = callColumns(at);
  const sum = total && {
    at: 'All',
    cost_usd: <Usd of={total.cost_usd} cents />,
    read: count(total.input_tokens),
    written: count(total.output_tokens),
    status: total.errors ? `${count(total.errors)} failed` : '',
    cache: percent(cached(total), 0),
  };
  return (
    <div ref={ref}>
      <Since at={since} />
      <div class="top">
        <div>
          <div class="cap">
            {sort
              ? SORTS.find(([name]) => name === sort)[1][0].toUpperCase() + SORTS.find(([name]) => name === sort)[1].slice(1)
              : 'Cost of these calls'}
          </div>
          {total ? <Usd of={total.cost_usd} cents class="headline" /> : <span class="headline none">{NONE}</span>}
        </div>
        <div class="beside">
          <p>
            {total ? plural(total.requests, 'call') : ''}
            {total && total.errors > 0 && `, ${count(total.errors)} failed`}
          </p>
          <p class="soft">
            {total && total.estimated > 0 ? `≈ ${plural(total.estimated, 'call')} estimated` : tail ? 'latest first' : ''}
          </p>
        </div>
        {tail && waiting > 0 && (
          <div class="key">
            <button type="button" class="pill" data-key="." onClick={take}>
              {waiting >= WAITING_MAX ? '999+' : count(waiting)} new <kbd aria-hidden="true">.</kbd>
            </button>
            <span>paused while you read</span>
          </div>
        )}
      </div>
      {gap && (
        <p class="warnx pad-y">
          <Warn /> Calls came faster than they could be followed until {moment(gap, at)}: some before it are missing here.{' '}
          <a href={here({ at: String(at) })}>
            <u>Load them</u>
          </a>
        </p>
      )}
      {rows.length ? (
        <Table
          label="Calls"
          columns={columns}
          rows={rows}
          id={(one) => one.id}
          selected={query.id}
          open={(one) => here({ id: one.id })}
          sum={sum}
          paged={false}
          file="calls"
          whole={whole}
          footer={
            <>
              {query.cursor && <a href={here({ cursor: null })}>First page</a>}
              {next && <a href={here({ cursor: next })}>Next page</a>}
            </>
          }
        />
      ) : (
        <Empty title="No call fits." line="agentledger tail" guide="What entries say" topic="admin">
          Take a filter out or a longer period; a call that comes stands here as it is settled.
        </Empty>
      )}
    </div>
  );
}

function Outcome({ one }) {
  if (one.status === 0)
    return (
      <span class="warnx">
        <Warn /> no answer
      </span>
    );
  if (one.status >= 400)
    return (
      <span class="warnx">
        <Warn /> {one.status}
      </span>
    );
  if (one.outcome && one.outcome !== 'completed') return <span class="soft">{one.outcome.replaceAll('_', ' ')}</span>;
  return <span class="soft">{one.stream ? 'streamed' : 'whole'}</span>;
}
