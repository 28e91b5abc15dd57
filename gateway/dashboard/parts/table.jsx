// A table: real rows and heads. It sorts where the figures are (in the gateway where the method can, else over the whole answer),
// has 100 rows a page, draws only what is near the window, and folds into rows of two lines on a phone.

import { signal } from '@preact/signals';
import { useEffect, useRef, useState } from 'preact/hooks';
import { count } from '../format.js';
import { ordered } from '../order.js';
import { csv } from '../text.js';
import { go, here, route } from '../route.js';

/** A window in which rows have two lines: only what has a place there is drawn. */
const phone = matchMedia('(max-width: 720px)');
const narrow = signal(phone.matches);
phone.addEventListener('change', () => {
  narrow.value = phone.matches;
});

const PAGE = 100;
const ROW_PX = 32;
const AHEAD = 12;
/** Fewer rows than this are drawn whole. */
const WINDOWED_FROM = 60;

/**
 * Columns: `{key, head, num, cell(row), value(row), sort: 'text'|'money'|'number', phone: 1..5, far, class, csv}`. `far`: left out in
 * windows that are no phone's and not wide.
 * `phone`: 1 top left, 2 top right, 3 and 4 below them, 5 a line of its own; without, it is left out there.
 * `open(row)`: the address of a row. `id(row)`: what it is told apart by. `sum`: cells by column for the row of all pages.
 * `whole()`: all rows of the filter, where not all of them are here.
 */
export function Table({
  columns: all,
  rows,
  id,
  open,
  sum,
  sort,
  selected,
  rowClass,
  label,
  onSelect,
  whole,
  paged = true,
  name = 'sort',
  file,
  footer,
  height = ROW_PX,
}) {
  const { query } = route.value;
  const columns = narrow.value ? all.filter((column) => column.phone) : all;
  const order = query[name] || sort || '';
  const sorted = ordered(rows, all, order);
  const page = Math.max(1, Number(query.page) || 1);
  const pages = Math.max(1, Math.ceil(sorted.length / PAGE));
  const shown = paged ? sorted.slice((Math.min(page, pages) - 1) * PAGE, Math.min(page, pages) * PAGE) : sorted;
  return (
    <>
      <table class="fold" role="table" aria-label={label}>
        <Heads columns={columns} order={order} name={name} />
        <Body {...{ columns, rows: shown, id, open, selected, rowClass, onSelect, height }} />
        {sum && (
          <tbody>
            <tr class="sum">
              {columns.map((column) => (
                <td key={column.key} class={classOf(column)} data-p={column.phone}>
                  {sum[column.key]}
                </td>
              ))}
            </tr>
          </tbody>
        )}
      </table>
      {(pages > 1 || file || footer) && (
        <div class="pager">
          {footer}
          {pages > 1 && <Pages page={Math.min(page, pages)} pages={pages} total={sorted.length} />}
          {file && (
            <span class="right">
              <button
                type="button"
                class="state"
                data-key="e"
                onClick={async () => download(file, all, whole ? await whole() : sorted)}>
                CSV <kbd aria-hidden="true">e</kbd>
              </button>
            </span>
          )}
        </div>
      )}
    </>
  );
}

const classOf = (column) => [column.num ? 'num' : 'name', column.class || '', column.far ? 'far' : ''].join(' ').trim();

function Heads({ columns, order, name }) {
  const down = order.startsWith('-');
  const by = order.replace(/^-/, '');
  return (
    <thead>
      <tr>
        {columns.map((column) => {
          const is = by === column.key && column.sort;
          const next = is ? (down ? column.key : `-${column.key}`) : column.num ? `-${column.key}` : column.key;
          return (
            <th
              key={column.key}
              scope="col"
              class={[column.num ? 'num' : '', column.far ? 'far' : ''].join(' ').trim() || undefined}
              aria-sort={is ? (down ? 'descending' : 'ascending') : undefined}>
              {column.sort ? (
                <a href={here({ [name]: next, page: null })}>
                  {column.head}
                  {is ? (down ? ' ↓' : ' ↑') : ''}
                </a>
              ) : (
                column.head || <span class="sr">{column.spoken || column.key}</span>
              )}
            </th>
          );
        })}
      </tr>
    </thead>
  );
}

/** Rows near the window; the others are two gaps of their height. */
function Body({ columns, rows, id, open, selected, rowClass, onSelect, height }) {
  const ref = useRef(null);
  const [range, setRange] = useState([0, WINDOWED_FROM]);
  const windowed = rows.length > WINDOWED_FROM && !narrow.value;
  useEffect(() => {
    if (!windowed) return undefined;
    const look = () => {
      if (!ref.current) return;
      const top = ref.current.getBoundingClientRect().top;
      const first = Math.max(0, Math.floor(-top / height) - AHEAD);
      const last = Math.min(rows.length, Math.ceil((innerHeight - top) / height) + AHEAD);
      setRange((before) => (before[0] === first && before[1] === last ? before : [first, Math.max(last, first + AHEAD)]));
    };
    look();
    addEventListener('scroll', look, { passive: true });
    addEventListener('resize', look);
    return () => {
      removeEventListener('scroll', look);
      removeEventListener('resize', look);
    };
  }, [windowed, rows.length, height]);
  const [from, to] = windowed ? range : [0, rows.length];
  const gap = (size) =>
    size > 0 && (
      <tr aria-hidden="true">
        <td class="pad" colSpan={columns.length} style={{ height: `${size * height}px` }} />
      </tr>
    );
  return (
    <tbody ref={ref}>
      {gap(from)}
      {rows.slice(from, to).map((row) => {
        if (row.group)
          return (
            <tr class="group" key={`group ${row.group}`}>
              <td colSpan={columns.length}>{row.group}</td>
            </tr>
          );
        const key = id(row);
        const address = open && open(row);
        const act = (event) => {
          if (event.target.closest('a, button, input, select') || String(getSelection())) return;
          if (onSelect) onSelect(row, event);
          else if (address) go(address);
        };
        return (
          <tr
            key={key}
            data-row
            data-href={address || undefined}
            tabIndex={address || onSelect ? 0 : undefined}
            class={rowClass && rowClass(row)}
            aria-selected={selected !== undefined ? key === selected : undefined}
            onClick={act}>
            {columns.map((column) => (
              <td key={column.key} class={classOf(column)} data-p={column.phone}>
                {column.cell(row)}
              </td>
            ))}
          </tr>
        );
      })}
      {gap(rows.length - to)}
    </tbody>
  );
}

function Pages({ page, pages, total }) {
  return (
    <nav aria-label="Pages" class="row-of">
      <span>
        {count((page - 1) * PAGE + 1)} to {count(Math.min(page * PAGE, total))} of {count(total)}
      </span>
      {page > 1 && <a href={here({ page: page === 2 ? null : page - 1 })}>Earlier page</a>}
      {page < pages && <a href={here({ page: page + 1 })}>Next page</a>}
    </nav>
  );
}

/** All rows of the filter, as a file; cells that a spreadsheet would reckon with are made text. */
function download(file, columns, rows) {
  const told = columns.filter((column) => column.csv !== false);
  const cells = rows
    .filter((row) => !row.group)
    .map((row) => told.map((column) => (column.value ? column.value(row) : row[column.key])));
  save(
    `${file}.csv`,
    'text/csv',
    csv(
      told.map((column) => column.head || column.key),
      cells,
    ),
  );
}

export function save(name, type, text) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
