// Where did it go, what changed.

import { axis, change, compact, count, percent, pixels, usd } from '../format.js';
import { now } from '../rpc.js';
import { useCalls } from '../data.js';
import { bucketName, buckets, day, iso, MONTHS, span } from '../time.js';
import { filters, here, route, to } from '../route.js';
import { wholeAccount } from '../me.js';
import { Page } from '../shell.jsx';
import { Held, Name, None, Usd } from '../parts/text.jsx';
import { Empty, Failure, Since, Skeleton } from '../parts/states.jsx';
import { Stack } from '../parts/chart.jsx';
import { isOutlying } from '../parts/geometry.js';
import { DIMENSIONS, dimensionName, dimensionValue, Filters, Periods, Pick, Seg } from '../parts/controls.jsx';
import { beforeMap, Breakdown, SERIES, tokensOf } from './breakdown.jsx';
import { Mark, Top } from '../parts/layout.jsx';

const DEEPER = ['agent', 'tag:team', 'session', 'model', 'user'];

export function Spend() {
  const { query } = route.value;
  const at = now();
  const minute = Math.floor(at / 60_000) * 60_000;
  const range = span(query, minute);
  const tools = (
    <>
      <Pick name="by" label="By" of={DIMENSIONS} fallback="model" />
      <Seg
        name="unit"
        label="Unit"
        of={[
          ['usd', 'Money'],
          ['tokens', 'Tokens'],
        ]}
      />
      <Periods />
      <Pick
        name="cmp"
        label="Compare"
        of={[
          ['before', `${range.label} before`],
          ['off', 'nothing'],
        ]}
      />
      <Filters />
    </>
  );
  return (
    <Page title="Spend" tools={tools}>
      <Figures range={range} by={query.by || 'model'} unit={query.unit || 'usd'} compare={query.cmp !== 'off'} at={at} />
    </Page>
  );
}

function Figures({ range, by, unit, compare, at }) {
  const of = filters.value;
  const { within, calls } = questions({ range, by, compare, at, of });
  const data = useCalls(calls, { on: ['ledger.tail'], every: 30_000 });
  if (!data.ready) return <Skeleton headline rows={12} />;
  const [summary, totals, parts, before, past, standing, forecast] = data.results.map((result) => result.value);
  if (!summary || !totals) return <Failure error={data.results[0].error || data.results[1].error} retry={data.reload} />;
  const { rows, total } = summary;
  const view = arrange({ range, rows, by, unit, totals, parts, past, standing, forecast, at, of });
  const { only, scale } = route.value.query;
  const log = scale === 'log';
  const chart = <Chart {...{ view, range, unit, compare, by, rows, at, only, log }} />;
  if (!rows.length && !Object.keys(of).length && range.last) {
    return (
      <>
        {chart}
        <Empty
          title="Nothing was spent in this period."
          line={`ANTHROPIC_BASE_URL=${location.origin} claude`}
          guide="How clients find the gateway"
          topic="clients">
          Calls that come through this gateway are summed here.
        </Empty>
      </>
    );
  }
  return (
    <>
      <Since at={summary.since} />
      <Head {...{ view, range, unit, compare, total, within, of, log, forecast, was: compare && before && before.total }} />
      {chart}
      <Breakdown
        by={by}
        rows={rows}
        total={total}
        before={beforeMap(before, by)}
        span={range}
        only={only}
        swatch={(i) => SERIES[i] || 'rest'}
        file={`spend-by-${dimensionName(by)}`}
        deeper={(row) => here({ only: only === dimensionValue(row, by) ? null : dimensionValue(row, by) })}
        footer={<Deeper by={by} only={only} />}
      />
    </>
  );
}

/** What is asked: this period, its parts, the one before, and what of the running bucket is still to come. */
function questions({ range, by, compare, at, of }) {
  const length = range.to - range.from;
  const end = range.fixed ? iso(range.to) : iso(Math.min(range.to, Math.ceil(at / 60_000) * 60_000));
  const within = { from: iso(range.from), to: end, ...of };
  // As far into the period before as this one has gone: half a day is not compared with a whole one.
  const earlier = { from: iso(range.from - length), to: iso(Date.parse(end) - length), ...of };
  const past = { from: iso(range.from - length), to: iso(range.to - length), ...of };
  const account = wholeAccount(of.tenant);
  const { step } = range;
  const calls = [
    ['ledger.summary', { by, ...within }],
    ['ledger.series', { step, limit: 2000, ...within }],
    ['ledger.series', { step, by, limit: 20_000, ...within }],
    compare ? ['ledger.summary', { by, ...earlier }] : null,
    compare ? ['ledger.series', { step, limit: 2000, ...past }] : null,
    range.fixed ? null : ['budget.status', { account, window: 'day' }],
    range.fixed || step !== 'day' ? null : ['ledger.forecast', { account, window: 'day' }],
  ];
  return { within, calls };
}

function Head({ view, range, unit, compare, total, within, of, log, forecast, was }) {
  const money = unit === 'usd';
  const changed = was && (money ? change(total.cost_usd, was.cost_usd) : change(String(tokensOf(total)), String(tokensOf(was))));
  const sum =
    total &&
    (money ? <Usd of={total.cost_usd} cents class="headline" /> : <span class="headline">{compact(tokensOf(total))}</span>);
  const beside = (
    <>
      <p>
        {was ? (
          <>
            <b>{changed}</b> on the {range.label} before, {money ? usd(was.cost_usd) : compact(tokensOf(was))}
          </>
        ) : (
          compare && (
            <>
              the period before: <None />
            </>
          )
        )}
      </p>
      <p class="soft">
        {total && pixels(total.overage_usd) > 0 && (
          <>
            of it <span class="over">{usd(total.overage_usd)} overage</span> ·{' '}
          </>
        )}
        {total && total.estimated > 0 && (
          <a href={to('calls', { ...of, from: within.from, to: within.to, is: 'estimated' })}>
            ≈ {count(total.estimated)} calls estimated
          </a>
        )}
      </p>
    </>
  );
  const outlying = isOutlying(view.buckets.map((bucket) => bucket.values.reduce((a, b) => a + b, 0)));
  const marks = (
    <>
      {compare && <Mark kind="before">{range.label} before</Mark>}
      {!range.fixed && <Mark kind="held">held now</Mark>}
      {forecast && <Mark kind="dashed">rest of today, forecast</Mark>}
      <Mark kind="over">overage</Mark>
      {outlying && (
        <a href={here({ scale: log ? null : 'log' })}>
          <u>{log ? 'Straight scale' : 'Log scale'}</u>
        </a>
      )}
    </>
  );
  return (
    <Top
      caption={`${money ? 'Spent' : 'Tokens'}, ${day(range.from)} to ${day(Date.parse(within.to) - 1)}`}
      href={to('calls', { ...of, from: within.from, to: within.to })}
      figure={sum || <span class="headline none">–</span>}
      beside={beside}
      marks={marks}
    />
  );
}

function Deeper({ by, only }) {
  const next = (one) => here({ by: one === 'model' ? null : one, only: null, ...(only !== undefined ? { [by]: only } : {}) });
  return (
    <span>
      Every sum opens its entries. Go deeper:{' '}
      {DEEPER.filter((one) => one !== by)
        .slice(0, 4)
        .map((one, i) => (
          <a key={one} data-key={String(i + 1)} href={next(one)}>
            <kbd>{i + 1}</kbd> {dimensionName(one)}{' '}
          </a>
        ))}
    </span>
  );
}

/** Values for the chart: floats, which place pixels and nothing else. */
function arrange({ range, rows, by, unit, totals, parts, past, standing, forecast, at, of }) {
  const value = unit === 'usd' ? (point) => pixels(point.cost_usd) : tokensOf;
  const named = rows.slice(0, SERIES.length).map((row) => dimensionValue(row, by));
  const rank = new Map(named.map((name, i) => [name, i]));
  const starts = buckets(range);
  const byStart = new Map(starts.map((start) => [start, { values: named.map(() => 0), texts: named.map(() => null) }]));
  for (const point of parts ? parts.points : []) {
    const bucket = byStart.get(Date.parse(point.at));
    const i = rank.get(dimensionValue(point, by));
    if (!bucket || i === undefined) continue;
    bucket.values[i] = value(point);
    bucket.texts[i] = unit === 'usd' ? usd(point.cost_usd) : compact(tokensOf(point));
  }
  const whole = new Map(totals.points.map((point) => [Date.parse(point.at), point]));
  const length = range.to - range.from;
  const earlier = new Map(
    (past ? past.points : []).map((point) => [Date.parse(point.at) + Math.round(length / range.step_ms) * range.step_ms, point]),
  );
  const row = standing && standing.budgets[0];
  const lastStart = starts[starts.length - 1];
  const shown = starts.map((start) => {
    const bucket = byStart.get(start);
    const point = whole.get(start);
    const sum = point ? value(point) : 0;
    const others = Math.max(0, sum - bucket.values.reduce((a, b) => a + b, 0));
    const isLast = start === lastStart && !range.fixed;
    const end = isLast && forecast && unit === 'usd' ? pixels(forecast.end.usd) : 0;
    const held = isLast && row && unit === 'usd' ? pixels(row.held_usd) : 0;
    return {
      at: start,
      label: labelOf(start, range),
      values: [...bucket.values, others],
      texts: bucket.texts,
      point,
      before: earlier.has(start) ? value(earlier.get(start)) : past ? 0 : null,
      past: earlier.get(start),
      over: point && unit === 'usd' ? pixels(point.overage_usd) : 0,
      held,
      rest: Math.max(0, end - sum - held),
      href: to('calls', { ...of, from: iso(start), to: iso(start + range.step_ms) }),
    };
  });
  return {
    buckets: shown,
    series: [...named.map((_, i) => SERIES[i]), 'rest'],
    named,
    others: Math.max(0, rows.length - SERIES.length),
  };
}

function labelOf(start, range) {
  const date = new Date(start);
  if (range.step === 'day')
    return date.getUTCDate() === 1 || start === range.from || Math.floor(range.from / range.step_ms) * range.step_ms === start
      ? `${date.getUTCDate()} ${MONTHS[date.getUTCMonth()]}`
      : range.to - range.from > 90 * range.step_ms
        ? `${date.getUTCDate()} ${MONTHS[date.getUTCMonth()]}`
        : String(date.getUTCDate());
  return `${String(date.getUTCHours()).padStart(2, '0')}:${String(date.getUTCMinutes()).padStart(2, '0')}`;
}

function Chart({ view, range, unit, compare, by, rows, at, only, log }) {
  const narrow = innerWidth < 720;
  const reading = (i) => {
    const bucket = view.buckets[i];
    const point = bucket.point;
    return (
      <>
        <div class="soft">{bucketName(bucket.at, range.step, at)}, UTC</div>
        <div>
          <b class="title">{unit === 'usd' ? (point ? usd(point.cost_usd) : '$0.00') : point ? compact(tokensOf(point)) : '0'}</b>
          {bucket.past && (
            <span class="soft">before {unit === 'usd' ? usd(bucket.past.cost_usd) : compact(tokensOf(bucket.past))}</span>
          )}
        </div>
        {view.named.map(
          (name, s) =>
            bucket.texts[s] && (
              <div key={name}>
                <span class="n">
                  <span class={`sq ${SERIES[s]}`} />
                  <Name of={name} most={24} none="none named" />
                </span>
                <span>{bucket.texts[s]}</span>
              </div>
            ),
        )}
        {view.others > 0 && point && (
          <div>
            <span class="n">
              <span class="sq rest" />
              {count(view.others)} others
            </span>
            <span class="soft">
              {percent(
                bucket.values[view.named.length] /
                  Math.max(
                    1e-9,
                    bucket.values.reduce((a, b) => a + b, 0),
                  ),
                0,
              )}
            </span>
          </div>
        )}
        {bucket.over > 0 && (
          <div class="over">
            <span>
              <span class="sq over" />
              Overage, within the sum
            </span>
            <span>{usd(point.overage_usd)}</span>
          </div>
        )}
        {bucket.held > 0 && (
          <div>
            <span>
              <Held />
              Held now
            </span>
          </div>
        )}
      </>
    );
  };
  const chosen = only === undefined ? -1 : rows.findIndex((row) => dimensionValue(row, by) === only);
  return (
    <Stack
      buckets={view.buckets}
      series={view.series}
      height={narrow ? 240 : 352}
      name={unit === 'usd' ? axis : (value) => axis(value, '')}
      reading={reading}
      compare={compare}
      areas={view.buckets.length > 60}
      log={log}
      dimmed={only === undefined ? null : (i) => i === Math.min(chosen, SERIES.length)}
      label={`Spend by ${dimensionName(by)}`}
    />
  );
}
