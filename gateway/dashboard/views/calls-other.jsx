// Calls that are no entries: those that run, and those that were refused.

import { useState } from 'preact/hooks';
import { age, count, NONE, plural } from '../format.js';
import { call, now } from '../rpc.js';
import { useCalls } from '../data.js';
import { moment, period, span } from '../time.js';
import { filters, here, route, to } from '../route.js';
import { wholeAccount } from '../me.js';
import { Id, Name, None, Stop, Usd } from '../parts/text.jsx';
import { Empty, Failure, Skeleton } from '../parts/states.jsx';
import { Table } from '../parts/table.jsx';
import { HoldBar } from '../parts/bar.jsx';

function runningColumns({ at, most }) {
  return [
    { key: 'since', head: 'Age', class: 'nowrap soft', phone: 4, cell: (hold) => age(at - Date.parse(hold.since)) },
    { key: 'agent', head: 'Agent', phone: 1, cell: (hold) => <Name of={hold.agent} most={28} none="no agent" /> },
    {
      key: 'session',
      far: true,
      head: 'Session',
      cell: (hold) =>
        hold.session ? (
          <a class="soft" href={to('sessions', { id: hold.session, tenant: hold.tenant })}>
            <Id of={hold.session} />
          </a>
        ) : (
          <None />
        ),
    },
    { key: 'model', head: 'Model', phone: 3, cell: (hold) => <Name of={hold.model} most={32} /> },
    {
      key: 'basis',
      head: 'Why so much',
      cell: (hold) => (
        <span class="soft">
          <Name of={hold.basis.replaceAll('_', ' ')} most={40} />
        </span>
      ),
    },
    {
      key: 'bar',
      head: 'Of hold',
      csv: false,
      cell: (hold) => <HoldBar held={hold.held_usd} spent={hold.spent_usd} most={most} />,
    },
    { key: 'held_usd', head: 'Held', num: true, sort: 'money', cell: (hold) => <Usd of={hold.held_usd} places={4} quiet /> },
    {
      key: 'spent_usd',
      head: 'Cost so far',
      num: true,
      sort: 'money',
      phone: 2,
      cell: (hold) => <Usd of={hold.spent_usd} places={4} />,
    },
  ];
}

export function Running() {
  const data = useCalls([['hold.list'], ['budget.status', { account: wholeAccount(filters.value.tenant), window: 'month' }]], {
    on: ['hold.changes'],
    every: 5_000,
  });
  if (!data.ready) return <Skeleton headline rows={12} />;
  const { value, error } = data.results[0];
  if (!value) return <Failure error={error} retry={data.reload} />;
  const standing = data.results[1].value && data.results[1].value.budgets[0];
  const at = now();
  const rows = value.holds.filter((hold) => Object.entries(filters.value).every(([name, wanted]) => hold[name] === wanted));
  const most = Math.max(0, ...rows.map((hold) => Number(hold.held_usd)));
  const columns = runningColumns({ at, most });
  return (
    <>
      <div class="top">
        <div>
          <div class="cap">Held now</div>
          {standing ? <Usd of={standing.held_usd} cents class="headline" /> : <span class="headline none">{NONE}</span>}
        </div>
        <div class="beside">
          <p>{plural(rows.length, 'call')}, longest first</p>
          <p class="soft">What is held is not spent.</p>
        </div>
      </div>
      {rows.length ? (
        <Table
          label="Running calls"
          columns={columns}
          rows={rows}
          id={(hold) => hold.id}
          open={(hold) => here({ id: hold.exchange })}
          selected={route.value.query.id}
          file="running-calls"
        />
      ) : (
        <Empty title="No call runs now." line="agentledger tail" guide="How holds come about" topic="budgets">
          One that comes stands here until it ends.
        </Empty>
      )}
    </>
  );
}

function refusedColumns(at) {
  return [
    {
      key: 'code',
      head: 'Code',
      phone: 1,
      sort: 'text',
      cell: (row) => (
        <span class="refused">
          <Stop /> <Name of={row.code} />
        </span>
      ),
    },
    {
      key: 'account',
      head: 'Account',
      phone: 3,
      sort: 'text',
      cell: (row) =>
        /^budget_/.test(row.code) ? (
          <a href={to('budgets', { account: row.account })}>
            <Name of={row.account} />
          </a>
        ) : (
          <Name of={row.account} />
        ),
    },
    {
      key: 'policy',
      head: 'Policy',
      cell: (row) =>
        row.policy ? (
          <a href={to('policies', { name: row.policy.split('@')[0] })}>
            <Name of={row.policy} />
          </a>
        ) : (
          <None />
        ),
    },
    { key: 'tenant', head: 'Tenant', cell: (row) => <Name of={row.tenant} /> },
    { key: 'first', head: 'First, UTC', class: 'nowrap soft', cell: (row) => moment(row.first, at) },
    { key: 'last', head: 'Last, UTC', class: 'nowrap soft', phone: 4, sort: 'text', cell: (row) => moment(row.last, at) },
    { key: 'requests', head: 'Calls', num: true, phone: 2, sort: 'number', cell: (row) => <b>{count(row.requests)}</b> },
  ];
}

export function Refused() {
  const { query } = route.value;
  const [start] = useState(now());
  const within = period(query, start);
  const data = useCalls([['denial.list', { ...within, ...(filters.value.tenant ? { tenant: filters.value.tenant } : {}) }]], {
    on: ['alert.feed'],
    every: 15_000,
  });
  if (!data.ready) return <Skeleton headline rows={12} />;
  const { value, error } = data.results[0];
  if (!value) return <Failure error={error} retry={data.reload} />;
  const at = now();
  const columns = refusedColumns(at);
  return (
    <>
      <div class="top">
        <div>
          <div class="cap">Refused</div>
          <div class="headline">{count(value.refused)}</div>
        </div>
        <div class="beside">
          <p>{plural(value.denials.length, 'reason')}</p>
          <p class="soft">What is refused costs nothing.</p>
        </div>
      </div>
      {value.denials.length ? (
        <Table
          label="Refused calls"
          columns={columns}
          rows={value.denials}
          id={(row) => `${row.code} ${row.account} ${row.policy}`}
          file="refused-calls"
        />
      ) : (
        <Empty title="Nothing was refused." line="agentledger denials" guide="What is refused, and why" topic="refusals">
          A refusal stands here with whose limit it was.
        </Empty>
      )}
    </>
  );
}
