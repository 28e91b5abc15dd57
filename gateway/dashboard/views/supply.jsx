// Providers, prices and plugins: is it them or us, what does it cost and since when, what reads which dialect.

import { compact, count, exact, latency, NONE, percent, plural } from '../format.js';
import { change } from '../rpc.js';
import { useCalls } from '../data.js';
import { here, route, to } from '../route.js';
import { Page } from '../shell.jsx';
import { Name, None, Stop, Usd, Warn } from '../parts/text.jsx';
import { Empty, Failure, Skeleton } from '../parts/states.jsx';
import { Table } from '../parts/table.jsx';
import { Pick } from '../parts/controls.jsx';
import { ask, say } from '../parts/sheet.jsx';
import { cut } from '../text.js';

export function Providers() {
  const data = useCalls([['provider.list', {}], ['ledger.summary', { by: 'provider', last: '24h' }]], { on: ['rule.changes'], every: 5_000 });
  return <Page title="Providers">{data.ready ? <ProviderRows data={data} /> : <Skeleton headline rows={6} />}</Page>;
}

function ProviderRows({ data }) {
  const { value, error } = data.results[0];
  if (!value) return <Failure error={error} retry={data.reload} />;
  const spent = new Map(((data.results[1] && data.results[1].value) || { rows: [] }).rows.map((row) => [row.provider, row]));
  const sick = value.providers.filter((one) => !one.healthy && one.enabled).length;
  const times = (key, name) => ({ key: `${key}${name}`, far: name !== 'p99_ms', head: `${key === 'ttfb' ? 'first ' : ''}${name.replace('_ms', '')}`, num: true, class: 'soft', sort: 'number', value: (one) => one.traffic && one.traffic[key][name], cell: (one) => (one.traffic && one.traffic[key][name] !== null ? latency(one.traffic[key][name]) : <None />) });
  const columns = [
    { key: 'name', head: 'Provider', sort: 'text', phone: 1, cell: (one) => <Name of={one.name} most={32} /> },
    { key: 'health', head: 'Health', phone: 2, cell: (one) => <Health one={one} /> },
    { key: 'upstream', far: true, head: 'Upstream', phone: 3, cell: (one) => <span class="soft"><Name of={one.upstream} most={40} /></span> },
    { key: 'dialect', far: true, head: 'Dialect', cell: (one) => <span class="soft"><Name of={one.dialect} most={24} /></span> },
    { key: 'requests', head: 'Calls', num: true, sort: 'number', value: (one) => one.traffic && one.traffic.requests, cell: (one) => (one.traffic ? <a href={to('calls', { provider: one.name })}>{count(one.traffic.requests)}</a> : <None />) },
    { key: 'errors', head: 'Failed', num: true, sort: 'number', value: (one) => one.traffic && one.traffic.errors, cell: (one) => (one.traffic && one.traffic.errors ? <a class="warnx" href={to('calls', { provider: one.name, is: 'error' })}><Warn label="failed" /> {count(one.traffic.errors)} <span class="soft">{percent(one.traffic.errors / one.traffic.requests)}</span></a> : <None />) },
    times('ttfb', 'p50_ms'), times('duration', 'p50_ms'), times('duration', 'p90_ms'), times('duration', 'p99_ms'),
    { key: 'cost', head: 'Spent, 24 h', num: true, sort: 'money', phone: 4, value: (one) => (spent.get(one.name) || {}).cost_usd, cell: (one) => <a href={to('calls', { provider: one.name, last: '24h' })}><Usd of={spent.has(one.name) ? spent.get(one.name).cost_usd : '0'} cents /></a> },
    { key: 'act', head: '', spoken: 'Act', num: true, csv: false, cell: (one) => (one.breaker === 'open' || one.breaker === 'half_open' ? <button type="button" class="state" onClick={() => closeBreaker(one)}><u>Close the breaker</u></button> : <button type="button" class="state" onClick={() => turn(one)}><u>{one.enabled ? 'Take out' : 'Take in'}</u></button>) },
  ];
  return (
    <>
      <div class="top"><div><div class="cap">Providers that answer</div><div class="headline">{count(value.providers.length - sick)}<span class="minor-unit"> of {count(value.providers.length)}</span></div></div><div class="beside"><p>{sick ? <b class="warnx"><Warn /> {plural(sick, 'breaker')} open</b> : 'No breaker is open.'}</p><p class="soft">Calls since the gateway started; times of the last ten to twenty minutes.</p></div></div>
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

const closeBreaker = (one) => ask({ title: `Close the breaker of ${cut(one.name)}`, verb: 'Close the breaker', body: <p>Calls go to it again at once, after {plural(one.failures, 'failure')} in a row.</p>,
  run: async (_, id) => {
    await change('provider.reset_breaker', { provider: one.name, note: 'in the dashboard' }, id);
    say('The breaker is closed.');
  } });

const turn = (one) => ask({ title: `${one.enabled ? 'Take' : 'Take'} ${cut(one.name)} ${one.enabled ? 'out' : 'in'}`, verb: one.enabled ? 'Take it out' : 'Take it in', danger: one.enabled,
  body: <p>{one.enabled ? 'Calls to it are refused until it is taken in again; those that run go on.' : 'Calls to it are served again.'}</p>,
  run: async (_, id) => {
    await change(one.enabled ? 'provider.disable' : 'provider.enable', { provider: one.name, note: 'in the dashboard' }, id);
    say(one.enabled ? 'It is taken out.' : 'It is taken in.');
  } });

export function Prices() {
  const { query } = route.value;
  const data = useCalls([['price.list', {}], ['price.drift'], ['ledger.summary', { by: 'model', last: '30d' }]], { on: ['rule.changes'], every: 120_000 });
  const all = data.ready && data.results[0].value ? data.results[0].value.rows : [];
  const providers = [...new Set(all.map((row) => row.provider))].sort();
  const tools = <><Pick name="provider" label="Provider" of={[['', 'all'], ...providers.map((name) => [name, name])]} /><Pick name="used" label="Models" of={[['', 'used in 30 d'], ['all', 'all']]} /></>;
  return <Page title="Prices" tools={tools}>{data.ready ? <PriceRows data={data} query={query} /> : <Skeleton headline rows={14} />}</Page>;
}

const TIER = 'standard';

function PriceRows({ data, query }) {
  const { value, error } = data.results[0];
  if (!value) return <Failure error={error} retry={data.reload} />;
  const used = new Map(((data.results[2] && data.results[2].value) || { rows: [] }).rows.map((row) => [row.model, row]));
  const drift = data.results[1] && data.results[1].value;
  const models = value.rows.filter((row) => !query.provider || row.provider === query.provider);
  const rows = models.filter((row) => query.used === 'all' || query.model || [row.id, ...row.aliases].some((name) => used.has(name)));
  const price = (kind) => (row) => row.prices[TIER] && row.prices[TIER][kind];
  const column = (kind, head, phone) => ({ key: kind, head, num: true, sort: 'money', phone, value: price(kind), cell: (row) => <Rate of={price(kind)(row)} /> });
  const columns = [
    { key: 'id', head: 'Model', sort: 'text', phone: 1, cell: (row) => <><Name of={row.id} most={40} />{row.retired && <> <span class="tag warn">▲ retired {row.retired}</span></>}</> },
    { key: 'provider', head: 'Provider', sort: 'text', phone: 3, cell: (row) => <span class="soft">{row.provider}</span> },
    column('input', 'Read', undefined), column('cache_read', 'From cache', undefined), column('output', 'Written', 2),
    { key: 'tiers', far: true, head: 'Tiers', num: true, class: 'soft', value: (row) => Object.keys(row.prices).length, cell: (row) => count(Object.keys(row.prices).length) },
    { key: 'from', head: 'Since', sort: 'text', class: 'nowrap', phone: 4, cell: (row) => <span class="soft">{row.from}</span> },
    { key: 'checked', far: true, head: 'Compared', sort: 'text', class: 'nowrap soft', cell: (row) => row.checked || <None /> },
    { key: 'source', far: true, head: 'Says who', class: 'soft', cell: (row) => <Name of={row.source.replace(/^https:\/\//, '')} most={40} /> },
    { key: 'spent', head: 'Spent, 30 d', num: true, sort: 'money', value: (row) => (used.get(row.id) || {}).cost_usd, cell: (row) => (used.has(row.id) ? <a href={to('calls', { model: row.id, last: '30d' })}><Usd of={used.get(row.id).cost_usd} cents /></a> : <None />) },
  ];
  const chosen = value.rows.find((row) => row.id === query.model);
  return (
    <div class={`withside${chosen ? ' chosen' : ''}`}>
      <div class="listing first">
        <div class="top"><div><div class="cap">Models with a price</div><div class="headline">{count(value.rows.length)}</div></div><div class="beside"><p>{plural(used.size, 'model')} used in 30 d</p><p class="soft">{drift ? drift.differences.length ? <b class="warnx"><Warn /> {plural(drift.differences.length, 'price')} differ from their sources</b> : `No drift, compared ${drift.at}.` : `Drift from sources: ${NONE}`} USD per million tokens.</p></div></div>
        {rows.length ? <Table label="Prices" columns={columns} rows={rows} id={(row) => `${row.provider}/${row.id}`} open={(row) => here({ model: row.id })} selected={chosen && `${chosen.provider}/${chosen.id}`} sort="id" file="prices" /> : <Empty title="No model fits." line="agentledger prices list" guide="The price book" topic="prices">Choose all models, or another provider.</Empty>}
      </div>
      {chosen && <aside class="aside" aria-label="Price"><div class="aside-head"><h2 class="title"><Name of={chosen.id} most={48} /> <small class="cap">{chosen.provider}</small></h2><a class="button" data-key="Escape" href={here({ model: null })}>Esc</a></div>
        <p class="soft">Since {chosen.from}; days on which prices begin: {chosen.days.join(', ')}.</p>
        {chosen.note && <p><Name of={chosen.note} most={512} /></p>}
        {Object.entries(chosen.prices).map(([tier, kinds]) => <section key={tier}><h3 class="cap"><b>{tier}</b></h3><dl class="facts">{Object.entries(kinds).map(([kind, text]) => <><dt key={kind}>{kind.replaceAll('_', ' ')}</dt><dd>{exact(text)}</dd></>)}</dl></section>)}
        <p class="cap">{chosen.max_output && `Writes at most ${compact(chosen.max_output)} tokens. `}From {/^https:\/\//.test(chosen.source) ? <a href={chosen.source} rel="noreferrer" target="_blank"><u><Name of={chosen.source} most={120} /></u></a> : <Name of={chosen.source} most={120} />}, {chosen.file} line {chosen.line}. What the past would have cost at other prices: <span class="mono">agentledger prices reprice</span></p>
      </aside>}
    </div>
  );
}

const Rate = ({ of }) => (of === undefined ? <None /> : <span>{exact(of)}</span>);

export function Plugins() {
  const data = useCalls([['plugin.list', {}]], { every: 60_000 });
  const columns = [
    { key: 'name', head: 'Dialect', sort: 'text', phone: 1, cell: (row) => <Name of={row.name} /> },
    { key: 'version', head: 'Version', phone: 2, cell: (row) => <span class="soft">{row.version}</span> },
    { key: 'source', far: true, head: 'From', phone: 3, cell: (row) => <span class="soft"><Name of={row.source} most={64} /></span> },
    { key: 'providers', head: 'Reads for', value: (row) => row.providers.join(' '), cell: (row) => row.providers.map((name, i) => <>{i > 0 && ', '}<a key={name} href={to('calls', { provider: name })}><Name of={name} most={24} /></a></>) },
    { key: 'calls', head: 'Calls', num: true, value: (row) => row.calls, cell: (row) => (row.calls === undefined ? <None /> : count(row.calls)) },
    { key: 'failed', head: 'Failed', num: true, phone: 4, value: (row) => row.failures, cell: (row) => (row.failures === undefined ? <None /> : row.failures ? <span class="refused"><Stop label="failed" /> {count(row.failures)}</span> : '0') },
  ];
  const result = data.results[0];
  return <Page title="Plugins">{!data.ready ? <Skeleton rows={6} /> : result.value ? <Table label="Plugins" columns={columns} rows={result.value.plugins} id={(row) => row.name} file="plugins" footer={<span>A dialect of yours: <a href="/guide/plugins">Guide, plugins</a></span>} /> : <Failure error={result.error} retry={data.reload} />}</Page>;
}
