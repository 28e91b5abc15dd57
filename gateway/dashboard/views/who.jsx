// Who spends: each row is a filter, and the next one down.

import { change, pixels, usd } from '../format.js';
import { now } from '../rpc.js';
import { useCalls } from '../data.js';
import { day, iso, span } from '../time.js';
import { filters, here, route, to } from '../route.js';
import { Page } from '../shell.jsx';
import { None, Usd } from '../parts/text.jsx';
import { Empty, Failure, Since, Skeleton } from '../parts/states.jsx';
import { DIMENSIONS, dimensionName, dimensionValue, Filters, Periods, Pick } from '../parts/controls.jsx';
import { beforeMap, Breakdown } from './breakdown.jsx';

const DEEPER = ['agent', 'tenant', 'tag:team', 'model', 'user', 'session'];

/** What one looks at next, once a row is chosen. */
const NEXT = {
  tenant: 'tag:team',
  'tag:team': 'agent',
  agent: 'session',
  user: 'agent',
  provider: 'model',
  model: 'agent',
  key: 'agent',
  task: 'agent',
  tool: 'agent',
};

export function Who() {
  const { query } = route.value;
  const by = query.by || 'agent';
  const minute = Math.floor(now() / 60_000) * 60_000;
  const range = span(query, minute);
  const tools = (
    <>
      <Pick name="by" label="By" of={DIMENSIONS} fallback="agent" />
      <Periods />
      <Filters />
    </>
  );
  return (
    <Page title="Who" tools={tools}>
      <Figures by={by} range={range} minute={minute} />
    </Page>
  );
}

function Figures({ by, range, minute }) {
  const of = filters.value;
  const end = range.fixed ? range.to : minute + 60_000;
  const length = range.to - range.from;
  const data = useCalls(
    [
      ['ledger.summary', { by, from: iso(range.from), to: iso(end), ...of }],
      ['ledger.summary', { by, from: iso(range.from - length), to: iso(end - length), ...of }],
    ],
    { on: ['ledger.tail'], every: 30_000 },
  );
  if (!data.ready) return <Skeleton headline rows={14} />;
  const [summary, before] = data.results.map((result) => result.value);
  if (!summary) return <Failure error={data.results[0].error} retry={data.reload} />;
  const was = before && before.total;
  const deeper = (row) => {
    const value = dimensionValue(row, by);
    if (by === 'session') return to('sessions', { id: value, tenant: row.tenant });
    return here({ by: NEXT[by] || 'session', [by]: value, page: null, sort: null });
  };
  return (
    <>
      <Since at={summary.since} />
      <div class="top">
        <div>
          <div class="cap">
            Spent, {day(range.from)} to {day(end - 1)}, by {dimensionName(by)}
          </div>
          <a class="headline plain" data-key="o" href={to('calls', { ...of, from: iso(range.from), to: iso(end) })}>
            {summary.total ? <Usd of={summary.total.cost_usd} cents class="headline" /> : <span class="headline none">–</span>}
          </a>
        </div>
        <div class="beside">
          <p>
            {was && summary.total ? (
              <>
                <b>{change(summary.total.cost_usd, was.cost_usd)}</b> on the {range.label} before, {usd(was.cost_usd)}
              </>
            ) : (
              <>
                the period before: <None />
              </>
            )}
          </p>
          <p class="soft">
            {summary.total && pixels(summary.total.overage_usd) > 0 && (
              <>
                of it <span class="over">{usd(summary.total.overage_usd)} overage</span>
              </>
            )}
          </p>
        </div>
      </div>
      {summary.rows.length ? (
        <Breakdown
          by={by}
          rows={summary.rows}
          total={summary.total}
          before={beforeMap(before, by)}
          span={range}
          deeper={deeper}
          file={`who-by-${dimensionName(by)}`}
          footer={
            <span>
              A row opens what is within it, its sum the entries. By:{' '}
              {DEEPER.filter((one) => one !== by)
                .slice(0, 5)
                .map((one, i) => (
                  <a key={one} data-key={String(i + 1)} href={here({ by: one === 'agent' ? null : one, page: null })}>
                    <kbd>{i + 1}</kbd> {dimensionName(one)}{' '}
                  </a>
                ))}
            </span>
          }
        />
      ) : (
        <Empty
          title="Nobody spent anything in this period."
          line="X-Agent-Id: ci-review"
          guide="How agents name themselves"
          topic="identity">
          Agents name themselves in headers; teams and projects come in X-Agent-Tags.
        </Empty>
      )}
    </>
  );
}
