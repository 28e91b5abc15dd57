// Which tools, what do they cost, which changed.

import { count, NONE, pixels, plural } from '../format.js';
import { change, now } from '../rpc.js';
import { useCalls } from '../data.js';
import { date, moment, span } from '../time.js';
import { here, route, to } from '../route.js';
import { Page } from '../shell.jsx';
import { Held, Id, Name, None, Usd, Warn } from '../parts/text.jsx';
import { Empty, Failure, Skeleton } from '../parts/states.jsx';
import { Table } from '../parts/table.jsx';
import { Periods } from '../parts/controls.jsx';
import { ask, say } from '../parts/sheet.jsx';
import { Sum } from '../parts/layout.jsx';

const TRANSPORTS = { http: 'HTTP', stdio: 'started by its client' };

export function Mcp() {
  const { query } = route.value;
  const minute = Math.floor(now() / 60_000) * 60_000;
  const range = span(query, minute, '24h');
  const since = { from: new Date(range.from).toISOString() };
  const data = useCalls(
    [
      ['mcp.servers', since],
      ['ledger.summary', { by: 'tag:server', ...since }],
      ['ledger.summary', { by: 'tag:tool', ...since }],
      ['ledger.summary', { by: 'provider', ...since }],
    ],
    { on: ['hold.changes', 'alert.feed'], every: 30_000 },
  );
  const [servers, byServer, byTool] = data.results.map((result) => result.value);
  // A gateway that does not list its servers: those whose tools were called.
  const list = servers
    ? servers.servers
    : byServer
      ? byServer.rows
          .filter((row) => row.tag)
          .map((row) => ({ name: row.tag, calls: row.requests, failed: row.errors, spent_usd: row.cost_usd }))
      : null;
  const name = query.server || (list && list[0] && innerWidth > 1100 ? list[0].name : '');
  const chosen = list && list.find((one) => one.name === name);
  return (
    <Page title="MCP" split chosen={Boolean(query.server)} tools={<Periods fallback="24h" of={['24h', '7d', '30d']} />}>
      <div class="list">
        <div class="inset list-head plainhead">
          <span class="cap">{list ? plural(list.length, 'server') : ''}</span>
          <span class="cap">Spent, {range.label}</span>
        </div>
        {!data.ready ? (
          <div class="inset">
            <Skeleton rows={6} />
          </div>
        ) : !list ? (
          <div class="inset">
            <Failure error={data.results[1].error} retry={data.reload} />
          </div>
        ) : list.length === 0 ? null : (
          <ul>
            {list.map((one) => (
              <li key={one.name}>
                <a
                  class="item plain"
                  data-row
                  aria-current={one.name === name ? 'true' : undefined}
                  href={here({ server: one.name })}>
                  <span class="name">
                    <b>
                      <Name of={one.name} most={24} />
                    </b>
                  </span>
                  <Usd of={one.spent_usd} cents />
                  <span class="cap">
                    {TRANSPORTS[one.transport] || plural(one.calls, 'call')}
                  </span>
                  <span>
                    {(one.tools || []).some((tool) => tool.changed) && (
                      <span class="warnx cap">
                        <Warn /> {plural(one.tools.filter((tool) => tool.changed).length, 'tool')} changed
                      </span>
                    )}
                  </span>
                </a>
              </li>
            ))}
          </ul>
        )}
        <p class="inset pad-y cap">
          Add a server: <span class="mono">mcp-wrap --print-config</span> or <a href="/guide/mcp">Guide, MCP</a>
        </p>
      </div>
      <div class="detail">
        {chosen ? (
          <Server key={name} server={chosen} tools={byTool} range={range} />
        ) : (
          data.ready &&
          list &&
          !list.length && (
            <Empty
              title="No tool was called."
              line="agentledger mcp-wrap --server files --print-config claude-code -- npx -y @modelcontextprotocol/server-filesystem ."
              guide="How tools come into the books"
              topic="mcp">
              Servers stand here with what their tools cost.
            </Empty>
          )
        )}
      </div>
    </Page>
  );
}

function toolColumns(range) {
  return [
    {
      key: 'name',
      head: 'Tool',
      sort: 'text',
      phone: 1,
      cell: (tool) => (
        <>
          <Name of={tool.name} most={40} />
          {tool.changed && (
            <>
              {' '}
              <span class="tag warn">▲ changed</span>
            </>
          )}
        </>
      ),
    },
    {
      key: 'price',
      far: true,
      head: 'Price',
      phone: 3,
      cell: (tool) => (
        <span class="cap">
          <Name of={tool.price} most={48} none="–" />
        </span>
      ),
    },
    { key: 'calls', head: 'Calls', num: true, sort: 'number', phone: 4, cell: (tool) => count(tool.calls) },
    { key: 'failed', head: 'Failed', num: true, sort: 'number', cell: (tool) => (tool.failed ? count(tool.failed) : <None />) },
    {
      key: 'held_usd',
      head: 'Held',
      num: true,
      sort: 'money',
      cell: (tool) =>
        pixels(tool.held_usd) > 0 ? (
          <>
            <Held />
            <Usd of={tool.held_usd} places={4} quiet />
          </>
        ) : (
          <None />
        ),
    },
    {
      key: 'spent_usd',
      head: 'Spent',
      num: true,
      sort: 'money',
      phone: 2,
      cell: (tool) => (
        <a href={to('calls', { tool: tool.name, last: range.last })}>
          <Usd of={tool.spent_usd} cents />
        </a>
      ),
    },
  ];
}

function Server({ server, tools, range }) {
  const called = tools ? tools.rows.filter((row) => row.tag) : [];
  const rows =
    server.tools || called.map((row) => ({ name: row.tag, calls: row.requests, failed: row.errors, spent_usd: row.cost_usd }));
  const sum = {
    name: 'All',
    calls: count(server.calls),
    failed: server.failed ? count(server.failed) : NONE,
    spent_usd: <Usd of={server.spent_usd} cents />,
  };
  return (
    <>
      <Heading server={server} />
      <div class="session-sums mcp-sums">
        <div>
          <div class="cap">Spent on tools, {range.label}</div>
          <a class="headline plain" data-key="o" href={to('calls', { 'tag:server': server.name, last: range.last })}>
            <Usd of={server.spent_usd} cents class="headline" />
          </a>
        </div>
        <Sum caption="Calls" note={server.failed ? `${count(server.failed)} failed` : 'none failed'}>
          {count(server.calls)}
        </Sum>
        <Sum
          caption={
            <>
              <Held />
              Held now
            </>
          }
          note={server.held_calls === undefined ? NONE : plural(server.held_calls, 'call')}>
          {server.held_usd === undefined ? <None /> : <Usd of={server.held_usd} />}
        </Sum>
      </div>
      {rows
        .filter((tool) => tool.changed)
        .map((tool) => (
          <Changed key={tool.name} server={server} tool={tool} at={now()} />
        ))}
      <h3 class="head2 gap-y">
        Tools <small class="cap">{count(rows.length)}, dearest first</small>
      </h3>
      {rows.length ? (
        <Table
          label="Tools"
          columns={toolColumns(range)}
          rows={rows}
          id={(tool) => tool.name}
          sort="-spent_usd"
          file={`tools-of-${server.name}`}
          sum={sum}
        />
      ) : (
        <p class="soft pad-y">None of its tools was called in this period.</p>
      )}
    </>
  );
}

function Heading({ server }) {
  return (
    <div class="detail-head">
      <div>
        <h2 class="title">
          <a class="button back" data-key="Escape" href={here({ server: null })}>
            Back
          </a>{' '}
          <Name of={server.name} most={40} />{' '}
          <small class="soft">
            {TRANSPORTS[server.transport] || ''}
          </small>{' '}
          {server.pin && <span class="tag">{server.pin === 'refuse' ? 'changes refused' : 'changes alerted'}</span>}
        </h2>
        <p class="cap">
          {server.path && <span class="mono">{server.path}</span>}
          {server.pinned_since && ` · tool lists pinned since ${date(server.pinned_since)}`}
        </p>
      </div>
      <div class="row-of">
        <a class="button" href="/prices?provider=mcp">
          Prices
        </a>
        <a class="button" href={to('policies', { name: 'tools' })}>
          Who may call
        </a>
      </div>
    </div>
  );
}

/** A tool that says something else of itself than when it was pinned. */
function Changed({ server, tool, at }) {
  const { changed } = tool;
  const decide = (accept) =>
    ask({
      title: accept ? `Accept ${tool.name} as it is now` : `Go on refusing ${tool.name}`,
      verb: accept ? 'Accept the change' : 'Keep refusing',
      danger: accept,
      body: (
        <p>
          {accept
            ? 'Agents read its new words from the next list on, and its calls are let through.'
            : 'It stays out of lists, and its calls are refused.'}
        </p>
      ),
      run: async (_, id) => {
        await change(
          'mcp.decide',
          { server: server.name, tool: tool.name, definition: changed.now, accept, note: 'in the dashboard' },
          id,
        );
        say(accept ? 'The change is accepted.' : 'It stays refused.');
      },
    });
  return (
    <div class="note warn">
      <div class="detail-head">
        <p>
          <b class="warnx">
            <Warn /> <Name of={tool.name} most={40} /> describes itself differently{changed.since ? ` since ${moment(changed.since, at)}` : ''}.
          </b>{' '}
          <span class="soft">
            {plural(changed.refused, 'call')} refused since.{changed.is_refused && ' It stays refused.'}
          </span>
        </p>
        {changed.now && (
          <div class="row-of">
            <button type="button" class="button" onClick={() => decide(true)}>
              Accept the change
            </button>
            {!changed.is_refused && (
              <button type="button" class="button main" onClick={() => decide(false)}>
                Keep refusing
              </button>
            )}
          </div>
        )}
      </div>
      <pre class="code bare">
        {(changed.lines || []).map(([sign, line], i) => (
          <span key={i} class={`line ${sign === '+' ? 'in' : sign === '-' ? 'out' : ''}`}>
            <b>{sign}</b>
            <code>
              <Name of={line} most={512} />
            </code>
          </span>
        ))}
      </pre>
      <p class="cap">
        Pinned <Id of={changed.pinned} most={10} />
        {changed.pinned_at && ` on ${date(changed.pinned_at)}`}
        {changed.pinned_by ? (
          <>
            {' '}
            by <Name of={changed.pinned_by} most={24} />
          </>
        ) : (
          ' when it was first seen'
        )}{' '}
        {changed.now && (
          <>
            · now <Id of={changed.now} most={10} />
          </>
        )}
      </p>
    </div>
  );
}
