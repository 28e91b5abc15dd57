// The call tree: sessions, subagents, calls and tools, with what each cost and when it ran.

import { useState } from 'preact/hooks';
import { count, percent, pixels } from '../format.js';
import { now } from '../rpc.js';
import { useCalls } from '../data.js';
import { go, here, route } from '../route.js';
import { cachedOf, extent, loops, readOf, rowsOf, writtenOf } from '../tree.js';
import { moment } from '../time.js';
import { Name, None, Stop, Usd } from '../parts/text.jsx';
import { Skeleton } from '../parts/states.jsx';
import { Made } from './call.jsx';

const SHOWN = 200;
/** Within less than this, times have seconds. */
const SHORT_MS = 600_000;

export function Tree({ tree, running, summed }) {
  const [closed, setClosed] = useState(new Set());
  const at = now();
  const [begin, end] = extent(tree, at);
  const rows = rowsOf({ ...tree, steps: [...tree.steps, ...running.map(asStep)] }, closed).slice(0, SHOWN);
  const place = (moment) => Math.max(0, Math.min(100, ((moment - begin) / (end - begin)) * 100));
  const brackets = loops(rows);
  const toggle = (key) =>
    setClosed((before) => {
      const next = new Set(before);
      if (!next.delete(key)) next.add(key);
      return next;
    });
  const middle = (begin + end) / 2;
  const chosen = route.value.query.step;
  return (
    <table class="fold tree" role="table" aria-label="Steps">
      <thead>
        <tr>
          <th scope="col">Step</th>
          <th scope="col">Model or tool</th>
          <th scope="col" class="num">
            Cache
          </th>
          <th scope="col" class="num far">
            Read
          </th>
          <th scope="col" class="num far">
            Written
          </th>
          <th scope="col" class="num">
            Cost
          </th>
          <th scope="col" class="times">
            <span>{clock(begin, end - begin < SHORT_MS)}</span>
            <span>{clock(middle, end - begin < SHORT_MS)}</span>
            <span>{clock(end, end - begin < SHORT_MS)}</span>
          </th>
        </tr>
      </thead>
      <tbody>
        {rows.map((row, i) => [
          <Row
            key={row.key}
            {...{
              row,
              i,
              place,
              at,
              chosen: chosen === row.key,
              toggle,
              summed,
              bracket: brackets.find(([from, to]) => i >= from && i <= to),
              brackets,
            }}
          />,
          chosen === row.key && row.step.ids && (
            <tr key={`${row.key} made`} class="opened">
              <td colSpan="7" data-p="1">
                <Opened id={row.step.ids[0]} step={row.step} />
              </td>
            </tr>
          ),
        ])}
      </tbody>
    </table>
  );
}

const clock = (at, seconds) => new Date(at).toISOString().slice(11, seconds ? 19 : 16);

/** A call that is under way. */
function asStep(hold) {
  return {
    kind: 'running',
    label: 'running',
    model: hold.model,
    calls: 1,
    ids: [hold.exchange],
    first: hold.since,
    last: null,
    usage: null,
    cost_usd: hold.spent_usd,
    held_usd: hold.held_usd,
    written: hold.output_tokens,
    basis: hold.basis,
  };
}

function Row({ row, i, place, at, chosen, toggle, summed, bracket }) {
  const { step, depth } = row;
  const usage = row.group ? step.sums && step.sums.usage : step.usage;
  const cost = row.group ? (step.sums ? step.sums.cost_usd : undefined) : step.cost_usd;
  const opens = !row.group && step.ids;
  const open = () => opens && go(here({ step: chosen ? null : row.key }), { replace: true });
  const many = step.calls > 1 && !row.group && !step.same;
  return (
    <tr
      data-row={opens ? true : undefined}
      tabIndex={opens ? 0 : undefined}
      aria-selected={opens ? chosen : undefined}
      onClick={(event) => !event.target.closest('a, button') && open()}>
      <td class="name step" data-p="1">
        <span class="rails" aria-hidden="true" style={{ width: `${depth * 18}px` }}>
          {depth > 0 && (
            <>
              <i class={row.last ? 'elbow' : 'tee'} style={{ left: `${(depth - 1) * 18 + 6}px` }} />
              {row.rails.map((rail, n) => rail && <i key={n} class="rail" style={{ left: `${n * 18 + 6}px` }} />)}
            </>
          )}
        </span>
        {row.group ? (
          <button type="button" class="twist" aria-expanded={row.open} onClick={() => toggle(row.key)}>
            {row.open ? '▾' : '▸'}{' '}
            <b>
              <Name of={step.label} most={28} />
            </b>
          </button>
        ) : (
          <>
            <Name of={step.label} most={32} />
            {many && step.kind !== 'refused' && ` 1 … ${step.calls}`}
            {step.kind === 'tool' && (
              <>
                {' '}
                <span class="tag">tool</span>
              </>
            )}
          </>
        )}
      </td>
      <td class="name soft" data-p="3">
        {step.kind === 'refused' ? (
          <span class="refused">
            <Stop /> refused, <Name of={step.code} />
          </span>
        ) : row.group ? (
          <>session · {depth ? 'subagent' : <Name of={step.session.agent} most={20} none="no agent" />}</>
        ) : (
          <>
            {many && `${count(step.calls)} calls · `}
            <Name of={step.model} most={28} />
          </>
        )}
      </td>
      <td class="num">{Number.isFinite(cachedOf(usage)) ? percent(cachedOf(usage), 0) : <None />}</td>
      <td class="num far">{usage && readOf(usage) ? count(readOf(usage)) : <None />}</td>
      <td class="num far">
        {usage && writtenOf(usage) ? count(writtenOf(usage)) : step.written ? count(step.written) : <None />}
      </td>
      <td class="num" data-p="2">
        <Usd of={cost} places={4} quiet={!row.group} />
      </td>
      <td class="when">
        <When {...{ step, row, place, at }} />
        {bracket && i === bracket[0] && <span class="bracket first">same call {count(bracket[2])} times</span>}
        {bracket && i > bracket[0] && i < bracket[1] && <span class="bracket" />}
        {bracket && i === bracket[1] && i > bracket[0] && <span class="bracket end" />}
      </td>
    </tr>
  );
}

function When({ step, row, place, at }) {
  const first = Date.parse(row.group ? step.session.started : step.first);
  const last = row.group ? Date.parse(step.session.ended || step.session.last_seen) : step.last ? Date.parse(step.last) : at;
  const from = place(first);
  const style = { left: `${Math.min(99, from).toFixed(2)}%`, width: `${Math.max(0.8, place(last) - from).toFixed(2)}%` };
  if (step.kind === 'refused')
    return (
      <span class="at refused" style={{ left: `${Math.min(97, from)}%` }} aria-hidden="true">
        ✕
      </span>
    );
  if (step.kind !== 'running') return <i class={row.group ? 'line' : `ran ${step.kind}`} style={style} />;
  const share = step.cost_usd === undefined ? 0 : Math.min(1, pixels(step.cost_usd) / Math.max(1e-12, pixels(step.held_usd)));
  const width = Math.max(4, place(at) - from);
  return (
    <>
      <i class="ran call" style={{ left: `${Math.min(95, from)}%`, width: `${width * share}%` }} />
      <i class="ran hatch" style={{ left: `${Math.min(95, from) + width * share}%`, width: `${width * (1 - share)}%` }} />
    </>
  );
}

/** What the step is made of: kind x price of that day, hold and its basis. */
function Opened({ id, step }) {
  const data = useCalls([step.kind === 'running' ? ['hold.explain', { id }] : ['ledger.explain', { id }]], { every: 300_000 });
  const at = now();
  if (!data.ready) return <Skeleton rows={3} />;
  const { value, error } = data.results[0];
  const link = <a href={`/calls?id=${encodeURIComponent(id)}`}>Open the call</a>;
  if (step.kind === 'running') {
    return (
      <div class="opened-in">
        <div>
          <b>
            <Name of={step.label} />
          </b>{' '}
          since {moment(step.first, at)}
          <p class="cap">
            <Usd of={step.held_usd} places={4} /> is held: {step.basis.replaceAll('_', ' ')}.
            {value &&
              value.bounds.map((bound) => (
                <span key={`${bound.account}${bound.window}`}>
                  {' '}
                  <Name of={bound.account} most={32} />, {bound.window}: <Usd of={bound.left} /> left of{' '}
                  <Usd of={bound.limit} quiet />.
                </span>
              ))}
          </p>
        </div>
      </div>
    );
  }
  if (!value)
    return (
      <p class="cap">
        {error && error.message} {link}
      </p>
    );
  return (
    <div class="opened-in">
      <div>
        <b>
          <Name of={step.label} />
        </b>{' '}
        at {moment(value.entry.at, at)}
        <p class="cap">
          {step.calls > 1 ? `The first of ${count(step.calls)}. ` : ''}
          {link}
        </p>
      </div>
      <div>
        <Made lines={value.lines} entry={value.entry} />
      </div>
    </div>
  );
}
