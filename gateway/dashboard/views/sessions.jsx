// What did this run do, step by step.

import { useRef, useState } from 'preact/hooks';
import { compact, count, lasted, limit, percent, plural, usd } from '../format.js';
import { change, now } from '../rpc.js';
import { useCalls } from '../data.js';
import { moment } from '../time.js';
import { budgetRows } from '../budgets.js';
import { go, here, route, to } from '../route.js';
import { Page } from '../shell.jsx';
import { Held, Id, Name, None, Stop, Usd } from '../parts/text.jsx';
import { Empty, Failure, Skeleton } from '../parts/states.jsx';
import { BudgetBar } from '../parts/bar.jsx';
import { Filters, Pick, Seg } from '../parts/controls.jsx';
import { ask, say } from '../parts/sheet.jsx';
import { cachedOf, readOf, writtenOf } from '../tree.js';
import { Tree } from './tree.jsx';
import { Sum } from '../parts/layout.jsx';

const SHOWN = 100;
/** A session that runs so long is marked. */
const LONG_MS = 3 * 3_600_000;
/** What `session.list` sorts by. */
const ORDERS = ['last', 'cost', 'calls', 'started'];

export function Sessions() {
  const { query } = route.value;
  const status = query.status || 'active';
  const tools = (
    <>
      <Seg
        name="status"
        label="Which"
        of={[
          ['active', 'Active'],
          ['completed', 'Ended'],
          ['killed', 'Killed'],
          ['all', 'All'],
        ]}
      />
      <Pick
        name="sort"
        label="Sort"
        of={[
          ['', 'last call'],
          ['cost', 'dearest'],
          ['calls', 'most calls'],
          ['started', 'newest'],
        ]}
      />
      <Filters but={query.id ? 'tenant' : ''} />
    </>
  );
  const data = useCalls(
    [
      [
        'session.list',
        {
          limit: 1000,
          ...(ORDERS.includes(query.sort) ? { sort: query.sort } : {}),
          ...(status === 'all' ? {} : { status }),
          ...(query.tenant && !query.id ? { tenant: query.tenant } : {}),
          ...(status === 'active' ? {} : { last: '7d' }),
        },
      ],
      ['alert.list', { type: 'loop_detected', last: '24h', limit: 200 }],
    ],
    { on: ['session.changes'], every: 15_000 },
  );
  const [list, alerts] = data.results;
  const looped = new Set(
    ((alerts && alerts.value) || { alerts: [] }).alerts.map((alert) => alert.details.session || alert.about),
  );
  // A wide window shows the first one beside the list, and keeps it while others come and go above it.
  const first = useRef(null);
  if (query.id) first.current = null;
  else if (!first.current && list?.value && innerWidth > 1100) first.current = filtered(list.value.sessions, query)[0] ?? null;
  const shown = query.id ? { id: query.id, tenant: query.tenant ?? '' } : first.current;
  return (
    <Page title="Sessions" tools={tools} split chosen={Boolean(query.id)}>
      <div class="list">
        {!data.ready ? (
          <div class="inset">
            <Skeleton rows={12} />
          </div>
        ) : list.value ? (
          <List sessions={list.value.sessions} looped={looped} status={status} shown={shown} />
        ) : (
          <div class="inset">
            <Failure error={list.error} retry={data.reload} />
          </div>
        )}
      </div>
      <div class="detail">
        {shown && (
          <Found
            key={`${shown.tenant ?? ''}/${shown.id}`}
            id={shown.id}
            tenant={query.id ? query.tenant : shown.tenant}
            looped={looped}
          />
        )}
      </div>
    </Page>
  );
}

/** The sessions that the filters leave, in the order in which the gateway sorted them. */
function filtered(sessions, query) {
  return sessions.filter((one) => ['agent', 'user'].every((name) => !query[name] || one[name] === query[name]));
}

function List({ sessions, looped, status, shown }) {
  const { query } = route.value;
  const [text, setText] = useState('');
  const at = now();
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const fits = (one) =>
    words.every((word) => `${one.agent} ${one.id} ${one.user} ${one.task} ${one.tenant}`.toLowerCase().includes(word));
  const rows = filtered(sessions, query).filter(fits);
  return (
    <>
      <div class="inset list-head">
        <span class="cap">
          {count(rows.length)} {status === 'all' ? 'sessions' : status === 'completed' ? 'ended' : status}
          {status === 'active' ? '' : ' in 7 days'}
        </span>
        <label class="field">
          <span class="sr">Search</span>
          <input
            data-search
            value={text}
            placeholder="Agent, session, user, task"
            onInput={(event) => setText(event.target.value)}
            autocomplete="off"
            spellcheck={false}
          />
          <kbd aria-hidden="true">/</kbd>
        </label>
      </div>
      {rows.length ? (
        <ul>
          {rows.slice(0, SHOWN).map((one) => (
            <Row
              key={`${one.tenant}/${one.id}`}
              one={one}
              at={at}
              looped={looped.has(one.id)}
              chosen={shown?.id === one.id && (shown.tenant ?? '') === one.tenant}
            />
          ))}
        </ul>
      ) : (
        <div class="inset">
          <Empty title="No session fits." line="X-Agent-Session: run-1" guide="How calls are put together" topic="identity">
            Calls with one X-Agent-Session are one run, and stand here with what it cost.
          </Empty>
        </div>
      )}
      {rows.length > SHOWN && <p class="inset cap pad-y">{count(rows.length - SHOWN)} more: search, or filter by agent.</p>}
    </>
  );
}

function Row({ one, at, looped, chosen }) {
  const end = one.ended ? Date.parse(one.ended) : one.running ? at : Date.parse(one.last_seen);
  const long = one.status === 'active' && at - Date.parse(one.started) > LONG_MS;
  return (
    <li>
      <a
        class="item plain"
        data-row
        aria-current={chosen ? 'true' : undefined}
        href={here({ id: one.id, tenant: one.tenant || null, do: null })}>
        <span class="name">
          <b>
            <Name of={one.agent} most={22} none="no agent" />
          </b>{' '}
          <span class="soft">
            <Id of={one.id} most={16} />
          </span>
        </span>
        <Usd of={one.cost_usd} cents />
        <span class="cap">
          {plural(one.calls, 'call')} · {lasted(end - Date.parse(one.started))}
          {one.running > 0 && ` · ${count(one.running)} running`}
        </span>
        <span>
          {one.status === 'killed' ? (
            <span class="tag stop">✕ killed</span>
          ) : one.status === 'completed' ? (
            <span class="tag">ended</span>
          ) : looped ? (
            <span class="tag warn">↻ loop</span>
          ) : long ? (
            <span class="tag warn">▲ long</span>
          ) : one.errors > 0 ? (
            <span class="tag warn">▲ {count(one.errors)} failed</span>
          ) : null}
        </span>
      </a>
    </li>
  );
}

/** An address without a tenant is of the session without one, or of the only one that there is. */
function Found({ id, tenant, looped }) {
  const data = useCalls([tenant === undefined ? ['session.get', { id }] : null], { every: 3_600_000 });
  if (tenant !== undefined) return <Detail id={id} tenant={tenant} looped={looped} />;
  if (!data.ready) return <Skeleton headline rows={12} />;
  const all = (data.results[0].value || { sessions: [] }).sessions;
  const one = all.find((session) => session.tenant === '') || all[0];
  if (one && one.tenant) go(here({ tenant: one.tenant }), { replace: true });
  return <Detail id={id} tenant="" looped={looped} />;
}

function Detail({ id, tenant, looped }) {
  const { query } = route.value;
  const data = useCalls(
    [
      ['session.get', { id, tenant }],
      ['session.tree', { id, tenant }],
      ['budget.status', { account: `session:${id}` }],
      ['hold.list'],
    ],
    { on: [['session.changes', { session: id }]], every: 20_000 },
  );
  const [got, tree, budgets, holds] = data.results.map((result) => result.value);
  if (!data.ready) return <Skeleton headline rows={12} />;
  if (!got) return <Failure error={data.results[0].error} retry={data.reload} />;
  const session = got.sessions[0];
  if (!session)
    return (
      <Empty
        title="There is no such session."
        line="agentledger sessions"
        guide="How calls are put together"
        topic="identity">
        It may be another tenant’s, or older than what is kept.
      </Empty>
    );
  const budget = budgets && budgetRows(budgets.budgets).find((row) => row.account === `session:${id}` && row.unit === 'usd');
  const running = (holds ? holds.holds : []).filter((hold) => hold.session === id && hold.tenant === tenant);
  const kill = () => killing({ id, tenant, session, running });
  if (query.do === 'kill' && session.status === 'active') {
    go(here({ do: null }), { replace: true });
    kill();
  }
  return (
    <>
      <Heading {...{ session, looped: looped.has(id), kill }} />
      <Sums {...{ session, tree, budget }} />
      {tree && tree.cut && (
        <p class="cap">
          The steps tell of {count(tree.shown)} of {count(tree.sums.calls)} calls: the tree is larger than one answer.
        </p>
      )}
      {tree ? <Tree tree={tree} running={running} /> : <Failure error={data.results[1].error} retry={data.reload} />}
    </>
  );
}

function Heading({ session, looped, kill }) {
  const { id, tenant, status } = session;
  return (
    <div class="detail-head">
      <div>
        <h2 class="title">
          <a class="button back" data-key="Escape" href={here({ id: null, tenant: null })}>
            Back
          </a>{' '}
          <Name of={session.agent} most={40} none="no agent" /> <Id of={id} most={28} />{' '}
          {looped && <span class="tag warn">↻ loop</span>}{' '}
          <span class={`tag${status === 'killed' ? ' stop' : ''}`}>
            {status === 'killed' && '✕ '}
            {status === 'completed' ? 'ended' : status}
          </span>
        </h2>
        <p class="cap">
          {about(session)
            .filter(Boolean)
            .map((part, i) => (
              <span key={i}>
                {i > 0 && ' · '}
                {part}
              </span>
            ))}
        </p>
      </div>
      {status === 'active' && (
        <div class="row-of">
          <button type="button" class="button" onClick={() => ending({ id, tenant })}>
            End
          </button>
          <a class="button" href={to('budgets', { do: 'new', account: `session:${id}` })}>
            Budget
          </a>
          <button type="button" class="button kill" data-key="x" onClick={kill}>
            Kill <kbd aria-hidden="true">x</kbd>
          </button>
        </div>
      )}
    </div>
  );
}

const about = ({ tenant, user, task, parent, started }) => [
  tenant && (
    <>
      tenant <Name of={tenant} most={32} />
    </>
  ),
  user && (
    <>
      user <Name of={user} most={32} />
    </>
  ),
  task && (
    <>
      task “<Name of={task} most={48} />”
    </>
  ),
  parent && (
    <>
      started by{' '}
      <a href={here({ id: parent })}>
        <Id of={parent} />
      </a>
    </>
  ),
  <>since {moment(started, now())}</>,
];

function Sums({ session, tree, budget }) {
  const { id, tenant } = session;
  const sums = (tree && tree.sums) || {};
  const tokens = sums.usage ? readOf(sums.usage) + writtenOf(sums.usage) : session.tokens;
  const cached = cachedOf(sums.usage);
  const failed = session.errors > 0 ? `${count(session.errors)} failed` : 'none failed';
  return (
    <div class="session-sums">
      <div>
        <div class="cap">Cost so far{tree && tree.subagents ? `, with ${plural(tree.subagents, 'subagent')}` : ''}</div>
        <a class="headline plain" data-key="o" href={to('calls', { session: id, tenant, last: '7d' })}>
          <Usd of={sums.cost_usd ?? session.cost_usd} cents class="headline" />
        </a>
      </div>
      {budget ? (
        <OwnBudget row={budget} />
      ) : (
        <Sum caption="Session budget">
          <span class="none">none</span>
        </Sum>
      )}
      <Sum caption="Calls" note={sums.refused > 0 ? `${count(sums.refused)} refused` : failed}>
        {count(sums.calls ?? session.calls)}
      </Sum>
      <Sum caption="From cache" note={sums.saved_usd === undefined ? '' : `saved ${usd(sums.saved_usd)}`}>
        {Number.isFinite(cached) ? percent(cached, 0) : <None />}
      </Sum>
      <Sum caption="Tokens" note={sums.usage && tokens > 0 ? `${percent(writtenOf(sums.usage) / tokens)} written` : ''}>
        {compact(tokens)}
      </Sum>
    </div>
  );
}

function OwnBudget({ row }) {
  return (
    <div>
      <div class="near-head">
        <span class="cap">Session budget</span>
        <span class="cap">
          {row.left === undefined ? (
            <None />
          ) : (
            <>
              <b>{usd(row.left)}</b> left
            </>
          )}{' '}
          of {limit(row.limit)}
        </span>
      </div>
      <BudgetBar row={row} label={`${row.spent} of ${row.limit}`} />
      <div class="cap">
        <Held />
        {usd(row.held, 4)} held
      </div>
    </div>
  );
}

function killing({ id, tenant, session, running }) {
  ask({
    title: 'Kill this session',
    verb: 'Kill the session',
    danger: true,
    body: (
      <>
        <p>
          <Stop />{' '}
          <b>
            <Name of={session.agent} most={40} none="no agent" />
          </b>{' '}
          <Id of={id} most={28} />
        </p>
        <p>
          {running.length ? (
            <>
              It cuts {plural(running.length, 'running call')}, for which{' '}
              {running.length === 1 ? (
                <>
                  <Held />
                  <Usd of={running[0].held_usd} places={4} quiet /> is held
                </>
              ) : (
                'money is held'
              )}
              ; what was answered so far is billed.
            </>
          ) : (
            'No call runs now.'
          )}{' '}
          Further calls of it are refused.
        </p>
      </>
    ),
    run: async (_, request) => {
      await change('session.kill', { id, tenant, note: 'in the dashboard' }, request);
      say('The session is killed.');
    },
  });
}

function ending({ id, tenant }) {
  ask({
    title: 'End this session',
    verb: 'End it',
    body: <p>It is marked as completed. A further call with its name begins it anew.</p>,
    run: async (_, request) => {
      await change('session.end', { id, tenant, note: 'in the dashboard' }, request);
      say('The session has ended.');
    },
  });
}
