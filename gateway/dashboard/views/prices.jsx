// What does it cost, since when, says who.

import { compact, count, exact, NONE, plural } from '../format.js';
import { now } from '../rpc.js';
import { moment } from '../time.js';
import { useCalls } from '../data.js';
import { here, route, to } from '../route.js';
import { Page } from '../shell.jsx';
import { Name, None, Usd, Warn } from '../parts/text.jsx';
import { Empty, Failure, Skeleton } from '../parts/states.jsx';
import { Table } from '../parts/table.jsx';
import { Pick } from '../parts/controls.jsx';
import { Facts, Section, Side, Top } from '../parts/layout.jsx';

export function Prices() {
  const { query } = route.value;
  const data = useCalls([['price.list', {}], ['price.drift'], ['ledger.summary', { by: 'model', last: '30d' }]], {
    on: ['rule.changes'],
    every: 120_000,
  });
  const all = data.ready && data.results[0].value ? data.results[0].value.rows : [];
  const providers = [...new Set(all.map((row) => row.provider))].sort();
  const tools = (
    <>
      <Pick name="provider" label="Provider" of={[['', 'all'], ...providers.map((name) => [name, name])]} />
      <Pick
        name="used"
        label="Models"
        of={[
          ['', 'used in 30 d'],
          ['all', 'all'],
        ]}
      />
    </>
  );
  return (
    <Page title="Prices" tools={tools}>
      {data.ready ? <PriceRows data={data} query={query} /> : <Skeleton headline rows={14} />}
    </Page>
  );
}

const TIER = 'standard';

function priceColumns({ column, used }) {
  return [
    {
      key: 'id',
      head: 'Model',
      sort: 'text',
      phone: 1,
      cell: (row) => (
        <>
          <Name of={row.id} most={40} />
          {row.retired && (
            <>
              {' '}
              <span class="tag warn">▲ retired {row.retired}</span>
            </>
          )}
        </>
      ),
    },
    { key: 'provider', head: 'Provider', sort: 'text', phone: 3, cell: (row) => <span class="soft">{row.provider}</span> },
    column('input', 'Read', undefined),
    column('cache_read', 'From cache', undefined),
    column('output', 'Written', 2),
    {
      key: 'tiers',
      far: true,
      head: 'Tiers',
      num: true,
      class: 'soft',
      value: (row) => Object.keys(row.prices).length,
      cell: (row) => count(Object.keys(row.prices).length),
    },
    { key: 'from', head: 'Since', sort: 'text', class: 'nowrap', phone: 4, cell: (row) => <span class="soft">{row.from}</span> },
    { key: 'checked', far: true, head: 'Compared', sort: 'text', class: 'nowrap soft', cell: (row) => row.checked || <None /> },
    {
      key: 'source',
      far: true,
      head: 'Says who',
      class: 'soft',
      cell: (row) => <Name of={row.source.replace(/^https:\/\//, '')} most={40} />,
    },
    {
      key: 'spent',
      head: 'Spent, 30 d',
      num: true,
      sort: 'money',
      value: (row) => (used.get(row.id) || {}).cost_usd,
      cell: (row) =>
        used.has(row.id) ? (
          <a href={to('calls', { model: row.id, last: '30d' })}>
            <Usd of={used.get(row.id).cost_usd} cents />
          </a>
        ) : (
          <None />
        ),
    },
  ];
}

function PriceRows({ data, query }) {
  const { value, error } = data.results[0];
  if (!value) return <Failure error={error} retry={data.reload} />;
  const used = new Map(((data.results[2] && data.results[2].value) || { rows: [] }).rows.map((row) => [row.model, row]));
  const drift = data.results[1] && data.results[1].value;
  const models = value.rows.filter((row) => !query.provider || row.provider === query.provider);
  const rows = models.filter(
    (row) => query.used === 'all' || query.model || [row.id, ...row.aliases].some((name) => used.has(name)),
  );
  const price = (kind) => (row) => row.prices[TIER] && row.prices[TIER][kind];
  const column = (kind, head, phone) => ({
    key: kind,
    head,
    num: true,
    sort: 'money',
    phone,
    value: price(kind),
    cell: (row) => <Rate of={price(kind)(row)} />,
  });
  const chosen = value.rows.find((row) => row.id === query.model);
  const id = (row) => `${row.provider}/${row.id}`;
  return (
    <div class={`withside${chosen ? ' chosen' : ''}`}>
      <div class="listing first">
        <Top
          caption="Models with a price"
          figure={count(value.rows.length)}
          beside={
            <>
              <p>{plural(used.size, 'model')} used in 30 d</p>
              <p class="soft">
                <Drift drift={drift} /> USD per million tokens.
              </p>
            </>
          }
        />
        {rows.length ? (
          <Table
            label="Prices"
            columns={priceColumns({ column, used })}
            rows={rows}
            id={id}
            open={(row) => here({ model: row.id })}
            selected={chosen && id(chosen)}
            sort="id"
            file="prices"
          />
        ) : (
          <Empty title="No model fits." line="agentledger prices list" guide="The price book" topic="prices">
            Choose all models, or another provider.
          </Empty>
        )}
      </div>
      {chosen && <PriceDetail row={chosen} />}
    </div>
  );
}

function Drift({ drift }) {
  if (!drift) return `Drift from sources: ${NONE}.`;
  if (!drift.at) return 'Not compared with its sources since the start.';
  if (drift.error) return `Its sources could not be read, ${moment(drift.at, now())}.`;
  if (!drift.differences.length) return `No drift, compared ${moment(drift.at, now())}.`;
  return (
    <b class="warnx">
      <Warn /> {plural(drift.differences.length, 'price')} differ from their sources.
    </b>
  );
}

function PriceDetail({ row }) {
  const source = <Name of={row.source} most={120} />;
  return (
    <Side
      label="Price"
      title={
        <>
          <Name of={row.id} most={48} /> <small class="cap">{row.provider}</small>
        </>
      }
      close={here({ model: null })}>
      <p class="soft">
        Since {row.from}; days on which prices begin: {row.days.join(', ')}.
      </p>
      {row.note && (
        <p>
          <Name of={row.note} most={512} />
        </p>
      )}
      {Object.entries(row.prices).map(([tier, kinds]) => (
        <Section key={tier} title={tier}>
          <Facts of={Object.entries(kinds).map(([kind, text]) => [kind.replaceAll('_', ' '), exact(text)])} />
        </Section>
      ))}
      <p class="cap">
        {row.max_output && `Writes at most ${compact(row.max_output)} tokens. `}From{' '}
        {/^https:\/\//.test(row.source) ? (
          <a href={row.source} rel="noreferrer" target="_blank">
            <u>{source}</u>
          </a>
        ) : (
          source
        )}
        , {row.file} line {row.line}. What the past would have cost at other prices:{' '}
        <span class="mono">agentledger prices reprice</span>
      </p>
    </Side>
  );
}

const Rate = ({ of }) => (of === undefined ? <None /> : <span>{exact(of)}</span>);
