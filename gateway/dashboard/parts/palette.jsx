// The palette: one field for going, filtering and doing. What changes something opens its form filled in, and never acts.

import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import { usd } from '../format.js';
import { call, now } from '../rpc.js';
import { go, here, route } from '../route.js';
import { cut } from '../text.js';
import { iso, span } from '../time.js';
import { write, FILTERS } from '../url.js';
import { early, help, LETTERS, letters, palette, remember } from '../keys.js';
import { TITLES } from '../titles.js';
import { accountWords } from '../accounts.js';
import { say } from './sheet.jsx';
import { copy } from './text.jsx';

const MOST = 8;

export function Palette() {
  return palette.value && <Open mode={palette.value} />;
}

function Open({ mode }) {
  const ref = useRef(null);
  // Drawn and opened in one turn: no key falls between what was typed before and the field.
  const [text, setText] = useState(early.text);
  const [at, setAt] = useState(0);
  const names = useNames();
  useLayoutEffect(() => {
    ref.current.showModal();
  }, []);
  const groups = found(text, mode, names);
  const flat = groups.flatMap((group) => group.rows);
  const close = () => {
    palette.value = '';
  };
  const pick = (row) => {
    ref.current.close();
    if (row) row.run ? row.run() : go(row.href);
  };
  // By what stands in the field, which may be a letter ahead of what is drawn.
  const choose = (typed) => {
    const rows = found(typed, mode, names).flatMap((group) => group.rows);
    if (rows.length) pick(rows[Math.min(at, rows.length - 1)]);
  };
  const press = (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) setAt((before) => Math.max(0, Math.min(flat.length - 1, before + step)));
    else if (event.key === 'Enter') choose(event.target.value);
    else return;
    event.preventDefault();
  };
  return (
    <dialog
      ref={ref}
      class="palette floats"
      aria-label="Go to, filter, do"
      onClose={close}
      onClick={(event) => event.target === ref.current && ref.current.close()}>
      <input
        autofocus
        value={text}
        placeholder={mode === 'filter' ? 'agent = …, model = …, tag:team = …' : 'Go to, filter, do'}
        role="combobox"
        aria-expanded="true"
        aria-controls="palette-rows"
        aria-activedescendant={flat[at] ? `palette-${at}` : undefined}
        aria-label="Go to, filter, do"
        spellcheck={false}
        autocomplete="off"
        onKeyDown={press}
        onInput={(event) => {
          setText(event.target.value);
          setAt(0);
        }}
      />
      <ul id="palette-rows" role="listbox" aria-label="What fits">
        {groups.map((group) => [
          <li key={group.name} role="presentation" class="cap">
            <b>{group.name}</b>
            <span />
          </li>,
          ...group.rows.map((row) => {
            const i = flat.indexOf(row);
            return (
              <li
                key={`${group.name} ${row.key}`}
                id={`palette-${i}`}
                role="option"
                aria-selected={i === at}
                onClick={() => pick(row)}
                onPointerMove={() => setAt(i)}>
                <span>
                  {row.before}{' '}
                  <b>
                    <bdi>{cut(row.name, 48)}</bdi>
                  </b>
                  {row.after}
                </span>
                <span>{row.at}</span>
              </li>
            );
          }),
        ])}
        {!flat.length && (
          <li role="presentation" class="cap">
            <span>Nothing fits. Try a view, an agent, a model.</span>
            <span />
          </li>
        )}
      </ul>
    </dialog>
  );
}

/** Names to match: asked once when it opens. */
function useNames() {
  const [names, setNames] = useState({ budgets: [], sessions: [], agent: [], model: [], tenant: [] });
  useEffect(() => {
    let gone = false;
    const ask = (name, method, params, rows) =>
      call(method, params).then(
        (value) => {
          if (!gone) setNames((before) => ({ ...before, [name]: rows(value) }));
        },
        () => {},
      );
    ask('budgets', 'budget.status', { order: 'urgency', limit: 500 }, (value) => value.budgets.filter((row) => row.limits.length));
    ask('sessions', 'session.list', { status: 'active', limit: 100 }, (value) => value.sessions);
    for (const by of ['agent', 'model', 'tenant'])
      ask(by, 'ledger.summary', { by, last: '30d' }, (value) => value.rows.slice(0, 500));
    return () => {
      gone = true;
    };
  }, []);
  return names;
}

/** Budgets and sessions that fit: what can be done to them, and where they stand. */
function named(rows, names, fits) {
  for (const row of names.budgets) {
    const [kind, name] = accountWords(row.account);
    const limit = row.limits[0];
    const query = { account: row.account, window: row.window };
    if (fits(`top up ${kind} ${name} ${row.window}`)) {
      rows.Do.push({
        key: `top ${row.account} ${row.window}`,
        before: `Top up ${kind}`,
        name,
        after: `, ${row.window}`,
        at: limit.left === undefined ? '' : `${usd(limit.left)} left`,
        href: write('budgets', { ...query, do: 'top-up' }),
      });
    }
    if (fits(`budget of ${kind} ${name} ${row.window}`)) {
      rows['Go to'].push({
        key: `budget ${row.account} ${row.window}`,
        before: `Budget of ${kind}`,
        name,
        after: `, ${row.window}`,
        at: usd(row.spent_usd),
        href: write('budgets', query),
      });
    }
  }
  for (const row of names.sessions) {
    const query = { id: row.id, tenant: row.tenant };
    if (fits(`kill session ${row.id} ${row.agent}`))
      rows.Do.push({
        key: `kill ${row.tenant} ${row.id}`,
        before: 'Kill session',
        name: row.id,
        at: usd(row.cost_usd),
        href: write('sessions', { ...query, do: 'kill' }),
      });
    if (fits(`session ${row.id} ${row.agent}`))
      rows['Go to'].push({
        key: `session ${row.tenant} ${row.id}`,
        before: 'Session',
        name: row.id,
        at: usd(row.cost_usd),
        href: write('sessions', query),
      });
  }
}

function found(text, mode, names) {
  const given = /^\s*([\w:-]+)\s*=\s*(.+)$/.exec(text);
  const filter = [];
  if (given && (FILTERS.includes(given[1]) || given[1].startsWith('tag:'))) {
    filter.push({
      key: 'given',
      before: `${given[1]} =`,
      name: given[2].trim(),
      href: here({ [given[1]]: given[2].trim(), page: null }),
    });
  }
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const fits = (hay) => words.every((word) => hay.toLowerCase().includes(word));
  const rows = { Do: [], 'Go to': [], 'Filter this view': filter };
  for (const by of ['agent', 'model', 'tenant']) {
    for (const row of names[by]) {
      const name = row[by];
      if (!name || !fits(`${by} = ${name} filter`)) continue;
      rows['Filter this view'].push({
        key: `${by}${name}`,
        before: `${by} =`,
        name,
        at: usd(row.cost_usd),
        href: here({ [by]: name, page: null }),
      });
    }
  }
  if (mode !== 'filter') {
    if (words.length) named(rows, names, fits);
    const letterOf = Object.fromEntries(Object.entries(LETTERS).map(([letter, view]) => [view, letter]));
    for (const [view, title] of Object.entries(TITLES)) {
      if (fits(`go to ${title}`))
        rows['Go to'].push({ key: view, before: '', name: title, at: `g ${letterOf[view]}`, href: write(view) });
    }
    if (fits('copy link to this view')) rows.Do.push({ key: 'link', before: '', name: 'Copy link to this view', run: copyLink });
    if (fits('keyboard help'))
      rows.Do.push({
        key: 'help',
        before: '',
        name: 'Keys of this page',
        at: '?',
        run: () => {
          help.value = true;
        },
      });
  }
  let left = MOST;
  const order = mode === 'filter' ? ['Filter this view'] : words.length ? ['Do', 'Go to', 'Filter this view'] : ['Go to'];
  return order
    .map((name, i) => {
      const share = Math.max(1, Math.ceil(left / (order.length - i)));
      const some = rows[name].slice(0, order.length === 1 ? MOST : share);
      left -= some.length;
      return { name, rows: some };
    })
    .filter((group) => group.rows.length);
}

/** A link that shows the same tomorrow: `from` and `to` in place of `last`. */
async function copyLink() {
  const { view, query, rest } = route.value;
  const { last, ...others } = query;
  const range = SPANNED.has(view) && !query.from ? span(query, now(), SPANNED.get(view)) : null;
  const address = location.origin + write(view, range ? { ...others, from: iso(range.from), to: iso(range.to) } : query, rest);
  say((await copy(address)) ? 'The link is copied.' : address);
}

const SPANNED = new Map([
  ['spend', '30d'],
  ['who', '30d'],
  ['calls', '24h'],
]);

/** All keys, and the switch that turns single letters off. */
export function Help() {
  return help.value && <HelpOpen />;
}

const KEYS = [
  ['Ctrl K', 'palette'],
  ['/', 'search'],
  ['f', 'filter'],
  ['j k', 'next, earlier row'],
  ['Enter', 'open'],
  ['Esc', 'back'],
  ['o', 'entries behind'],
  ['1 to 5', 'go deeper'],
  ['[ ]', 'earlier, later'],
  ['.', 'new rows'],
  ['Space', 'pause'],
  ['t', 'top up'],
  ['x', 'kill'],
  ['n', 'new'],
  ['c', 'copy'],
  ['e', 'CSV'],
  ['r', 'try again'],
  ['d', 'dark, light, system'],
  ['?', 'this'],
];

function HelpOpen() {
  const ref = useRef(null);
  useEffect(() => ref.current.showModal(), []);
  const turn = () => {
    letters.value = !letters.value;
    remember('letters', letters.value ? 'on' : 'off');
  };
  return (
    <dialog
      ref={ref}
      class="floats"
      aria-labelledby="help-title"
      onClose={() => {
        help.value = false;
      }}
      onClick={(event) => event.target === ref.current && ref.current.close()}>
      <div class="sheet">
        <h2 class="title" id="help-title">
          Keys
        </h2>
        <ul class="keys">
          {KEYS.map(([key, words]) => (
            <li key={key}>
              <span>{words}</span>
              <kbd>{key}</kbd>
            </li>
          ))}
        </ul>
        <h3 class="cap">g, then</h3>
        <ul class="keys">
          {Object.entries(LETTERS).map(([letter, view]) => (
            <li key={letter}>
              <span>{TITLES[view]}</span>
              <kbd>{letter}</kbd>
            </li>
          ))}
        </ul>
        <label>
          <input type="checkbox" checked={letters.value} onChange={turn} /> Single letters act
        </label>
        <div class="row-of">
          <button type="button" class="button main" onClick={() => ref.current.close()}>
            Close
          </button>
        </div>
      </div>
    </dialog>
  );
}
