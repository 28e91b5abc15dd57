// How much is left, when does it run out.

import { compact, count, limit, percent, pixels, plural, usd } from '../format.js';
import { now } from '../rpc.js';
import { useCalls } from '../data.js';
import { date, iso, monthName, monthOf, dayStart } from '../time.js';
import { budgetRows, byUrgency, fullness, runsOut, stateOf } from '../budgets.js';
import { go, here, route, to } from '../route.js';
import { accountFilter } from '../accounts.js';
import { wholeAccount } from '../me.js';
import { Page } from '../shell.jsx';
import { Amount, Held, Name, None, Stop, Usd, Warn } from '../parts/text.jsx';
import { Empty, Failure, Skeleton } from '../parts/states.jsx';
import { BudgetBar } from '../parts/bar.jsx';
import { Pick } from '../parts/controls.jsx';
import { Change, NewBudget } from './budget-forms.jsx';
import { Facts, Mark, Side } from '../parts/layout.jsx';

const KINDS = [
  ['', 'all'],
  ['global', 'whole gateway'],
  ['tenant:', 'tenants'],
  ['tag:', 'teams and tags'],
  ['agent:', 'agents'],
  ['session:', 'sessions'],
  ['key:', 'keys'],
  ['user:', 'users'],
  ['model:', 'models'],
];
const GROUPS = [
  'Whole gateway',
  'Teams and tenants',
  'Agents, each by itself',
  'Sessions, keys and users',
  'Models, providers and tools',
];
/** Below this share of its limit, a budget that lasts is folded away. */
const QUIET = 0.5;
/** Rows that are drawn at most, of all groups together; the others are found by their name. */
const ROWS_MAX = 80;

export function Budgets() {
  const { query } = route.value;
  const tools = (
    <>
      <Pick
        name="order"
        label="Order"
        of={[
          ['', 'runs out first'],
          ['name', 'name'],
          ['left', 'least left'],
        ]}
      />
      <Pick name="kind" label="Account" of={KINDS} />
      <Search />
      <Pick
        name="in"
        label="Window"
        of={[
          ['', 'all'],
          ['day', 'day'],
          ['week', 'week'],
          ['month', 'month'],
          ['total', 'total'],
        ]}
      />
      <a class="button" data-key="n" href={here({ do: 'new', account: null, window: null })}>
        New budget <kbd aria-hidden="true">n</kbd>
      </a>
    </>
  );
  return (
    <Page title="Budgets" tools={tools} phone="last">
      <All key={query.kind || ''} kind={query.kind || ''} />
    </Page>
  );
}

/** A part of an account's name; in the address, as every filter is. */
function Search() {
  const { query } = route.value;
  const act = (event) => go(here({ q: event.target.value || null }), { replace: true });
  return (
    <label class="field find">
      <span class="sr">Account's name</span>
      <input data-search value={query.q || ''} placeholder="Name" onInput={act} autocomplete="off" spellcheck={false} />
      <kbd aria-hidden="true">/</kbd>
    </label>
  );
}

function All({ kind }) {
  const { query } = route.value;
  const at = now();
  const data = useCalls(
    [
      ['budget.status', { order: 'urgency', limit: 1000, ...(kind ? { account: kind } : {}) }],
      ['budget.status', { account: wholeAccount(), window: 'month' }],
      ['denial.list', { from: iso(dayStart(at)), code: 'budget_' }],
      ['ledger.forecast', { account: wholeAccount(), window: 'month' }],
    ],
    { on: ['hold.changes', 'rule.changes'], every: 15_000 },
  );
  const [status, whole, denials, forecast] = data.results.map((result) => result.value);
  if (!data.ready) return <Skeleton headline rows={12} />;
  if (!status) return <Failure error={data.results[0].error} retry={data.reload} />;
  const wanted = (query.q || '').toLowerCase();
  const every = budgetRows(status.budgets).filter((row) => !query.in || row.window === query.in);
  const rows = wanted ? every.filter((row) => row.account.toLowerCase().includes(wanted)) : every;
  const month = whole && budgetRows(whole.budgets).find((row) => row.account === wholeAccount() && row.unit === 'usd');
  const chosen = rows.find((row) => row.account === query.account && (!query.window || row.window === query.window));
  const side = chosen || query.do === 'new';
  return (
    <div class={`withside${side ? ' chosen' : ''}`}>
      <Head {...{ rows, month, denials, forecast, at }} />
      <div class="listing">
        {rows.length ? (
          <Listing rows={rows} chosen={chosen} at={at} order={query.order || ''} folded={query.all !== '1' && !wanted} />
        ) : (
          <Empty
            title="No limit is set."
            line="agentledger budgets set agent 5 --window day"
            guide="What a limit can do"
            topic="budgets">
            A limit stands here with what is left of it, and when it runs out.
          </Empty>
        )}
      </div>
      {chosen && <Detail key={chosen.id} row={chosen} at={at} />}
      {query.do === 'new' && (
        <aside class="aside">
          <NewBudget account={query.account || ''} close={here({ do: null })} />
        </aside>
      )}
    </div>
  );
}

function Head({ rows, month, denials, forecast, at }) {
  const states = rows.map(stateOf);
  const of = (...names) => states.filter((state) => names.includes(state)).length;
  const [used, soon, shadow] = [of('used'), of('runs', 'full'), of('shadow')];
  const lasts = rows.length - used - soon - shadow;
  return (
    <div class="top wide">
      <div>
        <div class="cap">Left in {monthName(at)}</div>
        <a class="headline plain" href={to('calls', { from: iso(monthOf(at)[0]) })}>
          {month && month.left !== undefined ? (
            <Usd of={month.left} cents class="headline" />
          ) : (
            <span class="headline none">–</span>
          )}
        </a>
      </div>
      <div class="beside">
        <p>
          {plural(rows.length, 'budget')}:{' '}
          {used > 0 && (
            <>
              <b class="over">{count(used)} used up</b>,{' '}
            </>
          )}
          {soon > 0 && (
            <>
              <b class="warnx">
                <Warn /> {count(soon)} will run out or shrink
              </b>
              ,{' '}
            </>
          )}
          {count(lasts)} last{shadow > 0 && `, ${count(shadow)} in shadow`}
        </p>
        <p class="soft">
          {month ? `of ${limit(month.limit)}` : 'no limit on the whole'}
          {forecast ? ` · forecast ${usd(forecast.end.usd, 0)}` : ''}
          <span class="wide-only">
            {' '}
            · refused today:{' '}
            <a href={to('calls', { is: 'refused', last: '24h' })}>
              {denials && denials.refused > 0 ? (
                <>
                  <Stop /> <span class="refused">{plural(denials.refused, 'call')}</span>
                </>
              ) : denials ? (
                'none'
              ) : (
                '–'
              )}
            </a>
            {month && <> · held now {usd(month.held)}</>}
          </span>
        </p>
      </div>
      <div class="key">
        <span>
          <span class="sq spent" />
          spent
        </span>
        <span>
          <Held />
          held
        </span>
        <span>
          <span class="sq over" />
          overage
        </span>
        <span class="wide-only">
          <span class="sq limit" />
          limit
        </span>
        <span class="wide-only">
          <span class="sq warns" />
          warns
        </span>
        <span>
          <span class="sq forecast" />
          forecast
        </span>
      </div>
    </div>
  );
}

const ORDERS = {
  name: (a, b) => (a.account < b.account ? -1 : a.account > b.account ? 1 : 0),
  left: (a, b) => pixels(a.left ?? a.limit) - pixels(b.left ?? b.limit),
  '': byUrgency,
};

function Listing({ rows, chosen, at, order, folded }) {
  const sorted = [...rows].sort(Object.hasOwn(ORDERS, order) ? ORDERS[order] : byUrgency);
  const groups = order
    ? [['', sorted]]
    : GROUPS.map((name) => [name, sorted.filter((row) => row.group === name)]).filter(([, some]) => some.length);
  return (
    <table class="fold budgets" role="table" aria-label="Budgets">
      <thead>
        <tr>
          <th scope="col">Account</th>
          <th scope="col">
            <span class="sr">How full</span>
          </th>
          <th scope="col" class="num">
            Left
          </th>
          <th scope="col" class="num">
            Spent
          </th>
          <th scope="col" class="num">
            Limit
          </th>
          <th scope="col">Runs out</th>
        </tr>
      </thead>
      <tbody>
        {groups.map(([name, some]) => {
          const loud = some.filter(
            (row, i) =>
              !folded || row === chosen || i < 3 || fullness(row) >= QUIET || ['used', 'full', 'runs'].includes(stateOf(row)),
          );
          const shown = loud.slice(0, Math.ceil(ROWS_MAX / groups.length));
          const others = some.length - shown.length;
          return [
            name && (
              <tr class="group" key={name}>
                <td colSpan="6">{name}</td>
              </tr>
            ),
            ...shown.map((row) => <Row key={row.id} row={row} at={at} chosen={row === chosen} />),
            others > 0 && (
              <tr key={`${name} others`}>
                <td class="soft" data-p="1">
                  <a href={here({ all: '1' })}>{count(others)} others</a>
                </td>
                <td class="soft" data-p="3">
                  the fullest stands at {percent(Math.max(...some.filter((row) => !shown.includes(row)).map(fullness)), 0)}
                </td>
                <td />
                <td />
                <td />
                <td class="soft">last</td>
              </tr>
            ),
          ];
        })}
      </tbody>
    </table>
  );
}

function Row({ row, at, chosen }) {
  const state = stateOf(row);
  const href = here({ account: row.account, window: row.window, do: null });
  const words = runsOut(row, at);
  const filter = accountFilter(row.account);
  const entries = filter && to('calls', { ...filter, ...(row.from ? { from: row.from, to: row.to } : { last: '1y' }) });
  const tone = state === 'used' ? 'over' : state === 'runs' || state === 'full' ? 'warnx' : 'soft';
  return (
    <tr data-row data-href={href} tabIndex={0} aria-selected={chosen} onClick={(event) => !event.target.closest('a') && go(href)}>
      <td class="name" data-p="1">
        <a href={href}>
          <Name of={row.name} most={28} />
        </a>{' '}
        <span class="cap">
          {[row.kind || 'global', row.window].filter(Boolean).join(', ')}
          {row.unit !== 'usd' && `, ${row.unit}`}
        </span>
        {row.topped_up && (
          <>
            {' '}
            <span class="tag">+{limit(row.topped_up)}</span>
          </>
        )}
      </td>
      <td data-p="5">
        <BudgetBar row={row} label={`${row.spent} spent, ${row.held} held, limit ${row.limit} ${row.unit}`} />
      </td>
      <td class="num" data-p="2">
        {row.over !== undefined ? (
          <b class="over">
            <Over row={row} />
          </b>
        ) : (
          <>
            <Amount of={row.left} unit={row.unit} />
            <span class="phone-only"> left</span>
          </>
        )}
      </td>
      <td class="num" data-p="3">
        <span class="phone-only">spent </span>
        {entries ? (
          <a href={entries}>
            <Amount of={row.spent} unit={row.unit} quiet />
          </a>
        ) : (
          <Amount of={row.spent} unit={row.unit} quiet />
        )}
      </td>
      <td class="num soft">{row.unit === 'usd' ? limit(row.limit) : compact(pixels(row.limit))}</td>
      <td class={`nowrap ${tone}`} data-p="4">
        {(state === 'runs' || state === 'full') && <Warn />} {words}
      </td>
    </tr>
  );
}

const Over = ({ row }) => <>{row.unit === 'usd' ? usd(row.over) : count(pixels(row.over))} over</>;

function Detail({ row, at }) {
  const { query } = route.value;
  const state = stateOf(row);
  const over = row.over !== undefined;
  const words = {
    used: `Used up${row.used_up ? ` ${runsOut(row, at)}` : ''}, so it refuses`,
    full: 'All that is left is held: answers shrink',
    runs: `Runs out ${runsOut(row, at)}, then refuses`,
    shadow: 'In shadow: it refuses nothing',
    lasts: `Lasts the ${row.window}`,
    open: '',
  }[state];
  const kind = row.kind && row.kind[0].toUpperCase() + row.kind.slice(1);
  const title = (
    <>
      <span>
        {kind} <Name of={row.name} most={48} />
      </span>{' '}
      <small class="cap">
        {row.window}, {row.zone}
      </small>
    </>
  );
  return (
    <Side label="Budget" title={title} close={here({ account: null, window: null, do: null })}>
      <div>
        <span class="figure">
          {over ? (
            <b class="over">
              <Over row={row} />
            </b>
          ) : (
            <Amount of={row.left} unit={row.unit} cents />
          )}
        </span>{' '}
        <span class="soft">
          {over ? '' : 'left '}of {row.unit === 'usd' ? limit(row.limit) : `${count(pixels(row.limit))} ${row.unit}`}
        </span>
      </div>
      <p class={state === 'used' ? 'over' : state === 'runs' || state === 'full' ? 'warnx' : 'soft'}>
        {(state === 'runs' || state === 'full') && <Warn />} {words}
      </p>
      <BudgetBar row={row} tall label={`${row.spent} spent, ${row.held} held, limit ${row.limit}`} />
      <Facts of={parts(row)} />
      <Change row={row} mode={query.do === 'set' ? 'set' : 'top-up'} />
      <Most row={row} />
    </Side>
  );
}

/** What a budget is made of, and where it goes. */
function parts(row) {
  const filter = accountFilter(row.account);
  const amount = (of) => <Amount of={of} unit={row.unit} quiet />;
  const soft = row.soft && (row.soft.length ? row.soft.map((share) => percent(share, 0)).join(', ') : 'nothing');
  return [
    [
      <Mark kind="spent">Spent</Mark>,
      filter ? (
        <a href={to('calls', { ...filter, from: row.from, to: row.to })} data-key="o">
          {amount(row.spent)}
        </a>
      ) : (
        amount(row.spent)
      ),
    ],
    [<Mark kind="held">Held in {plural(row.held_requests, 'call')}</Mark>, amount(row.held)],
    [<Mark kind="over">Overage</Mark>, amount(row.overage)],
    ['Warns at', soft ?? <None />],
    [`Forecast${row.to ? `, ${date(Date.parse(row.to) - 1)}` : ''}`, amount(row.forecast)],
    row.forecast_low !== undefined && [
      <span class="faint">between</span>,
      <span class="faint">
        {usd(row.forecast_low)} and {usd(row.forecast_high)}
      </span>,
    ],
    row.topped_up && ['Topped up', `+${limit(row.topped_up)}`],
  ];
}

/** Who spends most of it: where the ledger can be asked so. */
function Most({ row }) {
  const filter = accountFilter(row.account);
  const can = filter && row.from && (row.account === 'global' || Object.keys(filter)[0] === 'tenant');
  const data = useCalls(
    [can ? ['ledger.summary', { by: 'agent', from: row.from, to: iso(Math.min(now(), Date.parse(row.to))), ...filter }] : null],
    { every: 60_000 },
  );
  if (!can || !data.ready || !data.results[0].value) return null;
  const rows = data.results[0].value.rows;
  const most = rows[0] ? pixels(rows[0].cost_usd) : 0;
  return (
    <section>
      <h3 class="cap">
        <b>Spends most of it</b>
      </h3>
      <table class="bars" aria-label="Spends most of it">
        <tbody>
          {rows.slice(0, 5).map((one) => (
            <tr key={one.agent}>
              <td class="name">
                <a href={to('calls', { ...filter, agent: one.agent, from: row.from })}>
                  <Name of={one.agent} most={24} none="no agent" />
                </a>
              </td>
              <td class="barred">
                <i class="cell-bar" style={{ width: `${most ? (pixels(one.cost_usd) / most) * 100 : 0}%` }} />
              </td>
              <td class="num">
                <Usd of={one.cost_usd} quiet />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      {rows.length > 5 && (
        <p class="cap">
          <a href={to('who', { by: 'agent', ...filter })}>{count(rows.length - 5)} others</a>
        </p>
      )}
    </section>
  );
}
