// Which keys come, whose are they.

import { count, plural } from '../format.js';
import { change, now } from '../rpc.js';
import { useCalls } from '../data.js';
import { moment } from '../time.js';
import { here, route, to } from '../route.js';
import { Page } from '../shell.jsx';
import { Id, Name, None, Stop, Usd } from '../parts/text.jsx';
import { Empty, Failure, Skeleton } from '../parts/states.jsx';
import { Table } from '../parts/table.jsx';
import { Pick } from '../parts/controls.jsx';
import { ask, Field, say } from '../parts/sheet.jsx';
import { Top } from '../parts/layout.jsx';

const undo = (result) =>
  result.change ? () => change('rule.revert', { change: result.change, note: 'undone in the dashboard' }) : null;

export function Keys() {
  const { query } = route.value;
  const last = query.last || '30d';
  const data = useCalls([['key.list', { last }], query.fp ? ['ledger.summary', { by: 'agent', key: query.fp, last }] : null], {
    on: ['rule.changes'],
    every: 30_000,
  });
  const tools = (
    <>
      <Pick
        name="last"
        label="Seen in"
        of={[
          ['30d', '30 d'],
          ['24h', '24 h'],
          ['7d', '7 d'],
          ['1y', '1 y'],
        ]}
      />
      <button type="button" class="button" data-key="n" onClick={() => block()}>
        Block a pattern <kbd aria-hidden="true">n</kbd>
      </button>
    </>
  );
  return (
    <Page title="Keys" tools={tools}>
      {data.ready ? <KeyRows data={data} query={query} /> : <Skeleton headline rows={10} />}
    </Page>
  );
}

function keyColumns({ at, query }) {
  return [
    {
      key: 'fingerprint',
      head: 'Key',
      phone: 1,
      cell: (row) => (
        <>
          {row.name && (
            <>
              <Name of={row.name} most={24} />{' '}
            </>
          )}
          <Id of={row.fingerprint} most={16} />
          {row.blocked && (
            <>
              {' '}
              <span class="tag stop">✕ blocked</span>
            </>
          )}
        </>
      ),
    },
    { key: 'tenant', head: 'Tenant', sort: 'text', phone: 3, cell: (row) => <Name of={row.tenant} most={32} /> },
    {
      key: 'last_seen',
      head: 'Last call, UTC',
      class: 'nowrap soft',
      sort: 'text',
      phone: 4,
      cell: (row) => moment(row.last_seen, at),
    },
    { key: 'requests', head: 'Calls', num: true, sort: 'number', cell: (row) => count(row.requests) },
    {
      key: 'cost_usd',
      head: 'Spent',
      num: true,
      sort: 'money',
      phone: 2,
      cell: (row) => (
        <a href={to('calls', { key: row.fingerprint, last: query.last || '30d' })}>
          <Usd of={row.cost_usd} cents />
        </a>
      ),
    },
    {
      key: 'act',
      head: '',
      spoken: 'Block',
      csv: false,
      num: true,
      cell: (row) => (
        <button type="button" class="state" onClick={() => (row.blocked ? unblock(row) : block(row))}>
          <u>{row.blocked ? 'Unblock' : 'Block'}</u>
        </button>
      ),
    },
  ];
}

function KeyRows({ data, query }) {
  const { value, error } = data.results[0];
  const at = now();
  if (!value) return <Failure error={error} retry={data.reload} />;
  const chosen = value.keys.find((row) => row.fingerprint === query.fp);
  const blocks = value.blocked.length;
  const beside = (
    <>
      <p>
        {blocks ? (
          <>
            <Stop label="blocked" /> {plural(blocks, 'rule')} {blocks === 1 ? 'blocks' : 'block'} keys
          </>
        ) : (
          'none is blocked'
        )}
      </p>
      <p class="soft">Keys are known by their fingerprints; no whole key is kept anywhere.</p>
    </>
  );
  return (
    <div class={`withside${chosen ? ' chosen' : ''}`}>
      <div class="listing first">
        <Top caption="Keys that came" figure={count(value.keys.length)} beside={beside} />
        {value.keys.length ? (
          <Table
            label="Keys"
            columns={keyColumns({ at, query })}
            rows={value.keys}
            id={(row) => row.fingerprint}
            selected={query.fp}
            open={(row) => here({ fp: query.fp === row.fingerprint ? null : row.fingerprint })}
            sort="-cost_usd"
            file="keys"
          />
        ) : (
          <Empty title="No key has come yet." line="agentledger keys list" guide="How keys are named" topic="rules">
            A key stands here by its fingerprint with its first call.
          </Empty>
        )}
        {blocks > 0 && (
          <section class="block">
            <h2 class="head">
              Blocked <small>patterns and fingerprints</small>
            </h2>
            <Table label="Blocked" name="blocks" columns={blockColumns(at)} rows={value.blocked} id={(row) => row.id} />
          </section>
        )}
      </div>
      {chosen && <KeyDetail row={chosen} agents={data.results[1]} at={at} last={query.last || '30d'} />}
    </div>
  );
}

const patternOf = (row) => (typeof row.value === 'string' ? row.value : JSON.stringify(row.value));

const blockColumns = (at) => [
  { key: 'value', head: 'What', phone: 1, cell: (row) => <Name of={patternOf(row)} mono /> },
  { key: 'author', head: 'By', phone: 3, cell: (row) => (row.author ? <Name of={row.author} most={24} /> : 'the file') },
  { key: 'note', head: 'Why', cell: (row) => <Name of={row.note} most={64} /> },
  { key: 'at', head: 'Since, UTC', phone: 4, class: 'nowrap soft', cell: (row) => moment(row.at, at) },
  {
    key: 'act',
    head: '',
    spoken: 'Unblock',
    num: true,
    phone: 2,
    csv: false,
    cell: (row) =>
      row.source === 'runtime' && (
        <button type="button" class="state" onClick={() => takeOut(row)}>
          <u>Unblock</u>
        </button>
      ),
  },
];

/** Whose it is: the agents that came with it. */
function KeyDetail({ row, agents, at, last }) {
  const rows = agents && agents.value ? agents.value.rows : null;
  return (
    <aside class="aside" aria-label="Key">
      <div class="aside-head">
        <h2 class="title">{row.name ? <Name of={row.name} most={32} /> : 'Key'}</h2>
        <a class="button" data-key="Escape" href={here({ fp: null })}>
          Esc
        </a>
      </div>
      <div>
        <a class="figure plain" data-key="o" href={to('calls', { key: row.fingerprint, last })}>
          <Usd of={row.cost_usd} cents />
        </a>{' '}
        <span class="soft">in {plural(row.requests, 'call')}</span>
      </div>
      <dl class="facts">
        <dt>Fingerprint</dt>
        <dd>
          <Id of={row.fingerprint} most={24} />
        </dd>
        <dt>Tenant</dt>
        <dd>
          <Name of={row.tenant} most={64} />
        </dd>
        <dt>Last call</dt>
        <dd>{moment(row.last_seen, at)}</dd>
        <dt>Budget</dt>
        <dd>
          <a href={to('budgets', { kind: `key:${row.fingerprint}` })}>
            <u>Open</u>
          </a>
        </dd>
      </dl>
      <section>
        <h3 class="cap">
          <b>Who uses it</b>
        </h3>
        {rows ? (
          <table class="bars" aria-label="Who uses it">
            <tbody>
              {rows.slice(0, 8).map((one) => (
                <tr key={one.agent}>
                  <td class="name">
                    <Name of={one.agent} most={24} none="no agent" />
                  </td>
                  <td class="num">
                    <Usd of={one.cost_usd} quiet />
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        ) : (
          <None />
        )}
      </section>
      <button
        type="button"
        class={`button${row.blocked ? '' : ' kill'}`}
        data-key="x"
        onClick={() => (row.blocked ? unblock(row) : block(row))}>
        {row.blocked ? 'Unblock the key' : 'Block the key'} <kbd aria-hidden="true">x</kbd>
      </button>
    </aside>
  );
}

function block(row) {
  ask({
    title: row ? 'Block this key' : 'Block keys by a pattern',
    verb: row ? 'Block the key' : 'Block them',
    danger: true,
    body: (
      <>
        {row ? (
          <p>
            <Id of={row.fingerprint} most={32} />: {plural(row.requests, 'call')} so far, <Usd of={row.cost_usd} />. Its next call
            is refused.
          </p>
        ) : (
          <Field label="Pattern over whole keys: sk-leaked-*" name="pattern" required />
        )}
        <Field label="Why, for the audit" name="note" />
      </>
    ),
    run: async (form, id) => {
      const result = await change(
        'key.block',
        { ...(row ? { fingerprint: row.fingerprint } : { pattern: form.pattern.trim() }), note: form.note || 'in the dashboard' },
        id,
      );
      say('Blocked.', undo(result));
    },
  });
}

const unblock = (row) =>
  ask({
    title: 'Unblock this key',
    verb: 'Unblock the key',
    body: (
      <p>
        <Id of={row.fingerprint} most={32} /> is served again.
      </p>
    ),
    run: async (_, id) => {
      const result = await change('key.unblock', { fingerprint: row.fingerprint, note: 'in the dashboard' }, id);
      say('Unblocked.', undo(result));
    },
  });

const takeOut = (rule) =>
  ask({
    title: 'Unblock',
    verb: 'Unblock',
    body: (
      <p>
        <Name of={typeof rule.value === 'string' ? rule.value : JSON.stringify(rule.value)} /> is served again.
      </p>
    ),
    run: async (_, id) => {
      const result = await change('rule.delete', { id: rule.id, note: 'in the dashboard' }, id);
      say('Unblocked.', undo(result));
    },
  });
