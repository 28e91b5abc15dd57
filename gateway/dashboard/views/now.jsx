// What runs, what does it cost, will the money last.

import { useRef } from 'preact/hooks';
import { age, axis, change, compact, count, limit, percent, pixels, plural, usd } from '../format.js';
import { now } from '../rpc.js';
import { useCalls, useNow } from '../data.js';
import { brief, DAY, dayStart, HOUR, iso, monthName, monthOf, weekday } from '../time.js';
import { budgetRows, byUrgency, ends, runsOut, stateOf } from '../budgets.js';
import { filters, route, to } from '../route.js';
import { link } from '../rpc.js';
import { wholeAccount } from '../me.js';
import { Page } from '../shell.jsx';
import { Held, Id, Loop, Name, None, Stop, Usd, Warn } from '../parts/text.jsx';
import { Empty, Failure, Skeleton } from '../parts/states.jsx';
import { BudgetBar, HoldBar } from '../parts/bar.jsx';
import { Spark, Toward } from '../parts/chart.jsx';
import { Pick } from '../parts/controls.jsx';
import { useTenants } from './names.js';

const LIVE_ROWS = 10;
const STAY_MS = 2_000;

export function Now() {
  const tenant = filters.value.tenant || '';
  const tenants = useTenants();
  const tools = (
    <>
      <Pick name="tenant" label="Tenant" of={[['', 'all'], ...tenants.map((name) => [name, name])]} />
      <span class="cap">
        Days in <b>UTC</b>
      </span>
    </>
  );
  return (
    <Page title="Now" tools={tools} phone="last">
      <Figures key={tenant} tenant={tenant} />
    </Page>
  );
}

function Figures({ tenant }) {
  const at = now();
  const minute = Math.floor(at / 60_000) * 60_000;
  const today = dayStart(at);
  const [month] = monthOf(at);
  const of = tenant ? { tenant } : {};
  const account = wholeAccount(tenant);
  // What moves with each call is asked for often, the rest only now and then.
  const quick = useCalls(
    [['ledger.series', { step: 'day', from: iso(today), ...of }], ['budget.status', { account }], ['hold.list']],
    { on: ['hold.changes'], every: 10_000 },
  );
  const data = useCalls(
    [
      ['ledger.series', { step: 'day', from: iso(today - 7 * DAY), to: iso(minute - 7 * DAY), ...of }],
      ['ledger.series', { step: 'day', from: iso(month), ...of }],
      ['ledger.series', { step: 'minute', from: iso(minute - HOUR), to: iso(minute), ...of }],
      ['ledger.pace', of],
      ['ledger.forecast', { account, window: 'month' }],
      ['budget.status', { order: 'urgency', limit: 100 }],
      ['alert.list', { limit: 10 }],
      ['audit.list', { limit: 10 }],
    ],
    { on: ['alert.feed', 'rule.changes'], every: 15_000 },
  );
  const [day, standing, holds] = quick.results.map((result) => result.value);
  const [week, days, minutes, pace, forecast, budgets, alerts, changes] = data.results.map((result) => result.value);
  if (!data.ready || !quick.ready) return <Skeleton headline rows={10} />;
  if (!day) return <Failure error={quick.results[0].error} retry={quick.reload} />;
  const rows = (standing ? standing.budgets : []).filter((row) => row.account === account);
  const ofMonth = rows.find((row) => row.window === 'month');
  const ofDay = rows.find((row) => row.window === 'day');
  if (!day.points.length && days && !days.points.length && holds && !holds.holds.length) {
    return (
      <Empty
        title="No call has come yet."
        line={`ANTHROPIC_BASE_URL=${location.origin} claude`}
        guide="OpenAI, Codex, Gemini and others"
        topic="clients">
        Point an agent here, and its first call appears by itself.
      </Empty>
    );
  }
  return (
    <>
      <Sums
        {...{ day, week, ofMonth, ofDay, holds, minutes, pace, forecast, at, today, tenant, month }}
        asOf={link.value.state === 'down' ? quick.at : 0}
      />
      <div class="two reordered">
        <div>
          <Against {...{ days, forecast, ofMonth, at, tenant }} />
          <Live holds={holds} tenant={tenant} />
        </div>
        <div>
          <Closest budgets={budgets} at={at} />
          <JustNow alerts={alerts} changes={changes} at={at} />
        </div>
      </div>
    </>
  );
}

function Sums({ day, week, ofMonth, ofDay, holds, minutes, pace, forecast, at, today, tenant, month, asOf }) {
  const spent = day.points[0] ? day.points[0].cost_usd : '0';
  const before = week && week.points[0] ? week.points[0].cost_usd : '0';
  const oldest = holds && holds.holds[0];
  const held = ofMonth || ofDay;
  const limitOf = ofMonth && ofMonth.limits.find((one) => one.unit === 'usd');
  const filter = tenant ? { tenant } : {};
  const values = spread(minutes, at);
  return (
    <div class="sums">
      <div>
        <div class="cap">Spent today</div>
        <a class="headline plain" data-key="o" href={to('calls', { ...filter, from: iso(today) })}>
          <Usd of={spent} cents class="headline" />
        </a>
        <div class="cap">
          {asOf
            ? `as of ${brief(asOf, at)}`
            : before === '0'
              ? 'nothing a week ago to compare with'
              : `${change(spent, before)} on last ${weekday(at)} at ${brief(at, at)}`}
        </div>
      </div>
      <div>
        <div class="cap">
          <Held />
          Held now
        </div>
        <a class="figure plain" href={to('calls', { ...filter, is: 'running' })}>
          {held ? <Usd of={held.held_usd} cents /> : <None />}
        </a>
        <div class="cap">
          {holds ? (oldest ? `${plural(holds.holds.length, 'call')}, oldest ${age(oldest.age_ms)}` : 'no call runs') : '–'}
        </div>
      </div>
      <div>
        <div class="cap">{monthName(at)}</div>
        <a class="figure plain" href={to('calls', { ...filter, from: iso(month) })}>
          {ofMonth ? <Usd of={ofMonth.spent_usd} cents /> : <None />}
        </a>
        <div class="cap">
          {limitOf ? `of ${limit(limitOf.limit)}` : 'no limit'}
          {forecast && <span class="wide-only"> · forecast {usd(forecast.end.usd, 0)}</span>}
        </div>
      </div>
      <div class="wide-only">
        <div class="cap">Pace, last hour</div>
        <div class="figure">
          {pace ? (
            <>
              <Usd of={pace.usd_per_minute} /> <span class="minor-unit">a minute</span>
            </>
          ) : (
            <None />
          )}
        </div>
        <Spark values={values} label="What each minute of the last hour cost" />
      </div>
    </div>
  );
}

/** A value for each of the last sixty minutes; those without a call are left out of answers. */
function spread(minutes, at) {
  const end = Math.floor(at / 60_000) * 60_000;
  const byMinute = new Map((minutes ? minutes.points : []).map((point) => [Date.parse(point.at), pixels(point.cost_usd)]));
  return Array.from({ length: 58 }, (_, i) => byMinute.get(end - (58 - i) * 60_000) || 0);
}

function Against({ days, forecast, ofMonth, at, tenant }) {
  const [begin, end] = monthOf(at);
  const share = (moment) => (moment - begin) / (end - begin);
  const bound = ofMonth && ofMonth.limits.find((one) => one.unit === 'usd');
  let sum = 0;
  const points = [[0, 0]];
  for (const point of days ? days.points : []) {
    sum += pixels(point.cost_usd);
    points.push([share(Math.min(at, Date.parse(point.at) + DAY)), sum]);
  }
  const ahead = forecast
    ? [
        [share(at), sum, sum, sum],
        ...forecast.ahead.map((one) => [share(Date.parse(one.at)), pixels(one.low_usd), pixels(one.usd), pixels(one.high_usd)]),
      ]
    : [];
  const lines = [];
  if (bound) {
    lines.push({ value: pixels(bound.limit), label: `Limit ${limit(bound.limit)}`, kind: 'limit' });
    for (const soft of bound.soft || [])
      lines.push({ value: pixels(bound.limit) * soft, label: `${percent(soft, 0)} warns`, kind: 'soft' });
  }
  const length = Math.round((end - begin) / DAY);
  const month = monthName(at);
  const labels = [1, 5, 10, 15, 20, 25, length].map((n) => [(n - 1) / length, n === 1 ? `1 ${month.slice(0, 3)}` : String(n)]);
  const words = ofMonth
    ? `${month}: ${usd(ofMonth.spent_usd)} spent${bound ? ` of ${usd(bound.limit)}` : ''}${forecast ? `, forecast ${usd(forecast.end.usd)}` : ''}`
    : month;
  return (
    <section class="block">
      <h2 class="head">
        {month} against its budget <small class="wide-only">UTC days</small>
        <small class="right wide-only">
          {forecast ? (
            `between ${usd(forecast.end.low_usd, 0)} and ${usd(forecast.end.high_usd, 0)} by ${length} ${month.slice(0, 3)}`
          ) : bound ? (
            'forecast –'
          ) : (
            <a href={to('budgets', { do: 'new', account: tenant ? `tenant:${tenant}` : 'global' })}>Set a limit</a>
          )}
        </small>
      </h2>
      <Toward
        points={points}
        ahead={ahead}
        lines={lines}
        labels={labels}
        name={axis}
        label={words}
        nowLabel={ofMonth ? `now ${usd(ofMonth.spent_usd, 0)}` : ''}
        endLabel={forecast ? `Forecast ${usd(forecast.end.usd, 0)}` : ''}
      />
    </section>
  );
}

/** Rows keep their place until they end, and stay for two seconds then. */
function useStaying(all) {
  const kept = useRef([]);
  const byId = new Map(all.map((hold) => [hold.id, hold]));
  const at = Date.now();
  const next = [];
  for (const hold of kept.current) {
    const still = byId.get(hold.id);
    if (still) next.push(still);
    else if (!hold.gone || at - hold.gone < STAY_MS) next.push({ ...hold, gone: hold.gone || at });
    byId.delete(hold.id);
  }
  kept.current = [...next, ...byId.values()];
  return kept.current;
}

/** Calls that run now, the longest first. */
function Live({ holds, tenant }) {
  useNow(1000);
  const all = (holds ? holds.holds : []).filter((hold) => !tenant || hold.tenant === tenant);
  const rows = useStaying(all);
  const most = Math.max(0, ...all.map((hold) => pixels(hold.held_usd)));
  const shown = rows.slice(0, LIVE_ROWS);
  const at = now();
  return (
    <section class="block second">
      <h2 class="head">
        Live calls <small>{all.length ? `${count(all.length)}, longest first` : ''}</small>
        <span class="key right">
          <span>
            <span class="sq spent" />
            spent so far
          </span>
          <span>
            <Held />
            held
          </span>
        </span>
      </h2>
      <table class="fold" role="table" aria-label="Live calls">
        <thead>
          <tr>
            {['Age', 'Agent', 'Session', 'Model', 'State'].map((head) => (
              <th key={head} scope="col">
                {head}
              </th>
            ))}
            <th scope="col" class="num">
              Tokens
            </th>
            <th scope="col">Of hold</th>
            <th scope="col" class="num">
              Cost
            </th>
          </tr>
        </thead>
        <tbody>
          {shown.map((hold) => (
            <tr
              key={hold.id}
              class={hold.gone ? 'gone' : undefined}
              data-row
              tabIndex={0}
              data-href={to('sessions', { id: hold.session, tenant: hold.tenant })}>
              <td class="soft nowrap" data-p="4">
                {age(at - Date.parse(hold.since))}
              </td>
              <td class="name" data-p="1">
                <Name of={hold.agent} most={24} />
              </td>
              <td class="name">
                <a href={to('sessions', { id: hold.session, tenant: hold.tenant })} class="soft">
                  <Id of={hold.session} most={18} />
                </a>
              </td>
              <td class="name" data-p="3">
                <Name of={hold.model} most={28} />
              </td>
              <td class="soft">{hold.gone ? 'ended' : hold.state || <None />}</td>
              <td class="num">{hold.output_tokens === undefined ? <None /> : count(hold.output_tokens)}</td>
              <td title={`${usd(hold.held_usd, 4)} held: ${hold.basis}`}>
                <HoldBar held={hold.held_usd} spent={hold.spent_usd} most={most} />
                <span class="sr">{usd(hold.held_usd, 4)} held</span>
              </td>
              <td class="num" data-p="2">
                <Usd of={hold.spent_usd} places={4} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      {!all.length && <p class="soft pad-y">No call runs now. One that comes stands here with what it costs, until it ends.</p>}
      {all.length > LIVE_ROWS && (
        <p class="cap pad-y">
          <a href={to('calls', { is: 'running' })}>All {count(all.length)} that run</a>
        </p>
      )}
    </section>
  );
}

function Closest({ budgets, at }) {
  if (!budgets) return null;
  const rows = budgetRows(budgets.budgets).sort(byUrgency);
  return (
    <section class="block">
      <h2 class="head">
        Closest to their limit{' '}
        <small class="right">
          <a href={to('budgets')}>All {count(rows.length)}</a>
        </small>
      </h2>
      {rows.slice(0, 4).map((row) => (
        <Near key={row.id} row={row} at={at} />
      ))}
      {!rows.length && (
        <Empty
          title="No limit is set."
          line="agentledger budgets set agent 5 --window day"
          guide="What a limit can do"
          topic="budgets">
          A limit stands here with what is left of it, and when it runs out.
        </Empty>
      )}
    </section>
  );
}

function Near({ row, at }) {
  const state = stateOf(row);
  const words =
    state === 'used'
      ? `${row.over === undefined ? 'used up' : `${usd(row.over)} over`}${ends(row, at) ? ` · refuses until ${ends(row, at)}` : ''}`
      : state === 'runs'
        ? `runs out ${runsOut(row, at)}`
        : runsOut(row, at);
  return (
    <div class="near">
      <div class="between">
        <a class="name" href={to('budgets', { account: row.account, window: row.window })}>
          <b>
            {row.kind && row.kind[0].toUpperCase() + row.kind.slice(1)} <Name of={row.name} most={28} />
          </b>{' '}
          <span class="soft">{row.window}</span>
        </a>
        <b class="nowrap">{state === 'used' ? 'used up' : row.left === undefined ? <None /> : `${usd(row.left)} left`}</b>
      </div>
      <BudgetBar row={row} label={`${usd(row.spent)} spent of ${usd(row.limit)}, ${usd(row.held)} held`} />
      <div class="between cap">
        <span class="name">
          {row.unit === 'usd'
            ? `${usd(row.spent)} of ${limit(row.limit)}`
            : `${compact(pixels(row.spent))} of ${compact(pixels(row.limit))} ${row.unit}`}
        </span>
        <span class={state === 'used' ? 'over' : state === 'runs' || state === 'full' ? 'warnx' : ''}>
          {(state === 'runs' || state === 'full') && <Warn />} {words}
        </span>
      </div>
    </div>
  );
}

const SIGNS = { loop_detected: <Loop />, budget_exceeded: <Stop />, tool_refused: <Stop /> };

/** What an alert is about, in figures, where it says so. */
const figures = ({ spent, limit: of, monthly_spent: ofMonth, monthly_limit: month, unit }) => {
  const [a, b] = [spent ?? ofMonth, of ?? month];
  return a && b && (unit === undefined || unit === 'usd') ? `${usd(a)} of ${limit(b)}` : '';
};

const raised = (one) =>
  one.action === 'budget.top_up' && one.after && one.after.value ? `+${limit(one.after.value.amount)}` : '';

/** Alerts and changes, latest first. */
function JustNow({ alerts, changes, at }) {
  const rows = [
    ...(alerts ? alerts.alerts : []).map((alert) => ({
      at: alert.at,
      key: alert.id,
      sign: SIGNS[alert.type] || (alert.severity === 'info' ? null : <Warn label={alert.severity} />),
      text: alert.message,
      right: figures(alert.details),
      href: to('alerts', { id: alert.id }),
    })),
    ...(changes ? changes.changes : []).map((one) => ({
      at: one.at,
      key: one.id,
      sign: null,
      text: `${one.author} ${actionWords(one)}`,
      right: raised(one),
      href: to('audit', { id: one.id }),
    })),
  ]
    .sort((a, b) => (a.at < b.at ? 1 : -1))
    .slice(0, 9);
  return (
    <section class="block third">
      <h2 class="head">
        Just now{' '}
        <small class="right">
          <a href={to('alerts')}>All alerts</a>
        </small>
      </h2>
      <ul class="just">
        {rows.map((row) => (
          <li key={row.key}>
            <span class="faint nowrap">{brief(row.at, at)}</span>
            <span class="sign">{row.sign}</span>
            <a class="name" href={row.href}>
              <Name of={row.text} most={90} />
            </a>
            <span class="soft nowrap">{row.right}</span>
          </li>
        ))}
      </ul>
      {!rows.length && <p class="soft pad-y">Nothing yet: alerts and changes stand here.</p>}
    </section>
  );
}

const VERBS = {
  'budget.set': 'set a limit',
  'budget.top_up': 'topped up',
  'session.kill': 'killed',
  'session.end': 'ended',
  'key.block': 'blocked a key',
  'key.unblock': 'unblocked a key',
  'policy.put': 'put a version',
  'policy.activate': 'activated',
  'policy.rollback': 'rolled back',
  'ledger.import': 'imported',
  'rate.set': 'set a rate',
  'alert.silence': 'silenced alerts',
};

export function actionWords(one) {
  const verb = VERBS[one.action] || one.action;
  const about =
    (one.after && one.after.value && (one.after.value.account || one.after.value)) || one.subject.replace(/^[a-z]+:/, '');
  return `${verb} ${typeof about === 'string' ? about : one.subject}`;
}
