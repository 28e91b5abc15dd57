// What needs a person, and how far its telling has come.

import { count, plural } from '../format.js';
import { change, now } from '../rpc.js';
import { useCalls } from '../data.js';
import { moment } from '../time.js';
import { here, route } from '../route.js';
import { DETAIL } from '../text.js';
import { Page } from '../shell.jsx';
import { Loop, Name, None, Stop, Warn } from '../parts/text.jsx';
import { Empty, Failure, Skeleton } from '../parts/states.jsx';
import { Table } from '../parts/table.jsx';
import { Seg } from '../parts/controls.jsx';
import { ask, Field, say } from '../parts/sheet.jsx';
import { Facts, Section, Side, Top } from '../parts/layout.jsx';

const SIGN = { loop_detected: <Loop />, budget_exceeded: <Stop /> };

export function Alerts() {
  const { query } = route.value;
  const state = query.state || '';
  const data = useCalls(
    [
      [
        'alert.list',
        { limit: 1000, ...(state && state !== 'loud' ? { state } : {}), ...(query.type ? { type: query.type } : {}) },
      ],
    ],
    { on: ['alert.feed'], every: 20_000 },
  );
  const tools = (
    <>
      <Seg
        name="state"
        label="Which"
        of={[
          ['', 'All'],
          ['failed', 'Not delivered'],
          ['dead', 'Given up'],
          ['silenced', 'Silenced'],
        ]}
      />
      <button type="button" class="button" data-key="n" onClick={() => silence({})}>
        Silence <kbd aria-hidden="true">n</kbd>
      </button>
      <button type="button" class="button" onClick={test}>
        Send a test
      </button>
    </>
  );
  const result = data.results[0];
  return (
    <Page title="Alerts" tools={tools}>
      {!data.ready ? (
        <Skeleton headline rows={10} />
      ) : result.value ? (
        <AlertRows value={result.value} query={query} />
      ) : (
        <Failure error={result.error} retry={data.reload} />
      )}
    </Page>
  );
}

function alertColumns({ at, query }) {
  return [
    { key: 'at', head: 'Time, UTC', sort: 'text', class: 'nowrap soft', phone: 4, cell: (one) => moment(one.at, at) },
    {
      key: 'message',
      head: 'What',
      phone: 1,
      class: 'widest',
      cell: (one) => (
        <>
          {SIGN[one.type] || (one.severity === 'info' ? null : <Warn label={one.severity} />)}{' '}
          <Name of={one.message} most={110} />
          {one.folded > 0 && (
            <>
              {' '}
              <span class="tag">and {count(one.folded)} like it</span>
            </>
          )}
        </>
      ),
    },
    {
      key: 'type',
      head: 'Kind',
      sort: 'text',
      phone: 3,
      cell: (one) => (
        <a class="soft" href={here({ type: query.type === one.type ? null : one.type })}>
          {one.type.replaceAll('_', ' ')}
        </a>
      ),
    },
    { key: 'tenant', far: true, head: 'Tenant', cell: (one) => <Name of={one.tenant} most={24} /> },
    { key: 'sent', head: 'Delivered', phone: 2, cell: (one) => <Deliveries all={one.deliveries || []} /> },
    {
      key: 'act',
      head: '',
      spoken: 'Act',
      num: true,
      csv: false,
      cell: (one) => (
        <span class="nowrap">
          {(one.deliveries || []).some((each) => each.state === 'dead') && (
            <button type="button" class="state" onClick={() => retry(one)}>
              <u>Retry</u>
            </button>
          )}
          <button type="button" class="state" onClick={() => silence(one)}>
            <u>Silence</u>
          </button>
        </span>
      ),
    },
  ];
}

function AlertRows({ value, query }) {
  const at = now();
  const rows = value.alerts;
  const open = rows.filter((one) => one.severity !== 'info').length;
  const chosen = rows.find((one) => one.id === query.id);
  const silenced = value.silences.length ? `${plural(value.silences.length, 'silence')} in force` : 'Nothing is silenced.';
  return (
    <div class={`withside${chosen ? ' chosen' : ''}`}>
      <div class="listing first">
        <Top
          caption="Want a look"
          figure={count(open)}
          beside={
            <>
              <p>{plural(rows.length, 'alert')} remembered</p>
              <p class="soft">{silenced}</p>
            </>
          }
        />
        {value.silences.length > 0 && <Silences all={value.silences} at={at} />}
        {rows.length ? (
          <Table
            label="Alerts"
            columns={alertColumns({ at, query })}
            rows={rows}
            id={(one) => one.id}
            selected={query.id}
            open={(one) => here({ id: one.id })}
            file="alerts"
          />
        ) : (
          <Empty title="No alert." line="agentledger alerts test slack" guide="What alerts there are" topic="alerts">
            What needs a person stands here, and how far its telling has come.
          </Empty>
        )}
      </div>
      {chosen && <AlertDetail one={chosen} at={at} />}
    </div>
  );
}

function Silences({ all, at }) {
  const end = (one) =>
    change('alert.unsilence', { id: one.id, note: 'in the dashboard' }).then(
      () => say('It is told again.'),
      (error) => say(error.message),
    );
  return (
    <ul class="silences">
      {all.map((one) => (
        <li key={one.id} class="row-of">
          <span>
            Silenced until {moment(one.until, at)}: <Name of={one.type || 'every kind'} most={32} />{' '}
            {one.about && (
              <>
                about <Name of={one.about} most={32} />
              </>
            )}
          </span>
          <button type="button" class="state" onClick={() => end(one)}>
            <u>End it</u>
          </button>
        </li>
      ))}
    </ul>
  );
}

function AlertDetail({ one, at }) {
  const facts = [
    ['When', moment(one.at, at)],
    ['Severity', one.severity],
    ['About', <Name of={one.about} most={DETAIL} />],
    ['Raised by', <Name of={one.policy || 'the gateway'} />],
    ...Object.entries(one.details).map(([name, text]) => [name.replaceAll('_', ' '), <Name of={text} most={DETAIL} />]),
  ];
  return (
    <Side label="Alert" title={one.type.replaceAll('_', ' ')} close={here({ id: null })}>
      <p>
        <Name of={one.message} most={DETAIL} />
      </p>
      <Facts of={facts} />
      <Section title="Delivered">
        {(one.deliveries || []).map((each) => (
          <p key={each.receiver}>
            <Name of={each.receiver || 'silence'} />: {each.state}, {plural(each.attempts, 'attempt')}
            {each.error && (
              <span class="soft">
                . <Name of={each.error} most={DETAIL} />
              </span>
            )}
            {each.due && <span class="soft">, next {moment(each.due, at)}</span>}
          </p>
        ))}
      </Section>
    </Side>
  );
}

function Deliveries({ all }) {
  if (!all.length) return <None />;
  const bad = all.find((one) => one.state === 'dead') || all.find((one) => one.state === 'failed');
  if (bad)
    return (
      <span class="warnx nowrap">
        <Warn /> {bad.state === 'dead' ? 'given up' : `tried ${count(bad.attempts)} times`}
      </span>
    );
  return <span class="soft">{all.every((one) => one.state === 'delivered') ? 'yes' : all[0].state}</span>;
}

const silence = (one) =>
  ask({
    title: 'Silence alerts',
    verb: 'Silence',
    body: (
      <>
        <div class="pair">
          <Field label="Kind, or a pattern: budget_*" name="type" value={one.type || ''} />
          <Field label="About" name="about" value={one.about || ''} />
          <Field
            label="For how long"
            name="until"
            value="2h"
            options={[
              ['1h', '1 hour'],
              ['2h', '2 hours'],
              ['24h', 'a day'],
              ['7d', 'a week'],
            ]}
          />
          <Field label="Why, for the audit" name="note" />
        </div>
        <p class="cap">They are noted, and not delivered.</p>
      </>
    ),
    run: async (form, id) => {
      const result = await change(
        'alert.silence',
        { type: form.type, about: form.about, until: form.until, note: form.note, ...(one.tenant ? { tenant: one.tenant } : {}) },
        id,
      );
      say('Silenced.', () => change('alert.unsilence', { id: result.silence.id, note: 'undone in the dashboard' }));
    },
  });

const test = () =>
  ask({
    title: 'Send a test alert',
    verb: 'Send it',
    body: <Field label="Receiver: slack, webhook1, ops-hook" name="receiver" required />,
    run: async (form, id) => {
      await change('alert.test', { receiver: form.receiver }, id);
      say('It has arrived.');
    },
  });

const retry = (one) =>
  change('alert.retry', { id: one.id }).then(
    (result) => say(`${plural(result.retried, 'delivery', 'deliveries')} tried again.`),
    (error) => say(error.message),
  );
