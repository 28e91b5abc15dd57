// The keyboard. Single letters act on what bears them (`data-key`), so that a key never does what no button says; none is taken
// inside a field, and `?` has a switch that turns them off.

import { signal } from '@preact/signals';
import { go } from './route.js';
import { write } from './url.js';

export const LETTERS = {
  n: 'now',
  s: 'spend',
  w: 'who',
  e: 'sessions',
  c: 'calls',
  b: 'budgets',
  r: 'rates',
  k: 'keys',
  p: 'policies',
  v: 'providers',
  i: 'prices',
  m: 'mcp',
  u: 'plugins',
  a: 'alerts',
  l: 'ledger',
  t: 'audit',
  h: 'guide',
};

/** `g` was pressed: the side shows the letters. */
export const going = signal(false);
/** `''`, `all` or `filter`: what the palette is open for. */
export const palette = signal('');
export const help = signal(false);
/** What was typed before the palette stood: it takes it as its beginning. */
export const early = { text: '' };
export const letters = signal(remembered('letters') !== 'off');

function remembered(name) {
  try {
    return localStorage.getItem(`agentledger.${name}`);
  } catch {
    return null;
  }
}

export function remember(name, value) {
  try {
    localStorage.setItem(`agentledger.${name}`, value);
  } catch {
    // It holds for this page alone.
  }
}

const THEMES = ['system', 'light', 'dark'];
export const theme = signal(THEMES.includes(remembered('theme')) ? remembered('theme') : 'system');

export function showTheme() {
  if (theme.value === 'system') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme.value;
}

function nextTheme() {
  theme.value = THEMES[(THEMES.indexOf(theme.value) + 1) % THEMES.length];
  remember('theme', theme.value);
  showTheme();
}

let timer = 0;

export function start() {
  showTheme();
  addEventListener('keydown', press);
}

function press(event) {
  if ((event.ctrlKey || event.metaKey) && !event.altKey && event.key.toLowerCase() === 'k') {
    event.preventDefault();
    early.text = '';
    palette.value = palette.value ? '' : 'all';
    return;
  }
  if (palette.value && !document.querySelector('dialog[open]')) {
    if (event.key.length === 1 && !event.ctrlKey && !event.metaKey) early.text += event.key;
    event.preventDefault();
    return;
  }
  const at = event.target;
  const typing = at.closest('input, select, textarea, [contenteditable]');
  if (event.ctrlKey || event.metaKey || event.altKey || typing || document.querySelector('dialog[open]')) {
    if (event.key === 'Escape' && typing && !document.querySelector('dialog[open]')) at.blur();
    return;
  }
  if (going.value) {
    going.value = false;
    clearTimeout(timer);
    const view = LETTERS[event.key];
    if (view) {
      event.preventDefault();
      go(write(view));
    }
    return;
  }
  if (event.key === 'ArrowDown' || event.key === 'ArrowUp') return void move(event, event.key === 'ArrowDown' ? 1 : -1, true);
  if (event.key === 'Enter') return void enter(event);
  if (event.key === 'Escape') return void click(event, 'Escape');
  if (!letters.value && event.key !== '?') return;
  if (event.key === ' ' && at.closest('button, a, summary')) return;
  const own = {
    j: () => move(event, 1),
    k: () => move(event, -1),
    g: wait,
    d: nextTheme,
    '?': () => {
      help.value = true;
    },
    f: () => {
      early.text = '';
      palette.value = 'filter';
    },
    '/': () => search(event),
  }[event.key];
  if (own) {
    own();
    if (event.key !== 'j' && event.key !== 'k') event.preventDefault();
  } else {
    click(event, event.key);
  }
}

function wait() {
  going.value = true;
  timer = setTimeout(() => {
    going.value = false;
  }, 2500);
}

function search(event) {
  const field = document.querySelector('[data-search]');
  if (field) {
    event.preventDefault();
    field.focus();
  } else {
    palette.value = 'all';
  }
}

/** What bears this key and can be seen. */
function click(event, key) {
  const all = document.querySelectorAll(`[data-key="${CSS.escape(key)}"]`);
  const found = Array.from(all).find((one) => one.offsetParent !== null && one.getAttribute('aria-disabled') !== 'true');
  if (!found) return;
  event.preventDefault();
  found.click();
}

/** From row to row. Arrows do so only where a row has the focus: elsewhere they scroll. */
function move(event, by, arrows = false) {
  const rows = Array.from(document.querySelectorAll('main [data-row]')).filter((row) => row.offsetParent !== null);
  const at = rows.indexOf(document.activeElement);
  if (!rows.length || (arrows && at < 0)) return;
  event.preventDefault();
  const chosen = rows.findIndex(
    (row) => row.getAttribute('aria-selected') === 'true' || row.getAttribute('aria-current') === 'true',
  );
  const from = at >= 0 ? at : chosen >= 0 ? chosen : by > 0 ? -1 : rows.length;
  const next = rows[Math.max(0, Math.min(rows.length - 1, from + by))];
  next.focus();
  next.scrollIntoView({ block: 'nearest' });
}

function enter(event) {
  const row = event.target;
  if (!row.matches || !row.matches('tr[data-row]')) return;
  event.preventDefault();
  if (row.dataset.href) go(row.dataset.href);
  else row.click();
}
