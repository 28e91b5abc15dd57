// Is it them or us: health, breakers, latency, errors.

import { count, latency, percent, plural } from '../format.js';
import { change } from '../rpc.js';
import { useCalls } from '../data.js';
import { to } from '../route.js';
import { Page } from '../shell.jsx';
import { Name, None, Usd, Warn } from '../parts/text.jsx';
import { Failure, Skeleton } from '../parts/states.jsx';
import { Table } from '../parts/table.jsx';
import { ask, say } from '../parts/sheet.jsx';
import { cut } from '../text.js';

export function Providers() {
  const data = useCalls(
    [
      ['provider.list', {}],
      ['ledger.summary', { by: 'provider', last: '24h' }],
    ],
    { on: ['rule.changes'], every: 5_000 },
  );
  return <Page title="Providers">{data.ready ? <ProviderRows data={data} /> : <Skeleton headline rows={6} />}</Page>;
}

function providerColumns({ times, spent }) {
  return [
    { key: 'name', head: 'Provider', sort: 'text', phone: 1, cell: (one) => <Name of={one.name} most={32} /> },
    { key: 'health', head: 'Health', phone: 2, cell: (one) => <Health one={one} /> },
    {
      key: 'upstream',
      far: true,
      head: 'Upstream',
      phone: 3,
      cell: (one) => (
        <span class="soft">
          <Name of={one.upstream} most={40} />
        </span>
      ),
    },
    {
      key: 'dialect',
      far: true,
      head: 'Dialect',
      cell: (one) => (
        <span class="soft">
          <Name of={one.dialect} most={24} />
        </span>
      ),
    },
    {
      key: 'requests',
      head: 'Calls',
      num: true,
      sort: 'number',
      value: (one) => one.traffic && one.traffic.requests,
      cell: (one) => (one.traffic ? <a href={to('calls', { provider: one.name })}>{count(one.traffic.requests)}</a> : <None />),
    },
    {
      key: 'errors',
      head: 'Failed',
      num: true,
      sort: 'number',
      value: (one) => one.traffic && one.traffic.errors,
      cell: (one) =>
        one.traffic && one.traffic.errors ? (
          <a class="warnx" href={to('calls', { provider: one.name, is: 'error' })}>
            <Warn label="failed" /> {count(one.traffic.errors)}{' '}
            <span class="soft">{percent(one.traffic.errors / one.traffic.requests)}</span>
          </a>
        ) : (
          <None />
        ),
    },
    times('ttfb', 'p50_ms'),
    times('duration', 'p50_ms'),
    times('duration', 'p90_ms'),
    times('duration', 'p99_ms'),
    {
      key: 'cost',
      head: 'Spent, 24 h',
      num: true,
      sort: 'money',
      phone: 4,
      value: (one) => (spent.get(one.name) || {}).cost_usd,
      cell: (one) => (
        <a href={to('calls', { provider: one.name, last: '24h' })}>
          <Usd of={spent.has(one.name) ? spent.get(one.name).cost_usd : '0'} cents />
        </a>
      ),
    },
    {
      key: 'act',
      head: '',
      spoken: 'Act',
      num: true,
      csv: false,
      cell: (one) =>
        one.breaker === 'open' || one.breaker === 'half_open' ? (
          <button type="button" class="state" onClick={() => closeBreaker(one)}>
            <u>Close the breaker</u>
          </button>
        ) : (
          <button type="button" class="state" onClick={() => turn(one)}>
            <u>{one.enabled ? 'Take out' : 'Take in'}</u>
          </button>
        ),
    },
  ];
}

function ProviderRows({ data }) {
  const { value, error } = data.results[0];
  if (!value) return <Failure error={error} retry={data.reload} />;
  const spent = new Map(((data.results[1] && data.results[1].value) || { rows: [] }).rows.map((row) => [row.provider, row]));
  const sick = value.providers.filter((one) => !one.healthy && one.enabled).length;
  const times = (key, name) => ({
    key: `${key}${name}`,
    far: name !== 'p99_ms',
    head: `${key === 'ttfb' ? 'first ' : ''}${name.replace('_ms', '')}`,
    num: true,
    class: 'soft',
    sort: 'number',
    value: (one) => one.traffic && one.traffic[key][name],
    cell: (one) => (one.traffic && one.traffic[key][name] !== null ? latency(one.traffic[key][name]) : <None />),
  });
  const columns = providerColumns({ times, spent });
  return (
    <>
      <div class="top">
        <div>
          <div class="cap">Providers that answer</div>
          <div class="headline">
            {count(value.providers.length - sick)}
            <span class="minor-unit"> of {count(value.providers.length)}</span>
          </div>
        </div>
        <div class="beside">
          <p>
            {sick ? (
              <b class="warnx">
                <Warn /> {plural(sick, 'breaker')} open
              </b>
            ) : (
              'No breaker is open.'
            )}
          </p>
          <p class="soft">Calls since the gateway started; times of the last ten to twenty minutes.</p>
        </div>
      </div>
      <Table label="Providers" columns={columns} rows={value.providers} id={(one) => one.name} file="providers" />
    </>
  );
}

function Health({ one }) {
  if (!one.enabled) return <span class="tag">taken out</span>;
  if (one.breaker === 'open') return <span class="tag stop">✕ breaker open</span>;
  if (one.breaker === 'half_open') return <span class="tag warn">▲ tries again</span>;
  return <span class="soft">{one.failures ? `answers, ${plural(one.failures, 'failure')} in a row` : 'answers'}</span>;
}

const closeBreaker = (one) =>
  ask({
    title: `Close the breaker of ${cut(one.name)}`,
    verb: 'Close the breaker',
    body: <p>Calls go to it again at once, after {plural(one.failures, 'failure')} in a row.</p>,
    run: async (_, id) => {
      await change('provider.reset_breaker', { provider: one.name, note: 'in the dashboard' }, id);
      say('The breaker is closed.');
    },
  });

const turn = (one) =>
  ask({
    title: `${one.enabled ? 'Take' : 'Take'} ${cut(one.name)} ${one.enabled ? 'out' : 'in'}`,
    verb: one.enabled ? 'Take it out' : 'Take it in',
    danger: one.enabled,
    body: (
      <p>
        {one.enabled
          ? 'Calls to it are refused until it is taken in again; those that run go on.'
          : 'Calls to it are served again.'}
      </p>
    ),
    run: async (_, id) => {
      await change(one.enabled ? 'provider.disable' : 'provider.enable', { provider: one.name, note: 'in the dashboard' }, id);
      say(one.enabled ? 'It is taken out.' : 'It is taken in.');
    },
  });
