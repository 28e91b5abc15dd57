// Who is near a rate.

import { age, count, NONE, plural } from '../format.js';
import { change } from '../rpc.js';
import { useCalls } from '../data.js';
import { here, to } from '../route.js';
import { Page } from '../shell.jsx';
import { Name, None } from '../parts/text.jsx';
import { Empty, Failure, Skeleton } from '../parts/states.jsx';
import { Table } from '../parts/table.jsx';
import { ask, Field, say } from '../parts/sheet.jsx';

const RATES = [
  ['requests_per_second', 'calls a second'],
  ['requests_per_minute', 'calls a minute'],
  ['requests_per_hour', 'calls an hour'],
  ['requests_per_day', 'calls a day'],
  ['tokens_per_minute', 'tokens a minute'],
  ['tokens_per_hour', 'tokens an hour'],
  ['tokens_per_day', 'tokens a day'],
  ['parallel', 'at one time'],
];

const WORDS = Object.fromEntries(RATES);

const undo = (result) =>
  result.change ? () => change('rule.revert', { change: result.change, note: 'undone in the dashboard' }) : null;

export function Rates() {
  const data = useCalls(
    [['rule.list', { policy: 'rate_limit' }], ['rate.status'], ['denial.list', { last: '24h', code: 'rate_' }]],
    { on: ['rule.changes'], every: 15_000 },
  );
  const tools = (
    <button type="button" class="button" data-key="n" onClick={() => setRate()}>
      Set a rate <kbd aria-hidden="true">n</kbd>
    </button>
  );
  return (
    <Page title="Rates" tools={tools}>
      {data.ready ? <RateRows data={data} /> : <Skeleton headline rows={8} />}
    </Page>
  );
}

function rateColumns() {
  return [
    { key: 'who', head: 'Who', sort: 'text', phone: 1, cell: (row) => <Name of={row.who} most={48} /> },
    { key: 'words', head: 'Rate', phone: 3, cell: (row) => <span class="soft">{row.words}</span> },
    { key: 'limit', head: 'Limit', num: true, sort: 'number', phone: 2, cell: (row) => <b>{count(row.limit)}</b> },
    {
      key: 'source',
      head: 'From',
      cell: (row) => (
        <span class="soft">
          {row.rule.source === 'file' ? (
            'the file'
          ) : (
            <>
              <Name of={row.rule.author} most={24} />
              {row.rule.note && (
                <>
                  , <Name of={row.rule.note} most={40} />
                </>
              )}
            </>
          )}
        </span>
      ),
    },
    {
      key: 'force',
      head: 'In force',
      cell: (row) => <span class="soft">{row.rule.in_force ? 'yes' : 'no, the policy is off'}</span>,
    },
    {
      key: 'act',
      head: '',
      spoken: 'Change',
      csv: false,
      num: true,
      cell: (row) =>
        row.rule.value.account && (
          <button type="button" class="state" onClick={() => setRate(row.rule.value)}>
            <u>Set</u>
          </button>
        ),
    },
  ];
}

function RateRows({ data }) {
  const [rules, status, denials] = data.results.map((result) => result.value);
  if (!rules) return <Failure error={data.results[0].error} retry={data.reload} />;
  const rows = rules.rules.flatMap((rule) =>
    RATES.filter(([name]) => rule.value && Number(rule.value[name]) > 0).map(([name, words]) => ({
      rule,
      name,
      words,
      id: `${rule.id} ${name}`,
      limit: Number(rule.value[name]),
      who: rule.value.account || (rule.value.api_key_pattern ? `keys ${rule.value.api_key_pattern}` : 'every key'),
    })),
  );
  const busiest = status && status.rates;
  const columns = rateColumns();
  return (
    <>
      <div class="top">
        <div>
          <div class="cap">Refused by a rate, 24 h</div>
          <a class="headline plain" href={to('calls', { is: 'refused', last: '24h' })}>
            {denials ? count(denials.refused) : NONE}
          </a>
        </div>
        <div class="beside">
          <p>
            {plural(rows.length, 'rate')} in {plural(rules.rules.length, 'rule')}
          </p>
          <p class="soft">A call that does not fit is refused, and told how long to wait.</p>
        </div>
      </div>
      {busiest ? busiest.length > 0 && <Busiest rows={busiest} /> : <p class="cap pad-y">Who is near a rate: {NONE}</p>}
      {rows.length ? (
        <Table label="Rates" columns={columns} rows={rows} id={(row) => row.id} file="rates" />
      ) : (
        <Empty
          title="No rate is set."
          line="agentledger rates set agent --requests-per-minute 60"
          guide="What a rate can do"
          topic="rules">
          A rate stands here with who is near it.
        </Empty>
      )}
    </>
  );
}

function Busiest({ rows }) {
  return (
    <Table
      label="Near a rate"
      name="near"
      columns={[
        { key: 'account', head: 'Account', phone: 1, cell: (row) => <Name of={row.account} /> },
        { key: 'rate', head: 'Rate', phone: 3, cell: (row) => <span class="soft">{WORDS[row.rate] || row.rate}</span> },
        { key: 'used', head: 'Used', num: true, phone: 2, cell: (row) => `${count(row.used)} of ${count(row.limit)}` },
        { key: 'free', head: 'All free in', num: true, phone: 4, cell: (row) => (row.reset_ms ? age(row.reset_ms) : <None />) },
      ]}
      rows={rows}
      id={(row) => `${row.account} ${row.rate}`}
    />
  );
}

function setRate(value = {}) {
  ask({
    title: 'Set a rate',
    verb: 'Set the rate',
    body: (
      <>
        <Field label="Account: agent, agent:ci-*, tenant:acme, key" name="account" value={value.account || ''} required />
        <div class="pair">
          <Field label="Rate" name="rate" value={(RATES.find(([name]) => value[name]) || RATES[1])[0]} options={RATES} />
          <Field label="Limit" name="limit" value="" required />
        </div>
        <p class="cap">0 takes it off.</p>
      </>
    ),
    run: async (form, id) => {
      const result = await change(
        'rate.set',
        { account: form.account.trim(), [form.rate]: Number(form.limit), note: 'in the dashboard' },
        id,
      );
      say(`The rate of ${form.account.trim()} is set.`, undo(result));
    },
  });
}
