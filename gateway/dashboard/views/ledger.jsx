// Are the books whole: the chain, its months, its backups, its journal.

import { useEffect, useState } from 'preact/hooks';
import { bytes, count, NONE, plural } from '../format.js';
import { call, change, now } from '../rpc.js';
import { useCalls } from '../data.js';
import { moment, MONTHS } from '../time.js';
import { here, route, to } from '../route.js';
import { DETAIL, middle } from '../text.js';
import { Page } from '../shell.jsx';
import { copy, Id, Name, None, Usd, Warn } from '../parts/text.jsx';
import { Empty, Failure, Skeleton } from '../parts/states.jsx';
import { Table } from '../parts/table.jsx';
import { Seg } from '../parts/controls.jsx';
import { ask, Field, say } from '../parts/sheet.jsx';

/** How often a walk that runs is looked at. */
const WALK_POLL_MS = 1_000;
const NO_WALK = { job: '', state: 'none' };

export function Ledger() {
  const { query } = route.value;
  const data = useCalls(
    [
      ['system.status'],
      ['ledger.months'],
      ['system.backups'],
      ['ledger.journal', { limit: 40, ...(Number(query.before) > 0 ? { before: Number(query.before) } : {}) }],
      ['ledger.verify_status'],
    ],
    { on: ['ledger.tail'], every: 15_000 },
  );
  const show = query.show || '';
  return (
    <Page
      title="Ledger"
      tools={
        <Seg
          name="show"
          label="Show"
          of={[
            ['', 'Chain'],
            ['journal', 'Journal'],
            ['backups', 'Backups'],
          ]}
        />
      }>
      {data.ready ? <Chain data={data} show={show} /> : <Skeleton headline rows={10} />}
    </Page>
  );
}

function Chain({ data, show }) {
  const [status, months, backups, journal, polled] = data.results.map((result) => result.value);
  const [walk, verify] = useWalk(polled, data.reload);
  const at = now();
  if (!status) return <Failure error={data.results[0].error} retry={data.reload} />;
  if (!status.head)
    return (
      <Empty
        title="The books belong to the whole installation."
        line="agentledger verify"
        guide="How the ledger is checked"
        topic="operations">
        This token is bound to one tenant.
      </Empty>
    );
  const known = `Events, sums and heads by month: ${NONE}`;
  return (
    <>
      <Heading status={status} verify={verify} running={walk.state === 'running'} />
      <Walk walk={walk} retry={verify} />
      <div class="two ledger-two">
        {!show && (
          <section class="block">
            <h2 class="head">Months</h2>
            {months ? <Months rows={months.months} at={at} /> : <p class="soft pad-y">{known}</p>}
          </section>
        )}
        {show !== 'journal' && (
          <section class="block">
            <h2 class="head">
              Backups <small>
                {backups && (backups.every ? `every ${backups.every}, ${count(backups.keep)} kept` : 'no schedule: backup.every')}
              </small>
            </h2>
            {backups && backups.backups.length > 0 ? (
              <Backups rows={backups.backups} at={at} />
            ) : backups ? (
              <p class="soft pad-y">None was written by a schedule.</p>
            ) : (
              <p class="soft pad-y">What was written, and when: {NONE}</p>
            )}
          </section>
        )}
      </div>
      {show !== 'backups' && (
        <section class="block">
          <h2 class="head">
            Journal <small>latest first</small>
          </h2>
          {journal ? (
            <>
              <Journal rows={journal.events} at={at} />
              <p class="row-of pad-y">
                {route.value.query.before && (
                  <a class="button" href={here({ before: null })}>
                    Latest
                  </a>
                )}
                {journal.next && (
                  <a class="button" href={here({ before: String(journal.next) })}>
                    Older
                  </a>
                )}
              </p>
            </>
          ) : (
            <p class="soft pad-y">
              Events as they come: {NONE}. Entries stand in <a href="/calls">Calls</a>, changes in <a href="/audit">Audit</a>.
            </p>
          )}
        </section>
      )}
    </>
  );
}

const DURABILITY = { strict: 'strict: on disk before it is answered', relaxed: 'relaxed: on disk within 5 ms' };

function Heading({ status, verify, running }) {
  const [sequence, hash] = status.head.split(':');
  const copyHead = async () => say((await copy(status.head)) ? 'The head is copied.' : status.head);
  return (
    <div class="detail-head block">
      <div>
        <div class="cap">Head of the chain</div>
        <div class="hash mono" title={hash}>
          {hash.match(/.{4}/g).slice(0, 6).join(' ')}{' '}
          <span class="faint">
            … {hash.slice(-8, -4)} {hash.slice(-4)}
          </span>
        </div>
        <p class="cap">
          {count(Number(sequence))} events · {plural(status.holds_open, 'open hold')}
          {status.storage &&
            ` · ${DURABILITY[status.storage.durability] || status.storage.durability} · ${bytes(status.storage.bytes)}`}
        </p>
      </div>
      <div class="row-of">
        <button type="button" class="button" data-key="c" onClick={copyHead}>
          Copy head <kbd aria-hidden="true">c</kbd>
        </button>
        <button type="button" class="button" onClick={backUp}>
          Back up now
        </button>
        <button type="button" class="button" onClick={verify} aria-disabled={running}>
          Verify
        </button>
      </div>
    </div>
  );
}

/** The walk over the journal that was begun last, here or elsewhere, and what begins one. */
function useWalk(polled, reload) {
  const [own, setOwn] = useState(null);
  // Ids ascend with time: what somebody else began later counts.
  const walk = own && (own.error || own.job >= (polled ? polled.job : '')) ? own : polled || NO_WALK;
  const running = walk.state === 'running';
  const ask = (method) =>
    call(method, {}).then(setOwn, (error) => setOwn({ job: '', state: 'failed', error: error.message, fault: error }));
  useEffect(() => {
    if (!running) return undefined;
    const beat = setInterval(() => !document.hidden && ask('ledger.verify_status'), WALK_POLL_MS);
    return () => {
      clearInterval(beat);
      // Its end is news for the months.
      reload();
    };
  }, [running]);
  return [walk, () => ask('ledger.verify_start')];
}

function Walk({ walk, retry }) {
  if (walk.state === 'none') return null;
  if (walk.fault) return <Failure error={walk.fault} retry={retry} />;
  if (walk.state === 'running')
    return (
      <div class="note block" role="status">
        <p>
          <b>Verifying</b> event {count(walk.events)} of {count(walk.events_in_all)}, started {moment(walk.began, now())}
        </p>
        <progress aria-label="Verifying" value={walk.events} max={Math.max(1, walk.events_in_all)} />
        <p class="soft">No damage so far. A break would name its event, its month and what still stands before it.</p>
      </div>
    );
  const found = walk.result;
  if (!found)
    return (
      <p class="note block warn" role="status">
        The walk ended early: <Name of={walk.error} most={DETAIL} />
      </p>
    );
  return (
    <div class={`note block${found.ok ? '' : ' warn'}`} role="status">
      <p>
        {found.ok ? (
          <>
            <b>The chain is whole.</b> {count(found.events)} events, {count(found.entries)} entries,{' '}
            {plural(found.months.length, 'month')}; checked {moment(walk.ended, now())}.
          </>
        ) : (
          <b class="warnx">
            <Warn /> The chain is damaged.
          </b>
        )}
      </p>
      {found.damage.map((line) => (
        <p key={line}>
          <Name of={line} most={DETAIL} />
        </p>
      ))}
      <p class="cap">
        Up to <Id of={found.head} most={32} />
      </p>
    </div>
  );
}

const monthWords = (month) => `${MONTHS[Number(month.slice(5)) - 1]} ${month.slice(0, 4)}`;

function monthColumns(at) {
  return [
    { key: 'month', head: 'Month, UTC', phone: 1, class: 'nowrap', cell: (row) => <b>{monthWords(row.month)}</b> },
    { key: 'state', head: '', spoken: 'State', csv: false, phone: 3, cell: (row) => <span class="soft">{row.state}</span> },
    { key: 'events', head: 'Events', num: true, cell: (row) => count(row.events) },
    { key: 'entries', head: 'Entries', num: true, cell: (row) => count(row.entries) },
    {
      key: 'spent_usd',
      head: 'Spent',
      num: true,
      phone: 2,
      cell: (row) => (
        <a href={to('calls', { from: `${row.month}-01T00:00:00.000Z` })}>
          <Usd of={row.spent_usd} cents />
        </a>
      ),
    },
    {
      key: 'head',
      far: true,
      head: 'Head',
      cell: (row) => (
        <span class="mono soft" title={row.head}>
          {middle(row.head.split(':').pop(), 10)}
        </span>
      ),
    },
    {
      key: 'closed',
      far: true,
      head: 'Closed',
      class: 'nowrap soft',
      cell: (row) => (row.closed ? moment(row.closed, at) : 'now'),
    },
    {
      key: 'verified',
      head: 'Verified',
      num: true,
      class: 'soft',
      phone: 4,
      cell: (row) => (row.verified ? `✓ ${moment(row.verified, at)}` : <None />),
    },
  ];
}

function Months({ rows, at }) {
  const columns = monthColumns(at);
  return <Table label="Months" name="months" columns={columns} rows={rows} id={(row) => row.month} />;
}

function Backups({ rows, at }) {
  return (
    <table aria-label="Backups">
      <thead>
        <tr>
          <th scope="col">Taken, UTC</th>
          <th scope="col" class="num">
            Size
          </th>
        </tr>
      </thead>
      <tbody>
        {rows.map((row) => (
          <tr key={row.at}>
            <td>
              {row.state === 'failed' ? (
                <span class="warnx">
                  <Warn /> {moment(row.at, at)} <Name of={row.why} most={48} />
                </span>
              ) : (
                <>
                  ✓ {moment(row.at, at)}{' '}
                  <span class="soft">
                    <Name of={row.why} most={32} none="" />
                  </span>
                </>
              )}
            </td>
            <td class="num soft">{row.bytes ? bytes(row.bytes) : <None />}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function journalColumns(at) {
  return [
    { key: 'at', head: 'Time, UTC', class: 'nowrap soft', phone: 4, cell: (row) => moment(row.at, at) },
    { key: 'kind', head: 'Event', phone: 3, cell: (row) => row.kind.replaceAll('_', ' ') },
    {
      key: 'who',
      head: 'Who',
      phone: 1,
      csv: false,
      cell: (row) => (
        <>
          <Name of={row.agent || (row.session ? '' : row.who)} most={28} none={row.session ? '' : undefined} />
          {row.agent && row.session && ' · '}
          {row.session && <Name of={row.session} most={28} />}
        </>
      ),
    },
    {
      key: 'what',
      head: 'What',
      cell: (row) => (
        <span class="soft">
          <Name of={row.what} most={40} />
        </span>
      ),
    },
    {
      key: 'usd',
      head: 'Money',
      num: true,
      phone: 2,
      cell: (row) =>
        row.usd === undefined ? <None /> : <Usd of={row.usd} places={4} estimated={row.estimated ? 'estimated' : ''} />,
    },
    {
      key: 'hash',
      far: true,
      head: 'Hash',
      num: true,
      cell: (row) => (
        <span class="mono soft" title={row.hash}>
          {middle(row.hash, 10)}
        </span>
      ),
    },
  ];
}

function Journal({ rows, at }) {
  const columns = journalColumns(at);
  return (
    <Table label="Journal" name="journal" columns={columns} rows={rows} id={(row) => row.sequence} paged={false} file="journal" />
  );
}

const backUp = () =>
  ask({
    title: 'Back up now',
    verb: 'Write the archive',
    body: (
      <>
        <Field
          label="Where, on the gateway’s machine; the file must not be there"
          name="path"
          value={`/var/backups/agentledger-${new Date(now()).toISOString().slice(0, 10)}.tar.zst`}
          required
        />
        <p class="cap">It holds the secret by which keys are named: keep it as you keep the ledger.</p>
      </>
    ),
    run: async (form, id) => {
      const result = await change('system.backup', { path: form.path.trim() }, id);
      say(`${bytes(result.bytes)} are written, ${count(result.events)} events.`);
    },
  });
