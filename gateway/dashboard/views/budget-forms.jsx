// What can be done to a budget. A top-up and a raise show what will be, and are done at once, with Undo; a limit below what is
// spent is asked about before.

import { useEffect, useState } from 'preact/hooks';
import { compare, decimal, limit, money, usd } from '../format.js';
import { call, change, link, now } from '../rpc.js';
import { runsOut } from '../budgets.js';
import { date, iso } from '../time.js';
import { go, here } from '../route.js';
import { BudgetBar } from '../parts/bar.jsx';
import { ask, Field, say } from '../parts/sheet.jsx';
import { None } from '../parts/text.jsx';

const QUIET_MS = 300;

/** What the gateway says would be, asked when the typing rests. */
function useTrial(method, params) {
  const [trial, setTrial] = useState(null);
  const key = params && JSON.stringify(params);
  useEffect(() => {
    setTrial(null);
    if (!params) return undefined;
    let gone = false;
    const timer = setTimeout(() => {
      call(method, { ...params, dry_run: true }).then(
        (value) => !gone && setTrial({ value }),
        (error) => !gone && setTrial({ error }),
      );
    }, QUIET_MS);
    return () => {
      gone = true;
      clearTimeout(timer);
    };
  }, [method, key]);
  return trial;
}

const undone = (result) =>
  result.change ? () => change('rule.revert', { change: result.change, note: 'undone in the dashboard' }) : null;
const isAmount = (text) => decimal(text.replaceAll(',', '')) !== null && !decimal(text.replaceAll(',', '')).isZero;
const plain = (text) => text.trim().replace(/^\$/, '').replaceAll(',', '');

export function Change({ row, mode }) {
  return mode === 'set' ? <SetLimit row={row} /> : <TopUp row={row} />;
}

function TopUp({ row }) {
  const end = row.to ? iso(Date.parse(row.to)).slice(0, 10) : '';
  const [amount, setAmount] = useState('');
  const [until, setUntil] = useState(end || iso(now() + 7 * 86_400_000).slice(0, 10));
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const good = isAmount(plain(amount)) && until;
  const params = good ? { account: row.account, amount: plain(amount), unit: row.unit, window: row.window, until } : null;
  const trial = useTrial('budget.top_up', params);
  const words = money(plain(amount) || '0', 2);
  const down = link.value.state === 'down';
  const send = async (event) => {
    event.preventDefault();
    if (!good || busy || down) return;
    setBusy(true);
    setError(null);
    try {
      const result = await change('budget.top_up', { ...params, reason: 'in the dashboard' });
      say(`${row.name} is topped up by ${limit(plain(amount))}.`, undone(result));
      setAmount('');
    } catch (failed) {
      setError(failed);
    }
    setBusy(false);
  };
  return (
    <form class="form" onSubmit={send}>
      <h3 class="cap">
        <b>Top up</b>
      </h3>
      <div class="pair">
        <Field
          label="Amount"
          name="amount"
          before={row.unit === 'usd' ? '$' : ''}
          value={amount}
          onInput={(event) => setAmount(event.target.value)}
        />
        <Field label="Until" name="until" type="date" value={until} onInput={(event) => setUntil(event.target.value)} />
      </div>
      {good && <After row={row} trial={trial} />}
      <Refusal error={error || (trial && trial.error)} />
      <div class="row-of">
        <button class="button main" aria-disabled={!good || busy || down} data-key="t">
          {good && words ? `Top up ${row.unit === 'usd' ? limit(plain(amount)) : plain(amount)}` : 'Top up'}{' '}
          <kbd aria-hidden="true">⏎</kbd>
        </button>
        <a class="button" href={here({ do: 'set' })}>
          Set limit
        </a>
      </div>
    </form>
  );
}

function SetLimit({ row }) {
  const [amount, setAmount] = useState('');
  const [action, setAction] = useState('block');
  const [error, setError] = useState(null);
  const good = isAmount(plain(amount));
  const params = good
    ? {
        account: row.account,
        window: row.window,
        unit: row.unit,
        limit: plain(amount),
        action,
        ...(row.zone && row.zone !== 'UTC' ? { zone: row.zone } : {}),
        ...(row.soft ? { soft: row.soft } : {}),
      }
    : null;
  const trial = useTrial('budget.set', params);
  const below = good && compare(plain(amount), row.spent) < 0;
  const down = link.value.state === 'down';
  const run = async (_, id) => {
    const result = await change('budget.set', { ...params, note: 'in the dashboard' }, id);
    say(`The limit of ${row.name} is ${limit(plain(amount))}.${result.warning ? ` ${result.warning}` : ''}`, undone(result));
    go(here({ do: null }));
  };
  const send = (event) => {
    event.preventDefault();
    if (!good || down) return;
    if (below) {
      ask({
        title: `Lower ${row.name} below what is spent`,
        verb: `Set ${limit(plain(amount))}`,
        danger: true,
        run,
        body: (
          <p>
            {usd(row.spent)} is spent already, so it is used up at once: its calls are refused until{' '}
            {row.to ? date(row.to) : 'the limit is raised'}.
          </p>
        ),
      });
      return;
    }
    run().catch(setError);
  };
  return (
    <form class="form" onSubmit={send}>
      <h3 class="cap">
        <b>Set limit</b>
      </h3>
      <div class="pair">
        <Field
          label={`Limit a ${row.window}`}
          name="limit"
          before={row.unit === 'usd' ? '$' : ''}
          value={amount}
          placeholder={row.limit}
          onInput={(event) => setAmount(event.target.value)}
        />
        <Field
          label="When it is used up"
          name="action"
          value={action}
          options={ACTIONS}
          onInput={(event) => setAction(event.target.value)}
        />
      </div>
      {good && <After row={row} trial={trial} />}
      <Refusal error={error || (trial && trial.error)} />
      <div class="row-of">
        <button class={`button ${below ? 'kill' : 'main'}`} aria-disabled={!good || down}>
          {good ? `Set ${limit(plain(amount))}` : 'Set limit'}
        </button>
        <a class="button" href={here({ do: null })}>
          Leave it
        </a>
      </div>
    </form>
  );
}

const ACTIONS = [
  ['block', 'refuse'],
  ['warn', 'only warn'],
  ['clamp', 'shorten answers'],
  ['downgrade', 'go to a cheaper model'],
];

/** The bar after a change, as the gateway reckons it. */
function After({ row, trial }) {
  const after = trial && trial.value && trial.value.after;
  const bar = after ? { ...row, ...after } : null;
  return (
    <div class="after">
      <div class="cap">After it</div>
      {bar ? (
        <>
          <BudgetBar row={bar} label={`${after.left} left of ${after.limit}`} />
          <div>
            <b>
              {usd(after.left)} left of {limit(after.limit)}
            </b>{' '}
            <span class="soft">· {runsOut({ ...bar, runs_out: after.runs_out_at }, now())}</span>
          </div>
        </>
      ) : (
        <div class="soft">
          {trial && trial.value ? (
            <>
              The gateway takes it. What is left after it: <None />
            </>
          ) : (
            'Asking the gateway'
          )}
        </div>
      )}
      {trial && trial.value && trial.value.warning && <p class="warnx">{trial.value.warning}</p>}
    </div>
  );
}

const Refusal = ({ error }) =>
  error && (
    <p class="refused" role="alert">
      <i class="glyph stop" aria-hidden="true">
        ✕
      </i>{' '}
      {error.message} <span class="mono">{error.code}</span>
    </p>
  );

export function NewBudget({ account: given, close }) {
  const [form, setForm] = useState({ account: given, window: 'day', limit: '', unit: 'usd', action: 'block' });
  const [error, setError] = useState(null);
  const set = (name) => (event) => setForm((before) => ({ ...before, [name]: event.target.value }));
  const good = form.account.trim() && isAmount(plain(form.limit));
  const params = good ? { ...form, account: form.account.trim(), limit: plain(form.limit), soft: [0.8] } : null;
  const trial = useTrial('budget.set', params);
  const send = async (event) => {
    event.preventDefault();
    if (!good || link.value.state === 'down') return;
    setError(null);
    try {
      const result = await change('budget.set', { ...params, note: 'in the dashboard' });
      say(`${form.account.trim()} has a limit of ${limit(plain(form.limit))} a ${form.window}.`, undone(result));
      go(close);
    } catch (failed) {
      setError(failed);
    }
  };
  return (
    <form class="form" onSubmit={send}>
      <div class="aside-head">
        <h2 class="title">New budget</h2>
        <a class="button" data-key="Escape" href={close}>
          Esc
        </a>
      </div>
      <Field
        label="Account: agent, agent:ci-*, tenant:acme, tag:team=ml, global"
        name="account"
        value={form.account}
        onInput={set('account')}
        required
      />
      <div class="pair">
        <Field
          label="Limit"
          name="limit"
          before={form.unit === 'usd' ? '$' : ''}
          value={form.limit}
          onInput={set('limit')}
          required
        />
        <Field
          label="Unit"
          name="unit"
          value={form.unit}
          options={[
            ['usd', 'US dollars'],
            ['tokens', 'tokens'],
            ['requests', 'calls'],
          ]}
          onInput={set('unit')}
        />
        <Field
          label="Window"
          name="window"
          value={form.window}
          options={['minute', 'hour', 'day', 'week', 'month', 'total'].map((one) => [one, one])}
          onInput={set('window')}
        />
        <Field label="When it is used up" name="action" value={form.action} options={ACTIONS} onInput={set('action')} />
      </div>
      {trial && trial.value && trial.value.warning && <p class="warnx">{trial.value.warning}</p>}
      <Refusal error={error || (trial && trial.error)} />
      <div class="row-of">
        <button class="button main" aria-disabled={!good}>
          {good ? `Set ${form.unit === 'usd' ? limit(plain(form.limit)) : plain(form.limit)} a ${form.window}` : 'Set limit'}
        </button>
      </div>
    </form>
  );
}
