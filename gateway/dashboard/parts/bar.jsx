// The budget bar. The limit stands at 86 % of every track, so that limits line up down a page. From the left: spent without
// overage, held, overage; what passes the limit is cut at the track's end, and the words beside it have the figure.

import { pixels } from '../format.js';
import { shares } from './geometry.js';

const known = (text) => (text === undefined || text === null ? null : pixels(text));

/** `row` has `limit, spent, held, overage` and, where the gateway knows them, `forecast, forecast_low, forecast_high, soft`. */
export function BudgetBar({ row, tall = false, label = '' }) {
  const at = shares({
    limit: pixels(row.limit),
    spent: pixels(row.spent),
    held: pixels(row.held),
    overage: pixels(row.overage),
    low: known(row.forecast_low),
    forecast: known(row.forecast),
    high: known(row.forecast_high),
    soft: row.soft || [],
  });
  const percent = (value) => `${value.toFixed(2)}%`;
  return (
    <div class={`budget${tall ? ' tall' : ''}`} role="img" aria-label={label}>
      <i class="track" />
      {at.spent > 0 && <i class="part spent" style={{ width: percent(at.spent) }} />}
      {pixels(row.held) > 0 && (
        <i class="part heldpart hatch" style={{ left: percent(Math.min(at.held.at, 99)), width: percent(at.held.width) }} />
      )}
      {pixels(row.overage) > 0 && (
        <i class="part overpart" style={{ left: percent(Math.min(at.over.at, 98)), width: percent(at.over.width) }} />
      )}
      {at.ticks.map((tick) => (
        <i key={tick} class="tick" style={{ left: percent(tick) }} />
      ))}
      {at.band && <i class="band" style={{ left: percent(at.band.at), width: percent(at.band.width) }} />}
      {at.forecast !== null && <i class={`point${at.beyond ? ' warn' : ''}`} style={{ left: percent(at.forecast) }} />}
      <i class="limit" />
    </div>
  );
}

/** What a running call has cost, inside what is held for it. `most` is the largest hold beside it. */
export function HoldBar({ held, spent, most }) {
  const width = most > 0 ? Math.max(4, (pixels(held) / most) * 100) : 4;
  const share = spent === undefined || spent === null || pixels(held) === 0 ? 0 : Math.min(1, pixels(spent) / pixels(held));
  return (
    <span class="holdbar" aria-hidden="true">
      <i class="hatch" style={{ width: `${width.toFixed(1)}%` }} />
      {share > 0 && <i class="done" style={{ width: `${(width * share).toFixed(1)}%` }} />}
    </span>
  );
}
