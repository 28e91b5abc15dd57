// What stands in the bar of a view. Each is a link or a select whose choice is in the address.

import { go, here, filters, route } from '../route.js';
import { FILTERS } from '../url.js';
import { palette } from '../keys.js';
import { now } from '../rpc.js';
import { iso, span, SPANS } from '../time.js';
import { Name } from './text.jsx';

/** One of few, side by side. `of`: `[value, label]`; the first is the default, which the address leaves out. */
export function Seg({ name, of, fallback, label, preset = fallback ?? of[0][0], also = {} }) {
  const chosen = route.value.query[name] ?? fallback ?? preset;
  return (
    <nav class="seg" aria-label={label || name}>
      {of.map(([value, text]) => (
        <a
          key={value}
          href={here({ ...also, [name]: value === preset ? null : value, page: null })}
          aria-current={value === chosen ? 'true' : undefined}>
          {text}
        </a>
      ))}
    </nav>
  );
}

/** One of many: a select that looks like a chip. */
export function Pick({ name, label, of, fallback, empty }) {
  const preset = fallback ?? (of[0] && of[0][0]) ?? '';
  const chosen = route.value.query[name] ?? preset;
  const known = of.find(([value]) => value === chosen);
  const act = (event) => go(here({ [name]: event.target.value === preset ? null : event.target.value, page: null }));
  return (
    <label class="chip">
      <span>{label}</span>
      <b>
        <Name of={known ? known[1] : chosen} most={24} none={empty || 'all'} />
      </b>
      <select aria-label={label} value={chosen} onChange={act}>
        {!known && <option value={chosen}>{String(chosen).slice(0, 64)}</option>}
        {of.map(([value, text]) => (
          <option key={value} value={value} selected={value === chosen}>
            {String(text).slice(0, 64)}
          </option>
        ))}
      </select>
    </label>
  );
}

/** How long, and the same length earlier or later. */
export function Periods({ fallback = '30d', of = Object.keys(SPANS) }) {
  const { query } = route.value;
  const range = span(query, now(), fallback);
  const length = range.to - range.from;
  const shifted = (by) =>
    here({ last: null, from: iso(range.from + by * length), to: iso(range.to + by * length), page: null, cursor: null });
  return (
    <>
      <Seg
        name="last"
        label="Period"
        fallback={query.from ? 'none' : fallback}
        also={{ from: null, to: null, cursor: null }}
        of={of.map((name) => [name, SPANS[name].label])}
        preset={fallback}
      />
      <nav class="seg" aria-label="Earlier, later">
        <a href={shifted(-1)} data-key="[" aria-label="Earlier">
          ‹
        </a>
        {range.fixed && range.to < now() && (
          <a href={shifted(1)} data-key="]" aria-label="Later">
            ›
          </a>
        )}
      </nav>
    </>
  );
}

/** The filters in force, each with its end, and the way to one more. */
export function Filters({ but = '' }) {
  return (
    <>
      {Object.entries(filters.value)
        .filter(([name]) => name !== but)
        .map(([name, value]) => (
          <span class="chip" key={name}>
            <span>{name}</span>
            <b>
              <Name of={value} most={20} />
            </b>
            <button
              type="button"
              aria-label={`Take out the filter ${name}`}
              onClick={() => go(here({ [name]: null, page: null }))}>
              ✕
            </button>
          </span>
        ))}
      <button
        type="button"
        class="chip"
        onClick={() => {
          palette.value = 'filter';
        }}>
        Add a filter <kbd aria-hidden="true">f</kbd>
      </button>
    </>
  );
}

/** What the ledger can be asked by. */
export const DIMENSIONS = [
  ['model', 'model'],
  ['agent', 'agent'],
  ['tenant', 'tenant'],
  ['tag:team', 'team'],
  ['session', 'session'],
  ['user', 'user'],
  ['task', 'task'],
  ['provider', 'provider'],
  ['key', 'key'],
  ['tag:project', 'project'],
  ['tag:feature', 'feature'],
  ['tool', 'tool'],
];

/** The name of a dimension, and the value that a row has of it. */
export const dimensionName = (by) => (DIMENSIONS.find(([value]) => value === by) || [by, by.replace(/^tag:/, '')])[1];
export const dimensionValue = (row, by) => row[by.startsWith('tag:') || !FILTERS.includes(by) ? 'tag' : by] ?? '';
